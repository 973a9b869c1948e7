//! Joins the parts: the only file that knows every subsystem, with its modules.
//!
//! Start: configuration, sockets, database, scraping, pages; what can go wrong because of the user goes wrong before
//! anything is answered. Stop: pages drain, scraping ends, the database is closed, in this order, so that nothing that
//! was acknowledged is lost and no half answer is sent.

mod address;
mod admin;
mod backend;
mod growth;
mod ingest;
mod maintenance;
mod pages;
mod profiles;
mod render;
mod self_metrics;
mod source;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::{ArcSwap, ArcSwapOption};
use axum::Router;
use promontory_config::Config;
use promontory_model::{Labels, Regex};
use promontory_promql::cache::ResultCache;
use promontory_promql::engine::{EngineOptions, MemoryPool};
use promontory_storage::clock::{Clock, SystemClock};
use promontory_storage::vfs::RealVfs;
use promontory_storage::{Db, DbOptions, DbSettings, FsyncPolicy};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use crate::bodies::Bodies;
use crate::cli::{ServeArgs, WalFsync};
use crate::dashboard::{DashboardOptions, DashboardSettings, Dashboards};
use crate::http::{HttpOptions, HttpParts};
use crate::ingest::{Ingest, IngestParts};
use crate::json_log::JsonLog;
use crate::listener::{Connections, ListenError, Listener};
use crate::remote::{Beside, RemoteMeter, SendParts, Senders, Upstreams};
use crate::scrape::{Manager, ManagerOptions, ScrapeMetrics, ScrapeThreads, offset_seed};
use crate::telemetry::{self, Telemetry};
use crate::web_config::{self, WebConfigError, WebGuard};
use address::Below;
use backend::ServerBackend;
use maintenance::Maintenance;
pub use render::{RenderError, render};
use source::EngineSource;

/// How long answers that have begun may take when the server stops.
const DRAIN: std::time::Duration = std::time::Duration::from_secs(5);
/// Least time between two looks at the files of the configuration.
const AUTO_RELOAD_MS_MIN: i64 = 100;
/// Threads that one query computes on.
const QUERY_THREADS_MAX: usize = 8;
/// Retention when neither time nor size is given, ms.
const RETENTION_DEFAULT_MS: i64 = 15 * 24 * 3_600_000;

/// Why the server does not start, or ended badly.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The configuration is wrong.
    #[error("{0}")]
    Config(#[from] promontory_config::ConfigErrors),
    /// A flag's value is wrong.
    #[error("--{flag}: {reason}")]
    Flag {
        /// Name.
        flag: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The file with TLS and users is wrong.
    #[error("{0} (--web.config.file)")]
    WebConfig(#[from] WebConfigError),
    /// A socket could not be opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The database could not be opened.
    #[error("{0} (--storage.tsdb.path)")]
    Open(#[from] promontory_storage::OpenError),
    /// The database could not be closed well.
    #[error("close the database: {0}")]
    Close(promontory_storage::WriteError),
    /// The system refused threads, signals or sockets.
    #[error("{op}: {source}")]
    System {
        /// What was tried.
        op: &'static str,
        /// The system's error.
        source: std::io::Error,
    },
    /// Logging was set up twice.
    #[error(transparent)]
    Logging(#[from] telemetry::LoggingError),
    /// The demo could not start.
    #[cfg(feature = "demo")]
    #[error(transparent)]
    Demo(#[from] crate::demo::DemoError),
}

/// Runs the server until a signal or `/-/quit` ends it.
///
/// # Errors
/// [`AppError`], one sentence for the user.
pub fn serve(args: &ServeArgs) -> Result<(), AppError> {
    let clock = clock_and_logging(args)?;
    runtime()?.block_on(async {
        let guard = web_guard(args)?;
        let listeners = Listener::bind_all(&args.listen_addresses).await?;
        let config = match &args.config_file {
            Some(file) => ConfigSource::File(file.clone()),
            None => {
                let text =
                    default_config(&own_target(&listeners), &Below::of(args)?.inner("/metrics"), guard.as_deref());
                ConfigSource::Text { text, name: "built-in defaults" }
            }
        };
        Server::start(args, clock, config, listeners, guard).await?.run().await
    })
}

/// Runs the server with two model servers under load beside it.
///
/// # Errors
/// [`AppError`], one sentence for the user.
#[cfg(feature = "demo")]
pub fn demo(args: &crate::cli::DemoArgs) -> Result<(), AppError> {
    use crate::demo;

    let mut serve = args.serve.clone();
    let clock = clock_and_logging(&serve)?;
    let is_fresh = serve.storage_path.as_os_str() == "data";
    if is_fresh {
        // A folder of its own: what the demo stores is of no use to anyone later.
        serve.storage_path = std::env::temp_dir().join(format!("promontory-demo-{}", std::process::id()));
    }
    let folder = serve.storage_path.clone();
    let ended = runtime()?.block_on(async {
        let listeners = Listener::bind_all(&serve.listen_addresses).await?;
        let own = own_target(&listeners);
        let options = demo::DemoOptions { seed: args.seed, load: 1.0 };
        let running = demo::start(&options).await?;
        let own = own.parse().unwrap_or_else(|_| std::net::SocketAddr::from(([127, 0, 0, 1], 9090)));
        let text = demo::scrape_config_yaml(&running.addrs(), own);
        let config = match &serve.config_file {
            Some(file) => ConfigSource::File(file.clone()),
            None => ConfigSource::Text { text, name: "demo configuration" },
        };
        let server = Server::start(&serve, clock, config, listeners, web_guard(&serve)?).await?;
        let mut out = std::io::stdout().lock();
        let _ = std::io::Write::write_fmt(
            &mut out,
            format_args!(
                "\n  Promontory demo: http://{own}/d/promontory-vllm?from=now-5m&to=now\n  Ctrl-C ends it.\n\n"
            ),
        );
        drop(out);
        let ended = server.run().await;
        running.stop().await;
        ended
    });
    if is_fresh
        && let Err(error) = std::fs::remove_dir_all(&folder)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(folder = %folder.display(), %error, "could not remove the data of the demo");
    }
    ended
}

fn clock_and_logging(args: &ServeArgs) -> Result<Arc<dyn Clock>, AppError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    telemetry::init_logging(args.log_level, args.log_format, clock.clone())?;
    Ok(clock)
}

fn web_guard(args: &ServeArgs) -> Result<Option<Arc<WebGuard>>, AppError> {
    Ok(args.web_config_file.as_deref().map(WebGuard::open).transpose()?)
}

fn runtime() -> Result<tokio::runtime::Runtime, AppError> {
    let system = |source| AppError::System { op: "start the network threads", source };
    tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("promontory-net").build().map_err(system)
}

/// Where the server itself is scraped: its first address, as this machine reaches it.
fn own_target(listeners: &[Listener]) -> String {
    let addr = listeners.first().and_then(|l| l.addr().ok());
    match addr {
        Some(addr) if addr.ip().is_unspecified() => format!("127.0.0.1:{}", addr.port()),
        Some(addr) => addr.to_string(),
        None => "127.0.0.1:9090".to_owned(),
    }
}

/// The configuration of a server that was given none: it scrapes itself, at `path` of its own address, unless it would
/// have to know a password, and what it finds on its machine.
fn default_config(own: &str, path: &str, guard: Option<&WebGuard>) -> String {
    let itself = match guard {
        Some(guard) if guard.has_users() => String::new(),
        guard => {
            let tls = "  scheme: https\n  tls_config: {insecure_skip_verify: true}\n";
            let tls = if guard.is_some_and(WebGuard::is_tls) { tls } else { "" };
            let path = if path == "/metrics" { String::new() } else { format!("  metrics_path: \"{path}\"\n") };
            format!("- job_name: promontory\n{tls}{path}  static_configs:\n  - targets: ['{own}']\n")
        }
    };
    format!(
        "global:\n  scrape_interval: 15s\nscrape_configs:\n{itself}- job_name: local\n  local_sd_configs:\n  \
         - refresh_interval: 30s\n"
    )
}

/// Where the configuration comes from, now and at each reload.
#[derive(Debug, Clone)]
enum ConfigSource {
    File(PathBuf),
    Text { text: String, name: &'static str },
}

impl ConfigSource {
    fn load(&self) -> Result<Config, promontory_config::ConfigErrors> {
        match self {
            Self::File(file) => promontory_config::load(file),
            Self::Text { text, name } => promontory_config::parse(text, std::path::Path::new(name)),
        }
    }
}

/// What the parts share.
struct Shared {
    args: ServeArgs,
    clock: Arc<dyn Clock>,
    start_ms: i64,
    db: Db,
    results: Arc<ResultCache>,
    memory: Arc<MemoryPool>,
    telemetry: Telemetry,
    manager: Manager,
    senders: Arc<Senders>,
    upstreams: Arc<Upstreams>,
    /// The database, and what other servers have besides: what queries are answered from.
    data: Beside,
    growth: Arc<growth::Growth>,
    ingest: Arc<Ingest>,
    bodies: Bodies,
    remote_meter: Arc<RemoteMeter>,
    connections: Arc<Connections>,
    dashboards: Arc<DashboardSettings>,
    source: ConfigSource,
    config: ArcSwap<Config>,
    query_log: ArcSwapOption<JsonLog>,
    config_loaded_ms: std::sync::atomic::AtomicI64,
    config_failed: AtomicBool,
    /// Since when each notification is true.
    notified: Mutex<BTreeMap<String, i64>>,
    runtime: tokio::runtime::Handle,
    stopping: AtomicBool,
    stop: Notify,
}

impl Shared {
    /// How queries are evaluated under the present configuration.
    fn engine_options(&self) -> EngineOptions {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(QUERY_THREADS_MAX);
        EngineOptions {
            lookback_ms: self.args.lookback_delta.ms(),
            max_samples: self.args.query_max_samples,
            memory_bytes_max: self.args.query_max_memory,
            subquery_step_ms: self.config.load().global.evaluation_interval.ms(),
            delayed_name_removal: false,
            threads,
        }
    }

    /// Takes over the configuration as it is now; all of it or nothing.
    fn reload(&self) -> Result<(), promontory_config::ConfigErrors> {
        let config = match self.source.load() {
            Ok(config) => config,
            Err(errors) => {
                self.config_failed.store(true, Ordering::Relaxed);
                self.telemetry.state.config_failed();
                return Err(errors);
            }
        };
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        self.db.set(database_settings(&self.args, &config));
        let _context = self.runtime.enter();
        self.manager.limit_series(&config.cardinality);
        let applied = self.manager.apply(&config.scrape_configs);
        tracing::info!(
            jobs = config.scrape_configs.len(),
            started = applied.started,
            changed = applied.changed,
            stopped = applied.stopped,
            "configuration loaded"
        );
        self.ingest.set(config.otlp.clone());
        self.senders.apply(&config.remote_write, &config.global.external_labels);
        self.upstreams.apply(&config.remote_read, &config.global.external_labels);
        self.dashboards.set(dashboard_options(&self.args, &config));
        self.log_queries(config.global.query_log_file.as_ref());
        // Nobody waits for it: a hundred files take longer to read than all else of a start.
        let (dashboards, now_ms) = (self.dashboards.clone(), self.clock.now().ms());
        tokio::task::spawn_blocking(move || {
            for (file, error) in dashboards.broken_files(now_ms) {
                tracing::warn!(file, error, "not a dashboard");
            }
        });
        self.config.store(Arc::new(config));
        let now = self.clock.now();
        self.config_loaded_ms.store(now.ms(), Ordering::Relaxed);
        self.config_failed.store(false, Ordering::Relaxed);
        self.telemetry.state.config_loaded(now);
        Ok(())
    }

    /// Logs queries to `file`, which is opened anew where it was already.
    fn log_queries(&self, file: Option<&PathBuf>) {
        self.telemetry.queries.log_enabled.set(i64::from(file.is_some()));
        match (&*self.query_log.load(), file) {
            (Some(log), Some(file)) if log.path() == file => log.reopen(),
            (_, file) => {
                self.query_log.store(file.map(|file| Arc::new(JsonLog::open(file.clone(), "query_log_file"))));
            }
        }
    }

    /// `15d or 10GB`, as the status page shows it.
    fn retention_text(&self) -> String {
        let kept = database_settings(&self.args, &self.config.load());
        let time = kept.retention_ms.map(|ms| promontory_model::Duration(ms).to_string());
        let size = match (kept.retention_percent, kept.retention_bytes) {
            (Some(percent), _) => Some(format!("{percent}%")),
            (None, bytes) => bytes.map(promontory_config::print_bytes),
        };
        time.into_iter().chain(size).collect::<Vec<_>>().join(" or ")
    }

    /// Begins to stop; answers whether this is the first time.
    fn quit(&self) -> bool {
        let first = !self.stopping.swap(true, Ordering::SeqCst);
        self.stop.notify_waiters();
        self.stop.notify_one();
        first
    }
}

/// Settings of the dashboards: folders of the flag, then of the configuration.
fn dashboard_options(args: &ServeArgs, config: &Config) -> DashboardOptions {
    DashboardOptions {
        folders: args.dashboards_path.iter().chain(&config.dashboards.paths).cloned().collect(),
        read_only: args.dashboards_read_only,
        scrape_interval_ms: config.global.scrape_interval.ms(),
        timeout_ms: u64::try_from(args.query_timeout.ms()).unwrap_or(0),
        concurrency: args.query_max_concurrency as usize,
    }
}

/// A server that has begun to scrape and answers as soon as it runs.
struct Server {
    shared: Arc<Shared>,
    listeners: Vec<Listener>,
    router: Router,
    maintenance: Maintenance,
    scrape_threads: ScrapeThreads,
}

impl Server {
    async fn start(
        args: &ServeArgs,
        clock: Arc<dyn Clock>,
        source: ConfigSource,
        listeners: Vec<Listener>,
        guard: Option<Arc<WebGuard>>,
    ) -> Result<Self, AppError> {
        for (flag, reason) in &args.without_effect.0 {
            tracing::warn!(flag, reason, "a flag of Prometheus has no effect here");
        }
        let cors_origin = Regex::new(&args.cors_origin)
            .map_err(|e| AppError::Flag { flag: "web.cors.origin", reason: e.to_string() })?;
        let below = Below::of(args)?;
        let config = source.load()?;
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        let db = open_database(args, &config, &clock).await?;
        let version = env!("CARGO_PKG_VERSION");
        let mut telemetry = Telemetry::new(clock.clone(), version);
        telemetry.queries.concurrent_max.set(args.query_max_concurrency.into());
        let figures_db = db.clone();
        telemetry.register(move || telemetry::storage_figures(&figures_db.status()));
        let cache_bytes = usize::try_from(args.query_result_cache_size).unwrap_or(usize::MAX);
        let results = Arc::new(ResultCache::new(cache_bytes));
        let cache = results.clone();
        telemetry.register(move || backend::cache_figures(cache.stats()));
        let memory = Arc::new(MemoryPool::new(args.query_max_total_memory));
        let held = memory.clone();
        let help = "Bytes that running queries hold";
        telemetry.register(move || {
            vec![telemetry::Figures::gauge("promontory_query_memory_bytes", help, held.bytes() as f64)]
        });
        let metrics = Arc::new(ScrapeMetrics::default());
        let seed = offset_seed(&backend::host_name(), &config.global.external_labels);
        let zero_starts = ingest::has_feature(args, ingest::ZERO_STARTS);
        let system = |source| AppError::System { op: "start the scrape threads", source };
        let scrape_threads = ScrapeThreads::start().map_err(system)?;
        let options = ManagerOptions { seed, zero_starts, spread: scrape_threads.spread() };
        let manager = Manager::new(db.clone(), clock.clone(), metrics, options);
        let scraping = manager.clone();
        telemetry.register(move || backend::scrape_figures(&scraping));
        let connections = Connections::new(args.max_connections as usize, args.read_timeout, clock.clone());
        let connected = connections.clone();
        telemetry.register(move || backend::connection_figures(&connected.counts()));
        let bodies = Bodies::new();
        let ingest = Ingest::new(IngestParts {
            db: db.clone(),
            clock: clock.clone(),
            vfs: Arc::new(RealVfs),
            data_dir: args.storage_path.clone(),
            bodies: bodies.clone(),
            options: ingest::options(args)?,
        });
        let taken_in = ingest.clone();
        telemetry.register(move || ingest::figures(&taken_in));
        let senders = Arc::new(Senders::new(SendParts {
            db: db.clone(),
            clock: clock.clone(),
            vfs: Arc::new(RealVfs),
            data_dir: args.storage_path.clone(),
        }));
        let upstreams = Arc::new(Upstreams::new(tokio::runtime::Handle::current(), clock.clone()));
        let sending = senders.clone();
        telemetry.register(move || sending.figures());
        let reading = upstreams.clone();
        telemetry.register(move || reading.figures());
        let asked = Arc::<RemoteMeter>::default();
        let remote_meter = asked.clone();
        telemetry.register(move || asked.figures());
        let shared = Arc::new(Shared {
            args: args.clone(),
            start_ms: clock.now().ms(),
            clock,
            db: db.clone(),
            results,
            memory,
            telemetry,
            manager,
            senders,
            data: upstreams.beside(db.clone()),
            upstreams,
            growth: Arc::default(),
            ingest,
            bodies,
            remote_meter,
            connections,
            dashboards: Arc::new(DashboardSettings::new(dashboard_options(args, &config))),
            source,
            config: ArcSwap::from_pointee(Config::default()),
            query_log: ArcSwapOption::empty(),
            config_loaded_ms: std::sync::atomic::AtomicI64::new(0),
            config_failed: AtomicBool::new(false),
            notified: Mutex::default(),
            runtime: tokio::runtime::Handle::current(),
            stopping: AtomicBool::new(false),
            stop: Notify::new(),
        });
        shared.config.store(Arc::new(Config { storage: config.storage, ..Config::default() }));
        shared.reload()?;
        let mut router = below.serve(router(&shared, cors_origin, &below));
        let listeners = listeners.into_iter().map(|listener| listener.guarded(guard.clone())).collect();
        if let Some(guard) = guard {
            router = router.layer(axum::middleware::from_fn_with_state(guard, web_config::guard));
        }
        let told_by = shared.manager.clone();
        let (growth, noted, clock) = (shared.growth.clone(), db.clone(), shared.clock.clone());
        let each_tick = move || growth.note(clock.now().ms(), || noted.cardinality(growth::NOTED_MAX));
        let maintenance = Maintenance::start(db, move || told_by.metadata(), each_tick)
            .map_err(|source| AppError::System { op: "start the maintenance threads", source })?;
        Ok(Self { shared, listeners, router, maintenance, scrape_threads })
    }

    /// Answers until asked to stop, then ends in order.
    async fn run(self) -> Result<(), AppError> {
        let Self { shared, listeners, router, maintenance, scrape_threads } = self;
        let signals = spawn_signals(&shared)?;
        let following = shared.args.config_auto_reload.then(|| tokio::spawn(follow_files(shared.clone())));
        let repeating = tokio::spawn(ingest::repeat_pushed(shared.ingest.clone()));
        let mut serving = tokio::task::JoinSet::new();
        for listener in listeners {
            let address = listener.addr().map_or_else(|_| String::new(), |a| a.to_string());
            tracing::info!(address, "listening");
            let stop = shared.clone();
            let stopped = async move {
                while !stop.stopping.load(Ordering::SeqCst) {
                    stop.stop.notified().await;
                }
                // Wakes the next listener that waits.
                stop.stop.notify_one();
            };
            let service = router.clone();
            serving.spawn(listener.serve(shared.connections.clone(), service, stopped));
        }
        shared.telemetry.state.ready(true);
        tracing::info!(pages = "/dashboards", "ready");

        while !shared.stopping.load(Ordering::SeqCst) {
            shared.stop.notified().await;
        }
        shared.stop.notify_one();
        tracing::info!("stopping");
        shared.telemetry.state.ready(false);
        if tokio::time::timeout(DRAIN, async { while serving.join_next().await.is_some() {} }).await.is_err() {
            tracing::warn!(seconds = DRAIN.as_secs(), "some answers were cut: their clients did not read them in time");
            serving.abort_all();
        }
        signals.abort();
        repeating.abort();
        if let Some(following) = following {
            following.abort();
        }
        let (db, told) = (shared.db.clone(), shared.manager.metadata());
        let remembered = tokio::task::spawn_blocking(move || maintenance::remember(&db, &told)).await;
        if remembered.is_err() {
            tracing::error!("what targets say of their metrics is not kept");
        }
        shared.manager.stop().await;
        drop(scrape_threads);
        shared.senders.stop().await;
        maintenance.stop();
        let db = shared.db.clone();
        let closed = tokio::task::spawn_blocking(move || db.close()).await;
        closed.unwrap_or(Ok(())).map_err(AppError::Close)?;
        tracing::info!("stopped");
        Ok(())
    }
}

fn router(shared: &Arc<Shared>, cors_origin: Regex, below: &Below) -> Router {
    let backend = Arc::new(ServerBackend(shared.clone()));
    let data: Arc<dyn promontory_model::Queryable> = Arc::new(shared.data.clone());
    let args = &shared.args;
    let admin = admin::DbAdmin { db: shared.db.clone(), clock: shared.clock.clone() };
    let labels_of = shared.clone();
    let remote = crate::remote::router(crate::remote::RemoteParts {
        db: shared.db.clone(),
        clock: shared.clock.clone(),
        bodies: shared.bodies.clone(),
        meter: shared.remote_meter.clone(),
        enable_write: args.enable_remote_write_receiver,
        zero_starts: ingest::has_feature(args, ingest::ZERO_STARTS),
        read_timeout: args.query_timeout,
        external_labels: Box::new(move || labels_of.config.load().global.external_labels.clone()),
    });
    let api = crate::http::router(HttpParts {
        backend: backend.clone(),
        admin: args.enable_admin_api.then(|| Arc::new(admin) as _),
        data,
        local: Arc::new(shared.db.clone()),
        results: shared.results.clone(),
        memory: shared.memory.clone(),
        clock: shared.clock.clone(),
        api_routes: remote.merge(shared.ingest.api_router()),
        routes: shared.ingest.router(),
        options: HttpOptions {
            enable_lifecycle: args.enable_lifecycle,
            cors_origin,
            query_timeout: args.query_timeout,
            query_max_concurrency: args.query_max_concurrency as usize,
            notifications_max: args.max_notifications_subscribers as usize,
            enable_search: args.enable_feature.iter().any(|feature| feature == ingest::SEARCH),
            search_results_max: args.search_results_max as usize,
        },
    });
    let source = Arc::new(EngineSource::new(shared.clone()));
    let dashboards = Dashboards::new(source, shared.clock.clone(), shared.dashboards.clone());
    let pages = pages::router(shared.clone())
        .merge(profiles::router(shared.clone()))
        .merge(crate::dashboard::router(dashboards));
    let pages = below.lead(pages).layer(crate::http::page_compression()).layer(crate::http::compression());
    shared.telemetry.http.layer(api.merge(pages))
}

/// What of the database's options a reload may change; the configuration goes before the flags, and zero is without
/// end.
fn database_settings(args: &ServeArgs, config: &Config) -> DbSettings {
    let storage = &config.storage;
    let retention_percent = storage.retention_percent.filter(|percent| *percent > 0.0);
    let retention_bytes = storage.retention_bytes.or(args.retention_size).filter(|bytes| *bytes > 0);
    let retention_ms = match storage.retention_time.or(args.retention_time) {
        Some(time) => Some(time.ms()).filter(|ms| *ms > 0),
        None if retention_bytes.is_none() && retention_percent.is_none() => Some(RETENTION_DEFAULT_MS),
        None => None,
    };
    DbSettings {
        retention_ms,
        retention_bytes,
        retention_percent,
        compaction_rate: Some(args.compaction_rate).filter(|rate| *rate > 0),
        out_of_order_window_ms: storage.out_of_order_window.unwrap_or(args.out_of_order_window).ms(),
        exemplars_max: storage
            .exemplars_max
            .map_or(DbOptions::server().exemplars_max, |n| usize::try_from(n).unwrap_or(usize::MAX)),
    }
}

async fn open_database(args: &ServeArgs, config: &Config, clock: &Arc<dyn Clock>) -> Result<Db, AppError> {
    let options = DbOptions {
        fsync: match args.wal_fsync {
            WalFsync::Interval => FsyncPolicy::Interval(1000),
            WalFsync::Always => FsyncPolicy::Always,
            WalFsync::Never => FsyncPolicy::Never,
        },
        ..DbOptions::server()
    }
    .with(database_settings(args, config));
    let (dir, clock) = (args.storage_path.clone(), clock.clone());
    let opened = tokio::task::spawn_blocking(move || Db::open(Arc::new(RealVfs), clock, &dir, options));
    let (db, recovery) = match opened.await {
        Ok(opened) => opened?,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    };
    for note in &recovery.notes {
        tracing::warn!("{note}");
    }
    tracing::info!(
        folder = %args.storage_path.display(),
        series = recovery.series,
        wal_rows = recovery.wal_rows,
        blocks = db.status().blocks_loaded,
        "database opened"
    );
    Ok(db)
}

/// Ctrl-C and SIGTERM stop, a second one ends at once; SIGHUP reloads.
fn spawn_signals(shared: &Arc<Shared>) -> Result<tokio::task::JoinHandle<()>, AppError> {
    let open = |kind| signal(kind).map_err(|source| AppError::System { op: "listen for signals", source });
    let (mut interrupt, mut terminate, mut hangup) =
        (open(SignalKind::interrupt())?, open(SignalKind::terminate())?, open(SignalKind::hangup())?);
    let shared = shared.clone();
    Ok(tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => stop_or_end(&shared),
                _ = terminate.recv() => stop_or_end(&shared),
                _ = hangup.recv() => reload_and_tell(&shared).await,
            }
        }
    }))
}

async fn reload_and_tell(shared: &Arc<Shared>) {
    let reloading = shared.clone();
    match tokio::task::spawn_blocking(move || reloading.reload()).await {
        Ok(Ok(())) => {}
        Ok(Err(errors)) => tracing::error!(%errors, "configuration refused, the one before stays"),
        Err(error) => tracing::error!(%error, "reload ended early"),
    }
}

/// Reloads the configuration whenever its files are found to have changed; a refused one is tried again when they
/// change again.
async fn follow_files(shared: Arc<Shared>) {
    let ConfigSource::File(file) = shared.source.clone() else { return };
    let every = shared.args.config_auto_reload_interval.ms().max(AUTO_RELOAD_MS_MIN);
    let every = std::time::Duration::from_millis(every.unsigned_abs());
    let mut seen = None;
    loop {
        let (file, patterns) = (file.clone(), shared.config.load().scrape_config_files.clone());
        let look = tokio::task::spawn_blocking(move || promontory_config::fingerprint(&file, &patterns));
        let found = look.await.ok();
        if seen.is_some() && found.is_some() && found != seen {
            reload_and_tell(&shared).await;
        }
        seen = found.or(seen);
        tokio::time::sleep(every).await;
    }
}

fn stop_or_end(shared: &Shared) {
    if !shared.quit() {
        tracing::warn!("asked to stop a second time, ending at once; the write-ahead log keeps what was acknowledged");
        std::process::exit(1);
    }
}

/// The metric name and labels of a label set are shown without those that begin with `__`.
fn visible(labels: &Labels) -> Labels {
    labels.filtered(|name| !name.starts_with("__"))
}
