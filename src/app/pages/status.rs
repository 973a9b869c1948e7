//! What the server is and has: version, flags, configuration, figures of the store.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use promontory_storage::{Count, DbStatus};

use super::{Pairs, bytes, grouped, span};
use crate::app::Shared;
use crate::app::growth::NOTED_MAX;
use crate::cli;
use crate::telemetry::process;
use crate::ui::status::{self, ConfigView, StatusView};

/// Entries of each list of the storage page.
const SHOWN: usize = 15;

pub(super) async fn status_page(
    State(shared): State<Arc<Shared>>,
    Query(query): Pairs,
    headers: HeaderMap,
) -> Response {
    let now = shared.clock.now().ms();
    let loaded = shared.config_loaded_ms.load(Ordering::Relaxed);
    let taken = process::taken();
    let mut process = vec![
        row("Version", env!("CARGO_PKG_VERSION").to_owned()),
        row("Running for", span((now - shared.start_ms).max(0))),
        row("Configuration loaded", format!("{} ago", span((now - loaded).max(0)))),
        row("Data folder", shared.args.storage_path.display().to_string()),
        row("Kept", shared.retention_text()),
    ];
    process.extend(taken.resident_bytes.map(|n| row("Memory in RAM", bytes(n as u64))));
    process.extend(taken.cpu_s.map(|s| row("Processor time", span((s * 1000.0) as i64))));
    process.extend(taken.files.map(|n| {
        let most = taken.files_max.map(|max| format!(" of {} at most", grouped(max as u64))).unwrap_or_default();
        row("Open files", format!("{}{most}", grouped(n as u64)))
    }));
    let flags = cli::flag_values(&shared.args).into_iter().map(|(name, value)| (format!("--{name}"), value));
    let problem = match read_only(&shared.db.status()) {
        stored if stored.is_empty() && shared.config_failed.load(Ordering::Relaxed) => {
            "the last reload was refused, the configuration before it is in force; the log says why".to_owned()
        }
        problem => problem,
    };
    let view =
        StatusView { problem, sections: vec![("Process".to_owned(), process), ("Flags".to_owned(), flags.collect())] };
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

/// What is stored, what it takes, and what grows.
pub(super) async fn storage_page(
    State(shared): State<Arc<Shared>>,
    Query(query): Pairs,
    headers: HeaderMap,
) -> Response {
    let db = shared.db.status();
    let now = shared.clock.now().ms();
    let time =
        |ms: Option<i64>| ms.map_or_else(|| "none yet".to_owned(), |ms| format!("{} ago", span((now - ms).max(0))));
    let stored = vec![
        row("Series", grouped(db.head_series)),
        row("Groups that share timestamps", grouped(db.head_groups)),
        row("Samples since the start", grouped(db.samples_appended)),
        row("Oldest sample in the head", time(db.head_min_time)),
        row("Newest sample", time(db.head_max_time)),
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
    let parts = db.head_memory.parts();
    let total = row("Together", bytes(parts.iter().map(|(_, bytes)| bytes).sum()));
    let memory = parts
        .into_iter()
        .filter(|(_, n)| *n > 0)
        .map(|(part, n)| row(&part.replace('_', " "), bytes(n)))
        .chain([total])
        .collect();
    let counted = shared.clone();
    // Every label pair of the head is looked at.
    let largest = tokio::task::spawn_blocking(move || counted.db.cardinality(NOTED_MAX)).await.unwrap_or_default();
    let list = |counts: &[Count]| counts.iter().take(SHOWN).map(|c| row(&c.name, grouped(c.value))).collect::<Vec<_>>();
    let mut sections = vec![("Stored".to_owned(), stored), ("Memory of the head".to_owned(), memory)];
    if let Some(grown) = shared.growth.since(&largest, SHOWN) {
        let since = span((now - grown.since_ms).max(0));
        let more = |all: Vec<(String, u64)>| match all.is_empty() {
            true => vec![row("None", "+0".to_owned())],
            false => all.into_iter().map(|(name, n)| row(&name, format!("+{}", grouped(n)))).collect(),
        };
        sections.push((format!("New series by metric, last {since}"), more(grown.metrics)));
        sections.push((format!("New values by label, last {since}"), more(grown.labels)));
    }
    sections.extend([
        ("Metrics with most series".to_owned(), list(&largest.series_by_metric)),
        ("Labels with most values".to_owned(), list(&largest.values_by_label)),
        ("Label pairs with most series".to_owned(), list(&largest.series_by_pair)),
        (
            "Labels with most bytes in series".to_owned(),
            largest.bytes_by_label.iter().take(SHOWN).map(|c| row(&c.name, bytes(c.value))).collect(),
        ),
    ]);
    status::render_storage(&StatusView { problem: read_only(&db), sections }, &query, &headers)
}

fn row(name: &str, value: String) -> (String, String) {
    (name.to_owned(), value)
}

/// Why samples are refused; empty when they are not.
fn read_only(db: &DbStatus) -> String {
    db.read_only.as_ref().map(|reason| format!("new samples are not stored: {reason}")).unwrap_or_default()
}
