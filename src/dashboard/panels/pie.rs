//! The pie chart panel.

use std::f64::consts::PI;
use std::fmt::Write as _;

use crate::dashboard::html::escape;
use crate::dashboard::json::{flag, strings, text};
use crate::dashboard::model::Panel;
use crate::dashboard::query::PanelData;
use crate::dashboard::scene::short;
use crate::dashboard::units::to_fixed;

use super::{DrawContext, Single, no_data, singles, styled};

const R: f64 = 95.0;

pub(super) fn draw(panel: &Panel, data: &PanelData, context: &DrawContext<'_>, out: &mut String) {
    let fields = styled(panel, &data.frames, "palette-classic", context);
    let mut values = singles(panel, &fields, "lastNotNull");
    values.retain(|s| s.value.is_some_and(|v| v.is_finite() && v > 0.0) && !context.hidden.contains(&s.name));
    let total: f64 = values.iter().filter_map(|s| s.value).sum();
    if values.is_empty() || total <= 0.0 {
        no_data(panel, out);
        return;
    }
    match text(&panel.options, "sort").unwrap_or("desc") {
        "asc" => values.sort_by(|a, b| a.value.partial_cmp(&b.value).unwrap_or(std::cmp::Ordering::Equal)),
        "desc" => values.sort_by(|a, b| b.value.partial_cmp(&a.value).unwrap_or(std::cmp::Ordering::Equal)),
        _ => {}
    }
    let hole = if text(&panel.options, "pieType") == Some("donut") { R * 0.6 } else { 0.0 };
    let is_right = text(&panel.options, "legend.placement") != Some("bottom");
    let _ = write!(
        out,
        "<div class=\"pie {}\"><svg class=\"disc\" viewBox=\"-100 -100 200 200\" role=\"img\" aria-label=\"",
        if is_right { "side" } else { "below" }
    );
    for s in &values {
        let _ = write!(out, "{}: {}%. ", escape(&s.name), to_fixed(s.value.unwrap_or(0.0) / total * 100.0, Some(1)));
    }
    out.push_str("\">");
    let labels = strings(&panel.options, "displayLabels");
    let mut texts = String::new();
    let mut from = 0.0;
    let mut rows = String::new();
    let shown = strings(&panel.options, "legend.values");
    for s in &values {
        let v = s.value.unwrap_or(0.0);
        let share = v / total;
        let look = s.styled.settings.show(Some(v), s.styled.range, s.styled.index, &s.styled.name, &context.look());
        let _ = write!(
            out,
            "<path d=\"{}\" fill=\"{}\"><title>{}: {} ({}%)</title></path>",
            slice(from, from + share, hole),
            look.color,
            escape(&s.name),
            escape(&look.text),
            to_fixed(share * 100.0, Some(1))
        );
        if share >= LABEL_SHARE_MIN {
            label(&labels, from + share / 2.0, hole, s, &look.text, share, &mut texts);
        }
        from += share;
        let percent = if shown.iter().any(|v| v == "percent") {
            format!("{}%", to_fixed(share * 100.0, Some(0)))
        } else {
            String::new()
        };
        let value = if shown.iter().any(|v| v == "value") { look.text } else { String::new() };
        let _ = write!(
            rows,
            "<tr><td><span class=\"key\"><svg width=\"14\" height=\"4\"><rect width=\"14\" height=\"4\" rx=\"2\" fill=\"{}\"/></svg>\
             <span>{}</span></span></td><td class=\"num\">{}</td><td class=\"num\">{percent}</td></tr>",
            look.color,
            escape(&context.text(&s.name)),
            escape(&value)
        );
    }
    let _ = write!(out, "{texts}</svg>");
    if flag(&panel.options, "legend.showLegend").unwrap_or(true) {
        let _ = write!(out, "<div class=\"legend table\"><table><tbody>{rows}</tbody></table></div>");
    }
    out.push_str("</div>");
}

/// A smaller slice has no room for words.
const LABEL_SHARE_MIN: f64 = 0.04;

/// The words on a slice whose middle is at `share` of the circle.
fn label(wanted: &[String], middle: f64, hole: f64, single: &Single<'_>, value: &str, share: f64, out: &mut String) {
    let percent = format!("{}%", to_fixed(share * 100.0, Some(0)));
    let words: Vec<&str> = [("name", single.name.as_str()), ("value", value), ("percent", percent.as_str())]
        .into_iter()
        .filter(|(kind, _)| wanted.iter().any(|w| w == kind))
        .map(|(_, text)| text)
        .collect();
    let r = if hole > 0.0 { (R + hole) / 2.0 } else { R * 0.68 };
    let angle = middle * 2.0 * PI;
    let (x, y) = (r * angle.sin(), -r * angle.cos());
    let ink = crate::dashboard::color::text_on(&single.styled.settings.series_color(
        &[single.value],
        single.styled.range,
        single.styled.index,
        &single.styled.name,
        crate::dashboard::color::Theme::Dark,
    ));
    for (i, word) in words.iter().enumerate() {
        let shift = (i as f64 - (words.len() as f64 - 1.0) / 2.0) * 11.0 + 3.5;
        let word: String = word.chars().take(18).collect();
        let _ = write!(
            out,
            "<text x=\"{}\" y=\"{}\" font-size=\"10\" text-anchor=\"middle\" fill=\"{ink}\">{}</text>",
            short(x),
            short(y + shift),
            escape(&word)
        );
    }
}

/// A slice between two shares of the circle, clockwise from the top.
fn slice(from: f64, to: f64, hole: f64) -> String {
    // A whole circle has no start; a hair less has one.
    let to = to.min(from + 0.9999);
    let at = |share: f64, r: f64| {
        let a = share * 2.0 * PI;
        (short(r * a.sin()), short(-r * a.cos()))
    };
    let large = u8::from(to - from > 0.5);
    let (a, b) = (at(from, R), at(to, R));
    let outer = format!("M{} {}A{R} {R} 0 {large} 1 {} {}", a.0, a.1, b.0, b.1);
    if hole == 0.0 {
        return format!("{outer}L0 0Z");
    }
    let (c, d) = (at(to, hole), at(from, hole));
    let h = short(hole);
    format!("{outer}L{} {}A{h} {h} 0 {large} 0 {} {}Z", c.0, c.1, d.0, d.1)
}
