//! The packed form of an index: what the sections are made of, without what follows from it, deflated.
//!
//! Postings follow from the table of series, restarts from the entries; texts and rows of neighbours resemble each other.
//! A packed index takes a sixth of the sections, and half a microsecond a series to turn into them, once it is needed.
//! Large ones stay sections, of which a reader touches only some.

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

use super::super::section::{self, Kind};
use super::read::Row;
use super::sections::{Groups, Name, Rows, Sections, SeriesTable, TooLarge};
use crate::wire::{Reader, WireError, put_varint};

/// Bytes of sections that a packed index stands for: they are held in memory while the block is used.
const PLAIN_BYTES_MAX: usize = 1 << 20;
/// Bytes that are deflated; texts are longer than in sections, where each is told from the one before.
const RAW_BYTES_MAX: usize = 4 << 20;
/// Labels of all series together.
const LABELS_MAX: usize = 4 << 20;
/// Behind each text: no UTF-8 has this byte.
const END: u8 = 0xff;

/// A packed index under construction.
pub(super) struct Packed {
    plain_len: usize,
    table: SeriesTable,
    n_series: u64,
}

impl Packed {
    /// A packed index in the place of sections of so many bytes with so many labels of series; `None` when they are too
    /// large.
    pub(super) fn worth(plain_len: usize, n_labels: usize) -> Option<Self> {
        let is_small = plain_len <= PLAIN_BYTES_MAX && n_labels <= LABELS_MAX;
        is_small.then(|| Self { plain_len, table: SeriesTable::default(), n_series: 0 })
    }

    /// The bytes of the index file; `None` when the texts are too long.
    pub(super) fn finish(self, names: &[Name<'_>], groups: Groups<'_>) -> Result<Option<Vec<u8>>, TooLarge> {
        let mut raw = Vec::with_capacity(self.plain_len);
        put_varint(&mut raw, self.n_series);
        put_varint(&mut raw, u64::from(groups.n));
        put_varint(&mut raw, groups.n_pages);
        put_varint(&mut raw, names.len() as u64);
        for name in names {
            put_varint(&mut raw, name.values.len() as u64);
            for text in std::iter::once(&name.text).chain(&name.values) {
                raw.extend_from_slice(text.as_bytes());
                raw.push(END);
            }
        }
        raw.extend_from_slice(&self.table.bytes);
        raw.extend_from_slice(groups.entries);
        if raw.len() > RAW_BYTES_MAX {
            return Ok(None);
        }
        let mut body = Vec::new();
        put_varint(&mut body, self.plain_len as u64);
        let mut deflater = DeflateEncoder::new(body, Compression::best());
        let deflated = deflater.write_all(&raw).and_then(|()| deflater.finish());
        let mut out = Vec::new();
        section::put(Kind::Packed, &deflated.expect("memory takes all that is written to it"), &mut out)
            .ok_or(TooLarge)?;
        Ok(Some(out))
    }
}

impl Rows for Packed {
    fn push(&mut self, labels: &[(u32, u32)], group: u32, column: u32) -> Result<(), TooLarge> {
        self.n_series += 1;
        self.table.push(labels, group, column)
    }
}

/// The sections that the body of a packed index stands for.
pub(in crate::block) fn unpack(body: &[u8]) -> Result<Vec<u8>, WireError> {
    let mut r = Reader::new(body);
    let plain_len = r.count(PLAIN_BYTES_MAX)?;
    let start = r.offset();
    let mut raw = Vec::new();
    let mut inflater = DeflateDecoder::new(&body[start..]);
    let inflated = (&mut inflater).take(RAW_BYTES_MAX as u64 + 1).read_to_end(&mut raw);
    if inflated.is_err() || raw.len() > RAW_BYTES_MAX || inflater.total_in() != (body.len() - start) as u64 {
        return Err(r.error("deflated index"));
    }
    // Offsets from here on count in what was deflated.
    let mut r = Reader::new(&raw);
    let (n_series, n_groups, n_pages) = (r.count(raw.len())?, r.count(raw.len())?, r.varint()?);
    let n_names = r.count(r.remaining())?;
    let mut names: Vec<Name<'_>> = Vec::with_capacity(n_names);
    // Each value takes three bytes of the sections at least.
    let mut n_values_max = plain_len / 3;
    for _ in 0..n_names {
        let n_values = r.count(n_values_max)?;
        n_values_max -= n_values;
        let text = text(&mut r)?;
        let values = (0..n_values).map(|_| self::text(&mut r)).collect::<Result<_, _>>()?;
        names.push(Name { text, values });
    }
    let mut sections = Sections::new(&names);
    let (mut row, mut n_labels) = (Row::default(), 0);
    for _ in 0..n_series {
        row.read(&mut r)?;
        n_labels += row.labels.len();
        let is_known = |(name, value): &(u32, u32)| {
            names.get(*name as usize).is_some_and(|name| (*value as usize) < name.values.len())
        };
        if n_labels > LABELS_MAX || sections.len() > plain_len || !row.labels.iter().all(is_known) {
            return Err(r.error("labels of a series"));
        }
        sections.push(&row.labels, row.group, row.column).map_err(|TooLarge| r.error("series"))?;
    }
    let entries = &raw[r.offset()..];
    for _ in 0..n_groups {
        r.bytes()?;
    }
    if !r.is_empty() {
        return Err(r.error("bytes left over"));
    }
    let groups = Groups { n: n_groups as u32, entries, n_pages };
    let plain = sections.finish(&names, groups).map_err(|TooLarge| r.error("sections"))?;
    if plain.len() == plain_len { Ok(plain) } else { Err(r.error("length of the sections")) }
}

fn text<'a>(r: &mut Reader<'a>) -> Result<&'a str, WireError> {
    let mut rest = *r;
    let len = rest.slice(rest.remaining())?.iter().position(|b| *b == END).ok_or_else(|| r.error("end of a text"))?;
    let text = std::str::from_utf8(r.slice(len)?).map_err(|_| r.error("text is not UTF-8"))?;
    r.u8()?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packed(plain_len: u64, raw: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        put_varint(&mut body, plain_len);
        let mut deflater = DeflateEncoder::new(body, Compression::fast());
        deflater.write_all(raw).unwrap();
        deflater.finish().unwrap()
    }

    /// Two series `up` with a label each, in one group of two columns.
    const RAW: &[u8] =
        b"\x02\x01\x01\x02\x01__name__\xffup\xff\x02a\xff1\xff2\xff\x08\x00\x00\x00\x00\x00\x00\x0b\x02\x00";

    #[test]
    fn what_is_not_written_so_is_refused() {
        #[track_caller]
        fn check(plain_len: u64, raw: &[u8], expected: Result<usize, &str>) {
            assert_eq!(unpack(&packed(plain_len, raw)).map(|plain| plain.len()).map_err(|e| e.what), expected);
        }
        let len = (1..999).find(|len| unpack(&packed(*len, RAW)).is_ok()).unwrap();
        check(len, RAW, Ok(len as usize));
        check(len + 1, RAW, Err("length of the sections"));
        check(PLAIN_BYTES_MAX as u64 + 1, RAW, Err("count is larger than can be"));
        check(len, &[RAW, b"\x00"].concat(), Err("bytes left over"));
        check(len, &RAW[..RAW.len() - 1], Err("bytes end too early"));
        let with = |at: usize, byte: u8| {
            let mut raw = RAW.to_vec();
            raw[at] = byte;
            raw
        };
        check(len, &with(26, 4), Err("labels of a series"));
        check(len, &with(5, 0xfe), Err("text is not UTF-8"));
        let mut longer = packed(len, RAW);
        longer.push(0);
        assert_eq!(unpack(&longer).map_err(|e| e.what), Err("deflated index"));
        let bomb = packed(len, &vec![0; RAW_BYTES_MAX + 1]);
        assert_eq!((bomb.len() < 99_999, unpack(&bomb).map_err(|e| e.what)), (true, Err("deflated index")));
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(
            raw in proptest::collection::vec(prop_oneof![3 => 0u8..6, 1 => any::<u8>()], 0..200),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            let _ = unpack(&packed(500, &raw));
            let mut near = RAW.to_vec();
            changes.iter().for_each(|(at, byte)| near[at.index(RAW.len())] = *byte);
            let _ = unpack(&packed(500, &near));
            let _ = unpack(&raw);
        }
    }
}
