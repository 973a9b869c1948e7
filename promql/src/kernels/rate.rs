//! `rate`, `increase`, `delta` with Prometheus' extrapolation, and `irate`, `idelta`.
//!
//! What of the extrapolation depends on times only is computed once per column of timestamps ([`Extrapolation`]);
//! per series and step remain a difference, a test and a product. A series with a counter reset, and a step in which
//! the extrapolation would reach below zero, take the plain path with the same order of operations.

use super::window::{Bounds, Rows};
use super::{ABSENT, Samples};

/// Which of the three extrapolating functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    /// Resets are added and values never fall below zero: `rate` and `increase`.
    pub(crate) is_counter: bool,
    /// The result is per second: `rate`.
    pub(crate) is_rate: bool,
}

/// What the extrapolation of one window depends on besides the values.
#[derive(Debug, Clone, Copy)]
struct Edges {
    sampled: f64,
    to_start: f64,
    to_end: f64,
}

impl Edges {
    /// For `first..=last` of at least two samples in a window.
    fn new(first: i64, last: i64, n_minus_one: usize, window: Bounds) -> Self {
        let mut to_start = (first - window.start) as f64 / 1000.0;
        let mut to_end = (window.end - last) as f64 / 1000.0;
        let sampled = (last - first) as f64 / 1000.0;
        let average = sampled / n_minus_one as f64;
        // A gap of up to a tenth more than the usual distance is taken as part of the series.
        let threshold = average * 1.1;
        if to_start >= threshold {
            to_start = average / 2.0;
        }
        if to_end >= threshold {
            to_end = average / 2.0;
        }
        Self { sampled, to_start, to_end }
    }

    fn factor(self, to_start: f64, kind: Kind, range_secs: f64) -> f64 {
        let factor = (self.sampled + to_start + self.to_end) / self.sampled;
        if kind.is_rate { factor / range_secs } else { factor }
    }
}

/// The value of one window from its increase and first value.
fn extrapolate(increase: f64, first: f64, edges: Edges, kind: Kind, range_secs: f64) -> f64 {
    increase * edges.factor(to_start(increase, first, edges, kind), kind, range_secs)
}

/// A counter starts at zero: no extrapolation beyond the point where it was zero.
fn to_start(increase: f64, first: f64, edges: Edges, kind: Kind) -> f64 {
    if kind.is_counter && increase > 0.0 && first >= 0.0 {
        let to_zero = edges.sampled * (first / increase);
        if to_zero < edges.to_start {
            return to_zero;
        }
    }
    edges.to_start
}

/// The factor of one window from its increase and first value, for values that are more than a float. With `start`
/// the counter is known to have been zero at that time; `times` are those of the first and the last sample.
pub(crate) fn factor(
    increase: f64,
    first: f64,
    times: (i64, i64),
    start: Option<i64>,
    n_minus_one: usize,
    window: Bounds,
    kind: Kind,
) -> f64 {
    let mut edges = Edges::new(times.0, times.1, n_minus_one, window);
    let to_start = match start {
        None => to_start(increase, first, edges, kind),
        Some(start) => {
            edges.sampled = (times.1 - start) as f64 / 1000.0;
            0.0
        }
    };
    if n_minus_one == 0 {
        // One sample says nothing of how often there are samples.
        edges.to_end = 0.0;
    }
    edges.factor(to_start, kind, (window.end - window.start) as f64 / 1000.0)
}

/// The part of the extrapolation that all series of a column of timestamps share.
#[derive(Debug, Clone)]
pub(crate) struct Extrapolation {
    kind: Kind,
    range_secs: f64,
    edges: Vec<Edges>,
    factors: Vec<f64>,
}

impl Extrapolation {
    /// For windows over `times`; steps with fewer than two rows have no value.
    pub(crate) fn new(times: &[i64], rows: &[Rows], windows: &[Bounds], kind: Kind) -> Self {
        let range_secs = windows.first().map_or(1.0, |w| (w.end - w.start) as f64 / 1000.0);
        let edges: Vec<Edges> = rows
            .iter()
            .zip(windows)
            .map(|(r, w)| match r.len() {
                0 | 1 => Edges { sampled: f64::NAN, to_start: 0.0, to_end: 0.0 },
                n => Edges::new(times[r.lo as usize], times[r.hi as usize - 1], n - 1, *w),
            })
            .collect();
        let factors = edges.iter().map(|e| e.factor(e.to_start, kind, range_secs)).collect();
        Self { kind, range_secs, edges, factors }
    }

    /// As [`Extrapolation::apply`], of a counter that [`is_rising`].
    pub(crate) fn apply_rising(&self, values: &[f64], rows: &[Rows], out: &mut [f64]) {
        for (step, (out, r)) in out.iter_mut().zip(rows).enumerate() {
            *out = if r.hi < r.lo + 2 {
                ABSENT
            } else {
                let first = values[r.lo as usize];
                self.value(step, values[r.hi as usize - 1] - first, first)
            };
        }
    }

    /// Whether values are those of a counter.
    pub(crate) fn is_of_counter(&self) -> bool {
        self.kind.is_counter
    }

    /// Writes the value of each step of a series with a value in every row.
    pub(crate) fn apply(&self, values: &[f64], rows: &[Rows], out: &mut [f64]) {
        let resets = if self.kind.is_counter { resets(values) } else { Vec::new() };
        if !resets.is_empty() {
            return self.apply_with_resets(values, &resets, rows, out);
        }
        self.apply_rising(values, rows, out);
    }

    #[inline]
    fn value(&self, step: usize, increase: f64, first: f64) -> f64 {
        let edges = self.edges[step];
        // Cheaper than the quotient of the exact test, and true whenever that one is: a little slack covers the
        // roundings of both.
        let may_reach_zero = self.kind.is_counter && first * edges.sampled <= edges.to_start * increase * (1.0 + 1e-9);
        if may_reach_zero {
            extrapolate(increase, first, edges, self.kind, self.range_secs)
        } else {
            increase * self.factors[step]
        }
    }

    /// As without resets, plus what each reset of a window lost, in order.
    fn apply_with_resets(&self, values: &[f64], resets: &[usize], rows: &[Rows], out: &mut [f64]) {
        let mut next = 0;
        for (step, (out, r)) in out.iter_mut().zip(rows).enumerate() {
            if r.hi < r.lo + 2 {
                *out = ABSENT;
                continue;
            }
            let (lo, hi) = (r.lo as usize, r.hi as usize);
            while resets.get(next).is_some_and(|i| *i <= lo) {
                next += 1;
            }
            let mut increase = values[hi - 1] - values[lo];
            for reset in resets[next..].iter().take_while(|i| **i < hi) {
                increase += values[reset - 1];
            }
            *out = self.value(step, increase, values[lo]);
        }
    }
}

/// Whether no value is less than the one before it, and none of several is NaN, staleness markers included.
pub(crate) fn is_rising(values: &[f64]) -> bool {
    let mut at = 0;
    while at + 1 < values.len() {
        let end = (at + 256).min(values.len() - 1);
        let (before, after) = (&values[at..end], &values[at + 1..=end]);
        // A loop without branches sees several values at once.
        if !before.iter().zip(after).fold(true, |all, (a, b)| all & (b >= a)) {
            return false;
        }
        at = end;
    }
    true
}

/// The rows whose value is smaller than the one before it.
fn resets(values: &[f64]) -> Vec<usize> {
    let mut out = Vec::new();
    let mut at = 0;
    while at + 1 < values.len() {
        let end = (at + 256).min(values.len() - 1);
        let (before, after) = (&values[at..end], &values[at + 1..=end]);
        // Most blocks have none, and a loop without branches sees that many values at once.
        if before.iter().zip(after).fold(false, |any, (a, b)| any | (b < a)) {
            let found = before.iter().zip(after).enumerate().filter(|(_, (a, b))| b < a);
            out.extend(found.map(|(i, _)| at + i + 1));
        }
        at = end;
    }
    out
}

/// Writes `irate` (`per_second`) or `idelta` of the last two samples of each window.
pub(crate) fn instant(samples: Samples<'_>, rows: &[Rows], per_second: bool, out: &mut [f64]) {
    for (out, r) in out.iter_mut().zip(rows) {
        if r.hi < r.lo + 2 {
            *out = ABSENT;
            continue;
        }
        let last = r.hi as usize - 1;
        let (a, b) = (samples.v[last - 1], samples.v[last]);
        let elapsed = samples.t[last] - samples.t[last - 1];
        *out = match (per_second, b < a) {
            (true, true) => b / (elapsed as f64 / 1000.0),
            (true, false) => (b - a) / (elapsed as f64 / 1000.0),
            (false, _) => b - a,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::super::window;
    use super::*;

    const RATE: Kind = Kind { is_counter: true, is_rate: true };
    const INCREASE: Kind = Kind { is_counter: true, is_rate: false };
    const DELTA: Kind = Kind { is_counter: false, is_rate: false };

    #[track_caller]
    fn check(kind: Kind, step_ms: i64, values: &[f64], end: i64, range: i64, want: Option<f64>) {
        let times: Vec<i64> = (0..values.len() as i64).map(|i| i * step_ms).collect();
        let windows = [Bounds { start: end - range, end }];
        let mut rows = Vec::new();
        window::rows(&times, &windows, &mut rows);
        let mut out = [0.0];
        Extrapolation::new(&times, &rows, &windows, kind).apply(values, &rows, &mut out);
        match want {
            None => assert!(super::super::is_absent(out[0]), "got {}", out[0]),
            Some(want) => assert!((out[0] - want).abs() <= 1e-12 * want.abs(), "got {} for {want}", out[0]),
        }
    }

    #[test]
    fn one_sample_has_no_rate() {
        check(RATE, 60_000, &[1.0, 2.0], 60_000, 60_000, None);
    }

    #[test]
    fn increase_reaches_both_edges() {
        let values: Vec<f64> = (0..11).map(|i| 10.0 + 10.0 * f64::from(i)).collect();
        check(INCREASE, 300_000, &values, 3_000_000, 6_000_000, Some(105.0));
    }

    #[test]
    fn increase_never_starts_below_zero() {
        let values: Vec<f64> = (0..11).map(|i| 1.0 + 10.0 * f64::from(i)).collect();
        check(INCREASE, 300_000, &values, 3_000_000, 6_000_000, Some(101.0));
        let values: Vec<f64> = (0..11).map(|i| 10.0 * f64::from(i)).collect();
        check(INCREASE, 300_000, &values, 3_000_000, 6_000_000, Some(100.0));
    }

    #[test]
    fn a_reset_counts_from_zero() {
        check(INCREASE, 300_000, &[0.0, 1.0, 2.0, 3.0, 2.0, 3.0, 4.0], 1_800_000, 1_800_001, Some(7.0));
    }

    #[test]
    fn delta_may_fall() {
        check(
            DELTA,
            300_000,
            &[200.0, 150.0, 100.0, 50.0, 0.0],
            1_200_000,
            1_200_001,
            Some(-200.0 * 1_200.001 / 1_200.0),
        );
    }

    #[test]
    fn resets_are_found_in_any_block() {
        let mut values: Vec<f64> = (0..1000).map(f64::from).collect();
        assert_eq!(resets(&values), [0; 0]);
        for at in [1, 255, 256, 257, 999] {
            let kept = values[at];
            values[at] = -1.0;
            assert_eq!(resets(&values), [at]);
            values[at] = kept;
        }
        assert!(is_rising(&values) && is_rising(&[1.0, 1.0]) && is_rising(&[]));
        for at in [0, 1, 255, 256, 257, 999] {
            for wrong in [f64::NAN, ABSENT, if at == 0 { 2.0 } else { -1.0 }] {
                let kept = std::mem::replace(&mut values[at], wrong);
                assert!(!is_rising(&values), "{at} {wrong}");
                values[at] = kept;
            }
        }
        assert_eq!(resets(&[]), [0; 0]);
        assert_eq!(resets(&[3.0, 2.0, 1.0]), [1, 2]);
    }
}
