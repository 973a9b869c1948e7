//! Lines of both formats: what a line is, values and timestamps of samples, metadata.

use std::num::NonZeroU32;

use promontory_model::MetricType;

use super::series::{self, Failure, expected};
use super::{
    Exemplar, Fault, Format, Item, Metadata, ParseError, Parser, Tail, name_len, number, quoted_len, skip_blanks,
    unescape,
};

/// Which metadata a line begins to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keyword {
    Help,
    Type,
    Unit,
}

impl Keyword {
    fn after(self) -> &'static str {
        match self {
            Self::Help => "metric name after HELP",
            Self::Type => "metric name after TYPE",
            Self::Unit => "metric name after UNIT",
        }
    }

    fn text_in(self) -> &'static str {
        match self {
            Self::Help => "text in HELP",
            Self::Type => "text in TYPE",
            Self::Unit => "text in UNIT",
        }
    }
}

impl Parser<'_> {
    pub(super) fn next_text(&mut self) -> Result<Item, ParseError> {
        let start = self.text_silent_end(self.at);
        match self.text_keyword(start) {
            Some((keyword, name_at)) => self.metadata(start, keyword, name_at),
            None if start < self.body.len() => self.sample(start),
            None => {
                self.at = start;
                Ok(Item::End)
            }
        }
    }

    /// Passes over blanks, empty lines and comments.
    pub(super) fn text_silent_end(&self, mut at: usize) -> usize {
        loop {
            at = skip_blanks(self.body, at);
            match self.body.get(at) {
                Some(b'\n') => at += 1,
                Some(b'#') if self.text_keyword(at).is_none() => at = line_end(self.body, at),
                _ => return at,
            }
        }
    }

    pub(super) fn next_openmetrics(&mut self) -> Result<Item, ParseError> {
        let start = self.at;
        if self.body.get(start) == Some(&b'#') {
            let rest = &self.body[start..];
            for (prefix, keyword) in
                [(b"# HELP ", Keyword::Help), (b"# TYPE ", Keyword::Type), (b"# UNIT ", Keyword::Unit)]
            {
                if rest.starts_with(prefix) {
                    return self.metadata(start, keyword, start + prefix.len());
                }
            }
            if rest == b"# EOF" || rest == b"# EOF\n" {
                self.at = self.body.len();
                return Ok(Item::End);
            }
            if rest.starts_with(b"# EOF") {
                return Err(self.error(start, start + 5, Fault::AfterEof));
            }
            let (at, fault) = expected(self.body, (start + 2).min(self.body.len()), "HELP, TYPE, UNIT or EOF");
            return Err(self.error(start, at, fault));
        }
        if start >= self.body.len() {
            return Err(self.error(start, start, Fault::NoEof));
        }
        self.sample(start)
    }

    pub(super) fn next_assembled(&mut self) -> Result<Item, ParseError> {
        if self.at >= self.body.len() { Ok(Item::End) } else { self.next_openmetrics() }
    }

    fn sample(&mut self, start: usize) -> Result<Item, ParseError> {
        let key_end = series::series(self.body, start, self.format, self.kind, &mut self.labels)
            .map_err(|(at, fault)| self.error(start, at, fault))?;
        let (tail, next) = tail(self.body, key_end, self.format).map_err(|(at, fault)| self.error(start, at, fault))?;
        self.at = next;
        Ok(Item::Sample { key: start..key_end, tail })
    }

    /// `# HELP` or `# TYPE` with blanks behind each word; anything else after `#` is a comment.
    fn text_keyword(&self, start: usize) -> Option<(Keyword, usize)> {
        if self.body.get(start) != Some(&b'#') {
            return None;
        }
        let word = skip_blanks(self.body, start + 1);
        if word == start + 1 {
            return None;
        }
        let keyword = match self.body.get(word..word + 4)? {
            b"HELP" => Keyword::Help,
            b"TYPE" => Keyword::Type,
            _ => return None,
        };
        let name = skip_blanks(self.body, word + 4);
        (name > word + 4).then_some((keyword, name))
    }

    fn metadata(&mut self, start: usize, keyword: Keyword, name_at: usize) -> Result<Item, ParseError> {
        let (family, text, next) =
            self.metadata_parts(keyword, name_at).map_err(|(at, fault)| self.error(start, at, fault))?;
        let at = next - text.len() - usize::from(self.body[..next].last() == Some(&b'\n'));
        let text = match keyword {
            Keyword::Help => {
                let Ok(help) = std::str::from_utf8(text) else {
                    return Err(self.error(start, at, Fault::HelpUtf8(String::from_utf8_lossy(text).into_owned())));
                };
                Metadata::Help(unescape(help, self.format == Format::OpenMetrics).into_owned())
            }
            Keyword::Type => match metric_type(text, self.format) {
                Some(kind) => {
                    self.kind = kind;
                    Metadata::Type(kind)
                }
                None => {
                    let text = String::from_utf8_lossy(text).into_owned();
                    return Err(self.error(start, at, Fault::MetricType(text)));
                }
            },
            Keyword::Unit => {
                let unit = String::from_utf8_lossy(text).into_owned();
                let suffix = family.strip_suffix(unit.as_str()).and_then(|f| f.strip_suffix('_'));
                if !unit.is_empty() && suffix.is_none() && self.format == Format::OpenMetrics {
                    return Err(self.error(start, at, Fault::Unit { unit, family }));
                }
                Metadata::Unit(unit)
            }
        };
        self.at = next;
        Ok(Item::Metadata { line: start..next, family, text })
    }

    /// Family, raw text, start of the next line.
    fn metadata_parts(&self, keyword: Keyword, name_at: usize) -> Result<(String, &[u8], usize), Failure> {
        let body = self.body;
        let rest = &body[name_at..];
        let (family, name_end) = if rest.first() == Some(&b'"') {
            let len = quoted_len(rest, self.format == Format::Text)
                .ok_or_else(|| expected(body, name_at, keyword.after()))?;
            let Ok(name) = std::str::from_utf8(&rest[1..len - 1]) else {
                return Err((name_at, Fault::NameUtf8(String::from_utf8_lossy(&rest[1..len - 1]).into_owned())));
            };
            (unescape(name, true).into_owned(), name_at + len)
        } else {
            let len = name_len(rest, true);
            if len == 0 {
                return Err(expected(body, name_at, keyword.after()));
            }
            (String::from_utf8_lossy(&rest[..len]).into_owned(), name_at + len)
        };
        let next = line_end(body, name_end);
        let text_end = if next > 0 && body[next - 1] == b'\n' { next - 1 } else { next };
        if self.format == Format::OpenMetrics && (body.get(name_end) != Some(&b' ') || text_end == next) {
            return Err(expected(body, name_end, keyword.text_in()));
        }
        // The first byte is the separator, whatever it is.
        Ok((family, &body[(name_end + 1).min(text_end)..text_end], next))
    }
}

/// Start of the line after the one that holds `at`.
fn line_end(body: &[u8], at: usize) -> usize {
    memchr::memchr(b'\n', &body[at..]).map_or(body.len(), |i| at + i + 1)
}

fn metric_type(text: &[u8], format: Format) -> Option<MetricType> {
    let open = format != Format::Text;
    Some(match text {
        b"counter" => MetricType::Counter,
        b"gauge" => MetricType::Gauge,
        b"histogram" => MetricType::Histogram,
        b"summary" => MetricType::Summary,
        b"untyped" if !open => MetricType::Unknown,
        b"unknown" if open => MetricType::Unknown,
        b"gaugehistogram" if open => MetricType::GaugeHistogram,
        b"info" if open => MetricType::Info,
        b"stateset" if open => MetricType::StateSet,
        _ => return None,
    })
}

/// Reads value, timestamp and exemplar after a key, and the start of the next line.
pub(super) fn tail(body: &[u8], key_end: usize, format: Format) -> Result<(Tail, usize), Failure> {
    match format {
        Format::Text => text_tail(body, key_end),
        Format::OpenMetrics => openmetrics_tail(body, key_end),
        Format::Assembled => {
            super::assembled::tail(body, key_end).ok_or_else(|| expected(body, key_end, "value after metric"))
        }
    }
}

fn text_tail(body: &[u8], key_end: usize) -> Result<(Tail, usize), Failure> {
    let start = skip_blanks(body, key_end);
    let end = start + token_len(&body[start..], |b| matches!(b, b' ' | b'\t' | b'\n' | b'{'));
    if end == start {
        return Err(expected(body, start, "value after metric"));
    }
    let value = number::parse_float(&body[start..end]).map_err(|fault| (start, fault))?;
    let at = skip_blanks(body, end);
    match body.get(at) {
        None => return Ok((Tail::plain(value), at)),
        Some(b'\n') => return Ok((Tail::plain(value), at + 1)),
        _ => {}
    }
    let sign = usize::from(body[at] == b'-');
    let digits = body[at + sign..].iter().take_while(|b| b.is_ascii_digit()).count();
    if digits == 0 {
        return Err(expected(body, at, "timestamp or new record"));
    }
    let end = at + sign + digits;
    let text = String::from_utf8_lossy(&body[at..end]);
    let timestamp = text.parse().map_err(|_| (at, Fault::TimestampRange(text.clone().into_owned())))?;
    let tail = Tail { timestamp_ms: Some(timestamp), ..Tail::plain(value) };
    let at = skip_blanks(body, end);
    match body.get(at) {
        None => Ok((tail, at)),
        Some(b'\n') => Ok((tail, at + 1)),
        _ => Err(expected(body, at, "next entry after timestamp")),
    }
}

fn openmetrics_tail(body: &[u8], key_end: usize) -> Result<(Tail, usize), Failure> {
    let (value_at, at) =
        openmetrics_token(body, key_end).ok_or_else(|| expected(body, key_end, "value after metric"))?;
    let value = number::parse_float(&body[value_at..at]).map_err(|fault| (value_at, fault))?;
    let mut tail = Tail::plain(value);
    if body.get(at) == Some(&b'\n') {
        return Ok((tail, at + 1));
    }
    if body[at..].starts_with(b" # {") {
        return with_exemplar(body, at + 4, tail);
    }
    let (stamp_at, at) = openmetrics_token(body, at).ok_or_else(|| expected(body, at, "timestamp or new record"))?;
    tail.timestamp_ms = Some(openmetrics_timestamp(body, stamp_at, at, Fault::Timestamp)?);
    if body.get(at) == Some(&b'\n') {
        return Ok((tail, at + 1));
    }
    if body[at..].starts_with(b" # {") {
        return with_exemplar(body, at + 4, tail);
    }
    Err(expected(body, at, "next entry after timestamp"))
}

/// One blank and what follows it up to the next blank or line end.
fn openmetrics_token(body: &[u8], at: usize) -> Option<(usize, usize)> {
    if body.get(at) != Some(&b' ') {
        return None;
    }
    let len = token_len(&body[at + 1..], |b| matches!(b, b' ' | b'\n'));
    (len > 0).then_some((at + 1, at + 1 + len))
}

fn openmetrics_timestamp(body: &[u8], start: usize, end: usize, fault: fn(String) -> Fault) -> Result<i64, Failure> {
    let bytes = &body[start..end];
    let seconds = number::parse_float(bytes).map_err(|fault| (start, fault))?;
    if !seconds.is_finite() {
        return Err((start, fault(String::from_utf8_lossy(bytes).into_owned())));
    }
    // Truncates, and stays at the ends of the range: no such sample is inside the bounds of storage anyway.
    Ok((seconds * 1000.0) as i64)
}

fn with_exemplar(body: &[u8], at: usize, tail: Tail) -> Result<(Tail, usize), Failure> {
    let (_, next) = exemplar(body, at)?;
    Ok((Tail { exemplar: u32::try_from(at).ok().and_then(NonZeroU32::new), ..tail }, next))
}

/// Reads an exemplar from behind its opening brace, and the start of the next line.
pub(super) fn exemplar(body: &[u8], at: usize) -> Result<(Exemplar<'_>, usize), Failure> {
    let (labels, at) = series::exemplar_labels(body, at)?;
    let (value_at, at) =
        openmetrics_token(body, at).ok_or_else(|| expected(body, at, "value after exemplar labels"))?;
    let value = number::parse_float(&body[value_at..at]).map_err(|fault| (value_at, fault))?;
    let mut exemplar = Exemplar { labels, value, timestamp_ms: None };
    if body.get(at) == Some(&b'\n') {
        return Ok((exemplar, at + 1));
    }
    let (stamp_at, at) =
        openmetrics_token(body, at).ok_or_else(|| expected(body, at, "timestamp or next entry after exemplar"))?;
    exemplar.timestamp_ms = Some(openmetrics_timestamp(body, stamp_at, at, Fault::ExemplarTimestamp)?);
    if body.get(at) == Some(&b'\n') {
        return Ok((exemplar, at + 1));
    }
    Err(expected(body, at, "next entry after exemplar timestamp"))
}

fn token_len(bytes: &[u8], ends: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|b| ends(*b)).unwrap_or(bytes.len())
}
