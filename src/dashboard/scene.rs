//! A plot as shapes in fractions of its area, and its form as fluid HTML with SVG.
//!
//! Nothing here has a size in pixels except text, strokes and gutters: the marks lie in a view box of 1000 × 1000
//! that stretches with the page while strokes keep their width, and ticks are placed in percent. So a page fits any
//! window without a script. Only presentation attributes are used, no inline style, as the page's policy demands.

use std::fmt::Write as _;

use super::html::{colored, escape, escape_into};

/// Width of one character of a tick label, CSS pixels at the page's 11 px.
const CHAR_PX: f64 = 6.3;

/// A plot area with axes.
#[derive(Debug, Default)]
pub(crate) struct Plot {
    /// What is to be seen, for those who do not see it.
    pub(crate) label: String,
    pub(crate) left: Option<Axis>,
    pub(crate) right: Option<Axis>,
    /// Share of the width and label.
    pub(crate) x_ticks: Vec<(f64, String)>,
    /// Shares of the height, from the top.
    pub(crate) grid: Vec<f64>,
    pub(crate) bands: Vec<Band>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) events: Vec<EventMark>,
    pub(crate) marks: Vec<SeriesMarks>,
    pub(crate) texts: Vec<Inscription>,
    /// Definitions of gradients.
    pub(crate) gradients: Vec<Gradient>,
}

/// A vertical axis.
#[derive(Debug, Default, Clone)]
pub(crate) struct Axis {
    /// Share of the height from the top, and label.
    pub(crate) ticks: Vec<(f64, String)>,
    pub(crate) label: String,
    /// Of its texts; that of other texts without one.
    pub(crate) color: Option<String>,
    /// Of a line along it, if there is one.
    pub(crate) border: Option<String>,
}

/// A horizontal stripe; shares of the height from the top.
#[derive(Debug)]
pub(crate) struct Band {
    pub(crate) top: f64,
    pub(crate) bottom: f64,
    pub(crate) color: String,
}

/// A horizontal line.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) y: f64,
    pub(crate) color: String,
    pub(crate) dashed: bool,
}

/// A moment or a stretch of time.
#[derive(Debug)]
pub(crate) struct EventMark {
    /// Shares of the width.
    pub(crate) from: f64,
    pub(crate) to: f64,
    pub(crate) color: String,
    pub(crate) text: String,
}

/// A text over the marks; shares of the width and of the height, from the top.
#[derive(Debug)]
pub(crate) struct Inscription {
    pub(crate) x: f64,
    pub(crate) y: f64,
    /// Which end of the text stands there, as SVG names it.
    pub(crate) anchor: &'static str,
    pub(crate) text: String,
    pub(crate) color: String,
}

/// What is drawn of one series.
#[derive(Debug)]
pub(crate) struct SeriesMarks {
    /// Number of the series in the panel's data.
    pub(crate) series: usize,
    pub(crate) marks: Vec<Mark>,
}

/// One path in the view box.
#[derive(Debug)]
pub(crate) enum Mark {
    Fill { d: String, paint: String, opacity: f64 },
    Stroke { d: String, color: String, width: f64, dash: String },
    Dots { d: String, color: String, size: f64 },
}

/// A vertical gradient.
#[derive(Debug)]
pub(crate) struct Gradient {
    pub(crate) id: String,
    /// Offset 0–1 from the top, colour, opacity.
    pub(crate) stops: Vec<(f64, String, f64)>,
    /// Whether offsets are shares of the plot rather than of the shape.
    pub(crate) over_plot: bool,
}

/// Side of the marks' view box.
pub(crate) const BOX: f64 = 1000.0;

/// A coordinate in the view box, with one decimal at most.
pub(crate) fn coordinate(v: f64) -> String {
    let mut out = String::new();
    push_tenths(tenths(v), &mut out);
    out
}

/// A coordinate in tenths: points that are alike in them are one to the eye.
pub(crate) fn tenths(v: f64) -> i64 {
    if v.is_finite() { (v.clamp(-20_000.0, 20_000.0) * 10.0).round() as i64 } else { 0 }
}

/// Appends a coordinate; a page has hundreds of thousands, and the formatting of floats takes ten times as long.
pub(crate) fn push_tenths(v: i64, out: &mut String) {
    if v < 0 {
        out.push('-');
    }
    let v = v.unsigned_abs();
    out.push_str(itoa::Buffer::new().format(v / 10));
    if !v.is_multiple_of(10) {
        out.push('.');
        out.push(char::from(b'0' + (v % 10) as u8));
    }
}

impl Axis {
    fn width_px(&self) -> i64 {
        let chars = self.ticks.iter().map(|(_, t)| t.chars().count()).max().unwrap_or(0);
        (chars as f64 * CHAR_PX).ceil() as i64 + 12
    }
}

impl Plot {
    /// Writes the plot.
    pub(crate) fn write(&self, out: &mut String) {
        out.push_str("<div class=\"plot\">");
        if let Some(axis) = &self.left {
            write_axis(axis, false, out);
        }
        out.push_str("<div class=\"canvas\">");
        self.write_grid(out);
        self.write_marks(out);
        self.write_texts(out);
        out.push_str("</div>");
        if let Some(axis) = &self.right {
            write_axis(axis, true, out);
        }
        out.push_str("</div>");
    }

    fn write_grid(&self, out: &mut String) {
        out.push_str("<svg class=\"grid\" aria-hidden=\"true\">");
        for band in &self.bands {
            let _ = write!(
                out,
                "<rect x=\"0\" width=\"100%\" y=\"{}%\" height=\"{}%\" fill=\"{}\" fill-opacity=\".15\"/>",
                percent(band.top),
                percent(band.bottom - band.top),
                band.color
            );
        }
        for y in &self.grid {
            let y = percent(*y);
            let _ = write!(out, "<line x1=\"0\" x2=\"100%\" y1=\"{y}%\" y2=\"{y}%\"/>");
        }
        for (x, _) in &self.x_ticks {
            let x = percent(*x);
            let _ = write!(out, "<line x1=\"{x}%\" x2=\"{x}%\" y1=\"0\" y2=\"100%\"/>");
        }
        for event in &self.events {
            let (from, to, color) = (percent(event.from), percent(event.to), &event.color);
            let _ = write!(
                out,
                "<line class=\"event\" color=\"{color}\" x1=\"{from}%\" x2=\"{from}%\" y1=\"0\" y2=\"100%\"/>"
            );
            if event.to > event.from {
                let _ = write!(
                    out,
                    "<rect x=\"{from}%\" width=\"{}%\" height=\"100%\" fill=\"{color}\" fill-opacity=\".1\"/>\
                     <line class=\"event\" color=\"{color}\" x1=\"{to}%\" x2=\"{to}%\" y1=\"0\" y2=\"100%\"/>",
                    percent(event.to - event.from)
                );
            }
        }
        out.push_str("</svg><svg class=\"xaxis\" aria-hidden=\"true\">");
        for (i, (x, label)) in self.x_ticks.iter().enumerate() {
            // The gutter of the axis has room on the left; on the right a label would be cut off.
            let is_last = *x > 0.985;
            // Moved to the left it would meet the one before where these are many.
            if is_last && i > 0 && x - self.x_ticks[i - 1].0 < 0.1 {
                continue;
            }
            let anchor = if is_last { "end" } else { "middle" };
            let odd = if i % 2 == 1 { " class=\"odd\"" } else { "" };
            let _ = write!(out, "<text{odd} x=\"{}%\" y=\"14\" text-anchor=\"{anchor}\">", percent(*x));
            escape_into(label, out);
            out.push_str("</text>");
        }
        for event in &self.events {
            let (from, color, text) = (percent(event.from), &event.color, escape(&event.text));
            if event.to > event.from {
                let width = percent(event.to - event.from);
                let _ = write!(
                    out,
                    "<rect x=\"{from}%\" width=\"{width}%\" height=\"4\" fill=\"{color}\"><title>{text}</title></rect>"
                );
            }
            let _ = write!(
                out,
                "<svg x=\"{from}%\" width=\"1\" height=\"8\" overflow=\"visible\"><path d=\"M-5 7L0 0L5 7Z\" fill=\"{color}\">\
                 <title>{text}</title></path></svg>"
            );
        }
        out.push_str("</svg>");
    }

    fn write_marks(&self, out: &mut String) {
        let _ = write!(
            out,
            "<svg class=\"marks\" viewBox=\"0 0 1000 1000\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}\">",
            escape(&self.label)
        );
        if !self.gradients.is_empty() {
            out.push_str("<defs>");
            for gradient in &self.gradients {
                let over = if gradient.over_plot {
                    " gradientUnits=\"userSpaceOnUse\" x1=\"0\" x2=\"0\" y1=\"0\" y2=\"1000\""
                } else {
                    " x1=\"0\" x2=\"0\" y1=\"0\" y2=\"1\""
                };
                let _ = write!(out, "<linearGradient id=\"{}\"{over}>", gradient.id);
                for (offset, color, opacity) in &gradient.stops {
                    let _ = write!(
                        out,
                        "<stop offset=\"{}\" stop-color=\"{color}\" stop-opacity=\"{}\"/>",
                        short(*offset),
                        short(*opacity)
                    );
                }
                out.push_str("</linearGradient>");
            }
            out.push_str("</defs>");
        }
        for group in &self.marks {
            let _ = write!(out, "<g data-s=\"{}\">", group.series);
            for mark in &group.marks {
                mark.write(out);
            }
            out.push_str("</g>");
        }
        for rule in &self.rules {
            let y = coordinate(rule.y * BOX);
            let dash = if rule.dashed { " stroke-dasharray=\"10 10\"" } else { "" };
            let _ = write!(
                out,
                "<path d=\"M0 {y}H1000\" stroke=\"{}\" stroke-width=\"2\" stroke-opacity=\".7\"{dash} \
                 vector-effect=\"non-scaling-stroke\"/>",
                rule.color
            );
        }
        out.push_str("</svg>");
    }
}

impl Plot {
    fn write_texts(&self, out: &mut String) {
        if self.texts.is_empty() {
            return;
        }
        out.push_str("<svg class=\"texts\" aria-hidden=\"true\">");
        for t in &self.texts {
            let (x, y) = (percent(t.x), percent(t.y));
            let _ = write!(
                out,
                "<text x=\"{x}%\" y=\"{y}%\" font-size=\"12\" text-anchor=\"{}\" fill=\"{}\">",
                t.anchor, t.color
            );
            escape_into(&t.text, out);
            out.push_str("</text>");
        }
        out.push_str("</svg>");
    }
}

impl Mark {
    fn write(&self, out: &mut String) {
        let _ = match self {
            Self::Fill { d, paint, opacity } => {
                write!(out, "<path d=\"{d}\" fill=\"{paint}\" fill-opacity=\"{}\"/>", short(*opacity))
            }
            Self::Stroke { d, color, width, dash } => {
                let dash = if dash.is_empty() { String::new() } else { format!(" stroke-dasharray=\"{dash}\"") };
                write!(
                    out,
                    "<path d=\"{d}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"{}\"{dash} stroke-linejoin=\"round\" \
                     vector-effect=\"non-scaling-stroke\"/>",
                    short(*width)
                )
            }
            // A stroke of no length with round ends is a circle that the stretched box does not squeeze.
            Self::Dots { d, color, size } => write!(
                out,
                "<path d=\"{d}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"{}\" stroke-linecap=\"round\" \
                 vector-effect=\"non-scaling-stroke\"/>",
                short(*size)
            ),
        };
    }
}

fn write_axis(axis: &Axis, is_right: bool, out: &mut String) {
    let side = if is_right { "right" } else { "left" };
    let label = |out: &mut String| {
        let text = escape(&axis.label);
        let _ = match &axis.color {
            _ if axis.label.is_empty() => Ok(()),
            Some(color) => write!(out, "<span class=\"axis-label\">{}</span>", colored(color, &text)),
            None => write!(out, "<span class=\"axis-label\">{text}</span>"),
        };
    };
    if !is_right {
        label(out);
    }
    let width = axis.width_px();
    let _ = write!(out, "<svg class=\"yaxis {side}\" width=\"{width}\" aria-hidden=\"true\">");
    if let Some(color) = &axis.border {
        let x = if is_right { 0 } else { width };
        let _ = write!(out, "<line x1=\"{x}\" x2=\"{x}\" y1=\"0\" y2=\"100%\" stroke=\"{color}\"/>");
    }
    let (x, anchor) = if is_right { (6, "start") } else { (width - 6, "end") };
    let fill = axis.color.as_ref().map(|color| format!(" fill=\"{color}\"")).unwrap_or_default();
    for (y, text) in &axis.ticks {
        let _ = write!(out, "<text x=\"{x}\" y=\"{}%\" text-anchor=\"{anchor}\"{fill}>", percent(*y));
        escape_into(text, out);
        out.push_str("</text>");
    }
    out.push_str("</svg>");
    if is_right {
        label(out);
    }
}

/// A share as percent with two decimals at most.
pub(crate) fn percent(share: f64) -> String {
    let share = if share.is_finite() { share.clamp(-10.0, 10.0) } else { 0.0 };
    short((share * 10_000.0).round() / 100.0)
}

/// A number with two decimals at most.
pub(crate) fn short(v: f64) -> String {
    let mut out = String::new();
    push_short(v, &mut out);
    out
}

/// Appends such a number.
pub(crate) fn push_short(v: f64, out: &mut String) {
    let hundredths = (v * 100.0).round();
    if !hundredths.is_finite() || hundredths.abs() >= 1e15 {
        return out.push_str(&format!("{v}"));
    }
    let hundredths = hundredths as i64;
    if hundredths < 0 {
        out.push('-');
    }
    let n = hundredths.unsigned_abs();
    out.push_str(itoa::Buffer::new().format(n / 100));
    let digit = |d: u64| char::from(b'0' + (d % 10) as u8);
    if !n.is_multiple_of(100) {
        out.push('.');
        out.push(digit(n / 10));
        if !n.is_multiple_of(10) {
            out.push(digit(n));
        }
    }
}

/// A number for the page's data with six significant digits; `null` when it is not finite.
pub(crate) fn data_number(v: Option<f64>) -> String {
    let mut out = String::new();
    push_data_number(v, &mut out);
    out
}

/// Appends such a number.
pub(crate) fn push_data_number(v: Option<f64>, out: &mut String) {
    let Some(v) = v.filter(|v| v.is_finite()) else { return out.push_str("null") };
    if v == 0.0 {
        return out.push('0');
    }
    // Digits and the place of the point, as far as that needs no more than a multiplication.
    let exponent = v.abs().log10().floor() as i32;
    if !(-4..=11).contains(&exponent) {
        let rounded: f64 = format!("{v:.5e}").parse().unwrap_or(v);
        let plain = super::units::js_number(rounded);
        return match plain.len() > 12 {
            true => out.push_str(&format!("{rounded:e}")),
            false => out.push_str(&plain),
        };
    }
    let digits = (v.abs() * 10f64.powi(5 - exponent)).round() as u64;
    if v < 0.0 {
        out.push('-');
    }
    let mut buffer = itoa::Buffer::new();
    if exponent >= 5 {
        out.push_str(buffer.format(digits * 10u64.pow(exponent.unsigned_abs() - 5)));
        return;
    }
    let scale = 10u64.pow((5 - exponent).unsigned_abs());
    out.push_str(buffer.format(digits / scale));
    let rest = digits % scale;
    if rest > 0 {
        out.push('.');
        let text = buffer.format(rest);
        out.extend(std::iter::repeat_n('0', (5 - exponent) as usize - text.len()));
        out.push_str(text.trim_end_matches('0'));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_page_have_six_digits() {
        for (v, expected) in [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1"),
            (-12.5, "-12.5"),
            (0.1 + 0.2, "0.3"),
            (123.456_789, "123.457"),
            (999_999.6, "1000000"),
            (9.999_999, "10"),
            (123_456_789.0, "123457000"),
            (0.000_123_456_7, "0.000123457"),
            (0.001, "0.001"),
            (1e11, "100000000000"),
            (1.234_567_8e15, "1.23457e15"),
            (1e-9, "1e-9"),
            (f64::NAN, "null"),
        ] {
            assert_eq!(data_number(Some(v)), expected, "{v:e}");
        }
        assert_eq!(data_number(None), "null");
    }

    #[test]
    fn short_numbers_have_two_decimals() {
        for (v, expected) in [
            (0.0, "0"),
            (-0.001, "0"),
            (1.5, "1.5"),
            (-2.05, "-2.05"),
            (0.07, "0.07"),
            (100.0, "100"),
            (9.999, "10"),
            (12_345.678, "12345.68"),
        ] {
            assert_eq!(short(v), expected, "{v}");
        }
    }

    #[test]
    fn coordinates_have_one_decimal() {
        for (v, expected) in [
            (0.0, "0"),
            (-0.04, "0"),
            (3.04, "3"),
            (3.06, "3.1"),
            (-1.25, "-1.3"),
            (1e9, "20000"),
            (f64::INFINITY, "0"),
        ] {
            assert_eq!(coordinate(v), expected, "{v}");
        }
    }
}
