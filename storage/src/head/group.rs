//! One group: series whose samples arrive together and share one column of timestamps.
//!
//! Rows are strictly ascending in time. What arrives behind the newest row is *late*: a cell of an open row that has
//! no sample yet is filled, where little has to be written anew for it; other late samples are kept apart, sorted,
//! until they are sealed. No two samples of a group have the same column and time. A group knows series only by number.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex};

use promontory_model::ReadError;

use super::chunk::Column;
use super::histograms::GroupHistograms;
use super::index::Place;
use super::open::OpenRows;
use super::segment::Chunk;
use crate::sample::Value;
use crate::status::HeadMemory;

/// A column that no series uses.
pub(crate) const NO_SERIES: u32 = u32::MAX;

/// A late sample.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LateCell {
    pub(crate) value: f64,
    pub(crate) seq: u64,
}

/// Nothing, which all groups share that have none: many small ones never get any.
pub(crate) fn no_cells() -> Arc<LateCells> {
    static NONE: LazyLock<Arc<LateCells>> = LazyLock::new(Arc::default);
    Arc::clone(&NONE)
}

/// As [`no_cells`].
fn no_chunks() -> Arc<Vec<Arc<Chunk>>> {
    static NONE: LazyLock<Arc<Vec<Arc<Chunk>>>> = LazyLock::new(Arc::default);
    Arc::clone(&NONE)
}

/// Late samples by time and column.
pub(crate) type LateCells = BTreeMap<(i64, u32), LateCell>;

/// A group and its lock. The lock protects the group's columns and samples; when locks of two groups are held, that of
/// the higher id was taken first.
#[derive(Debug)]
pub(crate) struct GroupCell {
    pub(crate) id: u32,
    pub(crate) state: Mutex<Group>,
}

/// A group's columns and samples.
#[derive(Debug)]
pub(crate) struct Group {
    /// Series of each column.
    pub(crate) columns: Vec<u32>,
    /// Whether a writer puts its new series here.
    pub(crate) is_claimed: bool,
    /// Open rows, ascending.
    pub(crate) rows: OpenRows,
    /// Number of the next row.
    pub(crate) next_no: u64,
    /// Segment of the WAL at or before the first open row.
    pub(crate) rows_wal: Option<u64>,
    /// When the first open row arrived, on the monotonic clock.
    pub(crate) opened_ns: u64,
    /// Late samples, shared with readers in the same way.
    pub(crate) late: Arc<LateCells>,
    /// Number of the next late cell, and of the first that is not sealed.
    pub(crate) late_no: u64,
    pub(crate) late_first_no: u64,
    /// Segment of the WAL at or before the first late cell.
    pub(crate) late_wal: Option<u64>,
    /// Sealed rows, ascending in time.
    pub(crate) chunks: Arc<Vec<Arc<Chunk>>>,
    /// Sealed late samples, in the order they were sealed.
    pub(crate) late_chunks: Arc<Vec<Arc<Chunk>>>,
    /// Histograms, once there is one.
    pub(crate) histograms: Option<Box<GroupHistograms>>,
    /// Time of the newest row ever; `i64::MIN` before the first.
    pub(crate) last_t: i64,
    /// The group that took over all series of this one.
    pub(crate) successor: Option<u32>,
    /// The newest sample that is late or sealed of each column that was asked for it. Until rows are sealed nothing but
    /// late samples changes it, and to look for it again reads every chunk in which the column has none.
    pub(super) asked: BTreeMap<u32, Option<(i64, f64)>>,
    /// Where the samples of columns that moved here lie up to `last_t` of that moment.
    pub(crate) earlier: BTreeMap<u32, Vec<Place>>,
}

impl Group {
    pub(crate) fn new() -> Self {
        Self {
            columns: Vec::new(),
            is_claimed: false,
            rows: OpenRows::default(),
            next_no: 0,
            rows_wal: None,
            opened_ns: 0,
            late: no_cells(),
            late_no: 0,
            late_first_no: 0,
            late_wal: None,
            chunks: no_chunks(),
            late_chunks: no_chunks(),
            histograms: None,
            last_t: i64::MIN,
            successor: None,
            asked: BTreeMap::new(),
            earlier: BTreeMap::new(),
        }
    }

    /// Puts a series at a column; columns between are holes.
    pub(crate) fn set_column(&mut self, column: u32, series: u32) {
        self.reserve_columns(column as usize + 1);
        self.columns[column as usize] = series;
    }

    /// Makes sure that columns below `n` are not given to new series: samples of lost ones may lie there.
    pub(crate) fn reserve_columns(&mut self, n: usize) {
        if self.columns.len() < n {
            self.columns.resize(n, NO_SERIES);
        }
    }

    /// Adds the bytes allocated for the group.
    pub(crate) fn memory(&self, out: &mut HeadMemory) {
        out.chunks += self.sealed().map(|chunk| chunk.memory() as u64).sum::<u64>();
        out.histograms += self.histograms.as_ref().map_or(0, |histograms| histograms.memory() as u64);
        out.open_rows += self.rows.memory() as u64;
        // Cells of a B-tree are half as many again as there are used.
        out.late += (self.late.len() * size_of::<((i64, u32), LateCell)>() * 3 / 2) as u64;
        let earlier: usize = self.earlier.values().map(|places| places.capacity() * 8 + 48).sum();
        let asked = self.asked.len() * size_of::<(u32, Option<(i64, f64)>)>() * 3 / 2;
        out.groups += (size_of::<GroupCell>() + self.columns.capacity() * 4 + earlier + asked) as u64;
    }

    /// Oldest sample at or after `floor`.
    pub(crate) fn min_t(&self, floor: i64) -> Option<i64> {
        let row = self.rows.rows().iter().map(|row| row.t).find(|&t| t >= floor);
        let late = self.late.range((floor, 0)..).next().map(|(&(t, _), _)| t);
        let sealed = self.chunks.iter().chain(&*self.late_chunks).filter(|c| c.header.maxt >= floor);
        let histogram = self.histograms.as_ref().and_then(|h| h.min_t(floor));
        sealed.map(|c| c.header.mint.max(floor)).chain(row).chain(late).chain(histogram).min()
    }

    /// The same, but exact where a chunk holds samples before and after `floor`: decodes their times.
    pub(crate) fn min_t_exact(&self, floor: i64) -> Result<Option<i64>, ReadError> {
        let open_histogram = self.histograms.as_ref().and_then(|h| h.open_min_t(floor));
        let row = self.rows.rows().iter().map(|row| row.t).find(|&t| t >= floor);
        let late = self.late.range((floor, 0)..).next().map(|(&(t, _), _)| t);
        let mut min = row.into_iter().chain(late).chain(open_histogram).min();
        for chunk in self.sealed() {
            min = min.into_iter().chain(chunk.first_t(floor)?).min();
        }
        Ok(min)
    }

    /// Newest sample.
    pub(crate) fn max_t(&self) -> Option<i64> {
        let row = self.rows.last().map(|row| row.t);
        let late = self.late.last_key_value().map(|(&(t, _), _)| t);
        let histogram = self.histograms.as_ref().and_then(|h| h.max_t());
        let sealed = self.chunks.iter().chain(&*self.late_chunks);
        sealed.map(|c| c.header.maxt).chain(row).chain(late).chain(histogram).max()
    }

    /// Time of the newest row or histogram ever; `i64::MIN` before the first.
    pub(crate) fn newest_t(&self) -> i64 {
        self.histograms.as_ref().map_or(self.last_t, |h| h.last_t.max(self.last_t))
    }

    /// All that is sealed, in no particular order.
    pub(crate) fn sealed(&self) -> impl Iterator<Item = &Arc<Chunk>> {
        let histograms = self.histograms.iter().flat_map(|h| h.chunks.iter());
        self.chunks.iter().chain(&*self.late_chunks).chain(histograms)
    }

    /// Whether no sample lies at or after `floor`.
    pub(crate) fn is_empty_from(&self, floor: i64) -> bool {
        self.max_t().is_none_or(|t| t < floor)
    }

    /// Time and value of the column's newest sample.
    pub(crate) fn last(&self, column: u32) -> Option<(i64, Value)> {
        let float = self.last_float(column).map(|(t, v)| (t, Value::Float(v)));
        let Some(histograms) = &self.histograms else { return float };
        let histogram = histograms.last(column).map(|(t, h)| (t, Value::Histogram(h)));
        float.into_iter().chain(histogram).max_by_key(|(t, _)| *t)
    }

    fn last_float(&self, column: u32) -> Option<(i64, f64)> {
        let closed = self.asked.get(&column).copied().unwrap_or_else(|| self.last_closed(column));
        let open = self.rows.newest_after(column, closed.map_or(i64::MIN, |(t, _)| t));
        open.or(closed)
    }

    /// Time and value of the column's newest sample but for open rows.
    fn last_closed(&self, column: u32) -> Option<(i64, f64)> {
        let row = self.chunks.iter().rev().find_map(|chunk| last_in(chunk, column));
        let late = self.late.iter().rev().find(|((_, c), _)| *c == column).map(|(&(t, _), cell)| (t, cell.value));
        let sealed_late = self.late_chunks.iter().filter_map(|chunk| last_in(chunk, column));
        row.into_iter().chain(late).chain(sealed_late).max_by_key(|(t, _)| *t)
    }

    /// Makes it cheap to ask for the newest sample of a column again and again.
    pub(crate) fn ask(&mut self, column: u32) {
        if !self.asked.contains_key(&column) {
            let closed = self.last_closed(column);
            self.asked.insert(column, closed);
        }
        if let Some(histograms) = &mut self.histograms {
            histograms.ask(column);
        }
    }

    /// Adds a late sample.
    pub(crate) fn add_late(&mut self, (t, column): (i64, u32), cell: LateCell) {
        Arc::make_mut(&mut self.late).insert((t, column), cell);
        if let Some(closed) = self.asked.get_mut(&column)
            && closed.is_none_or(|(last, _)| t > last)
        {
            *closed = Some((t, cell.value));
        }
    }

    /// The open rows were sealed: they are no longer open.
    pub(crate) fn sealed_rows(&mut self, chunk: Chunk) {
        Arc::make_mut(&mut self.chunks).push(Arc::new(chunk));
        self.rows.clear();
        self.rows_wal = None;
        self.asked = BTreeMap::new();
    }

    /// The column's sample at `t`.
    pub(crate) fn find(&self, column: u32, t: i64) -> Option<Value> {
        let histogram = || self.histograms.as_ref()?.find(column, t).map(Value::Histogram);
        self.find_float(column, t).map(Value::Float).or_else(histogram)
    }

    fn find_float(&self, column: u32, t: i64) -> Option<f64> {
        let open = self.rows.at(t).and_then(|i| self.rows.get(i, column));
        open.or_else(|| self.late.get(&(t, column)).map(|cell| cell.value))
            .or_else(|| {
                let i = self.chunks.partition_point(|chunk| chunk.header.maxt < t);
                self.chunks.get(i).and_then(|chunk| find_in(chunk, column, t))
            })
            .or_else(|| self.late_chunks.iter().find_map(|chunk| find_in(chunk, column, t)))
    }
}

/// Times of a chunk and the samples of one column. A chunk that cannot be read holds nothing that a new sample could
/// contradict; queries report it.
fn decode(chunk: &Chunk, column: u32) -> Option<(Vec<i64>, Column)> {
    if column >= chunk.header.n_columns {
        return None;
    }
    let bytes = chunk.bytes().ok()?;
    let body = chunk.body(&bytes).ok()?;
    let mut out = Column::default();
    body.column(column as usize, &mut out).ok()?;
    if out.values.is_empty() {
        return None;
    }
    let mut times = Vec::new();
    body.timestamps(&mut times).ok()?;
    Some((times, out))
}

fn last_in(chunk: &Chunk, column: u32) -> Option<(i64, f64)> {
    let (times, samples) = decode(chunk, column)?;
    let mut last = None;
    samples.for_each(|row, v| last = Some((times[row], v)));
    last
}

fn find_in(chunk: &Chunk, column: u32, t: i64) -> Option<f64> {
    if t < chunk.header.mint || t > chunk.header.maxt {
        return None;
    }
    let (times, samples) = decode(chunk, column)?;
    let wanted = times.binary_search(&t).ok()?;
    let mut found = None;
    samples.for_each(|row, v| found = found.or((row == wanted).then_some(v)));
    found
}

#[cfg(test)]
mod tests {
    use super::super::row::tests::row;
    use super::*;

    fn late(value: f64) -> LateCell {
        LateCell { value, seq: 0 }
    }

    #[track_caller]
    fn check_last(group: &Group, column: u32, expected: Option<(i64, f64)>) {
        let got = group.last(column).map(|(t, value)| match value {
            Value::Float(v) => (t, v),
            Value::Histogram(_) => panic!("no histogram was put there"),
        });
        assert_eq!(got, expected);
        if let Some(asked) = group.asked.get(&column) {
            assert_eq!(*asked, group.last_closed(column));
        }
    }

    #[test]
    fn a_column_that_was_asked_for_knows_what_comes_late() {
        let mut group = Group::new();
        group.ask(3);
        check_last(&group, 3, None);
        group.add_late((50, 3), late(1.0));
        check_last(&group, 3, Some((50, 1.0)));
        // Older, of another column, and of a column that nobody asked for.
        group.add_late((40, 3), late(2.0));
        group.add_late((60, 4), late(3.0));
        check_last(&group, 3, Some((50, 1.0)));
        check_last(&group, 4, Some((60, 3.0)));
        group.ask(4);
        group.add_late((61, 4), late(4.0));
        check_last(&group, 4, Some((61, 4.0)));
        assert_eq!(group.asked.len(), 2);
    }

    #[test]
    fn the_newest_sample_is_open_or_late() {
        let mut group = Group::new();
        for (no, (t, values)) in
            [(10, [Some(1.0), None]), (20, [Some(2.0), Some(3.0)]), (30, [Some(4.0), None])].into_iter().enumerate()
        {
            group.rows.push(&row(no as u64, t, &values), |_| {});
        }
        group.ask(0);
        group.ask(1);
        check_last(&group, 0, Some((30, 4.0)));
        check_last(&group, 1, Some((20, 3.0)));
        group.add_late((15, 1), late(5.0));
        check_last(&group, 1, Some((20, 3.0)));
        group.add_late((25, 1), late(6.0));
        check_last(&group, 1, Some((25, 6.0)));
        group.add_late((35, 0), late(7.0));
        check_last(&group, 0, Some((35, 7.0)));
        check_last(&group, 9, None);
    }
}
