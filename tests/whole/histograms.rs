//! Native histograms and exemplars through the whole server: remote write, kill -9, queries.

use std::net::SocketAddr;
use std::process::Command;

use serde_json::{Value, json};

use crate::client::{self, with_params};
use crate::server::{Server, flag};
use crate::write::{self, Exemplar, Histogram, Span, TimeSeries, label};

/// After `minute` minutes: as many observations in (1, 2], and twice as many in (2, 4].
fn histogram(minute: i64, start_ms: i64) -> Histogram {
    Histogram {
        count: 3 * minute.unsigned_abs(),
        sum: 7.5 * minute as f64,
        schema: 0,
        positive_spans: vec![Span { offset: 1, length: 2 }],
        positive_deltas: vec![minute, minute],
        timestamp: start_ms + minute * 60_000,
        ..Histogram::default()
    }
}

#[track_caller]
fn check(addr: SocketAddr, at_ms: i64, query: &str, expected: &Value) {
    let time = (at_ms / 1000).to_string();
    let answer = client::get(addr, &with_params("/api/v1/query", &[("query", query), ("time", &time)]));
    let answer = answer.expect("the server answers").json();
    let sample = &answer["data"]["result"][0];
    let found = if sample["histogram"].is_null() { &sample["value"][1] } else { &sample["histogram"][1] };
    assert_eq!(found, expected, "{query}: {answer}");
}

#[test]
fn histograms_and_exemplars_survive_kill_9_and_are_queried() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let args = [flag("storage.tsdb.path", dir.path()), "--web.enable-remote-write-receiver".to_owned()];
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let start_ms = crate::peers::now_ms() / 60_000 * 60_000 - 2 * 3_600_000;
    let labels = vec![label("__name__", "h"), label("job", "j")];
    let server = Server::start(&args);
    for minute in 1..=30 {
        let exemplar =
            Exemplar { labels: vec![label("trace_id", "abc")], value: 3.0, timestamp: start_ms + minute * 60_000 };
        let series = TimeSeries {
            labels: labels.clone(),
            exemplars: vec![exemplar],
            histograms: vec![histogram(minute, start_ms)],
            ..TimeSeries::default()
        };
        assert!(write::send(server.addr, &write::body(vec![series])), "the server takes the samples");
    }
    server.kill();

    let server = Server::start(&args);
    let at = start_ms + 30 * 60_000;
    let whole = json!({"count": "90", "sum": "225", "buckets": [[0, "1", "2", "30"], [0, "2", "4", "60"]]});
    check(server.addr, at, "h", &whole);
    check(server.addr, at, "histogram_count(h)", &json!("90"));
    check(server.addr, at, "histogram_sum(increase(h[10m])) / histogram_count(increase(h[10m]))", &json!("2.5"));
    check(server.addr, at, "histogram_fraction(0, 2, rate(h[10m]))", &json!("0.3333333333333333"));
    check(server.addr, at, "count_over_time(h[30m])", &json!("30"));
    let path = with_params("/api/v1/query_exemplars", &[("query", "rate(h[5m])")]);
    let answer = client::get(server.addr, &path).expect("the server answers").json();
    let exemplars = answer["data"][0]["exemplars"].as_array().expect("a list");
    assert_eq!((&answer["data"][0]["seriesLabels"]["job"], exemplars.len()), (&json!("j"), 30));
    let expected = json!({"labels": {"trace_id": "abc"}, "value": "3", "timestamp": at / 1000});
    assert_eq!(exemplars[29], expected);
    assert_eq!(server.terminate(), 0);

    let mut dump = Command::new(env!("CARGO_BIN_EXE_promontory"));
    let output = dump.args(["tsdb", "dump", "--match=h"]).arg(dir.path()).output().expect("the binary starts");
    let text = String::from_utf8(output.stdout).expect("a dump is text");
    let last = format!("h{{job=\"j\"}} {{count:90, sum:225, (1,2]:30, (2,4]:60}} {at}");
    assert_eq!((text.lines().count(), text.lines().last()), (30, Some(last.as_str())), "{text}");
}
