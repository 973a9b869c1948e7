//! `global`: what scrape jobs inherit and what rule evaluation and queries take as defaults.

use std::path::PathBuf;

use promontory_model::{Duration, Labels, LabelsBuilder};

use crate::Config;
use crate::decode::{Field, Harmless, NotBuilt};
use crate::expand::{self, Values};
use crate::scrape::{self, EscapingScheme, HistogramModes, NameValidation, ScrapeLimits, ScrapeProtocol};

/// The section `global`.
#[derive(Debug, Clone, PartialEq)]
pub struct Global {
    /// Time between two scrapes of a target.
    pub scrape_interval: Duration,
    /// Time that one scrape may take; not longer than `scrape_interval`.
    pub scrape_timeout: Duration,
    /// Time between two evaluations of a rule group; also the default step of subqueries.
    pub evaluation_interval: Duration,
    /// Protocols offered to targets, most wanted first; `None` leaves them to each job.
    pub scrape_protocols: Option<Vec<ScrapeProtocol>>,
    /// Added to what leaves this server, where absent.
    pub external_labels: Labels,
    /// Limits of jobs that set none.
    pub limits: ScrapeLimits,
    /// Which metric and label names are accepted.
    pub metric_name_validation: NameValidation,
    /// How targets are asked to escape names.
    pub metric_name_escaping: EscapingScheme,
    /// How jobs take histograms.
    pub histograms: HistogramModes,
    /// Whether jobs add `scrape_timeout_seconds` and its like.
    pub extra_scrape_metrics: bool,
    /// File to which jobs that name none add a line for each scrape that fails.
    pub scrape_failure_log_file: Option<PathBuf>,
    /// File to which a line is added for each query of the HTTP API.
    pub query_log_file: Option<PathBuf>,
}

impl Default for Global {
    fn default() -> Self {
        Self {
            scrape_interval: Duration::from_secs(60),
            scrape_timeout: Duration::from_secs(10),
            evaluation_interval: Duration::from_secs(60),
            scrape_protocols: None,
            external_labels: Labels::empty(),
            limits: ScrapeLimits::default(),
            metric_name_validation: NameValidation::default(),
            metric_name_escaping: EscapingScheme::default(),
            histograms: HistogramModes::default(),
            extra_scrape_metrics: false,
            scrape_failure_log_file: None,
            query_log_file: None,
        }
    }
}

const NOT_BUILT: &[NotBuilt] =
    &[NotBuilt::because("rule_query_offset", Harmless::Zero, "this server evaluates no rules")];

pub(crate) fn read(field: &Field<'_>, config: &mut Config) {
    let Some(fields) = field.fields() else { return };
    let default = Global::default();
    let interval = |name, default: Duration| {
        let given = fields.get(name).and_then(|f| f.duration());
        given.filter(|d| d.ms() > 0).unwrap_or(default)
    };
    let scrape_interval = interval("scrape_interval", default.scrape_interval);
    let scrape_timeout = interval("scrape_timeout", default.scrape_timeout.min(scrape_interval));
    if scrape_timeout > scrape_interval {
        let at = fields.get("scrape_timeout");
        at.as_ref().unwrap_or(field).rule("global scrape timeout greater than scrape interval");
    }
    let validation = scrape::read_name_validation(&fields);
    let metric_name_validation = validation.unwrap_or_default();
    config.global = Global {
        scrape_interval,
        scrape_timeout,
        evaluation_interval: interval("evaluation_interval", default.evaluation_interval),
        scrape_protocols: scrape::read_protocols(&fields),
        external_labels: read_external_labels(fields.get("external_labels"), metric_name_validation),
        limits: scrape::read_limits(&fields, ScrapeLimits::default()),
        metric_name_validation,
        metric_name_escaping: scrape::read_name_escaping(&fields, validation, EscapingScheme::default()),
        histograms: scrape::read_histogram_modes(&fields, HistogramModes::default()),
        extra_scrape_metrics: fields.bool_or("extra_scrape_metrics", false),
        scrape_failure_log_file: fields.path_buf("scrape_failure_log_file"),
        query_log_file: fields.path_buf("query_log_file"),
    };
    fields.finish(&[NOT_BUILT]);
}

fn read_external_labels(field: Option<Field<'_>>, names: NameValidation) -> Labels {
    let mut labels = LabelsBuilder::new();
    for (name, value) in field.iter().flat_map(Field::entries) {
        if !names.is_label_name(name) {
            value.rule(format!("{name:?} is not a valid label name"));
        }
        if let Some(text) = value.text() {
            labels.set(name, &expand_variables(text, &value));
        }
    }
    labels.build()
}

/// Replaces `$name` and `${name}` by variables of the environment, `${file:path}` by the content of a file and `$$` by
/// `$`. A variable that is not set becomes nothing, with a warning, as in Prometheus.
fn expand_variables(text: &str, field: &Field<'_>) -> String {
    let values = Values { env: field.decoder().environment(), folder: field.decoder().base_dir() };
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        let (name, after) = variable(&rest[dollar + 1..]);
        rest = after;
        if name == "$" {
            out.push('$');
            continue;
        }
        match values.get(name) {
            Ok(value) => out.push_str(&value),
            Err(why) if expand::is_file(name) => field.rule(why),
            Err(_) if name.is_empty() => {}
            Err(_) => field.decoder().warn(format!("{}: environment variable {name:?} is not set", field.path())),
        }
    }
    out + rest
}

/// The name at the start of `text`, as Go's `os.Expand` takes it, and what follows.
fn variable(text: &str) -> (&str, &str) {
    if let Some(inner) = text.strip_prefix('{') {
        return match inner.split_once('}') {
            Some((name, after)) => (name, after),
            None => ("", inner),
        };
    }
    let special = |c: char| matches!(c, '*' | '#' | '$' | '@' | '!' | '?' | '-' | '0'..='9');
    match text.chars().next() {
        Some(c) if special(c) => text.split_at(1),
        _ => text.split_at(text.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(text.len())),
    }
}
