//! `gce_sd_configs`: instances of Google's compute engine.

use promontory_config::TargetGroup;
use promontory_config::discovery::GceSdConfig;
use promontory_config::http_client::HttpClientConfig;
use serde_json::Value;

use super::api::{Api, Pages, url};
use super::error::SdError;
use super::meta::{Meta, items, join, text_at, texts, wrapped};
use super::provider::{Refresh, Surroundings};
use crate::client::Call;
use crate::credentials::google::Account;

/// What may be read with the token.
const SCOPE: &str = "https://www.googleapis.com/auth/compute.readonly";

/// One `gce_sd_configs` entry.
#[derive(Debug)]
pub(super) struct Gce {
    config: GceSdConfig,
    api: Api,
    account: Account,
    scheme: &'static str,
}

impl Gce {
    pub(super) fn new(config: &GceSdConfig, surroundings: &Surroundings) -> Self {
        Self {
            config: config.clone(),
            api: Api::new(&HttpClientConfig::default(), surroundings),
            account: Account::new(None, SCOPE, &surroundings.reach()),
            scheme: surroundings.cloud_scheme,
        }
    }
}

impl Refresh for Gce {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, SdError> {
        let authorization = self.account.bearer().await?;
        let c = &self.config;
        let base = url(&format!("{}://compute.googleapis.com", self.scheme))?;
        let path = format!("/compute/v1/projects/{}/zones/{}/instances", c.project, c.zone);
        let (mut out, mut pages) = (Vec::new(), Pages::default());
        loop {
            let mut params = Vec::new();
            if !c.filter.is_empty() {
                params.push(("filter", c.filter.as_str()));
            }
            params.extend(pages.next().map(|next| ("pageToken", next)));
            let call = Call::get(base.with(&path, &params)).header("authorization", &authorization)?;
            let page: Value = self.api.json(&call).await?;
            out.extend(items(&page, "/items").iter().filter_map(|instance| target(c, instance)));
            if pages.are_all(&base, text_at(&page, "/nextPageToken"))? {
                return Ok(out);
            }
        }
    }
}

fn target(c: &GceSdConfig, instance: &Value) -> Option<TargetGroup> {
    // An instance without a network cannot be reached.
    let first = items(instance, "/networkInterfaces").first()?;
    let mut meta = Meta::new("__meta_gce_");
    meta.set("project", &c.project).set_all(
        instance,
        &[
            ("instance_id", "/id"),
            ("instance_name", "/name"),
            ("instance_status", "/status"),
            ("machine_type", "/machineType"),
            ("zone", "/zone"),
        ],
    );
    meta.set_all(first, &[("network", "/network"), ("private_ip", "/networkIP"), ("subnetwork", "/subnetwork")]);
    meta.set("public_ip", text_at(first, "/accessConfigs/0/natIP"));
    for card in items(instance, "/networkInterfaces") {
        meta.set_under("interface_ipv4", &text_at(card, "/name"), text_at(card, "/networkIP"));
    }
    meta.set("tags", wrapped(&texts(instance, "/tags/items"), &c.tag_separator));
    meta.set_map("label", instance, "/labels");
    for item in items(instance, "/metadata/items") {
        meta.set_under("metadata", &text_at(item, "/key"), text_at(item, "/value"));
    }
    Some(meta.target(join(&text_at(first, "/networkIP"), c.port)))
}

#[cfg(test)]
mod tests {
    use crate::discovery::testing::{Lab, routes};

    #[tokio::test(start_paused = true)]
    async fn instances_are_targets_with_the_machines_token() {
        let mut lab = Lab::new("gce_sd_configs: [{project: p, zone: z, filter: a=b}]");
        lab.network.serve(
            "metadata.google.internal:80",
            routes(&[("GET /computeMetadata/v1/instance/service-accounts/default/token ", r#"{"access_token": "T"}"#)]),
        );
        lab.network.serve("compute.googleapis.com:80", |head| {
            assert!(head.contains("authorization: Bearer T\r\n"), "{head}");
            routes(&[
                (
                    "GET /compute/v1/projects/p/zones/z/instances?filter=a%3Db ",
                    r#"{"items": [{"id": "1", "name": "gpu", "status": "RUNNING", "zone": "Z", "machineType": "a3", "labels": {"l": "v"},
                        "tags": {"items": ["x"]}, "metadata": {"items": [{"key": "k-1", "value": "m"}]},
                        "networkInterfaces": [{"name": "nic0", "network": "N", "networkIP": "10.0.0.1", "subnetwork": "S",
                                               "accessConfigs": [{"natIP": "1.2.3.4"}]}]}], "nextPageToken": "n"}"#,
                ),
                ("GET /compute/v1/projects/p/zones/z/instances?filter=a%3Db&pageToken=n ", r#"{"items": [{"id": "2"}]}"#),
            ])(head)
        });
        lab.secs(1).await;
        let got: Vec<String> = lab.shown().iter().map(|line| line.replace("__meta_gce_", "")).collect();
        assert_eq!(
            got,
            [concat!(
                r#"10.0.0.1:80 {instance_id="1", instance_name="gpu", instance_status="RUNNING", interface_ipv4_nic0="10.0.0.1", "#,
                r#"label_l="v", machine_type="a3", metadata_k_1="m", network="N", private_ip="10.0.0.1", project="p", "#,
                r#"public_ip="1.2.3.4", subnetwork="S", tags=",x,", zone="Z"}"#
            )]
        );
    }
}
