//! Which series of a block pass matchers: matchers to values of dictionaries, values to postings.
//!
//! Each matcher is decided once per value of its label, not per series, and where that can be said without it, without
//! looking at the values: words are looked up, prefixes are ranges. Where only a few series are left, their own values
//! are asked. Values that a pattern selects in a large dictionary are remembered.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use promontory_model::{Cancel, MatchOp, Matcher, ReadError, Regex};
use roaring::RoaringBitmap;

use super::VALUES_PER_RESTART;
use super::read::{Dictionary, Index};

/// Dictionaries with fewer values are not worth remembering what a pattern selects in them.
const CACHED_VALUES_MIN: usize = 1024;
/// Bytes of remembered selections of one block.
const CACHE_BYTES_MAX: usize = 1 << 20;
/// Decoding the row of a series and comparing its value costs about as much as this many values of a dictionary.
const VALUES_PER_ROW: u64 = 16;

/// Values that patterns select, newest last.
#[derive(Debug, Default)]
pub(crate) struct Cache(Mutex<VecDeque<Cached>>);

#[derive(Debug)]
struct Cached {
    name: usize,
    pattern: String,
    values: Arc<RoaringBitmap>,
}

impl Cached {
    fn bytes(&self) -> usize {
        self.pattern.len() + self.values.serialized_size() + size_of::<Self>()
    }
}

impl Cache {
    fn get(&self, name: usize, pattern: &str) -> Option<Arc<RoaringBitmap>> {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = list.iter().position(|c| c.name == name && c.pattern == pattern)?;
        let found = list.remove(at)?;
        let values = Arc::clone(&found.values);
        list.push_back(found);
        Some(values)
    }

    fn put(&self, name: usize, pattern: &str, values: &Arc<RoaringBitmap>) {
        let new = Cached { name, pattern: pattern.to_owned(), values: Arc::clone(values) };
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = list.iter().map(Cached::bytes).sum::<usize>() + new.bytes();
        while bytes > CACHE_BYTES_MAX {
            let Some(oldest) = list.pop_front() else { return };
            bytes -= oldest.bytes();
        }
        list.push_back(new);
    }
}

enum Passing {
    Only(RoaringBitmap),
    AllBut(RoaringBitmap),
}

impl Index {
    /// The series that pass all matchers.
    pub(crate) fn matching(&self, matchers: &[Matcher], cancel: &Cancel) -> Result<RoaringBitmap, ReadError> {
        let mut out: Option<RoaringBitmap> = None;
        // Equality is cheapest and most selective; the rest need not run once nothing is left.
        let mut order: Vec<(u64, &Matcher)> = matchers.iter().map(|m| (self.cost(m), m)).collect();
        order.sort_by_key(|(cost, _)| *cost);
        for (cost, m) in order {
            cancel.check()?;
            if let (Some(left), Some(name)) = (&mut out, self.find_name(m.name()))
                && left.len().saturating_mul(VALUES_PER_ROW) < cost
            {
                *left = self.filter(left, name, m, cancel)?;
            } else {
                match (&mut out, self.passing(m, cancel)?) {
                    (Some(left), Passing::Only(bits)) => *left &= bits,
                    (Some(left), Passing::AllBut(bits)) => *left -= bits,
                    (None, Passing::Only(bits)) => out = Some(bits),
                    (None, Passing::AllBut(bits)) => out = Some(self.all() - bits),
                }
            }
            if out.as_ref().is_some_and(RoaringBitmap::is_empty) {
                break;
            }
        }
        Ok(out.unwrap_or_else(|| self.all()))
    }

    /// Roughly how many values of a dictionary a matcher looks at.
    fn cost(&self, m: &Matcher) -> u64 {
        let Some(name) = self.find_name(m.name()) else { return 0 };
        let n_values = self.n_values(name) as u64;
        let looked_up = |n: usize| (n as u64).min(n_values);
        match (m.op(), m.regex()) {
            (MatchOp::Equal, _) if !m.value().is_empty() => 1,
            (_, Some(regex)) => regex.literals().map_or(n_values, |l| looked_up(l.len()).saturating_add(1)),
            _ => 2,
        }
    }

    /// Those of `series` that pass, by their own values.
    fn filter(
        &self,
        series: &RoaringBitmap,
        name: usize,
        m: &Matcher,
        cancel: &Cancel,
    ) -> Result<RoaringBitmap, ReadError> {
        let dictionary = self.dictionary(name)?;
        let empty_passes = m.matches_empty();
        let mut text = Vec::new();
        // Neighbours often have the same value.
        let mut last: Option<(u32, bool)> = None;
        let mut out = RoaringBitmap::new();
        self.for_rows(series, cancel, |number, row| {
            let value = row.labels.iter().find(|(n, _)| *n as usize == name).map(|(_, value)| *value);
            let passes = match (value, last) {
                (None, _) => empty_passes,
                (Some(value), Some((known, passes))) if known == value => passes,
                (Some(value), _) => {
                    let passes = m.matches(dictionary.value(value, &mut text)?);
                    last = Some((value, passes));
                    passes
                }
            };
            if passes {
                out.insert(number);
            }
            Ok(())
        })?;
        Ok(out)
    }

    fn passing(&self, m: &Matcher, cancel: &Cancel) -> Result<Passing, ReadError> {
        let empty_passes = m.matches_empty();
        let Some(name) = self.find_name(m.name()) else {
            let none = RoaringBitmap::new();
            return Ok(if empty_passes { Passing::AllBut(none) } else { Passing::Only(none) });
        };
        let postings = self.postings(name)?;
        let n_values = self.n_values(name);
        let values = self.matching_values(name, m, cancel)?;
        // Of the values that pass and those that do not, the fewer lists are read.
        let few_pass = values.len() * 2 <= n_values as u64;
        let selected = if few_pass { values } else { complement(&values, n_values) };
        let mut union = RoaringBitmap::new();
        postings.add_all(&selected, cancel, &mut union)?;
        if few_pass == empty_passes {
            // Either the few that pass beside the series without the label, or all with the label but the few that
            // do not pass.
            let mut named = RoaringBitmap::new();
            postings.add(n_values, &mut named)?;
            named -= union;
            return Ok(if few_pass { Passing::AllBut(named) } else { Passing::Only(named) });
        }
        Ok(if few_pass { Passing::Only(union) } else { Passing::AllBut(union) })
    }

    /// Numbers of the values of a label that pass.
    fn matching_values(&self, name: usize, m: &Matcher, cancel: &Cancel) -> Result<RoaringBitmap, ReadError> {
        let n = self.n_values(name);
        let found = match m.regex() {
            None => self.looked_up(name, std::iter::once(m.value()))?,
            Some(regex) => match regex.literals() {
                Some(literals) => self.looked_up(name, literals.iter().map(String::as_str))?,
                None => self.selected(name, regex, cancel)?,
            },
        };
        let negated = matches!(m.op(), MatchOp::NotEqual | MatchOp::NotRegex);
        Ok(if negated { complement(&found, n) } else { found })
    }

    fn looked_up<'a>(&self, name: usize, texts: impl Iterator<Item = &'a str>) -> Result<RoaringBitmap, ReadError> {
        let dictionary = self.dictionary(name)?;
        let mut found = RoaringBitmap::new();
        for text in texts {
            if let Some(value) = dictionary.find(text)? {
                found.insert(value as u32);
            }
        }
        Ok(found)
    }

    /// Numbers of the values that match a pattern.
    fn selected(&self, name: usize, regex: &Regex, cancel: &Cancel) -> Result<RoaringBitmap, ReadError> {
        let dictionary = self.dictionary(name)?;
        let n = self.n_values(name);
        let mut found = RoaringBitmap::new();
        if regex.matches_all_nonempty() {
            found.insert_range(0..n as u32);
            return Ok(found);
        }
        let ranges = if regex.prefixes().is_empty() {
            std::iter::once(0..n).collect::<Vec<_>>()
        } else {
            regex.prefixes().iter().map(|p| dictionary.prefix_range(p)).collect::<Result<_, _>>()?
        };
        if regex.is_prefix_only() {
            ranges.into_iter().for_each(|r| _ = found.insert_range(r.start as u32..r.end as u32));
            return Ok(found);
        }
        let is_cached = ranges.iter().map(ExactSizeIterator::len).sum::<usize>() >= CACHED_VALUES_MIN;
        if is_cached && let Some(known) = self.cache.get(name, regex.pattern()) {
            return Ok((*known).clone());
        }
        for range in ranges {
            scan(&dictionary, range, regex, cancel, &mut found)?;
        }
        if is_cached {
            self.cache.put(name, regex.pattern(), &Arc::new(found.clone()));
        }
        Ok(found)
    }

    /// Numbers of the values of a label that `series` have.
    pub(crate) fn values_of(
        &self,
        name: usize,
        series: &RoaringBitmap,
        cancel: &Cancel,
    ) -> Result<RoaringBitmap, ReadError> {
        let mut out = RoaringBitmap::new();
        // Of few series each row is read; of many, it is asked of each value whether a series has it.
        if series.len() < self.n_values(name) as u64 {
            self.for_rows(series, cancel, |_, row| {
                out.extend(row.labels.iter().find(|(n, _)| *n as usize == name).map(|(_, value)| *value));
                Ok(())
            })?;
            return Ok(out);
        }
        let postings = self.postings(name)?;
        let mut of_value = RoaringBitmap::new();
        for value in 0..self.n_values(name) {
            cancel.check()?;
            of_value.clear();
            postings.add(value, &mut of_value)?;
            if !of_value.is_disjoint(series) {
                out.insert(value as u32);
            }
        }
        Ok(out)
    }
}

fn scan(
    dictionary: &Dictionary<'_>,
    range: std::ops::Range<usize>,
    regex: &Regex,
    cancel: &Cancel,
    found: &mut RoaringBitmap,
) -> Result<(), ReadError> {
    dictionary.scan(range.start, |i, value| {
        if i >= range.end {
            return Ok(false);
        }
        if i.is_multiple_of(VALUES_PER_RESTART) {
            cancel.check()?;
        }
        if regex.is_match(value) {
            found.insert(i as u32);
        }
        Ok(true)
    })
}

fn complement(values: &RoaringBitmap, n_values: usize) -> RoaringBitmap {
    let mut all = RoaringBitmap::new();
    all.insert_range(0..u32::try_from(n_values).unwrap_or(u32::MAX));
    all - values
}
