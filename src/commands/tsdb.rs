//! `promontory tsdb …`: looks into a data folder, checks and repairs it, takes samples in and out.
//!
//! What only looks opens the folder without changing it, also when a server has it open; what changes it takes its
//! lock. All of it ends in order on Ctrl-C.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use promontory_model::{Cancel, Cancelled, ReadError};
use promontory_storage::block::BlockError;
use promontory_storage::clock::SystemClock;
use promontory_storage::offline::{ReadOnlyDb, RepairError};
use promontory_storage::prometheus::PrometheusError;
use promontory_storage::vfs::{RealVfs, VfsError};
use promontory_storage::{BackfillError, Db, DbOptions, OpenError, WriteError};

use super::progress;
use crate::cli::TsdbCommand;

mod analyze;
mod dump;
mod export;
mod families;
mod import;
mod list;
mod repair;
mod text;
mod verify;

/// Why a command did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum TsdbError {
    /// The report could not be written, a closed pipe for example.
    #[error("write the report: {0}")]
    Report(#[from] io::Error),
    /// A file of the user could not be read or written.
    #[error("{op} {}: {source}", path.display())]
    File {
        /// What was tried.
        op: &'static str,
        /// File.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The data folder could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The operating system refused.
    #[error(transparent)]
    Vfs(#[from] VfsError),
    /// Data could not be read, or the work was cancelled.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A block could not be read or written.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// Samples could not be taken in.
    #[error(transparent)]
    Backfill(#[from] BackfillError),
    /// Blocks of Prometheus could not be read or written.
    #[error(transparent)]
    Prometheus(#[from] PrometheusError),
    /// The data folder could not be repaired.
    #[error(transparent)]
    Repair(#[from] RepairError),
    /// The data folder could not be closed.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A flag's value makes no sense.
    #[error("--{flag}: {what}")]
    Flag {
        /// Flag.
        flag: &'static str,
        /// What is wrong.
        what: String,
    },
    /// A line of an input file cannot be taken in.
    #[error("{}:{line}: {what}; nothing was imported", path.display())]
    Line {
        /// File.
        path: PathBuf,
        /// Line, from 1, and column where it is known.
        line: String,
        /// What is wrong and what helps.
        what: String,
    },
}

impl TsdbError {
    /// Whether it was the user who ended the work.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(
            self,
            Self::Read(ReadError::Cancelled(_))
                | Self::Repair(RepairError::Read(ReadError::Cancelled(_)))
                | Self::Prometheus(
                    PrometheusError::Read(ReadError::Cancelled(_))
                        | PrometheusError::Block(BlockError::Read(ReadError::Cancelled(_)))
                )
                | Self::Block(BlockError::Read(ReadError::Cancelled(_)))
                | Self::Backfill(
                    BackfillError::Read(ReadError::Cancelled(_))
                        | BackfillError::Block(BlockError::Read(ReadError::Cancelled(_)))
                )
        )
    }

    fn file(op: &'static str, path: &Path, source: io::Error) -> Self {
        Self::File { op, path: path.to_owned(), source }
    }
}

impl From<Cancelled> for TsdbError {
    fn from(e: Cancelled) -> Self {
        Self::Read(e.into())
    }
}

/// Runs a command; answers whether all was well.
///
/// # Errors
/// [`TsdbError`].
pub fn run(command: &TsdbCommand, out: &mut dyn Write) -> Result<bool, TsdbError> {
    let cancel = Cancel::new();
    progress::stop_on_signals(&cancel)?;
    let all_good = match command {
        TsdbCommand::List(args) => list::run(args, out),
        TsdbCommand::Dump(args) => dump::run(args, out, &cancel),
        TsdbCommand::Import(args) => import::run(args, out, &cancel),
        TsdbCommand::Analyze(args) => analyze::run(args, out, &cancel),
        TsdbCommand::Verify(args) => verify::run(args, out, &cancel),
        TsdbCommand::Repair(args) => repair::run(args, out, &cancel),
        TsdbCommand::Export(args) => export::run(args, out, &cancel),
    }?;
    out.flush()?;
    Ok(all_good)
}

/// Opens a data folder for reading; says on standard error what the reader should know.
fn open_to_read(path: &Path) -> Result<ReadOnlyDb, TsdbError> {
    let db = ReadOnlyDb::open(Arc::new(SystemClock::new()), path)?;
    if db.is_in_use() {
        eprintln!("note: {} is in use; what the server takes in from now on is not seen", path.display());
    }
    let recovery = db.recovery();
    for (block, why) in &recovery.bad_blocks {
        eprintln!("warning: block {block} is left out: {why}");
    }
    for note in &recovery.notes {
        eprintln!("warning: {note}");
    }
    Ok(db)
}

/// Opens a data folder that nobody else has open, to change it.
fn open_to_write(path: &Path) -> Result<Db, TsdbError> {
    // Nothing ages while a command works: retention is the server's.
    let options = DbOptions { retention_ms: None, ..DbOptions::server() };
    let (db, recovery) = Db::open(Arc::new(RealVfs), Arc::new(SystemClock::new()), path, options)?;
    for note in &recovery.notes {
        eprintln!("warning: {note}");
    }
    Ok(db)
}

/// A time in ms as RFC 3339 to the second.
fn utc(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms)
        .map_or_else(|_| ms.to_string(), |t| t.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// `1.5 MiB`.
fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `12,345,678`.
fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `3.1 M`, for rates.
fn short(n: f64) -> String {
    match n {
        n if n >= 1e9 => format!("{:.1} G", n / 1e9),
        n if n >= 1e6 => format!("{:.1} M", n / 1e6),
        n if n >= 1e3 => format!("{:.1} k", n / 1e3),
        n => format!("{n:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0, 1023, 1536, 5 << 30].map(bytes), ["0 B", "1023 B", "1.5 KiB", "5.0 GiB"]);
        assert_eq!([3.0, 3100.0, 3.1e6].map(short), ["3", "3.1 k", "3.1 M"]);
        assert_eq!(utc(1_700_000_000_000), "2023-11-14T22:13:20Z");
    }
}
