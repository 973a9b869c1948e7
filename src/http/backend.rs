//! What the API asks of the rest of the server, as plain values.

use std::collections::BTreeMap;

use promontory_model::{Cancel, Labels, Matcher, MetricMetadata, ReadError, TimeRange};
use promontory_promql::engine::EngineOptions;

use super::features::Features;

/// The rest of the server.
///
/// Methods may block for a short time (a lock, not a disk), but for [`Backend::reload`], which runs on a thread of its
/// own.
pub trait Backend: Send + Sync {
    /// Whether requests that need data can be answered.
    fn readiness(&self) -> Readiness;

    /// Targets of all jobs.
    fn targets(&self) -> Targets;

    /// Names of all jobs, sorted.
    fn scrape_pools(&self) -> Vec<String>;

    /// The effective configuration of a job as YAML, secrets masked; `None` if there is no such job.
    fn scrape_pool_yaml(&self, pool: &str) -> Option<String>;

    /// What each relabelling rule of a job's targets makes of `labels`; `None` if there is no such job.
    fn relabel_steps(&self, pool: &str, labels: &Labels) -> Option<Vec<RelabelStep>>;

    /// What targets say of their metrics, by metric name; each entry once per metric.
    fn metadata(&self) -> BTreeMap<String, Vec<MetricMetadata>>;

    /// What each active target says of its metrics.
    fn targets_metadata(&self) -> Vec<TargetMetadata>;

    /// Labels by which this server is known elsewhere.
    fn external_labels(&self) -> Labels;

    /// Exemplars inside `range` of the series that pass all matchers of one of `selectors`, by labels.
    fn exemplars(&self, selectors: &[Vec<Matcher>], range: TimeRange) -> Vec<SeriesExemplars>;

    /// The effective configuration as YAML, secrets masked.
    fn config_yaml(&self) -> String;

    /// Effective values of the command line's flags.
    fn flags(&self) -> BTreeMap<String, String>;

    /// Version and origin of the program.
    fn build_info(&self) -> BuildInfo;

    /// State of the process.
    fn runtime_info(&self) -> RuntimeInfo;

    /// Size and cardinality of the head, at most `limit` entries per list.
    fn tsdb(&self, limit: usize) -> TsdbStatus;

    /// All blocks, oldest first.
    fn blocks(&self) -> Vec<BlockInfo>;

    /// The server's own metrics as messages `MetricFamily` in the JSON of protocol buffers, by name.
    fn self_metrics(&self) -> Vec<(String, serde_json::Value)>;

    /// What of the server beyond queries is there.
    fn features(&self) -> Features;

    /// What somebody should know now.
    fn notifications(&self) -> Vec<Notification>;

    /// Reads the configuration anew; the old one stays when the new one is wrong.
    ///
    /// # Errors
    /// What is wrong, for the person who asked.
    fn reload(&self) -> Result<(), String>;

    /// Begins to stop the server. Answers whether this is the first time.
    fn quit(&self) -> bool;

    /// How queries are evaluated; the step of subqueries changes with the configuration.
    fn engine_options(&self) -> EngineOptions;

    /// A query was asked, and from now on waits or runs until [`Backend::query_ended`].
    fn query_began(&self);

    /// A query ended, in whichever way.
    fn query_ended(&self, cost: QueryCost);

    /// Whether queries are logged, by [`Backend::log_query`].
    fn logs_queries(&self) -> bool;

    /// Adds a line to the log of queries.
    fn log_query(&self, line: &serde_json::Value);

    /// A federation ended: whether it failed, and with how many warnings.
    fn federated(&self, has_failed: bool, n_warnings: usize);

    /// Content type and text of the server's own metrics for a client that sent `accept`.
    fn metrics(&self, accept: &str) -> (&'static str, String);
}

/// What changes stored samples on request. Methods block for as long as their work takes; failures are told to the
/// person who asked.
pub trait Admin: Send + Sync {
    /// Deletes the samples inside `range` of the series that pass all matchers of one of the selectors.
    ///
    /// # Errors
    /// Why it failed; some of the samples may be deleted.
    fn delete_series(&self, selectors: &[Vec<Matcher>], range: TimeRange) -> Result<(), String>;

    /// How many series and samples [`Admin::delete_series`] would delete.
    ///
    /// # Errors
    /// [`ReadError`] when they cannot be read.
    fn count_series(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        cancel: &Cancel,
    ) -> Result<(u64, u64), ReadError>;

    /// Gives back the space of deleted samples in blocks.
    ///
    /// # Errors
    /// Why it failed.
    fn clean_tombstones(&self) -> Result<(), String>;

    /// Makes a snapshot, of the blocks alone on request, and gives its name.
    ///
    /// # Errors
    /// Why it failed; there is none then.
    fn snapshot(&self, skip_head: bool) -> Result<String, String>;
}

/// A block of samples on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockInfo {
    /// Name of its folder.
    pub ulid: String,
    /// Oldest sample, ms.
    pub min_ms: i64,
    /// Newest sample, ms.
    pub max_ms: i64,
    /// Samples.
    pub samples: u64,
    /// Series.
    pub series: u64,
    /// Runs of samples of one series.
    pub chunks: u64,
    /// How often its samples have been merged.
    pub level: u64,
    /// Blocks that it was made of.
    pub sources: Vec<String>,
}

/// Something that somebody should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// What.
    pub text: String,
    /// Since when, ms.
    pub since_ms: i64,
}

/// Exemplars of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesExemplars {
    /// Labels of the series.
    pub labels: Labels,
    /// Ascending in time.
    pub exemplars: Vec<Exemplar>,
}

/// An observation and what is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    /// What is known of it.
    pub labels: Labels,
    /// What was observed.
    pub value: f64,
    /// When, in ms.
    pub t_ms: i64,
}

/// What a query took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QueryCost {
    /// Time that it waited for a place among those that run.
    pub queue_seconds: f64,
    /// Time that it ran.
    pub run_seconds: f64,
    /// Stored samples that it read; zero where it failed.
    pub samples_read: u64,
}

/// Whether the server can answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It can.
    Ready,
    /// Data is still being read.
    Starting,
    /// It answers queries, but new samples are lost for this reason.
    ReadOnly(String),
    /// It is stopping.
    Stopping,
}

/// Targets of all jobs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Targets {
    /// Targets that are scraped.
    pub active: Vec<ActiveTarget>,
    /// Targets that relabelling dropped, as many as are remembered.
    pub dropped: Vec<DroppedTarget>,
    /// How many targets relabelling dropped, by job.
    pub dropped_counts: BTreeMap<String, u64>,
}

/// A target that is scraped.
#[derive(Debug, Clone, PartialEq)]
pub struct ActiveTarget {
    /// Before relabelling.
    pub discovered_labels: Labels,
    /// After relabelling, without those that begin with `__`.
    pub labels: Labels,
    /// Job.
    pub scrape_pool: String,
    /// What is fetched.
    pub scrape_url: String,
    /// The same as seen from elsewhere.
    pub global_url: String,
    /// Why the last scrape failed; empty if it did not.
    pub last_error: String,
    /// When the last scrape began, ms; `None` before the first.
    pub last_scrape_ms: Option<i64>,
    /// How long it took.
    pub last_scrape_seconds: f64,
    /// How it went.
    pub health: Health,
    /// Time between scrapes.
    pub scrape_interval: String,
    /// Time that one may take.
    pub scrape_timeout: String,
}

/// What a target says of its metrics.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TargetMetadata {
    /// Labels of the target, without those that begin with `__`.
    pub labels: Labels,
    /// By metric family.
    pub families: Vec<(String, MetricMetadata)>,
}

/// A relabelling rule and what it left.
#[derive(Debug, Clone, PartialEq)]
pub struct RelabelStep {
    /// The rule's fields by their names in JSON; those at their default without a value are left out.
    pub rule: serde_json::Value,
    /// Labels after it; `None` if it or one before it dropped them.
    pub output: Option<Labels>,
}

/// A target that relabelling dropped.
#[derive(Debug, Clone, PartialEq)]
pub struct DroppedTarget {
    /// Before relabelling.
    pub discovered_labels: Labels,
    /// Job.
    pub scrape_pool: String,
}

/// How the last scrape went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It succeeded.
    Up,
    /// It failed.
    Down,
    /// There was none yet.
    Unknown,
}

impl Health {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Unknown => "unknown",
        }
    }
}

/// Version and origin of the program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildInfo {
    /// Version; Grafana decides by it what it may ask for.
    pub version: String,
    /// Commit.
    pub revision: String,
    /// Branch.
    pub branch: String,
    /// Who built it.
    pub build_user: String,
    /// When it was built.
    pub build_date: String,
    /// Version of the compiler; Prometheus calls the field `goVersion`.
    pub compiler: String,
}

/// State of the process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuntimeInfo {
    /// When the process started, ms.
    pub start_ms: i64,
    /// Working directory.
    pub cwd: String,
    /// Name of the machine.
    pub hostname: String,
    /// Whether the last reload succeeded.
    pub reload_config_success: bool,
    /// When the configuration was last read with success, ms.
    pub last_config_ms: i64,
    /// Corruptions found in the write-ahead log.
    pub corruption_count: u64,
    /// The segment of the write-ahead log that is written.
    pub wal_segment: u64,
    /// Tasks and threads that exist; Prometheus calls the field `goroutineCount`.
    pub task_count: u64,
    /// Threads that compute at once; Prometheus calls the field `GOMAXPROCS`.
    pub parallelism: u64,
    /// Bytes of memory that the process may use.
    pub memory_limit_bytes: u64,
    /// How long and how much is kept, `15d or 10GiB`.
    pub storage_retention: String,
}

/// Size and cardinality of the head.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TsdbStatus {
    /// Series.
    pub num_series: u64,
    /// Distinct pairs of label and value.
    pub num_label_pairs: u64,
    /// Chunks, or what stands for them.
    pub chunk_count: u64,
    /// Oldest sample, ms.
    pub min_time_ms: i64,
    /// Newest sample, ms.
    pub max_time_ms: i64,
    /// Series by metric name, largest first, as all lists here.
    pub series_by_metric: Vec<(String, u64)>,
    /// Distinct values by label name.
    pub values_by_label: Vec<(String, u64)>,
    /// Bytes of values by label name.
    pub bytes_by_label: Vec<(String, u64)>,
    /// Series by `name=value`.
    pub series_by_pair: Vec<(String, u64)>,
}
