//! A store in memory: series as they were loaded, for tests of evaluators.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use promontory_model::{
    Columns, FloatHistogram, Labels, Queryable, ReadError, Select, Selection, SeriesBatch, Snapshot, TimeRange,
};

/// A sample's value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number; may be a staleness marker.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<FloatHistogram>),
}

/// A sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Time in ms.
    pub t: i64,
    /// Since when it counts, in ms; 0 when unknown.
    pub start: i64,
    /// Value.
    pub value: Value,
}

/// A series with its samples, ascending in time.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredSeries {
    /// Labels.
    pub labels: Labels,
    /// Samples.
    pub samples: Vec<Sample>,
}

/// Series in order of their first sample's arrival.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    series: Vec<Arc<StoredSeries>>,
    by_labels: HashMap<Labels, usize>,
}

impl MemoryStore {
    /// A store of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Appends a sample.
    ///
    /// # Errors
    /// When the series has a later sample, or another at the same time.
    pub fn append(&mut self, labels: &Labels, sample: Sample) -> Result<(), String> {
        let index = match self.by_labels.get(labels) {
            Some(index) => *index,
            None => {
                self.series.push(Arc::new(StoredSeries { labels: labels.clone(), samples: Vec::new() }));
                self.by_labels.insert(labels.clone(), self.series.len() - 1);
                self.series.len() - 1
            }
        };
        let series = Arc::make_mut(&mut self.series[index]);
        if let Some(last) = series.samples.last()
            && last.t >= sample.t
        {
            if *last == sample {
                return Ok(());
            }
            return Err(format!("out of order sample at {} for {labels}, the last is at {}", sample.t, last.t));
        }
        series.samples.push(sample);
        Ok(())
    }

    /// All series.
    #[must_use]
    pub fn series(&self) -> &[Arc<StoredSeries>] {
        &self.series
    }
}

impl Queryable for MemoryStore {
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, ReadError> {
        Ok(Arc::new(self.clone()))
    }
}

impl MemoryStore {
    fn matching<'a>(&'a self, select: &'a Select<'_>) -> impl Iterator<Item = &'a Arc<StoredSeries>> {
        self.series
            .iter()
            .filter(|s| select.matchers.iter().all(|m| m.matches_labels(&s.labels)) && !s.rows(select.range).is_empty())
    }
}

impl Snapshot for MemoryStore {
    fn select(&self, select: &Select<'_>) -> Result<Selection, ReadError> {
        select.cancel.check()?;
        let batch = |s: &Arc<StoredSeries>| -> Arc<dyn SeriesBatch> { s.clone() };
        Ok(Selection { batches: self.matching(select).map(batch).collect(), warnings: Vec::new() })
    }

    fn label_names(&self, select: &Select<'_>) -> Result<Vec<String>, ReadError> {
        let mut names: Vec<String> =
            self.matching(select).flat_map(|s| s.labels.iter().map(|(n, _)| n.to_owned())).collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    fn label_values(&self, name: &str, select: &Select<'_>, limit: usize) -> Result<Vec<String>, ReadError> {
        let mut values: Vec<String> =
            self.matching(select).filter_map(|s| s.labels.get(name).map(str::to_owned)).collect();
        values.sort_unstable();
        values.dedup();
        values.truncate(limit);
        Ok(values)
    }
}

impl StoredSeries {
    fn rows(&self, range: TimeRange) -> &[Sample] {
        let start = self.samples.partition_point(|s| s.t < range.mint.ms());
        let end = self.samples.partition_point(|s| s.t <= range.maxt.ms());
        &self.samples[start..end.max(start)]
    }
}

/// A batch of this one series.
impl SeriesBatch for StoredSeries {
    fn n_series(&self) -> usize {
        1
    }

    fn rows_max(&self, range: TimeRange) -> usize {
        self.rows(range).len()
    }

    fn labels(&self, i: usize) -> Labels {
        assert_eq!(i, 0, "a batch of one series was asked for series {i}");
        self.labels.clone()
    }

    fn read(&self, series: Range<usize>, range: TimeRange, out: &mut Columns) -> Result<(), ReadError> {
        let rows = self.rows(range);
        out.reset(series.len(), rows.iter().map(|s| s.t));
        if series.is_empty() {
            return Ok(());
        }
        for (row, sample) in rows.iter().enumerate() {
            match &sample.value {
                Value::Float(v) => out.set_present(0, row, *v),
                Value::Histogram(h) => out.push_histogram(0, row, h.clone()),
            }
            if sample.start != 0 {
                out.set_start_timestamp(0, row, sample.start);
            }
        }
        Ok(())
    }
}
