//! Pictures of panels and dashboards (`/render/…`, PNG or SVG), and snapshots that need no server.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;

use crate::dashboard::color::Theme;
use crate::dashboard::params::Params;
use crate::dashboard::render::{
    PagePanel, PageSection, Palette, PictureError, SCALE, SIDE_PX, Scale, page as page_svg, panel as panel_svg, png,
};
use crate::dashboard::repeat::{Copy, expand};
use crate::dashboard::state::Dashboards;
use crate::ui::{Shell, assets};

use super::compute::compute_all;
use super::request::{Asked, Request, understand};
use super::view::{DashAttributes, PanelInner, SectionView, notices};
use super::{Pairs, Uid, only, sections};

/// Sides of a picture when the address does not say: as Grafana has them, and a page's usual width.
const PANEL_PX: (f64, f64) = (1000.0, 500.0);
const PAGE_PX: f64 = 1440.0;

/// What the address says of a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Picture {
    width: Option<f64>,
    height: Option<f64>,
    scale: Scale,
    is_svg: bool,
}

impl Picture {
    fn of(params: &Params) -> Self {
        let number = |name: &str| params.get(name).and_then(|v| v.parse::<f64>().ok()).filter(|v| v.is_finite());
        // A height below zero asks for all there is.
        let side = |name: &str| number(name).filter(|v| *v > 0.0).map(|v| v.clamp(SIDE_PX.0, SIDE_PX.1));
        Self {
            width: side("width"),
            height: side("height"),
            scale: number("scale")
                .or(number("deviceScaleFactor"))
                .map_or(Scale::Fitting, |s| Scale::Exactly(s.clamp(SCALE.0, SCALE.1))),
            is_svg: params.get("format") == Some("svg"),
        }
    }
}

/// The parameters of the dashboard without those of the picture.
fn plain(pairs: Vec<(String, String)>) -> Vec<(String, String)> {
    let rename = |(name, value): (String, String)| match name.as_str() {
        "tz" => ("timezone".to_owned(), value),
        _ => (name, value),
    };
    let is_ours =
        |name: &str| matches!(name, "width" | "height" | "scale" | "deviceScaleFactor" | "format" | "timeout");
    pairs.into_iter().filter(|(n, _)| !is_ours(n)).map(rename).collect()
}

/// `GET /render/d-solo/<uid>/<slug>?panelId=…`: one panel.
pub(super) async fn panel(
    State(state): State<Dashboards>,
    Path(Uid { uid }): Path<Uid>,
    Query(pairs): Pairs,
    headers: HeaderMap,
) -> Result<Response, Response> {
    let params = Params::new(pairs.clone());
    let key = params.get("panelId").or(params.get("viewPanel")).map(|k| k.trim_start_matches("panel-").to_owned());
    let key = key.ok_or_else(|| (StatusCode::BAD_REQUEST, "panelId is missing\n").into_response())?;
    let picture = Picture::of(&params);
    let (width, height) = (picture.width.unwrap_or(PANEL_PX.0), picture.height.unwrap_or(PANEL_PX.1));
    picture.scale.of(width, height).map_err(|e| refused(&e))?;
    let deadline = state.0.deadline();
    let mut request = understand(&state, &uid, Asked::whole(plain(pairs), &headers, &deadline.cancel)).await?;
    let found = only(expand(request.dashboard(), &request.variables), &key);
    let Some(copy) = found.into_iter().next().and_then(|mut s| s.panels.pop()) else {
        return Err((StatusCode::NOT_FOUND, format!("no panel {key}\n")).into_response());
    };
    let head = if copy.panel.title.is_empty() { 16.0 } else { 40.0 };
    request.body_px = Some((width - 16.0, height - head));
    let request = Arc::new(request);
    let inner = compute_all(&request, vec![copy.clone()], false, &deadline.cancel).await.pop().unwrap_or_default();
    let palette = Palette::of(request.theme);
    Ok(send(&state, picture, move || panel_svg(&placed(inner, &copy), (width, height), palette)).await)
}

/// `GET /render/d/<uid>/<slug>`: a whole dashboard, or with `viewPanel` one panel of it.
pub(super) async fn page(
    State(state): State<Dashboards>,
    Path(Uid { uid }): Path<Uid>,
    Query(pairs): Pairs,
    headers: HeaderMap,
) -> Result<Response, Response> {
    if pairs.iter().any(|(n, _)| n == "viewPanel") {
        return panel(State(state), Path(Uid { uid }), Query(pairs), headers).await;
    }
    let picture = Picture::of(&Params::new(pairs.clone()));
    let width = picture.width.unwrap_or(PAGE_PX);
    let deadline = state.0.deadline();
    let mut request = understand(&state, &uid, Asked::whole(plain(pairs), &headers, &deadline.cancel)).await?;
    request.page_px = width - 32.0;
    let request = Arc::new(request);
    let toggled = request.params.all("toggle");
    let expanded = expand(request.dashboard(), &request.variables);
    let mut titles = Vec::new();
    let mut copies: Vec<Copy> = Vec::new();
    for section in expanded {
        let is_collapsed = section.row.as_ref().is_some_and(|r| r.collapsed != toggled.contains(&section.key));
        let title = section.row.as_ref().map(|r| request.title(&r.title, &section.scoped)).unwrap_or_default();
        let n = if is_collapsed { 0 } else { section.panels.len() };
        titles.push((title, n));
        copies.extend(section.panels.into_iter().take(n));
    }
    let inners = compute_all(&request, copies.clone(), false, &deadline.cancel).await;
    let mut panels = inners.into_iter().zip(&copies).map(|(inner, copy)| placed(inner, copy));
    let sections: Vec<PageSection> =
        titles.into_iter().map(|(title, n)| PageSection { title, panels: panels.by_ref().take(n).collect() }).collect();
    let title = request.dashboard().title.clone();
    let window = request.window.describe(&request.tz);
    let palette = Palette::of(request.theme);
    Ok(send(&state, picture, move || page_svg(&title, &window, &sections, width, picture.height, palette)).await)
}

fn placed(inner: PanelInner, copy: &Copy) -> PagePanel {
    PagePanel {
        title: inner.title,
        note: inner.note,
        body: inner.body,
        grid: copy.grid,
        is_transparent: copy.panel.transparent,
    }
}

fn refused(e: &PictureError) -> Response {
    let status = match e {
        PictureError::TooLarge { .. } => StatusCode::BAD_REQUEST,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, format!("{e}\n")).into_response()
}

/// Lays out and draws on a worker thread.
async fn send(state: &Dashboards, picture: Picture, draw: impl FnOnce() -> String + Send + 'static) -> Response {
    let work = move || {
        let svg = draw();
        if picture.is_svg { Ok(svg.into_bytes()) } else { png(&svg, picture.scale) }
    };
    let mime = if picture.is_svg { "image/svg+xml" } else { "image/png" };
    match state.0.run(work).await {
        Ok(Ok(bytes)) => {
            let headers = [
                (header::CONTENT_TYPE, mime),
                (header::CACHE_CONTROL, "no-store"),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
                (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors *"),
            ];
            (headers, bytes).into_response()
        }
        Ok(Err(e)) => refused(&e),
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{e}\n")).into_response(),
    }
}

/// A dashboard as one file.
#[derive(Template)]
#[template(path = "snapshot.html")]
struct SnapshotPage {
    title: String,
    window_text: String,
    taken: String,
    theme: &'static str,
    /// The policy of the file, which has no server to send one.
    policy: String,
    style: &'static str,
    script: &'static str,
    dash: DashAttributes,
    /// What of the page failed.
    notices: Vec<String>,
    sections: Vec<SectionView>,
}

/// `GET /dashboard/snapshot/<uid>`: the page as it is now, with its style, script and numbers inside, and no links back.
pub(super) async fn snapshot(
    State(state): State<Dashboards>,
    Path(uid): Path<String>,
    Query(pairs): Pairs,
    headers: HeaderMap,
) -> Result<Response, Response> {
    let deadline = state.0.deadline();
    let request = Arc::new(understand(&state, &uid, Asked::whole(pairs, &headers, &deadline.cancel)).await?);
    let (mut views, _) = sections(&request, &deadline.cancel).await;
    for section in &mut views {
        if let Some(row) = &mut section.row {
            row.url.clear();
        }
        for panel in &mut section.panels {
            let inner = &mut panel.inner;
            (inner.view_url, inner.explore_url, inner.inspect_url) = Default::default();
            inner.links.clear();
        }
    }
    let script = assets::script();
    let hash = ring::digest::digest(&ring::digest::SHA256, script.as_bytes());
    let hash = base64::engine::general_purpose::STANDARD.encode(hash);
    let name: String = request.dashboard().slug().chars().filter(char::is_ascii).collect();
    let view = SnapshotPage {
        title: request.dashboard().title.clone(),
        window_text: request.window.describe(&request.tz),
        taken: crate::dashboard::timerange::local(request.now_ms, &request.tz),
        theme: if request.theme == Theme::Light { "light" } else { "dark" },
        policy: format!("default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{hash}'; img-src data:"),
        style: assets::style(),
        script,
        dash: DashAttributes::of(&request).detached(),
        notices: notices(&request, true),
        sections: views,
    };
    let mut response = crate::ui::page(StatusCode::OK, &view);
    let disposition = format!("attachment; filename=\"{name}.html\"");
    if let Ok(value) = HeaderValue::from_str(&disposition) {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, value);
    }
    // As a file it has its own; the server's would keep style and script of the file from working.
    response.headers_mut().remove(header::CONTENT_SECURITY_POLICY);
    Ok(response)
}

/// How a dashboard or panel is passed on.
#[derive(Template)]
#[template(path = "share.html")]
struct SharePage {
    shell: Shell,
    title: String,
    back_url: String,
    /// Names and addresses.
    links: Vec<(&'static str, String)>,
    /// Markup that shows a panel in a page.
    embed: String,
    panels: Vec<(String, String, bool)>,
    snapshot_url: String,
    is_absolute: bool,
}

/// `GET /dashboard/share/<uid>`: addresses of the dashboard and of each panel as page, frame and picture.
pub(super) async fn share(
    State(state): State<Dashboards>,
    Path(uid): Path<String>,
    Query(pairs): Pairs,
    headers: HeaderMap,
) -> Result<Response, Response> {
    let deadline = state.0.deadline();
    let request = understand(&state, &uid, Asked::whole(pairs, &headers, &deadline.cancel)).await?;
    Ok(crate::ui::page(StatusCode::OK, &share_page(&request, &headers)))
}

fn share_page(request: &Request, headers: &HeaderMap) -> SharePage {
    let d = request.dashboard();
    let path = format!("{}/{}", crate::dashboard::interpolate::percent_encode(&d.uid), d.slug());
    let host = headers.get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or("localhost");
    let is_tls = headers.get("x-forwarded-proto").is_some_and(|p| p == "https");
    let base = format!("{}://{host}", if is_tls { "https" } else { "http" });
    let is_absolute = request.params.get("absolute").is_some();
    let rest = request.params.without(&["w", "h", "hide", "share-panel", "absolute"]);
    let (from, to) = (request.window.from_ms.to_string(), request.window.to_ms.to_string());
    // A link that is passed on shows what is seen now, or what is seen then.
    let params = if is_absolute { rest.with(&[("from", &from), ("to", &to)]) } else { rest.clone() };
    let chosen = request.params.get("share-panel").map(str::to_owned);
    let sections = expand(d, &request.variables);
    let copies = sections.iter().flat_map(|s| &s.panels);
    let own = |changes: &[(&str, &str)]| {
        format!("/dashboard/share/{}{}", path.split('/').next().unwrap_or(""), rest.with(changes).query())
    };
    let panels = copies
        .map(|c| {
            let title = request.title(&c.panel.title, &c.scoped);
            let title = if title.is_empty() { format!("Panel {}", c.key) } else { title };
            (title, own(&[("share-panel", c.key.as_str())]), chosen.as_deref() == Some(c.key.as_str()))
        })
        .collect();
    let (links, embed) = match &chosen {
        None => {
            let query = params.query();
            let links = vec![
                ("Page", format!("{base}/d/{path}{query}")),
                ("Without controls", format!("{base}/d/{path}{}", params.with(&[("kiosk", "")]).query())),
                ("Picture (PNG)", format!("{base}/render/d/{path}{}", params.with(&[("width", "1440")]).query())),
                ("Picture (SVG)", format!("{base}/render/d/{path}{}", params.with(&[("format", "svg")]).query())),
            ];
            (links, String::new())
        }
        Some(key) => {
            let solo = params.with(&[("panelId", key)]);
            let frame = format!("{base}/d-solo/{path}{}", solo.query());
            let sized = solo.with(&[("width", "1000"), ("height", "500")]);
            let links = vec![
                ("Page", format!("{base}/d/{path}{}", params.with(&[("viewPanel", key)]).query())),
                ("Frame", frame.clone()),
                ("Picture (PNG)", format!("{base}/render/d-solo/{path}{}", sized.query())),
                ("Picture (SVG)", format!("{base}/render/d-solo/{path}{}", sized.with(&[("format", "svg")]).query())),
            ];
            (links, format!("<iframe src=\"{frame}\" width=\"450\" height=\"200\" frameborder=\"0\"></iframe>"))
        }
    };
    SharePage {
        shell: Shell::new(&format!("Share {}", d.title), "dashboards", request.theme_choice),
        title: d.title.clone(),
        back_url: format!("/d/{path}{}", rest.query()),
        links,
        embed,
        panels,
        snapshot_url: format!("/dashboard/snapshot/{}{}", path.split('/').next().unwrap_or(""), params.query()),
        is_absolute,
    }
}
