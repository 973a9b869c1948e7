//! What discovery says about itself, under Prometheus' names.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use promontory_model::{MetricType, Timestamp};

/// Counts of all mechanisms.
#[derive(Debug, Default)]
pub struct SdMetrics {
    /// Protects the counts, nothing else.
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// By mechanism and the job it was started for.
    refreshes: BTreeMap<(&'static str, String), Refreshes>,
    /// By metric and labels.
    events: BTreeMap<(&'static str, SdLabels), u64>,
}

/// Counts of one mechanism of one job.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Refreshes {
    pub(super) failures: u64,
    pub(super) refreshes: u64,
    pub(super) refresh_seconds: f64,
    /// Refreshes by the least bound of [`DURATIONS`] that they do not exceed; the last are those above all.
    pub(super) by_duration: [u64; DURATIONS.len() + 1],
    pub(super) updates: u64,
    pub(super) delayed: u64,
    pub(super) last_update: Timestamp,
}

/// Bounds of the histogram of durations, s.
const DURATIONS: [f64; 9] = [0.01, 0.1, 1.0, 3.0, 5.0, 10.0, 30.0, 60.0, 120.0];

impl Refreshes {
    /// Notes a refresh that took so long.
    pub(super) fn observe(&mut self, seconds: f64) {
        self.refreshes += 1;
        self.refresh_seconds += seconds;
        self.by_duration[DURATIONS.iter().position(|bound| seconds <= *bound).unwrap_or(DURATIONS.len())] += 1;
    }
}

/// Names and values of labels.
pub type SdLabels = Vec<(&'static str, String)>;

/// What follows the family's name, labels and value.
pub type SdSample = (&'static str, SdLabels, f64);

/// A family of metrics, to be written by whoever serves them.
#[derive(Debug, Clone, PartialEq)]
pub struct SdFamily {
    /// Name.
    pub name: &'static str,
    /// Help text.
    pub help: &'static str,
    /// Type.
    pub kind: MetricType,
    /// Samples.
    pub samples: Vec<SdSample>,
}

/// Counters of particular mechanisms, which exist from the start.
const EVENTS: &[(&str, &str)] = &[
    ("prometheus_sd_http_failures_total", "Number of HTTP service discovery refresh failures."),
    ("prometheus_sd_dns_lookups_total", "The number of DNS-SD lookups."),
    ("prometheus_sd_dns_lookup_failures_total", "The number of DNS-SD lookup failures."),
    ("prometheus_sd_consul_rpc_failures_total", "The number of Consul RPC call failures."),
    ("prometheus_sd_kubernetes_failures_total", "The number of failed WATCH/LIST requests."),
    ("prometheus_sd_kubernetes_events_total", "The number of Kubernetes events handled."),
];

impl SdMetrics {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn update(&self, mechanism: &'static str, job: &str, change: impl FnOnce(&mut Refreshes)) {
        change(self.counts().refreshes.entry((mechanism, job.to_owned())).or_default());
    }

    /// Counts `n` of a counter of [`EVENTS`].
    pub(super) fn count(&self, name: &'static str, labels: SdLabels, n: u64) {
        *self.counts().events.entry((name, labels)).or_default() += n;
    }

    /// All families with their present values; `failed` mechanisms have never succeeded.
    pub(super) fn families(&self, failed: usize) -> Vec<SdFamily> {
        let counts = self.counts();
        let mut out = Vec::new();
        let mut family = |name, help, kind, samples| out.push(SdFamily { name, help, kind, samples });
        let labels = |(mechanism, job): &(&'static str, String)| {
            vec![("mechanism", (*mechanism).to_owned()), ("config", job.clone())]
        };
        let each = |value: fn(&Refreshes) -> f64| {
            counts.refreshes.iter().map(|(key, r)| ("", labels(key), value(r))).collect::<Vec<_>>()
        };
        family(
            "prometheus_sd_refresh_failures_total",
            "Number of refresh failures for the given SD mechanism.",
            MetricType::Counter,
            each(|r| r.failures as f64),
        );
        let lengths = counts.refreshes.iter().flat_map(|(key, r)| {
            [("_sum", labels(key), r.refresh_seconds), ("_count", labels(key), r.refreshes as f64)]
        });
        family(
            "prometheus_sd_refresh_duration_seconds",
            "The duration of a refresh in seconds for the given SD mechanism.",
            MetricType::Summary,
            lengths.collect(),
        );
        let buckets = counts.refreshes.iter().flat_map(|(key, r)| {
            let bounds = DURATIONS.iter().map(|bound| format!("{bound:?}")).chain(["+Inf".to_owned()]);
            let mut below = 0;
            let mut samples: Vec<SdSample> = Vec::new();
            for (bound, n) in bounds.zip(r.by_duration) {
                below += n;
                let mut labels = labels(key);
                labels.push(("le", bound));
                samples.push(("_bucket", labels, below as f64));
            }
            samples.push(("_sum", labels(key), r.refresh_seconds));
            samples.push(("_count", labels(key), r.refreshes as f64));
            samples
        });
        family(
            "prometheus_sd_refresh_duration_histogram_seconds",
            "The duration of a refresh for the given SD mechanism.",
            MetricType::Histogram,
            buckets.collect(),
        );
        family(
            "prometheus_sd_last_update_timestamp_seconds",
            "Timestamp of the last update sent to the SD consumers.",
            MetricType::Gauge,
            each(|r| r.last_update.ms() as f64 / 1000.0),
        );
        let whole = |value: fn(&Refreshes) -> u64| {
            let sum: u64 = counts.refreshes.values().map(value).sum();
            vec![("", vec![("name", "scrape".to_owned())], sum as f64)]
        };
        family(
            "prometheus_sd_received_updates_total",
            "Total number of update events received from the SD providers.",
            MetricType::Counter,
            whole(|r| r.updates),
        );
        family(
            "prometheus_sd_updates_total",
            "Total number of update events sent to the SD consumers.",
            MetricType::Counter,
            whole(|r| r.updates - r.delayed),
        );
        family(
            "prometheus_sd_updates_delayed_total",
            "Total number of update events that couldn't be sent immediately.",
            MetricType::Counter,
            whole(|r| r.delayed),
        );
        family(
            "prometheus_sd_failed_configs",
            "Current number of service discovery configurations that failed to load.",
            MetricType::Gauge,
            vec![("", vec![("name", "scrape".to_owned())], failed as f64)],
        );
        for (name, help) in EVENTS {
            let counted = counts.events.iter().filter(|((known, _), _)| known == name);
            let mut samples: Vec<_> = counted.map(|((_, labels), n)| ("", labels.clone(), *n as f64)).collect();
            if samples.is_empty() && !name.contains("events") {
                samples.push(("", Vec::new(), 0.0));
            }
            family(name, help, MetricType::Counter, samples);
        }
        out
    }
}
