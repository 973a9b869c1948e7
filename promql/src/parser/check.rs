//! Types, counts of arguments and other rules that the grammar alone does not hold.

use promontory_model::METRIC_NAME;

use super::input::Fault;
use crate::ast::{
    Aggregate, AggregateOp, Binary, Call, Cardinality, Expr, Span, ValueType, VectorMatching, VectorSelector,
};
use crate::functions::{FunctionId, Variadic};
use crate::lexer::quote;

type Checked = Result<(), Fault>;

fn fault(span: Span, message: impl Into<String>) -> Checked {
    Err(Fault::Report(span, message.into()))
}

/// Checks a whole tree, children before what depends on their types, and sets what depends on types alone: the
/// matching of binary operators.
pub(super) fn expr(e: &mut Expr) -> Checked {
    match e {
        Expr::Number(_) | Expr::String(_) => Ok(()),
        Expr::Vector(v) => selector(v),
        Expr::Matrix(m) => selector(&m.selector),
        Expr::Paren(p) => expr(&mut p.expr),
        Expr::Unary(u) => {
            expr(&mut u.expr)?;
            match u.expr.value_type() {
                ValueType::Scalar | ValueType::InstantVector => Ok(()),
                other => fault(
                    u.span,
                    format!(
                        "unary expression only allowed on expressions of type scalar or instant vector, got {}",
                        quote(other.as_str())
                    ),
                ),
            }
        }
        Expr::Subquery(s) => {
            expr(&mut s.expr)?;
            let shown = match s.expr.value_type() {
                ValueType::InstantVector => return Ok(()),
                ValueType::RangeVector => "matrix",
                ValueType::Scalar => "scalar",
                ValueType::String => "string",
            };
            fault(s.span, format!("subquery is only allowed on instant vector, got {shown} instead"))
        }
        Expr::Call(c) => call(c),
        Expr::Aggregate(a) => aggregate(a),
        Expr::Binary(b) => binary(b),
    }
}

/// A selector must not select everything by mistake, nor have two names.
pub(super) fn selector(v: &VectorSelector) -> Checked {
    if let Some(name) = &v.name {
        let others = &v.matchers[..v.matchers.len().saturating_sub(1)];
        return match others.iter().find(|m| m.name() == METRIC_NAME) {
            Some(m) => {
                let (first, second) = (quote(name), quote(m.value()));
                fault(v.span, format!("metric name must not be set twice: {first} or {second}"))
            }
            None => Ok(()),
        };
    }
    if v.matchers.iter().all(promontory_model::Matcher::matches_empty) {
        return fault(v.span, "vector selector must contain at least one non-empty matcher");
    }
    Ok(())
}

fn expect_type(e: &mut Expr, wanted: ValueType, context: &str) -> Checked {
    expr(e)?;
    let got = e.value_type();
    if got == wanted {
        return Ok(());
    }
    fault(e.span(), format!("expected type {} in {context}, got {}", wanted.as_str(), got.as_str()))
}

fn aggregate(a: &mut Aggregate) -> Checked {
    expect_type(&mut a.expr, ValueType::InstantVector, "aggregation expression")?;
    match (&mut a.param, a.op) {
        (Some(param), AggregateOp::CountValues) => expect_type(param, ValueType::String, "aggregation parameter"),
        (Some(param), _) => expect_type(param, ValueType::Scalar, "aggregation parameter"),
        (None, _) => Ok(()),
    }
}

fn binary(b: &mut Binary) -> Checked {
    expr(&mut b.lhs)?;
    expr(&mut b.rhs)?;
    let (left, right) = (b.lhs.value_type(), b.rhs.value_type());
    let comparison = b.op.is_comparison();
    if b.return_bool && !comparison {
        return fault(b.op_span, "bool modifier can only be used on comparison operators");
    }
    if comparison && !b.return_bool && left == ValueType::Scalar && right == ValueType::Scalar {
        return fault(b.op_span, "comparisons between scalars must use BOOL modifier");
    }
    let matching = b.matching.clone().unwrap_or_default();
    if matching.on
        && let Some(label) = matching.labels.iter().find(|l| matching.include.contains(l))
    {
        return fault(b.op_span, format!("label {} must not occur in ON and GROUP clause at once", quote(label)));
    }
    for side in [&b.lhs, &b.rhs] {
        if !matches!(side.value_type(), ValueType::Scalar | ValueType::InstantVector) {
            return fault(side.span(), "binary expression must contain only scalar and instant vector types");
        }
    }
    let fills = matching.fill_left.is_some() || matching.fill_right.is_some();
    let set = b.op.is_set();
    if left == ValueType::Scalar || right == ValueType::Scalar {
        if !matching.labels.is_empty() {
            return fault(b.span, "vector matching only allowed between instant vectors");
        }
        if fills {
            return fault(b.span, "filling in missing series only allowed between instant vectors");
        }
        if set {
            let op = quote(b.op.as_str());
            return fault(b.span, format!("set operator {op} not allowed in binary scalar expression"));
        }
        b.matching = None;
    } else if set {
        if matches!(matching.cardinality, Cardinality::OneToMany | Cardinality::ManyToOne) {
            return fault(b.span, format!("no grouping allowed for {} operation", quote(b.op.as_str())));
        }
        if fills {
            return fault(b.span, "filling in missing series not allowed for set operators");
        }
        b.matching = Some(VectorMatching { cardinality: Cardinality::ManyToMany, ..matching });
    }
    Ok(())
}

fn call(c: &mut Call) -> Checked {
    let name = quote(c.function.name);
    let listed = c.function.args.len();
    let given = c.args.len();
    let (least, most) = match c.function.variadic {
        Variadic::Exact if given != listed => {
            return fault(c.span, format!("expected {listed} argument(s) in call to {name}, got {given}"));
        }
        Variadic::Exact => (listed, listed),
        Variadic::Optional(n) => (listed - n, listed),
        Variadic::Repeat => (listed - 1, usize::MAX),
        Variadic::RepeatUpTo(most) => (listed, most),
    };
    if given < least {
        return fault(c.span, format!("expected at least {least} argument(s) in call to {name}, got {given}"));
    }
    if given > most {
        return fault(c.span, format!("expected at most {most} argument(s) in call to {name}, got {given}"));
    }
    let context = format!("call to function {name}");
    if let (FunctionId::Info, [series, labels]) = (c.function.id, c.args.as_mut_slice()) {
        expect_type(series, c.function.args[0], &context)?;
        return info_labels(c.span, labels, &context);
    }
    for (i, arg) in c.args.iter_mut().enumerate() {
        expect_type(arg, c.function.args[i.min(listed - 1)], &context)?;
    }
    Ok(())
}

/// The second argument of `info` names labels, not series: it may select everything, and has no metric name.
fn info_labels(call: Span, labels: &Expr, context: &str) -> Checked {
    let got = labels.value_type();
    if got != ValueType::InstantVector {
        let wanted = ValueType::InstantVector.as_str();
        return fault(call, format!("expected type {wanted} in {context}, got {}", got.as_str()));
    }
    match labels {
        Expr::Vector(v) if v.name.is_some() => {
            fault(v.span, "expected label selectors only, got vector selector instead")
        }
        Expr::Vector(_) => Ok(()),
        other => fault(other.span(), "expected label selectors only"),
    }
}
