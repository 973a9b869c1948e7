//! Runs the tasks of a query on a bounded number of threads and hands their results over in order.
//!
//! Task `i` runs on thread `i mod threads`; results wait in a short queue per thread. What is done with the results
//! happens on the caller's thread, in the order of tasks, whatever the number of threads, and so do errors.

use std::sync::mpsc;

use crate::error::QueryError;

/// Results that may wait per thread.
const QUEUE: usize = 2;

/// Runs `n` tasks and gives each result to `sink`, in order. Every thread has scratch memory of its own.
///
/// # Errors
/// The first error, by order of tasks, of a task or of the sink.
pub(crate) fn in_order<S, T>(
    n: usize,
    threads: usize,
    task: impl Fn(usize, &mut S) -> Result<T, QueryError> + Sync,
    mut sink: impl FnMut(T) -> Result<(), QueryError>,
) -> Result<(), QueryError>
where
    S: Default,
    T: Send,
{
    let threads = threads.min(n);
    if threads <= 1 {
        let mut scratch = S::default();
        return (0..n).try_for_each(|i| sink(task(i, &mut scratch)?));
    }
    std::thread::scope(|scope| {
        let task = &task;
        let queues: Vec<_> = (0..threads)
            .map(|first| {
                let (send, receive) = mpsc::sync_channel(QUEUE);
                scope.spawn(move || {
                    let mut scratch = S::default();
                    for i in (first..n).step_by(threads) {
                        let result = task(i, &mut scratch);
                        let failed = result.is_err();
                        // The receiver is gone once an earlier task has failed.
                        if send.send(result).is_err() || failed {
                            return;
                        }
                    }
                });
                receive
            })
            .collect();
        for i in 0..n {
            // A thread that ends without an answer has panicked; the scope passes the panic on.
            let Ok(result) = queues[i % threads].recv() else { break };
            sink(result?)?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_on_any_number_of_threads() {
        for threads in [1, 2, 3, 8] {
            let mut got = Vec::new();
            let sink = |i| {
                got.push(i);
                Ok(())
            };
            in_order(20, threads, |i, (): &mut ()| Ok(i), sink).unwrap();
            assert_eq!(got, (0..20).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_first_error_by_order_wins() {
        for threads in [1, 2, 3] {
            let fail = |i: usize, (): &mut ()| match i {
                5 => Err(QueryError::Timeout),
                2 => Err(QueryError::Cancelled),
                _ => Ok(i),
            };
            let got = in_order(9, threads, fail, |_| Ok(()));
            assert!(matches!(got, Err(QueryError::Cancelled)), "{got:?}");
        }
    }
}
