//! Series that senders repeat, known by the order in which they come, or else by a hash of their labels.
//!
//! A sender names the same series in the same order again and again, so each remembers which one followed it the last
//! time, and how the labels of that one differ from its own: in some bytes between a common start and a common end. Who
//! comes next is found by a comparison with the series before it in the same message. So the labels themselves are kept
//! nowhere: they would take more memory than all else that is kept of a series. Knows nothing of what a series is worth.

use std::hash::BuildHasher as _;
use std::ops::Range;

use hashbrown::HashTable;
use rapidhash::fast::RandomState;

use super::wire::Expected;

/// No entry.
const NONE: u32 = u32::MAX;
/// Bytes of labels that nobody needs any more, beside as many that are needed, before they are removed.
const WASTE_MIN: usize = 64 << 10;

/// Position of a series, valid until the series is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Id(u32);

/// There may be millions, so every byte counts.
#[derive(Debug)]
struct Entry<T> {
    /// Of the labels.
    hash: u32,
    /// The series that followed this one the last time. Never one that is forgotten: another may take its position.
    after: u32,
    /// Where the middle begins in the list of all: what stands in the labels of the series that followed, between the
    /// start and the end that both have.
    middle: u32,
    n_middle: u16,
    /// Bytes of the start and the end.
    n_start: u16,
    n_end: u16,
    /// `None` when the entry is free.
    value: Option<T>,
}

impl<T> Entry<T> {
    fn middle(&self) -> Range<usize> {
        let at = self.middle as usize;
        at..at + usize::from(self.n_middle)
    }
}

/// Series and a value for each.
#[derive(Debug)]
pub(crate) struct KnownSeries<T> {
    entries: Vec<Entry<T>>,
    /// The middles of all entries, and what became of others.
    middles: Vec<u8>,
    /// Bytes of `middles` that belong to an entry.
    n_needed: usize,
    table: HashTable<u32>,
    free: Vec<u32>,
    hasher: RandomState,
}

/// The hash by which the table places an entry: with few bits in all places.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

impl<T> KnownSeries<T> {
    pub(crate) fn new() -> Self {
        Self {
            entries: Vec::new(),
            middles: Vec::new(),
            n_needed: 0,
            table: HashTable::new(),
            free: Vec::new(),
            hasher: RandomState::new(),
        }
    }

    fn hash(&self, labels: &[u8]) -> u32 {
        (self.hasher.hash_one(labels) >> 32) as u32
    }

    /// The series with these labels. `is_it` must say whether a value is that of the series with these labels.
    pub(crate) fn find(&self, labels: &[u8], is_it: impl Fn(&T) -> bool) -> Option<Id> {
        let hash = self.hash(labels);
        let is_it = |&id: &u32| {
            let entry = &self.entries[id as usize];
            entry.hash == hash && entry.value.as_ref().is_some_and(&is_it)
        };
        self.table.find(spread(hash), is_it).map(|&id| Id(id))
    }

    /// The series that followed this one the last time, and its labels; those of this one are `labels`.
    pub(crate) fn after<'a>(&'a self, id: Id, labels: &'a [u8]) -> Option<(Id, Expected<'a>)> {
        let entry = &self.entries[id.0 as usize];
        let start = labels.get(..usize::from(entry.n_start))?;
        let end = labels.get(labels.len().checked_sub(usize::from(entry.n_end))?..)?;
        let middle = &self.middles[entry.middle()];
        (entry.after != NONE).then_some((Id(entry.after), Expected { start, middle, end }))
    }

    /// Remembers that `next` came after `id`, both with their labels.
    pub(crate) fn set_after(&mut self, (id, labels): (Id, &[u8]), (next, next_labels): (Id, &[u8])) {
        let len_max = labels.len().min(next_labels.len()).min(usize::from(u16::MAX));
        let n_equal = |pairs: &mut dyn Iterator<Item = (&u8, &u8)>| pairs.take_while(|(a, b)| a == b).count();
        let n_start = n_equal(&mut labels.iter().zip(next_labels).take(len_max));
        let n_end = n_equal(&mut labels.iter().rev().zip(next_labels.iter().rev()).take(len_max - n_start));
        let middle = &next_labels[n_start..next_labels.len() - n_end];
        let entry = &mut self.entries[id.0 as usize];
        if self.middles[entry.middle()] != *middle {
            let (Ok(at), Ok(len)) = (u32::try_from(self.middles.len()), u16::try_from(middle.len())) else {
                // Too much to remember: the series is found by its labels.
                entry.after = NONE;
                return;
            };
            self.n_needed = self.n_needed - usize::from(entry.n_middle) + middle.len();
            (entry.middle, entry.n_middle) = (at, len);
            self.middles.extend_from_slice(middle);
        }
        (entry.n_start, entry.n_end, entry.after) = (n_start as u16, n_end as u16, next.0);
        if self.middles.len() > 2 * self.n_needed + WASTE_MIN {
            self.remove_waste();
        }
    }

    /// Leaves out the middles that no entry has any more.
    fn remove_waste(&mut self) {
        let mut kept = Vec::with_capacity(self.n_needed);
        for entry in &mut self.entries {
            let middle = &self.middles[entry.middle()];
            entry.middle = kept.len() as u32;
            kept.extend_from_slice(middle);
        }
        self.middles = kept;
    }

    /// The value of a series that is known.
    pub(crate) fn value(&mut self, id: Id) -> &mut T {
        self.entries[id.0 as usize].value.as_mut().expect("an id is valid until its series is forgotten")
    }

    /// Adds a series that is not known.
    pub(crate) fn insert(&mut self, labels: &[u8], value: T) -> Id {
        let hash = self.hash(labels);
        let entry = Entry { hash, after: NONE, middle: 0, n_middle: 0, n_start: 0, n_end: 0, value: Some(value) };
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
        table.insert_unique(spread(hash), id, |&id| spread(entries[id as usize].hash));
        Id(id)
    }

    /// Forgets the series for whose value `is_kept` says no.
    pub(crate) fn retain(&mut self, mut is_kept: impl FnMut(&T) -> bool) {
        let Self { entries, table, free, n_needed, .. } = self;
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
                *n_needed -= usize::from(entries[i].n_middle);
                (entries[i].after, entries[i].n_middle) = (NONE, 0);
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
    fn a_series_takes_32_bytes_beside_what_tells_it_from_the_next() {
        assert_eq!(size_of::<Entry<crate::sources::Known>>(), 32);
        let mut known = KnownSeries::new();
        let labels = |i: u8| [b"common start".as_slice(), &[i], b"common end"].concat();
        let ids: Vec<Id> = (0..100).map(|i| known.insert(&labels(i), i)).collect();
        for _ in 0..3 {
            for i in 1..100 {
                known.set_after((ids[i - 1], &labels(i as u8 - 1)), (ids[i], &labels(i as u8)));
            }
        }
        assert_eq!((known.middles.len(), known.n_needed), (99, 99));
    }

    #[test]
    fn an_order_that_changes_leaves_no_waste_behind() {
        let mut known = KnownSeries::new();
        let labels: Vec<Vec<u8>> = (0..50_u8).map(|i| vec![b'a' + i % 25; 1000 + usize::from(i)]).collect();
        let ids: Vec<Id> = labels.iter().map(|l| known.insert(l, ())).collect();
        for step in 1..50 {
            for i in 0..50 {
                let next = (i + step) % 50;
                known.set_after((ids[i], &labels[i]), (ids[next], &labels[next]));
                let (id, expected) = known.after(ids[i], &labels[i]).expect("it was just told");
                assert!(id == ids[next] && expected.is(&labels[next]));
            }
        }
        assert!(known.middles.len() <= 2 * known.n_needed + WASTE_MIN, "{}", known.middles.len());
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
