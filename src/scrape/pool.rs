//! The targets of one job, brought up to date with configuration and discovery.

use std::collections::HashMap;
use std::sync::Arc;

use promontory_config::TargetGroup;
use promontory_config::scrape::ScrapeConfig;
use promontory_model::Labels;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::failure_log::FailureLog;
use super::negotiate::job_client;
use super::scrape_loop::{Command, Job, Order, ScrapeLoop, Shared, TargetState};
use super::target::{Target, discovered};
use crate::client::Connector;

/// Targets of a job and their loops.
#[derive(Debug)]
pub(super) struct Pool {
    shared: Arc<Shared>,
    job: Arc<Job>,
    /// By identity.
    targets: HashMap<u64, Handle>,
    /// Discovered labels of targets that relabelling dropped, as many as are to be remembered.
    dropped: Vec<Labels>,
    n_dropped: u64,
}

/// A target and how to reach its loop.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) target: Arc<Target>,
    pub(super) state: Arc<TargetState>,
    orders: watch::Sender<Order>,
    task: JoinHandle<()>,
    is_leaving: bool,
}

impl Pool {
    pub(super) fn new(shared: Arc<Shared>, config: ScrapeConfig, connector: Arc<dyn Connector>) -> Self {
        Self {
            job: job(&shared, config, connector),
            shared,
            targets: HashMap::new(),
            dropped: Vec::new(),
            n_dropped: 0,
        }
    }

    pub(super) fn config(&self) -> &ScrapeConfig {
        &self.job.config
    }

    /// Takes over a changed configuration; [`Pool::sync`] brings it to the loops.
    pub(super) fn reconfigure(&mut self, config: ScrapeConfig, connector: Arc<dyn Connector>) {
        self.job = job(&self.shared, config, connector);
    }

    /// Notes a reload that leaves the job as it is.
    pub(super) fn keep(&self) {
        if let Some(log) = &self.job.failures {
            log.reopen();
        }
    }

    /// Targets that are scraped, in a stable order.
    pub(super) fn active(&self) -> Vec<&Handle> {
        let mut active: Vec<_> = self.targets.values().filter(|handle| !handle.is_leaving).collect();
        active.sort_by(|a, b| (&a.target.labels, a.target.identity).cmp(&(&b.target.labels, b.target.identity)));
        active
    }

    /// Remembered dropped targets and how many there are.
    pub(super) fn dropped(&self) -> (&[Labels], u64) {
        (&self.dropped, self.n_dropped)
    }

    /// Makes the targets those of `groups`: new ones start, missing ones leave, the others go on.
    pub(super) fn sync<'a>(&mut self, groups: impl Iterator<Item = &'a TargetGroup>) {
        let start_ns = self.shared.clock.monotonic_ns();
        let wanted = self.make(groups);
        let refusal = self.refusal(wanted.len());
        for (identity, handle) in &mut self.targets {
            if !handle.is_leaving && !wanted.contains_key(identity) {
                handle.is_leaving = true;
                handle.orders.send_modify(|order| order.command = Command::Remove);
            }
        }
        // A loop that has left is over, and so is one that ended just as its target came back.
        self.targets.retain(|_, handle| !handle.task.is_finished());
        for (identity, target) in wanted {
            let order = Order {
                job: self.job.clone(),
                target: target.clone(),
                refusal: refusal.clone(),
                command: Command::Scrape,
                asked: 0,
            };
            match self.targets.get_mut(&identity) {
                Some(handle) => handle.follow(order),
                None => drop(self.targets.insert(identity, Handle::start(&self.shared, order))),
            }
        }
        let took = self.shared.clock.monotonic_ns().saturating_sub(start_ns);
        self.shared.metrics.observe_sync(&self.job.config.job_name, took as f64 / 1e9);
    }

    /// Asks the loop of a target for a scrape. False if there is none.
    pub(super) fn scrape_now(&self, identity: u64) -> bool {
        let Some(handle) = self.targets.get(&identity).filter(|handle| !handle.is_leaving) else { return false };
        handle.orders.send_modify(|order| order.asked += 1);
        true
    }

    /// Whether any loop still runs.
    pub(super) fn has_loops(&self) -> bool {
        self.targets.values().any(|handle| !handle.task.is_finished())
    }

    /// Whether a loop has ended, by leaving or, against all expectation, by failing.
    pub(super) fn needs_sync(&self) -> bool {
        self.targets.values().any(|handle| handle.task.is_finished())
    }

    /// Tells all loops to end at once and leave their series as they are.
    pub(super) fn stop(self) -> impl Iterator<Item = JoinHandle<()>> {
        self.targets.into_values().map(|handle| {
            handle.orders.send_modify(|order| order.command = Command::Stop);
            handle.task
        })
    }

    fn make<'a>(&mut self, groups: impl Iterator<Item = &'a TargetGroup>) -> HashMap<u64, Arc<Target>> {
        let config = &self.job.config;
        let kept_max =
            config.limits.keep_dropped_targets.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        self.dropped.clear();
        self.n_dropped = 0;
        let mut wanted = HashMap::new();
        for group in groups {
            for address in &group.targets {
                let labels = discovered(address, &group.labels, config);
                match Target::new(&labels, config) {
                    Ok(Some(target)) => drop(wanted.insert(target.identity, Arc::new(target))),
                    Ok(None) => {
                        self.n_dropped += 1;
                        if self.dropped.len() < kept_max {
                            self.dropped.push(labels);
                        }
                    }
                    Err(error) => {
                        self.shared.metrics.sync_failed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        tracing::error!(job = %config.job_name, target = %address, %error, "creating target failed");
                    }
                }
            }
        }
        wanted
    }

    fn refusal(&self, n_targets: usize) -> Option<Arc<str>> {
        let limit = self.job.config.limits.targets.filter(|limit| n_targets as u64 > *limit)?;
        self.shared.metrics.exceeded_target_limit.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Some(format!("target_limit exceeded (number of targets: {n_targets}, limit: {limit})").into())
    }
}

impl Handle {
    fn start(shared: &Arc<Shared>, order: Order) -> Self {
        let state = Arc::<TargetState>::default();
        let target = order.target.clone();
        let (orders, receiver) = watch::channel(order.clone());
        let scraping = ScrapeLoop::new(shared.clone(), state.clone(), order).run(receiver);
        let task = shared.spread.spawn(target.identity, scraping);
        Self { target, state, orders, task, is_leaving: false }
    }

    fn follow(&mut self, order: Order) {
        self.is_leaving = false;
        self.target = order.target.clone();
        self.orders.send_if_modified(|current| {
            let is_new = !Arc::ptr_eq(&current.job, &order.job)
                || current.target != order.target
                || current.refusal != order.refusal
                || current.command != order.command;
            if is_new {
                *current = Order { asked: current.asked, ..order };
            }
            is_new
        });
    }
}

fn job(shared: &Shared, config: ScrapeConfig, connector: Arc<dyn Connector>) -> Arc<Job> {
    let census = shared.census.job(&config.job_name);
    let failures = config.scrape_failure_log_file.clone().map(FailureLog::open);
    Arc::new(Job { client: job_client(&config, shared.zero_starts, connector), census, failures, config })
}
