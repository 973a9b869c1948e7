//! Tests of both formats.

use std::fmt::Write as _;
use std::path::Path;

use proptest::prelude::*;

use super::*;

/// Everything that an exposition says, one line each, or the error.
fn read(body: &[u8], format: Format) -> String {
    let mut parser = Parser::new(body, format);
    let mut out = String::new();
    loop {
        match parser.next_item() {
            Ok(Item::End) => return out,
            Ok(Item::Sample { tail, .. }) => {
                let pairs: Vec<String> = parser.labels()[1..].iter().map(|(n, v)| format!("{n}={v:?}")).collect();
                let _ = write!(out, "{}{{{}}} {}", parser.labels()[0].1, pairs.join(","), tail.value);
                if let Some(t) = tail.timestamp_ms {
                    let _ = write!(out, " {t}");
                }
                out.push('\n');
            }
            Ok(Item::Metadata { family, text, .. }) => {
                let _ = writeln!(out, "{family}: {text:?}");
            }
            Err(e) => return format!("{e}"),
        }
    }
}

#[track_caller]
fn check(body: &str, expected: &str) {
    assert_eq!(read(body.as_bytes(), Format::Text).trim_end(), expected, "{body:?}");
}

#[track_caller]
fn check_open(body: &str, expected: &str) {
    assert_eq!(read(body.as_bytes(), Format::OpenMetrics).trim_end(), expected, "{body:?}");
}

#[test]
fn text_samples_are_read() {
    check("a 1", "a{} 1");
    check("a 1 1700000000000\n", "a{} 1 1700000000000");
    check("a 1 -5\n", "a{} 1 -5");
    check("a{b=\"c\",d=\"e\"} 1e3\n", "a{b=\"c\",d=\"e\"} 1000");
    check("a { b = \"c\" , d=\"e\" , }\t.5\t7 \n", "a{b=\"c\",d=\"e\"} 0.5 7");
    check("a{b=\"c\"d=\"e\"}1", "a{b=\"c\",d=\"e\"} 1");
    check("a{} +Inf\nb NaN\nc nan", "a{} inf\nb{} NaN\nc{} NaN");
    check("a{b=\"\\\\ \\\" \\n \\t\"} 1", "a{b=\"\\\\ \\\" \\n \\\\t\"} 1");
    check("a{b=\"x}y{\"} 1", "a{b=\"x}y{\"} 1");
    check("a{b=\"\"} 1", "a{b=\"\"} 1");
    check("  b 2", "b{} 2");
    check("\n#HELP\n# c\n#\n\t\n# HELP\n# FOO a b\na 1\n\n", "a{} 1");
    check("", "");
}

#[test]
fn quoted_names_are_read() {
    check("{\"my.metric\",\"l.x\"=\"v\"} 1", "my.metric{l.x=\"v\"} 1");
    check("{\"l.x\"=\"v\", \"my.metric\"} 1", "my.metric{l.x=\"v\"} 1");
    check("{\"my\\\"metric\"} 1", "my\"metric{} 1");
    check("# HELP \"my.metric\" text\n# TYPE \"my.metric\" gauge", "my.metric: Help(\"text\")\nmy.metric: Type(Gauge)");
    check("a{\"b\"} 1", "metric name already set while parsing: \"a{\\\"b\\\"}\" at line 1, column 3");
    check("{a=\"b\"} 1", "metric name not set while parsing: \"{a=\\\"b\\\"}\" at line 1, column 1");
    check_open("{\"my.metric\",\"l.x\"=\"v\"} 1\n# EOF", "my.metric{l.x=\"v\"} 1");
}

#[test]
fn metadata_is_read() {
    check("# HELP a some \\\\ \\n \\\" text", "a: Help(\"some \\\\ \\n \\\\\\\" text\")");
    check("# TYPE a untyped\n# HELP a\n# HELP b ", "a: Type(Unknown)\na: Help(\"\")\nb: Help(\"\")");
    check("# TYPE a info", "invalid metric type \"info\" at line 1, column 10");
    check("# TYPE a", "invalid metric type \"\" at line 1, column 9");
    check_open("# UNIT a_s s\n# EOF\n", "a_s: Unit(\"s\")");
    check_open("# UNIT a s\n# EOF\n", "unit \"s\" not a suffix of metric \"a\" at line 1, column 10");
}

#[test]
fn bounds_of_typed_families_are_normalised() {
    check("h{le=\"1\"} 1", "h{le=\"1\"} 1");
    check(
        "# TYPE h histogram\nh_bucket{le=\"1\",quantile=\"1\"} 1\nh_bucket{le=\"x\"} 1",
        "h: Type(Histogram)\nh_bucket{le=\"1.0\",quantile=\"1\"} 1\nh_bucket{le=\"x\"} 1",
    );
    check("# TYPE q summary\nq{quantile=\"0.90\"} 1", "q: Type(Summary)\nq{quantile=\"0.9\"} 1");
}

#[test]
fn wrong_lines_are_refused_with_their_place() {
    check(
        "a 1\na 0x1F",
        "strconv.ParseFloat: parsing \"0x1F\": invalid syntax while parsing: \"a 0x1F\" at line 2, column 3",
    );
    check("a 1_000", "unsupported character in float while parsing: \"a 1_000\" at line 1, column 3");
    check("a", "expected value after metric, got \"\" while parsing: \"a\" at line 1, column 2");
    check("a\n", "expected value after metric, got \"\\n\" while parsing: \"a\" at line 1, column 2");
    check("a 1 2 3\n", "expected next entry after timestamp, got \"3\" while parsing: \"a 1 2 3\" at line 1, column 7");
    check("a 1 x\n", "expected timestamp or new record, got \"x\" while parsing: \"a 1 x\" at line 1, column 5");
    check("a{1=\"1\"} 1", "expected label name, got \"1\" while parsing: \"a{1=\\\"1\\\"}\" at line 1, column 3");
    check("a{b} 1", "expected equal, got \"}\" while parsing: \"a{b}\" at line 1, column 4");
    check("a{b=c} 1", "expected label value, got \"c\" while parsing: \"a{b=c}\" at line 1, column 5");
    check("a{b=\"c} 1", "expected label value, got \"\\\"\" while parsing: \"a{b=\\\"c}\" at line 1, column 5");
    check("a{b=\"c\",,} 1", "expected label name, got \",\" while parsing: \"a{b=\\\"c\\\",,}\" at line 1, column 9");
    check(
        "a{b=\"c\",b=\"d\"} 1",
        "label name \"b\" is not unique: invalid sample while parsing: \"a{b=\\\"c\\\",b=\\\"d\\\"}\" at line 1, column 1",
    );
    check("%", "expected a valid start token, got \"%\" while parsing: \"%\" at line 1, column 1");
    check(
        "a 1 99999999999999999999",
        "strconv.ParseInt: parsing \"99999999999999999999\": value out of range while parsing: \"a 1 99999999999999999999\" at line 1, column 5",
    );
    assert_eq!(read(b"a{b=\"\xff\"} 1", Format::Text), "invalid UTF-8 label value: \"\u{fffd}\" at line 1, column 6");
}

#[test]
fn a_label_twice_among_very_many_is_refused() {
    let labels: String = (0..100_000).map(|i| format!("l{i}=\"\",")).collect();
    for (more, is_right) in [("m=\"\"", true), ("l7=\"\"", false)] {
        let body = format!("a{{{labels}{more}}} 1\n");
        assert_eq!(Parser::new(body.as_bytes(), Format::Text).next_item().is_ok(), is_right, "{more}");
    }
}

#[test]
fn openmetrics_is_stricter() {
    check_open("a 1 1.5\nb 1 1.5 # {x=\"y\"} 1 2\nc 1 # {} 1\n# EOF\n", "a{} 1 1500\nb{} 1 1500\nc{} 1");
    check_open("a 1\n", "data does not end with # EOF at line 2, column 1");
    check_open("# EOF\na", "unexpected data after # EOF at line 1, column 6");
    check_open("a  1\n# EOF", "expected value after metric, got \" \" while parsing: \"a\" at line 1, column 2");
    check_open("\n# EOF", "expected a valid start token, got \"\\n\" while parsing: \"\" at line 1, column 1");
    check_open("a 1 NaN\n# EOF", "invalid timestamp NaN while parsing: \"a 1 NaN\" at line 1, column 5");
    check_open("a 1 1e300\n# EOF", "a{} 1 9223372036854775807");
}

/// The cases of the OpenMetrics project: name, body, and whether it is valid. None, said loudly, where they are absent.
pub(crate) fn openmetrics_cases() -> Vec<(String, Vec<u8>, bool)> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/conformance");
    let folder = std::env::var_os("CONFORMANCE").map_or_else(beside, Into::into).join("openmetrics");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        assert!(std::env::var_os("CONFORMANCE_REQUIRED").is_none(), "no cases at {}", folder.display());
        eprintln!("SKIPPED: no OpenMetrics cases at {}", folder.display());
        return Vec::new();
    };
    let mut cases = Vec::new();
    for entry in entries {
        let path = entry.unwrap().path();
        let Ok(manifest) = std::fs::read_to_string(path.join("test.json")) else { continue };
        let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let body = std::fs::read(path.join("metrics")).unwrap();
        cases.push((name, body, manifest["shouldParse"] == serde_json::Value::Bool(true)));
    }
    cases
}

/// Every valid one is accepted; of the invalid ones those are refused that break the grammar, as in Prometheus. The
/// others are the business of a linter.
#[test]
fn openmetrics_cases_are_judged_as_prometheus_judges_them() {
    let (mut n_valid, mut n_invalid, mut accepted) = (0, 0, Vec::new());
    for (name, body, is_valid) in openmetrics_cases() {
        let mut parser = Parser::new(&body, Format::OpenMetrics);
        let result = loop {
            match parser.next_item() {
                Ok(Item::End) => break Ok(()),
                Ok(_) => {}
                Err(e) => break Err(e),
            }
        };
        if is_valid {
            n_valid += 1;
            assert_eq!(result, Ok(()), "{name}");
        } else {
            n_invalid += 1;
            if result.is_ok() {
                accepted.push(name);
            }
        }
    }
    accepted.sort();
    let refused = n_invalid - accepted.len();
    println!("{n_valid} valid accepted; {refused} of {n_invalid} invalid refused; accepted: {accepted:?}");
    assert!(n_invalid == 0 || refused * 2 > n_invalid, "only {refused} of {n_invalid} refused");
    let structural = ["bad_blank_line", "bad_no_eof", "bad_missing_value", "bad_invalid_labels", "bad_missing_equal"];
    for name in &accepted {
        assert!(!structural.iter().any(|s| name.starts_with(s)), "{name} was accepted");
    }
}

/// Text that resembles an exposition far more often than arbitrary bytes do.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    const PIECES: [&str; 26] = [
        "a",
        "{",
        "}",
        "\"",
        "\\",
        "=",
        ",",
        " ",
        "\n",
        "\t",
        "# ",
        "HELP ",
        "TYPE ",
        "UNIT ",
        "EOF",
        "histogram",
        "le",
        "1",
        "-",
        ".",
        "e",
        "NaN",
        "a{b=\"c\"} 1\n",
        "# TYPE a counter\n",
        " # {a=\"b\"} 1 2\n",
        "é",
    ];
    let piece = prop_oneof![
        20 => proptest::sample::select(&PIECES[..]).prop_map(str::as_bytes),
        1 => Just(&b"\xff"[..]),
    ];
    proptest::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(body in prop_oneof![bodies(), proptest::collection::vec(any::<u8>(), 0..64)]) {
        read(&body, Format::Text);
        read(&body, Format::OpenMetrics);
    }

    /// What the line cache relies on: keys end where a quick look says, and reading on from there is the same.
    #[test]
    fn keys_end_where_a_quick_look_says(body in bodies(), open: bool) {
        let format = if open { Format::OpenMetrics } else { Format::Text };
        let mut parser = Parser::new(&body, format);
        while let Ok(item) = parser.next_item() {
            match item {
                Item::End => break,
                Item::Metadata { .. } => {}
                Item::Sample { key, tail } => {
                    prop_assert_eq!(parser.key_end(key.start), Some(key.end));
                    if let Some((quick, next)) = parser.tail_after(key.end) {
                        prop_assert_eq!(quick.value.to_bits(), tail.value.to_bits());
                        prop_assert_eq!(quick.timestamp_ms, tail.timestamp_ms);
                        prop_assert_eq!(next, parser.position());
                    }
                }
            }
        }
    }
}

#[test]
fn exemplars_are_found_again() {
    let body = b"a_total 1 5 # {b=\"x\\\"\",\"c d\"=\"\"} 2e3 1.5\nb 1 # {} -1\nc 1\n# EOF\n";
    let mut parser = Parser::new(body, Format::OpenMetrics);
    let mut found = Vec::new();
    while let Item::Sample { tail, .. } = parser.next_item().unwrap() {
        found.push(tail.exemplar.map(|at| exemplar_at(body, at).unwrap()));
    }
    let pairs: Vec<Pair<'_>> = vec![("b".into(), "x\"".into()), ("c d".into(), "".into())];
    assert_eq!(
        found,
        [
            Some(Exemplar { labels: pairs, value: 2000.0, timestamp_ms: Some(1500) }),
            Some(Exemplar { labels: vec![], value: -1.0, timestamp_ms: None }),
            None,
        ]
    );
}
