//! Queries that are computed of others in the same panel, as PromQL over these.
//!
//! # Source
//! Grafana evaluates such expressions behind its data sources. Its arithmetic joins series by their labels, as PromQL
//! does, but a series without labels goes with all others; here that is written as `scalar`.

use promontory_promql::ast::{AggregateOp, Expr};
use promontory_promql::parser;

use super::interpolate::{Binding, Context, interpolate, names};
use super::model::{Expression, Panel, Target};
use super::units::js_number;

/// Expressions over expressions.
const DEPTH_MAX: usize = 8;

/// What is asked of the data source.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Asked {
    pub(super) expr: String,
    /// Whether there is one moment to ask for rather than many.
    pub(super) is_once: bool,
}

/// The PromQL of a target; `fill` puts the values of variables into a text.
///
/// # Errors
/// What of the target's expression is not evaluated, in words.
pub(super) fn asked(target: &Target, panel: &Panel, fill: &dyn Fn(&str) -> String) -> Result<Asked, String> {
    at_depth(target, panel, fill, 0)
}

fn at_depth(target: &Target, panel: &Panel, fill: &dyn Fn(&str) -> String, depth: usize) -> Result<Asked, String> {
    let Some(computed) = &target.computed else {
        return Ok(Asked { expr: fill(&target.expr), is_once: !target.range });
    };
    let id = &target.ref_id;
    if depth > DEPTH_MAX {
        return Err(format!("expression {id} refers to itself"));
    }
    let of = |name: &str| match panel.targets.iter().find(|t| t.ref_id == name) {
        Some(referred) => at_depth(referred, panel, fill, depth + 1),
        None => Err(format!("expression {id} refers to {name:?}, which is no query of this panel")),
    };
    let compared = |name: &str, sign: char, bound: f64| {
        let inner = of(name)?;
        Ok(Asked { expr: format!("({}) {sign} bool {}", inner.expr, js_number(bound)), is_once: inner.is_once })
    };
    match computed {
        Expression::Math(text) if text.is_empty() => Err(format!("expression {id} is empty")),
        Expression::Math(text) => math(text, panel, &of, fill),
        Expression::Reduce { of: name, calc } => {
            let inner = of(name)?;
            if inner.is_once {
                return Ok(inner);
            }
            let begin = over_time(calc).ok_or_else(|| format!("expression {id}: {calc:?} is not computed"))?;
            let window = fill("[$__range:$__interval]");
            Ok(Asked { expr: format!("{begin}({}){window})", inner.expr), is_once: true })
        }
        Expression::Same(name) => of(name),
        Expression::Above { of: name, bound } => compared(name, '>', *bound),
        Expression::Below { of: name, bound } => compared(name, '<', *bound),
        Expression::Unknown(kind) => Err(format!("expression {id}: {kind} is not evaluated here")),
    }
}

/// The beginning of the call that reduces a range as `calc` does.
fn over_time(calc: &str) -> Option<&'static str> {
    Some(match calc {
        "mean" | "avg" => "avg_over_time(",
        "min" => "min_over_time(",
        "max" => "max_over_time(",
        "sum" => "sum_over_time(",
        "count" => "count_over_time(",
        "last" => "last_over_time(",
        "median" => "quantile_over_time(0.5, ",
        _ => return None,
    })
}

fn math(
    text: &str,
    panel: &Panel,
    of: &dyn Fn(&str) -> Result<Asked, String>,
    fill: &dyn Fn(&str) -> String,
) -> Result<Asked, String> {
    let mut parts: Vec<(String, Asked, bool)> = Vec::new();
    for name in names(text) {
        if panel.targets.iter().any(|t| t.ref_id == name) && !parts.iter().any(|(known, ..)| *known == name) {
            let asked = of(&name)?;
            let is_lone = parser::parse(&asked.expr).is_ok_and(|e| is_lone(&e));
            parts.push((name, asked, is_lone));
        }
    }
    // Among themselves series without labels go together as they are.
    let is_mixed = parts.iter().any(|(.., lone)| *lone) && parts.iter().any(|(.., lone)| !*lone);
    let expr = interpolate(text, Context::Text, &|name| {
        let value = match parts.iter().find(|(known, ..)| known == name) {
            Some((_, asked, true)) if is_mixed => format!("scalar({})", asked.expr),
            Some((_, asked, _)) => format!("({})", asked.expr),
            None => fill(&format!("${{{name}}}")),
        };
        Some(Binding::plain(value))
    });
    Ok(Asked { expr, is_once: !parts.is_empty() && parts.iter().all(|(_, asked, _)| asked.is_once) })
}

/// Whether an expression surely gives one value, or one series without labels.
fn is_lone(expr: &Expr) -> bool {
    match expr {
        Expr::Number(_) | Expr::String(_) => true,
        Expr::Paren(p) => is_lone(&p.expr),
        Expr::Unary(u) => is_lone(&u.expr),
        Expr::Binary(b) => is_lone(&b.lhs) && is_lone(&b.rhs),
        Expr::Aggregate(a) => {
            use AggregateOp::{BottomK, CountValues, LimitK, LimitRatio, TopK};
            let keeps = matches!(a.op, TopK | BottomK | LimitK | LimitRatio | CountValues);
            !keeps && !a.grouping.without && a.grouping.labels.is_empty()
        }
        Expr::Call(c) => match c.function.name {
            "label_replace" | "label_join" => false,
            // The buckets go into the value.
            "histogram_quantile" => c.args.last().is_some_and(|e| match e {
                Expr::Aggregate(a) => !a.grouping.without && a.grouping.labels == ["le"],
                other => is_lone(other),
            }),
            _ => c.args.iter().all(is_lone),
        },
        Expr::Vector(_) | Expr::Matrix(_) | Expr::Subquery(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboard::load::load;

    #[track_caller]
    fn check(targets: &str, expected: Result<&str, &str>) {
        let d = load(&format!("{{\"panels\": [{{\"targets\": [{targets}]}}]}}"), "f").unwrap();
        let panel = d.panels().next().unwrap();
        let fill = |text: &str| text.replace("$__range", "1h").replace("$__interval", "15s").replace("${factor}", "8");
        let got = asked(panel.targets.last().unwrap(), panel, &fill).map(|a| a.expr);
        assert_eq!(got.as_deref().map_err(String::as_str), expected);
    }

    const A: &str = r#"{"refId": "A", "expr": "sum(a)"}, {"refId": "B", "expr": "b"}"#;

    fn computed(more: &str) -> String {
        format!(r#"{A}, {{"refId": "C", "datasource": {{"type": "__expr__", "uid": "__expr__"}}, {more}}}"#)
    }

    #[test]
    fn arithmetic_joins_as_promql_and_lone_series_with_all() {
        check(&computed(r#""expression": "$B / $B""#), Ok("(b) / (b)"));
        check(&computed(r#""expression": "$A / $A * ${factor}""#), Ok("(sum(a)) / (sum(a)) * 8"));
        check(&computed(r#""expression": "$B / $A""#), Ok("(b) / scalar(sum(a))"));
        check(&computed(r#""expression": """#), Err("expression C is empty"));
        check(&computed(r#""expression": "$C + 1""#), Err("expression C refers to itself"));
    }

    #[test]
    fn other_kinds_are_evaluated_or_named() {
        check(
            &computed(r#""type": "reduce", "reducer": "median", "expression": "B""#),
            Ok("quantile_over_time(0.5, (b)[1h:15s])"),
        );
        check(&computed(r#""type": "resample", "expression": "$B""#), Ok("b"));
        let above =
            r#""type": "threshold", "expression": "B", "conditions": [{"evaluator": {"type": "gt", "params": [0.5]}}]"#;
        check(&computed(above), Ok("(b) > bool 0.5"));
        check(&computed(r#""type": "sql", "expression": "SELECT 1""#), Err("expression C: sql is not evaluated here"));
        check(
            &computed(r#""type": "resample", "expression": "X""#),
            Err("expression C refers to \"X\", which is no query of this panel"),
        );
    }

    #[test]
    fn series_without_labels_are_known() {
        for (expr, expected) in [
            ("sum(up)", true),
            ("1 - avg(rate(a[5m]))", true),
            ("histogram_quantile(0.9, sum by (le) (rate(a[5m])))", true),
            ("histogram_quantile(0.9, sum by (le, job) (rate(a[5m])))", false),
            ("topk(1, up)", false),
            ("sum by (job) (up)", false),
            ("sum(up) / up", false),
            ("scalar(sum(up)) + time()", true),
        ] {
            assert_eq!(is_lone(&parser::parse(expr).unwrap()), expected, "{expr}");
        }
    }
}
