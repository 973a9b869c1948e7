//! Values between operators: series × steps in one flat column of floats, labels once per series.

use std::collections::HashMap;
use std::sync::Arc;

use promontory_model::{FloatHistogram, Labels, LabelsBuilder, METRIC_NAME};

use crate::error::QueryError;
use crate::kernels::{ABSENT, is_absent};

/// The labels that describe a metric and not its source; they go when a value is no longer that metric's.
pub(crate) const METADATA_LABELS: [&str; 3] = [METRIC_NAME, "__type__", "__unit__"];

/// Which series a row belongs to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Series {
    /// Labels; with the name still on when it is to be removed at the end.
    pub(crate) labels: Labels,
    /// Whether the name is to be removed at the end of the query.
    pub(crate) drop_name: bool,
}

impl Series {
    /// A series that keeps its name.
    pub(crate) fn new(labels: Labels) -> Self {
        Self { labels, drop_name: false }
    }

    /// Says that the value is no longer that of the metric: at once, or noted for the end of the query.
    pub(crate) fn drop_name(&mut self, delayed: bool) {
        if delayed {
            self.drop_name = true;
        } else {
            self.labels = without_metadata(&self.labels);
        }
    }
}

/// The labels without name, type and unit.
pub(crate) fn without_metadata(labels: &Labels) -> Labels {
    if METADATA_LABELS.iter().any(|n| labels.get(n).is_some()) {
        labels.without(&METADATA_LABELS)
    } else {
        labels.clone()
    }
}

/// Removes name, type and unit from labels under construction.
pub(crate) fn remove_metadata(labels: &mut LabelsBuilder) {
    for name in METADATA_LABELS {
        labels.remove(name);
    }
}

/// The steps at which a series loses its name at the end, of those that do not at all steps, by number of the series.
pub(crate) type LosingNames = HashMap<usize, Vec<bool>>;

/// Histogram samples of one series, by step.
pub(crate) type HistogramRow = Vec<(u32, Arc<FloatHistogram>)>;

/// An instant vector at every step of a grid.
///
/// A float that is not there is [`ABSENT`]. A step holds a float or a histogram of a series, never both.
#[derive(Debug, Clone, Default)]
pub(crate) struct Vector {
    /// Steps per series.
    pub(crate) n_steps: usize,
    /// One per row.
    pub(crate) series: Vec<Series>,
    /// `n_steps` values for each series, one series after the other.
    pub(crate) values: Vec<f64>,
    /// One row per series, or none at all when no series has histograms.
    pub(crate) histograms: Vec<HistogramRow>,
}

impl Vector {
    /// No series, on `n_steps` steps.
    pub(crate) fn new(n_steps: usize) -> Self {
        Self { n_steps, ..Self::default() }
    }

    /// Number of series.
    pub(crate) fn len(&self) -> usize {
        self.series.len()
    }

    /// Floats of series `i`.
    pub(crate) fn row(&self, i: usize) -> &[f64] {
        &self.values[i * self.n_steps..(i + 1) * self.n_steps]
    }

    /// Floats of series `i`, to change.
    pub(crate) fn row_mut(&mut self, i: usize) -> &mut [f64] {
        &mut self.values[i * self.n_steps..(i + 1) * self.n_steps]
    }

    /// Histograms of series `i`.
    pub(crate) fn histograms(&self, i: usize) -> &[(u32, Arc<FloatHistogram>)] {
        self.histograms.get(i).map_or(&[], Vec::as_slice)
    }

    /// The histogram of series `i` at `step`.
    pub(crate) fn histogram(&self, i: usize, step: usize) -> Option<&Arc<FloatHistogram>> {
        let row = self.histograms(i);
        row.binary_search_by_key(&(step as u32), |(s, _)| *s).ok().map(|at| &row[at].1)
    }

    /// Whether series `i` has a sample at `step`.
    pub(crate) fn is_present(&self, i: usize, step: usize) -> bool {
        !is_absent(self.values[i * self.n_steps + step]) || self.histogram(i, step).is_some()
    }

    /// Whether any series has a histogram.
    pub(crate) fn has_histograms(&self) -> bool {
        self.histograms.iter().any(|h| !h.is_empty())
    }

    /// Adds a series without samples and gives its floats to fill.
    pub(crate) fn push(&mut self, series: Series) -> &mut [f64] {
        let start = self.values.len();
        self.values.resize(start + self.n_steps, ABSENT);
        self.series.push(series);
        if !self.histograms.is_empty() {
            self.histograms.push(Vec::new());
        }
        &mut self.values[start..]
    }

    /// Adds a series with these floats and histograms.
    pub(crate) fn push_row(&mut self, series: Series, floats: &[f64], histograms: HistogramRow) {
        debug_assert_eq!(floats.len(), self.n_steps, "a row has a value for each step");
        self.values.extend_from_slice(floats);
        self.series.push(series);
        if !histograms.is_empty() && self.histograms.is_empty() {
            self.histograms.resize(self.series.len() - 1, Vec::new());
        }
        if !self.histograms.is_empty() || !histograms.is_empty() {
            self.histograms.push(histograms);
        }
    }

    /// Adds all series of `other`, which has as many steps.
    pub(crate) fn append(&mut self, mut other: Self) {
        if self.series.is_empty() {
            other.n_steps = self.n_steps;
            *self = other;
            return;
        }
        if !other.histograms.is_empty() || !self.histograms.is_empty() {
            self.histograms.resize(self.series.len(), Vec::new());
            other.histograms.resize(other.series.len(), Vec::new());
            self.histograms.append(&mut other.histograms);
        }
        self.series.append(&mut other.series);
        self.values.append(&mut other.values);
    }

    /// Forgets all histograms; floats stay.
    pub(crate) fn drop_histograms(&mut self) {
        self.histograms.clear();
    }

    /// Whether series `i` has a sample at any step.
    pub(crate) fn is_row_present(&self, i: usize) -> bool {
        !self.histograms(i).is_empty() || self.row(i).iter().any(|v| !is_absent(*v))
    }

    /// Removes series without any sample.
    pub(crate) fn drop_empty(&mut self) {
        let keep: Vec<bool> = (0..self.len()).map(|i| self.is_row_present(i)).collect();
        self.retain(&keep);
    }

    /// Keeps the series marked in `keep`.
    pub(crate) fn retain(&mut self, keep: &[bool]) {
        if keep.iter().all(|k| *k) {
            return;
        }
        let n = self.n_steps;
        let mut to = 0;
        for (from, keep) in keep.iter().enumerate() {
            if !keep {
                continue;
            }
            if to != from {
                self.series.swap(to, from);
                self.values.copy_within(from * n..(from + 1) * n, to * n);
                if !self.histograms.is_empty() {
                    self.histograms.swap(to, from);
                }
            }
            to += 1;
        }
        self.series.truncate(to);
        self.values.truncate(to * n);
        self.histograms.truncate(to);
    }

    /// The series in the order of `order`.
    pub(crate) fn reordered(&self, order: &[usize]) -> Self {
        let mut out = Self::new(self.n_steps);
        for i in order {
            out.push_row(self.series[*i].clone(), self.row(*i), self.histograms(*i).to_vec());
        }
        out
    }

    /// Samples over all series and steps.
    pub(crate) fn n_samples(&self) -> u64 {
        let floats = self.values.iter().filter(|v| !is_absent(**v)).count();
        (floats + self.histograms.iter().map(Vec::len).sum::<usize>()) as u64
    }

    /// Bytes that the buffers take.
    pub(crate) fn heap_bytes(&self) -> u64 {
        let series = self.series.len() * (size_of::<Series>() + 64);
        let histograms: usize = self.histograms.iter().map(|h| 24 + 16 * h.capacity()).sum();
        (8 * self.values.capacity() + series + histograms) as u64
    }

    /// Makes one series of those with equal labels, which happens when what set them apart is gone. Series of which
    /// only one will lose its name are still apart.
    ///
    /// # Errors
    /// When two have a sample at the same step.
    pub(crate) fn merge_equal_labels(&mut self) -> Result<(), QueryError> {
        let mut first: HashMap<(&Labels, bool), usize, rapidhash::fast::RandomState> =
            HashMap::with_capacity_and_hasher(self.len(), rapidhash::fast::RandomState::default());
        let mut merges = Vec::new();
        for (i, s) in self.series.iter().enumerate() {
            match first.entry((&s.labels, s.drop_name)) {
                std::collections::hash_map::Entry::Occupied(e) => merges.push((*e.get(), i)),
                std::collections::hash_map::Entry::Vacant(e) => {
                    e.insert(i);
                }
            }
        }
        if merges.is_empty() {
            return Ok(());
        }
        let mut keep = vec![true; self.len()];
        for (into, from) in merges {
            keep[from] = false;
            self.merge_row(into, from)?;
        }
        self.retain(&keep);
        Ok(())
    }

    /// The vector with one series for two with equal labels of which one loses its name at the end, and at which steps
    /// it does. `None` when there are no such two.
    ///
    /// # Errors
    /// When two of them have a sample at the same step.
    pub(crate) fn names_joined(&self) -> Result<Option<(Self, LosingNames)>, QueryError> {
        let losing: HashMap<&Labels, usize, rapidhash::fast::RandomState> =
            self.series.iter().enumerate().filter(|(_, s)| s.drop_name).map(|(i, s)| (&s.labels, i)).collect();
        if losing.is_empty() || losing.len() == self.len() {
            return Ok(None);
        }
        let keeping = self.series.iter().enumerate().filter(|(_, s)| !s.drop_name);
        let pairs: Vec<(usize, usize)> = keeping.filter_map(|(i, s)| Some((i, *losing.get(&s.labels)?))).collect();
        if pairs.is_empty() {
            return Ok(None);
        }
        let mut out = self.clone();
        let mut keep = vec![true; self.len()];
        let mut steps = vec![Vec::new(); self.len()];
        for (into, from) in pairs {
            steps[into] = (0..self.n_steps).map(|step| self.is_present(from, step)).collect();
            out.merge_row(into, from)?;
            keep[from] = false;
        }
        out.retain(&keep);
        let kept = steps.into_iter().zip(keep).filter_map(|(steps, keep)| keep.then_some(steps));
        let losing = kept.enumerate().filter(|(_, steps)| !steps.is_empty()).collect();
        Ok(Some((out, losing)))
    }

    fn merge_row(&mut self, into: usize, from: usize) -> Result<(), QueryError> {
        if (0..self.n_steps).any(|step| self.is_present(into, step) && self.is_present(from, step)) {
            return Err(duplicate_labels());
        }
        for step in 0..self.n_steps {
            let v = self.values[from * self.n_steps + step];
            if !is_absent(v) {
                self.values[into * self.n_steps + step] = v;
            }
        }
        if !self.histograms.is_empty() {
            let moved = std::mem::take(&mut self.histograms[from]);
            self.histograms[into].extend(moved);
            self.histograms[into].sort_by_key(|(step, _)| *step);
        }
        Ok(())
    }
}

/// Adds the samples of a series at the steps that `keep` lets through, if any.
pub(crate) fn push_filtered(out: &mut Vector, from: &Vector, i: usize, keep: impl Fn(usize) -> bool) {
    let floats: Vec<f64> =
        from.row(i).iter().enumerate().map(|(step, v)| if keep(step) { *v } else { ABSENT }).collect();
    let histograms: HistogramRow =
        from.histograms(i).iter().filter(|(step, _)| keep(*step as usize)).cloned().collect();
    if !histograms.is_empty() || floats.iter().any(|v| !is_absent(*v)) {
        out.push_row(from.series[i].clone(), &floats, histograms);
    }
}

/// Two series of a step have the same labels.
pub(crate) fn duplicate_labels() -> QueryError {
    QueryError::Execution { message: "vector cannot contain metrics with the same labelset".to_owned(), span: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(rows: &[(&str, [f64; 2])]) -> Vector {
        let mut v = Vector::new(2);
        for (job, row) in rows {
            v.push(Series::new(Labels::from_pairs([("job", job)]))).copy_from_slice(row);
        }
        v
    }

    #[test]
    fn equal_labels_merge_when_they_do_not_meet() {
        let mut v = vector(&[("a", [1.0, ABSENT]), ("b", [5.0, 6.0]), ("a", [ABSENT, 2.0])]);
        v.merge_equal_labels().unwrap();
        assert_eq!(v.len(), 2);
        assert_eq!((v.row(0), v.row(1)), (&[1.0, 2.0][..], &[5.0, 6.0][..]));
    }

    #[test]
    fn equal_labels_at_one_step_are_an_error() {
        let mut v = vector(&[("a", [1.0, ABSENT]), ("a", [3.0, 2.0])]);
        assert!(v.merge_equal_labels().is_err());
    }

    #[test]
    fn empty_series_go() {
        let mut v = vector(&[("a", [ABSENT, ABSENT]), ("b", [ABSENT, f64::NAN])]);
        v.drop_empty();
        assert_eq!(v.len(), 1);
        assert_eq!(v.series[0].labels.get("job"), Some("b"));
        assert_eq!(v.n_samples(), 1);
    }
}
