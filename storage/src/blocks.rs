//! Blocks that answer queries, whatever format their files have.
//!
//! The database keeps one list of them. Retention goes by what [`Block::meta`] says; only blocks of the own format are
//! merged.

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

use crate::block::{self, BlockError, BlockMeta, BlockReader};
use crate::source::Source;
use crate::vfs::Vfs;

/// An immutable part of the history in a folder named by its ULID.
pub(crate) trait Block: Source + Debug {
    /// What the block says of itself. Another format fills in what it knows; name, times and bytes must be right.
    fn meta(&self) -> &BlockMeta;

    /// Its folder.
    fn path(&self) -> &Path;

    /// The reader of the own format; `None` for another one, which is not merged.
    fn native(self: Arc<Self>) -> Option<Arc<BlockReader>>;
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
