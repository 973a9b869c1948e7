//! The real Prometheus as a client: it writes what it scrapes to this server, and another one reads that back. All three
//! have the same samples and answer alike; both forms of remote read carry the same as Prometheus' own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use promontory_storage::prometheus::{ChunkSamples, decode_chunk};
use prost::Message;
use serde_json::Value;

use crate::client::{self, with_params};
use crate::peers::{Peer, free_addr, label_text, now_ms, spawn};
use crate::server::{Server, flag, peer, wait_until};

/// Bits of a series' values by time.
type Samples = BTreeMap<i64, u64>;

const WINDOW_MS: i64 = 10_000;

/// Evaluated by the Prometheus that scrapes and by the one that reads from this server; the same program, so the answers
/// are equal to the last digit.
const QUERIES: &[&str] = &[
    "up",
    "{job=\"own\"}",
    "rate(prometheus_tsdb_head_samples_appended_total[8s])",
    "sum by (job) (scrape_samples_scraped)",
    "histogram_quantile(0.9, sum by (le) (rate(prometheus_http_request_duration_seconds_bucket[8s])))",
    "count by (__name__) ({__name__=~\"go_.*\"})",
    "max_over_time(process_resident_memory_bytes[8s]) - min_over_time(process_resident_memory_bytes[8s])",
    "topk(3, go_memstats_heap_alloc_bytes)",
    "absent(nothing)",
];

#[derive(Clone, PartialEq, Message)]
struct ReadRequest {
    #[prost(message, repeated, tag = "1")]
    queries: Vec<Query>,
    #[prost(int32, repeated, tag = "2")]
    accepted: Vec<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct Query {
    #[prost(int64, tag = "1")]
    start: i64,
    #[prost(int64, tag = "2")]
    end: i64,
    #[prost(message, repeated, tag = "3")]
    matchers: Vec<Matcher>,
}

#[derive(Clone, PartialEq, Message)]
struct Matcher {
    #[prost(int32, tag = "1")]
    op: i32,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Sampled {
    #[prost(message, repeated, tag = "1")]
    results: Vec<SampledResult>,
}

#[derive(Clone, PartialEq, Message)]
struct SampledResult {
    #[prost(message, repeated, tag = "1")]
    series: Vec<crate::write::TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct Streamed {
    #[prost(message, repeated, tag = "1")]
    series: Vec<ChunkedSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct ChunkedSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<crate::write::Label>,
    #[prost(message, repeated, tag = "2")]
    chunks: Vec<Chunk>,
}

#[derive(Clone, PartialEq, Message)]
struct Chunk {
    #[prost(int64, tag = "1")]
    mint: i64,
    #[prost(int64, tag = "2")]
    maxt: i64,
    #[prost(int32, tag = "3")]
    encoding: i32,
    #[prost(bytes = "vec", tag = "4")]
    data: Vec<u8>,
}

fn text_of(labels: &[crate::write::Label]) -> String {
    labels.iter().map(|l| format!("{}={:?} ", l.name, l.value)).collect()
}

/// What a remote read gives of the job, in the form that is asked for.
fn read(addr: SocketAddr, form: i32, start: i64, end: i64) -> BTreeMap<String, Samples> {
    let matcher = Matcher { op: 0, name: "job".to_owned(), value: "own".to_owned() };
    let request = ReadRequest { queries: vec![Query { start, end, matchers: vec![matcher] }], accepted: vec![form] };
    let body = snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).expect("a small body");
    let headers = [("Content-Encoding", "snappy"), ("X-Prometheus-Remote-Read-Version", "0.1.0")];
    let answer = client::request(addr, "POST", "/api/v1/read", &headers, &body).expect("the server answers");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let mut out: BTreeMap<String, Samples> = BTreeMap::new();
    if form == 0 {
        let bytes = snap::raw::Decoder::new().decompress_vec(&answer.body).expect("snappy");
        let sampled = Sampled::decode(bytes.as_slice()).expect("a message");
        for series in sampled.results.into_iter().flat_map(|r| r.series) {
            let samples = series.samples.iter().map(|s| (s.timestamp, s.value.to_bits()));
            out.entry(text_of(&series.labels)).or_default().extend(samples);
        }
        return out;
    }
    let mut body = answer.body.as_slice();
    while !body.is_empty() {
        let len = prost::decode_length_delimiter(&mut body).expect("a length");
        let (crc, rest) = body.split_at(4);
        let (message, rest) = rest.split_at(len);
        assert_eq!(crc, crc32c::crc32c(message).to_be_bytes());
        body = rest;
        for series in Streamed::decode(message).expect("a message").series {
            let mut samples = ChunkSamples::default();
            for chunk in &series.chunks {
                decode_chunk(chunk.encoding, &chunk.data, &mut samples).expect("a chunk");
            }
            let bits = samples.times.iter().copied().zip(samples.values.iter().map(|v| v.to_bits()));
            out.entry(text_of(&series.labels)).or_default().extend(bits.filter(|(t, _)| (start..=end).contains(t)));
        }
    }
    out.retain(|_, samples| !samples.is_empty());
    out
}

fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

fn query(addr: SocketAddr, query: &str, t: i64) -> Value {
    let path = with_params("/api/v1/query", &[("query", query), ("time", &seconds(t))]);
    client::get(addr, &path).expect("the server answers").json()
}

/// Raw samples in the window before `t`, its edge left out: there the versions differ.
fn raw(addr: SocketAddr, t: i64) -> BTreeMap<String, BTreeMap<i64, String>> {
    let answer = query(addr, "{job=\"own\"}[10s]", t);
    let mut out = BTreeMap::new();
    for series in answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{answer}")) {
        let samples = series["values"].as_array().expect("samples").iter().map(|s| {
            let t = (s[0].as_f64().expect("a time") * 1000.0).round() as i64;
            (t, s[1].as_str().expect("a value").to_owned())
        });
        let inside: BTreeMap<_, _> = samples.filter(|(at, _)| *at > t - WINDOW_MS).collect();
        if !inside.is_empty() {
            out.insert(label_text(&series["metric"]), inside);
        }
    }
    out
}

/// The answer to an instant query as text, series in order.
fn answer_of(addr: SocketAddr, q: &str, t: i64) -> Vec<String> {
    let answer = query(addr, q, t);
    let all = answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{q}: {answer}"));
    let mut out: Vec<String> = all.iter().map(|s| format!("{} {}", label_text(&s["metric"]), s["value"][1])).collect();
    out.sort();
    out
}

fn prometheus(dir: &std::path::Path, name: &str, config: &str) -> (SocketAddr, Peer) {
    let file = dir.join(format!("{name}.yml"));
    let addr = free_addr();
    std::fs::write(&file, config.replace("<own>", &addr.to_string())).expect("a writable folder");
    let args = [
        flag("config.file", &file),
        flag("storage.tsdb.path", &dir.join(name)),
        format!("--web.listen-address={addr}"),
    ];
    let peer = spawn("prometheus", &args);
    wait_until(name, Duration::from_secs(60), &mut || client::get(addr, "/-/ready").is_ok_and(|r| r.status == 200));
    (addr, peer)
}

#[test]
fn prometheus_writes_here_and_reads_back_what_it_has() {
    if !peer("prometheus") {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let empty = dir.path().join("empty.yml");
    std::fs::write(&empty, "{}\n").expect("a writable folder");
    let ours = Server::start(&[
        &flag("config.file", &empty),
        &flag("storage.tsdb.path", &dir.path().join("ours")),
        "--web.enable-remote-write-receiver",
    ]);
    let config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n- job_name: own\n  static_configs:\n  - \
         targets: ['<own>']\nremote_write:\n- url: http://{}/api/v1/write\n  queue_config: {{batch_send_deadline: \
         200ms}}\n",
        ours.addr
    );
    let (writer, _writer) = prometheus(dir.path(), "writer", &config);
    let config = format!("remote_read:\n- url: http://{}/api/v1/read\n  read_recent: true\n", ours.addr);
    let (reader, _reader) = prometheus(dir.path(), "reader", &config);
    std::thread::sleep(Duration::from_secs(14));
    let t = now_ms() - 2000;
    let expected = raw(writer, t);
    assert!(expected.len() > 300, "{} series", expected.len());
    let n: usize = expected.values().map(BTreeMap::len).sum();
    wait_until("all samples to arrive", Duration::from_secs(30), &mut || {
        raw(ours.addr, t).values().map(BTreeMap::len).sum::<usize>() >= n
    });
    assert_eq!(raw(ours.addr, t), expected, "written samples");
    assert_eq!(raw(reader, t), expected, "samples read back");
    for q in QUERIES {
        assert_eq!(answer_of(reader, q, t), answer_of(writer, q, t), "{q}");
    }
    let (start, end) = (t - WINDOW_MS, t);
    let sampled = read(writer, 0, start, end);
    assert_eq!(read(ours.addr, 0, start, end), sampled, "samples");
    assert_eq!(read(ours.addr, 1, start, end), sampled, "streamed chunks");
    assert_eq!(read(writer, 1, start, end), sampled, "prometheus' own chunks");
    eprintln!("{} series, {n} samples alike in three servers and both forms of remote read", expected.len());
}
