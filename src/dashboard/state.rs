//! What the pages share: the dashboards, the data source, the clock, and how much may run at once.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use promontory_model::{Cancel, Cancelled};
use promontory_storage::clock::Clock;
use tokio::sync::Semaphore;

use super::provider::Provider;
use super::source::SharedSource;

/// Settings of the dashboards.
#[derive(Debug, Clone)]
pub struct DashboardOptions {
    /// Folders with dashboard files; may be empty.
    pub folders: Vec<PathBuf>,
    /// The usual interval between samples, ms; the smallest step of a panel.
    pub scrape_interval_ms: i64,
    /// Time that all queries of one request may take together, ms.
    pub timeout_ms: u64,
    /// Panels that are computed at the same time, over all requests.
    pub concurrency: usize,
}

/// The dashboards of a server. Clones share everything.
#[derive(Clone)]
pub struct Dashboards(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) provider: Provider,
    pub(crate) source: SharedSource,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) options: DashboardOptions,
    places: Arc<Semaphore>,
}

impl Dashboards {
    /// Reads the folders.
    #[must_use]
    pub fn new(source: SharedSource, clock: Arc<dyn Clock>, options: DashboardOptions) -> Self {
        let places = Arc::new(Semaphore::new(options.concurrency.max(1)));
        let provider = Provider::new(options.folders.clone());
        Self(Arc::new(Inner { provider, source, clock, options, places }))
    }

    /// File and error of every file that is no dashboard, for the log at start.
    #[must_use]
    pub fn broken_files(&self) -> Vec<(String, String)> {
        let catalog = self.0.provider.catalog(self.0.now_ms());
        catalog.broken.iter().map(|b| (b.file.clone(), b.error.clone())).collect()
    }

    /// Number of dashboards.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.provider.catalog(self.0.now_ms()).entries.len()
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
            let (cancel, limit) = (cancel.clone(), Duration::from_millis(self.options.timeout_ms));
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
