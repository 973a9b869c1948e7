//! A sealed part of a group's histograms as bytes: header, timestamps, a directory of columns, the columns.
//!
//! Format: `docs/format/head-segment.md`.

use std::collections::BTreeMap;

use promontory_model::{HistogramSample, ReadError};

use super::chunk::{HEADER_BYTES, Header, Kind, check_times};
use super::segment::{Chunk, ChunkBytes};
use crate::codec;
use crate::histogram_column;
use crate::wire::{Reader, WireError, put_bytes, put_varint};

/// Cells to seal: for each column its rows and histograms, ascending.
pub(crate) struct Input<'a> {
    pub(crate) group: u32,
    /// Strictly ascending, at least one.
    pub(crate) timestamps: &'a [i64],
    pub(crate) columns: BTreeMap<u32, Vec<(usize, HistogramSample)>>,
    pub(crate) first_no: u64,
    pub(crate) end_no: u64,
}

/// Appends header and body of a chunk.
pub(crate) fn write(out: &mut Vec<u8>, input: Input<'_>) -> Header {
    let start = out.len();
    let body = start + HEADER_BYTES;
    out.resize(body, 0);
    let n_rows = input.timestamps.len();
    let mut scratch = Vec::new();
    codec::encode_timestamps(input.timestamps, &mut scratch);
    put_bytes(out, &scratch);
    put_varint(out, input.columns.len() as u64);
    let n_columns = input.columns.last_key_value().map_or(0, |(&column, _)| column + 1);
    let mut columns = Vec::new();
    let mut before = 0;
    for (column, cells) in input.columns {
        let (rows, mut samples): (Vec<usize>, Vec<HistogramSample>) = cells.into_iter().unzip();
        let at = columns.len();
        histogram_column::put(n_rows, &rows, &mut samples, &mut columns);
        put_varint(out, u64::from(column - before));
        put_varint(out, (columns.len() - at) as u64);
        before = column;
    }
    out.extend_from_slice(&columns);
    let header = Header {
        body_len: (out.len() - body) as u32,
        body_crc: crc32fast::hash(&out[body..]),
        group: input.group,
        n_columns,
        n_rows: n_rows as u32,
        kind: Kind::Histograms,
        mint: input.timestamps[0],
        maxt: input.timestamps[n_rows - 1],
        first_no: input.first_no,
        end_no: input.end_no,
    };
    header.write(&mut out[start..body]);
    header
}

/// Reads the body of a chunk whose checksum is right; the bytes are still not trusted.
pub(crate) struct Body<'a> {
    timestamps: Vec<i64>,
    /// Column and its bytes, ascending.
    columns: Vec<(u32, &'a [u8])>,
}

impl<'a> Body<'a> {
    /// The body of `chunk`, of which these are the bytes.
    pub(crate) fn of(chunk: &Chunk, bytes: &'a ChunkBytes) -> Result<Self, ReadError> {
        Self::new(&chunk.header, bytes.as_slice()).map_err(|e| chunk.malformed(e))
    }

    pub(crate) fn new(header: &Header, body: &'a [u8]) -> Result<Self, WireError> {
        let mut r = Reader::new(body);
        let mut timestamps = Vec::new();
        codec::decode_timestamps(r.bytes()?, header.n_rows as usize, &mut timestamps)
            .map_err(|e| WireError { what: e.what, offset: e.at })?;
        check_times(&timestamps, (header.mint, header.maxt))?;
        let n = r.count(r.remaining() / 2)?;
        let mut directory = Vec::with_capacity(n);
        let mut column = 0u32;
        for i in 0..n {
            let step = r.varint_u32()?;
            column = column.checked_add(step).filter(|_| i == 0 || step > 0).ok_or(r.error("columns do not ascend"))?;
            directory.push((column, r.count(body.len())?));
        }
        let columns = directory.into_iter().map(|(column, len)| Ok((column, r.slice(len)?)));
        let columns = columns.collect::<Result<Vec<_>, WireError>>()?;
        if r.is_empty() { Ok(Self { timestamps, columns }) } else { Err(r.error("bytes left over")) }
    }

    pub(super) fn into_timestamps(self) -> Vec<i64> {
        self.timestamps
    }

    /// Calls `each` with row, time and histogram of a column, ascending.
    pub(crate) fn column(
        &self,
        column: u32,
        mut each: impl FnMut(usize, i64, HistogramSample),
    ) -> Result<(), WireError> {
        let Ok(at) = self.columns.binary_search_by_key(&column, |(c, _)| *c) else { return Ok(()) };
        let (mut rows, mut samples) = (Vec::new(), Vec::new());
        histogram_column::read(self.columns[at].1, self.timestamps.len(), &mut rows, &mut samples)?;
        for (row, sample) in rows.into_iter().zip(samples) {
            each(row, self.timestamps[row], sample);
        }
        Ok(())
    }
}

/// Times and histograms of one column, ascending.
pub(crate) fn column(chunk: &Chunk, column: u32) -> Result<Vec<(i64, HistogramSample)>, ReadError> {
    let mut out = Vec::new();
    if column < chunk.header.n_columns {
        let bytes = chunk.bytes()?;
        let body = Body::of(chunk, &bytes)?;
        body.column(column, |_, t, sample| out.push((t, sample))).map_err(|e| chunk.malformed(e))?;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::tests::counter;
    use proptest::prelude::*;

    fn header(n_rows: u32) -> Header {
        Header {
            body_len: 0,
            body_crc: 0,
            group: 0,
            n_columns: 9,
            n_rows,
            kind: Kind::Histograms,
            mint: 0,
            maxt: 0,
            first_no: 0,
            end_no: 1,
        }
    }

    #[test]
    fn columns_round_trip() {
        let times: Vec<i64> = (0..20).map(|i| i * 15_000).collect();
        let all: Vec<(usize, HistogramSample)> = counter(20).into_iter().enumerate().collect();
        let some: Vec<_> = all.iter().filter(|(row, _)| row % 3 == 1).cloned().collect();
        let columns = BTreeMap::from([(0, all.clone()), (7, some.clone())]);
        let mut out = vec![1, 2];
        let header = write(&mut out, Input { group: 3, timestamps: &times, columns, first_no: 5, end_no: 31 });
        assert_eq!(Header::read(&out[2..]), Some(header.clone()));
        assert_eq!((header.n_columns, header.n_rows, header.kind), (8, 20, Kind::Histograms));
        let body = Body::new(&header, &out[2 + HEADER_BYTES..]).unwrap();
        for (column, expected) in [(0, all), (7, some), (3, Vec::new()), (8, Vec::new())] {
            let mut got = Vec::new();
            body.column(column, |row, t, sample| {
                assert_eq!(t, times[row]);
                got.push((row, sample));
            })
            .unwrap();
            assert!(got.len() == expected.len());
            assert!(got.iter().zip(&expected).all(|(a, b)| a.0 == b.0 && a.1.same_bits(&b.1)));
        }
    }

    proptest! {
        #[test]
        fn hostile_bodies_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), n in 1u32..200) {
            if let Ok(body) = Body::new(&header(n), &bytes) {
                for column in 0..20 {
                    let _ = body.column(column, |_, _, _| {});
                }
            }
        }
    }
}
