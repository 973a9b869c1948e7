//! What can be wrong with a configuration, and where.

use std::fmt;
use std::path::PathBuf;

use promontory_model::RegexError;
use promontory_model::time::DurationError;

use crate::relabel::RelabelError;

/// Everything that is wrong with a configuration, by ascending position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl std::error::Error for ConfigErrors {}

/// One error per line.
impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// Where in the file; absent when the file as a whole is at fault.
    pub position: Option<Position>,
    /// Path of the field, like `scrape_configs[0].job_name`; empty for the whole file.
    pub field: String,
    /// What is wrong.
    pub problem: Problem,
}

impl std::error::Error for ConfigError {}

/// `prometheus.yml:7:5: scrape_configs[0].job_name: …`
impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(Position { line, column }) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        f.write_str(": ")?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        write!(f, "{}", self.problem)
    }
}

/// A place in a text; both count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The file cannot be read.
    #[error("read: {0}")]
    Read(String),
    /// More text than any configuration needs.
    #[error("{bytes} bytes, more than the limit of {max} for such a file")]
    TooLarge {
        /// Size of the file.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// Not YAML.
    #[error("{0}")]
    Syntax(String),
    /// The key is there already.
    #[error("key {0:?} is already set in this map")]
    DuplicateKey(String),
    /// `<<` with something that has no keys.
    #[error("map merge requires a map or a list of maps as the value")]
    BadMerge,
    /// Prometheus does not know the field either.
    #[error("unknown field {name:?}{}", did_you_mean(*nearest))]
    UnknownField {
        /// What was written.
        name: String,
        /// What may have been meant.
        nearest: Option<&'static str>,
    },
    /// Prometheus knows it, this server does not yet.
    #[error("{name} is not supported{}", because(reason))]
    NotSupported {
        /// The field or what it asks for.
        name: &'static str,
        /// What this server does not do; may be empty.
        reason: &'static str,
    },
    /// A list where a text belongs, or the like.
    #[error("expected {expected}, found {found}")]
    WrongType {
        /// What belongs here.
        expected: &'static str,
        /// What is here.
        found: String,
    },
    /// A field that has no default.
    #[error("required field {0:?} is missing or empty")]
    Missing(&'static str),
    /// Not a duration.
    #[error(transparent)]
    Duration(#[from] DurationError),
    /// Not a regular expression.
    #[error(transparent)]
    Regex(#[from] RegexError),
    /// A relabelling rule that makes no sense.
    #[error(transparent)]
    Relabel(#[from] RelabelError),
    /// Not one of the names that belong here.
    #[error("{value:?} is not one of {allowed}{}", did_you_mean(*nearest))]
    NotOneOf {
        /// What was written.
        value: String,
        /// All that belong here.
        allowed: String,
        /// What may have been meant.
        nearest: Option<&'static str>,
    },
    /// Fields that exclude each other.
    #[error("at most one of {0} must be configured")]
    Exclusive(&'static str),
    /// Valid for itself, but against a rule.
    #[error("{0}")]
    Rule(String),
}

fn because(reason: &str) -> String {
    if reason.is_empty() { " yet".to_owned() } else { format!(": {reason}") }
}

fn did_you_mean(nearest: Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |n| format!(", did you mean {n:?}?"))
}

/// The candidate that `name` is most likely a slip of, if any is close.
pub(crate) fn nearest(name: &str, candidates: impl IntoIterator<Item = &'static str>) -> Option<&'static str> {
    let allowed = (name.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|c| (edits(&name.to_lowercase(), &c.to_lowercase()), c))
        .min()
        .filter(|(distance, _)| *distance <= allowed)
        .map(|(_, c)| c)
}

/// Number of single-character edits between two texts.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_name_is_a_few_edits_away() {
        let names = ["scrape_configs", "global", "rule_files"];
        assert_eq!(nearest("scrape_config", names), Some("scrape_configs"));
        assert_eq!(nearest("Globl", names), Some("global"));
        assert_eq!(nearest("zzz", names), None);
    }
}
