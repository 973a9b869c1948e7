//! Samples of a series become chunks: floats, or histograms of one encoding and layout.
//!
//! # Source
//! Prometheus `tsdb/chunkenc`: what its appenders would begin another chunk for.

use promontory_model::histogram::{CounterResetHint, Counts, HistogramSample};
use promontory_model::{ColumnRef, FloatHistogram};

use super::chunks::Encoding;
use super::histogram::{self, ResetHeader};
use super::xor;

/// Samples of one chunk: what Prometheus aims at, and its readers are tuned for.
const CHUNK_SAMPLES: usize = 120;

/// A chunk that is ready.
pub(super) struct Chunk<'a> {
    pub(super) encoding: Encoding,
    pub(super) mint: i64,
    pub(super) maxt: i64,
    pub(super) n_samples: u64,
    pub(super) data: &'a [u8],
}

/// Cuts samples into chunks; buffers are used again.
#[derive(Default)]
pub(super) struct Runs {
    times: Vec<i64>,
    values: Vec<f64>,
    histograms: Vec<(i64, HistogramSample)>,
    /// How the first of `histograms` relates to the chunk before.
    header: Option<ResetHeader>,
}

impl Runs {
    /// Calls `each` with the chunks of a column, in order.
    pub(super) fn cut<E>(
        &mut self,
        times: &[i64],
        column: &ColumnRef<'_>,
        mut each: impl FnMut(Chunk<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        *self = Self {
            times: std::mem::take(&mut self.times),
            values: std::mem::take(&mut self.values),
            ..Self::default()
        };
        self.times.clear();
        self.values.clear();
        let mut histograms = column.histogram_samples().peekable();
        for (row, &t) in times.iter().enumerate() {
            if column.is_present(row) {
                self.end_histograms(&mut each)?;
                if self.times.len() == CHUNK_SAMPLES {
                    self.end_floats(&mut each)?;
                }
                self.times.push(t);
                self.values.push(column.values[row]);
            } else if let Some((_, h)) = histograms.next_if(|(at, _)| *at == row) {
                self.end_floats(&mut each)?;
                self.add_histogram(t, h, &mut each)?;
            }
        }
        self.end_floats(&mut each)?;
        self.end_histograms(&mut each)
    }

    fn add_histogram<E>(
        &mut self,
        t: i64,
        h: HistogramSample,
        each: &mut impl FnMut(Chunk<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if let Some((_, last)) = self.histograms.last()
            && (self.histograms.len() == CHUNK_SAMPLES || !joins(last, &h))
        {
            let header = header_between(last, &h);
            self.end_histograms(each)?;
            self.header = Some(header);
        }
        self.histograms.push((t, h));
        Ok(())
    }

    fn end_floats<E>(&mut self, each: &mut impl FnMut(Chunk<'_>) -> Result<(), E>) -> Result<(), E> {
        let (Some(&mint), Some(&maxt)) = (self.times.first(), self.times.last()) else { return Ok(()) };
        let data = xor::encode(&self.times, &self.values);
        let n_samples = self.times.len() as u64;
        self.times.clear();
        self.values.clear();
        each(Chunk { encoding: Encoding::Xor, mint, maxt, n_samples, data: &data })
    }

    fn end_histograms<E>(&mut self, each: &mut impl FnMut(Chunk<'_>) -> Result<(), E>) -> Result<(), E> {
        let (Some((mint, first)), Some((maxt, _))) = (self.histograms.first(), self.histograms.last()) else {
            return Ok(());
        };
        let (mint, maxt, encoding) = (*mint, *maxt, encoding_of(first));
        let header = if is_gauge(first.value()) { Some(ResetHeader::Gauge) } else { self.header.take() };
        let header = header.unwrap_or(ResetHeader::Unknown);
        let data = histogram::encode(&self.histograms, encoding == Encoding::FloatHistogram, header);
        let n_samples = self.histograms.len() as u64;
        self.histograms.clear();
        self.header = None;
        each(Chunk { encoding, mint, maxt, n_samples, data: &data })
    }
}

fn is_gauge(h: &FloatHistogram) -> bool {
    h.counter_reset_hint == CounterResetHint::Gauge
}

fn encoding_of(h: &HistogramSample) -> Encoding {
    let is_integer = if h.is_stale() { h.counts() == Counts::Integer } else { histogram::is_integral(h) };
    if is_integer { Encoding::Histogram } else { Encoding::FloatHistogram }
}

/// Whether `next` may stand behind `last` in one chunk. Readers take it that counters were not reset inside.
fn joins(last: &HistogramSample, next: &HistogramSample) -> bool {
    let (a, b) = (last.value(), next.value());
    encoding_of(last) == encoding_of(next)
        && is_gauge(a) == is_gauge(b)
        && histogram::continues(a, b)
        && (is_gauge(a) || next.is_stale() || !fell(a, b))
}

/// Whether a count is less than before, or is no number.
fn fell(a: &FloatHistogram, b: &FloatHistogram) -> bool {
    let counts = |h: &FloatHistogram| [h.count, h.zero_count];
    let counts = counts(a).into_iter().zip(counts(b));
    let positive = a.positive_buckets.iter().copied().zip(b.positive_buckets.iter().copied());
    let negative = a.negative_buckets.iter().copied().zip(b.negative_buckets.iter().copied());
    counts.chain(positive).chain(negative).any(|(a, b)| a.is_nan() || b.is_nan() || b < a)
}

/// What the chunk that begins with `next` says about a reset. Readers compare for themselves where nothing is said.
fn header_between(last: &HistogramSample, next: &HistogramSample) -> ResetHeader {
    let (a, b) = (last.value(), next.value());
    let is_same_layout = !last.is_stale() && !next.is_stale() && histogram::continues(a, b);
    match (is_same_layout, a.count > b.count) {
        (true, true) => ResetHeader::Reset,
        (true, false) if joins(last, next) => ResetHeader::NotReset,
        _ => ResetHeader::Unknown,
    }
}
