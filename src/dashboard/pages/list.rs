//! The list of dashboards, as a page and as Grafana's search API.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::dashboard::interpolate::percent_encode;
use crate::dashboard::load::unwrapped;
use crate::dashboard::params::Params;
use crate::dashboard::provider::{Catalog, Entry};
use crate::dashboard::state::Dashboards;
use crate::dashboard::timerange::local;
use crate::ui::{ThemeChoice, page as html_page};

use super::api::numeric_id;
use super::request::not_found;
use super::view::{ListItem, ListPage, TagCount, tag_url};
use super::{Pairs, Uid};

/// Entries that one search answers with.
const LIMIT_MAX: usize = 5_000;

pub(super) async fn catalog(state: &Dashboards) -> Arc<Catalog> {
    let inner = state.0.clone();
    let now = inner.now_ms();
    let work = {
        let inner = inner.clone();
        move || inner.settings.catalog(now)
    };
    inner.run(work).await.unwrap_or_default()
}

pub(super) fn is_match(entry: &Entry, query: &str, tags: &[String]) -> bool {
    let text = format!("{} {} {}", entry.dashboard.title, entry.folder, entry.dashboard.tags.join(" ")).to_lowercase();
    query.to_lowercase().split_whitespace().all(|word| text.contains(word))
        && tags.iter().all(|t| entry.dashboard.tags.contains(t))
}

pub(super) async fn page(state: State<Dashboards>, Query(pairs): Pairs, headers: HeaderMap) -> Response {
    list(state, None, pairs, headers).await
}

/// `GET /dashboards/f/<folder>`: the dashboards of one folder.
pub(super) async fn folder_page(
    state: State<Dashboards>,
    Path(Uid { uid }): Path<Uid>,
    Query(pairs): Pairs,
    headers: HeaderMap,
) -> Response {
    list(state, Some(uid), pairs, headers).await
}

async fn list(
    State(state): State<Dashboards>,
    folder: Option<String>,
    pairs: Vec<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let params = Params::new(pairs);
    let catalog = catalog(&state).await;
    let only = match &folder {
        None => String::new(),
        Some(uid) => match catalog.folders.iter().find(|f| f.uid == *uid) {
            Some(found) => found.title.clone(),
            None => return not_found(uid, ThemeChoice::choose(params.get("theme"), &headers)),
        },
    };
    let query = params.get("query").unwrap_or("").to_owned();
    let tags: Vec<String> = params.all("tag").into_iter().filter(|t| !t.is_empty()).collect();
    let mut by_folder: BTreeMap<&str, Vec<ListItem>> = BTreeMap::new();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for entry in &catalog.entries {
        if folder.as_ref().is_some_and(|uid| entry.folder_uid != *uid) {
            continue;
        }
        for tag in &entry.dashboard.tags {
            *counts.entry(tag).or_default() += 1;
        }
        if !is_match(entry, &query, &tags) {
            continue;
        }
        let d = &entry.dashboard;
        by_folder.entry(&entry.folder).or_default().push(ListItem {
            uid: d.uid.clone(),
            title: d.title.clone(),
            description: d.description.clone(),
            url: format!("/d/{}/{}", d.uid, d.slug()),
            tags: d.tags.iter().map(|t| (t.clone(), tag_url(t))).collect(),
            is_builtin: entry.is_builtin,
            n_panels: d.panels().count(),
        });
    }
    let mut tag_counts: Vec<(String, usize)> = counts.into_iter().map(|(t, n)| (t.to_owned(), n)).collect();
    tag_counts.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    tag_counts.truncate(30);
    let theme = ThemeChoice::choose(params.get("theme"), &headers);
    let tag = tags.first().cloned().unwrap_or_default();
    let count = |(name, n): (String, usize)| {
        let is_on = name == tag;
        TagCount { url: if is_on { "/dashboards".to_owned() } else { tag_url(&name) }, name, n, is_on }
    };
    // A folder shows where there is nothing in it yet, too.
    if query.is_empty() && tags.is_empty() {
        for found in catalog.folders.iter().filter(|f| folder.as_ref().is_none_or(|uid| f.uid == *uid)) {
            by_folder.entry(&found.title).or_default();
        }
    }
    let view = ListPage {
        shell: ListPage::shell(theme),
        action: folder
            .map_or_else(|| "/dashboards".to_owned(), |uid| format!("/dashboards/f/{}", percent_encode(&uid))),
        only,
        query,
        tags: tag_counts.into_iter().map(count).collect(),
        tag: tag.clone(),
        folders: by_folder.into_iter().map(|(f, items)| (f.to_owned(), items)).collect(),
        broken: catalog.broken.iter().map(|b| (b.file.clone(), b.error.clone())).collect(),
    };
    html_page(StatusCode::OK, &view)
}

pub(super) fn json_response(status: StatusCode, value: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

/// `GET /api/search`.
pub(super) async fn search(State(state): State<Dashboards>, Query(pairs): Pairs) -> Response {
    let params = Params::new(pairs);
    let catalog = catalog(&state).await;
    let query = params.get("query").unwrap_or("");
    let tags = params.all("tag");
    let limit = params.get("limit").and_then(|l| l.parse().ok()).unwrap_or(1000usize).clamp(1, LIMIT_MAX);
    let number = params.get("page").and_then(|p| p.parse::<usize>().ok()).unwrap_or(1).clamp(1, LIMIT_MAX);
    let wants = |kind: &str| params.get("type").is_none_or(|t| t == kind);
    let folder_uids = params.all("folderUIDs");
    let uids = params.all("dashboardUIDs");
    let mut out = Vec::new();
    if wants("dash-folder") && tags.is_empty() && folder_uids.is_empty() && uids.is_empty() {
        for f in catalog.folders.iter().filter(|f| f.title.to_lowercase().contains(&query.to_lowercase())) {
            out.push(json!({
                "id": numeric_id(&f.uid), "uid": f.uid, "title": f.title, "uri": format!("db/{}", f.uid),
                "url": format!("/dashboards/f/{}", percent_encode(&f.uid)), "slug": "", "type": "dash-folder",
                "tags": [], "isStarred": false, "sortMeta": 0,
            }));
        }
    }
    if wants("dash-db") {
        for entry in catalog.entries.iter().filter(|e| is_match(e, query, &tags)) {
            let d = &entry.dashboard;
            let folder_uid = &entry.folder_uid;
            if !uids.is_empty() && !uids.contains(&d.uid) {
                continue;
            }
            let is_root = entry.folder.is_empty() && folder_uids.iter().any(|f| f == "general");
            if !(folder_uids.is_empty() || folder_uids.contains(folder_uid) || is_root) {
                continue;
            }
            let mut item = json!({
                "id": numeric_id(&d.uid), "uid": d.uid, "title": d.title, "uri": format!("db/{}", d.slug()),
                "url": format!("/d/{}/{}", d.uid, d.slug()), "slug": "", "type": "dash-db", "tags": d.tags,
                "isStarred": false, "sortMeta": 0,
            });
            if !entry.folder.is_empty() {
                item["folderUid"] = json!(folder_uid);
                item["folderTitle"] = json!(entry.folder);
                item["folderUrl"] = json!(format!("/dashboards/f/{}", percent_encode(folder_uid)));
            }
            out.push(item);
        }
    }
    let answer: Vec<Value> = out.into_iter().skip((number - 1) * limit).take(limit).collect();
    json_response(StatusCode::OK, &Value::Array(answer))
}

/// `GET /api/dashboards/uid/<uid>`: the dashboard as its file has it.
pub(super) async fn source(State(state): State<Dashboards>, Path(uid): Path<String>) -> Response {
    let catalog = catalog(&state).await;
    let Some(entry) = catalog.get(&uid) else {
        return json_response(StatusCode::NOT_FOUND, &json!({"message": "Dashboard not found"}));
    };
    let d = &entry.dashboard;
    let mut dashboard = unwrapped(serde_json::from_str(&entry.source).unwrap_or(Value::Null));
    if let Some(object) = dashboard.as_object_mut() {
        object.insert("uid".to_owned(), json!(d.uid));
        object.insert("id".to_owned(), json!(numeric_id(&d.uid)));
        object.insert("version".to_owned(), json!(entry.version));
    }
    let can_save = state.0.settings.store().root().is_ok();
    let meta = json!({
        "type": "db", "slug": d.slug(), "url": format!("/d/{}/{}", d.uid, d.slug()), "version": entry.version,
        "canSave": can_save, "canEdit": can_save, "canAdmin": can_save, "canDelete": can_save && !entry.is_builtin,
        "provisioned": !can_save, "isFolder": false, "folderUid": entry.folder_uid,
        "folderTitle": if entry.folder.is_empty() { "General" } else { &entry.folder },
        "updated": local(entry.modified_ms, &jiff::tz::TimeZone::UTC).replace(' ', "T") + "Z",
    });
    json_response(StatusCode::OK, &json!({"meta": meta, "dashboard": dashboard}))
}

/// `GET /api/dashboards/tags`.
pub(super) async fn tags(State(state): State<Dashboards>) -> Response {
    let catalog = catalog(&state).await;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for tag in catalog.entries.iter().flat_map(|e| &e.dashboard.tags) {
        *counts.entry(tag).or_default() += 1;
    }
    json_response(StatusCode::OK, &counts.iter().map(|(term, n)| json!({"term": term, "count": n})).collect())
}
