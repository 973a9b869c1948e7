//! The list of dashboards, as a page and as Grafana's search API.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::dashboard::model::slug;
use crate::dashboard::params::Params;
use crate::dashboard::provider::{Catalog, Entry};
use crate::dashboard::state::Dashboards;
use crate::ui::{ThemeChoice, page as html_page};

use super::view::{ListItem, ListPage, TagCount, tag_url};

type Pairs = Query<Vec<(String, String)>>;

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

fn is_match(entry: &Entry, query: &str, tags: &[String]) -> bool {
    let text = format!("{} {} {}", entry.dashboard.title, entry.folder, entry.dashboard.tags.join(" ")).to_lowercase();
    query.to_lowercase().split_whitespace().all(|word| text.contains(word))
        && tags.iter().all(|t| entry.dashboard.tags.contains(t))
}

pub(super) async fn page(State(state): State<Dashboards>, Query(pairs): Pairs, headers: HeaderMap) -> Response {
    let params = Params::new(pairs);
    let catalog = catalog(&state).await;
    let query = params.get("query").unwrap_or("").to_owned();
    let tags: Vec<String> = params.all("tag").into_iter().filter(|t| !t.is_empty()).collect();
    let mut by_folder: BTreeMap<&str, Vec<ListItem>> = BTreeMap::new();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for entry in &catalog.entries {
        for tag in &entry.dashboard.tags {
            *counts.entry(tag).or_default() += 1;
        }
        if !is_match(entry, &query, &tags) {
            continue;
        }
        let d = &entry.dashboard;
        by_folder.entry(&entry.folder).or_default().push(ListItem {
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
    let view = ListPage {
        shell: ListPage::shell(theme),
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
    let mut folders: Vec<&str> = catalog.entries.iter().map(|e| e.folder.as_str()).filter(|f| !f.is_empty()).collect();
    folders.dedup();
    if wants("dash-folder") && tags.is_empty() && folder_uids.is_empty() && uids.is_empty() {
        for (i, folder) in folders.iter().enumerate().filter(|(_, f)| f.to_lowercase().contains(&query.to_lowercase()))
        {
            out.push(json!({
                "id": i + 1, "uid": slug(folder), "title": folder, "uri": format!("db/{}", slug(folder)),
                "url": format!("/dashboards?query={}", crate::dashboard::interpolate::percent_encode(folder)), "slug": "", "type": "dash-folder",
                "tags": [], "isStarred": false, "sortMeta": 0,
            }));
        }
    }
    if wants("dash-db") {
        for (i, entry) in catalog.entries.iter().enumerate().filter(|(_, e)| is_match(e, query, &tags)) {
            let d = &entry.dashboard;
            let folder_uid = slug(&entry.folder);
            if !uids.is_empty() && !uids.contains(&d.uid) {
                continue;
            }
            if !folder_uids.is_empty() && (entry.folder.is_empty() || !folder_uids.contains(&folder_uid)) {
                continue;
            }
            let mut item = json!({
                "id": 1000 + i, "uid": d.uid, "title": d.title, "uri": format!("db/{}", d.slug()),
                "url": format!("/d/{}/{}", d.uid, d.slug()), "slug": "", "type": "dash-db", "tags": d.tags,
                "isStarred": false, "sortMeta": 0,
            });
            if !entry.folder.is_empty() {
                item["folderUid"] = json!(folder_uid);
                item["folderTitle"] = json!(entry.folder);
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
    let mut dashboard: Value = serde_json::from_str(&entry.source).unwrap_or(Value::Null);
    if let Some(inner) = dashboard.get_mut("dashboard").filter(|d| d.is_object()) {
        dashboard = inner.take();
    }
    if let Some(object) = dashboard.as_object_mut() {
        object.insert("uid".to_owned(), json!(d.uid));
    }
    let meta = json!({
        "type": "db", "slug": d.slug(), "url": format!("/d/{}/{}", d.uid, d.slug()), "version": 1, "canSave": false,
        "canEdit": false, "canAdmin": false, "canDelete": false, "provisioned": true, "isFolder": false,
        "folderUid": if entry.folder.is_empty() { String::new() } else { slug(&entry.folder) },
        "folderTitle": if entry.folder.is_empty() { "General" } else { &entry.folder },
    });
    json_response(StatusCode::OK, &json!({"meta": meta, "dashboard": dashboard}))
}
