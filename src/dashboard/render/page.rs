//! A panel with its frame, and a whole dashboard, as one SVG.

use std::fmt::Write as _;

use crate::dashboard::model::Grid;
use crate::dashboard::scene::short;

use super::dom::parse;
use super::layout::{self, Pen};
use super::text::{Anchor, FAMILY, fit, width, write as write_text};
use super::{Area, Palette};

/// Room around the panels of a dashboard and between them, and the height of a unit of the grid.
const EDGE_PX: f64 = 16.0;
const GAP_PX: f64 = 8.0;
const UNIT_PX: f64 = 30.0;
/// Height of the title of a dashboard and of a row.
const HEAD_PX: f64 = 48.0;
const ROW_PX: f64 = 42.0;

/// A panel that is drawn already.
pub(crate) struct PagePanel {
    pub(crate) title: String,
    /// Why its window is another than the page's.
    pub(crate) note: String,
    /// HTML.
    pub(crate) body: String,
    pub(crate) grid: Grid,
    pub(crate) is_transparent: bool,
}

/// A row with its panels.
pub(crate) struct PageSection {
    /// Empty for panels without a row.
    pub(crate) title: String,
    pub(crate) panels: Vec<PagePanel>,
}

fn open(width_px: f64, height_px: f64, back: &str, out: &mut String) {
    let (w, h) = (short(width_px), short(height_px));
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\" \
         font-family=\"'{FAMILY}', 'Helvetica Neue', Arial, sans-serif\"><rect width=\"{w}\" height=\"{h}\" fill=\"{back}\"/>"
    );
}

/// One panel alone.
pub(crate) fn panel(panel: &PagePanel, (width_px, height_px): (f64, f64), palette: &Palette) -> String {
    let mut out = String::with_capacity(panel.body.len() * 2);
    open(width_px, height_px, palette.panel, &mut out);
    framed(panel, Area { x: 0.0, y: 0.0, w: width_px, h: height_px }, "", palette, &mut out);
    out.push_str("</svg>");
    out
}

/// The title and the body of a panel; the frame is drawn by whoever puts panels beside each other.
fn framed(panel: &PagePanel, area: Area, prefix: &str, palette: &Palette, out: &mut String) {
    let mut top = 8.0;
    if !panel.title.is_empty() || !panel.note.is_empty() {
        let note = width(&panel.note, 12.0);
        let title = fit(&panel.title, 14.0, area.w - 24.0 - note);
        write_text(&title, area.x + 8.0, area.y + 21.0, 14.0, palette.text, Anchor::Start, out);
        let x = area.x + 16.0 + width(&title, 14.0);
        write_text(&panel.note, x, area.y + 21.0, 12.0, palette.link, Anchor::Start, out);
        top = 32.0;
    }
    let pen = Pen { palette, prefix: prefix.to_owned() };
    layout::body(&parse(&panel.body), area.inset(8.0, top, 8.0, 8.0), &pen, out);
}

/// Height of the panels of a section.
fn section_height(section: &PageSection) -> f64 {
    let units = section.panels.iter().map(|p| p.grid.y + p.grid.h).max().unwrap_or(0) as f64;
    if units > 0.0 { units * UNIT_PX + (units - 1.0) * GAP_PX } else { 0.0 }
}

/// Height of a whole dashboard.
pub(crate) fn page_height(sections: &[PageSection]) -> f64 {
    let rows = sections.iter().filter(|s| !s.title.is_empty()).count() as f64;
    let panels: f64 = sections.iter().map(section_height).filter(|h| *h > 0.0).map(|h| h + GAP_PX).sum();
    HEAD_PX + rows * ROW_PX + panels + EDGE_PX
}

/// Width and height that a panel of this place has on a page of this width.
fn place(grid: Grid, page_px: f64) -> Area {
    let column = (page_px - 2.0 * EDGE_PX - 23.0 * GAP_PX) / 24.0;
    let span = |n: i64, unit: f64| n as f64 * unit + (n - 1) as f64 * GAP_PX;
    Area {
        x: EDGE_PX + grid.x as f64 * (column + GAP_PX),
        y: grid.y as f64 * (UNIT_PX + GAP_PX),
        w: span(grid.w, column),
        h: span(grid.h, UNIT_PX),
    }
}

/// A whole dashboard; `height_px` cuts it where it is given.
pub(crate) fn page(
    title: &str,
    window: &str,
    sections: &[PageSection],
    width_px: f64,
    height_px: Option<f64>,
    palette: &Palette,
) -> String {
    let mut out = String::new();
    let height = height_px.unwrap_or_else(|| page_height(sections));
    open(width_px, height, palette.back, &mut out);
    write_text(title, EDGE_PX, 31.0, 18.0, palette.text, Anchor::Start, &mut out);
    write_text(window, width_px - EDGE_PX, 31.0, 13.0, palette.dim, Anchor::End, &mut out);
    let mut y = HEAD_PX;
    let mut n = 0;
    for section in sections {
        if !section.title.is_empty() {
            write_text(&section.title, EDGE_PX, y + 24.0, 15.0, palette.text, Anchor::Start, &mut out);
            y += ROW_PX;
        }
        for panel in &section.panels {
            let mut area = place(panel.grid, width_px);
            area.y += y;
            n += 1;
            if area.y > height {
                continue;
            }
            if !panel.is_transparent {
                let _ = write!(
                    out,
                    "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"3\" fill=\"{}\" stroke=\"{}\"/>",
                    short(area.x + 0.5),
                    short(area.y + 0.5),
                    short(area.w - 1.0),
                    short(area.h - 1.0),
                    palette.panel,
                    palette.line
                );
            }
            framed(panel, area, &format!("n{n}"), palette, &mut out);
        }
        let h = section_height(section);
        y += if h > 0.0 { h + GAP_PX } else { 0.0 };
    }
    out.push_str("</svg>");
    out
}
