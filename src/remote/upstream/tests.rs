//! A database with another server beside it, inside the process.

use axum::Router;
use http_body_util::BodyExt as _;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use promontory_config::http_client::HttpClientConfig;
use promontory_model::{Cancel, Columns, Timestamp};
use promontory_storage::DbOptions;
use promontory_storage::clock::ManualClock;
use promontory_storage::vfs::SimVfs;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::tests::{histogram_at, messages};
use super::super::{RemoteParts, histogram};
use super::*;
use crate::client::{Connecting, Stream};

/// Connects to a router; the host `away` is not there.
#[derive(Clone)]
struct ToRouter(Router);

impl std::fmt::Debug for ToRouter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ToRouter")
    }
}

impl Connector for ToRouter {
    fn connect<'a>(&'a self, host: &'a str, _port: u16) -> Connecting<'a> {
        let router = self.0.clone();
        let is_there = host != "away";
        Box::pin(async move {
            if !is_there {
                return Err(std::io::ErrorKind::ConnectionRefused.into());
            }
            let (near, mut far) = tokio::io::duplex(1 << 20);
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(far.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
                let len = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
                let mut body = vec![0; len.parse().unwrap()];
                far.read_exact(&mut body).await.unwrap();
                let request = axum::http::Request::post("/read").body(axum::body::Body::from(body)).unwrap();
                let response = TowerToHyperService::new(router).call(request).await.unwrap();
                let (parts, body) = response.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let content_type = parts.headers["content-type"].to_str().unwrap().to_owned();
                let head = format!(
                    "HTTP/1.1 {} X\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n",
                    parts.status.as_u16(),
                    body.len()
                );
                let _ = far.write_all(&[head.as_bytes(), &body].concat()).await;
            });
            Ok(Box::new(near) as Box<dyn Stream>)
        })
    }
}

const NOW_MS: i64 = 1_700_000_000_000;

fn open() -> (Db, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(Timestamp(NOW_MS)));
    let options = DbOptions { commit_interval_ms: None, ..DbOptions::server() };
    let (db, _) = Db::open(Arc::new(SimVfs::new()), clock.clone(), std::path::Path::new("data"), options).unwrap();
    (db, clock)
}

fn append(db: &Db, labels: &[(&str, &str)], samples: &[(i64, f64)]) {
    let mut writer = db.writer();
    let series = writer.resolve(&Labels::from_pairs(labels.iter().copied())).unwrap();
    for (t, v) in samples {
        assert_eq!(writer.append(Timestamp(NOW_MS + t), &[(series, *v)]).unwrap().accepted, 1);
    }
}

/// A server with samples, and one beside it that asks it.
struct World {
    local: Db,
    upstreams: Arc<Upstreams>,
    connector: Arc<dyn Connector>,
}

impl World {
    fn new() -> Self {
        let (far, clock) = open();
        append(&far, &[("__name__", "a"), ("i", "1")], &[(-5000, 1.0), (-4000, 2.0), (-3000, 3.0)]);
        append(&far, &[("__name__", "b")], &[(-5000, 4.0)]);
        let mut writer = far.writer();
        let h = writer.resolve(&Labels::from_pairs([("__name__", "h")])).unwrap();
        let (t, sample) = histogram::read(&histogram_at(NOW_MS - 4000, 2).encode_to_vec()).unwrap();
        writer.append_with_histograms(t, &[], &[(h, sample)]).unwrap();
        let router = super::super::router(RemoteParts {
            db: far,
            clock,
            bodies: crate::bodies::Bodies::new(),
            meter: Arc::default(),
            enable_write: false,
            zero_starts: false,
            read_timeout: promontory_model::Duration::from_secs(60),
            external_labels: Box::new(|| Labels::from_pairs([("dc", "far")])),
        });
        let (local, clock) = open();
        append(&local, &[("__name__", "a"), ("dc", "far"), ("i", "1")], &[(-3000, 30.0), (-2000, 40.0)]);
        append(&local, &[("__name__", "a"), ("i", "2")], &[(-2000, 5.0)]);
        append(&local, &[("__name__", "a"), ("i", "3")], &[(-2000, 6.0)]);
        let upstreams = Arc::new(Upstreams::new(Handle::current(), clock));
        Self { local, upstreams, connector: Arc::new(ToRouter(router)) }
    }

    /// With these lines of configuration, and external labels: series with samples as `time:value`, and warnings.
    async fn check(&self, config: &str, external: &[(&str, &str)], matchers: &[Matcher], expected: &[&str]) {
        let text = format!("remote_read: [{{url: 'http://far/read'{config}}}]");
        let mut configs = promontory_config::parse(&text, std::path::Path::new("x.yml")).unwrap().remote_read;
        configs[0].http = HttpClientConfig::default();
        let external = Labels::from_pairs(external.iter().copied());
        self.upstreams.apply_with(&configs, &external, &self.connector);
        let (data, matchers) = (self.upstreams.beside(self.local.clone()), matchers.to_vec());
        let got = tokio::task::spawn_blocking(move || {
            let cancel = Cancel::new();
            let select = Select { range: TimeRange::ALL, matchers: &matchers, cancel: &cancel };
            let selection = data.snapshot().unwrap().select(&select).unwrap();
            let mut out = selection.warnings;
            for batch in &selection.batches {
                let mut columns = Columns::default();
                batch.read(0..batch.n_series(), TimeRange::ALL, &mut columns).unwrap();
                for i in 0..batch.n_series() {
                    let column = columns.column(i);
                    let mut line = batch.labels(i).to_string();
                    for (row, t) in columns.timestamps().iter().enumerate().filter(|(row, _)| column.is_present(*row)) {
                        line += &format!(" {}:{}", t - NOW_MS, column.values[row]);
                    }
                    for (row, h) in column.histogram_samples() {
                        line += &format!(" {}:h{}", columns.timestamps()[row] - NOW_MS, h.value().count);
                    }
                    out.push(line);
                }
            }
            out.sort();
            out
        });
        assert_eq!(got.await.unwrap(), expected, "{config}");
    }
}

const LOCAL: [&str; 3] = [
    r#"{__name__="a", dc="far", i="1"} -3000:30 -2000:40"#,
    r#"{__name__="a", i="2"} -2000:5"#,
    r#"{__name__="a", i="3"} -2000:6"#,
];

#[tokio::test(flavor = "multi_thread")]
async fn samples_of_others_are_beside_our_own() {
    let w = World::new();
    let joined = r#"{__name__="a", dc="far", i="1"} -5000:1 -4000:2 -3000:30 -2000:40"#;
    let b = r#"{__name__="b", dc="far"} -5000:4"#;
    let h = r#"{__name__="h", dc="far"} -4000:h8"#;
    let all = [joined, LOCAL[1], LOCAL[2], b, h];
    w.check("", &[], &[], &all).await;
    w.check(", read_recent: true", &[], &[], &all).await;
    w.check("", &[], &[Matcher::equal("__name__", "b")], &[b]).await;
    // Nothing is asked where a selector lacks what is required.
    w.check(", required_matchers: {__name__: b}", &[], &[], &LOCAL).await;
    w.check(", required_matchers: {__name__: b}", &[], &[Matcher::equal("__name__", "b")], &[b]).await;
    // Our own external labels are asked for and taken away again.
    let without = [LOCAL[0], LOCAL[1], LOCAL[2], r#"{__name__="a", i="1"} -5000:1 -4000:2"#];
    let a = [Matcher::equal("__name__", "a")];
    let mut sorted = without.to_vec();
    sorted.sort_unstable();
    w.check("", &[("dc", "far")], &a, &sorted).await;
    w.check("", &[("dc", "other")], &[], &LOCAL).await;
    let joined_a = [joined, LOCAL[1], LOCAL[2]];
    w.check(", filter_external_labels: false", &[("dc", "other")], &a, &joined_a).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_fails_costs_a_warning() {
    let w = World::new();
    for (config, expected) in [
        ("url: 'http://away/read', name: old", "remote read of old: Post \"http://away/read\": dial tcp away"),
        ("url: 'http://far/read', chunked_read_limit: 9", "more than 9 (chunked_read_limit)"),
    ] {
        let text = format!("remote_read: [{{{config}}}]");
        let configs = promontory_config::parse(&text, std::path::Path::new("x.yml")).unwrap().remote_read;
        w.upstreams.apply_with(&configs, &Labels::empty(), &w.connector);
        let data = w.upstreams.beside(w.local.clone());
        assert!(data.changes().is_none(), "answers are not kept");
        let warnings = tokio::task::spawn_blocking(move || {
            let cancel = Cancel::new();
            let select = Select { range: TimeRange::ALL, matchers: &[], cancel: &cancel };
            let selection = data.snapshot().unwrap().select(&select).unwrap();
            assert_eq!(selection.batches.iter().map(|b| b.n_series()).sum::<usize>(), 3);
            selection.warnings
        });
        let warnings = warnings.await.unwrap();
        assert!(warnings.len() == 1 && warnings[0].contains(expected), "{warnings:?}");
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Answer {
    #[prost(message, repeated, tag = "1")]
    results: Vec<messages::WriteRequest>,
}

const PLENTY: Limits = Limits { samples: 100, bytes: 10_000 };

fn sampled(body: &[u8], limits: Limits) -> Result<Vec<Series>, String> {
    let range = TimeRange::new(1, 5);
    answer::read("application/x-protobuf", body, range, 999, &mut limits.clone()).map_err(|e| e.to_string())
}

#[test]
fn sampled_answers_are_read_up_to_their_limits() {
    let timeseries = vec![
        messages::series(&[("__name__", "b")], &[(1, 1.0), (6, 2.0)]),
        messages::series(&[("__name__", "a"), ("x", "")], &[(1, 1.0), (2, 2.0)]),
    ];
    let results = vec![messages::WriteRequest { timeseries }];
    let body = snap::raw::Encoder::new().compress_vec(&Answer { results }.encode_to_vec()).unwrap();
    let series = sampled(&body, PLENTY).unwrap();
    let shape: Vec<_> = series.iter().map(|s| (s.labels.to_string(), s.points.len())).collect();
    assert_eq!(shape, [(r#"{__name__="a"}"#.to_owned(), 2), (r#"{__name__="b"}"#.to_owned(), 1)]);
    let few = sampled(&body, Limits { samples: 3, ..PLENTY }).unwrap_err();
    assert_eq!(few, "answer of more than 10000000 samples (upstream_samples_max)");
    let small = sampled(&body, Limits { bytes: 9, ..PLENTY }).unwrap_err();
    assert!(small.ends_with("more than 268435456 (upstream_bytes_max)"), "{small}");
    assert!(sampled(&[0x80, 0x80, 0x80, 0x80, 0x04, 0], PLENTY).unwrap_err().contains("upstream_bytes_max"));
}

proptest! {
    #[test]
    fn hostile_answers_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let range = TimeRange::ALL;
        let _ = answer::read("application/x-streamed-protobuf; x", &bytes, range, 999, &mut PLENTY.clone());
        let framed = [&[bytes.len() as u8 & 0x7f][..], &crc32c::crc32c(&bytes).to_be_bytes(), &bytes].concat();
        let _ = answer::read("application/x-streamed-protobuf", &framed, range, 999, &mut PLENTY.clone());
        let packed = snap::raw::Encoder::new().compress_vec(&bytes).unwrap();
        let _ = answer::read("application/x-protobuf", &packed, range, 999, &mut PLENTY.clone());
    }
}
