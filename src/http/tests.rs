//! Requests to the router in process, over a database in a temporary folder.

mod api;
mod description;
mod search;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use promontory_model::{
    Cancel, Cancelled, Changes, Labels, Matcher, MetricMetadata, MetricType, ReadError, Select, Selection, Snapshot,
    TimeRange, Timestamp,
};
use promontory_promql::cache::ResultCache;
use promontory_promql::engine::EngineOptions;
use promontory_storage::clock::ManualClock;
use promontory_storage::vfs::RealVfs;
use promontory_storage::{Db, DbOptions};

use super::*;

pub(super) const FORM: &str = "application/x-www-form-urlencoded";

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    #[track_caller]
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
}

/// A router with its world.
pub(super) struct World {
    pub(super) router: Router,
    pub(super) backend: Arc<FakeBackend>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) results: Arc<ResultCache>,
    pub(super) hanging: Arc<AtomicUsize>,
    /// Why hanging queries ended.
    pub(super) stopped: Arc<Mutex<Vec<Cancelled>>>,
    pub(super) db: Db,
    _dir: tempfile::TempDir,
}

impl World {
    pub(super) fn new(options: HttpOptions) -> Self {
        Self::build(options, true)
    }

    pub(super) fn without_admin() -> Self {
        Self::build(options(), false)
    }

    fn build(options: HttpOptions, has_admin: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp(100_000)));
        let db_options = DbOptions { commit_interval_ms: None, ..DbOptions::server() };
        let (db, _) = Db::open(Arc::new(RealVfs), clock.clone(), dir.path(), db_options).unwrap();
        let backend = Arc::new(FakeBackend::default());
        let hanging = Arc::new(AtomicUsize::new(0));
        let stopped = Arc::<Mutex<Vec<Cancelled>>>::default();
        let results = Arc::new(ResultCache::new(1 << 20));
        let router = router(HttpParts {
            backend: backend.clone(),
            admin: has_admin.then(|| backend.clone() as _),
            data: Arc::new(Traps { db: db.clone(), hanging: hanging.clone(), stopped: stopped.clone() }),
            local: Arc::new(db.clone()),
            results: results.clone(),
            memory: Arc::default(),
            clock: clock.clone(),
            api_routes: Router::new(),
            routes: Router::new(),
            options,
        });
        Self { router, backend, clock, results, hanging, stopped, db, _dir: dir }
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Answer {
        let response = TowerToHyperService::new(self.router.clone()).call(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    pub(super) async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let request = headers.iter().fold(Request::get(path), |r, (n, v)| r.header(*n, *v));
        self.send(request.body(Body::empty()).unwrap()).await
    }

    pub(super) async fn post(&self, path: &str, form: &str) -> Answer {
        let request = Request::post(path).header("content-type", FORM);
        self.send(request.body(Body::from(form.to_owned())).unwrap()).await
    }
}

pub(super) fn options() -> HttpOptions {
    HttpOptions {
        enable_lifecycle: true,
        cors_origin: Regex::new(".*").unwrap(),
        query_timeout: Duration::from_secs(120),
        query_max_concurrency: 2,
        notifications_max: 1,
        enable_search: true,
        search_results_max: 10,
    }
}

/// `m{i="0"}` and `m{i="1"}` with samples at 10 s … 90 s whose value is the second, and `n{job="x"}` at 50 s.
pub(super) fn world() -> World {
    world_with(options())
}

pub(super) fn world_with(options: HttpOptions) -> World {
    let world = World::new(options);
    let mut writer = world.db.writer();
    let m = ["0", "1"].map(|i| writer.resolve(&Labels::from_pairs([("__name__", "m"), ("i", i)])).unwrap());
    for t in 1..10 {
        let row = m.map(|series| (series, f64::from(t) * 10.0));
        writer.append(Timestamp(i64::from(t) * 10_000), &row).unwrap();
    }
    let labels = Labels::from_pairs([("__name__", "n"), ("job", "x"), ("http.status", "200")]);
    let n = writer.resolve(&labels).unwrap();
    writer.append(Timestamp(50_000), &[(n, 0.5)]).unwrap();
    world.db.commit().unwrap();
    world
}

/// The database, but that selecting `hang` waits until it is stopped, and selecting `boom` panics.
struct Traps {
    db: Db,
    hanging: Arc<AtomicUsize>,
    stopped: Arc<Mutex<Vec<Cancelled>>>,
}

struct TrapsSnapshot(Arc<dyn Snapshot>, Arc<AtomicUsize>, Arc<Mutex<Vec<Cancelled>>>);

impl Queryable for Traps {
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, ReadError> {
        Ok(Arc::new(TrapsSnapshot(self.db.snapshot()?, self.hanging.clone(), self.stopped.clone())))
    }

    fn changes(&self) -> Option<&dyn Changes> {
        self.db.changes()
    }
}

impl Snapshot for TrapsSnapshot {
    fn select(&self, select: &Select<'_>) -> Result<Selection, ReadError> {
        let selects = |name: &str| select.matchers.iter().any(|m| m.name() == "__name__" && m.value() == name);
        assert!(!selects("boom"), "boom");
        if selects("hang") {
            self.1.fetch_add(1, Ordering::SeqCst);
            let reason = loop {
                match select.cancel.check() {
                    Ok(()) => std::thread::yield_now(),
                    Err(reason) => break reason,
                }
            };
            self.2.lock().unwrap().push(reason);
            self.1.fetch_sub(1, Ordering::SeqCst);
        }
        select.cancel.check()?;
        self.0.select(select)
    }

    fn label_names(&self, select: &Select<'_>) -> Result<Vec<String>, ReadError> {
        self.0.label_names(select)
    }

    fn label_values(&self, name: &str, select: &Select<'_>, limit: usize) -> Result<Vec<String>, ReadError> {
        self.0.label_values(name, select, limit)
    }
}

#[derive(Default)]
pub(super) struct FakeBackend {
    pub(super) starting: AtomicBool,
    pub(super) stopping: AtomicBool,
    pub(super) reload_fails: AtomicBool,
    pub(super) reloads: AtomicUsize,
    /// What was asked of the admin API.
    pub(super) admin_asked: Mutex<Vec<String>>,
    /// Queries that began and did not end.
    pub(super) active: AtomicUsize,
    pub(super) samples_read: AtomicU64,
    pub(super) logged: Mutex<Vec<serde_json::Value>>,
}

impl Admin for FakeBackend {
    fn delete_series(&self, selectors: &[Vec<Matcher>], range: TimeRange) -> Result<(), String> {
        let n = selectors.len();
        self.admin_asked.lock().unwrap().push(format!("delete {n} {} {}", range.mint.0, range.maxt.0));
        Ok(())
    }

    fn count_series(&self, _: &[Vec<Matcher>], _: TimeRange, _: &Cancel) -> Result<(u64, u64), ReadError> {
        Ok((2, 18))
    }

    fn clean_tombstones(&self) -> Result<(), String> {
        self.admin_asked.lock().unwrap().push("clean".to_owned());
        Err("disk full".to_owned())
    }

    fn snapshot(&self, skip_head: bool) -> Result<String, String> {
        Ok(format!("20260102T030405Z-{skip_head}"))
    }
}

impl Backend for FakeBackend {
    fn readiness(&self) -> Readiness {
        match (self.starting.load(Ordering::SeqCst), self.stopping.load(Ordering::SeqCst)) {
            (true, _) => Readiness::Starting,
            (_, true) => Readiness::Stopping,
            _ => Readiness::Ready,
        }
    }

    fn targets(&self) -> Targets {
        let labels = |name: &str| Labels::from_pairs([("job", name)]);
        let target = |pool: &str| ActiveTarget {
            discovered_labels: Labels::from_pairs([("__address__", "a:1"), ("job", pool)]),
            labels: labels(pool),
            scrape_pool: pool.to_owned(),
            scrape_url: "http://a:1/metrics".to_owned(),
            global_url: "http://host:1/metrics".to_owned(),
            last_error: String::new(),
            last_scrape_ms: (pool == "x").then_some(1_700_000_000_500),
            last_scrape_seconds: 0.25,
            health: if pool == "x" { Health::Up } else { Health::Unknown },
            scrape_interval: "15s".to_owned(),
            scrape_timeout: "10s".to_owned(),
        };
        Targets {
            active: vec![target("x"), target("y")],
            dropped: vec![DroppedTarget { discovered_labels: labels("y"), scrape_pool: "y".to_owned() }],
            dropped_counts: BTreeMap::from([("x".to_owned(), 0), ("y".to_owned(), 1)]),
        }
    }

    fn scrape_pools(&self) -> Vec<String> {
        vec!["x".to_owned(), "y".to_owned()]
    }

    fn targets_metadata(&self) -> Vec<TargetMetadata> {
        let target = |job: &str| TargetMetadata {
            labels: Labels::from_pairs([("job", job)]),
            families: self
                .metadata()
                .into_iter()
                .filter_map(|(name, all)| Some((name, all.into_iter().next()?)))
                .collect(),
        };
        vec![target("x"), target("y")]
    }

    fn external_labels(&self) -> Labels {
        Labels::from_pairs([("dc", "1")])
    }

    fn scrape_pool_yaml(&self, pool: &str) -> Option<String> {
        (pool == "x").then(|| "job_name: x\n".to_owned())
    }

    fn relabel_steps(&self, pool: &str, labels: &Labels) -> Option<Vec<RelabelStep>> {
        let step = |action: &str, output| RelabelStep { rule: serde_json::json!({ "action": action }), output };
        (pool == "x").then(|| vec![step("replace", Some(labels.clone())), step("drop", None)])
    }

    fn metadata(&self) -> BTreeMap<String, Vec<MetricMetadata>> {
        let entry =
            |help: &str| MetricMetadata { kind: MetricType::Counter, help: help.to_owned(), unit: "s".to_owned() };
        BTreeMap::from([("a".to_owned(), vec![entry("one"), entry("two")]), ("b".to_owned(), vec![entry("three")])])
    }

    fn exemplars(&self, selectors: &[Vec<Matcher>], range: TimeRange) -> Vec<SeriesExemplars> {
        let trace = |id: &str| Labels::from_pairs([("trace_id", id)]);
        let all = [("m", 1500, 0.5, "a"), ("m", 2000, f64::INFINITY, "b\"c"), ("n", 3000, 1e21, "")];
        let mut out: Vec<SeriesExemplars> = Vec::new();
        for (name, t_ms, value, id) in all {
            let labels = Labels::from_pairs([("__name__", name)]);
            let passes = |matchers: &Vec<Matcher>| matchers.iter().all(|m| m.matches_labels(&labels));
            if !selectors.iter().any(passes) || !range.contains(Timestamp(t_ms)) {
                continue;
            }
            let exemplar = Exemplar { labels: trace(id), value, t_ms };
            match out.last_mut().filter(|s| s.labels == labels) {
                Some(series) => series.exemplars.push(exemplar),
                None => out.push(SeriesExemplars { labels, exemplars: vec![exemplar] }),
            }
        }
        out
    }

    fn config_yaml(&self) -> String {
        "global: {}\n".to_owned()
    }

    fn flags(&self) -> BTreeMap<String, String> {
        BTreeMap::from([("query.timeout".to_owned(), "2m".to_owned())])
    }

    fn build_info(&self) -> BuildInfo {
        BuildInfo { version: "3.14.0".to_owned(), ..BuildInfo::default() }
    }

    fn runtime_info(&self) -> RuntimeInfo {
        RuntimeInfo { storage_retention: "15d".to_owned(), ..RuntimeInfo::default() }
    }

    fn tsdb(&self, limit: usize) -> TsdbStatus {
        let series_by_metric = (0..limit as u64).map(|i| (format!("m{i}"), i)).collect();
        TsdbStatus { num_series: 3, series_by_metric, ..TsdbStatus::default() }
    }

    fn blocks(&self) -> Vec<BlockInfo> {
        let sources = vec!["01A".to_owned()];
        let ulid = "01B".to_owned();
        vec![BlockInfo { ulid, min_ms: 1, max_ms: 9, samples: 4, series: 2, chunks: 3, level: 1, sources }]
    }

    fn self_metrics(&self) -> Vec<(String, serde_json::Value)> {
        let family =
            |name: &str| serde_json::json!({"name": name, "type": "GAUGE", "metric": [{"gauge": {"value": 1}}]});
        ["up", "down"].map(|name| (name.to_owned(), family(name))).to_vec()
    }

    fn features(&self) -> Features {
        Features::from([("tsdb", BTreeMap::from([("isolation".to_owned(), true)]))])
    }

    fn notifications(&self) -> Vec<Notification> {
        vec![Notification { text: "disk full".to_owned(), since_ms: 1_500 }]
    }

    fn reload(&self) -> Result<(), String> {
        self.reloads.fetch_add(1, Ordering::SeqCst);
        if self.reload_fails.load(Ordering::SeqCst) { Err("x.yml:1:1: no".to_owned()) } else { Ok(()) }
    }

    fn engine_options(&self) -> EngineOptions {
        EngineOptions {
            lookback_ms: 300_000,
            max_samples: 500,
            memory_bytes_max: 1 << 30,
            subquery_step_ms: 60_000,
            delayed_name_removal: false,
            threads: 1,
        }
    }

    fn federated(&self, _: bool, _: usize) {}

    fn query_began(&self) {
        self.active.fetch_add(1, Ordering::SeqCst);
    }

    fn query_ended(&self, cost: QueryCost) {
        self.active.fetch_sub(1, Ordering::SeqCst);
        self.samples_read.fetch_add(cost.samples_read, Ordering::SeqCst);
    }

    fn logs_queries(&self) -> bool {
        true
    }

    fn log_query(&self, line: &serde_json::Value) {
        self.logged.lock().unwrap().push(line.clone());
    }

    fn metrics(&self, accept: &str) -> (&'static str, String) {
        ("text/plain; version=0.0.4", format!("# {accept}\nup 1\n"))
    }

    fn quit(&self) -> bool {
        !self.stopping.swap(true, Ordering::SeqCst)
    }
}
