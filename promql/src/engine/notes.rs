//! Warnings and infos in Prometheus' words, placed at every site of the node they come from.

use crate::annotations::{Annotation, Annotations, Severity};
use crate::ast::{AggregateOp, BinaryOp, Span};
use crate::plan::Site;

/// Collects the annotations of one node.
pub(crate) struct Notes<'a> {
    sites: &'a [Site],
    out: &'a mut Annotations,
}

impl<'a> Notes<'a> {
    /// For a node written at `sites`.
    pub(crate) fn new(sites: &'a [Site], out: &'a mut Annotations) -> Self {
        Self { sites, out }
    }

    fn push(&mut self, severity: Severity, text: &str, span: impl Fn(&Site) -> Span) {
        for site in self.sites {
            self.out.push(Annotation { severity, text: text.to_owned(), span: Some(span(site)) });
        }
    }

    /// Warns at argument `arg`.
    pub(crate) fn warn(&mut self, text: &str, arg: usize) {
        self.push(Severity::Warning, text, |s| s.arg(arg));
    }

    /// Informs at argument `arg`.
    pub(crate) fn info(&mut self, text: &str, arg: usize) {
        self.push(Severity::Info, text, |s| s.arg(arg));
    }

    /// Warns at the whole expression.
    pub(crate) fn warn_whole(&mut self, text: &str) {
        self.push(Severity::Warning, text, |s| s.span);
    }

    /// Informs at the whole expression.
    pub(crate) fn info_whole(&mut self, text: &str) {
        self.push(Severity::Info, text, |s| s.span);
    }
}

/// ` for metric name "x"`, or nothing for a series without name.
pub(crate) fn for_metric(name: &str) -> String {
    if name.is_empty() { String::new() } else { format!(" for metric name {}", promontory_model::labels::Quoted(name)) }
}

/// Floats and histograms in one window.
pub(crate) fn mixed(name: &str) -> String {
    format!("encountered a mix of histograms and floats{}", for_metric(name))
}

/// Histograms left out of a window of floats.
pub(crate) fn histograms_ignored(name: &str) -> String {
    format!("ignored histograms in a range containing both floats and histograms{}", for_metric(name))
}

/// Exponential and custom buckets in one series.
pub(crate) fn mixed_buckets(name: &str) -> String {
    format!("vector contains a mix of histograms with exponential and custom buckets schemas{}", for_metric(name))
}

/// A function of counters got a gauge.
pub(crate) fn not_a_counter(name: &str) -> String {
    format!("this native histogram metric is not a counter: {}", promontory_model::labels::Quoted(name))
}

/// A function of gauges got a counter.
pub(crate) fn not_a_gauge(name: &str) -> String {
    format!("this native histogram metric is not a gauge: {}", promontory_model::labels::Quoted(name))
}

/// Custom bounds differed; `what` is `addition`, `subtraction` or `aggregation`.
pub(crate) fn bounds_reconciled(what: &str) -> String {
    format!("mismatched custom buckets were reconciled during {what}")
}

/// Counter resets contradict each other.
pub(crate) fn reset_collision(what: &str) -> String {
    format!("conflicting counter resets during histogram {what}")
}

/// Exponential and custom buckets on the two sides of an operator.
pub(crate) fn incompatible_buckets(op: BinaryOp) -> String {
    format!("incompatible bucket layout encountered for binary operator {}", operator(op))
}

/// Classic and native histograms with the same labels.
pub(crate) fn classic_and_native(name: &str) -> String {
    format!("vector contains a mix of classic and native histograms{}", for_metric(name))
}

/// A quantile lies among NaN observations.
pub(crate) fn quantile_is_nan(name: &str) -> String {
    format!("input to histogram_quantile has NaN observations, result is NaN{}", for_metric(name))
}

/// NaN observations count as larger than all others.
pub(crate) fn quantile_is_skewed(name: &str) -> String {
    format!("input to histogram_quantile has NaN observations, result is skewed higher{}", for_metric(name))
}

/// NaN observations are between no bounds.
pub(crate) fn fraction_without_nan(name: &str) -> String {
    format!(
        "input to histogram_fraction has NaN observations, which are excluded from all fractions{}",
        for_metric(name)
    )
}

/// `rate` of something that is not called like a counter.
pub(crate) fn maybe_not_a_counter(name: &str) -> String {
    let name = promontory_model::labels::Quoted(name);
    format!("metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {name}")
}

/// A quantile outside 0…1.
pub(crate) fn bad_quantile(q: f64) -> String {
    format!("quantile value should be between 0 and 1, got {}", go_float(q))
}

/// A ratio outside −1…1.
pub(crate) fn bad_ratio(ratio: f64, capped: f64) -> String {
    format!("ratio value should be between -1 and 1, got {}, capping to {}", go_float(ratio), go_float(capped))
}

/// A bucket without a usable bound.
pub(crate) fn bad_bucket(le: &str, name: &str) -> String {
    let le = promontory_model::labels::Quoted(le);
    format!("bucket label \"le\" is missing or has a malformed value of {le}{}", for_metric(name))
}

/// A histogram left out of an aggregation.
pub(crate) fn aggregation_ignores_histogram(op: AggregateOp) -> String {
    format!("ignored histogram in {} aggregation", aggregate_name(op))
}

/// An operator that does not take these types.
pub(crate) fn incompatible_types(op: BinaryOp, left: &str, right: &str) -> String {
    format!(
        "incompatible sample types encountered for binary operator \"{}\": {left} {} {right}",
        operator(op),
        operator(op)
    )
}

/// The operator as written.
pub(crate) fn operator(op: BinaryOp) -> &'static str {
    match op {
        BinaryOp::Add => "+",
        BinaryOp::Sub => "-",
        BinaryOp::Mul => "*",
        BinaryOp::Div => "/",
        BinaryOp::Mod => "%",
        BinaryOp::Pow => "^",
        BinaryOp::Atan2 => "atan2",
        BinaryOp::Eq => "==",
        BinaryOp::Ne => "!=",
        BinaryOp::Lt => "<",
        BinaryOp::Le => "<=",
        BinaryOp::Gt => ">",
        BinaryOp::Ge => ">=",
        BinaryOp::And => "and",
        BinaryOp::Or => "or",
        BinaryOp::Unless => "unless",
        BinaryOp::TrimUpper => "</",
        BinaryOp::TrimLower => ">/",
    }
}

fn aggregate_name(op: AggregateOp) -> &'static str {
    match op {
        AggregateOp::Sum => "sum",
        AggregateOp::Avg => "avg",
        AggregateOp::Count => "count",
        AggregateOp::Min => "min",
        AggregateOp::Max => "max",
        AggregateOp::Group => "group",
        AggregateOp::Stddev => "stddev",
        AggregateOp::Stdvar => "stdvar",
        AggregateOp::TopK => "topk",
        AggregateOp::BottomK => "bottomk",
        AggregateOp::CountValues => "count_values",
        AggregateOp::Quantile => "quantile",
        AggregateOp::LimitK => "limitk",
        AggregateOp::LimitRatio => "limit_ratio",
    }
}

/// A float as Go's `%g` writes it: shortest digits, an exponent below 1e-4 and from 1e21.
pub(crate) fn go_float(v: f64) -> String {
    if v.is_nan() {
        return "NaN".to_owned();
    }
    if v.is_infinite() {
        return if v > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let magnitude = v.abs();
    if magnitude != 0.0 && !(1e-4..1e21).contains(&magnitude) {
        let text = format!("{v:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    format!("{v}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_look_like_those_of_go() {
        for (v, want) in [(2.0, "2"), (1.1, "1.1"), (-0.5, "-0.5"), (1e21, "1e+21"), (1e-5, "1e-05"), (f64::NAN, "NaN")]
        {
            assert_eq!(go_float(v), want);
        }
        assert_eq!(go_float(f64::INFINITY), "+Inf");
    }
}
