//! Writing blocks that Prometheus, promtool and Thanos read.

use std::path::Path;
use std::sync::Arc;

use promontory_model::{Cancel, Columns, Labels, Matcher, Queryable as _, ReadError, Select, SeriesBatch, TimeRange};

use super::windows::windows;
use super::writer::Writer;
use super::{Progress, PrometheusError};
use crate::db::Db;
use crate::ulid::Ulid;
use crate::vfs::{self, Vfs};

/// What to export.
#[derive(Debug, Clone, Copy)]
pub struct ExportOptions<'a> {
    /// Samples inside are written.
    pub range: TimeRange,
    /// Series that pass all of these are written; none means all series.
    pub matchers: &'a [Matcher],
    /// Length of a block in ms; blocks begin at its multiples. Prometheus expects two hours.
    pub block_ms: i64,
    /// Labels that Thanos adds to all series of the block; with none, nothing of Thanos is written.
    pub external_labels: &'a Labels,
}

/// A block that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// Name of the block and its folder.
    pub ulid: Ulid,
    /// Times that the block says it covers; samples lie inside.
    pub range: TimeRange,
    /// Series.
    pub n_series: u64,
    /// Samples.
    pub n_samples: u64,
    /// Chunks.
    pub n_chunks: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

/// Values that are read at once.
const VALUES_MAX: usize = 1 << 20;
/// Series that are read at once.
const COLUMNS_MAX: usize = 1024;
/// Shortest block.
const BLOCK_MS_MIN: i64 = 60_000;

/// Writes what `db` holds, head and blocks, as blocks of Prometheus into the folder `dir`, which is created when
/// missing. Blocks appear there one by one, each whole and synced. Memory: the label sets and chunk positions of the
/// series of one block, and the samples of some columns.
///
/// Floats and histograms come back bit for bit, but for histograms with integer counts above 2^63, which become such
/// with floating-point counts. Blocks are no shorter than a minute.
///
/// # Errors
/// [`PrometheusError`]; blocks that are finished stay. A part of the database that cannot be read is an error.
pub fn export(
    vfs: &Arc<dyn Vfs>,
    db: &Db,
    dir: &Path,
    options: &ExportOptions<'_>,
    progress: &mut dyn FnMut(Progress),
    cancel: &Cancel,
) -> Result<Vec<Exported>, PrometheusError> {
    vfs::create_folder(&**vfs, dir)?;
    let windows = windows(&db.ranges(), options.range, options.block_ms.max(BLOCK_MS_MIN));
    let mut out = Vec::new();
    let mut n_samples = 0;
    for (i, &window) in windows.iter().enumerate() {
        let snapshot = db.snapshot()?;
        let select = Select { range: window, matchers: options.matchers, cancel };
        let selection = snapshot.select(&select)?;
        if !selection.warnings.is_empty() {
            return Err(PrometheusError::Incomplete { reason: selection.warnings.join("; ") });
        }
        let mut report = |part: f64, n: u64| {
            let done = (i as f64 + part) / windows.len() as f64;
            progress(Progress { done, n_samples: n_samples + n, n_blocks: out.len() as u64, range: window });
        };
        let mut writer = Writer::new(&**vfs, dir, db.new_ulid())?;
        write(&selection.batches, &select, &mut writer, &mut report)?;
        if writer.n_samples() > 0 {
            let block = writer.finish(window, options.external_labels)?;
            n_samples += block.n_samples;
            out.push(block);
        }
    }
    let range = options.range;
    progress(Progress { done: 1.0, n_samples, n_blocks: out.len() as u64, range });
    Ok(out)
}

/// Adds all series of `batches`. `report` hears the part that is done and the number of samples.
fn write(
    batches: &[Arc<dyn SeriesBatch>],
    select: &Select<'_>,
    writer: &mut Writer<'_>,
    report: &mut dyn FnMut(f64, u64),
) -> Result<(), PrometheusError> {
    let n_series: usize = batches.iter().map(|b| b.n_series()).sum();
    let mut n_done = 0;
    let mut columns = Columns::default();
    for batch in batches {
        let step = (VALUES_MAX / batch.rows_max(select.range).max(1)).clamp(1, COLUMNS_MAX);
        for start in (0..batch.n_series()).step_by(step) {
            select.cancel.check().map_err(ReadError::from)?;
            let part = start..(start + step).min(batch.n_series());
            batch.read(part.clone(), select.range, &mut columns)?;
            for (i, series) in part.clone().enumerate() {
                writer.add(batch.labels(series), columns.timestamps(), &columns.column(i))?;
            }
            n_done += part.len();
            report(n_done as f64 / n_series as f64, writer.n_samples());
        }
    }
    Ok(())
}
