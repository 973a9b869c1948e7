//! Messages of OTLP metrics, as protocol buffers and as JSON.
//!
//! Members of a `oneof` are plain optional fields here: on the wire there is no difference. What a body would take in
//! memory is found before it is decoded, because a few bytes can stand for a whole message.
//!
//! # Source
//! `opentelemetry/proto/metrics/v1/metrics.proto` and `collector/metrics/v1/metrics_service.proto` of version 1.

use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};
use serde::Deserialize;

use super::json::{
    bytes_base64, bytes_hex, float, floats, integers_unsigned, optional_float, optional_integer, temporality, unsigned,
};

/// Bytes that a decoded request may take.
pub(crate) const DECODED_BYTES_MAX: u64 = 256 << 20;
/// Values inside values, and messages inside messages.
const DEPTH_MAX: u32 = 64;

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    pub(super) resource_metrics: Vec<ResourceMetrics>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ResourceMetrics {
    #[prost(message, optional, tag = "1")]
    pub(super) resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub(super) scope_metrics: Vec<ScopeMetrics>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Resource {
    #[prost(message, repeated, tag = "1")]
    pub(super) attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ScopeMetrics {
    #[prost(message, optional, tag = "1")]
    pub(super) scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    pub(super) metrics: Vec<Metric>,
    #[prost(string, tag = "3")]
    pub(super) schema_url: String,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Scope {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) version: String,
    #[prost(message, repeated, tag = "3")]
    pub(super) attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Metric {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) description: String,
    #[prost(string, tag = "3")]
    pub(super) unit: String,
    #[prost(message, optional, tag = "5")]
    pub(super) gauge: Option<Gauge>,
    #[prost(message, optional, tag = "7")]
    pub(super) sum: Option<Sum>,
    #[prost(message, optional, tag = "9")]
    pub(super) histogram: Option<Histogram>,
    #[prost(message, optional, tag = "10")]
    pub(super) exponential_histogram: Option<ExponentialHistogram>,
    #[prost(message, optional, tag = "11")]
    pub(super) summary: Option<Summary>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Gauge {
    #[prost(message, repeated, tag = "1")]
    pub(super) data_points: Vec<NumberPoint>,
}

/// Points are differences to the one before.
pub(super) const DELTA: i32 = 1;
/// Points are totals since a start.
pub(super) const CUMULATIVE: i32 = 2;

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Sum {
    #[prost(message, repeated, tag = "1")]
    pub(super) data_points: Vec<NumberPoint>,
    #[prost(int32, tag = "2")]
    #[serde(deserialize_with = "temporality")]
    pub(super) aggregation_temporality: i32,
    #[prost(bool, tag = "3")]
    pub(super) is_monotonic: bool,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Histogram {
    #[prost(message, repeated, tag = "1")]
    pub(super) data_points: Vec<HistogramPoint>,
    #[prost(int32, tag = "2")]
    #[serde(deserialize_with = "temporality")]
    pub(super) aggregation_temporality: i32,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ExponentialHistogram {
    #[prost(message, repeated, tag = "1")]
    pub(super) data_points: Vec<ExponentialPoint>,
    #[prost(int32, tag = "2")]
    #[serde(deserialize_with = "temporality")]
    pub(super) aggregation_temporality: i32,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Summary {
    #[prost(message, repeated, tag = "1")]
    pub(super) data_points: Vec<SummaryPoint>,
}

/// The bit of a point's flags that says that its series has ended.
pub(super) const NO_RECORDED_VALUE: u32 = 1;

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct NumberPoint {
    #[prost(fixed64, tag = "2")]
    #[serde(deserialize_with = "unsigned")]
    pub(super) start_time_unix_nano: u64,
    #[prost(fixed64, tag = "3")]
    #[serde(deserialize_with = "unsigned")]
    pub(super) time_unix_nano: u64,
    #[prost(double, optional, tag = "4")]
    #[serde(deserialize_with = "optional_float")]
    pub(super) as_double: Option<f64>,
    #[prost(message, repeated, tag = "5")]
    pub(super) exemplars: Vec<Exemplar>,
    #[prost(sfixed64, optional, tag = "6")]
    #[serde(deserialize_with = "optional_integer")]
    pub(super) as_int: Option<i64>,
    #[prost(message, repeated, tag = "7")]
    pub(super) attributes: Vec<KeyValue>,
    #[prost(uint32, tag = "8")]
    pub(super) flags: u32,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct HistogramPoint {
    #[prost(fixed64, tag = "2")]
    #[serde(deserialize_with = "unsigned")]
    pub(super) start_time_unix_nano: u64,
    #[prost(fixed64, tag = "3")]
    #[serde(deserialize_with = "unsigned")]
    pub(super) time_unix_nano: u64,
    #[prost(fixed64, tag = "4")]
    #[serde(deserialize_with = "unsigned")]
    pub(super) count: u64,
    #[prost(double, optional, tag = "5")]
    #[serde(deserialize_with = "optional_float")]
    pub(super) sum: Option<f64>,
    #[prost(fixed64, repeated, tag = "6")]
    #[serde(deserialize_with = "integers_unsigned")]
    pub(super) bucket_counts: Vec<u64>,
    #[prost(double, repeated, tag = "7")]
    #[serde(deserialize_with = "floats")]
    pub(super) explicit_bounds: Vec<f64>,
    #[prost(message, repeated, tag = "8")]
    pub(super) exemplars: Vec<Exemplar>,
    #[prost(message, repeated, tag = "9")]
    pub(super) attributes: Vec<KeyValue>,
    #[prost(uint32, tag = "10")]
    pub(super) flags: u32,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ExponentialPoint {
    #[prost(message, repeated, tag = "1")]
    pub(super) attributes: Vec<KeyValue>,
    #[prost(fixed64, tag = "2")]
    #[serde(deserialize_with = "unsigned")]
    pub(super) start_time_unix_nano: u64,
    #[prost(fixed64, tag = "3")]
    #[serde(deserialize_with = "unsigned")]
    pub(super) time_unix_nano: u64,
    #[prost(fixed64, tag = "4")]
    #[serde(deserialize_with = "unsigned")]
    pub(super) count: u64,
    #[prost(double, optional, tag = "5")]
    #[serde(deserialize_with = "optional_float")]
    pub(super) sum: Option<f64>,
    #[prost(sint32, tag = "6")]
    pub(super) scale: i32,
    #[prost(fixed64, tag = "7")]
    #[serde(deserialize_with = "unsigned")]
    pub(super) zero_count: u64,
    #[prost(message, optional, tag = "8")]
    pub(super) positive: Option<Buckets>,
    #[prost(message, optional, tag = "9")]
    pub(super) negative: Option<Buckets>,
    #[prost(uint32, tag = "10")]
    pub(super) flags: u32,
    #[prost(message, repeated, tag = "11")]
    pub(super) exemplars: Vec<Exemplar>,
    #[prost(double, tag = "14")]
    #[serde(deserialize_with = "float")]
    pub(super) zero_threshold: f64,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Buckets {
    #[prost(sint32, tag = "1")]
    pub(super) offset: i32,
    #[prost(uint64, repeated, tag = "2")]
    #[serde(deserialize_with = "integers_unsigned")]
    pub(super) bucket_counts: Vec<u64>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct SummaryPoint {
    #[prost(fixed64, tag = "2")]
    #[serde(deserialize_with = "unsigned")]
    pub(super) start_time_unix_nano: u64,
    #[prost(fixed64, tag = "3")]
    #[serde(deserialize_with = "unsigned")]
    pub(super) time_unix_nano: u64,
    #[prost(fixed64, tag = "4")]
    #[serde(deserialize_with = "unsigned")]
    pub(super) count: u64,
    #[prost(double, tag = "5")]
    #[serde(deserialize_with = "float")]
    pub(super) sum: f64,
    #[prost(message, repeated, tag = "6")]
    pub(super) quantile_values: Vec<Quantile>,
    #[prost(message, repeated, tag = "7")]
    pub(super) attributes: Vec<KeyValue>,
    #[prost(uint32, tag = "8")]
    pub(super) flags: u32,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Quantile {
    #[prost(double, tag = "1")]
    #[serde(deserialize_with = "float")]
    pub(super) quantile: f64,
    #[prost(double, tag = "2")]
    #[serde(deserialize_with = "float")]
    pub(super) value: f64,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Exemplar {
    #[prost(fixed64, tag = "2")]
    #[serde(deserialize_with = "unsigned")]
    pub(super) time_unix_nano: u64,
    #[prost(double, optional, tag = "3")]
    #[serde(deserialize_with = "optional_float")]
    pub(super) as_double: Option<f64>,
    #[prost(bytes = "vec", tag = "4")]
    #[serde(deserialize_with = "bytes_hex")]
    pub(super) span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    #[serde(deserialize_with = "bytes_hex")]
    pub(super) trace_id: Vec<u8>,
    #[prost(sfixed64, optional, tag = "6")]
    #[serde(deserialize_with = "optional_integer")]
    pub(super) as_int: Option<i64>,
    #[prost(message, repeated, tag = "7")]
    pub(super) filtered_attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct KeyValue {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(message, optional, tag = "2")]
    pub(super) value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct AnyValue {
    #[prost(string, optional, tag = "1")]
    pub(super) string_value: Option<String>,
    #[prost(bool, optional, tag = "2")]
    pub(super) bool_value: Option<bool>,
    #[prost(int64, optional, tag = "3")]
    #[serde(deserialize_with = "optional_integer")]
    pub(super) int_value: Option<i64>,
    #[prost(double, optional, tag = "4")]
    #[serde(deserialize_with = "optional_float")]
    pub(super) double_value: Option<f64>,
    #[prost(message, optional, tag = "5")]
    pub(super) array_value: Option<ArrayValue>,
    #[prost(message, optional, tag = "6")]
    pub(super) kvlist_value: Option<KeyValueList>,
    #[prost(bytes = "vec", optional, tag = "7")]
    #[serde(deserialize_with = "bytes_base64")]
    pub(super) bytes_value: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ArrayValue {
    #[prost(message, repeated, tag = "1")]
    pub(super) values: Vec<AnyValue>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct KeyValueList {
    #[prost(message, repeated, tag = "1")]
    pub(super) values: Vec<KeyValue>,
}

/// The answer to a request that was understood.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PartialSuccess {
    #[prost(int64, tag = "1")]
    pub(super) rejected_data_points: i64,
    #[prost(string, tag = "2")]
    pub(super) error_message: String,
}

/// The answer to a request that was not: `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Status {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
    #[prost(string, tag = "2")]
    pub(super) message: String,
}

/// Why a body is not decoded.
#[derive(Debug, thiserror::Error)]
pub(super) enum DecodeError {
    #[error(transparent)]
    Protobuf(#[from] prost::DecodeError),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("request takes more than {DECODED_BYTES_MAX} bytes when decoded (decoded_bytes_max)")]
    TooLarge,
    #[error("message ends too early")]
    Cut,
    #[error("groups of fields are not understood")]
    Group,
    #[error("messages lie more than {DEPTH_MAX} deep in each other (depth_max)")]
    TooDeep,
}

impl ExportRequest {
    /// Reads protocol buffers.
    pub(super) fn from_protobuf(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut left = DECODED_BYTES_MAX;
        measure(bytes, &EXPORT, DEPTH_MAX, &mut left)?;
        Ok(Self::decode(bytes)?)
    }

    /// Reads JSON.
    pub(super) fn from_json(bytes: &[u8]) -> Result<Self, DecodeError> {
        // No object is larger than the largest message, and numbers of lists take four times their least text.
        let objects = memchr::memchr_iter(b'{', bytes).count() as u64;
        let largest = size_of::<Metric>().max(size_of::<ExponentialPoint>()) as u64;
        if objects.saturating_mul(largest) + bytes.len() as u64 * 4 > DECODED_BYTES_MAX {
            return Err(DecodeError::TooLarge);
        }
        Ok(serde_json::from_slice(bytes)?)
    }
}

/// The messages inside a message.
struct Inside {
    /// Number of the field, bytes in memory, what is inside.
    messages: &'static [(u32, usize, &'static Inside)],
    /// Bytes in memory of a byte of another field that has a length: numbers in a list take up to eight.
    factor: u64,
}

const fn of(messages: &'static [(u32, usize, &'static Inside)]) -> Inside {
    Inside { messages, factor: 1 }
}

const PAIR_BYTES: usize = size_of::<KeyValue>();
static LEAF: Inside = of(&[]);
static BUCKETS: Inside = Inside { messages: &[], factor: 8 };
// A value lies in its pair.
static PAIR: Inside = of(&[(2, 0, &ANY)]);
static ANY: Inside = of(&[(5, 0, &VALUES), (6, 0, &PAIRS)]);
static VALUES: Inside = of(&[(1, size_of::<AnyValue>(), &ANY)]);
static PAIRS: Inside = of(&[(1, PAIR_BYTES, &PAIR)]);
static EXEMPLAR: Inside = of(&[(7, PAIR_BYTES, &PAIR)]);
static NUMBER: Inside = of(&[(5, size_of::<Exemplar>(), &EXEMPLAR), (7, PAIR_BYTES, &PAIR)]);
static NUMBERS: Inside = of(&[(1, size_of::<NumberPoint>(), &NUMBER)]);
static HISTOGRAM: Inside = of(&[(8, size_of::<Exemplar>(), &EXEMPLAR), (9, PAIR_BYTES, &PAIR)]);
static HISTOGRAMS: Inside = of(&[(1, size_of::<HistogramPoint>(), &HISTOGRAM)]);
static EXPONENTIAL: Inside =
    of(&[(1, PAIR_BYTES, &PAIR), (8, 0, &BUCKETS), (9, 0, &BUCKETS), (11, size_of::<Exemplar>(), &EXEMPLAR)]);
static EXPONENTIALS: Inside = of(&[(1, size_of::<ExponentialPoint>(), &EXPONENTIAL)]);
static SUMMARY: Inside = of(&[(6, size_of::<Quantile>(), &LEAF), (7, PAIR_BYTES, &PAIR)]);
static SUMMARIES: Inside = of(&[(1, size_of::<SummaryPoint>(), &SUMMARY)]);
static METRIC: Inside =
    of(&[(5, 0, &NUMBERS), (7, 0, &NUMBERS), (9, 0, &HISTOGRAMS), (10, 0, &EXPONENTIALS), (11, 0, &SUMMARIES)]);
static SCOPE: Inside = of(&[(3, PAIR_BYTES, &PAIR)]);
static SCOPE_METRICS: Inside = of(&[(1, 0, &SCOPE), (2, size_of::<Metric>(), &METRIC)]);
static RESOURCE: Inside = of(&[(1, PAIR_BYTES, &PAIR)]);
static RESOURCE_METRICS: Inside = of(&[(1, 0, &RESOURCE), (2, size_of::<ScopeMetrics>(), &SCOPE_METRICS)]);
static EXPORT: Inside = of(&[(1, size_of::<ResourceMetrics>(), &RESOURCE_METRICS)]);

/// Takes from `left` what the message in `bytes` would take in memory.
fn measure(mut bytes: &[u8], inside: &Inside, depth: u32, left: &mut u64) -> Result<(), DecodeError> {
    let depth = depth.checked_sub(1).ok_or(DecodeError::TooDeep)?;
    while !bytes.is_empty() {
        let (number, wire_type) = decode_key(&mut bytes)?;
        let mut taken = 8;
        let len = match wire_type {
            WireType::Varint => {
                decode_varint(&mut bytes)?;
                0
            }
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            WireType::LengthDelimited => {
                let len = usize::try_from(decode_varint(&mut bytes)?).unwrap_or(usize::MAX);
                let content = bytes.get(..len).ok_or(DecodeError::Cut)?;
                match inside.messages.iter().find(|(n, ..)| *n == number) {
                    Some((_, size, inside)) => {
                        taken = *size as u64;
                        measure(content, inside, depth, left)?;
                    }
                    None => taken = len as u64 * inside.factor,
                }
                len
            }
            WireType::StartGroup | WireType::EndGroup => return Err(DecodeError::Group),
        };
        *left = left.checked_sub(taken).ok_or(DecodeError::TooLarge)?;
        bytes = bytes.get(len..).ok_or(DecodeError::Cut)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(value: f64) -> NumberPoint {
        let value_of = AnyValue { string_value: Some("v".to_owned()), ..AnyValue::default() };
        let attributes = vec![KeyValue { key: "k".to_owned(), value: Some(value_of) }];
        NumberPoint { time_unix_nano: 5, as_double: Some(value), attributes, ..NumberPoint::default() }
    }

    fn request(points: usize) -> ExportRequest {
        let gauge = Gauge { data_points: vec![point(1.5); points] };
        let metric = Metric { name: "m".to_owned(), gauge: Some(gauge), ..Metric::default() };
        let scope_metrics = vec![ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() }];
        ExportRequest { resource_metrics: vec![ResourceMetrics { resource: None, scope_metrics }] }
    }

    #[test]
    fn both_encodings_say_the_same() {
        let json = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","gauge":{"dataPoints":[
            {"timeUnixNano":"5","asDouble":1.5,"attributes":[{"key":"k","value":{"stringValue":"v"}}],"new":{}}]}}]}]}]}"#;
        let expected = request(1);
        assert_eq!(ExportRequest::from_json(json.as_bytes()).unwrap(), expected);
        assert_eq!(ExportRequest::from_protobuf(&expected.encode_to_vec()).unwrap(), expected);
    }

    #[test]
    fn few_bytes_that_take_much_memory_are_refused() {
        // Two bytes are a data point of a gauge of a metric of a scope of a resource.
        let points = [0x0a, 0].repeat(3 << 20);
        let nested = [0x2a, 0x12, 0x12, 0x0a].iter().fold(points, |inner, key| {
            let mut out = vec![*key];
            prost::encoding::encode_varint(inner.len() as u64, &mut out);
            out.extend(inner);
            out
        });
        let error = ExportRequest::from_protobuf(&nested).unwrap_err().to_string();
        assert!(error.contains("decoded_bytes_max"), "{error}");
        let json = format!("{{\"resourceMetrics\":[{}{{}}]}}", "{},".repeat(2_000_000));
        assert!(ExportRequest::from_json(json.as_bytes()).unwrap_err().to_string().contains("decoded_bytes_max"));
        assert!(ExportRequest::from_protobuf(&request(100_000).encode_to_vec()).is_ok());
    }

    #[test]
    fn values_in_values_end() {
        let mut value = AnyValue::default();
        for _ in 0..200 {
            value = AnyValue { array_value: Some(ArrayValue { values: vec![value] }), ..AnyValue::default() };
        }
        let attributes = vec![KeyValue { key: "k".to_owned(), value: Some(value) }];
        let resource = Some(Resource { attributes });
        let request = ExportRequest { resource_metrics: vec![ResourceMetrics { resource, scope_metrics: Vec::new() }] };
        let error = ExportRequest::from_protobuf(&request.encode_to_vec()).unwrap_err().to_string();
        assert!(error.contains("depth_max"), "{error}");
        let json = format!("{{\"resourceMetrics\":{}", "[".repeat(1000));
        assert!(ExportRequest::from_json(json.as_bytes()).is_err());
    }

    #[test]
    fn every_cut_of_a_request_is_refused_or_read() {
        let bytes = request(2).encode_to_vec();
        for end in 0..bytes.len() {
            let _ = ExportRequest::from_protobuf(&bytes[..end]);
        }
        assert!(ExportRequest::from_protobuf(&bytes[..bytes.len() - 1]).is_err());
    }
}
