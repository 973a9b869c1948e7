//! Dashboards that are open while samples arrive: clients on kept connections ask range queries, each once a second,
//! and an agent sends 100,000 samples in the same second.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use promontory_storage::clock::{Clock as _, SystemClock};

use crate::client::Sender;
use crate::query::QUERIES;
use crate::server::Server;
use crate::workload::{INTERVAL_MS, Workload};

/// Clients with a connection each.
const CLIENTS: usize = 64;
/// Samples that are to arrive in a second.
const SAMPLES_PER_S: f64 = 100_000.0;
/// Time from one query of a client to its next; a late one is asked at once.
const PAUSE_NS: u64 = 1_000_000_000;
/// Length and step of the queries, s.
const RANGE_S: i64 = 3_600;
const STEP_S: i64 = 15;
/// How long the sender waits when it is early.
const WAIT: Duration = Duration::from_millis(1);
/// Longest sleep of a client, which then looks whether all is over: 64 that look at each turn of a millisecond would
/// take a tenth of a processor from the server.
const NAP_NS: u64 = 100_000_000;

/// What a server showed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Traffic {
    pub(crate) p50_ms: f64,
    pub(crate) p95_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) queries_per_s: f64,
    /// Queries that were not answered with 200.
    pub(crate) n_errors: u64,
    pub(crate) samples_per_s: f64,
    /// Processors that the server kept busy.
    pub(crate) processors: f64,
    /// Resident memory a fifth into it, at its end, and the most, MiB; of the first two the part that no file backs.
    pub(crate) early_mib: f64,
    pub(crate) early_anonymous_mib: f64,
    pub(crate) late_mib: f64,
    pub(crate) late_anonymous_mib: f64,
    pub(crate) peak_mib: f64,
}

/// Sends rounds of `workload` for `seconds` while others ask. Rounds follow each other faster than the clock, so that
/// the samples of a second are those of many targets.
pub(crate) fn measure(
    server: &Server,
    workload: &mut Workload,
    sender: &mut Sender,
    start_ms: i64,
    first_round: usize,
    seconds: u64,
) -> io::Result<Traffic> {
    let clock = SystemClock::new();
    let done = AtomicBool::new(false);
    let newest_ms = AtomicI64::new(start_ms + first_round as i64 * INTERVAL_MS);
    let (times, n_errors) = (Mutex::new(Vec::new()), AtomicU64::new(0));
    server.forget_peak()?;
    let (began, cpu, sent) = (clock.monotonic_ns(), server.cpu_s()?, sender.n_sent);
    let end = began + seconds * 1_000_000_000;
    let mut out = Traffic::default();
    let asked = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|i| {
                let (done, newest_ms, times, n_errors) = (&done, &newest_ms, &times, &n_errors);
                scope.spawn(move || ask(server, i, done, newest_ms, times, n_errors))
            })
            .collect();
        let sending = || -> io::Result<()> {
            let mut samples = Vec::new();
            let mut round = first_round;
            while clock.monotonic_ns() < end {
                let due = began as f64 + (sender.n_sent - sent) as f64 / SAMPLES_PER_S * 1e9;
                if (clock.monotonic_ns() as f64) < due {
                    std::thread::sleep(WAIT);
                    continue;
                }
                samples.clear();
                workload.round(start_ms, &mut samples);
                sender.send(&workload.labels, &samples)?;
                round += 1;
                newest_ms.store(start_ms + round as i64 * INTERVAL_MS, Ordering::Relaxed);
                if out.early_mib == 0.0 && clock.monotonic_ns() > began + (end - began) / 5 {
                    let memory = server.memory()?;
                    (out.early_mib, out.early_anonymous_mib) = (memory.resident, memory.anonymous);
                }
            }
            sender.flush(&workload.labels)
        };
        let result = { sending }();
        done.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().map_err(|_| io::Error::other("a client panicked"))??;
        }
        result
    });
    asked?;
    let took_s = (clock.monotonic_ns() - began) as f64 / 1e9;
    let memory = server.memory()?;
    let mut times = times.into_inner().unwrap_or_default();
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times.get(((times.len() as f64 * part) as usize).min(times.len().saturating_sub(1))).copied();
    let at = |part: f64| at(part).unwrap_or(f64::NAN);
    (out.p50_ms, out.p95_ms, out.p99_ms) = (at(0.5), at(0.95), at(0.99));
    out.queries_per_s = times.len() as f64 / took_s;
    out.n_errors = n_errors.into_inner();
    out.samples_per_s = (sender.n_sent - sent) as f64 / took_s;
    out.processors = (server.cpu_s()? - cpu) / took_s;
    (out.late_mib, out.late_anonymous_mib) = (memory.resident, memory.anonymous);
    out.peak_mib = memory.peak;
    Ok(out)
}

/// Asks one query after the other, beginning at another one than its neighbours.
fn ask(
    server: &Server,
    number: usize,
    done: &AtomicBool,
    newest_ms: &AtomicI64,
    times: &Mutex<Vec<f64>>,
    n_errors: &AtomicU64,
) -> io::Result<()> {
    let clock = SystemClock::new();
    let mut client = server.client();
    let mut own = Vec::new();
    // Clients do not ask all at the same moment.
    let mut next = clock.monotonic_ns() + PAUSE_NS / CLIENTS as u64 * number as u64;
    for i in number.. {
        loop {
            let early_ns = next.saturating_sub(clock.monotonic_ns()).min(NAP_NS);
            if early_ns == 0 || done.load(Ordering::Relaxed) {
                break;
            }
            std::thread::sleep(Duration::from_nanos(early_ns));
        }
        if done.load(Ordering::Relaxed) {
            break;
        }
        next = (next + PAUSE_NS).max(clock.monotonic_ns());
        let ranges = QUERIES.iter().filter(|q| q.is_range());
        let Some(query) = ranges.clone().nth(i % ranges.count().max(1)) else { break };
        let path = query.path_over(newest_ms.load(Ordering::Relaxed) / 1_000, RANGE_S, STEP_S);
        let start = clock.monotonic_ns();
        match client.get(&path) {
            Ok(answer) if answer.status == 200 => own.push((clock.monotonic_ns() - start) as f64 / 1e6),
            Ok(_) => drop(n_errors.fetch_add(1, Ordering::Relaxed)),
            Err(_) => {
                n_errors.fetch_add(1, Ordering::Relaxed);
                client = server.client();
            }
        }
    }
    times.lock().map_err(|_| io::Error::other("another client panicked"))?.extend(own);
    Ok(())
}
