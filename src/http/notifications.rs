//! `/api/v1/notifications`: what somebody should know of the server now, as a list and as it happens.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::Http;
use super::answer::success_value;
use super::backend::{Notification, Readiness};
use super::status::time;

/// Time between two looks for changes.
const LOOK: std::time::Duration = std::time::Duration::from_secs(1);
/// Messages that wait for a slow client, who loses those beyond.
const WAITING_MAX: usize = 64;

fn message(text: &str, date_ms: i64, is_active: bool) -> Value {
    json!({"text": text, "date": time(Some(date_ms)), "active": is_active})
}

/// `/api/v1/notifications`
pub(crate) async fn list(State(http): State<Arc<Http>>) -> Response {
    let all: Vec<Value> = http.backend.notifications().iter().map(|n| message(&n.text, n.since_ms, true)).collect();
    success_value(&Value::Array(all))
}

/// `/api/v1/notifications/live`: one event for each notification that is there, comes or goes.
pub(crate) async fn live(State(http): State<Arc<Http>>) -> Response {
    let Ok(place) = http.subscribers.clone().try_acquire_owned() else {
        return StatusCode::NO_CONTENT.into_response();
    };
    let (tell, told) = mpsc::channel(WAITING_MAX);
    tokio::spawn(async move {
        let mut known = BTreeMap::new();
        // At the latest with the server, so that its stop does not wait for readers.
        while !matches!(http.backend.readiness(), Readiness::Stopping) {
            for event in changes(&mut known, &http.backend.notifications(), http.clock.now().0) {
                if let Err(mpsc::error::TrySendError::Closed(_)) = tell.try_send(event) {
                    return;
                }
            }
            tokio::select! {
                () = tell.closed() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        drop(place);
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    (headers, Body::new(Events(told))).into_response()
}

/// Events for what has changed since `known`.
fn changes(known: &mut BTreeMap<String, i64>, now: &[Notification], now_ms: i64) -> Vec<Bytes> {
    let event =
        |text: &str, ms: i64, is_active: bool| Bytes::from(format!("data: {}\n\n", message(text, ms, is_active)));
    let mut out = Vec::new();
    known.retain(|text, _| {
        let stays = now.iter().any(|n| n.text == *text);
        if !stays {
            out.push(event(text, now_ms, false));
        }
        stays
    });
    for n in now {
        if known.insert(n.text.clone(), n.since_ms) != Some(n.since_ms) {
            out.push(event(&n.text, n.since_ms, true));
        }
    }
    out
}

struct Events(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|event| event.map(|bytes| Ok(Frame::data(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_tell_what_comes_and_goes() {
        let of = |text: &str, since_ms| Notification { text: text.to_owned(), since_ms };
        let mut known = BTreeMap::new();
        let mut look = |now: &[Notification]| {
            changes(&mut known, now, 2_000).iter().map(|b| String::from_utf8(b.to_vec()).unwrap()).collect::<Vec<_>>()
        };
        let a = "data: {\"text\":\"a\",\"date\":\"1970-01-01T00:00:01Z\",\"active\":true}\n\n";
        assert_eq!(look(&[of("a", 1_000)]), [a]);
        assert_eq!(look(&[of("a", 1_000)]), [""; 0]);
        assert_eq!(look(&[]), [a.replace("01Z", "02Z").replace("true", "false")]);
    }
}
