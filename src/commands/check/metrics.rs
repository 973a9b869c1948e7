//! `promontory check metrics`: an exposition on standard input, whether it can be read and whether names follow custom.
//!
//! # Source
//! The problems and their words are those of `promtool check metrics`, so that scripts which look for them find them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use promontory_model::{METRIC_NAME, MetricType};

use crate::cli::{MetricsArgs, MetricsLint};
use crate::scrape::exposition::{Format, Item, Metadata, Parser};

/// Units and the base unit that stands for them.
const UNITS: &[(&str, &str)] = &[
    ("milliseconds", "seconds"),
    ("microseconds", "seconds"),
    ("nanoseconds", "seconds"),
    ("minutes", "seconds"),
    ("hours", "seconds"),
    ("days", "seconds"),
    ("weeks", "seconds"),
    ("kelvin", "celsius"),
    ("kelvins", "celsius"),
    ("fahrenheit", "celsius"),
    ("rankine", "celsius"),
    ("inches", "meters"),
    ("yards", "meters"),
    ("miles", "meters"),
    ("kilometers", "meters"),
    ("millimeters", "meters"),
    ("bits", "bytes"),
    ("kilobytes", "bytes"),
    ("megabytes", "bytes"),
    ("gigabytes", "bytes"),
    ("kibibytes", "bytes"),
    ("mebibytes", "bytes"),
    ("calories", "joules"),
    ("kilojoules", "joules"),
    ("kilowatts", "joules"),
    ("percents", "ratio"),
    ("kilograms", "grams"),
    ("milligrams", "grams"),
    ("kilovolts", "volts"),
    ("millivolts", "volts"),
    ("milliamperes", "amperes"),
];

/// Short forms of units.
const SHORT: &[&str] = &["s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "tb", "pb", "m", "h", "d"];

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// Nothing is odd.
    Good,
    /// It can be read, but names are odd.
    Odd,
    /// It cannot be read.
    Unreadable,
}

#[derive(Debug, Default)]
struct Family {
    kind: MetricType,
    has_help: bool,
    n_series: usize,
    labels: BTreeSet<String>,
}

/// Checks an exposition in Prometheus text and writes a line per problem, those of names if all are wanted; then how many
/// series each metric has, if that is.
///
/// # Errors
/// When the report cannot be written.
pub fn check_metrics(body: &[u8], args: &MetricsArgs, out: &mut dyn Write) -> io::Result<Checked> {
    let families = match read(body) {
        Ok(families) => families,
        Err(e) => {
            writeln!(out, "error while linting: {e}")?;
            return Ok(Checked::Unreadable);
        }
    };
    let mut checked = Checked::Good;
    for (name, family) in families.iter().filter(|_| args.lint == MetricsLint::All) {
        for problem in problems(name, family) {
            writeln!(out, "{name} {problem}")?;
            checked = Checked::Odd;
        }
    }
    if args.extended {
        write_cardinality(families, out)?;
    }
    Ok(checked)
}

/// Writes how many series each metric has, most first, as a table.
fn write_cardinality(families: BTreeMap<String, Family>, out: &mut dyn Write) -> io::Result<()> {
    let mut families: Vec<_> = families.into_iter().filter(|(_, f)| f.n_series > 0).collect();
    families.sort_by_key(|(_, family)| Reverse(family.n_series));
    let n_all: usize = families.iter().map(|(_, family)| family.n_series).sum();
    let width = families.iter().map(|(name, _)| name.chars().count()).fold("Metric".len(), usize::max) + 4;
    writeln!(out, "{:width$}{:15}Percentage", "Metric", "Cardinality")?;
    for (name, family) in &families {
        let share = 100.0 * family.n_series as f64 / n_all as f64;
        writeln!(out, "{name:width$}{:<15}{share:.2}%", family.n_series)?;
    }
    writeln!(out, "{:width$}{n_all:<15}100%", "Total")
}

fn read(body: &[u8]) -> Result<BTreeMap<String, Family>, String> {
    let mut parser = Parser::new(body, Format::Text);
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    let mut seen: BTreeSet<Vec<(String, String)>> = BTreeSet::new();
    loop {
        match parser.next_item().map_err(|e| e.to_string())? {
            Item::End => return Ok(families),
            Item::Metadata { family, text, .. } => {
                let of = families.entry(family.clone()).or_default();
                match text {
                    Metadata::Type(kind) => of.kind = kind,
                    Metadata::Help(help) => of.has_help = !help.is_empty(),
                    Metadata::Unit(_) => {}
                }
                current = family;
            }
            Item::Sample { .. } => {
                let mut pairs: Vec<(String, String)> =
                    parser.labels().iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
                let name = pairs.iter().find(|(n, _)| n == METRIC_NAME).map_or_else(String::new, |(_, v)| v.clone());
                let suffixes: &[&str] = match families.get(&current).map(|f| f.kind) {
                    Some(MetricType::Histogram) => &["", "_bucket", "_sum", "_count"],
                    Some(MetricType::Summary) => &["", "_sum", "_count"],
                    _ => &[""],
                };
                let is_current = name.strip_prefix(&current).is_some_and(|s| suffixes.contains(&s));
                let family = families.entry(if is_current { current.clone() } else { name.clone() }).or_default();
                family.labels.extend(pairs.iter().map(|(n, _)| n.clone()).filter(|n| n != METRIC_NAME));
                family.n_series += 1;
                pairs.sort();
                if !seen.insert(pairs) {
                    return Err(format!("metric {name} is there twice with the same labels"));
                }
            }
        }
    }
}

fn problems(name: &str, family: &Family) -> Vec<String> {
    let mut out = Vec::new();
    let mut say = |is: bool, text: &str| {
        if is {
            out.push(text.to_owned());
        }
    };
    let kind = family.kind;
    let (is_histogram, is_summary) = (kind == MetricType::Histogram, kind == MetricType::Summary);
    say(!family.has_help, "no help text");
    let is_total = name.ends_with("_total");
    say(kind == MetricType::Counter && !is_total, "counter metrics should have \"_total\" suffix");
    let is_typed = kind != MetricType::Unknown;
    say(is_typed && kind != MetricType::Counter && is_total, "non-counter metrics should not have \"_total\" suffix");
    say(
        is_typed && !is_histogram && name.ends_with("_bucket"),
        "non-histogram metrics should not have \"_bucket\" suffix",
    );
    for suffix in ["_count", "_sum"] {
        let text = format!("non-histogram and non-summary metrics should not have \"{suffix}\" suffix");
        say(is_typed && !is_histogram && !is_summary && name.ends_with(suffix), &text);
    }
    let has_label = |name: &str| family.labels.contains(name);
    say(is_typed && !is_histogram && has_label("le"), "non-histogram metrics should not have \"le\" label");
    say(is_typed && !is_summary && has_label("quantile"), "non-summary metrics should not have \"quantile\" label");
    let words: Vec<String> = name.to_ascii_lowercase().split('_').map(str::to_owned).collect();
    for typed in ["counter", "gauge", "histogram", "summary"] {
        let text = format!("metric name should not include type '{typed}'");
        say(kind.as_str() == typed && words.iter().any(|w| w == typed), &text);
    }
    say(name.contains(':'), "metric names should not contain ':'");
    say(is_camel(name), "metric names should be written in 'snake_case' not 'camelCase'");
    say(family.labels.iter().any(|l| is_camel(l)), "label names should be written in 'snake_case' not 'camelCase'");
    say(words.iter().skip(1).any(|w| SHORT.contains(&w.as_str())), "metric names should not contain abbreviated units");
    for word in &words {
        if let Some((unit, base)) = UNITS.iter().find(|(unit, _)| unit == word) {
            out.push(format!("use base unit \"{base}\" instead of \"{unit}\""));
        }
    }
    out
}

fn is_camel(name: &str) -> bool {
    name.as_bytes().windows(2).any(|w| w[0].is_ascii_lowercase() && w[1].is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: MetricsArgs = MetricsArgs { strict: false, extended: false, lint: MetricsLint::All };
    const NONE: MetricsArgs = MetricsArgs { lint: MetricsLint::None, ..ALL };

    fn run(body: &str, args: &MetricsArgs) -> (Checked, String) {
        let mut out = Vec::new();
        let checked = check_metrics(body.as_bytes(), args, &mut out).unwrap();
        (checked, String::from_utf8(out).unwrap())
    }

    #[track_caller]
    fn check(body: &str, checked: Checked, expected: &str) {
        assert_eq!(run(body, &ALL), (checked, expected.to_owned()));
    }

    #[test]
    fn odd_names_are_told() {
        let good = "# HELP a_seconds Time.\n# TYPE a_seconds histogram\na_seconds_bucket{le=\"+Inf\"} 1\n\
                    a_seconds_sum 1\na_seconds_count 1\n";
        check(good, Checked::Good, "");
        check("a_total 1\n", Checked::Odd, "a_total no help text\n");
        check(
            "# HELP reqCounter x\n# TYPE reqCounter counter\nreqCounter{someLabel=\"a\"} 1\n",
            Checked::Odd,
            "reqCounter counter metrics should have \"_total\" suffix\n\
             reqCounter metric names should be written in 'snake_case' not 'camelCase'\n\
             reqCounter label names should be written in 'snake_case' not 'camelCase'\n",
        );
        check(
            "# HELP t_milliseconds_total x\n# TYPE t_milliseconds_total gauge\nt_milliseconds_total 1\n",
            Checked::Odd,
            "t_milliseconds_total non-counter metrics should not have \"_total\" suffix\n\
             t_milliseconds_total use base unit \"seconds\" instead of \"milliseconds\"\n",
        );
    }

    #[test]
    fn names_are_left_alone_where_nobody_asked() {
        assert_eq!(run("aB 1\n", &NONE), (Checked::Good, String::new()));
    }

    #[test]
    fn series_are_counted_as_promtool_counts_them() {
        let body = "# HELP a_total x\n# TYPE a_total counter\na_total{x=\"1\"} 1\na_total{x=\"2\"} 1\n# HELP h x\n\
                    # TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n";
        let expected = "Metric     Cardinality    Percentage\n\
                        h          4              66.67%\n\
                        a_total    2              33.33%\n\
                        Total      6              100%\n";
        assert_eq!(run(body, &MetricsArgs { extended: true, ..NONE }), (Checked::Good, expected.to_owned()));
    }

    #[test]
    fn what_cannot_be_read_says_where() {
        for (body, args) in [("a 1\na b\n", &NONE), ("a 1\na 2\n", &MetricsArgs { extended: true, ..ALL })] {
            let (checked, said) = run(body, args);
            assert_eq!(checked, Checked::Unreadable);
            assert!(said.starts_with("error while linting: ") && said.lines().count() == 1, "{said}");
        }
    }
}
