//! What scraping says about itself, under Prometheus' names.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use promontory_model::{Duration, MetricType};

/// Lengths of intervals that quantiles are taken of, per interval.
const LENGTHS_KEPT: usize = 1_024;
/// Quantiles that are shown.
const QUANTILES: [f64; 5] = [0.01, 0.05, 0.5, 0.9, 0.99];

macro_rules! counters {
    ($($field:ident $name:literal $help:literal;)*) => {
        /// Counters of all jobs together.
        #[derive(Debug, Default)]
        pub struct ScrapeMetrics {
            $(#[doc = $help] pub $field: AtomicU64,)*
            interval_lengths: Mutex<BTreeMap<i64, Lengths>>,
            sync_lengths: Mutex<BTreeMap<String, (u64, f64)>>,
        }

        impl ScrapeMetrics {
            fn counters(&self) -> Vec<Family> {
                vec![$(Family {
                    name: $name,
                    help: $help,
                    kind: MetricType::Counter,
                    samples: vec![Sample::plain(self.$field.load(Ordering::Relaxed) as f64)],
                },)*]
            }
        }
    };
}

counters! {
    exceeded_sample_limit "prometheus_target_scrapes_exceeded_sample_limit_total"
        "Total number of scrapes that hit the sample limit and were rejected.";
    exceeded_body_size_limit "prometheus_target_scrapes_exceeded_body_size_limit_total"
        "Total number of scrapes that hit the body size limit.";
    exceeded_bucket_limit "prometheus_target_scrapes_exceeded_native_histogram_bucket_limit_total"
        "Total number of scrapes that hit the native histogram bucket limit and were rejected.";
    sample_duplicate_timestamp "prometheus_target_scrapes_sample_duplicate_timestamp_total"
        "Total number of samples rejected due to duplicate timestamps but different values.";
    sample_out_of_order "prometheus_target_scrapes_sample_out_of_order_total"
        "Total number of samples rejected due to not being out of the expected order.";
    sample_out_of_bounds "prometheus_target_scrapes_sample_out_of_bounds_total"
        "Total number of samples rejected due to timestamp falling outside of the time bounds.";
    cache_flush_forced "prometheus_target_scrapes_cache_flush_forced_total"
        "How many times a scrape cache was flushed due to getting big while scrapes are failing.";
    exceeded_target_limit "prometheus_target_scrape_pool_exceeded_target_limit_total"
        "Total number of times scrape pools hit the target limit, during sync or config reload.";
    exceeded_label_limits "prometheus_target_scrape_pool_exceeded_label_limits_total"
        "Total number of times scrape pools hit the label limits, during sync or config reload.";
    pools "prometheus_target_scrape_pools_total"
        "Total number of scrape pool creation attempts.";
    pool_reloads "prometheus_target_scrape_pool_reloads_total"
        "Total number of scrape pool reloads.";
    sync_failed "prometheus_target_sync_failed_total"
        "Total number of target sync failures.";
    file_read_errors "prometheus_sd_file_read_errors_total"
        "The number of File-SD read errors.";
}

/// A family of metrics, to be written by whoever serves them.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    /// Name.
    pub name: &'static str,
    /// Help text.
    pub help: &'static str,
    /// Type.
    pub kind: MetricType,
    /// Samples.
    pub samples: Vec<Sample>,
}

/// A sample of a [`Family`].
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// What follows the family's name: nothing, `_sum` or `_count`.
    pub suffix: &'static str,
    /// Labels.
    pub labels: Vec<(&'static str, String)>,
    /// Value.
    pub value: f64,
}

impl Sample {
    fn plain(value: f64) -> Self {
        Self { suffix: "", labels: Vec::new(), value }
    }

    pub(crate) fn of_job(job: &str, value: f64) -> Self {
        Self { suffix: "", labels: vec![("scrape_job", job.to_owned())], value }
    }
}

/// The last lengths of one interval.
#[derive(Debug, Default)]
struct Lengths {
    last: Vec<f64>,
    next: usize,
    count: u64,
    sum: f64,
}

impl ScrapeMetrics {
    /// Notes the time between two scrapes of a target.
    pub(crate) fn observe_interval(&self, interval: Duration, seconds: f64) {
        let mut all = self.interval_lengths.lock().unwrap_or_else(PoisonError::into_inner);
        let lengths = all.entry(interval.ms()).or_default();
        lengths.count += 1;
        lengths.sum += seconds;
        if lengths.last.len() < LENGTHS_KEPT {
            lengths.last.push(seconds);
        } else {
            lengths.last[lengths.next] = seconds;
            lengths.next = (lengths.next + 1) % LENGTHS_KEPT;
        }
    }

    /// Notes that targets of `job` were brought up to date.
    pub(crate) fn observe_sync(&self, job: &str, seconds: f64) {
        let mut all = self.sync_lengths.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, sum) = all.entry(job.to_owned()).or_default();
        *count += 1;
        *sum += seconds;
    }

    /// All families with their present values.
    #[must_use]
    pub fn families(&self) -> Vec<Family> {
        let mut out = self.counters();
        out.push(self.intervals());
        let all = self.sync_lengths.lock().unwrap_or_else(PoisonError::into_inner);
        let mut syncs = Vec::new();
        let mut lengths = Vec::new();
        for (job, (count, sum)) in &*all {
            syncs.push(Sample::of_job(job, *count as f64));
            lengths.push(Sample { suffix: "_sum", ..Sample::of_job(job, *sum) });
            lengths.push(Sample { suffix: "_count", ..Sample::of_job(job, *count as f64) });
        }
        out.push(Family {
            name: "prometheus_target_scrape_pool_sync_total",
            help: "Total number of syncs that were executed on a scrape pool.",
            kind: MetricType::Counter,
            samples: syncs,
        });
        out.push(Family {
            name: "prometheus_target_sync_length_seconds",
            help: "Actual interval to sync the scrape pool.",
            kind: MetricType::Summary,
            samples: lengths,
        });
        out
    }

    fn intervals(&self) -> Family {
        let all = self.interval_lengths.lock().unwrap_or_else(PoisonError::into_inner);
        let mut samples = Vec::new();
        for (interval, lengths) in &*all {
            let label = ("interval", Duration(*interval).to_string());
            let mut sorted = lengths.last.clone();
            sorted.sort_by(f64::total_cmp);
            for quantile in QUANTILES {
                let rank = ((sorted.len() as f64 * quantile).ceil() as usize).clamp(1, sorted.len().max(1));
                let value = sorted.get(rank - 1).copied().unwrap_or(f64::NAN);
                samples.push(Sample {
                    suffix: "",
                    labels: vec![label.clone(), ("quantile", quantile.to_string())],
                    value,
                });
            }
            samples.push(Sample { suffix: "_sum", labels: vec![label.clone()], value: lengths.sum });
            samples.push(Sample { suffix: "_count", labels: vec![label], value: lengths.count as f64 });
        }
        Family {
            name: "prometheus_target_interval_length_seconds",
            help: "Actual intervals between scrapes.",
            kind: MetricType::Summary,
            samples,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interval_lengths_have_quantiles_of_the_latest() {
        let metrics = ScrapeMetrics::default();
        for i in 0..3_000 {
            metrics.observe_interval(Duration(15_000), if i < 1_500 { 100.0 } else { 15.0 });
        }
        let family = metrics.intervals();
        let median = family.samples.iter().find(|s| s.labels.contains(&("quantile", "0.5".to_owned()))).unwrap();
        assert_eq!((median.value, median.labels[0].1.as_str()), (15.0, "15s"));
        assert_eq!(family.samples.last().unwrap().value, 3_000.0);
    }
}
