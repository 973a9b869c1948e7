//! From the labels of an exposed line to those of a stored series: target labels, relabelling, validity, limits.
//!
//! Runs once per new line; what it answers is remembered by the line cache.

use promontory_config::relabel::{self, RelabelConfig};
use promontory_config::scrape::{NameValidation, ScrapeConfig, ScrapeLimits};
use promontory_model::labels::{Quoted, is_legacy_label_name, is_legacy_metric_name};
use promontory_model::{Labels, LabelsBuilder, METRIC_NAME};

use super::exposition::Pair;

/// Put before a label of a sample that the target's own label displaces.
const EXPORTED_PREFIX: &str = "exported_";
/// Characters of names that an error repeats.
const SHOWN_CHARS_MAX: usize = 50;

/// The rules of one target.
#[derive(Debug, Clone)]
pub struct SampleLabels {
    target: Labels,
    honor_labels: bool,
    relabel: Vec<RelabelConfig>,
    limits: ScrapeLimits,
    names: NameValidation,
}

/// A sample that fails the whole scrape.
///
/// # Source
/// Worded as Prometheus words it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SampleLabelsError {
    /// Relabelling took the metric's name.
    #[error("missing metric name (__name__ label)")]
    NoName,
    /// Names that the job's validation refuses.
    #[error("invalid metric name or label names: {0}")]
    InvalidNames(Labels),
    /// More labels than `label_limit`.
    #[error("label_limit exceeded (metric: {metric}, number of labels: {n_labels}, limit: {limit})")]
    TooMany {
        /// Metric.
        metric: String,
        /// Labels it has.
        n_labels: u64,
        /// Labels it may have.
        limit: u64,
    },
    /// A name longer than `label_name_length_limit`.
    #[error(
        "label_name_length_limit exceeded (metric: {metric}, label name: {name}, length: {length}, limit: {limit})"
    )]
    LongName {
        /// Metric.
        metric: String,
        /// Label.
        name: String,
        /// Bytes of its name.
        length: u64,
        /// Bytes that are allowed.
        limit: u64,
    },
    /// A value longer than `label_value_length_limit`.
    #[error(
        "label_value_length_limit exceeded (metric: {metric}, label name: {name}, value: {}, length: {length}, limit: {limit})",
        Quoted(value)
    )]
    LongValue {
        /// Metric.
        metric: String,
        /// Label.
        name: String,
        /// Its value.
        value: String,
        /// Bytes of the value.
        length: u64,
        /// Bytes that are allowed.
        limit: u64,
    },
}

impl SampleLabelsError {
    /// Whether one of the job's label limits was exceeded.
    #[must_use]
    pub fn is_limit(&self) -> bool {
        matches!(self, Self::TooMany { .. } | Self::LongName { .. } | Self::LongValue { .. })
    }
}

impl SampleLabels {
    /// The rules of `config` for a target with these labels.
    #[must_use]
    pub fn new(target: Labels, config: &ScrapeConfig) -> Self {
        Self {
            target,
            honor_labels: config.honor_labels,
            relabel: config.metric_relabel_configs.clone(),
            limits: config.limits,
            names: config.metric_name_validation,
        }
    }

    /// The labels under which a line with these pairs is stored; `None` if relabelling drops it.
    ///
    /// # Errors
    /// [`SampleLabelsError`] if the scrape must fail for it.
    pub fn apply(&self, pairs: &[Pair<'_>]) -> Result<Option<Labels>, SampleLabelsError> {
        let mut builder = LabelsBuilder::new();
        for (name, value) in pairs {
            builder.set(name, value);
        }
        if self.honor_labels {
            for (name, value) in &self.target {
                // A label that the target exposes with an empty value is still the target's word on it.
                if !pairs.iter().any(|(exposed, _)| exposed == name) {
                    builder.set(name, value);
                }
            }
        } else {
            self.displace(&mut builder);
        }
        if !relabel::process_builder(&mut builder, &self.relabel) {
            return Ok(None);
        }
        let labels = builder.build();
        if labels.is_empty() {
            return Ok(None);
        }
        self.check(&labels)?;
        Ok(Some(labels))
    }

    /// Labels of a series that the scraper itself writes of this target, such as `up`.
    #[must_use]
    pub fn report(&self, metric: &str) -> Labels {
        let mut builder = LabelsBuilder::new();
        builder.set(METRIC_NAME, metric);
        for (name, value) in &self.target {
            builder.set(name, value);
        }
        builder.build()
    }

    /// Target labels win; what they displace gets a free `exported_` name, shortest names first.
    fn displace(&self, builder: &mut LabelsBuilder) {
        let mut displaced = Vec::new();
        for (name, value) in &self.target {
            if let Some(exposed) = builder.get(name) {
                displaced.push((name, exposed.to_owned()));
            }
            builder.set(name, value);
        }
        displaced.sort_by_key(|(name, _)| name.len());
        for (name, value) in displaced {
            let mut free = format!("{EXPORTED_PREFIX}{name}");
            while builder.get(&free).is_some() {
                free.insert_str(0, EXPORTED_PREFIX);
            }
            builder.set(&free, &value);
        }
    }

    fn check(&self, labels: &Labels) -> Result<(), SampleLabelsError> {
        let Some(metric) = labels.get(METRIC_NAME) else {
            return Err(SampleLabelsError::NoName);
        };
        let valid = match self.names {
            NameValidation::Utf8 => labels.iter().all(|(name, _)| !name.is_empty()),
            NameValidation::Legacy => {
                is_legacy_metric_name(metric) && labels.iter().all(|(name, _)| is_legacy_label_name(name))
            }
        };
        if !valid {
            return Err(SampleLabelsError::InvalidNames(labels.clone()));
        }
        self.check_limits(metric, labels)
    }

    fn check_limits(&self, metric: &str, labels: &Labels) -> Result<(), SampleLabelsError> {
        let over = |len: usize, limit: Option<u64>| limit.filter(|max| len as u64 > *max);
        let shown = |text: &str| text.chars().take(SHOWN_CHARS_MAX).collect::<String>();
        let n_labels = labels.len();
        if let Some(limit) = over(n_labels, self.limits.labels) {
            return Err(SampleLabelsError::TooMany { metric: shown(metric), n_labels: n_labels as u64, limit });
        }
        if self.limits.label_name_bytes.is_none() && self.limits.label_value_bytes.is_none() {
            return Ok(());
        }
        for (name, value) in labels {
            if let Some(limit) = over(name.len(), self.limits.label_name_bytes) {
                let length = name.len() as u64;
                return Err(SampleLabelsError::LongName { metric: shown(metric), name: shown(name), length, limit });
            }
            if let Some(limit) = over(value.len(), self.limits.label_value_bytes) {
                return Err(SampleLabelsError::LongValue {
                    metric: shown(metric),
                    name: shown(name),
                    value: shown(value),
                    length: value.len() as u64,
                    limit,
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use promontory_config::relabel::Action;
    use promontory_model::Regex;

    use super::*;

    fn rules() -> SampleLabels {
        SampleLabels {
            target: Labels::from_pairs([("job", "j"), ("instance", "h:1")]),
            honor_labels: false,
            relabel: Vec::new(),
            limits: ScrapeLimits::default(),
            names: NameValidation::Utf8,
        }
    }

    #[track_caller]
    fn check(rules: &SampleLabels, pairs: &[(&'static str, &'static str)], expected: &str) {
        let pairs: Vec<Pair<'_>> = pairs.iter().map(|(n, v)| (Cow::Borrowed(*n), Cow::Borrowed(*v))).collect();
        let got = match rules.apply(&pairs) {
            Ok(Some(labels)) => labels.to_string(),
            Ok(None) => "dropped".to_owned(),
            Err(e) => e.to_string(),
        };
        assert_eq!(got, expected);
    }

    const CLASHING: [(&str, &str); 5] =
        [("__name__", "x"), ("job", "z"), ("instance", ""), ("exported_job", "q"), ("l", "v")];

    #[test]
    fn target_labels_displace_exposed_ones() {
        check(
            &rules(),
            &CLASHING,
            r#"{__name__="x", exported_exported_job="z", exported_job="q", instance="h:1", job="j", l="v"}"#,
        );
    }

    #[test]
    fn honored_labels_stay_even_when_empty() {
        let rules = SampleLabels { honor_labels: true, ..rules() };
        check(&rules, &CLASHING, r#"{__name__="x", exported_job="q", job="z", l="v"}"#);
        check(&rules, &[("__name__", "x")], r#"{__name__="x", instance="h:1", job="j"}"#);
    }

    #[test]
    fn relabelling_drops_and_takes_names() {
        let regex = |text| Regex::new(text).unwrap();
        let config = |action, text| RelabelConfig { action, regex: regex(text), ..RelabelConfig::new() };
        let drop = RelabelConfig { source_labels: vec!["__name__".to_owned()], ..config(Action::Drop, "x") };
        check(&SampleLabels { relabel: vec![drop], ..rules() }, &[("__name__", "x")], "dropped");
        let nameless = SampleLabels { relabel: vec![config(Action::LabelDrop, "__name__")], ..rules() };
        check(&nameless, &[("__name__", "x")], "missing metric name (__name__ label)");
        let empty = SampleLabels { relabel: vec![config(Action::LabelDrop, ".*")], ..rules() };
        check(&empty, &[("__name__", "x")], "dropped");
    }

    #[test]
    fn names_and_limits_fail_the_scrape() {
        let legacy = SampleLabels { names: NameValidation::Legacy, ..rules() };
        check(
            &legacy,
            &[("__name__", "my.metric"), ("k.x", "v")],
            r#"invalid metric name or label names: {__name__="my.metric", instance="h:1", job="j", "k.x"="v"}"#,
        );
        let with = |limits| SampleLabels { limits, ..rules() };
        check(
            &with(ScrapeLimits { labels: Some(2), ..ScrapeLimits::default() }),
            &[("__name__", "x")],
            "label_limit exceeded (metric: x, number of labels: 3, limit: 2)",
        );
        check(
            &with(ScrapeLimits { label_name_bytes: Some(7), ..ScrapeLimits::default() }),
            &[("__name__", "x")],
            "label_name_length_limit exceeded (metric: x, label name: __name__, length: 8, limit: 7)",
        );
        check(
            &with(ScrapeLimits { label_value_bytes: Some(2), ..ScrapeLimits::default() }),
            &[("__name__", "x")],
            "label_value_length_limit exceeded (metric: x, label name: instance, value: \"h:1\", length: 3, limit: 2)",
        );
    }

    #[test]
    fn report_series_carry_target_labels() {
        assert_eq!(rules().report("up").to_string(), r#"{__name__="up", instance="h:1", job="j"}"#);
    }
}
