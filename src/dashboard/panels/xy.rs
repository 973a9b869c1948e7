//! Panels over a number instead of the time: `xychart`, points of pairs of columns, and `trend`, lines over a column.
//!
//! # Source
//! The choice of columns follows Grafana: the one that is named, else the first number against all others.

use std::fmt::Write as _;

use serde_json::Value;

use crate::dashboard::json::{list, text};
use crate::dashboard::model::Panel;
use crate::dashboard::query::PanelData;
use crate::dashboard::scene::{Axis, BOX, Mark, Plot, SeriesMarks, data_number};
use crate::dashboard::ticks::{RangeConfig, Scale, scale, value_ticks};

use super::legend::{Entry, Legend};
use super::paths::{self, Interpolation, Point};
use super::timeseries::{json_text, unit_json};
use super::{DrawContext, Styled, no_data, styled};

/// Pairs of columns, and points of all of them.
const PAIRS_MAX: usize = 100;
const POINTS_MAX: usize = 50_000;
/// Points that can be read under the mouse; those of a cloud that is denser are not told apart.
const HOVERED_MAX: usize = 5_000;

/// A column of x beside a column of y.
struct Pair<'a> {
    x: &'a Styled<'a>,
    y: &'a Styled<'a>,
    points: Vec<(f64, f64)>,
}

pub(super) fn draw(panel: &Panel, data: &PanelData, context: &DrawContext<'_>, out: &mut String) {
    let all = styled(panel, &data.frames, "palette-classic", context);
    let mut pairs = pairs(panel, &all);
    pairs.retain(|p| !p.points.is_empty());
    let Some(first) = pairs.first() else { return no_data(panel, out) };
    let (x_look, y_look) = (&first.x.settings, &first.y.settings);
    let shown = |p: &&Pair<'_>| !context.hidden.contains(&p.y.name);
    let bounds = |side: &dyn Fn(&(f64, f64)) -> f64| {
        let values = pairs.iter().filter(shown).flat_map(|p| p.points.iter().map(side));
        values.fold(None, |b: Option<(f64, f64)>, v| Some(b.map_or((v, v), |(l, h)| (l.min(v), h.max(v)))))
    };
    let range =
        |s: &crate::dashboard::field::Settings| RangeConfig { min: s.min, max: s.max, ..RangeConfig::default() };
    let x = match (panel.kind == "trend", bounds(&|p| p.0)) {
        // A trend runs from its first to its last value.
        (true, Some((low, high))) if high > low => Scale { min: low, max: high, log: None, linear: None },
        (_, found) => scale(found, range(x_look)),
    };
    let y = scale(bounds(&|p| p.1), range(y_look));
    let legend = Legend::of(&panel.options).in_width(context.width_px);
    let names: Vec<&str> = pairs.iter().map(|p| p.y.name.as_str()).collect();
    let width = context.width_px * (1.0 - legend.right_share(&names, context.width_px)) - 50.0;
    let height = context.height_px - legend.height_px(&names, context.width_px, context.height_px) - 22.0;
    let mut plot = Plot {
        label: format!("{}: {} over {}.", context.text(&panel.title), names.join(", "), first.x.name),
        ..Plot::default()
    };
    let (ticks, step) = value_ticks(y, height, y_look.unit.is_binary(), y_look.decimals == Some(0));
    let label = |v: &f64| (1.0 - y.position(*v), y_look.unit.format_tick(*v, step, context.tz));
    let named = ticks.iter().map(label).collect();
    plot.left = Some(Axis { ticks: named, label: axis_label(&first.y.settings, context), ..Axis::default() });
    plot.grid = ticks.iter().map(|v| 1.0 - y.position(*v)).collect();
    let (ticks, step) = value_ticks(x, width / 2.5, x_look.unit.is_binary(), x_look.decimals == Some(0));
    plot.x_ticks = ticks.iter().map(|v| (x.position(*v), x_look.unit.format_tick(*v, step, context.tz))).collect();
    for pair in pairs.iter().filter(shown) {
        plot.marks.push(SeriesMarks { series: pair.y.index, marks: marks(panel, pair, (x, y), context) });
    }
    let place = if legend.is_right { "side" } else { "below" };
    let _ = write!(out, "<div class=\"graph {place}\">");
    plot.write(out);
    write_data(panel, &pairs, (x, y), context, out);
    let mut entries: Vec<Entry<'_>> = pairs
        .iter()
        .map(|p| Entry {
            styled: p.y,
            color: color_of(p.y, context),
            is_hidden: context.hidden.contains(&p.y.name),
            is_right: false,
        })
        .collect();
    legend.write(&mut entries, context, out);
    out.push_str("</div>");
}

/// The points behind the plot, for the script's tooltip.
fn write_data(panel: &Panel, pairs: &[Pair<'_>], (x, y): (Scale, Scale), context: &DrawContext<'_>, out: &mut String) {
    if text(&panel.options, "tooltip.mode") == Some("none") {
        return;
    }
    let axis = |s: Scale| format!("[{},{},0]", data_number(Some(s.min)), data_number(Some(s.max)));
    let unit = |s: &Styled<'_>| unit_json(s.settings.unit_id.as_str(), s.settings.decimals);
    let mut units: Vec<String> = pairs.first().map(|p| unit(p.x)).into_iter().collect();
    let mut room = HOVERED_MAX;
    let mut series = String::new();
    for pair in pairs.iter().filter(|p| !context.hidden.contains(&p.y.name)) {
        let points: Vec<String> = pair
            .points
            .iter()
            .take(room)
            .map(|(a, b)| format!("[{},{}]", data_number(Some(*a)), data_number(Some(*b))))
            .collect();
        room -= points.len();
        units.push(unit(pair.y));
        let _ = write!(
            series,
            "{}{{\"n\":{},\"x\":{},\"c\":{},\"u\":{},\"p\":[{}]}}",
            if series.is_empty() { "" } else { "," },
            json_text(&pair.y.name),
            json_text(&pair.x.name),
            json_text(&color_of(pair.y, context)),
            units.len() - 1,
            points.join(",")
        );
    }
    let _ = write!(
        out,
        "<script type=\"application/json\" class=\"data\">{{\"mode\":\"points\",\"axes\":[{},{}],\"units\":[{}],\
         \"series\":[{series}]}}</script>",
        axis(x),
        axis(y),
        units.join(",")
    );
}

fn axis_label(settings: &crate::dashboard::field::Settings, context: &DrawContext<'_>) -> String {
    context.text(settings.custom_text("axisLabel", ""))
}

fn color_of(s: &Styled<'_>, context: &DrawContext<'_>) -> String {
    s.settings.series_color(s.field.numbers().unwrap_or(&[]), s.range, s.index, &s.name, context.theme)
}

/// The name of a column, written plainly or as a matcher.
fn named<'a>(value: &'a Value, path: &str) -> Option<&'a str> {
    text(value, path).or_else(|| text(value, &format!("{path}.matcher.options"))).filter(|n| !n.is_empty())
}

fn pairs<'a>(panel: &Panel, all: &'a [Styled<'a>]) -> Vec<Pair<'a>> {
    let options = &panel.options;
    let rules = list(options, "series");
    let is_called = |s: &Styled<'_>, name: &str| s.name == name || s.field.name == name;
    let common = named(options, "xField").or(named(options, "dims.x"));
    let mut out = Vec::new();
    let mut room = POINTS_MAX;
    let mut frames: Vec<&crate::dashboard::frame::Frame> = Vec::new();
    for s in all {
        if !frames.iter().any(|f| std::ptr::eq(*f, s.frame)) {
            frames.push(s.frame);
        }
    }
    for frame in frames {
        let columns: Vec<&Styled<'a>> = all.iter().filter(|s| std::ptr::eq(s.frame, frame)).collect();
        let find = |name: &str| columns.iter().find(|s| is_called(s, name)).copied();
        let mut wanted: Vec<(&Styled<'a>, &Styled<'a>)> = Vec::new();
        for rule in rules {
            let x = named(rule, "x").and_then(find).or(columns.first().copied());
            match (x, named(rule, "y").and_then(find)) {
                (Some(x), Some(y)) => wanted.push((x, y)),
                (Some(x), None) if named(rule, "y").is_none() => {
                    wanted.extend(columns.iter().filter(|y| !std::ptr::eq(**y, x)).map(|y| (x, *y)));
                }
                _ => {}
            }
        }
        if rules.is_empty()
            && let Some(x) = common.and_then(find).or(columns.first().copied())
        {
            wanted.extend(columns.iter().filter(|y| !std::ptr::eq(**y, x)).map(|y| (x, *y)));
        }
        wanted.retain(|(_, y)| !y.settings.custom_flag("hideFrom.viz"));
        for (x, y) in wanted {
            let values = x.field.numbers().unwrap_or(&[]).iter().zip(y.field.numbers().unwrap_or(&[]));
            let both = values.filter_map(|(a, b)| Some(((*a)?, (*b)?))).filter(|(a, b)| a.is_finite() && b.is_finite());
            let mut points: Vec<(f64, f64)> = both.take(room).collect();
            room -= points.len();
            if panel.kind == "trend" {
                points.sort_by(|a, b| a.0.total_cmp(&b.0));
            }
            out.push(Pair { x, y, points });
        }
    }
    out.truncate(PAIRS_MAX);
    out
}

fn marks(panel: &Panel, pair: &Pair<'_>, (x, y): (Scale, Scale), context: &DrawContext<'_>) -> Vec<Mark> {
    let s = &pair.y.settings;
    let color = color_of(pair.y, context);
    let points: Vec<Point> =
        pair.points.iter().map(|(a, b)| (x.position(*a) * BOX, (1.0 - y.position(*b)) * BOX)).collect();
    let is_trend = panel.kind == "trend";
    let show = s.custom_text("show", if is_trend { "lines" } else { "points" });
    let mut out = Vec::new();
    if show.contains("lines") && points.len() > 1 {
        let mut d = String::new();
        paths::line(&points, Interpolation::of(s.custom_text("lineInterpolation", "linear")), 'M', &mut d);
        let width = s.custom_number("lineWidth", 1.0).clamp(0.0, 20.0);
        out.push(Mark::Stroke { d, color: color.clone(), width, dash: String::new() });
    }
    if show.contains("points") || points.len() == 1 || is_trend && s.custom_text("showPoints", "auto") == "always" {
        let fixed = s.custom_number("pointSize.fixed", s.custom_number("pointSize", 5.0));
        let mut d = String::new();
        paths::dots(points.into_iter(), &mut d);
        out.push(Mark::Dots { d, color, size: fixed.clamp(1.0, 40.0) });
    }
    out
}
