//! What the tests of all ways in share: a store in a temporary folder, requests in process, and what is stored.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt as _;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use promontory_config::OtlpConfig;
use promontory_model::{Cancel, Columns, Labels, Matcher, Queryable as _, Select, TimeRange, Timestamp, is_stale};
use promontory_promql::histogram;
use promontory_storage::clock::ManualClock;
use promontory_storage::vfs::RealVfs;
use promontory_storage::{Db, DbOptions};

use super::store::Store;
use super::{DeltaMode, Ingest, IngestOptions, IngestParts};
use crate::bodies::Bodies;

/// A label set.
pub(super) fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}

/// A store and the ways into it.
pub(super) struct Fixture {
    pub(super) db: Db,
    pub(super) ingest: Arc<Ingest>,
    clock: Arc<ManualClock>,
    dir: tempfile::TempDir,
}

impl Fixture {
    pub(super) fn new(now_ms: i64) -> Self {
        Self::with(now_ms, OtlpConfig::default(), DeltaMode::Refuse)
    }

    pub(super) fn with(now_ms: i64, otlp: OtlpConfig, delta: DeltaMode) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp(now_ms)));
        let options = DbOptions { commit_interval_ms: None, ..DbOptions::server() };
        let (db, _) = Db::open(Arc::new(RealVfs), clock.clone(), dir.path(), options).unwrap();
        let ingest = Self::ingest(&db, &clock, dir.path(), delta);
        ingest.set(otlp);
        Self { ingest, db, clock, dir }
    }

    fn ingest(db: &Db, clock: &Arc<ManualClock>, dir: &Path, delta: DeltaMode) -> Arc<Ingest> {
        let options = IngestOptions {
            enable_otlp: true,
            enable_influx: true,
            enable_push: true,
            enable_import: true,
            push_ttl_ms: 3_600_000,
            delta,
            zero_starts: false,
            lookback_ms: 300_000,
        };
        Ingest::new(IngestParts {
            db: db.clone(),
            clock: clock.clone(),
            vfs: Arc::new(RealVfs),
            data_dir: dir.to_owned(),
            bodies: Bodies::new(),
            options,
        })
    }

    /// Begins anew with the same store and folder, as after a restart.
    pub(super) fn restart(&mut self) {
        self.ingest = Self::ingest(&self.db, &self.clock, self.dir.path(), DeltaMode::Refuse);
    }

    /// Folder of the store.
    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn store(&self) -> &Store {
        &self.ingest.store
    }

    pub(super) fn set_now(&self, now_ms: i64) {
        self.clock.set(Timestamp(now_ms));
    }

    /// Status and body of the answer of `router`.
    pub(super) async fn send(
        router: Router,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> (u16, Vec<u8>) {
        let request = headers.iter().fold(Request::builder().method(method).uri(path), |r, (n, v)| r.header(*n, *v));
        let request = request.body(body.into()).unwrap();
        let response = TowerToHyperService::new(router).call(request).await.unwrap();
        let (parts, body) = response.into_parts();
        (parts.status.as_u16(), body.collect().await.unwrap().to_bytes().to_vec())
    }

    /// Labels, times and values of the series of this name, in the order of their labels.
    pub(super) fn values(&self, name: &str) -> Vec<String> {
        let matchers = [Matcher::equal("__name__", name)];
        self.selected(&matchers)
    }

    /// The same of all series that pass `matchers`.
    pub(super) fn selected(&self, matchers: &[Matcher]) -> Vec<String> {
        let cancel = Cancel::new();
        let select = Select { range: TimeRange::ALL, matchers, cancel: &cancel };
        let selection = self.db.snapshot().unwrap().select(&select).unwrap();
        let mut columns = Columns::default();
        let mut out = Vec::new();
        for batch in &selection.batches {
            batch.read(0..batch.n_series(), TimeRange::ALL, &mut columns).unwrap();
            for i in 0..batch.n_series() {
                let column = columns.column(i);
                let mut samples: Vec<(i64, String)> = (0..columns.n_rows())
                    .filter(|row| column.is_present(*row))
                    .map(|row| (columns.timestamps()[row], float(column.values[row])))
                    .collect();
                samples.extend(column.histogram_samples().map(|(row, h)| {
                    let text = if h.is_stale() { "stale".to_owned() } else { histogram::text(h.value(), h.counts()) };
                    (columns.timestamps()[row], text)
                }));
                samples.sort();
                let mut line = batch.labels(i).to_string().replace(", ", ",");
                for (t, text) in samples {
                    let _ = write!(line, " {t}:{text}");
                }
                out.push(line);
            }
        }
        out.sort();
        out
    }
}

fn float(v: f64) -> String {
    if is_stale(v) { "stale".to_owned() } else { v.to_string() }
}
