//! Where targets come from: fixed lists and files that may change.
//!
//! Sources are asked, they do not call: [`JobDiscovery::poll`] looks whether something changed, and
//! [`JobDiscovery::groups`] shows all that is known. A source that fails keeps what it had.

mod file;

use promontory_config::{Discovery, TargetGroup};
use promontory_model::Timestamp;

use file::FileDiscovery;

/// The sources of one job's targets.
#[derive(Debug)]
pub struct JobDiscovery {
    fixed: Vec<TargetGroup>,
    files: Vec<FileDiscovery>,
}

/// What a look at the sources found.
#[derive(Debug, Default)]
pub struct Polled {
    /// Whether the groups are others than before.
    pub is_changed: bool,
    /// What failed now.
    pub errors: Vec<String>,
}

impl JobDiscovery {
    /// The sources of `configs`; files have not been read yet.
    #[must_use]
    pub fn new(configs: &[Discovery]) -> Self {
        let mut discovery = Self { fixed: Vec::new(), files: Vec::new() };
        for config in configs {
            match config {
                Discovery::Static(groups) => discovery.fixed.extend(groups.iter().cloned()),
                Discovery::File(config) => discovery.files.push(FileDiscovery::new(config.clone())),
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
        polled
    }

    /// All groups.
    pub fn groups(&self) -> impl Iterator<Item = &TargetGroup> {
        self.fixed.iter().chain(self.files.iter().flat_map(FileDiscovery::groups))
    }

    /// What is wrong at present.
    #[must_use]
    pub fn errors(&self) -> Vec<String> {
        self.files.iter().flat_map(FileDiscovery::errors).map(str::to_owned).collect()
    }
}
