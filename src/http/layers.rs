//! What happens around every request: readiness and CORS.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::MethodFilter;

use super::Http;
use super::answer::text;
use super::backend::Readiness;
use super::lifecycle::unavailable;

/// What changes the server's state takes these.
pub(crate) const POST_PUT: MethodFilter = MethodFilter::POST.or(MethodFilter::PUT);

/// Answers 503 while there is no data, or no server soon.
pub(crate) async fn gate(State(http): State<Arc<Http>>, request: Request, next: Next) -> Response {
    match http.backend.readiness() {
        Readiness::Ready | Readiness::ReadOnly(_) => next.run(request).await,
        Readiness::Starting => unavailable(false),
        Readiness::Stopping => unavailable(true),
    }
}

/// Sends who asked with a slash too many to the address without it; there is nothing else.
pub(crate) async fn not_found(method: Method, uri: Uri) -> Response {
    // The part of the path below the API's.
    let path = uri.path();
    let trimmed = path.trim_end_matches('/');
    if method != Method::GET || trimmed.len() == path.len() || trimmed.is_empty() {
        return text(StatusCode::NOT_FOUND, "404 page not found\n");
    }
    let query = uri.query().map(|q| format!("?{q}")).unwrap_or_default();
    let to = format!("/api/v1{trimmed}{query}");
    (StatusCode::MOVED_PERMANENTLY, [(header::LOCATION, to)]).into_response()
}

/// Lets pages of allowed origins read the answers, and answers their preflight requests.
pub(crate) async fn cors(State(http): State<Arc<Http>>, request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = match *request.method() {
        Method::OPTIONS => StatusCode::NO_CONTENT.into_response(),
        _ => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = origin {
        allow(headers, origin, &http.options.cors_origin);
    }
    response
}

fn allow(headers: &mut HeaderMap, origin: HeaderValue, allowed: &promontory_model::Regex) {
    let fixed = [
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "Accept, Authorization, Content-Type, Origin"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS"),
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, "Date"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if origin.to_str().is_ok_and(|origin| allowed.is_match(origin)) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
}

/// Keeps browsers from taking an answer for another type than it says.
pub(crate) async fn no_sniff(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
