//! Instant lookback: the newest sample of each step, and interpolation between two for `smoothed`.

use super::window::{Bounds, Rows};
use super::{ABSENT, Samples};

/// Writes for each step the newest value of its rows.
///
/// `values` may hold staleness markers: a marker as newest sample ends the series, and is itself what
/// [`ABSENT`] means.
pub(crate) fn newest(values: &[f64], rows: &[Rows], out: &mut [f64]) {
    for (out, r) in out.iter_mut().zip(rows) {
        *out = if r.hi > r.lo { values[r.hi as usize - 1] } else { ABSENT };
    }
}

/// Writes for each step the time in seconds of the newest sample of its rows.
pub(crate) fn newest_time(times: &[i64], values: &[f64], rows: &[Rows], out: &mut [f64]) {
    for (out, r) in out.iter_mut().zip(rows) {
        let newest = (r.hi as usize).wrapping_sub(1);
        let there = r.hi > r.lo && !super::is_absent(values[newest]);
        *out = if there { times[newest] as f64 / 1000.0 } else { ABSENT };
    }
}

/// Writes for each step the value interpolated at its time between the sample before and the one after.
///
/// `rows` covers the lookback to both sides, `windows[i].end` is the time of the step. A sample at that very time is
/// taken as it is; without a later one the earlier one holds; without an earlier one there is no value.
pub(crate) fn smoothed(samples: Samples<'_>, rows: &[Rows], windows: &[Bounds], out: &mut [f64]) {
    for ((out, r), w) in out.iter_mut().zip(rows).zip(windows) {
        let (t, v) = (&samples.t[r.range()], &samples.v[r.range()]);
        let after = t.partition_point(|x| *x <= w.end);
        *out = match (after.checked_sub(1), t.get(after)) {
            (None, _) => ABSENT,
            (Some(i), None) => v[i],
            (Some(i), Some(_)) if t[i] == w.end => v[i],
            (Some(i), Some(next)) => v[i] + (v[after] - v[i]) * (w.end - t[i]) as f64 / (next - t[i]) as f64,
        };
    }
}
