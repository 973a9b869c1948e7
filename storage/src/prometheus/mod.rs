//! Blocks of Prometheus' own format: read where they are, written on request, taken over into blocks of ours.
//!
//! They are the exchange format: Prometheus, promtool and Thanos read what [`export`] writes. Blocks that others wrote
//! are not changed but for what is deleted from them, and go by retention. All their bytes are hostile. Described in
//! `docs/format/prometheus.md`.

use std::path::PathBuf;

use promontory_model::{ReadError, TimeRange};

use crate::block::BlockError;
use crate::error::WriteError;
use crate::ulid::Ulid;
use crate::vfs::VfsError;

mod bits;
mod block;
mod chunks;
mod export;
mod file;
mod folder;
#[cfg(any(test, feature = "testing"))]
mod fuzz;
mod histogram;
mod import;
mod index;
mod json;
mod meta;
mod runs;
mod stream;
#[cfg(test)]
mod tests;
mod tombstones;
mod windows;
mod writer;
mod xor;

pub use export::{ExportOptions, Exported, export};
pub(crate) use folder::{look, remove_leftovers};
#[cfg(any(test, feature = "testing"))]
pub(crate) use fuzz::fuzz_block;
pub use import::{Imported, import};
pub use stream::{ChunkEncoder, ChunkEncoding, ChunkError, ChunkSamples, StreamedChunk, decode_chunk};

/// How far an export or import has come. Reported after every few thousand series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Part of the work that is done, between 0 and 1.
    pub done: f64,
    /// Samples read so far.
    pub n_samples: u64,
    /// Blocks that are finished.
    pub n_blocks: u64,
    /// Times that are worked on, ms.
    pub range: TimeRange,
}

/// Why Prometheus blocks could not be read, written or taken over.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PrometheusError {
    /// The operating system refused.
    #[error(transparent)]
    Vfs(#[from] VfsError),
    /// Stored bytes are not what was written, or the work was cancelled.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A block of ours could not be written.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// The database takes no new blocks.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A part of the database could not be read.
    #[error("read the database: {reason}")]
    Incomplete {
        /// What is left out, and why.
        reason: String,
    },
    /// The folder holds no block of Prometheus.
    #[error("read {}: no block of prometheus inside: a folder <ULID> with a file meta.json is expected", path.display())]
    NoBlocks {
        /// Folder that was searched.
        path: PathBuf,
    },
    /// The format cannot hold so much; export shorter blocks.
    #[error("write block {ulid}: {what} exceeds {limit}")]
    TooLarge {
        /// Block.
        ulid: Ulid,
        /// What is too large.
        what: &'static str,
        /// How large it may be.
        limit: u64,
    },
}
