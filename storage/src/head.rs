//! The head: recent samples in memory, in groups that share timestamps, and the index over their series.
//!
//! Writers append rows to groups; each group has a lock of its own, so that writers of different groups never wait
//! for each other. Lock order: `gate`, `index`, one group (the higher id first), then any of `groups`, the segments and
//! the WAL, which are held for no other lock. Appends hold the gate shared; snapshots and everything that changes the
//! layout (moving series, truncation) take it alone for a moment. So a snapshot sees each append whole or not at all.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use promontory_model::Labels;

use crate::changes::ChangeLog;
use crate::clock::Clock;
use crate::error::AppendError;
use crate::exemplars::Exemplars;
use crate::health::Health;
use crate::options::DbOptions;
use crate::tombstone::Tombstones;
use crate::wal::{Wal, record};

pub(crate) mod append;
pub(crate) mod chunk;
pub(crate) mod deleted;
pub(crate) mod dict;
pub(crate) mod file_header;
pub(crate) mod group;
mod groups;
pub(crate) mod histogram_chunk;
pub(crate) mod histograms;
pub(crate) mod index;
pub(crate) mod layout;
pub(crate) mod open;
pub(crate) mod posting;
pub(crate) mod read;
pub(crate) mod row;
pub(crate) mod seal;
pub(crate) mod segment;
pub(crate) mod series;
pub(crate) mod series_file;
mod stats;
pub(crate) mod writer;

use group::{Group, GroupCell};
use groups::{GROUPS_MAX, GroupTable};
use index::{Index, Place};
use segment::Segments;

/// Counters since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) samples: AtomicU64,
    pub(crate) series_created: AtomicU64,
    pub(crate) series_removed: AtomicU64,
    pub(crate) duplicates: AtomicU64,
    pub(crate) out_of_order: AtomicU64,
    pub(crate) out_of_bounds: AtomicU64,
    pub(crate) too_old: AtomicU64,
    pub(crate) late_appended: AtomicU64,
    /// Bytes that writers take now.
    pub(crate) writer_bytes: AtomicU64,
}

/// Recent samples and their index.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) options: DbOptions,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) health: Health,
    pub(crate) segments: Segments,
    pub(crate) exemplars: Exemplars,
    /// Set once recovery is done; what is replayed is not logged again.
    wal: OnceLock<Wal>,
    gate: RwLock<()>,
    index: RwLock<Index>,
    groups: RwLock<GroupTable>,
    /// Number of the newest append.
    seq: AtomicU64,
    /// Changes whenever a series gets another place.
    layout: AtomicU64,
    /// Samples before this time are in blocks; queries read them there.
    floor: AtomicI64,
    /// Samples before this time are refused; a block that holds them may be under way.
    append_floor: AtomicI64,
    /// How far behind the newest sample one may come out of order, ms.
    window_ms: AtomicI64,
    max_t: AtomicI64,
    /// Bytes of all open rows when maintenance last counted.
    open_bytes: AtomicUsize,
    /// Floor and append of the snapshots in use, by snapshot.
    readers: Mutex<BTreeMap<u64, (i64, u64)>>,
    next_reader: AtomicU64,
    /// Which samples are deleted, by group and column. Held for no other lock.
    tombstones: Mutex<Arc<Tombstones>>,
    pub(crate) counters: Counters,
    pub(crate) changes: ChangeLog,
}

/// A poisoned lock means that a thread panicked while it held it; the invariants of the head may be broken, and
/// wrong data is worse than a stopped process.
fn poisoned<T>(_: PoisonError<T>) -> ! {
    tracing::error!("a thread panicked inside the head; stopping before anything wrong is stored");
    std::process::abort()
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| poisoned(e))
}

fn shared<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(|e| poisoned(e))
}

fn alone<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(|e| poisoned(e))
}

impl Head {
    pub(crate) fn new(options: DbOptions, clock: Arc<dyn Clock>, segments: Segments, floor: i64) -> Self {
        Self {
            window_ms: AtomicI64::new(options.out_of_order_window_ms),
            exemplars: Exemplars::new(options.exemplars_max),
            options,
            clock,
            health: Health::default(),
            segments,
            wal: OnceLock::new(),
            gate: RwLock::default(),
            index: RwLock::default(),
            groups: RwLock::default(),
            seq: AtomicU64::new(0),
            layout: AtomicU64::new(0),
            floor: AtomicI64::new(floor),
            append_floor: AtomicI64::new(floor),
            max_t: AtomicI64::new(i64::MIN),
            open_bytes: AtomicUsize::new(0),
            readers: Mutex::default(),
            next_reader: AtomicU64::new(0),
            tombstones: Mutex::default(),
            counters: Counters::default(),
            changes: ChangeLog::default(),
        }
    }

    /// From now on everything is logged. Later calls change nothing.
    pub(crate) fn start_log(&self, wal: Wal) {
        let _ = self.wal.set(wal);
    }

    pub(crate) fn wal(&self) -> Option<&Wal> {
        self.wal.get()
    }

    pub(crate) fn gate_shared(&self) -> RwLockReadGuard<'_, ()> {
        shared(&self.gate)
    }

    pub(crate) fn gate_alone(&self) -> RwLockWriteGuard<'_, ()> {
        alone(&self.gate)
    }

    pub(crate) fn index(&self) -> RwLockReadGuard<'_, Index> {
        shared(&self.index)
    }

    pub(crate) fn index_mut(&self) -> RwLockWriteGuard<'_, Index> {
        alone(&self.index)
    }

    /// Takes no more memory for postings than needed, now and then.
    pub(crate) fn pack_index(&self) {
        if self.index().is_loose() {
            self.index_mut().pack();
        }
    }

    pub(crate) fn group(&self, id: u32) -> Option<Arc<GroupCell>> {
        shared(&self.groups).get(id).cloned()
    }

    /// All groups, by ascending id.
    pub(crate) fn all_groups(&self) -> Vec<Arc<GroupCell>> {
        shared(&self.groups).iter().cloned().collect()
    }

    /// Number of the next group.
    pub(crate) fn next_group(&self) -> u32 {
        shared(&self.groups).next()
    }

    /// Makes sure that new groups get numbers from `next` on.
    pub(crate) fn reserve_groups(&self, next: u32) {
        alone(&self.groups).reserve(next);
    }

    /// A new, empty group.
    pub(crate) fn new_group(&self) -> Result<Arc<GroupCell>, AppendError> {
        let mut groups = alone(&self.groups);
        let id = Some(groups.next()).filter(|&id| id < GROUPS_MAX).ok_or(AppendError::IndexFull)?;
        let cell = Arc::new(GroupCell { id, state: Mutex::new(Group::new()) });
        groups.insert(Arc::clone(&cell));
        Ok(cell)
    }

    /// The group with this id, created when recovery meets it first; `None` for an id that cannot be.
    pub(crate) fn ensure_group(&self, id: u32) -> Option<Arc<GroupCell>> {
        if id >= GROUPS_MAX {
            return None;
        }
        if let Some(known) = self.group(id) {
            return Some(known);
        }
        let mut groups = alone(&self.groups);
        // Another thread may have been quicker.
        if let Some(known) = groups.get(id) {
            return Some(Arc::clone(known));
        }
        let cell = Arc::new(GroupCell { id, state: Mutex::new(Group::new()) });
        groups.insert(Arc::clone(&cell));
        Some(cell)
    }

    /// Takes groups out; nothing refers to them any more.
    pub(crate) fn remove_groups(&self, ids: &[u32]) {
        let mut groups = alone(&self.groups);
        ids.iter().for_each(|id| groups.remove(*id));
    }

    /// Which samples are deleted, by group and column.
    pub(crate) fn tombstones(&self) -> Arc<Tombstones> {
        Arc::clone(&lock(&self.tombstones))
    }

    /// New snapshots leave out what is deleted here.
    pub(crate) fn set_tombstones(&self, tombstones: Tombstones) {
        *lock(&self.tombstones) = Arc::new(tombstones);
    }

    pub(crate) fn next_seq(&self) -> u64 {
        self.seq.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn seq(&self) -> u64 {
        self.seq.load(Ordering::Acquire)
    }

    pub(crate) fn layout(&self) -> u64 {
        self.layout.load(Ordering::Acquire)
    }

    /// Says that a series got another place.
    pub(crate) fn changed_layout(&self) {
        self.layout.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn floor(&self) -> i64 {
        self.floor.load(Ordering::Acquire)
    }

    /// Queries read samples before `floor` from blocks from now on. The caller holds the gate alone.
    pub(crate) fn set_floor(&self, floor: i64) {
        self.floor.fetch_max(floor, Ordering::AcqRel);
        self.append_floor.fetch_max(floor, Ordering::AcqRel);
    }

    pub(crate) fn append_floor(&self) -> i64 {
        self.append_floor.load(Ordering::Acquire)
    }

    /// Samples before `floor` are refused from now on. The caller holds the gate alone.
    pub(crate) fn set_append_floor(&self, floor: i64) {
        self.append_floor.fetch_max(floor, Ordering::AcqRel);
    }

    pub(crate) fn window_ms(&self) -> i64 {
        self.window_ms.load(Ordering::Acquire)
    }

    pub(crate) fn set_window(&self, ms: i64) {
        self.window_ms.store(ms, Ordering::Release);
    }

    /// Newest time ever appended; `None` while empty.
    pub(crate) fn max_t(&self) -> Option<i64> {
        Some(self.max_t.load(Ordering::Acquire)).filter(|&t| t != i64::MIN)
    }

    pub(crate) fn saw_time(&self, t: i64) {
        self.max_t.fetch_max(t, Ordering::AcqRel);
    }

    /// Bytes of all open rows, as maintenance last counted them.
    pub(crate) fn open_bytes(&self) -> usize {
        self.open_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn counted_open_bytes(&self, bytes: usize) {
        self.open_bytes.store(bytes, Ordering::Relaxed);
    }

    /// An error while the store is read-only.
    pub(crate) fn check_writable(&self) -> Result<(), AppendError> {
        self.health.reason().map_or(Ok(()), |reason| Err(AppendError::ReadOnly { reason }))
    }

    /// The series with these labels; a new one goes to the group that `home` gives, which has a free column.
    fn resolve(
        &self,
        labels: &Labels,
        home: impl FnOnce() -> Result<Arc<GroupCell>, AppendError>,
    ) -> Result<(u32, Place), AppendError> {
        let mut index = self.index_mut();
        let series = match index.find(labels) {
            Some(series) => series,
            None => {
                let cell = home()?;
                let mut group = lock(&cell.state);
                let place = Place { group: cell.id, column: group.columns.len() as u32 };
                let series = index.insert(labels, place).ok_or(AppendError::IndexFull)?;
                group.columns.push(series);
                if let Some(wal) = self.wal() {
                    wal.push(|out| record::put_series(out, place.group, place.column, labels));
                }
                self.counters.series_created.fetch_add(1, Ordering::Relaxed);
                series
            }
        };
        index.acquire(series);
        Ok((series, index.place(series)))
    }
}
