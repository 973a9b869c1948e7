//! A mechanism that asks somebody for targets: a task that publishes what it finds, and whoever takes it.
//!
//! Jobs that configure a mechanism alike share one task, also across reloads. What it finds replaces what it found
//! before as a whole; an answer that fails, comes too late or is not understood changes nothing but the error that is
//! shown. Takers see the newest state only, however often it changed since they looked.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use promontory_config::{Discovery, TargetGroup};
use tokio::task::AbortHandle;

use super::error::SdError;
use super::figures::{SdFamily, SdMetrics};
use super::kubernetes::Watches;
use crate::client::Connector;
use crate::credentials::Reach;
use promontory_storage::clock::Clock;

/// Targets of one entry of a configuration.
pub(super) const TARGETS_MAX: usize = 500_000;
/// Time that one look may take where the refresh interval is shorter.
const LOOK_TIME_MIN: Duration = Duration::from_secs(10);

/// What mechanisms need of their surroundings.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Makes connections.
    pub connector: Arc<dyn Connector>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Counts.
    pub metrics: Arc<SdMetrics>,
    /// Watches that several entries share.
    pub(super) watches: Arc<Watches>,
    /// How providers of machines are reached: `https`, but in tests.
    pub(super) cloud_scheme: &'static str,
}

impl Surroundings {
    /// Connections by `connector`, time by `clock`.
    #[must_use]
    pub fn new(connector: Arc<dyn Connector>, clock: Arc<dyn Clock>) -> Self {
        Self { connector, clock, metrics: Arc::default(), watches: Arc::default(), cloud_scheme: "https" }
    }

    /// How services that give keys and tokens are reached.
    pub(super) fn reach(&self) -> Reach {
        Reach { connector: self.connector.clone(), clock: self.clock.clone(), scheme: self.cloud_scheme }
    }
}

/// The running mechanisms of all jobs.
#[derive(Debug)]
pub struct Providers {
    surroundings: Surroundings,
    /// Protects the list only; those that no job uses any more are gone.
    running: Mutex<Vec<Weak<Provider>>>,
}

impl Providers {
    /// None yet.
    #[must_use]
    pub fn new(surroundings: Surroundings) -> Self {
        Self { surroundings, running: Mutex::default() }
    }

    /// What has been counted, and how many mechanisms have never found out what their targets are.
    #[must_use]
    pub fn families(&self) -> Vec<SdFamily> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = running.iter().filter_map(Weak::upgrade).filter(|known| known.has_only_failed()).count();
        self.surroundings.metrics.families(failed)
    }

    /// The mechanism of `config`, started for `job` unless it runs for another. Must be called inside a tokio runtime.
    pub(super) fn get(&self, config: &Discovery, job: &str) -> Arc<Provider> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|known| known.strong_count() > 0);
        if let Some(known) = running.iter().filter_map(Weak::upgrade).find(|known| known.config == *config) {
            return known;
        }
        let state = Arc::<Mutex<State>>::default();
        let out = Publisher {
            mechanism: config.mechanism(),
            job: job.into(),
            state: state.clone(),
            surroundings: self.surroundings.clone(),
        };
        let task = super::start::start(config, out);
        let provider = Arc::new(Provider { config: config.clone(), state, task });
        running.push(Arc::downgrade(&provider));
        provider
    }
}

/// A running mechanism; it ends with its last user.
pub(super) struct Provider {
    config: Discovery,
    state: Arc<Mutex<State>>,
    task: AbortHandle,
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Provider({})", self.config.mechanism())
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Debug, Default)]
struct State {
    groups: Arc<Vec<TargetGroup>>,
    /// Grows with each change of the groups.
    version: u64,
    /// The version that was taken last.
    taken: u64,
    error: Option<String>,
    /// Whether a look has ever succeeded.
    has_looked: bool,
}

impl Provider {
    fn has_only_failed(&self) -> bool {
        let state = lock(&self.state);
        state.error.is_some() && !state.has_looked
    }

    /// Whether a look has ended, well or not.
    pub(super) fn has_answered(&self) -> bool {
        let state = lock(&self.state);
        state.has_looked || state.error.is_some()
    }

    /// The groups as they are, with their version, if it is not `known`.
    pub(super) fn newer(&self, known: u64) -> Option<(u64, Arc<Vec<TargetGroup>>)> {
        let mut state = lock(&self.state);
        state.taken = state.version;
        (state.version != known).then(|| (state.version, state.groups.clone()))
    }

    /// Why the last look failed, if it did.
    pub(super) fn error(&self) -> Option<String> {
        lock(&self.state).error.clone()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a mechanism puts what it finds.
#[derive(Debug, Clone)]
pub(super) struct Publisher {
    mechanism: &'static str,
    job: Arc<str>,
    state: Arc<Mutex<State>>,
    pub(super) surroundings: Surroundings,
}

impl Publisher {
    /// What is found now.
    pub(super) fn publish(&self, groups: Vec<TargetGroup>) {
        if self.put(groups) && lock(&self.state).error.take().is_some() {
            tracing::info!(mechanism = self.mechanism, job = %self.job, "discovery works again");
        }
    }

    /// What is found now, although a part of the looking failed.
    pub(super) fn publish_despite(&self, groups: Vec<TargetGroup>, error: &SdError) {
        if self.put(groups) {
            self.fail(error);
        }
    }

    /// Makes `groups` those that takers see, unless they are too many.
    fn put(&self, groups: Vec<TargetGroup>) -> bool {
        let n_targets: usize = groups.iter().map(|group| group.targets.len()).sum();
        if n_targets > TARGETS_MAX {
            self.fail(&SdError::TooMany { n_targets });
            return false;
        }
        let metrics = &self.surroundings.metrics;
        metrics.update(self.mechanism, &self.job, |f| {
            f.updates += 1;
            f.last_update = self.surroundings.clock.now();
        });
        let mut state = lock(&self.state);
        state.has_looked = true;
        if *state.groups != groups {
            let is_delayed = state.version != state.taken;
            state.groups = Arc::new(groups);
            state.version += 1;
            drop(state);
            if is_delayed {
                metrics.update(self.mechanism, &self.job, |f| f.delayed += 1);
            }
        }
        true
    }

    /// Looking failed; what was found before stays.
    pub(super) fn fail(&self, error: &SdError) {
        self.surroundings.metrics.update(self.mechanism, &self.job, |f| f.failures += 1);
        let text = error.to_string();
        let mut state = lock(&self.state);
        // The same error again is no news.
        if state.error.as_ref() != Some(&text) {
            tracing::warn!(mechanism = self.mechanism, job = %self.job, error = %text, "discovery failed, targets stay as they were");
        }
        state.error = Some(text);
    }

    /// Notes how long a look took.
    fn observe(&self, since_ns: u64) {
        let took = self.surroundings.clock.monotonic_ns().saturating_sub(since_ns);
        self.surroundings.metrics.update(self.mechanism, &self.job, |f| f.observe(took as f64 / 1e9));
    }
}

/// A mechanism that is asked at intervals.
pub(super) trait Refresh: Send + 'static {
    /// All groups there are now.
    fn refresh(&mut self) -> impl Future<Output = Result<Vec<TargetGroup>, SdError>> + Send;
}

/// Asks `mechanism` now and then every `interval`, for ever.
pub(super) async fn poll(mut mechanism: impl Refresh, interval: Duration, out: Publisher) {
    let allowed = interval.max(LOOK_TIME_MIN);
    loop {
        let since = out.surroundings.clock.monotonic_ns();
        let found = tokio::time::timeout(allowed, mechanism.refresh()).await;
        out.observe(since);
        match found.unwrap_or(Err(SdError::Slow { allowed })) {
            Ok(groups) => out.publish(groups),
            Err(error) => out.fail(&error),
        }
        tokio::time::sleep(interval).await;
    }
}
