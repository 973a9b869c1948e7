//! The tables, in Markdown.

use std::fmt::Write as _;

use crate::bars::Verdict;
use crate::query::{Query, Timing};
use crate::refusal::Refusal;
use crate::server::{Memory, System};
use crate::traffic::Traffic;

/// What one server showed with one kind of data.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) n_series: usize,
    pub(crate) n_samples: u64,
    pub(crate) cpu_s_per_million: f64,
    /// When the last sample was acknowledged.
    pub(crate) peak: Memory,
    /// When the server had settled after it.
    pub(crate) memory: Memory,
    pub(crate) restarted: Memory,
    pub(crate) queried: Memory,
    pub(crate) bytes_per_sample: f64,
    pub(crate) wal_per_sample: Option<f64>,
    pub(crate) written_per_sample: f64,
    pub(crate) wire_per_sample: f64,
    pub(crate) restart_s: Option<f64>,
    /// Samples that were acknowledged and are not there.
    pub(crate) lost: i64,
    pub(crate) timings: Vec<Timing>,
    pub(crate) refusal: Option<Refusal>,
    pub(crate) traffic: Option<Traffic>,
}

impl Outcome {
    pub(crate) fn brief(&self) -> String {
        format!(
            "{:.3} CPU s/M, {:.0} MiB ({:.0} anonymous), {:.3} B/sample, restart {:?} s, {} of {} samples lost",
            self.cpu_s_per_million,
            self.memory.resident,
            self.memory.anonymous,
            self.bytes_per_sample,
            self.restart_s,
            self.lost,
            self.n_samples
        )
    }
}

/// Tables of all kinds of data.
pub(crate) struct Report {
    systems: Vec<System>,
    parts: Vec<String>,
}

/// What is told of traffic.
type Figure = fn(&Traffic) -> f64;

/// One line of a table.
struct Row<'a> {
    title: &'a str,
    decimals: usize,
    values: Vec<Option<f64>>,
    /// Whether ratios say something.
    compares: bool,
}

impl Report {
    pub(crate) fn new(systems: &[System]) -> Self {
        Self { systems: systems.to_vec(), parts: Vec::new() }
    }

    pub(crate) fn add(&mut self, title: &str, queries: &[Query], outcomes: Vec<Outcome>) {
        let mut out = String::new();
        let first = outcomes.first();
        let (n_samples, n_series) = first.map_or((0, 0), |o| (o.n_samples, o.n_series));
        let millions = n_samples as f64 / 1e6;
        let _ = writeln!(out, "## {title}\n\n{millions:.1} M samples of {n_series} series.\n");
        let mut head = String::from("| figure |");
        self.systems.iter().for_each(|s| {
            let _ = write!(head, " {} |", s.name());
        });
        let peers = self.systems.len().saturating_sub(1);
        for system in self.systems.iter().skip(1) {
            let _ = write!(head, " of {} |", system.name());
        }
        let _ = writeln!(out, "{head}\n|---|{}", "---:|".repeat(self.systems.len() + peers));
        let row = |title, decimals, compares, get: &dyn Fn(&Outcome) -> Option<f64>| Row {
            title,
            decimals,
            compares,
            values: outcomes.iter().map(get).collect(),
        };
        let mut rows = vec![
            row("remote write, CPU s per M samples", 3, true, &|o| Some(o.cpu_s_per_million)),
            row("disk, bytes per sample, index included", 3, true, &|o| Some(o.bytes_per_sample)),
            row("log, bytes per sample", 3, true, &|o| o.wal_per_sample),
            row("written to disk meanwhile, bytes per sample", 2, true, &|o| Some(o.written_per_sample)),
            row("resident after the write, MiB", 1, true, &|o| Some(o.memory.resident)),
            row("of it anonymous, MiB", 1, true, &|o| Some(o.memory.anonymous)),
            row("anonymous, bytes per series", 0, true, &|o| {
                Some(o.memory.anonymous * 1_048_576.0 / o.n_series.max(1) as f64)
            }),
            row("resident with the last sample, MiB", 1, true, &|o| Some(o.peak.resident)),
        ];
        if outcomes.iter().any(|o| o.restart_s.is_some()) {
            rows.push(row("restart after kill -9 until ready, s", 3, true, &|o| o.restart_s));
            rows.push(row("resident after the restart, MiB", 1, true, &|o| Some(o.restarted.resident)));
        }
        rows.push(row("acknowledged samples that are missing", 0, false, &|o| Some(o.lost as f64)));
        for (i, query) in queries.iter().enumerate() {
            let timing = |o: &Outcome| o.timings.get(i).copied();
            rows.push(row(query.title, 1, true, &|o| Some(timing(o)?.cold_ms)));
            rows.push(row("… first after the restart", 1, true, &|o| Some(timing(o)?.first_ms)));
            rows.push(row("… CPU", 1, true, &|o| Some(timing(o)?.cpu_ms)));
            rows.push(row("… refreshed", 1, true, &|o| Some(timing(o)?.refreshed_ms)));
            rows.push(row("… peak of memory, MiB", 1, true, &|o| Some(timing(o)?.peak_mib)));
            rows.push(row("… of it above what it was before, MiB", 1, true, &|o| Some(timing(o)?.risen_mib)));
            rows.push(row("… answer, KiB", 0, false, &|o| Some(timing(o)?.bytes as f64 / 1024.0)));
        }
        if !queries.is_empty() {
            rows.push(row("resident after the queries, MiB", 1, true, &|o| Some(o.queried.resident)));
        }
        if outcomes.iter().any(|o| o.traffic.is_some()) {
            let titles: [(&str, usize, Figure); 12] = [
                ("range queries beside samples, p50, ms", 1, |t| t.p50_ms),
                ("… p95, ms", 1, |t| t.p95_ms),
                ("… p99, ms", 1, |t| t.p99_ms),
                ("… answered a second", 1, |t| t.queries_per_s),
                ("… not answered", 0, |t| t.n_errors as f64),
                ("samples that arrived a second", 0, |t| t.samples_per_s),
                ("processors busy meanwhile", 2, |t| t.processors),
                ("resident a fifth into it, MiB", 1, |t| t.early_mib),
                ("… of it anonymous", 1, |t| t.early_anonymous_mib),
                ("resident at its end, MiB", 1, |t| t.late_mib),
                ("… of it anonymous", 1, |t| t.late_anonymous_mib),
                ("most resident, MiB", 1, |t| t.peak_mib),
            ];
            for (title, decimals, get) in titles {
                rows.push(row(title, decimals, true, &|o| o.traffic.as_ref().map(get)));
            }
        }
        rows.push(row("bytes of remote write per sample", 1, false, &|o| Some(o.wire_per_sample)));
        rows.iter().for_each(|r| r.write(&mut out));
        self.write_verdicts(queries, &outcomes, &mut out);
        self.parts.push(out);
    }

    /// Adds a part that is a table already.
    pub(crate) fn add_text(&mut self, text: String) {
        self.parts.push(text);
    }

    /// The bars of what was measured.
    fn write_verdicts(&self, queries: &[Query], outcomes: &[Outcome], out: &mut String) {
        let mut verdicts: Vec<(&str, Verdict)> = Vec::new();
        for (i, query) in queries.iter().enumerate() {
            let all = self.systems.iter().zip(outcomes);
            let timings: Vec<_> = all.filter_map(|(s, o)| Some((*s, *o.timings.get(i)?))).collect();
            let judged = query.bars.iter().filter_map(|bar| bar.judge(&timings));
            verdicts.extend(judged.map(|verdict| (query.title, verdict)));
        }
        let refusals = outcomes.iter().filter_map(|o| o.refusal.as_ref());
        verdicts.extend(refusals.map(|r| ("all series", r.verdict())));
        if verdicts.is_empty() {
            return;
        }
        let _ = writeln!(out, "\n| query | bar | measured | |\n|---|---|---|---|");
        for (query, v) in verdicts {
            let met = if v.is_met { "met" } else { "missed" };
            let _ = writeln!(out, "| {query} | {} | {} | {met} |", v.bar, v.measured);
        }
    }

    pub(crate) fn last(&self) -> String {
        self.parts.last().map_or(String::new(), |part| format!("\n\n{part}"))
    }

    pub(crate) fn text(&self) -> String {
        self.parts.join("\n")
    }
}

impl Row<'_> {
    fn write(&self, out: &mut String) {
        let _ = write!(out, "| {} |", self.title);
        for value in &self.values {
            let _ = match value {
                Some(value) => write!(out, " {value:.*} |", self.decimals),
                None => write!(out, " |"),
            };
        }
        for peer in self.values.iter().skip(1) {
            let _ = match (self.values.first(), peer) {
                (Some(Some(ours)), Some(theirs)) if self.compares && *theirs > 0.0 => {
                    write!(out, " {:.3} |", ours / theirs)
                }
                _ => write!(out, " |"),
            };
        }
        out.push('\n');
    }
}
