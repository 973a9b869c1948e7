//! Figures that are read at the time of a scrape, and how they are written.

use std::fmt::{self, Write};

use promontory_model::MetricType;

/// A value and its labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Labelled {
    /// What follows the metric's name: nothing, or `_sum` or `_count` in a summary.
    pub suffix: &'static str,
    /// Names and values.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: f64,
}

/// All values of one metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// The metric's name; a counter's with or without `_total`.
    pub name: &'static str,
    /// What it is, with or without a final stop.
    pub help: &'static str,
    /// What kind of numbers.
    pub kind: MetricType,
    /// Its values.
    pub values: Vec<Labelled>,
}

impl Figures {
    /// A counter without labels.
    #[must_use]
    pub fn counter(name: &'static str, help: &'static str, value: f64) -> Self {
        let values = vec![Labelled { suffix: "", labels: Vec::new(), value }];
        Self { name, help, kind: MetricType::Counter, values }
    }

    /// A gauge without labels.
    #[must_use]
    pub fn gauge(name: &'static str, help: &'static str, value: f64) -> Self {
        Self { kind: MetricType::Gauge, ..Self::counter(name, help, value) }
    }

    /// The same with a label at each value.
    #[must_use]
    pub fn with_label(mut self, name: &'static str, value: &str) -> Self {
        for labelled in &mut self.values {
            labelled.labels.push((name, value.to_owned()));
        }
        self
    }

    /// Appends the figures. The formats differ in one thing: where a counter's family has `_total` in its name.
    pub(super) fn write(&self, openmetrics: bool, out: &mut String) {
        if self.values.is_empty() {
            return;
        }
        let counter = self.kind == MetricType::Counter;
        let name = if counter { self.name.trim_end_matches("_total") } else { self.name };
        let total = if counter { "_total" } else { "" };
        let family_total = if openmetrics { "" } else { total };
        let kind = match self.kind {
            MetricType::Unknown if !openmetrics => "untyped",
            kind => kind.as_str(),
        };
        let help = self.help.trim_end_matches('.');
        let _ = write!(out, "# HELP {name}{family_total} {help}.\n# TYPE {name}{family_total} {kind}\n");
        for Labelled { suffix, labels, value } in &self.values {
            let _ = writeln!(out, "{name}{total}{suffix}{} {}", LabelPairs(labels), Number(*value));
        }
    }
}

/// `{a="1",b="2"}`, or nothing without labels.
struct LabelPairs<'a>(&'a [(&'static str, String)]);

impl fmt::Display for LabelPairs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (name, value)) in self.0.iter().enumerate() {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            write!(f, "{}{name}=\"{value}\"", if i == 0 { '{' } else { ',' })?;
        }
        if self.0.is_empty() { Ok(()) } else { f.write_char('}') }
    }
}

struct Number(f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            f64::INFINITY => f.write_str("+Inf"),
            f64::NEG_INFINITY => f.write_str("-Inf"),
            value => write!(f, "{value}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(figures: &Figures, openmetrics: bool, expected: &str) {
        let mut out = String::new();
        figures.write(openmetrics, &mut out);
        assert_eq!(out, expected);
    }

    #[test]
    fn counters_carry_total_in_the_family_of_the_older_format_only() {
        let counter = Figures::counter("a", "Counts", 7.0).with_label("x", "1\"\n\\").with_label("y", "2");
        let sample = "a_total{x=\"1\\\"\\n\\\\\",y=\"2\"} 7\n";
        check(&counter, true, &format!("# HELP a Counts.\n# TYPE a counter\n{sample}"));
        let plain = format!("# HELP a_total Counts.\n# TYPE a_total counter\n{sample}");
        check(&counter, false, &plain);
        check(&Figures { name: "a_total", help: "Counts.", ..counter }, false, &plain);
    }

    #[test]
    fn numbers_are_written_as_the_formats_ask() {
        for (value, text) in [(f64::INFINITY, "+Inf"), (f64::NAN, "NaN"), (0.5, "0.5"), (1.7e12, "1700000000000")] {
            check(&Figures::gauge("g", "G", value), false, &format!("# HELP g G.\n# TYPE g gauge\ng {text}\n"));
        }
    }
}
