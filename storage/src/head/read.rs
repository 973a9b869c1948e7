//! Reading the head: a snapshot is a watermark over appends; groups are captured when they are selected.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use promontory_model::{Columns, ReadError, Select, TimeRange, Timestamp};
use roaring::RoaringBitmap;

use super::group::{LateCells, Row};
use super::index::Place;
use super::{Head, lock};
use crate::source::{GroupColumns, SelectedGroup, SelectedSeries, Source};

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
    reader: u64,
}

impl Head {
    /// What has been appended until now. The caller holds the gate alone.
    pub(crate) fn snapshot(self: &Arc<Self>) -> HeadSnapshot {
        let floor = self.floor();
        let reader = self.next_reader.fetch_add(1, Ordering::Relaxed);
        lock(&self.readers).insert(reader, floor);
        HeadSnapshot {
            head: Arc::clone(self),
            seq: self.seq.load(Ordering::Acquire),
            n_numbers: self.index().n_numbers(),
            floor,
            reader,
        }
    }
}

impl Drop for HeadSnapshot {
    fn drop(&mut self) {
        lock(&self.head.readers).remove(&self.reader);
    }
}

impl HeadSnapshot {
    fn select_series(&self, select: &Select<'_>) -> RoaringBitmap {
        let mut series = self.head.index().select(select.matchers);
        series.remove_range(self.n_numbers..);
        series
    }

    /// Matching series by group, earlier places included.
    fn by_group(&self, select: &Select<'_>) -> BTreeMap<u32, Vec<(Place, u32)>> {
        let series = self.select_series(select);
        let index = self.head.index();
        let mut out: BTreeMap<u32, Vec<(Place, u32)>> = BTreeMap::new();
        for number in &series {
            let place = index.place(number);
            out.entry(place.group).or_default().push((place, number));
            for &place in index.earlier(number) {
                out.entry(place.group).or_default().push((place, number));
            }
        }
        out
    }

    fn view(&self, group: u32, range: TimeRange) -> Option<GroupView> {
        let cell = self.head.group(group)?;
        let state = lock(&cell.state);
        let view =
            GroupView { seq: self.seq, floor: self.floor, rows: state.rows.clone(), late: Arc::clone(&state.late) };
        drop(state);
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

    fn select(&self, select: &Select<'_>) -> Result<Vec<SelectedGroup>, ReadError> {
        let mut out = Vec::new();
        for (group, members) in self.by_group(select) {
            select.cancel.check()?;
            let Some(view) = self.view(group, select.range) else { continue };
            let index = self.head.index();
            let series = members
                .into_iter()
                .filter(|(_, series)| index.is_live(*series))
                .map(|(place, series)| SelectedSeries { labels: index.labels(series), column: place.column })
                .collect();
            out.push(SelectedGroup { group: Arc::new(view), series });
        }
        Ok(out)
    }

    fn label_names(&self, select: &Select<'_>, out: &mut Vec<String>) -> Result<(), ReadError> {
        let series = self.candidates(select);
        self.head.index().label_names(&series, out);
        Ok(())
    }

    fn label_values(&self, name: &str, select: &Select<'_>, out: &mut Vec<String>) -> Result<(), ReadError> {
        let series = self.candidates(select);
        self.head.index().label_values(name, &series, out);
        Ok(())
    }
}

/// One group as it was when it was selected; newer appends are skipped by their number.
#[derive(Debug)]
struct GroupView {
    seq: u64,
    floor: i64,
    rows: Vec<Arc<Row>>,
    late: Arc<LateCells>,
}

impl GroupView {
    fn clip(&self, range: TimeRange) -> TimeRange {
        TimeRange { mint: range.mint.max(Timestamp(self.floor)), maxt: range.maxt }
    }

    fn rows_in(&self, range: TimeRange) -> &[Arc<Row>] {
        let start = self.rows.partition_point(|row| row.t < range.mint.0);
        let end = self.rows.partition_point(|row| row.t <= range.maxt.0 && row.seq <= self.seq);
        &self.rows[start.min(end)..end]
    }

    fn late_in(&self, range: TimeRange) -> impl Iterator<Item = (i64, u32, f64)> {
        let bounds = (range.mint.0, 0)..=(range.maxt.0.max(range.mint.0), u32::MAX);
        let seq = self.seq;
        let cells = (!range.is_empty()).then(|| self.late.range(bounds));
        cells.into_iter().flatten().filter(move |(_, cell)| cell.seq <= seq).map(|(&(t, c), cell)| (t, c, cell.value))
    }
}

impl GroupColumns for GroupView {
    fn rows_max(&self, range: TimeRange) -> usize {
        let range = self.clip(range);
        self.rows_in(range).len() + self.late_in(range).count()
    }

    fn read(&self, columns: &[u32], range: TimeRange, out: &mut Columns) -> Result<(), ReadError> {
        let range = self.clip(range);
        let rows = self.rows_in(range);
        let late: Vec<_> = self.late_in(range).collect();
        let mut times: Vec<i64> = rows.iter().map(|row| row.t).collect();
        if !late.is_empty() {
            times.extend(late.iter().map(|&(t, _, _)| t));
            times.sort_unstable();
            times.dedup();
        }
        out.reset(columns.len(), times.iter().copied());
        for (i, &column) in columns.iter().enumerate() {
            if !late.is_empty() {
                out.clear_column(i);
            }
            for (at, row) in rows.iter().enumerate() {
                let at = if late.is_empty() { at } else { times.binary_search(&row.t).unwrap_or(at) };
                match row.get(column as usize) {
                    Some(value) => out.set_present(i, at, value),
                    None => out.set_absent(i, at),
                }
            }
            for &(t, c, value) in &late {
                if c == column
                    && let Ok(at) = times.binary_search(&t)
                {
                    out.set_present(i, at, value);
                }
            }
        }
        Ok(())
    }
}
