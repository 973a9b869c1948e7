//! What does it take to find series, label values and names among a million series?
//!
//! 1,000 targets of 1,000 series, 250 metrics, one label (`id`) with another value for each series: once all in the
//! head, once all in a block. CPU time of the asking thread, the mean of several runs, per answer and per series or
//! value that answers. Run with `cargo bench -p promontory-storage --bench index`; `INDEX_BENCH_TARGETS` changes the
//! number of targets.

#![allow(clippy::print_stdout, reason = "the table is the answer")]

use std::path::Path;
use std::sync::Arc;

use promontory_model::{Cancel, Labels, MatchOp, Matcher, Queryable as _, Select, Snapshot, TimeRange, Timestamp};
use promontory_storage::block::{BlockWriter, ColumnInput, GroupInput};
use promontory_storage::clock::SystemClock;
use promontory_storage::ulid::Ulid;
use promontory_storage::vfs::{RealVfs, Vfs};
use promontory_storage::{Db, DbOptions};

const SERIES: usize = 1000;
const START_MS: i64 = 1_700_000_000_000;
const MEASURED_NS: u64 = 200_000_000;
const RUNS_MAX: u32 = 10_000;

fn labels(target: usize, series: usize) -> Labels {
    // Scattered, so that neighbours in the dictionary are not neighbours in the block.
    let id = ((target * SERIES + series) as u32).wrapping_mul(2_654_435_761);
    Labels::from_pairs([
        ("__name__", format!("metric_{}_total", series / 4)),
        ("id", format!("{id:08x}-id")),
        ("instance", format!("10.0.{}.{}:9100", target / 256, target % 256)),
        ("job", "node".to_owned()),
        ("mode", format!("mode-{}", series % 4)),
        ("namespace", format!("team-{}", target % 5)),
        ("pod", format!("exporter-{target:05}-x7f")),
    ])
}

fn open(dir: &Path) -> Db {
    let (db, _) =
        Db::open(Arc::new(RealVfs), Arc::new(SystemClock::new()), dir, DbOptions::server()).expect("the folder opens");
    db
}

fn head(dir: &Path, targets: usize) -> Db {
    let db = open(dir);
    for target in 0..targets {
        let mut writer = db.writer();
        let samples: Vec<_> =
            (0..SERIES).map(|s| (writer.resolve(&labels(target, s)).expect("room for a series"), 1.0)).collect();
        writer.append(Timestamp(START_MS), &samples).expect("the store is writable");
    }
    db.commit().expect("the store is writable");
    db
}

fn block(dir: &Path, targets: usize) -> Db {
    let vfs: Arc<dyn Vfs> = Arc::new(RealVfs);
    let blocks = dir.join("blocks");
    vfs.create_dir_all(&blocks).expect("the folder can be written");
    let mut writer = BlockWriter::new(Arc::clone(&vfs), &blocks, Ulid::new(1, 1), 1).expect("the folder is empty");
    for target in 0..targets {
        let columns: Vec<_> = (0..SERIES)
            .map(|s| ColumnInput { labels: labels(target, s), values: &[1.0], presence: None, histograms: &[] })
            .collect();
        writer.add_group(&GroupInput { timestamps: &[START_MS], columns: &columns }).expect("a group");
    }
    let meta = writer.finish().expect("the folder can be written");
    println!("block: {:.1} bytes of index per series", meta.index_bytes as f64 / meta.n_series as f64);
    open(dir)
}

/// CPU time of this thread in ns.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
}

/// Asks until that has taken `MEASURED_NS`, which is far more than the kernel's steps of counting it.
fn measure(what: &str, n_values: usize, ask: impl Fn() -> usize) {
    let (mut n, mut runs, mut taken) = (ask(), 0, 0);
    let before = cpu_ns();
    while taken < MEASURED_NS && runs < RUNS_MAX {
        n = ask();
        runs += 1;
        taken = cpu_ns() - before;
    }
    let ns = taken as f64 / f64::from(runs);
    let (per_answer, per_value) = (ns / n.max(1) as f64, if n_values == 0 { 0.0 } else { ns / n_values as f64 });
    println!("{what:<58} {:>10.1} {n:>9} {per_answer:>9.1} {per_value:>9.1}", ns / 1e3);
}

/// Matchers as `name op value`.
type Triples = [(&'static str, &'static str, &'static str)];

fn matchers(list: &Triples) -> Vec<Matcher> {
    let op = |text| match text {
        "=" => MatchOp::Equal,
        "!=" => MatchOp::NotEqual,
        "=~" => MatchOp::Regex,
        _ => MatchOp::NotRegex,
    };
    list.iter().map(|(name, o, value)| Matcher::new(name, op(o), value).expect("a valid pattern")).collect()
}

fn ask(kind: &str, snapshot: &dyn Snapshot, targets: usize) {
    let cancel = Cancel::new();
    let n_series = targets * SERIES;
    println!(
        "\n{kind}, {n_series} series\n{:<58} {:>10} {:>9} {:>9} {:>9}",
        "", "µs", "answers", "ns/answer", "ns/value"
    );
    let selections: [(&Triples, usize); 14] = [
        (&[("__name__", "=", "metric_7_total")], 1),
        (&[("__name__", "=", "metric_7_total"), ("namespace", "!=", "team-1")], 1),
        (&[("__name__", "=", "metric_7_total"), ("id", "=~", ".*9-id")], n_series),
        (&[("__name__", "=~", "metric_(7|8|9)_total")], 250),
        (&[("pod", "=~", "exporter-000.*")], targets),
        (&[("pod", "=~", "(?i).*0007-X7F")], targets),
        (&[("id", "=~", "00.*")], n_series),
        (&[("id", "=~", ".*ff-id")], n_series),
        (&[("id", "=~", "(?i).*FFF.*")], n_series),
        (&[("id", "=~", ".*[0-9]77-id")], n_series),
        (&[("id", "!~", ".*[0-9a-e].*")], n_series),
        (&[("mode", "!=", "mode-1"), ("pod", "=", "exporter-00007-x7f")], 4),
        (&[("mode", "!=", "mode-1")], 4),
        (&[("__name__", "=~", ".+")], 250),
    ];
    let everything = TimeRange::ALL;
    for (list, n_values) in selections {
        let what: Vec<String> = list.iter().map(|(name, op, value)| format!("{name}{op}{value:?}")).collect();
        measure(&format!("select {{{}}}", what.join(", ")), n_values, || {
            // Patterns are compiled here, as they are for each query.
            let matchers = matchers(list);
            let select = Select { range: everything, matchers: &matchers, cancel: &cancel };
            let found = snapshot.select(&select).expect("the index is whole");
            found.batches.iter().map(|b| b.n_series()).sum()
        });
    }
    let lists: [(&str, &Triples, usize); 8] = [
        ("pod", &[], usize::MAX),
        ("pod", &[("__name__", "=", "metric_7_total")], usize::MAX),
        ("pod", &[("namespace", "=~", "team-[12]")], usize::MAX),
        ("__name__", &[("pod", "=", "exporter-00007-x7f")], usize::MAX),
        ("id", &[], usize::MAX),
        ("id", &[], 100),
        ("id", &[("namespace", "=", "team-1")], usize::MAX),
        ("id", &[("namespace", "=", "team-1")], 100),
    ];
    for (name, list, limit) in lists {
        let what: Vec<String> = list.iter().map(|(name, op, value)| format!("{name}{op}{value:?}")).collect();
        let limited = if limit == usize::MAX { String::new() } else { format!(", limit {limit}") };
        let matchers = matchers(list);
        let select = Select { range: everything, matchers: &matchers, cancel: &cancel };
        measure(&format!("values of {name} {{{}}}{limited}", what.join(", ")), 0, || {
            snapshot.label_values(name, &select, limit).expect("the index is whole").len()
        });
    }
    let one = matchers(&[("__name__", "=", "metric_7_total")]);
    let select = Select { range: everything, matchers: &one, cancel: &cancel };
    measure("names {__name__=\"metric_7_total\"}", 0, || snapshot.label_names(&select).expect("whole").len());
    measure("series {__name__=\"metric_7_total\"}", 0, || {
        snapshot.series(&select, usize::MAX).expect("whole").labels.len()
    });
    let all = Select { matchers: &[], ..select };
    measure("series, limit 100", 0, || snapshot.series(&all, 100).expect("whole").labels.len());
}

fn main() {
    let targets = std::env::var("INDEX_BENCH_TARGETS").ok().and_then(|n| n.parse().ok()).unwrap_or(1000);
    for (kind, make) in [("head", head as fn(&Path, usize) -> Db), ("block", block)] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let db = make(folder.path(), targets);
        let snapshot = db.snapshot().expect("a snapshot");
        ask(kind, &*snapshot, targets);
    }
}
