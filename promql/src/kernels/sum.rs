//! Compensated sums (Neumaier's form of Kahan's), in the order of operations of Prometheus 3.14.

/// Adds `inc` to the sum `(sum, c)`, where `c` collects what rounding lost.
#[inline]
pub(crate) fn add(inc: f64, sum: f64, c: f64) -> (f64, f64) {
    let t = sum + inc;
    let c = if t.is_infinite() {
        0.0
    } else if sum.abs() >= inc.abs() {
        c + ((sum - t) + inc)
    } else {
        c + ((inc - t) + sum)
    };
    (t, c)
}

/// Adds each of `values` to the sum at its place, as [`add`] does. Without branches inside, so that it vectorises.
pub(crate) fn add_each(values: &[f64], sums: &mut [f64], cs: &mut [f64]) {
    for ((v, s), c) in values.iter().zip(sums).zip(cs) {
        let t = *s + *v;
        let is_sum_larger = s.abs() >= v.abs();
        let (large, small) = if is_sum_larger { (*s, *v) } else { (*v, *s) };
        let c_next = *c + ((large - t) + small);
        *c = if t.is_infinite() { 0.0 } else { c_next };
        *s = t;
    }
}

/// The value of a compensated sum.
#[inline]
pub(crate) fn finish(sum: f64, c: f64) -> f64 {
    if sum.is_infinite() { sum } else { sum + c }
}

/// A running mean that sums as long as the sum is finite, and else updates the mean incrementally.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mean {
    /// The sum, or the mean once `incremental`.
    value: f64,
    c: f64,
    pub(crate) count: f64,
    incremental: bool,
}

impl Mean {
    /// Nothing added yet.
    pub(crate) const EMPTY: Self = Self { value: 0.0, c: 0.0, count: 0.0, incremental: false };

    /// Adds one value.
    #[inline]
    pub(crate) fn add(&mut self, v: f64) {
        self.count += 1.0;
        if self.count == 1.0 {
            self.value = v;
            return;
        }
        if !self.incremental {
            let (sum, c) = add(v, self.value, self.c);
            if !sum.is_infinite() {
                (self.value, self.c) = (sum, c);
                return;
            }
            self.incremental = true;
            self.value /= self.count - 1.0;
            self.c /= self.count - 1.0;
        }
        let q = (self.count - 1.0) / self.count;
        (self.value, self.c) = add(v / self.count, q * self.value, q * self.c);
    }

    /// Adds all that `other` has seen.
    pub(crate) fn merge(&mut self, other: &Self) {
        if other.count == 0.0 {
            return;
        }
        if self.count == 0.0 {
            *self = *other;
            return;
        }
        let count = self.count + other.count;
        if !self.incremental && !other.incremental {
            let (sum, c) = add(other.value, self.value, self.c + other.c);
            if !sum.is_infinite() {
                *self = Self { value: sum, c, count, incremental: false };
                return;
            }
        }
        let (a, b) = (self.as_incremental(), other.as_incremental());
        let (qa, qb) = (self.count / count, other.count / count);
        let (value, c) = add(qb * b.value, qa * a.value, qa * a.c + qb * b.c);
        *self = Self { value, c, count, incremental: true };
    }

    fn as_incremental(&self) -> Self {
        if self.incremental {
            return *self;
        }
        Self { value: self.value / self.count, c: self.c / self.count, count: self.count, incremental: true }
    }

    /// The mean; of nothing it is NaN.
    #[inline]
    pub(crate) fn finish(&self) -> f64 {
        if self.incremental { self.value + self.c } else { self.value / self.count + self.c / self.count }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(values: &[f64], sum: f64, mean: f64) {
        let (mut s, mut c) = (0.0, 0.0);
        let mut m = Mean::EMPTY;
        for v in values {
            (s, c) = add(*v, s, c);
            m.add(*v);
        }
        let same = |a: f64, b: f64| a == b || a.is_nan() && b.is_nan();
        assert!(same(finish(s, c), sum), "sum of {values:?} is {}", finish(s, c));
        assert!(same(m.finish(), mean), "mean of {values:?} is {}", m.finish());
        for split in 0..=values.len() {
            let (mut a, mut b) = (Mean::EMPTY, Mean::EMPTY);
            values[..split].iter().for_each(|v| a.add(*v));
            values[split..].iter().for_each(|v| b.add(*v));
            a.merge(&b);
            let got = a.finish();
            assert!(same(got, mean) || ((got - mean) / mean).abs() < 1e-12, "merged at {split}: {got} for {mean}");
        }
    }

    #[test]
    fn sums_side_by_side_are_those_of_each() {
        let values = [1.0, -1e100, 1e308, f64::INFINITY, f64::NAN, 0.1, -0.0, -0.3];
        let mut sums: Vec<f64> = values.iter().rev().copied().collect();
        let mut cs = vec![0.25; values.len()];
        let want: Vec<_> = sums.iter().zip(&cs).zip(values).map(|((s, c), v)| add(v, *s, *c)).collect();
        add_each(&values, &mut sums, &mut cs);
        for ((s, c), (t, d)) in sums.iter().zip(&cs).zip(want) {
            assert_eq!((s.to_bits(), c.to_bits()), (t.to_bits(), d.to_bits()));
        }
    }

    #[test]
    fn large_values_that_cancel_leave_the_small_ones() {
        check(&[1.0, 1e100, 1.0, -1e100], 2.0, 0.5);
    }

    #[test]
    fn mean_survives_a_sum_beyond_the_largest_float() {
        let big = 1e308;
        check(&[big, big, big, big], f64::INFINITY, big);
        check(&[-big, -big], f64::NEG_INFINITY, -big);
    }

    #[test]
    fn infinities_stay_and_cancel_to_nan() {
        check(&[1.0, f64::INFINITY, 2.0], f64::INFINITY, f64::INFINITY);
        check(&[f64::INFINITY, f64::NEG_INFINITY], f64::NAN, f64::NAN);
    }
}
