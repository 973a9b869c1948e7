//! Blocks that answer queries, whatever format their files have.
//!
//! The database keeps one list of them. Retention goes by what [`Block::meta`] says, whatever the format; only blocks of
//! the own format are merged.

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
pub(crate) use merging::{Merging, Progress, retry_after_ns};
pub use snapshot::SnapshotOf;

/// An immutable part of the history in a folder named by its ULID.
pub(crate) trait Block: Source + Debug {
    /// What the block says of itself. Another format fills in what it knows; name, times and bytes must be right.
    fn meta(&self) -> &BlockMeta;

    /// Its folder.
    fn path(&self) -> &Path;

    /// The reader of the own format; `None` for another one, which is not merged.
    fn native(self: Arc<Self>) -> Option<Arc<BlockReader>>;

    /// Whether it has the own format, and so times that can be trusted.
    fn is_native(&self) -> bool;

    /// Removes its files, in one step as far as anyone sees; who has it open keeps its view.
    ///
    /// # Errors
    /// [`BlockError::Vfs`] when the system refuses.
    fn delete(&self, vfs: &dyn Vfs) -> Result<(), BlockError>;

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

    fn is_native(&self) -> bool {
        true
    }

    fn delete(&self, vfs: &dyn Vfs) -> Result<(), BlockError> {
        block::delete(vfs, self.path().parent().unwrap_or(Path::new("")), self.meta().ulid)
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

#[cfg(test)]
mod tests;
