//! The threads that keep the database in shape: one seals, cuts blocks and applies retention, the other merges.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use promontory_model::MetricMetadata;
use promontory_storage::Db;

/// Type, unit and help by name of the metric family.
type Families = BTreeMap<String, Vec<MetricMetadata>>;

/// Time between two looks at what is due.
const INTERVAL: Duration = Duration::from_secs(2);
/// Time between two looks for blocks to merge.
const MERGE_INTERVAL: Duration = Duration::from_secs(10);
/// Looks at what is due between two times at which the database is told what targets say of their metrics: the first
/// minute is enough for most targets to be scraped once.
const TICKS_BETWEEN_METADATA: u64 = 150;
const TICKS_TO_FIRST_METADATA: u64 = 30;

/// The running threads.
#[derive(Debug)]
pub(super) struct Maintenance {
    db: Db,
    threads: Vec<(Sender<()>, JoinHandle<()>)>,
}

impl Maintenance {
    /// `told` gives what targets say of their metrics now; `each_tick` is called every few seconds.
    pub(super) fn start(
        db: Db,
        told: impl Fn() -> Families + Send + 'static,
        each_tick: impl Fn() + Send + 'static,
    ) -> std::io::Result<Self> {
        let mut started = Self { db, threads: Vec::new() };
        started.thread("promontory-tick", move |db, stopped| {
            for n in 0u64.. {
                if stopped.recv_timeout(INTERVAL) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
                tick(db);
                each_tick();
                if n % TICKS_BETWEEN_METADATA == TICKS_TO_FIRST_METADATA {
                    remember(db, &told());
                }
            }
        })?;
        started.thread("promontory-merge", |db, stopped| {
            while stopped.recv_timeout(MERGE_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                while merge(db) {}
            }
        })?;
        Ok(started)
    }

    fn thread(&mut self, name: &str, run: impl FnOnce(&Db, &Receiver<()>) + Send + 'static) -> std::io::Result<()> {
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

/// Keeps what targets say of their metrics for the time when they are gone.
pub(super) fn remember(db: &Db, told: &Families) {
    match db.set_metadata(told) {
        Ok(0) => {}
        Ok(left_out) => {
            tracing::warn!(left_out, "types and help texts of some metrics are not kept: there are too many")
        }
        Err(error) => tracing::warn!(%error, "types and help texts of metrics are not kept"),
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
