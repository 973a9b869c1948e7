//! What keeps a database in shape: sealing by age, checkpoints, cutting blocks, retention.
//!
//! Every order of steps here is chosen so that a crash between any two loses nothing and shows nothing twice: chunks and
//! series are synced before the manifest names them, the manifest is replaced before what it no longer needs is
//! removed, a block is published before the head forgets its samples.

use std::collections::{BTreeMap, HashSet};
use std::hash::BuildHasher as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use promontory_model::{Columns, HistogramSample, Labels, TimeRange, Timestamp};

use crate::block::{self, BlockError, BlockMeta, BlockReader, BlockWriter, ColumnInput, GroupInput};
use crate::blocks::{self, Block};
use crate::canary::{Bug, is_planted};
use crate::clock::Clock;
use crate::db::Inner;
use crate::error::WriteError;
use crate::exemplars;
use crate::feed;
use crate::head::append::has_many_rows;
use crate::head::read::GroupView;
use crate::head::series_file::{self, Mark};
use crate::head::{Head, deleted, lock};
use crate::health::Reserve;
use crate::manifest::Manifest;
use crate::options::{DbSettings, FsyncPolicy};
use crate::prometheus;
use crate::recovery::{BLOCKS_DIR, HEAD_DIR};
use crate::retention::{self, Reason, RetentionLimits};
use crate::source::GroupColumns as _;
use crate::status::{Maintenance, Timed};
use crate::ulid::Ulid;
use crate::vfs::{VfsError, VfsFile};

/// Time between two searches of the data folder for Prometheus' blocks.
pub(crate) const LOOK_NS: u64 = 60 * 1_000_000_000;

/// Bytes that the WAL may grow by until a checkpoint is due before its time: a replay reads 200 to 400 MB a second, but
/// rows that it has to seal take ten times as long, and with 1 MiB there are none however fast they come.
const CHECKPOINT_WAL_BYTES: u64 = 1 << 20;

/// State of maintenance; one thread at a time works on it.
#[derive(Debug)]
pub(crate) struct State {
    /// As stored last.
    pub(crate) manifest: Manifest,
    /// How much of the index the series file holds; `None` when it has to be written anew.
    pub(crate) mark: Option<Mark>,
    pub(crate) series_file: Option<Box<dyn VfsFile>>,
    /// The file of exemplars that the manifest names.
    pub(crate) filed: exemplars::file::Filed,
    /// Series that moved since the series file was written.
    pub(crate) checkpointed_layout: u64,
    pub(crate) checkpointed_ns: u64,
    /// Bytes of the WAL after the last checkpoint.
    pub(crate) checkpointed_wal_bytes: u64,
    /// The head has forgotten samples before this time.
    pub(crate) truncated: i64,
    /// Head segments that go with the next manifest.
    pub(crate) retired: Vec<PathBuf>,
    /// Cuts that failed since the last that did not, and when the next is tried.
    pub(crate) cuts_failed: u32,
    pub(crate) cut_after_ns: u64,
    /// When the data folder is searched for Prometheus' blocks again.
    pub(crate) look_after_ns: u64,
    /// Blocks of Prometheus that cannot be read and were reported.
    pub(crate) bad_blocks: HashSet<PathBuf>,
}

/// Counters since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) checkpoints: AtomicU64,
    pub(crate) checkpoints_failed: AtomicU64,
    pub(crate) truncations: Timer,
    pub(crate) compactions: AtomicU64,
    pub(crate) compactions_failed: AtomicU64,
    pub(crate) time_retentions: AtomicU64,
    pub(crate) size_retentions: AtomicU64,
    pub(crate) searches: AtomicU64,
    pub(crate) searches_failed: AtomicU64,
    pub(crate) cleanings: Timer,
}

/// Counts something and the time it takes.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    n: AtomicU64,
    ns: AtomicU64,
}

impl Timer {
    /// Counts what began at `began_ns` and ends now.
    pub(crate) fn count(&self, clock: &dyn Clock, began_ns: u64) {
        count(&self.n);
        self.ns.fetch_add(clock.monotonic_ns().saturating_sub(began_ns), Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> Timed {
        Timed { n: self.n.load(Ordering::Relaxed), ns: self.ns.load(Ordering::Relaxed) }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn block_error(what: &'static str, e: &impl ToString) -> WriteError {
    WriteError::Block { what, reason: e.to_string() }
}

impl Inner {
    /// Latches after a failed write of the head, the WAL or the manifest.
    pub(crate) fn failed(&self, e: VfsError) -> WriteError {
        self.head.health.failed(&e);
        WriteError::Io(e)
    }

    pub(crate) fn tick(&self) -> Result<Maintenance, WriteError> {
        let mut state = lock(&self.state);
        let mut done = Maintenance::default();
        let health = &self.head.health;
        if let Some(reserve) = self.reserve() {
            health.check_reserve(reserve, &self.dir);
        }
        let Some(reason) = health.reason() else {
            self.maintain(&mut state, &mut done, false)?;
            return match health.reason() {
                Some(reason) => Err(WriteError::ReadOnly { reason }),
                None => Ok(done),
            };
        };
        if !health.can_resume() {
            return Err(WriteError::ReadOnly { reason });
        }
        // The disk is full. Removing old blocks takes no space; what else is due may need some of the reserve, and
        // gives back more.
        self.apply_retention(&mut done);
        let is_whole = self.maintain(&mut state, &mut done, true).is_ok();
        if is_whole && self.reserve().is_none_or(Reserve::is_restored) {
            health.resume();
            // Merges may have failed for the same reason.
            if let Ok(mut merging) = self.merging.try_lock() {
                merging.retry();
            }
            return Ok(done);
        }
        Err(WriteError::ReadOnly { reason: health.reason().unwrap_or(reason) })
    }

    /// The space that samples may not take; `None` when none is kept or the system does not tell.
    fn reserve(&self) -> Option<Reserve> {
        let wanted = self.head.options.reserve_bytes;
        let space = if wanted == 0 { None } else { self.vfs.disk_space(&self.dir).ok() };
        space.map(|space| Reserve::of(space, wanted))
    }

    /// All that is due; `must_checkpoint` for one that is not.
    fn maintain(&self, state: &mut State, done: &mut Maintenance, must_checkpoint: bool) -> Result<(), WriteError> {
        self.flush()?;
        done.groups_sealed = self.seal_old(self.head.options.seal_age_ms)?;
        let due = must_checkpoint || self.checkpoint_is_due(state);
        let floor = self.head.floor();
        // A block that cannot be cut is written as far as that goes each time.
        if must_checkpoint || self.head.clock.monotonic_ns() >= state.cut_after_ns {
            match self.cut_blocks(state, &mut done.blocks_cut) {
                Ok(()) => state.cuts_failed = 0,
                Err(e) => {
                    count(&self.counters.compactions_failed);
                    done.warnings.push(e.to_string());
                    state.cuts_failed += 1;
                    state.cut_after_ns =
                        self.head.clock.monotonic_ns().saturating_add(blocks::retry_after_ns(state.cuts_failed));
                }
            }
        }
        let has_truncated = self.truncate(state, done);
        if due || has_truncated || floor < self.head.floor() {
            self.checkpoint(state)?;
            done.checkpointed = true;
        }
        self.apply_retention(done);
        self.look_for_blocks(state, done);
        self.forget_seqs();
        Ok(())
    }

    /// Hands the WAL's buffer to the system and syncs it when the policy leaves that to maintenance.
    fn flush(&self) -> Result<(), WriteError> {
        let Some(wal) = self.head.wal() else { return Ok(()) };
        wal.flush().map_err(|e| self.failed(e))?;
        if self.head.options.fsync != FsyncPolicy::Never && self.head.options.commit_interval_ms.is_none() {
            wal.sync().map_err(|e| self.failed(e))?;
        }
        Ok(())
    }

    /// Seals groups whose oldest open sample arrived more than `age_ms` ago, or that are overdue by rows.
    fn seal_old(&self, age_ms: i64) -> Result<u64, WriteError> {
        let now = self.head.clock.monotonic_ns();
        let age_ns = u64::try_from(age_ms).unwrap_or(0).saturating_mul(1_000_000);
        let mut sealed = 0;
        let mut open_bytes = 0;
        for cell in self.head.all_groups() {
            let mut group = lock(&cell.state);
            let is_old = now.saturating_sub(group.opened_ns) >= age_ns;
            if is_old || has_many_rows(&group, self.head.options.rows_max + 1) {
                sealed += u64::from(self.head.seal(cell.id, &mut group).map_err(|e| self.failed(e))?);
            }
            open_bytes += group.rows.bytes();
        }
        self.head.counted_open_bytes(open_bytes);
        Ok(sealed)
    }

    fn checkpoint_is_due(&self, state: &State) -> bool {
        let interval = u64::try_from(self.head.options.checkpoint_ms).unwrap_or(0).saturating_mul(1_000_000);
        let wal_bytes = self.head.wal().map_or(0, |wal| wal.bytes());
        self.head.clock.monotonic_ns().saturating_sub(state.checkpointed_ns) >= interval
            || wal_bytes.saturating_sub(state.checkpointed_wal_bytes) >= CHECKPOINT_WAL_BYTES
    }

    /// Bounds the next replay: syncs chunks and series, names them in a manifest, removes what it no longer needs.
    pub(crate) fn checkpoint(&self, state: &mut State) -> Result<(), WriteError> {
        self.try_checkpoint(state).map_err(|e| {
            count(&self.counters.checkpoints_failed);
            self.failed(e)
        })
    }

    fn try_checkpoint(&self, state: &mut State) -> Result<(), VfsError> {
        let head = &self.head;
        let Some(wal) = head.wal() else { return Ok(()) };
        // The order matters. What is open after the rotation needs the WAL from the oldest open row on. What was sealed
        // before that was looked at is within the lengths that the sync gives, and its series in the index.
        let open_from = feed::needed_now(head).min(wal.segment());
        let mut wal_from = wal.rotate()?;
        self.feeds.checkpointed(wal_from, open_from);
        for cell in head.all_groups() {
            let group = lock(&cell.state);
            let histograms_wal = group.histograms.as_ref().and_then(|h| h.wal);
            let wanted = group.rows_wal.into_iter().chain(group.late_wal).chain(histograms_wal);
            let wanted = wanted.filter(|_| !is_planted(Bug::LogRemovedEarly));
            wal_from = wanted.fold(wal_from, u64::min);
        }
        let segments = head.segments.sync()?;
        head.pack_index();
        let (old_series, old_exemplars) = (state.manifest.series.0, state.manifest.exemplars.0);
        let series = self.write_series(state)?;
        let head_dir = self.dir.join(HEAD_DIR);
        let (filed, filed_no) = exemplars::file::write(&head.exemplars, &*self.vfs, &head_dir, state.filed)?;
        let manifest = Manifest {
            floor: head.floor(),
            next_group: head.next_group(),
            next_segment: head.segments.next_id(),
            wal_from,
            series,
            exemplars: filed.file,
            segments,
            cut: None,
        };
        manifest.store(&*self.vfs, &self.dir)?;
        state.manifest = manifest;
        state.filed = filed;
        head.exemplars.filed(filed_no);
        state.checkpointed_ns = head.clock.monotonic_ns();
        count(&self.counters.checkpoints);
        wal.remove_before(self.feeds.keep_from(self, wal_from)?)?;
        state.checkpointed_wal_bytes = wal.bytes();
        head.segments.remove_files(&std::mem::take(&mut state.retired))?;
        self.forget_tombstones(state.manifest.floor)?;
        if old_series != series.0 && old_series != 0 {
            self.vfs.remove_file(&head_dir.join(series_file::file_name(old_series)))?;
        }
        if old_exemplars != filed.file.0 && old_exemplars != 0 {
            match self.vfs.remove_file(&head_dir.join(exemplars::file::file_name(old_exemplars))) {
                Err(e) if e.is_not_found() => {}
                result => result?,
            }
        }
        Ok(())
    }

    /// Brings the series file up to date and gives its number and length.
    fn write_series(&self, state: &mut State) -> Result<(u64, u64), VfsError> {
        let layout = self.head.layout();
        let mut bytes = Vec::new();
        let index = self.head.index();
        let to = Mark::of(&index);
        let (mut id, mut len) = state.manifest.series;
        let is_new = state.mark.is_none();
        if let Some(mark) = state.mark {
            let moved = if state.checkpointed_layout == layout { Vec::new() } else { index.moved_series() };
            series_file::put_batch(&mut bytes, &index, mark, &moved);
        } else {
            (id, len) = (id + 1, 0);
            bytes.extend_from_slice(&series_file::file_header());
            series_file::put_batch(&mut bytes, &index, Mark::default(), &[]);
        }
        drop(index);
        if bytes.is_empty() {
            return Ok((id, len));
        }
        let dir = self.dir.join(HEAD_DIR);
        let path = dir.join(series_file::file_name(id));
        let file = match state.series_file.take().filter(|_| !is_new) {
            Some(file) => file,
            None if is_new => self.vfs.create(&path)?,
            None => self.vfs.open_append(&path)?,
        };
        // A batch of a checkpoint that failed later may lie behind what the manifest names.
        if file.len()? > len {
            file.truncate(len)?;
        }
        file.write_all(&bytes)?;
        if !is_planted(Bug::SeriesNotSynced) {
            file.sync()?;
        }
        if is_new {
            self.vfs.sync_dir(&dir)?;
        }
        state.series_file = Some(file);
        state.mark = Some(to);
        state.checkpointed_layout = layout;
        Ok((id, len + bytes.len() as u64))
    }

    /// Cuts every block that is due: the head spans more than one and a half, and no sample of the block can come any
    /// more.
    fn cut_blocks(&self, state: &mut State, n_cut: &mut u64) -> Result<(), WriteError> {
        while let Some(end) = self.cut_is_due() {
            if self.cut_block(state, end)? {
                *n_cut += 1;
                count(&self.counters.compactions);
            } else {
                self.skip_gap()?;
            }
        }
        Ok(())
    }

    /// Goes on to the block of the next sample: between two of one chunk there may be more empty blocks than can be cut
    /// one by one.
    fn skip_gap(&self) -> Result<(), WriteError> {
        let head = &self.head;
        let _gate = head.gate_alone();
        let Some(maxt) = head.max_t() else { return Ok(()) };
        // What can still arrive is not skipped.
        let mut next = maxt.saturating_sub(head.window_ms().max(0));
        for cell in head.all_groups() {
            let t = lock(&cell.state).min_t_exact(head.floor())?;
            next = t.map_or(next, |t| next.min(t));
        }
        let block_ms = head.options.block_ms.max(1);
        let floor = next.div_euclid(block_ms).saturating_mul(block_ms);
        if floor > head.floor() {
            head.set_append_floor(floor);
            head.set_floor(floor);
        }
        Ok(())
    }

    /// End of the next block, if it is due.
    fn cut_is_due(&self) -> Option<i64> {
        let options = &self.head.options;
        let block_ms = options.block_ms.max(1);
        let (mint, maxt) = (self.head.min_t()?, self.head.max_t()?);
        let end = mint.div_euclid(block_ms).checked_mul(block_ms)?.checked_add(block_ms)?;
        let is_long = maxt.checked_sub(mint).is_none_or(|span| span > block_ms / 2 * 3);
        (is_long && maxt.saturating_sub(self.head.window_ms().max(0)) >= end).then_some(end)
    }

    /// Whether there was anything to cut.
    fn cut_block(&self, state: &mut State, end: i64) -> Result<bool, WriteError> {
        let head = &self.head;
        {
            // Appends that are under way finish first; later ones are refused before `end`.
            let _gate = head.gate_alone();
            head.set_append_floor(end);
        }
        let ulid = self.new_ulid();
        let announced = Manifest { cut: Some((ulid.to_string(), end)), ..state.manifest.clone() };
        announced.store(&*self.vfs, &self.dir).map_err(|e| self.failed(e))?;
        state.manifest = announced;
        let dir = self.dir.join(BLOCKS_DIR);
        let range = TimeRange::new(head.floor(), end - 1);
        let meta = write_block(self, &dir, ulid, range, u64::MAX)?;
        let reader = match meta {
            None => None,
            Some(_) => Some(
                BlockReader::open(&*self.vfs, &dir.join(ulid.to_string()))
                    .map_err(|e| block_error("open the block cut from the head", &e))?,
            ),
        };
        let has_samples = reader.is_some();
        let _gate = head.gate_alone();
        self.change_blocks(|blocks| blocks.extend(reader.map(|r| r as Arc<dyn Block>)));
        head.set_floor(end);
        Ok(has_samples)
    }

    /// Lets the head forget what is in blocks, as far as no snapshot reads it there.
    fn truncate(&self, state: &mut State, done: &mut Maintenance) -> bool {
        let floor = self.head.floor().min(self.head.oldest_reader().0);
        if floor <= state.truncated {
            return false;
        }
        let began_ns = self.head.clock.monotonic_ns();
        self.head.segments.finish_open();
        let truncated = {
            let _gate = self.head.gate_alone();
            self.head.truncate(floor)
        };
        state.truncated = floor;
        done.series_removed = truncated.series_removed;
        if truncated.series_removed > 0 {
            state.mark = None;
        }
        state.retired.extend(self.head.segments.retire(|id| truncated.segments.contains(&id)));
        self.head.segments.drop_views();
        self.counters.truncations.count(&*self.head.clock, began_ns);
        true
    }

    /// Replaces the list of blocks; snapshots in use keep theirs.
    pub(crate) fn change_blocks(&self, change: impl FnOnce(&mut Vec<Arc<dyn Block>>)) {
        let mut list = lock(&self.blocks);
        let mut blocks = (**list).clone();
        change(&mut blocks);
        blocks.sort_by_key(|b| (b.meta().range.mint, b.meta().ulid));
        lock(&self.seen).extend(blocks.iter().map(|b| b.meta().ulid));
        let before = std::mem::replace(&mut *list, Arc::new(blocks));
        // Cuts and merges change no sample, but are rare enough to be taken for changes too.
        for (some, others) in [(&before, &*list), (&*list, &before)] {
            let moved = some.iter().filter(|b| others.iter().all(|o| !Arc::ptr_eq(b, o)));
            moved.for_each(|b| self.head.changes.changed(b.meta().range));
        }
    }

    /// Finds blocks that were put into the data folder, and Prometheus' blocks that were taken out of it.
    fn look_for_blocks(&self, state: &mut State, done: &mut Maintenance) {
        let now = self.head.clock.monotonic_ns();
        if now < state.look_after_ns {
            return;
        }
        state.look_after_ns = now.saturating_add(LOOK_NS);
        count(&self.counters.searches);
        if !self.search_blocks(state, done) {
            count(&self.counters.searches_failed);
        }
    }

    /// Whether all that was found could be read.
    fn search_blocks(&self, state: &mut State, done: &mut Maintenance) -> bool {
        let known = self.blocks();
        let mut found = match prometheus::look(&*self.vfs, &self.dir, &known) {
            Ok(found) => found,
            Err(e) => {
                done.warnings.push(e.to_string());
                return false;
            }
        };
        let own = self.new_own_blocks(&mut found.bad);
        let is_whole = own.is_ok() && found.bad.is_empty();
        match own {
            Ok(own) if own.is_empty() => {}
            Ok(own) => {
                tracing::info!(blocks = own.len(), "blocks were put into the data folder");
                self.change_blocks(|blocks| blocks.extend(own));
            }
            Err(e) => done.warnings.push(e.to_string()),
        }
        let is_foreign = |b: &Arc<dyn Block>| !b.is_native();
        let before: Vec<Ulid> = known.iter().filter(|b| is_foreign(b)).map(|b| b.meta().ulid).collect();
        let after: Vec<Ulid> = found.blocks.iter().map(|b| b.meta().ulid).collect();
        if before.len() != after.len() || !after.iter().all(|ulid| before.contains(ulid)) {
            self.change_blocks(|blocks| {
                blocks.retain(|b| !is_foreign(b));
                blocks.extend(found.blocks);
            });
            tracing::info!(before = before.len(), now = after.len(), "blocks of prometheus in the data folder changed");
        }
        // Each is told once.
        for (path, why) in &found.bad {
            if state.bad_blocks.insert(path.clone()) {
                done.warnings.push(format!("block {} is left out: {why}", path.display()));
            }
        }
        state.bad_blocks.retain(|path| found.bad.iter().any(|(p, _)| p == path));
        is_whole
    }

    /// Blocks of the own format that this process neither made nor has shown before, as somebody put them there.
    fn new_own_blocks(&self, bad: &mut Vec<(PathBuf, String)>) -> Result<Vec<Arc<dyn Block>>, BlockError> {
        let mut out = Vec::new();
        for listed in block::list(&*self.vfs, &self.dir.join(BLOCKS_DIR))? {
            if lock(&self.seen).contains(&listed.ulid) {
                continue;
            }
            // One that is still being copied is looked at again.
            match listed.meta.and_then(|_| blocks::open(&*self.vfs, &listed.path)) {
                Ok(block) => out.push(block),
                Err(e) => bad.push((listed.path, e.to_string())),
            }
        }
        // What is in another block as well was left behind by a merge elsewhere.
        let listed = self.blocks();
        let metas: Vec<BlockMeta> = listed.iter().chain(&out).map(|b| b.meta().clone()).collect();
        let obsolete = block::obsolete(&metas);
        out.retain(|b| !obsolete.contains(&b.meta().ulid));
        Ok(out)
    }

    /// Removes the blocks that are too old or too many, those of Prometheus as well.
    fn apply_retention(&self, done: &mut Maintenance) {
        let blocks = self.blocks();
        let metas: Vec<BlockMeta> = blocks.iter().map(|b| b.meta().clone()).collect();
        // What a block of others says of its times must not make all older ones go at once.
        let now = self.head.clock.now().0;
        let maxt = |b: &Arc<dyn Block>| b.meta().range.maxt.0.min(if b.is_native() { i64::MAX } else { now });
        let Some(newest) = blocks.iter().map(maxt).chain(self.head.max_t()).max() else { return };
        let settings = self.settings();
        let limits = RetentionLimits { age_ms: settings.retention_ms, bytes: self.retention_bytes(&settings) };
        let other = self.head.segments.bytes() + self.head.wal().map_or(0, |w| w.bytes());
        for removal in retention::plan(&metas, &limits, Timestamp(newest), other) {
            let Some(gone) = self.blocks().iter().find(|b| b.meta().ulid == removal.ulid).cloned() else { continue };
            self.change_blocks(|blocks| blocks.retain(|b| b.meta().ulid != removal.ulid));
            match removal.reason {
                Reason::Age { .. } => count(&self.counters.time_retentions),
                Reason::Size { .. } => count(&self.counters.size_retentions),
            }
            done.blocks_removed += 1;
            tracing::info!(block = %removal.ulid, reason = %removal.reason, "block removed by retention");
            if let Err(e) = gone.delete(&*self.vfs) {
                done.warnings.push(format!("remove block {}: {e}", removal.ulid));
            }
        }
    }

    /// Bytes that all files may take: the percentage of the file system goes before the size.
    pub(crate) fn retention_bytes(&self, settings: &DbSettings) -> Option<u64> {
        let Some(percent) = settings.retention_percent else { return settings.retention_bytes };
        match self.vfs.disk_space(&self.dir) {
            Ok(space) => Some((space.total as f64 * percent / 100.0) as u64),
            Err(e) => {
                tracing::warn!(error = %e, "the size of the file system is unknown, retention by percentage rests");
                settings.retention_bytes
            }
        }
    }

    /// Chunks keep the numbers of their appends only as long as a snapshot may tell them apart.
    fn forget_seqs(&self) {
        let oldest = self.head.oldest_reader().1.min(self.head.seq());
        for cell in self.head.all_groups() {
            let group = lock(&cell.state);
            let newest_first = |chunks: &[_]| {
                let chunks: &[Arc<crate::head::segment::Chunk>] = chunks;
                // Older chunks were done earlier; stop at the first that keeps nothing.
                for chunk in chunks.iter().rev() {
                    if chunk.seqs().is_none() {
                        break;
                    }
                    chunk.forget_seqs(oldest);
                }
            };
            newest_first(&group.chunks);
            newest_first(&group.late_chunks);
            if let Some(histograms) = &group.histograms {
                newest_first(&histograms.chunks);
            }
        }
    }

    pub(crate) fn new_ulid(&self) -> Ulid {
        let ms = u64::try_from(self.head.clock.now().0).unwrap_or(0);
        let n = self.ulids.fetch_add(1, Ordering::Relaxed);
        let random = |salt: u64| u128::from(self.random.hash_one((salt, n)));
        let ulid = Ulid::new(ms, random(0) << 64 | random(1));
        lock(&self.seen).insert(ulid);
        ulid
    }

    /// Seals and writes everything and ends all writing.
    pub(crate) fn close(&self) -> Result<(), WriteError> {
        self.stop_threads();
        let mut state = lock(&self.state);
        if let Some(reason) = self.head.health.reason() {
            return Err(WriteError::ReadOnly { reason });
        }
        let _gate = self.head.gate_alone();
        self.flush()?;
        self.seal_old(0)?;
        self.checkpoint(&mut state)?;
        self.store_metadata()?;
        self.head.health.close();
        Ok(())
    }
}

/// Series of each group, those that moved on included: column and series. Labels would be a multiple of what the head
/// keeps of them.
fn members(head: &Head) -> BTreeMap<u32, Vec<(u32, u32)>> {
    let index = head.index();
    let mut out: BTreeMap<u32, Vec<(u32, u32)>> = BTreeMap::new();
    for series in index.live() {
        for place in index.earlier(series).iter().chain([&index.place(series)]) {
            out.entry(place.group).or_default().push((place.column, series));
        }
    }
    out
}

/// Writes the head's samples in `range` that were appended up to `seq` as a block in the folder `dir`; `None` when there
/// are none.
pub(crate) fn write_block(
    db: &Inner,
    dir: &Path,
    ulid: Ulid,
    range: TimeRange,
    seq: u64,
) -> Result<Option<BlockMeta>, WriteError> {
    let failed = |e| block_error("cut a block from the head", &e);
    let mut writer = BlockWriter::new(Arc::clone(&db.vfs), dir, ulid, 1).map_err(failed)?;
    let mut read = Columns::default();
    let tombstones = db.head.tombstones();
    for (group, members) in members(&db.head) {
        let Some(cell) = db.head.group(group) else { continue };
        let view = GroupView::of(&lock(&cell.state), seq, range.mint.0);
        if view.rows_max(range) == 0 {
            continue;
        }
        let (columns, labels): (Vec<u32>, Vec<Labels>) = {
            let index = db.head.index();
            let live = members.into_iter().filter(|(_, series)| index.is_live(*series));
            live.map(|(column, series)| (column, index.labels(series))).unzip()
        };
        if columns.is_empty() {
            continue;
        }
        let view = deleted::masked(&tombstones, group, columns.iter().copied(), view);
        view.read(&columns, range, &mut read)?;
        let histograms: Vec<Vec<(usize, HistogramSample)>> =
            (0..columns.len()).map(|i| read.column(i).histogram_samples().collect()).collect();
        let inputs: Vec<ColumnInput<'_>> = labels
            .into_iter()
            .enumerate()
            .map(|(i, labels)| {
                let column = read.column(i);
                let (values, presence) = (column.values, column.presence);
                ColumnInput { labels, values, presence, histograms: &histograms[i] }
            })
            .collect();
        writer.add_group(&GroupInput { timestamps: read.timestamps(), columns: &inputs }).map_err(failed)?;
    }
    if writer.n_samples() == 0 {
        return Ok(None);
    }
    writer.finish().map(Some).map_err(failed)
}
