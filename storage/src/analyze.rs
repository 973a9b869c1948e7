//! Where series, samples and bytes of a database go: by metric, label and label pair.
//!
//! Head and blocks are looked at one after the other; a series that several of them hold counts once. Blocks of the
//! own format are measured without decoding a value, everything else is encoded as a block would hold it.
//!
//! Memory: about 100 bytes per series and as much per label pair.

use std::collections::HashMap;
use std::sync::Arc;

use promontory_model::{Cancel, Columns, Labels, ReadError, Select, TimeRange};
use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};

use crate::block::{BlockReader, SPAN_ROWS_MAX, mini};
use crate::codec;
use crate::db::Db;
use crate::label_table::LabelTable;
use crate::source::{SelectedGroup, Source};
use crate::ulid::Ulid;

/// A series that begins later than this after the first sample has appeared, one that ends earlier before the last is
/// gone: what a query still finds for a series without a newer sample.
const CHURN_MS: i64 = 5 * 60_000;
/// Columns that are read at once where they have to be decoded.
const COLUMNS_AT_ONCE: usize = 64;
/// Spans between two reports of progress.
const SPANS_AT_ONCE: usize = 64;

/// Where series, samples and bytes go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Analysis {
    /// Times of the samples; empty when there are none.
    pub range: TimeRange,
    /// Different series.
    pub n_series: u64,
    /// Samples; one that two parts hold counts twice.
    pub n_samples: u64,
    /// Series that begin later than the first sample, by more than five minutes.
    pub n_appeared: u64,
    /// Series that end earlier than the last sample, by more than five minutes.
    pub n_gone: u64,
    /// Label pairs.
    pub n_pairs: u64,
    /// Head and blocks.
    pub parts: Vec<PartUsage>,
    /// All metrics, by name.
    pub metrics: Vec<MetricUsage>,
    /// All label names, by name.
    pub names: Vec<NameUsage>,
    /// Label pairs with most series.
    pub pairs_by_series: Vec<PairUsage>,
    /// Label pairs with most series that appeared or are gone.
    pub pairs_by_churn: Vec<PairUsage>,
}

/// The head or one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartUsage {
    /// Block; `None` for the head.
    pub block: Option<Ulid>,
    /// Whether the bytes are those on disk, and not an estimate.
    pub is_measured: bool,
    /// Times of the samples.
    pub range: TimeRange,
    /// Series.
    pub n_series: u64,
    /// Samples.
    pub n_samples: u64,
    /// Bytes of values.
    pub value_bytes: u64,
    /// Bytes of timestamps.
    pub timestamp_bytes: u64,
    /// Bytes of dictionaries, postings, the table of series and the directory of groups, of a packed index their shares;
    /// 0 where not measured.
    pub index_bytes: [u64; 4],
}

impl PartUsage {
    fn of(block: Option<Ulid>) -> Self {
        Self {
            block,
            is_measured: false,
            range: EMPTY,
            n_series: 0,
            n_samples: 0,
            value_bytes: 0,
            timestamp_bytes: 0,
            index_bytes: [0; 4],
        }
    }
}

/// What the series of one metric take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetricUsage {
    /// Metric name; empty for series without one.
    pub metric: String,
    /// Series.
    pub n_series: u64,
    /// Samples.
    pub n_samples: u64,
    /// Bytes of values.
    pub bytes: u64,
    /// Series that appeared.
    pub n_appeared: u64,
    /// Series that are gone.
    pub n_gone: u64,
}

/// How many values a label name has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NameUsage {
    /// Label name.
    pub name: String,
    /// Different values.
    pub n_values: u64,
    /// Series with the label.
    pub n_series: u64,
    /// Bytes of the values, each counted once.
    pub value_bytes: u64,
}

/// How many series have a label pair.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PairUsage {
    /// Label name.
    pub name: String,
    /// Value.
    pub value: String,
    /// Series.
    pub n_series: u64,
    /// Series that appeared or are gone.
    pub n_churned: u64,
}

impl Db {
    /// Measures head and blocks, or the block `only`. Lists of pairs are cut to `limit`. `progress` gets the part that
    /// is done, between 0 and 1, and the samples until then.
    ///
    /// # Errors
    /// [`ReadError`] when something is damaged or the work cancelled.
    pub fn analyze(
        &self,
        only: Option<Ulid>,
        limit: usize,
        progress: &mut dyn FnMut(f64, u64),
        cancel: &Cancel,
    ) -> Result<Analysis, ReadError> {
        let snapshot = self.db_snapshot();
        let blocks: Vec<_> =
            snapshot.blocks().iter().filter(|b| only.is_none_or(|ulid| b.meta().ulid == ulid)).cloned().collect();
        let weight = |native: Option<&Arc<BlockReader>>, n: u64| native.map_or(n, |b| b.meta().data_bytes);
        let natives: Vec<_> = blocks.iter().map(|b| Arc::clone(b).native()).collect();
        let mut weights: Vec<u64> =
            natives.iter().zip(&blocks).map(|(n, b)| weight(n.as_ref(), b.meta().bytes())).collect();
        weights.push(if only.is_none() { self.status().head_segment_bytes + 1 } else { 0 });
        let total = weights.iter().sum::<u64>().max(1) as f64;
        let mut found = Found::default();
        let mut behind = 0;
        for ((block, native), weight) in blocks.iter().zip(&natives).zip(&weights) {
            let part = PartUsage::of(Some(block.meta().ulid));
            let mut report = |done: f64, n: u64| progress((behind as f64 + done * *weight as f64) / total, n);
            match native {
                Some(native) => found.add_native(native, part, &mut report, cancel)?,
                None => found.add_source(&**block, part, &mut report, cancel)?,
            }
            behind += weight;
        }
        if only.is_none() {
            let head = weights.last().copied().unwrap_or(0) as f64;
            let mut report = |done: f64, n: u64| progress((behind as f64 + done * head) / total, n);
            found.add_source(snapshot.head(), PartUsage::of(None), &mut report, cancel)?;
        }
        Ok(found.finish(limit))
    }
}

/// A series over all parts.
struct Seen {
    first: i64,
    last: i64,
    metric: u32,
    /// Where its pairs begin in the arena, and how many they are.
    pairs: (u32, u16),
}

#[derive(Default)]
struct Name {
    name: String,
    values: HashMap<Box<str>, u32, rapidhash::fast::RandomState>,
    n_series: u64,
}

#[derive(Default)]
struct Found {
    /// By a hash of 128 bits of the labels: two different sets have the same one with a chance of 1 in 10^26 among a
    /// million series.
    numbers: HashMap<u128, u32, rapidhash::fast::RandomState>,
    seen: Vec<Seen>,
    pair_ids: Vec<u32>,
    names: Vec<Name>,
    name_numbers: HashMap<String, usize>,
    /// Number of the name of each pair.
    pairs: Vec<u32>,
    metrics: Vec<MetricUsage>,
    metric_numbers: HashMap<String, u32>,
    parts: Vec<PartUsage>,
}

impl Found {
    fn series(&mut self, labels: &Labels) -> u32 {
        let (a, b) = (RapidSecrets::seed(1), RapidSecrets::seed(2));
        let half = |secrets| u128::from(rapidhash_v3_seeded(labels.as_bytes(), secrets));
        let next = self.seen.len() as u32;
        let number = *self.numbers.entry(half(&a) << 64 | half(&b)).or_insert(next);
        if number < next {
            return number;
        }
        let metric = labels.metric_name();
        let metric = self.metric_numbers.get(metric).copied().unwrap_or_else(|| {
            let number = self.metrics.len() as u32;
            self.metrics.push(MetricUsage { metric: metric.to_owned(), ..MetricUsage::default() });
            self.metric_numbers.insert(metric.to_owned(), number);
            number
        });
        self.metrics[metric as usize].n_series += 1;
        let start = self.pair_ids.len() as u32;
        for (name, value) in labels {
            let number = self.name_numbers.get(name).copied().unwrap_or_else(|| {
                self.names.push(Name { name: name.to_owned(), ..Name::default() });
                self.name_numbers.insert(name.to_owned(), self.names.len() - 1);
                self.names.len() - 1
            });
            let name = &mut self.names[number];
            name.n_series += 1;
            let id = name.values.get(value).copied().unwrap_or_else(|| {
                let id = self.pairs.len() as u32;
                self.pairs.push(number as u32);
                name.values.insert(value.into(), id);
                id
            });
            self.pair_ids.push(id);
        }
        let pairs = (start, u16::try_from(labels.len()).unwrap_or(u16::MAX));
        self.seen.push(Seen { first: i64::MAX, last: i64::MIN, metric, pairs });
        number
    }

    /// Notes samples of a series.
    fn note(&mut self, part: &mut PartUsage, series: u32, (first, last): (i64, i64), n_samples: u64, bytes: u64) {
        let seen = &mut self.seen[series as usize];
        (seen.first, seen.last) = (seen.first.min(first), seen.last.max(last));
        let metric = &mut self.metrics[seen.metric as usize];
        metric.n_samples += n_samples;
        metric.bytes += bytes;
        part.n_samples += n_samples;
        part.value_bytes += bytes;
        part.range = TimeRange::new(part.range.mint.0.min(first), part.range.maxt.0.max(last));
    }

    fn add_native(
        &mut self,
        block: &BlockReader,
        mut part: PartUsage,
        progress: &mut dyn FnMut(f64, u64),
        cancel: &Cancel,
    ) -> Result<(), ReadError> {
        let block = block.inner();
        let index = block.index()?;
        (part.is_measured, part.index_bytes) = (true, index.section_bytes(block.meta.index_bytes));
        let mut columns: Vec<Vec<(u32, u32)>> = vec![Vec::new(); index.n_groups as usize];
        index.for_series(&index.all(), cancel, |_, entry| {
            columns[entry.group as usize].push((entry.column, self.series(&entry.labels)));
        })?;
        let n_groups = columns.len();
        let mut times = Vec::new();
        for (group, mut columns) in columns.into_iter().enumerate() {
            cancel.check()?;
            columns.sort_unstable();
            part.n_series += columns.len() as u64;
            let entry = block.group(group as u32)?;
            for i in 0..entry.spans.len() {
                if i % SPANS_AT_ONCE == 0 {
                    let within = i as f64 / entry.spans.len() as f64;
                    progress((group as f64 + within) / n_groups as f64, part.n_samples);
                }
                let mut span = block.span(&entry, i);
                part.timestamp_bytes += span.encoded_timestamps()?.1.len() as u64;
                times.clear();
                for (column, series) in &columns {
                    let Some(bytes) = span.encoded(*column as usize)? else { continue };
                    let Some((_, mini)) = span.mini_block(*column as usize)? else { continue };
                    let (mut first, mut last) = (entry.spans[i].mint, entry.spans[i].maxt);
                    if mini.count() < entry.spans[i].rows && !mini.has_histograms() {
                        if times.is_empty() {
                            span.timestamps(&mut times)?;
                        }
                        let mut rows = mini.rows();
                        let row = rows.next().unwrap_or(0);
                        (first, last) = (times[row], times[rows.last().unwrap_or(row)]);
                    }
                    self.note(&mut part, *series, (first, last), mini.count() as u64, bytes.len() as u64);
                }
            }
        }
        self.parts.push(part);
        Ok(())
    }

    /// Decodes everything and encodes it as a block would hold it.
    fn add_source(
        &mut self,
        source: &(impl Source + ?Sized),
        mut part: PartUsage,
        progress: &mut dyn FnMut(f64, u64),
        cancel: &Cancel,
    ) -> Result<(), ReadError> {
        let mut table = LabelTable::default();
        let groups = source.select(&Select { range: TimeRange::ALL, matchers: &[], cancel }, &mut table)?;
        let n_groups = groups.len();
        let mut columns = Columns::default();
        for (g, SelectedGroup { group, series }) in groups.into_iter().enumerate() {
            part.n_series += series.len() as u64;
            for (i, some) in series.chunks(COLUMNS_AT_ONCE).enumerate() {
                cancel.check()?;
                let within = (i * COLUMNS_AT_ONCE) as f64 / series.len() as f64;
                progress((g as f64 + within) / n_groups as f64, part.n_samples);
                let numbers: Vec<u32> = some.iter().map(|s| s.column).collect();
                group.read(&numbers, TimeRange::ALL, &mut columns)?;
                if i == 0 {
                    let mut bytes = Vec::new();
                    columns.timestamps().chunks(SPAN_ROWS_MAX).for_each(|t| codec::encode_timestamps(t, &mut bytes));
                    part.timestamp_bytes += bytes.len() as u64;
                }
                for (c, s) in some.iter().enumerate() {
                    let number = self.series(&table.labels(s.set));
                    let (times, n_samples, bytes) = encoded(&columns, c);
                    if let Some(times) = times {
                        self.note(&mut part, number, times, n_samples, bytes);
                    }
                }
            }
        }
        self.parts.push(part);
        Ok(())
    }

    fn finish(self, limit: usize) -> Analysis {
        let range = self
            .parts
            .iter()
            .fold(EMPTY, |all, p| TimeRange::new(all.mint.0.min(p.range.mint.0), all.maxt.0.max(p.range.maxt.0)));
        let (mut n_series, mut n_appeared, mut n_gone) = (0, 0, 0);
        let mut metrics = self.metrics.clone();
        let mut counts = vec![(0u64, 0u64); self.pairs.len()];
        for seen in self.seen.iter().filter(|s| s.first <= s.last) {
            let metric = &mut metrics[seen.metric as usize];
            let appeared = seen.first > range.mint.0.saturating_add(CHURN_MS);
            let gone = seen.last < range.maxt.0.saturating_sub(CHURN_MS);
            n_series += 1;
            n_appeared += u64::from(appeared);
            n_gone += u64::from(gone);
            metric.n_appeared += u64::from(appeared);
            metric.n_gone += u64::from(gone);
            let start = seen.pairs.0 as usize;
            for id in &self.pair_ids[start..start + usize::from(seen.pairs.1)] {
                let (n_series, n_churned) = &mut counts[*id as usize];
                *n_series += 1;
                *n_churned += u64::from(appeared || gone);
            }
        }
        let pairs = |size: &dyn Fn(u32) -> u64| {
            let values = |n: &'_ Name| n.values.values().copied().collect::<Vec<u32>>();
            let mut ids: Vec<u32> = self.names.iter().flat_map(values).filter(|id| size(*id) > 0).collect();
            let order = |id: &u32| (std::cmp::Reverse(size(*id)), *id);
            if ids.len() > limit {
                ids.select_nth_unstable_by_key(limit, order);
                ids.truncate(limit);
            }
            ids.sort_unstable_by_key(order);
            ids.into_iter().map(|id| self.pair(id, counts[id as usize])).collect::<Vec<_>>()
        };
        let (pairs_by_series, pairs_by_churn) =
            (pairs(&|id| counts[id as usize].0), pairs(&|id| counts[id as usize].1));
        let usage = |n: &Name| NameUsage {
            name: n.name.clone(),
            n_values: n.values.len() as u64,
            n_series: n.n_series,
            value_bytes: n.values.keys().map(|v| v.len() as u64).sum(),
        };
        let mut names: Vec<NameUsage> = self.names.iter().map(usage).collect();
        names.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        metrics.retain(|m| m.n_samples > 0);
        metrics.sort_unstable_by(|a, b| a.metric.cmp(&b.metric));
        Analysis {
            range,
            n_series,
            n_samples: self.parts.iter().map(|p| p.n_samples).sum(),
            n_appeared,
            n_gone,
            n_pairs: self.pairs.len() as u64,
            parts: self.parts,
            metrics,
            names,
            pairs_by_series,
            pairs_by_churn,
        }
    }

    fn pair(&self, id: u32, (n_series, n_churned): (u64, u64)) -> PairUsage {
        let name = &self.names[self.pairs[id as usize] as usize];
        let value = name.values.iter().find(|(_, number)| **number == id).map_or("", |(value, _)| value);
        PairUsage { name: name.name.clone(), value: value.to_owned(), n_series, n_churned }
    }
}

const EMPTY: TimeRange =
    TimeRange { mint: promontory_model::Timestamp(i64::MAX), maxt: promontory_model::Timestamp(i64::MIN) };

/// First and last time, number and encoded bytes of the samples of a column.
fn encoded(columns: &Columns, c: usize) -> (Option<(i64, i64)>, u64, u64) {
    let column = columns.column(c);
    let times = columns.timestamps();
    let (mut bytes, mut values, mut range, mut n) = (Vec::new(), Vec::new(), None, 0);
    let mut histograms = column.histogram_samples().peekable();
    for start in (0..times.len()).step_by(SPAN_ROWS_MAX) {
        let rows = start..(start + SPAN_ROWS_MAX).min(times.len());
        values.clear();
        let mut bits = vec![0u64; rows.len().div_ceil(64)];
        for (i, row) in rows.clone().enumerate().filter(|(_, row)| column.is_present(*row)) {
            values.push(column.values[row]);
            bits[i / 64] |= 1 << (i % 64);
            range = Some((range.map_or(times[row], |r: (i64, i64)| r.0), times[row]));
        }
        let (mut of_histograms, mut samples) = (Vec::new(), Vec::new());
        while let Some((row, sample)) = histograms.next_if(|(row, _)| rows.contains(row)) {
            of_histograms.push(row - start);
            samples.push(sample);
            let (first, last) = range.unwrap_or((times[row], times[row]));
            range = Some((first.min(times[row]), last.max(times[row])));
        }
        n += (values.len() + samples.len()) as u64;
        mini::put_both(rows.len(), Some(&bits), &values, (&of_histograms, &mut samples), &mut bytes);
    }
    (range, n, bytes.len() as u64)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use promontory_model::Timestamp;

    use super::*;
    use crate::DbOptions;
    use crate::clock::ManualClock;
    use crate::vfs::SimVfs;

    const HOUR: i64 = 3_600_000;

    fn labels(metric: &str, pod: i64) -> Labels {
        Labels::from_pairs([("__name__", metric.to_owned()), ("pod", format!("p{pod}")), ("job", "j".to_owned())])
    }

    /// Three pods in a block of four hours, of which one lives for an hour; one of them, and a new one, in the head.
    fn db() -> Db {
        let clock = Arc::new(ManualClock::new(Timestamp(100 * HOUR)));
        let options = DbOptions { commit_interval_ms: None, ..DbOptions::server() };
        let (db, _) = Db::open(Arc::new(SimVfs::new()), clock, Path::new("data"), options).unwrap();
        let mut backfill = db.backfill().unwrap();
        for pod in 0..3 {
            for metric in ["a", "b"] {
                let series = backfill.series(&labels(metric, pod)).unwrap();
                for minute in (0..120).filter(|m| pod != 1 || (30..90).contains(m)) {
                    backfill.push(series, 96 * HOUR + minute * 60_000, minute as f64).unwrap();
                }
            }
        }
        backfill.finish(&mut |_| {}, &Cancel::new()).unwrap();
        let mut writer = db.writer();
        let series = [writer.resolve(&labels("a", 0)).unwrap(), writer.resolve(&labels("a", 9)).unwrap()];
        for minute in 0..60 {
            let samples = [(series[0], 1.0), (series[1], 2.0)];
            writer.append(Timestamp(99 * HOUR + minute * 60_000), &samples).unwrap();
        }
        db
    }

    #[test]
    fn a_series_of_several_parts_counts_once() {
        let db = db();
        let found = db.analyze(None, 2, &mut |_, _| {}, &Cancel::new()).unwrap();
        assert_eq!((found.n_series, found.n_samples, found.parts.len()), (7, 600 + 120, 2));
        assert_eq!(found.range, TimeRange::new(96 * HOUR, 99 * HOUR + 59 * 60_000));
        let [a, b] = found.metrics.as_slice() else { panic!("{:?}", found.metrics) };
        assert_eq!((a.metric.as_str(), a.n_series, a.n_samples, a.n_appeared, a.n_gone), ("a", 4, 420, 2, 2));
        assert_eq!((b.metric.as_str(), b.n_series, b.n_samples, b.n_appeared, b.n_gone), ("b", 3, 300, 1, 3));
        assert!(a.bytes > 0 && b.bytes > 0);
        let bytes: u64 = found.parts.iter().map(|p| p.value_bytes).sum();
        assert_eq!(bytes, a.bytes + b.bytes);
        let names: Vec<_> = found.names.iter().map(|n| (n.name.as_str(), n.n_values, n.n_series)).collect();
        assert_eq!(names, [("__name__", 2, 7), ("job", 1, 7), ("pod", 4, 7)]);
        let pair = |p: &PairUsage| format!("{}={} {} {}", p.name, p.value, p.n_series, p.n_churned);
        assert_eq!(found.pairs_by_series.iter().map(pair).collect::<Vec<_>>(), ["job=j 7 6", "__name__=a 4 3"]);
        assert_eq!(found.pairs_by_churn.iter().map(pair).collect::<Vec<_>>(), ["job=j 7 6", "__name__=a 4 3"]);
    }

    #[test]
    fn one_block_is_measured_alone_and_to_the_byte() {
        let db = db();
        let all = db.analyze(None, 10, &mut |_, _| {}, &Cancel::new()).unwrap();
        let block = all.parts[0].block;
        let found = db.analyze(block, 10, &mut |_, _| {}, &Cancel::new()).unwrap();
        assert_eq!((found.n_series, found.n_samples, found.n_appeared, found.n_gone), (6, 600, 2, 2));
        assert_eq!(found.parts, all.parts[..1]);
        assert!(found.parts[0].is_measured);
    }

    #[test]
    fn an_empty_database_has_nothing_to_count() {
        let clock = Arc::new(ManualClock::new(Timestamp(0)));
        let options = DbOptions { commit_interval_ms: None, ..DbOptions::server() };
        let (db, _) = Db::open(Arc::new(SimVfs::new()), clock, Path::new("data"), options).unwrap();
        let found = db.analyze(None, 10, &mut |_, _| {}, &Cancel::new()).unwrap();
        assert!(found.range.is_empty());
        assert_eq!((found.n_series, found.metrics.len()), (0, 0));
    }
}
