//! How fast are blocks of Prometheus written, read in place and imported, how large are they, and in how much memory?
//!
//! 100 targets of 1,000 series (40 % constant, 40 % counters, 15 % gauges of hundredths, 5 % fractions that do not
//! compress) with a row each 15 s for two hours are exported from the head; the blocks are read in place through
//! queries, imported, and read again as blocks of the own format. Prints a Markdown table: CPU time of all threads,
//! samples per second of it, bytes of the result, and the most bytes that were allocated at once beyond those at the
//! start of the step. Run with `cargo bench -p promontory-storage --bench prometheus`.

#![allow(clippy::print_stdout, reason = "the table is the answer")]

use std::path::Path;
use std::sync::Arc;

use cap::Cap;
use promontory_model::{Cancel, Columns, Labels, Queryable as _, Select, TimeRange, Timestamp};
use promontory_storage::clock::ManualClock;
use promontory_storage::prometheus::{ExportOptions, Exported, Progress, export, import};
use promontory_storage::vfs::{RealVfs, Vfs};
use promontory_storage::{Db, DbOptions};

#[global_allocator]
static ALLOCATOR: Cap<mimalloc::MiMalloc> = Cap::new(mimalloc::MiMalloc, usize::MAX);

const TARGETS: usize = 100;
const SERIES: usize = 1000;
const ROWS: usize = 480;
const START_MS: i64 = 1_699_999_200_000;
const STEP_MS: i64 = 15_000;
/// Values that are read at once.
const VALUES: usize = 1 << 20;

fn value(series: usize, row: usize) -> f64 {
    let noise = (series * 7919 + row * 104_729).wrapping_mul(2_654_435_761) >> 7;
    match series % 20 {
        0..8 => (series * 3) as f64,
        8..16 => (row * (series % 50 + 1) * 10) as f64 + (noise % 7) as f64,
        16..19 => (noise % 10_000) as f64 / 100.0,
        _ => (noise as f64 / 3.0).sqrt(),
    }
}

fn open(dir: &Path) -> Db {
    let clock = Arc::new(ManualClock::new(Timestamp(START_MS)));
    let options = DbOptions { commit_interval_ms: None, ..DbOptions::server() };
    Db::open(Arc::new(RealVfs), clock, dir, options).expect("the folder opens").0
}

fn labels(target: usize, series: usize) -> Labels {
    Labels::from_pairs([
        ("__name__", format!("metric_{}_total", series / 4)),
        ("instance", format!("10.0.0.{target}:9100")),
        ("job", "node".to_owned()),
        ("mode", format!("mode-{}", series % 4)),
        ("pod", format!("exporter-{target:05}-x7f")),
    ])
}

fn fill(db: &Db) {
    let mut targets = Vec::new();
    for target in 0..TARGETS {
        let mut writer = db.writer();
        let refs: Vec<_> =
            (0..SERIES).map(|s| writer.resolve(&labels(target, s)).expect("room for a series")).collect();
        targets.push((writer, refs));
    }
    let mut samples = Vec::new();
    for row in 0..ROWS {
        for (target, (writer, refs)) in targets.iter_mut().enumerate() {
            samples.clear();
            samples.extend(refs.iter().enumerate().map(|(s, r)| (*r, value(s + target, row))));
            let t = START_MS + row as i64 * STEP_MS + target as i64 * 100;
            let appended = writer.append(Timestamp(t), &samples).expect("the store is writable");
            assert_eq!(appended.refused(), 0);
        }
    }
}

/// Decodes everything; gives the number of samples.
fn read(db: &Db) -> u64 {
    let (cancel, range) = (Cancel::new(), TimeRange::ALL);
    let snapshot = db.snapshot().expect("a snapshot");
    let found = snapshot.select(&Select { range, matchers: &[], cancel: &cancel }).expect("a selection");
    let mut columns = Columns::default();
    let mut n = 0;
    for batch in found.batches {
        let step = (VALUES / batch.rows_max(range).max(1)).max(1);
        for start in (0..batch.n_series()).step_by(step) {
            let part = start..(start + step).min(batch.n_series());
            batch.read(part.clone(), range, &mut columns).expect("samples");
            n += (part.len() * columns.n_rows()) as u64;
        }
    }
    n
}

fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("this is Linux");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a name in brackets").split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|f| f.parse::<u64>().expect("a number")).sum();
    ticks as f64 / 100.0
}

fn bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).expect("a folder").flatten();
    entries.map(|e| if e.path().is_dir() { bytes(&e.path()) } else { e.metadata().map_or(0, |m| m.len()) }).sum()
}

/// Runs `work`, which gets a place to note the memory in use and gives samples and bytes of its result.
fn measure(name: &str, work: impl FnOnce(&mut dyn FnMut()) -> (u64, Option<u64>)) {
    let (before, cpu) = (ALLOCATOR.allocated(), cpu_s());
    let mut most = before;
    let (n, size) = work(&mut || most = most.max(ALLOCATOR.allocated()));
    let cpu = cpu_s() - cpu;
    let size = size.map_or(String::new(), |b| format!("{:.2}", b as f64 / n as f64));
    println!(
        "| {name} | {:.1} M | {cpu:.2} | {:.1} M | {size} | {:.0} |",
        n as f64 / 1e6,
        n as f64 / cpu / 1e6,
        (most - before) as f64 / 1e6
    );
}

fn main() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| dir.path().join(name);
    println!("| step | samples | CPU s | samples/s | bytes/sample | allocated MB |\n|---|---|---|---|---|---|");
    let db = open(&at("first"));
    fill(&db);
    measure("read the head", |_| (read(&db), None));
    let vfs: Arc<dyn Vfs> = Arc::new(RealVfs);
    let labels = Labels::empty();
    measure("export", |note| {
        let options =
            ExportOptions { range: TimeRange::ALL, matchers: &[], block_ms: 7_200_000, external_labels: &labels };
        let blocks: Vec<Exported> =
            export(&vfs, &db, &at("exported"), &options, &mut |_| note(), &Cancel::new()).expect("an export");
        (blocks.iter().map(|b| b.n_samples).sum(), Some(blocks.iter().map(|b| b.bytes).sum()))
    });
    drop(db);
    let db = open(&at("exported"));
    measure("read in place", |_| (read(&db), None));
    drop(db);
    let db = open(&at("imported"));
    measure("import", |note| {
        let mut note = |_: Progress| note();
        let done = import(&db, &at("exported"), &mut note, &Cancel::new()).expect("an import");
        (done.n_samples, Some(bytes(&at("imported").join("blocks"))))
    });
    measure("read what was imported", |_| (read(&db), None));
    measure("import again, all known", |note| {
        let mut note = |_: Progress| note();
        let done = import(&db, &at("exported"), &mut note, &Cancel::new()).expect("an import");
        assert_eq!(done.n_samples, 0);
        (done.n_duplicates, None)
    });
}
