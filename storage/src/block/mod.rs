//! Blocks: immutable folders of samples cut from the head or merged from other blocks.
//!
//! A folder `<ULID>` holds `meta`, `index` and `data`. It appears in one step with all its bytes synced, so a folder
//! with such a name is whole or damaged, never unfinished; leftovers carry the suffix `.tmp`. Nothing here knows the
//! head, the clock or queries. Described in `docs/format/block.md`.

use std::path::{Path, PathBuf};

use promontory_model::ReadError;

use crate::ulid::Ulid;
use crate::vfs::{self, Vfs, VfsError};

#[cfg(any(test, feature = "testing"))]
mod fuzz;
pub(crate) mod index;
mod meta;
pub(crate) mod mini;
pub(crate) mod order;
mod page;
pub(crate) mod predict;
mod reader;
mod section;
mod verify;
mod writer;

#[cfg(any(test, feature = "testing"))]
pub(crate) use fuzz::fuzz_meta;
#[cfg(any(test, feature = "testing"))]
pub use fuzz::{fuzz_index, fuzz_mini_block};
pub use meta::BlockMeta;
pub use reader::BlockReader;
pub(crate) use reader::{OpenBlock, SpanReader};
pub(crate) use verify::verify_watched;
pub use verify::{VerifyReport, verify};
pub use writer::{BlockWriter, ColumnInput, GroupInput};
pub(crate) use writer::{GroupSink, similar_to_the_one_before};

/// Rows of one span of a group, and so values of one mini-block.
pub(crate) const SPAN_ROWS_MAX: usize = 1024;
/// Folders with this suffix are unfinished or being deleted.
const TMP_SUFFIX: &str = ".tmp";
const META_FILE: &str = "meta";
const INDEX_FILE: &str = "index";
const DATA_FILE: &str = "data";

/// Why a block could not be written, opened or checked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BlockError {
    /// The operating system refused.
    #[error(transparent)]
    Vfs(#[from] VfsError),
    /// Stored bytes are not what was written, or the work was cancelled.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What should be written is not a group of series.
    #[error("write block {ulid}: group {group}: {what}")]
    Input {
        /// Block.
        ulid: Ulid,
        /// Number of the group in the order of adding.
        group: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The block would not fit its format; write several smaller ones.
    #[error("write block {ulid}: {what} exceeds {limit}")]
    TooLarge {
        /// Block.
        ulid: Ulid,
        /// What is too large.
        what: &'static str,
        /// How large it may be.
        limit: u64,
    },
}

/// A block folder as [`list`] finds it.
#[derive(Debug)]
pub struct Listed {
    /// Name.
    pub ulid: Ulid,
    /// Folder.
    pub path: PathBuf,
    /// What the block says of itself, or why that cannot be read.
    pub meta: Result<BlockMeta, BlockError>,
}

/// The blocks in `dir`, by ULID. Reads their `meta` files only.
///
/// # Errors
/// [`BlockError::Vfs`] when the folder cannot be read; damage of single blocks is in their entry.
pub fn list(vfs: &dyn Vfs, dir: &Path) -> Result<Vec<Listed>, BlockError> {
    let mut out = Vec::new();
    for entry in vfs.read_dir(dir)? {
        let Some(ulid) = entry.name.parse::<Ulid>().ok().filter(|_| entry.is_dir) else {
            continue;
        };
        let path = dir.join(&entry.name);
        let meta = read_meta(vfs, &path);
        out.push(Listed { ulid, path, meta });
    }
    Ok(out)
}

/// Blocks among these whose samples are all in another one: what a crash between a merge and the removal of its
/// inputs leaves behind.
#[must_use]
pub fn obsolete(metas: &[BlockMeta]) -> Vec<Ulid> {
    let mut out: Vec<Ulid> = metas.iter().map(|m| m.ulid).collect();
    out.retain(|ulid| metas.iter().any(|m| m.sources.contains(ulid)));
    out
}

/// Removes a block: takes its name away first, so that a crash never leaves half a block under a valid name.
///
/// Readers that have it open keep their view. A block that does not exist is fine.
///
/// # Errors
/// [`BlockError::Vfs`] when the system refuses.
pub fn delete(vfs: &dyn Vfs, dir: &Path, ulid: Ulid) -> Result<(), BlockError> {
    let path = dir.join(ulid.to_string());
    let tmp = tmp_path(dir, ulid);
    remove_if_there(vfs, &tmp)?;
    match vfs.rename(&path, &tmp) {
        Err(e) if e.is_not_found() => return Ok(()),
        result => result?,
    }
    vfs.sync_dir(dir)?;
    vfs.remove_dir_all(&tmp)?;
    Ok(())
}

/// Removes what unfinished writes and deletions have left in `dir`; answers how many folders that were. Call it at
/// open, before any block is written.
///
/// # Errors
/// [`BlockError::Vfs`] when the system refuses.
pub fn remove_leftovers(vfs: &dyn Vfs, dir: &Path) -> Result<usize, BlockError> {
    let mut removed = 0;
    for entry in vfs.read_dir(dir)? {
        let is_leftover = entry.name.strip_suffix(TMP_SUFFIX).is_some_and(|n| n.parse::<Ulid>().is_ok());
        if is_leftover && entry.is_dir {
            vfs.remove_dir_all(&dir.join(&entry.name))?;
            removed += 1;
        }
    }
    Ok(removed)
}

fn remove_if_there(vfs: &dyn Vfs, path: &Path) -> Result<(), VfsError> {
    match vfs.remove_dir_all(path) {
        Err(e) if e.is_not_found() => Ok(()),
        result => result,
    }
}

pub(crate) fn tmp_path(dir: &Path, ulid: Ulid) -> PathBuf {
    dir.join(format!("{ulid}{TMP_SUFFIX}"))
}

fn read_meta(vfs: &dyn Vfs, block: &Path) -> Result<BlockMeta, BlockError> {
    let path = block.join(META_FILE);
    let corrupt = |what, expected: String, found: String| ReadError::corrupt(&path, 0, what, expected, found);
    let file = vfs.open_read(&path)?;
    let len = file.len()?;
    if len > meta::META_BYTES_MAX as u64 {
        let expected = format!("at most {}", meta::META_BYTES_MAX);
        return Err(corrupt("length of the meta file", expected, len.to_string()).into());
    }
    let bytes = vfs::read(vfs, &path)?;
    let meta = BlockMeta::parse(&bytes)
        .map_err(|e| ReadError::corrupt(&path, e.offset as u64, e.what, e.expected, e.found))?;
    // A folder under a foreign name would be deleted and replaced in the place of another block.
    let name = block.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse::<Ulid>().ok());
    if let Some(name) = name.filter(|name| *name != meta.ulid) {
        return Err(corrupt("name of the block", name.to_string(), meta.ulid.to_string()).into());
    }
    Ok(meta)
}

#[cfg(test)]
pub(crate) mod tests;
