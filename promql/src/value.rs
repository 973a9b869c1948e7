//! What a query answers.

use std::sync::Arc;

use promontory_model::{FloatHistogram, Labels};

use crate::annotations::Annotations;

/// A sample's value.
#[derive(Debug, Clone, PartialEq)]
pub enum SampleValue {
    /// A number.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<FloatHistogram>),
}

/// A series with one sample.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorSample {
    /// Labels.
    pub labels: Labels,
    /// Time in ms; that of the evaluation.
    pub t: i64,
    /// Value.
    pub value: SampleValue,
}

/// A series with samples over time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MatrixSeries {
    /// Labels.
    pub labels: Labels,
    /// Float samples: time in ms and value, ascending.
    pub floats: Vec<(i64, f64)>,
    /// Histogram samples, ascending; no time is in both.
    pub histograms: Vec<(i64, Arc<FloatHistogram>)>,
}

/// The value of an expression.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Time in ms and number.
    Scalar(i64, f64),
    /// Time in ms and text.
    String(i64, String),
    /// In the order of evaluation: sorted by value after `sort` and `topk`, else as selected.
    Vector(Vec<VectorSample>),
    /// Sorted by labels.
    Matrix(Vec<MatrixSeries>),
}

/// The steps of a range query: `start_ms`, `start_ms + step_ms`, … up to `end_ms`, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RangeSpec {
    /// First step.
    pub start_ms: i64,
    /// No step is after this.
    pub end_ms: i64,
    /// Distance of steps, above 0.
    pub step_ms: i64,
}

/// What evaluating cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueryStats {
    /// Stored samples that were decoded.
    pub samples_read: u64,
    /// Most samples held at once.
    pub samples_peak: u64,
    /// Most bytes held at once by operators.
    pub bytes_peak: u64,
    /// Series selected.
    pub series_selected: u64,
}

/// A value with what goes along.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryOutput {
    /// The value.
    pub value: Value,
    /// Warnings and infos.
    pub annotations: Annotations,
    /// Cost.
    pub stats: QueryStats,
}
