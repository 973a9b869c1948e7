//! This server as a reader of the real Prometheus: its queries show what that one has beside the local samples, in the
//! same words, and go on without it when it is gone.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use crate::client::{self, with_params};
use crate::peers::{close, free_addr, label_text, now_ms, spawn};
use crate::server::{Server, flag, peer, wait_until};
use crate::write;

const QUERIES: &[&str] = &[
    "up",
    "{job=\"own\",__name__=~\"prometheus_tsdb_.*\"}",
    "rate(prometheus_tsdb_head_samples_appended_total[8s])",
    "sum by (job) (scrape_samples_scraped)",
    "histogram_quantile(0.9, sum by (le) (rate(prometheus_http_request_duration_seconds_bucket[8s])))",
    "count by (__name__) ({__name__=~\"go_.*\"})",
    "max_over_time(process_resident_memory_bytes[8s]) - min_over_time(process_resident_memory_bytes[8s])",
    "absent(nothing)",
];

fn query(addr: SocketAddr, query: &str, t: i64) -> Value {
    let time = format!("{}.{:03}", t / 1000, t % 1000);
    let path = with_params("/api/v1/query", &[("query", query), ("time", &time)]);
    client::get(addr, &path).expect("the server answers").json()
}

fn values(answer: &Value) -> BTreeMap<String, f64> {
    let all = answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{answer}"));
    let number = |s: &Value| s["value"][1].as_str().and_then(|v| v.parse().ok()).unwrap_or_else(|| panic!("{s}"));
    all.iter().map(|s| (label_text(&s["metric"]), number(s))).collect()
}

/// Times and values of the series that `query` gives.
fn samples(addr: SocketAddr, q: &str, t: i64) -> BTreeMap<String, Value> {
    let answer = query(addr, q, t);
    let all = answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{answer}"));
    all.iter().map(|s| (label_text(&s["metric"]), s["values"].clone())).collect()
}

#[test]
fn queries_show_what_a_prometheus_has_beside_the_local_samples() {
    if !peer("prometheus") {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let theirs = free_addr();
    let (their_config, our_config) = (dir.path().join("theirs.yml"), dir.path().join("ours.yml"));
    let scraping = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n- job_name: own\n  static_configs:\n  - \
         targets: ['{theirs}']\n"
    );
    std::fs::write(&their_config, scraping).expect("a writable folder");
    let reading = format!("remote_read:\n- url: http://{theirs}/api/v1/read\n  name: far\n  read_recent: true\n");
    std::fs::write(&our_config, reading).expect("a writable folder");
    let prometheus = spawn(
        "prometheus",
        &[
            flag("config.file", &their_config),
            flag("storage.tsdb.path", &dir.path().join("theirs")),
            format!("--web.listen-address={theirs}"),
        ],
    );
    let ours = Server::start(&[
        &flag("config.file", &our_config),
        &flag("storage.tsdb.path", &dir.path().join("ours")),
        "--web.enable-remote-write-receiver",
    ]);
    let ours_addr = ours.addr;
    wait_until("twelve scrapes", Duration::from_secs(60), &mut || {
        let answer = client::get(theirs, &with_params("/api/v1/query", &[("query", "count_over_time(up[1m])")]));
        answer.is_ok_and(|a| a.status == 200 && values(&a.json()).values().any(|n| *n >= 12.0))
    });

    // Between two scrapes, so that no window ends on a sample: there the versions differ.
    let scraped = samples(theirs, "up[3s]", now_ms() - 1_000);
    let last = scraped.values().next().and_then(|v| v.as_array()?.last()?[0].as_f64()).expect("a scrape");
    let t = (last * 1000.0) as i64 + 350;
    let mut n = 0;
    for q in QUERIES {
        let (expected, got) = (values(&query(theirs, q, t)), values(&query(ours_addr, q, t)));
        let names = |all: &BTreeMap<String, f64>| all.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&got), names(&expected), "{q}");
        for (labels, v) in &expected {
            assert!(close(*v, got[labels]), "{q}: {labels}: prometheus {v}, ours {}", got[labels]);
        }
        n += expected.len();
    }
    let raw = samples(theirs, "{job=\"own\"}[8s]", t);
    assert!(raw.len() > 300, "{} series", raw.len());
    assert_eq!(samples(ours_addr, "{job=\"own\"}[8s]", t), raw);

    // What is here goes before what is there, and stays when that is gone.
    let up = raw.keys().find(|labels| labels.contains("__name__=\"up\"") || labels.starts_with("up")).expect("up");
    let at = raw[up].as_array().and_then(|v| v.last()?[0].as_f64()).expect("a sample");
    let instance = theirs.to_string();
    let local = [("__name__", "up"), ("instance", instance.as_str()), ("job", "own")];
    assert!(write::send(ours_addr, &write::body(vec![write::series(&local, &[((at * 1000.0).round() as i64, 7.0)])])));
    assert_eq!(values(&query(ours_addr, "up", t)).values().copied().collect::<Vec<_>>(), [7.0]);
    let federated = client::get(ours_addr, &with_params("/federate", &[("match[]", "{job=\"own\"}")]));
    let federated = federated.expect("the server answers").text();
    assert_eq!(federated.lines().filter(|line| !line.starts_with('#')).count(), 1, "{federated}");
    drop(prometheus);
    let answer = query(ours_addr, "up", t);
    assert_eq!(values(&answer).values().copied().collect::<Vec<_>>(), [7.0]);
    let warning = answer["warnings"][0].as_str().unwrap_or_default();
    assert!(warning.starts_with("remote read of far: "), "{answer}");
    let metrics = client::get(ours_addr, "/metrics").expect("the server answers").text();
    let asked = "prometheus_remote_read_client_queries_total{remote_name=\"far\"";
    assert!(metrics.lines().any(|l| l.starts_with(asked) && l.contains("code=\"200\"")), "{metrics}");
    eprintln!("{n} values and {} raw series alike", raw.len());
}
