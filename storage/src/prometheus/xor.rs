//! Chunks of float samples: times as differences of differences, values XORed with the one before.
//!
//! # Source
//! Prometheus, `tsdb/docs/format/chunks.md`, encoding 1.

use super::bits::{BitReader, BitWriter};
use crate::wire::{WireError, unzigzag, zigzag};

/// Longest chunk in samples, from the width of its count.
pub(super) const SAMPLES_MAX: usize = u16::MAX as usize;
/// Width of the number behind each prefix of a time.
const TIME_WIDTHS: [u32; 5] = [0, 14, 17, 20, 64];

/// What the next value of a column of floats is XORed with, and where its bits lay that differed.
#[derive(Debug, Clone, Copy)]
pub(super) struct XorState {
    bits: u64,
    leading: u32,
    trailing: u32,
    /// Whether a window has been stored that values may use again.
    has_window: bool,
}

impl XorState {
    pub(super) fn new(first: f64) -> Self {
        Self { bits: first.to_bits(), leading: 0, trailing: 0, has_window: false }
    }

    #[inline]
    pub(super) fn read(&mut self, r: &mut BitReader<'_>) -> Result<f64, WireError> {
        match r.ones(2)? {
            0 => return Ok(f64::from_bits(self.bits)),
            1 => {}
            _ => {
                self.leading = r.bits(5)? as u32;
                let width = match r.bits(6)? as u32 {
                    0 => 64,
                    n => n,
                };
                let used = self.leading + width;
                self.trailing = 64u32.checked_sub(used).ok_or(r.error("window of a value is wider than 64 bits"))?;
            }
        }
        let width = 64 - self.leading - self.trailing;
        self.bits ^= r.bits(width)? << self.trailing;
        Ok(f64::from_bits(self.bits))
    }

    pub(super) fn write(&mut self, v: f64, w: &mut BitWriter) {
        let xor = self.bits ^ v.to_bits();
        self.bits = v.to_bits();
        if xor == 0 {
            return w.put(0, 1);
        }
        // Five bits hold the number of leading zeros.
        let (leading, trailing) = (xor.leading_zeros().min(31), xor.trailing_zeros());
        if self.has_window && leading >= self.leading && trailing >= self.trailing {
            w.put(0b10, 2);
            return w.put(xor >> self.trailing, 64 - self.leading - self.trailing);
        }
        (self.leading, self.trailing, self.has_window) = (leading, trailing, true);
        let width = 64 - leading - trailing;
        w.put(0b11, 2);
        w.put(u64::from(leading), 5);
        w.put(u64::from(width & 63), 6);
        w.put(xor >> trailing, width);
    }
}

/// Appends the samples of a chunk's data.
pub(super) fn decode(data: &[u8], times: &mut Vec<i64>, values: &mut Vec<f64>) -> Result<(), WireError> {
    let mut r = BitReader::new(data);
    let n = r.bits(16)? as usize;
    if n == 0 {
        return Ok(());
    }
    // Every sample after the first takes at least two bits, so the count cannot ask for more than the bytes hold.
    if r.remaining() < 2 * (n - 1) {
        return Err(r.error("fewer bytes than samples"));
    }
    let mut t = unzigzag(r.varint()?);
    let mut xor = XorState::new(r.float()?);
    times.reserve(n);
    values.reserve(n);
    times.push(t);
    values.push(f64::from_bits(xor.bits));
    let mut delta = 0i64;
    for i in 1..n {
        if i == 1 {
            delta = r.varint()?.cast_signed();
        } else {
            let ones = r.ones(4)?;
            if ones > 0 {
                delta = delta.wrapping_add(r.signed(TIME_WIDTHS[ones as usize])?);
            }
        }
        t = t.wrapping_add(delta);
        times.push(t);
        values.push(xor.read(&mut r)?);
    }
    Ok(())
}

/// The data of a chunk with these samples, between 1 and [`SAMPLES_MAX`] of them, in ascending order of time.
pub(super) fn encode(times: &[i64], values: &[f64]) -> Vec<u8> {
    debug_assert!(!times.is_empty() && times.len() <= SAMPLES_MAX && times.len() == values.len());
    let count = (times.len() as u16).to_be_bytes().to_vec();
    let mut w = BitWriter::after(count);
    w.put_varint(zigzag(times[0]));
    w.put_float(values[0]);
    let mut xor = XorState::new(values[0]);
    let mut last_delta = 0i64;
    for i in 1..times.len() {
        let delta = times[i].wrapping_sub(times[i - 1]);
        if i == 1 {
            w.put_varint(delta.cast_unsigned());
        } else {
            w.put_timestamp(delta.wrapping_sub(last_delta));
        }
        last_delta = delta;
        xor.write(values[i], &mut w);
    }
    w.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bits(values: &[f64]) -> Vec<u64> {
        values.iter().map(|v| v.to_bits()).collect()
    }

    proptest! {
        #[test]
        fn chunks_round_trip_bit_for_bit(
            start in any::<i64>(),
            deltas in proptest::collection::vec(prop_oneof![3 => Just(15_000i64), 1 => 1i64..100_000, 1 => 1i64..1 << 40], 0..150),
            raw in proptest::collection::vec(prop_oneof![any::<u64>(), (0u64..50).prop_map(|v| (v as f64).to_bits())], 150),
        ) {
            let mut times = vec![start];
            for d in deltas {
                times.push(times[times.len() - 1].wrapping_add(d));
            }
            let values: Vec<f64> = raw[..times.len().min(150)].iter().map(|b| f64::from_bits(*b)).collect();
            times.truncate(values.len());
            let data = encode(&times, &values);
            let (mut t, mut v) = (Vec::new(), Vec::new());
            decode(&data, &mut t, &mut v).unwrap();
            prop_assert_eq!(t, times);
            prop_assert_eq!(bits(&v), bits(&values));
        }

        #[test]
        fn hostile_chunks_never_panic(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            let (mut t, mut v) = (Vec::new(), Vec::new());
            let _ = decode(&data, &mut t, &mut v);
        }
    }
}
