//! Regular expressions in RE2's dialect, as Prometheus uses them: fully anchored, `.` matches newlines.
//!
//! [`crate::re2`] rewrites the dialect for the `regex` crate, whose time is linear in the text as RE2's is.
//! Finds what can be answered without running the expression: a finite set of literals, or a literal prefix.

use std::fmt;

use regex_syntax::hir::literal::{ExtractKind, Extractor};

use crate::re2;

/// Largest number of literals that [`Regex::literals`] reports.
const LITERALS_MAX: usize = 256;
/// Compiled size of one expression, bytes.
const COMPILED_BYTES_MAX: usize = 10 << 20;
/// How deep groups may nest.
const DEPTH_MAX: u32 = 500;

/// A compiled expression that matches whole strings.
#[derive(Clone)]
pub struct Regex {
    pattern: String,
    compiled: regex::Regex,
    /// Names of the groups, from the first; empty for those without.
    groups: Vec<String>,
    literals: Option<Vec<String>>,
    prefix: String,
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
        let (literals, prefix) = literal_facts(&translated.pattern);
        Ok(Self { pattern: pattern.to_owned(), compiled, groups: translated.groups, literals, prefix })
    }

    /// The pattern as given, without anchors.
    #[must_use]
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// Whether the whole of `text` matches.
    #[must_use]
    pub fn is_match(&self, text: &str) -> bool {
        if let Some(literals) = &self.literals {
            return literals.binary_search_by(|l| l.as_str().cmp(text)).is_ok();
        }
        text.starts_with(&self.prefix) && self.compiled.is_match(text)
    }

    /// All strings that match, sorted, when they are few and finite.
    #[must_use]
    pub fn literals(&self) -> Option<&[String]> {
        self.literals.as_deref()
    }

    /// What every matching string starts with; may be empty.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Appends to `out` the `template` with `$1`, `${1}`, `${name}` replaced by the groups of the match of `text`,
    /// as Go's `Expand` does. Answers whether `text` matched; `out` is untouched when not.
    pub fn expand(&self, text: &str, template: &str, out: &mut String) -> bool {
        let Some(captures) = self.compiled.captures(text) else {
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
        let named = self.groups.iter().enumerate().filter(|(_, group)| *group == name);
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

fn literal_facts(pattern: &str) -> (Option<Vec<String>>, String) {
    let nothing = (None, String::new());
    let Ok(hir) = regex_syntax::ParserBuilder::new().dot_matches_new_line(true).build().parse(pattern) else {
        return nothing;
    };
    // Anchors and word boundaries inside constrain what surrounds a literal; say nothing about those.
    if !hir.properties().look_set().is_empty() {
        return nothing;
    }
    let seq = Extractor::new().kind(ExtractKind::Prefix).limit_total(LITERALS_MAX).extract(&hir);
    let prefix = seq.longest_common_prefix().and_then(|p| std::str::from_utf8(p).ok()).unwrap_or("").to_owned();
    let literals = seq.is_exact().then(|| seq.literals()).flatten().and_then(|literals| {
        let mut out = literals
            .iter()
            .map(|l| std::str::from_utf8(l.as_bytes()).map(str::to_owned))
            .collect::<Result<Vec<_>, _>>()
            .ok()?;
        out.sort_unstable();
        out.dedup();
        Some(out)
    });
    (literals, prefix)
}

impl fmt::Debug for Regex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Regex({:?})", self.pattern)
    }
}

impl PartialEq for Regex {
    fn eq(&self, other: &Self) -> bool {
        self.pattern == other.pattern
    }
}

impl Eq for Regex {}

#[cfg(test)]
mod tests {
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
        let r = Regex::new("pod-.+").unwrap();
        assert_eq!((r.literals(), r.prefix()), (None, "pod-"));
        assert!(r.is_match("pod-1") && !r.is_match("pod-"));
        assert_eq!(Regex::new("^a$|b").unwrap().literals(), None);
        assert!(Regex::new("(?i)abc").unwrap().is_match("AbC"));
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
