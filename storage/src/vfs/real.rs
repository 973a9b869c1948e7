//! The machine's file system.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::{DirEntry, DiskSpace, Vfs, VfsError, VfsFile, VfsLock};
use crate::mapped::Mapped;

/// The machine's file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealVfs;

#[derive(Debug)]
struct RealFile {
    file: File,
    path: PathBuf,
}

/// Holds the lock as long as the file is open.
#[derive(Debug)]
struct RealLock(#[expect(dead_code, reason = "kept open: closing the file gives the lock back")] File);

impl VfsLock for RealLock {}

fn at<T>(op: &'static str, path: &Path, result: io::Result<T>) -> Result<T, VfsError> {
    result.map_err(|e| VfsError::new(op, path, 0, e))
}

fn opened(path: &Path, file: File) -> Box<dyn VfsFile> {
    Box::new(RealFile { file, path: path.to_owned() })
}

impl Vfs for RealVfs {
    fn create(&self, path: &Path) -> Result<Box<dyn VfsFile>, VfsError> {
        let file = at("create", path, OpenOptions::new().read(true).append(true).create(true).open(path))?;
        at("create", path, file.set_len(0))?;
        Ok(opened(path, file))
    }

    fn open_append(&self, path: &Path) -> Result<Box<dyn VfsFile>, VfsError> {
        at("open", path, OpenOptions::new().read(true).append(true).open(path)).map(|f| opened(path, f))
    }

    fn open_read(&self, path: &Path) -> Result<Box<dyn VfsFile>, VfsError> {
        at("open", path, File::open(path)).map(|f| opened(path, f))
    }

    fn map_read(&self, path: &Path) -> Result<Mapped, VfsError> {
        at("map", path, File::open(path).and_then(|f| Mapped::map(&f)))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), VfsError> {
        at("rename", from, fs::rename(from, to))
    }

    fn remove_file(&self, path: &Path) -> Result<(), VfsError> {
        at("remove", path, fs::remove_file(path))
    }

    fn remove_dir_all(&self, path: &Path) -> Result<(), VfsError> {
        at("remove", path, fs::remove_dir_all(path))
    }

    fn create_dir_all(&self, path: &Path) -> Result<(), VfsError> {
        at("create folder", path, fs::create_dir_all(path))
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<DirEntry>, VfsError> {
        let list = || -> io::Result<Vec<DirEntry>> {
            let mut out = Vec::new();
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                let Ok(name) = entry.file_name().into_string() else { continue };
                let meta = entry.metadata()?;
                out.push(DirEntry { name, is_dir: meta.is_dir(), len: if meta.is_dir() { 0 } else { meta.len() } });
            }
            out.sort_unstable_by(|a, b| a.name.cmp(&b.name));
            Ok(out)
        };
        at("list", path, list())
    }

    fn sync_dir(&self, path: &Path) -> Result<(), VfsError> {
        at("sync folder", path, File::open(path).and_then(|f| f.sync_all()))
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn VfsLock>, VfsError> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = at("lock", path, file)?;
        let taken = file.try_lock().map_err(|e| match e {
            TryLockError::WouldBlock => {
                io::Error::new(io::ErrorKind::WouldBlock, "another process uses this data folder")
            }
            TryLockError::Error(e) => e,
        });
        at("lock", path, taken)?;
        Ok(Box::new(RealLock(file)))
    }

    fn disk_space(&self, path: &Path) -> Result<DiskSpace, VfsError> {
        let stat = at("ask space of", path, rustix::fs::statvfs(path).map_err(io::Error::from))?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(DiskSpace { total: bytes(stat.f_blocks), free: bytes(stat.f_bavail) })
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Result<(), VfsError> {
        at("link", from, fs::hard_link(from, to))
    }
}

impl RealFile {
    fn at<T>(&self, op: &'static str, offset: u64, result: io::Result<T>) -> Result<T, VfsError> {
        result.map_err(|e| VfsError::new(op, &self.path, offset, e))
    }
}

impl VfsFile for RealFile {
    fn write_all(&self, bytes: &[u8]) -> Result<(), VfsError> {
        // A failed write costs one more call to name the offset; a successful one costs none.
        (&self.file).write_all(bytes).map_err(|e| {
            let offset = self.file.metadata().map_or(0, |m| m.len());
            VfsError::new("write", &self.path, offset, e)
        })
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), VfsError> {
        self.at("read", offset, self.file.read_exact_at(buf, offset))
    }

    fn len(&self) -> Result<u64, VfsError> {
        self.at("measure", 0, self.file.metadata()).map(|m| m.len())
    }

    fn sync(&self) -> Result<(), VfsError> {
        self.at("sync", 0, self.file.sync_data())
    }

    fn truncate(&self, len: u64) -> Result<(), VfsError> {
        self.at("truncate", len, self.file.set_len(len))
    }
}
