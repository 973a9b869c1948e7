//! Buffers that scrapes borrow: as many as scrapes run at once, not as many as there are targets.

use std::sync::{Mutex, PoisonError};

use promontory_storage::SeriesRef;

use super::exposition::Assembled;
use super::line_cache::{Batch, Started};

/// Sets of buffers that are kept while no scrape needs them.
const KEPT_MAX: usize = 16;
/// Bytes of a body that is kept, and of what it was made into.
const KEPT_BODY_BYTES_MAX: usize = 4 << 20;

/// What a scrape writes into.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) body: Vec<u8>,
    /// Where the page begins in `body`, behind the head that came with it.
    pub(super) body_start: usize,
    /// What the body was made into, where it cannot be read as it is.
    pub(super) assembled: Assembled,
    /// Whether `batch` refers to `assembled` rather than to `body`.
    pub(super) is_assembled: bool,
    pub(super) batch: Batch<SeriesRef>,
    /// Series that began to count, or began anew.
    pub(super) started: Vec<Started<SeriesRef>>,
}

/// The buffers of all scrapes. The lock protects the list alone.
#[derive(Debug, Default)]
pub(super) struct ScratchPool(Mutex<Vec<Scratch>>);

impl ScratchPool {
    pub(super) fn take(&self) -> Scratch {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    pub(super) fn give_back(&self, scratch: Scratch) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = scratch.body.capacity().max(scratch.assembled.kept_bytes());
        if kept.len() < KEPT_MAX && bytes <= KEPT_BODY_BYTES_MAX {
            kept.push(scratch);
        }
    }
}
