//! What a query may hold: samples and bytes, each with a named limit. Charges end when what they stand for is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::QueryError;
use crate::value::QueryStats;

/// Name of the limit of one query in errors.
pub(crate) const MEMORY_LIMIT: &str = "query.max-memory";
/// Name of the limit of all queries in errors.
pub(crate) const POOL_LIMIT: &str = "query.max-total-memory";

/// Memory that all queries of a server share.
#[derive(Debug)]
pub struct MemoryPool {
    bytes_max: u64,
    bytes: AtomicU64,
}

impl MemoryPool {
    /// A pool of so many bytes.
    #[must_use]
    pub fn new(bytes_max: u64) -> Self {
        Self { bytes_max, bytes: AtomicU64::new(0) }
    }

    /// Bytes that queries hold now.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Default for MemoryPool {
    fn default() -> Self {
        Self::new(u64::MAX)
    }
}

#[derive(Debug, Default)]
struct Counts {
    bytes: AtomicU64,
    bytes_peak: AtomicU64,
    samples: AtomicU64,
    samples_peak: AtomicU64,
    samples_read: AtomicU64,
    series_selected: AtomicU64,
}

/// The accounts of one query; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    samples_max: u64,
    bytes_max: u64,
    pool: Arc<MemoryPool>,
    counts: Arc<Counts>,
}

impl Budget {
    /// Nothing held yet.
    pub(crate) fn new(samples_max: u64, bytes_max: u64, pool: Arc<MemoryPool>) -> Self {
        Self { samples_max, bytes_max, pool, counts: Arc::default() }
    }

    /// Refuses so many samples and bytes more, although nothing of them is held yet: better now than after seconds of
    /// work.
    ///
    /// # Errors
    /// As [`Budget::charge`].
    pub(crate) fn foresee(&self, samples: u64, bytes: u64) -> Result<(), QueryError> {
        let needed = self.counts.bytes.load(Ordering::Relaxed).saturating_add(bytes);
        if needed > self.bytes_max {
            return Err(QueryError::Memory { limit: MEMORY_LIMIT, needed, allowed: self.bytes_max });
        }
        if self.counts.samples.load(Ordering::Relaxed).saturating_add(samples) > self.samples_max {
            return Err(QueryError::TooManySamples { allowed: self.samples_max });
        }
        let needed = self.pool.bytes().saturating_add(bytes);
        if needed > self.pool.bytes_max {
            return Err(QueryError::Memory { limit: POOL_LIMIT, needed, allowed: self.pool.bytes_max });
        }
        Ok(())
    }

    /// Holds so many samples and bytes until the charge is dropped.
    ///
    /// # Errors
    /// When a limit would be exceeded; nothing is held then.
    pub(crate) fn charge(&self, samples: u64, bytes: u64) -> Result<Charge, QueryError> {
        let charge = Charge { budget: self.clone(), samples, bytes };
        let held = self.counts.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let held_by_all = self.pool.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let held_samples = self.counts.samples.fetch_add(samples, Ordering::Relaxed) + samples;
        if held > self.bytes_max {
            return Err(QueryError::Memory { limit: MEMORY_LIMIT, needed: held, allowed: self.bytes_max });
        }
        if held_samples > self.samples_max {
            return Err(QueryError::TooManySamples { allowed: self.samples_max });
        }
        if held_by_all > self.pool.bytes_max {
            return Err(QueryError::Memory { limit: POOL_LIMIT, needed: held_by_all, allowed: self.pool.bytes_max });
        }
        self.counts.bytes_peak.fetch_max(held, Ordering::Relaxed);
        self.counts.samples_peak.fetch_max(held_samples, Ordering::Relaxed);
        Ok(charge)
    }

    /// Counts samples that were decoded.
    pub(crate) fn count_read(&self, samples: u64) {
        self.counts.samples_read.fetch_add(samples, Ordering::Relaxed);
    }

    /// Counts series that were selected.
    pub(crate) fn count_series(&self, n: u64) {
        self.counts.series_selected.fetch_add(n, Ordering::Relaxed);
    }

    /// What was counted.
    pub(crate) fn stats(&self) -> QueryStats {
        QueryStats {
            samples_read: self.counts.samples_read.load(Ordering::Relaxed),
            samples_peak: self.counts.samples_peak.load(Ordering::Relaxed),
            bytes_peak: self.counts.bytes_peak.load(Ordering::Relaxed),
            series_selected: self.counts.series_selected.load(Ordering::Relaxed),
        }
    }
}

/// Samples and bytes held, given back on drop.
#[derive(Debug)]
pub(crate) struct Charge {
    budget: Budget,
    samples: u64,
    bytes: u64,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.counts.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.budget.pool.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.budget.counts.samples.fetch_sub(self.samples, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_and_are_named() {
        let budget = Budget::new(10, 1000, Arc::default());
        let a = budget.charge(6, 600).unwrap();
        assert!(matches!(budget.charge(5, 1), Err(QueryError::TooManySamples { allowed: 10 })));
        let error = budget.charge(1, 500).unwrap_err().to_string();
        assert_eq!(error, "query.max-memory exceeded: 1100 bytes needed, 1000 allowed");
        drop(a);
        let _b = budget.charge(10, 1000).unwrap();
        assert_eq!((budget.stats().samples_peak, budget.stats().bytes_peak), (10, 1000));
    }
    #[test]
    fn queries_share_a_pool() {
        let pool = Arc::new(MemoryPool::new(1500));
        let (one, other) = (Budget::new(10, 1000, pool.clone()), Budget::new(10, 1000, pool.clone()));
        let held = one.charge(1, 800).unwrap();
        let error = other.charge(1, 900).unwrap_err().to_string();
        assert_eq!(error, "query.max-total-memory exceeded: 1700 bytes needed, 1500 allowed");
        assert!(other.foresee(1, 900).is_err() && other.foresee(1, 700).is_ok());
        drop(held);
        drop(other.charge(1, 900).unwrap());
        assert_eq!(pool.bytes(), 0);
    }
}
