//! Where every way in but scraping and remote write ends: labelled samples become rows of their source's group.
//!
//! Samples are safe when [`Store::append`] has returned.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use promontory_model::{HistogramSample, Labels, MetricMetadata, Timestamp};
use promontory_storage::clock::Clock;
use promontory_storage::{AppendError, Appended, Db, Exemplar, WriteError};
use rapidhash::fast::RandomState;

use crate::sources::{FUTURE_MS, Known, Sources};

/// How samples came here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// OpenTelemetry's protocol.
    Otlp,
    /// Lines of InfluxDB.
    Influx,
    /// An exposition that was pushed.
    Push,
    /// An exposition of any age.
    Import,
}

impl Protocol {
    pub(super) const ALL: [Self; 4] = [Self::Otlp, Self::Influx, Self::Push, Self::Import];

    /// The value of a label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Otlp => "otlp",
            Self::Influx => "influx",
            Self::Push => "push",
            Self::Import => "import",
        }
    }
}

/// What came in by one protocol.
#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicU64,
    refused: AtomicU64,
}

/// What a request brings, in any order.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) samples: Vec<(Labels, i64, f64)>,
    pub(super) histograms: Vec<(Labels, i64, HistogramSample)>,
    pub(super) exemplars: Vec<(Labels, Exemplar)>,
    pub(super) starts: Vec<Start>,
    /// By metric.
    pub(super) metadata: Vec<(String, MetricMetadata)>,
}

/// Since when a series of the batch has counted what one of its samples says.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) labels: Labels,
    /// Time of the sample.
    pub(super) t_ms: i64,
    pub(super) start_ms: i64,
    /// The sample, where it is a histogram.
    pub(super) histogram: Option<HistogramSample>,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Stored {
    pub(super) appended: Appended,
    /// Samples too far in the future.
    future: u64,
    /// Samples of new series for which the head has no room.
    no_room: u64,
    /// Samples of series without labels, or with too long ones.
    bad_labels: u64,
}

impl Stored {
    pub(super) fn refused(&self) -> u64 {
        self.appended.refused() + self.future + self.no_room + self.bad_labels
    }

    /// Why samples were refused, with their numbers; empty when none was.
    pub(super) fn reasons(&self) -> String {
        let a = self.appended;
        let reasons = [
            (a.out_of_order, "out of order sample"),
            (a.duplicates, "duplicate sample for timestamp"),
            (a.too_old, "too old sample"),
            (a.out_of_bounds, "out of bounds"),
            (self.future, "out of bounds: timestamp is too far in the future"),
            (self.no_room, "series limit of the head reached"),
            (self.bad_labels, "labels take more than labels_bytes_max"),
        ];
        let texts = reasons.iter().filter(|(n, _)| *n > 0).map(|(n, reason)| format!("{reason} ({n} samples)"));
        texts.collect::<Vec<_>>().join("; ")
    }
}

/// Why a batch was not stored; it may be sent again.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Write(#[from] WriteError),
}

pub(super) struct Store {
    db: Db,
    clock: Arc<dyn Clock>,
    /// Held while samples are appended, never across I/O of the caller.
    state: Mutex<State>,
    counts: [Counts; Protocol::ALL.len()],
}

struct State {
    series: HashMap<Labels, Known, RandomState>,
    sources: Sources,
}

impl Store {
    pub(super) fn new(db: Db, clock: Arc<dyn Clock>) -> Self {
        let state = State { series: HashMap::default(), sources: Sources::new(db.clone()) };
        Self { db, clock, state: Mutex::new(state), counts: Default::default() }
    }

    pub(super) fn db(&self) -> &Db {
        &self.db
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.clock.now().0
    }

    /// Stores all samples that can be stored and waits until they are safe.
    ///
    /// # Errors
    /// [`StoreError`] when the store takes nothing; part of the samples may be stored, and equal ones are accepted
    /// again.
    pub(super) fn append(&self, protocol: Protocol, batch: Batch) -> Result<Stored, StoreError> {
        let now_ms = self.now_ms();
        // A panic while appending leaves writers that the head keeps consistent by itself, so going on is safe.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.sweep(now_ms);
        let mut stored = Stored::default();
        let staged = state.stage(batch.samples, batch.histograms, now_ms, &mut stored);
        let staged = staged.and_then(|()| state.stage_beside(batch.exemplars, batch.starts, now_ms));
        let flushed = state.sources.flush(staged.is_ok());
        drop(state);
        staged?;
        (stored.appended, _) = flushed?;
        if self.db.learn_metadata(batch.metadata) > 0 {
            tracing::warn!(protocol = protocol.as_str(), "types and help texts are not kept: there are too many");
        }
        self.db.commit()?;
        self.count(protocol, stored.appended.accepted, stored.refused());
        Ok(stored)
    }

    pub(super) fn count(&self, protocol: Protocol, accepted: u64, refused: u64) {
        let counts = &self.counts[protocol as usize];
        counts.accepted.fetch_add(accepted, Ordering::Relaxed);
        counts.refused.fetch_add(refused, Ordering::Relaxed);
    }

    /// Accepted and refused samples of each protocol.
    pub(super) fn totals(&self) -> [(Protocol, u64, u64); Protocol::ALL.len()] {
        Protocol::ALL.map(|protocol| {
            let counts = &self.counts[protocol as usize];
            (protocol, counts.accepted.load(Ordering::Relaxed), counts.refused.load(Ordering::Relaxed))
        })
    }
}

impl State {
    /// Gives every sample to the source of its series.
    fn stage(
        &mut self,
        samples: Vec<(Labels, i64, f64)>,
        histograms: Vec<(Labels, i64, HistogramSample)>,
        now_ms: i64,
        stored: &mut Stored,
    ) -> Result<(), AppendError> {
        let future = now_ms.saturating_add(FUTURE_MS);
        for (labels, t, v) in samples {
            if t > future {
                stored.future += 1;
            } else if let Some(known) = self.look_up(labels, now_ms, stored)? {
                self.sources.pending(&known).samples.push((known.series, Timestamp(t), v));
            }
        }
        for (labels, t, histogram) in histograms {
            if t > future {
                stored.future += 1;
            } else if let Some(known) = self.look_up(labels, now_ms, stored)? {
                self.sources.pending(&known).histograms.push((known.series, Timestamp(t), histogram));
            }
        }
        Ok(())
    }

    /// Does the same with what is no error if it is not kept, for nobody could do anything about it.
    fn stage_beside(
        &mut self,
        exemplars: Vec<(Labels, Exemplar)>,
        starts: Vec<Start>,
        now_ms: i64,
    ) -> Result<(), AppendError> {
        let future = now_ms.saturating_add(FUTURE_MS);
        for (labels, exemplar) in exemplars.into_iter().filter(|(_, e)| e.timestamp.0 <= future) {
            if let Some(known) = self.look_up(labels, now_ms, &mut Stored::default())? {
                self.sources.pending(&known).exemplars.push((known.series, exemplar));
            }
        }
        for Start { labels, t_ms, start_ms, histogram } in starts.into_iter().filter(|s| s.t_ms <= future) {
            if let Some(known) = self.look_up(labels, now_ms, &mut Stored::default())? {
                self.sources.pending(&known).start(known.series, start_ms, t_ms, histogram.as_ref());
            }
        }
        Ok(())
    }

    /// The series with these labels, known or new; `None`, and counted, when it cannot be stored.
    fn look_up(&mut self, labels: Labels, now_ms: i64, stored: &mut Stored) -> Result<Option<Known>, AppendError> {
        if let Some(known) = self.series.get_mut(&labels) {
            known.set_used(now_ms);
            return Ok(Some(*known));
        }
        match self.sources.learn(&labels, now_ms) {
            Ok(known) => {
                self.series.insert(labels, known);
                Ok(Some(known))
            }
            Err(AppendError::EmptyLabels | AppendError::LabelsTooLong { .. }) => {
                stored.bad_labels += 1;
                Ok(None)
            }
            // The series that are there already go on.
            Err(AppendError::IndexFull) => {
                stored.no_room += 1;
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    /// Forgets what was not sent for a while.
    fn sweep(&mut self, now_ms: i64) {
        let Some(since) = self.sources.sweep(now_ms) else { return };
        self.series.retain(|_, known| {
            let is_kept = known.is_used_since(since);
            if !is_kept {
                self.sources.forget(known);
            }
            is_kept
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::testing::{Fixture, labels};
    use crate::sources::{IDLE_MS, SWEEP_MS};

    #[test]
    fn samples_and_exemplars_of_a_batch_are_stored_and_counted() {
        let f = Fixture::new(1_000_000);
        let exemplar = Exemplar {
            labels: labels(&[("trace_id", "a")]),
            value: 3.0,
            timestamp: Timestamp(999_000),
            has_timestamp: true,
        };
        let series = |name: &str| labels(&[("__name__", name), ("job", "j")]);
        let batch = Batch {
            samples: vec![
                (series("a"), 999_000, 1.0),
                (series("a"), 998_000, 2.0),
                (series("b"), 1_000_000 + FUTURE_MS + 1, 2.0),
                (Labels::empty(), 1, 1.0),
            ],
            exemplars: vec![(series("a"), exemplar)],
            ..Batch::default()
        };
        let stored = f.store().append(Protocol::Otlp, batch).unwrap();
        assert_eq!((stored.appended.accepted, stored.refused()), (2, 2));
        assert_eq!(stored.reasons(), {
            "out of bounds: timestamp is too far in the future (1 samples); \
             labels take more than labels_bytes_max (1 samples)"
        });
        assert_eq!(f.values("a"), ["{__name__=\"a\",job=\"j\"} 998000:2 999000:1"]);
        assert_eq!(f.store().totals()[0], (Protocol::Otlp, 2, 2));
        let selectors = [vec![promontory_model::Matcher::equal("job", "j")]];
        let kept = f.db.exemplars(&selectors, promontory_model::TimeRange::new(0, 1_000_000));
        assert_eq!(kept[0].exemplars[0].value, 3.0);
    }

    #[test]
    fn series_that_nobody_sends_are_forgotten() {
        let f = Fixture::new(1_000_000);
        let one = |t| Batch { samples: vec![(labels(&[("__name__", "a"), ("job", "j")]), t, 1.0)], ..Batch::default() };
        f.store().append(Protocol::Push, one(1_000_000)).unwrap();
        let known = || {
            let state = f.store().state.lock().unwrap();
            (state.series.len(), state.sources.len())
        };
        assert_eq!(known(), (1, 1));
        f.set_now(1_000_000 + IDLE_MS + SWEEP_MS);
        f.store().append(Protocol::Push, Batch::default()).unwrap();
        assert_eq!(known(), (0, 0));
        f.store().append(Protocol::Push, one(1_000_000 + IDLE_MS)).unwrap();
        assert_eq!(known(), (1, 1));
        assert_eq!(f.values("a").len(), 1);
    }
}
