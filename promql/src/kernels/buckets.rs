//! Classic histograms: quantiles and fractions from cumulative bucket counts.

/// Relative difference of two counts that is taken for rounding and not for a fault of the data.
const SMALL_DELTA: f64 = 1e-12;

/// One bucket: how many observations are at most `upper`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bucket {
    /// Upper bound, inclusive.
    pub(crate) upper: f64,
    /// Cumulative count.
    pub(crate) count: f64,
}

/// A decrease of cumulative counts that was repaired.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Repair {
    /// Upper bound of the first bucket that was raised.
    pub(crate) lowest: f64,
    /// Upper bound of the last one.
    pub(crate) highest: f64,
    /// The largest raise.
    pub(crate) difference: f64,
}

/// The `q`-quantile, and what had to be repaired for it. Sorts and merges `buckets`; an answer only with `+Inf` bucket.
pub(crate) fn quantile(q: f64, buckets: &mut Vec<Bucket>) -> (f64, Option<Repair>) {
    if q.is_nan() {
        return (f64::NAN, None);
    }
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    if !prepare(buckets) {
        return (f64::NAN, None);
    }
    let repair = make_monotonic(buckets);
    let last = buckets.len() - 1;
    if last == 0 || buckets[last].count == 0.0 {
        // Nobody is told of a repair that gives no answer.
        return (f64::NAN, None);
    }
    (quantile_of_prepared(q, buckets), repair)
}

/// The quantile of two or more buckets with observations.
fn quantile_of_prepared(q: f64, buckets: &[Bucket]) -> f64 {
    let last = buckets.len() - 1;
    let mut rank = q * buckets[last].count;
    let b = first_reaching(rank, &buckets[..last]);
    if b == last {
        return buckets[last - 1].upper;
    }
    if b == 0 && buckets[0].upper <= 0.0 {
        return buckets[0].upper;
    }
    let (mut start, mut count) = (0.0, buckets[b].count);
    if b > 0 {
        start = buckets[b - 1].upper;
        count -= buckets[b - 1].count;
        rank -= buckets[b - 1].count;
    }
    start + (buckets[b].upper - start) * (rank / count)
}

/// The first bucket with as many observations, by halving: where counts are NaN and have no order, Prometheus' choice.
fn first_reaching(rank: f64, buckets: &[Bucket]) -> usize {
    let (mut low, mut high) = (0, buckets.len());
    while low < high {
        let middle = low.midpoint(high);
        if buckets[middle].count >= rank {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

/// The fraction of observations between two bounds.
pub(crate) fn fraction(lower: f64, upper: f64, buckets: &mut Vec<Bucket>) -> f64 {
    if !prepare(buckets) {
        return f64::NAN;
    }
    let count = buckets[buckets.len() - 1].count;
    if count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let rank_of = |v: f64| rank_of(v, buckets).min(count);
    (rank_of(upper) - rank_of(lower)) / count
}

/// How many observations are below `v`, linear inside a bucket.
fn rank_of(v: f64, buckets: &[Bucket]) -> f64 {
    let mut below = 0.0;
    for (i, b) in buckets.iter().enumerate() {
        let start = match i.checked_sub(1) {
            Some(before) => buckets[before].upper,
            None if b.upper > 0.0 => 0.0,
            None => f64::NEG_INFINITY,
        };
        if v <= start {
            return below;
        }
        if v < b.upper {
            // There is no way to divide a bucket without a lower end: all of it counts as below.
            let part = if start.is_infinite() { 1.0 } else { (v - start) / (b.upper - start) };
            return below + (b.count - below) * part;
        }
        below = b.count;
    }
    below
}

/// Sorts by bound and adds up buckets of equal bound. Whether there is a `+Inf` bucket.
fn prepare(buckets: &mut Vec<Bucket>) -> bool {
    buckets.sort_by(|a, b| a.upper.total_cmp(&b.upper));
    buckets.dedup_by(|later, kept| {
        let same = later.upper == kept.upper;
        if same {
            kept.count += later.count;
        }
        same
    });
    buckets.last().is_some_and(|b| b.upper == f64::INFINITY)
}

fn make_monotonic(buckets: &mut [Bucket]) -> Option<Repair> {
    let mut repair: Option<Repair> = None;
    let mut before = buckets[0].count;
    for b in &mut buckets[1..] {
        if b.count == before {
            continue;
        }
        if nearly_equal(before, b.count) {
            b.count = before;
        } else if b.count < before {
            let difference = before - b.count;
            let r = repair.get_or_insert(Repair { lowest: b.upper, highest: b.upper, difference });
            r.highest = b.upper;
            r.difference = r.difference.max(difference);
            b.count = before;
        } else {
            before = b.count;
        }
    }
    repair
}

fn nearly_equal(a: f64, b: f64) -> bool {
    let (sum, diff) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        diff < SMALL_DELTA * f64::MIN_POSITIVE
    } else {
        diff / sum.min(f64::MAX) < SMALL_DELTA
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(of: &[(f64, f64)]) -> Vec<Bucket> {
        of.iter().map(|(upper, count)| Bucket { upper: *upper, count: *count }).collect()
    }

    #[track_caller]
    fn check_quantile(q: f64, of: &[(f64, f64)], want: f64) -> Option<Repair> {
        let (got, repair) = quantile(q, &mut buckets(of));
        assert!(got == want || (got - want).abs() < 1e-12 || got.is_nan() && want.is_nan(), "got {got} for {want}");
        repair
    }

    const INF: f64 = f64::INFINITY;

    #[test]
    fn quantiles_are_linear_inside_a_bucket() {
        let of = [(0.1, 50.0), (0.2, 70.0), (1.0, 110.0), (INF, 120.0)];
        check_quantile(0.2, &of, 0.048);
        check_quantile(0.5, &of, 0.15);
        check_quantile(1.0, &of, 1.0);
        check_quantile(0.0, &[(-0.2, 10.0), (INF, 30.0)], -0.2);
    }

    #[test]
    fn no_answer_without_infinite_bucket_or_observations() {
        check_quantile(0.5, &[(1.0, 2.0)], f64::NAN);
        check_quantile(0.5, &[(1.0, 0.0), (INF, 0.0)], f64::NAN);
        check_quantile(0.5, &[(INF, 3.0)], f64::NAN);
    }

    #[test]
    fn a_repair_without_an_answer_is_not_told() {
        assert_eq!(check_quantile(0.5, &[(1.0, 0.0), (INF, -2.0)], f64::NAN), None);
    }

    #[test]
    fn nan_counts_are_never_reached() {
        check_quantile(0.5, &[(1.0, 2.0), (5.0, 3.0), (INF, f64::NAN)], 5.0);
        check_quantile(0.5, &[(1.0, f64::NAN), (5.0, 4.0), (INF, 8.0)], f64::NAN);
        check_quantile(0.5, &[(1.0, 4.0), (5.0, f64::NAN), (INF, 8.0)], 5.0);
    }

    #[test]
    fn decreases_are_repaired_and_told() {
        let of = [(0.1, 20.0), (1.0, 10.0), (10.0, 50.0), (100.0, 40.0), (1000.0, 90.0), (INF, 80.0)];
        let repair = check_quantile(0.5, &of, 8.5);
        assert_eq!(repair, Some(Repair { lowest: 1.0, highest: INF, difference: 10.0 }));
        assert_eq!(check_quantile(0.5, &[(1.0, 10.0), (INF, 10.0 - 1e-13)], 0.5), None);
    }

    #[track_caller]
    fn check_fraction(lower: f64, upper: f64, of: &[(f64, f64)], want: f64) {
        let got = fraction(lower, upper, &mut buckets(of));
        assert!((got - want).abs() < 1e-12 || got.is_nan() && want.is_nan(), "got {got} for {want}");
    }

    #[test]
    fn fractions_between_bounds() {
        let of = [(1.0, 1.0), (2.0, 3.0), (3.0, 6.0), (INF, 100.0)];
        check_fraction(0.0, 1.5, &of, 0.02);
        check_fraction(-INF, INF, &of, 1.0);
        check_fraction(4.0, 5.0, &of, 0.0);
        check_fraction(400.0, INF, &of, 0.94);
        check_fraction(2.0, 2.0, &of, 0.0);
        check_fraction(f64::NAN, 2.0, &of, f64::NAN);
        let negative = [(-3.0, 10.0), (-2.0, 12.0), (-1.0, 15.0), (INF, 100.0)];
        check_fraction(-INF, -1.5, &negative, 0.135);
        check_fraction(-4.0, -2.0, &negative, 0.02);
    }
}
