//! Warnings and infos, placed at every site of the node they come from.

use crate::annotations::{Annotation, Annotations, FixedBuckets, Severity};
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

    /// Informs at argument `arg` that the buckets of a classic histogram decreased.
    pub(crate) fn forced_monotonicity(&mut self, metric: &str, arg: usize, fixed: FixedBuckets) {
        for site in self.sites {
            self.out.forced_monotonicity(metric, site.arg(arg), fixed);
        }
    }
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

/// The aggregation as written.
pub(crate) fn aggregation(op: AggregateOp) -> &'static str {
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
