//! What tests of this module share.

use promontory_config::http_client::HttpClientConfig;
use promontory_config::scrape::{EscapingScheme, NameValidation, Scheme, ScrapeConfig, ScrapeLimits, ScrapeProtocol};
use promontory_model::Duration;

/// A job with the defaults, scraped every 15 s.
pub(crate) fn scrape_config(job: &str) -> ScrapeConfig {
    ScrapeConfig {
        job_name: job.to_owned(),
        scrape_interval: Duration::from_secs(15),
        scrape_timeout: Duration::from_secs(10),
        metrics_path: "/metrics".to_owned(),
        scheme: Scheme::Http,
        params: Vec::new(),
        honor_labels: false,
        honor_timestamps: true,
        track_timestamps_staleness: false,
        enable_compression: true,
        scrape_protocols: ScrapeProtocol::DEFAULT.to_vec(),
        fallback_scrape_protocol: None,
        limits: ScrapeLimits::default(),
        metric_name_validation: NameValidation::Utf8,
        metric_name_escaping: EscapingScheme::AllowUtf8,
        extra_scrape_metrics: false,
        http: HttpClientConfig::default(),
        discovery: Vec::new(),
        relabel_configs: Vec::new(),
        metric_relabel_configs: Vec::new(),
    }
}
