//! Whether the store may be written: a failed write or sync latches it read-only, with the reason.
//!
//! A full disk is forgiven once writing works again. After any other failure, a failed sync above all, nobody knows
//! what the disk holds, so only opening the database anew, which reads what is there, ends the state.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::head::lock;
use crate::vfs::{DiskSpace, VfsError};

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

/// Bytes of the disk that samples may not take: what frees space (a manifest, a block cut from the head, a merge) has
/// to be written too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reserve {
    bytes: u64,
    free: u64,
}

impl Reserve {
    /// At most `wanted`, and no more than a twentieth of a small disk.
    pub(crate) fn of(space: DiskSpace, wanted: u64) -> Self {
        Self { bytes: wanted.min(space.total / 20), free: space.free }
    }

    fn is_touched(self) -> bool {
        self.free < self.bytes
    }

    /// Whether there is enough space to take samples again; a little more than what stops them, so that the store does
    /// not go to and fro.
    pub(crate) fn is_restored(self) -> bool {
        self.free >= self.bytes + self.bytes / 4
    }
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
        // What a failed sync was to make durable may be gone from memory too, whatever the reason was.
        let can_resume = e.is_no_space() && !e.is_sync();
        let remedy = if can_resume { "free some space to resume" } else { "restart to read what the disk holds" };
        self.latch(Failure { reason: format!("{e}; {remedy}"), can_resume });
    }

    /// Latches when the reserve on the disk of `dir` is touched.
    pub(crate) fn check_reserve(&self, reserve: Reserve, dir: &Path) {
        if reserve.is_touched() {
            let Reserve { bytes, free } = reserve;
            let dir = dir.display();
            let reason = format!(
                "disk of {dir} is nearly full: {free} bytes are free, {bytes} are kept in reserve; free some space to resume"
            );
            self.latch(Failure { reason, can_resume: true });
        }
    }

    /// Latches for good because the database was closed.
    pub(crate) fn close(&self) {
        let failure = Failure { reason: "database is closed".to_owned(), can_resume: false };
        lock(&self.failure).get_or_insert(failure);
        self.is_read_only.store(true, Ordering::Release);
    }

    fn latch(&self, failure: Failure) {
        let mut current = lock(&self.failure);
        if current.as_ref().is_none_or(|c| c.can_resume && !failure.can_resume) {
            tracing::error!(reason = %failure.reason, "storage is read-only");
            *current = Some(failure);
        }
        self.is_read_only.store(true, Ordering::Release);
    }

    /// Whether nothing may be written, but may be again without a restart.
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

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[track_caller]
    fn check(op: &'static str, kind: io::ErrorKind, expected: (bool, &str)) {
        let health = Health::default();
        health.failed(&VfsError::new(op, Path::new("f"), 0, io::Error::from(kind)));
        assert_eq!((health.can_resume(), health.reason().unwrap().as_str()), expected);
    }

    #[test]
    fn only_a_write_to_a_full_disk_is_forgiven() {
        let full = io::ErrorKind::StorageFull;
        check("write", full, (true, "write f at 0: no storage space; free some space to resume"));
        check("sync", full, (false, "sync f at 0: no storage space; restart to read what the disk holds"));
        check(
            "write",
            io::ErrorKind::TimedOut,
            (false, "write f at 0: timed out; restart to read what the disk holds"),
        );
    }

    #[test]
    fn the_reserve_is_bounded_and_left_alone_for_a_while() {
        let reserve = |total, free| Reserve::of(DiskSpace { total, free }, 100);
        assert_eq!([1999, 100, 99].map(|free| reserve(2000, free).is_touched()), [false, false, true]);
        assert_eq!([125, 124].map(|free| reserve(2000, free).is_restored()), [true, false]);
        assert!(!reserve(200, 10).is_touched());
        assert!(reserve(200, 9).is_touched());
    }
}
