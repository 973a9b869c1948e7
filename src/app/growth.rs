//! Which metrics and labels grow: counts of series and values, noted every few minutes for an hour.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use promontory_storage::{Cardinality, Count};

/// Entries of each kind that are counted and noted; what is smaller grows unseen until it is among them.
pub(super) const NOTED_MAX: usize = 1_000;
/// Time between two notes, ms.
const NOTE_MS: i64 = 5 * 60_000;
/// Notes that are kept: an hour of them.
const NOTES_MAX: usize = 13;

/// Counts by name.
type Counts = BTreeMap<String, u64>;

/// Counts at one time.
#[derive(Debug)]
struct Note {
    at_ms: i64,
    metrics: Counts,
    labels: Counts,
}

/// The notes of the last hour.
#[derive(Debug, Default)]
pub(super) struct Growth(Mutex<VecDeque<Note>>);

/// What has grown.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Grown {
    /// The time that the counts of now are compared with.
    pub(super) since_ms: i64,
    /// Metrics with the series they have more, most first.
    pub(super) metrics: Vec<(String, u64)>,
    /// Labels with the values they have more, most first.
    pub(super) labels: Vec<(String, u64)>,
}

impl Growth {
    /// Notes the counts of `now` where the last ones are old enough.
    pub(super) fn note(&self, now_ms: i64, counts: impl FnOnce() -> Cardinality) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back begins anew.
        if notes.back().is_some_and(|last| now_ms < last.at_ms) {
            notes.clear();
        }
        if notes.back().is_some_and(|last| now_ms - last.at_ms < NOTE_MS) {
            return;
        }
        let now = counts();
        notes.push_back(Note {
            at_ms: now_ms,
            metrics: by_name(now.series_by_metric),
            labels: by_name(now.values_by_label),
        });
        if notes.len() > NOTES_MAX {
            notes.pop_front();
        }
    }

    /// The `limit` metrics and labels that have grown most since the oldest note; `None` without one.
    pub(super) fn since(&self, now: &Cardinality, limit: usize) -> Option<Grown> {
        let notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = notes.front()?;
        Some(Grown {
            since_ms: oldest.at_ms,
            metrics: grown(&oldest.metrics, &now.series_by_metric, limit),
            labels: grown(&oldest.labels, &now.values_by_label, limit),
        })
    }
}

fn by_name(counts: Vec<Count>) -> Counts {
    counts.into_iter().map(|c| (c.name, c.value)).collect()
}

fn grown(before: &Counts, now: &[Count], limit: usize) -> Vec<(String, u64)> {
    let more = |c: &Count| c.value.saturating_sub(before.get(&c.name).copied().unwrap_or(0));
    let mut out: Vec<(String, u64)> = now.iter().map(|c| (c.name.clone(), more(c))).filter(|(_, n)| *n > 0).collect();
    out.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    out.truncate(limit);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(metrics: &[(&str, u64)], labels: &[(&str, u64)]) -> Cardinality {
        let list = |all: &[(&str, u64)]| all.iter().map(|(n, v)| Count { name: (*n).to_owned(), value: *v }).collect();
        Cardinality { series_by_metric: list(metrics), values_by_label: list(labels), ..Cardinality::default() }
    }

    #[test]
    fn growth_is_told_since_the_oldest_note() {
        let growth = Growth::default();
        let now = counts(&[("a", 9), ("b", 5), ("c", 3)], &[("pod", 4)]);
        assert_eq!(growth.since(&now, 2), None);
        growth.note(0, || counts(&[("a", 9), ("b", 1), ("d", 7)], &[("pod", 4)]));
        growth.note(NOTE_MS - 1, || panic!("too early"));
        growth.note(NOTE_MS, || now);
        let now = counts(&[("a", 10), ("b", 5), ("c", 3)], &[("pod", 6)]);
        let named = |all: &[(&str, u64)]| all.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect::<Vec<_>>();
        let expected = Grown { since_ms: 0, metrics: named(&[("b", 4), ("c", 3)]), labels: named(&[("pod", 2)]) };
        assert_eq!(growth.since(&now, 2), Some(expected));
        for i in 2..=NOTES_MAX as i64 {
            growth.note(i * NOTE_MS, || counts(&[], &[]));
        }
        assert_eq!(growth.since(&now, 1).map(|g| g.since_ms), Some(NOTE_MS));
        growth.note(5, || counts(&[("a", 1)], &[]));
        assert_eq!(
            growth.since(&now, 1),
            Some(Grown { since_ms: 5, metrics: named(&[("a", 9)]), labels: named(&[("pod", 6)]) })
        );
    }
}
