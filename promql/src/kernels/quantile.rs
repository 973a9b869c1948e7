//! Quantiles of values, and what is made of them.

use super::window::Rows;
use super::{ABSENT, Samples};

/// Sorts values as quantiles need it: NaN is the smallest.
pub(crate) fn sort(values: &mut [f64]) {
    values.sort_unstable_by(order);
}

fn order(a: &f64, b: &f64) -> std::cmp::Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => std::cmp::Ordering::Equal,
        (true, false) => std::cmp::Ordering::Less,
        (false, true) => std::cmp::Ordering::Greater,
        (false, false) => a.total_cmp(b),
    }
}

/// The `q`-quantile of sorted values, weighted between the two nearest ranks.
pub(crate) fn of_sorted(q: f64, sorted: &[f64]) -> f64 {
    if sorted.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    let n = sorted.len() as f64;
    let rank = q * (n - 1.0);
    let lower = rank.floor().max(0.0);
    let upper = (lower + 1.0).min(n - 1.0);
    let weight = rank - rank.floor();
    sorted[lower as usize] * (1.0 - weight) + sorted[upper as usize] * weight
}

/// Writes the quantile of each window; `q` is asked per step.
pub(crate) fn over_windows(values: &[f64], rows: &[Rows], q: impl Fn(usize) -> f64, out: &mut [f64]) {
    let mut sorted: Vec<f64> = Vec::new();
    let mut held = Rows::default();
    for (step, (out, r)) in out.iter_mut().zip(rows).enumerate() {
        if r.hi <= r.lo {
            *out = ABSENT;
            continue;
        }
        slide(&mut sorted, held, *r, values);
        held = *r;
        *out = of_sorted(q(step), &sorted);
    }
}

/// Turns the sorted values of window `from` into those of `to`.
///
/// Moving a few values costs a search and a copy each; past a quarter of the window sorting anew is cheaper.
fn slide(sorted: &mut Vec<f64>, from: Rows, to: Rows, values: &[f64]) {
    let leaving = (to.lo.min(from.hi).saturating_sub(from.lo)) as usize;
    let coming = (to.hi - to.lo.max(from.hi).min(to.hi)) as usize;
    if to.lo < from.lo || to.hi < from.hi || (leaving + coming) * 4 > to.len() {
        sorted.clear();
        sorted.extend_from_slice(&values[to.range()]);
        sort(sorted);
        return;
    }
    for v in &values[from.lo as usize..from.lo as usize + leaving] {
        let at = sorted.partition_point(|x| order(x, v).is_lt());
        sorted.remove(at);
    }
    for v in &values[to.hi as usize - coming..to.hi as usize] {
        let at = sorted.partition_point(|x| order(x, v).is_lt());
        sorted.insert(at, *v);
    }
}

/// `mad_over_time`: the median of the distances from the median; NaN among the samples makes it NaN.
pub(crate) fn median_absolute_deviation(s: Samples<'_>, scratch: &mut Vec<f64>) -> f64 {
    if s.v.iter().any(|v| v.is_nan()) {
        return f64::NAN;
    }
    scratch.clear();
    scratch.extend_from_slice(s.v);
    sort(scratch);
    let median = of_sorted(0.5, scratch);
    scratch.iter_mut().for_each(|v| *v = (*v - median).abs());
    sort(scratch);
    of_sorted(0.5, scratch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(q: f64, values: &[f64], want: f64) {
        let mut sorted = values.to_vec();
        sort(&mut sorted);
        let got = of_sorted(q, &sorted);
        assert!((got - want).abs() < 1e-12 || got == want || got.is_nan() && want.is_nan(), "got {got} for {want}");
    }

    #[test]
    fn quantiles_lie_between_ranks() {
        check(0.8, &[0.0, 1.0, 4.0], 2.8);
        check(0.5, &[1.0, 0.0], 0.5);
        check(1.0, &[3.0, 1.0], 3.0);
    }

    #[test]
    fn quantiles_outside_zero_to_one_are_infinite() {
        check(-1.0, &[1.0], f64::NEG_INFINITY);
        check(2.0, &[1.0], f64::INFINITY);
        check(f64::NAN, &[1.0], f64::NAN);
    }

    #[test]
    fn nan_is_the_smallest_value() {
        check(0.8, &[0.0, 1.0, f64::NAN], 0.6);
        check(0.2, &[0.0, 1.0, f64::NAN], f64::NAN);
    }

    proptest! {
        #[test]
        fn sliding_agrees_with_sorting(
            values in proptest::collection::vec(prop_oneof![Just(f64::NAN), Just(-0.0), (-5i32..5).prop_map(f64::from)], 1..60),
            width in 1u32..30, step in 1u32..7, q in 0.0f64..1.0,
        ) {
            let n = values.len() as u32;
            let rows: Vec<Rows> =
                (0..20).map(|i| Rows { lo: (i * step).min(n), hi: (i * step + width).min(n) }).collect();
            let mut out = vec![0.0; rows.len()];
            over_windows(&values, &rows, |_| q, &mut out);
            for (r, got) in rows.iter().zip(&out) {
                let mut sorted = values[r.range()].to_vec();
                sort(&mut sorted);
                let want = of_sorted(q, &sorted);
                prop_assert!(r.len() == 0 || *got == want || got.is_nan() && want.is_nan());
            }
        }
    }
}
