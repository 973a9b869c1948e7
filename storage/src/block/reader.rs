//! Reads a block through memory maps: touches only the pages it needs and checks each of them once.
//!
//! Cheap to open: the meta file and the table of contents. All bytes are hostile.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use promontory_model::{Cancel, Columns, HistogramSample, Labels, Matcher, ReadError, Select, TimeRange};
use roaring::RoaringBitmap;

use super::index::read::Index;
use super::index::{GroupEntry, Span};
use super::mini::{self, CHAIN_MAX, MiniBlock, Presence};
use super::page::{self, Stored};
use super::section::{File, HEAD_BYTES, Kind};
use super::{BlockError, BlockMeta, DATA_FILE, INDEX_FILE, read_meta};
use crate::codec;
use crate::label_table::LabelTable;
use crate::source::{GroupColumns, Rows, SelectedGroup, SelectedSeries, Source};
use crate::tombstone::{Masked, Tombstones, cover};
use crate::vfs::{Mapped, Vfs};
use crate::wire::{Reader, WireError};

/// Series whose labels are read together, at least.
const SERIES_AT_ONCE: usize = 256;
/// Columns that may be told one from another.
const TOLD_MAX: usize = 2;
/// Columns that others are told from whose values are kept, beside the two that are in use.
const REFERENCES_MAX: usize = 6;

/// An open block; clones share it.
#[derive(Clone)]
pub struct BlockReader {
    block: Arc<OpenBlock>,
    /// Series are the members of part 0.
    tombstones: Arc<Tombstones>,
}

pub(crate) struct OpenBlock {
    pub(crate) meta: BlockMeta,
    index_path: PathBuf,
    index_bytes: Mapped,
    /// Opened when it is first needed.
    index: OnceLock<Index>,
    path: PathBuf,
    data_path: PathBuf,
    data: Mapped,
    /// One bit per page: its CRC has been checked.
    checked: Box<[AtomicU64]>,
}

impl std::fmt::Debug for BlockReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BlockReader({})", self.block.meta.ulid)
    }
}

impl BlockReader {
    /// Opens the block in the folder `path`. Reads its meta file and the table of contents of its index.
    ///
    /// # Errors
    /// [`BlockError::Vfs`] when a file is missing or the system refuses, [`BlockError::Read`] when the bytes are
    /// damaged.
    pub fn open(vfs: &dyn Vfs, path: &Path) -> Result<Arc<Self>, BlockError> {
        let meta = read_meta(vfs, path)?;
        let (index_path, data_path) = (path.join(INDEX_FILE), path.join(DATA_FILE));
        let (index, data) = (vfs.map_read(&index_path)?, vfs.map_read(&data_path)?);
        for (path, bytes, expected) in [(&index_path, &index, meta.index_bytes), (&data_path, &data, meta.data_bytes)] {
            if bytes.len() as u64 != expected {
                return Err(File { path, bytes }.corrupt(0, "length of the file", expected, bytes.len()).into());
            }
        }
        // Every page has a head, so a hostile count cannot ask for more bits than the file has bytes.
        if meta.n_pages > meta.data_bytes / HEAD_BYTES as u64 {
            let file = File { path: &data_path, bytes: &[] };
            return Err(file.corrupt(0, "number of pages", meta.data_bytes / HEAD_BYTES as u64, meta.n_pages).into());
        }
        let words = meta.n_pages.div_ceil(64);
        let checked = (0..words).map(|_| AtomicU64::new(0)).collect();
        let tombstones = Arc::new(Tombstones::load(vfs, path)?);
        let block = OpenBlock {
            meta,
            index_path,
            index_bytes: index,
            index: OnceLock::new(),
            path: path.to_owned(),
            data_path,
            data,
            checked,
        };
        // A packed index waits until somebody asks for it, so that many blocks are opened quickly.
        if Index::is_packed(&block.index_bytes) {
            Index::check_packed(&block.index_path, &block.index_bytes)?;
        } else {
            block.index()?;
        }
        let block = Arc::new(block);
        Ok(Arc::new(Self { block, tombstones }))
    }

    /// Facts about the block.
    #[must_use]
    pub fn meta(&self) -> &BlockMeta {
        &self.block.meta
    }

    /// Its folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.block.path
    }

    pub(crate) fn inner(&self) -> &OpenBlock {
        &self.block
    }

    /// Which samples are deleted; the other counts of the block include them.
    pub(crate) fn tombstones(&self) -> &Tombstones {
        &self.tombstones
    }

    /// Deletes the samples inside `range` of the series that pass all matchers of a selector, durably. The answer is
    /// the block without them; `None` when there is no such series.
    ///
    /// # Errors
    /// [`BlockError`] when the block cannot be read or its tombstones not be written.
    pub(crate) fn delete_samples(
        &self,
        vfs: &dyn Vfs,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        cancel: &Cancel,
    ) -> Result<Option<Arc<Self>>, BlockError> {
        let inside = self.block.meta.range;
        let range = TimeRange { mint: range.mint.max(inside.mint), maxt: range.maxt.min(inside.maxt) };
        if range.is_empty() {
            return Ok(None);
        }
        let mut series = RoaringBitmap::new();
        for matchers in selectors {
            series |= self.block.index()?.matching(matchers, cancel)?;
        }
        if series.is_empty() {
            return Ok(None);
        }
        let mut tombstones = Tombstones::clone(&self.tombstones);
        tombstones.add(0, range, series);
        if tombstones == *self.tombstones {
            return Ok(None);
        }
        tombstones.store(vfs, &self.block.path)?;
        Ok(Some(Arc::new(Self { block: Arc::clone(&self.block), tombstones: Arc::new(tombstones) })))
    }
}

impl BlockReader {
    /// Whether all samples of a series in `range` are deleted.
    fn is_deleted(&self, series: u32, range: TimeRange) -> bool {
        let inside = self.block.meta.range;
        let range = TimeRange { mint: range.mint.max(inside.mint), maxt: range.maxt.min(inside.maxt) };
        cover(&self.tombstones.of(0, series), range)
    }
}

impl OpenBlock {
    /// The index, opened at the first call.
    pub(crate) fn index(&self) -> Result<&Index, ReadError> {
        if let Some(index) = self.index.get() {
            return Ok(index);
        }
        let index = Index::open(&self.index_path, self.index_bytes.clone())?;
        let counts = (u64::from(index.n_series), u64::from(index.n_groups), index.n_pages);
        let expected = (self.meta.n_series, self.meta.n_groups, self.meta.n_pages);
        if counts != expected {
            let file = File { path: &self.index_path, bytes: &[] };
            let (expected, found) = (format!("{expected:?}"), format!("{counts:?}"));
            return Err(file.corrupt(0, "series, groups and pages", expected, found));
        }
        // Another thread may have been quicker; its index is the same.
        Ok(self.index.get_or_init(|| index))
    }

    pub(crate) fn data_file(&self) -> File<'_> {
        File { path: &self.data_path, bytes: &self.data }
    }

    /// Where the samples of a group lie.
    pub(crate) fn group(&self, group: u32) -> Result<GroupEntry, ReadError> {
        self.index()?.group(group, self.meta.data_bytes)
    }

    /// The body of a page, checked on first touch, and its offset in the file.
    fn page(&self, number: u64, offset: u64, len: usize) -> Result<(usize, &[u8]), ReadError> {
        let file = self.data_file();
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        let bit = 1 << (number % 64);
        let word = usize::try_from(number / 64).ok().and_then(|w| self.checked.get(w));
        let word = word.ok_or_else(|| file.corrupt(at, "number of a page", self.meta.n_pages, number))?;
        // Relaxed is enough: two threads may both check, neither skips.
        let body = if word.load(Ordering::Relaxed) & bit != 0 {
            file.checked_section(at, len)?
        } else {
            let body = file.section(Kind::Page, at, len)?;
            word.fetch_or(bit, Ordering::Relaxed);
            body
        };
        Ok((at + HEAD_BYTES, body))
    }

    /// The pages of one span of a group.
    pub(crate) fn span<'a>(&'a self, entry: &'a GroupEntry, index: usize) -> SpanReader<'a> {
        let before = &entry.spans[..index];
        let offset = before.iter().flat_map(|s| &s.pages).fold(entry.data_offset, |at, p| at + p.len as u64);
        let number = before.iter().fold(entry.first_page, |at, s| at + s.pages.len() as u64);
        SpanReader {
            block: self,
            span: &entry.spans[index],
            offset,
            number,
            current: None,
            decoded: None,
            references: Vec::new(),
        }
    }
}

/// Reads columns of one span.
pub(crate) struct SpanReader<'a> {
    block: &'a OpenBlock,
    span: &'a Span,
    /// Of the first page.
    offset: u64,
    number: u64,
    current: Option<PageView<'a>>,
    /// The values of a column that the next mini-block is relative to.
    decoded: Option<(usize, Vec<f64>)>,
    /// The values of columns that others are told from, those used last.
    references: Vec<(usize, Vec<f64>)>,
}

/// A page whose table of lengths has been read.
struct PageView<'a> {
    first_column: usize,
    /// Offset of the body in the file.
    base: usize,
    body: &'a [u8],
    columns: Vec<Stored>,
}

impl<'a> SpanReader<'a> {
    /// Appends the timestamps.
    pub(crate) fn timestamps(&self, out: &mut Vec<i64>) -> Result<(), ReadError> {
        let (base, bytes) = self.encoded_timestamps()?;
        let file = self.block.data_file();
        let start = out.len();
        codec::decode_timestamps(bytes, self.span.rows, out).map_err(|e| file.malformed(base, e))?;
        let found = (out.get(start).copied(), out.last().copied());
        if found != (Some(self.span.mint), Some(self.span.maxt)) {
            let expected = format!("{} to {}", self.span.mint, self.span.maxt);
            return Err(file.corrupt(base, "times of a span", expected, format!("{found:?}")));
        }
        Ok(())
    }

    /// The timestamps as they are stored, and their offset in the file.
    pub(crate) fn encoded_timestamps(&self) -> Result<(usize, &'a [u8]), ReadError> {
        let first = self.span.pages.first().map_or(0, |p| p.len);
        let (base, body) = self.block.page(self.number, self.offset, first)?;
        let mut r = Reader::new(body);
        let bytes = r.bytes().map_err(|e| self.block.data_file().malformed(base, e))?;
        Ok((base + r.offset() - bytes.len(), bytes))
    }

    /// The mini-block of a column. `None` when the column has no sample.
    pub(crate) fn encoded(&mut self, column: usize) -> Result<Option<Cow<'a, [u8]>>, ReadError> {
        let view = self.view(column)?;
        Ok(match view.columns[column - view.first_column] {
            Stored::Absent => None,
            Stored::Constant(number) => Some(Cow::Owned(mini::constant(number))),
            Stored::Bytes(start, end) => Some(Cow::Borrowed(&view.body[start..end])),
        })
    }

    /// The parsed mini-block of a column. `None` when the column has no sample.
    pub(crate) fn mini_block(&mut self, column: usize) -> Result<Option<(usize, MiniBlock<'a>)>, ReadError> {
        let rows = self.span.rows;
        let view = self.view(column)?;
        let (base, mini) = match view.columns[column - view.first_column] {
            Stored::Absent => return Ok(None),
            Stored::Constant(number) => (view.base, MiniBlock::of_constant(number, rows)),
            Stored::Bytes(start, end) => (view.base + start, MiniBlock::parse(&view.body[start..end], rows)),
        };
        Ok(Some((base, mini.map_err(|e| self.block.data_file().malformed(base, e))?)))
    }

    /// Appends the floats of a column and gives its mini-block. Decodes others before it when it is relative to them;
    /// cheap for columns in their order.
    pub(crate) fn values(
        &mut self,
        column: usize,
        out: &mut Vec<f64>,
    ) -> Result<Option<(usize, MiniBlock<'a>)>, ReadError> {
        match self.mini_block(column)? {
            None => Ok(None),
            Some((base, mini)) if mini.is_relative() => {
                self.relative_values(column, out)?;
                Ok(Some((base, mini)))
            }
            Some((base, mini)) => {
                let start = out.len();
                self.own_values(column, base, &mini, TOLD_MAX, out)?;
                self.remember(column, &out[start..])?;
                Ok(Some((base, mini)))
            }
        }
    }

    /// The values of a column that is not relative, and of those that it is told from as far as they are not known; so
    /// many of them may be told from others in turn, one from another.
    fn own_values(
        &mut self,
        column: usize,
        base: usize,
        mini: &MiniBlock<'_>,
        told_max: usize,
        out: &mut Vec<f64>,
    ) -> Result<(), ReadError> {
        let file = self.block.data_file();
        let Some(prediction) = mini.prediction() else {
            return mini.values(&[], out).map_err(|e| file.malformed(base, e));
        };
        let Some(told_max) = told_max.checked_sub(1) else {
            return Err(file.malformed(base, WireError { what: "chain of predictions", offset: 0 }));
        };
        let mut others = Vec::with_capacity(2);
        for reference in prediction.references() {
            let of = self.with_samples_before(column, reference.back)?;
            others.push((of, self.take_reference(of, told_max)?));
        }
        let slices: Vec<&[f64]> = others.iter().map(|(_, values)| values.as_slice()).collect();
        let done = mini.values(&slices, out).map_err(|e| file.malformed(base, e));
        self.references.truncate(REFERENCES_MAX);
        self.references.splice(0..0, others);
        done
    }

    /// The values of a column that others are told from.
    fn take_reference(&mut self, column: usize, told_max: usize) -> Result<Vec<f64>, ReadError> {
        if let Some(at) = self.references.iter().position(|(of, _)| *of == column) {
            return Ok(self.references.swap_remove(at).1);
        }
        let file = self.block.data_file();
        let Some((base, mini)) = self.mini_block(column)? else {
            return Ok(Vec::new());
        };
        if mini.is_relative() {
            return Err(file.malformed(base, WireError { what: "reference that is relative", offset: 0 }));
        }
        let mut values = Vec::with_capacity(self.span.rows);
        self.own_values(column, base, &mini, told_max, &mut values)?;
        Ok(values)
    }

    /// Keeps the values of a column if the next one is relative to them.
    fn remember(&mut self, column: usize, values: &[f64]) -> Result<(), ReadError> {
        if self.is_followed(column)? {
            let (of, kept) = self.decoded.get_or_insert_default();
            *of = column;
            kept.clear();
            kept.extend_from_slice(values);
        }
        Ok(())
    }

    /// The values of a column that is relative to others, and of these others as far as they are not known.
    fn relative_values(&mut self, column: usize, out: &mut Vec<f64>) -> Result<(), ReadError> {
        let mut chain = Vec::new();
        let mut next = column;
        let mut before = loop {
            let Some((base, mini)) = self.mini_block(next)? else {
                break Vec::new();
            };
            chain.push((next, base, mini));
            if !mini.is_relative() {
                break Vec::new();
            }
            if chain.len() > CHAIN_MAX {
                return Err(self
                    .block
                    .data_file()
                    .malformed(base, WireError { what: "chain of relative mini-blocks", offset: 0 }));
            }
            next = self.with_samples_before(next, 1)?;
            if let Some((_, values)) = self.decoded.take_if(|(column, _)| *column == next) {
                break values;
            }
        };
        let file = self.block.data_file();
        while let Some((of, base, mini)) = chain.pop() {
            if chain.is_empty() {
                let start = out.len();
                mini.values(&[&before], out).map_err(|e| file.malformed(base, e))?;
                self.decoded = Some((usize::MAX, before));
                self.remember(column, &out[start..])?;
                break;
            }
            let mut values = Vec::with_capacity(before.capacity());
            if mini.is_relative() {
                mini.values(&[&before], &mut values).map_err(|e| file.malformed(base, e))?;
            } else {
                self.own_values(of, base, &mini, TOLD_MAX, &mut values)?;
            }
            before = values;
        }
        Ok(())
    }

    /// The column that is `back` columns with samples before this one in its page.
    pub(crate) fn with_samples_before(&mut self, column: usize, back: usize) -> Result<usize, ReadError> {
        let view = self.view(column)?;
        let at = column - view.first_column;
        let found = (0..at).rev().filter(|i| view.columns[*i] != Stored::Absent).nth(back - 1);
        let offset = view.base;
        found.map(|i| view.first_column + i).ok_or_else(|| {
            let what = "mini-block that another needs";
            self.block.data_file().corrupt(offset, what, format!("{back} before it in its page"), "fewer")
        })
    }

    /// Whether a page begins with the column.
    pub(crate) fn is_first_of_page(&mut self, column: usize) -> Result<bool, ReadError> {
        Ok(self.view(column)?.first_column == column)
    }

    /// Whether the next mini-block of the page is relative to this column's.
    fn is_followed(&mut self, column: usize) -> Result<bool, ReadError> {
        let view = self.view(column)?;
        let mut after = view.columns[column - view.first_column + 1..].iter();
        let next = after.find(|stored| **stored != Stored::Absent);
        Ok(matches!(next, Some(Stored::Bytes(start, end)) if mini::is_relative(&view.body[*start..*end])))
    }

    /// The page that holds the column; moves only when the column is in another one.
    fn view(&mut self, column: usize) -> Result<&PageView<'a>, ReadError> {
        let holds = |v: &PageView<'_>| (v.first_column..v.first_column + v.columns.len()).contains(&column);
        if !self.current.as_ref().is_some_and(holds) {
            self.current = Some(self.open_view(column)?);
        }
        Ok(self.current.as_ref().expect("opened just now"))
    }

    fn open_view(&self, column: usize) -> Result<PageView<'a>, ReadError> {
        let (mut first_column, mut offset, mut number) = (0, self.offset, self.number);
        for page in &self.span.pages {
            if column < first_column + page.n_columns {
                let (base, body) = self.block.page(number, offset, page.len)?;
                let is_first = number == self.number;
                let columns = page::parse(body, is_first, page.n_columns)
                    .map_err(|e| self.block.data_file().malformed(base, e))?;
                return Ok(PageView { first_column, base, body, columns });
            }
            first_column += page.n_columns;
            offset += page.len as u64;
            number += 1;
        }
        let at = usize::try_from(self.offset).unwrap_or(usize::MAX);
        Err(self.block.data_file().corrupt(at, "column of a group", format!("below {first_column}"), column))
    }
}

impl Source for BlockReader {
    fn range(&self) -> TimeRange {
        self.block.meta.range
    }

    fn select(&self, select: &Select<'_>, table: &mut LabelTable) -> Result<Vec<SelectedGroup>, ReadError> {
        if !self.range().overlaps(select.range) || select.range.is_empty() {
            return Ok(Vec::new());
        }
        let index = self.block.index()?;
        let matching = index.matching(select.matchers, select.cancel)?;
        let mut series = Vec::with_capacity(usize::try_from(matching.len()).unwrap_or(0));
        let is_whole = self.tombstones.is_empty();
        index.for_sets(&matching, select.cancel, table, |number, entry| {
            if is_whole || !self.is_deleted(number, select.range) {
                series.push((number, entry));
            }
        })?;
        series.sort_unstable_by_key(|(_, s)| (s.group, s.column));
        let mut out = Vec::new();
        for of_group in series.chunk_by(|(_, a), (_, b)| a.group == b.group) {
            select.cancel.check()?;
            let entry = self.block.group(of_group[0].1.group)?;
            let holds = entry.spans.iter().any(|s| TimeRange::new(s.mint, s.maxt).overlaps(select.range));
            if !holds {
                continue;
            }
            if let Some(s) = of_group.iter().map(|(_, s)| s).find(|s| s.column as usize >= entry.n_columns) {
                let file = self.block.data_file();
                let limit = format!("below {}", entry.n_columns);
                return Err(file.corrupt(0, "column of a series", limit, s.column));
            }
            let mut group: Arc<dyn GroupColumns> = Arc::new(BlockGroup { block: Arc::clone(&self.block), entry });
            if !is_whole {
                let deleted = of_group.iter().map(|(number, s)| (s.column, self.tombstones.of(0, *number)));
                let deleted: HashMap<_, _> = deleted.filter(|(_, ranges)| !ranges.is_empty()).collect();
                if !deleted.is_empty() {
                    group = Arc::new(Masked::new(group, deleted));
                }
            }
            let series = of_group.iter().map(|(_, s)| SelectedSeries { set: s.set, column: s.column }).collect();
            out.push(SelectedGroup { group, series });
        }
        Ok(out)
    }

    fn label_names(&self, select: &Select<'_>, out: &mut Vec<String>) -> Result<(), ReadError> {
        let Some(matching) = self.matching_in(select)? else { return Ok(()) };
        let index = self.block.index()?;
        if matching.len() == u64::from(index.n_series) {
            out.extend(index.names().map(str::to_owned));
            return Ok(());
        }
        let mut named = RoaringBitmap::new();
        for (name, text) in index.names().enumerate() {
            select.cancel.check()?;
            named.clear();
            index.postings(name)?.add(index.n_values(name), &mut named)?;
            if !named.is_disjoint(&matching) {
                out.push(text.to_owned());
            }
        }
        Ok(())
    }

    fn label_values(
        &self,
        name: &str,
        select: &Select<'_>,
        limit: usize,
        out: &mut Vec<String>,
    ) -> Result<(), ReadError> {
        let index = self.block.index()?;
        let Some(name) = index.find_name(name) else { return Ok(()) };
        let Some(matching) = self.matching_in(select)? else { return Ok(()) };
        let dictionary = index.dictionary(name)?;
        if matching.len() == u64::from(index.n_series) {
            let n = index.n_values(name).min(limit) as u32;
            return dictionary.for_values(0..n, |value| out.push(value.to_owned()));
        }
        let values = index.values_of(name, &matching, select.cancel)?;
        dictionary.for_values(values.iter().take(limit), |value| out.push(value.to_owned()))
    }

    fn series(&self, select: &Select<'_>, limit: usize, out: &mut Vec<Labels>) -> Result<(), ReadError> {
        let Some(matching) = self.matching_in(select)? else { return Ok(()) };
        let mut found = Vec::new();
        let mut rest = matching.iter();
        // A series may be in several groups, so that as many numbers may be fewer series.
        while found.len() < limit && rest.len() > 0 {
            let next: RoaringBitmap = rest.by_ref().take((limit - found.len()).max(SERIES_AT_ONCE)).collect();
            self.block.index()?.for_series(&next, select.cancel, |_, entry| found.push(entry.labels))?;
            found.sort_unstable();
            found.dedup();
        }
        found.truncate(limit);
        out.append(&mut found);
        Ok(())
    }
}

impl BlockReader {
    /// Matching series of groups that have rows in the range; `None` when the block has none there.
    fn matching_in(&self, select: &Select<'_>) -> Result<Option<RoaringBitmap>, ReadError> {
        let own = self.range();
        if !own.overlaps(select.range) || select.range.is_empty() {
            return Ok(None);
        }
        let index = self.block.index()?;
        let mut matching = index.matching(select.matchers, select.cancel)?;
        if !self.tombstones.is_empty() {
            matching = matching.iter().filter(|series| !self.is_deleted(*series, select.range)).collect();
        }
        if select.range.mint <= own.mint && own.maxt <= select.range.maxt {
            return Ok(Some(matching));
        }
        let mut outside = RoaringBitmap::new();
        outside.insert_range(0..index.n_groups);
        if matching.len() < u64::from(index.n_groups) {
            outside.clear();
            index.for_rows(&matching, select.cancel, |_, row| {
                outside.insert(row.group);
                Ok(())
            })?;
        }
        for group in &outside.clone() {
            select.cancel.check()?;
            let spans = self.block.group(group)?.spans;
            if spans.iter().any(|s| TimeRange::new(s.mint, s.maxt).overlaps(select.range)) {
                outside.remove(group);
            }
        }
        if !outside.is_empty() {
            let mut inside = RoaringBitmap::new();
            index.for_rows(&matching, select.cancel, |number, row| {
                if !outside.contains(row.group) {
                    inside.insert(number);
                }
                Ok(())
            })?;
            matching = inside;
        }
        Ok(Some(matching))
    }
}

/// The samples of one group.
struct BlockGroup {
    block: Arc<OpenBlock>,
    entry: GroupEntry,
}

impl BlockGroup {
    fn spans_in(&self, range: TimeRange) -> impl Iterator<Item = usize> {
        let inside = move |s: &Span| TimeRange::new(s.mint, s.maxt).overlaps(range) && !range.is_empty();
        (0..self.entry.spans.len()).filter(move |i| inside(&self.entry.spans[*i]))
    }

    fn rows_in(&self, range: TimeRange) -> Result<BlockRows<'_>, ReadError> {
        let (mut parts, mut times, mut of_span) = (Vec::new(), Vec::new(), Vec::new());
        for i in self.spans_in(range) {
            of_span.clear();
            self.block.span(&self.entry, i).timestamps(&mut of_span)?;
            let from = of_span.partition_point(|t| *t < range.mint.0);
            let to = of_span.partition_point(|t| *t <= range.maxt.0);
            parts.push((i, times.len(), from..to));
            times.extend_from_slice(&of_span[from..to]);
        }
        Ok(BlockRows { group: self, times, parts })
    }
}

impl GroupColumns for BlockGroup {
    fn rows_max(&self, range: TimeRange) -> usize {
        self.spans_in(range).map(|i| self.entry.spans[i].rows).sum()
    }

    fn read(&self, columns: &[u32], range: TimeRange, out: &mut Columns) -> Result<(), ReadError> {
        let rows = self.rows_in(range)?;
        out.reset(columns.len(), rows.times.iter().copied());
        let mut histograms = Vec::new();
        rows.write(columns, 0, out, Some(&mut histograms))?;
        histograms.sort_by_key(|(c, row, _)| (*c, *row));
        histograms.into_iter().for_each(|(c, row, sample)| out.push_histogram_sample(c, row, sample));
        Ok(())
    }

    fn rows(&self, range: TimeRange) -> Result<Option<Box<dyn Rows + '_>>, ReadError> {
        Ok(Some(Box::new(self.rows_in(range)?)))
    }
}

/// A histogram with its column and row.
type HistogramAt = (usize, usize, HistogramSample);

/// Rows of a group in a range of time.
struct BlockRows<'a> {
    group: &'a BlockGroup,
    times: Vec<i64>,
    /// Per span: its number, its first row in the answer, and which of its rows are inside.
    parts: Vec<(usize, usize, Range<usize>)>,
}

impl Rows for BlockRows<'_> {
    fn times(&self) -> &[i64] {
        &self.times
    }

    fn fill(&self, columns: &[u32], start: usize, out: &mut Columns) -> Result<bool, ReadError> {
        self.write(columns, start, out, None)
    }
}

impl BlockRows<'_> {
    /// As [`Rows::fill`]; histograms go to `histograms`, if that is given.
    fn write(
        &self,
        columns: &[u32],
        before: usize,
        out: &mut Columns,
        mut histograms: Option<&mut Vec<HistogramAt>>,
    ) -> Result<bool, ReadError> {
        let BlockGroup { block, entry } = self.group;
        let mut values = Vec::new();
        for (i, start, rows) in &self.parts {
            let start = before + start;
            let mut span = block.span(entry, *i);
            for (c, &column) in columns.iter().enumerate() {
                values.clear();
                let Some((base, mini)) = span.values(column as usize, &mut values)? else {
                    (start..start + rows.len()).for_each(|row| out.set_absent(c, row));
                    continue;
                };
                if mini.has_histograms() {
                    let Some(histograms) = &mut histograms else { return Ok(false) };
                    let (mut at, mut samples) = (Vec::new(), Vec::new());
                    mini.histograms(&mut at, &mut samples).map_err(|e| block.data_file().malformed(base, e))?;
                    let inside = at.into_iter().zip(samples).filter(|(row, _)| rows.contains(row));
                    histograms.extend(inside.map(|(row, sample)| (c, start + row - rows.start, sample)));
                }
                if mini.presence == Presence::All {
                    out.values_mut(c)[start..start + rows.len()].copy_from_slice(&values[rows.clone()]);
                    continue;
                }
                let mut next = rows.start;
                for (row, value) in mini.rows().zip(&values).filter(|(row, _)| rows.contains(row)) {
                    (next..row).for_each(|absent| out.set_absent(c, start + absent - rows.start));
                    out.values_mut(c)[start + row - rows.start] = *value;
                    next = row + 1;
                }
                (next..rows.end).for_each(|absent| out.set_absent(c, start + absent - rows.start));
            }
        }
        Ok(true)
    }
}
