//! Pages and files of the WAL: how records are framed, compressed and found again behind damage.
//!
//! A segment is a file header and pages. A page holds whole records, compressed when that helps; its header has a
//! checksum of its own, so that a reader can step over a page whose content is damaged, or look for the next header
//! where one is damaged. Each record has its checksum. Format: `docs/format/wal.md`.

use std::ops::Range;

use crate::canary::{Bug, is_planted};
use crate::wire::Reader;

/// `PMTWAL` and the version, at the start of every segment.
pub(crate) const FILE_MAGIC: [u8; 6] = *b"PMTWAL";
pub(crate) const VERSION: u16 = 1;
pub(crate) const FILE_HEADER_BYTES: usize = 28;
const PAGE_MAGIC: u32 = 0x4750_4d50;
pub(crate) const PAGE_HEADER_BYTES: usize = 16;
/// Bytes of records after which a page ends; one larger record makes a larger page.
pub(crate) const PAGE_BYTES: usize = 256 << 10;
/// Largest page that is believed, decompressed.
pub(crate) const PAGE_BYTES_MAX: usize = 64 << 20;
/// Highest bit of the stored length: the content is compressed.
const COMPRESSED: u32 = 1 << 31;
/// Length and checksum before each record.
pub(crate) const RECORD_HEADER_BYTES: usize = 8;

/// Header of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileHeader {
    pub(crate) segment: u64,
    /// Bytes of the segment before when this one began; 0 when that one was no longer needed.
    pub(crate) previous_bytes: u64,
}

impl FileHeader {
    pub(crate) fn encode(self) -> [u8; FILE_HEADER_BYTES] {
        let mut out = [0; FILE_HEADER_BYTES];
        out[..6].copy_from_slice(&FILE_MAGIC);
        out[6..8].copy_from_slice(&VERSION.to_le_bytes());
        out[8..16].copy_from_slice(&self.segment.to_le_bytes());
        out[16..24].copy_from_slice(&self.previous_bytes.to_le_bytes());
        let crc = crc32fast::hash(&out[..24]);
        out[24..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..FILE_HEADER_BYTES)?;
        let mut r = Reader::new(&bytes[8..]);
        let header = Self { segment: r.u64().ok()?, previous_bytes: r.u64().ok()? };
        (header.encode() == *bytes).then_some(header)
    }
}

/// Frames one record at the end of `out`; `write` appends its bytes.
pub(crate) fn put_record(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; RECORD_HEADER_BYTES]);
    write(out);
    let body = start + RECORD_HEADER_BYTES;
    let len = (out.len() - body) as u32;
    let crc = crc32fast::hash(&out[body..]);
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    out[start + 4..body].copy_from_slice(&crc.to_le_bytes());
}

/// Writes framed records as pages.
pub(crate) fn put_pages(out: &mut Vec<u8>, mut records: &[u8], encoder: &mut snap::raw::Encoder) {
    while !records.is_empty() {
        let mut end = 0;
        while end < records.len() && end < PAGE_BYTES {
            let mut len = [0; 4];
            len.copy_from_slice(&records[end..end + 4]);
            end += RECORD_HEADER_BYTES + u32::from_le_bytes(len) as usize;
        }
        let (page, rest) = records.split_at(end);
        put_page(out, page, encoder);
        records = rest;
    }
}

fn put_page(out: &mut Vec<u8>, records: &[u8], encoder: &mut snap::raw::Encoder) {
    let start = out.len();
    let body = start + PAGE_HEADER_BYTES;
    out.resize(body + snap::raw::max_compress_len(records.len()), 0);
    let stored = match encoder.compress(records, &mut out[body..]) {
        Ok(n) if n < records.len() => {
            out.truncate(body + n);
            n as u32 | COMPRESSED
        }
        _ => {
            out.truncate(body);
            out.extend_from_slice(records);
            records.len() as u32
        }
    };
    out[start..start + 4].copy_from_slice(&PAGE_MAGIC.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&stored.to_le_bytes());
    out[start + 8..start + 12].copy_from_slice(&(records.len() as u32).to_le_bytes());
    let crc = crc32fast::hash(&out[start..start + 12]);
    out[start + 12..start + 16].copy_from_slice(&crc.to_le_bytes());
}

/// What reading a segment found besides records.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Damage {
    /// The header, unless that is damaged.
    pub(crate) header: Option<FileHeader>,
    /// Damaged places with something good behind them: offset and what.
    pub(crate) places: Vec<(u64, &'static str)>,
    /// Offset from which on nothing good was found, if there is such.
    pub(crate) torn_at: Option<u64>,
}

/// Header of a page, for those who read one page at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    /// Bytes behind the header.
    pub(crate) stored: usize,
    is_compressed: bool,
    raw: usize,
}

impl Header {
    /// `None` when the checksum is wrong.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let (stored, is_compressed, raw) = page_header(bytes)?;
        Some(Self { stored, is_compressed, raw })
    }

    /// Sets `out` to the records of the page, whose bytes behind the header are `stored`; false when they are damaged.
    pub(crate) fn records(&self, stored: &[u8], out: &mut Vec<u8>) -> bool {
        out.clear();
        if !self.is_compressed {
            out.extend_from_slice(stored);
            return true;
        }
        // A claim that the compressed bytes do not back must not reserve memory.
        if snap::raw::decompress_len(stored).ok() != Some(self.raw) {
            return false;
        }
        out.resize(self.raw, 0);
        snap::raw::Decoder::new().decompress(stored, out).is_ok_and(|n| n == self.raw)
    }
}

/// The record at `at` of a page, unless its checksum is wrong, and where the next begins; `None` at the end.
pub(crate) fn next_record(page: &[u8], at: usize) -> Option<(Option<Range<usize>>, usize)> {
    let mut r = Reader::new(page.get(at..)?);
    let (len, crc) = (r.u32().ok()?, r.u32().ok()?);
    let body = r.slice(len as usize).ok().filter(|body| !body.is_empty())?;
    let start = at + RECORD_HEADER_BYTES;
    let end = start + body.len();
    Some(((crc32fast::hash(body) == crc).then_some(start..end), end))
}

/// Offset, from `from` on, of the next good page header; the end when there is none.
pub(crate) fn next_header(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    while at < bytes.len() {
        at += next_magic(&bytes[at..]);
        if at < bytes.len() && page_header(&bytes[at..]).is_some() {
            return at;
        }
        at += 1;
    }
    bytes.len()
}

/// A page header that passes its checksum: stored length, whether compressed, length of the records.
fn page_header(bytes: &[u8]) -> Option<(usize, bool, usize)> {
    let mut r = Reader::new(bytes.get(..PAGE_HEADER_BYTES)?);
    let (magic, stored, raw, crc) = (r.u32().ok()?, r.u32().ok()?, r.u32().ok()?, r.u32().ok()?);
    if magic != PAGE_MAGIC || crc32fast::hash(&bytes[..12]) != crc || raw as usize > PAGE_BYTES_MAX {
        return None;
    }
    Some(((stored & !COMPRESSED) as usize, stored & COMPRESSED != 0, raw as usize))
}

/// Calls `each` with every good record of a segment, in order; the offset is that of its page.
pub(crate) fn read_segment(segment: u64, bytes: &[u8], mut each: impl FnMut(u64, &[u8])) -> Damage {
    let header = FileHeader::read(bytes);
    let mut damage = Damage { header, ..Damage::default() };
    // The records of another segment are not those that belong here.
    if header.is_some_and(|h| h.segment != segment) {
        damage.places.push((0, "number of the segment"));
        return damage;
    }
    let mut at = if header.is_some() { FILE_HEADER_BYTES } else { 0 };
    // Damage that is a tear if nothing good follows.
    let mut open = header.is_none().then_some((0, "header of the segment"));
    // Good records of a page that is damaged elsewhere, and its offset. In a torn tail they do not count: it is cut, and
    // what comes later must not build on what the next reader does not find.
    let mut held: (u64, Vec<Vec<u8>>) = (0, Vec::new());
    let mut good = Vec::new();
    let mut decoder = snap::raw::Decoder::new();
    let mut raw = Vec::new();
    while at < bytes.len() {
        let Some((stored, is_compressed, raw_len)) = page_header(&bytes[at..]) else {
            open.get_or_insert((at as u64, "header of a page"));
            at += next_magic(&bytes[at + 1..]) + 1;
            continue;
        };
        let body = at + PAGE_HEADER_BYTES;
        let Some(content) = body.checked_add(stored).and_then(|end| bytes.get(body..end)) else {
            open.get_or_insert((at as u64, "page ends too early"));
            at += next_magic(&bytes[at + 1..]) + 1;
            continue;
        };
        if let Some(place) = open.take() {
            damage.places.push(place);
            held.1.drain(..).for_each(|record| each(held.0, &record));
        }
        let records = if is_compressed {
            raw.clear();
            // A claim that the compressed bytes do not back must not reserve memory.
            if snap::raw::decompress_len(content).ok() == Some(raw_len) {
                raw.resize(raw_len, 0);
                match decoder.decompress(content, &mut raw) {
                    Ok(n) => Some(&raw[..n]),
                    Err(_) => None,
                }
            } else {
                None
            }
        } else {
            Some(content)
        };
        match records {
            Some(records) => {
                if good_records(records, &mut good) {
                    good.iter().for_each(|range| each(at as u64, &records[range.clone()]));
                } else {
                    open.get_or_insert((at as u64, "checksum of a record"));
                    held = (at as u64, good.iter().map(|range| records[range.clone()].to_vec()).collect());
                }
            }
            None => {
                open.get_or_insert((at as u64, "compressed content of a page"));
            }
        }
        at = body + stored;
    }
    // A page whose header is whole but whose content is not may be the last that was written: a tear too.
    damage.torn_at = open.map(|(at, _)| at);
    damage
}

/// Distance to the next place that may be a page header.
fn next_magic(bytes: &[u8]) -> usize {
    let magic = PAGE_MAGIC.to_le_bytes();
    bytes.windows(4).position(|w| w == magic).unwrap_or(bytes.len())
}

/// Sets `good` to where the good records lie; answers whether all are good.
fn good_records(bytes: &[u8], good: &mut Vec<Range<usize>>) -> bool {
    good.clear();
    let mut all_good = true;
    let mut at = 0;
    while at < bytes.len() {
        let mut r = Reader::new(&bytes[at..]);
        let (Ok(len), Ok(crc)) = (r.u32(), r.u32()) else { return false };
        let Ok(body) = r.slice(len as usize) else { return false };
        // Zeros, which a crash leaves where the data of a page was not written, are no records of length 0.
        if body.is_empty() {
            return false;
        }
        let start = at + RECORD_HEADER_BYTES;
        at = start + body.len();
        if crc32fast::hash(body) == crc || is_planted(Bug::RecordCrcIgnored) {
            good.push(start..at);
        } else {
            all_good = false;
        }
    }
    all_good
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: FileHeader = FileHeader { segment: 1, previous_bytes: 0 };
    const WHOLE: Damage = Damage { header: Some(HEADER), places: vec![], torn_at: None };

    fn segment(pages: &[&[&[u8]]]) -> Vec<u8> {
        let mut out = HEADER.encode().to_vec();
        let mut encoder = snap::raw::Encoder::new();
        for page in pages {
            let mut records = Vec::new();
            for record in *page {
                put_record(&mut records, |out| out.extend_from_slice(record));
            }
            put_pages(&mut out, &records, &mut encoder);
        }
        out
    }

    fn records(bytes: &[u8]) -> (Vec<Vec<u8>>, Damage) {
        let mut out = Vec::new();
        let damage = read_segment(1, bytes, |_, record| out.push(record.to_vec()));
        (out, damage)
    }

    #[test]
    fn records_come_back_in_order() {
        let long = vec![7; 1000];
        let bytes = segment(&[&[b"a", &long], &[b"c"]]);
        assert!(bytes.len() < 200, "a page of one byte a thousand times is compressed");
        assert_eq!(records(&bytes), (vec![b"a".to_vec(), long, b"c".to_vec()], WHOLE));
    }

    #[test]
    fn large_buffers_become_several_pages() {
        let big: Vec<u8> = (0..PAGE_BYTES as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let mut framed = Vec::new();
        for _ in 0..3 {
            put_record(&mut framed, |out| out.extend_from_slice(&big));
        }
        let mut out = HEADER.encode().to_vec();
        put_pages(&mut out, &framed, &mut snap::raw::Encoder::new());
        let mut pages = Vec::new();
        let damage = read_segment(1, &out, |at, record| pages.push((at, record == big)));
        assert_eq!(damage, WHOLE);
        assert!(pages.len() == 3 && pages[0].0 < pages[1].0 && pages.iter().all(|p| p.1));
    }

    #[test]
    fn a_cut_tail_is_torn_and_nothing_before_it_is_lost() {
        let bytes = segment(&[&[b"first"], &[b"second", b"third"]]);
        let first = segment(&[&[b"first"]]).len();
        for len in 0..bytes.len() {
            let (got, damage) = records(&bytes[..len]);
            let whole = usize::from(len >= first);
            assert_eq!(got.len(), whole, "{len}");
            let expected = match len {
                0 => Some(0),
                n if n < FILE_HEADER_BYTES => Some(0),
                n if n == FILE_HEADER_BYTES || n == first => None,
                n if n < first => Some(FILE_HEADER_BYTES as u64),
                _ => Some(first as u64),
            };
            assert_eq!((damage.places, damage.torn_at), (vec![], expected), "{len}");
        }
    }

    #[test]
    fn a_tail_of_zeros_is_torn() {
        let first = segment(&[&[b"first"]]);
        let bytes = segment(&[&[b"first"], &[b"second", b"third"]]);
        for len in first.len() + 1..bytes.len() {
            let zeros = [&bytes[..len], &vec![0; bytes.len() - len]].concat();
            let (got, damage) = records(&zeros);
            assert_eq!(got, [b"first"], "{len}");
            assert_eq!((damage.places, damage.torn_at), (vec![], Some(first.len() as u64)), "{len}");
        }
    }

    #[test]
    fn a_page_that_is_half_good_counts_only_with_something_good_behind_it() {
        let mut bytes = segment(&[&[b"first"], &[b"second", b"third"]]);
        let last = bytes.len() - 1;
        let second = segment(&[&[b"first"]]).len() as u64;
        bytes[last] ^= 1;
        let damage = Damage { torn_at: Some(second), ..WHOLE };
        assert_eq!(records(&bytes), (vec![b"first".to_vec()], damage));
        bytes.extend_from_slice(&segment(&[&[b"fourth"]])[FILE_HEADER_BYTES..]);
        let damage = Damage { places: vec![(second, "checksum of a record")], ..WHOLE };
        assert_eq!(records(&bytes), ([&b"first"[..], b"second", b"fourth"].map(<[u8]>::to_vec).to_vec(), damage));
    }

    #[test]
    fn every_flipped_bit_is_noticed_and_costs_at_most_its_page() {
        let bytes = segment(&[&[b"first"], &[b"second", b"third"], &[b"fourth"]]);
        let all = records(&bytes).0;
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1 << bit;
                let (got, damage) = records(&bytes);
                assert!(!damage.places.is_empty() || damage.torn_at.is_some(), "{at}.{bit}");
                assert!(got.iter().all(|r| all.contains(r)), "{at}.{bit}: a record that was never written");
                assert!(got.len() >= 2, "{at}.{bit}: {got:?}");
            }
        }
    }
}
