//! Microsoft: tokens for a client with a secret or a certificate, a workload with a token of its own, or a machine.
//!
//! # Source
//! "Microsoft identity platform application authentication certificate credentials" of Microsoft's documentation.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use promontory_config::HttpClientConfig;
use promontory_config::credentials::{AzureAd, AzureCertificate, MonitorCloud, WorkloadIdentity};
use promontory_config::http_client::Secret;
use promontory_config::http_client::oauth2::SignatureAlgorithm;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;

use super::{Api, CredentialError, Kept, Reach, env, url};
use crate::client::{Call, signed_token, unique};

/// Where a machine of Azure asks about itself.
const MACHINE: &str = "http://169.254.169.254/metadata/identity/oauth2/token";
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// How long a signed assertion holds; it is used at once.
const ASSERTION_SECS: i64 = 600;

/// The access of one entry of the configuration.
#[derive(Debug)]
pub(crate) struct Account {
    config: AzureAd,
    api: Api,
    reach: Reach,
    kept: Option<Kept<String>>,
}

/// Who gives tokens, and what for.
fn hosts(cloud: MonitorCloud) -> (&'static str, &'static str) {
    match cloud {
        MonitorCloud::Public => ("login.microsoftonline.com", "https://monitor.azure.com/"),
        MonitorCloud::China => ("login.chinacloudapi.cn", "https://monitor.azure.cn/"),
        MonitorCloud::Government => ("login.microsoftonline.us", "https://monitor.azure.us/"),
    }
}

impl Account {
    /// Services are asked as `http` says.
    pub(crate) fn new(config: &AzureAd, http: &HttpClientConfig, reach: &Reach) -> Self {
        Self { config: config.clone(), api: Api::new(http, reach), reach: reach.clone(), kept: None }
    }

    /// The header `Authorization`.
    pub(crate) async fn bearer(&mut self) -> Result<String, CredentialError> {
        let now_ms = self.reach.now_ms();
        if let Some(bearer) = Kept::good(self.kept.as_ref(), now_ms) {
            return Ok(bearer);
        }
        let call = self.call()?;
        let (token, lifetime_ms) = self.api.token(&call).await?;
        let bearer = format!("Bearer {token}");
        self.kept = Some(Kept::new(bearer.clone(), now_ms, lifetime_ms));
        Ok(bearer)
    }

    /// The request for a token.
    fn call(&self) -> Result<Call, CredentialError> {
        let c = &self.config;
        if let Some(oauth) = &c.oauth {
            return self.by_secret(&oauth.tenant_id, &oauth.client_id, oauth.client_secret.as_ref());
        }
        if let Some(workload) = &c.workload_identity {
            return self.by_workload(workload);
        }
        if let Some(certificate) = &c.certificate {
            return self.by_certificate(certificate);
        }
        if let Some(machine) = &c.managed_identity {
            return self.by_machine(&machine.client_id);
        }
        // What the tools of Microsoft try, in their order.
        let tenant = c.sdk.as_ref().map(|sdk| sdk.tenant_id.clone()).filter(|tenant| !tenant.is_empty());
        let tenant = tenant.or_else(|| env("AZURE_TENANT_ID")).unwrap_or_default();
        let client_id = env("AZURE_CLIENT_ID").unwrap_or_default();
        if let Some(secret) = env("AZURE_CLIENT_SECRET") {
            return self.by_secret(&tenant, &client_id, Some(&Secret::new(secret)));
        }
        if let Some(file) = env("AZURE_CLIENT_CERTIFICATE_PATH") {
            return self.by_certificate(&AzureCertificate {
                client_id,
                tenant_id: tenant,
                certificate_path: Some(file.into()),
                certificate_key_path: None,
                certificate_password: None,
                send_certificate_chain: env("AZURE_CLIENT_SEND_CERTIFICATE_CHAIN").is_some_and(|is| is != "false"),
            });
        }
        if let Some(file) = env("AZURE_FEDERATED_TOKEN_FILE") {
            return self.by_workload(&WorkloadIdentity {
                client_id,
                tenant_id: tenant,
                token_file_path: Some(file.into()),
            });
        }
        self.by_machine(&client_id)
    }

    fn scope(&self) -> String {
        match self.config.scope.as_str() {
            "" => format!("{}/.default", hosts(self.config.cloud).1),
            scope => scope.to_owned(),
        }
    }

    fn by_secret(&self, tenant: &str, client_id: &str, secret: Option<&Secret>) -> Result<Call, CredentialError> {
        let secret = secret.map_or("", |secret| secret.reveal());
        self.post(tenant, &[("client_id", client_id), ("client_secret", secret)])
    }

    fn by_workload(&self, workload: &WorkloadIdentity) -> Result<Call, CredentialError> {
        // What puts the token into a pod of Kubernetes says in its environment where it is, and for whom.
        let said = env("AZURE_FEDERATED_TOKEN_FILE").filter(|_| workload.token_file_path.is_none());
        let token = read(&said.map_or_else(|| workload.token_file(), Into::into))?;
        let or_said = |own: &String, name: &str| match own.as_str() {
            "" => env(name).unwrap_or_default(),
            own => own.to_owned(),
        };
        let tenant = or_said(&workload.tenant_id, "AZURE_TENANT_ID");
        self.by_assertion(&tenant, &or_said(&workload.client_id, "AZURE_CLIENT_ID"), token.trim())
    }

    /// What a client with a certificate signs instead of showing a secret; the files may have changed since last time.
    fn by_certificate(&self, c: &AzureCertificate) -> Result<Call, CredentialError> {
        let path = c.certificate_path.as_deref().unwrap_or(Path::new(""));
        let text = read(path)?;
        let failed = |path: &Path, reason: &str| CredentialError::File { path: path.into(), reason: reason.to_owned() };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
        let chain = chain.map_err(|e| failed(path, &e.to_string()))?;
        let first = chain.first().ok_or_else(|| failed(path, "no certificate in PEM"))?;
        let mut head = json!({"alg": "RS256", "typ": "JWT", "x5t": thumbprint(first)});
        if c.send_certificate_chain {
            head["x5c"] = chain.iter().map(|certificate| STANDARD.encode(certificate)).collect();
        }
        let now = self.reach.now_ms() / 1000;
        let claims = json!({
            "aud": self.token_url(&c.tenant_id),
            "iss": c.client_id,
            "sub": c.client_id,
            "jti": unique().ok_or_else(|| failed(path, "no random number for an assertion"))?,
            "nbf": now,
            "exp": now + ASSERTION_SECS,
        });
        let key_path = c.certificate_key_path.as_deref();
        let key = key_path.map_or(Ok(text), read)?;
        let assertion = signed_token(SignatureAlgorithm::Rs256, &key, &head, &claims)
            .ok_or_else(|| failed(key_path.unwrap_or(path), "no RSA key in PEM"))?;
        self.by_assertion(&c.tenant_id, &c.client_id, &assertion)
    }

    fn by_assertion(&self, tenant: &str, client_id: &str, assertion: &str) -> Result<Call, CredentialError> {
        let fields = [("client_assertion", assertion), ("client_assertion_type", ASSERTION), ("client_id", client_id)];
        self.post(tenant, &fields)
    }

    /// Where a tenant's tokens are given.
    fn token_url(&self, tenant: &str) -> String {
        format!("{}://{}/{tenant}/oauth2/v2.0/token", self.reach.scheme, hosts(self.config.cloud).0)
    }

    fn post(&self, tenant: &str, fields: &[(&str, &str)]) -> Result<Call, CredentialError> {
        let base = url(&self.token_url(tenant))?;
        let scope = self.scope();
        let fields = [fields, &[("grant_type", "client_credentials"), ("scope", &scope)]].concat();
        Ok(Call::form(base, &fields))
    }

    fn by_machine(&self, client_id: &str) -> Result<Call, CredentialError> {
        let scope = self.scope();
        let resource = scope.strip_suffix("/.default").unwrap_or(&scope);
        let mut params = vec![("api-version", "2018-02-01"), ("resource", resource)];
        if !client_id.is_empty() {
            params.push(("client_id", client_id));
        }
        Ok(Call::get(url(MACHINE)?.with("", &params)).header("metadata", "true")?)
    }
}

fn read(path: &Path) -> Result<String, CredentialError> {
    std::fs::read_to_string(path).map_err(|e| CredentialError::File { path: path.into(), reason: e.to_string() })
}

/// The name of a certificate by which Microsoft finds it.
fn thumbprint(certificate: &CertificateDer<'_>) -> String {
    URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, certificate))
}
