//! Exponential histograms, and those with explicit bounds, as native ones.
//!
//! Bucket `i` of OpenTelemetry lies above the bound by which Prometheus names it, so that numbers differ by one.

use promontory_model::histogram::{CUSTOM_BUCKETS_SCHEMA, Counts, HistogramSample, InvalidHistogram, Span};
use promontory_model::{FloatHistogram, stale_nan};
use promontory_promql::histogram::packed;

use super::message::{Buckets, ExponentialPoint, HistogramPoint, NO_RECORDED_VALUE};

/// Coarsest scale that has a schema.
const SCALE_MIN: i32 = -4;
/// Width of the zero bucket where none is said.
const ZERO_THRESHOLD: f64 = 1e-128;

/// Why a point is no native histogram.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unfit {
    #[error("cannot convert exponential to native histogram: scale must be >= -4, was {0}")]
    Scale(i32),
    #[error("number of a bucket is out of range")]
    Bucket,
    #[error(transparent)]
    Invalid(#[from] InvalidHistogram),
}

/// The native histogram of an exponential one.
pub(super) fn exponential(point: &ExponentialPoint) -> Result<HistogramSample, Unfit> {
    if point.scale < SCALE_MIN {
        return Err(Unfit::Scale(point.scale));
    }
    let mut h = FloatHistogram {
        schema: point.scale,
        zero_threshold: if point.zero_threshold > 0.0 { point.zero_threshold } else { ZERO_THRESHOLD },
        ..FloatHistogram::default()
    };
    if point.flags & NO_RECORDED_VALUE != 0 {
        h.sum = stale_nan();
    } else {
        h.count = point.count as f64;
        h.sum = point.sum.unwrap_or(0.0);
        h.zero_count = point.zero_count as f64;
        (h.positive_spans, h.positive_buckets) = side(point.positive.as_ref())?;
        (h.negative_spans, h.negative_buckets) = side(point.negative.as_ref())?;
    }
    Ok(HistogramSample::new(h, Counts::Integer)?)
}

fn side(buckets: Option<&Buckets>) -> Result<(Vec<Span>, Vec<f64>), Unfit> {
    let Some(buckets) = buckets else { return Ok(Default::default()) };
    let n = i64::try_from(buckets.bucket_counts.len()).map_err(|_| Unfit::Bucket)?;
    let first = i64::from(buckets.offset) + 1;
    let index = i32::try_from(first).ok().filter(|_| i32::try_from(first + n).is_ok()).ok_or(Unfit::Bucket)?;
    // The counts come first, so that no number is asked for beyond theirs.
    Ok(packed(buckets.bucket_counts.iter().zip(index..).map(|(n, i)| (i, *n as f64))))
}

/// The native histogram of one with explicit bounds.
pub(super) fn custom(point: &HistogramPoint) -> Result<HistogramSample, Unfit> {
    let mut h = FloatHistogram { schema: CUSTOM_BUCKETS_SCHEMA, ..FloatHistogram::default() };
    // The last bound of some senders is that of all histograms.
    let bounds = point.explicit_bounds.iter().copied().take_while(|b| *b != f64::INFINITY);
    h.custom_values = bounds.collect();
    if point.flags & NO_RECORDED_VALUE != 0 {
        h.sum = stale_nan();
    } else {
        h.count = point.count as f64;
        h.sum = point.sum.unwrap_or(0.0);
        (h.positive_spans, h.positive_buckets) = packed((0..).zip(&point.bucket_counts).map(|(i, n)| (i, *n as f64)));
    }
    Ok(HistogramSample::new(h, Counts::Integer)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(scale: i32, offset: i32, counts: &[u64]) -> ExponentialPoint {
        ExponentialPoint {
            scale,
            count: counts.iter().sum::<u64>() + 1,
            zero_count: 1,
            sum: Some(1.5),
            positive: Some(Buckets { offset, bucket_counts: counts.to_vec() }),
            ..ExponentialPoint::default()
        }
    }

    #[track_caller]
    fn check(point: ExponentialPoint, expected: &str) {
        let got = match exponential(&point) {
            Ok(h) => promontory_promql::histogram::text(h.value(), h.counts()),
            Err(e) => e.to_string(),
        };
        assert_eq!(got, expected);
    }

    #[test]
    fn buckets_are_those_above_their_bound() {
        let zero = "[-1e-128,1e-128]:1";
        check(point(0, 0, &[2, 0, 3]), &format!("{{count:6, sum:1.5, {zero}, (1,2]:2, (4,8]:3}}"));
        check(point(1, -2, &[4]), &format!("{{count:5, sum:1.5, {zero}, (0.5,0.7071067811865476]:4}}"));
        check(point(-5, 0, &[1]), "cannot convert exponential to native histogram: scale must be >= -4, was -5");
        check(point(0, i32::MAX, &[1]), "number of a bucket is out of range");
        let last = exponential(&point(0, i32::MAX - 2, &[1])).unwrap();
        assert_eq!(last.value().positive_spans, [Span { offset: i32::MAX - 1, length: 1 }]);
        let stale = ExponentialPoint { flags: NO_RECORDED_VALUE, ..point(0, 0, &[2]) };
        assert!(exponential(&stale).unwrap().is_stale());
        // Finer than any schema: pairs of buckets become one.
        let fine = exponential(&point(9, 0, &[1, 2, 4])).unwrap();
        assert_eq!((fine.value().schema, &*fine.value().positive_buckets), (8, &[3.0, 4.0][..]));
    }

    #[test]
    fn explicit_bounds_are_custom_buckets() {
        let point = HistogramPoint {
            count: 6,
            sum: Some(9.0),
            bucket_counts: vec![1, 0, 5],
            explicit_bounds: vec![0.5, 2.0],
            ..HistogramPoint::default()
        };
        let h = custom(&point).unwrap();
        assert_eq!((&*h.value().custom_values, &*h.value().positive_buckets), (&[0.5, 2.0][..], &[1.0, 5.0][..]));
        let wrong = HistogramPoint { explicit_bounds: vec![2.0, 0.5], ..point };
        assert!(custom(&wrong).is_err());
    }
}
