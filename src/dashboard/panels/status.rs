//! State timeline and status history: one stripe per series, coloured by value.

use std::fmt::Write as _;

use crate::dashboard::color;
use crate::dashboard::field::Shown;
use crate::dashboard::html::escape;
use crate::dashboard::json::{flag, number, text};
use crate::dashboard::model::Panel;
use crate::dashboard::query::PanelData;
use crate::dashboard::scene::{Axis, BOX, Inscription, Mark, Plot, SeriesMarks, coordinate};
use crate::dashboard::ticks::time_ticks;
use crate::dashboard::timerange::Window;

use super::category::shorten;
use super::timeseries::json_text;
use super::{DrawContext, Styled, no_data, styled};

/// Stripes that are drawn.
const STRIPES_MAX: usize = 100;
/// Height of a label, CSS pixels.
const LABEL_PX: f64 = 13.0;
/// Width of a character inside a stripe, and the room on both sides of a text, CSS pixels.
const CHAR_PX: f64 = 6.8;
const ROOM_PX: f64 = 8.0;
/// Texts inside all stripes.
const TEXTS_MAX: usize = 1_000;
/// States that a legend names; more are a scale.
const STATES_MAX: usize = 12;

/// A while in one state.
struct Stay {
    from_ms: i64,
    to_ms: i64,
    /// Number of the state.
    state: usize,
}

/// What all stripes together show.
#[derive(Default)]
struct States(Vec<Shown>);

impl States {
    fn number(&mut self, shown: Shown) -> usize {
        match self.0.iter().position(|s| *s == shown) {
            Some(i) => i,
            None => {
                self.0.push(shown);
                self.0.len() - 1
            }
        }
    }
}

pub(super) fn draw(panel: &Panel, data: &PanelData, window: &Window, context: &DrawContext<'_>, out: &mut String) {
    let is_timeline = panel.kind == "state-timeline";
    let mut fields = styled(panel, &data.frames, if is_timeline { "continuous-GrYlRd" } else { "thresholds" }, context);
    fields.retain(|s| s.frame.times().is_some() && !s.settings.custom_flag("hideFrom.viz"));
    fields.truncate(STRIPES_MAX);
    if fields.is_empty() {
        no_data(panel, out);
        return;
    }
    let merges = is_timeline && flag(&panel.options, "mergeValues") != Some(false);
    let mut states = States::default();
    let stripes: Vec<Vec<Stay>> = fields.iter().map(|s| stays(s, merges, &mut states, context)).collect();
    let names = legend_names(panel, &states);
    let legend_px = if names.is_empty() { 0.0 } else { 24.0 };
    let plot = scene(panel, &fields, &stripes, &states, window, legend_px, context);
    out.push_str("<div class=\"graph below\">");
    plot.write(out);
    legend(&names, out);
    write_data(&fields, &stripes, &states, window, out);
    out.push_str("</div>");
}

/// The states of a series one after the other.
fn stays(s: &Styled<'_>, merges: bool, states: &mut States, context: &DrawContext<'_>) -> Vec<Stay> {
    let Some(times) = s.frame.times() else { return Vec::new() };
    let values = s.field.numbers().unwrap_or(&[]);
    let step = times.windows(2).map(|w| w[1] - w[0]).min().unwrap_or(60_000);
    let mut out: Vec<Stay> = Vec::new();
    let mut before: Option<(f64, usize)> = None;
    for (t, v) in times.iter().zip(values) {
        let Some(v) = *v else { continue };
        // Most values are as the one before.
        let state = match before {
            Some((known, state)) if known.to_bits() == v.to_bits() => state,
            _ => states.number(s.settings.show(Some(v), s.range, s.index, &s.name, &context.look())),
        };
        before = Some((v, state));
        match out.last_mut() {
            Some(last) if merges && last.to_ms == *t && last.state == state => last.to_ms = *t + step,
            _ => out.push(Stay { from_ms: *t, to_ms: *t + step, state }),
        }
    }
    out
}

fn scene(
    panel: &Panel,
    fields: &[Styled<'_>],
    stripes: &[Vec<Stay>],
    states: &States,
    window: &Window,
    legend_px: f64,
    context: &DrawContext<'_>,
) -> Plot {
    let length = window.length_ms().max(1) as f64;
    let x_of = |t: i64| (t - window.from_ms) as f64 / length;
    let n = fields.len() as f64;
    let stripe_px = (context.height_px - 24.0 - legend_px).max(1.0) / n;
    // Stripes that are narrower than a line of text are named now and then.
    let every = (LABEL_PX / stripe_px).ceil().max(1.0) as usize;
    let names: Vec<(f64, String)> =
        fields.iter().enumerate().step_by(every).map(|(i, s)| ((i as f64 + 0.5) / n, shorten(&s.name))).collect();
    let longest = names.iter().map(|(_, name)| name.chars().count()).max().unwrap_or(0) as f64;
    let plot_px = (context.width_px - longest * 6.3 - 24.0).max(40.0);
    let mut plot = Plot {
        label: format!("{}: states of {} series.", context.text(&panel.title), fields.len()),
        left: Some(Axis { ticks: names, ..Axis::default() }),
        ..Plot::default()
    };
    for (t, text) in time_ticks(window.from_ms, window.to_ms, plot_px, context.tz) {
        plot.x_ticks.push((x_of(t), text));
    }
    super::mark_events(&mut plot, window, context);
    let is_timeline = panel.kind == "state-timeline";
    let gap = if is_timeline { 0.0 } else { 1.5 };
    let filled = number(&panel.options, "rowHeight").unwrap_or(0.85).clamp(0.1, 1.0);
    let wanted = text(&panel.options, "showValue").unwrap_or("auto");
    for (i, (s, stays)) in fields.iter().zip(stripes).enumerate() {
        let middle = (i as f64 + 0.5) / n;
        let (top, bottom) = ((middle - filled / n / 2.0) * BOX, (middle + filled / n / 2.0) * BOX);
        let mut marks: Vec<Mark> = Vec::new();
        for stay in stays {
            let (from, to) = (x_of(stay.from_ms).max(0.0), x_of(stay.to_ms).min(1.0));
            if to <= from {
                continue;
            }
            let shown = &states.0[stay.state];
            let c = coordinate;
            let right = (to * BOX - gap).max(from * BOX);
            let mut d = String::new();
            let _ = write!(d, "M{} {}H{}V{}H{}Z", c(from * BOX), c(top), c(right), c(bottom), c(from * BOX));
            match marks.last_mut() {
                Some(Mark::Fill { d: last, paint, .. }) if *paint == shown.color => last.push_str(&d),
                _ => marks.push(Mark::Fill { d, paint: shown.color.clone(), opacity: 0.85 }),
            }
            let fits = (to - from) * plot_px >= shown.text.chars().count() as f64 * CHAR_PX + ROOM_PX
                && stripe_px * filled >= LABEL_PX + 2.0;
            let is_wanted = wanted == "always" || wanted == "auto" && fits;
            if is_wanted && !shown.text.is_empty() && plot.texts.len() < TEXTS_MAX {
                plot.texts.push(inscription(panel, shown, (from, to), middle, plot_px));
            }
        }
        plot.marks.push(SeriesMarks { series: s.index, marks });
    }
    plot
}

/// The text of a state inside its stripe.
fn inscription(panel: &Panel, shown: &Shown, (from, to): (f64, f64), y: f64, plot_px: f64) -> Inscription {
    let room = ROOM_PX / 2.0 / plot_px;
    let align = text(&panel.options, "alignValue").unwrap_or("left");
    let (x, anchor) = match align {
        _ if panel.kind != "state-timeline" => ((from + to) / 2.0, "middle"),
        "center" => ((from + to) / 2.0, "middle"),
        "right" => (to - room, "end"),
        _ => (from + room, "start"),
    };
    Inscription { x, y, anchor, text: shown.text.clone(), color: color::text_on(&shown.color).to_owned() }
}

/// The states that a legend names: all, where there are few.
fn legend_names<'a>(panel: &Panel, states: &'a States) -> Vec<&'a Shown> {
    let is_shown = flag(&panel.options, "legend.showLegend").unwrap_or(true)
        && text(&panel.options, "legend.displayMode") != Some("hidden");
    if !is_shown || states.0.len() > STATES_MAX {
        return Vec::new();
    }
    states.0.iter().filter(|s| !s.text.is_empty()).collect()
}

fn legend(names: &[&Shown], out: &mut String) {
    if names.is_empty() {
        return;
    }
    out.push_str("<ul class=\"legend list bottom\">");
    for shown in names {
        let _ = write!(
            out,
            "<li><span class=\"key\"><svg width=\"14\" height=\"4\" aria-hidden=\"true\"><rect width=\"14\" height=\"4\" rx=\"2\" \
             fill=\"{}\"/></svg>{}</span></li>",
            shown.color,
            escape(&shown.text)
        );
    }
    out.push_str("</ul>");
}

/// Begin, end and number of every state, for the script's tooltip.
fn write_data(fields: &[Styled<'_>], stripes: &[Vec<Stay>], states: &States, window: &Window, out: &mut String) {
    let words: Vec<String> =
        states.0.iter().map(|s| format!("[{},{}]", json_text(&s.text), json_text(&s.color))).collect();
    let series = fields.iter().zip(stripes).map(|(s, stays)| {
        let stays: Vec<String> = stays
            .iter()
            .map(|s| format!("[{},{},{}]", s.from_ms - window.from_ms, s.to_ms - window.from_ms, s.state))
            .collect();
        format!("{{\"n\":{},\"r\":[{}]}}", json_text(&s.name), stays.join(","))
    });
    let _ = write!(
        out,
        "<script type=\"application/json\" class=\"data\">{{\"from\":{},\"to\":{},\"mode\":\"states\",\"words\":[{}],\
         \"series\":[{}]}}</script>",
        window.from_ms,
        window.to_ms,
        words.join(","),
        series.collect::<Vec<_>>().join(",")
    );
}
