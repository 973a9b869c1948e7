//! YAML to validated configuration: `prometheus.yml` as Prometheus 3.14 reads it.
//!
//! Every value that leaves this package is validated, with defaults filled in and relative paths resolved against
//! the file's folder. All errors of a file are reported at once, each with line, column and field. A field that
//! Prometheus knows and this server does not build yet is an error, never ignored. Nothing here opens a connection
//! or knows a clock; [`load`] alone reads a file.

pub mod dashboards;
pub mod discovery;
pub mod error;
pub mod global;
pub mod http_client;
pub mod relabel;
pub mod scrape;
pub mod sections;
pub mod storage;

mod decode;
mod md5;
mod print;
mod yaml;

use std::path::Path;

pub use dashboards::DashboardsConfig;
pub use discovery::{Discovery, FileSdConfig, TargetGroup};
pub use error::{ConfigError, ConfigErrors, Position, Problem};
pub use global::Global;
pub use http_client::HttpClientConfig;
pub use relabel::RelabelConfig;
pub use scrape::{ScrapeConfig, ScrapeLimits, ScrapeProtocol};
pub use storage::StorageConfig;

use decode::{Decoder, Env};
use yaml::Node;

/// Bytes of one configuration file.
pub const CONFIG_BYTES_MAX: u64 = 16 << 20;

/// A whole configuration file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Config {
    /// `global`.
    pub global: Global,
    /// `scrape_configs`, in the order of the file; job names are unique.
    pub scrape_configs: Vec<ScrapeConfig>,
    /// `storage`.
    pub storage: StorageConfig,
    /// `dashboards`.
    pub dashboards: DashboardsConfig,
    /// What is strange in the file but no error; to be logged.
    pub warnings: Vec<String>,
}

impl Config {
    /// The effective configuration with defaults filled in and secrets masked, as `/api/v1/status/config` shows it.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        print::to_yaml(self)
    }
}

/// Reads the configuration file at `path`; variables in external labels come from the process's environment.
///
/// # Errors
/// All that is wrong with it.
pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
    let whole = |problem| {
        ConfigErrors(vec![ConfigError { file: path.to_owned(), position: None, field: String::new(), problem }])
    };
    let bytes = std::fs::metadata(path).map_err(|e| whole(Problem::Read(e.to_string())))?.len();
    if bytes > CONFIG_BYTES_MAX {
        return Err(whole(Problem::TooLarge { bytes, max: CONFIG_BYTES_MAX }));
    }
    let text = std::fs::read_to_string(path).map_err(|e| whole(Problem::Read(e.to_string())))?;
    parse(&text, path)
}

/// Reads a configuration from `text`; `file` names it in errors and gives the folder of relative paths.
///
/// # Errors
/// All that is wrong with it.
pub fn parse(text: &str, file: &Path) -> Result<Config, ConfigErrors> {
    parse_with_env(text, file, &|name| std::env::var(name).ok())
}

/// [`parse`] with another environment.
///
/// # Errors
/// All that is wrong with the text.
pub fn parse_with_env(text: &str, file: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, ConfigErrors> {
    let mut config = Config::default();
    let warnings = read_document(text, file, env, |decoder, node| sections::read(&decoder.root(node), &mut config))?;
    config.warnings = warnings;
    Ok(config)
}

/// Lets `read` decode the document `text`; answers the warnings or, sorted by place, all that is wrong.
fn read_document(
    text: &str,
    file: &Path,
    env: Env<'_>,
    read: impl FnOnce(&Decoder<'_>, &Node),
) -> Result<Vec<String>, ConfigErrors> {
    let error = |position, field, problem| ConfigError { file: file.to_owned(), position, field, problem };
    let document = yaml::parse(text).map_err(|(at, problem)| ConfigErrors(vec![error(at, String::new(), problem)]))?;
    let decoder = Decoder::new(file.parent().unwrap_or(Path::new("")), env);
    for (id, problem) in document.problems {
        decoder.note(id, String::new(), problem);
    }
    read(&decoder, &document.root);
    let (mut found, warnings) = decoder.into_problems();
    if found.is_empty() {
        return Ok(warnings);
    }
    found.sort_by_key(|f| f.id);
    let errors = found.into_iter().map(|f| error(yaml::locate(text, f.id), f.field, f.problem));
    Err(ConfigErrors(errors.collect()))
}

#[cfg(test)]
mod tests;
