//! Which connections are open, what each does, and which of them makes room for another.
//!
//! A connection is never closed while its answer is worked on. One that waits for a request, or whose client takes long
//! to send one or to read an answer, is closed when all places are taken and somebody else wants one; so clients that hold connections open, out of
//! malice or not, keep nobody out.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use promontory_model::Duration;
use promontory_storage::clock::Clock;
use tokio::sync::Notify;

/// Time without a request after which a connection makes room.
const WAITING_NS: u64 = 1_000_000_000;
/// Time for a request's body after which a connection makes room.
const RECEIVING_NS: u64 = 10_000_000_000;
/// Time without progress of an answer after which a connection makes room.
const SENDING_NS: u64 = 30_000_000_000;

/// The connections of all listeners.
#[derive(Debug)]
pub struct Connections {
    /// `--web.max-connections`
    pub(super) max: usize,
    /// `--web.read-timeout`
    pub(super) read_timeout: std::time::Duration,
    clock: Arc<dyn Clock>,
    open: Mutex<Open>,
    refused: AtomicU64,
    evicted: AtomicU64,
}

#[derive(Debug, Default)]
struct Open {
    by_number: BTreeMap<u64, Arc<Connection>>,
    next: u64,
}

/// Numbers of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConnectionCounts {
    /// Open ones.
    pub open: u64,
    /// Refused since the start.
    pub refused: u64,
    /// Closed since the start to make room.
    pub evicted: u64,
}

/// What a connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    /// Waits for the head of a request.
    Waiting,
    /// Waits for the body of a request.
    Receiving,
    /// Works on an answer.
    Answering,
    /// Writes an answer, as far as its client reads it.
    Sending,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    doing: Mutex<(Doing, u64)>,
    /// Told when it has to make room.
    pub(super) evicted: Notify,
}

/// A connection's place among those that are open; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    all: Arc<Connections>,
    number: u64,
    connection: Arc<Connection>,
}

impl Connections {
    /// At most `max` at once.
    #[must_use]
    pub fn new(max: usize, read_timeout: Duration, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            max,
            read_timeout: std::time::Duration::from_millis(read_timeout.ms().unsigned_abs()),
            clock,
            open: Mutex::default(),
            refused: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
        })
    }

    /// Numbers of connections at this moment.
    #[must_use]
    pub fn counts(&self) -> ConnectionCounts {
        ConnectionCounts {
            open: self.open.lock().unwrap_or_else(PoisonError::into_inner).by_number.len() as u64,
            refused: self.refused.load(Ordering::Relaxed),
            evicted: self.evicted.load(Ordering::Relaxed),
        }
    }

    /// A place for a new connection, for which another may have to go; `None` when all are busy.
    pub(super) fn admit(self: &Arc<Self>) -> Option<Place> {
        let now = self.clock.monotonic_ns();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.by_number.len() >= self.max {
            let idlest = open.by_number.iter().filter_map(|(number, c)| Some((c.room_ns(now)?, *number))).max();
            let Some(gone) = idlest.and_then(|(_, number)| open.by_number.remove(&number)) else {
                self.refused.fetch_add(1, Ordering::Relaxed);
                return None;
            };
            gone.evicted.notify_one();
            self.evicted.fetch_add(1, Ordering::Relaxed);
        }
        let number = open.next;
        open.next += 1;
        let connection = Arc::new(Connection { doing: Mutex::new((Doing::Waiting, now)), evicted: Notify::new() });
        open.by_number.insert(number, connection.clone());
        Some(Place { all: self.clone(), number, connection })
    }
}

impl Connection {
    /// How long it has been of so little use that it may go; `None` if it may not.
    fn room_ns(&self, now: u64) -> Option<u64> {
        let (doing, since) = *self.doing.lock().unwrap_or_else(PoisonError::into_inner);
        let enough = match doing {
            Doing::Waiting => WAITING_NS,
            Doing::Receiving => RECEIVING_NS,
            Doing::Sending => SENDING_NS,
            Doing::Answering => return None,
        };
        now.saturating_sub(since).checked_sub(enough)
    }
}

impl Place {
    /// Notes what the connection does from now on.
    pub(super) fn does(&self, doing: Doing) {
        let now = self.all.clock.monotonic_ns();
        *self.connection.doing.lock().unwrap_or_else(PoisonError::into_inner) = (doing, now);
    }

    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.all.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.by_number.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use promontory_model::Timestamp;
    use promontory_storage::clock::ManualClock;

    use super::*;

    #[test]
    fn the_idlest_connection_makes_room_and_busy_ones_do_not() {
        let clock = Arc::new(ManualClock::new(Timestamp(0)));
        let all = Connections::new(2, Duration::from_secs(1), clock.clone());
        let busy = all.admit().unwrap();
        busy.does(Doing::Answering);
        let idle = all.admit().unwrap();
        assert!(all.admit().is_none(), "not idle for long enough");
        clock.advance(1_000);
        let next = all.admit().unwrap();
        assert_eq!(all.counts(), ConnectionCounts { open: 2, refused: 1, evicted: 1 });
        drop(idle);
        assert_eq!(all.counts().open, 2, "its place is another's");
        next.does(Doing::Receiving);
        clock.advance(9_000);
        assert!(all.admit().is_none());
        clock.advance(1_000);
        let last = all.admit().unwrap();
        drop((busy, next, last));
        assert_eq!(all.counts(), ConnectionCounts { open: 0, refused: 2, evicted: 2 });
    }
}
