//! Summaries: quantiles over the latest observations, with their number and sum since the start.
//!
//! The client library has histograms only, but dashboards query some of Prometheus' own metrics by `quantile`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use promontory_model::MetricType;

use super::figures::{Figures, Labelled};

/// Observations that the quantiles are taken over.
const WINDOW: usize = 512;
/// Label values of one summary; further ones are counted together as `other`.
const LABEL_VALUES_MAX: usize = 64;
const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];

/// A summary with one label. Clones share the observations.
#[derive(Debug, Clone)]
pub struct Summary {
    name: &'static str,
    help: &'static str,
    label: &'static str,
    /// Held for a few instructions, never together with another lock.
    by_value: Arc<Mutex<BTreeMap<String, Observations>>>,
}

#[derive(Debug, Default)]
struct Observations {
    latest: Vec<f64>,
    next: usize,
    count: u64,
    sum: f64,
}

impl Summary {
    /// An empty summary.
    #[must_use]
    pub fn new(name: &'static str, help: &'static str, label: &'static str) -> Self {
        Self { name, help, label, by_value: Arc::default() }
    }

    /// Shows `label_value` from now on, even before its first observation.
    pub fn touch(&self, label_value: &str) {
        self.with(label_value, |_| ());
    }

    /// Takes note of an observation.
    pub fn observe(&self, label_value: &str, value: f64) {
        self.with(label_value, |observations| {
            observations.count += 1;
            observations.sum += value;
            match observations.latest.get_mut(observations.next) {
                Some(oldest) => *oldest = value,
                None => observations.latest.push(value),
            }
            observations.next = (observations.next + 1) % WINDOW;
        });
    }

    fn with(&self, label_value: &str, change: impl FnOnce(&mut Observations)) {
        let mut by_value = self.by_value.lock().unwrap_or_else(PoisonError::into_inner);
        let key =
            if by_value.len() < LABEL_VALUES_MAX || by_value.contains_key(label_value) { label_value } else { "other" };
        change(by_value.entry(key.to_owned()).or_default());
    }

    /// What it shows now.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let by_value = self.by_value.lock().unwrap_or_else(PoisonError::into_inner);
        let mut values = Vec::new();
        for (label_value, observations) in by_value.iter() {
            let label = || (self.label, label_value.clone());
            for (quantile, value) in QUANTILES.iter().zip(observations.quantiles()) {
                values.push(Labelled { suffix: "", labels: vec![label(), ("quantile", quantile.to_string())], value });
            }
            values.push(Labelled { suffix: "_sum", labels: vec![label()], value: observations.sum });
            values.push(Labelled { suffix: "_count", labels: vec![label()], value: observations.count as f64 });
        }
        Figures { name: self.name, help: self.help, kind: MetricType::Summary, values }
    }
}

impl Observations {
    /// NaN while there are none.
    fn quantiles(&self) -> [f64; QUANTILES.len()] {
        let mut sorted = self.latest.clone();
        sorted.sort_by(f64::total_cmp);
        QUANTILES.map(|quantile| {
            let at = ((sorted.len() as f64 * quantile).ceil() as usize).saturating_sub(1);
            sorted.get(at).copied().unwrap_or(f64::NAN)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(summary: &Summary) -> String {
        let mut out = String::new();
        summary.figures().write(false, &mut out);
        out
    }

    #[test]
    fn quantiles_are_of_the_latest_and_totals_of_all() {
        let summary = Summary::new("m", "Help", "l");
        assert_eq!(text(&summary), "");
        (1..=1_000).for_each(|i| summary.observe("a\"b", f64::from(i)));
        assert_eq!(
            text(&summary),
            "# HELP m Help.\n# TYPE m summary\nm{l=\"a\\\"b\",quantile=\"0.5\"} 744\n\
             m{l=\"a\\\"b\",quantile=\"0.9\"} 949\nm{l=\"a\\\"b\",quantile=\"0.99\"} 995\n\
             m_sum{l=\"a\\\"b\"} 500500\nm_count{l=\"a\\\"b\"} 1000\n"
        );
    }

    #[test]
    fn label_values_are_bounded() {
        let summary = Summary::new("m", "Help", "l");
        (0..100).for_each(|i| summary.observe(&i.to_string(), 1.0));
        assert!(text(&summary).contains("m_count{l=\"other\"} 36\n"));
    }
}
