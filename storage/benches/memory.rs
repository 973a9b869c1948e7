//! How much memory does a series take, by part, and how long does a restart take?
//!
//! Each scenario runs in a process of its own, with the allocator of the server, on the file system of the temporary
//! folder, and prints one line of a Markdown table: bytes of anonymous memory per active series as the system counts
//! them (`RssAnon`, highest seen and at the end), then what the database says of its parts at the end. Series have 10
//! labels; targets have 1,000 series (40 % constant, 40 % counters, 15 % gauges of hundredths, 5 % fractions that do not
//! compress) and a row each 15 s. Run with `cargo bench -p promontory-storage --bench memory`, or with names of scenarios
//! after `--`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the table is the answer")]

use std::path::Path;
use std::process::{Command, abort};
use std::sync::Arc;

use promontory_model::{Labels, Timestamp};
use promontory_storage::clock::{Clock as _, SystemClock};
use promontory_storage::vfs::RealVfs;
use promontory_storage::{Db, DbOptions, DbStatus, GroupWriter, HeadMemory, SeriesRef};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SERIES: usize = 1000;
const START_MS: i64 = 1_699_999_200_000;
const STEP_MS: i64 = 15_000;
/// Rows between two ticks: a minute.
const TICK_ROWS: usize = 4;
const SCENARIO: &str = "PROMONTORY_BENCH_SCENARIO";
const FOLDER: &str = "PROMONTORY_BENCH_FOLDER";

/// What a scenario does; names are those of the table.
const SCENARIOS: [(&str, Scenario); 14] = [
    ("100 k series, 17 min", Scenario::steady(100, 67)),
    ("1 M series, 17 min", Scenario::steady(1000, 67)),
    ("1 M series, 2 h", Scenario::steady(1000, 480)),
    ("100 k, 5 %/min churn, 1 h", Scenario { churn: true, ..Scenario::steady(100, 240) }),
    ("100 k, 5 %/min churn for 1 h, truncated after 4 h", Scenario { churn: true, ..Scenario::steady(100, 960) }),
    ("1 M, 5 %/min churn, 1 h", Scenario { churn: true, ..Scenario::steady(1000, 240) }),
    ("100 k, lines shuffled", Scenario { order: Order::Shuffled, ..Scenario::steady(100, 67) }),
    ("100 k, targets interleaved", Scenario { order: Order::Interleaved, ..Scenario::steady(100, 67) }),
    ("one target of 200 k", Scenario { series: 200_000, ..Scenario::steady(1, 67) }),
    ("100 targets of 1 series", Scenario { series: 1, ..Scenario::steady(100, 67) }),
    ("100 k, times of 50 series each", Scenario { series_per_time: 50, ..Scenario::steady(100, 67) }),
    ("10 k, times of each series", Scenario { series_per_time: 1, ..Scenario::steady(10, 67) }),
    ("200 k, killed and reopened", Scenario { restart: true, ..Scenario::steady(200, 65) }),
    ("1 M, killed and reopened after 2 h", Scenario { restart: true, ..Scenario::steady(1000, 480) }),
];

#[derive(Clone, Copy, PartialEq)]
enum Order {
    Same,
    Shuffled,
    /// Targets meet their series in turns, as they do when all start at once.
    Interleaved,
}

#[derive(Clone, Copy)]
struct Scenario {
    targets: usize,
    series: usize,
    rows: usize,
    order: Order,
    /// 5 % of the targets come back as another pod each minute, for the first hour.
    churn: bool,
    /// Series that share an explicit time; 0 when rows have one time.
    series_per_time: usize,
    restart: bool,
}

impl Scenario {
    const fn steady(targets: usize, rows: usize) -> Self {
        Self { targets, series: SERIES, rows, order: Order::Same, churn: false, series_per_time: 0, restart: false }
    }
}

fn value(series: usize, row: usize) -> f64 {
    let noise = ((row * 7919 + series * 104_729) % 97) as f64;
    match series % 20 {
        0..8 => (series * 3) as f64,
        8..16 => (row * (series % 500)) as f64 + noise,
        16..19 => noise / 100.0,
        _ => (noise + 1.0).sqrt() * 4096.0,
    }
}

fn labels(target: usize, life: usize, series: usize) -> Labels {
    let metric = series / 8;
    let key = ["device", "le", "mode", "model_name"][metric % 4];
    Labels::from_pairs([
        ("__name__", format!("subsystem_{metric}_things_total")),
        ("cluster", "eu-central-1a".to_owned()),
        ("container", "server".to_owned()),
        ("instance", format!("10.0.{}.{}:9100", target / 256, target % 256)),
        ("job", format!("job-{}", target % 12)),
        ("namespace", format!("team-{}", target % 40)),
        ("node", format!("gpu-node-{:04}", target / 4)),
        ("pod", format!("server-{target:05}-{life:04}-x7f9q")),
        ("handler", format!("/v1/{}", metric % 16)),
        (key, format!("value-{}", series % 8 + series / 1000 * 8)),
    ])
}

/// Steps through all of `0..n` in an order that depends on `seed`.
fn order(n: usize, seed: usize, order: Order) -> impl Iterator<Item = usize> {
    let stride = if order == Order::Shuffled { [617, 619, 631, 641, 643, 647, 653][seed % 7] } else { 1 };
    (0..n).map(move |i| (i * stride + seed * usize::from(stride != 1)) % n)
}

/// One scraped target.
struct Target {
    number: usize,
    life: usize,
    writer: GroupWriter,
    /// Series of each reference when they did not come in order.
    n_resolved: usize,
}

impl Target {
    fn new(db: &Db, number: usize, life: usize) -> Self {
        Self { number, life, writer: db.writer(), n_resolved: 0 }
    }

    /// Makes the next `n` series known; references count from 0 in this order.
    fn resolve(&mut self, n: usize, scenario: &Scenario) {
        for series in order(scenario.series, self.number, scenario.order).skip(self.n_resolved).take(n) {
            let labels = labels(self.number, self.life, series);
            let got = self.writer.resolve(&labels).expect("room for a series");
            assert_eq!(got, SeriesRef(self.n_resolved as u32));
            self.n_resolved += 1;
        }
    }

    fn append(&mut self, row: usize, scenario: &Scenario, samples: &mut Vec<(SeriesRef, f64)>) {
        let t = START_MS + row as i64 * STEP_MS + self.number as i64 % 15 * 1000;
        let appended = if scenario.series_per_time == 0 {
            samples.clear();
            let shuffled = order(scenario.series, row + self.number, scenario.order);
            samples.extend(shuffled.map(|i| (SeriesRef(i as u32), value(i, row))));
            self.writer.append(Timestamp(t), samples)
        } else {
            let at = |i: usize| Timestamp(t - (i / scenario.series_per_time * 11 % 14_000) as i64);
            let samples: Vec<_> = (0..scenario.series).map(|i| (SeriesRef(i as u32), at(i), value(i, row))).collect();
            self.writer.append_at(&samples)
        };
        let appended = appended.expect("the store is writable");
        assert_eq!(appended.accepted, scenario.series as u64, "{appended:?}");
    }

    /// The target is gone.
    fn end(mut self, row: usize, scenario: &Scenario) {
        let stale = f64::from_bits(0x7ff0_0000_0000_0002);
        let samples: Vec<_> = (0..scenario.series).map(|i| (SeriesRef(i as u32), stale)).collect();
        let t = START_MS + row as i64 * STEP_MS + self.number as i64 % 15 * 1000;
        self.writer.append(Timestamp(t), &samples).expect("the store is writable");
    }
}

fn open(dir: &Path) -> Db {
    let options = DbOptions { checkpoint_ms: 0, ..DbOptions::server() };
    let (db, _) = Db::open(Arc::new(RealVfs), Arc::new(SystemClock::new()), dir, options).expect("the folder opens");
    db
}

/// A number of `/proc/self/status`, in bytes.
fn of_process(key: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("this is Linux");
    let line = status.lines().find_map(|l| l.strip_prefix(key)).expect("the kernel says it");
    line.trim_matches(|c: char| !c.is_ascii_digit()).parse::<u64>().expect("a number") * 1024
}

fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("this is Linux");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a name in brackets").split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|f| f.parse::<u64>().expect("a number")).sum();
    ticks as f64 / 100.0
}

/// Fills the database; gives the highest anonymous memory seen, and the targets as they live on.
fn fill(db: &Db, scenario: &Scenario) -> (u64, Vec<Target>) {
    let mut targets: Vec<Target> = (0..scenario.targets).map(|number| Target::new(db, number, 0)).collect();
    let batch = if scenario.order == Order::Interleaved { 10 } else { scenario.series };
    for _ in 0..scenario.series.div_ceil(batch) {
        targets.iter_mut().for_each(|t| t.resolve(batch, scenario));
    }
    let mut samples = Vec::new();
    let mut peak = 0;
    for row in 0..scenario.rows {
        let is_minute = row % TICK_ROWS == TICK_ROWS - 1;
        if scenario.churn && is_minute && row < 240 {
            let n = scenario.targets / 20;
            let first = row / TICK_ROWS * n;
            for i in first..first + n {
                let number = i % scenario.targets;
                let new = Target::new(db, number, targets[number].life + 1);
                std::mem::replace(&mut targets[number], new).end(row, scenario);
                targets[number].resolve(scenario.series, scenario);
            }
        }
        for (i, target) in targets.iter_mut().enumerate() {
            target.append(row, scenario, &mut samples);
            if i % 16 == 0 {
                db.commit().expect("the store is writable");
            }
        }
        peak = peak.max(of_process("RssAnon:"));
        if is_minute {
            db.tick().expect("the store is writable");
            peak = peak.max(of_process("RssAnon:"));
        }
    }
    (peak, targets)
}

fn print_line(name: &str, scenario: &Scenario, peak: u64, status: &DbStatus) {
    let n = (scenario.targets * scenario.series) as f64;
    let mut line = format!("| {name} | {} |", status.head_series);
    let parts = status.head_memory.parts().map(|(_, bytes)| bytes);
    for bytes in [peak, of_process("RssAnon:"), parts.iter().sum()].into_iter().chain(parts) {
        line += &format!(" {:.1} |", bytes as f64 / n);
    }
    let wal = status.wal_written_bytes as f64 / status.samples_appended.max(1) as f64;
    println!("{line} {wal:.2} |");
}

fn run(name: &str, scenario: &Scenario, dir: &Path) {
    let db = open(dir);
    let (peak, targets) = fill(&db, scenario);
    if scenario.restart {
        db.commit().expect("the store is writable");
        abort();
    }
    print_line(name, scenario, peak, &db.status());
    drop(targets);
}

/// Opens what a killed process left.
fn reopen(name: &str, scenario: &Scenario, dir: &Path) {
    let clock = SystemClock::new();
    let (start, cpu) = (clock.monotonic_ns(), cpu_s());
    let db = open(dir);
    let (ms, cpu) = ((clock.monotonic_ns() - start) as f64 / 1e6, cpu_s() - cpu);
    let status = db.status();
    assert_eq!(status.head_series, (scenario.targets * scenario.series) as u64);
    eprintln!("{name}: ready after {ms:.0} ms, {:.0} ms of CPU", cpu * 1e3);
    print_line(name, scenario, of_process("RssAnon:"), &status);
}

fn start(name: &str, dir: &Path, what: &str) -> std::process::ExitStatus {
    let this = std::env::current_exe().expect("this program has a path");
    let mut command = Command::new(this);
    command.env(SCENARIO, name).env(FOLDER, dir).arg(what);
    command.status().expect("this program starts")
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    if let Ok(name) = std::env::var(SCENARIO) {
        let (name, scenario) = SCENARIOS.iter().find(|(n, _)| *n == name).expect("a scenario of the table");
        let dir = std::env::var_os(FOLDER).expect("set by this program");
        match arguments[0].as_str() {
            "reopen" => reopen(name, scenario, Path::new(&dir)),
            _ => run(name, scenario, Path::new(&dir)),
        }
        return;
    }
    let parts = HeadMemory::default().parts().map(|(name, _)| name);
    println!("| scenario | series | peak | end | parts | {} | WAL B/sample |", parts.join(" | "));
    println!("|---|{}", "--:|".repeat(parts.len() + 5));
    for (name, scenario) in &SCENARIOS {
        if !arguments.is_empty() && !arguments.iter().any(|a| name.contains(a.as_str())) {
            continue;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let ended = start(name, folder.path(), "run");
        assert_eq!(ended.success(), !scenario.restart, "{name}");
        if scenario.restart {
            for _ in 0..3 {
                assert!(start(name, folder.path(), "reopen").success(), "{name}");
            }
        }
    }
}
