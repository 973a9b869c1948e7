//! Records of the WAL: one row of a group, late cells, cells of an open row, a new series.
//!
//! A row is written against the rows before it, unless it is the first after a seal; so rows decode from the first open
//! row of their group on. Records name rows by number and count what was added to them, so that a reader knows which are
//! sealed already and notices when something is missing that others are written against. Format: `docs/format/wal.md`.

use promontory_model::Labels;

use crate::exemplars::{Labelled, bytes};
use crate::head::open::{Cells, Patch, Written};
use crate::head::row::{Body, COLUMNS_MAX, TILE};
use crate::wire::{Reader, WireError, put_bytes, put_varint, put_zigzag};

const ROW: u8 = 1;
const LATE: u8 = 2;
const SERIES: u8 = 3;
const PATCH_NEWEST: u8 = 4;
const HISTOGRAMS: u8 = 5;
const EXEMPLARS: u8 = 6;
const PATCH_OLDER: u8 = 7;

/// The row is written against nothing. The bits above count the patches since the row before.
const KEYFRAME: u64 = 1;

/// A decoded record.
#[derive(Debug, PartialEq)]
pub(crate) enum Record<'a> {
    /// A row.
    Row(RowRecord<'a>),
    /// Late samples: time, column, value.
    Late { group: u32, first_no: u64, cells: Vec<(i64, u32, f64)> },
    /// Samples added to a row.
    Patch { group: u32, patch: Patch<'a> },
    /// Histograms: time, column and bytes, which [`crate::sample::read_histogram`] takes.
    Histograms { group: u32, first_no: u64, cells: Vec<(i64, u32, &'a [u8])> },
    /// Exemplars, numbered over all series.
    Exemplars { first_no: u64, batch: Vec<Labelled> },
    /// A series and where its samples arrive from here on.
    Series { group: u32, column: u32, labels: Labels },
}

/// A row whose values are still encoded.
#[derive(Debug, PartialEq)]
pub(crate) struct RowRecord<'a> {
    pub(crate) group: u32,
    pub(crate) no: u64,
    pub(crate) is_keyframe: bool,
    /// Patches between the row before and this one.
    pub(crate) n_patches: u64,
    pub(crate) t: i64,
    /// Its values; they need the rows before, unless it is a keyframe.
    pub(crate) body: Body<'a>,
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

pub(crate) fn put_patch(out: &mut Vec<u8>, group: u32, patch: &Patch<'_>) {
    out.push(if matches!(patch.cells, Cells::Newest { .. }) { PATCH_NEWEST } else { PATCH_OLDER });
    put_varint(out, u64::from(group));
    put_varint(out, patch.row_no);
    put_varint(out, patch.no);
    put_zigzag(out, patch.t);
    match &patch.cells {
        Cells::Newest { first_tile, body } => {
            put_varint(out, *first_tile as u64);
            put_varint(out, body.n_columns() as u64);
            out.extend_from_slice(body.bytes());
        }
        Cells::Older(cells) => {
            put_varint(out, cells.len() as u64);
            for &(column, value) in &**cells {
                put_varint(out, u64::from(column));
                out.extend_from_slice(&value.to_bits().to_le_bytes());
            }
        }
    }
}

pub(crate) fn put_histograms<'a>(
    out: &mut Vec<u8>,
    group: u32,
    first_no: u64,
    cells: impl ExactSizeIterator<Item = (i64, u32, &'a [u8])>,
) {
    out.push(HISTOGRAMS);
    put_varint(out, u64::from(group));
    put_varint(out, first_no);
    put_varint(out, cells.len() as u64);
    let mut last = 0;
    for (t, column, bytes) in cells {
        put_zigzag(out, t.wrapping_sub(last));
        put_varint(out, u64::from(column));
        put_bytes(out, bytes);
        last = t;
    }
}

pub(crate) fn put_exemplars(out: &mut Vec<u8>, first_no: u64, batch: &[Labelled]) {
    out.push(EXEMPLARS);
    bytes::put(out, first_no, batch);
}

/// Writes a row of which the body is written already.
pub(crate) fn put_row(out: &mut Vec<u8>, group: u32, written: &Written<'_>) {
    let row = written.row;
    out.push(ROW);
    put_varint(out, u64::from(group));
    put_varint(out, row.no);
    put_varint(out, written.n_patches << 1 | if written.is_keyframe { KEYFRAME } else { 0 });
    put_zigzag(out, row.t);
    put_varint(out, row.values.len() as u64);
    out.extend_from_slice(written.body);
}

/// A column that a group can have: what is replayed makes room for it.
fn column(r: &mut Reader<'_>) -> Result<u32, WireError> {
    let start = *r;
    let column = r.varint_u32()?;
    if (column as usize) < COLUMNS_MAX { Ok(column) } else { Err(start.error("column is larger than can be")) }
}

/// Whether a record is that of a series.
pub(crate) fn is_series(bytes: &[u8]) -> bool {
    bytes.first() == Some(&SERIES)
}

/// Number of the group that a record belongs to; 0 for one that belongs to none, or is damaged.
pub(crate) fn group_of(bytes: &[u8]) -> u32 {
    let mut r = Reader::new(bytes);
    match r.u8() {
        Ok(EXEMPLARS) | Err(_) => 0,
        Ok(_) => r.varint_u32().unwrap_or(0),
    }
}

/// Reads one record.
pub(crate) fn read(bytes: &[u8]) -> Result<Record<'_>, WireError> {
    let mut r = Reader::new(bytes);
    let record = match r.u8()? {
        ROW => {
            let group = r.varint_u32()?;
            let no = r.varint()?;
            let flags = r.varint()?;
            let t = r.zigzag()?;
            let n_columns = r.count(COLUMNS_MAX)?;
            let body = Body::new(r.slice(r.remaining())?, n_columns)?;
            let (is_keyframe, n_patches) = (flags & KEYFRAME != 0, flags >> 1);
            Record::Row(RowRecord { group, no, is_keyframe, n_patches, t, body })
        }
        LATE => {
            let group = r.varint_u32()?;
            let first_no = r.varint()?;
            let n = r.count(r.remaining() / 10)?;
            let mut cells = Vec::with_capacity(n);
            let mut t = 0_i64;
            for _ in 0..n {
                t = t.wrapping_add(r.zigzag()?);
                cells.push((t, column(&mut r)?, f64::from_bits(r.u64()?)));
            }
            Record::Late { group, first_no, cells }
        }
        kind @ (PATCH_NEWEST | PATCH_OLDER) => {
            let group = r.varint_u32()?;
            let (row_no, no) = (r.varint()?, r.varint()?);
            let t = r.zigzag()?;
            let cells = if kind == PATCH_NEWEST {
                let first_tile = r.count(COLUMNS_MAX / TILE)?;
                let n_columns = r.count(COLUMNS_MAX - first_tile * TILE)?;
                Cells::Newest { first_tile, body: Body::new(r.slice(r.remaining())?, n_columns)? }
            } else {
                let n = r.count(r.remaining() / 9)?;
                let mut cells = Vec::with_capacity(n);
                for _ in 0..n {
                    cells.push((column(&mut r)?, f64::from_bits(r.u64()?)));
                }
                Cells::Older(cells.into())
            };
            Record::Patch { group, patch: Patch { row_no, t, no, cells } }
        }
        HISTOGRAMS => {
            let group = r.varint_u32()?;
            let first_no = r.varint()?;
            let n = r.count(r.remaining() / 3)?;
            let mut cells = Vec::with_capacity(n);
            let mut t = 0_i64;
            for _ in 0..n {
                t = t.wrapping_add(r.zigzag()?);
                cells.push((t, column(&mut r)?, r.bytes()?));
            }
            Record::Histograms { group, first_no, cells }
        }
        EXEMPLARS => {
            let (first_no, batch) = bytes::read(&mut r)?;
            Record::Exemplars { first_no, batch }
        }
        SERIES => {
            let (group, column) = (r.varint_u32()?, column(&mut r)?);
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
    use crate::head::row::put_body;
    use crate::head::row::tests::{row, value};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_round_trip(
            values in proptest::collection::vec(value(), 0..140),
            (no, t, is_keyframe, n_patches) in (any::<u64>(), any::<i64>(), any::<bool>(), 0..u64::MAX >> 1),
        ) {
            let row = row(no, t, &values);
            let mut body = Vec::new();
            put_body(&mut body, &row, &mut Vec::new());
            let mut out = Vec::new();
            put_row(&mut out, 3, &Written { row: &row, is_keyframe, n_patches, body: &body });
            let body = Body::new(&body, values.len()).unwrap();
            let record = RowRecord { group: 3, no, is_keyframe, n_patches, t, body };
            prop_assert_eq!(read(&out), Ok(Record::Row(record)));
            prop_assert_eq!(group_of(&out), 3);
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), kind in 1u8..8) {
            let mut bytes = bytes;
            bytes.insert(0, kind);
            let _ = read(&bytes);
        }
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
        let mut body = Vec::new();
        put_body(&mut body, &row(0, 0, &[None, Some(2.5)]), &mut Vec::new());
        let body = Body::new(&body, 2).unwrap();
        for cells in [Cells::Newest { first_tile: 3, body }, Cells::Older(vec![(2, 1.5)].into())] {
            let patch = Patch { row_no: 9, t: -5, no: 300, cells };
            out.clear();
            put_patch(&mut out, 1, &patch);
            assert_eq!(read(&out), Ok(Record::Patch { group: 1, patch }));
            assert_eq!(group_of(&out), 1);
        }
        out.push(0);
        assert!(read(&out).is_err());
        assert!(read(&[]).is_err());
    }
}
