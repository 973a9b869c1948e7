//! Columns of few distinct floats that nothing else fits: the floats, then which of them stands where.
//!
//! Flags and states as fractions, ratios of small counts, a gauge that comes and goes as NaN.

use super::CodecError;
use super::coded::Behind;
use super::pack::{self, BLOCK, Numbers};
use crate::wire::{Reader, put_varint};

/// More distinct floats than this are not counted.
const DISTINCT_MAX: usize = 256;
/// Slots of the table that counts them, a power of two.
const SLOTS: usize = 4 * DISTINCT_MAX;

/// The distinct floats of `values`, the most frequent first, and the place in them of each value. `None` when there
/// are `limit` of them or more.
pub(super) fn of(values: &[f64], limit: usize) -> Option<(Vec<u64>, Vec<u64>)> {
    let limit = limit.min(DISTINCT_MAX + 1);
    let mut slots = [u16::MAX; SLOTS];
    // Bits and how often they occur.
    let mut distinct: Vec<(u64, u32)> = Vec::new();
    let mut places = Vec::with_capacity(values.len());
    for v in values {
        let bits = v.to_bits();
        let mut slot = (bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % SLOTS;
        let place = loop {
            match slots[slot] {
                u16::MAX => {
                    if distinct.len() + 1 >= limit {
                        return None;
                    }
                    slots[slot] = distinct.len() as u16;
                    distinct.push((bits, 0));
                    break distinct.len() - 1;
                }
                place if distinct[usize::from(place)].0 == bits => break usize::from(place),
                _ => slot = (slot + 1) % SLOTS,
            }
        };
        distinct[place].1 += 1;
        places.push(place as u64);
    }
    // Frequent ones get small numbers, so that rare ones are patches.
    let mut by_count: Vec<usize> = (0..distinct.len()).collect();
    by_count.sort_by_key(|i| std::cmp::Reverse(distinct[*i].1));
    let mut rank = vec![0u64; distinct.len()];
    by_count.iter().enumerate().for_each(|(r, i)| rank[*i] = r as u64);
    places.iter_mut().for_each(|p| *p = rank[*p as usize]);
    Some((by_count.into_iter().map(|i| distinct[i].0).collect(), places))
}

pub(super) fn write(distinct: &[u64], places: &[u64], out: &mut Vec<u8>) {
    put_varint(out, distinct.len() as u64);
    for bits in distinct {
        out.extend_from_slice(&bits.to_le_bytes());
    }
    pack::put(places, Behind::Nothing, out);
}

pub(super) fn read(c: &mut Reader<'_>, n: usize, out: &mut Vec<f64>) -> Result<(), CodecError> {
    let n_distinct = c.count(n.min(c.remaining() / 8))?;
    let distinct: Vec<f64> = c
        .slice(8 * n_distinct)?
        .chunks_exact(8)
        .map(|b| f64::from_le_bytes(b.try_into().expect("chunks of eight bytes")))
        .collect();
    let mut places = [0; BLOCK];
    let mut numbers = Numbers::new(c, n);
    while numbers.next_len() > 0 {
        let len = numbers.wide(&mut places)?;
        for place in &places[..len] {
            let value = usize::try_from(*place).ok().and_then(|p| distinct.get(p));
            out.push(*value.ok_or_else(|| numbers.error("number of a distinct value"))?);
        }
    }
    Ok(())
}
