//! A sample's value where floats and histograms meet, and the bytes of one histogram alone.
//!
//! These bytes stand in the WAL, and in memory until the histogram is sealed. Format: `docs/format/wal.md`.

use std::sync::Arc;

use promontory_model::histogram::{CounterResetHint, Counts, HistogramSample, Span};
use promontory_model::{FloatHistogram, is_stale};

use crate::wire::{Reader, WireError, put_varint, put_zigzag};

/// Flags of a histogram.
const FLOAT_COUNTS: u8 = 1;
const GAUGE: u8 = 1 << 1;
/// The counts stand as integers, whatever they were when they were sent.
const WHOLE: u8 = 1 << 2;
const CUSTOM_BOUNDS: u8 = 1 << 3;
/// Zero threshold, in two bits.
const THRESHOLD_SHIFT: u8 = 4;
const THRESHOLD_ZERO: u8 = 0;
const THRESHOLD_USUAL: u8 = 1;
const THRESHOLD_BITS: u8 = 2;
const FLAGS_END: u8 = 1 << 6;
/// 2^-128, what client libraries use.
const USUAL_THRESHOLD: f64 = f64::from_bits((1023 - 128) << 52);
/// Integers up to here are exact in an f64.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// What a series has at one time.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Float(f64),
    Histogram(HistogramSample),
}

impl Value {
    /// Whether two values are the same sample.
    pub(crate) fn same_bits(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits(),
            (Self::Histogram(a), Self::Histogram(b)) => a.same_bits(b),
            _ => false,
        }
    }
}

/// The integer that `v` is, if it is one bit for bit.
fn as_integer(v: f64) -> Option<i64> {
    let i = v as i64;
    (v.abs() <= EXACT_MAX && (i as f64).to_bits() == v.to_bits()).then_some(i)
}

fn counts_of(h: &FloatHistogram) -> impl Iterator<Item = f64> + Clone + '_ {
    [h.count, h.zero_count].into_iter().chain(h.positive_buckets.iter().chain(&h.negative_buckets).copied())
}

/// Appends a histogram; its hint only as far as it is a gauge.
pub(crate) fn put_histogram(out: &mut Vec<u8>, sample: &HistogramSample) {
    let h = &**sample.value();
    let is_whole = counts_of(h).all(|v| as_integer(v).is_some());
    let threshold = match h.zero_threshold.to_bits() {
        0 => THRESHOLD_ZERO,
        bits if bits == USUAL_THRESHOLD.to_bits() => THRESHOLD_USUAL,
        _ => THRESHOLD_BITS,
    };
    let flag = |is: bool, flag: u8| if is { flag } else { 0 };
    out.push(
        flag(sample.counts() == Counts::Float, FLOAT_COUNTS)
            | flag(h.counter_reset_hint == CounterResetHint::Gauge, GAUGE)
            | flag(is_whole, WHOLE)
            | flag(!h.custom_values.is_empty(), CUSTOM_BOUNDS)
            | threshold << THRESHOLD_SHIFT,
    );
    put_zigzag(out, i64::from(h.schema));
    let put_bits = |out: &mut Vec<u8>, v: f64| out.extend_from_slice(&v.to_bits().to_le_bytes());
    if threshold == THRESHOLD_BITS {
        put_bits(out, h.zero_threshold);
    }
    put_bits(out, h.sum);
    for (spans, buckets) in [(&h.positive_spans, &h.positive_buckets), (&h.negative_spans, &h.negative_buckets)] {
        put_varint(out, spans.len() as u64);
        for span in spans {
            put_zigzag(out, i64::from(span.offset));
            put_varint(out, u64::from(span.length));
        }
        put_varint(out, buckets.len() as u64);
    }
    if !h.custom_values.is_empty() {
        put_varint(out, h.custom_values.len() as u64);
        h.custom_values.iter().for_each(|v| put_bits(out, *v));
    }
    let mut before = 0;
    for v in counts_of(h) {
        match as_integer(v).filter(|_| is_whole) {
            Some(v) => {
                put_zigzag(out, v.wrapping_sub(before));
                before = v;
            }
            None => put_bits(out, v),
        }
    }
}

/// Reads a histogram that takes all of `bytes`.
pub(crate) fn read_histogram(bytes: &[u8]) -> Result<HistogramSample, WireError> {
    let mut r = Reader::new(bytes);
    let flags = r.u8()?;
    if flags >= FLAGS_END {
        return Err(r.error("flags of a histogram"));
    }
    let schema = i32::try_from(r.zigzag()?).map_err(|_| r.error("schema of a histogram"))?;
    let zero_threshold = match flags >> THRESHOLD_SHIFT {
        THRESHOLD_ZERO => 0.0,
        THRESHOLD_USUAL => USUAL_THRESHOLD,
        THRESHOLD_BITS => f64::from_bits(r.u64()?),
        _ => return Err(r.error("zero threshold of a histogram")),
    };
    let sum = f64::from_bits(r.u64()?);
    let (positive_spans, n_positive) = read_spans(&mut r)?;
    let (negative_spans, n_negative) = read_spans(&mut r)?;
    let mut custom_values = Vec::new();
    if flags & CUSTOM_BOUNDS != 0 {
        for _ in 0..r.count(r.remaining() / 8)? {
            custom_values.push(f64::from_bits(r.u64()?));
        }
    }
    let mut before = 0i64;
    let mut next = |r: &mut Reader<'_>| {
        if flags & WHOLE == 0 {
            return r.u64().map(f64::from_bits);
        }
        before = before.wrapping_add(r.zigzag()?);
        Ok(before as f64)
    };
    let (count, zero_count) = (next(&mut r)?, next(&mut r)?);
    let mut side = |r: &mut Reader<'_>, n: usize| (0..n).map(|_| next(r)).collect::<Result<Vec<f64>, _>>();
    let positive_buckets = side(&mut r, n_positive)?;
    let negative_buckets = side(&mut r, n_negative)?;
    if !r.is_empty() {
        return Err(r.error("bytes left over"));
    }
    let is_gauge = flags & GAUGE != 0;
    let value = FloatHistogram {
        counter_reset_hint: if is_gauge { CounterResetHint::Gauge } else { CounterResetHint::Unknown },
        schema,
        zero_threshold,
        zero_count,
        count,
        sum,
        positive_spans,
        negative_spans,
        positive_buckets,
        negative_buckets,
        custom_values,
    };
    let counts = if flags & FLOAT_COUNTS != 0 { Counts::Float } else { Counts::Integer };
    Ok(HistogramSample::from_stored(Arc::new(value), counts))
}

/// Spans, and how many buckets follow; each takes a byte at least.
fn read_spans(r: &mut Reader<'_>) -> Result<(Vec<Span>, usize), WireError> {
    let n = r.count(r.remaining() / 2)?;
    let mut spans = Vec::with_capacity(n);
    for _ in 0..n {
        let offset = i32::try_from(r.zigzag()?).map_err(|_| r.error("offset of a span"))?;
        spans.push(Span { offset, length: r.varint_u32()? });
    }
    Ok((spans, r.count(r.remaining())?))
}

/// Says which of the histograms, which follow each other in one series, continue the one before.
///
/// # Source
/// Prometheus tells the readers of a chunk the same: that no reset lies before a histogram which is not the chunk's
/// first, and nothing about the first. Here a change of the buckets counts like the start of a chunk.
pub(crate) fn derive_hints(samples: &mut [HistogramSample]) {
    for i in 0..samples.len() {
        let is_continued = i > 0 && continues(samples[i - 1].value(), samples[i].value());
        set_hint(&mut samples[i], if is_continued { CounterResetHint::NotReset } else { CounterResetHint::Unknown });
    }
}

/// Where a histogram was read from: which part of its series, and its place among the histograms there.
pub(crate) type Origin = (usize, usize);

/// Takes back what is said about a reset unless the histogram before this one is the one that it was said about.
pub(crate) fn keep_hint_after(before: Option<Origin>, at: Origin, sample: &mut HistogramSample) {
    if before.is_some_and(|(part, place)| (part, place + 1) != at) {
        set_hint(sample, CounterResetHint::Unknown);
    }
}

fn set_hint(sample: &mut HistogramSample, hint: CounterResetHint) {
    let now = sample.value().counter_reset_hint;
    if now != hint && now != CounterResetHint::Gauge {
        sample.value_mut().counter_reset_hint = hint;
    }
}

fn continues(before: &FloatHistogram, h: &FloatHistogram) -> bool {
    let grown = |before: &[f64], now: &[f64]| before.iter().zip(now).all(|(b, n)| n >= b);
    before.counter_reset_hint != CounterResetHint::Gauge
        // Readers skip markers and compare with what was before them.
        && !is_stale(before.sum)
        && before.schema == h.schema
        && before.zero_threshold.to_bits() == h.zero_threshold.to_bits()
        && before.positive_spans == h.positive_spans
        && before.negative_spans == h.negative_spans
        && before.custom_values == h.custom_values
        && before.positive_buckets.len() == h.positive_buckets.len()
        && before.negative_buckets.len() == h.negative_buckets.len()
        && h.count >= before.count
        && h.zero_count >= before.zero_count
        && grown(&before.positive_buckets, &h.positive_buckets)
        && grown(&before.negative_buckets, &h.negative_buckets)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use promontory_model::stale_nan;
    use proptest::prelude::*;

    /// Histograms of all kinds that [`HistogramSample::new`] takes.
    pub(crate) fn histogram() -> impl Strategy<Value = HistogramSample> {
        let side = || proptest::collection::vec((0i32..3, 0u32..4), 0..4);
        let shape = (prop_oneof![-4i32..=8, Just(-53)], side(), side(), any::<[bool; 3]>());
        (shape, proptest::collection::vec(0u32..1000, 26), any::<f64>()).prop_map(|(shape, numbers, sum)| {
            let (schema, positive, negative, [is_float, is_gauge, is_stale]) = shape;
            let is_custom = schema == -53;
            let negative = if is_custom || is_stale { Vec::new() } else { negative };
            let positive = if is_stale { Vec::new() } else { positive };
            let spans = |side: Vec<(i32, u32)>| -> Vec<Span> {
                side.into_iter().map(|(offset, length)| Span { offset, length }).collect()
            };
            let (positive_spans, negative_spans) = (spans(positive), spans(negative));
            let mut numbers = numbers.into_iter().map(|n| f64::from(n) / if is_float { 8.0 } else { 1.0 });
            let mut buckets = |spans: &[Span]| -> Vec<f64> {
                let n = spans.iter().map(|s| s.length as usize).sum();
                numbers.by_ref().take(n).collect()
            };
            let (positive_buckets, negative_buckets) = (buckets(&positive_spans), buckets(&negative_spans));
            let zero_count = if is_custom || is_stale { 0.0 } else { numbers.next().unwrap_or(0.0) };
            let count = positive_buckets.iter().chain(&negative_buckets).sum::<f64>() + zero_count;
            let reached: i64 = positive_spans.iter().map(|s| i64::from(s.offset) + i64::from(s.length)).sum();
            let h = FloatHistogram {
                counter_reset_hint: if is_gauge { CounterResetHint::Gauge } else { CounterResetHint::Unknown },
                schema,
                zero_threshold: if is_custom {
                    0.0
                } else {
                    [0.0, USUAL_THRESHOLD, 0.25][schema.unsigned_abs() as usize % 3]
                },
                zero_count,
                count,
                sum: if is_stale { stale_nan() } else { sum },
                positive_spans,
                negative_spans,
                positive_buckets,
                negative_buckets,
                custom_values: if is_custom { (0..reached).map(|i| i as f64 / 4.0).collect() } else { Vec::new() },
            };
            HistogramSample::new(h, if is_float { Counts::Float } else { Counts::Integer }).unwrap()
        })
    }

    /// Histograms of one series as they follow each other: counters that grow and sometimes begin again.
    pub(crate) fn counter(n: usize) -> Vec<HistogramSample> {
        let of = |i: usize| {
            let i = (i % 7 + 1) as f64;
            let positive_buckets: Vec<f64> = (0..5).map(|b| f64::from(b) * i).collect();
            let h = FloatHistogram {
                schema: 3,
                zero_threshold: USUAL_THRESHOLD,
                zero_count: i,
                count: positive_buckets.iter().sum::<f64>() + i,
                sum: i * 1.25,
                positive_spans: vec![Span { offset: -2, length: 3 }, Span { offset: 4, length: 2 }],
                positive_buckets,
                ..FloatHistogram::default()
            };
            HistogramSample::new(h, Counts::Integer).unwrap()
        };
        (0..n).map(of).collect()
    }

    proptest! {
        #[test]
        fn histograms_round_trip(sample in histogram()) {
            let mut out = Vec::new();
            put_histogram(&mut out, &sample);
            prop_assert!(read_histogram(&out).unwrap().same_bits(&sample));
            for end in 0..out.len() {
                prop_assert!(read_histogram(&out[..end]).is_err());
            }
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = read_histogram(&bytes);
        }
    }

    #[test]
    fn hints_say_where_a_counter_goes_on() {
        let mut samples = counter(9);
        derive_hints(&mut samples);
        let hints: Vec<_> = samples.iter().map(|s| s.value().counter_reset_hint).collect();
        use CounterResetHint::{NotReset, Unknown};
        assert_eq!(hints, [Unknown, NotReset, NotReset, NotReset, NotReset, NotReset, NotReset, Unknown, NotReset]);
        // Without the reset the one after it may go on where the others ended, or not.
        samples.drain(1..7);
        derive_hints(&mut samples);
        assert_eq!(samples[1].value().counter_reset_hint, NotReset);
        keep_hint_after(None, (0, 1), &mut samples[1]);
        keep_hint_after(Some((0, 0)), (0, 1), &mut samples[1]);
        assert_eq!(samples[1].value().counter_reset_hint, NotReset);
        keep_hint_after(Some((1, 0)), (0, 1), &mut samples[1]);
        assert_eq!(samples[1].value().counter_reset_hint, Unknown);
    }

    #[test]
    fn nothing_goes_on_after_a_marker() {
        let of = |count: f64, sum: f64| {
            let value = FloatHistogram { count, zero_count: count, sum, ..FloatHistogram::default() };
            HistogramSample::new(value, Counts::Integer).unwrap()
        };
        let mut samples = [of(10.0, 1.0), of(0.0, stale_nan()), of(5.0, 1.0), of(6.0, 1.0)];
        derive_hints(&mut samples);
        let hints: Vec<_> = samples.iter().map(|s| s.value().counter_reset_hint).collect();
        use CounterResetHint::{NotReset, Unknown};
        assert_eq!(hints, [Unknown, Unknown, Unknown, NotReset]);
    }
}
