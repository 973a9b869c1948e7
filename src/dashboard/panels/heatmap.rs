//! The heatmap panel: buckets over time, coloured by count.
//!
//! # Source
//! Order of buckets, de-cumulation and colours follow Grafana's heatmap.

use std::fmt::Write as _;

use crate::dashboard::color;
use crate::dashboard::frame::{Field, Frame};
use crate::dashboard::json::{flag, number, string, text};
use crate::dashboard::model::{Format, Panel};
use crate::dashboard::query::PanelData;
use crate::dashboard::scene::{Axis, BOX, Mark, Plot, SeriesMarks, coordinate, data_number};
use crate::dashboard::ticks::time_ticks;
use crate::dashboard::timerange::{Window, parse_interval, round_interval};
use crate::dashboard::units::{Unit, js_number};

use super::category::nice_step;
use super::timeseries::{json_text, unit_json};
use super::{DrawContext, no_data};

/// Cells that are drawn.
const CELLS_MAX: usize = 60_000;
/// Counts at or below this are empty cells.
const EMPTY: f64 = 1e-9;

/// A row of cells.
struct Row {
    name: String,
    bound: f64,
    times: std::sync::Arc<[i64]>,
    counts: Vec<Option<f64>>,
}

pub(super) fn draw(panel: &Panel, data: &PanelData, window: &Window, context: &DrawContext<'_>, out: &mut String) {
    let mut rows = match flag(&panel.options, "calculate").unwrap_or(false) {
        true => calculated(panel, data, window, context),
        false => rows(panel, data),
    };
    if is_reversed(panel) {
        rows.reverse();
    }
    let largest = rows.iter().flat_map(|r| r.counts.iter().flatten()).copied().fold(0.0, f64::max);
    if rows.is_empty() || largest <= EMPTY {
        no_data(panel, out);
        return;
    }
    let least =
        rows.iter().flat_map(|r| r.counts.iter().flatten()).copied().filter(|v| *v > EMPTY).fold(largest, f64::min);
    let low = number(&panel.options, "color.min").unwrap_or(least);
    let high = number(&panel.options, "color.max").unwrap_or(largest);
    let plot = scene(panel, &rows, (low, high), window, context);
    out.push_str("<div class=\"graph below\">");
    plot.write(out);
    legend(panel, (low, high), context, out);
    write_data(panel, &rows, window, out);
    out.push_str("</div>");
}

/// Whether the smallest values stand at the top.
fn is_reversed(panel: &Panel) -> bool {
    flag(&panel.options, "yAxis.reverse").unwrap_or(false)
}

fn rows(panel: &Panel, data: &PanelData) -> Vec<Row> {
    let is_heatmap = panel.targets.iter().any(|t| t.format == Format::Heatmap);
    let row = |frame: &Frame| {
        let field = frame.fields.iter().find(|f| f.is_number())?;
        let text = field.labels.get("le").map_or_else(|| field.display.clone(), str::to_owned);
        let bound = match text.as_str() {
            "+Inf" | "Inf" => f64::INFINITY,
            other => other.parse().unwrap_or(f64::NAN),
        };
        let counts = field.numbers().unwrap_or(&[]).to_vec();
        Some(Row { name: text, bound, times: frame.times()?.clone(), counts })
    };
    let mut rows: Vec<Row> = data.frames.iter().filter_map(row).collect();
    rows.sort_by(|a, b| a.bound.total_cmp(&b.bound));
    // The same bucket of several series is one row.
    let mut merged: Vec<Row> = Vec::new();
    for row in rows {
        match merged.last_mut() {
            Some(last) if last.name == row.name && last.times == row.times => {
                for (sum, v) in last.counts.iter_mut().zip(&row.counts) {
                    *sum = match (*sum, *v) {
                        (Some(a), Some(b)) => Some(a + b),
                        (a, b) => a.or(b),
                    };
                }
            }
            _ => merged.push(row),
        }
    }
    if is_heatmap && merged.iter().all(|r| !r.bound.is_nan()) {
        for i in (1..merged.len()).rev() {
            let (below, above) = merged.split_at_mut(i);
            let (lower, upper) = (&below[i - 1], &mut above[0]);
            for (v, l) in upper.counts.iter_mut().zip(&lower.counts) {
                if let (Some(a), Some(b)) = (&v, l) {
                    *v = Some((*a - b).max(0.0)).map(|d| if d < EMPTY { 0.0 } else { d });
                }
            }
        }
    }
    merged
}

/// Rows that count the values of plain series: how many of them lie in a range during a while.
fn calculated(panel: &Panel, data: &PanelData, window: &Window, context: &DrawContext<'_>) -> Vec<Row> {
    const COLUMNS: f64 = 20.0;
    const ROWS: f64 = 10.0;
    const ROWS_MAX: f64 = 200.0;
    let points: Vec<(i64, f64)> = data
        .frames
        .iter()
        .filter_map(|f| f.times().map(|t| (f, t)))
        .flat_map(|(f, t)| f.fields.iter().filter_map(Field::numbers).flat_map(move |v| t.iter().copied().zip(v)))
        .filter_map(|(t, v)| Some((t, (*v).filter(|v| v.is_finite())?)))
        .collect();
    let low = points.iter().map(|p| p.1).fold(f64::INFINITY, f64::min);
    let high = points.iter().map(|p| p.1).fold(f64::NEG_INFINITY, f64::max);
    if low > high {
        return Vec::new();
    }
    let wanted = |axis: &str, mode: &str| {
        let path = format!("calculation.{axis}");
        let is_mode = text(&panel.options, &format!("{path}.mode")).unwrap_or("count") == mode;
        number(&panel.options, &format!("{path}.value")).filter(|v| is_mode && *v > 0.0)
    };
    let duration = match text(&panel.options, "calculation.xBuckets.mode") {
        Some("count") => None,
        _ => parse_interval(&context.text(&string(&panel.options, "calculation.xBuckets.value"))),
    };
    let counted = (window.length_ms() as f64 / wanted("xBuckets", "count").unwrap_or(COLUMNS)).max(1_000.0) as i64;
    let step = duration.unwrap_or_else(|| round_interval(counted)).max(window.length_ms() / 500).max(1);
    let span = (high - low).max(f64::MIN_POSITIVE);
    let size = match wanted("yBuckets", "size") {
        Some(size) => size.max(span / ROWS_MAX),
        None => nice_step(span / wanted("yBuckets", "count").unwrap_or(ROWS).min(ROWS_MAX)),
    };
    let first = (low / size).floor();
    let n = ((high / size).floor() - first + 1.0).clamp(1.0, ROWS_MAX + 1.0) as usize;
    let start = window.from_ms.div_euclid(step) * step;
    let times: std::sync::Arc<[i64]> = (0..=(window.to_ms - start) / step).map(|i| start + i * step).collect();
    let mut counts = vec![vec![Some(0.0); times.len()]; n];
    for (t, v) in points {
        let row = ((v / size).floor() - first) as usize;
        let column = usize::try_from((t - start).div_euclid(step)).unwrap_or(usize::MAX);
        if let Some(Some(count)) = counts.get_mut(row.min(n - 1)).and_then(|r| r.get_mut(column)) {
            *count += 1.0;
        }
    }
    let row = |(i, counts): (usize, Vec<Option<f64>>)| {
        let bound = (first + i as f64 + 1.0) * size;
        Row { name: js_number(bound), bound, times: times.clone(), counts }
    };
    counts.into_iter().enumerate().map(row).collect()
}

fn step_of(rows: &[Row]) -> i64 {
    rows.iter().flat_map(|r| r.times.windows(2).map(|w| w[1] - w[0])).min().unwrap_or(60_000)
}

fn scene(panel: &Panel, rows: &[Row], (low, high): (f64, f64), window: &Window, context: &DrawContext<'_>) -> Plot {
    let length = window.length_ms().max(1) as f64;
    let x_of = |t: i64| (t - window.from_ms) as f64 / length;
    let n = rows.len() as f64;
    let unit = Unit::find(&string(&panel.options, "yAxis.unit"));
    let label =
        |row: &Row| if row.bound.is_finite() { unit.format(row.bound, None, context.tz) } else { row.name.clone() };
    let plot_px = context.height_px - 44.0;
    let every = (n * 15.0 / plot_px.max(15.0)).ceil().max(1.0) as usize;
    // A label stands at the upper bound of its bucket, which is its lower edge where the axis is reversed.
    let edge = if is_reversed(panel) { 0.0 } else { 1.0 };
    let ticks = rows.iter().enumerate().filter(|(i, _)| (rows.len() - 1 - i).is_multiple_of(every));
    let left = Axis { ticks: ticks.map(|(i, r)| (1.0 - (i as f64 + edge) / n, label(r))).collect(), ..Axis::default() };
    let mut plot = Plot {
        label: format!("{}: heatmap of {} buckets.", context.text(&panel.title), rows.len()),
        left: Some(left),
        ..Plot::default()
    };
    for (t, text) in time_ticks(window.from_ms, window.to_ms, context.width_px - 50.0, context.tz) {
        plot.x_ticks.push((x_of(t), text));
    }
    super::mark_events(&mut plot, window, context);
    const SHADES: usize = 64;
    let mut paths = vec![String::new(); SHADES];
    let step = step_of(rows);
    let unit_px = (context.width_px - 50.0).max(50.0) / BOX;
    let cell_px = step as f64 / length * BOX * unit_px;
    // Gaps between narrow cells would shimmer; those overlap a little instead, so that no seam shows.
    let gap_x = if cell_px >= 8.0 { 1.0 / unit_px } else { -0.4 / unit_px };
    let gap_y = BOX / plot_px.max(50.0);
    let mut cells = 0;
    for (i, row) in rows.iter().enumerate() {
        let (top, bottom) =
            ((1.0 - (i as f64 + 1.0) / n) * BOX + gap_y / 2.0, (1.0 - i as f64 / n) * BOX - gap_y / 2.0);
        for (t, v) in row.times.iter().zip(&row.counts) {
            let Some(v) = v.filter(|v| v.is_finite() && *v > EMPTY) else { continue };
            cells += 1;
            if cells > CELLS_MAX {
                break;
            }
            let share = if high > low { ((v - low) / (high - low)).clamp(0.0, 1.0) } else { 1.0 };
            let shade = ((share * SHADES as f64) as usize).min(SHADES - 1);
            let (from, to) = (x_of(t - step) * BOX, x_of(*t) * BOX);
            let wide = (to - from - gap_x).max(0.3);
            let c = coordinate;
            let _ = write!(paths[shade], "M{} {}H{}V{}H{}Z", c(from), c(top), c(from + wide), c(bottom), c(from));
        }
    }
    let marks = paths
        .into_iter()
        .enumerate()
        .filter(|(_, d)| !d.is_empty())
        .map(|(shade, d)| {
            let share = shade as f64 / (SHADES - 1) as f64;
            let (paint, opacity) = cell_color(panel, share, context);
            Mark::Fill { d, paint, opacity }
        })
        .collect();
    plot.marks.push(SeriesMarks { series: 0, marks });
    plot
}

fn cell_color(panel: &Panel, share: f64, context: &DrawContext<'_>) -> (String, f64) {
    let options = &panel.options;
    if text(options, "color.mode") == Some("opacity") {
        let fill = text(options, "color.fill").unwrap_or("dark-orange");
        let exponent = number(options, "color.exponent").unwrap_or(0.5).clamp(0.01, 10.0);
        return (color::resolve(fill, context.theme), share.powf(exponent).max(0.05));
    }
    let scheme = text(options, "color.scheme").unwrap_or("Oranges");
    let reverse = flag(options, "color.reverse").unwrap_or(false);
    (color::heatmap(scheme, share, reverse != color::is_turned(scheme, context.theme)), 1.0)
}

/// A strip of colours from the smallest to the largest count.
fn legend(panel: &Panel, (low, high): (f64, f64), context: &DrawContext<'_>, out: &mut String) {
    if flag(&panel.options, "legend.show") == Some(false) {
        return;
    }
    let unit = Unit::find(text(&panel.options, "cellValues.unit").unwrap_or("short"));
    let _ = write!(
        out,
        "<div class=\"scale\"><span>{}</span><svg aria-hidden=\"true\">",
        unit.format(if low.abs() < high.abs() / 1e4 { 0.0 } else { low }, None, context.tz)
    );
    const PARTS: usize = 32;
    for i in 0..PARTS {
        let (paint, opacity) = cell_color(panel, i as f64 / (PARTS - 1) as f64, context);
        let _ = write!(
            out,
            "<rect x=\"{}%\" width=\"3.3%\" height=\"100%\" fill=\"{paint}\" fill-opacity=\"{opacity:.2}\"/>",
            i as f64 * 100.0 / PARTS as f64
        );
    }
    let _ = write!(out, "</svg><span>{}</span></div>", unit.format(high, None, context.tz));
}

/// The counts, for the script's tooltip.
fn write_data(panel: &Panel, rows: &[Row], window: &Window, out: &mut String) {
    let mut series = String::new();
    for (i, row) in rows.iter().enumerate() {
        let counts: Vec<String> = row.counts.iter().map(|v| data_number(*v)).collect();
        let _ = write!(
            series,
            "{}{{\"i\":{i},\"n\":{},\"c\":\"\",\"u\":0,\"a\":0,\"g\":0,\"v\":[{}]}}",
            if i > 0 { "," } else { "" },
            json_text(&row.name),
            counts.join(",")
        );
    }
    let times = rows.first().map_or(&[][..], |r| &r.times);
    let _ = write!(
        out,
        "<script type=\"application/json\" class=\"data\">{{\"from\":{},\"to\":{},\"mode\":\"heatmap\",\"sort\":\"none\",\
         \"axes\":[[0,{},0]],\"units\":[{}],\"grids\":[{{\"s\":{},\"d\":{},\"n\":{}}}],\"series\":[{series}]}}</script>",
        window.from_ms,
        window.to_ms,
        rows.len(),
        unit_json(text(&panel.options, "cellValues.unit").unwrap_or("short"), None),
        times.first().copied().unwrap_or(0),
        step_of(rows),
        times.len()
    );
}
