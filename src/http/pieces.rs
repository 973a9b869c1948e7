//! Bodies of answers that are written piece by piece while the client reads.
//!
//! Neither the whole text nor a thread is held for a slow client: each poll writes the next piece, which takes some tens
//! of microseconds, and dropping the body ends the work.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::Frame;

/// Bytes of one piece; a single item may go beyond.
pub(crate) const PIECE_BYTES: usize = 64 << 10;

/// Whether there is something after a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fill {
    More,
    Done,
}

/// A body of which `fill` appends the next piece each time: at least a byte, and little more than [`PIECE_BYTES`].
pub(crate) fn body(mut fill: impl FnMut(&mut Vec<u8>) -> Fill + Send + Unpin + 'static) -> Body {
    let mut piece = Vec::new();
    // One that is short has a length.
    match fill(&mut piece) {
        Fill::Done => Body::from(piece),
        Fill::More => Body::new(Pieces { first: Some(piece.into()), fill, is_done: false }),
    }
}

struct Pieces<F> {
    /// The piece that was written to find out whether one is enough.
    first: Option<Bytes>,
    fill: F,
    is_done: bool,
}

impl<F: FnMut(&mut Vec<u8>) -> Fill + Send + Unpin> hyper::body::Body for Pieces<F> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = match self.first.take() {
            Some(piece) => piece,
            None if self.is_done => return Poll::Ready(None),
            None => {
                let mut piece = Vec::with_capacity(PIECE_BYTES + 1024);
                self.is_done = (self.fill)(&mut piece) == Fill::Done;
                piece.into()
            }
        };
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.is_done
    }
}

/// A JSON list between `head` and `tail`; `push` appends one item.
pub(crate) fn list<T: Send + Unpin + 'static>(
    head: &[u8],
    items: Vec<T>,
    tail: Vec<u8>,
    push: impl Fn(&mut Vec<u8>, &T) + Send + Unpin + 'static,
) -> Body {
    let mut head = Some([head, b"["].concat());
    let mut items = items.into_iter();
    let mut is_first = true;
    body(move |out| {
        if let Some(head) = head.take() {
            out.extend_from_slice(&head);
        }
        while out.len() < PIECE_BYTES {
            let Some(item) = items.next() else {
                out.push(b']');
                out.extend_from_slice(&tail);
                return Fill::Done;
            };
            if !std::mem::replace(&mut is_first, false) {
                out.push(b',');
            }
            push(out, &item);
        }
        Fill::More
    })
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn a_list_of_any_length_is_one_text() {
        for n in [0, 1, 2, 10_000, 100_000_u32] {
            let numbers: Vec<u32> = (0..n).collect();
            let expected = format!("<{}>", serde_json::to_string(&numbers).unwrap());
            let push = |out: &mut Vec<u8>, n: &u32| out.extend_from_slice(n.to_string().as_bytes());
            let mut body = list(b"<", numbers, b">".to_vec(), push);
            let mut got = Vec::new();
            while let Some(frame) = body.frame().await {
                let piece = frame.unwrap().into_data().unwrap();
                assert!(!piece.is_empty() && piece.len() < PIECE_BYTES + 100);
                got.extend_from_slice(&piece);
            }
            assert_eq!(String::from_utf8(got).unwrap(), expected);
        }
    }
}
