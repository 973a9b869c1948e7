//! Label matchers: `=`, `!=`, `=~`, `!~` on one label. A label that is missing has the empty value.

use std::fmt;

use crate::labels::{Labels, Quoted, is_legacy_label_name};
use crate::regex::{Regex, RegexError};

/// The four ways to compare a label value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    Regex,
    /// `!~`
    NotRegex,
}

impl MatchOp {
    /// The operator as written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Regex => "=~",
            Self::NotRegex => "!~",
        }
    }
}

/// A condition on one label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matcher {
    name: String,
    op: MatchOp,
    value: String,
    regex: Option<Regex>,
}

impl Matcher {
    /// A matcher; compiles `value` for the two regex operators.
    ///
    /// # Errors
    /// [`RegexError`] when `value` is not a valid expression.
    pub fn new(name: &str, op: MatchOp, value: &str) -> Result<Self, RegexError> {
        let regex = match op {
            MatchOp::Equal | MatchOp::NotEqual => None,
            MatchOp::Regex | MatchOp::NotRegex => Some(Regex::new(value)?),
        };
        Ok(Self { name: name.to_owned(), op, value: value.to_owned(), regex })
    }

    /// `name = value`.
    #[must_use]
    pub fn equal(name: &str, value: &str) -> Self {
        Self { name: name.to_owned(), op: MatchOp::Equal, value: value.to_owned(), regex: None }
    }

    /// The label.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The operator.
    #[must_use]
    pub fn op(&self) -> MatchOp {
        self.op
    }

    /// The value or pattern as written.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// The compiled pattern of the regex operators.
    #[must_use]
    pub fn regex(&self) -> Option<&Regex> {
        self.regex.as_ref()
    }

    /// Whether this label value passes; missing labels are asked as `""`.
    #[must_use]
    pub fn matches(&self, value: &str) -> bool {
        match (self.op, &self.regex) {
            (MatchOp::Equal, _) => self.value == value,
            (MatchOp::NotEqual, _) => self.value != value,
            (MatchOp::Regex, Some(r)) => r.is_match(value),
            (MatchOp::NotRegex, Some(r)) => !r.is_match(value),
            (MatchOp::Regex | MatchOp::NotRegex, None) => unreachable!("regex matchers hold their expression"),
        }
    }

    /// Whether a series without the label passes.
    #[must_use]
    pub fn matches_empty(&self) -> bool {
        self.matches("")
    }

    /// Whether the label set passes.
    #[must_use]
    pub fn matches_labels(&self, labels: &Labels) -> bool {
        self.matches(labels.get(&self.name).unwrap_or(""))
    }
}

/// `text` in quotes so that a query may hold it, where the replacement character stands for bytes that are no text.
fn quoted(text: &str) -> String {
    Quoted(text).to_string().replace(char::REPLACEMENT_CHARACTER, "\\ufffd")
}

/// `name=~"value"`, as PromQL writes it.
impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_legacy_label_name(&self.name) {
            f.write_str(&self.name)?;
        } else {
            f.write_str(&quoted(&self.name))?;
        }
        write!(f, "{}{}", self.op.as_str(), quoted(&self.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(op: MatchOp, pattern: &str, yes: &[&str], no: &[&str]) {
        let m = Matcher::new("a", op, pattern).unwrap();
        for v in yes {
            assert!(m.matches(v), "{m} should match {v:?}");
        }
        for v in no {
            assert!(!m.matches(v), "{m} should not match {v:?}");
        }
    }

    #[test]
    fn what_is_shown_can_stand_in_a_query() {
        let matcher = Matcher::new("a b", MatchOp::Equal, "\u{fffd}\"").unwrap();
        assert_eq!(matcher.to_string(), r#""a b"="\ufffd\"""#);
    }

    #[test]
    fn operators_compare_whole_values() {
        check(MatchOp::Equal, "x", &["x"], &["", "xx"]);
        check(MatchOp::NotEqual, "x", &["", "xx"], &["x"]);
        check(MatchOp::Regex, "x.*", &["x", "xy"], &["", "yx"]);
        check(MatchOp::NotRegex, "x|", &["y"], &["", "x"]);
    }
}
