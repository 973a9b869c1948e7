//! Why a query has no value.

use promontory_model::{Cancelled, ReadError};

use crate::ast::Span;

/// A query text that does not parse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: parse error: {message}", place(*.line, *.column))]
pub struct ParseError {
    /// From 1; 0 for an empty text, in which nothing has a place.
    pub line: usize,
    /// From 1, in bytes.
    pub column: usize,
    /// The place of the offending text.
    pub span: Span,
    /// What is wrong, worded as Prometheus words it.
    pub message: String,
}

fn place(line: usize, column: usize) -> String {
    if line == 0 { "unknown position".to_owned() } else { format!("{line}:{column}") }
}

/// A query that parsed but could not be evaluated.
#[derive(Debug, Clone, thiserror::Error)]
pub enum QueryError {
    /// The expression has no value for this data (many-to-many matching, a bad parameter).
    #[error("{message}")]
    Execution {
        /// Worded as Prometheus words it.
        message: String,
        /// The part of the query.
        span: Option<Span>,
    },
    /// The deadline passed.
    #[error("query timed out in expression evaluation")]
    Timeout,
    /// Stopped on request.
    #[error("query was canceled in expression evaluation")]
    Cancelled,
    /// More samples than `query.max-samples`.
    #[error(
        "query processing would load too many samples into memory in query execution: query.max-samples is {allowed}"
    )]
    TooManySamples {
        /// The limit.
        allowed: u64,
    },
    /// More bytes than a limit of memory allows.
    #[error("{limit} exceeded: {needed} bytes needed, {allowed} allowed")]
    Memory {
        /// Name of the limit.
        limit: &'static str,
        /// Bytes that would be held.
        needed: u64,
        /// Bytes that may be held.
        allowed: u64,
    },
    /// Stored data could not be read.
    #[error("expanding series: {0}")]
    Read(ReadError),
}

impl From<ReadError> for QueryError {
    fn from(e: ReadError) -> Self {
        match e {
            ReadError::Cancelled(c) => c.into(),
            other => Self::Read(other),
        }
    }
}

impl From<Cancelled> for QueryError {
    fn from(c: Cancelled) -> Self {
        match c {
            Cancelled::Timeout => Self::Timeout,
            Cancelled::ByUser | Cancelled::Shutdown => Self::Cancelled,
        }
    }
}
