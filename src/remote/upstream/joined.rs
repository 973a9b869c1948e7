//! Series from elsewhere as batches, and joined with those of the local store that have the same labels.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use promontory_model::{Columns, HistogramSample, Labels, ReadError, Select, SeriesBatch, TimeRange, Timestamp};

/// A sample's value.
#[derive(Debug, Clone)]
pub(super) enum Point {
    Float(f64),
    Histogram(HistogramSample),
}

/// A series of another server; times ascend strictly.
#[derive(Debug, Clone)]
pub(super) struct Series {
    pub(super) labels: Labels,
    pub(super) points: Vec<(i64, Point)>,
}

impl Series {
    /// The same without these labels.
    pub(super) fn without(self, names: &[String]) -> Self {
        if names.is_empty() { self } else { Self { labels: self.labels.without(names), ..self } }
    }
}

/// All series, each in one batch: those of `local`, and `others`, several of which may have the same labels.
pub(super) fn join(
    local: Vec<Arc<dyn SeriesBatch>>,
    others: Vec<Series>,
    select: &Select<'_>,
) -> Result<Vec<Arc<dyn SeriesBatch>>, ReadError> {
    let mut by_labels: HashMap<Labels, Vec<(i64, Point)>> = HashMap::with_capacity(others.len());
    for series in others {
        let into = by_labels.entry(series.labels).or_default();
        *into = if into.is_empty() { series.points } else { merged(std::mem::take(into), series.points) };
    }
    let mut out: Vec<Arc<dyn SeriesBatch>> = Vec::new();
    for batch in local {
        select.cancel.check()?;
        let mut from = 0;
        for i in 0..batch.n_series() {
            let labels = batch.labels(i);
            let Some(points) = by_labels.remove(&labels) else { continue };
            if from < i {
                out.push(Arc::new(Part { batch: Arc::clone(&batch), series: from..i }));
            }
            let local = Some((Arc::clone(&batch), i));
            out.push(Arc::new(Joined { labels, points, local }));
            from = i + 1;
        }
        match from {
            0 => out.push(batch),
            _ if from < batch.n_series() => {
                let series = from..batch.n_series();
                out.push(Arc::new(Part { batch, series }));
            }
            _ => {}
        }
    }
    out.extend(by_labels.into_iter().map(|(labels, points)| Arc::new(Joined { labels, points, local: None }) as _));
    Ok(out)
}

/// The points of both; at one time those of `first`.
fn merged(first: Vec<(i64, Point)>, second: Vec<(i64, Point)>) -> Vec<(i64, Point)> {
    let mut all = first;
    all.extend(second);
    all.sort_by_key(|(t, _)| *t);
    all.dedup_by_key(|(t, _)| *t);
    all
}

/// Neighbouring series of a batch.
struct Part {
    batch: Arc<dyn SeriesBatch>,
    series: Range<usize>,
}

impl SeriesBatch for Part {
    fn n_series(&self) -> usize {
        self.series.len()
    }

    fn rows_max(&self, range: TimeRange) -> usize {
        self.batch.rows_max(range)
    }

    fn labels(&self, i: usize) -> Labels {
        self.batch.labels(self.series.start + i)
    }

    fn read(&self, series: Range<usize>, range: TimeRange, out: &mut Columns) -> Result<(), ReadError> {
        self.batch.read(self.series.start + series.start..self.series.start + series.end, range, out)
    }
}

/// One series with samples of other servers.
struct Joined {
    labels: Labels,
    points: Vec<(i64, Point)>,
    local: Option<(Arc<dyn SeriesBatch>, usize)>,
}

impl Joined {
    fn within(&self, range: TimeRange) -> &[(i64, Point)] {
        let from = self.points.partition_point(|(t, _)| *t < range.mint.0);
        let to = self.points.partition_point(|(t, _)| *t <= range.maxt.0);
        &self.points[from..to.max(from)]
    }
}

impl SeriesBatch for Joined {
    fn n_series(&self) -> usize {
        1
    }

    fn rows_max(&self, range: TimeRange) -> usize {
        self.within(range).len() + self.local.as_ref().map_or(0, |(batch, _)| batch.rows_max(range))
    }

    fn labels(&self, _: usize) -> Labels {
        self.labels.clone()
    }

    fn read(&self, series: Range<usize>, range: TimeRange, out: &mut Columns) -> Result<(), ReadError> {
        if series.is_empty() {
            out.reset(0, []);
            return Ok(());
        }
        let mut points = Vec::new();
        if let Some((batch, i)) = &self.local {
            let mut columns = Columns::default();
            batch.read(*i..i + 1, range, &mut columns)?;
            let column = columns.column(0);
            let mut histograms = column.histogram_samples().peekable();
            for (row, &t) in columns.timestamps().iter().enumerate() {
                if let Some((_, h)) = histograms.next_if(|(at, _)| *at == row) {
                    points.push((t, Point::Histogram(h)));
                } else if column.is_present(row) {
                    points.push((t, Point::Float(column.values[row])));
                }
            }
        }
        let points = merged(points, self.within(range).to_vec());
        debug_assert!(points.iter().all(|(t, _)| range.contains(Timestamp(*t))));
        out.reset(1, points.iter().map(|(t, _)| *t));
        for (row, (_, point)) in points.into_iter().enumerate() {
            match point {
                Point::Float(v) => out.set_present(0, row, v),
                Point::Histogram(h) => out.push_histogram_sample(0, row, h),
            }
        }
        Ok(())
    }
}
