//! The server around the engine: sockets, limits, start and orderly stop.
//!
//! Every connection, body and queue is bounded by a constant here or a field of [`ServerConfig`]. Stopping refuses new
//! connections, aborts unfinished completions and waits a bounded time for the answers to be written.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::api::{self, Api};
use crate::engine::{Engine, StepCost};
use crate::metrics::Metrics;
use crate::model::{Model, TrainError};
use crate::scheduler::SchedulerLimits;

/// Connections served at once; further ones wait in the listener's backlog.
pub const CONNECTIONS_MAX: usize = 512;
/// Time for a client to send the head of its next request. Longer than a scrape interval: a connection that is closed
/// at the moment of the next scrape costs that scrape.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(90);
/// Time for open answers to be written after a stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after the listener failed, most likely for want of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// Most tokens that a prompt and its completion may be allowed to have together.
const MODEL_TOKENS_MAX: usize = 65_536;
/// Most blocks and tokens per block of a context cache.
const CACHE_MAX: usize = 1 << 20;

/// What a server serves and how much of it.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerConfig {
    /// Name under which clients and metrics know the model.
    pub model_name: String,
    /// Its version in the `ml_*` metrics.
    pub model_version: String,
    /// Characters that the model looks at, the predicted one included; 1 to [`crate::ORDER_MAX`].
    pub order: usize,
    /// Decides the text of requests that bring no seed.
    pub seed: u64,
    /// Requests computed in one batch.
    pub running_max: usize,
    /// Requests accepted beyond the running ones; more are refused with 503.
    pub waiting_max: usize,
    /// Tokens computed in one step.
    pub step_tokens_max: usize,
    /// Blocks of the context cache.
    pub cache_blocks: usize,
    /// Tokens in a block.
    pub block_tokens: usize,
    /// Tokens of a prompt and its completion together.
    pub model_tokens_max: usize,
    /// Pace of the steps.
    pub cost: StepCost,
}

impl ServerConfig {
    /// A 5-gram model at the pace of a mid-sized GPU: 24 requests in a batch, about 40 tokens per second for each.
    #[must_use]
    pub fn new(model_name: &str) -> Self {
        Self {
            model_name: model_name.to_owned(),
            model_version: "v1".to_owned(),
            order: 5,
            seed: 1,
            running_max: 24,
            waiting_max: 256,
            step_tokens_max: 512,
            cache_blocks: 336,
            block_tokens: 16,
            model_tokens_max: 1_024,
            cost: StepCost {
                step: Duration::from_millis(12),
                prefill_token: Duration::from_micros(60),
                decode_sequence: Duration::from_micros(400),
            },
        }
    }

    fn validate(&self) -> Result<(), StartError> {
        let limits = [
            ("running_max", self.running_max, 1, 4_096),
            ("waiting_max", self.waiting_max, 0, 65_536),
            ("step_tokens_max", self.step_tokens_max, 1, MODEL_TOKENS_MAX),
            ("cache_blocks", self.cache_blocks, 1, CACHE_MAX),
            ("block_tokens", self.block_tokens, 1, 1_024),
            ("model_tokens_max", self.model_tokens_max, 2, MODEL_TOKENS_MAX),
        ];
        for (field, value, min, max) in limits {
            if !(min..=max).contains(&value) {
                return Err(StartError::Limit { field, value, min, max });
            }
        }
        let cache_tokens = self.cache_blocks * self.block_tokens;
        if cache_tokens < self.model_tokens_max {
            return Err(StartError::Cache { cache_tokens, model_tokens_max: self.model_tokens_max });
        }
        Ok(())
    }
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A field of the configuration is out of its range.
    #[error("start model server: {field} is {value}, it must be in {min}..={max}")]
    Limit {
        /// The field's name.
        field: &'static str,
        /// Its value.
        value: usize,
        /// Least possible value.
        min: usize,
        /// Largest possible value.
        max: usize,
    },
    /// A single request of the longest allowed length would not fit the context cache.
    #[error(
        "start model server: the context cache holds {cache_tokens} tokens, fewer than model_tokens_max \
         {model_tokens_max}: raise cache_blocks or lower model_tokens_max"
    )]
    Cache {
        /// Tokens that fit the cache.
        cache_tokens: usize,
        /// Tokens that a request may have.
        model_tokens_max: usize,
    },
    /// The model cannot be trained.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The address cannot be listened on.
    #[error("start model server: listen on {addr}: {source}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// Starts model servers.
#[derive(Debug)]
pub struct ModelServer;

impl ModelServer {
    /// Trains the model, listens on `addr` (port 0 takes a free one) and serves in tasks of the current tokio runtime.
    ///
    /// # Errors
    /// A configuration out of its limits, or an address that cannot be listened on.
    pub async fn start(config: ServerConfig, addr: SocketAddr) -> Result<ServerHandle, StartError> {
        config.validate()?;
        let model = Arc::new(Model::train(crate::TRAINING_TEXT, config.order)?);
        let listener = TcpListener::bind(addr).await.map_err(|source| StartError::Listen { addr, source })?;
        let addr = listener.local_addr().map_err(|source| StartError::Listen { addr, source })?;
        tracing::info!(%addr, model = config.model_name, contexts = model.contexts_len(), "model server listens");

        let (stop, stopped) = watch::channel(false);
        let requests_max = config.running_max + config.waiting_max;
        let (submit, submissions) = mpsc::channel(requests_max);
        let metrics = Arc::new(Metrics::new(&config));
        let limits = SchedulerLimits {
            running_max: config.running_max,
            step_tokens_max: config.step_tokens_max,
            n_blocks: config.cache_blocks,
            block_tokens: config.block_tokens,
        };
        let engine = Engine::new(Arc::clone(&model), Arc::clone(&metrics), limits, config.cost, submissions);
        let places = Arc::new(Semaphore::new(requests_max));
        let router = api::router(Arc::new(Api::new(config, metrics, places, submit)));
        let tasks = [tokio::spawn(engine.run(stopped.clone())), tokio::spawn(serve(listener, router, stopped))];
        Ok(ServerHandle { addr, stop, tasks })
    }
}

/// A running server. [`ServerHandle::stop`] ends it in order; dropping the handle ends it too, without waiting.
#[derive(Debug)]
pub struct ServerHandle {
    addr: SocketAddr,
    stop: watch::Sender<bool>,
    tasks: [JoinHandle<()>; 2],
}

impl ServerHandle {
    /// Where the server listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Stops the server and waits until all of its tasks have ended, a few seconds at most.
    pub async fn stop(self) {
        // Nobody listens only where both tasks have already ended.
        let _ = self.stop.send(true);
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "model server task failed");
            }
        }
    }
}

/// Waits until `stopped` becomes true or its sender is gone.
pub(crate) async fn stop_asked(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|&stopped| stopped).await;
}

async fn serve(listener: TcpListener, router: Router, mut stopped: watch::Receiver<bool>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop_asked(&mut stopped) => break,
            Some(_) = connections.join_next() => {}
            accepted = accept(&listener, &permits) => match accepted {
                Ok((stream, permit)) => {
                    let connection = serve_connection(stream, router.clone(), stopped.clone());
                    connections.spawn(async move {
                        connection.await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accept connection failed, trying again");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_TIMEOUT, all).await.is_err() {
        tracing::warn!(n = connections.len(), "cut connections that did not end in time");
        connections.shutdown().await;
    }
}

async fn accept(listener: &TcpListener, permits: &Arc<Semaphore>) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, permit))
}

async fn serve_connection(stream: TcpStream, router: Router, mut stopped: watch::Receiver<bool>) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_READ_TIMEOUT);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop_asked(&mut stopped) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        // Clients that hang up in the middle of a completion are part of normal life.
        tracing::debug!(%error, "connection ended early");
    }
}
