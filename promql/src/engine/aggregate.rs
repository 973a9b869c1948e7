//! Aggregations that need no more than groups × steps: sums, means, counts, extremes, deviations.
//!
//! A chunk of series accumulates into groups of its own; the groups of chunks are merged in the order of chunks, with
//! compensated sums, so that a result depends neither on timing nor on the number of threads.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use promontory_model::histogram::CounterResetHint;
use promontory_model::{FloatHistogram, Labels, METRIC_NAME};

use super::notes::{self, Notes};
use super::vector::{Series, Vector, push_filtered};
use crate::ast::{AggregateOp, Grouping};
use crate::histogram;
use crate::kernels::sum::{self, Mean};
use crate::kernels::{ABSENT, is_absent};
use crate::notes::{self as texts, HistogramOperation};

/// The labels of the group that a series belongs to.
pub(crate) fn group_labels(labels: &Labels, grouping: &Grouping) -> Labels {
    if grouping.without {
        labels.filtered(|n| n != METRIC_NAME && grouping.labels.binary_search_by(|g| g.as_str().cmp(n)).is_err())
    } else if grouping.labels.is_empty() {
        Labels::empty()
    } else {
        labels.filtered(|n| grouping.labels.binary_search_by(|g| g.as_str().cmp(n)).is_ok())
    }
}

/// The series of an aggregation, when names go at the end of the query and some series of a group keep theirs.
///
/// At each step a group loses its name if any sample does that it is made of. Samples that keep theirs are given to a
/// series that loses it at the steps at which that is so, and so whether a group loses its name is the same at all
/// steps of a series. `None` when that is so already.
pub(crate) fn names_settled(vector: &Vector, grouping: &Grouping) -> Option<Vector> {
    let drops = |i: &usize| vector.series[*i].drop_name;
    let all = || 0..vector.len();
    if all().all(|i| drops(&i)) || !all().any(|i| drops(&i)) {
        return None;
    }
    let mut losing: HashMap<Labels, Vec<bool>, rapidhash::fast::RandomState> = HashMap::default();
    for i in all().filter(drops) {
        let group = group_labels(&vector.series[i].labels, grouping);
        let steps = losing.entry(group).or_insert_with(|| vec![false; vector.n_steps]);
        steps.iter_mut().enumerate().for_each(|(step, loses)| *loses |= vector.is_present(i, step));
    }
    let mut out = Vector::new(vector.n_steps);
    for i in all() {
        let series = &vector.series[i];
        let steps = losing.get(&group_labels(&series.labels, grouping));
        let loses = |step: usize| series.drop_name || steps.is_some_and(|s| s[step]);
        push_filtered(&mut out, vector, i, |step| !loses(step));
        let before = out.len();
        push_filtered(&mut out, vector, i, loses);
        out.series[before..].iter_mut().for_each(|s| s.drop_name = true);
    }
    Some(out)
}

/// Numbers groups in the order in which they are first seen.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    ids: HashMap<(Labels, bool), usize, rapidhash::fast::RandomState>,
    /// One per group.
    pub(crate) series: Vec<Series>,
}

impl Groups {
    /// The number of the group with these labels; one that loses its name at the end is another than one that does not.
    pub(crate) fn id(&mut self, labels: Labels, drop_name: bool) -> usize {
        let key = (labels, drop_name);
        if let Some(id) = self.ids.get(&key) {
            return *id;
        }
        let id = self.series.len();
        self.series.push(Series { labels: key.0.clone(), drop_name });
        self.ids.insert(key, id);
        id
    }
}

/// Groups that a selection has numbered; of these an accumulator holds those that it has met.
#[derive(Debug, Default)]
struct Numbered {
    /// By number of a group, one more than its place; 0 when it has not been met.
    places: Vec<u32>,
    /// Numbers by place.
    numbers: Vec<u32>,
}

impl Numbered {
    /// The place of a group.
    fn place(&mut self, number: u32) -> usize {
        let place = &mut self.places[number as usize];
        if *place == 0 {
            self.numbers.push(number);
            *place = self.numbers.len() as u32;
        }
        *place as usize - 1
    }
}

/// What a step of a group has seen of floats and histograms.
const SAW_FLOAT: u8 = 1;
const SAW_HISTOGRAM: u8 = 2;

#[derive(Debug)]
enum Cells {
    /// Sum and compensation; the sum is absent until there is a value.
    Sum(Vec<f64>, Vec<f64>),
    Mean(Vec<Mean>),
    Extreme(Vec<f64>),
    Count(Vec<f64>),
    Deviation(Vec<Deviation>),
}

/// Welford's running variance.
#[derive(Debug, Clone, Copy)]
struct Deviation {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Deviation {
    const EMPTY: Self = Self { count: 0.0, mean: 0.0, squares: 0.0 };

    fn add(&mut self, v: f64) {
        self.count += 1.0;
        if self.count == 1.0 {
            (self.mean, self.squares) = if v.is_finite() { (v, 0.0) } else { (v, f64::NAN) };
            return;
        }
        let delta = v - self.mean;
        self.mean += delta / self.count;
        self.squares += delta * (v - self.mean);
    }

    fn merge(&mut self, other: &Self) {
        if self.count == 0.0 || other.count == 0.0 {
            if self.count == 0.0 {
                *self = *other;
            }
            return;
        }
        let count = self.count + other.count;
        let delta = other.mean - self.mean;
        self.squares += other.squares + delta * delta * self.count * other.count / count;
        self.mean += delta * other.count / count;
        self.count = count;
    }
}

/// Groups × steps of one aggregation.
#[derive(Debug)]
pub(crate) struct Accumulator {
    op: AggregateOp,
    n_steps: usize,
    groups: Groups,
    /// Instead of `groups`.
    numbered: Option<Numbered>,
    cells: Cells,
    /// Groups that have a sum at each step.
    full: Vec<bool>,
    /// What each cell has seen; kept only once there are histograms.
    seen: Vec<u8>,
    /// Histograms summed so far, by cell.
    histograms: HashMap<usize, HistogramCell, rapidhash::fast::RandomState>,
}

/// The sum (or, once that overflows, the mean) of the histograms of one cell.
#[derive(Debug)]
struct HistogramCell {
    total: histogram::Accumulator,
    /// Metric of the first series.
    metric: Box<str>,
    count: f64,
    is_mean: bool,
    /// Metric whose exponential buckets met custom ones, or the other way round: there is no sum.
    misfit: Option<Box<str>>,
    bounds_reconciled: bool,
    saw_reset: bool,
    saw_no_reset: bool,
}

impl HistogramCell {
    fn new(h: &FloatHistogram, metric: &str) -> Self {
        Self {
            total: histogram::Accumulator::new(h),
            metric: metric.into(),
            count: 1.0,
            is_mean: false,
            misfit: None,
            bounds_reconciled: false,
            saw_reset: h.counter_reset_hint == CounterResetHint::Reset,
            saw_no_reset: h.counter_reset_hint == CounterResetHint::NotReset,
        }
    }

    /// Adds a histogram that is the sum of `count`, and the metric it comes from; a mean weighs it by that.
    fn add(&mut self, (h, metric): (&FloatHistogram, &str), count: f64, average: bool) {
        if self.misfit.is_some() {
            return;
        }
        let all = self.count + count;
        self.saw_reset |= h.counter_reset_hint == CounterResetHint::Reset;
        self.saw_no_reset |= h.counter_reset_hint == CounterResetHint::NotReset;
        let before = self.total.clone();
        let mut result = if self.is_mean { self.add_to_mean(h, all) } else { self.total.add(h) };
        if result.is_ok() && average && !self.is_mean && self.total.has_overflow() {
            self.is_mean = true;
            self.total = before;
            self.total.scale(1.0 / self.count);
            result = self.add_to_mean(h, all);
        }
        match result {
            Ok(merged) => self.bounds_reconciled |= merged.bounds_reconciled,
            Err(histogram::Incompatible) => self.misfit = Some(metric.into()),
        }
        self.count = all;
    }

    fn add_to_mean(&mut self, h: &FloatHistogram, all: f64) -> Result<histogram::Merged, histogram::Incompatible> {
        self.total.scale(self.count / all);
        self.total.add(&histogram::divided(h, all))
    }

    fn finish(&self, average: bool, notes: &mut Notes<'_>) -> Option<FloatHistogram> {
        if self.bounds_reconciled {
            notes.info(&texts::mismatched_custom_buckets(HistogramOperation::Aggregation), 0);
        }
        if let Some(metric) = &self.misfit {
            notes.warn(&texts::mixed_exponential_custom(metric), 0);
            return None;
        }
        if self.saw_reset && self.saw_no_reset {
            notes.warn(&texts::reset_collision(HistogramOperation::Aggregation), 0);
        }
        let total = self.total.finish();
        Some(if average && !self.is_mean { histogram::divided(&total, self.count) } else { total })
    }
}

impl Accumulator {
    /// No groups yet. `None` when `op` needs more than an accumulator.
    pub(crate) fn new(op: AggregateOp, n_steps: usize) -> Option<Self> {
        let cells = match op {
            AggregateOp::Sum => Cells::Sum(Vec::new(), Vec::new()),
            AggregateOp::Avg => Cells::Mean(Vec::new()),
            AggregateOp::Min | AggregateOp::Max => Cells::Extreme(Vec::new()),
            AggregateOp::Count | AggregateOp::Group => Cells::Count(Vec::new()),
            AggregateOp::Stddev | AggregateOp::Stdvar => Cells::Deviation(Vec::new()),
            _ => return None,
        };
        Some(Self {
            op,
            n_steps,
            groups: Groups::default(),
            numbered: None,
            cells,
            full: Vec::new(),
            seen: Vec::new(),
            histograms: HashMap::default(),
        })
    }

    /// As [`Accumulator::new`], for groups that are known by numbers below `n_groups`.
    pub(crate) fn numbered(op: AggregateOp, n_steps: usize, n_groups: usize) -> Option<Self> {
        let numbered = Numbered { places: vec![0; n_groups], numbers: Vec::new() };
        Self::new(op, n_steps).map(|new| Self { numbered: Some(numbered), ..new })
    }

    /// Groups that are there.
    fn len(&self) -> usize {
        self.numbered.as_ref().map_or(self.groups.series.len(), |n| n.numbers.len())
    }

    /// Bytes that the cells take.
    pub(crate) fn heap_bytes(&self) -> u64 {
        let per_cell = match &self.cells {
            Cells::Sum(..) => 16,
            Cells::Mean(_) => size_of::<Mean>(),
            Cells::Extreme(_) | Cells::Count(_) => 8,
            Cells::Deviation(_) => size_of::<Deviation>(),
        };
        (self.len() * self.n_steps * per_cell) as u64
    }

    fn group(&mut self, labels: Labels, drop_name: bool) -> usize {
        let id = self.groups.id(labels, drop_name);
        self.grow();
        id
    }

    /// Makes room for all groups.
    fn grow(&mut self) {
        if self.full.len() == self.len() {
            return;
        }
        self.full.resize(self.len(), false);
        let len = self.len() * self.n_steps;
        match &mut self.cells {
            Cells::Sum(sums, c) => {
                sums.resize(len, ABSENT);
                c.resize(len, 0.0);
            }
            Cells::Mean(m) => m.resize(len, Mean::EMPTY),
            Cells::Extreme(e) => e.resize(len, ABSENT),
            Cells::Count(n) => n.resize(len, 0.0),
            Cells::Deviation(d) => d.resize(len, Deviation::EMPTY),
        }
        if !self.seen.is_empty() {
            self.seen.resize(len, 0);
        }
    }

    /// Adds all series of `vector` to the groups that `grouping` makes.
    pub(crate) fn add(&mut self, vector: &Vector, grouping: &Grouping, notes: &mut Notes<'_>) {
        for i in 0..vector.len() {
            let series = &vector.series[i];
            let id = self.group(group_labels(&series.labels, grouping), series.drop_name);
            let histograms = (vector.histograms(i), series.labels.metric_name());
            self.add_samples(id, (vector.row(i), false), histograms, notes);
        }
    }

    /// Adds one series to the group with this number: its floats and whether there is one at each step, its histograms
    /// and the name of their metric.
    pub(crate) fn add_numbered(
        &mut self,
        group: u32,
        floats: (&[f64], bool),
        histograms: (&[(u32, Arc<FloatHistogram>)], &str),
        notes: &mut Notes<'_>,
    ) {
        let Some(numbered) = &mut self.numbered else { return };
        let id = numbered.place(group);
        self.grow();
        self.add_samples(id, floats, histograms, notes);
    }

    fn add_samples(
        &mut self,
        id: usize,
        (floats, is_full): (&[f64], bool),
        histograms: (&[(u32, Arc<FloatHistogram>)], &str),
        notes: &mut Notes<'_>,
    ) {
        self.add_floats(id, floats, is_full);
        self.full[id] |= is_full;
        if !histograms.0.is_empty() || !self.seen.is_empty() {
            self.add_histograms(id, floats, histograms, notes);
        }
    }

    fn add_floats(&mut self, id: usize, row: &[f64], is_full: bool) {
        let cells = id * self.n_steps..(id + 1) * self.n_steps;
        match &mut self.cells {
            Cells::Sum(sums, cs) if is_full && self.full[id] => {
                sum::add_each(row, &mut sums[cells.clone()], &mut cs[cells]);
            }
            Cells::Sum(sums, cs) => {
                for ((s, c), v) in sums[cells.clone()].iter_mut().zip(&mut cs[cells]).zip(row) {
                    let (sum, rest) = sum::add(*v, *s, *c);
                    let (skip, first) = (is_absent(*v), is_absent(*s));
                    *c = if skip || first { *c } else { rest };
                    *s = if skip {
                        *s
                    } else if first {
                        *v
                    } else {
                        sum
                    };
                }
            }
            Cells::Mean(means) => {
                for (m, v) in means[cells].iter_mut().zip(row) {
                    if !is_absent(*v) {
                        m.add(*v);
                    }
                }
            }
            Cells::Extreme(best) => {
                let max = self.op == AggregateOp::Max;
                for (b, v) in best[cells].iter_mut().zip(row) {
                    *b = extreme(*b, *v, max);
                }
            }
            Cells::Count(counts) => {
                for (n, v) in counts[cells].iter_mut().zip(row) {
                    *n += f64::from(u8::from(!is_absent(*v)));
                }
            }
            Cells::Deviation(d) => {
                for (d, v) in d[cells].iter_mut().zip(row) {
                    if !is_absent(*v) {
                        d.add(*v);
                    }
                }
            }
        }
    }

    fn add_histograms(
        &mut self,
        id: usize,
        floats: &[f64],
        (histograms, metric): (&[(u32, Arc<FloatHistogram>)], &str),
        notes: &mut Notes<'_>,
    ) {
        match (&mut self.cells, self.op) {
            (Cells::Count(counts), _) => {
                for (step, _) in histograms {
                    counts[id * self.n_steps + *step as usize] += 1.0;
                }
            }
            (Cells::Sum(..) | Cells::Mean(_), _) => {
                if self.seen.is_empty() {
                    self.seen = self.floats_seen();
                }
                for (step, v) in floats.iter().enumerate() {
                    if !is_absent(*v) {
                        self.seen[id * self.n_steps + step] |= SAW_FLOAT;
                    }
                }
                let average = self.op == AggregateOp::Avg;
                for (step, h) in histograms {
                    let cell = id * self.n_steps + *step as usize;
                    self.seen[cell] |= SAW_HISTOGRAM;
                    match self.histograms.entry(cell) {
                        Entry::Occupied(mut e) => e.get_mut().add((h, metric), 1.0, average),
                        Entry::Vacant(e) => {
                            e.insert(HistogramCell::new(h, metric));
                        }
                    }
                }
            }
            (_, op) => {
                if !histograms.is_empty() {
                    notes.info(&texts::histogram_ignored_in_aggregation(notes::aggregation(op)), 0);
                }
            }
        }
    }

    fn floats_seen(&self) -> Vec<u8> {
        match &self.cells {
            Cells::Sum(sums, _) => sums.iter().map(|s| if is_absent(*s) { 0 } else { SAW_FLOAT }).collect(),
            Cells::Mean(means) => means.iter().map(|m| if m.count == 0.0 { 0 } else { SAW_FLOAT }).collect(),
            _ => Vec::new(),
        }
    }

    /// Adds all that `other`, an accumulator of the same operator over later series, has seen.
    pub(crate) fn merge(&mut self, mut other: Self) {
        if self.len() == 0 {
            *self = other;
            return;
        }
        if self.seen.is_empty() && !other.seen.is_empty() {
            self.seen = self.floats_seen();
        } else if other.seen.is_empty() && !self.seen.is_empty() {
            other.seen = other.floats_seen();
        }
        let n = self.n_steps;
        let max = self.op == AggregateOp::Max;
        for from in 0..other.len() {
            let into = match (&mut self.numbered, &other.numbered) {
                (Some(numbered), Some(of_other)) => numbered.place(of_other.numbers[from]),
                _ => {
                    let series = other.groups.series[from].clone();
                    self.groups.id(series.labels, series.drop_name)
                }
            };
            self.grow();
            self.full[into] |= other.full[from];
            let (a, b) = (into * n..(into + 1) * n, from * n..(from + 1) * n);
            for step in 0..if other.histograms.is_empty() { 0 } else { n } {
                if let Some(cell) = other.histograms.remove(&(from * n + step)) {
                    self.merge_histograms(into * n + step, cell);
                }
            }
            if !self.seen.is_empty() {
                self.seen[a.clone()].iter_mut().zip(&other.seen[b.clone()]).for_each(|(a, b)| *a |= b);
            }
            match (&mut self.cells, &other.cells) {
                (Cells::Sum(s1, c1), Cells::Sum(s2, c2)) => {
                    for i in 0..n {
                        let (s, c) = (&mut s1[a.start + i], &mut c1[a.start + i]);
                        let (v, rest) = (s2[b.start + i], c2[b.start + i]);
                        if is_absent(v) {
                            continue;
                        }
                        (*s, *c) = if is_absent(*s) { (v, rest) } else { sum::add(v, *s, *c + rest) };
                    }
                }
                (Cells::Mean(m1), Cells::Mean(m2)) => m1[a].iter_mut().zip(&m2[b]).for_each(|(a, b)| a.merge(b)),
                (Cells::Extreme(e1), Cells::Extreme(e2)) => {
                    e1[a].iter_mut().zip(&e2[b]).for_each(|(a, b)| *a = extreme(*a, *b, max));
                }
                (Cells::Count(n1), Cells::Count(n2)) => n1[a].iter_mut().zip(&n2[b]).for_each(|(a, b)| *a += b),
                (Cells::Deviation(d1), Cells::Deviation(d2)) => {
                    d1[a].iter_mut().zip(&d2[b]).for_each(|(a, b)| a.merge(b));
                }
                _ => unreachable!("accumulators of one aggregation have one kind of cells"),
            }
        }
    }

    fn merge_histograms(&mut self, at: usize, cell: HistogramCell) {
        let average = self.op == AggregateOp::Avg;
        match self.histograms.entry(at) {
            Entry::Vacant(e) => {
                e.insert(cell);
            }
            Entry::Occupied(mut e) => {
                let mine = e.get_mut();
                let mut total = cell.total.finish();
                if cell.is_mean {
                    total = histogram::scaled(&total, cell.count);
                }
                mine.add((&total, &cell.metric), cell.count, average);
                mine.bounds_reconciled |= cell.bounds_reconciled;
                mine.misfit = mine.misfit.take().or(cell.misfit);
                mine.saw_reset |= cell.saw_reset;
                mine.saw_no_reset |= cell.saw_no_reset;
            }
        }
    }

    /// As [`Accumulator::finish`], of groups with these labels by number.
    pub(crate) fn finish_numbered(mut self, sets: &[Labels], drop_name: bool, notes: &mut Notes<'_>) -> Vector {
        let numbers = self.numbered.take().unwrap_or_default().numbers;
        let series = |number: &u32| Series { labels: sets[*number as usize].clone(), drop_name };
        self.groups.series = numbers.iter().map(series).collect();
        self.finish(notes)
    }

    /// The value of each group at each step.
    pub(crate) fn finish(mut self, notes: &mut Notes<'_>) -> Vector {
        let mut out = Vector::new(self.n_steps);
        let values: Vec<f64> = match &self.cells {
            Cells::Sum(sums, c) => {
                sums.iter().zip(c).map(|(s, c)| if is_absent(*s) { *s } else { sum::finish(*s, *c) }).collect()
            }
            Cells::Mean(m) => m.iter().map(|m| if m.count == 0.0 { ABSENT } else { m.finish() }).collect(),
            Cells::Extreme(e) => e.clone(),
            Cells::Count(n) => {
                let group = self.op == AggregateOp::Group;
                n.iter()
                    .map(|n| {
                        if *n == 0.0 {
                            ABSENT
                        } else if group {
                            1.0
                        } else {
                            *n
                        }
                    })
                    .collect()
            }
            Cells::Deviation(d) => {
                let root = self.op == AggregateOp::Stddev;
                let value = |d: &Deviation| {
                    let variance = d.squares / d.count;
                    if root { variance.sqrt() } else { variance }
                };
                d.iter().map(|d| if d.count == 0.0 { ABSENT } else { value(d) }).collect()
            }
        };
        out.values = values;
        out.series = std::mem::take(&mut self.groups.series);
        let mut mixed = false;
        for (v, seen) in out.values.iter_mut().zip(&self.seen) {
            if seen & SAW_HISTOGRAM != 0 {
                mixed |= seen & SAW_FLOAT != 0;
                *v = ABSENT;
            }
        }
        if mixed {
            notes.warn(texts::MIXED_AGGREGATION, 0);
        }
        let mut cells: Vec<_> = self.histograms.into_iter().filter(|(at, _)| self.seen[*at] == SAW_HISTOGRAM).collect();
        cells.sort_unstable_by_key(|(at, _)| *at);
        for (at, cell) in cells {
            if let Some(h) = cell.finish(self.op == AggregateOp::Avg, notes) {
                out.histograms.resize(out.series.len(), Vec::new());
                out.histograms[at / self.n_steps].push(((at % self.n_steps) as u32, Arc::new(h)));
            }
        }
        out.drop_empty();
        out
    }
}

/// The better of two; absent loses to anything, NaN to any number.
fn extreme(best: f64, v: f64, max: bool) -> f64 {
    if is_absent(v) {
        return best;
    }
    let better = if max { best < v } else { best > v };
    if better || best.is_nan() { v } else { best }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotations::Annotations;

    const OPS: [AggregateOp; 8] = [
        AggregateOp::Sum,
        AggregateOp::Avg,
        AggregateOp::Min,
        AggregateOp::Max,
        AggregateOp::Count,
        AggregateOp::Group,
        AggregateOp::Stddev,
        AggregateOp::Stdvar,
    ];

    fn vector(values: &[f64]) -> Vector {
        let mut v = Vector::new(1);
        for (i, x) in values.iter().enumerate() {
            v.push(Series::new(Labels::from_pairs([("i", i.to_string().as_str())])))[0] = *x;
        }
        v
    }

    fn run(op: AggregateOp, chunks: &[&[f64]]) -> Option<f64> {
        let mut annotations = Annotations::default();
        let mut notes = Notes::new(&[], &mut annotations);
        let mut total = Accumulator::new(op, 1).unwrap();
        for chunk in chunks {
            let mut part = Accumulator::new(op, 1).unwrap();
            part.add(&vector(chunk), &Grouping::default(), &mut notes);
            total.merge(part);
        }
        total.finish(&mut notes).values.first().copied()
    }

    #[track_caller]
    fn check(op: AggregateOp, values: &[f64], want: Option<f64>) {
        let same = |got: Option<f64>| match (got, want) {
            (Some(a), Some(b)) => a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= 1e-12 * b.abs(),
            (a, b) => a == b,
        };
        for split in 0..=values.len() {
            let got = run(op, &[&values[..split], &values[split..]]);
            assert!(same(got), "{op:?} of {values:?} split at {split}: {got:?} for {want:?}");
        }
    }

    #[test]
    fn chunks_do_not_change_a_result() {
        let values = [1.0, ABSENT, 4.0, 2.0, 5.5];
        let wants = [12.5, 3.125, 1.0, 5.5, 4.0, 1.0, 3.046875f64.sqrt(), 3.046875];
        for (op, want) in OPS.into_iter().zip(wants) {
            check(op, &values, Some(want));
            check(op, &[ABSENT, ABSENT], None);
            check(op, &[], None);
        }
    }

    #[test]
    fn extremes_ignore_nan_unless_there_is_nothing_else() {
        check(AggregateOp::Max, &[f64::NAN, 1.0, f64::NAN, 3.0], Some(3.0));
        check(AggregateOp::Min, &[f64::NAN, 1.0, f64::NAN, 3.0], Some(1.0));
        check(AggregateOp::Max, &[f64::NAN], Some(f64::NAN));
    }

    #[test]
    fn infinities_have_no_deviation() {
        check(AggregateOp::Stddev, &[f64::INFINITY, 1.0, 2.0], Some(f64::NAN));
        check(AggregateOp::Stdvar, &[1.0, 2.0, f64::INFINITY], Some(f64::NAN));
    }

    #[test]
    fn groups_are_made_of_labels() {
        let labels = Labels::from_pairs([("__name__", "m"), ("a", "1"), ("b", "2")]);
        let check = |without, names: &[&str], want: &str| {
            let grouping = Grouping { without, labels: names.iter().map(|n| (*n).to_owned()).collect() };
            assert_eq!(group_labels(&labels, &grouping).to_string(), want);
        };
        check(false, &["a", "x"], r#"{a="1"}"#);
        check(false, &[], "{}");
        check(true, &["a"], r#"{b="2"}"#);
        check(true, &[], r#"{a="1", b="2"}"#);
        check(false, &["__name__"], r#"{__name__="m"}"#);
    }
}
