//! The part of Grafana's API that tools ask before they use a dashboard: health, folders, data sources, events.

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use serde_json::{Value, json};

use crate::dashboard::annotations;
use crate::dashboard::interpolate::percent_encode;
use crate::dashboard::params::Params;
use crate::dashboard::query::QueryContext;
use crate::dashboard::state::Dashboards;
use crate::dashboard::store::{FolderInfo, NoteFilter};

use super::Pairs;
use super::list::{catalog, json_response};
use super::request::{Asked, understand};

/// The name and uid of the one data source.
pub(super) const SOURCE: &str = "promontory";

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

/// A number that stays with a uid, where tools want numbers.
pub(super) fn numeric_id(uid: &str) -> u32 {
    let hash = uid.bytes().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
    (hash >> 1).max(1)
}

/// A folder as Grafana's API writes it.
pub(super) fn folder_json(folder: &FolderInfo, can_save: bool) -> Value {
    json!({
        "id": numeric_id(&folder.uid), "uid": folder.uid, "title": folder.title, "version": 1, "canSave": can_save,
        "canEdit": can_save, "canAdmin": can_save, "canDelete": can_save,
        "url": format!("/dashboards/f/{}", percent_encode(&folder.uid)),
    })
}

/// `GET /api/folders`.
pub(super) async fn folders(State(state): State<Dashboards>) -> Response {
    let can_save = state.0.settings.store().root().is_ok();
    answer(catalog(&state).await.folders.iter().map(|f| folder_json(f, can_save)).collect())
}

/// `GET /api/folders/<uid>`.
pub(super) async fn folder_of(State(state): State<Dashboards>, Path(uid): Path<String>) -> Response {
    let can_save = state.0.settings.store().root().is_ok();
    match catalog(&state).await.folders.iter().find(|f| f.uid == uid) {
        Some(found) => answer(folder_json(found, can_save)),
        None => missing("Folder"),
    }
}

/// `GET /api/datasources/name/<name>`.
pub(super) async fn source_named(Path(name): Path<String>) -> Response {
    if name.eq_ignore_ascii_case("promontory") { answer(source()) } else { missing("Data source") }
}

/// Whatever is asked of a data source's own API, which is that of this server.
pub(super) async fn proxied(
    Path((_, rest)): Path<(String, String)>,
    axum::extract::RawQuery(query): axum::extract::RawQuery,
) -> Response {
    if !rest.starts_with("api/v1/") || rest.contains("..") {
        return missing("Resource");
    }
    let query = query.map(|q| format!("?{q}")).unwrap_or_default();
    Redirect::temporary(&format!("/{}{query}", rest.split('/').map(percent_encode).collect::<Vec<_>>().join("/")))
        .into_response()
}

/// `GET /api/annotations`: notes of readers, and with `dashboardUID=…` what the dashboard's own queries say happened.
pub(super) async fn events(State(state): State<Dashboards>, Query(pairs): Pairs, headers: HeaderMap) -> Response {
    let params = Params::new(pairs.clone());
    let tags = params.all("tags");
    let limit = params.get("limit").and_then(|l| l.parse().ok()).unwrap_or(100usize).min(1_000);
    let number = |name: &str| params.get(name).and_then(|v| v.parse::<i64>().ok());
    let filter = NoteFilter {
        dashboard: params.get("dashboardUID").map(str::to_owned),
        panel: number("panelId"),
        window: number("from").zip(number("to")),
        tags: tags.clone(),
    };
    let wants_queries = params.get("type") != Some("annotation");
    let uid = filter.dashboard.clone().filter(|_| wants_queries);
    let deadline = state.0.deadline();
    let request = match uid {
        None => None,
        Some(uid) => match understand(&state, &uid, Asked::whole(pairs, &headers, &deadline.cancel)).await {
            Ok(request) => Some(request),
            Err(_) => return missing("Dashboard"),
        },
    };
    let (inner, cancel) = (state.0.clone(), deadline.cancel.clone());
    let work = move || {
        let mut all: Vec<Value> = inner.settings.store().notes(&filter).iter().map(|n| n.json()).collect();
        if let Some(request) = request {
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
            let wanted = found.into_iter().filter(|e| tags.iter().all(|t| e.tags.contains(t)));
            // They have no id: nobody can change them.
            all.extend(wanted.map(|e| {
                json!({
                    "id": 0, "dashboardUID": request.dashboard().uid, "panelId": 0, "time": e.from_ms,
                    "timeEnd": e.to_ms, "tags": e.tags, "text": e.text,
                })
            }));
        }
        all.truncate(limit);
        Value::Array(all)
    };
    let runner = state.0.clone();
    match runner.run(work).await {
        Ok(events) => answer(events),
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{e}\n")).into_response(),
    }
}

/// `GET /api/annotations/<id>`.
pub(super) async fn note(State(state): State<Dashboards>, Path(id): Path<i64>) -> Response {
    let inner = state.0.clone();
    let find = move || inner.settings.store().notes(&NoteFilter::default()).into_iter().find(|n| n.id == id);
    match state.0.run(find).await {
        Ok(Some(note)) => answer(note.json()),
        _ => missing("Annotation"),
    }
}
