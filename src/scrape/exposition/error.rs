//! What can be wrong with an exposition, and where.

use std::fmt;

use promontory_model::labels::Quoted;

/// Bytes of a line that an error repeats.
const QUOTED_BYTES_MAX: usize = 256;

/// An exposition that is refused.
///
/// # Source
/// Texts are those of Prometheus with the place behind them, because people search for them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ParseError {
    /// Line, from 1.
    pub line: usize,
    /// Column in bytes, from 1.
    pub column: usize,
    /// What is wrong.
    pub fault: Fault,
    /// The line up to and including what is wrong.
    pub text: String,
}

impl ParseError {
    pub(super) fn new(body: &[u8], line_start: usize, at: usize, fault: Fault) -> Self {
        let at = at.min(body.len());
        let line_start = line_start.min(at);
        let before = &body[..at];
        let line = memchr::memchr_iter(b'\n', before).count() + 1;
        let column = at - memchr::memrchr(b'\n', before).map_or(0, |i| i + 1) + 1;
        let rest = &body[at..];
        let token = rest.iter().position(|b| matches!(b, b' ' | b'\t' | b'\n')).unwrap_or(rest.len());
        let end = (at + token).min(line_start + QUOTED_BYTES_MAX);
        let text = String::from_utf8_lossy(&body[line_start..end.max(line_start)]).into_owned();
        Self { line, column, fault, text }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.fault)?;
        if self.fault.quotes_line() {
            write!(f, " while parsing: {}", Quoted(&self.text))?;
        }
        write!(f, " at line {}, column {}", self.line, self.column)
    }
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Another token belongs here.
    #[error("expected {what}, got {}", Quoted(got))]
    Expected {
        /// What belongs here.
        what: &'static str,
        /// What is here; empty at the end of the body.
        got: String,
    },
    /// A number in a syntax that expositions do not have.
    #[error("unsupported character in float")]
    FloatCharacter,
    /// Not a number.
    #[error("strconv.ParseFloat: parsing {}: invalid syntax", Quoted(.0))]
    FloatSyntax(String),
    /// A number too large for 64 bits.
    #[error("strconv.ParseFloat: parsing {}: value out of range", Quoted(.0))]
    FloatRange(String),
    /// A timestamp too large for 64 bits.
    #[error("strconv.ParseInt: parsing {}: value out of range", Quoted(.0))]
    TimestampRange(String),
    /// An OpenMetrics timestamp that is no point in time.
    #[error("invalid timestamp {0}")]
    Timestamp(String),
    /// An exemplar's timestamp that is no point in time.
    #[error("invalid exemplar timestamp {0}")]
    ExemplarTimestamp(String),
    /// Bytes that are not UTF-8 in a label's value.
    #[error("invalid UTF-8 label value: {}", Quoted(.0))]
    LabelValueUtf8(String),
    /// Bytes that are not UTF-8 in a quoted name.
    #[error("invalid UTF-8 name: {}", Quoted(.0))]
    NameUtf8(String),
    /// Bytes that are not UTF-8 in a help text.
    #[error("help text {} is not a valid utf8 string", Quoted(.0))]
    HelpUtf8(String),
    /// A type that the format does not have.
    #[error("invalid metric type {}", Quoted(.0))]
    MetricType(String),
    /// OpenMetrics wants the unit at the end of the name.
    #[error("unit {} not a suffix of metric {}", Quoted(unit), Quoted(family))]
    Unit {
        /// Unit.
        unit: String,
        /// Metric family.
        family: String,
    },
    /// Braces without a metric's name inside or before them.
    #[error("metric name not set")]
    NoName,
    /// Two metric names on one line.
    #[error("metric name already set")]
    TwoNames,
    /// A label name that occurs twice.
    #[error("label name {} is not unique: invalid sample", Quoted(.0))]
    LabelTwice(String),
    /// OpenMetrics ends with `# EOF`.
    #[error("data does not end with # EOF")]
    NoEof,
    /// Nothing may follow `# EOF`.
    #[error("unexpected data after # EOF")]
    AfterEof,
}

impl Fault {
    fn quotes_line(&self) -> bool {
        !matches!(
            self,
            Self::MetricType(_)
                | Self::HelpUtf8(_)
                | Self::LabelValueUtf8(_)
                | Self::Unit { .. }
                | Self::NoEof
                | Self::AfterEof
        )
    }
}
