//! The reference evaluator: one step at a time, straight from the definition of the language.
//!
//! Slow on purpose: it reads all samples of every selected series and computes each step anew, so that every
//! function here can be checked against the definition by reading it. It is the oracle of the engine's tests, and is
//! not meant to answer users.

mod aggregate;
mod binary;
mod calls;
mod durations;
mod histograms;
mod info;
mod over_time;
mod rate;
mod relabel;
mod selectors;
mod values;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use promontory_model::{Cancel, Labels, Queryable, Snapshot};

use crate::annotations::{Annotation, Annotations, Severity};
use crate::ast::{Expr, Span, Unary};
use crate::error::QueryError;
use crate::functions::FunctionId;
use crate::histogram;
use crate::value::{MatrixSeries, QueryOutput, QueryStats, RangeSpec, SampleValue, Value, VectorSample};
use values::{Element, RangeVector, StepValue};

/// How queries are evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReferenceOptions {
    /// How long a sample stands for its series.
    pub lookback_ms: i64,
    /// Step of subqueries that name none.
    pub subquery_step_ms: i64,
    /// Metric names are dropped at the end only, so that label functions and grouping see them.
    pub delayed_name_removal: bool,
    /// Rates look at start timestamps.
    pub use_start_timestamps: bool,
    /// `__type__` instead of the name says what is a counter.
    pub type_and_unit_labels: bool,
}

impl ReferenceOptions {
    /// What the conformance scripts expect.
    pub const CONFORMANCE: Self = Self {
        lookback_ms: 300_000,
        subquery_step_ms: 60_000,
        delayed_name_removal: true,
        use_start_timestamps: true,
        type_and_unit_labels: false,
    };
}

/// The evaluator.
#[derive(Debug, Clone)]
pub struct Reference {
    options: ReferenceOptions,
}

impl Reference {
    /// An evaluator with these options.
    #[must_use]
    pub fn new(options: ReferenceOptions) -> Self {
        Self { options }
    }

    /// The value of `expr` at `t_ms`.
    ///
    /// # Errors
    /// [`QueryError`] when there is none.
    pub fn instant(
        &self,
        store: &dyn Queryable,
        expr: &Expr,
        t_ms: i64,
        cancel: &Cancel,
    ) -> Result<QueryOutput, QueryError> {
        let range = RangeSpec { start_ms: t_ms, end_ms: t_ms, step_ms: 0 };
        let query = Query::new(self.options, store, range, cancel)?;
        let value = match query.eval(expr, t_ms)? {
            StepValue::Scalar(v) => Value::Scalar(t_ms, v),
            StepValue::String(s) => Value::String(t_ms, s),
            StepValue::Vector(elements) => {
                let mut samples = Vec::new();
                let mut seen = Vec::new();
                for element in elements {
                    let labels = query.final_labels(&element);
                    check_unique(&mut seen, &labels)?;
                    samples.push(VectorSample { labels, t: t_ms, value: element.value });
                }
                Value::Vector(samples)
            }
            StepValue::Range(range) => Value::Matrix(query.top_level_matrix(range)),
        };
        Ok(query.output(value))
    }

    /// The values of `expr` at all steps of `range`.
    ///
    /// # Errors
    /// [`QueryError`] when there is none.
    pub fn range(
        &self,
        store: &dyn Queryable,
        expr: &Expr,
        range: RangeSpec,
        cancel: &Cancel,
    ) -> Result<QueryOutput, QueryError> {
        let query = Query::new(self.options, store, range, cancel)?;
        let mut series: BTreeMap<Labels, MatrixSeries> = BTreeMap::new();
        let mut t = range.start_ms;
        while t <= range.end_ms {
            cancel.check()?;
            let elements = match query.eval(expr, t)? {
                StepValue::Scalar(v) => vec![Element::new(Labels::empty(), t, SampleValue::Float(v))],
                StepValue::Vector(elements) => elements,
                StepValue::String(_) | StepValue::Range(_) => {
                    let shown = if matches!(expr.value_type(), crate::ast::ValueType::String) {
                        "string"
                    } else {
                        "range vector"
                    };
                    let wanted = "must be Scalar or instant Vector";
                    return Err(fail(format!("invalid expression type \"{shown}\" for range query, {wanted}")));
                }
            };
            let mut seen = Vec::new();
            for element in elements {
                let labels = query.final_labels(&element);
                check_unique(&mut seen, &labels)?;
                let entry =
                    series.entry(labels.clone()).or_insert_with(|| MatrixSeries { labels, ..MatrixSeries::default() });
                match element.value {
                    SampleValue::Float(v) => entry.floats.push((t, v)),
                    SampleValue::Histogram(h) => entry.histograms.push((t, h)),
                }
            }
            t += range.step_ms.max(1);
        }
        Ok(query.output(Value::Matrix(series.into_values().collect())))
    }
}

impl crate::promqltest::Evaluator for Reference {
    fn instant(
        &self,
        store: &dyn Queryable,
        expr: &Expr,
        t_ms: i64,
        cancel: &Cancel,
    ) -> Result<QueryOutput, QueryError> {
        Self::instant(self, store, expr, t_ms, cancel)
    }

    fn range(
        &self,
        store: &dyn Queryable,
        expr: &Expr,
        range: RangeSpec,
        cancel: &Cancel,
    ) -> Result<QueryOutput, QueryError> {
        Self::range(self, store, expr, range, cancel)
    }
}

const SAME_LABELSET: &str = "vector cannot contain metrics with the same labelset";

/// The query has no value.
fn fail(message: impl Into<String>) -> QueryError {
    QueryError::Execution { message: message.into(), span: None }
}

fn check_unique(seen: &mut Vec<Labels>, labels: &Labels) -> Result<(), QueryError> {
    if seen.contains(labels) {
        return Err(fail(SAME_LABELSET));
    }
    seen.push(labels.clone());
    Ok(())
}

/// One query under way.
struct Query<'a> {
    options: ReferenceOptions,
    snapshot: Arc<dyn Snapshot>,
    /// Start, end and step of the whole query; an instant query has step 0.
    range: RangeSpec,
    cancel: &'a Cancel,
    /// Series by the text of their matchers.
    loaded: RefCell<HashMap<String, Arc<Vec<selectors::Loaded>>>>,
    annotations: RefCell<Annotations>,
    samples_read: Cell<u64>,
    hints: Cell<ResetHints>,
}

/// What selected histograms say of counter resets.
///
/// Where only count and sum of histograms are asked for, Prometheus reads them through an iterator that compares
/// each with the one before; elsewhere it passes on what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ResetHints {
    Stored,
    Detected,
    /// Inside subqueries, whatever stands between.
    StoredForGood,
}

impl<'a> Query<'a> {
    fn new(
        options: ReferenceOptions,
        store: &dyn Queryable,
        range: RangeSpec,
        cancel: &'a Cancel,
    ) -> Result<Self, QueryError> {
        Ok(Self {
            options,
            snapshot: store.snapshot()?,
            range,
            cancel,
            loaded: RefCell::default(),
            annotations: RefCell::default(),
            samples_read: Cell::new(0),
            hints: Cell::new(ResetHints::Stored),
        })
    }

    fn output(&self, value: Value) -> QueryOutput {
        let stats = QueryStats { samples_read: self.samples_read.get(), ..QueryStats::default() };
        QueryOutput { value, annotations: self.annotations.borrow().clone(), stats }
    }

    fn warn(&self, text: impl Into<String>, span: Span) {
        self.annotations.borrow_mut().warn(text, span);
    }

    fn info(&self, text: impl Into<String>, span: Span) {
        self.annotations.borrow_mut().info(text, span);
    }

    /// What the store could not read.
    fn store_warning(&self, text: String) {
        let annotation = Annotation { severity: Severity::Warning, text, span: None };
        self.annotations.borrow_mut().push(annotation);
    }

    /// Labels of a result, without the name where an operation dropped it.
    fn final_labels(&self, element: &Element) -> Labels {
        if element.drop_name { values::without_metadata(&element.labels) } else { element.labels.clone() }
    }

    /// Drops the metric name of an element: now, or by a mark until the end of the query.
    fn drop_name(&self, element: &mut Element) {
        if self.options.delayed_name_removal {
            element.drop_name = true;
        } else {
            element.labels = values::without_metadata(&element.labels);
        }
    }

    fn top_level_matrix(&self, range: RangeVector) -> Vec<MatrixSeries> {
        let mut series: Vec<MatrixSeries> = range
            .series
            .iter()
            .map(|w| range.extended(w))
            .filter(|w| !w.is_empty())
            .map(|w| MatrixSeries {
                labels: if w.drop_name { values::without_metadata(&w.labels) } else { w.labels.clone() },
                floats: w.floats.iter().map(|p| (p.t, p.value)).collect(),
                histograms: w.histograms.iter().map(|p| (p.t, p.value.clone())).collect(),
            })
            .collect();
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
        series
    }

    /// The value of any expression at one time.
    fn eval(&self, expr: &Expr, t: i64) -> Result<StepValue, QueryError> {
        self.cancel.check()?;
        let before = self.hints.get();
        self.hints.set(match (expr, before) {
            (_, ResetHints::StoredForGood) | (Expr::Subquery(_), _) => ResetHints::StoredForGood,
            (Expr::Binary(_), _) => ResetHints::Stored,
            (Expr::Call(c), before) => match c.function.id {
                FunctionId::HistogramCount | FunctionId::HistogramSum | FunctionId::HistogramAvg => {
                    ResetHints::Detected
                }
                FunctionId::HistogramQuantile | FunctionId::HistogramQuantiles | FunctionId::HistogramFraction => {
                    ResetHints::Stored
                }
                _ => before,
            },
            (_, before) => before,
        });
        let value = self.eval_here(expr, t);
        self.hints.set(before);
        value
    }

    fn eval_here(&self, expr: &Expr, t: i64) -> Result<StepValue, QueryError> {
        match expr {
            Expr::Number(n) => Ok(StepValue::Scalar(n.value)),
            Expr::String(s) => Ok(StepValue::String(s.value.clone())),
            Expr::Vector(v) => Ok(StepValue::Vector(self.select_instant(v, t)?)),
            Expr::Matrix(m) => Ok(StepValue::Range(self.select_range(m, t)?)),
            Expr::Subquery(s) => Ok(StepValue::Range(self.subquery(s, t)?)),
            Expr::Call(c) => self.call(c, t),
            Expr::Aggregate(a) => Ok(StepValue::Vector(self.aggregate(a, t)?)),
            Expr::Binary(b) => self.binary(b, t),
            Expr::Unary(u) => self.unary(u, t),
            Expr::Paren(p) => self.eval(&p.expr, t),
        }
    }

    fn scalar(&self, expr: &Expr, t: i64) -> Result<f64, QueryError> {
        match self.eval(expr, t)? {
            StepValue::Scalar(v) => Ok(v),
            _ => Err(fail("expected a scalar")),
        }
    }

    fn vector(&self, expr: &Expr, t: i64) -> Result<Vec<Element>, QueryError> {
        match self.eval(expr, t)? {
            StepValue::Vector(v) => Ok(v),
            _ => Err(fail("expected an instant vector")),
        }
    }

    fn range_vector(&self, expr: &Expr, t: i64) -> Result<RangeVector, QueryError> {
        match self.eval(expr, t)? {
            StepValue::Range(v) => Ok(v),
            _ => Err(fail("expected a range vector")),
        }
    }

    fn unary(&self, u: &Unary, t: i64) -> Result<StepValue, QueryError> {
        let value = self.eval(&u.expr, t)?;
        if !u.negative {
            return Ok(value);
        }
        match value {
            StepValue::Scalar(v) => Ok(StepValue::Scalar(-v)),
            StepValue::Vector(mut elements) => {
                for element in &mut elements {
                    element.value = match &element.value {
                        SampleValue::Float(v) => SampleValue::Float(-v),
                        SampleValue::Histogram(h) => SampleValue::Histogram(Arc::new(histogram::scaled(h, -1.0))),
                    };
                    self.drop_name(element);
                }
                Ok(StepValue::Vector(elements))
            }
            _ => Err(fail("expected a scalar or an instant vector")),
        }
    }
}

#[cfg(test)]
mod tests;
