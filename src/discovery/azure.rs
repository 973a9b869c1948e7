//! `azure_sd_configs`: virtual machines of Azure, those of scale sets included.

use promontory_config::TargetGroup;
use promontory_config::credentials::{AzureAd, AzureOAuth, AzureSdk, ManagedIdentity, MonitorCloud, WorkloadIdentity};
use promontory_config::discovery::{AzureAuth, AzureCloud, AzureSdConfig};
use promontory_config::http_client::Auth;
use serde_json::Value;

use super::api::{Api, Pages, take_list, url};
use super::error::SdError;
use super::meta::{Meta, items, join, text, text_at};
use super::provider::{Refresh, Surroundings};
use crate::client::{Call, Url};
use crate::credentials::azure::Account;

const COMPUTE_VERSION: &str = "2024-07-01";
const NETWORK_VERSION: &str = "2024-05-01";

/// One `azure_sd_configs` entry.
#[derive(Debug)]
pub(super) struct Azure {
    config: AzureSdConfig,
    account: Account,
    api: Api,
    scheme: &'static str,
}

impl Azure {
    pub(super) fn new(config: &AzureSdConfig, surroundings: &Surroundings) -> Self {
        let mut http = config.http.clone();
        http.auth = Auth::None;
        Self {
            config: config.clone(),
            account: Account::new(&who(config), &http, &surroundings.reach()),
            api: Api::new(&http, surroundings),
            scheme: surroundings.cloud_scheme,
        }
    }

    async fn get(&mut self, url: Url, token: &str) -> Result<Value, SdError> {
        self.api.json(&Call::get(url).header("authorization", token)?).await
    }

    fn at(&self, path: &str, version: &str) -> Result<Url, SdError> {
        let base = url(&format!("{}://{}", self.scheme, manager(self.config.environment)))?;
        Ok(base.with(path, &[("api-version", version)]))
    }

    async fn list(&mut self, path: &str, token: &str) -> Result<Vec<Value>, SdError> {
        let first = self.at(path, COMPUTE_VERSION)?;
        let (mut out, mut at, mut pages) = (Vec::new(), first.clone(), Pages::default());
        loop {
            let mut page = self.get(at.clone(), token).await?;
            out.extend(take_list(&mut page, "/value", &at)?);
            let next = text_at(&page, "/nextLink");
            if pages.are_all(&first, next.as_str())? {
                return Ok(out);
            }
            at = url(&next)?;
            // The token is for this host alone.
            if at.authority() != first.authority() {
                return Err(SdError::Garbled { url: first, what: format!("nextLink leads to another host: {next:?}") });
            }
        }
    }

    async fn target(&mut self, machine: &Value, scale_set: &str, token: &str) -> Result<Option<TargetGroup>, SdError> {
        let c = self.config.clone();
        let mut meta = Meta::new("__meta_azure_");
        meta.set("subscription_id", &c.subscription_id).set("tenant_id", &c.tenant_id).set_all(
            machine,
            &[
                ("machine_computer_name", "/properties/osProfile/computerName"),
                ("machine_id", "/id"),
                ("machine_location", "/location"),
                ("machine_name", "/name"),
                ("machine_os_type", "/properties/storageProfile/osDisk/osType"),
            ],
        );
        let sizes = ["/properties/hardwareProfile/vmSize", "/sku/name"].map(|pointer| text_at(machine, pointer));
        meta.set("machine_size", sizes.iter().find(|size| !size.is_empty()).map_or("", String::as_str));
        let id = text_at(machine, "/id");
        let group = id.split('/').skip_while(|part| !part.eq_ignore_ascii_case("resourceGroups")).nth(1);
        meta.set("machine_resource_group", group.unwrap_or_default()).set("machine_scale_set", scale_set);
        for (key, value) in machine.get("tags").and_then(Value::as_object).into_iter().flatten() {
            meta.set_under("machine_tag", key, text(value));
        }
        for card in items(machine, "/properties/networkProfile/networkInterfaces") {
            let url = self.at(&text_at(card, "/id"), NETWORK_VERSION)?;
            // A card that was removed meanwhile is none.
            let found = match self.get(url, token).await {
                Err(SdError::Status { status, .. }) if status.starts_with("404") => continue,
                found => found?,
            };
            // A machine that is stopped has cards, but none in use.
            if found.pointer("/properties/primary").and_then(Value::as_bool) == Some(false) {
                continue;
            }
            for address in items(&found, "/properties/ipConfigurations") {
                let public = text_at(address, "/properties/publicIPAddress/properties/ipAddress");
                meta.set("machine_public_ip", public);
                let private = text_at(address, "/properties/privateIPAddress");
                if !private.is_empty() {
                    meta.set("machine_private_ip", &private);
                    return Ok(Some(meta.target(join(&private, c.port))));
                }
            }
        }
        Ok(None)
    }
}

/// Who asks.
fn who(config: &AzureSdConfig) -> AzureAd {
    let (client_id, tenant_id) = (config.client_id.clone(), config.tenant_id.clone());
    let mut who = AzureAd {
        cloud: match config.environment {
            AzureCloud::Public => MonitorCloud::Public,
            AzureCloud::China => MonitorCloud::China,
            AzureCloud::Government => MonitorCloud::Government,
        },
        managed_identity: None,
        workload_identity: None,
        oauth: None,
        certificate: None,
        sdk: None,
        scope: format!("https://{}/.default", manager(config.environment)),
    };
    match config.authentication_method {
        AzureAuth::OAuth => {
            who.oauth = Some(AzureOAuth { client_id, client_secret: config.client_secret.clone(), tenant_id });
        }
        AzureAuth::ManagedIdentity => who.managed_identity = Some(ManagedIdentity { client_id }),
        AzureAuth::WorkloadIdentity => {
            who.workload_identity = Some(WorkloadIdentity { client_id, tenant_id, token_file_path: None });
        }
        AzureAuth::Sdk => who.sdk = Some(AzureSdk { tenant_id }),
    }
    who
}

/// The host that knows the machines.
fn manager(cloud: AzureCloud) -> &'static str {
    match cloud {
        AzureCloud::Public => "management.azure.com",
        AzureCloud::China => "management.chinacloudapi.cn",
        AzureCloud::Government => "management.usgovcloudapi.net",
    }
}

impl Refresh for Azure {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, SdError> {
        let token = &self.account.bearer().await?;
        let c = self.config.clone();
        let within = match c.resource_group.as_str() {
            "" => format!("/subscriptions/{}", c.subscription_id),
            group => format!("/subscriptions/{}/resourceGroups/{group}", c.subscription_id),
        };
        let mut out = Vec::new();
        for machine in self.list(&format!("{within}/providers/Microsoft.Compute/virtualMachines"), token).await? {
            out.extend(self.target(&machine, "", token).await?);
        }
        for set in self.list(&format!("{within}/providers/Microsoft.Compute/virtualMachineScaleSets"), token).await? {
            let path = format!("{}/virtualMachines", text_at(&set, "/id"));
            for machine in self.list(&path, token).await? {
                out.extend(self.target(&machine, &text_at(&set, "/name"), token).await?);
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use crate::discovery::testing::{Lab, routes};

    #[tokio::test(start_paused = true)]
    async fn machines_and_those_of_scale_sets_are_targets() {
        let mut lab = Lab::new(
            "azure_sd_configs: [{authentication_method: ManagedIdentity, subscription_id: sub, resource_group: rg}]",
        );
        lab.network.serve(
            "169.254.169.254:80",
            routes(&[(
                "GET /metadata/identity/oauth2/token?api-version=2018-02-01&resource=",
                r#"{"access_token": "T"}"#,
            )]),
        );
        let card = r#"{"properties": {"primary": true, "ipConfigurations": [{"properties": {"privateIPAddress": "10.0.0.4",
            "publicIPAddress": {"properties": {"ipAddress": "1.2.3.4"}}}}]}}"#;
        lab.network.serve("management.azure.com:80", move |head| {
            assert!(head.contains("authorization: Bearer T\r\n"), "{head}");
            let compute = "GET /subscriptions/sub/resourceGroups/rg/providers/Microsoft.Compute";
            routes(&[
                (
                    &format!("{compute}/virtualMachines?"),
                    r#"{"value": [{"id": "/subscriptions/sub/resourceGroups/rg/x/vm1", "name": "vm1", "location": "westeurope", "tags": {"a b": "c"},
                        "properties": {"hardwareProfile": {"vmSize": "NC24"}, "storageProfile": {"osDisk": {"osType": "Linux"}},
                            "osProfile": {"computerName": "h"}, "networkProfile": {"networkInterfaces": [{"id": "/nic/1"}]}}}]}"#,
                ),
                (&format!("{compute}/virtualMachineScaleSets?"), r#"{"value": [{"id": "/set/1", "name": "set1"}]}"#),
                (
                    "GET /set/1/virtualMachines?",
                    r#"{"value": [{"id": "/set/1/0", "name": "set1_0", "properties": {"networkProfile": {"networkInterfaces": [{"id": "/nic/gone"}, {"id": "/nic/2"}]}}}]}"#,
                ),
                ("GET /nic/1?", card),
                ("GET /nic/2?", card),
            ])(head)
        });
        lab.secs(1).await;
        let got: Vec<String> = lab.shown().iter().map(|line| line.replace("__meta_azure_", "")).collect();
        assert_eq!(
            got,
            [
                concat!(
                    r#"10.0.0.4:80 {machine_computer_name="h", machine_id="/subscriptions/sub/resourceGroups/rg/x/vm1", "#,
                    r#"machine_location="westeurope", machine_name="vm1", machine_os_type="Linux", machine_private_ip="10.0.0.4", "#,
                    r#"machine_public_ip="1.2.3.4", machine_resource_group="rg", machine_size="NC24", machine_tag_a_b="c", "#,
                    r#"subscription_id="sub"}"#
                ),
                concat!(
                    r#"10.0.0.4:80 {machine_id="/set/1/0", machine_name="set1_0", machine_private_ip="10.0.0.4", "#,
                    r#"machine_public_ip="1.2.3.4", machine_scale_set="set1", subscription_id="sub"}"#
                ),
            ]
        );
    }
    #[tokio::test(start_paused = true)]
    async fn a_client_shows_its_secret_and_its_token_is_kept() {
        let config = "azure_sd_configs: [{subscription_id: sub, tenant_id: t, client_id: c, client_secret: x, refresh_interval: 30s}]";
        let mut lab = Lab::new(config);
        let n_tokens = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = n_tokens.clone();
        lab.network.serve("login.microsoftonline.com:80", move |head| {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            assert!(
                head.starts_with("POST /t/oauth2/v2.0/token ") && head.contains("client_id=c&client_secret=x&"),
                "{head}"
            );
            assert!(head.ends_with("scope=https%3A%2F%2Fmanagement.azure.com%2F.default"), "{head}");
            routes(&[("POST ", r#"{"access_token": "T", "expires_in": 3600}"#)])(head)
        });
        lab.network.serve("management.azure.com:80", |head| {
            assert!(head.contains("authorization: Bearer T\r\n"), "{head}");
            routes(&[("GET /subscriptions/sub/providers/Microsoft.Compute/", r#"{"value": []}"#)])(head)
        });
        lab.check(100, &[]).await;
        assert_eq!((lab.job.errors(), n_tokens.load(std::sync::atomic::Ordering::Relaxed)), (Vec::new(), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn bad_answers_keep_the_targets() {
        let lab = Lab::new(
            "azure_sd_configs: [{authentication_method: ManagedIdentity, subscription_id: sub, refresh_interval: 30s}]",
        );
        lab.network.serve("169.254.169.254:80", routes(&[("GET /metadata/", r#"{"access_token": "T"}"#)]));
        let good = |head: &str| {
            let machine = r#"{"value": [{"id": "/vm", "properties": {"networkProfile": {"networkInterfaces": [{"id": "/nic/1"}]}}}]}"#;
            let card = r#"{"properties": {"ipConfigurations": [{"properties": {"privateIPAddress": "10.0.0.4"}}]}}"#;
            let compute = "GET /subscriptions/sub/providers/Microsoft.Compute/virtualMachine";
            routes(&[
                (&format!("{compute}s?"), machine),
                (&format!("{compute}ScaleSets?"), r#"{"value": []}"#),
                ("GET /nic/1?", card),
            ])(head)
        };
        let mut bad = Lab::bad_answers();
        bad.push((crate::discovery::testing::json("{}"), "the answer has no value"));
        lab.check_keeps("management.azure.com:80", good, bad, "10.0.0.4:80 ", 30).await;
    }
}
