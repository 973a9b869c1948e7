//! The time series database: what is appended here is kept, compressed and found again.
//!
//! Synchronous: it knows no async runtime, YAML, PromQL or HTTP. All file access goes through [`vfs`], all time
//! through [`clock`]. Formats are described in `docs/format`.

mod analyze;
mod backfill;
pub mod block;
mod blocks;
mod canary;
mod changes;
pub mod clock;
pub mod codec;
pub mod compact;
mod db;
#[cfg(test)]
mod documented;
mod error;
mod exemplars;
mod feed;
#[cfg(any(test, feature = "testing"))]
pub mod fuzz;
mod head;
mod health;
mod histogram_column;
mod known;
mod label_table;
mod maintain;
mod manifest;
mod mapped;
mod metadata;
pub mod offline;
mod options;
pub mod prometheus;
mod recovery;
pub mod retention;
mod sample;
mod select;
mod source;
mod status;
mod tombstone;
pub mod ulid;
pub mod vfs;
mod wal;
mod wire;

pub use analyze::{Analysis, MetricUsage, NameUsage, PairUsage, PartUsage};
pub use backfill::{Backfill, BackfillError, BackfillSeries, Backfilled};
pub use blocks::{Matched, MergeStatus, SnapshotOf};
pub use db::Db;
pub use error::{AppendError, OpenError, WriteError};
pub use exemplars::{EXEMPLAR_LABEL_CHARS_MAX, Exemplar, ExemplarStatus, ExemplarsAppended, SeriesExemplars};
pub use feed::{Fed, FedBatch, FedSample, FedSeries, FedValue, Feed, FeedPosition};
pub use head::writer::{GroupWriter, SeriesRef, TimeBounds};
pub use options::{DbOptions, DbSettings, FsyncPolicy};
pub use status::{Appended, Cardinality, Count, DbStatus, HeadMemory, Maintenance, Recovery, Start, Timed};
