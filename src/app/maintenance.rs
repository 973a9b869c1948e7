//! The thread that keeps the database in shape: seals, cuts blocks, merges, applies retention.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use promontory_storage::Db;

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(2);

/// The running thread.
#[derive(Debug)]
pub(super) struct MaintenanceThread {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl MaintenanceThread {
    pub(super) fn start(db: Db) -> std::io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::Builder::new().name("promontory-tick".to_owned()).spawn(move || {
            while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                tick(&db);
            }
        })?;
        Ok(Self { stop, thread })
    }

    /// Waits for the work under way, then ends.
    pub(super) fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the maintenance thread had ended early");
        }
    }
}

fn tick(db: &Db) {
    match db.tick() {
        Ok(done) => {
            for warning in &done.warnings {
                tracing::warn!("{warning}");
            }
            if done.blocks_cut + done.compactions + done.blocks_removed > 0 {
                let (blocks_cut, compactions) = (done.blocks_cut, done.compactions);
                tracing::info!(
                    blocks_cut,
                    compactions,
                    blocks_removed = done.blocks_removed,
                    series_removed = done.series_removed,
                    "blocks written"
                );
            }
        }
        Err(error) => tracing::error!(%error, "maintenance failed"),
    }
}
