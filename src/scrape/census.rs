//! How many series scraping holds, and the limits on them: of a target, of a job, of a metric, of all.
//!
//! A limit refuses new series and nothing else: what is there is kept, the scrape goes on, and a refused series is
//! taken as soon as others have made room. Counted are the series that targets' line caches remember. Two lines that
//! relabelling makes one series count as two. Series that the scraper writes itself are not counted.
//!
//! Who refuses remembers what it refused: the label with the most values among refused series of one metric is the
//! one that grows, which a warning names.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use promontory_config::CardinalityConfig;
use promontory_model::{Labels, METRIC_NAME};
use promontory_storage::{AppendError, GroupWriter, SeriesRef};

use super::line_cache::SeriesTable;

/// Metrics of whose refused series labels are counted, per job.
const METRICS_WATCHED_MAX: usize = 32;
/// Values of one label that are told apart.
const VALUES_WATCHED_MAX: usize = 1_000;
/// Time between two warnings of one job.
const WARN_EVERY_MS: i64 = 60_000;

/// A limit: no more than so many, 0 is no limit.
#[derive(Debug, Default)]
struct Limit(AtomicU64);

impl Limit {
    fn set(&self, limit: Option<u64>) {
        self.0.store(limit.unwrap_or(0), Ordering::Relaxed);
    }

    fn get(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|n| *n > 0)
    }

    /// Whether one more than `n` fits.
    fn admits(&self, n: u64) -> bool {
        self.get().is_none_or(|limit| n < limit)
    }
}

/// All series of scraping.
#[derive(Debug, Default)]
pub(super) struct Census {
    series: AtomicU64,
    limit: Limit,
    per_metric: Limit,
    /// Metrics that have series, as long as they are limited. Held for a look-up.
    metrics: Mutex<HashMap<String, Arc<Metric>>>,
    /// Each job, kept when it goes, for its counters. Held for a look-up, and while all are shown or limited.
    jobs: Mutex<BTreeMap<String, Arc<JobCensus>>>,
    /// The limits that jobs get. Taken after `jobs`.
    config: Mutex<CardinalityConfig>,
    /// Changes when a series goes or a limit changes: then what was refused may be tried again.
    room: AtomicU64,
}

/// Series of one metric.
#[derive(Debug)]
struct Metric {
    name: String,
    series: AtomicU64,
}

/// Series of one job, and what became of samples that were not stored.
#[derive(Debug, Default)]
pub(super) struct JobCensus {
    series: AtomicU64,
    per_job: Limit,
    per_scrape: Limit,
    pub(super) dropped: Dropped,
    refused: Refused,
    growth: Mutex<Growth>,
}

/// Samples that were not stored, by reason.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    pub(super) relabelled: AtomicU64,
    pub(super) duplicate: AtomicU64,
    pub(super) out_of_order: AtomicU64,
    pub(super) too_old: AtomicU64,
    pub(super) out_of_bounds: AtomicU64,
    pub(super) refused_series: AtomicU64,
    pub(super) bad_histograms: AtomicU64,
}

impl Dropped {
    fn all(&self) -> [(&'static str, &AtomicU64); 7] {
        [
            ("relabelled", &self.relabelled),
            ("duplicate", &self.duplicate),
            ("out_of_order", &self.out_of_order),
            ("too_old", &self.too_old),
            ("out_of_bounds", &self.out_of_bounds),
            ("refused_series", &self.refused_series),
            ("bad_histogram", &self.bad_histograms),
        ]
    }
}

/// Series that were refused, by the limit that refused them.
#[derive(Debug, Default)]
struct Refused([AtomicU64; WHICH.len()]);

/// The limits by the names of their fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Scrape,
    Job,
    Metric,
    All,
}

const WHICH: [(Which, &str); 4] = [
    (Which::Scrape, "series_per_scrape"),
    (Which::Job, "series_per_job"),
    (Which::Metric, "series_per_metric"),
    (Which::All, "series"),
];

impl Which {
    fn name(self) -> &'static str {
        WHICH[self as usize].1
    }
}

/// What refused series look like.
#[derive(Debug, Default)]
struct Growth {
    /// Values of each label, by metric; hashed, because only their number matters.
    metrics: BTreeMap<String, BTreeMap<String, HashSet<u64>>>,
    refused: u64,
    hasher: RandomState,
    warned_ms: Option<i64>,
}

impl Growth {
    fn note(&mut self, labels: &Labels) {
        self.refused += 1;
        let metric = labels.metric_name();
        if !self.metrics.contains_key(metric) {
            if self.metrics.len() == METRICS_WATCHED_MAX {
                return;
            }
            self.metrics.insert(metric.to_owned(), BTreeMap::new());
        }
        let Some(watched) = self.metrics.get_mut(metric) else { return };
        for (name, value) in labels.iter().filter(|(name, _)| *name != METRIC_NAME) {
            let hash = self.hasher.hash_one(value);
            let values = match watched.get_mut(name) {
                Some(values) => values,
                None => watched.entry(name.to_owned()).or_default(),
            };
            if values.len() < VALUES_WATCHED_MAX {
                values.insert(hash);
            }
        }
    }

    /// Metric and label that grow most, and how many values it has among what was refused.
    fn strongest(&self) -> Option<(&str, &str, usize)> {
        let labels = self.metrics.iter().flat_map(|(metric, labels)| {
            labels.iter().map(move |(label, values)| (metric.as_str(), label.as_str(), values.len()))
        });
        labels.max_by_key(|(_, _, values)| *values)
    }
}

impl Census {
    /// Takes over limits.
    pub(super) fn limit(&self, config: &CardinalityConfig) {
        self.limit.set(config.series);
        self.per_metric.set(config.series_per_metric);
        let jobs = self.jobs();
        for (name, job) in &*jobs {
            job.limit(config, name);
        }
        config.clone_into(&mut self.config());
        self.room.fetch_add(1, Ordering::Relaxed);
    }

    /// The job `name`.
    pub(super) fn job(&self, name: &str) -> Arc<JobCensus> {
        let mut jobs = self.jobs();
        if let Some(job) = jobs.get(name) {
            return job.clone();
        }
        let job = jobs.entry(name.to_owned()).or_default().clone();
        job.limit(&self.config(), name);
        job
    }

    /// Series of all jobs.
    pub(super) fn series(&self) -> u64 {
        self.series.load(Ordering::Relaxed)
    }

    /// Figures of each job: name, series, refused series by limit, dropped samples by reason.
    pub(super) fn figures(&self) -> Vec<JobFigures> {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let of_job = |(name, job): (&String, &Arc<JobCensus>)| JobFigures {
            job: name.clone(),
            series: count(&job.series),
            refused: WHICH.map(|(which, name)| (name, count(&job.refused.0[which as usize]))).to_vec(),
            dropped: job.dropped.all().map(|(reason, counter)| (reason, count(counter))).to_vec(),
        };
        self.jobs().iter().map(of_job).collect()
    }

    fn metric(&self, name: &str) -> Arc<Metric> {
        let mut metrics = self.metrics();
        if let Some(metric) = metrics.get(name) {
            return metric.clone();
        }
        let metric = Arc::new(Metric { name: name.to_owned(), series: AtomicU64::new(0) });
        metrics.insert(name.to_owned(), metric.clone());
        metric
    }

    /// One series of `metric` is gone.
    fn leave_metric(&self, metric: Arc<Metric>) {
        if metric.series.fetch_sub(1, Ordering::Relaxed) > 1 {
            return;
        }
        let mut metrics = self.metrics();
        // The table's reference and this one: whoever looks it up holds the lock, so nobody counts in what is removed.
        if Arc::strong_count(&metric) <= 2 {
            metrics.remove(&metric.name);
        }
    }

    fn metrics(&self) -> MutexGuard<'_, HashMap<String, Arc<Metric>>> {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn config(&self) -> MutexGuard<'_, CardinalityConfig> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn jobs(&self) -> MutexGuard<'_, BTreeMap<String, Arc<JobCensus>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What [`Census::figures`] says of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JobFigures {
    pub(super) job: String,
    pub(super) series: u64,
    pub(super) refused: Vec<(&'static str, u64)>,
    pub(super) dropped: Vec<(&'static str, u64)>,
}

impl JobCensus {
    fn limit(&self, config: &CardinalityConfig, name: &str) {
        let limits = config.of_job(name);
        self.per_job.set(limits.series_per_job);
        self.per_scrape.set(limits.series_per_scrape);
    }

    /// Says at most once a minute that series were refused, and why they are so many.
    pub(super) fn warn(&self, job: &str, target: &str, now_ms: i64) {
        let mut growth = self.growth.lock().unwrap_or_else(PoisonError::into_inner);
        if growth.refused == 0 || growth.warned_ms.is_some_and(|at| now_ms < at.saturating_add(WARN_EVERY_MS)) {
            return;
        }
        let (metric, label, values) = growth.strongest().unwrap_or_default();
        let (metric, label) = (metric.to_owned(), label.to_owned());
        tracing::warn!(
            job,
            target,
            refused = growth.refused,
            metric,
            label,
            values,
            "new series refused by the limits of cardinality; the label has most values among them"
        );
        growth.metrics.clear();
        growth.refused = 0;
        growth.warned_ms = Some(now_ms);
    }
}

/// The series that one target holds. What it holds is free when it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    census: Arc<Census>,
    job: Arc<JobCensus>,
    n: u64,
    /// Metric of each series, where metrics are limited.
    metrics: HashMap<SeriesRef, Arc<Metric>>,
    /// `Census::room` when series were refused last.
    refused_at: u64,
}

impl Held {
    pub(super) fn new(census: Arc<Census>, job: Arc<JobCensus>) -> Self {
        Self { census, job, n: 0, metrics: HashMap::new(), refused_at: 0 }
    }

    pub(super) fn job(&self) -> &JobCensus {
        &self.job
    }

    /// Whether series that were refused may be tried again. Answers yes once for each time that there may be room.
    pub(super) fn may_have_room(&mut self) -> bool {
        let room = self.census.room.load(Ordering::Relaxed);
        let fits = self.job.per_scrape.admits(self.n)
            && self.job.per_job.admits(self.job.series.load(Ordering::Relaxed))
            && self.census.limit.admits(self.census.series());
        let has_changed = room != self.refused_at;
        self.refused_at = room;
        fits && has_changed
    }

    /// Which limit refuses one more series of the metric.
    fn refusal(&self, metric: Option<&Metric>) -> Option<Which> {
        let n_job = self.job.series.load(Ordering::Relaxed);
        let n_metric = metric.map_or(0, |m| m.series.load(Ordering::Relaxed));
        if !self.job.per_scrape.admits(self.n) {
            Some(Which::Scrape)
        } else if !self.job.per_job.admits(n_job) {
            Some(Which::Job)
        } else if metric.is_some() && !self.census.per_metric.admits(n_metric) {
            Some(Which::Metric)
        } else if !self.census.limit.admits(self.census.series()) {
            Some(Which::All)
        } else {
            None
        }
    }

    fn admit(&mut self, labels: &Labels) -> Result<Option<Arc<Metric>>, Which> {
        let metric = self.census.per_metric.get().map(|_| self.census.metric(labels.metric_name()));
        match self.refusal(metric.as_deref()) {
            None => Ok(metric),
            Some(which) => {
                self.job.refused.0[which as usize].fetch_add(1, Ordering::Relaxed);
                self.job.growth.lock().unwrap_or_else(PoisonError::into_inner).note(labels);
                tracing::trace!(limit = which.name(), series = %labels, "new series refused");
                Err(which)
            }
        }
    }

    fn add(&mut self, series: SeriesRef, metric: Option<Arc<Metric>>) {
        self.n += 1;
        self.job.series.fetch_add(1, Ordering::Relaxed);
        self.census.series.fetch_add(1, Ordering::Relaxed);
        if let Some(metric) = metric {
            metric.series.fetch_add(1, Ordering::Relaxed);
            self.metrics.insert(series, metric);
        }
    }

    /// Counts a series no more.
    pub(super) fn remove(&mut self, series: SeriesRef) {
        self.n = self.n.saturating_sub(1);
        self.job.series.fetch_sub(1, Ordering::Relaxed);
        self.census.series.fetch_sub(1, Ordering::Relaxed);
        self.census.room.fetch_add(1, Ordering::Relaxed);
        if let Some(metric) = self.metrics.remove(&series) {
            self.census.leave_metric(metric);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.job.series.fetch_sub(self.n, Ordering::Relaxed);
        self.census.series.fetch_sub(self.n, Ordering::Relaxed);
        self.census.room.fetch_add(1, Ordering::Relaxed);
        for metric in std::mem::take(&mut self.metrics).into_values() {
            self.census.leave_metric(metric);
        }
    }
}

/// A target's writer that counts the series it hands out and refuses those that are too many.
#[derive(Debug)]
pub(super) struct Counted {
    pub(super) writer: GroupWriter,
    pub(super) held: Held,
}

impl SeriesTable for Counted {
    type Ref = SeriesRef;
    type Error = AppendError;

    fn resolve(&mut self, labels: &Labels) -> Result<Option<SeriesRef>, AppendError> {
        let Ok(metric) = self.held.admit(labels) else { return Ok(None) };
        let series = self.writer.resolve(labels)?;
        self.held.add(series, metric);
        Ok(Some(series))
    }

    fn release(&mut self, series: SeriesRef) {
        self.writer.release(series);
        self.held.remove(series);
    }

    fn identity(&self, series: SeriesRef) -> u32 {
        self.writer.identity(series).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_with_most_values_is_the_one_that_grows() {
        let mut growth = Growth::default();
        for i in 0..50 {
            growth.note(&Labels::from_pairs([
                ("__name__", "a"),
                ("code", if i % 2 == 0 { "1" } else { "2" }),
                ("path", format!("/{i}").as_str()),
            ]));
            growth.note(&Labels::from_pairs([("__name__", "b"), ("x", "1")]));
        }
        assert_eq!(growth.strongest(), Some(("a", "path", 50)));
        assert_eq!(growth.refused, 100);
        for i in 0..2 * METRICS_WATCHED_MAX {
            growth.note(&Labels::from_pairs([("__name__", format!("m{i}").as_str())]));
        }
        assert_eq!(growth.metrics.len(), METRICS_WATCHED_MAX);
    }

    #[test]
    fn what_a_target_held_is_free_when_it_is_gone() {
        let census = Arc::<Census>::default();
        let config = CardinalityConfig { series: Some(2), series_per_metric: Some(1), ..CardinalityConfig::default() };
        census.limit(&config);
        let job = census.job("j");
        let labels = |name: &str| Labels::from_pairs([("__name__", name)]);
        let mut held = Held::new(census.clone(), job.clone());
        let metric = held.admit(&labels("a")).unwrap();
        // References of a writer, which the census does not look into.
        let db = crate::scrape::testing::database(crate::scrape::testing::TokioClock::new());
        let mut writer = db.writer();
        held.add(writer.resolve(&labels("a")).unwrap(), metric);
        assert_eq!(held.admit(&labels("a")).unwrap_err(), Which::Metric);
        let metric = held.admit(&labels("b")).unwrap();
        held.add(writer.resolve(&labels("b")).unwrap(), metric);
        let mut other = Held::new(census.clone(), job);
        other.may_have_room();
        assert_eq!(other.admit(&labels("c")).unwrap_err(), Which::All);
        assert!(!other.may_have_room());
        drop(held);
        assert!(other.may_have_room() && !other.may_have_room());
        assert!(other.admit(&labels("a")).is_ok());
        assert_eq!(census.series(), 0);
        let figures = &census.figures()[0];
        assert_eq!(
            figures.refused,
            [("series_per_scrape", 0), ("series_per_job", 0), ("series_per_metric", 1), ("series", 1)]
        );
    }
}
