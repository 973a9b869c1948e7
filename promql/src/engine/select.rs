//! Leaves of a query: stored samples in, instant vectors out, one chunk of series at a time.
//!
//! Raw samples never outlive the chunk they were decoded for. A chunk is a run of series of one batch, as long as its
//! samples and its answer stay near the size of a processor's cache; chunks depend on the data only, so that results
//! do not depend on the number of threads.

use std::ops::Range;
use std::sync::Arc;

use promontory_model::{
    Cancel, ColumnRef, Columns, FloatHistogram, LabelGroups, Labels, METRIC_NAME, MatchOp, Projection, Select,
    SeriesBatch, Snapshot, TimeRange, Timestamp,
};

use super::budget::{Budget, Charge};
use super::histogram_windows::{self, Timed};
use super::notes::Notes;
use super::vector::{HistogramRow, Series, Vector};
use super::windows::{self, Column, Shared, WindowFunction};
use crate::annotations::{Annotation, Annotations, Severity};
use crate::ast::RangeExtension;
use crate::error::QueryError;
use crate::functions::FunctionId;
use crate::histogram::Incompatible;
use crate::kernels::window::{self, Bounds, Rows};
use crate::kernels::{ABSENT, Samples, is_absent, lookback};
use crate::notes as texts;
use crate::plan::{Grid, Selector, Site};

/// Values of one chunk, read or written: half of what a processor's cache of its own holds.
const CHUNK_VALUES: usize = 1 << 16;

/// Values of one task.
const TASK_VALUES: usize = 1 << 18;

/// How far back most newest samples are, ms; looked at before the rest of the lookback is decoded.
const NEAR_MS: i64 = 60_000;

/// A selection is refused unread when its answer seems to be more than this many times too large.
const FORESEEN_SLACK: u64 = 4;

/// What of the query every operator may use.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    /// The store.
    pub(crate) snapshot: &'a dyn Snapshot,
    /// Asked once per chunk.
    pub(crate) cancel: &'a Cancel,
    /// Accounts.
    pub(crate) budget: &'a Budget,
    /// How long a sample holds, ms.
    pub(crate) lookback_ms: i64,
    /// Whether names go at the end of the query.
    pub(crate) delayed_names: bool,
    /// Threads for chunks.
    pub(crate) threads: usize,
}

/// What is made of the samples.
#[derive(Debug)]
enum What {
    /// The newest value at each step.
    Newest(Instant),
    /// Its time, or since when it has been counting.
    NewestStamp(Instant, Newest),
    /// A function of a window.
    Window(Box<WindowFunction>),
}

/// What of the newest sample is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Newest {
    /// The sample.
    Value,
    /// Its time in seconds.
    Time,
    /// Since when it has been counting, in seconds; 0 when unknown.
    Start,
}

impl Newest {
    /// Times or starts of the rows of a column.
    fn stamps<'a>(self, columns: &'a Columns, column: usize, zeros: &'a mut Vec<i64>) -> &'a [i64] {
        match (self, columns.start_timestamps(column)) {
            (Self::Start, Some(starts)) => starts,
            (Self::Start, None) => {
                zeros.resize(columns.n_rows(), 0);
                zeros
            }
            _ => columns.timestamps(),
        }
    }
}

#[derive(Debug)]
struct Instant {
    reads: Vec<Bounds>,
    /// Ends are the times looked at.
    windows: Vec<Bounds>,
    smoothed: bool,
}

/// A selection with what is made of it, cut into chunks.
pub(crate) struct Leaf {
    what: What,
    n_steps: usize,
    range: TimeRange,
    batches: Vec<Arc<dyn SeriesBatch>>,
    chunks: Vec<(usize, Range<usize>)>,
    /// Runs of chunks that are worth a task: batches may be as small as one series.
    tasks: Vec<Range<usize>>,
    detects_resets: bool,
    /// The name that all series have, where `=` says so.
    name: Option<String>,
    /// What the labels are replaced by.
    groups: Option<Grouped>,
    sites: Vec<Site>,
}

/// What an aggregation needs of the labels of a selection.
#[derive(Debug)]
pub(crate) struct Keep {
    /// The labels that remain.
    pub(crate) projection: Projection,
    /// Whether names are to be removed at the end of the query.
    pub(crate) drop_name: bool,
    /// Whether annotations of the aggregation name a metric.
    pub(crate) names_metrics: bool,
}

/// The series of a selection by group.
#[derive(Debug)]
pub(crate) struct Grouped {
    /// Group of each series of each batch; nothing when there is one group.
    of: Vec<Vec<u32>>,
    /// Labels by group.
    pub(crate) sets: Vec<Labels>,
    /// Whether names are to be removed at the end of the query.
    pub(crate) drop_name: bool,
}

impl Grouped {
    fn new(batches: &[Arc<dyn SeriesBatch>], keep: &Keep) -> Self {
        let drop_name = keep.drop_name;
        if keep.projection.is_nothing() {
            return Self { of: Vec::new(), sets: vec![Labels::empty()], drop_name };
        }
        let mut groups = LabelGroups::default();
        let mut of = Vec::with_capacity(batches.len());
        for batch in batches {
            let mut numbers = Vec::with_capacity(batch.n_series());
            batch.project(&keep.projection, &mut groups, &mut numbers);
            of.push(numbers);
        }
        Self { of, sets: groups.sets().to_vec(), drop_name }
    }
}

/// The answer for one series, which has at least one sample.
pub(crate) struct Row<'a> {
    batch: usize,
    /// In its batch.
    index: usize,
    /// If they had to be built.
    labels: Option<Labels>,
    /// A value per step.
    pub(crate) floats: &'a [f64],
    /// Whether it is known that no step is without a float.
    pub(crate) is_full: bool,
    pub(crate) histograms: HistogramRow,
}

/// The answer for one chunk.
pub(crate) struct Part {
    /// Series with at least one sample.
    pub(crate) vector: Vector,
    /// What was noted.
    pub(crate) annotations: Annotations,
    /// Pays for `vector`.
    pub(crate) charge: Charge,
}

/// Buffers of one thread.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    columns: Columns,
    window: windows::Scratch,
    /// What columns with these times share.
    shared: Option<(Vec<i64>, Shared)>,
    t: Vec<i64>,
    v: Vec<f64>,
    rows: Vec<Rows>,
}

impl Leaf {
    /// Newest samples (or their times) of `selector` at the steps of `grid`.
    pub(crate) fn instant(
        ctx: Context<'_>,
        selector: &Selector,
        grid: Grid,
        sites: &[Site],
        newest: Newest,
        keep: Option<&Keep>,
        notes: &mut Annotations,
    ) -> Result<Self, QueryError> {
        let smoothed = selector.extension == Some(RangeExtension::Smoothed);
        let ahead = if smoothed { ctx.lookback_ms } else { 0 };
        let windows: Vec<Bounds> = grid
            .times()
            .map(|t| selector.when.resolve(t))
            .map(|end| Bounds { start: end.saturating_sub(ctx.lookback_ms), end })
            .collect();
        let reads: Vec<Bounds> =
            windows.iter().map(|w| Bounds { start: w.start, end: w.end.saturating_add(ahead) }).collect();
        let range = covering(&reads);
        let instant = Instant { reads, windows, smoothed };
        let what = match newest {
            Newest::Value => What::Newest(instant),
            of => What::NewestStamp(instant, of),
        };
        Self::select(ctx, selector, what, (grid.n, range), keep, sites, notes)
    }

    /// A function of the windows of `selector`.
    pub(crate) fn window(
        ctx: Context<'_>,
        selector: &Selector,
        function: WindowFunction,
        sites: &[Site],
        keep: Option<&Keep>,
        notes: &mut Annotations,
    ) -> Result<Self, QueryError> {
        let (range, n_steps) = (covering(&function.reads), function.times.len());
        Self::select(ctx, selector, What::Window(Box::new(function)), (n_steps, range), keep, sites, notes)
    }

    fn select(
        ctx: Context<'_>,
        selector: &Selector,
        what: What,
        (n_steps, range): (usize, TimeRange),
        keep: Option<&Keep>,
        sites: &[Site],
        notes: &mut Annotations,
    ) -> Result<Self, QueryError> {
        let named = selector.matchers.iter().find(|m| m.name() == METRIC_NAME && m.op() == MatchOp::Equal);
        let name = named.map(|m| m.value().to_owned());
        let is_labelled = keep.is_none_or(|k| !k.projection.is_nothing())
            || name.is_none() && (keep.is_some_and(|k| k.names_metrics) || what.may_name_series());
        let batches = select(ctx, selector, range, is_labelled, notes)?;
        let groups = keep.map(|keep| Grouped::new(&batches, keep));
        let mut chunks = Vec::new();
        for (b, batch) in batches.iter().enumerate() {
            let n = batch.n_series();
            let per_series = batch.rows_max(range).max(n_steps).max(1);
            let len = (CHUNK_VALUES / per_series).clamp(1, n.max(1));
            chunks.extend((0..n).step_by(len).map(|start| (b, start..(start + len).min(n))));
        }
        let size = |(b, series): &(usize, Range<usize>)| series.len() * batches[*b].rows_max(range).max(n_steps);
        let tasks = runs(chunks.iter().map(size));
        let detects_resets = selector.detects_resets;
        let sites = sites.to_vec();
        Ok(Self { what, n_steps, range, batches, chunks, tasks, detects_resets, name, groups, sites })
    }

    /// Steps of the answer.
    pub(crate) fn n_steps(&self) -> usize {
        self.n_steps
    }

    /// The groups, if they were asked for.
    pub(crate) fn groups(&self) -> Option<&Grouped> {
        self.groups.as_ref()
    }

    /// The group of a series, by number.
    pub(crate) fn group_of(&self, row: &Row<'_>) -> u32 {
        let of_batch = self.groups.as_ref().and_then(|groups| groups.of.get(row.batch));
        of_batch.map_or(0, |of| of[row.index])
    }

    /// The metric of a series, for annotations.
    pub(crate) fn metric_of(&self, row: &Row<'_>) -> String {
        self.metric(self.batches[row.batch].as_ref(), row.index, &mut row.labels.clone()).to_owned()
    }

    /// The name of a series, for annotations. Keeps labels that had to be built.
    fn metric<'a>(&'a self, batch: &dyn SeriesBatch, index: usize, labels: &'a mut Option<Labels>) -> &'a str {
        match &self.name {
            Some(name) => name,
            None => labels.get_or_insert_with(|| batch.labels(index)).metric_name(),
        }
    }

    /// Refuses a selection whose answer would not fit by far, before any of it is read. A series may turn out to have
    /// no value, so that what fits or nearly fits is tried.
    pub(crate) fn foresee(&self, ctx: Context<'_>) -> Result<(), QueryError> {
        let windows = match &self.what {
            What::Newest(i) | What::NewestStamp(i, _) => &i.windows,
            What::Window(f) => &f.windows,
        };
        // Between windows with gaps there may be any number of samples that nobody asks for.
        if windows.windows(2).any(|w| w[0].end < w[1].start) {
            return Ok(());
        }
        let series = |b: &Arc<dyn SeriesBatch>| if b.rows_max(self.range) > 0 { b.n_series() as u64 } else { 0 };
        let values = self.batches.iter().map(series).sum::<u64>().saturating_mul(self.n_steps as u64);
        ctx.budget.foresee(values / FORESEEN_SLACK, values.saturating_mul(8) / FORESEEN_SLACK)
    }

    /// Number of tasks.
    pub(crate) fn n_tasks(&self) -> usize {
        self.tasks.len()
    }

    /// The chunks of task `i`.
    pub(crate) fn chunks(&self, i: usize) -> Range<usize> {
        self.tasks[i].clone()
    }

    /// Threads that pay for so much work.
    pub(crate) fn threads(&self, ctx: Context<'_>) -> usize {
        let work: usize = self.chunks.iter().map(|(b, r)| r.len() * self.batches[*b].rows_max(self.range)).sum();
        // Below this a thread costs more to start than it saves.
        if work < 1 << 16 { 1 } else { ctx.threads }
    }

    /// Reads and evaluates chunk `i`.
    pub(crate) fn run(&self, ctx: Context<'_>, i: usize, scratch: &mut Scratch) -> Result<Part, QueryError> {
        let (batch, series) = &self.chunks[i];
        let batch = &self.batches[*batch];
        let charge = ctx.budget.charge(0, (8 * self.n_steps * series.len()) as u64)?;
        let mut annotations = Annotations::default();
        let mut vector = Vector::new(self.n_steps);
        vector.values.reserve(self.n_steps * series.len());
        self.each_row(ctx, i, scratch, &mut annotations, |row, _| {
            let mut series = Series::new(row.labels.unwrap_or_else(|| batch.labels(row.index)));
            match &self.what {
                What::Newest(_) => {}
                What::Window(f) if f.keeps_name() => {}
                What::NewestStamp(..) | What::Window(_) => series.drop_name(ctx.delayed_names),
            }
            vector.push_row(series, row.floats, row.histograms);
        })?;
        drop(ctx.budget.charge(vector.n_samples(), 0)?);
        Ok(Part { vector, annotations, charge })
    }

    /// Reads chunk `i` and hands out the answer for each series that has one, with a place for annotations.
    pub(crate) fn each_row(
        &self,
        ctx: Context<'_>,
        i: usize,
        scratch: &mut Scratch,
        annotations: &mut Annotations,
        emit: impl FnMut(Row<'_>, &mut Annotations),
    ) -> Result<(), QueryError> {
        ctx.cancel.check()?;
        let mut columns = std::mem::take(&mut scratch.columns);
        let result = self.read(ctx, i, &mut columns);
        let shared = result.as_ref().ok().and_then(|()| self.share(&columns, scratch));
        let result =
            result.and_then(|()| self.evaluate(ctx, i, (&columns, shared.as_ref()), scratch, annotations, emit));
        if let Some(shared) = shared {
            let mut times = scratch.shared.take().map_or_else(Vec::new, |(times, _)| times);
            times.clear();
            times.extend_from_slice(columns.timestamps());
            scratch.shared = Some((times, shared));
        }
        scratch.columns = columns;
        result
    }

    fn read(&self, ctx: Context<'_>, i: usize, columns: &mut Columns) -> Result<(), QueryError> {
        let (batch, series) = (&self.batches[self.chunks[i].0], self.chunks[i].1.clone());
        let n_rows = batch.rows_max(self.range);
        let _reading = ctx.budget.charge(0, (8 * n_rows * series.len()) as u64)?;
        let near = TimeRange { mint: self.range.mint.max(Timestamp(self.range.maxt.0 - NEAR_MS + 1)), ..self.range };
        if matches!(&self.what, What::Newest(i) if !i.smoothed)
            && self.n_steps == 1
            && (1..n_rows / 2).contains(&batch.rows_max(near))
        {
            batch.read(series.clone(), near, columns)?;
            ctx.budget.count_read((columns.n_rows() * columns.n_columns()) as u64);
            if has_floats_everywhere(columns) {
                return Ok(());
            }
        }
        batch.read(series, self.range, columns)?;
        ctx.budget.count_read((columns.n_rows() * columns.n_columns()) as u64);
        Ok(())
    }

    fn evaluate(
        &self,
        ctx: Context<'_>,
        i: usize,
        (columns, shared): (&Columns, Option<&Shared>),
        scratch: &mut Scratch,
        annotations: &mut Annotations,
        mut emit: impl FnMut(Row<'_>, &mut Annotations),
    ) -> Result<(), QueryError> {
        let (batch_no, series) = (self.chunks[i].0, self.chunks[i].1.clone());
        let batch = self.batches[batch_no].as_ref();
        if let Some(shared) = shared {
            drop(ctx.budget.charge(WindowFunction::samples_max(shared), 0)?);
        }
        let mut row = vec![ABSENT; self.n_steps];
        let mut stamps = Vec::new();
        for (at, index) in series.enumerate() {
            let mut column = columns.column(at);
            let hinted;
            if self.detects_resets && !column.histograms.is_empty() {
                hinted = histogram_windows::with_detected_resets(column.histograms);
                column.histograms = &hinted;
            }
            let mut labels = None;
            let mut histograms = HistogramRow::new();
            let mut is_full = false;
            let mut notes = Notes::new(&self.sites, annotations);
            match &self.what {
                What::Newest(i) if column.histograms.is_empty() => i.newest(columns, column, scratch, &mut row),
                What::NewestStamp(i, of) if column.histograms.is_empty() => {
                    i.newest_stamp(columns, of.stamps(columns, at, &mut stamps), column, scratch, &mut row);
                }
                What::Newest(i) => {
                    // Without interpolation nothing is said of a series.
                    let name = if i.smoothed { self.metric(batch, index, &mut labels) } else { "" };
                    histograms = i.newest_mixed(columns, column, &mut row, name, &mut notes);
                }
                What::NewestStamp(i, of) => {
                    i.newest_stamp_mixed(columns, of.stamps(columns, at, &mut stamps), column, &mut row);
                }
                What::Window(f) => {
                    let shared = shared.expect("windows are shared for window functions");
                    let starts = columns.start_timestamps(at);
                    let times = columns.timestamps();
                    let c = Column { times, values: column.values, presence: column.presence, starts };
                    is_full = f.floats(c, shared, &mut scratch.window, &mut row)?;
                    if !column.histograms.is_empty() {
                        is_full = false;
                        let timed = timed_histograms(times, column);
                        let starts = starts.map_or_else(Vec::new, |s| histogram_starts(s, column));
                        let name = self.metric(batch, index, &mut labels);
                        histograms = f.with_histograms(c, &timed, &starts, name, &mut row, &mut notes);
                    }
                    if let Some(starts) = starts {
                        let is_sample = |row: &usize| is_sample(column, *row);
                        let samples: Vec<(i64, i64)> =
                            (0..times.len()).filter(is_sample).map(|row| (times[row], starts[row])).collect();
                        f.note_overlaps(&samples, self.metric(batch, index, &mut labels), &mut notes);
                    }
                }
            }
            if !is_full && histograms.is_empty() && row.iter().all(|v| is_absent(*v)) {
                continue;
            }
            if let What::Window(f) = &self.what {
                if f.names_series() {
                    note_non_counter(f.id, self.metric(batch, index, &mut labels), &row, &mut notes);
                }
                f.note_quantiles(&row, &mut notes);
            }
            let row = Row { batch: batch_no, index, labels, floats: &row, is_full, histograms };
            emit(row, annotations);
        }
        Ok(())
    }

    /// Prepares what the columns of a chunk share, unless the chunk before had the same times.
    fn share(&self, columns: &Columns, scratch: &mut Scratch) -> Option<Shared> {
        match &self.what {
            What::Newest(i) | What::NewestStamp(i, _) => {
                window::rows(columns.timestamps(), &i.reads, &mut scratch.rows);
                None
            }
            What::Window(f) => match scratch.shared.take() {
                Some((times, shared)) if times == columns.timestamps() => Some(shared),
                _ => Some(f.share(columns.timestamps())),
            },
        }
    }
}

impl What {
    /// Whether annotations may name the series that is evaluated.
    fn may_name_series(&self) -> bool {
        match self {
            Self::Newest(i) => i.smoothed,
            Self::NewestStamp(..) => false,
            Self::Window(_) => true,
        }
    }
}

/// Whether every column has a float and none a histogram, of which the one before tells more.
fn has_floats_everywhere(columns: &Columns) -> bool {
    let has_float = |i| {
        let column = columns.column(i);
        (0..columns.n_rows()).rev().any(|row| column.is_present(row))
    };
    columns.has_no_histograms() && (0..columns.n_columns()).all(has_float)
}

/// Cuts a sequence into runs whose sizes add up to little more than one task.
fn runs(sizes: impl Iterator<Item = usize>) -> Vec<Range<usize>> {
    let mut out: Vec<Range<usize>> = Vec::new();
    let mut total = usize::MAX;
    for (i, size) in sizes.enumerate() {
        // A fixed cost per chunk: labels, windows, one call of the store.
        let size = size.saturating_add(64);
        if total.saturating_add(size) > TASK_VALUES {
            out.push(i..i);
            total = 0;
        }
        total += size;
        if let Some(run) = out.last_mut() {
            run.end = i + 1;
        }
    }
    out
}

/// Says that a rate is taken of what does not look like a counter.
pub(crate) fn note_non_counter(id: FunctionId, name: &str, row: &[f64], notes: &mut Notes<'_>) {
    if !matches!(id, FunctionId::Rate | FunctionId::Increase) {
        return;
    }
    let is_counter = ["_total", "_sum", "_count", "_bucket"].iter().any(|suffix| name.ends_with(suffix));
    if !name.is_empty() && !is_counter && row.iter().any(|v| !is_absent(*v)) {
        notes.info(&texts::possible_non_counter(name), 0);
    }
}

impl Instant {
    fn newest(&self, columns: &Columns, column: ColumnRef<'_>, scratch: &mut Scratch, out: &mut [f64]) {
        if column.presence.is_none() && !self.smoothed {
            return lookback::newest(column.values, &scratch.rows, out);
        }
        let mut rows = Vec::new();
        self.pack(columns, column, scratch, &mut rows);
        if self.smoothed {
            let samples = Samples { t: &scratch.t, v: &scratch.v };
            lookback::smoothed(samples, &rows, &self.windows, out);
        } else {
            lookback::newest(&scratch.v, &rows, out);
        }
    }

    /// `stamps` has a time per row.
    fn newest_stamp(
        &self,
        columns: &Columns,
        stamps: &[i64],
        column: ColumnRef<'_>,
        scratch: &mut Scratch,
        out: &mut [f64],
    ) {
        if column.presence.is_none() {
            return lookback::newest_time(stamps, column.values, &scratch.rows, out);
        }
        let mut rows = Vec::new();
        self.pack(columns, column, scratch, &mut rows);
        let stamps: Vec<i64> = (0..stamps.len()).filter(|row| column.is_present(*row)).map(|row| stamps[row]).collect();
        lookback::newest_time(&stamps, &scratch.v, &rows, out);
    }

    /// The rows that the column has; interpolation has no use for staleness markers, lookback has.
    fn pack(&self, columns: &Columns, column: ColumnRef<'_>, scratch: &mut Scratch, rows: &mut Vec<Rows>) {
        scratch.t.clear();
        scratch.v.clear();
        for (row, (t, v)) in columns.timestamps().iter().zip(column.values).enumerate() {
            if column.is_present(row) && !(self.smoothed && is_absent(*v)) {
                scratch.t.push(*t);
                scratch.v.push(*v);
            }
        }
        window::rows(&scratch.t, &self.reads, rows);
    }

    fn newest_mixed(
        &self,
        columns: &Columns,
        column: ColumnRef<'_>,
        out: &mut [f64],
        metric: &str,
        notes: &mut Notes<'_>,
    ) -> HistogramRow {
        let mut histograms = HistogramRow::new();
        let times = columns.timestamps();
        let row_of = |t: i64| times.partition_point(|x| *x <= t);
        for (step, (reads, window)) in self.reads.iter().zip(&self.windows).enumerate() {
            let read = row_of(reads.start)..row_of(reads.end);
            if self.smoothed {
                let has_float = read.clone().any(|r| column.is_present(r));
                let has_histogram = column.histograms.iter().any(|(_, r, _)| read.contains(&(*r as usize)));
                if has_float && has_histogram {
                    notes.warn_whole(&texts::mixed_floats_histograms(metric));
                    out[step] = ABSENT;
                    continue;
                }
                if has_histogram {
                    out[step] = ABSENT;
                    let inside = column.histograms.iter().filter(|(_, r, _)| read.contains(&(*r as usize)));
                    let points: Vec<Timed> = inside.map(|(_, r, h)| (times[*r as usize], h.clone())).collect();
                    match histogram_windows::smoothed(&points, window.end) {
                        Ok(h) => histograms.extend(h.map(|h| (step as u32, h))),
                        Err(Incompatible) => notes.warn_whole(&texts::mixed_exponential_custom(metric)),
                    }
                    continue;
                }
            }
            let newest = newest_sample(column, read.start..row_of(window.end));
            out[step] = match newest {
                Some((row, None)) => column.values[row],
                _ => ABSENT,
            };
            if let Some((_, Some(h))) = newest
                && !is_absent(h.sum)
            {
                histograms.push((step as u32, h.clone()));
            }
        }
        histograms
    }

    fn newest_stamp_mixed(&self, columns: &Columns, stamps: &[i64], column: ColumnRef<'_>, out: &mut [f64]) {
        let times = columns.timestamps();
        let row_of = |t: i64| times.partition_point(|x| *x <= t);
        for (out, window) in out.iter_mut().zip(&self.windows) {
            *out = match newest_sample(column, row_of(window.start)..row_of(window.end)) {
                Some((row, None)) if is_absent(column.values[row]) => ABSENT,
                Some((_, Some(h))) if is_absent(h.sum) => ABSENT,
                Some((row, _)) => stamps[row] as f64 / 1000.0,
                None => ABSENT,
            };
        }
    }
}

/// The last row of `rows` that has a sample, and the histogram if it is one.
fn newest_sample<'a>(column: ColumnRef<'a>, rows: Range<usize>) -> Option<(usize, Option<&'a Arc<FloatHistogram>>)> {
    let after = column.histograms.partition_point(|(_, r, _)| (*r as usize) < rows.end);
    let histogram = after
        .checked_sub(1)
        .map(|i| &column.histograms[i])
        .filter(|(_, r, _)| rows.contains(&(*r as usize)))
        .map(|(_, r, h)| (*r as usize, h));
    let float = rows.rev().find(|r| column.is_present(*r));
    match (float, histogram) {
        (Some(f), Some((h, _))) if f > h => Some((f, None)),
        (_, Some((h, value))) => Some((h, Some(value))),
        (f, None) => f.map(|f| (f, None)),
    }
}

/// The histograms of a column with their times; staleness markers are no samples.
pub(crate) fn timed_histograms(times: &[i64], column: ColumnRef<'_>) -> Vec<(i64, Arc<FloatHistogram>)> {
    let samples = column.histograms.iter().filter(|(_, _, h)| !is_absent(h.sum));
    samples.map(|(_, row, h)| (times[*row as usize], h.clone())).collect()
}

/// Start timestamps of the histograms that [`timed_histograms`] gives.
fn histogram_starts(starts: &[i64], column: ColumnRef<'_>) -> Vec<i64> {
    let samples = column.histograms.iter().filter(|(_, _, h)| !is_absent(h.sum));
    samples.map(|(_, row, _)| starts[*row as usize]).collect()
}

/// Whether a row holds a float or a histogram, and no staleness marker.
fn is_sample(column: ColumnRef<'_>, row: usize) -> bool {
    if column.is_present(row) {
        return !is_absent(column.values[row]);
    }
    let found = column.histograms.binary_search_by_key(&row, |(_, r, _)| *r as usize);
    found.is_ok_and(|i| !is_absent(column.histograms[i].2.sum))
}

/// The batches of `selector` with samples in `range`, with labels if `is_labelled`; what the store cannot read becomes a warning.
pub(crate) fn select(
    ctx: Context<'_>,
    selector: &Selector,
    range: TimeRange,
    is_labelled: bool,
    notes: &mut Annotations,
) -> Result<Vec<Arc<dyn SeriesBatch>>, QueryError> {
    if range.is_empty() {
        return Ok(Vec::new());
    }
    let select = Select { range, matchers: &selector.matchers, cancel: ctx.cancel };
    let selection = if is_labelled { ctx.snapshot.select(&select) } else { ctx.snapshot.select_unlabelled(&select) }?;
    for text in selection.warnings {
        notes.push(Annotation { severity: Severity::Warning, text, span: None });
    }
    ctx.budget.count_series(selection.batches.iter().map(|b| b.n_series() as u64).sum());
    Ok(selection.batches)
}

/// The closed range of time that holds all windows.
pub(crate) fn covering(windows: &[Bounds]) -> TimeRange {
    match (windows.first(), windows.last()) {
        (Some(first), Some(last)) => TimeRange::new(first.start.saturating_add(1), last.end),
        _ => TimeRange::new(0, -1),
    }
}
