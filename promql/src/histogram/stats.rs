//! Quantiles, fractions and moments of native histograms.

use promontory_model::FloatHistogram;

use super::accumulate::Compensated;
use super::{Bucket, all_buckets, is_custom};

/// Mean of the observations.
#[must_use]
pub fn average(h: &FloatHistogram) -> f64 {
    h.sum / h.count
}

/// Variance, each observation taken to lie in the middle of its bucket: the geometric middle of exponential ones.
#[must_use]
pub fn stdvar(h: &FloatHistogram) -> f64 {
    let mean = average(h);
    let mut variance = Compensated::default();
    for bucket in all_buckets(h) {
        let middle = if is_custom(h) {
            f64::midpoint(bucket.lower, bucket.upper)
        } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
            0.0
        } else {
            (bucket.lower * bucket.upper).sqrt().copysign(bucket.upper)
        };
        let delta = middle - mean;
        variance.add(bucket.count * delta * delta);
    }
    variance.value() / h.count
}

/// The value below which the share `q` of observations lies.
///
/// Inside exponential buckets observations are taken to be spread evenly over the logarithm, else linearly. NaN
/// observations are in no bucket and taken to be above all.
#[must_use]
pub fn quantile(q: f64, h: &FloatHistogram) -> f64 {
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    if h.count == 0.0 || q.is_nan() {
        return f64::NAN;
    }
    // From the nearer end; with NaN observations only the lower end is known.
    let forward = h.sum.is_nan() || q < 0.5;
    let mut buckets = all_buckets(h);
    if !forward {
        buckets.reverse();
    }
    let mut rank = if forward { q * h.count } else { (1.0 - q) * h.count };
    let mut count = 0.0;
    let mut bucket = Bucket { lower: 0.0, upper: 0.0, count: 0.0 };
    for b in buckets {
        bucket = b;
        count += b.count;
        if count >= rank {
            break;
        }
    }
    if is_custom(h) {
        if bucket.lower == f64::NEG_INFINITY {
            if bucket.upper <= 0.0 {
                return bucket.upper;
            }
            bucket.lower = 0.0;
        } else if bucket.upper == f64::INFINITY {
            return bucket.lower;
        }
    } else {
        bucket = one_sided(h, bucket);
    }
    count = count.min(h.count);
    if count < rank {
        return if h.sum.is_nan() { f64::NAN } else { bucket.upper };
    }
    rank = if forward { rank - (count - bucket.count) } else { count - rank };
    let fraction = rank / bucket.count;
    if is_custom(h) || (bucket.lower <= 0.0 && bucket.upper >= 0.0) {
        return bucket.lower + (bucket.upper - bucket.lower) * fraction;
    }
    let (lower, upper) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
    if bucket.lower > 0.0 {
        (lower + (upper - lower) * fraction).exp2()
    } else {
        -(upper + (lower - upper) * (1.0 - fraction)).exp2()
    }
}

/// Whether some observations were NaN: they are counted, but in no bucket.
#[must_use]
pub fn nan_observations(h: &FloatHistogram) -> bool {
    let mut in_buckets = Compensated::default();
    all_buckets(h).iter().for_each(|b| in_buckets.add(b.count));
    h.sum.is_nan() && in_buckets.value() < h.count
}

/// The zero bucket ends at 0 where all other observations are on one side of it.
pub(super) fn one_sided(h: &FloatHistogram, mut bucket: Bucket) -> Bucket {
    if bucket.lower < 0.0 && bucket.upper > 0.0 {
        match (h.negative_buckets.is_empty(), h.positive_buckets.is_empty()) {
            (true, false) => bucket.lower = 0.0,
            (false, true) => bucket.upper = 0.0,
            _ => {}
        }
    }
    bucket
}

/// The share of observations between `lower` and `upper`; NaN observations count as outside.
#[must_use]
pub fn fraction(lower: f64, upper: f64, h: &FloatHistogram) -> f64 {
    if h.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let mut rank = 0.0;
    let (mut lower_rank, mut upper_rank) = (None, None);
    let mut observed = 0.0;
    for bucket in all_buckets(h) {
        observed += bucket.count;
        let mut b = bucket;
        // Custom buckets that touch 0 are cut there like the zero bucket.
        let zero = b.lower <= 0.0 && b.upper >= 0.0;
        if zero {
            match (h.negative_buckets.is_empty(), h.positive_buckets.is_empty()) {
                (true, false) => b.lower = 0.0,
                (false, true) => b.upper = 0.0,
                _ => {}
            }
        }
        for (bound, set) in [(lower, &mut lower_rank), (upper, &mut upper_rank)] {
            if set.is_some() {
                continue;
            }
            if b.lower >= bound {
                *set = Some(rank);
            } else if b.upper > bound {
                *set = Some(rank + b.count * share_below(b, bound, is_custom(h) || zero));
            }
        }
        rank += b.count;
    }
    // With NaN observations the count is more than what is in buckets; those are below no bound.
    let all = if h.sum.is_nan() { observed } else { h.count };
    let (lower_rank, upper_rank) = (lower_rank.unwrap_or(all).min(all), upper_rank.unwrap_or(all).min(all));
    (upper_rank - lower_rank) / h.count
}

/// The share of a bucket's observations below `bound`, which lies inside.
pub(super) fn share_below(b: Bucket, bound: f64, linear: bool) -> f64 {
    if linear {
        if b.lower == f64::NEG_INFINITY {
            return 1.0;
        }
        if b.upper == f64::INFINITY {
            return 0.0;
        }
        return (bound - b.lower) / (b.upper - b.lower);
    }
    let (lower, upper, v) = (b.lower.abs().log2(), b.upper.abs().log2(), bound.abs().log2());
    if bound > 0.0 { (v - lower) / (upper - lower) } else { 1.0 - (v - upper) / (lower - upper) }
}
