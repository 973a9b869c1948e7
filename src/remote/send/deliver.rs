//! One request of samples, until the destination has taken or refused it for good.
//!
//! Repeated as remote write wants it: after a failure of the network, 5xx and, where configured, 429. What version 1
//! refuses with 400 or 413 is cut in two and sent again, a limited number of times: a server that refuses one sample
//! refuses the whole request. Nothing waits by the wall clock; a stop ends every wait.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, header};
use promontory_config::RemoteWriteConfig;
use promontory_config::remote::WriteMessage;
use promontory_storage::clock::Clock;
use tokio::sync::watch;

use super::message::{self, Counts, Families, Item};
use super::stats::Stats;
use super::target_of;
use crate::client::{Answer, Call, Client, JobClient, Url};
use crate::credentials::{Authorizer, CredentialError};
use crate::remote::write::{EXEMPLARS_WRITTEN, HISTOGRAMS_WRITTEN, SAMPLES_WRITTEN};

/// Longest time that a destination may ask us to wait.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);
/// Time that a request under way has when the server stops.
const DRAIN: Duration = Duration::from_secs(3);
/// Attempts to send metadata, which come again soon: samples wait meanwhile.
const METADATA_ATTEMPTS_MAX: u32 = 3;
/// Requests that the parts of one that is refused may take.
const PARTS_MAX: u32 = 64;

/// What requests to one destination share.
#[derive(Debug)]
pub(super) struct Destination {
    pub(super) key: String,
    pub(super) config: Arc<RemoteWriteConfig>,
    pub(super) url: Url,
    pub(super) job: JobClient,
    /// Says who asks where the client does not.
    pub(super) authorizer: Option<Authorizer>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) stats: Arc<Stats>,
    pub(super) stop: watch::Receiver<bool>,
}

/// The server stops; what was asked for is not known to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stopped;

/// How a request ended.
#[derive(Debug)]
enum Outcome {
    Taken(HeaderMap),
    /// Refused for good, and why; may `cut` into parts that are taken.
    Refused {
        cut: bool,
        reason: String,
    },
}

impl Destination {
    /// Sends `items` until each is taken or refused for good.
    pub(super) async fn deliver(
        &self,
        client: &mut Client,
        items: &[Item],
        families: &Families,
    ) -> Result<(), Stopped> {
        // The one that comes next is the last.
        let mut parts = vec![Cow::Borrowed(items)];
        let mut n_parts = 0;
        while let Some(part) = parts.pop() {
            let body = message::request(self.config.message, &part, families);
            let counts = Counts::of(&part);
            n_parts += 1;
            match self.send(client, body, self.config.message, u32::MAX, || self.stats.retried(counts)).await? {
                Outcome::Taken(headers) => self.taken(&part, counts, &headers),
                Outcome::Refused { cut: true, .. } if part.len() > 1 && n_parts < PARTS_MAX => {
                    parts.extend(cut(part.into_owned()));
                }
                Outcome::Refused { reason, .. } => {
                    self.stats.failed(counts);
                    tracing::error!(
                        destination = %self.key,
                        samples = counts.samples,
                        histograms = counts.histograms,
                        exemplars = counts.exemplars,
                        reason,
                        "samples are refused and not sent again"
                    );
                }
            }
        }
        Ok(())
    }

    /// Sends a request of version 1 that says what `n` families mean.
    pub(super) async fn deliver_metadata(&self, client: &mut Client, body: Vec<u8>, n: usize) -> Result<(), Stopped> {
        let bytes = body.len();
        let retried = || self.stats.metadata_retried(n);
        match self.send(client, body, WriteMessage::First, METADATA_ATTEMPTS_MAX, retried).await? {
            Outcome::Taken(_) => self.stats.metadata_sent(n, bytes),
            Outcome::Refused { reason, .. } => {
                self.stats.metadata_failed(n);
                tracing::error!(destination = %self.key, families = n, reason, "metadata are refused");
            }
        }
        Ok(())
    }

    /// Counts what the destination says that it took.
    fn taken(&self, part: &[Item], counts: Counts, headers: &HeaderMap) {
        let newest = part.iter().map(|item| item.t).max().unwrap_or(i64::MIN);
        if self.config.message == WriteMessage::First {
            return self.stats.sent(counts, newest);
        }
        let written = |name: &header::HeaderName| headers.get(name)?.to_str().ok()?.parse::<u64>().ok();
        let all = [&SAMPLES_WRITTEN, &HISTOGRAMS_WRITTEN, &EXEMPLARS_WRITTEN].map(written);
        if all == [None; 3] {
            self.stats.failed(counts);
            tracing::error!(
                destination = %self.key,
                "the destination does not say what it took of a request of version 2: it understands version 1 only"
            );
            return;
        }
        let [samples, histograms, exemplars] = all.map(Option::unwrap_or_default);
        let taken = Counts {
            samples: samples.min(counts.samples),
            histograms: histograms.min(counts.histograms),
            exemplars: exemplars.min(counts.exemplars),
        };
        let failed = Counts {
            samples: counts.samples - taken.samples,
            histograms: counts.histograms - taken.histograms,
            // One without a sample of its series in the same request is not sent at all.
            exemplars: counts.exemplars - taken.exemplars,
        };
        self.stats.sent(taken, newest);
        self.stats.failed(failed);
        if (failed.samples, failed.histograms) != (0, 0) {
            tracing::error!(
                destination = %self.key,
                samples = failed.samples,
                histograms = failed.histograms,
                "the destination did not write all of a request that it took"
            );
        }
    }

    /// Sends one request until there is an answer that is final.
    async fn send(
        &self,
        client: &mut Client,
        body: Vec<u8>,
        message: WriteMessage,
        attempts_max: u32,
        retried: impl Fn(),
    ) -> Result<Outcome, Stopped> {
        let body = bytes::Bytes::from(body);
        let queue = &self.config.queue;
        let mut backoff = duration(queue.min_backoff);
        let mut attempt = 0_u32;
        loop {
            let call = self.call(body.clone(), message, attempt);
            let began = self.clock.monotonic_ns();
            let mut stop = self.stop.clone();
            let answer = tokio::select! {
                answer = self.ask(client, call) => answer,
                () = drained(&mut stop) => return Err(Stopped),
            };
            let took = Duration::from_nanos(self.clock.monotonic_ns().saturating_sub(began));
            self.stats.requested(body.len(), took);
            let (reason, retry_after) = match self.judge(answer, message) {
                Ok(outcome) => return Ok(outcome),
                Err(again) => again,
            };
            attempt = attempt.saturating_add(1);
            if attempt >= attempts_max {
                return Ok(Outcome::Refused { cut: false, reason });
            }
            retried();
            let wait = retry_after.map_or(backoff, |asked| asked.min(RETRY_AFTER_MAX).max(backoff));
            if attempt.is_power_of_two() {
                let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                tracing::warn!(destination = %self.key, attempt, wait_ms, reason, "remote write failed, it is repeated");
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stopped(&mut stop) => return Err(Stopped),
            }
            backoff = (backoff * 2).min(duration(queue.max_backoff));
        }
    }

    /// Sends a request with what says who asks; without that it is not sent.
    async fn ask(&self, client: &mut Client, mut call: Call) -> Result<Answer, CredentialError> {
        if let Some(authorizer) = &self.authorizer {
            call = authorizer.authorize(call).await?;
        }
        Ok(client.send(&self.job, &call, duration(self.config.remote_timeout)).await?)
    }

    fn call(&self, body: bytes::Bytes, message: WriteMessage, attempt: u32) -> Call {
        let mut call = call(self.url.clone(), body, message);
        if attempt > 0 {
            call.headers.insert(header::HeaderName::from_static("retry-attempt"), header::HeaderValue::from(attempt));
        }
        call
    }

    /// What an answer means; the error is why to ask again, and after what time.
    fn judge(
        &self,
        answer: Result<Answer, CredentialError>,
        message: WriteMessage,
    ) -> Result<Outcome, (String, Option<Duration>)> {
        let answer = match answer {
            Ok(answer) => answer,
            Err(e) => return Err((e.to_string(), None)),
        };
        if answer.status.is_success() {
            return Ok(Outcome::Taken(answer.headers));
        }
        let text = String::from_utf8_lossy(&answer.body);
        let line: String = text.lines().next().unwrap_or_default().chars().take(256).collect();
        let reason = format!("server returned HTTP status {}: {line}", answer.reason);
        let is_full = answer.status == StatusCode::TOO_MANY_REQUESTS && self.config.queue.retry_on_http_429;
        if answer.status.is_server_error() || is_full {
            return Err((reason, retry_after(&answer.headers)));
        }
        let too_large = answer.status == StatusCode::PAYLOAD_TOO_LARGE;
        // Version 2 takes the good part of a request.
        let cut = too_large || (answer.status == StatusCode::BAD_REQUEST && message == WriteMessage::First);
        Ok(Outcome::Refused { cut, reason })
    }
}

/// Waits until the server stops.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Who could say so being gone is a stop too.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Waits until the server stops, and a little longer.
async fn drained(stop: &mut watch::Receiver<bool>) {
    stopped(stop).await;
    tokio::time::sleep(DRAIN).await;
}

pub(super) fn duration(of: promontory_model::Duration) -> Duration {
    Duration::from_millis(u64::try_from(of.ms()).unwrap_or(0))
}

/// Seconds that the server asks to wait. Dates are not understood: they need clocks that agree.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Two parts. A destination that has some of the samples already, because they were sent before a kill, has all of a
/// target up to a time: so targets are told from each other first. Of one target the older samples come last, which is
/// what is sent first.
fn cut(mut part: Vec<Item>) -> [Cow<'static, [Item]>; 2] {
    let mut targets: Vec<_> = part.iter().map(|item| target_of(&item.labels)).collect();
    targets.sort_unstable();
    targets.dedup();
    if targets.len() > 1 {
        let middle = targets[targets.len() / 2];
        let middle = (middle.0.map(str::to_owned), middle.1.map(str::to_owned));
        let is_first = |item: &Item| target_of(&item.labels) < (middle.0.as_deref(), middle.1.as_deref());
        let (first, second) = part.into_iter().partition(is_first);
        return [Cow::Owned(first), Cow::Owned(second)];
    }
    // Samples of one series keep their order.
    part.sort_by_key(|item| item.t);
    let newer = part.split_off(part.len() / 2);
    [Cow::Owned(newer), Cow::Owned(part)]
}

/// A request of remote write.
pub(super) fn call(url: Url, body: bytes::Bytes, message: WriteMessage) -> Call {
    let (content_type, version) = match message {
        WriteMessage::First => ("application/x-protobuf", "0.1.0"),
        WriteMessage::Second => ("application/x-protobuf;proto=io.prometheus.write.v2.Request", "2.0.0"),
    };
    let mut call = Call::post(url, content_type, body);
    call.headers.insert(header::CONTENT_ENCODING, header::HeaderValue::from_static("snappy"));
    let name = header::HeaderName::from_static("x-prometheus-remote-write-version");
    call.headers.insert(name, header::HeaderValue::from_static(version));
    call
}
