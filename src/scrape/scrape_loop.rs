//! The life of one target: wait until it is due, fetch, read, append, report.
//!
//! A scrape reaches storage whole, with its staleness markers and report series in one row, or not at all; then only
//! the markers and the report that says so. The loop takes orders between scrapes; an order to stop also ends a
//! running one.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration as StdDuration;

use promontory_config::scrape::ScrapeConfig;
use promontory_model::{HistogramSample, Labels, Timestamp, stale_nan};
use promontory_storage::clock::Clock;
use promontory_storage::{AppendError, Appended, Db, Exemplar, SeriesRef};
use tokio::sync::watch;

use super::census::{Census, Counted, Held, JobCensus};
use super::exposition::{self, Format, LeftOut, ParseError, ProtobufError};
use super::failure_log::FailureLog;
use super::histograms::{HistogramLimits, TooManyBuckets};
use super::line_cache::{Batch, Counts, LineCache, LineRules, ReadError};
use super::metadata::Families;
use super::negotiate::{NegotiateError, Sent, call, format_of, job_client};
use super::own_metrics::ScrapeMetrics;
use super::sample_labels::SampleLabels;
use super::scratch::{Scratch, ScratchPool};
use super::target::{Grid, Target};
use super::threads::Spread;
use crate::client::{Client, FetchError, JobClient, Page, Prepared, UnixConnector};

/// How far in the future a sample may lie.
const FUTURE_MS_MAX: i64 = 10 * 60 * 1000;

/// What all loops share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) db: Db,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<ScrapeMetrics>,
    pub(super) census: Arc<Census>,
    pub(super) scratch: ScratchPool,
    /// Shifts the phases of this server's scrapes against those of its twin.
    pub(super) seed: u64,
    /// Whether series begin with a zero at the time from which targets say that they count.
    pub(super) zero_starts: bool,
    pub(super) spread: Spread,
}

/// A job's settings as its loops need them.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) config: ScrapeConfig,
    pub(super) client: JobClient,
    pub(super) census: Arc<JobCensus>,
    pub(super) failures: Option<FailureLog>,
}

/// What a loop is to do.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub(super) job: Arc<Job>,
    pub(super) target: Arc<Target>,
    /// Why the target must not be scraped, which every scrape then fails with.
    pub(super) refusal: Option<Arc<str>>,
    pub(super) command: Command,
    /// How often somebody asked for a scrape beside the regular ones.
    pub(super) asked: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Scrape,
    /// The target is gone: end its series after a while, unless it comes back.
    Remove,
    /// The server stops: leave everything as it is.
    Stop,
}

/// Whether the last scrape went well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Health {
    /// Not scraped yet.
    #[default]
    Unknown,
    /// It went well.
    Up,
    /// It failed.
    Down,
}

impl Health {
    /// `unknown`, `up` or `down`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// What is known of the last scrape.
#[derive(Debug, Clone, Default)]
pub(super) struct LastScrape {
    pub(super) health: Health,
    pub(super) error: String,
    pub(super) at: Option<Timestamp>,
    pub(super) seconds: f64,
    pub(super) samples: u64,
    pub(super) refused: u64,
}

/// What a loop shows of itself. The lock protects the value alone and is held for a copy.
#[derive(Debug, Default)]
pub(super) struct TargetState {
    last: Mutex<LastScrape>,
    pub(super) families: Families,
}

impl TargetState {
    pub(super) fn last(&self) -> MutexGuard<'_, LastScrape> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a scrape failed.
#[derive(Debug, thiserror::Error)]
enum ScrapeError {
    #[error("{0}")]
    Refused(Arc<str>),
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Negotiate(#[from] NegotiateError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Parse(#[from] ParseError),
    #[error(transparent)]
    Protobuf(#[from] ProtobufError),
    #[error("sample limit exceeded")]
    SampleLimit,
    #[error(transparent)]
    BucketLimit(#[from] TooManyBuckets),
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// Series that the scraper writes of its target, in the order of [`Report::values`].
const REPORT_METRICS: [&str; 5] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
];
/// More of them, for jobs with `extra_scrape_metrics`.
const EXTRA_REPORT_METRICS: [&str; 3] = ["scrape_timeout_seconds", "scrape_sample_limit", "scrape_body_size_bytes"];

/// Numbers of one scrape.
#[derive(Debug, Default)]
struct Report {
    is_up: bool,
    seconds: f64,
    scraped: u64,
    kept: u64,
    added: u64,
    timeout_seconds: f64,
    sample_limit: u64,
    /// −1 where the limit was hit, 0 where nothing was fetched.
    body_bytes: f64,
}

impl Report {
    fn values(&self) -> [f64; REPORT_METRICS.len() + EXTRA_REPORT_METRICS.len()] {
        [
            f64::from(u8::from(self.is_up)),
            self.seconds,
            self.scraped as f64,
            self.kept as f64,
            self.added as f64,
            self.timeout_seconds,
            self.sample_limit as f64,
            self.body_bytes,
        ]
    }
}

/// The task of one target.
#[derive(Debug)]
pub(super) struct ScrapeLoop {
    shared: Arc<Shared>,
    state: Arc<TargetState>,
    order: Order,
    rules: LineRules,
    grid: Grid,
    /// When the next scrape is to start.
    due: Option<i64>,
    /// Whether one beside the regular ones was asked for.
    is_asked: bool,
    table: Counted,
    client: Client,
    /// How the target is asked where it has a socket of its own.
    by_socket: Option<JobClient>,
    /// What it is asked, until an order changes that.
    prepared: Option<Prepared>,
    cache: LineCache<SeriesRef>,
    reports: Vec<SeriesRef>,
    /// Series of a retired cache whose samples no marker has ended yet.
    carried: Vec<SeriesRef>,
    /// Monotonic start of the last scrape.
    last_start_ns: Option<u64>,
    forced_flushes: u64,
}

impl ScrapeLoop {
    pub(super) fn new(shared: Arc<Shared>, state: Arc<TargetState>, order: Order) -> Self {
        Self {
            rules: rules(&order),
            grid: Grid::new(order.target.interval, order.target.identity, shared.seed),
            due: None,
            is_asked: false,
            table: Counted {
                writer: shared.db.writer(),
                held: Held::new(shared.census.clone(), order.job.census.clone()),
            },
            client: Client::new(),
            by_socket: by_socket(&shared, &order),
            prepared: None,
            cache: LineCache::new(),
            reports: Vec::new(),
            carried: Vec::new(),
            last_start_ns: None,
            forced_flushes: 0,
            shared,
            state,
            order,
        }
    }

    /// Runs until it is told to stop, or its target has been gone for long enough, or nobody gives orders any more.
    pub(super) async fn run(mut self, mut orders: watch::Receiver<Order>) {
        loop {
            let order = orders.borrow_and_update().clone();
            self.follow(order);
            match self.order.command {
                Command::Stop => return,
                Command::Remove => {
                    if self.leave(&mut orders).await {
                        return;
                    }
                    continue;
                }
                Command::Scrape => {}
            }
            let due = *self.due.get_or_insert_with(|| self.grid.first_from(self.shared.clock.now().ms()));
            let is_extra = std::mem::take(&mut self.is_asked);
            if !is_extra {
                tokio::select! {
                    biased;
                    changed = orders.changed() => {
                        if changed.is_err() {
                            return;
                        }
                        continue;
                    }
                    () = sleep_until(&*self.shared.clock, due) => {}
                }
            }
            let now = self.shared.clock.now().ms();
            let at = if is_extra { now } else { self.grid.timestamp(due, now) };
            tokio::select! {
                biased;
                stopped = orders.wait_for(|order| order.command != Command::Scrape) => {
                    if stopped.is_err() {
                        return;
                    }
                }
                () = self.scrape(at) => {}
            }
            if !is_extra {
                self.due = Some(self.grid.after(due, self.shared.clock.now().ms()));
            }
        }
    }

    /// Takes over an order; what it does not change stays: connection, cache, phase.
    fn follow(&mut self, order: Order) {
        let before = std::mem::replace(&mut self.order, order);
        self.is_asked |= before.asked != self.order.asked;
        if !(Arc::ptr_eq(&before.target, &self.order.target) && Arc::ptr_eq(&before.job, &self.order.job)) {
            self.prepared = None;
        }
        let (old, new) = (&before.job.config, &self.order.job.config);
        if before.target.interval != self.order.target.interval {
            self.grid = Grid::new(self.order.target.interval, self.order.target.identity, self.shared.seed);
            self.due = None;
        }
        // Labels of a target that stays the same, its socket among them, do not change.
        if Arc::ptr_eq(&before.job, &self.order.job) {
            return;
        }
        self.by_socket = by_socket(&self.shared, &self.order);
        if old.http != new.http {
            self.client = Client::new();
        }
        if reads_differently(old, new) {
            let first = self.carried.len();
            std::mem::take(&mut self.cache).retire(&mut self.carried, &mut self.table);
            // They are counted again when they are read again.
            for series in &self.carried[first..] {
                self.table.held.remove(*series);
            }
            self.rules = rules(&self.order);
        }
        if old.extra_scrape_metrics != new.extra_scrape_metrics {
            for series in self.reports.drain(..) {
                self.table.writer.release(series);
            }
        }
    }

    /// Waits for two intervals and a bit, then ends all series as of the next scrape that would have been: if the
    /// target lives on elsewhere it has newer samples by then, and the markers are refused. False if it came back.
    async fn leave(&mut self, orders: &mut watch::Receiver<Order>) -> bool {
        let Some(stale_at) = self.due.filter(|_| self.last_start_ns.is_some()) else { return true };
        let interval = self.order.target.interval.ms();
        tokio::select! {
            biased;
            changed = orders.changed() => changed.is_err(),
            () = sleep_until(&*self.shared.clock, stale_at + interval + interval / 10) => {
                self.end_series(Timestamp(stale_at));
                true
            }
        }
    }

    fn end_series(&mut self, at: Timestamp) {
        let mut ended = std::mem::take(&mut self.carried);
        self.cache.end_live(&mut ended, &self.table);
        ended.extend_from_slice(&self.reports);
        let row: Vec<_> = ended.into_iter().map(|series| (series, stale_nan())).collect();
        if let Err(error) = self.table.writer.append_in_order(at, &row) {
            tracing::warn!(target = %self.order.target.url, %error, "staleness markers of a removed target were lost");
        }
    }

    async fn scrape(&mut self, at: i64) {
        let start_ns = self.shared.clock.monotonic_ns();
        if let Some(last) = self.last_start_ns.replace(start_ns) {
            self.shared.metrics.observe_interval(self.order.target.interval, seconds(last, start_ns));
        }
        let shared = self.shared.clone();
        let mut scratch = shared.scratch.take();
        let fetched = self.fetch(&mut scratch.body).await;
        self.ingest(at, start_ns, fetched, &mut scratch);
        shared.scratch.give_back(scratch);
    }

    async fn fetch(&mut self, body: &mut Vec<u8>) -> Result<Page, ScrapeError> {
        if let Some(refusal) = &self.order.refusal {
            return Err(ScrapeError::Refused(refusal.clone()));
        }
        let timeout = StdDuration::from_millis(self.order.target.timeout.ms().unsigned_abs());
        let job = self.by_socket.as_ref().unwrap_or(&self.order.job.client);
        let prepared = match self.prepared.take() {
            Some(prepared) => prepared,
            None => job.prepare(call(&self.order.target.url, timeout)).await?,
        };
        let fetched = self.client.fetch_prepared(job, &prepared, timeout, body).await;
        self.prepared = Some(prepared);
        Ok(fetched?)
    }

    /// Brings what was fetched into storage and says how it went.
    fn ingest(&mut self, at: i64, start_ns: u64, fetched: Result<Page, ScrapeError>, scratch: &mut Scratch) {
        let config = &self.order.job.config;
        let mut report = Report {
            timeout_seconds: self.order.target.timeout.secs_f64(),
            sample_limit: config.limits.samples.unwrap_or(0),
            ..Report::default()
        };
        match &fetched {
            Ok(page) => report.body_bytes = (scratch.body.len() - page.start) as f64,
            Err(ScrapeError::Fetch(FetchError::Body(e))) if e.is_limit() => report.body_bytes = -1.0,
            Err(_) => {}
        }
        scratch.batch.counts = Counts::default();
        let result = fetched.and_then(|page| self.read(&page, scratch));
        let Scratch { batch, .. } = scratch;
        if result.is_ok() && batch.counts.scraped + batch.counts.missed > 0 {
            self.cache.commit(batch, &mut self.table, &self.state.families);
        } else {
            batch.clear();
            self.cache.abort(&mut batch.stale, &mut self.table, &self.state.families);
        }
        report.is_up = result.is_ok();
        report.scraped = batch.counts.scraped;
        report.kept = batch.counts.kept;
        let is_over = matches!(result, Err(ScrapeError::SampleLimit | ScrapeError::BucketLimit(_)));
        report.added = if is_over { 0 } else { batch.counts.added };
        report.seconds = seconds(start_ns, self.shared.clock.monotonic_ns());
        let appended = self.append(Timestamp(at), &report, scratch);
        if let Some(left_out) = scratch.assembled.left_out().filter(|_| scratch.is_assembled && result.is_ok()) {
            self.tell(left_out);
        }
        self.show(at, &report, result.err(), appended, scratch.batch.counts);
    }

    /// Says which classic histograms of a scrape could not be converted.
    fn tell(&self, left_out: &LeftOut) {
        let (target, job) = (&self.order.target.url, &self.order.job.config.job_name);
        count(&self.table.held.job().dropped.bad_histograms, left_out.n);
        let (family, error, n) = (&left_out.family, &left_out.error, left_out.n);
        tracing::warn!(%job, %target, n, family, %error, "classic histograms of a scrape were left out");
    }

    /// Understands the body and turns new lines into series.
    fn read(&mut self, page: &Page, scratch: &mut Scratch) -> Result<(), ScrapeError> {
        let config = &self.order.job.config;
        let sent = format_of(&page.content_type, config.fallback_scrape_protocol)?;
        let modes = self.order.target.histograms;
        let Scratch { body, body_start, assembled, batch, is_assembled, started } = scratch;
        *body_start = page.start;
        let body = &body[page.start..];
        started.clear();
        *is_assembled = true;
        assembled.want_starts(self.shared.zero_starts);
        batch.takes_starts = self.shared.zero_starts && sent == Sent::OpenMetrics;
        match sent {
            Sent::Protobuf => assembled.read_protobuf(body, modes)?,
            Sent::Text if modes.to_custom => assembled.convert_text(body, Format::Text, modes.always_classic)?,
            Sent::OpenMetrics if modes.to_custom => {
                assembled.convert_text(body, Format::OpenMetrics, modes.always_classic)?;
            }
            _ => *is_assembled = false,
        }
        let format = match (*is_assembled, sent) {
            (true, _) => Format::Assembled,
            (false, Sent::OpenMetrics) => Format::OpenMetrics,
            (false, _) => Format::Text,
        };
        self.cache.retry_refused(self.table.held.may_have_room());
        let lines = if *is_assembled { assembled.body() } else { body };
        self.cache.read(lines, format, &self.rules, batch, &self.state.families)?;
        let limits = HistogramLimits::new(config);
        for number in batch.histogram_numbers() {
            if let Some(histogram) = assembled.histogram_mut(number) {
                limits.apply(histogram)?;
            }
        }
        let n_samples = batch.counts.kept - batch.counts.duplicates;
        if config.limits.samples.is_some_and(|limit| n_samples > limit) {
            return Err(ScrapeError::SampleLimit);
        }
        self.cache.resolve(batch, &mut self.table)?;
        let lines = if *is_assembled { assembled.body() } else { body };
        if batch.takes_starts {
            self.cache.find_started(lines, format, batch, started);
        } else if sent == Sent::Protobuf {
            self.cache.find_started_beside(lines, assembled.starts(), started);
        }
        Ok(())
    }

    /// Appends samples, markers and report as one row, then samples with their own timestamps.
    fn append(&mut self, at: Timestamp, report: &Report, scratch: &mut Scratch) -> Result<Appended, AppendError> {
        self.append_starts(at, scratch)?;
        let Scratch { batch, assembled, .. } = scratch;
        batch.row.extend(batch.stale.drain(..).map(|series| (series, stale_nan())));
        self.end_carried(batch);
        self.resolve_reports()?;
        batch.row.extend(self.reports.iter().copied().zip(report.values()));
        let found = batch.histograms.drain(..);
        let found = found.filter_map(|(series, t, number)| Some((series, t, assembled.histogram(number)?.clone())));
        let (untimed, timed): (Vec<_>, Vec<_>) = found.partition(|h| h.1.is_none());
        let histograms: Vec<_> = untimed.into_iter().map(|(series, _, histogram)| (series, histogram)).collect();
        let mut appended = self.table.writer.append_with_histograms(at, &batch.row, &histograms)?;
        if !batch.timed.is_empty() || !timed.is_empty() {
            let latest = self.shared.clock.now().ms().saturating_add(FUTURE_MS_MAX);
            let n_timed = batch.timed.len() + timed.len();
            let floats: Vec<_> =
                batch.timed.iter().filter(|s| s.1 <= latest).map(|s| (s.0, Timestamp(s.1), s.2)).collect();
            let histograms: Vec<_> = timed
                .into_iter()
                .filter_map(|(series, t, histogram)| Some((series, t.filter(|t| *t <= latest)?, histogram)))
                .map(|(series, t, histogram)| (series, Timestamp(t), histogram))
                .collect();
            appended.out_of_bounds += (n_timed - floats.len() - histograms.len()) as u64;
            appended.add(self.table.writer.append_at_with_histograms(&floats, &histograms)?);
        }
        if !batch.exemplars.is_empty() {
            self.append_exemplars(at, scratch)?;
        }
        for series in self.carried.drain(..) {
            self.table.writer.release(series);
        }
        Ok(appended)
    }

    /// Appends a zero to series that began, at the time when they did: of what they count the first sample already has
    /// some, which rates would miss.
    fn append_starts(&mut self, at: Timestamp, scratch: &mut Scratch) -> Result<(), AppendError> {
        if scratch.started.is_empty() {
            return Ok(());
        }
        let (mut floats, mut histograms) = (Vec::new(), Vec::new());
        for begun in scratch.started.drain(..) {
            let start = Timestamp(begun.start_ms);
            if start >= begun.timestamp_ms.map_or(at, Timestamp) {
                continue;
            }
            match begun.histogram {
                None => floats.push((begun.series, start, 0.0)),
                Some(number) => {
                    let zero = scratch.assembled.histogram(number).map(HistogramSample::begun);
                    histograms.extend(zero.map(|zero| (begun.series, start, zero)));
                }
            }
        }
        self.table.writer.append_starts(&floats, &histograms)?;
        Ok(())
    }

    /// Exemplars without a time of their own get that of their sample.
    fn append_exemplars(&mut self, at: Timestamp, scratch: &mut Scratch) -> Result<(), AppendError> {
        let Scratch { body, body_start, batch, assembled, is_assembled, .. } = scratch;
        let latest = self.shared.clock.now().ms().saturating_add(FUTURE_MS_MAX);
        let mut found = Vec::new();
        for (series, sample_ms, place) in batch.exemplars.drain(..) {
            let mut take = |labels: Labels, value: f64, own_ms: Option<i64>| {
                let timestamp = own_ms.or(sample_ms).map_or(at, Timestamp);
                if timestamp.0 <= latest {
                    let has_timestamp = own_ms.is_some();
                    found.push((series, Exemplar { labels, value, timestamp, has_timestamp }));
                }
            };
            if *is_assembled {
                for e in assembled.exemplars(place) {
                    take(e.labels.clone(), e.value, e.timestamp_ms);
                }
            } else if let Some(e) = exposition::exemplar_at(&body[*body_start..], place) {
                take(Labels::from_pairs(e.labels), e.value, e.timestamp_ms);
            }
        }
        found.sort_by_key(|(_, e)| e.timestamp);
        let appended = self.table.writer.append_exemplars(found)?;
        if appended.out_of_order > 0 && appended.accepted == 0 {
            tracing::debug!(target = %self.order.target.url, n = appended.out_of_order, "exemplars out of order");
        }
        Ok(())
    }

    /// Ends the series of a retired cache that the new reading of the lines has not brought again.
    fn end_carried(&self, batch: &mut Batch<SeriesRef>) {
        if self.carried.is_empty() {
            return;
        }
        let row = batch.row.iter().map(|s| s.0);
        let others = batch.timed.iter().map(|s| s.0).chain(batch.histograms.iter().map(|h| h.0));
        let present: HashSet<_> = row.chain(others).map(|series| self.table.writer.identity(series)).collect();
        let ended = self.carried.iter().filter(|series| !present.contains(&self.table.writer.identity(**series)));
        batch.row.extend(ended.map(|series| (*series, stale_nan())));
    }

    fn resolve_reports(&mut self) -> Result<(), AppendError> {
        let extra: &[&str] = if self.order.job.config.extra_scrape_metrics { &EXTRA_REPORT_METRICS } else { &[] };
        let metrics = REPORT_METRICS.iter().chain(extra);
        for metric in metrics.skip(self.reports.len()) {
            self.reports.push(self.table.writer.resolve(&self.rules.labels.report(metric))?);
        }
        Ok(())
    }

    fn show(
        &mut self,
        at: i64,
        report: &Report,
        error: Option<ScrapeError>,
        appended: Result<Appended, AppendError>,
        counts: Counts,
    ) {
        let (target, job) = (&self.order.target.url, &self.order.job.config.job_name);
        let metrics = &self.shared.metrics;
        let error = error.or_else(|| appended.as_ref().err().cloned().map(ScrapeError::Append));
        match &error {
            Some(ScrapeError::SampleLimit) => count(&metrics.exceeded_sample_limit, 1),
            Some(ScrapeError::BucketLimit(_)) => count(&metrics.exceeded_bucket_limit, 1),
            Some(ScrapeError::Fetch(FetchError::Body(e))) if e.is_limit() => {
                count(&metrics.exceeded_body_size_limit, 1)
            }
            Some(ScrapeError::Read(ReadError::Labels(e))) if e.is_limit() => count(&metrics.exceeded_label_limits, 1),
            _ => {}
        }
        let flushes = self.cache.forced_flushes();
        count(&metrics.cache_flush_forced, flushes.saturating_sub(self.forced_flushes));
        self.forced_flushes = flushes;
        match appended {
            Err(error) => tracing::error!(%job, %target, %error, "a scrape was lost"),
            Ok(mut appended) => {
                appended.duplicates += counts.duplicates;
                let dropped = &self.table.held.job().dropped;
                count(&dropped.relabelled, counts.scraped.saturating_sub(counts.kept));
                count(&dropped.refused_series, counts.refused);
                if appended.refused() > 0 {
                    count(&dropped.duplicate, appended.duplicates);
                    count(&dropped.out_of_order, appended.out_of_order);
                    count(&dropped.too_old, appended.too_old);
                    count(&dropped.out_of_bounds, appended.out_of_bounds);
                    count(&metrics.sample_duplicate_timestamp, appended.duplicates);
                    count(&metrics.sample_out_of_order, appended.out_of_order + appended.too_old);
                    count(&metrics.sample_out_of_bounds, appended.out_of_bounds);
                    tracing::warn!(
                        %job,
                        %target,
                        duplicates = appended.duplicates,
                        out_of_order = appended.out_of_order,
                        too_old = appended.too_old,
                        out_of_bounds = appended.out_of_bounds,
                        "samples of a scrape were left out"
                    );
                }
            }
        }
        if counts.refused > 0 {
            self.table.held.job().warn(job, &target.to_string(), self.shared.clock.now().ms());
        }
        if let Some(error) = &error {
            tracing::debug!(%job, %target, %error, "scrape failed");
            if let Some(log) = &self.order.job.failures {
                log.write(self.shared.clock.now(), job, &target.to_string(), &error.to_string());
            }
        }
        let mut last = self.state.last();
        last.health = if error.is_none() { Health::Up } else { Health::Down };
        last.error = error.map(|e| e.to_string()).unwrap_or_default();
        last.at = Some(Timestamp(at));
        last.seconds = report.seconds;
        last.samples = report.kept;
        last.refused = counts.refused;
    }
}

fn by_socket(shared: &Shared, order: &Order) -> Option<JobClient> {
    let path = order.target.unix_socket.clone()?;
    Some(job_client(&order.job.config, shared.zero_starts, Arc::new(UnixConnector(path))))
}

fn rules(order: &Order) -> LineRules {
    let config = &order.job.config;
    LineRules {
        labels: SampleLabels::new(order.target.labels.clone(), config),
        honor_timestamps: config.honor_timestamps,
        track_timestamps_staleness: config.track_timestamps_staleness,
    }
}

/// Whether the same line can mean another series under `new`.
fn reads_differently(old: &ScrapeConfig, new: &ScrapeConfig) -> bool {
    old.honor_labels != new.honor_labels
        || old.honor_timestamps != new.honor_timestamps
        || old.track_timestamps_staleness != new.track_timestamps_staleness
        || old.metric_relabel_configs != new.metric_relabel_configs
        || old.metric_name_validation != new.metric_name_validation
        || old.limits.labels != new.limits.labels
        || old.limits.label_name_bytes != new.limits.label_name_bytes
        || old.limits.label_value_bytes != new.limits.label_value_bytes
}

fn count(counter: &std::sync::atomic::AtomicU64, n: u64) {
    counter.fetch_add(n, std::sync::atomic::Ordering::Relaxed);
}

fn seconds(start_ns: u64, end_ns: u64) -> f64 {
    StdDuration::from_nanos(end_ns.saturating_sub(start_ns)).as_secs_f64()
}

async fn sleep_until(clock: &dyn Clock, at: i64) {
    let left = at.saturating_sub(clock.now().ms()).max(0);
    tokio::time::sleep(StdDuration::from_millis(left.unsigned_abs())).await;
}
