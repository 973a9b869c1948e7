//! One panel: from its data to HTML.

mod bargauge;
mod category;
mod gauge;
mod heatmap;
pub(crate) mod legend;
mod paths;
mod pie;
mod stat;
mod status;
pub(super) mod table;
mod text;
pub(crate) mod timeseries;
mod xy;

use std::collections::HashSet;

use jiff::tz::TimeZone;

use super::annotations::Event;
use super::color::Theme;
use super::field::{Look, Settings};
use super::frame::{Field, Frame};
use super::interpolate::Binding;
use super::json;
use super::load::LIBRARY;
use super::model::Panel;
use super::params::Params;
use super::query::PanelData;
use super::reduce::reduce;
use super::scene::{EventMark, Plot};
use super::timerange::Window;

/// What drawing depends on besides panel and data.
pub(crate) struct DrawContext<'a> {
    pub(crate) theme: Theme,
    pub(crate) tz: &'a TimeZone,
    /// Space for the body, CSS pixels. A guess on the first load, exact afterwards.
    pub(crate) width_px: f64,
    pub(crate) height_px: f64,
    /// Names of series that the reader switched off.
    pub(crate) hidden: &'a HashSet<String>,
    /// What a variable's name stands for.
    pub(crate) lookup: &'a dyn Fn(&str) -> Option<Binding>,
    /// Unique on the page.
    pub(crate) key: &'a str,
    /// The panel's id in its file.
    pub(crate) panel: i64,
    /// What happened meanwhile.
    pub(crate) events: &'a [Event],
    /// Where the page lives and what its address says, when panels may add to it.
    pub(crate) page: Option<(&'a str, &'a Params)>,
}

impl DrawContext<'_> {
    fn look(&self) -> Look<'_> {
        Look { theme: self.theme, tz: self.tz }
    }

    /// The name in the address of a setting that belongs to this panel alone.
    fn param_name(&self, name: &str) -> String {
        format!("{}.{name}", self.key)
    }

    /// What the address says of a setting of this panel.
    fn param(&self, name: &str) -> Option<&str> {
        self.page?.1.get(&self.param_name(name))
    }

    /// The address of this page with other settings of this panel; `None` where there is no page to return to.
    fn link(&self, changes: &[(&str, Option<&str>)]) -> Option<String> {
        let (path, params) = self.page?;
        let names: Vec<String> = changes.iter().map(|(n, _)| self.param_name(n)).collect();
        let mut dropped: Vec<&str> = names.iter().map(String::as_str).collect();
        dropped.extend(["w", "h"]);
        let set: Vec<(&str, &str)> =
            names.iter().zip(changes).filter_map(|(n, (_, value))| Some((n.as_str(), (*value)?))).collect();
        Some(format!("{path}{}", params.without(&dropped).with(&set).query()))
    }

    /// The address' parameters as fields of a form, without these settings of this panel.
    fn hidden_fields(&self, without: &[&str]) -> Option<String> {
        let (_, params) = self.page?;
        let dropped: Vec<String> = without.iter().map(|n| self.param_name(n)).collect();
        let kept = params.pairs().iter().filter(|(n, _)| !dropped.contains(n) && n != "w" && n != "h");
        let field = |(name, value): &(String, String)| {
            format!(
                "<input type=\"hidden\" name=\"{}\" value=\"{}\">",
                super::html::escape(name),
                super::html::escape(value)
            )
        };
        Some(kept.map(field).collect())
    }

    fn text(&self, text: &str) -> String {
        super::interpolate::interpolate(text, super::interpolate::Context::Text, self.lookup)
    }
}

/// Panel types that are drawn.
pub(crate) const DRAWN: [&str; 16] = [
    "timeseries",
    "stat",
    "gauge",
    "bargauge",
    "table",
    "text",
    "heatmap",
    "piechart",
    "state-timeline",
    "status-history",
    "barchart",
    "histogram",
    "xychart",
    "trend",
    "dashlist",
    "row",
];

/// Whether a panel shows what it is meant to show rather than a placeholder.
pub(crate) fn is_drawn(panel: &Panel) -> bool {
    panel.foreign_source.is_none() && DRAWN.contains(&panel.kind.as_str())
}

/// Whether the panel type takes queries.
pub(crate) fn needs_data(kind: &str) -> bool {
    !matches!(kind, "text" | "row" | "news" | "dashlist" | "welcome")
}

/// The body of a panel.
pub(crate) fn draw(panel: &Panel, data: &PanelData, window: &Window, context: &DrawContext<'_>) -> String {
    let mut out = String::with_capacity(8 * 1024);
    if let Some(kind) = &panel.foreign_source {
        placeholder(&format!("Data source “{kind}” is not available here."), &mut out);
        return out;
    }
    if needs_data(&panel.kind) && DRAWN.contains(&panel.kind.as_str()) {
        for (ref_id, message) in &data.errors {
            error(ref_id, message, &mut out);
        }
        if !data.errors.is_empty() && data.frames.is_empty() {
            return out;
        }
        if panel.targets.is_empty() {
            placeholder("This panel has no query.", &mut out);
            return out;
        }
    }
    match panel.kind.as_str() {
        "text" => text::draw(panel, context, &mut out),
        "barchart" if category::has_categories(data) => category::draw(panel, data, context, &mut out),
        "histogram" => category::histogram(panel, data, context, &mut out),
        "timeseries" | "barchart" => timeseries::draw(panel, data, window, context, &mut out),
        "xychart" | "trend" => xy::draw(panel, data, context, &mut out),
        "stat" => stat::draw(panel, data, context, &mut out),
        "gauge" => gauge::draw(panel, data, context, &mut out),
        "bargauge" => bargauge::draw(panel, data, context, &mut out),
        "table" => table::draw(panel, data, context, &mut out),
        "heatmap" => heatmap::draw(panel, data, window, context, &mut out),
        "piechart" => pie::draw(panel, data, context, &mut out),
        "state-timeline" | "status-history" => status::draw(panel, data, window, context, &mut out),
        "logs" => placeholder("Logs are not kept here.", &mut out),
        LIBRARY => placeholder("This panel is kept in the library of the Grafana that the file comes from.", &mut out),
        kind if data.frames.is_empty() => {
            placeholder(&format!("Panels of type “{kind}” are not drawn."), &mut out);
        }
        _ => plain(panel, data, window, context, &mut out),
    }
    out
}

/// The data of a panel of a type that is not drawn, as a graph or, where it is no series, as a table.
fn plain(panel: &Panel, data: &PanelData, window: &Window, context: &DrawContext<'_>, out: &mut String) {
    out.push_str("<p class=\"notice\">Panels of type “");
    super::html::escape_into(&panel.kind, out);
    out.push_str("” are not drawn; this is the data of this one.</p>");
    let is_series = |f: &Frame| f.len() > 1 && f.fields.len() == 2 && f.times().is_some();
    match data.frames.iter().all(is_series) {
        true => timeseries::draw(panel, data, window, context, out),
        false => table::draw(panel, data, context, out),
    }
}

/// A plain box with a reason.
fn placeholder(reason: &str, out: &mut String) {
    out.push_str("<div class=\"empty\">");
    super::html::escape_into(reason, out);
    out.push_str("</div>");
}

fn error(ref_id: &str, message: &str, out: &mut String) {
    out.push_str("<div class=\"query-error\" role=\"alert\"><b>");
    super::html::escape_into(ref_id, out);
    out.push_str("</b> ");
    super::html::escape_into(message, out);
    out.push_str("</div>");
}

/// What a panel without data says.
fn no_data(panel: &Panel, out: &mut String) {
    let text = json::text(&panel.field_config.defaults, "noValue").unwrap_or("No data");
    out.push_str("<div class=\"empty\">");
    super::html::escape_into(text, out);
    out.push_str("</div>");
}

/// Puts what happened in the window onto a plot.
fn mark_events(plot: &mut Plot, window: &Window, context: &DrawContext<'_>) {
    let length = window.length_ms().max(1) as f64;
    let share = |t: i64| ((t - window.from_ms) as f64 / length).clamp(0.0, 1.0);
    let is_here = |e: &&Event| e.panel == 0 || e.panel == context.panel;
    let inside = context.events.iter().filter(|e| e.to_ms >= window.from_ms && e.from_ms <= window.to_ms);
    let inside = inside.filter(is_here);
    plot.events.extend(inside.map(|e| {
        EventMark {
            from: share(e.from_ms),
            to: share(e.to_ms),
            color: super::color::resolve(&e.color, context.theme),
            text: format!("{} {} {}", super::timerange::local(e.from_ms, context.tz), e.text, e.tags.join(", "))
                .trim_end()
                .to_owned(),
        }
    }));
}

/// A value field with its settings.
pub(crate) struct Styled<'a> {
    pub(crate) field: &'a Field,
    pub(crate) frame: &'a Frame,
    pub(crate) settings: Settings,
    /// Number among the value fields of the panel; picks the colour.
    pub(crate) index: usize,
    /// Display name after overrides.
    pub(crate) name: String,
    /// Smallest and largest value for colours and gauges.
    pub(crate) range: (f64, f64),
}

/// The value fields of all frames, configured.
pub(crate) fn styled<'a>(
    panel: &Panel,
    frames: &'a [Frame],
    default_color: &str,
    context: &DrawContext<'_>,
) -> Vec<Styled<'a>> {
    let interpolate = |text: &str| context.text(text);
    let rules = panel.field_config.rules(&interpolate);
    let fields = frames.iter().flat_map(|frame| frame.fields.iter().map(move |f| (frame, f)));
    let mut out: Vec<Styled<'a>> = fields
        .filter(|(_, f)| f.is_number())
        .enumerate()
        .map(|(index, (frame, field))| {
            let config = rules.of(field, &frame.ref_id);
            let settings = Settings::of(&config, default_color);
            let name = match &settings.display_name {
                Some(name) => field_text(&interpolate(name), field),
                None if field.display.is_empty() => field.name.clone(),
                None => field.display.clone(),
            };
            Styled { field, frame, settings, index, name, range: (0.0, 100.0) }
        })
        .collect();
    let bounds = |all: &mut dyn Iterator<Item = &Styled<'_>>| {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for s in all {
            let values = s.field.numbers().unwrap_or(&[]);
            low = low.min(reduce("min", values).unwrap_or(f64::INFINITY));
            high = high.max(reduce("max", values).unwrap_or(f64::NEG_INFINITY));
        }
        if low <= high { (low, high) } else { (0.0, 100.0) }
    };
    let overall = bounds(&mut out.iter());
    let own: Vec<(f64, f64)> = out.iter().map(|s| bounds(&mut std::iter::once(s))).collect();
    for (s, own) in out.iter_mut().zip(own) {
        let found = if s.settings.field_min_max { own } else { overall };
        s.range = (s.settings.min.unwrap_or(found.0), s.settings.max.unwrap_or(found.1));
    }
    out
}

/// Replaces `${__field.labels.x}` and the like in a display name.
fn field_text(text: &str, field: &Field) -> String {
    if !text.contains("__") {
        return text.to_owned();
    }
    let mut out = text.replace("${__field.name}", &field.name).replace("${__series.name}", &field.display);
    while let Some(start) = out.find("${__field.labels.") {
        let Some(end) = out[start..].find('}') else { break };
        let name = &out[start + "${__field.labels.".len()..start + end];
        let name = name.trim_matches(['"', '[', ']']);
        let value = field.labels.get(name).unwrap_or("").to_owned();
        out.replace_range(start..=start + end, &value);
    }
    out
}

/// One number with its name, for panels that show single values.
pub(crate) struct Single<'a> {
    pub(crate) styled: &'a Styled<'a>,
    pub(crate) name: String,
    pub(crate) value: Option<f64>,
    /// The calculation that gave the value.
    pub(crate) calc: String,
}

/// How many boxes stand side by side when `n` fill a space so that the squares in them are as large as can be, as in
/// Grafana.
fn boxes_per_row(n: usize, width_px: f64, height_px: f64) -> usize {
    let size = |columns: usize| {
        let rows = n.div_ceil(columns) as f64;
        (width_px / columns as f64).min(height_px / rows)
    };
    let best = (1..=n.clamp(1, BOXES_MAX)).max_by(|a, b| size(*a).total_cmp(&size(*b)).then(b.cmp(a)));
    best.unwrap_or(1)
}

/// The size of text that a panel names, `valueSize` or `titleSize`, CSS pixels.
pub(super) fn text_px(panel: &Panel, name: &str) -> Option<f64> {
    json::number(&panel.options, &format!("text.{name}")).filter(|v| *v > 0.0).map(|v| v.round().clamp(6.0, 120.0))
}

/// The class that gives text its size, where the panel names one; ends with a blank before it.
pub(super) fn text_class(panel: &Panel, name: &str) -> String {
    text_px(panel, name).map(|px| format!(" px{px:.0}")).unwrap_or_default()
}

/// Boxes in a row, as many as the style has classes for.
const BOXES_MAX: usize = 25;
/// Room between them, as the style has it.
const BOX_GAP_PX: f64 = 6.0;

/// Opens the box around single values, which stand as the panel's orientation says; answers with the size of each.
pub(super) fn open_boxes(
    panel: &Panel,
    n: usize,
    class: &str,
    context: &DrawContext<'_>,
    out: &mut String,
) -> (f64, f64) {
    let columns = match json::text(&panel.options, "orientation").unwrap_or("auto") {
        "horizontal" => 1,
        "vertical" => n.clamp(1, BOXES_MAX),
        _ => boxes_per_row(n, context.width_px, context.height_px),
    };
    out.push_str(&format!("<div class=\"stats {class} c{columns}\">"));
    let share = |whole: f64, n: usize| (whole - BOX_GAP_PX * (n - 1) as f64).max(1.0) / n as f64;
    (share(context.width_px, columns), share(context.height_px, n.div_ceil(columns).max(1)))
}

/// Values that a panel shows at most.
const SINGLES_MAX: usize = 100;

/// Reduces every field by `reduceOptions`.
pub(crate) fn singles<'a>(panel: &Panel, fields: &'a [Styled<'a>], default_calc: &str) -> Vec<Single<'a>> {
    let options = &panel.options;
    let mut calcs = json::strings(options, "reduceOptions.calcs");
    if calcs.is_empty() {
        calcs.push(default_calc.to_owned());
    }
    let limit = json::integer(options, "reduceOptions.limit").unwrap_or(25).clamp(1, SINGLES_MAX as i64) as usize;
    let only = json::text(options, "reduceOptions.fields").filter(|f| !f.is_empty());
    let only = only.and_then(|p| super::pattern::Pattern::new(p).ok());
    let every_row = json::flag(options, "reduceOptions.values").unwrap_or(false);
    let mut out = Vec::new();
    for styled in fields {
        if styled.settings.custom_flag("hideFrom.viz") {
            continue;
        }
        if only.as_ref().is_some_and(|p| !p.is_match(&styled.name) && !p.is_match(&styled.field.name)) {
            continue;
        }
        let values = styled.field.numbers().unwrap_or(&[]);
        if every_row {
            for (row, value) in values.iter().enumerate().take(limit) {
                let name = row_name(styled, row);
                out.push(Single { styled, name, value: *value, calc: "last".to_owned() });
            }
            continue;
        }
        for calc in &calcs {
            let name = match calcs.len() {
                1 => styled.name.clone(),
                _ => format!("{} {}", super::reduce::title(calc), styled.name),
            };
            out.push(Single { styled, name, value: reduce(calc, values), calc: calc.clone() });
        }
    }
    out.truncate(if every_row { limit } else { SINGLES_MAX.min(limit.max(25)) });
    out
}

/// The text of a row: its first text column, else the field's name.
fn row_name(styled: &Styled<'_>, row: usize) -> String {
    let text = styled.frame.fields.iter().find_map(|f| match &f.values {
        super::frame::Values::Text(all) => all.get(row).cloned().flatten(),
        _ => None,
    });
    text.unwrap_or_else(|| styled.name.clone())
}
