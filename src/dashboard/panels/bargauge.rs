//! The bar gauge panel: one bar per value.

use std::fmt::Write as _;

use crate::dashboard::color;
use crate::dashboard::html::escape;
use crate::dashboard::json::{flag, text};
use crate::dashboard::model::Panel;
use crate::dashboard::query::PanelData;
use crate::dashboard::scene::percent;

use super::stat::shown;
use super::{DrawContext, Single, no_data, singles, styled};

pub(super) fn draw(panel: &Panel, data: &PanelData, context: &DrawContext<'_>, out: &mut String) {
    let fields = styled(panel, &data.frames, "thresholds", context);
    let values = singles(panel, &fields, "lastNotNull");
    if values.is_empty() {
        no_data(panel, out);
        return;
    }
    out.push_str("<div class=\"bars\">");
    for (i, single) in values.iter().enumerate() {
        bar(panel, single, i, context, out);
    }
    out.push_str("</div>");
}

fn bar(panel: &Panel, single: &Single<'_>, i: usize, context: &DrawContext<'_>, out: &mut String) {
    let shown = shown(panel, single, context);
    let (min, max) = single.styled.range;
    let share = |v: f64| if max > min { ((v - min) / (max - min)).clamp(0.0, 1.0) } else { 0.0 };
    let end = single.value.filter(|v| v.is_finite()).map_or(0.0, share);
    let mode = text(&panel.options, "displayMode").unwrap_or("gradient");
    let name = escape(&context.text(&single.name));
    let _ = write!(out, "<div class=\"bar\"><span class=\"n\" title=\"{name}\">{name}</span>");
    out.push_str("<svg class=\"track\" aria-hidden=\"true\">");
    if flag(&panel.options, "showUnfilled").unwrap_or(true) {
        out.push_str("<rect class=\"rest\" width=\"100%\" height=\"100%\" rx=\"2\"/>");
    }
    match mode {
        "lcd" => {
            const CELLS: usize = 40;
            for k in 0..CELLS {
                let from = k as f64 / CELLS as f64;
                let v = min + (max - min) * from;
                let s = single.styled;
                let color = s.settings.value_color(v, s.range, s.index, &s.name, context.theme);
                let opacity = if from < end { "1" } else { ".2" };
                let _ = write!(
                    out,
                    "<rect x=\"{}%\" width=\"{}%\" height=\"100%\" fill=\"{color}\" fill-opacity=\"{opacity}\"/>",
                    percent(from),
                    percent(0.7 / CELLS as f64)
                );
            }
        }
        "gradient" => {
            let id = format!("{}b{i}", context.key);
            let _ = write!(out, "<defs><linearGradient id=\"{id}\">");
            let s = single.styled;
            for step in 0..=4 {
                let at = f64::from(step) / 4.0;
                let v = min + (max - min) * at * end;
                let color = s.settings.value_color(v, s.range, s.index, &s.name, context.theme);
                let _ = write!(out, "<stop offset=\"{at}\" stop-color=\"{color}\"/>");
            }
            let _ = write!(
                out,
                "</linearGradient></defs><rect width=\"{}%\" height=\"100%\" rx=\"2\" fill=\"url(#{id})\"/>",
                percent(end)
            );
        }
        _ => {
            let _ = write!(
                out,
                "<rect width=\"{0}%\" height=\"100%\" rx=\"2\" fill=\"{1}\" fill-opacity=\".35\"/><rect x=\"{0}%\" \
                 width=\"2\" height=\"100%\" fill=\"{1}\"/>",
                percent(end),
                shown.color
            );
        }
    }
    let ink = if shown.color == "transparent" { color::resolve("text", context.theme) } else { shown.color };
    let _ = write!(
        out,
        "</svg><svg class=\"v\" width=\"{}\"><text x=\"100%\" y=\"15\" text-anchor=\"end\" fill=\"{ink}\">{}</text></svg></div>",
        shown.text.chars().count() * 9 + 6,
        escape(&shown.text)
    );
}
