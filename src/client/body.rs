//! Bodies, read up to a limit of what they are when decompressed.

use std::io::{self, Read, Write};

use flate2::write::MultiGzDecoder;
use http_body_util::BodyExt;
use hyper::body::Incoming;

/// Bytes of an uncompressed body where the job sets no `body_size_limit`.
pub const DEFAULT_BODY_BYTES_MAX: u64 = 256 << 20;

/// Bytes that are inflated of zstd at once.
const ZSTD_PIECE_BYTES: usize = 64 << 10;

/// A body that cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It reaches the job's `body_size_limit`.
    #[error("body size limit exceeded")]
    Limit,
    /// It reaches the limit that holds where the job sets none.
    #[error("body size limit exceeded ({DEFAULT_BODY_BYTES_MAX} bytes unless body_size_limit says otherwise)")]
    DefaultLimit,
    /// The connection broke.
    #[error("read body: {0}")]
    Read(#[source] hyper::Error),
    /// The connection broke or ended.
    #[error("read body: {0}")]
    Cut(#[source] io::Error),
    /// What stands between its chunks is not understood.
    #[error("read body: {0}")]
    Chunk(&'static str),
    /// It is not gzip, or ends early.
    #[error("gzip: {0}")]
    Gzip(#[source] io::Error),
    /// It is not zstd, or ends early.
    #[error("zstd: {0}")]
    Zstd(#[source] io::Error),
}

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// What the header `Content-Encoding` says; one that was not asked for is read as it comes.
    pub(super) fn of(encoding: &[u8]) -> Self {
        match encoding.to_ascii_lowercase().as_slice() {
            b"gzip" | b"x-gzip" => Self::Gzip,
            b"zstd" => Self::Zstd,
            _ => Self::None,
        }
    }
}

impl BodyError {
    /// Whether the body was too long.
    #[must_use]
    pub fn is_limit(&self) -> bool {
        matches!(self, Self::Limit | Self::DefaultLimit)
    }
}

/// Reads `incoming` into `out`, replacing its content.
pub(super) async fn read(
    mut incoming: Incoming,
    compression: Compression,
    limit: Option<u64>,
    out: &mut Vec<u8>,
) -> Result<(), BodyError> {
    out.clear();
    let over = || over(limit);
    let max = bytes_max(limit);
    let mut sink = Capped { out, max, full: false };
    if compression == Compression::Zstd {
        return read_zstd(incoming, max, over, sink).await;
    }
    if compression == Compression::None {
        while let Some(frame) = incoming.frame().await {
            let frame = frame.map_err(BodyError::Read)?;
            if let Some(data) = frame.data_ref() {
                sink.write_all(data).map_err(|_| over())?;
            }
        }
        return Ok(());
    }
    let mut decoder = MultiGzDecoder::new(sink);
    let gzip_error = |decoder: &MultiGzDecoder<Capped<'_>>, e| {
        if decoder.get_ref().full { over() } else { BodyError::Gzip(e) }
    };
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(BodyError::Read)?;
        if let Some(data) = frame.data_ref() {
            let written = decoder.write_all(data);
            written.map_err(|e| gzip_error(&decoder, e))?;
        }
    }
    let finished = decoder.try_finish();
    finished.map_err(|e| gzip_error(&decoder, e))
}

/// Reads the compressed body, of which no more is taken than of what it holds, then inflates it.
async fn read_zstd(
    mut incoming: Incoming,
    max: usize,
    over: impl Fn() -> BodyError,
    sink: Capped<'_>,
) -> Result<(), BodyError> {
    let mut compressed = Vec::new();
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(BodyError::Read)?;
        if let Some(data) = frame.data_ref() {
            if compressed.len().saturating_add(data.len()) >= max {
                return Err(over());
            }
            compressed.extend_from_slice(data);
        }
    }
    inflate_zstd(&compressed, over, sink)
}

/// Inflates the whole body `compressed` into `out`, replacing its content.
pub(super) fn inflate(
    compressed: &[u8],
    compression: Compression,
    limit: Option<u64>,
    out: &mut Vec<u8>,
) -> Result<(), BodyError> {
    out.clear();
    let mut sink = Capped { out, max: bytes_max(limit), full: false };
    match compression {
        Compression::Zstd => inflate_zstd(compressed, || over(limit), sink),
        Compression::None => sink.write_all(compressed).map_err(|_| over(limit)),
        Compression::Gzip => {
            let mut decoder = MultiGzDecoder::new(sink);
            let written = decoder.write_all(compressed).and_then(|()| decoder.try_finish());
            written.map_err(|e| if decoder.get_ref().full { over(limit) } else { BodyError::Gzip(e) })
        }
    }
}

/// What a body fails with that reaches `limit`, or that which holds where there is none.
pub(super) fn over(limit: Option<u64>) -> BodyError {
    if limit.is_some() { BodyError::Limit } else { BodyError::DefaultLimit }
}

/// Bytes that a body must not reach.
pub(super) fn bytes_max(limit: Option<u64>) -> usize {
    usize::try_from(limit.unwrap_or(DEFAULT_BODY_BYTES_MAX)).unwrap_or(usize::MAX)
}

fn inflate_zstd(compressed: &[u8], over: impl Fn() -> BodyError, mut sink: Capped<'_>) -> Result<(), BodyError> {
    let mut rest = compressed;
    let wrong = |e: &dyn std::fmt::Display| BodyError::Zstd(io::Error::other(e.to_string()));
    let mut piece = vec![0; ZSTD_PIECE_BYTES];
    // A body may be several frames.
    while !rest.is_empty() {
        let mut decoder = ruzstd::decoding::StreamingDecoder::new(&mut rest).map_err(|e| wrong(&e))?;
        loop {
            match decoder.read(&mut piece).map_err(BodyError::Zstd)? {
                0 => break,
                n => sink.write_all(&piece[..n]).map_err(|_| over())?,
            }
        }
    }
    Ok(())
}

/// Takes less than `max` bytes.
struct Capped<'a> {
    out: &'a mut Vec<u8>,
    max: usize,
    full: bool,
}

impl Write for Capped<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.out.len().saturating_add(data.len()) >= self.max {
            self.full = true;
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        self.out.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
