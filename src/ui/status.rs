//! The status page: tables of names and values.

use askama::Template;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use super::{Shell, ThemeChoice, page};

/// What the page shows.
#[derive(Debug, Clone, Default)]
pub struct StatusView {
    /// One sentence when something is wrong; empty when all is well.
    pub problem: String,
    /// Title, and rows of name and value.
    pub sections: Vec<(String, Vec<(String, String)>)>,
    /// The configuration in force, as YAML, without secrets.
    pub configuration: String,
}

impl StatusView {
    /// Whether the values of a table are nothing but numbers, which belong below each other.
    fn are_counts(rows: &[(String, String)]) -> bool {
        rows.iter().all(|(_, value)| !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit() || b == b','))
    }
}

#[derive(Template)]
#[template(path = "status.html")]
struct StatusPage<'a> {
    shell: Shell,
    view: &'a StatusView,
}

/// The page.
#[must_use]
pub fn render(view: &StatusView, query: &[(String, String)], headers: &HeaderMap) -> Response {
    let theme = query.iter().find(|(n, _)| n == "theme").map(|(_, v)| v.as_str());
    let shell = Shell::new("Status", "status", ThemeChoice::choose(theme, headers));
    page(StatusCode::OK, &StatusPage { shell, view })
}
