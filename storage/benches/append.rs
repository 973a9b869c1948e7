//! How fast is a scrape appended, how much of the WAL does it take, and how long does a restart take?
//!
//! Targets of 1,000 series (half constant, a quarter counters, a quarter gauges), a row each 15 s, on the file system of
//! the temporary folder; each row is committed, that is, handed to the operating system. Restarts open what a process
//! left that died with 200 targets, 16 of whose rows are sealed and 9 are not. "Late" is the history of 25 minutes of a
//! target as senders catch up with it: all series time by time, or one series after the other. Run with
//! `cargo bench -p promontory-storage --bench append`; bytes of WAL per sample are printed first. Throughput is samples,
//! or series, per second.

#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::print_stderr, reason = "sizes are part of the answer")]

use std::path::Path;
use std::process::{Command, abort};
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use promontory_model::{Labels, Timestamp};
use promontory_storage::clock::SystemClock;
use promontory_storage::vfs::RealVfs;
use promontory_storage::{Db, DbOptions, GroupWriter, SeriesRef};

const SERIES: usize = 1000;
/// Targets that a restart finds.
const TARGETS: usize = 200;
/// Rows before the checkpoint, of which 16 are sealed, and after it.
const ROWS: [usize; 2] = [17, 8];
/// Rows over which the WAL is measured: 2 h.
const WAL_ROWS: usize = 480;
const START_MS: i64 = 1_700_000_000_000;
/// Rows of a history, within the time that samples may be late.
const HISTORY_ROWS: usize = 100;
/// The folder in which a process is to die.
const DIE_IN: &str = "PROMONTORY_BENCH_DIE_IN";

fn value(series: usize, row: usize) -> f64 {
    let noise = ((row * 7919 + series * 104_729) % 97) as f64;
    match series % 4 {
        0 | 1 => (series * 3) as f64,
        2 => (row * series) as f64 + noise,
        _ => noise * 4096.0,
    }
}

fn labels(target: usize, series: usize) -> Labels {
    Labels::from_pairs([
        ("__name__", format!("metric_{}_total", series / 4)),
        ("instance", format!("10.0.{}.{}:9100", target / 256, target % 256)),
        ("job", "node".to_owned()),
        ("mode", format!("mode-{}", series % 4)),
        ("namespace", format!("team-{}", target % 5)),
        ("pod", format!("exporter-{target:05}-x7f")),
    ])
}

fn open(dir: &Path) -> Db {
    let options = DbOptions { checkpoint_ms: 0, ..DbOptions::server() };
    let (db, _) = Db::open(Arc::new(RealVfs), Arc::new(SystemClock::new()), dir, options).expect("the folder opens");
    db
}

/// One scraped target.
struct Target {
    writer: GroupWriter,
    samples: Vec<(SeriesRef, f64)>,
    row: usize,
}

impl Target {
    fn new(db: &Db, target: usize) -> Self {
        let mut writer = db.writer();
        let samples =
            (0..SERIES).map(|s| (writer.resolve(&labels(target, s)).expect("room for a series"), 0.0)).collect();
        Self { writer, samples, row: 0 }
    }

    fn append(&mut self) {
        for (series, sample) in self.samples.iter_mut().enumerate() {
            sample.1 = value(series, self.row);
        }
        let t = START_MS + self.row as i64 * 15_000;
        let appended = self.writer.append(Timestamp(t), &self.samples).expect("the store is writable");
        assert_eq!(appended.accepted, SERIES as u64);
        self.row += 1;
    }
}

/// Fills a folder and ends this process without a word to the database.
fn die_in(dir: &Path) -> ! {
    let db = open(dir);
    let mut targets: Vec<Target> = (0..TARGETS).map(|target| Target::new(&db, target)).collect();
    for rows in ROWS {
        for _ in 0..rows {
            targets.iter_mut().for_each(Target::append);
            db.commit().expect("the store is writable");
        }
        if rows == ROWS[0] {
            db.tick().expect("the store is writable");
        }
    }
    abort()
}

fn appends(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let db = open(folder.path());
    let mut target = Target::new(&db, 0);
    db.commit().expect("the store is writable");
    let before = db.status().wal_written_bytes;
    for _ in 0..WAL_ROWS {
        target.append();
        db.commit().expect("the store is writable");
    }
    let bytes = db.status().wal_written_bytes - before;
    eprintln!("wal: {:.3} bytes per sample", bytes as f64 / (WAL_ROWS * SERIES) as f64);
    let mut group = c.benchmark_group("append");
    group.throughput(Throughput::Elements(SERIES as u64));
    group.bench_function("row", |b| b.iter(|| target.append()));
    group.bench_function("row and commit", |b| {
        b.iter(|| {
            target.append();
            db.commit().expect("the store is writable");
        });
    });
    group.finish();
}

/// Appends of [`HISTORY_ROWS`] rows of a target: those of the first series, of the second, and so on.
fn late(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let db = open(folder.path());
    let mut n_targets = 0;
    let mut target = || {
        n_targets += 1;
        Target::new(&db, n_targets)
    };
    let mut group = c.benchmark_group("late");
    group.sample_size(10);
    group.throughput(Throughput::Elements((SERIES * HISTORY_ROWS) as u64));
    let sample = |target: &Target, series: usize, row: usize| {
        let t = Timestamp(START_MS + row as i64 * 15_000);
        (target.samples[series].0, t, value(series, row))
    };
    let run = |target: &mut Target, requests: &mut dyn Iterator<Item = Vec<(SeriesRef, Timestamp, f64)>>| {
        let mut n = 0;
        for request in requests {
            n += target.writer.append_at(&request).expect("the store is writable").accepted;
        }
        db.commit().expect("the store is writable");
        assert_eq!(n, (SERIES * HISTORY_ROWS) as u64);
    };
    group.bench_function("time by time", |b| {
        let one = |mut target: Target| {
            let samples = target.samples.len();
            let row = |row| (0..samples).map(|series| sample(&target, series, row)).collect();
            let rows: Vec<_> = (0..HISTORY_ROWS).map(row).collect();
            run(&mut target, &mut rows.into_iter());
            target
        };
        b.iter_batched(&mut target, one, BatchSize::PerIteration);
    });
    group.bench_function("series by series", |b| {
        let one = |mut target: Target| {
            let of = |series| (0..HISTORY_ROWS).map(|row| sample(&target, series, row)).collect();
            let all: Vec<_> = (0..SERIES).map(of).collect();
            run(&mut target, &mut all.into_iter());
            target
        };
        b.iter_batched(&mut target, one, BatchSize::PerIteration);
    });
    group.finish();
}

fn restarts(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let this = std::env::current_exe().expect("this program has a path");
    let end = Command::new(this).env(DIE_IN, folder.path()).status().expect("this program starts");
    assert!(!end.success(), "it was to die");
    let n_series = (TARGETS * SERIES) as u64;
    let mut group = c.benchmark_group("restart");
    group.sample_size(10);
    group.throughput(Throughput::Elements(n_series));
    group.bench_function("after death", |b| {
        b.iter_batched(|| (), |()| open(folder.path()), BatchSize::PerIteration);
    });
    group.finish();
    assert_eq!(open(folder.path()).status().head_series, n_series);
}

fn all(c: &mut Criterion) {
    if let Some(dir) = std::env::var_os(DIE_IN) {
        die_in(Path::new(&dir));
    }
    appends(c);
    late(c);
    restarts(c);
}

criterion_group!(benches, all);
criterion_main!(benches);
