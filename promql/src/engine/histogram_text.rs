//! A native histogram as text, the way Prometheus shows it: `{count:2, sum:3, (0.5,1]:2}`.

use std::fmt::Write as _;

use promontory_model::FloatHistogram;
use promontory_model::histogram::{CUSTOM_BUCKETS_SCHEMA, Span};

use super::notes::go_float;

/// Count, sum and every bucket that is not empty, by ascending bound.
pub(crate) fn text(h: &FloatHistogram) -> String {
    let mut out = format!("{{count:{}, sum:{}", go_float(h.count), go_float(h.sum));
    let mut negative: Vec<_> = buckets(&h.negative_spans, &h.negative_buckets).collect();
    negative.reverse();
    for (index, count) in negative {
        let (lower, upper) = bounds(h, index);
        push(&mut out, '[', -upper, -lower, ')', count);
    }
    if h.zero_count != 0.0 {
        push(&mut out, '[', -h.zero_threshold, h.zero_threshold, ']', h.zero_count);
    }
    for (index, count) in buckets(&h.positive_spans, &h.positive_buckets) {
        let (lower, upper) = bounds(h, index);
        let custom_first = h.schema == CUSTOM_BUCKETS_SCHEMA && index == 0;
        push(&mut out, if custom_first { '[' } else { '(' }, lower, upper, ']', count);
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

/// Index and count of each bucket.
fn buckets<'a>(spans: &'a [Span], counts: &'a [f64]) -> impl Iterator<Item = (i32, f64)> + 'a {
    let mut next = 0i32;
    let indexes = spans.iter().flat_map(move |s| {
        let start = next.saturating_add(s.offset);
        next = start.saturating_add(s.length as i32);
        start..next
    });
    indexes.zip(counts.iter().copied())
}

fn bounds(h: &FloatHistogram, index: i32) -> (f64, f64) {
    if h.schema == CUSTOM_BUCKETS_SCHEMA {
        let at =
            |i: i32, other: f64| usize::try_from(i).ok().and_then(|i| h.custom_values.get(i)).copied().unwrap_or(other);
        return (at(index - 1, f64::NEG_INFINITY), at(index, f64::INFINITY));
    }
    let bound = |i: i32| (f64::from(i) * (-f64::from(h.schema)).exp2()).exp2();
    (bound(index - 1), bound(index))
}

#[cfg(test)]
mod tests {
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
