//! `lightsail_sd_configs`: instances of Amazon Lightsail.

use promontory_config::TargetGroup;
use serde_json::json;

use super::Lightsail;
use crate::discovery::api::{Pages, take_list};
use crate::discovery::error::SdError;
use crate::discovery::meta::{Meta, items, join, text_at, texts, wrapped};
use crate::discovery::provider::Refresh;

impl Refresh for Lightsail {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, SdError> {
        let region = self.account.region().await?;
        let (mut out, mut pages) = (Vec::new(), Pages::default());
        loop {
            let body = pages.next().map_or(json!({}), |next| json!({ "pageToken": next }));
            let action = "Lightsail_20161128.GetInstances";
            let (url, mut page) = self.account.json_action("lightsail", action, &body).await?;
            let found = take_list(&mut page, "/instances", &url)?;
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
            if pages.are_all(&url, text_at(&page, "/nextPageToken"))? {
                return Ok(out);
            }
        }
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
