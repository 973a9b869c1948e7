//! The syntax tree of a query as `/api/v1/parse_query` shows it.

use promontory_promql::ast::{
    At, Binary, Cardinality, DurationExpr, Expr, Modifiers, RangeExtension, ValueType, VectorMatching, VectorSelector,
};
use promontory_promql::functions::Variadic;
use serde_json::{Map, Value, json};

use super::json;

pub(crate) fn of(expr: &Expr) -> Value {
    match expr {
        Expr::Number(n) => json!({"type": "numberLiteral", "val": number(n.value)}),
        Expr::String(s) => json!({"type": "stringLiteral", "val": s.value}),
        Expr::Paren(p) => json!({"type": "parenExpr", "expr": of(&p.expr)}),
        Expr::Unary(u) => {
            json!({"type": "unaryExpr", "op": if u.negative { "-" } else { "+" }, "expr": of(&u.expr)})
        }
        Expr::Vector(v) => selector("vectorSelector", v),
        Expr::Matrix(m) => {
            let mut node = selector("matrixSelector", &m.selector);
            duration(&mut node, "range", "rangeExpr", Some(&m.range));
            node
        }
        Expr::Subquery(s) => {
            let mut node = json!({"type": "subquery", "expr": of(&s.expr)});
            duration(&mut node, "range", "rangeExpr", Some(&s.range));
            duration(&mut node, "step", "stepExpr", s.step.as_ref());
            modifiers(&mut node, &s.modifiers);
            node
        }
        Expr::Call(c) => json!({
            "type": "call",
            "func": {
                "name": c.function.name,
                "argTypes": c.function.args.iter().map(|t| type_name(*t)).collect::<Vec<_>>(),
                "variadic": match c.function.variadic {
                    Variadic::Exact => 0,
                    Variadic::Repeat => -1,
                    Variadic::Optional(n) | Variadic::RepeatUpTo(n) => i64::try_from(n).unwrap_or(i64::MAX),
                },
                "returnType": type_name(c.function.returns),
            },
            "args": c.args.iter().map(of).collect::<Vec<_>>(),
        }),
        Expr::Aggregate(a) => json!({
            "type": "aggregation",
            "op": a.op.as_str(),
            "expr": of(&a.expr),
            "param": a.param.as_ref().map(of),
            "grouping": a.grouping.labels,
            "without": a.grouping.without,
        }),
        Expr::Binary(b) => binary(b),
    }
}

fn binary(b: &Binary) -> Value {
    json!({
        "type": "binaryExpr",
        "op": b.op.as_str(),
        "lhs": of(&b.lhs),
        "rhs": of(&b.rhs),
        "matching": b.matching.as_ref().map(matching),
        "bool": b.return_bool,
    })
}

fn matching(m: &VectorMatching) -> Value {
    let card = match m.cardinality {
        Cardinality::OneToOne => "one-to-one",
        Cardinality::ManyToOne => "many-to-one",
        Cardinality::OneToMany => "one-to-many",
        Cardinality::ManyToMany => "many-to-many",
    };
    json!({
        "card": card,
        "labels": m.labels,
        "on": m.on,
        "include": m.include,
        "fillValues": {"lhs": m.fill_left, "rhs": m.fill_right},
    })
}

fn selector(kind: &str, v: &VectorSelector) -> Value {
    let matchers: Vec<_> =
        v.matchers.iter().map(|m| json!({"name": m.name(), "value": m.value(), "type": m.op().as_str()})).collect();
    let mut node = json!({
        "type": kind,
        "name": v.name.as_deref().unwrap_or(""),
        "matchers": matchers,
        "anchored": v.extension == Some(RangeExtension::Anchored),
        "smoothed": v.extension == Some(RangeExtension::Smoothed),
    });
    modifiers(&mut node, &v.modifiers);
    node
}

fn modifiers(node: &mut Value, m: &Modifiers) {
    duration(node, "offset", "offsetExpr", m.offset.as_ref());
    put(node, "timestamp", if let Some(At::Time(ms)) = m.at { json!(ms) } else { Value::Null });
    let edge = match m.at {
        Some(At::Start) => json!("start"),
        Some(At::End) => json!("end"),
        _ => Value::Null,
    };
    put(node, "startOrEnd", edge);
}

/// A literal is shown in ms; an expression cannot be evaluated here and is shown as a tree.
fn duration(node: &mut Value, name: &str, expr_name: &str, duration: Option<&DurationExpr>) {
    let ms = duration.map_or(Some(0.0), literal_ms);
    put(node, name, json!(ms.unwrap_or(0.0) as i64));
    if let (Some(expr), None) = (duration, ms) {
        put(node, expr_name, duration_tree(expr));
    }
}

fn literal_ms(duration: &DurationExpr) -> Option<f64> {
    match duration {
        DurationExpr::Literal(n) => Some(n.value * 1000.0),
        DurationExpr::Sign { negative, expr, .. } => literal_ms(expr).map(|ms| if *negative { -ms } else { ms }),
        _ => None,
    }
}

fn duration_tree(duration: &DurationExpr) -> Value {
    let node = |op: &str, lhs: Value, rhs: Value, wrapped: bool| json!({"type": "durationExpr", "op": op, "lhs": lhs, "rhs": rhs, "wrapped": wrapped});
    match duration {
        DurationExpr::Literal(n) => json!({"type": "numberLiteral", "val": number(n.value)}),
        DurationExpr::Step(_) => node("step", Value::Null, Value::Null, false),
        DurationExpr::Range(_) => node("range", Value::Null, Value::Null, false),
        DurationExpr::Sign { negative, expr, .. } => {
            node(if *negative { "-" } else { "+" }, Value::Null, duration_tree(expr), false)
        }
        DurationExpr::Binary { op, lhs, rhs, .. } => node(op.as_str(), duration_tree(lhs), duration_tree(rhs), false),
        DurationExpr::MinMax { is_max, lhs, rhs, .. } => {
            node(if *is_max { "max_of" } else { "min_of" }, duration_tree(lhs), duration_tree(rhs), false)
        }
        DurationExpr::Paren(inner, _) => {
            let mut inner = duration_tree(inner);
            put(&mut inner, "wrapped", json!(true));
            inner
        }
    }
}

fn put(node: &mut Value, name: &str, value: Value) {
    if let Value::Object(fields) = node {
        let fields: &mut Map<_, _> = fields;
        fields.insert(name.to_owned(), value);
    }
}

fn number(v: f64) -> String {
    let mut out = Vec::new();
    json::push_float(&mut out, v);
    String::from_utf8(out).unwrap_or_default()
}

fn type_name(t: ValueType) -> &'static str {
    match t {
        ValueType::Scalar => "scalar",
        ValueType::String => "string",
        ValueType::InstantVector => "vector",
        ValueType::RangeVector => "matrix",
    }
}

#[cfg(test)]
mod tests {
    use promontory_promql::parser;

    use super::*;

    #[track_caller]
    fn check(query: &str, expected: Value) {
        assert_eq!(of(&parser::parse(query).unwrap()), expected, "{query}");
    }

    #[test]
    fn trees_have_the_fields_of_the_api() {
        check(
            "sum by (a) (rate(x{b=\"c\"}[5m] offset 1m)) / 2",
            json!({
                "type": "binaryExpr", "op": "/", "matching": null, "bool": false,
                "rhs": {"type": "numberLiteral", "val": "2"},
                "lhs": {
                    "type": "aggregation", "op": "sum", "param": null, "grouping": ["a"], "without": false,
                    "expr": {
                        "type": "call",
                        "func": {"name": "rate", "argTypes": ["matrix"], "variadic": 0, "returnType": "vector"},
                        "args": [{
                            "type": "matrixSelector", "name": "x", "range": 300_000, "offset": 60_000,
                            "matchers": [
                                {"name": "b", "value": "c", "type": "="},
                                {"name": "__name__", "value": "x", "type": "="},
                            ],
                            "anchored": false, "smoothed": false, "timestamp": null, "startOrEnd": null,
                        }],
                    },
                },
            }),
        );
        check(
            "a[1h:step()] @ 5",
            json!({
                "type": "subquery", "range": 3_600_000, "step": 0, "offset": 0,
                "stepExpr": {"type": "durationExpr", "op": "step", "lhs": null, "rhs": null, "wrapped": false},
                "timestamp": 5000, "startOrEnd": null,
                "expr": {
                    "type": "vectorSelector", "name": "a", "offset": 0,
                    "matchers": [{"name": "__name__", "value": "a", "type": "="}],
                    "anchored": false, "smoothed": false, "timestamp": null, "startOrEnd": null,
                },
            }),
        );
    }
}
