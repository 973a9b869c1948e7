//! What goes to one destination next: samples from the log, relabelled, in the order of their arrival; where the log is
//! gone, from the store by their times.
//!
//! Blocking; owned by one task at a time. Nothing is remembered as sent before [`Queue::sent`].

use std::collections::HashMap;
use std::sync::Arc;

use promontory_config::RemoteWriteConfig;
use promontory_config::relabel;
use promontory_model::{Cancel, Columns, Labels, Queryable as _, ReadError, Select, SeriesBatch, TimeRange};
use promontory_storage::clock::Clock;
use promontory_storage::vfs::VfsError;
use promontory_storage::{Db, Fed, FedBatch, FedSeries, FedValue, Feed};

use super::message::{Families, Item, Point};
use super::position::{PositionFile, Progress};
use super::stats::Stats;

/// Bytes of the labels that are kept ready, those of all series together.
const LABELS_BYTES_MAX: usize = 64 << 20;
/// Bytes that a kept label set takes beside its text.
const LABELS_BYTES_EACH: usize = 64;
/// Times before the newest sent that are read again where the log is gone: what came late, or was under way.
const OVERLAP_MS: i64 = 2 * 60_000;
/// Times that are read from the store at once.
const WINDOW_MS: i64 = 5 * 60_000;
/// Samples of one step of such a reading.
const STEP_SAMPLES: usize = 20_000;

/// What reading gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gathered {
    /// As much as was asked for.
    Full,
    /// All there is.
    All,
}

pub(super) struct Queue {
    db: Db,
    clock: Arc<dyn Clock>,
    config: Arc<RemoteWriteConfig>,
    external: Labels,
    key: String,
    feed: Feed,
    file: PositionFile,
    /// Where reading stands; what is sent is stored.
    progress: Progress,
    /// Read and not sent.
    pub(super) pending: Vec<Item>,
    labels: LabelCache,
    batch: FedBatch,
    reading: Option<ByTime>,
    stats: Arc<Stats>,
}

/// Labels of series as they are sent; `None` of those that are not.
#[derive(Default)]
struct LabelCache {
    known: HashMap<FedSeries, Option<Labels>>,
    bytes: usize,
}

/// A reading of the store by times, one window after the other.
struct ByTime {
    /// Only series that the head has forgotten.
    is_forgotten: bool,
    window: TimeRange,
    batches: Vec<Arc<dyn SeriesBatch>>,
    /// Batch and series that come next.
    at: (usize, usize),
}

impl Queue {
    /// Goes on where the destination was left, or begins now.
    pub(super) fn open(
        db: Db,
        clock: Arc<dyn Clock>,
        config: Arc<RemoteWriteConfig>,
        external: Labels,
        key: String,
        mut file: PositionFile,
        stats: Arc<Stats>,
    ) -> Result<Self, VfsError> {
        let stored = file.load();
        let feed = db.feed(&key, stored.map(|progress| progress.log))?;
        let begins = Progress { log: feed.position(), newest: clock.now().0, by_time: None, forgotten: None };
        let progress = stored.unwrap_or(begins);
        if stored.is_none() {
            file.store(&progress)?;
        }
        stats.set_newest(progress.newest);
        let (labels, batch) = (LabelCache::default(), FedBatch::default());
        let pending = Vec::new();
        Ok(Self {
            db,
            clock,
            config,
            external,
            key,
            feed,
            file,
            progress,
            pending,
            labels,
            batch,
            reading: None,
            stats,
        })
    }

    /// Reads on until about `n` items are pending.
    pub(super) fn gather(&mut self, n: usize) -> Result<Gathered, ReadError> {
        let result = self.gather_some(n);
        self.stats.set_segment(self.progress.log.segment);
        self.stats.set_behind(self.feed.behind_bytes(), self.progress.by_time.or(self.progress.forgotten));
        result
    }

    fn gather_some(&mut self, n: usize) -> Result<Gathered, ReadError> {
        while self.pending.len() < n {
            if self.reading.is_some() || self.progress.by_time.is_some() {
                // What was read of a window is sent before the next one begins: so the place is known by its start.
                if !self.read_by_time(n)? {
                    return Ok(if self.pending.is_empty() { continue } else { Gathered::Full });
                }
                continue;
            }
            match self.read_log(n)? {
                Fed::More => {}
                Fed::End => {
                    if self.progress.forgotten.is_some() && self.pending.is_empty() {
                        self.progress.by_time = self.progress.forgotten;
                        continue;
                    }
                    return Ok(Gathered::All);
                }
                Fed::Gap => self.begin_anew()?,
            }
        }
        Ok(Gathered::Full)
    }

    fn read_log(&mut self, n: usize) -> Result<Fed, ReadError> {
        let mut batch = std::mem::take(&mut self.batch);
        let fed = self.feed.read(n.saturating_sub(self.pending.len()).max(1), &mut batch);
        let oldest = self.oldest();
        self.stats.lost(batch.n_lost);
        for sample in batch.samples.drain(..) {
            self.stats.came(&sample.value);
            if sample.t < oldest {
                self.stats.too_old();
                continue;
            }
            let is_histogram = matches!(sample.value, FedValue::Histogram(_));
            if is_histogram && !self.sends_histograms() {
                continue;
            }
            let Some(labels) = self.labels_of(sample.series, sample.t) else { continue };
            self.progress.newest = self.progress.newest.max(sample.t);
            let point = match sample.value {
                FedValue::Float(v) => Point::Float(v),
                FedValue::Histogram(h) => Point::Histogram(h),
            };
            self.pending.push(Item { labels, t: sample.t, point });
        }
        for (labels, exemplar) in batch.exemplars.drain(..) {
            if !self.config.send_exemplars {
                continue;
            }
            self.stats.came_exemplar();
            if let Some(labels) = sent_labels(&labels, &self.external, &self.config) {
                self.pending.push(Item { labels, t: exemplar.timestamp.0, point: Point::Exemplar(exemplar) });
            }
        }
        batch.n_lost = 0;
        self.batch = batch;
        self.progress.log = self.feed.position();
        fed
    }

    fn sends_histograms(&self) -> bool {
        self.config.send_native_histograms || self.config.message == promontory_config::remote::WriteMessage::Second
    }

    /// Samples before this time are not sent.
    fn oldest(&self) -> i64 {
        match self.config.queue.sample_age_limit.ms() {
            0 => i64::MIN,
            limit => self.clock.now().0.saturating_sub(limit),
        }
    }

    fn labels_of(&mut self, series: FedSeries, t: i64) -> Option<Labels> {
        if let Some(known) = self.labels.known.get(&series) {
            if known.is_none() {
                self.stats.relabelled_away();
            }
            return known.clone();
        }
        let Some(stored) = self.feed.labels(series) else {
            let (first, last) = self.progress.forgotten.unwrap_or((t, t));
            self.progress.forgotten = Some((first.min(t), last.max(t)));
            return None;
        };
        let sent = sent_labels(&stored, &self.external, &self.config);
        if sent.is_none() {
            self.stats.relabelled_away();
        }
        let bytes = sent.as_ref().map_or(0, |labels| labels.as_bytes().len()) + LABELS_BYTES_EACH;
        if self.labels.bytes + bytes > LABELS_BYTES_MAX {
            self.labels = LabelCache::default();
        }
        self.labels.bytes += bytes;
        self.labels.known.insert(series, sent.clone());
        sent
    }

    /// The log that is needed is gone: what it had is read by its times, and the log from here on.
    fn begin_anew(&mut self) -> Result<(), ReadError> {
        self.feed = self.db.feed(&self.key, None).map_err(ReadError::from)?;
        let first = self.progress.newest.saturating_sub(OVERLAP_MS).max(self.oldest());
        let last = self.db.newest_time().unwrap_or(i64::MIN).max(self.clock.now().0);
        let (first, last) = self.progress.by_time.map_or((first, last), |(f, l)| (f.min(first), l.max(last)));
        tracing::warn!(
            destination = %self.key,
            from_ms = first,
            to_ms = last,
            "the log was kept no longer for a destination that lags; its samples are read from the store by their times"
        );
        self.progress.log = self.feed.position();
        self.progress.by_time = (first <= last).then_some((first, last));
        self.progress.newest = self.progress.newest.max(last);
        Ok(())
    }

    /// Reads part of a window; false when the window ended.
    fn read_by_time(&mut self, n: usize) -> Result<bool, ReadError> {
        let Some((first, last)) = self.progress.by_time else {
            self.reading = None;
            return Ok(false);
        };
        let mut reading = match self.reading.take() {
            Some(reading) => reading,
            None => self.begin_window(first, last)?,
        };
        let mut columns = Columns::default();
        while self.pending.len() < n {
            let Some(batch) = reading.batches.get(reading.at.0).cloned() else {
                let next = reading.window.maxt.0.saturating_add(1);
                let is_end = next > last || reading.window.maxt.0 == i64::MAX;
                self.progress.by_time = (!is_end).then_some((next, last));
                if is_end && reading.is_forgotten {
                    self.progress.forgotten = None;
                }
                return Ok(false);
            };
            let from = reading.at.1;
            if from >= batch.n_series() {
                reading.at = (reading.at.0 + 1, 0);
                continue;
            }
            let rows = batch.rows_max(reading.window).max(1);
            let to = from.saturating_add((STEP_SAMPLES / rows).max(1)).min(batch.n_series());
            batch.read(from..to, reading.window, &mut columns)?;
            for i in from..to {
                self.take_column(&*batch, i, i - from, &columns, reading.is_forgotten);
            }
            reading.at.1 = to;
        }
        self.reading = Some(reading);
        Ok(true)
    }

    fn begin_window(&self, first: i64, last: i64) -> Result<ByTime, ReadError> {
        let window = TimeRange::new(first, last.min(first.saturating_add(WINDOW_MS - 1)));
        let cancel = Cancel::new();
        let selection = self.db.snapshot()?.select(&Select { range: window, matchers: &[], cancel: &cancel })?;
        for warning in selection.warnings {
            tracing::warn!(destination = %self.key, warning, "samples for remote write are missing");
        }
        let is_forgotten = self.progress.forgotten.is_some_and(|(_, to)| to == last);
        Ok(ByTime { is_forgotten, window, batches: selection.batches, at: (0, 0) })
    }

    fn take_column(
        &mut self,
        batch: &dyn SeriesBatch,
        series: usize,
        column: usize,
        columns: &Columns,
        forgotten: bool,
    ) {
        let stored = batch.labels(series);
        if forgotten && self.db.is_in_head(&stored) {
            return;
        }
        let Some(labels) = sent_labels(&stored, &self.external, &self.config) else { return };
        let column = columns.column(column);
        let oldest = self.oldest();
        let (sends_histograms, before) = (self.sends_histograms(), self.pending.len());
        let mut histograms = column.histogram_samples().peekable();
        for (row, &t) in columns.timestamps().iter().enumerate() {
            let histogram = histograms.next_if(|(at, _)| *at == row).map(|(_, h)| h);
            let point = match histogram {
                Some(h) if sends_histograms => Point::Histogram(h),
                Some(_) => continue,
                None if column.is_present(row) => Point::Float(column.values[row]),
                None => continue,
            };
            if t >= oldest {
                self.pending.push(Item { labels: labels.clone(), t, point });
            }
        }
        self.stats.came_by_time((self.pending.len() - before) as u64);
    }

    /// Remembers that everything pending was sent.
    pub(super) fn sent(&mut self) -> Result<(), VfsError> {
        self.pending.clear();
        self.stats.set_newest(self.progress.newest);
        self.file.store(&self.progress)?;
        self.feed.done(self.progress.log);
        Ok(())
    }

    /// What is known of metric families.
    pub(super) fn families(&self) -> Families {
        self.db.metadata()
    }
}

/// Labels as they are sent: with the external labels that the series lacks, relabelled; `None` when it is not sent.
fn sent_labels(stored: &Labels, external: &Labels, config: &RemoteWriteConfig) -> Option<Labels> {
    let labels = super::super::read::with_external(stored, external);
    let labels = if config.write_relabel_configs.is_empty() {
        Some(labels)
    } else {
        relabel::process(&labels, &config.write_relabel_configs)
    };
    labels.filter(|labels| !labels.is_empty())
}
