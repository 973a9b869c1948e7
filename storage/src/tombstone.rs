//! Tombstones: which samples are deleted though their bytes are still there.
//!
//! One list per folder of samples: of the head, whose parts are groups and whose members are columns, or of one block,
//! whose members are series and whose only part is 0. Readers leave deleted samples out; cutting and merging blocks
//! leaves them behind for good. Format: `docs/format/tombstones.md`.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use promontory_model::{Columns, ReadError, TimeRange, Timestamp};
use roaring::RoaringBitmap;

use crate::source::{GroupColumns, SelectedGroup, SelectedSeries};
use crate::vfs::{self, Vfs, VfsError};
use crate::wire::{Reader, WireError, put_varint, put_zigzag, sealed, unsealed};

/// Name of the file beside the samples.
pub(crate) const NAME: &str = "tombstones";
/// Magic number and version.
const BEGIN: [u8; 8] = *b"PMTTMB\x01\0";

/// Deleted samples of the members of one part.
#[derive(Debug, Clone, PartialEq)]
struct Stone {
    range: TimeRange,
    members: RoaringBitmap,
}

/// Deleted samples of one folder.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Tombstones(BTreeMap<u32, Vec<Stone>>);

impl Tombstones {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a part has deleted samples.
    pub(crate) fn touches(&self, part: u32) -> bool {
        self.0.contains_key(&part)
    }

    /// Members of the part with deleted samples.
    pub(crate) fn n_members(&self, part: u32) -> u64 {
        let stones = self.0.get(&part).map_or(&[][..], Vec::as_slice);
        stones.iter().fold(RoaringBitmap::new(), |all, s| all | &s.members).len()
    }

    /// Marks the samples of `members` of a part inside `range` as deleted.
    pub(crate) fn add(&mut self, part: u32, range: TimeRange, members: RoaringBitmap) {
        if range.is_empty() || members.is_empty() {
            return;
        }
        let stones = self.0.entry(part).or_default();
        let covers = |a: TimeRange, b: TimeRange| a.mint <= b.mint && b.maxt <= a.maxt;
        if stones.iter().any(|s| covers(s.range, range) && members.is_subset(&s.members)) {
            return;
        }
        stones.retain(|s| !(covers(range, s.range) && s.members.is_subset(&members)));
        match stones.iter_mut().find(|s| s.range == range) {
            Some(same) => same.members |= members,
            None => stones.push(Stone { range, members }),
        }
    }

    /// Times at which samples of a member are deleted: ascending, disjoint.
    pub(crate) fn of(&self, part: u32, member: u32) -> Vec<TimeRange> {
        let stones = self.0.get(&part).map_or(&[][..], Vec::as_slice);
        let mut ranges: Vec<TimeRange> =
            stones.iter().filter(|s| s.members.contains(member)).map(|s| s.range).collect();
        ranges.sort_unstable_by_key(|r| r.mint);
        ranges.dedup_by(|next, last| {
            let joined = next.mint.0 <= last.maxt.0.saturating_add(1);
            if joined {
                last.maxt = last.maxt.max(next.maxt);
            }
            joined
        });
        ranges
    }

    /// Drops what says nothing about samples at or after `floor`.
    pub(crate) fn forget_before(&mut self, floor: i64) {
        self.0.retain(|_, stones| {
            stones.retain(|s| s.range.maxt.0 >= floor);
            !stones.is_empty()
        });
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        out.extend_from_slice(&BEGIN);
        put_varint(&mut out, self.0.values().map(Vec::len).sum::<usize>() as u64);
        for (part, stones) in &self.0 {
            for stone in stones {
                put_varint(&mut out, u64::from(*part));
                put_zigzag(&mut out, stone.range.mint.0);
                put_varint(&mut out, stone.range.maxt.0.wrapping_sub(stone.range.mint.0).cast_unsigned());
                put_members(&stone.members, &mut out);
            }
        }
        sealed(out)
    }

    fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut r = unsealed(bytes, &BEGIN)?;
        let mut out = Self::default();
        for _ in 0..r.count(r.remaining())? {
            let part = r.varint_u32()?;
            let mint = r.zigzag()?;
            let maxt = mint.wrapping_add(r.varint()?.cast_signed());
            if maxt < mint {
                return Err(r.error("times of a tombstone"));
            }
            let members = read_members(&mut r)?;
            out.0.entry(part).or_default().push(Stone { range: TimeRange::new(mint, maxt), members });
        }
        if r.is_empty() { Ok(out) } else { Err(r.error("bytes left over")) }
    }

    /// Reads the list of the folder `dir`; one without the file has none.
    ///
    /// # Errors
    /// [`ReadError`] when the file is damaged: without it, deleted samples would come back.
    pub(crate) fn load(vfs: &dyn Vfs, dir: &Path) -> Result<Self, ReadError> {
        let path = dir.join(NAME);
        let bytes = match vfs::read(vfs, &path) {
            Ok(bytes) => bytes,
            Err(e) if e.is_not_found() => return Ok(Self::default()),
            Err(e) => return Err(e.into()),
        };
        let corrupt = |e: WireError| ReadError::corrupt(&path, e.offset as u64, e.what, "bytes as written", "others");
        Self::decode(&bytes).map_err(corrupt)
    }

    /// Makes this the list of the folder `dir`, durably.
    pub(crate) fn store(&self, vfs: &dyn Vfs, dir: &Path) -> Result<(), VfsError> {
        vfs::replace(vfs, &dir.join(NAME), &self.encode())
    }
}

/// Runs of numbers: how many, then for each the gap to the end of the one before and its length less one.
fn put_members(members: &RoaringBitmap, out: &mut Vec<u8>) {
    let (mut n_runs, mut runs) = (0, Vec::new());
    let mut before = 0;
    let mut rest = members.iter();
    // By the run: there may be four billion members.
    while let Some(run) = rest.next_range() {
        let (first, last) = (u64::from(*run.start()), u64::from(*run.end()));
        put_varint(&mut runs, first - before);
        put_varint(&mut runs, last - first);
        before = last + 1;
        n_runs += 1;
    }
    put_varint(out, n_runs);
    out.extend_from_slice(&runs);
}

fn read_members(r: &mut Reader<'_>) -> Result<RoaringBitmap, WireError> {
    let mut out = RoaringBitmap::new();
    let mut at = 0u64;
    for _ in 0..r.count(r.remaining() / 2)? {
        let start = at.checked_add(r.varint()?).ok_or(r.error("member of a tombstone"))?;
        let last = start.checked_add(r.varint()?).filter(|last| *last <= u64::from(u32::MAX));
        let last = last.ok_or(r.error("member of a tombstone"))?;
        out.insert_range(start as u32..=last as u32);
        at = last + 1;
    }
    Ok(out)
}

/// A group without the deleted samples of some of its columns.
pub(crate) struct Masked {
    group: Arc<dyn GroupColumns>,
    deleted: HashMap<u32, Vec<TimeRange>>,
}

impl Masked {
    /// `deleted` has the times of each column that has deleted samples.
    pub(crate) fn new(group: Arc<dyn GroupColumns>, deleted: HashMap<u32, Vec<TimeRange>>) -> Self {
        Self { group, deleted }
    }
}

impl GroupColumns for Masked {
    fn rows_max(&self, range: TimeRange) -> usize {
        self.group.rows_max(range)
    }

    fn read(&self, columns: &[u32], range: TimeRange, out: &mut Columns) -> Result<(), ReadError> {
        self.group.read(columns, range, out)?;
        for (i, column) in columns.iter().enumerate() {
            for gone in self.deleted.get(column).map_or(&[][..], Vec::as_slice) {
                let from = out.timestamps().partition_point(|t| *t < gone.mint.0);
                let to = out.timestamps().partition_point(|t| *t <= gone.maxt.0);
                out.remove_rows(i, from..to);
            }
        }
        Ok(())
    }
}

/// Takes deleted samples out of a selected group: `deleted` gives the times of a series, `covered` says whether nothing
/// of a series with such times is left in the range of the query. `None` when no series remains.
pub(crate) fn mask(
    selected: SelectedGroup,
    deleted: impl Fn(&SelectedSeries) -> Vec<TimeRange>,
    mut covered: impl FnMut(&Arc<dyn GroupColumns>, u32, &[TimeRange]) -> Result<bool, ReadError>,
) -> Result<Option<SelectedGroup>, ReadError> {
    let SelectedGroup { group, series } = selected;
    let mut of_column = HashMap::new();
    let mut kept = Vec::with_capacity(series.len());
    for s in series {
        let ranges = deleted(&s);
        if !ranges.is_empty() {
            if covered(&group, s.column, &ranges)? {
                continue;
            }
            of_column.insert(s.column, ranges);
        }
        kept.push(s);
    }
    if kept.is_empty() {
        return Ok(None);
    }
    let group = if of_column.is_empty() { group } else { Arc::new(Masked::new(group, of_column)) };
    Ok(Some(SelectedGroup { group, series: kept }))
}

/// Whether `ranges`, ascending and disjoint, cover all of `range`.
pub(crate) fn cover(ranges: &[TimeRange], range: TimeRange) -> bool {
    ranges.iter().any(|r| r.mint <= range.mint && range.maxt <= r.maxt)
}

/// Whether a time is inside one of `ranges`, which ascend.
pub(crate) fn contain(ranges: &[TimeRange], t: i64) -> bool {
    let next = ranges.partition_point(|r| r.maxt.0 < t);
    ranges.get(next).is_some_and(|r| r.contains(Timestamp(t)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documented::{bytes_of, fenced};
    use crate::vfs::SimVfs;

    fn bits(members: &[u32]) -> RoaringBitmap {
        members.iter().copied().collect()
    }

    fn example() -> Tombstones {
        let mut out = Tombstones::default();
        out.add(0, TimeRange::new(1000, 31_000), bits(&[0, 1, 2, 7]));
        out.add(3, TimeRange::new(-5, i64::MAX), bits(&[u32::MAX]));
        out
    }

    #[test]
    fn deletions_of_a_member_are_joined() {
        let mut all = Tombstones::default();
        all.add(0, TimeRange::new(10, 20), bits(&[1, 2]));
        all.add(0, TimeRange::new(21, 30), bits(&[2]));
        all.add(0, TimeRange::new(50, 40), bits(&[2]));
        all.add(0, TimeRange::new(50, 60), bits(&[2, 3]));
        let check = |member, expected: &[(i64, i64)]| {
            let expected: Vec<_> = expected.iter().map(|(a, b)| TimeRange::new(*a, *b)).collect();
            assert_eq!(all.of(0, member), expected, "{member}");
        };
        check(1, &[(10, 20)]);
        check(2, &[(10, 30), (50, 60)]);
        check(3, &[(50, 60)]);
        check(4, &[]);
        assert!(contain(&all.of(0, 2), 30) && !contain(&all.of(0, 2), 31) && !contain(&all.of(0, 2), 9));
        assert_eq!((all.n_members(0), all.n_members(1)), (3, 0));
        all.forget_before(21);
        assert_eq!(all.of(0, 1), []);
        all.forget_before(61);
        assert!(all.is_empty());
    }

    #[test]
    fn documented_tombstones_are_what_is_written_and_read() {
        let documented = bytes_of(fenced(include_str!("../docs/format/tombstones.md"), "tombstones"));
        let mut list = Tombstones::default();
        list.add(0, TimeRange::new(1000, 31_000), bits(&[0, 1, 2, 7]));
        list.add(0, TimeRange::new(-5, i64::MAX), bits(&[3]));
        assert_eq!(list.encode(), documented, "{:02x?}", list.encode());
        assert_eq!(Tombstones::decode(&documented).unwrap(), list);
    }

    #[test]
    fn wider_deletions_replace_narrow_ones() {
        let mut all = Tombstones::default();
        all.add(0, TimeRange::new(10, 20), bits(&[1]));
        all.add(0, TimeRange::new(12, 15), bits(&[1]));
        all.add(0, TimeRange::new(0, 30), bits(&[1, 2]));
        assert_eq!(all.0[&0].len(), 1);
    }

    #[test]
    fn lists_are_stored_and_every_damage_is_noticed() {
        let vfs = SimVfs::new();
        let dir = Path::new("");
        assert!(Tombstones::load(&vfs, dir).unwrap().is_empty());
        example().store(&vfs, dir).unwrap();
        assert_eq!(Tombstones::load(&vfs, dir).unwrap(), example());
        let bytes = example().encode();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert!(Tombstones::decode(&damaged).is_err(), "{at}");
            assert!(Tombstones::decode(&bytes[..at]).is_err(), "{at}");
        }
    }

    #[track_caller]
    fn check_members(runs: &[(u32, u32)]) {
        let mut members = RoaringBitmap::new();
        for (first, last) in runs {
            members.insert_range(*first..=*last);
        }
        let mut bytes = Vec::new();
        put_members(&members, &mut bytes);
        assert_eq!(bytes[0] as usize, runs.len());
        let mut r = Reader::new(&bytes);
        assert_eq!(read_members(&mut r), Ok(members));
        assert!(r.is_empty());
    }

    #[test]
    fn members_round_trip_by_the_run() {
        check_members(&[]);
        check_members(&[(0, 0), (2, 5), (7, 7)]);
        check_members(&[(65_534, 65_537), (131_071, 131_071), (131_073, 300_000)]);
        check_members(&[(0, u32::MAX)]);
        check_members(&[(3, 1 << 31), ((1 << 31) + 2, u32::MAX)]);
    }

    #[test]
    fn hostile_lists_never_panic() {
        let bytes = example().encode();
        for at in 8..bytes.len() - 4 {
            for byte in [0, 1, 0x7f, 0x80, 0xff] {
                let mut hostile = bytes.clone();
                hostile[at] = byte;
                let end = hostile.len() - 4;
                let crc = crc32fast::hash(&hostile[..end]);
                hostile[end..].copy_from_slice(&crc.to_le_bytes());
                let _ = Tombstones::decode(&hostile);
            }
        }
    }
}
