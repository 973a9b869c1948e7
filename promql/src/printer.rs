//! Syntax trees back to text: one canonical line, or broken over lines.
//!
//! Parsing the text gives the same tree again, places apart. Both forms are Prometheus' own, so that answers which
//! contain a query (`/format_query`, the rules API) agree with its answers.

use std::fmt::{self, Write as _};

use promontory_model::labels::{Quoted, is_legacy_label_name};
use promontory_model::{Duration, METRIC_NAME, MatchOp};

use crate::ast::{
    Aggregate, At, Binary, BinaryOp, Cardinality, DurationExpr, Expr, MatrixSelector, Modifiers, NumberLiteral,
    RangeExtension, Subquery, VectorMatching, VectorSelector,
};

/// Lines longer than this are broken by [`pretty`].
const LINE_BYTES_MAX: usize = 100;

/// The expression on one line.
#[must_use]
pub fn to_string(expr: &Expr) -> String {
    expr.to_string()
}

/// The expression, broken over lines where it is longer than 100 bytes.
#[must_use]
pub fn pretty(expr: &Expr) -> String {
    let mut out = String::new();
    write_pretty(&mut out, expr, 0);
    out
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(n) => write!(f, "{n}"),
            Self::String(s) => match &s.invalid_utf8 {
                Some(bytes) => f.write_str(&crate::lexer::quote_bytes(bytes)),
                None => write!(f, "{}", Quoted(&s.value)),
            },
            Self::Vector(v) => write!(f, "{v}"),
            Self::Matrix(m) => write!(f, "{m}"),
            Self::Subquery(s) => write!(f, "{}{}", s.expr, SubqueryTime(s)),
            Self::Call(c) => {
                write!(f, "{}(", c.function.name)?;
                for (i, arg) in c.args.iter().enumerate() {
                    write!(f, "{}{arg}", if i > 0 { ", " } else { "" })?;
                }
                f.write_str(")")
            }
            Self::Aggregate(a) => {
                write!(f, "{}(", AggregateHead(a))?;
                if let Some(param) = &a.param {
                    write!(f, "{param}, ")?;
                }
                write!(f, "{})", a.expr)
            }
            Self::Binary(b) => write!(f, "{} {} {}", Left(b), Operator(b), b.rhs),
            Self::Unary(u) => write!(f, "{}{}", if u.negative { "-" } else { "+" }, u.expr),
            Self::Paren(p) => write!(f, "({})", p.expr),
        }
    }
}

impl fmt::Display for NumberLiteral {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_duration {
            return write!(f, "{}", Duration(milliseconds(self.value)));
        }
        write!(f, "{}", Number(self.value))
    }
}

/// A number without exponent, shortest digits, as Go's `FormatFloat(v, 'f', -1, 64)`.
struct Number(f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            v if v.is_nan() => f.write_str("NaN"),
            v if v.is_infinite() => f.write_str(if v > 0.0 { "+Inf" } else { "-Inf" }),
            v => write!(f, "{v}"),
        }
    }
}

fn milliseconds(seconds: f64) -> i64 {
    (seconds * 1000.0).round() as i64
}

/// A length of time where only lengths of time may stand, so that plain numbers read as durations.
struct Length<'a>(&'a DurationExpr);

impl fmt::Display for Length<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            DurationExpr::Literal(n) => write!(f, "{}", Duration(milliseconds(n.value))),
            other => write!(f, "{other}"),
        }
    }
}

impl fmt::Display for DurationExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(n) => write!(f, "{n}"),
            Self::Step(_) => f.write_str("step()"),
            Self::Range(_) => f.write_str("range()"),
            Self::Sign { negative, expr, .. } => write!(f, "{}{expr}", if *negative { "-" } else { "+" }),
            Self::Binary { op, lhs, rhs, .. } => write!(f, "{lhs} {} {rhs}", op.as_str()),
            Self::MinMax { is_max, lhs, rhs, .. } => {
                write!(f, "{}({lhs}, {rhs})", if *is_max { "max_of" } else { "min_of" })
            }
            Self::Paren(inside, _) => write!(f, "({inside})"),
        }
    }
}

/// Label names as in `by (a, "b c")`.
struct Names<'a>(&'a [String]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, name) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            if is_legacy_label_name(name) {
                f.write_str(name)?;
            } else {
                write!(f, "{}", Quoted(name))?;
            }
        }
        Ok(())
    }
}

/// An aggregation up to its arguments.
struct AggregateHead<'a>(&'a Aggregate);

impl fmt::Display for AggregateHead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let grouping = &self.0.grouping;
        f.write_str(self.0.op.as_str())?;
        if grouping.without {
            write!(f, " without ({}) ", Names(&grouping.labels))
        } else if grouping.labels.is_empty() {
            Ok(())
        } else {
            write!(f, " by ({}) ", Names(&grouping.labels))
        }
    }
}

/// The left side of a binary operator. A sign binds weaker than `^`, so `+Inf ^ 2` would be the sign of a power.
struct Left<'a>(&'a Binary);

impl fmt::Display for Left<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.lhs {
            Expr::Number(n) if self.0.op == BinaryOp::Pow && n.value == f64::INFINITY => f.write_str("Inf"),
            lhs => write!(f, "{lhs}"),
        }
    }
}

/// A binary operator with its modifiers.
struct Operator<'a>(&'a Binary);

impl fmt::Display for Operator<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.op.as_str())?;
        if self.0.return_bool {
            f.write_str(" bool")?;
        }
        let Some(matching) = &self.0.matching else {
            return Ok(());
        };
        write!(f, "{matching}")
    }
}

impl fmt::Display for VectorMatching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.cardinality {
            Cardinality::ManyToOne => Some("left"),
            Cardinality::OneToMany => Some("right"),
            Cardinality::OneToOne | Cardinality::ManyToMany => None,
        };
        if !self.labels.is_empty() || self.on || side.is_some() {
            write!(f, " {} ({})", if self.on { "on" } else { "ignoring" }, Names(&self.labels))?;
        }
        if let Some(side) = side {
            write!(f, " group_{side} ({})", Names(&self.include))?;
        }
        match (self.fill_left, self.fill_right) {
            (Some(l), Some(r)) if l.to_bits() == r.to_bits() => write!(f, " fill ({})", Number(l)),
            (left, right) => {
                if let Some(l) = left {
                    write!(f, " fill_left ({})", Number(l))?;
                }
                if let Some(r) = right {
                    write!(f, " fill_right ({})", Number(r))?;
                }
                Ok(())
            }
        }
    }
}

/// A selector without what follows its braces.
struct Bare<'a>(&'a VectorSelector);

impl fmt::Display for Bare<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0.name.as_deref();
        let mut matchers: Vec<String> = self
            .0
            .matchers
            .iter()
            .filter(|m| !(m.name() == METRIC_NAME && m.op() == MatchOp::Equal && Some(m.value()) == name))
            .map(ToString::to_string)
            .collect();
        matchers.sort_unstable();
        f.write_str(name.unwrap_or(""))?;
        if matchers.is_empty() && name.is_some() {
            return Ok(());
        }
        write!(f, "{{{}}}", matchers.join(","))
    }
}

struct Suffix<'a>(&'a Modifiers, Option<RangeExtension>);

impl fmt::Display for Suffix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Some(RangeExtension::Anchored) => f.write_str(" anchored")?,
            Some(RangeExtension::Smoothed) => f.write_str(" smoothed")?,
            None => {}
        }
        match self.0.at {
            Some(At::Time(ms)) => {
                let sign = if ms < 0 { "-" } else { "" };
                write!(f, " @ {sign}{}.{:03}", ms.unsigned_abs() / 1000, ms.unsigned_abs() % 1000)?;
            }
            Some(At::Start) => f.write_str(" @ start()")?,
            Some(At::End) => f.write_str(" @ end()")?,
            None => {}
        }
        match &self.0.offset {
            Some(offset) => write!(f, " offset {}", Length(offset)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for VectorSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Bare(self), Suffix(&self.modifiers, self.extension))
    }
}

impl fmt::Display for MatrixSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suffix = Suffix(&self.selector.modifiers, self.selector.extension);
        write!(f, "{}[{}]{suffix}", Bare(&self.selector), Length(&self.range))
    }
}

struct SubqueryTime<'a>(&'a Subquery);

impl fmt::Display for SubqueryTime<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}:", Length(&self.0.range))?;
        if let Some(step) = &self.0.step {
            write!(f, "{}", Length(step))?;
        }
        write!(f, "]{}", Suffix(&self.0.modifiers, None))
    }
}

fn indent(out: &mut String, level: usize) {
    out.extend(std::iter::repeat_n("  ", level));
}

fn write_pretty(out: &mut String, expr: &Expr, level: usize) {
    let line = expr.to_string();
    let fits = line.len() <= LINE_BYTES_MAX;
    match expr {
        Expr::Aggregate(a) if !fits => {
            indent(out, level);
            let _ = writeln!(out, "{}(", AggregateHead(a));
            if let Some(param) = &a.param {
                write_pretty(out, param, level + 1);
                out.push_str(",\n");
            }
            write_pretty(out, &a.expr, level + 1);
            out.push('\n');
            indent(out, level);
            out.push(')');
        }
        Expr::Binary(b) if !fits => {
            if matches!(b.lhs, Expr::Number(_)) {
                indent(out, level + 1);
                let _ = write!(out, "{}", Left(b));
            } else {
                write_pretty(out, &b.lhs, level + 1);
            }
            out.push('\n');
            indent(out, level);
            let _ = writeln!(out, "{}", Operator(b));
            write_pretty(out, &b.rhs, level + 1);
        }
        Expr::Call(c) if !fits => {
            indent(out, level);
            let _ = writeln!(out, "{}(", c.function.name);
            for (i, arg) in c.args.iter().enumerate() {
                if i > 0 {
                    out.push_str(",\n");
                }
                write_pretty(out, arg, level + 1);
            }
            out.push('\n');
            indent(out, level);
            out.push(')');
        }
        Expr::Paren(p) if !fits => {
            indent(out, level);
            out.push_str("(\n");
            write_pretty(out, &p.expr, level + 1);
            out.push('\n');
            indent(out, level);
            out.push(')');
        }
        Expr::Subquery(s) if !fits => {
            write_pretty(out, &s.expr, level);
            let _ = write!(out, "{}", SubqueryTime(s));
        }
        Expr::Unary(u) => {
            indent(out, level);
            out.push_str(if u.negative { "-" } else { "+" });
            let mut child = String::new();
            write_pretty(&mut child, &u.expr, level);
            out.push_str(child.trim_start_matches(' '));
        }
        _ => {
            indent(out, level);
            out.push_str(&line);
        }
    }
}
