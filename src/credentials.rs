//! Who asks clouds: keys and tokens of Amazon, Microsoft and Google, and requests signed with them.
//!
//! What a service gives for a time is kept until shortly before it ends. Knows the HTTP client and the configuration,
//! nothing of what is asked for.

pub(crate) mod aws;
pub(crate) mod azure;
pub(crate) mod google;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use promontory_config::HttpClientConfig;
use promontory_config::credentials::CloudAuth;
use promontory_storage::clock::Clock;
use serde_json::Value;
use tokio::sync::Mutex;

use crate::client::{Answer, Call, Client, Connector, FetchError, JobClient, OAuth2Error, Offer, Url, UrlError};

/// Bytes of an answer with keys or a token.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// Time that such an answer may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Characters of a refusal that are shown.
const SHOWN_MAX: usize = 200;
/// What ends within this time is replaced, if it is good for much longer.
const MARGIN_MS: i64 = 5 * 60_000;
/// How long something is good that does not say so.
const LIFETIME_MS: i64 = 10 * 60_000;

/// The name under which managed Prometheus is signed for at Amazon.
const AMAZON_SERVICE: &str = "aps";

/// Why a request cannot be authorised.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialError {
    /// No usable answer.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// No token.
    #[error(transparent)]
    OAuth2(#[from] OAuth2Error),
    /// An address is none.
    #[error("{text:?} is not a URL: {source}")]
    Url {
        /// What was given.
        text: String,
        /// What is wrong with it.
        source: UrlError,
    },
    /// A service refused.
    #[error("{url}: server returned HTTP status {status}{}{body}", if body.is_empty() { "" } else { ": " })]
    Status {
        /// Who was asked.
        url: Url,
        /// Status of the answer.
        status: String,
        /// The beginning of what it says.
        body: String,
    },
    /// The answer is not understood.
    #[error("{url}: {what}")]
    Garbled {
        /// Who was asked.
        url: Url,
        /// What is wrong.
        what: String,
    },
    /// Something that must be in an answer is not.
    #[error("{url}: the answer has no {what}")]
    Absent {
        /// Who was asked.
        url: Url,
        /// What is missing.
        what: &'static str,
    },
    /// A file with keys or a token.
    #[error("read {}: {reason}", path.display())]
    File {
        /// File.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// How services are reached.
#[derive(Debug, Clone)]
pub(crate) struct Reach {
    pub(crate) connector: Arc<dyn Connector>,
    pub(crate) clock: Arc<dyn Clock>,
    /// `https`, but in tests.
    pub(crate) scheme: &'static str,
}

impl Reach {
    fn now_ms(&self) -> i64 {
        self.clock.now().ms()
    }
}

/// Asks services for keys and tokens.
#[derive(Debug)]
struct Api {
    job: JobClient,
    client: Client,
}

impl Api {
    fn new(http: &HttpClientConfig, reach: &Reach) -> Self {
        let offer =
            Offer { accept: "application/json".to_owned(), gzip: false, body_bytes_max: Some(ANSWER_BYTES_MAX) };
        Self { job: JobClient::new(http.clone(), offer, reach.connector.clone()), client: Client::new() }
    }

    /// The whole answer of a request that succeeds.
    async fn send(&mut self, call: &Call) -> Result<Answer, CredentialError> {
        let answer = self.client.send(&self.job, call, TIMEOUT).await?;
        if answer.status.is_success() {
            return Ok(answer);
        }
        let body = String::from_utf8_lossy(&answer.body);
        let body = body.trim().chars().take(SHOWN_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
        Err(CredentialError::Status { url: call.url.clone(), status: answer.reason, body })
    }

    async fn json(&mut self, call: &Call) -> Result<Value, CredentialError> {
        let answer = self.send(call).await?;
        json(&call.url, &answer.body)
    }

    /// The token that a request is answered with, and how long it is good.
    async fn token(&mut self, call: &Call) -> Result<(String, i64), CredentialError> {
        let answer = self.json(call).await?;
        let token = answer["access_token"].as_str().unwrap_or_default();
        if token.is_empty() {
            return Err(CredentialError::Absent { url: call.url.clone(), what: "access_token" });
        }
        // Some write the number as a text.
        let seconds = answer["expires_in"].as_i64().or_else(|| answer["expires_in"].as_str()?.parse().ok());
        let lifetime_ms = seconds.filter(|s| *s > 0).map_or(LIFETIME_MS, |s| s.saturating_mul(1_000));
        Ok((token.to_owned(), lifetime_ms))
    }
}

fn json(url: &Url, body: &[u8]) -> Result<Value, CredentialError> {
    serde_json::from_slice(body).map_err(|e| CredentialError::Garbled { url: url.clone(), what: e.to_string() })
}

fn url(text: &str) -> Result<Url, CredentialError> {
    Url::parse(text).map_err(|source| CredentialError::Url { text: text.to_owned(), source })
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Something that is good for a time.
#[derive(Debug, Clone)]
struct Kept<T> {
    what: T,
    until_ms: i64,
}

impl<T: Clone> Kept<T> {
    /// Something that was given at `now_ms` for so long; not kept for the last part of it, in which it may end on its
    /// way.
    fn new(what: T, now_ms: i64, lifetime_ms: i64) -> Self {
        let margin_ms = MARGIN_MS.min(lifetime_ms / 4);
        Self { what, until_ms: now_ms.saturating_add(lifetime_ms - margin_ms) }
    }

    fn good(kept: Option<&Self>, now_ms: i64) -> Option<T> {
        kept.filter(|kept| now_ms < kept.until_ms).map(|kept| kept.what.clone())
    }
}

/// Authorises requests as the configuration of a destination says.
#[derive(Debug)]
pub(crate) struct Authorizer {
    /// Held while a service is asked: one of many requests does, and the others wait for its answer.
    account: Mutex<Account>,
    clock: Arc<dyn Clock>,
}

#[derive(Debug)]
enum Account {
    Amazon(Box<aws::Account>),
    Azure(Box<azure::Account>),
    Google(Box<google::Account>),
}

impl Authorizer {
    pub(crate) fn new(auth: &CloudAuth, reach: &Reach) -> Self {
        let account = match auth {
            CloudAuth::Amazon(config) => {
                Account::Amazon(Box::new(aws::Account::new(config.into(), &HttpClientConfig::default(), reach)))
            }
            CloudAuth::Azure(config) => {
                Account::Azure(Box::new(azure::Account::new(config, &HttpClientConfig::default(), reach)))
            }
            CloudAuth::Google(config) => {
                let file = config.credentials_file.as_ref().map(|path| path.display().to_string());
                Account::Google(Box::new(google::Account::new(file, google::MONITORING_WRITE, reach)))
            }
        };
        Self { account: Mutex::new(account), clock: reach.clock.clone() }
    }

    /// `call` with what says who asks.
    pub(crate) async fn authorize(&self, call: Call) -> Result<Call, CredentialError> {
        let mut account = self.account.lock().await;
        let bearer = match &mut *account {
            Account::Amazon(account) => {
                let (keys, region) = (account.keys().await?, account.region().await?);
                return Ok(aws::sign(call, AMAZON_SERVICE, &region, &keys, self.clock.now())?);
            }
            Account::Azure(account) => account.bearer().await?,
            Account::Google(account) => account.bearer().await?,
        };
        Ok(call.header("authorization", &bearer)?)
    }
}

#[cfg(test)]
mod tests;
