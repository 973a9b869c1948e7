//! The threads that keep the database in shape: one seals, cuts blocks and applies retention, the other merges.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use promontory_storage::Db;

/// Time between two looks at what is due.
const INTERVAL: Duration = Duration::from_secs(2);
/// Time between two looks for blocks to merge.
const MERGE_INTERVAL: Duration = Duration::from_secs(10);

/// The running threads.
#[derive(Debug)]
pub(super) struct Maintenance {
    db: Db,
    threads: Vec<(Sender<()>, JoinHandle<()>)>,
}

impl Maintenance {
    pub(super) fn start(db: Db) -> std::io::Result<Self> {
        let mut started = Self { db, threads: Vec::new() };
        started.thread("promontory-tick", |db, stopped| {
            while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                tick(db);
            }
        })?;
        started.thread("promontory-merge", |db, stopped| {
            while stopped.recv_timeout(MERGE_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                while merge(db) {}
            }
        })?;
        Ok(started)
    }

    fn thread(&mut self, name: &str, run: fn(&Db, &Receiver<()>)) -> std::io::Result<()> {
        let (stop, stopped) = mpsc::channel();
        let db = self.db.clone();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || run(&db, &stopped))?;
        self.threads.push((stop, thread));
        Ok(())
    }

    /// Stops a merge under way, waits for other work, then ends.
    pub(super) fn stop(self) {
        self.db.stop_compactions();
        for (stop, thread) in self.threads {
            drop(stop);
            if thread.join().is_err() {
                tracing::error!("a maintenance thread had ended early");
            }
        }
    }
}

fn tick(db: &Db) {
    match db.tick() {
        Ok(done) => {
            for warning in &done.warnings {
                tracing::warn!("{warning}");
            }
            if done.blocks_cut + done.blocks_removed > 0 {
                tracing::info!(
                    blocks_cut = done.blocks_cut,
                    blocks_removed = done.blocks_removed,
                    series_removed = done.series_removed,
                    "blocks written"
                );
            }
        }
        Err(error) => tracing::error!(%error, "maintenance failed"),
    }
}

/// Does one merge; answers whether there may be another.
fn merge(db: &Db) -> bool {
    match db.compact() {
        Ok(None) => false,
        Ok(Some(done)) => {
            let output = done.meta.as_ref().map_or_else(String::new, |m| m.ulid.to_string());
            tracing::info!(inputs = done.inputs.len(), output, deleted = done.n_deleted, "blocks merged");
            true
        }
        Err(_) if db.is_stopping() => false,
        Err(error) => {
            tracing::warn!(%error, "merge blocks; tried again later");
            true
        }
    }
}
