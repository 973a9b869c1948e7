//! `/-/*` and `/metrics`: for what runs the server, not for what asks it.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::Http;
use super::answer::text;
use super::backend::Readiness;

/// `/-/healthy`: the process serves requests.
pub(crate) async fn healthy() -> Response {
    text(StatusCode::OK, "Prometheus Server is Healthy.\n")
}

/// `/-/ready`: requests that need data are answered.
pub(crate) async fn ready(State(http): State<Arc<Http>>) -> Response {
    match http.backend.readiness() {
        Readiness::Ready => text(StatusCode::OK, "Prometheus Server is Ready.\n"),
        Readiness::ReadOnly(reason) => {
            text(StatusCode::SERVICE_UNAVAILABLE, format!("Prometheus Server is read-only: {reason}\n"))
        }
        Readiness::Starting => unavailable(false),
        Readiness::Stopping => unavailable(true),
    }
}

/// What everything that needs data answers before there is any, and while the server stops.
pub(crate) fn unavailable(stopping: bool) -> Response {
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable");
    let value = HeaderValue::from_static(if stopping { "true" } else { "false" });
    response.headers_mut().insert("x-prometheus-stopping", value);
    response
}

fn disabled() -> Response {
    text(StatusCode::FORBIDDEN, "Lifecycle API is not enabled.")
}

/// `/-/reload`.
pub(crate) async fn reload(State(http): State<Arc<Http>>) -> Response {
    if !http.options.enable_lifecycle {
        return disabled();
    }
    let backend = http.backend.clone();
    let result = tokio::task::spawn_blocking(move || backend.reload()).await;
    match result.unwrap_or_else(|e| Err(e.to_string())) {
        Ok(()) => StatusCode::OK.into_response(),
        Err(reason) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("failed to reload config: {reason}")),
    }
}

/// `/-/quit`.
pub(crate) async fn quit(State(http): State<Arc<Http>>) -> Response {
    if !http.options.enable_lifecycle {
        return disabled();
    }
    let answer = match http.backend.quit() {
        true => "Requesting termination... Goodbye!",
        false => "Termination already in progress.",
    };
    text(StatusCode::OK, answer)
}

/// `/metrics`.
pub(crate) async fn metrics(State(http): State<Arc<Http>>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
    // What the store tells may have to wait for a slow disk.
    let made = tokio::task::spawn_blocking(move || http.backend.metrics(&accept)).await;
    match made {
        Ok((kind, body)) => ([(header::CONTENT_TYPE, kind)], body).into_response(),
        Err(e) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("metrics: {e}\n")),
    }
}
