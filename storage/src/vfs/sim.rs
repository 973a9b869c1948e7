//! A file system in memory that can crash, fill up and fail, for tests.
//!
//! It keeps two states: what a process sees, and what is durable. [`SimVfs::crash`] answers with a new file system
//! that holds what a machine could find after power loss, [`Survival::All`] after the death of the process alone.
//! Operations are counted; from the one that [`SimVfs::crash_at`] names, everything fails as if the process were
//! dead. [`SimVfs::keep_moments`] keeps the state before every operation, so that a test can crash at each of them after
//! running its workload once.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{DirEntry, DiskSpace, Vfs, VfsError, VfsFile, VfsLock};
use crate::mapped::Mapped;

/// Bytes that a disk writes in one piece.
const SECTOR_BYTES: usize = 512;

/// What of the work since the last sync survives a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survival {
    /// Everything: only the process died.
    All,
    /// Nothing that was not synced, names included.
    Synced,
    /// Of each file a prefix of its unsynced bytes, of the changes of names the first ones; chosen by the seed.
    Prefix,
    /// As `Prefix`, and the last sector of what survives unsynced holds garbage.
    TornSector,
    /// All bytes, but only some of the unsynced changes of names, in any combination; a rename is one change.
    LostEntry,
    /// All lengths and names, but unsynced bytes behind some place read as zeros: a length that was written before
    /// its data.
    Zeros,
}

impl Survival {
    /// What a machine may leave.
    pub const OF_MACHINE: [Self; 6] =
        [Self::All, Self::Synced, Self::Prefix, Self::TornSector, Self::LostEntry, Self::Zeros];
}

/// A kind of operation that [`SimVfs::fail_next`] can make fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Writing bytes.
    Write,
    /// Syncing a file or folder.
    Sync,
    /// Renaming.
    Rename,
}

/// The file system; clones share it.
#[derive(Clone)]
pub struct SimVfs(Arc<Mutex<State>>);

#[derive(Clone, Default)]
struct State {
    nodes: Vec<Node>,
    ops: u64,
    crash_at: Option<u64>,
    space: Option<u64>,
    used: u64,
    fail_next: Option<(Op, io::ErrorKind)>,
    locks: Vec<PathBuf>,
    /// Changes of names since the last sync of their folders, in order.
    changes: Vec<Change>,
    /// The state before each operation, as the crash there leaves it.
    moments: Option<Vec<State>>,
}

#[derive(Clone)]
enum Node {
    /// Shared with the moments that are kept.
    File {
        data: Arc<Vec<u8>>,
        durable: Arc<Vec<u8>>,
    },
    Dir {
        entries: BTreeMap<String, usize>,
        durable: BTreeMap<String, usize>,
    },
}

/// A name that came, went or leads elsewhere.
#[derive(Clone)]
struct Change {
    /// Operation that made it; both changes of a rename have the same.
    op: u64,
    dir: usize,
    name: String,
    to: Option<usize>,
}

/// SplitMix64: enough to choose what survives.
pub(crate) struct Rng(u64);

impl Rng {
    /// The numbers of this seed.
    #[cfg(test)]
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 to `max`.
    pub(crate) fn up_to(&mut self, max: usize) -> usize {
        (self.next() % (max as u64 + 1)) as usize
    }
}

fn new_dir() -> Node {
    Node::Dir { entries: BTreeMap::new(), durable: BTreeMap::new() }
}

impl Default for SimVfs {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SimVfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimVfs({} operations)", self.ops())
    }
}

impl SimVfs {
    /// An empty file system.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(State { nodes: vec![new_dir()], ..State::default() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Operations that changed something so far.
    #[must_use]
    pub fn ops(&self) -> u64 {
        self.state().ops
    }

    /// From the operation with this number (the first is 0), everything fails. A write there is done in part.
    pub fn crash_at(&self, op: u64) {
        self.state().crash_at = Some(op);
    }

    /// Whether the operation of [`SimVfs::crash_at`] was reached.
    #[must_use]
    pub fn has_crashed(&self) -> bool {
        let state = self.state();
        state.crash_at.is_some_and(|n| state.ops > n)
    }

    /// Limits all files together to `bytes`; more is refused as a full disk does. `None` lifts the limit.
    pub fn set_space(&self, bytes: Option<u64>) {
        self.state().space = bytes;
    }

    /// Makes the next operation of this kind fail.
    pub fn fail_next(&self, op: Op, kind: io::ErrorKind) {
        self.state().fail_next = Some((op, kind));
    }

    /// Changes stored bytes behind the database's back.
    pub fn corrupt(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let found = state.find(path);
        if let Ok(id) = found
            && let Node::File { data, durable } = &mut state.nodes[id]
        {
            change(Arc::make_mut(data));
            durable.clone_from(data);
        }
    }

    /// All files under `path`, sorted.
    #[must_use]
    pub fn files(&self, path: &Path) -> Vec<PathBuf> {
        let state = self.state();
        let mut out = Vec::new();
        if let Ok(id) = state.find(path) {
            state.collect(id, path, &mut out);
        }
        out
    }

    /// Keeps the state before each operation from now on.
    pub fn keep_moments(&self) {
        self.state().moments = Some(Vec::new());
    }

    /// What was kept since [`SimVfs::keep_moments`]: number of the operation, and the files as a crash there leaves
    /// them (a write is done in part). [`SimVfs::crash`] of each says what the next process finds.
    #[must_use]
    pub fn take_moments(&self) -> Vec<(u64, Self)> {
        let moments = self.state().moments.take().unwrap_or_default();
        moments.into_iter().map(|state| (state.ops, Self(Arc::new(Mutex::new(state))))).collect()
    }

    /// The file system that the next process finds. This one is left as it is.
    #[must_use]
    pub fn crash(&self, survival: Survival, seed: u64) -> Self {
        let state = self.state();
        let mut rng = Rng(seed);
        let kept = state.kept_changes(survival, &mut rng);
        let nodes = state.nodes.iter().map(|node| survivor(node, survival, &mut rng)).collect();
        let mut next = State { nodes, space: state.space, ..State::default() };
        for change in kept {
            if let Node::Dir { entries, durable } = &mut next.nodes[change.dir] {
                change.apply(entries);
                durable.clone_from(entries);
            }
        }
        next.used = next.reachable_bytes(0);
        Self(Arc::new(Mutex::new(next)))
    }
}

impl Change {
    fn apply(&self, entries: &mut BTreeMap<String, usize>) {
        match self.to {
            Some(id) => entries.insert(self.name.clone(), id),
            None => entries.remove(&self.name),
        };
    }
}

/// A node without unsynced changes of names.
fn survivor(node: &Node, survival: Survival, rng: &mut Rng) -> Node {
    match node {
        Node::Dir { durable, .. } => Node::Dir { durable: durable.clone(), entries: durable.clone() },
        Node::File { data, durable } => {
            let data = match survival {
                Survival::All | Survival::LostEntry => Arc::clone(data),
                Survival::Synced => Arc::clone(durable),
                // A file that was cut since its sync may be found with either length.
                _ if data.len() < durable.len() => if rng.next() & 1 == 1 { data } else { durable }.clone(),
                Survival::Prefix | Survival::TornSector | Survival::Zeros => {
                    let keep = durable.len() + rng.up_to(data.len() - durable.len());
                    let mut kept = data[..keep].to_vec();
                    if survival == Survival::TornSector {
                        let sector = (keep.saturating_sub(1)) / SECTOR_BYTES * SECTOR_BYTES;
                        for byte in &mut kept[durable.len().max(sector)..] {
                            *byte = rng.next() as u8;
                        }
                    }
                    if survival == Survival::Zeros {
                        kept.resize(data.len(), 0);
                    }
                    Arc::new(kept)
                }
            };
            Node::File { durable: Arc::clone(&data), data }
        }
    }
}

impl State {
    /// The unsynced changes of names that survive.
    fn kept_changes(&self, survival: Survival, rng: &mut Rng) -> Vec<&Change> {
        let all = self.changes.iter();
        match survival {
            Survival::All | Survival::Zeros => all.collect(),
            Survival::Synced => Vec::new(),
            Survival::Prefix | Survival::TornSector => {
                let mut ops: Vec<u64> = self.changes.iter().map(|c| c.op).collect();
                ops.dedup();
                let n = rng.up_to(ops.len());
                all.filter(|c| ops[..n].contains(&c.op)).collect()
            }
            Survival::LostEntry => {
                let coins = rng.next();
                all.filter(|c| Rng(coins ^ c.op).next() & 1 == 1).collect()
            }
        }
    }

    /// Gives a name of a folder another file or none.
    fn change(&mut self, dir: usize, name: &str, to: Option<usize>) {
        let change = Change { op: self.ops, dir, name: name.to_owned(), to };
        if let Node::Dir { entries, .. } = &mut self.nodes[dir] {
            change.apply(entries);
        }
        self.changes.push(change);
    }

    /// Keeps this moment; `write` is what the operation writes to which file.
    fn keep_moment(&mut self, write: Option<(usize, &[u8])>) {
        let Some(mut moments) = self.moments.take() else { return };
        let mut moment = self.clone();
        if let Some((id, bytes)) = write
            && let Node::File { data, .. } = &mut moment.nodes[id]
        {
            Arc::make_mut(data).extend_from_slice(&bytes[..bytes.len() / 2]);
        }
        moments.push(moment);
        self.moments = Some(moments);
    }

    /// Counts one operation; an error when the process is dead or the operation was told to fail.
    fn operate(&mut self, op: Option<Op>) -> io::Result<()> {
        self.operate_on(op, None)
    }

    fn operate_on(&mut self, op: Option<Op>, write: Option<(usize, &[u8])>) -> io::Result<()> {
        self.alive()?;
        self.keep_moment(write);
        let n = self.ops;
        self.ops += 1;
        if let Some((_, kind)) = self.fail_next.take_if(|(kind, _)| Some(*kind) == op) {
            return Err(io::Error::new(kind, "injected failure"));
        }
        if self.crash_at == Some(n) { Err(dead()) } else { Ok(()) }
    }

    fn alive(&self) -> io::Result<()> {
        if self.crash_at.is_some_and(|n| self.ops > n) { Err(dead()) } else { Ok(()) }
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        let mut id = 0;
        for part in parts(path) {
            let Node::Dir { entries, .. } = &self.nodes[id] else {
                return Err(io::Error::from(io::ErrorKind::NotADirectory));
            };
            id = *entries.get(part).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        }
        Ok(id)
    }

    /// The folder of a path, and the name inside.
    fn parent<'a>(&self, path: &'a Path) -> io::Result<(usize, &'a str)> {
        let name = parts(path).last().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let id = self.find(path.parent().unwrap_or(Path::new("")))?;
        match &self.nodes[id] {
            Node::Dir { .. } => Ok((id, name)),
            Node::File { .. } => Err(io::Error::from(io::ErrorKind::NotADirectory)),
        }
    }

    fn reachable_bytes(&self, id: usize) -> u64 {
        match &self.nodes[id] {
            Node::File { data, .. } => data.len() as u64,
            Node::Dir { entries, .. } => entries.values().map(|&child| self.reachable_bytes(child)).sum(),
        }
    }

    fn collect(&self, id: usize, path: &Path, out: &mut Vec<PathBuf>) {
        match &self.nodes[id] {
            Node::File { .. } => out.push(path.to_owned()),
            Node::Dir { entries, .. } => {
                for (name, &child) in entries {
                    self.collect(child, &path.join(name), out);
                }
            }
        }
    }
}

fn dead() -> io::Error {
    io::Error::other("simulated crash")
}

fn parts(path: &Path) -> impl Iterator<Item = &str> {
    path.components().filter_map(|c| match c {
        Component::Normal(name) => name.to_str(),
        _ => None,
    })
}

fn at<T>(op: &'static str, path: &Path, result: io::Result<T>) -> Result<T, VfsError> {
    result.map_err(|e| VfsError::new(op, path, 0, e))
}

#[derive(Debug)]
struct SimFile {
    vfs: SimVfs,
    id: usize,
    path: PathBuf,
}

#[derive(Debug)]
struct SimLock {
    vfs: SimVfs,
    path: PathBuf,
}

impl VfsLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.vfs.state().locks.retain(|p| *p != self.path);
    }
}

impl SimVfs {
    fn open(&self, path: &Path) -> Result<Box<dyn VfsFile>, VfsError> {
        let state = self.state();
        at("open", path, state.alive())?;
        let id = at("open", path, state.find(path))?;
        if matches!(state.nodes[id], Node::Dir { .. }) {
            return at("open", path, Err(io::Error::from(io::ErrorKind::IsADirectory)));
        }
        Ok(Box::new(SimFile { vfs: self.clone(), id, path: path.to_owned() }))
    }
}

impl Vfs for SimVfs {
    fn create(&self, path: &Path) -> Result<Box<dyn VfsFile>, VfsError> {
        let mut state = self.state();
        at("create", path, state.operate(None))?;
        let id = state.nodes.len();
        let (dir, name) = at("create", path, state.parent(path))?;
        let old = state.find(path).ok();
        if old.is_none() {
            state.nodes.push(Node::File { data: Arc::default(), durable: Arc::default() });
            state.change(dir, name, Some(id));
        }
        if let Some(old) = old
            && let Node::File { data, .. } = &mut state.nodes[old]
        {
            let freed = data.len() as u64;
            *data = Arc::default();
            state.used -= freed;
        }
        Ok(Box::new(SimFile { vfs: self.clone(), id: old.unwrap_or(id), path: path.to_owned() }))
    }

    fn open_append(&self, path: &Path) -> Result<Box<dyn VfsFile>, VfsError> {
        self.open(path)
    }

    fn open_read(&self, path: &Path) -> Result<Box<dyn VfsFile>, VfsError> {
        self.open(path)
    }

    fn map_read(&self, path: &Path) -> Result<Mapped, VfsError> {
        let state = self.state();
        at("map", path, state.alive())?;
        match &state.nodes[at("map", path, state.find(path))?] {
            Node::File { data, .. } => Ok(Mapped::owned(data.to_vec())),
            Node::Dir { .. } => at("map", path, Err(io::Error::from(io::ErrorKind::IsADirectory))),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), VfsError> {
        let mut state = self.state();
        at("rename", from, state.operate(Some(Op::Rename)))?;
        let id = at("rename", from, state.find(from))?;
        let replaced = state.find(to).ok();
        if replaced.is_some_and(|id| matches!(&state.nodes[id], Node::Dir { entries, .. } if !entries.is_empty())) {
            return at("rename", from, Err(io::Error::from(io::ErrorKind::DirectoryNotEmpty)));
        }
        let freed = replaced.map_or(0, |id| state.reachable_bytes(id));
        let (dir, name) = at("rename", to, state.parent(to))?;
        let (from_dir, from_name) = at("rename", from, state.parent(from))?;
        state.change(dir, name, Some(id));
        state.change(from_dir, from_name, None);
        state.used -= freed;
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> Result<(), VfsError> {
        let mut state = self.state();
        at("remove", path, state.operate(None))?;
        let id = at("remove", path, state.find(path))?;
        let freed = state.reachable_bytes(id);
        let (dir, name) = at("remove", path, state.parent(path))?;
        state.change(dir, name, None);
        state.used -= freed;
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> Result<(), VfsError> {
        for entry in self.read_dir(path)? {
            let path = path.join(entry.name);
            if entry.is_dir {
                self.remove_dir_all(&path)?;
            } else {
                self.remove_file(&path)?;
            }
        }
        self.remove_file(path)
    }

    fn create_dir_all(&self, path: &Path) -> Result<(), VfsError> {
        let mut state = self.state();
        at("create folder", path, state.operate(None))?;
        let mut id = 0;
        for part in parts(path) {
            let Node::Dir { entries, .. } = &state.nodes[id] else {
                return at("create folder", path, Err(io::Error::from(io::ErrorKind::NotADirectory)));
            };
            let found = entries.get(part).copied();
            id = found.unwrap_or_else(|| {
                let new = state.nodes.len();
                state.nodes.push(new_dir());
                state.change(id, part, Some(new));
                new
            });
        }
        Ok(())
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<DirEntry>, VfsError> {
        let state = self.state();
        at("list", path, state.alive())?;
        let Node::Dir { entries, .. } = &state.nodes[at("list", path, state.find(path))?] else {
            return at("list", path, Err(io::Error::from(io::ErrorKind::NotADirectory)));
        };
        let entry = |(name, &id): (&String, &usize)| match &state.nodes[id] {
            Node::File { data, .. } => DirEntry { name: name.clone(), is_dir: false, len: data.len() as u64 },
            Node::Dir { .. } => DirEntry { name: name.clone(), is_dir: true, len: 0 },
        };
        Ok(entries.iter().map(entry).collect())
    }

    fn sync_dir(&self, path: &Path) -> Result<(), VfsError> {
        let mut state = self.state();
        at("sync folder", path, state.operate(Some(Op::Sync)))?;
        let id = at("sync folder", path, state.find(path))?;
        if let Node::Dir { entries, durable } = &mut state.nodes[id] {
            durable.clone_from(entries);
        }
        state.changes.retain(|change| change.dir != id);
        Ok(())
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn VfsLock>, VfsError> {
        let mut state = self.state();
        at("lock", path, state.alive())?;
        if state.locks.iter().any(|p| p == path) {
            let e = io::Error::new(io::ErrorKind::WouldBlock, "another process uses this data folder");
            return at("lock", path, Err(e));
        }
        state.locks.push(path.to_owned());
        Ok(Box::new(SimLock { vfs: self.clone(), path: path.to_owned() }))
    }

    fn disk_space(&self, _: &Path) -> Result<DiskSpace, VfsError> {
        let state = self.state();
        let total = state.space.unwrap_or(u64::MAX);
        Ok(DiskSpace { total, free: total.saturating_sub(state.used) })
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Result<(), VfsError> {
        let mut state = self.state();
        at("link", from, state.operate(None))?;
        let id = at("link", from, state.find(from))?;
        // Each name counts as a file of its own, so that removing either gives back what it took.
        let bytes = state.reachable_bytes(id);
        if state.find(to).is_ok() {
            return at("link", to, Err(io::Error::from(io::ErrorKind::AlreadyExists)));
        }
        let (dir, name) = at("link", to, state.parent(to))?;
        state.change(dir, name, Some(id));
        state.used += bytes;
        Ok(())
    }
}

impl SimFile {
    fn at<T>(&self, op: &'static str, offset: u64, result: io::Result<T>) -> Result<T, VfsError> {
        result.map_err(|e| VfsError::new(op, &self.path, offset, e))
    }
}

impl VfsFile for SimFile {
    fn write_all(&self, bytes: &[u8]) -> Result<(), VfsError> {
        let mut state = self.vfs.state();
        let was_alive = state.alive().is_ok();
        let injected = state.fail_next.is_some();
        let mut result = state.operate_on(Some(Op::Write), Some((self.id, bytes)));
        let mut n = match &result {
            Ok(()) => bytes.len(),
            // The write that the crash interrupts leaves half of its bytes.
            Err(_) if was_alive && !injected => bytes.len() / 2,
            Err(_) => 0,
        };
        if let Some(space) = state.space {
            let left = usize::try_from(space.saturating_sub(state.used)).unwrap_or(usize::MAX);
            if n > left {
                n = left;
                result = result.and(Err(io::Error::from(io::ErrorKind::StorageFull)));
            }
        }
        state.used += n as u64;
        let mut offset = 0;
        if let Node::File { data, .. } = &mut state.nodes[self.id] {
            offset = data.len() as u64;
            Arc::make_mut(data).extend_from_slice(&bytes[..n]);
        }
        self.at("write", offset, result)
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), VfsError> {
        let state = self.vfs.state();
        self.at("read", offset, state.alive())?;
        let Node::File { data, .. } = &state.nodes[self.id] else {
            return self.at("read", offset, Err(io::Error::from(io::ErrorKind::IsADirectory)));
        };
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        match start.checked_add(buf.len()).and_then(|end| data.get(start..end)) {
            Some(bytes) => buf.copy_from_slice(bytes),
            None => return self.at("read", offset, Err(io::Error::from(io::ErrorKind::UnexpectedEof))),
        }
        Ok(())
    }

    fn len(&self) -> Result<u64, VfsError> {
        let state = self.vfs.state();
        self.at("measure", 0, state.alive())?;
        match &state.nodes[self.id] {
            Node::File { data, .. } => Ok(data.len() as u64),
            Node::Dir { .. } => Ok(0),
        }
    }

    fn sync(&self) -> Result<(), VfsError> {
        let mut state = self.vfs.state();
        self.at("sync", 0, state.operate(Some(Op::Sync)))?;
        if let Node::File { data, durable } = &mut state.nodes[self.id] {
            durable.clone_from(data);
        }
        Ok(())
    }

    fn truncate(&self, len: u64) -> Result<(), VfsError> {
        let mut state = self.vfs.state();
        self.at("truncate", len, state.operate(None))?;
        if let Node::File { data, .. } = &mut state.nodes[self.id] {
            let freed = data.len().saturating_sub(usize::try_from(len).unwrap_or(usize::MAX)) as u64;
            Arc::make_mut(data).truncate(usize::try_from(len).unwrap_or(usize::MAX));
            state.used -= freed;
        }
        Ok(())
    }
}
