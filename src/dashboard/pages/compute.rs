//! Panels from their queries to HTML, many at once.

use std::sync::Arc;

use promontory_model::Cancel;

use crate::dashboard::annotations;
use crate::dashboard::html;
use crate::dashboard::interpolate::{Binding, Context, interpolate};
use crate::dashboard::model::AnnotationDef;
use crate::dashboard::panels::{DrawContext, draw, needs_data};
use crate::dashboard::params::Params;
use crate::dashboard::parts::Events;
use crate::dashboard::query::{PanelData, QueryContext, run};
use crate::dashboard::repeat::Copy;
use crate::dashboard::state::WorkError;

use super::dashlist;
use super::request::Request;
use super::view::{self, PanelInner};

/// Size of a panel's body, from the address or guessed from the grid.
pub(super) fn body_size(request: &Request, copy: &Copy, is_alone: bool) -> (f64, f64) {
    if let Some(size) = request.body_px {
        return size;
    }
    let (params, page_px) = (&request.params, request.page_px);
    let given =
        |name: &str| params.get(name).and_then(|v| v.parse::<f64>().ok()).filter(|v| (40.0..8000.0).contains(v));
    let grid = copy.grid;
    let column = (page_px - 23.0 * 8.0) / 24.0;
    let (w, h) = if is_alone {
        (page_px, 760.0)
    } else {
        (column * grid.w as f64 + 8.0 * (grid.w - 1) as f64, 30.0 * grid.h as f64 + 8.0 * (grid.h - 1) as f64)
    };
    let head = if copy.panel.title.is_empty() { 16.0 } else { 40.0 };
    (given("w").unwrap_or(w - 18.0), given("h").unwrap_or(h - head))
}

fn query_context<'a>(
    request: &'a Request,
    scoped: &'a [(String, Binding)],
    width_px: f64,
    cancel: &'a Cancel,
) -> QueryContext<'a> {
    QueryContext {
        source: request.state.source.as_ref(),
        variables: &request.variables,
        scoped,
        window: &request.window,
        tz: &request.tz,
        now_ms: request.now_ms,
        width_px: width_px as i64,
        scrape_interval_ms: request.state.settings.scrape_interval_ms(),
        cancel,
    }
}

/// Whether panels of this type show what happened.
fn shows_events(kind: &str) -> bool {
    matches!(kind, "timeseries" | "state-timeline" | "status-history" | "heatmap")
}

/// The events of the page, which its panels share.
async fn events(request: &Arc<Request>, cancel: &Cancel) -> Result<Arc<Events>, WorkError> {
    let ask = {
        let (request, cancel) = (request.clone(), cancel.clone());
        move || {
            let defs: Vec<&AnnotationDef> =
                request.dashboard().annotations.iter().filter(|d| request.shows(d)).collect();
            let mut failed = Vec::new();
            // Events belong to the page, so a panel's own variables have no part in them.
            let mut all = annotations::run(&defs, &query_context(&request, &[], request.page_px, &cancel), &mut failed);
            all.extend(request.notes());
            Events { all, failed }
        }
    };
    request.found.events(cancel, request.state.run(ask)).await
}

/// Queries and draws one panel. Blocks.
fn compute(request: &Request, copy: &Copy, is_alone: bool, events: &Events, cancel: &Cancel) -> PanelInner {
    let panel = &copy.panel;
    let (width_px, height_px) = body_size(request, copy, is_alone);
    let context = query_context(request, &copy.scoped, width_px, cancel);
    let mut data = match needs_data(&panel.kind) && panel.foreign_source.is_none() {
        true => run(panel, &context),
        false => PanelData::default(),
    };
    let lookup = |name: &str| request.lookup(&copy.scoped, name);
    // Among others the page says once what failed.
    if is_alone {
        data.notices.extend(events.failed.iter().cloned());
    }
    crate::dashboard::transform::apply(panel, &mut data, &|text| interpolate(text, Context::Text, &lookup));
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
        panel: panel.id,
        events: &events.all,
        page: Some((&path, &request.params)),
    };
    let window = data.window.clone().unwrap_or_else(|| request.window.clone());
    let body = match panel.kind.as_str() {
        // What it lists is known to pages only.
        "dashlist" => dashlist::draw(request, panel),
        _ => draw(panel, &data, &window, &draw_context),
    };
    let description = request.text(&panel.description, &copy.scoped);
    PanelInner {
        title: request.title(&panel.title, &copy.scoped),
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
pub(super) async fn compute_all(
    request: &Arc<Request>,
    copies: Vec<Copy>,
    is_alone: bool,
    cancel: &Cancel,
) -> Vec<PanelInner> {
    let mut tasks = Vec::with_capacity(copies.len());
    for copy in copies {
        let (request, cancel) = (request.clone(), cancel.clone());
        let title = copy.panel.title.clone();
        let task = tokio::spawn(async move {
            let events = match shows_events(&copy.panel.kind) {
                true => events(&request, &cancel).await?,
                false => Arc::default(),
            };
            let state = request.state.clone();
            state.run(move || compute(&request, &copy, is_alone, &events, &cancel)).await
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
