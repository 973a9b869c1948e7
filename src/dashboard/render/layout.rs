//! Boxes of a panel's body, by their class: what `style.css` says of them, as far as it decides where things stand.

use std::fmt::Write as _;

use crate::dashboard::scene::short;

use super::dom::{Element, Node};
use super::svg::{self, Drawing};
use super::text::{Anchor, fit, width, wrap, write as write_text};
use super::{Area, Palette, flow, table};

/// Height of a line of a list legend, and of a table's.
const LINE_PX: f64 = 20.0;
const ROW_PX: f64 = 22.0;

/// What is drawn with.
pub(super) struct Pen<'a> {
    pub(super) palette: &'a Palette,
    /// Unique in the picture.
    pub(super) prefix: String,
}

impl Pen<'_> {
    pub(super) fn drawing(&self, clip: bool) -> Drawing<'_> {
        Drawing { palette: self.palette, prefix: &self.prefix, color: self.palette.text, clip }
    }
}

/// Draws a panel's body, one box below the other; those that may grow share what the others leave.
pub(super) fn body(root: &Element, area: Area, pen: &Pen<'_>, out: &mut String) {
    let boxes: Vec<&Element> = root.elements().filter(|e| !matches!(e.name.as_str(), "form" | "script")).collect();
    let fixed: Vec<Option<f64>> = boxes.iter().map(|e| own_height(e, area.w)).collect();
    let taken: f64 = fixed.iter().flatten().sum();
    let n_free = fixed.iter().filter(|h| h.is_none()).count().max(1) as f64;
    let free = ((area.h - taken) / n_free).max(0.0);
    let mut y = area.y;
    for (e, height) in boxes.iter().zip(fixed) {
        let h = height.unwrap_or(free).min(area.y + area.h - y);
        if h <= 0.0 {
            break;
        }
        block(e, Area { y, h, ..area }, pen, out);
        y += h;
    }
}

/// The height of a box that does not grow.
fn own_height(e: &Element, room: f64) -> Option<f64> {
    if e.has_class("query-error") {
        return Some(wrap(&e.text(), 13.0, room - 22.0).len() as f64 * 18.0 + 20.0);
    }
    if e.has_class("notice") {
        return Some(wrap(&e.text(), 12.0, room).len() as f64 * 16.0 + 4.0);
    }
    // Buttons have no place on a picture.
    e.has_class("pages").then_some(0.0)
}

fn block(e: &Element, area: Area, pen: &Pen<'_>, out: &mut String) {
    let class = |c: &str| e.has_class(c);
    if class("graph") {
        graph(e, area, pen, out);
    } else if class("stats") {
        stats(e, area, pen, out);
    } else if class("bars") {
        bars(e, area, pen, out);
    } else if class("pie") {
        pie(e, area, pen, out);
    } else if class("table-wrap") {
        table::draw(e, area, pen, out);
    } else if class("empty") {
        message(&e.text(), area, pen.palette.dim, out);
    } else if class("query-error") {
        error(&e.text(), area, pen, out);
    } else if class("text") {
        flow::draw(e, area, pen, out);
    } else if class("notice") {
        for (i, line) in wrap(&e.text(), 12.0, area.w).iter().enumerate() {
            write_text(line, area.x, area.y + 13.0 + i as f64 * 16.0, 12.0, pen.palette.dim, Anchor::Start, out);
        }
    }
}

fn message(text: &str, area: Area, color: &str, out: &mut String) {
    let lines = wrap(text, 14.0, area.w - 16.0);
    let top = area.y + (area.h - lines.len() as f64 * 20.0) / 2.0;
    for (i, line) in lines.iter().enumerate() {
        let y = top + 15.0 + i as f64 * 20.0;
        write_text(line, area.x + area.w / 2.0, y, 14.0, color, Anchor::Middle, out);
    }
}

fn error(text: &str, area: Area, pen: &Pen<'_>, out: &mut String) {
    let _ = write!(
        out,
        "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"3\" fill=\"{}\" stroke=\"{}\" stroke-opacity=\".45\"/>",
        short(area.x + 0.5),
        short(area.y + 0.5),
        short(area.w - 1.0),
        short((area.h - 7.0).max(0.0)),
        pen.palette.bad_back,
        pen.palette.bad
    );
    for (i, line) in wrap(text, 13.0, area.w - 22.0).iter().enumerate() {
        let y = area.y + 19.0 + i as f64 * 18.0;
        write_text(line, area.x + 10.0, y, 13.0, pen.palette.text, Anchor::Start, out);
    }
}

/// A plot with its legend below or beside it.
fn graph(e: &Element, area: Area, pen: &Pen<'_>, out: &mut String) {
    let legend = e.child("legend");
    let scale = e.child("scale");
    let mut plot = area;
    if let Some(legend) = legend {
        let share = legend
            .attribute("class")
            .and_then(|c| c.split(' ').find_map(|c| c.strip_prefix("lw")?.parse::<f64>().ok()));
        let place = match share {
            Some(share) => {
                let w = area.w * share / 100.0;
                plot.w = (area.w - w - 12.0).max(0.0);
                Area { x: area.x + area.w - w, w, ..area }
            }
            None => {
                let h = legend_height(legend, area);
                plot.h = (area.h - h - 4.0).max(0.0);
                Area { y: area.y + area.h - h, h, ..area }
            }
        };
        draw_legend(legend, place, pen, out);
    }
    if let Some(scale) = scale {
        plot.h -= 22.0;
        draw_scale(scale, Area { y: area.y + area.h - 18.0, h: 18.0, ..area }, pen, out);
    }
    if let Some(found) = e.child("plot") {
        draw_plot(found, plot, pen, out);
    }
}

fn draw_plot(e: &Element, area: Area, pen: &Pen<'_>, out: &mut String) {
    const LABEL_PX: f64 = 16.0;
    let mut canvas = area.inset(0.0, 6.0, 0.0, 18.0);
    let mut is_left = true;
    let parts: Vec<&Element> = e.elements().collect();
    // What stands right of the plot is measured before it is drawn.
    let after: f64 = parts
        .iter()
        .skip_while(|p| !p.has_class("canvas"))
        .map(|p| if p.has_class("axis-label") { LABEL_PX } else { svg::own_width(p) })
        .sum();
    for part in &parts {
        if part.has_class("canvas") {
            canvas.w = (area.x + area.w - after - canvas.x).max(0.0);
            draw_canvas(part, canvas, pen, out);
            is_left = false;
            canvas.x += canvas.w;
            continue;
        }
        let w = if part.has_class("axis-label") { LABEL_PX } else { svg::own_width(part) };
        let place = Area { w, ..canvas };
        if part.has_class("axis-label") {
            let (x, y) = (place.x + 11.0, place.y + place.h / 2.0);
            let _ = write!(out, "<g transform=\"rotate(-90 {} {})\">", short(x), short(y));
            let color = part.find("font").and_then(|f| f.attribute("color")).unwrap_or(pen.palette.dim);
            write_text(&fit(&part.text(), 11.0, place.h), x, y, 11.0, color, Anchor::Middle, out);
            out.push_str("</g>");
        } else {
            svg::write(part, place, &pen.drawing(false), out);
        }
        canvas.x += w;
        if is_left {
            canvas.w -= w;
        }
    }
}

fn draw_canvas(e: &Element, area: Area, pen: &Pen<'_>, out: &mut String) {
    for part in e.elements().filter(|p| p.name == "svg") {
        if part.has_class("xaxis") {
            let below = Area { y: area.y + area.h, h: 18.0, ..area };
            svg::write(part, below, &pen.drawing(false), out);
        } else {
            svg::write(part, area, &pen.drawing(part.has_class("marks")), out);
        }
    }
}

/// An entry of a legend: colour, text, values, whether it is off.
struct Key {
    color: String,
    name: String,
    calcs: Vec<String>,
    is_off: bool,
}

fn key_of(e: &Element, calcs: Vec<String>) -> Key {
    let color = e.find("rect").and_then(|r| r.attribute("fill")).unwrap_or("#808080").to_owned();
    let name = e.find("span").map(Element::text).unwrap_or_default();
    let name = if e.name == "span" && name.is_empty() { e.text() } else { name };
    Key { color, name, calcs, is_off: false }
}

/// The entries of a list, and of a table with its head.
fn keys(e: &Element) -> (Vec<String>, Vec<Key>) {
    if let Some(found) = e.find("table") {
        let rows = |part: &str| -> Vec<Element> {
            let found = found.elements().find(|p| p.name == part);
            found.map(|p| p.elements().filter(|r| r.name == "tr").cloned().collect()).unwrap_or_default()
        };
        let head = rows("thead").first().map(|r| r.elements().map(Element::text).collect()).unwrap_or_default();
        let key = |row: &Element| {
            let mut cells = row.elements();
            let first = cells.next()?;
            let key = first.elements().find(|k| k.has_class("key"))?;
            let calcs = cells.map(Element::text).collect();
            Some(Key { is_off: row.has_class("off"), ..key_of(key, calcs) })
        };
        return (head, rows("tbody").iter().filter_map(key).collect());
    }
    let key = |item: &Element| {
        let key = item.elements().find(|k| k.has_class("key"))?;
        let calcs = item.elements().filter(|c| c.has_class("calc")).map(Element::text).collect();
        Some(Key { is_off: item.has_class("off"), ..key_of(key, calcs) })
    };
    (Vec::new(), e.elements().filter_map(key).collect())
}

fn entry_width(key: &Key) -> f64 {
    let calcs: f64 = key.calcs.iter().map(|c| width(c, 12.0) + 8.0).sum();
    21.0 + width(&key.name, 12.0) + calcs
}

fn legend_height(e: &Element, area: Area) -> f64 {
    let (head, keys) = keys(e);
    if e.has_class("table") {
        let lines = keys.len() as f64 + if head.is_empty() { 0.0 } else { 1.0 };
        // A head without a line says nothing.
        return (lines * ROW_PX).min((area.h * 0.4 / ROW_PX).floor().max(2.0) * ROW_PX);
    }
    let lines = list_places(&keys, area.w).last().map_or(0.0, |p| p.1 + 1.0);
    (lines * LINE_PX + 2.0).min((area.h * 0.38 / LINE_PX).floor() * LINE_PX + 2.0)
}

/// Left edge and number of the line of each entry.
fn list_places(keys: &[Key], room: f64) -> Vec<(f64, f64)> {
    let (mut x, mut line) = (4.0, 0.0);
    keys.iter()
        .map(|k| {
            let w = entry_width(k).min(room - 4.0);
            if x > 4.0 && x + w > room {
                (x, line) = (4.0, line + 1.0);
            }
            let place = (x, line);
            x += w + 14.0;
            place
        })
        .collect()
}

fn draw_legend(e: &Element, area: Area, pen: &Pen<'_>, out: &mut String) {
    let (head, keys) = keys(e);
    let bottom = area.y + area.h + 0.5;
    if e.has_class("table") {
        let widths = calc_widths(&head, &keys);
        let mut y = area.y;
        if !head.is_empty() {
            write_text(&head[0], area.x + 4.0, y + 15.0, 12.0, pen.palette.link, Anchor::Start, out);
            let mut right = area.x + area.w;
            for (title, w) in head.iter().skip(1).zip(&widths).rev() {
                write_text(title, right - 8.0, y + 15.0, 12.0, pen.palette.link, Anchor::End, out);
                right -= w;
            }
            y += ROW_PX;
        }
        for k in &keys {
            if y + ROW_PX > bottom {
                break;
            }
            rule(area, y, pen.palette.grid, out);
            let mut right = area.x + area.w;
            for (value, w) in k.calcs.iter().zip(&widths).rev() {
                write_text(value, right - 8.0, y + 15.0, 12.0, pen.palette.text, Anchor::End, out);
                right -= w;
            }
            entry(k, area.x + 4.0, y, right - area.x - 8.0, pen, out);
            y += ROW_PX;
        }
        return;
    }
    let is_right = e.has_class("right");
    let places = if is_right { (0..keys.len()).map(|i| (4.0, i as f64)).collect() } else { list_places(&keys, area.w) };
    for (k, (x, line)) in keys.iter().zip(places) {
        let y = area.y + 2.0 + line * LINE_PX;
        if y + LINE_PX > bottom + 2.0 {
            break;
        }
        let calcs: f64 = k.calcs.iter().map(|c| width(c, 12.0) + 8.0).sum();
        let name = (area.w - x - calcs).max(40.0);
        let mut at = area.x + x + entry(k, area.x + x, y, name, pen, out);
        for c in &k.calcs {
            write_text(c, at + 8.0, y + 14.0, 12.0, pen.palette.dim, Anchor::Start, out);
            at += width(c, 12.0) + 8.0;
        }
    }
}

/// Widths of the columns with values.
fn calc_widths(head: &[String], keys: &[Key]) -> Vec<f64> {
    let n = keys.iter().map(|k| k.calcs.len()).max().unwrap_or(0);
    (0..n)
        .map(|i| {
            let title = head.get(i + 1).map_or(0.0, |t| width(t, 12.0));
            let widest = keys.iter().filter_map(|k| k.calcs.get(i)).map(|c| width(c, 12.0)).fold(title, f64::max);
            if widest > 0.0 { widest + 12.0 } else { 0.0 }
        })
        .collect()
}

fn rule(area: Area, y: f64, color: &str, out: &mut String) {
    let (x, end, y) = (short(area.x), short(area.x + area.w), short(y.round() + 0.5));
    let _ = write!(out, "<path d=\"M{x} {y}H{end}\" stroke=\"{color}\"/>");
}

/// Draws the swatch and the name; answers with the width of both.
fn entry(k: &Key, x: f64, y: f64, room: f64, pen: &Pen<'_>, out: &mut String) -> f64 {
    let opacity = if k.is_off { " fill-opacity=\".4\"" } else { "" };
    let color = crate::dashboard::html::escape(&k.color);
    let _ = write!(
        out,
        "<rect x=\"{}\" y=\"{}\" width=\"14\" height=\"4\" rx=\"2\" fill=\"{color}\"{opacity}/>",
        short(x),
        short(y + 8.0)
    );
    let name = fit(&k.name, 12.0, (room - 21.0).max(12.0));
    let ink = if k.is_off { pen.palette.dim } else { pen.palette.text };
    write_text(&name, x + 21.0, y + 14.0, 12.0, ink, Anchor::Start, out);
    21.0 + width(&name, 12.0)
}

/// The strip of colours under a heatmap.
fn draw_scale(e: &Element, area: Area, pen: &Pen<'_>, out: &mut String) {
    let texts: Vec<String> = e.elements().filter(|p| p.name == "span").map(Element::text).collect();
    let mut x = area.x + 8.0;
    if let Some(low) = texts.first() {
        write_text(low, x, area.y + 13.0, 11.0, pen.palette.dim, Anchor::Start, out);
        x += width(low, 11.0) + 8.0;
    }
    if let Some(strip) = e.find("svg") {
        svg::write(strip, Area { x, y: area.y + 5.0, w: 180.0, h: 9.0 }, &pen.drawing(false), out);
        x += 188.0;
    }
    if let Some(high) = texts.get(1) {
        write_text(high, x, area.y + 13.0, 11.0, pen.palette.dim, Anchor::Start, out);
    }
}

/// Boxes in a grid: single values and gauges.
fn stats(e: &Element, area: Area, pen: &Pen<'_>, out: &mut String) {
    const GAP: f64 = 6.0;
    let cells: Vec<&Element> = e.elements().filter(|c| c.has_class("stat")).collect();
    let columns =
        e.attribute("class").and_then(|c| c.split(' ').find_map(|c| c.strip_prefix('c')?.parse::<usize>().ok()));
    let columns = columns.unwrap_or(1).clamp(1, cells.len().max(1));
    let rows = cells.len().div_ceil(columns).max(1);
    let w = (area.w - GAP * (columns - 1) as f64) / columns as f64;
    let h = (area.h - GAP * (rows - 1) as f64) / rows as f64;
    for (i, cell) in cells.iter().enumerate() {
        let x = area.x + (i % columns) as f64 * (w + GAP);
        let y = area.y + (i / columns) as f64 * (h + GAP);
        stat(cell, Area { x, y, w, h }, pen, out);
    }
}

fn stat(e: &Element, area: Area, pen: &Pen<'_>, out: &mut String) {
    if let Some(gauge) = e.child("gauge") {
        svg::write(gauge, area, &pen.drawing(false), out);
        return;
    }
    if let Some(back) = e.child("back") {
        svg::write(back, area, &pen.drawing(false), out);
    }
    let spark = e.child("spark");
    if let Some(spark) = spark {
        let h = area.h * 0.34;
        svg::write(spark, Area { y: area.y + area.h - h, h, ..area }, &pen.drawing(true), out);
    }
    let Some(words) = e.child("words").or(e.child("big").map(|_| e)) else { return };
    let share = if spark.is_some() { 0.68 } else { 1.0 };
    let room = Area { h: area.h * share, ..area }.inset(8.0, 4.0, 8.0, 4.0);
    let (name, big, change) = (words.child("name"), words.child("big"), words.child("change"));
    let ink = |e: &Element| {
        let color = e.find("font").and_then(|f| f.attribute("color")).unwrap_or(pen.palette.text);
        color.replace("currentColor", pen.palette.text)
    };
    if let (true, Some(name), Some(big)) = (words.has_class("line"), name, big) {
        let h = room.h.max(area.h - 2.0).min(26.0);
        let y = area.y + (area.h * share - h) / 2.0;
        let shown = fit(&name.text(), 12.0, room.w * 0.5);
        write_text(&shown, room.x, y + h / 2.0 + 4.0, 12.0, pen.palette.text, Anchor::Start, out);
        let x = room.x + width(&shown, 12.0) + 8.0;
        let beside = change.map_or(0.0, |c| width(&c.text(), 12.0) + 8.0);
        svg::write(big, Area { x, y, w: room.x + room.w - beside - x, h }, &pen.drawing(false), out);
        if let Some(change) = change {
            let end = room.x + room.w;
            write_text(&change.text(), end, y + h / 2.0 + 4.0, 12.0, &ink(change), Anchor::End, out);
        }
        return;
    }
    let name_px = name.map_or(0.0, |n| text_px(n).map_or(18.0, |px| px * 1.3));
    let change_px = if change.is_some() { 18.0 } else { 0.0 };
    let big_px = big.map_or(0.0, |_| (room.h - name_px - change_px).clamp(0.0, big_max(big)));
    let top = room.y + (room.h - name_px - big_px - change_px) / 2.0;
    if let Some(name) = name {
        let color = ink(name);
        let size = text_px(name).unwrap_or(13.0);
        let shown = fit(&name.text(), size, room.w);
        write_text(&shown, room.x + room.w / 2.0, top + 14.0, size, &color, Anchor::Middle, out);
    }
    if let Some(big) = big {
        svg::write(big, Area { y: top + name_px, h: big_px, ..room }, &pen.drawing(false), out);
    }
    if let Some(change) = change {
        let (x, y) = (room.x + room.w / 2.0, top + name_px + big_px + 13.0);
        write_text(&fit(&change.text(), 13.0, room.w), x, y, 13.0, &ink(change), Anchor::Middle, out);
    }
}

/// The size that a class names.
fn text_px(e: &Element) -> Option<f64> {
    e.attribute("class")?.split(' ').find_map(|c| c.strip_prefix("px")?.parse().ok())
}

/// The greatest height of a number: as the style has it, unless the panel names a size.
fn big_max(big: Option<&Element>) -> f64 {
    big.and_then(|b| b.number("height")).unwrap_or(84.0)
}

/// Bars with a name and a value each, lying or standing.
fn bars(e: &Element, area: Area, pen: &Pen<'_>, out: &mut String) {
    let all: Vec<&Element> = e.elements().filter(|b| b.has_class("bar")).collect();
    let n = all.len().max(1) as f64;
    let part = |b: &Element, class: &str| b.child(class).map(Element::text).unwrap_or_default();
    let ink = |b: &Element| {
        let color = b.child("v").and_then(|v| v.find("font")).and_then(|f| f.attribute("color"));
        color.unwrap_or(pen.palette.text).replace("currentColor", pen.palette.text)
    };
    if e.has_class("upright") {
        let w = ((area.w - 4.0 * (n - 1.0)) / n).clamp(1.0, 160.0);
        let mut x = area.x + (area.w - (w + 4.0) * n + 4.0) / 2.0;
        for bar in &all {
            let middle = x + w / 2.0;
            let value = fit(&part(bar, "v"), 14.0, w);
            write_text(&value, middle, area.y + 15.0, 14.0, &ink(bar), Anchor::Middle, out);
            if let Some(track) = bar.child("track") {
                svg::write(track, Area { x, y: area.y + 22.0, w, h: area.h - 42.0 }, &pen.drawing(false), out);
            }
            let name = fit(&part(bar, "n"), 12.0, w);
            write_text(&name, middle, area.y + area.h - 5.0, 12.0, pen.palette.text, Anchor::Middle, out);
            x += w + 4.0;
        }
        return;
    }
    let names = area.w * 0.28;
    let values = all.iter().map(|b| width(&part(b, "v"), 14.0)).fold(48.0, f64::max);
    let h = (area.h / n).clamp(20.0, 44.0);
    let mut y = area.y + ((area.h - h * n) / 2.0).max(0.0);
    for bar in &all {
        if y + h > area.y + area.h + 1.0 {
            break;
        }
        let middle = y + h / 2.0;
        let name = fit(&part(bar, "n"), 12.0, names);
        write_text(&name, area.x + names, middle + 4.0, 12.0, pen.palette.text, Anchor::End, out);
        let thick = (h - 4.0).clamp(14.0, 26.0);
        let place =
            Area { x: area.x + names + 8.0, y: middle - thick / 2.0, w: area.w - names - values - 16.0, h: thick };
        if let Some(track) = bar.child("track") {
            svg::write(track, place, &pen.drawing(false), out);
        }
        write_text(&part(bar, "v"), area.x + area.w, middle + 5.0, 14.0, &ink(bar), Anchor::End, out);
        y += h;
    }
}

fn pie(e: &Element, area: Area, pen: &Pen<'_>, out: &mut String) {
    let mut disc = area;
    if let Some(legend) = e.child("legend") {
        let (_, keys) = keys(legend);
        let widths = calc_widths(&[], &keys);
        let names = keys.iter().map(|k| width(&k.name, 12.0)).fold(0.0, f64::max).min(300.0);
        let w = (names + 36.0 + widths.iter().sum::<f64>()).min(area.w * 0.55);
        let h = (keys.len() as f64 * ROW_PX).min(area.h);
        let place = if e.has_class("below") {
            let h = h.min(area.h * 0.4);
            disc.h -= h + 12.0;
            Area { x: area.x + (area.w - w) / 2.0, y: area.y + area.h - h, w, h }
        } else {
            disc.w -= w + 12.0;
            Area { x: area.x + area.w - w, y: area.y + (area.h - h) / 2.0, w, h }
        };
        draw_legend(legend, place, pen, out);
    }
    if let Some(svg) = e.child("disc") {
        svg::write(svg, disc, &pen.drawing(false), out);
    }
}

/// Text of an inline element with its colour.
pub(super) fn colored(e: &Element, otherwise: &str, text_color: &str) -> String {
    let font = if e.name == "font" { Some(e) } else { e.find("font") };
    let color = font.and_then(|f| f.attribute("color")).unwrap_or(otherwise);
    color.replace("currentColor", text_color)
}

/// The text directly or indirectly inside, blanks at the ends removed.
pub(super) fn plain(e: &Element) -> String {
    let mut out = String::new();
    for child in &e.children {
        match child {
            Node::Text(t) => out.push_str(t),
            Node::Element(e) if e.has_class("more") => {}
            Node::Element(e) => out.push_str(&e.text()),
        }
    }
    out.trim().to_owned()
}
