//! One line of OpenMetrics text, by the grammar of the specification and nothing beside it.

use std::borrow::Cow;

/// Characters that names and values of an exemplar's labels may have together.
const EXEMPLAR_CHARS_MAX: usize = 128;

/// Types of families and what their samples are called: the family's name with one of these behind it.
const KINDS: &[(&str, Kind, &[&str])] = &[
    ("counter", Kind::Counter, &["_total", "_created"]),
    ("gauge", Kind::Gauge, &[""]),
    ("histogram", Kind::Histogram, &["_bucket", "_count", "_sum", "_created"]),
    ("gaugehistogram", Kind::GaugeHistogram, &["_bucket", "_gcount", "_gsum"]),
    ("stateset", Kind::StateSet, &[""]),
    ("info", Kind::Info, &["_info"]),
    ("summary", Kind::Summary, &["", "_count", "_sum", "_created"]),
    ("unknown", Kind::Unknown, &[""]),
];

/// Type of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
    GaugeHistogram,
    StateSet,
    Info,
    Summary,
    #[default]
    Unknown,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        KINDS.iter().find(|(_, kind, _)| *kind == self).map_or("unknown", |(name, ..)| name)
    }

    /// What stands behind the family's name in names of samples.
    pub(super) fn suffixes(self) -> &'static [&'static str] {
        KINDS.iter().find(|(_, kind, _)| *kind == self).map_or(&[""], |(.., suffixes)| suffixes)
    }
}

/// Names and values, in the order in which they stand.
pub(super) type Labels<'a> = Vec<(&'a str, Cow<'a, str>)>;

/// What a line says.
#[derive(Debug, PartialEq)]
pub(super) enum Line<'a> {
    Type { family: &'a str, kind: Kind },
    Help { family: &'a str },
    Unit { family: &'a str, unit: &'a str },
    Sample(Sample<'a>),
    Eof,
}

/// A sample, with its time in seconds.
#[derive(Debug, PartialEq)]
pub(super) struct Sample<'a> {
    pub(super) name: &'a str,
    pub(super) labels: Labels<'a>,
    pub(super) value: f64,
    pub(super) time: Option<f64>,
    pub(super) has_exemplar: bool,
}

/// Reads a line without its line feed.
///
/// # Errors
/// What is wrong with it, where, and what belongs there.
pub(super) fn read(line: &str) -> Result<Line<'_>, String> {
    let mut cursor = Cursor { line, at: 0 };
    if line.is_empty() {
        return Err("the line is empty; there are no empty lines".to_owned());
    }
    if line == "# EOF" {
        return Ok(Line::Eof);
    }
    if !line.starts_with('#') {
        return sample(&mut cursor).map(Line::Sample);
    }
    let Some((keyword, _)) = line.strip_prefix("# ").and_then(|rest| rest.split_once(' ')) else {
        return Err(
            "not one of `# TYPE name type`, `# HELP name text`, `# UNIT name unit`, `# EOF`; there are no comments"
                .to_owned(),
        );
    };
    cursor.at = "# ".len() + keyword.len() + 1;
    let family = cursor.metric_name()?;
    cursor.take(" ", "one blank behind the family's name")?;
    let rest = cursor.rest();
    match keyword {
        "HELP" => Ok(Line::Help { family }),
        "TYPE" => match KINDS.iter().find(|(name, ..)| *name == rest) {
            Some((_, kind, _)) => Ok(Line::Type { family, kind: *kind }),
            None => {
                let known: Vec<_> = KINDS.iter().map(|(name, ..)| *name).collect();
                Err(format!("`{rest}` is no type; the types are {}", known.join(", ")))
            }
        },
        "UNIT" if rest.bytes().all(is_name_byte) => Ok(Line::Unit { family, unit: rest }),
        "UNIT" => Err(format!("`{rest}` is no unit: letters, digits, `_` and `:` only")),
        _ => Err(format!("`# {keyword}` is not known; there are TYPE, HELP, UNIT and EOF, and no comments")),
    }
}

fn sample<'a>(cursor: &mut Cursor<'a>) -> Result<Sample<'a>, String> {
    let name = cursor.metric_name()?;
    let labels = if cursor.rest().starts_with('{') { cursor.labels()? } else { Vec::new() };
    cursor.take(" ", "one blank before the value")?;
    let value = cursor.number()?;
    let (mut time, mut has_exemplar) = (None, false);
    if cursor.rest().starts_with(' ') && !cursor.rest().starts_with(" #") {
        cursor.at += 1;
        time = Some(cursor.time()?);
    }
    if cursor.rest().starts_with(" #") {
        has_exemplar = true;
        cursor.take(" # ", "` # ` before the exemplar's labels")?;
        exemplar(cursor)?;
    }
    if cursor.rest().is_empty() {
        return Ok(Sample { name, labels, value, time, has_exemplar });
    }
    Err(cursor.fault("the end of the line"))
}

fn exemplar(cursor: &mut Cursor<'_>) -> Result<(), String> {
    let labels = cursor.labels()?;
    let n_chars: usize = labels.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum();
    if n_chars > EXEMPLAR_CHARS_MAX {
        return Err(format!(
            "the exemplar's labels have {n_chars} characters; at most {EXEMPLAR_CHARS_MAX} are allowed"
        ));
    }
    cursor.take(" ", "one blank before the exemplar's value")?;
    cursor.number()?;
    if !cursor.rest().is_empty() {
        cursor.take(" ", "one blank before the exemplar's timestamp")?;
        cursor.time()?;
    }
    Ok(())
}

/// A place in a line.
struct Cursor<'a> {
    line: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a str {
        &self.line[self.at..]
    }

    /// What is told where `wanted` does not stand.
    fn fault(&self, wanted: &str) -> String {
        let found = match self.rest().chars().next() {
            Some(c) => format!("{c:?}"),
            None => "the end of the line".to_owned(),
        };
        format!("column {}: {wanted} expected, not {found}", self.line[..self.at].chars().count() + 1)
    }

    fn take(&mut self, text: &str, wanted: &str) -> Result<(), String> {
        if !self.rest().starts_with(text) {
            return Err(self.fault(wanted));
        }
        self.at += text.len();
        Ok(())
    }

    /// What stands here as long as `belongs` holds of its bytes, of which the first is no digit.
    fn name(&mut self, belongs: fn(u8) -> bool, wanted: &str) -> Result<&'a str, String> {
        let rest = self.rest();
        let n = rest.bytes().take_while(|b| belongs(*b)).count();
        if n == 0 || rest.as_bytes()[0].is_ascii_digit() {
            return Err(self.fault(wanted));
        }
        self.at += n;
        Ok(&rest[..n])
    }

    fn metric_name(&mut self) -> Result<&'a str, String> {
        self.name(is_name_byte, "a name of letters, digits, `_` and `:`")
    }

    fn labels(&mut self) -> Result<Labels<'a>, String> {
        self.take("{", "`{`")?;
        let mut labels: Labels<'a> = Vec::new();
        if self.rest().starts_with('}') {
            self.at += 1;
            return Ok(labels);
        }
        loop {
            let is_label_byte = |b: u8| b == b'_' || b.is_ascii_alphanumeric();
            let name = self.name(is_label_byte, "the name of a label, of letters, digits and `_`,")?;
            if labels.iter().any(|(other, _)| *other == name) {
                return Err(format!("the label `{name}` is there twice"));
            }
            self.take("=", "`=`")?;
            self.take("\"", "`\"`")?;
            labels.push((name, self.quoted()?));
            if self.rest().starts_with('}') {
                self.at += 1;
                return Ok(labels);
            }
            self.take(",", "`,` or `}`")?;
        }
    }

    /// The value of a label, whose opening quote is behind.
    fn quoted(&mut self) -> Result<Cow<'a, str>, String> {
        let rest = self.rest();
        let mut value = Cow::Borrowed("");
        let mut from = 0;
        while let Some(n) = rest[from..].find(['"', '\\']) {
            let at = from + n;
            value += &rest[from..at];
            if rest.as_bytes()[at] == b'"' {
                self.at += at + 1;
                return Ok(value);
            }
            let Some(escaped) = rest[at + 1..].chars().next() else { break };
            match escaped {
                'n' => value += "\n",
                '"' | '\\' => value += &rest[at + 1..at + 2],
                _ => value += &rest[at..at + 1 + escaped.len_utf8()],
            }
            from = at + 1 + escaped.len_utf8();
        }
        self.at = self.line.len();
        Err(self.fault("`\"`"))
    }

    /// What stands here up to the next blank or the end.
    fn word(&mut self) -> &'a str {
        let rest = self.rest();
        let word = &rest[..rest.find(' ').unwrap_or(rest.len())];
        self.at += word.len();
        word
    }

    fn number(&mut self) -> Result<f64, String> {
        let before = self.at;
        let word = self.word();
        number(word).ok_or_else(|| {
            self.at = before;
            self.fault("a decimal number, `+Inf`, `-Inf` or `NaN`") + &format!(" in `{word}`")
        })
    }

    fn time(&mut self) -> Result<f64, String> {
        let before = self.at;
        let word = self.word();
        real(word).filter(|time| time.is_finite()).ok_or_else(|| {
            self.at = before;
            self.fault("a timestamp in seconds, a decimal number,") + &format!(" in `{word}`")
        })
    }
}

fn is_name_byte(b: u8) -> bool {
    b == b'_' || b == b':' || b.is_ascii_alphanumeric()
}

/// The value of a number of the grammar.
pub(super) fn number(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if unsigned.eq_ignore_ascii_case("inf") || unsigned.eq_ignore_ascii_case("infinity") {
        return Some(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY });
    }
    if text.eq_ignore_ascii_case("nan") { Some(f64::NAN) } else { real(text) }
}

fn real(text: &str) -> Option<f64> {
    text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b)).then(|| text.parse().ok()).flatten()
}
