//! Merging blocks of a running database, and rewriting those with deleted samples.
//!
//! Runs on a thread of its own, holds no lock while it reads and writes, and takes its time: see
//! [`crate::DbOptions::compaction_rate`]. The output takes the place of its inputs in one step.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use promontory_model::Cancel;

use super::{Block, open};
use crate::block::{BlockError, BlockReader};
use crate::clock::Clock;
use crate::compact::{self, CompactError, Compacted, Job, Plan, PlanOptions, Why, work_bytes};
use crate::db::{Db, Inner};
use crate::head::lock;
use crate::recovery::BLOCKS_DIR;
use crate::ulid::Ulid;

/// Time after which a failed merge or cut is tried again; doubles with each failure.
const RETRY_FIRST_NS: u64 = 60 * 1_000_000_000;
/// Longest time between two tries.
const RETRY_MAX_NS: u64 = 6 * 3600 * 1_000_000_000;
/// A block is written anew by itself when one in this many series has deleted samples, as Prometheus does.
const DELETED_PART: u64 = 20;
/// Longest wait for the rate before the end is looked for.
const WAIT_MAX: Duration = Duration::from_millis(50);

/// What merges have done since the start, and how far the running one is.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    is_running: AtomicBool,
    /// Bytes that the running merge works through, and that it has.
    total_bytes: AtomicU64,
    done_bytes: AtomicU64,
    last_duration_ns: AtomicU64,
    merges: AtomicU64,
    overlapping: AtomicU64,
    failures: AtomicU64,
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
    duration_ns: AtomicU64,
}

/// Merges since the start, and the running one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MergeStatus {
    /// Whether blocks are being merged.
    pub is_running: bool,
    /// Bytes that the running merge works through; 0 when none runs.
    pub total_bytes: u64,
    /// Those that it has worked through.
    pub done_bytes: u64,
    /// Time that the last one took, ns.
    pub last_duration_ns: u64,
    /// Time that all took, ns.
    pub duration_ns: u64,
    /// Merges done.
    pub merges: u64,
    /// Those of them that merged blocks because they share times.
    pub overlapping: u64,
    /// Merges that failed.
    pub failures: u64,
    /// Bytes of all inputs.
    pub read_bytes: u64,
    /// Bytes of all outputs.
    pub written_bytes: u64,
}

impl Progress {
    pub(crate) fn status(&self) -> MergeStatus {
        let get = |a: &AtomicU64| a.load(Ordering::Relaxed);
        MergeStatus {
            is_running: self.is_running.load(Ordering::Relaxed),
            total_bytes: get(&self.total_bytes),
            done_bytes: get(&self.done_bytes),
            last_duration_ns: get(&self.last_duration_ns),
            duration_ns: get(&self.duration_ns),
            merges: get(&self.merges),
            overlapping: get(&self.overlapping),
            failures: get(&self.failures),
            read_bytes: get(&self.read_bytes),
            written_bytes: get(&self.written_bytes),
        }
    }
}

/// Blocks that could not be merged, and when they are tried again.
#[derive(Debug)]
struct Failed {
    inputs: Vec<Ulid>,
    n: u32,
    retry_ns: u64,
}

/// State of the one merge that may run.
#[derive(Debug, Default)]
pub(crate) struct Merging {
    failed: Vec<Failed>,
}

/// Slows work down to a number of bytes per second.
struct Pace<'a> {
    clock: &'a dyn Clock,
    cancel: &'a Cancel,
    rate: Option<u64>,
    began_ns: u64,
    done: &'a AtomicU64,
}

impl Pace<'_> {
    fn advance(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let Some(rate) = self.rate.filter(|rate| *rate > 0) else { return };
        let due_ns = u128::from(done) * 1_000_000_000 / u128::from(rate);
        loop {
            let elapsed_ns = u128::from(self.clock.monotonic_ns().saturating_sub(self.began_ns));
            if elapsed_ns >= due_ns || self.cancel.check().is_err() {
                return;
            }
            let left = Duration::from_nanos(u64::try_from(due_ns - elapsed_ns).unwrap_or(u64::MAX));
            self.clock.wait(left.min(WAIT_MAX));
        }
    }
}

impl Db {
    /// Does one merge of blocks, if one is due. Blocks for as long as it takes; call it on a thread that does nothing
    /// else. A merge that fails is tried again later, and others go before it.
    ///
    /// # Errors
    /// [`CompactError`] when the merge failed or was stopped; its inputs are as before.
    pub fn compact(&self) -> Result<Option<Compacted>, CompactError> {
        self.0.compact()
    }

    /// Writes every block with deleted samples anew, without them, so that their space comes back; answers how many
    /// blocks that were. Blocks until it is done. Those of another format are left as they are.
    ///
    /// # Errors
    /// [`CompactError`] when a block could not be written anew; those before it are done.
    pub fn clean_tombstones(&self) -> Result<usize, CompactError> {
        self.0.clean_tombstones()
    }

    /// Stops merges that run and all later ones. [`Db::close`] does this as well.
    pub fn stop_compactions(&self) {
        self.0.cancel.cancel(promontory_model::Cancelled::Shutdown);
    }

    /// Whether merges have been stopped for good.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.0.cancel.check().is_err()
    }
}

impl Inner {
    fn compact(&self) -> Result<Option<Compacted>, CompactError> {
        let mut merging = lock(&self.merging);
        let now = self.head.clock.monotonic_ns();
        let is_waiting = |ulid: &Ulid| merging.failed.iter().any(|f| f.retry_ns > now && f.inputs.contains(ulid));
        let candidates: Vec<Arc<BlockReader>> =
            self.native_blocks().into_iter().filter(|b| !is_waiting(&b.meta().ulid)).collect();
        let options =
            PlanOptions { block_ms: self.head.options.block_ms.max(1), retention_ms: self.settings().retention_ms };
        let metas: Vec<_> = candidates.iter().map(|b| b.meta().clone()).collect();
        let Some(plan) = compact::plan(&metas, &options).or_else(|| mostly_deleted(&candidates)) else {
            return Ok(None);
        };
        let find = |ulid: &Ulid| candidates.iter().find(|b| b.meta().ulid == *ulid).cloned();
        let Some(inputs) = plan.inputs.iter().map(find).collect::<Option<Vec<_>>>() else { return Ok(None) };
        let done = self.merge(&inputs);
        match &done {
            Ok(_) => {
                self.progress.overlapping.fetch_add(u64::from(plan.why == Why::Overlap), Ordering::Relaxed);
                merging.failed.retain(|f| f.inputs != plan.inputs);
            }
            Err(_) if self.cancel.check().is_err() => {}
            Err(_) => merging.failed(plan.inputs, self.head.clock.monotonic_ns()),
        }
        done.map(Some)
    }

    fn clean_tombstones(&self) -> Result<usize, CompactError> {
        let _merging = lock(&self.merging);
        let began_ns = self.head.clock.monotonic_ns();
        let mut cleaned = 0;
        for block in self.native_blocks().into_iter().filter(|b| !b.tombstones().is_empty()) {
            self.merge(std::slice::from_ref(&block))?;
            cleaned += 1;
        }
        self.counters.cleanings.count(&*self.head.clock, began_ns);
        Ok(cleaned)
    }

    pub(crate) fn native_blocks(&self) -> Vec<Arc<BlockReader>> {
        self.blocks().iter().cloned().filter_map(Block::native).collect()
    }

    /// Merges `inputs` and puts the output in their place.
    fn merge(&self, inputs: &[Arc<BlockReader>]) -> Result<Compacted, CompactError> {
        let progress = &self.progress;
        let began_ns = self.head.clock.monotonic_ns();
        progress.done_bytes.store(0, Ordering::Relaxed);
        progress.total_bytes.store(work_bytes(inputs), Ordering::Relaxed);
        progress.is_running.store(true, Ordering::Relaxed);
        let done = self.merge_and_swap(inputs, began_ns);
        progress.is_running.store(false, Ordering::Relaxed);
        progress.total_bytes.store(0, Ordering::Relaxed);
        progress.done_bytes.store(0, Ordering::Relaxed);
        let took_ns = self.head.clock.monotonic_ns().saturating_sub(began_ns);
        progress.last_duration_ns.store(took_ns, Ordering::Relaxed);
        progress.duration_ns.fetch_add(took_ns, Ordering::Relaxed);
        match &done {
            Ok(merged) => {
                progress.merges.fetch_add(1, Ordering::Relaxed);
                let read = inputs.iter().map(|b| b.meta().bytes()).sum();
                progress.read_bytes.fetch_add(read, Ordering::Relaxed);
                progress.written_bytes.fetch_add(merged.meta.as_ref().map_or(0, |m| m.bytes()), Ordering::Relaxed);
            }
            Err(_) if self.cancel.check().is_err() => {}
            Err(_) => {
                progress.failures.fetch_add(1, Ordering::Relaxed);
            }
        }
        done
    }

    fn merge_and_swap(&self, inputs: &[Arc<BlockReader>], began_ns: u64) -> Result<Compacted, CompactError> {
        let dir = self.dir.join(BLOCKS_DIR);
        let ulid = self.new_ulid();
        // The tombstones are those of now: what is deleted from here on is held against the output before it gets its
        // name.
        let inputs = {
            let mut deletions = lock(&self.deletions);
            deletions.begin();
            self.present(inputs)
        };
        let pace = Pace {
            clock: &*self.head.clock,
            cancel: &self.cancel,
            rate: self.settings().compaction_rate,
            began_ns,
            done: &self.progress.done_bytes,
        };
        let mut held = None;
        let mut before_publish = |path: &std::path::Path| {
            let deletions = lock(&self.deletions);
            if self.present(&inputs).len() < inputs.len() {
                return Err(CompactError::InputsGone);
            }
            if !deletions.since().is_empty() {
                let mut block = BlockReader::open(&*self.vfs, path)?;
                for (selectors, range) in deletions.since() {
                    let without = block.delete_samples(&*self.vfs, selectors, *range, &self.cancel)?;
                    block = without.unwrap_or(block);
                }
            }
            held = Some(deletions);
            Ok(())
        };
        let job =
            Job { cancel: &self.cancel, progress: &|bytes| pace.advance(bytes), before_publish: &mut before_publish };
        let merged = compact::compact_watched(&self.vfs, &dir, &inputs, ulid, job);
        let swapped = merged.and_then(|merged| {
            let output = match &merged.meta {
                Some(meta) => Some(open(&*self.vfs, &dir.join(meta.ulid.to_string()))?),
                None => None,
            };
            self.change_blocks(|blocks| {
                blocks.retain(|b| !merged.inputs.contains(&b.meta().ulid));
                blocks.extend(output);
            });
            Ok(merged)
        });
        held.unwrap_or_else(|| lock(&self.deletions)).end();
        let merged = swapped?;
        // Queries have the output; what cannot be removed now is when the database is opened.
        for input in &inputs {
            if let Err(e) = input.delete(&*self.vfs) {
                tracing::warn!(block = %input.meta().ulid, error = %e, "merged block is not removed");
            }
        }
        Ok(merged)
    }

    /// The blocks as they are in the list now; those that are gone are left out.
    fn present(&self, wanted: &[Arc<BlockReader>]) -> Vec<Arc<BlockReader>> {
        let all = self.native_blocks();
        let find = |b: &Arc<BlockReader>| all.iter().find(|x| x.meta().ulid == b.meta().ulid).cloned();
        wanted.iter().filter_map(find).collect()
    }
}

/// A block of which so many series have deleted samples that writing it anew is worth it.
fn mostly_deleted(blocks: &[Arc<BlockReader>]) -> Option<Plan> {
    let is_worth_it = |b: &&Arc<BlockReader>| {
        let deleted = b.tombstones().n_members(0);
        deleted > 0 && deleted.saturating_mul(DELETED_PART) >= b.meta().n_series
    };
    let found = blocks.iter().find(is_worth_it)?;
    Some(Plan { inputs: vec![found.meta().ulid], why: Why::Deleted })
}

/// How long to wait after the `n`th failure.
pub(crate) fn retry_after_ns(n: u32) -> u64 {
    RETRY_FIRST_NS.saturating_mul(1 << n.min(16).saturating_sub(1)).min(RETRY_MAX_NS)
}

impl Merging {
    /// Tries again at once what failed before.
    pub(crate) fn retry(&mut self) {
        self.failed.clear();
    }

    fn failed(&mut self, inputs: Vec<Ulid>, now_ns: u64) {
        let before = self.failed.iter().position(|f| f.inputs == inputs).map(|i| self.failed.swap_remove(i));
        let n = before.map_or(0, |f| f.n) + 1;
        self.failed.push(Failed { inputs, n, retry_ns: now_ns.saturating_add(retry_after_ns(n)) });
    }
}

impl From<crate::vfs::VfsError> for CompactError {
    fn from(e: crate::vfs::VfsError) -> Self {
        Self::Block(BlockError::Vfs(e))
    }
}
