//! The HTTP API of Prometheus 3.14 over whatever the rest of the server hands in.
//!
//! Knows PromQL and the seam to stored samples; of scraping, configuration and storage it knows only what [`Backend`]
//! tells. Queries run on threads of their own, at most `query.max-concurrency` at once; each stops at its deadline and
//! when its client goes away.

mod admin;
mod answer;
mod backend;
mod body;
mod exemplars;
mod features;
mod federate;
mod histogram;
mod json;
mod language;
mod layers;
mod lifecycle;
mod multipart;
mod notifications;
mod openapi;
mod params;
mod pieces;
mod query;
mod query_log;
mod routes;
mod schema;
mod search;
mod series;
mod status;
mod tree;

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{any, get, on};
use promontory_model::{Duration, Queryable, Regex};
use promontory_promql::cache::ResultCache;
use promontory_promql::engine::MemoryPool;
use promontory_storage::clock::Clock;
use tokio::sync::Semaphore;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, Predicate};

pub use backend::{
    ActiveTarget, Admin, Backend, BlockInfo, BuildInfo, DroppedTarget, Exemplar, Health, Notification, QueryCost,
    Readiness, RelabelStep, RuntimeInfo, SeriesExemplars, TargetMetadata, Targets, TsdbStatus,
};
pub use features::Features;
pub(crate) use language::Known;
pub(crate) use layers::tidied;
pub use params::{FORM_BYTES_MAX, QUERY_BYTES_MAX};

/// What the API is made of.
pub struct HttpParts {
    /// The rest of the server.
    pub backend: Arc<dyn Backend>,
    /// What changes stored samples; `None` without `--web.enable-admin-api`.
    pub admin: Option<Arc<dyn Admin>>,
    /// Where queries read.
    pub data: Arc<dyn Queryable>,
    /// What of it is stored here; federation hands on no samples of others.
    pub local: Arc<dyn Queryable>,
    /// Answers of range queries, kept for the next refresh.
    pub results: Arc<ResultCache>,
    /// What queries may hold together.
    pub memory: Arc<MemoryPool>,
    /// The time of queries that name none.
    pub clock: Arc<dyn Clock>,
    /// Routes of other parts below `/api/v1`; they get the same readiness gate, compression and CORS.
    pub api_routes: Router,
    /// Routes of other parts with paths of their own, behind the same readiness gate.
    pub routes: Router,
    /// Flags.
    pub options: HttpOptions,
}

/// Flags that the API obeys.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// `--web.enable-lifecycle`
    pub enable_lifecycle: bool,
    /// `--web.cors.origin`
    pub cors_origin: Regex,
    /// `--query.timeout`
    pub query_timeout: Duration,
    /// `--query.max-concurrency`
    pub query_max_concurrency: usize,
    /// `--web.max-notifications-subscribers`
    pub notifications_max: usize,
    /// `--enable-feature=search-api`
    pub enable_search: bool,
    /// `--web.search.max-limit`; 0 is without end.
    pub search_results_max: usize,
}

/// Bytes from which a page is compressed well rather than fast.
const LARGE_PAGE_BYTES: u64 = 256 << 10;

/// State of the handlers.
pub(crate) struct Http {
    backend: Arc<dyn Backend>,
    admin: Option<Arc<dyn Admin>>,
    data: Arc<dyn Queryable>,
    local: Arc<dyn Queryable>,
    results: Arc<ResultCache>,
    memory: Arc<MemoryPool>,
    clock: Arc<dyn Clock>,
    query_places: Arc<Semaphore>,
    /// Places of those who follow notifications.
    subscribers: Arc<Semaphore>,
    search_metadata: search::KnownMetadata,
    options: HttpOptions,
}

/// Compresses answers for who takes them so, pictures and streams of events left out.
///
/// Fast: most answers go to browsers on the same network, and the thread that compresses serves others too.
pub(crate) fn compression() -> CompressionLayer {
    CompressionLayer::new().quality(CompressionLevel::Fastest)
}

/// Compresses whole pages well, since each is asked for once: a dashboard of 12 panels has 262 kB so, and 404 kB by
/// [`compression`].
pub(crate) fn page_compression() -> CompressionLayer<LargePage> {
    CompressionLayer::new().quality(CompressionLevel::Default).compress_when(LargePage)
}

/// Text of more bytes than a panel has that is asked for again and again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LargePage;

impl Predicate for LargePage {
    fn should_compress<B: axum::body::HttpBody>(&self, response: &axum::http::Response<B>) -> bool {
        let size = response.body().size_hint();
        DefaultPredicate::new().should_compress(response) && size.exact().unwrap_or(0) >= LARGE_PAGE_BYTES
    }
}

/// The API below `/api/v1`, `/-/*` and `/metrics`. Everything else is left to whom the router is merged with.
pub fn router(parts: HttpParts) -> Router {
    let HttpParts { backend, admin, data, local, results, memory, clock, api_routes, routes, options } = parts;
    let query_places = Arc::new(Semaphore::new(options.query_max_concurrency));
    let subscribers = Arc::new(Semaphore::new(options.notifications_max));
    let http = Arc::new(Http {
        backend,
        admin,
        data,
        local,
        results,
        memory,
        clock,
        query_places,
        subscribers,
        search_metadata: search::KnownMetadata::default(),
        options,
    });
    let compression = compression();
    let method_not_allowed = async || answer::text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
    let (late, early) = routes::routers();
    let api = late
        .with_state(http.clone())
        .merge(api_routes)
        .fallback(layers::not_found)
        .layer(from_fn_with_state(http.clone(), layers::gate))
        .merge(early.with_state(http.clone()))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(compression.clone())
        .layer(from_fn_with_state(http.clone(), layers::cors));
    let asked = Router::new()
        .route("/-/healthy", get(lifecycle::healthy))
        .route("/-/ready", get(lifecycle::ready))
        .route("/metrics", get(lifecycle::metrics).layer(compression.clone()))
        .route("/version", get(status::version))
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(http.clone());
    let told = Router::new()
        .route("/-/reload", on(layers::POST_PUT, lifecycle::reload))
        .route("/-/quit", on(layers::POST_PUT, lifecycle::quit))
        .method_not_allowed_fallback(async || {
            answer::text(StatusCode::METHOD_NOT_ALLOWED, "Only POST or PUT requests allowed")
        })
        .with_state(http.clone());
    let federation = Router::new()
        .route("/federate", get(federate::federate))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(http.clone(), layers::gate))
        .layer(compression)
        .with_state(http.clone());
    let routes = routes.layer(from_fn_with_state(http, layers::gate));
    // Nothing is there that an address without the slash would lead to.
    let root = Router::new().route("/api/v1/", any(async || layers::nothing()));
    asked.merge(told).merge(federation).merge(routes).merge(root).nest("/api/v1", api).layer(from_fn(layers::no_sniff))
}

#[cfg(test)]
mod tests;
