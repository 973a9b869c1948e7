//! Flags of `promontory push …`, those of `promtool push` among them.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::ServerArgs;

/// `promontory push …`.
#[derive(Debug, Subcommand)]
pub enum PushCommand {
    /// Send expositions in Prometheus text to a server by remote write
    #[command(after_help = "\
Samples without timestamps get the time of the command.

Examples:
  node_exporter_page | promontory push metrics http://localhost:9090
  promontory push metrics --label job=nightly --label host=a http://localhost:9090 results.prom")]
    Metrics(PushArgs),
}

/// Flags of `push metrics`.
#[derive(Debug, Args)]
pub struct PushArgs {
    /// Address of a server that takes remote write
    #[arg(value_name = "URL")]
    pub server: String,
    /// Files to send; standard input without any
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Label of all series, where they have none of that name; may be repeated
    #[arg(long = "label", value_name = "NAME=VALUE", default_value = "job=promontory")]
    pub labels: Vec<String>,
    /// Version of remote write
    #[arg(long = "protobuf_message", value_name = "MESSAGE", value_enum, default_value_t = PushMessage::First)]
    pub message: PushMessage,
    /// Path of remote write behind the address
    #[arg(long = "remote-write.path", value_name = "PATH", default_value = "/api/v1/write")]
    pub path: String,
    /// Whom to ask, and how to be let in
    #[command(flatten)]
    pub http: ServerArgs,
}

/// Version of remote write, by its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PushMessage {
    /// Remote write 1.0
    #[value(name = "prometheus.WriteRequest")]
    First,
    /// Remote write 2.0
    #[value(name = "io.prometheus.write.v2.Request")]
    Second,
}
