//! Records of the WAL: one row of a group, late cells, cells of an open row, a new series.
//!
//! A row is written against the row before it, unless it is the first after a seal; so rows decode from the first open
//! row of their group on. Records name rows by number, so that a reader knows which are sealed already and notices
//! when one is missing. Format: `docs/format/wal.md`.

use promontory_model::Labels;

use crate::head::group::Row;
use crate::wire::{Reader, WireError, put_bytes, put_varint, put_zigzag, unzigzag, zigzag};

const ROW: u8 = 1;
const LATE: u8 = 2;
const SERIES: u8 = 3;
const PATCH: u8 = 4;

/// The row is written against nothing.
const KEYFRAME: u8 = 1;
/// Every column has a sample; no presence bitmap follows.
const FULL: u8 = 2;

/// Codes of a changed value: 0 to 7 are an integer delta of one byte more.
const RAW: u8 = 8;
const XOR: u8 = 9;
/// 10 to 15 are a delta of values times 10, 100, … 10⁶.
const DECIMAL: u8 = 9;
const DECIMALS_MAX: u8 = 6;
const POW10: [f64; 7] = [1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6];
/// Integers up to here are exact in an f64.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// A decoded record.
#[derive(Debug, PartialEq)]
pub(crate) enum Record<'a> {
    /// A row; [`RowRecord::decode`] needs the row before.
    Row(RowRecord<'a>),
    /// Late samples: time, column, value.
    Late { group: u32, first_no: u64, cells: Vec<(i64, u32, f64)> },
    /// Samples added to a row: column, value.
    Patch { group: u32, row_no: u64, t: i64, cells: Vec<(u32, f64)> },
    /// A series and where its samples arrive from here on.
    Series { group: u32, column: u32, labels: Labels },
}

/// A row whose values are still encoded.
#[derive(Debug, PartialEq)]
pub(crate) struct RowRecord<'a> {
    pub(crate) group: u32,
    pub(crate) no: u64,
    pub(crate) is_keyframe: bool,
    pub(crate) t: i64,
    n_columns: usize,
    presence: Option<&'a [u8]>,
    rest: &'a [u8],
}

pub(crate) fn put_series(out: &mut Vec<u8>, group: u32, column: u32, labels: &Labels) {
    out.push(SERIES);
    put_varint(out, u64::from(group));
    put_varint(out, u64::from(column));
    put_varint(out, labels.len() as u64);
    for (name, value) in labels {
        put_bytes(out, name.as_bytes());
        put_bytes(out, value.as_bytes());
    }
}

pub(crate) fn put_late(out: &mut Vec<u8>, group: u32, first_no: u64, cells: &[(i64, u32, f64)]) {
    out.push(LATE);
    put_varint(out, u64::from(group));
    put_varint(out, first_no);
    put_varint(out, cells.len() as u64);
    let mut last = 0;
    for &(t, column, value) in cells {
        put_zigzag(out, t.wrapping_sub(last));
        put_varint(out, u64::from(column));
        out.extend_from_slice(&value.to_bits().to_le_bytes());
        last = t;
    }
}

pub(crate) fn put_patch(out: &mut Vec<u8>, group: u32, row_no: u64, t: i64, cells: &[(u32, f64)]) {
    out.push(PATCH);
    put_varint(out, u64::from(group));
    put_varint(out, row_no);
    put_zigzag(out, t);
    put_varint(out, cells.len() as u64);
    for &(column, value) in cells {
        put_varint(out, u64::from(column));
        out.extend_from_slice(&value.to_bits().to_le_bytes());
    }
}

/// Writes `row` against `base`, the open row before it.
pub(crate) fn put_row(out: &mut Vec<u8>, group: u32, row: &Row, base: Option<&Row>) {
    let n = row.values.len();
    let is_full = row.n_present() == n as u64;
    out.push(ROW);
    put_varint(out, u64::from(group));
    put_varint(out, row.no);
    out.push(if base.is_none() { KEYFRAME } else { 0 } | if is_full { FULL } else { 0 });
    put_zigzag(out, row.t);
    put_varint(out, n as u64);
    let bytes = n.div_ceil(8);
    if !is_full {
        put_bitmap(out, &row.presence, bytes);
    }
    let changed_at = out.len();
    out.resize(changed_at + bytes, 0);
    let codes_at = out.len();
    // Codes come in pairs before their data; a code of the second of a pair is filled in later.
    let mut open_code: Option<usize> = None;
    for column in 0..n {
        let old = base_value(base, column);
        let new = row.values[column];
        if !row.is_present(column) || old.to_bits() == new.to_bits() {
            continue;
        }
        out[changed_at + column / 8] |= 1 << (column % 8);
        let code_at = match open_code.take() {
            Some(at) => (at, 4),
            None => {
                out.push(0);
                open_code = Some(out.len() - 1);
                (out.len() - 1, 0)
            }
        };
        let code = put_value(out, old, new);
        out[code_at.0] |= code << code_at.1;
    }
    debug_assert!(out.len() >= codes_at);
}

fn put_bitmap(out: &mut Vec<u8>, words: &[u64], bytes: usize) {
    for i in 0..bytes {
        let word = words.get(i / 8).copied().unwrap_or(0);
        out.push((word >> (i % 8 * 8)) as u8);
    }
}

/// What a column's value is written against.
fn base_value(base: Option<&Row>, column: usize) -> f64 {
    base.and_then(|row| row.get(column)).unwrap_or(0.0)
}

/// The integer that `v` is, if it is one bit for bit.
fn as_integer(v: f64) -> Option<i64> {
    let i = v as i64;
    (v.abs() <= EXACT_MAX && (i as f64).to_bits() == v.to_bits()).then_some(i)
}

/// `v` times a power of ten, rounded; 0 when that is no exact integer. Reader and writer must agree on it.
fn scaled(v: f64, decimals: u8) -> i64 {
    let m = (v * POW10[decimals as usize]).round();
    if m.abs() <= EXACT_MAX { m as i64 } else { 0 }
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

fn read_uint(r: &mut Reader<'_>, n: usize) -> Result<u64, WireError> {
    if n > 8 {
        return Err(r.error("number of more than 8 bytes"));
    }
    let mut bytes = [0; 8];
    bytes[..n].copy_from_slice(r.slice(n)?);
    Ok(u64::from_le_bytes(bytes))
}

fn read_value(r: &mut Reader<'_>, old: f64, code: u8) -> Result<f64, WireError> {
    Ok(match code {
        0..RAW => {
            let delta = unzigzag(read_uint(r, code as usize + 1)?);
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
            f64::from_bits(old.to_bits() ^ read_uint(r, len)?.checked_shl(8 * trail as u32).unwrap_or(0))
        }
        _ => {
            let decimals = code - DECIMAL;
            let n = r.u8()?;
            let delta = unzigzag(read_uint(r, usize::from(n))?);
            let m = scaled(old, decimals).wrapping_add(delta);
            m as f64 / POW10[decimals as usize]
        }
    })
}

impl RowRecord<'_> {
    /// Columns that the row reaches.
    pub(crate) fn n_columns(&self) -> usize {
        self.n_columns
    }

    /// The row; `base` is the open row before it, and must be there unless the record is a keyframe.
    pub(crate) fn decode(&self, base: Option<&Row>) -> Result<Row, WireError> {
        let base = if self.is_keyframe { None } else { base };
        let n = self.n_columns;
        let mut row = Row { no: self.no, t: self.t, seq: 0, values: vec![0.0; n], presence: vec![0; n.div_ceil(64)] };
        let mut r = Reader::new(self.rest);
        let changed = r.slice(n.div_ceil(8))?;
        let mut codes: Option<u8> = None;
        let bit = |bytes: &[u8], i: usize| bytes[i / 8] >> (i % 8) & 1 == 1;
        for column in 0..n {
            if self.presence.is_some_and(|p| !bit(p, column)) {
                continue;
            }
            let old = base_value(base, column);
            let value = if bit(changed, column) {
                let code = match codes.take() {
                    Some(second) => second,
                    None => {
                        let pair = r.u8()?;
                        codes = Some(pair >> 4);
                        pair & 15
                    }
                };
                read_value(&mut r, old, code)?
            } else {
                old
            };
            row.values[column] = value;
            row.presence[column / 64] |= 1 << (column % 64);
        }
        if r.is_empty() { Ok(row) } else { Err(r.error("bytes left over")) }
    }
}

/// Reads one record.
pub(crate) fn read(bytes: &[u8]) -> Result<Record<'_>, WireError> {
    let mut r = Reader::new(bytes);
    let record = match r.u8()? {
        ROW => {
            let group = r.varint_u32()?;
            let no = r.varint()?;
            let flags = r.u8()?;
            let t = r.zigzag()?;
            // Each column takes at least its bit in the changed bitmap.
            let n_columns = r.count(bytes.len().saturating_mul(8))?;
            let presence = if flags & FULL == 0 { Some(r.slice(n_columns.div_ceil(8))?) } else { None };
            let rest = r.slice(r.remaining())?;
            Record::Row(RowRecord { group, no, is_keyframe: flags & KEYFRAME != 0, t, n_columns, presence, rest })
        }
        LATE => {
            let group = r.varint_u32()?;
            let first_no = r.varint()?;
            let n = r.count(r.remaining() / 10)?;
            let mut cells = Vec::with_capacity(n);
            let mut t = 0_i64;
            for _ in 0..n {
                t = t.wrapping_add(r.zigzag()?);
                cells.push((t, r.varint_u32()?, f64::from_bits(r.u64()?)));
            }
            Record::Late { group, first_no, cells }
        }
        PATCH => {
            let group = r.varint_u32()?;
            let row_no = r.varint()?;
            let t = r.zigzag()?;
            let n = r.count(r.remaining() / 9)?;
            let mut cells = Vec::with_capacity(n);
            for _ in 0..n {
                cells.push((r.varint_u32()?, f64::from_bits(r.u64()?)));
            }
            Record::Patch { group, row_no, t, cells }
        }
        SERIES => {
            let (group, column) = (r.varint_u32()?, r.varint_u32()?);
            let n = r.count(r.remaining() / 2)?;
            let mut pairs = Vec::with_capacity(n);
            for _ in 0..n {
                pairs.push((r.str()?, r.str()?));
            }
            if !pairs.windows(2).all(|w| w[0].0 < w[1].0) || pairs.iter().any(|(_, value)| value.is_empty()) {
                return Err(r.error("labels are not in order"));
            }
            Record::Series { group, column, labels: Labels::from_sorted(pairs) }
        }
        _ => return Err(WireError { what: "type of a record", offset: 0 }),
    };
    if r.is_empty() { Ok(record) } else { Err(r.error("bytes left over")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(no: u64, t: i64, values: &[Option<f64>]) -> Row {
        let mut row =
            Row { no, t, values: vec![0.0; values.len()], presence: vec![0; values.len().div_ceil(64)], seq: 0 };
        for (i, v) in values.iter().enumerate() {
            if let Some(v) = v {
                row.set(i, *v);
            }
        }
        row
    }

    fn bits(row: &Row) -> Vec<Option<u64>> {
        (0..row.values.len()).map(|c| row.get(c).map(f64::to_bits)).collect()
    }

    fn value() -> impl Strategy<Value = Option<f64>> {
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
        fn rows_round_trip_bit_for_bit(
            a in proptest::collection::vec(value(), 0..140),
            b in proptest::collection::vec(value(), 0..140),
            t in any::<(i64, i64)>(),
        ) {
            let (a, b) = (row(7, t.0, &a), row(8, t.1, &b));
            for base in [None, Some(&a)] {
                let mut out = Vec::new();
                put_row(&mut out, 3, &b, base);
                let Ok(Record::Row(record)) = read(&out) else { panic!("{:?}", read(&out)) };
                let got = record.decode(base).unwrap();
                prop_assert_eq!((record.group, got.no, got.t), (3, 8, t.1));
                prop_assert_eq!(bits(&got), bits(&b));
            }
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), kind in 1u8..5) {
            let mut bytes = bytes;
            bytes.insert(0, kind);
            if let Ok(Record::Row(record)) = read(&bytes) {
                let _ = record.decode(Some(&row(0, 5, &[Some(1.5), None, Some(2.0)])));
            }
        }
    }

    #[test]
    fn small_changes_take_few_bytes() {
        let a = row(0, 0, &[Some(1000.0), Some(0.25), Some(3.0), Some(12.5)]);
        let b = row(1, 15_000, &[Some(1001.0), Some(0.26), Some(3.0), Some(12.75)]);
        let mut out = Vec::new();
        put_row(&mut out, 1, &b, Some(&a));
        // Type, group, number, flags, time, columns, changed; two codes, 1 and 2 bytes; one code, 2 bytes.
        assert_eq!(out.len(), 1 + 1 + 1 + 1 + 3 + 1 + 1 + 1 + 1 + 2 + 1 + 2);
    }

    #[test]
    fn other_records_round_trip() {
        let labels = Labels::from_pairs([("__name__", "up"), ("job", "é")]);
        let mut out = Vec::new();
        put_series(&mut out, 3, 70_000, &labels);
        assert_eq!(read(&out), Ok(Record::Series { group: 3, column: 70_000, labels }));
        out.clear();
        put_late(&mut out, 1, 9, &[(i64::MAX, 2, 1.5), (i64::MIN, 0, -0.0)]);
        assert_eq!(
            read(&out),
            Ok(Record::Late { group: 1, first_no: 9, cells: vec![(i64::MAX, 2, 1.5), (i64::MIN, 0, -0.0)] })
        );
        out.clear();
        put_patch(&mut out, 1, 9, -5, &[(2, 1.5)]);
        assert_eq!(read(&out), Ok(Record::Patch { group: 1, row_no: 9, t: -5, cells: vec![(2, 1.5)] }));
        out.push(0);
        assert!(read(&out).is_err());
        assert!(read(&[]).is_err());
    }
}
