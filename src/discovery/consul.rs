//! `consul_sd_configs`: services of a Consul catalogue, each instance a target.
//!
//! The catalogue and each service are read anew at each refresh interval, which is as often as Prometheus takes over
//! changes; nothing is held open between.

use promontory_config::TargetGroup;
use promontory_config::discovery::ConsulSdConfig;
use promontory_config::http_client::{Auth, Source};
use serde_json::{Map, Value};

use super::api::{Api, url};
use super::error::SdError;
use super::meta::{Meta, items, join, text_at, texts};
use super::provider::{Refresh, Surroundings};
use crate::client::{Call, Url};

/// One `consul_sd_configs` entry.
#[derive(Debug)]
pub(super) struct Consul {
    config: ConsulSdConfig,
    api: Api,
    surroundings: Surroundings,
}

impl Consul {
    pub(super) fn new(config: &ConsulSdConfig, surroundings: &Surroundings) -> Self {
        let mut http = config.http.clone();
        if http.auth == Auth::None && !config.username.is_empty() {
            http.auth = Auth::Basic {
                username: Some(Source::Inline(config.username.clone())),
                password: config.password.clone().map(Source::Inline),
            };
        }
        Self { config: config.clone(), api: Api::new(&http, surroundings), surroundings: surroundings.clone() }
    }

    async fn ask(&mut self, path: &str, own: &[(&str, &str)]) -> Result<(Url, Value), SdError> {
        let c = &self.config;
        let server = url(&format!("{}://{}{}", c.scheme, c.server, c.path_prefix))?;
        let common = [("dc", &c.datacenter), ("ns", &c.namespace), ("partition", &c.partition)];
        let mut params: Vec<(&str, &str)> = own.to_vec();
        params.extend(common.into_iter().filter(|(_, value)| !value.is_empty()).map(|(n, v)| (n, v.as_str())));
        if c.allow_stale {
            params.push(("stale", ""));
        }
        let node_meta: Vec<String> = c.node_meta.iter().map(|(name, value)| format!("{name}:{value}")).collect();
        params.extend(node_meta.iter().map(|pair| ("node-meta", pair.as_str())));
        let mut call = Call::get(server.with(path, &params));
        if let Some(token) = &c.token {
            call = call.header("x-consul-token", token.reveal())?;
        }
        let answer = self.api.json(&call).await;
        if answer.is_err() {
            self.surroundings.metrics.count("prometheus_sd_consul_rpc_failures_total", Vec::new(), 1);
        }
        Ok((call.url, answer?))
    }

    /// The services that are wanted: those configured, unless tags or filters must be looked at.
    async fn services(&mut self) -> Result<Vec<String>, SdError> {
        let c = self.config.clone();
        if !c.services.is_empty() && c.tags.is_empty() && c.node_meta.is_empty() && c.filter.is_empty() {
            return Ok(c.services);
        }
        let filter: &[(&str, &str)] = if c.filter.is_empty() { &[] } else { &[("filter", &c.filter)] };
        let (url, catalogue) = self.ask("/v1/catalog/services", filter).await?;
        let all: &Map<String, Value> = catalogue.as_object().ok_or(SdError::Absent { url, what: "map of services" })?;
        let is_wanted = |name: &str, tags: &Value| {
            let tags = texts(tags, "");
            (c.services.is_empty() || c.services.iter().any(|s| s == name)) && c.tags.iter().all(|t| tags.contains(t))
        };
        Ok(all.iter().filter(|(name, tags)| is_wanted(name, tags)).map(|(name, _)| name.clone()).collect())
    }

    fn target(&self, entry: &Value) -> TargetGroup {
        let mut meta = Meta::new("__meta_consul_");
        meta.set_all(
            entry,
            &[
                ("address", "/Node/Address"),
                ("dc", "/Node/Datacenter"),
                ("node", "/Node/Node"),
                ("partition", "/Node/Partition"),
                ("service", "/Service/Service"),
                ("service_address", "/Service/Address"),
                ("service_id", "/Service/ID"),
                ("service_port", "/Service/Port"),
            ],
        );
        let separator = &self.config.tag_separator;
        meta.set("tags", format!("{separator}{}{separator}", texts(entry, "/Service/Tags").join(separator)));
        meta.set("health", health(items(entry, "/Checks")));
        meta.set_map("metadata", entry, "/Node/Meta");
        meta.set_map("service_metadata", entry, "/Service/Meta");
        meta.set_map("tagged_address", entry, "/Node/TaggedAddresses");
        let own = text_at(entry, "/Service/Address");
        let host = if own.is_empty() { text_at(entry, "/Node/Address") } else { own };
        meta.target(join(&host, text_at(entry, "/Service/Port")))
    }
}

impl Refresh for Consul {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, SdError> {
        let mut groups = Vec::new();
        for service in self.services().await? {
            let tags = self.config.tags.clone();
            let mut own: Vec<(&str, &str)> = tags.iter().map(|tag| ("tag", tag.as_str())).collect();
            let filter = self.config.health_filter.clone();
            if !filter.is_empty() {
                own.push(("filter", &filter));
            }
            let (url, entries) = self.ask(&format!("/v1/health/service/{service}"), &own).await?;
            let entries = entries.as_array().ok_or(SdError::Absent { url, what: "list of instances" })?;
            groups.extend(entries.iter().map(|entry| self.target(entry)));
        }
        Ok(groups)
    }
}

/// The worst of the checks; maintenance counts as worse than critical.
fn health(checks: &[Value]) -> &'static str {
    let mut worst = 0;
    for check in checks {
        let id = text_at(check, "/CheckID");
        let is_maintenance = id == "_node_maintenance" || id.starts_with("_service_maintenance:");
        worst = worst.max(match text_at(check, "/Status").as_str() {
            _ if is_maintenance => 3,
            "critical" => 2,
            "warning" => 1,
            _ => 0,
        });
    }
    ["passing", "warning", "critical", "maintenance"][worst]
}

#[cfg(test)]
mod tests {
    use crate::discovery::testing::{Lab, json, routes};

    const INSTANCE: &str = r#"[{
        "Node": {"Node": "n1", "Address": "10.0.0.1", "Datacenter": "dc1", "Partition": "default",
                 "Meta": {"rack-id": "7"}, "TaggedAddresses": {"wan": "1.2.3.4"}},
        "Service": {"ID": "vllm-1", "Service": "vllm", "Tags": ["gpu", "a100"], "Address": "", "Port": 8000,
                    "Meta": {"model": "llama"}},
        "Checks": [{"CheckID": "a", "Status": "passing"}, {"CheckID": "b", "Status": "warning"}]}]"#;

    #[tokio::test(start_paused = true)]
    async fn instances_of_wanted_services_are_targets() {
        let mut lab = Lab::new(
            "consul_sd_configs: [{server: 'c:8500', token: t, datacenter: dc1, tags: [gpu], node_meta: {a: b}}]",
        );
        lab.network.serve("c:8500", |head| {
            assert!(head.contains("x-consul-token: t\r\n"), "{head}");
            let common = "dc=dc1&stale=&node-meta=a%3Ab";
            routes(&[
                (
                    &format!("GET /v1/catalog/services?{common} "),
                    r#"{"consul": [], "vllm": ["gpu", "x"], "cpu": ["x"]}"#,
                ),
                (&format!("GET /v1/health/service/vllm?tag=gpu&{common} "), INSTANCE),
            ])(head)
        });
        lab.check(
            1,
            &[concat!(
                r#"10.0.0.1:8000 {__meta_consul_address="10.0.0.1", __meta_consul_dc="dc1", "#,
                r#"__meta_consul_health="warning", __meta_consul_metadata_rack_id="7", __meta_consul_node="n1", "#,
                r#"__meta_consul_partition="default", __meta_consul_service="vllm", __meta_consul_service_id="vllm-1", "#,
                r#"__meta_consul_service_metadata_model="llama", __meta_consul_service_port="8000", "#,
                r#"__meta_consul_tagged_address_wan="1.2.3.4", __meta_consul_tags=",gpu,a100,"}"#,
            )],
        )
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn bad_answers_keep_the_targets() {
        let lab = Lab::new("consul_sd_configs: [{server: 'c:8500', services: [vllm]}]");
        let mut bad = Lab::bad_answers();
        bad.push((json("{}"), "the answer has no list of instances"));
        lab.check_keeps("c:8500", |_: &str| json(INSTANCE), bad, "10.0.0.1:8000 ", 30).await;
    }
}
