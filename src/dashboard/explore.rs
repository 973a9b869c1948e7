//! Explore: one query, its table and its graph, what it cost, and where it is wrong.

use std::fmt::Write as _;
use std::sync::Arc;

use askama::Template;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use jiff::tz::TimeZone;
use promontory_model::{Cancel, TimeRange};
use promontory_promql::annotations::Severity;
use promontory_promql::error::QueryError;
use promontory_promql::lint::Suggestion;
use promontory_promql::value::{QueryStats, RangeSpec, SampleValue, Value};
use serde_json::json;

use crate::ui::{Shell, ThemeChoice, page as html_page};

use super::color::Theme;
use super::frame::{self, Frame, Values};
use super::html::escape;
use super::model::{FieldConfig, Panel, Target};
use super::pages::zone;
use super::panels::{DrawContext, draw};
use super::params::Params;
use super::query::PanelData;
use super::source::SourceError;
use super::state::{Dashboards, Inner};
use super::timerange::{QUICK_RANGES, Window, interval_text, local, parse_interval, round_interval};
use super::units::js_number;

/// Rows of the table.
const ROWS_MAX: usize = 1_000;
/// Size of the graph on a page of usual width, CSS pixels.
const GRAPH_PX: (f64, f64) = (1380.0, 440.0);

#[derive(Template)]
#[template(path = "explore.html")]
struct ExplorePage {
    shell: Shell,
    expr: String,
    tab: Tab,
    from: String,
    to: String,
    step: String,
    window_text: String,
    zone: String,
    zone_is_browsers: bool,
    from_ms: i64,
    to_ms: i64,
    quick: Vec<(String, String, bool)>,
    /// Name, address, and whether it is the one that is shown.
    tabs: Vec<(&'static str, String, bool)>,
    answer: Answer,
}

/// What a query gave.
#[derive(Debug, Default)]
struct Answer {
    /// HTML; empty when nothing was asked.
    body: String,
    /// The query with the wrong place marked, as HTML, and the message.
    error: Option<(String, String)>,
    notices: Vec<String>,
    /// Probable mistakes, and the address of the mended query.
    suggestions: Vec<(String, Option<(String, String)>)>,
    cost: String,
}

/// How an answer is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tab {
    Graph,
    Table,
    Plan,
}

impl Tab {
    const ALL: [Self; 3] = [Self::Graph, Self::Table, Self::Plan];

    fn read(text: Option<&str>) -> Self {
        Self::ALL.into_iter().find(|t| Some(t.name()) == text).unwrap_or(Self::Graph)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Graph => "graph",
            Self::Table => "table",
            Self::Plan => "plan",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Graph => "Graph",
            Self::Table => "Table",
            Self::Plan => "Plan",
        }
    }
}

pub(super) async fn page(
    State(state): State<Dashboards>,
    Query(pairs): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Response {
    let inner = state.0.clone();
    let params = Params::new(pairs);
    let theme_choice = ThemeChoice::choose(params.get("theme"), &headers);
    let theme = if theme_choice.is_light(&headers) { Theme::Light } else { Theme::Dark };
    let (tz, zone_name, zone_is_browsers) = zone(params.get("timezone"), "browser", &headers);
    let window =
        Window::new(params.get("from").unwrap_or("now-1h"), params.get("to").unwrap_or("now"), inner.now_ms(), &tz);
    let expr = params.get("expr").unwrap_or("").trim().to_owned();
    let tab = Tab::read(params.get("tab"));
    let step_text = params.get("step").unwrap_or("").to_owned();
    let deadline = inner.deadline();
    let answer = if expr.is_empty() {
        Answer::default()
    } else {
        let ask = Ask {
            expr: expr.clone(),
            window: window.clone(),
            tz: tz.clone(),
            theme,
            tab,
            step: parse_interval(&step_text),
        };
        let (state, cancel) = (inner.clone(), deadline.cancel.clone());
        let failed =
            |e: super::state::WorkError| Answer { error: Some((String::new(), e.to_string())), ..Answer::default() };
        let mended = |text: &str| format!("/explore{}", params.with(&[("expr", text)]).query());
        let (mut answer, found) =
            inner.run(move || evaluate(&ask, &state, &cancel)).await.unwrap_or_else(|e| (failed(e), Vec::new()));
        answer.suggestions = found
            .into_iter()
            .map(|s| {
                let better = s.replacement.map(|text| {
                    let mut whole = expr.clone();
                    whole.replace_range(s.span.start as usize..s.span.end as usize, &text);
                    (text, mended(&whole))
                });
                (s.message, better)
            })
            .collect();
        answer
    };
    let quick = QUICK_RANGES.iter().take(12).map(|(from, to, text)| {
        let url = format!("/explore{}", params.with(&[("from", from), ("to", to)]).query());
        ((*text).to_owned(), url, *from == window.from && *to == window.to)
    });
    let input = |text: &str, ms: i64| if text.starts_with("now") { text.to_owned() } else { local(ms, &tz) };
    let view = ExplorePage {
        shell: Shell::new("Explore", "explore", theme_choice),
        quick: quick.collect(),
        from: input(&window.from, window.from_ms),
        to: input(&window.to, window.to_ms),
        window_text: window.describe(&tz),
        tabs: Tab::ALL
            .map(|t| (t.title(), format!("/explore{}", params.with(&[("tab", t.name())]).query()), t == tab))
            .to_vec(),
        from_ms: window.from_ms,
        to_ms: window.to_ms,
        zone: zone_name,
        zone_is_browsers,
        step: step_text,
        expr,
        tab,
        answer,
    };
    html_page(StatusCode::OK, &view)
}

struct Ask {
    expr: String,
    window: Window,
    tz: TimeZone,
    theme: Theme,
    tab: Tab,
    step: Option<i64>,
}

fn evaluate(ask: &Ask, state: &Inner, cancel: &Cancel) -> (Answer, Vec<Suggestion>) {
    let began = state.clock.monotonic_ns();
    let least = state.settings.scrape_interval_ms();
    let auto = round_interval(ask.window.length_ms() / 700).max(least);
    let step = ask.step.unwrap_or(auto).max(ask.window.length_ms() / 11_000).max(1);
    let steps = RangeSpec {
        start_ms: ask.window.from_ms.div_euclid(step) * step,
        end_ms: ask.window.to_ms.div_euclid(step) * step,
        step_ms: step,
    };
    let mut operators = Vec::new();
    let result = match ask.tab {
        Tab::Graph => state.source.range(&ask.expr, steps, cancel),
        Tab::Table => state.source.instant(&ask.expr, ask.window.to_ms, cancel),
        Tab::Plan => state.source.analyze(&ask.expr, steps, cancel).map(|(output, measured)| {
            operators = measured;
            output
        }),
    };
    let took_ns = state.clock.monotonic_ns().saturating_sub(began);
    let output = match result {
        Ok(output) => output,
        Err(e) => {
            let error = Some((marked(&ask.expr, &e), e.to_string()));
            return (Answer { error, ..Answer::default() }, Vec::new());
        }
    };
    let mut notices = output.annotations.texts(Severity::Warning, &ask.expr);
    notices.extend(output.annotations.texts(Severity::Info, &ask.expr));
    let n = match &output.value {
        Value::Vector(all) => all.len(),
        Value::Matrix(all) => all.len(),
        _ => 1,
    };
    let cost = cost(n, took_ns, &output.stats, (ask.tab != Tab::Table).then_some(step));
    let body = match ask.tab {
        Tab::Graph => graph(ask, &output.value, steps),
        Tab::Table => table(&output.value),
        Tab::Plan => super::plan::html(&operators),
    };
    let range = TimeRange::new(ask.window.from_ms, ask.window.to_ms);
    let suggestions = state.source.suggestions(&ask.expr, range, cancel);
    (Answer { body, error: None, notices, suggestions: Vec::new(), cost }, suggestions)
}

fn cost(n: usize, took_ns: u64, stats: &QueryStats, step: Option<i64>) -> String {
    let count = super::units::Unit::find("short");
    let short = |v: u64| count.format(v as f64, None, &TimeZone::UTC);
    let time = super::units::Unit::find("ns").format(took_ns as f64, None, &TimeZone::UTC);
    let mut out = format!("{n} series · {time} · {} samples read", short(stats.samples_read));
    if stats.bytes_peak > 0 {
        let bytes = super::units::Unit::find("bytes").format(stats.bytes_peak as f64, None, &TimeZone::UTC);
        let _ = write!(out, " · {bytes} at peak");
    }
    if let Some(step) = step {
        let _ = write!(out, " · step {}", interval_text(step));
    }
    out
}

/// The query with the offending part marked.
fn marked(expr: &str, e: &SourceError) -> String {
    let span = match e {
        SourceError::Parse(p) => Some((p.span.start, p.span.end)),
        SourceError::Query(QueryError::Execution { span: Some(s), .. }) => Some((s.start, s.end)),
        _ => None,
    };
    let Some((start, end)) = span.map(|(s, e)| (s as usize, e as usize)) else { return String::new() };
    let start = floor_boundary(expr, start);
    let end = floor_boundary(expr, end.max(start + 1)).max(start);
    // At the very end there is nothing to mark; a blank shows the place.
    let part = if start >= expr.len() { " " } else { &expr[start..end.max(floor_boundary(expr, start + 1))] };
    let rest = expr.get(start + part.len()..).unwrap_or("");
    format!("{}<mark>{}</mark>{}", escape(&expr[..start]), escape(part), escape(rest))
}

fn floor_boundary(text: &str, mut at: usize) -> usize {
    at = at.min(text.len());
    while at > 0 && !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn graph(ask: &Ask, value: &Value, steps: RangeSpec) -> String {
    let times = frame::grid(steps.start_ms, steps.end_ms, steps.step_ms);
    let target = Target { ref_id: "A".to_owned(), expr: ask.expr.clone(), range: true, ..Target::default() };
    let mut frames: Vec<Frame> = frame::time_series(&target, value, &times);
    frames.truncate(super::query::SERIES_MAX);
    let panel = Panel {
        id: 1,
        kind: "timeseries".to_owned(),
        title: ask.expr.clone(),
        description: String::new(),
        transparent: true,
        grid: super::model::Grid { x: 0, y: 0, w: 24, h: 12 },
        targets: vec![target],
        field_config: FieldConfig { defaults: json!({"custom": {"fillOpacity": 0}}), overrides: Vec::new() },
        options: json!({"legend": {"displayMode": "table", "calcs": ["lastNotNull", "min", "mean", "max"]}, "tooltip": {"mode": "multi", "sort": "desc"}}),
        transformations: Vec::new(),
        interval: String::new(),
        max_data_points: None,
        time_from: String::new(),
        time_shift: String::new(),
        hide_time_override: false,
        repeat: String::new(),
        repeat_vertical: false,
        max_per_row: None,
        links: Vec::new(),
        foreign_source: None,
    };
    frame::name_series(&mut frames, &panel.targets, &str::to_owned);
    let data = PanelData { frames, ..PanelData::default() };
    let context = DrawContext {
        theme: ask.theme,
        tz: &ask.tz,
        width_px: GRAPH_PX.0,
        height_px: GRAPH_PX.1,
        hidden: &Default::default(),
        lookup: &|_| None,
        key: "x",
        panel: 0,
        events: &[],
        page: None,
    };
    draw(&panel, &data, &ask.window, &context)
}

fn table(value: &Value) -> String {
    let mut out = String::from("<div class=\"table-wrap\"><table class=\"data wide\">");
    match value {
        Value::Scalar(_, v) => {
            let _ = write!(out, "<tbody><tr><td>scalar</td><td class=\"num\">{}</td></tr></tbody>", js_number(*v));
        }
        Value::String(_, text) => {
            let _ = write!(out, "<tbody><tr><td>string</td><td>{}</td></tr></tbody>", escape(text));
        }
        Value::Vector(all) if all.is_empty() => {
            return "<div class=\"empty\">The query has no result.</div>".to_owned();
        }
        Value::Vector(all) => {
            let target = Target { ref_id: "A".to_owned(), ..Target::default() };
            let times: Arc<[i64]> = Arc::from([0i64]);
            let frame =
                frame::table(&target, &Value::Vector(all.iter().take(ROWS_MAX).cloned().collect()), &times, false);
            write_columns(&frame, &mut out);
            for sample in all.iter().take(ROWS_MAX) {
                if let SampleValue::Histogram(h) = &sample.value {
                    let _ = write!(
                        out,
                        "<tr><td colspan=\"99\">{}: histogram of {} observations, sum {}</td></tr>",
                        escape(&sample.labels.to_string()),
                        js_number(h.count),
                        js_number(h.sum)
                    );
                }
            }
            out.push_str("</tbody>");
        }
        Value::Matrix(all) => {
            out.push_str("<thead><tr><th>Series</th><th>Samples</th></tr></thead><tbody>");
            for s in all.iter().take(ROWS_MAX) {
                let samples: Vec<String> = s
                    .floats
                    .iter()
                    .take(100)
                    .map(|(t, v)| format!("{} @{}", js_number(*v), *t as f64 / 1000.0))
                    .collect();
                let _ = write!(
                    out,
                    "<tr><td>{}</td><td class=\"wrap\">{}</td></tr>",
                    escape(&s.labels.to_string()),
                    escape(&samples.join("  "))
                );
            }
            out.push_str("</tbody>");
        }
    }
    out.push_str("</table></div>");
    if let Value::Vector(all) = value
        && all.len() > ROWS_MAX
    {
        let _ = write!(out, "<p class=\"notice\">{ROWS_MAX} of {} rows are shown.</p>", all.len());
    }
    out
}

/// Head and rows of a frame, without its time; the body stays open.
fn write_columns(frame: &Frame, out: &mut String) {
    out.push_str("<thead><tr>");
    let columns: Vec<_> = frame.fields.iter().filter(|f| !f.is_time()).collect();
    for c in &columns {
        let _ = write!(out, "<th{}>{}</th>", if c.is_number() { " class=\"num\"" } else { "" }, escape(&c.name));
    }
    out.push_str("</tr></thead><tbody>");
    for row in 0..frame.len() {
        out.push_str("<tr>");
        for c in &columns {
            match &c.values {
                Values::Number(all) => {
                    let _ = write!(out, "<td class=\"num\">{}</td>", all[row].map(js_number).unwrap_or_default());
                }
                Values::Text(all) => {
                    let _ = write!(out, "<td>{}</td>", escape(all[row].as_deref().unwrap_or("")));
                }
                Values::Time(_) | Values::Trend(_) => {}
            }
        }
        out.push_str("</tr>");
    }
}
