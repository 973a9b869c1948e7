//! Series that senders repeat, known by the order in which they come, or else by a hash of their labels.
//!
//! A sender names the same series in the same order again and again, so each remembers which one followed it the last
//! time, and how the labels of that one differ from its own: in some bytes between a common start and a common end. Who
//! comes next is found by a comparison with the series before it in the same message. So the labels themselves are kept
//! nowhere: they would take more memory than all else that is kept of a series. Knows nothing of what a series is worth.

use std::hash::BuildHasher as _;

use hashbrown::HashTable;
use rapidhash::fast::RandomState;

use super::wire::Expected;

/// No entry.
const NONE: u32 = u32::MAX;

/// Position of a series, valid until the series is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Id(u32);

#[derive(Debug)]
struct Entry<T> {
    /// Of the labels.
    hash: u64,
    /// What stands in the labels of the series that followed, between the start and the end that both have.
    middle: Box<[u8]>,
    /// Bytes of the start and the end.
    n_start: u16,
    n_end: u16,
    /// The series that followed this one the last time. Never one that is forgotten: another may take its position.
    after: u32,
    /// `None` when the entry is free.
    value: Option<T>,
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

    /// The series with these labels. `is_it` must say whether a value is that of the series with these labels.
    pub(crate) fn find(&self, labels: &[u8], is_it: impl Fn(&T) -> bool) -> Option<Id> {
        let hash = self.hasher.hash_one(labels);
        let is_it = |&id: &u32| {
            let entry = &self.entries[id as usize];
            entry.hash == hash && entry.value.as_ref().is_some_and(&is_it)
        };
        self.table.find(hash, is_it).map(|&id| Id(id))
    }

    /// The series that followed this one the last time, and its labels; those of this one are `labels`.
    pub(crate) fn after<'a>(&'a self, id: Id, labels: &'a [u8]) -> Option<(Id, Expected<'a>)> {
        let entry = &self.entries[id.0 as usize];
        let start = labels.get(..usize::from(entry.n_start))?;
        let end = labels.get(labels.len().checked_sub(usize::from(entry.n_end))?..)?;
        (entry.after != NONE).then_some((Id(entry.after), Expected { start, middle: &entry.middle, end }))
    }

    /// Remembers that `next` came after `id`, both with their labels.
    pub(crate) fn set_after(&mut self, (id, labels): (Id, &[u8]), (next, next_labels): (Id, &[u8])) {
        let len_max = labels.len().min(next_labels.len()).min(usize::from(u16::MAX));
        let n_equal = |pairs: &mut dyn Iterator<Item = (&u8, &u8)>| pairs.take_while(|(a, b)| a == b).count();
        let n_start = n_equal(&mut labels.iter().zip(next_labels).take(len_max));
        let n_end = n_equal(&mut labels.iter().rev().zip(next_labels.iter().rev()).take(len_max - n_start));
        let entry = &mut self.entries[id.0 as usize];
        let middle = &next_labels[n_start..next_labels.len() - n_end];
        if *entry.middle != *middle {
            entry.middle = middle.into();
        }
        (entry.n_start, entry.n_end, entry.after) = (n_start as u16, n_end as u16, next.0);
    }

    /// The value of a series that is known.
    pub(crate) fn value(&mut self, id: Id) -> &mut T {
        self.entries[id.0 as usize].value.as_mut().expect("an id is valid until its series is forgotten")
    }

    /// Adds a series that is not known.
    pub(crate) fn insert(&mut self, labels: &[u8], value: T) -> Id {
        let hash = self.hasher.hash_one(labels);
        let entry = Entry { hash, middle: Box::default(), n_start: 0, n_end: 0, after: NONE, value: Some(value) };
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
        let Self { entries, table, .. } = self;
        table.insert_unique(hash, id, |&id| entries[id as usize].hash);
        Id(id)
    }

    /// Forgets the series for whose value `is_kept` says no.
    pub(crate) fn retain(&mut self, mut is_kept: impl FnMut(&T) -> bool) {
        let Self { entries, table, free, .. } = self;
        let n_free = free.len();
        table.retain(|&mut id| {
            let entry = &mut entries[id as usize];
            if entry.value.as_ref().is_some_and(&mut is_kept) {
                return true;
            }
            entry.value = None;
            free.push(id);
            false
        });
        if free.len() == n_free {
            return;
        }
        for i in 0..entries.len() {
            let is_gone = |id: u32| entries.get(id as usize).is_none_or(|entry| entry.value.is_none());
            if entries[i].value.is_none() || is_gone(entries[i].after) {
                (entries[i].after, entries[i].middle) = (NONE, Box::default());
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Senders of any order; each series is worth its labels, so that a wrong one is seen.
        #[test]
        fn series_are_found_by_labels_and_by_order_until_forgotten(
            messages in proptest::collection::vec(("[ab]{1,5}", any::<bool>()), 1..60),
        ) {
            let mut known: KnownSeries<String> = KnownSeries::new();
            let mut order: HashMap<String, String> = HashMap::new();
            let mut last: Option<(Id, String)> = None;
            for (labels, forgets) in &messages {
                let bytes = labels.as_bytes();
                let expected = last.as_ref().and_then(|(id, labels)| known.after(*id, labels.as_bytes()));
                let told = last.as_ref().and_then(|(_, last)| order.get(last));
                prop_assert_eq!(expected.map(|(_, e)| [e.start, e.middle, e.end].concat()), told.map(|t| t.clone().into_bytes()));
                let found = expected.filter(|(_, e)| e.is(bytes)).map(|(id, _)| id);
                let id = found.or_else(|| known.find(bytes, |value| value == labels));
                let id = id.unwrap_or_else(|| known.insert(bytes, labels.clone()));
                prop_assert_eq!(&*known.value(id), labels);
                if let Some((last, last_labels)) = &last {
                    known.set_after((*last, last_labels.as_bytes()), (id, bytes));
                    order.insert(last_labels.clone(), labels.clone());
                }
                last = Some((id, labels.clone()));
                if *forgets {
                    let gone = |labels: &str| labels.starts_with('b');
                    known.retain(|labels| !gone(labels));
                    order.retain(|labels, next| !gone(labels) && !gone(next));
                    last = last.filter(|(_, labels)| !gone(labels));
                }
            }
        }
    }

    #[test]
    fn positions_are_used_again() {
        let mut known = KnownSeries::new();
        let ids: Vec<Id> = (0..100_u8).map(|i| known.insert(&[i], i)).collect();
        known.retain(|i| i % 2 == 0);
        assert_eq!((known.len(), known.find(&[1], |_| true)), (50, None));
        for i in 0..50 {
            assert!(known.insert(&[100 + i], 100 + i).0 < 100);
        }
        assert_eq!(
            (known.len(), known.find(&[2], |&i| i == 2), known.find(&[2], |_| false)),
            (100, Some(ids[2]), None)
        );
    }
}
