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
mod histogram_text;
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
mod select;
mod stages;
#[cfg(test)]
mod tests;
mod vector;
mod windows;

use std::sync::Arc;

use promontory_model::{Cancel, Queryable};

pub use budget::MemoryPool;

use crate::ast::{Expr, ValueType};
use crate::error::QueryError;
use crate::plan::{self, Grid, PlanOptions};
use crate::promqltest::Evaluator;
use crate::value::{QueryOutput, RangeSpec};

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
        self.run(queryable, expr, Grid { start: t_ms, step: 1, n: 1 }, false, cancel)
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
        let grid = steps(range)?;
        let kind = match expr.value_type() {
            ValueType::Scalar | ValueType::InstantVector => None,
            ValueType::String => Some("string"),
            ValueType::RangeVector => Some("range vector"),
        };
        if let Some(kind) = kind {
            let message =
                format!("invalid expression type \"{kind}\" for range query, must be Scalar or instant Vector");
            return Err(QueryError::Execution { message, span: Some(expr.span()) });
        }
        self.run(queryable, expr, grid, true, cancel)
    }

    fn run(
        &self,
        queryable: &dyn Queryable,
        expr: &Expr,
        grid: Grid,
        is_range: bool,
        cancel: &Cancel,
    ) -> Result<QueryOutput, QueryError> {
        let o = &self.options;
        let budget = budget::Budget::new(o.max_samples, o.memory_bytes_max, self.pool.clone());
        // Every operator holds its steps at least once; a query of too many is refused before they are listed.
        drop(budget.charge(0, (grid.n as u64).saturating_mul(8))?);
        let plan = plan::build(expr, PlanOptions { grid, is_range, subquery_step_ms: o.subquery_step_ms.max(1) })?;
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
        let mut exec = exec::Exec::new(&plan, ctx);
        let value = output::value(&mut exec, is_range)?;
        Ok(QueryOutput { value, annotations: exec.annotations, stats: budget.stats() })
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
