//! The model server as a program of its own, with its load generator on request.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use promontory_model_server::load::{self, LoadConfig, LoadTarget};
use promontory_model_server::{ModelServer, ServerConfig};

/// Serves a small character-level language model the way GPU servers do, with vLLM's metrics.
///
/// POST /v1/completions {"prompt": "The keeper", "max_tokens": 40}; GET /v1/models, /metrics, /health.
#[derive(Debug, Parser)]
#[command(name = "promontory-model-server", version)]
struct Arguments {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8000")]
    listen: SocketAddr,
    /// Name of the model for clients and metrics
    #[arg(long, default_value = "harbour-5gram")]
    model_name: String,
    /// Version of the model in the ml_* metrics
    #[arg(long, default_value = "v1")]
    model_version: String,
    /// Characters that the model looks at, the predicted one included (1 to 8)
    #[arg(long, default_value_t = 5)]
    order: usize,
    /// Decides the text of requests without a seed, and the load
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Requests computed in one batch
    #[arg(long, default_value_t = 24)]
    max_num_seqs: usize,
    /// Blocks of the context cache
    #[arg(long, default_value_t = 336)]
    num_blocks: usize,
    /// Tokens of a prompt and its completion together
    #[arg(long, default_value_t = 1024)]
    max_model_len: usize,
    /// Puts the server under a generated load of this many requests per second in the mean
    #[arg(long)]
    load: Option<f64>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("promontory-model-server: {message}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), String> {
    if arguments.load.is_some_and(|rate| !(rate > 0.0 && rate <= 10_000.0)) {
        return Err("--load must be above 0 and at most 10000".to_owned());
    }
    let config = ServerConfig {
        model_version: arguments.model_version,
        order: arguments.order,
        seed: arguments.seed,
        running_max: arguments.max_num_seqs,
        cache_blocks: arguments.num_blocks,
        model_tokens_max: arguments.max_model_len,
        ..ServerConfig::new(&arguments.model_name)
    };
    let server = ModelServer::start(config, arguments.listen).await.map_err(|error| error.to_string())?;
    eprintln!("serving {} on http://{}", arguments.model_name, server.addr());
    let load = arguments.load.map(|rate| {
        let targets = vec![LoadTarget { addr: server.addr(), rate }];
        load::start(&LoadConfig { targets, seed: arguments.seed, in_flight_max: 256 })
    });
    let stopped = stop_signal().await;
    if let Some(load) = load {
        eprintln!("load: {:?}", load.stats());
        load.stop().await;
    }
    server.stop().await;
    stopped
}

/// Waits for Ctrl-C or SIGTERM.
async fn stop_signal() -> Result<(), String> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).map_err(|error| format!("listen for SIGTERM: {error}"))?;
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => interrupted.map_err(|error| format!("listen for Ctrl-C: {error}")),
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await.map_err(|error| format!("listen for Ctrl-C: {error}"))
}
