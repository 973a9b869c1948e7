//! Expositions put together in memory: what does not come as text, or has to be understood before it can be
//! remembered line by line, is turned into lines that the line cache takes like those of a target.
//!
//! A line begins as one of OpenMetrics, name and labels in one canonical spelling; but the value behind it is binary,
//! so nothing is printed to be parsed again: a blank, a byte of flags, eight bytes of the value or of the histogram's
//! number, eight of the timestamp and four of the exemplars' number where the flags say so, and a line feed.
//! Histograms and exemplars stand beside the lines. Lines `TYPE`, `HELP` and `UNIT` are text.

use std::num::NonZeroU32;
use std::ops::Range;

use promontory_model::labels::{is_legacy_label_name, is_legacy_metric_name};
use promontory_model::{HistogramSample, Labels, MetricType};

use super::Tail;
use super::classic::ClassicError;

const IS_HISTOGRAM: u8 = 1;
const HAS_TIMESTAMP: u8 = 2;
const HAS_EXEMPLARS: u8 = 4;
/// The byte of flags begins none of the numbers of text formats, so that no reader takes one for the other.
const FLAGS: u8 = 0x80;

/// An exemplar that stands for itself.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OwnedExemplar {
    pub(crate) labels: Labels,
    pub(crate) value: f64,
    pub(crate) timestamp_ms: Option<i64>,
}

/// What a line of a sample says.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Float(f64),
    Histogram(HistogramSample),
}

/// An exposition in the making, and when it is made. Kept by the caller and used again.
#[derive(Debug, Default)]
pub(crate) struct Assembled {
    body: Vec<u8>,
    histograms: Vec<HistogramSample>,
    exemplars: Vec<OwnedExemplar>,
    /// Exemplars of each number that lines name.
    ranges: Vec<Range<usize>>,
    histogram_bytes: usize,
    /// Since when series count, where that is said beside them and wanted.
    starts: Vec<Start>,
    wants_starts: bool,
    /// What is said of the metric whose samples come now: its type, and since when it counts, in ms.
    start: Option<(MetricType, i64)>,
    /// Classic histograms whose numbers make none, and why the first of them does not.
    left_out: Option<LeftOut>,
}

/// Since when a series counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Start {
    /// Bytes of the series' key.
    pub(crate) key: Range<usize>,
    pub(crate) kind: MetricType,
    pub(crate) ms: i64,
    pub(crate) timestamp_ms: Option<i64>,
    /// Number of the histogram that is its value.
    pub(crate) histogram: Option<NonZeroU32>,
}

/// Classic histograms that could not be converted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LeftOut {
    pub(crate) n: u64,
    /// Family of the first, and what is wrong with it.
    pub(crate) family: String,
    pub(crate) error: ClassicError,
}

impl Assembled {
    /// The lines.
    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    /// Bytes of buffers that stay when it is made anew.
    pub(crate) fn kept_bytes(&self) -> usize {
        self.body.capacity()
            + self.histograms.capacity() * size_of::<HistogramSample>()
            + self.exemplars.capacity() * size_of::<OwnedExemplar>()
            + self.ranges.capacity() * size_of::<Range<usize>>()
            + self.starts.capacity() * size_of::<Start>()
    }

    /// Says whether what comes is to tell since when its series count.
    pub(crate) fn want_starts(&mut self, wants: bool) {
        self.wants_starts = wants;
    }

    /// Since when series count, as far as messages say.
    pub(crate) fn starts(&self) -> &[Start] {
        &self.starts
    }

    /// Says since when the metric counts whose samples come now.
    pub(super) fn start_with(&mut self, kind: MetricType, ms: Option<i64>) {
        let counts = matches!(kind, MetricType::Counter | MetricType::Summary | MetricType::Histogram);
        self.start = ms.filter(|ms| counts && self.wants_starts && *ms > 0).map(|ms| (kind, ms));
    }

    /// Bytes that it takes now.
    pub(super) fn used_bytes(&self) -> usize {
        self.body.len()
            + self.histogram_bytes
            + self.exemplars.len() * size_of::<OwnedExemplar>()
            + self.starts.len() * size_of::<Start>()
    }

    /// The histogram that a [`Tail`] names.
    pub(crate) fn histogram(&self, number: NonZeroU32) -> Option<&HistogramSample> {
        self.histograms.get(number.get() as usize - 1)
    }

    pub(crate) fn histogram_mut(&mut self, number: NonZeroU32) -> Option<&mut HistogramSample> {
        self.histograms.get_mut(number.get() as usize - 1)
    }

    /// The exemplars that a [`Tail`] names.
    pub(crate) fn exemplars(&self, number: NonZeroU32) -> &[OwnedExemplar] {
        self.ranges.get(number.get() as usize - 1).map_or(&[], |range| &self.exemplars[range.clone()])
    }

    /// What conversion left out.
    pub(crate) fn left_out(&self) -> Option<&LeftOut> {
        self.left_out.as_ref()
    }

    pub(super) fn leave_out(&mut self, family: &str, error: ClassicError) {
        let first = || LeftOut { n: 0, family: family.to_owned(), error };
        self.left_out.get_or_insert_with(first).n += 1;
    }

    pub(super) fn clear(&mut self) {
        self.left_out = None;
        self.body.clear();
        self.histograms.clear();
        self.exemplars.clear();
        self.ranges.clear();
        self.starts.clear();
        self.start = None;
        self.histogram_bytes = 0;
    }

    pub(super) fn put_type(&mut self, family: &str, kind: MetricType) {
        self.put_metadata("TYPE", family, kind.as_str());
    }

    pub(super) fn put_help(&mut self, family: &str, help: &str) {
        self.put_metadata("HELP", family, &help.replace('\\', "\\\\").replace('\n', "\\n"));
    }

    pub(super) fn put_unit(&mut self, family: &str, unit: &str) {
        self.put_metadata("UNIT", family, &unit.replace('\n', " "));
    }

    fn put_metadata(&mut self, keyword: &str, family: &str, text: &str) {
        self.body.extend_from_slice(b"# ");
        self.body.extend_from_slice(keyword.as_bytes());
        self.body.push(b' ');
        if is_legacy_metric_name(family) {
            self.body.extend_from_slice(family.as_bytes());
        } else {
            put_quoted(&mut self.body, family);
        }
        self.body.push(b' ');
        self.body.extend_from_slice(text.as_bytes());
        self.body.push(b'\n');
    }

    /// A sample of the metric `name` with `labels` in their order.
    pub(super) fn put_sample<'l>(
        &mut self,
        name: &str,
        labels: impl Iterator<Item = (&'l str, &'l str)>,
        value: Value,
        timestamp_ms: Option<i64>,
        exemplars: impl Iterator<Item = OwnedExemplar>,
    ) {
        let key_start = self.body.len();
        put_key(&mut self.body, name, labels);
        let key = key_start..self.body.len();
        let first = self.exemplars.len();
        self.exemplars.extend(exemplars);
        let named = if self.exemplars.len() > first {
            self.ranges.push(first..self.exemplars.len());
            number(self.ranges.len())
        } else {
            None
        };
        let (kind, bits) = match value {
            Value::Float(value) => (0, value.to_bits()),
            Value::Histogram(histogram) => {
                self.histogram_bytes += histogram.value().heap_bytes();
                self.histograms.push(histogram);
                (IS_HISTOGRAM, number(self.histograms.len()).map_or(0, |n| u64::from(n.get())))
            }
        };
        if let Some((family_kind, ms)) = self.start {
            let histogram = if kind == IS_HISTOGRAM { number(self.histograms.len()) } else { None };
            self.starts.push(Start { key, kind: family_kind, ms, timestamp_ms, histogram });
        }
        let timed = if timestamp_ms.is_some() { HAS_TIMESTAMP } else { 0 };
        let told = if named.is_some() { HAS_EXEMPLARS } else { 0 };
        self.body.extend_from_slice(&[b' ', FLAGS | kind | timed | told]);
        self.body.extend_from_slice(&bits.to_le_bytes());
        if let Some(timestamp) = timestamp_ms {
            self.body.extend_from_slice(&timestamp.to_le_bytes());
        }
        if let Some(named) = named {
            self.body.extend_from_slice(&named.get().to_le_bytes());
        }
        self.body.push(b'\n');
    }
}

/// `n`, from 1, as a number of a line; bodies are far too small for more than 32 bits.
fn number(n: usize) -> Option<NonZeroU32> {
    u32::try_from(n).ok().and_then(NonZeroU32::new)
}

/// Reads what follows a key, and where the next line begins.
pub(super) fn tail(body: &[u8], key_end: usize) -> Option<(Tail, usize)> {
    let (&flags, mut rest) = body.get(key_end..)?.strip_prefix(b" ")?.split_first()?;
    if flags & FLAGS == 0 {
        return None;
    }
    let mut take = |n: usize| {
        let (bytes, after) = rest.split_at_checked(n)?;
        rest = after;
        let mut word = [0; 8];
        word[..n].copy_from_slice(bytes);
        Some(u64::from_le_bytes(word))
    };
    let bits = take(8)?;
    // The same bits, read as what was written.
    let timestamp_ms = if flags & HAS_TIMESTAMP != 0 { Some(take(8)? as i64) } else { None };
    let number = |n: u64| u32::try_from(n).ok().and_then(NonZeroU32::new);
    let exemplar = if flags & HAS_EXEMPLARS != 0 { number(take(4)?) } else { None };
    let after = rest.strip_prefix(b"\n")?;
    let is_histogram = flags & IS_HISTOGRAM != 0;
    let tail = Tail {
        value: if is_histogram { 0.0 } else { f64::from_bits(bits) },
        timestamp_ms,
        exemplar,
        histogram: if is_histogram { number(bits) } else { None },
    };
    Some((tail, body.len() - after.len()))
}

fn put_key<'l>(out: &mut Vec<u8>, name: &str, labels: impl Iterator<Item = (&'l str, &'l str)>) {
    let mut separator = b'{';
    if is_legacy_metric_name(name) {
        out.extend_from_slice(name.as_bytes());
    } else {
        out.push(b'{');
        put_quoted(out, name);
        separator = b',';
    }
    for (name, value) in labels {
        out.push(separator);
        separator = b',';
        if is_legacy_label_name(name) {
            out.extend_from_slice(name.as_bytes());
        } else {
            put_quoted(out, name);
        }
        out.push(b'=');
        put_quoted(out, value);
    }
    if separator == b',' {
        out.push(b'}');
    }
}

fn put_quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scrape::exposition::{Format, Item, Parser};

    #[test]
    fn lines_are_read_as_they_were_written() {
        let mut made = Assembled::default();
        let (name, help) = ("my.\"metric\"", "a \\ b\nc");
        made.put_type("h", MetricType::GaugeHistogram);
        made.put_help(name, help);
        let labels = [("l.x", "a\"b\\c\nd"), ("le", "1.0")];
        let exemplar = OwnedExemplar { labels: Labels::from_pairs([("t", "1")]), value: 2.5, timestamp_ms: Some(9) };
        let none = std::iter::empty::<OwnedExemplar>;
        made.put_sample(
            name,
            labels.into_iter(),
            Value::Float(f64::from_bits(7)),
            Some(-5),
            [exemplar.clone()].into_iter(),
        );
        let histogram = HistogramSample::new(Default::default(), promontory_model::histogram::Counts::Integer).unwrap();
        made.put_sample("h", std::iter::empty(), Value::Histogram(histogram.clone()), None, none());
        made.put_sample("c", [("a", "")].into_iter(), Value::Float(f64::NEG_INFINITY), None, none());
        let mut parser = Parser::new(made.body(), Format::Assembled);
        let mut seen = Vec::new();
        loop {
            match parser.next_item().unwrap() {
                Item::End => break,
                Item::Metadata { family, text, .. } => seen.push(format!("{family}: {text:?}")),
                Item::Sample { key, tail } => {
                    assert_eq!(parser.key_end(key.start), Some(key.end));
                    assert_eq!(parser.tail_after(key.end).map(|t| t.1), Some(parser.position()));
                    let labels: Vec<_> = parser.labels().iter().map(|(n, v)| format!("{n}={v}")).collect();
                    let histogram_is_here = tail.histogram.map(|n| made.histogram(n).unwrap().same_bits(&histogram));
                    let exemplars = tail.exemplar.map_or(0, |n| made.exemplars(n).len());
                    let value = tail.value.to_bits();
                    seen.push(format!("{labels:?} {value} {:?} {histogram_is_here:?} {exemplars}", tail.timestamp_ms));
                }
            }
        }
        assert_eq!(
            seen,
            [
                "h: Type(GaugeHistogram)",
                "my.\"metric\": Help(\"a \\\\ b\\nc\")",
                "[\"__name__=my.\\\"metric\\\"\", \"l.x=a\\\"b\\\\c\\nd\", \"le=1.0\"] 7 Some(-5) None 1",
                "[\"__name__=h\"] 0 None Some(true) 0",
                "[\"__name__=c\", \"a=\"] 18442240474082181120 None None 0",
            ]
        );
        assert_eq!(made.exemplars(NonZeroU32::MIN), [exemplar]);
    }
}
