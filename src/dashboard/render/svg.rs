//! The SVG inside of panels, put where the layout wants it: shares become pixels, and paths of a box that stretches
//! are stretched here, so that their strokes keep their width without help of the renderer.

use std::fmt::Write as _;

use crate::dashboard::html::escape;
use crate::dashboard::scene::{push_short, short};

use super::dom::Element;
use super::{Area, Palette};

/// Where a drawing's coordinates lie on the picture.
#[derive(Debug, Clone, Copy)]
struct Map {
    /// What is drawn at the origin.
    x: f64,
    y: f64,
    sx: f64,
    sy: f64,
    /// What shares are shares of, in the drawing's own coordinates.
    w: f64,
    h: f64,
    /// Whether both axes have their own scale, so that shapes are mapped and strokes are not.
    is_stretched: bool,
}

/// What a drawing needs to know besides its place.
pub(super) struct Drawing<'a> {
    pub(super) palette: &'a Palette,
    /// Unique in the picture, for what shapes refer to.
    pub(super) prefix: &'a str,
    /// What `currentColor` is.
    pub(super) color: &'a str,
    /// Where `M 0 0` of what has no size of its own is cut.
    pub(super) clip: bool,
}

/// Writes the drawing `svg` into `area`.
pub(super) fn write(svg: &Element, area: Area, drawing: &Drawing<'_>, out: &mut String) {
    if area.w <= 0.0 || area.h <= 0.0 {
        return;
    }
    let map = map_of(svg, area);
    if drawing.clip {
        let _ = write!(
            out,
            "<svg x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\">",
            short(area.x),
            short(area.y),
            short(area.w),
            short(area.h)
        );
        let inner = Map { x: map.x - area.x, y: map.y - area.y, ..map };
        children(svg, inner, drawing, out);
        out.push_str("</svg>");
    } else {
        children(svg, map, drawing, out);
    }
}

fn map_of(svg: &Element, area: Area) -> Map {
    let view: Vec<f64> = svg.attribute("viewBox").unwrap_or("").split(' ').filter_map(|n| n.parse().ok()).collect();
    let [vx, vy, vw, vh] = view[..] else {
        return Map { x: area.x, y: area.y, sx: 1.0, sy: 1.0, w: area.w, h: area.h, is_stretched: false };
    };
    let (sx, sy) = (area.w / vw.max(1e-9), area.h / vh.max(1e-9));
    if svg.attribute("preserveAspectRatio") == Some("none") {
        return Map { x: area.x - vx * sx, y: area.y - vy * sy, sx, sy, w: vw, h: vh, is_stretched: true };
    }
    let s = sx.min(sy);
    let (left, top) = ((area.w - vw * s) / 2.0, (area.h - vh * s) / 2.0);
    Map { x: area.x + left - vx * s, y: area.y + top - vy * s, sx: s, sy: s, w: vw, h: vh, is_stretched: false }
}

fn children(parent: &Element, map: Map, drawing: &Drawing<'_>, out: &mut String) {
    for e in parent.elements() {
        shape(e, map, drawing, out);
    }
}

fn shape(e: &Element, map: Map, drawing: &Drawing<'_>, out: &mut String) {
    match e.name.as_str() {
        "title" | "desc" => {}
        "svg" => {
            let area = Area {
                x: length(e, "x", map.w, map.sx, map.x).unwrap_or(map.x),
                y: length(e, "y", map.h, map.sy, map.y).unwrap_or(map.y),
                w: length(e, "width", map.w, map.sx, 0.0).unwrap_or(map.w),
                h: length(e, "height", map.h, map.sy, 0.0).unwrap_or(map.h),
            };
            children(e, map_of(e, area), drawing, out);
        }
        "text" => text(e, map, drawing, out),
        "path" => path(e, map, drawing, out),
        _ => {
            let _ = write!(out, "<{}", e.name);
            for (name, value) in &e.attributes {
                attribute(e, name, value, map, drawing, out);
            }
            if e.name == "rect" {
                // Without a word of its own a rectangle begins at the origin, which is elsewhere now.
                for (name, origin) in [("x", map.x), ("y", map.y)] {
                    if e.attribute(name).is_none() {
                        let _ = write!(out, " {name}=\"{}\"", short(origin));
                    }
                }
            }
            from_class(e, drawing, out);
            out.push('>');
            children(e, map, drawing, out);
            let _ = write!(out, "</{}>", e.name);
        }
    }
}

/// A coordinate or length in pixels of the picture.
fn length(e: &Element, name: &str, whole: f64, scale: f64, origin: f64) -> Option<f64> {
    let text = e.attribute(name)?;
    let value = match text.strip_suffix('%') {
        Some(share) => share.parse::<f64>().ok()? / 100.0 * whole,
        None => text.parse().ok()?,
    };
    Some(value * scale + origin)
}

fn attribute(e: &Element, name: &str, value: &str, map: Map, drawing: &Drawing<'_>, out: &mut String) {
    let is_gradient = e.name == "linearGradient";
    let placed = match name {
        // Gradients over their shape are in shares; those over the plot in its coordinates.
        "x1" | "x2" | "y1" | "y2" if is_gradient && e.attribute("gradientUnits").is_none() => None,
        "x" | "x1" | "x2" | "cx" => length(e, name, map.w, map.sx, map.x),
        "y" | "y1" | "y2" | "cy" => length(e, name, map.h, map.sy, map.y),
        "width" | "rx" if e.name == "rect" => length(e, name, map.w, map.sx, 0.0),
        "height" if e.name == "rect" => length(e, name, map.h, map.sy, 0.0),
        _ => None,
    };
    if let Some(v) = placed {
        let _ = write!(out, " {name}=\"{}\"", short(v));
        return;
    }
    match name {
        "class" | "vector-effect" | "role" | "aria-hidden" | "aria-label" | "data-s" | "color" => {}
        "id" => {
            let _ = write!(out, " id=\"{}{}\"", drawing.prefix, escape(value));
        }
        "stroke-width" => {
            let v: f64 = value.parse().unwrap_or(1.0);
            let v = if map.is_stretched { v } else { v * map.sx };
            let _ = write!(out, " stroke-width=\"{}\"", short(v));
        }
        "fill" | "stroke" | "stop-color" => {
            let value = match value.strip_prefix("url(#") {
                Some(rest) => format!("url(#{}{rest}", drawing.prefix),
                None => value.replace("currentColor", drawing.color),
            };
            let _ = write!(out, " {name}=\"{}\"", escape(&value));
        }
        _ => {
            let _ = write!(out, " {name}=\"{}\"", escape(value));
        }
    }
}

/// What the pages' style says of shapes by their class.
fn from_class(e: &Element, drawing: &Drawing<'_>, out: &mut String) {
    let p = drawing.palette;
    if e.has_class("event") {
        let color = e.attribute("color").unwrap_or(p.dim).replace("currentColor", drawing.color);
        let _ = write!(
            out,
            " stroke=\"{}\" stroke-width=\"1\" stroke-dasharray=\"4 4\" stroke-opacity=\".8\"",
            escape(&color)
        );
    } else if e.name == "line" && e.attribute("stroke").is_none() {
        let _ = write!(out, " stroke=\"{}\" stroke-width=\"1\"", p.grid);
    } else if e.has_class("track") {
        let _ = write!(out, " stroke=\"{}\"", p.track);
    } else if e.has_class("rest") {
        let _ = write!(out, " fill=\"{}\"", p.track);
    }
}

fn text(e: &Element, map: Map, drawing: &Drawing<'_>, out: &mut String) {
    let x = length(e, "x", map.w, map.sx, map.x).unwrap_or(map.x);
    let y = length(e, "y", map.h, map.sy, map.y).unwrap_or(map.y);
    let size = e.number("font-size").map(|s| s * map.sx);
    let color = e.attribute("fill").unwrap_or("currentColor").replace("currentColor", drawing.color);
    // Labels of axes have no size of their own.
    let (size, y, opacity) = match size {
        // Texts over a plot stand in the middle of their place.
        Some(size) if e.attribute("y").is_some_and(|y| y.ends_with('%')) => (size, y + size * 0.35, ""),
        Some(size) => (size, y, ""),
        None if e.attribute("y").is_some_and(|y| y.ends_with('%')) => (11.0, y + 4.0, " fill-opacity=\".82\""),
        None => (11.0, y, " fill-opacity=\".82\""),
    };
    let anchor = e.attribute("text-anchor").unwrap_or("start");
    let _ = write!(
        out,
        "<text x=\"{}\" y=\"{}\" font-size=\"{}\" text-anchor=\"{}\" fill=\"{}\"{opacity}>{}</text>",
        short(x),
        short(y),
        short(size),
        escape(anchor),
        escape(&color),
        escape(&e.text())
    );
}

fn path(e: &Element, map: Map, drawing: &Drawing<'_>, out: &mut String) {
    let d = mapped(e.attribute("d").unwrap_or(""), map);
    let _ = write!(out, "<path d=\"{d}\"");
    for (name, value) in e.attributes.iter().filter(|(n, _)| n != "d") {
        attribute(e, name, value, map, drawing, out);
    }
    from_class(e, drawing, out);
    out.push_str("/>");
}

/// The path data on the picture: absolute commands alone, as ours are but for the `h0` of dots.
fn mapped(d: &str, map: Map) -> String {
    let mut out = String::with_capacity(d.len() + d.len() / 4);
    let bytes = d.as_bytes();
    let (mut i, mut command, mut nth) = (0, b'M', 0usize);
    while i < bytes.len() {
        let c = bytes[i];
        if c.is_ascii_alphabetic() {
            (command, nth) = (c, 0);
            i += 1;
            match c {
                // A stroke without length has no ends to be round.
                b'h' => out.push_str("h.01"),
                c => out.push(char::from(c)),
            }
            continue;
        }
        let end = number_end(bytes, i);
        if end == i {
            i += 1;
            continue;
        }
        let value: f64 = d[i..end].parse().unwrap_or(0.0);
        i = end;
        if command == b'h' {
            continue;
        }
        let shown = match (command, nth) {
            (b'H', _) => value * map.sx + map.x,
            (b'V', _) => value * map.sy + map.y,
            (b'A', n) => match n % 7 {
                0 => value * map.sx,
                1 => value * map.sy,
                2..=4 => value,
                5 => value * map.sx + map.x,
                _ => value * map.sy + map.y,
            },
            (_, n) if n % 2 == 0 => value * map.sx + map.x,
            _ => value * map.sy + map.y,
        };
        nth += 1;
        if out.ends_with(|last: char| last.is_ascii_digit() || last == '.') {
            out.push(' ');
        }
        push_short(shown, &mut out);
    }
    out
}

fn number_end(bytes: &[u8], start: usize) -> usize {
    let mut i = start;
    if bytes.get(i) == Some(&b'-') {
        i += 1;
    }
    while bytes.get(i).is_some_and(|b| b.is_ascii_digit() || *b == b'.') {
        i += 1;
    }
    if i == start + 1 && bytes[start] == b'-' { start } else { i }
}

/// The width that a drawing asks for; the pages say it in pixels.
pub(super) fn own_width(svg: &Element) -> f64 {
    svg.attribute("width").filter(|w| !w.ends_with('%')).and_then(|w| w.parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::super::dom::parse;
    use super::*;
    use crate::dashboard::color::Theme;

    #[track_caller]
    fn check(svg: &str, expected: &str) {
        let root = parse(svg);
        let drawing = Drawing { palette: Palette::of(Theme::Dark), prefix: "p1-", color: "#fff", clip: false };
        let mut out = String::new();
        write(root.elements().next().unwrap(), Area { x: 10.0, y: 20.0, w: 200.0, h: 100.0 }, &drawing, &mut out);
        assert_eq!(out, expected);
    }

    #[test]
    fn drawings_find_their_place() {
        check(
            "<svg><line x1=\"0\" x2=\"100%\" y1=\"50%\" y2=\"50%\"/></svg>",
            "<line x1=\"10\" x2=\"210\" y1=\"70\" y2=\"70\" stroke=\"#292c32\" stroke-width=\"1\"></line>",
        );
        check(
            "<svg viewBox=\"0 0 1000 1000\" preserveAspectRatio=\"none\"><path d=\"M0 0L1000-500H5V7.5Z\" stroke-width=\"2\" vector-effect=\"x\"/></svg>",
            "<path d=\"M10 20L210 -30H11V20.75Z\" stroke-width=\"2\"/>",
        );
        check(
            "<svg viewBox=\"0 0 100 100\"><text x=\"50%\" y=\"10\" font-size=\"20\" text-anchor=\"middle\" fill=\"red\">a&lt;</text></svg>",
            "<text x=\"110\" y=\"30\" font-size=\"20\" text-anchor=\"middle\" fill=\"red\">a&lt;</text>",
        );
        check(
            "<svg viewBox=\"0 0 10 10\" preserveAspectRatio=\"none\"><path d=\"M1 1h0M2 2h0\" fill=\"url(#g)\"/></svg>",
            "<path d=\"M30 30h.01M50 40h.01\" fill=\"url(#p1-g)\"/>",
        );
        check(
            "<svg viewBox=\"0 0 200 100\"><path d=\"M0 0A5 6 0 1 1 7 8\" stroke=\"currentColor\" stroke-width=\"3\"/></svg>",
            "<path d=\"M10 20A5 6 0 1 1 17 28\" stroke=\"#fff\" stroke-width=\"3\"/>",
        );
    }
}
