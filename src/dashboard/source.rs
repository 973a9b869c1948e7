//! Where panels and variables get their data.

use std::sync::Arc;

use promontory_model::{Cancel, Labels, ReadError, TimeRange};
use promontory_promql::engine::Operator;
use promontory_promql::error::{ParseError, QueryError};
use promontory_promql::lint::Suggestion;
use promontory_promql::value::{QueryOutput, RangeSpec};

/// Something that answers PromQL. Calls block; they come from worker threads.
pub trait DataSource: Send + Sync {
    /// The value of `query` at `t_ms`.
    ///
    /// # Errors
    /// [`SourceError`] when the query does not parse or cannot be evaluated.
    fn instant(&self, query: &str, t_ms: i64, cancel: &Cancel) -> Result<QueryOutput, SourceError>;

    /// The values of `query` at every step.
    ///
    /// # Errors
    /// As [`DataSource::instant`].
    fn range(&self, query: &str, steps: RangeSpec, cancel: &Cancel) -> Result<QueryOutput, SourceError>;

    /// The values of `query` at every step, and what each operator of its plan did.
    ///
    /// # Errors
    /// As [`DataSource::instant`].
    fn analyze(
        &self,
        query: &str,
        steps: RangeSpec,
        cancel: &Cancel,
    ) -> Result<(QueryOutput, Vec<Operator>), SourceError>;

    /// Probable mistakes of `query`, judged by the series of `range`; none where it does not parse.
    fn suggestions(&self, query: &str, range: TimeRange, cancel: &Cancel) -> Vec<Suggestion>;

    /// Sorted values of a label over the series that match `selector` (all when `None`).
    ///
    /// # Errors
    /// As [`DataSource::instant`].
    fn label_values(
        &self,
        name: &str,
        selector: Option<&str>,
        range: TimeRange,
        cancel: &Cancel,
    ) -> Result<Vec<String>, SourceError>;

    /// Sorted label names over the series that match `selector`.
    ///
    /// # Errors
    /// As [`DataSource::instant`].
    fn label_names(
        &self,
        selector: Option<&str>,
        range: TimeRange,
        cancel: &Cancel,
    ) -> Result<Vec<String>, SourceError>;

    /// Label sets of the series that match `selector`.
    ///
    /// # Errors
    /// As [`DataSource::instant`].
    fn series(&self, selector: &str, range: TimeRange, cancel: &Cancel) -> Result<Vec<Labels>, SourceError>;
}

/// A shared data source.
pub type SharedSource = Arc<dyn DataSource>;

/// Why there is no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SourceError {
    /// The text is not PromQL.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The evaluation failed.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The store could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A selector was expected.
    #[error("{0:?} is not a series selector")]
    NotASelector(String),
}
