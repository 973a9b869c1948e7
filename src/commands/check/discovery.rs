//! `promontory check service-discovery`: the targets of one job before and after relabelling, without scraping them.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use promontory_config::TargetGroup;
use promontory_config::scrape::ScrapeConfig;
use promontory_model::Labels;
use promontory_storage::clock::{Clock, SystemClock};
use serde_json::{Value, json};

use super::super::CommandError;
use crate::cli::DiscoveryArgs;
use crate::client::Connector;
use crate::discovery::{JobDiscovery, Providers, Surroundings};
use crate::scrape::target::{Target, discovered};

/// Time between two looks at what the mechanisms have found.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Asks the mechanisms of a job, waits until each has answered or failed, and prints what promtool prints: an array of
/// `discoveredLabels` and `labels`, empty for what relabelling drops, and `error` for what cannot be scraped.
///
/// Well is when no mechanism failed or was too slow.
///
/// # Errors
/// [`CommandError`] when the configuration does not load or has no such job.
pub fn check_service_discovery(
    args: &DiscoveryArgs,
    connector: Arc<dyn Connector>,
    out: &mut dyn Write,
) -> Result<bool, CommandError> {
    let config = promontory_config::load(&args.config_file)?;
    let job = config.scrape_configs.iter().find(|job| job.job_name == args.job);
    let job = job.ok_or_else(|| CommandError::NoJob {
        file: args.config_file.clone(),
        job: args.job.clone(),
        known: config.scrape_configs.iter().map(|job| job.job_name.clone()).collect(),
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CommandError::Runtime)?;
    let timeout = Duration::from_millis(args.timeout.ms().unsigned_abs());
    let (groups, errors) = runtime.block_on(ask(job, connector, timeout));
    for error in &errors {
        eprintln!("{error}");
    }
    let mut seen = Vec::new();
    for group in &groups {
        for address in &group.targets {
            let shown = show(address, &group.labels, job);
            if !seen.contains(&shown) {
                seen.push(shown);
            }
        }
    }
    serde_json::to_writer_pretty(&mut *out, &seen).map_err(std::io::Error::from)?;
    writeln!(out)?;
    Ok(errors.is_empty())
}

/// All groups of `job`, and why those of some mechanisms are missing.
async fn ask(job: &ScrapeConfig, connector: Arc<dyn Connector>, timeout: Duration) -> (Vec<TargetGroup>, Vec<String>) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let providers = Providers::new(Surroundings::new(connector, clock.clone()));
    let mut discovery = JobDiscovery::new(&job.job_name, &job.discovery, &providers);
    let mut waited = Duration::ZERO;
    discovery.poll(clock.now());
    while !discovery.has_settled() && waited < timeout {
        tokio::time::sleep(LOOK_INTERVAL).await;
        waited += LOOK_INTERVAL;
        discovery.poll(clock.now());
    }
    let mut errors = discovery.errors();
    if !discovery.has_settled() {
        errors.push(format!("no answer from all mechanisms of job {:?} within {timeout:?} (--timeout)", job.job_name));
    }
    (discovery.groups().cloned().collect(), errors)
}

fn show(address: &str, group: &Labels, job: &ScrapeConfig) -> Value {
    let before = discovered(address, group, job);
    match Target::with_all_labels(&before, job) {
        Ok(found) => {
            let after = found.map_or_else(Labels::empty, |(_, labels)| labels);
            json!({ "discoveredLabels": map(&before), "labels": map(&after) })
        }
        Err(error) => json!({ "discoveredLabels": map(&before), "labels": {}, "error": error.to_string() }),
    }
}

fn map(labels: &Labels) -> BTreeMap<&str, &str> {
    labels.iter().collect()
}

#[cfg(test)]
mod tests {
    use promontory_model::Duration as ConfigDuration;

    use super::*;
    use crate::client::testing::{FakeNetwork, answer};

    fn check(text: &str, job: &str) -> (Result<bool, String>, Value) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.yml");
        std::fs::write(&file, text).unwrap();
        let network = FakeNetwork::new();
        let body = br#"[{"targets": ["h:1"], "labels": {"a": "b"}}]"#;
        network.serve("sd:80", move |_| vec![answer("200 OK", "Content-Type: application/json\r\n", body)]);
        network.serve("broken:80", move |_| vec![answer("500 Oh", "", b"")]);
        let args =
            DiscoveryArgs { config_file: file.clone(), job: job.to_owned(), timeout: ConfigDuration::from_secs(30) };
        let mut out = Vec::new();
        let result = check_service_discovery(&args, network, &mut out);
        let result = result.map_err(|e| e.to_string().replace(&file.display().to_string(), "x.yml"));
        (result, serde_json::from_slice(&out).unwrap_or(Value::Null))
    }

    #[test]
    fn targets_are_shown_before_and_after_relabelling() {
        let text = "scrape_configs:\n- job_name: j\n  http_sd_configs: [{url: 'http://sd'}]\n  static_configs: [{targets: \
                    ['x:2', 'drop:3', 'bad:4', 'x:2']}]\n  relabel_configs:\n  - {source_labels: [__address__], regex: \
                    'drop:.*', action: drop}\n  - {source_labels: [__address__], regex: 'bad:.*', target_label: \
                    __scheme__, replacement: ftp}\n";
        let (result, shown) = check(text, "j");
        assert_eq!(result, Ok(true));
        assert_eq!(shown.as_array().map(Vec::len), Some(4));
        let with = |i: usize, part: &str, label: &str| shown[i][part][label].as_str().unwrap_or("none").to_owned();
        assert_eq!(with(0, "discoveredLabels", "__address__"), "x:2");
        assert_eq!(with(0, "labels", "__address__"), "x:2");
        assert_eq!(with(0, "labels", "instance"), "x:2");
        assert_eq!(with(0, "labels", "__metrics_path__"), "/metrics");
        assert_eq!(shown[1]["labels"], json!({}));
        assert_eq!(shown[2]["error"], "unsupported protocol scheme \"ftp\"");
        assert_eq!(with(3, "discoveredLabels", "__meta_url"), "http://sd");
        assert_eq!(with(3, "labels", "__meta_url"), "none");
        assert_eq!(with(3, "labels", "a"), "b");
    }

    #[test]
    fn what_fails_is_told() {
        let text = "scrape_configs:\n- job_name: j\n  http_sd_configs: [{url: 'http://broken'}]\n  static_configs: \
                    [{targets: ['x:2']}]\n";
        let (result, shown) = check(text, "j");
        assert_eq!(result, Ok(false));
        assert_eq!(shown.as_array().map(Vec::len), Some(1));
        assert_eq!(check(text, "k").0, Err("x.yml: no job \"k\"; there are j".to_owned()));
        assert!(check("scrape_configs: [{}]", "j").0.unwrap_err().contains("job_name"));
    }
}
