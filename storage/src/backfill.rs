//! Samples of any age and in any order, made into blocks of their own beside head and WAL.
//!
//! Samples are gathered in memory and put aside in one file as encoded runs; at the end the runs of each window of time
//! become one block, in which series of one job and instance share their timestamps as scraped ones do. Blocks are
//! seen when all of them are there: what is cancelled or fails leaves nothing behind.
//!
//! Memory: the label sets, a bounded number of samples, a few words per run, and the samples of some columns.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use promontory_model::{Cancel, Columns, Labels, ReadError, Select, TimeRange};
use rapidhash::fast::RandomState;

use crate::block::{self, BlockError, BlockMeta, BlockReader, BlockWriter, ColumnInput, GroupInput};
use crate::blocks::Block;
use crate::codec;
use crate::db::{Db, Inner};
use crate::error::WriteError;
use crate::known::Known;
use crate::recovery::BLOCKS_DIR;
use crate::vfs::{Mapped, VfsError, VfsFile};

/// Samples in memory before they are put aside: 128 MiB.
const PENDING_MAX: usize = 8 << 20;
/// Samples of one run.
const RUN_SAMPLES_MAX: usize = 1024;
/// Columns of one group.
const GROUP_COLUMNS_MAX: usize = 4096;
/// Bytes that are gathered before a write.
const WRITE_BYTES: usize = 1 << 20;
/// Series of one source share rows when at least one of this many places in them is filled.
const SHARED_ROWS_FILLED: usize = 2;
/// Windows of time in blocks of the head's length; where there are more, blocks are longer.
const SHORT_WINDOWS_MAX: usize = 24;
const DAY_MS: i64 = 24 * 3_600_000;
/// Days in blocks of a day; where there are more, blocks are a week long.
const DAYS_MAX: usize = 31;

/// Why samples could not be made into blocks. Nothing of them is in the database then.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BackfillError {
    /// The operating system refused.
    #[error(transparent)]
    Vfs(#[from] VfsError),
    /// A block could not be written.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// What was put aside could not be read back, or the work was cancelled.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The database takes nothing in.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Series are numbered with 32 bits.
    #[error("backfill: more than {} series", u32::MAX)]
    TooManySeries,
}

/// A series of one [`Backfill`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackfillSeries(u32);

/// What a backfill has added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backfilled {
    /// Series with samples.
    pub n_series: u64,
    /// Samples in the new blocks.
    pub n_samples: u64,
    /// Samples that were given before, or that the database had, with equal bits.
    pub n_duplicates: u64,
    /// Samples that were given before, or that the database had, with another value; that one stays.
    pub n_conflicts: u64,
    /// The new blocks, oldest first.
    pub blocks: Vec<BlockMeta>,
}

/// Samples of one series within one short window, put aside.
#[derive(Debug, Clone, Copy)]
struct Run {
    window: i64,
    series: u32,
    n: u32,
    offset: u64,
    times_len: u32,
    values_len: u32,
}

/// Samples on their way into blocks.
#[derive(Debug)]
pub struct Backfill {
    db: Arc<Inner>,
    numbers: HashMap<Labels, u32, RandomState>,
    series: Vec<Series>,
    sources: HashMap<(String, String), u32, RandomState>,
    n_pending: usize,
    runs: Vec<Run>,
    aside: Aside,
    found: Backfilled,
}

#[derive(Debug)]
struct Series {
    labels: Labels,
    /// Series with the same job and instance.
    source: u32,
    pending: Vec<(i64, f64)>,
}

impl Db {
    /// Starts taking in samples of any age. They are in no head, WAL or window for late samples: each is taken.
    ///
    /// # Errors
    /// [`BackfillError`] when the folder cannot be written.
    pub fn backfill(&self) -> Result<Backfill, BackfillError> {
        let db = Arc::clone(self.inner());
        if let Some(reason) = self.read_only() {
            return Err(WriteError::ReadOnly { reason }.into());
        }
        // Under the name of an unfinished block, which the next start removes after a crash.
        let folder = block::tmp_path(&db.dir.join(BLOCKS_DIR), db.new_ulid());
        let aside = Aside::new(&db, folder)?;
        Ok(Backfill {
            db,
            numbers: HashMap::default(),
            series: Vec::new(),
            sources: HashMap::default(),
            n_pending: 0,
            runs: Vec::new(),
            aside,
            found: Backfilled::default(),
        })
    }
}

impl Backfill {
    /// The series of a label set.
    ///
    /// # Errors
    /// [`BackfillError::TooManySeries`].
    pub fn series(&mut self, labels: &Labels) -> Result<BackfillSeries, BackfillError> {
        if let Some(number) = self.numbers.get(labels) {
            return Ok(BackfillSeries(*number));
        }
        let number = u32::try_from(self.series.len()).map_err(|_| BackfillError::TooManySeries)?;
        let of = |name| labels.get(name).unwrap_or_default().to_owned();
        let next = self.sources.len() as u32;
        let source = *self.sources.entry((of("job"), of("instance"))).or_insert(next);
        self.numbers.insert(labels.clone(), number);
        self.series.push(Series { labels: labels.clone(), source, pending: Vec::new() });
        Ok(BackfillSeries(number))
    }

    /// Adds a sample. `t` is ms since the epoch.
    ///
    /// # Errors
    /// [`BackfillError::Vfs`] when samples cannot be put aside.
    ///
    /// # Panics
    /// When `series` is that of another backfill.
    pub fn push(&mut self, series: BackfillSeries, t: i64, v: f64) -> Result<(), BackfillError> {
        self.series[series.0 as usize].pending.push((t, v));
        self.n_pending += 1;
        if self.n_pending >= PENDING_MAX { self.put_aside() } else { Ok(()) }
    }

    /// Series so far.
    #[must_use]
    pub fn n_series(&self) -> usize {
        self.series.len()
    }

    /// Parts of series that are put aside, each of up to 1,024 samples of one window of time; 48 bytes of memory each.
    #[must_use]
    pub fn n_runs(&self) -> usize {
        self.runs.len()
    }

    fn put_aside(&mut self) -> Result<(), BackfillError> {
        self.n_pending = 0;
        let block_ms = self.db.head.options.block_ms.max(1);
        let (mut times, mut values) = (Vec::new(), Vec::new());
        for (number, series) in self.series.iter_mut().enumerate() {
            if series.pending.is_empty() {
                continue;
            }
            let mut pending = std::mem::take(&mut series.pending);
            self.found.take_one_each(&mut pending);
            for of_window in pending.chunk_by(|a, b| a.0.div_euclid(block_ms) == b.0.div_euclid(block_ms)) {
                let window = of_window[0].0.div_euclid(block_ms);
                for run in of_window.chunks(RUN_SAMPLES_MAX) {
                    times.clear();
                    times.extend(run.iter().map(|s| s.0));
                    values.clear();
                    values.extend(run.iter().map(|s| s.1));
                    let (offset, times_len, values_len) = self.aside.put(&times, &values)?;
                    let (series, n) = (number as u32, run.len() as u32);
                    self.runs.push(Run { window, series, n, offset, times_len, values_len });
                }
            }
        }
        Ok(())
    }

    /// Makes the blocks. They are durable and seen by queries when this returns. `progress` gets the part that is
    /// done, between 0 and 1.
    ///
    /// # Errors
    /// [`BackfillError`]; the database is as before then.
    pub fn finish(mut self, progress: &mut dyn FnMut(f64), cancel: &Cancel) -> Result<Backfilled, BackfillError> {
        self.put_aside()?;
        self.numbers = HashMap::default();
        let bytes = self.aside.finish()?;
        let mut runs = std::mem::take(&mut self.runs);
        let short = self.db.head.options.block_ms.max(1);
        let long = block_length(&runs, short);
        let series = &self.series;
        runs.sort_by_cached_key(|r| {
            let source = series[r.series as usize].source;
            ((r.window.saturating_mul(short)).div_euclid(long), source, r.series, r.window, r.offset)
        });
        let mut seen = vec![false; self.series.len()];
        runs.iter().for_each(|r| seen[r.series as usize] = true);
        self.found.n_series = seen.into_iter().filter(|s| *s).count() as u64;
        let mut work = Work {
            backfill: &mut self,
            bytes,
            n_runs: runs.len().max(1),
            n_done: 0,
            progress,
            cancel,
            known: Known::default(),
        };
        let window_of = |r: &Run| r.window.saturating_mul(short).div_euclid(long);
        for of_block in runs.chunk_by(|a, b| window_of(a) == window_of(b)) {
            if let Err(e) = work.write_block(of_block) {
                self.take_back();
                return Err(e);
            }
        }
        self.publish().inspect_err(|_| self.take_back())?;
        Ok(std::mem::take(&mut self.found))
    }

    fn blocks_dir(&self) -> PathBuf {
        self.db.dir.join(BLOCKS_DIR)
    }

    /// Removes the blocks that are finished; what cannot be removed is told, for the next start will show it.
    fn take_back(&self) {
        for meta in &self.found.blocks {
            if let Err(e) = block::delete(&*self.db.vfs, &self.blocks_dir(), meta.ulid) {
                tracing::error!(block = %meta.ulid, error = %e, "a block of an unfinished backfill stays");
            }
        }
    }

    fn publish(&self) -> Result<(), BackfillError> {
        let mut readers: Vec<Arc<dyn Block>> = Vec::new();
        for meta in &self.found.blocks {
            readers.push(BlockReader::open(&*self.db.vfs, &self.blocks_dir().join(meta.ulid.to_string()))?);
        }
        let _gate = self.db.head.gate_alone();
        self.db.change_blocks(|blocks| blocks.extend(readers));
        Ok(())
    }
}

impl Backfilled {
    /// Sorts by time and keeps one sample per time: the one that came first.
    fn take_one_each(&mut self, samples: &mut Vec<(i64, f64)>) {
        if samples.windows(2).all(|w| w[0].0 < w[1].0) {
            return;
        }
        samples.sort_by_key(|s| s.0);
        samples.dedup_by(|next, first| {
            let is_same_time = next.0 == first.0;
            if is_same_time {
                let is_equal = next.1.to_bits() == first.1.to_bits();
                *(if is_equal { &mut self.n_duplicates } else { &mut self.n_conflicts }) += 1;
            }
            is_same_time
        });
    }
}

/// Length of the blocks: that of the head's for a few of them, else a day, else a week; a multiple of the head's.
fn block_length(runs: &[Run], short: i64) -> i64 {
    let mut windows: Vec<i64> = runs.iter().map(|r| r.window).collect();
    windows.sort_unstable();
    windows.dedup();
    let day = (DAY_MS / short).max(1) * short;
    let day_of = |window: i64| window.saturating_mul(short).div_euclid(day);
    let days = windows.chunk_by(|a, b| day_of(*a) == day_of(*b)).count();
    match (windows.len(), days) {
        (n, _) if n <= SHORT_WINDOWS_MAX => short,
        (_, n) if n <= DAYS_MAX => day,
        _ => 7 * day,
    }
}

/// Blocks being written.
struct Work<'a> {
    backfill: &'a mut Backfill,
    bytes: Mapped,
    n_runs: usize,
    n_done: usize,
    progress: &'a mut dyn FnMut(f64),
    cancel: &'a Cancel,
    /// What the database has at the times of the block that is written.
    known: Known,
}

impl Work<'_> {
    /// `runs` are those of one block, by source and series.
    fn write_block(&mut self, runs: &[Run]) -> Result<(), BackfillError> {
        let db = &self.backfill.db;
        let short = db.head.options.block_ms.max(1);
        let mut writer = BlockWriter::new(Arc::clone(&db.vfs), &self.backfill.blocks_dir(), db.new_ulid(), 1)?;
        let times = |r: &Run| (r.window.saturating_mul(short), r.window.saturating_add(1).saturating_mul(short) - 1);
        let (mint, maxt) = runs.iter().map(times).fold((i64::MAX, i64::MIN), |a, b| (a.0.min(b.0), a.1.max(b.1)));
        let select = Select { range: TimeRange::new(mint, maxt), matchers: &[], cancel: self.cancel };
        self.known = Known::in_range(db, &select)?;
        let sources: Vec<u32> = runs.iter().map(|r| self.backfill.series[r.series as usize].source).collect();
        let mut rest = runs;
        for of_source in sources.chunk_by(|a, b| a == b) {
            let (of_source, after) = rest.split_at(of_source.len());
            rest = after;
            let of_series: Vec<&[Run]> = of_source.chunk_by(|a, b| a.series == b.series).collect();
            for some in of_series.chunks(GROUP_COLUMNS_MAX) {
                self.cancel.check().map_err(ReadError::from)?;
                self.write_columns(&mut writer, some)?;
            }
            self.n_done += of_source.len();
            (self.progress)(self.n_done as f64 / self.n_runs as f64);
        }
        if writer.n_samples() == 0 {
            return Ok(());
        }
        self.backfill.found.n_samples += writer.n_samples();
        let meta = writer.finish()?;
        self.backfill.found.blocks.push(meta);
        Ok(())
    }

    /// Writes series of one source: as one group when they mostly have the same times, else a group for each times.
    fn write_columns(&mut self, writer: &mut BlockWriter, series: &[&[Run]]) -> Result<(), BackfillError> {
        let mut columns = Vec::with_capacity(series.len());
        for runs in series {
            columns.push((runs[0].series, self.samples(runs)?));
        }
        let mut times: Vec<i64> = Vec::new();
        let mut n_samples = 0;
        let times_of = |samples: &[(i64, f64)]| samples.iter().map(|s| s.0).collect::<Vec<_>>();
        for (_, samples) in &columns {
            n_samples += samples.len();
            let is_known = times.len() == samples.len() && times.iter().zip(samples).all(|(t, s)| *t == s.0);
            if !is_known {
                times.extend(samples.iter().map(|s| s.0));
                times.sort_unstable();
                times.dedup();
            }
        }
        if times.len().saturating_mul(columns.len()) <= n_samples.saturating_mul(SHARED_ROWS_FILLED) {
            return self.write_group(writer, &times, &columns);
        }
        let mut by_times: HashMap<Vec<i64>, Vec<usize>, RandomState> = HashMap::default();
        let mut order: Vec<Vec<i64>> = Vec::new();
        for (i, (_, samples)) in columns.iter().enumerate() {
            let times = times_of(samples);
            if !by_times.contains_key(&times) {
                order.push(times.clone());
            }
            by_times.entry(times).or_default().push(i);
        }
        for times in order {
            let members = by_times.remove(&times).unwrap_or_default();
            let same: Vec<_> = members.into_iter().map(|i| std::mem::take(&mut columns[i])).collect();
            self.write_group(writer, &times, &same)?;
        }
        Ok(())
    }

    fn write_group(
        &self,
        writer: &mut BlockWriter,
        times: &[i64],
        columns: &[(u32, Vec<(i64, f64)>)],
    ) -> Result<(), BackfillError> {
        let words = times.len().div_ceil(64);
        let mut values = vec![0.0; times.len() * columns.len()];
        let mut presence = vec![0u64; words * columns.len()];
        for (i, (_, samples)) in columns.iter().enumerate() {
            let (values, bits) = (&mut values[i * times.len()..], &mut presence[i * words..]);
            let mut row = 0;
            for (t, v) in samples {
                row += times[row..].partition_point(|x| x < t);
                values[row] = *v;
                bits[row / 64] |= 1 << (row % 64);
            }
        }
        let input: Vec<ColumnInput<'_>> = columns
            .iter()
            .enumerate()
            .map(|(i, (series, samples))| ColumnInput {
                labels: self.backfill.series[*series as usize].labels.clone(),
                values: &values[i * times.len()..(i + 1) * times.len()],
                presence: (samples.len() < times.len()).then(|| &presence[i * words..(i + 1) * words]),
                histograms: &[],
            })
            .collect();
        writer.add_group(&GroupInput { timestamps: times, columns: &input })?;
        Ok(())
    }

    /// The samples of one series, by time, each time once.
    fn samples(&mut self, runs: &[Run]) -> Result<Vec<(i64, f64)>, BackfillError> {
        let (mut times, mut values) = (Vec::new(), Vec::new());
        for run in runs {
            self.backfill.aside.get(&self.bytes, run, &mut times, &mut values)?;
        }
        let mut samples = times.into_iter().zip(values).collect();
        self.backfill.found.take_one_each(&mut samples);
        let found = &mut self.backfill.found;
        let Some(first) = runs.first() else { return Ok(samples) };
        let times: Vec<i64> = samples.iter().map(|s: &(i64, f64)| s.0).collect();
        let known = self.known.samples(&self.backfill.series[first.series as usize].labels, &times)?;
        if known.n_rows() > 0 {
            samples.retain(|(t, v)| match sample_at(&known, *t) {
                None => true,
                Some(old) => {
                    let is_equal = old.is_some_and(|old| old.to_bits() == v.to_bits());
                    *(if is_equal { &mut found.n_duplicates } else { &mut found.n_conflicts }) += 1;
                    false
                }
            });
        }
        Ok(samples)
    }
}

/// What a single column has at `t`: nothing, a histogram (`Some(None)`) or a float.
fn sample_at(column: &Columns, t: i64) -> Option<Option<f64>> {
    let row = column.timestamps().binary_search(&t).ok()?;
    let only = column.column(0);
    if only.is_present(row) {
        return Some(Some(only.values[row]));
    }
    only.histograms.iter().any(|(_, r, _)| *r as usize == row).then_some(None)
}

/// The file of runs. It goes away with its folder.
#[derive(Debug)]
struct Aside {
    db: Arc<Inner>,
    folder: PathBuf,
    file: Box<dyn VfsFile>,
    buffer: Vec<u8>,
    /// Bytes in file and buffer.
    len: u64,
}

impl Aside {
    fn new(db: &Arc<Inner>, folder: PathBuf) -> Result<Self, VfsError> {
        db.vfs.create_dir_all(&folder)?;
        let file = db.vfs.create(&folder.join("runs"))?;
        Ok(Self { db: Arc::clone(db), folder, file, buffer: Vec::new(), len: 0 })
    }

    /// Where the run begins, and the lengths of its times and values.
    fn put(&mut self, times: &[i64], values: &[f64]) -> Result<(u64, u32, u32), VfsError> {
        let (offset, start) = (self.len, self.buffer.len());
        codec::encode_timestamps(times, &mut self.buffer);
        let middle = self.buffer.len();
        codec::encode(values, &mut self.buffer);
        let end = self.buffer.len();
        self.len += (end - start) as u64;
        if end >= WRITE_BYTES {
            self.file.write_all(&self.buffer)?;
            self.buffer.clear();
        }
        Ok((offset, (middle - start) as u32, (end - middle) as u32))
    }

    fn finish(&mut self) -> Result<Mapped, VfsError> {
        self.file.write_all(&self.buffer)?;
        self.buffer = Vec::new();
        self.db.vfs.map_read(&self.folder.join("runs"))
    }

    fn get(&self, bytes: &[u8], run: &Run, times: &mut Vec<i64>, values: &mut Vec<f64>) -> Result<(), ReadError> {
        let corrupt = |what, found: String| {
            ReadError::corrupt(&self.folder.join("runs"), run.offset, what, format!("{} samples", run.n), found)
        };
        let start = usize::try_from(run.offset).unwrap_or(usize::MAX);
        let middle = start.saturating_add(run.times_len as usize);
        let end = middle.saturating_add(run.values_len as usize);
        let (Some(of_times), Some(of_values)) = (bytes.get(start..middle), bytes.get(middle..end)) else {
            return Err(corrupt("run of samples", format!("a file of {} bytes", bytes.len())));
        };
        codec::decode_timestamps(of_times, run.n as usize, times).map_err(|e| corrupt("times", e.to_string()))?;
        codec::decode(of_values, run.n as usize, values).map_err(|e| corrupt("values", e.to_string()))
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // What cannot be removed now is removed at the next open.
        let _ = self.db.vfs.remove_dir_all(&self.folder);
    }
}

#[cfg(test)]
mod tests;
