//! What the server is and has: version, flags, configuration, figures of the store.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Response;

use super::{Pairs, bytes, grouped, span};
use crate::app::Shared;
use crate::cli;
use crate::ui::status::{self, ConfigView, StatusView};

pub(super) async fn status_page(
    State(shared): State<Arc<Shared>>,
    Query(query): Pairs,
    headers: HeaderMap,
) -> Response {
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
    };
    status::render(&view, &query, &headers)
}

pub(super) async fn config_page(
    State(shared): State<Arc<Shared>>,
    Query(query): Pairs,
    headers: HeaderMap,
) -> Response {
    let file = shared.args.config_file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
    status::render_config(&ConfigView { file, yaml: shared.config.load().to_yaml() }, &query, &headers)
}
