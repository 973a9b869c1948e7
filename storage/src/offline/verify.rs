//! Reads all of a data folder and says what is not as it was written.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use promontory_model::{Cancel, Columns, ReadError, Select, TimeRange};

use super::ReadOnlyDb;
use crate::block::{self, BlockError, BlockMeta};
use crate::clock::Clock;
use crate::error::OpenError;
use crate::label_table::LabelTable;
use crate::recovery::BLOCKS_DIR;
use crate::source::{GroupColumns, Source};
use crate::vfs::{RealVfs, Vfs as _};

/// Columns that are read at once.
const COLUMNS_AT_ONCE: usize = 256;

/// What a check says as it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// A block is whole.
    Block(BlockMeta),
    /// A block of Prometheus is whole.
    ForeignBlock {
        /// Folder.
        path: PathBuf,
        /// Series.
        n_series: u64,
        /// Samples.
        n_samples: u64,
    },
    /// Manifest, log and head are read.
    Head {
        /// Series.
        n_series: u64,
        /// Samples that could be read.
        n_samples: u64,
    },
    /// Something is not as it was written: what, by file and offset.
    Damage(String),
    /// Something that is no damage, but worth knowing.
    Note(String),
}

/// Checks every file of the data folder `dir`: every CRC, order and reference; decodes every sample. Answers how many
/// damages there are; each is told, and what else is found. `progress` gets the part that is done, between 0 and 1.
///
/// Memory: that of a start, and the label pairs and widest group of one block.
///
/// # Errors
/// [`OpenError`] when there is no data or the system refuses. A cancelled check ends early and answers what it found.
pub fn verify(
    clock: Arc<dyn Clock>,
    dir: &Path,
    tell: &mut dyn FnMut(Finding),
    progress: &mut dyn FnMut(f64),
    cancel: &Cancel,
) -> Result<u64, OpenError> {
    super::expect_data(dir)?;
    let mut check = Check { tell, n_damages: 0, told: HashSet::new() };
    let db = match ReadOnlyDb::open(clock, dir) {
        Ok(db) => Some(db),
        Err(e @ (OpenError::Damaged { .. } | OpenError::Io(_))) => {
            check.damage(e.to_string());
            None
        }
        Err(e) => return Err(e),
    };
    let is_in_use = db.as_ref().is_some_and(ReadOnlyDb::is_in_use);
    let folders = blocks_of(dir)?;
    let total = folders.iter().map(|(_, bytes)| bytes).sum::<u64>().max(1) as f64;
    let mut behind = 0;
    for (path, bytes) in folders {
        if cancel.check().is_err() {
            return Ok(check.n_damages);
        }
        progress(behind as f64 / total);
        match block::verify(&RealVfs, &path) {
            Ok(report) => (check.tell)(Finding::Block(report.meta)),
            // The owner of the folder has merged it away.
            Err(BlockError::Vfs(e)) if is_in_use && e.is_not_found() => {}
            Err(e) => check.damage(e.to_string()),
        }
        behind += bytes;
    }
    if let Some(db) = &db {
        check.opened(db, dir, cancel);
    }
    progress(1.0);
    Ok(check.n_damages)
}

/// Folders of blocks of the own format, and the bytes of their files.
pub(super) fn blocks_of(dir: &Path) -> Result<Vec<(PathBuf, u64)>, OpenError> {
    let dir = dir.join(BLOCKS_DIR);
    if RealVfs.read_dir(&dir).is_err() {
        return Ok(Vec::new());
    }
    let listed = block::list(&RealVfs, &dir).map_err(|e| match e {
        BlockError::Vfs(e) => e,
        other => crate::vfs::VfsError::new("list blocks of", &dir, 0, std::io::Error::other(other.to_string())),
    })?;
    Ok(listed.into_iter().map(|l| (l.path, l.meta.map_or(1, |m| m.bytes()))).collect())
}

struct Check<'a> {
    tell: &'a mut dyn FnMut(Finding),
    n_damages: u64,
    /// A damage is met once for every series that is read over it.
    told: HashSet<String>,
}

impl Check<'_> {
    fn damage(&mut self, what: String) {
        if self.told.insert(what.clone()) {
            self.n_damages += 1;
            (self.tell)(Finding::Damage(what));
        }
    }

    /// What opening found, then everything in head and foreign blocks.
    fn opened(&mut self, db: &ReadOnlyDb, dir: &Path, cancel: &Cancel) {
        let recovery = db.recovery();
        let is_damaged = recovery.wal_corruptions + recovery.head_corruptions + recovery.wal_rows_lost > 0;
        for note in &recovery.notes {
            match is_damaged {
                true => self.damage(note.clone()),
                false => (self.tell)(Finding::Note(note.clone())),
            }
        }
        let own = dir.join(BLOCKS_DIR);
        for (path, why) in recovery.bad_blocks.iter().filter(|(path, _)| !Path::new(path).starts_with(&own)) {
            self.damage(format!("{path}: {why}"));
        }
        let snapshot = db.db().db_snapshot();
        for block in snapshot.blocks().iter().filter(|b| Arc::clone(b).native().is_none()) {
            let (n_damages, path) = (self.n_damages, block.path().to_owned());
            let (n_series, n_samples) = self.source(&**block, cancel);
            if self.n_damages == n_damages {
                (self.tell)(Finding::ForeignBlock { path, n_series, n_samples });
            }
        }
        let (n_series, n_samples) = self.source(snapshot.head(), cancel);
        (self.tell)(Finding::Head { n_series, n_samples });
    }

    /// Reads everything; answers series and samples that could be read.
    fn source(&mut self, source: &(impl Source + ?Sized), cancel: &Cancel) -> (u64, u64) {
        let select = Select { range: TimeRange::ALL, matchers: &[], cancel };
        let groups = match source.select(&select, &mut LabelTable::default()) {
            Ok(groups) => groups,
            Err(e) => {
                self.failed(&e);
                return (0, 0);
            }
        };
        let (mut n_series, mut n_samples) = (0, 0);
        let mut columns = Columns::default();
        for selected in groups {
            n_series += selected.series.len() as u64;
            for some in selected.series.chunks(COLUMNS_AT_ONCE) {
                if cancel.check().is_err() {
                    return (n_series, n_samples);
                }
                let numbers: Vec<u32> = some.iter().map(|s| s.column).collect();
                match selected.group.read(&numbers, TimeRange::ALL, &mut columns) {
                    Ok(()) => n_samples += n_samples_of(&columns),
                    Err(e) => self.failed(&e),
                }
            }
        }
        (n_series, n_samples)
    }

    fn failed(&mut self, e: &ReadError) {
        if !matches!(e, ReadError::Cancelled(_)) {
            self.damage(e.to_string());
        }
    }
}

pub(super) fn n_samples_of(columns: &Columns) -> u64 {
    let of_column = |i: usize| {
        let column = columns.column(i);
        (0..columns.n_rows()).filter(|row| column.is_present(*row)).count() + column.histograms.len()
    };
    (0..columns.n_columns()).map(of_column).sum::<usize>() as u64
}

/// Reads the part of a group that can be read, in pieces: calls `each` with every piece, `lost` with the times and the
/// reason of each that cannot.
pub(super) fn read_pieces<E>(
    group: &dyn GroupColumns,
    columns: &[u32],
    range: TimeRange,
    each: &mut dyn FnMut(&Columns) -> Result<(), E>,
    lost: &mut dyn FnMut(TimeRange, &ReadError),
) -> Result<(), E> {
    /// A damaged chunk holds minutes of samples; smaller pieces are not looked for.
    const PIECE_MS_MIN: i64 = 1000;
    let mut found = Columns::default();
    match group.read(columns, range, &mut found) {
        Ok(()) if found.n_rows() == 0 => Ok(()),
        Ok(()) => each(&found),
        Err(e) => {
            let (mint, maxt) = (range.mint.0, range.maxt.0);
            if maxt.saturating_sub(mint) < PIECE_MS_MIN {
                lost(range, &e);
                return Ok(());
            }
            let middle = mint.midpoint(maxt);
            read_pieces(group, columns, TimeRange::new(mint, middle), each, lost)?;
            read_pieces(group, columns, TimeRange::new(middle + 1, maxt), each, lost)
        }
    }
}
