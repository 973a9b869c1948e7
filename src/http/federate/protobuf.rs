//! Selected samples as protocol buffers: messages `MetricFamily`, each with its length before it.
//!
//! # Source
//! `io/prometheus/client/metrics.proto` of prometheus/client_model; which sample becomes what is as in Prometheus 3.14.

use promontory_model::histogram::{CUSTOM_BUCKETS_SCHEMA, CounterResetHint, Counts, HistogramSample, Span};
use promontory_model::{Labels, METRIC_NAME};
use promontory_promql::histogram::indexed;
use prost::Message;

use super::{INSTANCE, Sample};

const UNTYPED: i32 = 3;
const HISTOGRAM: i32 = 4;
const GAUGE_HISTOGRAM: i32 = 5;

#[derive(Clone, PartialEq, Message)]
struct MetricFamily {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int32, optional, tag = "3")]
    kind: Option<i32>,
    #[prost(message, repeated, tag = "4")]
    metrics: Vec<Metric>,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<LabelPair>,
    #[prost(message, optional, tag = "5")]
    untyped: Option<Untyped>,
    #[prost(int64, optional, tag = "6")]
    timestamp_ms: Option<i64>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct LabelPair {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    value: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Untyped {
    #[prost(double, optional, tag = "1")]
    value: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    buckets: Vec<Bucket>,
    #[prost(double, optional, tag = "4")]
    count_float: Option<f64>,
    #[prost(sint32, optional, tag = "5")]
    schema: Option<i32>,
    #[prost(double, optional, tag = "6")]
    zero_threshold: Option<f64>,
    #[prost(uint64, optional, tag = "7")]
    zero_count: Option<u64>,
    #[prost(double, optional, tag = "8")]
    zero_count_float: Option<f64>,
    #[prost(message, repeated, tag = "9")]
    negative_spans: Vec<BucketSpan>,
    #[prost(sint64, repeated, packed = "false", tag = "10")]
    negative_deltas: Vec<i64>,
    #[prost(double, repeated, packed = "false", tag = "11")]
    negative_counts: Vec<f64>,
    #[prost(message, repeated, tag = "12")]
    positive_spans: Vec<BucketSpan>,
    #[prost(sint64, repeated, packed = "false", tag = "13")]
    positive_deltas: Vec<i64>,
    #[prost(double, repeated, packed = "false", tag = "14")]
    positive_counts: Vec<f64>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Bucket {
    #[prost(uint64, optional, tag = "1")]
    cumulative_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    upper_bound: Option<f64>,
    #[prost(double, optional, tag = "4")]
    cumulative_count_float: Option<f64>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct BucketSpan {
    #[prost(sint32, optional, tag = "1")]
    offset: Option<i32>,
    #[prost(uint32, optional, tag = "2")]
    length: Option<u32>,
}

/// The exposition of samples that are sorted by name, with the labels by which this server is known elsewhere.
pub(super) fn exposition(samples: &[(Labels, i64, Sample)], external: &Labels) -> Vec<u8> {
    let mut out = Vec::new();
    let kind_of = |sample: &Sample| match sample {
        Sample::Float(_) => UNTYPED,
        Sample::Histogram(h) if h.value().counter_reset_hint == CounterResetHint::Gauge => GAUGE_HISTOGRAM,
        Sample::Histogram(_) => HISTOGRAM,
    };
    let is_family = |a: &(Labels, i64, Sample), b: &(Labels, i64, Sample)| {
        a.0.metric_name() == b.0.metric_name() && kind_of(&a.2) == kind_of(&b.2)
    };
    for family in samples.chunk_by(is_family).filter(|f| !f[0].0.metric_name().is_empty()) {
        let metrics = family.iter().map(|(labels, t, sample)| metric(labels, *t, sample, external)).collect();
        let name = family[0].0.metric_name().to_owned();
        let message = MetricFamily { name, kind: Some(kind_of(&family[0].2)), metrics };
        out.extend_from_slice(&message.encode_length_delimited_to_vec());
    }
    out
}

fn metric(labels: &Labels, t: i64, sample: &Sample, external: &Labels) -> Metric {
    let pair = |(name, value): (&str, &str)| LabelPair { name: Some(name.to_owned()), value: Some(value.to_owned()) };
    let mut pairs: Vec<LabelPair> = labels.iter().filter(|(name, _)| *name != METRIC_NAME).map(pair).collect();
    pairs.extend(external.iter().filter(|(name, _)| labels.get(name).is_none()).map(pair));
    if labels.get(INSTANCE).is_none() && external.get(INSTANCE).is_none() {
        pairs.push(pair((INSTANCE, "")));
    }
    let mut out = Metric { labels: pairs, timestamp_ms: Some(t), ..Metric::default() };
    match sample {
        Sample::Float(v) => out.untyped = Some(Untyped { value: Some(*v) }),
        Sample::Histogram(h) => out.histogram = Some(histogram(h)),
    }
    out
}

fn histogram(sample: &HistogramSample) -> Histogram {
    let h = &**sample.value();
    let is_float = sample.counts() == Counts::Float;
    let mut out = Histogram { sum: Some(h.sum), ..Histogram::default() };
    match is_float {
        true => out.count_float = Some(h.count),
        false => out.count = Some(h.count as u64),
    }
    if h.schema == CUSTOM_BUCKETS_SCHEMA {
        out.buckets = classic(sample);
        return out;
    }
    match is_float {
        true => out.zero_count_float = Some(h.zero_count),
        false => out.zero_count = Some(h.zero_count as u64),
    }
    out.schema = Some(h.schema);
    out.zero_threshold = Some(h.zero_threshold);
    let spans = |spans: &[Span]| -> Vec<BucketSpan> {
        spans.iter().map(|s| BucketSpan { offset: Some(s.offset), length: Some(s.length) }).collect()
    };
    (out.positive_spans, out.negative_spans) = (spans(&h.positive_spans), spans(&h.negative_spans));
    if is_float {
        (out.positive_counts, out.negative_counts) = (h.positive_buckets.clone(), h.negative_buckets.clone());
    } else {
        (out.positive_deltas, out.negative_deltas) = (deltas(&h.positive_buckets), deltas(&h.negative_buckets));
    }
    // Without any span a reader would take it for a classic one.
    if out.positive_spans.is_empty() && out.negative_spans.is_empty() {
        out.positive_spans.push(BucketSpan { offset: Some(0), length: Some(0) });
    }
    out
}

fn deltas(buckets: &[f64]) -> Vec<i64> {
    let mut before = 0;
    let delta = |v: &f64| {
        let delta = (*v as i64).wrapping_sub(before);
        before = *v as i64;
        delta
    };
    buckets.iter().map(delta).collect()
}

/// Buckets with custom bounds as classic ones, whose counts include those below.
fn classic(sample: &HistogramSample) -> Vec<Bucket> {
    let h = sample.value();
    let counts: Vec<(i32, f64)> = indexed(&h.positive_spans, &h.positive_buckets).collect();
    let mut below = 0.0;
    let bucket = |(i, bound): (usize, &f64)| {
        below += counts.iter().find(|(index, _)| usize::try_from(*index) == Ok(i)).map_or(0.0, |(_, n)| *n);
        let mut out = Bucket { upper_bound: Some(*bound), ..Bucket::default() };
        match sample.counts() {
            Counts::Float => out.cumulative_count_float = Some(below),
            Counts::Integer => out.cumulative_count = Some(below as u64),
        }
        out
    };
    h.custom_values.iter().chain(&[f64::INFINITY]).enumerate().map(bucket).collect()
}

#[cfg(test)]
mod tests {
    use promontory_model::FloatHistogram;

    use super::*;
    use crate::http::federate::tests::labels;

    fn decoded(mut bytes: &[u8]) -> Vec<MetricFamily> {
        let mut out = Vec::new();
        while !bytes.is_empty() {
            out.push(MetricFamily::decode_length_delimited(&mut bytes).unwrap());
        }
        out
    }

    fn histogram_of(schema: i32, counts: Counts) -> Sample {
        let custom_values = if schema == CUSTOM_BUCKETS_SCHEMA { vec![1.0, 2.5] } else { Vec::new() };
        let value = FloatHistogram {
            schema,
            count: 6.0,
            sum: 1.5,
            positive_spans: vec![Span { offset: 0, length: 1 }, Span { offset: 1, length: 1 }],
            positive_buckets: vec![4.0, 2.0],
            custom_values,
            ..FloatHistogram::default()
        };
        Sample::Histogram(HistogramSample::new(value, counts).unwrap())
    }

    #[test]
    fn families_hold_floats_and_histograms_apart() {
        let samples = [
            (labels(&[("__name__", "a"), ("x", "1")]), 5, Sample::Float(0.5)),
            (labels(&[("__name__", "a"), ("instance", "i")]), 6, histogram_of(0, Counts::Integer)),
            (labels(&[("__name__", "b")]), 7, histogram_of(CUSTOM_BUCKETS_SCHEMA, Counts::Float)),
        ];
        let families = decoded(&exposition(&samples, &labels(&[("dc", "e")])));
        let shape: Vec<_> = families.iter().map(|f| (f.name.as_str(), f.kind, f.metrics.len())).collect();
        assert_eq!(shape, [("a", Some(UNTYPED), 1), ("a", Some(HISTOGRAM), 1), ("b", Some(HISTOGRAM), 1)]);
        let pairs = |m: &Metric| -> Vec<String> {
            m.labels.iter().map(|p| format!("{}={}", p.name.as_deref().unwrap(), p.value.as_deref().unwrap())).collect()
        };
        assert_eq!(pairs(&families[0].metrics[0]), ["x=1", "dc=e", "instance="]);
        assert_eq!(pairs(&families[1].metrics[0]), ["instance=i", "dc=e"]);
        assert_eq!(families[0].metrics[0].untyped, Some(Untyped { value: Some(0.5) }));
        let native = families[1].metrics[0].histogram.clone().unwrap();
        assert_eq!((native.count, &*native.positive_deltas, native.schema), (Some(6), &[4, -2][..], Some(0)));
        let classic = families[2].metrics[0].histogram.clone().unwrap();
        let buckets: Vec<_> = classic.buckets.iter().map(|b| (b.upper_bound, b.cumulative_count_float)).collect();
        assert_eq!(buckets, [(Some(1.0), Some(4.0)), (Some(2.5), Some(4.0)), (Some(f64::INFINITY), Some(6.0))]);
    }
}
