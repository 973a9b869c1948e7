//! `promontory tsdb import`: samples of any age from a file or from Prometheus' blocks.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;

use promontory_model::{Cancel, LabelsBuilder, MetricMetadata, MetricType};
use promontory_storage::prometheus;
use promontory_storage::vfs::{RealVfs, Vfs as _};
use promontory_storage::{Backfill, BackfillSeries, Backfilled};
use rapidhash::fast::RandomState;

use super::dump::rate;
use super::{TsdbError, bytes, count, open_to_write, short, utc};
use crate::cli::{ExchangeFormat, ImportArgs};
use crate::commands::progress::Progress;
use crate::scrape::exposition::{Format, Item, Metadata, ParseError, Parser};

/// Lines between two looks at cancellation and progress.
const LINES_AT_ONCE: u64 = 10_000;
/// Part of the work that reading the file is, about.
const READING: f64 = 0.7;

pub(super) fn run(args: &ImportArgs, out: &mut dyn Write, cancel: &Cancel) -> Result<bool, TsdbError> {
    match args.format {
        ExchangeFormat::Openmetrics => openmetrics(args, out, cancel),
        ExchangeFormat::Prometheus => blocks(args, out, cancel),
    }
}

fn blocks(args: &ImportArgs, out: &mut dyn Write, cancel: &Cancel) -> Result<bool, TsdbError> {
    let db = open_to_write(&args.path)?;
    let mut progress = Progress::new("import");
    let mut n_read = 0;
    let mut report = |p: prometheus::Progress| {
        n_read = p.n_samples;
        let seconds = progress.seconds();
        progress.report(p.done, || {
            format!("{} samples, {} blocks{}", short(n_read as f64), p.n_blocks, rate(n_read, seconds))
        });
    };
    let done = prometheus::import(&db, &args.input, &mut report, cancel)?;
    db.close()?;
    let seconds = progress.seconds();
    let (samples, read, written) = (count(done.n_samples), done.n_blocks_read, done.n_blocks_written);
    let rate = rate(n_read, seconds);
    writeln!(out, "{samples} samples of {read} blocks imported into {written} blocks in {seconds:.1} s{rate}")?;
    if done.n_duplicates > 0 {
        writeln!(out, "{} samples were there already", count(done.n_duplicates))?;
    }
    if done.n_conflicts > 0 {
        writeln!(out, "{} samples were there already with another value, which stays", count(done.n_conflicts))?;
    }
    for (path, why) in &done.bad_blocks {
        writeln!(out, "{}: nothing taken over: {why}", path.display())?;
    }
    Ok(done.bad_blocks.is_empty())
}

fn openmetrics(args: &ImportArgs, out: &mut dyn Write, cancel: &Cancel) -> Result<bool, TsdbError> {
    let body = RealVfs.map_read(&args.input)?;
    let db = open_to_write(&args.path)?;
    let mut progress = Progress::new("import");
    let mut reader = Reader {
        file: &args.input,
        body: &body,
        backfill: db.backfill()?,
        known: HashMap::default(),
        last: None,
        n_samples: 0,
        families: BTreeMap::new(),
    };
    reader.read(&mut progress, cancel)?;
    let Reader { backfill, n_samples, families, .. } = reader;
    let mut report = |done: f64| progress.report(READING + done * (1.0 - READING), || "writing blocks".to_owned());
    let done = backfill.finish(&mut report, cancel)?;
    // What a server has been told of a family stays.
    let known = db.metadata();
    let new = families.into_iter().filter(|(name, of)| !known.contains_key(name) && *of != MetricMetadata::default());
    let left_out = db.set_metadata(&new.map(|(name, of)| (name, vec![of])).collect())?;
    if left_out > 0 {
        eprintln!("warning: types and helps of {} families are left out, there are too many", count(left_out as u64));
    }
    db.close()?;
    tell(&done, n_samples, progress.seconds(), out)?;
    Ok(true)
}

fn tell(done: &Backfilled, n_read: u64, seconds: f64, out: &mut dyn Write) -> Result<(), TsdbError> {
    for block in &done.blocks {
        writeln!(
            out,
            "block {}: {} to {}, {} series, {} samples, {}",
            block.ulid,
            utc(block.range.mint.ms()),
            utc(block.range.maxt.ms()),
            count(block.n_series),
            count(block.n_samples),
            bytes(block.bytes())
        )?;
    }
    let (samples, series) = (count(done.n_samples), count(done.n_series));
    writeln!(out, "{samples} samples of {series} series imported in {seconds:.1} s{}", rate(n_read, seconds))?;
    if done.n_duplicates > 0 {
        writeln!(out, "{} samples stood in the file before, or were there already", count(done.n_duplicates))?;
    }
    if done.n_conflicts > 0 {
        let n = count(done.n_conflicts);
        writeln!(out, "{n} samples stood in the file before, or were there already, with another value, which stays")?;
    }
    Ok(())
}

/// Reads an OpenMetrics file into a backfill.
struct Reader<'a> {
    file: &'a Path,
    body: &'a [u8],
    backfill: Backfill,
    /// Series by the bytes before the value and the type that was declared above: it decides how bounds are written.
    known: HashMap<(MetricType, &'a [u8]), BackfillSeries, RandomState>,
    /// The last of them: most files have the samples of a series together.
    last: Option<(MetricType, &'a [u8], BackfillSeries)>,
    n_samples: u64,
    families: BTreeMap<String, MetricMetadata>,
}

impl<'a> Reader<'a> {
    fn read(&mut self, progress: &mut Progress, cancel: &Cancel) -> Result<(), TsdbError> {
        let mut parser = Parser::new(self.body, Format::OpenMetrics);
        loop {
            if self.n_samples.is_multiple_of(LINES_AT_ONCE) {
                cancel.check()?;
                let done = parser.position() as f64 / self.body.len().max(1) as f64;
                let (n, seconds) = (self.n_samples, progress.seconds());
                progress.report(done * READING, || format!("{} samples{}", short(n as f64), rate(n, seconds)));
            }
            let start = parser.position();
            if let Some((series, t, value)) = self.known_line(&mut parser, start) {
                self.backfill.push(series, t, value)?;
                self.n_samples += 1;
                continue;
            }
            match parser.next_item().map_err(|e| self.refused(&e))? {
                Item::End => return Ok(()),
                Item::Metadata { family, text, .. } => {
                    // A file of nothing else can be stopped as well.
                    cancel.check()?;
                    let known = self.families.entry(family).or_default();
                    match text {
                        Metadata::Type(kind) => known.kind = kind,
                        Metadata::Help(help) => known.help = help,
                        Metadata::Unit(unit) => known.unit = unit,
                    }
                }
                Item::Sample { key, tail } => {
                    let Some(t) = tail.timestamp_ms else {
                        let what = "the sample has no time; write it in Unix seconds behind the value";
                        return Err(self.error(start, what.to_owned()));
                    };
                    let series = self.series(&parser, &self.body[key])?;
                    self.backfill.push(series, t, tail.value)?;
                    self.n_samples += 1;
                }
            }
        }
    }

    /// Reads the line at `start` without parsing its labels when its series is the last one's.
    fn known_line(&self, parser: &mut Parser<'a>, start: usize) -> Option<(BackfillSeries, i64, f64)> {
        let (kind, key, series) = self.last?;
        let key_end = start + key.len();
        if kind != parser.kind() || self.body.get(start..key_end) != Some(key) {
            return None;
        }
        let (tail, next) = parser.tail_after(key_end)?;
        let t = tail.timestamp_ms?;
        parser.skip_to(next, kind);
        Some((series, t, tail.value))
    }

    fn series(&mut self, parser: &Parser<'a>, key: &'a [u8]) -> Result<BackfillSeries, TsdbError> {
        let kind = parser.kind();
        let series = match self.known.get(&(kind, key)) {
            Some(series) => *series,
            None => {
                let mut labels = LabelsBuilder::new();
                for (name, value) in parser.labels() {
                    labels.set(name, value);
                }
                let series = self.backfill.series(&labels.build())?;
                self.known.insert((kind, key), series);
                series
            }
        };
        self.last = Some((kind, key, series));
        Ok(series)
    }

    fn refused(&self, e: &ParseError) -> TsdbError {
        let remedy = if e.text.is_empty() { "; a whole file ends with the line `# EOF`" } else { "" };
        TsdbError::Line {
            path: self.file.to_owned(),
            line: format!("{}:{}", e.line, e.column),
            what: format!("{} in {:?}{remedy}", e.fault, e.text),
        }
    }

    /// What is wrong with the line at `start`.
    fn error(&self, start: usize, what: String) -> TsdbError {
        let line = memchr::memchr_iter(b'\n', &self.body[..start]).count() + 1;
        let end = memchr::memchr(b'\n', &self.body[start..]).map_or(self.body.len(), |i| start + i);
        let text = String::from_utf8_lossy(&self.body[start..end.min(start + 200)]).into_owned();
        TsdbError::Line { path: self.file.to_owned(), line: line.to_string(), what: format!("{what} in {text:?}") }
    }
}
