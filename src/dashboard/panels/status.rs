//! State timeline and status history: one stripe per series, coloured by value.

use std::fmt::Write as _;

use crate::dashboard::model::Panel;
use crate::dashboard::query::PanelData;
use crate::dashboard::scene::{Axis, BOX, Mark, Plot, SeriesMarks, coordinate};
use crate::dashboard::ticks::time_ticks;
use crate::dashboard::timerange::Window;

use super::{DrawContext, no_data, styled};

/// Stripes that are drawn.
const STRIPES_MAX: usize = 100;
/// Height of a label, CSS pixels.
const LABEL_PX: f64 = 13.0;

pub(super) fn draw(panel: &Panel, data: &PanelData, window: &Window, context: &DrawContext<'_>, out: &mut String) {
    let mut fields = styled(panel, &data.frames, "thresholds", context);
    fields.retain(|s| s.frame.times().is_some() && !s.settings.custom_flag("hideFrom.viz"));
    fields.truncate(STRIPES_MAX);
    if fields.is_empty() {
        no_data(panel, out);
        return;
    }
    let length = window.length_ms().max(1) as f64;
    let x_of = |t: i64| (t - window.from_ms) as f64 / length * BOX;
    let n = fields.len() as f64;
    // Stripes that are narrower than a line of text are named now and then.
    let every = (LABEL_PX * n / (context.height_px - 22.0).max(1.0)).ceil().max(1.0) as usize;
    let names = fields.iter().enumerate().step_by(every).map(|(i, s)| ((i as f64 + 0.5) / n, shorten(&s.name)));
    let mut plot = Plot {
        label: format!("{}: states of {} series.", context.text(&panel.title), fields.len()),
        left: Some(Axis { ticks: names.collect(), label: String::new() }),
        ..Plot::default()
    };
    for (t, text) in time_ticks(window.from_ms, window.to_ms, context.width_px - 90.0, context.tz) {
        plot.x_ticks.push((x_of(t) / BOX, text));
    }
    super::mark_events(&mut plot, window, context);
    let merge = panel.kind == "state-timeline";
    for (i, s) in fields.iter().enumerate() {
        let Some(times) = s.frame.times() else { continue };
        let values = s.field.numbers().unwrap_or(&[]);
        let step = times.get(1).map_or(60_000, |t| t - times[0]);
        let (top, bottom) = ((i as f64 + 0.08) / n * BOX, (i as f64 + 0.92) / n * BOX);
        let mut runs: Vec<(i64, i64, String)> = Vec::new();
        for (t, v) in times.iter().zip(values) {
            let Some(v) = v else { continue };
            let color = s.settings.show(Some(*v), s.range, s.index, &s.name, &context.look()).color;
            match runs.last_mut() {
                Some((_, end, last)) if merge && *end == *t && *last == color => *end = t + step,
                _ => runs.push((*t, t + step, color)),
            }
        }
        let mut marks: Vec<Mark> = Vec::new();
        for (from, to, color) in runs {
            let gap = if merge { 0.0 } else { 1.5 };
            let c = coordinate;
            let mut d = String::new();
            let _ = write!(
                d,
                "M{} {}H{}V{}H{}Z",
                c(x_of(from)),
                c(top),
                c((x_of(to) - gap).min(BOX)),
                c(bottom),
                c(x_of(from))
            );
            match marks.last_mut() {
                Some(Mark::Fill { d: last, paint, .. }) if *paint == color => last.push_str(&d),
                _ => marks.push(Mark::Fill { d, paint: color, opacity: 0.85 }),
            }
        }
        plot.marks.push(SeriesMarks { series: s.index, marks });
    }
    out.push_str("<div class=\"graph below\">");
    plot.write(out);
    out.push_str("</div>");
}

fn shorten(name: &str) -> String {
    const CHARS_MAX: usize = 24;
    if name.chars().count() <= CHARS_MAX {
        return name.to_owned();
    }
    let head: String = name.chars().take(CHARS_MAX - 1).collect();
    format!("{head}…")
}
