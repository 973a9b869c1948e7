//! Bars by category: the bar chart over texts, and the histogram over ranges of values.
//!
//! # Source
//! The choice of categories, and ranges of a histogram, follow Grafana.

use std::fmt::Write as _;

use crate::dashboard::frame::{Frame, Values};
use crate::dashboard::json::{flag, number, text};
use crate::dashboard::model::Panel;
use crate::dashboard::query::PanelData;
use crate::dashboard::scene::{Axis, Mark, Plot, SeriesMarks, coordinate};
use crate::dashboard::ticks::{RangeConfig, Scale, scale, value_ticks};

use super::legend::{Entry, Legend};
use super::{DrawContext, Styled, no_data, styled};

/// Categories that are drawn.
const CATEGORIES_MAX: usize = 200;
/// Ranges of a histogram when the dashboard names no size.
const RANGES: f64 = 30.0;
/// Width of a character of a label, CSS pixels.
const CHAR_PX: f64 = 6.4;

/// Whether a result has texts to be categories; without them bars stand over time.
pub(super) fn has_categories(data: &PanelData) -> bool {
    data.frames.iter().any(|f| texts(f).is_some() && f.fields.iter().any(|g| g.is_number()))
}

fn texts(frame: &Frame) -> Option<&[Option<String>]> {
    frame.fields.iter().find_map(|f| match &f.values {
        Values::Text(all) => Some(all.as_slice()),
        _ => None,
    })
}

/// One colour of bars, with a value per category.
struct Bars<'a> {
    styled: &'a Styled<'a>,
    color: String,
    values: Vec<Option<f64>>,
}

/// The bar chart over the first column of texts.
pub(super) fn draw(panel: &Panel, data: &PanelData, context: &DrawContext<'_>, out: &mut String) {
    let Some(frame) = data.frames.iter().find(|f| texts(f).is_some()) else { return no_data(panel, out) };
    let names: Vec<String> =
        texts(frame).unwrap_or(&[]).iter().take(CATEGORIES_MAX).map(|t| t.clone().unwrap_or_default()).collect();
    let all = styled(panel, std::slice::from_ref(frame), "palette-classic", context);
    let bars: Vec<Bars<'_>> = all
        .iter()
        .filter(|s| !s.settings.custom_flag("hideFrom.viz") && !context.hidden.contains(&s.name))
        .map(|s| Bars {
            styled: s,
            color: color_of(s, context),
            values: s.field.numbers().unwrap_or(&[]).iter().copied().take(names.len()).collect(),
        })
        .collect();
    if names.is_empty() || !bars.iter().any(|b| b.values.iter().flatten().any(|v| v.is_finite())) {
        return no_data(panel, out);
    }
    let is_lying = match text(&panel.options, "orientation") {
        Some("horizontal") => true,
        Some("vertical") => false,
        _ => context.width_px < context.height_px,
    };
    write(panel, &names, &bars, &all, is_lying, context, out);
}

/// How often values of each range occur.
pub(super) fn histogram(panel: &Panel, data: &PanelData, context: &DrawContext<'_>, out: &mut String) {
    let all = styled(panel, &data.frames, "palette-classic", context);
    let values = |s: &Styled<'_>| -> Vec<f64> {
        s.field.numbers().unwrap_or(&[]).iter().flatten().copied().filter(|v| v.is_finite()).collect()
    };
    let shown: Vec<&Styled<'_>> =
        all.iter().filter(|s| !s.settings.custom_flag("hideFrom.viz") && !context.hidden.contains(&s.name)).collect();
    let everything: Vec<f64> = shown.iter().flat_map(|s| values(s)).collect();
    let low = everything.iter().copied().fold(f64::INFINITY, f64::min);
    let high = everything.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let Some(first) = shown.first().filter(|_| low <= high) else { return no_data(panel, out) };
    let wanted = number(&panel.options, "bucketCount").filter(|n| *n >= 1.0).unwrap_or(RANGES);
    let size = number(&panel.options, "bucketSize").filter(|s| *s > 0.0);
    let size = size.unwrap_or_else(|| nice_step((high - low).max(f64::MIN_POSITIVE) / wanted));
    let offset = number(&panel.options, "bucketOffset").unwrap_or(0.0);
    let start = ((low - offset) / size).floor() * size + offset;
    let n = (((high - start) / size).floor() + 1.0).clamp(1.0, CATEGORIES_MAX as f64) as usize;
    let place = |v: f64| (((v - start) / size).floor().max(0.0) as usize).min(n - 1);
    let names: Vec<String> =
        (0..n).map(|i| first.settings.number_text(start + i as f64 * size, &context.look())).collect();
    let count = |s: &Styled<'_>| {
        let mut counts = vec![0.0; n];
        values(s).into_iter().for_each(|v| counts[place(v)] += 1.0);
        counts.into_iter().map(Some).collect::<Vec<Option<f64>>>()
    };
    let is_combined = flag(&panel.options, "combine") == Some(true);
    let mut bars: Vec<Bars<'_>> =
        shown.iter().map(|s| Bars { styled: s, color: color_of(s, context), values: count(s) }).collect();
    if is_combined && let Some((sum, rest)) = bars.split_first_mut() {
        for other in rest.iter() {
            for (total, v) in sum.values.iter_mut().zip(&other.values) {
                *total = Some(total.unwrap_or(0.0) + v.unwrap_or(0.0));
            }
        }
        bars.truncate(1);
    }
    write(panel, &names, &bars, &all, false, context, out);
}

fn color_of(s: &Styled<'_>, context: &DrawContext<'_>) -> String {
    s.settings.series_color(s.field.numbers().unwrap_or(&[]), s.range, s.index, &s.name, context.theme)
}

/// Lower and upper end of each bar: side by side from zero, or on top of each other.
fn spans(panel: &Panel, bars: &[Bars<'_>], n: usize) -> Vec<Vec<Option<(f64, f64)>>> {
    let mode = text(&panel.options, "stacking").unwrap_or("none");
    if mode == "none" {
        let span = |v: &Option<f64>| v.filter(|v| v.is_finite()).map(|v| (0.0, v));
        return bars.iter().map(|b| b.values.iter().map(span).collect()).collect();
    }
    let total = |i: usize| bars.iter().filter_map(|b| b.values.get(i).copied().flatten()).map(f64::abs).sum::<f64>();
    let mut level = vec![0.0; n];
    bars.iter()
        .map(|b| {
            b.values
                .iter()
                .enumerate()
                .map(|(i, v)| {
                    let v = v.filter(|v| v.is_finite())?;
                    let v = if mode == "percent" && total(i) > 0.0 { v / total(i) } else { v };
                    let from = level[i];
                    level[i] += v;
                    Some((from, level[i]))
                })
                .collect()
        })
        .collect()
}

fn write(
    panel: &Panel,
    names: &[String],
    bars: &[Bars<'_>],
    all: &[Styled<'_>],
    is_lying: bool,
    context: &DrawContext<'_>,
    out: &mut String,
) {
    let n = names.len();
    let spans = spans(panel, bars, n);
    let ends = spans.iter().flatten().flatten().flat_map(|(a, b)| [*a, *b]);
    let bounds = ends.fold(None, |b: Option<(f64, f64)>, v| Some(b.map_or((v, v), |(l, h)| (l.min(v), h.max(v)))));
    let Some(look) = bars.first().map(|b| &b.styled.settings) else { return no_data(panel, out) };
    let soft = RangeConfig { min: look.min, max: look.max, soft_min: Some(0.0), ..RangeConfig::default() };
    let scale = scale(bounds, soft);
    let legend = Legend::of(&panel.options).in_width(context.width_px);
    let legend_names: Vec<&str> = all.iter().map(|s| s.name.as_str()).collect();
    let height = context.height_px - legend.height_px(&legend_names, context.width_px, context.height_px) - 22.0;
    let width = context.width_px * (1.0 - legend.right_share(&legend_names, context.width_px)) - 50.0;
    let mut plot = Plot { label: format!("{}: {n} categories.", context.text(&panel.title)), ..Plot::default() };
    axes(&mut plot, names, scale, is_lying, (width, height), look, context);
    let is_stacked = text(&panel.options, "stacking").is_some_and(|m| m != "none");
    let group = number(&panel.options, "groupWidth").unwrap_or(0.7).clamp(0.1, 1.0);
    let lanes = if is_stacked { 1 } else { bars.len().max(1) };
    for (k, (b, spans)) in bars.iter().zip(&spans).enumerate() {
        let mut d = String::new();
        let lane = if is_stacked { 0 } else { k };
        for (i, span) in spans.iter().enumerate() {
            let Some((from, to)) = span else { continue };
            let slot = group / lanes as f64;
            let start = (i as f64 + (1.0 - group) / 2.0 + slot * lane as f64) / n as f64;
            let end = start + slot * 0.94 / n as f64;
            rectangle((start, end), (scale.position(*from), scale.position(*to)), is_lying, &mut d);
        }
        let opacity = b.styled.settings.custom_number("fillOpacity", 80.0).clamp(10.0, 100.0) / 100.0;
        let marks = vec![Mark::Fill { d, paint: b.color.clone(), opacity }];
        plot.marks.push(SeriesMarks { series: b.styled.index, marks });
    }
    let place = if legend.is_right { "side" } else { "below" };
    let _ = write!(out, "<div class=\"graph {place}\">");
    plot.write(out);
    let mut entries: Vec<Entry<'_>> = all
        .iter()
        .filter(|s| !s.settings.custom_flag("hideFrom.legend"))
        .map(|s| Entry {
            styled: s,
            color: color_of(s, context),
            is_hidden: context.hidden.contains(&s.name),
            is_right: false,
        })
        .collect();
    legend.write(&mut entries, context, out);
    out.push_str("</div>");
}

/// A bar over a share of the categories' axis, between two shares of the values' axis.
fn rectangle((start, end): (f64, f64), (from, to): (f64, f64), is_lying: bool, d: &mut String) {
    let at = |share: f64| coordinate(share.clamp(0.0, 1.0) * 1000.0);
    let (from, to) = if is_lying { (from, to) } else { (1.0 - from, 1.0 - to) };
    let _ = match is_lying {
        true => write!(d, "M{} {}H{}V{}H{}Z", at(from), at(start), at(to), at(end), at(from)),
        false => write!(d, "M{} {}V{}H{}V{}Z", at(start), at(from), at(to), at(end), at(from)),
    };
}

fn axes(
    plot: &mut Plot,
    names: &[String],
    scale: Scale,
    is_lying: bool,
    (width, height): (f64, f64),
    look: &crate::dashboard::field::Settings,
    context: &DrawContext<'_>,
) {
    let n = names.len() as f64;
    let room = if is_lying {
        16.0
    } else {
        names.iter().map(|s| shorten(s).chars().count()).max().unwrap_or(1) as f64 * CHAR_PX + 8.0
    };
    let length = if is_lying { height } else { width };
    let every = (n * room / length.max(room)).ceil().max(1.0) as usize;
    let ticks = names.iter().enumerate().step_by(every);
    let categories: Vec<(f64, String)> = ticks.map(|(i, s)| ((i as f64 + 0.5) / n, shorten(s))).collect();
    let (values, step) = value_ticks(
        scale,
        if is_lying { width / 2.5 } else { height },
        look.unit.is_binary(),
        look.decimals == Some(0),
    );
    let label = |v: &f64| look.unit.format_tick(*v, step, context.tz);
    if is_lying {
        plot.left = Some(Axis { ticks: categories, ..Axis::default() });
        plot.x_ticks = values.iter().map(|v| (scale.position(*v), label(v))).collect();
    } else {
        let ticks: Vec<(f64, String)> = values.iter().map(|v| (1.0 - scale.position(*v), label(v))).collect();
        plot.grid = ticks.iter().map(|(y, _)| *y).collect();
        let label = context.text(look.custom_text("axisLabel", ""));
        plot.left = Some(Axis { ticks, label, ..Axis::default() });
        plot.x_ticks = categories;
    }
}

/// A name that leaves room for the plot.
pub(super) fn shorten(name: &str) -> String {
    const CHARS_MAX: usize = 24;
    if name.chars().count() <= CHARS_MAX {
        return name.to_owned();
    }
    let head: String = name.chars().take(CHARS_MAX - 1).collect();
    format!("{head}…")
}

/// The least round number that is not below `v`.
pub(super) fn nice_step(v: f64) -> f64 {
    let power = 10f64.powf(v.log10().floor());
    let found = [1.0, 2.0, 2.5, 5.0].into_iter().map(|f| f * power).find(|s| *s >= v * 0.999_999);
    found.unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        for (v, expected) in [(0.7, 1.0), (1.0, 1.0), (2.1, 2.5), (30.0, 50.0), (6000.0, 10_000.0)] {
            assert!((nice_step(v) - expected).abs() < expected * 1e-9, "{v}: {}", nice_step(v));
        }
    }
}
