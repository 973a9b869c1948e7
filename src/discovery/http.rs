//! `http_sd_configs`: targets that a server lists as JSON.

use promontory_config::TargetGroup;
use promontory_config::discovery::{HttpSdConfig, parse_target_list};

use super::api::{Api, url};
use super::error::SdError;
use super::provider::{Refresh, Surroundings};
use crate::client::Call;

/// One `http_sd_configs` entry.
#[derive(Debug)]
pub(super) struct Http {
    config: HttpSdConfig,
    api: Api,
    surroundings: Surroundings,
}

impl Http {
    pub(super) fn new(config: &HttpSdConfig, surroundings: &Surroundings) -> Self {
        let api = Api::new(&config.http, surroundings);
        Self { config: config.clone(), api, surroundings: surroundings.clone() }
    }

    async fn ask(&mut self) -> Result<Vec<TargetGroup>, SdError> {
        let seconds = self.config.refresh_interval.ms() as f64 / 1000.0;
        let call =
            Call::get(url(&self.config.url)?).header("x-prometheus-refresh-interval-seconds", &seconds.to_string())?;
        let answer = self.api.send(&call).await?;
        let content_type = answer.headers.get("content-type").and_then(|v| v.to_str().ok()).unwrap_or_default();
        if !is_json(content_type) {
            return Err(SdError::ContentType { url: call.url, found: content_type.to_owned() });
        }
        let garbled = |what: String| SdError::Garbled { url: call.url.clone(), what };
        let text = std::str::from_utf8(&answer.body).map_err(|e| garbled(e.to_string()))?;
        let mut groups = parse_target_list(text).map_err(|e| garbled(e.to_string()))?;
        for group in &mut groups {
            group.labels = group.labels.to_builder().set("__meta_url", &self.config.url).build();
        }
        Ok(groups)
    }
}

impl Refresh for Http {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, SdError> {
        let found = self.ask().await;
        if found.is_err() {
            self.surroundings.metrics.count("prometheus_sd_http_failures_total", Vec::new(), 1);
        }
        found
    }
}

/// `application/json`, in UTF-8 if a character set is named.
fn is_json(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(str::trim);
    let is_json = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"));
    is_json
        && parts.all(|p| p.split_once('=').is_none_or(|(_, set)| set.trim_matches('"').eq_ignore_ascii_case("utf-8")))
}

#[cfg(test)]
mod tests {
    use crate::client::testing::{Action, answer};
    use crate::discovery::testing::Lab;

    fn list(body: &str) -> Vec<Action> {
        vec![answer("200 OK", "Content-Type: application/json; charset=utf-8\r\n", body.as_bytes())]
    }

    const CONFIG: &str = "http_sd_configs: [{url: 'http://sd:1/targets?x=1', refresh_interval: 30s}]";

    #[tokio::test(start_paused = true)]
    async fn groups_follow_the_list() {
        let mut lab = Lab::new(CONFIG);
        lab.network.serve("sd:1", |head| {
            assert!(head.starts_with("GET /targets?x=1 ") && head.contains("accept: application/json\r\n"), "{head}");
            assert!(head.contains("x-prometheus-refresh-interval-seconds: 30\r\n"), "{head}");
            list(r#"[{"targets": ["a:1", "b:2"], "labels": {"x": "y"}}, {"targets": ["c:3"]}]"#)
        });
        let url = r#"__meta_url="http://sd:1/targets?x=1""#;
        lab.check(
            1,
            &[&format!("a:1 {{{url}, x=\"y\"}}"), &format!("b:2 {{{url}, x=\"y\"}}"), &format!("c:3 {{{url}}}")],
        )
        .await;
        lab.network.serve("sd:1", |_| list("[]"));
        lab.check(30, &[]).await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_entry_that_has_never_worked_counts_as_failed() {
        let mut lab = Lab::new(CONFIG);
        let failed = |lab: &Lab| {
            let families = lab.providers.families();
            let family = families.iter().find(|f| f.name == "prometheus_sd_failed_configs").unwrap();
            family.samples[0].2
        };
        lab.network.serve("sd:1", |_| list("no list"));
        lab.check(1, &[]).await;
        assert_eq!(failed(&lab), 1.0);
        lab.network.serve("sd:1", |_| list(r#"[{"targets": ["a:1"]}]"#));
        lab.secs(30).await;
        assert_eq!(failed(&lab), 0.0);
        lab.network.serve("sd:1", |_| list("no list"));
        lab.secs(30).await;
        assert_eq!((failed(&lab), lab.job.errors().len(), lab.shown().len()), (0.0, 1, 1));
        let families = lab.providers.families();
        let histogram = families.iter().find(|f| f.name.ends_with("duration_histogram_seconds")).unwrap();
        let counts: Vec<f64> = histogram.samples.iter().filter(|s| s.0 != "_sum").map(|s| s.2).collect();
        assert_eq!(counts, [3.0; 11]);
    }

    #[tokio::test(start_paused = true)]
    async fn bad_answers_keep_the_targets() {
        let good = |_: &str| list(r#"[{"targets": ["a:1"]}]"#);
        let mut bad: Vec<(Vec<Action>, &str)> = Lab::bad_answers();
        bad.push((
            vec![answer("200 OK", "Content-Type: text/html\r\n", b"[]")],
            "unsupported content type \"text/html\"",
        ));
        bad.push((list("[null]"), "invalid type: null"));
        bad.push((list("null"), "found null"));
        Lab::new(CONFIG).check_keeps("sd:1", good, bad, "a:1", 30).await;
    }
}
