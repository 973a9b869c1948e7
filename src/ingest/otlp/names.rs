//! Names of metrics and attributes as names of series and labels.
//!
//! # Source
//! OpenTelemetry's "Prometheus and OpenMetrics Compatibility", and what Prometheus 3.14 makes of names in the four
//! translation strategies.

use std::borrow::Cow;

use promontory_config::OtlpConfig;

/// What of a metric's type its name shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A sum that only goes up.
    Counter,
    Gauge,
    Other,
}

/// Units of measure and the words that names have for them.
const UNITS: &[(&str, &str)] = &[
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("TiBy", "tibibytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("1", ""),
    ("%", "percent"),
];

/// The same behind a stroke.
const PER_UNITS: &[(&str, &str)] =
    &[("s", "second"), ("m", "minute"), ("h", "hour"), ("d", "day"), ("w", "week"), ("mo", "month"), ("y", "year")];

fn is_metric_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == ':'
}

/// The name of the series of a metric; `None` when nothing is left of it.
pub(super) fn metric_name(config: &OtlpConfig, name: &str, unit: &str, kind: Kind) -> Option<String> {
    if config.translation.keeps_utf8() {
        let name = if config.translation.has_suffixes() { with_suffixes(name, unit, kind) } else { name.to_owned() };
        return Some(name).filter(|n| !n.is_empty());
    }
    let mut out = match config.translation.has_suffixes() {
        true => plain_with_suffixes(name, unit, kind),
        false => joined(name.split(|c| !is_metric_char(c) && c != '_').filter(|t| !t.is_empty())),
    };
    if out.starts_with(|c: char| c.is_ascii_digit()) {
        out.insert(0, '_');
    }
    let says_something = out == name || out.contains(|c| c != '_');
    Some(out).filter(|n| !n.is_empty() && says_something)
}

fn joined<'a>(tokens: impl Iterator<Item = &'a str>) -> String {
    tokens.collect::<Vec<_>>().join("_")
}

/// The name in letters, digits and underscores, with unit and type at its end.
fn plain_with_suffixes(name: &str, unit: &str, kind: Kind) -> String {
    let (main, per) = unit_words(unit);
    let (main, per) = (cleaned(&main), cleaned(&per));
    let mut tokens: Vec<&str> = name.split(|c| !is_metric_char(c)).filter(|t| !t.is_empty()).collect();
    let main = if tokens.contains(&main.as_str()) { "" } else { main.as_str() };
    // Nothing may be left behind the stroke.
    let per = if per == "per_" { "" } else { per.strip_suffix('_').unwrap_or(&per) };
    let per = if tokens.contains(&per) { "" } else { per };
    let main = if per.is_empty() { main } else { main.strip_suffix('_').unwrap_or(main) };
    tokens.extend([main, per].into_iter().filter(|t| !t.is_empty()));
    let mut last = |word| {
        tokens.retain(|t| *t != word);
        tokens.push(word);
    };
    match kind {
        Kind::Counter => last("total"),
        // Many use the unit 1 for counts of things, so that it says something of gauges alone.
        Kind::Gauge if unit == "1" => last("ratio"),
        _ => {}
    }
    joined(tokens.into_iter())
}

/// The name as it is, with unit and type at its end.
fn with_suffixes(name: &str, unit: &str, kind: Kind) -> String {
    let (main, per) = unit_words(unit);
    let mut base = name;
    let mut ends = Vec::new();
    let mut end = |word: &str| {
        if !word.is_empty() {
            base = without_end(base, word);
            ends.push(word.to_owned());
        }
    };
    match kind {
        Kind::Counter => end("total"),
        Kind::Gauge if unit == "1" => end("ratio"),
        _ => {}
    }
    end(&per);
    let mut out = base.to_owned();
    if !main.is_empty() && !base.ends_with(main.as_ref() as &str) {
        ends.push(main.into_owned());
    }
    for word in ends.iter().rev() {
        out.push('_');
        out.push_str(word);
    }
    out
}

/// `name` without `word` at its end and the character before it.
fn without_end<'a>(name: &'a str, word: &str) -> &'a str {
    let Some(rest) = name.strip_suffix(word) else { return name };
    let mut chars = rest.chars();
    match chars.next_back() {
        Some(_) if !chars.as_str().is_empty() => chars.as_str(),
        _ => name,
    }
}

/// The words for what stands before and behind the stroke of a unit.
fn unit_words(unit: &str) -> (Cow<'_, str>, Cow<'_, str>) {
    let word = |text: &str, table: &[(&str, &'static str)]| -> Cow<'static, str> {
        let text = text.trim();
        // What is in braces is a remark.
        if text.contains(['{', '}']) {
            return Cow::Borrowed("");
        }
        match table.iter().find(|(unit, _)| *unit == text) {
            Some((_, word)) => Cow::Borrowed(word),
            None => Cow::Owned(text.to_owned()),
        }
    };
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    let per = word(per, PER_UNITS);
    let per = if per.is_empty() { per } else { Cow::Owned(format!("per_{per}")) };
    (word(main, UNITS), per)
}

/// Other characters become underscores, several of them one, and none stands at the start.
fn cleaned(unit: &str) -> String {
    let mut out = String::with_capacity(unit.len());
    for c in unit.chars().map(|c| if is_metric_char(c) { c } else { '_' }) {
        if c != '_' || !out.ends_with('_') {
            out.push(c);
        }
    }
    out.strip_prefix('_').map(str::to_owned).unwrap_or(out)
}

/// The unit as metadata shows it: in words, but as it is where names keep their characters.
pub(super) fn unit_name(config: &OtlpConfig, unit: &str) -> String {
    if config.translation.keeps_utf8() {
        return unit.to_owned();
    }
    let (main, per) = unit_words(unit);
    joined([cleaned(&main), cleaned(&per)].iter().map(|u| u.trim_end_matches('_')).filter(|u| !u.is_empty()))
}

/// The name of an attribute's label; `None` when nothing is left of it.
pub(super) fn label_name(config: &OtlpConfig, name: &str) -> Option<String> {
    let says_something = |name: &str| name.contains(|c| c != '_');
    if config.translation.keeps_utf8() {
        return Some(name.to_owned()).filter(|n| says_something(n));
    }
    let mut out = String::with_capacity(name.len() + 4);
    for c in name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }) {
        if c != '_' || config.keep_multiple_underscores || !out.ends_with('_') {
            out.push(c);
        }
    }
    // Such names mean something to Prometheus and stay.
    let is_reserved = name.len() > 4 && name.starts_with("__") && name.ends_with("__");
    if is_reserved && !config.keep_multiple_underscores {
        out = format!("__{}__", out.trim_matches('_'));
    }
    if out.starts_with(|c: char| c.is_ascii_digit()) {
        out.insert_str(0, "key_");
    } else if config.sanitize_leading_underscore && out.starts_with('_') && !out.starts_with("__") {
        out.insert_str(0, "key");
    }
    Some(out).filter(|n| says_something(n))
}

#[cfg(test)]
mod tests {
    use promontory_config::otlp::Translation;

    use super::*;

    fn config(translation: Translation) -> OtlpConfig {
        OtlpConfig { translation, ..OtlpConfig::default() }
    }

    #[track_caller]
    fn check(translation: Translation, name: &str, unit: &str, kind: Kind, expected: &str) {
        assert_eq!(metric_name(&config(translation), name, unit, kind).as_deref().unwrap_or(""), expected);
    }

    #[test]
    fn names_end_in_unit_and_type() {
        let check = |name, unit, kind, expected| {
            check(Translation::UnderscoresWithSuffixes, name, unit, kind, expected);
        };
        // As Prometheus 3.14 answers.
        check("http.server.duration", "ms", Kind::Gauge, "http_server_duration_milliseconds");
        check("req.count", "1", Kind::Counter, "req_count_total");
        check("ratio.g", "1", Kind::Gauge, "g_ratio");
        check("net.io", "By/s", Kind::Gauge, "net_io_bytes_per_second");
        check("mem", "By", Kind::Other, "mem_bytes");
        check("weird{x}", "{req}", Kind::Counter, "weird_x_total");
        check("lat", "s", Kind::Other, "lat_seconds");
        check("system.memory.usage_bytes", "By", Kind::Gauge, "system_memory_usage_bytes");
        check("a.total.b", "", Kind::Counter, "a_b_total");
        check("x", "foo/bar", Kind::Gauge, "x_foo_per_bar");
        check("x", "__test $/°C", Kind::Gauge, "x_test_per_C");
        check("x", "/s", Kind::Gauge, "x_per_second");
        check("1.a", "%", Kind::Gauge, "_1_a_percent");
        check("a__b..c", "", Kind::Gauge, "a_b_c");
        check("a:b", "", Kind::Gauge, "a:b");
        check("$", "", Kind::Gauge, "");
        check("", "", Kind::Counter, "total");
    }

    #[test]
    fn strategies_differ() {
        let of = |t| move |name, unit, kind, expected| check(t, name, unit, kind, expected);
        let plain = of(Translation::UnderscoresWithoutSuffixes);
        plain("http.server.duration", "ms", Kind::Counter, "http_server_duration");
        plain("a__b..c", "", Kind::Gauge, "a__b_c");
        plain("1a", "", Kind::Gauge, "_1a");
        plain("...", "", Kind::Gauge, "");
        let unchanged = of(Translation::Unchanged);
        unchanged("http.server.duration", "ms", Kind::Counter, "http.server.duration");
        let suffixed = of(Translation::Utf8WithSuffixes);
        suffixed("http.server.duration", "ms", Kind::Other, "http.server.duration_milliseconds");
        suffixed("req.total", "1", Kind::Counter, "req_total");
        suffixed("net.io", "By/s", Kind::Counter, "net.io_bytes_per_second_total");
        suffixed("net.bytes", "By", Kind::Counter, "net.bytes_total");
        suffixed("é", "1", Kind::Gauge, "é_ratio");
        suffixed("total", "", Kind::Counter, "total_total");
    }

    #[track_caller]
    fn check_label(config: &OtlpConfig, name: &str, expected: Option<&str>) {
        assert_eq!(label_name(config, name).as_deref(), expected, "{name}");
    }

    #[test]
    fn labels_are_plain_names() {
        let mut c = OtlpConfig::default();
        for (name, expected) in [
            ("k.a", Some("k_a")),
            ("1abc", Some("key_1abc")),
            ("_u", Some("key_u")),
            (".v", Some("key_v")),
            ("__x", Some("__x")),
            ("a..b", Some("a__b")),
            ("é", Some("key_")),
            ("é.é", None),
            ("", None),
        ] {
            check_label(&c, name, expected);
        }
        c.keep_multiple_underscores = false;
        check_label(&c, "a..b", Some("a_b"));
        check_label(&c, "__a..b__", Some("__a_b__"));
        c.sanitize_leading_underscore = false;
        check_label(&c, ".v", Some("_v"));
        c.translation = Translation::Unchanged;
        check_label(&c, "k.a", Some("k.a"));
        check_label(&c, "_", None);
    }

    #[test]
    fn units_have_words() {
        let c = OtlpConfig::default();
        for (unit, expected) in
            [("s", "seconds"), ("By/s", "bytes_per_second"), ("1", ""), ("{x}", ""), ("%", "percent")]
        {
            assert_eq!(unit_name(&c, unit), expected);
        }
        assert_eq!(unit_name(&config(Translation::Unchanged), "By/s"), "By/s");
    }
}
