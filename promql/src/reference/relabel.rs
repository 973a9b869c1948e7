//! Functions of labels: `label_replace`, `label_join`, `sort_by_label`.

use std::cmp::Ordering;

use promontory_model::{METRIC_NAME, Regex};

use super::calls::{bare, text};
use super::values::Element;
use super::{Query, fail};
use crate::ast::{Call, Expr};
use crate::error::QueryError;
use crate::functions::FunctionId;

impl Query<'_> {
    pub(super) fn label_replace(&self, c: &Call, t: i64) -> Result<Vec<Element>, QueryError> {
        let (target, template, source, pattern) = (text(c, 1), text(c, 2), text(c, 3), text(c, 4));
        let regex = Regex::new(pattern)
            .map_err(|_| fail(format!("invalid regular expression in label_replace(): {pattern}")))?;
        if !is_label_name(c, 1) {
            return Err(fail(format!("invalid destination label name in label_replace(): {target}")));
        }
        let mut vector = self.vector(&c.args[0], t)?;
        for element in &mut vector {
            let mut value = String::new();
            let matched = regex.expand(element.labels.get(source).unwrap_or(""), template, &mut value);
            if matched {
                set_label(element, target, &value);
            }
        }
        self.unique(vector)
    }

    pub(super) fn label_join(&self, c: &Call, t: i64) -> Result<Vec<Element>, QueryError> {
        let (target, separator) = (text(c, 1), text(c, 2));
        let sources: Vec<&str> = (3..c.args.len()).map(|i| text(c, i)).collect();
        if let Some(i) = (3..c.args.len()).find(|i| !is_label_name(c, *i)) {
            return Err(fail(format!("invalid source label name in label_join(): {}", text(c, i))));
        }
        if !is_label_name(c, 1) {
            return Err(fail(format!("invalid destination label name in label_join(): {target}")));
        }
        let mut vector = self.vector(&c.args[0], t)?;
        for element in &mut vector {
            let values: Vec<&str> = sources.iter().map(|s| element.labels.get(s).unwrap_or("")).collect();
            let value = values.join(separator);
            set_label(element, target, &value);
        }
        self.unique(vector)
    }

    pub(super) fn sort_by_label(&self, c: &Call, t: i64) -> Result<Vec<Element>, QueryError> {
        self.warn_of_sort(c.span);
        let names: Vec<&str> = (1..c.args.len()).map(|i| text(c, i)).collect();
        let mut vector = self.vector(&c.args[0], t)?;
        let descending = c.function.id == FunctionId::SortByLabelDesc;
        vector.sort_by(|a, b| {
            let value = |e: &Element, name: &str| e.labels.get(name).unwrap_or("").to_owned();
            let by_name = names.iter().map(|n| natural(&value(a, n), &value(b, n))).find(|o| o.is_ne());
            let ordering = by_name.unwrap_or_else(|| a.labels.cmp(&b.labels));
            if descending { ordering.reverse() } else { ordering }
        });
        Ok(vector)
    }
}

/// Whether a string argument may name a label: not empty, and UTF-8 as it was written.
fn is_label_name(c: &Call, i: usize) -> bool {
    matches!(c.args.get(i).map(bare), Some(Expr::String(s)) if !s.value.is_empty() && s.invalid_utf8.is_none())
}

/// A name that was written is not dropped any more.
fn set_label(element: &mut Element, name: &str, value: &str) {
    let mut labels = element.labels.to_builder();
    labels.set(name, value);
    element.labels = labels.build();
    if name == METRIC_NAME {
        element.drop_name = false;
    }
}

/// Runs of digits compare as numbers, all else as text.
pub(super) fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let (x, y) = match (chunk(a), chunk(b)) {
            ("", "") => return Ordering::Equal,
            chunks => chunks,
        };
        let is_number = |s: &str| s.starts_with(|c: char| c.is_ascii_digit());
        let ordering = if is_number(x) && is_number(y) {
            let (m, n) = (x.trim_start_matches('0'), y.trim_start_matches('0'));
            m.len().cmp(&n.len()).then_with(|| m.cmp(n)).then_with(|| x.len().cmp(&y.len()))
        } else {
            x.cmp(y)
        };
        if ordering.is_ne() {
            return ordering;
        }
        a = &a[x.len()..];
        b = &b[y.len()..];
    }
}

/// The digits, or the other characters, that `text` begins with.
fn chunk(text: &str) -> &str {
    let digits = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(text.len());
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_inside_text_sort_by_value() {
        assert_eq!(natural("a2", "a10"), Ordering::Less);
        assert_eq!(natural("a02b", "a2c"), Ordering::Greater);
        assert_eq!(natural("b", "a10"), Ordering::Greater);
        assert_eq!(natural("", "a"), Ordering::Less);
        assert_eq!(natural("4m600", "4m600"), Ordering::Equal);
    }
}
