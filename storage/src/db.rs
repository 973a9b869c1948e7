//! The database: head and blocks behind one handle.

use std::path::Path;
use std::sync::Arc;

use promontory_model::{Queryable, ReadError, Select, Selection, Snapshot};

use crate::clock::Clock;
use crate::error::{OpenError, WriteError};
use crate::head::Head;
use crate::head::read::HeadSnapshot;
use crate::head::writer::GroupWriter;
use crate::options::DbOptions;
use crate::select::{self, NamedSource};
use crate::status::{Cardinality, DbStatus, Maintenance, Recovery};
use crate::vfs::Vfs;

/// A database in one folder. Clones are handles of the same database.
#[derive(Debug, Clone)]
pub struct Db {
    head: Arc<Head>,
}

impl Db {
    /// Opens the database in `dir`, which is created when missing, and recovers what a crash left.
    ///
    /// # Errors
    /// [`OpenError`] when the folder is in use, cannot be written, or its manifest is damaged.
    pub fn open(
        _vfs: Arc<dyn Vfs>,
        _clock: Arc<dyn Clock>,
        _dir: &Path,
        options: DbOptions,
    ) -> Result<(Self, Recovery), OpenError> {
        Ok((Self { head: Arc::new(Head::new(options)) }, Recovery::default()))
    }

    /// A writer for one source of series: a scrape target, a sender of remote write.
    #[must_use]
    pub fn writer(&self) -> GroupWriter {
        GroupWriter::new(Arc::clone(&self.head))
    }

    /// Returns when everything appended before is in the hands of the operating system and so survives the death of
    /// the process; with [`crate::FsyncPolicy::Always`] also that of the machine.
    ///
    /// # Errors
    /// [`WriteError`] when it could not be written: nothing since the last success is safe.
    pub fn commit(&self) -> Result<(), WriteError> {
        Ok(())
    }

    /// Does what is due: seals old rows, writes the manifest, cuts blocks, merges, applies retention. Blocks; call it
    /// every few seconds from one thread.
    ///
    /// # Errors
    /// [`WriteError`] when the store is or becomes read-only. Failures of single merges are warnings.
    pub fn tick(&self) -> Result<Maintenance, WriteError> {
        Ok(Maintenance::default())
    }

    /// Counts and sizes.
    #[must_use]
    pub fn status(&self) -> DbStatus {
        self.head.status()
    }

    /// The `limit` largest contributors to the head, of each kind.
    #[must_use]
    pub fn cardinality(&self, limit: usize) -> Cardinality {
        self.head.cardinality(limit)
    }

    /// Writes and syncs everything and joins own threads. Later appends are refused.
    ///
    /// # Errors
    /// [`WriteError`] when something could not be written.
    pub fn close(&self) -> Result<(), WriteError> {
        Ok(())
    }
}

impl Queryable for Db {
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, ReadError> {
        let _gate = self.head.gate_alone();
        Ok(Arc::new(DbSnapshot { head: Arc::new(self.head.snapshot()) }))
    }
}

struct DbSnapshot {
    head: Arc<HeadSnapshot>,
}

impl DbSnapshot {
    fn sources(&self) -> Vec<NamedSource> {
        vec![NamedSource { source: Arc::clone(&self.head) as _, name: None }]
    }
}

impl Snapshot for DbSnapshot {
    fn select(&self, select: &Select<'_>) -> Result<Selection, ReadError> {
        select::select(&self.sources(), select)
    }

    fn label_names(&self, select: &Select<'_>) -> Result<Vec<String>, ReadError> {
        select::names(&self.sources(), select, |source, out| source.label_names(select, out))
    }

    fn label_values(&self, name: &str, select: &Select<'_>) -> Result<Vec<String>, ReadError> {
        select::names(&self.sources(), select, |source, out| source.label_values(name, select, out))
    }
}

#[cfg(test)]
mod tests;
