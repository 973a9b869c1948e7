//! What is behind a panel: its queries as they ran, its data as a table and as CSV, its JSON.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use promontory_model::Cancel;
use serde_json::Value;

use crate::dashboard::frame::{Frame, NO_TIME, Values};
use crate::dashboard::html::escape;
use crate::dashboard::interpolate::{Context, interpolate};
use crate::dashboard::json::{integer, list};
use crate::dashboard::load::unwrapped;
use crate::dashboard::query::{PanelData, QueryContext, run};
use crate::dashboard::repeat::{Copy, expand};
use crate::dashboard::state::Dashboards;
use crate::dashboard::timerange::local;
use crate::dashboard::transform;
use crate::ui::{Shell, page};

use super::request::{Asked, Request, understand};
use super::view::InspectPage;
use super::{Pairs, body_size, only};

/// Rows of a frame that the page shows; a file has all.
const ROWS_SHOWN: usize = 200;
/// Frames that the page shows.
const FRAMES_SHOWN: usize = 20;

/// The data of one panel after its transformations.
async fn data_of(
    state: &Dashboards,
    uid: &str,
    key: &str,
    pairs: Vec<(String, String)>,
    headers: &HeaderMap,
    cancel: &Cancel,
) -> Result<(Arc<Request>, Copy, PanelData, u64), Response> {
    let request = Arc::new(understand(state, uid, Asked::whole(pairs, headers, cancel)).await?);
    let found = only(expand(request.dashboard(), &request.variables), key);
    let Some(copy) = found.into_iter().next().and_then(|mut s| s.panels.pop()) else {
        return Err((StatusCode::NOT_FOUND, format!("no panel {key}\n")).into_response());
    };
    let work = {
        let (request, copy, cancel) = (request.clone(), copy.clone(), cancel.clone());
        move || {
            let context = QueryContext {
                source: request.state.source.as_ref(),
                variables: &request.variables,
                scoped: &copy.scoped,
                window: &request.window,
                tz: &request.tz,
                now_ms: request.now_ms,
                width_px: body_size(&request, &copy, false).0 as i64,
                scrape_interval_ms: request.state.settings.scrape_interval_ms(),
                cancel: &cancel,
            };
            let began = request.state.clock.monotonic_ns();
            let mut data = run(&copy.panel, &context);
            let lookup = |name: &str| request.lookup(&copy.scoped, name);
            transform::apply(&copy.panel, &mut data, &|text| interpolate(text, Context::Text, &lookup));
            let took = request.state.clock.monotonic_ns().saturating_sub(began) / 1_000_000;
            (data, took)
        }
    };
    match request.state.run(work).await {
        Ok((data, took)) => Ok((request, copy, data, took)),
        Err(e) => Err((StatusCode::INTERNAL_SERVER_ERROR, format!("{e}\n")).into_response()),
    }
}

/// `GET /d/<uid>/panel/<key>/csv`: all frames, one below the other.
pub(super) async fn csv(
    State(state): State<Dashboards>,
    Path((uid, key)): Path<(String, String)>,
    Query(pairs): Pairs,
    headers: HeaderMap,
) -> Result<Response, Response> {
    let deadline = state.0.deadline();
    let (request, copy, data, _) = data_of(&state, &uid, &key, pairs, &headers, &deadline.cancel).await?;
    let title = crate::dashboard::model::slug(&request.title(&copy.panel.title, &copy.scoped));
    let name: String = title.chars().filter(|c| c.is_ascii()).collect();
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}.csv\"")),
    ];
    Ok((headers, csv_text(&data.frames, &request.tz)).into_response())
}

/// Frames that share their times stand side by side, others below each other.
pub(super) fn csv_text(frames: &[Frame], tz: &jiff::tz::TimeZone) -> String {
    let joined = match frames.split_first() {
        Some((first, rest)) if !rest.is_empty() && first.times().is_some() => {
            let is_series = |f: &Frame| f.fields.len() == 2 && f.times() == first.times();
            frames.iter().all(is_series).then(|| Frame {
                ref_id: String::new(),
                fields: first.fields[..1]
                    .iter()
                    .chain(frames.iter().filter_map(|f| f.fields.get(1)))
                    .cloned()
                    .collect(),
            })
        }
        _ => None,
    };
    let frames = joined.as_ref().map_or(frames, std::slice::from_ref);
    let mut out = String::new();
    for (i, frame) in frames.iter().enumerate() {
        if i > 0 {
            out.push_str("\r\n");
        }
        let line = |cells: &mut dyn Iterator<Item = String>, out: &mut String| {
            out.push_str(&cells.map(|c| quoted(&c)).collect::<Vec<_>>().join(","));
            out.push_str("\r\n");
        };
        line(&mut frame.fields.iter().map(|f| f.shown().to_owned()), &mut out);
        for row in 0..frame.len() {
            line(&mut (0..frame.fields.len()).map(|c| cell(frame, c, row, tz)), &mut out);
        }
    }
    out
}

fn cell(frame: &Frame, column: usize, row: usize, tz: &jiff::tz::TimeZone) -> String {
    let field = &frame.fields[column];
    match &field.values {
        Values::Time(all) => all.get(row).filter(|t| **t != NO_TIME).map(|t| local(*t, tz)).unwrap_or_default(),
        _ => field.cell(row).unwrap_or_default(),
    }
}

/// A cell of CSV. What a spreadsheet would run as a formula stays text.
fn quoted(text: &str) -> String {
    let is_formula = text.starts_with(['=', '@', '+', '-']) && text.parse::<f64>().is_err();
    let text = if is_formula { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

/// `GET /d/<uid>/panel/<key>/inspect`.
pub(super) async fn inspect(
    State(state): State<Dashboards>,
    Path((uid, key)): Path<(String, String)>,
    Query(pairs): Pairs,
    headers: HeaderMap,
) -> Result<Response, Response> {
    let deadline = state.0.deadline();
    let (request, copy, data, took) = data_of(&state, &uid, &key, pairs, &headers, &deadline.cancel).await?;
    let title = request.title(&copy.panel.title, &copy.scoped);
    let shell = Shell::new(&format!("Inspect {title}"), "dashboards", request.theme_choice);
    let query = request.params.without(&["w", "h"]).query();
    let back = format!("/d/{}/{}", request.dashboard().uid, request.dashboard().slug());
    let view = InspectPage {
        shell,
        title: if title.is_empty() { format!("Panel {key}") } else { title },
        dashboard: request.dashboard().title.clone(),
        back_url: format!("{back}{query}"),
        csv_url: format!("/d/{}/panel/{key}/csv{query}", request.dashboard().uid),
        took: format!("{took} ms"),
        queries: data.queries.clone(),
        errors: data.errors.clone(),
        tables: data.frames.iter().take(FRAMES_SHOWN).map(|f| table(f, &request.tz)).collect(),
        more: data.frames.len().saturating_sub(FRAMES_SHOWN),
        json: panel_json(&request.entry.source, copy.panel.id),
    };
    Ok(page(StatusCode::OK, &view))
}

/// A frame as HTML.
fn table(frame: &Frame, tz: &jiff::tz::TimeZone) -> String {
    let mut out = String::from("<div class=\"table-wrap\"><table class=\"data\"><thead><tr>");
    for field in &frame.fields {
        let class = if field.is_number() { " class=\"num\"" } else { "" };
        let _ = write!(out, "<th{class}>{}</th>", escape(field.shown()));
    }
    out.push_str("</tr></thead><tbody>");
    for row in 0..frame.len().min(ROWS_SHOWN) {
        out.push_str("<tr>");
        for (column, field) in frame.fields.iter().enumerate() {
            let class = if field.is_number() { " class=\"num\"" } else { "" };
            let _ = write!(out, "<td{class}>{}</td>", escape(&cell(frame, column, row, tz)));
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table></div>");
    if frame.len() > ROWS_SHOWN {
        let _ = write!(out, "<p class=\"notice\">{ROWS_SHOWN} of {} rows are shown; the CSV has all.</p>", frame.len());
    }
    out
}

/// The panel as its file has it.
fn panel_json(source: &str, id: i64) -> String {
    let Ok(root) = serde_json::from_str::<Value>(source) else { return String::new() };
    let root = unwrapped(root);
    let nested = list(&root, "rows").iter().chain(list(&root, "panels")).flat_map(|p| list(p, "panels"));
    let found = list(&root, "panels").iter().chain(nested).find(|p| integer(p, "id") == Some(id));
    found.and_then(|p| serde_json::to_string_pretty(p).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboard::frame::Field;

    #[track_caller]
    fn check(frames: &[Frame], expected: &str) {
        assert_eq!(csv_text(frames, &jiff::tz::TimeZone::UTC), expected);
    }

    #[test]
    fn csv_joins_series_and_quotes_cells() {
        let series = |name: &str, v: f64| Frame {
            ref_id: "A".into(),
            fields: vec![
                Field::new("Time", Values::Time(Arc::from([0i64, 15_000]))),
                Field::new(name, Values::Number(vec![Some(v), None])),
            ],
        };
        check(
            &[series("a,b", 1.5), series("c", -2.0)],
            "Time,\"a,b\",c\r\n1970-01-01 00:00:00,1.5,-2\r\n1970-01-01 00:00:15,,\r\n",
        );
        let text = |s: &str| Frame {
            ref_id: "B".into(),
            fields: vec![Field::new("x", Values::Text(vec![Some(s.to_owned())]))],
        };
        check(&[text("say \"hi\""), text("=1+1")], "x\r\n\"say \"\"hi\"\"\"\r\n\r\nx\r\n'=1+1\r\n");
    }
}
