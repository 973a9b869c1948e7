//! Tests of the protocol buffers.

use prost::Message as _;

use super::*;
use crate::scrape::exposition::Metadata;
use crate::scrape::exposition::messages::{Bucket, Counter, Exemplar, LabelPair, Number, Quantile, Summary, Timestamp};

#[derive(Clone, PartialEq, prost::Message)]
struct FamilyMessage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    help: String,
    #[prost(int32, tag = "3")]
    kind: i32,
    #[prost(message, repeated, tag = "4")]
    metrics: Vec<Metric>,
    #[prost(string, tag = "5")]
    unit: String,
}

const NONE: HistogramModes = HistogramModes { native: false, always_classic: false, to_custom: false };
const NATIVE: HistogramModes = HistogramModes { native: true, ..NONE };

fn family(kind: i32, metrics: Vec<Metric>) -> FamilyMessage {
    FamilyMessage { name: "m".to_owned(), kind, metrics, ..FamilyMessage::default() }
}

fn body(families: &[FamilyMessage]) -> Vec<u8> {
    families.iter().flat_map(|f| f.encode_length_delimited_to_vec()).collect()
}

fn labels(pairs: &[(&str, &str)]) -> Vec<LabelPair> {
    pairs.iter().map(|(n, v)| LabelPair { name: (*n).to_owned(), value: (*v).to_owned() }).collect()
}

/// Lines as text, histograms by their numbers.
fn show(body: &[u8], modes: HistogramModes) -> String {
    let mut made = Assembled::default();
    if let Err(e) = made.read_protobuf(body, modes) {
        return e.to_string();
    }
    let mut parser = Parser::new(made.body(), Format::Assembled);
    let mut out = Vec::new();
    loop {
        match parser.next_item().unwrap() {
            Item::End => return out.join("\n"),
            Item::Metadata { family, text: Metadata::Type(kind), .. } => out.push(format!("{family} is {kind}")),
            Item::Metadata { family, text: Metadata::Help(text) | Metadata::Unit(text), .. } => {
                out.push(format!("{family}: {text}"));
            }
            Item::Sample { key, tail } => {
                let mut line = String::from_utf8_lossy(&made.body()[key]).into_owned();
                match tail.histogram {
                    None => line.push_str(&format!(" {}", tail.value)),
                    Some(n) => {
                        let h = made.histogram(n).unwrap();
                        let (counts, h) = (h.counts(), h.value());
                        line.push_str(&format!(
                            " {counts:?} {} {} s{} z{}:{} {:?} {:?} {:?}",
                            h.count,
                            h.sum,
                            h.schema,
                            h.zero_threshold,
                            h.zero_count,
                            h.negative_buckets,
                            h.positive_buckets,
                            h.counter_reset_hint
                        ));
                    }
                }
                if let Some(t) = tail.timestamp_ms {
                    line.push_str(&format!(" @{t}"));
                }
                for e in tail.exemplar.into_iter().flat_map(|n| made.exemplars(n)) {
                    line.push_str(&format!(" # {} {} {:?}", e.labels, e.value, e.timestamp_ms));
                }
                out.push(line);
            }
        }
    }
}

#[track_caller]
fn check(families: &[FamilyMessage], modes: HistogramModes, expected: &[&str]) {
    assert_eq!(show(&body(families), modes), expected.join("\n"));
}

#[test]
fn simple_types_become_lines() {
    let exemplar = Exemplar {
        labels: labels(&[("trace", "1")]),
        value: 0.5,
        timestamp: Some(Timestamp { seconds: 7, nanos: 250_000_000 }),
    };
    let counter = Metric {
        labels: labels(&[("a", "x\"y\n"), ("b.c", "")]),
        counter: Some(Counter { value: 3.0, exemplar: Some(exemplar), ..Counter::default() }),
        timestamp_ms: 1234,
        ..Metric::default()
    };
    let told = FamilyMessage { help: "says \\ much".to_owned(), unit: "bytes".to_owned(), ..family(0, vec![counter]) };
    let gauge = Metric { gauge: Some(Number { value: f64::NAN }), ..Metric::default() };
    let untyped = Metric { untyped: Some(Number { value: 0.0 }), ..Metric::default() };
    let summary = Metric {
        summary: Some(Summary {
            count: 2,
            sum: 1.5,
            quantiles: vec![Quantile { quantile: 1.0, value: 9.0 }],
            ..Summary::default()
        }),
        ..Metric::default()
    };
    check(
        &[told, family(1, vec![gauge]), family(3, vec![untyped]), family(2, vec![summary])],
        NONE,
        &[
            "m is counter",
            "m: says \\ much",
            "m: bytes",
            "m{a=\"x\\\"y\\n\",\"b.c\"=\"\"} 3 @1234 # {trace=\"1\"} 0.5 Some(7250)",
            "m is gauge",
            "m NaN",
            "m is unknown",
            "m 0",
            "m is summary",
            "m{quantile=\"1.0\"} 9",
            "m_sum 1.5",
            "m_count 2",
        ],
    );
}

fn bucket(upper_bound: f64, cumulative_count: u64) -> Bucket {
    Bucket { upper_bound, cumulative_count, ..Bucket::default() }
}

/// Four observations, classic in two buckets, native in two and the zero bucket.
fn both() -> messages::Histogram {
    messages::Histogram {
        count: 4,
        sum: 2.5,
        buckets: vec![bucket(1.0, 3)],
        schema: 1,
        zero_threshold: 0.25,
        zero_count: 1,
        positive_spans: vec![BucketSpan { offset: -1, length: 2 }],
        positive_deltas: vec![2, -1],
        ..messages::Histogram::default()
    }
}

/// A body with the histogram `m` of `n` times four observations, classic and native.
pub(crate) fn both_body(n: u64) -> Vec<u8> {
    let deltas = i64::try_from(n).unwrap();
    body(&of(messages::Histogram {
        count: 4 * n,
        sum: 2.5,
        buckets: vec![bucket(1.0, 3 * n)],
        zero_count: n,
        positive_deltas: vec![2 * deltas, -deltas],
        ..both()
    }))
}

/// The body of [`both_body`], whose histogram has counted since `created_s`, with a counter `c` and a summary `s` that
/// have too.
pub(crate) fn created_body(n: u64, created_s: i64) -> Vec<u8> {
    let created = Some(Timestamp { seconds: created_s, nanos: 500_000_000 });
    let deltas = i64::try_from(n).unwrap();
    let histogram = messages::Histogram {
        count: 4 * n,
        buckets: vec![bucket(1.0, 3 * n)],
        zero_count: n,
        positive_deltas: vec![2 * deltas, -deltas],
        created,
        ..both()
    };
    let counter = Counter { value: n as f64, created, ..Counter::default() };
    let quantiles = vec![Quantile { quantile: 1.0, value: 9.0 }];
    let summary = Summary { count: n, sum: 1.5, quantiles, created };
    let named = |name: &str, kind, metric| FamilyMessage { name: name.to_owned(), ..family(kind, vec![metric]) };
    let mut families = of(histogram);
    // Named like a start time, but a counter like others.
    families.push(named("c_created", 0, Metric { counter: Some(counter), ..Metric::default() }));
    families.push(named("s", 2, Metric { summary: Some(summary), ..Metric::default() }));
    body(&families)
}

fn of(histogram: messages::Histogram) -> Vec<FamilyMessage> {
    vec![family(4, vec![Metric { histogram: Some(histogram), ..Metric::default() }])]
}

const CLASSIC: [&str; 4] = ["m_bucket{le=\"1.0\"} 3", "m_bucket{le=\"+Inf\"} 4", "m_sum 2.5", "m_count 4"];
const AS_NATIVE: &str = "m Integer 4 2.5 s1 z0.25:1 [] [2.0, 1.0] Unknown";
const AS_CUSTOM: &str = "m Integer 4 2.5 s-53 z0:0 [] [3.0, 1.0] Unknown";

#[track_caller]
fn check_modes(histogram: &messages::Histogram, modes: HistogramModes, one: Option<&str>, is_classic: bool) {
    let mut expected = vec!["m is histogram"];
    expected.extend(one);
    expected.extend(CLASSIC.iter().filter(|_| is_classic));
    check(&of(histogram.clone()), modes, &expected);
}

#[test]
fn modes_say_what_of_a_histogram_is_taken() {
    let both = both();
    let classic = messages::Histogram { count: 4, sum: 2.5, buckets: vec![bucket(1.0, 3)], ..Default::default() };
    let always = |modes| HistogramModes { always_classic: true, ..modes };
    let custom = |modes| HistogramModes { to_custom: true, ..modes };
    check_modes(&both, NONE, None, true);
    check_modes(&both, NATIVE, Some(AS_NATIVE), false);
    check_modes(&both, always(NATIVE), Some(AS_NATIVE), true);
    check_modes(&both, custom(NATIVE), Some(AS_NATIVE), false);
    check_modes(&both, custom(NONE), Some(AS_CUSTOM), false);
    check_modes(&both, always(custom(NONE)), Some(AS_CUSTOM), true);
    check_modes(&classic, NATIVE, None, true);
    check_modes(&classic, custom(NATIVE), Some(AS_CUSTOM), false);
    check_modes(&classic, always(custom(NATIVE)), Some(AS_CUSTOM), true);
    let native = messages::Histogram { buckets: Vec::new(), ..both };
    check_modes(&native, NATIVE, Some(AS_NATIVE), false);
    check_modes(&native, always(NATIVE), Some(AS_NATIVE), false);
    check(&of(native), NONE, &["m is histogram", "m_bucket{le=\"+Inf\"} 4", "m_sum 2.5", "m_count 4"]);
}

#[test]
fn native_histograms_may_be_floats_gauges_and_empty() {
    let floats = messages::Histogram {
        count: 0,
        count_float: 1.75,
        zero_count: 0,
        zero_count_float: 0.5,
        positive_deltas: Vec::new(),
        positive_counts: vec![0.25, 1.0],
        ..both()
    };
    let gauge = family(5, vec![Metric { histogram: Some(floats), ..Metric::default() }]);
    let line = "m Float 1.75 2.5 s1 z0.25:0.5 [] [0.25, 1.0] Gauge";
    check(&[gauge], NATIVE, &["m is gaugehistogram", line]);
    let nothing_yet = messages::Histogram {
        positive_spans: vec![BucketSpan { offset: 0, length: 0 }],
        ..messages::Histogram::default()
    };
    check(&of(nothing_yet), NATIVE, &["m is histogram", "m Integer 0 0 s0 z0:0 [] [] Unknown"]);
}

#[test]
fn exemplars_of_native_histograms_have_times() {
    let at = |seconds: Option<i64>, value| Exemplar {
        timestamp: seconds.map(|seconds| Timestamp { seconds, nanos: 0 }),
        value,
        ..Exemplar::default()
    };
    let own = messages::Histogram { exemplars: vec![at(None, 1.0), at(Some(2), 2.0)], ..both() };
    check(&of(own), NATIVE, &["m is histogram", &format!("{AS_NATIVE} # {{}} 2 Some(2000)")]);
    let mut of_buckets = both();
    of_buckets.buckets[0].exemplar = Some(at(Some(3), 3.0));
    check(&of(of_buckets), NATIVE, &["m is histogram", &format!("{AS_NATIVE} # {{}} 3 Some(3000)")]);
}

#[test]
fn what_is_no_exposition_is_refused() {
    let error = |bytes: &[u8]| show(bytes, NATIVE);
    assert_eq!(show(&[], NATIVE), "");
    let whole = body(&of(both()));
    assert_eq!(error(&whole[..whole.len() - 1]), "protobuf: message at byte 0 ends after the body");
    assert_eq!(error(b"m 1\n"), "protobuf: message at byte 0 ends after the body");
    assert_eq!(error(&[0]), "protobuf: family \"\" at byte 0: no name");
    assert_eq!(error(&[2, 0x0a, 9]), "protobuf: family \"\" at byte 0: a field ends after its message");
    assert_eq!(error(&body(&[family(9, Vec::new())])), "protobuf: family \"m\" at byte 0: a type that is none");
    assert_eq!(error(&body(&[family(0, vec![Metric::default()])])), "protobuf: a metric of family \"m\" is no counter");
    let large = Metric { labels: labels(&[("a", &"x".repeat(METRIC_BYTES_MAX))]), ..Metric::default() };
    let e = error(&body(&[family(0, vec![large])]));
    assert!(e.ends_with("bytes, more than 1048576 (metric_bytes_max)"), "{e}");
    let broken = messages::Histogram { positive_deltas: vec![2], ..both() };
    assert!(error(&body(&of(broken))).starts_with("histogram \"m\": positive side: spans need 2 buckets"));
    for cut in 1..whole.len() {
        let _ = error(&whole[cut..]);
    }
}
