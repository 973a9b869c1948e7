//! Short columns, such as the head seals: their numbers are unpacked in one go, without the buffers that pay for
//! themselves in long ones.

use super::CodecError;
use super::ints::Run;
use super::pack;
use crate::wire::Reader;

/// Most packed numbers of a short column.
pub(super) const SHORT: usize = 32;

/// Numbers before and factors of a column whose sums are exact as floats below these: 33 sums of steps of 23 bits.
const FIRST_END: u64 = 1 << 51;
const FACTOR_END: u64 = 1 << 20;
const CENTRE_END: u64 = 1 << pack::NARROW_WIDTH_MAX;

/// Hands out `first`, then the sums of it and `n_packed` packed differences; otherwise takes nothing and says `false`.
pub(super) fn deltas(
    (first, factor, centre): (i64, i64, i64),
    is_zigzag: bool,
    bytes: &mut Reader<'_>,
    n_packed: usize,
    emit: &mut impl FnMut(Run<'_>),
) -> Result<bool, CodecError> {
    let is_exact = n_packed <= SHORT
        && first.unsigned_abs() < FIRST_END
        && factor.unsigned_abs() < FACTOR_END
        && centre.unsigned_abs() < CENTRE_END;
    let mut packed = [0u32; SHORT];
    if !is_exact || !pack::get_short(bytes, n_packed, &mut packed)? {
        return Ok(false);
    }
    let mut steps = [0i32; SHORT + 1];
    let mut at = 0i32;
    for (sum, z) in steps[1..].iter_mut().zip(&packed[..n_packed]) {
        let step = if is_zigzag { (z >> 1).cast_signed() ^ -((z & 1).cast_signed()) } else { z.cast_signed() };
        at = at.wrapping_add(step).wrapping_add(centre as i32);
        *sum = at;
    }
    emit(Run::Narrow { base: first as f64, slope: 0.0, scale: factor as f64, steps: &steps[..=n_packed] });
    Ok(true)
}

/// Hands out `n` packed distances to `least`; otherwise takes nothing and says `false`.
pub(super) fn offsets(
    (least, factor): (i64, i64),
    bytes: &mut Reader<'_>,
    n: usize,
    emit: &mut impl FnMut(Run<'_>),
) -> Result<bool, CodecError> {
    let is_exact = n <= SHORT && least.unsigned_abs() < FIRST_END && factor.unsigned_abs() < FACTOR_END;
    let mut packed = [0u32; SHORT];
    if !is_exact || !pack::get_short(bytes, n, &mut packed)? {
        return Ok(false);
    }
    let steps = packed.map(u32::cast_signed);
    emit(Run::Narrow { base: least as f64, slope: 0.0, scale: factor as f64, steps: &steps[..n] });
    Ok(true)
}
