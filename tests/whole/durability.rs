//! Kill -9 in the middle of ingestion, again and again: what was acknowledged is there after each restart.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::client::{self, with_params};
use crate::server::{Server, flag};
use crate::write;

const N_SERIES: usize = 40;
const STEP_MS: i64 = 1000;

/// The value of a series at a step: counters, fractions, constants and noise, a function of its place only.
fn value(series: usize, step: i64) -> f64 {
    match series % 4 {
        0 => (step * (series as i64 + 1)) as f64,
        1 => step as f64 / 7.0,
        2 => series as f64,
        _ => f64::from((step as u32).wrapping_mul(2_654_435_761) ^ series as u32),
    }
}

fn batch(step: i64, start_ms: i64) -> Vec<u8> {
    let all = (0..N_SERIES)
        // Series come and go, so that restarts meet series of every age.
        .filter(|s| s % 5 != 0 || (step / 50 + *s as i64) % 3 != 0)
        .map(|s| {
            let labels = [("__name__", "crash"), ("series", &s.to_string())];
            write::series(&labels, &[(start_ms + step * STEP_MS, value(s, step))])
        });
    write::body(all.collect())
}

fn sent(addr: SocketAddr, step: i64, start_ms: i64) -> bool {
    write::send(addr, &batch(step, start_ms))
}

/// All stored samples: (series, step) to value.
fn stored(addr: SocketAddr, start_ms: i64, last_step: i64) -> BTreeMap<(usize, i64), f64> {
    let at = (start_ms + (last_step + 1) * STEP_MS) / 1000;
    let path = with_params("/api/v1/query", &[("query", "crash[3h]"), ("time", &at.to_string())]);
    let answer = client::get(addr, &path).expect("the server answers").json();
    assert_eq!(answer["status"], "success", "{answer}");
    let mut out = BTreeMap::new();
    for series in answer["data"]["result"].as_array().expect("a matrix") {
        let number: usize = series["metric"]["series"].as_str().expect("a label").parse().expect("a number");
        for sample in series["values"].as_array().expect("samples") {
            let t = (sample[0].as_f64().expect("a time") * 1000.0).round() as i64;
            let v = sample[1].as_str().expect("a value").parse().expect("a number");
            out.insert((number, (t - start_ms) / STEP_MS), v);
        }
    }
    out
}

#[test]
fn acknowledged_samples_survive_kill_9() {
    let rounds: u64 = std::env::var("CRASH_ROUNDS").ok().and_then(|s| s.parse().ok()).unwrap_or(20);
    let dir = tempfile::tempdir().expect("a temporary folder");
    let args = [flag("storage.tsdb.path", dir.path()), "--web.enable-remote-write-receiver".to_owned()];
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    // Two hours ago, so that the rounds stay in the past however fast they are.
    let start_ms = crate::peers::now_ms() / 1000 * 1000 - 2 * 3_600_000;
    let acknowledged: Mutex<Vec<i64>> = Mutex::default();
    let mut next_step = 0;
    let mut checked = 0_u64;
    for round in 0..=rounds {
        let server = Server::start(&args);
        let stored = stored(server.addr, start_ms, next_step);
        for step in acknowledged.lock().expect("no panic while held").iter() {
            for s in (0..N_SERIES).filter(|s| s % 5 != 0 || (step / 50 + *s as i64) % 3 != 0) {
                let found = stored.get(&(s, *step));
                assert_eq!(found, Some(&value(s, *step)), "round {round}: acknowledged step {step} of series {s}");
                checked += 1;
            }
        }
        for ((s, step), v) in &stored {
            assert!(*step < next_step, "round {round}: a sample nobody sent, series {s} step {step}");
            assert_eq!(*v, value(*s, *step), "round {round}: series {s} step {step} has another value");
        }
        if round == rounds {
            assert_eq!(server.terminate(), 0, "SIGTERM ends in order");
            break;
        }
        let (stop, addr) = (AtomicBool::new(false), server.addr);
        let from = next_step;
        next_step = std::thread::scope(|scope| {
            let sender = scope.spawn(|| {
                let mut step = from;
                while !stop.load(Ordering::Relaxed) && step < from + 300 {
                    if sent(addr, step, start_ms) {
                        acknowledged.lock().expect("no panic while held").push(step);
                    }
                    step += 1;
                }
                step
            });
            // Another moment in each round: from the first requests to hundreds of them.
            std::thread::sleep(Duration::from_millis(40 + round * 37 % 500));
            server.kill();
            stop.store(true, Ordering::Relaxed);
            sender.join().expect("the sender ends")
        });
    }
    let n = acknowledged.lock().expect("no panic while held").len();
    eprintln!("{rounds} kills, {n} acknowledged requests, {checked} samples found again");
    assert!(n as u64 > rounds, "hardly anything was acknowledged: {n}");
}
