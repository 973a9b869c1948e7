//! `gce_sd_configs`: instances of Google's compute engine.
//!
//! Credentials are found where Google's own tools look: the file that `GOOGLE_APPLICATION_CREDENTIALS` names, the file
//! of the signed-in user, the machine itself.

use promontory_config::TargetGroup;
use promontory_config::discovery::GceSdConfig;
use promontory_config::http_client::oauth2::{Grant, JwtBearer, OAuth2, SignatureAlgorithm};
use promontory_config::http_client::{Auth, HttpClientConfig, ProxyConfig, Secret, Source, TlsConfig};
use serde_json::Value;

use super::api::{Api, parse, url};
use super::error::SdError;
use super::meta::{Meta, items, join, text_at, texts, wrapped};
use super::provider::{Refresh, Surroundings};
use crate::client::Call;

/// What may be read with the token.
const SCOPE: &str = "https://www.googleapis.com/auth/compute.readonly";
/// Where a machine of Google asks about itself.
const MACHINE: &str = "http://metadata.google.internal";
/// Pages of one list.
const PAGES_MAX: usize = 1_000;

/// How requests are authorised.
#[derive(Debug)]
enum Credentials {
    /// By the client itself.
    Client,
    /// By a token of the machine.
    Machine,
    /// By a token for the token of a signed-in user.
    User(Value),
}

/// One `gce_sd_configs` entry.
#[derive(Debug)]
pub(super) struct Gce {
    config: GceSdConfig,
    surroundings: Surroundings,
    /// Made when it is first needed, because credentials may come later.
    access: Option<(Api, Credentials)>,
}

impl Gce {
    pub(super) fn new(config: &GceSdConfig, surroundings: &Surroundings) -> Self {
        Self { config: config.clone(), surroundings: surroundings.clone(), access: None }
    }

    fn access(&self) -> Result<(Api, Credentials), SdError> {
        let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let own = env("HOME").map(|home| format!("{home}/.config/gcloud/application_default_credentials.json"));
        let named = env("GOOGLE_APPLICATION_CREDENTIALS");
        let Some(file) = named.or_else(|| own.filter(|path| std::path::Path::new(path).exists())) else {
            return Ok((Api::new(&HttpClientConfig::default(), &self.surroundings), Credentials::Machine));
        };
        let failed = |e: std::io::Error| SdError::File { op: "read", path: file.clone().into(), reason: e.to_string() };
        let said = std::fs::read(&file).map_err(failed)?;
        let said: Value = parse(&url(MACHINE)?, &said)?;
        if text_at(&said, "/type") == "authorized_user" {
            return Ok((Api::new(&HttpClientConfig::default(), &self.surroundings), Credentials::User(said)));
        }
        let grant = Grant::JwtBearer(JwtBearer {
            key: Source::Inline(Secret::new(text_at(&said, "/private_key"))),
            key_id: Some(text_at(&said, "/private_key_id")),
            algorithm: SignatureAlgorithm::Rs256,
            iss: Some(text_at(&said, "/client_email")),
            audience: Some(text_at(&said, "/token_uri")),
            claims: Vec::new(),
        });
        let oauth2 = OAuth2 {
            client_id: text_at(&said, "/client_email"),
            grant,
            scopes: vec![SCOPE.to_owned()],
            token_url: text_at(&said, "/token_uri"),
            endpoint_params: Vec::new(),
            tls: TlsConfig::default(),
            proxy: ProxyConfig::default(),
            headers: Vec::new(),
        };
        let http = HttpClientConfig { auth: Auth::OAuth2(Box::new(oauth2)), ..HttpClientConfig::default() };
        Ok((Api::new(&http, &self.surroundings), Credentials::Client))
    }
}

/// The header that authorises a request, unless the client does.
async fn authorization(api: &mut Api, credentials: &Credentials) -> Result<Option<String>, SdError> {
    let call = match credentials {
        Credentials::Client => return Ok(None),
        Credentials::Machine => {
            let path = "/computeMetadata/v1/instance/service-accounts/default/token";
            Call::get(url(MACHINE)?.with(path, &[])).header("metadata-flavor", "Google")?
        }
        Credentials::User(user) => {
            let field = |name: &str| text_at(user, &format!("/{name}"));
            let (id, secret, token) = (field("client_id"), field("client_secret"), field("refresh_token"));
            let form = url("http://form/")?.with(
                "",
                &[
                    ("client_id", &id),
                    ("client_secret", &secret),
                    ("grant_type", "refresh_token"),
                    ("refresh_token", &token),
                ],
            );
            let form = form.to_string().split_once('?').map(|(_, query)| query.to_owned()).unwrap_or_default();
            Call::post(url("https://oauth2.googleapis.com/token")?, "application/x-www-form-urlencoded", form)
        }
    };
    let answer: Value = api.json(&call).await?;
    let token = text_at(&answer, "/access_token");
    if token.is_empty() {
        Err(SdError::Absent { url: call.url, what: "access_token" })
    } else {
        Ok(Some(format!("Bearer {token}")))
    }
}

impl Refresh for Gce {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, SdError> {
        if self.access.is_none() {
            self.access = Some(self.access()?);
        }
        let Some((api, credentials)) = &mut self.access else { return Ok(Vec::new()) };
        let authorization = authorization(api, credentials).await?;
        let c = &self.config;
        let base = url(&format!("{}://compute.googleapis.com", self.surroundings.cloud_scheme))?;
        let path = format!("/compute/v1/projects/{}/zones/{}/instances", c.project, c.zone);
        let (mut out, mut next) = (Vec::new(), String::new());
        for _ in 0..PAGES_MAX {
            let mut params = Vec::new();
            if !c.filter.is_empty() {
                params.push(("filter", c.filter.as_str()));
            }
            if !next.is_empty() {
                params.push(("pageToken", next.as_str()));
            }
            let mut call = Call::get(base.with(&path, &params));
            if let Some(authorization) = &authorization {
                call = call.header("authorization", authorization)?;
            }
            let page: Value = api.json(&call).await?;
            out.extend(items(&page, "/items").iter().filter_map(|instance| target(c, instance)));
            next = text_at(&page, "/nextPageToken");
            if next.is_empty() {
                return Ok(out);
            }
        }
        Err(SdError::Pages { url: base, max: PAGES_MAX })
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
