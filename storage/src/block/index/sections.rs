//! Writes the sections of an index from what has been sorted and numbered: label names, their values, then series by
//! series, then the groups.

use super::super::section::{self, Kind};
use super::{
    FLAG_BITS, GROUPS_PER_RESTART, MASK_BITS, NEXT_COLUMN, SAME_NAMES, SERIES_PER_RESTART, VALUES_PER_RESTART,
};
use crate::wire::{Reader, put_bytes, put_varint, put_zigzag};

/// The finished index does not fit its format.
#[derive(Debug)]
pub(in crate::block) struct TooLarge;

/// A label name and its values, which are sorted.
pub(super) struct Name<'a> {
    pub(super) text: &'a str,
    pub(super) values: Vec<&'a str>,
}

/// The directory of groups.
#[derive(Clone, Copy)]
pub(super) struct Groups<'a> {
    pub(super) n: u32,
    /// Entries, each behind its length.
    pub(super) entries: &'a [u8],
    pub(super) n_pages: u64,
}

/// Takes the series in the order of their numbers.
pub(super) trait Rows {
    /// The next series: numbers of names and values, in the order of the names, and where its samples are.
    fn push(&mut self, labels: &[(u32, u32)], group: u32, column: u32) -> Result<(), TooLarge>;
}

/// Sections under construction.
pub(super) struct Sections {
    /// By name, then value; the last of a name are the series with any value.
    postings: Vec<Vec<Runs>>,
    table: SeriesTable,
    n_series: u32,
}

impl Sections {
    pub(super) fn new(names: &[Name<'_>]) -> Self {
        let lists = |name: &Name<'_>| std::iter::repeat_with(Runs::default).take(name.values.len() + 1).collect();
        let table = SeriesTable { restart_every: Some(SERIES_PER_RESTART), ..SeriesTable::default() };
        Self { postings: names.iter().map(lists).collect(), table, n_series: 0 }
    }

    /// Bytes so far, roughly.
    pub(super) fn len(&self) -> usize {
        self.table.bytes.len()
    }

    /// The bytes of the index file.
    pub(super) fn finish(self, names: &[Name<'_>], groups: Groups<'_>) -> Result<Vec<u8>, TooLarge> {
        let mut sections = Vec::new();
        let mut lens = Vec::new();
        for (name, lists) in names.iter().zip(&self.postings) {
            let start = sections.len();
            section::put(Kind::Dictionary, &dictionary(&name.values)?, &mut sections).ok_or(TooLarge)?;
            let middle = sections.len();
            section::put(Kind::Postings, &posting_lists(lists)?, &mut sections).ok_or(TooLarge)?;
            lens.push((middle - start, sections.len() - middle));
        }
        let start = sections.len();
        section::put(Kind::Series, &self.table.finish(), &mut sections).ok_or(TooLarge)?;
        let series_len = sections.len() - start;
        section::put(Kind::Groups, &directory(groups)?, &mut sections).ok_or(TooLarge)?;
        let groups_len = sections.len() - start - series_len;

        let mut contents = Vec::new();
        put_varint(&mut contents, u64::from(self.n_series));
        put_varint(&mut contents, u64::from(groups.n));
        put_varint(&mut contents, groups.n_pages);
        put_varint(&mut contents, names.len() as u64);
        for (name, (dictionary_len, postings_len)) in names.iter().zip(lens) {
            put_bytes(&mut contents, name.text.as_bytes());
            put_varint(&mut contents, name.values.len() as u64);
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
}

impl Rows for Sections {
    fn push(&mut self, labels: &[(u32, u32)], group: u32, column: u32) -> Result<(), TooLarge> {
        for &(name, value) in labels {
            let lists = &mut self.postings[name as usize];
            lists[value as usize].push(self.n_series);
            if let Some(any) = lists.last_mut() {
                any.push(self.n_series);
            }
        }
        self.n_series += 1;
        self.table.push(labels, group, column)
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
pub(super) struct SeriesTable {
    /// `None` for a table that is only read from its start.
    restart_every: Option<usize>,
    pub(super) bytes: Vec<u8>,
    restarts: Vec<u32>,
    n: usize,
    labels: Vec<(u32, u32)>,
    group: u32,
    column: u32,
}

impl SeriesTable {
    pub(super) fn push(&mut self, labels: &[(u32, u32)], group: u32, column: u32) -> Result<(), TooLarge> {
        if self.restart_every.is_some_and(|every| self.n.is_multiple_of(every)) {
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

fn dictionary(values: &[&str]) -> Result<Vec<u8>, TooLarge> {
    let (mut restarts, mut entries, mut last) = (Vec::new(), Vec::new(), "");
    for (i, value) in values.iter().enumerate() {
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

fn posting_lists(lists: &[Runs]) -> Result<Vec<u8>, TooLarge> {
    let (mut restarts, mut entries) = (Vec::new(), Vec::new());
    for (i, runs) in lists.iter().enumerate() {
        if i.is_multiple_of(VALUES_PER_RESTART) {
            restarts.push(u32::try_from(entries.len()).map_err(|_| TooLarge)?);
        }
        put_bytes(&mut entries, &runs.finish());
    }
    Ok(with_restarts(&restarts, &entries))
}

fn directory(groups: Groups<'_>) -> Result<Vec<u8>, TooLarge> {
    let mut restarts = Vec::new();
    let mut entries = Reader::new(groups.entries);
    for i in 0..groups.n as usize {
        if i.is_multiple_of(GROUPS_PER_RESTART) {
            restarts.push(u32::try_from(entries.offset()).map_err(|_| TooLarge)?);
        }
        entries.bytes().expect("as many entries as there are groups");
    }
    Ok(with_restarts(&restarts, groups.entries))
}
