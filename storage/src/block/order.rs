//! The order of the columns of a group: by label sets, but the buckets of a classic histogram side by side, by their
//! bounds as numbers. A bucket then differs little from the one before it.

use std::cmp::Ordering;

use promontory_model::Labels;

/// Label of the upper bound of a bucket.
const BOUND: &str = "le";

/// Compares two columns: by all labels but the bound, then by the bound. Equal when the label sets are.
pub(crate) fn column_order(a: &Labels, b: &Labels) -> Ordering {
    rest(a).cmp(rest(b)).then_with(|| {
        let (a, b) = (a.get(BOUND), b.get(BOUND));
        match (a.map(number), b.map(number)) {
            (Some(x), Some(y)) => x.total_cmp(&y),
            // A set without a bound stands before those with one.
            (x, y) => x.is_some().cmp(&y.is_some()),
        }
        .then_with(|| a.cmp(&b))
    })
}

/// Whether both are buckets of one histogram.
pub(crate) fn are_buckets_of_one(a: &Labels, b: &Labels) -> bool {
    a.get(BOUND).is_some() && b.get(BOUND).is_some() && rest(a).eq(rest(b))
}

fn rest(labels: &Labels) -> impl Iterator<Item = (&str, &str)> {
    labels.iter().filter(|(name, _)| *name != BOUND)
}

/// What is no number comes last.
fn number(bound: &str) -> f64 {
    bound.parse().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_of_a_histogram_are_neighbours_in_the_order_of_their_bounds() {
        let bucket =
            |method: &str, le: &str| Labels::from_pairs([("__name__", "x_bucket"), ("le", le), ("method", method)]);
        let count = Labels::from_pairs([("__name__", "x_count"), ("method", "get")]);
        let all = Labels::from_pairs([("__name__", "x_bucket"), ("method", "get")]);
        let expected = [
            all,
            bucket("get", "-1"),
            bucket("get", "0.5"),
            bucket("get", "5"),
            bucket("get", "5.0"),
            bucket("get", "10"),
            bucket("get", "+Inf"),
            bucket("get", "odd"),
            bucket("put", "0.25"),
            count,
        ];
        let mut sorted = expected.clone();
        sorted.sort();
        sorted.sort_by(column_order);
        assert_eq!(sorted, expected);
        let continued: Vec<bool> = expected.windows(2).map(|w| are_buckets_of_one(&w[0], &w[1])).collect();
        assert_eq!(continued, [false, true, true, true, true, true, true, false, false]);
    }
}
