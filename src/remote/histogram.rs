//! Native histograms as remote write and remote read carry them.
//!
//! Counts of integer histograms are written as differences between neighbouring buckets, those of float histograms as
//! they are.
//!
//! # Source
//! `prompb/types.proto` of Prometheus.

use promontory_model::histogram::{CounterResetHint, Counts, HistogramSample, InvalidHistogram, Span};
use promontory_model::{FloatHistogram, Timestamp};
use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub(super) struct Histogram {
    #[prost(oneof = "Count", tags = "1, 2")]
    pub(super) count: Option<Count>,
    #[prost(double, tag = "3")]
    pub(super) sum: f64,
    #[prost(sint32, tag = "4")]
    pub(super) schema: i32,
    #[prost(double, tag = "5")]
    pub(super) zero_threshold: f64,
    #[prost(oneof = "ZeroCount", tags = "6, 7")]
    pub(super) zero_count: Option<ZeroCount>,
    #[prost(message, repeated, tag = "8")]
    pub(super) negative_spans: Vec<BucketSpan>,
    #[prost(sint64, repeated, tag = "9")]
    pub(super) negative_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "10")]
    pub(super) negative_counts: Vec<f64>,
    #[prost(message, repeated, tag = "11")]
    pub(super) positive_spans: Vec<BucketSpan>,
    #[prost(sint64, repeated, tag = "12")]
    pub(super) positive_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "13")]
    pub(super) positive_counts: Vec<f64>,
    /// 0 unknown, 1 reset, 2 no reset, 3 gauge.
    #[prost(int32, tag = "14")]
    pub(super) reset_hint: i32,
    #[prost(int64, tag = "15")]
    pub(super) timestamp: i64,
    #[prost(double, repeated, tag = "16")]
    pub(super) custom_values: Vec<f64>,
    /// Since when it counts, in ms; 0 where nothing is said. Of remote write 2.0 alone.
    #[prost(int64, tag = "17")]
    pub(super) start_timestamp: i64,
}

/// All observations; which of the two it is says what all counts are.
#[derive(Clone, Copy, PartialEq, prost::Oneof)]
pub(super) enum Count {
    #[prost(uint64, tag = "1")]
    Int(u64),
    #[prost(double, tag = "2")]
    Float(f64),
}

#[derive(Clone, Copy, PartialEq, prost::Oneof)]
pub(super) enum ZeroCount {
    #[prost(uint64, tag = "6")]
    Int(u64),
    #[prost(double, tag = "7")]
    Float(f64),
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct BucketSpan {
    #[prost(sint32, tag = "1")]
    pub(super) offset: i32,
    #[prost(uint32, tag = "2")]
    pub(super) length: u32,
}

/// Why a message is not stored.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error(transparent)]
    Wire(#[from] prost::DecodeError),
    #[error(transparent)]
    Invalid(#[from] InvalidHistogram),
}

/// The histogram in a message, checked, and its time.
pub(super) fn read(bytes: &[u8]) -> Result<(Timestamp, HistogramSample), ReadError> {
    read_started(bytes).map(|(t, sample, _)| (t, sample))
}

/// The same and since when it counts, in ms.
pub(super) fn read_started(bytes: &[u8]) -> Result<(Timestamp, HistogramSample, i64), ReadError> {
    let message = Histogram::decode(bytes)?;
    let (t, start) = (Timestamp(message.timestamp), message.start_timestamp);
    // As Prometheus tells them apart.
    let counts = if matches!(message.count, Some(Count::Float(_))) { Counts::Float } else { Counts::Integer };
    let buckets = |deltas: &[i64], floats: Vec<f64>| match counts {
        Counts::Float => floats,
        Counts::Integer => deltas.iter().scan(0_i64, |at, d| Some(step(at, *d))).collect(),
    };
    let spans = |spans: Vec<BucketSpan>| {
        spans.into_iter().map(|s| Span { offset: s.offset, length: s.length }).collect::<Vec<Span>>()
    };
    let value = FloatHistogram {
        counter_reset_hint: match message.reset_hint {
            1 => CounterResetHint::Reset,
            2 => CounterResetHint::NotReset,
            3 => CounterResetHint::Gauge,
            _ => CounterResetHint::Unknown,
        },
        schema: message.schema,
        zero_threshold: message.zero_threshold,
        zero_count: match message.zero_count {
            Some(ZeroCount::Int(n)) => n as f64,
            Some(ZeroCount::Float(n)) => n,
            None => 0.0,
        },
        count: match message.count {
            Some(Count::Int(n)) => n as f64,
            Some(Count::Float(n)) => n,
            None => 0.0,
        },
        sum: message.sum,
        positive_buckets: buckets(&message.positive_deltas, message.positive_counts),
        negative_buckets: buckets(&message.negative_deltas, message.negative_counts),
        positive_spans: spans(message.positive_spans),
        negative_spans: spans(message.negative_spans),
        custom_values: message.custom_values,
    };
    Ok((t, HistogramSample::new(value, counts)?, start))
}

fn step(at: &mut i64, delta: i64) -> f64 {
    *at = at.wrapping_add(delta);
    *at as f64
}

/// The message of a histogram at `t`.
pub(super) fn message(t: i64, sample: &HistogramSample) -> Histogram {
    let h = &**sample.value();
    let is_float = sample.counts() == Counts::Float;
    let spans = |spans: &[Span]| spans.iter().map(|s| BucketSpan { offset: s.offset, length: s.length }).collect();
    let floats = |buckets: &[f64]| if is_float { buckets.to_vec() } else { Vec::new() };
    let deltas = |buckets: &[f64]| {
        let mut before = 0;
        let of = |v: &f64| {
            let delta = (*v as i64).wrapping_sub(before);
            before = *v as i64;
            delta
        };
        if is_float { Vec::new() } else { buckets.iter().map(of).collect() }
    };
    Histogram {
        count: Some(if is_float { Count::Float(h.count) } else { Count::Int(h.count as u64) }),
        sum: h.sum,
        schema: h.schema,
        zero_threshold: h.zero_threshold,
        zero_count: Some(if is_float { ZeroCount::Float(h.zero_count) } else { ZeroCount::Int(h.zero_count as u64) }),
        negative_spans: spans(&h.negative_spans),
        negative_deltas: deltas(&h.negative_buckets),
        negative_counts: floats(&h.negative_buckets),
        positive_spans: spans(&h.positive_spans),
        positive_deltas: deltas(&h.positive_buckets),
        positive_counts: floats(&h.positive_buckets),
        reset_hint: match h.counter_reset_hint {
            CounterResetHint::Unknown => 0,
            CounterResetHint::Reset => 1,
            CounterResetHint::NotReset => 2,
            CounterResetHint::Gauge => 3,
        },
        timestamp: t,
        custom_values: h.custom_values.clone(),
        start_timestamp: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(of: &[(i32, u32)]) -> Vec<BucketSpan> {
        of.iter().map(|&(offset, length)| BucketSpan { offset, length }).collect()
    }

    #[track_caller]
    fn check(message_in: Histogram, counts: Counts, positive: &[f64], negative: &[f64]) {
        let (t, sample) = read(&message_in.encode_to_vec()).unwrap();
        assert_eq!((t.0, sample.counts()), (message_in.timestamp, counts));
        assert_eq!((&*sample.value().positive_buckets, &*sample.value().negative_buckets), (positive, negative));
        assert_eq!(message(t.0, &sample), message_in);
    }

    #[test]
    fn messages_are_read_and_written() {
        let integers = Histogram {
            count: Some(Count::Int(12)),
            zero_count: Some(ZeroCount::Int(2)),
            sum: 1.5,
            schema: -1,
            zero_threshold: 0.25,
            positive_spans: spans(&[(-3, 2), (1, 1)]),
            positive_deltas: vec![4, -3, 2],
            negative_spans: spans(&[(0, 1)]),
            negative_deltas: vec![2],
            timestamp: -5,
            ..Histogram::default()
        };
        check(integers, Counts::Integer, &[4.0, 1.0, 3.0], &[2.0]);
        let floats = Histogram {
            count: Some(Count::Float(1.75)),
            zero_count: Some(ZeroCount::Float(0.0)),
            sum: f64::INFINITY,
            schema: -53,
            positive_spans: spans(&[(1, 2)]),
            positive_counts: vec![0.75, 1.0],
            custom_values: vec![-1.0, 2.5],
            reset_hint: 3,
            timestamp: 7,
            ..Histogram::default()
        };
        check(floats, Counts::Float, &[0.75, 1.0], &[]);
    }

    #[test]
    fn what_breaks_a_rule_is_refused() {
        let of = |h: Histogram| read(&h.encode_to_vec()).unwrap_err().to_string();
        let lacks_spans = Histogram { positive_deltas: vec![1], ..Histogram::default() };
        assert!(of(lacks_spans).starts_with("positive side: spans need 0 buckets, have 1 buckets"));
        let one = spans(&[(0, 1)]);
        let below = Histogram { positive_spans: one, positive_deltas: vec![-1], ..Histogram::default() };
        assert!(of(below).starts_with("positive side: bucket number 1 has observation count of -1"));
        assert!(read(&[0x0a]).is_err());
    }
}
