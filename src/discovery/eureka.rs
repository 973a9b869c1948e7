//! `eureka_sd_configs`: instances that are registered with Eureka, each a target.

use promontory_config::TargetGroup;
use promontory_config::discovery::EurekaSdConfig;
use serde_json::Value;

use super::api::{Api, url};
use super::error::SdError;
use super::meta::{Meta, join, text, text_at};
use super::provider::{Refresh, Surroundings};

/// Port of an instance that names none.
const DEFAULT_PORT: &str = "80";

/// One `eureka_sd_configs` entry.
#[derive(Debug)]
pub(super) struct Eureka {
    config: EurekaSdConfig,
    api: Api,
}

impl Eureka {
    pub(super) fn new(config: &EurekaSdConfig, surroundings: &Surroundings) -> Self {
        Self { config: config.clone(), api: Api::new(&config.http, surroundings) }
    }
}

impl Refresh for Eureka {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, SdError> {
        let url = url(&self.config.server)?.with("/apps", &[]);
        let answer: Value = self.api.get(url.clone()).await?;
        let applications = answer.get("applications").ok_or(SdError::Absent { url, what: "applications" })?;
        let mut groups = Vec::new();
        for application in one_or_many(applications.get("application")) {
            let name = text_at(application, "/name");
            groups.extend(one_or_many(application.get("instance")).map(|instance| target(&name, instance)));
        }
        Ok(groups)
    }
}

/// A list, or one thing that would be alone in it.
fn one_or_many(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    let (many, one) = match value {
        Some(Value::Array(items)) => (Some(items), None),
        Some(Value::Null) | None => (None, None),
        one => (None, one),
    };
    many.into_iter().flatten().chain(one)
}

fn target(application: &str, instance: &Value) -> TargetGroup {
    let mut meta = Meta::new("__meta_eureka_");
    meta.set("app_name", application).set_all(
        instance,
        &[
            ("app_instance_country_id", "/countryId"),
            ("app_instance_datacenterinfo_name", "/dataCenterInfo/name"),
            ("app_instance_healthcheck_url", "/healthCheckUrl"),
            ("app_instance_homepage_url", "/homePageUrl"),
            ("app_instance_hostname", "/hostName"),
            ("app_instance_id", "/instanceId"),
            ("app_instance_ip_addr", "/ipAddr"),
            ("app_instance_port", "/port/$"),
            ("app_instance_port_enabled", "/port/@enabled"),
            ("app_instance_secure_port", "/securePort/$"),
            ("app_instance_secure_port_enabled", "/securePort/@enabled"),
            ("app_instance_secure_vip_address", "/secureVipAddress"),
            ("app_instance_status", "/status"),
            ("app_instance_statuspage_url", "/statusPageUrl"),
            ("app_instance_vip_address", "/vipAddress"),
        ],
    );
    for (name, pointer) in
        [("app_instance_metadata", "/metadata"), ("app_instance_datacenterinfo", "/dataCenterInfo/metadata")]
    {
        // What begins with @ describes the JSON itself.
        let own = instance.pointer(pointer).and_then(Value::as_object).into_iter().flatten();
        for (key, value) in own.filter(|(key, _)| !key.starts_with('@')) {
            meta.set_under(name, key, text(value));
        }
    }
    let port = text_at(instance, "/port/$");
    meta.target(join(&text_at(instance, "/hostName"), if port.is_empty() { DEFAULT_PORT } else { &port }))
}

#[cfg(test)]
mod tests {
    use crate::discovery::testing::{Lab, routes};

    #[tokio::test(start_paused = true)]
    async fn instances_are_targets() {
        let mut lab = Lab::new("eureka_sd_configs: [{server: 'http://e:8761/eureka'}]");
        lab.network.serve(
            "e:8761",
            routes(&[(
                "GET /eureka/apps ",
                r#"{"applications": {"versions__delta": "1", "application": [{"name": "RANKER", "instance": {
                    "instanceId": "r:1", "hostName": "ranker", "ipAddr": "10.2.0.3", "status": "UP",
                    "port": {"$": 9000, "@enabled": "true"}, "securePort": {"$": 443, "@enabled": "false"},
                    "countryId": 1, "dataCenterInfo": {"@class": "x", "name": "MyOwn"},
                    "metadata": {"@class": "m", "team.name": "search"}, "vipAddress": "ranker"}}]}}"#,
            )]),
        );
        lab.check(
            1,
            &[concat!(
                r#"ranker:9000 {__meta_eureka_app_instance_country_id="1", "#,
                r#"__meta_eureka_app_instance_datacenterinfo_name="MyOwn", __meta_eureka_app_instance_hostname="ranker", "#,
                r#"__meta_eureka_app_instance_id="r:1", __meta_eureka_app_instance_ip_addr="10.2.0.3", "#,
                r#"__meta_eureka_app_instance_metadata_team_name="search", __meta_eureka_app_instance_port="9000", "#,
                r#"__meta_eureka_app_instance_port_enabled="true", __meta_eureka_app_instance_secure_port="443", "#,
                r#"__meta_eureka_app_instance_secure_port_enabled="false", __meta_eureka_app_instance_status="UP", "#,
                r#"__meta_eureka_app_instance_vip_address="ranker", __meta_eureka_app_name="RANKER"}"#,
            )],
        )
        .await;
    }
}
