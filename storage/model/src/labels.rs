//! Label sets: sorted by name, one name once, no empty values, immutable, one allocation each.
//!
//! The pairs lie in one shared string: name length, name, value length, value. Lengths are base-64 digits below
//! 0x80 with 0x40 as continuation, so that the whole buffer is valid UTF-8 and slicing needs no `unsafe`.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use crate::METRIC_NAME;

/// A set of label pairs; clones share the text.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Labels(Arc<str>);

impl Default for Labels {
    fn default() -> Self {
        Self::empty()
    }
}

impl Labels {
    /// The set with no labels.
    #[must_use]
    pub fn empty() -> Self {
        Self(Arc::from(""))
    }

    /// The set of these pairs, in any order. Empty values are left out; of a repeated name the last value stays.
    #[must_use]
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut builder = LabelsBuilder::new();
        for (name, value) in pairs {
            builder.set(name.as_ref(), value.as_ref());
        }
        builder.build()
    }

    /// The set of pairs that are already sorted by name, unique and without empty values; skips the sort.
    #[must_use]
    pub fn from_sorted<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut text = String::with_capacity(128);
        let mut last: Option<&str> = None;
        for (name, value) in pairs {
            debug_assert!(last.is_none_or(|l| l < name), "labels not sorted: {last:?} before {name:?}");
            debug_assert!(!value.is_empty(), "empty value of label {name:?}");
            last = Some(name);
            push_part(&mut text, name);
            push_part(&mut text, value);
        }
        Self(Arc::from(text))
    }

    /// Pairs in ascending order of name.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        Iter { rest: &self.0 }
    }

    /// The value of `name`, if the set has it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        for (n, v) in self.iter() {
            match n.cmp(name) {
                Ordering::Less => {}
                Ordering::Equal => return Some(v),
                Ordering::Greater => return None,
            }
        }
        None
    }

    /// The metric name, or empty.
    #[must_use]
    pub fn metric_name(&self) -> &str {
        self.get(METRIC_NAME).unwrap_or("")
    }

    /// Number of pairs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there are no pairs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The set without these names.
    #[must_use]
    pub fn without<S: AsRef<str>>(&self, names: &[S]) -> Self {
        self.filtered(|n| !names.iter().any(|x| x.as_ref() == n))
    }

    /// The set with only these names.
    #[must_use]
    pub fn only<S: AsRef<str>>(&self, names: &[S]) -> Self {
        self.filtered(|n| names.iter().any(|x| x.as_ref() == n))
    }

    /// The set without the metric name.
    #[must_use]
    pub fn without_name(&self) -> Self {
        if self.get(METRIC_NAME).is_none() { self.clone() } else { self.filtered(|n| n != METRIC_NAME) }
    }

    /// The set with the names for which `keep` answers true.
    #[must_use]
    pub fn filtered(&self, mut keep: impl FnMut(&str) -> bool) -> Self {
        Self::from_sorted(self.iter().filter(|(n, _)| keep(n)))
    }

    /// A builder that starts from this set.
    #[must_use]
    pub fn to_builder(&self) -> LabelsBuilder {
        LabelsBuilder { pairs: self.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect() }
    }

    /// The bytes of the canonical form: equal exactly when the sets are equal. For hashing; not a file format.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Bytes of memory that the text takes.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.0.len() + 2 * size_of::<usize>()
    }
}

fn push_part(text: &mut String, part: &str) {
    let mut len = part.len();
    loop {
        let digit = (len & 0x3f) as u8;
        len >>= 6;
        text.push(char::from(if len == 0 { digit } else { digit | 0x40 }));
        if len == 0 {
            break;
        }
    }
    text.push_str(part);
}

/// Iterator over the pairs of a label set, by ascending name.
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    rest: &'a str,
}

impl<'a> Iter<'a> {
    fn part(&mut self) -> &'a str {
        let mut len = 0;
        let mut shift = 0;
        let mut digits = 0;
        for byte in self.rest.bytes() {
            digits += 1;
            len |= usize::from(byte & 0x3f) << shift;
            shift += 6;
            if byte & 0x40 == 0 {
                break;
            }
        }
        let (part, rest) = self.rest[digits..].split_at(len);
        self.rest = rest;
        part
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let name = self.part();
        let value = self.part();
        Some((name, value))
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = (&'a str, &'a str);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Pair by pair, name before value; a set that is a prefix of another comes first. Prometheus sorts results so.
impl Ord for Labels {
    fn cmp(&self, other: &Self) -> Ordering {
        self.iter().cmp(other.iter())
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// `{__name__="up", job="x"}`, as Prometheus shows label sets in errors.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, (name, value)) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            if is_legacy_label_name(name) {
                write!(f, "{name}={}", Quoted(value))?;
            } else {
                write!(f, "{}={}", Quoted(name), Quoted(value))?;
            }
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Text in double quotes with Go's escapes, as Prometheus prints label values.
#[derive(Debug, Clone, Copy)]
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                '\x07' => f.write_str("\\a")?,
                '\x08' => f.write_str("\\b")?,
                '\x0c' => f.write_str("\\f")?,
                '\x0b' => f.write_str("\\v")?,
                c if (c as u32) < 0x20 || c as u32 == 0x7f => write!(f, "\\x{:02x}", c as u32)?,
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

/// Whether `name` is `[a-zA-Z_][a-zA-Z0-9_]*`, which needs no quotes.
#[must_use]
pub fn is_legacy_label_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Whether `name` is `[a-zA-Z_:][a-zA-Z0-9_:]*`, which needs no quotes.
#[must_use]
pub fn is_legacy_metric_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_' || b == b':')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
}

/// A label set under construction: change pairs, then [`LabelsBuilder::build`].
#[derive(Debug, Clone, Default)]
pub struct LabelsBuilder {
    /// Sorted by name.
    pairs: Vec<(String, String)>,
}

impl LabelsBuilder {
    /// No pairs yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `name` to `value`; an empty value removes it.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        match self.pairs.binary_search_by(|(n, _)| n.as_str().cmp(name)) {
            Ok(i) if value.is_empty() => {
                self.pairs.remove(i);
            }
            Ok(i) => value.clone_into(&mut self.pairs[i].1),
            Err(_) if value.is_empty() => {}
            Err(i) => self.pairs.insert(i, (name.to_owned(), value.to_owned())),
        }
        self
    }

    /// Removes `name`.
    pub fn remove(&mut self, name: &str) -> &mut Self {
        self.set(name, "")
    }

    /// Keeps the names for which `keep` answers true.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) -> &mut Self {
        self.pairs.retain(|(n, _)| keep(n));
        self
    }

    /// The value of `name`, if set.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.binary_search_by(|(n, _)| n.as_str().cmp(name)).ok().map(|i| self.pairs[i].1.as_str())
    }

    /// Pairs by ascending name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }

    /// The finished set.
    #[must_use]
    pub fn build(&self) -> Labels {
        Labels::from_sorted(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sets_are_canonical() {
        let a = Labels::from_pairs([("b", "2"), ("a", "1"), ("c", "")]);
        assert_eq!(a, Labels::from_pairs([("a", "1"), ("b", "2")]));
        assert_eq!(a.to_string(), r#"{a="1", b="2"}"#);
        assert_eq!(a.get("b"), Some("2"));
        assert_eq!(a.get("c"), None);
        assert_eq!(a.without(&["a"]).to_string(), r#"{b="2"}"#);
        assert_eq!(a.only(&["a"]).to_string(), r#"{a="1"}"#);
        assert!(Labels::empty().is_empty());
    }

    #[test]
    fn long_values_survive_the_length_digits() {
        for len in [1, 63, 64, 65, 4095, 4096, 300_000] {
            let value = "é".repeat(len);
            let set = Labels::from_pairs([("a", value.as_str()), ("z", "end")]);
            assert_eq!(set.get("a"), Some(value.as_str()));
            assert_eq!(set.get("z"), Some("end"));
        }
    }

    #[test]
    fn values_are_quoted_as_go_does() {
        assert_eq!(Quoted("a\"b\\c\nd\u{1}é").to_string(), "\"a\\\"b\\\\c\\nd\\x01é\"");
    }

    proptest! {
        #[test]
        fn behaves_like_a_sorted_map(pairs in proptest::collection::vec(("[a-z]{1,3}", "\\PC{0,70}"), 0..8)) {
            let mut map = std::collections::BTreeMap::new();
            for (n, v) in &pairs {
                if v.is_empty() { map.remove(n); } else { map.insert(n.clone(), v.clone()); }
            }
            let set = Labels::from_pairs(pairs.iter().map(|(n, v)| (n, v)));
            let got: Vec<_> = set.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
            prop_assert_eq!(got, map.into_iter().collect::<Vec<_>>());
            prop_assert_eq!(set.to_builder().build(), set);
        }
    }
}
