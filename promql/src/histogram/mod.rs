//! Arithmetic of native histograms, for both evaluators.
//!
//! A [`FloatHistogram`] is a value; what is computed here is a new one, whose buckets are packed: no empty bucket is
//! kept. Exponential histograms of different resolution meet at the lower one, zero buckets at the wider one, and
//! custom bounds at those that both have. Exponential and custom buckets never mix.
//!
//! # Source
//! The semantics are those of Prometheus' `model/histogram/float_histogram.go` and `promql/quantile.go`.

mod accumulate;
mod compare;
mod stats;
mod text;
mod trim;

pub(crate) use accumulate::Compensated;
pub use accumulate::{Accumulator, Incompatible, Merged};
pub use compare::{detect_reset, equals};
pub use stats::{average, fraction, nan_observations, quantile, stdvar};
pub use text::text;
pub use trim::{Side, trim};

use promontory_model::FloatHistogram;
use promontory_model::histogram::{CUSTOM_BUCKETS_SCHEMA, CounterResetHint, Span};

/// Whether the bounds are listed instead of exponential.
#[must_use]
pub fn is_custom(h: &FloatHistogram) -> bool {
    h.schema == CUSTOM_BUCKETS_SCHEMA
}

/// A bucket with its bounds; the lower one is outside, the upper one inside, mirrored for negative buckets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// Lower bound.
    pub lower: f64,
    /// Upper bound.
    pub upper: f64,
    /// Observations.
    pub count: f64,
}

/// Index and count of each bucket that the spans name, ascending.
pub fn indexed<'a>(spans: &'a [Span], buckets: &'a [f64]) -> impl Iterator<Item = (i32, f64)> + 'a {
    let mut next = 0_i32;
    let indexes = spans.iter().flat_map(move |span| {
        let start = next.wrapping_add(span.offset);
        next = start.wrapping_add_unsigned(span.length);
        start..next
    });
    indexes.zip(buckets.iter().copied())
}

/// Spans and counts of buckets in ascending order of index; empty ones are left out.
#[must_use]
pub fn packed(buckets: impl Iterator<Item = (i32, f64)>) -> (Vec<Span>, Vec<f64>) {
    let mut spans: Vec<Span> = Vec::new();
    let mut counts = Vec::new();
    let mut end = 0_i32;
    for (index, count) in buckets.filter(|(_, count)| *count != 0.0) {
        match spans.last_mut() {
            Some(span) if index == end => span.length += 1,
            _ => spans.push(Span { offset: index.wrapping_sub(end), length: 1 }),
        }
        end = index.wrapping_add(1);
        counts.push(count);
    }
    (spans, counts)
}

/// The same histogram without empty buckets.
#[must_use]
pub fn compact(h: &FloatHistogram) -> FloatHistogram {
    let (positive_spans, positive_buckets) = packed(indexed(&h.positive_spans, &h.positive_buckets));
    let (negative_spans, negative_buckets) = packed(indexed(&h.negative_spans, &h.negative_buckets));
    FloatHistogram { positive_spans, positive_buckets, negative_spans, negative_buckets, ..h.clone() }
}

/// The upper bound of bucket `index` at an exponential `schema`.
#[must_use]
pub fn exponential_bound(index: i32, schema: i32) -> f64 {
    if schema < 0 {
        let exponent = i64::from(index) << schema.unsigned_abs().min(31);
        // The bucket that ends at 2^1024 ends at the largest number instead; only infinities lie above.
        return if exponent == 1024 { f64::MAX } else { power_of_two(exponent) };
    }
    let shift = schema.min(30);
    let fraction = f64::from(index & ((1 << shift) - 1)) / f64::from(1_u32 << shift);
    let exponent = i64::from(index >> shift);
    if fraction == 0.0 && exponent == 1024 {
        return f64::MAX;
    }
    let bound = fraction.exp2();
    // Two steps, because 2^1024 alone is infinite where the product is not.
    bound * 0.5 * power_of_two(exponent + 1)
}

fn power_of_two(exponent: i64) -> f64 {
    // The clamp keeps infinities and zeroes what they are.
    2f64.powi(exponent.clamp(-1100, 1100) as i32)
}

/// The bounds of positive bucket `index`.
#[must_use]
pub fn bounds(h: &FloatHistogram, index: i32) -> (f64, f64) {
    if !is_custom(h) {
        return (exponential_bound(index.wrapping_sub(1), h.schema), exponential_bound(index, h.schema));
    }
    let at = |i: i32| usize::try_from(i).ok().and_then(|i| h.custom_values.get(i).copied());
    let lower = if index <= 0 { f64::NEG_INFINITY } else { at(index - 1).unwrap_or(f64::INFINITY) };
    (lower, at(index).unwrap_or(f64::INFINITY))
}

/// Buckets above the zero bucket, ascending.
pub fn positive_buckets(h: &FloatHistogram) -> impl Iterator<Item = Bucket> + '_ {
    indexed(&h.positive_spans, &h.positive_buckets).map(|(index, count)| {
        let (lower, upper) = bounds(h, index);
        Bucket { lower, upper, count }
    })
}

/// Buckets below the zero bucket, from it downwards.
pub fn negative_buckets(h: &FloatHistogram) -> impl Iterator<Item = Bucket> + '_ {
    indexed(&h.negative_spans, &h.negative_buckets).map(|(index, count)| {
        let (upper, lower) = bounds(h, index);
        Bucket { lower: -lower, upper: -upper, count }
    })
}

/// All populated buckets in ascending order, the zero bucket among them.
#[must_use]
pub fn all_buckets(h: &FloatHistogram) -> Vec<Bucket> {
    let mut all: Vec<Bucket> = negative_buckets(h).filter(|b| b.count != 0.0).collect();
    all.reverse();
    if h.zero_count != 0.0 {
        all.push(Bucket { lower: -h.zero_threshold, upper: h.zero_threshold, count: h.zero_count });
    }
    all.extend(positive_buckets(h).filter(|b| b.count != 0.0));
    all
}

/// Every component times `factor`.
#[must_use]
pub fn scaled(h: &FloatHistogram, factor: f64) -> FloatHistogram {
    let mut out = mapped(h, |v| v * factor);
    if factor < 0.0 {
        out.counter_reset_hint = CounterResetHint::Gauge;
    }
    out
}

/// Every component divided by `divisor`; nothing is known of buckets after a division by zero.
#[must_use]
pub fn divided(h: &FloatHistogram, divisor: f64) -> FloatHistogram {
    let mut out = mapped(h, |v| v / divisor);
    if divisor == 0.0 {
        out.positive_spans.clear();
        out.positive_buckets.clear();
        out.negative_spans.clear();
        out.negative_buckets.clear();
    }
    if divisor < 0.0 {
        out.counter_reset_hint = CounterResetHint::Gauge;
    }
    out
}

fn mapped(h: &FloatHistogram, f: impl Fn(f64) -> f64) -> FloatHistogram {
    FloatHistogram {
        zero_count: f(h.zero_count),
        count: f(h.count),
        sum: f(h.sum),
        positive_buckets: h.positive_buckets.iter().map(|v| f(*v)).collect(),
        negative_buckets: h.negative_buckets.iter().map(|v| f(*v)).collect(),
        ..h.clone()
    }
}

#[cfg(test)]
mod tests;
