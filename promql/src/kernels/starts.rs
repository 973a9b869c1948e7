//! Counters whose samples say since when they count.
//!
//! A start between two samples is a reset that the values may not show; a start inside the window is a sample of zero
//! at that time, which needs no extrapolation. 0 is an unknown start, and one at or after its own sample is invalid.

use super::rate::{self, Kind};
use super::window::Bounds;

/// Times, values and start times of a counter's samples.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counter<'a> {
    /// Times, ms.
    pub(crate) t: &'a [i64],
    /// Values.
    pub(crate) v: &'a [f64],
    /// Starts, ms.
    pub(crate) starts: &'a [i64],
}

/// Whether the counter restarted between two samples, each a time and a start.
pub(crate) fn restarted(before: (i64, i64), now: (i64, i64)) -> bool {
    let known = |(t, start): (i64, i64)| start != 0 && start < t;
    // One that starts at the sample before is a delta, unless that one's start is unknown.
    known(now) && (now.1 > before.0 || now.1 == before.0 && known(before))
}

/// Whether a sample claims to count since before the one before it, and not since that one's start.
pub(crate) fn overlaps(before: (i64, i64), now: (i64, i64)) -> bool {
    now.1 != 0 && now.1 < before.0 && now.1 != before.1
}

impl Counter<'_> {
    fn at(self, i: usize) -> (i64, i64) {
        (self.t[i], self.starts[i])
    }

    fn is_reset(self, i: usize) -> bool {
        self.v[i] < self.v[i - 1] || restarted(self.at(i - 1), self.at(i))
    }

    /// `rate` or `increase` of a window.
    pub(crate) fn rate(self, window: Bounds, kind: Kind) -> Option<f64> {
        let n = self.t.len();
        let start = since(*self.t.first()?, self.starts[0], window);
        if n < 2 && start.is_none() {
            return None;
        }
        let first = self.v[0];
        let mut increase = self.v[n - 1] - first;
        for i in (1..n).filter(|i| self.is_reset(*i)) {
            increase += self.v[i - 1];
        }
        if start.is_some() {
            increase += first;
        }
        Some(increase * rate::factor(increase, first, (self.t[0], self.t[n - 1]), start, n - 1, window, kind))
    }

    /// `irate` of a window.
    pub(crate) fn instant_rate(self) -> Option<f64> {
        let last = self.t.len().checked_sub(2)? + 1;
        let elapsed = (self.t[last] - self.t[last - 1]) as f64 / 1000.0;
        let increase = if self.is_reset(last) { self.v[last] } else { self.v[last] - self.v[last - 1] };
        Some(increase / elapsed)
    }

    /// `resets` of a window.
    pub(crate) fn resets(self) -> Option<f64> {
        let n = self.t.len();
        (n > 0).then(|| (1..n).filter(|i| self.is_reset(*i)).count() as f64)
    }
}

/// The start of the first sample, if it is a point inside the window from which to count.
pub(crate) fn since(t: i64, start: i64, window: Bounds) -> Option<i64> {
    (start != 0 && start > window.start && start < t).then_some(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INCREASE: Kind = Kind { is_counter: true, is_rate: false };

    #[track_caller]
    fn check(v: &[f64], starts: &[i64], range: i64, want: Option<f64>) {
        let t: Vec<i64> = (0..v.len() as i64).map(|i| 120_000 + i * 60_000).collect();
        let window = Bounds { start: 360_000 - range, end: 360_000 };
        let got = Counter { t: &t, v, starts }.rate(window, INCREASE);
        let same = got.zip(want).is_none_or(|(a, b)| (a - b).abs() < 1e-9);
        assert!(same && got.is_some() == want.is_some(), "{got:?} for {want:?}");
    }

    #[test]
    fn a_start_inside_the_window_is_a_zero() {
        check(&[1.0, 2.0, 3.0, 4.0, 5.0], &[90_000; 5], 300_000, Some(5.0));
        check(&[3.0], &[90_000], 300_000, Some(3.0));
        check(&[3.0], &[0], 300_000, None);
    }

    #[test]
    fn starts_at_the_sample_before_are_deltas() {
        let starts = [60_000, 120_000, 180_000, 240_000, 300_000];
        check(&[60.0; 5], &starts, 300_000, Some(300.0));
        check(&[1.0, 1.0], &[0, 120_000], 300_000, Some(0.0));
    }

    #[test]
    fn overlaps_are_starts_before_the_sample_before() {
        assert!(overlaps((60, 10), (120, 50)) && !overlaps((60, 10), (120, 10)) && !overlaps((60, 10), (120, 60)));
    }
}
