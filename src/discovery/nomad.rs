//! `nomad_sd_configs`: services that Nomad knows by itself, each instance a target.

use promontory_config::TargetGroup;
use promontory_config::discovery::NomadSdConfig;
use serde_json::Value;

use super::api::{Api, url};
use super::error::SdError;
use super::meta::{Meta, items, join, text_at, texts};
use super::provider::{Refresh, Surroundings};

/// One `nomad_sd_configs` entry.
#[derive(Debug)]
pub(super) struct Nomad {
    config: NomadSdConfig,
    api: Api,
}

impl Nomad {
    pub(super) fn new(config: &NomadSdConfig, surroundings: &Surroundings) -> Self {
        Self { config: config.clone(), api: Api::new(&config.http, surroundings) }
    }

    async fn ask(&mut self, path: &str) -> Result<Vec<Value>, SdError> {
        let c = &self.config;
        let mut params = vec![("namespace", c.namespace.as_str()), ("region", c.region.as_str())];
        if c.allow_stale {
            params.push(("stale", ""));
        }
        self.api.get(url(&c.server)?.with(path, &params)).await
    }

    fn target(&self, instance: &Value) -> TargetGroup {
        let mut meta = Meta::new("__meta_nomad_");
        meta.set_all(
            instance,
            &[
                ("dc", "/Datacenter"),
                ("namespace", "/Namespace"),
                ("node_id", "/NodeID"),
                ("service", "/ServiceName"),
                ("service_address", "/Address"),
                ("service_id", "/ID"),
                ("service_port", "/Port"),
            ],
        );
        let separator = &self.config.tag_separator;
        meta.set("tags", format!("{separator}{}{separator}", texts(instance, "/Tags").join(separator)));
        let address = join(&text_at(instance, "/Address"), text_at(instance, "/Port"));
        meta.set("address", &address);
        meta.target(address)
    }
}

impl Refresh for Nomad {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, SdError> {
        let mut groups = Vec::new();
        for namespace in self.ask("/v1/services").await? {
            for service in items(&namespace, "/Services") {
                let name = text_at(service, "/ServiceName");
                let instances = self.ask(&format!("/v1/service/{name}")).await?;
                groups.extend(instances.iter().map(|instance| self.target(instance)));
            }
        }
        Ok(groups)
    }
}

#[cfg(test)]
mod tests {
    use crate::discovery::testing::{Lab, json, routes};

    #[tokio::test(start_paused = true)]
    async fn instances_are_targets() {
        let mut lab = Lab::new("nomad_sd_configs: [{server: 'http://n:4646'}]");
        lab.network.serve(
            "n:4646",
            routes(&[
                (
                    "GET /v1/services?namespace=default&region=global&stale= ",
                    r#"[{"Namespace": "default", "Services": [{"ServiceName": "tgi", "Tags": ["x"]}]}]"#,
                ),
                (
                    "GET /v1/service/tgi?",
                    r#"[{"Address": "10.1.0.2", "Datacenter": "dc1", "ID": "_nomad-1", "Namespace": "default",
                         "NodeID": "n-1", "Port": 8080, "ServiceName": "tgi", "Tags": ["x"]}]"#,
                ),
            ]),
        );
        lab.check(
            1,
            &[concat!(
                r#"10.1.0.2:8080 {__meta_nomad_address="10.1.0.2:8080", __meta_nomad_dc="dc1", "#,
                r#"__meta_nomad_namespace="default", __meta_nomad_node_id="n-1", __meta_nomad_service="tgi", "#,
                r#"__meta_nomad_service_address="10.1.0.2", __meta_nomad_service_id="_nomad-1", "#,
                r#"__meta_nomad_service_port="8080", __meta_nomad_tags=",x,"}"#,
            )],
        )
        .await;
        let mut none = Lab::new("nomad_sd_configs: [{server: 'http://n:4646'}]");
        none.network.serve("n:4646", |_| json("[]"));
        none.check(1, &[]).await;
    }
}
