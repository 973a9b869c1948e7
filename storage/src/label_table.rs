//! The label sets of one selection. Pairs of name and value get numbers, and so do sets of pairs, so that the series of
//! several sources are told apart and joined without building their labels.
//!
//! Equal numbers mean equal label sets and the other way round, whichever source they come from. It knows no samples.

use std::collections::HashMap;
use std::hash::BuildHasher as _;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use promontory_model::{LabelGroups, Labels, Projection, ReadError};
use rapidhash::fast::RandomState;

use crate::head::dict::hash_ids;

/// Number of a label name of a [`LabelTable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct NameId(u32);

/// Number of a pair of name and value of a [`LabelTable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PairId(u32);

/// Number of a label set of a [`LabelTable`]; they are dense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SetId(u32);

impl SetId {
    /// As an index.
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

#[derive(Debug)]
struct Pair {
    name: NameId,
    /// Where the value ends in the text; it begins where the one before ends.
    end: usize,
}

/// Numbered pairs and sets of pairs.
#[derive(Debug, Default)]
pub(crate) struct LabelTable {
    names: Vec<String>,
    name_ids: HashMap<String, NameId, RandomState>,
    /// Values of all pairs, one after the other.
    text: String,
    pairs: Vec<Pair>,
    pair_table: HashTable<u32>,
    /// Pairs of all sets, one after the other, each set in the order of names.
    ids: Vec<u32>,
    ends: Vec<usize>,
    set_table: HashTable<u32>,
    hasher: RandomState,
    is_anonymous: bool,
}

impl LabelTable {
    /// A table for a selection from one source of which nobody asks the labels: a source that knows its series apart
    /// may give them sets without pairs.
    pub(crate) fn anonymous() -> Self {
        Self { is_anonymous: true, ..Self::default() }
    }

    /// Whether series may stay without labels.
    pub(crate) fn is_anonymous(&self) -> bool {
        self.is_anonymous
    }

    /// Number of sets.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// All sets.
    pub(crate) fn sets(&self) -> impl Iterator<Item = SetId> + use<> {
        (0..self.ends.len() as u32).map(SetId)
    }

    /// The number of a label name.
    pub(crate) fn name(&mut self, text: &str) -> NameId {
        if let Some(id) = self.name_ids.get(text) {
            return *id;
        }
        let id = NameId(self.names.len() as u32);
        self.names.push(text.to_owned());
        self.name_ids.insert(text.to_owned(), id);
        id
    }

    fn value(pairs: &[Pair], text: &'_ str, id: u32) -> std::ops::Range<usize> {
        debug_assert!(text.len() >= pairs[id as usize].end);
        let start = (id as usize).checked_sub(1).map_or(0, |before| pairs[before].end);
        start..pairs[id as usize].end
    }

    /// The number of a pair. The value is not empty.
    ///
    /// # Errors
    /// When there are more pairs than numbers.
    pub(crate) fn pair(&mut self, name: NameId, value: &str) -> Result<PairId, ReadError> {
        let Self { text, pairs, pair_table, hasher, .. } = self;
        let hash = |name: NameId, value: &str| hasher.hash_one((name, value));
        let of = |id: u32| (pairs[id as usize].name, &text[Self::value(pairs, text, id)]);
        let entry = pair_table.entry(
            hash(name, value),
            |id| of(*id) == (name, value),
            |id| {
                let (name, value) = of(*id);
                hash(name, value)
            },
        );
        match entry {
            Entry::Occupied(known) => Ok(PairId(*known.get())),
            Entry::Vacant(vacant) => {
                let id = u32::try_from(pairs.len()).map_err(|_| too_many("label pairs"))?;
                text.push_str(value);
                pairs.push(Pair { name, end: text.len() });
                vacant.insert(id);
                Ok(PairId(id))
            }
        }
    }

    /// The number of the set of these pairs, which come in the order of their names.
    ///
    /// # Errors
    /// When there are more sets than numbers.
    pub(crate) fn set(&mut self, pairs: &[PairId]) -> Result<SetId, ReadError> {
        let Self { ids, ends, set_table, hasher, .. } = self;
        let start = ids.len();
        ids.extend(pairs.iter().map(|p| p.0));
        let wanted = &ids[start..];
        let of = |id: u32| &ids[(id as usize).checked_sub(1).map_or(0, |before| ends[before])..ends[id as usize]];
        let entry = set_table.entry(hash_ids(hasher, wanted), |id| of(*id) == wanted, |id| hash_ids(hasher, of(*id)));
        match entry {
            Entry::Occupied(known) => {
                let known = *known.get();
                ids.truncate(start);
                Ok(SetId(known))
            }
            Entry::Vacant(vacant) => {
                let id = u32::try_from(ends.len()).map_err(|_| too_many("series"))?;
                vacant.insert(id);
                ends.push(ids.len());
                Ok(SetId(id))
            }
        }
    }

    /// The number of the set of these labels.
    ///
    /// # Errors
    /// As [`LabelTable::set`].
    pub(crate) fn insert(&mut self, labels: &Labels) -> Result<SetId, ReadError> {
        let mut pairs = Vec::with_capacity(16);
        for (name, value) in labels {
            let name = self.name(name);
            pairs.push(self.pair(name, value)?);
        }
        self.set(&pairs)
    }

    /// The number of a set without pairs that equals no other, for an anonymous table.
    ///
    /// # Errors
    /// As [`LabelTable::set`].
    pub(crate) fn nameless(&mut self) -> Result<SetId, ReadError> {
        debug_assert!(self.is_anonymous, "only where nobody asks for labels");
        let id = u32::try_from(self.ends.len()).map_err(|_| too_many("series"))?;
        self.ends.push(self.ids.len());
        Ok(SetId(id))
    }

    fn pairs_of(&self, set: SetId) -> &[u32] {
        let start = set.index().checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.ids[start..self.ends[set.index()]]
    }

    fn build<'a>(&'a self, pairs: impl Iterator<Item = &'a u32>) -> Labels {
        Labels::from_sorted(pairs.map(|id| {
            let name = self.pairs[*id as usize].name;
            (self.names[name.0 as usize].as_str(), &self.text[Self::value(&self.pairs, &self.text, *id)])
        }))
    }

    /// The labels of a set.
    pub(crate) fn labels(&self, set: SetId) -> Labels {
        self.build(self.pairs_of(set).iter())
    }

    /// Appends for each set the number in `groups` of what `projection` leaves of it. Builds labels once per group.
    pub(crate) fn project(
        &self,
        sets: &[SetId],
        projection: &Projection,
        groups: &mut LabelGroups,
        out: &mut Vec<u32>,
    ) {
        let keeps: Vec<bool> = self.names.iter().map(|name| projection.keeps(name)).collect();
        let mut known: HashMap<Vec<u32>, u32, RandomState> = HashMap::default();
        let (mut key, mut last) = (Vec::new(), None);
        for set in sets {
            let kept = self.pairs_of(*set).iter().filter(|id| keeps[self.pairs[**id as usize].name.0 as usize]);
            // Neighbours are often of one group.
            if let Some(group) = last
                && kept.clone().eq(key.iter())
            {
                out.push(group);
                continue;
            }
            key.clear();
            key.extend(kept);
            let group = known.get(&key).copied().unwrap_or_else(|| {
                let group = groups.number(self.build(key.iter()));
                known.insert(key.clone(), group);
                group
            });
            last = Some(group);
            out.push(group);
        }
    }
}

fn too_many(what: &'static str) -> ReadError {
    ReadError::Limit { limit: what, needed: u64::from(u32::MAX) + 1, allowed: u64::from(u32::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn equal_numbers_are_equal_labels(
            sets in proptest::collection::vec(proptest::collection::btree_map("[abc]", "[12]{1,2}", 0..4), 0..30),
            names in proptest::collection::btree_set("[abc]", 0..3),
            without: bool,
        ) {
            let mut table = LabelTable::default();
            let sets: Vec<Labels> = sets.into_iter().map(Labels::from_pairs).collect();
            let ids: Vec<SetId> = sets.iter().map(|l| table.insert(l).unwrap()).collect();
            for (i, a) in sets.iter().enumerate() {
                prop_assert_eq!(&table.labels(ids[i]), a);
                for (j, b) in sets.iter().enumerate() {
                    prop_assert_eq!(a == b, ids[i] == ids[j]);
                }
            }
            let names: Vec<String> = names.into_iter().collect();
            let projection = if without { Projection::without(names) } else { Projection::only(names) };
            let (mut groups, mut got) = (LabelGroups::default(), Vec::new());
            table.project(&ids, &projection, &mut groups, &mut got);
            for (labels, group) in sets.iter().zip(got) {
                prop_assert_eq!(&groups.sets()[group as usize], &projection.of(labels));
            }
        }
    }
}
