//! The width of text in the font that pictures are written in, and lines that fit a width.

use std::fmt::Write as _;

use crate::dashboard::html::escape_into;
use crate::dashboard::scene::short;

/// The font, as its file names it.
pub(super) const FAMILY: &str = "DejaVu Sans Condensed";

/// Width of the characters from the blank to the tilde, in thousandths of the size.
const WIDTHS: [u16; 95] = [
    286, 360, 414, 754, 572, 855, 702, 247, 351, 351, 450, 754, 286, 325, 286, 303, 572, 572, 572, 572, 572, 572, 572,
    572, 572, 572, 303, 303, 754, 754, 754, 478, 900, 615, 617, 628, 693, 568, 518, 697, 677, 265, 265, 590, 501, 776,
    673, 708, 542, 708, 625, 571, 549, 659, 615, 890, 616, 549, 616, 351, 303, 351, 754, 450, 450, 551, 571, 495, 571,
    554, 316, 571, 570, 250, 250, 521, 250, 876, 570, 550, 571, 571, 370, 469, 353, 570, 532, 736, 532, 532, 472, 572,
    303, 572, 754,
];
/// The same of any other character, on average.
const OTHER: u16 = 590;

/// Width of a text, CSS pixels.
pub(super) fn width(text: &str, size: f64) -> f64 {
    let of = |c: char| {
        let i = (c as usize).checked_sub(32);
        i.and_then(|i| WIDTHS.get(i)).copied().unwrap_or(OTHER)
    };
    text.chars().map(|c| f64::from(of(c))).sum::<f64>() * size / 1000.0
}

/// The text, or its beginning with an ellipsis, that fits into `room`.
pub(super) fn fit(text: &str, size: f64, room: f64) -> String {
    if width(text, size) <= room {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = width("…", size);
    for c in text.chars() {
        used += width(c.encode_utf8(&mut [0; 4]), size);
        if used > room {
            break;
        }
        out.push(c);
    }
    out.push('…');
    out
}

/// Where a line of text stands from its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// Writes one line of text; `y` is its base line.
pub(super) fn write(text: &str, x: f64, y: f64, size: f64, color: &str, anchor: Anchor, out: &mut String) {
    if text.trim().is_empty() {
        return;
    }
    let anchor = match anchor {
        Anchor::Start => "",
        Anchor::Middle => " text-anchor=\"middle\"",
        Anchor::End => " text-anchor=\"end\"",
    };
    let _ = write!(
        out,
        "<text x=\"{}\" y=\"{}\" font-size=\"{}\" fill=\"{color}\"{anchor}>",
        short(x),
        short(y),
        short(size)
    );
    escape_into(text, out);
    out.push_str("</text>");
}

/// Lines of words that fit into `room`.
pub(super) fn wrap(text: &str, size: f64, room: f64) -> Vec<String> {
    let mut out = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let longer = if line.is_empty() { word.to_owned() } else { format!("{line} {word}") };
        if width(&longer, size) <= room || line.is_empty() {
            line = longer;
        } else {
            out.push(std::mem::replace(&mut line, word.to_owned()));
        }
    }
    if !line.is_empty() {
        out.push(line);
    }
    out
}
