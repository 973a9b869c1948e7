//! What the index holds of each series: its pairs, its place, and who holds it.
//!
//! Numbers are cut into pages, each with arrays of its own, so that memory comes back when the series of a page are
//! gone; numbers are never given twice.

use super::index::Place;

/// Series of a page: few enough that a survivor among the dead holds little, many enough that a page costs nothing.
const PAGE: usize = 512;

#[derive(Debug)]
struct Page {
    /// Ends of the series' slices of `ids`.
    ends: Vec<u32>,
    ids: Vec<u32>,
    places: Vec<Place>,
    owners: Vec<u16>,
    n_dead: usize,
}

impl Page {
    fn with_capacity(n_ids: usize) -> Self {
        Self {
            ends: Vec::with_capacity(PAGE),
            ids: Vec::with_capacity(n_ids),
            places: Vec::with_capacity(PAGE),
            owners: Vec::with_capacity(PAGE),
            n_dead: 0,
        }
    }

    fn slice(&self, i: usize) -> &[u32] {
        let start = if i == 0 { 0 } else { self.ends[i - 1] as usize };
        &self.ids[start..self.ends[i] as usize]
    }
}

/// All series by number.
#[derive(Debug, Default)]
pub(crate) struct SeriesTable {
    /// `None` where all series are gone.
    pages: Vec<Option<Box<Page>>>,
    len: u32,
}

fn split(series: u32) -> (usize, usize) {
    (series as usize / PAGE, series as usize % PAGE)
}

impl SeriesTable {
    /// Numbers given so far.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// Adds a series; `None` when numbers ran out.
    pub(crate) fn push(&mut self, ids: &[u32], place: Place) -> Option<u32> {
        let series = Some(self.len).filter(|&n| n < u32::MAX)?;
        if split(series).1 == 0 {
            // Neighbours have about as many labels.
            let n_ids = self.pages.last().and_then(Option::as_ref).map_or(0, |page| page.ids.len());
            self.pages.push(Some(Box::new(Page::with_capacity(n_ids))));
        }
        let page = self.pages.last_mut()?.as_mut()?;
        let end = u32::try_from(page.ids.len() + ids.len()).ok()?;
        page.ids.extend_from_slice(ids);
        page.ends.push(end);
        page.places.push(place);
        page.owners.push(0);
        if page.ends.len() == PAGE {
            page.ids.shrink_to_fit();
        }
        self.len += 1;
        Some(series)
    }

    fn page(&self, series: u32) -> Option<(&Page, usize)> {
        let (page, i) = split(series);
        self.pages[page].as_deref().map(|page| (page, i))
    }

    fn page_mut(&mut self, series: u32) -> Option<(&mut Page, usize)> {
        let (page, i) = split(series);
        self.pages[page].as_deref_mut().map(|page| (page, i))
    }

    /// The pairs of a series; none when it is gone.
    pub(crate) fn ids(&self, series: u32) -> &[u32] {
        self.page(series).map_or(&[], |(page, i)| page.slice(i))
    }

    /// Where samples of a series arrive; nowhere when it is gone.
    pub(crate) fn place(&self, series: u32) -> Place {
        self.page(series).map_or(Place::NOWHERE, |(page, i)| page.places[i])
    }

    /// Sets where samples arrive and gives where they did.
    pub(crate) fn set_place(&mut self, series: u32, place: Place) -> Place {
        self.page_mut(series).map_or(place, |(page, i)| std::mem::replace(&mut page.places[i], place))
    }

    /// Writers that hold a series.
    pub(crate) fn owners(&self, series: u32) -> u16 {
        self.page(series).map_or(0, |(page, i)| page.owners[i])
    }

    pub(crate) fn set_owners(&mut self, series: u32, owners: u16) {
        if let Some((page, i)) = self.page_mut(series) {
            page.owners[i] = owners;
        }
    }

    /// Forgets a series that is there.
    pub(crate) fn remove(&mut self, series: u32) {
        let Some((page, i)) = self.page_mut(series) else { return };
        page.places[i] = Place::NOWHERE;
        page.n_dead += 1;
        if page.n_dead == PAGE {
            self.pages[split(series).0] = None;
        }
    }

    /// Gives back the memory of series that are gone, and changes the pairs of the others by `of`. Pairs of series that
    /// are gone are asked for by nobody.
    pub(crate) fn rewrite(&mut self, of: impl Fn(u32) -> u32) {
        for page in self.pages.iter_mut().flatten() {
            let mut ids = Vec::with_capacity(if page.ends.len() < PAGE { page.ids.capacity() } else { 0 });
            let mut ends = Vec::with_capacity(page.ends.capacity());
            for i in 0..page.ends.len() {
                if page.places[i] != Place::NOWHERE {
                    ids.extend(page.slice(i).iter().map(|&id| of(id)));
                }
                ends.push(ids.len() as u32);
            }
            if ends.len() == PAGE {
                ids.shrink_to_fit();
            }
            (page.ids, page.ends) = (ids, ends);
        }
    }

    /// Bytes allocated.
    pub(crate) fn memory(&self) -> usize {
        let page = |p: &Page| {
            let lists = p.ends.capacity() * 4 + p.ids.capacity() * 4 + p.places.capacity() * size_of::<Place>();
            size_of::<Page>() + lists + p.owners.capacity() * 2
        };
        self.pages.iter().flatten().map(|p| page(p)).sum::<usize>() + self.pages.capacity() * size_of::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_without_series_take_no_memory() {
        let mut table = SeriesTable::default();
        let n = 9 * PAGE as u32 + 7;
        for i in 0..n {
            assert_eq!(table.push(&[i, i + 1], Place { group: 1, column: i }), Some(i));
        }
        let full = table.memory();
        for i in (0..n).filter(|i| i / PAGE as u32 != 1 || i % 2 == 0) {
            table.remove(i);
        }
        assert!(table.memory() < full / 2);
        let before = table.memory();
        table.rewrite(|id| id + 100);
        assert!(table.memory() < before);
        for i in 0..n {
            let lives = i / PAGE as u32 == 1 && i % 2 == 1;
            assert_eq!(table.ids(i), if lives { vec![i + 100, i + 101] } else { vec![] }, "{i}");
            assert_eq!(table.place(i) != Place::NOWHERE, lives, "{i}");
        }
        assert_eq!(table.push(&[9], Place { group: 1, column: 0 }), Some(n));
        assert_eq!(table.ids(n), [9]);
    }
}
