//! Lines of InfluxDB: `measurement,tag=value field=1,other=2i 1700000000000000000`.
//!
//! # Source
//! The reference of InfluxDB's line protocol, version 1.8 and 2. Texts are read and left out, for no sample holds one.

use std::borrow::Cow;

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("missing measurement")]
    NoMeasurement,
    #[error("missing tag key")]
    NoTagKey,
    #[error("missing tag value")]
    NoTagValue,
    #[error("missing fields")]
    NoFields,
    #[error("missing field key")]
    NoFieldKey,
    #[error("invalid field value")]
    FieldValue,
    #[error("unbalanced quotes")]
    Quotes,
    #[error("bad timestamp")]
    Timestamp,
}

/// A line. Fields whose value is a text are not in it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line<'a> {
    pub(super) measurement: Cow<'a, str>,
    pub(super) tags: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    pub(super) fields: Vec<(Cow<'a, str>, f64)>,
    /// In the unit of the request.
    pub(super) timestamp: Option<i64>,
}

/// The lines of a text without their ends, each with its number. A line break in the quotes of a field ends none; where
/// no quote follows, the line ends nevertheless, and is a wrong one.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut rest = Some(text);
    let mut number = 1;
    std::iter::from_fn(move || {
        let text = rest?;
        let end = end_of_line(text);
        let line = &text[..end];
        rest = text.get(end + 1..);
        let here = number;
        number += 1 + line.matches('\n').count();
        Some((here, line))
    })
}

/// Where the first line of a text ends.
fn end_of_line(text: &str) -> usize {
    let first = text.find('\n').unwrap_or(text.len());
    // Most lines have no text in them, and comments have what they like.
    if !text[..first].contains('"') || text.trim_start_matches([' ', '\t']).starts_with('#') {
        return first;
    }
    let indent = text.len() - text.trim_start_matches([' ', '\t']).len();
    let (mut is_escaped, mut in_fields, mut in_quotes, mut before) = (false, false, false, 0);
    for (at, &byte) in text.as_bytes().iter().enumerate().skip(indent) {
        match byte {
            b'\n' if !in_quotes => return at,
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b' ' => in_fields = true,
            b'"' if in_quotes => in_quotes = false,
            // Elsewhere a quote is a character like any other.
            b'"' => in_quotes = in_fields && before == b'=',
            _ => {}
        }
        before = byte;
    }
    if in_quotes { first } else { text.len() }
}

/// Reads one line without its end; `None` for an empty one and for a comment.
pub(super) fn parse(line: &str) -> Result<Option<Line<'_>>, Fault> {
    let line = line.trim_matches([' ', '\r', '\t']);
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let mut rest = Rest(line);
    let measurement = rest.name(&[',', ' ']);
    if measurement.is_empty() {
        return Err(Fault::NoMeasurement);
    }
    let mut tags = Vec::new();
    while rest.skip(',') {
        let key = rest.name(&['=', ',', ' ']);
        if key.is_empty() {
            return Err(Fault::NoTagKey);
        }
        let value = if rest.skip('=') { rest.name(&[',', ' ']) } else { Cow::Borrowed("") };
        if value.is_empty() {
            return Err(Fault::NoTagValue);
        }
        tags.push((key, value));
    }
    rest.skip_blanks();
    if rest.0.is_empty() {
        return Err(Fault::NoFields);
    }
    let mut fields = Vec::new();
    loop {
        let key = rest.name(&['=', ',', ' ']);
        if key.is_empty() {
            return Err(Fault::NoFieldKey);
        }
        if !rest.skip('=') {
            return Err(Fault::FieldValue);
        }
        if let Some(value) = rest.field_value()? {
            fields.push((key, value));
        }
        if !rest.skip(',') {
            break;
        }
    }
    let after = rest.0.trim_matches(' ');
    if !after.is_empty() && !rest.0.starts_with(' ') {
        return Err(Fault::FieldValue);
    }
    let timestamp = match after {
        "" => None,
        digits => Some(digits.parse().map_err(|_| Fault::Timestamp)?),
    };
    Ok(Some(Line { measurement, tags, fields, timestamp }))
}

/// What is left of a line.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    /// Takes `c` if it comes next.
    fn skip(&mut self, c: char) -> bool {
        match self.0.strip_prefix(c) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    fn skip_blanks(&mut self) {
        self.0 = self.0.trim_start_matches(' ');
    }

    /// A name up to one of `ends` that has no backslash before it.
    fn name(&mut self, ends: &[char]) -> Cow<'a, str> {
        let mut is_escaped = false;
        let mut has_escapes = false;
        let end = self.0.find(|c: char| {
            if std::mem::take(&mut is_escaped) {
                return false;
            }
            is_escaped = c == '\\';
            has_escapes |= is_escaped;
            ends.contains(&c)
        });
        let (name, rest) = self.0.split_at(end.unwrap_or(self.0.len()));
        self.0 = rest;
        if has_escapes { Cow::Owned(unescaped(name, &[',', '=', ' ', '\\'])) } else { Cow::Borrowed(name) }
    }

    /// A number; `None` for a text.
    fn field_value(&mut self) -> Result<Option<f64>, Fault> {
        if let Some(text) = self.0.strip_prefix('"') {
            let mut is_escaped = false;
            let end = text.find(|c: char| {
                if std::mem::take(&mut is_escaped) {
                    return false;
                }
                is_escaped = c == '\\';
                c == '"'
            });
            self.0 = &text[end.ok_or(Fault::Quotes)? + 1..];
            return Ok(None);
        }
        let end = self.0.find([',', ' ']).unwrap_or(self.0.len());
        let (text, rest) = self.0.split_at(end);
        self.0 = rest;
        let value = match text {
            "t" | "T" | "true" | "True" | "TRUE" => 1.0,
            "f" | "F" | "false" | "False" | "FALSE" => 0.0,
            text => match text.strip_suffix(['i', 'u']) {
                Some(digits) if text.ends_with('i') => digits.parse::<i64>().map_err(|_| Fault::FieldValue)? as f64,
                Some(digits) => digits.parse::<u64>().map_err(|_| Fault::FieldValue)? as f64,
                // Neither "inf" nor "nan" is a number here.
                None if text.ends_with(|c: char| c.is_ascii_digit() || c == '.') => {
                    text.parse().map_err(|_| Fault::FieldValue)?
                }
                None => return Err(Fault::FieldValue),
            },
        };
        Ok(Some(value))
    }
}

/// A backslash before one of `chars` goes, any other stays.
fn unescaped(text: &str, chars: &[char]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match rest.peek() {
            Some(next) if c == '\\' && chars.contains(next) => {
                out.push(*next);
                rest.next();
            }
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: Result<&str, Fault>) {
        let got = parse(line).map(|line| {
            let Some(line) = line else { return "nothing".to_owned() };
            let tags = line.tags.iter().map(|(k, v)| format!(",{k}={v}")).collect::<String>();
            let fields = line.fields.iter().map(|(k, v)| format!(" {k}={v}")).collect::<String>();
            format!("{}{tags}{fields} @{:?}", line.measurement, line.timestamp)
        });
        assert_eq!(got.as_deref().map_err(|e| *e), expected, "{line}");
    }

    #[test]
    fn lines_are_read() {
        check("cpu,host=a,zone=b usage=1.5,n=-2i,u=3u 17", Ok("cpu,host=a,zone=b usage=1.5 n=-2 u=3 @Some(17)"));
        check("m f=t,g=FALSE", Ok("m f=1 g=0 @None"));
        check("m f=\"a, b=\\\"c\\\" 5\",g=1e3", Ok("m g=1000 @None"));
        check("m f=\"\"", Ok("m @None"));
        check(r"my\ m\,x,t\=a\ g=v\,\=w f\ 1=2", Ok("my m,x,t=a g=v,=w f 1=2 @None"));
        check(r"m,p=C:\dir f=1", Ok(r"m,p=C:\dir f=1 @None"));
        check("é,ü=ö ä=1 -5", Ok("é,ü=ö ä=1 @Some(-5)"));
        check("  m f=1   9  \r", Ok("m f=1 @Some(9)"));
        check("# m f=1", Ok("nothing"));
        check("", Ok("nothing"));
    }

    #[test]
    fn faults_have_names() {
        check("m", Err(Fault::NoFields));
        check("m ", Err(Fault::NoFields));
        check(",a=b f=1", Err(Fault::NoMeasurement));
        check("m,=b f=1", Err(Fault::NoTagKey));
        check("m,a f=1", Err(Fault::NoTagValue));
        check("m,a= f=1", Err(Fault::NoTagValue));
        check("m f", Err(Fault::FieldValue));
        check("m =1", Err(Fault::NoFieldKey));
        check("m f=1,", Err(Fault::NoFieldKey));
        check("m f=", Err(Fault::FieldValue));
        check("m f=x", Err(Fault::FieldValue));
        check("m f=inf", Err(Fault::FieldValue));
        check("m f=1.5i", Err(Fault::FieldValue));
        check("m f=\"a", Err(Fault::Quotes));
        check("m f=\"a\"b", Err(Fault::FieldValue));
        check("m f=1 x", Err(Fault::Timestamp));
        check("m f=1 1 2", Err(Fault::Timestamp));
    }

    #[test]
    fn line_breaks_in_quotes_end_no_line() {
        #[track_caller]
        fn check(text: &str, expected: &[(usize, &str)]) {
            assert_eq!(lines(text).collect::<Vec<_>>(), expected, "{text:?}");
        }
        check("", &[(1, "")]);
        check("a f=1\nb f=2\n", &[(1, "a f=1"), (2, "b f=2"), (3, "")]);
        check("a f=\"x\ny\\\"\n=\",g=1 5\nb f=2", &[(1, "a f=\"x\ny\\\"\n=\",g=1 5"), (4, "b f=2")]);
        // Quotes of names and tags, of comments, and one that is never closed.
        check("a,t=\"x f=1\nb f=\"2\"", &[(1, "a,t=\"x f=1"), (2, "b f=\"2\"")]);
        check("  \"a f=1\nb f=\"2\"", &[(1, "  \"a f=1"), (2, "b f=\"2\"")]);
        check("# f=\"x\nb f=\"2\"", &[(1, "# f=\"x"), (2, "b f=\"2\"")]);
        check("a f=\"x\nb f=2\nc f=3", &[(1, "a f=\"x"), (2, "b f=2"), (3, "c f=3")]);
        check("a\\ b,t=x\\\nc f=\"1\n2\"", &[(1, "a\\ b,t=x\\"), (2, "c f=\"1\n2\"")]);
        super::tests::check("a f=\"x\ny\",g=1 5", Ok("a g=1 @Some(5)"));
    }

    proptest::proptest! {
        #[test]
        fn lines_leave_nothing_out(text in "[ f\"=#\\\\\n]{0,30}") {
            let all: Vec<_> = lines(&text).map(|(_, line)| line).collect();
            proptest::prop_assert_eq!(all.join("\n"), text);
        }

        #[test]
        fn no_line_makes_it_panic(line in "[ -~é\\\\,=\" ]{0,40}") {
            let _ = parse(&line);
        }
    }
}
