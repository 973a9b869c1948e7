//! What the HTTP server counts of itself, under the names that public dashboards ask for.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Seconds.
const DURATION_BUCKETS: [f64; 9] = [0.1, 0.2, 0.4, 1.0, 3.0, 8.0, 20.0, 60.0, 120.0];
/// Seconds.
const QUERY_BUCKETS: [f64; 9] = [0.001, 0.005, 0.025, 0.1, 0.4, 1.0, 5.0, 20.0, 120.0];

type LabelPairs<const N: usize> = [(&'static str, String); N];

/// The metrics of the HTTP server; clones count into the same ones.
#[derive(Debug, Clone)]
pub struct HttpMetrics {
    requests: Family<LabelPairs<2>, Counter>,
    durations: Family<LabelPairs<1>, Histogram, fn() -> Histogram>,
    queries: Gauge,
    query_durations: Family<LabelPairs<1>, Histogram, fn() -> Histogram>,
}

impl HttpMetrics {
    /// Registers the metrics; `query_max_concurrency` is shown beside the number of running queries.
    #[must_use]
    pub fn register(registry: &mut Registry, query_max_concurrency: usize) -> Self {
        let metrics = Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS)),
            queries: Gauge::default(),
            query_durations: Family::new_with_constructor(|| Histogram::new(QUERY_BUCKETS)),
        };
        let Self { requests, durations, queries, query_durations } = metrics.clone();
        registry.register("prometheus_http_requests", "Number of HTTP requests", requests);
        registry.register(
            "prometheus_http_request_duration_seconds",
            "Time from the head of a request to the head of its answer",
            durations,
        );
        registry.register("prometheus_engine_queries", "Queries that are evaluated now", queries);
        let max: Gauge = Gauge::default();
        max.set(i64::try_from(query_max_concurrency).unwrap_or(i64::MAX));
        registry.register("prometheus_engine_queries_concurrent_max", "Queries that may be evaluated at once", max);
        registry.register(
            "prometheus_engine_query_duration_histogram_seconds",
            "Time that queries waited and ran",
            query_durations,
        );
        metrics
    }

    pub(crate) fn request(&self, handler: &str, code: u16, seconds: f64) {
        let handler = || ("handler", handler.to_owned());
        self.requests.get_or_create(&[handler(), ("code", code.to_string())]).inc();
        self.durations.get_or_create(&[handler()]).observe(seconds);
    }

    /// Counts a query as running until the answer is dropped.
    pub(crate) fn query_started(&self) -> Running {
        self.queries.inc();
        Running(self.queries.clone())
    }

    pub(crate) fn query_ended(&self, queue_ns: u64, run_ns: u64) {
        for (slice, ns) in [("queue_time", queue_ns), ("inner_eval", run_ns)] {
            self.query_durations.get_or_create(&[("slice", slice.to_owned())]).observe(ns as f64 / 1e9);
        }
    }
}

/// A query that runs.
pub(crate) struct Running(Gauge);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}
