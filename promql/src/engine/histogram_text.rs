//! A native histogram as text, the way Prometheus shows it: `{count:2, sum:3, (0.5,1]:2}`.

use std::fmt::Write as _;

use promontory_model::FloatHistogram;

use super::notes::go_float;
use crate::histogram;

/// Count, sum and every bucket that is not empty, by ascending bound.
pub(crate) fn text(h: &FloatHistogram) -> String {
    let mut out = format!("{{count:{}, sum:{}", go_float(h.count), go_float(h.sum));
    for b in histogram::all_buckets(h) {
        let custom_first = histogram::is_custom(h) && b.lower == f64::NEG_INFINITY;
        let (open, close) = match b {
            b if b.lower < 0.0 && b.upper > 0.0 && !histogram::is_custom(h) => ('[', ']'),
            b if b.upper < 0.0 && !histogram::is_custom(h) => ('[', ')'),
            _ if custom_first => ('[', ']'),
            _ => ('(', ']'),
        };
        push(&mut out, open, b.lower, b.upper, close, b.count);
    }
    out.push('}');
    out
}

fn push(out: &mut String, open: char, lower: f64, upper: f64, close: char, count: f64) {
    if count != 0.0 {
        // Writing to a string does not fail.
        let _ = write!(out, ", {open}{},{}{close}:{}", go_float(lower), go_float(upper), go_float(count));
    }
}

#[cfg(test)]
mod tests {
    use promontory_model::histogram::Span;

    use super::*;

    #[test]
    fn buckets_are_shown_by_ascending_bound() {
        let h = FloatHistogram {
            count: 20.0,
            sum: 10.0,
            zero_threshold: 0.001,
            zero_count: 2.0,
            positive_spans: vec![Span { offset: 0, length: 2 }],
            positive_buckets: vec![1.0, 2.0],
            negative_spans: vec![Span { offset: 0, length: 2 }],
            negative_buckets: vec![1.0, 2.0],
            ..FloatHistogram::default()
        };
        let want = "{count:20, sum:10, [-2,-1):2, [-1,-0.5):1, [-0.001,0.001]:2, (0.5,1]:1, (1,2]:2}";
        assert_eq!(text(&h), want);
    }
}
