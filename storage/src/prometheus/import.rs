//! Taking Prometheus' blocks over into blocks of ours.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use promontory_model::histogram::HistogramSample;
use promontory_model::{Cancel, Columns, ReadError, Select, SeriesBatch, TimeRange};

use super::block::PrometheusBlock;
use super::folder;
use super::meta::Meta;
use super::windows::windows;
use super::{Progress, PrometheusError};
use crate::block::{self, BlockMeta, BlockReader, BlockWriter, ColumnInput, GroupInput};
use crate::blocks::Block;
use crate::db::{Db, Inner};
use crate::error::WriteError;
use crate::known::Known;
use crate::recovery::BLOCKS_DIR;
use crate::select::{self, NamedSource};

/// Values that are read at once: 32 MiB.
const VALUES_MAX: usize = 4 << 20;
/// Series that are read at once, and columns of a group.
const COLUMNS_MAX: usize = 4096;
/// Longer blocks become one for each day.
const DAY_MS: i64 = 24 * 3_600_000;
/// Blocks of more days than this, which their meta file may claim, become one.
const DAYS_MAX: i64 = 10_000;

/// What an import did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imported {
    /// Prometheus blocks that were read.
    pub n_blocks_read: u64,
    /// Blocks of ours that were written.
    pub n_blocks_written: u64,
    /// Samples that are new.
    pub n_samples: u64,
    /// Samples that were there already with equal bits.
    pub n_duplicates: u64,
    /// Samples that were there already with another value; that value stays.
    pub n_conflicts: u64,
    /// Blocks that could not be read, and why; nothing of them was taken over.
    pub bad_blocks: Vec<(PathBuf, String)>,
}

/// Takes the samples of the Prometheus blocks in `from` over into `db`: `from` is a block's folder, or a folder of
/// such folders, as a data folder or a snapshot of Prometheus is. What `db` has already stays; what its data folder
/// holds as Prometheus' blocks does not count as such. Deleted samples are left out. Nothing in `from` changes. New
/// samples are durable and seen by queries when this returns; those beyond the retention go at the next tick.
///
/// Memory: the labels of one block and of what `db` has at its times, and a few million values.
///
/// # Errors
/// [`PrometheusError`] when there is no block or nothing can be written; what is taken over by then stays.
pub fn import(
    db: &Db,
    from: &Path,
    progress: &mut dyn FnMut(Progress),
    cancel: &Cancel,
) -> Result<Imported, PrometheusError> {
    if let Some(reason) = db.read_only() {
        return Err(WriteError::ReadOnly { reason }.into());
    }
    let db = &**db.inner();
    let mut out = Imported::default();
    let blocks = blocks_in(db, from, &mut out)?;
    let n_expected = blocks.iter().fold(0u64, |n, (_, meta)| n.saturating_add(meta.n_samples)).max(1);
    let mut n_before = 0u64;
    for (path, meta) in &blocks {
        let mut report = |n_read: u64, n_blocks: u64| {
            let done = ((n_before + n_read) as f64 / n_expected as f64).min(1.0);
            progress(Progress { done, n_samples: n_before + n_read, n_blocks, range: meta.range });
        };
        let mut work = Work { db, cancel, done: Imported::default(), n_read: 0, written: Vec::new() };
        match work.take(path, meta, out.n_blocks_written, &mut report) {
            Ok(()) => {
                n_before += work.n_read;
                out.n_blocks_read += 1;
                out.n_blocks_written += work.written.len() as u64;
                out.n_samples += work.done.n_samples;
                out.n_duplicates += work.done.n_duplicates;
                out.n_conflicts += work.done.n_conflicts;
            }
            Err(PrometheusError::Read(e @ (ReadError::Corrupt { .. } | ReadError::Limit { .. }))) => {
                work.take_back();
                out.bad_blocks.push((path.clone(), e.to_string()));
            }
            Err(e) => {
                work.take_back();
                return Err(e);
            }
        }
    }
    let times = blocks.iter().map(|(_, meta)| meta.range);
    let range = times.reduce(|a, b| TimeRange { mint: a.mint.min(b.mint), maxt: a.maxt.max(b.maxt) });
    let range = range.unwrap_or(TimeRange::ALL);
    progress(Progress { done: 1.0, n_samples: n_before, n_blocks: out.n_blocks_written, range });
    Ok(out)
}

/// The blocks in `from` that no other one replaces, oldest first.
fn blocks_in(db: &Inner, from: &Path, out: &mut Imported) -> Result<Vec<(PathBuf, Meta)>, PrometheusError> {
    let vfs = &*db.vfs;
    let found = if folder::is_block(vfs, from) { vec![from.to_owned()] } else { folder::list(vfs, from)? };
    if found.is_empty() {
        return Err(PrometheusError::NoBlocks { path: from.to_owned() });
    }
    let mut blocks = Vec::new();
    for path in found {
        match Meta::read(vfs, &path) {
            Ok(meta) => blocks.push((path, meta)),
            Err(e) => out.bad_blocks.push((path, e.to_string())),
        }
    }
    let gone = folder::replaced(blocks.iter().map(|(_, meta)| meta));
    blocks.retain(|(_, meta)| !gone.contains(&meta.ulid));
    blocks.sort_by_key(|(_, meta)| (meta.range.mint, meta.ulid));
    Ok(blocks)
}

/// One block on its way.
struct Work<'a> {
    db: &'a Inner,
    cancel: &'a Cancel,
    done: Imported,
    /// Samples read, whatever became of them.
    n_read: u64,
    written: Vec<BlockMeta>,
}

impl Work<'_> {
    fn blocks_dir(&self) -> PathBuf {
        self.db.dir.join(BLOCKS_DIR)
    }

    /// `report` gets the samples read and the blocks written, `n_written` of which were there before.
    fn take(
        &mut self,
        path: &Path,
        meta: &Meta,
        n_written: u64,
        report: &mut dyn FnMut(u64, u64),
    ) -> Result<(), PrometheusError> {
        let block = PrometheusBlock::open(&*self.db.vfs, path)?;
        let range = meta.range;
        let length = range.maxt.0.saturating_sub(range.mint.0);
        let parts =
            if (DAY_MS..DAY_MS * DAYS_MAX).contains(&length) { windows(&[range], range, DAY_MS) } else { vec![range] };
        for range in parts {
            let select = Select { range, matchers: &[], cancel: self.cancel };
            let source = NamedSource { source: Arc::clone(&block) as _, name: None };
            let selection = select::select(&[source], &select)?;
            let known = Known::in_range(self.db, &select)?;
            let mut writer = BlockWriter::new(Arc::clone(&self.db.vfs), &self.blocks_dir(), self.db.new_ulid(), 1)?;
            for batch in &selection.batches {
                self.take_batch(&**batch, range, &known, &mut writer, &mut |n_read, new| {
                    report(n_read, n_written + new);
                })?;
            }
            if writer.n_samples() > 0 {
                self.done.n_samples += writer.n_samples();
                self.written.push(writer.finish()?);
            }
        }
        let mut readers: Vec<Arc<dyn Block>> = Vec::new();
        for meta in &self.written {
            readers.push(BlockReader::open(&*self.db.vfs, &self.blocks_dir().join(meta.ulid.to_string()))?);
        }
        self.db.change_blocks(|blocks| blocks.extend(readers));
        Ok(())
    }

    fn take_batch(
        &mut self,
        batch: &dyn SeriesBatch,
        range: TimeRange,
        known: &Known,
        writer: &mut BlockWriter,
        report: &mut dyn FnMut(u64, u64),
    ) -> Result<(), PrometheusError> {
        let step = (VALUES_MAX / batch.rows_max(range).max(1)).clamp(1, COLUMNS_MAX);
        let mut columns = Columns::default();
        for start in (0..batch.n_series()).step_by(step) {
            self.cancel.check().map_err(ReadError::from)?;
            let part = start..(start + step).min(batch.n_series());
            batch.read(part.clone(), range, &mut columns)?;
            let mut fresh = Vec::with_capacity(part.len());
            for (i, series) in part.enumerate() {
                let labels = batch.labels(series);
                let mut column = Fresh::of(&columns, i);
                self.n_read += column.n_samples();
                let old = known.samples(&labels, columns.timestamps())?;
                column.leave_out(&old, &columns, i, &mut self.done);
                fresh.push((labels, column));
            }
            let inputs: Vec<ColumnInput<'_>> = fresh
                .iter()
                .enumerate()
                .map(|(i, (labels, column))| ColumnInput {
                    labels: labels.clone(),
                    values: columns.column(i).values,
                    presence: column.presence.as_deref(),
                    histograms: &column.histograms,
                })
                .collect();
            writer.add_group(&GroupInput { timestamps: columns.timestamps(), columns: &inputs })?;
            report(self.n_read, self.written.len() as u64);
        }
        Ok(())
    }

    /// Removes the blocks that are written; what cannot be removed is told, for the next start will show it.
    fn take_back(&self) {
        for meta in &self.written {
            if let Err(e) = block::delete(&*self.db.vfs, &self.blocks_dir(), meta.ulid) {
                tracing::error!(block = %meta.ulid, error = %e, "a block of an unfinished import stays");
            }
        }
    }
}

/// Which samples of a column are new.
struct Fresh {
    n_rows: usize,
    /// Floats; `None` for all rows.
    presence: Option<Vec<u64>>,
    histograms: Vec<(usize, HistogramSample)>,
}

impl Fresh {
    fn of(columns: &Columns, i: usize) -> Self {
        let column = columns.column(i);
        let presence = column.presence.map(<[u64]>::to_vec);
        Self { n_rows: columns.n_rows(), presence, histograms: column.histogram_samples().collect() }
    }

    fn is_float(&self, row: usize) -> bool {
        self.presence.as_ref().is_none_or(|bits| bits[row / 64] >> (row % 64) & 1 == 1)
    }

    fn n_samples(&self) -> u64 {
        ((0..self.n_rows).filter(|row| self.is_float(*row)).count() + self.histograms.len()) as u64
    }

    /// Leaves out samples at times at which `known`, a single column, has one.
    fn leave_out(&mut self, known: &Columns, columns: &Columns, i: usize, counts: &mut Imported) {
        if known.n_rows() == 0 {
            return;
        }
        let (new, old) = (columns.column(i), known.column(0));
        let old_histograms: Vec<(usize, HistogramSample)> = old.histogram_samples().collect();
        let find = |list: &[(usize, HistogramSample)], row: usize| list.binary_search_by_key(&row, |h| h.0).ok();
        let mut gone = Vec::new();
        for (row, t) in columns.timestamps().iter().enumerate() {
            let Ok(at) = known.timestamps().binary_search(t) else { continue };
            let old_histogram = find(&old_histograms, at).map(|at| &old_histograms[at].1);
            if !old.is_present(at) && old_histogram.is_none() {
                continue;
            }
            let is_same = if self.is_float(row) {
                let bits = self.presence.get_or_insert_with(|| vec![u64::MAX; columns.n_rows().div_ceil(64)]);
                bits[row / 64] &= !(1 << (row % 64));
                old.is_present(at) && old.values[at].to_bits() == new.values[row].to_bits()
            } else if let Some(own) = find(&self.histograms, row) {
                gone.push(row);
                old_histogram.is_some_and(|old| old.same_bits(&self.histograms[own].1))
            } else {
                continue;
            };
            *(if is_same { &mut counts.n_duplicates } else { &mut counts.n_conflicts }) += 1;
        }
        self.histograms.retain(|(row, _)| gone.binary_search(row).is_err());
    }
}
