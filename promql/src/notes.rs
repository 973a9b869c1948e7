//! The texts of warnings and infos, worded as Prometheus words them, for all evaluators.

use crate::lexer::quote;

/// An operation on histograms, as annotations name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistogramOperation {
    /// `+`.
    Addition,
    /// `-`.
    Subtraction,
    /// `sum`, `avg` and their like.
    Aggregation,
}

impl HistogramOperation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Addition => "addition",
            Self::Subtraction => "subtraction",
            Self::Aggregation => "aggregation",
        }
    }
}

/// ` for metric name "x"`, or nothing for an empty name.
fn for_metric(text: String, metric: &str) -> String {
    if metric.is_empty() { text } else { format!("{text} for metric name {}", quote(metric)) }
}

/// Warning: a ratio beyond ±1.
#[must_use]
pub fn invalid_ratio(ratio: f64, capped: f64) -> String {
    let (ratio, capped) = (format_g(ratio), format_g(capped));
    format!("ratio value should be between -1 and 1, got {ratio}, capping to {capped}")
}

/// Warning: a quantile outside [0, 1].
#[must_use]
pub fn invalid_quantile(q: f64) -> String {
    format!("quantile value should be between 0 and 1, got {}", format_g(q))
}

/// Warning: a bucket series without a usable `le`.
#[must_use]
pub fn bad_bucket_label(metric: &str, le: &str) -> String {
    let text = format!("bucket label \"le\" is missing or has a malformed value of {}", quote(le));
    for_metric(text, metric)
}

/// Warning: floats and histograms in one window.
#[must_use]
pub fn mixed_floats_histograms(metric: &str) -> String {
    format!("encountered a mix of histograms and floats for metric name {}", quote(metric))
}

/// Warning: floats and histograms in one group.
pub const MIXED_AGGREGATION: &str = "encountered a mix of histograms and floats for aggregation";

/// Warning: a classic and a native histogram with the same labels.
#[must_use]
pub fn mixed_classic_native(metric: &str) -> String {
    for_metric("vector contains a mix of classic and native histograms".to_owned(), metric)
}

/// Warning: a gauge histogram where a counter belongs.
#[must_use]
pub fn native_not_counter(metric: &str) -> String {
    format!("this native histogram metric is not a counter: {}", quote(metric))
}

/// Warning: a counter histogram where a gauge belongs.
#[must_use]
pub fn native_not_gauge(metric: &str) -> String {
    format!("this native histogram metric is not a gauge: {}", quote(metric))
}

/// Warning: exponential and custom buckets in one window or group.
#[must_use]
pub fn mixed_exponential_custom(metric: &str) -> String {
    let what = "vector contains a mix of histograms with exponential and custom buckets schemas";
    format!("{what} for metric name {}", quote(metric))
}

/// Warning: operands with exponential and custom buckets.
#[must_use]
pub fn incompatible_bucket_layout(operator: &str) -> String {
    format!("incompatible bucket layout encountered for binary operator {operator}")
}

/// Warning: `sort` in a range query.
pub const SORT_IN_RANGE: &str = "sort is ineffective for range queries since results are always ordered by labels";

/// Warning: one histogram follows a reset, another does not.
#[must_use]
pub fn reset_collision(operation: HistogramOperation) -> String {
    format!("conflicting counter resets during histogram {}", operation.as_str())
}

/// Warning: start timestamps that contradict the samples.
#[must_use]
pub fn start_time_overlap(metric: &str) -> String {
    let what = "sample has start time that overlaps with previous sample timestamp";
    format!("{what} for metric {}", quote(metric))
}

/// Info: the name does not look like a counter's.
#[must_use]
pub fn possible_non_counter(metric: &str) -> String {
    let what = "metric might not be a counter, name does not end in _total/_sum/_count/_bucket";
    format!("{what}: {}", quote(metric))
}

/// Info: the type label does not look like a counter's.
#[must_use]
pub fn possible_non_counter_label(metric: &str, kind: &str) -> String {
    let what = "metric might not be a counter, __type__ label is not set to \"counter\" or \"histogram\"";
    format!("{what}, got {}: {}", quote(kind), quote(metric))
}

/// Info: bucket counts that decrease with their bounds.
#[must_use]
pub fn forced_monotonicity(metric: &str) -> String {
    let what = "input to histogram_quantile needed to be fixed for monotonicity \
                (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)";
    for_metric(what.to_owned(), metric)
}

/// Info: an operator that is not defined for its operands.
#[must_use]
pub fn incompatible_types(left: &str, operator: &str, right: &str) -> String {
    let what = "incompatible sample types encountered for binary operator";
    format!("{what} {}: {left} {operator} {right}", quote(operator))
}

/// Info: an aggregation that is not defined for histograms.
#[must_use]
pub fn histogram_ignored_in_aggregation(operator: &str) -> String {
    format!("ignored histogram in {operator} aggregation")
}

/// Info: a function that looks at floats only.
#[must_use]
pub fn histogram_ignored_in_range(metric: &str) -> String {
    let what = "ignored histograms in a range containing both floats and histograms";
    format!("{what} for metric name {}", quote(metric))
}

/// Info: the quantile lies among NaN observations.
#[must_use]
pub fn quantile_nan_result(metric: &str) -> String {
    for_metric("input to histogram_quantile has NaN observations, result is NaN".to_owned(), metric)
}

/// Info: NaN observations count as the highest.
#[must_use]
pub fn quantile_nan_skew(metric: &str) -> String {
    for_metric("input to histogram_quantile has NaN observations, result is skewed higher".to_owned(), metric)
}

/// Info: NaN observations are in no fraction.
#[must_use]
pub fn fraction_nan(metric: &str) -> String {
    let what = "input to histogram_fraction has NaN observations, which are excluded from all fractions";
    for_metric(what.to_owned(), metric)
}

/// Info: custom bounds were reduced to the common ones.
#[must_use]
pub fn mismatched_custom_buckets(operation: HistogramOperation) -> String {
    format!("mismatched custom buckets were reconciled during {}", operation.as_str())
}

/// A number as Go's `%g` shows it.
#[must_use]
pub fn format_g(v: f64) -> String {
    if v.is_nan() {
        return "NaN".to_owned();
    }
    if v.is_infinite() {
        return if v > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{v:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    // Go shows the shortest digits with an exponent from 10^6 on.
    if v == 0.0 || (-4..6).contains(&exponent) {
        return format!("{v}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_as_go_does() {
        for (v, shown) in [
            (2.0, "2"),
            (-0.25, "-0.25"),
            (1e-5, "1e-05"),
            (1e21, "1e+21"),
            (1_234_567.0, "1.234567e+06"),
            (0.0, "0"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(format_g(v), shown);
        }
    }

    #[test]
    fn metric_names_are_left_out_when_empty() {
        assert!(mixed_classic_native("").ends_with("histograms"));
        assert!(mixed_classic_native("a").ends_with("for metric name \"a\""));
    }
}
