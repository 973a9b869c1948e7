//! Ways in for samples besides scraping and remote write: OpenTelemetry's protocol, InfluxDB's lines, expositions that
//! are pushed, and history that is imported.
//!
//! Bodies are limited before and after decompression; samples are acknowledged once they are safe. Knows the store and
//! what is on the wire; nothing of targets, queries or pages.

mod body;
pub(crate) mod exposition;
pub mod fuzz;
mod history;
mod import;
mod inflate;
mod influx;
mod otlp;
mod push;
mod store;

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use axum::http::HeaderMap;
use axum::routing::{MethodFilter, get, on, post};
use promontory_config::OtlpConfig;
use promontory_storage::Db;
use promontory_storage::clock::Clock;
use promontory_storage::vfs::Vfs;
use tokio::sync::Semaphore;

use crate::bodies::{BODY_BYTES_MAX, Bodies};
use body::Refused;
use store::Store;

pub use otlp::DeltaMode;
pub use push::REPEAT_MS;
pub use store::Protocol;

/// Requests whose bodies are decoded at once; more wait.
const DECODED_AT_ONCE_MAX: usize = 4;

/// Bytes of the labels of one series.
pub(crate) const LABELS_BYTES_MAX: usize = 64 << 10;
/// Bytes of the labels of all samples of a request, each spelled out: what is written once may stand for many.
pub(crate) const BATCH_LABELS_BYTES_MAX: usize = 256 << 20;

/// What changes a pushed group.
const PUSH_METHODS: MethodFilter = MethodFilter::PUT.or(MethodFilter::POST).or(MethodFilter::DELETE);

/// What the ways in depend on.
#[derive(Debug, Clone, Copy)]
pub struct IngestOptions {
    /// `--web.enable-otlp-receiver`
    pub enable_otlp: bool,
    /// `--web.enable-influx-receiver`
    pub enable_influx: bool,
    /// `--web.enable-push`
    pub enable_push: bool,
    /// `--web.enable-admin-api`
    pub enable_import: bool,
    /// `--push.ttl`: how long a pushed group is held that does not say; 0 is until it is deleted.
    pub push_ttl_ms: i64,
    /// What becomes of differences.
    pub delta: DeltaMode,
    /// `--enable-feature=created-timestamp-zero-ingestion`
    pub zero_starts: bool,
    /// `--query.lookback-delta`
    pub lookback_ms: i64,
}

/// What the ways in are made of.
pub struct IngestParts {
    /// Where samples go.
    pub db: Db,
    /// The time of samples that have none.
    pub clock: Arc<dyn Clock>,
    /// Where pushed groups are kept.
    pub vfs: Arc<dyn Vfs>,
    /// The data folder.
    pub data_dir: PathBuf,
    /// The room of bodies that arrive.
    pub(crate) bodies: Bodies,
    /// Flags.
    pub options: IngestOptions,
}

/// All ways in.
pub struct Ingest {
    options: IngestOptions,
    store: Store,
    bodies: Bodies,
    places: Arc<Semaphore>,
    imports: Arc<Semaphore>,
    otlp_config: ArcSwap<OtlpConfig>,
    otlp: otlp::Receiver,
    pushed: push::Pushed,
}

impl Ingest {
    /// Ways into a store; pushed groups of before are held again.
    #[must_use]
    pub fn new(parts: IngestParts) -> Arc<Self> {
        let IngestParts { db, clock, vfs, data_dir, bodies, options } = parts;
        let ingest = Arc::new(Self {
            options,
            store: Store::new(db, clock),
            bodies,
            places: Arc::new(Semaphore::new(DECODED_AT_ONCE_MAX)),
            imports: Arc::new(Semaphore::new(import::IMPORTS_AT_ONCE_MAX)),
            otlp_config: ArcSwap::default(),
            otlp: otlp::Receiver::default(),
            pushed: push::Pushed::new(vfs, &data_dir),
        });
        if options.enable_push {
            ingest.restore_pushed();
        }
        ingest
    }

    /// Takes over the configuration's section `otlp`.
    pub fn set(&self, otlp: OtlpConfig) {
        self.otlp_config.store(Arc::new(otlp));
    }

    /// Routes below `/api/v1`.
    pub fn api_router(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/otlp/v1/metrics", post(otlp::receive))
            .route("/import/openmetrics", post(import::openmetrics))
            .route("/import/prometheus", post(import::text))
            .with_state(self.clone())
    }

    /// Routes under paths of other projects.
    pub fn router(self: &Arc<Self>) -> Router {
        let push = || on(PUSH_METHODS, push::push);
        Router::new()
            .route("/write", post(influx::write))
            .route("/api/v2/write", post(influx::write_v2))
            .route("/query", post(influx::query))
            .route("/ping", get(influx::ping))
            .route("/health", get(influx::health))
            .route("/metrics/job/{*group}", push())
            .route("/metrics/job@base64/{*group}", push())
            .with_state(self.clone())
    }

    /// Samples that were stored and that were not, by protocol.
    #[must_use]
    pub fn totals(&self) -> Vec<(Protocol, u64, u64)> {
        self.store.totals().to_vec()
    }

    /// Reads a request's body and lets `work` have it, decompressed, on a thread that may block.
    ///
    /// Not cancelled when the sender goes away: what was appended is committed in any case.
    async fn take_in<T: Send + 'static>(
        self: &Arc<Self>,
        headers: &HeaderMap,
        body: Body,
        work: impl FnOnce(&Self, &[u8]) -> Result<T, Refused> + Send + 'static,
    ) -> Result<T, Refused> {
        let arrived = self.bodies.read(headers, body, BODY_BYTES_MAX).await?;
        let place = self.places.clone().acquire_owned().await.map_err(Refused::later)?;
        let (ingest, headers) = (self.clone(), headers.clone());
        let worker = tokio::task::spawn_blocking(move || {
            // Until it is stored a body holds its room and its place, whether or not somebody waits for the answer.
            let (_place, arrived) = (place, arrived);
            let bytes = body::inflated(arrived.bytes.clone(), &headers)?;
            work(&ingest, &bytes)
        });
        worker.await.unwrap_or_else(|e| Err(Refused::later(format_args!("store samples: {e}"))))
    }
}

#[cfg(test)]
mod testing;

#[cfg(test)]
mod tests {
    use super::testing::Fixture;
    use super::*;

    #[tokio::test]
    async fn who_goes_away_leaves_its_work_a_place_and_room() {
        let f = Fixture::new(1);
        let (tell, told) = tokio::sync::oneshot::channel();
        let (go_on, waits) = std::sync::mpsc::channel::<()>();
        let ingest = f.ingest.clone();
        let asked = tokio::spawn(async move {
            let work = move |_: &Ingest, _: &[u8]| {
                tell.send(()).unwrap();
                waits.recv().unwrap();
                Ok(())
            };
            ingest.take_in(&HeaderMap::new(), Body::from("x"), work).await
        });
        told.await.unwrap();
        let room = f.ingest.bodies.free_bytes();
        asked.abort();
        assert!(asked.await.unwrap_err().is_cancelled());
        assert_eq!(f.ingest.places.available_permits(), DECODED_AT_ONCE_MAX - 1);
        assert_eq!((f.ingest.bodies.free_bytes(), room < crate::bodies::BODIES_BYTES_MAX), (room, true));
        go_on.send(()).unwrap();
        let all = f.ingest.places.acquire_many(DECODED_AT_ONCE_MAX as u32).await;
        assert!(all.is_ok());
    }
}
