//! The order of the columns of a group: by label sets, but the buckets of a classic histogram side by side, by their
//! bounds as numbers, and its count behind them. Each then differs little from the one before it.

use std::cmp::Ordering;

use promontory_model::{Labels, METRIC_NAME};

/// Label of the upper bound of a bucket.
const BOUND: &str = "le";

/// What a column is of a classic histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Bucket,
    /// The same numbers as the bucket without a bound.
    Count,
    /// Nothing, or something that resembles no other part.
    Other,
}

/// Compares two columns: by metric name without the suffix of a bucket or a count, by the other labels, by part, by
/// bound. Equal when the label sets are.
pub(crate) fn column_order(a: &Labels, b: &Labels) -> Ordering {
    let ((name_a, part_a), (name_b, part_b)) = (split(a), split(b));
    name_a.cmp(name_b).then_with(|| rest(a).cmp(rest(b))).then(part_a.cmp(&part_b)).then_with(|| {
        let (a, b) = (a.get(BOUND), b.get(BOUND));
        match (a.map(number), b.map(number)) {
            (Some(x), Some(y)) => x.total_cmp(&y),
            // A set without a bound stands before those with one.
            (x, y) => x.is_some().cmp(&y.is_some()),
        }
        .then_with(|| a.cmp(&b))
    })
}

/// Whether `b` is a bucket or the count of a histogram that `a` is a bucket of.
pub(crate) fn continues(a: &Labels, b: &Labels) -> bool {
    let ((name_a, part_a), (name_b, part_b)) = (split(a), split(b));
    part_a == Part::Bucket && part_b != Part::Other && name_a == name_b && rest(a).eq(rest(b))
}

/// The name of the histogram and the part of it; the metric name itself for anything else.
fn split(labels: &Labels) -> (&str, Part) {
    let name = labels.metric_name();
    let (suffix, part) = if labels.get(BOUND).is_some() { ("_bucket", Part::Bucket) } else { ("_count", Part::Count) };
    name.strip_suffix(suffix).map_or((name, Part::Other), |name| (name, part))
}

fn rest(labels: &Labels) -> impl Iterator<Item = (&str, &str)> {
    labels.iter().filter(|(name, _)| *name != BOUND && *name != METRIC_NAME)
}

/// What is no number comes last.
fn number(bound: &str) -> f64 {
    bound.parse().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_histogram_are_neighbours_and_buckets_in_the_order_of_their_bounds() {
        let of = |name: &str, method: &str| Labels::from_pairs([("__name__", name), ("method", method)]);
        let bucket =
            |method: &str, le: &str| Labels::from_pairs([("__name__", "x_bucket"), ("le", le), ("method", method)]);
        let expected = [
            (bucket("get", "-1"), false),
            (bucket("get", "0.5"), true),
            (bucket("get", "5"), true),
            (bucket("get", "5.0"), true),
            (bucket("get", "10"), true),
            (bucket("get", "+Inf"), true),
            (bucket("get", "odd"), true),
            (of("x_count", "get"), true),
            (bucket("put", "0.25"), false),
            (of("x_count", "put"), true),
            (of("x_bucket", "get"), false),
            (of("x_sum", "get"), false),
            (of("y_count", "get"), false),
        ];
        let mut sorted: Vec<Labels> = expected.iter().map(|(labels, _)| labels.clone()).collect();
        sorted.sort();
        sorted.sort_by(column_order);
        for (i, (labels, is_continued)) in expected.iter().enumerate() {
            assert_eq!(sorted[i], *labels);
            assert_eq!(i > 0 && continues(&sorted[i - 1], labels), *is_continued, "{labels}");
        }
    }
}
