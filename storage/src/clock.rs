//! The present: all time of the server is asked of a [`Clock`], so that tests and simulations can move it.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};

use promontory_model::Timestamp;

/// Tells the time.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Wall-clock time in ms since the epoch. May jump.
    fn now(&self) -> Timestamp;

    /// Nanoseconds since an arbitrary point in the past; never goes back.
    fn monotonic_ns(&self) -> u64;

    /// Lets the time pass: the thread does nothing meanwhile.
    fn wait(&self, time: std::time::Duration) {
        std::thread::sleep(time);
    }
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    origin: std::time::Instant,
}

impl SystemClock {
    /// The machine's clock; its monotonic time starts now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the machine for the time")]
    pub fn new() -> Self {
        Self { origin: std::time::Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the machine for the time")]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Timestamp(since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX)))
    }

    fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that shows `now`.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self(AtomicI64::new(now.0))
    }

    /// Moves the clock by `ms`; negative goes back.
    pub fn advance(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }

    /// Sets the clock.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }

    fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.now().0.max(0)).unwrap_or(0) * 1_000_000
    }

    /// Moves the clock; at least by a millisecond, which is its step.
    fn wait(&self, time: std::time::Duration) {
        self.advance(i64::try_from(time.as_millis()).unwrap_or(i64::MAX).max(1));
    }
}
