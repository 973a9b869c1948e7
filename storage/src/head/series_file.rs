//! The series file: strings, label pairs and series of the head, so that a restart parses no label.
//!
//! It grows by batches, each with a checksum; a batch adds to the dictionaries of those before it. The manifest says
//! how many bytes count. When series are dropped, a new file takes its place. Format: `docs/format/head-segment.md`.

use super::file_header;
use super::index::{Bulk, Index, Place};
use super::row::COLUMNS_MAX;
use crate::canary::{Bug, is_planted};
use crate::wire::{Reader, WireError, put_bytes, put_varint, put_zigzag};

pub(crate) const FILE_HEADER_BYTES: usize = file_header::BYTES;
const FILE_MAGIC: [u8; 6] = *b"PMTSER";

/// Header of a series file.
pub(crate) fn file_header() -> [u8; FILE_HEADER_BYTES] {
    file_header::of(FILE_MAGIC)
}

/// Name of a series file.
pub(crate) fn file_name(id: u64) -> String {
    file_header::name(id, "series")
}

/// Number of the series file with this name.
pub(crate) fn file_of(name: &str) -> Option<u64> {
    file_header::number(name, "series")
}

/// How much of an index a series file holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) strings: u32,
    pub(crate) pairs: u32,
    pub(crate) series: u32,
}

impl Mark {
    pub(crate) fn of(index: &Index) -> Self {
        Self { strings: index.n_strings() as u32, pairs: index.n_pairs() as u32, series: index.n_numbers() }
    }
}

/// Appends a batch with what the index has beyond `from`, and the series `moved` again with all their places.
/// Writes nothing when there is nothing new.
pub(crate) fn put_batch(out: &mut Vec<u8>, index: &Index, from: Mark, moved: &[u32]) {
    let to = Mark::of(index);
    let new = (from.series..to.series).filter(|&s| index.is_live(s));
    let again = moved.iter().copied().filter(|&s| s < from.series && index.is_live(s));
    let places: Vec<(u32, Place)> = again
        .chain(new)
        .flat_map(|s| index.earlier(s).iter().copied().chain([index.place(s)]).map(move |p| (s, p)))
        .collect();
    if from == to && places.is_empty() {
        return;
    }
    let start = out.len();
    out.extend_from_slice(&[0; 8]);
    put_varint(out, u64::from(from.strings));
    put_varint(out, u64::from(to.strings - from.strings));
    for id in from.strings..to.strings {
        put_bytes(out, index.string(id).as_bytes());
    }
    put_varint(out, u64::from(from.pairs));
    put_varint(out, u64::from(to.pairs - from.pairs));
    for id in from.pairs..to.pairs {
        let (name, value) = index.pair(id);
        put_varint(out, u64::from(name));
        put_varint(out, u64::from(value));
    }
    put_varint(out, places.len() as u64);
    let (mut last_ids, mut last) = (&[][..], Place { group: 0, column: 0 });
    for (series, place) in places {
        let ids = index.ids(series);
        put_entry(out, ids, place, last_ids, last);
        (last_ids, last) = (ids, place);
    }
    let len = (out.len() - start - 8) as u32;
    let crc = crc32fast::hash(&out[start + 8..]);
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

/// Writes a series against the one before it: of most, only the last label is another.
fn put_entry(out: &mut Vec<u8>, ids: &[u32], place: Place, last_ids: &[u32], last: Place) {
    let is_next = place.group == last.group && place.column == last.column.wrapping_add(1);
    put_varint(out, (ids.len() as u64) << 1 | u64::from(is_next));
    if !is_next {
        put_varint(out, u64::from(place.group));
        put_varint(out, u64::from(place.column));
    }
    let changed = out.len();
    out.resize(changed + ids.len().div_ceil(8), 0);
    for (i, &id) in ids.iter().enumerate() {
        let last = last_ids.get(i).copied();
        if last != Some(id) {
            out[changed + i / 8] |= 1 << (i % 8);
            put_zigzag(out, i64::from(id) - i64::from(last.unwrap_or(0)));
        }
    }
}

/// What loading found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Loaded {
    /// Damaged places: offset and what.
    pub(crate) damage: Vec<(u64, &'static str)>,
    /// Whether ids of the file are those of the index, so that batches may be added to it.
    pub(crate) is_exact: bool,
}

/// Loads a series file into an empty index; `each` hears of every place of every series. Its last word on a place counts.
pub(crate) fn load(bytes: &[u8], index: &mut Index, mut each: impl FnMut(u32, Place)) -> Loaded {
    let mut loaded = Loaded::default();
    if bytes.get(..FILE_HEADER_BYTES).is_none_or(|h| h != file_header()) {
        loaded.damage.push((0, "header of the series file"));
    }
    let mut maps = Maps::default();
    // One for all batches: a table that grows with each of them is filled as often.
    let mut bulk = index.bulk();
    let mut at = FILE_HEADER_BYTES.min(bytes.len());
    while at < bytes.len() {
        let mut r = Reader::new(&bytes[at..]);
        let frame = (|| Ok::<_, WireError>((r.u32()?, r.u32()?)))();
        let Some((body, crc)) = frame.ok().and_then(|(len, crc)| Some((r.slice(len as usize).ok()?, crc))) else {
            loaded.damage.push((at as u64, "batch ends too early"));
            break;
        };
        if crc32fast::hash(body) != crc && !is_planted(Bug::SeriesCrcIgnored) {
            loaded.damage.push((at as u64, "checksum of a batch"));
        } else if let Err(e) = load_batch(body, &mut bulk, &mut maps, &mut each) {
            loaded.damage.push(((at + 8 + e.offset) as u64, e.what));
        }
        at += 8 + body.len();
    }
    bulk.finish(&mut each);
    let is_identity = |map: &[u32]| map.iter().enumerate().all(|(i, &id)| i as u32 == id);
    loaded.is_exact = loaded.damage.is_empty() && is_identity(&maps.strings) && is_identity(&maps.pairs);
    loaded
}

/// Ids of the file to ids of the index; `UNKNOWN` where a damaged batch took them.
#[derive(Debug, Default)]
struct Maps {
    strings: Vec<u32>,
    pairs: Vec<u32>,
}

const UNKNOWN: u32 = u32::MAX;
/// Largest gap of ids that one lost batch is believed to leave.
const GAP_MAX: u64 = 1 << 28;

fn fill_to(map: &mut Vec<u32>, first: u64, r: &Reader<'_>) -> Result<(), WireError> {
    let gap = first.checked_sub(map.len() as u64).ok_or(r.error("ids go back"))?;
    if gap > GAP_MAX {
        return Err(r.error("ids leap"));
    }
    map.resize(first as usize, UNKNOWN);
    Ok(())
}

fn load_batch(
    body: &[u8],
    bulk: &mut Bulk<'_>,
    maps: &mut Maps,
    each: &mut impl FnMut(u32, Place),
) -> Result<(), WireError> {
    let mut r = Reader::new(body);
    let first = r.varint()?;
    fill_to(&mut maps.strings, first, &r)?;
    for _ in 0..r.count(r.remaining())? {
        let text = r.str()?;
        maps.strings.push(bulk.index_mut().intern_string(text).ok_or(r.error("too many strings"))?);
    }
    let known = |map: &[u32], id: u32| map.get(id as usize).copied().filter(|&id| id != UNKNOWN);
    let first = r.varint()?;
    fill_to(&mut maps.pairs, first, &r)?;
    for _ in 0..r.count(r.remaining() / 2)? {
        let (name, value) = (r.varint_u32()?, r.varint_u32()?);
        let pair = known(&maps.strings, name).zip(known(&maps.strings, value));
        let id = match pair {
            Some((name, value)) => bulk.index_mut().intern_pair(name, value).ok_or(r.error("too many pairs"))?,
            None => UNKNOWN,
        };
        maps.pairs.push(id);
    }
    let n = r.count(r.remaining())?;
    read_series(&mut r, n, maps, bulk, each)
}

fn read_series(
    r: &mut Reader<'_>,
    n: usize,
    maps: &Maps,
    bulk: &mut Bulk<'_>,
    each: &mut impl FnMut(u32, Place),
) -> Result<(), WireError> {
    let mut entry = Entry::default();
    for _ in 0..n {
        if entry.read(r, maps, bulk)? {
            let series = bulk.push(&entry.ids, entry.place).ok_or(r.error("too many series"))?;
            each(series, entry.place);
        }
    }
    if r.is_empty() { Ok(()) } else { Err(r.error("bytes left over")) }
}

/// The series that was read last.
#[derive(Debug)]
struct Entry {
    place: Place,
    /// Pairs by the file's ids.
    of_file: Vec<u32>,
    /// Pairs by the index's ids; `UNKNOWN` where a damaged batch took one.
    ids: Vec<u32>,
}

impl Default for Entry {
    fn default() -> Self {
        Self { place: Place { group: 0, column: 0 }, of_file: Vec::new(), ids: Vec::new() }
    }
}

impl Entry {
    /// Reads the next series; answers whether all of its pairs are known.
    fn read(&mut self, r: &mut Reader<'_>, maps: &Maps, bulk: &Bulk<'_>) -> Result<bool, WireError> {
        let head = r.varint()?;
        self.place = if head & 1 == 1 {
            Place { column: self.place.column + 1, ..self.place }
        } else {
            Place { group: r.varint_u32()?, column: r.varint_u32()? }
        };
        if self.place.column as usize >= COLUMNS_MAX {
            return Err(r.error("column is larger than can be"));
        }
        let n = usize::try_from(head >> 1).ok().filter(|&n| n > 0 && n.div_ceil(8) <= r.remaining());
        let n = n.ok_or(r.error("count of labels"))?;
        let changed = r.slice(n.div_ceil(8))?;
        let known = self.of_file.len();
        self.of_file.resize(n, 0);
        self.ids.resize(n, UNKNOWN);
        let mut must_check = n != known;
        for (byte, &bits) in changed.iter().enumerate() {
            let mut bits = bits;
            while bits != 0 {
                let i = byte * 8 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                let old = self.of_file.get(i).copied().ok_or(r.error("label beyond the count"))?;
                let id = r.zigzag()?.checked_add(i64::from(old)).and_then(|id| u32::try_from(id).ok());
                let id = id.ok_or(r.error("id of a pair"))?;
                let was = std::mem::replace(&mut self.ids[i], maps.pairs.get(id as usize).copied().unwrap_or(UNKNOWN));
                self.of_file[i] = id;
                let name = |id: u32| (id != UNKNOWN).then(|| bulk.index().pair(id).0);
                must_check |= i >= known || name(was).is_none() || name(was) != name(self.ids[i]);
            }
        }
        if self.ids.contains(&UNKNOWN) {
            return Ok(false);
        }
        // Labels ascend by name; anything else is not what was written.
        let name = |id: &u32| bulk.index().string(bulk.index().pair(*id).0);
        if must_check && !self.ids.is_sorted_by(|a, b| name(a) < name(b)) {
            return Err(r.error("labels are not in order"));
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use promontory_model::Labels;

    use super::*;

    fn index() -> (Index, Vec<u8>, Vec<usize>) {
        let mut index = Index::default();
        let mut bytes = file_header().to_vec();
        let mut mark = Mark::default();
        let mut ends = Vec::new();
        for batch in 0..3_u32 {
            for i in 0..3_u32 {
                let labels = Labels::from_pairs([("a", batch.to_string()), ("b", i.to_string())]);
                index.insert(&labels, Place { group: batch, column: i }).unwrap();
            }
            let moved = if batch == 2 { vec![0] } else { vec![] };
            if batch == 2 {
                index.move_to(0, Place { group: 9, column: 0 });
            }
            put_batch(&mut bytes, &index, mark, &moved);
            mark = Mark::of(&index);
            ends.push(bytes.len());
        }
        put_batch(&mut bytes, &index, mark, &[]);
        assert_eq!(bytes.len(), ends[2], "nothing new is nothing written");
        (index, bytes, ends)
    }

    fn places(index: &Index) -> Vec<(String, Vec<Place>, Place)> {
        let of = |s| (index.labels(s).to_string(), index.earlier(s).to_vec(), index.place(s));
        index.live().iter().map(of).collect()
    }

    #[test]
    fn an_index_comes_back() {
        let (index, bytes, _) = index();
        let mut again = Index::default();
        let mut heard = BTreeMap::new();
        let loaded = load(&bytes, &mut again, |series, place| {
            heard.insert(place, series);
        });
        assert_eq!(loaded, Loaded { damage: vec![], is_exact: true });
        assert_eq!(places(&again), places(&index));
        let all = |s| again.earlier(s).iter().copied().chain([again.place(s)]).map(move |p| (p, s));
        assert_eq!(heard, again.live().iter().flat_map(all).collect());
    }

    #[test]
    fn a_damaged_batch_costs_only_series_that_need_it() {
        let (index, bytes, ends) = index();
        let all = places(&index);
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x11;
            let mut again = Index::default();
            let loaded = load(&bytes, &mut again, |_, _| {});
            assert!(!loaded.damage.is_empty() && !loaded.is_exact, "{at}");
            let labels: Vec<String> = all.iter().map(|p| p.0.clone()).collect();
            assert!(places(&again).iter().all(|p| labels.contains(&p.0)), "{at}: labels that never were");
        }
        let mut bytes = bytes.clone();
        bytes[ends[0] + 10] ^= 1;
        let mut again = Index::default();
        load(&bytes, &mut again, |_, _| {});
        // The values of `a` in the last batch are new there; those of `b` were in the first.
        assert_eq!(again.n_series(), 6);
    }
}
