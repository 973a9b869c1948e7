//! Asking a server over HTTP, as most mechanisms do.

use std::time::Duration;

use promontory_config::http_client::HttpClientConfig;
use serde::de::DeserializeOwned;

use super::error::SdError;
use super::provider::Surroundings;
use crate::client::{Answer, BodyError, Call, Client, FetchError, JobClient, Offer, Url};

/// Bytes of one answer, uncompressed.
pub(super) const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// Characters of a refusal that are shown.
const SHOWN_MAX: usize = 200;
/// Time that one answer may take unless the configuration says otherwise.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);

/// A server that is asked for targets.
#[derive(Debug)]
pub(super) struct Api {
    job: JobClient,
    client: Client,
    /// Time that one answer may take.
    answer_time: Duration,
}

impl Api {
    /// Asks as `http` says.
    pub(super) fn new(http: &HttpClientConfig, surroundings: &Surroundings) -> Self {
        Self { job: job_client(http, surroundings, true), client: Client::new(), answer_time: ANSWER_TIME_MAX }
    }

    /// The same with another time that one answer may take.
    pub(super) fn within(self, answer_time: Duration) -> Self {
        Self { answer_time, ..self }
    }

    /// The whole answer, of status 200.
    pub(super) async fn send(&mut self, call: &Call) -> Result<Answer, SdError> {
        let answer = self.send_any(call).await?;
        if answer.status.is_success() { Ok(answer) } else { Err(refused(call.url.clone(), &answer)) }
    }

    /// The whole answer, of any status.
    pub(super) async fn send_any(&mut self, call: &Call) -> Result<Answer, SdError> {
        self.client.send(&self.job, call, self.answer_time).await.map_err(|e| match e {
            FetchError::Body(BodyError::Limit | BodyError::DefaultLimit) => SdError::TooLarge { url: call.url.clone() },
            other => other.into(),
        })
    }

    /// What `call` answers as JSON.
    pub(super) async fn json<T: DeserializeOwned>(&mut self, call: &Call) -> Result<T, SdError> {
        let answer = self.send(call).await?;
        parse(&call.url, &answer.body)
    }

    /// What is at `url` as JSON.
    pub(super) async fn get<T: DeserializeOwned>(&mut self, url: Url) -> Result<T, SdError> {
        self.json(&Call::get(url)).await
    }
}

/// A client for answers of discovery; those that are read while they arrive are not compressed.
pub(super) fn job_client(http: &HttpClientConfig, surroundings: &Surroundings, gzip: bool) -> JobClient {
    let offer = Offer { accept: "application/json".to_owned(), gzip, body_bytes_max: Some(ANSWER_BYTES_MAX) };
    JobClient::new(http.clone(), offer, surroundings.connector.clone())
}

/// Reads the URL `text`.
pub(super) fn url(text: &str) -> Result<Url, SdError> {
    Url::parse(text).map_err(|source| SdError::Url { text: text.to_owned(), source })
}

/// Reads JSON that came from `url`.
pub(super) fn parse<T: DeserializeOwned>(url: &Url, body: &[u8]) -> Result<T, SdError> {
    serde_json::from_slice(body).map_err(|source| SdError::Json { url: url.clone(), source })
}

/// The error that a refusal is, with the beginning of what the server says.
pub(super) fn refused(url: Url, answer: &Answer) -> SdError {
    let body = String::from_utf8_lossy(&answer.body);
    let body: String = body.trim().chars().take(SHOWN_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    SdError::Status { url, status: answer.reason.clone(), body }
}
