//! A query that would need far more memory than one query may have: how soon it is refused, and whether others are
//! answered meanwhile.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use promontory_storage::clock::{Clock as _, SystemClock};

use crate::bars::Verdict;
use crate::client::Client;
use crate::query::escape;
use crate::server::Server;

/// What the values of the answer alone would take.
const ANSWER_BYTES: usize = 20 << 30;
/// How often the query is asked.
const TIMES: usize = 5;
const LONGEST_MS: f64 = 1_000.0;

/// What became of the query, and of others.
#[derive(Debug, Clone, Default)]
pub(crate) struct Refusal {
    /// The slowest of the refusals, ms.
    pub(crate) longest_ms: f64,
    /// Processor time of the server for a refusal when nothing else is asked, ms.
    pub(crate) cpu_ms: f64,
    pub(crate) message: String,
    /// Other queries that were answered at the same time, and the slowest of them, ms.
    pub(crate) n_others: usize,
    pub(crate) others_longest_ms: f64,
    /// By how much resident memory rose, MiB.
    pub(crate) risen_mib: f64,
}

/// Asks for all series at so many steps that their values take 20 GiB, while a second client asks `other`.
pub(crate) fn measure(server: &Server, n_series: usize, end_ms: i64, other: &str) -> io::Result<Refusal> {
    let end_s = end_ms / 1_000;
    let steps = ANSWER_BYTES / 8 / n_series.max(1);
    let text = escape("{__name__=~\".+\"}");
    let path = format!("/api/v1/query_range?query={text}&start={}&end={end_s}&step=1", end_s - steps as i64);
    let light = format!("/api/v1/query?query={}&time={end_s}&nocache=1", escape(other));
    let (before, done) = (server.memory()?.resident, AtomicBool::new(false));
    server.forget_peak()?;
    let mut refusal = Refusal::default();
    let mut client = server.client();
    let cpu = server.cpu_s()?;
    (0..TIMES).try_for_each(|_| refusal.ask(&mut client, &path))?;
    refusal.cpu_ms = (server.cpu_s()? - cpu) * 1e3 / TIMES as f64;
    std::thread::scope(|scope| {
        let others = scope.spawn(|| {
            let (mut client, mut n, mut longest) = (server.client(), 0, 0.0_f64);
            while !done.load(Ordering::Relaxed) {
                let (ms, status, _) = ask(&mut client, &light)?;
                if status != 200 {
                    return Err(io::Error::other(format!("another query is refused with {status}")));
                }
                (n, longest) = (n + 1, longest.max(ms));
            }
            Ok((n, longest))
        });
        let asked = (0..TIMES).try_for_each(|_| refusal.ask(&mut client, &path));
        done.store(true, Ordering::Relaxed);
        let answered = others.join().map_err(|_| io::Error::other("the other client panicked"))?;
        asked?;
        (refusal.n_others, refusal.others_longest_ms) = answered?;
        refusal.risen_mib = server.memory()?.peak - before;
        Ok(refusal)
    })
}

/// Time in ms, status and body of an answer.
fn ask(client: &mut Client, path: &str) -> io::Result<(f64, u16, String)> {
    let clock = SystemClock::new();
    let start = clock.monotonic_ns();
    let answer = client.get(path)?;
    let ms = (clock.monotonic_ns() - start) as f64 / 1e6;
    Ok((ms, answer.status, String::from_utf8_lossy(&answer.body).into_owned()))
}

impl Refusal {
    /// Asks once.
    fn ask(&mut self, client: &mut Client, path: &str) -> io::Result<()> {
        let (ms, status, body) = ask(client, path)?;
        if status == 200 || !body.contains("query.max-") {
            return Err(io::Error::other(format!("a query of 20 GiB is answered with {status}: {body:.200}")));
        }
        let body: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
        self.message = body["error"].as_str().unwrap_or("no message").to_owned();
        self.longest_ms = self.longest_ms.max(ms);
        Ok(())
    }

    pub(crate) fn verdict(&self) -> Verdict {
        Verdict {
            bar: "a query of 20 GiB is refused within 1 s, others go on".to_owned(),
            measured: format!(
                "{:.0} ms, {:.0} of processor time; memory rose by {:.0} MiB; {} others answered in {:.0} ms at most: `{}`",
                self.longest_ms, self.cpu_ms, self.risen_mib, self.n_others, self.others_longest_ms, self.message
            ),
            is_met: self.longest_ms <= LONGEST_MS && self.n_others > 0 && self.others_longest_ms <= LONGEST_MS,
        }
    }
}
