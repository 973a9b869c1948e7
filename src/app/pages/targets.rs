//! Targets: who is scraped, and one of them with all that is known of it.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use promontory_model::labels::Quoted;
use promontory_model::{Cancel, Labels, Matcher, Queryable as _, Select, TimeRange};

use super::discovery::label_lines;
use super::{Pairs, pairs, param, seconds, span};
use crate::app::{Shared, visible};
use crate::scrape::TargetStatus;
use crate::ui::shell::is_own_page;
use crate::ui::targets::{self, PoolView, TargetDetails, TargetView, TargetsView};

/// How far back the series of a target are looked for, ms.
const RECENT_MS: i64 = 3_600_000;
/// Series of a target that are shown.
const SERIES_MAX: usize = 200;

pub(super) async fn targets_page(
    State(shared): State<Arc<Shared>>,
    Query(query): Pairs,
    headers: HeaderMap,
) -> Response {
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
        id: format!("{:016x}", t.identity),
        url: t.url.clone(),
        health: t.health.as_str().to_owned(),
        labels: pairs(&visible(&t.labels)),
        last_scrape: t.last_scrape.map(|at| format!("{} ago", span((now - at.ms()).max(0)))).unwrap_or_default(),
        duration: t.last_scrape.map(|_| seconds(t.last_scrape_seconds)).unwrap_or_default(),
        samples: t.last_samples,
        interval: format!("every {}, at most {}", t.interval, t.timeout),
        error: t.last_error.clone(),
    }
}

/// The target that an address names.
fn named(query: &[(String, String)]) -> Option<(&str, u64)> {
    Some((param(query, "pool")?, u64::from_str_radix(param(query, "id")?, 16).ok()?))
}

fn no_such_target() -> Response {
    (StatusCode::NOT_FOUND, "no such target: it has left, or its labels have changed; /targets lists all\n")
        .into_response()
}

pub(super) async fn target_page(
    State(shared): State<Arc<Shared>>,
    Query(query): Pairs,
    headers: HeaderMap,
) -> Response {
    let found = named(&query).and_then(|(job, identity)| {
        shared.manager.targets().active.into_iter().find(|t| t.job == job && t.identity == identity)
    });
    let Some(found) = found else { return no_such_target() };
    let now = shared.clock.now().ms();
    let labels = visible(&found.labels);
    let selector = selector(&labels);
    let reading = shared.clone();
    let series = tokio::task::spawn_blocking(move || series(&reading, &labels, now)).await.unwrap_or_default();
    let view = TargetDetails {
        target: target(&found, now),
        pool: found.job,
        discovered: pairs(&found.discovered),
        has_more: series.len() > SERIES_MAX,
        series: series.into_iter().take(SERIES_MAX).collect(),
        selector,
        discovered_text: label_lines(&found.discovered),
    };
    targets::render_one(&view, &query, &headers)
}

fn selector(labels: &Labels) -> String {
    let matchers: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={}", Quoted(value))).collect();
    format!("{{{}}}", matchers.join(", "))
}

/// Series that have the labels of a target, as text; one more than are shown if there are more.
fn series(shared: &Shared, labels: &Labels, now: i64) -> Vec<String> {
    let matchers: Vec<Matcher> = labels.iter().map(|(name, value)| Matcher::equal(name, value)).collect();
    let cancel = Cancel::new();
    let select = Select { range: TimeRange::new(now - RECENT_MS, now), matchers: &matchers, cancel: &cancel };
    let found = shared.db.snapshot().and_then(|snapshot| snapshot.series(&select, SERIES_MAX + 1));
    match found {
        Ok(found) => found.labels.iter().map(|l| format!("{}{}", l.metric_name(), l.without_name())).collect(),
        Err(error) => {
            tracing::warn!(%error, "the series of a target could not be read");
            Vec::new()
        }
    }
}

/// Scrapes a target now, beside its regular scrapes, and goes back to its page.
pub(super) async fn scrape_now(State(shared): State<Arc<Shared>>, Query(query): Pairs, headers: HeaderMap) -> Response {
    if !is_own_page(&headers) {
        return (StatusCode::FORBIDDEN, "only a page of this server may ask for a scrape\n").into_response();
    }
    let Some((job, identity)) = named(&query) else { return no_such_target() };
    if !shared.manager.scrape_now(job, identity) {
        return no_such_target();
    }
    let from = headers.get(header::REFERER).and_then(|v| v.to_str().ok()).and_then(|from| from.split_once("/target?"));
    Redirect::to(&from.map_or_else(|| "/targets".to_owned(), |(_, rest)| format!("/target?{rest}"))).into_response()
}
