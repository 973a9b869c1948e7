//! The vocabulary that storage, PromQL, configuration and server share.
//!
//! Everything here is a plain value or the [`queryable`] seam. This package knows no clock, no file, no
//! runtime and no wire format; nothing in it does I/O.

pub mod cancel;
pub mod histogram;
pub mod labels;
pub mod matcher;
pub mod metadata;
mod projection;
pub mod queryable;
mod re2;
pub mod regex;
pub mod sample;
mod shape;
pub mod time;

pub use cancel::{Cancel, Cancelled};
pub use histogram::{FloatHistogram, HistogramSample};
pub use labels::{Labels, LabelsBuilder};
pub use matcher::{MatchOp, Matcher};
pub use metadata::{MetricMetadata, MetricType};
pub use projection::{LabelGroups, Projection};
pub use queryable::{
    Changes, ColumnRef, Columns, Queryable, ReadError, Select, Selection, SeriesBatch, SeriesList, Snapshot,
};
pub use regex::{Regex, RegexError};
pub use sample::{STALE_NAN_BITS, is_stale, stale_nan};
pub use time::{Duration, TimeRange, Timestamp};

/// The label that holds the metric name.
pub const METRIC_NAME: &str = "__name__";
