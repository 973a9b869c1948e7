//! Interned strings and label pairs. Ids are dense and never change while the process lives.

use std::hash::{BuildHasher, Hasher};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use rapidhash::fast::RandomState;

/// Strings, each once, one after the other in one buffer.
#[derive(Debug, Default)]
pub(crate) struct Strings {
    text: String,
    ends: Vec<u32>,
    table: HashTable<u32>,
    hasher: RandomState,
}

impl Strings {
    fn hash(hasher: &RandomState, text: &str) -> u64 {
        hasher.hash_one(text)
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of all strings.
    pub(crate) fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Bytes allocated.
    pub(crate) fn memory(&self) -> usize {
        self.text.capacity() + self.ends.capacity() * 4 + self.table.allocation_size()
    }

    pub(crate) fn get(&self, id: u32) -> &str {
        let id = id as usize;
        let start = if id == 0 { 0 } else { self.ends[id - 1] as usize };
        &self.text[start..self.ends[id] as usize]
    }

    pub(crate) fn find(&self, text: &str) -> Option<u32> {
        self.table.find(Self::hash(&self.hasher, text), |&id| self.get(id) == text).copied()
    }

    /// The id of `text`, new or old; `None` when 4 GiB of text are reached.
    pub(crate) fn intern(&mut self, text: &str) -> Option<u32> {
        let Self { text: all, ends, table, hasher } = self;
        let of = |id: u32| {
            let start = if id == 0 { 0 } else { ends[id as usize - 1] as usize };
            &all[start..ends[id as usize] as usize]
        };
        match table.entry(Self::hash(hasher, text), |&id| of(id) == text, |&id| Self::hash(hasher, of(id))) {
            Entry::Occupied(known) => Some(*known.get()),
            Entry::Vacant(vacant) => {
                let end = u32::try_from(all.len() + text.len()).ok()?;
                let id = u32::try_from(ends.len()).ok()?;
                if all.capacity() < end as usize {
                    all.reserve_exact(text.len().max(all.len() / SPARE));
                }
                all.push_str(text);
                make_room(ends);
                ends.push(end);
                vacant.insert(id);
                Some(id)
            }
        }
    }
}

/// Lists that are large in a large index grow by this part of themselves, not to twice as much.
const SPARE: usize = 4;

/// Makes room for one more.
pub(crate) fn make_room<T>(list: &mut Vec<T>) {
    if list.len() == list.capacity() {
        list.reserve_exact((list.len() / SPARE).max(64));
    }
}

/// Label pairs as string ids, each once.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    pairs: Vec<(u32, u32)>,
    table: HashTable<u32>,
    hasher: RandomState,
}

impl Pairs {
    pub(crate) fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Bytes allocated.
    pub(crate) fn memory(&self) -> usize {
        self.pairs.capacity() * 8 + self.table.allocation_size()
    }

    pub(crate) fn get(&self, id: u32) -> (u32, u32) {
        self.pairs[id as usize]
    }

    pub(crate) fn find(&self, pair: (u32, u32)) -> Option<u32> {
        self.table.find(self.hasher.hash_one(pair), |&id| self.get(id) == pair).copied()
    }

    /// The id of the pair and whether it is new.
    pub(crate) fn intern(&mut self, pair: (u32, u32)) -> Option<(u32, bool)> {
        let Self { pairs, table, hasher } = self;
        match table.entry(
            hasher.hash_one(pair),
            |&id| pairs[id as usize] == pair,
            |&id| hasher.hash_one(pairs[id as usize]),
        ) {
            Entry::Occupied(known) => Some((*known.get(), false)),
            Entry::Vacant(vacant) => {
                let id = u32::try_from(pairs.len()).ok()?;
                make_room(pairs);
                pairs.push(pair);
                vacant.insert(id);
                Some((id, true))
            }
        }
    }
}

/// Hash of a sorted slice of pair ids.
pub(crate) fn hash_ids(hasher: &RandomState, ids: &[u32]) -> u64 {
    let mut h = hasher.build_hasher();
    for &id in ids {
        h.write_u32(id);
    }
    h.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_pairs_are_kept_once() {
        let mut s = Strings::default();
        let ids: Vec<_> = ["", "a", "bc", "a", ""].iter().map(|t| s.intern(t).unwrap()).collect();
        assert_eq!(ids, [0, 1, 2, 1, 0]);
        assert_eq!((s.get(0), s.get(1), s.get(2), s.len(), s.bytes()), ("", "a", "bc", 3, 3));
        assert_eq!(s.find("x"), None);
        for i in 0..10_000 {
            s.intern(&i.to_string()).unwrap();
        }
        assert_eq!(s.find("9999").map(|id| s.get(id)), Some("9999"));
        let mut p = Pairs::default();
        assert_eq!(p.intern((1, 2)), Some((0, true)));
        assert_eq!(p.intern((1, 3)), Some((1, true)));
        assert_eq!(p.intern((1, 2)), Some((0, false)));
        assert_eq!((p.get(1), p.find((2, 1)), p.len()), ((1, 3), None, 2));
    }
}
