//! Google: tokens of a service's account, of a signed-in user, or of the machine.
//!
//! Credentials are found where Google's own tools look: the file that `GOOGLE_APPLICATION_CREDENTIALS` names, the file
//! of the signed-in user, the machine itself.

use promontory_config::HttpClientConfig;
use promontory_config::http_client::oauth2::{Grant, JwtBearer, OAuth2, SignatureAlgorithm};
use promontory_config::http_client::{Secret, Source};
use serde_json::Value;

use super::{Api, CredentialError, Kept, Reach, env, url};
use crate::client::{Call, OAuth2Tokens};

/// What samples may be written with.
pub(super) const MONITORING_WRITE: &str = "https://www.googleapis.com/auth/monitoring.write";
/// Where a machine of Google asks about itself.
const MACHINE: &str = "http://metadata.google.internal";

/// How a token is got.
#[derive(Debug)]
enum Way {
    /// With the key of a service's account.
    Service(Box<OAuth2Tokens>),
    /// For the token of a signed-in user.
    User(Value),
    Machine,
}

/// The access of one entry of the configuration.
#[derive(Debug)]
pub(crate) struct Account {
    /// The file of the configuration, if that names one.
    file: Option<String>,
    scope: &'static str,
    api: Api,
    reach: Reach,
    /// Found when it is first needed, because files may come later.
    way: Option<Way>,
    kept: Option<Kept<String>>,
}

impl Account {
    /// Asks for tokens that are good for `scope`.
    pub(crate) fn new(file: Option<String>, scope: &'static str, reach: &Reach) -> Self {
        let api = Api::new(&HttpClientConfig::default(), reach);
        Self { file, scope, api, reach: reach.clone(), way: None, kept: None }
    }

    /// The header `Authorization`.
    pub(crate) async fn bearer(&mut self) -> Result<String, CredentialError> {
        if self.way.is_none() {
            self.way = Some(self.find()?);
        }
        let now_ms = self.reach.now_ms();
        if let Some(bearer) = Kept::good(self.kept.as_ref(), now_ms) {
            return Ok(bearer);
        }
        let call = match &self.way {
            // Keeps its tokens itself.
            Some(Way::Service(tokens)) => return Ok(tokens.header().await?),
            Some(Way::User(user)) => self.by_user(user)?,
            Some(Way::Machine) | None => {
                let path = "/computeMetadata/v1/instance/service-accounts/default/token";
                Call::get(url(MACHINE)?.with(path, &[])).header("metadata-flavor", "Google")?
            }
        };
        let (token, lifetime_ms) = self.api.token(&call).await?;
        let bearer = format!("Bearer {token}");
        self.kept = Some(Kept::new(bearer.clone(), now_ms, lifetime_ms));
        Ok(bearer)
    }

    fn by_user(&self, user: &Value) -> Result<Call, CredentialError> {
        let field = |name: &str| user[name].as_str().unwrap_or_default();
        let fields = [
            ("client_id", field("client_id")),
            ("client_secret", field("client_secret")),
            ("grant_type", "refresh_token"),
            ("refresh_token", field("refresh_token")),
        ];
        let base = url(&format!("{}://oauth2.googleapis.com/token", self.reach.scheme))?;
        Ok(Call::form(base, &fields))
    }

    fn find(&self) -> Result<Way, CredentialError> {
        let own = env("HOME").map(|home| format!("{home}/.config/gcloud/application_default_credentials.json"));
        let named = self.file.clone().or_else(|| env("GOOGLE_APPLICATION_CREDENTIALS"));
        let Some(file) = named.or_else(|| own.filter(|path| std::path::Path::new(path).exists())) else {
            return Ok(Way::Machine);
        };
        let failed = |reason: String| CredentialError::File { path: file.clone().into(), reason };
        let said = std::fs::read(&file).map_err(|e| failed(e.to_string()))?;
        let said: Value = serde_json::from_slice(&said).map_err(|e| failed(e.to_string()))?;
        let text = |name: &str| said[name].as_str().unwrap_or_default().to_owned();
        match text("type").as_str() {
            "authorized_user" => return Ok(Way::User(said)),
            "service_account" => {}
            other => {
                let known = "service_account or authorized_user";
                return Err(failed(format!("credentials of type {other:?}, expected {known}")));
            }
        }
        let grant = Grant::JwtBearer(JwtBearer {
            key: Source::Inline(Secret::new(text("private_key"))),
            key_id: Some(text("private_key_id")),
            algorithm: SignatureAlgorithm::Rs256,
            iss: Some(text("client_email")),
            audience: Some(text("token_uri")),
            claims: Vec::new(),
        });
        let scopes = vec![self.scope.to_owned()];
        let oauth2 = OAuth2 { scopes, ..OAuth2::new(text("client_email"), grant, text("token_uri")) };
        Ok(Way::Service(Box::new(OAuth2Tokens::new(oauth2, self.reach.connector.clone()))))
    }
}
