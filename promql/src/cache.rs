//! Answers of range queries, kept for the next refresh.
//!
//! A dashboard asks the same query again and again with a window that has moved on by a step or two. The steps that
//! can no longer change are taken from the answer before, only the others are evaluated. What can change is the
//! store's to say ([`Changes`]): steps that read samples younger than [`Changes::settled_before`] are not kept, and
//! those that read a span of time in which the store has changed since are dropped.
//!
//! Kept are answers of floats to queries whose value at a step depends on that step's time alone: neither on the ends
//! of the query's range (`@ end()`, `range()`) nor on a fixed time. Answers with warnings, or with infos that count
//! over all steps, are not kept; other infos stay with an answer as long as it is kept.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use promontory_model::{Cancel, Changes, Queryable, TimeRange};

use crate::annotations::Annotations;
use crate::ast::{AggregateOp, At, DurationExpr, Expr, Modifiers, RangeExtension};
use crate::engine::{Engine, EngineOptions};
use crate::error::QueryError;
use crate::functions::FunctionId;
use crate::value::{MatrixSeries, QueryOutput, QueryStats, RangeSpec, Value};

/// Answers of range queries, of bounded size; the least recently used goes first.
#[derive(Debug)]
pub struct ResultCache {
    bytes_max: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    answers: HashMap<Key, Answer, rapidhash::fast::RandomState>,
    bytes: usize,
    /// Counts uses, which orders answers by their last one.
    uses: u64,
    stats: CacheStats,
}

/// What a cache has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheStats {
    /// Queries answered in part or as a whole from kept steps.
    pub hits: u64,
    /// Queries that could have been, of which nothing was kept.
    pub misses: u64,
    /// Queries of a kind that is not kept.
    pub passed: u64,
    /// Steps taken from kept answers.
    pub steps_reused: u64,
    /// Bytes held.
    pub bytes: u64,
    /// Answers held.
    pub answers: u64,
}

/// Queries with equal keys have equal values at equal steps.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    /// The text, not the expression: infos point into it.
    text: String,
    step_ms: i64,
    /// First step, modulo the step.
    phase_ms: i64,
    lookback_ms: i64,
    subquery_step_ms: i64,
    delayed_name_removal: bool,
}

#[derive(Debug, Clone)]
struct Answer {
    /// Steps from `first` to `last`, both included.
    first: i64,
    last: i64,
    /// Number of the newest change that it may not know of.
    change: u64,
    series: Arc<Vec<MatrixSeries>>,
    infos: Annotations,
    bytes: usize,
    used: u64,
}

/// How far from a step its value is read, in ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reach {
    back: i64,
    ahead: i64,
}

impl ResultCache {
    /// An empty cache that holds at most about so many bytes; with 0 it keeps nothing.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, inner: Mutex::default() }
    }

    /// What it has done so far.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        let inner = self.lock();
        CacheStats { bytes: inner.bytes as u64, answers: inner.answers.len() as u64, ..inner.stats }
    }

    /// [`Engine::range`] of `expr`, which was parsed from `text`, with kept steps where there are some.
    ///
    /// # Errors
    /// As [`Engine::range`].
    pub fn range(
        &self,
        engine: &Engine,
        queryable: &dyn Queryable,
        text: &str,
        expr: &Expr,
        range: RangeSpec,
        cancel: &Cancel,
    ) -> Result<QueryOutput, QueryError> {
        let options = engine.options();
        let sound = range.step_ms > 0 && range.end_ms >= range.start_ms;
        let (Some(changes), Some(reach), true) = (queryable.changes(), reach(expr, options), sound) else {
            self.lock().stats.passed += 1;
            return engine.range(queryable, expr, range, cancel);
        };
        let key = Key {
            text: text.to_owned(),
            step_ms: range.step_ms,
            phase_ms: range.start_ms.rem_euclid(range.step_ms),
            lookback_ms: options.lookback_ms,
            subquery_step_ms: options.subquery_step_ms,
            delayed_name_removal: options.delayed_name_removal,
        };
        // The end as a step, so that spans of steps are compared as such.
        let end_ms = range.end_ms - (range.end_ms - range.start_ms) % range.step_ms;
        let wanted = RangeSpec { end_ms, ..range };
        // Read before any snapshot of this query: a change that comes between is one that the answer may not know.
        let newest = changes.newest();
        let settled = changes.settled_before();
        let kept = self.kept(&key, wanted, reach, changes);
        let evaluate =
            |from, to| engine.range(queryable, expr, RangeSpec { start_ms: from, end_ms: to, ..range }, cancel);
        let Some(kept) = kept else {
            let output = evaluate(wanted.start_ms, wanted.end_ms)?;
            self.keep(key, wanted, &output, newest, settled, reach);
            return Ok(output);
        };
        let mut infos = kept.infos.clone();
        let mut stats = QueryStats::default();
        let mut series = cut(&kept.series, kept.first, kept.last);
        for (from, to) in [(wanted.start_ms, kept.first - range.step_ms), (kept.last + range.step_ms, wanted.end_ms)] {
            if from > to {
                continue;
            }
            let output = evaluate(from, to)?;
            infos.extend(output.annotations);
            stats = sum(stats, output.stats);
            let Value::Matrix(new) = output.value else { return evaluate(wanted.start_ms, wanted.end_ms) };
            series = if from < kept.first { joined(new, series) } else { joined(series, new) };
        }
        let output = QueryOutput { value: Value::Matrix(series), annotations: infos, stats };
        // Kept steps know of the changes up to the older number only.
        self.keep(key, wanted, &output, kept.change.min(newest), settled, reach);
        Ok(output)
    }

    /// The part of the kept answer that is still true and inside `wanted`.
    fn kept(&self, key: &Key, wanted: RangeSpec, reach: Reach, changes: &dyn Changes) -> Option<Answer> {
        let mut inner = self.lock();
        inner.uses += 1;
        let used = inner.uses;
        let found = inner.answers.get_mut(key).and_then(|answer| {
            answer.used = used;
            let mut answer = answer.clone();
            answer.first = answer.first.max(wanted.start_ms);
            answer.last = answer.last.min(wanted.end_ms);
            for changed in changes.since(answer.change)? {
                answer.drop_steps(changed, reach, key.step_ms);
            }
            (answer.first <= answer.last).then_some(answer)
        });
        match &found {
            Some(answer) => {
                inner.stats.hits += 1;
                inner.stats.steps_reused += ((answer.last - answer.first) / key.step_ms) as u64 + 1;
            }
            None => inner.stats.misses += 1,
        }
        found
    }

    /// Keeps the settled steps of an answer in place of what was kept before.
    fn keep(&self, key: Key, range: RangeSpec, output: &QueryOutput, change: u64, settled: i64, reach: Reach) {
        let Value::Matrix(series) = &output.value else { return };
        let has_histograms = series.iter().any(|s| !s.histograms.is_empty());
        // The last step whose youngest sample is before `settled`.
        let reads_until = settled.saturating_sub(1).saturating_sub(reach.ahead);
        let steps = reads_until.saturating_sub(range.start_ms).div_euclid(range.step_ms);
        let last = range.end_ms.min(range.start_ms.saturating_add(steps.saturating_mul(range.step_ms)));
        if has_histograms || last < range.start_ms || output.annotations.depend_on_steps() {
            self.lock().remove(&key);
            return;
        }
        let series = cut(series, range.start_ms, last);
        let bytes = key.text.len() + size_of::<Answer>() + series.iter().map(bytes_of).sum::<usize>();
        let mut inner = self.lock();
        inner.remove(&key);
        if bytes > self.bytes_max {
            return;
        }
        inner.uses += 1;
        inner.bytes += bytes;
        let answer = Answer {
            first: range.start_ms,
            last,
            change,
            series: Arc::new(series),
            infos: output.annotations.clone(),
            bytes,
            used: inner.uses,
        };
        inner.answers.insert(key, answer);
        while inner.bytes > self.bytes_max {
            let oldest = inner.answers.iter().min_by_key(|(_, a)| a.used).map(|(k, _)| k.clone());
            let Some(oldest) = oldest else { break };
            inner.remove(&oldest);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // Every change of the map is whole before anything can panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn remove(&mut self, key: &Key) {
        if let Some(answer) = self.answers.remove(key) {
            self.bytes -= answer.bytes;
        }
    }
}

impl Answer {
    /// Drops the steps that read from `changed`, and those on its shorter side, so that one run of steps is left.
    fn drop_steps(&mut self, changed: TimeRange, reach: Reach, step_ms: i64) {
        // Steps from `from` to `to` are affected.
        let from = changed.mint.ms().saturating_sub(reach.ahead);
        let to = changed.maxt.ms().saturating_add(reach.back);
        if to < self.first || self.last < from {
            return;
        }
        let before = (from - 1).saturating_sub(self.first).div_euclid(step_ms);
        let after = self.last.saturating_sub(to + 1).div_euclid(step_ms);
        // Where neither side has a step the last one comes before the first: nothing is left.
        if before >= after {
            self.last = self.first.saturating_add(before.saturating_mul(step_ms));
        } else {
            self.first = self.last.saturating_sub(after.saturating_mul(step_ms));
        }
    }
}

fn bytes_of(series: &MatrixSeries) -> usize {
    let labels: usize = series.labels.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
    size_of::<MatrixSeries>() + labels + 16 * series.floats.len()
}

fn sum(a: QueryStats, b: QueryStats) -> QueryStats {
    QueryStats {
        samples_read: a.samples_read + b.samples_read,
        samples_peak: a.samples_peak.max(b.samples_peak),
        bytes_peak: a.bytes_peak.max(b.bytes_peak),
        series_selected: a.series_selected.max(b.series_selected),
    }
}

/// The samples from `first` to `last`, without the series that have none there.
fn cut(series: &[MatrixSeries], first: i64, last: i64) -> Vec<MatrixSeries> {
    let inside = |s: &MatrixSeries| {
        let from = s.floats.partition_point(|(t, _)| *t < first);
        let to = s.floats.partition_point(|(t, _)| *t <= last);
        let floats = s.floats[from..to].to_vec();
        (!floats.is_empty()).then(|| MatrixSeries { labels: s.labels.clone(), floats, histograms: Vec::new() })
    };
    series.iter().filter_map(inside).collect()
}

/// Two answers, of which all steps of `a` are before those of `b`, as one; both sorted by labels.
fn joined(a: Vec<MatrixSeries>, b: Vec<MatrixSeries>) -> Vec<MatrixSeries> {
    let mut out = Vec::with_capacity(a.len().max(b.len()));
    let (mut a, mut b) = (a.into_iter().peekable(), b.into_iter().peekable());
    loop {
        let order = match (a.peek(), b.peek()) {
            (Some(x), Some(y)) => x.labels.cmp(&y.labels),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return out,
        };
        match order {
            Ordering::Less => out.extend(a.next()),
            Ordering::Greater => out.extend(b.next()),
            Ordering::Equal => {
                if let (Some(mut x), Some(y)) = (a.next(), b.next()) {
                    x.floats.extend(y.floats);
                    x.histograms.extend(y.histograms);
                    out.push(x);
                }
            }
        }
    }
}

/// How far from each step `expr` reads; `None` when its value depends on more than the time of the step.
fn reach(expr: &Expr, options: EngineOptions) -> Option<Reach> {
    let lookback = options.lookback_ms;
    Some(match expr {
        Expr::Number(_) | Expr::String(_) => Reach { back: 0, ahead: 0 },
        Expr::Vector(v) => {
            let ahead = if v.extension == Some(RangeExtension::Smoothed) { lookback } else { 0 };
            shifted(Reach { back: lookback, ahead }, &v.modifiers)?
        }
        Expr::Matrix(m) => {
            let (back, ahead) = match m.selector.extension {
                None => (0, 0),
                Some(RangeExtension::Anchored) => (lookback, 0),
                Some(RangeExtension::Smoothed) => (lookback, lookback),
            };
            let range = literal_ms(&m.range)?;
            shifted(Reach { back: range.saturating_add(back), ahead }, &m.selector.modifiers)?
        }
        Expr::Subquery(s) => {
            let inner = reach(&s.expr, options)?;
            let step = s.step.as_ref().map_or(Some(options.subquery_step_ms), literal_ms)?;
            let back = inner.back.saturating_add(literal_ms(&s.range)?).saturating_add(step);
            shifted(Reach { back, ahead: inner.ahead }, &s.modifiers)?
        }
        Expr::Call(c) => {
            let of_the_range = matches!(c.function.id, FunctionId::Start | FunctionId::End | FunctionId::Range);
            // Series enriched by `info` read the info series at the same time.
            let start = Reach { back: if c.function.id == FunctionId::Info { lookback } else { 0 }, ahead: 0 };
            if of_the_range {
                return None;
            }
            c.args.iter().try_fold(start, |all, arg| Some(wider(all, reach(arg, options)?)))?
        }
        // Which series are taken depends on those of all steps.
        Expr::Aggregate(a) if matches!(a.op, AggregateOp::LimitK | AggregateOp::LimitRatio) => return None,
        other => {
            let start = Reach { back: 0, ahead: 0 };
            other.children().into_iter().try_fold(start, |all, child| Some(wider(all, reach(child, options)?)))?
        }
    })
}

fn wider(a: Reach, b: Reach) -> Reach {
    Reach { back: a.back.max(b.back), ahead: a.ahead.max(b.ahead) }
}

fn shifted(reach: Reach, modifiers: &Modifiers) -> Option<Reach> {
    if matches!(modifiers.at, Some(At::Time(_) | At::Start | At::End)) {
        return None;
    }
    let offset = modifiers.offset.as_ref().map_or(Some(0), literal_ms)?;
    Some(Reach { back: reach.back.saturating_add(offset), ahead: reach.ahead.saturating_sub(offset) })
}

/// A duration written as a number, with or without a sign. Others are rare, and not worth evaluating here.
fn literal_ms(duration: &DurationExpr) -> Option<i64> {
    match duration {
        DurationExpr::Literal(n) => Some((n.value * 1000.0).round() as i64),
        DurationExpr::Sign { negative, expr, .. } => {
            literal_ms(expr).map(|ms| if *negative { ms.saturating_neg() } else { ms })
        }
        DurationExpr::Paren(expr, _) => literal_ms(expr),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
