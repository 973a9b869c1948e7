//! Lines of the log of queries, which `query_log_file` of the configuration asks for.
//!
//! # Source
//! Prometheus' query log: one object per query with what was asked, how long it took and who asked.

use std::convert::Infallible;
use std::net::IpAddr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use promontory_model::Timestamp;
use promontory_promql::engine::Times;
use serde_json::{Value, json};

use super::Http;
use super::answer::ApiError;
use super::query::{Answered, Ran, show_stats};
use crate::json_log::shown;
use crate::listener::Peer;

/// Who asked, and how.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    client: Option<IpAddr>,
    method: String,
    path: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Origin {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self {
            client: parts.extensions.get::<Peer>().map(|peer| peer.0),
            method: parts.method.to_string(),
            // The path is the part below the API's.
            path: format!("/api/v1{}", parts.uri.path()),
        })
    }
}

/// Logs a query that has ended, if queries are logged.
pub(super) fn note(http: &Http, origin: &Origin, query: &str, times: Times, result: &Result<Ran<Answered>, ApiError>) {
    if !http.backend.logs_queries() {
        return;
    }
    let (start_ms, end_ms, step_ms) = match times {
        Times::At(t_ms) => (t_ms, t_ms, 0),
        Times::Range(steps) => (steps.start_ms, steps.end_ms, steps.step_ms),
    };
    let mut line = json!({
        "time": shown(http.clock.now()),
        "level": "INFO",
        "msg": "promql query logged",
        "params": {
            "query": query,
            "start": shown(Timestamp(start_ms)),
            "end": shown(Timestamp(end_ms)),
            "step": step_ms / 1_000,
        },
        "httpRequest": {
            "clientIP": origin.client.map(|ip| ip.to_string()).unwrap_or_default(),
            "method": origin.method,
            "path": origin.path,
        },
    });
    match result {
        Ok(ran) => line["stats"] = show_stats(ran.value.output.stats, &[], ran.queue_ns, ran.run_ns),
        Err(error) => line["error"] = Value::String(error.message.clone()),
    }
    http.backend.log_query(&line);
}
