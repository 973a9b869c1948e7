//! `promontory promql …`: queries as text.

use promontory_model::{METRIC_NAME, MatchOp, Matcher, RegexError};
use promontory_promql::ast::VectorSelector;
use promontory_promql::error::ParseError;
use promontory_promql::{parser, printer};

use crate::cli::{MatcherType, MatchersCommand, PromqlCommand};

/// Why a query cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum PromqlError {
    /// It is none.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The regular expression is none.
    #[error(transparent)]
    Regex(#[from] RegexError),
    /// Nothing would be left of a selector.
    #[error("without {0:?} a selector would match every series; set another matcher first")]
    Empty(String),
}

/// The query that a command makes.
///
/// # Errors
/// [`PromqlError`]
pub fn rewrite(command: &PromqlCommand) -> Result<String, PromqlError> {
    let (expr, name, matcher) = match command {
        PromqlCommand::Format { expr } => return Ok(printer::pretty(&parser::parse(expr)?)),
        PromqlCommand::LabelMatchers(MatchersCommand::Delete { expr, name }) => (expr, name, None),
        PromqlCommand::LabelMatchers(MatchersCommand::Set { r#type, expr, name, value }) => {
            let op = match r#type {
                MatcherType::Equal => MatchOp::Equal,
                MatcherType::NotEqual => MatchOp::NotEqual,
                MatcherType::Regex => MatchOp::Regex,
                MatcherType::NotRegex => MatchOp::NotRegex,
            };
            (expr, name, Some(Matcher::new(name, op, value)?))
        }
    };
    let mut query = parser::parse(expr)?;
    let mut is_empty = false;
    query.for_each_selector(&mut |selector| {
        change(selector, name, matcher.as_ref());
        is_empty |= selector.matchers.iter().all(Matcher::matches_empty);
    });
    if is_empty { Err(PromqlError::Empty(name.clone())) } else { Ok(printer::pretty(&query)) }
}

/// Puts `matcher` in the place of those of label `name`, or at the end, or takes these out.
fn change(selector: &mut VectorSelector, name: &str, matcher: Option<&Matcher>) {
    if name == METRIC_NAME {
        // It stands between the braces from now on.
        selector.name = None;
    }
    let before = selector.matchers.iter().position(|m| m.name() == name);
    selector.matchers.retain(|m| m.name() != name);
    if let Some(matcher) = matcher {
        let end = selector.matchers.len() - usize::from(selector.name.is_some());
        selector.matchers.insert(before.unwrap_or(end), matcher.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(r#type: MatcherType, expr: &str, name: &str, value: &str) -> Result<String, PromqlError> {
        let (expr, name, value) = (expr.to_owned(), name.to_owned(), value.to_owned());
        rewrite(&PromqlCommand::LabelMatchers(MatchersCommand::Set { r#type, expr, name, value }))
    }

    fn delete(expr: &str, name: &str) -> Result<String, PromqlError> {
        let (expr, name) = (expr.to_owned(), name.to_owned());
        rewrite(&PromqlCommand::LabelMatchers(MatchersCommand::Delete { expr, name }))
    }

    #[test]
    fn queries_are_laid_out() {
        let laid_out = |expr: &str| rewrite(&PromqlCommand::Format { expr: expr.to_owned() });
        assert_eq!(laid_out("sum(rate(x[5m]))by(job)").unwrap(), "sum by (job) (rate(x[5m]))");
        assert!(laid_out("sum(").unwrap_err().to_string().contains("1:5"));
    }

    #[test]
    fn matchers_of_all_selectors_change() {
        let set = |expr: &str, name: &str, value: &str| set(MatcherType::Equal, expr, name, value).unwrap();
        assert_eq!(set("up", "job", "a"), "up{job=\"a\"}");
        assert_eq!(set("up{a=\"b\",job=~\"x\",job!=\"y\"}", "job", "a"), "up{a=\"b\",job=\"a\"}");
        assert_eq!(set("rate(x[5m]) / max_over_time(y{a=\"b\"}[1h:1m])", "a", "c"), {
            "rate(x{a=\"c\"}[5m]) / max_over_time(y{a=\"c\"}[1h:1m])"
        });
        assert_eq!(set("up{a=\"b\"}", "__name__", "down"), "{__name__=\"down\",a=\"b\"}");
        assert_eq!(delete("up{a=\"b\"} + topk(1, {a=\"b\",c=\"d\"})", "a").unwrap(), "up + topk(1, {c=\"d\"})");
    }

    #[test]
    fn what_would_be_no_query_is_refused() {
        assert_eq!(
            delete("up", "__name__").unwrap_err().to_string(),
            "without \"__name__\" a selector would match every series; set another matcher first"
        );
        assert!(matches!(set(MatcherType::Regex, "up", "a", "("), Err(PromqlError::Regex(_))));
        assert_eq!(set(MatcherType::NotRegex, "up", "a", "b|c").unwrap(), "up{a!~\"b|c\"}");
    }
}
