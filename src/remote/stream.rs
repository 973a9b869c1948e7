//! The streamed form of remote read: chunks of one series per frame, sent while they are encoded.
//!
//! A frame is the length of its message, the CRC-32C of the message, and the message. A client that reads slowly holds
//! one thread and a few frames; one that is gone, or takes longer than a query may, ends the work. What goes wrong after
//! the first frame ends the connection, so that nobody takes a part for the whole.
//!
//! # Source
//! `prompb/remote.proto` and `storage/remote/codec.go` of Prometheus.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::Frame;
use promontory_model::{Cancel, Cancelled, Columns, Labels, ReadError, Select, Snapshot, TimeRange};
use promontory_storage::prometheus::{ChunkEncoder, StreamedChunk};
use tokio::sync::mpsc;

use super::read::{self, CancelOnDrop, Query};
use super::{Refused, Remote, put};

/// Bytes of chunks in one frame; a single chunk may go beyond.
const FRAME_BYTES: usize = 1 << 20;
/// Frames that wait for a client.
const FRAMES_WAITING: usize = 4;

const CONTENT_TYPE: &str = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";

/// How the work ended, once it has; a panic leaves nothing.
type Ended = Arc<OnceLock<Result<(), String>>>;

/// Answers the queries, one after the other, from one view of the store; `held` is dropped when that is done.
pub(super) fn answer(
    remote: &Arc<Remote>,
    queries: Vec<Query>,
    held: impl Send + 'static,
) -> Result<Response, Refused> {
    let external = (remote.external_labels)();
    // What is wrong with a request is said before the first byte.
    let matchers: Result<Vec<_>, _> = queries.iter().map(|q| read::read_matchers(q, &external)).collect();
    let matchers = matchers.map_err(Refused::bad)?;
    let snapshot = promontory_model::Queryable::snapshot(&remote.db).map_err(read::internal)?;
    let (frames, waiting) = mpsc::channel(FRAMES_WAITING);
    let ended = Ended::default();
    let cancel = Cancel::new();
    let timeout = std::time::Duration::from_millis(u64::try_from(remote.read_timeout.ms()).unwrap_or(0));
    let (flag, runtime, ending) = (cancel.clone(), tokio::runtime::Handle::current(), ended.clone());
    let timer = tokio::spawn({
        let cancel = cancel.clone();
        async move {
            tokio::time::sleep(timeout).await;
            cancel.cancel(Cancelled::Timeout);
        }
    });
    tokio::task::spawn_blocking(move || {
        let _held = held;
        let deadline = tokio::time::Instant::now() + timeout;
        let mut out = Stream { frames, deadline, runtime, frame: Vec::new(), encoder: ChunkEncoder::default() };
        let result = queries.iter().zip(&matchers).enumerate().try_for_each(|(i, (query, matchers))| {
            let range = TimeRange::new(query.start_timestamp_ms, query.end_timestamp_ms);
            let select = Select { range, matchers, cancel: &flag };
            out.query(i, &*snapshot, &select, &external)
        });
        if let Err(error) = &result {
            tracing::warn!(%error, "a streamed answer to remote read ended early");
        }
        // Before the last sender of frames goes: who finds no more frames looks here.
        let _ = ending.set(result.map_err(|e| e.to_string()));
        timer.abort();
    });
    let body = Body::new(Frames { frames: waiting, ended, _stop: CancelOnDrop(cancel) });
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], body).into_response())
}

/// Frames as they come, and then a failure, if there was one, which ends the connection and not the answer.
struct Frames {
    frames: mpsc::Receiver<Bytes>,
    ended: Ended,
    /// Stops the work when the client goes away.
    _stop: CancelOnDrop,
}

impl hyper::body::Body for Frames {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.frames.poll_recv(cx).map(|frame| match frame {
            Some(frame) => Some(Ok(Frame::data(frame))),
            None => match self.ended.get() {
                Some(Ok(())) => None,
                Some(Err(why)) => Some(Err(io::Error::other(why.clone()))),
                None => Some(Err(io::Error::other("the work ended in a panic"))),
            },
        })
    }
}

/// Why a stream ends early.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("the client does not read")]
    Gone,
}

struct Stream {
    frames: mpsc::Sender<Bytes>,
    deadline: tokio::time::Instant,
    runtime: tokio::runtime::Handle,
    /// Chunks of the series so far.
    frame: Vec<u8>,
    encoder: ChunkEncoder,
}

impl Stream {
    fn query(
        &mut self,
        index: usize,
        snapshot: &dyn Snapshot,
        select: &Select<'_>,
        external: &Labels,
    ) -> Result<(), StreamError> {
        let mut columns = Columns::default();
        for (labels, batch, i) in &read::selected(snapshot, select, external)? {
            select.cancel.check().map_err(ReadError::from)?;
            batch.read(*i..i + 1, select.range, &mut columns)?;
            let mut head = Vec::new();
            labels.iter().for_each(|(name, value)| put::label(&mut head, name, value));
            let mut encoder = std::mem::take(&mut self.encoder);
            let encoded = encoder.encode(columns.timestamps(), &columns.column(0), |chunk| {
                put_chunk(&mut self.frame, chunk);
                if self.frame.len() >= FRAME_BYTES { self.send(&head, index) } else { Ok(()) }
            });
            self.encoder = encoder;
            encoded?;
            if !self.frame.is_empty() {
                self.send(&head, index)?;
            }
        }
        Ok(())
    }

    /// Sends the frame with the chunks so far of the series with these labels.
    fn send(&mut self, labels: &[u8], index: usize) -> Result<(), StreamError> {
        let series_len = labels.len() + self.frame.len();
        let mut message = Vec::with_capacity(series_len + 32);
        message.push(0x0a);
        put::varint(&mut message, series_len as u64);
        message.extend_from_slice(labels);
        message.append(&mut self.frame);
        put::int64(&mut message, 2, index as i64);
        let mut frame = Vec::with_capacity(message.len() + 16);
        put::varint(&mut frame, message.len() as u64);
        frame.extend_from_slice(&crc32c::crc32c(&message).to_be_bytes());
        frame.append(&mut message);
        let sent = tokio::time::timeout_at(self.deadline, self.frames.send(frame.into()));
        match self.runtime.block_on(sent) {
            Ok(Ok(())) => Ok(()),
            _ => Err(StreamError::Gone),
        }
    }
}

/// Field 2 of a series.
fn put_chunk(out: &mut Vec<u8>, chunk: StreamedChunk<'_>) {
    let number = |n: i64| if n == 0 { 0 } else { 1 + put::varint_len(n as u64) };
    let data_len = 1 + put::varint_len(chunk.data.len() as u64) + chunk.data.len();
    out.push(0x12);
    put::varint(out, (number(chunk.mint) + number(chunk.maxt) + 2 + data_len) as u64);
    put::int64(out, 1, chunk.mint);
    put::int64(out, 2, chunk.maxt);
    put::int64(out, 3, chunk.encoding as i64);
    put::bytes(out, 4, chunk.data);
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    /// How many frames are read until the body ends, and whether it ends well.
    #[track_caller]
    fn check(ended: Option<Result<(), String>>, expected: Result<(), &str>) {
        let (frames, waiting) = mpsc::channel(FRAMES_WAITING);
        // A slow client: there is no room for anything else.
        (0..FRAMES_WAITING).for_each(|_| frames.try_send(Bytes::from_static(b"x")).unwrap());
        let cell = Ended::default();
        if let Some(ended) = ended {
            cell.set(ended).unwrap();
        }
        drop(frames);
        let mut body = Frames { frames: waiting, ended: cell, _stop: CancelOnDrop(Cancel::new()) };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            for _ in 0..FRAMES_WAITING {
                assert!(body.frame().await.unwrap().is_ok());
            }
            let end = body.frame().await.map_or(Ok(()), |frame| frame.map(drop));
            assert_eq!(end.map_err(|e| e.to_string()), expected.map_err(str::to_owned));
        });
    }

    #[test]
    fn a_part_is_never_taken_for_the_whole() {
        check(Some(Ok(())), Ok(()));
        check(Some(Err("too slow".to_owned())), Err("too slow"));
        check(None, Err("the work ended in a panic"));
    }
}
