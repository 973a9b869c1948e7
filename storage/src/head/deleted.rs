//! Deleted samples of the head: which ones a deletion hits, and how queries leave them out.
//!
//! A tombstone names a place, group and column, and so stays right when its series moves on. It reaches from the first
//! to the last sample that was there, so that what arrives later in order is seen.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use promontory_model::{Columns, ReadError, Select, TimeRange};
use roaring::RoaringBitmap;

use super::read::HeadSnapshot;
use crate::source::{GroupColumns, SelectedGroup, SelectedSeries};
use crate::tombstone::{self, Masked, Tombstones};

/// Columns that are decoded at once; bounds the memory of a deletion.
const COLUMNS_AT_ONCE: usize = 256;

/// Adds tombstones for all samples of the snapshot that are selected; answers whether there was any.
pub(crate) fn add(
    snapshot: &HeadSnapshot,
    select: &Select<'_>,
    tombstones: &mut Tombstones,
) -> Result<bool, ReadError> {
    let mut read = Columns::default();
    let mut found = false;
    for (group, members) in snapshot.by_group(select) {
        select.cancel.check()?;
        let Some(view) = snapshot.view(group, select.range) else { continue };
        let columns: Vec<u32> = members.iter().map(|(place, _)| place.column).collect();
        let mut of_range: BTreeMap<(i64, i64), RoaringBitmap> = BTreeMap::new();
        for columns in columns.chunks(COLUMNS_AT_ONCE) {
            select.cancel.check()?;
            view.read(columns, select.range, &mut read)?;
            for (i, &column) in columns.iter().enumerate() {
                if let Some(extent) = extent(&read, i) {
                    of_range.entry(extent).or_default().insert(column);
                }
            }
        }
        for ((mint, maxt), columns) in of_range {
            found = true;
            tombstones.add(group, TimeRange::new(mint, maxt), columns);
        }
    }
    Ok(found)
}

/// Times of the first and last sample of a column.
fn extent(read: &Columns, column: usize) -> Option<(i64, i64)> {
    let times = read.timestamps();
    let column = read.column(column);
    let first = (0..times.len()).find(|row| column.is_present(*row));
    let last = (0..times.len()).rev().find(|row| column.is_present(*row));
    let histograms = column.histograms.iter().map(|(_, row, _)| *row as usize);
    let rows = || first.into_iter().chain(last).chain(histograms.clone());
    Some((times[rows().min()?], times[rows().max()?]))
}

/// Takes deleted samples out of what was selected of a group, and series of which none is left.
pub(super) fn mask(
    tombstones: &Tombstones,
    id: u32,
    selected: SelectedGroup,
    range: TimeRange,
) -> Result<Option<SelectedGroup>, ReadError> {
    if !tombstones.touches(id) {
        return Ok(Some(selected));
    }
    let mut read = Columns::default();
    let is_gone = |group: &Arc<dyn GroupColumns>, column: u32, ranges: &[TimeRange]| {
        let masked = Masked::new(Arc::clone(group), HashMap::from([(column, ranges.to_vec())]));
        masked.read(&[column], range, &mut read)?;
        Ok(extent(&read, 0).is_none())
    };
    let deleted = |s: &SelectedSeries| {
        let mut ranges = tombstones.of(id, s.column);
        ranges.retain(|r| r.overlaps(range));
        ranges
    };
    tombstone::mask(selected, deleted, is_gone)
}

/// The view of a group without its deleted samples.
pub(crate) fn masked(
    tombstones: &Tombstones,
    id: u32,
    columns: impl Iterator<Item = u32>,
    view: impl GroupColumns + 'static,
) -> Arc<dyn GroupColumns> {
    let view: Arc<dyn GroupColumns> = Arc::new(view);
    if !tombstones.touches(id) {
        return view;
    }
    let deleted = columns.map(|c| (c, tombstones.of(id, c))).filter(|(_, ranges)| !ranges.is_empty()).collect();
    Arc::new(Masked::new(view, deleted))
}
