//! The table panel on a picture: columns as wide as their texts ask, rows until the space ends.

use std::fmt::Write as _;

use crate::dashboard::html::escape;
use crate::dashboard::scene::short;

use super::Area;
use super::dom::Element;
use super::layout::{Pen, colored, plain};
use super::svg;
use super::text::{Anchor, fit, width, write as write_text};

const ROW_PX: f64 = 28.0;
const SIZE: f64 = 13.0;
/// Room on both sides of a cell's text.
const PAD: f64 = 10.0;
const COLUMN_MAX: f64 = 480.0;
/// Room for a bar or a small graph.
const BAR_PX: f64 = 120.0;

pub(super) fn draw(e: &Element, area: Area, pen: &Pen<'_>, out: &mut String) {
    let Some(table) = e.find("table") else { return };
    let part = |name: &str| -> Vec<&Element> {
        let found = table.elements().find(|p| p.name == name);
        found.map(|p| p.elements().filter(|r| r.name == "tr").collect()).unwrap_or_default()
    };
    let (head, rows, foot) = (part("thead"), part("tbody"), part("tfoot"));
    let widths = widths(table, &[&head, &rows, &foot], area.w);
    let _ = write!(
        out,
        "<svg x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\">",
        short(area.x),
        short(area.y),
        short(area.w),
        short(area.h)
    );
    let inner = Area { x: 0.0, y: 0.0, ..area };
    let foot_px = foot.len() as f64 * ROW_PX;
    let mut y = 0.0;
    for row in &head {
        cells(row, &widths, y, Some(pen.palette.link), pen, out);
        y += ROW_PX;
        line(inner, y, pen.palette.line, out);
    }
    for row in &rows {
        if y + ROW_PX > inner.h - foot_px + 1.0 {
            break;
        }
        cells(row, &widths, y, None, pen, out);
        y += ROW_PX;
        line(inner, y, pen.palette.grid, out);
    }
    for row in &foot {
        line(inner, y, pen.palette.line, out);
        cells(row, &widths, y, None, pen, out);
        y += ROW_PX;
    }
    out.push_str("</svg>");
}

fn line(area: Area, y: f64, color: &str, out: &mut String) {
    let _ = write!(out, "<path d=\"M0 {0}H{1}\" stroke=\"{color}\"/>", short(y - 0.5), short(area.w));
}

fn widths(table: &Element, parts: &[&[&Element]], room: f64) -> Vec<f64> {
    let mut out: Vec<f64> = Vec::new();
    for row in parts.iter().flat_map(|rows| rows.iter()) {
        for (i, cell) in row.elements().enumerate() {
            if out.len() <= i {
                out.push(0.0);
            }
            let bar = if cell.find("svg").is_some() { BAR_PX } else { 0.0 };
            out[i] = out[i].max((width(&plain(cell), SIZE) + 2.0 * PAD + bar).min(COLUMN_MAX));
        }
    }
    let columns = table.elements().find(|e| e.name == "colgroup");
    let wanted: Vec<Option<f64>> =
        columns.map(|c| c.elements().map(|c| c.number("width")).collect()).unwrap_or_default();
    for (w, wanted) in out.iter_mut().zip(&wanted) {
        *w = wanted.unwrap_or(*w);
    }
    let total: f64 = out.iter().sum();
    if total > 0.0 && total < room {
        // Columns that name no width share what is left; all of them when none is free.
        let free = |i: usize| wanted.get(i).copied().flatten().is_none();
        let any_free = (0..out.len()).any(free);
        let flexible: f64 = out.iter().enumerate().filter(|(i, _)| !any_free || free(*i)).map(|(_, w)| *w).sum();
        let rest = room - total;
        for (i, w) in out.iter_mut().enumerate() {
            if !any_free || free(i) {
                *w += rest * *w / flexible;
            }
        }
    }
    out
}

fn cells(row: &Element, widths: &[f64], y: f64, head: Option<&str>, pen: &Pen<'_>, out: &mut String) {
    let mut x = 0.0;
    for (cell, w) in row.elements().zip(widths) {
        if let Some(color) = cell.attribute("bgcolor").or(row.attribute("bgcolor")) {
            let _ = write!(
                out,
                "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{ROW_PX}\" fill=\"{}\"/>",
                short(x),
                short(y),
                short(*w),
                escape(color)
            );
        }
        let otherwise = match head {
            Some(color) => color,
            None if cell.find("a").is_some() => pen.palette.link,
            None => pen.palette.text,
        };
        let color = colored(cell, otherwise, pen.palette.text);
        let text = plain(cell);
        let mut room = Area { x: x + PAD, y, w: w - 2.0 * PAD, h: ROW_PX };
        if let Some(bar) = cell.find("svg") {
            let value = if text.is_empty() { 0.0 } else { width(&text, SIZE).max(56.0) + 8.0 };
            let is_trend = bar.has_class("trend");
            let h = if is_trend { 24.0 } else { 14.0 };
            let place = Area { x: room.x, y: y + (ROW_PX - h) / 2.0, w: (room.w - value).max(20.0), h };
            svg::write(bar, place, &pen.drawing(false), out);
            room.x += room.w - value;
            room.w = value;
        }
        let is_number = cell.has_class("num") || cell.find("svg").is_some();
        let (at, anchor) = if is_number {
            (room.x + room.w, Anchor::End)
        } else if cell.has_class("mid") {
            (room.x + room.w / 2.0, Anchor::Middle)
        } else {
            (room.x, Anchor::Start)
        };
        write_text(&fit(&text, SIZE, room.w + 1.0), at, y + 19.0, SIZE, &color, anchor, out);
        x += w;
    }
}
