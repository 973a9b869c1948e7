//! The account of changes in the settled past, for caches of answers (`promontory_model::Changes`).
//!
//! No clock is read for a sample: an append is late when it is older than a time that was told to be settled.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use promontory_model::TimeRange;

use crate::head::lock;

/// Samples that arrive within this time of being taken are no change of the past.
const SETTLE_MS: i64 = 2 * 60_000;
/// Changes remembered; who last looked before them starts anew.
const CHANGES_MAX: usize = 4096;

#[derive(Debug)]
pub(crate) struct ChangeLog {
    /// Newest time that was told to be settled.
    settled: AtomicI64,
    recent: Mutex<Recent>,
}

#[derive(Debug, Default)]
struct Recent {
    newest: u64,
    /// The last of these has the number `newest`.
    ranges: VecDeque<TimeRange>,
}

impl Default for ChangeLog {
    fn default() -> Self {
        Self { settled: AtomicI64::new(i64::MIN), recent: Mutex::default() }
    }
}

impl ChangeLog {
    /// Samples from `mint` to `maxt` were appended; to call before the gate is left.
    pub(crate) fn appended(&self, mint: i64, maxt: i64) {
        let settled = self.settled.load(Ordering::SeqCst);
        if mint < settled {
            self.changed(TimeRange::new(mint, maxt.min(settled)));
        }
    }

    /// What snapshots show of `range` is no longer what they showed.
    pub(crate) fn changed(&self, range: TimeRange) {
        if range.is_empty() {
            return;
        }
        let mut recent = lock(&self.recent);
        recent.newest += 1;
        recent.ranges.push_back(range);
        if recent.ranges.len() > CHANGES_MAX {
            recent.ranges.pop_front();
        }
    }

    /// Number of the newest change.
    pub(crate) fn newest(&self) -> u64 {
        lock(&self.recent).newest
    }

    /// Settles everything that is old enough at `now`, and tells until when.
    pub(crate) fn settle(&self, now: i64) -> i64 {
        let settled = now.saturating_sub(SETTLE_MS);
        self.settled.fetch_max(settled, Ordering::SeqCst);
        settled
    }

    /// Spans of the changes after number `after`; `None` when some are forgotten.
    pub(crate) fn since(&self, after: u64) -> Option<Vec<TimeRange>> {
        let recent = lock(&self.recent);
        let missed = usize::try_from(recent.newest.checked_sub(after)?).ok()?;
        let known = recent.ranges.len().checked_sub(missed)?;
        Some(recent.ranges.iter().skip(known).copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_appends_before_a_settled_time_are_changes() {
        let log = ChangeLog::default();
        log.appended(5, 9);
        assert_eq!(log.newest(), 0);
        assert_eq!(log.settle(1_000_000), 880_000);
        log.appended(880_000, 990_000);
        assert_eq!(log.newest(), 0);
        log.appended(879_999, 990_000);
        assert_eq!(log.since(0), Some(vec![TimeRange::new(879_999, 880_000)]));
        assert_eq!(log.since(1), Some(vec![]));
        // A clock that is put back settles nothing anew and frees nothing.
        log.settle(500_000);
        log.appended(870_000, 870_000);
        assert_eq!(log.newest(), 2);
    }

    #[test]
    fn forgotten_changes_are_told() {
        let log = ChangeLog::default();
        for t in 0..CHANGES_MAX as i64 + 1 {
            log.changed(TimeRange::new(t, t));
        }
        assert_eq!(log.since(0), None);
        assert_eq!(log.since(1).map(|c| c.len()), Some(CHANGES_MAX));
        assert_eq!(log.since(u64::MAX), None);
    }
}
