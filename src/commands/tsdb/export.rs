//! `promontory tsdb export`: samples into a text file, or into blocks that Prometheus reads.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use promontory_model::{Cancel, Labels};
use promontory_storage::prometheus::{self, ExportOptions};
use promontory_storage::vfs::{RealVfs, Vfs};

use super::dump::{self, rate};
use super::{TsdbError, bytes, count, open_to_read, short, utc};
use crate::cli::{ExchangeFormat, ExportArgs, TextFormat};
use crate::commands::progress::Progress;

/// Bytes that are gathered before a write.
const WRITE_BYTES: usize = 1 << 20;

pub(super) fn run(args: &ExportArgs, out: &mut dyn Write, cancel: &Cancel) -> Result<bool, TsdbError> {
    match args.format {
        ExchangeFormat::Openmetrics => openmetrics(args, out, cancel),
        ExchangeFormat::Prometheus => blocks(args, out, cancel),
    }
}

/// A file that appears under its name when it is complete, and goes away when it is not.
struct Unfinished {
    path: PathBuf,
    is_done: bool,
}

impl Unfinished {
    fn create(target: &Path) -> Result<(Self, File), TsdbError> {
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(".tmp");
        let path = target.with_file_name(name);
        let file = File::create(&path).map_err(|e| TsdbError::file("create", &path, e))?;
        Ok((Self { path, is_done: false }, file))
    }

    fn publish(mut self, target: &Path) -> Result<(), TsdbError> {
        fs::rename(&self.path, target).map_err(|e| TsdbError::file("rename to", target, e))?;
        self.is_done = true;
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_done {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn openmetrics(args: &ExportArgs, out: &mut dyn Write, cancel: &Cancel) -> Result<bool, TsdbError> {
    let (unfinished, file) = Unfinished::create(&args.output)?;
    let mut text = BufWriter::with_capacity(WRITE_BYTES, file);
    let wrote = dump::write(&args.path, &args.select, TextFormat::Openmetrics, &mut text, "export", cancel);
    // It is the file that could not be written, not the report.
    let wrote = wrote.map_err(|e| match e {
        TsdbError::Report(e) => TsdbError::file("write", &unfinished.path, e),
        other => other,
    })?;
    let file = text.into_inner().map_err(|e| TsdbError::file("write", &unfinished.path, e.into_error()))?;
    file.sync_all().map_err(|e| TsdbError::file("sync", &unfinished.path, e))?;
    unfinished.publish(&args.output)?;
    wrote.tell();
    let (samples, series) = (count(wrote.n_samples), count(wrote.n_series));
    writeln!(out, "{}: {samples} samples of {series} series", args.output.display())?;
    Ok(wrote.warnings.is_empty())
}

fn blocks(args: &ExportArgs, out: &mut dyn Write, cancel: &Cancel) -> Result<bool, TsdbError> {
    let sets = dump::matcher_sets(&args.select)?;
    let [matchers] = sets.as_slice() else {
        let what = "blocks are written for one selector; join several with a regular expression".to_owned();
        return Err(TsdbError::Flag { flag: "match", what });
    };
    let mut progress = Progress::new("export");
    let db = open_to_read(&args.path)?;
    let none = Labels::empty();
    let options = ExportOptions {
        range: dump::range(&args.select),
        matchers,
        block_ms: args.block_duration.ms(),
        external_labels: &none,
    };
    let vfs: Arc<dyn Vfs> = Arc::new(RealVfs);
    let mut report = |p: prometheus::Progress| {
        let seconds = progress.seconds();
        progress.report(p.done, || {
            format!("{} samples, {} blocks{}", short(p.n_samples as f64), p.n_blocks, rate(p.n_samples, seconds))
        });
    };
    let written = prometheus::export(&vfs, db.db(), &args.output, &options, &mut report, cancel)?;
    let mut n_samples = 0;
    for block in &written {
        n_samples += block.n_samples;
        writeln!(
            out,
            "block {}: {} to {}, {} series, {} samples, {}",
            block.ulid,
            utc(block.range.mint.ms()),
            utc(block.range.maxt.ms()),
            count(block.n_series),
            count(block.n_samples),
            bytes(block.bytes)
        )?;
    }
    writeln!(out, "{}: {} blocks, {} samples", args.output.display(), written.len(), count(n_samples))?;
    Ok(true)
}
