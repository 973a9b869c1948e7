//! Blocks that answer queries, whatever format their files have.
//!
//! The database keeps one list of them. Retention goes by what [`Block::meta`] says; only blocks of the own format are
//! merged.

mod deletion;
mod merging;
mod snapshot;

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

use promontory_model::{Cancel, Matcher, TimeRange};

use crate::block::{self, BlockError, BlockMeta, BlockReader};
use crate::source::Source;
use crate::vfs::Vfs;

pub(crate) use deletion::Deletions;
pub use deletion::Matched;
pub use merging::MergeStatus;
pub(crate) use merging::{Merging, Progress};
pub use snapshot::SnapshotOf;

/// An immutable part of the history in a folder named by its ULID.
pub(crate) trait Block: Source + Debug {
    /// What the block says of itself. Another format fills in what it knows; name, times and bytes must be right.
    fn meta(&self) -> &BlockMeta;

    /// Its folder.
    fn path(&self) -> &Path;

    /// The reader of the own format; `None` for another one, which is not merged.
    fn native(self: Arc<Self>) -> Option<Arc<BlockReader>>;

    /// Deletes the samples inside `range` of the series that pass all matchers of one of the selectors, durably, and
    /// answers with the block without them; `None` when no series passes.
    ///
    /// # Errors
    /// [`BlockError`] when the block cannot be read, or the deletion cannot be stored.
    fn delete_samples(
        &self,
        vfs: &dyn Vfs,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        cancel: &Cancel,
    ) -> Result<Option<Arc<dyn Block>>, BlockError>;
}

impl Block for BlockReader {
    fn meta(&self) -> &BlockMeta {
        Self::meta(self)
    }

    fn path(&self) -> &Path {
        Self::path(self)
    }

    fn native(self: Arc<Self>) -> Option<Arc<BlockReader>> {
        Some(self)
    }

    fn delete_samples(
        &self,
        vfs: &dyn Vfs,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        cancel: &Cancel,
    ) -> Result<Option<Arc<dyn Block>>, BlockError> {
        Ok(Self::delete_samples(self, vfs, selectors, range, cancel)?.map(|b| b as Arc<dyn Block>))
    }
}

/// Opens the block in the folder `path`.
///
/// # Errors
/// [`BlockError`] when it cannot be read.
pub(crate) fn open(vfs: &dyn Vfs, path: &Path) -> Result<Arc<dyn Block>, BlockError> {
    Ok(BlockReader::open(vfs, path)?)
}

/// Removes the files of a block; who has it open keeps its view.
///
/// # Errors
/// [`BlockError::Vfs`] when the system refuses.
pub(crate) fn delete(vfs: &dyn Vfs, block: &dyn Block) -> Result<(), BlockError> {
    block::delete(vfs, block.path().parent().unwrap_or(Path::new("")), block.meta().ulid)
}

#[cfg(test)]
mod tests;
