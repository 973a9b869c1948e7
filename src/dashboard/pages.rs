//! The pages: list, dashboard, single panel, and the parts that the script fetches.

mod api;
mod inspect;
mod list;
mod view;

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use jiff::tz::TimeZone;
use promontory_model::Cancel;

use crate::ui::shell::{cookie, embeddable, fragment};
use crate::ui::{Shell, ThemeChoice, page};

use super::annotations::{self, Event};
use super::color::Theme;
use super::explore;
use super::html;
use super::interpolate::{Binding, Context, interpolate};
use super::model::{AnnotationDef, Dashboard};
use super::panels::{DrawContext, draw, needs_data};
use super::params::Params;
use super::provider::Entry;
use super::query::{PanelData, QueryContext, run};
use super::repeat::{Copy, Expanded, expand};
use super::state::{Dashboards, Inner};
use super::timerange::Window;
use super::variables::{Variables, resolve, window_binding};
use view::{DashboardPage, PanelInner, PanelView, SectionView, SoloPage};

/// Body of a panel when the page has its usual width, CSS pixels.
const PAGE_PX: f64 = 1408.0;

type Pairs = Query<Vec<(String, String)>>;

/// Everything below `/dashboards`, `/d`, `/d-solo`, `/explore` and the matching parts of `/api`.
pub fn router(state: Dashboards) -> Router {
    Router::new()
        .route("/dashboards", get(list::page))
        .route("/api/search", get(list::search))
        .route("/api/dashboards/uid/{uid}", get(list::source))
        .route("/api/health", get(api::health))
        .route("/api/org", get(api::organization))
        .route("/api/folders", get(api::folders))
        .route("/api/folders/{uid}", get(api::folder_of))
        .route("/api/annotations", get(api::events))
        .route("/api/datasources", get(api::sources))
        .route("/api/datasources/uid/{uid}", get(api::source_of))
        .route("/api/datasources/uid/{uid}/health", get(api::source_health))
        .route("/d/{uid}", get(dashboard))
        .route("/d/{uid}/{slug}", get(dashboard_with_slug))
        .route("/d/{uid}/panel/{key}", get(panel))
        .route("/d/{uid}/panel/{key}/csv", get(inspect::csv))
        .route("/d/{uid}/panel/{key}/inspect", get(inspect::inspect))
        .route("/d-solo/{uid}", get(solo))
        .route("/d-solo/{uid}/{slug}", get(solo_with_slug))
        .route("/explore", get(explore::page))
        .route("/api/format", get(format_value))
        .with_state(state)
}

/// A request for a dashboard, understood.
pub(crate) struct Request {
    pub(crate) state: Arc<Inner>,
    pub(crate) entry: Entry,
    pub(crate) params: Params,
    pub(crate) window: Window,
    pub(crate) tz: TimeZone,
    pub(crate) tz_name: String,
    /// Whether the zone is the browser's, as far as it told.
    pub(crate) tz_is_browsers: bool,
    pub(crate) theme: Theme,
    pub(crate) theme_choice: ThemeChoice,
    pub(crate) variables: Variables,
    pub(crate) now_ms: i64,
    pub(crate) hidden: HashSet<String>,
    /// Asked for by the first panel that shows them.
    events: OnceLock<(Vec<Event>, Vec<String>)>,
}

/// The zone of the page: the address, else the dashboard, else the browser's as a cookie tells, else UTC.
pub(crate) fn zone(asked: Option<&str>, default: &str, headers: &HeaderMap) -> (TimeZone, String, bool) {
    let wanted = asked.filter(|z| !z.is_empty()).unwrap_or(default);
    let (name, is_browsers) = match wanted {
        "utc" | "UTC" => ("UTC".to_owned(), false),
        "" | "browser" | "default" => {
            let told = cookie(headers, "tz").map(|z| z.replace("%2F", "/"));
            (told.unwrap_or_else(|| "UTC".to_owned()), true)
        }
        other => (other.to_owned(), false),
    };
    match TimeZone::get(&name) {
        Ok(tz) => (tz, name, is_browsers),
        Err(_) => (TimeZone::UTC, "UTC".to_owned(), is_browsers),
    }
}

impl Request {
    fn dashboard(&self) -> &Dashboard {
        &self.entry.dashboard
    }

    fn lookup(&self, scoped: &[(String, Binding)], name: &str) -> Option<Binding> {
        if let Some((_, binding)) = scoped.iter().find(|(n, _)| n == name) {
            return Some(binding.clone());
        }
        self.variables.binding(name).or_else(|| window_binding(name, &self.window)).or_else(|| {
            Some(match name {
                "__url_time_range" => Binding::plain(format!("from={}&to={}", self.window.from, self.window.to)),
                "__all_variables" => {
                    let all: Vec<String> = self
                        .variables
                        .all
                        .iter()
                        .filter_map(|v| {
                            self.variables
                                .binding(&v.def.name)
                                .map(|b| super::interpolate::query_params(&v.def.name, &b))
                        })
                        .collect();
                    Binding::plain(all.join("&"))
                }
                "__dashboard" => Binding::plain(self.dashboard().title.clone()),
                "__dashboard.uid" => Binding::plain(self.dashboard().uid.clone()),
                "__timezone" => Binding::plain(self.tz_name.clone()),
                "__org" | "__org.id" => Binding::plain("1"),
                _ => return None,
            })
        })
    }

    /// Whether the events of an annotation show.
    pub(crate) fn shows(&self, def: &AnnotationDef) -> bool {
        match self.params.get(&format!("annotation.{}", def.name)) {
            Some(said) => said == "on",
            None => def.is_on,
        }
    }

    fn text(&self, text: &str, scoped: &[(String, Binding)]) -> String {
        interpolate(text, Context::Text, &|name| self.lookup(scoped, name))
    }
}

/// Finds the dashboard and resolves its variables. Returns the not-found page otherwise.
async fn understand(
    state: &Dashboards,
    uid: &str,
    pairs: Vec<(String, String)>,
    headers: &HeaderMap,
    cancel: &Cancel,
) -> Result<Request, Response> {
    let inner = state.0.clone();
    let now_ms = inner.now_ms();
    let params = Params::new(pairs);
    let theme_choice = ThemeChoice::choose(params.get("theme"), headers);
    let theme = if theme_choice.is_light(headers) { Theme::Light } else { Theme::Dark };
    let missing = || not_found(uid, theme_choice);
    let (headers, uid_owned, cancel) = (headers.clone(), uid.to_owned(), cancel.clone());
    let work = {
        let inner = inner.clone();
        move || {
            let entry = inner.settings.catalog(now_ms).get(&uid_owned)?.clone();
            let d = entry.dashboard.clone();
            let (tz, tz_name, tz_is_browsers) = zone(params.get("timezone"), &d.timezone, &headers);
            let from = params.get("from").unwrap_or(&d.from);
            let to = params.get("to").unwrap_or(&d.to);
            let window = Window::new(from, to, now_ms, &tz);
            let variables =
                resolve(&d.variables, &|name| params.variable(name), &window, inner.source.as_ref(), &cancel);
            let hidden = params.all("hide").into_iter().collect();
            let state = inner.clone();
            Some(Request {
                state,
                entry,
                params,
                window,
                tz,
                tz_name,
                tz_is_browsers,
                theme,
                theme_choice,
                variables,
                now_ms,
                hidden,
                events: OnceLock::new(),
            })
        }
    };
    match inner.run(work).await {
        Ok(Some(request)) => Ok(request),
        Ok(None) => Err(missing()),
        Err(e) => Err((StatusCode::INTERNAL_SERVER_ERROR, format!("{e}\n")).into_response()),
    }
}

fn not_found(uid: &str, theme: ThemeChoice) -> Response {
    let shell = Shell::new("Not found", "dashboards", theme);
    let message = format!("There is no dashboard with the uid “{uid}”.");
    page(StatusCode::NOT_FOUND, &view::MessagePage { shell, title: "Dashboard not found".to_owned(), message })
}

/// Size of a panel's body, from the address or guessed from the grid.
fn body_size(params: &Params, copy: &Copy, is_alone: bool) -> (f64, f64) {
    let given =
        |name: &str| params.get(name).and_then(|v| v.parse::<f64>().ok()).filter(|v| (40.0..8000.0).contains(v));
    let grid = copy.panel.grid;
    let column = (PAGE_PX - 23.0 * 8.0) / 24.0;
    let (w, h) = if is_alone {
        (PAGE_PX, 760.0)
    } else {
        (column * grid.w as f64 + 8.0 * (grid.w - 1) as f64, 30.0 * grid.h as f64 + 8.0 * (grid.h - 1) as f64)
    };
    let head = if copy.panel.title.is_empty() { 16.0 } else { 40.0 };
    (given("w").unwrap_or(w - 18.0), given("h").unwrap_or(h - head))
}

/// Queries and draws one panel. Blocks.
fn compute(request: &Request, copy: &Copy, is_alone: bool, cancel: &Cancel) -> PanelInner {
    let panel = &copy.panel;
    let (width_px, height_px) = body_size(&request.params, copy, is_alone);
    let context = QueryContext {
        source: request.state.source.as_ref(),
        variables: &request.variables,
        scoped: &copy.scoped,
        window: &request.window,
        tz: &request.tz,
        now_ms: request.now_ms,
        width_px: width_px as i64,
        scrape_interval_ms: request.state.settings.scrape_interval_ms(),
        cancel,
    };
    let mut data = if needs_data(&panel.kind)
        && panel.foreign_source.is_none()
        && super::panels::DRAWN.contains(&panel.kind.as_str())
    {
        run(panel, &context)
    } else {
        PanelData::default()
    };
    let lookup = |name: &str| request.lookup(&copy.scoped, name);
    let none = (Vec::new(), Vec::new());
    let (events, failed) = match panel.kind.as_str() {
        "timeseries" | "state-timeline" | "status-history" | "heatmap" => request.events.get_or_init(|| {
            let defs: Vec<&AnnotationDef> =
                request.dashboard().annotations.iter().filter(|d| request.shows(d)).collect();
            let mut failed = Vec::new();
            // Events belong to the page, so a panel's own variables have no part in them.
            let context = QueryContext { scoped: &[], ..context };
            (annotations::run(&defs, &context, &mut failed), failed)
        }),
        _ => &none,
    };
    data.notices.extend(failed.iter().cloned());
    super::transform::apply(panel, &mut data, &|text| interpolate(text, Context::Text, &lookup));
    let key = format!("p{}", copy.key.replace(|c: char| !c.is_ascii_alphanumeric(), "_"));
    let path = format!("/d/{}/{}", request.dashboard().uid, request.dashboard().slug());
    let draw_context = DrawContext {
        theme: request.theme,
        tz: &request.tz,
        width_px,
        height_px,
        hidden: &request.hidden,
        lookup: &lookup,
        key: &key,
        events,
        page: Some((&path, &request.params)),
    };
    let window = data.window.clone().unwrap_or_else(|| request.window.clone());
    let body = draw(panel, &data, &window, &draw_context);
    let description = request.text(&panel.description, &copy.scoped);
    PanelInner {
        title: request.text(&panel.title, &copy.scoped),
        description: if description.is_empty() { String::new() } else { html::markdown(&description) },
        note: data.window_note.clone(),
        notices: data.notices.clone(),
        view_url: view_url(request, &copy.key),
        explore_url: explore_url(request, copy),
        inspect_url: match panel.targets.is_empty() {
            true => String::new(),
            false => {
                let query = request.params.without(&["w", "h", "hide"]).query();
                format!("/d/{}/panel/{}/inspect{query}", request.dashboard().uid, copy.key)
            }
        },
        links: panel.links.iter().flat_map(|l| view::links(request, l)).collect(),
        body,
    }
}

fn view_url(request: &Request, key: &str) -> String {
    let path = format!("/d/{}/{}", request.dashboard().uid, request.dashboard().slug());
    let params = if request.params.has("viewPanel") {
        request.params.without(&["viewPanel", "w", "h", "hide"])
    } else {
        request.params.without(&["w", "h", "hide"]).with(&[("viewPanel", key)])
    };
    format!("{path}{}", params.query())
}

fn explore_url(request: &Request, copy: &Copy) -> String {
    let Some(target) = copy.panel.targets.iter().find(|t| !t.expr.is_empty()) else { return String::new() };
    let expr = interpolate(&target.expr, Context::PromQl, &|name| match name {
        // A step that Explore chooses by itself.
        "__rate_interval" | "__interval" => Some(Binding::plain("1m")),
        name => request.lookup(&copy.scoped, name),
    });
    let params = Params::new(vec![
        ("expr".to_owned(), expr),
        ("from".to_owned(), request.window.from.clone()),
        ("to".to_owned(), request.window.to.clone()),
    ]);
    format!("/explore{}", params.query())
}

/// Computes many panels at once, in their order.
async fn compute_all(request: &Arc<Request>, copies: Vec<Copy>, is_alone: bool, cancel: &Cancel) -> Vec<PanelInner> {
    let mut tasks = Vec::with_capacity(copies.len());
    for copy in copies {
        let (request, cancel) = (request.clone(), cancel.clone());
        let title = copy.panel.title.clone();
        let task = tokio::spawn(async move {
            let state = request.state.clone();
            state.run(move || compute(&request, &copy, is_alone, &cancel)).await
        });
        tasks.push((title, task));
    }
    let mut out = Vec::with_capacity(tasks.len());
    for (title, task) in tasks {
        out.push(match task.await {
            Ok(Ok(inner)) => inner,
            _ => PanelInner { title, body: "<div class=\"query-error\" role=\"alert\">This panel could not be computed; the log says why.</div>".to_owned(), ..PanelInner::default() },
        });
    }
    out
}

async fn dashboard_with_slug(
    state: State<Dashboards>,
    Path((uid, _)): Path<(String, String)>,
    pairs: Pairs,
    headers: HeaderMap,
) -> Response {
    dashboard(state, Path(uid), pairs, headers).await
}

async fn dashboard(
    State(state): State<Dashboards>,
    Path(uid): Path<String>,
    Query(pairs): Pairs,
    headers: HeaderMap,
) -> Response {
    let deadline = state.0.deadline();
    let request = match understand(&state, &uid, pairs, &headers, &deadline.cancel).await {
        Ok(request) => Arc::new(request),
        Err(response) => return response,
    };
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
        let title = section.row.as_ref().map(|r| request.text(&r.title, &section.scoped)).unwrap_or_default();
        views.push(SectionView {
            row: section.row.as_ref().map(|_| view::RowView {
                title: if title.is_empty() { "Row".to_owned() } else { title },
                is_collapsed,
                n_panels: section.panels.len(),
                url: view::toggle_url(&request, &section.key),
            }),
            panels: section.panels.iter().take(n).map(|c| PanelView::place(c, alone.is_some())).collect(),
        });
        copies.extend(section.panels.into_iter().take(n));
    }
    let inners = compute_all(&request, copies, alone.is_some(), &deadline.cancel).await;
    let mut inners = inners.into_iter();
    for panel in views.iter_mut().flat_map(|v| &mut v.panels) {
        panel.inner = inners.next().unwrap_or_default();
    }
    page(StatusCode::OK, &DashboardPage::new(&request, views, alone))
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
    let request = Arc::new(understand(state, uid, pairs, headers, cancel).await?);
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
) -> Response {
    use askama::Template as _;
    let deadline = state.0.deadline();
    match find_panel(&state, &uid, &key, pairs, &headers, &deadline.cancel).await {
        Ok((_, inner)) => match inner.render() {
            Ok(body) => fragment(body),
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        },
        Err(response) => response,
    }
}

async fn solo_with_slug(
    state: State<Dashboards>,
    Path((uid, _)): Path<(String, String)>,
    pairs: Pairs,
    headers: HeaderMap,
) -> Response {
    solo(state, Path(uid), pairs, headers).await
}

/// One panel alone on a page, to be framed.
async fn solo(
    State(state): State<Dashboards>,
    Path(uid): Path<String>,
    Query(mut pairs): Pairs,
    headers: HeaderMap,
) -> Response {
    let key = pairs.iter().rev().find(|(n, _)| n == "panelId").map(|(_, v)| v.trim_start_matches("panel-").to_owned());
    let Some(key) = key else {
        return (StatusCode::BAD_REQUEST, "panelId is missing\n").into_response();
    };
    if !pairs.iter().any(|(n, _)| n == "viewPanel") {
        pairs.push(("viewPanel".to_owned(), key.clone()));
    }
    let deadline = state.0.deadline();
    match find_panel(&state, &uid, &key, pairs, &headers, &deadline.cancel).await {
        Ok((request, inner)) => embeddable(StatusCode::OK, &SoloPage::new(&request, key, inner)),
        Err(response) => response,
    }
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
