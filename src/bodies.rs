//! Bodies of requests that bring samples: read within limits of size, of time and of what all of them take together.
//!
//! A body takes of the common room only what has arrived of it, so that slow senders keep nobody out, and gives it back
//! when it is dropped. Nothing is decompressed here.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of a body, before and after decompression.
pub(crate) const BODY_BYTES_MAX: usize = 32 << 20;
/// Bytes of all bodies that have arrived and are not stored yet, before decompression.
pub(crate) const BODIES_BYTES_MAX: usize = 256 << 20;
/// Time that a sender may take for a body.
pub(crate) const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of one permit of the common room.
const PERMIT_BYTES: usize = 1024;
/// Bytes for which there is room before they have arrived, of a body that says how long it is.
const RESERVED_BYTES_MAX: usize = 1 << 20;

/// Why a body is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// It will never be taken.
    #[error("body of more than {max} bytes (body_bytes_max)")]
    TooLong {
        /// Bytes that are taken.
        max: usize,
    },
    /// Others have to be stored first.
    #[error("bodies of more than {BODIES_BYTES_MAX} bytes wait (bodies_bytes_max)")]
    NoRoom,
    /// The sender is too slow.
    #[error("body took longer than {} s (body_timeout)", BODY_TIMEOUT.as_secs())]
    Slow,
    /// The connection broke.
    #[error("read body: {0}")]
    Read(#[from] axum::Error),
}

impl BodyError {
    /// Whether the same body may be taken a moment later.
    pub(crate) fn is_temporary(&self) -> bool {
        matches!(self, Self::NoRoom | Self::Slow)
    }
}

/// The common room.
#[derive(Debug, Clone)]
pub(crate) struct Bodies(Arc<Semaphore>);

/// A body that has arrived.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) bytes: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

impl Bodies {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(BODIES_BYTES_MAX / PERMIT_BYTES)))
    }

    #[cfg(test)]
    pub(crate) fn free_bytes(&self) -> usize {
        self.0.available_permits() * PERMIT_BYTES
    }

    /// Reads a body of at most `max` bytes, still compressed.
    pub(crate) async fn read(&self, headers: &HeaderMap, body: Body, max: usize) -> Result<Arrived, BodyError> {
        let told = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
        if told.is_some_and(|len| len > max) {
            return Err(BodyError::TooLong { max });
        }
        let read = tokio::time::timeout(BODY_TIMEOUT, self.read_frames(body, told.unwrap_or(0), max)).await;
        read.unwrap_or(Err(BodyError::Slow))
    }

    async fn read_frames(&self, mut body: Body, told: usize, max: usize) -> Result<Arrived, BodyError> {
        // Most bodies are one frame, which is not copied.
        let (mut first, mut bytes) = (Bytes::new(), Vec::new());
        let mut room: Option<OwnedSemaphorePermit> = None;
        let (mut len, mut room_bytes) = (0_usize, 0);
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            len = len.saturating_add(data.len());
            if len > max {
                return Err(BodyError::TooLong { max });
            }
            let lacking = len.saturating_sub(room_bytes).div_ceil(PERMIT_BYTES);
            if lacking > 0 {
                let more = u32::try_from(lacking).ok().and_then(|n| self.0.clone().try_acquire_many_owned(n).ok());
                let more = more.ok_or(BodyError::NoRoom)?;
                room_bytes += lacking * PERMIT_BYTES;
                match &mut room {
                    Some(room) => room.merge(more),
                    None => room = Some(more),
                }
            }
            if len == data.len() {
                first = data;
                continue;
            }
            if bytes.is_empty() {
                bytes.reserve(told.min(RESERVED_BYTES_MAX));
                bytes.extend_from_slice(&first);
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Arrived { bytes: if bytes.is_empty() { first } else { bytes.into() }, _room: room })
    }
}

#[cfg(test)]
mod tests {
    use hyper::body::Frame;

    use super::*;

    fn pieces(pieces: Vec<&'static [u8]>) -> Body {
        struct Pieces(std::vec::IntoIter<&'static [u8]>);
        impl hyper::body::Body for Pieces {
            type Data = Bytes;
            type Error = std::convert::Infallible;
            fn poll_frame(
                mut self: std::pin::Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
            ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
                std::task::Poll::Ready(self.0.next().map(|piece| Ok(Frame::data(Bytes::from_static(piece)))))
            }
        }
        Body::new(Pieces(pieces.into_iter()))
    }

    #[tokio::test]
    async fn frames_become_one_body() {
        for (frames, expected) in [
            (vec![], &b""[..]),
            (vec![b"ab".as_slice()], b"ab"),
            (vec![b"", b"ab", b"", b"c"], b"abc"),
            (vec![b"ab", b"c"], b"abc"),
        ] {
            let arrived = Bodies::new().read(&HeaderMap::new(), pieces(frames), 3).await.unwrap();
            assert_eq!(&arrived.bytes[..], expected);
        }
        let refused = Bodies::new().read(&HeaderMap::new(), pieces(vec![b"ab", b"cd"]), 3).await.unwrap_err();
        assert_eq!(refused.to_string(), "body of more than 3 bytes (body_bytes_max)");
        let told = HeaderMap::from_iter([(header::CONTENT_LENGTH, "4".parse().unwrap())]);
        assert!(matches!(Bodies::new().read(&told, pieces(vec![]), 3).await, Err(BodyError::TooLong { .. })));
    }

    #[tokio::test]
    async fn bodies_that_wait_have_a_common_limit() {
        let bodies = Bodies::new();
        let one = || Body::from(vec![0; BODY_BYTES_MAX]);
        let mut waiting = Vec::new();
        for _ in 0..BODIES_BYTES_MAX / BODY_BYTES_MAX {
            waiting.push(bodies.read(&HeaderMap::new(), one(), BODY_BYTES_MAX).await.unwrap());
        }
        let refused = bodies.read(&HeaderMap::new(), Body::from("x"), BODY_BYTES_MAX).await.unwrap_err();
        assert!(refused.is_temporary() && refused.to_string().contains("bodies_bytes_max"));
        waiting.pop();
        assert!(bodies.read(&HeaderMap::new(), Body::from("x"), BODY_BYTES_MAX).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_sender_has_a_time() {
        let (_sender, endless) = tokio::sync::mpsc::channel::<Bytes>(1);
        struct Endless(tokio::sync::mpsc::Receiver<Bytes>);
        impl hyper::body::Body for Endless {
            type Data = Bytes;
            type Error = std::convert::Infallible;
            fn poll_frame(
                mut self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
                self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
            }
        }
        let refused = Bodies::new().read(&HeaderMap::new(), Body::new(Endless(endless)), 3).await.unwrap_err();
        assert!(refused.is_temporary() && refused.to_string().contains("body_timeout"));
    }
}
