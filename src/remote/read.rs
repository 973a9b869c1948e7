//! `POST /api/v1/read`: raw samples for other servers, in the sampled form; the streamed one is that of `stream`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use promontory_model::{
    Cancel, Cancelled, Columns, Labels, MatchOp, Matcher, ReadError, Select, SeriesBatch, Snapshot, TimeRange,
};
use promontory_model::{Queryable as _, RegexError};
use prost::Message;

use super::histogram::{self, Histogram};
use super::{
    READ_BODY_BYTES_MAX, READ_DECODED_BYTES_MAX, READ_SAMPLES_MAX, READ_SERIES_MAX, Refused, Remote, check_encoding,
    decompress, stream,
};

/// Queries of one request.
const QUERIES_MAX: usize = 1000;
/// Forms of an answer among `accepted_response_types`.
pub(super) const SAMPLES: i32 = 0;
pub(super) const STREAMED_XOR_CHUNKS: i32 = 1;

#[derive(Clone, PartialEq, Message)]
pub(super) struct ReadRequest {
    #[prost(message, repeated, tag = "1")]
    pub(super) queries: Vec<Query>,
    #[prost(int32, repeated, tag = "2")]
    pub(super) accepted_response_types: Vec<i32>,
}

/// Hints (4) tell what the samples are for; all of them are sent in any case.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Query {
    #[prost(int64, tag = "1")]
    pub(super) start_timestamp_ms: i64,
    #[prost(int64, tag = "2")]
    pub(super) end_timestamp_ms: i64,
    #[prost(message, repeated, tag = "3")]
    pub(super) matchers: Vec<LabelMatcher>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct LabelMatcher {
    #[prost(int32, tag = "1")]
    pub(super) op: i32,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(string, tag = "3")]
    pub(super) value: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    pub(super) labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub(super) samples: Vec<Sample>,
    /// Never sent.
    #[prost(message, repeated, tag = "3")]
    pub(super) exemplars: Vec<Exemplar>,
    #[prost(message, repeated, tag = "4")]
    pub(super) histograms: Vec<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Label {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Sample {
    #[prost(double, tag = "1")]
    pub(super) value: f64,
    #[prost(int64, tag = "2")]
    pub(super) timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Exemplar {
    #[prost(message, repeated, tag = "1")]
    pub(super) labels: Vec<Label>,
    #[prost(double, tag = "2")]
    pub(super) value: f64,
    #[prost(int64, tag = "3")]
    pub(super) timestamp: i64,
}

/// Stops the work when the request's future is dropped.
pub(super) struct CancelOnDrop(pub(super) Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel(Cancelled::ByUser);
    }
}

/// Answers all queries of a request.
pub(super) async fn read(
    State(remote): State<Arc<Remote>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refused> {
    check_encoding(&headers)?;
    let reading = remote.meter.reading();
    let cancel = Cancel::new();
    let _stop_when_dropped = CancelOnDrop(cancel.clone());
    let timeout = std::time::Duration::from_millis(u64::try_from(remote.read_timeout.ms()).unwrap_or(0));
    let worker = remote.clone();
    let flag = cancel.clone();
    let work = async move {
        let body = worker.bodies.read(&headers, body, READ_BODY_BYTES_MAX).await?;
        let place = worker.read_places.clone().acquire_owned().await.map_err(internal)?;
        let mut buffer = Vec::new();
        let request =
            ReadRequest::decode(decompress(&body.bytes, &mut buffer, READ_DECODED_BYTES_MAX)?).map_err(Refused::bad)?;
        if request.queries.len() > QUERIES_MAX {
            return Err(Refused::bad(format_args!("more than {QUERIES_MAX} queries (queries_max)")));
        }
        if is_streamed(&request.accepted_response_types)? {
            return stream::answer(&worker, request.queries, (place, reading));
        }
        let answer = tokio::task::spawn_blocking(move || {
            let _held = (place, reading);
            answer(&worker, &request.queries, &flag)
        });
        let bytes = answer.await.unwrap_or_else(|e| Err(internal(format_args!("read samples: {e}"))))?;
        let headers = [(header::CONTENT_TYPE, "application/x-protobuf"), (header::CONTENT_ENCODING, "snappy")];
        Ok((headers, bytes).into_response())
    };
    tokio::time::timeout(timeout, work).await.unwrap_or_else(|_| {
        cancel.cancel(Cancelled::Timeout);
        Err(Refused(StatusCode::SERVICE_UNAVAILABLE, "remote read timed out (query.timeout)".to_owned()))
    })
}

/// Whether the first form that the client accepts and that is known is the streamed one.
fn is_streamed(accepted: &[i32]) -> Result<bool, Refused> {
    match accepted.iter().find(|form| matches!(**form, SAMPLES | STREAMED_XOR_CHUNKS)) {
        Some(form) => Ok(*form == STREAMED_XOR_CHUNKS),
        None if accepted.is_empty() => Ok(false),
        None => Err(Refused::bad(format_args!(
            "none of the response types {accepted:?} is supported; 0 (SAMPLES) and 1 (STREAMED_XOR_CHUNKS) are"
        ))),
    }
}

pub(super) fn internal(reason: impl std::fmt::Display) -> Refused {
    Refused(StatusCode::INTERNAL_SERVER_ERROR, reason.to_string())
}

fn answer(remote: &Remote, queries: &[Query], cancel: &Cancel) -> Result<Vec<u8>, Refused> {
    let snapshot = remote.db.snapshot().map_err(internal)?;
    let external = (remote.external_labels)();
    let mut response = Vec::new();
    let mut left = READ_SAMPLES_MAX;
    for query in queries {
        let matchers = read_matchers(query, &external).map_err(Refused::bad)?;
        let range = TimeRange::new(query.start_timestamp_ms, query.end_timestamp_ms);
        let select = Select { range, matchers: &matchers, cancel };
        let result = run(&*snapshot, &select, &external, &mut left).map_err(|e| match e {
            ReadError::Limit { limit: what, allowed, .. } => Refused::bad(format_args!("exceeded {what} ({allowed})")),
            other => internal(other),
        })?;
        // Field 1 of the response, which prost writes only for whole messages.
        prost::encoding::bytes::encode(1, &result, &mut response);
    }
    snap::raw::Encoder::new().compress_vec(&response).map_err(internal)
}

/// The query's matchers. An external label is not stored: a matcher that asks for its value asks for series without
/// the label, which get it in the answer.
pub(super) fn read_matchers(query: &Query, external: &Labels) -> Result<Vec<Matcher>, RegexError> {
    let read = |m: &LabelMatcher| {
        let op = match m.op {
            1 => MatchOp::NotEqual,
            2 => MatchOp::Regex,
            3 => MatchOp::NotRegex,
            _ => MatchOp::Equal,
        };
        let is_external = op == MatchOp::Equal && external.get(&m.name) == Some(m.value.as_str());
        Matcher::new(&m.name, op, if is_external { "" } else { &m.value })
    };
    query.matchers.iter().map(read).collect()
}

/// The message `QueryResult` of one query: series by ascending labels. `left` samples may still be sent.
fn run(
    snapshot: &dyn Snapshot,
    select: &Select<'_>,
    external: &Labels,
    left: &mut usize,
) -> Result<Vec<u8>, ReadError> {
    let found = selected(snapshot, select, external)?;
    let mut result = Vec::new();
    let mut columns = Columns::default();
    for (labels, batch, i) in found {
        select.cancel.check()?;
        batch.read(i..i + 1, select.range, &mut columns)?;
        let column = columns.column(0);
        let rows = columns.timestamps().iter().zip(column.values).enumerate();
        let samples: Vec<Sample> = rows
            .filter(|(row, _)| column.is_present(*row))
            .map(|(_, (&timestamp, &value))| Sample { value, timestamp })
            .collect();
        let histograms: Vec<Histogram> = column
            .histogram_samples()
            .map(|(row, sample)| histogram::message(columns.timestamps()[row], &sample))
            .collect();
        *left = left
            .checked_sub(samples.len() + histograms.iter().map(weight).sum::<usize>())
            .ok_or_else(|| beyond("sample limit read_samples_max", READ_SAMPLES_MAX))?;
        if !samples.is_empty() || !histograms.is_empty() {
            let labels = labels.iter().map(|(n, v)| Label { name: n.to_owned(), value: v.to_owned() }).collect();
            let series = TimeSeries { labels, samples, exemplars: Vec::new(), histograms };
            prost::encoding::message::encode(1, &series, &mut result);
        }
    }
    Ok(result)
}

fn beyond(limit: &'static str, allowed: usize) -> ReadError {
    let allowed = allowed as u64;
    ReadError::Limit { limit, needed: allowed + 1, allowed }
}

/// A series with external labels: its batch and its place there.
pub(super) type Selected = (Labels, Arc<dyn SeriesBatch>, usize);

/// The series of a query with external labels, by ascending labels.
pub(super) fn selected(
    snapshot: &dyn Snapshot,
    select: &Select<'_>,
    external: &Labels,
) -> Result<Vec<Selected>, ReadError> {
    let selection = snapshot.select(select)?;
    let n_series: usize = selection.batches.iter().map(|batch| batch.n_series()).sum();
    if n_series > READ_SERIES_MAX {
        return Err(beyond("series limit read_series_max", READ_SERIES_MAX));
    }
    let mut found: Vec<Selected> = Vec::with_capacity(n_series);
    for batch in selection.batches {
        select.cancel.check()?;
        let of = |i| (with_external(&batch.labels(i), external), Arc::clone(&batch), i);
        found.extend((0..batch.n_series()).map(of));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

/// How many samples a histogram counts for, by what it takes.
fn weight(h: &Histogram) -> usize {
    let buckets = h.positive_deltas.len() + h.positive_counts.len() + h.negative_deltas.len() + h.negative_counts.len();
    1 + (buckets + h.custom_values.len()) / 2
}

/// The labels with the external ones that are lacking.
pub(super) fn with_external(labels: &Labels, external: &Labels) -> Labels {
    if external.is_empty() {
        return labels.clone();
    }
    let mut builder = labels.to_builder();
    for (name, value) in external {
        if labels.get(name).is_none() {
            builder.set(name, value);
        }
    }
    builder.build()
}
