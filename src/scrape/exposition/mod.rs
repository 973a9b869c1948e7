//! The formats in which targets expose samples: Prometheus text (0.0.4, 1.0.0), OpenMetrics (0.0.1, 1.0.0) and
//! protocol buffers. Text is read in place; what has to be understood first is put together as lines beforehand.
//!
//! Accepts and refuses what Prometheus 3.14 does, byte by byte, with two exceptions: blanks before a line of
//! Prometheus text are not part of the metric's name, and a repeated label name is refused here already. Nothing is
//! read ahead or copied; no input makes it panic. It knows nothing of targets, relabelling or storage.

mod assembled;
mod classic;
mod error;
mod line;
mod messages;
mod number;
mod protobuf;
mod series;

use std::borrow::Cow;
use std::num::NonZeroU32;
use std::ops::Range;

pub(crate) use assembled::{Assembled, LeftOut, Start};
pub use error::{Fault, ParseError};
use promontory_model::MetricType;

pub(crate) use number::format_openmetrics_float;
pub use protobuf::{ProtobufError, check_any_protobuf};

/// Grammar of an exposition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4 and 1.0.0; they differ only in what the sender may write, not in how it reads.
    Text,
    /// OpenMetrics text 0.0.1 and 1.0.0.
    OpenMetrics,
    /// Lines that were put together in memory, with binary values; nobody sends them.
    Assembled,
}

/// What the next line says.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// A sample; its labels are in [`Parser::labels`].
    Sample {
        /// Bytes of the body from the metric's name to the last byte before the value's separator.
        key: Range<usize>,
        /// What follows.
        tail: Tail,
    },
    /// `HELP`, `TYPE` or `UNIT`.
    Metadata {
        /// Bytes of the whole line, its end included where it has one.
        line: Range<usize>,
        /// Metric family.
        family: String,
        /// What is said of it.
        text: Metadata,
    },
    /// The exposition has ended well.
    End,
}

/// What a metadata line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Metadata {
    /// Type of the family and, until the next type, of the lines below.
    Type(MetricType),
    /// Help text, unescaped.
    Help(String),
    /// Unit, possibly empty.
    Unit(String),
}

/// The part of a sample line after the labels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tail {
    /// Value; every NaN has the bits of [`promontory_model::sample::NORMAL_NAN_BITS`].
    pub value: f64,
    /// Explicit timestamp in ms.
    pub timestamp_ms: Option<i64>,
    /// Where in the body an exemplar is, for [`exemplar_at`]; with [`Format::Assembled`] the number of exemplars
    /// beside it.
    pub exemplar: Option<NonZeroU32>,
    /// Number of the histogram that is here instead of a value.
    pub histogram: Option<NonZeroU32>,
}

impl Tail {
    fn plain(value: f64) -> Self {
        Self { value, timestamp_ms: None, exemplar: None, histogram: None }
    }
}

/// A single observation behind a sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar<'a> {
    /// In the order of the line.
    pub labels: Vec<Pair<'a>>,
    /// What was observed.
    pub value: f64,
    /// When, in ms, if that is said.
    pub timestamp_ms: Option<i64>,
}

/// Reads the exemplar that a [`Tail`] of the same body points to.
#[must_use]
pub fn exemplar_at(body: &[u8], at: NonZeroU32) -> Option<Exemplar<'_>> {
    line::exemplar(body, at.get() as usize).ok().map(|(exemplar, _)| exemplar)
}

/// Label name and value; borrowed from the body unless they held escapes.
pub type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Reads an exposition line by line.
#[derive(Debug)]
pub struct Parser<'a> {
    body: &'a [u8],
    format: Format,
    at: usize,
    kind: MetricType,
    labels: Vec<Pair<'a>>,
}

impl<'a> Parser<'a> {
    /// A parser at the start of `body`.
    #[must_use]
    pub fn new(body: &'a [u8], format: Format) -> Self {
        Self { body, format, at: 0, kind: MetricType::Unknown, labels: Vec::new() }
    }

    /// Labels of the last sample in the order of the line, the metric's name first; values may be empty. Bucket
    /// bounds and quantiles of typed families are already in their canonical form.
    #[must_use]
    pub fn labels(&self) -> &[Pair<'a>] {
        &self.labels
    }

    /// Type that was last declared above this place.
    #[must_use]
    pub fn kind(&self) -> MetricType {
        self.kind
    }

    /// Offset of the next unread byte.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// Reads the next line that says something; comments and empty lines are passed over where they are allowed.
    ///
    /// # Errors
    /// [`ParseError`] with the place; the parser must not be used further.
    pub fn next_item(&mut self) -> Result<Item, ParseError> {
        match self.format {
            Format::Text => self.next_text(),
            Format::OpenMetrics => self.next_openmetrics(),
            Format::Assembled => self.next_assembled(),
        }
    }

    /// Moves on to `at`, where lines under the type `kind` begin, because somebody else has read up to there.
    pub fn skip_to(&mut self, at: usize, kind: MetricType) {
        debug_assert!(at >= self.at && at <= self.body.len());
        self.at = at;
        self.kind = kind;
    }

    /// Start of the first line at or after `at` that says something, where other lines are allowed.
    #[must_use]
    pub fn silent_end(&self, at: usize) -> usize {
        match self.format {
            Format::Text => self.text_silent_end(at),
            Format::OpenMetrics | Format::Assembled => at,
        }
    }

    /// End of the key of the sample line at `start`, found without looking at its labels; `None` if no sample line
    /// begins there or it is malformed.
    pub fn key_end(&self, start: usize) -> Option<usize> {
        series::key_end(self.body, start, self.format)
    }

    /// Reads value and timestamp of a sample line whose key ends at `key_end`, and where the next line begins.
    ///
    /// `None` leaves it to [`Parser::next_item`] to say what is wrong, or that the key was a longer one.
    pub fn tail_after(&self, key_end: usize) -> Option<(Tail, usize)> {
        // One blank, a plain number, the end of the line: so are nearly all lines of both formats.
        if self.body.get(key_end) == Some(&b' ')
            && let Some((value, len)) = number::parse_start(&self.body[key_end + 1..])
            && self.body.get(key_end + 1 + len) == Some(&b'\n')
        {
            return Some((Tail::plain(value), key_end + len + 2));
        }
        let separated = match self.body.get(key_end) {
            Some(b' ') => true,
            Some(b'\t') => self.format == Format::Text,
            _ => self.format == Format::Text && key_end > 0 && self.body[key_end - 1] == b'}',
        };
        if !separated {
            return None;
        }
        line::tail(self.body, key_end, self.format).ok()
    }

    fn error(&self, line_start: usize, at: usize, fault: Fault) -> ParseError {
        ParseError::new(self.body, line_start, at, fault)
    }
}

/// Length of the name at the start of `bytes`; 0 if none begins there.
fn name_len(bytes: &[u8], colons: bool) -> usize {
    if bytes.first().is_some_and(u8::is_ascii_digit) {
        return 0;
    }
    let ends = |b: &u8| !(IN_NAME[usize::from(*b)] || colons && *b == b':');
    bytes.iter().position(ends).unwrap_or(bytes.len())
}

/// A name as text; its bytes are ASCII, as [`name_len`] has found.
fn name_text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// Bytes of names, but for colons.
const IN_NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric() || byte == b'_';
        byte += 1;
    }
    table
};

/// Length of the quoted string at the start of `bytes`, quotes included; `None` if it does not end.
fn quoted_len(bytes: &[u8], line_breaks: bool) -> Option<usize> {
    debug_assert_eq!(bytes.first(), Some(&b'"'));
    let mut i = 1;
    loop {
        let found = i + memchr::memchr3(b'"', b'\\', b'\n', bytes.get(i..)?)?;
        match bytes[found] {
            b'"' => return Some(found + 1),
            b'\\' if bytes.get(found + 1).is_none_or(|b| *b == b'\n') => return None,
            b'\\' => i = found + 2,
            _ if line_breaks => i = found + 1,
            _ => return None,
        }
    }
}

/// Resolves `\\`, `\n` and, when `quotes`, `\"`; any other backslash stays.
fn unescape(text: &str, quotes: bool) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(i) = rest.find('\\') {
        out.push_str(&rest[..i]);
        let (replacement, used) = match rest.as_bytes().get(i + 1) {
            Some(b'\\') => ('\\', 2),
            Some(b'n') => ('\n', 2),
            Some(b'"') if quotes => ('"', 2),
            _ => ('\\', 1),
        };
        out.push(replacement);
        rest = &rest[i + used..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

fn skip_blanks(body: &[u8], mut at: usize) -> usize {
    while matches!(body.get(at), Some(b' ' | b'\t')) {
        at += 1;
    }
    at
}

#[cfg(test)]
pub(crate) use protobuf::tests::{both_body, created_body};

#[cfg(test)]
pub(crate) mod tests;
