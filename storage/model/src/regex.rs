//! Regular expressions in RE2's dialect, as Prometheus uses them: fully anchored, `.` matches newlines.
//!
//! [`crate::re2`] rewrites the dialect for the `regex` crate, whose time is linear in the text as RE2's is.
//! [`crate::shape`] finds what can be answered without running the expression.

use std::fmt;
use std::sync::Arc;

use crate::re2;
use crate::shape::{self, Shape};

/// Compiled size of one expression, bytes.
const COMPILED_BYTES_MAX: usize = 10 << 20;
/// How deep groups may nest.
const DEPTH_MAX: u32 = 500;

/// A compiled expression that matches whole strings; clones share it.
#[derive(Clone)]
pub struct Regex(Arc<Inner>);

struct Inner {
    pattern: String,
    compiled: regex::Regex,
    /// Names of the groups, from the first; empty for those without.
    groups: Vec<String>,
    shape: Shape,
    prefixes: Vec<String>,
}

/// A pattern that does not compile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {reason}: `{part}`")]
pub struct RegexError {
    /// The pattern as given.
    pub pattern: String,
    /// The part of it that is wrong.
    pub part: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Regex {
    /// Compiles `pattern` as `^(?s:pattern)$`.
    ///
    /// # Errors
    /// [`RegexError`] when it is not valid, nests too deep or compiles to more than 10 MiB.
    pub fn new(pattern: &str) -> Result<Self, RegexError> {
        let translated = re2::translate(pattern).map_err(|e| RegexError {
            pattern: pattern.to_owned(),
            part: e.part,
            reason: e.reason.to_owned(),
        })?;
        let anchored = format!("^(?s:{})$", translated.pattern);
        let compiled =
            regex::RegexBuilder::new(&anchored).size_limit(COMPILED_BYTES_MAX).nest_limit(DEPTH_MAX).build().map_err(
                |e| RegexError { pattern: pattern.to_owned(), part: pattern.to_owned(), reason: short_reason(&e) },
            )?;
        let mut parser = regex_syntax::ParserBuilder::new().dot_matches_new_line(true).nest_limit(DEPTH_MAX).build();
        let (shape, prefixes) =
            parser.parse(&translated.pattern).map_or((Shape::Other, Vec::new()), |hir| shape::of(&hir));
        let pattern = pattern.to_owned();
        Ok(Self(Arc::new(Inner { pattern, compiled, groups: translated.groups, shape, prefixes })))
    }

    /// The pattern as given, without anchors.
    #[must_use]
    pub fn pattern(&self) -> &str {
        &self.0.pattern
    }

    /// Whether the whole of `text` matches.
    #[must_use]
    pub fn is_match(&self, text: &str) -> bool {
        match &self.0.shape {
            Shape::Literals(literals) => literals.binary_search_by(|l| l.as_str().cmp(text)).is_ok(),
            Shape::Globs(globs) => globs.is_match(text).unwrap_or_else(|| self.0.compiled.is_match(text)),
            Shape::Other => self.starts_well(text) && self.0.compiled.is_match(text),
        }
    }

    /// Whether `text` starts as some match does. The automaton answers the rest.
    fn starts_well(&self, text: &str) -> bool {
        let prefixes = &self.0.prefixes;
        // None is the start of another, so only the last that is not after `text` can be its start.
        let n_before = prefixes.partition_point(|p| p.as_str() <= text);
        prefixes.is_empty() || n_before.checked_sub(1).is_some_and(|i| text.starts_with(&prefixes[i]))
    }

    /// All strings that match, sorted, when they are few and finite.
    #[must_use]
    pub fn literals(&self) -> Option<&[String]> {
        if let Shape::Literals(literals) = &self.0.shape { Some(literals) } else { None }
    }

    /// Every match starts with one of these: sorted, none the start of another. Empty when nothing is known.
    #[must_use]
    pub fn prefixes(&self) -> &[String] {
        &self.0.prefixes
    }

    /// Whether every string that starts with one of [`Regex::prefixes`] matches.
    #[must_use]
    pub fn is_prefix_only(&self) -> bool {
        matches!(&self.0.shape, Shape::Globs(globs) if globs.is_prefix_only)
    }

    /// Whether every string matches, the empty one perhaps excepted, as in `.*` and `.+`.
    #[must_use]
    pub fn matches_all_nonempty(&self) -> bool {
        matches!(&self.0.shape, Shape::Globs(globs) if globs.matches_all_others)
    }

    /// Appends to `out` the `template` with `$1`, `${1}`, `${name}` replaced by the groups of the match of `text`,
    /// as Go's `Expand` does. Answers whether `text` matched; `out` is untouched when not.
    pub fn expand(&self, text: &str, template: &str, out: &mut String) -> bool {
        let Some(captures) = self.0.compiled.captures(text) else {
            return false;
        };
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                out.push('$');
                rest = after;
                continue;
            }
            let Some((name, after)) = reference(after) else {
                out.push('$');
                rest = after;
                continue;
            };
            if let Some(group) = self.group(name, &captures) {
                out.push_str(group.as_str());
            }
            rest = after;
        }
        out.push_str(rest);
        true
    }

    /// What the group of this number matched, or the first of this name that matched anything.
    fn group<'t>(&self, name: &str, captures: &regex::Captures<'t>) -> Option<regex::Match<'t>> {
        let is_number = name.bytes().all(|b| b.is_ascii_digit()) && (name == "0" || !name.starts_with('0'));
        if is_number {
            return captures.get(name.parse().ok()?);
        }
        let named = self.0.groups.iter().enumerate().filter(|(_, group)| *group == name);
        named.filter_map(|(i, _)| captures.get(i + 1)).next()
    }
}

/// The name after a `$` and what follows it: as many letters, digits and underscores as there are, or what stands in
/// braces. `None` when there is no name.
fn reference(text: &str) -> Option<(&str, &str)> {
    let (inside, braced) = match text.strip_prefix('{') {
        Some(inside) => (inside, true),
        None => (text, false),
    };
    let end = inside.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(inside.len());
    let (name, after) = inside.split_at(end);
    if name.is_empty() {
        return None;
    }
    if braced { after.strip_prefix('}').map(|after| (name, after)) } else { Some((name, after)) }
}

/// The last line of the compiler's report says what is wrong.
fn short_reason(e: &regex::Error) -> String {
    let text = e.to_string();
    text.lines().last().unwrap_or("").trim_start_matches("error: ").to_owned()
}

impl fmt::Debug for Regex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Regex({:?})", self.0.pattern)
    }
}

impl PartialEq for Regex {
    fn eq(&self, other: &Self) -> bool {
        self.0.pattern == other.0.pattern
    }
}

impl Eq for Regex {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn matches_are_anchored() {
        let r = Regex::new("a|b.*").unwrap();
        assert!(r.is_match("a") && r.is_match("b\nc") && !r.is_match("xa") && !r.is_match("ab"));
    }

    #[test]
    fn literal_sets_and_prefixes_are_found() {
        assert_eq!(Regex::new("api|web|db").unwrap().literals().unwrap(), ["api", "db", "web"]);
        assert_eq!(Regex::new("").unwrap().literals().unwrap(), [""]);
        assert_eq!(Regex::new("^a$|b").unwrap().literals().unwrap(), ["a", "b"]);
        let r = Regex::new("pod-.+").unwrap();
        assert_eq!((r.literals(), r.prefixes()), (None, &["pod-".to_owned()][..]));
        assert!(r.is_match("pod-1") && !r.is_match("pod-") && !r.is_prefix_only());
        assert!(Regex::new("pod-.*|web.*").unwrap().is_prefix_only());
        assert!(Regex::new(".+").unwrap().matches_all_nonempty());
        assert!(Regex::new("(?i)abc").unwrap().is_match("AbC"));
    }

    /// Patterns of the shapes that are answered without the automaton, and of their neighbours.
    fn pattern() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            4 => "[abkK]{1,3}",
            2 => Just(".*".to_owned()),
            1 => Just(".+".to_owned()),
            1 => Just(".".to_owned()),
            1 => Just(".?".to_owned()),
            1 => Just(".{2}".to_owned()),
            1 => Just("[ab]".to_owned()),
            1 => Just("[a-z]+".to_owned()),
            1 => Just("é".to_owned()),
            1 => Just("\\n".to_owned()),
            1 => Just("^".to_owned()),
            1 => Just("$".to_owned()),
            1 => Just("(?i:s)".to_owned()),
        ];
        leaf.prop_recursive(3, 24, 5, |inner| {
            prop_oneof![
                3 => proptest::collection::vec(inner.clone(), 1..5).prop_map(|parts| parts.concat()),
                2 => proptest::collection::vec(inner.clone(), 1..4).prop_map(|parts| format!("({})", parts.join("|"))),
                1 => inner.clone().prop_map(|part| format!("(?:{part})?")),
                1 => inner.prop_map(|part| format!("(?i:{part})")),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]
        #[test]
        fn shortcuts_answer_as_the_automaton(
            pattern in pattern(),
            texts in proptest::collection::vec("[abkKsS\\né\u{212a}\u{17f}]{0,7}", 24),
        ) {
            let r = Regex::new(&pattern).unwrap();
            let plain = regex::Regex::new(&format!("^(?s:{pattern})$")).unwrap();
            for text in texts.iter().map(String::as_str).chain([""]) {
                let expected = plain.is_match(text);
                prop_assert_eq!(r.is_match(text), expected, "{} on {:?}: {:?}", pattern, text, r.0.shape);
                let starts = r.prefixes().is_empty() || r.prefixes().iter().any(|p| text.starts_with(p.as_str()));
                prop_assert!(!expected || starts, "{} on {:?}: {:?}", pattern, text, r.prefixes());
                prop_assert!(!r.is_prefix_only() || starts == expected);
                prop_assert!(!r.matches_all_nonempty() || text.is_empty() || expected);
                prop_assert!(r.literals().is_none_or(|l| l.iter().any(|l| l == text) == expected));
            }
        }
    }

    #[track_caller]
    fn check_expand(pattern: &str, text: &str, template: &str, expected: &str) {
        let mut out = String::new();
        assert!(Regex::new(pattern).unwrap().expand(text, template, &mut out), "{pattern} should match {text}");
        assert_eq!(out, expected, "{template}");
    }

    #[test]
    fn templates_expand_as_in_go() {
        check_expand("(.*)-(.*)", "a-b", "$2/$1", "b/a");
        check_expand("(.*)", "x", "${1}abc $1abc", "xabc ");
        check_expand("(?P<n>.*)", "x", "$n ${n} $m.", "x x .");
        check_expand("(?P<1a>.*)", "x", "$1a", "x");
        check_expand("(.*)", "x", "$$1 $ ${1 $-", "$1 $ ${1 $-");
        check_expand("(a)|b", "b", "[$1]", "[]");
        check_expand("(?P<n>a)|(?P<n>b)", "b", "[$n]", "[b]");
        check_expand("(.*)", "x", "$0 $01 $9", "x  ");
        let mut out = String::from("kept");
        assert!(!Regex::new("a").unwrap().expand("b", "$0", &mut out) && out == "kept");
    }

    #[test]
    fn bad_patterns_say_why() {
        let e = Regex::new("(").unwrap_err().to_string();
        assert!(e.starts_with("error parsing regexp: ") && e.ends_with(": `(`"), "{e}");
    }
}
