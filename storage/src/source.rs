//! What a selection is put together from: the head and each block are sources of groups.
//!
//! A source answers with the groups that hold matching series; the database merges the groups of all sources into
//! batches (`select`), so that a series appears once with all of its samples.

use std::sync::Arc;

use promontory_model::{Columns, Labels, ReadError, Select, TimeRange};

use crate::label_table::{LabelTable, SetId};

/// The head's snapshot or one block.
pub(crate) trait Source: Send + Sync {
    /// Times of the samples inside; empty when there are none.
    fn range(&self) -> TimeRange;

    /// Groups with series that pass all matchers and may have samples in the range; their labels go to `table`. Decodes
    /// no sample.
    fn select(&self, select: &Select<'_>, table: &mut LabelTable) -> Result<Vec<SelectedGroup>, ReadError>;

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
        let mut table = LabelTable::default();
        self.select(select, &mut table)?;
        out.extend(table.sets().take(limit).map(|set| table.labels(set)));
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
#[derive(Debug, Clone, Copy)]
pub(crate) struct SelectedSeries {
    /// Its labels in the table of the selection.
    pub(crate) set: SetId,
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

    /// The rows inside `range`, for a reader that writes them beside those of other groups; `None` where only
    /// [`GroupColumns::read`] can tell which rows there are.
    fn rows(&self, _range: TimeRange) -> Result<Option<Box<dyn Rows + '_>>, ReadError> {
        Ok(None)
    }
}

/// Rows of a group whose times are known.
pub(crate) trait Rows {
    /// Ascending.
    fn times(&self) -> &[i64];

    /// Writes the floats of `columns` to the rows of `out` from `start` on, which are as [`Columns::reset`] leaves them:
    /// column `i` of `out` is `columns[i]`. The answer is `false` when there are histograms; `out` is then of no use.
    fn fill(&self, columns: &[u32], start: usize, out: &mut Columns) -> Result<bool, ReadError>;
}
