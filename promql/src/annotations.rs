//! Warnings and infos that come with a value: what the user should know, without failing the query.
//!
//! Kept once per text, in order of first appearance, warnings apart from infos.

use crate::ast::Span;

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

/// A set of annotations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Annotations(Vec<Annotation>);

impl Annotations {
    /// Adds one, unless an equal one is there.
    pub fn push(&mut self, annotation: Annotation) {
        if !self.0.contains(&annotation) {
            self.0.push(annotation);
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

    /// Adds all of `other`.
    pub fn extend(&mut self, other: Self) {
        for annotation in other.0 {
            self.push(annotation);
        }
    }

    /// All, in order.
    #[must_use]
    pub fn as_slice(&self) -> &[Annotation] {
        &self.0
    }

    /// The texts of one severity as the API shows them: `PromQL warning: … (1:5)`. `query` is the query text.
    #[must_use]
    pub fn texts(&self, severity: Severity, query: &str) -> Vec<String> {
        let prefix = match severity {
            Severity::Warning => "PromQL warning: ",
            Severity::Info => "PromQL info: ",
        };
        let of_severity = self.0.iter().filter(|a| a.severity == severity);
        of_severity
            .map(|a| match a.span {
                Some(span) => {
                    let (line, column) = line_column(query, span.start as usize);
                    format!("{prefix}{} ({line}:{column})", a.text)
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
