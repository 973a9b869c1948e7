//! Regular expressions in RE2's dialect, as Prometheus uses them: fully anchored, `.` matches newlines.
//!
//! Finds what can be answered without running the expression: a finite set of literals, or a literal prefix.

use std::fmt;

use regex_syntax::hir::literal::{ExtractKind, Extractor};

/// Largest number of literals that [`Regex::literals`] reports.
const LITERALS_MAX: usize = 256;
/// Compiled size of one expression, bytes.
const COMPILED_BYTES_MAX: usize = 10 << 20;

/// A compiled expression that matches whole strings.
#[derive(Clone)]
pub struct Regex {
    pattern: String,
    compiled: regex::Regex,
    literals: Option<Vec<String>>,
    prefix: String,
}

/// A pattern that does not compile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {reason}: `{pattern}`")]
pub struct RegexError {
    /// The pattern as given.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Regex {
    /// Compiles `pattern` as `^(?s:pattern)$`.
    ///
    /// # Errors
    /// [`RegexError`] when it is not valid or compiles to more than 10 MiB.
    pub fn new(pattern: &str) -> Result<Self, RegexError> {
        let error = |reason: String| RegexError { pattern: pattern.to_owned(), reason };
        let anchored = format!("^(?s:{pattern})$");
        let compiled = regex::RegexBuilder::new(&anchored)
            .size_limit(COMPILED_BYTES_MAX)
            .build()
            .map_err(|e| error(short_reason(&e)))?;
        let (literals, prefix) = literal_facts(pattern);
        Ok(Self { pattern: pattern.to_owned(), compiled, literals, prefix })
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
        captures.expand(template, out);
        true
    }
}

/// The last line of the compiler's report says what is wrong.
fn short_reason(e: &regex::Error) -> String {
    let text = e.to_string();
    match text.lines().last().unwrap_or("").trim_start_matches("error: ") {
        "unclosed group" => "missing closing )".to_owned(),
        other => other.to_owned(),
    }
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

    #[test]
    fn bad_patterns_say_why() {
        let e = Regex::new("(").unwrap_err().to_string();
        assert!(e.starts_with("error parsing regexp: ") && e.ends_with(": `(`"), "{e}");
    }
}
