//! Series lines: a metric, then values in a notation that repeats and counts.
//!
//! `1+2x3` is 1 3 5 7, `_x2` leaves two out, `{{schema:1 buckets:[1 2]}}x3` are histograms.

use promontory_model::histogram::{CUSTOM_BUCKETS_SCHEMA, CounterResetHint, Span};
use promontory_model::{Duration, FloatHistogram, Labels, LabelsBuilder, METRIC_NAME, stale_nan};

use crate::histogram::Accumulator;
use crate::lexer::{Kind, lex, unquote};

/// Most values that one line may describe.
const VALUES_MAX: usize = 100_000;

/// One value of a series line.
#[derive(Debug, Clone, PartialEq)]
pub enum SeriesValue {
    /// Left out.
    Omitted,
    /// A number.
    Float(f64),
    /// A histogram.
    Histogram {
        /// The value.
        value: Box<FloatHistogram>,
        /// Whether `counter_reset_hint` was written.
        hint_written: bool,
    },
}

/// Splits `metric{labels}` from what follows it.
pub(super) fn parse_metric(line: &str) -> Result<(Labels, &str), String> {
    let name_end = line.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).unwrap_or(line.len());
    let (name, rest) = line.split_at(name_end);
    let mut labels = LabelsBuilder::new();
    labels.set(METRIC_NAME, name);
    if !rest.starts_with('{') || rest.starts_with("{{") {
        if name.is_empty() {
            return Err(format!("no metric in {line:?}"));
        }
        return Ok((labels.build(), rest));
    }
    let end = closing_brace(rest).ok_or_else(|| format!("unclosed brace in {line:?}"))?;
    parse_labels(&rest[..=end], &mut labels)?;
    Ok((labels.build(), &rest[end + 1..]))
}

fn closing_brace(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (i, c) in text.char_indices() {
        match (quote, c) {
            (Some(_), _) if escaped => escaped = false,
            (Some('"' | '\''), '\\') => escaped = true,
            (Some(q), c) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'' | '`') => quote = Some(c),
            (None, '}') => return Some(i),
            (None, _) => {}
        }
    }
    None
}

fn parse_labels(text: &str, labels: &mut LabelsBuilder) -> Result<(), String> {
    let lexed = lex(text);
    if let Some(error) = lexed.error {
        return Err(error.message);
    }
    let bad = || format!("bad labels {text}");
    let slice = |i: usize| {
        let span = lexed.tokens[i].span;
        &text[span.start as usize..span.end as usize]
    };
    let string = |i: usize| String::from_utf8_lossy(&unquote(slice(i))).into_owned();
    let kind = |i: usize| lexed.tokens.get(i).map_or(Kind::Eof, |t| t.kind);
    let mut i = 1;
    loop {
        match (kind(i), kind(i + 1), kind(i + 2)) {
            (Kind::RightBrace, ..) => return Ok(()),
            (Kind::Identifier, Kind::Assign, Kind::String) => {
                labels.set(slice(i), &string(i + 2));
                i += 3;
            }
            (Kind::String, Kind::Assign, Kind::String) => {
                labels.set(&string(i), &string(i + 2));
                i += 3;
            }
            (Kind::String, ..) => {
                labels.set(METRIC_NAME, &string(i));
                i += 1;
            }
            _ => return Err(bad()),
        }
        match kind(i) {
            Kind::Comma => i += 1,
            Kind::RightBrace => {}
            _ => return Err(bad()),
        }
    }
}

/// Reads a metric and its values.
///
/// # Errors
/// What is wrong, in words.
pub fn parse_series(line: &str) -> Result<(Labels, Vec<SeriesValue>), String> {
    let (labels, rest) = parse_metric(line)?;
    Ok((labels, parse_values(rest)?))
}

pub(super) fn parse_values(text: &str) -> Result<Vec<SeriesValue>, String> {
    let mut scanner = Scanner { rest: text };
    let mut values = Vec::new();
    loop {
        scanner.spaces();
        if scanner.rest.is_empty() {
            return Ok(values);
        }
        scanner.item(&mut values)?;
        if values.len() > VALUES_MAX {
            return Err(format!("more than {VALUES_MAX} values in one line"));
        }
        if !scanner.rest.is_empty() && !scanner.rest.starts_with(char::is_whitespace) {
            return Err(format!("unexpected {:?} in series values", scanner.rest));
        }
    }
}

/// Offsets in ms from a sample to its start timestamp; absent ones are `None`.
pub(super) fn parse_offsets(text: &str) -> Result<Vec<Option<i64>>, String> {
    let values = parse_values(text)?;
    let offset = |value: &SeriesValue| match value {
        SeriesValue::Omitted => Ok(None),
        SeriesValue::Float(seconds) => Ok(Some((seconds * 1000.0).round() as i64)),
        SeriesValue::Histogram { .. } => Err("a start timestamp is no histogram".to_owned()),
    };
    values.iter().map(offset).collect()
}

/// A number of seconds or a duration, perhaps signed.
pub(super) fn parse_number(text: &str) -> Result<f64, String> {
    let mut scanner = Scanner { rest: text };
    let negative = scanner.sign();
    let number = scanner.number()?;
    if !scanner.rest.is_empty() {
        return Err(format!("bad number {text:?}"));
    }
    Ok(if negative == Some(true) { -number } else { number })
}

struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    fn accept(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn spaces(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, accept: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !accept(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn sign(&mut self) -> Option<bool> {
        if self.accept("-") {
            Some(true)
        } else if self.accept("+") {
            Some(false)
        } else {
            None
        }
    }

    /// `x3`: how often.
    fn times(&mut self) -> Result<Option<usize>, String> {
        if !self.accept("x") {
            return Ok(None);
        }
        let digits = self.take(|c| c.is_ascii_digit());
        match digits.parse() {
            Ok(n) if n <= VALUES_MAX => Ok(Some(n)),
            _ => Err(format!("invalid repetition in series values: {digits:?}")),
        }
    }

    fn item(&mut self, values: &mut Vec<SeriesValue>) -> Result<(), String> {
        if self.accept("_") {
            let times = self.times()?.unwrap_or(1);
            values.extend(std::iter::repeat_n(SeriesValue::Omitted, times));
            return Ok(());
        }
        if self.rest.starts_with("{{") {
            return self.histograms(values);
        }
        if self.accept("stale") {
            values.push(SeriesValue::Float(stale_nan()));
            return Ok(());
        }
        let mut value = self.signed()?;
        let step = match self.rest.chars().next() {
            Some('+' | '-') => self.signed()?,
            _ => 0.0,
        };
        match self.times()? {
            None => values.push(SeriesValue::Float(value)),
            // The first value and as many more.
            Some(times) => {
                for _ in 0..=times {
                    values.push(SeriesValue::Float(value));
                    value += step;
                }
            }
        }
        Ok(())
    }

    fn signed(&mut self) -> Result<f64, String> {
        let negative = self.sign() == Some(true);
        let number = self.number()?;
        Ok(if negative { -number } else { number })
    }

    /// A decimal number, `inf`, `nan`, or a duration in seconds.
    fn number(&mut self) -> Result<f64, String> {
        let word = &self.rest[..self.rest.len().min(3)];
        for (name, value) in [("inf", f64::INFINITY), ("nan", f64::NAN)] {
            if word.eq_ignore_ascii_case(name) {
                self.rest = &self.rest[3..];
                return Ok(value);
            }
        }
        let start = self.rest;
        self.take(|c| c.is_ascii_digit() || c == '.' || c == '_');
        if self.rest.starts_with(|c| "smhdwy".contains(c)) {
            self.take(|c| c.is_ascii_digit() || "smhdwy".contains(c));
            let text = &start[..start.len() - self.rest.len()];
            return Duration::parse(text).map(Duration::secs_f64).map_err(|e| e.to_string());
        }
        if self.rest.starts_with(['e', 'E']) {
            self.rest = &self.rest[1..];
            self.sign();
            self.take(|c| c.is_ascii_digit());
        }
        let text = &start[..start.len() - self.rest.len()];
        text.replace('_', "").parse().map_err(|_| format!("bad number {text:?} before {:?}", self.rest))
    }

    fn histograms(&mut self, values: &mut Vec<SeriesValue>) -> Result<(), String> {
        let (first, hint_written) = self.histogram()?;
        let value = |h: &FloatHistogram| SeriesValue::Histogram { value: Box::new(h.clone()), hint_written };
        let Some(negative) = self.sign() else {
            let times = self.times()?.map_or(1, |n| n + 1);
            values.extend(std::iter::repeat_n(value(&first), times));
            return Ok(());
        };
        let (step, hint_written) = self.histogram()?;
        let value = |h: &FloatHistogram| SeriesValue::Histogram { value: Box::new(h.clone()), hint_written };
        let times = self.times()?.ok_or("a histogram with a step needs a repetition")?;
        let mut sum = first;
        values.push(value(&sum));
        for _ in 0..times {
            if sum.schema > step.schema {
                return Err(format!("cannot merge from schema {} to {}", step.schema, sum.schema));
            }
            let mut next = Accumulator::new(&sum);
            let merged = if negative { next.sub(&step) } else { next.add(&step) };
            merged.map_err(|e| e.to_string())?;
            sum = next.finish();
            values.push(value(&sum));
        }
        Ok(())
    }

    /// `{{schema:1 count:2 …}}`.
    fn histogram(&mut self) -> Result<(FloatHistogram, bool), String> {
        if !self.accept("{{") {
            return Err(format!("expected a histogram before {:?}", self.rest));
        }
        let mut h = FloatHistogram::default();
        let mut hint_written = false;
        let (mut offset, mut negative_offset) = (0, 0);
        loop {
            self.spaces();
            if self.accept("}}") {
                break;
            }
            let key = self.take(|c| c.is_ascii_alphabetic() || c == '_');
            if key.is_empty() || !self.accept(":") {
                return Err(format!("bad histogram description before {:?}", self.rest));
            }
            match key {
                "schema" => h.schema = self.integer()?,
                "offset" => offset = self.integer()?,
                "n_offset" => negative_offset = self.integer()?,
                "sum" => h.sum = self.signed()?,
                "count" => h.count = self.signed()?,
                "z_bucket" => h.zero_count = self.signed()?,
                "z_bucket_w" => h.zero_threshold = self.signed()?,
                "buckets" => h.positive_buckets = self.list()?,
                "n_buckets" => h.negative_buckets = self.list()?,
                "custom_values" => h.custom_values = self.list()?,
                "counter_reset_hint" => {
                    hint_written = true;
                    h.counter_reset_hint = match self.take(|c| c.is_ascii_alphabetic() || c == '_') {
                        "unknown" => CounterResetHint::Unknown,
                        "reset" => CounterResetHint::Reset,
                        "not_reset" => CounterResetHint::NotReset,
                        "gauge" => CounterResetHint::Gauge,
                        other => return Err(format!("unknown counter_reset_hint {other:?}")),
                    };
                }
                other => return Err(format!("bad histogram descriptor found: {other:?}")),
            }
        }
        let span = |offset: i32, buckets: &[f64]| -> Vec<Span> {
            let length = u32::try_from(buckets.len()).unwrap_or(u32::MAX);
            if length == 0 { Vec::new() } else { vec![Span { offset, length }] }
        };
        h.positive_spans = span(offset, &h.positive_buckets);
        h.negative_spans = span(negative_offset, &h.negative_buckets);
        if h.schema != CUSTOM_BUCKETS_SCHEMA && !h.custom_values.is_empty() {
            return Err("custom_values belong to schema -53".to_owned());
        }
        Ok((h, hint_written))
    }

    fn integer(&mut self) -> Result<i32, String> {
        let negative = self.accept("-");
        let digits = self.take(|c| c.is_ascii_digit());
        let n: i32 = digits.parse().map_err(|_| format!("bad integer {digits:?}"))?;
        Ok(if negative { -n } else { n })
    }

    fn list(&mut self) -> Result<Vec<f64>, String> {
        if !self.accept("[") {
            return Err("expected [".to_owned());
        }
        let mut numbers = Vec::new();
        loop {
            self.spaces();
            if self.accept("]") {
                return Ok(numbers);
            }
            numbers.push(self.signed()?);
        }
    }
}
