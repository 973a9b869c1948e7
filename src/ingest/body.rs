//! Refusals of the ways in, and bodies as they were before they were compressed.

use std::fmt;
use std::io::Read;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use super::inflate;
use crate::bodies::{BODY_BYTES_MAX, BodyError};

/// Seconds after which a sender may come back when there is no room.
const RETRY_AFTER: &str = "5";

/// A refused request.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    pub(super) reason: String,
    /// Whether the same may succeed a moment later.
    is_temporary: bool,
}

impl Refused {
    pub(super) fn new(status: StatusCode, reason: impl fmt::Display) -> Self {
        Self { status, reason: reason.to_string(), is_temporary: false }
    }

    /// What is wrong with the request.
    pub(super) fn bad(reason: impl fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, reason)
    }

    /// What keeps the server from taking the request now.
    pub(super) fn later(reason: impl fmt::Display) -> Self {
        Self { is_temporary: true, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, reason) }
    }

    pub(super) fn too_large(reason: impl fmt::Display) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, reason)
    }

    pub(super) fn with_body(&self, content_type: &'static str, body: impl Into<Body>) -> Response {
        let mut response = (self.status, [(header::CONTENT_TYPE, content_type)], body.into()).into_response();
        if self.is_temporary {
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static(RETRY_AFTER));
        }
        response
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        self.with_body("text/plain; charset=utf-8", format!("{}\n", self.reason))
    }
}

impl From<BodyError> for Refused {
    fn from(e: BodyError) -> Self {
        match e {
            BodyError::TooLong { .. } => Self::too_large(e),
            e if e.is_temporary() => Self::later(e),
            e => Self::bad(e),
        }
    }
}

/// A body, decompressed as its headers say.
pub(super) fn inflated(bytes: Bytes, headers: &HeaderMap) -> Result<Bytes, Refused> {
    let encoding = encoding(headers);
    if encoding.is_empty() || encoding == "identity" {
        return Ok(bytes);
    }
    if encoding == "snappy" {
        return snappy(&bytes).map(Bytes::from);
    }
    let mut out = Vec::new();
    let reader = inflate::reader(&bytes[..], &encoding).ok_or_else(|| unsupported(&encoding))?;
    let mut limited = reader.take(BODY_BYTES_MAX as u64 + 1);
    limited.read_to_end(&mut out).map_err(|e| Refused::bad(format_args!("{encoding}: {e}")))?;
    if out.len() > BODY_BYTES_MAX { Err(inflates_too_much()) } else { Ok(out.into()) }
}

/// How a body is compressed, as its headers say.
pub(super) fn encoding(headers: &HeaderMap) -> String {
    let text = headers.get(header::CONTENT_ENCODING).map_or("", |v| v.to_str().unwrap_or("?"));
    text.trim().to_ascii_lowercase()
}

/// Such a body has no pieces: it is inflated as a whole.
pub(super) fn snappy(bytes: &[u8]) -> Result<Vec<u8>, Refused> {
    let broken = |e: snap::Error| Refused::bad(e);
    if snap::raw::decompress_len(bytes).map_err(broken)? > BODY_BYTES_MAX {
        return Err(inflates_too_much());
    }
    snap::raw::Decoder::new().decompress_vec(bytes).map_err(broken)
}

pub(super) fn unsupported(encoding: &str) -> Refused {
    let reason = format!("unsupported content encoding {encoding:?}, expected gzip, deflate, zstd or snappy");
    Refused::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, reason)
}

fn inflates_too_much() -> Refused {
    Refused::too_large(format_args!("body of more than {BODY_BYTES_MAX} bytes after decompression (body_bytes_max)"))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};

    use super::*;

    fn headers(encoding: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_ENCODING, encoding.parse().unwrap())])
    }

    fn read(encoding: &str, body: Vec<u8>) -> Result<Vec<u8>, String> {
        inflated(body.into(), &headers(encoding)).map(|bytes| bytes.to_vec()).map_err(|e| e.reason)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn bodies_are_inflated_as_their_headers_say() {
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(b"abc").unwrap();
        assert_eq!(read("deflate", zlib.finish().unwrap()).unwrap(), b"abc");
        assert_eq!(read("GZIP", [gzip(b"ab"), gzip(b"c")].concat()).unwrap(), b"abc");
        assert_eq!(read("", b"abc".to_vec()).unwrap(), b"abc");
        let snappy = snap::raw::Encoder::new().compress_vec(b"abc").unwrap();
        assert_eq!(read("snappy", snappy).unwrap(), b"abc");
        assert!(read("gzip", b"abc".to_vec()).unwrap_err().starts_with("gzip: "));
        assert!(read("zstd", b"abc".to_vec()).unwrap_err().starts_with("zstd: "));
        assert!(read("br", Vec::new()).unwrap_err().starts_with("unsupported content encoding \"br\""));
    }

    #[test]
    fn bombs_are_refused_by_the_name_of_the_limit() {
        let zeros = vec![0; BODY_BYTES_MAX + 1];
        assert!(read("gzip", gzip(&zeros)).unwrap_err().contains("body_bytes_max"));
        // Says to be of four gigabytes.
        assert!(read("snappy", vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0]).unwrap_err().contains("body_bytes_max"));
        // A block of zeros repeated, of as many bytes as its frame says.
        let mut bomb = vec![0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 4];
        for i in 0..512_u32 {
            let block = (128 << 10 << 3) | 2 | u32::from(i == 511);
            bomb.extend_from_slice(&block.to_le_bytes()[..3]);
            bomb.push(0);
        }
        assert!(read("zstd", bomb).unwrap_err().contains("body_bytes_max"));
    }

    #[test]
    fn what_is_temporary_says_when_to_come_back() {
        assert_eq!(Refused::from(BodyError::NoRoom).into_response().headers()[header::RETRY_AFTER], RETRY_AFTER);
        assert_eq!(Refused::from(BodyError::TooLong { max: 1 }).status, StatusCode::PAYLOAD_TOO_LARGE);
    }
}
