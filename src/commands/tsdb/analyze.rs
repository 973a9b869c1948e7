//! `promontory tsdb analyze`: which metrics, labels and label pairs take most, and which come and go.

use std::cmp::Reverse;
use std::io::{BufWriter, Write};

use promontory_model::Cancel;
use promontory_storage::ulid::Ulid;
use promontory_storage::{Analysis, MetricUsage};

use super::dump::rate;
use super::{TsdbError, bytes, count, open_to_read, short, utc};
use crate::cli::AnalyzeArgs;
use crate::commands::progress::Progress;

const HOUR_MS: f64 = 3_600_000.0;

pub(super) fn run(args: &AnalyzeArgs, out: &mut dyn Write, cancel: &Cancel) -> Result<bool, TsdbError> {
    let only =
        args.block.as_deref().map(str::parse::<Ulid>).transpose().map_err(|e| TsdbError::Flag {
            flag: "block",
            what: format!("{e}; `promontory tsdb list` shows the names"),
        })?;
    let mut progress = Progress::new("analyze");
    let db = open_to_read(&args.path)?;
    let mut report = |done: f64, n: u64| {
        let seconds = progress.seconds();
        progress.report(done, || format!("{} samples{}", short(n as f64), rate(n, seconds)));
    };
    let found = db.db().analyze(only, args.limit, &mut report, cancel)?;
    if let Some(ulid) = only.filter(|_| found.parts.is_empty()) {
        let what = format!("no block {ulid} in {}; `promontory tsdb list` shows the names", args.path.display());
        return Err(TsdbError::Flag { flag: "block", what });
    }
    drop(progress);
    let mut out = BufWriter::new(out);
    summary(&found, &mut out)?;
    lists(&found, args.limit, &mut out)?;
    out.flush()?;
    Ok(db.recovery().bad_blocks.is_empty())
}

fn summary(found: &Analysis, out: &mut dyn Write) -> Result<(), TsdbError> {
    let n_blocks = found.parts.iter().filter(|p| p.block.is_some()).count();
    let head = if n_blocks < found.parts.len() { "head, " } else { "" };
    if found.range.is_empty() {
        writeln!(out, "{head}{n_blocks} blocks: no samples")?;
        return Ok(());
    }
    let sum = |of: &dyn Fn(&promontory_storage::PartUsage) -> u64| found.parts.iter().map(of).sum::<u64>();
    let (values, times) = (sum(&|p| p.value_bytes), sum(&|p| p.timestamp_bytes));
    let index: [u64; 4] = [0, 1, 2, 3].map(|i| sum(&|p| p.index_bytes[i]));
    let all = values + times + index.iter().sum::<u64>();
    let hours = (found.range.maxt.ms() - found.range.mint.ms()) as f64 / HOUR_MS;
    let per_hour = |n: u64| if hours > 0.0 { format!("{}/h", short(n as f64 / hours)) } else { "0/h".to_owned() };
    let rows = [
        ("parts", format!("{head}{n_blocks} blocks")),
        ("from", utc(found.range.mint.ms())),
        ("to", format!("{} ({hours:.1} h)", utc(found.range.maxt.ms()))),
        ("series", count(found.n_series)),
        ("appeared", format!("{} ({})", count(found.n_appeared), per_hour(found.n_appeared))),
        ("gone", format!("{} ({})", count(found.n_gone), per_hour(found.n_gone))),
        ("label pairs", count(found.n_pairs)),
        ("samples", count(found.n_samples)),
        ("bytes", format!("{}, {:.3} per sample", bytes(all), all as f64 / found.n_samples.max(1) as f64)),
        ("  values", bytes(values)),
        ("  times", bytes(times)),
        ("  dictionaries", bytes(index[0])),
        ("  postings", bytes(index[1])),
        ("  series table", bytes(index[2])),
        ("  groups", bytes(index[3])),
    ];
    for (name, value) in rows {
        writeln!(out, "{name:<16}{value}")?;
    }
    if found.parts.iter().any(|p| !p.is_measured && p.n_samples > 0) {
        writeln!(out, "Bytes of the head, and of blocks of other formats, are what a block of ours would take.")?;
    }
    Ok(())
}

fn lists(found: &Analysis, limit: usize, out: &mut dyn Write) -> Result<(), TsdbError> {
    let metrics = |size: fn(&MetricUsage) -> u64| {
        let mut sorted: Vec<&MetricUsage> = found.metrics.iter().filter(|m| size(m) > 0).collect();
        sorted.sort_by_key(|m| Reverse(size(m)));
        sorted.truncate(limit);
        let cells = |m: &&MetricUsage| {
            let per_sample = m.bytes as f64 / m.n_samples.max(1) as f64;
            let name = if m.metric.is_empty() { "(no name)".to_owned() } else { m.metric.clone() };
            vec![
                count(m.n_series),
                count(m.n_samples),
                bytes(m.bytes),
                format!("{per_sample:.3}"),
                count(m.n_appeared),
                count(m.n_gone),
                name,
            ]
        };
        sorted.iter().map(cells).collect::<Vec<_>>()
    };
    let of_metric = ["series", "samples", "bytes", "bytes/sample", "appeared", "gone", "metric"];
    table("Metrics by bytes", &of_metric, metrics(|m| m.bytes), out)?;
    table("Metrics by series", &of_metric, metrics(|m| m.n_series), out)?;
    table(
        "Metrics by churn (series that appeared or are gone)",
        &of_metric,
        metrics(|m| m.n_appeared + m.n_gone),
        out,
    )?;
    let mut names: Vec<_> = found.names.iter().collect();
    names.sort_by_key(|n| Reverse(n.n_values));
    let cells = |n: &&promontory_storage::NameUsage| {
        vec![count(n.n_values), bytes(n.value_bytes), count(n.n_series), n.name.clone()]
    };
    let names = names.iter().take(limit).map(cells).collect();
    table("Labels by number of values", &["values", "bytes of values", "series", "label"], names, out)?;
    let pairs = |list: &[promontory_storage::PairUsage]| {
        list.iter()
            .map(|p| vec![count(p.n_series), count(p.n_churned), format!("{}={:?}", p.name, p.value)])
            .collect::<Vec<_>>()
    };
    let of_pair = ["series", "churned", "label pair"];
    table("Label pairs by series", &of_pair, pairs(&found.pairs_by_series), out)?;
    table("Label pairs by churn (series that appeared or are gone)", &of_pair, pairs(&found.pairs_by_churn), out)
}

/// Numbers to the right, the name last; nothing when there are no rows.
fn table(title: &str, header: &[&str], rows: Vec<Vec<String>>, out: &mut dyn Write) -> Result<(), TsdbError> {
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{title}")?;
    let header: Vec<String> = header.iter().map(|h| (*h).to_owned()).collect();
    let mut widths: Vec<usize> = header.iter().map(String::len).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    for row in [&header].into_iter().chain(&rows) {
        for (cell, width) in row[..row.len() - 1].iter().zip(&widths) {
            write!(out, "{cell:>width$}  ")?;
        }
        writeln!(out, "{}", row[row.len() - 1])?;
    }
    Ok(())
}
