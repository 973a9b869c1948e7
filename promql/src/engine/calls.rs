//! Functions of whole vectors, scalars and texts.

use std::sync::Arc;

use promontory_model::Labels;

use super::exec::{Exec, Value, broken};
use super::quantiles::{Answer, Histograms};
use super::ranked::check_quantiles;
use super::relabel;
use super::vector::{Series, Vector};
use crate::calendar;
use crate::error::QueryError;
use crate::functions::FunctionId;
use crate::histogram;
use crate::kernels::{is_absent, math};
use crate::notes as texts;
use crate::plan::{Grid, NodeId};

/// The function of a single float that `id` is, if it is one.
pub(crate) fn map_function(id: FunctionId) -> Option<fn(f64) -> f64> {
    math::unary(id).or_else(|| calendar_function(id))
}

fn calendar_function(id: FunctionId) -> Option<fn(f64) -> f64> {
    Some(match id {
        FunctionId::Minute => |v| calendar::field(FunctionId::Minute, v),
        FunctionId::Hour => |v| calendar::field(FunctionId::Hour, v),
        FunctionId::DayOfWeek => |v| calendar::field(FunctionId::DayOfWeek, v),
        FunctionId::DayOfMonth => |v| calendar::field(FunctionId::DayOfMonth, v),
        FunctionId::DayOfYear => |v| calendar::field(FunctionId::DayOfYear, v),
        FunctionId::DaysInMonth => |v| calendar::field(FunctionId::DaysInMonth, v),
        FunctionId::Month => |v| calendar::field(FunctionId::Month, v),
        FunctionId::Year => |v| calendar::field(FunctionId::Year, v),
        _ => return None,
    })
}

impl Exec<'_> {
    pub(crate) fn call(
        &mut self,
        id: NodeId,
        function: FunctionId,
        args: &[NodeId],
        grid: Grid,
    ) -> Result<Value, QueryError> {
        if let (Some(f), []) = (calendar_function(function), args) {
            return self.vector_of(grid.times().map(|t| f((t.div_euclid(1000)) as f64)));
        }
        match function {
            FunctionId::MinOf | FunctionId::MaxOf => {
                let (a, b) = (self.scalars(args[0])?, self.scalars(args[1])?);
                let f = if function == FunctionId::MinOf { math::min } else { math::max };
                Ok(Value::Scalar(Arc::new(a.iter().zip(b.iter()).map(|(a, b)| f(*a, *b)).collect())))
            }
            FunctionId::Scalar => {
                let held = self.vector(args[0])?;
                Ok(Value::Scalar(Arc::new(only_values(&held.vector))))
            }
            FunctionId::Vector => {
                let scalars = self.scalars(args[0])?;
                self.vector_of(scalars.iter().copied())
            }
            FunctionId::Timestamp => {
                let held = self.vector(args[0])?;
                let mut out = held.vector.clone();
                for (i, time) in grid.times().enumerate() {
                    for s in 0..out.len() {
                        if held.vector.is_present(s, i) {
                            out.row_mut(s)[i] = time as f64 / 1000.0;
                        }
                    }
                }
                out.drop_histograms();
                self.without_names(out)
            }
            FunctionId::LabelReplace => {
                let mut vector = self.vector(args[0])?.vector.clone();
                let texts = self.texts(&args[1..])?;
                let [dst, replacement, src, regex] = &texts[..] else { return Err(broken("four strings")) };
                relabel::replace(&mut vector, [dst, replacement, src, regex])?;
                self.finished(vector)
            }
            FunctionId::LabelJoin => {
                let mut vector = self.vector(args[0])?.vector.clone();
                let texts = self.texts(&args[1..])?;
                let [dst, separator, sources @ ..] = &texts[..] else { return Err(broken("two strings")) };
                let sources: Vec<&str> = sources.iter().map(AsRef::as_ref).collect();
                relabel::join(&mut vector, dst, separator, &sources)?;
                self.finished(vector)
            }
            FunctionId::Sort | FunctionId::SortDesc | FunctionId::SortByLabel | FunctionId::SortByLabelDesc => {
                self.sort(id, function, args, grid)
            }
            FunctionId::HistogramQuantile | FunctionId::HistogramQuantiles | FunctionId::HistogramFraction => {
                self.histogram(id, function, args, grid)
            }
            FunctionId::HistogramCount
            | FunctionId::HistogramSum
            | FunctionId::HistogramAvg
            | FunctionId::HistogramStddev
            | FunctionId::HistogramStdvar => {
                let held = self.vector(args[0])?;
                let mut out = Vector::new(grid.n);
                for (i, series) in held.vector.series.iter().enumerate() {
                    let row = out.push(series.clone());
                    for (step, h) in held.vector.histograms(i) {
                        row[*step as usize] = match function {
                            FunctionId::HistogramCount => h.count,
                            FunctionId::HistogramSum => h.sum,
                            FunctionId::HistogramAvg => histogram::average(h),
                            FunctionId::HistogramStdvar => histogram::stdvar(h),
                            _ => histogram::stdvar(h).sqrt(),
                        };
                    }
                }
                out.drop_empty();
                self.without_names(out)
            }
            // Functions of native histograms and of start timestamps see none in floats.
            _ => {
                for arg in args {
                    self.eval(*arg)?;
                }
                self.finished(Vector::new(grid.n))
            }
        }
    }

    fn texts(&mut self, args: &[NodeId]) -> Result<Vec<Arc<str>>, QueryError> {
        args.iter().map(|a| self.text(*a)).collect()
    }

    fn finished(&self, vector: Vector) -> Result<Value, QueryError> {
        Ok(Value::Vector(Arc::new(self.hold(vector)?)))
    }

    fn vector_of(&self, values: impl Iterator<Item = f64>) -> Result<Value, QueryError> {
        let values: Vec<f64> = values.collect();
        let mut out = Vector::new(values.len());
        out.push_row(Series::new(Labels::empty()), &values, Vec::new());
        self.finished(out)
    }

    /// All series lose their names; what then looks equal is merged or refused.
    fn without_names(&self, mut vector: Vector) -> Result<Value, QueryError> {
        vector.series.iter_mut().for_each(|s| s.drop_name(self.ctx.delayed_names));
        if !self.ctx.delayed_names {
            vector.merge_equal_labels()?;
        }
        self.finished(vector)
    }

    fn sort(&mut self, id: NodeId, function: FunctionId, args: &[NodeId], grid: Grid) -> Result<Value, QueryError> {
        let mut held = self.vector(args[0])?;
        let labels = self.texts(&args[1..])?;
        if self.plan.spans_time {
            self.noting(id, |_, notes| notes.warn_whole(texts::SORT_IN_RANGE));
        }
        let by_value = matches!(function, FunctionId::Sort | FunctionId::SortDesc);
        if by_value && held.vector.has_histograms() {
            // Histograms have no order and are left out, whether sorting has an effect or not.
            let mut floats = held.vector.clone();
            floats.drop_histograms();
            floats.drop_empty();
            held = Arc::new(self.hold(floats)?);
        }
        if grid.n != 1 {
            return Ok(Value::Vector(held));
        }
        let labels: Vec<&str> = labels.iter().map(AsRef::as_ref).collect();
        let sorted = match function {
            FunctionId::Sort => relabel::by_value(&held.vector, false),
            FunctionId::SortDesc => relabel::by_value(&held.vector, true),
            FunctionId::SortByLabel => relabel::by_label(&held.vector, &labels, false),
            _ => relabel::by_label(&held.vector, &labels, true),
        };
        self.finished(sorted)
    }

    fn histogram(
        &mut self,
        id: NodeId,
        function: FunctionId,
        args: &[NodeId],
        grid: Grid,
    ) -> Result<Value, QueryError> {
        let times: Vec<i64> = grid.times().collect();
        let mut out = Vector::new(grid.n);
        let delayed = self.ctx.delayed_names;
        match function {
            FunctionId::HistogramQuantiles => {
                let held = self.vector(args[0])?;
                let label = self.text(args[1])?;
                let qs = args[2..].iter().map(|a| self.scalars(*a)).collect::<Result<Vec<_>, _>>()?;
                self.noting(id, |_, notes| {
                    let histograms = Histograms::new(&held.vector, 0, notes);
                    for (i, q) in qs.iter().enumerate() {
                        check_quantiles(q, 2 + i, notes);
                        let answer = Answer::LabelledQuantile(&label, q);
                        histograms.answer(&held.vector, &answer, (0, delayed), &times, &mut out, notes)?;
                    }
                    Ok::<_, QueryError>(())
                })?;
            }
            FunctionId::HistogramQuantile => {
                let (q, held) = (self.scalars(args[0])?, self.vector(args[1])?);
                self.noting(id, |_, notes| {
                    check_quantiles(&q, 0, notes);
                    let histograms = Histograms::new(&held.vector, 1, notes);
                    histograms.answer(&held.vector, &Answer::Quantile(&q), (1, delayed), &times, &mut out, notes)
                })?;
            }
            _ => {
                let (lower, upper, held) = (self.scalars(args[0])?, self.scalars(args[1])?, self.vector(args[2])?);
                self.noting(id, |_, notes| {
                    let histograms = Histograms::new(&held.vector, 2, notes);
                    let answer = Answer::Fraction(&lower, &upper);
                    histograms.answer(&held.vector, &answer, (2, delayed), &times, &mut out, notes)
                })?;
            }
        }
        // Without a name, or with a label that is overwritten, histograms may look equal.
        out.merge_equal_labels()?;
        self.finished(out)
    }
}

/// At each step the value of the only float, or NaN.
fn only_values(vector: &Vector) -> Vec<f64> {
    let mut out = vec![f64::NAN; vector.n_steps];
    let mut seen = vec![0u8; vector.n_steps];
    for i in 0..vector.len() {
        for (step, v) in vector.row(i).iter().enumerate() {
            if !is_absent(*v) {
                out[step] = if seen[step] == 0 { *v } else { f64::NAN };
                seen[step] = 1;
            }
        }
    }
    out
}
