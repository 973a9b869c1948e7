//! Snapshots: a second data folder with what the database holds now, for a backup.
//!
//! Blocks never change, so that their files get second names where the file system has such, and copies elsewhere.
//! The head becomes a block. A snapshot is there as a whole or not at all, and can be opened like any data folder.

use std::path::{Path, PathBuf};

use promontory_model::TimeRange;

use crate::db::{Db, Inner};
use crate::error::WriteError;
use crate::head::lock;
use crate::maintain::write_block;
use crate::metadata;
use crate::recovery::BLOCKS_DIR;
use crate::vfs::{Vfs, VfsError};

/// Folder of the snapshots in the data folder.
const SNAPSHOTS_DIR: &str = "snapshots";
/// End of the name of an unfinished one.
const UNFINISHED: &str = ".tmp";
/// Bytes that are copied at once.
const COPY_BYTES: usize = 1 << 20;

/// What is part of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotOf {
    /// All samples.
    Everything,
    /// Those in blocks: the last two or three hours are missing, and little has to be written.
    Blocks,
}

impl Db {
    /// Makes the folder `snapshots/<name>` in the data folder with the samples of now, and gives its path. It can be
    /// opened as a database, or moved away. Blocks until it is durable; samples are taken meanwhile, but blocks are
    /// not cut.
    ///
    /// # Errors
    /// [`WriteError`] when `name` is no plain name or is taken, or files could not be written; there is no snapshot
    /// then.
    pub fn write_snapshot(&self, name: &str, of: SnapshotOf) -> Result<PathBuf, WriteError> {
        let all = self.0.dir.join(SNAPSHOTS_DIR);
        let path = all.join(name);
        let refuse = |reason: String| Err(WriteError::Block { what: "make a snapshot", reason });
        if name.is_empty() || name.contains(['/', '\\']) || name.starts_with('.') || name.ends_with(UNFINISHED) {
            return refuse(format!("{name:?} cannot be the name of a folder"));
        }
        if self.0.vfs.read_dir(&path).is_ok() {
            return refuse(format!("{} is there already", path.display()));
        }
        let unfinished = all.join(format!("{name}{UNFINISHED}"));
        let made = self.0.make_snapshot(&unfinished, of).and_then(|()| {
            self.0.vfs.rename(&unfinished, &path)?;
            self.0.vfs.sync_dir(&all)?;
            Ok(self.0.vfs.sync_dir(&self.0.dir)?)
        });
        if let Err(e) = made {
            // What cannot be removed now is before the next one.
            let _ = self.0.vfs.remove_dir_all(&unfinished);
            return Err(e);
        }
        Ok(path)
    }
}

impl Inner {
    fn make_snapshot(&self, to: &Path, of: SnapshotOf) -> Result<(), WriteError> {
        let vfs = &*self.vfs;
        // No block is cut meanwhile, so that what is not in the blocks is in the head, and no other snapshot is made.
        let _state = lock(&self.state);
        remove_unfinished(vfs, to.parent().unwrap_or(Path::new("")))?;
        let blocks_dir = to.join(BLOCKS_DIR);
        vfs.create_dir_all(&blocks_dir)?;
        {
            // A merge cannot replace blocks while this is held, and so not remove them.
            let _deletions = lock(&self.deletions);
            for block in self.blocks().iter() {
                let dir = if block.is_native() { &blocks_dir } else { to };
                link_all(vfs, block.path(), &dir.join(block.meta().ulid.to_string()))?;
            }
        }
        if of == SnapshotOf::Everything {
            let (floor, seq) = {
                let _gate = self.head.gate_alone();
                (self.head.floor(), self.head.seq())
            };
            write_block(self, &blocks_dir, self.new_ulid(), TimeRange::new(floor, i64::MAX), seq)?;
        }
        match link(vfs, &self.dir.join(metadata::NAME), &to.join(metadata::NAME)) {
            Err(e) if !e.is_not_found() => return Err(e.into()),
            _ => {}
        }
        vfs.sync_dir(&blocks_dir)?;
        Ok(vfs.sync_dir(to)?)
    }
}

fn remove_unfinished(vfs: &dyn Vfs, dir: &Path) -> Result<(), VfsError> {
    let entries = match vfs.read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.is_not_found() => return Ok(()),
        Err(e) => return Err(e),
    };
    for entry in entries.iter().filter(|e| e.is_dir && e.name.ends_with(UNFINISHED)) {
        vfs.remove_dir_all(&dir.join(&entry.name))?;
    }
    Ok(())
}

/// Makes the folder `to` with the files of the folder `from`, durably.
fn link_all(vfs: &dyn Vfs, from: &Path, to: &Path) -> Result<(), VfsError> {
    vfs.create_dir_all(to)?;
    for entry in vfs.read_dir(from)? {
        let (from, to) = (from.join(&entry.name), to.join(&entry.name));
        if entry.is_dir {
            link_all(vfs, &from, &to)?;
            continue;
        }
        link(vfs, &from, &to)?;
    }
    vfs.sync_dir(to)
}

/// Gives a file a second name; where the file system cannot do that, makes a copy.
fn link(vfs: &dyn Vfs, from: &Path, to: &Path) -> Result<(), VfsError> {
    match vfs.hard_link(from, to) {
        Err(e) if !e.is_not_found() => {}
        done => return done,
    }
    let bytes = vfs.map_read(from)?;
    let file = vfs.create(to)?;
    for part in bytes.chunks(COPY_BYTES) {
        file.write_all(part)?;
    }
    file.sync()
}
