//! What tests of this module share.

use std::collections::BTreeMap;
use std::sync::Arc;

use promontory_config::http_client::HttpClientConfig;
use promontory_config::scrape::{
    EscapingScheme, HistogramModes, NameValidation, Scheme, ScrapeConfig, ScrapeLimits, ScrapeProtocol,
};
use promontory_model::{Cancel, Columns, Duration, HistogramSample, Labels, Queryable, Select, TimeRange, Timestamp};
use promontory_storage::clock::Clock;
use promontory_storage::vfs::SimVfs;
use promontory_storage::{Db, DbOptions, FsyncPolicy};

pub(crate) use crate::client::testing::{Action, FakeNetwork, answer, exposition};

/// A job with the defaults, scraped every 15 s.
pub(crate) fn scrape_config(job: &str) -> ScrapeConfig {
    ScrapeConfig {
        job_name: job.to_owned(),
        scrape_interval: Duration::from_secs(15),
        scrape_timeout: Duration::from_secs(10),
        metrics_path: "/metrics".to_owned(),
        scheme: Scheme::Http,
        params: Vec::new(),
        honor_labels: false,
        honor_timestamps: true,
        track_timestamps_staleness: false,
        enable_compression: true,
        scrape_protocols: ScrapeProtocol::DEFAULT.to_vec(),
        fallback_scrape_protocol: None,
        limits: ScrapeLimits::default(),
        metric_name_validation: NameValidation::Utf8,
        metric_name_escaping: EscapingScheme::AllowUtf8,
        histograms: HistogramModes::default(),
        native_histogram_bucket_limit: None,
        native_histogram_min_bucket_factor: 0.0,
        extra_scrape_metrics: false,
        scrape_failure_log_file: None,
        http: HttpClientConfig::default(),
        discovery: Vec::new(),
        relabel_configs: Vec::new(),
        metric_relabel_configs: Vec::new(),
    }
}

/// A clock that goes with tokio's time, which tests stop.
#[derive(Debug)]
pub(crate) struct TokioClock(tokio::time::Instant);

impl TokioClock {
    /// Shows [`START_MS`] now.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(tokio::time::Instant::now()))
    }
}

/// What a [`TokioClock`] shows first.
pub(crate) const START_MS: i64 = 1_700_000_000_000;

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        Timestamp(START_MS + i64::try_from(self.0.elapsed().as_millis()).unwrap())
    }

    fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap()
    }
}

/// An empty database in memory.
pub(crate) fn database(clock: Arc<dyn Clock>) -> Db {
    let options = DbOptions { commit_interval_ms: None, fsync: FsyncPolicy::Never, ..DbOptions::server() };
    Db::open(Arc::new(SimVfs::new()), clock, std::path::Path::new("/data"), options).unwrap().0
}

/// All histograms of all series, by labels.
pub(crate) fn histograms(db: &Db) -> BTreeMap<Labels, Vec<(i64, HistogramSample)>> {
    let (snapshot, cancel) = (db.snapshot().unwrap(), Cancel::new());
    let select = Select { range: TimeRange::ALL, matchers: &[], cancel: &cancel };
    let mut out = BTreeMap::new();
    let mut columns = Columns::default();
    for batch in snapshot.select(&select).unwrap().batches {
        batch.read(0..batch.n_series(), TimeRange::ALL, &mut columns).unwrap();
        for i in 0..batch.n_series() {
            let found = columns.column(i).histogram_samples().map(|(row, h)| (columns.timestamps()[row], h));
            let found: Vec<_> = found.collect();
            if !found.is_empty() {
                out.insert(batch.labels(i), found);
            }
        }
    }
    out
}

/// All samples of all series, by labels.
pub(crate) fn samples(db: &Db) -> BTreeMap<Labels, Vec<(i64, f64)>> {
    let (snapshot, cancel) = (db.snapshot().unwrap(), Cancel::new());
    let select = Select { range: TimeRange::ALL, matchers: &[], cancel: &cancel };
    let mut out = BTreeMap::new();
    let mut columns = Columns::default();
    for batch in snapshot.select(&select).unwrap().batches {
        batch.read(0..batch.n_series(), TimeRange::ALL, &mut columns).unwrap();
        for i in 0..batch.n_series() {
            let column = columns.column(i);
            let present = columns.timestamps().iter().enumerate().filter(|(row, _)| column.is_present(*row));
            let samples: Vec<_> = present.map(|(row, t)| (*t, column.values[row])).collect();
            if !samples.is_empty() {
                out.insert(batch.labels(i), samples);
            }
        }
    }
    out
}
