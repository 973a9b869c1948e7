//! The seam between what stores samples and what evaluates queries.
//!
//! Batch-shaped: a selection answers with batches; a batch is a set of series that share one column of timestamps
//! (one scrape target, usually), read as columns of values. Dynamic dispatch happens per batch, never per sample.
//! A series appears in exactly one batch of a selection, with all of its samples, in ascending order of time.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::cancel::{Cancel, Cancelled};
use crate::histogram::{CounterResetHint, Counts, FloatHistogram, HistogramSample};
use crate::labels::Labels;
use crate::matcher::Matcher;
use crate::projection::{LabelGroups, Projection};
use crate::time::TimeRange;

/// Where samples can be asked for.
pub trait Queryable: Send + Sync {
    /// A consistent view of what has been committed; all selections of one query use the same view.
    ///
    /// # Errors
    /// [`ReadError`] when the store cannot be read at all.
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, ReadError>;

    /// What changes in the past of the store, for caches of answers; `None` when it keeps no account.
    fn changes(&self) -> Option<&dyn Changes> {
        None
    }
}

/// An account of what changes in the settled past of a store: late samples, deletions, blocks that come and go.
///
/// What a snapshot shows before [`Changes::settled_before`] stays as it is until a change is numbered. A change gets
/// its number after snapshots show it, and before whoever made it is told that it is done.
pub trait Changes: Send + Sync {
    /// Number of the newest change; read it before the snapshot that an answer is made from.
    fn newest(&self) -> u64;

    /// Samples appended as time goes on are not before this time, in ms.
    fn settled_before(&self) -> i64;

    /// The spans of time of the changes after number `after`; `None` when they are no longer known.
    fn since(&self, after: u64) -> Option<Vec<TimeRange>>;
}

/// A consistent, immutable view.
pub trait Snapshot: Send + Sync {
    /// The series with samples in `select.range` that pass all matchers. No sample is decoded yet.
    ///
    /// # Errors
    /// [`ReadError`] when the index cannot be read or the work was cancelled.
    fn select(&self, select: &Select<'_>) -> Result<Selection, ReadError>;

    /// As [`Snapshot::select`] for a caller that asks for no labels, which may then be empty; saves looking them up.
    ///
    /// # Errors
    /// As [`Snapshot::select`].
    fn select_unlabelled(&self, select: &Select<'_>) -> Result<Selection, ReadError> {
        self.select(select)
    }

    /// Sorted label names of the series with samples in `select.range` that pass all matchers.
    ///
    /// # Errors
    /// As [`Snapshot::select`].
    fn label_names(&self, select: &Select<'_>) -> Result<Vec<String>, ReadError>;

    /// Sorted values of `name` over the same series; the first `limit` of them.
    ///
    /// # Errors
    /// As [`Snapshot::select`].
    fn label_values(&self, name: &str, select: &Select<'_>, limit: usize) -> Result<Vec<String>, ReadError>;

    /// Label sets of the same series, sorted; when there are more than `limit`, any `limit` of them.
    ///
    /// # Errors
    /// As [`Snapshot::select`].
    fn series(&self, select: &Select<'_>, limit: usize) -> Result<SeriesList, ReadError> {
        let selection = self.select(select)?;
        let mut labels = Vec::new();
        for batch in &selection.batches {
            select.cancel.check()?;
            labels.extend((0..batch.n_series().min(limit.saturating_sub(labels.len()))).map(|i| batch.labels(i)));
        }
        labels.sort_unstable();
        Ok(SeriesList { labels, warnings: selection.warnings })
    }
}

/// Label sets, and what could not be read.
#[derive(Debug, Default)]
pub struct SeriesList {
    /// Sorted, each once.
    pub labels: Vec<Labels>,
    /// What the answer lacks, in words for the client.
    pub warnings: Vec<String>,
}

/// What to select.
#[derive(Debug, Clone, Copy)]
pub struct Select<'a> {
    /// Samples of interest; series without a sample inside may be left out.
    pub range: TimeRange,
    /// All must pass. Empty selects everything.
    pub matchers: &'a [Matcher],
    /// Stops the work between steps.
    pub cancel: &'a Cancel,
}

/// Batches, in no particular order, and what could not be read.
#[derive(Default)]
pub struct Selection {
    /// Each series is in one batch only.
    pub batches: Vec<Arc<dyn SeriesBatch>>,
    /// What the answer lacks, in words for the client (an unreadable block, say).
    pub warnings: Vec<String>,
}

/// Series that share one column of timestamps.
pub trait SeriesBatch: Send + Sync {
    /// Number of series.
    fn n_series(&self) -> usize;

    /// Upper bound of the rows that [`SeriesBatch::read`] would give for `range`; for estimates and limits.
    fn rows_max(&self, range: TimeRange) -> usize;

    /// The whole label set of series `i`. Builds it; ask once.
    ///
    /// # Panics
    /// When `i >= n_series()`.
    fn labels(&self, i: usize) -> Labels;

    /// Appends for each series the number in `groups` of the labels that `projection` leaves of it; cheaper than
    /// building labels.
    fn project(&self, projection: &Projection, groups: &mut LabelGroups, out: &mut Vec<u32>) {
        out.extend((0..self.n_series()).map(|i| groups.number(projection.of(&self.labels(i)))));
    }

    /// Decodes the samples of `series` (indexes into this batch) inside `range` into `out`, replacing its content.
    ///
    /// # Errors
    /// [`ReadError`] when stored bytes are damaged or cannot be read.
    fn read(&self, series: Range<usize>, range: TimeRange, out: &mut Columns) -> Result<(), ReadError>;
}

/// Why stored data could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The operating system refused.
    #[error("{op} {path} at {offset}: {source}")]
    Io {
        /// What was tried.
        op: &'static str,
        /// File.
        path: String,
        /// Byte offset.
        offset: u64,
        /// The system's error.
        source: Arc<std::io::Error>,
    },
    /// Bytes are not what was written.
    #[error("read {path} at {offset}: {what}, expected {expected}, found {found}")]
    Corrupt {
        /// File.
        path: String,
        /// Byte offset.
        offset: u64,
        /// What was looked at.
        what: &'static str,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// Stopped on request.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// A limit, by name.
    #[error("{limit} exceeded: {needed} needed, {allowed} allowed")]
    Limit {
        /// Name of the limit, a flag or a configuration key.
        limit: &'static str,
        /// What the work would take.
        needed: u64,
        /// What it may take.
        allowed: u64,
    },
}

impl ReadError {
    /// [`ReadError::Corrupt`] of the file `path`, with values as they are shown.
    #[must_use]
    pub fn corrupt(
        path: &Path,
        offset: u64,
        what: &'static str,
        expected: impl ToString,
        found: impl ToString,
    ) -> Self {
        let (expected, found) = (expected.to_string(), found.to_string());
        Self::Corrupt { path: path.display().to_string(), offset, what, expected, found }
    }
}

/// Decoded samples: one column of timestamps, and for each series one column of values with as many rows.
///
/// A row in which a series has no sample is absent in its presence bitmap and its value there means nothing.
/// Staleness markers are present values. The caller owns the buffers and reuses them.
#[derive(Debug, Clone, Default)]
pub struct Columns {
    timestamps: Vec<i64>,
    values: Vec<f64>,
    /// One bitmap of `words()` u64 per column; empty when every column has every row.
    presence: Vec<u64>,
    n_columns: usize,
    /// Sparse histogram samples: column, row, value; sorted. Such a row is absent in the column's bitmap.
    histograms: Vec<(u32, u32, Arc<FloatHistogram>)>,
    /// What the counts of each histogram were when it was sent.
    histogram_counts: Vec<Counts>,
    /// Start timestamps in ms, as many as values; empty when no sample has one. 0 is unknown.
    start_timestamps: Vec<i64>,
}

/// One series of a [`Columns`].
#[derive(Debug, Clone, Copy)]
pub struct ColumnRef<'a> {
    /// One value per row.
    pub values: &'a [f64],
    /// Bit `row % 64` of word `row / 64` says whether the row has a float sample; `None` when all rows have one.
    pub presence: Option<&'a [u64]>,
    /// Rows with a histogram sample, ascending: (column, row, value).
    pub histograms: &'a [(u32, u32, Arc<FloatHistogram>)],
    /// What the counts of each histogram were when it was sent; as many as `histograms`.
    pub histogram_counts: &'a [Counts],
}

impl<'a> ColumnRef<'a> {
    /// Rows with a histogram and the histogram as a store keeps it, ascending.
    pub fn histogram_samples(&self) -> impl Iterator<Item = (usize, HistogramSample)> + use<'a> {
        self.histograms
            .iter()
            .zip(self.histogram_counts)
            .map(|((_, row, value), counts)| (*row as usize, HistogramSample::from_stored(Arc::clone(value), *counts)))
    }

    /// Whether `row` has a float sample.
    #[must_use]
    pub fn is_present(&self, row: usize) -> bool {
        self.presence.is_none_or(|bits| bits[row / 64] >> (row % 64) & 1 == 1)
    }
}

impl Columns {
    /// Empties the buffers and shapes them: `n_columns` columns of `timestamps.len()` rows, all rows present and 0.
    pub fn reset(&mut self, n_columns: usize, timestamps: impl IntoIterator<Item = i64>) {
        self.timestamps.clear();
        self.timestamps.extend(timestamps);
        debug_assert!(self.timestamps.is_sorted(), "timestamps must ascend");
        self.n_columns = n_columns;
        self.values.clear();
        self.values.resize(n_columns * self.timestamps.len(), 0.0);
        self.presence.clear();
        self.histograms.clear();
        self.histogram_counts.clear();
        self.start_timestamps.clear();
    }

    /// Shared timestamps in ms, strictly ascending.
    #[must_use]
    pub fn timestamps(&self) -> &[i64] {
        &self.timestamps
    }

    /// Number of rows.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.timestamps.len()
    }

    /// Number of columns.
    #[must_use]
    pub fn n_columns(&self) -> usize {
        self.n_columns
    }

    /// Words of one column's presence bitmap.
    fn words(&self) -> usize {
        self.timestamps.len().div_ceil(64)
    }

    /// The column of one series.
    #[must_use]
    pub fn column(&self, i: usize) -> ColumnRef<'_> {
        let rows = self.timestamps.len();
        let words = self.words();
        let presence = (!self.presence.is_empty()).then(|| &self.presence[i * words..(i + 1) * words]);
        let start = self.histograms.partition_point(|(c, _, _)| (*c as usize) < i);
        let end = self.histograms.partition_point(|(c, _, _)| (*c as usize) <= i);
        ColumnRef {
            values: &self.values[i * rows..(i + 1) * rows],
            presence,
            histograms: &self.histograms[start..end],
            histogram_counts: &self.histogram_counts[start..end],
        }
    }

    /// The values of one column, to fill.
    pub fn values_mut(&mut self, i: usize) -> &mut [f64] {
        let rows = self.timestamps.len();
        &mut self.values[i * rows..(i + 1) * rows]
    }

    /// Says that column `i` has no float sample at `row`.
    pub fn set_absent(&mut self, i: usize, row: usize) {
        let words = self.words();
        if self.presence.is_empty() {
            self.presence.resize(self.n_columns * words, u64::MAX);
        }
        self.presence[i * words + row / 64] &= !(1 << (row % 64));
    }

    /// Says that column `i` has no sample at all; fill it with [`Columns::set_present`].
    pub fn clear_column(&mut self, i: usize) {
        let words = self.words();
        if self.presence.is_empty() {
            self.presence.resize(self.n_columns * words, u64::MAX);
        }
        self.presence[i * words..(i + 1) * words].fill(0);
    }

    /// Says that column `i` has no sample of any kind in `rows`.
    pub fn remove_rows(&mut self, i: usize, rows: Range<usize>) {
        rows.clone().for_each(|row| self.set_absent(i, row));
        if !self.histograms.is_empty() {
            let is_kept = |(column, row, _): &(u32, u32, Arc<FloatHistogram>)| {
                *column as usize != i || !rows.contains(&(*row as usize))
            };
            let before = self.histograms.len();
            let mut kept = self.histograms.iter().map(is_kept);
            self.histogram_counts.retain(|_| kept.next().unwrap_or(true));
            self.histograms.retain(is_kept);
            // What the next one says of resets was said about the last one that went.
            let next = self.histograms.partition_point(|(c, row, _)| (*c as usize, *row as usize) < (i, rows.end));
            if let Some((column, _, next)) =
                self.histograms.get_mut(next).filter(|_| self.histogram_counts.len() < before)
                && *column as usize == i
                && next.counter_reset_hint == CounterResetHint::NotReset
            {
                Arc::make_mut(next).counter_reset_hint = CounterResetHint::Unknown;
            }
        }
    }

    /// Writes the sample of column `i` at `row`.
    pub fn set_present(&mut self, i: usize, row: usize, value: f64) {
        let rows = self.timestamps.len();
        self.values[i * rows + row] = value;
        if !self.presence.is_empty() {
            let words = self.words();
            self.presence[i * words + row / 64] |= 1 << (row % 64);
        }
    }

    /// Adds a histogram sample; call in ascending order of (column, row).
    pub fn push_histogram(&mut self, column: usize, row: usize, value: Arc<FloatHistogram>) {
        self.push_histogram_sample(column, row, HistogramSample::from_stored(value, Counts::Float));
    }

    /// As [`Columns::push_histogram`], with what its counts were.
    pub fn push_histogram_sample(&mut self, column: usize, row: usize, sample: HistogramSample) {
        self.set_absent(column, row);
        self.histogram_counts.push(sample.counts());
        self.histograms.push((column as u32, row as u32, sample.into_value()));
    }

    /// Whether no column has a histogram.
    #[must_use]
    pub fn has_no_histograms(&self) -> bool {
        self.histograms.is_empty()
    }

    /// Writes since when the sample of column `i` at `row` has been counting, in ms.
    pub fn set_start_timestamp(&mut self, i: usize, row: usize, t: i64) {
        let rows = self.timestamps.len();
        if self.start_timestamps.is_empty() {
            self.start_timestamps.resize(self.n_columns * rows, 0);
        }
        self.start_timestamps[i * rows + row] = t;
    }

    /// Since when the samples of column `i` have been counting, one per row, in ms; 0 where that is unknown, `None`
    /// when it is unknown everywhere.
    #[must_use]
    pub fn start_timestamps(&self, i: usize) -> Option<&[i64]> {
        let rows = self.timestamps.len();
        (!self.start_timestamps.is_empty()).then(|| &self.start_timestamps[i * rows..(i + 1) * rows])
    }

    /// Bytes that the buffers take.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        8 * (self.timestamps.capacity()
            + self.values.capacity()
            + self.presence.capacity()
            + self.start_timestamps.capacity())
            + self.histograms.iter().map(|(_, _, h)| 16 + h.heap_bytes()).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_rows_are_known_per_column() {
        let mut c = Columns::default();
        c.reset(2, 0..70);
        assert!(c.column(1).is_present(69) && c.column(1).presence.is_none());
        c.set_absent(1, 65);
        assert!(c.column(0).is_present(65) && !c.column(1).is_present(65) && c.column(1).is_present(64));
        c.clear_column(0);
        c.set_present(0, 3, 1.5);
        assert!(!c.column(0).is_present(2) && c.column(0).is_present(3));
        assert_eq!(c.column(0).values[3], 1.5);
        c.set_start_timestamp(1, 2, 9);
        assert_eq!(c.start_timestamps(0).map(|s| s[2]), Some(0));
        assert_eq!(c.start_timestamps(1).map(|s| s[2]), Some(9));
        c.reset(1, 0..2);
        assert!(c.column(0).is_present(1) && c.start_timestamps(0).is_none());
    }

    #[test]
    fn nothing_is_said_about_resets_after_what_was_removed() {
        let mut c = Columns::default();
        c.reset(2, 0..4);
        let h = FloatHistogram { counter_reset_hint: CounterResetHint::NotReset, ..FloatHistogram::default() };
        let h = Arc::new(h);
        (0..2).for_each(|column| (0..4).for_each(|row| c.push_histogram(column, row, Arc::clone(&h))));
        c.remove_rows(0, 1..3);
        let hints =
            |i| -> Vec<_> { c.column(i).histograms.iter().map(|(_, row, h)| (*row, h.counter_reset_hint)).collect() };
        use CounterResetHint::{NotReset, Unknown};
        assert_eq!(hints(0), [(0, NotReset), (3, Unknown)]);
        assert_eq!(hints(1), [(0, NotReset), (1, NotReset), (2, NotReset), (3, NotReset)]);
    }
}
