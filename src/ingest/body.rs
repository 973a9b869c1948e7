//! Bodies of requests: read within limits of size, of time and of what all of them take together, then inflated.
//!
//! A body takes of the common room only what has arrived of it, so that slow senders keep nobody out.

use std::fmt;
use std::io::Read;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of a body, before and after decompression.
pub(crate) const BODY_BYTES_MAX: usize = 32 << 20;
/// Bytes of all bodies that have arrived and are not stored yet, before decompression.
pub(crate) const BODIES_BYTES_MAX: usize = 256 << 20;
/// Time that a sender may take for a body.
pub(crate) const BODY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(60);
/// Bytes of one permit of the common room.
const PERMIT_BYTES: usize = 1024;
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

    fn too_large(reason: impl fmt::Display) -> Self {
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

/// The common room of bodies.
pub(super) struct Bodies(Arc<Semaphore>);

/// A body that has arrived; gives its room back when it is dropped.
#[derive(Debug)]
pub(super) struct Arrived {
    bytes: Vec<u8>,
    _room: Option<OwnedSemaphorePermit>,
}

impl Bodies {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(BODIES_BYTES_MAX / PERMIT_BYTES)))
    }

    /// Reads a body, still compressed.
    pub(super) async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Arrived, Refused> {
        let told = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        if told.is_some_and(|len| len > BODY_BYTES_MAX as u64) {
            return Err(too_long());
        }
        let read = tokio::time::timeout(BODY_TIMEOUT, self.read_frames(body)).await;
        read.unwrap_or_else(|_| {
            let seconds = BODY_TIMEOUT.as_secs();
            let reason = format!("body took longer than {seconds} s (body_timeout)");
            Err(Refused::new(StatusCode::REQUEST_TIMEOUT, reason))
        })
    }

    async fn read_frames(&self, mut body: Body) -> Result<Arrived, Refused> {
        let mut bytes = Vec::new();
        let mut room: Option<OwnedSemaphorePermit> = None;
        let mut room_bytes = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| Refused::bad(format_args!("read body: {e}")))?;
            let Ok(data) = frame.into_data() else { continue };
            if bytes.len() + data.len() > BODY_BYTES_MAX {
                return Err(too_long());
            }
            let lacking = (bytes.len() + data.len()).saturating_sub(room_bytes).div_ceil(PERMIT_BYTES);
            if lacking > 0 {
                let more = u32::try_from(lacking).ok().and_then(|n| self.0.clone().try_acquire_many_owned(n).ok());
                let Some(more) = more else {
                    let max = BODIES_BYTES_MAX;
                    return Err(Refused::later(format_args!(
                        "bodies of more than {max} bytes wait (bodies_bytes_max)"
                    )));
                };
                room_bytes += lacking * PERMIT_BYTES;
                match &mut room {
                    Some(room) => room.merge(more),
                    None => room = Some(more),
                }
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Arrived { bytes, _room: room })
    }
}

fn too_long() -> Refused {
    Refused::too_large(format_args!("body of more than {BODY_BYTES_MAX} bytes (body_bytes_max)"))
}

impl Arrived {
    /// The body, decompressed as its headers say.
    pub(super) fn inflated(mut self, headers: &HeaderMap) -> Result<Vec<u8>, Refused> {
        let encoding = headers.get(header::CONTENT_ENCODING).map_or("", |v| v.to_str().unwrap_or("?"));
        let broken = |e: &dyn fmt::Display| Refused::bad(format_args!("{encoding}: {e}"));
        let bytes = std::mem::take(&mut self.bytes);
        match encoding.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(bytes),
            "gzip" => all_of(flate2::read::MultiGzDecoder::new(&bytes[..]), "gzip"),
            "deflate" => all_of(flate2::read::ZlibDecoder::new(&bytes[..]), "deflate"),
            "zstd" => {
                let decoder = ruzstd::decoding::StreamingDecoder::new(&bytes[..]).map_err(|e| broken(&e))?;
                all_of(decoder, "zstd")
            }
            "snappy" => {
                let len = snap::raw::decompress_len(&bytes).map_err(|e| broken(&e))?;
                if len > BODY_BYTES_MAX {
                    return Err(inflates_too_much());
                }
                snap::raw::Decoder::new().decompress_vec(&bytes).map_err(|e| broken(&e))
            }
            other => {
                let reason = format!("unsupported content encoding {other:?}, expected gzip, deflate, zstd or snappy");
                Err(Refused::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, reason))
            }
        }
    }
}

fn all_of(reader: impl Read, encoding: &str) -> Result<Vec<u8>, Refused> {
    let mut out = Vec::new();
    let mut limited = reader.take(BODY_BYTES_MAX as u64 + 1);
    limited.read_to_end(&mut out).map_err(|e| Refused::bad(format_args!("{encoding}: {e}")))?;
    if out.len() > BODY_BYTES_MAX { Err(inflates_too_much()) } else { Ok(out) }
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

    async fn read(encoding: &str, body: Vec<u8>) -> Result<Vec<u8>, String> {
        let headers = headers(encoding);
        let arrived = Bodies::new().read(&headers, Body::from(body)).await.map_err(|e| e.reason)?;
        arrived.inflated(&headers).map_err(|e| e.reason)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[tokio::test]
    async fn bodies_are_inflated_as_their_headers_say() {
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(b"abc").unwrap();
        assert_eq!(read("deflate", zlib.finish().unwrap()).await.unwrap(), b"abc");
        assert_eq!(read("GZIP", [gzip(b"ab"), gzip(b"c")].concat()).await.unwrap(), b"abc");
        assert_eq!(read("", b"abc".to_vec()).await.unwrap(), b"abc");
        let snappy = snap::raw::Encoder::new().compress_vec(b"abc").unwrap();
        assert_eq!(read("snappy", snappy).await.unwrap(), b"abc");
        assert!(read("gzip", b"abc".to_vec()).await.unwrap_err().starts_with("gzip: "));
        assert!(read("zstd", b"abc".to_vec()).await.unwrap_err().starts_with("zstd: "));
        assert!(read("br", Vec::new()).await.unwrap_err().starts_with("unsupported content encoding \"br\""));
    }

    #[tokio::test]
    async fn bombs_are_refused_by_the_name_of_the_limit() {
        let zeros = vec![0; BODY_BYTES_MAX + 1];
        assert!(read("gzip", gzip(&zeros)).await.unwrap_err().contains("body_bytes_max"));
        assert!(read("", zeros).await.unwrap_err().contains("body_bytes_max"));
        // Says to be of four gigabytes.
        assert!(read("snappy", vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0]).await.unwrap_err().contains("body_bytes_max"));
        // A block of zeros repeated, of as many bytes as its frame says.
        let mut bomb = vec![0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 4];
        for i in 0..512_u32 {
            let block = (128 << 10 << 3) | 2 | u32::from(i == 511);
            bomb.extend_from_slice(&block.to_le_bytes()[..3]);
            bomb.push(0);
        }
        assert!(read("zstd", bomb).await.unwrap_err().contains("body_bytes_max"));
    }

    #[tokio::test]
    async fn bodies_that_wait_have_a_common_limit() {
        let bodies = Bodies::new();
        let one = || Body::from(vec![0; BODY_BYTES_MAX]);
        let mut waiting = Vec::new();
        for _ in 0..BODIES_BYTES_MAX / BODY_BYTES_MAX {
            waiting.push(bodies.read(&HeaderMap::new(), one()).await.unwrap());
        }
        let refused = bodies.read(&HeaderMap::new(), Body::from("x")).await.unwrap_err();
        assert!(refused.reason.contains("bodies_bytes_max"));
        assert_eq!(refused.into_response().headers()[header::RETRY_AFTER], RETRY_AFTER);
        waiting.pop();
        assert!(bodies.read(&HeaderMap::new(), Body::from("x")).await.is_ok());
    }
}
