//! Selectors and subqueries: which samples an expression sees.

use std::sync::Arc;

use promontory_model::histogram::CounterResetHint;
use promontory_model::{Columns, FloatHistogram, Labels, Matcher, Select, TimeRange, is_stale};

use super::rate::interpolate;
use super::values::{Element, Point, RangeVector, Window};
use super::{Query, ResetHints, fail};
use crate::ast::{At, MatrixSelector, Modifiers, RangeExtension, Span, Subquery, VectorSelector};
use crate::error::QueryError;
use crate::histogram::{self, Accumulator};
use crate::notes;
use crate::value::SampleValue;

/// A stored series with all its samples, staleness markers included.
pub(super) struct Loaded {
    pub(super) labels: Labels,
    pub(super) samples: Vec<Point<SampleValue>>,
}

fn is_stale_value(value: &SampleValue) -> bool {
    match value {
        SampleValue::Float(v) => is_stale(*v),
        SampleValue::Histogram(h) => is_stale(h.sum),
    }
}

impl Query<'_> {
    /// All series that pass the matchers, in the store's order; read once per query.
    pub(super) fn load(&self, matchers: &[Matcher]) -> Result<Arc<Vec<Loaded>>, QueryError> {
        let key = matchers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        if let Some(loaded) = self.loaded.borrow().get(&key) {
            return Ok(loaded.clone());
        }
        let select = Select { range: TimeRange::ALL, matchers, cancel: self.cancel };
        let selection = self.snapshot.select(&select)?;
        for warning in selection.warnings {
            self.store_warning(warning);
        }
        let mut loaded = Vec::new();
        let mut columns = Columns::default();
        for batch in selection.batches {
            let n = batch.n_series();
            batch.read(0..n, TimeRange::ALL, &mut columns)?;
            for i in 0..n {
                loaded.push(Loaded { labels: batch.labels(i), samples: samples(&columns, i) });
            }
        }
        let read: usize = loaded.iter().map(|l: &Loaded| l.samples.len()).sum();
        self.samples_read.set(self.samples_read.get() + read as u64);
        let loaded = Arc::new(loaded);
        self.loaded.borrow_mut().insert(key, loaded.clone());
        Ok(loaded)
    }

    /// The time that a selector looks at when evaluated at `t`.
    pub(super) fn selected_time(&self, modifiers: &Modifiers, t: i64) -> Result<i64, QueryError> {
        let at = match modifiers.at {
            None => t,
            Some(At::Time(at)) => at,
            Some(At::Start) => self.range.start_ms,
            Some(At::End) => self.range.end_ms,
        };
        let offset = match &modifiers.offset {
            Some(offset) => self.duration_ms(offset)?,
            None => 0,
        };
        Ok(at.saturating_sub(offset))
    }

    /// The last sample of each series not older than the lookback delta, unless the series has ended.
    pub(super) fn select_instant(&self, v: &VectorSelector, t: i64) -> Result<Vec<Element>, QueryError> {
        let at = self.selected_time(&v.modifiers, t)?;
        let lookback = self.options.lookback_ms;
        let mut elements = Vec::new();
        for series in self.load(&v.matchers)?.iter() {
            if v.extension == Some(RangeExtension::Smoothed) {
                let value = self.smoothed(series, at, v.span)?;
                elements.extend(value.map(|value| Element::new(series.labels.clone(), t, value)));
                continue;
            }
            let last = series.samples.partition_point(|s| s.t <= at);
            let Some(sample) = last.checked_sub(1).map(|i| &series.samples[i]) else {
                continue;
            };
            if sample.t > at.saturating_sub(lookback) && !is_stale_value(&sample.value) {
                let value = self.hinted(series, last - 1);
                elements.push(Element { start: sample.start, ..Element::new(series.labels.clone(), sample.t, value) });
            }
        }
        Ok(elements)
    }

    /// Sample `i` of a series; a histogram says what is known of a reset before it.
    fn hinted(&self, series: &Loaded, i: usize) -> SampleValue {
        let value = &series.samples[i].value;
        let SampleValue::Histogram(h) = value else {
            return value.clone();
        };
        let previous = series.samples[..i].iter().rev().find_map(|s| match &s.value {
            SampleValue::Histogram(h) => Some(h),
            SampleValue::Float(_) => None,
        });
        match (self.hints.get(), h.counter_reset_hint, previous) {
            (ResetHints::Detected, CounterResetHint::Unknown, Some(previous)) => {
                let mut h = (**h).clone();
                let reset = histogram::detect_reset(&h, previous);
                h.counter_reset_hint = if reset { CounterResetHint::Reset } else { CounterResetHint::NotReset };
                SampleValue::Histogram(Arc::new(h))
            }
            _ => value.clone(),
        }
    }

    /// The value between the samples around `at`; the one before it where there is none after.
    fn smoothed(&self, series: &Loaded, at: i64, span: Span) -> Result<Option<SampleValue>, QueryError> {
        let lookback = self.options.lookback_ms;
        let is_float = |s: &Point<SampleValue>| matches!(s.value, SampleValue::Float(_));
        let near: Vec<&Point<SampleValue>> = series
            .samples
            .iter()
            .filter(|s| s.t > at - lookback && s.t <= at + lookback && !is_stale_value(&s.value))
            .collect();
        if near.iter().any(|s| is_float(s)) && !near.iter().all(|s| is_float(s)) {
            self.warn(notes::mixed_floats_histograms(series.labels.metric_name()), span);
            return Ok(None);
        }
        let next = near.iter().position(|s| s.t >= at);
        let Some(next) = next else {
            return Ok(near.last().map(|s| s.value.clone()));
        };
        if near[next].t == at {
            return Ok(Some(near[next].value.clone()));
        }
        let Some(previous) = next.checked_sub(1) else {
            return Ok(None);
        };
        let (p, n) = (near[previous], near[next]);
        match (&p.value, &n.value) {
            (SampleValue::Float(a), SampleValue::Float(b)) => {
                Ok(Some(SampleValue::Float(interpolate((p.t, *a), (n.t, *b), at, false))))
            }
            (SampleValue::Histogram(a), SampleValue::Histogram(b)) => {
                let fraction = (at - p.t) as f64 / (n.t - p.t) as f64;
                if histogram::detect_reset(b, a) {
                    // The counter has restarted from nothing.
                    return Ok(Some(SampleValue::Histogram(Arc::new(histogram::scaled(b, fraction)))));
                }
                let mut between = Accumulator::new(b);
                if between.sub(a).is_err() {
                    return Ok(None);
                }
                between.scale(fraction);
                between.add(a).map_err(|e| fail(e.to_string()))?;
                Ok(Some(SampleValue::Histogram(Arc::new(between.finish()))))
            }
            _ => Ok(None),
        }
    }

    /// The samples of the window; of an extended one also those around it.
    pub(super) fn select_range(&self, m: &MatrixSelector, t: i64) -> Result<RangeVector, QueryError> {
        let end_ms = self.selected_time(&m.selector.modifiers, t)?;
        let start_ms = end_ms.saturating_sub(self.positive_ms(&m.range)?);
        let lookback = self.options.lookback_ms;
        let (after, upto) = match m.selector.extension {
            None => (start_ms, end_ms),
            Some(RangeExtension::Anchored) => (start_ms - lookback, end_ms),
            Some(RangeExtension::Smoothed) => (start_ms - lookback, end_ms + lookback),
        };
        let mut series = Vec::new();
        for loaded in self.load(&m.selector.matchers)?.iter() {
            let mut window =
                Window { labels: loaded.labels.clone(), drop_name: false, floats: Vec::new(), histograms: Vec::new() };
            let inside = loaded.samples.iter().enumerate().filter(|(_, s)| s.t > after && s.t <= upto);
            for (i, s) in inside.filter(|(_, s)| !is_stale_value(&s.value)) {
                let start = if self.options.use_start_timestamps { s.start } else { 0 };
                match self.hinted(loaded, i) {
                    SampleValue::Float(value) => window.floats.push(Point { t: s.t, start, value }),
                    SampleValue::Histogram(value) => window.histograms.push(Point { t: s.t, start, value }),
                }
            }
            if !window.is_empty() {
                series.push(window);
            }
        }
        Ok(RangeVector { series, start_ms, end_ms, extension: m.selector.extension })
    }

    /// The values of an expression at the multiples of the step inside the window.
    pub(super) fn subquery(&self, s: &Subquery, t: i64) -> Result<RangeVector, QueryError> {
        let end_ms = self.selected_time(&s.modifiers, t)?;
        let start_ms = end_ms.saturating_sub(self.positive_ms(&s.range)?);
        let step = match &s.step {
            Some(step) => self.positive_ms(step)?,
            None => self.options.subquery_step_ms,
        };
        let mut series: Vec<Window> = Vec::new();
        let mut at = start_ms.div_euclid(step).saturating_add(1).saturating_mul(step);
        while at <= end_ms {
            let mut seen = Vec::new();
            for element in self.vector(&s.expr, at)? {
                super::check_unique(&mut seen, &element.labels)?;
                let index = series.iter().position(|w| w.labels == element.labels);
                let index = index.unwrap_or_else(|| {
                    series.push(Window {
                        labels: element.labels.clone(),
                        drop_name: false,
                        floats: Vec::new(),
                        histograms: Vec::new(),
                    });
                    series.len() - 1
                });
                let window = &mut series[index];
                window.drop_name |= element.drop_name;
                match element.value {
                    SampleValue::Float(value) => window.floats.push(Point { t: at, start: 0, value }),
                    SampleValue::Histogram(h) => {
                        let value = Arc::new(without_reset(&h));
                        window.histograms.push(Point { t: at, start: 0, value });
                    }
                }
            }
            at += step;
        }
        Ok(RangeVector { series, start_ms, end_ms, extension: None })
    }
}

/// Steps are no neighbours, so what is known of resets between samples says nothing between steps.
fn without_reset(h: &FloatHistogram) -> FloatHistogram {
    let mut h = h.clone();
    if h.counter_reset_hint != CounterResetHint::Gauge {
        h.counter_reset_hint = CounterResetHint::Unknown;
    }
    debug_assert!(histogram::equals(&h, &h), "a histogram equals itself");
    h
}

/// The samples of one column.
fn samples(columns: &Columns, i: usize) -> Vec<Point<SampleValue>> {
    let column = columns.column(i);
    let starts = columns.start_timestamps(i);
    let mut histograms = column.histograms.iter().peekable();
    let mut out = Vec::new();
    for (row, t) in columns.timestamps().iter().enumerate() {
        let value = match histograms.next_if(|(_, r, _)| *r as usize == row) {
            Some((_, _, h)) => SampleValue::Histogram(h.clone()),
            None if column.is_present(row) => SampleValue::Float(column.values[row]),
            None => continue,
        };
        out.push(Point { t: *t, start: starts.map_or(0, |s| s[row]), value });
    }
    out
}
