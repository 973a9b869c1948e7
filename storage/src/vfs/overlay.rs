//! The machine's files as they are, with all changes kept in memory: opens a data folder without touching it.
//!
//! Nothing here ever writes to the disk. Recovery may cut torn tails, start a WAL segment and seal rows; the next
//! process finds the folder as it was. Locks are not taken, so the owner of the folder may be at work meanwhile.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{DirEntry, DiskSpace, RealVfs, Vfs, VfsError, VfsFile, VfsLock};
use crate::mapped::Mapped;

/// Space that is said to be free: what is written here takes memory only, which the caller bounds.
const FREE_BYTES: u64 = 1 << 40;

/// The machine's files under a layer of changes; clones share the layer.
#[derive(Clone, Default)]
pub struct OverlayVfs(Arc<Mutex<BTreeMap<PathBuf, Node>>>);

/// What the layer says of a path.
#[derive(Clone)]
enum Node {
    File(Arc<Mutex<Vec<u8>>>),
    Dir,
    /// What the disk has at another path: the target of a rename.
    Disk(PathBuf),
    Removed,
}

/// Where a path leads.
enum Found {
    Memory(Arc<Mutex<Vec<u8>>>),
    Dir,
    Disk(PathBuf),
}

impl OverlayVfs {
    /// The files of the machine without changes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn layer(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Node>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, op: &'static str, path: &Path) -> Result<Found, VfsError> {
        let layer = self.layer();
        for ancestor in path.ancestors() {
            let Some(node) = layer.get(ancestor) else { continue };
            let is_itself = ancestor == path;
            return match node {
                Node::File(bytes) if is_itself => Ok(Found::Memory(Arc::clone(bytes))),
                Node::Dir if is_itself => Ok(Found::Dir),
                Node::Disk(there) => {
                    let rest = path.strip_prefix(ancestor).unwrap_or(Path::new(""));
                    Ok(Found::Disk(if is_itself { there.clone() } else { there.join(rest) }))
                }
                Node::File(_) | Node::Dir | Node::Removed => Err(not_found(op, path)),
            };
        }
        Ok(Found::Disk(path.to_owned()))
    }

    /// The file's bytes in the layer, copied there when they are still those of the disk.
    fn copied(&self, path: &Path) -> Result<Arc<Mutex<Vec<u8>>>, VfsError> {
        match self.find("open", path)? {
            Found::Memory(bytes) => Ok(bytes),
            Found::Dir => Err(VfsError::new("open", path, 0, io::ErrorKind::IsADirectory.into())),
            Found::Disk(there) => {
                let bytes = Arc::new(Mutex::new(RealVfs.map_read(&there)?.to_vec()));
                self.layer().insert(path.to_owned(), Node::File(Arc::clone(&bytes)));
                Ok(bytes)
            }
        }
    }

    fn forget_below(&self, path: &Path) {
        self.layer().retain(|p, _| !p.starts_with(path));
    }
}

impl fmt::Debug for OverlayVfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OverlayVfs({} changes)", self.layer().len())
    }
}

fn not_found(op: &'static str, path: &Path) -> VfsError {
    VfsError::new(op, path, 0, io::ErrorKind::NotFound.into())
}

impl Vfs for OverlayVfs {
    fn create(&self, path: &Path) -> Result<Box<dyn VfsFile>, VfsError> {
        self.layer().insert(path.to_owned(), Node::File(Arc::default()));
        self.open_append(path)
    }

    fn open_append(&self, path: &Path) -> Result<Box<dyn VfsFile>, VfsError> {
        if let Found::Disk(there) = self.find("open", path)? {
            RealVfs.open_read(&there)?;
        }
        Ok(Box::new(File { vfs: self.clone(), path: path.to_owned() }))
    }

    fn open_read(&self, path: &Path) -> Result<Box<dyn VfsFile>, VfsError> {
        match self.find("open", path)? {
            Found::Disk(there) => RealVfs.open_read(&there),
            Found::Memory(_) => Ok(Box::new(File { vfs: self.clone(), path: path.to_owned() })),
            Found::Dir => Err(VfsError::new("open", path, 0, io::ErrorKind::IsADirectory.into())),
        }
    }

    fn map_read(&self, path: &Path) -> Result<Mapped, VfsError> {
        match self.find("map", path)? {
            Found::Disk(there) => RealVfs.map_read(&there),
            Found::Memory(bytes) => Ok(Mapped::owned(bytes.lock().unwrap_or_else(PoisonError::into_inner).clone())),
            Found::Dir => Err(VfsError::new("map", path, 0, io::ErrorKind::IsADirectory.into())),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), VfsError> {
        let node = match self.find("rename", from)? {
            Found::Memory(bytes) => Node::File(bytes),
            Found::Dir => Node::Dir,
            Found::Disk(there) => {
                if RealVfs.read_dir(&there).is_err() {
                    RealVfs.open_read(&there)?;
                }
                Node::Disk(there)
            }
        };
        let below: Vec<_> = {
            let layer = self.layer();
            let below = layer.iter().filter(|(p, _)| p.starts_with(from) && *p != from);
            below.filter_map(|(p, n)| Some((to.join(p.strip_prefix(from).ok()?), n.clone()))).collect()
        };
        self.forget_below(from);
        self.forget_below(to);
        let mut layer = self.layer();
        layer.insert(from.to_owned(), Node::Removed);
        layer.insert(to.to_owned(), node);
        layer.extend(below);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> Result<(), VfsError> {
        if let Found::Disk(there) = self.find("remove", path)? {
            RealVfs.open_read(&there)?;
        }
        self.layer().insert(path.to_owned(), Node::Removed);
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> Result<(), VfsError> {
        if let Found::Disk(there) = self.find("remove", path)? {
            RealVfs.read_dir(&there)?;
        }
        self.forget_below(path);
        self.layer().insert(path.to_owned(), Node::Removed);
        Ok(())
    }

    fn create_dir_all(&self, path: &Path) -> Result<(), VfsError> {
        for ancestor in path.ancestors().filter(|a| !a.as_os_str().is_empty()) {
            if self.read_dir(ancestor).is_ok() {
                break;
            }
            self.layer().insert(ancestor.to_owned(), Node::Dir);
        }
        Ok(())
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<DirEntry>, VfsError> {
        let mut out = match self.find("list", path)? {
            Found::Disk(there) => RealVfs.read_dir(&there)?,
            Found::Dir => Vec::new(),
            Found::Memory(_) => return Err(VfsError::new("list", path, 0, io::ErrorKind::NotADirectory.into())),
        };
        let layer = self.layer();
        out.retain(|entry| !layer.contains_key(&path.join(&entry.name)));
        for (child, node) in layer.iter().filter(|(p, _)| p.parent() == Some(path)) {
            let Some(name) = child.file_name().and_then(|n| n.to_str()) else { continue };
            let (is_dir, len) = match node {
                Node::File(bytes) => (false, bytes.lock().unwrap_or_else(PoisonError::into_inner).len() as u64),
                Node::Dir => (true, 0),
                Node::Disk(there) if RealVfs.read_dir(there).is_ok() => (true, 0),
                Node::Disk(there) => (false, RealVfs.open_read(there)?.len()?),
                Node::Removed => continue,
            };
            out.push(DirEntry { name: name.to_owned(), is_dir, len });
        }
        out.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(out)
    }

    fn sync_dir(&self, _: &Path) -> Result<(), VfsError> {
        Ok(())
    }

    fn lock(&self, _: &Path) -> Result<Box<dyn VfsLock>, VfsError> {
        Ok(Box::new(NoLock))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Result<(), VfsError> {
        let node = match self.find("link", from)? {
            Found::Memory(bytes) => Node::File(bytes),
            Found::Dir => return Err(VfsError::new("link", from, 0, io::ErrorKind::IsADirectory.into())),
            Found::Disk(there) => {
                RealVfs.open_read(&there)?;
                Node::Disk(there)
            }
        };
        if self.open_read(to).is_ok() {
            return Err(VfsError::new("link", to, 0, io::ErrorKind::AlreadyExists.into()));
        }
        self.layer().insert(to.to_owned(), node);
        Ok(())
    }

    fn disk_space(&self, _: &Path) -> Result<DiskSpace, VfsError> {
        Ok(DiskSpace { total: FREE_BYTES, free: FREE_BYTES })
    }
}

/// Nobody has to be kept out of one's own memory.
#[derive(Debug)]
struct NoLock;

impl VfsLock for NoLock {}

/// A file that was opened to write, or that the layer holds.
#[derive(Debug)]
struct File {
    vfs: OverlayVfs,
    path: PathBuf,
}

impl File {
    fn change<T>(&self, change: impl FnOnce(&mut Vec<u8>) -> T) -> Result<T, VfsError> {
        let bytes = self.vfs.copied(&self.path)?;
        let mut bytes = bytes.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(change(&mut bytes))
    }
}

impl VfsFile for File {
    fn write_all(&self, bytes: &[u8]) -> Result<(), VfsError> {
        self.change(|all| all.extend_from_slice(bytes))
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), VfsError> {
        let is_read = self.change(|all| {
            let start = usize::try_from(offset).ok();
            let found = start.and_then(|start| all.get(start..start.checked_add(buf.len())?));
            found.map(|found| buf.copy_from_slice(found)).is_some()
        })?;
        let short = || VfsError::new("read", &self.path, offset, io::ErrorKind::UnexpectedEof.into());
        is_read.then_some(()).ok_or_else(short)
    }

    fn len(&self) -> Result<u64, VfsError> {
        match self.vfs.find("measure", &self.path)? {
            Found::Disk(there) => RealVfs.open_read(&there)?.len(),
            _ => self.change(|all| all.len() as u64),
        }
    }

    fn sync(&self) -> Result<(), VfsError> {
        Ok(())
    }

    fn truncate(&self, len: u64) -> Result<(), VfsError> {
        self.change(|all| all.truncate(usize::try_from(len).unwrap_or(usize::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs;

    #[test]
    fn changes_are_seen_here_and_never_on_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::create_dir(path("folder")).unwrap();
        for name in ["grown", "cut", "gone", "moved", "folder/inside"] {
            std::fs::write(path(name), b"as it was").unwrap();
        }
        let before = snapshot(dir.path());
        let overlay = OverlayVfs::new();
        overlay.open_append(&path("grown")).unwrap().write_all(b", and more").unwrap();
        overlay.open_append(&path("cut")).unwrap().truncate(2).unwrap();
        overlay.remove_file(&path("gone")).unwrap();
        overlay.rename(&path("moved"), &path("there")).unwrap();
        overlay.rename(&path("folder"), &path("other")).unwrap();
        overlay.create_dir_all(&path("new/deep")).unwrap();
        vfs::replace(&overlay, &path("new/deep/file"), b"made here").unwrap();
        let read = |name: &str| vfs::read(&overlay, &path(name)).map(|b| String::from_utf8(b).unwrap());
        assert_eq!(read("grown").unwrap(), "as it was, and more");
        assert_eq!(read("cut").unwrap(), "as");
        assert!(read("gone").unwrap_err().is_not_found() && read("moved").unwrap_err().is_not_found());
        assert_eq!(read("there").unwrap(), "as it was");
        assert_eq!(read("other/inside").unwrap(), "as it was");
        assert!(read("folder/inside").unwrap_err().is_not_found());
        assert_eq!(read("new/deep/file").unwrap(), "made here");
        let names = |p: PathBuf| overlay.read_dir(&p).unwrap().into_iter().map(|e| e.name).collect::<Vec<_>>();
        assert_eq!(names(dir.path().to_owned()), ["cut", "grown", "new", "other", "there"]);
        assert_eq!(names(path("new/deep")), ["file"]);
        overlay.remove_dir_all(&path("other")).unwrap();
        assert!(overlay.read_dir(&path("other")).unwrap_err().is_not_found());
        assert_eq!(snapshot(dir.path()), before);
    }

    fn snapshot(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let mut out = Vec::new();
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                out.extend(snapshot(&path));
            } else {
                out.push((path.clone(), std::fs::read(&path).unwrap()));
            }
        }
        out.sort();
        out
    }
}
