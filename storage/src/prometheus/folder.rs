//! Finding Prometheus' blocks in a folder: `<ULID>/meta.json`.
//!
//! A data folder of Prometheus holds such folders beside its log, and so may ours, whose own blocks lie one level deeper.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::block::PrometheusBlock;
use super::meta::{META_FILE, Meta};
use crate::blocks::Block;
use crate::ulid::Ulid;
use crate::vfs::{Vfs, VfsError};

/// End of the name of a folder that is being removed. Prometheus uses the same one, and removes such at its start.
const DELETION_SUFFIX: &str = ".tmp-for-deletion";

/// Removes the block in the folder `path`: takes its name away first, so that a crash never leaves half a block.
pub(super) fn delete(vfs: &dyn Vfs, path: &Path) -> Result<(), VfsError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(DELETION_SUFFIX);
    let going = path.with_file_name(name);
    match vfs.rename(path, &going) {
        Err(e) if e.is_not_found() => return Ok(()),
        result => result?,
    }
    vfs.sync_dir(path.parent().unwrap_or(Path::new("")))?;
    vfs.remove_dir_all(&going)
}

/// Removes what removals that did not end have left in `dir`.
pub(crate) fn remove_leftovers(vfs: &dyn Vfs, dir: &Path) -> Result<(), VfsError> {
    for entry in vfs.read_dir(dir)? {
        let is_leftover = entry.name.strip_suffix(DELETION_SUFFIX).is_some_and(|n| n.parse::<Ulid>().is_ok());
        if is_leftover && entry.is_dir {
            vfs.remove_dir_all(&dir.join(&entry.name))?;
        }
    }
    Ok(())
}

/// Folders of blocks in `dir`, by name.
pub(super) fn list(vfs: &dyn Vfs, dir: &Path) -> Result<Vec<PathBuf>, VfsError> {
    let mut out = Vec::new();
    for entry in vfs.read_dir(dir)? {
        if entry.is_dir && entry.name.parse::<Ulid>().is_ok() {
            out.push(dir.join(entry.name));
        }
    }
    out.retain(|path| is_block(vfs, path));
    Ok(out)
}

/// Whether the folder `path` has a meta file: written last by who makes blocks in place, and missing in others.
pub(super) fn is_block(vfs: &dyn Vfs, path: &Path) -> bool {
    vfs.open_read(&path.join(META_FILE)).is_ok()
}

/// Blocks whose samples are all in another one: what a merge leaves behind until its inputs are removed.
pub(super) fn replaced<'a>(metas: impl Iterator<Item = &'a Meta>) -> HashSet<Ulid> {
    metas.flat_map(|m| m.replaces.iter().copied()).collect()
}

/// What a look at a data folder found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// By name; those that were known are the same readers.
    pub(crate) blocks: Vec<Arc<dyn Block>>,
    /// Blocks that cannot be read, and why.
    pub(crate) bad: Vec<(PathBuf, String)>,
}

/// The blocks directly in `dir`, but those that another one replaces. `known` are the blocks that answer now.
pub(crate) fn look(vfs: &dyn Vfs, dir: &Path, known: &[Arc<dyn Block>]) -> Result<Found, VfsError> {
    let mut out = Found::default();
    let mut metas = Vec::new();
    for path in list(vfs, dir)? {
        match Meta::read(vfs, &path) {
            Ok(meta) => metas.push((path, meta)),
            Err(e) => out.bad.push((path, e.to_string())),
        }
    }
    let gone = replaced(metas.iter().map(|(_, m)| m));
    for (path, meta) in metas.iter().filter(|(_, m)| !gone.contains(&m.ulid)) {
        match known.iter().find(|b| b.path() == path && b.meta().ulid == meta.ulid) {
            Some(same) => out.blocks.push(Arc::clone(same)),
            None => match PrometheusBlock::open(vfs, path) {
                Ok(block) => out.blocks.push(block),
                Err(e) => out.bad.push((path.clone(), e.to_string())),
            },
        }
    }
    Ok(out)
}
