//! `promontory tsdb dump`: samples as text, series by series in the order of their labels.
//!
//! Metric after metric is selected, so memory holds the label sets of one metric and the samples of some series.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use promontory_model::{
    Cancel, Columns, HistogramSample, Labels, METRIC_NAME, Matcher, MetricType, Queryable as _, Select, SeriesBatch,
    Snapshot, TimeRange, is_stale,
};
use promontory_promql::parser;

use super::families::{self, Families};
use super::text::TextWriter;
use super::{TsdbError, count, open_to_read, short};
use crate::cli::{DumpArgs, SelectArgs, TextFormat};
use crate::commands::progress::Progress;

/// Values that are decoded at once.
const VALUES_MAX: usize = 4 << 20;
/// Bytes that are gathered before a write.
const WRITE_BYTES: usize = 1 << 20;

pub(super) fn run(args: &DumpArgs, out: &mut dyn Write, cancel: &Cancel) -> Result<bool, TsdbError> {
    let mut out = BufWriter::with_capacity(WRITE_BYTES, out);
    let written = write(&args.path, &args.select, args.format, &mut out, "dump", cancel)?;
    out.flush()?;
    written.tell();
    Ok(written.warnings.is_empty())
}

/// What was written, and what was not.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) n_series: u64,
    pub(super) n_samples: u64,
    n_stale: u64,
    n_histograms: u64,
    pub(super) warnings: Vec<String>,
}

impl Written {
    /// Says on standard error what the output lacks.
    pub(super) fn tell(&self) {
        for (n, what) in [(self.n_stale, "staleness markers"), (self.n_histograms, "native histograms")] {
            if n > 0 {
                eprintln!("note: {} {what} left out, which have no form in text", count(n));
            }
        }
        for warning in &self.warnings {
            eprintln!("warning: {warning}");
        }
    }
}

/// Writes the samples of the data folder `path` that `select` names to `out`.
pub(super) fn write(
    path: &Path,
    select: &SelectArgs,
    format: TextFormat,
    out: &mut dyn Write,
    what: &'static str,
    cancel: &Cancel,
) -> Result<Written, TsdbError> {
    let sets = matcher_sets(select)?;
    let range = range(select);
    let db = open_to_read(path)?;
    let snapshot = db.db().snapshot()?;
    let mut dump = Dump {
        families: (format == TextFormat::Openmetrics).then(|| Families::new(db.db().metadata())),
        family: None,
        snapshot: &*snapshot,
        range,
        cancel,
        writer: TextWriter::new(out, format),
        columns: Columns::default(),
        written: Written::default(),
        progress: Progress::new(what),
    };
    let metrics = dump.metrics(&sets)?;
    for (i, metric) in metrics.iter().enumerate() {
        dump.metric(metric, &sets, (i as f64, metrics.len() as f64))?;
    }
    let Dump { writer, mut written, .. } = dump;
    writer.end()?;
    written.warnings.sort_unstable();
    written.warnings.dedup();
    Ok(written)
}

/// The matchers of each `--match`; one empty list when there is none.
pub(super) fn matcher_sets(select: &SelectArgs) -> Result<Vec<Vec<Matcher>>, TsdbError> {
    if select.matches.is_empty() {
        return Ok(vec![Vec::new()]);
    }
    let read = |text: &String| {
        let error =
            |e| TsdbError::Flag { flag: "match", what: format!("{text}: {e}; an example is '{{job=\"node\"}}'") };
        parser::parse_selector(text).map(|s| s.matchers).map_err(error)
    };
    select.matches.iter().map(read).collect()
}

pub(super) fn range(select: &SelectArgs) -> TimeRange {
    let all = TimeRange::ALL;
    TimeRange::new(select.min_time.unwrap_or(all.mint.ms()), select.max_time.unwrap_or(all.maxt.ms()))
}

struct Dump<'a> {
    /// What is said of families, where the format says it, and the family that was spoken of last.
    families: Option<Families>,
    family: Option<String>,
    snapshot: &'a dyn Snapshot,
    range: TimeRange,
    cancel: &'a Cancel,
    writer: TextWriter<'a>,
    columns: Columns,
    written: Written,
    progress: Progress,
}

impl Dump<'_> {
    /// Names of the metrics that may have samples, sorted; the empty one is that of series without a name.
    fn metrics(&self, sets: &[Vec<Matcher>]) -> Result<Vec<String>, TsdbError> {
        let mut out = vec![String::new()];
        for matchers in sets {
            let select = Select { range: self.range, matchers, cancel: self.cancel };
            out.extend(self.snapshot.label_values(METRIC_NAME, &select, usize::MAX)?);
        }
        out.sort_unstable();
        out.dedup();
        if let Some(families) = &self.families {
            // All of a family stands together.
            out.sort_by_cached_key(|metric| (families.of(metric).0, metric.clone()));
        }
        Ok(out)
    }

    fn metric(&mut self, metric: &str, sets: &[Vec<Matcher>], (number, n): (f64, f64)) -> Result<(), TsdbError> {
        let mut batches: Vec<Arc<dyn SeriesBatch>> = Vec::new();
        for matchers in sets {
            let mut matchers = matchers.clone();
            matchers.push(Matcher::equal(METRIC_NAME, metric));
            let found =
                self.snapshot.select(&Select { range: self.range, matchers: &matchers, cancel: self.cancel })?;
            self.written.warnings.extend(found.warnings);
            batches.extend(found.batches);
        }
        let mut series: Vec<(Labels, usize, usize)> = Vec::new();
        for (b, batch) in batches.iter().enumerate() {
            series.extend((0..batch.n_series()).map(|i| (batch.labels(i), b, i)));
        }
        // A series that several selectors name is whole in the answer to each of them.
        series.sort_unstable();
        series.dedup_by(|b, a| a.0 == b.0);
        let mut lines = None;
        if let Some(families) = &self.families
            && !metric.is_empty()
        {
            let (family, mut known) = families.of(metric);
            // The metric with the bounds is the first of its family.
            if !families::bounds_are_canonical(series.iter().map(|s| &s.0)) {
                known.kind = MetricType::Unknown;
            }
            if self.family.as_ref() != Some(&family) {
                lines = Some((families::lines(&family, &known), family));
            }
        }
        let mut rest = series.as_slice();
        while let Some((_, b, first)) = rest.first() {
            let batch = &batches[*b];
            let at_once = (VALUES_MAX / batch.rows_max(self.range).max(1)).max(1);
            let follows = |(i, s): (usize, &(Labels, usize, usize))| s.1 == *b && s.2 == first + i;
            let n_series = rest.iter().take(at_once).enumerate().take_while(|(i, s)| follows((*i, s))).count();
            batch.read(*first..first + n_series, self.range, &mut self.columns)?;
            let (some, after) = rest.split_at(n_series);
            for (i, (labels, _, _)) in some.iter().enumerate() {
                self.cancel.check()?;
                self.one(labels, i, &mut lines)?;
            }
            rest = after;
            let within = 1.0 - rest.len() as f64 / series.len() as f64;
            let (samples, seconds) = (self.written.n_samples, self.progress.seconds());
            self.progress.report((number + within) / n, || {
                format!("{} samples", short(samples as f64)) + &rate(samples, seconds)
            });
        }
        Ok(())
    }

    /// Writes the samples of column `i`, and before the first the lines of a new family.
    fn one(&mut self, labels: &Labels, i: usize, lines: &mut Option<(String, String)>) -> Result<(), TsdbError> {
        let Self { columns, writer, written, family, .. } = self;
        let column = columns.column(i);
        let mut histograms = column.histogram_samples().peekable();
        let mut is_named = false;
        for (row, t) in columns.timestamps().iter().enumerate() {
            let histogram = histograms.next_if(|(at, _)| *at == row).map(|(_, h)| h);
            if histogram.is_none() && !column.is_present(row) {
                continue;
            }
            if histogram.as_ref().map_or_else(|| is_stale(column.values[row]), HistogramSample::is_stale) {
                written.n_stale += 1;
                continue;
            }
            if histogram.is_some() && !writer.has_histograms() {
                written.n_histograms += 1;
                continue;
            }
            if !is_named {
                if let Some((text, of)) = lines.take() {
                    writer.lines(&text)?;
                    *family = Some(of);
                }
                writer.series(labels);
                written.n_series += 1;
                is_named = true;
            }
            match histogram {
                Some(h) => writer.histogram(*t, &h)?,
                None => writer.sample(*t, column.values[row])?,
            }
            written.n_samples += 1;
        }
        Ok(())
    }
}

/// `, 3.1 M/s`.
pub(super) fn rate(n: u64, seconds: f64) -> String {
    format!(", {}/s", short(n as f64 / seconds.max(1e-9)))
}
