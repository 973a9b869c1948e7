//! The protocol buffers in which targets expose metrics: a sequence of metric families, each with its length before
//! it.
//!
//! They become lines of an [`Assembled`] exposition: counters and gauges one each, summaries and classic histograms
//! the series that text would have, native histograms one line with the histogram beside it.
//!
//! # Source
//! What becomes of which message is as in Prometheus 3.14.

use promontory_config::HistogramModes;
use promontory_model::histogram::{CounterResetHint, Counts, HistogramSample, InvalidHistogram, Span};
use promontory_model::{FloatHistogram, Labels, MetricType};
use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::assembled::{Assembled, OwnedExemplar, Value};
use super::classic::Classic;
use super::messages::{self, BucketSpan, Metric};
use super::{Format, Item, Parser, format_openmetrics_float};

/// Bytes of one metric, that is one counter, gauge, summary or histogram.
pub(crate) const METRIC_BYTES_MAX: usize = 1 << 20;
/// Bytes that an exposition may take when it is put together as lines.
pub(crate) const ASSEMBLED_BYTES_MAX: usize = 512 << 20;

/// A body that is not the protocol, or not taken.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ProtobufError {
    /// A family that is none.
    #[error("protobuf: family {family:?} at byte {offset}: {what}")]
    Malformed {
        /// Family, as far as it is known.
        family: String,
        /// Where in the body its message begins.
        offset: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// A metric that is none.
    #[error("protobuf: a metric of family {family:?}: {source}")]
    Decode {
        /// Family.
        family: String,
        /// What is wrong.
        source: prost::DecodeError,
    },
    /// A length that leads out of the body.
    #[error("protobuf: message at byte {offset} ends after the body")]
    Torn {
        /// Where it begins.
        offset: usize,
    },
    /// A single metric of absurd size.
    #[error(
        "protobuf: a metric of family {family:?} has {bytes} bytes, more than {METRIC_BYTES_MAX} (metric_bytes_max)"
    )]
    LargeMetric {
        /// Family.
        family: String,
        /// Its size.
        bytes: usize,
    },
    /// Lines that would take far more than the body.
    #[error("protobuf: series of the body take more than {ASSEMBLED_BYTES_MAX} bytes (assembled_bytes_max)")]
    Large,
    /// A metric without the field that its family's type wants.
    #[error("protobuf: a metric of family {family:?} is no {kind}")]
    Type {
        /// Family.
        family: String,
        /// Its type.
        kind: MetricType,
    },
    /// A native histogram that breaks a rule.
    #[error("histogram {family:?}: {source}")]
    Histogram {
        /// Family.
        family: String,
        /// The rule.
        source: InvalidHistogram,
    },
}

/// What a family says of its metrics.
#[derive(Debug, Default)]
struct Family<'a> {
    name: &'a str,
    help: &'a str,
    unit: &'a str,
    kind: MetricType,
}

impl Assembled {
    /// Reads a body of delimited families.
    ///
    /// # Errors
    /// [`ProtobufError`] if it cannot be taken.
    pub(crate) fn read_protobuf(&mut self, body: &[u8], modes: HistogramModes) -> Result<(), ProtobufError> {
        self.clear();
        let mut rest = body;
        while !rest.is_empty() {
            let offset = body.len() - rest.len();
            let torn = || ProtobufError::Torn { offset };
            let len = decode_varint(&mut rest).map_err(|_| torn())?;
            let len = usize::try_from(len).map_err(|_| torn())?;
            let (message, after) = rest.split_at_checked(len).ok_or_else(torn)?;
            rest = after;
            let mut family = Family::default();
            read_family(message, &mut family).map_err(|what| {
                let family = family.name.to_owned();
                ProtobufError::Malformed { family, offset, what }
            })?;
            self.put_family(&family);
            let mut fields = message;
            // What the first walk has passed is well formed.
            while let Ok(Some((tag, field))) = next_field(&mut fields) {
                if let (4, Field::Bytes(bytes)) = (tag, field) {
                    self.read_metric(&family, bytes, modes)?;
                }
            }
        }
        Ok(())
    }

    fn read_metric(&mut self, family: &Family<'_>, bytes: &[u8], modes: HistogramModes) -> Result<(), ProtobufError> {
        let name = || family.name.to_owned();
        if bytes.len() > METRIC_BYTES_MAX {
            return Err(ProtobufError::LargeMetric { family: name(), bytes: bytes.len() });
        }
        let metric = Metric::decode(bytes).map_err(|source| ProtobufError::Decode { family: name(), source })?;
        self.put_metric(family, metric, modes)
    }

    fn put_family(&mut self, family: &Family<'_>) {
        self.put_type(family.name, family.kind);
        if !family.help.is_empty() {
            self.put_help(family.name, family.help);
        }
        if !family.unit.is_empty() {
            self.put_unit(family.name, family.unit);
        }
    }

    fn put_metric(&mut self, family: &Family<'_>, metric: Metric, modes: HistogramModes) -> Result<(), ProtobufError> {
        let kind = family.kind;
        let missing = || ProtobufError::Type { family: family.name.to_owned(), kind };
        let series = Series {
            family: family.name,
            labels: &metric.labels,
            timestamp_ms: Some(metric.timestamp_ms).filter(|t| *t != 0),
        };
        self.start_with(kind, metric.created().map(messages::Timestamp::ms));
        match kind {
            MetricType::Counter => {
                let counter = metric.counter.ok_or_else(missing)?;
                self.put(&series, "", None, counter.value, counter.exemplar.as_ref())?;
            }
            MetricType::Gauge => {
                let gauge = metric.gauge.ok_or_else(missing)?;
                self.put(&series, "", None, gauge.value, None)?;
            }
            MetricType::Unknown => {
                let untyped = metric.untyped.ok_or_else(missing)?;
                self.put(&series, "", None, untyped.value, None)?;
            }
            MetricType::Summary => {
                let summary = metric.summary.ok_or_else(missing)?;
                self.start_with(kind, None);
                for q in &summary.quantiles {
                    self.put(&series, "", Some(("quantile", format_openmetrics_float(q.quantile))), q.value, None)?;
                }
                self.start_with(kind, summary.created.map(messages::Timestamp::ms));
                self.put(&series, "_sum", None, summary.sum, None)?;
                self.put(&series, "_count", None, summary.count as f64, None)?;
            }
            _ => {
                let histogram = metric.histogram.as_ref().ok_or_else(missing)?;
                self.put_histogram(&series, histogram, kind, modes)?;
            }
        }
        Ok(())
    }

    fn put_histogram(
        &mut self,
        series: &Series<'_>,
        histogram: &messages::Histogram,
        kind: MetricType,
        modes: HistogramModes,
    ) -> Result<(), ProtobufError> {
        let is_native = modes.native && is_native(histogram);
        if is_native {
            let sample = native(histogram, kind)
                .map_err(|source| ProtobufError::Histogram { family: series.family.to_owned(), source })?;
            let exemplars = native_exemplars(histogram);
            self.put_sample(
                series.family,
                series.labels(),
                Value::Histogram(sample),
                series.timestamp_ms,
                exemplars.into_iter(),
            );
            self.check_size()?;
        }
        let converts = !is_native && modes.to_custom && kind == MetricType::Histogram;
        if converts {
            let mut classic = Classic::at(series.timestamp_ms);
            for bucket in histogram.buckets.iter().filter(|b| !b.upper_bound.is_nan()) {
                classic.set_bucket(bucket.upper_bound, bucket.count());
                classic.exemplars.extend(bucket.exemplar.as_ref().map(owned));
            }
            classic.set_sum(histogram.sum);
            classic.set_count(histogram.all());
            self.put_custom(series.family, series.labels(), &mut classic);
            self.check_size()?;
        }
        let keeps_classic = modes.always_classic && (converts || !histogram.buckets.is_empty());
        if keeps_classic || !(is_native || converts) {
            self.put_classic(series, histogram)?;
        }
        Ok(())
    }

    fn put_classic(&mut self, series: &Series<'_>, histogram: &messages::Histogram) -> Result<(), ProtobufError> {
        for bucket in &histogram.buckets {
            let bound = Some(("le", format_openmetrics_float(bucket.upper_bound)));
            self.put(series, "_bucket", bound, bucket.count(), bucket.exemplar.as_ref())?;
        }
        if histogram.buckets.last().is_none_or(|b| b.upper_bound != f64::INFINITY) {
            self.put(series, "_bucket", Some(("le", format_openmetrics_float(f64::INFINITY))), histogram.all(), None)?;
        }
        self.put(series, "_sum", None, histogram.sum, None)?;
        self.put(series, "_count", None, histogram.all(), None)
    }

    fn put(
        &mut self,
        series: &Series<'_>,
        suffix: &str,
        extra: Option<(&str, String)>,
        value: f64,
        exemplar: Option<&messages::Exemplar>,
    ) -> Result<(), ProtobufError> {
        let joined;
        let name = if suffix.is_empty() {
            series.family
        } else {
            joined = format!("{}{suffix}", series.family);
            &joined
        };
        let labels = series.labels().chain(extra.iter().map(|(n, v)| (*n, v.as_str())));
        let value = Value::Float(canonical(value));
        self.put_sample(name, labels, value, series.timestamp_ms, exemplar.map(owned).into_iter());
        self.check_size()
    }

    fn check_size(&self) -> Result<(), ProtobufError> {
        if self.used_bytes() > ASSEMBLED_BYTES_MAX { Err(ProtobufError::Large) } else { Ok(()) }
    }
}

/// Reads any bytes as an exposition in protocol buffers, histograms in each way, and then the lines that it becomes:
/// what they were put together to must be readable. For fuzzing.
///
/// # Panics
/// If it is not.
#[doc(hidden)]
pub fn check_any_protobuf(body: &[u8]) {
    let mut assembled = Assembled::default();
    for bits in 0..8u8 {
        let [native, always_classic, to_custom] = [1, 2, 4].map(|bit| bits & bit != 0);
        if assembled.read_protobuf(body, HistogramModes { native, always_classic, to_custom }).is_err() {
            continue;
        }
        let mut parser = Parser::new(assembled.body(), Format::Assembled);
        loop {
            match parser.next_item() {
                Ok(Item::End) => break,
                Ok(Item::Sample { tail, .. }) => {
                    assert!(tail.histogram.is_none_or(|number| assembled.histogram(number).is_some()));
                }
                Ok(Item::Metadata { .. }) => {}
                // Names are judged here, not when lines are put together.
                Err(_) => break,
            }
        }
    }
}

/// Name and labels of the metric at hand.
struct Series<'a> {
    family: &'a str,
    labels: &'a [messages::LabelPair],
    timestamp_ms: Option<i64>,
}

impl<'a> Series<'a> {
    fn labels(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.labels.iter().map(|pair| (pair.name.as_str(), pair.value.as_str()))
    }
}

impl Metric {
    /// When it began to count.
    fn created(&self) -> Option<messages::Timestamp> {
        let counter = self.counter.as_ref().and_then(|c| c.created);
        let summary = || self.summary.as_ref().and_then(|s| s.created);
        let histogram = || self.histogram.as_ref().and_then(|h| h.created);
        counter.or_else(summary).or_else(histogram)
    }
}

impl messages::Bucket {
    fn count(&self) -> f64 {
        if self.cumulative_count_float > 0.0 { self.cumulative_count_float } else { self.cumulative_count as f64 }
    }
}

impl messages::Histogram {
    fn all(&self) -> f64 {
        if self.count_float > 0.0 { self.count_float } else { self.count as f64 }
    }
}

/// Every NaN of a target becomes the one that is no staleness marker.
fn canonical(value: f64) -> f64 {
    if value.is_nan() { f64::from_bits(promontory_model::sample::NORMAL_NAN_BITS) } else { value }
}

fn type_of(kind: u64) -> Option<MetricType> {
    Some(match kind {
        0 => MetricType::Counter,
        1 => MetricType::Gauge,
        2 => MetricType::Summary,
        3 => MetricType::Unknown,
        4 => MetricType::Histogram,
        5 => MetricType::GaugeHistogram,
        _ => return None,
    })
}

/// A field of a family.
enum Field<'a> {
    Bytes(&'a [u8]),
    Varint(u64),
    Other,
}

/// The next field of a message; `None` at its end.
fn next_field<'a>(rest: &mut &'a [u8]) -> Result<Option<(u32, Field<'a>)>, &'static str> {
    if rest.is_empty() {
        return Ok(None);
    }
    let (tag, wire_type) = decode_key(rest).map_err(|_| "not the key of a field")?;
    let field = match wire_type {
        WireType::LengthDelimited => {
            let len = decode_varint(rest).ok().and_then(|len| usize::try_from(len).ok());
            let (bytes, after) =
                len.and_then(|len| rest.split_at_checked(len)).ok_or("a field ends after its message")?;
            *rest = after;
            Field::Bytes(bytes)
        }
        WireType::Varint => Field::Varint(decode_varint(rest).map_err(|_| "not an integer")?),
        _ => {
            skip_field(wire_type, tag, rest, DecodeContext::default()).map_err(|_| "not a field")?;
            Field::Other
        }
    };
    Ok(Some((tag, field)))
}

fn read_family<'a>(message: &'a [u8], family: &mut Family<'a>) -> Result<(), &'static str> {
    let mut rest = message;
    // The type's default is the first of the enumeration.
    family.kind = MetricType::Counter;
    while let Some((tag, field)) = next_field(&mut rest)? {
        let text = |bytes| std::str::from_utf8(bytes).map_err(|_| "a text is not UTF-8");
        match (tag, field) {
            (1, Field::Bytes(bytes)) => family.name = text(bytes)?,
            (2, Field::Bytes(bytes)) => family.help = text(bytes)?,
            (3, Field::Varint(kind)) => family.kind = type_of(kind).ok_or("a type that is none")?,
            (5, Field::Bytes(bytes)) => family.unit = text(bytes)?,
            _ => {}
        }
    }
    if family.name.is_empty() { Err("no name") } else { Ok(()) }
}

/// Whether a histogram has native buckets, or says that it would have if anything had been observed: then it has a
/// span of length 0, or a zero bucket.
fn is_native(h: &messages::Histogram) -> bool {
    !h.positive_spans.is_empty()
        || !h.negative_spans.is_empty()
        || h.zero_threshold > 0.0
        || h.zero_count > 0
        || h.zero_count_float > 0.0
}

fn native(h: &messages::Histogram, kind: MetricType) -> Result<HistogramSample, InvalidHistogram> {
    let is_float = h.count_float > 0.0 || h.zero_count_float > 0.0;
    let spans = |spans: &[BucketSpan]| spans.iter().map(|s| Span { offset: s.offset, length: s.length }).collect();
    let buckets = |deltas: &[i64], counts: &[f64]| {
        let mut at = 0i64;
        let mut sum = |delta: &i64| {
            at = at.wrapping_add(*delta);
            at as f64
        };
        if is_float { counts.to_vec() } else { deltas.iter().map(&mut sum).collect() }
    };
    let value = FloatHistogram {
        counter_reset_hint: match kind {
            MetricType::GaugeHistogram => CounterResetHint::Gauge,
            _ => CounterResetHint::Unknown,
        },
        schema: h.schema,
        zero_threshold: h.zero_threshold,
        zero_count: if is_float { h.zero_count_float } else { h.zero_count as f64 },
        count: if is_float { h.count_float } else { h.count as f64 },
        sum: canonical(h.sum),
        positive_spans: spans(&h.positive_spans),
        negative_spans: spans(&h.negative_spans),
        positive_buckets: buckets(&h.positive_deltas, &h.positive_counts),
        negative_buckets: buckets(&h.negative_deltas, &h.negative_counts),
        custom_values: Vec::new(),
    };
    HistogramSample::new(value, if is_float { Counts::Float } else { Counts::Integer })
}

/// A native histogram's exemplars, or else those of its classic buckets; without a time they cannot be told apart.
fn native_exemplars(h: &messages::Histogram) -> Vec<OwnedExemplar> {
    let own = h.exemplars.iter();
    let of_buckets = h.buckets.iter().filter_map(|b| b.exemplar.as_ref()).filter(|_| h.exemplars.is_empty());
    own.chain(of_buckets).filter(|e| e.timestamp.is_some()).map(owned).collect()
}

fn owned(exemplar: &messages::Exemplar) -> OwnedExemplar {
    OwnedExemplar {
        labels: Labels::from_pairs(exemplar.labels.iter().map(|l| (l.name.as_str(), l.value.as_str()))),
        value: exemplar.value,
        timestamp_ms: exemplar.timestamp.map(messages::Timestamp::ms),
    }
}

#[cfg(test)]
pub(super) mod tests;
