//! `stackit_sd_configs`: servers of STACKIT, asked with a token that the key of a service's account is good for.

use std::path::PathBuf;

use promontory_config::TargetGroup;
use promontory_config::discovery::StackitSdConfig;
use promontory_config::http_client::oauth2::{Grant, JwtBearer, OAuth2, SignatureAlgorithm};
use promontory_config::http_client::{Secret, Source};
use serde_json::Value;

use super::api::{Api, secret, take_list, url};
use super::error::SdError;
use super::meta::{Meta, items, join, text_at};
use super::provider::{Refresh, Surroundings};
use crate::client::{Call, OAuth2Tokens};
use crate::credentials::CredentialError;

/// What a file of credentials holds.
const FILE: &str = "credentials_file_path is JSON with STACKIT_SERVICE_ACCOUNT_KEY_PATH and STACKIT_PRIVATE_KEY_PATH";

/// One `stackit_sd_configs` entry.
#[derive(Debug)]
pub(super) struct Stackit {
    config: StackitSdConfig,
    api: Api,
    surroundings: Surroundings,
    /// Made when they are first needed, because files may come later.
    tokens: Option<OAuth2Tokens>,
}

impl Stackit {
    pub(super) fn new(config: &StackitSdConfig, surroundings: &Surroundings) -> Self {
        let api = Api::new(&config.http, surroundings);
        Self { config: config.clone(), api, surroundings: surroundings.clone(), tokens: None }
    }

    /// Tokens for the key of the account; `None` if there is no key, and requests are authorised in another way.
    fn tokens(&self) -> Result<Option<OAuth2Tokens>, SdError> {
        let c = &self.config;
        let remedy = "service_account_key is what STACKIT gives when the key is made";
        let file = secret(None, c.credentials_file_path.as_deref())?;
        let file: Value = serde_json::from_str(file.as_deref().unwrap_or("null"))
            .map_err(|_| SdError::Missing { what: "file of credentials is no JSON", remedy: FILE })?;
        // What the configuration says holds before the file.
        let path = |own: &Option<PathBuf>, name: &str| own.clone().or_else(|| Some(file[name].as_str()?.into()));
        let account_path = path(&c.service_account_key_path, "STACKIT_SERVICE_ACCOUNT_KEY_PATH");
        let key_path = path(&c.private_key_path, "STACKIT_PRIVATE_KEY_PATH");
        let Some(account) = secret(c.service_account_key.as_ref(), account_path.as_deref())? else {
            let missing = SdError::Missing { what: "file of credentials without a key of the account", remedy: FILE };
            return if c.credentials_file_path.is_none() { Ok(None) } else { Err(missing) };
        };
        let account: Value = serde_json::from_str(&account)
            .map_err(|_| SdError::Missing { what: "key of the account is no JSON", remedy })?;
        let text = |name: &str| text_at(&account["credentials"], name);
        let key = match (&c.private_key, key_path) {
            (Some(key), _) => Source::Inline(key.clone()),
            (None, Some(path)) => Source::File(path),
            (None, None) => Source::Inline(Secret::new(text("/privateKey"))),
        };
        if text("/iss").is_empty() || text("/kid").is_empty() {
            return Err(SdError::Missing { what: "key of the account without credentials", remedy });
        }
        let grant = Grant::JwtBearer(JwtBearer {
            key,
            key_id: Some(text("/kid")),
            algorithm: SignatureAlgorithm::Rs512,
            iss: Some(text("/iss")),
            audience: Some(text("/aud")),
            claims: Vec::new(),
        });
        let token_url = format!("{}://service-account.api.stackit.cloud/token", self.surroundings.cloud_scheme);
        let oauth2 = OAuth2 {
            tls: c.http.tls.clone(),
            proxy: c.http.proxy.clone(),
            ..OAuth2::new(text("/sub"), grant, token_url)
        };
        Ok(Some(OAuth2Tokens::new(oauth2, self.surroundings.connector.clone())))
    }
}

impl Refresh for Stackit {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, SdError> {
        if self.tokens.is_none() {
            self.tokens = self.tokens()?;
        }
        let c = &self.config;
        let base = if c.endpoint.is_empty() {
            url(&format!("{}://iaas.api.{}.stackit.cloud", self.surroundings.cloud_scheme, c.region))?
        } else {
            url(&c.endpoint)?
        };
        let asked = base.with("/v1/projects", &[]).with_part(&c.project).with("/servers", &[("details", "true")]);
        let mut call = Call::get(asked.clone());
        if let Some(tokens) = &self.tokens {
            let header = tokens.header().await.map_err(CredentialError::from)?;
            call = call.header("authorization", &header)?;
        }
        let mut answer: Value = self.api.json(&call).await?;
        let servers = take_list(&mut answer, "/items", &asked)?;
        Ok(servers.iter().filter_map(|server| target(&self.config, server)).collect())
    }
}

fn target(c: &StackitSdConfig, server: &Value) -> Option<TargetGroup> {
    let mut meta = Meta::new("__meta_stackit_");
    meta.set("project", &c.project).set_all(
        server,
        &[
            ("availability_zone", "/availabilityZone"),
            ("id", "/id"),
            ("name", "/name"),
            ("power_status", "/powerStatus"),
            ("status", "/status"),
            ("type", "/machineType"),
        ],
    );
    let (mut public, mut private) = (String::new(), String::new());
    for card in items(server, "/nics") {
        let own = text_at(card, "/ipv4");
        meta.set_under("private_ipv4", &text_at(card, "/networkName"), &own);
        for (found, address) in [(&mut public, text_at(card, "/publicIp")), (&mut private, own)] {
            if found.is_empty() {
                *found = address;
            }
        }
    }
    meta.set("public_ipv4", &public);
    for (key, value) in server["labels"].as_object().into_iter().flatten() {
        if let Some(value) = value.as_str() {
            meta.set_under("labelpresent", key, "true").set_under("label", key, value);
        }
    }
    let address = [public, private].into_iter().find(|address| !address.is_empty())?;
    Some(meta.target(join(&address, c.port)))
}

#[cfg(test)]
mod tests {
    use crate::client::testing::answer;
    use crate::discovery::testing::{Lab, json, routes};

    const PATH: &str = "GET /v1/projects/p/servers?details=true ";
    const SERVERS: &str = r#"{"items": [{"id": "1", "name": "gpu", "status": "ACTIVE", "powerStatus": "RUNNING",
        "availabilityZone": "eu01-1", "machineType": "n1.14d.g1", "labels": {"team-a": "ml", "n": 1},
        "nics": [{"networkName": "my net", "ipv4": "10.0.0.1"}, {"networkName": "b", "ipv4": "10.1.0.1", "publicIp": "1.2.3.4"}]},
        {"id": "2"}]}"#;

    #[tokio::test(start_paused = true)]
    async fn servers_are_targets() {
        let mut lab = Lab::new("stackit_sd_configs: [{project: p, port: 9100}]");
        lab.network.serve("iaas.api.eu01.stackit.cloud:80", routes(&[(PATH, SERVERS)]));
        lab.secs(1).await;
        let got: Vec<String> = lab.shown().iter().map(|line| line.replace("__meta_stackit_", "")).collect();
        let expected = concat!(
            r#"1.2.3.4:9100 {availability_zone="eu01-1", id="1", label_team_a="ml", labelpresent_team_a="true", name="gpu", "#,
            r#"power_status="RUNNING", private_ipv4_b="10.1.0.1", private_ipv4_my_net="10.0.0.1", project="p", "#,
            r#"public_ipv4="1.2.3.4", status="ACTIVE", type="n1.14d.g1"}"#
        );
        assert_eq!(got, [expected], "{:?}", lab.job.errors());
    }

    #[tokio::test(start_paused = true)]
    async fn the_key_of_an_account_is_good_for_a_token() {
        let pem = include_str!("../client/testdata/rsa-key.pem");
        let key =
            serde_json::json!({"credentials": {"iss": "i", "sub": "s", "aud": "a", "kid": "k", "privateKey": pem}});
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key.json");
        let config = format!(
            "stackit_sd_configs: [{{project: p, refresh_interval: 30s, service_account_key_path: {}}}]",
            file.display()
        );
        let mut lab = Lab::new(&config);
        lab.network.serve("service-account.api.stackit.cloud:80", |head| {
            let grant = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=";
            assert!(head.starts_with("POST /token ") && head.contains(grant), "{head}");
            json(r#"{"access_token": "T", "expires_in": 3600}"#)
        });
        lab.network.serve("iaas.api.eu01.stackit.cloud:80", |head| {
            match head.contains("authorization: Bearer T\r\n") {
                true => routes(&[(PATH, SERVERS)])(head),
                false => vec![answer("401 Unauthorized", "", b"")],
            }
        });
        lab.secs(1).await;
        assert!(lab.job.errors()[0].starts_with("read "), "{:?}", lab.job.errors());
        std::fs::write(&file, "{}").unwrap();
        lab.secs(30).await;
        assert!(lab.job.errors()[0].starts_with("key of the account without credentials; "), "{:?}", lab.job.errors());
        std::fs::write(&file, key.to_string()).unwrap();
        lab.secs(30).await;
        assert_eq!((lab.shown().len(), lab.job.errors()), (1, Vec::new()));

        // The same by a file that says where the key is.
        let beside = dir.path().join("credentials.json");
        let (own, other) = (file.display().to_string(), beside.display().to_string());
        let mut other = Lab::over(
            &config.replace("service_account_key_path", "credentials_file_path").replace(&own, &other),
            lab.network.clone(),
            lab.network.clone(),
        );
        for (text, said) in
            [("x", "file of credentials is no JSON; "), ("{}", "file of credentials without a key of the account; ")]
        {
            std::fs::write(&beside, text).unwrap();
            other.secs(30).await;
            assert!(other.job.errors()[0].starts_with(said), "{:?}", other.job.errors());
        }
        std::fs::write(&beside, serde_json::json!({"STACKIT_SERVICE_ACCOUNT_KEY_PATH": own}).to_string()).unwrap();
        other.secs(30).await;
        assert_eq!((other.shown().len(), other.job.errors()), (1, Vec::new()));
    }

    #[tokio::test(start_paused = true)]
    async fn bad_answers_keep_the_targets() {
        let lab = Lab::new("stackit_sd_configs: [{project: p, refresh_interval: 30s}]");
        let mut bad = Lab::bad_answers();
        bad.push((json("{}"), "the answer has no items"));
        let good = |head: &str| routes(&[(PATH, SERVERS)])(head);
        lab.check_keeps("iaas.api.eu01.stackit.cloud:80", good, bad, "1.2.3.4:80 ", 30).await;
    }
}
