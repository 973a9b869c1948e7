//! Changes of the layout: series that move to another group, groups that are rewritten, series and samples that go.
//!
//! All of it happens while the gate is held alone, so no append and no snapshot sees it half done.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::group::{Group, GroupCell, NO_SERIES};
use super::index::Place;
use super::{Head, lock};
use crate::error::AppendError;
use crate::wal::record;

/// Groups with fewer columns are not worth rewriting.
const COMPACT_COLUMNS_MIN: usize = 64;

/// What a truncation did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Truncated {
    pub(crate) series_removed: u64,
    /// Segments that still hold samples.
    pub(crate) segments: BTreeSet<u64>,
}

impl Head {
    /// Moves the series at `columns` of a group to a new group, where their samples arrive from now on. The caller
    /// holds the gate alone.
    pub(crate) fn move_columns(&self, from: &GroupCell, columns: &[u32]) -> Result<Arc<GroupCell>, AppendError> {
        let cell = self.new_group()?;
        let mut index = self.index_mut();
        let mut to = lock(&cell.state);
        let mut old = lock(&from.state);
        to.last_t = old.newest_t().max(old.max_t().unwrap_or(i64::MIN));
        for &column in columns {
            let series = std::mem::replace(&mut old.columns[column as usize], NO_SERIES);
            if series == NO_SERIES {
                continue;
            }
            let place = Place { group: cell.id, column: to.columns.len() as u32 };
            index.move_to(series, place);
            to.columns.push(series);
            to.earlier.insert(place.column, index.earlier(series).to_vec());
            old.earlier.remove(&column);
            if let Some(wal) = self.wal() {
                let labels = index.labels(series);
                wal.push(|out| record::put_series(out, place.group, place.column, &labels));
            }
        }
        drop((to, old));
        self.changed_layout();
        Ok(cell)
    }

    /// Forgets samples before `floor`, which are in blocks and which no snapshot reads here, and series without any
    /// other that no writer holds. The caller holds the gate alone.
    pub(crate) fn truncate(&self, floor: i64) -> Truncated {
        let groups = self.all_groups();
        for cell in &groups {
            lock(&cell.state).truncate(floor);
        }
        let series_removed = self.remove_series(floor);
        self.remove_empty_groups(&groups);
        for cell in self.all_groups() {
            if let Err(e) = self.compact_group(&cell) {
                tracing::warn!(group = cell.id, error = %e, "group is not rewritten");
            }
        }
        let mut segments = BTreeSet::new();
        for cell in self.all_groups() {
            let group = lock(&cell.state);
            segments.extend(group.sealed().map(|c| c.segment_id()));
        }
        self.counters.series_removed.fetch_add(series_removed, Ordering::Relaxed);
        Truncated { series_removed, segments }
    }

    /// The group that has taken over the series of `cell`, or `cell` itself.
    pub(crate) fn newest_of(&self, mut cell: Arc<GroupCell>) -> Arc<GroupCell> {
        loop {
            let successor = lock(&cell.state).successor;
            match successor.and_then(|id| self.group(id)) {
                Some(next) => cell = next,
                None => return cell,
            }
        }
    }

    fn remove_series(&self, floor: i64) -> u64 {
        let mut index = self.index_mut();
        let candidates: Vec<u32> = index.live().iter().filter(|&s| !index.is_owned(s)).collect();
        let mut removed = 0;
        for series in candidates {
            let place = index.place(series);
            let has_samples = index.earlier(series).iter().chain([&place]).any(|p| {
                let Some(cell) = self.group(p.group) else { return false };
                let group = lock(&cell.state);
                !group.is_empty_from(floor) && group.last(p.column).is_some_and(|(t, _)| t >= floor)
            });
            if has_samples {
                continue;
            }
            index.remove(series);
            removed += 1;
            if let Some(cell) = self.group(place.group) {
                let mut group = lock(&cell.state);
                group.columns[place.column as usize] = NO_SERIES;
                group.earlier.remove(&place.column);
            }
        }
        if removed > 0 {
            index.compact();
        }
        removed
    }

    /// Groups without series and samples go, and so do earlier places in them.
    fn remove_empty_groups(&self, groups: &[Arc<GroupCell>]) {
        let mut gone = Vec::new();
        for cell in groups {
            let group = lock(&cell.state);
            let has_series = group.columns.iter().any(|&s| s != NO_SERIES);
            if !has_series && !group.is_claimed && group.max_t().is_none() {
                gone.push(cell.id);
            }
        }
        if gone.is_empty() {
            return;
        }
        let is_gone = |p: Place| gone.binary_search(&p.group).is_ok();
        let mut index = self.index_mut();
        for series in index.moved_series() {
            index.forget_earlier(series, is_gone);
            let place = index.place(series);
            if let Some(cell) = self.group(place.group)
                && let Some(earlier) = lock(&cell.state).earlier.get_mut(&place.column)
            {
                earlier.retain(|p| !is_gone(*p));
            }
        }
        drop(index);
        self.remove_groups(&gone);
    }

    /// Moves the series of a group of which a quarter of the columns is dead to a new one.
    fn compact_group(&self, cell: &GroupCell) -> Result<(), AppendError> {
        let (live, claimed) = {
            let group = lock(&cell.state);
            let live: Vec<u32> =
                (0..group.columns.len() as u32).filter(|&c| group.columns[c as usize] != NO_SERIES).collect();
            let dead = group.columns.len() - live.len();
            if group.columns.len() < COMPACT_COLUMNS_MIN || dead * 4 < group.columns.len() || live.is_empty() {
                return Ok(());
            }
            (live, group.is_claimed)
        };
        let to = self.move_columns(cell, &live)?;
        lock(&to.state).is_claimed = claimed;
        let mut old = lock(&cell.state);
        old.is_claimed = false;
        old.successor = Some(to.id);
        Ok(())
    }
}

impl Group {
    /// Forgets samples before `floor`. Open rows go only all at once: the WAL writes each against the one before.
    fn truncate(&mut self, floor: i64) {
        if self.chunks.first().is_some_and(|c| c.header.maxt < floor) {
            Arc::make_mut(&mut self.chunks).retain(|c| c.header.maxt >= floor);
        }
        if self.late_chunks.iter().any(|c| c.header.maxt < floor) {
            Arc::make_mut(&mut self.late_chunks).retain(|c| c.header.maxt >= floor);
        }
        if self.rows.last().is_some_and(|row| row.t < floor) {
            self.rows.clear();
            self.rows_wal = None;
        }
        if self.late.first_key_value().is_some_and(|(&(t, _), _)| t < floor) {
            let late = Arc::make_mut(&mut self.late);
            *late = late.split_off(&(floor, 0));
            if late.is_empty() {
                self.late_wal = None;
                self.late_first_no = self.late_no;
            }
        }
        if let Some(histograms) = &mut self.histograms {
            histograms.truncate(floor);
        }
        self.asked.clear();
    }
}
