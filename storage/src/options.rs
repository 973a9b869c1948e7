//! How a database behaves; every limit has a name here.

/// When bytes that were handed to the operating system are made durable against power loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FsyncPolicy {
    /// At most this many ms after they were written.
    Interval(u64),
    /// Before [`crate::Db::commit`] returns.
    Always,
    /// Left to the operating system; files that are published (blocks, manifest) are synced all the same.
    Never,
}

/// Options of a database.
#[derive(Debug, Clone)]
pub struct DbOptions {
    /// Length of the blocks that are cut from the head, ms; blocks begin at multiples of it.
    pub block_ms: i64,
    /// Blocks whose samples are all older than the newest block by this many ms are removed.
    pub retention_ms: Option<i64>,
    /// Blocks are removed, oldest first, until all files take at most this many bytes.
    pub retention_bytes: Option<u64>,
    /// Blocks are removed, oldest first, until all files take at most this percentage of the file system; goes before
    /// [`DbOptions::retention_bytes`].
    pub retention_percent: Option<f64>,
    /// Bytes per second that a merge of blocks works through, reading and checking counted alike; `None` is without
    /// limit.
    pub compaction_rate: Option<u64>,
    /// How far behind the newest sample of the head an out-of-order sample may lie, ms; 0 refuses them.
    pub out_of_order_window_ms: i64,
    /// When written bytes are synced.
    pub fsync: FsyncPolicy,
    /// How often the committer writes what was appended, ms. `None` starts no thread: bytes are written by
    /// [`crate::Db::commit`] and [`crate::Db::tick`] alone.
    pub commit_interval_ms: Option<u64>,
    /// Rows after which a group is sealed, or up to 256 while few of its series have two samples in them.
    pub rows_max: usize,
    /// Values that are written anew at most for one late sample, so that it fills its open row; where there are more, it
    /// is kept apart.
    pub patch_values_max: usize,
    /// Age in ms of a group's oldest open row after which [`crate::Db::tick`] seals it.
    pub seal_age_ms: i64,
    /// Least time in ms between two manifests.
    pub checkpoint_ms: i64,
    /// Columns after which a group is full and the next series begins another.
    pub columns_max: u32,
    /// Bytes after which a segment of the WAL is full.
    pub wal_segment_bytes: u64,
    /// Bytes after which a head segment is full.
    pub head_segment_bytes: u64,
    /// Bytes of one label set, names and values together.
    pub labels_bytes_max: usize,
    /// Exemplars that are kept, those of all series together, the newest ones; 0 keeps none.
    pub exemplars_max: usize,
    /// Bytes of the disk that samples leave free, so that merges, deletions and retention can still write what frees
    /// more; at most a twentieth of the disk.
    pub reserve_bytes: u64,
}

/// What of [`DbOptions`] may change while the database is open.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DbSettings {
    /// [`DbOptions::retention_ms`]
    pub retention_ms: Option<i64>,
    /// [`DbOptions::retention_bytes`]
    pub retention_bytes: Option<u64>,
    /// [`DbOptions::retention_percent`]
    pub retention_percent: Option<f64>,
    /// [`DbOptions::compaction_rate`]
    pub compaction_rate: Option<u64>,
    /// [`DbOptions::out_of_order_window_ms`]
    pub out_of_order_window_ms: i64,
    /// [`DbOptions::exemplars_max`]
    pub exemplars_max: usize,
}

impl DbOptions {
    /// The part that may change.
    #[must_use]
    pub fn settings(&self) -> DbSettings {
        DbSettings {
            retention_ms: self.retention_ms,
            retention_bytes: self.retention_bytes,
            retention_percent: self.retention_percent,
            compaction_rate: self.compaction_rate,
            out_of_order_window_ms: self.out_of_order_window_ms,
            exemplars_max: self.exemplars_max,
        }
    }

    /// These options with another changeable part.
    #[must_use]
    pub fn with(self, settings: DbSettings) -> Self {
        let DbSettings {
            retention_ms,
            retention_bytes,
            retention_percent,
            compaction_rate,
            out_of_order_window_ms,
            exemplars_max,
        } = settings;
        Self {
            retention_ms,
            retention_bytes,
            retention_percent,
            compaction_rate,
            out_of_order_window_ms,
            exemplars_max,
            ..self
        }
    }

    /// The behaviour of a server that was told nothing: 2-hour blocks, 15 days of retention, a window of 30 minutes
    /// for out-of-order samples, a sync each second.
    #[must_use]
    pub fn server() -> Self {
        Self {
            block_ms: 2 * 3_600_000,
            retention_ms: Some(15 * 24 * 3_600_000),
            retention_bytes: None,
            retention_percent: None,
            compaction_rate: Some(64 << 20),
            out_of_order_window_ms: 30 * 60_000,
            fsync: FsyncPolicy::Interval(1000),
            commit_interval_ms: Some(100),
            rows_max: 16,
            patch_values_max: 4096,
            seal_age_ms: 5 * 60_000,
            checkpoint_ms: 60_000,
            columns_max: 4096,
            wal_segment_bytes: 64 << 20,
            head_segment_bytes: 64 << 20,
            labels_bytes_max: 64 << 10,
            exemplars_max: 100_000,
            reserve_bytes: 64 << 20,
        }
    }
}
