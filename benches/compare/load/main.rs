//! Compares this server with VictoriaMetrics and Prometheus: the same samples by remote write and the same queries, one
//! server after the other, measured from outside through `/proc` and the files that they leave.
//!
//! `benches/compare/run` installs the peers, builds everything and calls this. The table goes to standard output, what
//! is being done to standard error.

mod bars;
mod client;
mod exporter;
mod node;
mod pages;
mod query;
mod random;
mod refusal;
mod report;
mod scraping;
mod server;
mod traffic;
mod workload;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser as _;
use promontory_storage::clock::{Clock as _, SystemClock};

use client::Sender;
use pages::{Pages, Recorder};
use query::{QUERIES, Query, WIDE, count_samples};
use report::{Outcome, Report};
use scraping::Scraping;
use server::{Server, System};
use workload::{INTERVAL_MS, Kind, Workload};

/// Rounds in an hour.
const HOUR: usize = 240;
/// Rounds sent right before the server is killed.
const TAIL: usize = 40;
/// The log is measured after this many rounds, before any server has thrown a part of it away.
const WAL_ROUNDS: usize = 2 * HOUR;
/// Rounds of the series of which a query asks for too much: it is about their number.
const REFUSED_ROUNDS: usize = 4;
/// Recorded pages that are waited for: two hours of scrapes.
const PAGES_MIN: usize = 480;
/// Longest wait until a server has nothing to do, s.
const SETTLE_S: u32 = 90;

/// Compare with VictoriaMetrics and Prometheus
#[derive(clap::Parser)]
struct Args {
    /// The server's binary
    #[arg(long)]
    promontory: PathBuf,
    /// About 3 minutes instead of 25
    #[arg(long)]
    quick: bool,
    /// Systems to run, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "promontory,victoriametrics,prometheus")]
    systems: Vec<String>,
    /// Kinds of data: nodes, pages, constant, random, scrape, targets, refused, load, wide (heavy), million (heavy)
    #[arg(long, value_delimiter = ',', default_value = "nodes,pages,constant,random")]
    kinds: Vec<String>,
    /// GPU nodes of 1,027 series [default: 24, quick 4]
    #[arg(long)]
    nodes: Option<usize>,
    /// Hours of samples [default: 6, quick 4, wide 24, million 2]
    #[arg(long)]
    hours: Option<usize>,
    /// Seconds of the kind `load` [default: 300, quick 30]
    #[arg(long)]
    traffic_seconds: Option<u64>,
    /// Samples of one request
    #[arg(long, default_value_t = 2_000)]
    batch: usize,
    /// Seed of all values
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Do not ask queries
    #[arg(long)]
    no_queries: bool,
    /// Folder for the data of the servers, which is removed at the end
    #[arg(long)]
    dir: PathBuf,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            note(&format!("failed: {e}"));
            ExitCode::FAILURE
        }
    }
}

fn note(text: &str) {
    let _ = writeln!(io::stderr(), "compare: {text}");
}

/// A kind of data and how long it is fed.
struct Plan {
    kind: Kind,
    rounds: usize,
    /// Whether the server is killed after it, and what is asked.
    kills: bool,
    queries: &'static [Query],
    /// What else is asked while a query over all series is refused, by our server.
    beside_refusal: Option<&'static str>,
    /// Seconds of samples and queries at the same time, at the end.
    traffic_s: Option<u64>,
}

fn run(args: &Args) -> io::Result<()> {
    let systems: Vec<System> =
        System::ALL.into_iter().filter(|s| args.systems.contains(&s.name().to_lowercase())).collect();
    let rounds = args.hours.unwrap_or(if args.quick { 4 } else { 6 }) * HOUR;
    let (mut plans, mut scrapings) = (Vec::new(), Vec::new());
    for kind in &args.kinds {
        if let Some(scraping) = scraping(kind, args.quick) {
            scrapings.push(scraping);
            continue;
        }
        let n_nodes = args.nodes.unwrap_or(if args.quick { 4 } else { 24 });
        let n_series = if args.quick { 500 } else { 2_000 };
        let queries = if args.no_queries { &[] } else { &QUERIES[..] };
        let plan =
            |kind, rounds| Plan { kind, rounds, kills: false, queries: &[], beside_refusal: None, traffic_s: None };
        let hours = |default: usize| args.hours.unwrap_or(default) * HOUR;
        plans.push(match kind.as_str() {
            "nodes" => Plan { kills: true, queries, ..plan(Kind::Nodes { n_nodes }, rounds) },
            "pages" => plan(Kind::Pages, usize::MAX),
            "constant" => plan(Kind::Constant { n_series }, rounds),
            "random" => plan(Kind::Random { n_series }, rounds),
            "refused" => {
                let beside_refusal = Some("sum(x{instance=\"10.1.0.0:9100\"})");
                Plan { beside_refusal, ..plan(Kind::Wide { n_series: 1_000_000 }, REFUSED_ROUNDS) }
            }
            "load" => {
                let traffic_s = args.traffic_seconds.or(Some(if args.quick { 30 } else { 300 }));
                Plan { traffic_s, ..plan(Kind::Nodes { n_nodes: args.nodes.unwrap_or(24) }, hours(2)) }
            }
            "wide" => Plan { queries: &[WIDE], ..plan(Kind::Wide { n_series: 100_000 }, hours(24)) },
            "million" => {
                let beside_refusal = Some("sum(DCGM_FI_DEV_GPU_TEMP{instance=\"gpu-000:9400\"})");
                Plan { kills: true, beside_refusal, ..plan(Kind::Nodes { n_nodes: 974 }, hours(2)) }
            }
            other => return Err(io::Error::other(format!("there is no kind of data named {other:?}"))),
        });
    }
    // Recorded while the others run, so that there is much of it and the machine it tells of has something to do.
    plans.sort_by_key(|p| p.kind == Kind::Pages);
    let mut recorder = match plans.last() {
        Some(Plan { kind: Kind::Pages, .. }) => Some(Recorder::start()?),
        _ => None,
    };
    let mut report = Report::new(&systems);
    for scraping in scrapings {
        report.add_text(scraping.measure(&systems, &|system, config| start(args, system, config), args.seed)?);
        note(&report.last());
    }
    for plan in plans {
        let pages = match recorder.take() {
            Some(recorder) if plan.kind == Kind::Pages => {
                Some(recorder.finish(if args.quick { 0 } else { PAGES_MIN })?)
            }
            other => {
                recorder = other;
                None
            }
        };
        let mut outcomes = Vec::new();
        for &system in &systems {
            note(&format!("{} on {}", system.name(), plan.kind.title()));
            let outcome = measure(args, system, &plan, pages.as_ref())?;
            note(&outcome.brief());
            outcomes.push(outcome);
        }
        report.add(&plan.kind.title(), plan.queries, outcomes);
        // A table after every kind, so that a run that is stopped was not for nothing.
        note(&report.last());
    }
    io::stdout().write_all(report.text().as_bytes())
}

/// Rounds that traffic may add: those of 100,000 samples a second.
fn traffic_rounds(plan: &Plan) -> usize {
    let Kind::Nodes { n_nodes } = plan.kind else { return 0 };
    plan.traffic_s.map_or(0, |s| s as usize * 100_000 / (n_nodes * node::N_SERIES).max(1) + TAIL)
}

/// Start of the samples: whole two hours, not long ago, and within one day of UTC.
fn start_ms(rounds: usize) -> i64 {
    const BLOCK_MS: i64 = 2 * 3_600_000;
    const DAY_MS: i64 = 86_400_000;
    let length = (rounds.min(24 * HOUR) + TAIL) as i64 * INTERVAL_MS;
    let mut start = (SystemClock::new().now().ms() - length - 60_000).div_euclid(BLOCK_MS) * BLOCK_MS;
    while length < DAY_MS && start.div_euclid(DAY_MS) != (start + length).div_euclid(DAY_MS) {
        start -= BLOCK_MS;
    }
    start
}

/// What of the name of a kind is about scraping.
fn scraping(kind: &str, quick: bool) -> Option<Scraping> {
    let whole = match kind {
        "scrape" => scraping::NODES,
        "targets" => scraping::MANY,
        _ => return None,
    };
    Some(if quick { Scraping { seconds: 60, ..whole } } else { whole })
}

/// Starts a server on a new folder of its own.
fn start(args: &Args, system: System, config: &str) -> io::Result<Server> {
    let binary = match system {
        System::Promontory => args.promontory.clone(),
        System::VictoriaMetrics => "victoria-metrics".into(),
        System::Prometheus => "prometheus".into(),
    };
    Server::start(system, &binary, &args.dir.join(system.name()), config)
}

fn measure(args: &Args, system: System, plan: &Plan, pages: Option<&Pages>) -> io::Result<Outcome> {
    let mut server = start(args, system, "")?;
    let outcome = feed(args, &mut server, plan, pages);
    server.stop()?;
    outcome
}

fn feed(args: &Args, server: &mut Server, plan: &Plan, pages: Option<&Pages>) -> io::Result<Outcome> {
    let mut workload = Workload::new(plan.kind, args.seed, pages)?;
    let rounds = pages.map_or(plan.rounds, |p| p.pages.len());
    let start = start_ms(rounds.saturating_add(traffic_rounds(plan)));
    let mut sender = Sender::new(server.port, args.batch);
    let mut outcome = Outcome::default();
    let mut samples = Vec::new();
    for round in 0..rounds {
        samples.clear();
        workload.round(start, &mut samples);
        sender.send(&workload.labels, &samples)?;
        if round + 1 == WAL_ROUNDS.min(rounds) {
            outcome.wal_per_sample = server.wal_bytes()?.map(|bytes| bytes / sender.n_sent as f64);
        }
    }
    sender.flush(&workload.labels)?;
    outcome.peak = server.memory()?;
    let mut n_rounds = rounds;
    if let Some(seconds) = plan.traffic_s {
        let sent = sender.n_sent;
        outcome.traffic = Some(traffic::measure(server, &mut workload, &mut sender, start, rounds, seconds)?);
        n_rounds += ((sender.n_sent - sent) as usize).div_ceil(workload.labels.len().max(1));
    }
    server.settle(SETTLE_S)?;
    let n_sent = sender.n_sent as f64;
    outcome.n_series = workload.labels.len();
    outcome.cpu_s_per_million = server.cpu_s()? / n_sent * 1e6;
    outcome.memory = server.memory()?;
    outcome.written_per_sample = server.written_bytes()? / n_sent;
    outcome.wire_per_sample = sender.bytes_sent as f64 / n_sent;
    if plan.kills {
        // What the kill takes is then a part of the last ten minutes, not of all that the rest of the table is about.
        server.flush()?;
        for _ in 0..TAIL {
            samples.clear();
            workload.round(start, &mut samples);
            sender.send(&workload.labels, &samples)?;
        }
        sender.flush(&workload.labels)?;
        n_rounds += TAIL;
        outcome.restart_s = Some(server.kill_and_restart()?);
    }
    outcome.n_samples = sender.n_sent;
    let end = start + n_rounds as i64 * INTERVAL_MS;
    let counted = count_samples(&mut server.client(), end, (end - start) / 1_000 + 60)?;
    outcome.lost = sender.n_sent as i64 - counted as i64;
    server.settle(SETTLE_S)?;
    outcome.restarted = server.memory()?;
    for query in plan.queries {
        outcome.timings.push(query.measure(server, end)?);
    }
    if let (System::Promontory, Some(other)) = (server.system, plan.beside_refusal) {
        outcome.refusal = Some(refusal::measure(server, outcome.n_series, end, other)?);
    }
    outcome.queried = server.memory()?;
    outcome.bytes_per_sample = server.final_bytes_per_sample(counted)?;
    Ok(outcome)
}
