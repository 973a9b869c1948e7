//! Side by side with the real Prometheus: both scrape the same node_exporter, and answer the same queries.
//!
//! Values change between two scrapes, so both read through one cache in this test that fetches node_exporter once
//! a second and serves the same body to both within that second. Each server scrapes at its own phase of the second;
//! queries are sent to each half a second after its own phase, so that the same samples lie at the same distance from
//! the query time, and none on the edge of a window, where Prometheus 2.42 still took in a sample that 3.x leaves out.
//! Steps where the machine delayed a scrape off its grid are left out, and counted.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::client::{self, with_params};
use crate::server::{Server, flag, peer, wait_until};

/// Queries whose results must be equal; instant and as a range.
const QUERIES: &[&str] = &[
    "up",
    "node_load1",
    "node_memory_MemAvailable_bytes",
    "node_memory_MemTotal_bytes - node_memory_MemAvailable_bytes",
    "100 * (1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes)",
    "node_cpu_seconds_total",
    "rate(node_cpu_seconds_total[10s])",
    "irate(node_cpu_seconds_total[10s])",
    "increase(node_cpu_seconds_total[10s])",
    "sum by (mode) (rate(node_cpu_seconds_total[10s]))",
    "1 - avg by (instance) (rate(node_cpu_seconds_total{mode=\"idle\"}[10s]))",
    "sum without (cpu) (node_cpu_seconds_total)",
    "topk(3, node_cpu_seconds_total)",
    "bottomk(2, sum by (mode) (node_cpu_seconds_total))",
    "count by (mode) (node_cpu_seconds_total)",
    "quantile(0.9, node_cpu_seconds_total)",
    "stddev(node_cpu_seconds_total)",
    "stdvar by (mode) (node_cpu_seconds_total)",
    "count_values(\"value\", node_network_up)",
    "max by (device) (node_network_receive_bytes_total)",
    "rate(node_network_receive_bytes_total{device!=\"lo\"}[10s]) * 8",
    "rate(node_network_receive_bytes_total[10s]) + rate(node_network_transmit_bytes_total[10s])",
    "node_filesystem_avail_bytes / node_filesystem_size_bytes",
    "node_filesystem_avail_bytes{fstype!~\"tmpfs|overlay\"} / ignoring(fstype) node_filesystem_size_bytes",
    "sum(rate(node_disk_read_bytes_total[10s])) or vector(0)",
    "node_disk_io_time_seconds_total > 0",
    "node_load1 > bool 0.5",
    "node_cpu_seconds_total and on(cpu) node_cpu_seconds_total{mode=\"idle\"}",
    "node_cpu_seconds_total unless on(mode) node_cpu_seconds_total{mode=~\"idle|iowait\"}",
    "node_uname_info * on(instance) group_left(nodename) node_load1",
    "node_load1 * on(instance) group_left(release) node_uname_info",
    "avg_over_time(node_load1[10s])",
    "max_over_time(node_load1[10s])",
    "min_over_time(node_memory_MemFree_bytes[10s])",
    "sum_over_time(up[10s])",
    "count_over_time(node_load1[10s])",
    "last_over_time(node_load1[10s])",
    "stddev_over_time(node_memory_MemFree_bytes[10s])",
    "quantile_over_time(0.5, node_memory_MemFree_bytes[10s])",
    "delta(node_memory_MemFree_bytes[10s])",
    "idelta(node_memory_MemFree_bytes[10s])",
    "deriv(node_memory_MemFree_bytes[10s])",
    "changes(node_memory_MemFree_bytes[10s])",
    "resets(node_cpu_seconds_total[10s])",
    "absent(node_load1)",
    "absent(node_does_not_exist{job=\"node\"})",
    "absent_over_time(node_load1[10s])",
    "present_over_time(node_load1[10s])",
    "label_replace(node_load1, \"host\", \"$1\", \"instance\", \"(.*):.*\")",
    "label_join(node_cpu_seconds_total, \"id\", \"-\", \"cpu\", \"mode\")",
    "clamp(node_load1, 0.1, 0.2)",
    "clamp_max(node_load1, 0.1)",
    "round(node_load1, 0.5)",
    "abs(ceil(node_load1) - floor(node_load5))",
    "ln(node_memory_MemTotal_bytes) + log2(node_memory_MemTotal_bytes) + exp(node_load1)",
    "scalar(node_load1) + vector(1)",
    "sort_desc(sum by (mode) (node_cpu_seconds_total))",
    "node_load1 offset 5s",
    "max_over_time(sum(up)[10s:1s])",
    "histogram_quantile(0.5, sum by (le) (rate(node_scrape_collector_duration_seconds[5s])))",
    "{__name__=~\"node_(load|memory_Mem).*\"}",
    "count({job=\"node\"}) by (__name__)",
    "sum by (__name__) ({__name__=~\"node_network_.*_total\"})",
    "-node_load1 ^ 2 % 3",
    "node_time_seconds - node_boot_time_seconds",
];

/// Serves node_exporter's body of the current second to all who ask within it.
///
/// Seconds begin at `boundary` ms after the whole second, which is moved away from the phases of both servers.
struct Cache {
    addr: SocketAddr,
    boundary: Arc<AtomicI64>,
}

impl Cache {
    fn start(source: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let boundary = Arc::new(AtomicI64::new(0));
        let last: Arc<Mutex<(i64, Vec<u8>)>> = Arc::default();
        let shared = boundary.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(mut stream), boundary, last) = (stream, shared.clone(), last.clone()) else { return };
                std::thread::spawn(move || {
                    let mut request = [0; 4096];
                    while stream.read(&mut request).is_ok_and(|n| n > 0) {
                        let second = (now_ms() - boundary.load(Ordering::Relaxed)).div_euclid(1000);
                        let body = body_of(&last, second, source);
                        let head = format!(
                            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\n\r\n",
                            body.len()
                        );
                        if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { addr, boundary }
    }
}

/// The body of `second`; the first who asks in a second fetches it.
fn body_of(last: &Mutex<(i64, Vec<u8>)>, second: i64, source: SocketAddr) -> Vec<u8> {
    let mut last = last.lock().expect("no panic while held");
    if last.0 != second
        && let Ok(answer) = client::get(source, "/metrics")
    {
        *last = (second, answer.body);
    }
    last.1.clone()
}

#[expect(clippy::disallowed_methods, reason = "the peers live in real time")]
pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

/// Steps that are compared at least, and how long to wait for them.
const STEPS_MIN: usize = 6;
const WAIT_MS_MAX: i64 = 120_000;
/// Seconds that the longest window, offset included, reaches back.
const REACH_S: i64 = 12;
/// From the samples to the time of a query.
const HALF_STEP_MS: i64 = 500;

pub(crate) struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn free_addr() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port")
}

pub(crate) fn spawn(program: &str, args: &[String]) -> Peer {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Peer(command.spawn().unwrap_or_else(|e| panic!("{program} starts: {e}")))
}

/// A time in ms as a parameter.
fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

/// The answer to an instant query.
pub(crate) fn instant(addr: SocketAddr, query: &str, t_ms: i64) -> Value {
    let path = with_params("/api/v1/query", &[("query", query), ("time", &seconds(t_ms))]);
    client::get(addr, &path).expect("the server answers").json()
}

/// The answer to a range query with a step of so many seconds.
pub(crate) fn range(addr: SocketAddr, query: &str, start_ms: i64, end_ms: i64, step: u32) -> Value {
    let (start, end, step) = (seconds(start_ms), seconds(end_ms), step.to_string());
    let params = [("query", query), ("start", &start), ("end", &end), ("step", &step)];
    client::get(addr, &with_params("/api/v1/query_range", &params)).expect("the server answers").json()
}

/// Result as label set → whole second relative to the phase → value.
fn points(answer: &Value, phase: i64) -> BTreeMap<String, BTreeMap<i64, f64>> {
    let result = answer["data"]["result"].as_array().unwrap_or_else(|| panic!("no result: {answer}"));
    let mut out: BTreeMap<String, BTreeMap<i64, f64>> = BTreeMap::new();
    if answer["data"]["resultType"] == "scalar" {
        let value = result[1].as_str().expect("a number").parse().expect("a number");
        out.entry(String::new()).or_default().insert(0, value);
        return out;
    }
    for series in result {
        let single = [series["value"].clone()];
        let samples = series["values"].as_array().map_or(&single[..], Vec::as_slice);
        let into = out.entry(label_text(&series["metric"])).or_default();
        for sample in samples {
            let t = (sample[0].as_f64().expect("a time") * 1000.0).round() as i64;
            into.insert((t - phase).div_euclid(1000), sample[1].as_str().expect("a value").parse().expect("a number"));
        }
    }
    out
}

/// Times of the scrapes in ms, from the samples of `up`.
fn scrape_times(addr: SocketAddr, at_ms: i64) -> Vec<i64> {
    let answer = instant(addr, "up{job=\"node\"}[30m]", at_ms);
    let values = answer["data"]["result"][0]["values"].as_array().cloned().unwrap_or_default();
    values.iter().map(|v| (v[0].as_f64().expect("a time") * 1000.0).round() as i64).collect()
}

/// The most common distance of the scrapes from the whole second.
fn phase(times: &[i64]) -> i64 {
    let mut counts = BTreeMap::new();
    for t in times {
        *counts.entry(t.rem_euclid(1000)).or_insert(0) += 1;
    }
    counts.into_iter().max_by_key(|(_, n)| *n).expect("at least one scrape").0
}

pub(crate) fn close(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

fn series_set(addr: SocketAddr) -> BTreeSet<String> {
    let path = with_params("/api/v1/series", &[("match[]", "{job=\"node\"}")]);
    let answer = client::get(addr, &path).expect("the server answers").json();
    answer["data"].as_array().expect("a list").iter().map(label_text).collect()
}

/// A label set as text. Prometheus 3 writes `le` and `quantile` as OpenMetrics does, `1.0` where 2.42 keeps `1`.
pub(crate) fn label_text(labels: &Value) -> String {
    let pairs = labels.as_object().expect("labels").iter().map(|(name, value)| {
        let value = value.as_str().expect("a text");
        let whole = (name == "le" || name == "quantile") && value.bytes().all(|b| b.is_ascii_digit());
        (name.clone(), if whole { format!("{value}.0") } else { value.to_owned() })
    });
    let pairs: BTreeMap<_, _> = pairs.collect();
    pairs.iter().map(|(n, v)| format!("{n}={v:?} ")).collect()
}

#[test]
fn node_exporter_reads_as_in_prometheus() {
    if !peer("prometheus") || !peer("prometheus-node-exporter") {
        return;
    }
    let seconds: u64 = std::env::var("PEERS_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(40);
    let dir = tempfile::tempdir().expect("a temporary folder");
    let exporter = free_addr();
    let _exporter = spawn(
        "prometheus-node-exporter",
        &[format!("--web.listen-address={exporter}"), "--no-collector.systemd".to_owned()],
    );
    wait_until("node_exporter", Duration::from_secs(30), &mut || client::get(exporter, "/metrics").is_ok());
    let cache = Cache::start(exporter);

    let config = dir.path().join("prometheus.yml");
    let text = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
         scrape_configs:\n- job_name: node\n  static_configs:\n  - targets: ['{}']\n",
        cache.addr
    );
    std::fs::write(&config, text).expect("a writable folder");
    let prometheus = free_addr();
    let _prometheus = spawn(
        "prometheus",
        &[
            flag("config.file", &config),
            flag("storage.tsdb.path", &dir.path().join("prometheus")),
            format!("--web.listen-address={prometheus}"),
        ],
    );
    let ours = Server::start(&[&flag("config.file", &config), &flag("storage.tsdb.path", &dir.path().join("ours"))]);
    wait_until("both to have scraped", Duration::from_secs(60), &mut || {
        [prometheus, ours.addr].iter().all(|a| {
            client::get(*a, "/-/ready").is_ok_and(|r| r.status == 200) && !scrape_times(*a, now_ms()).is_empty()
        })
    });
    // Phases are fixed from here on: put the cache's seconds where neither server scrapes.
    std::thread::sleep(Duration::from_secs(3));
    let phases = [prometheus, ours.addr].map(|a| phase(&scrape_times(a, now_ms())));
    let between = (phases[1] - phases[0]).rem_euclid(1000);
    let boundary =
        if between > 500 { phases[0] + between / 2 } else { phases[1] + (1000 - between) / 2 }.rem_euclid(1000);
    cache.boundary.store(boundary, Ordering::Relaxed);
    let [phase_theirs, phase_ours] = phases.map(|p| boundary + (p - boundary).rem_euclid(1000));
    let first = now_ms() / 1000 + REACH_S + 2;
    std::thread::sleep(Duration::from_secs(seconds.max(35)));

    let (series_theirs, series_ours) = (series_set(prometheus), series_set(ours.addr));
    let lacking: Vec<_> = series_theirs.difference(&series_ours).take(10).collect();
    let added: Vec<_> = series_ours.difference(&series_theirs).take(10).collect();
    assert!(lacking.is_empty() && added.is_empty(), "series differ: {lacking:#?} lack, {added:#?} are ours alone");

    let on_grid = |addr: SocketAddr, phase: i64| -> BTreeSet<i64> {
        let on = scrape_times(addr, now_ms()).into_iter().filter(|t| (t - phase).rem_euclid(1000) == 0);
        on.map(|t| (t - phase) / 1000).collect()
    };
    // A step counts when every scrape that its windows can reach is on the grid of both. A busy machine delays scrapes:
    // go on until there are some such steps.
    let (begun, mut steps) = (now_ms(), BTreeSet::new());
    let mut last = first;
    while steps.len() < STEPS_MIN && now_ms() - begun < WAIT_MS_MAX {
        last = now_ms() / 1000 - 3;
        let theirs = on_grid(prometheus, phase_theirs);
        let good: BTreeSet<i64> = theirs.intersection(&on_grid(ours.addr, phase_ours)).copied().collect();
        steps = (first..=last).filter(|step| (step - REACH_S..=*step).all(|s| good.contains(&s))).collect();
        std::thread::sleep(Duration::from_secs(2));
    }
    if steps.len() < STEPS_MIN {
        eprintln!("SKIPPED: the machine is too busy, only {} steps had all scrapes on the grid of both", steps.len());
        return;
    }
    let usable = |step: i64| steps.contains(&step);

    let (mut compared, mut left_out) = (0_u64, 0_u64);
    let mut differing = Vec::new();
    for query in QUERIES {
        let at = |step: i64, phase: i64| step * 1000 + phase + HALF_STEP_MS;
        let theirs = range(prometheus, query, at(first, phase_theirs), at(last, phase_theirs), 1);
        let mine = range(ours.addr, query, at(first, phase_ours), at(last, phase_ours), 1);
        let (theirs, mine) = (points(&theirs, phase_theirs), points(&mine, phase_ours));
        for series in theirs.keys().chain(mine.keys()).collect::<BTreeSet<_>>() {
            for step in first..=last {
                if !usable(step) {
                    left_out += 1;
                    continue;
                }
                let of = |from: &BTreeMap<String, BTreeMap<i64, f64>>| from.get(series)?.get(&step).copied();
                match (of(&theirs), of(&mine)) {
                    (None, None) => {}
                    (Some(a), Some(b)) if close(a, b) => compared += 1,
                    (a, b) => differing.push(format!("{query} {series} at {step}: prometheus {a:?}, ours {b:?}")),
                }
            }
        }
        let Some(step) = (first..=last).rev().find(|s| usable(*s)) else { continue };
        let theirs = points(&instant(prometheus, query, at(step, phase_theirs)), phase_theirs);
        let mine = points(&instant(ours.addr, query, at(step, phase_ours)), phase_ours);
        for series in theirs.keys().chain(mine.keys()).collect::<BTreeSet<_>>() {
            let of = |from: &BTreeMap<String, BTreeMap<i64, f64>>| Some(*from.get(series)?.values().next()?);
            match (of(&theirs), of(&mine)) {
                (Some(a), Some(b)) if close(a, b) => compared += 1,
                (a, b) => differing.push(format!("{query} {series} instant: prometheus {a:?}, ours {b:?}")),
            }
        }
    }
    eprintln!(
        "{} queries: {compared} values equal, {} differ, {left_out} left out where a scrape was off its grid",
        QUERIES.len(),
        differing.len()
    );
    assert!(differing.is_empty(), "{}", differing[..differing.len().min(20)].join("\n"));
    assert!(compared > 1000, "only {compared} values could be compared");
}
