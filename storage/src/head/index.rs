//! Which series there are and which of them match: dictionaries, label pairs per series, postings.
//!
//! A series is a number, a sorted slice of pair ids in one arena, and the place where its samples arrive. Numbers are
//! dense, grow, and are not used again while the process lives. The index knows no samples.

use std::collections::HashMap;

use hashbrown::HashTable;
use promontory_model::{Labels, MatchOp, Matcher};
use rapidhash::fast::RandomState;
use roaring::{MultiOps as _, RoaringBitmap};

use super::dict::{Pairs, Strings, hash_ids};
use crate::status::HeadMemory;

/// Where samples of a series lie: a column of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) group: u32,
    pub(crate) column: u32,
}

/// Bytes of a container of a roaring bitmap, without its store.
const CONTAINER_BYTES: usize = 40;

/// Series that have one pair. Most pairs of a target belong to one series only.
#[derive(Debug, Clone)]
enum Posting {
    None,
    One(u32),
    Many(Box<RoaringBitmap>),
}

impl Posting {
    fn insert(&mut self, series: u32) {
        match self {
            Self::None => *self = Self::One(series),
            Self::One(old) => *self = Self::Many(Box::new([*old, series].into_iter().collect())),
            Self::Many(bitmap) => {
                bitmap.insert(series);
            }
        }
    }

    fn remove(&mut self, series: u32) {
        match self {
            Self::None => {}
            Self::One(old) if *old == series => *self = Self::None,
            Self::One(_) => {}
            Self::Many(bitmap) => {
                bitmap.remove(series);
                if bitmap.is_empty() {
                    *self = Self::None;
                }
            }
        }
    }

    fn len(&self) -> u64 {
        match self {
            Self::None => 0,
            Self::One(_) => 1,
            Self::Many(bitmap) => bitmap.len(),
        }
    }

    fn to_bitmap(&self) -> RoaringBitmap {
        match self {
            Self::None => RoaringBitmap::new(),
            Self::One(series) => std::iter::once(*series).collect(),
            Self::Many(bitmap) => (**bitmap).clone(),
        }
    }

    /// Bytes allocated beside the value itself.
    fn memory(&self) -> usize {
        let Self::Many(bitmap) = self else { return 0 };
        let s = bitmap.statistics();
        let stores = s.n_bytes_array_containers + s.n_bytes_run_containers + s.n_bytes_bitset_containers;
        size_of::<RoaringBitmap>()
            + (s.n_containers as usize).next_power_of_two().max(4) * CONTAINER_BYTES
            + stores as usize
    }

    fn intersects(&self, with: &RoaringBitmap) -> bool {
        match self {
            Self::None => false,
            Self::One(series) => with.contains(*series),
            Self::Many(bitmap) => !bitmap.is_disjoint(with),
        }
    }
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
    /// Ends of the series' slices of `ids`.
    ends: Vec<u32>,
    ids: Vec<u32>,
    /// By series: where new samples go.
    places: Vec<Place>,
    /// By series: writers that hold it.
    owners: Vec<u16>,
    /// Earlier places of the few series that moved, oldest first.
    moved: HashMap<u32, Vec<Place>, RandomState>,
    table: HashTable<u32>,
    hasher: RandomState,
    live: RoaringBitmap,
    scratch: Vec<u32>,
}

impl Index {
    /// Series numbers given out so far; those from here on are newer.
    pub(crate) fn n_numbers(&self) -> u32 {
        self.places.len() as u32
    }

    /// Series that exist.
    pub(crate) fn n_series(&self) -> u64 {
        self.live.len()
    }

    pub(crate) fn n_pairs(&self) -> usize {
        self.pairs.len()
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
        let series = self.ends.capacity() * 4 + self.ids.capacity() * 4 + self.places.capacity() * 8;
        let postings: usize = self.postings.iter().map(Posting::memory).sum();
        out.strings += self.strings.memory() as u64;
        out.pairs += (self.pairs.memory() + names) as u64;
        out.series += (series + self.owners.capacity() * 2) as u64;
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
        Self::slice(&self.ends, &self.ids, series)
    }

    fn slice<'a>(ends: &[u32], ids: &'a [u32], series: u32) -> &'a [u32] {
        let series = series as usize;
        let start = if series == 0 { 0 } else { ends[series - 1] as usize };
        &ids[start..ends[series] as usize]
    }

    pub(crate) fn labels(&self, series: u32) -> Labels {
        Labels::from_sorted(self.ids(series).iter().map(|&pair| {
            let (name, value) = self.pairs.get(pair);
            (self.strings.get(name), self.strings.get(value))
        }))
    }

    pub(crate) fn place(&self, series: u32) -> Place {
        self.places[series as usize]
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
            self.postings.push(Posting::None);
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

    /// Adds the series with these pairs at this place, or moves it there when it exists.
    pub(crate) fn upsert_ids(&mut self, ids: &[u32], place: Place) -> Option<u32> {
        match self.find_ids(ids) {
            Some(series) => {
                if !self.earlier(series).contains(&place) {
                    self.move_to(series, place);
                }
                Some(series)
            }
            None => self.insert_ids(ids, place),
        }
    }

    fn insert_ids(&mut self, ids: &[u32], place: Place) -> Option<u32> {
        let series = u32::try_from(self.places.len()).ok().filter(|&n| n < u32::MAX)?;
        let end = u32::try_from(self.ids.len() + ids.len()).ok()?;
        self.ids.extend_from_slice(ids);
        self.ends.push(end);
        self.places.push(place);
        self.owners.push(0);
        for &pair in ids {
            self.postings[pair as usize].insert(series);
        }
        self.live.insert(series);
        let Self { table, hasher, ends, ids: all, .. } = self;
        table.insert_unique(hash_ids(hasher, ids), series, |&s| hash_ids(hasher, Self::slice(ends, all, s)));
        Some(series)
    }

    /// From now on samples of `series` arrive at `place`; a series that is there stays.
    pub(crate) fn move_to(&mut self, series: u32, place: Place) {
        let old = std::mem::replace(&mut self.places[series as usize], place);
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
        let owners = &mut self.owners[series as usize];
        *owners = owners.saturating_add(1);
    }

    pub(crate) fn release(&mut self, series: u32) {
        let owners = &mut self.owners[series as usize];
        // A count that once reached the top is no longer exact; such a series stays until restart.
        if *owners != u16::MAX {
            *owners = owners.saturating_sub(1);
        }
    }

    pub(crate) fn is_owned(&self, series: u32) -> bool {
        self.owners[series as usize] > 0
    }

    /// Takes a series out; its number is not used again.
    pub(crate) fn remove(&mut self, series: u32) {
        let hash = hash_ids(&self.hasher, self.ids(series));
        if let Ok(entry) = self.table.find_entry(hash, |&s| s == series) {
            entry.remove();
        }
        for &pair in Self::slice(&self.ends, &self.ids, series) {
            self.postings[pair as usize].remove(series);
        }
        self.moved.remove(&series);
        self.live.remove(series);
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
        match pairs.as_slice() {
            [] => RoaringBitmap::new(),
            [pair] => self.postings[*pair as usize].to_bitmap(),
            _ => {
                let mut lone = Vec::new();
                let mut many = Vec::new();
                for pair in pairs {
                    match &self.postings[pair as usize] {
                        Posting::None => {}
                        Posting::One(series) => lone.push(*series),
                        Posting::Many(bitmap) => many.push(&**bitmap),
                    }
                }
                let mut out: RoaringBitmap = many.union();
                out.extend(lone);
                out
            }
        }
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
        self.postings.iter().enumerate().filter(|(_, p)| !matches!(p, Posting::None)).map(|(id, posting)| {
            let (name, value) = self.pairs.get(id as u32);
            (self.strings.get(name), self.strings.get(value), posting.len())
        })
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
