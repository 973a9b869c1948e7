//! Requests over HTTP, in process.

use flate2::Compression;
use flate2::write::GzEncoder;

use super::message::{Gauge, Metric, NumberPoint, ResourceMetrics, ScopeMetrics, Sum};
use super::*;
use crate::ingest::testing::Fixture;

const NOW_MS: i64 = 1_700_000_000_000;
const PATH: &str = "/otlp/v1/metrics";
const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");

fn gauge(times_ms: &[i64]) -> ExportRequest {
    let point = |t: &i64| NumberPoint {
        time_unix_nano: u64::try_from(t * 1_000_000).unwrap(),
        as_double: Some(1.5),
        ..NumberPoint::default()
    };
    let gauge = Gauge { data_points: times_ms.iter().map(point).collect() };
    let metric = Metric { name: "g".to_owned(), gauge: Some(gauge), ..Metric::default() };
    of_metric(metric)
}

fn of_metric(metric: Metric) -> ExportRequest {
    let scope_metrics = vec![ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() }];
    ExportRequest { resource_metrics: vec![ResourceMetrics { resource: None, scope_metrics }] }
}

async fn send(f: &Fixture, headers: &[(&str, &str)], body: Vec<u8>) -> (u16, Vec<u8>) {
    Fixture::send(f.ingest.api_router(), "POST", PATH, headers, body).await
}

#[tokio::test]
async fn points_are_stored_and_acknowledged_in_the_encoding_of_the_request() {
    let f = Fixture::new(NOW_MS);
    let body = gauge(&[NOW_MS - 1000]).encode_to_vec();
    assert_eq!(send(&f, &[PROTOBUF], body).await, (200, Vec::new()));
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    std::io::Write::write_all(&mut encoder, &gauge(&[NOW_MS]).encode_to_vec()).unwrap();
    let gzipped = encoder.finish().unwrap();
    assert_eq!(send(&f, &[PROTOBUF, ("content-encoding", "gzip")], gzipped).await, (200, Vec::new()));
    assert_eq!(f.values("g"), [format!("{{__name__=\"g\"}} {}:1.5 {NOW_MS}:1.5", NOW_MS - 1000)]);
    assert_eq!(send(&f, &[JSON], b"{}".to_vec()).await, (200, b"{}".to_vec()));
}

#[tokio::test]
async fn what_is_left_out_is_told_as_partial_success() {
    let f = Fixture::new(NOW_MS);
    let body = gauge(&[NOW_MS + 3_600_000, NOW_MS]).encode_to_vec();
    let (status, answer) = send(&f, &[PROTOBUF], body).await;
    let partial = ExportResponse::decode(&answer[..]).unwrap().partial_success.unwrap();
    assert_eq!((status, partial.rejected_data_points), (200, 1));
    assert_eq!(partial.error_message, "out of bounds: timestamp is too far in the future (1 samples)");
    assert_eq!(f.values("g").len(), 1, "the other is stored");

    let sum = Sum { aggregation_temporality: 1, data_points: vec![NumberPoint::default()], ..Sum::default() };
    let delta = of_metric(Metric { name: "d".to_owned(), sum: Some(sum), ..Metric::default() });
    let (status, answer) = send(&f, &[PROTOBUF], delta.encode_to_vec()).await;
    let partial = ExportResponse::decode(&answer[..]).unwrap().partial_success.unwrap();
    assert_eq!((status, partial.rejected_data_points), (200, 1));
    assert!(partial.error_message.contains("otlp-deltatocumulative"), "{}", partial.error_message);
    let json = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"d","sum":{"dataPoints":[{}]}}]}]}]}"#;
    let (_, answer) = send(&f, &[JSON], json.as_bytes().to_vec()).await;
    let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(answer["partialSuccess"]["rejectedDataPoints"], "1");
}

#[tokio::test]
async fn what_is_not_understood_is_refused_with_a_status_message() {
    let f = Fixture::new(NOW_MS);
    let (status, answer) = send(&f, &[PROTOBUF], vec![0x0a]).await;
    let message = Status::decode(&answer[..]).unwrap();
    assert_eq!((status, message.code, message.message.is_empty()), (400, 3, false));
    let (status, answer) = send(&f, &[JSON], b"{".to_vec()).await;
    let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!((status, &answer["code"]), (400, &serde_json::json!(3)));
    assert_eq!(send(&f, &[("content-type", "text/plain")], Vec::new()).await.0, 415);
    assert_eq!(send(&f, &[], Vec::new()).await.0, 415);
    assert_eq!(send(&f, &[PROTOBUF, ("content-encoding", "br")], Vec::new()).await.0, 415);
    assert_eq!(Fixture::send(f.ingest.api_router(), "GET", PATH, &[], "").await.0, 405);
}
