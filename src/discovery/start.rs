//! Which task each mechanism is.

use std::time::Duration;

use promontory_config::Discovery;
use tokio::task::AbortHandle;

use super::consul::Consul;
use super::dns::{Dns, NameServers};
use super::eureka::Eureka;
use super::http::Http;
use super::kubernetes;
use super::nomad::Nomad;
use super::provider::{Publisher, Refresh, poll};

/// Starts the mechanism of `config`, which publishes to `out`.
pub(super) fn start(config: &Discovery, out: Publisher) -> AbortHandle {
    let at = &out.surroundings.clone();
    match config {
        // Known to whoever asks, without a task.
        Discovery::Static(_) | Discovery::File(_) => tokio::spawn(async {}).abort_handle(),
        Discovery::Consul(c) => every(c.refresh_interval, Consul::new(c, at), out),
        Discovery::Dns(c) => every(c.refresh_interval, Dns::new(c, NameServers::OfMachine, at), out),
        Discovery::Eureka(c) => every(c.refresh_interval, Eureka::new(c, at), out),
        Discovery::Kubernetes(c) => tokio::spawn(kubernetes::run((**c).clone(), out)).abort_handle(),
        Discovery::Nomad(c) => every(c.refresh_interval, Nomad::new(c, at), out),
        Discovery::Http(c) => every(c.refresh_interval, Http::new(c, at), out),
    }
}

fn every(interval: promontory_model::Duration, mechanism: impl Refresh, out: Publisher) -> AbortHandle {
    let interval = Duration::from_millis(interval.ms().unsigned_abs());
    tokio::spawn(poll(mechanism, interval, out)).abort_handle()
}
