//! `promontory render`: pictures and snapshots of dashboards, asked of a running server or drawn from a data folder.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use promontory_config::HttpClientConfig;
use promontory_model::{Cancel, Labels, TimeRange};
use promontory_promql::engine::{Engine, EngineOptions, Operator, Times};
use promontory_promql::lint::{Suggestion, lint};
use promontory_promql::parser;
use promontory_promql::value::{QueryOutput, RangeSpec};
use promontory_storage::clock::{Clock, SystemClock};
use promontory_storage::offline::ReadOnlyDb;

use crate::cli::{RenderArgs, RenderCommand, RenderFormat};
use crate::client::{Call, Client, FetchError, JobClient, Offer, TcpConnector, Url, UrlError};
use crate::dashboard::source::{DataSource, SourceError};
use crate::dashboard::{DashboardOptions, DashboardSettings, Dashboards};

/// Bytes of a picture or snapshot that a server answers with.
const ANSWER_BYTES_MAX: u64 = 256 << 20;
/// Samples that one query over a data folder may hold.
const SAMPLES_MAX: u64 = 50_000_000;
/// Bytes that one query over a data folder may hold.
const MEMORY_BYTES_MAX: u64 = 1 << 30;
/// Scrape interval that steps of panels go by where no server says another, ms.
const SCRAPE_INTERVAL_MS: i64 = 15_000;

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The address of the server is none.
    #[error("--server: {0}")]
    Server(#[from] UrlError),
    /// The server gave no answer.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The answer is not a picture.
    #[error("{status}: {text}")]
    Refused {
        /// Status in words.
        status: String,
        /// First line of the answer.
        text: String,
    },
    /// The data folder could not be opened.
    #[error("{0} (--data)")]
    Open(#[from] promontory_storage::OpenError),
    /// The file could not be written.
    #[error("write {}: {source}", path.display())]
    Write {
        /// File.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The system refused threads.
    #[error("start the threads: {0}")]
    System(std::io::Error),
}

/// Draws what `command` says and writes it where it says.
///
/// # Errors
/// [`RenderError`], one sentence for the user.
pub fn render(command: &RenderCommand) -> Result<(), RenderError> {
    let (path, args) = match command {
        RenderCommand::Dashboard { uid, args } => (format!("/d/{}", encoded(uid)), args),
        RenderCommand::Panel { uid, panel, args } => {
            (format!("/d-solo/{}?panelId={}", encoded(uid), encoded(panel)), args)
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(RenderError::System)?;
    let target = address(&path, args);
    let bytes = runtime.block_on(async {
        match &args.data {
            Some(folder) => drawn(folder, args, &target).await,
            None => fetched(&args.server, &target).await,
        }
    })?;
    match &args.output {
        Some(path) => std::fs::write(path, bytes).map_err(|source| RenderError::Write { path: path.clone(), source }),
        None => {
            let fail = |source| RenderError::Write { path: PathBuf::from("-"), source };
            std::io::stdout().lock().write_all(&bytes).map_err(fail)
        }
    }
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, b| {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(b)),
            b => out.push_str(&format!("%{b:02X}")),
        }
        out
    })
}

/// The address of what is wanted, below the server.
fn address(path: &str, args: &RenderArgs) -> String {
    let (place, panel) = path.split_once("?panelId=").unwrap_or((path, ""));
    let mut pairs: Vec<(String, String)> = Vec::new();
    let mut out = match args.format() {
        RenderFormat::Html => place.replace("/d-solo/", "/dashboard/snapshot/").replace("/d/", "/dashboard/snapshot/"),
        _ => format!("/render{place}"),
    };
    if !panel.is_empty() {
        let name = if args.format() == RenderFormat::Html { "viewPanel" } else { "panelId" };
        out.push_str(&format!("?{name}={panel}"));
    }
    if args.format() == RenderFormat::Svg {
        pairs.push(("format".into(), "svg".into()));
    }
    let numbers = [("width", args.width), ("height", args.height), ("scale", args.scale)];
    pairs.extend(numbers.iter().filter_map(|(n, v)| Some(((*n).to_owned(), (*v)?.to_string()))));
    let texts = [("from", &args.from), ("to", &args.to), ("timezone", &args.timezone)];
    pairs.extend(texts.iter().filter_map(|(n, v)| Some(((*n).to_owned(), v.as_ref()?.clone()))));
    pairs.push(("theme".into(), args.theme.name().into()));
    pairs.extend(args.variables.iter().map(|(n, v)| (format!("var-{n}"), v.clone())));
    for (name, value) in pairs {
        out.push(if out.contains('?') { '&' } else { '?' });
        out.push_str(&format!("{}={}", encoded(&name), encoded(&value)));
    }
    out
}

fn refused(status: String, body: &[u8]) -> RenderError {
    let text = String::from_utf8_lossy(body).lines().next().unwrap_or("").chars().take(500).collect();
    RenderError::Refused { status, text }
}

async fn fetched(server: &str, target: &str) -> Result<Vec<u8>, RenderError> {
    let url = Url::parse(&format!("{}{target}", server.trim_end_matches('/')))?;
    let offer = Offer { accept: "*/*".to_owned(), gzip: true, body_bytes_max: Some(ANSWER_BYTES_MAX) };
    let job = JobClient::new(HttpClientConfig::default(), offer, Arc::new(TcpConnector));
    let answer = Client::new().send(&job, &Call::get(url), Duration::from_secs(120)).await?;
    if answer.status != StatusCode::OK {
        return Err(refused(answer.reason, &answer.body));
    }
    Ok(answer.body)
}

/// Draws in this process what a server with this data would answer.
async fn drawn(folder: &std::path::Path, args: &RenderArgs, target: &str) -> Result<Vec<u8>, RenderError> {
    use hyper::service::Service as _;

    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let db = ReadOnlyDb::open(clock.clone(), folder)?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let options = EngineOptions {
        lookback_ms: 5 * 60_000,
        max_samples: SAMPLES_MAX,
        memory_bytes_max: MEMORY_BYTES_MAX,
        subquery_step_ms: 60_000,
        delayed_name_removal: false,
        threads: 1,
    };
    let source = Arc::new(FolderSource { db, options, clock: clock.clone() });
    let settings = DashboardSettings::new(DashboardOptions {
        folders: args.dashboards_path.iter().cloned().collect(),
        read_only: true,
        scrape_interval_ms: SCRAPE_INTERVAL_MS,
        timeout_ms: 120_000,
        concurrency: threads,
    });
    let router = crate::dashboard::router(Dashboards::new(source, clock, Arc::new(settings)));
    let request = Request::builder().uri(target).body(Body::empty()).unwrap_or_default();
    let response = match hyper_util::service::TowerToHyperService::new(router).call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    let status = response.status();
    let limit = usize::try_from(ANSWER_BYTES_MAX).unwrap_or(usize::MAX);
    let body = axum::body::to_bytes(response.into_body(), limit).await.unwrap_or_default();
    if status != StatusCode::OK {
        return Err(refused(status.to_string(), &body));
    }
    Ok(body.to_vec())
}

/// A data folder that nobody serves.
struct FolderSource {
    db: ReadOnlyDb,
    options: EngineOptions,
    clock: Arc<dyn Clock>,
}

impl DataSource for FolderSource {
    fn instant(&self, query: &str, t_ms: i64, cancel: &Cancel) -> Result<QueryOutput, SourceError> {
        let expr = parser::parse(query)?;
        Ok(Engine::new(self.options).instant(self.db.db(), &expr, t_ms, cancel)?)
    }

    fn range(&self, query: &str, steps: RangeSpec, cancel: &Cancel) -> Result<QueryOutput, SourceError> {
        let expr = parser::parse(query)?;
        Ok(Engine::new(self.options).range(self.db.db(), &expr, steps, cancel)?)
    }

    fn analyze(
        &self,
        query: &str,
        steps: RangeSpec,
        cancel: &Cancel,
    ) -> Result<(QueryOutput, Vec<Operator>), SourceError> {
        let expr = parser::parse(query)?;
        let now = || self.clock.monotonic_ns();
        let engine = Engine::new(self.options);
        Ok(engine.analyze(self.db.db(), &expr, Times::Range(steps), &now, cancel)?)
    }

    fn suggestions(&self, query: &str, _: TimeRange, _: &Cancel) -> Vec<Suggestion> {
        parser::parse(query).map(|expr| lint(&expr, &())).unwrap_or_default()
    }

    fn label_values(
        &self,
        name: &str,
        selector: Option<&str>,
        range: TimeRange,
        cancel: &Cancel,
    ) -> Result<Vec<String>, SourceError> {
        super::source::label_values(self.db.db(), name, selector, range, cancel)
    }

    fn label_names(
        &self,
        selector: Option<&str>,
        range: TimeRange,
        cancel: &Cancel,
    ) -> Result<Vec<String>, SourceError> {
        super::source::label_names(self.db.db(), selector, range, cancel)
    }

    fn series(&self, selector: &str, range: TimeRange, cancel: &Cancel) -> Result<Vec<Labels>, SourceError> {
        super::source::series(self.db.db(), selector, range, cancel)
    }
}
