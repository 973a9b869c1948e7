//! A connection of HTTP/1.1 that asks for one page after the other and reads each straight to where it is wanted: how
//! targets are scraped that are reached without TLS and without a proxy.
//!
//! It keeps no buffer between two pages and copies nothing but what stood around chunks, where hyper's connection, which
//! serves all else, keeps one for each target and hands every piece over twice. Head and body are read at once, as far as
//! both are there, and stay where they were read. It knows what answers to `GET` need: a length, chunks, or the end of
//! the connection. Heads, lines of chunks and bodies have limits.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Waker};

use hyper::StatusCode;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};

use super::Stream;
use super::body::{BodyError, Compression};

/// Bytes of the head of an answer.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Header lines of an answer.
const HEADERS_MAX: usize = 100;
/// Bytes of a line that says how long a chunk is, and of all lines behind the last one.
const LINE_BYTES_MAX: usize = 4 << 10;
/// Bytes by which the buffer grows at least; a read has room for a quarter of them.
const STEP_BYTES: usize = 64 << 10;

/// What is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The connection was over before it began.
    #[error("connection closed before an answer")]
    Unanswered(#[source] io::Error),
    /// The connection broke inside the head.
    #[error("read answer: {0}")]
    Read(#[source] io::Error),
    /// The head is none.
    #[error("malformed answer: {0}")]
    Malformed(#[source] httparse::Error),
    /// The head goes on and on.
    #[error("the head of the answer exceeds {HEAD_BYTES_MAX} bytes")]
    LongHead,
    /// It does not say how long the body is, or in a way that is not known.
    #[error("malformed answer: {0}")]
    Framing(&'static str),
}

/// An open connection.
pub(super) struct Plain(Box<dyn Stream>);

impl fmt::Debug for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plain")
    }
}

/// The head of an answer.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    /// In the server's words, like `Not Found`.
    pub(super) reason: String,
    pub(super) content_type: Option<String>,
    pub(super) has_location: bool,
    pub(super) compression: Compression,
    framing: Framing,
    /// Whether the connection can be used again when the body has been read.
    pub(super) stays: bool,
    /// Where it ends in what was read, and the body begins.
    pub(super) end: usize,
}

/// Where a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunks,
    Connection,
}

impl Plain {
    pub(super) fn new(stream: Box<dyn Stream>) -> Self {
        Self(stream)
    }

    pub(super) fn into_stream(self) -> Box<dyn Stream> {
        self.0
    }

    /// Whether something arrived that was not asked for, the end of the connection for example.
    pub(super) fn is_spent(&mut self) -> bool {
        let mut byte = [0];
        let mut context = Context::from_waker(Waker::noop());
        Pin::new(&mut self.0).poll_read(&mut context, &mut ReadBuf::new(&mut byte)).is_ready()
    }

    /// Sends `request` and reads the head of its answer into `out`, replacing its content, and what came with it.
    ///
    /// # Errors
    /// [`AnswerError`]; the connection is then of no more use.
    pub(super) async fn ask(&mut self, request: &[u8], out: &mut Vec<u8>) -> Result<Head, AnswerError> {
        self.0.write_all(request).await.map_err(AnswerError::Unanswered)?;
        out.clear();
        let mut is_answered = false;
        loop {
            let before = out.len();
            make_room(out);
            let read = self.0.read_buf(out).await;
            let read = read.and_then(|n| if n == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(n) });
            read.map_err(if is_answered { AnswerError::Read } else { AnswerError::Unanswered })?;
            is_answered = true;
            let mut seen = before.saturating_sub(3);
            while has_end(out, seen) {
                let head = parse(out)?;
                if !head.status.is_informational() {
                    return Ok(head);
                }
                // The answer itself is still to come.
                out.drain(..head.end);
                seen = 0;
            }
            if out.len() >= HEAD_BYTES_MAX {
                return Err(AnswerError::LongHead);
            }
        }
    }

    /// Reads the rest of the body that follows `head` in `out`, where [`Plain::ask`] has put it, and nothing behind it;
    /// `over` is what a body of `max` bytes or more fails with.
    ///
    /// # Errors
    /// [`BodyError`]; the connection is then of no more use.
    pub(super) async fn read(
        &mut self,
        head: &mut Head,
        max: usize,
        over: impl Fn() -> BodyError,
        out: &mut Vec<u8>,
    ) -> Result<(), BodyError> {
        match head.framing {
            Framing::Length(length) => {
                let length = usize::try_from(length).ok().filter(|length| *length < max).ok_or_else(over)?;
                let end = head.end.saturating_add(length);
                while out.len() < end {
                    // Not room for all at once, because a length is easily said, and always for more than there is to
                    // come: a read that fills its buffer leaves open whether there is more.
                    make_room(out);
                    read_some(&mut self.0, out).await?;
                }
                head.stays &= out.len() == end;
                out.truncate(end);
            }
            Framing::Chunks => {
                let mut chunks = Chunks::behind(head.end);
                while !chunks.advance(out, max, &over)? {
                    make_room(out);
                    read_some(&mut self.0, out).await?;
                }
                head.stays &= out.len() == chunks.write;
                out.truncate(chunks.write);
            }
            Framing::Connection => {
                head.stays = false;
                loop {
                    if out.len() - head.end >= max {
                        return Err(over());
                    }
                    make_room(out);
                    if self.0.read_buf(out).await.map_err(BodyError::Cut)? == 0 {
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

fn make_room(out: &mut Vec<u8>) {
    if out.capacity() - out.len() < STEP_BYTES / 4 {
        out.reserve(STEP_BYTES);
    }
}

/// Reads what there is, of which there must be something.
async fn read_some(stream: &mut (impl AsyncRead + Unpin), out: &mut Vec<u8>) -> Result<(), BodyError> {
    match stream.read_buf(out).await {
        Ok(0) => Err(BodyError::Cut(io::ErrorKind::UnexpectedEof.into())),
        Ok(_) => Ok(()),
        Err(error) => Err(BodyError::Cut(error)),
    }
}

/// Whether there is an empty line after another one, as far as a head may go; none ends before `seen`.
fn has_end(bytes: &[u8], seen: usize) -> bool {
    let bytes = &bytes[seen..bytes.len().min(HEAD_BYTES_MAX).max(seen)];
    memchr::memchr_iter(b'\n', bytes).any(|i| matches!(bytes.get(i + 1..), Some([b'\n', ..] | [b'\r', b'\n', ..])))
}

/// The head that `bytes` begin with.
fn parse(bytes: &[u8]) -> Result<Head, AnswerError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(end) = response.parse(bytes).map_err(AnswerError::Malformed)? else {
        return Err(AnswerError::Framing("its head does not end where it says"));
    };
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(AnswerError::Framing("a status that is none"))?;
    let mut head = Head {
        status,
        reason: response.reason.unwrap_or_default().to_owned(),
        content_type: None,
        has_location: false,
        compression: Compression::None,
        framing: Framing::Connection,
        stays: response.version == Some(1),
        end,
    };
    let (mut length, mut is_chunked) = (None, false);
    for header in response.headers.iter() {
        let (name, value) = (header.name, header.value.trim_ascii());
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
        if is("content-type") {
            head.content_type = Some(String::from_utf8_lossy(value).into_owned());
        } else if is("content-encoding") {
            head.compression = Compression::of(value);
        } else if is("location") {
            head.has_location = true;
        } else if is("content-length") {
            let said = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
            let said = said.and_then(|text| text.parse::<u64>().ok());
            let said = said.ok_or(AnswerError::Framing("a length that is none"))?;
            if length.replace(said).is_some_and(|before| before != said) {
                return Err(AnswerError::Framing("two lengths"));
            }
        } else if is("transfer-encoding") {
            if !value.eq_ignore_ascii_case(b"chunked") || is_chunked {
                return Err(AnswerError::Framing("a transfer encoding that was not asked for"));
            }
            is_chunked = true;
        } else if is("connection") {
            let has = |token: &[u8]| value.split(|b| *b == b',').any(|t| t.trim_ascii().eq_ignore_ascii_case(token));
            head.stays = if has(b"close") { false } else { head.stays || has(b"keep-alive") };
        }
    }
    head.framing = match (is_chunked, length) {
        _ if matches!(status.as_u16(), 204 | 304) || status.is_informational() => Framing::Length(0),
        (true, length) => {
            // Who says both may have meant another end.
            head.stays &= length.is_none();
            Framing::Chunks
        }
        (false, Some(length)) => Framing::Length(length),
        (false, None) => Framing::Connection,
    };
    Ok(head)
}

/// Takes what stands around chunks out of a body that arrives.
#[derive(Debug)]
struct Chunks {
    /// Where the body begins in the buffer.
    start: usize,
    /// End of the body so far.
    write: usize,
    /// Bytes of lines behind the last chunk.
    trailer: usize,
    at: At,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Size,
    /// So many bytes of a chunk.
    Data(u64),
    /// The end of the line that a chunk is on.
    Behind,
    Trailer,
    End,
}

impl Chunks {
    /// Of a body that begins at `start` of a buffer.
    fn behind(start: usize) -> Self {
        Self { start, write: start, trailer: 0, at: At::Size }
    }

    /// Understands what stands behind `write` as far as it is there. True at the end of the body.
    fn advance(&mut self, out: &mut Vec<u8>, max: usize, over: impl Fn() -> BodyError) -> Result<bool, BodyError> {
        let mut read = self.write;
        loop {
            let rest = &out[read..];
            match self.at {
                At::Size => {
                    let Some(line) = first_line(rest)? else { break };
                    let size = chunk_size(line.0).ok_or(BodyError::Chunk("the size of a chunk is none"))?;
                    read += line.1;
                    self.at = if size == 0 { At::Trailer } else { At::Data(size) };
                }
                At::Data(left) => {
                    let n = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    if n == 0 {
                        break;
                    }
                    if self.write - self.start + n >= max {
                        return Err(over());
                    }
                    out.copy_within(read..read + n, self.write);
                    (self.write, read) = (self.write + n, read + n);
                    self.at = if n as u64 == left { At::Behind } else { At::Data(left - n as u64) };
                }
                At::Behind => {
                    let Some(line) = first_line(rest)? else { break };
                    if !line.0.is_empty() {
                        return Err(BodyError::Chunk("a chunk is longer than it says"));
                    }
                    read += line.1;
                    self.at = At::Size;
                }
                At::Trailer => {
                    let Some(line) = first_line(rest)? else { break };
                    read += line.1;
                    self.trailer += line.1;
                    if self.trailer > LINE_BYTES_MAX {
                        return Err(BodyError::Chunk("too many lines behind the last chunk"));
                    }
                    self.at = if line.0.is_empty() { At::End } else { At::Trailer };
                }
                At::End => break,
            }
        }
        let rest = out.len() - read;
        out.copy_within(read.., self.write);
        out.truncate(self.write + rest);
        Ok(self.at == At::End)
    }
}

/// The first line without its end, and its length with it; `None` if it is not all there.
fn first_line(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, BodyError> {
    let Some(end) = memchr::memchr(b'\n', &bytes[..bytes.len().min(LINE_BYTES_MAX)]) else {
        let is_long = bytes.len() >= LINE_BYTES_MAX;
        return if is_long { Err(BodyError::Chunk("a line between chunks is too long")) } else { Ok(None) };
    };
    let text = &bytes[..end];
    Ok(Some((text.strip_suffix(b"\r").unwrap_or(text), end + 1)))
}

/// Digits of base 16, then maybe something that is said of the chunk.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|b| *b == b';').next()?.trim_ascii();
    let is_size = !digits.is_empty() && digits.len() <= 16 && digits.iter().all(u8::is_ascii_hexdigit);
    u64::from_str_radix(std::str::from_utf8(digits).ok().filter(|_| is_size)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads the answer `text`, which arrives in pieces of `piece` bytes and then the connection ends.
    fn read(text: &[u8], piece: usize, max: usize) -> Result<(u16, bool, String), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let text = text.to_vec();
        runtime.block_on(async move {
            let (near, mut far) = tokio::io::duplex(piece.max(4));
            let send = async move {
                let mut request = [0; 4];
                far.read_exact(&mut request).await.unwrap();
                for piece in text.chunks(piece) {
                    if far.write_all(piece).await.is_err() {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            };
            let sent = tokio::spawn(send);
            let mut plain = Plain::new(Box::new(near));
            let mut out = b"old".to_vec();
            let mut head = plain.ask(b"ask\n", &mut out).await.map_err(|e| e.to_string())?;
            plain.read(&mut head, max, || BodyError::Limit, &mut out).await.map_err(|e| e.to_string())?;
            drop(plain);
            sent.await.unwrap();
            Ok((head.status.as_u16(), head.stays, String::from_utf8_lossy(&out[head.end..]).into_owned()))
        })
    }

    #[track_caller]
    fn check(text: &str, expected: Result<(u16, bool, &str), &str>) {
        for piece in [1, 2, 7, 64 << 10] {
            let got = read(text.as_bytes(), piece, 1 << 20);
            let got = got.as_ref().map(|(status, stays, body)| (*status, *stays, body.as_str()));
            assert_eq!(got.map_err(String::as_str), expected, "{text:?} in pieces of {piece}");
        }
    }

    #[test]
    fn bodies_end_where_their_heads_say() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na 1\n", Ok((200, true, "a 1\n")));
        check("HTTP/1.1 200 OK\nContent-Length:4\n\na 1\n", Ok((200, true, "a 1\n")));
        check("HTTP/1.1 204 No Content\r\n\r\n", Ok((204, true, "")));
        check("HTTP/1.1 404 Not Here\r\ncontent-length: 0\r\n\r\n", Ok((404, true, "")));
        check("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", Ok((200, false, "a")));
        check("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\na", Ok((200, true, "a")));
        check("HTTP/1.1 200 OK\r\nConnection: x, close\r\nContent-Length: 1\r\n\r\na", Ok((200, false, "a")));
        check("HTTP/1.1 200 OK\r\n\r\nall there is", Ok((200, false, "all there is")));
        check("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", Ok((200, true, "a")));
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\na 1\r\n1;x=y\r\n\n\r\n0\r\nX: y\r\n\r\n",
            Ok((200, true, "a 1\n")),
        );
        check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Ok((200, true, "")));
    }

    #[test]
    fn what_is_no_answer_says_why() {
        check("", Err("connection closed before an answer"));
        check("HTTP/1.1 200 OK\r\n", Err("read answer: unexpected end of file"));
        check("SSH-2.0-x\r\n\r\n", Err("malformed answer: invalid HTTP version"));
        check("HTTP/1.1 200 OK\r\nContent-Length: -4\r\n\r\n", Err("malformed answer: a length that is none"));
        check(
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\ncontent-length: 5\r\n\r\n",
            Err("malformed answer: two lengths"),
        );
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            Err("malformed answer: a transfer encoding that was not asked for"),
        );
        check("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na 1", Err("read body: unexpected end of file"));
        check("HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\na 1", Err("body size limit exceeded"));
        let chunked = |rest: &str| format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{rest}");
        check(&chunked("3\r\na 1\r\n"), Err("read body: unexpected end of file"));
        check(&chunked("x\r\n"), Err("read body: the size of a chunk is none"));
        check(&chunked("\r\n"), Err("read body: the size of a chunk is none"));
        check(&chunked("11111111111111111\r\n"), Err("read body: the size of a chunk is none"));
        check(&chunked("2\r\na 1\r\n"), Err("read body: a chunk is longer than it says"));
        check(&chunked("ffffffffffffffff\r\na 1"), Err("read body: unexpected end of file"));
        check(&chunked(&"1".repeat(5_000)), Err("read body: a line between chunks is too long"));
        check(
            &chunked(&format!("0\r\n{}", "a: b\r\n".repeat(1_000))),
            Err("read body: too many lines behind the last chunk"),
        );
        check(
            &format!("HTTP/1.1 200 OK\r\n{}", "a: b\r\n".repeat(20_000)),
            Err("the head of the answer exceeds 65536 bytes"),
        );
        check(&format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(101)), Err("malformed answer: too many headers"));
    }

    #[test]
    fn what_comes_behind_an_answer_ends_its_connection() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", Ok((200, true, "a")));
        let got = read(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nabc", 100, 100);
        assert_eq!(got, Ok((200, false, "a".to_owned())));
        let got = read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\nabc", 100, 100);
        assert_eq!(got, Ok((200, false, "a".to_owned())));
    }

    #[test]
    fn bodies_of_any_kind_are_cut_at_their_limit() {
        for head in ["Content-Length: 5\r\n", "", "Transfer-Encoding: chunked\r\n"] {
            let body = if head.starts_with('T') { "2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n" } else { "abcde" };
            let text = format!("HTTP/1.1 200 OK\r\n{head}\r\n{body}");
            for piece in [1, 100] {
                assert_eq!(read(text.as_bytes(), piece, 5), Err("body size limit exceeded".to_owned()), "{head}");
                assert_eq!(read(text.as_bytes(), piece, 6).map(|got| got.2), Ok("abcde".to_owned()), "{head}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn chunks_are_joined_however_they_arrive(
            chunks in proptest::collection::vec("[a-z\\r\\n0-9]{1,40}", 0..20),
            piece in 1usize..200,
        ) {
            let mut text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
            for chunk in &chunks {
                text.push_str(&format!("{:X}\r\n{chunk}\r\n", chunk.len()));
            }
            text.push_str("0\r\n\r\n");
            prop_assert_eq!(read(text.as_bytes(), piece, 1 << 20), Ok((200, true, chunks.concat())));
        }

        #[test]
        fn any_bytes_are_an_answer_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200), piece in 1usize..50) {
            let _ = read(&bytes, piece, 1 << 10);
            let _ = read(&[b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", bytes.as_slice()].concat(), piece, 1 << 10);
        }
    }
}
