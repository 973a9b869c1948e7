//! Builds an index while groups are added, then writes it in one piece.
//!
//! Memory grows with the number of series and label pairs, never with the number of samples.

use hashbrown::HashTable;
use promontory_model::{Labels, METRIC_NAME};
use rapidhash::v3::rapidhash_v3 as hash;

use super::super::section::{self, Kind};
use super::{
    FLAG_BITS, GROUPS_PER_RESTART, GroupEntry, MASK_BITS, NEXT_COLUMN, SAME_NAMES, SERIES_PER_RESTART,
    VALUES_PER_RESTART,
};
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
    groups: Vec<u8>,
    group_restarts: Vec<u32>,
    n_groups: u32,
}

/// The finished index does not fit its format.
#[derive(Debug)]
pub(in crate::block) struct TooLarge;

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
        if (self.n_groups as usize).is_multiple_of(GROUPS_PER_RESTART) {
            self.group_restarts.push(u32::try_from(self.groups.len()).map_err(|_| TooLarge)?);
        }
        self.n_groups += 1;
        let mut bytes = Vec::new();
        put_group(entry, &mut bytes);
        put_bytes(&mut self.groups, &bytes);
        Ok(())
    }

    /// The bytes of the index file.
    pub(in crate::block) fn finish(self, n_pages: u64) -> Result<Vec<u8>, TooLarge> {
        let order = Order::of(&self.pairs);
        let n_pairs = self.pairs.pairs.len();
        let mut postings: Vec<Runs> = Vec::new();
        postings.resize_with(n_pairs, Runs::default);
        let mut named: Vec<Runs> = Vec::new();
        named.resize_with(self.pairs.names.len(), Runs::default);
        let mut table = SeriesTable::default();
        let mut labels = Vec::new();
        for (number, i) in self.sorted_series(&order).into_iter().enumerate() {
            let series = &self.series[i as usize];
            let end = self.series.get(i as usize + 1).map_or(self.arena.len(), |s| s.pairs_start);
            labels.clear();
            for &pair in &self.arena[series.pairs_start..end] {
                let name = self.pairs.pairs[pair as usize].0;
                postings[pair as usize].push(number as u32);
                named[name as usize].push(number as u32);
                labels.push((order.name_rank[name as usize], order.value_rank[pair as usize]));
            }
            table.push(&labels, series.group, series.column)?;
        }
        let mut sections = Vec::new();
        let mut names = Vec::new();
        for &name in &order.names {
            let pairs = &order.pairs_of[name as usize];
            let values = pairs.iter().map(|p| self.pairs.pairs[*p as usize].1.as_str());
            let start = sections.len();
            section::put(Kind::Dictionary, &dictionary(values)?, &mut sections).ok_or(TooLarge)?;
            let middle = sections.len();
            let lists = pairs.iter().map(|p| &postings[*p as usize]).chain([&named[name as usize]]);
            section::put(Kind::Postings, &posting_lists(lists)?, &mut sections).ok_or(TooLarge)?;
            let text = self.pairs.names[name as usize].as_str();
            names.push((text, pairs.len(), middle - start, sections.len() - middle));
        }
        let start = sections.len();
        section::put(Kind::Series, &table.finish(), &mut sections).ok_or(TooLarge)?;
        let series_len = sections.len() - start;
        section::put(Kind::Groups, &with_restarts(&self.group_restarts, &self.groups), &mut sections)
            .ok_or(TooLarge)?;
        let groups_len = sections.len() - start - series_len;

        let mut contents = Vec::new();
        put_varint(&mut contents, self.series.len() as u64);
        put_varint(&mut contents, u64::from(self.n_groups));
        put_varint(&mut contents, n_pages);
        put_varint(&mut contents, names.len() as u64);
        for (name, n_values, dictionary_len, postings_len) in names {
            put_bytes(&mut contents, name.as_bytes());
            put_varint(&mut contents, n_values as u64);
            put_varint(&mut contents, dictionary_len as u64);
            put_varint(&mut contents, postings_len as u64);
        }
        put_varint(&mut contents, series_len as u64);
        put_varint(&mut contents, groups_len as u64);
        let mut out = Vec::with_capacity(contents.len() + sections.len() + section::HEAD_BYTES);
        section::put(Kind::Contents, &contents, &mut out).ok_or(TooLarge)?;
        out.extend_from_slice(&sections);
        Ok(out)
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

/// An ascending list of numbers as runs: gap to the end of the previous run with a bit for "longer than one", then the
/// length less two.
#[derive(Default)]
struct Runs {
    bytes: Vec<u8>,
    /// End of the last written run.
    written: u32,
    /// The run that still grows; empty at first.
    open: std::ops::Range<u32>,
}

impl Runs {
    fn push(&mut self, number: u32) {
        if self.open.is_empty() {
            self.open = number..number + 1;
        } else if number == self.open.end {
            self.open.end += 1;
        } else {
            let open = std::mem::replace(&mut self.open, number..number + 1);
            put_run(self.written, &open, &mut self.bytes);
            self.written = open.end;
        }
    }

    fn finish(&self) -> Vec<u8> {
        let mut out = self.bytes.clone();
        if !self.open.is_empty() {
            put_run(self.written, &self.open, &mut out);
        }
        out
    }
}

fn put_run(written: u32, run: &std::ops::Range<u32>, out: &mut Vec<u8>) {
    let len = run.end - run.start;
    put_varint(out, u64::from(run.start - written) << 1 | u64::from(len > 1));
    if len > 1 {
        put_varint(out, u64::from(len - 2));
    }
}

/// The table of series: each entry says what differs from the one before.
#[derive(Default)]
struct SeriesTable {
    bytes: Vec<u8>,
    restarts: Vec<u32>,
    n: usize,
    labels: Vec<(u32, u32)>,
    group: u32,
    column: u32,
}

impl SeriesTable {
    fn push(&mut self, labels: &[(u32, u32)], group: u32, column: u32) -> Result<(), TooLarge> {
        if self.n.is_multiple_of(SERIES_PER_RESTART) {
            self.restarts.push(u32::try_from(self.bytes.len()).map_err(|_| TooLarge)?);
            self.labels.clear();
            (self.group, self.column) = (0, 0);
        }
        self.n += 1;
        let same_names = labels.len() == self.labels.len()
            && !labels.is_empty()
            && labels.len() <= MASK_BITS
            && labels.iter().zip(&self.labels).all(|(a, b)| a.0 == b.0);
        let is_next = (group, Some(column)) == (self.group, self.column.checked_add(1));
        let flags = if is_next { NEXT_COLUMN } else { 0 };
        if same_names {
            let changed = |i: usize| labels[i].1 != self.labels[i].1;
            let mask = (0..labels.len()).filter(|i| changed(*i)).fold(0u64, |mask, i| mask | 1 << i);
            put_varint(&mut self.bytes, mask << FLAG_BITS | flags | SAME_NAMES);
            for i in (0..labels.len()).filter(|i| changed(*i)) {
                put_zigzag(&mut self.bytes, i64::from(labels[i].1) - i64::from(self.labels[i].1));
            }
        } else {
            put_varint(&mut self.bytes, (labels.len() as u64) << FLAG_BITS | flags);
            let mut next = 0;
            for (name, value) in labels {
                put_varint(&mut self.bytes, u64::from(name - next));
                put_varint(&mut self.bytes, u64::from(*value));
                next = name + 1;
            }
        }
        if !is_next {
            put_zigzag(&mut self.bytes, i64::from(group) - i64::from(self.group));
            put_zigzag(&mut self.bytes, i64::from(column) - i64::from(self.column));
        }
        self.labels.clear();
        self.labels.extend_from_slice(labels);
        (self.group, self.column) = (group, column);
        Ok(())
    }

    fn finish(self) -> Vec<u8> {
        with_restarts(&self.restarts, &self.bytes)
    }
}

/// Offsets of the restarts, then the entries.
fn with_restarts(restarts: &[u32], entries: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 * restarts.len() + entries.len());
    for r in restarts {
        out.extend_from_slice(&r.to_le_bytes());
    }
    out.extend_from_slice(entries);
    out
}

fn dictionary<'a>(values: impl Iterator<Item = &'a str>) -> Result<Vec<u8>, TooLarge> {
    let (mut restarts, mut entries, mut last) = (Vec::new(), Vec::new(), "");
    for (i, value) in values.enumerate() {
        if i.is_multiple_of(VALUES_PER_RESTART) {
            restarts.push(u32::try_from(entries.len()).map_err(|_| TooLarge)?);
            put_bytes(&mut entries, value.as_bytes());
        } else {
            let shared = last.bytes().zip(value.bytes()).take_while(|(a, b)| a == b).count();
            put_varint(&mut entries, shared as u64);
            put_bytes(&mut entries, &value.as_bytes()[shared..]);
        }
        last = value;
    }
    Ok(with_restarts(&restarts, &entries))
}

fn posting_lists<'a>(lists: impl Iterator<Item = &'a Runs>) -> Result<Vec<u8>, TooLarge> {
    let (mut restarts, mut entries) = (Vec::new(), Vec::new());
    for (i, runs) in lists.enumerate() {
        if i.is_multiple_of(VALUES_PER_RESTART) {
            restarts.push(u32::try_from(entries.len()).map_err(|_| TooLarge)?);
        }
        put_bytes(&mut entries, &runs.finish());
    }
    Ok(with_restarts(&restarts, &entries))
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
