//! What the head says about itself.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use promontory_model::METRIC_NAME;

use super::{Head, lock};
use crate::status::{Cardinality, Count, DbStatus, HeadMemory};

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Head {
    /// Oldest sample in memory.
    pub(crate) fn min_t(&self) -> Option<i64> {
        let floor = self.floor();
        self.all_groups().iter().filter_map(|cell| lock(&cell.state).min_t(floor)).min()
    }

    /// Sealed columns.
    fn n_chunks(&self) -> u64 {
        let columns = |cell: &std::sync::Arc<super::group::GroupCell>| {
            let group = lock(&cell.state);
            group.sealed().map(|c| u64::from(c.header.n_columns)).sum::<u64>()
        };
        self.all_groups().iter().map(columns).sum()
    }

    /// Bytes allocated, by part.
    fn memory(&self) -> HeadMemory {
        let mut out = HeadMemory {
            writers: get(&self.counters.writer_bytes),
            log: self.wal().map_or(0, |wal| wal.memory() as u64),
            ..HeadMemory::default()
        };
        for cell in self.all_groups() {
            lock(&cell.state).memory(&mut out);
        }
        self.index().memory(&mut out);
        out
    }

    /// The head's part of the database's status.
    pub(crate) fn status(&self) -> DbStatus {
        let groups = self.all_groups();
        let head_groups = groups.iter().filter(|cell| !lock(&cell.state).columns.is_empty()).count() as u64;
        let head_chunks = self.n_chunks();
        let head_memory = self.memory();
        let index = self.index();
        let c = &self.counters;
        DbStatus {
            head_series: index.n_series(),
            head_groups,
            head_chunks,
            head_memory,
            symbol_bytes: index.symbol_bytes() as u64,
            samples_appended: get(&c.samples),
            series_created: get(&c.series_created),
            series_removed: get(&c.series_removed),
            head_min_time: self.min_t(),
            head_max_time: self.max_t(),
            duplicates: get(&c.duplicates),
            out_of_order: get(&c.out_of_order),
            out_of_bounds: get(&c.out_of_bounds),
            too_old: get(&c.too_old),
            out_of_order_appended: get(&c.late_appended),
            ..DbStatus::default()
        }
    }

    /// The `limit` largest contributors of each kind.
    pub(crate) fn cardinality(&self, limit: usize) -> Cardinality {
        let (min_time, max_time, chunks) = (self.min_t(), self.max_t(), self.n_chunks());
        let index = self.index();
        let mut metrics = Vec::new();
        let mut pairs = Vec::new();
        let mut values: HashMap<&str, (u64, u64)> = HashMap::new();
        let mut label_pairs = 0;
        for (name, value, series) in index.pair_counts() {
            label_pairs += 1;
            if name == METRIC_NAME {
                metrics.push(Count { name: value.to_owned(), value: series });
            }
            let entry = values.entry(name).or_default();
            entry.0 += 1;
            entry.1 += value.len() as u64 * series;
            pairs.push((series, name, value));
        }
        pairs.sort_unstable_by(|a, b| b.0.cmp(&a.0).then_with(|| (a.1, a.2).cmp(&(b.1, b.2))));
        pairs.truncate(limit);
        let count = |name: &&str, value: u64| Count { name: (*name).to_owned(), value };
        Cardinality {
            series: index.n_series(),
            label_pairs,
            chunks,
            min_time,
            max_time,
            series_by_metric: top(metrics, limit),
            values_by_label: top(values.iter().map(|(name, v)| count(name, v.0)).collect(), limit),
            bytes_by_label: top(values.iter().map(|(name, v)| count(name, v.1)).collect(), limit),
            series_by_pair: pairs
                .into_iter()
                .map(|(value, name, v)| Count { name: format!("{name}={v}"), value })
                .collect(),
        }
    }
}

fn top(mut counts: Vec<Count>, limit: usize) -> Vec<Count> {
    counts.sort_unstable_by(|a, b| b.value.cmp(&a.value).then_with(|| a.name.cmp(&b.name)));
    counts.truncate(limit);
    counts
}
