//! Running text on a picture: what Markdown and the harmless part of HTML become, word by word.

use std::fmt::Write as _;

use crate::dashboard::scene::short;

use super::Area;
use super::dom::{Element, Node};
use super::layout::Pen;
use super::text::{Anchor, width, write as write_text};

/// How words look.
#[derive(Clone)]
struct Look {
    size: f64,
    color: String,
    /// Left edge of the lines, for lists and quotes.
    indent: f64,
    is_middle: bool,
}

/// Words on their way into lines.
struct Flow<'a, 'b> {
    area: Area,
    pen: &'a Pen<'a>,
    out: &'b mut String,
    y: f64,
    /// The words of the line with their left edges and looks.
    line: Vec<(String, f64, Look)>,
    x: f64,
    /// Whether a blank stands before the next word.
    has_blank: bool,
}

pub(super) fn draw(e: &Element, area: Area, pen: &Pen<'_>, out: &mut String) {
    let _ = write!(
        out,
        "<svg x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\">",
        short(area.x),
        short(area.y),
        short(area.w),
        short(area.h)
    );
    let inner = Area { x: 0.0, y: 0.0, ..area };
    let mut flow = Flow { area: inner, pen, out, y: 0.0, line: Vec::new(), x: 0.0, has_blank: false };
    let look = Look { size: 14.0, color: pen.palette.text.to_owned(), indent: 0.0, is_middle: false };
    flow.children(e, &look);
    flow.end_line();
    out.push_str("</svg>");
}

impl Flow<'_, '_> {
    fn children(&mut self, e: &Element, look: &Look) {
        for child in &e.children {
            if self.y > self.area.h {
                return;
            }
            match child {
                Node::Text(text) => self.words(text, look),
                Node::Element(e) => self.element(e, look),
            }
        }
    }

    fn element(&mut self, e: &Element, look: &Look) {
        let mut inner = look.clone();
        if e.name == "center" || e.attribute("align") == Some("center") {
            inner.is_middle = true;
        }
        match e.name.as_str() {
            "br" => self.end_line(),
            "hr" => {
                self.end_line();
                let (y, w) = (short(self.y + 8.0), short(self.area.w));
                let _ = write!(self.out, "<path d=\"M0 {y}H{w}\" stroke=\"{}\"/>", self.pen.palette.line);
                self.y += 16.0;
            }
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => {
                inner.size = match e.name.as_str() {
                    "h1" => 22.0,
                    "h2" => 18.0,
                    _ => 15.0,
                };
                self.block(e, &inner, 8.0);
            }
            "a" => {
                inner.color = self.pen.palette.link.to_owned();
                self.children(e, &inner);
            }
            "code" | "kbd" | "small" | "sub" | "sup" => {
                inner.size = look.size - 1.5;
                self.children(e, &inner);
            }
            "li" => {
                self.end_line();
                inner.indent += 20.0;
                self.line.push(("•".to_owned(), inner.indent - 12.0, inner.clone()));
                self.x = inner.indent;
                self.children(e, &inner);
                self.end_line();
            }
            "blockquote" | "dd" => {
                inner.indent += 20.0;
                self.block(e, &inner, 6.0);
            }
            "pre" => {
                self.end_line();
                inner.size = 12.5;
                for line in e.text().lines() {
                    self.line.push((line.to_owned(), inner.indent, inner.clone()));
                    self.x = inner.indent + 1.0;
                    self.end_line();
                }
                self.y += 6.0;
            }
            "p" | "ul" | "ol" | "table" | "dl" => self.block(e, &inner, 6.0),
            "div" | "tr" | "dt" | "summary" | "details" => self.block(e, &inner, 0.0),
            "td" | "th" => {
                self.children(e, &inner);
                self.x += 16.0;
            }
            "img" => self.words(e.attribute("alt").unwrap_or(""), look),
            _ => self.children(e, &inner),
        }
    }

    fn block(&mut self, e: &Element, look: &Look, after: f64) {
        self.end_line();
        self.x = look.indent;
        self.children(e, look);
        self.end_line();
        self.y += after;
    }

    fn words(&mut self, text: &str, look: &Look) {
        self.has_blank |= text.starts_with(char::is_whitespace);
        for word in text.split_whitespace() {
            let blank = if self.has_blank && !self.line.is_empty() { width(" ", look.size) } else { 0.0 };
            let w = width(word, look.size);
            if self.x + blank + w > self.area.w && !self.line.is_empty() {
                self.end_line();
                self.x = look.indent;
            } else {
                self.x = self.x.max(look.indent) + blank;
            }
            self.line.push((word.to_owned(), self.x, look.clone()));
            self.x += w;
            self.has_blank = true;
        }
        if !text.is_empty() {
            self.has_blank = text.ends_with(char::is_whitespace);
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let size = line.iter().map(|(_, _, l)| l.size).fold(0.0, f64::max);
        if size > 0.0 {
            let height = size * 1.45;
            let base = self.y + height * 0.72;
            let is_middle = line.first().is_some_and(|(_, _, l)| l.is_middle);
            let shift = if is_middle { ((self.area.w - self.x) / 2.0).max(0.0) } else { 0.0 };
            for (word, x, look) in line {
                write_text(&word, x + shift, base, look.size, &look.color, Anchor::Start, self.out);
            }
            self.y += height;
        }
        self.x = 0.0;
        self.has_blank = false;
    }
}
