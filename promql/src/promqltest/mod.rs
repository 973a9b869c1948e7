//! The script language of Prometheus' PromQL tests: load series, evaluate queries, compare.
//!
//! Works with any evaluator. Beyond what a script says, each instant query is evaluated again with `@` put on its
//! selectors, at other times, and as a range query around its time; all must agree. One wrong query does not end a
//! script: every `eval` passes or fails by itself.
//!
//! # Source
//! Prometheus' `promql/promqltest`, whose scripts run unchanged.

mod compare;
mod rerun;
mod reset_hints;
mod runner;
mod script;
mod series;
pub mod storage;

pub use runner::run_file;
pub use series::{SeriesValue, parse_series};

use promontory_model::{Cancel, Queryable};

use crate::ast::Expr;
use crate::error::QueryError;
use crate::value::{QueryOutput, RangeSpec};

/// What a script needs of an evaluator.
///
/// It must be set up as the scripts expect: lookback delta 5 min, subquery step 1 min, delayed name removal and start
/// timestamps on.
pub trait Evaluator {
    /// The value of `expr` at `t_ms`.
    ///
    /// # Errors
    /// [`QueryError`] when there is none.
    fn instant(
        &self,
        store: &dyn Queryable,
        expr: &Expr,
        t_ms: i64,
        cancel: &Cancel,
    ) -> Result<QueryOutput, QueryError>;

    /// The values of `expr` at all steps of `range`.
    ///
    /// # Errors
    /// [`QueryError`] when there is none.
    fn range(
        &self,
        store: &dyn Queryable,
        expr: &Expr,
        range: RangeSpec,
        cancel: &Cancel,
    ) -> Result<QueryOutput, QueryError>;
}

/// What became of a script.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileReport {
    /// Name of the file, as given.
    pub name: String,
    /// How many `eval` held in every respect.
    pub passed: usize,
    /// Those that did not, and lines that could not be understood.
    pub failures: Vec<Failure>,
}

impl FileReport {
    /// How many did not hold.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.failures.len()
    }
}

/// An `eval` that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Line of the script, from 1.
    pub line: usize,
    /// The query or the line.
    pub query: String,
    /// What should have been.
    pub expected: String,
    /// What was.
    pub got: String,
}

#[cfg(test)]
mod tests;
