//! What the server says about itself: log lines on standard error, and its own metrics for `/metrics`.
//!
//! Names and meanings are Prometheus' where the meaning is the same, so that public dashboards and alerts find what
//! they query; what only we have begins with `promontory_`. The parts of the server do not know this module: `app`
//! hands them the meters, or a closure here that reads their figures at the time of the scrape.

mod exposition;
mod figures;
mod logging;
pub(crate) mod process;
pub(crate) mod profile;
mod storage;
mod summary;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use bytes::Bytes;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use promontory_storage::clock::Clock;

pub use figures::{Figures, Labelled};
pub use logging::{LoggingError, init_logging};
pub use storage::storage_figures;
pub use summary::Summary;

/// Handler of all requests that no route matched: their paths are the clients' choice and without number.
const UNMATCHED_HANDLER: &str = "/*";
/// Prometheus' buckets, and finer ones below: answers take milliseconds here.
const REQUEST_SECONDS_BUCKETS: [f64; 13] = [0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 1.0, 3.0, 8.0, 20.0, 60.0, 120.0];
const RESPONSE_BYTES_BUCKETS: [f64; 8] = [1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
const QUERY_SECONDS_BUCKETS: [f64; 7] = [0.001, 0.01, 0.1, 1.0, 10.0, 30.0, 100.0];

/// Reads figures at the time of a scrape.
type Reader = Box<dyn Fn() -> Vec<Figures> + Send + Sync>;

/// All metrics of the server. Built by `app`, then shared.
pub struct Telemetry {
    registry: Registry,
    readers: Vec<Reader>,
    /// HTTP requests.
    pub http: HttpMeter,
    /// PromQL queries.
    pub queries: QueryMeter,
    /// Answers to `/federate`.
    pub federation: FederationMeter,
    /// The state of configuration and start.
    pub state: StateMeter,
}

impl Telemetry {
    /// The meters and the figures of the process; `version` is shown in `prometheus_build_info`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, version: &str) -> Self {
        let mut registry = Registry::default();
        let build = [("version".into(), version.to_owned().into())];
        let info = Gauge::<i64>::default();
        info.set(1);
        registry.sub_registry_with_labels(build.into_iter()).register(
            "prometheus_build_info",
            "Always 1, with the version as a label",
            info,
        );
        let http = HttpMeter::new(&mut registry, Arc::clone(&clock));
        let queries = QueryMeter::new(&mut registry);
        let federation = FederationMeter::new(&mut registry);
        let state = StateMeter::new(&mut registry);
        let query_seconds = queries.seconds.clone();
        let mut telemetry = Self { registry, readers: Vec::new(), http, queries, federation, state };
        telemetry.register(move || vec![query_seconds.figures()]);
        telemetry.register(process::figures);
        telemetry
    }

    /// Adds figures that `read` tells at the time of each scrape.
    pub fn register(&mut self, read: impl Fn() -> Vec<Figures> + Send + Sync + 'static) {
        self.readers.push(Box::new(read));
    }

    /// Content type and text of `/metrics` for a client that sent `accept`.
    #[must_use]
    pub fn render(&self, accept: &str) -> (&'static str, String) {
        let figures: Vec<Figures> = self.readers.iter().flat_map(|read| read()).collect();
        exposition::render(&self.registry, &figures, accept)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    handler: String,
    code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HandlerLabels {
    handler: String,
}

/// Counts and times HTTP requests by the route that answered them.
#[derive(Debug, Clone)]
pub struct HttpMeter {
    clock: Arc<dyn Clock>,
    requests: Family<RequestLabels, Counter>,
    seconds: Family<HandlerLabels, Histogram>,
    response_bytes: Family<HandlerLabels, Histogram>,
}

impl HttpMeter {
    fn new(registry: &mut Registry, clock: Arc<dyn Clock>) -> Self {
        let (requests, seconds, response_bytes) = (
            Family::default(),
            Family::new_with_constructor((|| Histogram::new(REQUEST_SECONDS_BUCKETS)) as fn() -> Histogram),
            Family::new_with_constructor((|| Histogram::new(RESPONSE_BYTES_BUCKETS)) as fn() -> Histogram),
        );
        registry.register("prometheus_http_requests", "HTTP requests by route and status", requests.clone());
        registry.register("prometheus_http_request_duration_seconds", "Time until the answer began", seconds.clone());
        registry.register(
            "prometheus_http_response_size_bytes",
            "Size of answers, of those that clients left unread as far as they were sent",
            response_bytes.clone(),
        );
        Self { clock, requests, seconds, response_bytes }
    }

    /// Meters every request of `router`.
    pub fn layer(&self, router: Router) -> Router {
        router.layer(middleware::from_fn_with_state(self.clone(), meter_request))
    }

    /// Counts a request; the histogram is for the size of its answer.
    fn observe(&self, handler: String, code: u16, seconds: f64) -> Histogram {
        self.requests.get_or_create(&RequestLabels { handler: handler.clone(), code }).inc();
        let labels = HandlerLabels { handler };
        self.seconds.get_or_create(&labels).observe(seconds);
        self.response_bytes.get_or_create(&labels).clone()
    }
}

/// A body that is counted while it is sent.
struct Counted {
    body: Body,
    bytes: u64,
    sizes: Histogram,
}

impl hyper::body::Body for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            self.bytes += data.len() as u64;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.sizes.observe(self.bytes as f64);
    }
}

async fn meter_request(State(meter): State<HttpMeter>, request: Request, next: Next) -> Response {
    // Routes are few; paths as clients write them are not.
    let path = request.extensions().get::<MatchedPath>().cloned();
    let started = meter.clock.monotonic_ns();
    let response = next.run(request).await;
    let seconds = meter.clock.monotonic_ns().saturating_sub(started) as f64 / 1e9;
    // `/label/{name}/values` is `/label/:name/values` in Prometheus.
    let handler = path.map_or(UNMATCHED_HANDLER.to_owned(), |path| path.as_str().replace('{', ":").replace('}', ""));
    let sizes = meter.observe(handler, response.status().as_u16(), seconds);
    match axum::body::HttpBody::size_hint(response.body()).exact() {
        Some(bytes) => {
            sizes.observe(bytes as f64);
            response
        }
        None => response.map(|body| Body::new(Counted { body, bytes: 0, sizes })),
    }
}

/// Counts what goes wrong with federation.
#[derive(Debug, Clone, Default)]
pub struct FederationMeter {
    /// Requests that failed.
    pub errors: Counter,
    /// Warnings of the store.
    pub warnings: Counter,
}

impl FederationMeter {
    fn new(registry: &mut Registry) -> Self {
        let meter = Self::default();
        registry.register("prometheus_web_federation_errors", "Federations that failed", meter.errors.clone());
        let help = "Warnings of the store while samples were read for federation";
        registry.register("prometheus_web_federation_warnings", help, meter.warnings.clone());
        meter
    }
}

/// A stage of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QuerySlice {
    /// Waiting for a place among those that run.
    QueueTime,
    /// Evaluating; here it includes what Prometheus counts apart as preparing and sorting.
    InnerEval,
}

impl QuerySlice {
    const ALL: [Self; 2] = [Self::QueueTime, Self::InnerEval];

    fn name(self) -> &'static str {
        match self {
            Self::QueueTime => "queue_time",
            Self::InnerEval => "inner_eval",
        }
    }
}

impl EncodeLabelValue for QuerySlice {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.name().encode(encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SliceLabels {
    slice: QuerySlice,
}

/// Counts and times PromQL queries, those of dashboards included.
#[derive(Debug, Clone)]
pub struct QueryMeter {
    /// Queries that run or wait.
    pub active: Gauge,
    /// How many may run at once.
    pub concurrent_max: Gauge,
    /// Samples that queries loaded.
    pub samples: Counter,
    /// 1 where queries are logged to a file.
    pub log_enabled: Gauge,
    /// Lines that could not be added to it.
    pub log_failures: Counter,
    seconds: Summary,
    seconds_histogram: Family<SliceLabels, Histogram>,
}

impl QueryMeter {
    fn new(registry: &mut Registry) -> Self {
        let seconds = Summary::new("prometheus_engine_query_duration_seconds", "Time of queries by stage", "slice");
        let seconds_histogram =
            Family::new_with_constructor((|| Histogram::new(QUERY_SECONDS_BUCKETS)) as fn() -> Histogram);
        for slice in QuerySlice::ALL {
            drop(seconds_histogram.get_or_create(&SliceLabels { slice }));
            seconds.touch(slice.name());
        }
        let meter = Self {
            active: Gauge::default(),
            concurrent_max: Gauge::default(),
            samples: Counter::default(),
            log_enabled: Gauge::default(),
            log_failures: Counter::default(),
            seconds,
            seconds_histogram,
        };
        registry.register("prometheus_engine_queries", "Queries that run or wait", meter.active.clone());
        let help = "Queries that may run at once";
        registry.register("prometheus_engine_queries_concurrent_max", help, meter.concurrent_max.clone());
        registry.register("prometheus_engine_query_samples", "Samples that queries loaded", meter.samples.clone());
        let help = "Whether queries are logged to a file";
        registry.register("prometheus_engine_query_log_enabled", help, meter.log_enabled.clone());
        let help = "Queries that could not be logged";
        registry.register("prometheus_engine_query_log_failures", help, meter.log_failures.clone());
        registry.register(
            "prometheus_engine_query_duration_histogram_seconds",
            "Time of queries by stage",
            meter.seconds_histogram.clone(),
        );
        meter
    }

    /// Takes note of how long a stage of a query took.
    pub fn observe(&self, slice: QuerySlice, seconds: f64) {
        self.seconds.observe(slice.name(), seconds);
        self.seconds_histogram.get_or_create(&SliceLabels { slice }).observe(seconds);
    }
}

/// Whether the server is ready and its configuration taken over.
#[derive(Debug, Clone)]
pub struct StateMeter {
    ready: Gauge,
    reload_successful: Gauge,
    reload_success_seconds: Gauge<f64, AtomicU64>,
}

impl StateMeter {
    fn new(registry: &mut Registry) -> Self {
        let meter = Self {
            ready: Gauge::default(),
            reload_successful: Gauge::default(),
            reload_success_seconds: Gauge::default(),
        };
        registry.register("prometheus_ready", "Whether the server answers queries", meter.ready.clone());
        registry.register(
            "prometheus_config_last_reload_successful",
            "Whether the last attempt to load the configuration worked",
            meter.reload_successful.clone(),
        );
        registry.register(
            "prometheus_config_last_reload_success_timestamp_seconds",
            "When the configuration was last loaded",
            meter.reload_success_seconds.clone(),
        );
        meter
    }

    /// Says whether the server answers queries.
    pub fn ready(&self, ready: bool) {
        self.ready.set(ready.into());
    }

    /// The configuration was loaded at `now`.
    pub fn config_loaded(&self, now: promontory_model::Timestamp) {
        self.reload_successful.set(1);
        self.reload_success_seconds.set(now.0 as f64 / 1e3);
    }

    /// Loading the configuration failed; the one before stays.
    pub fn config_failed(&self) {
        self.reload_successful.set(0);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::Ipv4Addr;
    use std::process::{Command, Stdio};

    use promontory_model::Timestamp;
    use promontory_storage::DbStatus;
    use promontory_storage::clock::ManualClock;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    fn telemetry() -> Telemetry {
        let mut telemetry = Telemetry::new(Arc::new(ManualClock::new(Timestamp(0))), "1.2.3");
        telemetry
            .register(|| storage_figures(&DbStatus { head_series: 7, samples_appended: 42, ..DbStatus::default() }));
        telemetry.queries.observe(QuerySlice::InnerEval, 0.25);
        telemetry.http.observe("/api/v1/query".to_owned(), 200, 0.01).observe(512.0);
        telemetry.state.ready(true);
        telemetry.state.config_loaded(Timestamp(1_500));
        telemetry
    }

    #[track_caller]
    fn check(line: &str) {
        let (_, text) = telemetry().render("");
        assert!(text.lines().any(|l| l == line), "{line}\nnot in\n{text}");
    }

    #[test]
    fn names_are_those_that_public_dashboards_query() {
        check(r#"prometheus_build_info{version="1.2.3"} 1"#);
        check("prometheus_ready 1");
        check("prometheus_config_last_reload_successful 1");
        check("prometheus_config_last_reload_success_timestamp_seconds 1.5");
        check(r#"prometheus_http_requests_total{handler="/api/v1/query",code="200"} 1"#);
        check(r#"prometheus_http_request_duration_seconds_bucket{le="0.1",handler="/api/v1/query"} 1"#);
        check(r#"prometheus_http_response_size_bytes_sum{handler="/api/v1/query"} 512.0"#);
        check(r#"prometheus_engine_query_duration_seconds{slice="inner_eval",quantile="0.9"} 0.25"#);
        check(r#"prometheus_engine_query_duration_seconds_count{slice="inner_eval"} 1"#);
        check(r#"prometheus_engine_query_duration_seconds{slice="queue_time",quantile="0.5"} NaN"#);
        check(r#"prometheus_engine_query_duration_histogram_seconds_count{slice="inner_eval"} 1"#);
        check("prometheus_tsdb_head_series 7");
        check(r#"promontory_head_bytes{part="open_rows"} 0"#);
        check(r#"prometheus_tsdb_head_samples_appended_total{type="float"} 42"#);
        check("# TYPE prometheus_tsdb_head_samples_appended_total counter");
    }

    #[tokio::test]
    async fn requests_are_metered_by_route() {
        let telemetry = telemetry();
        let router = Router::new().route("/api/v1/label/{name}/values", axum::routing::get(|| async { "ok" }));
        let router = telemetry.http.layer(router);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let server = tokio::spawn(async { axum::serve(listener, router).await });
        for path in ["/api/v1/label/job/values", "/api/v1/label/instance/values", "/nowhere"] {
            let mut stream = TcpStream::connect(addr).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            stream.read_to_end(&mut Vec::new()).await.unwrap();
        }
        server.abort();
        let (_, text) = telemetry.render("");
        assert!(
            text.contains("prometheus_http_requests_total{handler=\"/api/v1/label/:name/values\",code=\"200\"} 2\n")
        );
        assert!(text.contains("prometheus_http_requests_total{handler=\"/*\",code=\"404\"} 1\n"), "{text}");
    }

    #[test]
    fn exposition_passes_promtool() {
        let mut promtool = Command::new("promtool");
        let Ok(mut child) = promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()
        else {
            eprintln!("SKIPPED: promtool is not installed");
            return;
        };
        let (_, text) = telemetry().render("");
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
        // Code 3 is style, which Prometheus' own names do not always keep; 1 is a text that cannot be read.
        assert!(matches!(output.status.code(), Some(0 | 3)), "{complaints}");
        let ours = complaints.lines().filter(|line| line.starts_with("promontory_")).collect::<Vec<_>>();
        assert_eq!(ours, Vec::<&str>::new());
    }
}
