//! The index of a block: label dictionaries, postings, the table of series and the directory of groups.
//!
//! Series numbers and group numbers are local to the block. Series are numbered in the order of (metric name, group,
//! column), label names and values in the order of their bytes. All tables have restarts, so that one entry is found
//! without reading those before it. Described in `docs/format/block.md`.

pub(super) mod build;
mod matching;
pub(super) mod packed;
pub(crate) mod read;
mod sections;

pub(super) use sections::TooLarge;

/// Dictionary and postings entries per restart.
const VALUES_PER_RESTART: usize = 16;
/// Series per restart.
const SERIES_PER_RESTART: usize = 64;
/// Of the tag of a series: its label names are those of the series before.
const SAME_NAMES: u64 = 1;
/// It is the next column of the same group.
const NEXT_COLUMN: u64 = 2;
const FLAG_BITS: u32 = 2;
/// Labels of which a tag can say whether their values changed.
const MASK_BITS: usize = 62;
/// Groups per restart.
const GROUPS_PER_RESTART: usize = 16;

/// Where the samples of one group lie.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct GroupEntry {
    /// Columns; each is one series.
    pub(crate) n_columns: usize,
    /// Offset of the first page in the data file.
    pub(crate) data_offset: u64,
    /// Number of the first page in the block.
    pub(crate) first_page: u64,
    /// Spans of rows, ascending and disjoint in time.
    pub(crate) spans: Vec<Span>,
}

/// Rows of a group that were written together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    /// First time.
    pub(crate) mint: i64,
    /// Last time.
    pub(crate) maxt: i64,
    /// Times.
    pub(crate) rows: usize,
    /// Pages in the order of the columns.
    pub(crate) pages: Vec<Page>,
}

impl Span {
    /// Bytes of its pages.
    pub(crate) fn bytes(&self) -> u64 {
        self.pages.iter().map(|p| p.len as u64).sum()
    }
}

/// Consecutive columns of one span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Page {
    /// Bytes in the data file, the section's head included.
    pub(crate) len: usize,
    /// Columns inside.
    pub(crate) n_columns: usize,
}
