//! Where targets come from: fixed lists, files that may change, and servers that know.
//!
//! Whoever wants targets looks, nobody calls: [`JobDiscovery::poll`] tells whether something changed, and
//! [`JobDiscovery::groups`] shows all that is known. Mechanisms that ask a server are tasks of their own
//! ([`Providers`]). A source that fails keeps what it had.

mod api;
mod aws;
mod azure;
mod cloud;
mod consul;
mod dns;
mod docker;
mod error;
mod eureka;
mod figures;
mod file;
pub mod fuzz;
mod gce;
mod http;
mod kubernetes;
mod local;
mod meta;
mod nomad;
mod openstack;
mod outscale;
mod ovhcloud;
mod provider;
mod stackit;
mod start;
mod uyuni;
mod zookeeper;

#[cfg(test)]
pub(crate) mod testing;

use std::sync::Arc;

use promontory_config::{Discovery, TargetGroup};
use promontory_model::Timestamp;

pub use figures::{SdFamily, SdLabels, SdMetrics, SdSample};
use file::FileDiscovery;
pub(crate) use file::{matching_files, read_targets};
use provider::Provider;
pub use provider::{Providers, Surroundings};

/// The sources of one job's targets.
#[derive(Debug)]
pub struct JobDiscovery {
    fixed: Vec<TargetGroup>,
    files: Vec<FileDiscovery>,
    asking: Vec<Asking>,
}

/// A running mechanism and what was seen of it last.
#[derive(Debug)]
struct Asking {
    provider: Arc<Provider>,
    version: u64,
    groups: Arc<Vec<TargetGroup>>,
}

/// What a look at the sources found.
#[derive(Debug, Default)]
pub struct Polled {
    /// Whether the groups are others than before.
    pub is_changed: bool,
    /// Which files failed now.
    pub errors: Vec<String>,
}

impl JobDiscovery {
    /// The sources of `configs`, which are those of `job`; files have not been read yet. Must be called inside a tokio
    /// runtime.
    #[must_use]
    pub fn new(job: &str, configs: &[Discovery], providers: &Providers) -> Self {
        let mut discovery = Self { fixed: Vec::new(), files: Vec::new(), asking: Vec::new() };
        for config in configs {
            match config {
                Discovery::Static(groups) => discovery.fixed.extend(groups.iter().cloned()),
                Discovery::File(config) => discovery.files.push(FileDiscovery::new(config.clone())),
                asking => {
                    let provider = providers.get(asking, job);
                    discovery.asking.push(Asking { provider, version: 0, groups: Arc::default() });
                }
            }
        }
        discovery
    }

    /// Looks for changes: what has changed on disk, or was not read for a whole refresh interval, is read.
    pub fn poll(&mut self, now: Timestamp) -> Polled {
        let mut polled = Polled::default();
        for file in &mut self.files {
            file.poll(now, &mut polled);
        }
        for asking in &mut self.asking {
            if let Some((version, groups)) = asking.provider.newer(asking.version) {
                (asking.version, asking.groups) = (version, groups);
                polled.is_changed = true;
            }
        }
        polled
    }

    /// All groups.
    pub fn groups(&self) -> impl Iterator<Item = &TargetGroup> {
        let files = self.files.iter().flat_map(FileDiscovery::groups);
        let asking = self.asking.iter().flat_map(|asking| asking.groups.iter());
        self.fixed.iter().chain(files).chain(asking)
    }

    /// Whether every source has been asked, with or without success.
    #[must_use]
    pub fn has_settled(&self) -> bool {
        self.files.iter().all(FileDiscovery::has_looked)
            && self.asking.iter().all(|asking| asking.provider.has_answered())
    }

    /// What is wrong at present.
    #[must_use]
    pub fn errors(&self) -> Vec<String> {
        let files = self.files.iter().flat_map(FileDiscovery::errors).map(str::to_owned);
        files.chain(self.asking.iter().filter_map(|asking| asking.provider.error())).collect()
    }
}
