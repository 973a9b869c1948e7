//! Exact maps from floats to integers: most metrics are decimal numbers with few digits, or binary fractions.
//!
//! A map is used only if every value comes back bit for bit. NaN, infinities and -0.0 have no integer; the caller
//! takes them out first.

use super::ints::Run;

/// Integers up to here survive the conversions below.
const INT_MAX: f64 = 2_251_799_813_685_248.0; // 2^51
/// Adding and subtracting this rounds to the nearest integer and shows it in the low bits of the mantissa.
const MAGIC: f64 = 6_755_399_441_055_744.0; // 1.5 · 2^52
/// Largest decimal exponent that is tried.
const DECIMALS_MAX: u8 = 13;
/// Decimal exponents of the [`Map::Product`] form: exporters multiply by .001 and the like.
const PRODUCT_DECIMALS: [u8; 4] = [3, 6, 9, 2];
/// Largest number of fractional bits.
const FRACTION_BITS_MAX: u8 = 60;

/// Binary fractions up to here are what a clock gives; longer ones may be sums whose last bits have drifted.
const FRACTION_BITS_SHORT: u8 = 33;
/// Near maps that are tried.
const NEAR: [Map; 8] = [
    Map::NearDecimal(2),
    Map::NearDecimal(3),
    Map::NearDecimal(6),
    Map::NearDecimal(9),
    Map::NearBinary(20),
    Map::NearBinary(22),
    Map::NearBinary(30),
    Map::NearBinary(33),
];

const POW10: [f64; 16] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
const POW10_INV: [f64; 16] =
    [1e0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-11, 1e-12, 1e-13, 1e-14, 1e-15];

/// How an integer becomes a float again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Map {
    /// The integer itself.
    Int,
    /// Divided by 10^e.
    Decimal(u8),
    /// Multiplied by the nearest float to 10^-e.
    Product(u8),
    /// Multiplied by 2^-k.
    Binary(u8),
    /// The float's bits, in the order of the numbers.
    Bits,
    /// Divided by 10^e, then some floats up or down: sums of decimals, whose last bits have drifted.
    NearDecimal(u8),
    /// Multiplied by 2^-k, then some floats up or down: sums of measured seconds.
    NearBinary(u8),
}

impl Map {
    /// Number in the tag, and the parameter byte if there is one.
    pub(super) fn code(self) -> (u8, Option<u8>) {
        match self {
            Self::Int => (0, None),
            Self::Decimal(e) => (1, Some(e)),
            Self::Product(e) => (2, Some(e)),
            Self::Binary(k) => (3, Some(k)),
            Self::Bits => (4, None),
            Self::NearDecimal(e) => (5, Some(e)),
            Self::NearBinary(k) => (6, Some(k)),
        }
    }

    /// Whether the map with this number has a parameter byte.
    pub(super) fn has_parameter(code: u8) -> bool {
        !matches!(code, 0 | 4)
    }

    /// The map of a tag; `None` for what no writer gives.
    pub(super) fn from_code(code: u8, parameter: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Int),
            1 if (1..=15).contains(&parameter) => Some(Self::Decimal(parameter)),
            2 if (1..=15).contains(&parameter) => Some(Self::Product(parameter)),
            3 if (1..=FRACTION_BITS_MAX).contains(&parameter) => Some(Self::Binary(parameter)),
            4 => Some(Self::Bits),
            5 if (1..=15).contains(&parameter) => Some(Self::NearDecimal(parameter)),
            6 if (1..=FRACTION_BITS_MAX).contains(&parameter) => Some(Self::NearBinary(parameter)),
            _ => None,
        }
    }

    /// Whether a second column says how many floats lie between the map's value and the true one.
    pub(super) fn is_near(self) -> bool {
        matches!(self, Self::NearDecimal(_) | Self::NearBinary(_))
    }

    /// Appends the floats of a run.
    pub(super) fn restore(self, run: &Run<'_>, out: &mut Vec<f64>) {
        match *run {
            Run::Ints(ints) if self == Self::Bits => out.extend(ints.iter().map(|m| f64::from_bits(unordered(*m)))),
            Run::Ints(ints) => self.scaled(ints.iter().map(|m| to_float(*m)), out),
            Run::Narrow { base, slope: 0.0, scale, steps } => {
                self.scaled(steps.iter().map(|step| base + scale * f64::from(*step)), out);
            }
            Run::Narrow { base, slope, scale, steps } => {
                let along = |(i, step): (usize, &i32)| base + slope * (i as i32 + 1) as f64 + scale * f64::from(*step);
                self.scaled(steps.iter().enumerate().map(along), out);
            }
            Run::Same(m, n) => {
                let start = out.len();
                self.restore(&Run::Ints(&[m]), out);
                out.resize(start + n, out[start]);
            }
        }
    }

    fn scaled(self, numbers: impl ExactSizeIterator<Item = f64>, out: &mut Vec<f64>) {
        match self {
            Self::Int | Self::Bits => out.extend(numbers),
            Self::Decimal(e) | Self::NearDecimal(e) => {
                let p = POW10[usize::from(e)];
                out.extend(numbers.map(|m| m / p));
            }
            Self::Product(e) => {
                let p = POW10_INV[usize::from(e)];
                out.extend(numbers.map(|m| m * p));
            }
            Self::Binary(k) | Self::NearBinary(k) => {
                let p = exp2(-i32::from(k));
                out.extend(numbers.map(|m| m * p));
            }
        }
    }
}

/// 2^k for |k| ≤ 1022.
fn exp2(k: i32) -> f64 {
    f64::from_bits(((1023 + i64::from(k)) as u64) << 52)
}

/// Rounds |x| < 2^51 to the nearest integer; vectorises where `round` is a call.
pub(crate) fn round(x: f64) -> f64 {
    (x + MAGIC) - MAGIC
}

/// The integer of an integral |x| < 2^51.
fn to_int(x: f64) -> i64 {
    ((x + MAGIC).to_bits() as i64).wrapping_sub(MAGIC.to_bits() as i64)
}

/// The float of an integer |m| < 2^51; other integers give some float.
fn to_float(m: i64) -> f64 {
    f64::from_bits(m.wrapping_add(MAGIC.to_bits() as i64) as u64) - MAGIC
}

/// Bits as a signed integer with the order of the floats.
fn ordered(bits: u64) -> i64 {
    let b = bits as i64;
    b ^ (((b >> 63) as u64) >> 1) as i64
}

fn unordered(m: i64) -> u64 {
    (m ^ (((m >> 63) as u64) >> 1) as i64) as u64
}

/// Whether `bits` are NaN, ±Inf or -0.0.
pub(super) fn is_odd(bits: u64) -> bool {
    const EXPONENT: u64 = 0x7ff << 52;
    bits & EXPONENT == EXPONENT || bits == 1 << 63
}

/// The float that lies `by` floats above.
pub(super) fn moved(v: f64, by: i64) -> f64 {
    f64::from_bits(unordered(ordered(v.to_bits()).wrapping_add(by)))
}

/// The cheapest map of `values`, which hold nothing odd, and their integers; corrections if the map needs them.
pub(super) fn to_ints(values: &[f64], ints: &mut Vec<i64>, corrections: &mut Vec<i64>) -> Map {
    let exact = to_exact_ints(values, ints);
    let is_long = match exact {
        Map::Bits => true,
        Map::Binary(k) => k > FRACTION_BITS_SHORT,
        _ => false,
    };
    if !is_long {
        return exact;
    }
    let Some(near) = find_near(values, ints) else {
        return exact;
    };
    near.split(values, ints, corrections);
    near
}

impl Map {
    /// Integers and corrections of a near map.
    fn split(self, values: &[f64], ints: &mut Vec<i64>, corrections: &mut Vec<i64>) {
        let scale = self.scale();
        ints.clear();
        ints.extend(values.iter().map(|v| to_int(v * scale)));
        let mut near = Vec::with_capacity(values.len());
        self.restore(&Run::Ints(ints), &mut near);
        corrections.clear();
        corrections
            .extend(values.iter().zip(&near).map(|(v, n)| ordered(v.to_bits()).wrapping_sub(ordered(n.to_bits()))));
    }

    fn scale(self) -> f64 {
        match self {
            Self::Int | Self::Bits => 1.0,
            Self::Decimal(e) | Self::Product(e) | Self::NearDecimal(e) => POW10[usize::from(e)],
            Self::Binary(k) | Self::NearBinary(k) => exp2(i32::from(k)),
        }
    }
}

/// The near map that makes the differences of integers and corrections together smaller than those of `exact`; judged
/// on the first values.
fn find_near(values: &[f64], exact: &[i64]) -> Option<Map> {
    const JUDGED: usize = 64;
    let head = &values[..values.len().min(JUDGED)];
    let largest = values.iter().fold(0f64, |m, v| m.max(v.abs()));
    // A second column has its price in bytes and time; a small gain does not pay for it.
    let mut best = (difference_bits(&exact[..head.len()]) / 8 * 7, None);
    let (mut ints, mut corrections) = (Vec::new(), Vec::new());
    for near in NEAR {
        if largest * near.scale() >= INT_MAX {
            continue;
        }
        near.split(head, &mut ints, &mut corrections);
        let bits = difference_bits(&ints) + difference_bits(&corrections);
        if bits < best.0 {
            best = (bits, Some(near));
        }
    }
    best.1
}

fn difference_bits(ints: &[i64]) -> u32 {
    ints.windows(2).map(|w| 64 - crate::wire::zigzag(w[1].wrapping_sub(w[0])).leading_zeros()).sum()
}

/// The cheapest exact map of `values` and their integers.
fn to_exact_ints(values: &[f64], ints: &mut Vec<i64>) -> Map {
    ints.clear();
    if let Some(e) = find_decimal(values) {
        let p = POW10[usize::from(e)];
        ints.extend(values.iter().map(|v| to_int(v * p)));
        return if e == 0 { Map::Int } else { Map::Decimal(e) };
    }
    for e in PRODUCT_DECIMALS {
        if is_product(&values[..values.len().min(16)], e) && is_product(values, e) {
            let p = POW10[usize::from(e)];
            ints.extend(values.iter().map(|v| to_int(v * p)));
            return Map::Product(e);
        }
    }
    if let Some(k) = find_binary(values) {
        let p = exp2(i32::from(k));
        ints.extend(values.iter().map(|v| to_int(v * p)));
        return Map::Binary(k);
    }
    ints.extend(values.iter().map(|v| ordered(v.to_bits())));
    Map::Bits
}

/// Whether nothing will make `values` shorter, judged by some of them: neighbours differ in sign and in all digits, and
/// no decimal map fits. To find this out by trying takes ten times as long.
pub(super) fn is_noise(values: &[f64]) -> bool {
    const JUDGED: usize = 16;
    /// Bits of a float that are the same in those of few digits.
    const LAST_BITS: u64 = 0xff;
    if values.len() < JUDGED {
        return false;
    }
    let step = (values.len() - 1) / (JUDGED - 1);
    let (mut n_flips, mut n_long) = (0, 0);
    for pair in values.windows(2).step_by(step) {
        let (a, b) = (pair[0].to_bits(), pair[1].to_bits());
        n_flips += usize::from((a ^ b) >> 63 == 1);
        n_long += usize::from(a & LAST_BITS != 0 && (a ^ b) & LAST_BITS != 0);
    }
    let some = &values[..JUDGED];
    let is_decimal = || find_decimal(some).is_some() || PRODUCT_DECIMALS.iter().any(|e| is_product(some, *e));
    n_flips * 5 >= JUDGED && n_long * 4 >= JUDGED * 3 && !is_decimal()
}

/// The smallest exponent with which every value times this power of ten is an integer that gives the value again; `None`
/// when there is none or a value is odd.
pub(crate) fn decimals(values: &[f64]) -> Option<u8> {
    if values.iter().fold(false, |acc, v| acc | is_odd(v.to_bits())) { None } else { find_decimal(values) }
}

/// 10^e, for exponents up to 15.
pub(crate) fn power_of_ten(e: u8) -> f64 {
    POW10[usize::from(e % 16)]
}

fn is_decimal(v: f64, p: f64) -> bool {
    let m = round(v * p);
    (m / p).to_bits() == v.to_bits() && m.abs() < INT_MAX
}

/// Without branches inside, so that it vectorises.
fn all(values: &[f64], bad: impl Fn(f64) -> u64) -> bool {
    values.chunks(64).all(|chunk| chunk.iter().fold(0, |acc, v| acc | bad(*v)) == 0)
}

fn all_integers(values: &[f64]) -> bool {
    all(values, |v| (round(v).to_bits() ^ v.to_bits()) | u64::from(v.abs() >= INT_MAX))
}

fn all_decimal(values: &[f64], p: f64) -> bool {
    all(values, |v| {
        let m = round(v * p);
        ((m / p).to_bits() ^ v.to_bits()) | u64::from(m.abs() >= INT_MAX)
    })
}

fn is_product(values: &[f64], e: u8) -> bool {
    let (p, q) = (POW10[usize::from(e)], POW10_INV[usize::from(e)]);
    all(values, |v| {
        let m = round(v * p);
        ((m * q).to_bits() ^ v.to_bits()) | u64::from(m.abs() >= INT_MAX)
    })
}

/// The smallest e for which every value is an integer divided by 10^e.
fn find_decimal(values: &[f64]) -> Option<u8> {
    if all_integers(values) {
        return Some(0);
    }
    let mut e = 0;
    for &v in values {
        while !is_decimal(v, POW10[usize::from(e)]) {
            e += 1;
            if e > DECIMALS_MAX {
                return None;
            }
        }
    }
    // A larger exponent may push earlier values past the range of exact integers.
    all_decimal(values, POW10[usize::from(e)]).then_some(e)
}

/// The number of fractional bits with which every value is an integer below 2^51.
fn find_binary(values: &[f64]) -> Option<u8> {
    let mut k = 0;
    let mut largest = 0f64;
    for &v in values {
        if v == 0.0 {
            continue;
        }
        let exponent = (v.to_bits() >> 52 & 0x7ff) as i32;
        if exponent == 0 {
            return None;
        }
        let mantissa = v.to_bits() & ((1 << 52) - 1) | 1 << 52;
        k = k.max(1075 - exponent - mantissa.trailing_zeros() as i32);
        largest = largest.max(v.abs());
    }
    let k = u8::try_from(k).ok().filter(|k| (1..=FRACTION_BITS_MAX).contains(k))?;
    (largest * exp2(i32::from(k)) < INT_MAX).then_some(k)
}

/// One value for a constant column: its integer and the map, if a short one exists.
pub(super) fn one_to_int(v: f64) -> Option<(Map, i64)> {
    if is_odd(v.to_bits()) {
        return None;
    }
    let e = (0..=DECIMALS_MAX).find(|e| is_decimal(v, POW10[usize::from(*e)]))?;
    let m = to_int(v * POW10[usize::from(e)]);
    Some((if e == 0 { Map::Int } else { Map::Decimal(e) }, m))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(values: &[f64], map: Map) {
        let mut ints = Vec::new();
        assert_eq!(to_exact_ints(values, &mut ints), map, "{values:?}");
        let mut back = Vec::new();
        map.restore(&Run::Ints(&ints), &mut back);
        let bits = |v: &[f64]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&back), bits(values));
    }

    #[test]
    fn the_shortest_exact_map_is_found() {
        check(&[0.0, 1.0, -5.0, 1e15], Map::Int);
        check(&[0.5, 1.25, 3.0], Map::Decimal(2));
        check(&[0.1, 0.2, 12.345_678], Map::Decimal(6));
        check(&[f64::from_bits(1), 1.0], Map::Bits);
        check(&[1.0 + exp2(-40), 2.0], Map::Binary(40));
        check(&[1e300, 1.0], Map::Bits);
    }

    #[test]
    fn only_what_nothing_shortens_is_noise() {
        let bits = |i: u64| (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let unit = |i: u64| (bits(i) >> 11) as f64 / (1u64 << 53) as f64;
        #[track_caller]
        fn check(value: impl Fn(u64) -> f64, expected: bool) {
            assert_eq!(is_noise(&(0..480).map(value).collect::<Vec<_>>()), expected);
        }
        check(|i| f64::from_bits(bits(i)), true);
        check(|i| unit(i) * 2e3 - 1e3, true);
        check(|i| (unit(i) * 2e3 - 1e3).round() / 1e2, false);
        check(|i| (unit(i) * 2e3 - 1e3).round() * 1e-3, false);
        check(|i| (unit(i) * 2e3 - 1e3).round() / 64.0, false);
        check(unit, false);
        check(|i| (i as f64 / 9.0).sin(), false);
        check(|i| if i % 2 == 0 { 1.0 / 3.0 } else { -1.0 / 3.0 }, false);
    }

    proptest! {
        #[test]
        fn order_of_bits_is_order_of_numbers(a in any::<f64>(), b in any::<f64>()) {
            prop_assert_eq!(unordered(ordered(a.to_bits())), a.to_bits());
            if a < b {
                prop_assert!(ordered(a.to_bits()) < ordered(b.to_bits()));
            }
        }
    }
}
