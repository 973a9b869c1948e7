//! Blocks exchanged with the real Prometheus and promtool: theirs read in place and imported, ours exported, and every
//! sample compared.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use promontory_model::histogram::{CounterResetHint, Counts, HistogramSample, Span};
use promontory_model::{
    Cancel, Columns, FloatHistogram, Labels, Queryable as _, Select, TimeRange, Timestamp, stale_nan,
};
use promontory_storage::clock::ManualClock;
use promontory_storage::prometheus::{ExportOptions, Exported, export, import};
use promontory_storage::vfs::{RealVfs, Vfs};
use promontory_storage::{Db, DbOptions};
use prost::Message;

use crate::client::{self, with_params};
use crate::peers::now_ms;
use crate::server::{flag, peer, wait_until};

const BLOCK_MS: i64 = 2 * 3_600_000;
const STEP_MS: i64 = 15_000;
const STEPS: i64 = 180;

/// Bits of a float, or a histogram.
#[derive(Debug, Clone)]
enum Value {
    Float(u64),
    Histogram(HistogramSample),
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Float(a), Self::Float(b)) => a == b,
            (Self::Histogram(a), Self::Histogram(b)) => a.same_bits(b),
            _ => false,
        }
    }
}

/// A histogram without its empty buckets: those that Prometheus adds to give all histograms of a chunk one layout.
fn without_empty_buckets(value: &Value) -> Value {
    let Value::Histogram(h) = value else { return value.clone() };
    let mut v = FloatHistogram::clone(h.value());
    for (spans, buckets) in
        [(&mut v.positive_spans, &mut v.positive_buckets), (&mut v.negative_spans, &mut v.negative_buckets)]
    {
        let (mut index, mut used) = (0, Vec::new());
        let mut counts = std::mem::take(buckets).into_iter();
        for span in std::mem::take(spans) {
            index += span.offset;
            for count in counts.by_ref().take(span.length as usize) {
                if count != 0.0 {
                    used.push((index, count));
                }
                index += 1;
            }
        }
        let mut end = 0;
        for (index, count) in used {
            spans.push(Span { offset: index - end, length: 1 });
            buckets.push(count);
            end = index + 1;
        }
    }
    Value::Histogram(HistogramSample::from_stored(Arc::new(v), h.counts()))
}

fn all_without_empty_buckets(series: &Series) -> Series {
    let samples = |s: &BTreeMap<i64, Value>| s.iter().map(|(t, v)| (*t, without_empty_buckets(v))).collect();
    series.iter().map(|(labels, s)| (labels.clone(), samples(s))).collect()
}

type Series = BTreeMap<Labels, BTreeMap<i64, Value>>;

fn count(series: &Series) -> usize {
    series.values().map(BTreeMap::len).sum()
}

#[track_caller]
fn check_same(what: &str, got: &Series, expected: &Series) {
    for (labels, samples) in expected {
        let found = got.get(labels).unwrap_or_else(|| panic!("{what}: {labels} is missing"));
        for (t, value) in samples {
            assert_eq!(found.get(t), Some(value), "{what}: {labels} at {t}");
        }
        assert_eq!(found.len(), samples.len(), "{what}: samples of {labels}");
    }
    assert_eq!(got.len(), expected.len(), "{what}: series");
}

fn float(series: i64, step: i64) -> f64 {
    let special = [f64::NAN, stale_nan(), f64::INFINITY, f64::NEG_INFINITY, -0.0, 5e-324, f64::MAX, 0.1];
    match series % 4 {
        0 => (step * (series + 1)) as f64,
        1 => f64::from_bits((step as u64 ^ 0x55).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(series as u64) >> 2),
        2 => special[(step * 7 + series) as usize % special.len()],
        _ => (step / 30) as f64 / 10.0,
    }
}

fn histogram(series: i64, step: i64) -> HistogramSample {
    let counts = if series % 2 == 0 { Counts::Integer } else { Counts::Float };
    let scale = if counts == Counts::Integer { 1.0 } else { 0.375 };
    // Counters fall now and then; one more bucket is used after a while.
    let n = (step % 70) as f64 + 1.0;
    let mut positive_buckets: Vec<f64> = (0..5).map(|b| scale * n * f64::from(b + 1)).collect();
    let mut positive_spans = vec![Span { offset: -1, length: 3 }, Span { offset: 2, length: 2 }];
    if step > 100 {
        positive_spans[1].length = 3;
        positive_buckets.push(scale * (step - 100) as f64);
    }
    let negative_buckets = vec![scale * n];
    let zero_count = scale * 2.0 * n;
    let count = zero_count + positive_buckets.iter().chain(&negative_buckets).sum::<f64>();
    let h = FloatHistogram {
        // Prometheus 2.42 fails to take a snapshot of gauges.
        counter_reset_hint: CounterResetHint::Unknown,
        schema: 3,
        zero_threshold: if series > 3 { 2f64.powi(-128) } else { 0.001 },
        zero_count,
        count,
        sum: n * 0.7 - 3.0,
        positive_spans,
        negative_spans: vec![Span { offset: 4, length: 1 }],
        positive_buckets,
        negative_buckets,
        custom_values: Vec::new(),
    };
    HistogramSample::new(h, counts).expect("a sound histogram")
}

/// Series of two targets that ends at `end`.
fn generated(end: i64, n_floats: i64, n_histograms: i64) -> Series {
    let mut out = Series::new();
    let times = |series: i64| (0..STEPS).map(move |i| (i, end - (STEPS - 1 - i) * STEP_MS + series % 2));
    for series in 0..n_floats {
        let instance = format!("host-{}:9100", series % 2);
        let id = series.to_string();
        let labels = [("__name__", "f"), ("id", &id), ("instance", &instance), ("text", "a \"quoted\" \\ né")];
        let samples = times(series).map(|(i, t)| (t, Value::Float(float(series, i).to_bits())));
        out.insert(Labels::from_pairs(labels), samples.collect());
    }
    for series in 0..n_histograms {
        let id = series.to_string();
        let samples = times(series).map(|(i, t)| (t, Value::Histogram(histogram(series, i))));
        out.insert(Labels::from_pairs([("__name__", "h"), ("id", &id), ("instance", "h:1")]), samples.collect());
    }
    out
}

/// The messages of remote write that are sent here.
mod wire {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct WriteRequest {
        #[prost(message, repeated, tag = "1")]
        pub(super) timeseries: Vec<TimeSeries>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct TimeSeries {
        #[prost(message, repeated, tag = "1")]
        pub(super) labels: Vec<Label>,
        #[prost(message, repeated, tag = "2")]
        pub(super) samples: Vec<Sample>,
        #[prost(message, repeated, tag = "4")]
        pub(super) histograms: Vec<Histogram>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Label {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(string, tag = "2")]
        pub(super) value: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Sample {
        /// Optional, so that -0 is sent: as a plain field it counts as 0, which is left out.
        #[prost(double, optional, tag = "1")]
        pub(super) value: Option<f64>,
        #[prost(int64, tag = "2")]
        pub(super) timestamp: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Histogram {
        #[prost(uint64, optional, tag = "1")]
        pub(super) count_int: Option<u64>,
        #[prost(double, optional, tag = "2")]
        pub(super) count_float: Option<f64>,
        #[prost(double, tag = "3")]
        pub(super) sum: f64,
        #[prost(sint32, tag = "4")]
        pub(super) schema: i32,
        #[prost(double, tag = "5")]
        pub(super) zero_threshold: f64,
        #[prost(uint64, optional, tag = "6")]
        pub(super) zero_count_int: Option<u64>,
        #[prost(double, optional, tag = "7")]
        pub(super) zero_count_float: Option<f64>,
        #[prost(message, repeated, tag = "8")]
        pub(super) negative_spans: Vec<BucketSpan>,
        #[prost(sint64, repeated, tag = "9")]
        pub(super) negative_deltas: Vec<i64>,
        #[prost(double, repeated, tag = "10")]
        pub(super) negative_counts: Vec<f64>,
        #[prost(message, repeated, tag = "11")]
        pub(super) positive_spans: Vec<BucketSpan>,
        #[prost(sint64, repeated, tag = "12")]
        pub(super) positive_deltas: Vec<i64>,
        #[prost(double, repeated, tag = "13")]
        pub(super) positive_counts: Vec<f64>,
        #[prost(int64, tag = "15")]
        pub(super) timestamp: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct BucketSpan {
        #[prost(sint32, tag = "1")]
        pub(super) offset: i32,
        #[prost(uint32, tag = "2")]
        pub(super) length: u32,
    }
}

fn message(t: i64, h: &HistogramSample) -> wire::Histogram {
    let spans = |spans: &[Span]| {
        spans.iter().map(|s| wire::BucketSpan { offset: s.offset, length: s.length }).collect::<Vec<_>>()
    };
    let deltas = |buckets: &[f64]| {
        let mut before = 0;
        let delta = |b: &f64| *b as i64 - std::mem::replace(&mut before, *b as i64);
        buckets.iter().map(delta).collect::<Vec<_>>()
    };
    let v = h.value();
    let mut out = wire::Histogram {
        sum: v.sum,
        schema: v.schema,
        zero_threshold: v.zero_threshold,
        negative_spans: spans(&v.negative_spans),
        positive_spans: spans(&v.positive_spans),
        timestamp: t,
        ..wire::Histogram::default()
    };
    if h.counts() == Counts::Integer {
        (out.count_int, out.zero_count_int) = (Some(v.count as u64), Some(v.zero_count as u64));
        (out.negative_deltas, out.positive_deltas) = (deltas(&v.negative_buckets), deltas(&v.positive_buckets));
    } else {
        (out.count_float, out.zero_count_float) = (Some(v.count), Some(v.zero_count));
        (out.negative_counts, out.positive_counts) = (v.negative_buckets.clone(), v.positive_buckets.clone());
    }
    out
}

fn send(addr: SocketAddr, series: &Series) {
    let timeseries = series.iter().map(|(labels, samples)| {
        let label = |(n, v): (&str, &str)| wire::Label { name: n.to_owned(), value: v.to_owned() };
        let mut out = wire::TimeSeries { labels: labels.iter().map(label).collect(), ..wire::TimeSeries::default() };
        for (&t, value) in samples {
            match value {
                Value::Float(bits) => {
                    out.samples.push(wire::Sample { value: Some(f64::from_bits(*bits)), timestamp: t });
                }
                Value::Histogram(h) => out.histograms.push(message(t, h)),
            }
        }
        out
    });
    let request = wire::WriteRequest { timeseries: timeseries.collect() };
    let body = snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).expect("it fits");
    let headers = [("Content-Encoding", "snappy"), ("Content-Type", "application/x-protobuf")];
    let answer = client::request(addr, "POST", "/api/v1/write", &headers, &body).expect("prometheus answers");
    assert_eq!(answer.status / 100, 2, "{}", answer.text());
}

/// Prometheus over a data folder; ends with the value.
struct Prometheus {
    child: Child,
    addr: SocketAddr,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    fn start(dir: &Path, data: &Path) -> Self {
        let config = dir.join("prometheus.yml");
        std::fs::write(&config, "global: {}\n").expect("a writable folder");
        let addr = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port");
        let mut command = Command::new("prometheus");
        command.args([
            flag("config.file", &config),
            flag("storage.tsdb.path", data),
            format!("--web.listen-address={addr}"),
            "--web.enable-remote-write-receiver".to_owned(),
            "--web.enable-admin-api".to_owned(),
            "--enable-feature=native-histograms".to_owned(),
            "--storage.tsdb.retention.time=100y".to_owned(),
        ]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("prometheus starts");
        let out = Self { child, addr };
        wait_until("prometheus", Duration::from_secs(60), &mut || {
            client::get(addr, "/-/ready").is_ok_and(|r| r.status == 200)
        });
        out
    }

    fn post(&self, path: &str, params: &[(&str, &str)]) -> client::Response {
        client::request(self.addr, "POST", &with_params(path, params), &[], &[]).expect("prometheus answers")
    }

    /// All samples of the selector in the hour before `end`, as the JSON that it answers.
    fn samples(&self, selector: &str, end: i64) -> serde_json::Value {
        let time = format!("{}.{:03}", end / 1000, end % 1000);
        let path = with_params("/api/v1/query", &[("query", &format!("{selector}[1h]")), ("time", &time)]);
        client::get(self.addr, &path).expect("prometheus answers").json()["data"]["result"].clone()
    }
}

fn promtool(args: &[&str], dir: &Path) -> String {
    let out = Command::new("promtool").args(args).arg(dir).output().expect("promtool runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(out.status.success(), "promtool {args:?} {}: {}", dir.display(), text(&out.stderr));
    text(&out.stdout)
}

/// Lines of `promtool tsdb dump`, sorted: labels, value, time. It shows float samples.
fn dump(dir: &Path) -> Vec<String> {
    // Where the last block ends before the newest time asked for, it looks into the log.
    std::fs::create_dir_all(dir.join("wal")).expect("a writable folder");
    let mut lines: Vec<String> =
        promtool(&["tsdb", "dump", "--match={__name__=\"f\"}"], dir).lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

/// What a dump should show, values as their bits and all NaNs alike.
fn check_dump(what: &str, lines: &[String], expected: &Series) -> usize {
    let bits = |v: f64| if v.is_nan() { f64::NAN.to_bits() } else { v.to_bits() };
    let mut got = Vec::new();
    for line in lines {
        let mut words = line.rsplitn(3, ' ');
        let (t, v, labels) = (words.next(), words.next(), words.next());
        let t: i64 = t.and_then(|t| t.parse().ok()).expect("a time");
        let v: f64 = v.and_then(|v| v.parse().ok()).expect("a number");
        got.push((labels.expect("labels").to_owned(), t, bits(v)));
    }
    got.sort_unstable();
    let mut wanted = Vec::new();
    for (labels, samples) in expected {
        for (&t, value) in samples {
            if let Value::Float(v) = value {
                wanted.push((labels.to_string(), t, bits(f64::from_bits(*v))));
            }
        }
    }
    wanted.sort_unstable();
    for (got, wanted) in got.iter().zip(&wanted) {
        assert_eq!(got, wanted, "{what}");
    }
    assert_eq!(got.len(), wanted.len(), "{what}");
    got.len()
}

fn open(dir: &Path) -> Db {
    let options = DbOptions { commit_interval_ms: None, ..DbOptions::server() };
    let clock = Arc::new(ManualClock::new(Timestamp(now_ms())));
    Db::open(Arc::new(RealVfs), clock, dir, options).expect("the database opens").0
}

fn all(db: &Db) -> Series {
    let cancel = Cancel::new();
    let snapshot = db.snapshot().expect("a snapshot");
    let select = Select { range: TimeRange::ALL, matchers: &[], cancel: &cancel };
    let found = snapshot.select(&select).expect("a selection");
    assert_eq!(found.warnings, Vec::<String>::new());
    let mut out = Series::new();
    let mut columns = Columns::default();
    for batch in found.batches {
        batch.read(0..batch.n_series(), TimeRange::ALL, &mut columns).expect("samples");
        for i in 0..batch.n_series() {
            let (column, times) = (columns.column(i), columns.timestamps());
            let samples = out.entry(batch.labels(i)).or_default();
            for row in (0..columns.n_rows()).filter(|row| column.is_present(*row)) {
                samples.insert(times[row], Value::Float(column.values[row].to_bits()));
            }
            samples.extend(column.histogram_samples().map(|(row, h)| (times[row], Value::Histogram(h))));
        }
    }
    out.retain(|_, samples| !samples.is_empty());
    out
}

fn export_all(db: &Db, to: &Path) -> Vec<Exported> {
    let vfs: Arc<dyn Vfs> = Arc::new(RealVfs);
    let labels = Labels::empty();
    let options = ExportOptions { range: TimeRange::ALL, matchers: &[], block_ms: BLOCK_MS, external_labels: &labels };
    export(&vfs, db, to, &options, &mut |_| {}, &Cancel::new()).expect("the export works")
}

/// Every block is listed, and the newest can be analysed.
fn check_listed(dir: &Path, blocks: &[Exported]) {
    let list = promtool(&["tsdb", "list"], dir);
    for block in blocks {
        let line = list.lines().find(|l| l.starts_with(&block.ulid.to_string())).expect("a line of the block");
        let words: Vec<&str> = line.split_whitespace().collect();
        let numbers = [block.n_samples, block.n_chunks, block.n_series].map(|n| n.to_string());
        assert_eq!(&words[4..7], &numbers, "{line}");
    }
    assert_eq!(list.lines().count(), blocks.len() + 1, "{list}");
    let analysis = promtool(&["tsdb", "analyze"], dir);
    assert!(analysis.contains("Series: "), "{analysis}");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a writable folder");
    for entry in std::fs::read_dir(from).expect("a folder").flatten() {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).expect("a copy");
        }
    }
}

#[test]
fn blocks_of_prometheus_are_read_imported_and_exported_without_loss() {
    if !peer("prometheus") || !peer("promtool") {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| dir.path().join(name);
    let end = now_ms() - 60_000;
    let mut expected = generated(end, 60, 8);
    let server = Prometheus::start(dir.path(), &at("theirs"));
    send(server.addr, &expected);
    let answer = server.post("/api/v1/admin/tsdb/snapshot", &[]).json();
    let name = answer["data"]["name"].as_str().unwrap_or_else(|| panic!("no snapshot: {answer}"));
    let snapshot: PathBuf = at("theirs").join("snapshots").join(name);
    drop(server);

    // A server on the snapshot deletes a part of some series, which leaves tombstones in the block.
    let server = Prometheus::start(dir.path(), &snapshot);
    let text = |t: i64| format!("{}.{:03}", t / 1000, t % 1000);
    let (from, to) = (end - 100 * STEP_MS, end - 50 * STEP_MS);
    let params = [("match[]", "{__name__=~\"f|h\",id=~\"1|3\"}"), ("start", &text(from)), ("end", &text(to))];
    assert_eq!(server.post("/api/v1/admin/tsdb/delete_series", &params).status, 204);
    for (labels, samples) in &mut expected {
        if matches!(labels.get("id"), Some("1" | "3")) {
            samples.retain(|t, _| !(from..=to).contains(t));
        }
    }
    let histograms = server.samples("h", end);
    assert_eq!(histograms.as_array().map(Vec::len), Some(8), "{histograms}");
    drop(server);
    let theirs = dump(&snapshot);
    let n_dumped = check_dump("dump of their block", &theirs, &expected);

    // Their whole data folder becomes ours, and still is theirs afterwards.
    let shared = at("shared");
    copy(&snapshot, &shared);
    let db = open(&shared);
    let in_place = all(&db);
    check_same("in place", &all_without_empty_buckets(&in_place), &all_without_empty_buckets(&expected));
    expected = in_place;
    db.tick().expect("maintenance works");
    db.close().expect("the database closes");
    drop(db);
    let server = Prometheus::start(dir.path(), &shared);
    assert_eq!(server.samples("h", end), histograms);
    drop(server);
    let db = open(&shared);
    check_same("in place again", &all(&db), &expected);
    drop(db);

    let db = open(&at("imported"));
    let imported = import(&db, &snapshot, &mut |_| {}, &Cancel::new()).expect("the import works");
    assert_eq!((imported.n_samples, imported.n_conflicts), (count(&expected) as u64, 0));
    check_same("imported", &all(&db), &expected);
    db.tick().expect("maintenance works");
    db.close().expect("the database closes");
    drop(db);
    let db = open(&at("imported"));
    check_same("imported and opened again", &all(&db), &expected);

    let exported = at("exported");
    let blocks = export_all(&db, &exported);
    assert_eq!(blocks.iter().map(|b| b.n_samples).sum::<u64>(), count(&expected) as u64);
    assert_eq!(dump(&exported), theirs);
    check_listed(&exported, &blocks);
    let server = Prometheus::start(dir.path(), &exported);
    assert_eq!(server.samples("h", end), histograms);
    eprintln!(
        "{} samples equal in place, imported and exported; {n_dumped} floats dumped alike; {} histograms queried alike",
        count(&expected),
        count(&expected) - n_dumped,
    );
}

#[test]
fn promtool_takes_what_is_exported() {
    if !peer("promtool") {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let db = open(&dir.path().join("data"));
    let mut writer = db.writer();
    let expected = generated(BLOCK_MS * 5 / 4, 40, 0);
    let mut by_time: BTreeMap<i64, Vec<_>> = BTreeMap::new();
    for (labels, samples) in &expected {
        let series = writer.resolve(labels).expect("a series");
        for (&t, value) in samples {
            let Value::Float(bits) = value else { continue };
            by_time.entry(t).or_default().push((series, f64::from_bits(*bits)));
        }
    }
    for (t, samples) in by_time {
        let appended = writer.append(Timestamp(t), &samples).expect("an append");
        assert_eq!(appended.refused(), 0);
    }
    let exported = dir.path().join("exported");
    let blocks = export_all(&db, &exported);
    assert_eq!(blocks.len(), 2);
    let n = check_dump("dump of our blocks", &dump(&exported), &expected);
    check_listed(&exported, &blocks);
    eprintln!("{n} samples dumped alike");
}
