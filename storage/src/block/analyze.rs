//! Where the bytes of a block go: by part, by metric, by label.

use std::collections::HashMap;

use promontory_model::{Cancel, ReadError};
use roaring::RoaringBitmap;

use super::{BlockMeta, BlockReader};

/// Where the bytes of a block go. Lists hold the largest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Analysis {
    /// What the block says of itself.
    pub meta: BlockMeta,
    /// Bytes of dictionaries.
    pub dictionary_bytes: u64,
    /// Bytes of postings.
    pub postings_bytes: u64,
    /// Bytes of the table of series.
    pub series_bytes: u64,
    /// Bytes of the directory of groups.
    pub groups_bytes: u64,
    /// Bytes of encoded timestamps.
    pub timestamp_bytes: u64,
    /// Bytes of mini-blocks.
    pub value_bytes: u64,
    /// Metrics by bytes of their mini-blocks.
    pub metrics: Vec<MetricUsage>,
    /// Label names by number of values.
    pub names: Vec<NameUsage>,
    /// Label pairs by number of series.
    pub pairs: Vec<PairUsage>,
}

/// What the series of one metric take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricUsage {
    /// Metric name; empty for series without one.
    pub metric: String,
    /// Series.
    pub n_series: u64,
    /// Samples.
    pub n_samples: u64,
    /// Bytes of mini-blocks.
    pub bytes: u64,
}

/// How many values a label name has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameUsage {
    /// Label name.
    pub name: String,
    /// Distinct values.
    pub n_values: u64,
    /// Series with the label.
    pub n_series: u64,
}

/// How many series have a label pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairUsage {
    /// Label name.
    pub name: String,
    /// Value.
    pub value: String,
    /// Series.
    pub n_series: u64,
}

/// Measures a block; each list is cut to `limit` entries. Reads all pages but decodes no value.
///
/// # Errors
/// [`ReadError`] when the block is damaged or the work cancelled.
pub fn analyze(block: &BlockReader, limit: usize, cancel: &Cancel) -> Result<Analysis, ReadError> {
    let block = block.inner();
    let index = &block.index;
    let mut metrics: Vec<MetricUsage> = Vec::new();
    let mut metric_numbers: HashMap<String, usize> = HashMap::new();
    // The metric of each column of each group.
    let mut columns: Vec<Vec<(u32, usize)>> = vec![Vec::new(); index.n_groups as usize];
    index.for_series(&index.all(), cancel, |_, entry| {
        let metric = entry.labels.metric_name();
        let number = metric_numbers.get(metric).copied().unwrap_or_else(|| {
            metrics.push(MetricUsage { metric: metric.to_owned(), n_series: 0, n_samples: 0, bytes: 0 });
            metric_numbers.insert(metric.to_owned(), metrics.len() - 1);
            metrics.len() - 1
        });
        metrics[number].n_series += 1;
        columns[entry.group as usize].push((entry.column, number));
    })?;
    let [dictionary_bytes, postings_bytes, series_bytes, groups_bytes] = index.section_bytes();
    let (mut timestamp_bytes, mut value_bytes) = (0, 0);
    for (group, columns) in columns.iter_mut().enumerate() {
        cancel.check()?;
        columns.sort_unstable();
        let entry = block.group(group as u32)?;
        for i in 0..entry.spans.len() {
            let mut span = block.span(&entry, i);
            timestamp_bytes += span.encoded_timestamps()?.1.len() as u64;
            for (column, metric) in columns.iter() {
                let Some((_, bytes)) = span.encoded(*column as usize)? else {
                    continue;
                };
                value_bytes += bytes.len() as u64;
                metrics[*metric].bytes += bytes.len() as u64;
                metrics[*metric].n_samples += span.mini_block(*column as usize)?.map_or(0, |(_, m)| m.count() as u64);
            }
        }
    }
    let (mut names, mut pairs) = (Vec::new(), Vec::new());
    let mut series = RoaringBitmap::new();
    for (position, name) in index.names().enumerate() {
        let postings = index.postings(position)?;
        let n_values = index.n_values(position);
        series.clear();
        postings.add(n_values, &mut series)?;
        names.push(NameUsage { name: name.to_owned(), n_values: n_values as u64, n_series: series.len() });
        index.dictionary(position)?.scan(0, |i, value| {
            cancel.check()?;
            series.clear();
            postings.add(i, &mut series)?;
            pairs.push(PairUsage { name: name.to_owned(), value: value.to_owned(), n_series: series.len() });
            // Only the largest are wanted; memory stays a small multiple of them.
            if pairs.len() > limit.saturating_mul(2).saturating_add(1024) {
                keep_largest(&mut pairs, limit, |p| p.n_series);
            }
            Ok(true)
        })?;
    }
    keep_largest(&mut metrics, limit, |m| m.bytes);
    keep_largest(&mut names, limit, |n| n.n_values);
    keep_largest(&mut pairs, limit, |p| p.n_series);
    Ok(Analysis {
        meta: block.meta.clone(),
        dictionary_bytes,
        postings_bytes,
        series_bytes,
        groups_bytes,
        timestamp_bytes,
        value_bytes,
        metrics,
        names,
        pairs,
    })
}

fn keep_largest<T>(list: &mut Vec<T>, limit: usize, size: impl Fn(&T) -> u64) {
    list.sort_by_key(|x| std::cmp::Reverse(size(x)));
    list.truncate(limit);
}
