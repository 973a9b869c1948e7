//! A destination at work inside the process: a database, a server that keeps what it takes and fails when told to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use promontory_config::http_client::HttpClientConfig;
use promontory_config::remote::QueueConfig;
use promontory_model::Timestamp;
use promontory_storage::vfs::SimVfs;
use promontory_storage::{DbOptions, Exemplar, GroupWriter, SeriesRef};
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::interned::tests::messages as second;
use super::super::tests::messages as first;
use super::*;
use crate::client::{Connecting, Connector, Stream};

/// Series → its samples as they arrived: time and value, or count of observations.
type Taken = BTreeMap<String, Vec<(i64, f64)>>;

/// Status and further header lines.
type Answer = (u16, &'static str);

const OK: Answer = (204, "");
const START_MS: i64 = 1_700_000_000_000;

/// The clock of the runtime, which stands still while there is work.
#[derive(Debug)]
struct RuntimeClock(tokio::time::Instant);

impl Clock for RuntimeClock {
    fn now(&self) -> Timestamp {
        Timestamp(START_MS + self.0.elapsed().as_millis() as i64)
    }

    fn monotonic_ns(&self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
}

type Judge = Box<dyn Fn(usize, &Taken) -> Answer + Send + Sync>;

/// A server of remote write.
struct Sink {
    taken: Mutex<Taken>,
    exemplars: AtomicUsize,
    families: Mutex<BTreeSet<String>>,
    heads: Mutex<Vec<String>>,
    judge: Mutex<Judge>,
    n_requests: AtomicUsize,
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sink")
    }
}

fn text(labels: &[(&str, &str)]) -> String {
    labels.iter().map(|(n, v)| format!("{n}={v} ")).collect()
}

impl Sink {
    fn new() -> Arc<Self> {
        let judge: Judge = Box::new(|_, _| OK);
        Arc::new(Self {
            taken: Mutex::default(),
            exemplars: AtomicUsize::new(0),
            families: Mutex::default(),
            heads: Mutex::default(),
            judge: Mutex::new(judge),
            n_requests: AtomicUsize::new(0),
        })
    }

    fn judge(&self, judge: impl Fn(usize, &Taken) -> Answer + Send + Sync + 'static) {
        *self.judge.lock().unwrap() = Box::new(judge);
        self.n_requests.store(0, Ordering::SeqCst);
    }

    fn answer(&self, head: &str, body: &[u8]) -> String {
        let bytes = snap::raw::Decoder::new().decompress_vec(body).unwrap();
        let mut request = Taken::new();
        let mut n_exemplars = 0;
        if head.contains("proto=io.prometheus.write.v2.request") {
            let message = second::Request::decode(bytes.as_slice()).unwrap();
            for series in message.timeseries {
                let symbol = |i: &u32| message.symbols[*i as usize].as_str();
                let labels: Vec<_> = series.labels_refs.chunks(2).map(|p| (symbol(&p[0]), symbol(&p[1]))).collect();
                let into = request.entry(text(&labels)).or_default();
                into.extend(series.samples.iter().map(|s| (s.timestamp, s.value)));
                into.extend(series.histograms.iter().map(|h| (h.timestamp, h.sum)));
                n_exemplars += series.exemplars.len();
                if let Some(metadata) = series.metadata {
                    self.families.lock().unwrap().insert(message.symbols[metadata.help_ref as usize].clone());
                }
            }
        } else {
            let message = first::WriteRequest::decode(bytes.as_slice()).unwrap();
            for series in message.timeseries {
                let labels: Vec<_> = series.labels.iter().map(|l| (l.name.as_str(), l.value.as_str())).collect();
                let into = request.entry(text(&labels)).or_default();
                into.extend(series.samples.iter().map(|s| (s.timestamp, s.value)));
                into.extend(series.histograms.iter().map(|h| (h.timestamp, h.sum)));
                n_exemplars += series.exemplars.len();
            }
            let told: ToldFamilies = ToldFamilies::decode(bytes.as_slice()).unwrap();
            let help = told.families.iter().filter_map(|f| super::super::wire::family(f)).map(|(_, m)| m.help);
            self.families.lock().unwrap().extend(help);
        }
        let n = self.n_requests.fetch_add(1, Ordering::SeqCst);
        let (status, headers) = (self.judge.lock().unwrap())(n, &request);
        self.heads.lock().unwrap().push(head.to_owned());
        let n_samples: usize = request.values().map(Vec::len).sum();
        if status == 204 {
            let mut taken = self.taken.lock().unwrap();
            for (name, samples) in request {
                taken.entry(name).or_default().extend(samples);
            }
            self.exemplars.fetch_add(n_exemplars, Ordering::SeqCst);
        }
        let written = "x-prometheus-remote-write";
        format!(
            "HTTP/1.1 {status} X\r\n{headers}{written}-samples-written: {n_samples}\r\n\
             {written}-histograms-written: 0\r\n{written}-exemplars-written: {n_exemplars}\r\ncontent-length: 0\r\n\r\n"
        )
    }

    fn n_samples(&self) -> usize {
        self.taken.lock().unwrap().values().map(Vec::len).sum()
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct ToldFamilies {
    #[prost(bytes = "vec", repeated, tag = "3")]
    families: Vec<Vec<u8>>,
}

/// Connects to the sink, whatever the host.
#[derive(Debug)]
struct ToSink(Arc<Sink>);

impl Connector for ToSink {
    fn connect<'a>(&'a self, _host: &'a str, _port: u16) -> Connecting<'a> {
        let sink = self.0.clone();
        Box::pin(async move {
            let (near, mut far) = tokio::io::duplex(1 << 20);
            tokio::spawn(async move {
                loop {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = far.read_u8().await else { return };
                        head.push(byte);
                    }
                    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
                    let len = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
                    let mut body = vec![0; len.parse().unwrap()];
                    far.read_exact(&mut body).await.unwrap();
                    let answer = sink.answer(&head, &body);
                    // Status 0: the connection ends without an answer.
                    if answer.starts_with("HTTP/1.1 0 ") || far.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
            Ok(Box::new(near) as Box<dyn Stream>)
        })
    }
}

/// A server that sends to the sink.
struct World {
    vfs: SimVfs,
    clock: Arc<RuntimeClock>,
    config: RemoteWriteConfig,
    options: DbOptions,
    db: Option<Db>,
    writer: Option<(GroupWriter, Vec<SeriesRef>)>,
    sink: Arc<Sink>,
    running: Option<(watch::Sender<bool>, JoinHandle<()>)>,
    stats: Arc<Stats>,
    appended: Taken,
}

const N_SERIES: usize = 5;

fn config(message: WriteMessage) -> RemoteWriteConfig {
    let queue = QueueConfig { max_samples_per_send: 7, max_shards: 4, ..QueueConfig::default() };
    let text = "remote_write: [{url: 'http://sink/w'}]";
    let config = promontory_config::parse(text, Path::new("x.yml")).unwrap().remote_write.remove(0);
    RemoteWriteConfig { message, queue, http: HttpClientConfig::default(), send_exemplars: true, ..config }
}

impl World {
    fn new(message: WriteMessage) -> Self {
        let mut world = Self {
            vfs: SimVfs::new(),
            clock: Arc::new(RuntimeClock(tokio::time::Instant::now())),
            config: config(message),
            options: DbOptions {
                commit_interval_ms: None,
                checkpoint_ms: 1000,
                rows_max: 4,
                seal_age_ms: 1000,
                block_ms: 60_000,
                out_of_order_window_ms: 10_000,
                ..DbOptions::server()
            },
            db: None,
            writer: None,
            sink: Sink::new(),
            running: None,
            stats: Arc::default(),
            appended: Taken::new(),
        };
        world.vfs.create_dir_all(Path::new("remote_write")).unwrap();
        world.start();
        world
    }

    fn labels(i: usize) -> Labels {
        Labels::from_pairs([("__name__", "a"), ("i", &i.to_string())])
    }

    fn db(&self) -> &Db {
        self.db.as_ref().unwrap()
    }

    /// Opens the database and begins to send.
    fn start(&mut self) {
        if self.db.is_none() {
            let vfs = Arc::new(self.vfs.clone());
            let (db, _) = Db::open(vfs, self.clock.clone(), Path::new("data"), self.options.clone()).unwrap();
            let mut writer = db.writer();
            let refs = (0..N_SERIES).map(|i| writer.resolve(&Self::labels(i)).unwrap()).collect();
            self.writer = Some((writer, refs));
            self.db = Some(db);
        }
        let config = Arc::new(self.config.clone());
        let (stop, stopping) = watch::channel(false);
        let offer = Offer { accept: "*/*".to_owned(), gzip: false, body_bytes_max: Some(ANSWER_BYTES_MAX) };
        let destination = Destination {
            key: "sink".to_owned(),
            config: config.clone(),
            url: Url::parse(&config.url).unwrap(),
            job: JobClient::new(config.http.clone(), offer, Arc::new(ToSink(self.sink.clone()))),
            authorizer: None,
            clock: self.clock.clone(),
            stats: self.stats.clone(),
            stop: stopping,
        };
        let file = PositionFile::new(Arc::new(self.vfs.clone()), Path::new("remote_write"), "sink");
        let external = Labels::from_pairs([("cl", "x")]);
        let (db, stats) = (self.db().clone(), self.stats.clone());
        let queue = Queue::open(db, self.clock.clone(), config, external, "sink".to_owned(), file, stats).unwrap();
        self.running = Some((stop, tokio::spawn(run(destination, queue))));
    }

    /// Ends the task as a kill does: nothing is waited for.
    async fn kill(&mut self) {
        let (_, task) = self.running.take().unwrap();
        task.abort();
        let _ = task.await;
    }

    async fn stop(&mut self) {
        let (stop, task) = self.running.take().unwrap();
        stop.send(true).unwrap();
        task.await.unwrap();
    }

    /// Appends a row now.
    async fn append(&mut self, n_rows: usize) {
        for _ in 0..n_rows {
            tokio::time::sleep(Duration::from_millis(250)).await;
            let t = self.clock.now();
            let (writer, refs) = self.writer.as_mut().unwrap();
            let row: Vec<_> = refs.iter().enumerate().map(|(i, s)| (*s, (t.0 * 10 + i as i64) as f64)).collect();
            assert_eq!(writer.append(t, &row).unwrap().accepted as usize, N_SERIES);
            for (i, (_, v)) in row.iter().enumerate() {
                let name = text(&[("__name__", "a"), ("cl", "x"), ("i", &i.to_string())]);
                self.appended.entry(name).or_default().push((t.0, *v));
            }
            self.db().commit().unwrap();
        }
    }

    /// Waits until the sink has as many samples as were appended, or has had time enough.
    async fn settle(&self) {
        let n: usize = self.appended.values().map(Vec::len).sum();
        // Virtual time: a server that fails four of five requests takes some minutes of it.
        for _ in 0..50_000 {
            if self.sink.n_samples() >= n {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    #[track_caller]
    fn check_exact(&self) {
        assert_eq!(*self.sink.taken.lock().unwrap(), self.appended);
    }

    /// Each sample arrived, in order but for repetitions.
    #[track_caller]
    fn check_nothing_lost(&self) {
        let taken = self.sink.taken.lock().unwrap();
        for (name, samples) in &self.appended {
            let got: BTreeSet<i64> = taken[name].iter().map(|s| s.0).collect();
            let lost: Vec<_> = samples.iter().filter(|s| !got.contains(&s.0)).collect();
            assert!(lost.is_empty(), "{name}: {} of {} lost", lost.len(), samples.len());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn samples_arrive_once_and_in_order_whatever_fails() {
    for message in [WriteMessage::First, WriteMessage::Second] {
        let mut w = World::new(message);
        w.append(20).await;
        w.settle().await;
        w.check_exact();
        w.config.queue.retry_on_http_429 = true;
        w.stop().await;
        w.append(10).await;
        w.start();
        w.sink.judge(|n, _| match n % 5 {
            0 => (500, ""),
            1 => (0, ""),
            2 => (429, "Retry-After: 7\r\n"),
            3 => (503, ""),
            _ => OK,
        });
        w.append(30).await;
        w.settle().await;
        w.check_exact();
        let heads = w.sink.heads.lock().unwrap();
        let version = if message == WriteMessage::First { "0.1.0" } else { "2.0.0" };
        assert!(heads.iter().all(|h| h.contains(&format!("x-prometheus-remote-write-version: {version}\r\n"))));
        assert!(heads.iter().all(|h| h.contains("content-encoding: snappy\r\n")));
        assert!(heads.iter().any(|h| h.contains("retry-attempt: 4\r\n")));
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_over_kills_and_restarts() {
    let mut w = World::new(WriteMessage::First);
    for round in 0..12 {
        w.sink.judge(move |n, _| if (n + round) % 3 == 0 { (500, "") } else { OK });
        w.append(5).await;
        w.kill().await;
        w.db().tick().unwrap();
        if round % 3 == 0 {
            w.writer = None;
            w.db = None;
        }
        w.start();
    }
    w.append(3).await;
    w.settle().await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    w.check_nothing_lost();
    let n: usize = w.appended.values().map(Vec::len).sum();
    assert!(w.sink.n_samples() < 2 * n, "{} for {n}", w.sink.n_samples());
}

#[tokio::test(start_paused = true)]
async fn a_refused_request_is_cut_so_that_its_good_part_arrives() {
    let mut w = World::new(WriteMessage::First);
    let bad = text(&[("__name__", "a"), ("cl", "x"), ("i", "3")]);
    let name = bad.clone();
    w.sink.judge(move |_, request| if request.contains_key(&name) { (400, "") } else { OK });
    w.append(10).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let refused = w.appended.remove(&bad).unwrap();
    w.check_exact();
    let figures = stats::figures(&named(&w), None);
    let failed = figures.iter().find(|f| f.name == "prometheus_remote_storage_samples_failed_total").unwrap();
    assert_eq!(failed.values[0].value, refused.len() as f64);
}

fn named(w: &World) -> Vec<Named<'_>> {
    let (capacity, shards_min, shards_max, max_samples_per_send) = (1, 1, 4, 7);
    vec![Named { name: "sink", url: "u", stats: &w.stats, capacity, shards_min, shards_max, max_samples_per_send }]
}

#[tokio::test(start_paused = true)]
async fn where_the_log_is_gone_the_store_is_read() {
    let mut w = World::new(WriteMessage::First);
    w.append(10).await;
    w.settle().await;
    w.stop().await;
    w.append(40).await;
    // Nobody holds the log, and checkpoints remove it.
    w.db().forget_feed("sink");
    for _ in 0..40 {
        w.append(20).await;
        w.db().tick().unwrap();
    }
    assert!(w.db().status().blocks_loaded > 0);
    w.start();
    w.append(3).await;
    w.settle().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    w.check_nothing_lost();
}

#[tokio::test(start_paused = true)]
async fn series_that_the_head_forgot_are_sent_from_blocks() {
    let mut w = World::new(WriteMessage::First);
    w.append(1).await;
    w.settle().await;
    w.stop().await;
    w.append(20).await;
    // These series end; others go on for so long that the head forgets them.
    let mut other = w.db().writer();
    let series = other.resolve(&Labels::from_pairs([("__name__", "b")])).unwrap();
    w.writer = None;
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_secs(40)).await;
        let t = w.clock.now();
        other.append(t, &[(series, 1.0)]).unwrap();
        w.appended.entry(text(&[("__name__", "b"), ("cl", "x")])).or_default().push((t.0, 1.0));
        w.db().commit().unwrap();
        w.db().tick().unwrap();
    }
    assert!(w.db().status().series_removed > 0);
    w.start();
    w.settle().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    w.check_nothing_lost();
}

#[tokio::test(start_paused = true)]
async fn series_are_relabelled_and_metadata_and_exemplars_told() {
    for message in [WriteMessage::First, WriteMessage::Second] {
        let mut w = World::new(message);
        w.stop().await;
        let rules = "[{source_labels: [i, cl], regex: '[34];x', action: drop}, {regex: i, action: labeldrop}, \
                     {source_labels: [__name__], target_label: i, replacement: y}]";
        w.config.write_relabel_configs =
            promontory_config::relabel::parse(rules, promontory_config::scrape::NameValidation::Utf8).unwrap();
        let help = promontory_model::MetricMetadata { help: "Helps.".to_owned(), ..Default::default() };
        w.db().learn_metadata([("a".to_owned(), help)]);
        w.append(2).await;
        let (writer, refs) = w.writer.as_mut().unwrap();
        let exemplar = Exemplar {
            labels: Labels::from_pairs([("trace_id", "x")]),
            value: 1.0,
            timestamp: w.clock.now(),
            has_timestamp: true,
        };
        writer.append_exemplars(vec![(refs[0], exemplar.clone()), (refs[3], exemplar)]).unwrap();
        w.append(1).await;
        w.start();
        tokio::time::sleep(Duration::from_secs(60)).await;
        let taken = w.sink.taken.lock().unwrap().clone();
        let expected = text(&[("__name__", "a"), ("cl", "x"), ("i", "y")]);
        assert_eq!(taken.keys().collect::<Vec<_>>(), [&expected]);
        assert_eq!((taken[&expected].len(), w.sink.exemplars.load(Ordering::SeqCst)), (9, 1));
        assert_eq!(*w.sink.families.lock().unwrap(), BTreeSet::from(["Helps.".to_owned()]));
    }
}

#[test]
fn series_of_one_target_go_by_one_shard() {
    let hasher = RandomState::new();
    let of = |pairs: &[(&str, &str)]| shard_hash(&hasher, &Labels::from_pairs(pairs.iter().copied()));
    let target = [("job", "j"), ("instance", "i")];
    let a = [&target[..], &[("__name__", "a")]].concat();
    let b = [&target[..], &[("__name__", "b"), ("x", "y")]].concat();
    assert_eq!(of(&a), of(&b));
    assert_ne!(of(&a), of(&[("job", "j"), ("instance", "other"), ("__name__", "a")]));
    // Without a target each series goes for itself.
    assert_ne!(of(&[("__name__", "a"), ("x", "y")]), of(&[("__name__", "b"), ("x", "y")]));
}
