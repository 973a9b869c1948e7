//! The table panel.

use std::cmp::Ordering;
use std::fmt::Write as _;

use crate::dashboard::color;
use crate::dashboard::field::{Settings, Shown};
use crate::dashboard::frame::{Field, Frame, NO_TIME, Trend, Values};
use crate::dashboard::html::{escape, escape_into, is_safe_url};
use crate::dashboard::interpolate::{Binding, Context, interpolate, percent_encode};
use crate::dashboard::json::{flag, integer, list, text};
use crate::dashboard::model::Panel;
use crate::dashboard::query::PanelData;
use crate::dashboard::reduce::reduce;
use crate::dashboard::scene::percent;
use crate::dashboard::timerange::local;

use super::{DrawContext, no_data};

/// Rows that are written.
const ROWS_MAX: usize = 1_000;

struct Column<'a> {
    field: &'a Field,
    settings: Settings,
    name: String,
    range: (f64, f64),
    index: usize,
}

pub(super) fn draw(panel: &Panel, data: &PanelData, context: &DrawContext<'_>, out: &mut String) {
    let index = integer(&panel.options, "frameIndex").and_then(|i| usize::try_from(i).ok()).unwrap_or(0);
    let frame = data.frames.get(index).or(data.frames.first()).filter(|f| f.len() > 0);
    let Some(frame) = frame else {
        no_data(panel, out);
        return;
    };
    let columns = columns(panel, frame, context);
    let mut rows: Vec<usize> = (0..frame.len()).collect();
    sort(panel, &columns, &mut rows);
    out.push_str("<div class=\"table-wrap\"><table class=\"data\">");
    if flag(&panel.options, "showHeader").unwrap_or(true) {
        out.push_str("<thead><tr>");
        for c in &columns {
            let _ = write!(out, "<th{}>{}</th>", class(c), escape(&c.name));
        }
        out.push_str("</tr></thead>");
    }
    out.push_str("<tbody>");
    for row in rows.iter().take(ROWS_MAX) {
        out.push_str("<tr>");
        for c in &columns {
            cell(c, &columns, *row, context, out);
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody>");
    footer(panel, &columns, context, out);
    out.push_str("</table></div>");
    if rows.len() > ROWS_MAX {
        let _ = write!(out, "<p class=\"notice\">{ROWS_MAX} of {} rows are shown.</p>", rows.len());
    }
    if data.frames.len() > 1 {
        let _ = write!(out, "<p class=\"notice\">Result {} of {}.</p>", index + 1, data.frames.len());
    }
}

fn columns<'a>(panel: &Panel, frame: &'a Frame, context: &DrawContext<'_>) -> Vec<Column<'a>> {
    let interpolate = |text: &str| context.text(text);
    let mut numbers = 0;
    let mut out = Vec::new();
    for field in &frame.fields {
        let config = panel.field_config.of(field, &frame.ref_id, &interpolate);
        let settings = Settings::of(&config, "thresholds");
        if field.is_number() {
            numbers += 1;
        }
        if settings.custom_flag("hidden") || settings.custom_flag("hideFrom.viz") {
            continue;
        }
        let name = settings.display_name.as_deref().map(interpolate).unwrap_or_else(|| match field.display.as_str() {
            "" => field.name.clone(),
            shown => shown.to_owned(),
        });
        let values = field.numbers().unwrap_or(&[]);
        let range = (
            settings.min.or(reduce("min", values)).unwrap_or(0.0),
            settings.max.or(reduce("max", values)).unwrap_or(100.0),
        );
        out.push(Column { field, settings, name, range, index: numbers.max(1) - 1 });
    }
    out
}

/// The value that a small graph ends with.
fn last(trend: Option<&Trend>) -> Option<f64> {
    reduce("lastNotNull", &trend?.values)
}

/// The order of two rows by one column; empty cells come first.
pub(crate) fn compare(field: &Field, a: usize, b: usize) -> Ordering {
    match &field.values {
        Values::Time(all) => all[a].cmp(&all[b]),
        Values::Number(all) => {
            let key = |i: usize| all[i].unwrap_or(f64::NEG_INFINITY);
            key(a).total_cmp(&key(b))
        }
        Values::Text(all) => {
            crate::dashboard::variables::natural(all[a].as_deref().unwrap_or(""), all[b].as_deref().unwrap_or(""))
        }
        Values::Trend(all) => {
            let key = |i: usize| last(all[i].as_ref()).unwrap_or(f64::NEG_INFINITY);
            key(a).total_cmp(&key(b))
        }
    }
}

fn sort(panel: &Panel, columns: &[Column<'_>], rows: &mut [usize]) {
    for rule in list(&panel.options, "sortBy").iter().rev() {
        let Some(name) = text(rule, "displayName") else { continue };
        let Some(column) = columns.iter().find(|c| c.name == name || c.field.name == name) else { continue };
        rows.sort_by(|a, b| compare(column.field, *a, *b));
        if flag(rule, "desc") == Some(true) {
            rows.reverse();
        }
    }
}

fn class(c: &Column<'_>) -> &'static str {
    match (c.settings.custom_text("align", "auto"), c.field.is_number()) {
        ("right", _) | ("auto" | "", true) => " class=\"num\"",
        ("center", _) => " class=\"mid\"",
        _ => "",
    }
}

fn shown(c: &Column<'_>, row: usize, context: &DrawContext<'_>) -> Shown {
    let plain = |text: String| Shown { text, color: color::resolve("text", context.theme) };
    match &c.field.values {
        Values::Time(all) if all[row] == NO_TIME => plain(String::new()),
        Values::Time(all) => {
            let custom =
                (!c.settings.unit_id.is_empty()).then(|| c.settings.number_text(all[row] as f64, &context.look()));
            plain(custom.unwrap_or_else(|| local(all[row], context.tz)))
        }
        Values::Trend(all) => c.settings.show(last(all[row].as_ref()), c.range, c.index, &c.name, &context.look()),
        Values::Number(all) => c.settings.show(all[row], c.range, c.index, &c.name, &context.look()),
        Values::Text(all) => c.settings.show_text(all[row].as_deref().unwrap_or(""), &context.look()),
    }
}

fn cell(c: &Column<'_>, columns: &[Column<'_>], row: usize, context: &DrawContext<'_>, out: &mut String) {
    let shown = shown(c, row, context);
    let kind = match c.settings.custom_text("cellOptions.type", "auto") {
        "auto" => c.settings.custom_text("displayMode", "auto"),
        kind => kind,
    };
    let link = c.settings.links.first().map(|l| (link_url(&l.url, c, columns, row, context), l));
    let mut body = String::new();
    match kind {
        k if k.contains("gauge") || k == "basic" || k == "lcd" => {
            let (min, max) = c.range;
            let v = c.field.numbers().and_then(|all| all[row]).filter(|v| v.is_finite());
            let share = v.map_or(0.0, |v| if max > min { ((v - min) / (max - min)).clamp(0.0, 1.0) } else { 0.0 });
            let _ = write!(
                body,
                "<span class=\"cellbar\"><svg aria-hidden=\"true\"><rect class=\"rest\" width=\"100%\" height=\"100%\" rx=\"2\"/>\
                 <rect width=\"{}%\" height=\"100%\" rx=\"2\" fill=\"{}\"/></svg><span>{}</span></span>",
                percent(share),
                shown.color,
                escape(&shown.text)
            );
        }
        _ => escape_into(&shown.text, &mut body),
    }
    if let Some((url, link)) = link
        && is_safe_url(&url)
    {
        let target = if link.new_tab { " target=\"_blank\" rel=\"noopener\"" } else { "" };
        body = format!("<a href=\"{}\"{target}>{body}</a>", escape(&url));
    }
    let class = class(c);
    // Cell colours differ by value; these attributes need no inline style.
    let _ = match kind {
        "color-background" | "color-background-solid" => {
            let ink = color::text_on(&shown.color);
            write!(out, "<td{class} bgcolor=\"{}\"><font color=\"{ink}\">{body}</font></td>", shown.color)
        }
        "color-text" => write!(out, "<td{class}><font color=\"{}\">{body}</font></td>", shown.color),
        _ => write!(out, "<td{class}>{body}</td>"),
    };
}

/// The address of a link in a cell.
fn link_url(template: &str, c: &Column<'_>, columns: &[Column<'_>], row: usize, context: &DrawContext<'_>) -> String {
    let raw = |c: &Column<'_>| c.field.cell(row).unwrap_or_default();
    interpolate(template, Context::Text, &|name| {
        let value = match name {
            "__value.raw" | "__value.numeric" => raw(c),
            "__value.text" | "__value" => shown(c, row, context).text,
            "__field.name" => c.field.name.clone(),
            "__series.name" => c.name.clone(),
            _ => {
                if let Some(label) = name.strip_prefix("__field.labels.") {
                    c.field.labels.get(label).unwrap_or("").to_owned()
                } else if let Some(field) = name.strip_prefix("__data.fields") {
                    let field = field.trim_start_matches('.').trim_matches(['[', ']', '"', '\'']);
                    let named = columns.iter().find(|c| c.name == field || c.field.name == field);
                    let numbered = field.parse::<usize>().ok().and_then(|i| columns.get(i));
                    named.or(numbered).map(raw).unwrap_or_default()
                } else {
                    let mut binding = (context.lookup)(name)?;
                    binding.values = binding.values.iter().map(|v| percent_encode(v)).collect();
                    return Some(binding);
                }
            }
        };
        Some(Binding::plain(percent_encode(&value)))
    })
}

fn footer(panel: &Panel, columns: &[Column<'_>], context: &DrawContext<'_>, out: &mut String) {
    if flag(&panel.options, "footer.show") != Some(true) {
        return;
    }
    let calcs = crate::dashboard::json::strings(&panel.options, "footer.reducer");
    let Some(calc) = calcs.first() else { return };
    out.push_str("<tfoot><tr>");
    for (i, c) in columns.iter().enumerate() {
        let value = c.field.numbers().and_then(|all| reduce(calc, all));
        let body = match value {
            Some(_) => c.settings.show(value, c.range, c.index, &c.name, &context.look()).text,
            None if i == 0 => crate::dashboard::reduce::title(calc).to_owned(),
            None => String::new(),
        };
        let _ = write!(out, "<td{}>{}</td>", class(c), escape(&body));
    }
    out.push_str("</tr></tfoot>");
}
