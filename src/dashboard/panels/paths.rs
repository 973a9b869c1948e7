//! Values along time into path data.

use crate::dashboard::scene::{BOX, push_tenths, tenths};

/// A point in the view box.
pub(super) type Point = (f64, f64);

/// How points are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interpolation {
    Linear,
    Smooth,
    StepBefore,
    StepAfter,
}

impl Interpolation {
    pub(super) fn of(name: &str) -> Self {
        match name {
            "smooth" => Self::Smooth,
            "stepBefore" => Self::StepBefore,
            "stepAfter" => Self::StepAfter,
            _ => Self::Linear,
        }
    }
}

/// Gaps that are bridged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum SpanNulls {
    Never,
    Always,
    /// Gaps shorter than so many ms.
    Below(f64),
}

/// Where lines are cut.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Gaps {
    pub(super) bridged: SpanNulls,
    /// Points further apart than so many ms have a gap between them.
    pub(super) step_ms_max: Option<f64>,
}

impl Gaps {
    /// Where values are missing, as far as these are not `bridged`.
    pub(super) fn bridged(bridged: SpanNulls) -> Self {
        Self { bridged, step_ms_max: None }
    }
}

/// Runs of neighbouring points: cut at gaps unless they are bridged.
pub(super) fn runs(times: &[i64], values: &[Option<f64>], gaps: Gaps) -> Vec<Vec<(i64, f64)>> {
    let mut out: Vec<Vec<(i64, f64)>> = Vec::new();
    let mut gap = true;
    for (t, v) in times.iter().zip(values) {
        let Some(v) = v.filter(|v| v.is_finite()) else {
            gap = true;
            continue;
        };
        let last = out.last().and_then(|run| run.last());
        gap |= last.zip(gaps.step_ms_max).is_some_and(|((last, _), max)| (t - last) as f64 > max);
        let bridged = match (gaps.bridged, last) {
            (_, None) => false,
            (SpanNulls::Always, _) => true,
            (SpanNulls::Below(ms), Some((last, _))) if gap => ((t - last) as f64) < ms,
            _ => !gap,
        };
        match out.last_mut() {
            Some(run) if bridged => run.push((*t, v)),
            _ => out.push(vec![(*t, v)]),
        }
        gap = false;
    }
    out
}

fn push_point(d: &mut String, command: char, p: Point) {
    push_pair(d, command, (tenths(p.0), tenths(p.1)));
}

fn push_pair(d: &mut String, command: char, (x, y): (i64, i64)) {
    d.push(command);
    push_tenths(x, d);
    d.push(' ');
    push_tenths(y, d);
}

/// Appends `command` and one coordinate.
fn push_one(d: &mut String, command: char, v: i64) {
    d.push(command);
    push_tenths(v, d);
}

/// Appends the line through `points`, beginning with `first` (`M` or `L`). Where it stays level its ends are enough.
pub(super) fn line(points: &[Point], how: Interpolation, first: char, d: &mut String) {
    let Some(start) = points.first() else { return };
    push_point(d, first, *start);
    let mut at = (tenths(start.0), tenths(start.1));
    // How far the present level reaches beyond what is written.
    let mut level: Option<i64> = None;
    let rest = points[1..].iter().map(|p| (tenths(p.0), tenths(p.1)));
    match how {
        Interpolation::Linear => {
            for (x, y) in rest {
                if y == at.1 {
                    level = Some(x);
                    continue;
                }
                if let Some(x) = level.take() {
                    push_one(d, 'H', x);
                }
                push_pair(d, 'L', (x, y));
                at = (x, y);
            }
        }
        Interpolation::StepAfter => {
            for (x, y) in rest {
                level = Some(x);
                if y != at.1 {
                    push_one(d, 'H', x);
                    push_one(d, 'V', y);
                    (at, level) = ((x, y), None);
                }
            }
        }
        Interpolation::StepBefore => {
            for (x, y) in rest {
                if y != at.1 {
                    if let Some(x) = level {
                        push_one(d, 'H', x);
                    }
                    push_one(d, 'V', y);
                    at.1 = y;
                }
                level = Some(x);
            }
        }
        Interpolation::Smooth => smooth(points, d),
    }
    if let Some(x) = level {
        push_one(d, 'H', x);
    }
}

/// Appends a curve through two control points to its end.
fn push_curve(d: &mut String, points: [Point; 3]) {
    for (i, p) in points.into_iter().enumerate() {
        push_point(d, if i == 0 { 'C' } else { ' ' }, p);
    }
}

/// Monotone cubic curve: passes through the points and never overshoots them.
fn smooth(points: &[Point], d: &mut String) {
    let n = points.len();
    let slope = |i: usize| {
        let (a, b) = (points[i], points[i + 1]);
        if b.0 > a.0 { (b.1 - a.1) / (b.0 - a.0) } else { 0.0 }
    };
    let tangent = |i: usize| {
        if i == 0 || i + 1 == n {
            return if n < 2 { 0.0 } else { slope(i.min(n - 2)) };
        }
        let (left, right) = (slope(i - 1), slope(i));
        if left * right <= 0.0 { 0.0 } else { 2.0 * left * right / (left + right) }
    };
    for i in 0..n.saturating_sub(1) {
        let (a, b) = (points[i], points[i + 1]);
        let third = (b.0 - a.0) / 3.0;
        let out = (a.0 + third, a.1 + third * tangent(i));
        push_curve(d, [out, (b.0 - third, b.1 - third * tangent(i + 1)), b]);
    }
}

/// Appends the area between `top` and `bottom` (same x, given left to right).
pub(super) fn area(top: &[Point], bottom: &[Point], how: Interpolation, d: &mut String) {
    line(top, how, 'M', d);
    let back: Vec<Point> = bottom.iter().rev().copied().collect();
    let reverse = match how {
        Interpolation::StepAfter => Interpolation::StepBefore,
        Interpolation::StepBefore => Interpolation::StepAfter,
        other => other,
    };
    // A level bottom needs its ends only.
    let is_level = back.iter().all(|p| (p.1 - back[0].1).abs() < 0.05);
    match (is_level, back.first(), back.last()) {
        (true, Some(first), Some(last)) => {
            push_point(d, 'L', *first);
            push_point(d, 'L', *last);
        }
        _ if how == Interpolation::Smooth => line_back_smooth(&back, d),
        _ => line(&back, reverse, 'L', d),
    }
    d.push('Z');
}

fn line_back_smooth(back: &[Point], d: &mut String) {
    let Some(first) = back.first() else { return };
    push_point(d, 'L', *first);
    // The curve through mirrored points is the mirror of the curve.
    let mirrored: Vec<Point> = back.iter().map(|p| (BOX - p.0, p.1)).collect();
    let n = mirrored.len();
    let mut forward = String::new();
    if n > 1 {
        smooth(&mirrored, &mut forward);
    }
    let mut numbers = forward.split(['C', ' ']).filter(|t| !t.is_empty()).filter_map(|t| t.parse::<f64>().ok());
    while let (Some(x1), Some(y1), Some(x2), Some(y2), Some(x), Some(y)) =
        (numbers.next(), numbers.next(), numbers.next(), numbers.next(), numbers.next(), numbers.next())
    {
        push_curve(d, [(BOX - x1, y1), (BOX - x2, y2), (BOX - x, y)]);
    }
}

/// Appends a dot at every point.
pub(super) fn dots(points: impl Iterator<Item = Point>, d: &mut String) {
    for p in points {
        push_point(d, 'M', p);
        d.push_str("h0");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(values: &[Option<f64>], span: SpanNulls, expected: &[usize]) {
        let times: Vec<i64> = (0..values.len() as i64).map(|i| i * 1000).collect();
        let lengths: Vec<usize> = runs(&times, values, Gaps::bridged(span)).iter().map(Vec::len).collect();
        assert_eq!(lengths, expected, "{values:?} {span:?}");
    }

    #[test]
    fn points_too_far_apart_have_a_gap_between_them() {
        let times = [0, 1_000, 5_000, 6_000];
        for (bridged, expected) in [
            (SpanNulls::Never, vec![2, 2]),
            (SpanNulls::Below(4_000.0), vec![2, 2]),
            (SpanNulls::Below(4_001.0), vec![4]),
            (SpanNulls::Always, vec![4]),
        ] {
            let found = runs(&times, &[Some(1.0); 4], Gaps { bridged, step_ms_max: Some(3_999.0) });
            assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), expected, "{bridged:?}");
        }
        let found = runs(&times, &[Some(1.0); 4], Gaps { bridged: SpanNulls::Never, step_ms_max: Some(4_000.0) });
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn gaps_break_lines_unless_bridged() {
        let values = [Some(1.0), None, Some(2.0), Some(f64::NAN), None, None, Some(3.0), Some(4.0)];
        check(&values, SpanNulls::Never, &[1, 1, 2]);
        check(&values, SpanNulls::Always, &[4]);
        check(&values, SpanNulls::Below(3000.0), &[2, 2]);
        check(&[None, None], SpanNulls::Always, &[]);
    }

    #[test]
    fn lines_step_and_curve() {
        let points = [(0.0, 0.0), (10.0, 5.0), (20.0, 0.0)];
        for (how, expected) in [
            (Interpolation::Linear, "M0 0L10 5L20 0"),
            (Interpolation::StepAfter, "M0 0H10V5H20V0"),
            (Interpolation::StepBefore, "M0 0V5H10V0H20"),
            (Interpolation::Smooth, "M0 0C3.3 1.7 6.7 5 10 5C13.3 5 16.7 1.7 20 0"),
        ] {
            let mut d = String::new();
            line(&points, how, 'M', &mut d);
            assert_eq!(d, expected, "{how:?}");
        }
        let level = [(0.0, 5.0), (10.0, 5.0), (20.0, 5.0), (30.0, 0.0), (40.0, 0.0)];
        for (how, expected) in [
            (Interpolation::Linear, "M0 5H20L30 0H40"),
            (Interpolation::StepAfter, "M0 5H30V0H40"),
            (Interpolation::StepBefore, "M0 5H20V0H40"),
        ] {
            let mut d = String::new();
            line(&level, how, 'M', &mut d);
            assert_eq!(d, expected, "{how:?}");
        }
        let mut d = String::new();
        area(&points, &[(0.0, 9.0), (10.0, 9.0), (20.0, 9.0)], Interpolation::Linear, &mut d);
        assert_eq!(d, "M0 0L10 5L20 0L20 9L0 9Z");
    }
}
