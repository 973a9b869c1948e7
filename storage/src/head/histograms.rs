//! Native histograms of a group: cells by time and column, beside its rows.
//!
//! A group that never had one keeps nothing for them. Cells need not come in the order of time; they are sealed into
//! chunks of their own, of which times may overlap. No two samples of a group, floats included, have the same column
//! and time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use promontory_model::{HistogramSample, ReadError, TimeRange, Timestamp};

use super::chunk::Header;
use super::histogram_chunk;
use super::segment::Chunk;
use crate::sample::{Origin, keep_hint_after, read_histogram};

/// Cells of a group after which they are sealed.
const OPEN_CELLS_MAX: usize = 16_384;

/// A histogram that is not sealed yet, as bytes: a tenth of what it takes as numbers.
#[derive(Debug, Clone)]
pub(crate) struct HistogramCell {
    pub(crate) bytes: Arc<[u8]>,
    /// Append that wrote it.
    pub(crate) seq: u64,
}

/// Cells by time and column.
pub(crate) type HistogramCells = BTreeMap<(i64, u32), HistogramCell>;

/// What a group has of histograms.
#[derive(Debug)]
pub(crate) struct GroupHistograms {
    /// Shared with readers, who never see it change.
    pub(crate) open: Arc<HistogramCells>,
    /// Sealed cells, in the order they were sealed.
    pub(crate) chunks: Arc<Vec<Arc<Chunk>>>,
    /// Number of the next cell, and of the first that is not sealed.
    pub(crate) next_no: u64,
    pub(crate) first_no: u64,
    /// Segment of the WAL at or before the first open cell.
    pub(crate) wal: Option<u64>,
    /// Newest time ever; `i64::MIN` before the first.
    pub(crate) last_t: i64,
    /// Different times among the open cells, at most.
    pub(crate) n_times: usize,
    /// Columns that were asked for and have none: to find that out reads every chunk.
    without: BTreeSet<u32>,
}

impl Default for GroupHistograms {
    fn default() -> Self {
        Self {
            open: Arc::default(),
            chunks: Arc::default(),
            next_no: 0,
            first_no: 0,
            wal: None,
            last_t: i64::MIN,
            n_times: 0,
            without: BTreeSet::new(),
        }
    }
}

impl GroupHistograms {
    /// Adds cells, numbered from `first_no`, that lie in `segment` of the WAL; those that are sealed are left out.
    pub(crate) fn insert(
        &mut self,
        segment: u64,
        first_no: u64,
        cells: impl IntoIterator<Item = ((i64, u32), HistogramCell)>,
    ) {
        let open = Arc::make_mut(&mut self.open);
        let mut last = None;
        for (no, ((t, column), cell)) in (first_no..).zip(cells) {
            if no < self.next_no {
                continue;
            }
            self.next_no = no + 1;
            self.wal.get_or_insert(segment);
            if last != Some(t) && t != self.last_t {
                self.n_times += 1;
            }
            last = Some(t);
            self.last_t = self.last_t.max(t);
            self.without.remove(&column);
            open.entry((t, column)).or_insert(cell);
        }
    }

    /// Takes over what a sealed chunk says of numbers and times.
    pub(crate) fn saw_chunk(&mut self, header: &Header) {
        self.last_t = self.last_t.max(header.maxt);
        self.next_no = self.next_no.max(header.end_no);
        self.first_no = self.next_no;
    }

    /// The open cells are in `chunk` now.
    pub(crate) fn sealed(&mut self, chunk: Chunk) {
        Arc::make_mut(&mut self.chunks).push(Arc::new(chunk));
        self.clear_open();
    }

    fn clear_open(&mut self) {
        self.open = Arc::default();
        self.first_no = self.next_no;
        self.wal = None;
        self.n_times = 0;
    }

    /// Bytes allocated for what is open.
    pub(crate) fn memory(&self) -> usize {
        // As with late samples, cells of a B-tree are half as many again as there are used.
        let cells = self.open.len() * size_of::<((i64, u32), HistogramCell)>() * 3 / 2;
        let bytes: usize = self.open.values().map(|cell| 2 * size_of::<usize>() + cell.bytes.len()).sum();
        size_of::<Self>() + cells + bytes + self.without.len() * size_of::<u32>() * 3 / 2
    }

    /// Whether what is open is due to be sealed.
    pub(crate) fn is_full(&self, rows_max: usize) -> bool {
        self.n_times >= rows_max || self.open.len() >= OPEN_CELLS_MAX
    }

    /// Oldest open histogram at or after `floor`.
    pub(crate) fn open_min_t(&self, floor: i64) -> Option<i64> {
        self.open.range((floor, 0)..).next().map(|(&(t, _), _)| t)
    }

    pub(crate) fn min_t(&self, floor: i64) -> Option<i64> {
        let open = self.open_min_t(floor);
        let sealed = self.chunks.iter().filter(|c| c.header.maxt >= floor).map(|c| c.header.mint.max(floor));
        sealed.chain(open).min()
    }

    pub(crate) fn max_t(&self) -> Option<i64> {
        let open = self.open.last_key_value().map(|(&(t, _), _)| t);
        self.chunks.iter().map(|c| c.header.maxt).chain(open).max()
    }

    /// Makes it cheap to ask for the newest histogram of a column that has none.
    pub(crate) fn ask(&mut self, column: u32) {
        if !self.without.contains(&column) && self.last(column).is_none() {
            self.without.insert(column);
        }
    }

    /// Whether there is nothing behind `t`, and what there is at `t` is open.
    pub(crate) fn are_open_from(&self, t: i64) -> bool {
        self.chunks.iter().all(|chunk| chunk.header.maxt < t)
            && self.open.last_key_value().is_none_or(|(&(newest, _), _)| newest <= t)
    }

    /// Time and value of the column's newest histogram.
    pub(crate) fn last(&self, column: u32) -> Option<(i64, HistogramSample)> {
        if self.without.contains(&column) {
            return None;
        }
        let open = self.open.iter().rev().find(|((_, c), _)| *c == column);
        let mut newest = open.and_then(|(&(t, _), cell)| Some((t, read_histogram(&cell.bytes).ok()?)));
        // Mostly the last chunk has it, and the others are older.
        let mut chunks: Vec<&Arc<Chunk>> = self.chunks.iter().collect();
        chunks.sort_by_key(|c| std::cmp::Reverse(c.header.maxt));
        for chunk in chunks {
            if newest.as_ref().is_some_and(|(t, _)| chunk.header.maxt < *t) {
                break;
            }
            // What cannot be read holds nothing that a new sample could contradict; queries report it.
            let sealed = histogram_chunk::column(chunk, column).ok().and_then(|mut samples| samples.pop());
            newest = newest.into_iter().chain(sealed).max_by_key(|(t, _)| *t);
        }
        newest
    }

    /// The column's histogram at `t`.
    pub(crate) fn find(&self, column: u32, t: i64) -> Option<HistogramSample> {
        if let Some(cell) = self.open.get(&(t, column)) {
            return read_histogram(&cell.bytes).ok();
        }
        let mut chunks = self.chunks.iter().filter(|c| c.header.mint <= t && t <= c.header.maxt);
        chunks.find_map(|chunk| {
            let samples = histogram_chunk::column(chunk, column).ok()?;
            samples.into_iter().find(|(at, _)| *at == t).map(|(_, sample)| sample)
        })
    }

    /// Forgets samples before `floor`.
    pub(crate) fn truncate(&mut self, floor: i64) {
        if self.chunks.iter().any(|c| c.header.maxt < floor) {
            Arc::make_mut(&mut self.chunks).retain(|c| c.header.maxt >= floor);
        }
        if self.open.first_key_value().is_some_and(|(&(t, _), _)| t < floor) {
            let open = Arc::make_mut(&mut self.open);
            *open = open.split_off(&(floor, 0));
            if open.is_empty() {
                self.clear_open();
            }
        }
    }

    /// What appends up to `seq` left.
    pub(crate) fn view(&self, seq: u64) -> HistogramView {
        HistogramView { seq, open: Arc::clone(&self.open), chunks: Arc::clone(&self.chunks) }
    }
}

/// A group's histograms as they were when they were captured.
#[derive(Debug)]
pub(crate) struct HistogramView {
    seq: u64,
    open: Arc<HistogramCells>,
    chunks: Arc<Vec<Arc<Chunk>>>,
}

/// A histogram: time, index of the column in the request, value.
pub(crate) type HistogramAt = (i64, usize, HistogramSample);

impl HistogramView {
    fn chunks_in(&self, range: TimeRange) -> impl Iterator<Item = &Arc<Chunk>> {
        self.chunks.iter().filter(move |c| c.header.mint <= range.maxt.0 && range.mint.0 <= c.header.maxt)
    }

    fn open_in(&self, range: TimeRange) -> impl Iterator<Item = (i64, u32, &HistogramCell)> {
        let bounds = (range.mint.0, 0)..=(range.maxt.0.max(range.mint.0), u32::MAX);
        let cells = (!range.is_empty()).then(|| self.open.range(bounds));
        let seq = self.seq;
        cells.into_iter().flatten().filter(move |(_, cell)| cell.seq <= seq).map(|(&(t, c), cell)| (t, c, cell))
    }

    /// Upper bound of the different times inside `range`.
    pub(crate) fn times_max(&self, range: TimeRange) -> usize {
        let mut last = None;
        let open = self.open_in(range).filter(|(t, _, _)| last.replace(*t) != Some(*t)).count();
        self.chunks_in(range).map(|c| c.header.n_rows as usize).sum::<usize>() + open
    }

    /// Visible histograms of the columns, by column and time.
    pub(crate) fn read(&self, columns: &[u32], range: TimeRange) -> Result<Vec<HistogramAt>, ReadError> {
        let mut found: Vec<(HistogramAt, Origin)> = Vec::new();
        for (part, chunk) in self.chunks_in(range).enumerate() {
            let bytes = chunk.bytes()?;
            let body = histogram_chunk::Body::of(chunk, &bytes)?;
            let seqs = chunk.seqs();
            for (i, &column) in columns.iter().enumerate() {
                let mut place = 0;
                body.column(column, |row, t, sample| {
                    let is_visible = seqs.as_ref().is_none_or(|s| s[row] <= self.seq);
                    if is_visible && range.contains(Timestamp(t)) {
                        found.push(((t, i, sample), (part, place)));
                    }
                    place += 1;
                })
                .map_err(|e| chunk.malformed(e))?;
            }
        }
        // Few columns have histograms.
        let mut wanted: Vec<(u32, usize)> = columns.iter().enumerate().map(|(i, &c)| (c, i)).collect();
        wanted.sort_unstable();
        for (place, (t, column, cell)) in self.open_in(range).enumerate() {
            let of_column = wanted.partition_point(|(c, _)| *c < column);
            for &(_, i) in wanted[of_column..].iter().take_while(|(c, _)| *c == column) {
                // Its bytes were checked when they were appended or replayed.
                if let Ok(sample) = read_histogram(&cell.bytes) {
                    found.push(((t, i, sample), (usize::MAX, place)));
                }
            }
        }
        found.sort_by_key(|((t, i, _), _)| (*i, *t));
        let mut before: Option<(usize, Origin)> = None;
        for ((_, i, sample), at) in &mut found {
            keep_hint_after(before.filter(|(column, _)| column == i).map(|(_, at)| at), *at, sample);
            before = Some((*i, *at));
        }
        Ok(found.into_iter().map(|(at, _)| at).collect())
    }
}
