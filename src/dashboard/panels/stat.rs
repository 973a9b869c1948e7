//! The stat panel: big numbers, with a sparkline.
//!
//! Numbers are SVG text in a view box as wide as the text, so that they fill their cell at any size of window.

use std::fmt::Write as _;

use crate::dashboard::color;
use crate::dashboard::field::Shown;
use crate::dashboard::frame::Values;
use crate::dashboard::html::{colored, escape, escape_into};
use crate::dashboard::json::{flag, string, text};
use crate::dashboard::model::Panel;
use crate::dashboard::query::PanelData;
use crate::dashboard::reduce::{is_unitless, reduce};
use crate::dashboard::scene::{BOX, coordinate, short};
use crate::dashboard::ticks::{RangeConfig, scale};

use super::paths::{self, Gaps, Interpolation, Point, SpanNulls};
use super::{DrawContext, Single, no_data, open_boxes, singles, styled, text_class, text_px};

/// In a box lower than this a name and its number stand side by side, CSS pixels.
const LOW_PX: f64 = 52.0;
/// Least width for that, CSS pixels.
const LINE_PX: f64 = 110.0;
/// Height below which a name would take all of a narrow value's room, CSS pixels.
const LOWEST_PX: f64 = 30.0;

/// Width of a character as a share of the font size, on average.
const CHAR_EM: f64 = 0.58;

/// Height from which a change has room below name and value, CSS pixels.
const HIGH_PX: f64 = 72.0;

/// What a single value has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    /// Its name, below it the value, and its change.
    All,
    /// Its name and below it the value.
    Both,
    /// All beside each other.
    Line,
    /// The value alone.
    Value,
}

pub(super) fn draw(panel: &Panel, data: &PanelData, context: &DrawContext<'_>, out: &mut String) {
    let fields = styled(panel, &data.frames, "thresholds", context);
    let values = singles(panel, &fields, "lastNotNull");
    let texts = text_values(panel, data);
    if values.is_empty() && texts.is_empty() {
        no_data(panel, out);
        return;
    }
    let n = if texts.is_empty() { values.len() } else { texts.len() };
    let (width, height) = open_boxes(panel, n, "", context, out);
    // A graph below them takes a third of the room.
    let height = if has_spark(panel) { height * 0.68 } else { height };
    let room = match height < LOW_PX {
        true if width >= LINE_PX => Room::Line,
        true if height < LOWEST_PX => Room::Value,
        false if height >= HIGH_PX => Room::All,
        _ => Room::Both,
    };
    if texts.is_empty() {
        let shown: Vec<Shown> = values.iter().map(|single| shown(panel, single, context)).collect();
        // Numbers side by side have one size.
        let widest = shown.iter().map(|s| width_em(&s.text)).fold(0.0, f64::max);
        for (single, shown) in values.iter().zip(shown) {
            cell(panel, single, shown, (values.len() > 1, room, widest), context, out);
        }
    } else {
        let widest = texts.iter().map(|t| width_em(t)).fold(0.0, f64::max);
        let ink = color::resolve("text", context.theme);
        for shown in texts {
            out.push_str("<div class=\"stat\">");
            big_text(&shown, &ink, widest, text_px(panel, "valueSize"), out);
            out.push_str("</div>");
        }
    }
    out.push_str("</div>");
}

fn has_spark(panel: &Panel) -> bool {
    text(&panel.options, "graphMode").unwrap_or("area") == "area"
}

/// Values of text fields that `reduceOptions.fields` names.
fn text_values(panel: &Panel, data: &PanelData) -> Vec<String> {
    let pattern = text(&panel.options, "reduceOptions.fields").filter(|f| !f.is_empty());
    let Some(pattern) = pattern.and_then(|p| crate::dashboard::pattern::Pattern::new(p).ok()) else {
        return Vec::new();
    };
    let fields = data.frames.iter().flat_map(|f| &f.fields).filter(|f| pattern.is_match(&f.display));
    let texts = fields.filter_map(|f| match &f.values {
        Values::Text(all) => all.iter().rev().flatten().next().cloned(),
        _ => None,
    });
    texts.take(25).collect()
}

/// Text and colour of a single value.
pub(super) fn shown(panel: &Panel, single: &Single<'_>, context: &DrawContext<'_>) -> Shown {
    let s = single.styled;
    let mut shown = s.settings.show(single.value, s.range, s.index, &s.name, &context.look());
    if is_unitless(&single.calc)
        && let Some(v) = single.value
    {
        shown.text = crate::dashboard::units::js_number(v);
    }
    if shown.text.is_empty() {
        shown.text = "No data".to_owned();
    }
    let (prefix, postfix) = (string(&panel.options, "prefix"), string(&panel.options, "postfix"));
    if !prefix.is_empty() || !postfix.is_empty() {
        shown.text = format!("{}{}{}", context.text(&prefix), shown.text, context.text(&postfix));
    }
    shown
}

fn cell(
    panel: &Panel,
    single: &Single<'_>,
    shown: Shown,
    (many, room, widest): (bool, Room, f64),
    context: &DrawContext<'_>,
    out: &mut String,
) {
    let options = &panel.options;
    let mode = text(options, "colorMode").unwrap_or("value");
    let text_mode = text(options, "textMode").unwrap_or("auto");
    let (with_value, with_name) = match text_mode {
        "value" => (true, false),
        "name" => (false, true),
        "value_and_name" => (true, true),
        "none" => (false, false),
        _ => (true, many && room != Room::Value),
    };
    let is_background = mode.starts_with("background");
    let ink = match mode {
        _ if is_background => color::text_on(&shown.color).to_owned(),
        "none" => color::resolve("text", context.theme),
        _ => shown.color.clone(),
    };
    let name = context.text(&single.name);
    out.push_str("<div class=\"stat\">");
    if is_background {
        let _ = write!(
            out,
            "<svg class=\"back\" aria-hidden=\"true\"><rect width=\"100%\" height=\"100%\" rx=\"2\" fill=\"{}\"/></svg>",
            shown.color
        );
    }
    if has_spark(panel) {
        let line = if is_background { "#ffffff".to_owned() } else { shown.color.clone() };
        spark(single, &line, out);
    }
    out.push_str(if room == Room::Line { "<div class=\"words line\">" } else { "<div class=\"words\">" });
    if with_name {
        let (name, size) = (escape(&name), text_class(panel, "titleSize"));
        let _ = match is_background {
            true => write!(out, "<div class=\"name{size}\" title=\"{name}\"><font color=\"{ink}\">{name}</font></div>"),
            false => write!(out, "<div class=\"name{size}\" title=\"{name}\">{name}</div>"),
        };
    }
    if with_value {
        big_text(&shown.text, &ink, widest, text_px(panel, "valueSize"), out);
    }
    if let Some(change) = change(panel, single).filter(|_| matches!(room, Room::All | Room::Line)) {
        let good = text(options, "percentChangeColorMode") != Some("inverted");
        let color = match text(options, "percentChangeColorMode") {
            // On a painted ground the colours of good and bad may be the ground's own.
            _ if is_background => ink,
            Some("same_as_value") => ink,
            _ if change == 0.0 => ink,
            _ => color::resolve(if (change > 0.0) == good { "green" } else { "red" }, context.theme),
        };
        let _ = write!(out, "<div class=\"change\">{}</div>", colored(&color, &change_text(change)));
    }
    let _ = write!(out, "</div><span class=\"sr\">{}: {}</span></div>", escape(&name), escape(&shown.text));
}

/// By how much of itself a series has changed, where the panel wants that shown.
fn change(panel: &Panel, single: &Single<'_>) -> Option<f64> {
    let is_wanted = flag(&panel.options, "showPercentChange") == Some(true)
        && flag(&panel.options, "reduceOptions.values") != Some(true);
    let values = single.styled.field.numbers().filter(|_| is_wanted)?;
    reduce("diffperc", values).filter(|change| change.is_finite())
}

/// Percent with an arrow, in three digits as Grafana has it.
fn change_text(percent: f64) -> String {
    let arrow = if percent < 0.0 { "↓ " } else { "↑ " };
    let exponent = if percent == 0.0 { 0 } else { percent.abs().log10().floor() as i32 };
    let unit = 10f64.powi(exponent - 2);
    // Rounding may leave crumbs behind the digits that count.
    let rounded = (percent / unit).round() * unit;
    let decimals = (2 - exponent).clamp(0, 12) as usize;
    let digits = format!("{rounded:.decimals$}");
    let digits = if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { &digits };
    format!("{}{}%", if percent == 0.0 { "" } else { arrow }, grouped(digits))
}

/// Thousands with commas between.
fn grouped(digits: &str) -> String {
    let (whole, fraction) = digits.split_once('.').map_or((digits, None), |(w, f)| (w, Some(f)));
    let start = usize::from(whole.starts_with('-'));
    let mut out = String::with_capacity(digits.len() + 4);
    for (i, c) in whole.char_indices() {
        if i > start && (whole.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    if let Some(fraction) = fraction {
        let _ = write!(out, ".{fraction}");
    }
    out
}

/// Width of a text in units of its font size.
fn width_em(text: &str) -> f64 {
    let em = |c| match c {
        '.' | ',' | ':' | 'i' | 'l' | ' ' | '/' => 0.55 * CHAR_EM,
        '%' | 'W' | 'M' | 'm' | '@' => 1.55 * CHAR_EM,
        _ => CHAR_EM,
    };
    text.chars().map(em).sum()
}

/// One line of text in a box that has room for `widest` times its font size; `px` is a size that the panel names.
fn big_text(text: &str, color: &str, widest: f64, px: Option<f64>, out: &mut String) {
    let width = (widest * 100.0 + 10.0).max(140.0).ceil();
    let fixed = px.map(|px| format!(" fixed\" height=\"{}", short(px * 1.1))).unwrap_or_default();
    let _ = write!(
        out,
        "<svg class=\"big{fixed}\" viewBox=\"0 0 {width} 110\" aria-hidden=\"true\"><text x=\"50%\" y=\"90\" \
         text-anchor=\"middle\" font-size=\"100\" fill=\"{color}\">"
    );
    escape_into(text, out);
    out.push_str("</text></svg>");
}

/// The series under the number.
pub(super) fn spark(single: &Single<'_>, color: &str, out: &mut String) {
    let values = single.styled.field.numbers().unwrap_or(&[]);
    let Some(times) = single.styled.frame.times() else { return };
    let (Some(first), Some(last)) = (times.first(), times.last()) else { return };
    if times.len() < 2 || first == last {
        return;
    }
    let finite = values.iter().flatten().copied().filter(|v| v.is_finite());
    let bounds = finite.fold(None, |b: Option<(f64, f64)>, v| Some(b.map_or((v, v), |(l, h)| (l.min(v), h.max(v)))));
    if bounds.is_none() {
        return;
    }
    let settings = &single.styled.settings;
    let scale = scale(bounds, RangeConfig { min: settings.min, max: settings.max, ..RangeConfig::default() });
    let length = (last - first) as f64;
    let point = |t: i64, v: f64| -> Point {
        ((t - first) as f64 / length * BOX, (1.0 - scale.position(v).clamp(0.0, 1.0)) * BOX)
    };
    let (mut line, mut fill) = (String::new(), String::new());
    for run in paths::runs(times, values, Gaps::bridged(SpanNulls::Always)) {
        let points: Vec<Point> = run.iter().map(|(t, v)| point(*t, *v)).collect();
        let bottom: Vec<Point> = points.iter().map(|p| (p.0, BOX)).collect();
        paths::line(&points, Interpolation::Linear, 'M', &mut line);
        paths::area(&points, &bottom, Interpolation::Linear, &mut fill);
    }
    let _ = write!(
        out,
        "<svg class=\"spark\" viewBox=\"0 0 {0} {0}\" preserveAspectRatio=\"none\" aria-hidden=\"true\">\
         <path d=\"{fill}\" fill=\"{color}\" fill-opacity=\".2\"/><path d=\"{line}\" fill=\"none\" stroke=\"{color}\" \
         stroke-width=\"1\" vector-effect=\"non-scaling-stroke\"/></svg>",
        coordinate(BOX)
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_have_three_digits() {
        for (percent, expected) in [
            (12.345, "↑ 12.3%"),
            (-0.123_45, "↓ -0.123%"),
            (0.0, "0%"),
            (5.0, "↑ 5%"),
            (1_234.5, "↑ 1,230%"),
            (-123_456.0, "↓ -123,000%"),
            (99.96, "↑ 100%"),
            (1e9, "↑ 1,000,000,000%"),
        ] {
            assert_eq!(change_text(percent), expected, "{percent}");
        }
    }
}
