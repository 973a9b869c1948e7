//! A row: one scrape of a group as plain values, and as bytes that tell it from the rows before it.
//!
//! The same bytes lie in the WAL and, while the row is open, in memory. They are cut into tiles of 64 columns of which
//! each is found and decoded alone, so that a query for one series steps over the others. What a value is written
//! against is the *state*: of each column the newest value since the last keyframe, 0 before it has one. Format:
//! `docs/format/wal.md`.

use crate::wire::{Reader, WireError, unzigzag, zigzag};

/// Columns of a tile.
pub(crate) const TILE: usize = 64;
/// Columns of one row that are believed.
pub(crate) const COLUMNS_MAX: usize = 1 << 20;

/// How a tile says which of its columns have a sample; the low bits of its first byte.
const ALL: u8 = 0;
const NONE: u8 = 1;
const SOME: u8 = 2;
/// Where the first byte says the same of the columns that changed, among those with a sample.
const CHANGED_SHIFT: u8 = 2;

/// Codes of a changed value: 0 to 7 are an integer delta of one byte more.
const RAW: u8 = 8;
const XOR: u8 = 9;
/// 10 to 15 are a delta of values times 10, 100, … 10⁶.
const DECIMAL: u8 = 9;
const DECIMALS_MAX: u8 = 6;
const POW10: [f64; 7] = [1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6];
/// Integers up to here are exact in an f64.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// One scrape: a value per column. Columns beyond the row's width are absent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Row {
    /// Number of the row in its group; grows, with gaps only where a damaged WAL lost rows.
    pub(crate) no: u64,
    pub(crate) t: i64,
    /// Append that wrote the row; readers skip rows that are newer than their snapshot.
    pub(crate) seq: u64,
    pub(crate) values: Vec<f64>,
    /// Bit `column % 64` of word `column / 64`.
    pub(crate) presence: Vec<u64>,
}

impl Row {
    pub(crate) fn is_present(&self, column: usize) -> bool {
        self.presence.get(column / 64).is_some_and(|word| word >> (column % 64) & 1 == 1)
    }

    /// Writes a sample; widens the row when needed.
    pub(crate) fn set(&mut self, column: usize, value: f64) {
        if column >= self.values.len() {
            self.values.resize(column + 1, 0.0);
            self.presence.resize((column + 1).div_ceil(64), 0);
        }
        self.values[column] = value;
        self.presence[column / 64] |= 1 << (column % 64);
    }

    /// Number of samples.
    pub(crate) fn n_present(&self) -> u64 {
        self.presence.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Columns with a sample, ascending.
    pub(crate) fn columns(&self) -> impl Iterator<Item = usize> {
        self.presence.iter().enumerate().flat_map(|(i, &word)| {
            std::iter::successors((word != 0).then_some(word), |w| {
                let rest = w & (w - 1);
                (rest != 0).then_some(rest)
            })
            .map(move |w| i * 64 + w.trailing_zeros() as usize)
        })
    }
}

/// The tile's part of a bitmap.
fn word(words: &[u64], tile: usize, width: usize) -> u64 {
    words.get(tile).copied().unwrap_or(0) & mask(width)
}

fn mask(width: usize) -> u64 {
    if width >= TILE { u64::MAX } else { (1 << width) - 1 }
}

/// Columns of a tile in a row of `n_columns`.
fn width(n_columns: usize, tile: usize) -> usize {
    n_columns.saturating_sub(tile * TILE).min(TILE)
}

/// Calls `each` with the position of each bit that is set, ascending.
fn for_bits(mut word: u64, mut each: impl FnMut(usize)) {
    while word != 0 {
        each(word.trailing_zeros() as usize);
        word &= word - 1;
    }
}

/// Appends the body of `row`; `state` becomes that after it.
pub(crate) fn put_body(out: &mut Vec<u8>, row: &Row, state: &mut Vec<f64>) {
    let n = row.values.len();
    if state.len() < n {
        // Groups grow by few columns at a time, and each spare one would cost as much as a series' labels.
        state.reserve_exact(n - state.len());
        state.resize(n, 0.0);
    }
    let n_tiles = n.div_ceil(TILE);
    let lengths_at = out.len();
    // A single tile ends where the body does.
    if n_tiles > 1 {
        out.resize(lengths_at + 2 * n_tiles, 0);
    }
    for tile in 0..n_tiles {
        let start = out.len();
        let (from, width) = (tile * TILE, width(n, tile));
        let values = &row.values[from..from + width];
        put_tile(out, values, word(&row.presence, tile, width), &mut state[from..from + width]);
        if n_tiles > 1 {
            let at = lengths_at + 2 * tile;
            let len = (out.len() - start) as u16;
            out[at..at + 2].copy_from_slice(&len.to_le_bytes());
        }
    }
}

fn put_tile(out: &mut Vec<u8>, values: &[f64], present: u64, state: &mut [f64]) {
    let width = values.len();
    let mut changed = 0;
    for (i, (new, old)) in values.iter().zip(&*state).enumerate() {
        changed |= u64::from(new.to_bits() != old.to_bits()) << i;
    }
    changed &= present;
    let kind = |bits: u64, all: u64| {
        if bits == 0 {
            NONE
        } else if bits == all {
            ALL
        } else {
            SOME
        }
    };
    let (presence_kind, changed_kind) = (kind(present, mask(width)), kind(changed, present));
    out.push(presence_kind | changed_kind << CHANGED_SHIFT);
    for (kind, bits) in [(presence_kind, present), (changed_kind, changed)] {
        if kind == SOME {
            out.extend_from_slice(&bits.to_le_bytes()[..width.div_ceil(8)]);
        }
    }
    let codes_at = out.len();
    out.resize(codes_at + (changed.count_ones() as usize).div_ceil(2), 0);
    let mut n = 0;
    for_bits(changed, |i| {
        let code = put_value(out, state[i], values[i]);
        out[codes_at + n / 2] |= code << (n % 2 * 4);
        n += 1;
        state[i] = values[i];
    });
}

/// Appends the body of the row `old` with the samples of `rest` added, which it lacks and which begin with tile
/// `first_tile` and are told from `state`. That is the state after `old` and becomes that after the whole; `before` gives
/// the state of a tile before `old`. Tiles that only one of the two has samples in are copied.
///
/// # Errors
/// When the bytes of `rest` are none; the state is not to be used then.
pub(crate) fn put_extended(
    out: &mut Vec<u8>,
    old: Body<'_>,
    (first_tile, rest): (usize, Body<'_>),
    state: &mut Vec<f64>,
    mut before: impl FnMut(usize) -> [f64; TILE],
) -> Result<(), WireError> {
    let n = old.n_columns.max(first_tile * TILE + rest.n_columns);
    if state.len() < n {
        state.reserve_exact(n - state.len());
        state.resize(n, 0.0);
    }
    let n_tiles = n.div_ceil(TILE);
    let lengths_at = out.len();
    if n_tiles > 1 {
        out.resize(lengths_at + 2 * n_tiles, 0);
    }
    for tile in 0..n_tiles {
        let start = out.len();
        let (from, now, was) = (tile * TILE, width(n, tile), width(old.n_columns, tile));
        let in_rest = tile.checked_sub(first_tile).filter(|&i| i < rest.n_tiles());
        let added = in_rest.map_or(Ok(0), |i| rest.read_tile_head(i))?;
        let mut present = old.read_tile_head(tile)?;
        let alone = in_rest.filter(|&i| added != 0 && present == 0 && width(rest.n_columns, i) == now);
        if added == 0 && now == was {
            out.extend_from_slice(old.tile(tile));
        } else if let Some(i) = alone {
            // Nothing of the tile changed since the row before, so the samples are told from what they should be.
            rest.read_tile(i, &mut state[from..from + now])?;
            out.extend_from_slice(rest.tile(i));
        } else {
            let mut base = [0.0; TILE];
            base[..now].copy_from_slice(&state[from..from + now]);
            let mut values = base;
            let mut after = base;
            if present != 0 {
                base = before(tile);
                values = base;
                old.read_tile(tile, &mut values)?;
            }
            if let Some(i) = in_rest {
                rest.read_tile(i, &mut after)?;
            }
            for_bits(added, |i| {
                values[i] = after[i];
                state[from + i] = after[i];
            });
            present |= added;
            put_tile(out, &values[..now], present, &mut base[..now]);
        }
        if n_tiles > 1 {
            let at = lengths_at + 2 * tile;
            let len = (out.len() - start) as u16;
            out[at..at + 2].copy_from_slice(&len.to_le_bytes());
        }
    }
    Ok(())
}

/// The body of a row whose tiles end where they should; what is inside them is not known yet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Body<'a> {
    n_columns: usize,
    bytes: &'a [u8],
    /// Two bytes for each tile, unless there is one.
    lengths: &'a [u8],
    tiles: &'a [u8],
}

impl<'a> Body<'a> {
    pub(crate) fn new(bytes: &'a [u8], n_columns: usize) -> Result<Self, WireError> {
        let mut r = Reader::new(bytes);
        if n_columns > COLUMNS_MAX {
            return Err(r.error("too many columns"));
        }
        let n_tiles = n_columns.div_ceil(TILE);
        let lengths = if n_tiles > 1 { r.slice(2 * n_tiles)? } else { &[] };
        let tiles = r.slice(r.remaining())?;
        let body = Self { n_columns, bytes, lengths, tiles };
        let is_whole =
            if n_tiles > 1 { body.start(n_tiles) == tiles.len() } else { tiles.is_empty() == (n_tiles == 0) };
        if is_whole { Ok(body) } else { Err(r.error("length of a tile")) }
    }

    pub(crate) fn n_columns(&self) -> usize {
        self.n_columns
    }

    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub(crate) fn n_tiles(&self) -> usize {
        self.n_columns.div_ceil(TILE)
    }

    /// Where a tile starts, or the last one ends.
    fn start(&self, tile: usize) -> usize {
        let lengths = self.lengths[..2 * tile].chunks_exact(2);
        lengths.map(|len| usize::from(u16::from_le_bytes([len[0], len[1]]))).sum()
    }

    fn tile(&self, tile: usize) -> &'a [u8] {
        match self.lengths.get(2 * tile..2 * tile + 2) {
            Some(len) => {
                let start = self.start(tile);
                &self.tiles[start..start + usize::from(u16::from_le_bytes([len[0], len[1]]))]
            }
            None => self.tiles,
        }
    }

    /// Which columns of a tile have a sample; `state`, of 64 columns, becomes that after the row.
    pub(crate) fn read_tile(&self, tile: usize, state: &mut [f64]) -> Result<u64, WireError> {
        if tile >= self.n_tiles() {
            return Ok(0);
        }
        read_tile(self.tile(tile), width(self.n_columns, tile), state)
    }

    /// Which columns of a tile have a sample.
    pub(crate) fn read_tile_head(&self, tile: usize) -> Result<u64, WireError> {
        if tile >= self.n_tiles() {
            return Ok(0);
        }
        let (present, _) = read_head(&mut Reader::new(self.tile(tile)), width(self.n_columns, tile))?;
        Ok(present)
    }

    /// Whether a column has a sample.
    pub(crate) fn is_present(&self, column: usize) -> bool {
        self.read_tile_head(column / TILE).is_ok_and(|present| present >> (column % TILE) & 1 == 1)
    }
}

/// Which columns of a tile have a sample, and which of them changed.
fn read_head(r: &mut Reader<'_>, width: usize) -> Result<(u64, u64), WireError> {
    let kinds = r.u8()?;
    let mut bits = |kind: u8, all: u64| {
        Ok(match kind {
            ALL => all,
            NONE => 0,
            SOME => {
                let mut word = [0; 8];
                let bytes = r.slice(width.div_ceil(8))?;
                word[..bytes.len()].copy_from_slice(bytes);
                u64::from_le_bytes(word) & all
            }
            _ => return Err(r.error("kind of a tile")),
        })
    };
    let present = bits(kinds & 3, mask(width))?;
    Ok((present, bits(kinds >> CHANGED_SHIFT, present)?))
}

fn read_tile(bytes: &[u8], width: usize, state: &mut [f64]) -> Result<u64, WireError> {
    let mut r = Reader::new(bytes);
    let (present, changed) = read_head(&mut r, width)?;
    let codes = r.slice((changed.count_ones() as usize).div_ceil(2))?;
    let (mut rest, mut n) = (changed, 0);
    while rest != 0 {
        let i = rest.trailing_zeros() as usize;
        let code = codes[n / 2] >> (n % 2 * 4) & 15;
        state[i] = read_value(&mut r, state[i], code)?;
        rest &= rest - 1;
        n += 1;
    }
    if r.is_empty() { Ok(present) } else { Err(r.error("bytes left over")) }
}

/// The integer that `v` is, if it is one bit for bit.
fn as_integer(v: f64) -> Option<i64> {
    let i = v as i64;
    (v.abs() <= EXACT_MAX && (i as f64).to_bits() == v.to_bits()).then_some(i)
}

/// `v` times a power of ten, plus a half away from zero, cut; 0 when that is no exact integer. Reader and writer must
/// agree on it. Not `round`, which is a call into the C library on processors that are not named to the compiler.
fn scaled(v: f64, decimals: u8) -> i64 {
    let m = v * POW10[decimals as usize];
    if m.abs() <= EXACT_MAX { (m + 0.5_f64.copysign(m)) as i64 } else { 0 }
}

fn bytes_of(v: u64) -> usize {
    (8 - v.leading_zeros() as usize / 8).max(1)
}

/// Appends the data of a changed value and gives its code.
fn put_value(out: &mut Vec<u8>, old: f64, new: f64) -> u8 {
    if let (Some(a), Some(b)) = (as_integer(old), as_integer(new)) {
        let delta = zigzag(b - a);
        let n = bytes_of(delta);
        out.extend_from_slice(&delta.to_le_bytes()[..n]);
        return n as u8 - 1;
    }
    let xor = old.to_bits() ^ new.to_bits();
    let trail = xor.trailing_zeros() as usize / 8;
    let len = bytes_of(xor >> (8 * trail));
    if len > 2 {
        for decimals in 1..=DECIMALS_MAX {
            let m = scaled(new, decimals);
            if (m as f64 / POW10[decimals as usize]).to_bits() != new.to_bits() {
                continue;
            }
            let delta = zigzag(m.wrapping_sub(scaled(old, decimals)));
            let n = bytes_of(delta);
            if n < len {
                out.push(n as u8);
                out.extend_from_slice(&delta.to_le_bytes()[..n]);
                return DECIMAL + decimals;
            }
            break;
        }
    }
    if len >= 7 {
        out.extend_from_slice(&new.to_bits().to_le_bytes());
        return RAW;
    }
    out.push((trail << 4 | len) as u8);
    out.extend_from_slice(&(xor >> (8 * trail)).to_le_bytes()[..len]);
    XOR
}

fn read_value(r: &mut Reader<'_>, old: f64, code: u8) -> Result<f64, WireError> {
    Ok(match code {
        0..RAW => {
            let delta = unzigzag(r.uint(code as usize + 1)?);
            let base = as_integer(old).ok_or(r.error("integer delta of a fraction"))?;
            base.wrapping_add(delta) as f64
        }
        RAW => f64::from_bits(r.u64()?),
        XOR => {
            let head = r.u8()?;
            let (trail, len) = (usize::from(head >> 4), usize::from(head & 15));
            if trail + len > 8 {
                return Err(r.error("xor of more than 8 bytes"));
            }
            f64::from_bits(old.to_bits() ^ r.uint(len)?.checked_shl(8 * trail as u32).unwrap_or(0))
        }
        _ => {
            let decimals = code - DECIMAL;
            let n = r.u8()?;
            let delta = unzigzag(r.uint(usize::from(n))?);
            let m = scaled(old, decimals).wrapping_add(delta);
            m as f64 / POW10[decimals as usize]
        }
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn row(no: u64, t: i64, values: &[Option<f64>]) -> Row {
        let mut row =
            Row { no, t, values: vec![0.0; values.len()], presence: vec![0; values.len().div_ceil(64)], seq: 0 };
        for (i, v) in values.iter().enumerate() {
            if let Some(v) = v {
                row.set(i, *v);
            }
        }
        row
    }

    pub(crate) fn value() -> impl Strategy<Value = Option<f64>> {
        prop_oneof![
            Just(None),
            (-1000i64..1000).prop_map(|v| Some(v as f64)),
            (-100_000i64..100_000).prop_map(|v| Some(v as f64 / 1000.0)),
            any::<u64>().prop_map(|b| Some(f64::from_bits(b))),
            prop_oneof![Just(-0.0), Just(0.0), Just(f64::INFINITY), Just(9_007_199_254_740_993.0)].prop_map(Some),
        ]
    }

    proptest! {
        #[test]
        fn hostile_bodies_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), n in 0usize..200) {
            if let Ok(body) = Body::new(&bytes, n) {
                for tile in 0..body.n_tiles() + 1 {
                    let _ = body.read_tile(tile, &mut [1.5; TILE]);
                }
                let _ = (0..n).filter(|&column| body.is_present(column)).count();
            }
        }
    }

    #[test]
    fn small_changes_take_few_bytes() {
        let mut state = Vec::new();
        put_body(&mut Vec::new(), &row(0, 0, &[Some(1000.0), Some(0.25), Some(3.0), Some(12.5)]), &mut state);
        let mut out = Vec::new();
        put_body(&mut out, &row(1, 0, &[Some(1001.0), Some(0.26), Some(3.0), Some(12.75)]), &mut state);
        // Kinds, changed, codes; an integer, hundredths, hundredths.
        assert_eq!(out.len(), 1 + 1 + 2 + 1 + 2 + 2);
        out.clear();
        put_body(&mut out, &row(2, 0, &[Some(1001.0), Some(0.26), Some(3.0), Some(12.75)]), &mut state);
        assert_eq!(out, [NONE << CHANGED_SHIFT]);
    }
}
