//! Range functions of windows that hold native histograms.

use std::sync::Arc;

use promontory_model::FloatHistogram;
use promontory_model::histogram::CounterResetHint;

use super::notes::Notes;
use crate::histogram::{self, Accumulator, Incompatible, Merged};
use crate::kernels::window::Bounds;
use crate::kernels::{rate, starts};
use crate::notes::{self as texts, HistogramOperation};

/// A histogram with its time.
pub(crate) type Timed = (i64, Arc<FloatHistogram>);

/// A histogram of a batch: column, row, value.
pub(crate) type Sparse = (u32, u32, Arc<FloatHistogram>);

/// Where annotations go and what they name.
pub(crate) struct Report<'a, 'n> {
    /// Sink.
    pub(crate) notes: &'a mut Notes<'n>,
    /// Metric name of the series.
    pub(crate) metric: &'a str,
    /// The argument that they are about.
    pub(crate) arg: usize,
}

impl Report<'_, '_> {
    /// Warns, naming the metric.
    fn warn(&mut self, text: &str) {
        self.notes.warn(text, self.arg);
    }

    pub(crate) fn mixed_buckets(&mut self) {
        self.warn(&texts::mixed_exponential_custom(self.metric));
    }

    fn not_a_counter(&mut self) {
        self.warn(&texts::native_not_counter(self.metric));
    }

    fn not_a_gauge(&mut self) {
        self.warn(&texts::native_not_gauge(self.metric));
    }

    /// Tells of reconciled bounds.
    fn reconciled(&mut self, merged: Merged, what: HistogramOperation) {
        if merged.bounds_reconciled {
            self.notes.info(&texts::mismatched_custom_buckets(what), self.arg);
        }
    }
}

fn is_gauge(h: &FloatHistogram) -> bool {
    h.counter_reset_hint == CounterResetHint::Gauge
}

/// A histogram of no observations that adds to `like` without changing it.
fn nothing_like(like: &FloatHistogram) -> FloatHistogram {
    FloatHistogram {
        counter_reset_hint: like.counter_reset_hint,
        schema: like.schema,
        zero_threshold: like.zero_threshold,
        custom_values: like.custom_values.clone(),
        ..FloatHistogram::default()
    }
}

fn as_gauge(acc: &Accumulator) -> FloatHistogram {
    FloatHistogram { counter_reset_hint: CounterResetHint::Gauge, ..acc.finish() }
}

/// Histograms with a hint where their start timestamps, one each, show a restart.
pub(crate) fn with_restarts(points: &[Timed], starts: &[i64]) -> Vec<Timed> {
    let mut out = points.to_vec();
    for i in 1..points.len() {
        if starts::restarted((points[i - 1].0, starts[i - 1]), (points[i].0, starts[i])) {
            let hint = CounterResetHint::Reset;
            out[i].1 = Arc::new(FloatHistogram { counter_reset_hint: hint, ..points[i].1.as_ref().clone() });
        }
    }
    out
}

/// Histograms of a column with a hint wherever there is none and there is one before to compare with.
pub(crate) fn with_detected_resets(samples: &[Sparse]) -> Vec<Sparse> {
    let mut out = samples.to_vec();
    for i in 1..samples.len() {
        let (before, now) = (&samples[i - 1].2, &samples[i].2);
        if now.counter_reset_hint == CounterResetHint::Unknown {
            let reset = histogram::detect_reset(now, before);
            let hint = if reset { CounterResetHint::Reset } else { CounterResetHint::NotReset };
            out[i].2 = Arc::new(FloatHistogram { counter_reset_hint: hint, ..now.as_ref().clone() });
        }
    }
    out
}

/// The histogram without a hint about resets: between the steps of a subquery there were others, or none.
pub(crate) fn unhinted(h: &Arc<FloatHistogram>) -> Arc<FloatHistogram> {
    match h.counter_reset_hint {
        CounterResetHint::Unknown | CounterResetHint::Gauge => h.clone(),
        _ => Arc::new(FloatHistogram { counter_reset_hint: CounterResetHint::Unknown, ..h.as_ref().clone() }),
    }
}

/// The histogram at `t` for `smoothed`: between the one before and the one after, or the one before if it is the last.
///
/// # Errors
/// When exponential and custom buckets meet.
pub(crate) fn smoothed(points: &[Timed], t: i64) -> Result<Option<Arc<FloatHistogram>>, Incompatible> {
    let after = points.partition_point(|(time, _)| *time <= t);
    let Some(before) = after.checked_sub(1).map(|i| &points[i]) else { return Ok(None) };
    let Some(next) = points.get(after).filter(|_| before.0 != t) else { return Ok(Some(before.1.clone())) };
    if histogram::is_custom(&before.1) != histogram::is_custom(&next.1) {
        return Err(Incompatible);
    }
    Ok(interpolated(before, next, t, !is_gauge(&next.1)).map(|(h, _)| Arc::new(h)))
}

/// `rate`, `increase` or `delta`, extrapolated to the edges of the window.
pub(crate) fn rate(
    points: &[Timed],
    start: Option<i64>,
    kind: rate::Kind,
    window: Bounds,
    report: &mut Report<'_, '_>,
) -> Option<FloatHistogram> {
    let (first, last) = (points.first()?, points.last()?);
    let mut increase = match (points.len(), start) {
        (1, None) => return None,
        (1, Some(_)) => as_gauge(&Accumulator::new(&nothing_like(&first.1))),
        _ => increase(points, kind.is_counter, report)?,
    };
    if start.is_some() {
        let mut from_zero = Accumulator::new(&increase);
        report.reconciled(from_zero.add(&first.1).ok()?, HistogramOperation::Addition);
        increase = as_gauge(&from_zero);
    }
    let times = (first.0, last.0);
    let factor = rate::factor(increase.count, first.1.count, times, start, points.len() - 1, window, kind);
    Some(histogram::scaled(&increase, factor))
}

/// Last minus first, plus what resets of a counter lost.
fn increase(points: &[Timed], is_counter: bool, report: &mut Report<'_, '_>) -> Option<FloatHistogram> {
    let (first, last) = (&points[0].1, &points[points.len() - 1].1);
    let inner = &points[1..points.len() - 1];
    if is_counter && (is_gauge(first) || is_gauge(last) || inner.iter().any(|(_, h)| is_gauge(h))) {
        report.not_a_counter();
    }
    // Nothing of the first counts when the second starts anew, not even its layout.
    let second = &points[1].1;
    let first_reset = is_counter && histogram::detect_reset(second, first);
    let mut before = if first_reset { nothing_like(second) } else { first.as_ref().clone() };
    let custom = histogram::is_custom(&before);
    let differs = |h: &FloatHistogram| histogram::is_custom(h) != custom;
    if differs(last) || is_counter && inner.iter().any(|(_, h)| differs(h)) {
        report.mixed_buckets();
        return None;
    }
    let mut sum = Accumulator::new(last);
    if is_counter && !custom {
        let schema = inner.iter().map(|(_, h)| h.schema).min().unwrap_or(last.schema);
        let coarse = FloatHistogram { schema: schema.min(last.schema), ..nothing_like(last) };
        sum.add(&coarse).ok()?;
    }
    report.reconciled(sum.sub(&before).ok()?, HistogramOperation::Subtraction);
    if is_counter {
        for (_, h) in &points[1..] {
            if histogram::detect_reset(h, &before) {
                report.reconciled(sum.add(&before).ok()?, HistogramOperation::Addition);
            }
            before = h.as_ref().clone();
        }
    } else if !is_gauge(first) || !is_gauge(last) {
        report.not_a_gauge();
    }
    Some(as_gauge(&sum))
}

/// `irate` (`per_second`) or `idelta` of the last two histograms.
pub(crate) fn instant([a, b]: [&Timed; 2], per_second: bool, report: &mut Report<'_, '_>) -> Option<FloatHistogram> {
    let (before, now) = (&a.1, &b.1);
    if per_second && (is_gauge(before) || is_gauge(now)) {
        report.not_a_counter();
    }
    if !per_second && (!is_gauge(before) || !is_gauge(now)) {
        report.not_a_gauge();
    }
    let mut difference = Accumulator::new(now);
    if !per_second || !histogram::detect_reset(now, before) {
        match difference.sub(before) {
            Ok(merged) => report.reconciled(merged, HistogramOperation::Subtraction),
            Err(Incompatible) => {
                report.mixed_buckets();
                return None;
            }
        }
    }
    let difference = as_gauge(&difference);
    Some(if per_second { histogram::divided(&difference, (b.0 - a.0) as f64 / 1000.0) } else { difference })
}

/// `sum_over_time` or `avg_over_time` of at least one histogram.
pub(crate) fn sum_or_average(points: &[Timed], average: bool, report: &mut Report<'_, '_>) -> Option<FloatHistogram> {
    let mut total = Accumulator::new(&points[0].1);
    let mut merged = Merged::default();
    let mut is_mean = false;
    for (i, (_, h)) in points.iter().enumerate().skip(1) {
        let n = (i + 1) as f64;
        let before = total.clone();
        let result = if is_mean { add_to_mean(&mut total, h, n) } else { total.add(h) };
        let Ok(m) = result else {
            report.mixed_buckets();
            return None;
        };
        merged = merged.or(m);
        if average && !is_mean && total.has_overflow() {
            is_mean = true;
            total = before;
            total.scale(1.0 / (n - 1.0));
            add_to_mean(&mut total, h, n).ok()?;
        }
    }
    report.reconciled(merged, HistogramOperation::Aggregation);
    let hint = |hint| points.iter().any(|(_, h)| h.counter_reset_hint == hint);
    if hint(CounterResetHint::Reset) && hint(CounterResetHint::NotReset) {
        report.warn(&texts::reset_collision(HistogramOperation::Aggregation));
    }
    let total = total.finish();
    let n = points.len() as f64;
    Some(if average && !is_mean && n > 1.0 { histogram::divided(&total, n) } else { total })
}

/// Makes a mean of `n - 1` histograms one of `n`.
pub(crate) fn add_to_mean(mean: &mut Accumulator, h: &FloatHistogram, n: f64) -> Result<Merged, Incompatible> {
    mean.scale((n - 1.0) / n);
    mean.add(&histogram::divided(h, n))
}

/// Which edges are interpolated, and whether the values are a counter's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extended {
    /// `smoothed`, else `anchored`.
    pub(crate) smoothed: bool,
    /// Resets are added.
    pub(crate) is_counter: bool,
    /// The result is per second.
    pub(crate) per_second: bool,
}

/// `rate`, `increase` or `delta` of a window with real or interpolated edges.
pub(crate) fn extended(
    points: &[Timed],
    kind: Extended,
    window: Bounds,
    report: &mut Report<'_, '_>,
) -> Option<FloatHistogram> {
    let mut last = points.len().checked_sub(1)?;
    let first = points[..last].partition_point(|(t, _)| *t <= window.start).saturating_sub(1);
    if kind.smoothed {
        last = points[..last].partition_point(|(t, _)| *t < window.end);
    }
    if points[last].0 <= window.start || kind.smoothed && points[first].0 > window.end {
        return None;
    }
    let used = &points[first..=last.max(first)];
    let custom = histogram::is_custom(&used[0].1);
    if used.iter().any(|(_, h)| histogram::is_custom(h) != custom) {
        report.mixed_buckets();
        return None;
    }
    if kind.is_counter && used.iter().any(|(_, h)| is_gauge(h)) {
        report.not_a_counter();
    }
    if !kind.is_counter && (!is_gauge(&used[0].1) || !is_gauge(&used[used.len() - 1].1)) {
        report.not_a_gauge();
    }
    let cut_left = kind.smoothed && points[first].0 < window.start;
    let cut_right = kind.smoothed && last > 0 && points[last].0 > window.end;
    let left = match cut_left {
        true => interpolated(&points[first], &points[first + 1], window.start, kind.is_counter)?.0,
        false => points[first].1.as_ref().clone(),
    };
    let (right, right_is_growth) = match cut_right {
        true => interpolated(&points[last - 1], &points[last], window.end, kind.is_counter)?,
        false => (points[last].1.as_ref().clone(), false),
    };
    let mut sum = Accumulator::new(&right);
    report.reconciled(sum.sub(&left).ok()?, HistogramOperation::Subtraction);
    if kind.is_counter {
        // A reset before an interpolated left edge is part of that edge already.
        let from = if cut_left { first + 1 } else { first };
        let to = if cut_right { last } else { last + 1 };
        for pair in points.get(from..to).unwrap_or(&[]).windows(2) {
            if histogram::detect_reset(&pair[1].1, &pair[0].1) {
                report.reconciled(sum.add(&pair[0].1).ok()?, HistogramOperation::Addition);
            }
        }
        // Where both edges lie between the same two samples, both count from zero.
        if right_is_growth && last > from {
            report.reconciled(sum.add(&points[last - 1].1).ok()?, HistogramOperation::Addition);
        }
    }
    let increase = as_gauge(&sum);
    let range_secs = (window.end - window.start) as f64 / 1000.0;
    Some(if kind.per_second { histogram::divided(&increase, range_secs) } else { increase })
}

/// The histogram at `t` between two, and whether it counts from zero because the counter was reset in between.
pub(crate) fn interpolated(a: &Timed, b: &Timed, t: i64, is_counter: bool) -> Option<(FloatHistogram, bool)> {
    let fraction = (t - a.0) as f64 / (b.0 - a.0) as f64;
    if is_counter && histogram::detect_reset(&b.1, &a.1) {
        return Some((histogram::scaled(&b.1, fraction), true));
    }
    let mut out = Accumulator::new(&b.1);
    out.sub(&a.1).ok()?;
    out.scale(fraction);
    out.add(&a.1).ok()?;
    Some((FloatHistogram { counter_reset_hint: b.1.counter_reset_hint, ..out.finish() }, false))
}
