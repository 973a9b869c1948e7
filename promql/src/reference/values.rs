//! What expressions evaluate to at one step.

use std::sync::Arc;

use promontory_model::{FloatHistogram, Labels, METRIC_NAME};

use crate::ast::RangeExtension;
use crate::value::SampleValue;

/// The value of an expression at one step.
#[derive(Debug, Clone)]
pub(super) enum StepValue {
    Scalar(f64),
    String(String),
    Vector(Vec<Element>),
    Range(RangeVector),
}

/// An element of an instant vector.
#[derive(Debug, Clone)]
pub(super) struct Element {
    pub(super) labels: Labels,
    /// The metric name goes at the end of the query.
    pub(super) drop_name: bool,
    /// Time of the sample, which only `timestamp` looks at.
    pub(super) t: i64,
    /// Its start timestamp, which only `start_timestamp` looks at.
    pub(super) start: i64,
    pub(super) value: SampleValue,
}

impl Element {
    pub(super) fn new(labels: Labels, t: i64, value: SampleValue) -> Self {
        Self { labels, drop_name: false, t, start: 0, value }
    }

    /// The number, if it is one.
    pub(super) fn float(&self) -> Option<f64> {
        match self.value {
            SampleValue::Float(v) => Some(v),
            SampleValue::Histogram(_) => None,
        }
    }

    /// The histogram, if it is one.
    pub(super) fn histogram(&self) -> Option<&Arc<FloatHistogram>> {
        match &self.value {
            SampleValue::Float(_) => None,
            SampleValue::Histogram(h) => Some(h),
        }
    }
}

/// A sample in a window.
#[derive(Debug, Clone)]
pub(super) struct Point<T> {
    pub(super) t: i64,
    /// Since when it counts; 0 when unknown.
    pub(super) start: i64,
    pub(super) value: T,
}

/// The samples of one series in a window, in order of time.
#[derive(Debug, Clone)]
pub(super) struct Window {
    pub(super) labels: Labels,
    pub(super) drop_name: bool,
    pub(super) floats: Vec<Point<f64>>,
    pub(super) histograms: Vec<Point<Arc<FloatHistogram>>>,
}

impl Window {
    pub(super) fn is_empty(&self) -> bool {
        self.floats.is_empty() && self.histograms.is_empty()
    }

    /// Name of the metric, or empty.
    pub(super) fn name(&self) -> &str {
        self.labels.metric_name()
    }
}

/// Windows of all series, and their bounds: after `start_ms`, up to `end_ms`.
#[derive(Debug, Clone)]
pub(super) struct RangeVector {
    pub(super) series: Vec<Window>,
    pub(super) start_ms: i64,
    pub(super) end_ms: i64,
    /// Samples beyond the bounds are in the windows too, for functions that look there.
    pub(super) extension: Option<RangeExtension>,
}

impl RangeVector {
    pub(super) fn seconds(&self) -> f64 {
        (self.end_ms - self.start_ms) as f64 / 1000.0
    }

    pub(super) fn is_smoothed(&self) -> bool {
        self.extension == Some(RangeExtension::Smoothed)
    }

    pub(super) fn is_anchored(&self) -> bool {
        self.extension == Some(RangeExtension::Anchored)
    }

    /// The window as a value of its own: of an extended one, the floats with values at both bounds.
    pub(super) fn extended(&self, window: &Window) -> Window {
        let mut window = window.clone();
        if self.extension.is_none() || window.floats.is_empty() {
            return window;
        }
        let Some(edges) = super::rate::Edges::of(&window.floats, self, false) else {
            window.floats.clear();
            return window;
        };
        let inside = window.floats.iter().filter(|p| p.t > self.start_ms && p.t < self.end_ms).cloned();
        let edge = |t, value| Point { t, start: 0, value };
        let mut floats = vec![edge(self.start_ms, edges.left)];
        floats.extend(inside);
        floats.push(edge(self.end_ms, edges.right));
        window.floats = floats;
        window
    }
}

/// Labels without the metric name, type and unit.
pub(super) fn without_metadata(labels: &Labels) -> Labels {
    labels.filtered(|n| !is_metadata(n))
}

/// Whether the label says what the metric is, and so goes when a function makes something else of it.
pub(super) fn is_metadata(name: &str) -> bool {
    matches!(name, METRIC_NAME | "__type__" | "__unit__")
}

/// The greater number as Go has it: NaN unless the other is +Inf.
pub(super) fn go_max(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::INFINITY {
        f64::INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else {
        a.max(b)
    }
}

/// The lesser number as Go has it: NaN unless the other is -Inf.
pub(super) fn go_min(a: f64, b: f64) -> f64 {
    -go_max(-a, -b)
}
