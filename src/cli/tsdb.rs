//! Flags of `promontory tsdb …`.
//!
//! The data folder is always the last argument and `data` when left out, as it is for the server.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use promontory_model::Duration;

/// `promontory tsdb …`.
#[derive(Debug, Subcommand)]
pub enum TsdbCommand {
    /// Say where series, samples and bytes go: cardinality, churn, bytes by metric
    Analyze(AnalyzeArgs),
    /// List blocks, those of Prometheus included
    List(ListArgs),
    /// Check every checksum and invariant of every file; changes nothing
    Verify(VerifyArgs),
    /// Put damaged files aside and keep what can still be read
    Repair(RepairArgs),
    /// Write samples as text to standard output
    Dump(DumpArgs),
    /// Write samples into a file or into blocks that Prometheus reads
    Export(ExportArgs),
    /// Take samples of any age in, from a file or from Prometheus' blocks
    Import(ImportArgs),
}

/// Flags of `tsdb analyze`.
#[derive(Debug, Args)]
#[command(after_help = "\
Series that begin later than five minutes after the first sample have `appeared`, those that end earlier than five \
minutes before the last are `gone`; both together are churn. Bytes are those of values and times on disk; what the \
head holds is counted as a block would hold it.

Examples:
  promontory tsdb analyze                 the folder `data`, head and all blocks
  promontory tsdb analyze --limit 50 /var/lib/promontory
  promontory tsdb analyze --block 01JD0Q2V6Y3QJ1Z3W8T6M4K9NB

The folder may belong to a running server; nothing in it is changed.")]
pub struct AnalyzeArgs {
    /// Lines of each list
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
    /// One block instead of everything
    #[arg(long, value_name = "ULID")]
    pub block: Option<String>,
    /// Data folder
    #[arg(default_value = "data")]
    pub path: PathBuf,
}

/// Flags of `tsdb list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Samples that are not in blocks yet, up to three hours of them, are in head and write-ahead log and not listed. Blocks \
of Prometheus that lie directly in the data folder are read where they are and listed with the format `prometheus`; \
the data folder of a Prometheus server can be listed as well.")]
pub struct ListArgs {
    /// Times as dates, sizes in KiB, MiB, GiB
    #[arg(short = 'r', long = "human-readable")]
    pub human_readable: bool,
    /// Data folder, or a folder of blocks
    #[arg(default_value = "data")]
    pub path: PathBuf,
}

/// Flags of `tsdb verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Reads and decodes everything: manifest, write-ahead log, head, blocks. Each damage is named by file and offset. A torn \
end of the log is what a crash leaves and no damage: the next start cuts it. The exit code is 1 when something is \
damaged; `promontory tsdb repair` then keeps what can be read.")]
pub struct VerifyArgs {
    /// Data folder
    #[arg(default_value = "data")]
    pub path: PathBuf,
}

/// Flags of `tsdb repair`.
#[derive(Debug, Args)]
#[command(after_help = "\
Deletes nothing: damaged blocks, and head and log when they are damaged, are moved into the folder `quarantine` beside \
the data. What can still be read of head and log is written into blocks first. The server must be stopped.")]
pub struct RepairArgs {
    /// Only say what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// Data folder
    #[arg(default_value = "data")]
    pub path: PathBuf,
}

/// Which samples.
#[derive(Debug, Clone, Args)]
pub struct SelectArgs {
    /// Series to take, like '{job="node"}' or 'up'; may be repeated, and a series needs to pass one [default: all]
    #[arg(long = "match", value_name = "SELECTOR")]
    pub matches: Vec<String>,
    /// Oldest sample: RFC 3339, Unix seconds, or milliseconds with at least 12 digits
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    pub min_time: Option<i64>,
    /// Newest sample
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    pub max_time: Option<i64>,
}

/// Text formats of samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TextFormat {
    /// Prometheus text: `name{labels} value milliseconds`
    Text,
    /// OpenMetrics: `name{labels} value seconds`, `# EOF` at the end
    Openmetrics,
}

/// Flags of `tsdb dump`.
#[derive(Debug, Args)]
#[command(after_help = "\
Series come in the order of their labels, samples in the order of their times; OpenMetrics has the metrics of a family \
together, with its type, unit and help where they are known. Staleness markers and native histograms have no form in \
text; they are left out and counted. Exemplars are left out.

Examples:
  promontory tsdb dump --match 'up' --min-time 2026-11-20T00:00:00Z
  promontory tsdb dump --format openmetrics /var/lib/promontory | gzip > all.om.gz

The folder may belong to a running server; nothing in it is changed.")]
pub struct DumpArgs {
    /// Which samples
    #[command(flatten)]
    pub select: SelectArgs,
    /// How a sample is written
    #[arg(long, value_enum, default_value_t = TextFormat::Text)]
    pub format: TextFormat,
    /// Data folder
    #[arg(default_value = "data")]
    pub path: PathBuf,
}

/// Formats in which samples come in and go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExchangeFormat {
    /// A text file with a timestamp for each sample
    Openmetrics,
    /// A folder of blocks as Prometheus, promtool and Thanos read them
    Prometheus,
}

/// Flags of `tsdb export`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  promontory tsdb export --format openmetrics --output all.om
  promontory tsdb export --format prometheus --output blocks --match '{job=\"node\"}'

Blocks hold everything, native histograms and staleness markers too; the text format has no form for these. The folder \
may belong to a running server; nothing in it is changed.")]
pub struct ExportArgs {
    /// What is written
    #[arg(long, value_enum)]
    pub format: ExchangeFormat,
    /// File, or for blocks a folder; a file that exists is replaced when the new one is complete
    #[arg(long, short = 'o', value_name = "PATH")]
    pub output: PathBuf,
    /// Which samples
    #[command(flatten)]
    pub select: SelectArgs,
    /// Length of blocks; Prometheus expects 2h
    #[arg(long, value_name = "DURATION", default_value = "2h", value_parser = super::parse_duration)]
    pub block_duration: Duration,
    /// Data folder
    #[arg(default_value = "data")]
    pub path: PathBuf,
}

/// Flags of `tsdb import`.
#[derive(Debug, Args)]
#[command(after_help = "\
An OpenMetrics file has one sample a line, with its time in seconds, in any order, and ends with `# EOF`:
  # TYPE requests counter
  requests_total{job=\"api\"} 17 1700000000.250
  # EOF

Type, unit and help of families that are not known yet are kept; exemplars are not. A sample that the data folder has \
already stays as it is. All samples are taken in or, on an error or Ctrl-C, none. \
The server must be stopped. It removes what is older than its --storage.tsdb.retention.time (15d when nothing is set) \
when it is started again: set that first.

Examples:
  promontory tsdb import --format openmetrics history.om
  promontory tsdb import --format prometheus /var/lib/prometheus /var/lib/promontory")]
pub struct ImportArgs {
    /// What the input is
    #[arg(long, value_enum)]
    pub format: ExchangeFormat,
    /// File, or for blocks a block's folder or a folder of such
    pub input: PathBuf,
    /// Data folder
    #[arg(default_value = "data")]
    pub path: PathBuf,
}

/// Digits from which on a number means ms: as seconds it would lie three thousand years ahead.
const MS_MIN: f64 = 1e11;

fn parse_time(text: &str) -> Result<i64, String> {
    if let Ok(number) = text.parse::<f64>() {
        if !number.is_finite() || number.abs() > 1e16 {
            return Err(format!("{text} is too far away"));
        }
        return Ok(if number.abs() < MS_MIN { (number * 1000.0).round() } else { number } as i64);
    }
    let time: jiff::Timestamp = text.parse().map_err(|_| {
        format!("expected RFC 3339 like 2026-11-20T08:00:00Z, Unix seconds or milliseconds, got {text:?}")
    })?;
    Ok(time.as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dates_seconds_or_milliseconds() {
        for (text, expected) in [
            ("2023-11-14T22:13:20Z", 1_700_000_000_000),
            ("1700000000", 1_700_000_000_000),
            ("1700000000.25", 1_700_000_000_250),
            ("1700000000250", 1_700_000_000_250),
            ("-1.5", -1500),
        ] {
            assert_eq!(parse_time(text), Ok(expected), "{text}");
        }
        assert!(parse_time("yesterday").unwrap_err().contains("RFC 3339"));
        assert!(parse_time("1e40").is_err());
    }
}
