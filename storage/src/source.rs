//! What a selection is put together from: the head and each block are sources of groups.
//!
//! A source answers with the groups that hold matching series; the database merges the groups of all sources into
//! batches (`select`), so that a series appears once with all of its samples.

use std::sync::Arc;

use promontory_model::{Columns, Labels, ReadError, Select, TimeRange};

/// The head's snapshot or one block.
pub(crate) trait Source: Send + Sync {
    /// Times of the samples inside; empty when there are none.
    fn range(&self) -> TimeRange;

    /// Groups with series that pass all matchers and may have samples in the range. Decodes no sample.
    fn select(&self, select: &Select<'_>) -> Result<Vec<SelectedGroup>, ReadError>;

    /// Adds label names of matching series to `out`; order and repetition do not matter.
    fn label_names(&self, select: &Select<'_>, out: &mut Vec<String>) -> Result<(), ReadError>;

    /// Adds the values of `name` over matching series to `out`, or the first `limit` of them in the order of bytes;
    /// order and repetition do not matter.
    fn label_values(
        &self,
        name: &str,
        select: &Select<'_>,
        limit: usize,
        out: &mut Vec<String>,
    ) -> Result<(), ReadError>;

    /// Adds the label sets of matching series to `out`, or any `limit` different ones; order and repetition do not
    /// matter.
    fn series(&self, select: &Select<'_>, limit: usize, out: &mut Vec<Labels>) -> Result<(), ReadError> {
        let mut found: Vec<Labels> =
            self.select(select)?.into_iter().flat_map(|g| g.series).map(|s| s.labels).collect();
        found.sort_unstable();
        found.dedup();
        found.truncate(limit);
        out.append(&mut found);
        Ok(())
    }
}

/// Matching series of one group of one source.
pub(crate) struct SelectedGroup {
    /// The group's samples.
    pub(crate) group: Arc<dyn GroupColumns>,
    /// The matching series, each with its column.
    pub(crate) series: Vec<SelectedSeries>,
}

/// One matching series.
pub(crate) struct SelectedSeries {
    /// Whole label set.
    pub(crate) labels: Labels,
    /// Column in the group.
    pub(crate) column: u32,
}

/// The samples of one group of one source.
pub(crate) trait GroupColumns: Send + Sync {
    /// Upper bound of the rows inside `range`.
    fn rows_max(&self, range: TimeRange) -> usize;

    /// Decodes the rows of `columns` inside `range` into `out`, replacing its content: column `i` of `out` is
    /// `columns[i]`. Rows are those of the group; a column without a sample in a row is absent there.
    fn read(&self, columns: &[u32], range: TimeRange, out: &mut Columns) -> Result<(), ReadError>;
}
