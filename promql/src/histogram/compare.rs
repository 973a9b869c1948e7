//! Equality, and whether a counter was reset between two histograms.

use std::collections::BTreeMap;

use promontory_model::FloatHistogram;
use promontory_model::histogram::CounterResetHint;

use super::accumulate::reduced_index;
use super::{exponential_bound, indexed, is_custom};

/// Whether both hold the same observations in the same buckets. NaN equals NaN; hints do not matter.
#[must_use]
pub fn equals(a: &FloatHistogram, b: &FloatHistogram) -> bool {
    let same = |x: f64, y: f64| x == y || (x.is_nan() && y.is_nan());
    let populated = |h: &FloatHistogram, negative: bool| -> Vec<(i32, f64)> {
        let (spans, buckets) = side(h, negative);
        indexed(spans, buckets).filter(|(_, count)| *count != 0.0).collect()
    };
    a.schema == b.schema
        && same(a.count, b.count)
        && same(a.sum, b.sum)
        && (is_custom(a) || (a.zero_threshold == b.zero_threshold && same(a.zero_count, b.zero_count)))
        && a.custom_values == b.custom_values
        && [false, true].into_iter().all(|negative| {
            let (x, y) = (populated(a, negative), populated(b, negative));
            x.len() == y.len() && x.iter().zip(&y).all(|((i, v), (j, w))| i == j && same(*v, *w))
        })
}

fn side(h: &FloatHistogram, negative: bool) -> (&[promontory_model::histogram::Span], &[f64]) {
    if negative { (&h.negative_spans, &h.negative_buckets) } else { (&h.positive_spans, &h.positive_buckets) }
}

/// Whether the counter `current` has been reset since `previous`: something became less, or finer, or vanished.
#[must_use]
pub fn detect_reset(current: &FloatHistogram, previous: &FloatHistogram) -> bool {
    match current.counter_reset_hint {
        CounterResetHint::Reset => return true,
        CounterResetHint::NotReset => return false,
        // A gauge is looked at like a counter here: whoever asks wants to know.
        CounterResetHint::Unknown | CounterResetHint::Gauge => {}
    }
    if current.count < previous.count || is_custom(current) != is_custom(previous) {
        return true;
    }
    if is_custom(current) {
        return if current.custom_values == previous.custom_values {
            shrunk(&bucket_map(current, false, Some), &bucket_map(previous, false, Some))
        } else {
            custom_shrunk(current, previous)
        };
    }
    if current.schema > previous.schema || current.zero_threshold < previous.zero_threshold {
        return true;
    }
    let threshold = current.zero_threshold;
    let mut zero = previous.zero_count;
    for negative in [false, true] {
        let (spans, buckets) = side(previous, negative);
        for (index, count) in indexed(spans, buckets).filter(|(_, count)| *count != 0.0) {
            if exponential_bound(index.wrapping_sub(1), previous.schema) >= threshold {
                continue;
            }
            if exponential_bound(index, previous.schema) > threshold {
                // The new zero bucket ends inside a populated bucket: its observations cannot be told apart.
                return true;
            }
            zero += count;
        }
    }
    if current.zero_count < zero {
        return true;
    }
    [false, true].into_iter().any(|negative| {
        let outside = |index: i32, schema: i32| exponential_bound(index, schema) > threshold;
        let now = bucket_map(current, negative, |i| outside(i, current.schema).then_some(i));
        let before = bucket_map(previous, negative, |i| {
            outside(i, previous.schema).then(|| reduced_index(i, previous.schema, current.schema))
        });
        shrunk(&now, &before)
    })
}

/// Counts by the index that `key` gives; left out where it gives none.
fn bucket_map(h: &FloatHistogram, negative: bool, key: impl Fn(i32) -> Option<i32>) -> BTreeMap<i32, f64> {
    let (spans, buckets) = side(h, negative);
    let mut map = BTreeMap::new();
    for (index, count) in indexed(spans, buckets) {
        if let Some(key) = key(index) {
            *map.entry(key).or_insert(0.0) += count;
        }
    }
    map
}

fn shrunk(now: &BTreeMap<i32, f64>, before: &BTreeMap<i32, f64>) -> bool {
    before.iter().any(|(index, count)| *count != 0.0 && now.get(index).is_none_or(|n| n < count))
}

/// As [`shrunk`] over the bounds that both have.
fn custom_shrunk(current: &FloatHistogram, previous: &FloatHistogram) -> bool {
    let common: Vec<f64> = current
        .custom_values
        .iter()
        .copied()
        .filter(|bound| previous.custom_values.binary_search_by(|x| x.total_cmp(bound)).is_ok())
        .collect();
    let reduced = |h: &FloatHistogram| {
        bucket_map(h, false, |i| {
            let (_, upper) = super::bounds(h, i);
            i32::try_from(common.partition_point(|b| *b < upper)).ok()
        })
    };
    shrunk(&reduced(current), &reduced(previous))
}
