//! `/debug/pprof/…`: what the process does and holds, in the form that `go tool pprof` and `promtool debug` read.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::Shared;
use crate::telemetry::profile::{self, Kind, Threads};

/// Seconds that a profile of processor time may take, and takes where none are asked for.
const SECONDS_MAX: u64 = 120;
const SECONDS: u64 = 30;

const CPU: Kind = Kind { name: "cpu", unit: "nanoseconds" };
const MEMORY: Kind = Kind { name: "inuse_space", unit: "bytes" };
const THREADS: Kind = Kind { name: "threads", unit: "count" };

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new().route("/debug/pprof/{name}", get(answer)).with_state(shared)
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
) -> Response {
    let start_ms = shared.clock.now().ms();
    let bytes = match name.as_str() {
        "profile" => {
            let asked = query.iter().find(|(name, _)| name == "seconds").map(|(_, value)| value.parse::<u64>());
            let seconds = match asked.unwrap_or(Ok(SECONDS)) {
                Ok(seconds @ 1..=SECONDS_MAX) => seconds,
                _ => {
                    let message = format!("seconds must be a number from 1 to {SECONDS_MAX}\n");
                    return (StatusCode::BAD_REQUEST, message).into_response();
                }
            };
            let before = Threads::read();
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            let took_ms = shared.clock.now().ms() - start_ms;
            profile::encode(CPU, &Threads::read().since(&before), start_ms, took_ms)
        }
        "heap" | "allocs" => profile::encode(MEMORY, &memory(&shared), start_ms, 0),
        "goroutine" | "threadcreate" => profile::encode(THREADS, &Threads::read().counts(), start_ms, 0),
        // Nothing counts how long threads wait for each other: these have no samples.
        "block" | "mutex" => profile::encode(Kind { name: "delay", unit: "nanoseconds" }, &[], start_ms, 0),
        _ => {
            let names = "profile, heap, allocs, goroutine, threadcreate, block, mutex";
            return (StatusCode::NOT_FOUND, format!("no such profile; there are {names}\n")).into_response();
        }
    };
    let file = format!("attachment; filename=\"{name}.pb.gz\"");
    let headers = [(header::CONTENT_TYPE, "application/octet-stream"), (header::CONTENT_DISPOSITION, file.as_str())];
    (headers, bytes).into_response()
}

/// Memory by what holds it: the parts that count their bytes, then the rest of the process.
fn memory(shared: &Shared) -> Vec<(String, u64)> {
    let status = shared.db.status();
    let mut parts: Vec<(String, u64)> =
        status.head_memory.parts().into_iter().map(|(part, bytes)| (format!("head.{part}"), bytes)).collect();
    parts.push(("exemplars".to_owned(), status.exemplars.bytes));
    parts.push(("queries.kept_answers".to_owned(), shared.results.stats().bytes));
    parts.push(("queries.running".to_owned(), shared.memory.bytes()));
    let counted: u64 = parts.iter().map(|(_, bytes)| bytes).sum();
    let (allocated, mapped) = profile::resident();
    parts.push(("other".to_owned(), allocated.saturating_sub(counted)));
    parts.push(("mapped_files".to_owned(), mapped));
    parts.retain(|(_, bytes)| *bytes > 0);
    parts
}
