//! A load generator: plays the traffic of many clients against model servers over real HTTP.
//!
//! One connection per request, as independent clients have. What is in flight at once is bounded; an arrival beyond
//! that is skipped and counted, so that a slow server does not pile up clients without end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use crate::server::stop_asked;
use crate::traffic::{Planned, Traffic};

/// Longest time that a client waits for its answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest answer that a client reads.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// One server under load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoadTarget {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Mean requests per second, above 0.
    pub rate: f64,
}

/// Which servers get how much load.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadConfig {
    /// The servers.
    pub targets: Vec<LoadTarget>,
    /// Decides what is asked and when.
    pub seed: u64,
    /// Requests in flight per server at once.
    pub in_flight_max: usize,
}

/// What became of the requests so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LoadStats {
    /// Answered with 200, to the end.
    pub completed: u64,
    /// Answered with another status.
    pub refused: u64,
    /// Given up by an impatient client.
    pub abandoned: u64,
    /// Not answered: connection errors and timeouts.
    pub failed: u64,
    /// Not sent, because too many were in flight.
    pub skipped: u64,
}

#[derive(Debug, Default)]
struct Counters {
    completed: AtomicU64,
    refused: AtomicU64,
    abandoned: AtomicU64,
    failed: AtomicU64,
    skipped: AtomicU64,
}

/// A running load. [`LoadHandle::stop`] ends it in order; dropping the handle ends it too, without waiting.
#[derive(Debug)]
pub struct LoadHandle {
    counters: Arc<Counters>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl LoadHandle {
    /// Counts so far.
    #[must_use]
    pub fn stats(&self) -> LoadStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LoadStats {
            completed: read(&self.counters.completed),
            refused: read(&self.counters.refused),
            abandoned: read(&self.counters.abandoned),
            failed: read(&self.counters.failed),
            skipped: read(&self.counters.skipped),
        }
    }

    /// Hangs up all requests and waits for the tasks to end.
    pub async fn stop(self) {
        // Nobody listens only where there is no target.
        let _ = self.stop.send(true);
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "load task failed");
            }
        }
    }
}

/// Starts the load in tasks of the current tokio runtime.
#[must_use]
pub fn start(config: &LoadConfig) -> LoadHandle {
    let counters = Arc::new(Counters::default());
    let (stop, stopped) = watch::channel(false);
    let tasks = (config.seed..)
        .zip(&config.targets)
        .map(|(seed, target)| {
            let places = Arc::new(Semaphore::new(config.in_flight_max));
            let traffic = Traffic::new(target.rate, seed);
            tokio::spawn(play(target.addr, traffic, places, Arc::clone(&counters), stopped.clone()))
        })
        .collect();
    LoadHandle { counters, stop, tasks }
}

async fn play(
    addr: SocketAddr,
    mut traffic: Traffic,
    places: Arc<Semaphore>,
    counters: Arc<Counters>,
    mut stopped: watch::Receiver<bool>,
) {
    let started = Instant::now();
    let mut clients = JoinSet::new();
    loop {
        let planned = traffic.next();
        tokio::select! {
            () = sleep_until(started + planned.at) => {}
            () = stop_asked(&mut stopped) => break,
        }
        while clients.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            counters.skipped.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let counters = Arc::clone(&counters);
        clients.spawn(async move {
            let outcome = ask(addr, planned, &counters).await;
            outcome.fetch_add(1, Ordering::Relaxed);
            drop(place);
        });
    }
    clients.shutdown().await;
}

/// Sends one request; returns the counter of what became of it.
async fn ask(addr: SocketAddr, planned: Planned, counters: &Counters) -> &AtomicU64 {
    let impatient = planned.patience.is_some_and(|patience| patience < REQUEST_TIMEOUT);
    let patience = planned.patience.unwrap_or(REQUEST_TIMEOUT);
    match timeout(patience, exchange(addr, planned.body)).await {
        Ok(Ok(StatusCode::OK)) => &counters.completed,
        Ok(Ok(_)) => &counters.refused,
        Err(_) if impatient => &counters.abandoned,
        Ok(Err(error)) => {
            tracing::debug!(%addr, %error, "completion request failed");
            &counters.failed
        }
        Err(_) => &counters.failed,
    }
}

#[derive(Debug, thiserror::Error)]
enum ExchangeError {
    #[error("connect to {addr}: {source}")]
    Connect { addr: SocketAddr, source: std::io::Error },
    #[error("exchange with {addr}: {source}")]
    Http { addr: SocketAddr, source: hyper::Error },
    #[error("read answer of {addr}, at most {ANSWER_BYTES_MAX} bytes: {source}")]
    Body { addr: SocketAddr, source: Box<dyn std::error::Error + Send + Sync> },
}

async fn exchange(addr: SocketAddr, body: String) -> Result<StatusCode, ExchangeError> {
    let http = |source| ExchangeError::Http { addr, source };
    let stream = TcpStream::connect(addr).await.map_err(|source| ExchangeError::Connect { addr, source })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
    let request = completion_request(addr, body);
    let answer = async move {
        let response = sender.send_request(request).await.map_err(http)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
        body.collect().await.map_err(|source| ExchangeError::Body { addr, source })?;
        Ok(status)
    };
    // Both live in this future: dropping it hangs up. The connection ends by itself once the sender is gone.
    let (status, _) = tokio::join!(answer, connection);
    status
}

fn completion_request(
    addr: SocketAddr,
    body: String,
) -> Request<impl hyper::body::Body<Data = Bytes, Error = Infallible>> {
    Request::builder()
        .method(Method::POST)
        .uri("/v1/completions")
        .header(header::HOST, addr.to_string())
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .expect("a request of constants and a socket address is well-formed")
}
