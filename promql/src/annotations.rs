//! Warnings and infos that come with a value: what the user should know, without failing the query.
//!
//! Kept once per text, in order of first appearance, warnings apart from infos.

use crate::ast::Span;
use crate::calendar::rfc3339;
use crate::notes::format_g;

/// How much an annotation matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// The result may be wrong.
    Warning,
    /// The result is right, but perhaps not what was meant.
    Info,
}

/// One warning or info.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    /// Severity.
    pub severity: Severity,
    /// Text without prefix and position (`metric might not be a counter, …`).
    pub text: String,
    /// The part of the query that it speaks of, if any.
    pub span: Option<Span>,
}

/// Where buckets of classic histograms had to be fixed for monotonicity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FixedBuckets {
    /// Lowest upper bound of a fixed bucket.
    pub lowest: f64,
    /// Highest upper bound of a fixed bucket.
    pub highest: f64,
    /// Largest decrease of counts.
    pub decrease: f64,
    /// Histograms that were fixed.
    pub samples: u64,
    /// First time, in ms.
    pub first_ms: i64,
    /// Last time, in ms.
    pub last_ms: i64,
}

impl FixedBuckets {
    fn merged(self, other: Self) -> Self {
        Self {
            lowest: self.lowest.min(other.lowest),
            highest: self.highest.max(other.highest),
            decrease: self.decrease.max(other.decrease),
            samples: self.samples + other.samples,
            first_ms: self.first_ms.min(other.first_ms),
            last_ms: self.last_ms.max(other.last_ms),
        }
    }
}

impl std::fmt::Display for FixedBuckets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            ", from buckets {} to {}, with a max diff of {}, over {} samples from {} to {}",
            format_g(self.lowest),
            format_g(self.highest),
            format_g(two_digits(self.decrease)),
            self.samples,
            rfc3339(self.first_ms),
            rfc3339(self.last_ms)
        )
    }
}

/// The number rounded to two significant digits.
fn two_digits(v: f64) -> f64 {
    format!("{v:.1e}").parse().unwrap_or(v)
}

/// A set of annotations.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Annotations {
    all: Vec<Annotation>,
    /// What was found over all steps and series, of those annotations that say so.
    fixed_buckets: Vec<(Annotation, FixedBuckets)>,
}

impl Annotations {
    /// Adds one, unless an equal one is there.
    pub fn push(&mut self, annotation: Annotation) {
        if !self.all.contains(&annotation) {
            self.all.push(annotation);
        }
    }

    /// Adds a warning about `span`.
    pub fn warn(&mut self, text: impl Into<String>, span: Span) {
        self.push(Annotation { severity: Severity::Warning, text: text.into(), span: Some(span) });
    }

    /// Adds an info about `span`.
    pub fn info(&mut self, text: impl Into<String>, span: Span) {
        self.push(Annotation { severity: Severity::Info, text: text.into(), span: Some(span) });
    }

    /// Adds the info that the buckets of `metric` had to be fixed for monotonicity.
    pub fn forced_monotonicity(&mut self, metric: &str, span: Span, buckets: FixedBuckets) {
        let text = crate::notes::forced_monotonicity(metric);
        let annotation = Annotation { severity: Severity::Info, text, span: Some(span) };
        self.push(annotation.clone());
        self.merge(annotation, buckets);
    }

    fn merge(&mut self, annotation: Annotation, buckets: FixedBuckets) {
        match self.fixed_buckets.iter_mut().find(|(a, _)| *a == annotation) {
            Some((_, found)) => *found = found.merged(buckets),
            None => self.fixed_buckets.push((annotation, buckets)),
        }
    }

    /// Adds all of `other`.
    pub fn extend(&mut self, other: Self) {
        for annotation in other.all {
            self.push(annotation);
        }
        for (annotation, buckets) in other.fixed_buckets {
            self.merge(annotation, buckets);
        }
    }

    /// Whether an annotation counts what was found over all steps, or warns of a wrong result.
    pub(crate) fn depend_on_steps(&self) -> bool {
        !self.fixed_buckets.is_empty() || self.all.iter().any(|a| a.severity == Severity::Warning)
    }

    /// All, in order.
    #[must_use]
    pub fn as_slice(&self) -> &[Annotation] {
        &self.all
    }

    /// The texts of one severity as the API shows them: `PromQL warning: … (1:5)`. `query` is the query text.
    #[must_use]
    pub fn texts(&self, severity: Severity, query: &str) -> Vec<String> {
        let prefix = match severity {
            Severity::Warning => "PromQL warning: ",
            Severity::Info => "PromQL info: ",
        };
        let of_severity = self.all.iter().filter(|a| a.severity == severity);
        of_severity
            .map(|a| match a.span {
                Some(span) => {
                    let (line, column) = line_column(query, span.start as usize);
                    let found = self.fixed_buckets.iter().find(|(of, _)| of == a);
                    let found = found.map_or_else(String::new, |(_, found)| found.to_string());
                    format!("{prefix}{}{found} ({line}:{column})", a.text)
                }
                None => a.text.clone(),
            })
            .collect()
    }
}

/// Line and column of a byte of `text`, both from 1, columns in bytes.
#[must_use]
pub fn line_column(text: &str, offset: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..offset.min(text.len())];
    let line = 1 + before.iter().filter(|b| **b == b'\n').count();
    let column = 1 + before.iter().rev().take_while(|b| **b != b'\n').count();
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_buckets_are_merged_into_one_info() {
        let mut annotations = Annotations::default();
        for (i, decrease) in [(0, 5.5), (1, 123.0)] {
            let t = i * 1000;
            let bound = 10.0 + i as f64;
            let found = FixedBuckets { lowest: bound, highest: bound, decrease, samples: 1, first_ms: t, last_ms: t };
            annotations.forced_monotonicity("b", Span { start: 4, end: 5 }, found);
        }
        let texts = annotations.texts(Severity::Info, "a\nb + c");
        assert_eq!(texts.len(), 1);
        let end = "for metric name \"b\", from buckets 10 to 11, with a max diff of 120, over 2 samples \
                   from 1970-01-01T00:00:00Z to 1970-01-01T00:00:01Z (2:3)";
        assert!(texts[0].ends_with(end), "{}", texts[0]);
    }

    #[test]
    fn equal_annotations_are_kept_once() {
        let mut annotations = Annotations::default();
        annotations.warn("x", Span { start: 0, end: 1 });
        annotations.warn("x", Span { start: 0, end: 1 });
        annotations.warn("x", Span { start: 1, end: 2 });
        assert_eq!(annotations.texts(Severity::Warning, "ab"), ["PromQL warning: x (1:1)", "PromQL warning: x (1:2)"]);
    }
}
