//! A graph of characters: eight dots to each, by the Braille patterns of Unicode.

use std::io::{self, Write};

use super::answer::{Answered, SeriesValues, metric_text, time_text};

/// Lines of the plot.
const ROWS: usize = 16;
/// Series in the list below it.
const LISTED_MAX: usize = 20;
/// Dots of a character.
const DOTS_X: usize = 2;
const DOTS_Y: usize = 4;
/// Bits of a Braille character by row and column of the dot.
const BITS: [[u32; DOTS_X]; DOTS_Y] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];
const BRAILLE: u32 = 0x2800;

/// Writes a plot of all series and the list of them.
pub(super) fn put(answered: &Answered, columns: usize, out: &mut dyn Write) -> io::Result<()> {
    let Answered::Series(all) = answered else { return super::answer::put_promql(answered, out) };
    let finite = |s: &SeriesValues| -> Vec<(i64, f64)> {
        s.points.iter().filter_map(|p| Some((p.t_ms, p.value.filter(|v| v.is_finite())?))).collect()
    };
    let series: Vec<Vec<(i64, f64)>> = all.iter().map(finite).collect();
    let points = || series.iter().flatten();
    let Some((first, last)) = points().map(|p| p.0).min().zip(points().map(|p| p.0).max()) else {
        return writeln!(out, "no values");
    };
    let (low, high) = points().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), p| (l.min(p.1), h.max(p.1)));
    // A line at one height stands in the middle.
    let (low, high) = if low == high { (low - 1.0, high + 1.0) } else { (low, high) };
    let label = |row: usize| number(high - (high - low) * row as f64 / (ROWS - 1) as f64);
    let labels: Vec<String> = (0..ROWS).map(|row| if row % 5 == 0 { label(row) } else { String::new() }).collect();
    let margin = labels.iter().map(String::len).max().unwrap_or(0);
    let width = columns.saturating_sub(margin + 2).max(10);
    let mut canvas = Canvas::new(width, ROWS);
    let x = |t: i64| scaled((t - first) as f64, (last - first) as f64, width * DOTS_X);
    let y = |v: f64| ROWS * DOTS_Y - 1 - scaled(v - low, high - low, ROWS * DOTS_Y);
    for points in &series {
        for pair in points.windows(2) {
            canvas.line((x(pair[0].0), y(pair[0].1)), (x(pair[1].0), y(pair[1].1)));
        }
        // A point alone has no line.
        for (t, v) in points {
            canvas.dot(x(*t), y(*v));
        }
    }
    for (row, label) in labels.iter().enumerate() {
        let line: String = canvas.row(row).collect();
        writeln!(out, "{label:>margin$} ┤{}", line.trim_end_matches('\u{2800}'))?;
    }
    let (from, to) = (time_text(first), time_text(last));
    writeln!(out, "{:margin$} └{}", "", "─".repeat(width))?;
    let gap = width.saturating_sub(from.len() + to.len()).max(1);
    writeln!(out, "{:margin$}  {from}{:gap$}{to}", "", "")?;
    for (series, points) in all.iter().zip(&series).take(LISTED_MAX) {
        let (low, high) = points.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), p| (l.min(p.1), h.max(p.1)));
        let metric = metric_text(&series.labels);
        match points.last() {
            Some((_, last)) => {
                writeln!(out, "{metric}  least {}, most {}, last {}", number(low), number(high), number(*last))?;
            }
            None => writeln!(out, "{metric}  no values")?,
        }
    }
    if all.len() > LISTED_MAX {
        writeln!(out, "and {} more series", all.len() - LISTED_MAX)?;
    }
    Ok(())
}

/// The dot, from 0 to `n` - 1, of a part of a whole.
fn scaled(part: f64, whole: f64, n: usize) -> usize {
    if whole <= 0.0 {
        return 0;
    }
    // Between 0 and n - 1, so that the cast is exact enough.
    ((part / whole).clamp(0.0, 1.0) * (n - 1) as f64).round() as usize
}

/// Four digits, or as many as a whole number has.
fn number(v: f64) -> String {
    let digits = v.abs().log10().floor();
    if v == 0.0 || (-4.0..15.0).contains(&digits) {
        let decimals = if v == 0.0 { 0 } else { (3.0 - digits).clamp(0.0, 8.0) as usize };
        let text = format!("{v:.decimals$}");
        let short = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
        return short.to_owned();
    }
    format!("{v:.3e}")
}

/// Dots.
struct Canvas {
    width: usize,
    cells: Vec<u32>,
}

impl Canvas {
    fn new(width: usize, height: usize) -> Self {
        Self { width, cells: vec![0; width * height] }
    }

    fn dot(&mut self, x: usize, y: usize) {
        if let Some(cell) = self.cells.get_mut(y / DOTS_Y * self.width + x / DOTS_X) {
            *cell |= BITS[y % DOTS_Y][x % DOTS_X];
        }
    }

    fn line(&mut self, from: (usize, usize), to: (usize, usize)) {
        let steps = from.0.abs_diff(to.0).max(from.1.abs_diff(to.1)).max(1);
        let between = |a: usize, b: usize, i: usize| {
            (a as f64 + (b as f64 - a as f64) * i as f64 / steps as f64).round() as usize
        };
        for i in 0..=steps {
            self.dot(between(from.0, to.0, i), between(from.1, to.1, i));
        }
    }

    fn row(&self, row: usize) -> impl Iterator<Item = char> {
        let cells = &self.cells[row * self.width..(row + 1) * self.width];
        cells.iter().map(|bits| char::from_u32(BRAILLE + bits).unwrap_or(' '))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::query::answer;

    #[test]
    fn a_ramp_rises_from_corner_to_corner() {
        let values: Vec<String> = (0..10).map(|i| format!("[{},\"{i}\"]", 1_700_000_000 + i * 60)).collect();
        let data = format!(
            r#"{{"resultType":"matrix","result":[{{"metric":{{"__name__":"m"}},"values":[{}]}}]}}"#,
            values.join(",")
        );
        let mut out = Vec::new();
        put(&answer::read(&serde_json::from_str(&data).unwrap()).unwrap(), 60, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), ROWS + 3, "{text}");
        assert!(lines[0].starts_with("9 ┤") && lines[15].starts_with("0 ┤"), "{text}");
        let blanks = |line: &str| line.chars().skip(3).take_while(|c| *c == '\u{2800}').count();
        assert!(lines[..16].windows(2).all(|w| blanks(w[0]) > blanks(w[1])), "{text}");
        assert!(lines[17].contains("2023-11-14T22:13:20Z") && lines[17].ends_with("2023-11-14T22:22:20Z"), "{text}");
        assert_eq!(lines[18], "m  least 0, most 9, last 9");
    }

    #[test]
    fn numbers_are_short() {
        for (v, text) in [(0.0, "0"), (1234.5678, "1235"), (0.012345, "0.01235"), (1e20, "1.000e20"), (-2.5, "-2.5")] {
            assert_eq!(number(v), text);
        }
    }

    #[test]
    fn nothing_to_draw_says_so() {
        let data = serde_json::json!({"resultType": "matrix", "result": []});
        let mut out = Vec::new();
        put(&answer::read(&data).unwrap(), 60, &mut out).unwrap();
        assert_eq!(out, b"no values\n");
    }
}
