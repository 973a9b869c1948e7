//! What remote read and the receiver of remote write tell of themselves.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use promontory_model::MetricType;

use crate::telemetry::{Figures, Labelled};

/// Counts of the ends that others ask.
#[derive(Debug, Default)]
pub struct RemoteMeter {
    reads: AtomicU64,
    invalid_series: AtomicU64,
}

/// A read request that is under way.
#[derive(Debug)]
pub(super) struct Reading(Arc<RemoteMeter>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.reads.fetch_sub(1, Ordering::Relaxed);
    }
}

impl RemoteMeter {
    pub(super) fn reading(self: &Arc<Self>) -> Reading {
        self.reads.fetch_add(1, Ordering::Relaxed);
        Reading(Arc::clone(self))
    }

    pub(super) fn invalid(&self, n_series: u64) {
        self.invalid_series.fetch_add(n_series, Ordering::Relaxed);
    }

    /// The counts as they are now.
    #[must_use]
    pub fn figures(&self) -> Vec<Figures> {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        vec![
            Figures::gauge(
                "prometheus_remote_read_handler_queries",
                "Read requests of others that are answered or wait",
                get(&self.reads),
            ),
            Figures::counter(
                "prometheus_api_remote_write_invalid_labels_samples_total",
                "Series of remote writes that were left out because of their labels",
                get(&self.invalid_series),
            ),
        ]
    }
}

/// Counts of the requests to one other server.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// Answers by their status, `failed` where there was none.
    by_code: Mutex<BTreeMap<String, u64>>,
    n: AtomicU64,
    took_ns: AtomicU64,
}

impl Asked {
    pub(super) fn answered(&self, code: String, took_ns: u64) {
        *self.by_code.lock().unwrap_or_else(PoisonError::into_inner).entry(code).or_default() += 1;
        self.n.fetch_add(1, Ordering::Relaxed);
        self.took_ns.fetch_add(took_ns, Ordering::Relaxed);
    }
}

/// Figures of the servers that are read from: name, URL and counts of each.
pub(super) fn asked_figures<'a>(all: impl Iterator<Item = (&'a str, &'a str, &'a Asked)>) -> Vec<Figures> {
    let (mut by_code, mut took) = (Vec::new(), Vec::new());
    for (name, url, asked) in all {
        let labels = || vec![("remote_name", name.to_owned()), ("url", url.to_owned())];
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        took.push(Labelled { suffix: "_sum", labels: labels(), value: get(&asked.took_ns) / 1e9 });
        took.push(Labelled { suffix: "_count", labels: labels(), value: get(&asked.n) });
        for (code, n) in asked.by_code.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let labels = [labels(), vec![("code", code.clone())]].concat();
            by_code.push(Labelled { suffix: "", labels, value: *n as f64 });
        }
    }
    vec![
        Figures {
            name: "prometheus_remote_read_client_queries_total",
            help: "Requests to other servers by the status of the answer",
            kind: MetricType::Counter,
            values: by_code,
        },
        Figures {
            name: "prometheus_remote_read_client_request_duration_seconds",
            help: "Time that requests to other servers took",
            kind: MetricType::Summary,
            values: took,
        },
    ]
}
