//! The receiving end of remote write: knows senders' series by their order and their labels and appends their samples.

use promontory_model::{Labels, METRIC_NAME, Timestamp};
use promontory_storage::{AppendError, Appended, Db, Exemplar, ExemplarsAppended};

use crate::sources::{FUTURE_MS, Known, Sources};

use super::histogram;
use super::interned;
use super::known::{Id, KnownSeries};
use super::wire::{self, Exemplar as SentExemplar, Expected, Limits, Request, ScanError, Series};

/// Bytes of one series' labels.
pub(super) const LABELS_BYTES_MAX: usize = 64 << 10;
/// Series of which it is said what is wrong with them.
const FAULTS_SHOWN: usize = 10;

/// What became of a request's samples.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Received {
    /// Samples of the request, histograms included.
    pub(crate) n_samples: usize,
    pub(crate) appended: Appended,
    /// Samples too far in the future.
    pub(crate) future: u64,
    /// Samples of new series for which the head has no room.
    pub(crate) no_room: u64,
    /// Series without a name, with bad or too long labels or a label twice. Version 1 leaves their samples out without
    /// an error.
    pub(crate) bad_series: u64,
    /// What is wrong with the first of them; version 2 tells its senders.
    pub(crate) faults: Vec<String>,
    /// Native histograms that break a rule, and what is wrong with the first.
    pub(crate) invalid_histograms: u64,
    pub(crate) invalid: Option<String>,
    /// Exemplars; those that are not kept are no error, for nobody could do anything about it.
    pub(crate) exemplars: ExemplarsAppended,
    /// Metric families of which type, unit and help are not kept for want of room.
    pub(crate) families_left_out: usize,
}

impl Received {
    /// Counts a series that is left out.
    fn bad(&mut self, fault: impl FnOnce() -> String) {
        self.bad_series += 1;
        if self.faults.len() < FAULTS_SHOWN {
            self.faults.push(fault());
        }
    }
}

/// Why nothing of a request was appended, or not all that could have been.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    /// The request is damaged or too large; sent again, it will be refused again.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// The store takes nothing; the request is to be sent again.
    #[error(transparent)]
    Append(#[from] AppendError),
}

pub(crate) struct Receiver {
    series: KnownSeries<Known>,
    sources: Sources,
    /// Whether series begin with a zero at the time from which senders say that they count.
    zero_starts: bool,
}

/// What came of one series, exemplars aside.
struct Came<'a> {
    samples: &'a [(i64, f64)],
    /// Since when each sample counts; none where the sender cannot say it.
    starts: &'a [i64],
    histograms: &'a [&'a [u8]],
}

impl Receiver {
    pub(crate) fn new(db: Db, zero_starts: bool) -> Self {
        Self { series: KnownSeries::new(), sources: Sources::new(db), zero_starts }
    }

    /// Appends all samples of a request of version 1 that can be appended. They are safe after the next commit.
    ///
    /// # Errors
    /// [`ReceiveError::Scan`]: nothing was appended.
    pub(crate) fn append(&mut self, bytes: &[u8], limits: Limits, now_ms: i64) -> Result<Received, ReceiveError> {
        self.sweep(now_ms);
        let mut received = Received::default();
        let staged = self.stage(Request::new(bytes, limits), now_ms, &mut received);
        self.finish(received, staged)
    }

    /// As [`Receiver::append`], of a request of version 2.
    pub(crate) fn append_interned(
        &mut self,
        bytes: &[u8],
        limits: interned::Limits,
        now_ms: i64,
    ) -> Result<Received, ReceiveError> {
        self.sweep(now_ms);
        let mut received = Received::default();
        let request = interned::Request::new(bytes, limits).map_err(ReceiveError::from);
        let staged = request.and_then(|request| self.stage_interned(request, now_ms, &mut received));
        self.finish(received, staged)
    }

    fn finish(&mut self, mut received: Received, staged: Result<(), ReceiveError>) -> Result<Received, ReceiveError> {
        let flushed = self.sources.flush(staged.is_ok());
        staged?;
        (received.appended, received.exemplars) = flushed?;
        Ok(received)
    }

    /// Gives every sample to the source of its series.
    fn stage(&mut self, mut request: Request<'_>, now_ms: i64, received: &mut Received) -> Result<(), ReceiveError> {
        let mut series = Series::default();
        // The series before, and its labels.
        let mut last: Option<(Id, &[u8])> = None;
        loop {
            let expected = last.and_then(|(id, labels)| self.series.after(id, labels));
            if !request.next(expected.map_or_else(Expected::default, |(_, labels)| labels), &mut series)? {
                break;
            }
            let expected = expected.filter(|_| series.is_expected).map(|(id, _)| id);
            let (samples, histograms) = (&series.samples, &series.histograms);
            if samples.is_empty() && histograms.is_empty() && series.exemplars.is_empty() {
                continue;
            }
            let n_samples = samples.len() + histograms.len();
            let Some(id) = self.identify(expected, series.labels, n_samples, now_ms, received)? else { continue };
            if let Some(last) = last
                && expected.is_none()
            {
                self.series.set_after(last, (id, series.labels));
            }
            last = Some((id, series.labels));
            let exemplars = series.exemplars.iter().filter_map(|bytes| wire::exemplar(bytes));
            self.stage_series(id, Came { samples, starts: &[], histograms }, exemplars, now_ms, received);
        }
        received.n_samples = request.n_samples();
        let families = request.families().iter().filter_map(|bytes| wire::family(bytes));
        received.families_left_out = self.sources.db().learn_metadata(families);
        Ok(())
    }

    /// As [`Receiver::stage`]; says what is wrong with series that are left out.
    fn stage_interned(
        &mut self,
        mut request: interned::Request<'_>,
        now_ms: i64,
        received: &mut Received,
    ) -> Result<(), ReceiveError> {
        let mut series = interned::Series::default();
        let mut last = None;
        let mut last_labels = Vec::new();
        while request.next(&mut series)? {
            if let Some(fault) = series.fault.take() {
                received.bad(|| fault);
                continue;
            }
            if series.samples.is_empty() && series.histograms.is_empty() {
                let labels = || shown_labels(&series.labels);
                received.bad(|| {
                    format!("TimeSeries must contain at least one sample or histogram for series {}", labels())
                });
                continue;
            }
            let expected = last.and_then(|id| self.series.after(id, &last_labels));
            let expected = expected.filter(|(_, labels)| labels.is(&series.labels)).map(|(id, _)| id);
            let n_samples = series.samples.len() + series.histograms.len();
            let Some(id) = self.identify(expected, &series.labels, n_samples, now_ms, received)? else { continue };
            if let Some(last) = last
                && expected.is_none()
            {
                self.series.set_after((last, &last_labels), (id, &series.labels));
            }
            last = Some(id);
            let exemplars = series.exemplars.drain(..);
            let starts = if self.zero_starts { &series.starts[..] } else { &[] };
            let came = Came { samples: &series.samples, starts, histograms: &series.histograms };
            self.stage_series(id, came, exemplars, now_ms, received);
            std::mem::swap(&mut last_labels, &mut series.labels);
        }
        received.n_samples = request.n_samples();
        received.families_left_out = self.sources.db().learn_metadata(request.take_families());
        Ok(())
    }

    /// The series with these labels, where it is not the expected one; `None`, and counted, when it cannot be stored.
    fn identify(
        &mut self,
        expected: Option<Id>,
        labels: &[u8],
        n_samples: usize,
        now_ms: i64,
        received: &mut Received,
    ) -> Result<Option<Id>, ReceiveError> {
        if expected.is_some() {
            return Ok(expected);
        }
        match self.look_up(labels, now_ms) {
            Ok(Some(id)) => Ok(Some(id)),
            Ok(None) | Err(AppendError::EmptyLabels | AppendError::LabelsTooLong { .. }) => {
                received.bad(|| format!("invalid metric name or labels, got {}", shown_labels(labels)));
                Ok(None)
            }
            // The series that are there already go on.
            Err(AppendError::IndexFull) => {
                received.no_room += n_samples as u64;
                Ok(None)
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Gives what came of a series to its source.
    fn stage_series<'a>(
        &mut self,
        id: Id,
        came: Came<'_>,
        exemplars: impl Iterator<Item = SentExemplar<'a>>,
        now_ms: i64,
        received: &mut Received,
    ) {
        let future = now_ms.saturating_add(FUTURE_MS);
        let known = self.series.value(id);
        known.set_used(now_ms);
        let pending = self.sources.pending(known);
        for (i, &(t, v)) in came.samples.iter().enumerate() {
            if t > future {
                received.future += 1;
                continue;
            }
            if let Some(start_ms) = came.starts.get(i) {
                pending.start(known.series, *start_ms, t, None);
            }
            pending.samples.push((known.series, Timestamp(t), v));
        }
        for message in came.histograms {
            match histogram::read_started(message) {
                Ok((t, _, _)) if t.0 > future => received.future += 1,
                Ok((t, sample, start_ms)) => {
                    if self.zero_starts {
                        pending.start(known.series, start_ms, t.0, Some(&sample));
                    }
                    pending.histograms.push((known.series, t, sample));
                }
                Err(e) => {
                    received.invalid_histograms += 1;
                    received.invalid.get_or_insert_with(|| e.to_string());
                }
            }
        }
        // One far ahead would keep out all that follow.
        pending.exemplars.extend(exemplars.filter(|e| e.t <= future).map(|e| {
            let (labels, timestamp) = (Labels::from_pairs(e.labels), Timestamp(e.t));
            (known.series, Exemplar { labels, value: e.value, timestamp, has_timestamp: true })
        }));
    }

    /// The series with these labels, known or new; `None` when they are not valid.
    fn look_up(&mut self, bytes: &[u8], now_ms: i64) -> Result<Option<Id>, AppendError> {
        let Some(labels) = valid_labels(bytes) else { return Ok(None) };
        let is_it = |known: &Known| self.sources.has_labels(known, &labels);
        if let Some(id) = self.series.find(bytes, is_it) {
            return Ok(Some(id));
        }
        let known = self.sources.learn(&labels, now_ms)?;
        Ok(Some(self.series.insert(bytes, known)))
    }

    /// Forgets what was not sent for a while.
    fn sweep(&mut self, now_ms: i64) {
        let Some(since) = self.sources.sweep(now_ms) else { return };
        self.series.retain(|known| {
            let is_kept = known.is_used_since(since);
            if !is_kept {
                self.sources.forget(known);
            }
            is_kept
        });
    }

    #[cfg(test)]
    pub(crate) fn n_known(&self) -> (usize, usize) {
        (self.series.len(), self.sources.len())
    }
}

/// Labels as they are shown to who sent them.
fn shown_labels(bytes: &[u8]) -> String {
    const SHOWN_MAX: usize = 20;
    let pairs = wire::labels(bytes).unwrap_or_default();
    let pair = |(name, value): &(&str, &str)| {
        let short: String = value.chars().take(100).collect();
        format!("{name}={short:?}")
    };
    let dots = if pairs.len() > SHOWN_MAX { ", …" } else { "" };
    format!("{{{}{dots}}}", pairs.iter().take(SHOWN_MAX).map(pair).collect::<Vec<_>>().join(", "))
}

/// The label set, when it has a name, every label has one too and none comes twice.
fn valid_labels(bytes: &[u8]) -> Option<Labels> {
    if bytes.len() > LABELS_BYTES_MAX {
        return None;
    }
    let mut pairs = wire::labels(bytes)?;
    pairs.sort_unstable();
    let unique = pairs.windows(2).all(|w| w[0].0 != w[1].0);
    let named = pairs.iter().all(|(name, _)| !name.is_empty());
    pairs.retain(|(_, value)| !value.is_empty());
    let has_metric = pairs.iter().any(|(name, _)| *name == METRIC_NAME);
    (unique && named && has_metric).then(|| Labels::from_sorted(pairs))
}
