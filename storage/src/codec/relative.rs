//! A column as differences to a similar one, such as the bucket with the next lower bound.
//!
//! A difference of zero stands for the same bits, so that both columns may hold the same odd values.

/// What takes `before` to `value`: nothing when their bits are the same.
#[must_use]
pub fn difference(value: f64, before: f64) -> f64 {
    if value.to_bits() == before.to_bits() { 0.0 } else { value - before }
}

fn add(before: f64, difference: f64) -> f64 {
    if difference == 0.0 { before } else { before + difference }
}

/// Appends the differences of `values` to as many values of another column. `false` when one of the values would not
/// come back bit for bit, or the differences look no smaller than the values: then what is appended is of no use.
pub fn differences(values: &[f64], before: &[f64], out: &mut Vec<f64>) -> bool {
    debug_assert_eq!(values.len(), before.len());
    let start = out.len();
    out.extend(values.iter().zip(before).map(|(v, b)| difference(*v, *b)));
    let wrong = |((v, b), d): ((&f64, &f64), &f64)| v.to_bits() ^ add(*b, *d).to_bits();
    let all = values.iter().zip(before).zip(&out[start..]);
    all.fold(0, |acc, of_row| acc | wrong(of_row)) == 0 && weight(&out[start..]) <= weight(values)
}

/// Bits of the changes from value to value, roughly: of whole numbers.
fn weight(values: &[f64]) -> u64 {
    let bits = |change: f64| (change.to_bits() >> 52 & 0x7ff).saturating_sub(1022);
    values.windows(2).map(|w| bits(w[1] - w[0])).sum()
}

/// Turns differences into values again.
pub fn restore(before: &[f64], differences: &mut [f64]) {
    for (d, b) in differences.iter_mut().zip(before) {
        *d = add(*b, *d);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_accepted_comes_back(
            pairs in proptest::collection::vec(prop_oneof![
                (any::<u64>(), any::<u64>()),
                any::<u64>().prop_map(|x| (x, x)),
                (0u32..99, 0u32..99).prop_map(|(a, b)| (f64::from(a).to_bits(), f64::from(b).to_bits())),
            ], 1..40)
        ) {
            let of = |get: fn(&(u64, u64)) -> u64| pairs.iter().map(|p| f64::from_bits(get(p))).collect::<Vec<_>>();
            let (values, before) = (of(|p| p.0), of(|p| p.1));
            let mut got = Vec::new();
            if differences(&values, &before, &mut got) {
                prop_assert!(difference(values[0], before[0]).to_bits() == got[0].to_bits());
                restore(&before, &mut got);
                prop_assert!(got.iter().zip(&values).all(|(a, b)| a.to_bits() == b.to_bits()));
            }
        }
    }

    #[test]
    fn buckets_with_a_common_end_are_accepted() {
        let stale = f64::from_bits(promontory_model::STALE_NAN_BITS);
        let mut out = Vec::new();
        assert!(differences(&[10.0, 30.0, 90.0, stale], &[9.0, 28.0, 85.0, stale], &mut out));
        assert_eq!(out, [1.0, 2.0, 5.0, 0.0]);
        assert!(!differences(&[10.0, 10.0, 10.0], &[1.0, 5.0, 9.0], &mut Vec::new()), "larger than the values");
        assert!(!differences(&[-0.0, 1.0], &[0.0, 1.0], &mut Vec::new()), "the sign would be lost");
    }
}
