//! Writes one block of Prometheus series by series: chunks go to disk as they come, the index is kept until the end.
//!
//! Memory: one write buffer, and labels and chunk positions of all series. Until [`Writer::finish`] the block is a
//! folder with a suffix that Prometheus removes at its next start, and that goes away with the writer.

use std::path::{Path, PathBuf};

use promontory_model::{ColumnRef, Labels, TimeRange};

use super::PrometheusError;
use super::chunks::{ChunkWriter, Encoding};
use super::export::Exported;
use super::index::ChunkMeta;
use super::index::write::{self as index, SeriesEntry};
use super::meta::{META_FILE, Meta};
use super::runs::Runs;
use super::tombstones::{self, TOMBSTONES_FILE};
use crate::ulid::Ulid;
use crate::vfs::{Vfs, VfsError};

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
    runs: Runs,
    n_floats: u64,
    n_histograms: u64,
    is_published: bool,
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
            runs: Runs::default(),
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
        let mut metas = Vec::new();
        let Self { runs, chunks, n_floats, n_histograms, .. } = self;
        runs.cut(times, column, |chunk| {
            let reference = chunks.push(chunk.encoding, chunk.data)?;
            metas.push(ChunkMeta { mint: chunk.mint, maxt: chunk.maxt, reference });
            *(if chunk.encoding == Encoding::Xor { &mut *n_floats } else { &mut *n_histograms }) += chunk.n_samples;
            Ok::<(), PrometheusError>(())
        })?;
        if !metas.is_empty() {
            self.series.push(SeriesEntry { labels, chunks: metas });
        }
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
