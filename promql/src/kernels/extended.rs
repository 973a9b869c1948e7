//! Windows with real or interpolated edges: `anchored` and `smoothed`.
//!
//! The rows of such a window reach beyond it: back by the lookback to find a sample at or before its start, and for
//! `smoothed` also ahead to find one at or after its end.

use super::window::{Bounds, Rows};
use super::{ABSENT, Samples};

/// Which samples stand for the edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edge {
    /// The last sample at or before the start; the last one inside.
    Anchored,
    /// Values interpolated at start and end.
    Smoothed,
}

/// Writes `rate` (`per_second`), `increase` (`is_counter`) or `delta` of each window.
pub(crate) fn increase(
    samples: Samples<'_>,
    rows: &[Rows],
    windows: &[Bounds],
    edge: Edge,
    (is_counter, per_second): (bool, bool),
    out: &mut [f64],
) {
    for ((out, r), w) in out.iter_mut().zip(rows).zip(windows) {
        let s = Samples { t: &samples.t[r.range()], v: &samples.v[r.range()] };
        let increase = of_window(s, *w, edge, is_counter);
        let range_secs = (w.end - w.start) as f64 / 1000.0;
        *out = match increase {
            None => ABSENT,
            Some(v) if per_second => v / range_secs,
            Some(v) => v,
        };
    }
}

fn of_window(s: Samples<'_>, w: Bounds, edge: Edge, is_counter: bool) -> Option<f64> {
    let mut last = s.t.len().checked_sub(1)?;
    let first = s.t[..last].partition_point(|t| *t <= w.start).saturating_sub(1);
    if edge == Edge::Smoothed {
        last = s.t[..last].partition_point(|t| *t < w.end);
    }
    if s.t[last] <= w.start || edge == Edge::Smoothed && s.t[first] > w.end {
        return None;
    }
    let smoothed = edge == Edge::Smoothed;
    let left = if smoothed && s.t[first] < w.start { interpolate(s, first, w.start, is_counter) } else { s.v[first] };
    let right =
        if smoothed && last > 0 && s.t[last] > w.end { interpolate(s, last - 1, w.end, is_counter) } else { s.v[last] };
    let mut increase = right - left;
    if is_counter {
        let mut before = left;
        let inner = if last > first { &s.v[first + 1..last] } else { &[][..] };
        for v in inner.iter().chain(std::iter::once(&right)) {
            if *v < before {
                increase += before;
            }
            before = *v;
        }
    }
    Some(increase)
}

/// The value at `t` between samples `i` and `i + 1`. A counter that fell in between is taken to have restarted from
/// zero at the first of them.
fn interpolate(s: Samples<'_>, i: usize, t: i64, is_counter: bool) -> f64 {
    let (a, b) = (s.v[i], s.v[i + 1]);
    let a = if is_counter && b < a { 0.0 } else { a };
    a + (b - a) * (t - s.t[i]) as f64 / (s.t[i + 1] - s.t[i]) as f64
}

/// Narrows the rows of an anchored window to the anchor and what follows it; none when no sample lies inside.
pub(crate) fn anchor(times: &[i64], rows: &mut [Rows], windows: &[Bounds]) {
    for (r, w) in rows.iter_mut().zip(windows) {
        let t = &times[r.range()];
        let before = t.partition_point(|x| *x <= w.start) as u32;
        if before as usize == t.len() {
            *r = Rows { lo: r.hi, hi: r.hi };
        } else {
            r.lo += before.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(values: &[f64], step: i64, (end, range): (i64, i64), edge: Edge, want: Option<f64>) {
        let t: Vec<i64> = (0..values.len() as i64).map(|i| i * step).collect();
        let rows = [Rows { lo: 0, hi: t.partition_point(|x| edge == Edge::Smoothed || *x <= end) as u32 }];
        let mut out = [0.0];
        let window = [Bounds { start: end - range, end }];
        increase(Samples { t: &t, v: values }, &rows, &window, edge, (true, false), &mut out);
        match want {
            None => assert!(super::super::is_absent(out[0]), "got {}", out[0]),
            Some(want) => assert!((out[0] - want).abs() < 1e-9, "got {} for {want}", out[0]),
        }
    }

    const RESET: [f64; 10] = [1.0, 2.0, 3.0, 4.0, 5.0, 9.0, 10.0, 11.0, 12.0, 13.0];

    #[test]
    fn anchored_takes_real_samples() {
        check(&RESET, 15, (5, 60), Edge::Anchored, Some(0.0));
        check(&RESET, 15, (35, 60), Edge::Anchored, Some(2.0));
        check(&RESET, 15, (80, 60), Edge::Anchored, Some(7.0));
    }

    #[test]
    fn smoothed_interpolates_both_edges() {
        check(&RESET, 15, (50, 60), Edge::Smoothed, Some(10.0 / 3.0));
        check(&RESET, 15, (80, 60), Edge::Smoothed, Some(7.0));
        check(&[9.0, 8.0, 5.0, 4.0], 60, (135, 120), Edge::Smoothed, Some(12.0));
    }
}
