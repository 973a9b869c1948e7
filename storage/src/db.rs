//! The database: head and blocks behind one handle.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use promontory_model::{
    Cancel, Cancelled, Changes, Matcher, Queryable, ReadError, Select, Selection, SeriesList, Snapshot, TimeRange,
};

use crate::block::BlockMeta;
use crate::blocks::{Block, Deletions, Merging, Progress};
use crate::canary::{Bug, is_planted};
use crate::clock::Clock;
use crate::error::{OpenError, WriteError};
use crate::exemplars::SeriesExemplars;
use crate::feed::Feeds;
use crate::head::read::HeadSnapshot;
use crate::head::writer::GroupWriter;
use crate::head::{Head, lock};
use crate::maintain;
use crate::metadata::Metadata;
use crate::options::{DbOptions, DbSettings, FsyncPolicy};
use crate::recovery::{self, LOCK_FILE};
use crate::select::{self, NamedSource};
use crate::status::{Cardinality, DbStatus, Maintenance, Recovery, Start};
use crate::ulid::Ulid;
use crate::vfs::{self, Vfs, VfsError, VfsLock};
use crate::wal::Wal;

/// A database in one folder. Clones are handles of the same database.
///
/// The last handle that goes writes what is buffered; [`Db::close`] does more, so that the next start is quick.
#[derive(Debug, Clone)]
pub struct Db(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) vfs: Arc<dyn Vfs>,
    pub(crate) dir: PathBuf,
    pub(crate) head: Arc<Head>,
    /// Blocks that answer queries, oldest first. Changed together with the head's floor, under its gate.
    pub(crate) blocks: Mutex<Arc<Vec<Arc<dyn Block>>>>,
    /// Taken before any lock of the head.
    pub(crate) state: Mutex<maintain::State>,
    /// Taken after `state` and before `blocks`.
    pub(crate) deletions: Mutex<Deletions>,
    /// Held while blocks are merged; taken before `state` and all others.
    pub(crate) merging: Mutex<Merging>,
    pub(crate) progress: Progress,
    pub(crate) counters: maintain::Counters,
    pub(crate) metadata: Metadata,
    pub(crate) feeds: Feeds,
    /// Taken for no other lock.
    settings: Mutex<DbSettings>,
    /// Stops merges at the end.
    pub(crate) cancel: Cancel,
    pub(crate) random: std::hash::RandomState,
    pub(crate) ulids: AtomicU64,
    /// Blocks that this process has shown or begun to make: those of others were put into the folder by somebody.
    /// Taken after all other locks.
    pub(crate) seen: Mutex<HashSet<Ulid>>,
    start: Start,
    stop: Arc<Stop>,
    /// The committer, and the thread that syncs what it wrote.
    threads: Mutex<Vec<JoinHandle<()>>>,
    _lock: Box<dyn VfsLock>,
}

/// Tells the own threads to end.
#[derive(Debug, Default)]
struct Stop {
    is_set: Mutex<bool>,
    changed: Condvar,
}

impl Db {
    /// Opens the database in `dir`, which is created when missing, and recovers what a crash left.
    ///
    /// # Errors
    /// [`OpenError`] when the folder is in use, cannot be written, or its manifest is damaged.
    pub fn open(
        vfs: Arc<dyn Vfs>,
        clock: Arc<dyn Clock>,
        dir: &Path,
        options: DbOptions,
    ) -> Result<(Self, Recovery), OpenError> {
        vfs::create_folder(&*vfs, dir)?;
        let folder_lock = vfs.lock(&dir.join(LOCK_FILE)).map_err(|e| {
            let is_held = e.source.kind() == std::io::ErrorKind::WouldBlock;
            if is_held { OpenError::Locked { dir: dir.to_owned() } } else { OpenError::Io(e) }
        })?;
        let settings = options.settings();
        let began_ns = clock.monotonic_ns();
        let opened = recovery::open(&vfs, &clock, dir, options)?;
        let found = &opened.recovery;
        let start = Start {
            ns: clock.monotonic_ns().saturating_sub(began_ns),
            is_clean: found.wal_rows == 0 && found.wal_torn_bytes == 0,
            wal_corruptions: found.wal_corruptions,
            head_corruptions: found.head_corruptions,
            bad_blocks: found.bad_blocks.len() as u64,
        };
        let state = maintain::State {
            truncated: opened.manifest.floor,
            manifest: opened.manifest,
            mark: opened.mark,
            series_file: None,
            filed: opened.filed,
            checkpointed_layout: opened.head.layout(),
            checkpointed_ns: clock.monotonic_ns(),
            checkpointed_wal_bytes: 0,
            retired: Vec::new(),
            cuts_failed: 0,
            cut_after_ns: 0,
            look_after_ns: clock.monotonic_ns().saturating_add(maintain::LOOK_NS),
            bad_blocks: HashSet::new(),
        };
        let inner = Inner {
            vfs,
            dir: dir.to_owned(),
            head: opened.head,
            blocks: Mutex::default(),
            state: Mutex::new(state),
            deletions: Mutex::default(),
            merging: Mutex::default(),
            progress: Progress::default(),
            counters: maintain::Counters::default(),
            metadata: opened.metadata,
            feeds: Feeds::default(),
            settings: Mutex::new(settings),
            cancel: Cancel::new(),
            random: std::hash::RandomState::new(),
            ulids: AtomicU64::new(0),
            seen: Mutex::default(),
            start,
            stop: Arc::default(),
            threads: Mutex::default(),
            _lock: folder_lock,
        };
        inner.change_blocks(|blocks| *blocks = opened.blocks);
        inner.start_threads();
        Ok((Self(Arc::new(inner)), opened.recovery))
    }

    pub(crate) fn db_snapshot(&self) -> DbSnapshot {
        let _gate = self.0.head.gate_alone();
        DbSnapshot { blocks: self.0.blocks(), head: Arc::new(self.0.head.snapshot()) }
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.0
    }

    /// A writer for one source of series: a scrape target, a sender of remote write.
    #[must_use]
    pub fn writer(&self) -> GroupWriter {
        GroupWriter::new(Arc::clone(&self.0.head))
    }

    /// Returns when everything appended before is in the hands of the operating system and so survives the death of
    /// the process; with [`FsyncPolicy::Always`] also that of the machine.
    ///
    /// # Errors
    /// [`WriteError`] when it could not be written: nothing since the last success is safe.
    pub fn commit(&self) -> Result<(), WriteError> {
        let head = &self.0.head;
        // On a full disk what was appended before may still find its place.
        if let Some(reason) = head.health.reason().filter(|_| !head.health.can_resume()) {
            return Err(WriteError::ReadOnly { reason });
        }
        let Some(wal) = head.wal() else { return Ok(()) };
        if is_planted(Bug::AckBeforeWrite) {
            return Ok(());
        }
        let written = wal.flush().and_then(|()| match head.options.fsync {
            FsyncPolicy::Always => wal.sync(),
            FsyncPolicy::Interval(_) | FsyncPolicy::Never => Ok(()),
        });
        written.map_err(|e| {
            head.health.failed(&e);
            WriteError::Io(e)
        })
    }

    /// Does what is due: seals old rows, writes the manifest, cuts blocks, applies retention, looks for blocks that were
    /// put into the folder. Blocks; call it every few seconds from one thread.
    ///
    /// # Errors
    /// [`WriteError`] when the store is or becomes read-only. A block that cannot be cut is a warning, and tried again
    /// after a minute, then ever later.
    pub fn tick(&self) -> Result<Maintenance, WriteError> {
        self.0.tick()
    }

    /// Times of the samples of each block and of the head.
    pub(crate) fn ranges(&self) -> Vec<TimeRange> {
        let head = (self.0.head.min_t(), self.0.head.max_t());
        let mut out: Vec<TimeRange> = self.0.blocks().iter().map(|b| b.meta().range).collect();
        if let (Some(mint), Some(maxt)) = head {
            out.push(TimeRange::new(mint, maxt));
        }
        out
    }

    /// What is inside each block, oldest first.
    #[must_use]
    pub fn block_metas(&self) -> Vec<BlockMeta> {
        let mut out: Vec<BlockMeta> = self.0.blocks().iter().map(|b| b.meta().clone()).collect();
        out.sort_by_key(|meta| (meta.range.mint, meta.ulid));
        out
    }

    /// A name for something new.
    pub(crate) fn new_ulid(&self) -> Ulid {
        self.0.new_ulid()
    }

    /// Changes what may change while the database is open; holds from the next append, tick or merge on.
    pub fn set(&self, settings: DbSettings) {
        self.0.head.set_window(settings.out_of_order_window_ms);
        self.0.head.exemplars.set_max(settings.exemplars_max);
        *lock(&self.0.settings) = settings;
    }

    /// Counts and sizes.
    #[must_use]
    pub fn status(&self) -> DbStatus {
        self.0.status()
    }

    /// Why nothing can be written, if so. Cheaper than [`Db::status`]: asked before every request.
    #[must_use]
    pub fn read_only(&self) -> Option<String> {
        self.0.head.health.reason()
    }

    /// The exemplars inside `range` of the series that pass all matchers of one of `selectors`, by labels.
    #[must_use]
    pub fn exemplars(&self, selectors: &[Vec<Matcher>], range: TimeRange) -> Vec<SeriesExemplars> {
        self.0.head.exemplars.select(selectors, range)
    }

    /// The `limit` largest contributors to the head, of each kind.
    #[must_use]
    pub fn cardinality(&self, limit: usize) -> Cardinality {
        self.0.head.cardinality(limit)
    }

    /// Seals, writes and syncs everything and joins own threads, so that the next start has nothing to replay. Later
    /// appends are refused; queries go on.
    ///
    /// # Errors
    /// [`WriteError`] when something could not be written.
    pub fn close(&self) -> Result<(), WriteError> {
        self.0.close()
    }
}

impl Inner {
    pub(crate) fn blocks(&self) -> Arc<Vec<Arc<dyn Block>>> {
        Arc::clone(&lock(&self.blocks))
    }

    pub(crate) fn settings(&self) -> DbSettings {
        *lock(&self.settings)
    }

    fn start_threads(&self) {
        let options = &self.head.options;
        let Some(commit_ms) = options.commit_interval_ms else { return };
        self.start_thread("committer", commit_ms, Wal::flush);
        // A slow sync must not keep the committer from handing samples to the operating system.
        if let FsyncPolicy::Interval(sync_ms) = options.fsync {
            self.start_thread("syncer", sync_ms, Wal::sync);
        }
    }

    /// Does `work` on the log every `interval_ms`.
    fn start_thread(&self, name: &'static str, interval_ms: u64, work: fn(&Wal) -> Result<(), VfsError>) {
        let (head, stop) = (Arc::clone(&self.head), Arc::clone(&self.stop));
        let run = move || work_until_stopped(&head, &stop, Duration::from_millis(interval_ms.max(1)), work);
        match std::thread::Builder::new().name(name.to_owned()).spawn(run) {
            Ok(handle) => lock(&self.threads).push(handle),
            Err(e) => {
                tracing::error!(error = %e, "no {name} thread; samples are made safe by commits and ticks alone")
            }
        }
    }

    /// Ends merges and the own threads, and makes safe what they left.
    pub(crate) fn stop_threads(&self) {
        self.cancel.cancel(Cancelled::Shutdown);
        *lock(&self.stop.is_set) = true;
        self.stop.changed.notify_all();
        for handle in std::mem::take(&mut *lock(&self.threads)) {
            if handle.join().is_err() {
                tracing::error!("a thread of the database panicked");
            }
        }
        let health = &self.head.health;
        if (health.reason().is_none() || health.can_resume())
            && let Some(wal) = self.head.wal()
        {
            let written = wal.flush().and_then(|()| match self.head.options.fsync {
                FsyncPolicy::Interval(_) => wal.sync(),
                FsyncPolicy::Always | FsyncPolicy::Never => Ok(()),
            });
            if let Err(e) = written {
                tracing::error!(error = %e, "samples appended last are not written");
            }
        }
    }

    fn status(&self) -> DbStatus {
        let get = |c: &AtomicU64| c.load(Ordering::Relaxed);
        let mut status = self.head.status();
        let blocks = self.blocks();
        let oldest_block = blocks.iter().filter(|b| !b.meta().range.is_empty()).map(|b| b.meta().range.mint.0).min();
        status.read_only = self.head.health.reason();
        status.lowest_timestamp = oldest_block.into_iter().chain(status.head_min_time).min();
        status.head_segment_bytes = self.head.segments.bytes();
        if let Some(wal) = self.head.wal() {
            status.wal_bytes = wal.bytes();
            status.wal_segment = wal.segment();
            status.wal_fsyncs = get(&wal.counters.fsyncs);
            status.wal_fsync_ns = get(&wal.counters.fsync_ns);
            status.wal_written_bytes = get(&wal.counters.written_bytes);
            status.wal_failures = get(&wal.counters.failures);
        }
        status.start = self.start;
        status.exemplars = self.head.exemplars.status();
        status.blocks_loaded = blocks.len() as u64;
        status.blocks_bytes = blocks.iter().map(|b| b.meta().bytes()).sum();
        status.checkpoints = get(&self.counters.checkpoints);
        status.checkpoints_failed = get(&self.counters.checkpoints_failed);
        status.truncations = self.counters.truncations.get();
        status.merging = self.progress.status();
        status.compactions = get(&self.counters.compactions) + status.merging.merges;
        status.compactions_failed = get(&self.counters.compactions_failed) + status.merging.failures;
        status.time_retentions = get(&self.counters.time_retentions);
        status.size_retentions = get(&self.counters.size_retentions);
        let settings = self.settings();
        status.retention_ms = settings.retention_ms;
        status.retention_bytes = settings.retention_bytes;
        status.retention_percent = settings.retention_percent;
        status.searches = 1 + get(&self.counters.searches);
        status.searches_failed = u64::from(self.start.bad_blocks > 0) + get(&self.counters.searches_failed);
        status.cleanings = self.counters.cleanings.get();
        status
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop_threads();
    }
}

/// Works on the log every `interval`.
fn work_until_stopped(head: &Head, stop: &Stop, interval: Duration, work: fn(&Wal) -> Result<(), VfsError>) {
    loop {
        let is_stopped = stop.is_set.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = stop.changed.wait_timeout_while(is_stopped, interval, |is_stopped| !*is_stopped);
        if *wait.unwrap_or_else(PoisonError::into_inner).0 {
            return;
        }
        // A full disk is tried again; after any other failure nothing more is written.
        if head.health.reason().is_some() && !head.health.can_resume() {
            continue;
        }
        let Some(wal) = head.wal() else { continue };
        if let Err(e) = work(wal) {
            head.health.failed(&e);
        }
    }
}

impl Queryable for Db {
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, ReadError> {
        Ok(Arc::new(self.db_snapshot()))
    }

    fn changes(&self) -> Option<&dyn Changes> {
        Some(self)
    }
}

impl Changes for Db {
    fn newest(&self) -> u64 {
        self.0.head.changes.newest()
    }

    fn settled_before(&self) -> i64 {
        self.0.head.changes.settle(self.0.head.clock.now().0)
    }

    fn since(&self, after: u64) -> Option<Vec<TimeRange>> {
        self.0.head.changes.since(after)
    }
}

/// Head and blocks as they were at one moment.
pub(crate) struct DbSnapshot {
    blocks: Arc<Vec<Arc<dyn Block>>>,
    head: Arc<HeadSnapshot>,
}

impl DbSnapshot {
    pub(crate) fn blocks(&self) -> &[Arc<dyn Block>] {
        &self.blocks
    }

    pub(crate) fn head(&self) -> &HeadSnapshot {
        &self.head
    }

    fn sources(&self) -> Vec<NamedSource> {
        let blocks = self.blocks.iter().map(|b| {
            let name = Some(format!("block {}", b.meta().ulid));
            NamedSource { source: Arc::clone(b) as _, name }
        });
        blocks.chain([NamedSource { source: Arc::clone(&self.head) as _, name: None }]).collect()
    }
}

impl Snapshot for DbSnapshot {
    fn select(&self, select: &Select<'_>) -> Result<Selection, ReadError> {
        select::select(&self.sources(), select)
    }

    fn select_unlabelled(&self, select: &Select<'_>) -> Result<Selection, ReadError> {
        select::select_unlabelled(&self.sources(), select)
    }

    fn label_names(&self, select: &Select<'_>) -> Result<Vec<String>, ReadError> {
        select::names(&self.sources(), select, |source, out| source.label_names(select, out))
    }

    fn label_values(&self, name: &str, select: &Select<'_>, limit: usize) -> Result<Vec<String>, ReadError> {
        let mut values =
            select::names(&self.sources(), select, |source, out| source.label_values(name, select, limit, out))?;
        values.truncate(limit);
        Ok(values)
    }

    fn series(&self, select: &Select<'_>, limit: usize) -> Result<SeriesList, ReadError> {
        select::series(&self.sources(), select, limit)
    }
}

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod exemplar_tests;
#[cfg(test)]
pub(crate) mod model_tests;
#[cfg(test)]
mod query_tests;
#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
mod workload;
