//! The envelope of every API answer, and the ways in which a request can fail.

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use promontory_model::{Cancelled, ReadError};
use promontory_promql::annotations::{Annotations, Severity};
use promontory_promql::error::QueryError;

use super::{json, pieces};

/// Warnings, and likewise infos, in one answer.
const ANNOTATIONS_MAX: usize = 10;

/// The kinds of failure that the API knows, each with its status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorType {
    BadData,
    Execution,
    Canceled,
    Timeout,
    Internal,
    Unavailable,
}

impl ErrorType {
    fn as_str(self) -> &'static str {
        match self {
            Self::BadData => "bad_data",
            Self::Execution => "execution",
            Self::Canceled => "canceled",
            Self::Timeout => "timeout",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::BadData => StatusCode::BAD_REQUEST,
            Self::Execution => StatusCode::UNPROCESSABLE_ENTITY,
            // nginx' "client closed request": nobody is there to read it, but logs and metrics show it.
            Self::Canceled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
            Self::Timeout => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal | Self::Unavailable => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// A failed API request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) kind: ErrorType,
    pub(crate) message: String,
}

impl ApiError {
    pub(crate) fn new(kind: ErrorType, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub(crate) fn bad_data(message: impl Into<String>) -> Self {
        Self::new(ErrorType::BadData, message)
    }

    /// A parameter that makes no sense.
    pub(crate) fn parameter(name: &str, reason: impl std::fmt::Display) -> Self {
        Self::bad_data(format!("invalid parameter \"{name}\": {reason}"))
    }
}

impl From<QueryError> for ApiError {
    fn from(e: QueryError) -> Self {
        let kind = match &e {
            QueryError::Timeout => ErrorType::Timeout,
            QueryError::Cancelled => ErrorType::Canceled,
            QueryError::Read(ReadError::Io { .. } | ReadError::Corrupt { .. }) => ErrorType::Internal,
            _ => ErrorType::Execution,
        };
        Self::new(kind, e.to_string())
    }
}

impl From<ReadError> for ApiError {
    fn from(e: ReadError) -> Self {
        let kind = match &e {
            ReadError::Cancelled(Cancelled::Timeout) => ErrorType::Timeout,
            ReadError::Cancelled(_) => ErrorType::Canceled,
            ReadError::Limit { .. } => ErrorType::Execution,
            ReadError::Io { .. } | ReadError::Corrupt { .. } => ErrorType::Internal,
        };
        Self::new(kind, e.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut out = b"{\"status\":\"error\",\"errorType\":".to_vec();
        json::push_string(&mut out, self.kind.as_str());
        out.extend_from_slice(b",\"error\":");
        json::push_string(&mut out, &self.message);
        out.push(b'}');
        json_response(self.kind.status(), out)
    }
}

/// A plain text answer, as the endpoints outside of the API give.
pub(crate) fn text(status: StatusCode, text: impl Into<String>) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text.into()).into_response()
}

pub(crate) fn json_response(status: StatusCode, body: impl Into<Body>) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.into()).into_response()
}

/// What stands before the data of a successful answer.
pub(crate) const SUCCESS: &[u8] = b"{\"status\":\"success\",\"data\":";

/// What may stand after the data.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Remarks {
    pub(crate) warnings: Vec<String>,
    pub(crate) infos: Vec<String>,
}

impl Remarks {
    /// Those of a query's value; `query` is its text.
    pub(crate) fn of(annotations: &Annotations, query: &str) -> Self {
        Self {
            warnings: at_most(annotations.texts(Severity::Warning, query), "warning"),
            infos: at_most(annotations.texts(Severity::Info, query), "info"),
        }
    }

    /// Notes that a list was cut at the request's limit.
    pub(crate) fn truncated(&mut self) {
        self.warnings.push("results truncated due to limit".to_owned());
    }

    /// Appends the end of the answer that [`SUCCESS`] began.
    pub(crate) fn push_end(&self, out: &mut Vec<u8>) {
        for (name, texts) in [("warnings", &self.warnings), ("infos", &self.infos)] {
            if !texts.is_empty() {
                json::push_next_name(out, name);
                json::push_strings(out, texts);
            }
        }
        out.push(b'}');
    }
}

fn at_most(mut texts: Vec<String>, kind: &str) -> Vec<String> {
    let omitted = texts.len().saturating_sub(ANNOTATIONS_MAX);
    if omitted > 0 {
        texts.truncate(ANNOTATIONS_MAX);
        texts.push(format!("{omitted} more {kind} annotations omitted"));
    }
    texts
}

/// A successful answer whose data `write` appends.
pub(crate) fn success(remarks: &Remarks, write: impl FnOnce(&mut Vec<u8>)) -> Response {
    let mut out = SUCCESS.to_vec();
    write(&mut out);
    remarks.push_end(&mut out);
    json_response(StatusCode::OK, out)
}

/// A successful answer whose data is a list, of any length; `push` appends one item.
pub(crate) fn success_list<T: Send + Unpin + 'static>(
    remarks: &Remarks,
    items: Vec<T>,
    push: impl Fn(&mut Vec<u8>, &T) + Send + Unpin + 'static,
) -> Response {
    let mut tail = Vec::new();
    remarks.push_end(&mut tail);
    json_response(StatusCode::OK, pieces::list(SUCCESS, items, tail, push))
}

/// A successful answer with a small value.
pub(crate) fn success_value(value: &serde_json::Value) -> Response {
    success(&Remarks::default(), |out| out.extend_from_slice(value.to_string().as_bytes()))
}
