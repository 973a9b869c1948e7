//! The buckets of a native histogram with their bounds, for display.

use promontory_model::FloatHistogram;
use promontory_model::histogram::{CUSTOM_BUCKETS_SCHEMA, Span};

/// A bucket with its bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bucket {
    pub(crate) bounds: Bounds,
    pub(crate) lower: f64,
    pub(crate) upper: f64,
    pub(crate) count: f64,
}

/// Which bounds belong to a bucket; the number is the API's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bounds {
    OpenLeft = 0,
    OpenRight = 1,
    Closed = 3,
}

/// All buckets by ascending bound: negative ones, the zero bucket if it counts anything, positive ones. Differences may
/// have a zero bucket of less than nothing; Prometheus shows that as little as an empty one.
pub(crate) fn buckets(h: &FloatHistogram) -> impl Iterator<Item = Bucket> + '_ {
    let mut negative: Vec<Bucket> = indexed(&h.negative_spans, &h.negative_buckets)
        .map(|(i, count)| Bucket {
            bounds: Bounds::OpenRight,
            lower: -bound(h, i),
            upper: -bound(h, i.saturating_sub(1)),
            count,
        })
        .collect();
    negative.reverse();
    let zero =
        Bucket { bounds: Bounds::Closed, lower: -h.zero_threshold, upper: h.zero_threshold, count: h.zero_count };
    let has_zero = h.schema != CUSTOM_BUCKETS_SCHEMA && h.zero_count > 0.0;
    let positive = indexed(&h.positive_spans, &h.positive_buckets).map(|(i, count)| Bucket {
        // The lowest custom bucket has all from -Inf on.
        bounds: if h.schema == CUSTOM_BUCKETS_SCHEMA && i == 0 { Bounds::Closed } else { Bounds::OpenLeft },
        lower: bound(h, i.saturating_sub(1)),
        upper: bound(h, i),
        count,
    });
    negative.into_iter().chain(has_zero.then_some(zero)).chain(positive)
}

/// Bucket numbers with counts.
fn indexed<'a>(spans: &'a [Span], counts: &'a [f64]) -> impl Iterator<Item = (i32, f64)> + 'a {
    let mut next = 0_i32;
    let numbers = spans.iter().flat_map(move |span| {
        let first = next.saturating_add(span.offset);
        next = first.saturating_add_unsigned(span.length);
        first..next
    });
    numbers.zip(counts.iter().copied())
}

/// Upper bound of bucket `i` on the positive side.
fn bound(h: &FloatHistogram, i: i32) -> f64 {
    if h.schema == CUSTOM_BUCKETS_SCHEMA {
        return match usize::try_from(i) {
            Err(_) => f64::NEG_INFINITY,
            Ok(i) => h.custom_values.get(i).copied().unwrap_or(f64::INFINITY),
        };
    }
    let zero_edge = |v: f64| if v < h.zero_threshold { h.zero_threshold } else { v };
    // Two to the power of i / 2^schema; a schema is at most 8, so this exponent is exact.
    zero_edge((f64::from(i) * (-f64::from(h.schema)).exp2()).exp2())
}
