//! YAML to validated configuration: `prometheus.yml` as Prometheus 3.14 reads it.
//!
//! Every value that leaves this package is validated, with defaults filled in and relative paths resolved against
//! the file's folder. All errors of a file are reported at once, each with line, column and field. A field that
//! Prometheus knows and this server does not build yet is an error, never ignored. Nothing here opens a connection
//! or knows a clock; reading files is left to the two functions that say so.

pub mod discovery;
pub mod global;
pub mod http_client;
pub mod relabel;
pub mod scrape;

mod md5;

pub use discovery::{Discovery, FileSdConfig, TargetGroup};
pub use global::Global;
pub use http_client::HttpClientConfig;
pub use relabel::RelabelConfig;
pub use scrape::{ScrapeConfig, ScrapeLimits, ScrapeProtocol};

/// A whole configuration file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Config {
    /// `global`.
    pub global: Global,
    /// `scrape_configs`, in the order of the file; job names are unique.
    pub scrape_configs: Vec<ScrapeConfig>,
}
