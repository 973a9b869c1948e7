//! `rate`, `increase`, `delta`, `irate`, `idelta`, and what `anchored` and `smoothed` make of them.

use std::sync::Arc;

use promontory_model::FloatHistogram;
use promontory_model::histogram::CounterResetHint;

use super::Query;
use super::values::{Point, RangeVector, Window};
use crate::ast::Span;
use crate::histogram::{self, Accumulator, detect_reset, is_custom};
use crate::notes::{self, HistogramOperation};
use crate::value::SampleValue;

/// Which of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RateKind {
    Rate,
    Increase,
    Delta,
}

impl RateKind {
    fn is_counter(self) -> bool {
        self != Self::Delta
    }
}

type HistogramPoint = Point<Arc<FloatHistogram>>;

/// Whether a counter was reset between two samples, by their start timestamps alone.
pub(super) fn start_reset<T, U>(previous: &Point<T>, current: &Point<U>) -> bool {
    // Unknown, or not before its own sample.
    if current.start == 0 || current.start >= current.t || current.start < previous.t {
        return false;
    }
    if current.start > previous.t {
        return true;
    }
    // It starts at the sample before: a delta, unless that one's start is unknown or invalid too.
    previous.start != 0 && previous.start < previous.t
}

/// Whether a sample claims to count since before the sample that precedes it, and not since that one's start.
fn start_overlap<T, U>(previous: &Point<T>, current: &Point<U>) -> bool {
    current.start != 0 && current.start < previous.t && current.start != previous.start
}

/// The value at `t` on the line between two samples; a counter that was reset between them starts from 0.
pub(super) fn interpolate(a: (i64, f64), b: (i64, f64), t: i64, is_counter: bool) -> f64 {
    let from = if is_counter && b.1 < a.1 { 0.0 } else { a.1 };
    from + (b.1 - from) * (t - a.0) as f64 / (b.0 - a.0) as f64
}

/// The samples of an extended window that stand at its bounds.
pub(super) struct Edges {
    first: usize,
    last: usize,
    pub(super) left: f64,
    pub(super) right: f64,
}

/// First and last index of an extended window: the last sample up to its start, and the last one inside it, or the
/// first one from its end on when smoothed. `None` when the window lies outside the samples.
fn edge_indexes<T>(points: &[Point<T>], range: &RangeVector) -> Option<(usize, usize)> {
    let mut last = points.len().checked_sub(1)?;
    let first = points[..last].partition_point(|p| p.t <= range.start_ms).saturating_sub(1);
    if range.is_smoothed() {
        last = points[..last].partition_point(|p| p.t < range.end_ms);
    }
    if points[last].t <= range.start_ms || (range.is_smoothed() && points[first].t > range.end_ms) {
        return None;
    }
    Some((first, last))
}

impl Edges {
    pub(super) fn of(points: &[Point<f64>], range: &RangeVector, is_counter: bool) -> Option<Self> {
        let (first, last) = edge_indexes(points, range)?;
        let at = |i: usize| (points[i].t, points[i].value);
        let left = if range.is_smoothed() && points[first].t < range.start_ms {
            interpolate(at(first), at(first + 1), range.start_ms, is_counter)
        } else {
            points[first].value
        };
        let right = if range.is_smoothed() && last > 0 && points[last].t > range.end_ms {
            interpolate(at(last - 1), at(last), range.end_ms, is_counter)
        } else {
            points[last].value
        };
        Some(Self { first, last, left, right })
    }
}

impl Query<'_> {
    /// The value of `rate`, `increase` or `delta` for one series.
    pub(super) fn rate(&self, kind: RateKind, w: &Window, range: &RangeVector, span: Span) -> Option<SampleValue> {
        if !w.floats.is_empty() && !w.histograms.is_empty() {
            self.warn(notes::mixed_floats_histograms(w.name()), span);
            return None;
        }
        let value = match (range.extension.is_some(), w.histograms.is_empty()) {
            (true, true) => extended_rate(kind, w, range).map(SampleValue::Float),
            (true, false) => self.extended_histogram_rate(kind, w, range, span),
            (false, true) => self.float_rate(kind, w, range, span).map(SampleValue::Float),
            (false, false) => self.histogram_rate(kind, w, range, span),
        };
        if kind.is_counter() && matches!(value, Some(SampleValue::Float(_))) {
            self.check_counter_name(w, span);
        }
        value
    }

    fn check_counter_name(&self, w: &Window, span: Span) {
        let name = w.name();
        if name.is_empty() {
            return;
        }
        if self.options.type_and_unit_labels {
            let kind = w.labels.get("__type__").unwrap_or("");
            if !matches!(kind, "counter" | "histogram") {
                self.info(notes::possible_non_counter_label(name, kind), span);
            }
        } else if !["_total", "_sum", "_count", "_bucket"].iter().any(|suffix| name.ends_with(suffix)) {
            self.info(notes::possible_non_counter(name), span);
        }
    }

    fn float_rate(&self, kind: RateKind, w: &Window, range: &RangeVector, span: Span) -> Option<f64> {
        let (first, last) = (w.floats.first()?, w.floats.last()?);
        let mut increase = last.value - first.value;
        if kind.is_counter() {
            let mut overlap = false;
            for pair in w.floats.windows(2) {
                overlap |= start_overlap(&pair[0], &pair[1]);
                if pair[1].value < pair[0].value || start_reset(&pair[0], &pair[1]) {
                    increase += pair[0].value;
                }
            }
            if overlap {
                self.warn(notes::start_time_overlap(w.name()), span);
            }
        }
        let (from_zero, factor) = extrapolation(kind, &w.floats, range, increase, first.value)?;
        if from_zero {
            increase += first.value;
        }
        Some(increase * factor)
    }

    fn histogram_rate(&self, kind: RateKind, w: &Window, range: &RangeVector, span: Span) -> Option<SampleValue> {
        let points = &w.histograms;
        let first = points.first()?;
        let mut increase = match points.len() {
            1 => None,
            _ => Some(self.histogram_increase(kind, w, span)?),
        };
        let count = increase.as_ref().map_or(0.0, |h| h.count);
        let (from_zero, factor) = extrapolation(kind, points, range, count, first.value.count)?;
        if from_zero {
            increase = Some(match increase {
                None => (*first.value).clone(),
                Some(h) => self.added(&h, &first.value, w.name(), span)?,
            });
        }
        let mut result = histogram::scaled(&increase?, factor);
        result.counter_reset_hint = CounterResetHint::Gauge;
        Some(SampleValue::Histogram(Arc::new(result)))
    }

    /// `a + b`, or a warning and nothing.
    fn added(&self, a: &FloatHistogram, b: &FloatHistogram, name: &str, span: Span) -> Option<FloatHistogram> {
        let mut sum = Accumulator::new(a);
        match sum.add(b) {
            Err(_) => {
                self.warn(notes::mixed_exponential_custom(name), span);
                None
            }
            Ok(merged) => {
                if merged.bounds_reconciled {
                    self.info(notes::mismatched_custom_buckets(HistogramOperation::Addition), span);
                }
                Some(sum.finish())
            }
        }
    }

    /// `a - b`, or a warning and nothing.
    fn subtracted(&self, a: &FloatHistogram, b: &FloatHistogram, name: &str, span: Span) -> Option<FloatHistogram> {
        let mut difference = Accumulator::new(a);
        match difference.sub(b) {
            Err(_) => {
                self.warn(notes::mixed_exponential_custom(name), span);
                None
            }
            Ok(merged) => {
                if merged.bounds_reconciled {
                    self.info(notes::mismatched_custom_buckets(HistogramOperation::Subtraction), span);
                }
                Some(difference.finish())
            }
        }
    }

    /// Last minus first, plus what was lost at resets.
    fn histogram_increase(&self, kind: RateKind, w: &Window, span: Span) -> Option<FloatHistogram> {
        let points = &w.histograms;
        let (first, last) = (points.first()?, points.last()?);
        let is_gauge = |p: &HistogramPoint| p.value.counter_reset_hint == CounterResetHint::Gauge;
        if kind.is_counter() && points.iter().any(is_gauge) {
            self.warn(notes::native_not_counter(w.name()), span);
        }
        let reset = |a: &HistogramPoint, b: &HistogramPoint| start_reset(a, b) || detect_reset(&b.value, &a.value);
        let mut previous = first.value.clone();
        if kind.is_counter() && reset(first, &points[1]) {
            // The first sample's layout does not matter then: it counts as empty, in the layout of the second.
            let second = &points[1].value;
            previous = Arc::new(FloatHistogram {
                schema: second.schema,
                custom_values: second.custom_values.clone(),
                zero_threshold: second.zero_threshold,
                ..FloatHistogram::default()
            });
        }
        let relevant = if kind.is_counter() { &points[1..] } else { std::slice::from_ref(last) };
        if relevant.iter().any(|p| is_custom(&p.value) != is_custom(&previous)) {
            self.warn(notes::mixed_exponential_custom(w.name()), span);
            return None;
        }
        let mut increase = self.subtracted(&last.value, &previous, w.name(), span)?;
        if kind.is_counter() {
            let mut overlap = false;
            for (i, current) in points.iter().enumerate().skip(1) {
                overlap |= start_overlap(&points[i - 1], current);
                if start_reset(&points[i - 1], current) || detect_reset(&current.value, &previous) {
                    increase = self.added(&increase, &previous, w.name(), span)?;
                }
                previous = current.value.clone();
            }
            if overlap {
                self.warn(notes::start_time_overlap(w.name()), span);
            }
        } else if [first, last].into_iter().any(|p| !is_gauge(p)) {
            self.warn(notes::native_not_gauge(w.name()), span);
        }
        increase.counter_reset_hint = CounterResetHint::Gauge;
        Some(increase)
    }

    fn extended_histogram_rate(
        &self,
        kind: RateKind,
        w: &Window,
        range: &RangeVector,
        span: Span,
    ) -> Option<SampleValue> {
        let points = &w.histograms;
        let (first, last) = edge_indexes(points, range)?;
        let inside = &points[first..=last];
        if inside.iter().any(|p| is_custom(&p.value) != is_custom(&inside[0].value)) {
            self.warn(notes::mixed_exponential_custom(w.name()), span);
            return None;
        }
        let is_gauge = |h: &FloatHistogram| h.counter_reset_hint == CounterResetHint::Gauge;
        if kind.is_counter() && inside.iter().any(|p| is_gauge(&p.value)) {
            self.warn(notes::native_not_counter(w.name()), span);
        }
        let smoothed = range.is_smoothed();
        let left_between = smoothed && points[first].t < range.start_ms;
        let left = if left_between {
            self.interpolated(&points[first], &points[first + 1], range.start_ms, kind, w.name(), span)?
        } else {
            points[first].value.clone()
        };
        let right = if smoothed && last > 0 && points[last].t > range.end_ms {
            self.interpolated(&points[last - 1], &points[last], range.end_ms, kind, w.name(), span)?
        } else {
            points[last].value.clone()
        };
        if !kind.is_counter() && [&left, &right].into_iter().any(|h| !is_gauge(h)) {
            self.warn(notes::native_not_gauge(w.name()), span);
        }
        let mut increase = self.subtracted(&right, &left, w.name(), span)?;
        if kind.is_counter() {
            // The sample before a reset is what the counter had reached, and is added again.
            let mut previous = left;
            let mut next = first + 1;
            if left_between && detect_reset(&points[first + 1].value, &points[first].value) {
                // The reset lies in the first interval, which the interpolation at its bound has allowed for.
                previous = points[first + 1].value.clone();
                next += 1;
            }
            if next <= last {
                for current in &points[next..last] {
                    if detect_reset(&current.value, &previous) {
                        increase = self.added(&increase, &previous, w.name(), span)?;
                    }
                    previous = current.value.clone();
                }
                if detect_reset(&right, &previous) {
                    increase = self.added(&increase, &previous, w.name(), span)?;
                }
            }
        }
        if kind == RateKind::Rate {
            increase = histogram::divided(&increase, range.seconds());
        }
        increase.counter_reset_hint = CounterResetHint::Gauge;
        Some(SampleValue::Histogram(Arc::new(increase)))
    }

    /// The histogram at `t` between two samples; a counter that was reset between them starts from nothing.
    fn interpolated(
        &self,
        a: &HistogramPoint,
        b: &HistogramPoint,
        t: i64,
        kind: RateKind,
        name: &str,
        span: Span,
    ) -> Option<Arc<FloatHistogram>> {
        if t == a.t {
            return Some(a.value.clone());
        }
        if t == b.t {
            return Some(b.value.clone());
        }
        let fraction = (t - a.t) as f64 / (b.t - a.t) as f64;
        if kind.is_counter() && detect_reset(&b.value, &a.value) {
            return Some(Arc::new(histogram::scaled(&b.value, fraction)));
        }
        let difference = self.subtracted(&b.value, &a.value, name, span)?;
        self.added(&histogram::scaled(&difference, fraction), &a.value, name, span).map(Arc::new)
    }

    /// The value of `irate` or `idelta` for one series: from its last two samples.
    pub(super) fn instant_rate(&self, per_second: bool, w: &Window, span: Span) -> Option<SampleValue> {
        enum Last<'a> {
            Float(&'a Point<f64>),
            Histogram(&'a HistogramPoint),
        }
        impl Last<'_> {
            fn t(&self) -> i64 {
                match self {
                    Self::Float(p) => p.t,
                    Self::Histogram(p) => p.t,
                }
            }
        }
        let mut samples: Vec<Last<'_>> = w.floats.iter().map(Last::Float).collect();
        samples.extend(w.histograms.iter().map(Last::Histogram));
        samples.sort_by_key(Last::t);
        let [.., previous, current] = samples.as_slice() else {
            return None;
        };
        let seconds = (current.t() - previous.t()) as f64 / 1000.0;
        if seconds == 0.0 {
            return None;
        }
        match (previous, current) {
            (Last::Float(a), Last::Float(b)) => {
                let reset = per_second && (b.value < a.value || start_reset(a, b));
                let difference = if reset { b.value } else { b.value - a.value };
                Some(SampleValue::Float(if per_second { difference / seconds } else { difference }))
            }
            (Last::Histogram(a), Last::Histogram(b)) => {
                let gauge = |p: &HistogramPoint| p.value.counter_reset_hint == CounterResetHint::Gauge;
                if per_second && (gauge(a) || gauge(b)) {
                    self.warn(notes::native_not_counter(w.name()), span);
                }
                if !per_second && [a, b].into_iter().any(|p| !gauge(p)) {
                    self.warn(notes::native_not_gauge(w.name()), span);
                }
                let reset = per_second && (start_reset(a, b) || detect_reset(&b.value, &a.value));
                let mut difference = if reset {
                    histogram::compact(&b.value)
                } else {
                    self.subtracted(&b.value, &a.value, w.name(), span)?
                };
                if per_second {
                    difference = histogram::divided(&difference, seconds);
                }
                difference.counter_reset_hint = CounterResetHint::Gauge;
                Some(SampleValue::Histogram(Arc::new(difference)))
            }
            _ => {
                self.warn(notes::mixed_floats_histograms(w.name()), span);
                None
            }
        }
    }
}

/// How the increase between the first and the last sample becomes that of the whole window: whether the first sample
/// counts from zero because it started inside the window, and the factor.
///
/// `increase` is that between the samples, and `first` the value of the first sample, which bounds how far a counter
/// may be extrapolated back.
fn extrapolation<T>(
    kind: RateKind,
    points: &[Point<T>],
    range: &RangeVector,
    increase: f64,
    first: f64,
) -> Option<(bool, f64)> {
    let (first_point, last_point) = (points.first()?, points.last()?);
    let seconds = |ms: i64| ms as f64 / 1000.0;
    let intervals = points.len() - 1;
    let mut to_start = seconds(first_point.t - range.start_ms);
    let mut to_end = seconds(range.end_ms - last_point.t);
    let mut sampled = seconds(last_point.t - first_point.t);
    let average = if intervals > 0 { sampled / intervals as f64 } else { 0.0 };
    let threshold = average * 1.1;
    let start = first_point.start;
    let from_zero = kind.is_counter() && start != 0 && start > range.start_ms && start < first_point.t;
    if from_zero {
        to_start = 0.0;
        sampled = seconds(last_point.t - start);
    } else if intervals == 0 {
        return None;
    } else {
        if to_start >= threshold {
            to_start = average / 2.0;
        }
        if kind.is_counter() && increase > 0.0 && first >= 0.0 {
            // A counter was never below zero.
            let to_zero = sampled * (first / increase);
            if to_zero < to_start {
                to_start = to_zero;
            }
        }
    }
    if to_end >= threshold {
        to_end = average / 2.0;
    }
    let mut factor = if sampled == 0.0 { 1.0 } else { (sampled + to_start + to_end) / sampled };
    if kind == RateKind::Rate {
        factor /= range.seconds();
    }
    Some((from_zero, factor))
}

fn extended_rate(kind: RateKind, w: &Window, range: &RangeVector) -> Option<f64> {
    let points = &w.floats;
    let edges = Edges::of(points, range, kind.is_counter())?;
    let mut increase = edges.right - edges.left;
    if kind.is_counter() {
        let inside = points[edges.first..=edges.last].iter().filter(|p| p.t > range.start_ms && p.t < range.end_ms);
        let mut previous = edges.left;
        for value in inside.map(|p| p.value).chain([edges.right]) {
            if value < previous {
                increase += previous;
            }
            previous = value;
        }
    }
    Some(if kind == RateKind::Rate { increase / range.seconds() } else { increase })
}
