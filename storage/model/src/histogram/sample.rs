//! A histogram that a store takes: checked, of a resolution that queries know, with what its counts were.
//!
//! # Source
//! The rules and the texts of their violations are those of Prometheus' `model/histogram`.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use super::{CUSTOM_BUCKETS_SCHEMA, CounterResetHint, FloatHistogram, Span};
use crate::sample::is_stale;

/// Coarsest exponential schema that is stored.
const SCHEMA_MIN: i32 = -4;
/// Finest exponential schema that is stored.
const SCHEMA_MAX: i32 = 8;
/// Coarsest and finest exponential schema that the format sets aside; finer ones than [`SCHEMA_MAX`] are reduced.
const SCHEMA_MIN_RESERVED: i32 = -9;
const SCHEMA_MAX_RESERVED: i32 = 52;
/// Buckets, spans and bounds of one histogram. Client libraries stop at a few hundred buckets.
const NUMBERS_MAX: usize = 65_536;
/// Integers up to here are exact in an f64.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// What the counts of a histogram were when it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Counts {
    /// Integers. They are kept as f64, exactly up to 2^53 and rounded to the nearest f64 beyond.
    Integer,
    /// Floating-point numbers.
    Float,
}

/// A histogram as it is stored. Cheap to clone.
///
/// Its hint says nothing but whether it is a gauge as long as nothing was before it: what else a sender claims about
/// resets, a reader finds by comparing.
#[derive(Debug, Clone)]
pub struct HistogramSample {
    value: Arc<FloatHistogram>,
    counts: Counts,
}

impl HistogramSample {
    /// Checks a histogram that came from outside. A finer schema than 8 is reduced to it.
    ///
    /// # Errors
    /// [`InvalidHistogram`] when it breaks a rule.
    pub fn new(mut value: FloatHistogram, counts: Counts) -> Result<Self, InvalidHistogram> {
        if !is_known(value.schema) {
            return Err(InvalidHistogram::UnknownSchema(value.schema));
        }
        let spans = value.positive_spans.len() + value.negative_spans.len();
        let buckets = value.positive_buckets.len() + value.negative_buckets.len();
        let found = spans + buckets + value.custom_values.len();
        if found > NUMBERS_MAX {
            return Err(InvalidHistogram::TooLarge { found, max: NUMBERS_MAX });
        }
        check(&value, counts)?;
        if value.schema > SCHEMA_MAX {
            reduce(&mut value, SCHEMA_MAX);
        }
        if value.counter_reset_hint != CounterResetHint::Gauge {
            value.counter_reset_hint = CounterResetHint::Unknown;
        }
        Ok(Self { value: Arc::new(value), counts })
    }

    /// Merges exponential buckets until their schema is at most `schema`, which a store knows; those of custom bounds
    /// stay.
    pub fn reduce_to(&mut self, schema: i32) {
        let schema = schema.max(SCHEMA_MIN);
        if self.value.schema > schema {
            reduce(Arc::make_mut(&mut self.value), schema);
        }
    }

    /// A histogram that was checked before it was stored.
    #[must_use]
    pub fn from_stored(value: Arc<FloatHistogram>, counts: Counts) -> Self {
        Self { value, counts }
    }

    /// The histogram.
    #[must_use]
    pub fn value(&self) -> &Arc<FloatHistogram> {
        &self.value
    }

    /// The histogram alone.
    #[must_use]
    pub fn into_value(self) -> Arc<FloatHistogram> {
        self.value
    }

    /// The histogram, to change its hint; copied when it is shared.
    pub fn value_mut(&mut self) -> &mut FloatHistogram {
        Arc::make_mut(&mut self.value)
    }

    /// What the counts were when the histogram was sent.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What the histogram was before anything was observed.
    #[must_use]
    pub fn begun(&self) -> Self {
        let empty = FloatHistogram {
            schema: self.value.schema,
            zero_threshold: self.value.zero_threshold,
            custom_values: self.value.custom_values.clone(),
            ..FloatHistogram::default()
        };
        Self { value: Arc::new(empty), counts: self.counts }
    }

    /// Whether it ends its series.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        is_stale(self.value.sum)
    }

    /// Whether two histograms are the same sample: all numbers bit for bit. What is known of resets does not count.
    #[must_use]
    pub fn same_bits(&self, other: &Self) -> bool {
        let (a, b) = (&*self.value, &*other.value);
        let is_gauge = |h: &FloatHistogram| h.counter_reset_hint == CounterResetHint::Gauge;
        let same =
            |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits());
        let numbers = |h: &FloatHistogram| [h.zero_threshold, h.zero_count, h.count, h.sum];
        self.counts == other.counts
            && is_gauge(a) == is_gauge(b)
            && a.schema == b.schema
            && same(&numbers(a), &numbers(b))
            && a.positive_spans == b.positive_spans
            && a.negative_spans == b.negative_spans
            && same(&a.positive_buckets, &b.positive_buckets)
            && same(&a.negative_buckets, &b.negative_buckets)
            && same(&a.custom_values, &b.custom_values)
    }
}

impl Borrow<FloatHistogram> for HistogramSample {
    fn borrow(&self) -> &FloatHistogram {
        &self.value
    }
}

/// A side of the buckets, in messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Above the zero bucket.
    Positive,
    /// Below it.
    Negative,
    /// Of custom bounds.
    Custom,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Positive => "positive side",
            Self::Negative => "negative side",
            Self::Custom => "custom buckets",
        })
    }
}

/// Why a histogram is not stored.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InvalidHistogram {
    /// A schema that no rule covers.
    #[error(
        "histogram has an unknown schema, which must be between -9 and 52 for exponential buckets, or -53 for custom \
         buckets, got schema {0}"
    )]
    UnknownSchema(i32),
    /// A schema that is set aside but not in use.
    #[error(
        "histogram has an invalid schema, which must be between -4 and 8 for exponential buckets, or -53 for custom \
         buckets, got schema {0}"
    )]
    InvalidSchema(i32),
    /// More than a store takes.
    #[error("histogram has {found} buckets, spans and custom bounds, more than {max} (histogram_numbers_max)")]
    TooLarge {
        /// How many it has.
        found: usize,
        /// How many it may have.
        max: usize,
    },
    /// Spans would overlap.
    #[error("{side}: span number {number} with offset {offset}: histogram has a span whose offset is negative")]
    NegativeOffset {
        /// Side of the span.
        side: Side,
        /// Counted from 1.
        number: usize,
        /// Its offset.
        offset: i32,
    },
    /// Spans and buckets do not fit each other.
    #[error(
        "{side}: spans need {needed} buckets, have {found} buckets: histogram spans specify different number of buckets \
         than provided"
    )]
    SpansMismatch {
        /// Side of the spans.
        side: Side,
        /// Buckets of the spans.
        needed: u64,
        /// Buckets that are there.
        found: usize,
    },
    /// Nothing can have been observed less than never.
    #[error(
        "{side}: bucket number {number} has observation count of {count}: histogram has a bucket whose observation \
         count is negative"
    )]
    NegativeBucket {
        /// Side of the bucket.
        side: Side,
        /// Counted from 1.
        number: usize,
        /// Its count.
        count: f64,
    },
    /// As [`InvalidHistogram::NegativeBucket`], of all buckets or the zero bucket.
    #[error("histogram's observation count is negative")]
    NegativeCount,
    /// Without NaN among the observations, each is in a bucket.
    #[error(
        "{buckets} observations found in buckets, but the Count field is {count}: histogram's observation count should \
         equal the number of observations found in the buckets (in absence of NaN)"
    )]
    CountMismatch {
        /// Sum of the buckets.
        buckets: f64,
        /// The count.
        count: f64,
    },
    /// What is in buckets was observed.
    #[error(
        "{buckets} observations found in buckets, but the Count field is {count}: histogram's observation count should \
         be at least the number of observations found in the buckets"
    )]
    CountTooSmall {
        /// Sum of the buckets.
        buckets: f64,
        /// The count.
        count: f64,
    },
    /// Bounds that do not ascend.
    #[error(
        "custom buckets: previous bound is {previous} and current is {current}: histogram custom bounds must be in strictly increasing order"
    )]
    BoundsNotAscending {
        /// A bound.
        previous: f64,
        /// The one after it.
        current: f64,
    },
    /// The bound of the last bucket is infinite, and not listed.
    #[error("custom buckets: last +Inf bound must not be explicitly defined: histogram custom bounds must be finite")]
    InfiniteBound,
    /// No value is below a bound that is no number.
    #[error("custom buckets: histogram custom bounds must not be NaN")]
    NanBound,
    /// Buckets without a bound.
    #[error(
        "custom buckets: only {bounds} custom bounds defined which is insufficient to cover total span length of {needed}: histogram custom bounds are too few"
    )]
    TooFewBounds {
        /// Bounds that are there.
        bounds: usize,
        /// Buckets that the spans reach.
        needed: u64,
    },
    /// Custom buckets have no zero bucket.
    #[error("custom buckets: must have zero count of 0")]
    CustomZeroCount,
    /// Custom buckets have no zero bucket.
    #[error("custom buckets: must have zero threshold of 0")]
    CustomZeroThreshold,
    /// Custom buckets have one side.
    #[error("custom buckets: must not have negative spans")]
    CustomNegativeSpans,
    /// Custom buckets have one side.
    #[error("custom buckets: must not have negative buckets")]
    CustomNegativeBuckets,
    /// Exponential buckets have bounds by their schema.
    #[error("histogram with exponential schema must not have custom bounds")]
    ExponentialBounds,
}

fn is_known(schema: i32) -> bool {
    schema == CUSTOM_BUCKETS_SCHEMA || (SCHEMA_MIN_RESERVED..=SCHEMA_MAX_RESERVED).contains(&schema)
}

fn check(h: &FloatHistogram, counts: Counts) -> Result<(), InvalidHistogram> {
    if h.schema == CUSTOM_BUCKETS_SCHEMA {
        check_custom(h)?;
    } else if h.schema < SCHEMA_MIN {
        return Err(InvalidHistogram::InvalidSchema(h.schema));
    } else {
        check_spans(Side::Positive, &h.positive_spans, h.positive_buckets.len())?;
        check_spans(Side::Negative, &h.negative_spans, h.negative_buckets.len())?;
        if !h.custom_values.is_empty() {
            return Err(InvalidHistogram::ExponentialBounds);
        }
    }
    let negative = check_buckets(Side::Negative, &h.negative_buckets)?;
    let positive = check_buckets(Side::Positive, &h.positive_buckets)?;
    if h.zero_count < 0.0 || h.count < 0.0 {
        return Err(InvalidHistogram::NegativeCount);
    }
    // Sums of floats differ by how they are rounded, so only integers are compared, as far as they are exact.
    if counts == Counts::Float || h.count > EXACT_MAX {
        return Ok(());
    }
    let (buckets, count) = (negative + positive + h.zero_count, h.count);
    if h.sum.is_nan() {
        return if buckets > count { Err(InvalidHistogram::CountTooSmall { buckets, count }) } else { Ok(()) };
    }
    if buckets == count { Ok(()) } else { Err(InvalidHistogram::CountMismatch { buckets, count }) }
}

fn check_custom(h: &FloatHistogram) -> Result<(), InvalidHistogram> {
    if let Some((previous, current)) = h.custom_values.windows(2).map(|w| (w[0], w[1])).find(|(a, b)| a >= b) {
        return Err(InvalidHistogram::BoundsNotAscending { previous, current });
    }
    if h.custom_values.iter().any(|b| b.is_nan()) {
        return Err(InvalidHistogram::NanBound);
    }
    if h.custom_values.iter().any(|b| b.is_infinite()) {
        return Err(InvalidHistogram::InfiniteBound);
    }
    let mut reached = 0u64;
    for (i, span) in h.positive_spans.iter().enumerate() {
        let offset = u64::try_from(span.offset);
        let Ok(offset) = offset else {
            return Err(InvalidHistogram::NegativeOffset { side: Side::Custom, number: i + 1, offset: span.offset });
        };
        reached = reached.saturating_add(offset).saturating_add(u64::from(span.length));
    }
    check_spans(Side::Custom, &h.positive_spans, h.positive_buckets.len())?;
    // One bucket more than bounds: the last one has no upper bound.
    if reached > h.custom_values.len() as u64 + 1 {
        return Err(InvalidHistogram::TooFewBounds { bounds: h.custom_values.len(), needed: reached });
    }
    if h.zero_count != 0.0 {
        return Err(InvalidHistogram::CustomZeroCount);
    }
    if h.zero_threshold != 0.0 {
        return Err(InvalidHistogram::CustomZeroThreshold);
    }
    if !h.negative_spans.is_empty() {
        return Err(InvalidHistogram::CustomNegativeSpans);
    }
    if !h.negative_buckets.is_empty() {
        return Err(InvalidHistogram::CustomNegativeBuckets);
    }
    Ok(())
}

fn check_spans(side: Side, spans: &[Span], found: usize) -> Result<(), InvalidHistogram> {
    if let Some((i, span)) = spans.iter().enumerate().skip(1).find(|(_, span)| span.offset < 0) {
        return Err(InvalidHistogram::NegativeOffset { side, number: i + 1, offset: span.offset });
    }
    let needed: u64 = spans.iter().map(|span| u64::from(span.length)).sum();
    if needed == found as u64 { Ok(()) } else { Err(InvalidHistogram::SpansMismatch { side, needed, found }) }
}

/// The sum of the buckets.
fn check_buckets(side: Side, buckets: &[f64]) -> Result<f64, InvalidHistogram> {
    match buckets.iter().position(|count| *count < 0.0) {
        Some(i) => Err(InvalidHistogram::NegativeBucket { side, number: i + 1, count: buckets[i] }),
        None => Ok(buckets.iter().sum()),
    }
}

/// Merges buckets until the schema is `schema`.
fn reduce(h: &mut FloatHistogram, schema: i32) {
    let shift = (h.schema - schema).clamp(0, 63).unsigned_abs();
    for (spans, buckets) in
        [(&mut h.positive_spans, &mut h.positive_buckets), (&mut h.negative_spans, &mut h.negative_buckets)]
    {
        (*spans, *buckets) = reduced(spans, buckets, shift);
    }
    h.schema = schema;
}

fn reduced(spans: &[Span], buckets: &[f64], shift: u32) -> (Vec<Span>, Vec<f64>) {
    let (mut out_spans, mut out): (Vec<Span>, Vec<f64>) = (Vec::new(), Vec::new());
    let mut next = 0i64;
    // One past the last bucket written.
    let mut end = 0i64;
    let mut counts = buckets.iter();
    for span in spans {
        next += i64::from(span.offset);
        for count in counts.by_ref().take(span.length as usize) {
            // Bucket i ends at the bound that its merged bucket ends at or before.
            let index = ((next - 1) >> shift) + 1;
            next += 1;
            match (out_spans.last_mut(), out.last_mut()) {
                (Some(_), Some(last)) if index + 1 == end => *last += count,
                (Some(span), _) if index == end => {
                    span.length += 1;
                    out.push(*count);
                    end = index + 1;
                }
                _ => {
                    // Indexes get smaller in magnitude, so what fitted before fits now.
                    let offset = i32::try_from(index - end).unwrap_or(i32::MAX);
                    out_spans.push(Span { offset, length: 1 });
                    out.push(*count);
                    end = index + 1;
                }
            }
        }
    }
    (out_spans, out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stale_nan;

    fn exponential(schema: i32, count: f64, spans: &[(i32, u32)], buckets: &[f64]) -> FloatHistogram {
        FloatHistogram {
            schema,
            count,
            sum: 1.0,
            positive_spans: spans.iter().map(|&(offset, length)| Span { offset, length }).collect(),
            positive_buckets: buckets.to_vec(),
            ..FloatHistogram::default()
        }
    }

    fn custom(bounds: &[f64], spans: &[(i32, u32)], buckets: &[f64]) -> FloatHistogram {
        let count = buckets.iter().sum();
        FloatHistogram { custom_values: bounds.to_vec(), ..exponential(CUSTOM_BUCKETS_SCHEMA, count, spans, buckets) }
    }

    #[track_caller]
    fn check(h: FloatHistogram, expected: &str) {
        let got = HistogramSample::new(h, Counts::Integer).err().map(|e| e.to_string()).unwrap_or_default();
        assert_eq!(got, expected);
    }

    #[test]
    fn valid_histograms_are_taken() {
        check(FloatHistogram::default(), "");
        check(exponential(3, 6.0, &[(-4, 2), (3, 1)], &[1.0, 2.0, 3.0]), "");
        check(exponential(-4, 0.0, &[], &[]), "");
        check(FloatHistogram { sum: f64::NAN, ..exponential(0, 7.0, &[(0, 1)], &[3.0]) }, "");
        check(custom(&[1.0, 2.0], &[(0, 2), (0, 1)], &[1.0, 1.0, 1.0]), "");
        check(FloatHistogram { sum: stale_nan(), ..FloatHistogram::default() }, "");
        let fractions = exponential(0, 1.0, &[(0, 2)], &[0.1, 0.3]);
        assert!(HistogramSample::new(fractions, Counts::Float).is_ok());
        let large = 2f64.powi(60);
        check(exponential(0, large, &[(0, 1)], &[large - 1024.0]), "");
    }

    #[test]
    fn broken_rules_are_named() {
        check(
            exponential(0, 4.0, &[(0, 1)], &[3.0]),
            "3 observations found in buckets, but the Count field is 4: histogram's observation count should equal the \
             number of observations found in the buckets (in absence of NaN)",
        );
        check(
            FloatHistogram { sum: f64::NAN, ..exponential(0, 2.0, &[(0, 1)], &[3.0]) },
            "3 observations found in buckets, but the Count field is 2: histogram's observation count should be at \
             least the number of observations found in the buckets",
        );
        let negative = FloatHistogram {
            negative_spans: vec![Span { offset: 0, length: 1 }],
            negative_buckets: vec![1.0, 2.0],
            ..FloatHistogram::default()
        };
        check(
            negative,
            "negative side: spans need 1 buckets, have 2 buckets: histogram spans specify different number of buckets \
             than provided",
        );
        check(
            exponential(0, 2.0, &[(0, 1), (-1, 1)], &[1.0, 1.0]),
            "positive side: span number 2 with offset -1: histogram has a span whose offset is negative",
        );
        check(
            exponential(0, 2.0, &[(0, 2)], &[3.0, -1.0]),
            "positive side: bucket number 2 has observation count of -1: histogram has a bucket whose observation \
             count is negative",
        );
        check(
            FloatHistogram { zero_count: -1.0, ..FloatHistogram::default() },
            "histogram's observation count is negative",
        );
        check(
            FloatHistogram { custom_values: vec![1.0], ..FloatHistogram::default() },
            "histogram with exponential schema must not have custom bounds",
        );
        for (schema, word, min, max) in [(-5, "invalid", -4, 8), (-10, "unknown", -9, 52), (53, "unknown", -9, 52)] {
            check(
                exponential(schema, 0.0, &[], &[]),
                &format!(
                    "histogram has an {word} schema, which must be between {min} and {max} for exponential buckets, or \
                     -53 for custom buckets, got schema {schema}"
                ),
            );
        }
    }

    #[test]
    fn the_size_is_limited() {
        check(exponential(0, 65_535.0, &[(0, 65_535)], &[1.0; 65_535]), "");
        check(
            exponential(0, 65_536.0, &[(0, 65_536)], &[1.0; 65_536]),
            "histogram has 65537 buckets, spans and custom bounds, more than 65536 (histogram_numbers_max)",
        );
    }

    #[test]
    fn custom_bounds_are_checked() {
        check(
            custom(&[2.0, 1.0], &[(0, 1)], &[1.0]),
            "custom buckets: previous bound is 2 and current is 1: histogram custom bounds must be in strictly \
             increasing order",
        );
        check(
            custom(&[1.0, f64::INFINITY], &[], &[]),
            "custom buckets: last +Inf bound must not be explicitly defined: histogram custom bounds must be finite",
        );
        check(custom(&[f64::NAN], &[], &[]), "custom buckets: histogram custom bounds must not be NaN");
        check(
            custom(&[1.0], &[(0, 1), (1, 1)], &[1.0, 1.0]),
            "custom buckets: only 1 custom bounds defined which is insufficient to cover total span length of 3: \
             histogram custom bounds are too few",
        );
        check(
            custom(&[1.0], &[(-1, 1)], &[1.0]),
            "custom buckets: span number 1 with offset -1: histogram has a span whose offset is negative",
        );
        let one = || custom(&[1.0], &[(0, 1)], &[1.0]);
        check(FloatHistogram { zero_count: 1.0, ..one() }, "custom buckets: must have zero count of 0");
        check(FloatHistogram { zero_threshold: 1.0, ..one() }, "custom buckets: must have zero threshold of 0");
        let spans = vec![Span { offset: 0, length: 0 }];
        check(FloatHistogram { negative_spans: spans, ..one() }, "custom buckets: must not have negative spans");
        check(
            FloatHistogram { negative_buckets: vec![1.0], ..one() },
            "custom buckets: must not have negative buckets",
        );
    }

    #[test]
    fn a_finer_resolution_is_reduced() {
        // At schema 10 four buckets become one; bucket 1 covers indexes 1 to 4.
        let fine = exponential(10, 21.0, &[(0, 3), (1, 3)], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let sample = HistogramSample::new(fine, Counts::Integer).unwrap();
        assert_eq!(sample.value().schema, 8);
        assert_eq!(sample.value().positive_spans, [Span { offset: 0, length: 3 }]);
        assert_eq!(sample.value().positive_buckets, [1.0, 9.0, 11.0]);
        let mut coarser = sample.clone();
        coarser.reduce_to(7);
        assert_eq!((coarser.value().schema, &*coarser.value().positive_buckets), (7, &[1.0, 20.0][..]));
        coarser.reduce_to(8);
        assert_eq!((coarser.value().schema, sample.value().schema), (7, 8));
        let far = exponential(52, 2.0, &[(i32::MIN, 1), (i32::MAX, 1)], &[1.0, 1.0]);
        assert_eq!(HistogramSample::new(far, Counts::Integer).unwrap().value().positive_buckets, [2.0]);
    }

    #[test]
    fn claims_about_resets_are_dropped_and_gauges_kept() {
        for (hint, kept) in [
            (CounterResetHint::Reset, CounterResetHint::Unknown),
            (CounterResetHint::NotReset, CounterResetHint::Unknown),
            (CounterResetHint::Gauge, CounterResetHint::Gauge),
        ] {
            let h = FloatHistogram { counter_reset_hint: hint, ..FloatHistogram::default() };
            assert_eq!(HistogramSample::new(h, Counts::Float).unwrap().value().counter_reset_hint, kept);
        }
    }

    #[test]
    fn sameness_is_by_bits() {
        let of = |sum: f64, counts| {
            HistogramSample::new(FloatHistogram { sum, ..FloatHistogram::default() }, counts).unwrap()
        };
        assert!(of(f64::NAN, Counts::Float).same_bits(&of(f64::NAN, Counts::Float)));
        assert!(!of(0.0, Counts::Float).same_bits(&of(-0.0, Counts::Float)));
        assert!(!of(0.0, Counts::Float).same_bits(&of(0.0, Counts::Integer)));
    }
}
