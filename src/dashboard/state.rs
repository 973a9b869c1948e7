//! What the pages share: the dashboards, the data source, the clock, and how much may run at once.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use promontory_model::{Cancel, Cancelled};
use promontory_storage::clock::Clock;
use tokio::sync::Semaphore;

use super::parts::Pages;
use super::provider::{Catalog, Provider};
use super::source::SharedSource;
use super::store::Store;

/// Settings of the dashboards.
#[derive(Debug, Clone)]
pub struct DashboardOptions {
    /// Folders with dashboard files; may be empty. Changes go to the first.
    pub folders: Vec<PathBuf>,
    /// Whether readers may not change dashboards.
    pub read_only: bool,
    /// The usual interval between samples, ms; the smallest step of a panel.
    pub scrape_interval_ms: i64,
    /// Time that all queries of one request may take together, ms.
    pub timeout_ms: u64,
    /// Panels that are computed at the same time, over all requests.
    pub concurrency: usize,
}

/// The settings in force, with the dashboards they lead to. Requests that run keep those they began with.
#[derive(Debug)]
pub struct DashboardSettings {
    options: ArcSwap<DashboardOptions>,
    provider: ArcSwap<Provider>,
    store: ArcSwap<Store>,
}

impl DashboardSettings {
    /// Reads the folders.
    #[must_use]
    pub fn new(options: DashboardOptions) -> Self {
        let provider = ArcSwap::from_pointee(Provider::new(options.folders.clone()));
        let store = ArcSwap::from_pointee(Store::new(&options.folders, options.read_only));
        Self { options: ArcSwap::from_pointee(options), provider, store }
    }

    /// Takes other settings; reads the folders when they are others. Of `concurrency` the first value stays.
    pub fn set(&self, options: DashboardOptions) {
        let before = self.options.load();
        if before.folders != options.folders {
            self.provider.store(Arc::new(Provider::new(options.folders.clone())));
        }
        if before.folders != options.folders || before.read_only != options.read_only {
            self.store.store(Arc::new(Store::new(&options.folders, options.read_only)));
        }
        self.options.store(Arc::new(options));
    }

    /// File and error of every file that is no dashboard, as of `now_ms`, for the log.
    #[must_use]
    pub fn broken_files(&self, now_ms: i64) -> Vec<(String, String)> {
        self.catalog(now_ms).broken.iter().map(|b| (b.file.clone(), b.error.clone())).collect()
    }

    /// The dashboards as of now. Blocks on the file system every few seconds.
    pub(crate) fn catalog(&self, now_ms: i64) -> Arc<Catalog> {
        self.provider.load_full().catalog(now_ms)
    }

    /// The dashboards as the folders hold them at this moment. Blocks on the file system.
    pub(crate) fn fresh_catalog(&self, now_ms: i64) -> Arc<Catalog> {
        self.provider.load_full().fresh_catalog(now_ms)
    }

    /// What changes dashboards.
    pub(crate) fn store(&self) -> Arc<Store> {
        self.store.load_full()
    }

    pub(crate) fn scrape_interval_ms(&self) -> i64 {
        self.options.load().scrape_interval_ms
    }
}

/// The dashboards of a server. Clones share everything.
#[derive(Clone)]
pub struct Dashboards(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) settings: Arc<DashboardSettings>,
    pub(crate) source: SharedSource,
    pub(crate) clock: Arc<dyn Clock>,
    /// What the parts of a page share.
    pub(crate) pages: Pages,
    places: Arc<Semaphore>,
}

impl Dashboards {
    /// Dashboards that ask `source`; whoever else holds `settings` may change them.
    #[must_use]
    pub fn new(source: SharedSource, clock: Arc<dyn Clock>, settings: Arc<DashboardSettings>) -> Self {
        let places = Arc::new(Semaphore::new(settings.options.load().concurrency.max(1)));
        Self(Arc::new(Inner { settings, source, clock, pages: Pages::default(), places }))
    }
}

/// Why blocking work gave no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WorkError {
    /// The work panicked or the server is going down.
    #[error("it could not be computed; the log says why")]
    Lost,
}

impl Inner {
    pub(crate) fn now_ms(&self) -> i64 {
        self.clock.now().ms()
    }

    /// Runs `work` on a worker thread as soon as there is a place.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, WorkError> {
        let place = self.places.clone().acquire_owned().await.map_err(|_| WorkError::Lost)?;
        let task = tokio::task::spawn_blocking(move || {
            let _place = place;
            work()
        });
        task.await.map_err(|e| {
            tracing::error!(error = %e, "dashboard work failed");
            WorkError::Lost
        })
    }

    /// A flag that is set when time is up, or when the guard goes (because the client did).
    pub(crate) fn deadline(&self) -> Deadline {
        let cancel = Cancel::new();
        let timer = tokio::spawn({
            let (cancel, limit) = (cancel.clone(), Duration::from_millis(self.settings.options.load().timeout_ms));
            async move {
                tokio::time::sleep(limit).await;
                cancel.cancel(Cancelled::Timeout);
            }
        });
        Deadline { cancel, timer }
    }
}

/// Cancels the work of a request when dropped.
pub(crate) struct Deadline {
    pub(crate) cancel: Cancel,
    timer: tokio::task::JoinHandle<()>,
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.timer.abort();
        self.cancel.cancel(Cancelled::ByUser);
    }
}
