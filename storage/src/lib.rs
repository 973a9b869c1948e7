//! The time series database: what is appended here is kept, compressed and found again.
//!
//! Synchronous: it knows no async runtime, YAML, PromQL or HTTP. All file access goes through [`vfs`], all time
//! through [`clock`]. Formats are described in `docs/format`.

pub mod block;
pub mod clock;
pub mod codec;
pub mod compact;
mod db;
mod error;
#[allow(dead_code, reason = "recovery is being put on top")]
mod head;
#[allow(dead_code, reason = "recovery is being put on top")]
mod manifest;
mod mapped;
mod options;
pub mod retention;
mod select;
mod source;
mod status;
pub mod ulid;
pub mod vfs;
#[allow(dead_code, reason = "recovery is being put on top")]
mod wal;
#[allow(dead_code, reason = "the formats are being put on top")]
mod wire;

pub use db::Db;
pub use error::{AppendError, OpenError, WriteError};
pub use head::writer::{GroupWriter, SeriesRef};
pub use options::{DbOptions, FsyncPolicy};
pub use status::{Appended, Cardinality, Count, DbStatus, Maintenance, Recovery};
