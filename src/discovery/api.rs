//! Asking a server over HTTP, as most mechanisms do.

use std::path::Path;
use std::time::Duration;

use promontory_config::http_client::{HttpClientConfig, Secret};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::SdError;
use super::provider::Surroundings;
use crate::client::{Answer, BodyError, Call, Client, FetchError, JobClient, Offer, Url};

/// Bytes of one answer, uncompressed.
pub(super) const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// Characters of a refusal that are shown.
const SHOWN_MAX: usize = 200;
/// Time that one answer may take unless the configuration says otherwise.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);
/// Pages of one list.
const PAGES_MAX: usize = 1_000;

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

/// How far a list has been read that is answered page by page.
#[derive(Debug, Default)]
pub(super) struct Pages {
    n_read: usize,
    next: String,
}

impl Pages {
    /// What names the page to ask for; nothing names the first.
    pub(super) fn next(&self) -> Option<&str> {
        Some(self.next.as_str()).filter(|next| !next.is_empty())
    }

    /// Whether the page just read is the last, since it says this of the `next` one.
    pub(super) fn are_all(&mut self, url: &Url, next: impl Into<String>) -> Result<bool, SdError> {
        self.next = next.into();
        self.n_read += 1;
        if self.n_read >= PAGES_MAX && !self.next.is_empty() {
            return Err(SdError::Pages { url: url.clone(), max: PAGES_MAX });
        }
        Ok(self.next.is_empty())
    }
}

/// Takes the list at `pointer` out of what `url` answered.
pub(super) fn take_list(answer: &mut Value, pointer: &'static str, url: &Url) -> Result<Vec<Value>, SdError> {
    match answer.pointer_mut(pointer).map(Value::take) {
        Some(Value::Array(list)) => Ok(list),
        _ => Err(SdError::Absent { url: url.clone(), what: pointer.trim_start_matches('/') }),
    }
}

/// A secret of the configuration, or in a file that it names.
pub(super) fn secret(own: Option<&Secret>, file: Option<&Path>) -> Result<Option<String>, SdError> {
    let read = |path: &Path| {
        let failed = |e: std::io::Error| SdError::File { op: "read", path: path.to_owned(), reason: e.to_string() };
        std::fs::read_to_string(path).map_err(failed)
    };
    match own {
        Some(secret) => Ok(Some(secret.reveal().to_owned())),
        None => file.map(read).transpose(),
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
