//! Gathers an index while groups are added, then writes it in one piece.
//!
//! Memory grows with the number of series and label pairs, never with the number of samples.

use hashbrown::HashTable;
use promontory_model::{Labels, METRIC_NAME};
use rapidhash::v3::rapidhash_v3 as hash;

use super::sections::{Groups, Name, Rows, Sections, TooLarge};
use super::{GroupEntry, packed};
use crate::wire::{put_bytes, put_varint, put_zigzag};

/// Pairs of all series, each once.
#[derive(Default)]
struct Pairs {
    /// In the order of first sight.
    names: Vec<String>,
    /// Name numbers by name.
    name_lookup: HashTable<u32>,
    /// Name and value of each pair.
    pairs: Vec<(u32, String)>,
    /// Pair numbers by (name, value).
    lookup: HashTable<u32>,
}

impl Pairs {
    fn intern_name(&mut self, name: &str) -> u32 {
        let names = &self.names;
        if let Some(id) = self.name_lookup.find(hash(name.as_bytes()), |n| names[*n as usize] == name) {
            return *id;
        }
        let id = self.names.len() as u32;
        self.names.push(name.to_owned());
        let names = &self.names;
        self.name_lookup.insert_unique(hash(name.as_bytes()), id, |n| hash(names[*n as usize].as_bytes()));
        id
    }

    fn intern(&mut self, name: &str, value: &str) -> u32 {
        let name_id = self.intern_name(name);
        let key = |name: u32, value: &str| hash(value.as_bytes()) ^ u64::from(name).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let pairs = &self.pairs;
        let found = self.lookup.find(key(name_id, value), |p| {
            let (n, v) = &pairs[*p as usize];
            *n == name_id && v == value
        });
        if let Some(p) = found {
            return *p;
        }
        let id = self.pairs.len() as u32;
        self.pairs.push((name_id, value.to_owned()));
        let pairs = &self.pairs;
        self.lookup.insert_unique(key(name_id, value), id, |p| key(pairs[*p as usize].0, &pairs[*p as usize].1));
        id
    }
}

/// One series as it was added.
struct Series {
    /// First of its pairs in the arena; they end where those of the next series start.
    pairs_start: usize,
    /// Pair of the metric name.
    metric: Option<u32>,
    group: u32,
    column: u32,
}

/// An index under construction.
#[derive(Default)]
pub(in crate::block) struct IndexBuilder {
    pairs: Pairs,
    arena: Vec<u32>,
    series: Vec<Series>,
    /// Entries, each behind its length.
    groups: Vec<u8>,
    n_groups: u32,
}

impl IndexBuilder {
    pub(in crate::block) fn n_series(&self) -> usize {
        self.series.len()
    }

    pub(in crate::block) fn n_groups(&self) -> u32 {
        self.n_groups
    }

    /// Adds a group with its series in the order of its columns.
    pub(in crate::block) fn add_group(&mut self, columns: &[Labels], entry: &GroupEntry) -> Result<(), TooLarge> {
        for (column, labels) in columns.iter().enumerate() {
            let pairs_start = self.arena.len();
            let mut metric = None;
            for (name, value) in labels {
                let pair = self.pairs.intern(name, value);
                if name == METRIC_NAME {
                    metric = Some(pair);
                }
                self.arena.push(pair);
            }
            self.series.push(Series { pairs_start, metric, group: self.n_groups, column: column as u32 });
        }
        // Series, pairs and arena positions are numbered with 32 bits.
        if self.arena.len() >= u32::MAX as usize || self.series.len() >= u32::MAX as usize {
            return Err(TooLarge);
        }
        self.n_groups += 1;
        let mut bytes = Vec::new();
        put_group(entry, &mut bytes);
        put_bytes(&mut self.groups, &bytes);
        Ok(())
    }

    /// The bytes of the index file: packed, unless it is so large that it is better read where it lies.
    pub(in crate::block) fn finish(self, n_pages: u64) -> Result<Vec<u8>, TooLarge> {
        let order = Order::of(&self.pairs);
        let names = self.names(&order);
        let groups = Groups { n: self.n_groups, entries: &self.groups, n_pages };
        let plain = self.write_rows(&order, Sections::new(&names))?.finish(&names, groups)?;
        let packed = match packed::Packed::worth(plain.len(), self.arena.len()) {
            Some(packed) => self.write_rows(&order, packed)?.finish(&names, groups)?,
            None => None,
        };
        Ok(packed.unwrap_or(plain))
    }

    /// Names and their values, both sorted.
    fn names(&self, order: &Order) -> Vec<Name<'_>> {
        let value = |pair: &u32| self.pairs.pairs[*pair as usize].1.as_str();
        let name = |name: &u32| Name {
            text: &self.pairs.names[*name as usize],
            values: order.pairs_of[*name as usize].iter().map(value).collect(),
        };
        order.names.iter().map(name).collect()
    }

    fn write_rows<W: Rows>(&self, order: &Order, mut to: W) -> Result<W, TooLarge> {
        let mut labels = Vec::new();
        for i in self.sorted_series(order) {
            let series = &self.series[i as usize];
            let end = self.series.get(i as usize + 1).map_or(self.arena.len(), |s| s.pairs_start);
            labels.clear();
            labels.extend(self.arena[series.pairs_start..end].iter().map(|pair| {
                let name = self.pairs.pairs[*pair as usize].0;
                (order.name_rank[name as usize], order.value_rank[*pair as usize])
            }));
            to.push(&labels, series.group, series.column)?;
        }
        Ok(to)
    }

    /// Series by metric name, group and column.
    fn sorted_series(&self, order: &Order) -> Vec<u32> {
        let mut sorted: Vec<u32> = (0..self.series.len() as u32).collect();
        sorted.sort_unstable_by_key(|i| {
            let s = &self.series[*i as usize];
            (s.metric.map(|pair| order.value_rank[pair as usize]), s.group, s.column)
        });
        sorted
    }
}

/// Ranks of names and values in the order of their bytes.
struct Order {
    /// Name numbers, sorted.
    names: Vec<u32>,
    name_rank: Vec<u32>,
    /// Pair numbers of each name, by value.
    pairs_of: Vec<Vec<u32>>,
    value_rank: Vec<u32>,
}

impl Order {
    fn of(pairs: &Pairs) -> Self {
        let mut names: Vec<u32> = (0..pairs.names.len() as u32).collect();
        names.sort_unstable_by_key(|n| &pairs.names[*n as usize]);
        let mut name_rank = vec![0; names.len()];
        for (rank, name) in names.iter().enumerate() {
            name_rank[*name as usize] = rank as u32;
        }
        let mut pairs_of = vec![Vec::new(); names.len()];
        for (pair, (name, _)) in pairs.pairs.iter().enumerate() {
            pairs_of[*name as usize].push(pair as u32);
        }
        let mut value_rank = vec![0; pairs.pairs.len()];
        for of_name in &mut pairs_of {
            of_name.sort_unstable_by_key(|p: &u32| &pairs.pairs[*p as usize].1);
            for (rank, pair) in of_name.iter().enumerate() {
                value_rank[*pair as usize] = rank as u32;
            }
        }
        Self { names, name_rank, pairs_of, value_rank }
    }
}

fn put_group(entry: &GroupEntry, out: &mut Vec<u8>) {
    put_varint(out, entry.n_columns as u64);
    put_varint(out, entry.data_offset);
    put_varint(out, entry.first_page);
    put_varint(out, entry.spans.len() as u64);
    let mut before = 0i64;
    for span in &entry.spans {
        put_zigzag(out, span.mint.wrapping_sub(before));
        put_varint(out, span.maxt.wrapping_sub(span.mint) as u64);
        put_varint(out, span.rows as u64);
        put_varint(out, span.pages.len() as u64);
        for page in &span.pages {
            put_varint(out, page.len as u64);
            put_varint(out, page.n_columns as u64);
        }
        before = span.maxt;
    }
}
