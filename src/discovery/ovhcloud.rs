//! `ovhcloud_sd_configs`: virtual and dedicated servers of OVHcloud, whose requests are signed by a hash of what is asked
//! and when.

use promontory_config::TargetGroup;
use promontory_config::discovery::{OvhCloudSdConfig, OvhService};
use ring::digest;
use serde_json::Value;

use super::api::{Api, url};
use super::error::SdError;
use super::meta::{Meta, text, text_at, texts};
use super::provider::{Refresh, Surroundings};
use crate::client::{Call, Url};

/// Regions by their names, and the hosts of their interfaces.
const ENDPOINTS: [(&str, &str); 7] = [
    ("ovh-eu", "eu.api.ovh.com"),
    ("ovh-ca", "ca.api.ovh.com"),
    ("ovh-us", "api.us.ovhcloud.com"),
    ("kimsufi-eu", "eu.api.kimsufi.com"),
    ("kimsufi-ca", "ca.api.kimsufi.com"),
    ("soyoustart-eu", "eu.api.soyoustart.com"),
    ("soyoustart-ca", "ca.api.soyoustart.com"),
];

/// One `ovhcloud_sd_configs` entry.
#[derive(Debug)]
pub(super) struct OvhCloud {
    config: OvhCloudSdConfig,
    api: Api,
    surroundings: Surroundings,
    /// By how many seconds the service's clock is ahead of ours.
    ahead_s: i64,
}

impl OvhCloud {
    pub(super) fn new(config: &OvhCloudSdConfig, surroundings: &Surroundings) -> Self {
        let api = Api::new(&Default::default(), surroundings);
        Self { config: config.clone(), api, surroundings: surroundings.clone(), ahead_s: 0 }
    }

    fn base(&self) -> Result<Url, SdError> {
        let endpoint = self.config.endpoint.as_str();
        let host = ENDPOINTS.iter().find(|(name, _)| *name == endpoint).map(|(_, host)| *host);
        match host {
            Some(host) => url(&format!("{}://{host}/1.0", self.surroundings.cloud_scheme)),
            None => url(endpoint.trim_end_matches('/')),
        }
    }

    fn now_s(&self) -> i64 {
        self.surroundings.clock.now().ms() / 1_000
    }

    async fn get(&mut self, base: &Url, path: &str) -> Result<Value, SdError> {
        let call = Call::get(base.with(path, &[]));
        let time = (self.now_s() + self.ahead_s).to_string();
        let secret = self.config.application_secret.as_ref().map_or("", |secret| secret.reveal());
        let consumer = self.config.consumer_key.as_ref().map_or("", |key| key.reveal());
        let signed = format!("{secret}+{consumer}+GET+{}++{time}", call.url);
        let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, signed.as_bytes());
        let digest: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let call = call
            .header("x-ovh-application", &self.config.application_key)?
            .header("x-ovh-consumer", consumer)?
            .header("x-ovh-timestamp", &time)?
            .header("x-ovh-signature", &format!("$1${digest}"))?;
        self.api.json(&call).await
    }

    /// One server with its addresses.
    async fn server(&mut self, base: &Url, folder: &str, name: &str) -> Result<TargetGroup, SdError> {
        let path = format!("{folder}/{name}");
        let server = self.get(base, &path).await?;
        let ips = self.get(base, &format!("{path}/ips")).await?;
        let ips: Vec<String> = texts(&ips, "").iter().filter_map(|ip| single(ip)).collect();
        let (v6, v4): (Vec<&String>, Vec<&String>) = ips.iter().partition(|ip| ip.contains(':'));
        let mut meta = Meta::new("__meta_ovhcloud_");
        match self.config.service {
            OvhService::Vps => {
                meta.set_all(&server, VPS);
                meta.set("vps_datacenter", listed(&server["model"]["datacenter"]));
                meta.set("vps_keymap", text_at(&server, "/keymap"));
            }
            OvhService::DedicatedServer => drop(meta.set_all(&server, DEDICATED).build()),
        }
        let own = match self.config.service {
            OvhService::Vps => "vps",
            OvhService::DedicatedServer => "dedicated_server",
        };
        meta.set(&format!("{own}_ipv4"), v4.first().map_or("", |ip| ip));
        meta.set(&format!("{own}_ipv6"), v6.first().map_or("", |ip| ip));
        meta.set_whole("instance", &text_at(&server, "/name"));
        let address = v4.first().or(v6.first()).map(|ip| (*ip).clone());
        Ok(match address {
            Some(address) => meta.target(address),
            None => TargetGroup::default(),
        })
    }
}

const VPS: &[(&str, &str)] = &[
    ("vps_cluster", "/cluster"),
    ("vps_disk", "/model/disk"),
    ("vps_display_name", "/displayName"),
    ("vps_maximum_additional_ip", "/model/maximumAdditionnalIp"),
    ("vps_memory", "/model/memory"),
    ("vps_memory_limit", "/memoryLimit"),
    ("vps_model_name", "/model/name"),
    ("vps_model_vcore", "/model/vcore"),
    ("vps_name", "/name"),
    ("vps_netboot_mode", "/netbootMode"),
    ("vps_offer", "/model/offer"),
    ("vps_offer_type", "/offerType"),
    ("vps_state", "/state"),
    ("vps_vcore", "/vcore"),
    ("vps_version", "/model/version"),
    ("vps_zone", "/zone"),
];

const DEDICATED: &[(&str, &str)] = &[
    ("dedicated_server_commercial_range", "/commercialRange"),
    ("dedicated_server_datacenter", "/datacenter"),
    ("dedicated_server_link_speed", "/linkSpeed"),
    ("dedicated_server_name", "/name"),
    ("dedicated_server_no_intervention", "/noIntervention"),
    ("dedicated_server_os", "/os"),
    ("dedicated_server_rack", "/rack"),
    ("dedicated_server_reverse", "/reverse"),
    ("dedicated_server_server_id", "/serverId"),
    ("dedicated_server_state", "/state"),
    ("dedicated_server_support_level", "/supportLevel"),
];

/// The address in `1.2.3.4/32`; a network of several is none.
fn single(ip: &str) -> Option<String> {
    match ip.split_once('/') {
        None => Some(ip.to_owned()),
        Some((address, bits)) => {
            let whole = if address.contains(':') { "128" } else { "32" };
            (bits == whole).then(|| address.to_owned())
        }
    }
}

/// `[a b]`.
fn listed(value: &Value) -> String {
    let parts: Vec<String> = value.as_array().into_iter().flatten().map(text).collect();
    format!("[{}]", parts.join(" "))
}

impl Refresh for OvhCloud {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, SdError> {
        let base = self.base()?;
        let theirs: i64 = self.api.get(base.with("/auth/time", &[])).await?;
        self.ahead_s = theirs - self.now_s();
        let folder = match self.config.service {
            OvhService::Vps => "/vps",
            OvhService::DedicatedServer => "/dedicated/server",
        };
        let names = self.get(&base, folder).await?;
        let mut out = Vec::new();
        for name in texts(&names, "") {
            // One that cannot be read fails the look: the others stay as they were, too.
            let group = self.server(&base, folder, &name).await?;
            if !group.targets.is_empty() {
                out.push(group);
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use crate::discovery::testing::{Lab, routes};

    const KEYS: &str = "application_key: k, application_secret: s, consumer_key: c";

    async fn targets(service: &str) -> Vec<String> {
        let mut lab = Lab::new(&format!("ovhcloud_sd_configs: [{{service: {service}, {KEYS}}}]"));
        lab.network.serve("eu.api.ovh.com:80", |head| {
            if !head.starts_with("GET /1.0/auth/time ") {
                assert!(head.contains("x-ovh-application: k\r\nx-ovh-consumer: c\r\nx-ovh-timestamp: 1700000100\r\n"), "{head}");
            }
            if head.starts_with("GET /1.0/vps ") {
                // sha1 of `s+c+GET+http://eu.api.ovh.com/1.0/vps++1700000100`.
                assert!(head.contains("x-ovh-signature: $1$e315a740c2dc375bf26cdab5cb5b934b5425513d\r\n"), "{head}");
            }
            routes(&[
                ("GET /1.0/auth/time ", "1700000100"),
                ("GET /1.0/vps ", r#"["vps-1"]"#),
                (
                    "GET /1.0/vps/vps-1 ",
                    r#"{"name": "vps-1", "keymap": null, "zone": "Region OpenStack: os-gra", "cluster": "", "state": "running", "vcore": 2,
                        "displayName": "mine", "netbootMode": "local", "memoryLimit": 2048, "offerType": "ssd",
                        "model": {"offer": "VPS", "datacenter": ["gra"], "vcore": 1, "version": "2019v1", "name": "starter", "disk": 40,
                        "memory": 2048, "maximumAdditionnalIp": 16}}"#,
                ),
                ("GET /1.0/vps/vps-1/ips ", r#"["2001:db8::1", "192.0.2.1"]"#),
                ("GET /1.0/dedicated/server ", r#"["abc"]"#),
                (
                    "GET /1.0/dedicated/server/abc ",
                    r#"{"name": "abc", "state": "ok", "commercialRange": "Advance-1", "linkSpeed": 123, "rack": "R1", "noIntervention": false,
                        "os": "debian11_64", "supportLevel": "pro", "serverId": 1234, "reverse": "abc-rev", "datacenter": "gra3"}"#,
                ),
                ("GET /1.0/dedicated/server/abc/ips ", r#"["192.0.2.0/24", "192.0.2.2/32", "2001:db8::/64"]"#),
            ])(head)
        });
        lab.secs(1).await;
        assert_eq!(lab.job.errors(), Vec::<String>::new());
        lab.shown().iter().map(|line| line.replace("__meta_ovhcloud_", "")).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn servers_are_targets() {
        assert_eq!(
            targets("vps").await,
            [concat!(
                r#"192.0.2.1 {vps_datacenter="[gra]", vps_disk="40", vps_display_name="mine", vps_ipv4="192.0.2.1", "#,
                r#"vps_ipv6="2001:db8::1", vps_maximum_additional_ip="16", vps_memory="2048", vps_memory_limit="2048", "#,
                r#"vps_model_name="starter", vps_model_vcore="1", vps_name="vps-1", vps_netboot_mode="local", vps_offer="VPS", "#,
                r#"vps_offer_type="ssd", vps_state="running", vps_vcore="2", vps_version="2019v1", vps_zone="Region OpenStack: os-gra", instance="vps-1"}"#
            )]
        );
        assert_eq!(
            targets("dedicated_server").await,
            [concat!(
                r#"192.0.2.2 {dedicated_server_commercial_range="Advance-1", dedicated_server_datacenter="gra3", "#,
                r#"dedicated_server_ipv4="192.0.2.2", dedicated_server_link_speed="123", dedicated_server_name="abc", "#,
                r#"dedicated_server_no_intervention="false", dedicated_server_os="debian11_64", dedicated_server_rack="R1", "#,
                r#"dedicated_server_reverse="abc-rev", dedicated_server_server_id="1234", dedicated_server_state="ok", "#,
                r#"dedicated_server_support_level="pro", instance="abc"}"#
            )]
        );
    }
}
