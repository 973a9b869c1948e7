//! Requests to the router in process, over a database in a temporary folder; messages by prost.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt as _;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use promontory_model::{
    Cancel, Columns, Matcher, MetricMetadata, MetricType, Queryable as _, Select, TimeRange, Timestamp, stale_nan,
};
use promontory_storage::DbOptions;
use promontory_storage::clock::ManualClock;
use promontory_storage::vfs::RealVfs;
use prost::Message as _;

use super::*;

/// Remote write 1.0 as senders write it.
pub(super) mod messages {
    use super::super::read::{Label, Sample, TimeSeries};

    #[derive(Clone, PartialEq, prost::Message)]
    pub(in super::super) struct WriteRequest {
        #[prost(message, repeated, tag = "1")]
        pub(in super::super) timeseries: Vec<TimeSeries>,
    }

    pub(in super::super) fn series(labels: &[(&str, &str)], samples: &[(i64, f64)]) -> TimeSeries {
        let label = |(n, v): &(&str, &str)| Label { name: (*n).to_owned(), value: (*v).to_owned() };
        TimeSeries {
            labels: labels.iter().map(label).collect(),
            samples: samples.iter().map(|&(timestamp, value)| Sample { value, timestamp }).collect(),
            exemplars: Vec::new(),
            histograms: Vec::new(),
        }
    }
}

use super::interned::tests::messages as interned;
use interned::Symbols;
use messages::{WriteRequest, series};
use read::{LabelMatcher, Query, ReadRequest, TimeSeries};

struct World {
    router: Router,
    db: Db,
    clock: Arc<ManualClock>,
    _dir: tempfile::TempDir,
}

const NOW_MS: i64 = 1_700_000_000_000;

impl World {
    fn new(enable_write: bool) -> Self {
        Self::with_window(enable_write, 0)
    }

    fn with_window(enable_write: bool, out_of_order_window_ms: i64) -> Self {
        Self::with(enable_write, out_of_order_window_ms, false)
    }

    fn with(enable_write: bool, out_of_order_window_ms: i64, zero_starts: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp(NOW_MS)));
        let options = DbOptions { commit_interval_ms: None, out_of_order_window_ms, ..DbOptions::server() };
        let (db, _) = Db::open(Arc::new(RealVfs), clock.clone(), dir.path(), options).unwrap();
        let router = router(RemoteParts {
            db: db.clone(),
            clock: clock.clone(),
            bodies: Bodies::new(),
            meter: Arc::default(),
            enable_write,
            zero_starts,
            read_timeout: Duration::from_secs(60),
            external_labels: Box::new(|| Labels::from_pairs([("cl", "x")])),
        });
        Self { router, db, clock, _dir: dir }
    }

    async fn send(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> (u16, HeaderMap, Vec<u8>) {
        let request = headers.iter().fold(Request::post(path), |r, (n, v)| r.header(*n, *v));
        let request = request.body(Body::from(body)).unwrap();
        let response = TowerToHyperService::new(self.router.clone()).call(request).await.unwrap();
        let (parts, body) = response.into_parts();
        (parts.status.as_u16(), parts.headers, body.collect().await.unwrap().to_bytes().to_vec())
    }

    async fn write(&self, timeseries: Vec<TimeSeries>) -> (u16, String) {
        let body = pack(&WriteRequest { timeseries }.encode_to_vec());
        let (status, _, body) = self.send("/write", &[("content-encoding", "snappy")], body).await;
        (status, String::from_utf8(body).unwrap())
    }

    /// Labels, times and values of everything stored.
    fn stored(&self) -> Vec<String> {
        let cancel = Cancel::new();
        let matchers = [Matcher::new("__name__", promontory_model::MatchOp::NotEqual, "").unwrap()];
        let select = Select { range: TimeRange::ALL, matchers: &matchers, cancel: &cancel };
        let selection = self.db.snapshot().unwrap().select(&select).unwrap();
        let mut columns = Columns::default();
        let mut out = Vec::new();
        for batch in &selection.batches {
            batch.read(0..batch.n_series(), TimeRange::ALL, &mut columns).unwrap();
            for i in 0..batch.n_series() {
                let column = columns.column(i);
                let rows = columns.timestamps().iter().zip(column.values).enumerate();
                let samples: Vec<_> = rows
                    .filter(|(row, _)| column.is_present(*row))
                    .map(|(_, (t, v))| format!("{}:{:x}", t - NOW_MS, v.to_bits() >> 48))
                    .collect();
                out.push(format!("{} {}", batch.labels(i), samples.join(" ")));
            }
        }
        out.sort();
        out
    }
}

fn pack(bytes: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(bytes).unwrap()
}

fn unpack(bytes: &[u8]) -> Vec<u8> {
    snap::raw::Decoder::new().decompress_vec(bytes).unwrap()
}

fn bits(v: f64) -> String {
    format!("{:x}", v.to_bits() >> 48)
}

#[tokio::test]
async fn written_samples_are_stored_and_acknowledged() {
    let w = World::new(true);
    let a: &[(&str, &str)] = &[("__name__", "a"), ("instance", "i"), ("job", "j")];
    assert_eq!(w.write(vec![series(a, &[(NOW_MS - 2000, 1.5), (NOW_MS - 1000, 2.5)])]).await, (204, String::new()));
    assert_eq!(w.write(vec![series(a, &[(NOW_MS - 1000, 2.5)])]).await, (204, String::new()), "the same again");
    // Labels out of order, one of them empty, and a staleness marker.
    let second = [("job", "j"), ("instance", "i"), ("x", ""), ("__name__", "a")];
    assert_eq!(w.write(vec![series(&second, &[(NOW_MS, stale_nan())])]).await.0, 204);
    assert_eq!(w.write(Vec::new()).await.0, 204);
    let (one, two, stale) = (bits(1.5), bits(2.5), bits(stale_nan()));
    assert_eq!(w.stored(), [format!(r#"{{__name__="a", instance="i", job="j"}} -2000:{one} -1000:{two} 0:{stale}"#)]);
}

#[tokio::test]
async fn a_repeated_request_changes_nothing() {
    let w = World::with_window(true, 30 * 60_000);
    let a: &[(&str, &str)] = &[("__name__", "a"), ("job", "j")];
    let request = vec![series(a, &[(NOW_MS - 2000, 1.5), (NOW_MS - 1000, 2.5), (NOW_MS, 3.5)])];
    assert_eq!(w.write(request.clone()).await.0, 204);
    let stored = w.stored();
    assert_eq!(w.write(request).await, (204, String::new()));
    assert_eq!(w.stored(), stored);
}

#[tokio::test]
async fn invalid_series_are_left_out_and_the_others_stored() {
    let w = World::new(true);
    let sample = [(NOW_MS, 1.5)];
    let written = w
        .write(vec![
            series(&[("job", "no name")], &sample),
            series(&[("__name__", "a"), ("b", "1"), ("b", "2")], &sample),
            series(&[("__name__", "a"), ("", "1")], &sample),
            series(&[], &sample),
            series(&[("__name__", "good")], &sample),
        ])
        .await;
    assert_eq!(written, (204, String::new()));
    assert_eq!(w.stored(), [format!(r#"{{__name__="good"}} 0:{}"#, bits(1.5))]);
}

#[tokio::test]
async fn refused_samples_are_named_and_the_others_stored() {
    let w = World::new(true);
    let a: &[(&str, &str)] = &[("__name__", "a")];
    assert_eq!(w.write(vec![series(a, &[(NOW_MS, 1.0)])]).await.0, 204);
    let bad = vec![
        series(a, &[(NOW_MS, 2.0), (NOW_MS - 1000, 1.0)]),
        series(&[("__name__", "b")], &[(NOW_MS, 1.0), (NOW_MS + 3_600_000, 1.0)]),
    ];
    let (status, text) = w.write(bad).await;
    assert_eq!(status, 400);
    for reason in [
        "out of order sample (1 of 4)",
        "duplicate sample for timestamp (1 of 4)",
        "out of bounds: timestamp is too far in the future (1 of 4)",
    ] {
        assert!(text.contains(reason), "{text}");
    }
    let one = bits(1.0);
    assert_eq!(w.stored(), [format!(r#"{{__name__="a"}} 0:{one}"#), format!(r#"{{__name__="b"}} 0:{one}"#)]);
}

#[tokio::test]
async fn older_samples_of_a_request_are_not_late_because_of_its_newer_ones() {
    let w = World::new(true);
    let hours = 3_600_000;
    let from = |instance: &str, t: i64| series(&[("__name__", "a"), ("instance", instance)], &[(t, 1.0)]);
    let all = w.write(vec![from("x", NOW_MS), from("y", NOW_MS - 9 * hours), from("z", NOW_MS - 5 * hours)]).await;
    assert_eq!((all.0, w.stored().len()), (204, 3), "{all:?}");
    let alone = w.write(vec![from("late", NOW_MS - 9 * hours)]).await;
    assert_eq!((alone.0, w.stored().len()), (400, 3), "{alone:?}");
}

#[track_caller]
fn check_refused(got: &(u16, HeaderMap, Vec<u8>), status: u16, text: &str) {
    let body = String::from_utf8_lossy(&got.2);
    assert!(got.0 == status && body.contains(text), "{} {body}", got.0);
}

#[tokio::test]
async fn requests_that_are_not_understood_say_why() {
    let w = World::new(true);
    let gzip = w.send("/write", &[("content-encoding", "gzip")], Vec::new()).await;
    check_refused(&gzip, 415, "gzip encoding (compression) is not accepted by this server; only snappy is acceptable");
    let unknown = [("content-type", "application/x-protobuf;proto=io.prometheus.write.v3.Request")];
    check_refused(&w.send("/write", &unknown, vec![1]).await, 415, "io.prometheus.write.v3.Request protobuf message");
    check_refused(&w.send("/write", &[("content-type", "text/plain")], vec![1]).await, 415, "application/x-protobuf");
    check_refused(&w.send("/write", &[], vec![0xff; 9]).await, 400, "snappy: corrupt input");
    check_refused(&w.send("/write", &[], pack(&[0x0a, 9])).await, 400, "proto: unexpected end at byte 2");
    // A good series before the damage.
    let good = WriteRequest { timeseries: vec![series(&[("__name__", "a")], &[(NOW_MS, 1.0)])] }.encode_to_vec();
    check_refused(&w.send("/write", &[], pack(&[&good[..], &[0x0a, 9]].concat())).await, 400, "unexpected end");
    // A few bytes that claim to become a gigabyte.
    let bomb = vec![0x80, 0x80, 0x80, 0x80, 0x04, 0];
    check_refused(&w.send("/write", &[], bomb).await, 400, "body_bytes_max");
    check_refused(&w.send("/write", &[], vec![0; crate::bodies::BODY_BYTES_MAX + 1]).await, 413, "body_bytes_max");
    assert_eq!(w.send("/write", &[("content-type", "application/x-protobuf")], pack(&[])).await.0, 204);
    check_refused(&World::new(false).send("/write", &[], pack(&[])).await, 404, "--web.enable-remote-write-receiver");
    assert!(w.stored().is_empty());
}

#[test]
fn series_that_nobody_sends_are_forgotten() {
    let w = World::new(true);
    let mut receiver = Receiver::new(w.db.clone(), false);
    let limits = wire::Limits { series: 10, samples: 10, histogram_bytes: 0, exemplars: 0, families: 0 };
    let mut send = |name: &str, job: &str| {
        let request =
            WriteRequest { timeseries: vec![series(&[("__name__", name), ("job", job)], &[(w.clock.now().0, 1.0)])] };
        let bytes = request.encode_to_vec();
        let appended = receiver.append(&bytes, limits, w.clock.now().0).unwrap().appended;
        assert_eq!(appended.accepted, 1);
        receiver.n_known()
    };
    assert_eq!(send("a", "x"), (1, 1));
    assert_eq!(send("b", "x"), (2, 1));
    assert_eq!(send("c", "y"), (3, 2));
    w.clock.advance(10 * 60_000);
    assert_eq!(send("a", "x"), (3, 2));
    w.clock.advance(10 * 60_000);
    assert_eq!(send("a", "x"), (1, 1), "b and c are idle for 20 minutes");
    assert_eq!(send("c", "y"), (2, 2));
    assert_eq!(w.stored().len(), 3);
}

fn query(start: i64, end: i64, matchers: &[(i32, &str, &str)]) -> Query {
    let matcher = |&(op, n, v): &(i32, &str, &str)| LabelMatcher { op, name: n.to_owned(), value: v.to_owned() };
    Query { start_timestamp_ms: start, end_timestamp_ms: end, matchers: matchers.iter().map(matcher).collect() }
}

#[derive(Clone, PartialEq, prost::Message)]
struct ReadResponse {
    #[prost(message, repeated, tag = "1")]
    results: Vec<QueryResult>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct QueryResult {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
}

impl World {
    async fn read(&self, queries: Vec<Query>) -> Vec<QueryResult> {
        let request = ReadRequest { queries, accepted_response_types: vec![0, 1] };
        let (status, headers, body) = self.send("/read", &[], pack(&request.encode_to_vec())).await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        assert_eq!(headers["content-type"], "application/x-protobuf");
        assert_eq!(headers["content-encoding"], "snappy");
        ReadResponse::decode(unpack(&body).as_slice()).unwrap().results
    }
}

#[tokio::test]
async fn samples_are_read_back_with_external_labels() {
    let w = World::new(true);
    let t = NOW_MS;
    let written = vec![
        series(&[("__name__", "a"), ("i", "2")], &[(t - 2000, 1.0), (t - 1000, 2.0), (t, 3.0)]),
        series(&[("__name__", "a"), ("cl", "own"), ("i", "1")], &[(t, 4.0)]),
    ];
    assert_eq!(w.write(written).await.0, 204);
    let results = w
        .read(vec![
            query(t - 1000, t, &[(0, "__name__", "a")]),
            query(t, t, &[(2, "__name__", "a|b"), (0, "cl", "x")]),
            query(t, t, &[(0, "cl", "y")]),
        ])
        .await;
    let own = series(&[("__name__", "a"), ("cl", "own"), ("i", "1")], &[(t, 4.0)]);
    let labels = [("__name__", "a"), ("cl", "x"), ("i", "2")];
    assert_eq!(results[0].timeseries, [own, series(&labels, &[(t - 1000, 2.0), (t, 3.0)])]);
    assert_eq!(results[1].timeseries, [series(&labels, &[(t, 3.0)])]);
    assert_eq!((results[2].timeseries.len(), results.len()), (0, 3));
}

#[tokio::test]
async fn reads_that_are_not_understood_say_why() {
    let w = World::new(false);
    check_refused(&w.send("/read", &[], vec![0xff; 9]).await, 400, "snappy: corrupt input");
    check_refused(&w.send("/read", &[], pack(&[0x0a, 9])).await, 400, "");
    let unknown = ReadRequest { queries: vec![], accepted_response_types: vec![7] };
    check_refused(&w.send("/read", &[], pack(&unknown.encode_to_vec())).await, 400, "STREAMED_XOR_CHUNKS");
    let bad = ReadRequest { queries: vec![query(0, 1, &[(2, "a", "(")])], accepted_response_types: vec![1] };
    check_refused(&w.send("/read", &[], pack(&bad.encode_to_vec())).await, 400, "error parsing regexp");
    let bad = ReadRequest { queries: vec![query(0, 1, &[(2, "a", "(")])], accepted_response_types: vec![] };
    check_refused(&w.send("/read", &[], pack(&bad.encode_to_vec())).await, 400, "error parsing regexp");
}

pub(super) fn histogram_at(t: i64, n: u64) -> histogram::Histogram {
    let spans = vec![histogram::BucketSpan { offset: -1, length: 2 }];
    histogram::Histogram {
        count: Some(histogram::Count::Int(4 * n)),
        zero_count: Some(histogram::ZeroCount::Int(n)),
        sum: n as f64,
        schema: 3,
        zero_threshold: 0.5,
        positive_spans: spans,
        positive_deltas: vec![n as i64, n as i64],
        timestamp: t,
        ..histogram::Histogram::default()
    }
}

#[tokio::test]
async fn histograms_are_written_and_read_back() {
    let w = World::with_window(true, 30 * 60_000);
    let t = NOW_MS;
    let of = |histograms| TimeSeries { histograms, ..series(&[("__name__", "h"), ("cl", "x")], &[]) };
    let written = vec![histogram_at(t - 2000, 1), histogram_at(t - 1000, 2), histogram_at(t, 1)];
    assert_eq!(w.write(vec![of(written.clone())]).await, (204, String::new()));
    assert_eq!(w.write(vec![of(written.clone())]).await, (204, String::new()), "the same again");
    // The series goes on with floats.
    assert_eq!(w.write(vec![series(&[("__name__", "h"), ("cl", "x")], &[(t + 1000, 7.0)])]).await.0, 204);
    let read = w.read(vec![query(t - 1000, t + 1000, &[(0, "__name__", "h")])]).await;
    let expected =
        TimeSeries { samples: vec![read::Sample { value: 7.0, timestamp: t + 1000 }], ..of(written[1..].to_vec()) };
    assert_eq!(read[0].timeseries, [expected]);
}

#[tokio::test]
async fn refused_histograms_are_named_and_the_others_stored() {
    let w = World::new(true);
    let of = |histograms| TimeSeries { histograms, ..series(&[("__name__", "h")], &[]) };
    let mut invalid = histogram_at(NOW_MS - 500, 1);
    invalid.count = Some(histogram::Count::Int(3));
    let late = histogram_at(NOW_MS + 3_600_000, 1);
    let got = w.write(vec![of(vec![histogram_at(NOW_MS, 1), late]), of(vec![invalid])]).await;
    let expected = "out of bounds: timestamp is too far in the future (1 of 3); 4 observations found in buckets, but the \
                    Count field is 3: histogram's observation count should equal the number of observations found in \
                    the buckets (in absence of NaN) (1 of 3)\n";
    assert_eq!(got, (400, expected.to_owned()));
    let got = w.write(vec![of(vec![histogram_at(NOW_MS, 2)])]).await;
    assert_eq!(got, (400, "duplicate sample for timestamp (1 of 1)\n".to_owned()));
    let read = w.read(vec![query(NOW_MS - 1000, NOW_MS + 1000, &[(0, "__name__", "h")])]).await;
    assert_eq!(read[0].timeseries[0].histograms, [histogram_at(NOW_MS, 1)]);
}

#[tokio::test]
async fn exemplars_are_kept_with_and_without_samples() {
    let w = World::new(true);
    let of = |name: &str, exemplars: &[(i64, &str)]| {
        let exemplar = |&(t, id): &(i64, &str)| read::Exemplar {
            labels: vec![read::Label { name: "trace_id".to_owned(), value: id.to_owned() }],
            value: 0.5,
            timestamp: NOW_MS + t,
        };
        let samples: &[(i64, f64)] = if name == "a" { &[(NOW_MS, 1.0)] } else { &[] };
        TimeSeries { exemplars: exemplars.iter().map(exemplar).collect(), ..series(&[("__name__", name)], samples) }
    };
    let too_long = "x".repeat(121);
    let written =
        vec![of("a", &[(2, "second"), (1, "first"), (3_600_000, "ahead")]), of("b", &[(1, "x"), (2, &too_long)])];
    assert_eq!(w.write(written).await, (204, String::new()));
    // Older ones and repeats are left out without an error.
    assert_eq!(w.write(vec![of("a", &[(2, "second"), (0, "zero")])]).await, (204, String::new()));
    let kept = w.db.exemplars(&[vec![]], TimeRange::ALL);
    let show = |s: &promontory_storage::SeriesExemplars| {
        let ids =
            s.exemplars.iter().map(|e| format!(" {}:{}", e.timestamp.0 - NOW_MS, e.labels.get("trace_id").unwrap()));
        s.labels.metric_name().to_owned() + &ids.collect::<String>()
    };
    assert_eq!(kept.iter().map(show).collect::<Vec<_>>(), ["a 1:first 2:second", "b 1:x"]);
}

#[derive(Clone, PartialEq, prost::Message)]
struct MetadataRequest {
    #[prost(message, repeated, tag = "3")]
    metadata: Vec<SentMetadata>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SentMetadata {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(string, tag = "2")]
    family: String,
    #[prost(string, tag = "4")]
    help: String,
    #[prost(string, tag = "5")]
    unit: String,
}

#[tokio::test]
async fn what_senders_say_of_families_survives_a_restart() {
    let w = World::new(true);
    let sent = |kind, family: &str, help: &str| SentMetadata {
        kind,
        family: family.to_owned(),
        help: help.to_owned(),
        unit: "seconds".to_owned(),
    };
    let metadata = vec![sent(1, "a_total", "Counts."), sent(0, "", "Nothing."), sent(3, "b", "Old."), sent(2, "b", "")];
    let body = pack(&MetadataRequest { metadata }.encode_to_vec());
    assert_eq!(w.send("/write", &[], body).await.0, 204);
    let of = |kind, help: &str| vec![MetricMetadata { kind, unit: "seconds".to_owned(), help: help.to_owned() }];
    let expected = BTreeMap::from([
        ("a_total".to_owned(), of(MetricType::Counter, "Counts.")),
        ("b".to_owned(), of(MetricType::Gauge, "")),
    ]);
    assert_eq!(w.db.metadata(), expected);
    w.db.close().unwrap();
    let World { router, db, clock, _dir: dir } = w;
    drop((router, db));
    let options = DbOptions { commit_interval_ms: None, ..DbOptions::server() };
    let (db, _) = Db::open(Arc::new(RealVfs), clock, dir.path(), options).unwrap();
    assert_eq!(db.metadata(), expected);
}

const SECOND: (&str, &str) = ("content-type", "application/x-protobuf;proto=io.prometheus.write.v2.Request");

impl World {
    /// Writes by version 2: status, samples, histograms and exemplars written, and the body.
    async fn write_interned(&self, symbols: Symbols, timeseries: Vec<interned::TimeSeries>) -> (u16, [u64; 3], String) {
        let request = interned::Request { symbols: symbols.0, timeseries };
        let (status, headers, body) = self.send("/write", &[SECOND], pack(&request.encode_to_vec())).await;
        let written = ["samples", "histograms", "exemplars"].map(|what| {
            headers[format!("x-prometheus-remote-write-{what}-written")].to_str().unwrap().parse().unwrap()
        });
        (status, written, String::from_utf8(body).unwrap())
    }
}

#[tokio::test]
async fn interned_requests_are_stored_and_counted() {
    let w = World::with_window(true, 30 * 60_000);
    let mut s = Symbols::default();
    let mut histogram = s.series(&[("__name__", "h"), ("job", "j")], &[]);
    let custom = histogram::Histogram {
        count: Some(histogram::Count::Int(3)),
        zero_count: Some(histogram::ZeroCount::Int(0)),
        schema: -53,
        positive_spans: vec![histogram::BucketSpan { offset: 0, length: 2 }],
        positive_deltas: vec![1, 1],
        custom_values: vec![0.5, 2.5],
        sum: 2.0,
        timestamp: NOW_MS,
        ..histogram::Histogram::default()
    };
    histogram.histograms = vec![histogram_at(NOW_MS - 1000, 1), custom.clone()];
    let mut counter = s.series(&[("job", "j"), ("__name__", "c_total")], &[(NOW_MS - 1000, 1.0), (NOW_MS, 2.0)]);
    counter.metadata = Some(interned::Metadata { kind: 1, help_ref: s.number("Counts."), unit_ref: 0 });
    let labels_refs = vec![s.number("trace_id"), s.number("1")];
    counter.exemplars = vec![interned::Exemplar { labels_refs, value: 1.0, timestamp: NOW_MS }];
    let all = vec![histogram, counter];
    for times in ["once", "the same again"] {
        let symbols = Symbols(s.0.clone());
        let got = w.write_interned(symbols, all.clone()).await;
        assert_eq!(got, (204, [2, 2, 1], String::new()), "{times}");
    }
    let read = w.read(vec![query(NOW_MS - 1000, NOW_MS, &[(2, "__name__", ".+")])]).await;
    let labels = [("__name__", "c_total"), ("cl", "x"), ("job", "j")];
    let histograms = vec![histogram_at(NOW_MS - 1000, 1), custom];
    let expected = [
        series(&labels, &[(NOW_MS - 1000, 1.0), (NOW_MS, 2.0)]),
        TimeSeries { histograms, ..series(&[("__name__", "h"), ("cl", "x"), ("job", "j")], &[]) },
    ];
    assert_eq!(read[0].timeseries, expected);
    let kept = w.db.exemplars(&[vec![]], TimeRange::ALL);
    assert_eq!(kept.iter().map(|s| s.exemplars.len()).collect::<Vec<_>>(), [1]);
    let help = MetricMetadata { kind: MetricType::Counter, unit: String::new(), help: "Counts.".to_owned() };
    assert_eq!(w.db.metadata(), BTreeMap::from([("c_total".to_owned(), vec![help])]));
    // Both versions know the same series.
    let first = series(&[("__name__", "c_total"), ("job", "j")], &[(NOW_MS, 2.0)]);
    assert_eq!(w.write(vec![first]).await, (204, String::new()));
    assert_eq!(w.stored().len(), 2);
}

#[tokio::test]
async fn of_interned_requests_the_good_part_is_stored_and_the_rest_named() {
    let w = World::new(true);
    let mut s = Symbols::default();
    let good = s.series(&[("__name__", "good")], &[(NOW_MS, 1.0)]);
    let late = s.series(&[("__name__", "good")], &[(NOW_MS - 1000, 1.0)]);
    let mut invalid = s.series(&[("__name__", "h")], &[]);
    invalid.histograms = vec![histogram_at(NOW_MS, 1), histogram_at(NOW_MS + 1, 1)];
    invalid.histograms[1].count = Some(histogram::Count::Int(9));
    let bad = vec![
        s.series(&[("job", "x")], &[(NOW_MS, 1.0)]),
        s.series(&[("__name__", "empty")], &[]),
        s.series(&[("__name__", "a"), ("b", "1"), ("b", "2")], &[(NOW_MS, 1.0)]),
        interned::TimeSeries { labels_refs: vec![1, 77], ..good.clone() },
    ];
    let symbols = Symbols(s.0.clone());
    assert_eq!(w.write_interned(symbols, vec![good.clone()]).await, (204, [1, 0, 0], String::new()));
    let (status, written, text) = w.write_interned(s, [vec![late, invalid], bad].concat()).await;
    assert_eq!((status, written), (400, [0, 1, 0]), "{text}");
    for reason in [
        "out of order sample (1 of 6)",
        "(1 of 6)",
        "invalid metric name or labels, got {job=\"x\"}",
        "TimeSeries must contain at least one sample or histogram for series {__name__=\"empty\"}",
        "invalid metric name or labels, got {__name__=\"a\", b=\"1\", b=\"2\"}",
        "label of symbols 1 and 77 is outside the table",
    ] {
        assert!(text.contains(reason), "{reason} in {text}");
    }
    assert_eq!(w.stored().len(), 2);
    let damaged = w.send("/write", &[SECOND], pack(&[0x2a, 9])).await;
    check_refused(&damaged, 400, "proto: unexpected end at byte 2");
    assert_eq!(damaged.1["x-prometheus-remote-write-samples-written"], "0");
}

#[derive(Clone, PartialEq, prost::Message)]
struct ChunkedReadResponse {
    #[prost(message, repeated, tag = "1")]
    series: Vec<ChunkedSeries>,
    #[prost(int64, tag = "2")]
    query_index: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ChunkedSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<read::Label>,
    #[prost(message, repeated, tag = "2")]
    chunks: Vec<SentChunk>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SentChunk {
    #[prost(int64, tag = "1")]
    mint: i64,
    #[prost(int64, tag = "2")]
    maxt: i64,
    #[prost(int32, tag = "3")]
    encoding: i32,
    #[prost(bytes = "vec", tag = "4")]
    data: Vec<u8>,
}

/// The frames of a streamed answer.
fn frames(mut body: &[u8]) -> Vec<ChunkedReadResponse> {
    let mut out = Vec::new();
    while !body.is_empty() {
        let len = prost::decode_length_delimiter(&mut body).unwrap();
        let (crc, rest) = body.split_at(4);
        let (message, rest) = rest.split_at(len);
        assert_eq!(crc, crc32c::crc32c(message).to_be_bytes());
        assert!(len < 2 << 20, "frame of {len} bytes");
        out.push(ChunkedReadResponse::decode(message).unwrap());
        body = rest;
    }
    out
}

#[tokio::test]
async fn chunks_are_streamed_with_histograms_and_external_labels() {
    let w = World::with_window(true, 30 * 60_000);
    let t = NOW_MS - 1_000_000;
    let samples: Vec<(i64, f64)> = (0..300).map(|i| (t + 1000 * i, (i * i) as f64 / 3.0)).collect();
    let histograms: Vec<_> = (0..130).map(|i| histogram_at(t + 1000 * i, 1 + i as u64)).collect();
    let of = |histograms| TimeSeries { histograms, ..series(&[("__name__", "h")], &[]) };
    let written = vec![series(&[("__name__", "a"), ("i", "2")], &samples), of(histograms.clone())];
    assert_eq!(w.write(written).await, (204, String::new()));
    let end = t + 1000 * 250;
    let queries = vec![query(t, end, &[(2, "__name__", "a|h")]), query(t, t, &[(0, "__name__", "a")])];
    let request = ReadRequest { queries, accepted_response_types: vec![9, 1, 0] };
    let (status, headers, body) = w.send("/read", &[], pack(&request.encode_to_vec())).await;
    assert_eq!((status, headers.get("content-encoding")), (200, None));
    let content_type = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";
    assert_eq!(headers["content-type"], content_type);
    let frames = frames(&body);
    let shape = |f: &ChunkedReadResponse| {
        let labels: Vec<_> = f.series[0].labels.iter().map(|l| format!("{}={}", l.name, l.value)).collect();
        (f.query_index, labels.join(" "), f.series[0].chunks.iter().map(|c| c.encoding).collect::<Vec<_>>())
    };
    let expected = [
        (0, "__name__=a cl=x i=2".to_owned(), vec![1, 1, 1]),
        (0, "__name__=h cl=x".to_owned(), vec![2, 2]),
        (1, "__name__=a cl=x i=2".to_owned(), vec![1]),
    ];
    assert_eq!(frames.iter().map(shape).collect::<Vec<_>>(), expected);
    let mut read = promontory_storage::prometheus::ChunkSamples::default();
    for chunk in frames[0].series[0].chunks.iter().chain(&frames[1].series[0].chunks) {
        promontory_storage::prometheus::decode_chunk(chunk.encoding, &chunk.data, &mut read).unwrap();
    }
    let floats: Vec<_> = read.times.iter().copied().zip(read.values.iter().copied()).collect();
    assert_eq!(floats, samples[..=250]);
    let got: Vec<_> =
        read.histograms.iter().map(|(t, h)| histogram::message(*t, h)).map(|h| (h.timestamp, h.sum)).collect();
    assert_eq!(got, histograms.iter().map(|h| (h.timestamp, h.sum)).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_long_series_is_streamed_in_several_frames() {
    let w = World::with_window(true, 30 * 60_000);
    let t = NOW_MS - 1_000_000;
    let noise = |i: i64| f64::from_bits((i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 2);
    let samples: Vec<(i64, f64)> = (0..200_000).map(|i| (t + i, noise(i))).collect();
    assert_eq!(w.write(vec![series(&[("__name__", "a")], &samples)]).await, (204, String::new()));
    let request = ReadRequest { queries: vec![query(t, NOW_MS, &[])], accepted_response_types: vec![1] };
    let (_, _, body) = w.send("/read", &[], pack(&request.encode_to_vec())).await;
    let frames = frames(&body);
    assert!(frames.len() > 1 && frames.iter().all(|f| f.series[0].labels == frames[0].series[0].labels));
    let mut read = promontory_storage::prometheus::ChunkSamples::default();
    for chunk in frames.iter().flat_map(|f| &f.series[0].chunks) {
        promontory_storage::prometheus::decode_chunk(chunk.encoding, &chunk.data, &mut read).unwrap();
    }
    assert_eq!(read.times.iter().copied().zip(read.values.iter().copied()).collect::<Vec<_>>(), samples);
}

/// A counter of version 2 with samples of time, start time and value.
fn started(s: &mut Symbols, samples: &[(i64, i64, f64)]) -> interned::TimeSeries {
    let sample = |&(t, start, value): &(i64, i64, f64)| interned::Sample {
        value,
        timestamp: NOW_MS + t,
        start_timestamp: if start == 0 { 0 } else { NOW_MS + start },
    };
    let mut series = s.series(&[("__name__", "c_total")], &[]);
    series.samples = samples.iter().map(sample).collect();
    series
}

#[tokio::test]
async fn series_of_interned_requests_begin_with_zero() {
    let w = World::with(true, 0, true);
    let send = async |samples: &[(i64, i64, f64)]| {
        let mut s = Symbols::default();
        let series = started(&mut s, samples);
        let n = samples.len() as u64;
        assert_eq!(w.write_interned(s, vec![series]).await, (204, [n, 0, 0], String::new()), "{samples:?}");
        w.stored()
    };
    // Zeros are told by no count. A start that is not before its sample says nothing.
    assert_eq!(send(&[(-9000, 0, 1.0)]).await, ["{__name__=\"c_total\"} -9000:3ff0"]);
    assert_eq!(
        send(&[(-8000, -8000, 1.0), (-7000, -9500, 1.0)]).await,
        ["{__name__=\"c_total\"} -9000:3ff0 -8000:3ff0 -7000:3ff0"]
    );
    // Begun anew between two samples of one request, and once more between two requests.
    let all = send(&[(-6000, -9500, 2.0), (-4000, -5000, 2.0), (-3000, -5000, 2.0)]).await;
    assert!(all[0].ends_with(" -7000:3ff0 -6000:4000 -5000:0 -4000:4000 -3000:4000"), "{all:?}");
    let all = send(&[(-1000, -2000, 1.0)]).await;
    assert!(all[0].ends_with(" -3000:4000 -2000:0 -1000:3ff0"), "{all:?}");
    assert_eq!(send(&[(-1000, -2000, 1.0)]).await, all, "the same again");
}

#[tokio::test]
async fn histograms_of_interned_requests_begin_empty() {
    let w = World::with(true, 0, true);
    let mut s = Symbols::default();
    let mut h = s.series(&[("__name__", "h")], &[]);
    let at = |t, n, start_timestamp| histogram::Histogram { start_timestamp, ..histogram_at(t, n) };
    h.histograms = vec![at(NOW_MS - 1000, 2, NOW_MS - 2000), at(NOW_MS, 3, NOW_MS - 2000)];
    assert_eq!(w.write_interned(s, vec![h]).await, (204, [0, 2, 0], String::new()));
    let read = w.read(vec![query(NOW_MS - 9000, NOW_MS, &[(0, "__name__", "h")])]).await;
    let counts = read[0].timeseries[0].histograms.iter().map(|h| (h.timestamp - NOW_MS, h.count, h.schema));
    let schema = histogram_at(0, 2).schema;
    let of = |t, n| (t, Some(histogram::Count::Int(n)), schema);
    let expected: Vec<_> = [histogram_at(0, 2), histogram_at(0, 3)].map(|h| h.count).into();
    assert_eq!(counts.collect::<Vec<_>>(), [of(-2000, 0), (-1000, expected[0], schema), (0, expected[1], schema)]);
}

#[tokio::test]
async fn starts_of_interned_requests_are_ignored_unless_wanted() {
    let w = World::new(true);
    let mut s = Symbols::default();
    let series = started(&mut s, &[(-1000, -5000, 1.0)]);
    assert_eq!(w.write_interned(s, vec![series]).await.0, 204);
    assert_eq!(w.stored(), ["{__name__=\"c_total\"} -1000:3ff0"]);
}
