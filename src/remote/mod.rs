//! Remote read and remote write: other servers' samples in, ours out, as Prometheus 3.14 speaks them.
//!
//! Bodies are limited before and after decompression. Samples are acknowledged only after [`Db::commit`], and remembered
//! as sent only after the destination took them. Knows the store, the wire and the HTTP client; nothing of scraping or
//! the query API.

mod histogram;
mod interned;
mod known;
mod meter;
mod put;
mod read;
mod receiver;
mod send;
mod stream;
mod upstream;
mod wire;
mod write;

use std::fmt;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use promontory_model::{Duration, Labels};
use promontory_storage::Db;
use promontory_storage::clock::Clock;
use tokio::sync::Semaphore;

use crate::bodies::{Bodies, BodyError};
pub use meter::RemoteMeter;
use receiver::Receiver;
pub(crate) use send::write_call;
pub use send::{SendParts, Senders};
pub use upstream::{Beside, UPSTREAM_BYTES_MAX, UPSTREAM_SAMPLES_MAX, Upstreams};

/// Bytes of the body of a read request, and what it is decompressed: as messages they take up to thirty times as much.
pub const READ_BODY_BYTES_MAX: usize = 1 << 20;
pub(crate) const READ_DECODED_BYTES_MAX: usize = 4 << 20;
/// Samples of one write request.
pub const WRITE_SAMPLES_MAX: usize = 2_000_000;
/// Series of one write request.
pub const WRITE_SERIES_MAX: usize = 500_000;
/// Bytes of all native histograms of one write request, which bound what they take as numbers: eight times as much.
pub const WRITE_HISTOGRAM_BYTES_MAX: usize = 8 << 20;
/// Exemplars of one write request.
pub const WRITE_EXEMPLARS_MAX: usize = 100_000;
/// Metric families of which one write request says type, unit and help.
pub const WRITE_FAMILIES_MAX: usize = 100_000;
/// Symbols of one write request of version 2.
pub const WRITE_SYMBOLS_MAX: usize = 1_000_000;
/// Bytes of the labels of all series of one write request of version 2, each spelled out: symbols may be named again and
/// again.
pub const WRITE_LABELS_BYTES_MAX: usize = 256 << 20;
/// Write requests that are decoded at once; more wait.
pub const WRITE_CONCURRENCY_MAX: usize = 8;
/// Bytes of a buffer for a decompressed write request that is kept for the next one; that of a request as senders make
/// them takes half of it.
const BUFFER_BYTES_KEPT: usize = 1 << 20;
/// Samples of the answer to one read request.
pub const READ_SAMPLES_MAX: usize = 5_000_000;
/// Series that one query of a read request may select.
pub const READ_SERIES_MAX: usize = 500_000;
/// Read requests that are answered at once; more wait.
pub const READ_CONCURRENCY_MAX: usize = 4;

/// What remote read and write are made of.
pub struct RemoteParts {
    /// Where samples go to and come from.
    pub db: Db,
    /// Tells which samples lie in the future, and which series nobody sent for long.
    pub clock: Arc<dyn Clock>,
    /// The room of bodies that arrive.
    pub(crate) bodies: Bodies,
    /// Counts what others ask.
    pub meter: Arc<RemoteMeter>,
    /// `--web.enable-remote-write-receiver`
    pub enable_write: bool,
    /// `--enable-feature=created-timestamp-zero-ingestion`
    pub zero_starts: bool,
    /// Longest time that a read may take: `--query.timeout`.
    pub read_timeout: Duration,
    /// The configuration's `external_labels` at this moment.
    pub external_labels: Box<dyn Fn() -> Labels + Send + Sync>,
}

struct Remote {
    db: Db,
    /// Held while samples are appended, never across I/O.
    receiver: Mutex<Receiver>,
    clock: Arc<dyn Clock>,
    bodies: Bodies,
    meter: Arc<RemoteMeter>,
    enable_write: bool,
    read_timeout: Duration,
    external_labels: Box<dyn Fn() -> Labels + Send + Sync>,
    write_places: Arc<Semaphore>,
    /// For decompressed write requests.
    buffers: Mutex<Vec<Vec<u8>>>,
    read_places: Arc<Semaphore>,
}

/// `/read` and `/write`, to be put below `/api/v1`.
pub fn router(parts: RemoteParts) -> Router {
    let RemoteParts { db, clock, bodies, meter, enable_write, zero_starts, read_timeout, external_labels } = parts;
    let remote = Remote {
        receiver: Mutex::new(Receiver::new(db.clone(), zero_starts)),
        db,
        clock,
        bodies,
        meter,
        enable_write,
        read_timeout,
        external_labels,
        write_places: Arc::new(Semaphore::new(WRITE_CONCURRENCY_MAX)),
        buffers: Mutex::default(),
        read_places: Arc::new(Semaphore::new(READ_CONCURRENCY_MAX)),
    };
    Router::new().route("/read", post(read::read)).route("/write", post(write::write)).with_state(Arc::new(remote))
}

/// A refused request: status code and reason, as plain text.
#[derive(Debug, PartialEq, Eq)]
struct Refused(StatusCode, String);

impl Refused {
    fn bad(reason: impl fmt::Display) -> Self {
        Self(StatusCode::BAD_REQUEST, reason.to_string())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], self.1 + "\n").into_response()
    }
}

impl From<BodyError> for Refused {
    fn from(e: BodyError) -> Self {
        let status = match e {
            BodyError::TooLong { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            // Senders repeat a request that failed with 5xx and give one up that failed with 4xx.
            BodyError::NoRoom | BodyError::Slow => StatusCode::SERVICE_UNAVAILABLE,
            BodyError::Read(_) => StatusCode::BAD_REQUEST,
        };
        Self(status, e.to_string())
    }
}

/// Undoes snappy's block format into `out`, whose old bytes are of no matter; the size is checked before anything is
/// allocated.
fn decompress<'a>(body: &[u8], out: &'a mut Vec<u8>, max: usize) -> Result<&'a [u8], Refused> {
    let len = snap::raw::decompress_len(body).map_err(Refused::bad)?;
    if len > max {
        let reason = format!("decoded body of {len} bytes, more than {max} (body_bytes_max)");
        return Err(Refused::bad(reason));
    }
    // A buffer that was used before is not filled with zeros again.
    if out.len() < len {
        out.resize(len, 0);
    }
    let result = snap::raw::Decoder::new().decompress(body, out);
    result.map(|n| &out[..n]).map_err(Refused::bad)
}

/// Snappy's block format is understood, and assumed where nothing is said.
fn check_encoding(headers: &HeaderMap) -> Result<(), Refused> {
    match headers.get(header::CONTENT_ENCODING).map(|v| v.to_str().unwrap_or("?")) {
        None | Some("" | "snappy") => Ok(()),
        Some(other) => Err(Refused(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("{other} encoding (compression) is not accepted by this server; only snappy is acceptable"),
        )),
    }
}

#[cfg(test)]
mod tests;
