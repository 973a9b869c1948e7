//! Functions of the samples of a window: `*_over_time`, `changes`, `resets`.
//!
//! Exact results slide where that changes no bit (counts, minima, maxima); sums are added up anew per window, in
//! order, because a sliding sum would round differently from one step to the next.

use super::sum::{self, Mean};
use super::window::Rows;
use super::{ABSENT, Samples};

/// Writes `f` of each window that is not empty.
#[inline]
pub(crate) fn per_window(samples: Samples<'_>, rows: &[Rows], out: &mut [f64], mut f: impl FnMut(Samples<'_>) -> f64) {
    for (out, r) in out.iter_mut().zip(rows) {
        *out = if r.hi > r.lo { f(Samples { t: &samples.t[r.range()], v: &samples.v[r.range()] }) } else { ABSENT };
    }
}

/// Windows that are added up side by side: a compensated sum is a chain of dependent additions, and a processor can
/// work on several such chains at once.
const LANES: usize = 4;

/// Writes `sum_over_time` or `avg_over_time` of every window.
pub(crate) fn sums(values: &[f64], rows: &[Rows], average: bool, out: &mut [f64]) {
    let finish = |sum: f64, c: f64, window: &[f64]| match average {
        false => sum::finish(sum, c),
        // A sum beyond the largest float needs the mean that is updated value by value.
        true if sum.is_infinite() => avg(window),
        true => sum / window.len() as f64 + c / window.len() as f64,
    };
    for (rows, out) in rows.chunks(LANES).zip(out.chunks_mut(LANES)) {
        let len = rows[0].len();
        if rows.len() == LANES && len > 0 && rows.iter().all(|r| r.len() == len) {
            let windows: [&[f64]; LANES] = std::array::from_fn(|i| &values[rows[i].range()]);
            let (sum, c) = sum_lanes(windows);
            for i in 0..LANES {
                out[i] = finish(sum[i], c[i], windows[i]);
            }
            continue;
        }
        for (r, out) in rows.iter().zip(out) {
            let window = &values[r.range()];
            let (sum, c) = window.iter().fold((0.0, 0.0), |(s, c), v| sum::add(*v, s, c));
            *out = if window.is_empty() { ABSENT } else { finish(sum, c, window) };
        }
    }
}

/// The sums and compensations of windows of one length.
fn sum_lanes([w0, w1, w2, w3]: [&[f64]; LANES]) -> ([f64; LANES], [f64; LANES]) {
    let (mut sum, mut c) = ([0.0; LANES], [0.0; LANES]);
    for (((a, b), x), y) in w0.iter().zip(w1).zip(w2).zip(w3) {
        for (i, v) in [*a, *b, *x, *y].into_iter().enumerate() {
            (sum[i], c[i]) = sum::add(v, sum[i], c[i]);
        }
    }
    (sum, c)
}

fn avg(v: &[f64]) -> f64 {
    let mut mean = Mean::EMPTY;
    for x in v {
        mean.add(*x);
    }
    mean.finish()
}

/// `stdvar_over_time`: the population's variance, by Welford with compensated sums.
pub(crate) fn variance(v: &[f64]) -> f64 {
    let (mut mean, mut c_mean, mut aux, mut c_aux) = (0.0, 0.0, 0.0, 0.0);
    let mut count = 0.0;
    for x in v {
        count += 1.0;
        let delta = x - (mean + c_mean);
        (mean, c_mean) = sum::add(delta / count, mean, c_mean);
        (aux, c_aux) = sum::add(delta * (x - (mean + c_mean)), aux, c_aux);
    }
    (aux + c_aux) / count
}

/// Time in seconds of the last smallest (or largest) value.
pub(crate) fn time_of_extreme(s: Samples<'_>, max: bool) -> f64 {
    let (mut best, mut at) = (s.v[0], s.t[0]);
    for (v, t) in s.v.iter().zip(s.t) {
        let better = if max { *v >= best } else { *v <= best };
        if better || best.is_nan() {
            (best, at) = (*v, *t);
        }
    }
    at as f64 / 1000.0
}

/// `min_over_time` or `max_over_time` of every window: NaN only when all values are.
pub(crate) fn extremes(values: &[f64], rows: &[Rows], max: bool, out: &mut [f64]) {
    // A queue of rows whose values get worse from front to back: the front is the extreme of the window.
    let mut queue: std::collections::VecDeque<u32> = std::collections::VecDeque::new();
    let beaten = |old: f64, new: f64| if max { new >= old } else { new <= old };
    let mut next = 0;
    for (out, r) in out.iter_mut().zip(rows) {
        if r.hi <= r.lo {
            *out = ABSENT;
            continue;
        }
        next = next.max(r.lo);
        while next < r.hi {
            let v = values[next as usize];
            if !v.is_nan() {
                while queue.back().is_some_and(|b| beaten(values[*b as usize], v)) {
                    queue.pop_back();
                }
                queue.push_back(next);
            }
            next += 1;
        }
        while queue.front().is_some_and(|f| *f < r.lo) {
            queue.pop_front();
        }
        // Only NaNs: the last one, which is what replacing a NaN by each next value leaves.
        *out = queue.front().map_or_else(|| values[r.hi as usize - 1], |f| values[*f as usize]);
    }
}

/// Writes in how many neighbouring pairs of each window the second value is `changed` from the first.
pub(crate) fn count_pairs(values: &[f64], rows: &[Rows], changed: impl Fn(f64, f64) -> bool, out: &mut [f64]) {
    // counts[i]: pairs up to row i that changed, so that a window costs one subtraction.
    let mut total = 0u32;
    let mut counts = Vec::with_capacity(values.len());
    for (i, v) in values.iter().enumerate() {
        total += u32::from(i > 0 && changed(values[i - 1], *v));
        counts.push(total);
    }
    for (out, r) in out.iter_mut().zip(rows) {
        *out = if r.hi > r.lo { f64::from(counts[r.hi as usize - 1] - counts[r.lo as usize]) } else { ABSENT };
    }
}

/// Whether `b` after `a` counts in `changes`.
pub(crate) fn is_change(a: f64, b: f64) -> bool {
    a != b && !(a.is_nan() && b.is_nan())
}

/// Whether `b` after `a` counts in `resets`.
pub(crate) fn is_reset(a: f64, b: f64) -> bool {
    b < a
}

#[cfg(test)]
mod tests {
    use super::super::is_absent;
    use super::*;
    use proptest::prelude::*;

    fn obvious_extreme(v: &[f64], max: bool) -> f64 {
        let mut best = v[0];
        for x in v {
            if best.is_nan() || if max { *x > best } else { *x < best } {
                best = *x;
            }
        }
        best
    }

    #[test]
    fn variance_of_equal_values_is_zero() {
        assert_eq!(variance(&[1.5990505637277868; 3]), 0.0);
        assert!((variance(&[0.0, 8.0, 8.0, 2.0, 3.0]) - 10.56).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn lanes_add_up_as_single_windows_do(
            values in proptest::collection::vec(prop_oneof![Just(1e308), Just(f64::NAN), -5.0f64..1e9], 1..60),
            width in 0u32..9, step in 1u32..7,
        ) {
            let n = values.len() as u32;
            let rows: Vec<Rows> =
                (0..17).map(|i| Rows { lo: (i * step).min(n), hi: (i * step + width).min(n) }).collect();
            let (mut sum, mut mean) = (vec![0.0; rows.len()], vec![0.0; rows.len()]);
            sums(&values, &rows, false, &mut sum);
            sums(&values, &rows, true, &mut mean);
            for (r, (sum, mean)) in rows.iter().zip(sum.iter().zip(&mean)).filter(|(r, _)| r.len() > 0) {
                let window = &values[r.range()];
                let (s, c) = window.iter().fold((0.0, 0.0), |(s, c), v| sum::add(*v, s, c));
                let same = |a: f64, b: f64| a == b || a.is_nan() && b.is_nan();
                prop_assert!(same(*sum, sum::finish(s, c)) && same(*mean, avg(window)), "{sum} {mean} of {window:?}");
            }
        }

        #[test]
        fn sliding_agrees_with_looking_at_each_window(
            values in proptest::collection::vec(prop_oneof![Just(f64::NAN), (-5i32..5).prop_map(f64::from)], 1..40),
            width in 0u32..9, step in 1u32..7,
        ) {
            let n = values.len() as u32;
            let rows: Vec<Rows> =
                (0..12).map(|i| Rows { lo: (i * step).min(n), hi: (i * step + width).min(n) }).collect();
            let mut out = vec![0.0; rows.len()];
            for max in [false, true] {
                extremes(&values, &rows, max, &mut out);
                for (r, got) in rows.iter().zip(&out) {
                    if r.len() == 0 {
                        prop_assert!(is_absent(*got));
                    } else {
                        let want = obvious_extreme(&values[r.range()], max);
                        prop_assert!(*got == want || got.is_nan() && want.is_nan());
                    }
                }
            }
            count_pairs(&values, &rows, is_change, &mut out);
            for (r, got) in rows.iter().zip(&out) {
                if r.len() > 0 {
                    let want = values[r.range()].windows(2).filter(|p| is_change(p[0], p[1])).count();
                    prop_assert_eq!(*got, want as f64);
                }
            }
        }
    }
}
