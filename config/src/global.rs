//! `global`: what scrape jobs inherit and what rule evaluation and queries take as defaults.

use promontory_model::{Duration, Labels};

use crate::scrape::{EscapingScheme, NameValidation, ScrapeLimits, ScrapeProtocol};

/// The section `global`.
#[derive(Debug, Clone, PartialEq)]
pub struct Global {
    /// Time between two scrapes of a target.
    pub scrape_interval: Duration,
    /// Time that one scrape may take; not longer than `scrape_interval`.
    pub scrape_timeout: Duration,
    /// Time between two evaluations of a rule group; also the default step of subqueries.
    pub evaluation_interval: Duration,
    /// Protocols offered to targets, most wanted first.
    pub scrape_protocols: Vec<ScrapeProtocol>,
    /// Added to what leaves this server, where absent.
    pub external_labels: Labels,
    /// Limits of jobs that set none.
    pub limits: ScrapeLimits,
    /// Which metric and label names are accepted.
    pub metric_name_validation: NameValidation,
    /// How targets are asked to escape names.
    pub metric_name_escaping: EscapingScheme,
    /// Whether jobs add `scrape_timeout_seconds` and its like.
    pub extra_scrape_metrics: bool,
}

impl Default for Global {
    fn default() -> Self {
        Self {
            scrape_interval: Duration::from_secs(60),
            scrape_timeout: Duration::from_secs(10),
            evaluation_interval: Duration::from_secs(60),
            scrape_protocols: ScrapeProtocol::DEFAULT.to_vec(),
            external_labels: Labels::empty(),
            limits: ScrapeLimits::default(),
            metric_name_validation: NameValidation::default(),
            metric_name_escaping: EscapingScheme::default(),
            extra_scrape_metrics: false,
        }
    }
}
