//! `$var`, `${var:format}` and `[[var]]` in texts and queries.
//!
//! # Source
//! Syntax, formats and the escaping in PromQL are Grafana's; a name that is not known stays as it is written.

use std::fmt::Write as _;

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Binding {
    /// Values, one unless several were chosen.
    pub(crate) values: Vec<String>,
    /// What a person reads.
    pub(crate) text: String,
    /// Whether the variable may hold several values, which decides how PromQL escapes it.
    pub(crate) multi: bool,
    /// Text that stands for all values as it is, unescaped.
    pub(crate) raw_all: Option<String>,
}

impl Binding {
    /// A plain value, as built-in variables have it.
    pub(crate) fn plain(value: impl Into<String>) -> Self {
        let value = value.into();
        Self { text: value.clone(), values: vec![value], multi: false, raw_all: None }
    }
}

/// Where names are looked up; `None` leaves the text as it is.
pub(crate) type Lookup<'a> = dyn Fn(&str) -> Option<Binding> + 'a;

/// How a value is written when the text names no format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Context {
    /// In a query.
    PromQl,
    /// In a legend or text.
    Text,
    /// In a title, which has choices as their picker shows them.
    Title,
    /// In an address, whose parts are encoded.
    Url,
}

/// Replaces what is known.
pub(crate) fn interpolate(text: &str, context: Context, lookup: &Lookup<'_>) -> String {
    if !text.contains('$') && !text.contains("[[") {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(start) = rest.find(['$', '[']) {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        match reference(rest) {
            Some((length, name, format)) => {
                match lookup(name).and_then(|binding| render(&binding, name, format, context, &out)) {
                    Some(value) => out.push_str(&value),
                    None => out.push_str(&rest[..length]),
                }
                rest = &rest[length..];
            }
            None => {
                out.push_str(&rest[..1]);
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// The names that `text` refers to.
pub(crate) fn names(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(['$', '[']) {
        rest = &rest[start..];
        let length = match reference(rest) {
            Some((length, name, _)) => {
                out.push(name.to_owned());
                length
            }
            None => 1,
        };
        rest = &rest[length..];
    }
    out
}

/// Length, name and format of the reference that `text` begins with.
fn reference(text: &str) -> Option<(usize, &str, Option<&str>)> {
    let braced = |inner: &'_ str| -> Option<()> {
        let name = inner.split([':', '.']).next()?;
        (!name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')).then_some(())
    };
    if let Some(after) = text.strip_prefix("${") {
        let end = after.find('}')?;
        let inner = &after[..end];
        braced(inner)?;
        let (name, format) = split_format(inner);
        return Some((end + 3, name, format));
    }
    if let Some(after) = text.strip_prefix("[[") {
        let end = after.find("]]")?;
        let inner = &after[..end];
        braced(inner)?;
        let (name, format) = split_format(inner);
        return Some((end + 4, name, format));
    }
    let after = text.strip_prefix('$')?;
    let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
    let name = &after[..end];
    // `$1` belongs to label_replace and to regular expressions.
    (!name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit())).then_some((end + 1, name, None))
}

fn split_format(inner: &str) -> (&str, Option<&str>) {
    match inner.split_once(':') {
        Some((name, format)) => (name, Some(format)),
        None => (inner, None),
    }
}

/// The text of a reference; `before` is what the result has so far.
fn render(binding: &Binding, name: &str, format: Option<&str>, context: Context, before: &str) -> Option<String> {
    let Some(format) = format else {
        return Some(match (&binding.raw_all, context) {
            (_, Context::Title) => binding.text.clone(),
            (Some(all), _) => all.clone(),
            (None, Context::PromQl) => promql(binding),
            (None, Context::Text) => glob(&binding.values),
            (None, Context::Url) => url_part(&glob(&binding.values), before),
        });
    };
    if format == "text" {
        return Some(binding.text.clone());
    }
    if let Some(all) = &binding.raw_all
        && format != "queryparam"
        && format != "percentencode"
    {
        return Some(all.clone());
    }
    let values = &binding.values;
    let each =
        |f: &dyn Fn(&str) -> String, separator: &str| values.iter().map(|v| f(v)).collect::<Vec<_>>().join(separator);
    let quoted = |quote: char| {
        move |v: &str| format!("{quote}{}{quote}", v.replace('\\', "\\\\").replace(quote, &format!("\\{quote}")))
    };
    Some(match format {
        "regex" => match values.as_slice() {
            [one] => escape_regex(one, 1),
            _ => format!("({})", each(&|v| escape_regex(v, 1), "|")),
        },
        "pipe" => values.join("|"),
        "csv" | "raw" => values.join(","),
        "json" => serde_json::to_string(values).unwrap_or_default(),
        "glob" => glob(values),
        "distributed" => {
            let mut out = String::new();
            for (i, v) in values.iter().enumerate() {
                if i > 0 {
                    let _ = write!(out, ",{name}=");
                }
                out.push_str(v);
            }
            out
        }
        "doublequote" => each(&quoted('"'), ","),
        "singlequote" => each(&quoted('\''), ","),
        "sqlstring" => each(&|v| format!("'{}'", v.replace('\'', "''")), ","),
        "percentencode" => percent_encode(&glob(values)),
        "uriencode" => uri_encode(&glob(values)),
        "queryparam" => query_params(name, binding),
        "html" => super::html::escape(&glob(values)),
        "lucene" => match values.as_slice() {
            [one] => escape_lucene(one),
            _ => format!("({})", each(&|v| format!("\"{}\"", escape_lucene(v)), " OR ")),
        },
        "date" => iso_date(values.first()?)?,
        other => match other.split_once(':') {
            Some(("join", separator)) => values.join(separator),
            Some(("date", "iso")) => iso_date(values.first()?)?,
            Some(("date", "seconds")) => (values.first()?.parse::<i64>().ok()? / 1000).to_string(),
            Some(("date", format)) => super::units::Unit::find(&format!("time:{format}")).format(
                values.first()?.parse().ok()?,
                None,
                &jiff::tz::TimeZone::UTC,
            ),
            _ => glob(values),
        },
    })
}

fn iso_date(ms: &str) -> Option<String> {
    let time = jiff::Timestamp::from_millisecond(ms.parse().ok()?).ok()?;
    Some(format!("{time:.3}"))
}

/// `var-x=a&var-x=b`, for links.
pub(crate) fn query_params(name: &str, binding: &Binding) -> String {
    let values: Vec<&str> = match &binding.raw_all {
        Some(_) => vec!["$__all"],
        None => binding.values.iter().map(String::as_str).collect(),
    };
    let part = |v: &&str| format!("var-{}={}", percent_encode(name), percent_encode(v));
    values.iter().map(part).collect::<Vec<_>>().join("&")
}

fn glob(values: &[String]) -> String {
    match values {
        [one] => one.clone(),
        _ => format!("{{{}}}", values.join(",")),
    }
}

fn promql(binding: &Binding) -> String {
    if !binding.multi {
        // A double quote would end the string that the value stands in.
        return binding.values.first().map(|v| escape_string(v)).unwrap_or_default();
    }
    let escaped: Vec<String> = binding.values.iter().map(|v| escape_regex(v, 2)).collect();
    match escaped.as_slice() {
        [one] => one.clone(),
        _ => format!("({})", escaped.join("|")),
    }
}

fn escape_string(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\'', "\\'").replace('\n', "\\n")
}

/// Escapes what a regular expression reads as more than itself; `slashes` is 2 inside a quoted PromQL string.
fn escape_regex(value: &str, slashes: usize) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\\' => out.push_str(&"\\".repeat(2 * slashes)),
            '$' | '^' | '*' | '{' | '}' | '[' | ']' | '+' | '?' | '.' | '(' | ')' | '|' => {
                out.push_str(&"\\".repeat(slashes));
                out.push(c);
            }
            '/' if slashes == 1 => out.push_str("\\/"),
            '"' if slashes == 2 => out.push_str("\\\""),
            '\n' if slashes == 2 => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out
}

fn escape_lucene(value: &str) -> String {
    let mut out = String::new();
    for c in value.chars() {
        if "+-=&|><!(){}[]^\"~*?:\\/".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// Encodes a value for the place that it has in an address: at the beginning it is an address itself, up to the query
/// it may hold folders, behind that it is the value of a parameter.
fn url_part(value: &str, before: &str) -> String {
    if before.trim().is_empty() {
        uri_encode(value)
    } else if before.contains(['?', '#']) {
        percent_encode(value)
    } else {
        uri_encode(value).replace('?', "%3F").replace('#', "%23")
    }
}

/// Encodes what cannot stand in an address, and leaves what gives it its form.
fn uri_encode(text: &str) -> String {
    let bytes = text.as_bytes();
    let is_encoded = |i: usize| bytes.get(i + 1..i + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
    let mut out = String::with_capacity(text.len());
    for (i, byte) in text.bytes().enumerate() {
        if byte.is_ascii_alphanumeric() || b"-_.~!*'();/?:@&=+$,#".contains(&byte) || byte == b'%' && is_encoded(i) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// Encodes a value for an address.
pub(crate) fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<Binding> {
        let many = |values: &[&str], text: &str| {
            Some(Binding {
                values: values.iter().map(|v| (*v).to_owned()).collect(),
                text: text.to_owned(),
                multi: true,
                raw_all: None,
            })
        };
        match name {
            "one" => Some(Binding::plain("a.b\"c\\d")),
            "multi1" => many(&["a.b"], "a.b"),
            "multi" => many(&["a.b", "c|d"], "a.b + c|d"),
            "all" => Some(Binding { raw_all: Some(".*".into()), ..many(&["x", "y"], "All")? }),
            "from" => Some(Binding::plain("1700000000000")),
            _ => None,
        }
    }

    #[track_caller]
    fn check(text: &str, context: Context, expected: &str) {
        assert_eq!(interpolate(text, context, &lookup), expected, "{text}");
    }

    #[test]
    fn queries_escape_values() {
        for (text, expected) in [
            (r#"m{l="$one"}"#, r#"m{l="a.b\"c\\d"}"#),
            (r#"m{l=~"$multi1"}"#, r#"m{l=~"a\\.b"}"#),
            (r#"m{l=~"${multi}"}"#, r#"m{l=~"(a\\.b|c\\|d)"}"#),
            (r#"m{l=~"[[multi]]"}"#, r#"m{l=~"(a\\.b|c\\|d)"}"#),
            (r#"m{l=~"$all"}"#, r#"m{l=~".*"}"#),
            (r#"label_replace(m, "a", "$1", "b", "(.*)$")"#, r#"label_replace(m, "a", "$1", "b", "(.*)$")"#),
            ("rate(m[$unknown])", "rate(m[$unknown])"),
            ("m[5m] ${unknown:regex} $ [[x]] ${", "m[5m] ${unknown:regex} $ [[x]] ${"),
        ] {
            check(text, Context::PromQl, expected);
        }
    }

    #[test]
    fn titles_have_choices_as_they_are_shown() {
        check("$one $all $multi ${multi:pipe} $none", Context::Title, "a.b\"c\\d All a.b + c|d a.b|c|d $none");
    }

    #[test]
    fn formats_write_values() {
        for (text, expected) in [
            ("$multi", "{a.b,c|d}"),
            ("${multi:regex}", r"(a\.b|c\|d)"),
            ("${multi:pipe}", "a.b|c|d"),
            ("${multi:csv}", "a.b,c|d"),
            ("${multi:raw}", "a.b,c|d"),
            ("${multi:json}", r#"["a.b","c|d"]"#),
            ("${multi:text}", "a.b + c|d"),
            ("${all:text}", "All"),
            ("${multi:queryparam}", "var-multi=a.b&var-multi=c%7Cd"),
            ("${all:queryparam}", "var-all=$__all".replace('$', "%24").as_str()),
            ("${multi:doublequote}", r#""a.b","c|d""#),
            ("${multi:singlequote}", "'a.b','c|d'"),
            ("${multi:sqlstring}", "'a.b','c|d'"),
            ("${multi:distributed}", "a.b,multi=c|d"),
            ("${multi:join: + }", "a.b + c|d"),
            ("${one:html}", "a.b&quot;c\\d"),
            ("${multi1:percentencode}", "a.b"),
            ("${from:date:iso}", "2023-11-14T22:13:20.000Z"),
            ("${from:date:seconds}", "1700000000"),
            ("${from:date:YYYY-MM}", "2023-11"),
            ("costs $5, a[0]", "costs $5, a[0]"),
        ] {
            check(text, Context::Text, expected);
        }
    }

    #[test]
    fn addresses_are_encoded_by_place() {
        let lookup = |name: &str| {
            Some(Binding::plain(match name {
                "base" => "https://wiki.example/runbooks?x=1",
                "path" => "team a/db#1?",
                "value" => "a&b=c/d",
                "run" => "javascript:alert(1)",
                _ => return None,
            }))
        };
        for (text, expected) in [
            ("${base}&q=${value}", "https://wiki.example/runbooks?x=1&q=a%26b%3Dc%2Fd"),
            ("https://h/${path}?v=$value#$path", "https://h/team%20a/db%231%3F?v=a%26b%3Dc%2Fd#team%20a%2Fdb%231%3F"),
            ("/d/x?var-a=${value}", "/d/x?var-a=a%26b%3Dc%2Fd"),
            ("${run}", "javascript:alert(1)"),
            ("${value:uriencode}", "a&b=c/d"),
        ] {
            let got = interpolate(text, Context::Url, &lookup);
            assert_eq!(got, expected, "{text}");
        }
        assert!(!super::super::html::is_safe_url(&interpolate("${run}", Context::Url, &lookup)));
    }

    #[test]
    fn referred_names_are_found() {
        assert_eq!(names("a $x ${y:regex} [[z]] $1 b[5m]"), ["x", "y", "z"]);
    }
}
