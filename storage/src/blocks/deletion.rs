//! Deleting samples: at once for queries, durably, and for good when their block is written anew.
//!
//! What is deleted is what is there: samples that come later are kept, but for late ones of the head between the first
//! and the last deleted sample of their series, as in Prometheus. A deletion that a crash interrupts may hold for some
//! of the blocks only; it was not acknowledged.

use std::collections::HashSet;

use promontory_model::{Cancel, Columns, Labels, Matcher, Queryable as _, ReadError, Select, TimeRange};

use crate::db::{Db, Inner};
use crate::error::WriteError;
use crate::head::{deleted, lock};
use crate::recovery::HEAD_DIR;
use crate::tombstone::Tombstones;
use crate::vfs::VfsError;

/// Series of a batch that are decoded at once; bounds the memory of a count.
const SERIES_AT_ONCE: usize = 256;

/// What a deletion would hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Matched {
    /// Series with samples.
    pub series: u64,
    /// Their samples.
    pub samples: u64,
}

/// Deletions since the block that is being written began to read its samples; they hold for it as well.
#[derive(Debug, Default)]
pub(crate) struct Deletions {
    /// Blocks that are being written from others.
    n_writers: usize,
    since: Vec<(Vec<Vec<Matcher>>, TimeRange)>,
}

impl Deletions {
    /// A block is being written from others from now on.
    pub(crate) fn begin(&mut self) {
        self.n_writers += 1;
    }

    /// It is not any more.
    pub(crate) fn end(&mut self) {
        self.n_writers -= 1;
        if self.n_writers == 0 {
            self.since.clear();
        }
    }

    /// What was deleted since the oldest of them began.
    pub(crate) fn since(&self) -> &[(Vec<Vec<Matcher>>, TimeRange)] {
        &self.since
    }
}

impl Db {
    /// Deletes the samples inside `range` of the series that pass all matchers of one of the selectors. Queries that
    /// begin later do not see them, also after a crash; space comes back when their blocks are merged.
    ///
    /// # Errors
    /// [`WriteError`] when the deletion could not be stored; it may hold for a part of the samples then. Repeat it.
    pub fn delete_series(&self, selectors: &[Vec<Matcher>], range: TimeRange) -> Result<(), WriteError> {
        self.0.delete_series(selectors, range)
    }

    /// What [`Db::delete_series`] would delete. Decodes all of it.
    ///
    /// # Errors
    /// [`ReadError`] when samples cannot be read or the work was cancelled.
    pub fn count_series(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        cancel: &Cancel,
    ) -> Result<Matched, ReadError> {
        let snapshot = self.snapshot()?;
        let mut seen: HashSet<Labels> = HashSet::new();
        let mut columns = Columns::default();
        let mut out = Matched::default();
        for matchers in selectors {
            let selection = snapshot.select(&Select { range, matchers, cancel })?;
            for batch in selection.batches {
                for start in (0..batch.n_series()).step_by(SERIES_AT_ONCE) {
                    cancel.check()?;
                    let series = start..(start + SERIES_AT_ONCE).min(batch.n_series());
                    batch.read(series.clone(), range, &mut columns)?;
                    for i in 0..series.len() {
                        let column = columns.column(i);
                        let floats = (0..columns.n_rows()).filter(|row| column.is_present(*row)).count();
                        let samples = (floats + column.histograms.len()) as u64;
                        // Several selectors may name one series.
                        let is_new = samples > 0 && (selectors.len() == 1 || seen.insert(batch.labels(start + i)));
                        if is_new {
                            out.series += 1;
                            out.samples += samples;
                        }
                    }
                }
            }
        }
        Ok(out)
    }
}

impl Inner {
    fn delete_series(&self, selectors: &[Vec<Matcher>], range: TimeRange) -> Result<(), WriteError> {
        // No block is cut meanwhile: its samples would be neither in the head nor in the list of blocks.
        let state = lock(&self.state);
        if let Some(reason) = self.head.health.reason() {
            return Err(WriteError::ReadOnly { reason });
        }
        self.delete_in_head(selectors, range, state.manifest.floor)?;
        let mut deletions = lock(&self.deletions);
        if deletions.n_writers > 0 {
            deletions.since.push((selectors.to_vec(), range));
        }
        for block in self.blocks().iter() {
            let failed = |e: crate::block::BlockError| {
                let reason = format!("block {}: {e}", block.meta().ulid);
                WriteError::Block { what: "delete series", reason }
            };
            if let Some(without) = block.delete_samples(&*self.vfs, selectors, range, &self.cancel).map_err(failed)? {
                self.change_blocks(|blocks| {
                    for old in blocks.iter_mut().filter(|b| b.meta().ulid == without.meta().ulid) {
                        *old = without.clone();
                    }
                });
            }
        }
        drop(state);
        Ok(())
    }

    /// Drops tombstones of samples that left the head for good: `floor` is that of the stored manifest.
    pub(crate) fn forget_tombstones(&self, floor: i64) -> Result<(), VfsError> {
        let old = self.head.tombstones();
        let mut tombstones = Tombstones::clone(&old);
        tombstones.forget_before(floor.min(self.head.oldest_reader().0));
        if tombstones != *old {
            tombstones.store(&*self.vfs, &self.dir.join(HEAD_DIR))?;
            self.head.set_tombstones(tombstones);
        }
        Ok(())
    }

    fn delete_in_head(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        stored_floor: i64,
    ) -> Result<(), WriteError> {
        let head = &self.head;
        let snapshot = {
            let _gate = head.gate_alone();
            head.snapshot()
        };
        let mut tombstones = Tombstones::clone(&head.tombstones());
        tombstones.forget_before(stored_floor.min(head.oldest_reader().0));
        let mut found = false;
        for matchers in selectors {
            let select = Select { range, matchers, cancel: &self.cancel };
            found |= deleted::add(&snapshot, &select, &mut tombstones)?;
        }
        if !found {
            return Ok(());
        }
        // The list names groups and columns. They must not be gone after a crash and given to other series.
        if let Some(wal) = head.wal() {
            wal.flush().and_then(|()| wal.sync()).map_err(|e| self.failed(e))?;
        }
        tombstones.store(&*self.vfs, &self.dir.join(HEAD_DIR))?;
        head.set_tombstones(tombstones);
        head.changes.changed(range);
        Ok(())
    }
}
