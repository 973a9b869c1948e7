//! The status page, tables of names and values, and the configuration.

use askama::Template;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use super::{Shell, page};

/// What the page shows.
#[derive(Debug, Clone, Default)]
pub struct StatusView {
    /// One sentence when something is wrong; empty when all is well.
    pub problem: String,
    /// Title, and rows of name and value.
    pub sections: Vec<(String, Vec<(String, String)>)>,
}

/// The configuration page.
#[derive(Debug, Clone, Default)]
pub struct ConfigView {
    /// Where the configuration was read; empty without a file.
    pub file: String,
    /// What is in force, defaults filled in, without secrets.
    pub yaml: String,
}

impl StatusView {
    /// Whether the values of a table are nothing but numbers, which belong below each other.
    fn are_counts(rows: &[(String, String)]) -> bool {
        rows.iter()
            .all(|(_, value)| !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit() || b == b',' || b == b'+'))
    }
}

#[derive(Template)]
#[template(path = "status.html")]
struct StatusPage<'a> {
    shell: Shell,
    title: &'static str,
    view: &'a StatusView,
}

#[derive(Template)]
#[template(path = "config.html")]
struct ConfigPage<'a> {
    shell: Shell,
    view: &'a ConfigView,
}

/// The status page.
#[must_use]
pub fn render(view: &StatusView, query: &[(String, String)], headers: &HeaderMap) -> Response {
    render_sections("Status", view, query, headers)
}

/// The page of what is stored.
#[must_use]
pub fn render_storage(view: &StatusView, query: &[(String, String)], headers: &HeaderMap) -> Response {
    render_sections("Storage", view, query, headers)
}

fn render_sections(
    title: &'static str,
    view: &StatusView,
    query: &[(String, String)],
    headers: &HeaderMap,
) -> Response {
    let shell = Shell::of_page(title, "status", query, headers);
    page(StatusCode::OK, &StatusPage { shell, title, view })
}

/// The configuration page.
#[must_use]
pub fn render_config(view: &ConfigView, query: &[(String, String)], headers: &HeaderMap) -> Response {
    let shell = Shell::of_page("Configuration", "status", query, headers);
    page(StatusCode::OK, &ConfigPage { shell, view })
}
