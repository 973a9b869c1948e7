//! `promontory demo`: two small real model servers under a generated load, in this process.
//!
//! Starts and stops them and knows where they listen; what scrapes them is configured with [`scrape_config_yaml`].
//! All load goes over loopback TCP, as from any other client.

use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use promontory_model_server::load::{self, LoadConfig, LoadHandle, LoadStats, LoadTarget};
use promontory_model_server::{ModelServer, ServerConfig, ServerHandle, StartError, StepCost};

/// Requests in flight per server at once.
const IN_FLIGHT_MAX: usize = 256;

/// What the demo does.
#[derive(Debug, Clone, PartialEq)]
pub struct DemoOptions {
    /// Decides the texts and the load.
    pub seed: u64,
    /// Share of the usual load: 1 keeps the servers busy and lets bursts fill their queues; above 0.
    pub load: f64,
}

/// Why the demo does not start.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A model server does not start.
    #[error("start demo: {0}")]
    Server(#[from] StartError),
    /// The load is not a positive finite number.
    #[error("start demo: load is {load}, it must be above 0 and finite")]
    Load {
        /// The load asked for.
        load: f64,
    },
}

/// The running demo. [`Demo::stop`] ends it in order.
#[derive(Debug)]
pub struct Demo {
    servers: Vec<ServerHandle>,
    load: LoadHandle,
}

impl Demo {
    /// Where the model servers listen.
    #[must_use]
    pub fn addrs(&self) -> Vec<SocketAddr> {
        self.servers.iter().map(ServerHandle::addr).collect()
    }

    /// What became of the load's requests so far.
    #[must_use]
    pub fn load_stats(&self) -> LoadStats {
        self.load.stats()
    }

    /// Ends the load, then the servers; takes a few seconds at most.
    pub async fn stop(self) {
        self.load.stop().await;
        for server in self.servers {
            server.stop().await;
        }
    }
}

/// Starts the model servers on free ports of loopback and the load against them, in tasks of the current tokio runtime.
///
/// # Errors
/// No port of loopback can be listened on, or the load is not a positive number.
pub async fn start(options: &DemoOptions) -> Result<Demo, DemoError> {
    if !(options.load > 0.0 && options.load.is_finite()) {
        return Err(DemoError::Load { load: options.load });
    }
    let (mut servers, mut targets) = (Vec::new(), Vec::new());
    for (config, rate) in models(options.seed) {
        let server = ModelServer::start(config, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
        targets.push(LoadTarget { addr: server.addr(), rate: rate * options.load });
        servers.push(server);
    }
    let load = load::start(&LoadConfig { targets, seed: options.seed, in_flight_max: IN_FLIGHT_MAX });
    Ok(Demo { servers, load })
}

/// A quick shallow model and a slower, deeper one, with the mean requests per second that keep each busy.
fn models(seed: u64) -> [(ServerConfig, f64); 2] {
    let small = ServerConfig { order: 4, seed, ..ServerConfig::new("harbour-4gram") };
    let large = ServerConfig {
        order: 6,
        seed: seed.wrapping_add(1),
        model_version: "v2".to_owned(),
        cost: StepCost {
            step: Duration::from_millis(22),
            prefill_token: Duration::from_micros(110),
            decode_sequence: Duration::from_micros(700),
        },
        ..ServerConfig::new("harbour-6gram")
    };
    [(small, 6.0), (large, 3.2)]
}

/// A `prometheus.yml` that scrapes the model servers at `addrs` every second and the server itself every two.
#[must_use]
pub fn scrape_config_yaml(addrs: &[SocketAddr], own_addr: SocketAddr) -> String {
    let mut yaml = String::from("global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\nscrape_configs:\n");
    yaml.push_str("  - job_name: vllm\n    static_configs:\n      - targets:\n");
    for addr in addrs {
        let _ = writeln!(yaml, "          - '{addr}'");
    }
    yaml.push_str("  - job_name: promontory\n    scrape_interval: 2s\n    static_configs:\n      - targets:\n");
    let _ = writeln!(yaml, "          - '{own_addr}'");
    yaml
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn scrape_configuration_names_all_targets() {
        let addrs = ["127.0.0.1:1001".parse().unwrap(), "127.0.0.1:1002".parse().unwrap()];
        assert_eq!(
            scrape_config_yaml(&addrs, "[::1]:9090".parse().unwrap()),
            "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\nscrape_configs:\n  - job_name: vllm\n    \
             static_configs:\n      - targets:\n          - '127.0.0.1:1001'\n          - '127.0.0.1:1002'\n  \
             - job_name: promontory\n    scrape_interval: 2s\n    static_configs:\n      - targets:\n          \
             - '[::1]:9090'\n"
        );
    }

    #[tokio::test]
    async fn demo_serves_two_models_and_stops() {
        let demo = start(&DemoOptions { seed: 1, load: 1.0 }).await.unwrap();
        let addrs = demo.addrs();
        assert_eq!(addrs.len(), 2);
        for addr in &addrs {
            assert!(tokio::net::TcpStream::connect(addr).await.is_ok());
        }
        demo.stop().await;
        assert!(tokio::net::TcpStream::connect(addrs[0]).await.is_err());
    }

    /// Names of older servers, which the dashboard accepts too.
    const OLDER_NAMES: [&str; 2] = ["vllm:gpu_prefix_cache_hits_total", "vllm:gpu_prefix_cache_queries_total"];

    #[tokio::test]
    async fn servers_expose_every_metric_that_their_dashboard_asks_for() {
        let demo = start(&DemoOptions { seed: 1, load: 1.0 }).await.unwrap();
        let mut stream = tokio::net::TcpStream::connect(demo.addrs()[0]).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut exposition = String::new();
        stream.read_to_string(&mut exposition).await.unwrap();
        demo.stop().await;
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
        let dashboard = include_str!("dashboard/builtin/vllm.json");
        let names =
            dashboard.split(|c| !is_name(c)).filter(|word| word.starts_with("vllm:") || word.starts_with("ml_"));
        for name in names.filter(|name| !OLDER_NAMES.contains(name)) {
            assert!(exposition.contains(&format!("\n{name}{{")), "{name} is not exposed");
        }
    }

    #[tokio::test]
    async fn impossible_load_is_refused() {
        let error = start(&DemoOptions { seed: 1, load: f64::NAN }).await.unwrap_err();
        assert_eq!(error.to_string(), "start demo: load is NaN, it must be above 0 and finite");
    }
}
