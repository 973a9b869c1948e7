//! Which task each mechanism is.

use std::time::Duration;

use promontory_config::Discovery;
use tokio::task::AbortHandle;

use super::aws::{Ec2, Ecs, ElastiCache, Lightsail, Msk, Rds};
use super::azure::Azure;
use super::cloud::Cloud;
use super::consul::Consul;
use super::dns::{Dns, NameServers};
use super::docker::{Docker, Swarm};
use super::eureka::Eureka;
use super::gce::Gce;
use super::http::Http;
use super::kubernetes;
use super::local::Local;
use super::nomad::Nomad;
use super::openstack::OpenStack;
use super::outscale::Outscale;
use super::ovhcloud::OvhCloud;
use super::provider::{Publisher, Refresh, poll};
use super::stackit::Stackit;
use super::uyuni::Uyuni;
use super::zookeeper;

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
        Discovery::Nerve(c) => tokio::spawn(zookeeper::run(zookeeper::Kind::Nerve, (**c).clone(), out)).abort_handle(),
        Discovery::Serverset(c) => {
            tokio::spawn(zookeeper::run(zookeeper::Kind::Serverset, (**c).clone(), out)).abort_handle()
        }
        Discovery::Nomad(c) => every(c.refresh_interval, Nomad::new(c, at), out),
        Discovery::Azure(c) => every(c.refresh_interval, Azure::new(c, at), out),
        Discovery::Docker(c) => every(c.refresh_interval, Docker::new(c, at), out),
        Discovery::DockerSwarm(c) => every(c.refresh_interval, Swarm::new(c, at), out),
        Discovery::Ec2(c) => every(c.refresh_interval, Ec2::new(c, &c.account, &c.http, at), out),
        Discovery::Ecs(c) => every(c.refresh_interval, Ecs::new(c, &c.account, &c.http, at), out),
        Discovery::ElastiCache(c) => every(c.refresh_interval, ElastiCache::new(c, &c.account, &c.http, at), out),
        Discovery::Gce(c) => every(c.refresh_interval, Gce::new(c, at), out),
        Discovery::Lightsail(c) => every(c.refresh_interval, Lightsail::new(c, &c.account, &c.http, at), out),
        Discovery::Local(c) => every(c.refresh_interval, Local::new(c, at), out),
        Discovery::Msk(c) => every(c.refresh_interval, Msk::new(c, &c.account, &c.http, at), out),
        Discovery::OpenStack(c) => every(c.refresh_interval, OpenStack::new(c, at), out),
        Discovery::Outscale(c) => every(c.refresh_interval, Outscale::new(c, at), out),
        Discovery::OvhCloud(c) => every(c.refresh_interval, OvhCloud::new(c, at), out),
        Discovery::Rds(c) => every(c.refresh_interval, Rds::new(c, &c.account, &c.http, at), out),
        Discovery::Stackit(c) => every(c.refresh_interval, Stackit::new(c, at), out),
        Discovery::DigitalOcean(c) => every(c.refresh_interval, Cloud::new(config, &c.http, at), out),
        Discovery::Hetzner(c) => every(c.refresh_interval, Cloud::new(config, &c.http, at), out),
        Discovery::Ionos(c) => every(c.refresh_interval, Cloud::new(config, &c.http, at), out),
        Discovery::Kuma(c) => every(c.refresh_interval, Cloud::new(config, &c.http, at), out),
        Discovery::Linode(c) => every(c.refresh_interval, Cloud::new(config, &c.http, at), out),
        Discovery::Marathon(c) => every(c.refresh_interval, Cloud::new(config, &c.http, at), out),
        Discovery::PuppetDb(c) => every(c.refresh_interval, Cloud::new(config, &c.http, at), out),
        Discovery::Scaleway(c) => every(c.refresh_interval, Cloud::new(config, &c.http, at), out),
        Discovery::Triton(c) => every(c.refresh_interval, Cloud::new(config, &c.http, at), out),
        Discovery::Vultr(c) => every(c.refresh_interval, Cloud::new(config, &c.http, at), out),
        Discovery::Uyuni(c) => every(c.refresh_interval, Uyuni::new(c, at), out),
        Discovery::Http(c) => every(c.refresh_interval, Http::new(c, at), out),
    }
}

fn every(interval: promontory_model::Duration, mechanism: impl Refresh, out: Publisher) -> AbortHandle {
    let interval = Duration::from_millis(interval.ms().unsigned_abs());
    tokio::spawn(poll(mechanism, interval, out)).abort_handle()
}
