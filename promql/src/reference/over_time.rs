//! The other functions of range vectors: `*_over_time`, `changes`, `resets`, `deriv`, `predict_linear`, smoothing.

use std::sync::Arc;

use promontory_model::FloatHistogram;
use promontory_model::histogram::CounterResetHint;

use super::rate::start_reset;
use super::values::{Point, RangeVector, Window};
use super::{Query, fail};
use crate::ast::Span;
use crate::error::QueryError;
use crate::functions::FunctionId;
use crate::histogram::{self, Accumulator, Compensated, detect_reset};
use crate::notes::{self, HistogramOperation};
use crate::value::SampleValue;

/// A float or histogram sample.
enum Sample<'a> {
    Float(&'a Point<f64>),
    Histogram(&'a Point<Arc<FloatHistogram>>),
}

impl Sample<'_> {
    fn t(&self) -> i64 {
        match self {
            Self::Float(p) => p.t,
            Self::Histogram(p) => p.t,
        }
    }
}

fn in_order(w: &Window) -> Vec<Sample<'_>> {
    let mut all: Vec<Sample<'_>> = w.floats.iter().map(Sample::Float).collect();
    all.extend(w.histograms.iter().map(Sample::Histogram));
    all.sort_by_key(Sample::t);
    all
}

/// The quantile of numbers, interpolated between neighbours; NaN is below all numbers.
pub(super) fn quantile(q: f64, values: &[f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| match (a.is_nan(), b.is_nan()) {
        (true, true) => std::cmp::Ordering::Equal,
        (true, false) => std::cmp::Ordering::Less,
        (false, true) => std::cmp::Ordering::Greater,
        (false, false) => a.total_cmp(b),
    });
    let rank = q * (sorted.len() - 1) as f64;
    let lower = rank.floor();
    let upper = (lower as usize + 1).min(sorted.len() - 1);
    let weight = rank - lower;
    sorted[lower as usize] * (1.0 - weight) + sorted[upper] * weight
}

/// The sum of numbers, compensated.
pub(super) fn sum(values: impl Iterator<Item = f64>) -> f64 {
    let mut total = Compensated::default();
    values.for_each(|v| total.add(v));
    if total.plain().is_infinite() { total.plain() } else { total.value() }
}

/// The mean of numbers: of the compensated sum, or step by step where the sum overflows.
pub(super) fn mean(values: &[f64]) -> f64 {
    let Some((first, rest)) = values.split_first() else {
        return f64::NAN;
    };
    let mut total = Compensated::new(*first);
    let mut stepwise = false;
    for (i, v) in rest.iter().enumerate() {
        let count = (i + 2) as f64;
        if !stepwise {
            let mut next = total;
            next.add(*v);
            if !next.plain().is_infinite() {
                total = next;
                continue;
            }
            stepwise = true;
            total.scale(1.0 / (count - 1.0));
        }
        total.scale((count - 1.0) / count);
        total.add(v / count);
    }
    if stepwise {
        return total.value();
    }
    let count = values.len() as f64;
    total.plain() / count + total.lost() / count
}

/// What adding histograms came across.
#[derive(Default)]
pub(super) struct Seen {
    reset: bool,
    not_reset: bool,
    bounds_reconciled: bool,
    /// How many were added to the first, the one that could not be included.
    pub(super) added: usize,
}

impl Seen {
    pub(super) fn hint(&mut self, h: &FloatHistogram) {
        match h.counter_reset_hint {
            CounterResetHint::Reset => self.reset = true,
            CounterResetHint::NotReset => self.not_reset = true,
            CounterResetHint::Unknown | CounterResetHint::Gauge => {}
        }
    }

    pub(super) fn annotate(&self, query: &Query<'_>, span: Span) {
        if self.reset && self.not_reset {
            query.warn(notes::reset_collision(HistogramOperation::Aggregation), span);
        }
        self.annotate_bounds(query, span);
    }

    /// As [`Seen::annotate`], of what does not fit together in the end.
    pub(super) fn annotate_bounds(&self, query: &Query<'_>, span: Span) {
        if self.bounds_reconciled {
            query.info(notes::mismatched_custom_buckets(HistogramOperation::Aggregation), span);
        }
    }
}

/// The sum of histograms, or `None` when they do not fit together.
pub(super) fn histogram_sum(histograms: &[Arc<FloatHistogram>], seen: &mut Seen) -> Option<FloatHistogram> {
    let (first, rest) = histograms.split_first()?;
    let mut total = Accumulator::new(first);
    seen.hint(first);
    for h in rest {
        seen.hint(h);
        seen.added += 1;
        seen.bounds_reconciled |= total.add(h).ok()?.bounds_reconciled;
    }
    Some(total.finish())
}

/// The mean of histograms, as [`mean`].
pub(super) fn histogram_mean(histograms: &[Arc<FloatHistogram>], seen: &mut Seen) -> Option<FloatHistogram> {
    let (first, rest) = histograms.split_first()?;
    let mut total = Accumulator::new(first);
    seen.hint(first);
    let mut stepwise = false;
    for (i, h) in rest.iter().enumerate() {
        let count = (i + 2) as f64;
        seen.hint(h);
        seen.added += 1;
        if !stepwise {
            let mut next = total.clone();
            seen.bounds_reconciled |= next.add(h).ok()?.bounds_reconciled;
            if !next.has_overflow() {
                total = next;
                continue;
            }
            stepwise = true;
            total.scale(1.0 / (count - 1.0));
        }
        total.scale((count - 1.0) / count);
        seen.bounds_reconciled |= total.add(&histogram::divided(h, count)).ok()?.bounds_reconciled;
    }
    if !stepwise {
        return Some(histogram::divided(&total.finish(), histograms.len() as f64));
    }
    Some(total.finish())
}

/// Slope per second and the value at `at_ms` of the line of least squares.
fn linear_regression(points: &[Point<f64>], at_ms: i64) -> (f64, f64) {
    let first = points[0].value;
    if points.iter().all(|p| p.value == first) {
        return if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) };
    }
    let n = points.len() as f64;
    let (mut x, mut y, mut xy, mut xx) =
        (Compensated::default(), Compensated::default(), Compensated::default(), Compensated::default());
    for p in points {
        let seconds = (p.t - at_ms) as f64 / 1000.0;
        x.add(seconds);
        y.add(p.value);
        xy.add(seconds * p.value);
        xx.add(seconds * seconds);
    }
    let (x, y, xy, xx) = (x.value(), y.value(), xy.value(), xx.value());
    let slope = (xy - x * y / n) / (xx - x * x / n);
    (slope, y / n - slope * x / n)
}

/// Population variance by Welford's method, compensated.
fn variance(points: &[Point<f64>]) -> f64 {
    let mut mean = Compensated::default();
    let mut squares = Compensated::default();
    for (i, p) in points.iter().enumerate() {
        let delta = p.value - mean.value();
        mean.add(delta / (i + 1) as f64);
        squares.add(delta * (p.value - mean.value()));
    }
    squares.value() / points.len() as f64
}

/// The value that `better` prefers to all others, with its time.
fn extreme(points: &[Point<f64>], better: impl Fn(f64, f64) -> bool) -> &Point<f64> {
    let mut best = &points[0];
    for p in points {
        if better(p.value, best.value) || best.value.is_nan() {
            best = p;
        }
    }
    best
}

impl Query<'_> {
    /// Functions that look at floats say so when there were histograms too; answers whether there are `n` floats.
    fn enough_floats(&self, w: &Window, n: usize, span: Span) -> bool {
        if !w.histograms.is_empty() && !w.floats.is_empty() {
            self.info(notes::histogram_ignored_in_range(w.name()), span);
        }
        w.floats.len() >= n.max(1)
    }

    /// The value of a function without further arguments for one series.
    pub(super) fn over_time(
        &self,
        function: FunctionId,
        w: &Window,
        range: &RangeVector,
        span: Span,
    ) -> Option<SampleValue> {
        use FunctionId as F;
        let float = |v: f64| Some(SampleValue::Float(v));
        let seconds = |ms: i64| ms as f64 / 1000.0;
        match function {
            F::AvgOverTime | F::SumOverTime => self.sum_or_mean(function == F::AvgOverTime, w, span),
            F::CountOverTime => float((w.floats.len() + w.histograms.len()) as f64),
            F::PresentOverTime => float(1.0),
            F::FirstOverTime | F::LastOverTime | F::TsOfFirstOverTime | F::TsOfLastOverTime => {
                let samples = in_order(w);
                let first = matches!(function, F::FirstOverTime | F::TsOfFirstOverTime);
                let sample = if first { samples.first()? } else { samples.last()? };
                match (function, sample) {
                    (F::TsOfFirstOverTime | F::TsOfLastOverTime, sample) => float(seconds(sample.t())),
                    (_, Sample::Float(p)) => float(p.value),
                    (_, Sample::Histogram(p)) => Some(SampleValue::Histogram(p.value.clone())),
                }
            }
            F::Changes => self.count_pairs(w, range, changed),
            F::Resets => self.count_pairs(w, range, was_reset),
            F::Deriv => {
                let enough = self.enough_floats(w, 2, span);
                enough.then(|| SampleValue::Float(linear_regression(&w.floats, w.floats[0].t).0))
            }
            _ if !self.enough_floats(w, 1, span) => None,
            F::MaxOverTime => float(extreme(&w.floats, |a, b| a > b).value),
            F::MinOverTime => float(extreme(&w.floats, |a, b| a < b).value),
            F::TsOfMaxOverTime => float(seconds(extreme(&w.floats, |a, b| a >= b).t)),
            F::TsOfMinOverTime => float(seconds(extreme(&w.floats, |a, b| a <= b).t)),
            F::StddevOverTime => float(variance(&w.floats).sqrt()),
            F::StdvarOverTime => float(variance(&w.floats)),
            F::MadOverTime => {
                let values: Vec<f64> = w.floats.iter().map(|p| p.value).collect();
                if values.iter().any(|v| v.is_nan()) {
                    return float(f64::NAN);
                }
                let median = quantile(0.5, &values);
                let deviations: Vec<f64> = values.iter().map(|v| (v - median).abs()).collect();
                float(quantile(0.5, &deviations))
            }
            _ => None,
        }
    }

    fn sum_or_mean(&self, is_mean: bool, w: &Window, span: Span) -> Option<SampleValue> {
        if !w.floats.is_empty() && !w.histograms.is_empty() {
            self.warn(notes::mixed_floats_histograms(w.name()), span);
            return None;
        }
        if w.histograms.is_empty() {
            let values: Vec<f64> = w.floats.iter().map(|p| p.value).collect();
            return Some(SampleValue::Float(if is_mean { mean(&values) } else { sum(values.into_iter()) }));
        }
        let histograms: Vec<Arc<FloatHistogram>> = w.histograms.iter().map(|p| p.value.clone()).collect();
        let mut seen = Seen::default();
        let result =
            if is_mean { histogram_mean(&histograms, &mut seen) } else { histogram_sum(&histograms, &mut seen) };
        match result {
            None => {
                self.warn(notes::mixed_exponential_custom(w.name()), span);
                None
            }
            Some(h) => {
                seen.annotate(self, span);
                Some(SampleValue::Histogram(Arc::new(h)))
            }
        }
    }

    /// How many neighbours in the window fulfil `is_counted`.
    fn count_pairs(
        &self,
        w: &Window,
        range: &RangeVector,
        is_counted: impl Fn(&Sample<'_>, &Sample<'_>) -> bool,
    ) -> Option<SampleValue> {
        let mut samples = in_order(w);
        if range.is_anchored() {
            // From the last sample up to the start of the window on; nothing without one after it.
            let anchor = samples.partition_point(|s| s.t() <= range.start_ms);
            if anchor == samples.len() {
                return None;
            }
            samples.drain(..anchor.saturating_sub(1));
        }
        let count = samples.windows(2).filter(|pair| is_counted(&pair[0], &pair[1])).count();
        Some(SampleValue::Float(count as f64))
    }

    /// `quantile_over_time` for one series.
    pub(super) fn quantile_over_time(&self, q: f64, w: &Window, span: Span) -> Option<SampleValue> {
        if w.floats.is_empty() {
            return None;
        }
        if !(0.0..=1.0).contains(&q) {
            self.warn(notes::invalid_quantile(q), span);
        }
        if !w.histograms.is_empty() {
            self.info(notes::histogram_ignored_in_range(w.name()), span);
        }
        let values: Vec<f64> = w.floats.iter().map(|p| p.value).collect();
        Some(SampleValue::Float(quantile(q, &values)))
    }

    /// `predict_linear` for one series: the line's value `ahead` seconds after `t`.
    pub(super) fn predict_linear(&self, ahead: f64, t: i64, w: &Window, span: Span) -> Option<SampleValue> {
        if !self.enough_floats(w, 2, span) {
            return None;
        }
        let (slope, intercept) = linear_regression(&w.floats, t);
        Some(SampleValue::Float(slope * ahead + intercept))
    }

    /// `double_exponential_smoothing` for one series.
    pub(super) fn smoothing(
        &self,
        factors: (f64, f64),
        w: &Window,
        span: Span,
    ) -> Result<Option<SampleValue>, QueryError> {
        let (smoothing, trend_factor) = factors;
        if smoothing <= 0.0 || smoothing >= 1.0 {
            return Err(fail(format!("invalid smoothing factor. Expected: 0 < sf < 1, got: {smoothing:.6}")));
        }
        if trend_factor <= 0.0 || trend_factor >= 1.0 {
            return Err(fail(format!("invalid trend factor. Expected: 0 < tf < 1, got: {trend_factor:.6}")));
        }
        if !self.enough_floats(w, 2, span) {
            return Ok(None);
        }
        let mut before = 0.0;
        let mut level = w.floats[0].value;
        let mut trend = w.floats[1].value - w.floats[0].value;
        for (i, p) in w.floats.iter().enumerate().skip(1) {
            if i > 1 {
                trend = trend_factor * (level - before) + (1.0 - trend_factor) * trend;
            }
            before = level;
            level = smoothing * p.value + (1.0 - smoothing) * (before + trend);
        }
        Ok(Some(SampleValue::Float(level)))
    }
}

fn changed(a: &Sample<'_>, b: &Sample<'_>) -> bool {
    match (a, b) {
        (Sample::Float(a), Sample::Float(b)) => a.value != b.value && !(a.value.is_nan() && b.value.is_nan()),
        (Sample::Histogram(a), Sample::Histogram(b)) => !histogram::equals(&a.value, &b.value),
        _ => true,
    }
}

fn was_reset(a: &Sample<'_>, b: &Sample<'_>) -> bool {
    match (a, b) {
        (Sample::Float(a), Sample::Float(b)) => b.value < a.value || start_reset(a, b),
        (Sample::Histogram(a), Sample::Histogram(b)) => start_reset(a, b) || detect_reset(&b.value, &a.value),
        _ => true,
    }
}
