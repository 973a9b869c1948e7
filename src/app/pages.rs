//! The operator's pages: fills the views of `ui` with what the parts say.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::{Redirect, Response};
use axum::routing::get;

use super::{Shared, visible};
use crate::cli;
use crate::scrape::TargetStatus;
use crate::ui::status::{self, StatusView};
use crate::ui::targets::{self, PoolView, TargetView, TargetsView};

type Pairs = Query<Vec<(String, String)>>;

/// Everything that a browser shows besides dashboards.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(async || Redirect::temporary("/dashboards")))
        // Addresses that people know from Prometheus.
        .route("/graph", get(async || Redirect::temporary("/explore")))
        .route("/query", get(async || Redirect::temporary("/explore")))
        .route("/targets", get(targets_page))
        .route("/status", get(status_page))
        .with_state(shared)
        .merge(crate::ui::assets::router())
}

async fn targets_page(State(shared): State<Arc<Shared>>, Query(query): Pairs, headers: HeaderMap) -> Response {
    let found = shared.manager.targets();
    let now = shared.clock.now().ms();
    let config = shared.config.load();
    let pools = config.scrape_configs.iter().map(|job| PoolView {
        name: job.job_name.clone(),
        targets: found.active.iter().filter(|t| t.job == job.job_name).map(|t| target(t, now)).collect(),
        n_dropped: found.dropped_counts.get(&job.job_name).map_or(0, |n| usize::try_from(*n).unwrap_or(usize::MAX)),
    });
    targets::render(&TargetsView { pools: pools.collect() }, &query, &headers)
}

fn target(t: &TargetStatus, now: i64) -> TargetView {
    TargetView {
        url: t.url.clone(),
        health: t.health.as_str().to_owned(),
        labels: visible(&t.labels).iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
        last_scrape: t.last_scrape.map(|at| format!("{} ago", span((now - at.ms()).max(0)))).unwrap_or_default(),
        duration: t.last_scrape.map(|_| seconds(t.last_scrape_seconds)).unwrap_or_default(),
        samples: t.last_samples,
        interval: format!("every {}, at most {}", t.interval, t.timeout),
        error: t.last_error.clone(),
    }
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

async fn status_page(State(shared): State<Arc<Shared>>, Query(query): Pairs, headers: HeaderMap) -> Response {
    let row = |name: &str, value: String| (name.to_owned(), value);
    let db = shared.db.status();
    let now = shared.clock.now().ms();
    let time =
        |ms: Option<i64>| ms.map_or_else(|| "none yet".to_owned(), |ms| format!("{} ago", span((now - ms).max(0))));
    let loaded = shared.config_loaded_ms.load(Ordering::Relaxed);
    let process = vec![
        row("Version", env!("CARGO_PKG_VERSION").to_owned()),
        row("Running for", span((now - shared.start_ms).max(0))),
        row("Configuration loaded", format!("{} ago", span((now - loaded).max(0)))),
        row("Data folder", shared.args.storage_path.display().to_string()),
        row("Kept", shared.retention_text()),
    ];
    let head = vec![
        row("Series", grouped(db.head_series)),
        row("Groups that share timestamps", grouped(db.head_groups)),
        row("Samples since the start", grouped(db.samples_appended)),
        row("Oldest sample in the head", time(db.head_min_time)),
        row("Newest sample", time(db.head_max_time)),
        row("Memory of the head", bytes(db.head_memory.parts().iter().map(|(_, bytes)| bytes).sum())),
        row("Head segments", bytes(db.head_segment_bytes)),
        row("Write-ahead log", bytes(db.wal_bytes)),
        row("Blocks", format!("{}, {}", db.blocks_loaded, bytes(db.blocks_bytes))),
        row(
            "Refused samples",
            format!(
                "{} duplicate, {} out of order, {} out of bounds, {} too old",
                db.duplicates, db.out_of_order, db.out_of_bounds, db.too_old
            ),
        ),
    ];
    let largest = shared.db.cardinality(10);
    let metrics = largest.series_by_metric.into_iter().map(|c| (c.name, grouped(c.value)));
    let labels = largest.values_by_label.into_iter().map(|c| (c.name, grouped(c.value)));
    let flags = cli::flag_values(&shared.args).into_iter().map(|(name, value)| (format!("--{name}"), value));
    let problem = match db.read_only {
        Some(reason) => format!("new samples are not stored: {reason}"),
        None if shared.config_failed.load(Ordering::Relaxed) => {
            "the last reload was refused, the configuration before it is in force; the log says why".to_owned()
        }
        None => String::new(),
    };
    let view = StatusView {
        problem,
        sections: vec![
            ("Process".to_owned(), process),
            ("Storage".to_owned(), head),
            ("Metrics with most series".to_owned(), metrics.collect()),
            ("Labels with most values".to_owned(), labels.collect()),
            ("Flags".to_owned(), flags.collect()),
        ],
        configuration: shared.config.load().to_yaml(),
    };
    status::render(&view, &query, &headers)
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
