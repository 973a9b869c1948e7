//! One group: series whose samples arrive together and share one column of timestamps.
//!
//! Rows are strictly ascending in time. What arrives behind the newest row is *late*: a cell of an open row that has
//! no sample yet is filled; other late samples are kept apart, sorted, until they are sealed. No two samples of a
//! group have the same column and time. A group knows series only by number.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// A column that no series uses.
pub(crate) const NO_SERIES: u32 = u32::MAX;

/// One scrape: a value per column. Columns beyond the row's width are absent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Row {
    /// Number of the row in its group; grows, with gaps only where a damaged WAL lost rows.
    pub(crate) no: u64,
    pub(crate) t: i64,
    /// Append that wrote the row; readers skip rows that are newer than their snapshot.
    pub(crate) seq: u64,
    pub(crate) values: Vec<f64>,
    /// Bit `column % 64` of word `column / 64`.
    pub(crate) presence: Vec<u64>,
}

impl Row {
    pub(crate) fn is_present(&self, column: usize) -> bool {
        self.presence.get(column / 64).is_some_and(|word| word >> (column % 64) & 1 == 1)
    }

    pub(crate) fn get(&self, column: usize) -> Option<f64> {
        self.is_present(column).then(|| self.values[column])
    }

    /// Writes a sample; widens the row when needed.
    pub(crate) fn set(&mut self, column: usize, value: f64) {
        if column >= self.values.len() {
            self.values.resize(column + 1, 0.0);
            self.presence.resize((column + 1).div_ceil(64), 0);
        }
        self.values[column] = value;
        self.presence[column / 64] |= 1 << (column % 64);
    }

    /// Number of samples.
    pub(crate) fn n_present(&self) -> u64 {
        self.presence.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Columns with a sample, ascending.
    pub(crate) fn columns(&self) -> impl Iterator<Item = usize> {
        self.presence.iter().enumerate().flat_map(|(i, &word)| {
            std::iter::successors((word != 0).then_some(word), |w| {
                let rest = w & (w - 1);
                (rest != 0).then_some(rest)
            })
            .map(move |w| i * 64 + w.trailing_zeros() as usize)
        })
    }
}

/// A late sample.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LateCell {
    pub(crate) value: f64,
    pub(crate) seq: u64,
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
    /// Open rows, ascending. Shared with readers, who never see one change: a row in use is copied first.
    pub(crate) rows: Vec<Arc<Row>>,
    /// Late samples, shared with readers in the same way.
    pub(crate) late: Arc<LateCells>,
    /// Time of the newest row ever; `i64::MIN` before the first.
    pub(crate) last_t: i64,
}

impl Group {
    pub(crate) fn new() -> Self {
        Self { columns: Vec::new(), is_claimed: false, rows: Vec::new(), late: Arc::default(), last_t: i64::MIN }
    }

    /// Oldest sample at or after `floor`.
    pub(crate) fn min_t(&self, floor: i64) -> Option<i64> {
        let row = self.rows.iter().map(|row| row.t).find(|&t| t >= floor);
        let late = self.late.range((floor, 0)..).next().map(|(&(t, _), _)| t);
        row.into_iter().chain(late).min()
    }

    /// Index of the open row at `t`.
    pub(crate) fn open_row(&self, t: i64) -> Option<usize> {
        self.rows.binary_search_by_key(&t, |row| row.t).ok()
    }

    /// Time and value of the column's newest sample among open rows and late cells.
    pub(crate) fn open_last(&self, column: u32) -> Option<(i64, f64)> {
        let row = self.rows.iter().rev().find_map(|row| row.get(column as usize).map(|v| (row.t, v)));
        let late = self.late.iter().rev().find(|((_, c), _)| *c == column).map(|(&(t, _), cell)| (t, cell.value));
        match (row, late) {
            (Some(row), Some(late)) => Some(if row.0 >= late.0 { row } else { late }),
            (row, late) => row.or(late),
        }
    }

    /// The column's sample at `t` among open rows and late cells.
    pub(crate) fn open_find(&self, column: u32, t: i64) -> Option<f64> {
        let row = self.open_row(t).and_then(|i| self.rows[i].get(column as usize));
        row.or_else(|| self.late.get(&(t, column)).map(|cell| cell.value))
    }
}
