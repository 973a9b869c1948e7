//! Since when series count: what lines `_created`, or messages, say of counters, histograms and summaries.
//!
//! Nothing is done for what was said the scrape before as well. Quantiles and gauges do not count, so nothing begins for
//! them.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::num::NonZeroU32;

use promontory_model::{Labels, METRIC_NAME, MetricType};

use super::{Batch, Context, LineCache, What};
use crate::scrape::exposition::{Format, Item, Pair, Parser, Start, Tail};

/// How the series is named whose value is a start time.
const SUFFIX: &str = "_created";

/// A series of which is known since when it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started<R> {
    /// Series.
    pub series: R,
    /// Since when, in ms.
    pub start_ms: i64,
    /// Explicit timestamp of its sample in this scrape, in ms.
    pub timestamp_ms: Option<i64>,
    /// Number of the histogram that is its value in this scrape.
    pub histogram: Option<NonZeroU32>,
}

/// Whether a sample with these labels, under a family of this type, is a start time.
pub(super) fn is_start(kind: MetricType, labels: &[Pair<'_>]) -> bool {
    counts(kind) && labels.first().is_some_and(|(_, name)| name.len() > SUFFIX.len() && name.ends_with(SUFFIX))
}

fn counts(kind: MetricType) -> bool {
    matches!(kind, MetricType::Counter | MetricType::Histogram | MetricType::Summary)
}

/// Seconds in ms; 0 if they are no time at which something can have begun.
fn start_ms(seconds: f64) -> i64 {
    // Stays at the ends of the range, and turns what is no number into 0.
    ((seconds * 1000.0) as i64).max(0)
}

impl<R: Copy + Eq + Hash + std::fmt::Debug> LineCache<R> {
    pub(super) fn note_start(&mut self, line: u32, seconds: f64, batch: &mut Batch<R>) {
        let ms = start_ms(seconds);
        if self.starts.insert(line, ms) != Some(ms) {
            batch.restarts.push(line);
        }
    }

    /// Puts the series into `out` that began, or began anew, by what lines of the scrape say that was just read and
    /// resolved. Costs nothing if no such line changed.
    pub fn find_started(&self, body: &[u8], format: Format, batch: &Batch<R>, out: &mut Vec<Started<R>>) {
        if batch.restarts.is_empty() {
            return;
        }
        let wanted: HashSet<u32> = batch.restarts.iter().copied().collect();
        let mut starts = HashMap::new();
        self.each_sample(body, format, |kind, labels, line, _| {
            if let Some(line) = line.filter(|line| wanted.contains(line) && is_start(kind, labels))
                && let Some(ms) = self.starts.get(&line).filter(|ms| **ms > 0)
                && let Some(name) = labels[0].1.strip_suffix(SUFFIX)
            {
                starts.insert(of_metric(name, labels), *ms);
            }
        });
        self.each_sample(body, format, |kind, labels, line, tail| {
            if let Some(line) = line
                && let What::Series(series) = self.lines[line as usize].what
                && let Some(name) = metric_name(kind, labels, tail)
                && let Some(&start_ms) = starts.get(&of_metric(name, labels))
            {
                let (timestamp_ms, histogram) = (tail.timestamp_ms, tail.histogram);
                out.push(Started { series, start_ms, timestamp_ms, histogram });
            }
        });
    }

    /// The same by what `starts` says beside the lines.
    pub(crate) fn find_started_beside(&mut self, body: &[u8], starts: &[Start], out: &mut Vec<Started<R>>) {
        for start in starts {
            let Some(line) = self.find_line(&body[start.key.clone()], Context::from(start.kind)) else { continue };
            let What::Series(series) = self.lines[line as usize].what else { continue };
            if self.starts.insert(line, start.ms) != Some(start.ms) {
                let Start { timestamp_ms, histogram, ms: start_ms, .. } = *start;
                out.push(Started { series, start_ms, timestamp_ms, histogram });
            }
        }
    }

    /// Shows each sample of a body that has been read: type of its family, labels, remembered line, what follows.
    fn each_sample(
        &self,
        body: &[u8],
        format: Format,
        mut show: impl FnMut(MetricType, &[Pair<'_>], Option<u32>, Tail),
    ) {
        let mut parser = Parser::new(body, format);
        while let Ok(item) = parser.next_item() {
            match item {
                Item::End => return,
                Item::Metadata { .. } => {}
                Item::Sample { key, tail } => {
                    let kind = parser.kind();
                    let line = if counts(kind) { self.find_line(&body[key], Context::from(kind)) } else { None };
                    show(kind, parser.labels(), line, tail);
                }
            }
        }
    }
}

/// Name of the metric that a sample belongs to, if that is one which counts.
fn metric_name<'l>(kind: MetricType, labels: &'l [Pair<'_>], tail: Tail) -> Option<&'l str> {
    let (name, rest) = labels.split_first()?;
    let name = name.1.as_ref();
    let strip = |suffixes: &[&str]| suffixes.iter().find_map(|suffix| name.strip_suffix(suffix));
    match kind {
        MetricType::Counter => Some(strip(&["_total"]).unwrap_or(name)),
        MetricType::Histogram if tail.histogram.is_some() => Some(name),
        MetricType::Histogram => strip(&["_bucket", "_sum", "_count"]),
        MetricType::Summary if rest.iter().any(|(name, _)| name == "quantile") => None,
        MetricType::Summary => strip(&["_sum", "_count"]),
        _ => None,
    }
}

/// What all samples of one metric have in common.
fn of_metric(name: &str, labels: &[Pair<'_>]) -> Labels {
    let own = labels.iter().map(|(n, v)| (n.as_ref(), v.as_ref()));
    let own = own.filter(|(n, _)| !matches!(*n, METRIC_NAME | "le" | "quantile"));
    Labels::from_pairs(own.chain([(METRIC_NAME, name)]))
}
