//! Where requests of samples end, by whatever protocol they came: a writer for each job's instance, while it is sent.
//!
//! Series of one job and instance arrive with the same timestamps, so each such pair has a writer of its own and its
//! series share a column of timestamps. What nobody sent for a while is forgotten, and the head may then drop it.
//! How a request's series are found again is the business of who reads the request.

use std::collections::HashMap;
use std::num::NonZero;

use promontory_model::{HistogramSample, Labels, Timestamp};
use promontory_storage::{AppendError, Appended, Db, Exemplar, ExemplarsAppended, GroupWriter, SeriesRef, TimeBounds};

/// Pairs of job and instance with a writer of their own; series of others share one.
const SOURCES_MAX: usize = 20_000;
/// A series is forgotten when it was not sent for this long.
pub(crate) const IDLE_MS: i64 = 15 * 60_000;
/// Time between two searches for idle series.
pub(crate) const SWEEP_MS: i64 = 60_000;
/// Samples this far ahead of the clock are refused.
pub(crate) const FUTURE_MS: i64 = 10 * 60_000;
/// Lists of pending samples that are kept for the next request, and how long each may be.
const SPARE_MAX: usize = 64;
const SPARE_SAMPLES_MAX: usize = 4_096;

/// A series that was sent before. There may be millions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    /// Position of the source, plus one.
    source: NonZero<u32>,
    pub(crate) series: SeriesRef,
    /// When it was last sent, s.
    used_s: u32,
}

impl Known {
    fn source(&self) -> usize {
        self.source.get() as usize - 1
    }

    /// Takes note that it is sent.
    pub(crate) fn set_used(&mut self, now_ms: i64) {
        self.used_s = seconds(now_ms);
    }

    /// Whether it was sent at or after the time that [`Sources::sweep`] gave.
    pub(crate) fn is_used_since(&self, since_ms: i64) -> bool {
        self.used_s >= seconds(since_ms)
    }
}

/// Whole seconds since 1970; good until 2106.
fn seconds(ms: i64) -> u32 {
    u32::try_from((ms / 1000).max(0)).unwrap_or(u32::MAX)
}

/// What waits to be appended to a source, in any order.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    pub(crate) samples: Vec<(SeriesRef, Timestamp, f64)>,
    pub(crate) histograms: Vec<(SeriesRef, Timestamp, HistogramSample)>,
    pub(crate) exemplars: Vec<(SeriesRef, Exemplar)>,
    /// Times since which series count, and histograms that begin then.
    starts: Vec<(SeriesRef, Timestamp, Option<HistogramSample>)>,
}

impl Pending {
    /// Takes note that what a series counts at `t` it has counted since `start_ms`: it is to have a zero there, like
    /// `histogram` if its sample is one. Times that say nothing, 0 and those that are not before `t`, are ignored.
    pub(crate) fn start(&mut self, series: SeriesRef, start_ms: i64, t: i64, histogram: Option<&HistogramSample>) {
        let is_again = || self.starts.last().is_some_and(|(last, start, _)| (*last, start.0) == (series, start_ms));
        if start_ms > 0 && start_ms < t && !is_again() {
            self.starts.push((series, Timestamp(start_ms), histogram.map(HistogramSample::begun)));
        }
    }
}

/// A job's instance, as far as it is sent.
struct Source {
    key: (String, String),
    writer: GroupWriter,
    n_series: usize,
    is_touched: bool,
    pending: Pending,
}

impl Source {
    fn append(
        &mut self,
        bounds: TimeBounds,
        pending: &mut Pending,
        appended: &mut Appended,
        exemplars: &mut ExemplarsAppended,
    ) -> Result<(), AppendError> {
        if pending.starts.is_empty() {
            appended.add(self.writer.append_at_within(bounds, &pending.samples, &pending.histograms)?);
        } else {
            self.append_from_starts(bounds, pending, appended)?;
        }
        let mut list = std::mem::take(&mut pending.exemplars);
        if !list.is_empty() {
            list.sort_by_key(|(_, e)| e.timestamp);
            exemplars.add(self.writer.append_exemplars(list)?);
        }
        Ok(())
    }

    /// Appends samples and, in between, the zeros with which series begin, which must come before all that follows of
    /// their series and after all that was before.
    fn append_from_starts(
        &mut self,
        bounds: TimeBounds,
        pending: &mut Pending,
        appended: &mut Appended,
    ) -> Result<(), AppendError> {
        pending.samples.sort_by_key(|s| s.1);
        pending.histograms.sort_by_key(|h| h.1);
        pending.starts.sort_by_key(|s| s.1);
        let (mut samples, mut histograms) = (&pending.samples[..], &pending.histograms[..]);
        let mut starts = &pending.starts[..];
        while let Some(next) = samples.first().map(|s| s.1).into_iter().chain(histograms.first().map(|h| h.1)).min() {
            let begun;
            (begun, starts) = starts.split_at(starts.partition_point(|s| s.1 < next));
            let zeros: Vec<_> = begun.iter().filter(|s| s.2.is_none()).map(|s| (s.0, s.1, 0.0)).collect();
            let empty: Vec<_> = begun.iter().filter_map(|s| Some((s.0, s.1, s.2.clone()?))).collect();
            self.writer.append_starts(&zeros, &empty)?;
            let end = starts.first().map_or(Timestamp(i64::MAX), |s| s.1);
            let (floats, others);
            (floats, samples) = samples.split_at(samples.partition_point(|s| s.1 <= end));
            (others, histograms) = histograms.split_at(histograms.partition_point(|h| h.1 <= end));
            appended.add(self.writer.append_at_within(bounds, floats, others)?);
        }
        Ok(())
    }
}

pub(crate) struct Sources {
    db: Db,
    sources: Vec<Source>,
    /// Position in `sources` by job and instance.
    by_key: HashMap<(String, String), usize>,
    /// Positions in `sources` whose series are all forgotten.
    free: Vec<usize>,
    /// Positions in `sources` with pending samples.
    touched: Vec<usize>,
    /// Empty lists for pending samples. A source has none between requests: those of thousands would add up.
    spare: Vec<Vec<(SeriesRef, Timestamp, f64)>>,
    swept_ms: i64,
}

impl Sources {
    pub(crate) fn new(db: Db) -> Self {
        Self {
            db,
            sources: Vec::new(),
            by_key: HashMap::new(),
            free: Vec::new(),
            touched: Vec::new(),
            spare: Vec::new(),
            swept_ms: i64::MIN,
        }
    }

    pub(crate) fn db(&self) -> &Db {
        &self.db
    }

    /// Sources with series.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Makes a series of these labels known. It is the caller's to remember it, and to [`Sources::forget`] it.
    ///
    /// # Errors
    /// [`AppendError`] when labels are missing or too long, or the head takes no further series.
    pub(crate) fn learn(&mut self, labels: &Labels, now_ms: i64) -> Result<Known, AppendError> {
        let at = self.position(labels);
        let source = &mut self.sources[at];
        let resolved = source.writer.resolve(labels);
        source.n_series += usize::from(resolved.is_ok());
        if source.n_series == 0 {
            self.give_up(at);
        }
        let series = resolved?;
        let source = NonZero::<u32>::MIN.saturating_add(at as u32);
        Ok(Known { source, series, used_s: seconds(now_ms) })
    }

    /// Whether a known series is that of `labels`.
    pub(crate) fn has_labels(&self, known: &Known, labels: &Labels) -> bool {
        self.sources[known.source()].writer.has_labels(known.series, labels)
    }

    /// Gives up a series that the caller knew.
    pub(crate) fn forget(&mut self, known: &Known) {
        let source = &mut self.sources[known.source()];
        source.writer.release(known.series);
        source.n_series -= 1;
        if source.n_series == 0 {
            self.give_up(known.source());
        }
    }

    /// A source exists as long as it has series; then its group is free for who finds these again.
    fn give_up(&mut self, at: usize) {
        let source = &mut self.sources[at];
        source.writer = self.db.writer();
        self.by_key.remove(&source.key);
        self.free.push(at);
    }

    /// When it is time to search for idle series: the time since which a series that is not to be forgotten was used.
    pub(crate) fn sweep(&mut self, now_ms: i64) -> Option<i64> {
        if now_ms < self.swept_ms.saturating_add(SWEEP_MS) {
            // A clock that went back must not stop the sweeping for as long as it went.
            self.swept_ms = self.swept_ms.min(now_ms);
            return None;
        }
        self.swept_ms = now_ms;
        Some(now_ms.saturating_sub(IDLE_MS))
    }

    /// What waits to be appended to the source of a known series.
    pub(crate) fn pending(&mut self, known: &Known) -> &mut Pending {
        let at = known.source();
        let source = &mut self.sources[at];
        if !std::mem::replace(&mut source.is_touched, true) {
            self.touched.push(at);
            source.pending.samples = self.spare.pop().unwrap_or_default();
        }
        &mut source.pending
    }

    /// Appends what is pending, or drops it. It is safe after the next commit.
    ///
    /// # Errors
    /// [`AppendError`] when the store takes nothing; part may be appended, and is accepted again.
    pub(crate) fn flush(&mut self, is_wanted: bool) -> Result<(Appended, ExemplarsAppended), AppendError> {
        let (mut appended, mut exemplars) = (Appended::default(), ExemplarsAppended::default());
        let mut bounds = None;
        let mut result = Ok(());
        for at in self.touched.drain(..) {
            let source = &mut self.sources[at];
            source.is_touched = false;
            let mut pending = std::mem::take(&mut source.pending);
            if is_wanted && result.is_ok() {
                let bounds = *bounds.get_or_insert_with(|| source.writer.time_bounds());
                result = source.append(bounds, &mut pending, &mut appended, &mut exemplars);
            }
            let mut samples = pending.samples;
            if self.spare.len() < SPARE_MAX && samples.capacity() <= SPARE_SAMPLES_MAX {
                samples.clear();
                self.spare.push(samples);
            }
        }
        result.map(|()| (appended, exemplars))
    }

    /// Position of the source of a series with these labels.
    fn position(&mut self, labels: &Labels) -> usize {
        let text = |name: &str| labels.get(name).unwrap_or("").to_owned();
        let mut key = (text("job"), text("instance"));
        if !self.by_key.contains_key(&key) && self.by_key.len() >= SOURCES_MAX {
            key = (String::new(), String::new());
        }
        if let Some(at) = self.by_key.get(&key) {
            return *at;
        }
        let source = Source {
            key: key.clone(),
            writer: self.db.writer(),
            n_series: 0,
            is_touched: false,
            pending: Pending::default(),
        };
        let at = match self.free.pop() {
            Some(at) => {
                self.sources[at] = source;
                at
            }
            None => {
                self.sources.push(source);
                self.sources.len() - 1
            }
        };
        self.by_key.insert(key, at);
        at
    }
}

#[cfg(test)]
mod tests {
    use promontory_storage::DbOptions;
    use promontory_storage::clock::ManualClock;
    use promontory_storage::vfs::SimVfs;

    use super::*;

    #[test]
    fn targets_that_come_back_in_any_order_continue_their_groups() {
        let clock = std::sync::Arc::new(ManualClock::new(Timestamp(0)));
        let options = DbOptions { commit_interval_ms: None, ..DbOptions::server() };
        let (db, _) = Db::open(std::sync::Arc::new(SimVfs::new()), clock, "d".as_ref(), options).unwrap();
        let mut sources = Sources::new(db.clone());
        let labels = |name: &str, job: &str| Labels::from_pairs([("__name__", name), ("job", job)]);
        let known = ["a", "b"].map(|job| sources.learn(&labels("old", job), 0).unwrap());
        known.iter().for_each(|known| sources.forget(known));
        assert_eq!(sources.len(), 0);
        for job in ["a", "b"] {
            for name in ["old", "new"] {
                sources.learn(&labels(name, job), 0).unwrap();
            }
        }
        assert_eq!((sources.len(), db.status().head_groups), (2, 2));
    }
}
