//! `promontory tsdb verify`: every checksum and invariant of every file.

use std::io::Write;
use std::sync::Arc;

use promontory_model::Cancel;
use promontory_storage::clock::SystemClock;
use promontory_storage::offline::{self, Finding};

use super::{TsdbError, count, utc};
use crate::cli::VerifyArgs;
use crate::commands::progress::Progress;

pub(super) fn run(args: &VerifyArgs, out: &mut dyn Write, cancel: &Cancel) -> Result<bool, TsdbError> {
    let mut progress = Progress::new("verify");
    let mut lines = Vec::new();
    let mut tell = |finding: Finding| lines.push(line(&finding));
    let mut report = |done: f64| progress.report(done, String::new);
    let n = offline::verify(Arc::new(SystemClock::new()), &args.path, &mut tell, &mut report, cancel)?;
    drop(progress);
    for line in lines {
        writeln!(out, "{line}")?;
    }
    cancel.check()?;
    match n {
        0 => writeln!(out, "all is well")?,
        n => writeln!(out, "{} damaged; `promontory tsdb repair` keeps what can be read", count(n))?,
    }
    Ok(n == 0)
}

fn line(finding: &Finding) -> String {
    let of = |series: u64, samples: u64| format!("ok, {} series, {} samples", count(series), count(samples));
    match finding {
        Finding::Block(meta) => {
            let (from, to) = (utc(meta.range.mint.ms()), utc(meta.range.maxt.ms()));
            format!("block {}: {}, {from} to {to}", meta.ulid, of(meta.n_series, meta.n_samples))
        }
        Finding::ForeignBlock { path, n_series, n_samples } => {
            format!("block of prometheus {}: {}", path.display(), of(*n_series, *n_samples))
        }
        Finding::Head { n_series, n_samples } => {
            format!("head and log: {} series, {} samples readable", count(*n_series), count(*n_samples))
        }
        Finding::Damage(what) => format!("damaged: {what}"),
        Finding::Note(what) => format!("note: {what}"),
    }
}
