//! Names and labels of a sample line.

use std::borrow::Cow;
use std::collections::HashSet;

use promontory_model::{METRIC_NAME, MetricType};

use super::{
    Fault, Format, Pair, format_openmetrics_float, name_len, name_text, number, quoted_len, skip_blanks, unescape,
};

/// A fault and the offset of what is wrong.
pub(super) type Failure = (usize, Fault);

pub(super) fn expected(body: &[u8], at: usize, what: &'static str) -> Failure {
    let rest = body.get(at..).unwrap_or_default();
    // One whole character, however many bytes it has.
    let got = String::from_utf8_lossy(&rest[..rest.len().min(4)]).chars().next().map(String::from);
    (at, Fault::Expected { what, got: got.unwrap_or_default() })
}

/// Reads name and labels at `start` into `labels` and returns where they end.
pub(super) fn series<'a>(
    body: &'a [u8],
    start: usize,
    format: Format,
    kind: MetricType,
    labels: &mut Vec<Pair<'a>>,
) -> Result<usize, Failure> {
    labels.clear();
    let name = name_len(&body[start..], true);
    let mut end = start + name;
    let mut named = false;
    if name > 0 {
        // Names hold only ASCII.
        labels.push((Cow::Borrowed(METRIC_NAME), Cow::Borrowed(name_text(&body[start..end]))));
        named = true;
    } else if body.get(start) != Some(&b'{') {
        return Err(expected(body, start, "a valid start token"));
    }
    let brace = if format == Format::Text { skip_blanks(body, end) } else { end };
    if body.get(brace) == Some(&b'{') {
        end = Braces { body, format, kind, exemplar: false, named }.read(brace + 1, labels)?;
    }
    if labels.first().is_none_or(|(name, _)| name != METRIC_NAME) {
        return Err((start, Fault::NoName));
    }
    refuse_repeated(start, labels)?;
    Ok(end)
}

/// Labels that are compared each with each; more are looked up, so that a line of very many costs no more than reading.
const COMPARED_MAX: usize = 32;

fn refuse_repeated(start: usize, labels: &[Pair<'_>]) -> Result<(), Failure> {
    let mut seen: HashSet<&str> = HashSet::new();
    for (i, (name, _)) in labels.iter().enumerate() {
        let is_repeated = if labels.len() > COMPARED_MAX {
            !seen.insert(name)
        } else {
            labels[..i].iter().any(|(other, _)| other == name)
        };
        if is_repeated {
            return Err((start, Fault::LabelTwice(name.clone().into_owned())));
        }
    }
    Ok(())
}

/// Reads the labels of an exemplar, whose opening brace has been read, and where they end.
pub(super) fn exemplar_labels(body: &[u8], at: usize) -> Result<(Vec<Pair<'_>>, usize), Failure> {
    let mut labels = Vec::new();
    let braces = Braces { body, format: Format::OpenMetrics, kind: MetricType::Unknown, exemplar: true, named: true };
    let end = braces.read(at, &mut labels)?;
    Ok((labels, end))
}

/// What stands between braces. OpenMetrics allows no blank there and wants commas between pairs; Prometheus text
/// allows blanks everywhere and needs no comma. Both allow one comma at the end.
struct Braces<'a> {
    body: &'a [u8],
    format: Format,
    kind: MetricType,
    exemplar: bool,
    named: bool,
}

impl<'a> Braces<'a> {
    fn skip(&self, at: usize) -> usize {
        if self.format == Format::Text { skip_blanks(self.body, at) } else { at }
    }

    fn read(mut self, at: usize, labels: &mut Vec<Pair<'a>>) -> Result<usize, Failure> {
        let mut at = self.skip(at);
        loop {
            let (name, quoted, after) = match self.body.get(at) {
                Some(b'}') => return Ok(at + 1),
                Some(b'"') => {
                    let (name, after) = self.string(at, "label name", Fault::NameUtf8)?;
                    (name, true, after)
                }
                _ => {
                    let len = name_len(self.body.get(at..).unwrap_or_default(), false);
                    if len == 0 {
                        return Err(expected(self.body, at, "label name"));
                    }
                    (Cow::Borrowed(name_text(&self.body[at..at + len])), false, at + len)
                }
            };
            let mut next = self.skip(after);
            if quoted && !self.exemplar && matches!(self.body.get(next), Some(b',' | b'}')) {
                if self.named {
                    return Err((at, Fault::TwoNames));
                }
                self.named = true;
                labels.insert(0, (Cow::Borrowed(METRIC_NAME), name));
            } else {
                if self.body.get(next) != Some(&b'=') {
                    return Err(expected(self.body, next, "equal"));
                }
                let value_at = self.skip(next + 1);
                if self.body.get(value_at) != Some(&b'"') {
                    return Err(expected(self.body, value_at, "label value"));
                }
                let (value, after) = self.string(value_at, "label value", Fault::LabelValueUtf8)?;
                let value = self.canonical(&name, value);
                labels.push((name, value));
                next = self.skip(after);
            }
            at = match (self.body.get(next), self.format) {
                (Some(b','), _) => self.skip(next + 1),
                (Some(b'}'), _) | (_, Format::Text) => next,
                _ => return Err(expected(self.body, next, "comma or brace close")),
            };
        }
    }

    fn string(
        &self,
        at: usize,
        what: &'static str,
        fault: fn(String) -> Fault,
    ) -> Result<(Cow<'a, str>, usize), Failure> {
        let rest = &self.body[at..];
        let len = quoted_len(rest, self.format == Format::Text).ok_or_else(|| expected(self.body, at, what))?;
        let inner = &rest[1..len - 1];
        let text = std::str::from_utf8(inner)
            .map_err(|e| (at + 1 + e.valid_up_to(), fault(String::from_utf8_lossy(inner).into_owned())))?;
        Ok((unescape(text, true), at + len))
    }

    /// `le="1"` and `le="1.0"` are one bucket, so bounds of typed histograms and summaries get one spelling.
    fn canonical(&self, name: &str, value: Cow<'a, str>) -> Cow<'a, str> {
        match (self.kind, name) {
            (MetricType::Histogram, "le") | (MetricType::Summary, "quantile") => {}
            _ => return value,
        }
        number::parse_float(value.as_bytes()).map_or(value, |bound| Cow::Owned(format_openmetrics_float(bound)))
    }
}

/// End of the name and labels at `start`; only their outline is looked at.
pub(super) fn key_end(body: &[u8], start: usize, format: Format) -> Option<usize> {
    let name_end = start + name_len(body.get(start..)?, true);
    let brace = if format == Format::Text { skip_blanks(body, name_end) } else { name_end };
    if body.get(brace) != Some(&b'{') {
        return (name_end > start).then_some(name_end);
    }
    let mut at = brace + 1;
    loop {
        let found = at + memchr::memchr3(b'"', b'}', b'\n', body.get(at..)?)?;
        match body[found] {
            b'"' => at = found + quoted_len(&body[found..], format == Format::Text)?,
            b'}' => return Some(found + 1),
            _ => return None,
        }
    }
}
