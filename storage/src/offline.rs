//! A data folder that is read from outside, without changing it: the folder of a stopped server, of a crashed one, or
//! of one that is at work.
//!
//! Recovery happens in memory, over the layer of [`OverlayVfs`]. Nobody else can open the folder meanwhile, unless
//! somebody had it open before.

use std::path::Path;
use std::sync::Arc;

use crate::clock::Clock;
use crate::db::Db;
use crate::error::OpenError;
use crate::options::{DbOptions, FsyncPolicy};
use crate::recovery::{BLOCKS_DIR, HEAD_DIR, LOCK_FILE, WAL_DIR};
use crate::status::Recovery;
use crate::vfs::{OverlayVfs, RealVfs, Vfs as _, VfsLock};
use crate::{manifest, recovery};

mod repair;
mod verify;

pub use repair::{Repair, RepairError, repair};
pub use verify::{Finding, verify};

/// A file that Prometheus has in its data folder and we never have.
const FOREIGN_DIR: &str = "chunks_head";
/// Times that opening is tried while the owner of the folder replaces and removes files.
const TRIES_MAX: usize = 5;

/// A database that reads a data folder and never writes to it.
#[derive(Debug)]
pub struct ReadOnlyDb {
    db: Db,
    recovery: Recovery,
    is_in_use: bool,
    /// Held while nobody else has it.
    _lock: Option<Box<dyn VfsLock>>,
}

impl ReadOnlyDb {
    /// Opens the data folder `dir` as it is now.
    ///
    /// Memory: the head, and the rows of the WAL that are not sealed yet.
    ///
    /// # Errors
    /// [`OpenError`]; [`OpenError::NoData`] when the folder is not one of ours.
    pub fn open(clock: Arc<dyn Clock>, dir: &Path) -> Result<Self, OpenError> {
        expect_data(dir)?;
        let lock = try_lock(dir)?;
        let is_in_use = matches!(lock, Lock::Taken);
        let mut tries = 1;
        let (db, recovery) = loop {
            match Db::open(Arc::new(OverlayVfs::new()), Arc::clone(&clock), dir, options()) {
                // The owner has replaced what the manifest named when it was read.
                Err(OpenError::Io(e)) if is_in_use && e.is_not_found() && tries < TRIES_MAX => tries += 1,
                result => break result?,
            }
        };
        let lock = if let Lock::Ours(lock) = lock { Some(lock) } else { None };
        Ok(Self { db, recovery, is_in_use, _lock: lock })
    }

    /// The database; what is appended to it is lost.
    #[must_use]
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// What opening found.
    #[must_use]
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// Whether a server has the folder open: what it does from now on is not seen.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        self.is_in_use
    }
}

/// A server without threads of its own that syncs nothing.
fn options() -> DbOptions {
    DbOptions { commit_interval_ms: None, fsync: FsyncPolicy::Never, ..DbOptions::server() }
}

/// Fails when there is no data of ours in `dir`.
///
/// # Errors
/// [`OpenError::NoData`], or what the system says.
pub fn expect_data(dir: &Path) -> Result<(), OpenError> {
    let names = RealVfs.read_dir(dir)?;
    let has = |name: &str| names.iter().any(|e| e.name == name);
    let is_ours = has(manifest::NAME) || has(HEAD_DIR) || (has(BLOCKS_DIR) && !has(FOREIGN_DIR));
    let is_foreign = !is_ours && (has(FOREIGN_DIR) || has(WAL_DIR) || has("meta.json"));
    match (is_ours, is_foreign) {
        (true, _) => Ok(()),
        (_, is_foreign) => Err(OpenError::NoData { dir: dir.to_owned(), is_foreign }),
    }
}

enum Lock {
    Ours(Box<dyn VfsLock>),
    Taken,
    /// The folder cannot be written, so nobody needs to be kept out.
    Impossible,
}

fn try_lock(dir: &Path) -> Result<Lock, OpenError> {
    let path = dir.join(LOCK_FILE);
    // Taking a lock would create the file.
    if let Err(e) = RealVfs.open_read(&path) {
        return if e.is_not_found() { Ok(Lock::Impossible) } else { Err(e.into()) };
    }
    match RealVfs.lock(&path) {
        Ok(lock) => Ok(Lock::Ours(lock)),
        Err(e) if e.source.kind() == std::io::ErrorKind::WouldBlock => Ok(Lock::Taken),
        Err(_) => Ok(Lock::Impossible),
    }
}

/// The folder inside the data folder `dir` that holds its blocks; `dir` itself when it is a folder of blocks.
#[must_use]
pub fn blocks_folder(dir: &Path) -> std::path::PathBuf {
    let inside = dir.join(recovery::BLOCKS_DIR);
    if RealVfs.read_dir(&inside).is_ok() { inside } else { dir.to_owned() }
}

impl ReadOnlyDb {
    /// As [`ReadOnlyDb::open`], over files that somebody has changed in memory, for a folder whose lock the caller has.
    fn over(vfs: &OverlayVfs, clock: Arc<dyn Clock>, dir: &Path) -> Result<Self, OpenError> {
        let (db, recovery) = Db::open(Arc::new(vfs.clone()), clock, dir, options())?;
        Ok(Self { db, recovery, is_in_use: false, _lock: None })
    }
}

#[cfg(test)]
mod tests;
