//! Native histograms as values: exponential buckets (schema −4…8) or custom bounds (schema −53).
//!
//! A value here is whole and immutable; its arithmetic belongs to PromQL, its encoding to storage. What a store takes
//! is a [`HistogramSample`], which was checked.

mod sample;

pub use sample::{Counts, HistogramSample, InvalidHistogram};

/// The schema number of histograms with custom bucket bounds.
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;

/// A run of consecutive buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Gap to the end of the previous span, or the index of the first bucket in the first span.
    pub offset: i32,
    /// Number of buckets.
    pub length: u32,
}

/// What is known about a reset between this histogram and the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CounterResetHint {
    /// Nothing: compare.
    #[default]
    Unknown,
    /// A reset happened.
    Reset,
    /// No reset happened.
    NotReset,
    /// A gauge: resets mean nothing.
    Gauge,
}

/// A native histogram with floating-point counts.
///
/// # Source
/// Prometheus `model/histogram/float_histogram.go`: absolute counts per bucket, spans as in the protobuf.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FloatHistogram {
    /// Reset relative to the previous sample of the series.
    pub counter_reset_hint: CounterResetHint,
    /// Resolution: bucket boundaries are powers of 2^(2^−schema); [`CUSTOM_BUCKETS_SCHEMA`] for custom bounds.
    pub schema: i32,
    /// Width of the zero bucket.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: f64,
    /// All observations.
    pub count: f64,
    /// Sum of observations.
    pub sum: f64,
    /// Layout of `positive_buckets`.
    pub positive_spans: Vec<Span>,
    /// Layout of `negative_buckets`.
    pub negative_spans: Vec<Span>,
    /// Absolute counts.
    pub positive_buckets: Vec<f64>,
    /// Absolute counts.
    pub negative_buckets: Vec<f64>,
    /// Upper bounds, ascending, without +Inf; only with custom buckets.
    pub custom_values: Vec<f64>,
}

impl FloatHistogram {
    /// Bytes that it takes behind an [`std::sync::Arc`], itself included.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        size_of::<Self>()
            + 16
            + 8 * (self.positive_spans.capacity() + self.negative_spans.capacity())
            + 8 * (self.positive_buckets.capacity() + self.negative_buckets.capacity() + self.custom_values.capacity())
    }
}
