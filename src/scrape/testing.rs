//! What tests of this module share.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use promontory_config::http_client::HttpClientConfig;
use promontory_config::scrape::{EscapingScheme, NameValidation, Scheme, ScrapeConfig, ScrapeLimits, ScrapeProtocol};
use promontory_model::{Cancel, Columns, Duration, Labels, Queryable, Select, TimeRange, Timestamp};
use promontory_storage::clock::Clock;
use promontory_storage::vfs::SimVfs;
use promontory_storage::{Db, DbOptions, FsyncPolicy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::client::{Connecting, Connector, Stream};

/// A job with the defaults, scraped every 15 s.
pub(crate) fn scrape_config(job: &str) -> ScrapeConfig {
    ScrapeConfig {
        job_name: job.to_owned(),
        scrape_interval: Duration::from_secs(15),
        scrape_timeout: Duration::from_secs(10),
        metrics_path: "/metrics".to_owned(),
        scheme: Scheme::Http,
        params: Vec::new(),
        honor_labels: false,
        honor_timestamps: true,
        track_timestamps_staleness: false,
        enable_compression: true,
        scrape_protocols: ScrapeProtocol::DEFAULT.to_vec(),
        fallback_scrape_protocol: None,
        limits: ScrapeLimits::default(),
        metric_name_validation: NameValidation::Utf8,
        metric_name_escaping: EscapingScheme::AllowUtf8,
        extra_scrape_metrics: false,
        http: HttpClientConfig::default(),
        discovery: Vec::new(),
        relabel_configs: Vec::new(),
        metric_relabel_configs: Vec::new(),
    }
}

/// What a fake target does with a request.
pub(crate) enum Action {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Sends these bytes this many times.
    Repeat(Vec<u8>, usize),
    /// Answers no more.
    Hang,
    /// Closes the connection.
    Close,
}

/// A whole answer with this status line, these header lines and this body.
pub(crate) fn answer(status: &str, headers: &str, body: &[u8]) -> Action {
    let mut bytes = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    Action::Send(bytes)
}

/// An exposition in Prometheus text.
pub(crate) fn exposition(body: &str) -> Action {
    answer("200 OK", "Content-Type: text/plain; version=0.0.4\r\n", body.as_bytes())
}

/// Answers a request, given its head.
pub(crate) type Handler = Arc<dyn Fn(&str) -> Vec<Action> + Send + Sync>;

/// A network inside the process, so that tests can stop the time. Hosts are `name:port`.
#[derive(Default)]
pub(crate) struct FakeNetwork {
    hosts: Arc<Mutex<HashMap<String, Handler>>>,
    n_connects: AtomicUsize,
}

impl fmt::Debug for FakeNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FakeNetwork")
    }
}

impl FakeNetwork {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Lets `handler` answer at `host` from now on, over connections that exist already too.
    pub(crate) fn serve(&self, host: &str, handler: impl Fn(&str) -> Vec<Action> + Send + Sync + 'static) {
        self.hosts.lock().unwrap().insert(host.to_owned(), Arc::new(handler));
    }

    /// How many connections were made.
    pub(crate) fn n_connects(&self) -> usize {
        self.n_connects.load(Ordering::SeqCst)
    }
}

impl Connector for FakeNetwork {
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> Connecting<'a> {
        let host = format!("{host}:{port}");
        let hosts = self.hosts.clone();
        Box::pin(async move {
            if !hosts.lock().unwrap().contains_key(&host) {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let handler: Handler = Arc::new(move |head| {
                let handler = hosts.lock().unwrap()[&host].clone();
                handler(head)
            });
            self.n_connects.fetch_add(1, Ordering::SeqCst);
            let (near, far) = tokio::io::duplex(256 << 10);
            tokio::spawn(serve(far, handler));
            Ok(Box::new(near) as Box<dyn Stream>)
        })
    }
}

/// Answers the requests of one connection.
pub(crate) async fn serve(mut stream: impl Stream, handler: Handler) {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        for action in handler(&String::from_utf8_lossy(&head)) {
            let sent = match action {
                Action::Send(bytes) => stream.write_all(&bytes).await.is_ok(),
                Action::Repeat(bytes, n) => {
                    let mut ok = true;
                    for _ in 0..n {
                        ok = ok && stream.write_all(&bytes).await.is_ok();
                    }
                    ok
                }
                Action::Hang => std::future::pending().await,
                Action::Close => false,
            };
            if !sent {
                return;
            }
        }
    }
}

/// A clock that goes with tokio's time, which tests stop.
#[derive(Debug)]
pub(crate) struct TokioClock(tokio::time::Instant);

impl TokioClock {
    /// Shows [`START_MS`] now.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(tokio::time::Instant::now()))
    }
}

/// What a [`TokioClock`] shows first.
pub(crate) const START_MS: i64 = 1_700_000_000_000;

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        Timestamp(START_MS + i64::try_from(self.0.elapsed().as_millis()).unwrap())
    }

    fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap()
    }
}

/// An empty database in memory.
pub(crate) fn database(clock: Arc<dyn Clock>) -> Db {
    let options = DbOptions { commit_interval_ms: None, fsync: FsyncPolicy::Never, ..DbOptions::server() };
    Db::open(Arc::new(SimVfs::new()), clock, std::path::Path::new("/data"), options).unwrap().0
}

/// All samples of all series, by labels.
pub(crate) fn samples(db: &Db) -> BTreeMap<Labels, Vec<(i64, f64)>> {
    let (snapshot, cancel) = (db.snapshot().unwrap(), Cancel::new());
    let select = Select { range: TimeRange::ALL, matchers: &[], cancel: &cancel };
    let mut out = BTreeMap::new();
    let mut columns = Columns::default();
    for batch in snapshot.select(&select).unwrap().batches {
        batch.read(0..batch.n_series(), TimeRange::ALL, &mut columns).unwrap();
        for i in 0..batch.n_series() {
            let column = columns.column(i);
            let present = columns.timestamps().iter().enumerate().filter(|(row, _)| column.is_present(*row));
            let samples: Vec<_> = present.map(|(row, t)| (*t, column.values[row])).collect();
            if !samples.is_empty() {
                out.insert(batch.labels(i), samples);
            }
        }
    }
    out
}
