//! YAML to validated configuration: `prometheus.yml` as Prometheus 3.14 reads it.
//!
//! Every value that leaves this package is validated, with defaults filled in and relative paths resolved against
//! the file's folder. All errors of a file are reported at once, each with line, column and field. A field that
//! Prometheus knows and this server does not build yet is an error, never ignored. Nothing here opens a connection
//! or knows a clock; files are read by [`load`] and [`fingerprint`], and where a text is `${file:…}`.

pub mod cardinality;
pub mod credentials;
pub mod dashboards;
pub mod discovery;
pub mod error;
pub mod global;
pub mod http_client;
pub mod kubeconfig;
pub mod otlp;
pub mod relabel;
pub mod remote;
pub mod rules;
pub mod scrape;
pub mod sections;
pub mod storage;
pub mod web;

mod decode;
mod expand;
mod md5;
mod print;
mod yaml;

use std::io::Read as _;
use std::path::{Path, PathBuf};

pub use cardinality::{CardinalityConfig, JobCardinality};
pub use dashboards::DashboardsConfig;
pub use discovery::{Discovery, FileSdConfig, TargetGroup};
pub use error::{ConfigError, ConfigErrors, Position, Problem};
pub use global::Global;
pub use http_client::HttpClientConfig;
pub use otlp::OtlpConfig;
pub use print::print_bytes;
pub use relabel::RelabelConfig;
pub use remote::{RemoteReadConfig, RemoteWriteConfig};
pub use scrape::{HistogramModes, ScrapeConfig, ScrapeLimits, ScrapeProtocol};
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
    /// `scrape_configs`, in the order of the file, then those of `scrape_config_files`; job names are unique.
    pub scrape_configs: Vec<ScrapeConfig>,
    /// `scrape_config_files`: paths whose last component may hold `*`. [`load`] has read them.
    pub scrape_config_files: Vec<PathBuf>,
    /// `storage`.
    pub storage: StorageConfig,
    /// `otlp`.
    pub otlp: OtlpConfig,
    /// `remote_write`, in the order of the file; names are unique.
    pub remote_write: Vec<RemoteWriteConfig>,
    /// `remote_read`, in the order of the file; names are unique.
    pub remote_read: Vec<RemoteReadConfig>,
    /// `cardinality`.
    pub cardinality: CardinalityConfig,
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

/// Reads the configuration file at `path` and the files with jobs that it names; variables in external labels come
/// from the process's environment.
///
/// # Errors
/// All that is wrong with the file, or else with the files that it names.
pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
    let mut config = parse(&read_file(path)?, path)?;
    let mut errors = Vec::new();
    for pattern in config.scrape_config_files.clone() {
        match matching_files(&pattern) {
            Ok(files) => {
                for file in files {
                    errors.extend(add_jobs(&mut config, &file).err().into_iter().flat_map(|e| e.0));
                }
            }
            Err(e) => errors.extend(e.0),
        }
    }
    if errors.is_empty() { Ok(config) } else { Err(ConfigErrors(errors)) }
}

/// Reads a file with nothing but the settings of an HTTP client, as `promtool --http.config.file` takes it.
///
/// # Errors
/// All that is wrong with it.
pub fn load_http_client(path: &Path) -> Result<HttpClientConfig, ConfigErrors> {
    let mut http = HttpClientConfig::default();
    let env = |name: &str| std::env::var(name).ok();
    read_document(&read_file(path)?, path, &env, |decoder, node| {
        let Some(fields) = decoder.root(node).fields() else { return };
        http = http_client::read(&fields);
        fields.finish(&[]);
    })?;
    Ok(http)
}

/// A number that changes when the configuration file or one that `patterns`, its `scrape_config_files`, stand for
/// changes, comes or goes. A file that cannot be read counts as empty.
#[must_use]
pub fn fingerprint(path: &Path, patterns: &[PathBuf]) -> u64 {
    use std::hash::{Hash, Hasher};
    let mut hasher = std::hash::DefaultHasher::new();
    let matching = patterns.iter().flat_map(|pattern| matching_files(pattern).unwrap_or_default());
    for file in std::iter::once(path.to_owned()).chain(matching) {
        file.hash(&mut hasher);
        read_file(&file).unwrap_or_default().hash(&mut hasher);
    }
    hasher.finish()
}

fn whole_file(file: &Path, problem: Problem) -> ConfigErrors {
    ConfigErrors(vec![ConfigError { file: file.to_owned(), position: None, field: String::new(), problem }])
}

fn read_file(path: &Path) -> Result<String, ConfigErrors> {
    read_text(path, CONFIG_BYTES_MAX).map_err(|problem| whole_file(path, problem))
}

/// The text at `path`, of which no more than `max` bytes are read, whatever its length is said to be.
fn read_text(path: &Path, max: u64) -> Result<String, Problem> {
    let failed = |e: std::io::Error| Problem::Read(e.to_string());
    let file = std::fs::File::open(path).map_err(failed)?;
    let said = file.metadata().map_err(failed)?.len();
    if said > max {
        return Err(Problem::TooLarge { bytes: said, max });
    }
    let mut text = String::new();
    file.take(max + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > max {
        return Err(Problem::TooLarge { bytes: text.len() as u64, max });
    }
    Ok(text)
}

/// The files that `pattern` stands for, sorted. One without `*` stands for itself, and must be there.
fn matching_files(pattern: &Path) -> Result<Vec<PathBuf>, ConfigErrors> {
    let name = pattern.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let Some((start, end)) = name.split_once('*') else { return Ok(vec![pattern.to_owned()]) };
    let folder = pattern.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(whole_file(folder, Problem::Read(e.to_string()))),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| whole_file(folder, Problem::Read(e.to_string())))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let rest = name.strip_prefix(start).and_then(|rest| rest.strip_suffix(end));
        // As in a shell, `*` alone does not stand for a leading dot.
        if rest.is_some() && (!start.is_empty() || !name.starts_with('.')) {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// Adds the jobs in `file`, which holds nothing else.
fn add_jobs(config: &mut Config, file: &Path) -> Result<(), ConfigErrors> {
    let text = read_file(file)?;
    let warnings = read_expanded(&text, file, &|name| std::env::var(name).ok(), |decoder, node| {
        let Some(fields) = decoder.root(node).fields() else { return };
        if let Some(jobs) = fields.get("scrape_configs") {
            scrape::read(&jobs, config);
        }
        fields.finish(&[]);
    })?;
    config.warnings.extend(warnings);
    Ok(())
}

/// Reads a configuration from `text`; `file` names it in errors and gives the folder of relative paths. Other files
/// are not read, not even those of `scrape_config_files`.
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
    let warnings = read_expanded(text, file, env, |decoder, node| sections::read(&decoder.root(node), &mut config))?;
    config.warnings = warnings;
    Ok(config)
}

/// [`read_document`] with the variables in its texts replaced.
fn read_expanded(
    text: &str,
    file: &Path,
    env: Env<'_>,
    read: impl FnOnce(&Decoder<'_>, &Node),
) -> Result<Vec<String>, ConfigErrors> {
    let values = expand::Values { env, folder: folder_of(file) };
    read_with(text, file, env, Some(&values), read)
}

/// Lets `read` decode the document `text`; answers the warnings or, sorted by place, all that is wrong.
fn read_document(
    text: &str,
    file: &Path,
    env: Env<'_>,
    read: impl FnOnce(&Decoder<'_>, &Node),
) -> Result<Vec<String>, ConfigErrors> {
    read_with(text, file, env, None, read)
}

fn folder_of(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new(""))
}

fn read_with(
    text: &str,
    file: &Path,
    env: Env<'_>,
    values: Option<&expand::Values<'_>>,
    read: impl FnOnce(&Decoder<'_>, &Node),
) -> Result<Vec<String>, ConfigErrors> {
    let error = |position, field, problem| ConfigError { file: file.to_owned(), position, field, problem };
    let mut document =
        yaml::parse(text).map_err(|(at, problem)| ConfigErrors(vec![error(at, String::new(), problem)]))?;
    let decoder = Decoder::new(folder_of(file), env);
    for (id, problem) in document.problems {
        decoder.note(id, String::new(), problem);
    }
    let mut without_value = Vec::new();
    if let Some(values) = values {
        expand::expand(&mut document.root, "", values, &mut |id, field, why| {
            without_value.push(id);
            decoder.note(id, field, Problem::Rule(why));
        });
    }
    let n_before = decoder.n_problems();
    read(&decoder, &document.root);
    let (mut found, warnings) = decoder.into_problems(text);
    if found.is_empty() {
        return Ok(warnings);
    }
    // What is wrong with a text whose variables have no value is that.
    let mut place = 0;
    found.retain(|f| {
        place += 1;
        place <= n_before || !without_value.contains(&f.id)
    });
    found.sort_by_key(|f| f.id);
    let errors = found.into_iter().map(|f| error(yaml::locate(text, f.id), f.field, f.problem));
    Err(ConfigErrors(errors.collect()))
}

#[cfg(test)]
mod tests;
