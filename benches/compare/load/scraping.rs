//! Scraping compared: the same targets at the same interval for one server after the other, measured when every target
//! has been scraped a few times.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use promontory_storage::clock::{Clock as _, SystemClock};

use crate::exporter::{Exporter, Exposed, Seen};
use crate::query::escape;
use crate::server::{Memory, Server, System};

/// Scrapes of every target before anything is measured.
const WARM_SCRAPES: u64 = 3;
/// Longest wait for them, in intervals.
const WARM_INTERVALS_MAX: u32 = 20;

/// What is scraped, and what it may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scraping {
    pub(crate) title: &'static str,
    pub(crate) exposed: Exposed,
    pub(crate) n_targets: usize,
    pub(crate) interval_s: u32,
    /// How long it is measured.
    pub(crate) seconds: u32,
    pub(crate) bars: Bars,
}

/// What our server may take; the others are measured where a bar names one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bars {
    /// 0.3 s of processor time per million samples, and a sixth of what Prometheus takes.
    Time,
    /// 1 GiB of resident memory, and no scrape late by more than a hundredth of the interval.
    MemoryAndPunctuality,
}

/// Targets as many as a team has, with everything that a GPU node exposes.
pub(crate) const NODES: Scraping = Scraping {
    title: "scrape: 60 targets of 1,027 series every 5 s",
    exposed: Exposed::Nodes,
    n_targets: 60,
    interval_s: 5,
    seconds: 180,
    bars: Bars::Time,
};

/// Very many small targets.
pub(crate) const MANY: Scraping = Scraping {
    title: "targets: 10,000 targets of 100 series every 15 s",
    exposed: Exposed::Counters(100),
    n_targets: 10_000,
    interval_s: 15,
    seconds: 180,
    bars: Bars::MemoryAndPunctuality,
};

/// What a server showed.
#[derive(Debug, Clone)]
struct Outcome {
    system: System,
    /// Processor time per million samples, in the first and the second half.
    cpu_s: [f64; 2],
    seen: Seen,
    memory: Memory,
    n_series: u64,
    n_up: u64,
}

impl Scraping {
    /// Measures every system that a bar is about; a table and the verdicts.
    pub(crate) fn measure(
        &self,
        systems: &[System],
        start: &dyn Fn(System, &str) -> io::Result<Server>,
        seed: u64,
    ) -> io::Result<String> {
        let mut outcomes = Vec::new();
        for &system in systems.iter().filter(|s| self.bars == Bars::Time || **s == System::Promontory) {
            crate::note(&format!("{} on {}", system.name(), self.title));
            let exporter = Exporter::start(self.exposed, self.n_targets, self.interval_s * 1_000, seed)?;
            let server = start(system, &self.config(exporter.port))?;
            let outcome = self.watch(&server, &exporter);
            server.stop()?;
            outcomes.push(outcome?);
        }
        Ok(self.table(&outcomes))
    }

    fn config(&self, port: u16) -> String {
        let interval = self.interval_s;
        let mut out = format!(
            "global: {{scrape_interval: {interval}s, scrape_timeout: {interval}s}}\nscrape_configs:\n- job_name: bench\n  \
             static_configs:\n"
        );
        for n in 0..self.n_targets {
            let _ = writeln!(
                out,
                "  - {{targets: ['127.0.0.1:{port}'], labels: {{instance: 'gpu-{n:05}', cluster: inference-eu-1, \
                 __metrics_path__: /t/{n}}}}}"
            );
        }
        out
    }

    fn watch(&self, server: &Server, exporter: &Exporter) -> io::Result<Outcome> {
        let second = Duration::from_secs(1);
        let mut waited = 0;
        while exporter.least_scrapes() < WARM_SCRAPES {
            if waited > self.interval_s * WARM_INTERVALS_MAX {
                return Err(io::Error::other(format!("{} does not scrape all targets", server.system.name())));
            }
            std::thread::sleep(second);
            waited += 1;
        }
        exporter.take_seen();
        let mut cpu_s = [0.0; 2];
        let mut seen = Seen::default();
        for cpu_s in &mut cpu_s {
            let cpu = server.cpu_s()?;
            std::thread::sleep(second * (self.seconds / 2));
            let half = exporter.take_seen();
            *cpu_s = (server.cpu_s()? - cpu) / half.n_samples.max(1) as f64 * 1e6;
            seen.n_scrapes += half.n_scrapes;
            seen.n_samples += half.n_samples;
            seen.n_bytes += half.n_bytes;
            seen.off_ms.extend(half.off_ms);
        }
        seen.off_ms.sort_by(f64::total_cmp);
        let memory = server.memory()?;
        // VictoriaMetrics answers of the last seconds only when it is told so, which `server` does.
        let count = |text: &str| -> io::Result<u64> {
            let now_s = SystemClock::new().now().ms() / 1_000;
            let path = format!("/api/v1/query?query={}&time={now_s}&nocache=1", escape(text));
            let answer: serde_json::Value =
                serde_json::from_slice(&server.client().get(&path)?.body).map_err(io::Error::other)?;
            let value = answer["data"]["result"][0]["value"][1].as_str().and_then(|v| v.parse().ok());
            Ok(value.unwrap_or(0))
        };
        let n_series = count("count({job=\"bench\"})")?;
        let n_up = count("sum(up{job=\"bench\"})")?;
        Ok(Outcome { system: server.system, cpu_s, seen, memory, n_series, n_up })
    }

    fn table(&self, outcomes: &[Outcome]) -> String {
        let mut out = format!("## {}\n\n| figure |", self.title);
        outcomes.iter().for_each(|o| {
            let _ = write!(out, " {} |", o.system.name());
        });
        let _ = writeln!(out, "\n|---|{}", "---:|".repeat(outcomes.len()));
        let mut row = |title: &str, decimals: usize, get: &dyn Fn(&Outcome) -> f64| {
            let _ = write!(out, "| {title} |");
            outcomes.iter().for_each(|o| {
                let _ = write!(out, " {:.decimals$} |", get(o));
            });
            out.push('\n');
        };
        row("CPU s per M samples", 3, &Outcome::cpu_s);
        row("… of the first half", 3, &|o| o.cpu_s[0]);
        row("… of the second half", 3, &|o| o.cpu_s[1]);
        row("resident, MiB", 1, &|o| o.memory.resident);
        row("of it anonymous, MiB", 1, &|o| o.memory.anonymous);
        row("most that was ever resident, MiB", 1, &|o| o.memory.peak);
        row("scrapes", 0, &|o| o.seen.n_scrapes as f64);
        row("M samples", 2, &|o| o.seen.n_samples as f64 / 1e6);
        row("bytes of a page", 0, &|o| o.seen.n_bytes as f64 / o.seen.n_scrapes.max(1) as f64);
        row("time between scrapes off by, median, ms", 2, &|o| o.seen.off(0.5));
        row("… 99 %", 2, &|o| o.seen.off(0.99));
        row("… at most", 2, &|o| o.seen.off(1.0));
        row("series", 0, &|o| o.n_series as f64);
        row("targets that are up", 0, &|o| o.n_up as f64);
        let _ = writeln!(out, "\n| bar | measured | |\n|---|---|---|");
        for (bar, measured, is_met) in self.verdicts(outcomes) {
            let met = if is_met { "met" } else { "missed" };
            let _ = writeln!(out, "| {bar} | {measured} | {met} |");
        }
        out
    }

    fn verdicts(&self, outcomes: &[Outcome]) -> Vec<(&'static str, String, bool)> {
        let of = |system| outcomes.iter().find(|o| o.system == system);
        let Some(ours) = of(System::Promontory) else { return Vec::new() };
        match self.bars {
            Bars::Time => {
                let mut out = vec![("≤ 0.3 CPU s per M samples", format!("{:.3}", ours.cpu_s()), ours.cpu_s() <= 0.3)];
                if let Some(theirs) = of(System::Prometheus) {
                    let times = theirs.cpu_s() / ours.cpu_s();
                    out.push(("≥ 6 × less than Prometheus", format!("{times:.1} ×"), times >= 6.0));
                }
                out
            }
            Bars::MemoryAndPunctuality => {
                let resident = ours.memory.peak;
                let late_ms = f64::from(self.interval_s) * 10.0;
                let n_late = ours.seen.off_ms.iter().filter(|off| **off > late_ms).count();
                let n_missed = (u64::from(self.seconds / self.interval_s) * self.n_targets as u64)
                    .saturating_sub(ours.seen.n_scrapes + self.n_targets as u64 / 100);
                vec![
                    ("≤ 1 GiB resident at any time", format!("{resident:.0} MiB"), resident <= 1024.0),
                    (
                        "no scrape late by a hundredth of the interval, none left out",
                        format!("{n_late} late, at most {:.0} ms; {n_missed} left out", ours.seen.off(1.0)),
                        n_late == 0 && n_missed == 0,
                    ),
                ]
            }
        }
    }
}

impl Outcome {
    fn cpu_s(&self) -> f64 {
        (self.cpu_s[0] + self.cpu_s[1]) / 2.0
    }
}

impl Seen {
    /// The deviation that a part of the scrapes does not exceed, ms.
    fn off(&self, part: f64) -> f64 {
        let last = self.off_ms.len().saturating_sub(1);
        self.off_ms.get((last as f64 * part) as usize).copied().unwrap_or(0.0)
    }
}
