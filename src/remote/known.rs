//! Series that senders repeat, known by the bytes of their labels.
//!
//! A sender names the same series in the same order again and again, so each remembers which one followed it the last
//! time: whoever comes next is found by one comparison instead of a hash, a search and a comparison. Knows nothing of
//! what is kept for a series.

use std::hash::BuildHasher as _;

use hashbrown::HashTable;
use rapidhash::fast::RandomState;

/// No entry.
const NONE: u32 = u32::MAX;

/// Position of a series, valid until the series is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Id(u32);

#[derive(Debug)]
struct Entry<T> {
    /// Empty when the entry is free.
    labels: Box<[u8]>,
    /// The series that followed this one the last time.
    after: u32,
    value: T,
}

/// Series and a value for each.
#[derive(Debug)]
pub(crate) struct KnownSeries<T> {
    entries: Vec<Entry<T>>,
    table: HashTable<u32>,
    free: Vec<u32>,
    hasher: RandomState,
}

impl<T> KnownSeries<T> {
    pub(crate) fn new() -> Self {
        Self { entries: Vec::new(), table: HashTable::new(), free: Vec::new(), hasher: RandomState::new() }
    }

    pub(crate) fn find(&self, labels: &[u8]) -> Option<Id> {
        let is_it = |&id: &u32| *self.entries[id as usize].labels == *labels;
        self.table.find(self.hasher.hash_one(labels), is_it).map(|&id| Id(id))
    }

    /// The series that followed this one the last time, if it is still known.
    pub(crate) fn after(&self, id: Id) -> Option<Id> {
        let after = self.entries[id.0 as usize].after;
        let entry = self.entries.get(after as usize)?;
        (!entry.labels.is_empty()).then_some(Id(after))
    }

    /// Remembers that `next` came after `id`.
    pub(crate) fn set_after(&mut self, id: Id, next: Id) {
        self.entries[id.0 as usize].after = next.0;
    }

    pub(crate) fn labels(&self, id: Id) -> &[u8] {
        &self.entries[id.0 as usize].labels
    }

    pub(crate) fn value(&mut self, id: Id) -> &mut T {
        &mut self.entries[id.0 as usize].value
    }

    /// Adds a series that is not known; its labels are not empty.
    pub(crate) fn insert(&mut self, labels: &[u8], value: T) -> Id {
        assert!(!labels.is_empty(), "a series has labels");
        let hash = self.hasher.hash_one(labels);
        let entry = Entry { labels: labels.into(), after: NONE, value };
        let id = match self.free.pop() {
            Some(id) => {
                self.entries[id as usize] = entry;
                id
            }
            None => {
                self.entries.push(entry);
                (self.entries.len() - 1) as u32
            }
        };
        let Self { entries, table, hasher, .. } = self;
        table.insert_unique(hash, id, |&id| hasher.hash_one(&*entries[id as usize].labels));
        Id(id)
    }

    /// Forgets the series for whose value `is_kept` says no.
    pub(crate) fn retain(&mut self, mut is_kept: impl FnMut(&T) -> bool) {
        let Self { entries, table, free, .. } = self;
        table.retain(|&mut id| {
            let entry = &mut entries[id as usize];
            if is_kept(&entry.value) {
                return true;
            }
            entry.labels = Box::default();
            free.push(id);
            false
        });
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_found_by_labels_and_by_order_until_forgotten() {
        let mut known = KnownSeries::new();
        let ids: Vec<Id> = (0..100_u8).map(|i| known.insert(&[i + 1], i)).collect();
        ids.windows(2).for_each(|w| known.set_after(w[0], w[1]));
        for (i, &id) in ids.iter().enumerate() {
            assert_eq!(known.find(&[i as u8 + 1]), Some(id));
            assert_eq!(known.after(id), ids.get(i + 1).copied());
        }
        known.retain(|i| i % 2 == 0);
        assert_eq!((known.len(), known.find(&[2]), known.after(ids[0])), (50, None, None));
        assert_eq!((known.find(&[3]), known.after(ids[1])), (Some(ids[2]), Some(ids[2])));
        let again = known.insert(&[200], 7);
        assert_eq!((known.find(&[200]), known.labels(again)), (Some(again), &[200][..]));
        assert_eq!(*known.value(again), 7);
        assert_eq!(known.after(again), None, "nothing followed it yet");
    }
}
