//! The index brought back: the series file, then the series that only the log has.
//!
//! This runs beside the replay of samples, so it touches nothing of a group but its columns and earlier places, and no
//! file. The index is held all the time: nobody else asks before the database is open.

use std::path::PathBuf;
use std::sync::mpsc::Receiver;

use crate::head::group::NO_SERIES;
use crate::head::index::{Index, Place};
use crate::head::series_file::{self, Mark};
use crate::head::{Head, lock};
use crate::status::Recovery;
use crate::vfs::Mapped;
use crate::wal::record::{self, Record};

use super::records::Batch;

/// The series file as the manifest names it.
pub(super) struct SeriesFile {
    pub(super) path: PathBuf,
    /// `None` when there is none yet.
    pub(super) bytes: Option<Mapped>,
    /// Whether it has all the bytes that it should have.
    pub(super) is_whole: bool,
}

/// Fills the index of `head`; gives how much of it the series file holds, `None` when the file has to be written anew.
pub(super) fn rebuild(head: &Head, file: &SeriesFile, logged: Receiver<Batch>) -> (Option<Mark>, Recovery) {
    let mut recovery = Recovery::default();
    let mut index = head.index_mut();
    let mark = load(head, &mut index, file, &mut recovery);
    for series in index.moved_series() {
        link_one(head, index.place(series), index.earlier(series));
    }
    for batch in logged {
        for (segment, offset, bytes) in batch.iter() {
            match record::read(bytes) {
                Ok(record) => apply(head, &mut index, record),
                Err(e) => recovery.damaged_record(segment, offset, e.what),
            }
        }
    }
    index.pack();
    (mark, recovery)
}

fn load(head: &Head, index: &mut Index, file: &SeriesFile, recovery: &mut Recovery) -> Option<Mark> {
    let bytes = file.bytes.as_ref()?;
    let mut columns = Columns { head, group: 0, series: Vec::new() };
    let loaded = series_file::load(bytes, index, |series, place| columns.add(series, place));
    columns.flush();
    for (offset, what) in &loaded.damage {
        recovery.head_corruptions += 1;
        recovery.note(format!("read {} at {offset}: {what}; series described there are lost", file.path.display()));
    }
    (loaded.is_exact && file.is_whole).then(|| Mark::of(index))
}

/// Puts series into the columns of their groups, those of one group at a time.
struct Columns<'a> {
    head: &'a Head,
    group: u32,
    /// Column and series.
    series: Vec<(u32, u32)>,
}

impl Columns<'_> {
    fn add(&mut self, series: u32, place: Place) {
        if place.group != self.group {
            self.flush();
            self.group = place.group;
        }
        self.series.push((place.column, series));
    }

    fn flush(&mut self) {
        if self.series.is_empty() {
            return;
        }
        if let Some(cell) = self.head.ensure_group(self.group) {
            let mut group = lock(&cell.state);
            let n = self.series.iter().map(|(column, _)| *column as usize + 1).max().unwrap_or(0);
            group.reserve_columns(n);
            self.series.iter().for_each(|&(column, series)| group.set_column(column, series));
        }
        self.series.clear();
    }
}

/// Columns whose series has moved on are nobody's, and its new place knows the earlier ones.
fn link_one(head: &Head, place: Place, earlier: &[Place]) {
    for p in earlier {
        if let Some(cell) = head.group(p.group) {
            let mut group = lock(&cell.state);
            if let Some(column) = group.columns.get_mut(p.column as usize) {
                *column = NO_SERIES;
            }
            group.earlier.remove(&p.column);
        }
    }
    if let Some(cell) = head.group(place.group) {
        lock(&cell.state).earlier.insert(place.column, earlier.to_vec());
    }
}

/// Takes over a series that was logged.
fn apply(head: &Head, index: &mut Index, record: Record<'_>) {
    let Record::Series { group, column, labels } = record else { return };
    let place = Place { group, column };
    let found = index.find(&labels);
    if let Some(series) = found {
        // A place that was left before the series file was written is known; series move to higher ones. A lower
        // one that is not known is that of a series that was dropped and made anew: the log's last word counts.
        let current = index.place(series);
        if current == place || (place < current && index.earlier(series).contains(&place)) {
            return;
        }
        index.move_to(series, place);
        head.changed_layout();
    }
    let Some(series) = found.or_else(|| index.insert(&labels, place)) else { return };
    if let Some(cell) = head.ensure_group(group) {
        lock(&cell.state).set_column(column, series);
    }
    if found.is_some() {
        link_one(head, place, index.earlier(series));
    }
}
