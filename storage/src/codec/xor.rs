//! The stream of last resort before raw bytes: each float XORed with the one before, only its middle bits written.
//!
//! # Source
//! Pelkonen et al., "Gorilla", VLDB 2015, values only. Differs in the first window: none, so that the first changed
//! value always carries its own.

use super::CodecError;
use crate::wire::Reader;

/// Leading zeros are written in five bits.
const LEADING_MAX: u32 = 31;

struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    acc: u64,
    have: u32,
}

impl BitWriter<'_> {
    /// Appends the low `bits ≤ 64` bits of `v`, highest first.
    fn put(&mut self, v: u64, bits: u32) {
        let free = 64 - self.have;
        let v = if bits == 64 { v } else { v & ((1 << bits) - 1) };
        if bits < free {
            self.acc |= v << (free - bits);
            self.have += bits;
            return;
        }
        let rest = bits - free;
        self.acc |= v.checked_shr(rest).unwrap_or(0);
        self.out.extend_from_slice(&self.acc.to_be_bytes());
        self.acc = if rest == 0 { 0 } else { v << (64 - rest) };
        self.have = rest;
    }

    fn finish(self) {
        self.out.extend_from_slice(&self.acc.to_be_bytes()[..self.have.div_ceil(8) as usize]);
    }
}

struct BitReader<'a> {
    bytes: &'a [u8],
    bit: usize,
}

impl BitReader<'_> {
    /// The next 64 bits, zeros past the end; nothing is consumed.
    fn peek(&self) -> u64 {
        let (byte, shift) = (self.bit / 8, (self.bit % 8) as u32);
        let mut load = [0u8; 9];
        match self.bytes.get(byte..byte + 9) {
            Some(b) => load.copy_from_slice(b),
            None => {
                let rest = self.bytes.get(byte..).unwrap_or(&[]);
                load[..rest.len()].copy_from_slice(rest);
            }
        }
        let word = u64::from_be_bytes(load[..8].try_into().expect("the range has eight bytes"));
        if shift == 0 { word } else { word << shift | u64::from(load[8]) >> (8 - shift) }
    }

    /// The next `1..=64` bits.
    fn get(&mut self, bits: u32) -> u64 {
        let v = self.peek() >> (64 - bits);
        self.bit += bits as usize;
        v
    }
}

/// Appends all values but the first, which the caller has written.
pub(super) fn write(values: &[f64], out: &mut Vec<u8>) {
    let mut w = BitWriter { out, acc: 0, have: 0 };
    let mut window: Option<(u32, u32)> = None;
    for pair in values.windows(2) {
        let xor = pair[0].to_bits() ^ pair[1].to_bits();
        if xor == 0 {
            w.put(0, 1);
            continue;
        }
        let (leading, trailing) = (xor.leading_zeros().min(LEADING_MAX), xor.trailing_zeros());
        match window {
            Some((l, t)) if leading >= l && trailing >= t => {
                w.put(0b10, 2);
                w.put(xor >> t, 64 - l - t);
            }
            _ => {
                let len = 64 - leading - trailing;
                w.put(0b11, 2);
                w.put(u64::from(leading), 5);
                w.put(u64::from(len - 1), 6);
                w.put(xor >> trailing, len);
                window = Some((leading, trailing));
            }
        }
    }
    w.finish();
}

/// Reads `n` values after `first` and appends them; consumes all of `bytes`.
pub(super) fn read(bytes: &mut Reader<'_>, first: u64, n: usize, out: &mut Vec<f64>) -> Result<(), CodecError> {
    let payload = bytes.clone().slice(bytes.remaining())?;
    let mut r = BitReader { bytes: payload, bit: 0 };
    let mut bits = first;
    let mut window: Option<(u32, u32)> = None;
    for _ in 0..n {
        // Checked once per value: past the end the reader gives zeros, which read as "unchanged".
        if r.bit >= payload.len() * 8 {
            break;
        }
        if r.get(1) == 1 {
            let (len, trailing) = if r.get(1) == 1 {
                let leading = r.get(5) as u32;
                let len = r.get(6) as u32 + 1;
                let trailing = 64u32.checked_sub(leading + len).ok_or_else(|| bytes.error("window of a xor"))?;
                window = Some((len, trailing));
                (len, trailing)
            } else {
                window.ok_or_else(|| bytes.error("xor without a window"))?
            };
            bits ^= r.get(len) << trailing;
        }
        out.push(f64::from_bits(bits));
    }
    let used = r.bit.div_ceil(8);
    if out.len() < n || used > payload.len() {
        return Err(bytes.error("bytes end too early").into());
    }
    bytes.slice(used)?;
    Ok(())
}
