//! Noise: the high bits of numbers as prefix codes, the low ones as they are.
//!
//! Numbers that crowd around a middle, with rarer ones far out, waste about half a bit each in a block of one width. A
//! unit of up to 1,024 numbers has one of the fixed codes below instead, so that no code has to be written down and its
//! table is built once, or where none of them fits a code of its own; codes come in two streams, which are read side by
//! side, several codes with one look.
//!
//! # Source
//! Huffman, "A Method for the Construction of Minimum-Redundancy Codes", 1952; canonical codes and several symbols from
//! one look-up as in Moffat, Turpin, "On the Implementation of Minimum Redundancy Prefix Codes", 1997.

use std::sync::OnceLock;

use super::CodecError;
use super::pack::{self, BLOCK, NARROW_WIDTH_MAX};
use crate::wire::{Reader, put_varint, put_zigzag, unzigzag, zigzag};

/// Numbers in a unit.
pub(super) const UNIT: usize = 1024;
/// Fewer numbers do not pay for the header.
const WORTH: usize = 16;
/// Byte of a unit with code 0: wider than any block.
const FIRST: u8 = 65;
/// Of this byte: nothing follows the unit.
const LAST: u8 = 0x80;
/// Symbols of a code.
const SYMBOLS: usize = 16;
/// Symbol of a number alone that says that more of it follows.
const ESCAPE: u8 = 15;
/// Half of the symbol of a pair that says so.
const PAIR_ESCAPE: u64 = 3;
/// Of the second byte: bits that are not coded, and flags.
const LOW_MASK: u8 = 0x3f;
const SIGNED: u8 = 0x40;
const ESCAPED: u8 = 0x80;
const LOW_MAX: u32 = 60;
/// Longest code, bits.
const LEN_MAX: u32 = 10;
/// Symbols of one look.
const SYMBOLS_PER_LOOK: usize = 4;
/// Looks of [`LEN_MAX`] bits between two loads.
const LOOKS: usize = 5;
/// Room behind the symbols of a stream: for what a step writes beyond the last, and for a whole block to be copied.
const SLACK: usize = BLOCK;

/// Codes of pairs: a symbol is two numbers of two bits, the first in the low ones.
const N_PAIR_CODES: usize = 6;
/// Lengths of the codes of the symbols 0–15.
///
/// Fitted to the columns of GPU nodes, a live node_exporter and the kinds of the benchmark; each is complete.
#[rustfmt::skip]
const LENGTHS: [[u8; SYMBOLS]; 26] = [
    [1, 2, 6, 7, 3, 4, 8, 9, 6, 8, 9, 10, 8, 10, 9, 8],
    [1, 2, 6, 10, 3, 4, 7, 10, 6, 6, 10, 10, 10, 10, 10, 10],
    [1, 3, 6, 9, 2, 4, 10, 10, 5, 8, 10, 10, 9, 9, 10, 10],
    [1, 3, 5, 8, 2, 5, 7, 9, 5, 7, 9, 10, 8, 10, 10, 10],
    [1, 3, 4, 9, 4, 7, 4, 10, 3, 5, 6, 10, 10, 10, 10, 10],
    [3, 8, 4, 8, 10, 10, 10, 10, 5, 10, 1, 3, 10, 9, 3, 6],
    [1, 2, 3, 5, 6, 6, 7, 7, 7, 7, 7, 9, 9, 9, 9, 6],
    [1, 2, 3, 4, 6, 7, 7, 7, 8, 8, 10, 9, 9, 9, 10, 7],
    [1, 2, 3, 4, 5, 7, 7, 8, 8, 10, 9, 10, 10, 10, 10, 10],
    [2, 2, 2, 3, 4, 5, 6, 8, 8, 9, 10, 10, 10, 10, 10, 10],
    [1, 2, 3, 5, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7],
    [1, 2, 3, 5, 5, 6, 6, 7, 8, 8, 9, 9, 9, 10, 10, 7],
    [1, 2, 3, 4, 5, 6, 8, 8, 10, 10, 10, 10, 10, 10, 10, 10],
    [1, 2, 4, 4, 5, 5, 6, 6, 7, 8, 8, 7, 9, 9, 9, 9],
    [2, 2, 3, 3, 3, 4, 5, 6, 7, 9, 10, 10, 10, 10, 10, 10],
    [1, 2, 4, 5, 6, 6, 5, 6, 6, 7, 7, 8, 8, 8, 8, 5],
    [2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 6, 7, 8, 9, 10, 10],
    [2, 2, 3, 3, 4, 4, 5, 5, 6, 7, 7, 8, 8, 8, 8, 6],
    [1, 2, 5, 5, 5, 6, 6, 7, 7, 7, 7, 7, 7, 7, 7, 4],
    [2, 3, 3, 3, 3, 4, 4, 4, 5, 6, 7, 8, 10, 10, 10, 10],
    [3, 3, 2, 3, 3, 4, 5, 6, 6, 6, 6, 7, 7, 7, 7, 4],
    [3, 3, 3, 3, 3, 3, 4, 4, 4, 5, 6, 8, 7, 10, 9, 10],
    [1, 4, 4, 4, 4, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 7],
    [3, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 6, 5, 8, 7, 8],
    [3, 3, 4, 4, 4, 4, 4, 3, 4, 4, 4, 4, 5, 6, 7, 7],
    [1, 5, 5, 5, 6, 6, 6, 5, 6, 6, 6, 7, 7, 7, 7, 2],
];

/// The code whose lengths stand in the unit.
const OWN: usize = LENGTHS.len();
/// Longest code then, so that its table is built quickly.
const OWN_LEN_MAX: u32 = 8;
/// Part of the bytes that it must save over the fixed ones: a table is built for each unit, which takes as long as a
/// hundred codes or two.
const OWN_PRICE: u64 = 50;
/// What its lengths take, bits.
const OWN_BITS: u64 = 4 * SYMBOLS as u64;

/// What comes behind packed numbers in their column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behind {
    /// The end of the column.
    Nothing,
    /// Other numbers.
    More,
}

/// How a unit is best written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    code: usize,
    /// Bits that are not coded.
    low: u32,
    /// Numbers are zigzag.
    is_signed: bool,
    /// Of the own code.
    lengths: [u8; SYMBOLS],
    /// Of all when nothing is behind it, give or take a byte or two.
    pub(super) bits: u64,
}

impl Plan {
    /// The best of the codes for `numbers`, at most a unit of them.
    pub(super) fn of(numbers: &[u64]) -> Option<Self> {
        debug_assert!(numbers.len() <= UNIT);
        (numbers.len() >= WORTH).then(|| Self::best(numbers.iter().copied(), numbers.len()))
    }

    /// As [`Plan::of`], for [`signed`] distances of the numbers to the middle that comes with it.
    pub(super) fn around_middle(numbers: &[u64]) -> Option<(Self, u64)> {
        debug_assert!(numbers.len() <= UNIT);
        let middle = (numbers.len() >= WORTH).then(|| middle(numbers))?;
        let best = Self::best(numbers.iter().map(|x| signed(*x, middle)), numbers.len());
        Some((Self { is_signed: true, ..best }, middle))
    }

    fn best(numbers: impl Iterator<Item = u64> + Clone, n: usize) -> Self {
        let mut best = Self::roughly_best(numbers.clone(), n);
        // Escapes were counted with a byte each.
        let limit = if best.code < N_PAIR_CODES { PAIR_ESCAPE } else { u64::from(ESCAPE) };
        let beyond = numbers.filter_map(|x| (x >> best.low).checked_sub(limit));
        best.bits += beyond.map(|x| 8 * (put_len(x) - 1)).sum::<u64>();
        best
    }

    fn roughly_best(numbers: impl Iterator<Item = u64> + Clone, n: usize) -> Self {
        // Three of four numbers are below 2^top.
        let mut of_len = [0u16; 65];
        numbers.clone().for_each(|x| of_len[pack::bit_len(x) as usize] += 1);
        let mut below = 0;
        let top = of_len.iter().position(|count| {
            below += usize::from(*count);
            below * 4 >= n * 3
        });
        let top = top.unwrap_or(64) as u32;
        // Counted in steps of the least of the numbers of low bits that are tried; the others follow.
        let least = top.saturating_sub(4).min(LOW_MAX - 3);
        let mut steps = [0u16; FINE + 1];
        numbers.clone().for_each(|x| steps[(x >> least).min(FINE as u64) as usize] += 1);
        let mut best = Self { code: 0, low: 0, is_signed: false, lengths: [0; SYMBOLS], bits: u64::MAX };
        let counted = |coarser: u32| {
            let mut counts = [0u32; SYMBOLS];
            for (i, count) in steps.iter().enumerate() {
                counts[(i >> coarser).min(usize::from(ESCAPE))] += u32::from(*count);
            }
            counts
        };
        for coarser in 0..4.min(top.max(1)) {
            let counts = counted(coarser);
            let escaped = u64::from(counts[usize::from(ESCAPE)]);
            best.consider(&counts, N_PAIR_CODES..LENGTHS.len(), least + coarser, n, escaped);
        }
        best.consider_own(&counted(best.low - least), n);
        if top <= 2 {
            best.consider_pairs(numbers, n);
        }
        best
    }

    fn consider_pairs(&mut self, mut numbers: impl Iterator<Item = u64>, n: usize) {
        let mut counts = [0u32; SYMBOLS];
        let mut escaped = 0;
        while let Some(first) = numbers.next() {
            let second = numbers.next().unwrap_or(0);
            counts[usize::from(pair(first, second))] += 1;
            escaped += u64::from(first >= PAIR_ESCAPE) + u64::from(second >= PAIR_ESCAPE);
        }
        self.consider(&counts, 0..N_PAIR_CODES, 0, n, escaped);
    }

    /// Bits beside the codes.
    fn rest_bits(low: u32, n: usize, escaped: u64) -> u64 {
        // Two bytes of header, what the last bytes of streams and low bits waste, and how long the first stream is.
        let fixed = 16 + if n > BLOCK { 8 + 8 + 4 } else { 4 } + if low > 0 { 4 } else { 0 };
        let of_escapes = if escaped > 0 { 8 * (escaped + put_len(escaped)) } else { 0 };
        u64::from(low) * n as u64 + fixed + of_escapes
    }

    /// Takes a code made for these counts instead, if it is worth its lengths and its price.
    fn consider_own(&mut self, counts: &[u32; SYMBOLS], n: usize) {
        let rest = OWN_BITS + Self::rest_bits(self.low, n, u64::from(counts[usize::from(ESCAPE)]));
        let is_worth = |coded: u64| (coded + rest) * (OWN_PRICE + 1) < self.bits * OWN_PRICE;
        // No code is shorter than this, and few of the fixed ones are much longer.
        let total = n as f32;
        let bound: f32 = counts.iter().filter(|c| **c > 0).map(|c| *c as f32 * (total / *c as f32).log2()).sum();
        let n_used = counts.iter().filter(|count| **count > 0).count();
        if n_used < 2 || !is_worth(bound as u64) {
            return;
        }
        let lengths = own_lengths(counts);
        let coded: u32 = counts.iter().zip(&lengths).map(|(count, len)| count * u32::from(*len)).sum();
        if is_worth(coded.into()) {
            *self = Self { code: OWN, lengths, bits: u64::from(coded) + rest, ..*self };
        }
    }

    fn consider(&mut self, counts: &[u32; SYMBOLS], codes: std::ops::Range<usize>, low: u32, n: usize, escaped: u64) {
        let rest = Self::rest_bits(low, n, escaped);
        for code in codes {
            let coded: u32 = counts.iter().zip(&LENGTHS[code]).map(|(count, len)| count * u32::from(*len)).sum();
            let bits = u64::from(coded) + rest;
            if bits < self.bits {
                *self = Self { code, low, bits, ..*self };
            }
        }
    }

    /// Appends the unit; `numbers` are those that it was made for.
    pub(super) fn write(&self, numbers: &[u64], behind: Behind, out: &mut Vec<u8>) {
        let is_pair = self.code < N_PAIR_CODES;
        let limit = if is_pair { PAIR_ESCAPE } else { u64::from(ESCAPE) };
        let beyond: Vec<u64> = numbers.iter().filter_map(|x| (x >> self.low).checked_sub(limit)).collect();
        let last = if behind == Behind::Nothing { LAST } else { 0 };
        out.push((FIRST + self.code as u8) | last);
        let signed = if self.is_signed { SIGNED } else { 0 };
        out.push(self.low as u8 | signed | if beyond.is_empty() { 0 } else { ESCAPED });
        if self.code == OWN {
            out.extend(self.lengths.chunks_exact(2).map(|two| two[0] | two[1] << 4));
        }
        if !beyond.is_empty() {
            put_varint(out, beyond.len() as u64);
            beyond.iter().for_each(|x| put_varint(out, *x));
        }
        for block in numbers.chunks(BLOCK).filter(|_| self.low > 0) {
            pack::put_low(block, self.low, out);
        }
        let symbols: Vec<u8> = if is_pair {
            numbers.chunks(2).map(|p| pair(p[0], p.get(1).copied().unwrap_or(0))).collect()
        } else {
            numbers.iter().map(|x| (x >> self.low).min(u64::from(ESCAPE)) as u8).collect()
        };
        let codes = codes(LENGTHS.get(self.code).unwrap_or(&self.lengths));
        let n_first = in_first(numbers.len());
        let (first, second) = symbols.split_at(symbols_of(is_pair, n_first));
        let streams = [first, second].map(|symbols| stream(symbols, &codes));
        let lens = [streams[0].len(), streams[1].len()];
        match behind {
            Behind::More => {
                put_varint(out, lens[0] as u64);
                if !second.is_empty() {
                    put_varint(out, lens[1] as u64);
                }
            }
            Behind::Nothing if second.is_empty() => {}
            Behind::Nothing => {
                let expected = expected_first(lens[0] + lens[1], n_first, numbers.len());
                put_zigzag(out, lens[0] as i64 - expected as i64);
            }
        }
        streams.iter().for_each(|s| out.extend_from_slice(s));
    }
}

/// The distance of a number to the middle, as [`Plan::around_middle`] has it.
pub(super) fn signed(x: u64, middle: u64) -> u64 {
    zigzag(x.wrapping_sub(middle).cast_signed())
}

/// Bytes of the first stream when those of both are shared out by their numbers.
fn expected_first(both: usize, n_first: usize, n: usize) -> usize {
    both * n_first / n
}

/// Steps that are counted to judge a code.
const FINE: usize = SYMBOLS << 3;

/// Bytes of a varint.
fn put_len(x: u64) -> u64 {
    u64::from(pack::bit_len(x).max(1).div_ceil(7))
}

/// Close to the median.
fn middle(numbers: &[u64]) -> u64 {
    const SAMPLED: usize = 127;
    let mut some = [0; SAMPLED];
    let step = numbers.len().div_ceil(SAMPLED);
    let n = numbers.len().div_ceil(step);
    some.iter_mut().zip(numbers.iter().step_by(step)).for_each(|(s, x)| *s = *x);
    *some[..n].select_nth_unstable(n / 2).1
}

fn pair(first: u64, second: u64) -> u8 {
    (first.min(PAIR_ESCAPE) | second.min(PAIR_ESCAPE) << 2) as u8
}

/// Numbers whose codes are in the first stream: whole blocks.
fn in_first(n: usize) -> usize {
    (n / 2).next_multiple_of(BLOCK).min(n)
}

fn symbols_of(is_pair: bool, n: usize) -> usize {
    if is_pair { n.div_ceil(2) } else { n }
}

/// Code and length of each symbol, the first bit lowest.
fn codes(lengths: &[u8; SYMBOLS]) -> [(u32, u32); SYMBOLS] {
    let mut out = [(0, 0); SYMBOLS];
    let mut next = 0u32;
    for len in 1..=LEN_MAX {
        next <<= 1;
        for (slot, _) in out.iter_mut().zip(lengths).filter(|(_, l)| u32::from(**l) == len) {
            *slot = (next.reverse_bits() >> (32 - len), len);
            next += 1;
        }
    }
    out
}

/// Lengths of a code for symbols that occur so often, up to [`OWN_LEN_MAX`]; 0 for those that do not. The code is
/// complete when two symbols occur.
///
/// # Source
/// Huffman 1952; too long codes are cut, and the shorter ones of rare symbols made longer until all fit.
fn own_lengths(counts: &[u32; SYMBOLS]) -> [u8; SYMBOLS] {
    let mut lengths = [0u32; SYMBOLS];
    // Trees by count, each a set of symbols.
    let mut trees: Vec<(u32, u16)> = counts
        .iter()
        .enumerate()
        .filter(|(_, count)| **count > 0)
        .map(|(symbol, count)| (*count, 1 << symbol))
        .collect();
    while trees.len() > 1 {
        trees.sort_unstable_by(|a, b| b.cmp(a));
        let (Some(a), Some(b)) = (trees.pop(), trees.pop()) else { break };
        let both = a.1 | b.1;
        lengths.iter_mut().enumerate().filter(|(s, _)| both >> s & 1 == 1).for_each(|(_, len)| *len += 1);
        trees.push((a.0 + b.0, both));
    }
    lengths.iter_mut().for_each(|len| *len = (*len).min(OWN_LEN_MAX));
    let mut order: Vec<usize> = (0..SYMBOLS).filter(|s| lengths[*s] > 0).collect();
    order.sort_unstable_by_key(|s| counts[*s]);
    let taken = |lengths: &[u32; SYMBOLS]| order.iter().map(|s| 1 << (OWN_LEN_MAX - lengths[*s])).sum::<u32>();
    while taken(&lengths) > 1 << OWN_LEN_MAX {
        let Some(rarest) = order.iter().find(|s| lengths[**s] < OWN_LEN_MAX) else { break };
        lengths[*rarest] += 1;
    }
    while order.len() > 1 && taken(&lengths) < 1 << OWN_LEN_MAX {
        let left = (1 << OWN_LEN_MAX) - taken(&lengths);
        let Some(most) = order.iter().rev().find(|s| 1 << (OWN_LEN_MAX - lengths[**s]) <= left) else { break };
        lengths[*most] -= 1;
    }
    lengths.map(|len| len as u8)
}

fn stream(symbols: &[u8], codes: &[(u32, u32); SYMBOLS]) -> Vec<u8> {
    let mut out = Vec::with_capacity(symbols.len() / 2 + 8);
    let (mut acc, mut have) = (0u64, 0);
    for symbol in symbols {
        let (code, len) = codes[usize::from(*symbol)];
        acc |= u64::from(code) << have;
        have += len;
        if have >= 32 {
            out.extend_from_slice(&(acc as u32).to_le_bytes());
            acc >>= 32;
            have -= 32;
        }
    }
    out.extend_from_slice(&acc.to_le_bytes()[..have.div_ceil(8) as usize]);
    out
}

/// What each [`LEN_MAX`] bits begin with, or [`OWN_LEN_MAX`]: up to four symbols in the low bytes, then bits and symbols
/// that these are.
type Table<const N: usize = { 1 << LEN_MAX }> = [u64; N];

fn table(code: usize) -> &'static Table {
    static TABLES: [OnceLock<Box<Table>>; LENGTHS.len()] = [const { OnceLock::new() }; LENGTHS.len()];
    TABLES[code].get_or_init(|| Box::new(build_table(&LENGTHS[code])))
}

/// The table of a complete code, none of which is longer than the logarithm of `N`.
fn build_table<const N: usize>(lengths: &[u8; SYMBOLS]) -> Table<N> {
    // The first symbol of each row and its length.
    let mut first = [(0u8, 0u8); N];
    for (symbol, (code, len)) in codes(lengths).into_iter().enumerate().filter(|(_, (_, len))| *len > 0) {
        first[code as usize..].iter_mut().step_by(1 << len).for_each(|f| *f = (symbol as u8, len as u8));
    }
    std::array::from_fn(|bits| {
        let (mut used, mut n, mut row) = (0, 0, 0);
        while n < SYMBOLS_PER_LOOK {
            let (symbol, len) = first[bits >> used];
            if used + len > N.ilog2() as u8 {
                break;
            }
            row |= u64::from(symbol) << (8 * n);
            used += len;
            n += 1;
        }
        row | u64::from(used) << 32 | (n as u64) << 40
    })
}

/// The lengths of the code of a unit that has its own.
fn read_own(bytes: &mut Reader<'_>) -> Result<[u8; SYMBOLS], CodecError> {
    let pairs = bytes.slice(SYMBOLS / 2)?;
    let lengths: [u8; SYMBOLS] = std::array::from_fn(|i| pairs[i / 2] >> (4 * (i % 2)) & 15);
    let taken: u32 = lengths.iter().filter(|len| **len > 0).map(|len| 1 << OWN_LEN_MAX >> len).sum();
    let is_complete = lengths.iter().all(|len| u32::from(*len) <= OWN_LEN_MAX) && taken == 1 << OWN_LEN_MAX;
    if is_complete { Ok(lengths) } else { Err(bytes.error("lengths of codes").into()) }
}

/// A stream of codes that is being read; zeros follow its end.
struct Stream<'a> {
    bytes: &'a [u8],
    at: usize,
    acc: u64,
    have: u32,
    n: usize,
}

impl<'a> Stream<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, acc: 0, have: 0, n: 0 }
    }

    /// Takes the next symbols, at least [`LOOKS`] of them.
    #[inline]
    fn step<const N: usize>(&mut self, table: &Table<N>, out: &mut [u8]) {
        const ROOM: usize = 32;
        let load = match self.bytes.get(self.at..).and_then(|rest| rest.first_chunk()) {
            Some(eight) => u64::from_le_bytes(*eight),
            None => self.last_bytes(),
        };
        // At least 56 bits; those above are loaded again.
        self.acc |= load << self.have;
        self.at += (63 - self.have as usize) / 8;
        self.have |= 56;
        let Some(room) = out.get_mut(self.n..).and_then(|rest| rest.first_chunk_mut::<{ ROOM + SYMBOLS_PER_LOOK }>())
        else {
            return;
        };
        let mut n = 0;
        for _ in 0..LOOKS {
            let entry = table[self.acc as usize % table.len()];
            let at = n % ROOM;
            room[at..at + SYMBOLS_PER_LOOK].copy_from_slice(&(entry as u32).to_le_bytes());
            let used = (entry >> 32) as u8;
            self.acc >>= used % 64;
            self.have -= u32::from(used);
            n += (entry >> 40) as usize;
        }
        self.n += n;
    }

    #[cold]
    fn last_bytes(&self) -> u64 {
        let rest = self.bytes.get(self.at..).unwrap_or(&[]);
        let mut eight = [0; 8];
        eight[..rest.len()].copy_from_slice(rest);
        u64::from_le_bytes(eight)
    }
}

/// The symbols of both streams, as [`Unit`] holds them.
fn take_codes<const N: usize>(table: &Table<N>, streams: [&[u8]; 2], n: [usize; 2]) -> Vec<u8> {
    let mut out = vec![0; n[0] + n[1] + 2 * SLACK];
    let [mut a, mut b] = streams.map(Stream::new);
    let (of_a, of_b) = out.split_at_mut(n[0] + SLACK);
    // Side by side, as neither waits for the other.
    while a.n < n[0] && b.n < n[1] {
        a.step(table, of_a);
        b.step(table, of_b);
    }
    while a.n < n[0] {
        a.step(table, of_a);
    }
    while b.n < n[1] {
        b.step(table, of_b);
    }
    out
}

/// A unit whose codes are read.
pub(super) struct Unit<'a> {
    n: usize,
    /// Numbers handed out.
    done: usize,
    low: u32,
    is_pair: bool,
    is_signed: bool,
    /// Whether all numbers are narrow, see [`pack::NARROW_WIDTH_MAX`].
    pub(super) is_narrow: bool,
    /// What lies beyond the escapes.
    beyond: Reader<'a>,
    lows: Reader<'a>,
    /// Those of the first stream, and then, [`SLACK`] behind them, of the second.
    symbols: Vec<u8>,
}

impl<'a> Unit<'a> {
    /// Whether a unit starts with this byte, rather than a block.
    pub(super) fn is_first(byte: u8) -> bool {
        (FIRST..=FIRST + OWN as u8).contains(&(byte & !LAST))
    }

    /// Reads a unit of `n` numbers, 1 to [`UNIT`].
    pub(super) fn read(bytes: &mut Reader<'a>, n: usize) -> Result<Self, CodecError> {
        debug_assert!((1..=UNIT).contains(&n));
        let byte = bytes.u8()?;
        let is_last = byte & LAST != 0;
        let code = usize::from((byte & !LAST).wrapping_sub(FIRST));
        let flags = bytes.u8()?;
        let low = u32::from(flags & LOW_MASK);
        let is_pair = code < N_PAIR_CODES;
        if code > OWN || low > LOW_MAX || is_pair && low > 0 {
            return Err(bytes.error("code of packed numbers").into());
        }
        let own = if code == OWN { Some(read_own(bytes)?) } else { None };
        let mut largest = 0;
        let mut beyond = Reader::new(&[]);
        if flags & ESCAPED != 0 {
            let count = bytes.count(n)?;
            beyond = *bytes;
            for _ in 0..count {
                largest = largest.max(bytes.varint()?);
            }
            let len = bytes.offset() - beyond.offset();
            beyond = Reader::new(beyond.slice(len)?);
        }
        let lows = Reader::new(bytes.slice(pack::low_len(n, low))?);
        let n_first = in_first(n);
        let (first, second) = match (is_last, n > n_first) {
            (true, true) => {
                let by = bytes.zigzag()?;
                let both = bytes.remaining();
                let first = (expected_first(both, n_first, n) as i64).checked_add(by);
                let first = first.and_then(|len| usize::try_from(len).ok()).filter(|len| *len <= both);
                let first = first.ok_or_else(|| bytes.error("bytes of codes"))?;
                (first, both - first)
            }
            (true, false) => (bytes.remaining(), 0),
            (false, true) => (bytes.count(bytes.remaining())?, bytes.count(bytes.remaining())?),
            (false, false) => (bytes.count(bytes.remaining())?, 0),
        };
        let streams = [bytes.slice(first)?, bytes.slice(second)?];
        const NARROW: u64 = 1 << NARROW_WIDTH_MAX;
        let is_narrow =
            low < NARROW_WIDTH_MAX && largest < NARROW && (u64::from(ESCAPE) + largest + 1) << low <= NARROW;
        let n_symbols = [n_first, n - n_first].map(|n| symbols_of(is_pair, n));
        let symbols = match own {
            Some(lengths) => take_codes(&build_table::<{ 1 << OWN_LEN_MAX }>(&lengths), streams, n_symbols),
            None => take_codes(table(code), streams, n_symbols),
        };
        Ok(Self { n, done: 0, low, is_pair, is_signed: flags & SIGNED != 0, is_narrow, beyond, lows, symbols })
    }

    /// Numbers that were not handed out yet.
    pub(super) fn left(&self) -> usize {
        self.n - self.done
    }

    /// Fills `high` with what is coded of the next block.
    fn next_symbols(&mut self, high: &mut [u8; BLOCK]) -> usize {
        let n_first = in_first(self.n);
        let (start, at) = match self.done.checked_sub(n_first) {
            None => (0, self.done),
            Some(at) => (symbols_of(self.is_pair, n_first) + SLACK, at),
        };
        let half = &self.symbols[start..];
        let len = self.left().min(BLOCK);
        self.done += len;
        if self.is_pair {
            for (pair, symbol) in high.chunks_exact_mut(2).zip(&half[at / 2..]) {
                pair[0] = symbol & PAIR_ESCAPE as u8;
                pair[1] = symbol >> 2;
            }
        } else if let Some(block) = half[at..].first_chunk() {
            *high = *block;
        }
        len
    }

    /// Gives the places of escapes in a block, and how much is beyond them.
    fn escapes(&mut self, high: &[u8], mut emit: impl FnMut(usize, u64)) -> Result<(), CodecError> {
        if self.beyond.is_empty() {
            return Ok(());
        }
        let escape = if self.is_pair { PAIR_ESCAPE as u8 } else { ESCAPE };
        if high.iter().fold(false, |any, h| any | (*h == escape)) {
            for (at, _) in high.iter().enumerate().filter(|(_, h)| **h == escape) {
                emit(at, self.beyond.varint()?);
            }
        }
        if self.left() == 0 && !self.beyond.is_empty() {
            return Err(self.beyond.error("number beyond an escape").into());
        }
        Ok(())
    }

    /// The next block, into the front of `out`; behind it is garbage.
    pub(super) fn next_wide(&mut self, out: &mut [u64; BLOCK]) -> Result<(), CodecError> {
        let mut high = [0; BLOCK];
        let len = self.next_symbols(&mut high);
        pack::get_low(&mut self.lows, len, self.low, out)?;
        let low = self.low;
        for (o, h) in out.iter_mut().zip(high) {
            *o |= u64::from(h) << low;
        }
        self.escapes(&high[..len], |at, beyond| out[at] = out[at].wrapping_add(beyond << low))?;
        if self.is_signed {
            out.iter_mut().for_each(|o| *o = unzigzag(*o).cast_unsigned());
        }
        Ok(())
    }

    /// As [`Unit::next_wide`], when the unit [`is_narrow`](Unit::is_narrow); a number below 0 wraps.
    pub(super) fn next_narrow(&mut self, out: &mut [u32; BLOCK]) -> Result<(), CodecError> {
        debug_assert!(self.is_narrow);
        let mut high = [0; BLOCK];
        let len = self.next_symbols(&mut high);
        pack::get_low_narrow(&mut self.lows, len, self.low, out)?;
        let low = self.low;
        for (o, h) in out.iter_mut().zip(high) {
            *o |= u32::from(h) << low;
        }
        self.escapes(&high[..len], |at, beyond| out[at] = out[at].wrapping_add((beyond as u32) << low))?;
        if self.is_signed {
            out.iter_mut().for_each(|o| *o = (*o >> 1) ^ (*o & 1).wrapping_neg());
        }
        Ok(())
    }
}
