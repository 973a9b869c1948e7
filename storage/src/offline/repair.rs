//! Puts what is damaged aside and keeps what can still be read. Nothing is ever deleted.
//!
//! Damaged blocks move into the folder `quarantine` of the data folder. When head, log or manifest are damaged, what
//! can be read of them is written into a block first; then all of them move there as well, and the next start begins
//! with an empty head. A torn end of the log alone is cut, as every start does.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use promontory_model::histogram::HistogramSample;
use promontory_model::{Cancel, Columns, Labels, ReadError, Select, TimeRange};

use super::verify::{blocks_of, read_pieces};
use super::{ReadOnlyDb, options};
use crate::block::{self, BlockError, BlockMeta, BlockWriter, ColumnInput, GroupInput};
use crate::clock::Clock;
use crate::db::Db;
use crate::error::{OpenError, WriteError};
use crate::head::{segment, series_file};
use crate::label_table::LabelTable;
use crate::manifest::{self, Manifest};
use crate::recovery::{BLOCKS_DIR, HEAD_DIR, LOCK_FILE, WAL_DIR};
use crate::source::Source as _;
use crate::tombstone::{self, Tombstones};
use crate::ulid::Ulid;
use crate::vfs::{OverlayVfs, RealVfs, Vfs, VfsError};
use crate::wal;

/// Folder for what is damaged.
const QUARANTINE_DIR: &str = "quarantine";
/// Columns of a group that are read and written at once.
const COLUMNS_MAX: usize = 4096;

/// Why a folder could not be repaired.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RepairError {
    /// The folder cannot be opened: somebody uses it, or it holds no data.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The operating system refused.
    #[error(transparent)]
    Vfs(#[from] VfsError),
    /// What could be read could not be written.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// The work was cancelled.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The repaired folder could not be closed.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// What was done, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repair {
    /// Each damage, by file and offset.
    pub damages: Vec<String>,
    /// What was put aside: where it was, where it is.
    pub moved: Vec<(PathBuf, PathBuf)>,
    /// The block with what could be read of the head.
    pub rescued: Option<BlockMeta>,
    /// Times of series that could not be read, and why.
    pub lost: Vec<(TimeRange, String)>,
    /// Bytes that were torn off the end of the log or the head.
    pub torn_bytes: u64,
}

/// Repairs the data folder `dir`; with `is_dry` says only what it would do. `progress` gets the part that is done.
///
/// # Errors
/// [`RepairError`]; what was put aside by then is in the quarantine, and the repair can be run again.
pub fn repair(
    clock: &Arc<dyn Clock>,
    dir: &Path,
    is_dry: bool,
    progress: &mut dyn FnMut(f64),
    cancel: &Cancel,
) -> Result<Repair, RepairError> {
    super::expect_data(dir)?;
    let lock = RealVfs.lock(&dir.join(LOCK_FILE)).map_err(|e| {
        let is_held = e.source.kind() == std::io::ErrorKind::WouldBlock;
        if is_held { OpenError::Locked { dir: dir.to_owned() } } else { OpenError::Io(e) }
    })?;
    let mut work = Work { clock, dir, is_dry, done: Repair::default(), to: quarantine(clock, dir) };
    let blocks = blocks_of(dir)?;
    let total = blocks.iter().map(|(_, bytes)| bytes).sum::<u64>().max(1) as f64;
    let mut behind = 0;
    for (path, bytes) in blocks {
        cancel.check().map_err(ReadError::from)?;
        progress(behind as f64 / total);
        if let Err(e) = block::verify(&RealVfs, &path) {
            work.done.damages.push(e.to_string());
            work.put_aside(&path)?;
        }
        behind += bytes;
    }
    let is_whole = work.head(cancel)?;
    drop(lock);
    if is_whole && !is_dry {
        // Cuts what is torn.
        let (db, _) = Db::open(Arc::new(RealVfs), Arc::clone(clock), dir, options())?;
        db.close()?;
    }
    progress(1.0);
    Ok(work.done)
}

/// Where the damaged files of this repair go.
fn quarantine(clock: &Arc<dyn Clock>, dir: &Path) -> PathBuf {
    let base = dir.join(QUARANTINE_DIR);
    let ms = u64::try_from(clock.now().0).unwrap_or(0);
    let free = (0u128..).map(|n| base.join(Ulid::new(ms, n).to_string())).find(|p| RealVfs.read_dir(p).is_err());
    free.unwrap_or(base)
}

/// Takes samples of series that share their times.
type Each<'a> = dyn FnMut(&Columns, &[&Labels]) -> Result<(), BlockError> + 'a;

struct Work<'a> {
    clock: &'a Arc<dyn Clock>,
    dir: &'a Path,
    is_dry: bool,
    done: Repair,
    to: PathBuf,
}

impl Work<'_> {
    fn put_aside(&mut self, path: &Path) -> Result<(), VfsError> {
        let to = self.to.join(path.file_name().unwrap_or_default());
        if !self.is_dry {
            RealVfs.create_dir_all(&self.to)?;
            RealVfs.rename(path, &to)?;
            // The new name before the old one's end: a crash may leave both, never none.
            for folder in [Some(self.to.as_path()), self.to.parent(), path.parent()].into_iter().flatten() {
                RealVfs.sync_dir(folder)?;
            }
        }
        self.done.moved.push((path.to_owned(), to));
        Ok(())
    }

    /// Answers whether log, head and manifest are whole. If not, rescues what can be read and puts them aside.
    fn head(&mut self, cancel: &Cancel) -> Result<bool, RepairError> {
        let n_damages = self.done.damages.len();
        let db = self.open(&OverlayVfs::new())?;
        let recovery = db.recovery();
        if recovery.wal_corruptions + recovery.head_corruptions + recovery.wal_rows_lost > 0 {
            self.done.damages.extend(recovery.notes.iter().cloned());
        }
        self.done.torn_bytes = recovery.wal_torn_bytes + recovery.head_torn_bytes;
        self.read(&db, &mut |_, _| Ok(()), cancel)?;
        if self.done.damages.len() == n_damages && self.done.lost.is_empty() {
            return Ok(true);
        }
        if !self.is_dry {
            self.rescue(&db, cancel)?;
        }
        drop(db);
        for name in [WAL_DIR, HEAD_DIR, manifest::NAME] {
            let path = self.dir.join(name);
            if RealVfs.read_dir(&path).is_ok() || RealVfs.open_read(&path).is_ok() {
                self.put_aside(&path)?;
            }
        }
        Ok(false)
    }

    /// Opens the folder in memory, with what it takes to get past damaged files that everything else depends on.
    fn open(&mut self, overlay: &OverlayVfs) -> Result<ReadOnlyDb, RepairError> {
        let head = self.dir.join(HEAD_DIR);
        if let Err(e) = Tombstones::load(overlay, &head) {
            self.done.damages.push(format!("{e}; samples of the head that were deleted come back"));
            overlay.remove_file(&head.join(tombstone::NAME))?;
        }
        match ReadOnlyDb::over(overlay, Arc::clone(self.clock), self.dir) {
            Err(e @ OpenError::Damaged { .. }) => {
                self.done.damages.push(e.to_string());
                guess_manifest(overlay, self.dir)?.store(overlay, self.dir)?;
                Ok(ReadOnlyDb::over(overlay, Arc::clone(self.clock), self.dir)?)
            }
            result => Ok(result?),
        }
    }

    /// Writes what can be read of the head into a block.
    fn rescue(&mut self, db: &ReadOnlyDb, cancel: &Cancel) -> Result<(), RepairError> {
        let blocks = self.dir.join(BLOCKS_DIR);
        RealVfs.create_dir_all(&blocks)?;
        let mut writer = BlockWriter::new(Arc::new(RealVfs), &blocks, db.db().inner().new_ulid(), 1)?;
        self.read(db, &mut |columns, labels| add_group(&mut writer, columns, labels), cancel)?;
        if writer.n_samples() > 0 {
            self.done.rescued = Some(writer.finish()?);
        }
        Ok(())
    }

    /// Calls `each` with all that can be read of the head, and notes what cannot.
    fn read(&mut self, db: &ReadOnlyDb, each: &mut Each<'_>, cancel: &Cancel) -> Result<(), RepairError> {
        let snapshot = db.db().db_snapshot();
        let head = snapshot.head();
        let mut lost: Vec<(TimeRange, String)> = Vec::new();
        let mut table = LabelTable::default();
        for selected in head.select(&Select { range: TimeRange::ALL, matchers: &[], cancel }, &mut table)? {
            for some in selected.series.chunks(COLUMNS_MAX) {
                cancel.check().map_err(ReadError::from)?;
                let numbers: Vec<u32> = some.iter().map(|s| s.column).collect();
                let labels: Vec<Labels> = some.iter().map(|s| table.labels(s.set)).collect();
                let labels: Vec<&Labels> = labels.iter().collect();
                let mut lose = |range: TimeRange, e: &ReadError| match lost.last_mut() {
                    Some((last, why)) if *why == e.to_string() && last.maxt.0.saturating_add(1) >= range.mint.0 => {
                        last.maxt = last.maxt.max(range.maxt);
                    }
                    _ => lost.push((range, e.to_string())),
                };
                read_pieces(&*selected.group, &numbers, head.range(), &mut |c| each(c, &labels), &mut lose)?;
            }
        }
        self.done.lost = lost;
        Ok(())
    }
}

fn add_group(writer: &mut BlockWriter, columns: &Columns, labels: &[&Labels]) -> Result<(), BlockError> {
    let histograms: Vec<Vec<(usize, HistogramSample)>> =
        (0..labels.len()).map(|i| columns.column(i).histogram_samples().collect()).collect();
    let inputs: Vec<ColumnInput<'_>> = labels
        .iter()
        .enumerate()
        .map(|(i, labels)| {
            let column = columns.column(i);
            ColumnInput {
                labels: (*labels).clone(),
                values: column.values,
                presence: column.presence,
                histograms: &histograms[i],
            }
        })
        .collect();
    writer.add_group(&GroupInput { timestamps: columns.timestamps(), columns: &inputs })
}

/// A manifest that names every file that is there, whole. What the true one did not name is either in the log as well
/// or torn, and is told apart by its checksums; samples that blocks have already come a second time and equal.
fn guess_manifest(vfs: &dyn Vfs, dir: &Path) -> Result<Manifest, VfsError> {
    let mut out = Manifest::default();
    for entry in vfs.read_dir(&dir.join(HEAD_DIR))? {
        if let Some(id) = segment::segment_of(&entry.name) {
            out.segments.push((id, entry.len));
            out.next_segment = out.next_segment.max(id.saturating_add(1));
        }
        if let Some(id) = series_file::file_of(&entry.name).filter(|id| *id > out.series.0) {
            out.series = (id, entry.len);
        }
    }
    let logs = vfs.read_dir(&dir.join(WAL_DIR))?;
    out.wal_from = logs.iter().filter_map(|e| wal::segment_of(&e.name)).min().unwrap_or(0);
    Ok(out)
}
