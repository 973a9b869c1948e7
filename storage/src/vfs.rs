//! All file access of the database goes through [`Vfs`], so that tests can crash at every operation.
//!
//! Files only grow at their end; nothing is overwritten in place. A file's bytes are durable after
//! [`VfsFile::sync`], its name after [`Vfs::sync_dir`] of its folder. This module knows no format.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use promontory_model::ReadError;

use crate::canary::{Bug, is_planted};
pub use crate::mapped::Mapped;

mod overlay;
mod real;
#[cfg(any(test, feature = "sim"))]
pub mod sim;

pub use overlay::OverlayVfs;
pub use real::RealVfs;
#[cfg(any(test, feature = "sim"))]
pub use sim::SimVfs;

/// An operation on a file or folder that failed: what, where and why.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{op} {} at {offset}: {source}", path.display())]
pub struct VfsError {
    /// What was tried.
    pub op: &'static str,
    /// File or folder.
    pub path: PathBuf,
    /// Byte offset; 0 when the operation has none.
    pub offset: u64,
    /// The system's error.
    pub source: Arc<io::Error>,
}

impl VfsError {
    /// `source`, met while doing `op` on `path` at `offset`.
    #[must_use]
    pub fn new(op: &'static str, path: &Path, offset: u64, source: io::Error) -> Self {
        Self { op, path: path.to_owned(), offset, source: Arc::new(source) }
    }

    /// Whether the disk or the quota is full; such an error goes away when space returns.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    /// Whether making something durable failed.
    #[must_use]
    pub fn is_sync(&self) -> bool {
        self.op.starts_with("sync")
    }

    /// Whether the file or folder does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

impl From<VfsError> for ReadError {
    fn from(e: VfsError) -> Self {
        Self::Io { op: e.op, path: e.path.display().to_string(), offset: e.offset, source: e.source }
    }
}

/// One entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// Name without the folder. Names that are not UTF-8 are never ours and are left out.
    pub name: String,
    /// Whether it is a folder.
    pub is_dir: bool,
    /// Bytes of a file; 0 for a folder.
    pub len: u64,
}

/// Size of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSpace {
    /// Bytes in all.
    pub total: u64,
    /// Bytes that may still be written.
    pub free: u64,
}

/// Keeps other processes out until dropped.
pub trait VfsLock: Send + Sync + fmt::Debug {}

/// A file system.
pub trait Vfs: Send + Sync + fmt::Debug {
    /// Creates an empty file for writing; empties one that exists.
    ///
    /// # Errors
    /// [`VfsError`] when the system refuses, as in all operations here.
    fn create(&self, path: &Path) -> Result<Box<dyn VfsFile>, VfsError>;

    /// Opens a file that exists, to write at its end.
    ///
    /// # Errors
    /// As [`Vfs::create`].
    fn open_append(&self, path: &Path) -> Result<Box<dyn VfsFile>, VfsError>;

    /// Opens a file that exists, to read.
    ///
    /// # Errors
    /// As [`Vfs::create`].
    fn open_read(&self, path: &Path) -> Result<Box<dyn VfsFile>, VfsError>;

    /// The bytes that the file has now, for reading. Later growth is not part of the view.
    ///
    /// # Errors
    /// As [`Vfs::create`].
    fn map_read(&self, path: &Path) -> Result<Mapped, VfsError>;

    /// Gives a file or folder another name; a file that has that name is replaced in one step.
    ///
    /// # Errors
    /// As [`Vfs::create`].
    fn rename(&self, from: &Path, to: &Path) -> Result<(), VfsError>;

    /// Removes a file.
    ///
    /// # Errors
    /// As [`Vfs::create`].
    fn remove_file(&self, path: &Path) -> Result<(), VfsError>;

    /// Removes a folder and all inside.
    ///
    /// # Errors
    /// As [`Vfs::create`].
    fn remove_dir_all(&self, path: &Path) -> Result<(), VfsError>;

    /// Creates a folder and its parents; one that exists is fine.
    ///
    /// # Errors
    /// As [`Vfs::create`].
    fn create_dir_all(&self, path: &Path) -> Result<(), VfsError>;

    /// Entries of a folder, sorted by name.
    ///
    /// # Errors
    /// As [`Vfs::create`].
    fn read_dir(&self, path: &Path) -> Result<Vec<DirEntry>, VfsError>;

    /// Makes creations, renames and removals inside the folder durable.
    ///
    /// # Errors
    /// As [`Vfs::create`].
    fn sync_dir(&self, path: &Path) -> Result<(), VfsError>;

    /// Takes the lock file at `path`, creating it when missing. Never waits: an error of kind `WouldBlock` says that
    /// another process holds it.
    ///
    /// # Errors
    /// As [`Vfs::create`].
    fn lock(&self, path: &Path) -> Result<Box<dyn VfsLock>, VfsError>;

    /// Size of the file system of `path`, and what may still be written to it.
    ///
    /// # Errors
    /// As [`Vfs::create`].
    fn disk_space(&self, path: &Path) -> Result<DiskSpace, VfsError>;

    /// Gives a file a second name; both name the same bytes from then on. The file never changes later.
    ///
    /// # Errors
    /// As [`Vfs::create`]; also when the names are on different file systems or the second exists.
    fn hard_link(&self, from: &Path, to: &Path) -> Result<(), VfsError>;
}

/// An open file.
pub trait VfsFile: Send + Sync + fmt::Debug {
    /// Writes at the end. After an error some of the bytes may be there; [`VfsFile::truncate`] takes them back.
    ///
    /// # Errors
    /// [`VfsError`] when the system refuses, as in all operations here.
    fn write_all(&self, bytes: &[u8]) -> Result<(), VfsError>;

    /// Fills `buf` from `offset`; an error of kind `UnexpectedEof` when the file ends before.
    ///
    /// # Errors
    /// As [`VfsFile::write_all`].
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), VfsError>;

    /// Bytes in the file.
    ///
    /// # Errors
    /// As [`VfsFile::write_all`].
    fn len(&self) -> Result<u64, VfsError>;

    /// Whether the file has no bytes.
    ///
    /// # Errors
    /// As [`VfsFile::write_all`].
    fn is_empty(&self) -> Result<bool, VfsError> {
        Ok(self.len()? == 0)
    }

    /// Makes the bytes durable.
    ///
    /// # Errors
    /// As [`VfsFile::write_all`]. After an error nobody knows which bytes are durable.
    fn sync(&self) -> Result<(), VfsError>;

    /// Cuts the file to `len` bytes.
    ///
    /// # Errors
    /// As [`VfsFile::write_all`].
    fn truncate(&self, len: u64) -> Result<(), VfsError>;
}

/// Reads a whole file.
///
/// # Errors
/// As [`Vfs::create`].
pub fn read(vfs: &dyn Vfs, path: &Path) -> Result<Vec<u8>, VfsError> {
    Ok(vfs.map_read(path)?.to_vec())
}

/// Creates the folder `dir` so that it is still there after a crash.
pub(crate) fn create_folder(vfs: &dyn Vfs, dir: &Path) -> Result<(), VfsError> {
    if vfs.read_dir(dir).is_ok() {
        return Ok(());
    }
    vfs.create_dir_all(dir)?;
    for (i, parent) in dir.ancestors().skip(1).enumerate() {
        let synced = vfs.sync_dir(if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
        // Folders above may have been there and not be ours to open; only the one that holds ours must work.
        if i == 0 {
            synced?;
        }
    }
    Ok(())
}

/// Replaces the file at `path` so that after a crash it holds either its old or its new bytes: writes beside it,
/// syncs, renames, syncs the folder.
///
/// # Errors
/// As [`Vfs::create`].
pub fn replace(vfs: &dyn Vfs, path: &Path, bytes: &[u8]) -> Result<(), VfsError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let tmp = path.with_file_name(name);
    let file = vfs.create(&tmp)?;
    file.write_all(bytes)?;
    if !is_planted(Bug::RenamedBeforeSync) {
        file.sync()?;
    }
    drop(file);
    vfs.rename(&tmp, path)?;
    if is_planted(Bug::RenameNotSynced) {
        return Ok(());
    }
    vfs.sync_dir(path.parent().unwrap_or(Path::new("")))
}

#[cfg(test)]
mod tests;
