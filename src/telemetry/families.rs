//! Figures that are read at the time of a scrape, on their way into the registry.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// What a figure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FamilyKind {
    /// Only grows while the process lives; its name is given without `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// A value and its labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Labelled {
    /// Names and values.
    pub labels: Vec<(String, String)>,
    /// The value.
    pub value: f64,
}

/// All values of one metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// The metric's name; without `_total` for counters.
    pub name: &'static str,
    /// What it is, without a final stop.
    pub help: &'static str,
    /// What kind of number it is.
    pub kind: FamilyKind,
    /// Its values.
    pub values: Vec<Labelled>,
}

impl Figures {
    /// A counter without labels.
    #[must_use]
    pub fn counter(name: &'static str, help: &'static str, value: f64) -> Self {
        Self { name, help, kind: FamilyKind::Counter, values: vec![Labelled { labels: Vec::new(), value }] }
    }

    /// A gauge without labels.
    #[must_use]
    pub fn gauge(name: &'static str, help: &'static str, value: f64) -> Self {
        Self { kind: FamilyKind::Gauge, ..Self::counter(name, help, value) }
    }

    /// The same with a label at each value.
    #[must_use]
    pub fn with_label(mut self, name: &str, value: &str) -> Self {
        for labelled in &mut self.values {
            labelled.labels.push((name.to_owned(), value.to_owned()));
        }
        self
    }
}

/// Lets a closure take part in the registry.
pub(super) struct ClosureCollector<F>(F);

impl<F: Fn() -> Vec<Figures> + Send + Sync + 'static> ClosureCollector<F> {
    pub(super) fn new(read: F) -> Self {
        Self(read)
    }
}

impl<F> fmt::Debug for ClosureCollector<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClosureCollector").finish()
    }
}

impl<F: Fn() -> Vec<Figures> + Send + Sync + 'static> Collector for ClosureCollector<F> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for figures in (self.0)() {
            let kind = match figures.kind {
                FamilyKind::Counter => MetricType::Counter,
                FamilyKind::Gauge => MetricType::Gauge,
            };
            // The registry ends the help of its own metrics with a stop.
            let help = format!("{}.", figures.help);
            let mut family = encoder.encode_descriptor(figures.name, &help, None, kind)?;
            if let [Labelled { labels, value }] = figures.values.as_slice()
                && labels.is_empty()
            {
                encode(figures.kind, *value, family)?;
                continue;
            }
            for labelled in &figures.values {
                encode(figures.kind, labelled.value, family.encode_family(&labelled.labels)?)?;
            }
        }
        Ok(())
    }
}

fn encode(kind: FamilyKind, value: f64, encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
    match kind {
        FamilyKind::Counter => ConstCounter::new(value).encode(encoder),
        FamilyKind::Gauge => ConstGauge::new(value).encode(encoder),
    }
}
