//! What can go wrong when a database is opened or written.

use std::path::PathBuf;

use crate::vfs::VfsError;

/// Why a database could not be opened.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OpenError {
    /// The folder is in use.
    #[error("open {}: another process uses this data folder; stop it or choose another folder", dir.display())]
    Locked {
        /// Data folder.
        dir: PathBuf,
    },
    /// The folder holds no database.
    #[error("open {}: no data of promontory inside{}", dir.display(), foreign_remedy(*is_foreign))]
    NoData {
        /// Folder.
        dir: PathBuf,
        /// Whether it looks like Prometheus' data.
        is_foreign: bool,
    },
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] VfsError),
    /// A file that everything else depends on is damaged.
    #[error("open {}: {what}; restore the file, or move it away to start without the data it describes", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// A file was written by a later release.
    #[error("open {}: version {found} is newer than {known}, the newest this release reads", path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// Newest version that is understood.
        known: u32,
    },
}

fn foreign_remedy(is_foreign: bool) -> &'static str {
    if is_foreign {
        "; it looks like data of prometheus, whose blocks `promontory tsdb import --format prometheus` takes over"
    } else {
        "; give the folder that --storage.tsdb.path names"
    }
}

/// Why written samples are not safe, or maintenance did not finish.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    /// An earlier failure stopped all writing.
    #[error("storage is read-only: {reason}")]
    ReadOnly {
        /// The failure.
        reason: String,
    },
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] VfsError),
    /// Samples of the head could not be read back to write a block.
    #[error("read head: {0}")]
    Read(#[from] promontory_model::ReadError),
    /// A block could not be written or merged.
    #[error("{what}: {reason}")]
    Block {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        reason: String,
    },
}

/// Why samples or series were refused as a whole; single samples that break a rule are counted, not errors.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// An earlier failure stopped all writing.
    #[error("storage is read-only: {reason}")]
    ReadOnly {
        /// The failure.
        reason: String,
    },
    /// The reference was never given out by this writer, or was released. Nothing was appended.
    #[error("append to series {0}: unknown or released reference")]
    UnknownSeries(u32),
    /// A series needs a label.
    #[error("resolve series: empty label set")]
    EmptyLabels,
    /// A label set is too long.
    #[error("resolve series: label set takes {bytes} bytes, labels_bytes_max allows {allowed}")]
    LabelsTooLong {
        /// Bytes of its names and values.
        bytes: usize,
        /// What is allowed.
        allowed: usize,
    },
    /// Numbers of series or strings ran out; a restart frees those that are no longer used.
    #[error("resolve series: index of the head is full")]
    IndexFull,
}
