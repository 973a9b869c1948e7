//! The gauge panel: an arc from min to max with its thresholds.

use std::f64::consts::PI;
use std::fmt::Write as _;

use crate::dashboard::color;
use crate::dashboard::html::{escape, escape_into};
use crate::dashboard::json::flag;
use crate::dashboard::model::Panel;
use crate::dashboard::query::PanelData;
use crate::dashboard::scene::short;

use super::stat::shown;
use super::{DrawContext, Single, no_data, open_boxes, singles, styled, text_px};

/// The arc opens at the bottom: from 215° over the top to −35°.
const START_DEG: f64 = 210.0;
const SWEEP_DEG: f64 = 240.0;
const CENTER: (f64, f64) = (100.0, 96.0);
const RADIUS: f64 = 74.0;
const WIDTH: f64 = 22.0;
/// Least size of a name, CSS pixels, and its greatest in the drawing's own units.
const NAME_PX: f64 = 9.0;
const NAME_MAX: f64 = 16.0;
/// Size of the drawing in its own units.
const VIEW: (f64, f64) = (200.0, 166.0);

pub(super) fn draw(panel: &Panel, data: &PanelData, context: &DrawContext<'_>, out: &mut String) {
    let fields = styled(panel, &data.frames, "thresholds", context);
    let values = singles(panel, &fields, "lastNotNull");
    if values.is_empty() {
        no_data(panel, out);
        return;
    }
    let (width, height) = open_boxes(panel, values.len(), "gauges", context, out);
    let many = values.len() > 1;
    // How large a unit of the drawing is on the page.
    let scale = (width / VIEW.0).min(height / VIEW.1).max(0.05);
    values.iter().for_each(|single| one(panel, single, many, scale, context, out));
    out.push_str("</div>");
}

fn at(share: f64, radius: f64) -> (f64, f64) {
    let angle = (START_DEG - SWEEP_DEG * share) * PI / 180.0;
    (CENTER.0 + radius * angle.cos(), CENTER.1 - radius * angle.sin())
}

/// An arc along `radius` between two shares of the sweep.
fn arc(from: f64, to: f64, radius: f64) -> String {
    let (a, b) = (at(from, radius), at(to, radius));
    let large = u8::from((to - from) * SWEEP_DEG > 180.0);
    let r = short(radius);
    format!("M{} {}A{r} {r} 0 {large} 1 {} {}", short(a.0), short(a.1), short(b.0), short(b.1))
}

fn one(panel: &Panel, single: &Single<'_>, many: bool, scale: f64, context: &DrawContext<'_>, out: &mut String) {
    let shown = shown(panel, single, context);
    let (min, max) = single.styled.range;
    let share = |v: f64| if max > min { ((v - min) / (max - min)).clamp(0.0, 1.0) } else { 0.0 };
    let name = context.text(&single.name);
    out.push_str("<div class=\"stat\"><svg class=\"gauge\" viewBox=\"0 0 200 166\" aria-hidden=\"true\">");
    let _ =
        write!(out, "<path class=\"track\" d=\"{}\" fill=\"none\" stroke-width=\"{WIDTH}\"/>", arc(0.0, 1.0, RADIUS));
    if let Some(v) = single.value.filter(|v| v.is_finite()) {
        let end = share(v);
        if end > 0.0 {
            let _ = write!(
                out,
                "<path d=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{WIDTH}\"/>",
                arc(0.0, end, RADIUS),
                shown.color
            );
        }
    }
    if flag(&panel.options, "showThresholdMarkers").unwrap_or(true) {
        let steps = single.styled.settings.thresholds.absolute(min, max);
        for (i, (from, color)) in steps.iter().enumerate() {
            let from = if from.is_finite() { share(*from) } else { 0.0 };
            let to = steps.get(i + 1).map_or(1.0, |(v, _)| share(*v));
            if to > from {
                let color = color::resolve(color, context.theme);
                let path = arc(from, to, RADIUS + WIDTH / 2.0 + 4.5);
                let _ = write!(out, "<path d=\"{path}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"4\"/>");
            }
        }
    }
    if flag(&panel.options, "showThresholdLabels").unwrap_or(false) {
        for (bound, color) in single.styled.settings.thresholds.absolute(min, max).iter().filter(|s| s.0.is_finite()) {
            let (x, y) = at(share(*bound), RADIUS + WIDTH / 2.0 + 16.0);
            let label = single.styled.settings.number_text(*bound, &context.look());
            let _ = write!(
                out,
                "<text x=\"{}\" y=\"{}\" font-size=\"9\" text-anchor=\"middle\" fill=\"{}\">{}</text>",
                short(x),
                short(y),
                color::resolve(color, context.theme),
                escape(&label)
            );
        }
    }
    let fitting = (200.0 / shown.text.chars().count().max(4) as f64).min(36.0);
    let size = text_px(panel, "valueSize").map_or(fitting, |px| (px / scale).clamp(4.0, 60.0));
    let _ = write!(
        out,
        "<text class=\"value\" x=\"100\" y=\"108\" font-size=\"{}\" text-anchor=\"middle\" fill=\"{}\">",
        short(size),
        shown.color
    );
    escape_into(&shown.text, out);
    out.push_str("</text>");
    let title_px = text_px(panel, "titleSize");
    let is_readable = title_px.is_some() || NAME_MAX * scale >= NAME_PX - 3.0;
    if is_readable && (many || !single.name.is_empty() && title_px.is_some()) {
        // A name that would be too small to be read is cut instead.
        let fitting = (330.0 / name.chars().count().max(12) as f64).max(NAME_PX / scale).min(NAME_MAX);
        let size = title_px.map_or(fitting, |px| (px / scale).clamp(4.0, 30.0));
        let room = (VIEW.0 / (size * 0.56)) as usize;
        let _ = write!(
            out,
            "<text x=\"100\" y=\"156\" font-size=\"{}\" text-anchor=\"middle\" fill=\"currentColor\">",
            short(size)
        );
        if name.chars().count() > room {
            let head: String = name.chars().take(room.saturating_sub(1)).collect();
            escape_into(&head, out);
            out.push('…');
        } else {
            escape_into(&name, out);
        }
        out.push_str("</text>");
    }
    let _ = write!(out, "</svg><span class=\"sr\">{}: {}</span></div>", escape(&name), escape(&shown.text));
}
