//! Counters of one destination, and the figures that are made of those of all: Prometheus' names, and a few of our own.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use promontory_storage::FedValue;

use super::message::Counts;
use crate::telemetry::{Figures, Labelled};

/// Numbers of one destination.
#[derive(Debug, Default)]
pub(super) struct Stats {
    came_samples: AtomicU64,
    came_histograms: AtomicU64,
    came_exemplars: AtomicU64,
    sent: PerKind,
    failed: PerKind,
    retried: PerKind,
    pending: PerKind,
    metadata_sent: AtomicU64,
    metadata_failed: AtomicU64,
    metadata_retried: AtomicU64,
    bytes: AtomicU64,
    metadata_bytes: AtomicU64,
    lost: AtomicU64,
    /// Segment of the log that is read.
    segment: AtomicU64,
    too_old: AtomicU64,
    relabelled_away: AtomicU64,
    by_time: AtomicU64,
    requests: AtomicU64,
    request_ns: AtomicU64,
    newest: AtomicI64,
    newest_sent: AtomicI64,
    behind_bytes: AtomicU64,
    catching_up: AtomicBool,
    shards: AtomicU64,
    shards_desired: AtomicU64,
}

#[derive(Debug, Default)]
struct PerKind {
    samples: AtomicU64,
    histograms: AtomicU64,
    exemplars: AtomicU64,
}

impl PerKind {
    fn add(&self, counts: Counts) {
        add(&self.samples, counts.samples);
        add(&self.histograms, counts.histograms);
        add(&self.exemplars, counts.exemplars);
    }

    fn set(&self, counts: Counts) {
        self.samples.store(counts.samples, Ordering::Relaxed);
        self.histograms.store(counts.histograms, Ordering::Relaxed);
        self.exemplars.store(counts.exemplars, Ordering::Relaxed);
    }
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

fn get(counter: &AtomicU64) -> f64 {
    counter.load(Ordering::Relaxed) as f64
}

fn seconds(ms: &AtomicI64) -> f64 {
    ms.load(Ordering::Relaxed) as f64 / 1000.0
}

impl Stats {
    pub(super) fn came(&self, value: &FedValue) {
        match value {
            FedValue::Float(_) => add(&self.came_samples, 1),
            FedValue::Histogram(_) => add(&self.came_histograms, 1),
        }
    }

    pub(super) fn came_exemplar(&self) {
        add(&self.came_exemplars, 1);
    }

    pub(super) fn came_by_time(&self, n: u64) {
        add(&self.by_time, n);
    }

    pub(super) fn lost(&self, n: u64) {
        add(&self.lost, n);
    }

    pub(super) fn too_old(&self) {
        add(&self.too_old, 1);
    }

    pub(super) fn relabelled_away(&self) {
        add(&self.relabelled_away, 1);
    }

    pub(super) fn pending(&self, counts: Counts) {
        self.pending.set(counts);
    }

    pub(super) fn sent(&self, counts: Counts, newest: i64) {
        self.sent.add(counts);
        self.newest_sent.fetch_max(newest, Ordering::Relaxed);
    }

    pub(super) fn failed(&self, counts: Counts) {
        self.failed.add(counts);
    }

    pub(super) fn retried(&self, counts: Counts) {
        self.retried.add(counts);
    }

    pub(super) fn requested(&self, bytes: usize, took: Duration) {
        add(&self.bytes, bytes as u64);
        add(&self.requests, 1);
        add(&self.request_ns, u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(super) fn metadata_sent(&self, n: usize, bytes: usize) {
        add(&self.metadata_sent, n as u64);
        add(&self.metadata_bytes, bytes as u64);
    }

    pub(super) fn metadata_failed(&self, n: usize) {
        add(&self.metadata_failed, n as u64);
    }

    pub(super) fn metadata_retried(&self, n: usize) {
        add(&self.metadata_retried, n as u64);
    }

    pub(super) fn set_newest(&self, t: i64) {
        self.newest.store(t, Ordering::Relaxed);
    }

    pub(super) fn set_segment(&self, segment: u64) {
        self.segment.store(segment, Ordering::Relaxed);
    }

    pub(super) fn set_behind(&self, bytes: u64, by_time: Option<(i64, i64)>) {
        self.behind_bytes.store(bytes, Ordering::Relaxed);
        self.catching_up.store(by_time.is_some(), Ordering::Relaxed);
    }

    pub(super) fn set_shards(&self, shards: usize, desired: usize) {
        self.shards.store(shards as u64, Ordering::Relaxed);
        self.shards_desired.store(desired as u64, Ordering::Relaxed);
    }
}

/// A destination as its figures name it, with what does not change.
pub(super) struct Named<'a> {
    pub(super) name: &'a str,
    pub(super) url: &'a str,
    pub(super) stats: &'a Stats,
    pub(super) capacity: u64,
    pub(super) shards_min: u64,
    pub(super) shards_max: u64,
    pub(super) max_samples_per_send: u64,
}

type Value = fn(&Named<'_>) -> f64;

const COUNTERS: &[(&str, &str, Value)] = &[
    ("prometheus_remote_storage_samples_total", "Samples sent", |n| get(&n.stats.sent.samples)),
    ("prometheus_remote_storage_histograms_total", "Native histograms sent", |n| get(&n.stats.sent.histograms)),
    ("prometheus_remote_storage_exemplars_total", "Exemplars sent", |n| get(&n.stats.sent.exemplars)),
    ("prometheus_remote_storage_metadata_total", "Metric families of which metadata were sent", |n| {
        get(&n.stats.metadata_sent)
    }),
    ("prometheus_remote_storage_samples_failed_total", "Samples that the destination refused for good", |n| {
        get(&n.stats.failed.samples)
    }),
    ("prometheus_remote_storage_histograms_failed_total", "Native histograms that were refused for good", |n| {
        get(&n.stats.failed.histograms)
    }),
    ("prometheus_remote_storage_exemplars_failed_total", "Exemplars that were refused for good", |n| {
        get(&n.stats.failed.exemplars)
    }),
    ("prometheus_remote_storage_metadata_failed_total", "Metric families of which metadata were refused", |n| {
        get(&n.stats.metadata_failed)
    }),
    ("prometheus_remote_storage_samples_retried_total", "Samples of requests that were repeated", |n| {
        get(&n.stats.retried.samples)
    }),
    ("prometheus_remote_storage_histograms_retried_total", "Native histograms of requests that were repeated", |n| {
        get(&n.stats.retried.histograms)
    }),
    ("prometheus_remote_storage_exemplars_retried_total", "Exemplars of requests that were repeated", |n| {
        get(&n.stats.retried.exemplars)
    }),
    ("prometheus_remote_storage_metadata_retried_total", "Metric families of requests that were repeated", |n| {
        get(&n.stats.metadata_retried)
    }),
    ("prometheus_remote_storage_bytes_total", "Compressed bytes of samples sent, repetitions included", |n| {
        get(&n.stats.bytes)
    }),
    ("prometheus_remote_storage_metadata_bytes_total", "Compressed bytes of metadata sent", |n| {
        get(&n.stats.metadata_bytes)
    }),
    ("promontory_remote_write_by_time_samples_total", "Samples read from the store by time: the log was gone", |n| {
        get(&n.stats.by_time)
    }),
    ("prometheus_remote_storage_enqueue_retries_total", "Always 0: the log is the queue, which is never full", |_| 0.0),
    ("promontory_remote_write_lost_records_total", "Records of the log that were damaged before they were sent", |n| {
        get(&n.stats.lost)
    }),
];

const GAUGES: &[(&str, &str, Value)] = &[
    ("prometheus_remote_storage_samples_pending", "Samples read and not sent yet", |n| get(&n.stats.pending.samples)),
    ("prometheus_remote_storage_histograms_pending", "Native histograms read and not sent yet", |n| {
        get(&n.stats.pending.histograms)
    }),
    ("prometheus_remote_storage_exemplars_pending", "Exemplars read and not sent yet", |n| {
        get(&n.stats.pending.exemplars)
    }),
    ("prometheus_remote_storage_shards", "Requests that may be under way at once", |n| get(&n.stats.shards)),
    ("prometheus_remote_storage_shards_desired", "Requests that should be under way at once", |n| {
        get(&n.stats.shards_desired)
    }),
    ("prometheus_remote_storage_shards_min", "Least number of shards", |n| n.shards_min as f64),
    ("prometheus_remote_storage_shards_max", "Greatest number of shards", |n| n.shards_max as f64),
    ("prometheus_remote_storage_shard_capacity", "Samples that may wait per shard", |n| n.capacity as f64),
    ("prometheus_remote_storage_max_samples_per_send", "Samples of one request", |n| n.max_samples_per_send as f64),
    (
        "prometheus_remote_storage_queue_highest_timestamp_seconds",
        "Newest time of samples that were read for the destination",
        |n| seconds(&n.stats.newest),
    ),
    (
        "prometheus_remote_storage_queue_highest_sent_timestamp_seconds",
        "Newest time of samples that the destination has",
        |n| seconds(&n.stats.newest_sent),
    ),
    ("promontory_remote_write_behind_bytes", "Bytes of the log that were not read for the destination yet", |n| {
        get(&n.stats.behind_bytes)
    }),
    ("promontory_remote_write_catching_up", "Whether samples are read from the store by time", |n| {
        f64::from(u8::from(n.stats.catching_up.load(Ordering::Relaxed)))
    }),
];

/// The figures of all destinations; `newest` is the newest time in the store, in ms.
pub(super) fn figures(all: &[Named<'_>], newest: Option<i64>) -> Vec<Figures> {
    if all.is_empty() {
        return Vec::new();
    }
    let labels = |named: &Named<'_>| vec![("remote_name", named.name.to_owned()), ("url", named.url.to_owned())];
    let family = |figures: fn(&'static str, &'static str, f64) -> Figures, name, help, value: Value| {
        let of = |named: &Named<'_>| Labelled { suffix: "", labels: labels(named), value: value(named) };
        Figures { values: all.iter().map(of).collect(), ..figures(name, help, 0.0) }
    };
    let mut out: Vec<Figures> = Vec::new();
    out.extend(COUNTERS.iter().map(|(name, help, value)| family(Figures::counter, name, help, *value)));
    out.extend(GAUGES.iter().map(|(name, help, value)| family(Figures::gauge, name, help, *value)));
    let consumer = |named: &Named<'_>| Labelled {
        suffix: "",
        labels: vec![("consumer", named.name.to_owned())],
        value: get(&named.stats.segment),
    };
    let (name, help) =
        ("prometheus_wal_watcher_current_segment", "Segment of the log that is read for the destination");
    out.push(Figures { values: all.iter().map(consumer).collect(), ..Figures::gauge(name, help, 0.0) });
    let reasons: [(&str, Value); 2] =
        [("dropped_series", |n| get(&n.stats.relabelled_away)), ("too_old", |n| get(&n.stats.too_old))];
    let dropped = all.iter().flat_map(|named| {
        reasons.iter().map(move |(reason, value)| {
            let mut labels = labels(named);
            labels.push(("reason", (*reason).to_owned()));
            Labelled { suffix: "", labels, value: value(named) }
        })
    });
    let help = "Samples that were not sent because of relabelling or their age";
    let dropped = dropped.collect();
    out.push(Figures {
        values: dropped,
        ..Figures::counter("prometheus_remote_storage_samples_dropped_total", help, 0.0)
    });
    let durations = all.iter().flat_map(|named| {
        let value = |suffix, value| Labelled { suffix, labels: labels(named), value };
        let (sum, count) = (get(&named.stats.request_ns) / 1e9, get(&named.stats.requests));
        [value("_sum", sum), value("_count", count)]
    });
    out.push(Figures {
        name: "prometheus_remote_storage_sent_batch_duration_seconds",
        help: "Time that requests with samples took",
        kind: promontory_model::MetricType::Summary,
        values: durations.collect(),
    });
    let in_total = |name, help, value: Value| Figures::counter(name, help, all.iter().map(value).fold(0.0, f64::max));
    out.push(in_total("prometheus_remote_storage_samples_in_total", "Samples that came to be sent", |n| {
        get(&n.stats.came_samples)
    }));
    out.push(in_total(
        "prometheus_remote_storage_histograms_in_total",
        "Native histograms that came to be sent",
        |n| get(&n.stats.came_histograms),
    ));
    out.push(in_total("prometheus_remote_storage_exemplars_in_total", "Exemplars that came to be sent", |n| {
        get(&n.stats.came_exemplars)
    }));
    let newest = newest.map_or(0.0, |ms| ms as f64 / 1000.0);
    let (name, help) =
        ("prometheus_remote_storage_highest_timestamp_in_seconds", "Newest time of samples that came to be sent");
    out.push(Figures::gauge(name, help, newest));
    out
}
