//! `scrape_configs`: one job each, with everything inherited from `global` already filled in.

use std::fmt;
use std::path::PathBuf;

use promontory_model::Duration;
use promontory_model::labels::is_legacy_label_name;

use crate::Config;
use crate::decode::{Field, Fields};
use crate::discovery::{self, Discovery};
use crate::global::Global;
use crate::http_client::{self, HttpClientConfig};
use crate::relabel::{self, RelabelConfig};

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
    /// How histograms are taken, unless labels of the target say otherwise.
    pub histograms: HistogramModes,
    /// Buckets of a native histogram; finer ones are merged until they are no more. `None` is no limit.
    pub native_histogram_bucket_limit: Option<u64>,
    /// Least growth from one bucket of a native histogram to the next; finer ones are merged. 0 is no limit.
    pub native_histogram_min_bucket_factor: f64,
    /// Whether `scrape_timeout_seconds`, `scrape_sample_limit` and `scrape_body_size_bytes` are written.
    pub extra_scrape_metrics: bool,
    /// File to which a line is added for each scrape that fails.
    pub scrape_failure_log_file: Option<PathBuf>,
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

/// How histograms are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HistogramModes {
    /// Whether native histograms are taken; else only what is classic of them.
    pub native: bool,
    /// Whether classic series are kept beside the native or converted histogram.
    pub always_classic: bool,
    /// Whether classic histograms become native ones with custom buckets.
    pub to_custom: bool,
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

impl ScrapeConfig {
    /// The job as YAML with defaults filled in and secrets masked.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        crate::print::job_to_yaml(self)
    }
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
    /// Delimited protocol buffers, which alone carry native histograms.
    PrometheusProto,
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

    /// The same where native histograms are taken; all that there are.
    pub const DEFAULT_NATIVE: [Self; 5] = [
        Self::PrometheusProto,
        Self::OpenMetricsText1_0_0,
        Self::OpenMetricsText0_0_1,
        Self::PrometheusText1_0_0,
        Self::PrometheusText0_0_4,
    ];

    pub(crate) fn defaults(native: bool) -> Vec<Self> {
        if native { Self::DEFAULT_NATIVE.to_vec() } else { Self::DEFAULT.to_vec() }
    }

    /// The name in configuration files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PrometheusProto => "PrometheusProto",
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

const NAME_VALIDATIONS: [(&str, NameValidation); 2] =
    [("utf8", NameValidation::Utf8), ("legacy", NameValidation::Legacy)];

impl NameValidation {
    /// Whether a label may have this name.
    #[must_use]
    pub fn is_label_name(self, name: &str) -> bool {
        match self {
            Self::Utf8 => !name.is_empty(),
            Self::Legacy => is_legacy_label_name(name),
        }
    }

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

const ESCAPING_SCHEMES: [(&str, EscapingScheme); 4] = [
    ("allow-utf-8", EscapingScheme::AllowUtf8),
    ("underscores", EscapingScheme::Underscores),
    ("dots", EscapingScheme::Dots),
    ("values", EscapingScheme::Values),
];

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

const SCHEMES: [(&str, Scheme); 2] = [("http", Scheme::Http), ("https", Scheme::Https)];

pub(crate) fn read(field: &Field<'_>, config: &mut Config) {
    for item in field.list() {
        let Some(job) = read_job(&item, &config.global) else { continue };
        if config.scrape_configs.iter().any(|other| other.job_name == job.job_name) {
            item.rule(format!("found multiple scrape configs with job name {:?}", job.job_name));
        }
        config.scrape_configs.push(job);
    }
}

/// `scrape_config_files`: patterns of files, which [`crate::load`] reads.
pub(crate) fn read_files(field: &Field<'_>, config: &mut Config) {
    for item in field.list() {
        if item.text().is_some_and(|text| text.split_once('*').is_some_and(|(_, after)| after.contains(['/', '*']))) {
            item.rule("only the last component of a path may hold one '*'");
        }
        config.scrape_config_files.extend(item.path_buf());
    }
}

fn read_job(field: &Field<'_>, global: &Global) -> Option<ScrapeConfig> {
    let fields = field.fields()?;
    let job_name = fields.text("job_name");
    if job_name.is_none() {
        fields.missing("job_name");
    }
    let (scrape_interval, scrape_timeout) = read_times(&fields, global);
    let own_validation = read_name_validation(&fields);
    let names = own_validation.unwrap_or(global.metric_name_validation);
    let relabel_fields = fields.list("relabel_configs");
    let histograms = read_histogram_modes(&fields, global.histograms);
    let inherited_protocols = || global.scrape_protocols.clone();
    let job = ScrapeConfig {
        job_name: job_name.unwrap_or_default(),
        scrape_interval,
        scrape_timeout,
        metrics_path: fields.text("metrics_path").unwrap_or_else(|| "/metrics".to_owned()),
        scheme: fields.get("scheme").and_then(|f| f.one_of(&SCHEMES)).unwrap_or_default(),
        params: read_params(&fields),
        honor_labels: fields.bool_or("honor_labels", false),
        honor_timestamps: fields.bool_or("honor_timestamps", true),
        track_timestamps_staleness: fields.bool_or("track_timestamps_staleness", false),
        enable_compression: fields.bool_or("enable_compression", true),
        scrape_protocols: read_protocols(&fields)
            .or_else(inherited_protocols)
            .unwrap_or_else(|| ScrapeProtocol::defaults(histograms.native)),
        fallback_scrape_protocol: fields.get("fallback_scrape_protocol").and_then(|f| read_protocol(&f)),
        limits: read_limits(&fields, global.limits),
        metric_name_validation: names,
        metric_name_escaping: read_name_escaping(&fields, own_validation, global.metric_name_escaping),
        histograms,
        native_histogram_bucket_limit: fields
            .get("native_histogram_bucket_limit")
            .and_then(|f| f.u64())
            .filter(|n| *n > 0),
        native_histogram_min_bucket_factor: fields
            .get("native_histogram_min_bucket_factor")
            .and_then(|f| f.f64())
            .unwrap_or(0.0),
        extra_scrape_metrics: fields.bool_or("extra_scrape_metrics", global.extra_scrape_metrics),
        scrape_failure_log_file: fields
            .path_buf("scrape_failure_log_file")
            .or_else(|| global.scrape_failure_log_file.clone()),
        http: http_client::read(&fields),
        discovery: discovery::read(&fields, names, !relabel_fields.is_empty()),
        relabel_configs: relabel::read(&relabel_fields, names),
        metric_relabel_configs: relabel::read(&fields.list("metric_relabel_configs"), names),
    };
    fields.finish(&[discovery::NOT_BUILT]);
    Some(job)
}

/// Interval and timeout; what is zero or absent comes from `global`, the timeout never longer than the interval.
fn read_times(fields: &Fields<'_>, global: &Global) -> (Duration, Duration) {
    let given = |name| fields.get(name).and_then(|f| f.duration()).filter(|d| d.ms() > 0);
    let interval = given("scrape_interval").unwrap_or(global.scrape_interval);
    let timeout = given("scrape_timeout").unwrap_or(global.scrape_timeout.min(interval));
    if timeout > interval {
        let at = fields.get("scrape_timeout");
        at.as_ref()
            .unwrap_or(fields.map())
            .rule(format!("scrape timeout greater than scrape interval ({timeout} > {interval})"));
    }
    (interval, timeout)
}

fn read_params(fields: &Fields<'_>) -> Vec<(String, Vec<String>)> {
    let Some(field) = fields.get("params") else { return Vec::new() };
    let mut params: Vec<_> = field.entries().iter().map(|(name, f)| ((*name).to_owned(), f.texts())).collect();
    params.sort();
    params
}

pub(crate) fn read_limits(fields: &Fields<'_>, inherited: ScrapeLimits) -> ScrapeLimits {
    let or = |given: Option<u64>, inherited| given.filter(|n| *n > 0).or(inherited);
    let count = |name, inherited| or(fields.get(name).and_then(|f| f.u64()), inherited);
    ScrapeLimits {
        body_bytes: or(fields.get("body_size_limit").and_then(|f| f.bytes()), inherited.body_bytes),
        samples: count("sample_limit", inherited.samples),
        targets: count("target_limit", inherited.targets),
        labels: count("label_limit", inherited.labels),
        label_name_bytes: count("label_name_length_limit", inherited.label_name_bytes),
        label_value_bytes: count("label_value_length_limit", inherited.label_value_bytes),
        keep_dropped_targets: count("keep_dropped_targets", inherited.keep_dropped_targets),
    }
}

pub(crate) fn read_histogram_modes(fields: &Fields<'_>, inherited: HistogramModes) -> HistogramModes {
    HistogramModes {
        native: fields.bool_or("scrape_native_histograms", inherited.native),
        always_classic: fields.bool_or("always_scrape_classic_histograms", inherited.always_classic),
        to_custom: fields.bool_or("convert_classic_histograms_to_nhcb", inherited.to_custom),
    }
}

/// The list `scrape_protocols`; `None` when absent or wrong.
pub(crate) fn read_protocols(fields: &Fields<'_>) -> Option<Vec<ScrapeProtocol>> {
    let field = fields.get("scrape_protocols")?;
    let items = field.list();
    if items.is_empty() {
        field.rule("scrape_protocols cannot be empty");
    }
    let mut protocols = Vec::new();
    for item in &items {
        let Some(protocol) = read_protocol(item) else { continue };
        if protocols.contains(&protocol) {
            item.rule(format!("duplicated protocol {protocol}"));
        }
        protocols.push(protocol);
    }
    (protocols.len() == items.len() && !protocols.is_empty()).then_some(protocols)
}

fn read_protocol(field: &Field<'_>) -> Option<ScrapeProtocol> {
    field.one_of(&ScrapeProtocol::DEFAULT_NATIVE.map(|p| (p.as_str(), p)))
}

pub(crate) fn read_name_validation(fields: &Fields<'_>) -> Option<NameValidation> {
    fields.get("metric_name_validation_scheme").and_then(|f| f.one_of(&NAME_VALIDATIONS))
}

/// The escaping scheme. Where only `legacy` names are asked for, targets are asked for underscores.
pub(crate) fn read_name_escaping(
    fields: &Fields<'_>,
    validation: Option<NameValidation>,
    inherited: EscapingScheme,
) -> EscapingScheme {
    let given = fields.get("metric_name_escaping_scheme");
    let scheme = given.as_ref().and_then(|f| f.one_of(&ESCAPING_SCHEMES));
    if let (Some(field), Some(EscapingScheme::AllowUtf8), Some(NameValidation::Legacy)) = (&given, scheme, validation) {
        field.rule("utf8 metric names requested but validation scheme is set to legacy");
    }
    match (scheme, validation) {
        (Some(scheme), _) => scheme,
        (None, Some(NameValidation::Legacy)) => EscapingScheme::Underscores,
        (None, Some(NameValidation::Utf8)) => EscapingScheme::AllowUtf8,
        (None, None) => inherited,
    }
}
