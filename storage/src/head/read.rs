//! Reading the head: a snapshot is a watermark over appends; groups are captured when they are selected.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use promontory_model::{Columns, Labels, ReadError, Select, TimeRange, Timestamp};
use rapidhash::fast::RandomState;
use roaring::RoaringBitmap;

use super::chunk::{Column, ColumnReader};
use super::group::{Group, LateCells};
use super::histograms::{HistogramAt, HistogramView};
use super::index::{Index, Place};
use super::open::{OpenRow, Tile};
use super::row::TILE;
use super::segment::{Chunk, ChunkBytes};
use super::{Head, deleted, lock};
use crate::label_table::{LabelTable, NameId, PairId, SetId};
use crate::source::{GroupColumns, Rows, SelectedGroup, SelectedSeries, Source};
use crate::tombstone::Tombstones;

/// The head as it was at one moment.
#[derive(Debug)]
pub(crate) struct HeadSnapshot {
    head: Arc<Head>,
    /// Appends up to this one are seen.
    seq: u64,
    /// Series with a number from here on are newer.
    n_numbers: u32,
    /// Samples before this time are read from blocks.
    floor: i64,
    tombstones: Arc<Tombstones>,
    reader: u64,
}

impl Head {
    /// What has been appended until now. The caller holds the gate alone.
    pub(crate) fn snapshot(self: &Arc<Self>) -> HeadSnapshot {
        let floor = self.floor();
        let seq = self.seq.load(Ordering::Acquire);
        let reader = self.next_reader.fetch_add(1, Ordering::Relaxed);
        lock(&self.readers).insert(reader, (floor, seq));
        let tombstones = self.tombstones();
        HeadSnapshot { head: Arc::clone(self), seq, n_numbers: self.index().n_numbers(), floor, tombstones, reader }
    }

    /// Oldest floor that a snapshot in use reads from, and oldest append up to which one sees.
    pub(crate) fn oldest_reader(&self) -> (i64, u64) {
        let readers = lock(&self.readers);
        let floor = readers.values().map(|r| r.0).min().unwrap_or(i64::MAX);
        let seq = readers.values().map(|r| r.1).min().unwrap_or(u64::MAX);
        (floor, seq)
    }
}

impl Drop for HeadSnapshot {
    fn drop(&mut self) {
        lock(&self.head.readers).remove(&self.reader);
    }
}

impl HeadSnapshot {
    /// Matching series with their places, earlier ones included, those of a group one after the other.
    fn places(&self, select: &Select<'_>) -> Vec<(Place, u32)> {
        let index = self.head.index();
        let mut series = index.select(select.matchers);
        series.remove_range(self.n_numbers..);
        let mut out = Vec::with_capacity(series.len() as usize);
        for number in &series {
            out.push((index.place(number), number));
            out.extend(index.earlier(number).iter().map(|&place| (place, number)));
        }
        out.sort_by_key(|(place, _)| place.group);
        out
    }

    /// Matching series by group, earlier places included.
    pub(super) fn by_group(&self, select: &Select<'_>) -> Vec<(u32, Vec<(Place, u32)>)> {
        let places = self.places(select);
        places.chunk_by(|(a, _), (b, _)| a.group == b.group).map(|of| (of[0].0.group, of.to_vec())).collect()
    }

    pub(super) fn view(&self, group: u32, range: TimeRange) -> Option<GroupView> {
        let cell = self.head.group(group)?;
        let view = GroupView::of(&lock(&cell.state), self.seq, self.floor);
        (view.rows_max(range) > 0).then_some(view)
    }

    /// Matching series of groups that have rows in the range.
    fn candidates(&self, select: &Select<'_>) -> RoaringBitmap {
        let mut out = RoaringBitmap::new();
        for (group, members) in self.by_group(select) {
            if self.view(group, select.range).is_some() {
                out.extend(members.iter().map(|(_, series)| *series));
            }
        }
        out
    }
}

impl Source for HeadSnapshot {
    fn range(&self) -> TimeRange {
        TimeRange { mint: Timestamp(self.floor), maxt: Timestamp(self.head.max_t().unwrap_or(i64::MIN)) }
    }

    fn select(&self, select: &Select<'_>, table: &mut LabelTable) -> Result<Vec<SelectedGroup>, ReadError> {
        let mut out = Vec::new();
        let places = self.places(select);
        let mut sets = Sets::default();
        for members in places.chunk_by(|(a, _), (b, _)| a.group == b.group) {
            select.cancel.check()?;
            let group = members[0].0.group;
            let Some(view) = self.view(group, select.range) else { continue };
            let index = self.head.index();
            let mut series = Vec::with_capacity(members.len());
            for &(place, number) in members.iter().filter(|(_, series)| index.is_live(*series)) {
                series.push(SelectedSeries { set: sets.of(&index, number, table)?, column: place.column });
            }
            drop(index);
            let selected = SelectedGroup { group: Arc::new(view), series };
            out.extend(deleted::mask(&self.tombstones, group, selected, select.range)?);
        }
        Ok(out)
    }

    fn label_names(&self, select: &Select<'_>, out: &mut Vec<String>) -> Result<(), ReadError> {
        let series = self.candidates(select);
        self.head.index().label_names(&series, out);
        Ok(())
    }

    fn label_values(
        &self,
        name: &str,
        select: &Select<'_>,
        limit: usize,
        out: &mut Vec<String>,
    ) -> Result<(), ReadError> {
        let series = self.candidates(select);
        self.head.index().label_values(name, &series, limit, out);
        Ok(())
    }

    fn series(&self, select: &Select<'_>, limit: usize, out: &mut Vec<Labels>) -> Result<(), ReadError> {
        let series = self.candidates(select);
        let index = self.head.index();
        out.extend(series.iter().filter(|s| index.is_live(*s)).take(limit).map(|s| index.labels(s)));
        Ok(())
    }
}

/// What a selection calls the strings and pairs of the index.
#[derive(Default)]
struct Sets {
    /// By string of the index.
    names: HashMap<u32, NameId, RandomState>,
    /// By pair of the index.
    pairs: HashMap<u32, PairId, RandomState>,
    /// Of the index; while it is not locked, its strings and pairs may get other numbers.
    epoch: u64,
    ids: Vec<PairId>,
}

impl Sets {
    /// The label set of a series.
    fn of(&mut self, index: &Index, series: u32, table: &mut LabelTable) -> Result<SetId, ReadError> {
        if table.is_anonymous() && index.none_moved() {
            return table.nameless();
        }
        if self.epoch != index.epoch() {
            *self = Self { epoch: index.epoch(), ..Self::default() };
        }
        self.ids.clear();
        for &pair in index.ids(series) {
            let id = match self.pairs.get(&pair) {
                Some(id) => *id,
                None => {
                    let (name, value) = index.pair(pair);
                    let name = *self.names.entry(name).or_insert_with(|| table.name(index.string(name)));
                    let id = table.pair(name, index.string(value))?;
                    self.pairs.insert(pair, id);
                    id
                }
            };
            self.ids.push(id);
        }
        table.set(&self.ids)
    }
}

/// One group as it was when it was captured; newer appends are skipped by their number.
#[derive(Debug)]
pub(crate) struct GroupView {
    seq: u64,
    floor: i64,
    chunks: Arc<Vec<Arc<Chunk>>>,
    late_chunks: Arc<Vec<Arc<Chunk>>>,
    rows: Vec<OpenRow>,
    late: Arc<LateCells>,
    histograms: Option<HistogramView>,
}

/// Visible rows of a sealed chunk.
struct Sealed<'a> {
    chunk: &'a Chunk,
    bytes: ChunkBytes,
    /// Rows of the chunk, from and before.
    from: usize,
    to: usize,
}

/// Visible open rows; those before `from` are needed to decode the others.
#[derive(Clone, Copy)]
struct Open<'a> {
    rows: &'a [OpenRow],
    from: usize,
}

impl Open<'_> {
    fn len(&self) -> usize {
        self.rows.len() - self.from
    }
}

/// A late sample: time, index of the column in the request, value.
type LateSample = (i64, usize, f64);

impl GroupView {
    /// What appends up to `seq` left in the group, from `floor` on.
    pub(crate) fn of(group: &Group, seq: u64, floor: i64) -> Self {
        Self {
            seq,
            floor,
            chunks: Arc::clone(&group.chunks),
            late_chunks: Arc::clone(&group.late_chunks),
            rows: group.rows.rows().to_vec(),
            late: Arc::clone(&group.late),
            histograms: group.histograms.as_ref().map(|h| h.view(seq)),
        }
    }

    fn clip(&self, range: TimeRange) -> TimeRange {
        TimeRange { mint: range.mint.max(Timestamp(self.floor)), maxt: range.maxt }
    }

    fn chunks_in(&self, range: TimeRange) -> &[Arc<Chunk>] {
        let start = self.chunks.partition_point(|c| c.header.maxt < range.mint.0);
        let end = self.chunks.partition_point(|c| c.header.mint <= range.maxt.0);
        &self.chunks[start.min(end)..end]
    }

    fn late_chunks_in(&self, range: TimeRange) -> impl Iterator<Item = &Arc<Chunk>> {
        self.late_chunks.iter().filter(move |c| c.header.mint <= range.maxt.0 && range.mint.0 <= c.header.maxt)
    }

    fn rows_in(&self, range: TimeRange) -> Open<'_> {
        let start = self.rows.partition_point(|row| row.t < range.mint.0);
        let end = self.rows.partition_point(|row| row.t <= range.maxt.0 && row.seq <= self.seq);
        Open { rows: &self.rows[..end], from: start.min(end) }
    }

    fn late_in(&self, range: TimeRange) -> impl Iterator<Item = (i64, u32, f64)> {
        let seq = self.seq;
        let bounds = (range.mint.0, 0)..=(range.maxt.0.max(range.mint.0), u32::MAX);
        let cells = (!range.is_empty()).then(|| self.late.range(bounds));
        cells.into_iter().flatten().filter(move |(_, cell)| cell.seq <= seq).map(|(&(t, c), cell)| (t, c, cell.value))
    }

    /// Visible rows of sealed chunks; their times go to `times`.
    fn sealed_in(&self, range: TimeRange, times: &mut Vec<i64>) -> Result<Vec<Sealed<'_>>, ReadError> {
        let mut out = Vec::new();
        let mut decoded = Vec::new();
        for chunk in self.chunks_in(range) {
            let bytes = chunk.bytes()?;
            decoded.clear();
            chunk.body(&bytes)?.timestamps(&mut decoded).map_err(|e| chunk.malformed(e))?;
            let from = decoded.partition_point(|&t| t < range.mint.0);
            let mut to = decoded.partition_point(|&t| t <= range.maxt.0).max(from);
            if let Some(seqs) = chunk.seqs() {
                to = to.min(seqs.partition_point(|&seq| seq <= self.seq)).max(from);
            }
            times.extend_from_slice(&decoded[from..to]);
            out.push(Sealed { chunk, bytes, from, to });
        }
        Ok(out)
    }

    /// Visible late samples of the columns.
    fn late_of(&self, columns: &[u32], range: TimeRange) -> Result<Vec<LateSample>, ReadError> {
        let mut out = Vec::new();
        let mut decoded = Column::default();
        let mut times = Vec::new();
        for chunk in self.late_chunks_in(range) {
            let bytes = chunk.bytes()?;
            let body = chunk.body(&bytes)?;
            times.clear();
            body.timestamps(&mut times).map_err(|e| chunk.malformed(e))?;
            let seqs = chunk.seqs();
            for (i, &column) in columns.iter().enumerate() {
                body.column(column as usize, &mut decoded).map_err(|e| chunk.malformed(e))?;
                decoded.for_each(|row, value| {
                    let is_visible = seqs.as_ref().is_none_or(|s| s[row] <= self.seq);
                    if is_visible && range.contains(Timestamp(times[row])) {
                        out.push((times[row], i, value));
                    }
                });
            }
        }
        let mut open = self.late_in(range).peekable();
        if open.peek().is_some() {
            let index: HashMap<u32, usize> = columns.iter().enumerate().map(|(i, &c)| (c, i)).collect();
            out.extend(open.filter_map(|(t, column, value)| index.get(&column).map(|&i| (t, i, value))));
        }
        Ok(out)
    }
}

impl GroupColumns for GroupView {
    fn rows_max(&self, range: TimeRange) -> usize {
        let range = self.clip(range);
        if range.is_empty() {
            return 0;
        }
        let sealed = self.chunks_in(range).iter().chain(self.late_chunks_in(range));
        let sealed: usize = sealed.map(|c| c.header.n_rows as usize).sum();
        let histograms = self.histograms.as_ref().map_or(0, |h| h.times_max(range));
        sealed + self.rows_in(range).len() + self.late_in(range).count() + histograms
    }

    fn read(&self, columns: &[u32], range: TimeRange, out: &mut Columns) -> Result<(), ReadError> {
        let range = self.clip(range);
        let mut times = Vec::new();
        if range.is_empty() {
            out.reset(columns.len(), []);
            return Ok(());
        }
        let sealed = self.sealed_in(range, &mut times)?;
        let rows = self.rows_in(range);
        times.extend(rows.rows[rows.from..].iter().map(|row| row.t));
        let late = self.late_of(columns, range)?;
        let histograms = match &self.histograms {
            Some(histograms) => histograms.read(columns, range)?,
            None => Vec::new(),
        };
        // Most histograms arrive with a row.
        if late.is_empty() && histograms.iter().all(|(t, _, _)| times.binary_search(t).is_ok()) {
            out.reset(columns.len(), times.iter().copied());
            fill(columns, &sealed, rows, 0, out)?;
            push_histograms(histograms, out);
            return Ok(());
        }
        let mut union = times.clone();
        union.extend(late.iter().map(|&(t, _, _)| t));
        union.extend(histograms.iter().map(|&(t, _, _)| t));
        union.sort_unstable();
        union.dedup();
        out.reset(columns.len(), union.iter().copied());
        for i in 0..columns.len() {
            out.clear_column(i);
        }
        // What arrived in order was there first.
        for (t, i, value) in late {
            out.set_present(i, union.partition_point(|&x| x < t), value);
        }
        let places: Vec<usize> = times.iter().map(|t| union.partition_point(|x| x < t)).collect();
        let mut in_order = Columns::default();
        in_order.reset(columns.len(), times.iter().copied());
        fill(columns, &sealed, rows, 0, &mut in_order)?;
        for i in 0..columns.len() {
            let column = in_order.column(i);
            for (row, &at) in places.iter().enumerate().filter(|(row, _)| column.is_present(*row)) {
                out.set_present(i, at, column.values[row]);
            }
        }
        push_histograms(histograms, out);
        Ok(())
    }

    fn rows(&self, range: TimeRange) -> Result<Option<Box<dyn Rows + '_>>, ReadError> {
        let range = self.clip(range);
        let is_late = self.late_chunks_in(range).next().is_some() || self.late_in(range).next().is_some();
        if range.is_empty() || is_late || self.histograms.as_ref().is_some_and(|h| h.times_max(range) > 0) {
            return Ok(None);
        }
        let mut times = Vec::new();
        let sealed = self.sealed_in(range, &mut times)?;
        let open = self.rows_in(range);
        times.extend(open.rows[open.from..].iter().map(|row| row.t));
        Ok(Some(Box::new(InOrder { times, sealed, open })))
    }
}

/// Rows of a group that arrived in order.
struct InOrder<'a> {
    times: Vec<i64>,
    sealed: Vec<Sealed<'a>>,
    open: Open<'a>,
}

impl Rows for InOrder<'_> {
    fn times(&self) -> &[i64] {
        &self.times
    }

    fn fill(&self, columns: &[u32], start: usize, out: &mut Columns) -> Result<bool, ReadError> {
        fill(columns, &self.sealed, self.open, start, out)?;
        Ok(true)
    }
}

/// Writes histograms, sorted by column and time, to rows that are there.
fn push_histograms(histograms: Vec<HistogramAt>, out: &mut Columns) {
    for (t, i, sample) in histograms {
        if let Ok(row) = out.timestamps().binary_search(&t) {
            out.push_histogram_sample(i, row, sample);
        }
    }
}

/// Writes sealed and open rows one after the other, from row `start` on.
fn fill(
    columns: &[u32],
    sealed: &[Sealed<'_>],
    rows: Open<'_>,
    mut start: usize,
    out: &mut Columns,
) -> Result<(), ReadError> {
    let mut decoded = Column::default();
    for part in sealed {
        let mut body = ColumnReader::new(part.chunk.body(&part.bytes)?);
        let n = part.to - part.from;
        for (i, &column) in columns.iter().enumerate() {
            body.column(column as usize, &mut decoded).map_err(|e| part.chunk.malformed(e))?;
            if decoded.values.len() == part.chunk.header.n_rows as usize {
                out.values_mut(i)[start..start + n].copy_from_slice(&decoded.values[part.from..part.to]);
                continue;
            }
            for row in 0..n {
                out.set_absent(i, start + row);
            }
            decoded.for_each(|row, value| {
                if (part.from..part.to).contains(&row) {
                    out.set_present(i, start + row - part.from, value);
                }
            });
        }
        start += n;
    }
    fill_open(columns, rows, start, out);
    Ok(())
}

/// Writes open rows from row `start` of `out` on, tile by tile.
fn fill_open(columns: &[u32], open: Open<'_>, start: usize, out: &mut Columns) {
    if open.len() == 0 {
        return;
    }
    let mut order: Vec<usize> = (0..columns.len()).collect();
    order.sort_by_key(|&i| columns[i]);
    let mut tile = Tile::default();
    let tile_of = |i: usize| columns[i] as usize / TILE;
    for wanted in order.chunk_by(|&a, &b| tile_of(a) == tile_of(b)) {
        tile.read(open.rows, tile_of(wanted[0]));
        for &i in wanted {
            for row in 0..open.len() {
                match tile.get(open.from + row, columns[i] as usize % TILE) {
                    Some(value) => out.set_present(i, start + row, value),
                    None => out.set_absent(i, start + row),
                }
            }
        }
    }
}
