//! The merge: finds which groups of the inputs continue each other, copies their mini-blocks, decodes only where
//! times overlap or spans are too short.
//!
//! Memory: about 50 bytes for each of at most 2 million series and inputs at once (or the groups that one series joins, if
//! they have more), the index of the output, the labels of one output group, one encoded span of it and one decoded
//! column; never samples of a whole block.

use std::borrow::Cow;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use promontory_model::{Cancel, HistogramSample, Labels, ReadError, TimeRange};
use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};
use roaring::RoaringBitmap;

use super::{CompactError, Compacted};
use crate::block::index::{GroupEntry, Span};
use crate::block::mini::{self, MiniBlock};
use crate::block::order::column_order;
use crate::block::{
    BlockReader, BlockWriter, GroupSink, OpenBlock, SPAN_ROWS_MAX, SpanReader, similar_to_the_one_before,
    verify_watched,
};
use crate::codec;
use crate::sample::Value;
use crate::tombstone::{Tombstones, contain, cover};
use crate::ulid::Ulid;
use crate::vfs::Vfs;

/// Spans shorter than this are joined with their neighbours.
const SPAN_ROWS_MIN: usize = 128;
/// Columns of a group that is put together from groups with different series.
const GROUP_COLUMNS_MAX: usize = 8192;

/// Series times inputs that are worked on at once; what a group is made of is never parted. Each takes about 50 bytes.
const SITES_MAX: u64 = 2_000_000;

/// How a merge is watched and bounded.
pub(crate) struct Job<'a> {
    /// Stops it; there is no output then.
    pub(crate) cancel: &'a Cancel,
    /// Called with the bytes of blocks that have been worked through since the last call; may wait.
    pub(crate) progress: &'a dyn Fn(u64),
    /// Called with the finished folder before it gets its name; an error stops that.
    pub(crate) before_publish: &'a mut dyn FnMut(&Path) -> Result<(), CompactError>,
}

/// Bytes that [`compact`] reports as progress in all, about: its inputs are read, its output is written and checked.
pub(crate) fn work_bytes(inputs: &[Arc<BlockReader>]) -> u64 {
    inputs.iter().fold(0u64, |sum, b| sum.saturating_add(b.meta().data_bytes.saturating_mul(2)))
}

/// Merges `inputs` into the block `output` in the folder `dir`, leaving out deleted samples. Where two inputs have a
/// sample of one series at one time, that of the earlier input stays, so list older blocks first. There is no output
/// when no sample is left.
///
/// # Errors
/// [`CompactError`]; there is no output then and the inputs are as before.
pub fn compact(
    vfs: &Arc<dyn Vfs>,
    dir: &Path,
    inputs: &[Arc<BlockReader>],
    output: Ulid,
    cancel: &Cancel,
) -> Result<Compacted, CompactError> {
    let job = Job { cancel, progress: &|_| {}, before_publish: &mut |_| Ok(()) };
    compact_within(vfs, dir, inputs, output, job, SITES_MAX)
}

/// As [`compact`], watched: for a database in use.
pub(crate) fn compact_watched(
    vfs: &Arc<dyn Vfs>,
    dir: &Path,
    inputs: &[Arc<BlockReader>],
    output: Ulid,
    job: Job<'_>,
) -> Result<Compacted, CompactError> {
    compact_within(vfs, dir, inputs, output, job, SITES_MAX)
}

/// As [`compact_watched`], with another bound on the series that are worked on at once.
pub(super) fn compact_within(
    vfs: &Arc<dyn Vfs>,
    dir: &Path,
    inputs: &[Arc<BlockReader>],
    output: Ulid,
    job: Job<'_>,
    sites_max: u64,
) -> Result<Compacted, CompactError> {
    let Job { cancel, progress, before_publish } = job;
    let blocks: Vec<Input<'_>> =
        inputs.iter().map(|b| Input { block: b.inner(), tombstones: b.tombstones() }).collect();
    let level = blocks.iter().map(|b| b.block.meta.level).max().unwrap_or(0).saturating_add(1);
    let mut writer = BlockWriter::new(Arc::clone(vfs), dir, output, level)?;
    let mut sources: Vec<Ulid> =
        blocks.iter().flat_map(|b| b.block.meta.sources.iter().copied().chain([b.block.meta.ulid])).collect();
    sources.sort_unstable();
    sources.dedup();
    writer.set_sources(sources);
    let mut counts = Counts::default();
    let components = Components::find(&blocks, cancel, sites_max)?;
    for batch in 0..components.n_batches {
        let sites = components.sites(&blocks, batch, cancel)?;
        for group in components.output_groups(&sites) {
            cancel.check().map_err(ReadError::from)?;
            let merge = GroupMerge::new(&blocks, &components, &group, cancel)?;
            merge.write(&mut writer, &mut counts, cancel, progress)?;
        }
    }
    for input in &blocks {
        counts.n_deleted += input.n_in_dropped_series(cancel)?;
    }
    let inputs = blocks.iter().map(|b| b.block.meta.ulid).collect();
    let n_input = blocks.iter().fold(0u64, |n, b| n.saturating_add(b.block.meta.n_samples));
    let n_samples = n_input.saturating_sub(counts.n_duplicates).saturating_sub(counts.n_deleted);
    let mut meta = None;
    if n_samples > 0 || writer.n_samples() > 0 {
        meta = Some(writer.finish_checked(|path| {
            let report = verify_watched(&**vfs, path, cancel, progress)?;
            let mismatch = |what, expected, found| CompactError::Mismatch { ulid: output, what, expected, found };
            if report.meta.n_samples != n_samples {
                return Err(mismatch("samples", n_samples, report.meta.n_samples));
            }
            if report.meta.n_series != components.n_series {
                return Err(mismatch("series", components.n_series, report.meta.n_series));
            }
            before_publish(path)
        })?);
    }
    let Counts { n_copied, n_rewritten, n_duplicates, n_deleted } = counts;
    Ok(Compacted { meta, inputs, n_copied, n_rewritten, n_duplicates, n_deleted })
}

/// An input and what of it is deleted.
#[derive(Clone, Copy)]
struct Input<'a> {
    block: &'a OpenBlock,
    tombstones: &'a Tombstones,
}

impl Input<'_> {
    /// Whether all samples of a series are deleted, so that it is not part of the output.
    fn is_dropped(&self, series: u32) -> bool {
        !self.tombstones.is_empty() && cover(&self.tombstones.of(0, series), self.block.meta.range)
    }

    /// Samples of the series that are not part of the output.
    fn n_in_dropped_series(&self, cancel: &Cancel) -> Result<u64, CompactError> {
        if self.tombstones.is_empty() {
            return Ok(0);
        }
        let mut dropped: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        let index = self.block.index()?;
        index.for_series(&index.all(), cancel, |local, row| {
            if self.is_dropped(local) {
                dropped.entry(row.group).or_default().push(row.column);
            }
        })?;
        let mut n = 0;
        for (group, columns) in dropped {
            let entry = self.block.group(group)?;
            for i in 0..entry.spans.len() {
                cancel.check().map_err(ReadError::from)?;
                let mut reader = self.block.span(&entry, i);
                for column in &columns {
                    n += reader.mini_block(*column as usize)?.map_or(0, |(_, mini)| mini.count() as u64);
                }
            }
        }
        Ok(n)
    }
}

#[derive(Default)]
struct Counts {
    n_copied: u64,
    n_rewritten: u64,
    n_duplicates: u64,
    n_deleted: u64,
}

/// One series in one group of one input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Site {
    /// Number of the least group that is joined with this one through shared series.
    component: u32,
    /// Number of the label set in its batch.
    series: u32,
    /// Number of the group over all inputs.
    node: u32,
    column: u32,
    /// Number of the series in its block.
    local: u32,
}

/// Which groups of the inputs are joined through shared series, and in which batch they are worked on.
struct Components {
    /// Component of each group.
    of_node: Vec<u32>,
    /// Batch of each group.
    batch_of: Vec<u32>,
    n_batches: u32,
    /// First node of each input, then the number of nodes.
    first_node: Vec<u32>,
    /// Distinct series.
    n_series: u64,
}

/// The sites of one output group, sorted by series and node.
type OutputGroup = Vec<Site>;

fn root(parent: &mut [u32], mut node: u32) -> u32 {
    while parent[node as usize] != node {
        let above = parent[parent[node as usize] as usize];
        parent[node as usize] = above;
        node = above;
    }
    node
}

impl Components {
    /// Looks at all series, as many at once as `sites_max` allows: one part of the fingerprints after the other.
    fn find(inputs: &[Input<'_>], cancel: &Cancel, sites_max: u64) -> Result<Self, ReadError> {
        let mut first_node = vec![0u32];
        for input in inputs {
            let base = *first_node.last().expect("starts with one");
            first_node.push(base.saturating_add(input.block.index()?.n_groups));
        }
        let n_nodes = *first_node.last().expect("starts with one");
        let n_sites = inputs.iter().fold(0u64, |n, i| n.saturating_add(i.block.meta.n_series));
        let n_parts = n_sites.div_ceil(sites_max.max(1)).max(1);
        let mut parent: Vec<u32> = (0..n_nodes).collect();
        let mut sites_of = vec![0u64; n_nodes as usize];
        let mut n_series = 0;
        let mut seen: HashMap<u128, u32> = HashMap::new();
        for part in 0..n_parts {
            seen.clear();
            for (input, base) in std::iter::zip(inputs, &first_node) {
                let index = input.block.index()?;
                index.for_series(&index.all(), cancel, |local, entry| {
                    let fingerprint = fingerprint(&entry.labels);
                    if (fingerprint as u64) % n_parts != part || input.is_dropped(local) {
                        return;
                    }
                    let node = base + entry.group;
                    sites_of[node as usize] += 1;
                    let node = root(&mut parent, node);
                    match seen.entry(fingerprint) {
                        Entry::Vacant(free) => {
                            free.insert(node);
                        }
                        Entry::Occupied(other) => {
                            let other = root(&mut parent, *other.get());
                            // The least number wins, so that groups keep the order of the first input.
                            parent[node.max(other) as usize] = node.min(other);
                        }
                    }
                })?;
            }
            n_series += seen.len() as u64;
        }
        drop(seen);
        let of_node: Vec<u32> = (0..n_nodes).map(|node| root(&mut parent, node)).collect();
        let mut sites_of_component = vec![0u64; n_nodes as usize];
        for (node, component) in of_node.iter().enumerate() {
            sites_of_component[*component as usize] += sites_of[node];
        }
        let mut batch_of_component = vec![0u32; n_nodes as usize];
        let (mut batch, mut in_batch) = (0, 0u64);
        for (component, n) in sites_of_component.iter().enumerate().filter(|(_, n)| **n > 0) {
            if in_batch > 0 && in_batch + n > sites_max {
                (batch, in_batch) = (batch + 1, 0);
            }
            in_batch += n;
            batch_of_component[component] = batch;
        }
        let batch_of = of_node.iter().map(|c| batch_of_component[*c as usize]).collect();
        Ok(Self { of_node, batch_of, n_batches: batch + 1, first_node, n_series })
    }

    /// The sites of one batch, sorted.
    fn sites(&self, inputs: &[Input<'_>], batch: u32, cancel: &Cancel) -> Result<Vec<Site>, ReadError> {
        let mut numbers: HashMap<u128, u32> = HashMap::new();
        let mut sites = Vec::new();
        for (input, base) in std::iter::zip(inputs, &self.first_node) {
            let index = input.block.index()?;
            index.for_series(&index.all(), cancel, |local, entry| {
                let node = base + entry.group;
                if self.batch_of[node as usize] != batch || input.is_dropped(local) {
                    return;
                }
                let next = numbers.len() as u32;
                let series = *numbers.entry(fingerprint(&entry.labels)).or_insert(next);
                let component = self.of_node[node as usize];
                sites.push(Site { component, series, node, column: entry.column, local });
            })?;
        }
        sites.sort_unstable();
        Ok(sites)
    }

    fn input_of(&self, node: u32) -> usize {
        self.first_node.partition_point(|first| *first <= node) - 1
    }

    fn output_groups<'s>(&self, sites: &'s [Site]) -> impl Iterator<Item = OutputGroup> + use<'s, '_> {
        sites.chunk_by(|a, b| a.component == b.component).flat_map(|of_component| self.split(of_component))
    }

    /// One group when each input has one of these groups at most, so that rows continue each other. Otherwise one group
    /// for each set of groups that some series share: these have the same rows in every input.
    fn split(&self, component: &[Site]) -> Vec<OutputGroup> {
        let mut nodes: Vec<u32> = component.iter().map(|s| s.node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        let one_each = nodes.windows(2).all(|w| self.input_of(w[0]) != self.input_of(w[1]));
        let of_series = || component.chunk_by(|a, b| a.series == b.series);
        if one_each && of_series().count() <= GROUP_COLUMNS_MAX {
            return vec![component.to_vec()];
        }
        let mut by_nodes: BTreeMap<Vec<u32>, OutputGroup> = BTreeMap::new();
        for sites in of_series() {
            let key = sites.iter().map(|s| s.node).collect();
            by_nodes.entry(key).or_default().extend_from_slice(sites);
        }
        by_nodes.into_values().collect()
    }
}

/// 128 bits of the label set. Sets with equal bits are compared before they are merged.
fn fingerprint(labels: &Labels) -> u128 {
    const LOW: RapidSecrets = RapidSecrets::seed(0x5072_6f6d);
    const HIGH: RapidSecrets = RapidSecrets::seed(0x6f6e_746f);
    let hash = |secrets: &RapidSecrets| u128::from(rapidhash_v3_seeded(labels.as_bytes(), secrets));
    hash(&HIGH) << 64 | hash(&LOW)
}

/// A group of an input that an output group is made of.
struct Part<'a> {
    block: &'a OpenBlock,
    entry: GroupEntry,
    /// For each output column the column here.
    columns: Vec<Option<u32>>,
    /// Times of the deleted samples of output columns.
    deleted: HashMap<usize, Vec<TimeRange>>,
}

/// One output group.
struct GroupMerge<'a> {
    /// In the order of the inputs.
    parts: Vec<Part<'a>>,
    columns: Vec<Labels>,
    /// Of each column whether it may be written relative to the one before.
    similar: Vec<bool>,
}

impl<'a> GroupMerge<'a> {
    fn new(inputs: &[Input<'a>], all: &Components, group: &OutputGroup, cancel: &Cancel) -> Result<Self, CompactError> {
        let mut by_node: BTreeMap<u32, Vec<Site>> = BTreeMap::new();
        for site in group {
            by_node.entry(site.node).or_default().push(*site);
        }
        let mut labels: BTreeMap<u32, Labels> = BTreeMap::new();
        for (node, sites) in &by_node {
            let numbers: RoaringBitmap = sites.iter().map(|s| s.local).collect();
            let series_of: HashMap<u32, u32> = sites.iter().map(|s| (s.local, s.series)).collect();
            let mut n_different = 0;
            let block = inputs[all.input_of(*node)].block;
            let index = block.index()?;
            index.for_series(&numbers, cancel, |local, entry| {
                let known = labels.entry(series_of[&local]).or_insert_with(|| entry.labels.clone());
                n_different += u64::from(*known != entry.labels);
            })?;
            if n_different > 0 {
                let ulid = block.meta.ulid;
                let what = "label sets that differ in spite of equal fingerprints";
                return Err(CompactError::Mismatch { ulid, what, expected: 0, found: n_different });
            }
        }
        let mut columns: Vec<(Labels, u32)> = labels.into_iter().map(|(series, labels)| (labels, series)).collect();
        columns.sort_unstable_by(|(a, _), (b, _)| column_order(a, b));
        let column_of: HashMap<u32, usize> = columns.iter().enumerate().map(|(i, (_, series))| (*series, i)).collect();
        let mut parts = Vec::with_capacity(by_node.len());
        for (node, sites) in by_node {
            let input = all.input_of(node);
            let Input { block, tombstones } = inputs[input];
            let entry = block.group(node - all.first_node[input])?;
            let mut map = vec![None; columns.len()];
            let mut deleted = HashMap::new();
            for site in sites {
                let column = column_of[&site.series];
                map[column] = Some(site.column);
                let ranges = tombstones.of(0, site.local);
                if !ranges.is_empty() {
                    deleted.insert(column, ranges);
                }
            }
            parts.push(Part { block, entry, columns: map, deleted });
        }
        let columns: Vec<Labels> = columns.into_iter().map(|(labels, _)| labels).collect();
        Ok(Self { parts, similar: similar_to_the_one_before(&columns), columns })
    }

    fn write(
        &self,
        writer: &mut BlockWriter,
        counts: &mut Counts,
        cancel: &Cancel,
        progress: &dyn Fn(u64),
    ) -> Result<(), CompactError> {
        let mut spans: Vec<SpanAt> = Vec::new();
        for (part, p) in self.parts.iter().enumerate() {
            spans.extend((0..p.entry.spans.len()).map(|span| SpanAt { part, span }));
        }
        spans.sort_by_key(|at| (self.span(*at).mint, at.part));
        let mut sink = writer.begin_group(self.columns.clone());
        let mut rest = spans.as_slice();
        while !rest.is_empty() {
            cancel.check().map_err(ReadError::from)?;
            let (run, after) = rest.split_at(self.run_len(rest));
            match run {
                [one] if !self.has_deleted(*one) && self.may_copy(*one)? => self.copy(*one, &mut sink, counts)?,
                several => self.rewrite(several, &mut sink, counts, cancel)?,
            }
            progress(run.iter().map(|at| self.span(*at).bytes()).sum());
            rest = after;
        }
        Ok(sink.finish()?)
    }

    /// Whether samples inside the times of a span are deleted.
    fn has_deleted(&self, at: SpanAt) -> bool {
        let (part, span) = (&self.parts[at.part], self.span(at));
        let times = TimeRange::new(span.mint, span.maxt);
        part.deleted.values().flatten().any(|range| range.overlaps(times))
    }

    fn span(&self, at: SpanAt) -> &Span {
        &self.parts[at.part].entry.spans[at.span]
    }

    /// How many of the first spans have to be written together: those that overlap, and short neighbours.
    fn run_len(&self, spans: &[SpanAt]) -> usize {
        let first = self.span(spans[0]);
        let (mut maxt, mut rows) = (first.maxt, first.rows);
        let mut len = 1;
        for at in &spans[1..] {
            let span = self.span(*at);
            let overlaps = span.mint <= maxt;
            let both_short = rows < SPAN_ROWS_MIN && span.rows < SPAN_ROWS_MIN;
            if !overlaps && !both_short {
                break;
            }
            maxt = maxt.max(span.maxt);
            rows += span.rows;
            len += 1;
        }
        len
    }

    fn reader(&self, at: SpanAt) -> SpanReader<'_> {
        let part = &self.parts[at.part];
        part.block.span(&part.entry, at.span)
    }

    /// Whether all columns of the input are there, in their order; others may lie between them.
    fn is_whole(&self, at: SpanAt) -> bool {
        let part = &self.parts[at.part];
        part.columns.iter().flatten().copied().eq(0..part.entry.n_columns as u32)
    }

    /// Whether no mini-block is told from one that may end up in another group or page.
    fn may_copy(&self, at: SpanAt) -> Result<bool, ReadError> {
        if self.is_whole(at) {
            return Ok(true);
        }
        let mut reader = self.reader(at);
        for column in self.parts[at.part].columns.iter().flatten() {
            if reader.mini_block(*column as usize)?.is_some_and(|(_, mini)| mini.prediction().is_some()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn copy(&self, at: SpanAt, sink: &mut GroupSink<'_>, counts: &mut Counts) -> Result<(), CompactError> {
        let (part, span) = (&self.parts[at.part], self.span(at));
        let mut reader = self.reader(at);
        let mut minis: Vec<(Cow<'_, [u8]>, usize)> = Vec::with_capacity(part.columns.len());
        let mut last = None;
        for column in &part.columns {
            let column = column.map(|column| column as usize);
            let found = match column {
                Some(column) => reader.mini_block(column)?.zip(reader.encoded(column)?),
                None => None,
            };
            let Some(((_, mini), bytes)) = found else {
                minis.push((Cow::Borrowed(&[]), 0));
                continue;
            };
            // What a relative mini-block stands on may belong to another output group.
            let bytes = match column {
                Some(column) if mini.is_relative() && Some(reader.with_samples_before(column, 1)?) != last => {
                    counts.n_rewritten += 1;
                    Cow::Owned(standing_alone(&mut reader, column, span.rows, &mini)?)
                }
                _ => {
                    counts.n_copied += 1;
                    bytes
                }
            };
            minis.push((bytes, mini.count()));
            last = column;
        }
        // Other series of the input's group may be the only ones with samples here.
        if minis.iter().all(|(bytes, _)| bytes.is_empty()) {
            return Ok(());
        }
        sink.begin_span(span.mint, span.maxt, span.rows, reader.encoded_timestamps()?.1);
        let is_whole = self.is_whole(at);
        for (column, (bytes, count)) in part.columns.iter().zip(minis) {
            // A whole span keeps its pages, for mini-blocks that are told from others stand in the page of these.
            let begins_page = match column {
                Some(column) if is_whole => reader.is_first_of_page(*column as usize)?,
                _ => !is_whole && sink.is_page_full() && !mini::is_relative(&bytes),
            };
            sink.push_mini_block(&bytes, count, begins_page)?;
        }
        Ok(sink.end_span()?)
    }

    fn rewrite(
        &self,
        run: &[SpanAt],
        sink: &mut GroupSink<'_>,
        counts: &mut Counts,
        cancel: &Cancel,
    ) -> Result<(), CompactError> {
        let mut sources = Vec::with_capacity(run.len());
        let mut union = Vec::new();
        for at in run {
            let mut times = Vec::new();
            self.reader(*at).timestamps(&mut times)?;
            union.extend_from_slice(&times);
            sources.push(Source { at: *at, times, reader: self.reader(*at) });
        }
        // The sample of the earliest input stays, whatever the order of the spans.
        sources.sort_by_key(|s| (s.at.part, s.at.span));
        union.sort_unstable();
        union.dedup();
        let rows = union.len().div_ceil(union.len().div_ceil(SPAN_ROWS_MAX));
        for times in union.chunks(rows) {
            cancel.check().map_err(ReadError::from)?;
            self.rewrite_span(times, &mut sources, sink, counts)?;
        }
        Ok(())
    }

    fn rewrite_span(
        &self,
        times: &[i64],
        sources: &mut [Source<'_>],
        sink: &mut GroupSink<'_>,
        counts: &mut Counts,
    ) -> Result<(), CompactError> {
        let (mint, maxt) = (times[0], times[times.len() - 1]);
        let (mut bytes, mut ends, mut n_values) = (Vec::new(), Vec::new(), Vec::new());
        let mut minis = mini::Columns::default();
        let (mut dense, mut decoded, mut values) = (vec![0.0; times.len()], Vec::new(), Vec::new());
        let mut present = vec![0u64; times.len().div_ceil(64)];
        for column in 0..self.columns.len() {
            present.fill(0);
            let mut histograms: BTreeMap<usize, HistogramSample> = BTreeMap::new();
            for source in sources.iter_mut().filter(|s| s.times[0] <= maxt && s.times[s.times.len() - 1] >= mint) {
                let part = &self.parts[source.at.part];
                let Some(local) = part.columns[column] else {
                    continue;
                };
                let Some((base, mini)) = source.reader.mini_block(local as usize)? else {
                    continue;
                };
                let malformed = |e| part.block.data_file().malformed(base, e);
                decoded.clear();
                let deleted = part.deleted.get(&column).map_or(&[][..], Vec::as_slice);
                source.reader.values(local as usize, &mut decoded)?;
                let floats = mini.rows().zip(decoded.iter().map(|v| Value::Float(*v)));
                let (mut rows_of, mut samples) = (Vec::new(), Vec::new());
                mini.histograms(&mut rows_of, &mut samples).map_err(malformed)?;
                for (row, value) in floats.chain(rows_of.into_iter().zip(samples.into_iter().map(Value::Histogram))) {
                    let t = source.times[row];
                    if !(mint..=maxt).contains(&t) {
                        continue;
                    }
                    if !deleted.is_empty() && contain(deleted, t) {
                        counts.n_deleted += 1;
                        continue;
                    }
                    let at = times.partition_point(|x| *x < t);
                    if present[at / 64] >> (at % 64) & 1 == 1 || histograms.contains_key(&at) {
                        counts.n_duplicates += 1;
                        continue;
                    }
                    match value {
                        Value::Float(value) => {
                            present[at / 64] |= 1 << (at % 64);
                            dense[at] = value;
                        }
                        Value::Histogram(sample) => drop(histograms.insert(at, sample)),
                    }
                }
            }
            values.clear();
            values.extend((0..times.len()).filter(|r| present[r / 64] >> (r % 64) & 1 == 1).map(|r| dense[r]));
            let (rows_of, mut samples): (Vec<usize>, Vec<HistogramSample>) = histograms.into_iter().unzip();
            let both = (&*rows_of, &mut *samples);
            let begins_page = minis.put(self.similar[column], times.len(), Some(&present), &values, both, &mut bytes);
            ends.push((bytes.len(), begins_page));
            n_values.push(values.len() + samples.len());
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let mut encoded = Vec::new();
        codec::encode_timestamps(times, &mut encoded);
        sink.begin_span(mint, maxt, times.len(), &encoded);
        let mut start = 0;
        for ((end, begins_page), n) in ends.into_iter().zip(n_values) {
            counts.n_rewritten += u64::from(n > 0);
            sink.push_mini_block(&bytes[start..end], n, begins_page)?;
            start = end;
        }
        Ok(sink.end_span()?)
    }
}

/// The mini-block of a column as it is without others.
fn standing_alone(
    reader: &mut SpanReader<'_>,
    column: usize,
    rows: usize,
    mini: &MiniBlock<'_>,
) -> Result<Vec<u8>, ReadError> {
    let (mut values, mut bytes) = (Vec::new(), Vec::new());
    reader.values(column, &mut values)?;
    let mut present = vec![0u64; rows.div_ceil(64)];
    mini.rows().for_each(|row| present[row / 64] |= 1 << (row % 64));
    mini::put(rows, Some(&present), &values, &mut bytes);
    Ok(bytes)
}

/// A span of a part.
#[derive(Debug, Clone, Copy)]
struct SpanAt {
    part: usize,
    span: usize,
}

/// A span that is being rewritten.
struct Source<'a> {
    at: SpanAt,
    times: Vec<i64>,
    reader: SpanReader<'a>,
}
