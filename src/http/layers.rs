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

/// Nothing is there, but maybe where the path leads without what it has too much.
pub(crate) async fn not_found(method: Method, uri: Uri) -> Response {
    // The path is the part below the API's.
    tidied(&method, &format!("/api/v1{}", uri.path()), uri.query()).unwrap_or_else(nothing)
}

/// The answer for a path that nothing has.
pub(crate) fn nothing() -> Response {
    text(StatusCode::NOT_FOUND, "404 page not found\n")
}

/// For a path that nothing has: sends who asks to the same one without empty parts, dots and a slash at its end, which
/// come of joining an address that ends with a slash and a path. `None` if it has none of these.
///
/// # Source
/// Go's `http.ServeMux`; differs in that requests with a body are sent on with it.
pub(crate) fn tidied(method: &Method, path: &str, query: Option<&str>) -> Option<Response> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let tidy = format!("/{}", parts.join("/"));
    // A backslash at the beginning is to browsers what a second slash is, and would lead to another host.
    if tidy == path || path.contains('\\') {
        return None;
    }
    let to = query.map_or_else(|| tidy.clone(), |query| format!("{tidy}?{query}"));
    let status = match *method {
        Method::GET | Method::HEAD => StatusCode::MOVED_PERMANENTLY,
        _ => StatusCode::PERMANENT_REDIRECT,
    };
    Some((status, [(header::LOCATION, to)]).into_response())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(method: Method, uri: &str, expected: Option<(u16, &str)>) {
        let uri: Uri = uri.parse().unwrap();
        let response = tidied(&method, uri.path(), uri.query());
        let got = response.map(|r| (r.status().as_u16(), r.headers()[header::LOCATION].to_str().unwrap().to_owned()));
        assert_eq!(got, expected.map(|(status, to)| (status, to.to_owned())), "{uri}");
    }

    #[test]
    fn paths_are_sent_to_their_tidy_form() {
        check(Method::GET, "/nothing", None);
        check(Method::GET, "/", None);
        check(Method::GET, "//api/v1/query?query=//", Some((301, "/api/v1/query?query=//")));
        check(Method::HEAD, "/metrics/", Some((301, "/metrics")));
        check(Method::POST, "/api//v1/query", Some((308, "/api/v1/query")));
        check(Method::GET, "/a/./b/../../../c", Some((301, "/c")));
        check(Method::GET, "//", Some((301, "/")));
        // Never to another host.
        check(Method::GET, "//evil.example/x", Some((301, "/evil.example/x")));
        check(Method::GET, "/\\evil.example/", None);
    }
}
