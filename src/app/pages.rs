//! The operator's pages: fills the views of `ui` with what the parts say.

mod discovery;
mod status;
mod targets;

use std::sync::Arc;

use axum::Router;
use axum::extract::Query;
use axum::http::{HeaderMap, Method, Uri};
use axum::response::{Redirect, Response};
use axum::routing::{get, post};
use promontory_model::Labels;

use super::Shared;

type Pairs = Query<Vec<(String, String)>>;

/// Everything that a browser shows besides dashboards.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(async || Redirect::temporary("/dashboards")))
        // Addresses that people know from Prometheus.
        .route("/graph", get(async || Redirect::temporary("/explore")))
        .route("/query", get(async || Redirect::temporary("/explore")))
        .route("/flags", get(async || Redirect::temporary("/status")))
        .route("/targets", get(targets::targets_page))
        .route("/target", get(targets::target_page))
        .route("/target/scrape", post(targets::scrape_now))
        .route("/service-discovery", get(discovery::discovery_page))
        .route("/relabel", get(discovery::relabel_page))
        .route("/status", get(status::status_page))
        .route("/tsdb", get(status::storage_page))
        .route("/tsdb-status", get(async || Redirect::temporary("/tsdb")))
        .route("/config", get(status::config_page))
        .fallback(missing)
        .with_state(shared)
        .merge(crate::ui::assets::router())
}

async fn missing(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    match crate::http::tidied(&method, uri.path(), uri.query()) {
        Some(redirect) => redirect,
        None => crate::ui::missing::missing(uri, headers).await,
    }
}

/// A parameter of the address.
fn param<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    query.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
}

fn pairs(labels: &Labels) -> Vec<(String, String)> {
    labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
}

/// A length of time with two digits of sense: `840 ms`, `12 s`, `3 min`, `5 h`, `9 d`.
fn span(ms: i64) -> String {
    match ms {
        ..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{} s", ms / 1000),
        60_000..3_600_000 => format!("{} min", ms / 60_000),
        3_600_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} d", ms / 86_400_000),
    }
}

fn seconds(s: f64) -> String {
    if s < 1.0 { format!("{:.1} ms", s * 1000.0) } else { format!("{s:.2} s") }
}

/// Bytes with a binary unit: `17.3 MiB`.
fn bytes(n: u64) -> String {
    let mut value = n as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{n} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// A count with its thousands apart: `1,234,567`.
fn grouped(n: impl TryInto<u64>) -> String {
    let digits = n.try_into().unwrap_or(u64::MAX).to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_have_readable_units() {
        assert_eq!((span(840), span(12_400), span(200_000)), ("840 ms".into(), "12 s".into(), "3 min".into()));
        assert_eq!((bytes(17), bytes(18_140_365)), ("17 B".into(), "17.3 MiB".into()));
        assert_eq!(
            (grouped(7u64), grouped(123_456u64), grouped(1_234_567u64)),
            ("7".into(), "123,456".into(), "1,234,567".into())
        );
        assert_eq!((seconds(0.0123), seconds(2.0)), ("12.3 ms".into(), "2.00 s".into()));
    }
}
