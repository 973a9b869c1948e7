//! The groups of the head by number. Numbers are never given twice, and most are of groups that are gone.
//!
//! They are cut into pages, which come with their first group and go with their last, so that neither the past nor a
//! manifest that claims one takes memory.

use std::sync::Arc;

use super::group::GroupCell;

/// Groups of a page.
const PAGE: usize = 256;
/// Groups that there can be; what names more is not believed.
pub(crate) const GROUPS_MAX: u32 = 1 << 26;

#[derive(Debug)]
struct Page {
    cells: [Option<Arc<GroupCell>>; PAGE],
    n: usize,
}

/// Groups by number.
#[derive(Debug, Default)]
pub(crate) struct GroupTable {
    pages: Vec<Option<Box<Page>>>,
    next: u32,
}

fn split(id: u32) -> (usize, usize) {
    (id as usize / PAGE, id as usize % PAGE)
}

impl GroupTable {
    pub(crate) fn get(&self, id: u32) -> Option<&Arc<GroupCell>> {
        let (page, at) = split(id);
        self.pages.get(page)?.as_ref()?.cells[at].as_ref()
    }

    /// All groups, by ascending number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<GroupCell>> {
        self.pages.iter().flatten().flat_map(|page| page.cells.iter().flatten())
    }

    /// Number of the next group.
    pub(crate) fn next(&self) -> u32 {
        self.next
    }

    /// Makes sure that new groups get numbers from `next` on.
    pub(crate) fn reserve(&mut self, next: u32) {
        self.next = self.next.max(next.min(GROUPS_MAX));
    }

    /// Adds a group whose number is below [`GROUPS_MAX`] and not taken.
    pub(crate) fn insert(&mut self, cell: Arc<GroupCell>) {
        debug_assert!(cell.id < GROUPS_MAX && self.get(cell.id).is_none(), "a number that is not taken");
        self.reserve(cell.id + 1);
        let (page, at) = split(cell.id);
        if self.pages.len() <= page {
            self.pages.resize_with(page + 1, || None);
        }
        let page = self.pages[page].get_or_insert_with(|| Box::new(Page { cells: [const { None }; PAGE], n: 0 }));
        page.n += 1;
        page.cells[at] = Some(cell);
    }

    pub(crate) fn remove(&mut self, id: u32) {
        let (number, at) = split(id);
        let Some(slot) = self.pages.get_mut(number) else { return };
        if let Some(page) = slot
            && page.cells[at].take().is_some()
        {
            page.n -= 1;
            if page.n == 0 {
                *slot = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::super::group::Group;
    use super::*;

    #[test]
    fn numbers_of_the_past_take_no_memory() {
        let mut table = GroupTable::default();
        let add = |table: &mut GroupTable, id| {
            table.insert(Arc::new(GroupCell { id, state: Mutex::new(Group::new()) }));
        };
        table.reserve(u32::MAX);
        assert_eq!((table.next(), table.pages.len()), (GROUPS_MAX, 0));
        for id in [3, 1, 700, GROUPS_MAX - 1] {
            add(&mut table, id);
        }
        assert_eq!(table.iter().map(|cell| cell.id).collect::<Vec<_>>(), [1, 3, 700, GROUPS_MAX - 1]);
        assert_eq!(table.get(700).map(|cell| cell.id), Some(700));
        for id in [3, 3, 701, 1, 5] {
            table.remove(id);
        }
        assert!(table.get(3).is_none() && table.pages[0].is_none() && table.get(u32::MAX).is_none());
        assert_eq!((table.iter().count(), table.next()), (2, GROUPS_MAX));
    }
}
