//! A Prometheus block as a source of samples, read where it is.
//!
//! Series of which all chunks in range have the same times are one group: the servers cut the chunks of a target's
//! series together, so that this finds most targets without decoding a sample. Where timestamps differ inside such a
//! chunk after all, the group's rows are the union.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use promontory_model::{Cancel, Columns, Matcher, ReadError, Select, TimeRange, Timestamp};
use rapidhash::fast::RandomState;
use roaring::RoaringBitmap;

use super::chunks::{Chunks, Samples};
use super::folder;
use super::index::ChunkMeta;
use super::index::read::Index;
use super::meta::Meta;
use super::tombstones::{self, Tombstones};
use crate::block::{BlockError, BlockMeta, BlockReader};
use crate::blocks::Block;
use crate::label_table::LabelTable;
use crate::source::{GroupColumns, SelectedGroup, SelectedSeries, Source};
use crate::vfs::Vfs;

/// Values of one read whose series have times of their own; blocks of servers stay far below.
const VALUES_MAX: usize = 1 << 27;
/// Series of one group.
const GROUP_COLUMNS_MAX: usize = 4096;

/// An open block; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct PrometheusBlock(Arc<Open>);

#[derive(Debug)]
struct Open {
    path: PathBuf,
    meta: BlockMeta,
    index: Arc<Index>,
    chunks: Arc<Chunks>,
    tombstones: Tombstones,
}

impl PrometheusBlock {
    /// Opens the block in the folder `path`. Reads its meta file, its tombstones, and the ends of the other files.
    pub(crate) fn open(vfs: &dyn Vfs, path: &Path) -> Result<Arc<Self>, ReadError> {
        let stored = Meta::read(vfs, path)?;
        let index = Arc::new(Index::open(vfs, path)?);
        let chunks = Arc::new(Chunks::open(vfs, path)?);
        let tombstones = tombstones::read(vfs, path)?;
        let meta = BlockMeta {
            ulid: stored.ulid,
            level: stored.level,
            range: stored.range,
            n_series: stored.n_series,
            n_groups: 0,
            n_mini_blocks: stored.n_chunks,
            n_samples: stored.n_samples,
            n_pages: 0,
            index_bytes: index.bytes(),
            data_bytes: chunks.bytes(),
            // What it replaces is sorted out among Prometheus' blocks alone.
            sources: Vec::new(),
        };
        Ok(Arc::new(Self(Arc::new(Open { path: path.to_owned(), meta, index, chunks, tombstones }))))
    }

    /// Number of the first series that passes.
    #[cfg(test)]
    pub(super) fn reference(&self, matchers: &[promontory_model::Matcher]) -> u32 {
        let found = self.0.index.matching(matchers, &promontory_model::Cancel::new()).unwrap();
        found.min().unwrap()
    }
}

impl Block for PrometheusBlock {
    fn meta(&self) -> &BlockMeta {
        &self.0.meta
    }

    fn path(&self) -> &Path {
        &self.0.path
    }

    fn native(self: Arc<Self>) -> Option<Arc<BlockReader>> {
        None
    }

    fn is_native(&self) -> bool {
        false
    }

    fn delete(&self, vfs: &dyn Vfs) -> Result<(), BlockError> {
        Ok(folder::delete(vfs, &self.0.path)?)
    }

    /// Writes the file in which Prometheus keeps its deletions.
    fn delete_samples(
        &self,
        vfs: &dyn Vfs,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        cancel: &Cancel,
    ) -> Result<Option<Arc<dyn Block>>, BlockError> {
        let inside = self.0.meta.range;
        let (mint, maxt) = (range.mint.max(inside.mint).0, range.maxt.min(inside.maxt).0);
        if mint > maxt {
            return Ok(None);
        }
        let mut tombstones = self.0.tombstones.clone();
        for matchers in selectors {
            for series in &self.0.index.matching(matchers, cancel)? {
                let spans = tombstones.entry(series).or_default();
                if !spans.iter().any(|(from, to)| *from <= mint && maxt <= *to) {
                    spans.retain(|(from, to)| *from < mint || maxt < *to);
                    spans.push((mint, maxt));
                }
            }
        }
        if tombstones == self.0.tombstones {
            return Ok(None);
        }
        tombstones::store(vfs, &self.0.path, &tombstones)?;
        let Open { path, meta, index, chunks, .. } = &*self.0;
        let (path, meta) = (path.clone(), meta.clone());
        let open = Open { path, meta, index: Arc::clone(index), chunks: Arc::clone(chunks), tombstones };
        Ok(Some(Arc::new(Self(Arc::new(open)))))
    }
}

/// Series with the same times of all chunks.
#[derive(Default)]
struct Draft {
    series: Vec<SelectedSeries>,
    columns: Vec<Column>,
}

impl Source for PrometheusBlock {
    fn range(&self) -> TimeRange {
        self.0.meta.range
    }

    fn select(&self, select: &Select<'_>, table: &mut LabelTable) -> Result<Vec<SelectedGroup>, ReadError> {
        if !self.range().overlaps(select.range) || select.range.is_empty() {
            return Ok(Vec::new());
        }
        let matching = self.0.index.matching(select.matchers, select.cancel)?;
        let mut by_times: HashMap<Box<[(i64, i64)]>, usize, RandomState> = HashMap::default();
        let mut drafts: Vec<Draft> = Vec::new();
        let mut times_of: Vec<Box<[(i64, i64)]>> = Vec::new();
        let (mut chunks, mut times) = (Vec::new(), Vec::new());
        for (n, reference) in matching.iter().enumerate() {
            if n % 1024 == 0 {
                select.cancel.check()?;
            }
            chunks.clear();
            let Some(labels) = self.0.index.series(reference, select.range, &mut chunks)? else { continue };
            times.clear();
            times.extend(chunks.iter().map(|c: &ChunkMeta| (c.mint, c.maxt)));
            let mut at = by_times.get(times.as_slice()).copied();
            if at.is_none_or(|at| drafts[at].columns.len() >= GROUP_COLUMNS_MAX) {
                at = Some(drafts.len());
                by_times.insert(times.clone().into(), drafts.len());
                times_of.push(times.clone().into());
                drafts.push(Draft::default());
            }
            let draft = &mut drafts[at.expect("set above")];
            draft.series.push(SelectedSeries { set: table.insert(&labels)?, column: draft.columns.len() as u32 });
            let chunks = chunks.iter().map(|c| c.reference).collect();
            draft.columns.push(Column { series: reference, chunks });
        }
        let group = |(draft, times): (Draft, Box<[(i64, i64)]>)| {
            let group = Arc::new(Group { block: Arc::clone(&self.0), times, columns: draft.columns });
            SelectedGroup { group, series: draft.series }
        };
        Ok(drafts.into_iter().zip(times_of).map(group).collect())
    }

    fn label_names(&self, select: &Select<'_>, out: &mut Vec<String>) -> Result<(), ReadError> {
        if !self.range().overlaps(select.range) {
            return Ok(());
        }
        let index = &self.0.index;
        if select.matchers.is_empty() {
            out.extend(index.names()?.map(str::to_owned));
            return Ok(());
        }
        let matching = index.matching(select.matchers, select.cancel)?;
        for name in index.names()? {
            select.cancel.check()?;
            let mut is_there = false;
            self.each_value(name, &matching, select, |_| {
                is_there = true;
                false
            })?;
            if is_there {
                out.push(name.to_owned());
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
        if !self.range().overlaps(select.range) {
            return Ok(());
        }
        let index = &self.0.index;
        if select.matchers.is_empty() {
            let mut left = limit;
            return index.values(name, |value, _| {
                out.extend((left > 0).then(|| value.to_owned()));
                left = left.saturating_sub(1);
                Ok(left > 0)
            });
        }
        let matching = index.matching(select.matchers, select.cancel)?;
        // Few series are asked for their value; for many, each value is asked for its series.
        if matching.len() < index.n_values(name)? as u64 {
            for series in matching {
                out.extend(index.labels(series)?.get(name).map(str::to_owned));
            }
            return Ok(());
        }
        let mut left = limit;
        self.each_value(name, &matching, select, |value| {
            out.extend((left > 0).then(|| value.to_owned()));
            left = left.saturating_sub(1);
            left > 0
        })
    }
}

impl PrometheusBlock {
    /// Calls `found` with the values of `name` that some of `matching` have, until it answers false.
    fn each_value(
        &self,
        name: &str,
        matching: &RoaringBitmap,
        select: &Select<'_>,
        mut found: impl FnMut(&str) -> bool,
    ) -> Result<(), ReadError> {
        let mut of_value = RoaringBitmap::new();
        self.0.index.values(name, |value, offset| {
            select.cancel.check()?;
            of_value.clear();
            self.0.index.add_postings(offset, &mut of_value)?;
            Ok(of_value.is_disjoint(matching) || found(value))
        })
    }
}

/// A series and its chunks in range.
struct Column {
    series: u32,
    chunks: Box<[u64]>,
}

/// The samples of series whose chunks have the same times.
struct Group {
    block: Arc<Open>,
    /// First and last time of each chunk, as many as each column has chunks.
    times: Box<[(i64, i64)]>,
    columns: Vec<Column>,
}

impl Group {
    fn chunks_in(&self, range: TimeRange) -> impl Iterator<Item = usize> {
        let overlaps = move |(mint, maxt)| TimeRange { mint: Timestamp(mint), maxt: Timestamp(maxt) }.overlaps(range);
        (0..self.times.len()).filter(move |i| overlaps(self.times[*i]))
    }

    /// The samples of one series in range, deleted ones left out.
    fn samples(&self, column: u32, range: TimeRange, out: &mut Samples) -> Result<(), ReadError> {
        out.clear();
        let Some(column) = self.columns.get(column as usize) else { return Ok(()) };
        for i in self.chunks_in(range) {
            self.block.chunks.read(column.chunks[i], out)?;
        }
        if !out.is_ascending() {
            out.sort();
        }
        let deleted = self.block.tombstones.get(&column.series).map_or(&[][..], Vec::as_slice);
        let is_inside = |t: &i64| range.contains(Timestamp(*t));
        let ends = [out.times.first(), out.times.last()];
        if deleted.is_empty() && ends.into_iter().flatten().all(is_inside) {
            return Ok(());
        }
        out.retain(|t| is_inside(&t) && !deleted.iter().any(|(mint, maxt)| (*mint..=*maxt).contains(&t)));
        Ok(())
    }
}

impl GroupColumns for Group {
    /// By the first series; a group whose series differ inside their chunks may give more rows.
    fn rows_max(&self, range: TimeRange) -> usize {
        let Some(first) = self.columns.first() else { return 0 };
        self.chunks_in(range).map(|i| self.block.chunks.n_samples(first.chunks[i]).max(1)).sum()
    }

    fn read(&self, columns: &[u32], range: TimeRange, out: &mut Columns) -> Result<(), ReadError> {
        let mut samples = Samples::default();
        let mut times = Vec::new();
        let mut strays = Vec::new();
        out.reset(columns.len(), []);
        for (i, &column) in columns.iter().enumerate() {
            self.samples(column, range, &mut samples)?;
            if i == 0 {
                times.clone_from(&samples.times);
                out.reset(columns.len(), times.iter().copied());
            }
            if samples.times == times {
                out.values_mut(i).copy_from_slice(&samples.values);
                for (row, h) in samples.histograms.drain(..) {
                    out.push_histogram_sample(i, row as usize, h);
                }
            } else {
                strays.push((i, std::mem::take(&mut samples)));
            }
        }
        if !strays.is_empty() {
            *out = with_strays(columns.len(), out, strays)?;
        }
        Ok(())
    }
}

/// The columns of `regular` with those in `strays` put in their place, over the union of all times.
fn with_strays(n_columns: usize, regular: &Columns, strays: Vec<(usize, Samples)>) -> Result<Columns, ReadError> {
    let mut times: Vec<i64> = regular.timestamps().to_vec();
    times.extend(strays.iter().flat_map(|(_, s)| s.times.iter().copied()));
    times.sort_unstable();
    times.dedup();
    let needed = times.len().saturating_mul(n_columns);
    if needed > VALUES_MAX {
        let limit = "values of series of a prometheus block that differ in their times";
        return Err(ReadError::Limit { limit, needed: needed as u64, allowed: VALUES_MAX as u64 });
    }
    let mut out = Columns::default();
    out.reset(n_columns, times.iter().copied());
    let rows_of = |own: &[i64]| {
        let mut at = 0;
        let find = |t: &i64| {
            at += times[at..].partition_point(|x| x < t);
            at
        };
        own.iter().map(find).collect::<Vec<usize>>()
    };
    let regular_rows = rows_of(regular.timestamps());
    let mut strays = strays.into_iter().peekable();
    for i in 0..n_columns {
        out.clear_column(i);
        if let Some((_, samples)) = strays.next_if(|(column, _)| *column == i) {
            let rows = rows_of(&samples.times);
            rows.iter().zip(&samples.values).for_each(|(row, v)| out.set_present(i, *row, *v));
            for (at, h) in samples.histograms {
                out.push_histogram_sample(i, rows[at as usize], h);
            }
            continue;
        }
        let column = regular.column(i);
        for (from, row) in regular_rows.iter().enumerate().filter(|(from, _)| column.is_present(*from)) {
            out.set_present(i, *row, column.values[from]);
        }
        for (from, h) in column.histogram_samples() {
            out.push_histogram_sample(i, regular_rows[from], h);
        }
    }
    Ok(out)
}
