//! The threads on which targets are scraped: each has a share of the targets to itself.
//!
//! A scrape is a chain of short steps, each of which waits for the target or for its time. On threads that take each
//! other's work every step would wake a second thread to see whether there is more; here a step costs what it does, and
//! what is remembered of a target stays in the caches of one processor.

use std::future::Future;
use std::io;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// More would not scrape faster: one takes some million samples a second.
const THREADS_MAX: usize = 4;
/// Threads beside each that look up names.
const LOOKUPS_MAX: usize = 64;

/// Running threads; they end, and are waited for, when this is dropped.
#[derive(Debug)]
pub struct ScrapeThreads(Vec<Thread>);

#[derive(Debug)]
struct Thread {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl ScrapeThreads {
    /// As many as there are processors, up to four.
    ///
    /// # Errors
    /// When the system gives no threads.
    pub fn start() -> io::Result<Self> {
        let n = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        (0..n).map(|_| Thread::start()).collect::<io::Result<_>>().map(Self)
    }

    /// Where loops are put.
    #[must_use]
    pub fn spread(&self) -> Spread {
        Spread(self.0.iter().map(|thread| thread.handle.clone()).collect())
    }
}

impl Thread {
    fn start() -> io::Result<Self> {
        let mut builder = Builder::new_current_thread();
        let runtime = builder.enable_all().max_blocking_threads(LOOKUPS_MAX).thread_name("promontory-name").build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let run = move || {
            // Ends when told to, or with whoever could tell.
            let _ = runtime.block_on(stopped);
            // A name server that does not answer must not hold up the end.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("promontory-scrape".to_owned()).spawn(run)?;
        Ok(Self { handle, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a scrape thread failed");
        }
    }
}

/// Puts loops on threads.
#[derive(Debug, Clone, Default)]
pub struct Spread(Vec<Handle>);

impl Spread {
    /// Everything on the runtime of whoever puts it there.
    #[must_use]
    pub fn here() -> Self {
        Self::default()
    }

    /// Runs the loop of a target; the same thread has it each time.
    pub(super) fn spawn(&self, identity: u64, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        // Phases follow from the lower half.
        let share = (identity >> 32) as usize;
        match self.0.get(share.checked_rem(self.0.len()).unwrap_or(0)) {
            Some(thread) => thread.spawn(work),
            None => tokio::spawn(work),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_stays_on_its_thread_and_threads_end() {
        let threads = ScrapeThreads(vec![Thread::start().unwrap(), Thread::start().unwrap()]);
        let spread = threads.spread();
        let thread_of = |identity: u64| {
            let (tell, told) = std::sync::mpsc::channel();
            drop(spread.spawn(identity, async move { tell.send(std::thread::current().id()).unwrap() }));
            told.recv().unwrap()
        };
        let (first, second) = (thread_of(7), thread_of(7 | 1 << 32));
        assert_eq!(thread_of(9), first);
        assert_ne!(first, second);
        drop(threads);
    }
}
