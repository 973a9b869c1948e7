//! Where targets come from: `static_configs` and `file_sd_configs`, and the files of the latter.

use std::path::PathBuf;

use promontory_model::{Duration, Labels};

/// One source of targets of a job.
#[derive(Debug, Clone, PartialEq)]
pub enum Discovery {
    /// `static_configs`: the groups as written.
    Static(Vec<TargetGroup>),
    /// One entry of `file_sd_configs`.
    File(FileSdConfig),
}

/// Addresses that share labels.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TargetGroup {
    /// Values of `__address__`.
    pub targets: Vec<String>,
    /// Labels of all of them.
    pub labels: Labels,
}

/// Targets listed in files that may change at any time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSdConfig {
    /// Paths ending in `.json`, `.yml` or `.yaml`; the last component may hold `*`.
    pub files: Vec<PathBuf>,
    /// How often the files are read anew when no change is seen.
    pub refresh_interval: Duration,
}
