//! Targets: what discovery and relabelling make of an address, and when it is scraped.

use std::path::PathBuf;

use promontory_config::scrape::ScrapeConfig;
use promontory_config::{HistogramModes, relabel};
use promontory_model::labels::Quoted;
use promontory_model::time::DurationError;
use promontory_model::{Duration, Labels, LabelsBuilder};

use crate::client::{Url, UrlError};

const ADDRESS: &str = "__address__";
const SCHEME: &str = "__scheme__";
const METRICS_PATH: &str = "__metrics_path__";
const INTERVAL: &str = "__scrape_interval__";
const TIMEOUT: &str = "__scrape_timeout__";
const NATIVE: &str = "__scrape_native_histograms__";
const ALWAYS_CLASSIC: &str = "__always_scrape_classic_histograms__";
const TO_CUSTOM: &str = "__convert_classic_histograms_to_nhcb__";
const PARAM_PREFIX: &str = "__param_";
const UNIX_SOCKET: &str = "__unix_socket__";
const META_PREFIX: &str = "__meta_";
/// Host of targets that have a socket and no address.
const LOCALHOST: &str = "localhost";
const JOB: &str = "job";
const INSTANCE: &str = "instance";

/// What is scraped, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Labels before relabelling, defaults included.
    pub discovered: Labels,
    /// Labels of its series.
    pub labels: Labels,
    /// Where it is fetched.
    pub url: Url,
    /// The socket on this machine over which it is fetched, whatever the host of `url`.
    pub unix_socket: Option<PathBuf>,
    /// Time between two scrapes.
    pub interval: Duration,
    /// Time that a scrape may take.
    pub timeout: Duration,
    /// How its histograms are taken.
    pub histograms: HistogramModes,
    /// Two targets of one job with equal identities are one; the offset of scrapes follows from it.
    pub identity: u64,
}

/// An address that cannot be scraped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Relabelling left no address.
    #[error("no address")]
    NoAddress,
    /// Address or scheme make no URL.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The interval is no duration.
    #[error("error parsing scrape interval: {0}")]
    Interval(DurationError),
    /// The timeout is no duration.
    #[error("error parsing scrape timeout: {0}")]
    Timeout(DurationError),
    /// A label that says yes or no says neither.
    #[error("error parsing {label} label: strconv.ParseBool: parsing {}: invalid syntax", Quoted(value))]
    Flag {
        /// Label.
        label: &'static str,
        /// Its value.
        value: String,
    },
    /// Scraping without pause.
    #[error("scrape interval cannot be 0")]
    NoInterval,
    /// No time to scrape.
    #[error("scrape timeout cannot be 0")]
    NoTimeout,
    /// Scrapes would overlap.
    #[error("scrape timeout cannot be greater than scrape interval ({} > {})", Quoted(&timeout.to_string()), Quoted(&interval.to_string()))]
    LongTimeout {
        /// Timeout.
        timeout: Duration,
        /// Interval.
        interval: Duration,
    },
}

/// The labels of `address` before relabelling: those of its group and the job's defaults.
#[must_use]
pub fn discovered(address: &str, group: &Labels, config: &ScrapeConfig) -> Labels {
    let mut builder = group.to_builder();
    builder.set(ADDRESS, address);
    let mut default = |name: &str, value: &str| {
        if builder.get(name).is_none() {
            builder.set(name, value);
        }
    };
    default(JOB, &config.job_name);
    default(INTERVAL, &config.scrape_interval.to_string());
    default(TIMEOUT, &config.scrape_timeout.to_string());
    default(METRICS_PATH, &config.metrics_path);
    default(SCHEME, config.scheme.as_str());
    default(NATIVE, yes_or_no(config.histograms.native));
    default(ALWAYS_CLASSIC, yes_or_no(config.histograms.always_classic));
    default(TO_CUSTOM, yes_or_no(config.histograms.to_custom));
    for (name, values) in &config.params {
        if let Some(first) = values.first() {
            default(&format!("{PARAM_PREFIX}{name}"), first);
        }
    }
    builder.build()
}

fn yes_or_no(flag: bool) -> &'static str {
    if flag { "true" } else { "false" }
}

/// What a label says, as Go reads it; one that is gone says what the job says.
fn flag(labels: &LabelsBuilder, label: &'static str, default: bool) -> Result<bool, TargetError> {
    match labels.get(label) {
        None => Ok(default),
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(value) => Err(TargetError::Flag { label, value: value.to_owned() }),
    }
}

impl Target {
    /// The target with these discovered labels; `None` if relabelling drops it.
    ///
    /// # Errors
    /// [`TargetError`] if what relabelling left cannot be scraped.
    pub fn new(discovered: &Labels, config: &ScrapeConfig) -> Result<Option<Self>, TargetError> {
        Ok(Self::with_all_labels(discovered, config)?.map(|(target, _)| target))
    }

    /// The same, with all labels that relabelling left, those that say how it is scraped included.
    ///
    /// # Errors
    /// As [`Target::new`].
    pub fn with_all_labels(discovered: &Labels, config: &ScrapeConfig) -> Result<Option<(Self, Labels)>, TargetError> {
        let mut builder = discovered.to_builder();
        if !relabel::process_builder(&mut builder, &config.relabel_configs) || builder.iter().next().is_none() {
            return Ok(None);
        }
        let socket = builder.get(UNIX_SOCKET).filter(|path| !path.is_empty()).map(str::to_owned);
        let (address, instance) = match (builder.get(ADDRESS), &socket) {
            (Some(address), _) => (address.to_owned(), address.to_owned()),
            (None, Some(path)) => (LOCALHOST.to_owned(), path.clone()),
            (None, None) => return Err(TargetError::NoAddress),
        };
        let part = |name: &str| builder.get(name).unwrap_or_default();
        let interval = Duration::parse(part(INTERVAL)).map_err(TargetError::Interval)?;
        if interval.ms() <= 0 {
            return Err(TargetError::NoInterval);
        }
        let timeout = Duration::parse(part(TIMEOUT)).map_err(TargetError::Timeout)?;
        if timeout.ms() <= 0 {
            return Err(TargetError::NoTimeout);
        }
        if timeout > interval {
            return Err(TargetError::LongTimeout { timeout, interval });
        }
        let of_job = config.histograms;
        let histograms = HistogramModes {
            native: flag(&builder, NATIVE, of_job.native)?,
            always_classic: flag(&builder, ALWAYS_CLASSIC, of_job.always_classic)?,
            to_custom: flag(&builder, TO_CUSTOM, of_job.to_custom)?,
        };
        let url = Url::new(part(SCHEME), &address, part(METRICS_PATH), &params(config, &builder))?;
        if builder.get(INSTANCE).is_none() {
            builder.set(INSTANCE, &instance);
        }
        builder.retain(|name| !name.starts_with(META_PREFIX));
        let all = builder.build();
        let mut identity = Fnv1a::new();
        // How it is scraped does not make it another target.
        identity.write(all.without(&[INTERVAL, TIMEOUT, NATIVE, ALWAYS_CLASSIC, TO_CUSTOM]).as_bytes());
        identity.write(url.to_string().as_bytes());
        let labels = all.filtered(|name| !name.starts_with("__"));
        let target = Self {
            discovered: discovered.clone(),
            labels,
            url,
            unix_socket: socket.map(PathBuf::from),
            interval,
            timeout,
            histograms,
            identity: identity.0,
        };
        Ok(Some((target, all)))
    }
}

/// The job's parameters with the first value of each replaced by what relabelling made of it.
fn params(config: &ScrapeConfig, labels: &LabelsBuilder) -> Vec<(String, Vec<String>)> {
    let mut params = config.params.clone();
    for (label, value) in labels.iter() {
        let Some(name) = label.strip_prefix(PARAM_PREFIX) else { continue };
        match params.binary_search_by(|(n, _)| n.as_str().cmp(name)) {
            Ok(i) => match params[i].1.first_mut() {
                Some(first) => value.clone_into(first),
                None => params[i].1.push(value.to_owned()),
            },
            Err(i) => params.insert(i, (name.to_owned(), vec![value.to_owned()])),
        }
    }
    params
}

/// FNV-1a with 64 bits: the same on every machine and in every run, so that phases survive restarts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fnv1a(pub(crate) u64);

impl Fnv1a {
    pub(crate) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

/// The instants at which a target is due: equally spaced on the wall clock, shifted by what is particular to the
/// target, so that neither restarts nor reloads change them and targets do not all come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grid {
    interval_ms: i64,
    offset_ms: i64,
}

/// Lateness that is not worth an irregular timestamp, in ms; also at most one hundredth of the interval.
const TOLERANCE_MS: i64 = 2;

impl Grid {
    pub(crate) fn new(interval: Duration, identity: u64, seed: u64) -> Self {
        let interval_ms = interval.ms().max(1);
        let offset = (identity ^ seed) % interval_ms.unsigned_abs();
        Self { interval_ms, offset_ms: i64::try_from(offset).unwrap_or(0) }
    }

    /// The first instant at or after `now`.
    pub(crate) fn first_from(self, now: i64) -> i64 {
        let since = (now - self.offset_ms).rem_euclid(self.interval_ms);
        if since == 0 { now } else { now + self.interval_ms - since }
    }

    /// The instant after `due`, when it is `now`: a late one is made up for at once, missed ones are left out.
    pub(crate) fn after(self, due: i64, now: i64) -> i64 {
        let next = due + self.interval_ms;
        if now < due - self.interval_ms {
            // The clock was set back.
            return self.first_from(now);
        }
        let missed = ((now - next) / self.interval_ms).max(0);
        next + missed * self.interval_ms
    }

    /// The timestamp of a scrape that was due at `due` and starts at `now`.
    pub(crate) fn timestamp(self, due: i64, now: i64) -> i64 {
        let tolerance = TOLERANCE_MS.min(self.interval_ms / 100);
        if (0..=tolerance).contains(&(now - due)) { due } else { now }
    }
}

#[cfg(test)]
mod tests {
    use promontory_config::relabel::{Action, RelabelConfig};
    use promontory_model::Regex;

    use super::*;
    use crate::scrape::testing::scrape_config;

    #[track_caller]
    fn check(config: &ScrapeConfig, group: &[(&str, &str)], expected: &str) {
        let labels = discovered("h:1", &Labels::from_pairs(group.iter().copied()), config);
        let got = match Target::new(&labels, config) {
            Ok(Some(t)) => format!("{} {} {} {}", t.url, t.labels, t.interval, t.timeout),
            Ok(None) => "dropped".to_owned(),
            Err(e) => e.to_string(),
        };
        assert_eq!(got, expected);
    }

    fn set(target_label: &str, replacement: &str) -> RelabelConfig {
        RelabelConfig {
            target_label: target_label.to_owned(),
            replacement: replacement.to_owned(),
            ..RelabelConfig::new()
        }
    }

    #[test]
    fn labels_make_the_target() {
        let mut config = scrape_config("j");
        check(&config, &[], r#"http://h:1/metrics {instance="h:1", job="j"} 15s 10s"#);
        check(
            &config,
            &[("job", "own"), ("__meta_x", "y"), ("__scheme__", "https"), ("__metrics_path__", "/m"), ("__tmp", "t")],
            r#"https://h:1/m {instance="h:1", job="own"} 15s 10s"#,
        );
        config.params = vec![("module".to_owned(), vec!["a".to_owned(), "b".to_owned()])];
        check(&config, &[], r#"http://h:1/metrics?module=a&module=b {instance="h:1", job="j"} 15s 10s"#);
        config.relabel_configs = vec![set("__param_module", "x"), set("__param_target", "t"), set("instance", "i")];
        check(&config, &[], r#"http://h:1/metrics?module=x&module=b&target=t {instance="i", job="j"} 15s 10s"#);
        config.relabel_configs = vec![set("__scrape_interval__", "1m"), set("__scrape_timeout__", "30s")];
        check(&config, &[], r#"http://h:1/metrics?module=a&module=b {instance="h:1", job="j"} 1m 30s"#);
    }

    #[test]
    fn a_socket_needs_no_address() {
        let mut config = scrape_config("j");
        config.relabel_configs = vec![set("__unix_socket__", "/run/x.sock"), set("__address__", "")];
        check(&config, &[], r#"http://localhost/metrics {instance="/run/x.sock", job="j"} 15s 10s"#);
        config.relabel_configs.pop();
        check(&config, &[], r#"http://h:1/metrics {instance="h:1", job="j"} 15s 10s"#);
        let target = Target::new(&discovered("h:1", &Labels::empty(), &config), &config).unwrap().unwrap();
        assert_eq!(target.unix_socket, Some("/run/x.sock".into()));
    }

    #[test]
    fn what_cannot_be_scraped_says_why() {
        let with = |relabel| ScrapeConfig { relabel_configs: vec![relabel], ..scrape_config("j") };
        check(&with(set("__address__", "")), &[], "no address");
        check(&with(set("__address__", "http://h")), &[], "\"http://h\" is not a valid hostname");
        check(&with(set("__scheme__", "ftp")), &[], "unsupported protocol scheme \"ftp\"");
        check(&with(set("__scrape_interval__", "0")), &[], "scrape interval cannot be 0");
        check(&with(set("__scrape_timeout__", "0s")), &[], "scrape timeout cannot be 0");
        check(
            &with(set("__scrape_timeout__", "1m")),
            &[],
            "scrape timeout cannot be greater than scrape interval (\"1m\" > \"15s\")",
        );
        check(
            &with(set("__scrape_interval__", "x")),
            &[],
            "error parsing scrape interval: not a valid duration string: \"x\"",
        );
        check(
            &with(set("__scrape_native_histograms__", "yes")),
            &[],
            "error parsing __scrape_native_histograms__ label: strconv.ParseBool: parsing \"yes\": invalid syntax",
        );
        let drop = RelabelConfig { action: Action::Drop, regex: Regex::new(".*").unwrap(), ..RelabelConfig::new() };
        check(&with(drop), &[], "dropped");
    }

    #[test]
    fn scrapes_are_due_on_an_absolute_grid() {
        let grid = Grid::new(Duration(15_000), 20_000, 0);
        assert_eq!(grid.first_from(0), 5_000);
        assert_eq!(grid.first_from(5_000), 5_000);
        assert_eq!(grid.first_from(5_001), 20_000);
        assert_eq!(grid.after(5_000, 5_100), 20_000);
        assert_eq!(grid.after(5_000, 20_003), 20_000);
        assert_eq!(grid.after(5_000, 36_000), 35_000);
        assert_eq!(grid.after(1_000_005_000, 7_000), 20_000);
        assert_eq!(grid.timestamp(5_000, 5_002), 5_000);
        assert_eq!(grid.timestamp(5_000, 5_003), 5_003);
        assert_eq!(Grid::new(Duration(100), 0, 0).timestamp(0, 2), 2);
    }

    #[test]
    fn seed_shifts_the_grid() {
        let grid = |seed| Grid::new(Duration(60_000), 123_456, seed).first_from(0);
        assert_ne!(grid(0), grid(99_999));
    }
}
