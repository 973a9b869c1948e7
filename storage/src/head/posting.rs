//! The series that have one label pair.
//!
//! Series of a target get adjacent numbers, so most pairs belong to one run of them: a posting is a run as long as it can
//! be, for a bitmap of a few numbers takes a hundred times as much.

use roaring::RoaringBitmap;

/// Bytes of a container of a roaring bitmap, without its store.
const CONTAINER_BYTES: usize = 40;
/// Bytes of a bitset container's store.
const BITSET_BYTES: u32 = 8192;

/// A set of series.
#[derive(Debug, Clone, Default)]
pub(crate) enum Posting {
    #[default]
    None,
    /// From the first up to the last, both inside.
    Run(u32, u32),
    Many(Box<RoaringBitmap>),
}

impl Posting {
    pub(crate) fn insert(&mut self, series: u32) {
        match self {
            Self::Many(bitmap) => {
                bitmap.insert(series);
            }
            _ => self.insert_run(series, series),
        }
    }

    /// Adds the series from `first` up to `last`.
    pub(crate) fn insert_run(&mut self, first: u32, last: u32) {
        match self {
            Self::None => *self = Self::Run(first, last),
            Self::Run(from, to) if first <= to.saturating_add(1) && last >= from.saturating_sub(1) => {
                (*from, *to) = (first.min(*from), last.max(*to));
            }
            Self::Run(from, to) => {
                let mut bitmap = RoaringBitmap::new();
                bitmap.insert_range(*from..=*to);
                bitmap.insert_range(first..=last);
                *self = Self::Many(Box::new(bitmap));
            }
            Self::Many(bitmap) if first == last => {
                if bitmap.try_push(first).is_err() {
                    bitmap.insert(first);
                }
            }
            Self::Many(bitmap) => {
                bitmap.insert_range(first..=last);
            }
        }
    }

    pub(crate) fn remove(&mut self, series: u32) {
        match self {
            Self::None => {}
            Self::Run(from, to) => match (*from, *to) {
                (from, to) if series < from || series > to => {}
                (from, to) if from == to => *self = Self::None,
                (first, _) if first == series => *from += 1,
                (_, last) if last == series => *to -= 1,
                (first, last) => {
                    let mut bitmap = RoaringBitmap::new();
                    bitmap.insert_range(first..series);
                    bitmap.insert_range(series + 1..=last);
                    *self = Self::Many(Box::new(bitmap));
                }
            },
            Self::Many(bitmap) => {
                bitmap.remove(series);
                if bitmap.is_empty() {
                    *self = Self::None;
                }
            }
        }
    }

    /// Takes no more memory than needed.
    pub(crate) fn pack(&mut self) {
        let Self::Many(bitmap) = self else { return };
        if let (Some(first), Some(last)) = (bitmap.min(), bitmap.max())
            && u64::from(last - first) + 1 == bitmap.len()
        {
            *self = Self::Run(first, last);
            return;
        }
        bitmap.optimize();
        // What grew has room to grow on; a copy has none.
        **bitmap = (**bitmap).clone();
    }

    pub(crate) fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::None => 0,
            Self::Run(first, last) => u64::from(last - first) + 1,
            Self::Many(bitmap) => bitmap.len(),
        }
    }

    /// All series of `postings`.
    pub(crate) fn union<'a>(postings: impl IntoIterator<Item = &'a Self>) -> RoaringBitmap {
        use roaring::MultiOps as _;
        let mut lone: Vec<u32> = Vec::new();
        let mut runs: Vec<(u32, u32)> = Vec::new();
        let mut many: Vec<&RoaringBitmap> = Vec::new();
        for posting in postings {
            match posting {
                Self::None => {}
                Self::Run(first, last) if first == last => lone.push(*first),
                Self::Run(first, last) => runs.push((*first, *last)),
                Self::Many(bitmap) => many.push(bitmap),
            }
        }
        let mut out = match many.as_slice() {
            [one] => (*one).clone(),
            _ => many.union(),
        };
        lone.sort_unstable();
        out.extend(lone);
        for (first, last) in runs {
            out.insert_range(first..=last);
        }
        out
    }

    pub(crate) fn intersects(&self, with: &RoaringBitmap) -> bool {
        match self {
            Self::None => false,
            Self::Run(first, last) if first == last => with.contains(*first),
            Self::Run(first, last) => with.range_cardinality(*first..=*last) > 0,
            Self::Many(bitmap) => !bitmap.is_disjoint(with),
        }
    }

    /// Bytes allocated beside the value itself.
    pub(crate) fn memory(&self) -> usize {
        let Self::Many(bitmap) = self else { return 0 };
        let s = bitmap.statistics();
        let bitsets = u64::from(s.n_bitset_containers * BITSET_BYTES);
        let stores = s.n_bytes_array_containers + s.n_bytes_run_containers + bitsets;
        size_of::<RoaringBitmap>() + s.n_containers as usize * CONTAINER_BYTES + stores as usize
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Op {
        Insert(u32),
        InsertRun(u32, u32),
        Remove(u32),
        Pack,
    }

    fn op() -> impl Strategy<Value = Op> {
        let series = || prop_oneof![0u32..12, 65_530u32..65_542, Just(u32::MAX - 1), Just(u32::MAX)];
        prop_oneof![
            series().prop_map(Op::Insert),
            (series(), 0u32..9).prop_map(|(s, n)| Op::InsertRun(s, s.saturating_add(n))),
            series().prop_map(Op::Remove),
            Just(Op::Pack),
        ]
    }

    proptest! {
        #[test]
        fn behaves_like_a_set(ops in proptest::collection::vec(op(), 0..40)) {
            let mut posting = Posting::default();
            let mut model = BTreeSet::new();
            for op in ops {
                match op {
                    Op::Insert(s) => {
                        posting.insert(s);
                        model.insert(s);
                    }
                    Op::InsertRun(first, last) => {
                        posting.insert_run(first, last);
                        model.extend(first..=last);
                    }
                    Op::Remove(s) => {
                        posting.remove(s);
                        model.remove(&s);
                    }
                    Op::Pack => posting.pack(),
                }
                prop_assert_eq!(Posting::union([&posting]).iter().collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(posting.len(), model.len() as u64);
                prop_assert_eq!(posting.is_none(), model.is_empty());
                for with in [5, 65_536, u32::MAX] {
                    let with: RoaringBitmap = (with..=with).collect();
                    prop_assert_eq!(posting.intersects(&with), model.contains(&with.min().unwrap()));
                }
            }
        }
    }
}
