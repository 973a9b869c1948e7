//! Addresses where there is nothing: a page for people, a line for programs.

use askama::Template;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use super::{Shell, ThemeChoice, page};

#[derive(Template)]
#[template(path = "missing.html")]
struct MissingPage {
    shell: Shell,
    title: &'static str,
    message: String,
    /// Address and name.
    links: Vec<(&'static str, &'static str)>,
}

/// The answer for a path that nothing has.
pub async fn missing(uri: Uri, headers: HeaderMap) -> Response {
    let wants_page = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).is_some_and(|a| a.contains("text/html"));
    if !wants_page {
        return (StatusCode::NOT_FOUND, "404 page not found\n").into_response();
    }
    let mut links = vec![("/dashboards", "Dashboards"), ("/explore", "Explore"), ("/targets", "Targets")];
    let (title, message) = match uri.path().trim_end_matches('/') {
        // Where Prometheus has them.
        "/alerts" | "/rules" => {
            links.insert(0, ("/explore?expr=ALERTS&tab=table", "The series ALERTS in Explore"));
            let message =
                "This server evaluates no rules. It stores and shows what servers that do so send by remote write.";
            ("No rules here", message.to_owned())
        }
        path => ("Page not found", format!("There is nothing at {path}.")),
    };
    let shell = Shell::new(title, "", ThemeChoice::choose(None, &headers));
    page(StatusCode::NOT_FOUND, &MissingPage { shell, title, message, links })
}
