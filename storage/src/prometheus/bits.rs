//! Bits from the most significant on, as Prometheus' chunks store them. What is read is hostile: reading past the end is
//! an error, never a panic.

use crate::wire::WireError;

/// Takes bits from the front of bytes.
#[derive(Debug, Clone)]
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    /// Next byte that is not in `word` yet.
    at: usize,
    /// Bits that come next, left-aligned.
    word: u64,
    /// How many bits of `word` count.
    n: u32,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, word: 0, n: 0 }
    }

    /// An error at the present byte.
    pub(super) fn error(&self, what: &'static str) -> WireError {
        WireError { what, offset: self.at.saturating_sub(self.n as usize / 8) }
    }

    /// Bits left.
    pub(super) fn remaining(&self) -> usize {
        (self.bytes.len() - self.at) * 8 + self.n as usize
    }

    /// Fills the word to at least 56 bits, or to what is left.
    #[inline]
    fn refill(&mut self) {
        if let Some(eight) = self.bytes.get(self.at..self.at + 8) {
            let mut word = [0; 8];
            word.copy_from_slice(eight);
            self.word |= u64::from_be_bytes(word) >> self.n;
            let taken = (63 - self.n) / 8;
            self.at += taken as usize;
            self.n += taken * 8;
            // Bits of a byte that was not taken whole must come again as zeros.
            if self.n < 64 {
                self.word &= !(u64::MAX >> self.n);
            }
            return;
        }
        while self.n <= 56
            && let Some(&byte) = self.bytes.get(self.at)
        {
            self.word |= u64::from(byte) << (56 - self.n);
            self.at += 1;
            self.n += 8;
        }
    }

    /// The next `count` bits as a number; at most 64.
    #[inline]
    pub(super) fn bits(&mut self, count: u32) -> Result<u64, WireError> {
        if count > self.n {
            self.refill();
            if count > self.n {
                return self.long_bits(count);
            }
        }
        if count == 0 {
            return Ok(0);
        }
        let out = self.word >> (64 - count);
        self.skip(count);
        Ok(out)
    }

    /// More bits than one refill is sure to give.
    fn long_bits(&mut self, count: u32) -> Result<u64, WireError> {
        if count <= 56 || self.remaining() < count as usize {
            return Err(self.error("bits end too early"));
        }
        let high = self.bits(32)?;
        Ok(high << (count - 32) | self.bits(count - 32)?)
    }

    #[inline]
    fn skip(&mut self, count: u32) {
        self.word = if count == 64 { 0 } else { self.word << count };
        self.n -= count;
    }

    /// Number of 1 bits before the next 0, at most `max`; takes the 0 unless `max` were found.
    #[inline]
    pub(super) fn ones(&mut self, max: u32) -> Result<u32, WireError> {
        if self.n <= max {
            self.refill();
        }
        let found = self.word.leading_ones().min(max);
        let len = if found == max { max } else { found + 1 };
        if len > self.n {
            return Err(self.error("bits end too early"));
        }
        self.skip(len);
        Ok(found)
    }

    /// The next whole byte, wherever it starts.
    pub(super) fn byte(&mut self) -> Result<u8, WireError> {
        Ok(self.bits(8)? as u8)
    }

    pub(super) fn float(&mut self) -> Result<f64, WireError> {
        Ok(f64::from_bits(self.bits(64)?))
    }

    /// A number of `count` bits between −(2^(count−1) − 1) and 2^(count−1).
    #[inline]
    pub(super) fn signed(&mut self, count: u32) -> Result<i64, WireError> {
        let bits = self.bits(count)?;
        if count == 64 {
            return Ok(bits.cast_signed());
        }
        let is_negative = bits > 1 << (count - 1);
        Ok(bits.cast_signed() - if is_negative { 1 << count } else { 0 })
    }

    /// A LEB128 number of at most ten bytes.
    pub(super) fn varint(&mut self) -> Result<u64, WireError> {
        let mut out = 0;
        for shift in (0..70).step_by(7) {
            let byte = self.byte()?;
            let digit = u64::from(byte & 0x7f);
            if shift == 63 && digit > 1 {
                break;
            }
            out |= digit << shift;
            if byte & 0x80 == 0 {
                return Ok(out);
            }
        }
        Err(self.error("number does not fit 64 bits"))
    }

    /// A signed number behind a unary prefix that says its width.
    pub(super) fn varbit_int(&mut self) -> Result<i64, WireError> {
        match VARBIT_WIDTHS[self.ones(8)? as usize] {
            0 => Ok(0),
            width => self.signed(width),
        }
    }

    /// An unsigned number behind a unary prefix that says its width.
    pub(super) fn varbit_uint(&mut self) -> Result<u64, WireError> {
        let width = VARBIT_WIDTHS[self.ones(8)? as usize];
        self.bits(width)
    }
}

/// Bits that follow each number of 1 bits.
const VARBIT_WIDTHS: [u32; 9] = [0, 3, 6, 9, 12, 18, 25, 56, 64];

/// Whether `v` is between −(2^(width−1) − 1) and 2^(width−1).
pub(super) fn fits(v: i64, width: u32) -> bool {
    width == 64 || (-((1 << (width - 1)) - 1)..=1 << (width - 1)).contains(&v)
}

/// Puts bits behind each other, padded with zeros to a whole byte.
#[derive(Debug, Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    /// Bits that do not make a byte yet, right-aligned.
    word: u64,
    n: u32,
}

impl BitWriter {
    /// Bits behind `bytes`.
    pub(super) fn after(bytes: Vec<u8>) -> Self {
        Self { bytes, word: 0, n: 0 }
    }

    /// The low `count` bits of `v`.
    #[inline]
    pub(super) fn put(&mut self, v: u64, count: u32) {
        if count > 32 {
            self.put_short(v >> 32, count - 32);
            self.put_short(v & 0xffff_ffff, 32);
        } else {
            self.put_short(v, count);
        }
    }

    #[inline]
    fn put_short(&mut self, v: u64, count: u32) {
        self.word = self.word << count | v & ((1 << count) - 1);
        self.n += count;
        while self.n >= 8 {
            self.n -= 8;
            self.bytes.push((self.word >> self.n) as u8);
        }
    }

    /// Unary prefix of `ones` 1 bits, closed by a 0 unless it is the longest.
    fn put_prefix(&mut self, ones: u32, max: u32) {
        if ones == max {
            self.put((1 << max) - 1, max);
        } else {
            self.put(((1 << ones) - 1) << 1, ones + 1);
        }
    }

    pub(super) fn put_float(&mut self, v: f64) {
        self.put(v.to_bits(), 64);
    }

    pub(super) fn put_varint(&mut self, mut v: u64) {
        while v >= 0x80 {
            self.put(v & 0x7f | 0x80, 8);
            v >>= 7;
        }
        self.put(v, 8);
    }

    pub(super) fn put_varbit_int(&mut self, v: i64) {
        let fits = |width: u32| if width == 0 { v == 0 } else { fits(v, width) };
        self.put_varbit(v.cast_unsigned(), fits);
    }

    pub(super) fn put_varbit_uint(&mut self, v: u64) {
        self.put_varbit(v, |width| width == 64 || v >> width == 0);
    }

    fn put_varbit(&mut self, v: u64, fits: impl Fn(u32) -> bool) {
        let ones = VARBIT_WIDTHS.iter().position(|&width| fits(width)).unwrap_or(8);
        self.put_prefix(ones as u32, 8);
        self.put(v, VARBIT_WIDTHS[ones]);
    }

    /// A prefix of at most four 1 bits, as XOR chunks have before a difference of two distances in time.
    pub(super) fn put_timestamp(&mut self, dod: i64) {
        let ones = [0, 14, 17, 20, 64].iter().position(|&w| if w == 0 { dod == 0 } else { fits(dod, w) }).unwrap_or(4);
        self.put_prefix(ones as u32, 4);
        self.put(dod.cast_unsigned(), [0, 14, 17, 20, 64][ones]);
    }

    /// All bytes.
    pub(super) fn finish(mut self) -> Vec<u8> {
        if self.n > 0 {
            self.put_short(0, 8 - self.n);
        }
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Field {
        Bits(u64, u32),
        Int(i64),
        Uint(u64),
        Varint(u64),
        Timestamp(i64),
    }

    fn field() -> impl Strategy<Value = Field> {
        let wide = || (any::<u64>(), 0u32..64).prop_map(|(v, shift)| v >> shift);
        prop_oneof![
            (any::<u64>(), 1u32..=64).prop_map(|(v, n)| Field::Bits(if n == 64 { v } else { v & ((1 << n) - 1) }, n)),
            (wide(), any::<bool>()).prop_map(|(v, neg)| Field::Int(if neg {
                v.cast_signed().wrapping_neg()
            } else {
                v.cast_signed()
            })),
            wide().prop_map(Field::Uint),
            wide().prop_map(Field::Varint),
            (wide(), any::<bool>()).prop_map(|(v, neg)| Field::Timestamp(if neg {
                v.cast_signed().wrapping_neg()
            } else {
                v.cast_signed()
            })),
        ]
    }

    proptest! {
        #[test]
        fn fields_round_trip(fields in proptest::collection::vec(field(), 0..60)) {
            let mut w = BitWriter::default();
            for f in &fields {
                match *f {
                    Field::Bits(v, n) => w.put(v, n),
                    Field::Int(v) => w.put_varbit_int(v),
                    Field::Uint(v) => w.put_varbit_uint(v),
                    Field::Varint(v) => w.put_varint(v),
                    Field::Timestamp(v) => w.put_timestamp(v),
                }
            }
            let bytes = w.finish();
            let mut r = BitReader::new(&bytes);
            for f in &fields {
                match *f {
                    Field::Bits(v, n) => prop_assert_eq!(r.bits(n), Ok(v)),
                    Field::Int(v) => prop_assert_eq!(r.varbit_int(), Ok(v)),
                    Field::Uint(v) => prop_assert_eq!(r.varbit_uint(), Ok(v)),
                    Field::Varint(v) => prop_assert_eq!(r.varint(), Ok(v)),
                    Field::Timestamp(v) => {
                        let width = [0, 14, 17, 20, 64][r.ones(4).unwrap() as usize];
                        prop_assert_eq!(if width == 0 { 0 } else { r.signed(width).unwrap() }, v);
                    }
                }
            }
            prop_assert!(r.remaining() < 8);
        }

        #[test]
        fn the_end_is_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..20), n in 1u32..=64) {
            let mut r = BitReader::new(&bytes);
            let whole = bytes.len() * 8 / n as usize;
            for _ in 0..whole {
                prop_assert!(r.bits(n).is_ok());
            }
            prop_assert!(r.bits(n).is_err());
        }
    }
}
