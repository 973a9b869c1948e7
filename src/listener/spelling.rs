//! A wire on which request lines come as the HTTP library wants them spelled.
//!
//! `curl -g 'http://…/api/v1/series?match[]=up{job="a"}'` sends the quotes as they are, and so do examples in the
//! documentation of Prometheus; the library refuses the whole request for it, without a word. So what must be escaped in
//! an address, and is not, is escaped in the first line of each request before the library sees it. Bodies and headers
//! pass as they are. A request that is sent before the one before it is answered is left as it is too.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A wire, and what of the last bytes from it has not been handed on.
pub(super) struct Spelled<W> {
    wire: W,
    /// Whether the next bytes are a request line, or the rest of one.
    is_free: Arc<AtomicBool>,
    pending: Vec<u8>,
}

impl<W> Spelled<W> {
    /// `is_free` is set again by whoever answers a request, once it has been read and answered whole.
    pub(super) fn new(wire: W, is_free: Arc<AtomicBool>) -> Self {
        Self { wire, is_free, pending: Vec::new() }
    }

    fn hand_on(&mut self, buf: &mut ReadBuf<'_>) {
        let n = self.pending.len().min(buf.remaining());
        buf.put_slice(&self.pending[..n]);
        self.pending.drain(..n);
    }
}

/// Whether a byte is no part of an address unless it is escaped.
fn must_be_escaped(byte: u8) -> bool {
    matches!(byte, b'"' | b'<' | b'>' | b'`' | 0x80..)
}

/// Appends `line` with what must be escaped escaped.
fn put_escaped(out: &mut Vec<u8>, line: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in line {
        match must_be_escaped(byte) {
            true => out.extend([b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
            false => out.push(byte),
        }
    }
}

impl<W: AsyncRead + Unpin> AsyncRead for Spelled<W> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.pending.is_empty() {
            this.hand_on(buf);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.wire).poll_read(cx, buf))?;
        if !this.is_free.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        let came = &buf.filled()[before..];
        let end = memchr::memchr(b'\n', came);
        if end.is_some() {
            this.is_free.store(false, Ordering::Relaxed);
        }
        let (line, rest) = came.split_at(end.unwrap_or(came.len()));
        if line.iter().any(|byte| must_be_escaped(*byte)) {
            put_escaped(&mut this.pending, line);
            this.pending.extend_from_slice(rest);
            buf.set_filled(before);
            this.hand_on(buf);
        }
        Poll::Ready(Ok(()))
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Spelled<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// What is read, `piece` bytes at most at once, of what comes after a request was answered.
    async fn read(sent: &[u8], piece: usize) -> String {
        let mut wire = Spelled::new(sent, Arc::new(AtomicBool::new(true)));
        let (mut out, mut buffer) = (Vec::new(), vec![0; piece]);
        loop {
            match wire.read(&mut buffer).await.unwrap() {
                0 => return String::from_utf8(out).unwrap(),
                n => out.extend_from_slice(&buffer[..n]),
            }
        }
    }

    #[tokio::test]
    async fn only_the_request_line_is_spelled_anew() {
        let sent = "POST /a?match[]=up{b=\"é\"}>`c` HTTP/1.1\r\nx-y: \"é\"\r\n\r\n<\"body\">\n\"\"";
        let expected = "POST /a?match[]=up{b=%22%C3%A9%22}%3E%60c%60 HTTP/1.1\r\nx-y: \"é\"\r\n\r\n<\"body\">\n\"\"";
        for piece in [1, 2, 7, 20, 1000] {
            assert_eq!(read(sent.as_bytes(), piece).await, expected, "{piece} bytes at once");
        }
        let plain = "GET /a?b=%22 HTTP/1.1\r\n\r\n";
        assert_eq!(read(plain.as_bytes(), 1000).await, plain);
    }
}
