//! The columnar engine: evaluates a plan over batches of series × all steps.
//!
//! Data moves between operators as [`vector::Vector`]s: all steps of many series at once. Leaves read a batch of
//! stored series chunk by chunk ([`select`]), run a kernel over each column and hand over values only; an
//! aggregation right above them keeps groups × steps and never sees all series. Results are those of Prometheus
//! 3.14 and do not depend on the number of threads.

mod aggregate;
mod budget;
mod calls;

mod exec;
mod histogram_windows;
mod info;
mod join;
mod notes;
mod operands;
mod output;
mod pool;
mod quantiles;
mod ranked;
mod relabel;
mod report;
mod select;
mod stages;
#[cfg(test)]
mod tests;
mod vector;
mod windows;

use std::sync::Arc;

use promontory_model::{Cancel, Queryable};

pub use budget::MemoryPool;
pub use report::{Cost, Estimate, Operator};

use crate::annotations::Annotations;
use crate::ast::{Expr, ValueType};
use crate::error::QueryError;
use crate::plan::{self, Grid, PlanOptions};
use crate::promqltest::Evaluator;
use crate::value::{QueryOutput, RangeSpec, Value};

/// What an evaluation may use and how it behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineOptions {
    /// How long a sample holds, in ms: Prometheus' `query.lookback-delta`.
    pub lookback_ms: i64,
    /// Most samples held at once: Prometheus' `query.max-samples`.
    pub max_samples: u64,
    /// Most bytes held at once by one query: `query.max-memory`.
    pub memory_bytes_max: u64,
    /// Step of subqueries that name none, in ms: the global evaluation interval.
    pub subquery_step_ms: i64,
    /// Whether metric names are removed at the end of a query instead of by each function.
    pub delayed_name_removal: bool,
    /// Threads that one query may use; at least 1.
    pub threads: usize,
}

/// Evaluates queries; cheap to clone. Queries of clones share their pool of memory.
#[derive(Debug, Clone)]
pub struct Engine {
    options: EngineOptions,
    pool: Arc<MemoryPool>,
}

impl Engine {
    /// An engine with these options.
    #[must_use]
    pub fn new(options: EngineOptions) -> Self {
        Self::with_pool(options, Arc::default())
    }

    /// An engine whose queries share `pool` with those of other engines.
    #[must_use]
    pub fn with_pool(options: EngineOptions, pool: Arc<MemoryPool>) -> Self {
        Self { options, pool }
    }

    /// How it evaluates.
    #[must_use]
    pub fn options(&self) -> EngineOptions {
        self.options
    }

    /// The value of `expr` at one time.
    ///
    /// # Errors
    /// [`QueryError`] when the data does not allow a value, a limit is reached, or the work was cancelled.
    pub fn instant(
        &self,
        queryable: &dyn Queryable,
        expr: &Expr,
        t_ms: i64,
        cancel: &Cancel,
    ) -> Result<QueryOutput, QueryError> {
        Ok(self.run(queryable, expr, Times::At(t_ms), Mode::Evaluate, cancel)?.0)
    }

    /// The values of `expr`, an instant vector or a scalar, at the steps of `range`.
    ///
    /// # Errors
    /// As [`Engine::instant`]; also when `range` has no steps or the expression is of another type.
    pub fn range(
        &self,
        queryable: &dyn Queryable,
        expr: &Expr,
        range: RangeSpec,
        cancel: &Cancel,
    ) -> Result<QueryOutput, QueryError> {
        Ok(self.run(queryable, expr, Times::Range(range), Mode::Evaluate, cancel)?.0)
    }

    /// The operators that would evaluate `expr`, with what the index of the store says of its selectors. Reads no
    /// sample.
    ///
    /// # Errors
    /// As [`Engine::range`].
    pub fn explain(
        &self,
        queryable: &dyn Queryable,
        expr: &Expr,
        times: Times,
        cancel: &Cancel,
    ) -> Result<Vec<Operator>, QueryError> {
        Ok(self.run(queryable, expr, times, Mode::Explain, cancel)?.1)
    }

    /// The value of `expr`, and its operators with what each of them did. `now` counts ns from any start.
    ///
    /// # Errors
    /// As [`Engine::range`].
    pub fn analyze(
        &self,
        queryable: &dyn Queryable,
        expr: &Expr,
        times: Times,
        now: &dyn Fn() -> u64,
        cancel: &Cancel,
    ) -> Result<(QueryOutput, Vec<Operator>), QueryError> {
        self.run(queryable, expr, times, Mode::Measure(now), cancel)
    }

    fn run(
        &self,
        queryable: &dyn Queryable,
        expr: &Expr,
        times: Times,
        mode: Mode<'_>,
        cancel: &Cancel,
    ) -> Result<(QueryOutput, Vec<Operator>), QueryError> {
        let o = &self.options;
        let is_range = matches!(times, Times::Range(_));
        let grid = times.grid(expr)?;
        let end = match times {
            Times::At(t_ms) => t_ms,
            Times::Range(range) => range.end_ms,
        };
        let budget = budget::Budget::new(o.max_samples, o.memory_bytes_max, self.pool.clone());
        // Every operator holds its steps at least once; a query of too many is refused before they are listed.
        drop(budget.charge(0, (grid.n as u64).saturating_mul(8))?);
        let plan = plan::build(expr, PlanOptions { grid, end, is_range, subquery_step_ms: o.subquery_step_ms.max(1) })?;
        let steps = plan.nodes.iter().map(|p| p.grid.n as u64).max().unwrap_or(0);
        drop(budget.charge(0, steps.saturating_mul(64))?);
        let snapshot = queryable.snapshot()?;
        let ctx = select::Context {
            snapshot: snapshot.as_ref(),
            cancel,
            budget: &budget,
            lookback_ms: o.lookback_ms,
            delayed_names: o.delayed_name_removal,
            threads: o.threads.max(1),
        };
        if matches!(mode, Mode::Explain) {
            let empty = QueryOutput {
                value: Value::Vector(Vec::new()),
                annotations: Annotations::default(),
                stats: budget.stats(),
            };
            return Ok((empty, report::operators(&plan, ctx, None)?));
        }
        let mut exec = exec::Exec::new(&plan, ctx);
        if let Mode::Measure(now) = mode {
            exec.meter = Some(report::Meter::new(now, &plan));
        }
        let value = output::value(&mut exec, is_range)?;
        let stats = budget.stats();
        let operators = match &exec.meter {
            Some(meter) => report::operators(&plan, ctx, Some(meter))?,
            None => Vec::new(),
        };
        Ok((QueryOutput { value, annotations: exec.annotations, stats }, operators))
    }
}

/// What is asked of a query.
#[derive(Clone, Copy)]
enum Mode<'a> {
    /// Its operators.
    Explain,
    /// Its value.
    Evaluate,
    /// Both, with what each operator did.
    Measure(report::Now<'a>),
}

/// When a query is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// At one time, in ms.
    At(i64),
    /// At the steps of a range.
    Range(RangeSpec),
}

impl Times {
    fn grid(self, expr: &Expr) -> Result<Grid, QueryError> {
        let range = match self {
            Self::At(t_ms) => return Ok(Grid { start: t_ms, step: 1, n: 1 }),
            Self::Range(range) => range,
        };
        let grid = steps(range)?;
        let kind = match expr.value_type() {
            ValueType::Scalar | ValueType::InstantVector => return Ok(grid),
            ValueType::String => "string",
            ValueType::RangeVector => "range vector",
        };
        let message = format!("invalid expression type \"{kind}\" for range query, must be Scalar or instant Vector");
        Err(QueryError::Execution { message, span: Some(expr.span()) })
    }
}

/// The steps of a range query.
fn steps(range: RangeSpec) -> Result<Grid, QueryError> {
    let error = |message: &str| QueryError::Execution { message: message.to_owned(), span: None };
    if range.step_ms <= 0 {
        return Err(error("zero or negative query resolution step widths are not accepted"));
    }
    if range.end_ms < range.start_ms {
        return Err(error("end timestamp must not be before start time"));
    }
    let steps = (i128::from(range.end_ms) - i128::from(range.start_ms)) / i128::from(range.step_ms) + 1;
    let n = usize::try_from(steps).map_err(|_| error("the query has too many steps"))?;
    Ok(Grid { start: range.start_ms, step: range.step_ms, n })
}

/// The engine runs the scripts as it is, if its options are those that scripts expect.
impl Evaluator for Engine {
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
