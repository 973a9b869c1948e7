//! What a query may hold: samples and bytes, each with a named limit. Charges end when what they stand for is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::QueryError;
use crate::value::QueryStats;

/// Name of the limit in errors.
pub(crate) const MEMORY_LIMIT: &str = "query.memory-bytes-max";

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
    counts: Arc<Counts>,
}

impl Budget {
    /// Nothing held yet.
    pub(crate) fn new(samples_max: u64, bytes_max: u64) -> Self {
        Self { samples_max, bytes_max, counts: Arc::default() }
    }

    /// Holds so many samples and bytes until the charge is dropped.
    ///
    /// # Errors
    /// When a limit would be exceeded; nothing is held then.
    pub(crate) fn charge(&self, samples: u64, bytes: u64) -> Result<Charge, QueryError> {
        let charge = Charge { budget: self.clone(), samples, bytes };
        let held = self.counts.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let held_samples = self.counts.samples.fetch_add(samples, Ordering::Relaxed) + samples;
        if held > self.bytes_max {
            return Err(QueryError::Memory { limit: MEMORY_LIMIT, needed: held, allowed: self.bytes_max });
        }
        if held_samples > self.samples_max {
            return Err(QueryError::TooManySamples { allowed: self.samples_max });
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
        self.budget.counts.samples.fetch_sub(self.samples, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_and_are_named() {
        let budget = Budget::new(10, 1000);
        let a = budget.charge(6, 600).unwrap();
        assert!(matches!(budget.charge(5, 1), Err(QueryError::TooManySamples { allowed: 10 })));
        let error = budget.charge(1, 500).unwrap_err().to_string();
        assert_eq!(error, "query.memory-bytes-max exceeded: 1100 bytes needed, 1000 allowed");
        drop(a);
        let _b = budget.charge(10, 1000).unwrap();
        assert_eq!((budget.stats().samples_peak, budget.stats().bytes_peak), (10, 1000));
    }
}
