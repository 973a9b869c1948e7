//! Cancellation of blocking work: one shared flag, checked per batch, with the reason why it was set.
//!
//! The flag never goes back: the first reason stands. It knows no clock; who owns the deadline sets it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Why work was stopped before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Cancelled {
    /// The client went away or asked to stop.
    #[error("canceled")]
    ByUser,
    /// The deadline passed.
    #[error("timed out")]
    Timeout,
    /// The process is shutting down.
    #[error("server is shutting down")]
    Shutdown,
}

/// A cancellation flag; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicU8>);

impl Cancel {
    /// A flag that nothing has set yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks all work that holds this flag to stop; the first reason wins.
    pub fn cancel(&self, reason: Cancelled) {
        let code = match reason {
            Cancelled::ByUser => 1,
            Cancelled::Timeout => 2,
            Cancelled::Shutdown => 3,
        };
        // Relaxed is enough: the flag publishes no other data.
        let _ = self.0.compare_exchange(0, code, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// `Ok` while work should go on. Cheap: one relaxed load.
    ///
    /// # Errors
    /// The reason of the first [`Cancel::cancel`].
    pub fn check(&self) -> Result<(), Cancelled> {
        match self.0.load(Ordering::Relaxed) {
            0 => Ok(()),
            1 => Err(Cancelled::ByUser),
            2 => Err(Cancelled::Timeout),
            _ => Err(Cancelled::Shutdown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_reason_wins() {
        let flag = Cancel::new();
        assert_eq!(flag.check(), Ok(()));
        flag.cancel(Cancelled::Timeout);
        flag.clone().cancel(Cancelled::ByUser);
        assert_eq!(flag.check(), Err(Cancelled::Timeout));
    }
}
