//! Encodings of columns of values, native histograms and timestamps. Pure functions from slices to bytes and back.
//!
//! Bit-exact for every f64, NaN payloads included. Decoding trusts nothing: hostile bytes give an error or some
//! values, never a panic, and never more than asked for. The bytes carry no checksum and no length; who stores them
//! does. Described in `docs/format/codec.md`.

mod coded;
mod dictionary;
mod histogram;
mod ints;
mod map;
mod pack;
pub mod relative;
mod short;
mod timestamps;
mod xor;

use crate::wire::{Reader, WireError, put_varint, put_zigzag};
use coded::Behind;
use ints::Form;
use map::Map;

pub use histogram::{decode_histograms, encode_histograms};
pub(crate) use map::{decimals, power_of_ten, round as rounded};
use promontory_model::{STALE_NAN_BITS, sample::NORMAL_NAN_BITS};
pub use timestamps::{decode_timestamps, encode_timestamps};

/// Map number after those of [`Map`]: no integers, the forms are these.
const FLOATS: u8 = 7;
const FORM_RAW: u8 = 0;
const FORM_XOR: u8 = 1;
const FORM_DICTIONARY: u8 = 2;
/// Tag bits: form, map, then two flags.
const MAP_SHIFT: u32 = 3;
const FORM_MASK: u8 = 0x07;
const MAP_MASK: u8 = 0x07;
/// A common factor follows.
const DIVIDED: u8 = 0x40;
/// Odd values follow that the integers cannot hold.
const EXCEPTIONS: u8 = 0x80;

/// Kinds of an exception.
const KIND_STALE: u8 = 0;
const KIND_NAN: u8 = 1;
const KIND_BITS: u8 = 2;

/// Bytes that are not what an encoder writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub struct CodecError {
    /// What is wrong.
    pub what: &'static str,
    /// Offset in the encoded bytes.
    pub at: usize,
}

impl From<WireError> for CodecError {
    fn from(e: WireError) -> Self {
        Self { what: e.what, at: e.offset }
    }
}

/// Fails when bytes are left over.
fn finish(r: &Reader<'_>) -> Result<(), CodecError> {
    if r.is_empty() { Ok(()) } else { Err(r.error("bytes left over").into()) }
}

/// Appends `values` in the smallest form found. Nothing is written for no values.
///
/// Cost: about 5 ns per value, less when constant. The number of values is not written; keep it.
pub fn encode(values: &[f64], out: &mut Vec<u8>) {
    Encoder { values }.put(out);
}

/// Appends `n` values to `out`; `bytes` must hold exactly these.
///
/// # Errors
/// [`CodecError`] when the bytes are not what [`encode`] writes. `out` may then hold some values.
pub fn decode(bytes: &[u8], n: usize, out: &mut Vec<f64>) -> Result<(), CodecError> {
    let start = out.len();
    read(bytes, n, out)?;
    // Bytes of others may end a form early that is read in blocks.
    if out.len() - start == n { Ok(()) } else { Err(Reader::new(bytes).error("number of values").into()) }
}

/// A column on its way to bytes.
struct Encoder<'a> {
    /// At least one.
    values: &'a [f64],
}

impl Encoder<'_> {
    fn put(&self, out: &mut Vec<u8>) {
        let Some(&first) = self.values.first() else {
            return;
        };
        let bits = first.to_bits();
        if self.values.iter().fold(0, |acc, v| acc | (v.to_bits() ^ bits)) == 0 {
            self.put_constant(out);
            return;
        }
        let start = out.len();
        if map::is_noise(self.values) {
            return self.put_raw(out);
        }
        let mut exceptions = Vec::new();
        let mut filled = Vec::new();
        let regular = without_odd(self.values, &mut exceptions, &mut filled);
        // Each exception costs up to 11 bytes; where they are common, whole floats are cheaper.
        let is_short = exceptions.len() <= self.values.len() / 8 + 1 && {
            let map = self.put_ints(regular, &exceptions, out);
            // Decimal numbers of few digits never lose against whole floats; long fractions may.
            matches!(map, Map::Int | Map::Decimal(_) | Map::Product(_)) && out.len() - start <= 3 * self.values.len()
        };
        if is_short {
            return;
        }
        if out.len() == start {
            self.put_floats(out);
        } else if out.len() - start > 3 * self.values.len() {
            let middle = out.len();
            self.put_floats(out);
            keep_shorter(start, middle, out);
        }
        let middle = out.len();
        if self.put_dictionary(middle - start, out) {
            keep_shorter(start, middle, out);
        }
    }

    fn put_ints(&self, regular: &[f64], exceptions: &[(usize, u64)], out: &mut Vec<u8>) -> Map {
        let mut numbers = Vec::with_capacity(regular.len());
        let mut corrections = Vec::new();
        let map = map::to_ints(regular, &mut numbers, &mut corrections);
        let plan = ints::Plan::new(&numbers, map != Map::Bits);
        let (map_code, parameter) = map.code();
        let divided = if plan.factor > 1 { DIVIDED } else { 0 };
        let excepted = if exceptions.is_empty() { 0 } else { EXCEPTIONS };
        out.push(plan.form.code() | map_code << MAP_SHIFT | divided | excepted);
        out.extend(parameter);
        if !exceptions.is_empty() {
            put_exceptions(exceptions, out);
        }
        plan.write(if map.is_near() { Behind::More } else { Behind::Nothing }, out);
        if map.is_near() {
            let plan = ints::Plan::new(&corrections, false);
            out.push(plan.form.code());
            plan.write(Behind::Nothing, out);
        }
        map
    }

    fn put_constant(&self, out: &mut Vec<u8>) {
        let first = self.values[0];
        let start = out.len();
        if let Some((map, number)) = map::one_to_int(first) {
            let (code, parameter) = map.code();
            out.push(Form::Constant.code() | code << MAP_SHIFT);
            out.extend(parameter);
            put_zigzag(out, number);
            if out.len() - start <= 9 {
                return;
            }
            out.truncate(start);
        }
        // One float and nothing after it: unchanged.
        out.push(FORM_RAW | FLOATS << MAP_SHIFT);
        self.put_first(out);
    }

    fn put_first(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.values[0].to_bits().to_le_bytes());
    }

    /// Appends the floats themselves: XOR stream or plain, whichever is shorter.
    fn put_floats(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.push(FORM_XOR | FLOATS << MAP_SHIFT);
        self.put_first(out);
        xor::write(self.values, out);
        if out.len() - start > 1 + 8 * self.values.len() {
            out.truncate(start);
            self.put_raw(out);
        }
    }

    fn put_raw(&self, out: &mut Vec<u8>) {
        out.reserve(1 + 8 * self.values.len());
        out.push(FORM_RAW | FLOATS << MAP_SHIFT);
        for v in self.values {
            out.extend_from_slice(&v.to_bits().to_le_bytes());
        }
    }

    /// Appends the distinct floats and which of them stands where, if that may take less than `limit` bytes.
    fn put_dictionary(&self, limit: usize, out: &mut Vec<u8>) -> bool {
        let Some((distinct, places)) = dictionary::of(self.values, limit / 8) else {
            return false;
        };
        out.push(FORM_DICTIONARY | FLOATS << MAP_SHIFT);
        dictionary::write(&distinct, &places, out);
        true
    }
}

/// Leaves the shorter of the encodings `start..middle` and `middle..` in `out`.
fn keep_shorter(start: usize, middle: usize, out: &mut Vec<u8>) {
    if out.len() - middle < middle - start {
        out.drain(start..middle);
    } else {
        out.truncate(middle);
    }
}

fn read(bytes: &[u8], n: usize, out: &mut Vec<f64>) -> Result<(), CodecError> {
    let mut c = Reader::new(bytes);
    if n == 0 {
        return finish(&c);
    }
    let start = out.len();
    let tag = c.u8()?;
    let map_code = tag >> MAP_SHIFT & MAP_MASK;
    if map_code == FLOATS {
        if tag & (DIVIDED | EXCEPTIONS) != 0 {
            return Err(CodecError { at: 0, what: "tag of a column" });
        }
        read_floats(tag & FORM_MASK, &mut c, n, out)?;
        return finish(&c);
    }
    let form = Form::from_code(tag & FORM_MASK).ok_or(CodecError { at: 0, what: "form of a column" })?;
    let parameter = if Map::has_parameter(map_code) { c.u8()? } else { 0 };
    let map = Map::from_code(map_code, parameter).ok_or_else(|| c.error("parameter of a map"))?;
    // Checked here, put in their places once the integers are there.
    let mut exceptions = c;
    if tag & EXCEPTIONS != 0 {
        each_exception(&mut c, n, |_, _| {})?;
    }
    out.reserve(n);
    let may_be_narrow = map != Map::Bits;
    ints::each_run(form, tag & DIVIDED != 0, &mut c, n, may_be_narrow, |run| {
        map.restore(&run, out);
    })?;
    if map.is_near() {
        let code = c.u8()?;
        let form = Form::from_code(code).ok_or_else(|| c.error("form of corrections"))?;
        let mut values = out[start..].iter_mut();
        ints::each_ints(form, false, &mut c, n, |corrections| {
            for (by, value) in corrections.iter().zip(values.by_ref()) {
                *value = map::moved(*value, *by);
            }
        })?;
    }
    if tag & EXCEPTIONS != 0 {
        each_exception(&mut exceptions, n, |at, bits| out[start + at] = f64::from_bits(bits))?;
    }
    finish(&c)
}

fn read_floats(form: u8, c: &mut Reader<'_>, n: usize, out: &mut Vec<f64>) -> Result<(), CodecError> {
    if form == FORM_DICTIONARY {
        return dictionary::read(c, n, out);
    }
    if form > FORM_DICTIONARY {
        return Err(c.error("form of a column").into());
    }
    let first = c.u64()?;
    if form == FORM_XOR {
        out.push(f64::from_bits(first));
        return xor::read(c, first, n - 1, out);
    }
    if c.remaining() == 0 {
        out.resize(out.len() + n, f64::from_bits(first));
        return Ok(());
    }
    // The length is checked before anything is reserved for it.
    let rest = c.slice((n - 1).checked_mul(8).ok_or_else(|| c.error("length of a column"))?)?;
    out.reserve(n);
    out.push(f64::from_bits(first));
    out.extend(rest.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().expect("chunks of eight bytes"))));
    Ok(())
}

/// The values with odd ones replaced by their predecessor, so that they cost no difference.
fn without_odd<'a>(values: &'a [f64], exceptions: &mut Vec<(usize, u64)>, filled: &'a mut Vec<f64>) -> &'a [f64] {
    if !values.iter().fold(false, |acc, v| acc | map::is_odd(v.to_bits())) {
        return values;
    }
    let mut last = values.iter().copied().find(|v| !map::is_odd(v.to_bits())).unwrap_or(0.0);
    filled.reserve(values.len());
    for (i, &v) in values.iter().enumerate() {
        if map::is_odd(v.to_bits()) {
            exceptions.push((i, v.to_bits()));
        } else {
            last = v;
        }
        filled.push(last);
    }
    filled
}

fn put_exceptions(exceptions: &[(usize, u64)], out: &mut Vec<u8>) {
    put_varint(out, exceptions.len() as u64);
    let mut next = 0;
    for &(at, bits) in exceptions {
        put_varint(out, (at - next) as u64);
        next = at + 1;
        match bits {
            STALE_NAN_BITS => out.push(KIND_STALE),
            NORMAL_NAN_BITS => out.push(KIND_NAN),
            _ => {
                out.push(KIND_BITS);
                out.extend_from_slice(&bits.to_le_bytes());
            }
        }
    }
}

/// Moves `c` past the exceptions; gives position and bits of each.
fn each_exception(c: &mut Reader<'_>, n: usize, mut emit: impl FnMut(usize, u64)) -> Result<(), CodecError> {
    let count = c.count(n)?;
    let mut next = 0;
    for _ in 0..count {
        let at = next + c.count(n)?;
        if at >= n {
            return Err(c.error("position of an odd value").into());
        }
        next = at + 1;
        let bits = match c.u8()? {
            KIND_STALE => STALE_NAN_BITS,
            KIND_NAN => NORMAL_NAN_BITS,
            KIND_BITS => c.u64()?,
            _ => return Err(c.error("kind of an odd value").into()),
        };
        emit(at, bits);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
