//! All scrape jobs: started, changed and stopped as the configuration and discovery say.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration as StdDuration;

use promontory_config::CardinalityConfig;
use promontory_config::scrape::ScrapeConfig;
use promontory_model::{Duration, Labels, MetricMetadata, MetricType, Timestamp};
use promontory_storage::Db;
use promontory_storage::clock::Clock;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::census::Census;
use super::own_metrics::{Family, Sample, ScrapeMetrics};
use super::pool::Pool;
use super::scrape_loop::{Health, Shared};
use super::scratch::ScratchPool;
use super::target::Fnv1a;
use super::threads::Spread;
use crate::client::{Connector, TcpConnector};
use crate::discovery::{JobDiscovery, Providers, Surroundings};

/// How often discovery is asked for changes, which is also the least time between two changes of a job's targets.
const DISCOVERY_INTERVAL: StdDuration = StdDuration::from_secs(5);

/// Runs the scrape jobs. Clones are handles of one manager.
#[derive(Debug, Clone)]
pub struct Manager(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    connector: Arc<dyn Connector>,
    /// Mechanisms that ask servers for targets, shared by the jobs.
    providers: Providers,
    /// Protects the jobs. Held while targets are brought up to date and while they are shown, never across `.await`.
    jobs: Mutex<Jobs>,
    stopping: Notify,
}

#[derive(Debug, Default)]
struct Jobs {
    by_name: BTreeMap<String, Running>,
    /// Jobs that are gone and whose series have not all ended yet.
    leaving: Vec<Pool>,
    watcher: Option<JoinHandle<()>>,
    is_stopped: bool,
}

#[derive(Debug)]
struct Running {
    pool: Pool,
    discovery: JobDiscovery,
}

/// What a manager does with all jobs alike.
#[derive(Debug, Clone)]
pub struct ManagerOptions {
    /// Shifts the phases of this server's scrapes: [`offset_seed`].
    pub seed: u64,
    /// Whether counters, histograms and summaries begin with a zero at the time from which their target says that they
    /// count.
    pub zero_starts: bool,
    /// Where targets are scraped.
    pub spread: Spread,
}

/// What a new configuration changed; the jobs that are not counted go on as they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Applied {
    /// New jobs.
    pub started: usize,
    /// Jobs with other settings.
    pub changed: usize,
    /// Jobs that are gone.
    pub stopped: usize,
}

/// A target as it is shown.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetStatus {
    /// Job.
    pub job: String,
    /// What tells it from the others of its job.
    pub identity: u64,
    /// Labels before relabelling.
    pub discovered: Labels,
    /// Labels of its series.
    pub labels: Labels,
    /// What is fetched.
    pub url: String,
    /// How the last scrape went.
    pub health: Health,
    /// Why it failed; empty if it did not.
    pub last_error: String,
    /// When it began.
    pub last_scrape: Option<Timestamp>,
    /// How long it took.
    pub last_scrape_seconds: f64,
    /// Samples it brought after relabelling.
    pub last_samples: u64,
    /// Of them, those of series that the limits of cardinality refused.
    pub last_refused: u64,
    /// Time between scrapes.
    pub interval: Duration,
    /// Time that one may take.
    pub timeout: Duration,
}

/// A target that relabelling dropped.
#[derive(Debug, Clone, PartialEq)]
pub struct DroppedTarget {
    /// Job.
    pub job: String,
    /// Labels before relabelling.
    pub discovered: Labels,
}

/// Targets of all jobs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Targets {
    /// Those that are scraped, by job.
    pub active: Vec<TargetStatus>,
    /// Those that relabelling dropped, as many as `keep_dropped_targets` says.
    pub dropped: Vec<DroppedTarget>,
    /// How many relabelling dropped, by job.
    pub dropped_counts: BTreeMap<String, u64>,
}

/// What one target says of its metrics.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetMetadata {
    /// Labels of its series.
    pub labels: Labels,
    /// By family.
    pub families: BTreeMap<String, MetricMetadata>,
}

/// Shifts the phases of a server's scrapes: two servers with the same configuration but different names or external
/// labels do not scrape at the same instant.
#[must_use]
pub fn offset_seed(host_name: &str, external_labels: &Labels) -> u64 {
    let mut hash = Fnv1a::new();
    hash.write(host_name.as_bytes());
    hash.write(external_labels.to_string().as_bytes());
    hash.0
}

impl Manager {
    /// A manager without jobs that scrapes over the network into `db`.
    #[must_use]
    pub fn new(db: Db, clock: Arc<dyn Clock>, metrics: Arc<ScrapeMetrics>, options: ManagerOptions) -> Self {
        Self::with_connector(db, clock, metrics, options, Arc::new(TcpConnector))
    }

    /// The same with connections of another kind.
    #[must_use]
    pub fn with_connector(
        db: Db,
        clock: Arc<dyn Clock>,
        metrics: Arc<ScrapeMetrics>,
        options: ManagerOptions,
        connector: Arc<dyn Connector>,
    ) -> Self {
        let providers = Providers::new(Surroundings::new(connector.clone(), clock.clone()));
        let (scratch, census) = (ScratchPool::default(), Arc::<Census>::default());
        let ManagerOptions { seed, zero_starts, spread } = options;
        let shared = Arc::new(Shared { db, clock, metrics, census, scratch, seed, zero_starts, spread });
        Self(Arc::new(Inner { shared, connector, providers, jobs: Mutex::default(), stopping: Notify::new() }))
    }

    /// Takes over the limits on how many series jobs may hold. Series that are there stay.
    pub fn limit_series(&self, config: &CardinalityConfig) {
        self.0.shared.census.limit(config);
    }

    /// Makes the jobs those of `configs`. What has not changed is not touched: targets keep their connection, what is
    /// remembered of them, and their phase. Must be called inside a tokio runtime; returns without waiting for scrapes.
    pub fn apply(&self, configs: &[ScrapeConfig]) -> Applied {
        let mut jobs = self.jobs();
        let mut applied = Applied::default();
        if jobs.is_stopped {
            return applied;
        }
        let now = self.0.shared.clock.now();
        let mut before = std::mem::take(&mut jobs.by_name);
        for config in configs {
            let running = match before.remove(&config.job_name) {
                Some(running) if running.pool.config() == config => {
                    running.pool.keep();
                    running
                }
                Some(running) => {
                    applied.changed += 1;
                    self.changed(running, config, now)
                }
                None => {
                    applied.started += 1;
                    self.started(config, now)
                }
            };
            jobs.by_name.insert(config.job_name.clone(), running);
        }
        applied.stopped = before.len();
        for (_, gone) in before {
            jobs.leaving.push(gone.pool);
        }
        for pool in &mut jobs.leaving {
            pool.sync(std::iter::empty());
        }
        jobs.leaving.retain(Pool::has_loops);
        if jobs.watcher.is_none() {
            jobs.watcher = Some(tokio::spawn(watch(self.clone())));
        }
        applied
    }

    /// Active and dropped targets.
    #[must_use]
    pub fn targets(&self) -> Targets {
        let jobs = self.jobs();
        let mut out = Targets::default();
        for (job, running) in &jobs.by_name {
            for handle in running.pool.active() {
                let (target, last) = (&handle.target, handle.state.last().clone());
                out.active.push(TargetStatus {
                    job: job.clone(),
                    identity: target.identity,
                    discovered: target.discovered.clone(),
                    labels: target.labels.clone(),
                    url: target.url.to_string(),
                    health: last.health,
                    last_error: last.error,
                    last_scrape: last.at,
                    last_scrape_seconds: last.seconds,
                    last_samples: last.samples,
                    last_refused: last.refused,
                    interval: target.interval,
                    timeout: target.timeout,
                });
            }
            let (dropped, count) = running.pool.dropped();
            let dropped = dropped.iter().map(|labels| DroppedTarget { job: job.clone(), discovered: labels.clone() });
            out.dropped.extend(dropped);
            out.dropped_counts.insert(job.clone(), count);
        }
        out
    }

    /// Scrapes a target at once, beside its regular scrapes. False if the job has no such target.
    #[must_use]
    pub fn scrape_now(&self, job: &str, identity: u64) -> bool {
        self.jobs().by_name.get(job).is_some_and(|running| running.pool.scrape_now(identity))
    }

    /// What each active target says of its metrics.
    #[must_use]
    pub fn targets_metadata(&self) -> Vec<TargetMetadata> {
        let jobs = self.jobs();
        let handles = jobs.by_name.values().flat_map(|running| running.pool.active());
        handles.map(|h| TargetMetadata { labels: h.target.labels.clone(), families: h.state.families.all() }).collect()
    }

    /// What is said of each metric by any active target, each thing once.
    #[must_use]
    pub fn metadata(&self) -> BTreeMap<String, Vec<MetricMetadata>> {
        let mut out: BTreeMap<String, Vec<MetricMetadata>> = BTreeMap::new();
        for target in self.targets_metadata() {
            for (family, metadata) in target.families {
                let known = out.entry(family).or_default();
                if !known.contains(&metadata) {
                    known.push(metadata);
                }
            }
        }
        out
    }

    /// Errors of sources of targets, by job; the targets they had before stay.
    #[must_use]
    pub fn discovery_errors(&self) -> BTreeMap<String, Vec<String>> {
        let jobs = self.jobs();
        let errors = jobs.by_name.iter().map(|(job, running)| (job.clone(), running.discovery.errors()));
        errors.filter(|(_, errors)| !errors.is_empty()).collect()
    }

    /// Own metrics with their present values.
    #[must_use]
    pub fn families(&self) -> Vec<Family> {
        let mut out = self.0.shared.metrics.families();
        out.extend(self.0.providers.families().into_iter().map(|family| {
            let samples = family.samples.into_iter().map(|(suffix, labels, value)| Sample { suffix, labels, value });
            Family { name: family.name, help: family.help, kind: family.kind, samples: samples.collect() }
        }));
        let jobs = self.jobs();
        let (mut targets, mut limits, mut entries, mut bytes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut discovered = Vec::new();
        for (job, running) in &jobs.by_name {
            let active = running.pool.active();
            let sizes = active.iter().map(|handle| handle.state.families.size());
            let size = sizes.fold((0, 0), |sum, size| (sum.0 + size.0, sum.1 + size.1));
            targets.push(Sample::of_job(job, active.len() as f64));
            let n_discovered: usize = running.discovery.groups().map(|group| group.targets.len()).sum();
            let labels = vec![("name", "scrape".to_owned()), ("config", job.clone())];
            discovered.push(Sample { suffix: "", labels, value: n_discovered as f64 });
            limits.push(Sample::of_job(job, running.pool.config().limits.targets.unwrap_or(0) as f64));
            entries.push(Sample::of_job(job, size.0 as f64));
            bytes.push(Sample::of_job(job, size.1 as f64));
        }
        drop(jobs);
        out.extend(self.census_families());
        let mut gauge = |name, help, samples| out.push(Family { name, help, kind: MetricType::Gauge, samples });
        gauge("prometheus_sd_discovered_targets", "Current number of discovered targets.", discovered);
        gauge("prometheus_target_scrape_pool_targets", "Current number of targets in this scrape pool.", targets);
        gauge(
            "prometheus_target_scrape_pool_target_limit",
            "Maximum number of targets allowed in this scrape pool.",
            limits,
        );
        gauge(
            "prometheus_target_metadata_cache_entries",
            "Total number of metric metadata entries in the cache.",
            entries,
        );
        gauge(
            "prometheus_target_metadata_cache_bytes",
            "The number of bytes that are currently used for storing metric metadata in the cache.",
            bytes,
        );
        out
    }

    /// Series that jobs hold, and what of their samples was not stored.
    fn census_families(&self) -> [Family; 3] {
        let (mut series, mut refused, mut dropped) = (Vec::new(), Vec::new(), Vec::new());
        for figures in self.0.shared.census.figures() {
            let sample = |label, value: &str, n: u64| {
                let mut sample = Sample::of_job(&figures.job, n as f64);
                sample.labels.push((label, value.to_owned()));
                sample
            };
            series.push(Sample::of_job(&figures.job, figures.series as f64));
            refused.extend(figures.refused.iter().map(|(limit, n)| sample("limit", limit, *n)));
            dropped.extend(figures.dropped.iter().map(|(reason, n)| sample("reason", reason, *n)));
        }
        let family = |name, help, kind, samples| Family { name, help, kind, samples };
        [
            family(
                "promontory_scrape_series",
                "Series that targets of the job are known to expose.",
                MetricType::Gauge,
                series,
            ),
            family(
                "promontory_scrape_series_refused_total",
                "New series that a limit of the section cardinality refused.",
                MetricType::Counter,
                refused,
            ),
            family(
                "promontory_scrape_samples_dropped_total",
                "Exposed samples that were not stored, by reason.",
                MetricType::Counter,
                dropped,
            ),
        ]
    }

    /// Stops scraping and waits until no scrape runs. Series are left as they are, without staleness markers, because
    /// the server is expected to be back.
    pub async fn stop(&self) {
        let tasks: Vec<JoinHandle<()>> = {
            let mut jobs = self.jobs();
            jobs.is_stopped = true;
            let pools = std::mem::take(&mut jobs.by_name).into_values().map(|running| running.pool);
            let leaving = std::mem::take(&mut jobs.leaving);
            let watcher = jobs.watcher.take();
            pools.chain(leaving).flat_map(Pool::stop).chain(watcher).collect()
        };
        self.0.stopping.notify_waiters();
        self.0.stopping.notify_one();
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a scrape task failed");
            }
        }
    }

    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn started(&self, config: &ScrapeConfig, now: Timestamp) -> Running {
        self.0.shared.metrics.pools.fetch_add(1, Ordering::Relaxed);
        let pool = Pool::new(self.0.shared.clone(), config.clone(), self.0.connector.clone());
        let mut running = Running { pool, discovery: self.discovery(config) };
        self.discover(&mut running, now);
        running.pool.sync(running.discovery.groups());
        running
    }

    fn changed(&self, mut running: Running, config: &ScrapeConfig, now: Timestamp) -> Running {
        self.0.shared.metrics.pool_reloads.fetch_add(1, Ordering::Relaxed);
        if running.pool.config().discovery != config.discovery {
            running.discovery = self.discovery(config);
            self.discover(&mut running, now);
        }
        running.pool.reconfigure(config.clone(), self.0.connector.clone());
        running.pool.sync(running.discovery.groups());
        running
    }

    fn discovery(&self, config: &ScrapeConfig) -> JobDiscovery {
        JobDiscovery::new(&config.job_name, &config.discovery, &self.0.providers)
    }

    /// Asks the sources of a job's targets for changes.
    fn discover(&self, running: &mut Running, now: Timestamp) -> bool {
        let polled = running.discovery.poll(now);
        for error in &polled.errors {
            self.0.shared.metrics.file_read_errors.fetch_add(1, Ordering::Relaxed);
            tracing::error!(job = %running.pool.config().job_name, %error, "targets of a file stay as they were");
        }
        polled.is_changed
    }

    /// Brings changes of discovery to the targets, and looks after loops that are leaving.
    fn refresh(&self) {
        let now = self.0.shared.clock.now();
        let mut jobs = self.jobs();
        for running in jobs.by_name.values_mut() {
            if self.discover(running, now) || running.pool.needs_sync() {
                running.pool.sync(running.discovery.groups());
            }
        }
        jobs.leaving.retain(Pool::has_loops);
    }
}

async fn watch(manager: Manager) {
    loop {
        tokio::select! {
            () = manager.0.stopping.notified() => return,
            () = tokio::time::sleep(DISCOVERY_INTERVAL) => manager.refresh(),
        }
    }
}

#[cfg(test)]
mod tests;
