//! Which series there are and which of them match: dictionaries, label pairs per series, postings.
//!
//! A series is a number, a sorted slice of pair ids, and the place where its samples arrive. Numbers are dense, grow, and
//! are not used again while the process lives; ids of pairs and strings hold until [`Index::compact`]. The index knows no
//! samples.

use std::collections::HashMap;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use promontory_model::{Labels, MatchOp, Matcher};
use rapidhash::fast::RandomState;
use roaring::RoaringBitmap;

use super::dict::{Pairs, Strings, hash_ids, make_room};
use super::posting::Posting;
use super::series::SeriesTable;
use crate::status::HeadMemory;

/// Where samples of a series lie: a column of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) group: u32,
    pub(crate) column: u32,
}

impl Place {
    /// The place of a series that is gone; no group has this number.
    pub(crate) const NOWHERE: Self = Self { group: u32::MAX, column: u32::MAX };
}

/// The index of the head.
#[derive(Debug, Default)]
pub(crate) struct Index {
    strings: Strings,
    pairs: Pairs,
    /// Pairs of each label name.
    by_name: HashMap<u32, Vec<u32>, RandomState>,
    /// By pair.
    postings: Vec<Posting>,
    series: SeriesTable,
    /// Earlier places of the few series that moved, oldest first.
    moved: HashMap<u32, Vec<Place>, RandomState>,
    table: HashTable<u32>,
    hasher: RandomState,
    live: RoaringBitmap,
    /// Series numbers given out when postings were packed.
    packed: u32,
    scratch: Vec<u32>,
    /// How often ids of pairs and strings have changed.
    epoch: u64,
}

impl Index {
    /// Series numbers given out so far; those from here on are newer.
    pub(crate) fn n_numbers(&self) -> u32 {
        self.series.len()
    }

    /// Series that exist.
    pub(crate) fn n_series(&self) -> u64 {
        self.live.len()
    }

    pub(crate) fn n_pairs(&self) -> usize {
        self.pairs.len()
    }

    /// How often ids of pairs and strings have changed.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether every series has been in one place only.
    pub(crate) fn none_moved(&self) -> bool {
        self.moved.is_empty()
    }

    pub(crate) fn n_strings(&self) -> usize {
        self.strings.len()
    }

    pub(crate) fn string(&self, id: u32) -> &str {
        self.strings.get(id)
    }

    pub(crate) fn pair(&self, id: u32) -> (u32, u32) {
        self.pairs.get(id)
    }

    pub(crate) fn symbol_bytes(&self) -> usize {
        self.strings.bytes()
    }

    /// Adds the bytes allocated for the index.
    pub(crate) fn memory(&self, out: &mut HeadMemory) {
        let names: usize = self.by_name.values().map(|pairs| pairs.capacity() * 4).sum();
        let postings: usize = self.postings.iter().map(Posting::memory).sum();
        out.strings += self.strings.memory() as u64;
        out.pairs += (self.pairs.memory() + names) as u64;
        out.series += self.series.memory() as u64;
        out.table += self.table.allocation_size() as u64;
        out.postings += (postings + self.postings.capacity() * size_of::<Posting>()) as u64;
    }

    pub(crate) fn is_live(&self, series: u32) -> bool {
        self.live.contains(series)
    }

    pub(crate) fn live(&self) -> &RoaringBitmap {
        &self.live
    }

    /// The pairs of a series, sorted by label name.
    pub(crate) fn ids(&self, series: u32) -> &[u32] {
        self.series.ids(series)
    }

    pub(crate) fn labels(&self, series: u32) -> Labels {
        Labels::from_sorted(self.ids(series).iter().map(|&pair| {
            let (name, value) = self.pairs.get(pair);
            (self.strings.get(name), self.strings.get(value))
        }))
    }

    /// Whether the series has these labels.
    pub(crate) fn has_labels(&self, series: u32, labels: &Labels) -> bool {
        let own = self.ids(series).iter().map(|&pair| self.pairs.get(pair));
        own.map(|(name, value)| (self.strings.get(name), self.strings.get(value))).eq(labels)
    }

    pub(crate) fn place(&self, series: u32) -> Place {
        self.series.place(series)
    }

    /// Earlier places, oldest first.
    pub(crate) fn earlier(&self, series: u32) -> &[Place] {
        self.moved.get(&series).map_or(&[], Vec::as_slice)
    }

    /// Interns a string; for reading a series file.
    pub(crate) fn intern_string(&mut self, text: &str) -> Option<u32> {
        self.strings.intern(text)
    }

    /// Interns a pair of known strings.
    pub(crate) fn intern_pair(&mut self, name: u32, value: u32) -> Option<u32> {
        let (id, is_new) = self.pairs.intern((name, value))?;
        if is_new {
            make_room(&mut self.postings);
            self.postings.push(Posting::default());
            self.by_name.entry(name).or_default().push(id);
        }
        Some(id)
    }

    fn find_ids(&self, ids: &[u32]) -> Option<u32> {
        self.table.find(hash_ids(&self.hasher, ids), |&s| self.ids(s) == ids).copied()
    }

    /// The series with these labels.
    pub(crate) fn find(&mut self, labels: &Labels) -> Option<u32> {
        let mut ids = std::mem::take(&mut self.scratch);
        ids.clear();
        let known = labels.iter().all(|(name, value)| {
            let pair = self.strings.find(name).zip(self.strings.find(value)).and_then(|p| self.pairs.find(p));
            ids.extend(pair);
            pair.is_some()
        });
        let found = if known { self.find_ids(&ids) } else { None };
        self.scratch = ids;
        found
    }

    /// Adds a series that [`Index::find`] does not know; `None` when numbers ran out.
    pub(crate) fn insert(&mut self, labels: &Labels, place: Place) -> Option<u32> {
        let mut ids = Vec::with_capacity(16);
        for (name, value) in labels {
            let pair = (self.strings.intern(name)?, self.strings.intern(value)?);
            ids.push(self.intern_pair(pair.0, pair.1)?);
        }
        self.insert_ids(&ids, place)
    }

    /// The series with these pairs, and whether it is new and lies at this place; `None` when numbers ran out.
    fn entry(&mut self, ids: &[u32], place: Place) -> Option<(u32, bool)> {
        let Self { table, hasher, series: all, .. } = self;
        let hash = hash_ids(hasher, ids);
        match table.entry(hash, |&s| all.ids(s) == ids, |&s| hash_ids(hasher, all.ids(s))) {
            Entry::Occupied(known) => Some((*known.get(), false)),
            Entry::Vacant(vacant) => {
                let series = all.push(ids, place)?;
                vacant.insert(series);
                Some((series, true))
            }
        }
    }

    /// Adds the series with these pairs at this place, unless it is known.
    fn insert_ids(&mut self, ids: &[u32], place: Place) -> Option<u32> {
        let (series, is_new) = self.entry(ids, place)?;
        if is_new {
            for &pair in ids {
                self.postings[pair as usize].insert(series);
            }
            self.live.insert(series);
        }
        Some(series)
    }

    /// From now on samples of `series` arrive at `place`; a series that is there stays.
    pub(crate) fn move_to(&mut self, series: u32, place: Place) {
        let old = self.series.set_place(series, place);
        if old != place {
            let earlier = self.moved.entry(series).or_default();
            earlier.retain(|p| *p != place);
            earlier.push(old);
        }
    }

    /// Forgets an earlier place whose samples are gone.
    pub(crate) fn forget_earlier(&mut self, series: u32, gone: impl Fn(Place) -> bool) {
        if let Some(earlier) = self.moved.get_mut(&series) {
            earlier.retain(|&p| !gone(p));
            if earlier.is_empty() {
                self.moved.remove(&series);
            }
        }
    }

    /// Series that have earlier places.
    pub(crate) fn moved_series(&self) -> Vec<u32> {
        self.moved.keys().copied().collect()
    }

    pub(crate) fn acquire(&mut self, series: u32) {
        self.series.set_owners(series, self.series.owners(series).saturating_add(1));
    }

    pub(crate) fn release(&mut self, series: u32) {
        let owners = self.series.owners(series);
        // A count that once reached the top is no longer exact; such a series stays until restart.
        if owners != u16::MAX {
            self.series.set_owners(series, owners.saturating_sub(1));
        }
    }

    pub(crate) fn is_owned(&self, series: u32) -> bool {
        self.series.owners(series) > 0
    }

    /// Takes a series out; its number is not used again.
    pub(crate) fn remove(&mut self, series: u32) {
        let hash = hash_ids(&self.hasher, self.ids(series));
        if let Ok(entry) = self.table.find_entry(hash, |&s| s == series) {
            entry.remove();
        }
        self.forget(series);
    }

    /// Takes out a series that the table does not have.
    fn forget(&mut self, series: u32) {
        for &pair in self.series.ids(series) {
            self.postings[pair as usize].remove(series);
        }
        self.series.remove(series);
        self.moved.remove(&series);
        self.live.remove(series);
    }

    /// Whether a fifth of all series came since postings were packed.
    pub(crate) fn is_loose(&self) -> bool {
        u64::from(self.n_numbers() - self.packed) * 5 > self.n_series()
    }

    /// Takes no more memory for postings than needed.
    pub(crate) fn pack(&mut self) {
        self.postings.iter_mut().for_each(Posting::pack);
        self.packed = self.n_numbers();
    }

    /// Gives back the memory of series that were removed, and of pairs and strings that no series has any more when
    /// they are a quarter of all. Ids of pairs and strings are others afterwards.
    pub(crate) fn compact(&mut self) {
        let dead = self.postings.iter().filter(|p| p.is_none()).count();
        if dead * 4 < self.postings.len() {
            self.series.rewrite(|id| id);
            self.pack();
            self.table.shrink_to_fit(|&s| hash_ids(&self.hasher, self.series.ids(s)));
            return;
        }
        let mut old = std::mem::take(self);
        (self.series, self.moved, self.live, self.epoch) = (old.series, old.moved, old.live, old.epoch + 1);
        let mut new_ids = vec![u32::MAX; old.postings.len()];
        for (id, posting) in old.postings.iter_mut().enumerate().filter(|(_, p)| !p.is_none()) {
            let (name, value) = old.pairs.get(id as u32);
            let mut string = |id| self.strings.intern(old.strings.get(id));
            let pair = string(name).zip(string(value)).and_then(|(name, value)| self.intern_pair(name, value));
            let new = pair.expect("there are fewer than before");
            new_ids[id] = new;
            self.postings[new as usize] = std::mem::take(posting);
        }
        self.pack();
        self.series.rewrite(|id| new_ids[id as usize]);
        let Self { table, hasher, series, live, .. } = self;
        let of = |s: u32| hash_ids(hasher, series.ids(s));
        *table = HashTable::with_capacity(live.len() as usize);
        for s in &*live {
            table.insert_unique(of(s), s, |&s| of(s));
        }
    }

    /// Adds many series; see [`Bulk`].
    pub(crate) fn bulk(&mut self) -> Bulk<'_> {
        let first_new = self.series.len();
        Bulk { index: self, runs: Vec::new(), first_new }
    }

    /// Series that pass all matchers.
    pub(crate) fn select(&self, matchers: &[Matcher]) -> RoaringBitmap {
        let mut required: Vec<RoaringBitmap> = Vec::new();
        let mut excluded: Vec<RoaringBitmap> = Vec::new();
        for m in matchers {
            if m.matches_empty() {
                // Series without the label pass; so take away those whose value does not.
                excluded.push(self.union(self.pairs_where(m, |value| !m.matches(value))));
            } else {
                let bitmap = self.union(self.pairs_where(m, |value| m.matches(value)));
                if bitmap.is_empty() {
                    return bitmap;
                }
                required.push(bitmap);
            }
        }
        required.sort_unstable_by_key(RoaringBitmap::len);
        let mut required = required.into_iter();
        let mut out = required.next().unwrap_or_else(|| self.live.clone());
        for bitmap in required {
            out &= bitmap;
        }
        for bitmap in excluded {
            out -= bitmap;
        }
        out
    }

    /// Pairs of the matcher's label whose value `wanted` accepts. Values that the matcher names are looked up; only a
    /// real pattern runs over the dictionary.
    fn pairs_where<'a>(&'a self, m: &'a Matcher, wanted: impl Fn(&str) -> bool) -> Vec<u32> {
        let Some(name) = self.strings.find(m.name()) else { return Vec::new() };
        let named = |value: &str| self.strings.find(value).and_then(|value| self.pairs.find((name, value)));
        let literals: Option<Vec<&str>> = match m.op() {
            MatchOp::Equal | MatchOp::NotEqual => Some(vec![m.value()]),
            MatchOp::Regex | MatchOp::NotRegex => {
                m.regex().and_then(|r| r.literals()).map(|l| l.iter().map(String::as_str).collect())
            }
        };
        if let Some(literals) = literals
            && literals.first().is_none_or(|l| wanted(l))
        {
            return literals.into_iter().filter(|l| wanted(l)).filter_map(named).collect();
        }
        let pairs = self.by_name.get(&name).map_or(&[][..], Vec::as_slice);
        pairs.iter().copied().filter(|&pair| wanted(self.strings.get(self.pairs.get(pair).1))).collect()
    }

    fn union(&self, pairs: Vec<u32>) -> RoaringBitmap {
        Posting::union(pairs.into_iter().map(|pair| &self.postings[pair as usize]))
    }

    /// Names of labels that a series of `series` has.
    pub(crate) fn label_names(&self, series: &RoaringBitmap, out: &mut Vec<String>) {
        for (&name, pairs) in &self.by_name {
            if pairs.iter().any(|&pair| self.postings[pair as usize].intersects(series)) {
                out.push(self.strings.get(name).to_owned());
            }
        }
    }

    /// Values of `name` over `series`; the first `limit` of them in the order of bytes.
    pub(crate) fn label_values(&self, name: &str, series: &RoaringBitmap, limit: usize, out: &mut Vec<String>) {
        let pairs = self.strings.find(name).and_then(|name| self.by_name.get(&name));
        let pairs = pairs.map_or(&[][..], Vec::as_slice).iter();
        let found = pairs.filter(|&&pair| self.postings[pair as usize].intersects(series));
        let mut values: Vec<&str> = found.map(|&pair| self.strings.get(self.pairs.get(pair).1)).collect();
        if limit < values.len() {
            values.select_nth_unstable(limit);
            values.truncate(limit);
        }
        out.extend(values.into_iter().map(str::to_owned));
    }

    /// Each pair with its number of series: name, value, series.
    pub(crate) fn pair_counts(&self) -> impl Iterator<Item = (&str, &str, u64)> {
        self.postings.iter().enumerate().filter(|(_, p)| !p.is_none()).map(|(id, posting)| {
            let (name, value) = self.pairs.get(id as u32);
            (self.strings.get(name), self.strings.get(value), posting.len())
        })
    }
}

/// Adds series one after the other. A pair that follows itself, as those of a target do, is entered into its posting once
/// for the whole run, and series are entered into the table when all are there, neighbours together: a table of many
/// series lies in no cache.
pub(crate) struct Bulk<'a> {
    index: &'a mut Index,
    /// By position of a label: the pair of the last series and since which it was there.
    runs: Vec<(u32, u32)>,
    first_new: u32,
}

impl Bulk<'_> {
    pub(crate) fn index(&self) -> &Index {
        self.index
    }

    /// For strings and pairs; the series that were pushed are not to be found yet.
    pub(crate) fn index_mut(&mut self) -> &mut Index {
        self.index
    }

    /// Adds a series with these pairs at this place, known or not; `None` when numbers ran out.
    pub(crate) fn push(&mut self, ids: &[u32], place: Place) -> Option<u32> {
        let series = self.index.series.push(ids, place)?;
        let kept = self.runs.len().min(ids.len());
        for (run, &pair) in self.runs.iter_mut().zip(ids).filter(|(run, pair)| run.0 != **pair) {
            let (old, since) = std::mem::replace(run, (pair, series));
            self.index.postings[old as usize].insert_run(since, series - 1);
        }
        for (pair, since) in self.runs.drain(kept..) {
            self.index.postings[pair as usize].insert_run(since, series - 1);
        }
        self.runs.extend(ids[kept..].iter().map(|&pair| (pair, series)));
        Some(series)
    }

    /// Ends it. Series that were known, or were added twice, move to their last place; `each` hears of these.
    pub(crate) fn finish(mut self, mut each: impl FnMut(u32, Place)) {
        let index = &mut *self.index;
        let end = index.n_numbers();
        for (pair, since) in self.runs.drain(..) {
            index.postings[pair as usize].insert_run(since, end - 1);
        }
        index.live.insert_range(self.first_new..end);
        let Index { table, hasher, series: all, .. } = index;
        let of = |s: u32| hash_ids(hasher, all.ids(s));
        table.reserve((end - self.first_new) as usize, |&s| of(s));
        let mut known: Vec<(u32, u32)> = Vec::new();
        for_hashes_by_part((self.first_new..end).map(|s| (of(s), s)), table.capacity(), |hash, series| {
            match table.entry(hash, |&s| all.ids(s) == all.ids(series), |&s| of(s)) {
                Entry::Occupied(old) => known.push((series, *old.get())),
                Entry::Vacant(vacant) => {
                    vacant.insert(series);
                }
            }
        });
        known.sort_unstable();
        for (new, old) in known {
            let place = index.place(new);
            index.forget(new);
            if !index.earlier(old).contains(&place) {
                index.move_to(old, place);
            }
            each(old, place);
        }
    }
}

/// Calls `each` with all hashes, those whose places in a table of this size are close together one after the other, and
/// those of one hash in their order.
fn for_hashes_by_part(
    hashes: impl ExactSizeIterator<Item = (u64, u32)>,
    capacity: usize,
    mut each: impl FnMut(u64, u32),
) {
    // A part takes as many bytes of the table as a cache has nearby.
    const PART: usize = 1 << 14;
    let n_parts = (capacity / PART).next_power_of_two();
    // A table finds places by the low bits.
    let mask = (n_parts * PART - 1) as u64;
    let mut parts: Vec<Vec<(u64, u32)>> = Vec::new();
    parts.resize_with(n_parts, || Vec::with_capacity(hashes.len() / n_parts * 9 / 8 + 8));
    for (hash, series) in hashes {
        parts[(hash & mask) as usize / PART].push((hash, series));
    }
    for part in parts {
        part.into_iter().for_each(|(hash, series)| each(hash, series));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place(i: u32) -> Place {
        Place { group: 1, column: i }
    }

    fn matcher() -> impl Strategy<Value = Matcher> {
        let op =
            prop_oneof![Just(MatchOp::Equal), Just(MatchOp::NotEqual), Just(MatchOp::Regex), Just(MatchOp::NotRegex)];
        ("[abx]", op, prop_oneof!["[12]?", Just("1|2".to_owned()), Just("1.*".to_owned()), Just(".*".to_owned())])
            .prop_map(|(name, op, value)| Matcher::new(&name, op, &value).unwrap())
    }

    proptest! {
        #[test]
        fn matchers_select_what_a_scan_selects(
            sets in proptest::collection::vec(proptest::collection::btree_map("[abc]", "[123]{1,2}", 1..4), 0..40),
            removed in proptest::collection::vec(0usize..40, 0..5),
            is_compacted in any::<bool>(),
            matchers in proptest::collection::vec(matcher(), 0..4),
        ) {
            let mut index = Index::default();
            let mut model: Vec<(u32, Labels)> = Vec::new();
            for set in sets {
                let labels = Labels::from_pairs(set);
                if let Some(found) = index.find(&labels) {
                    prop_assert!(model.iter().any(|(s, l)| *s == found && *l == labels));
                    continue;
                }
                let series = index.insert(&labels, place(0)).unwrap();
                prop_assert_eq!(index.labels(series), labels.clone());
                model.push((series, labels));
            }
            for i in removed {
                if i < model.len() {
                    let (series, labels) = model.remove(i);
                    index.remove(series);
                    prop_assert_eq!(index.find(&labels), None);
                }
            }
            if is_compacted {
                index.compact();
            }
            for (series, labels) in &model {
                prop_assert_eq!(index.find(labels), Some(*series));
                prop_assert_eq!(&index.labels(*series), labels);
            }
            let got: Vec<u32> = index.select(&matchers).iter().collect();
            let expected: Vec<u32> =
                model.iter().filter(|(_, l)| matchers.iter().all(|m| m.matches_labels(l))).map(|(s, _)| *s).collect();
            prop_assert_eq!(&got, &expected);
            let selected: RoaringBitmap = got.into_iter().collect();
            let mut names = Vec::new();
            index.label_names(&selected, &mut names);
            names.sort();
            let mut expected_names: Vec<String> = model.iter().filter(|(s, _)| selected.contains(*s))
                .flat_map(|(_, l)| l.iter().map(|(n, _)| n.to_owned()).collect::<Vec<_>>()).collect();
            expected_names.sort();
            expected_names.dedup();
            prop_assert_eq!(names, expected_names);
        }
    }

    #[test]
    fn memory_of_removed_series_comes_back() {
        let mut index = Index::default();
        let memory = |index: &Index| {
            let mut memory = HeadMemory::default();
            index.memory(&mut memory);
            memory.parts().iter().map(|(_, bytes)| bytes).sum::<u64>()
        };
        let insert = |index: &mut Index, i: u32| {
            let labels = Labels::from_pairs([("job", "a".to_owned()), ("pod", format!("server-{i}"))]);
            index.insert(&labels, place(i)).unwrap()
        };
        for i in 0..10_000 {
            insert(&mut index, i);
        }
        let full = memory(&index);
        for i in 0..10_000 {
            let series = insert(&mut index, 10_000 + i);
            assert_eq!(series, 10_000 + i);
            index.remove(i);
        }
        index.compact();
        assert!(memory(&index) < full * 5 / 4, "{} {full}", memory(&index));
    }

    #[test]
    fn a_moved_series_remembers_where_it_was() {
        let mut index = Index::default();
        let s = index.insert(&Labels::from_pairs([("a", "1")]), place(0)).unwrap();
        index.move_to(s, place(0));
        assert_eq!(index.earlier(s), []);
        index.move_to(s, place(5));
        assert_eq!((index.place(s), index.earlier(s)), (place(5), &[place(0)][..]));
        index.forget_earlier(s, |p| p == place(0));
        assert!(index.moved_series().is_empty());
    }
}
