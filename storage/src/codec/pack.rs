//! Bit packing: unsigned numbers in blocks of 128 with one width each, and patches for the few that are wider.
//!
//! A full block of up to 32 bits lies in four lanes of u32 (number `i` in lane `i % 4`), so that one row of lanes is
//! one vector operation; wider or shorter blocks are contiguous, low bits first. Each block decodes alone. Where prefix
//! codes are shorter, a unit of them (`coded.rs`) stands in the place of eight blocks.
//!
//! # Source
//! Zukowski et al., "Super-Scalar RAM-CPU Cache Compression" (PFOR), ICDE 2006; Lemire, Boytsov, "Decoding billions
//! of integers per second through vectorization" (lanes), 2012. Patches here carry explicit positions.

use super::CodecError;
use super::coded::{self, Behind, UNIT, Unit};
use super::short::SHORT;
use crate::wire::Reader;

/// Numbers in a full block.
pub(super) const BLOCK: usize = 128;
/// Widest block that is laid out in lanes.
const LANE_WIDTH_MAX: u32 = 32;
/// Widest numbers that [`Numbers::narrow`] gives: 128 of them add up to less than 2^30.
pub(super) const NARROW_WIDTH_MAX: u32 = 22;
/// Bit of the block header that says that patches follow.
const PATCHED: u8 = 0x80;

/// How one block is best written.
#[derive(Debug, Clone, Copy)]
struct Plan {
    /// Bits of each number in the payload.
    width: u32,
    /// Bits of the widest number.
    width_max: u32,
    /// Numbers wider than `width`.
    n_patches: u32,
    /// Size of all, header included.
    bits: u64,
}

pub(super) fn bit_len(x: u64) -> u32 {
    64 - x.leading_zeros()
}

fn mask(width: u32) -> u64 {
    if width >= 64 { u64::MAX } else { (1 << width) - 1 }
}

fn plan(block: &[u64]) -> Plan {
    let mut of_len = [0u8; 65];
    let mut or = 0;
    for &x in block {
        of_len[bit_len(x) as usize] += 1;
        or |= x;
    }
    let n = block.len() as u64;
    let width_max = bit_len(or);
    let mut best =
        Plan { width: width_max, width_max, n_patches: 0, bits: 8 + (u64::from(width_max) * n).next_multiple_of(8) };
    let mut n_patches = 0u32;
    for width in (0..width_max).rev() {
        n_patches += u32::from(of_len[width as usize + 1]);
        if u64::from(n_patches) * 2 > n {
            break;
        }
        let patch_bits = 16 + 8 * n_patches + (n_patches * (width_max - width)).next_multiple_of(8);
        let bits = 8 + (u64::from(width) * n).next_multiple_of(8) + u64::from(patch_bits);
        if bits < best.bits {
            best = Plan { width, width_max, n_patches, bits };
        }
    }
    best
}

/// Bits that [`put`] appends for `block`, which is at most one block, unless it finds a code.
pub(super) fn cost_bits(block: &[u64]) -> u64 {
    debug_assert!(block.len() <= BLOCK);
    plan(block).bits
}

/// Bits that [`put`] takes for `block`, roughly: a quarter above the mean length, or the greatest if that is less.
///
/// A sixth of the time of the exact plan, whose counters depend on each other.
pub(super) fn estimate_bits(block: &[u64]) -> u64 {
    let mut or = 0;
    let mut sum = 0u64;
    for &x in block {
        or |= x;
        sum += u64::from(bit_len(x));
    }
    let n = block.len() as u64;
    (u64::from(bit_len(or)) * n).min(sum + sum / 4 + n)
}

/// Codes take longer to decode: a small gain over blocks does not pay for them.
fn is_worth(coded: &coded::Plan, values: &[u64]) -> bool {
    coded.bits + coded.bits / 100 < values.chunks(BLOCK).map(cost_bits).sum()
}

/// Appends `values`: full blocks, then one shorter block, or units of codes in their place.
pub(super) fn put(values: &[u64], behind: Behind, out: &mut Vec<u8>) {
    let mut units = values.chunks(UNIT).peekable();
    while let Some(unit) = units.next() {
        let behind = if units.peek().is_some() { Behind::More } else { behind };
        match coded::Plan::of(unit).filter(|coded| is_worth(coded, unit)) {
            Some(coded) => coded.write(unit, behind, out),
            None => put_blocks(unit, out),
        }
    }
}

/// Appends `values` as blocks.
pub(super) fn put_blocks(values: &[u64], out: &mut Vec<u8>) {
    values.chunks(BLOCK).for_each(|block| put_block(block, out));
}

/// Codes that take less than the blocks of `values`, which are one unit.
pub(super) fn codes(values: &[u64]) -> Option<coded::Plan> {
    coded::Plan::of(values).filter(|coded| is_worth(coded, values))
}

/// As [`codes`], for distances to a middle when they are shorter; the middle comes with them.
pub(super) fn codes_around_middle(values: &[u64]) -> Option<(coded::Plan, Option<u64>)> {
    let centred = coded::Plan::around_middle(values).map(|(plan, middle)| (plan, Some(middle)));
    // Counts that are mostly small need no middle, nor do durations, of which the long ones are rare.
    let greatest = values.iter().copied().max().unwrap_or(0);
    let is_skewed = matches!(centred, Some((_, Some(middle))) if middle < 4 || middle < greatest / 4);
    let plain = if is_skewed { coded::Plan::of(values).map(|plan| (plan, None)) } else { None };
    let best = [plain, centred].into_iter().flatten().min_by_key(|(plan, _)| plan.bits)?;
    is_worth(&best.0, values).then_some(best)
}

fn put_block(block: &[u64], out: &mut Vec<u8>) {
    let plan = plan(block);
    let patched = if plan.n_patches > 0 { PATCHED } else { 0 };
    out.push(plan.width as u8 | patched);
    if plan.n_patches > 0 {
        let extra = plan.width_max - plan.width;
        out.push(plan.n_patches as u8);
        out.push(extra as u8);
        let wide = || block.iter().enumerate().filter(|(_, x)| bit_len(**x) > plan.width);
        out.extend(wide().map(|(i, _)| i as u8));
        put_contiguous(wide().map(|(_, x)| x >> plan.width), extra, out);
    }
    put_low(block, plan.width, out);
}

/// Appends the low `width` bits of each number of a block, as the payload of a block has them.
pub(super) fn put_low(block: &[u64], width: u32, out: &mut Vec<u8>) {
    match <&[u64; BLOCK]>::try_from(block) {
        Ok(full) if width <= LANE_WIDTH_MAX => put_lanes(full, width, out),
        _ => put_contiguous(block.iter().map(|x| x & mask(width)), width, out),
    }
}

/// Bytes of [`put_low`] of the blocks of `n` numbers.
pub(super) fn low_len(n: usize, width: u32) -> usize {
    let bits = |n: usize| n * width as usize;
    n / BLOCK * bits(BLOCK) / 8 + bits(n % BLOCK).div_ceil(8)
}

fn put_contiguous(values: impl Iterator<Item = u64>, width: u32, out: &mut Vec<u8>) {
    let mut acc = 0u128;
    let mut have = 0;
    for v in values {
        acc |= u128::from(v) << have;
        have += width;
        if have >= 64 {
            out.extend_from_slice(&(acc as u64).to_le_bytes());
            acc >>= 64;
            have -= 64;
        }
    }
    out.extend_from_slice(&(acc as u64).to_le_bytes()[..have.div_ceil(8) as usize]);
}

fn put_lanes(block: &[u64; BLOCK], width: u32, out: &mut Vec<u8>) {
    let mut acc = [0u64; 4];
    let mut have = 0;
    for row in block.chunks_exact(4) {
        for (a, x) in acc.iter_mut().zip(row) {
            *a |= (x & mask(width)) << have;
        }
        have += width;
        if have >= 32 {
            for a in &mut acc {
                out.extend_from_slice(&(*a as u32).to_le_bytes());
                *a >>= 32;
            }
            have -= 32;
        }
    }
    debug_assert_eq!(have, 0, "32 rows of any width fill whole words");
}

/// A block that is checked but not unpacked.
struct Block<'a> {
    n: usize,
    width: u32,
    /// Bits of the patches beyond the width.
    extra: u32,
    positions: &'a [u8],
    extras: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Block<'a> {
    fn read(bytes: &mut Reader<'a>, n: usize) -> Result<Self, CodecError> {
        debug_assert!(n <= BLOCK);
        let header = bytes.u8()?;
        let width = u32::from(header & !PATCHED);
        if width > 64 {
            return Err(bytes.error("width of a packed block").into());
        }
        let (mut positions, mut extras, mut extra): (&[u8], &[u8], _) = (&[], &[], 0);
        if header & PATCHED != 0 {
            let n_patches = usize::from(bytes.u8()?);
            extra = u32::from(bytes.u8()?);
            if n_patches > n || extra == 0 || width + extra > 64 {
                return Err(bytes.error("patches of a packed block").into());
            }
            positions = bytes.slice(n_patches)?;
            if positions.iter().any(|at| usize::from(*at) >= n) {
                return Err(bytes.error("position of a patch").into());
            }
            extras = bytes.slice((n_patches * extra as usize).div_ceil(8))?;
        }
        let payload = bytes.slice((width as usize * n).div_ceil(8))?;
        Ok(Self { n, width, extra, positions, extras, payload })
    }

    fn unpack(&self, out: &mut [u64; BLOCK]) {
        unpack(self.payload, self.n, self.width, out);
        if self.positions.is_empty() {
            return;
        }
        let mut high = [0; BLOCK];
        get_contiguous(self.extras, self.extra, &mut high[..self.positions.len()]);
        for (at, high) in self.positions.iter().zip(high) {
            out[usize::from(*at)] |= high << self.width;
        }
    }

    fn unpack_narrow(&self, out: &mut [u32; BLOCK]) {
        unpack_narrow(self.payload, self.n, self.width, out);
        if self.positions.is_empty() {
            return;
        }
        let mut high = [0; BLOCK];
        get_narrow_contiguous(self.extras, self.extra, &mut high[..self.positions.len()]);
        for (at, high) in self.positions.iter().zip(high) {
            out[usize::from(*at)] |= high << self.width;
        }
    }
}

fn is_in_lanes(n: usize, width: u32) -> bool {
    n == BLOCK && width <= LANE_WIDTH_MAX
}

fn unpack(payload: &[u8], n: usize, width: u32, out: &mut [u64; BLOCK]) {
    if is_in_lanes(n, width) {
        let mut narrow = [0; BLOCK];
        get_lanes(payload, width, &mut narrow);
        for (o, x) in out.iter_mut().zip(narrow) {
            *o = u64::from(x);
        }
    } else if width <= NARROW_WIDTH_MAX {
        let mut narrow = [0; BLOCK];
        get_narrow_contiguous(payload, width, &mut narrow[..n]);
        out.iter_mut().zip(narrow).for_each(|(o, x)| *o = u64::from(x));
    } else {
        get_contiguous(payload, width, &mut out[..n]);
    }
}

/// Of numbers of at most [`NARROW_WIDTH_MAX`] bits.
fn unpack_narrow(payload: &[u8], n: usize, width: u32, out: &mut [u32; BLOCK]) {
    if is_in_lanes(n, width) {
        get_lanes(payload, width, out);
    } else {
        get_narrow_contiguous(payload, width, &mut out[..n]);
    }
}

/// Reads what [`put_low`] wrote of a block of `n` numbers.
pub(super) fn get_low(bytes: &mut Reader<'_>, n: usize, width: u32, out: &mut [u64; BLOCK]) -> Result<(), CodecError> {
    unpack(bytes.slice(low_len(n, width))?, n, width, out);
    Ok(())
}

/// As [`get_low`], for a width of at most [`NARROW_WIDTH_MAX`].
pub(super) fn get_low_narrow(
    bytes: &mut Reader<'_>,
    n: usize,
    width: u32,
    out: &mut [u32; BLOCK],
) -> Result<(), CodecError> {
    unpack_narrow(bytes.slice(low_len(n, width))?, n, width, out);
    Ok(())
}

/// Packed numbers on their way out, block by block.
pub(super) struct Numbers<'r, 'a> {
    bytes: &'r mut Reader<'a>,
    left: usize,
    unit: Option<Unit<'a>>,
}

impl<'r, 'a> Numbers<'r, 'a> {
    /// The next `n` numbers of `bytes`.
    pub(super) fn new(bytes: &'r mut Reader<'a>, n: usize) -> Self {
        Self { bytes, left: n, unit: None }
    }

    /// Numbers of the next block; 0 at the end.
    pub(super) fn next_len(&self) -> usize {
        self.left.min(BLOCK)
    }

    /// An error where the reader stands.
    pub(super) fn error(&self, what: &'static str) -> CodecError {
        self.bytes.error(what).into()
    }

    /// Starts a unit when one comes next.
    fn open(&mut self) -> Result<Option<&mut Unit<'a>>, CodecError> {
        if self.unit.as_ref().is_none_or(|unit| unit.left() == 0) {
            self.unit = match self.bytes.peek() {
                Some(byte) if Unit::is_first(byte) => Some(Unit::read(self.bytes, self.left.min(UNIT))?),
                _ => None,
            };
        }
        Ok(self.unit.as_mut())
    }

    /// Reads the next block into the front of `out`; what lies behind it is left undefined.
    pub(super) fn wide(&mut self, out: &mut [u64; BLOCK]) -> Result<usize, CodecError> {
        let len = self.next_len();
        match self.open()? {
            Some(unit) => unit.next_wide(out)?,
            None => Block::read(self.bytes, len)?.unpack(out),
        }
        self.left -= len;
        Ok(len)
    }

    /// As [`Numbers::wide`] when no number takes more than [`NARROW_WIDTH_MAX`] bits, or a sign and these; otherwise
    /// takes nothing and says `false`.
    pub(super) fn narrow(&mut self, out: &mut [u32; BLOCK]) -> Result<bool, CodecError> {
        let len = self.next_len();
        match self.open()? {
            Some(unit) if unit.is_narrow => unit.next_narrow(out)?,
            Some(_) => return Ok(false),
            None => {
                let mut after = *self.bytes;
                let block = Block::read(&mut after, len)?;
                if block.width + block.extra > NARROW_WIDTH_MAX {
                    return Ok(false);
                }
                block.unpack_narrow(out);
                *self.bytes = after;
            }
        }
        self.left -= len;
        Ok(true)
    }
}

/// As [`Numbers::narrow`], of `n` numbers at most [`SHORT`] that are all there are.
pub(super) fn get_short(bytes: &mut Reader<'_>, n: usize, out: &mut [u32; SHORT]) -> Result<bool, CodecError> {
    if n == 0 || bytes.peek().is_none_or(Unit::is_first) {
        return Ok(n == 0);
    }
    let mut after = *bytes;
    let block = Block::read(&mut after, n)?;
    if block.width + block.extra > NARROW_WIDTH_MAX {
        return Ok(false);
    }
    get_narrow_contiguous(block.payload, block.width, &mut out[..n]);
    if !block.positions.is_empty() {
        let mut high = [0; SHORT];
        get_narrow_contiguous(block.extras, block.extra, &mut high[..block.positions.len()]);
        for (at, high) in block.positions.iter().zip(high) {
            out[usize::from(*at)] |= high << block.width;
        }
    }
    *bytes = after;
    Ok(true)
}

fn get_contiguous(payload: &[u8], width: u32, out: &mut [u64]) {
    const PADDED: usize = BLOCK * 8 + 9;
    if width == 0 {
        out.fill(0);
        return;
    }
    // Padding lets every number be read by one load of eight bytes and at most one more byte.
    let mut padded = [0u8; PADDED];
    padded[..payload.len()].copy_from_slice(payload);
    let mask = mask(width);
    for (i, slot) in out.iter_mut().enumerate() {
        let bit = i * width as usize;
        let (byte, shift) = (bit / 8, (bit % 8) as u32);
        let load = u64::from_le_bytes(padded[byte..byte + 8].try_into().expect("the range has eight bytes"));
        let mut v = load >> shift;
        if shift + width > 64 {
            v |= u64::from(padded[byte + 8]) << (64 - shift);
        }
        *slot = v & mask;
    }
}

/// One copy of `unpack` per width, so that shifts are constants.
macro_rules! by_width {
    ($unpack:ident, $width:expr, $payload:expr, $out:expr, $($w:literal)*) => {
        match $width {
            $($w => $unpack::<$w>($payload, $out),)*
            _ => $out.fill(0),
        }
    };
}

/// Numbers that are unpacked together: they take as many bytes as each has bits.
const GROUP: usize = 8;

/// Eight numbers of a constant width; a load of four bytes holds any of up to [`NARROW_WIDTH_MAX`] bits, wherever it
/// starts in the first.
#[inline(always)]
fn group<const W: usize>(bytes: &[u8]) -> [u32; GROUP] {
    let bytes = &bytes[..W + 3];
    std::array::from_fn(|i| {
        let (byte, shift) = (i * W / 8, i * W % 8);
        let load = u32::from_le_bytes(bytes[byte..byte + 4].try_into().expect("the range has four bytes"));
        load >> shift & ((1 << W) - 1)
    })
}

fn groups<const W: usize>(payload: &[u8], out: &mut [u32]) {
    let mut chunks = out.chunks_exact_mut(GROUP);
    let mut at = 0;
    for chunk in &mut chunks {
        // The last loads reach beyond the payload.
        let Some(bytes) = payload.get(at..at + W + 3) else { break };
        chunk.copy_from_slice(&group::<W>(bytes));
        at += W;
    }
    let done = at / W * GROUP;
    for rest in out[done..].chunks_mut(GROUP) {
        let mut padded = [0; NARROW_WIDTH_MAX as usize + 3];
        let bytes = &payload[at..payload.len().min(at + W)];
        padded[..bytes.len()].copy_from_slice(bytes);
        rest.copy_from_slice(&group::<W>(&padded)[..rest.len()]);
        at += W;
    }
}

fn get_narrow_contiguous(payload: &[u8], width: u32, out: &mut [u32]) {
    by_width!(groups, width, payload, out, 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22);
}

/// A row of lanes. With constants for both, it is a few vector operations.
#[inline(always)]
fn lane_row<const W: usize>(payload: &[u8], row: usize) -> [u32; 4] {
    let word = |at: usize| -> [u32; 4] {
        let bytes = &payload[16 * at..16 * at + 16];
        std::array::from_fn(|lane| {
            u32::from_le_bytes(bytes[4 * lane..4 * lane + 4].try_into().expect("the range has four bytes"))
        })
    };
    let mask = if W == 32 { u32::MAX } else { (1 << W) - 1 };
    let bit = row * W;
    let (at, shift) = (bit / 32, bit % 32);
    let mut out = word(at).map(|x| x >> shift);
    if shift + W > 32 {
        let next = word(at + 1);
        out.iter_mut().zip(next).for_each(|(o, x)| *o |= x << (32 - shift));
    }
    out.map(|x| x & mask)
}

/// One copy per width, and each row written out: a loop would compute shifts as it goes.
fn lanes<const W: usize>(payload: &[u8], out: &mut [u32; BLOCK]) {
    // Known here, the length needs no check in the rows.
    let payload = &payload[..16 * W];
    macro_rules! rows {
        ($($row:literal)*) => {
            $(out[4 * $row..4 * $row + 4].copy_from_slice(&lane_row::<W>(payload, $row));)*
        };
    }
    rows!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31);
}

fn get_lanes(payload: &[u8], width: u32, out: &mut [u32; BLOCK]) {
    by_width!(lanes, width, payload, out, 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29
        30 31 32);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(values: &[u64]) -> usize {
        let mut out = Vec::new();
        values.chunks(BLOCK).for_each(|block| put_block(block, &mut out));
        let cost: u64 = values.chunks(BLOCK).map(cost_bits).sum();
        assert_eq!(8 * out.len() as u64, cost, "the plan says what is written");
        check_read(&out, values);
        for behind in [Behind::Nothing, Behind::More] {
            let mut packed = Vec::new();
            put(values, behind, &mut packed);
            assert!(packed.len() <= out.len() + 4, "{} bytes are more than those of the blocks", packed.len());
            check_read(&packed, values);
        }
        if let Some((plan, middle)) =
            (1..=UNIT).contains(&values.len()).then(|| coded::Plan::around_middle(values)).flatten()
        {
            let distances: Vec<u64> = values.iter().map(|x| coded::signed(*x, middle)).collect();
            let mut packed = Vec::new();
            plan.write(&distances, Behind::Nothing, &mut packed);
            assert!((8 * packed.len() as u64).abs_diff(plan.bits) <= 24, "{} bytes, {} bits", packed.len(), plan.bits);
            check_read(&packed, &values.iter().map(|x| x.wrapping_sub(middle)).collect::<Vec<_>>());
        }
        out.len()
    }

    #[track_caller]
    fn check_read(bytes: &[u8], values: &[u64]) {
        let (mut reader, mut of_both) = (Reader::new(bytes), Reader::new(bytes));
        let mut wide = Numbers::new(&mut reader, values.len());
        let mut both = Numbers::new(&mut of_both, values.len());
        for block in values.chunks(BLOCK) {
            let mut got = [0; BLOCK];
            assert_eq!(wide.wide(&mut got).unwrap(), block.len());
            assert_eq!(&got[..block.len()], block);
            let mut narrow = [0; BLOCK];
            if both.narrow(&mut narrow).unwrap() {
                let signed = |x: &u32| i64::from(x.cast_signed());
                assert!(std::iter::zip(&narrow, block).all(|(a, b)| signed(a) == b.cast_signed()));
            } else {
                both.wide(&mut got).unwrap();
            }
        }
        assert_eq!((wide.next_len(), both.next_len()), (0, 0));
        assert!(reader.is_empty() && of_both.is_empty());
    }

    #[test]
    fn every_width_round_trips_in_full_and_short_blocks() {
        for width in 0..=64 {
            for n in [1, 2, 63, 64, 127, 128, 129, 300] {
                let values: Vec<u64> =
                    (0..n).map(|i: u64| (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) & mask(width)).collect();
                check(&values);
            }
        }
    }

    #[test]
    fn few_wide_numbers_cost_patches_and_not_width() {
        let mut values = vec![1u64; 128];
        assert_eq!(check(&values), 1 + 16);
        values[7] = u64::MAX;
        assert!(check(&values) < 40);
        assert_eq!(check(&[0; 128]), 1);
    }

    proptest! {
        #[test]
        fn mixed_widths_round_trip(values in proptest::collection::vec((any::<u64>(), 0u32..64), 0..400)) {
            let values: Vec<u64> = values.into_iter().map(|(v, s)| v >> s).collect();
            check(&values);
        }

        #[test]
        fn noise_round_trips(
            parts in proptest::collection::vec((0u64..1 << 50, 0u32..50, 1usize..700), 1..4), seed in any::<u64>()
        ) {
            let mut values = Vec::new();
            for (base, width, n) in parts {
                let noise = |i: usize| (seed ^ i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) & mask(width);
                values.extend((0..n).map(|i| base + noise(3 * i) / 3 + noise(3 * i + 1) / 3 + noise(3 * i + 2) / 3));
            }
            check(&values);
        }

        #[test]
        fn hostile_bytes_never_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..200), first in proptest::option::of(65u8..95), n in 0usize..=2100
        ) {
            if let (Some(byte), Some(first)) = (bytes.first_mut(), first) {
                *byte = first;
            }
            let mut reader = Reader::new(&bytes);
            let mut numbers = Numbers::new(&mut reader, n);
            while numbers.next_len() > 0 {
                let is_narrow = numbers.narrow(&mut [0; BLOCK]);
                if is_narrow.is_err() || is_narrow == Ok(false) && numbers.wide(&mut [0; BLOCK]).is_err() {
                    break;
                }
            }
        }
    }
}
