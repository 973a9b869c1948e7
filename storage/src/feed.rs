//! What is appended, in the order in which it arrived, for those who send it on.
//!
//! A [`Feed`] reads the log behind the committer: it gives each accepted sample once, and only what survives the death of
//! the process. Its [`FeedPosition`] is all that has to be kept to go on after a restart. A feed holds the segments of the
//! log that it still needs; what checkpoints no longer need may take [`LOG_BYTES_MAX`] bytes in all, beyond which the
//! oldest segments go. A feed that finds its segments gone says [`Fed::Gap`]: the samples are to be read by their times
//! then. Rows of the log are told from rows before them, so a feed keeps the rows since the last keyframe of each group.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use promontory_model::{HistogramSample, Labels, ReadError};

use crate::Db;
use crate::db::Inner;
use crate::exemplars::Exemplar;
use crate::head::index::Place;
use crate::head::open::{Cells, OpenRows, Patch};
use crate::head::row::TILE;
use crate::head::{Head, lock};
use crate::recovery::WAL_DIR;
use crate::sample::read_histogram;
use crate::vfs::{VfsError, VfsFile};
use crate::wal::page::{self, FILE_HEADER_BYTES, PAGE_HEADER_BYTES};
use crate::wal::record::{self, Record, RowRecord};
use crate::wal::{self};

/// Bytes of the log that are kept for feeds alone.
const LOG_BYTES_MAX: u64 = 1 << 30;
/// Files of the log that are kept for feeds alone.
const LOG_SEGMENTS_MAX: usize = 10_000;
/// Part of the bytes that retention by size leaves to everything that the log may take for feeds.
const LOG_PART_OF_RETENTION: u64 = 8;
/// Checkpoints that are remembered to find what a position needs.
const MARKS_MAX: usize = 10_000;
/// Rows of a group that got none for so long begin anew: groups are sealed after minutes.
const CHAIN_MS_MAX: i64 = 30 * 60_000;

/// Where a feed stands. What lies before it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FeedPosition {
    /// Oldest segment of the log that is needed to read on from here.
    pub needed: u64,
    /// Segment that is read.
    pub segment: u64,
    /// Offset of a page in it.
    pub offset: u64,
    /// Records of that page that were given.
    pub records: u64,
}

impl FeedPosition {
    fn place(&self) -> (u64, u64, u64) {
        (self.segment, self.offset, self.records)
    }
}

/// A series as a feed names it: for [`Feed::labels`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FedSeries(Place);

/// A sample as it arrived.
#[derive(Debug, Clone)]
pub struct FedSample {
    /// Whose it is.
    pub series: FedSeries,
    /// Its time in ms.
    pub t: i64,
    /// Its value.
    pub value: FedValue,
}

/// Value of a sample.
#[derive(Debug, Clone)]
pub enum FedValue {
    /// A float.
    Float(f64),
    /// A native histogram.
    Histogram(HistogramSample),
}

/// What a feed gave.
#[derive(Debug, Default)]
pub struct FedBatch {
    /// In the order of their arrival.
    pub samples: Vec<FedSample>,
    /// Exemplars with the labels of their series, in the order of their arrival.
    pub exemplars: Vec<(Labels, Exemplar)>,
    /// Records that damage made unreadable.
    pub n_lost: u64,
}

/// How reading ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fed {
    /// As much was given as was asked for.
    More,
    /// Everything was given that is in the log.
    End,
    /// Part of the log is gone; the feed gives nothing any more.
    Gap,
}

/// What feeds need of the log.
#[derive(Debug, Default)]
pub(crate) struct Feeds(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Oldest segment that each feed needs.
    held: BTreeMap<String, u64>,
    /// Segment that a checkpoint began, and the oldest that rows open at that moment need.
    marks: VecDeque<(u64, u64)>,
}

impl Feeds {
    fn hold(&self, name: &str, needed: u64) {
        lock(&self.0).held.insert(name.to_owned(), needed);
    }

    /// A checkpoint began `segment`; what was open then began in `needed` or later.
    pub(crate) fn checkpointed(&self, segment: u64, needed: u64) {
        let marks = &mut lock(&self.0).marks;
        if marks.len() == MARKS_MAX {
            marks.pop_front();
        }
        marks.push_back((segment, needed));
    }

    /// Oldest segment needed to read on in `segment`; `before` where no checkpoint tells.
    fn needed(&self, segment: u64, before: u64) -> u64 {
        let state = lock(&self.0);
        let mark = state.marks.iter().rev().find(|(began, _)| *began <= segment);
        mark.map_or(before, |(_, needed)| before.max(*needed))
    }

    /// The oldest segment to keep, where checkpoints need those from `wal_from` on.
    pub(crate) fn keep_from(&self, db: &Inner, wal_from: u64) -> Result<u64, VfsError> {
        let held = lock(&self.0).held.values().copied().min();
        let Some(held) = held.filter(|held| *held < wal_from) else { return Ok(wal_from) };
        let retained = db.retention_bytes(&db.settings()).filter(|bytes| *bytes > 0);
        let bytes_max = retained.map_or(LOG_BYTES_MAX, |bytes| LOG_BYTES_MAX.min(bytes / LOG_PART_OF_RETENTION));
        let entries = db.vfs.read_dir(&db.dir.join(WAL_DIR))?;
        let number = |name: &str| wal::segment_of(name).filter(|n| (held..wal_from).contains(n));
        let mut segments: Vec<(u64, u64)> = entries.iter().filter_map(|e| Some((number(&e.name)?, e.len))).collect();
        segments.sort_unstable();
        let mut bytes = 0;
        let fits = segments.iter().rev().take(LOG_SEGMENTS_MAX).take_while(|(_, len)| {
            bytes += len;
            bytes <= bytes_max
        });
        Ok(fits.last().map_or(wal_from, |(number, _)| *number))
    }
}

/// Reads the log in the order of arrival.
#[derive(Debug)]
pub struct Feed {
    db: Arc<Inner>,
    name: String,
    dir: PathBuf,
    /// What is read next.
    at: FeedPosition,
    /// Before it nothing is given: it was given before the restart.
    from: FeedPosition,
    file: Option<Box<dyn VfsFile>>,
    /// Records of the page at the offset, and where the next begins.
    page: Vec<u8>,
    page_at: usize,
    /// Stored length of the page; 0 when none is read.
    page_len: u64,
    stored: Vec<u8>,
    chains: HashMap<u32, OpenRows>,
    max_t: i64,
    columns: Vec<u32>,
    is_gone: bool,
}

impl Db {
    /// A feed that goes on at `from`, or else begins with what is appended from now on. Each destination has a `name` of
    /// its own: under it the log is held, until [`Db::forget_feed`].
    ///
    /// # Errors
    /// When the log cannot be written or read.
    pub fn feed(&self, name: &str, from: Option<FeedPosition>) -> Result<Feed, VfsError> {
        let inner = Arc::clone(self.inner());
        // No checkpoint removes anything meanwhile.
        let state = lock(&inner.state);
        let written = inner.head.wal().map_or(Ok((0, 0)), |wal| wal.flush().map(|()| wal.written()))?;
        let dir = inner.dir.join(WAL_DIR);
        let from = match from {
            // The machine died and took what was not synced.
            Some(from) if (from.segment, from.offset) > written => {
                FeedPosition { segment: written.0, offset: written.1, records: 0, ..from }
            }
            Some(from) => from,
            None => {
                let needed = needed_now(&inner.head).min(written.0);
                FeedPosition { needed, segment: written.0, offset: written.1, records: 0 }
            }
        };
        let from = FeedPosition { needed: from.needed.min(from.segment), ..from };
        let is_missing = |n: u64| n < written.0 && inner.vfs.open_read(&dir.join(wal::segment_name(n))).is_err();
        let is_gone = (from.needed..=from.segment).any(is_missing);
        inner.feeds.hold(name, from.needed);
        let at = FeedPosition { segment: from.needed, offset: 0, records: 0, needed: from.needed };
        drop(state);
        Ok(Feed {
            db: inner,
            name: name.to_owned(),
            dir,
            at,
            from,
            file: None,
            page: Vec::new(),
            page_at: 0,
            page_len: 0,
            stored: Vec::new(),
            chains: HashMap::new(),
            max_t: i64::MIN,
            columns: Vec::new(),
            is_gone,
        })
    }

    /// Whether the head knows a series with these labels. What it has forgotten lies in blocks alone, and no feed can
    /// give its labels.
    #[must_use]
    pub fn is_in_head(&self, labels: &Labels) -> bool {
        self.inner().head.index_mut().find(labels).is_some()
    }

    /// Newest time ever appended.
    #[must_use]
    pub fn newest_time(&self) -> Option<i64> {
        self.inner().head.max_t()
    }

    /// Keeps nothing of the log for the feed of this name any more.
    pub fn forget_feed(&self, name: &str) {
        lock(&self.inner().feeds.0).held.remove(name);
    }
}

/// Oldest segment that rows need which are open now.
pub(crate) fn needed_now(head: &Head) -> u64 {
    let rows = head.all_groups().into_iter().filter_map(|cell| lock(&cell.state).rows_wal);
    rows.min().unwrap_or(u64::MAX)
}

impl Feed {
    /// Adds to `out` what comes next, about `n_max` samples of it.
    ///
    /// # Errors
    /// When the log cannot be read; the next call tries again.
    pub fn read(&mut self, n_max: usize, out: &mut FedBatch) -> Result<Fed, ReadError> {
        let end = out.samples.len().saturating_add(n_max);
        while out.samples.len() < end {
            if self.is_gone {
                return Ok(Fed::Gap);
            }
            if !self.next_record(out)? && !self.next_page(out)? {
                return Ok(if self.is_gone { Fed::Gap } else { Fed::End });
            }
        }
        Ok(Fed::More)
    }

    /// What was given lies before this position.
    #[must_use]
    pub fn position(&self) -> FeedPosition {
        let at = if self.at.place() < self.from.place() { self.from } else { self.at };
        FeedPosition { needed: self.db.feeds.needed(at.segment, self.from.needed), ..at }
    }

    /// What lies before `position` is not needed any more.
    pub fn done(&self, position: FeedPosition) {
        self.db.feeds.hold(&self.name, position.needed);
    }

    /// The labels of a series that the feed gave; `None` when the head has forgotten it, because its samples are in
    /// blocks.
    #[must_use]
    pub fn labels(&self, series: FedSeries) -> Option<Labels> {
        let FedSeries(place) = series;
        let head = &self.db.head;
        let index = head.index();
        let number =
            head.group(place.group).and_then(|cell| lock(&cell.state).columns.get(place.column as usize).copied());
        if let Some(number) = number.filter(|n| index.is_live(*n)) {
            return Some(index.labels(number));
        }
        let moved = index.moved_series().into_iter().find(|n| index.earlier(*n).contains(&place));
        moved.filter(|n| index.is_live(*n)).map(|n| index.labels(n))
    }

    /// Bytes of the log that are not given yet.
    #[must_use]
    pub fn behind_bytes(&self) -> u64 {
        let Some(wal) = self.db.head.wal() else { return 0 };
        let (segment, len) = wal.written();
        let at = self.position();
        if at.segment == segment {
            return len.saturating_sub(at.offset);
        }
        let bytes = |n: u64| self.db.vfs.open_read(&self.dir.join(wal::segment_name(n))).and_then(|f| f.len());
        let between: u64 = (at.segment..segment).filter_map(|n| bytes(n).ok()).sum();
        between.saturating_sub(at.offset) + len
    }

    /// Takes the next record of the page; false when there is none.
    fn next_record(&mut self, out: &mut FedBatch) -> Result<bool, ReadError> {
        if self.page_len == 0 {
            return Ok(false);
        }
        let page = std::mem::take(&mut self.page);
        let next = page::next_record(&page, self.page_at);
        let is_some = next.is_some();
        if let Some((bytes, end)) = next {
            let is_new = self.at.place() >= self.from.place();
            match bytes {
                Some(bytes) => self.take(&page[bytes], is_new, out),
                None => out.n_lost += u64::from(is_new),
            }
            self.page_at = end;
            self.at.records += 1;
        }
        self.page = page;
        if !is_some {
            self.at.offset += self.page_len;
            self.at.records = 0;
            self.page_len = 0;
        }
        Ok(is_some)
    }

    /// Reads the next page; false when there is none yet, or the segment is gone.
    fn next_page(&mut self, out: &mut FedBatch) -> Result<bool, ReadError> {
        loop {
            let Some(wal) = self.db.head.wal() else { return Ok(false) };
            // Asked for before the file is looked at: what is written meanwhile is read the next time.
            let (last, written) = wal.written();
            if self.at.segment > last {
                return Ok(false);
            }
            let path = self.dir.join(wal::segment_name(self.at.segment));
            let file = match self.file.take() {
                Some(file) => file,
                None => match self.db.vfs.open_read(&path) {
                    Ok(file) => file,
                    // A segment without a record has no file.
                    Err(e) if e.is_not_found() && self.at.segment == last => return Ok(false),
                    Err(e) if e.is_not_found() => {
                        self.is_gone = true;
                        return Ok(false);
                    }
                    Err(e) => return Err(e.into()),
                },
            };
            let len = if self.at.segment == last { written } else { file.len()? };
            self.at.offset = self.at.offset.max(FILE_HEADER_BYTES as u64);
            if self.at.offset >= len {
                if self.at.segment == last {
                    self.file = Some(file);
                    return Ok(false);
                }
                self.at = FeedPosition { segment: self.at.segment + 1, offset: 0, records: 0, ..self.at };
                self.drop_old_chains();
                continue;
            }
            let is_read = self.read_page(&*file, len)?;
            if is_read {
                self.file = Some(file);
                return Ok(true);
            }
            // What is damaged is stepped over, as recovery does.
            out.n_lost += 1;
            let mut rest = vec![0; usize::try_from(len - self.at.offset).unwrap_or(0)];
            file.read_exact_at(self.at.offset, &mut rest)?;
            self.at.offset += page::next_header(&rest, 1) as u64;
            self.at.records = 0;
            self.file = Some(file);
        }
    }

    /// Reads the page at the offset of a file of `len` bytes; false when it is damaged.
    fn read_page(&mut self, file: &dyn VfsFile, len: u64) -> Result<bool, ReadError> {
        let mut header = [0; PAGE_HEADER_BYTES];
        let left = len - self.at.offset;
        if left < PAGE_HEADER_BYTES as u64 {
            return Ok(false);
        }
        file.read_exact_at(self.at.offset, &mut header)?;
        let Some(header) = page::Header::read(&header) else { return Ok(false) };
        if header.stored as u64 > left - PAGE_HEADER_BYTES as u64 {
            return Ok(false);
        }
        self.stored.resize(header.stored, 0);
        file.read_exact_at(self.at.offset + PAGE_HEADER_BYTES as u64, &mut self.stored)?;
        if !header.records(&self.stored, &mut self.page) {
            return Ok(false);
        }
        self.page_at = 0;
        self.page_len = (PAGE_HEADER_BYTES + header.stored) as u64;
        self.at.records = 0;
        Ok(true)
    }

    fn drop_old_chains(&mut self) {
        let oldest = self.max_t.saturating_sub(CHAIN_MS_MAX);
        self.chains.retain(|_, rows| rows.last().is_some_and(|row| row.t >= oldest));
    }

    /// Takes one record: gives what it holds if it `is_new`, and keeps what later ones are written against.
    fn take(&mut self, bytes: &[u8], is_new: bool, out: &mut FedBatch) {
        let Ok(record) = record::read(bytes) else {
            out.n_lost += u64::from(is_new);
            return;
        };
        let float = |group, column, t, v| FedSample {
            series: FedSeries(Place { group, column }),
            t,
            value: FedValue::Float(v),
        };
        match record {
            Record::Series { .. } => {}
            Record::Row(row) => {
                self.max_t = self.max_t.max(row.t);
                let (group, t) = (row.group, row.t);
                let rows = self.chains.entry(group).or_default();
                if !replay_row(rows, &row) {
                    self.chains.remove(&group);
                    out.n_lost += u64::from(is_new);
                    return;
                }
                if is_new {
                    rows.for_each_in_last(|column, v| out.samples.push(float(group, column, t, v)));
                }
            }
            Record::Patch { group, patch } => {
                let Some(rows) = self.chains.get_mut(&group) else {
                    out.n_lost += u64::from(is_new);
                    return;
                };
                self.columns.clear();
                columns_of(&patch, &mut self.columns);
                if rows.replay_patch(&patch).is_err() {
                    self.chains.remove(&group);
                    out.n_lost += u64::from(is_new);
                    return;
                }
                if !is_new {
                    return;
                }
                match &patch.cells {
                    Cells::Older(cells) => {
                        out.samples.extend(cells.iter().map(|&(column, v)| float(group, column, patch.t, v)));
                    }
                    Cells::Newest { .. } => {
                        let sample = |&column: &u32| float(group, column, patch.t, rows.state(column));
                        out.samples.extend(self.columns.iter().map(sample));
                    }
                }
            }
            Record::Late { group, cells, .. } if is_new => {
                out.samples.extend(cells.iter().map(|&(t, column, v)| float(group, column, t, v)));
            }
            Record::Histograms { group, cells, .. } if is_new => {
                for (t, column, bytes) in cells {
                    match read_histogram(bytes) {
                        Ok(h) => out.samples.push(FedSample {
                            series: FedSeries(Place { group, column }),
                            t,
                            value: FedValue::Histogram(h),
                        }),
                        Err(_) => out.n_lost += 1,
                    }
                }
            }
            Record::Exemplars { batch, .. } if is_new => out.exemplars.extend(batch),
            Record::Late { .. } | Record::Histograms { .. } | Record::Exemplars { .. } => {}
        }
    }
}

/// Whether the row could be read.
fn replay_row(rows: &mut OpenRows, row: &RowRecord<'_>) -> bool {
    if row.is_keyframe {
        rows.clear();
    } else if rows.last().is_none_or(|base| base.no + 1 != row.no) || rows.n_patches() != row.n_patches {
        return false;
    }
    rows.replay(row.no, row.t, row.is_keyframe, row.body).is_ok()
}

/// Columns that a patch of the newest row has samples of.
fn columns_of(patch: &Patch<'_>, out: &mut Vec<u32>) {
    let Cells::Newest { first_tile, body } = &patch.cells else { return };
    for tile in 0..body.n_tiles() {
        let mut rest = body.read_tile_head(tile).unwrap_or(0);
        while rest != 0 {
            out.push(((first_tile + tile) * TILE) as u32 + rest.trailing_zeros());
            rest &= rest - 1;
        }
    }
}

#[cfg(test)]
mod tests;
