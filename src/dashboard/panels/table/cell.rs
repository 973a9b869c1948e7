//! Cells of tables: text, colours, bars, small graphs, pictures and links.

use std::fmt::Write as _;

use crate::dashboard::color;
use crate::dashboard::field::Shown;
use crate::dashboard::frame::{NO_TIME, Trend, Values};
use crate::dashboard::html::{colored, escape, escape_into, is_safe_url};
use crate::dashboard::interpolate::{Binding, Context, interpolate};
use crate::dashboard::json::flag;
use crate::dashboard::panels::DrawContext;
use crate::dashboard::scene::{percent, short};
use crate::dashboard::timerange::local;

use super::{Column, last};

/// Parts of a bar that is drawn as lamps.
const LAMPS: usize = 24;

/// What a cell looks like; the older and the newer way to say it.
fn kind<'a>(c: &'a Column<'_>) -> &'a str {
    match c.settings.custom_text("cellOptions.type", "auto") {
        "auto" => match c.settings.custom_text("displayMode", "auto") {
            "basic" | "lcd-gauge" | "gradient-gauge" => "gauge",
            "color-background-solid" => "color-background",
            other => other,
        },
        kind => kind,
    }
}

/// Attributes that place the text of a column.
pub(super) fn class(c: &Column<'_>) -> &'static str {
    let wraps = flag(&c.settings.custom, "cellOptions.wrapText").unwrap_or(false);
    let is_number = matches!(c.field.values, Values::Number(_));
    match (c.settings.custom_text("align", "auto"), is_number) {
        ("right", _) | ("auto" | "", true) => " class=\"num\"",
        ("center", _) => " class=\"mid\"",
        _ if wraps => " class=\"wrap\"",
        _ => "",
    }
}

/// Text and colour of a cell.
pub(super) fn shown(c: &Column<'_>, row: usize, context: &DrawContext<'_>) -> Shown {
    let plain = |text: String| Shown { text, color: color::resolve("text", context.theme) };
    let number = |v| c.settings.show(v, c.range, c.index, &c.name, &context.look());
    match &c.field.values {
        Values::Time(all) if all[row] == NO_TIME => plain(String::new()),
        Values::Time(all) => {
            // A unit for all columns is mostly none of times.
            let is_of_times = ["time:", "dateTime"].iter().any(|u| c.settings.unit_id.starts_with(u));
            let custom = is_of_times.then(|| c.settings.number_text(all[row] as f64, &context.look()));
            plain(custom.unwrap_or_else(|| local(all[row], context.tz)))
        }
        Values::Number(all) => number(all[row]),
        Values::Trend(all) => number(last(all[row].as_ref())),
        Values::Text(all) => c.settings.show_text(all[row].as_deref().unwrap_or(""), &context.look()),
    }
}

/// One row of cells. A column may colour the whole row.
pub(super) fn write_row(columns: &[Column<'_>], row: usize, context: &DrawContext<'_>, out: &mut String) {
    let paints = |c: &&Column<'_>| {
        kind(c) == "color-background" && flag(&c.settings.custom, "cellOptions.applyToRow") == Some(true)
    };
    let background = columns.iter().find(paints).map(|c| shown(c, row, context).color);
    match &background {
        Some(color) => {
            let _ = write!(out, "<tr class=\"painted\" bgcolor=\"{}\">", color::plain(color));
        }
        None => out.push_str("<tr>"),
    }
    for (i, c) in columns.iter().enumerate() {
        cell(c, i, columns, row, background.as_deref(), context, out);
    }
    out.push_str("</tr>");
}

fn cell(
    c: &Column<'_>,
    column: usize,
    columns: &[Column<'_>],
    row: usize,
    background: Option<&str>,
    context: &DrawContext<'_>,
    out: &mut String,
) {
    let shown = shown(c, row, context);
    let kind = kind(c);
    let mut body = String::new();
    match (kind, &c.field.values) {
        (_, Values::Trend(all)) => trend(all[row].as_ref(), c, &shown, &mut body),
        ("gauge", Values::Number(all)) => {
            gauge(all[row], c, &shown, &format!("{}c{column}r{row}", context.key), context, &mut body)
        }
        ("image", _) if is_safe_url(&shown.text) => {
            let _ = write!(body, "<img src=\"{}\" alt=\"\" height=\"24\">", escape(&shown.text));
        }
        ("json-view", _) => {
            let _ = write!(body, "<code>{}</code>", escape(&shown.text));
        }
        ("pill", _) => {
            for part in shown.text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
                let _ = write!(body, "<span class=\"chip\">{}</span> ", escape(part));
            }
        }
        _ => escape_into(&shown.text, &mut body),
    }
    write_links(c, columns, row, context, &mut body);
    let class = class(c);
    let title = escape(&shown.text);
    // Cell colours differ by value; these attributes need no inline style.
    let _ = match (kind, background) {
        (_, Some(color)) => {
            write!(out, "<td{class} title=\"{title}\"><font color=\"{}\">{body}</font></td>", color::text_on(color))
        }
        ("color-background", None) if !matches!(shown.color.as_str(), "transparent" | "currentColor") => write!(
            out,
            "<td{class} title=\"{title}\" bgcolor=\"{}\"><font color=\"{}\">{body}</font></td>",
            color::plain(&shown.color),
            color::text_on(&shown.color)
        ),
        ("color-text", None) => {
            write!(out, "<td{class} title=\"{title}\">{}</td>", colored(&shown.color, &body))
        }
        _ => write!(out, "<td{class} title=\"{title}\">{body}</td>"),
    };
}

/// A bar from the column's minimum to its maximum, with the value beside it.
fn gauge(v: Option<f64>, c: &Column<'_>, shown: &Shown, id: &str, context: &DrawContext<'_>, out: &mut String) {
    let (min, max) = c.range;
    let share = |v: f64| if max > min { ((v - min) / (max - min)).clamp(0.0, 1.0) } else { 0.0 };
    let end = v.filter(|v| v.is_finite()).map_or(0.0, share);
    let mode = match (c.settings.custom_text("cellOptions.mode", ""), c.settings.custom_text("displayMode", "")) {
        ("", "lcd-gauge") => "lcd",
        ("", "basic") => "basic",
        ("", _) => "gradient",
        (mode, _) => mode,
    };
    let color_at = |share: f64| {
        let v = min + (max - min) * share;
        c.settings.value_color(v, c.range, c.index, &c.name, context.theme)
    };
    out.push_str("<span class=\"cellbar\"><svg aria-hidden=\"true\">");
    match mode {
        "lcd" => {
            for k in 0..LAMPS {
                let from = k as f64 / LAMPS as f64;
                let (color, opacity) = if from < end { (color_at(from), "1") } else { (color_at(from), ".18") };
                let _ = write!(
                    out,
                    "<rect x=\"{}%\" width=\"{}%\" height=\"100%\" fill=\"{color}\" fill-opacity=\"{opacity}\"/>",
                    percent(from),
                    percent(0.7 / LAMPS as f64)
                );
            }
        }
        "gradient" => {
            let _ = write!(out, "<defs><linearGradient id=\"{id}\">");
            for step in 0..=3 {
                let at = f64::from(step) / 3.0;
                let _ = write!(out, "<stop offset=\"{}\" stop-color=\"{}\"/>", short(at), color_at(at * end));
            }
            let _ = write!(
                out,
                "</linearGradient></defs><rect class=\"rest\" width=\"100%\" height=\"100%\" rx=\"2\"/>\
                 <rect width=\"{}%\" height=\"100%\" rx=\"2\" fill=\"url(#{id})\"/>",
                percent(end)
            );
        }
        _ => {
            let _ = write!(
                out,
                "<rect class=\"rest\" width=\"100%\" height=\"100%\" rx=\"2\"/>\
                 <rect width=\"{}%\" height=\"100%\" rx=\"2\" fill=\"{}\"/>",
                percent(end),
                shown.color
            );
        }
    }
    let text = escape(&shown.text);
    let _ = match c.settings.custom_text("cellOptions.valueDisplayMode", "color") {
        "hidden" => write!(out, "</svg></span>"),
        "text" => write!(out, "</svg><span>{text}</span></span>"),
        _ => write!(out, "</svg>{}</span>", colored(&shown.color, &text)),
    };
}

/// A series as a small graph with its last value.
fn trend(trend: Option<&Trend>, c: &Column<'_>, shown: &Shown, out: &mut String) {
    let Some(trend) = trend else { return };
    let points: Vec<(i64, f64)> = trend
        .times
        .iter()
        .zip(&trend.values)
        .filter_map(|(t, v)| Some((*t, (*v).filter(|v| v.is_finite())?)))
        .collect();
    let (Some(first), Some(end)) = (trend.times.first(), trend.times.last()) else { return };
    let bounds = points.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |b, p| (b.0.min(p.1), b.1.max(p.1)));
    let low = c.settings.min.unwrap_or(bounds.0);
    let high = c.settings.max.unwrap_or(bounds.1);
    let (width, span) = ((end - first).max(1) as f64, high - low);
    let mut d = String::new();
    for (i, (t, v)) in points.iter().enumerate() {
        let x = (t - first) as f64 / width * 100.0;
        let y = if span > 0.0 { 22.0 - 20.0 * ((v - low) / span).clamp(0.0, 1.0) } else { 12.0 };
        let _ = write!(d, "{}{} {}", if i == 0 { 'M' } else { 'L' }, short(x), short(y));
    }
    let _ = write!(
        out,
        "<span class=\"cellbar\"><svg class=\"trend\" viewBox=\"0 0 100 24\" preserveAspectRatio=\"none\" aria-hidden=\"true\">\
         <path d=\"{d}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.3\" vector-effect=\"non-scaling-stroke\"/></svg>",
        shown.color
    );
    if flag(&c.settings.custom, "cellOptions.hideValue") != Some(true) {
        let _ = write!(out, "<span>{}</span>", escape(&shown.text));
    }
    out.push_str("</span>");
}

/// Makes the first link of the column that of the cell's text, and puts further ones behind it.
fn write_links(c: &Column<'_>, columns: &[Column<'_>], row: usize, context: &DrawContext<'_>, body: &mut String) {
    const LINKS_MAX: usize = 8;
    for (i, link) in c.settings.links.iter().take(LINKS_MAX).enumerate() {
        let url = interpolate(&link.url, Context::Url, &|name| value_of(name, c, columns, row, context));
        if !is_safe_url(&url) {
            continue;
        }
        let title = interpolate(&link.title, Context::Text, &|name| value_of(name, c, columns, row, context));
        let (url, title) = (escape(&url), escape(&title));
        let target = if link.new_tab { " target=\"_blank\" rel=\"noopener\"" } else { "" };
        if i == 0 {
            *body = format!("<a href=\"{url}\" title=\"{title}\"{target}>{body}</a>");
        } else {
            let _ = write!(
                body,
                " <a class=\"more\" href=\"{url}\" title=\"{title}\" aria-label=\"{title}\"{target}>↗</a>"
            );
        }
    }
}

/// What a name in a link stands for: parts of the cell, of its row, and variables.
fn value_of(
    name: &str,
    c: &Column<'_>,
    columns: &[Column<'_>],
    row: usize,
    context: &DrawContext<'_>,
) -> Option<Binding> {
    let raw = |c: &Column<'_>| c.field.cell(row).unwrap_or_default();
    let value = match name {
        "__value.raw" | "__value.numeric" | "__value.time" => raw(c),
        "__value.text" | "__value" => shown(c, row, context).text,
        "__field.name" | "__field.displayName" => c.name.clone(),
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
                if matches!(name, "__url_time_range" | "__all_variables") {
                    // A piece of an address already.
                    binding.raw_all = binding.values.first().cloned();
                }
                return Some(binding);
            }
        }
    };
    Some(Binding::plain(value))
}
