//! `lightsail_sd_configs`: instances of Amazon Lightsail.

use promontory_config::TargetGroup;
use promontory_config::discovery::LightsailSdConfig;
use serde_json::json;

use super::{Account, PAGES_MAX};
use crate::discovery::error::SdError;
use crate::discovery::meta::{Meta, items, join, text_at, texts, wrapped};
use crate::discovery::provider::{Refresh, Surroundings};

/// One `lightsail_sd_configs` entry.
#[derive(Debug)]
pub(in crate::discovery) struct Lightsail {
    config: LightsailSdConfig,
    account: Account,
}

impl Lightsail {
    pub(in crate::discovery) fn new(config: &LightsailSdConfig, surroundings: &Surroundings) -> Self {
        let account = Account::new(&config.account, &config.http, surroundings);
        Self { config: config.clone(), account }
    }
}

impl Refresh for Lightsail {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, SdError> {
        let region = self.account.region().await?;
        let (mut out, mut next) = (Vec::new(), String::new());
        for _ in 0..PAGES_MAX {
            let body = if next.is_empty() { json!({}) } else { json!({ "pageToken": next }) };
            let action = "Lightsail_20161128.GetInstances";
            let (url, page) = self.account.json_action("lightsail", action, &body).await?;
            let found = page["instances"].as_array().ok_or(SdError::Absent { url, what: "instances" })?;
            for instance in found.iter().filter(|i| !text_at(i, "/privateIpAddress").is_empty()) {
                let mut meta = Meta::new("__meta_lightsail_");
                meta.set("region", &region).set_all(
                    instance,
                    &[
                        ("availability_zone", "/location/availabilityZone"),
                        ("blueprint_id", "/blueprintId"),
                        ("bundle_id", "/bundleId"),
                        ("instance_name", "/name"),
                        ("instance_state", "/state/name"),
                        ("instance_support_code", "/supportCode"),
                        ("private_ip", "/privateIpAddress"),
                        ("public_ip", "/publicIpAddress"),
                    ],
                );
                meta.set("ipv6_addresses", wrapped(&texts(instance, "/ipv6Addresses"), ","));
                for tag in items(instance, "/tags") {
                    meta.set_under("tag", &text_at(tag, "/key"), text_at(tag, "/value"));
                }
                out.push(meta.target(join(&text_at(instance, "/privateIpAddress"), self.config.port)));
            }
            next = text_at(&page, "/nextPageToken");
            if next.is_empty() {
                return Ok(out);
            }
        }
        Err(SdError::Pages { url: self.account.base("lightsail").await?, max: PAGES_MAX })
    }
}

#[cfg(test)]
mod tests {
    use crate::discovery::testing::{Lab, routes};

    #[tokio::test(start_paused = true)]
    async fn instances_of_lightsail_are_targets() {
        let mut lab = Lab::new("lightsail_sd_configs: [{region: eu-west-1, access_key: a, secret_key: s}]");
        let body = r#"{"instances": [{"name": "n", "privateIpAddress": "10.0.0.3", "tags": [{"key": "k", "value": "v"}],
            "location": {"availabilityZone": "eu-west-1a"}, "state": {"name": "running"}}, {"name": "no address"}]}"#;
        lab.network.serve("lightsail.eu-west-1.amazonaws.com:80", routes(&[("POST / ", body)]));
        let expected = concat!(
            r#"10.0.0.3:80 {__meta_lightsail_availability_zone="eu-west-1a", __meta_lightsail_instance_name="n", "#,
            r#"__meta_lightsail_instance_state="running", __meta_lightsail_private_ip="10.0.0.3", "#,
            r#"__meta_lightsail_region="eu-west-1", __meta_lightsail_tag_k="v"}"#
        );
        lab.check(1, &[expected]).await;
    }
}
