//! `outscale_sd_configs`: machines of Outscale, whose requests are signed as Amazon's are.

use promontory_config::TargetGroup;
use promontory_config::discovery::OutscaleSdConfig;
use promontory_config::http_client::Secret;
use serde_json::{Value, json};

use super::api::{Api, Pages, take_list, url};
use super::error::SdError;
use super::meta::{Meta, items, join, text_at};
use super::provider::{Refresh, Surroundings};
use crate::client::{Call, Url};
use crate::credentials::aws::{Keys, sign};

/// The name under which requests are signed for.
const SERVICE: &str = "oapi";

/// One `outscale_sd_configs` entry.
#[derive(Debug)]
pub(super) struct Outscale {
    config: OutscaleSdConfig,
    keys: Keys,
    api: Api,
    surroundings: Surroundings,
}

impl Outscale {
    pub(super) fn new(config: &OutscaleSdConfig, surroundings: &Surroundings) -> Self {
        let keys = Keys::new(&config.access_key, config.secret_key.as_ref().unwrap_or(&Secret::default()));
        let api = Api::new(&config.http, surroundings);
        Self { config: config.clone(), keys, api, surroundings: surroundings.clone() }
    }

    fn base(&self) -> Result<Url, SdError> {
        if !self.config.endpoint.is_empty() {
            return url(&self.config.endpoint);
        }
        url(&format!("{}://api.{}.outscale.com/api/v1", self.surroundings.cloud_scheme, self.config.region))
    }
}

impl Refresh for Outscale {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, SdError> {
        let asked = self.base()?.with("/ReadVms", &[]);
        let (mut out, mut pages) = (Vec::new(), Pages::default());
        loop {
            let body = pages.next().map_or(json!({}), |next| json!({ "NextPageToken": next }));
            let call = Call::post(asked.clone(), "application/json", body.to_string());
            let call = sign(call, SERVICE, &self.config.region, &self.keys, self.surroundings.clock.now())?;
            let mut page: Value = self.api.json(&call).await?;
            out.extend(
                take_list(&mut page, "/Vms", &asked)?.iter().filter_map(|machine| target(&self.config, machine)),
            );
            if pages.are_all(&asked, text_at(&page, "/NextPageToken"))? {
                return Ok(out);
            }
        }
    }
}

fn target(c: &OutscaleSdConfig, machine: &Value) -> Option<TargetGroup> {
    let mut meta = Meta::new("__meta_outscale_vm_");
    meta.set("region", &c.region).set_all(
        machine,
        &[
            ("instance_id", "/VmId"),
            ("private_ip", "/PrivateIp"),
            ("public_ip", "/PublicIp"),
            ("state", "/State"),
            ("subregion", "/Placement/SubregionName"),
        ],
    );
    for tag in items(machine, "/Tags") {
        meta.set_under("tag", &text_at(tag, "/Key"), text_at(tag, "/Value"));
    }
    let address = ["/PrivateIp", "/PublicIp"].map(|pointer| text_at(machine, pointer));
    let address = address.iter().find(|address| !address.is_empty())?;
    Some(meta.target(join(address, c.port)))
}

#[cfg(test)]
mod tests {
    use crate::client::testing::Action;
    use crate::discovery::testing::{Lab, json};

    const CONFIG: &str = "outscale_sd_configs: [{access_key: a, secret_key: s, port: 9100, refresh_interval: 30s}]";

    fn serve(head: &str) -> Vec<Action> {
        assert!(head.starts_with("POST /api/v1/ReadVms "), "{head}");
        assert!(
            head.contains("Credential=a/20231114/eu-west-2/oapi/aws4_request, SignedHeaders=content-type;"),
            "{head}"
        );
        if head.ends_with(r#"{"NextPageToken":"n"}"#) {
            return json(r#"{"Vms": [{"VmId": "no address"}]}"#);
        }
        json(
            r#"{"Vms": [{"VmId": "i-1", "State": "running", "PrivateIp": "10.0.0.1", "PublicIp": "1.2.3.4",
                "Placement": {"SubregionName": "eu-west-2a"}, "Tags": [{"Key": "Team Name", "Value": "ml"}]}],
                "NextPageToken": "n"}"#,
        )
    }

    #[tokio::test(start_paused = true)]
    async fn machines_are_targets() {
        let mut lab = Lab::new(CONFIG);
        lab.network.serve("api.eu-west-2.outscale.com:80", serve);
        let expected = concat!(
            r#"10.0.0.1:9100 {__meta_outscale_vm_instance_id="i-1", __meta_outscale_vm_private_ip="10.0.0.1", "#,
            r#"__meta_outscale_vm_public_ip="1.2.3.4", __meta_outscale_vm_region="eu-west-2", "#,
            r#"__meta_outscale_vm_state="running", __meta_outscale_vm_subregion="eu-west-2a", "#,
            r#"__meta_outscale_vm_tag_Team_Name="ml"}"#
        );
        lab.check(1, &[expected]).await;
    }

    #[tokio::test(start_paused = true)]
    async fn bad_answers_keep_the_targets() {
        let mut bad = Lab::bad_answers();
        bad.push((json("{}"), "the answer has no Vms"));
        Lab::new(CONFIG).check_keeps("api.eu-west-2.outscale.com:80", serve, bad, "10.0.0.1:9100 ", 30).await;
    }
}
