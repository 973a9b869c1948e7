//! Writes one block of Prometheus series by series: chunks go to disk as they come, the index is kept until the end.
//!
//! Memory: one write buffer, and labels and chunk positions of all series. Until [`Writer::finish`] the block is a
//! folder with a suffix that Prometheus removes at its next start, and that goes away with the writer.

use std::path::{Path, PathBuf};

use promontory_model::histogram::{CounterResetHint, Counts, HistogramSample};
use promontory_model::{ColumnRef, FloatHistogram, Labels, TimeRange};

use super::chunks::{ChunkWriter, Encoding};
use super::export::Exported;
use super::histogram::{self, ResetHeader};
use super::index::ChunkMeta;
use super::index::write::{self as index, SeriesEntry};
use super::meta::{META_FILE, Meta};
use super::tombstones::{self, TOMBSTONES_FILE};
use super::{PrometheusError, xor};
use crate::ulid::Ulid;
use crate::vfs::{Vfs, VfsError};

/// Samples of one chunk: what Prometheus aims at, and its readers are tuned for.
const CHUNK_SAMPLES: usize = 120;
/// Suffix of a folder that is not a block yet.
const TMP_SUFFIX: &str = ".tmp-for-creation";

/// A block under construction.
pub(super) struct Writer<'a> {
    vfs: &'a dyn Vfs,
    dir: PathBuf,
    tmp: PathBuf,
    ulid: Ulid,
    chunks: ChunkWriter<'a>,
    series: Vec<SeriesEntry>,
    run: Run,
    n_floats: u64,
    n_histograms: u64,
    is_published: bool,
}

/// Samples that become the next chunk of a series: all floats, or all histograms of one encoding and layout.
#[derive(Default)]
struct Run {
    times: Vec<i64>,
    values: Vec<f64>,
    histograms: Vec<(i64, HistogramSample)>,
    /// How the first of `histograms` relates to the chunk before.
    header: Option<ResetHeader>,
    done: Vec<ChunkMeta>,
}

impl<'a> Writer<'a> {
    /// Starts the block `ulid` in the folder `dir`, which exists.
    pub(super) fn new(vfs: &'a dyn Vfs, dir: &Path, ulid: Ulid) -> Result<Self, PrometheusError> {
        let tmp = dir.join(format!("{ulid}{TMP_SUFFIX}"));
        remove_if_there(vfs, &tmp)?;
        vfs.create_dir_all(&tmp)?;
        let chunks = ChunkWriter::new(vfs, &tmp, ulid)?;
        Ok(Self {
            vfs,
            dir: dir.to_owned(),
            tmp,
            ulid,
            chunks,
            series: Vec::new(),
            run: Run::default(),
            n_floats: 0,
            n_histograms: 0,
            is_published: false,
        })
    }

    #[cfg(test)]
    pub(super) fn set_segment_bytes(&mut self, bytes: u64) {
        self.chunks.set_segment_bytes(bytes);
    }

    pub(super) fn n_samples(&self) -> u64 {
        self.n_floats + self.n_histograms
    }

    /// Adds a series with the samples of a column; one without samples is left out. Each series comes once, in any
    /// order; chunks lie in the file in this order.
    pub(super) fn add(&mut self, labels: Labels, times: &[i64], column: &ColumnRef<'_>) -> Result<(), PrometheusError> {
        let mut histograms = column.histogram_samples().peekable();
        for (row, &t) in times.iter().enumerate() {
            if column.is_present(row) {
                self.end_histograms()?;
                if self.run.times.len() == CHUNK_SAMPLES {
                    self.end_floats()?;
                }
                self.run.times.push(t);
                self.run.values.push(column.values[row]);
                self.n_floats += 1;
            } else if let Some((_, h)) = histograms.next_if(|(at, _)| *at == row) {
                self.end_floats()?;
                self.add_histogram(t, h)?;
                self.n_histograms += 1;
            }
        }
        self.end_floats()?;
        self.end_histograms()?;
        self.run.header = None;
        if !self.run.done.is_empty() {
            self.series.push(SeriesEntry { labels, chunks: std::mem::take(&mut self.run.done) });
        }
        Ok(())
    }

    fn add_histogram(&mut self, t: i64, h: HistogramSample) -> Result<(), PrometheusError> {
        if let Some((_, last)) = self.run.histograms.last()
            && (self.run.histograms.len() == CHUNK_SAMPLES || !joins(last, &h))
        {
            let header = header_between(last, &h);
            self.end_histograms()?;
            self.run.header = Some(header);
        }
        self.run.histograms.push((t, h));
        Ok(())
    }

    fn end_floats(&mut self) -> Result<(), PrometheusError> {
        let run = &mut self.run;
        let (Some(&mint), Some(&maxt)) = (run.times.first(), run.times.last()) else { return Ok(()) };
        let reference = self.chunks.push(Encoding::Xor, &xor::encode(&run.times, &run.values))?;
        run.done.push(ChunkMeta { mint, maxt, reference });
        run.times.clear();
        run.values.clear();
        Ok(())
    }

    fn end_histograms(&mut self) -> Result<(), PrometheusError> {
        let run = &mut self.run;
        let (Some((mint, first)), Some((maxt, _))) = (run.histograms.first(), run.histograms.last()) else {
            return Ok(());
        };
        let (mint, maxt, encoding) = (*mint, *maxt, encoding_of(first));
        let header = if is_gauge(first.value()) { Some(ResetHeader::Gauge) } else { run.header.take() };
        let header = header.unwrap_or(ResetHeader::Unknown);
        let data = histogram::encode(&run.histograms, encoding == Encoding::FloatHistogram, header);
        let reference = self.chunks.push(encoding, &data)?;
        run.done.push(ChunkMeta { mint, maxt, reference });
        run.histograms.clear();
        run.header = None;
        Ok(())
    }

    /// Completes the block: all files synced, then the folder gets its name, then that is synced. A block of that name
    /// is replaced.
    pub(super) fn finish(mut self, range: TimeRange, external_labels: &Labels) -> Result<Exported, PrometheusError> {
        let mut series = std::mem::take(&mut self.series);
        series.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
        let (n_chunks, chunk_bytes) = self.chunks.finish()?;
        let index_bytes = index::write(self.vfs, &self.tmp, self.ulid, &series)?;
        let meta = Meta {
            ulid: self.ulid,
            range,
            n_samples: self.n_floats + self.n_histograms,
            n_float_samples: self.n_floats,
            n_histogram_samples: self.n_histograms,
            n_series: series.len() as u64,
            n_chunks,
            level: 1,
            sources: Vec::new(),
            replaces: Vec::new(),
        };
        let (meta_text, tombstones) = (meta.to_text(external_labels), tombstones::empty_file());
        for (name, bytes) in [(TOMBSTONES_FILE, tombstones.as_slice()), (META_FILE, meta_text.as_bytes())] {
            let file = self.vfs.create(&self.tmp.join(name))?;
            file.write_all(bytes)?;
            file.sync()?;
        }
        self.vfs.sync_dir(&self.tmp)?;
        let path = self.dir.join(self.ulid.to_string());
        remove_if_there(self.vfs, &path)?;
        self.vfs.rename(&self.tmp, &path)?;
        self.is_published = true;
        self.vfs.sync_dir(&self.dir)?;
        Ok(Exported {
            ulid: self.ulid,
            range,
            n_series: meta.n_series,
            n_samples: meta.n_samples,
            n_chunks,
            bytes: chunk_bytes + index_bytes + (meta_text.len() + tombstones.len()) as u64,
        })
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        if !self.is_published {
            // What cannot be removed now goes at the next start of whoever owns the folder.
            let _ = remove_if_there(self.vfs, &self.tmp);
        }
    }
}

fn remove_if_there(vfs: &dyn Vfs, path: &Path) -> Result<(), VfsError> {
    match vfs.remove_dir_all(path) {
        Err(e) if !e.is_not_found() => Err(e),
        _ => Ok(()),
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
