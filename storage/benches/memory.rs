//! How much memory does a series take, by part, how much of the WAL a sample, and how long does a restart take?
//!
//! Each scenario runs in a process of its own, with the allocator of the server, on the file system of the temporary
//! folder and a clock that follows the samples, and prints one line of a Markdown table, in bytes per active series: the
//! highest `RssAnon` seen after a row and the one at the end, the bytes that are allocated at the end, then what the
//! database says of its parts and what is left of the allocated bytes (`other`). Series have 10 labels; targets have 1,000
//! series (40 % constant, 40 % counters, 15 % gauges of hundredths, 5 % fractions that do not compress), each with values
//! of its own, and a row each 15 s. A restart is timed from before the folder is opened until it has been, and the parts
//! are those right after it; CPU is of all threads, and what the opening thread waited for a CPU tells how busy the machine
//! was. Run with `cargo bench -p promontory-storage --bench memory`, or with
//! parts of names of scenarios after `--`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the table is the answer")]

use std::path::Path;
use std::process::{Command, abort};
use std::sync::Arc;

use cap::Cap;
use promontory_model::{Labels, Timestamp};
use promontory_storage::clock::{Clock as _, ManualClock, SystemClock};
use promontory_storage::vfs::RealVfs;
use promontory_storage::{Db, DbOptions, DbStatus, GroupWriter, HeadMemory, SeriesRef};

#[global_allocator]
static ALLOCATOR: Cap<mimalloc::MiMalloc> = Cap::new(mimalloc::MiMalloc, usize::MAX);

const SERIES: usize = 1000;
const START_MS: i64 = 1_699_999_200_000;
const STEP_MS: i64 = 15_000;
/// Rows between two ticks: a minute.
const TICK_ROWS: usize = 4;
const SCENARIO: &str = "PROMONTORY_BENCH_SCENARIO";
const FOLDER: &str = "PROMONTORY_BENCH_FOLDER";

/// What a scenario does; names are those of the table.
const SCENARIOS: [(&str, Scenario); 18] = [
    ("100 k series, 17 min", Scenario::steady(100, 67)),
    ("100 k series, truncated after 4 h", Scenario::steady(100, 960)),
    ("1 M series, 17 min", Scenario::steady(1000, 67)),
    ("1 M series, 2 h", Scenario::steady(1000, 480)),
    ("1 M series, truncated after 4 h", Scenario::steady(1000, 960)),
    ("100 k, 5 %/min churn for 1 h", Scenario { churn: true, ..Scenario::steady(100, 240) }),
    ("100 k, 5 %/min churn for 1 h, truncated after 4 h", Scenario { churn: true, ..Scenario::steady(100, 1000) }),
    ("1 M, 5 %/min churn for 1 h", Scenario { churn: true, ..Scenario::steady(1000, 240) }),
    ("100 k, lines shuffled", Scenario { order: Order::Shuffled, ..Scenario::steady(100, 67) }),
    ("100 k, targets interleaved", Scenario { order: Order::Interleaved, ..Scenario::steady(100, 67) }),
    ("one target of 200 k", Scenario { series: 200_000, ..Scenario::steady(1, 67) }),
    ("2 k targets of 10 series", Scenario { series: 10, ..Scenario::steady(2000, 67) }),
    ("10 k targets of one series", Scenario { series: 1, ..Scenario::steady(10_000, 67) }),
    ("100 k, times of 50 series each", Scenario { series_per_time: 50, ..Scenario::steady(100, 67) }),
    ("10 k, times of each series", Scenario { series_per_time: 1, ..Scenario::steady(10, 67) }),
    ("200 k, killed after 16 min and reopened", Scenario { restart: true, ..Scenario::steady(200, 65) }),
    (
        "1 M, killed after 16 min, all just sealed, and reopened",
        Scenario { restart: true, ..Scenario::steady(1000, 65) },
    ),
    ("1 M, killed after 2 h and reopened", Scenario { restart: true, ..Scenario::steady(1000, 480) }),
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

/// A number that looks like any other.
fn mixed(target: usize, series: usize, row: usize) -> u64 {
    let n = (target as u64) << 42 ^ (series as u64) << 22 ^ row as u64;
    let n = (n ^ n >> 31).wrapping_mul(0x7fb5_d329_728e_a185);
    (n ^ n >> 27).wrapping_mul(0x81da_def4_bc2d_d44d) >> 20
}

fn value(target: usize, series: usize, row: usize) -> f64 {
    let (own, noise) = (mixed(target, series, 0), mixed(target, series, row + 1));
    match series % 20 {
        0..8 => (own % 100_000) as f64,
        // Half of the counters count few things, and these not every time.
        8..12 => (own % 5000 + (row as u64 + noise % 2) / 3) as f64,
        12..16 => (own % 10_000_000 + row as u64 * (own % 3000) + noise % 97) as f64,
        16..19 => (noise % 10_000) as f64 / 100.0,
        _ => (noise as f64).sqrt(),
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

    /// When the target is scraped.
    fn time(&self, row: usize) -> i64 {
        START_MS + row as i64 * STEP_MS + self.number as i64 % 15 * 1000
    }

    fn append(&mut self, row: usize, scenario: &Scenario, samples: &mut Vec<(SeriesRef, f64)>) {
        let t = self.time(row);
        let appended = if scenario.series_per_time == 0 {
            samples.clear();
            let shuffled = order(scenario.series, row + self.number, scenario.order);
            samples.extend(shuffled.map(|i| (SeriesRef(i as u32), value(self.number, i, row))));
            self.writer.append(Timestamp(t), samples)
        } else {
            let at = |i: usize| Timestamp(t - (i / scenario.series_per_time * 11 % 14_000) as i64);
            let samples: Vec<_> =
                (0..scenario.series).map(|i| (SeriesRef(i as u32), at(i), value(self.number, i, row))).collect();
            self.writer.append_at(&samples)
        };
        let appended = appended.expect("the store is writable");
        assert_eq!(appended.accepted, scenario.series as u64, "{appended:?}");
    }

    /// The target is gone.
    fn end(mut self, row: usize, scenario: &Scenario) {
        let stale = f64::from_bits(0x7ff0_0000_0000_0002);
        let samples: Vec<_> = (0..scenario.series).map(|i| (SeriesRef(i as u32), stale)).collect();
        self.writer.append(Timestamp(self.time(row)), &samples).expect("the store is writable");
    }
}

fn open(dir: &Path) -> (Db, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(Timestamp(START_MS)));
    let (db, _) =
        Db::open(Arc::new(RealVfs), Arc::clone(&clock) as _, dir, DbOptions::server()).expect("the folder opens");
    (db, clock)
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

/// How long this thread has had a CPU, and waited for one that others had, ms.
fn scheduled_ms() -> [f64; 2] {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("this is Linux");
    let mut fields = stat.split_whitespace().map(|f| f.parse::<u64>().expect("a number") as f64 / 1e6);
    [fields.next().expect("time on a CPU"), fields.next().expect("time in the queue")]
}

/// Fills the database; gives the highest anonymous memory seen, and the targets as they live on.
fn fill(db: &Db, clock: &ManualClock, scenario: &Scenario) -> (u64, Vec<Target>) {
    let mut targets: Vec<Target> = (0..scenario.targets).map(|number| Target::new(db, number, 0)).collect();
    let batch = if scenario.order == Order::Interleaved { 10 } else { scenario.series };
    for _ in 0..scenario.series.div_ceil(batch) {
        targets.iter_mut().for_each(|t| t.resolve(batch, scenario));
    }
    let mut samples = Vec::new();
    let mut peak = 0;
    for row in 0..scenario.rows {
        clock.set(Timestamp(START_MS + row as i64 * STEP_MS));
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
    let (rss, allocated) = (of_process("RssAnon:"), ALLOCATOR.allocated() as u64);
    let parts = status.head_memory.parts().map(|(_, bytes)| bytes);
    let other = allocated.saturating_sub(parts.iter().sum());
    for bytes in [peak, rss, allocated].into_iter().chain(parts).chain([other]) {
        line += &format!(" {:.1} |", bytes as f64 / n);
    }
    let wal = status.wal_written_bytes as f64 / status.samples_appended.max(1) as f64;
    println!("{line} {wal:.2} |");
}

fn run(name: &str, scenario: &Scenario, dir: &Path) {
    let (db, clock) = open(dir);
    let (peak, targets) = fill(&db, &clock, scenario);
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
    let (start, cpu, [_, waited]) = (clock.monotonic_ns(), cpu_s(), scheduled_ms());
    let (db, _) = open(dir);
    let (ms, cpu, waited) = ((clock.monotonic_ns() - start) as f64 / 1e6, cpu_s() - cpu, scheduled_ms()[1] - waited);
    let status = db.status();
    assert_eq!(status.head_series, (scenario.targets * scenario.series) as u64);
    eprintln!("{name}: ready after {ms:.0} ms, {waited:.0} of them for want of a CPU, {:.0} ms of CPU", cpu * 1e3);
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
    println!("| scenario | series | peak | end | allocated | {} | other | WAL B/sample |", parts.join(" | "));
    println!("|---|{}", "--:|".repeat(parts.len() + 6));
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
