//! The log replayed: rows are decoded against the row before them and put where they were.
//!
//! The thread that opens the database reads and inflates the log; records are applied by threads that have some of the
//! groups each, in the order of the log, because records of two groups know nothing of each other.

use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread;

use super::records::{self, Batch};
use crate::canary::{Bug, is_planted};
use crate::error::OpenError;
use crate::head::append;
use crate::head::group::{Group, LateCell};
use crate::head::histograms::HistogramCell;
use crate::head::{Head, lock};
use crate::manifest::Manifest;
use crate::sample::read_histogram;
use crate::status::Recovery;
use crate::vfs::{Vfs, VfsError};
use crate::wal::page::{self, FileHeader, read_segment};
use crate::wal::record::{self, Record, RowRecord};
use crate::wal::{self, End};

/// Times the rows after which a group is sealed that are left open when they are replayed: about what comes between two
/// checkpoints, however fast.
const REPLAYED_ROWS_FACTOR: usize = 8;
/// The same of bytes: what bounds the memory.
const REPLAYED_BYTES_FACTOR: usize = 4;
/// A log of fewer bytes is applied by the thread that reads it. Tests have small logs and want both ways.
const PARALLEL_BYTES_MIN: u64 = if cfg!(test) { 4 << 10 } else { 1 << 20 };
/// Threads that apply records: what one reads is work for few.
const WORKERS_MAX: usize = 4;

/// What is to be replayed.
#[derive(Clone, Copy)]
pub(super) struct Log<'a> {
    pub(super) vfs: &'a dyn Vfs,
    /// Folder of the log.
    pub(super) dir: &'a Path,
    pub(super) manifest: &'a Manifest,
    /// Numbers of the segments there are, ascending.
    pub(super) segments: &'a [u64],
}

/// Replays what the log has from the manifest's position on, but for series, which `series` takes.
pub(super) fn replay(
    log: &Log<'_>,
    head: &Head,
    mut series: records::Sender,
    recovery: &mut Recovery,
) -> Result<End, OpenError> {
    thread::scope(|scope| {
        let (mut to, mut workers) = (Vec::new(), Vec::new());
        for _ in 0..n_workers(log)? {
            let (sender, records) = records::channel();
            let work = move || Applier::new(head).apply_all(records);
            let worker = thread::Builder::new().name("recovery".to_owned()).spawn_scoped(scope, work);
            workers.push(worker.map_err(|e| VfsError::new("start a thread to open", log.dir, 0, e))?);
            to.push(sender);
        }
        let mut here = Applier::new(head);
        let last = read(log, recovery, |segment, offset, bytes| {
            if record::is_series(bytes) {
                series.send(segment, offset, bytes);
            } else if to.is_empty() {
                here.apply(segment, offset, bytes);
            } else {
                let worker = record::group_of(bytes) as usize % to.len();
                to[worker].send(segment, offset, bytes);
            }
        });
        drop(to);
        let mut found = vec![here];
        for worker in workers {
            found.push(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        let last = last?;
        for applier in found {
            recovery.add(applier.recovery);
            applier.failure.map_or(Ok(()), Err)?;
        }
        Ok(last)
    })
}

/// How many threads apply the records; 0 when that of the caller does.
fn n_workers(log: &Log<'_>) -> Result<usize, VfsError> {
    let bytes: u64 = log.vfs.read_dir(log.dir)?.iter().map(|e| e.len).sum();
    let n = thread::available_parallelism().map_or(1, NonZero::get);
    Ok(if bytes < PARALLEL_BYTES_MIN || n == 1 { 0 } else { n.min(WORKERS_MAX) })
}

/// Reads the log from the manifest's position on and gives every good record, its segment and the offset of its page to
/// `each`.
fn read(log: &Log<'_>, recovery: &mut Recovery, mut each: impl FnMut(u64, u64, &[u8])) -> Result<End, OpenError> {
    let Log { vfs, dir, manifest, segments } = *log;
    let mut unsynced = Vec::new();
    let mut last = manifest.wal_from.saturating_sub(1);
    let mut last_bytes = 0;
    let mut expected = None;
    for &number in segments {
        let path = dir.join(wal::segment_name(number));
        last = last.max(number);
        // Kept for feeds; the next checkpoint removes what none of them needs.
        if number < manifest.wal_from {
            continue;
        }
        if expected.is_some_and(|e| e != number) || (expected.is_none() && number > manifest.wal_from.max(1)) {
            recovery.wal_corruptions += 1;
            recovery.note(format!("{}: segments before it are missing", path.display()));
        }
        let previous = expected.filter(|&e| e == number).map(|_| last_bytes);
        expected = Some(number + 1);
        recovery.wal_segments += 1;
        let bytes = vfs.map_read(&path)?;
        let damage = read_segment(number, &bytes, |offset, bytes| each(number, offset, bytes));
        let stated = damage.header.filter(|h| h.segment == number).map(|h| h.previous_bytes);
        if let Some((stated, found)) = stated.zip(previous).filter(|(stated, found)| stated != found) {
            recovery.wal_corruptions += 1;
            let path = dir.join(wal::segment_name(number - 1));
            recovery.note(format!("{}: {stated} bytes expected, {found} found", path.display()));
        }
        last_bytes = bytes.len() as u64;
        for (offset, what) in damage.places {
            recovery.wal_corruptions += 1;
            recovery.note(format!("read {} at {offset}: {what} is damaged, skipped", path.display()));
        }
        if let Some(at) = damage.torn_at {
            let torn = bytes.len() as u64 - at;
            if segments.last() == Some(&number) {
                recovery.wal_torn_bytes = torn;
                let header = FileHeader { segment: number, previous_bytes: previous.unwrap_or(0) };
                last_bytes = cut(vfs, &path, at, header)?;
            } else {
                recovery.wal_corruptions += 1;
            }
            recovery.note(format!("{}: {torn} bytes from {at} on are torn", path.display()));
        }
        if !is_planted(Bug::ReplayedNotSynced) {
            unsynced.push(path);
        }
    }
    Ok(End { segment: last, bytes: last_bytes, unsynced })
}

/// Cuts a torn tail; a segment without even its header becomes an empty one. Gives its length.
fn cut(vfs: &dyn Vfs, path: &Path, at: u64, header: FileHeader) -> Result<u64, VfsError> {
    if is_planted(Bug::TornTailKept) {
        return Ok(at);
    }
    let file = vfs.open_append(path)?;
    file.truncate(at)?;
    if at < page::FILE_HEADER_BYTES as u64 {
        file.truncate(0)?;
        file.write_all(&header.encode())?;
    }
    file.sync()?;
    Ok(at.max(page::FILE_HEADER_BYTES as u64))
}

/// Puts records back, one after the other.
struct Applier<'a> {
    head: &'a Head,
    recovery: Recovery,
    /// The first write of a chunk that failed; nothing is applied after it.
    failure: Option<VfsError>,
}

impl<'a> Applier<'a> {
    fn new(head: &'a Head) -> Self {
        Self { head, recovery: Recovery::default(), failure: None }
    }

    fn apply_all(mut self, batches: Receiver<Batch>) -> Self {
        for batch in batches {
            batch.iter().for_each(|(segment, offset, bytes)| self.apply(segment, offset, bytes));
        }
        self
    }

    fn apply(&mut self, segment: u64, offset: u64, bytes: &[u8]) {
        if self.failure.is_some() {
            return;
        }
        match record::read(bytes) {
            Ok(record) => self.failure = apply(self.head, segment, record, &mut self.recovery).err(),
            Err(e) => self.recovery.damaged_record(segment, offset, e.what),
        }
    }
}

/// Puts one record back where it was. Only writing a chunk can fail.
fn apply(head: &Head, segment: u64, record: Record<'_>, recovery: &mut Recovery) -> Result<(), VfsError> {
    match record {
        // Taken by the other thread.
        Record::Series { .. } => {}
        Record::Row(row) => {
            if let Some(cell) = head.ensure_group(row.group) {
                apply_row(head, segment, &mut lock(&cell.state), &row, recovery)?;
            }
        }
        Record::Late { group, first_no, cells } => {
            if let Some(cell) = head.ensure_group(group) {
                apply_late(&mut lock(&cell.state), segment, first_no, &cells);
            }
        }
        Record::Exemplars { first_no, batch } => head.exemplars.restore(first_no, batch),
        Record::Histograms { group, first_no, cells } => {
            if let Some(cell) = head.ensure_group(group) {
                apply_histograms(&mut lock(&cell.state), segment, first_no, &cells, recovery);
            }
        }
        Record::Patch { group: id, patch } => {
            if let Some(cell) = head.ensure_group(id) {
                let mut group = lock(&cell.state);
                group.reserve_columns(patch.cells.n_columns());
                let is_sealed = patch.row_no < group.next_no && group.rows.numbered(patch.row_no).is_none();
                if !is_sealed
                    && let Err(e) = group.rows.replay_patch(&patch)
                    && patch.t >= head.floor()
                {
                    recovery.wal_rows_lost += 1;
                    let what = format!("samples of row {} of group {id} at {}", patch.row_no, patch.t);
                    recovery.note(format!("{what} are lost: {}", e.what));
                }
            }
        }
    }
    Ok(())
}

fn apply_row(
    head: &Head,
    segment: u64,
    group: &mut Group,
    record: &RowRecord<'_>,
    recovery: &mut Recovery,
) -> Result<(), VfsError> {
    group.reserve_columns(record.body.n_columns());
    if record.no < group.next_no {
        // Sealed, and the manifest names the chunk.
        return Ok(());
    }
    if !record.is_keyframe && group.rows.last().is_none_or(|base| base.no + 1 != record.no) {
        // Before the floor it was sealed in a chunk that went since, because a block has it.
        if record.t >= head.floor() {
            recovery.lose_row(record, "the row before it is missing");
        }
        return Ok(());
    }
    if !record.is_keyframe && group.rows.n_patches() != record.n_patches {
        recovery.lose_row(record, "samples that were added to rows before it are missing");
        return Ok(());
    }
    if record.t <= group.last_t {
        recovery.lose_row(record, "its time goes back");
        return Ok(());
    }
    if record.is_keyframe
        && must_seal(group, head.options.rows_max, record.body.n_columns())
        && let Err(e) = head.seal_rows(record.group, group)
    {
        // On a full disk the rows stay open and in the log, and the store opens read-only.
        if !e.is_no_space() {
            return Err(e);
        }
        head.health.failed(&e);
    }
    if let Err(e) = group.rows.replay(record.no, record.t, record.is_keyframe, record.body) {
        recovery.lose_row(record, e.what);
        return Ok(());
    }
    recovery.wal_rows += 1;
    group.next_no = record.no + 1;
    group.last_t = record.t;
    group.rows_wal.get_or_insert(segment);
    Ok(())
}

/// Whether so much is open that it must be sealed before there are answers. What the log has beyond a manifest is
/// encoded later, when its group gets a row or maintenance comes by: it took most of the time that opening takes.
fn must_seal(group: &Group, rows_max: usize, n_columns: usize) -> bool {
    let bytes_max = REPLAYED_BYTES_FACTOR * append::open_bytes_max(n_columns);
    group.rows.len() >= REPLAYED_ROWS_FACTOR * rows_max || group.rows.bytes() > bytes_max
}

fn apply_late(group: &mut Group, segment: u64, first_no: u64, cells: &[(i64, u32, f64)]) {
    for (no, &(t, column, value)) in (first_no..).zip(cells) {
        group.reserve_columns(column as usize + 1);
        if no < group.late_no {
            continue;
        }
        group.late_no = no + 1;
        group.late_wal.get_or_insert(segment);
        Arc::make_mut(&mut group.late).entry((t, column)).or_insert(LateCell { value, seq: 0 });
    }
}

fn apply_histograms(
    group: &mut Group,
    segment: u64,
    first_no: u64,
    cells: &[(i64, u32, &[u8])],
    recovery: &mut Recovery,
) {
    for (no, &(t, column, bytes)) in (first_no..).zip(cells) {
        group.reserve_columns(column as usize + 1);
        if let Err(e) = read_histogram(bytes) {
            recovery.wal_rows_lost += 1;
            recovery.note(format!("histogram {no} of a group is lost: {}", e.what));
            continue;
        }
        let cell = HistogramCell { bytes: bytes.into(), seq: 0 };
        group.histograms.get_or_insert_default().insert(segment, no, [((t, column), cell)]);
    }
}
