//! The command line: one table of flags and commands, from which parser, help and `/api/v1/status/flags` come.
//!
//! Flags take Prometheus' names, meanings and defaults; where ours differ, the help says so.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use promontory_config::print_bytes;
use promontory_model::Duration;

mod promql;
mod push;
mod query;
mod render;
mod tsdb;
mod without_effect;

pub use promql::{MatcherType, MatchersCommand, PromqlCommand};
pub use push::{PushArgs, PushCommand, PushMessage};
pub use query::{InstantArgs, LabelsArgs, QueryCommand, QueryOutput, RangeArgs, SeriesArgs, ServerArgs};
pub use render::{RenderArgs, RenderCommand, RenderFormat, RenderTheme};
pub use tsdb::{
    AnalyzeArgs, DumpArgs, ExchangeFormat, ExportArgs, ImportArgs, ListArgs, RepairArgs, SelectArgs, TextFormat,
    TsdbCommand, VerifyArgs,
};
pub use without_effect::WithoutEffect;

/// Metrics for model serving: scraper, time series database, PromQL and dashboards in one binary.
#[derive(Debug, Parser)]
#[command(
    name = "promontory",
    version,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    after_help = "Without a command, `serve` runs: it scrapes, stores, answers queries and shows dashboards on \
                  http://127.0.0.1:9090."
)]
pub struct Cli {
    /// What to do; `serve` when left out.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Flags of `serve`, which may stand without the word.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Scrape, store, answer queries and show dashboards (the default)
    Serve(Box<ServeArgs>),
    /// Like serve, with two small real model servers under load, so that every panel lives within a minute
    #[cfg(feature = "demo")]
    Demo(Box<DemoArgs>),
    /// Check a file without starting the server
    #[command(subcommand)]
    Check(CheckCommand),
    /// Run test scripts
    #[command(subcommand)]
    Test(TestCommand),
    /// Ask a server that has Prometheus' API
    #[command(subcommand)]
    Query(QueryCommand),
    /// Lay queries out, change their label matchers
    #[command(subcommand)]
    Promql(PromqlCommand),
    /// Send samples to a server by remote write
    #[command(subcommand)]
    Push(PushCommand),
    /// Draw a dashboard or a panel into a file: PNG, SVG, or HTML that needs no server
    #[command(subcommand)]
    Render(RenderCommand),
    /// Print what a shell needs to complete commands and flags
    #[command(after_help = "Example: promontory completions bash > /etc/bash_completion.d/promontory")]
    Completions {
        /// Shell
        shell: clap_complete::Shell,
    },
    /// Write man pages, one for each command
    #[command(after_help = "Example: promontory man /usr/local/share/man/man1")]
    Man {
        /// Folder for the pages; without it the page of all is printed
        folder: Option<PathBuf>,
    },
    /// Look into a data folder, check and repair it, take samples in and out
    #[command(subcommand)]
    Tsdb(TsdbCommand),
}

/// `promontory check …`.
#[derive(Debug, Subcommand)]
pub enum CheckCommand {
    /// Check configuration files; all errors at once, each with file, line and field
    Config {
        /// Files to check
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Check the files of --web.config.file: TLS, users, headers
    WebConfig {
        /// Files to check
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Ask the service discovery of a job for its targets and print them before and after relabelling, as JSON
    ServiceDiscovery(DiscoveryArgs),
    /// Check rule files: names, expressions, rules that are there twice
    Rules {
        /// Files to check
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Check an exposition on standard input: whether it can be read, and odd names (exit code 3)
    Metrics(MetricsArgs),
    /// Ask a server whether it is alive
    Healthy(ProbeArgs),
    /// Ask a server whether it answers queries
    Ready(ProbeArgs),
    /// Check Grafana dashboards: what of each panel is not drawn as its file says
    Dashboard {
        /// Files to check
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

/// Flags of `check metrics`.
#[derive(Debug, Args)]
pub struct MetricsArgs {
    /// Want OpenMetrics 1.0 to the letter instead of Prometheus text, and name each line that breaks a rule; a scrape is
    /// more lenient
    #[arg(long, conflicts_with_all = ["lint", "extended"])]
    pub strict: bool,
    /// Say how many series each metric has, most first
    #[arg(long)]
    pub extended: bool,
    /// Which odd names are told
    #[arg(long, value_name = "WHICH", value_enum, default_value_t = MetricsLint::All)]
    pub lint: MetricsLint,
}

/// Which odd names of metrics are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MetricsLint {
    /// All that are odd
    All,
    /// None: only whether it can be read
    None,
}

/// Flags of `check service-discovery`.
#[derive(Debug, Args)]
pub struct DiscoveryArgs {
    /// Configuration file
    pub config_file: PathBuf,
    /// Job in it
    pub job: String,
    /// Longest wait for all mechanisms of the job
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    pub timeout: Duration,
}

/// Flags of `check healthy` and `check ready`.
#[derive(Debug, Args)]
pub struct ProbeArgs {
    /// Address of the server
    #[arg(long, value_name = "URL", default_value = "http://localhost:9090")]
    pub url: String,
    /// Whom to ask
    #[command(flatten)]
    pub http: ServerArgs,
}

/// `promontory test …`.
#[derive(Debug, Subcommand)]
pub enum TestCommand {
    /// Run PromQL test scripts in the promqltest language
    Promql(TestPromqlArgs),
}

/// Flags of `test promql`.
#[derive(Debug, Args)]
pub struct TestPromqlArgs {
    /// Scripts, or folders with *.test files
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Which evaluator answers
    #[arg(long, value_enum, default_value_t = Evaluator::Engine)]
    pub evaluator: Evaluator,
    /// File with the number of evals per script that must pass; fewer is an error
    #[arg(long, value_name = "FILE")]
    pub floor: Option<PathBuf>,
    /// Print the table of files only, not each failure
    #[arg(long)]
    pub summary: bool,
}

/// The two evaluators of PromQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Evaluator {
    /// The columnar engine that serves queries.
    Engine,
    /// The plain step-by-step evaluator that the engine is compared with.
    Reference,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// key=value
    Logfmt,
    /// One JSON object a line
    Json,
}

/// Least severe level that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "the names say it")]
pub enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
}

/// When the write-ahead log is synced to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WalFsync {
    /// Once a second: a power loss takes at most the last second
    Interval,
    /// Before each acknowledgement
    Always,
    /// Left to the operating system, as Prometheus does between segments
    Never,
}

/// Flags of `serve`.
#[derive(Debug, Clone, Args)]
#[command(next_line_help = false)]
pub struct ServeArgs {
    /// Configuration file in Prometheus' format; without it Promontory scrapes itself
    #[arg(long = "config.file", value_name = "FILE")]
    pub config_file: Option<PathBuf>,
    /// Reload the configuration when its file, or one with jobs that it names, changes
    #[arg(long = "config.auto-reload")]
    pub config_auto_reload: bool,
    /// How often these files are looked at
    #[arg(long = "config.auto-reload-interval", value_name = "DURATION", default_value = "30s",
          value_parser = parse_duration)]
    pub config_auto_reload_interval: Duration,

    /// Address to listen on; may be repeated. Prometheus listens on all interfaces by default, we do not
    #[arg(long = "web.listen-address", value_name = "ADDRESS", default_value = "127.0.0.1:9090")]
    pub listen_addresses: Vec<String>,
    /// File with TLS, users and headers, in the format of Prometheus; looked at for each request
    #[arg(long = "web.config.file", value_name = "FILE")]
    pub web_config_file: Option<PathBuf>,
    /// Address under which browsers reach this server; pages lead to what is below its path
    #[arg(long = "web.external-url", value_name = "URL")]
    pub external_url: Option<String>,
    /// Path below which requests arrive, that of --web.external-url by default; / where a proxy takes it away
    #[arg(long = "web.route-prefix", value_name = "PATH")]
    pub route_prefix: Option<String>,
    /// Serve /-/reload and /-/quit
    #[arg(long = "web.enable-lifecycle")]
    pub enable_lifecycle: bool,
    /// Serve /api/v1/admin/tsdb and /api/v1/import: delete series, clean tombstones, make snapshots, import history
    #[arg(long = "web.enable-admin-api")]
    pub enable_admin_api: bool,
    /// Accept samples by remote write on /api/v1/write
    #[arg(long = "web.enable-remote-write-receiver")]
    pub enable_remote_write_receiver: bool,
    /// Accept metrics by OpenTelemetry's protocol on /api/v1/otlp/v1/metrics
    #[arg(long = "web.enable-otlp-receiver")]
    pub enable_otlp_receiver: bool,
    /// Accept samples as InfluxDB's lines on /write and /api/v2/write
    #[arg(long = "web.enable-influx-receiver")]
    pub enable_influx_receiver: bool,
    /// Accept pushed metrics under the Pushgateway's paths, /metrics/job/…
    #[arg(long = "web.enable-push")]
    pub enable_push: bool,
    /// How long pushed metrics are held when the push does not say; 0s is until they are deleted
    #[arg(long = "push.ttl", value_name = "DURATION", default_value = "1d", value_parser = parse_duration)]
    pub push_ttl: Duration,
    /// Origins that may read the API from a browser, a regular expression
    #[arg(long = "web.cors.origin", value_name = "REGEX", default_value = ".*")]
    pub cors_origin: String,
    /// Time that a client may take for the head of a request, and stay connected without one
    #[arg(long = "web.read-timeout", value_name = "DURATION", default_value = "5m", value_parser = parse_duration)]
    pub read_timeout: Duration,
    /// Connections served at once, over all addresses; beyond, idle ones make room, and where there are none new ones
    /// are refused
    #[arg(long = "web.max-connections", value_name = "N", default_value_t = 512,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: u32,
    /// Clients that may follow notifications at once
    #[arg(long = "web.max-notifications-subscribers", value_name = "N", default_value_t = 16)]
    pub max_notifications_subscribers: u32,
    /// Results of one search of names; 0 is without end
    #[arg(long = "web.search.max-limit", value_name = "N", default_value_t = 10_000)]
    pub search_results_max: u32,

    /// Folder of the data
    #[arg(long = "storage.tsdb.path", value_name = "FOLDER", default_value = "data")]
    pub storage_path: PathBuf,
    /// How long samples are kept [default: 15d when no size is set either]
    #[arg(long = "storage.tsdb.retention.time", value_name = "DURATION", value_parser = parse_duration)]
    pub retention_time: Option<Duration>,
    /// How many bytes of blocks are kept, like 512MB or 10GB; those of Prometheus in the folder count too
    #[arg(long = "storage.tsdb.retention.size", value_name = "SIZE", value_parser = parse_bytes)]
    pub retention_size: Option<u64>,
    /// Samples that arrive this much late are still taken; 0s turns that off
    #[arg(long = "storage.tsdb.out-of-order-time-window", value_name = "DURATION", default_value = "30m",
          value_parser = parse_duration)]
    pub out_of_order_window: Duration,
    /// When the write-ahead log is synced
    #[arg(long = "storage.tsdb.wal-fsync", value_enum, default_value_t = WalFsync::Interval)]
    pub wal_fsync: WalFsync,
    /// Bytes per second that merging blocks may read, write and check; 0 is without limit
    #[arg(long = "storage.tsdb.compaction-rate", value_name = "SIZE", default_value = "64MB", value_parser = parse_bytes)]
    pub compaction_rate: u64,

    /// Folder with Grafana dashboards (*.json); read again when files change, and written when one is saved
    #[arg(long = "dashboards.path", value_name = "FOLDER")]
    pub dashboards_path: Option<PathBuf>,
    /// Refuse to save, import and delete dashboards, by page and API alike
    #[arg(long = "dashboards.read-only")]
    pub dashboards_read_only: bool,

    /// How far an instant selector looks back for a sample
    #[arg(long = "query.lookback-delta", value_name = "DURATION", default_value = "5m", value_parser = parse_duration)]
    pub lookback_delta: Duration,
    /// Longest time a query may take
    #[arg(long = "query.timeout", value_name = "DURATION", default_value = "2m", value_parser = parse_duration)]
    pub query_timeout: Duration,
    /// Queries evaluated at once; more wait
    #[arg(long = "query.max-concurrency", value_name = "N", default_value_t = 20,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub query_max_concurrency: u32,
    /// Samples that one query may hold in memory
    #[arg(long = "query.max-samples", value_name = "N", default_value_t = 50_000_000)]
    pub query_max_samples: u64,
    /// Bytes that one query may hold in memory
    #[arg(long = "query.max-memory", value_name = "SIZE", default_value = "1GB", value_parser = parse_bytes)]
    pub query_max_memory: u64,
    /// Bytes that all queries may hold in memory together
    #[arg(long = "query.max-total-memory", value_name = "SIZE", default_value = "4GB", value_parser = parse_bytes)]
    pub query_max_total_memory: u64,
    /// Bytes of answers of range queries that are kept for the next refresh; 0 turns this off
    #[arg(long = "query.result-cache-size", value_name = "SIZE", default_value = "64MB", value_parser = parse_bytes)]
    pub query_result_cache_size: u64,

    /// Features that are off by default, with commas between: created-timestamp-zero-ingestion, otlp-deltatocumulative,
    /// otlp-native-delta-ingestion, search-api
    #[arg(long = "enable-feature", value_name = "NAMES", value_delimiter = ',')]
    pub enable_feature: Vec<String>,
    /// What Prometheus' other flags say.
    #[command(flatten)]
    pub without_effect: WithoutEffect,

    /// Least severe messages that are logged
    #[arg(long = "log.level", value_enum, default_value_t = LogLevel::Info)]
    pub log_level: LogLevel,
    /// How log lines look
    #[arg(long = "log.format", value_enum, default_value_t = LogFormat::Logfmt)]
    pub log_format: LogFormat,
}

/// Flags of `demo`.
#[cfg(feature = "demo")]
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Flags of the server; the configuration is the demo's own and the data goes to a fresh folder unless
    /// --storage.tsdb.path is given
    #[command(flatten)]
    pub serve: ServeArgs,
    /// Seed of the load and the models
    #[arg(long = "demo.seed", value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    Duration::parse(text).map_err(|e| e.to_string())
}

/// Reads `512MB`, `10GB`, `1KiB`, `100`: units of 1,024 as in Prometheus.
fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim_end_matches('B').trim_end_matches('i') {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        "P" => 50,
        "E" => 60,
        _ => return Err(format!("unknown unit {unit:?}, expected one of B, KB, MB, GB, TB, PB, EB")),
    };
    let number: u64 = number.parse().map_err(|_| format!("expected a number with a unit like 512MB, got {text:?}"))?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("{text} is more than 16EB"))
}

/// Name and effective value of each flag of `serve`, for `/api/v1/status/flags`.
#[must_use]
pub fn flag_values(args: &ServeArgs) -> BTreeMap<String, String> {
    let path = |p: &Option<PathBuf>| p.as_ref().map(|p| p.display().to_string()).unwrap_or_default();
    let values = [
        ("config.file", path(&args.config_file)),
        ("config.auto-reload", args.config_auto_reload.to_string()),
        ("config.auto-reload-interval", args.config_auto_reload_interval.to_string()),
        ("web.listen-address", args.listen_addresses.join(",")),
        ("web.config.file", path(&args.web_config_file)),
        ("web.external-url", args.external_url.clone().unwrap_or_default()),
        ("web.route-prefix", args.route_prefix.clone().unwrap_or_else(|| "/".to_owned())),
        ("web.enable-lifecycle", args.enable_lifecycle.to_string()),
        ("web.enable-admin-api", args.enable_admin_api.to_string()),
        ("web.enable-remote-write-receiver", args.enable_remote_write_receiver.to_string()),
        ("web.enable-otlp-receiver", args.enable_otlp_receiver.to_string()),
        ("web.enable-influx-receiver", args.enable_influx_receiver.to_string()),
        ("web.enable-push", args.enable_push.to_string()),
        ("push.ttl", args.push_ttl.to_string()),
        ("web.cors.origin", args.cors_origin.clone()),
        ("web.read-timeout", args.read_timeout.to_string()),
        ("web.max-connections", args.max_connections.to_string()),
        ("web.max-notifications-subscribers", args.max_notifications_subscribers.to_string()),
        ("web.search.max-limit", args.search_results_max.to_string()),
        ("storage.tsdb.path", args.storage_path.display().to_string()),
        ("storage.tsdb.retention.time", args.retention_time.map(|d| d.to_string()).unwrap_or_default()),
        ("storage.tsdb.retention.size", args.retention_size.map(print_bytes).unwrap_or_default()),
        ("storage.tsdb.out-of-order-time-window", args.out_of_order_window.to_string()),
        ("storage.tsdb.wal-fsync", value_name(args.wal_fsync)),
        ("storage.tsdb.compaction-rate", print_bytes(args.compaction_rate)),
        ("dashboards.path", path(&args.dashboards_path)),
        ("dashboards.read-only", args.dashboards_read_only.to_string()),
        ("query.lookback-delta", args.lookback_delta.to_string()),
        ("query.timeout", args.query_timeout.to_string()),
        ("query.max-concurrency", args.query_max_concurrency.to_string()),
        ("query.max-samples", args.query_max_samples.to_string()),
        ("query.max-memory", print_bytes(args.query_max_memory)),
        ("query.max-total-memory", print_bytes(args.query_max_total_memory)),
        ("query.result-cache-size", print_bytes(args.query_result_cache_size)),
        ("enable-feature", args.enable_feature.join(",")),
        ("log.level", value_name(args.log_level)),
        ("log.format", value_name(args.log_format)),
    ];
    values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn value_name(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default()
}

/// The whole command line as clap knows it.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_flag_of_serve_has_a_value_in_the_status() {
        let args = Cli::try_parse_from(["promontory"]).unwrap().serve;
        let shown = flag_values(&args);
        let known = command();
        let told = known.get_arguments().filter(|a| !a.is_hide_set()).filter_map(|a| a.get_long());
        let mut names: Vec<_> = told.filter(|n| !["help", "version"].contains(n)).collect();
        names.sort_unstable();
        assert_eq!(shown.keys().map(String::as_str).collect::<Vec<_>>(), names);
        assert_eq!(shown["query.lookback-delta"], "5m");
    }

    #[test]
    fn serve_flags_stand_with_and_without_the_word() {
        let bare = Cli::try_parse_from(["promontory", "--web.listen-address=:1"]).unwrap();
        assert_eq!(bare.serve.listen_addresses, [":1"]);
        let worded = Cli::try_parse_from(["promontory", "serve", "--storage.tsdb.retention.size=10GB"]).unwrap();
        let Some(Command::Serve(args)) = worded.command else { panic!("not serve") };
        assert_eq!(args.retention_size, Some(10 << 30));
    }

    #[test]
    fn unknown_flags_name_the_nearest() {
        let error = Cli::try_parse_from(["promontory", "--storage.tsdb.pat=x"]).unwrap_err().to_string();
        assert!(error.contains("--storage.tsdb.path"), "{error}");
    }

    #[test]
    fn sizes_are_read_as_prometheus_reads_them() {
        assert_eq!(parse_bytes("512MB"), Ok(512 << 20));
        assert_eq!(parse_bytes("1KiB"), Ok(1024));
        assert!(parse_bytes("5X").unwrap_err().contains("unknown unit"));
        assert!(parse_bytes("99999999999EB").is_err());
    }
}
