//! How much memory and CPU does it take to merge a day of two-hour blocks?
//!
//! Blocks of targets with 1,000 series of 6 labels (half constant, a quarter counters, a quarter gauges), and of so many
//! series with few rows that the index is most of it; once with one of 25 series deleted in the first half of the day.
//! Prints a Markdown table: memory is what is allocated at most above what the open blocks take, seen each millisecond;
//! CPU is of the merge with the full check of its output, and the rate is per second of CPU. Run with
//! `cargo bench -p promontory-storage --bench merge`, or with parts of names of scenarios after `--`.

#![allow(clippy::print_stdout, reason = "the table is the answer")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use cap::Cap;
use promontory_model::{Cancel, Labels, MatchOp, Matcher, TimeRange, Timestamp};
use promontory_storage::block::{BlockReader, BlockWriter, ColumnInput, GroupInput};
use promontory_storage::clock::ManualClock;
use promontory_storage::compact::compact;
use promontory_storage::ulid::Ulid;
use promontory_storage::vfs::{RealVfs, Vfs};
use promontory_storage::{Db, DbOptions};

#[global_allocator]
static ALLOCATOR: Cap<mimalloc::MiMalloc> = Cap::new(mimalloc::MiMalloc, usize::MAX);

const SERIES: usize = 1000;
const BLOCKS: u64 = 12;
const TWO_HOURS_MS: i64 = 2 * 3_600_000;

fn labels(target: usize, series: usize) -> Labels {
    Labels::from_pairs([
        ("__name__", format!("metric_{}_total", series / 4)),
        ("instance", format!("10.{}.{}.1:9100", target / 256, target % 256)),
        ("job", "node".to_owned()),
        ("mode", format!("mode-{}", series % 4)),
        ("namespace", format!("team-{}", target % 50)),
        ("pod", format!("exporter-{target:05}-x7f")),
    ])
}

fn value(series: usize, row: usize) -> f64 {
    let noise = ((row * 7919 + series * 104_729) % 97) as f64;
    match series % 4 {
        0 | 1 => (series * 3) as f64,
        2 => (row * series) as f64 + noise,
        _ => noise * 4096.0,
    }
}

fn write(vfs: &Arc<dyn Vfs>, dir: &Path, n: u64, targets: usize, rows: usize) {
    let columns: Vec<Vec<f64>> = (0..SERIES).map(|s| (0..rows).map(|row| value(s, row)).collect()).collect();
    let mut writer = BlockWriter::new(Arc::clone(vfs), dir, Ulid::new(n, 0), 1).expect("a writable folder");
    let step = TWO_HOURS_MS / rows as i64;
    for target in 0..targets {
        let start = n as i64 * TWO_HOURS_MS + target as i64 % step;
        let timestamps: Vec<i64> = (0..rows as i64).map(|row| start + row * step).collect();
        let columns = columns.iter().enumerate();
        let columns: Vec<ColumnInput<'_>> = columns
            .map(|(s, values)| ColumnInput { labels: labels(target, s), values, presence: None, histograms: &[] })
            .collect();
        writer.add_group(&GroupInput { timestamps: &timestamps, columns: &columns }).expect("a group of series");
    }
    writer.finish().expect("a writable folder");
}

fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("this is Linux");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a name in brackets").split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|f| f.parse::<u64>().expect("a number")).sum();
    ticks as f64 / 100.0
}

/// Does `work`; gives the most memory that it had allocated at once, and its CPU time.
fn watch(work: impl FnOnce()) -> (usize, f64) {
    let (before, peak, is_done) = (ALLOCATOR.allocated(), AtomicUsize::new(0), AtomicBool::new(false));
    let cpu = cpu_s();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                peak.fetch_max(ALLOCATOR.allocated(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        work();
        is_done.store(true, Ordering::Relaxed);
    });
    (peak.into_inner().saturating_sub(before), cpu_s() - cpu)
}

fn scenario(name: &str, targets: usize, rows: usize, has_deleted: bool) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dir = folder.path().join("blocks");
    let vfs: Arc<dyn Vfs> = Arc::new(RealVfs);
    vfs.create_dir_all(&dir).expect("a writable folder");
    for n in 0..BLOCKS {
        write(&vfs, &dir, n, targets, rows);
    }
    if has_deleted {
        let options = DbOptions { commit_interval_ms: None, ..DbOptions::server() };
        let clock = Arc::new(ManualClock::new(Timestamp(0)));
        let (db, _) = Db::open(Arc::clone(&vfs), clock, folder.path(), options).expect("a database");
        let some = Matcher::new("__name__", MatchOp::Regex, "metric_.*[05]_total").expect("an expression");
        let some_pods = Matcher::new("pod", MatchOp::Regex, "exporter-.*[05]-x7f").expect("an expression");
        let range = TimeRange::new(0, BLOCKS as i64 * TWO_HOURS_MS / 2);
        db.delete_series(&[vec![some, some_pods]], range).expect("the deletion is stored");
    }
    let open = |n| BlockReader::open(&*vfs, &dir.join(Ulid::new(n, 0).to_string())).expect("written just now");
    let inputs: Vec<Arc<BlockReader>> = (0..BLOCKS).map(open).collect();
    let samples: u64 = inputs.iter().map(|b| b.meta().n_samples).sum();
    let bytes: u64 = inputs.iter().map(|b| b.meta().bytes()).sum();
    let mut merged = None;
    let (peak, cpu) = watch(|| {
        merged = Some(compact(&vfs, &dir, &inputs, Ulid::new(99, 0), &Cancel::new()).expect("whole inputs"));
    });
    let merged = merged.expect("set above");
    let output = merged.meta.expect("samples are left").bytes();
    println!(
        "| {name} | {} | {:.0} | {:.1} | {:.1} | {:.0} | {:.0} | {:.2} | {:.0} | {:.0} |",
        targets * SERIES,
        samples as f64 / 1e6,
        bytes as f64 / 1e6,
        output as f64 / 1e6,
        merged.n_copied as f64 / 1e3,
        merged.n_rewritten as f64 / 1e3,
        cpu,
        peak as f64 / 1e6,
        samples as f64 / 1e6 / cpu,
    );
}

fn main() {
    let only: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    println!(
        "| 12 blocks of | series | M samples | MB in | MB out | k copied | k anew | CPU s | MB at most | M samples/s |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for (name, targets, rows, has_deleted) in [
        ("20 k series, 480 rows", 20, 480, false),
        ("20 k series, 480 rows, deletions", 20, 480, true),
        ("200 k series, 20 rows", 200, 20, false),
        ("1 M series, 4 rows", 1000, 4, false),
    ] {
        if only.is_empty() || only.iter().any(|part| name.contains(part.as_str())) {
            scenario(name, targets, rows, has_deleted);
        }
    }
}
