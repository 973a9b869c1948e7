//! The legend of a graph: a list or a table, with calculated values.

use std::fmt::Write as _;

use crate::dashboard::html::escape;
use crate::dashboard::json::{flag, number, strings, text};
use crate::dashboard::reduce::{is_unitless, reduce, title};
use crate::dashboard::variables::natural;
use serde_json::Value;

use super::{DrawContext, Styled};

/// How a legend looks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Legend {
    pub(crate) shown: bool,
    pub(crate) is_table: bool,
    pub(crate) is_right: bool,
    calcs: Vec<String>,
    sort_by: String,
    sort_desc: bool,
    /// Width on the right that the dashboard asks for.
    width_px: Option<f64>,
}

/// A line of the legend.
pub(crate) struct Entry<'a> {
    pub(crate) styled: &'a Styled<'a>,
    pub(crate) color: String,
    pub(crate) is_hidden: bool,
    /// On the second axis.
    pub(crate) is_right: bool,
}

impl Legend {
    pub(crate) fn of(options: &Value) -> Self {
        let mode = text(options, "legend.displayMode").unwrap_or("list");
        Self {
            shown: flag(options, "legend.showLegend").unwrap_or(true) && mode != "hidden",
            is_table: mode == "table",
            is_right: text(options, "legend.placement") == Some("right"),
            calcs: strings(options, "legend.calcs"),
            sort_by: text(options, "legend.sortBy").unwrap_or("").to_owned(),
            sort_desc: flag(options, "legend.sortDesc").unwrap_or(false),
            width_px: number(options, "legend.width").filter(|w| *w > 0.0),
        }
    }

    /// The legend as it is in a panel of this width: beside a narrow plot it would leave that no room.
    pub(crate) fn in_width(self, width_px: f64) -> Self {
        let least_px = if self.is_table { (310.0 + 64.0 * self.calcs.len() as f64).max(420.0) } else { 324.0 };
        Self { is_right: self.is_right && width_px >= least_px, ..self }
    }

    /// Height that the legend will take under a plot of this width, CSS pixels.
    pub(crate) fn height_px(&self, names: &[&str], width_px: f64, space_px: f64) -> f64 {
        if !self.shown || self.is_right || names.is_empty() {
            return 0.0;
        }
        let lines = if self.is_table {
            names.len() + 2
        } else {
            let extra = 11.0 * self.calcs.len() as f64;
            let total: f64 = names.iter().map(|n| (n.chars().count() as f64 + extra) * 6.4 + 34.0).sum();
            (total / width_px.max(1.0)).ceil() as usize
        };
        (lines as f64 * 20.0 + 6.0).min(space_px * 0.4)
    }

    /// Share of the panel's width that a legend on the right takes, in steps that the style has classes for.
    pub(crate) fn right_share(&self, names: &[&str], width_px: f64) -> f64 {
        if !self.is_right || !self.shown {
            return 0.0;
        }
        const NAME_CHARS_MAX: usize = 40;
        let longest = names.iter().map(|n| n.chars().count()).max().unwrap_or(0).min(NAME_CHARS_MAX);
        let name = longest as f64 * 6.5 + 38.0;
        let wanted = match self.width_px {
            Some(width) => width,
            None if self.is_table => name + 64.0 * self.calcs.len() as f64,
            None => name + 11.0 * 6.5 * self.calcs.len() as f64,
        };
        (wanted / width_px.max(1.0) * 20.0).ceil().clamp(3.0, 11.0) / 20.0
    }

    /// Writes the legend of these entries.
    pub(crate) fn write(&self, entries: &mut [Entry<'_>], context: &DrawContext<'_>, out: &mut String) {
        if !self.shown || entries.is_empty() {
            return;
        }
        self.sort(entries);
        let names: Vec<&str> = entries.iter().map(|e| e.styled.name.as_str()).collect();
        let place = match self.right_share(&names, context.width_px) {
            share if share > 0.0 => format!("right lw{:.0}", share * 100.0),
            _ => "bottom".to_owned(),
        };
        if self.is_table {
            let _ = write!(out, "<div class=\"legend table {place}\"><table><thead><tr><th>Name</th>");
            for calc in &self.calcs {
                let _ = write!(out, "<th class=\"num\">{}</th>", escape(title(calc)));
            }
            out.push_str("</tr></thead><tbody>");
            for entry in entries.iter() {
                let _ = write!(out, "<tr{}><td>", off(entry));
                button(entry, out);
                out.push_str("</td>");
                for calc in &self.calcs {
                    let _ = write!(out, "<td class=\"num\">{}</td>", escape(&calc_text(entry, calc, context)));
                }
                out.push_str("</tr>");
            }
            out.push_str("</tbody></table></div>");
            return;
        }
        let _ = write!(out, "<ul class=\"legend list {place}\">");
        for entry in entries.iter() {
            let _ = write!(out, "<li{}>", off(entry));
            button(entry, out);
            for calc in &self.calcs {
                let _ = write!(
                    out,
                    "<span class=\"calc\">{}: {}</span>",
                    escape(title(calc)),
                    escape(&calc_text(entry, calc, context))
                );
            }
            out.push_str("</li>");
        }
        out.push_str("</ul>");
    }

    fn sort(&self, entries: &mut [Entry<'_>]) {
        if self.sort_by.is_empty() {
            return;
        }
        if self.sort_by == "Name" {
            entries.sort_by(|a, b| natural(&a.styled.name, &b.styled.name));
        } else if let Some(calc) = self.calcs.iter().find(|c| title(c) == self.sort_by || **c == self.sort_by) {
            let key =
                |e: &Entry<'_>| reduce(calc, e.styled.field.numbers().unwrap_or(&[])).unwrap_or(f64::NEG_INFINITY);
            entries.sort_by(|a, b| key(a).total_cmp(&key(b)));
        } else {
            return;
        }
        if self.sort_desc {
            entries.reverse();
        }
    }
}

fn off(entry: &Entry<'_>) -> &'static str {
    if entry.is_hidden { " class=\"off\"" } else { "" }
}

fn button(entry: &Entry<'_>, out: &mut String) {
    let name = escape(&entry.styled.name);
    let axis = if entry.is_right { " <i>(right y-axis)</i>" } else { "" };
    let _ = write!(
        out,
        "<button type=\"button\" class=\"key\" data-s=\"{}\" data-name=\"{name}\" title=\"{name}\">\
         <svg width=\"14\" height=\"4\" aria-hidden=\"true\"><rect width=\"14\" height=\"4\" rx=\"2\" fill=\"{}\"/></svg>\
         <span>{name}</span>{axis}</button>",
        entry.styled.index, entry.color
    );
}

fn calc_text(entry: &Entry<'_>, calc: &str, context: &DrawContext<'_>) -> String {
    let Some(v) = reduce(calc, entry.styled.field.numbers().unwrap_or(&[])) else { return "-".to_owned() };
    if is_unitless(calc) {
        return crate::dashboard::units::js_number(v);
    }
    let s = entry.styled;
    s.settings.show(Some(v), s.range, s.index, &s.name, &context.look()).text
}
