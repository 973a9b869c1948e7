//! `scrape_configs`: one job each, with everything inherited from `global` already filled in.

use std::fmt;

use promontory_model::Duration;

use crate::discovery::Discovery;
use crate::http_client::HttpClientConfig;
use crate::relabel::RelabelConfig;

/// One scrape job.
#[derive(Debug, Clone, PartialEq)]
pub struct ScrapeConfig {
    /// Value of the label `job`; unique in the configuration.
    pub job_name: String,
    /// Time between two scrapes of a target; above zero.
    pub scrape_interval: Duration,
    /// Time that one scrape may take; above zero and not longer than `scrape_interval`.
    pub scrape_timeout: Duration,
    /// Path of the URL.
    pub metrics_path: String,
    /// `http` or `https`.
    pub scheme: Scheme,
    /// Parameters of the URL, by ascending name.
    pub params: Vec<(String, Vec<String>)>,
    /// Whether labels that the target exposes win over the target's own.
    pub honor_labels: bool,
    /// Whether timestamps that the target exposes are taken.
    pub honor_timestamps: bool,
    /// Whether series with explicit timestamps end with a staleness marker too.
    pub track_timestamps_staleness: bool,
    /// Whether gzip is asked for.
    pub enable_compression: bool,
    /// Protocols offered, most wanted first; never empty.
    pub scrape_protocols: Vec<ScrapeProtocol>,
    /// Protocol of answers that do not name a known one; without it such a scrape fails.
    pub fallback_scrape_protocol: Option<ScrapeProtocol>,
    /// What a scrape may bring.
    pub limits: ScrapeLimits,
    /// Which metric and label names are accepted.
    pub metric_name_validation: NameValidation,
    /// How the target is asked to escape names.
    pub metric_name_escaping: EscapingScheme,
    /// Whether `scrape_timeout_seconds`, `scrape_sample_limit` and `scrape_body_size_bytes` are written.
    pub extra_scrape_metrics: bool,
    /// How the connection is made and authorised.
    pub http: HttpClientConfig,
    /// Where targets come from.
    pub discovery: Vec<Discovery>,
    /// Applied to the labels of targets.
    pub relabel_configs: Vec<RelabelConfig>,
    /// Applied to the labels of samples.
    pub metric_relabel_configs: Vec<RelabelConfig>,
}

/// Limits of one scrape or job; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScrapeLimits {
    /// Bytes of the uncompressed body; a body of exactly this size fails too.
    pub body_bytes: Option<u64>,
    /// Samples after relabelling.
    pub samples: Option<u64>,
    /// Targets of the job after relabelling.
    pub targets: Option<u64>,
    /// Labels of a sample.
    pub labels: Option<u64>,
    /// Bytes of a label name.
    pub label_name_bytes: Option<u64>,
    /// Bytes of a label value.
    pub label_value_bytes: Option<u64>,
    /// Dropped targets that are remembered for display.
    pub keep_dropped_targets: Option<u64>,
}

/// Scheme of a target's URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scheme {
    /// Plain text.
    #[default]
    Http,
    /// TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Formats in which a target can expose its metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ScrapeProtocol {
    /// OpenMetrics 1.0.0.
    OpenMetricsText1_0_0,
    /// OpenMetrics 0.0.1.
    OpenMetricsText0_0_1,
    /// Prometheus text 1.0.0.
    PrometheusText1_0_0,
    /// Prometheus text 0.0.4.
    PrometheusText0_0_4,
}

impl ScrapeProtocol {
    /// What is offered unless the configuration says otherwise.
    pub const DEFAULT: [Self; 4] =
        [Self::OpenMetricsText1_0_0, Self::OpenMetricsText0_0_1, Self::PrometheusText1_0_0, Self::PrometheusText0_0_4];

    /// The name in configuration files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenMetricsText1_0_0 => "OpenMetricsText1.0.0",
            Self::OpenMetricsText0_0_1 => "OpenMetricsText0.0.1",
            Self::PrometheusText1_0_0 => "PrometheusText1.0.0",
            Self::PrometheusText0_0_4 => "PrometheusText0.0.4",
        }
    }
}

impl fmt::Display for ScrapeProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which metric and label names are valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NameValidation {
    /// Any valid UTF-8 that is not empty.
    #[default]
    Utf8,
    /// `[a-zA-Z_:][a-zA-Z0-9_:]*`.
    Legacy,
}

impl NameValidation {
    /// The name in configuration files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Utf8 => "utf8",
            Self::Legacy => "legacy",
        }
    }
}

/// How a target is asked to write names that are not `[a-zA-Z_:][a-zA-Z0-9_:]*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EscapingScheme {
    /// As they are, quoted.
    #[default]
    AllowUtf8,
    /// Other characters become underscores.
    Underscores,
    /// Dots become `_dot_`, other characters `__`.
    Dots,
    /// `U__` and hexadecimal code points.
    Values,
}

impl EscapingScheme {
    /// The name in configuration files and in the `Accept` header.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AllowUtf8 => "allow-utf-8",
            Self::Underscores => "underscores",
            Self::Dots => "dots",
            Self::Values => "values",
        }
    }
}
