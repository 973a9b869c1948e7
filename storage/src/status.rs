//! What a database says about itself.

use crate::blocks::MergeStatus;
use crate::exemplars::ExemplarStatus;

/// What an append did with each of its samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Appended {
    /// Stored, or already there with the same bits.
    pub accepted: u64,
    /// How many of those accepted are native histograms.
    pub histograms: u64,
    /// Another value is stored at that time.
    pub duplicates: u64,
    /// Older than the series' newest sample, and out-of-order samples are refused.
    pub out_of_order: u64,
    /// Older than what the head takes in.
    pub out_of_bounds: u64,
    /// Older than the out-of-order window.
    pub too_old: u64,
}

impl Appended {
    /// Adds the counts of another append.
    pub fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.histograms += other.histograms;
        self.duplicates += other.duplicates;
        self.out_of_order += other.out_of_order;
        self.out_of_bounds += other.out_of_bounds;
        self.too_old += other.too_old;
    }

    /// Samples that were not stored.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.duplicates + self.out_of_order + self.out_of_bounds + self.too_old
    }
}

/// What opening a database found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Series known after recovery.
    pub series: u64,
    /// Rows taken from the WAL.
    pub wal_rows: u64,
    /// Segments of the WAL that were read.
    pub wal_segments: u64,
    /// Bytes cut from the end of the last segment: what a crash left half written.
    pub wal_torn_bytes: u64,
    /// Damaged places inside the WAL that were skipped.
    pub wal_corruptions: u64,
    /// Rows that could not be taken over because a record they depend on is damaged.
    pub wal_rows_lost: u64,
    /// Bytes of head segments beyond the manifest that were cut; the WAL holds their rows.
    pub head_torn_bytes: u64,
    /// Sealed parts of head segments whose description is damaged and that were left out.
    pub head_corruptions: u64,
    /// Blocks that could not be opened: folder and reason.
    pub bad_blocks: Vec<(String, String)>,
    /// Each damage in words, for the log.
    pub notes: Vec<String>,
}

/// What [`crate::Db::tick`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Maintenance {
    /// Groups sealed by age.
    pub groups_sealed: u64,
    /// Whether a manifest was written.
    pub checkpointed: bool,
    /// Blocks cut from the head.
    pub blocks_cut: u64,
    /// Blocks removed by retention.
    pub blocks_removed: u64,
    /// Series dropped from the head.
    pub series_removed: u64,
    /// Failures that do not stop the store, in words: a block that could not be cut, say.
    pub warnings: Vec<String>,
}

/// Bytes of anonymous memory that the head takes, by part: what is allocated, filled or not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HeadMemory {
    /// Interned label names and values.
    pub strings: u64,
    /// Label pairs and the pairs of each label name.
    pub pairs: u64,
    /// The pairs of each series and its place.
    pub series: u64,
    /// The table that finds series by labels.
    pub table: u64,
    /// The series of each pair.
    pub postings: u64,
    /// Groups and their columns.
    pub groups: u64,
    /// Rows that are not sealed.
    pub open_rows: u64,
    /// Late samples that are not sealed.
    pub late: u64,
    /// Native histograms that are not sealed.
    pub histograms: u64,
    /// What is known of each sealed chunk; the samples are mapped.
    pub chunks: u64,
    /// References that writers hold.
    pub writers: u64,
    /// Records on their way to the WAL.
    pub log: u64,
}

impl HeadMemory {
    /// Every part with its name.
    #[must_use]
    pub fn parts(&self) -> [(&'static str, u64); 12] {
        [
            ("strings", self.strings),
            ("pairs", self.pairs),
            ("series", self.series),
            ("table", self.table),
            ("postings", self.postings),
            ("groups", self.groups),
            ("open_rows", self.open_rows),
            ("late", self.late),
            ("histograms", self.histograms),
            ("chunks", self.chunks),
            ("writers", self.writers),
            ("log", self.log),
        ]
    }
}

/// Counts and sizes of a database.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DbStatus {
    /// Why nothing can be written, if so.
    pub read_only: Option<String>,
    /// Series of the head.
    pub head_series: u64,
    /// Groups of the head.
    pub head_groups: u64,
    /// Sealed columns of the head.
    pub head_chunks: u64,
    /// Samples stored since the start.
    pub samples_appended: u64,
    /// Series created since the start.
    pub series_created: u64,
    /// Series dropped from the head since the start.
    pub series_removed: u64,
    /// Oldest sample of the head, ms.
    pub head_min_time: Option<i64>,
    /// Newest sample of the head, ms.
    pub head_max_time: Option<i64>,
    /// Oldest sample of head and blocks, ms.
    pub lowest_timestamp: Option<i64>,
    /// Bytes of the interned strings.
    pub symbol_bytes: u64,
    /// Exemplars.
    pub exemplars: ExemplarStatus,
    /// Bytes of memory of the head.
    pub head_memory: HeadMemory,
    /// Bytes of the head segments.
    pub head_segment_bytes: u64,
    /// Bytes of the WAL.
    pub wal_bytes: u64,
    /// Number of the segment that is written.
    pub wal_segment: u64,
    /// Syncs of the WAL since the start.
    pub wal_fsyncs: u64,
    /// Time spent in them, ns.
    pub wal_fsync_ns: u64,
    /// Bytes written to the WAL since the start.
    pub wal_written_bytes: u64,
    /// What opening took and found.
    pub start: Start,
    /// Writes or syncs of the WAL that failed since the start.
    pub wal_failures: u64,
    /// Checkpoints since the start.
    pub checkpoints: u64,
    /// Checkpoints that failed since the start; at most one, for the store is read-only then, but for a full disk.
    pub checkpoints_failed: u64,
    /// Truncations of the head since the start.
    pub truncations: Timed,
    /// Samples refused as out of order since the start.
    pub out_of_order: u64,
    /// Samples refused as out of bounds since the start.
    pub out_of_bounds: u64,
    /// Samples refused as too old since the start.
    pub too_old: u64,
    /// Samples refused as duplicates since the start.
    pub duplicates: u64,
    /// Samples taken in out of order since the start.
    pub out_of_order_appended: u64,
    /// Blocks that answer queries.
    pub blocks_loaded: u64,
    /// Bytes of their files.
    pub blocks_bytes: u64,
    /// Merges since the start, and the running one.
    pub merging: MergeStatus,
    /// Blocks cut and merges done since the start.
    pub compactions: u64,
    /// Cuts and merges that failed since the start.
    pub compactions_failed: u64,
    /// Blocks removed by time since the start.
    pub time_retentions: u64,
    /// Blocks removed by size since the start.
    pub size_retentions: u64,
    /// How long samples are kept, ms.
    pub retention_ms: Option<i64>,
    /// How many bytes are kept.
    pub retention_bytes: Option<u64>,
    /// How much of the file system is kept, percent.
    pub retention_percent: Option<f64>,
    /// Searches for blocks that were put into the data folder or taken out of it, the first at the start included.
    pub searches: u64,
    /// Those that failed or found a block that cannot be read.
    pub searches_failed: u64,
    /// Cleanings of tombstones since the start.
    pub cleanings: Timed,
}

/// Something that is done now and then.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timed {
    /// How often since the start.
    pub n: u64,
    /// Time that all took, ns.
    pub ns: u64,
}

/// What opening a database took and found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Start {
    /// Time that it took, ns.
    pub ns: u64,
    /// Whether the database had been closed, so that the WAL held nothing of use.
    pub is_clean: bool,
    /// Damaged places in the WAL.
    pub wal_corruptions: u64,
    /// Damaged places in the head's files.
    pub head_corruptions: u64,
    /// Blocks that could not be opened.
    pub bad_blocks: u64,
}

impl DbStatus {
    /// Bytes of the WAL that a sample took since the start; 0 before the first.
    #[must_use]
    pub fn wal_bytes_per_sample(&self) -> f64 {
        self.wal_written_bytes as f64 / self.samples_appended.max(1) as f64
    }
}

/// A name with its count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// A metric, label or `name=value`.
    pub name: String,
    /// How many, or how many bytes.
    pub value: u64,
}

/// Largest contributors to the head, each list by descending count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cardinality {
    /// Series in the head.
    pub series: u64,
    /// Label pairs in the head.
    pub label_pairs: u64,
    /// Sealed columns in the head.
    pub chunks: u64,
    /// Oldest sample of the head, ms.
    pub min_time: Option<i64>,
    /// Newest sample of the head, ms.
    pub max_time: Option<i64>,
    /// Series per metric name.
    pub series_by_metric: Vec<Count>,
    /// Values per label name.
    pub values_by_label: Vec<Count>,
    /// Bytes of values per label name, each counted once per series that has it.
    pub bytes_by_label: Vec<Count>,
    /// Series per label pair.
    pub series_by_pair: Vec<Count>,
}
