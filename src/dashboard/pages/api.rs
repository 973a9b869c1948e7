//! The part of Grafana's API that tools ask before they use a dashboard: health, folders, data sources, events.

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::dashboard::annotations;
use crate::dashboard::model::slug;
use crate::dashboard::params::Params;
use crate::dashboard::query::QueryContext;
use crate::dashboard::state::Dashboards;

use super::list::{catalog, json_response};
use super::{Pairs, understand};

/// The name and uid of the one data source.
const SOURCE: &str = "promontory";

fn answer(value: Value) -> Response {
    json_response(StatusCode::OK, &value)
}

fn missing(what: &str) -> Response {
    json_response(StatusCode::NOT_FOUND, &json!({"message": format!("{what} not found")}))
}

/// `GET /api/health`.
pub(super) async fn health() -> Response {
    answer(json!({"database": "ok", "version": env!("CARGO_PKG_VERSION"), "commit": ""}))
}

/// `GET /api/org`.
pub(super) async fn organization() -> Response {
    answer(json!({"id": 1, "name": "Main Org."}))
}

fn source() -> Value {
    json!({
        "id": 1, "uid": SOURCE, "orgId": 1, "name": "Promontory", "type": "prometheus", "typeName": "Prometheus",
        "access": "proxy", "url": "/", "isDefault": true, "readOnly": true, "basicAuth": false, "database": "",
        "user": "", "jsonData": {"httpMethod": "POST"},
    })
}

/// `GET /api/datasources`.
pub(super) async fn sources() -> Response {
    answer(json!([source()]))
}

/// `GET /api/datasources/uid/<uid>`.
pub(super) async fn source_of(Path(uid): Path<String>) -> Response {
    if uid == SOURCE { answer(source()) } else { missing("Data source") }
}

/// `GET /api/datasources/uid/<uid>/health`.
pub(super) async fn source_health(Path(uid): Path<String>) -> Response {
    match uid == SOURCE {
        true => answer(json!({"status": "OK", "message": "The data source is part of this server."})),
        false => missing("Data source"),
    }
}

async fn folder_names(state: &Dashboards) -> Vec<String> {
    let catalog = catalog(state).await;
    let mut names: Vec<String> = catalog.entries.iter().map(|e| e.folder.clone()).filter(|f| !f.is_empty()).collect();
    names.sort();
    names.dedup();
    names
}

fn folder(i: usize, title: &str) -> Value {
    json!({
        "id": i + 1, "uid": slug(title), "title": title, "version": 1, "canSave": false, "canEdit": false,
        "url": format!("/dashboards?query={}", crate::dashboard::interpolate::percent_encode(title)),
    })
}

/// `GET /api/folders`.
pub(super) async fn folders(State(state): State<Dashboards>) -> Response {
    answer(folder_names(&state).await.iter().enumerate().map(|(i, f)| folder(i, f)).collect())
}

/// `GET /api/folders/<uid>`.
pub(super) async fn folder_of(State(state): State<Dashboards>, Path(uid): Path<String>) -> Response {
    let names = folder_names(&state).await;
    match names.iter().enumerate().find(|(_, f)| slug(f) == uid) {
        Some((i, f)) => answer(folder(i, f)),
        None => missing("Folder"),
    }
}

/// `GET /api/annotations?dashboardUID=…&from=…&to=…`: what a dashboard's own queries say happened.
pub(super) async fn events(State(state): State<Dashboards>, Query(pairs): Pairs, headers: HeaderMap) -> Response {
    let params = Params::new(pairs.clone());
    let Some(uid) = params.get("dashboardUID").map(str::to_owned) else { return answer(json!([])) };
    let tags = params.all("tags");
    let limit = params.get("limit").and_then(|l| l.parse().ok()).unwrap_or(100usize).min(1_000);
    let deadline = state.0.deadline();
    let request = match understand(&state, &uid, pairs, &headers, &deadline.cancel).await {
        Ok(request) => request,
        Err(_) => return missing("Dashboard"),
    };
    let (inner, cancel) = (state.0.clone(), deadline.cancel.clone());
    let work = move || {
        let defs: Vec<_> = request.dashboard().annotations.iter().filter(|d| request.shows(d)).collect();
        let context = QueryContext {
            source: request.state.source.as_ref(),
            variables: &request.variables,
            scoped: &[],
            window: &request.window,
            tz: &request.tz,
            now_ms: request.now_ms,
            width_px: 1_000,
            scrape_interval_ms: request.state.settings.scrape_interval_ms(),
            cancel: &cancel,
        };
        let found = annotations::run(&defs, &context, &mut Vec::new());
        let wanted = found.into_iter().filter(|e| tags.iter().all(|t| e.tags.contains(t))).take(limit);
        let event = |(i, e): (usize, annotations::Event)| {
            json!({
                "id": i + 1, "dashboardUID": uid, "panelId": 0, "time": e.from_ms, "timeEnd": e.to_ms,
                "tags": e.tags, "text": e.text,
            })
        };
        wanted.enumerate().map(event).collect::<Value>()
    };
    match inner.run(work).await {
        Ok(events) => answer(events),
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{e}\n")).into_response(),
    }
}
