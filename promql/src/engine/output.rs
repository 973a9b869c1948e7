//! From the value of the root to what the caller sees: names removed, duplicates refused, matrices sorted.

use std::sync::Arc;

use promontory_model::{Columns, TimeRange};

use super::exec::{self, Exec};
use super::select::{self, timed_histograms};
use super::vector::{Vector, without_metadata};
use crate::error::QueryError;
use crate::kernels::is_absent;
use crate::plan::{Grid, Node, Source};
use crate::value::{MatrixSeries, SampleValue, Value, VectorSample};

/// Evaluates the root.
pub(crate) fn value(exec: &mut Exec<'_>, is_range: bool) -> Result<Value, QueryError> {
    let root = exec.plan.get(exec.plan.root);
    let grid = root.grid;
    if let Node::Raw { source, range } = &root.node {
        return raw(exec, source, *range, grid);
    }
    match exec.eval(exec.plan.root)? {
        exec::Value::Scalar(values) if !is_range => Ok(Value::Scalar(grid.start, values[0])),
        exec::Value::Scalar(values) => {
            let floats = grid.times().zip(values.iter().copied()).collect();
            Ok(Value::Matrix(vec![MatrixSeries { floats, ..MatrixSeries::default() }]))
        }
        exec::Value::Text(text) => Ok(Value::String(grid.start, text.to_string())),
        exec::Value::Vector(held) => {
            let exec::Held { mut vector, charges: _charges } = match Arc::try_unwrap(held) {
                Ok(held) => held,
                Err(shared) => exec.hold(shared.vector.clone())?,
            };
            remove_names(&mut vector)?;
            // A sample of an answer has a time too.
            let _answer = exec.ctx.budget.charge(0, vector.n_samples().saturating_mul(16))?;
            Ok(if is_range { Value::Matrix(matrix(&vector, grid)) } else { Value::Vector(samples(&vector, grid)) })
        }
    }
}

/// Removes the names that were marked, and refuses two series that then look equal.
fn remove_names(vector: &mut Vector) -> Result<(), QueryError> {
    for series in vector.series.iter_mut().filter(|s| s.drop_name) {
        series.labels = without_metadata(&series.labels);
        series.drop_name = false;
    }
    vector.merge_equal_labels()
}

fn samples(vector: &Vector, grid: Grid) -> Vec<VectorSample> {
    let mut out = Vec::with_capacity(vector.len());
    for (i, series) in vector.series.iter().enumerate() {
        let float = vector.row(i)[0];
        let value = match vector.histogram(i, 0) {
            Some(h) => SampleValue::Histogram(h.clone()),
            None if is_absent(float) => continue,
            None => SampleValue::Float(float),
        };
        out.push(VectorSample { labels: series.labels.clone(), t: grid.start, value });
    }
    out
}

fn matrix(vector: &Vector, grid: Grid) -> Vec<MatrixSeries> {
    let mut out: Vec<MatrixSeries> = (0..vector.len())
        .map(|i| {
            let floats = grid.times().zip(vector.row(i)).filter(|(_, v)| !is_absent(**v));
            let histograms = vector.histograms(i).iter().map(|(step, h)| (grid.time(*step as usize), h.clone()));
            MatrixSeries {
                labels: vector.series[i].labels.clone(),
                floats: floats.map(|(t, v)| (t, *v)).collect(),
                histograms: histograms.collect(),
            }
        })
        .filter(|s| !s.floats.is_empty() || !s.histograms.is_empty())
        .collect();
    out.sort_by(|a, b| a.labels.cmp(&b.labels));
    out
}

/// The samples of a range vector, as they are.
fn raw(exec: &mut Exec<'_>, source: &Source, range: i64, grid: Grid) -> Result<Value, QueryError> {
    let mut out = match source {
        Source::Stored(selector) => {
            let end = selector.when.resolve(grid.start);
            let range = TimeRange::new(end.saturating_sub(range).saturating_add(1), end);
            let ctx = exec.ctx;
            let mut columns = Columns::default();
            let mut out = Vec::new();
            let mut charges = Vec::new();
            for batch in select::select(ctx, selector, range, true, &mut exec.annotations)? {
                for i in 0..batch.n_series() {
                    ctx.cancel.check()?;
                    batch.read(i..i + 1, range, &mut columns)?;
                    let column = columns.column(0);
                    let rows = column.values.iter().zip(columns.timestamps()).enumerate();
                    let floats: Vec<(i64, f64)> = rows
                        .filter(|(row, (v, _))| column.is_present(*row) && !is_absent(**v))
                        .map(|(_, (v, t))| (*t, *v))
                        .collect();
                    let histograms = timed_histograms(columns.timestamps(), column);
                    let n = (floats.len() + histograms.len()) as u64;
                    charges.push(ctx.budget.charge(n, 16 * n)?);
                    ctx.budget.count_read(n);
                    out.push(MatrixSeries { labels: batch.labels(i), floats, histograms });
                }
            }
            out
        }
        Source::Subquery { input, when } => {
            let inner = exec.plan.get(*input).grid;
            let held = exec.vector(*input)?;
            let end = when.resolve(grid.start);
            let inside = |t: i64| end.saturating_sub(range) < t && t <= end;
            let mut vector = held.vector.clone();
            if let Some((joined, losing)) = vector.names_joined()? {
                vector = joined;
                for (i, steps) in losing {
                    vector.series[i].drop_name = inner.times().zip(steps).any(|(t, loses)| loses && inside(t));
                }
            }
            remove_names(&mut vector)?;
            let mut out = matrix(&vector, inner);
            for s in &mut out {
                s.floats.retain(|(t, _)| inside(*t));
                s.histograms.retain(|(t, _)| inside(*t));
            }
            out
        }
    };
    out.retain(|s| !s.floats.is_empty() || !s.histograms.is_empty());
    out.sort_by(|a, b| a.labels.cmp(&b.labels));
    Ok(Value::Matrix(out))
}
