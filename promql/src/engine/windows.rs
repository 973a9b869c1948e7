//! A range function over the columns of a batch, or over the rows of a subquery.
//!
//! What depends on times only is prepared once for all columns of a batch. A column with a value in every row runs
//! on the shared windows; one with gaps or staleness markers is packed first and gets windows of its own.

use std::sync::Arc;

use promontory_model::FloatHistogram;

use super::histogram_windows::{self, Extended, Report, Timed};
use super::notes::Notes;
use super::vector::{HistogramRow, Series, Vector, push_filtered};
use crate::ast::RangeExtension;
use crate::error::QueryError;
use crate::functions::FunctionId;
use crate::histogram;
use crate::kernels::extended::{self, Edge};
use crate::kernels::rate::{self, Extrapolation, Kind};
use crate::kernels::starts::{self, Counter};
use crate::kernels::window::{self, Bounds, Rows};
use crate::kernels::{ABSENT, Samples, is_absent, over_time, quantile, regression};
use crate::notes as texts;

/// A range function with its arguments, ready to run.
#[derive(Debug, Clone)]
pub(crate) struct WindowFunction {
    /// Which one.
    pub(crate) id: FunctionId,
    /// Values of the scalar arguments at each step.
    pub(crate) params: Vec<Arc<Vec<f64>>>,
    /// `anchored` or `smoothed`.
    pub(crate) extension: Option<RangeExtension>,
    /// The window of each step.
    pub(crate) windows: Vec<Bounds>,
    /// What must be read for each window: the window itself, or more of it for the edges of an extended one.
    pub(crate) reads: Vec<Bounds>,
    /// Time of each step, ms.
    pub(crate) times: Vec<i64>,
}

/// The part of the work that the columns of one batch share.
#[derive(Debug)]
pub(crate) struct Shared {
    rows: Vec<Rows>,
    extrapolation: Option<Extrapolation>,
    /// Whether each step has a value of a series with a sample in every row.
    is_full: bool,
}

/// Buffers that are reused from column to column.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    t: Vec<i64>,
    v: Vec<f64>,
    rows: Vec<Rows>,
    sort: Vec<f64>,
}

/// The samples of one column, not yet packed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column<'a> {
    /// Times of the rows.
    pub(crate) times: &'a [i64],
    /// A value per row; staleness markers are no samples.
    pub(crate) values: &'a [f64],
    /// Bit per row; `None` when all are there.
    pub(crate) presence: Option<&'a [u64]>,
    /// Since when each row has been counting, ms; `None` when that is unknown everywhere.
    pub(crate) starts: Option<&'a [i64]>,
}

impl Column<'_> {
    fn is_dense(self) -> bool {
        self.presence.is_none() && !self.values.iter().fold(false, |any, v| any | is_absent(*v))
    }

    fn pack(self, t: &mut Vec<i64>, v: &mut Vec<f64>) {
        t.clear();
        v.clear();
        for row in self.rows() {
            t.push(self.times[row]);
            v.push(self.values[row]);
        }
    }

    /// The rows that hold a sample.
    fn rows(self) -> impl Iterator<Item = usize> {
        let present = move |row: &usize| self.presence.is_none_or(|bits| bits[row / 64] >> (row % 64) & 1 == 1);
        (0..self.times.len()).filter(present).filter(move |row| !is_absent(self.values[*row]))
    }
}

/// Whether the metric's name stays on what a range function answers.
pub(crate) fn keeps_name(id: FunctionId) -> bool {
    matches!(id, FunctionId::LastOverTime | FunctionId::FirstOverTime)
}

impl WindowFunction {
    /// Prepares what columns with these times share.
    pub(crate) fn share(&self, times: &[i64]) -> Shared {
        let mut rows = Vec::new();
        self.rows(times, &mut rows);
        let extrapolation = self.extrapolating().map(|kind| Extrapolation::new(times, &rows, &self.windows, kind));
        let is_full = extrapolation.is_some() && rows.iter().all(|r| r.len() >= 2);
        Shared { rows, extrapolation, is_full }
    }

    /// Most samples in any one window of these rows.
    pub(crate) fn samples_max(shared: &Shared) -> u64 {
        shared.rows.iter().map(|r| r.len() as u64).max().unwrap_or(0)
    }

    fn rows(&self, times: &[i64], out: &mut Vec<Rows>) {
        window::rows(times, &self.reads, out);
        if self.extension == Some(RangeExtension::Anchored) && self.counts_pairs() {
            extended::anchor(times, out, &self.windows);
        }
    }

    /// The kind of `rate`, `increase` and `delta` without extension.
    fn extrapolating(&self) -> Option<Kind> {
        if self.extension.is_some() {
            return None;
        }
        let (is_counter, is_rate) = self.rate_kind()?;
        Some(Kind { is_counter, is_rate })
    }

    fn rate_kind(&self) -> Option<(bool, bool)> {
        match self.id {
            FunctionId::Rate => Some((true, true)),
            FunctionId::Increase => Some((true, false)),
            FunctionId::Delta => Some((false, false)),
            _ => None,
        }
    }

    /// Whether annotations about floats name the series.
    pub(crate) fn names_series(&self) -> bool {
        matches!(self.id, FunctionId::Rate | FunctionId::Increase)
    }

    /// Whether the metric's name stays.
    pub(crate) fn keeps_name(&self) -> bool {
        keeps_name(self.id)
    }

    /// Adds the answer for a series of a subquery that loses its name at those steps of the subquery, and so wherever
    /// one of them is in the window.
    pub(crate) fn push_by_name(
        &self,
        out: &mut Vector,
        series: Series,
        (times, losing): (&[i64], &[bool]),
        row: &[f64],
        histograms: &[(u32, Arc<FloatHistogram>)],
    ) {
        let loses = |step: usize| {
            let w = self.windows[step];
            let inside = times.partition_point(|t| *t <= w.start)..times.partition_point(|t| *t <= w.end);
            losing.get(inside).is_some_and(|steps| steps.contains(&true))
        };
        let mut answer = Vector::new(row.len());
        answer.push_row(series, row, histograms.to_vec());
        push_filtered(out, &answer, 0, |step| !loses(step));
        answer.series[0].drop_name = true;
        push_filtered(out, &answer, 0, loses);
    }

    /// Writes the value of each step of a column that has no histograms. The answer is `true` when it is known that no
    /// step is without a value.
    ///
    /// # Errors
    /// A parameter that the function refuses.
    pub(crate) fn floats(
        &self,
        column: Column<'_>,
        shared: &Shared,
        scratch: &mut Scratch,
        out: &mut [f64],
    ) -> Result<bool, QueryError> {
        if let Some(starts) = column.starts.filter(|_| self.asks_for_starts()) {
            self.with_starts(column, starts, out);
            return Ok(false);
        }
        if let Some(extrapolation) = &shared.extrapolation
            && column.presence.is_none()
            && extrapolation.is_of_counter()
            && rate::is_rising(column.values)
        {
            extrapolation.apply_rising(column.values, &shared.rows, out);
            return Ok(shared.is_full);
        }
        if column.is_dense() {
            if let Some(extrapolation) = &shared.extrapolation {
                extrapolation.apply(column.values, &shared.rows, out);
                return Ok(shared.is_full);
            }
            let samples = Samples { t: column.times, v: column.values };
            self.run(samples, &shared.rows, &mut scratch.sort, out)?;
            return Ok(false);
        }
        let (mut t, mut v) = (std::mem::take(&mut scratch.t), std::mem::take(&mut scratch.v));
        let mut rows = std::mem::take(&mut scratch.rows);
        column.pack(&mut t, &mut v);
        self.rows(&t, &mut rows);
        let result = match self.extrapolating() {
            Some(kind) => {
                Extrapolation::new(&t, &rows, &self.windows, kind).apply(&v, &rows, out);
                Ok(())
            }
            None => self.run(Samples { t: &t, v: &v }, &rows, &mut scratch.sort, out),
        };
        (scratch.t, scratch.v, scratch.rows) = (t, v, rows);
        result.map(|()| false)
    }

    /// Whether the function looks for restarts of counters.
    fn asks_for_starts(&self) -> bool {
        let counts = [FunctionId::Rate, FunctionId::Increase, FunctionId::Irate, FunctionId::Resets];
        self.extension.is_none() && counts.contains(&self.id)
    }

    fn with_starts(&self, column: Column<'_>, starts: &[i64], out: &mut [f64]) {
        let (mut t, mut v, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        column.pack(&mut t, &mut v);
        let starts: Vec<i64> = column.rows().map(|row| starts[row]).collect();
        self.rows(&t, &mut rows);
        for ((out, r), window) in out.iter_mut().zip(&rows).zip(&self.windows) {
            let counter = Counter { t: &t[r.range()], v: &v[r.range()], starts: &starts[r.range()] };
            let value = match self.id {
                FunctionId::Irate => counter.instant_rate(),
                FunctionId::Resets => counter.resets(),
                id => counter.rate(*window, Kind { is_counter: true, is_rate: id == FunctionId::Rate }),
            };
            *out = value.unwrap_or(ABSENT);
        }
    }

    /// Warns of samples inside one window that claim to count since before the sample before them.
    pub(crate) fn note_overlaps(&self, samples: &[(i64, i64)], metric: &str, notes: &mut Notes<'_>) {
        if !matches!(self.id, FunctionId::Rate | FunctionId::Increase) || self.extension.is_some() {
            return;
        }
        let times: Vec<i64> = samples.iter().map(|s| s.0).collect();
        let mut rows = Vec::new();
        window::rows(&times, &self.reads, &mut rows);
        if rows.iter().any(|r| samples[r.range()].windows(2).any(|pair| starts::overlaps(pair[0], pair[1]))) {
            notes.warn(&texts::start_time_overlap(metric), self.params_before());
        }
    }

    fn run(&self, samples: Samples<'_>, rows: &[Rows], sort: &mut Vec<f64>, out: &mut [f64]) -> Result<(), QueryError> {
        let per = |out: &mut [f64], f: fn(Samples<'_>) -> f64| over_time::per_window(samples, rows, out, f);
        match self.id {
            FunctionId::Rate | FunctionId::Increase | FunctionId::Delta => {
                let edge = match self.extension {
                    Some(RangeExtension::Smoothed) => Edge::Smoothed,
                    _ => Edge::Anchored,
                };
                let kind = self.rate_kind().unwrap_or((false, false));
                extended::increase(samples, rows, &self.windows, edge, kind, out);
            }
            FunctionId::Irate => rate::instant(samples, rows, true, out),
            FunctionId::Idelta => rate::instant(samples, rows, false, out),
            FunctionId::SumOverTime => over_time::sums(samples.v, rows, false, out),
            FunctionId::AvgOverTime => over_time::sums(samples.v, rows, true, out),
            FunctionId::MinOverTime => over_time::extremes(samples.v, rows, false, out),
            FunctionId::MaxOverTime => over_time::extremes(samples.v, rows, true, out),
            FunctionId::CountOverTime => per(out, |s| s.v.len() as f64),
            FunctionId::PresentOverTime => per(out, |_| 1.0),
            FunctionId::LastOverTime => per(out, |s| s.v[s.v.len() - 1]),
            FunctionId::FirstOverTime => per(out, |s| s.v[0]),
            FunctionId::StddevOverTime => per(out, |s| over_time::variance(s.v).sqrt()),
            FunctionId::StdvarOverTime => per(out, |s| over_time::variance(s.v)),
            FunctionId::MadOverTime => {
                over_time::per_window(samples, rows, out, |s| quantile::median_absolute_deviation(s, sort));
            }
            FunctionId::TsOfFirstOverTime => per(out, |s| s.t[0] as f64 / 1000.0),
            FunctionId::TsOfLastOverTime => per(out, |s| s.t[s.t.len() - 1] as f64 / 1000.0),
            FunctionId::TsOfMinOverTime => per(out, |s| over_time::time_of_extreme(s, false)),
            FunctionId::TsOfMaxOverTime => per(out, |s| over_time::time_of_extreme(s, true)),
            FunctionId::Changes => over_time::count_pairs(samples.v, rows, over_time::is_change, out),
            FunctionId::Resets => over_time::count_pairs(samples.v, rows, over_time::is_reset, out),
            FunctionId::QuantileOverTime => {
                quantile::over_windows(samples.v, rows, |step| self.param(0, step), out);
            }
            FunctionId::Deriv => {
                at_least_two(rows, out, |_, r| {
                    let (t, v) = (&samples.t[r.range()], &samples.v[r.range()]);
                    Ok(regression::line(Samples { t, v }, t[0]).0)
                })?;
            }
            FunctionId::PredictLinear => {
                at_least_two(rows, out, |step, r| {
                    let (t, v) = (&samples.t[r.range()], &samples.v[r.range()]);
                    let (slope, value) = regression::line(Samples { t, v }, self.times[step]);
                    Ok(slope * self.param(0, step) + value)
                })?;
            }
            FunctionId::DoubleExponentialSmoothing => {
                at_least_one(rows, |step| self.smoothing_factors(step).map(|_| ()))?;
                at_least_two(rows, out, |step, r| {
                    let (smoothing, trend) = self.smoothing_factors(step)?;
                    Ok(regression::smooth(&samples.v[r.range()], smoothing, trend))
                })?;
            }
            _ => out.fill(ABSENT),
        }
        Ok(())
    }

    fn param(&self, i: usize, step: usize) -> f64 {
        self.params.get(i).map_or(f64::NAN, |p| p[step])
    }

    /// Warns of quantiles outside 0…1 that were asked of samples.
    pub(crate) fn note_quantiles(&self, row: &[f64], notes: &mut Notes<'_>) {
        if self.id != FunctionId::QuantileOverTime {
            return;
        }
        let asked = (0..row.len()).filter(|step| !is_absent(row[*step])).map(|step| self.param(0, step));
        let mut last = None;
        for q in asked.filter(|q| !(0.0..=1.0).contains(q)) {
            if last != Some(q.to_bits()) {
                notes.warn(&texts::invalid_quantile(q), 0);
            }
            last = Some(q.to_bits());
        }
    }

    fn smoothing_factors(&self, step: usize) -> Result<(f64, f64), QueryError> {
        let (smoothing, trend) = (self.param(0, step), self.param(1, step));
        for (value, name, letter) in [(smoothing, "smoothing", "sf"), (trend, "trend", "tf")] {
            if value <= 0.0 || value >= 1.0 {
                let message = format!("invalid {name} factor. Expected: 0 < {letter} < 1, got: {value:.6}");
                return Err(QueryError::Execution { message, span: None });
            }
        }
        Ok((smoothing, trend))
    }

    /// Corrects the steps whose windows hold histograms, and answers those whose value is one.
    ///
    /// `out` holds the values of the floats alone.
    pub(crate) fn with_histograms(
        &self,
        column: Column<'_>,
        histograms: &[Timed],
        starts: &[i64],
        metric: &str,
        out: &mut [f64],
        notes: &mut Notes<'_>,
    ) -> HistogramRow {
        // A restart that only start timestamps show is as good as a hint.
        let restarted: Vec<Timed>;
        let mut histograms = histograms;
        if self.asks_for_starts() && !starts.is_empty() {
            restarted = histogram_windows::with_restarts(histograms, starts);
            histograms = &restarted;
        }
        let (mut t, mut v) = (Vec::new(), Vec::new());
        column.pack(&mut t, &mut v);
        let times: Vec<i64> = histograms.iter().map(|(t, _)| *t).collect();
        let (mut float_rows, mut histogram_rows) = (Vec::new(), Vec::new());
        window::rows(&t, &self.reads, &mut float_rows);
        window::rows(&times, &self.reads, &mut histogram_rows);
        let mut report = Report { notes, metric, arg: self.params_before() };
        let mut row = HistogramRow::new();
        for step in 0..out.len() {
            let mut w = Mixed {
                floats: Samples { t: &t[float_rows[step].range()], v: &v[float_rows[step].range()] },
                histograms: &histograms[histogram_rows[step].range()],
                start: starts.get(histogram_rows[step].lo as usize).copied().unwrap_or(0),
            };
            if self.extension == Some(RangeExtension::Anchored) && self.counts_pairs() {
                w = w.anchored(self.windows[step].start);
                if w.histograms.is_empty() && w.floats.v.is_empty() {
                    out[step] = ABSENT;
                    continue;
                }
            } else if w.histograms.is_empty() {
                continue;
            }
            let (float, histogram) = self.mixed(w, step, out[step], &mut report);
            out[step] = float;
            row.extend(histogram.map(|h| (step as u32, h)));
        }
        row
    }

    fn counts_pairs(&self) -> bool {
        matches!(self.id, FunctionId::Changes | FunctionId::Resets)
    }

    /// The value of a window with at least one histogram; `floats_only` is what the floats alone give.
    fn mixed(
        &self,
        w: Mixed<'_>,
        step: usize,
        floats_only: f64,
        report: &mut Report<'_, '_>,
    ) -> (f64, Option<Arc<FloatHistogram>>) {
        if self.counts_pairs() {
            return (w.count_pairs(self.id == FunctionId::Changes), None);
        }
        let [Some(first), Some(last)] = [w.histograms.first(), w.histograms.last()] else {
            return (floats_only, None);
        };
        let first_is_float = w.floats.t.first().is_some_and(|t| *t < first.0);
        let last_is_float = w.floats.t.last().is_some_and(|t| *t > last.0);
        match self.id {
            FunctionId::CountOverTime => ((w.floats.v.len() + w.histograms.len()) as f64, None),
            FunctionId::PresentOverTime => (1.0, None),
            FunctionId::FirstOverTime if !first_is_float => (ABSENT, Some(first.1.clone())),
            FunctionId::LastOverTime if !last_is_float => (ABSENT, Some(last.1.clone())),
            FunctionId::TsOfFirstOverTime if !first_is_float => (first.0 as f64 / 1000.0, None),
            FunctionId::TsOfLastOverTime if !last_is_float => (last.0 as f64 / 1000.0, None),
            FunctionId::FirstOverTime
            | FunctionId::LastOverTime
            | FunctionId::TsOfFirstOverTime
            | FunctionId::TsOfLastOverTime => (floats_only, None),
            FunctionId::SumOverTime
            | FunctionId::AvgOverTime
            | FunctionId::Rate
            | FunctionId::Increase
            | FunctionId::Delta => {
                if !w.floats.v.is_empty() {
                    report.notes.warn(&texts::mixed_floats_histograms(report.metric), report.arg);
                    return (ABSENT, None);
                }
                (ABSENT, self.histograms_only(w, step, report).map(Arc::new))
            }
            FunctionId::Irate | FunctionId::Idelta => self.newest_two(w, floats_only, report),
            _ => {
                if !w.floats.v.is_empty() {
                    // Prometheus points at the first argument.
                    report.notes.info(&texts::histogram_ignored_in_range(report.metric), 0);
                }
                (floats_only, None)
            }
        }
    }

    fn histograms_only(&self, w: Mixed<'_>, step: usize, report: &mut Report<'_, '_>) -> Option<FloatHistogram> {
        let (points, window) = (w.histograms, self.windows[step]);
        match (self.rate_kind(), self.extension) {
            (None, _) => histogram_windows::sum_or_average(points, self.id == FunctionId::AvgOverTime, report),
            (Some((is_counter, is_rate)), None) => {
                let start = if is_counter { starts::since(points[0].0, w.start, window) } else { None };
                histogram_windows::rate(points, start, Kind { is_counter, is_rate }, window, report)
            }
            (Some((is_counter, per_second)), Some(extension)) => {
                let smoothed = extension == RangeExtension::Smoothed;
                let kind = Extended { smoothed, is_counter, per_second };
                histogram_windows::extended(points, kind, window, report)
            }
        }
    }

    /// `irate` and `idelta` of the newest two samples, whichever they are.
    fn newest_two(
        &self,
        w: Mixed<'_>,
        floats_only: f64,
        report: &mut Report<'_, '_>,
    ) -> (f64, Option<Arc<FloatHistogram>>) {
        let newest_histograms = w.histograms.iter().rev().take(2).map(|(t, _)| (*t, false));
        let newest_floats = w.floats.t.iter().rev().take(2).map(|t| (*t, true));
        let mut newest: Vec<(i64, bool)> = newest_histograms.chain(newest_floats).collect();
        newest.sort_unstable_by(|a, b| b.cmp(a));
        match (&newest[..], w.histograms) {
            ([(_, true), (_, true), ..], _) => (floats_only, None),
            ([(_, false), (_, false), ..], [.., a, b]) => {
                let per_second = self.id == FunctionId::Irate;
                (ABSENT, histogram_windows::instant([a, b], per_second, report).map(Arc::new))
            }
            ([_, _, ..], _) => {
                report.notes.warn(&texts::mixed_floats_histograms(report.metric), report.arg);
                (ABSENT, None)
            }
            _ => (ABSENT, None),
        }
    }

    /// Which argument is the range vector.
    pub(crate) fn params_before(&self) -> usize {
        usize::from(self.id == FunctionId::QuantileOverTime)
    }
}

fn at_least_two(
    rows: &[Rows],
    out: &mut [f64],
    mut f: impl FnMut(usize, Rows) -> Result<f64, QueryError>,
) -> Result<(), QueryError> {
    for (step, (out, r)) in out.iter_mut().zip(rows).enumerate() {
        *out = if r.len() >= 2 { f(step, *r)? } else { ABSENT };
    }
    Ok(())
}

fn at_least_one(rows: &[Rows], mut f: impl FnMut(usize) -> Result<(), QueryError>) -> Result<(), QueryError> {
    rows.iter().enumerate().filter(|(_, r)| r.len() >= 1).try_for_each(|(step, _)| f(step))
}

/// A window with floats and histograms, each by time.
#[derive(Clone, Copy)]
struct Mixed<'a> {
    floats: Samples<'a>,
    histograms: &'a [Timed],
    /// Since when the first histogram has been counting, or 0.
    start: i64,
}

impl Mixed<'_> {
    /// Only the last sample at or before `start` and those after it; nothing when there are none after it.
    fn anchored(self, start: i64) -> Self {
        let floats_before = self.floats.t.partition_point(|t| *t <= start);
        let histograms_before = self.histograms.partition_point(|(t, _)| *t <= start);
        let float = floats_before.checked_sub(1).map(|i| self.floats.t[i]);
        let histogram = histograms_before.checked_sub(1).map(|i| self.histograms[i].0);
        let inside = self.floats.t.len() > floats_before || self.histograms.len() > histograms_before;
        if !inside {
            return Self { floats: Samples { t: &[], v: &[] }, histograms: &[], start: 0 };
        }
        let float_from = floats_before - usize::from(float > histogram);
        let histogram_from = histograms_before - usize::from(histogram > float);
        let floats = Samples { t: &self.floats.t[float_from..], v: &self.floats.v[float_from..] };
        Self { floats, histograms: &self.histograms[histogram_from..], start: 0 }
    }

    /// `changes` or `resets`: a switch between floats and histograms is both.
    fn count_pairs(self, changes: bool) -> f64 {
        let (mut f, mut h) = (0, 0);
        let mut before: Option<Either<'_>> = None;
        let mut count = 0.0;
        while f < self.floats.t.len() || h < self.histograms.len() {
            let float_next = match (self.floats.t.get(f), self.histograms.get(h)) {
                (Some(a), Some((b, _))) => a < b,
                (a, _) => a.is_some(),
            };
            let now = if float_next {
                f += 1;
                Either::Float(self.floats.v[f - 1])
            } else {
                h += 1;
                Either::Histogram(&self.histograms[h - 1].1)
            };
            let counts = match (before, now) {
                (None, _) => false,
                (Some(Either::Float(a)), Either::Float(b)) if changes => over_time::is_change(a, b),
                (Some(Either::Float(a)), Either::Float(b)) => over_time::is_reset(a, b),
                (Some(Either::Histogram(a)), Either::Histogram(b)) if changes => !histogram::equals(a, b),
                (Some(Either::Histogram(a)), Either::Histogram(b)) => histogram::detect_reset(b, a),
                _ => true,
            };
            count += f64::from(u8::from(counts));
            before = Some(now);
        }
        count
    }
}

#[derive(Clone, Copy)]
enum Either<'a> {
    Float(f64),
    Histogram(&'a FloatHistogram),
}
