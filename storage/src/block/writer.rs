//! Writes a block group by group: samples go to disk as they come, the index is kept until the end.
//!
//! Memory: one page, one write buffer, and the index (series and label pairs). Until [`BlockWriter::finish`] the
//! block is a folder with the suffix `.tmp`, which goes away with the writer.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use promontory_model::{HistogramSample, Labels, TimeRange, Timestamp};

use super::index::TooLarge;
use super::index::build::IndexBuilder;
use super::index::{GroupEntry, Page, Span};
use super::order::{column_order, continues};
use super::page::PageBuilder;
use super::section::{self, Kind};
use super::{BlockError, BlockMeta, DATA_FILE, INDEX_FILE, META_FILE, SPAN_ROWS_MAX, mini, remove_if_there, tmp_path};
use crate::canary::{Bug, is_planted};
use crate::codec;
use crate::ulid::Ulid;
use crate::vfs::{Vfs, VfsFile};

/// Bytes that are gathered before a write.
const WRITE_BYTES: usize = 1 << 20;

/// Series that share their timestamps.
#[derive(Debug, Clone, Copy)]
pub struct GroupInput<'a> {
    /// Strictly ascending, in ms.
    pub timestamps: &'a [i64],
    /// In any order. Columns of one label set are one series; in a row that several have, the first one's sample stays.
    pub columns: &'a [ColumnInput<'a>],
}

/// One series of a group.
#[derive(Debug, Clone)]
pub struct ColumnInput<'a> {
    /// Whole label set.
    pub labels: Labels,
    /// One per timestamp; what stands in an absent row does not matter.
    pub values: &'a [f64],
    /// Bit `row % 64` of word `row / 64` says whether the row has a float; `None` when all have one.
    pub presence: Option<&'a [u64]>,
    /// Native histograms and their rows, ascending; none of these has a float.
    pub histograms: &'a [(usize, HistogramSample)],
}

impl ColumnInput<'_> {
    fn is_present(&self, row: usize) -> bool {
        self.presence.is_none_or(|bits| bits[row / 64] >> (row % 64) & 1 == 1)
    }

    fn has_samples(&self) -> bool {
        !self.histograms.is_empty() || (0..self.values.len()).any(|row| self.is_present(row))
    }

    fn histograms_are_placed(&self, rows: usize) -> bool {
        self.histograms.iter().all(|(row, _)| *row < rows && !self.is_present(*row))
            && self.histograms.is_sorted_by(|(a, _), (b, _)| a < b)
    }

    /// Appends those of `span`, their rows counted from its first.
    fn histograms_in(&self, span: &Range<usize>, rows: &mut Vec<usize>, samples: &mut Vec<HistogramSample>) {
        let from = self.histograms.partition_point(|(row, _)| *row < span.start);
        let inside = self.histograms[from..].iter().take_while(|(row, _)| *row < span.end);
        for (row, sample) in inside {
            rows.push(row - span.start);
            samples.push(sample.clone());
        }
    }
}

/// Columns of one label set as one.
struct Joined {
    labels: Labels,
    values: Vec<f64>,
    presence: Vec<u64>,
    histograms: Vec<(usize, HistogramSample)>,
}

impl Joined {
    fn of(columns: &[&ColumnInput<'_>], rows: usize) -> Self {
        let mut values = vec![0.0; rows];
        let mut presence = vec![0u64; rows.div_ceil(64)];
        let mut histograms = BTreeMap::new();
        // The first column is written last, so that its samples stay.
        for c in columns.iter().rev() {
            for row in (0..rows).filter(|row| c.is_present(*row)) {
                values[row] = c.values[row];
                presence[row / 64] |= 1 << (row % 64);
                histograms.remove(&row);
            }
            for (row, sample) in c.histograms {
                presence[row / 64] &= !(1 << (row % 64));
                histograms.insert(*row, sample.clone());
            }
        }
        let histograms = histograms.into_iter().collect();
        Self { labels: columns[0].labels.clone(), values, presence, histograms }
    }

    fn as_input(&self) -> ColumnInput<'_> {
        let (values, presence) = (&self.values, Some(self.presence.as_slice()));
        ColumnInput { labels: self.labels.clone(), values, presence, histograms: &self.histograms }
    }
}

/// Of each column whether it continues the histogram of the column before it.
pub(crate) fn similar_to_the_one_before(columns: &[Labels]) -> Vec<bool> {
    (0..columns.len()).map(|i| i > 0 && continues(&columns[i - 1], &columns[i])).collect()
}

/// A block under construction.
pub struct BlockWriter {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    tmp: PathBuf,
    meta: BlockMeta,
    data: Box<dyn VfsFile>,
    buffer: Vec<u8>,
    index: IndexBuilder,
    is_published: bool,
}

impl BlockWriter {
    /// Starts the block `ulid` in the folder of blocks `dir`. `level` is 1 for samples of the head.
    ///
    /// # Errors
    /// [`BlockError::Vfs`] when the system refuses.
    pub fn new(vfs: Arc<dyn Vfs>, dir: &Path, ulid: Ulid, level: u8) -> Result<Self, BlockError> {
        let tmp = tmp_path(dir, ulid);
        remove_if_there(&*vfs, &tmp)?;
        vfs.create_dir_all(&tmp)?;
        let data = vfs.create(&tmp.join(DATA_FILE))?;
        let meta = BlockMeta {
            ulid,
            level,
            range: TimeRange { mint: Timestamp::MAX, maxt: Timestamp::MIN },
            n_series: 0,
            n_groups: 0,
            n_mini_blocks: 0,
            n_samples: 0,
            n_pages: 0,
            index_bytes: 0,
            data_bytes: 0,
            sources: Vec::new(),
        };
        let (dir, buffer, index) = (dir.to_owned(), Vec::new(), IndexBuilder::default());
        Ok(Self { vfs, dir, tmp, meta, data, buffer, index, is_published: false })
    }

    /// Says which blocks this one makes obsolete.
    pub fn set_sources(&mut self, sources: Vec<Ulid>) {
        self.meta.sources = sources;
    }

    /// Samples added so far.
    #[must_use]
    pub fn n_samples(&self) -> u64 {
        self.meta.n_samples
    }

    /// Adds a group. Columns without samples are left out.
    ///
    /// # Errors
    /// [`BlockError::Input`] when the group is not as [`GroupInput`] says; nothing of it is written then.
    /// [`BlockError::Vfs`] when the system refuses; the writer is of no use afterwards.
    pub fn add_group(&mut self, group: &GroupInput<'_>) -> Result<(), BlockError> {
        let input = |what| BlockError::Input { ulid: self.meta.ulid, group: self.meta.n_groups, what };
        let rows = group.timestamps.len();
        if group.timestamps.windows(2).any(|w| w[0] >= w[1]) {
            return Err(input("timestamps do not ascend"));
        }
        let words = rows.div_ceil(64);
        for c in group.columns {
            if c.values.len() != rows || c.presence.is_some_and(|bits| bits.len() < words) {
                return Err(input("a column has another number of rows"));
            }
            if !c.histograms_are_placed(rows) {
                return Err(input("histograms of a column are not sorted, or stand beside floats"));
            }
        }
        let mut columns: Vec<&ColumnInput<'_>> = group.columns.iter().filter(|c| c.has_samples()).collect();
        if columns.is_empty() {
            return Ok(());
        }
        columns.sort_by(|a, b| column_order(&a.labels, &b.labels));
        let joined: Vec<Joined> = columns
            .chunk_by(|a, b| a.labels == b.labels)
            .filter(|same| same.len() > 1)
            .map(|same| Joined::of(same, rows))
            .collect();
        let joined: Vec<ColumnInput<'_>> = joined.iter().map(Joined::as_input).collect();
        if !joined.is_empty() {
            columns.retain(|c| joined.binary_search_by(|j| column_order(&j.labels, &c.labels)).is_err());
            columns.extend(&joined);
            columns.sort_by(|a, b| column_order(&a.labels, &b.labels));
        }
        let labels: Vec<Labels> = columns.iter().map(|c| c.labels.clone()).collect();
        let similar = similar_to_the_one_before(&labels);
        let mut sink = self.begin_group(labels);
        let mut minis = mini::Columns::default();
        let (mut times, mut bytes, mut values, mut bits) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        // Spans of equal length rather than a short one at the end.
        let span_rows = rows.div_ceil(rows.div_ceil(SPAN_ROWS_MAX));
        for start in (0..rows).step_by(span_rows) {
            let span = start..(start + span_rows).min(rows);
            let timestamps = &group.timestamps[span.clone()];
            times.clear();
            codec::encode_timestamps(timestamps, &mut times);
            sink.begin_span(timestamps[0], timestamps[timestamps.len() - 1], timestamps.len(), &times);
            minis.begin();
            for (column, is_similar) in columns.iter().zip(&similar) {
                bytes.clear();
                let (mut rows_of, mut histograms) = (Vec::new(), Vec::new());
                column.histograms_in(&span, &mut rows_of, &mut histograms);
                let both = (&*rows_of, &mut *histograms);
                let begins_page = match column.presence {
                    None => {
                        let values = &column.values[span.clone()];
                        minis.put(*is_similar, span.len(), None, values, both, &mut bytes)
                    }
                    Some(_) => {
                        values.clear();
                        bits.clear();
                        bits.resize(span.len().div_ceil(64), 0u64);
                        for (i, row) in span.clone().enumerate().filter(|(_, row)| column.is_present(*row)) {
                            values.push(column.values[row]);
                            bits[i / 64] |= 1 << (i % 64);
                        }
                        minis.put(*is_similar, span.len(), Some(&bits), &values, both, &mut bytes)
                    }
                };
                let n_floats = if column.presence.is_none() { span.len() } else { values.len() };
                sink.push_mini_block(&bytes, n_floats + histograms.len(), begins_page)?;
            }
            sink.end_span()?;
        }
        sink.finish()
    }

    /// Starts a group whose mini-blocks are encoded already. The columns differ and are in
    /// [`column_order`].
    pub(crate) fn begin_group(&mut self, columns: Vec<Labels>) -> GroupSink<'_> {
        debug_assert!(columns.windows(2).all(|w| column_order(&w[0], &w[1]).is_lt()), "columns are in their order");
        let entry = GroupEntry {
            n_columns: columns.len(),
            data_offset: self.meta.data_bytes,
            first_page: self.meta.n_pages,
            spans: Vec::new(),
        };
        GroupSink { writer: self, columns, entry, open: None, page: PageBuilder::default() }
    }

    /// Completes the block: all files synced, then the folder gets its name, then that is synced.
    ///
    /// # Errors
    /// [`BlockError::Vfs`] when the system refuses, [`BlockError::TooLarge`] when the index does not fit its format;
    /// there is no block then, unless syncing its folder failed after it got its name: then the next open finds either.
    pub fn finish(self) -> Result<BlockMeta, BlockError> {
        self.finish_checked(|_| Ok(()))
    }

    /// As [`BlockWriter::finish`], but `check` looks at the synced folder before it gets its name.
    pub(crate) fn finish_checked<E: From<BlockError>>(
        mut self,
        check: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<BlockMeta, E> {
        self.write_all_files()?;
        check(&self.tmp)?;
        self.publish()?;
        Ok(self.meta.clone())
    }

    fn write_all_files(&mut self) -> Result<(), BlockError> {
        self.flush()?;
        if !is_planted(Bug::BlockNotSynced) {
            self.data.sync()?;
        }
        let builder = std::mem::take(&mut self.index);
        self.meta.n_series = builder.n_series() as u64;
        let index = builder.finish(self.meta.n_pages).map_err(|TooLarge| self.too_large())?;
        self.meta.index_bytes = index.len() as u64;
        self.write_file(INDEX_FILE, &index)?;
        let meta = self.meta.to_text();
        self.write_file(META_FILE, meta.as_bytes())?;
        self.vfs.sync_dir(&self.tmp)?;
        Ok(())
    }

    fn publish(&mut self) -> Result<(), BlockError> {
        self.vfs.rename(&self.tmp, &self.dir.join(self.meta.ulid.to_string()))?;
        self.is_published = true;
        self.vfs.sync_dir(&self.dir)?;
        Ok(())
    }

    fn write_file(&self, name: &str, bytes: &[u8]) -> Result<(), BlockError> {
        let file = self.vfs.create(&self.tmp.join(name))?;
        for chunk in bytes.chunks(WRITE_BYTES) {
            file.write_all(chunk)?;
        }
        file.sync()?;
        Ok(())
    }

    fn put_page(&mut self, body: &[u8]) -> Result<usize, BlockError> {
        let before = self.buffer.len();
        if section::put(Kind::Page, body, &mut self.buffer).is_none() {
            return Err(self.too_large());
        }
        let len = self.buffer.len() - before;
        self.meta.data_bytes += len as u64;
        self.meta.n_pages += 1;
        if self.buffer.len() >= WRITE_BYTES {
            self.flush()?;
        }
        Ok(len)
    }

    fn flush(&mut self) -> Result<(), BlockError> {
        if !self.buffer.is_empty() {
            self.data.write_all(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }

    fn too_large(&self) -> BlockError {
        BlockError::TooLarge { ulid: self.meta.ulid, what: "a section of the block", limit: u64::from(u32::MAX) }
    }
}

impl std::fmt::Debug for BlockWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BlockWriter({})", self.meta.ulid)
    }
}

impl Drop for BlockWriter {
    fn drop(&mut self) {
        if !self.is_published {
            // What cannot be removed now is removed at the next open.
            let _ = self.vfs.remove_dir_all(&self.tmp);
        }
    }
}

/// A group that is being written span by span, column by column.
pub(crate) struct GroupSink<'w> {
    writer: &'w mut BlockWriter,
    columns: Vec<Labels>,
    entry: GroupEntry,
    open: Option<OpenSpan>,
    page: PageBuilder,
}

struct OpenSpan {
    span: Span,
    columns: usize,
}

impl GroupSink<'_> {
    /// Starts a span of `rows` rows; `times` are its encoded timestamps. Later than all spans before it.
    pub(crate) fn begin_span(&mut self, mint: i64, maxt: i64, rows: usize, times: &[u8]) {
        debug_assert!(self.open.is_none() && self.entry.spans.last().is_none_or(|s| s.maxt < mint));
        assert!((1..=SPAN_ROWS_MAX).contains(&rows), "a span has between 1 and {SPAN_ROWS_MAX} rows");
        self.page.begin_span(times);
        self.open = Some(OpenSpan { span: Span { mint, maxt, rows, pages: Vec::new() }, columns: 0 });
    }

    /// Whether the next mini-block that stands alone should begin a page.
    pub(crate) fn is_page_full(&self) -> bool {
        self.page.is_full()
    }

    /// Adds the next column's mini-block of `count` values; no bytes when it has none in the span. Those that one needs
    /// are in its page.
    pub(crate) fn push_mini_block(&mut self, bytes: &[u8], count: usize, begins_page: bool) -> Result<(), BlockError> {
        if begins_page && self.page.n_columns() > 0 {
            self.end_page()?;
        }
        self.page.push(bytes);
        if !bytes.is_empty() {
            self.writer.meta.n_mini_blocks += 1;
            self.writer.meta.n_samples += count as u64;
        }
        Ok(())
    }

    fn end_page(&mut self) -> Result<(), BlockError> {
        let n_columns = self.page.n_columns();
        let body = self.page.take();
        let len = self.writer.put_page(&body)?;
        let open = self.open.as_mut().expect("pages belong to a span");
        open.span.pages.push(Page { len, n_columns });
        open.columns += n_columns;
        Ok(())
    }

    /// Completes the span.
    pub(crate) fn end_span(&mut self) -> Result<(), BlockError> {
        if self.page.n_columns() > 0 {
            self.end_page()?;
        }
        let OpenSpan { span, columns } = self.open.take().expect("a span was begun");
        assert_eq!(columns, self.columns.len(), "every column is in every span");
        let range = &mut self.writer.meta.range;
        range.mint = range.mint.min(Timestamp(span.mint));
        range.maxt = range.maxt.max(Timestamp(span.maxt));
        self.entry.spans.push(span);
        Ok(())
    }

    /// Completes the group.
    pub(crate) fn finish(self) -> Result<(), BlockError> {
        let too_large = self.writer.too_large();
        self.writer.index.add_group(&self.columns, &self.entry).map_err(|TooLarge| too_large)?;
        self.writer.meta.n_groups = u64::from(self.writer.index.n_groups());
        Ok(())
    }
}
