//! This server as a sender of remote write: into the real Prometheus, the real VictoriaMetrics and another of its kind,
//! each of which is killed, and so is the sender. Every sample that it acknowledged is in each of them in the end.
//!
//! VictoriaMetrics acknowledges samples that it writes to disk some seconds later, and loses them when it is killed;
//! samples of the last seconds before its kill are not asked of it.
//!
//! `OUTAGE_SECONDS` is how long a destination stays away, 3 by default; a minute or more is an outage of all at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::client::{self, with_params};
use crate::peers::{Peer, free_addr, now_ms, spawn};
use crate::server::{Server, flag, peer, wait_until, wait_until_or};
use crate::write;

/// From here on all destinations are away at the same time.
const LONG_OUTAGE_S: u64 = 60;

const N_SERIES: usize = 100;
const NATIVE: &str = "native";

/// Time → what a series has then.
type Samples = BTreeMap<i64, f64>;

fn value(series: usize, t: i64) -> f64 {
    match series % 3 {
        0 => (t % 1_000_000) as f64 + series as f64,
        1 => t as f64 / 7.0,
        _ => series as f64,
    }
}

/// A row of all series, and a native histogram.
fn row(t: i64) -> Vec<u8> {
    let mut all: Vec<_> = (0..N_SERIES)
        .map(|s| write::series(&[("__name__", "sent"), ("job", "x"), ("series", &s.to_string())], &[(t, value(s, t))]))
        .collect();
    let histogram = write::Histogram {
        count: 3,
        sum: (t % 1_000_000) as f64,
        schema: 1,
        positive_spans: vec![write::Span { offset: 0, length: 2 }],
        positive_deltas: vec![1, 1],
        timestamp: t,
        ..write::Histogram::default()
    };
    let mut native = write::series(&[("__name__", NATIVE), ("job", "x")], &[]);
    native.histograms = vec![histogram];
    all.push(native);
    write::body(all)
}

/// A program that takes samples, started anew with the same folder and address after each kill.
struct Destination {
    name: &'static str,
    addr: SocketAddr,
    program: String,
    args: Vec<String>,
    /// Path of its receiver.
    path: &'static str,
    /// What it answers when it is ready.
    ready: &'static str,
    running: Option<Peer>,
    /// When it was killed.
    killed_ms: Option<i64>,
}

/// Time before its kill from which VictoriaMetrics may lose what it acknowledged.
const UNWRITTEN_MS: i64 = 8000;

impl Destination {
    fn prometheus(dir: &Path) -> Self {
        let config = dir.join("empty.yml");
        std::fs::write(&config, "{}\n").expect("a writable folder");
        let addr = free_addr();
        let args = vec![
            flag("config.file", &config),
            flag("storage.tsdb.path", &dir.join("prometheus")),
            format!("--web.listen-address={addr}"),
            "--web.enable-remote-write-receiver".to_owned(),
        ];
        let program = "prometheus".to_owned();
        Self {
            name: "prometheus",
            addr,
            program,
            args,
            path: "/api/v1/write",
            ready: "/-/ready",
            running: None,
            killed_ms: None,
        }
    }

    fn victoria_metrics(dir: &Path) -> Self {
        let addr = free_addr();
        let args = vec![
            format!("-storageDataPath={}", dir.join("victoria").display()),
            format!("-httpListenAddr={addr}"),
            "-retentionPeriod=1d".to_owned(),
        ];
        let program = "victoria-metrics".to_owned();
        Self {
            name: "victoria-metrics",
            addr,
            program,
            args,
            path: "/api/v1/write",
            ready: "/health",
            running: None,
            killed_ms: None,
        }
    }

    /// Another server of our kind; takes version 2.
    fn promontory(dir: &Path) -> Self {
        let config = dir.join("nothing.yml");
        std::fs::write(&config, "{}\n").expect("a writable folder");
        let addr = free_addr();
        let args = vec![
            flag("config.file", &config),
            flag("storage.tsdb.path", &dir.join("other")),
            format!("--web.listen-address={addr}"),
            "--web.enable-remote-write-receiver".to_owned(),
        ];
        let program = env!("CARGO_BIN_EXE_promontory").to_owned();
        Self {
            name: "promontory",
            addr,
            program,
            args,
            path: "/api/v1/write",
            ready: "/-/ready",
            running: None,
            killed_ms: None,
        }
    }

    fn start(&mut self) {
        self.running = Some(spawn(&self.program, &self.args));
        let (addr, ready) = (self.addr, self.ready);
        wait_until(self.name, Duration::from_secs(60), &mut || client::get(addr, ready).is_ok_and(|r| r.status == 200));
    }

    /// Kills it, as a crash would.
    fn kill(&mut self) {
        self.running = None;
        self.killed_ms = Some(now_ms());
    }

    /// Whether a sample of this time may be lacking because the destination lost it.
    fn may_lack(&self, t: i64) -> bool {
        self.name == "victoria-metrics" && self.killed_ms.is_some_and(|at| (at - UNWRITTEN_MS..=at).contains(&t))
    }

    /// All samples of the floats by number of their series.
    fn stored(&self) -> BTreeMap<usize, Samples> {
        if self.name == "victoria-metrics" { self.exported() } else { self.queried() }
    }

    fn queried(&self) -> BTreeMap<usize, Samples> {
        let answer = query(self.addr, "sent[1h]");
        let mut out = BTreeMap::new();
        for series in answer["data"]["result"].as_array().into_iter().flatten() {
            let samples = series["values"].as_array().expect("samples").iter().map(|sample| {
                let t = (sample[0].as_f64().expect("a time") * 1000.0).round() as i64;
                (t, sample[1].as_str().expect("a value").parse().expect("a number"))
            });
            out.insert(number(&series["metric"]), samples.collect());
        }
        out
    }

    /// VictoriaMetrics shows what arrived in the last second only when asked to write it first.
    fn exported(&self) -> BTreeMap<usize, Samples> {
        let _ = client::get(self.addr, "/internal/force_flush");
        let path = with_params("/api/v1/export", &[("match[]", "sent")]);
        let text = client::get(self.addr, &path).expect("it answers").text();
        let mut out: BTreeMap<usize, Samples> = BTreeMap::new();
        for line in text.lines() {
            let series: Value = serde_json::from_str(line).expect("a line of JSON");
            let numbers = |name: &str| series[name].as_array().expect("numbers").clone();
            let times = numbers("timestamps").into_iter().map(|t| t.as_i64().expect("a time"));
            let values = numbers("values").into_iter().map(|v| v.as_f64().expect("a value"));
            out.entry(number(&series["metric"])).or_default().extend(times.zip(values));
        }
        out
    }

    /// How many samples of the floats it has: much less work than to list them, which would keep it from taking more.
    fn n_stored(&self) -> usize {
        if self.name == "victoria-metrics" {
            return self.exported().values().map(Samples::len).sum();
        }
        let answer = query(self.addr, "sum(count_over_time(sent[1h]))");
        answer["data"]["result"][0]["value"][1].as_str().and_then(|n| n.parse().ok()).unwrap_or(0)
    }

    /// Waits until it has all samples of `rows`, as long as it gets some.
    fn wait_for(&self, rows: &BTreeSet<i64>) {
        let expected = rows.iter().filter(|t| !self.may_lack(**t)).count() * N_SERIES;
        let mut before = 0;
        loop {
            let is_more = wait_until_or(Duration::from_secs(60), &mut || {
                std::thread::sleep(Duration::from_millis(500));
                self.n_stored() > before
            });
            before = self.n_stored();
            if !is_more || (before >= expected && self.lacking(rows) == 0) {
                return;
            }
        }
    }

    /// How many samples of `rows` it lacks.
    fn lacking(&self, rows: &BTreeSet<i64>) -> usize {
        let stored = self.stored();
        let empty = Samples::new();
        let is_lacking = |s: &usize, t: &i64| !self.may_lack(*t) && !stored.get(s).unwrap_or(&empty).contains_key(t);
        (0..N_SERIES).map(|s| rows.iter().filter(|t| is_lacking(&s, t)).count()).sum()
    }
}

fn number(metric: &Value) -> usize {
    metric["series"].as_str().expect("a label").parse().expect("a number")
}

fn query(addr: SocketAddr, query: &str) -> Value {
    let path = with_params("/api/v1/query", &[("query", query), ("time", &format!("{}", now_ms() / 1000 + 1))]);
    client::get(addr, &path).map_or(Value::Null, |answer| answer.json())
}

/// Sends a row every 100 ms to the address of the moment until told to stop; each again and again until acknowledged.
fn drive(addr: &Mutex<SocketAddr>, stop: &AtomicBool) -> BTreeSet<i64> {
    let mut acknowledged = BTreeSet::new();
    while !stop.load(Ordering::Relaxed) {
        let t = now_ms();
        let body = row(t);
        while !write::send(*addr.lock().expect("no panic while held"), &body) {
            std::thread::sleep(Duration::from_millis(50));
        }
        acknowledged.insert(t);
        std::thread::sleep(Duration::from_millis(100));
    }
    acknowledged
}

#[test]
fn nothing_is_lost_over_kills_of_both_ends_and_outages() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut destinations = vec![Destination::promontory(dir.path())];
    if peer("prometheus") {
        destinations.push(Destination::prometheus(dir.path()));
    }
    if peer("victoria-metrics") {
        destinations.push(Destination::victoria_metrics(dir.path()));
    }
    let outage: u64 = std::env::var("OUTAGE_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(3);
    let mut config = "remote_write:\n".to_owned();
    for d in &destinations {
        let message = if d.name == "promontory" { "io.prometheus.write.v2.Request" } else { "prometheus.WriteRequest" };
        config += &format!(
            "- url: http://{}{}\n  name: {}\n  protobuf_message: {message}\n  queue_config: {{batch_send_deadline: 300ms, \
             max_backoff: 1s, max_samples_per_send: 500}}\n",
            d.addr, d.path, d.name
        );
    }
    let file = dir.path().join("ours.yml");
    std::fs::write(&file, config).expect("a writable folder");
    let args = [
        flag("config.file", &file),
        flag("storage.tsdb.path", &dir.path().join("ours")),
        "--web.enable-remote-write-receiver".to_owned(),
    ];
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    destinations.iter_mut().for_each(Destination::start);
    let mut ours = Server::start(&args);
    let (addr, stop) = (Mutex::new(ours.addr), AtomicBool::new(false));
    let second = Duration::from_secs(1);
    let (rows, ours) = std::thread::scope(|scope| {
        let driver = scope.spawn(|| drive(&addr, &stop));
        // So that VictoriaMetrics, the last one, has samples that it wrote.
        std::thread::sleep(2 * second);
        let is_long = outage >= LONG_OUTAGE_S;
        if is_long {
            destinations.iter_mut().for_each(Destination::kill);
            std::thread::sleep(Duration::from_secs(outage));
        }
        for destination in &mut destinations {
            if !is_long {
                destination.kill();
                std::thread::sleep(Duration::from_secs(outage));
            }
            // The sender dies while one of them is away, and after it came back.
            for is_back in [false, true] {
                if is_back {
                    destination.start();
                    std::thread::sleep(second / 2);
                }
                ours.kill();
                ours = Server::start(&args);
                *addr.lock().expect("no panic while held") = ours.addr;
                std::thread::sleep(second / 2);
            }
        }
        std::thread::sleep(2 * second);
        stop.store(true, Ordering::Relaxed);
        (driver.join().expect("the driver ends"), ours)
    });
    for d in &destinations {
        d.wait_for(&rows);
        let lacking = d.lacking(&rows);
        let metrics = client::get(ours.addr, "/metrics").expect("the server answers").text();
        let own: Vec<&str> = metrics.lines().filter(|l| l.contains(&format!("remote_name=\"{}\"", d.name))).collect();
        assert_eq!(lacking, 0, "{} lacks samples of {} rows\n{}", d.name, rows.len(), own.join("\n"));
        let stored = d.stored();
        let n: usize = stored.values().map(Samples::len).sum();
        for (s, samples) in &stored {
            for (t, v) in samples {
                // VictoriaMetrics keeps about 15 decimal digits.
                let expected = value(*s, *t);
                assert!((v - expected).abs() <= 1e-12 * expected.abs(), "{}: series {s} at {t}: {v}", d.name);
            }
        }
        eprintln!("{}: {} rows, {} samples expected, {n} found", d.name, rows.len(), rows.len() * N_SERIES);
    }
    // Version 2 carries native histograms.
    let answer = query(destinations[0].addr, &format!("count_over_time({NATIVE}[1h])"));
    let n: usize = answer["data"]["result"][0]["value"][1].as_str().and_then(|n| n.parse().ok()).unwrap_or(0);
    assert_eq!(n, rows.len(), "{answer}");
}
