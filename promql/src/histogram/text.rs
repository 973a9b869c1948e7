//! A native histogram as text, the way Prometheus shows it: `{count:2, sum:3, (0.5,1]:2}`.

use std::fmt::Write as _;

use promontory_model::FloatHistogram;
use promontory_model::histogram::Counts;

use super::{all_buckets, is_custom};
use crate::notes::format_g;

/// Count, sum and every bucket that is not empty, by ascending bound. Integer counts are shown with all digits.
#[must_use]
pub fn text(h: &FloatHistogram, counts: Counts) -> String {
    let number = |count: f64| match counts {
        Counts::Float => format_g(count),
        Counts::Integer => format!("{count:.0}"),
    };
    let mut out = format!("{{count:{}, sum:{}", number(h.count), format_g(h.sum));
    for b in all_buckets(h) {
        let (open, close) = match b {
            _ if is_custom(h) => (if b.lower == f64::NEG_INFINITY { '[' } else { '(' }, ']'),
            b if b.upper < 0.0 => ('[', ')'),
            b if b.lower > 0.0 => ('(', ']'),
            _ => ('[', ']'),
        };
        // Writing to a string does not fail.
        let _ = write!(out, ", {open}{},{}{close}:{}", format_g(b.lower), format_g(b.upper), number(b.count));
    }
    out.push('}');
    out
}

#[cfg(test)]
mod tests {
    use promontory_model::histogram::{CUSTOM_BUCKETS_SCHEMA, Span};

    use super::*;

    #[track_caller]
    fn check(h: &FloatHistogram, counts: Counts, expected: &str) {
        assert_eq!(text(h, counts), expected);
    }

    #[test]
    fn buckets_are_shown_by_ascending_bound() {
        let h = FloatHistogram {
            count: 2_000_008.0,
            sum: 1_000_000.0,
            zero_threshold: 0.001,
            zero_count: 2.0,
            positive_spans: vec![Span { offset: 0, length: 2 }],
            positive_buckets: vec![1.0, 2.0],
            negative_spans: vec![Span { offset: 0, length: 2 }],
            negative_buckets: vec![1.0, 2_000_000.0],
            ..FloatHistogram::default()
        };
        let rest = "[-1,-0.5):1, [-0.001,0.001]:2, (0.5,1]:1, (1,2]:2}";
        check(&h, Counts::Float, &format!("{{count:2.000008e+06, sum:1e+06, [-2,-1):2e+06, {rest}"));
        check(&h, Counts::Integer, &format!("{{count:2000008, sum:1e+06, [-2,-1):2000000, {rest}"));
    }

    #[test]
    fn a_zero_bucket_without_width_has_both_bounds() {
        let h = FloatHistogram { count: 2.5, zero_count: 2.5, ..FloatHistogram::default() };
        check(&h, Counts::Float, "{count:2.5, sum:0, [-0,0]:2.5}");
    }

    #[test]
    fn custom_bounds_are_open_below_but_for_the_first() {
        let h = FloatHistogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count: 6.0,
            sum: -1.5,
            custom_values: vec![-2.0, 3.0],
            positive_spans: vec![Span { offset: 0, length: 3 }],
            positive_buckets: vec![1.0, 2.0, 3.0],
            ..FloatHistogram::default()
        };
        check(&h, Counts::Integer, "{count:6, sum:-1.5, [-Inf,-2]:1, (-2,3]:2, (3,+Inf]:3}");
    }
}
