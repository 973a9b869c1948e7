//! How much the main path carries: samples per second from a writer into the database on disk, and from there
//! through the engine into an answer.
//!
//! The data is a fleet of 60 targets of 1,000 counters each, a row of every target each 15 s. A quarter of the series
//! are `m_total`, with a label `x` of eight values; counters rise by small whole numbers, and some stand still.
//!
//! `append` asks what a round of scrapes costs once it is parsed: 60 rows of 1,000 samples, the commit and the tick of
//! the maintenance thread, so that sealing and cutting blocks are paid for. `rate` asks how many stored samples a
//! dashboard query reads per second: 15,000 series, 6 h at steps of 60 s, most of it in blocks and the rest in the
//! head. `count` asks what an answer over every series costs at one time: 60,000 of them.
//! Run with `cargo bench --bench main_path`; it takes about a minute and 500 MB of the temporary folder.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use promontory_model::{Cancel, Labels, Timestamp};
use promontory_promql::engine::{Engine, EngineOptions};
use promontory_promql::parser::parse;
use promontory_promql::value::RangeSpec;
use promontory_storage::clock::{Clock, ManualClock};
use promontory_storage::vfs::RealVfs;
use promontory_storage::{Db, DbOptions, GroupWriter, SeriesRef};

const TARGETS: usize = 60;
const SERIES: usize = 1_000;
const INTERVAL_MS: i64 = 15_000;
/// 6 h, and what the first step looks back on.
const ROWS: usize = 6 * 60 * 4 + 20;
/// A multiple of the length of a block.
const START_MS: i64 = 1_699_999_200_000;

struct Target {
    writer: GroupWriter,
    row: Vec<(SeriesRef, f64)>,
}

impl Target {
    fn new(db: &Db, target: usize) -> Self {
        let mut writer = db.writer();
        let instance = format!("10.0.0.{target}:9100");
        let mut resolve = |i: usize| {
            let name = ["m_total", "requests_total", "tokens_total", "seconds_total"][i % 4];
            let (mode, x) = (format!("mode-{}", i / 32), format!("{}", i / 4 % 8));
            let labels = [("__name__", name), ("instance", &instance), ("job", "node"), ("mode", &mode), ("x", &x)];
            writer.resolve(&Labels::from_pairs(labels)).expect("the head takes all series of the bench")
        };
        let row = (0..SERIES).map(|i| (resolve(i), (i * 1_000) as f64)).collect();
        Self { writer, row }
    }

    fn append(&mut self, t: Timestamp) {
        let round = t.ms() / INTERVAL_MS;
        for (i, (_, value)) in self.row.iter_mut().enumerate() {
            *value += ((round * (1 + i as i64 % 13)) >> 2 & 7) as f64 * (i % 5) as f64;
        }
        let appended = self.writer.append(t, &self.row).expect("the database takes writes");
        assert_eq!(appended.accepted, SERIES as u64);
    }
}

struct Fleet {
    // Before the folder, which is removed last.
    targets: Vec<Target>,
    db: Db,
    clock: Arc<ManualClock>,
    _dir: tempfile::TempDir,
}

impl Fleet {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("the temporary folder is writable");
        let clock = Arc::new(ManualClock::new(Timestamp(START_MS)));
        // All that the queries need, and not all that a long run appends.
        let options = DbOptions { retention_ms: Some(12 * 3_600_000), ..DbOptions::server() };
        let (db, _) = Db::open(Arc::new(RealVfs), clock.clone(), dir.path(), options).expect("a new folder opens");
        let targets = (0..TARGETS).map(|i| Target::new(&db, i)).collect();
        Self { targets, db, clock, _dir: dir }
    }

    /// One scrape of every target, 15 s after the last.
    fn round(&mut self) {
        self.clock.advance(INTERVAL_MS);
        let now = self.clock.now();
        for target in &mut self.targets {
            target.append(now);
        }
        self.db.commit().expect("the disk takes the rows");
        self.db.tick().expect("the disk takes the blocks");
    }
}

fn append(c: &mut Criterion) {
    let mut fleet = Fleet::new();
    let mut group = c.benchmark_group("append");
    group.throughput(Throughput::Elements((TARGETS * SERIES) as u64)).sample_size(20);
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(6));
    group.bench_function("round", |b| b.iter(|| fleet.round()));
    group.finish();
}

fn engine(threads: usize) -> Engine {
    Engine::new(EngineOptions {
        lookback_ms: 300_000,
        max_samples: 50_000_000,
        memory_bytes_max: 1 << 30,
        subquery_step_ms: 60_000,
        delayed_name_removal: false,
        threads,
    })
}

fn queries(c: &mut Criterion) {
    let mut fleet = Fleet::new();
    for _ in 0..ROWS {
        fleet.round();
    }
    let end_ms = fleet.clock.now().ms();
    let cancel = Cancel::new();

    let text = "sum by (x) (rate(m_total[5m]))";
    let expr = parse(text).expect("the query is written here");
    let range = RangeSpec { start_ms: end_ms - 6 * 3_600_000, end_ms, step_ms: 60_000 };
    let mut group = c.benchmark_group("rate");
    group.throughput(Throughput::Elements((TARGETS * SERIES / 4 * ROWS) as u64)).sample_size(10);
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(6));
    for threads in [1, 2] {
        let engine = engine(threads);
        group.bench_function(BenchmarkId::new("threads", threads), |b| {
            b.iter(|| black_box(engine.range(&fleet.db, &expr, range, &cancel).expect("the query has a value")));
        });
    }
    group.finish();

    let text = "count({__name__=~\".+\"})";
    let expr = parse(text).expect("the query is written here");
    let mut group = c.benchmark_group("count");
    group.throughput(Throughput::Elements((TARGETS * SERIES) as u64)).sample_size(20);
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(4));
    let engine = engine(1);
    group.bench_function("instant", |b| {
        b.iter(|| black_box(engine.instant(&fleet.db, &expr, end_ms, &cancel).expect("the query has a value")));
    });
    group.finish();
}

criterion_group!(benches, append, queries);
criterion_main!(benches);
