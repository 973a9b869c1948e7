//! Flags of `promontory query …`.
//!
//! The order of arguments is that of `promtool query`, so that its users need not learn another.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use promontory_model::Duration;

/// `promontory query …`.
#[derive(Debug, Subcommand)]
pub enum QueryCommand {
    /// Evaluate a query at one time
    Instant(InstantArgs),
    /// Evaluate a query over a range of time
    Range(RangeArgs),
    /// List series
    Series(SeriesArgs),
    /// List the values of a label, or the names of all labels
    Labels(LabelsArgs),
}

/// How answers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum QueryOutput {
    /// Columns for people
    Table,
    /// The data of the API's answer
    Json,
    /// Columns for spreadsheets
    Csv,
    /// Lines as promtool writes them
    Promql,
    /// A graph in the terminal
    Graph,
}

/// Whom to ask, and how to be let in.
#[derive(Debug, Clone, Args)]
pub struct ServerArgs {
    /// File with Prometheus' settings of HTTP clients: authentication, TLS, proxy
    #[arg(long = "http.config.file", value_name = "FILE")]
    pub http_config_file: Option<PathBuf>,
    /// Name and password for basic authentication
    #[arg(long, value_name = "NAME:PASSWORD", conflicts_with = "http_config_file")]
    pub user: Option<String>,
    /// Bearer token
    #[arg(long, value_name = "TOKEN", conflicts_with_all = ["http_config_file", "user"])]
    pub bearer_token: Option<String>,
    /// File with a bearer token
    #[arg(long, value_name = "FILE", conflicts_with_all = ["http_config_file", "user", "bearer_token"])]
    pub bearer_token_file: Option<PathBuf>,
    /// Header of requests; may be repeated
    #[arg(long = "header", value_name = "NAME=VALUE")]
    pub headers: Vec<String>,
    /// File with certificate authorities that are trusted besides the machine's
    #[arg(long = "tls.ca-file", value_name = "FILE", conflicts_with = "http_config_file")]
    pub ca_file: Option<PathBuf>,
    /// Take any certificate
    #[arg(long = "tls.insecure", conflicts_with = "http_config_file")]
    pub insecure: bool,
    /// Longest time for an answer
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = super::parse_duration)]
    pub timeout: Duration,
}

/// Flags of `query instant`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  promontory query instant http://localhost:9090 'up == 0'
  promontory query instant -o csv http://localhost:9090 'sum by (job) (rate(http_requests_total[5m]))'
  promontory query instant --user alice:secret https://prometheus.example.com up")]
pub struct InstantArgs {
    /// Address of a server that has Prometheus' API
    #[arg(value_name = "URL")]
    pub server: String,
    /// PromQL expression
    #[arg(value_name = "EXPR")]
    pub expr: String,
    /// Evaluation time, Unix seconds or RFC 3339; now when left out
    #[arg(long, value_name = "TIME")]
    pub time: Option<String>,
    /// How the answer is written
    #[arg(long, short, value_enum, default_value_t = QueryOutput::Table)]
    pub output: QueryOutput,
    /// Whom to ask
    #[command(flatten)]
    pub http: ServerArgs,
}

/// Flags of `query range`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  promontory query range http://localhost:9090 'rate(http_requests_total[5m])'
  promontory query range --range 6h -o csv http://localhost:9090 node_load1
  promontory query range --start 2026-01-01T00:00:00Z --end 2026-01-02T00:00:00Z --step 5m http://localhost:9090 up")]
pub struct RangeArgs {
    /// Address of a server that has Prometheus' API
    #[arg(value_name = "URL")]
    pub server: String,
    /// PromQL expression
    #[arg(value_name = "EXPR")]
    pub expr: String,
    /// First step, Unix seconds or RFC 3339
    #[arg(long, value_name = "TIME", conflicts_with = "range")]
    pub start: Option<String>,
    /// Last step; now when left out
    #[arg(long, value_name = "TIME")]
    pub end: Option<String>,
    /// Time from the first to the last step
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = super::parse_duration)]
    pub range: Duration,
    /// Time between two steps; a 250th of the range when left out, at least a second
    #[arg(long, value_name = "DURATION", value_parser = super::parse_duration)]
    pub step: Option<Duration>,
    /// How the answer is written
    #[arg(long, short, value_enum, default_value_t = QueryOutput::Graph)]
    pub output: QueryOutput,
    /// Whom to ask
    #[command(flatten)]
    pub http: ServerArgs,
}

/// Flags of `query series`.
#[derive(Debug, Args)]
pub struct SeriesArgs {
    /// Address of a server that has Prometheus' API
    #[arg(value_name = "URL")]
    pub server: String,
    /// Selector of series; may be repeated
    #[arg(long = "match", value_name = "SELECTOR", required = true)]
    pub matches: Vec<String>,
    /// Only series with samples at or after this time
    #[arg(long, value_name = "TIME")]
    pub start: Option<String>,
    /// Only series with samples at or before this time
    #[arg(long, value_name = "TIME")]
    pub end: Option<String>,
    /// How the answer is written
    #[arg(long, short, value_enum, default_value_t = QueryOutput::Table)]
    pub output: QueryOutput,
    /// Whom to ask
    #[command(flatten)]
    pub http: ServerArgs,
}

/// Flags of `query labels`.
#[derive(Debug, Args)]
pub struct LabelsArgs {
    /// Address of a server that has Prometheus' API
    #[arg(value_name = "URL")]
    pub server: String,
    /// Label whose values are listed; all names of labels when left out
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// Only those of series that these selectors select; may be repeated
    #[arg(long = "match", value_name = "SELECTOR")]
    pub matches: Vec<String>,
    /// Only those of series with samples at or after this time
    #[arg(long, value_name = "TIME")]
    pub start: Option<String>,
    /// Only those of series with samples at or before this time
    #[arg(long, value_name = "TIME")]
    pub end: Option<String>,
    /// How the answer is written
    #[arg(long, short, value_enum, default_value_t = QueryOutput::Table)]
    pub output: QueryOutput,
    /// Whom to ask
    #[command(flatten)]
    pub http: ServerArgs,
}
