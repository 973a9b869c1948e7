//! Whether the store may be written: a failed write or sync latches it read-only, with the reason.
//!
//! A full disk is forgiven once writing works again. After any other failure nobody knows what the disk holds, so
//! only opening the database anew, which reads what is there, ends the state.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::head::lock;
use crate::vfs::VfsError;

/// The latch.
#[derive(Debug, Default)]
pub(crate) struct Health {
    is_read_only: AtomicBool,
    failure: Mutex<Option<Failure>>,
}

#[derive(Debug, Clone)]
struct Failure {
    reason: String,
    can_resume: bool,
}

impl Health {
    /// The reason why nothing may be written, if so.
    pub(crate) fn reason(&self) -> Option<String> {
        if !self.is_read_only.load(Ordering::Acquire) {
            return None;
        }
        lock(&self.failure).as_ref().map(|f| f.reason.clone())
    }

    /// Latches after a failed write. The first reason stands, unless a worse failure follows a full disk.
    pub(crate) fn failed(&self, e: &VfsError) {
        let reason = if e.is_no_space() { format!("{e}; free some space to resume") } else { e.to_string() };
        self.latch(Failure { reason, can_resume: e.is_no_space() });
    }

    /// Latches for good because the database was closed.
    pub(crate) fn close(&self) {
        self.latch(Failure { reason: "database is closed".to_owned(), can_resume: false });
    }

    fn latch(&self, failure: Failure) {
        let mut current = lock(&self.failure);
        if current.as_ref().is_none_or(|c| c.can_resume && !failure.can_resume) {
            tracing::error!(reason = %failure.reason, "storage is read-only");
            *current = Some(failure);
        }
        self.is_read_only.store(true, Ordering::Release);
    }

    /// Whether the failure may go away by itself.
    pub(crate) fn can_resume(&self) -> bool {
        lock(&self.failure).as_ref().is_some_and(|f| f.can_resume)
    }

    /// Writing works again.
    pub(crate) fn resume(&self) {
        let mut current = lock(&self.failure);
        if current.take_if(|f| f.can_resume).is_some() {
            tracing::warn!("storage can be written again");
            self.is_read_only.store(false, Ordering::Release);
        }
    }
}
