//! Adding and subtracting histograms, with compensated sums.

use std::collections::BTreeMap;

use promontory_model::FloatHistogram;
use promontory_model::histogram::CounterResetHint;

use super::{bounds, exponential_bound, indexed, is_custom, packed};

/// Exponential and custom buckets have nothing in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot merge histograms with exponential and custom buckets")]
pub struct Incompatible;

/// What happened while merging, of which the user should hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Merged {
    /// One histogram was known to follow a counter reset, another was known not to.
    pub reset_collision: bool,
    /// Custom bounds differed and were reduced to the common ones.
    pub bounds_reconciled: bool,
}

impl Merged {
    /// Both together.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            reset_collision: self.reset_collision || other.reset_collision,
            bounds_reconciled: self.bounds_reconciled || other.bounds_reconciled,
        }
    }
}

/// A number as a sum and what rounding has cost it so far.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Compensated {
    sum: f64,
    lost: f64,
}

impl Compensated {
    /// This number exactly.
    #[must_use]
    pub(crate) fn new(value: f64) -> Self {
        Self { sum: value, lost: 0.0 }
    }

    /// Adds by Neumaier's rule.
    pub(crate) fn add(&mut self, value: f64) {
        let total = self.sum + value;
        if total.is_infinite() {
            self.lost = 0.0;
        } else if self.sum.abs() >= value.abs() {
            self.lost += (self.sum - total) + value;
        } else {
            self.lost += (value - total) + self.sum;
        }
        self.sum = total;
    }

    /// The number without compensation.
    #[must_use]
    pub(crate) fn plain(self) -> f64 {
        self.sum
    }

    /// The number.
    #[must_use]
    pub(crate) fn value(self) -> f64 {
        self.sum + self.lost
    }

    /// What rounding has cost so far.
    pub(crate) fn lost(self) -> f64 {
        self.lost
    }

    /// Multiplies number and compensation.
    pub(crate) fn scale(&mut self, factor: f64) {
        self.sum *= factor;
        self.lost *= factor;
    }

    fn add_other(&mut self, other: Self) {
        self.add(other.sum);
        self.lost += other.lost;
    }
}

type Buckets = BTreeMap<i32, Compensated>;

/// A histogram being built by adding others to it.
#[derive(Debug, Clone)]
pub struct Accumulator {
    /// Everything but counts.
    shape: FloatHistogram,
    count: Compensated,
    sum: Compensated,
    zero: Compensated,
    positive: Buckets,
    negative: Buckets,
}

impl Accumulator {
    /// Starts from `h`.
    #[must_use]
    pub fn new(h: &FloatHistogram) -> Self {
        let collect = |spans, buckets| {
            let populated = indexed(spans, buckets).filter(|(_, count)| *count != 0.0);
            populated.map(|(index, count)| (index, Compensated::new(count))).collect()
        };
        Self {
            shape: FloatHistogram {
                // A width that is no number would never equal another.
                zero_threshold: if h.zero_threshold.is_nan() { 0.0 } else { h.zero_threshold },
                positive_spans: Vec::new(),
                positive_buckets: Vec::new(),
                negative_spans: Vec::new(),
                negative_buckets: Vec::new(),
                ..h.clone()
            },
            count: Compensated::new(h.count),
            sum: Compensated::new(h.sum),
            zero: Compensated::new(h.zero_count),
            positive: collect(&h.positive_spans, &h.positive_buckets),
            negative: collect(&h.negative_spans, &h.negative_buckets),
        }
    }

    /// Adds `h`.
    ///
    /// # Errors
    /// [`Incompatible`], and then nothing was added.
    pub fn add(&mut self, h: &FloatHistogram) -> Result<Merged, Incompatible> {
        self.merge(h, 1.0)
    }

    /// Subtracts `h`.
    ///
    /// # Errors
    /// [`Incompatible`], and then nothing was subtracted.
    pub fn sub(&mut self, h: &FloatHistogram) -> Result<Merged, Incompatible> {
        self.merge(h, -1.0)
    }

    /// Multiplies everything by `factor`; the compensation too.
    pub fn scale(&mut self, factor: f64) {
        let all = [&mut self.count, &mut self.sum, &mut self.zero];
        for c in all.into_iter().chain(self.positive.values_mut()).chain(self.negative.values_mut()) {
            c.scale(factor);
        }
    }

    /// Whether some number has left the range of floats.
    #[must_use]
    pub fn has_overflow(&self) -> bool {
        let all = [&self.count, &self.sum, &self.zero];
        all.into_iter().chain(self.positive.values()).chain(self.negative.values()).any(|c| c.plain().is_infinite())
    }

    /// The histogram so far.
    #[must_use]
    pub fn finish(&self) -> FloatHistogram {
        let values = |buckets: &Buckets| packed(buckets.iter().map(|(index, c)| (*index, c.value())));
        let (positive_spans, positive_buckets) = values(&self.positive);
        let (negative_spans, negative_buckets) = values(&self.negative);
        FloatHistogram {
            count: self.count.value(),
            sum: self.sum.value(),
            zero_count: self.zero.value(),
            positive_spans,
            positive_buckets,
            negative_spans,
            negative_buckets,
            ..self.shape.clone()
        }
    }

    fn merge(&mut self, h: &FloatHistogram, sign: f64) -> Result<Merged, Incompatible> {
        if is_custom(&self.shape) != is_custom(h) {
            return Err(Incompatible);
        }
        let mut other = Self::new(h);
        if sign < 0.0 {
            other.scale(sign);
        }
        let reset_collision = self.merge_hint(h.counter_reset_hint);
        let mut bounds_reconciled = false;
        if is_custom(h) {
            if self.shape.custom_values != other.shape.custom_values {
                let common = common_bounds(&self.shape.custom_values, &other.shape.custom_values);
                self.reduce_bounds(&common);
                other.reduce_bounds(&common);
                bounds_reconciled = true;
            }
        } else {
            self.widen_zero(&mut other);
            let schema = self.shape.schema.min(other.shape.schema);
            self.reduce_schema(schema);
            other.reduce_schema(schema);
        }
        self.count.add_other(other.count);
        self.sum.add_other(other.sum);
        self.zero.add_other(other.zero);
        for (mine, theirs) in [(&mut self.positive, other.positive), (&mut self.negative, other.negative)] {
            for (index, c) in theirs {
                mine.entry(index).or_default().add_other(c);
            }
        }
        Ok(Merged { reset_collision, bounds_reconciled })
    }

    /// Answers whether the two hints contradict each other.
    fn merge_hint(&mut self, other: CounterResetHint) -> bool {
        use CounterResetHint::{Gauge, Unknown};
        let hint = &mut self.shape.counter_reset_hint;
        match (*hint, other) {
            (mine, theirs) if mine == theirs => false,
            (Gauge, _) | (_, Gauge) => {
                *hint = Gauge;
                false
            }
            (Unknown, _) | (_, Unknown) => {
                *hint = Unknown;
                false
            }
            _ => {
                *hint = Unknown;
                true
            }
        }
    }

    /// Makes the zero buckets equally wide; each may force the other to grow to the end of a populated bucket.
    fn widen_zero(&mut self, other: &mut Self) {
        while self.shape.zero_threshold != other.shape.zero_threshold {
            if self.shape.zero_threshold > other.shape.zero_threshold {
                other.zero_up_to(self.shape.zero_threshold);
            } else {
                self.zero_up_to(other.shape.zero_threshold);
            }
        }
    }

    /// Widens the zero bucket to `threshold`, or to the end of a populated bucket that `threshold` lies in.
    fn zero_up_to(&mut self, mut threshold: f64) {
        let schema = self.shape.schema;
        let inside = |index: i32, threshold: f64| {
            let lower = exponential_bound(index.wrapping_sub(1), schema);
            (lower < threshold, exponential_bound(index, schema))
        };
        loop {
            let widest = self
                .positive
                .iter()
                .chain(&self.negative)
                .filter(|(_, c)| c.value() != 0.0)
                .map(|(index, _)| inside(*index, threshold))
                .filter_map(|(inside, upper)| (inside && upper > threshold).then_some(upper))
                .fold(threshold, f64::max);
            if widest == threshold {
                break;
            }
            threshold = widest;
        }
        for buckets in [&mut self.positive, &mut self.negative] {
            buckets.retain(|index, c| {
                let keep = !inside(*index, threshold).0;
                if !keep {
                    self.zero.add_other(*c);
                }
                keep
            });
        }
        self.shape.zero_threshold = threshold;
    }

    fn reduce_schema(&mut self, schema: i32) {
        let from = self.shape.schema;
        if schema >= from {
            return;
        }
        for buckets in [&mut self.positive, &mut self.negative] {
            let mut reduced = Buckets::new();
            for (index, c) in std::mem::take(buckets) {
                reduced.entry(reduced_index(index, from, schema)).or_default().add_other(c);
            }
            *buckets = reduced;
        }
        self.shape.schema = schema;
    }

    fn reduce_bounds(&mut self, common: &[f64]) {
        let mut reduced = Buckets::new();
        for (index, c) in std::mem::take(&mut self.positive) {
            let (_, upper) = bounds(&self.shape, index);
            let target = common.partition_point(|b| *b < upper);
            reduced.entry(i32::try_from(target).unwrap_or(i32::MAX)).or_default().add_other(c);
        }
        self.positive = reduced;
        self.shape.custom_values = common.to_vec();
    }
}

/// The bucket of a lower resolution that holds bucket `index`.
pub(super) fn reduced_index(index: i32, from: i32, to: i32) -> i32 {
    (index.wrapping_sub(1) >> from.saturating_sub(to).clamp(0, 31)).wrapping_add(1)
}

fn common_bounds(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().copied().filter(|bound| b.binary_search_by(|x| x.total_cmp(bound)).is_ok()).collect()
}
