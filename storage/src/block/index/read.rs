//! Reads an index: every part is checked on first touch, and what a part says is checked where it is used.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use promontory_model::{Cancel, Labels, ReadError};
use rapidhash::fast::RandomState;
use roaring::RoaringBitmap;

use super::super::section::{File, HEAD_BYTES, KIND_AT, Kind, Place};
use super::matching::Cache;
use super::{
    FLAG_BITS, GROUPS_PER_RESTART, GroupEntry, MASK_BITS, NEXT_COLUMN, Page, SAME_NAMES, SERIES_PER_RESTART, Span,
    VALUES_PER_RESTART, packed,
};
use crate::label_table::{LabelTable, NameId, PairId, SetId};
use crate::vfs::Mapped;
use crate::wire::{Reader, WireError};

/// One label name.
struct Name {
    text: String,
    n_values: usize,
    dictionary: Place,
    postings: Place,
}

/// An open index.
pub(crate) struct Index {
    path: PathBuf,
    bytes: Mapped,
    names: Vec<Name>,
    series: Place,
    groups: Place,
    pub(crate) n_series: u32,
    pub(crate) n_groups: u32,
    pub(crate) n_pages: u64,
    pub(super) cache: Cache,
}

/// One row of the table of series.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SeriesEntry {
    pub(crate) labels: Labels,
    pub(crate) group: u32,
    pub(crate) column: u32,
}

/// A label name in the table of a selection, and there its pairs by number of the value.
type NumberedName = (NameId, HashMap<u32, PairId, RandomState>);

/// One row of the table of series, its labels numbered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SetEntry {
    pub(crate) set: SetId,
    pub(crate) group: u32,
    pub(crate) column: u32,
}

impl Index {
    /// Whether the bytes are a packed index, which takes time to open.
    pub(crate) fn is_packed(bytes: &[u8]) -> bool {
        bytes.get(KIND_AT) == Some(&(Kind::Packed as u8))
    }

    /// Checks the CRC of a packed index.
    pub(crate) fn check_packed(path: &Path, bytes: &[u8]) -> Result<(), ReadError> {
        File { path, bytes }.section(Kind::Packed, 0, bytes.len()).map(|_| ())
    }

    /// Reads the table of contents, after it has unpacked a packed index; the rest is read when it is used. Offsets in
    /// errors then count in what was packed.
    pub(crate) fn open(path: &Path, bytes: Mapped) -> Result<Self, ReadError> {
        if !Self::is_packed(&bytes) {
            return Self::open_plain(path, bytes);
        }
        let file = File { path, bytes: &bytes };
        let body = file.section(Kind::Packed, 0, bytes.len())?;
        let plain = packed::unpack(body).map_err(|e| file.malformed(HEAD_BYTES, e))?;
        Self::open_plain(path, Mapped::owned(plain))
    }

    fn open_plain(path: &Path, bytes: Mapped) -> Result<Self, ReadError> {
        let file = File { path, bytes: &bytes };
        // The head says how long the first section is; the section's own check then covers the head.
        let head = bytes.get(..HEAD_BYTES).ok_or_else(|| {
            file.corrupt(0, "length of the index", format!("at least {HEAD_BYTES} bytes"), bytes.len())
        })?;
        let body_len = u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize;
        let contents_len = HEAD_BYTES.saturating_add(body_len);
        let body = file.section(Kind::Contents, 0, contents_len)?;
        let contents = Contents::parse(body, contents_len).map_err(|e| file.malformed(HEAD_BYTES, e))?;
        if contents.end != bytes.len() {
            return Err(file.corrupt(contents.end, "length of the index", contents.end, bytes.len()));
        }
        let Contents { names, series, groups, n_series, n_groups, n_pages, .. } = contents;
        Ok(Self {
            path: path.to_owned(),
            names,
            series,
            groups,
            n_series,
            n_groups,
            n_pages,
            bytes,
            cache: Cache::default(),
        })
    }

    fn file(&self) -> File<'_> {
        File { path: &self.path, bytes: &self.bytes }
    }

    /// Bytes of all dictionaries, all postings, the table of series and the directory of groups in a file of so many
    /// bytes: of a packed index their shares.
    pub(crate) fn section_bytes(&self, file_bytes: u64) -> [u64; 4] {
        let sum = |place: fn(&Name) -> &Place| self.names.iter().map(|n| place(n).len() as u64).sum();
        let plain = [sum(|n| &n.dictionary), sum(|n| &n.postings), self.series.len() as u64, self.groups.len() as u64];
        let share = file_bytes as f64 / self.bytes.len().max(1) as f64;
        plain.map(|bytes| (bytes as f64 * share) as u64)
    }

    /// Label names, sorted.
    pub(crate) fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.names.iter().map(|n| n.text.as_str())
    }

    /// Distinct values of the label name at this position.
    pub(crate) fn n_values(&self, name: usize) -> usize {
        self.names[name].n_values
    }

    /// Position of a label name.
    pub(crate) fn find_name(&self, name: &str) -> Option<usize> {
        self.names.binary_search_by(|n| n.text.as_str().cmp(name)).ok()
    }

    /// The values of one label name.
    pub(crate) fn dictionary(&self, name: usize) -> Result<Dictionary<'_>, ReadError> {
        let place = &self.names[name].dictionary;
        let file = self.file();
        let body = place.body(file)?;
        Ok(Dictionary { file, table: Table::new(file, place, body, self.names[name].n_values, VALUES_PER_RESTART)? })
    }

    /// The series of one value; those with any value of the name when `value` is the number of values.
    pub(crate) fn postings(&self, name: usize) -> Result<Postings<'_>, ReadError> {
        let place = &self.names[name].postings;
        let file = self.file();
        let body = place.body(file)?;
        let n = self.names[name].n_values + 1;
        let table = Table::new(file, place, body, n, VALUES_PER_RESTART)?;
        Ok(Postings { file, table, n_series: self.n_series })
    }

    /// All series.
    pub(crate) fn all(&self) -> RoaringBitmap {
        let mut out = RoaringBitmap::new();
        out.insert_range(0..self.n_series);
        out
    }

    /// Calls `f` for the series whose numbers are in `numbers`, ascending.
    pub(crate) fn for_series(
        &self,
        numbers: &RoaringBitmap,
        cancel: &Cancel,
        mut f: impl FnMut(u32, SeriesEntry),
    ) -> Result<(), ReadError> {
        let mut strings = Strings::new(self);
        self.for_rows(numbers, cancel, |number, row| {
            let labels = strings.labels(&row.labels)?;
            f(number, SeriesEntry { labels, group: row.group, column: row.column });
            Ok(())
        })
    }

    /// Calls `f` for the series whose numbers are in `numbers`, ascending, with the number that `table` gives to their
    /// labels.
    pub(crate) fn for_sets(
        &self,
        numbers: &RoaringBitmap,
        cancel: &Cancel,
        table: &mut LabelTable,
        mut f: impl FnMut(u32, SetEntry),
    ) -> Result<(), ReadError> {
        let mut strings = Strings::new(self);
        let mut names: Vec<Option<NumberedName>> = Vec::new();
        names.resize_with(self.names.len(), || None);
        let mut ids = Vec::new();
        self.for_rows(numbers, cancel, |number, row| {
            ids.clear();
            for &(name, value) in &row.labels {
                let known = names.get_mut(name as usize).and_then(Option::as_mut);
                if let Some(id) = known.as_ref().and_then(|(_, pairs)| pairs.get(&value)) {
                    ids.push(*id);
                    continue;
                }
                let text = strings.look_up(name, value)?;
                let of_name = match known {
                    Some(known) => known,
                    None => {
                        let id = table.name(&self.names[name as usize].text);
                        names[name as usize].insert((id, HashMap::default()))
                    }
                };
                let id = table.pair(of_name.0, text)?;
                of_name.1.insert(value, id);
                ids.push(id);
            }
            f(number, SetEntry { set: table.set(&ids)?, group: row.group, column: row.column });
            Ok(())
        })
    }

    /// Calls `f` for the rows of the table of series whose numbers are in `numbers`, ascending; looks up no text.
    pub(crate) fn for_rows(
        &self,
        numbers: &RoaringBitmap,
        cancel: &Cancel,
        mut f: impl FnMut(u32, &Row) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let file = self.file();
        let body = self.series.body(file)?;
        let table = Table::new(file, &self.series, body, self.n_series as usize, SERIES_PER_RESTART)?;
        let mut row = Row::default();
        // The row that would be read next at the reader's position.
        let mut position: Option<(u32, Reader<'_>)> = None;
        for number in numbers {
            let restart = number - number % SERIES_PER_RESTART as u32;
            let (mut at, mut reader) = match position {
                Some((at, reader)) if (restart..=number).contains(&at) => (at, reader),
                _ => (restart, table.seek(number as usize)?),
            };
            while at <= number {
                if at.is_multiple_of(SERIES_PER_RESTART as u32) {
                    row.restart();
                    cancel.check()?;
                }
                row.read(&mut reader).map_err(|e| table.malformed(e))?;
                at += 1;
            }
            position = Some((at, reader));
            if row.group >= self.n_groups {
                let limit = format!("below {}", self.n_groups);
                return Err(file.corrupt(self.series.body_offset(), "group of a series", limit, row.group));
            }
            f(number, &row)?;
        }
        Ok(())
    }

    /// Where the samples of a group lie. The sum of its pages is inside a file of `data_bytes` bytes.
    pub(crate) fn group(&self, group: u32, data_bytes: u64) -> Result<GroupEntry, ReadError> {
        let file = self.file();
        let body = self.groups.body(file)?;
        let table = Table::new(file, &self.groups, body, self.n_groups as usize, GROUPS_PER_RESTART)?;
        let bytes = table.entry(group as usize)?;
        let entry =
            parse_group(bytes, data_bytes, self.n_pages).map_err(|e| file.malformed(self.groups.body_offset(), e))?;
        if entry.n_columns > self.n_series as usize {
            let limit = format!("at most {}", self.n_series);
            return Err(file.corrupt(self.groups.body_offset(), "columns of a group", limit, entry.n_columns));
        }
        Ok(entry)
    }
}

struct Contents {
    names: Vec<Name>,
    series: Place,
    groups: Place,
    n_series: u32,
    n_groups: u32,
    n_pages: u64,
    end: usize,
}

impl Contents {
    fn parse(body: &[u8], contents_len: usize) -> Result<Self, WireError> {
        let mut r = Reader::new(body);
        let mut end = contents_len;
        // Every entry of a table takes a byte, so that no count can ask for more memory than the file has bytes.
        let mut place = |kind, n_entries: usize, r: &mut Reader<'_>| {
            let len = r.varint()?;
            if len < n_entries as u64 {
                return Err(r.error("entries of a section"));
            }
            let offset = end;
            let len = usize::try_from(len).map_err(|_| r.error("length of a section"))?;
            end = end.checked_add(len).ok_or_else(|| r.error("length of a section"))?;
            Ok(Place::new(kind, offset, len))
        };
        let (n_series, n_groups, n_pages) = (r.varint_u32()?, r.varint_u32()?, r.varint()?);
        let n_names = r.count(r.remaining())?;
        let mut names: Vec<Name> = Vec::with_capacity(n_names);
        for _ in 0..n_names {
            let text = r.str()?.to_owned();
            if names.last().is_some_and(|n| n.text >= text) {
                return Err(r.error("order of label names"));
            }
            let n_values = r.varint_u32()? as usize;
            let dictionary = place(Kind::Dictionary, n_values, &mut r)?;
            let postings = place(Kind::Postings, n_values, &mut r)?;
            names.push(Name { text, n_values, dictionary, postings });
        }
        let series = place(Kind::Series, n_series as usize, &mut r)?;
        let groups = place(Kind::Groups, n_groups as usize, &mut r)?;
        if !r.is_empty() {
            return Err(r.error("bytes left over"));
        }
        Ok(Self { names, series, groups, n_series, n_groups, n_pages, end })
    }
}

/// Entries with restarts.
struct Table<'a> {
    file: File<'a>,
    base: usize,
    restarts: &'a [u8],
    entries: &'a [u8],
    n: usize,
    per_restart: usize,
}

impl<'a> Table<'a> {
    fn new(file: File<'a>, place: &Place, body: &'a [u8], n: usize, per_restart: usize) -> Result<Self, ReadError> {
        let restarts_len = n.div_ceil(per_restart).saturating_mul(4);
        let base = place.body_offset();
        let Some((restarts, entries)) = body.split_at_checked(restarts_len) else {
            return Err(file.corrupt(base, "length of a table", format!("{restarts_len} bytes"), body.len()));
        };
        Ok(Self { file, base: base + restarts_len, restarts, entries, n, per_restart })
    }

    /// A reader at the restart before entry `i`. Its offsets count from the start of the entries.
    fn seek(&self, i: usize) -> Result<Reader<'a>, ReadError> {
        let mut r = Reader::new(self.restarts);
        let offset = r.slice(i / self.per_restart * 4).and_then(|_| r.u32()).map_err(|e| self.malformed(e))?;
        let mut entries = Reader::new(self.entries);
        entries.slice(offset as usize).map_err(|e| self.malformed(e))?;
        Ok(entries)
    }

    /// As [`Table::seek`], of a number that may be too large.
    fn seek_checked(&self, i: usize) -> Result<Reader<'a>, ReadError> {
        if i >= self.n {
            return Err(self.file.corrupt(self.base, "number of an entry", format!("below {}", self.n), i));
        }
        self.seek(i)
    }

    /// Entry `i` of a table whose entries carry their length.
    fn entry(&self, i: usize) -> Result<&'a [u8], ReadError> {
        let mut r = self.seek_checked(i)?;
        for _ in 0..i % self.per_restart {
            r.bytes().map_err(|e| self.malformed(e))?;
        }
        r.bytes().map_err(|e| self.malformed(e))
    }

    fn malformed(&self, e: WireError) -> ReadError {
        self.file.malformed(self.base, e)
    }
}

/// The sorted values of one label name.
pub(crate) struct Dictionary<'a> {
    file: File<'a>,
    table: Table<'a>,
}

impl Dictionary<'_> {
    /// Calls `f` for each value from number `from` until it answers false.
    pub(crate) fn scan(
        &self,
        from: usize,
        mut f: impl FnMut(usize, &str) -> Result<bool, ReadError>,
    ) -> Result<(), ReadError> {
        if from >= self.table.n {
            return Ok(());
        }
        let mut reader = self.table.seek(from)?;
        let mut value = Vec::new();
        for i in from - from % VALUES_PER_RESTART..self.table.n {
            self.next(i, &mut reader, &mut value)?;
            if i >= from && !f(i, self.text(&value)?)? {
                break;
            }
        }
        Ok(())
    }

    /// Value number `i` into `value`.
    fn get(&self, i: usize, value: &mut Vec<u8>) -> Result<(), ReadError> {
        let mut reader = self.table.seek(i)?;
        for k in i - i % VALUES_PER_RESTART..=i {
            self.next(k, &mut reader, value)?;
        }
        Ok(())
    }

    fn next(&self, i: usize, reader: &mut Reader<'_>, value: &mut Vec<u8>) -> Result<(), ReadError> {
        let mut read = || {
            if i.is_multiple_of(VALUES_PER_RESTART) {
                value.clear();
            } else {
                value.truncate(reader.count(value.len())?);
            }
            value.extend_from_slice(reader.bytes()?);
            Ok(())
        };
        read().map_err(|e| self.table.malformed(e))
    }

    fn text<'b>(&self, value: &'b [u8]) -> Result<&'b str, ReadError> {
        std::str::from_utf8(value).map_err(|_| {
            self.file.corrupt(self.table.base, "value of a label", "UTF-8", String::from_utf8_lossy(value))
        })
    }

    /// Number of the first value that is not less than `text`.
    fn lower_bound(&self, text: &[u8]) -> Result<usize, ReadError> {
        // The last restart whose value is at most `text`, then a walk.
        let (mut low, mut high) = (0, self.table.n.div_ceil(VALUES_PER_RESTART));
        let mut value = Vec::new();
        while low < high {
            let middle = low.midpoint(high);
            self.get(middle * VALUES_PER_RESTART, &mut value)?;
            if value.as_slice() <= text { low = middle + 1 } else { high = middle }
        }
        let start = low.saturating_sub(1) * VALUES_PER_RESTART;
        let end = (low * VALUES_PER_RESTART).min(self.table.n);
        if start >= end {
            return Ok(start);
        }
        let mut reader = self.table.seek(start)?;
        for i in start..end {
            self.next(i, &mut reader, &mut value)?;
            if value.as_slice() >= text {
                return Ok(i);
            }
        }
        Ok(end)
    }

    /// Numbers of the values that start with `prefix`.
    pub(super) fn prefix_range(&self, prefix: &str) -> Result<Range<usize>, ReadError> {
        // No text has this byte, so it comes after all that start with the prefix.
        let end = [prefix.as_bytes(), &[0xff]].concat();
        let from = self.lower_bound(prefix.as_bytes())?;
        Ok(from..self.lower_bound(&end)?.max(from))
    }

    /// Value number `i`, written to `buffer`.
    pub(super) fn value<'b>(&self, i: u32, buffer: &'b mut Vec<u8>) -> Result<&'b str, ReadError> {
        if i as usize >= self.table.n {
            let limit = format!("below {}", self.table.n);
            return Err(self.file.corrupt(self.table.base, "label value of a series", limit, i));
        }
        self.get(i as usize, buffer)?;
        self.text(buffer)
    }

    /// Calls `f` for the values with these numbers, ascending.
    pub(crate) fn for_values(
        &self,
        numbers: impl Iterator<Item = u32>,
        mut f: impl FnMut(&str),
    ) -> Result<(), ReadError> {
        let mut text = Vec::new();
        // The value that would be read next at the reader's position.
        let mut position: Option<(usize, Reader<'_>)> = None;
        for number in numbers {
            let number = number as usize;
            let restart = number - number % VALUES_PER_RESTART;
            let (mut at, mut reader) = match position {
                Some((at, reader)) if (restart..=number).contains(&at) => (at, reader),
                _ => (restart, self.table.seek_checked(number)?),
            };
            while at <= number {
                self.next(at, &mut reader, &mut text)?;
                at += 1;
            }
            position = Some((at, reader));
            f(self.text(&text)?);
        }
        Ok(())
    }

    pub(super) fn find(&self, text: &str) -> Result<Option<usize>, ReadError> {
        let i = self.lower_bound(text.as_bytes())?;
        if i >= self.table.n {
            return Ok(None);
        }
        let mut value = Vec::new();
        self.get(i, &mut value)?;
        Ok((value == text.as_bytes()).then_some(i))
    }
}

/// The series of each value of one label name.
pub(crate) struct Postings<'a> {
    file: File<'a>,
    table: Table<'a>,
    n_series: u32,
}

impl Postings<'_> {
    /// Adds the series of value number `value` to `out`.
    pub(crate) fn add(&self, value: usize, out: &mut RoaringBitmap) -> Result<(), ReadError> {
        self.runs(self.table.entry(value)?, |run| _ = out.insert_range(run))
    }

    /// Adds the series of all these values to `out`.
    pub(super) fn add_all(
        &self,
        values: &RoaringBitmap,
        cancel: &Cancel,
        out: &mut RoaringBitmap,
    ) -> Result<(), ReadError> {
        // A label with many values has few series each; these are sorted once rather than inserted one by one.
        let mut lone = Vec::new();
        let mut position: Option<(usize, Reader<'_>)> = None;
        for value in values {
            let value = value as usize;
            let restart = value - value % VALUES_PER_RESTART;
            let (mut at, mut reader) = match position {
                Some((at, reader)) if (restart..=value).contains(&at) => (at, reader),
                _ => {
                    cancel.check()?;
                    (restart, self.table.seek_checked(value)?)
                }
            };
            while at < value {
                reader.bytes().map_err(|e| self.table.malformed(e))?;
                at += 1;
            }
            let bytes = reader.bytes().map_err(|e| self.table.malformed(e))?;
            position = Some((at + 1, reader));
            self.runs(bytes, |run| {
                if run.len() == 1 {
                    lone.push(run.start);
                } else {
                    out.insert_range(run);
                }
            })?;
        }
        lone.sort_unstable();
        lone.dedup();
        // Ascending, as it has just been sorted.
        *out |= RoaringBitmap::from_sorted_iter(lone).unwrap_or_default();
        Ok(())
    }

    /// Calls `f` for the runs of series of one posting.
    fn runs(&self, bytes: &[u8], mut f: impl FnMut(Range<u32>)) -> Result<(), ReadError> {
        let mut r = Reader::new(bytes);
        let mut next = 0u64;
        while !r.is_empty() {
            let word = r.varint().map_err(|e| self.table.malformed(e))?;
            let start = next + (word >> 1);
            let len =
                if word & 1 == 1 { r.varint().map_err(|e| self.table.malformed(e))?.saturating_add(2) } else { 1 };
            let end = start.saturating_add(len);
            if end > u64::from(self.n_series) {
                let limit = format!("at most {}", self.n_series);
                return Err(self.file.corrupt(self.table.base, "series of a label value", limit, end));
            }
            f(start as u32..end as u32);
            next = end;
        }
        Ok(())
    }
}

/// A row of the table of series before its numbers are looked up.
#[derive(Default)]
pub(crate) struct Row {
    /// Numbers of name and value of each label.
    pub(crate) labels: Vec<(u32, u32)>,
    pub(crate) group: u32,
    pub(super) column: u32,
}

impl Row {
    fn restart(&mut self) {
        self.labels.clear();
        (self.group, self.column) = (0, 0);
    }

    /// Replaces this row by the next one.
    pub(super) fn read(&mut self, r: &mut Reader<'_>) -> Result<(), WireError> {
        let tag = r.varint()?;
        if tag & SAME_NAMES != 0 {
            let mask = tag >> FLAG_BITS;
            if mask >> self.labels.len().min(MASK_BITS) != 0 {
                return Err(r.error("changed labels of a series"));
            }
            for (i, (_, value)) in self.labels.iter_mut().enumerate().take(MASK_BITS) {
                if mask >> i & 1 == 1 {
                    *value = moved(*value, r)?;
                }
            }
        } else {
            self.labels.clear();
            let n = usize::try_from(tag >> FLAG_BITS).ok().filter(|n| *n <= r.remaining());
            let mut next = 0u32;
            for _ in 0..n.ok_or_else(|| r.error("number of labels"))? {
                let name = next.checked_add(r.varint_u32()?).ok_or_else(|| r.error("number of a label name"))?;
                next = name.checked_add(1).ok_or_else(|| r.error("number of a label name"))?;
                self.labels.push((name, r.varint_u32()?));
            }
        }
        if tag & NEXT_COLUMN != 0 {
            self.column = self.column.checked_add(1).ok_or_else(|| r.error("column of a series"))?;
        } else {
            self.group = moved(self.group, r)?;
            self.column = moved(self.column, r)?;
        }
        Ok(())
    }
}

fn moved(from: u32, r: &mut Reader<'_>) -> Result<u32, WireError> {
    let by = r.zigzag()?;
    i64::from(from).checked_add(by).and_then(|v| u32::try_from(v).ok()).ok_or_else(|| r.error("difference of numbers"))
}

/// Looks up the text of labels; remembers the last value per name, because neighbours share most.
struct Strings<'a> {
    index: &'a Index,
    dictionaries: Vec<Option<LastValue<'a>>>,
}

struct LastValue<'a> {
    dictionary: Dictionary<'a>,
    number: Option<u32>,
    text: Vec<u8>,
}

impl<'a> Strings<'a> {
    fn new(index: &'a Index) -> Self {
        let mut dictionaries = Vec::new();
        dictionaries.resize_with(index.names.len(), || None);
        Self { index, dictionaries }
    }

    /// The value `value` of the name `name`, both by number.
    fn look_up(&mut self, name: u32, value: u32) -> Result<&str, ReadError> {
        let LastValue { dictionary, text, .. } = self.load(name, value)?;
        dictionary.text(text)
    }

    /// Remembers a value whose text is valid.
    fn load(&mut self, name: u32, value: u32) -> Result<&LastValue<'a>, ReadError> {
        let file = self.index.file();
        let base = self.index.series.body_offset();
        let n_names = self.index.names.len();
        let Some(slot) = self.dictionaries.get_mut(name as usize) else {
            return Err(file.corrupt(base, "label name of a series", format!("below {n_names}"), name));
        };
        if slot.is_none() {
            let dictionary = self.index.dictionary(name as usize)?;
            *slot = Some(LastValue { dictionary, number: None, text: Vec::new() });
        }
        let last = slot.as_mut().expect("filled just now");
        let LastValue { dictionary, number, text } = last;
        if *number != Some(value) {
            if value as usize >= dictionary.table.n {
                let limit = format!("below {}", dictionary.table.n);
                return Err(file.corrupt(base, "label value of a series", limit, value));
            }
            *number = None;
            dictionary.get(value as usize, text)?;
            dictionary.text(text)?;
            if text.is_empty() {
                return Err(file.corrupt(dictionary.table.base, "value of a label", "text", "nothing"));
            }
            *number = Some(value);
        }
        Ok(last)
    }

    fn labels(&mut self, row: &[(u32, u32)]) -> Result<Labels, ReadError> {
        for &(name, value) in row {
            self.load(name, value)?;
        }
        let pairs = row.iter().filter_map(|(name, _)| {
            let text = &self.dictionaries[*name as usize].as_ref()?.text;
            Some((self.index.names[*name as usize].text.as_str(), std::str::from_utf8(text).ok()?))
        });
        Ok(Labels::from_sorted(pairs))
    }
}

fn parse_group(bytes: &[u8], data_bytes: u64, n_pages: u64) -> Result<GroupEntry, WireError> {
    let mut r = Reader::new(bytes);
    let n_columns = r.varint_u32()? as usize;
    let (data_offset, first_page) = (r.varint()?, r.varint()?);
    let n_spans = r.count(r.remaining())?;
    let mut out = GroupEntry { n_columns, data_offset, first_page, spans: Vec::with_capacity(n_spans) };
    let (mut data_end, mut pages_end) = (data_offset, first_page);
    let mut before: Option<i64> = None;
    for _ in 0..n_spans {
        let gap = r.zigzag()?;
        let mint = before.unwrap_or(0).wrapping_add(gap);
        let maxt = mint.wrapping_add(r.varint()? as i64);
        if maxt < mint || before.is_some_and(|b| b >= mint) {
            return Err(r.error("times of a span"));
        }
        before = Some(maxt);
        let rows = r.varint()?;
        let rows = usize::try_from(rows).ok().filter(|n| (1..=super::super::SPAN_ROWS_MAX).contains(n));
        let rows = rows.ok_or_else(|| r.error("rows of a span"))?;
        let n_span_pages = r.count(r.remaining())?;
        let mut pages = Vec::with_capacity(n_span_pages);
        let mut columns = 0usize;
        for _ in 0..n_span_pages {
            let len = r.varint_u32()? as usize;
            let page_columns = r.varint_u32()? as usize;
            columns = columns.saturating_add(page_columns);
            data_end = data_end.saturating_add(len as u64);
            pages.push(Page { len, n_columns: page_columns });
        }
        pages_end = pages_end.saturating_add(pages.len() as u64);
        if columns != n_columns || pages.is_empty() || data_end > data_bytes || pages_end > n_pages {
            return Err(r.error("pages of a span"));
        }
        out.spans.push(Span { mint, maxt, rows, pages });
    }
    if !r.is_empty() {
        return Err(r.error("bytes left over"));
    }
    Ok(out)
}
