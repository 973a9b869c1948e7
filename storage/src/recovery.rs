//! Opening a data folder: what a crash left is brought back, and what is damaged is said.
//!
//! The manifest is the truth about files: what lies beyond the lengths it names is cut, files it does not name go. Then
//! the WAL is replayed in place, without a label being parsed, except for series newer than the manifest. Nothing is ever
//! deleted because of damage elsewhere.
//!
//! Samples and series meet only in the columns of a group, so several threads work at once: this one reads files, some
//! bring back samples (`replay`), one the index, from the series file and the series that the log has (`index`).

use std::path::Path;
use std::sync::Arc;
use std::thread;

use promontory_model::ReadError;

use crate::block::{self, BlockError};
use crate::blocks::{self, Block};
use crate::canary::{Bug, is_planted};
use crate::clock::Clock;
use crate::error::OpenError;
use crate::exemplars;
use crate::exemplars::file::Filed;
use crate::head::chunk::Kind;
use crate::head::index::Place;
use crate::head::segment::{self, Segment, Segments};
use crate::head::series_file::{self, Mark};
use crate::head::{Head, lock};
use crate::manifest::{self, Manifest};
use crate::metadata::Metadata;
use crate::options::DbOptions;
use crate::prometheus;
use crate::status::Recovery;
use crate::tombstone::Tombstones;
use crate::vfs::{self, Vfs, VfsError};
use crate::wal::record::RowRecord;
use crate::wal::{self, Wal};

mod index;
mod records;
mod replay;

use index::SeriesFile;
use replay::{Log, replay};

/// Notes in a [`Recovery`]; what happens more often is only counted.
const NOTES_MAX: usize = 100;

/// Folders inside the data folder.
pub(crate) const WAL_DIR: &str = "wal";
pub(crate) const HEAD_DIR: &str = "head";
pub(crate) const BLOCKS_DIR: &str = "blocks";
pub(crate) const LOCK_FILE: &str = "lock";

/// A data folder that is ready for work.
pub(crate) struct Opened {
    pub(crate) head: Arc<Head>,
    pub(crate) blocks: Vec<Arc<dyn Block>>,
    pub(crate) manifest: Manifest,
    /// How much of the index the series file holds; `None` when it has to be written anew.
    pub(crate) mark: Option<Mark>,
    pub(crate) filed: Filed,
    pub(crate) metadata: Metadata,
    pub(crate) recovery: Recovery,
}

impl Recovery {
    fn lose_row(&mut self, row: &RowRecord<'_>, why: &str) {
        self.wal_rows_lost += 1;
        self.note(format!("row {} of group {} at {} is lost: {why}", row.no, row.group, row.t));
    }

    /// Adds what another thread found.
    fn add(&mut self, other: Self) {
        self.head_corruptions += other.head_corruptions;
        self.wal_corruptions += other.wal_corruptions;
        self.wal_rows += other.wal_rows;
        self.wal_rows_lost += other.wal_rows_lost;
        other.notes.into_iter().for_each(|note| self.note(note));
    }

    fn damaged_record(&mut self, segment: u64, offset: u64, what: &str) {
        self.wal_corruptions += 1;
        self.note(format!("read {} at {offset}: {what}", wal::segment_name(segment)));
    }

    fn note(&mut self, text: String) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(text);
        }
    }
}

fn read_failed(e: ReadError) -> OpenError {
    match e {
        ReadError::Io { op, path, offset, source } => OpenError::Io(VfsError { op, path: path.into(), offset, source }),
        other => OpenError::Io(VfsError::new("read", Path::new(""), 0, std::io::Error::other(other.to_string()))),
    }
}

fn block_failed(e: BlockError) -> OpenError {
    match e {
        BlockError::Vfs(e) => OpenError::Io(e),
        BlockError::Read(e) => read_failed(e),
        other => {
            OpenError::Io(VfsError::new("list blocks", Path::new(""), 0, std::io::Error::other(other.to_string())))
        }
    }
}

/// Opens the folder; the caller holds its lock.
pub(crate) fn open(
    vfs: &Arc<dyn Vfs>,
    clock: &Arc<dyn Clock>,
    dir: &Path,
    options: DbOptions,
) -> Result<Opened, OpenError> {
    let mut recovery = Recovery::default();
    for name in [WAL_DIR, HEAD_DIR, BLOCKS_DIR] {
        vfs.create_dir_all(&dir.join(name))?;
    }
    vfs.sync_dir(dir)?;
    let stored = Manifest::load(&**vfs, dir)?;
    let wal_segments = list(&**vfs, &dir.join(WAL_DIR), wal::segment_of)?;
    if stored.is_none() && wal_segments.first().is_some_and(|&first| first > 1) {
        let what = "file is missing, but the WAL does not start at its beginning";
        return Err(OpenError::Damaged { path: dir.join(manifest::NAME), what });
    }
    let mut manifest = stored.unwrap_or_default();
    let blocks = open_blocks(vfs, dir, &mut manifest, &mut recovery)?;
    let (segments, found) = open_segments(vfs, dir, &manifest, &options, &mut recovery)?;
    let head = Arc::new(Head::new(options, Arc::clone(clock), segments, manifest.floor));
    head.reserve_groups(manifest.next_group);
    head.set_tombstones(Tombstones::load(&**vfs, &dir.join(HEAD_DIR)).map_err(read_failed)?);
    let series_file = read_series_file(&**vfs, dir, &manifest, &mut recovery)?;
    let filed = load_exemplars(&**vfs, dir, &manifest, &head, &mut recovery)?;
    let (mark, end) = thread::scope(|scope| {
        let (series, logged) = records::channel();
        let rebuild = || index::rebuild(&head, &series_file, logged);
        let rebuilding = thread::Builder::new().name("recovery".to_owned()).spawn_scoped(scope, rebuild);
        let rebuilding = rebuilding.map_err(|e| VfsError::new("start a thread to open", dir, 0, e))?;
        let brought_back = scan(&found, &mut recovery).and_then(|chunks| {
            place_chunks(&head, chunks, &mut recovery);
            let log = Log { vfs: &**vfs, dir: &dir.join(WAL_DIR), manifest: &manifest, segments: &wal_segments };
            replay(&log, &head, series, &mut recovery)
        });
        let (mark, of_index) = rebuilding.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        recovery.add(of_index);
        brought_back.map(|end| (mark, end))
    })?;
    finish_groups(&head);
    // The series file has only the old places of series that the log moved.
    let mark = mark.filter(|_| head.layout() == 0);
    recovery.series = head.index().n_series();
    let wal_dir = dir.join(WAL_DIR);
    let wal_bytes = vfs.read_dir(&wal_dir)?.iter().map(|e| e.len).sum();
    let bytes_max = head.options.wal_segment_bytes;
    let wal = Wal::start(Arc::clone(vfs), Arc::clone(clock), wal_dir, end, bytes_max, wal_bytes);
    let metadata = Metadata::load(&**vfs, dir, &mut |text| recovery.note(text))?;
    head.start_log(wal);
    Ok(Opened { head, blocks, manifest, mark, filed, metadata, recovery })
}

/// Numbers of the files that `number` recognises, ascending.
fn list(vfs: &dyn Vfs, dir: &Path, number: impl Fn(&str) -> Option<u64>) -> Result<Vec<u64>, VfsError> {
    let mut out: Vec<u64> = vfs.read_dir(dir)?.iter().filter_map(|e| number(&e.name)).collect();
    out.sort_unstable();
    Ok(out)
}

fn open_blocks(
    vfs: &Arc<dyn Vfs>,
    dir: &Path,
    manifest: &mut Manifest,
    recovery: &mut Recovery,
) -> Result<Vec<Arc<dyn Block>>, OpenError> {
    let data_dir = dir;
    let dir = dir.join(BLOCKS_DIR);
    block::remove_leftovers(&**vfs, &dir).map_err(block_failed)?;
    let mut readers: Vec<Arc<dyn Block>> = Vec::new();
    for listed in block::list(&**vfs, &dir).map_err(block_failed)? {
        match listed.meta.and_then(|_| blocks::open(&**vfs, &listed.path)) {
            Ok(reader) => readers.push(reader),
            Err(e) => recovery.bad_blocks.push((listed.path.display().to_string(), e.to_string())),
        }
    }
    let metas: Vec<_> = readers.iter().map(|r| r.meta().clone()).collect();
    for ulid in block::obsolete(&metas) {
        readers.retain(|r| r.meta().ulid != ulid);
        block::delete(&**vfs, &dir, ulid).map_err(block_failed)?;
    }
    prometheus::remove_leftovers(&**vfs, data_dir)?;
    let found = prometheus::look(&**vfs, data_dir, &[])?;
    recovery.bad_blocks.extend(found.bad.into_iter().map(|(path, why)| (path.display().to_string(), why)));
    readers.extend(found.blocks);
    // A block that was being cut is there as a whole or not at all; what it holds is no longer the head's. It may have
    // been merged into another one since.
    if let Some((ulid, floor)) = manifest.cut.take() {
        let is_there = |r: &Arc<dyn Block>| {
            r.meta().ulid.to_string() == ulid || r.meta().sources.iter().any(|s| s.to_string() == ulid)
        };
        if readers.iter().any(is_there) || is_planted(Bug::FloorWithoutBlock) {
            manifest.floor = manifest.floor.max(floor);
        }
    }
    Ok(readers)
}

fn open_segments(
    vfs: &Arc<dyn Vfs>,
    dir: &Path,
    manifest: &Manifest,
    options: &DbOptions,
    recovery: &mut Recovery,
) -> Result<(Segments, Vec<Arc<Segment>>), OpenError> {
    let dir = dir.join(HEAD_DIR);
    for entry in vfs.read_dir(&dir)? {
        let name = &entry.name;
        let named = segment::segment_of(name).is_none_or(|id| manifest.segments.iter().any(|s| s.0 == id))
            && series_file::file_of(name).is_none_or(|id| manifest.series.0 == id)
            && exemplars::file::file_of(name).is_none_or(|id| manifest.exemplars.0 == id);
        if !named {
            recovery.head_torn_bytes += entry.len;
            vfs.remove_file(&dir.join(&entry.name))?;
        }
    }
    let mut all = Vec::new();
    for &(id, named) in &manifest.segments {
        let path = dir.join(segment::segment_name(id));
        let found = match vfs.open_append(&path) {
            Ok(file) => {
                let len = file.len()?;
                if len > named {
                    file.truncate(named)?;
                    recovery.head_torn_bytes += len - named;
                }
                len
            }
            Err(e) if e.is_not_found() => 0,
            Err(e) => return Err(e.into()),
        };
        if found < named {
            recovery.head_corruptions += 1;
            recovery.note(format!("{}: {named} bytes expected, {found} found", path.display()));
        }
        if found == 0 {
            continue;
        }
        all.push(Arc::new(Segment::new(Arc::clone(vfs), &dir, id, named.min(found))));
    }
    let bytes_max = options.head_segment_bytes;
    Ok((Segments::new(Arc::clone(vfs), dir, bytes_max, all.clone(), manifest.next_segment), all))
}

/// Finds the chunks of all segments.
fn scan(segments: &[Arc<Segment>], recovery: &mut Recovery) -> Result<Vec<segment::Chunk>, OpenError> {
    let mut chunks = Vec::new();
    for segment in segments {
        let damaged = |offset: u64, what: &str| {
            recovery.head_corruptions += 1;
            recovery.note(format!("read {} at {offset}: {what} is damaged, left out", segment.path.display()));
        };
        chunks.extend(segment::scan(segment, damaged).map_err(read_failed)?);
    }
    Ok(chunks)
}

/// Maps the series file and cuts what the manifest does not name.
fn read_series_file(
    vfs: &dyn Vfs,
    dir: &Path,
    manifest: &Manifest,
    recovery: &mut Recovery,
) -> Result<SeriesFile, OpenError> {
    let (id, named) = manifest.series;
    let path = dir.join(HEAD_DIR).join(series_file::file_name(id));
    if id == 0 {
        return Ok(SeriesFile { path, bytes: None, is_whole: false });
    }
    let bytes = match vfs.open_append(&path) {
        Ok(file) => {
            let len = file.len()?;
            if len > named {
                file.truncate(named)?;
                recovery.head_torn_bytes += len - named;
            }
            vfs.map_read(&path)?
        }
        Err(e) if e.is_not_found() => vfs::Mapped::owned(Vec::new()),
        Err(e) => return Err(e.into()),
    };
    let is_whole = bytes.len() as u64 == named;
    if !is_whole {
        recovery.head_corruptions += 1;
        recovery.note(format!("{}: {named} bytes expected, {} found", path.display(), bytes.len()));
    }
    Ok(SeriesFile { path, bytes: Some(bytes), is_whole })
}

/// Puts back the exemplars of the last checkpoint.
fn load_exemplars(
    vfs: &dyn Vfs,
    dir: &Path,
    manifest: &Manifest,
    head: &Head,
    recovery: &mut Recovery,
) -> Result<Filed, OpenError> {
    let file = manifest.exemplars;
    if file.0 == 0 {
        return Ok(Filed::default());
    }
    let path = dir.join(HEAD_DIR).join(exemplars::file::file_name(file.0));
    let bytes = match vfs::read(vfs, &path) {
        Ok(bytes) => bytes,
        Err(e) if e.is_not_found() => Vec::new(),
        Err(e) => return Err(e.into()),
    };
    let named = usize::try_from(file.1).unwrap_or(usize::MAX);
    let (n, damage) = exemplars::file::load(&bytes[..named.min(bytes.len())], &head.exemplars);
    for (offset, what) in &damage {
        recovery.head_corruptions += 1;
        recovery.note(format!("read {} at {offset}: {what}; what is damaged is lost", path.display()));
    }
    if bytes.len() < named {
        recovery.head_corruptions += 1;
        recovery.note(format!("{}: {named} bytes expected, {} found", path.display(), bytes.len()));
    }
    // Nothing is added to a damaged file; the next checkpoint writes a new one.
    let is_whole = damage.is_empty() && bytes.len() >= named;
    Ok(Filed { file, n: if is_whole { n } else { u64::MAX } })
}

/// Gives each chunk to its group. Chunks of groups without series are left: nobody could ask for them.
fn place_chunks(head: &Head, mut chunks: Vec<segment::Chunk>, recovery: &mut Recovery) {
    let floor = head.floor();
    chunks.sort_by_key(|c| (c.header.group, c.header.first_no));
    for chunk in chunks {
        // Numbers are taken even from chunks that are not needed: no other group may get them.
        let Some(cell) = head.ensure_group(chunk.header.group) else { continue };
        let mut group = lock(&cell.state);
        let h = &chunk.header;
        group.reserve_columns(h.n_columns as usize);
        let (first_free, name) = match h.kind {
            Kind::Rows => (group.next_no, "rows"),
            Kind::Late => (group.late_no, "late samples"),
            Kind::Histograms => (group.histograms.as_ref().map_or(0, |h| h.next_no), "histograms"),
        };
        if h.first_no < first_free && !is_planted(Bug::ChunkCountedTwice) {
            recovery.head_corruptions += 1;
            let text = format!("{name} {}–{} of group {} are in two chunks", h.first_no, h.end_no, h.group);
            recovery.note(format!("{text}, one is left out"));
            continue;
        }
        let list = match h.kind {
            Kind::Rows => {
                group.next_no = group.next_no.max(h.end_no);
                group.last_t = group.last_t.max(h.maxt);
                &mut group.chunks
            }
            Kind::Late => {
                group.late_no = group.late_no.max(h.end_no);
                group.late_first_no = group.late_no;
                &mut group.late_chunks
            }
            Kind::Histograms => {
                let histograms = group.histograms.get_or_insert_default();
                histograms.saw_chunk(h);
                &mut histograms.chunks
            }
        };
        if h.maxt >= floor {
            Arc::make_mut(list).push(Arc::new(chunk));
        }
    }
}

/// Sets what depends on all samples being there.
fn finish_groups(head: &Head) {
    let floor = head.floor();
    let now = head.clock.monotonic_ns();
    // Whole rows may be taken only when they are newer than what their series have in earlier places. Not sooner:
    // what is replayed was judged when it arrived.
    let mut index = head.index_mut();
    for series in index.moved_series() {
        // Series move to groups of higher numbers only. Another place comes from a series that was dropped and made
        // anew: it has no samples that are not in blocks, and its lock must not be taken after this group's.
        let place = index.place(series);
        index.forget_earlier(series, |p| p.group >= place.group);
        if let Some(cell) = head.group(place.group) {
            let mut group = lock(&cell.state);
            group.earlier.remove(&place.column);
            if !index.earlier(series).is_empty() {
                group.earlier.insert(place.column, index.earlier(series).to_vec());
            }
        }
        let newest = |p: &Place| {
            let group = head.group(p.group)?;
            let group = lock(&group.state);
            group.max_t().max(Some(group.newest_t()))
        };
        let last_t = index.earlier(series).iter().filter_map(newest).max();
        if let Some(cell) = head.group(index.place(series).group) {
            let mut group = lock(&cell.state);
            group.last_t = group.last_t.max(last_t.unwrap_or(i64::MIN));
        }
    }
    drop(index);
    for cell in head.all_groups() {
        let mut group = lock(&cell.state);
        group.opened_ns = now;
        if let Some(t) = group.max_t().filter(|&t| t >= floor) {
            head.saw_time(t);
        }
    }
}
