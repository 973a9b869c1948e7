//! A sealed part of a group as bytes: header, timestamps, one encoded column after the other.
//!
//! Columns are found through an index of every 64th, so that a query for a few series of a large group steps over at
//! most 63 lengths. Format: `docs/format/head-segment.md`.

use super::row::COLUMNS_MAX;
use crate::codec;
use crate::wire::{Reader, WireError, put_varint};

pub(crate) const HEADER_BYTES: usize = 64;
pub(crate) const MAGIC: u32 = 0x4b48_4350;
/// Columns per entry of the index.
const STRIDE: usize = 64;
/// Rows of one chunk that are believed.
const ROWS_MAX: u32 = 1 << 20;

/// How the rows with a sample are known; the low bits of a column's length.
const ABSENT: u64 = 0;
const FULL: u64 = 1;
const BITMAP: u64 = 2;

/// What kind of samples a chunk holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Rows in the order they arrived.
    Rows,
    /// Late samples; their times may lie between those of other chunks.
    Late,
    /// Histograms (`super::histogram_chunk`), late or not; their times may lie between those of other chunks.
    Histograms,
}

impl Kind {
    fn code(self) -> u32 {
        match self {
            Self::Rows => 0,
            Self::Late => 1,
            Self::Histograms => 2,
        }
    }

    fn from_code(code: u32) -> Option<Self> {
        [Self::Rows, Self::Late, Self::Histograms].into_iter().find(|kind| kind.code() == code)
    }
}

/// The description of a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) body_len: u32,
    pub(crate) body_crc: u32,
    pub(crate) group: u32,
    pub(crate) n_columns: u32,
    pub(crate) n_rows: u32,
    pub(crate) kind: Kind,
    pub(crate) mint: i64,
    pub(crate) maxt: i64,
    /// Numbers of rows or late cells inside: from the first to before the end.
    pub(crate) first_no: u64,
    pub(crate) end_no: u64,
}

impl Header {
    pub(super) fn write(&self, out: &mut [u8]) {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(&MAGIC.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.body_len.to_le_bytes());
        bytes.extend_from_slice(&self.body_crc.to_le_bytes());
        bytes.extend_from_slice(&self.group.to_le_bytes());
        bytes.extend_from_slice(&self.n_columns.to_le_bytes());
        bytes.extend_from_slice(&self.n_rows.to_le_bytes());
        bytes.extend_from_slice(&self.kind.code().to_le_bytes());
        bytes.extend_from_slice(&self.mint.to_le_bytes());
        bytes.extend_from_slice(&self.maxt.to_le_bytes());
        bytes.extend_from_slice(&self.first_no.to_le_bytes());
        bytes.extend_from_slice(&self.end_no.to_le_bytes());
        let crc = crc32fast::hash(&bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        out.copy_from_slice(&bytes);
    }

    /// The header at the start of `bytes`, if it is one.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..HEADER_BYTES)?;
        let mut r = Reader::new(bytes);
        let header = (|| {
            if r.u32()? != MAGIC || r.u32()? != crc32fast::hash(&bytes[8..]) {
                return Err(r.error("checksum of a chunk header"));
            }
            let (body_len, body_crc, group, n_columns, n_rows) = (r.u32()?, r.u32()?, r.u32()?, r.u32()?, r.u32()?);
            let kind = Kind::from_code(r.u32()?).ok_or(r.error("kind of a chunk"))?;
            let (mint, maxt, first_no, end_no) = (r.i64()?, r.i64()?, r.u64()?, r.u64()?);
            Ok::<_, WireError>(Self {
                body_len,
                body_crc,
                group,
                n_columns,
                n_rows,
                kind,
                mint,
                maxt,
                first_no,
                end_no,
            })
        })();
        let rows_are_sound =
            |h: &Self| h.n_rows > 0 && h.n_rows <= ROWS_MAX && h.mint <= h.maxt && h.first_no < h.end_no;
        header.ok().filter(|h| rows_are_sound(h) && h.may_have_columns())
    }

    /// Whether there can be so many columns: memory is taken for them before the body is looked at.
    fn may_have_columns(&self) -> bool {
        // Each takes a byte at least, but for histograms, of which only those columns are listed that have any.
        let is_listed = self.kind == Kind::Histograms || self.n_columns <= self.body_len;
        is_listed && self.n_columns as usize <= COLUMNS_MAX
    }
}

/// Samples to seal.
pub(crate) struct Input<'a> {
    pub(crate) group: u32,
    pub(crate) kind: Kind,
    /// Strictly ascending, at least one.
    pub(crate) timestamps: &'a [i64],
    pub(crate) n_columns: usize,
    pub(crate) first_no: u64,
    pub(crate) end_no: u64,
}

/// Appends header and body of a chunk. `column` fills the buffer with the values of a column's present rows and the
/// bitmap with one bit per row; both are empty when called.
pub(crate) fn write(
    out: &mut Vec<u8>,
    input: &Input<'_>,
    mut column: impl FnMut(usize, &mut Vec<f64>, &mut Vec<u8>),
) -> Header {
    let start = out.len();
    let body = start + HEADER_BYTES;
    out.resize(body, 0);
    let n_rows = input.timestamps.len();
    let mut scratch = Vec::with_capacity(256);
    codec::encode_timestamps(input.timestamps, &mut scratch);
    put_varint(out, scratch.len() as u64);
    out.extend_from_slice(&scratch);
    let index_at = out.len();
    out.resize(index_at + input.n_columns.div_ceil(STRIDE) * 4, 0);
    let columns_at = out.len();
    let mut values = Vec::with_capacity(n_rows);
    let mut bitmap = Vec::new();
    for i in 0..input.n_columns {
        if i % STRIDE == 0 {
            let offset = (out.len() - columns_at) as u32;
            let at = index_at + i / STRIDE * 4;
            out[at..at + 4].copy_from_slice(&offset.to_le_bytes());
        }
        values.clear();
        bitmap.clear();
        column(i, &mut values, &mut bitmap);
        if values.is_empty() {
            put_varint(out, ABSENT);
            continue;
        }
        scratch.clear();
        codec::encode(&values, &mut scratch);
        let kind = if values.len() == n_rows { FULL } else { BITMAP };
        put_varint(out, (scratch.len() as u64) << 2 | kind);
        if kind == BITMAP {
            bitmap.resize(n_rows.div_ceil(8), 0);
            out.extend_from_slice(&bitmap);
        }
        out.extend_from_slice(&scratch);
    }
    let header = Header {
        body_len: (out.len() - body) as u32,
        body_crc: crc32fast::hash(&out[body..]),
        group: input.group,
        n_columns: input.n_columns as u32,
        n_rows: n_rows as u32,
        kind: input.kind,
        mint: input.timestamps[0],
        maxt: input.timestamps[n_rows - 1],
        first_no: input.first_no,
        end_no: input.end_no,
    };
    header.write(&mut out[start..body]);
    header
}

/// Reads the body of a chunk whose checksum is right; the bytes are still not trusted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Body<'a> {
    timestamps: &'a [u8],
    /// First and last, as the header says.
    times: (i64, i64),
    index: &'a [u8],
    columns: &'a [u8],
    n_rows: usize,
    n_columns: usize,
}

/// One column: which rows are present and their values.
#[derive(Debug, Default)]
pub(crate) struct Column {
    pub(crate) values: Vec<f64>,
    /// One bit per row; empty when all rows are present. Meaningless when there are no values.
    pub(crate) bitmap: Vec<u8>,
}

impl Column {
    /// Calls `each` with row and value of every sample.
    pub(crate) fn for_each(&self, mut each: impl FnMut(usize, f64)) {
        if self.bitmap.is_empty() || self.values.is_empty() {
            for (row, &v) in self.values.iter().enumerate() {
                each(row, v);
            }
            return;
        }
        let rows = self
            .bitmap
            .iter()
            .enumerate()
            .flat_map(|(i, byte)| (0..8).filter(move |bit| byte >> bit & 1 == 1).map(move |bit| i * 8 + bit));
        for (row, &v) in rows.zip(&self.values) {
            each(row, v);
        }
    }
}

/// Whether the times of a chunk are those that its header says; other chunks and rows are placed by these.
pub(super) fn check_times(times: &[i64], (mint, maxt): (i64, i64)) -> Result<(), WireError> {
    let is_right = times.first() == Some(&mint) && times.last() == Some(&maxt);
    if is_right { Ok(()) } else { Err(WireError { what: "times of a chunk", offset: 0 }) }
}

impl<'a> Body<'a> {
    pub(crate) fn new(header: &Header, body: &'a [u8]) -> Result<Self, WireError> {
        let mut r = Reader::new(body);
        let timestamps = r.bytes()?;
        let n_columns = header.n_columns as usize;
        let index = r.slice(n_columns.div_ceil(STRIDE).saturating_mul(4))?;
        let columns = r.slice(r.remaining())?;
        let times = (header.mint, header.maxt);
        Ok(Self { timestamps, times, index, columns, n_rows: header.n_rows as usize, n_columns })
    }

    /// Appends the timestamps.
    pub(crate) fn timestamps(&self, out: &mut Vec<i64>) -> Result<(), WireError> {
        let start = out.len();
        codec::decode_timestamps(self.timestamps, self.n_rows, out)
            .map_err(|e| WireError { what: e.what, offset: e.at })?;
        check_times(&out[start..], self.times)
    }

    /// Decodes one column into `out`; no values when the column is absent.
    pub(crate) fn column(&self, column: usize, out: &mut Column) -> Result<(), WireError> {
        ColumnReader::new(*self).column(column, out)
    }
}

/// Decodes columns of a chunk, quickest in ascending order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ColumnReader<'a> {
    body: Body<'a>,
    /// A column and where it begins.
    next: Option<(usize, Reader<'a>)>,
}

impl<'a> ColumnReader<'a> {
    pub(crate) fn new(body: Body<'a>) -> Self {
        Self { body, next: None }
    }

    /// The last known place before `column`, and which column is there.
    fn seek(&self, column: usize) -> Result<(usize, Reader<'a>), WireError> {
        if let Some((at, reader)) = self.next
            && at <= column
            && column - at < STRIDE
        {
            return Ok((at, reader));
        }
        let entry = column / STRIDE * 4;
        let mut r = Reader::new(&self.body.index[entry..]);
        let offset = r.u32()? as usize;
        let rest = self.body.columns.get(offset..).ok_or(r.error("offset of a column"))?;
        Ok((column - column % STRIDE, Reader::new(rest)))
    }

    /// Decodes one column into `out`; no values when the column is absent.
    pub(crate) fn column(&mut self, column: usize, out: &mut Column) -> Result<(), WireError> {
        out.values.clear();
        out.bitmap.clear();
        let n_rows = self.body.n_rows;
        if column >= self.body.n_columns {
            return Ok(());
        }
        let (at, mut r) = self.seek(column)?;
        let bitmap_bytes = n_rows.div_ceil(8);
        for _ in at..column {
            let len = r.varint()?;
            let skip = usize::try_from(len >> 2).unwrap_or(usize::MAX);
            r.slice(if len & 3 == BITMAP { skip.saturating_add(bitmap_bytes) } else { skip })?;
        }
        // What is wrong with this column is found when it is read again, too.
        self.next = Some((column, r));
        let len = r.varint()?;
        let n_values = match len & 3 {
            ABSENT => return Ok(()),
            FULL => n_rows,
            BITMAP => {
                out.bitmap.extend_from_slice(r.slice(bitmap_bytes)?);
                if !n_rows.is_multiple_of(8)
                    && let Some(last) = out.bitmap.last_mut()
                {
                    *last &= (1 << (n_rows % 8)) - 1;
                }
                out.bitmap.iter().map(|b| b.count_ones() as usize).sum()
            }
            _ => return Err(r.error("kind of a column")),
        };
        let bytes = r.slice(usize::try_from(len >> 2).unwrap_or(usize::MAX))?;
        codec::decode(bytes, n_values, &mut out.values).map_err(|e| WireError { what: e.what, offset: e.at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(times: &[i64], columns: &[Vec<Option<f64>>]) -> (Header, Vec<u8>) {
        let mut out = vec![9; 3];
        let input =
            Input { group: 5, kind: Kind::Rows, timestamps: times, n_columns: columns.len(), first_no: 1, end_no: 2 };
        let header = write(&mut out, &input, |c, values, bitmap| {
            bitmap.resize(times.len().div_ceil(8), 0);
            for (row, v) in columns[c].iter().enumerate() {
                if let Some(v) = v {
                    values.push(*v);
                    bitmap[row / 8] |= 1 << (row % 8);
                }
            }
        });
        (header, out.split_off(3))
    }

    #[test]
    fn headers_that_claim_more_columns_than_there_can_be_are_none() {
        let (header, _) = encode(&[1, 2], &[vec![Some(1.0), None]]);
        let read = |n_columns, kind| {
            let mut bytes = [0; HEADER_BYTES];
            Header { n_columns, kind, ..header }.write(&mut bytes);
            Header::read(&bytes).is_some()
        };
        for kind in [Kind::Rows, Kind::Late] {
            assert!(read(header.body_len, kind) && !read(header.body_len + 1, kind));
        }
        let most = COLUMNS_MAX as u32;
        assert!(read(most, Kind::Histograms) && !read(most + 1, Kind::Histograms));
    }

    proptest! {
        #[test]
        fn columns_round_trip(
            columns in proptest::collection::vec(
                proptest::collection::vec(proptest::option::weighted(0.8, any::<f64>()), 20), 0..150),
            full in proptest::collection::vec(any::<bool>(), 150),
        ) {
            let times: Vec<i64> = (0..20).map(|i| i * 15_000 + i % 3).collect();
            let columns: Vec<Vec<Option<f64>>> = columns.into_iter().zip(full)
                .map(|(c, full)| c.into_iter().map(|v| if full { Some(v.unwrap_or(1.0)) } else { v }).collect())
                .collect();
            let (header, bytes) = encode(&times, &columns);
            prop_assert_eq!(Header::read(&bytes), Some(header.clone()));
            prop_assert_eq!(header.body_crc, crc32fast::hash(&bytes[HEADER_BYTES..]));
            let body = Body::new(&header, &bytes[HEADER_BYTES..]).unwrap();
            let mut t = Vec::new();
            body.timestamps(&mut t).unwrap();
            prop_assert_eq!(t, times);
            let mut column = Column::default();
            for (i, expected) in columns.iter().enumerate() {
                body.column(i, &mut column).unwrap();
                let mut got = vec![None; 20];
                column.for_each(|row, v| got[row] = Some(v.to_bits()));
                prop_assert_eq!(got, expected.iter().map(|v| v.map(f64::to_bits)).collect::<Vec<_>>());
            }
            body.column(columns.len(), &mut column).unwrap();
            prop_assert!(column.values.is_empty());
        }

        #[test]
        fn hostile_bodies_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), n in 1u32..200) {
            let header = Header { body_len: 0, body_crc: 0, group: 0, n_columns: n, n_rows: n, kind: Kind::Rows,
                mint: 0, maxt: 0, first_no: 0, end_no: 1 };
            if let Ok(body) = Body::new(&header, &bytes) {
                let _ = body.timestamps(&mut Vec::new());
                for i in 0..n as usize {
                    let _ = body.column(i, &mut Column::default());
                }
            }
        }
    }

    #[test]
    fn a_damaged_header_is_not_a_header() {
        let (_, bytes) = encode(&[1, 2], &[vec![Some(1.0), None]]);
        for at in 0..HEADER_BYTES {
            let mut bytes = bytes.clone();
            bytes[at] ^= 4;
            assert_eq!(Header::read(&bytes), None, "{at}");
        }
    }
}
