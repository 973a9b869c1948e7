//! The pages: list, dashboard, single panel, and the parts that the script fetches.

mod api;
mod compute;
mod dashlist;
mod diff;
mod ds_query;
mod edit;
mod inspect;
mod list;
mod render;
mod request;
mod saving;
mod view;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{any, get, post};
use promontory_model::{Cancel, TimeRange};

use crate::ui::page;
use crate::ui::shell::{embeddable, fragment};

use super::explore;
use super::model::Needs;
use super::params::Params;
use super::repeat::{Expanded, expand};
use super::state::Dashboards;
use compute::{body_size, compute_all};
pub(crate) use request::zone;
use request::{Asked, Request, understand};
use view::{DashboardPage, PanelInner, PanelView, SectionView, SoloPage};

type Pairs = Query<Vec<(String, String)>>;

/// The part of an address that names a dashboard or folder; what follows it is decoration.
#[derive(serde::Deserialize)]
struct Uid {
    uid: String,
}

/// Bytes of a form with a dashboard in it, whose quotes and line ends take three bytes each.
const FORM_BYTES_MAX: usize = 3 * super::store::SAVED_BYTES_MAX;

/// Everything below `/dashboards`, `/d`, `/d-solo`, `/explore` and the matching parts of `/api`.
pub fn router(state: Dashboards) -> Router {
    Router::new()
        .route("/dashboards", get(list::page))
        .route("/dashboards/f/{uid}", get(list::folder_page))
        .route("/dashboards/f/{uid}/{slug}", get(list::folder_page))
        .route("/dashboard/new", get(edit::new))
        .route("/dashboard/import", get(edit::import).post(edit::import_now))
        .route("/import/dashboard", get(async || Redirect::temporary("/dashboard/import")))
        .route("/dashboard/edit/{uid}", get(edit::edit))
        .route("/dashboard/save", post(edit::save))
        .route("/dashboard/preview", post(edit::preview_now))
        .route("/dashboard/versions/{uid}", get(edit::versions))
        .route("/dashboard/restore/{uid}", post(edit::restore))
        .route("/dashboard/delete/{uid}", post(edit::delete))
        .route("/api/search", get(list::search))
        .route("/api/dashboards/uid/{uid}", get(list::source).delete(saving::delete))
        .route("/api/dashboards/uid/{uid}/versions", get(saving::versions))
        .route("/api/dashboards/uid/{uid}/versions/{version}", get(saving::version))
        .route("/api/dashboards/uid/{uid}/restore", post(saving::restore))
        .route("/api/dashboards/db", post(saving::save))
        .route("/api/dashboards/import", post(saving::import))
        .route("/api/dashboards/tags", get(list::tags))
        .route("/api/health", get(api::health))
        .route("/api/org", get(api::organization))
        .route("/api/folders", get(api::folders).post(saving::add_folder))
        .route("/api/folders/{uid}", get(api::folder_of).put(saving::change_folder).delete(saving::delete_folder))
        .route("/api/annotations", get(api::events).post(saving::add_note))
        .route(
            "/api/annotations/{id}",
            get(api::note).put(saving::change_note).patch(saving::change_note).delete(saving::delete_note),
        )
        .route("/api/datasources", get(api::sources).post(saving::fixed_source))
        .route("/api/datasources/uid/{uid}", get(api::source_of).put(saving::fixed_source).delete(saving::fixed_source))
        .route("/api/datasources/name/{name}", get(api::source_named))
        .route("/api/datasources/proxy/uid/{uid}/{*rest}", any(api::proxied))
        .route("/api/datasources/uid/{uid}/resources/{*rest}", any(api::proxied))
        .route("/api/datasources/uid/{uid}/health", get(api::source_health))
        .route("/api/ds/query", post(ds_query::query))
        .route("/d/{uid}", get(dashboard))
        .route("/d/{uid}/{slug}", get(dashboard))
        .route("/d/{uid}/panel/{key}", get(panel))
        .route("/d/{uid}/panel/{key}/csv", get(inspect::csv))
        .route("/d/{uid}/panel/{key}/inspect", get(inspect::inspect))
        .route("/d-solo/{uid}", get(solo))
        .route("/d-solo/{uid}/{slug}", get(solo))
        .route("/dashboard/snapshot/{uid}", get(render::snapshot))
        .route("/dashboard/share/{uid}", get(render::share))
        .route("/render/d-solo/{uid}", get(render::panel))
        .route("/render/d-solo/{uid}/{slug}", get(render::panel))
        .route("/render/d/{uid}", get(render::page))
        .route("/render/d/{uid}/{slug}", get(render::page))
        .route("/explore", get(explore::page))
        .route("/api/format", get(format_value))
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .with_state(state)
}

async fn dashboard(
    State(state): State<Dashboards>,
    Path(Uid { uid }): Path<Uid>,
    Query(pairs): Pairs,
    headers: HeaderMap,
) -> Result<Response, Response> {
    let deadline = state.0.deadline();
    let request = Arc::new(understand(&state, &uid, Asked::whole(pairs, &headers, &deadline.cancel)).await?);
    let (views, alone) = sections(&request, &deadline.cancel).await;
    let missing = missing(&request, &deadline.cancel).await;
    let can_change = state.0.settings.store().root().is_ok();
    Ok(page(StatusCode::OK, &DashboardPage::new(&request, views, alone, missing, can_change)))
}

/// What the dashboard shows nothing without, where the window has none of it.
async fn missing(request: &Arc<Request>, cancel: &Cancel) -> Option<Needs> {
    let needs = request.dashboard().needs.clone()?;
    let names = {
        let (request, cancel, selector) = (request.clone(), cancel.clone(), needs.selector.clone());
        move || {
            let range = TimeRange::new(request.window.from_ms, request.window.to_ms);
            request.state.source.label_values("__name__", Some(&selector), range, &cancel)
        }
    };
    let found = request.state.run(names).await;
    matches!(found, Ok(Ok(names)) if names.is_empty()).then_some(needs)
}

/// The page's sections with all panels drawn, and the one panel that is wanted alone.
async fn sections(request: &Arc<Request>, cancel: &Cancel) -> (Vec<SectionView>, Option<String>) {
    let alone = request.params.get("viewPanel").map(|v| v.trim_start_matches("panel-").to_owned());
    let toggled = request.params.all("toggle");
    let mut sections = expand(request.dashboard(), &request.variables);
    if let Some(key) = &alone {
        sections = only(sections, key);
    }
    let mut copies = Vec::new();
    let mut views = Vec::new();
    for section in sections {
        let is_collapsed =
            alone.is_none() && section.row.as_ref().is_some_and(|r| r.collapsed != toggled.contains(&section.key));
        let n = if is_collapsed { 0 } else { section.panels.len() };
        let title = section.row.as_ref().map(|r| request.title(&r.title, &section.scoped)).unwrap_or_default();
        views.push(SectionView {
            row: section.row.as_ref().map(|_| view::RowView {
                title: if title.is_empty() { "Row".to_owned() } else { title },
                is_collapsed,
                n_panels: section.panels.len(),
                url: view::toggle_url(request, &section.key),
            }),
            panels: section.panels.iter().take(n).map(|c| PanelView::place(c, alone.is_some())).collect(),
        });
        copies.extend(section.panels.into_iter().take(n));
    }
    let inners = compute_all(request, copies, alone.is_some(), cancel).await;
    let mut inners = inners.into_iter();
    for panel in views.iter_mut().flat_map(|v| &mut v.panels) {
        panel.inner = inners.next().unwrap_or_default();
    }
    (views, alone)
}

/// The one panel of this key, without its row.
fn only(sections: Vec<Expanded>, key: &str) -> Vec<Expanded> {
    for mut section in sections {
        if let Some(i) = section.panels.iter().position(|c| c.key == key) {
            let copy = section.panels.swap_remove(i);
            return vec![Expanded { row: None, panels: vec![copy], ..section }];
        }
    }
    Vec::new()
}

async fn find_panel(
    state: &Dashboards,
    uid: &str,
    key: &str,
    pairs: Vec<(String, String)>,
    headers: &HeaderMap,
    cancel: &Cancel,
) -> Result<(Arc<Request>, PanelInner), Response> {
    let request = Arc::new(understand(state, uid, Asked::part(pairs, headers, cancel)).await?);
    let found = only(expand(request.dashboard(), &request.variables), key);
    let Some(copy) = found.into_iter().next().and_then(|mut s| s.panels.pop()) else {
        return Err((StatusCode::NOT_FOUND, format!("no panel {key}\n")).into_response());
    };
    let alone = request.params.has("viewPanel");
    let inner = compute_all(&request, vec![copy], alone, cancel).await.pop().unwrap_or_default();
    Ok((request, inner))
}

/// The inside of one panel, for the script.
async fn panel(
    State(state): State<Dashboards>,
    Path((uid, key)): Path<(String, String)>,
    Query(pairs): Pairs,
    headers: HeaderMap,
) -> Result<Response, Response> {
    use askama::Template as _;
    let deadline = state.0.deadline();
    let (_, inner) = find_panel(&state, &uid, &key, pairs, &headers, &deadline.cancel).await?;
    inner.render().map(fragment).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

/// One panel alone on a page, to be framed.
async fn solo(
    State(state): State<Dashboards>,
    Path(Uid { uid }): Path<Uid>,
    Query(mut pairs): Pairs,
    headers: HeaderMap,
) -> Result<Response, Response> {
    let key = pairs.iter().rev().find(|(n, _)| n == "panelId").map(|(_, v)| v.trim_start_matches("panel-").to_owned());
    let key = key.ok_or_else(|| (StatusCode::BAD_REQUEST, "panelId is missing\n").into_response())?;
    if !pairs.iter().any(|(n, _)| n == "viewPanel") {
        pairs.push(("viewPanel".to_owned(), key.clone()));
    }
    let deadline = state.0.deadline();
    let (request, inner) = find_panel(&state, &uid, &key, pairs, &headers, &deadline.cancel).await?;
    Ok(embeddable(StatusCode::OK, &SoloPage::new(&request, key, inner)))
}

/// A number with a unit that the script cannot write itself.
async fn format_value(Query(pairs): Pairs, headers: HeaderMap) -> Response {
    let params = Params::new(pairs);
    let (tz, _, _) = zone(params.get("timezone"), "browser", &headers);
    let unit = super::units::Unit::find(params.get("unit").unwrap_or(""));
    let texts: Vec<String> = params
        .all("v")
        .iter()
        .take(200)
        .map(|v| v.parse().map_or_else(|_| String::new(), |v: f64| unit.format(v, None, &tz)))
        .collect();
    let body = serde_json::to_string(&texts).unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// To the list, for `/`.
pub async fn home() -> Redirect {
    Redirect::to("/dashboards")
}

#[cfg(test)]
mod tests;
