//! The reading end of remote read: other servers' samples beside our own, in every query.
//!
//! [`Upstreams::beside`] answers like the local store, with what the configured servers have of the same selection; at
//! one time the local sample goes before theirs. A server that fails costs a warning, never the query. All samples of an
//! answer are held in memory, up to a limit of their number and of the bytes that they come in. While servers are
//! configured no answer is kept from query to query: nobody tells what changes in them.

mod answer;
mod joined;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use promontory_config::remote::RemoteReadConfig;
use promontory_model::{
    Changes, Labels, MatchOp, Matcher, Queryable, ReadError, Select, Selection, SeriesList, Snapshot, TimeRange,
};
use promontory_storage::Db;
use promontory_storage::clock::Clock;
use prost::Message as _;
use tokio::runtime::Handle;

use super::meter::{self, Asked};
use super::read::{self, LabelMatcher, Query, ReadRequest};
use crate::client::{Call, Client, Connector, JobClient, Offer, TcpConnector, Url};
use crate::credentials::{Authorizer, Reach};
use crate::telemetry::Figures;
use answer::Limits;
use joined::Series;

/// Bytes of an answer, before and after decompression.
pub const UPSTREAM_BYTES_MAX: usize = 256 << 20;
/// Samples of all answers to one selection; a histogram counts for its buckets.
pub const UPSTREAM_SAMPLES_MAX: usize = 10_000_000;
/// How long the time of the oldest local sample is taken for true: looking for it visits every group of the head.
const OLDEST_KEPT_NS: u64 = 5_000_000_000;
/// Time between two looks whether a query was cancelled.
const CANCEL_POLL: Duration = Duration::from_millis(50);

/// The servers of the configuration.
#[derive(Debug)]
pub struct Upstreams {
    list: ArcSwap<Vec<Upstream>>,
    runtime: Handle,
    clock: Arc<dyn Clock>,
    /// When the oldest local sample was looked for, and its time.
    oldest: Mutex<Option<(u64, Option<i64>)>>,
}

#[derive(Debug)]
struct Upstream {
    config: RemoteReadConfig,
    external: Labels,
    url: Url,
    job: JobClient,
    /// Says who asks where the client does not.
    authorizer: Option<Authorizer>,
    asked: Arc<Asked>,
    clock: Arc<dyn Clock>,
}

impl Upstreams {
    /// No server yet; requests run on `runtime`.
    #[must_use]
    pub fn new(runtime: Handle, clock: Arc<dyn Clock>) -> Self {
        Self { list: ArcSwap::default(), runtime, clock, oldest: Mutex::default() }
    }

    /// Takes over the servers of a configuration.
    pub fn apply(&self, configs: &[RemoteReadConfig], external: &Labels) {
        self.apply_with(configs, external, &(Arc::new(TcpConnector) as _));
    }

    fn apply_with(&self, configs: &[RemoteReadConfig], external: &Labels, connector: &Arc<dyn Connector>) {
        let before = self.list.load();
        let upstream = |config: &RemoteReadConfig| {
            let url = Url::parse(&config.url)
                .map_err(|error| tracing::error!(url = config.url, %error, "remote read cannot ask"))
                .ok()?;
            let offer =
                Offer { accept: "*/*".to_owned(), gzip: false, body_bytes_max: Some(UPSTREAM_BYTES_MAX as u64) };
            let job = JobClient::new(config.http.clone(), offer, connector.clone());
            let reach = Reach { connector: connector.clone(), clock: self.clock.clone(), scheme: "https" };
            let authorizer = config.cloud.as_ref().map(|cloud| Authorizer::new(cloud, &reach));
            let same = before.iter().find(|u| u.config.name == config.name && u.config.url == config.url);
            let asked = same.map_or_else(Arc::default, |upstream| upstream.asked.clone());
            let (config, external, clock) = (config.clone(), external.clone(), self.clock.clone());
            Some(Upstream { config, external, url, job, authorizer, asked, clock })
        };
        self.list.store(Arc::new(configs.iter().filter_map(upstream).collect()));
    }

    /// Numbers of all servers.
    #[must_use]
    pub fn figures(&self) -> Vec<Figures> {
        let list = self.list.load();
        meter::asked_figures(list.iter().map(|u| (u.name(), u.config.url.as_str(), &*u.asked)))
    }

    /// Time of the oldest sample of `local`, as it was a few seconds ago at most.
    fn oldest(&self, local: &Db) -> Option<i64> {
        let now = self.clock.monotonic_ns();
        let mut kept = self.oldest.lock().unwrap_or_else(PoisonError::into_inner);
        match *kept {
            Some((at, oldest)) if now.saturating_sub(at) < OLDEST_KEPT_NS => oldest,
            _ => {
                let oldest = local.status().lowest_timestamp;
                *kept = Some((now, oldest));
                oldest
            }
        }
    }

    /// What `local` and these servers have.
    #[must_use]
    pub fn beside(self: &Arc<Self>, local: Db) -> Beside {
        Beside { local, upstreams: Arc::clone(self) }
    }
}

/// The local store and other servers as one.
#[derive(Debug, Clone)]
pub struct Beside {
    local: Db,
    upstreams: Arc<Upstreams>,
}

impl Queryable for Beside {
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, ReadError> {
        let local = self.local.snapshot()?;
        let list = self.upstreams.list.load_full();
        if list.is_empty() {
            return Ok(local);
        }
        let asks_old = list.iter().any(|upstream| !upstream.config.read_recent);
        let oldest = if asks_old { self.upstreams.oldest(&self.local) } else { None };
        Ok(Arc::new(View { local, list, oldest, runtime: self.upstreams.runtime.clone() }))
    }

    fn changes(&self) -> Option<&dyn Changes> {
        if self.upstreams.list.load().is_empty() { self.local.changes() } else { None }
    }
}

struct View {
    local: Arc<dyn Snapshot>,
    list: Arc<Vec<Upstream>>,
    /// Time of the oldest local sample.
    oldest: Option<i64>,
    runtime: Handle,
}

impl Snapshot for View {
    fn select(&self, select: &Select<'_>) -> Result<Selection, ReadError> {
        let mut selection = self.local.select(select)?;
        let mut all: Vec<Series> = Vec::new();
        let mut left = Limits { samples: UPSTREAM_SAMPLES_MAX, bytes: UPSTREAM_BYTES_MAX };
        for upstream in self.list.iter() {
            let Some((query, added)) = upstream.query(select, self.oldest) else { continue };
            match self.ask(upstream, &query, select, &mut left)? {
                Ok(series) => all.extend(series.into_iter().map(|s| s.without(&added))),
                Err(why) => selection.warnings.push(format!("remote read of {}: {why}", upstream.name())),
            }
        }
        if all.is_empty() {
            return Ok(selection);
        }
        let batches = joined::join(selection.batches, all, select)?;
        Ok(Selection { batches, warnings: selection.warnings })
    }

    // As in Prometheus, names and values of labels are those of the local store.
    fn label_names(&self, select: &Select<'_>) -> Result<Vec<String>, ReadError> {
        self.local.label_names(select)
    }

    fn label_values(&self, name: &str, select: &Select<'_>, limit: usize) -> Result<Vec<String>, ReadError> {
        self.local.label_values(name, select, limit)
    }

    fn series(&self, select: &Select<'_>, limit: usize) -> Result<SeriesList, ReadError> {
        self.local.series(select, limit)
    }
}

impl View {
    /// Asks until there is an answer or the query was cancelled; the inner error is the upstream's.
    fn ask(
        &self,
        upstream: &Upstream,
        query: &Query,
        select: &Select<'_>,
        left: &mut Limits,
    ) -> Result<Result<Vec<Series>, String>, ReadError> {
        let cancelled = async {
            loop {
                if let Err(why) = select.cancel.check() {
                    return why;
                }
                tokio::time::sleep(CANCEL_POLL).await;
            }
        };
        let answer = self.runtime.block_on(async {
            tokio::select! {
                answer = upstream.fetch(query) => Ok(answer),
                why = cancelled => Err(why),
            }
        })?;
        let range = TimeRange::new(query.start_timestamp_ms, query.end_timestamp_ms);
        Ok(answer.and_then(|(content_type, body)| {
            let frame_max = usize::try_from(upstream.config.chunked_read_limit).unwrap_or(usize::MAX);
            answer::read(&content_type, &body, range, frame_max, left).map_err(|e| e.to_string())
        }))
    }
}

impl Upstream {
    fn name(&self) -> &str {
        if self.config.name.is_empty() { &self.config.url } else { &self.config.name }
    }

    /// What to ask for a selection, and the external labels that were added to it; `None` when nothing is to be asked.
    fn query(&self, select: &Select<'_>, oldest: Option<i64>) -> Option<(Query, Vec<String>)> {
        let is_there = |(name, value): &(String, String)| {
            select.matchers.iter().any(|m| m.op() == MatchOp::Equal && m.name() == name && m.value() == value)
        };
        if !self.config.required_matchers.iter().all(is_there) {
            return None;
        }
        let (mint, mut maxt) = (select.range.mint.0, select.range.maxt.0);
        if !self.config.read_recent
            && let Some(oldest) = oldest
        {
            // From there on everything is here.
            maxt = maxt.min(oldest.saturating_sub(1));
        }
        if mint > maxt {
            return None;
        }
        let matcher = |m: &Matcher| LabelMatcher {
            op: match m.op() {
                MatchOp::Equal => 0,
                MatchOp::NotEqual => 1,
                MatchOp::Regex => 2,
                MatchOp::NotRegex => 3,
            },
            name: m.name().to_owned(),
            value: m.value().to_owned(),
        };
        let mut matchers: Vec<LabelMatcher> = select.matchers.iter().map(matcher).collect();
        let mut added = Vec::new();
        if self.config.filter_external_labels {
            for (name, value) in &self.external {
                if select.matchers.iter().all(|m| m.name() != name) {
                    matchers.push(LabelMatcher { op: 0, name: name.to_owned(), value: value.to_owned() });
                    added.push(name.to_owned());
                }
            }
        }
        Some((Query { start_timestamp_ms: mint, end_timestamp_ms: maxt, matchers }, added))
    }

    /// Content type and body of the answer.
    async fn fetch(&self, query: &Query) -> Result<(String, Vec<u8>), String> {
        let accepted_response_types = vec![read::STREAMED_XOR_CHUNKS, read::SAMPLES];
        let request = ReadRequest { queries: vec![query.clone()], accepted_response_types };
        let body = snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).map_err(|e| e.to_string())?;
        let mut call = Call::post(self.url.clone(), "application/x-protobuf", body);
        call.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("snappy"));
        let version = HeaderName::from_static("x-prometheus-remote-read-version");
        call.headers.insert(version, HeaderValue::from_static("0.1.0"));
        if let Some(authorizer) = &self.authorizer {
            call = authorizer.authorize(call).await.map_err(|e| e.to_string())?;
        }
        let timeout = Duration::from_millis(u64::try_from(self.config.remote_timeout.ms()).unwrap_or(0));
        let began = self.clock.monotonic_ns();
        let answer = Client::new().send(&self.job, &call, timeout).await;
        let code = answer.as_ref().map_or_else(|_| "failed".to_owned(), |answer| answer.status.as_str().to_owned());
        self.asked.answered(code, self.clock.monotonic_ns().saturating_sub(began));
        let answer = answer.map_err(|e| e.to_string())?;
        if answer.status != StatusCode::OK {
            let text = String::from_utf8_lossy(&answer.body);
            let line: String = text.lines().next().unwrap_or_default().chars().take(256).collect();
            return Err(format!("server returned HTTP status {}: {line}", answer.reason));
        }
        let content_type = answer.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        Ok((content_type.to_owned(), answer.body))
    }
}

#[cfg(test)]
mod tests;
