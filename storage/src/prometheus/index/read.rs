//! Reads an index through a memory map. Opening touches the header and the table of contents only; the strings and the
//! table of label pairs are walked once on first use, of which every few entries are remembered.

use std::path::Path;
use std::sync::OnceLock;

use promontory_model::{Cancel, Labels, MatchOp, Matcher, ReadError, Regex, TimeRange};
use roaring::RoaringBitmap;

use super::{ChunkMeta, HEADER_BYTES, INDEX_FILE, MAGIC, SERIES_ALIGN, TOC_BYTES};
use crate::prometheus::file::{CRC_BYTES, File, be32, be64};
use crate::vfs::Vfs;
use crate::wire::{Reader, WireError};

/// Every so many strings, one is remembered.
const SYMBOL_STEP: usize = 8;
/// Every so many values of a name, one is remembered.
const VALUE_STEP: usize = 16;
/// Names and values of one series together.
const LABELS_BYTES_MAX: usize = 16 << 20;
/// Values between two looks at the cancellation flag.
const CANCEL_STEP: usize = 256;

/// An open index.
#[derive(Debug)]
pub(in crate::prometheus) struct Index {
    file: File,
    /// In version 1, strings and series are referred to by their offsets, and label pairs are in no order.
    version: u8,
    symbols_offset: u64,
    table_offset: u64,
    symbols: OnceLock<Result<Symbols, ReadError>>,
    table: OnceLock<Result<Table, ReadError>>,
}

#[derive(Debug)]
struct Symbols {
    /// Offset of the first string, and of the end.
    base: usize,
    end: usize,
    n: usize,
    /// Offset of every eighth string behind `base`.
    marks: Vec<u32>,
}

/// Label pairs with the offsets of their series.
#[derive(Debug)]
struct Table {
    base: usize,
    end: usize,
    /// Sorted.
    names: Vec<Name>,
    /// Offsets of entries behind `base`, of each name apart: the first, and every `step`th after it.
    marks: Vec<u32>,
    step: usize,
}

#[derive(Debug)]
struct Name {
    text: String,
    first_mark: usize,
    n_values: usize,
}

/// A label pair and the offset of its series.
struct Entry<'a> {
    name: &'a str,
    value: &'a str,
    offset: u64,
}

fn entry<'a>(r: &mut Reader<'a>) -> Result<Entry<'a>, WireError> {
    if r.u8()? != 2 {
        return Err(r.error("label pair of other than two strings"));
    }
    Ok(Entry { name: r.str()?, value: r.str()?, offset: r.varint()? })
}

impl Index {
    pub(in crate::prometheus) fn open(vfs: &dyn Vfs, block: &Path) -> Result<Self, ReadError> {
        let file = File::open(vfs, &block.join(INDEX_FILE))?;
        let mut r = Reader::new(file.bytes());
        let head = be32(&mut r).and_then(|magic| Ok((magic, r.u8()?))).map_err(|e| file.malformed(0, e))?;
        let (magic, version) = head;
        if magic != MAGIC {
            return Err(file.corrupt(0, "header of the index", format!("{MAGIC:08x}"), format!("{magic:08x}")));
        }
        if !(1..=3).contains(&version) {
            return Err(file.corrupt(4, "version of the index", "1, 2 or 3", version));
        }
        let at = file.bytes().len().checked_sub(TOC_BYTES).filter(|at| *at >= HEADER_BYTES);
        let at = at.ok_or_else(|| file.corrupt(0, "length of the index", "57 at least", file.bytes().len()))?;
        let mut toc = Reader::new(file.checked(at, TOC_BYTES - CRC_BYTES)?);
        let mut offsets = [0; 6];
        for offset in &mut offsets {
            *offset = be64(&mut toc).map_err(|e| file.malformed(at, e))?;
        }
        let [symbols_offset, _, _, _, _, table_offset] = offsets;
        let (symbols, table) = (OnceLock::new(), OnceLock::new());
        Ok(Self { file, version, symbols_offset, table_offset, symbols, table })
    }

    pub(in crate::prometheus) fn bytes(&self) -> u64 {
        self.file.bytes().len() as u64
    }

    fn symbols(&self) -> Result<&Symbols, ReadError> {
        self.symbols.get_or_init(|| self.read_symbols()).as_ref().map_err(Clone::clone)
    }

    fn read_symbols(&self) -> Result<Symbols, ReadError> {
        let (start, body) = self.file.section(self.symbols_offset)?;
        let mut r = Reader::new(body);
        let malformed = |e| self.file.malformed(start, e);
        let n = be32(&mut r).map_err(malformed)? as usize;
        // Version 1 goes by offsets and needs no marks.
        let base = start + r.offset();
        let mut marks = Vec::new();
        if self.version != 1 {
            for i in 0..n {
                if i % SYMBOL_STEP == 0 {
                    marks.push((start + r.offset() - base) as u32);
                }
                r.bytes().map_err(malformed)?;
            }
        }
        Ok(Symbols { base, end: start + body.len(), n, marks })
    }

    fn symbol(&self, symbols: &Symbols, number: u32) -> Result<&str, ReadError> {
        let (at, skip) = if self.version == 1 {
            let at = (number as usize).clamp(symbols.base, symbols.end);
            (at, 0)
        } else {
            let number = number as usize;
            let mark = symbols.marks.get(number / SYMBOL_STEP).filter(|_| number < symbols.n);
            let mark = mark.ok_or_else(|| {
                self.file.corrupt(symbols.base, "number of a string", format!("below {}", symbols.n), number)
            })?;
            (symbols.base + *mark as usize, number % SYMBOL_STEP)
        };
        let mut r = Reader::new(&self.file.bytes()[at..symbols.end]);
        let mut read = || {
            for _ in 0..skip {
                r.bytes()?;
            }
            r.str()
        };
        read().map_err(|e| self.file.malformed(at, e))
    }

    fn table(&self) -> Result<&Table, ReadError> {
        self.table.get_or_init(|| self.read_table()).as_ref().map_err(Clone::clone)
    }

    fn read_table(&self) -> Result<Table, ReadError> {
        let (start, body) = self.file.section(self.table_offset)?;
        let mut r = Reader::new(body);
        let malformed = |e| self.file.malformed(start, e);
        let n = be32(&mut r).map_err(malformed)?;
        let base = start + r.offset();
        let mut table = Table { base, end: start + body.len(), names: Vec::new(), marks: Vec::new(), step: VALUE_STEP };
        if self.version == 1 {
            self.sort_entries(&mut table, n, r)?;
            return Ok(table);
        }
        let mut last = "";
        for _ in 0..n {
            let at = (start + r.offset() - base) as u32;
            let e = entry(&mut r).map_err(malformed)?;
            let order = table.names.last().map_or(std::cmp::Ordering::Less, |name| name.text.as_str().cmp(e.name));
            if order.is_gt() || order.is_eq() && last >= e.value {
                return Err(self.file.corrupt(base + at as usize, "order of label pairs", "ascending", e.value));
            }
            table.push(e.name, at);
            last = e.value;
        }
        Ok(table)
    }

    /// Version 1: remembers every entry, by name and value.
    fn sort_entries<'a>(&'a self, table: &mut Table, n: u32, mut r: Reader<'a>) -> Result<(), ReadError> {
        table.step = 1;
        let mut entries = Vec::new();
        let skipped = r.offset();
        for _ in 0..n {
            let at = (r.offset() - skipped) as u32;
            let e = entry(&mut r).map_err(|e| self.file.malformed(table.base - skipped, e))?;
            entries.push((e.name, e.value, at));
        }
        entries.sort_unstable();
        entries.dedup_by_key(|e| (e.0, e.1));
        entries.iter().for_each(|(name, _, at)| table.push(name, *at));
        Ok(())
    }

    fn entry_at(&self, table: &Table, mark: u32) -> Result<(Entry<'_>, usize), ReadError> {
        let at = table.base + mark as usize;
        let mut r = Reader::new(self.file.bytes().get(at..table.end).unwrap_or(&[]));
        let found = entry(&mut r).map_err(|e| self.file.malformed(at, e))?;
        Ok((found, r.offset()))
    }

    /// Calls `each` with the values of a name in ascending order and the offsets of their series, from the mark
    /// `first` on, until it answers false.
    fn scan<'a>(
        &'a self,
        table: &Table,
        name: &Name,
        first: usize,
        mut each: impl FnMut(&'a str, u64) -> Result<bool, ReadError>,
    ) -> Result<(), ReadError> {
        let mut at = 0;
        for i in first * table.step..name.n_values {
            if i % table.step == 0 {
                at = table.marks[name.first_mark + i / table.step];
            }
            let (e, len) = self.entry_at(table, at)?;
            at += len as u32;
            if !each(e.value, e.offset)? {
                break;
            }
        }
        Ok(())
    }

    /// Label names, ascending.
    pub(in crate::prometheus) fn names(&self) -> Result<impl Iterator<Item = &str>, ReadError> {
        Ok(self.table()?.names.iter().map(|n| n.text.as_str()).filter(|n| !n.is_empty()))
    }

    /// Calls `each` with the values of `name`, ascending, and their series, until it answers false.
    pub(in crate::prometheus) fn values<'a>(
        &'a self,
        name: &str,
        mut each: impl FnMut(&'a str, u64) -> Result<bool, ReadError>,
    ) -> Result<(), ReadError> {
        let table = self.table()?;
        match table.find(name) {
            Some(name) => self.scan(table, name, 0, &mut each),
            None => Ok(()),
        }
    }

    pub(in crate::prometheus) fn n_values(&self, name: &str) -> Result<usize, ReadError> {
        Ok(self.table()?.find(name).map_or(0, |n| n.n_values))
    }

    /// Offset of the series with this pair.
    fn find_pair(&self, name: &str, value: &str) -> Result<Option<u64>, ReadError> {
        let table = self.table()?;
        let Some(name) = table.find(name) else { return Ok(None) };
        // The last mark whose value is not behind the wanted one.
        let (mut low, mut high) = (0, name.n_values.div_ceil(table.step));
        while high - low > 1 {
            let middle = low.midpoint(high);
            let (e, _) = self.entry_at(table, table.marks[name.first_mark + middle])?;
            if e.value <= value { low = middle } else { high = middle }
        }
        let mut found = None;
        self.scan(table, name, low, |v, offset| {
            if v == value {
                found = Some(offset);
            }
            Ok(v < value)
        })?;
        Ok(found)
    }

    /// Adds the series of one list.
    pub(in crate::prometheus) fn add_postings(&self, offset: u64, out: &mut RoaringBitmap) -> Result<(), ReadError> {
        let (start, body) = self.file.section(offset)?;
        let mut r = Reader::new(body);
        let n = be32(&mut r).map_err(|e| self.file.malformed(start, e))? as usize;
        let list = r.slice(n.saturating_mul(4)).map_err(|e| self.file.malformed(start, e))?;
        let numbers = list.chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
        if out.is_empty() {
            *out = RoaringBitmap::from_sorted_iter(numbers)
                .map_err(|_| self.file.corrupt(start, "order of series", "ascending", "another"))?;
        } else {
            out.extend(numbers);
        }
        Ok(())
    }

    /// Series that pass all matchers.
    pub(in crate::prometheus) fn matching(
        &self,
        matchers: &[Matcher],
        cancel: &Cancel,
    ) -> Result<RoaringBitmap, ReadError> {
        let mut out: Option<RoaringBitmap> = None;
        // First what narrows the answer, then what takes away from it.
        for m in matchers.iter().filter(|m| !m.matches_empty()) {
            let mut found = RoaringBitmap::new();
            match (m.op(), m.regex().and_then(Regex::literals)) {
                (MatchOp::Equal, _) => self.add_pairs(m.name(), &[m.value()], &mut found)?,
                (MatchOp::Regex, Some(words)) => self.add_pairs(m.name(), words, &mut found)?,
                _ => self.add_values(m.name(), |v| m.matches(v), cancel, &mut found)?,
            }
            out = Some(out.map_or_else(|| found.clone(), |all| all & &found));
            if out.as_ref().is_some_and(RoaringBitmap::is_empty) {
                return Ok(RoaringBitmap::new());
            }
        }
        let mut out = match out {
            Some(out) => out,
            None => self.all()?,
        };
        for m in matchers.iter().filter(|m| m.matches_empty()) {
            let mut against = RoaringBitmap::new();
            match (m.op(), m.regex().and_then(Regex::literals)) {
                (MatchOp::NotEqual, _) => self.add_pairs(m.name(), &[m.value()], &mut against)?,
                (MatchOp::NotRegex, Some(words)) => self.add_pairs(m.name(), words, &mut against)?,
                _ => self.add_values(m.name(), |v| !m.matches(v), cancel, &mut against)?,
            }
            out -= against;
        }
        Ok(out)
    }

    fn add_pairs(&self, name: &str, values: &[impl AsRef<str>], out: &mut RoaringBitmap) -> Result<(), ReadError> {
        for value in values.iter().map(AsRef::as_ref).filter(|v| !v.is_empty()) {
            if let Some(offset) = self.find_pair(name, value)? {
                self.add_postings(offset, out)?;
            }
        }
        Ok(())
    }

    fn all(&self) -> Result<RoaringBitmap, ReadError> {
        let mut all = RoaringBitmap::new();
        if let Some(offset) = self.find_pair("", "")? {
            self.add_postings(offset, &mut all)?;
        }
        Ok(all)
    }

    fn add_values(
        &self,
        name: &str,
        wanted: impl Fn(&str) -> bool,
        cancel: &Cancel,
        out: &mut RoaringBitmap,
    ) -> Result<(), ReadError> {
        let mut n = 0usize;
        self.values(name, |value, offset| {
            n += 1;
            if n.is_multiple_of(CANCEL_STEP) {
                cancel.check()?;
            }
            if wanted(value) {
                self.add_postings(offset, out)?;
            }
            Ok(true)
        })
    }

    /// Adds the chunks of a series that overlap `range` to `chunks`. Gives its labels unless that are none.
    pub(in crate::prometheus) fn series(
        &self,
        reference: u32,
        range: TimeRange,
        chunks: &mut Vec<ChunkMeta>,
    ) -> Result<Option<Labels>, ReadError> {
        let (start, mut r) = self.series_body(reference)?;
        let malformed = |e| self.file.malformed(start, e);
        let labels = r;
        let n_labels = r.varint().map_err(malformed)?;
        for _ in 0..n_labels {
            r.varint().and_then(|_| r.varint()).map_err(malformed)?;
        }
        let before = chunks.len();
        let n_chunks = r.varint().map_err(malformed)?;
        let (mut last_maxt, mut last_reference) = (0i64, 0i64);
        for i in 0..n_chunks {
            let mut read = || {
                let mint = if i == 0 { r.zigzag()? } else { last_maxt.wrapping_add_unsigned(r.varint()?) };
                let maxt = mint.wrapping_add_unsigned(r.varint()?);
                let step = if i == 0 { r.varint()?.cast_signed() } else { r.zigzag()? };
                Ok((mint, maxt, last_reference.wrapping_add(step)))
            };
            let (mint, maxt, reference) = read().map_err(malformed)?;
            (last_maxt, last_reference) = (maxt, reference);
            if TimeRange::new(mint, maxt).overlaps(range) {
                chunks.push(ChunkMeta { mint, maxt, reference: reference.cast_unsigned() });
            }
        }
        if chunks.len() == before { Ok(None) } else { self.labels_of(start, labels).map(Some) }
    }

    /// The labels of a series.
    pub(in crate::prometheus) fn labels(&self, reference: u32) -> Result<Labels, ReadError> {
        let (start, r) = self.series_body(reference)?;
        self.labels_of(start, r)
    }

    fn series_body(&self, reference: u32) -> Result<(usize, Reader<'_>), ReadError> {
        let offset = u64::from(reference) * if self.version == 1 { 1 } else { SERIES_ALIGN };
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        let mut r = Reader::new(self.file.after(offset));
        let len = r.varint().map_err(|e| self.file.malformed(at, e))?;
        let start = at + r.offset();
        let body = self.file.checked(start, usize::try_from(len).unwrap_or(usize::MAX))?;
        Ok((start, Reader::new(body)))
    }

    fn labels_of(&self, start: usize, mut r: Reader<'_>) -> Result<Labels, ReadError> {
        let symbols = self.symbols()?;
        let malformed = |e| self.file.malformed(start, e);
        let n = r.varint().map_err(malformed)?;
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        let mut bytes = 0usize;
        for _ in 0..n {
            let (name, value) = r.varint_u32().and_then(|n| Ok((n, r.varint_u32()?))).map_err(malformed)?;
            let (name, value) = (self.symbol(symbols, name)?, self.symbol(symbols, value)?);
            bytes += name.len() + value.len();
            if bytes > LABELS_BYTES_MAX {
                return Err(self.file.corrupt(
                    start,
                    "bytes of a label set",
                    format!("at most {LABELS_BYTES_MAX}"),
                    bytes,
                ));
            }
            pairs.push((name, value));
        }
        let is_canonical = pairs.windows(2).all(|w| w[0].0 < w[1].0) && pairs.iter().all(|(_, v)| !v.is_empty());
        // Some writers have stored labels in another order.
        Ok(if is_canonical { Labels::from_sorted(pairs) } else { Labels::from_pairs(pairs) })
    }
}

impl Table {
    /// Adds an entry; its name is the last one or comes behind.
    fn push(&mut self, name: &str, at: u32) {
        if self.names.last().is_none_or(|n| n.text != name) {
            self.names.push(Name { text: name.to_owned(), first_mark: self.marks.len(), n_values: 0 });
        }
        let name = self.names.last_mut().expect("pushed just now");
        if name.n_values.is_multiple_of(self.step) {
            self.marks.push(at);
        }
        name.n_values += 1;
    }

    fn find(&self, name: &str) -> Option<&Name> {
        self.names.binary_search_by(|n| n.text.as_str().cmp(name)).ok().map(|i| &self.names[i])
    }
}
