//! The bar gauge panel: one bar per value, lying or standing.

use std::fmt::Write as _;

use crate::dashboard::color;
use crate::dashboard::html::{colored, escape};
use crate::dashboard::json::{flag, text};
use crate::dashboard::model::Panel;
use crate::dashboard::query::PanelData;
use crate::dashboard::scene::percent;

use super::stat::shown;
use super::{DrawContext, Single, no_data, singles, styled, text_class};

/// Parts of a bar that is drawn as lamps.
const LAMPS: usize = 40;

pub(super) fn draw(panel: &Panel, data: &PanelData, context: &DrawContext<'_>, out: &mut String) {
    let fields = styled(panel, &data.frames, "thresholds", context);
    let values = singles(panel, &fields, "lastNotNull");
    if values.is_empty() {
        no_data(panel, out);
        return;
    }
    let is_upright = match text(&panel.options, "orientation").unwrap_or("auto") {
        "vertical" => true,
        "horizontal" => false,
        _ => context.width_px > context.height_px * 1.2 && context.width_px / values.len() as f64 > 44.0,
    };
    let _ = write!(out, "<div class=\"bars{}\">", if is_upright { " upright" } else { "" });
    for (i, single) in values.iter().enumerate() {
        bar(panel, single, i, is_upright, context, out);
    }
    out.push_str("</div>");
}

/// A rectangle over a part of the bar's length.
fn part(from: f64, to: f64, is_upright: bool) -> String {
    match is_upright {
        true => format!("y=\"{}%\" width=\"100%\" height=\"{}%\"", percent(1.0 - to), percent(to - from)),
        false => format!("x=\"{}%\" width=\"{}%\" height=\"100%\"", percent(from), percent(to - from)),
    }
}

fn bar(panel: &Panel, single: &Single<'_>, i: usize, is_upright: bool, context: &DrawContext<'_>, out: &mut String) {
    let shown = shown(panel, single, context);
    let (min, max) = single.styled.range;
    let share = |v: f64| if max > min { ((v - min) / (max - min)).clamp(0.0, 1.0) } else { 0.0 };
    let end = single.value.filter(|v| v.is_finite()).map_or(0.0, share);
    let color_at = |share: f64| {
        let s = single.styled;
        s.settings.value_color(min + (max - min) * share, s.range, s.index, &s.name, context.theme)
    };
    let name = escape(&context.text(&single.name));
    let _ = write!(
        out,
        "<div class=\"bar\"><span class=\"n{}\" title=\"{name}\">{name}</span>",
        text_class(panel, "titleSize")
    );
    out.push_str("<svg class=\"track\" aria-hidden=\"true\">");
    if flag(&panel.options, "showUnfilled").unwrap_or(true) {
        out.push_str("<rect class=\"rest\" width=\"100%\" height=\"100%\" rx=\"2\"/>");
    }
    match text(&panel.options, "displayMode").unwrap_or("gradient") {
        "lcd" => {
            for k in 0..LAMPS {
                let from = k as f64 / LAMPS as f64;
                let opacity = if from < end { "1" } else { ".2" };
                let _ = write!(
                    out,
                    "<rect {} fill=\"{}\" fill-opacity=\"{opacity}\"/>",
                    part(from, from + 0.7 / LAMPS as f64, is_upright),
                    color_at(from)
                );
            }
        }
        "gradient" => {
            let id = format!("{}b{i}", context.key);
            let direction = if is_upright { " x1=\"0\" x2=\"0\" y1=\"1\" y2=\"0\"" } else { "" };
            let _ = write!(out, "<defs><linearGradient id=\"{id}\"{direction}>");
            for step in 0..=4 {
                let at = f64::from(step) / 4.0;
                let _ = write!(out, "<stop offset=\"{at}\" stop-color=\"{}\"/>", color_at(at * end));
            }
            let _ = write!(
                out,
                "</linearGradient></defs><rect {} rx=\"2\" fill=\"url(#{id})\"/>",
                part(0.0, end, is_upright)
            );
        }
        _ => {
            let color = &shown.color;
            let edge = if is_upright {
                format!("y=\"{}%\" width=\"100%\" height=\"2\"", percent(1.0 - end))
            } else {
                format!("x=\"{}%\" width=\"2\" height=\"100%\"", percent(end))
            };
            let _ = write!(
                out,
                "<rect {} rx=\"2\" fill=\"{color}\" fill-opacity=\".35\"/><rect {edge} fill=\"{color}\"/>",
                part(0.0, end, is_upright),
            );
        }
    }
    let ink = if shown.color == "transparent" { color::resolve("text", context.theme) } else { shown.color };
    let ink =
        if text(&panel.options, "valueMode") == Some("text") { color::resolve("text", context.theme) } else { ink };
    out.push_str("</svg>");
    if text(&panel.options, "valueMode") != Some("hidden") {
        let (size, text) = (text_class(panel, "valueSize"), escape(&shown.text));
        let _ = write!(out, "<span class=\"v{size}\">{}</span>", colored(&ink, &text));
    }
    out.push_str("</div>");
}
