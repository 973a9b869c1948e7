//! Columns of integers: constant, linear, or the cheapest of four transforms in packed blocks.
//!
//! All arithmetic wraps, so every i64 comes back whatever the transform; a transform only decides the size.

use super::CodecError;
use super::map::Map;
use super::pack::{self, BLOCK};
use crate::wire::{Reader, put_varint, put_zigzag, unzigzag, zigzag};

/// Blocks that are measured to choose a transform; longer columns are sampled.
const SAMPLED_BLOCKS_MAX: usize = 4;

/// How the integers of a column are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// All equal: the first.
    Constant,
    /// Equal differences: the first and the difference.
    Linear,
    /// Least value, then distances to it.
    Offset,
    /// First value, then zigzag differences.
    Delta,
    /// First value and least difference, then distances of the differences to it.
    DeltaOffset,
    /// First value and first difference, then zigzag changes of the difference.
    DeltaDelta,
}

impl Form {
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Constant => 0,
            Self::Linear => 1,
            Self::Offset => 2,
            Self::Delta => 3,
            Self::DeltaOffset => 4,
            Self::DeltaDelta => 5,
        }
    }

    pub(super) fn from_code(code: u8) -> Option<Self> {
        [Self::Constant, Self::Linear, Self::Offset, Self::Delta, Self::DeltaOffset, Self::DeltaDelta]
            .into_iter()
            .find(|f| f.code() == code)
    }
}

/// A column with its transform chosen.
pub(super) struct Plan {
    pub(super) form: Form,
    /// Divides all differences; 1 when it is not worth its bytes.
    pub(super) factor: u64,
    /// Numbers to pack.
    packed: Vec<u64>,
    /// Numbers before the packed ones.
    head: [i64; 2],
    n_head: usize,
}

impl Plan {
    /// The best form of `ints`, which are not empty. `divide` allows a common factor.
    pub(super) fn new(ints: &[i64], divide: bool) -> Self {
        let first = ints[0];
        let mut deltas: Vec<i64> = ints.windows(2).map(|w| w[1].wrapping_sub(w[0])).collect();
        let plain = |form, head: [i64; 2], n_head| Self { form, factor: 1, packed: Vec::new(), head, n_head };
        let Some(&first_delta) = deltas.first() else {
            return plain(Form::Constant, [first, 0], 1);
        };
        if deltas.iter().all(|d| *d == first_delta) {
            return match first_delta {
                0 => plain(Form::Constant, [first, 0], 1),
                d => plain(Form::Linear, [first, d], 2),
            };
        }
        let factor = if divide { common_factor(&deltas) } else { 1 };
        let mut quotients = Vec::new();
        let mut numbers = ints;
        if factor > 1 {
            // One division per number; the numbers follow from their differences.
            let divisor = factor as i64;
            quotients.reserve(ints.len());
            quotients.push(0);
            let mut at = 0i64;
            for d in &mut deltas {
                *d /= divisor;
                at = at.wrapping_add(*d);
                quotients.push(at);
            }
            numbers = &quotients;
        }
        let least_number = numbers.iter().copied().min().unwrap_or(0);
        let least =
            if factor > 1 { first.wrapping_add(least_number.wrapping_mul(factor as i64)) } else { least_number };
        let least_delta = deltas.iter().copied().min().unwrap_or(0);
        let form = choose(numbers, &deltas, least_number, least_delta);
        let packed = match form {
            Form::Offset => offsets(numbers, least_number).collect(),
            Form::DeltaOffset => offsets(&deltas, least_delta).collect(),
            Form::DeltaDelta => changes(&deltas).collect(),
            Form::Delta | Form::Constant | Form::Linear => deltas.iter().map(|d| zigzag(*d)).collect(),
        };
        let (head, n_head) = match form {
            Form::Offset => ([least, 0], 1),
            Form::DeltaOffset => ([first, least_delta], 2),
            Form::DeltaDelta => ([first, deltas[0]], 2),
            Form::Delta | Form::Constant | Form::Linear => ([first, 0], 1),
        };
        Self { form, factor, packed, head, n_head }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        if self.factor > 1 {
            put_varint(out, self.factor);
        }
        for h in &self.head[..self.n_head] {
            put_zigzag(out, *h);
        }
        pack::put(&self.packed, out);
    }
}

fn offsets(numbers: &[i64], least: i64) -> impl Iterator<Item = u64> {
    numbers.iter().map(move |m| m.wrapping_sub(least) as u64)
}

fn changes(deltas: &[i64]) -> impl Iterator<Item = u64> {
    deltas.windows(2).map(|w| zigzag(w[1].wrapping_sub(w[0])))
}

/// The greatest common divisor of the differences.
fn common_factor(deltas: &[i64]) -> u64 {
    let mut g = 0u64;
    for d in deltas {
        let a = d.unsigned_abs();
        if a == 0 || (g != 0 && a.is_multiple_of(g)) {
            continue;
        }
        g = gcd(a, g);
        if g == 1 {
            return 1;
        }
    }
    // The factor is used as a signed divisor.
    if g > i64::MAX as u64 { 1 } else { g.max(1) }
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Judges the transforms on up to four blocks spread over the column.
fn choose(numbers: &[i64], deltas: &[i64], least: i64, least_delta: i64) -> Form {
    let n_blocks = deltas.len().div_ceil(BLOCK);
    let step = n_blocks.div_ceil(SAMPLED_BLOCKS_MAX).max(1);
    let mut cost = [0u64; 4];
    let mut block = [0u64; BLOCK];
    for index in (0..n_blocks).step_by(step) {
        let from = index * BLOCK;
        let to = (from + BLOCK).min(deltas.len());
        let d = &deltas[from..to];
        let [offset, delta, delta_offset, delta_delta] = &mut cost;
        *offset += measure(&mut block, offsets(&numbers[from..to], least));
        // Differences of one sign are cheaper as distances to the least one, others as zigzag.
        if least_delta < 0 {
            *delta += measure(&mut block, d.iter().map(|d| zigzag(*d)));
        } else {
            *delta_offset += measure(&mut block, offsets(d, least_delta));
        }
        *delta_delta += measure(&mut block, changes(d));
    }
    let [offset, delta, delta_offset, delta_delta] = cost;
    let (by_delta, form) = if least_delta < 0 { (delta, Form::Delta) } else { (delta_offset, Form::DeltaOffset) };
    // Fewer dependent additions win ties.
    if offset <= by_delta && offset <= delta_delta {
        Form::Offset
    } else if by_delta <= delta_delta {
        form
    } else {
        Form::DeltaDelta
    }
}

fn measure(block: &mut [u64; BLOCK], values: impl Iterator<Item = u64>) -> u64 {
    let mut n = 0;
    for (b, v) in block.iter_mut().zip(values) {
        *b = v;
        n += 1;
    }
    pack::estimate_bits(&block[..n])
}

/// Reads `n ≥ 1` integers and appends the floats that `map` makes of them.
pub(super) fn read(
    form: Form,
    divided: bool,
    map: Map,
    bytes: &mut Reader<'_>,
    n: usize,
    out: &mut Vec<f64>,
) -> Result<(), CodecError> {
    each_block(form, divided, bytes, n, |ints| map.restore(ints, out))
}

/// Reads `n ≥ 1` integers in runs of at most a block.
pub(super) fn each_block(
    form: Form,
    divided: bool,
    bytes: &mut Reader<'_>,
    n: usize,
    mut emit: impl FnMut(&[i64]),
) -> Result<(), CodecError> {
    let factor = if divided { bytes.varint()? as i64 } else { 1 };
    let first = bytes.zigzag()?;
    let mut z = [0u64; BLOCK];
    let mut ints = [0i64; BLOCK];
    match form {
        Form::Constant => {
            ints.fill(first);
            for_blocks(n, |len| {
                emit(&ints[..len]);
                Ok(())
            })
        }
        Form::Linear => {
            let step = bytes.zigzag()?;
            let mut at = first;
            for_blocks(n, |len| {
                for m in &mut ints[..len] {
                    *m = at;
                    at = at.wrapping_add(step);
                }
                emit(&ints[..len]);
                Ok(())
            })
        }
        Form::Offset => for_blocks(n, |len| {
            pack::get_block(bytes, len, &mut z)?;
            for (m, z) in ints.iter_mut().zip(&z) {
                *m = (*z as i64).wrapping_mul(factor).wrapping_add(first);
            }
            emit(&ints[..len]);
            Ok(())
        }),
        Form::Delta | Form::DeltaOffset => {
            let least = if form == Form::DeltaOffset { bytes.zigzag()? } else { 0 };
            let mut at = first;
            emit(&[first]);
            for_blocks(n - 1, |len| {
                pack::get_block(bytes, len, &mut z)?;
                if form == Form::DeltaOffset {
                    for (m, z) in ints.iter_mut().zip(&z) {
                        *m = (*z as i64).wrapping_add(least).wrapping_mul(factor);
                    }
                } else {
                    for (m, z) in ints.iter_mut().zip(&z) {
                        *m = unzigzag(*z).wrapping_mul(factor);
                    }
                }
                running_sum(&mut at, &mut ints[..len]);
                emit(&ints[..len]);
                Ok(())
            })
        }
        Form::DeltaDelta => {
            if n < 2 {
                return Err(bytes.error("length of a column of changing differences").into());
            }
            let mut delta = bytes.zigzag()?.wrapping_mul(factor);
            let mut at = first.wrapping_add(delta);
            emit(&[first, at]);
            for_blocks(n - 2, |len| {
                pack::get_block(bytes, len, &mut z)?;
                for (m, z) in ints[..len].iter_mut().zip(&z) {
                    *m = unzigzag(*z).wrapping_mul(factor);
                }
                running_sum(&mut delta, &mut ints[..len]);
                running_sum(&mut at, &mut ints[..len]);
                emit(&ints[..len]);
                Ok(())
            })
        }
    }
}

fn for_blocks(n: usize, mut f: impl FnMut(usize) -> Result<(), CodecError>) -> Result<(), CodecError> {
    let mut left = n;
    while left > 0 {
        let len = left.min(BLOCK);
        f(len)?;
        left -= len;
    }
    Ok(())
}

/// Replaces each number by the sum up to it; `at` is the sum before and after. Four at a time, so that the chain of
/// dependent additions is a quarter as long.
fn running_sum(at: &mut i64, ints: &mut [i64]) {
    let mut chunks = ints.chunks_exact_mut(4);
    for c in &mut chunks {
        let ab = c[0].wrapping_add(c[1]);
        let cd = c[2].wrapping_add(c[3]);
        let third = ab.wrapping_add(c[2]);
        c[0] = at.wrapping_add(c[0]);
        c[1] = at.wrapping_add(ab);
        c[2] = at.wrapping_add(third);
        c[3] = at.wrapping_add(ab.wrapping_add(cd));
        *at = c[3];
    }
    for m in chunks.into_remainder() {
        *at = at.wrapping_add(*m);
        *m = *at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(ints: &[i64], divide: bool, form: Option<Form>) {
        let plan = Plan::new(ints, divide);
        if let Some(form) = form {
            assert_eq!(plan.form, form);
        }
        let mut out = Vec::new();
        plan.write(&mut out);
        let mut got = Vec::new();
        let mut reader = Reader::new(&out);
        each_block(plan.form, plan.factor > 1, &mut reader, ints.len(), |m| got.extend_from_slice(m)).unwrap();
        assert!(reader.is_empty());
        assert_eq!(got, ints);
    }

    #[test]
    fn each_shape_gets_its_transform() {
        check(&[7], true, Some(Form::Constant));
        check(&[7; 300], true, Some(Form::Constant));
        check(&[10, 7, 4, 1], true, Some(Form::Linear));
        let noise: Vec<i64> =
            (0..500u64).map(|i| 1_000_000 + (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58) as i64).collect();
        check(&noise, true, Some(Form::Offset));
        let sums = |s: &mut i64, d: &i64| {
            *s += d;
            Some(*s)
        };
        let counter: Vec<i64> = noise.iter().scan(0, sums).collect();
        check(&counter, true, Some(Form::DeltaOffset));
        let steps: Vec<i64> = noise.iter().map(|d| d - 1_000_032).collect();
        let walk: Vec<i64> = steps.iter().scan(0, sums).collect();
        check(&walk, true, Some(Form::Delta));
        let squares: Vec<i64> = (0..500).map(|i: i64| i * i).collect();
        check(&squares, true, Some(Form::DeltaDelta));
        let pages: Vec<i64> = noise.iter().map(|x| x * 4096).collect();
        assert_eq!(Plan::new(&pages, true).factor, 4096);
        check(&pages, true, None);
    }

    proptest! {
        #[test]
        fn any_integers_round_trip(ints in proptest::collection::vec(any::<i64>(), 1..300)) {
            check(&ints, false, None);
        }

        #[test]
        fn small_integers_round_trip_with_a_factor(
            ints in proptest::collection::vec(-1000i64..1000, 1..300), factor in 1i64..10_000, base in -(1i64 << 40)..1 << 40
        ) {
            let ints: Vec<i64> = ints.iter().map(|m| m * factor + base).collect();
            check(&ints, true, None);
        }
    }
}
