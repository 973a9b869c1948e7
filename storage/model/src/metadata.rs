//! What an exposition says of a metric family besides its samples: type, unit and help.

use std::fmt;

/// The type of a metric family, in OpenMetrics' words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MetricType {
    /// Only goes up, or starts again at zero.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets, sum and count.
    Histogram,
    /// Buckets that may go down.
    GaugeHistogram,
    /// Quantiles, sum and count.
    Summary,
    /// Labels with value 1.
    Info,
    /// One of a set of states.
    StateSet,
    /// Not said.
    #[default]
    Unknown,
}

impl MetricType {
    /// The name that `/api/v1/metadata` shows.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::GaugeHistogram => "gaugehistogram",
            Self::Summary => "summary",
            Self::Info => "info",
            Self::StateSet => "stateset",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for MetricType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Type, unit and help of one metric family as one target exposes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct MetricMetadata {
    /// Type.
    pub kind: MetricType,
    /// Base unit, or empty.
    pub unit: String,
    /// Help text, or empty.
    pub help: String,
}
