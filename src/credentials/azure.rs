//! Microsoft: tokens for a client with a secret, a workload with a token of its own, or a machine.

use promontory_config::HttpClientConfig;
use promontory_config::credentials::{AzureAd, MonitorCloud, WorkloadIdentity};
use promontory_config::http_client::Secret;

use super::{Api, CredentialError, Kept, Reach, env, url};
use crate::client::Call;

/// Where a machine of Azure asks about itself.
const MACHINE: &str = "http://169.254.169.254/metadata/identity/oauth2/token";
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The access of one entry of the configuration.
#[derive(Debug)]
pub(super) struct Account {
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
    pub(super) fn new(config: &AzureAd, reach: &Reach) -> Self {
        let api = Api::new(&HttpClientConfig::default(), reach);
        Self { config: config.clone(), api, reach: reach.clone(), kept: None }
    }

    /// The header `Authorization`.
    pub(super) async fn bearer(&mut self) -> Result<String, CredentialError> {
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
        let path = workload.token_file();
        let failed = |e: std::io::Error| CredentialError::File { path: path.clone(), reason: e.to_string() };
        let token = std::fs::read_to_string(&path).map_err(failed)?;
        let fields = [
            ("client_assertion", token.trim()),
            ("client_assertion_type", ASSERTION),
            ("client_id", workload.client_id.as_str()),
        ];
        self.post(&workload.tenant_id, &fields)
    }

    fn post(&self, tenant: &str, fields: &[(&str, &str)]) -> Result<Call, CredentialError> {
        let host = hosts(self.config.cloud).0;
        let base = url(&format!("{}://{host}/{tenant}/oauth2/v2.0/token", self.reach.scheme))?;
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
