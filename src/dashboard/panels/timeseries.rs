//! The time series panel: lines, areas, points, bars and stacks over time.

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::Value;

use crate::dashboard::color::{self, Theme};
use crate::dashboard::json::{flag, list, number, text};
use crate::dashboard::model::Panel;
use crate::dashboard::query::PanelData;
use crate::dashboard::reduce::reduce;
use crate::dashboard::scene::{
    Axis, BOX, Band, Gradient, Inscription, Mark, Plot, Rule, SeriesMarks, data_number, push_data_number,
};
use crate::dashboard::ticks::{RangeConfig, Scale, scale, time_ticks, value_ticks};
use crate::dashboard::timerange::Window;
use crate::dashboard::units::Unit;

use super::legend::{Entry, Legend};
use super::paths::{self, Gaps, Interpolation, Point, SpanNulls};
use super::{DrawContext, Styled, no_data, styled};

/// Series that are drawn; the legend says how many more there are.
const DRAWN_MAX: usize = 300;
/// Values that are written into a plot, the width of one of their characters and their height above a point.
const VALUES_MAX: usize = 500;
const VALUE_CHAR_PX: f64 = 7.5;
const VALUE_ABOVE_PX: f64 = 12.0;
/// Of the area between two series where the panel names none, as in Grafana.
const BETWEEN_OPACITY: f64 = 0.35;
/// Width of a bar as a share of the time between two, likewise.
const BAR_WIDTH: f64 = 0.6;

/// One series on its way to the plot.
struct Drawn<'a> {
    styled: &'a Styled<'a>,
    times: Arc<[i64]>,
    /// After transformation and stacking.
    values: Vec<Option<f64>>,
    /// Lower edge where stacked.
    base: Option<Vec<f64>>,
    axis: usize,
    color: String,
}

/// A scale with the side it is drawn on.
struct AxisPlan {
    key: String,
    side: Side,
    config: RangeConfig,
    label: String,
    /// Colour of its texts, where they have that of its first series.
    color: Option<String>,
    /// Colour of a line along it.
    border: Option<String>,
    unit: Unit,
    percent: bool,
    scale: Scale,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
    Hidden,
}

pub(super) fn draw(panel: &Panel, data: &PanelData, window: &Window, context: &DrawContext<'_>, out: &mut String) {
    let mut fields = styled(panel, &data.frames, "palette-classic", context);
    fields.retain(|s| s.frame.times().is_some());
    let has_values = |s: &Styled<'_>| s.field.numbers().is_some_and(|v| v.iter().flatten().any(|v| v.is_finite()));
    if !fields.iter().any(has_values) {
        no_data(panel, out);
        return;
    }
    let legend = Legend::of(&panel.options).in_width(context.width_px);
    let names: Vec<&str> = fields.iter().map(|s| s.name.as_str()).collect();
    let legend_px = legend.height_px(&names, context.width_px, context.height_px);
    let mut drawn: Vec<Drawn<'_>> = fields
        .iter()
        .filter(|s| !s.settings.custom_flag("hideFrom.viz") && !context.hidden.contains(&s.name))
        .take(DRAWN_MAX)
        .map(|s| prepare(s, context.theme))
        .collect();
    let mut axes = plan_axes(&mut drawn, context);
    stack(&mut drawn, &axes);
    for (i, axis) in axes.iter_mut().enumerate() {
        let members = drawn.iter().filter(|d| d.axis == i);
        axis.scale = scale(bounds(members), axis.config);
    }
    let legend_w = legend.right_share(&names, context.width_px) * context.width_px;
    let plot_px = (context.width_px - legend_w - 50.0, context.height_px - legend_px - 22.0);
    let plot = scene(panel, &drawn, &axes, window, plot_px, context);
    let place = if legend.is_right { "side" } else { "below" };
    let _ = write!(out, "<div class=\"graph {place}\">");
    plot.write(out);
    let right = |s: &Styled<'_>| {
        drawn.iter().any(|d| d.styled.index == s.index && axes.get(d.axis).is_some_and(|a| a.side == Side::Right))
    };
    let mut entries: Vec<Entry<'_>> = fields
        .iter()
        .filter(|s| !s.settings.custom_flag("hideFrom.legend"))
        .map(|s| Entry {
            styled: s,
            color: s.settings.series_color(s.field.numbers().unwrap_or(&[]), s.range, s.index, &s.name, context.theme),
            is_hidden: context.hidden.contains(&s.name),
            is_right: right(s),
        })
        .collect();
    legend.write(&mut entries, context, out);
    write_data(panel, &drawn, &axes, window, out);
    out.push_str("</div>");
    if fields.len() > DRAWN_MAX {
        let _ = write!(out, "<p class=\"notice\">{DRAWN_MAX} of {} series are drawn.</p>", fields.len());
    }
}

fn prepare<'a>(s: &'a Styled<'a>, theme: Theme) -> Drawn<'a> {
    let raw = s.field.numbers().unwrap_or(&[]);
    let negative = s.settings.custom_text("transform", "") == "negative-Y";
    let values = raw.iter().map(|v| v.filter(|v| v.is_finite()).map(|v| if negative { -v } else { v })).collect();
    let times = s.frame.times().cloned().unwrap_or_else(|| Arc::from([]));
    let color = s.settings.series_color(raw, s.range, s.index, &s.name, theme);
    Drawn { styled: s, times, values, base: None, axis: 0, color }
}

fn stack_mode<'a>(d: &'a Drawn<'_>) -> &'a str {
    d.styled.settings.custom_text("stacking.mode", "none")
}

/// Series with the same unit, bounds and place share an axis.
fn plan_axes(drawn: &mut [Drawn<'_>], context: &DrawContext<'_>) -> Vec<AxisPlan> {
    let mut axes: Vec<AxisPlan> = Vec::new();
    for d in drawn {
        let s = &d.styled.settings;
        let percent = stack_mode(d) == "percent";
        let config = RangeConfig {
            min: s.min,
            max: s.max,
            soft_min: number(&s.custom, "axisSoftMin"),
            soft_max: number(&s.custom, "axisSoftMax"),
            centered_zero: s.custom_flag("axisCenteredZero"),
            log: matches!(s.custom_text("scaleDistribution.type", "linear"), "log" | "symlog")
                .then(|| if s.custom_number("scaleDistribution.log", 10.0) == 2.0 { 2.0 } else { 10.0 }),
            linear: (s.custom_text("scaleDistribution.type", "linear") == "symlog")
                .then(|| s.custom_number("scaleDistribution.linearThreshold", 1.0))
                .filter(|v| (1e-12..1e12).contains(v)),
            whole: s.decimals == Some(0),
        };
        let config = if percent {
            RangeConfig { min: Some(0.0), max: Some(1.0), log: None, linear: None, ..config }
        } else {
            config
        };
        let placement = s.custom_text("axisPlacement", "auto");
        let label = context.text(s.custom_text("axisLabel", ""));
        let key = format!("{} {config:?} {placement} {label} {percent}", s.unit_id);
        d.axis = match axes.iter().position(|a| a.key == key) {
            Some(i) => i,
            None => {
                let taken = axes.iter().any(|a| a.side == Side::Left);
                let side = match placement {
                    "right" => Side::Right,
                    "hidden" => Side::Hidden,
                    "left" => Side::Left,
                    _ if taken => Side::Right,
                    _ => Side::Left,
                };
                let unit = if percent { Unit::find("percentunit") } else { s.unit.clone() };
                let color = (s.custom_text("axisColorMode", "text") == "series").then(|| d.color.clone());
                let ink = || color.clone().unwrap_or_else(|| color::resolve("text", context.theme));
                let border = s.custom_flag("axisBorderShow").then(ink);
                axes.push(AxisPlan {
                    key,
                    side,
                    config,
                    label,
                    color,
                    border,
                    unit,
                    percent,
                    scale: scale(None, config),
                });
                axes.len() - 1
            }
        };
    }
    axes
}

/// Smallest and largest value with what lies under a stack or bars.
fn bounds<'a, 'b: 'a>(members: impl Iterator<Item = &'a Drawn<'b>>) -> Option<(f64, f64)> {
    let mut out: Option<(f64, f64)> = None;
    let mut take = |v: f64| out = Some(out.map_or((v, v), |(low, high)| (low.min(v), high.max(v))));
    for d in members {
        d.values.iter().flatten().for_each(|v| take(*v));
        if d.base.is_some() || d.styled.settings.custom_text("drawStyle", "line") == "bars" {
            take(0.0);
        }
    }
    out
}

/// Puts the series of each stack on top of one another.
fn stack(drawn: &mut [Drawn<'_>], axes: &[AxisPlan]) {
    let key = |d: &Drawn<'_>| {
        let s = &d.styled.settings;
        let sum: f64 = d.values.iter().flatten().sum();
        let style =
            (s.custom_text("drawStyle", "line").to_owned(), s.custom_text("lineInterpolation", "linear").to_owned());
        (d.axis, stack_mode(d).to_owned(), s.custom_text("stacking.group", "A").to_owned(), style, sum < 0.0)
    };
    let mut groups: Vec<_> = Vec::new();
    for (i, d) in drawn.iter().enumerate().filter(|(_, d)| stack_mode(d) != "none") {
        let k = key(d);
        match groups.iter_mut().find(|(other, _)| *other == k) {
            Some((_, members)) => members,
            None => {
                groups.push((k, Vec::new()));
                match groups.last_mut() {
                    Some((_, members)) => members,
                    None => continue,
                }
            }
        }
        .push(i);
    }
    for (_, members) in groups {
        stack_group(drawn, &members, axes);
    }
}

fn stack_group(drawn: &mut [Drawn<'_>], members: &[usize], axes: &[AxisPlan]) {
    let mut times: Vec<i64> = members.iter().flat_map(|i| drawn[*i].times.iter().copied()).collect();
    times.sort_unstable();
    times.dedup();
    let times: Arc<[i64]> = times.into();
    // Every member on the same times; where any has a value, the others count as 0.
    for i in members {
        if *drawn[*i].times != *times {
            let d = &drawn[*i];
            let values = times.iter().map(|t| d.times.binary_search(t).ok().and_then(|k| d.values[k])).collect();
            drawn[*i].values = values;
            drawn[*i].times = times.clone();
        }
    }
    let some: Vec<bool> = (0..times.len()).map(|k| members.iter().any(|i| drawn[*i].values[k].is_some())).collect();
    let is_percent = members.first().is_some_and(|i| axes.get(drawn[*i].axis).is_some_and(|a| a.percent));
    let totals: Vec<f64> = (0..times.len())
        .map(|k| if is_percent { members.iter().filter_map(|i| drawn[*i].values[k]).sum() } else { 1.0 })
        .collect();
    let mut level = vec![0.0; times.len()];
    for i in members {
        let d = &mut drawn[*i];
        d.base = Some(level.clone());
        for k in 0..times.len() {
            if !some[k] {
                continue;
            }
            let share = if totals[k] == 0.0 { 0.0 } else { d.values[k].unwrap_or(0.0) / totals[k] };
            level[k] += share;
            d.values[k] = Some(level[k]);
        }
    }
}

fn scene(
    panel: &Panel,
    drawn: &[Drawn<'_>],
    axes: &[AxisPlan],
    window: &Window,
    (width_px, height_px): (f64, f64),
    context: &DrawContext<'_>,
) -> Plot {
    let length = window.length_ms().max(1) as f64;
    let x_of = |t: i64| (t - window.from_ms) as f64 / length;
    let mut plot = Plot { label: describe(panel, drawn, context), ..Plot::default() };
    for (t, label) in time_ticks(window.from_ms, window.to_ms, width_px, context.tz) {
        plot.x_ticks.push((x_of(t), label));
    }
    for side in [Side::Left, Side::Right] {
        let Some(plan) = axes.iter().find(|a| a.side == side) else { continue };
        let whole = plan.config.whole;
        let (values, step) = value_ticks(plan.scale, height_px, plan.unit.is_binary(), whole);
        let ticks: Vec<(f64, String)> = values
            .iter()
            .map(|v| (1.0 - plan.scale.position(*v), plan.unit.format_tick(*v, step, context.tz)))
            .collect();
        if plot.grid.is_empty() {
            plot.grid = ticks.iter().map(|(y, _)| *y).collect();
        }
        let axis = Axis { ticks, label: plan.label.clone(), color: plan.color.clone(), border: plan.border.clone() };
        if side == Side::Left { plot.left = Some(axis) } else { plot.right = Some(axis) }
    }
    super::mark_events(&mut plot, window, context);
    thresholds(&mut plot, drawn, axes, context.theme);
    for d in drawn {
        let axis = &axes[d.axis];
        let marks = series_marks(d, filled_to(d, drawn), axis.scale, &x_of, width_px, context, &mut plot.gradients);
        plot.marks.push(SeriesMarks { series: d.styled.index, marks });
        if d.styled.settings.custom_flag("showValues") {
            inscribe(d, axis.scale, &x_of, (width_px, height_px), context, &mut plot.texts);
        }
    }
    plot
}

/// Writes values above their points, as far as they do not run into each other.
fn inscribe(
    d: &Drawn<'_>,
    scale: Scale,
    x_of: &dyn Fn(i64) -> f64,
    (width_px, height_px): (f64, f64),
    context: &DrawContext<'_>,
    texts: &mut Vec<Inscription>,
) {
    let mut taken = 0.0;
    for ((t, drawn), raw) in d.times.iter().zip(&d.values).zip(raw_values(d)) {
        let (Some(drawn), Some(raw)) = (drawn, raw) else { continue };
        let (x, y) = (x_of(*t), 1.0 - scale.position(*drawn));
        let text = d.styled.settings.number_text(raw, &context.look());
        let half = text.chars().count() as f64 * VALUE_CHAR_PX / width_px.max(1.0) / 2.0;
        if x - half < taken || x + half > 1.0 || !(0.0..=1.0).contains(&y) {
            continue;
        }
        if texts.len() == VALUES_MAX {
            return;
        }
        taken = x + half;
        let y = (y - VALUE_ABOVE_PX / height_px.max(1.0)).max(0.0);
        texts.push(Inscription { x, y, anchor: "middle", text, color: d.color.clone() });
    }
}

/// Lines and areas at the thresholds of the first series that asks for them.
fn thresholds(plot: &mut Plot, drawn: &[Drawn<'_>], axes: &[AxisPlan], theme: Theme) {
    let style = |d: &&Drawn<'_>| d.styled.settings.custom_text("thresholdsStyle.mode", "off") != "off";
    let Some(d) = drawn.iter().find(style) else { return };
    let mode = d.styled.settings.custom_text("thresholdsStyle.mode", "off");
    let scale = axes[d.axis].scale;
    let steps = d.styled.settings.thresholds.absolute(scale.min, scale.max);
    let y = |v: f64| (1.0 - scale.position(v)).clamp(0.0, 1.0);
    for (i, (from, color)) in steps.iter().enumerate() {
        let color = color::resolve(color, theme);
        if color == "transparent" {
            continue;
        }
        if mode.contains("area") {
            let top = steps.get(i + 1).map_or(0.0, |(next, _)| y(*next));
            let bottom = if from.is_finite() { y(*from) } else { 1.0 };
            if bottom > top {
                plot.bands.push(Band { top, bottom, color: color.clone() });
            }
        }
        let inside = from.is_finite() && (0.0..=1.0).contains(&scale.position(*from));
        if (mode.contains("line") || mode == "dashed") && inside {
            plot.rules.push(Rule { y: y(*from), color, dashed: mode.contains("dashed") });
        }
    }
}

fn gaps(d: &Drawn<'_>) -> Gaps {
    let custom = &d.styled.settings.custom;
    let bridged = match custom.get("spanNulls") {
        Some(Value::Bool(true)) => SpanNulls::Always,
        Some(Value::Number(ms)) => SpanNulls::Below(ms.as_f64().unwrap_or(0.0)),
        _ => SpanNulls::Never,
    };
    Gaps { bridged, step_ms_max: custom.get("insertNulls").and_then(Value::as_f64).filter(|ms| *ms > 0.0) }
}

/// The series down to which `d` is filled.
fn filled_to<'a, 'b>(d: &Drawn<'_>, all: &'a [Drawn<'b>]) -> Option<&'a Drawn<'b>> {
    let name = d.styled.settings.custom_text("fillBelowTo", "");
    if name.is_empty() { None } else { all.iter().find(|other| other.styled.name == name) }
}

fn series_marks(
    d: &Drawn<'_>,
    below: Option<&Drawn<'_>>,
    scale: Scale,
    x_of: &dyn Fn(i64) -> f64,
    width_px: f64,
    context: &DrawContext<'_>,
    gradients: &mut Vec<Gradient>,
) -> Vec<Mark> {
    let s = &d.styled.settings;
    let style = s.custom_text("drawStyle", "line");
    let width = s.custom_number("lineWidth", 1.0).clamp(0.0, 20.0);
    let mut opacity = s.custom_number("fillOpacity", 0.0).clamp(0.0, 100.0) / 100.0;
    if below.is_some() && opacity == 0.0 {
        opacity = BETWEEN_OPACITY;
    }
    let how = Interpolation::of(s.custom_text("lineInterpolation", "linear"));
    let point = |t: i64, v: f64| -> Point { (x_of(t) * BOX, (1.0 - scale.position(v)) * BOX) };
    let is_log = scale.log.is_some() && scale.linear.is_none();
    let zero = if is_log { scale.min } else { 0.0_f64.clamp(scale.min, scale.max) };
    let value_at = |d: &Drawn<'_>, t: i64| d.times.binary_search(&t).ok().and_then(|k| d.values[k]);
    let base_at = |t: i64| match (&d.base, below) {
        (_, Some(below)) => value_at(below, t).unwrap_or(zero),
        (Some(base), None) => d.times.binary_search(&t).ok().map_or(0.0, |k| base[k]),
        (None, None) => zero,
    };
    let gradient = paint(d, scale, opacity, context, gradients);
    let mut out = Vec::new();
    if style == "bars" {
        let path = bars(d, x_of, &point, &base_at, width_px);
        out.push(Mark::Fill {
            d: path.clone(),
            paint: gradient.fill.unwrap_or(d.color.clone()),
            opacity: gradient.opacity,
        });
        if width > 0.0 {
            out.push(Mark::Stroke { d: path, color: gradient.line, width, dash: String::new() });
        }
        return out;
    }
    let runs = paths::runs(&d.times, &d.values, gaps(d));
    let (mut fill, mut line, mut dots) = (String::new(), String::new(), String::new());
    let n_points: usize = runs.iter().map(Vec::len).sum();
    let size = s.custom_number("pointSize", 5.0).clamp(1.0, 40.0);
    let all_dots = match s.custom_text("showPoints", "auto") {
        "always" => true,
        "never" => false,
        _ => n_points > 0 && width_px / n_points as f64 >= size * 2.0,
    } || style == "points";
    for run in &runs {
        let points: Vec<Point> = run.iter().map(|(t, v)| point(*t, *v)).collect();
        if style == "line" && points.len() > 1 {
            if opacity > 0.0 {
                // Where the lower one of two series has no value there is nothing between them.
                for part in run.split(|(t, _)| below.is_some_and(|below| value_at(below, *t).is_none())) {
                    let top: Vec<Point> = part.iter().map(|(t, v)| point(*t, *v)).collect();
                    let bottom: Vec<Point> = part.iter().map(|(t, _)| point(*t, base_at(*t))).collect();
                    if top.len() > 1 {
                        paths::area(&top, &bottom, how, &mut fill);
                    }
                }
            }
            paths::line(&points, how, 'M', &mut line);
        }
        // A lone point would be invisible as a line.
        if all_dots || points.len() == 1 {
            paths::dots(points.into_iter(), &mut dots);
        }
    }
    if !fill.is_empty() {
        out.push(Mark::Fill { d: fill, paint: gradient.fill.unwrap_or(d.color.clone()), opacity: gradient.opacity });
    }
    if !line.is_empty() && width > 0.0 {
        out.push(Mark::Stroke { d: line, color: gradient.line.clone(), width, dash: dash(&s.custom) });
    }
    if !dots.is_empty() {
        out.push(Mark::Dots { d: dots, color: gradient.line, size });
    }
    out
}

/// How a series is painted.
struct Paint {
    /// Reference to a gradient.
    fill: Option<String>,
    opacity: f64,
    line: String,
}

fn paint(d: &Drawn<'_>, scale: Scale, opacity: f64, context: &DrawContext<'_>, gradients: &mut Vec<Gradient>) -> Paint {
    let s = &d.styled.settings;
    let id = format!("{}g{}", context.key, d.styled.index);
    match s.custom_text("gradientMode", "none") {
        "opacity" => {
            let stops = vec![(0.0, d.color.clone(), opacity), (1.0, d.color.clone(), 0.0)];
            gradients.push(Gradient { id: id.clone(), stops, over_plot: false });
            Paint { fill: Some(format!("url(#{id})")), opacity: 1.0, line: d.color.clone() }
        }
        "hue" => {
            // From a neighbouring hue at the top to a lighter one at the bottom, as Grafana has it.
            let (top, bottom) = color::hue_neighbours(&d.color, context.theme);
            gradients.push(Gradient {
                id: id.clone(),
                stops: vec![(0.0, top, opacity), (1.0, bottom, opacity)],
                over_plot: false,
            });
            Paint { fill: Some(format!("url(#{id})")), opacity: 1.0, line: d.color.clone() }
        }
        "scheme" => {
            // Colours run along the axis; steps of thresholds are hard edges.
            let span = scale.max - scale.min;
            let at = |share: f64| {
                s.value_color(scale.max - span * share, d.styled.range, d.styled.index, &d.styled.name, context.theme)
            };
            let mut stops = Vec::new();
            if s.color_mode.starts_with("continuous") {
                stops.extend((0..=10).map(|i| (f64::from(i) / 10.0, at(f64::from(i) / 10.0), 1.0)));
            } else {
                let steps = s.thresholds.absolute(d.styled.range.0, d.styled.range.1);
                let mut edges: Vec<f64> =
                    steps.iter().filter(|(v, _)| v.is_finite()).map(|(v, _)| 1.0 - scale.position(*v)).collect();
                edges.retain(|e| (0.0..1.0).contains(e));
                edges.sort_by(f64::total_cmp);
                stops.push((0.0, at(0.0), 1.0));
                for e in edges {
                    stops.push((e, at((e - 1e-6).max(0.0)), 1.0));
                    stops.push((e, at(e + 1e-6), 1.0));
                }
                stops.push((1.0, at(1.0), 1.0));
            }
            gradients.push(Gradient { id: id.clone(), stops, over_plot: true });
            let url = format!("url(#{id})");
            Paint { fill: Some(url.clone()), opacity, line: url }
        }
        _ => Paint { fill: None, opacity, line: d.color.clone() },
    }
}

fn dash(custom: &Value) -> String {
    if !matches!(text(custom, "lineStyle.fill"), Some("dash" | "dot")) {
        return String::new();
    }
    let lengths: Vec<String> = list(custom, "lineStyle.dash")
        .iter()
        .filter_map(|v| v.as_f64())
        .filter(|v| (0.0..1000.0).contains(v))
        .take(8)
        .map(crate::dashboard::scene::short)
        .collect();
    match (lengths.is_empty(), text(custom, "lineStyle.fill")) {
        (false, _) => lengths.join(" "),
        (true, Some("dot")) => "0 3".to_owned(),
        _ => "10 10".to_owned(),
    }
}

fn bars(
    d: &Drawn<'_>,
    x_of: &dyn Fn(i64) -> f64,
    point: &dyn Fn(i64, f64) -> Point,
    base_at: &dyn Fn(i64) -> f64,
    width_px: f64,
) -> String {
    let settings = &d.styled.settings;
    let gap = d.times.windows(2).map(|w| w[1] - w[0]).min().unwrap_or(60_000);
    let first = d.times.first().copied().unwrap_or(0);
    let slot = (x_of(first + gap) - x_of(first)) * BOX;
    let widest = settings.custom_number("barMaxWidth", f64::INFINITY).max(1.0) / width_px.max(1.0) * BOX;
    let width = (slot * settings.custom_number("barWidthFactor", BAR_WIDTH).clamp(0.01, 1.0)).min(widest).max(0.5);
    let shift = settings.custom_number("barAlignment", 0.0).clamp(-1.0, 1.0) * width / 2.0;
    let mut out = String::new();
    for (t, v) in d.times.iter().zip(&d.values) {
        let Some(v) = v else { continue };
        let (x, top) = point(*t, *v);
        let (_, bottom) = point(*t, base_at(*t));
        if (top - bottom).abs() < 1e-9 {
            continue;
        }
        let c = crate::dashboard::scene::coordinate;
        let (left, right) = (x - width / 2.0 + shift, x + width / 2.0 + shift);
        let _ = write!(out, "M{} {}V{}H{}V{}Z", c(left), c(bottom), c(top), c(right), c(bottom));
    }
    out
}

/// The panel in words.
fn describe(panel: &Panel, drawn: &[Drawn<'_>], context: &DrawContext<'_>) -> String {
    const NAMED_MAX: usize = 12;
    let mut out = format!("{}: {} series over time.", context.text(&panel.title), drawn.len());
    for d in drawn.iter().take(NAMED_MAX) {
        let raw = d.styled.field.numbers().unwrap_or(&[]);
        if let Some(last) = reduce("lastNotNull", raw) {
            let shown = d.styled.settings.number_text(last, &context.look());
            let _ = write!(out, " {} last {shown}.", d.styled.name);
        }
    }
    out
}

/// The numbers behind the plot, for the script: hover and zoom.
fn write_data(panel: &Panel, drawn: &[Drawn<'_>], axes: &[AxisPlan], window: &Window, out: &mut String) {
    let mode = text(&panel.options, "tooltip.mode").unwrap_or("single");
    let order = text(&panel.options, "tooltip.sort").unwrap_or("none");
    let mut units: Vec<(&str, Option<i32>)> = Vec::new();
    let mut grids: Vec<&Arc<[i64]>> = Vec::new();
    let mut series = String::new();
    for d in drawn {
        let s = &d.styled.settings;
        if s.custom_flag("hideFrom.tooltip") {
            continue;
        }
        let unit = (s.unit_id.as_str(), s.decimals);
        let unit = units.iter().position(|u| *u == unit).unwrap_or_else(|| {
            units.push(unit);
            units.len() - 1
        });
        let grid = grids.iter().position(|g| ***g == *d.times).unwrap_or_else(|| {
            grids.push(&d.times);
            grids.len() - 1
        });
        let raw = raw_values(d);
        let _ = write!(
            series,
            "{}{{\"i\":{},\"n\":{},\"c\":{},\"u\":{unit},\"a\":{},\"g\":{grid},\"v\":[{}]",
            if series.is_empty() { "" } else { "," },
            d.styled.index,
            json_text(&d.styled.name),
            json_text(&d.color),
            d.axis,
            join(&raw)
        );
        if d.base.is_some() || s.custom_text("transform", "") == "negative-Y" {
            let _ = write!(series, ",\"p\":[{}]", join(&d.values));
        }
        series.push('}');
    }
    let grids: Vec<String> = grids.iter().map(|g| grid_json(g)).collect();
    let axes: Vec<String> = axes
        .iter()
        .map(|a| {
            format!(
                "[{},{},{}{}]",
                data_number(Some(a.scale.min)),
                data_number(Some(a.scale.max)),
                data_number(Some(a.scale.log.unwrap_or(0.0))),
                a.scale.linear.map(|v| format!(",{}", data_number(Some(v)))).unwrap_or_default()
            )
        })
        .collect();
    let units: Vec<String> = units.iter().map(|(id, decimals)| unit_json(id, *decimals)).collect();
    let hide_zeros = flag(&panel.options, "tooltip.hideZeros").unwrap_or(false);
    let _ = write!(
        out,
        "<script type=\"application/json\" class=\"data\">{{\"from\":{},\"to\":{},\"mode\":{},\"sort\":{},\
         \"hideZeros\":{hide_zeros},\"axes\":[{}],\"units\":[{}],\"grids\":[{}],\"series\":[{series}]}}</script>",
        window.from_ms,
        window.to_ms,
        json_text(mode),
        json_text(order),
        axes.join(","),
        units.join(","),
        grids.join(",")
    );
}

/// The values as queried, on the times that are drawn.
fn raw_values(d: &Drawn<'_>) -> Vec<Option<f64>> {
    let raw = d.styled.field.numbers().unwrap_or(&[]);
    let Some(own) = d.styled.frame.times() else { return Vec::new() };
    if **own == *d.times {
        return raw.to_vec();
    }
    d.times.iter().map(|t| own.binary_search(t).ok().and_then(|k| raw[k])).collect()
}

fn join(values: &[Option<f64>]) -> String {
    let mut out = String::with_capacity(values.len() * 8);
    for (i, v) in values.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        push_data_number(*v, &mut out);
    }
    out
}

/// Start, step and count when the times are even, else all of them.
fn grid_json(times: &[i64]) -> String {
    let step = times.get(1).map_or(1, |t| t - times[0]);
    if times.windows(2).all(|w| w[1] - w[0] == step) && !times.is_empty() {
        return format!("{{\"s\":{},\"d\":{step},\"n\":{}}}", times[0], times.len());
    }
    let all: Vec<String> = times.iter().map(i64::to_string).collect();
    format!("{{\"t\":[{}]}}", all.join(","))
}

/// A unit as data: the rungs of its ladder.
pub(super) fn unit_json(id: &str, decimals: Option<i32>) -> String {
    let decimals = decimals.map_or("null".to_owned(), |d| d.to_string());
    match Unit::find(id) {
        Unit::Ladder(ladder) => {
            let rungs: Vec<String> = ladder
                .rungs
                .iter()
                .map(|r| format!("[{:e},{:e},{},{}]", r.from, r.scale, json_text(&r.one), json_text(&r.many)))
                .collect();
            format!(
                "{{\"d\":{decimals},\"p\":{},\"sf\":{},\"z\":{},\"bz\":{},\"r\":[{}]}}",
                json_text(&ladder.prefix),
                ladder.sign_first,
                ladder.zero,
                ladder.bare_zero,
                rungs.join(",")
            )
        }
        Unit::Special(_) => format!("{{\"d\":{decimals},\"id\":{}}}", json_text(id)),
    }
}

/// A JSON string that cannot end a script element.
pub(super) fn json_text(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_else(|_| "\"\"".to_owned()).replace('<', "\\u003c").replace('>', "\\u003e")
}
