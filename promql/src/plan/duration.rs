//! Duration expressions to milliseconds.

use crate::ast::{BinaryOp, DurationExpr, Span};
use crate::error::QueryError;

/// What `step()` and `range()` stand for, in seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueryShape {
    /// Distance of the query's steps; 0 for an instant query.
    pub(crate) step_secs: f64,
    /// From its first to its last step.
    pub(crate) range_secs: f64,
}

/// What the duration is for, which decides what is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// A range or the step of a subquery: greater than zero.
    Length,
    /// May be negative.
    Offset,
}

/// Evaluates a duration.
pub(crate) fn millis(expr: &DurationExpr, shape: QueryShape, role: Role) -> Result<i64, QueryError> {
    let secs = seconds(expr, shape)?;
    let span = span(expr);
    if role == Role::Length && secs <= 0.0 {
        return Err(error("duration must be greater than 0", span));
    }
    // Prometheus holds durations as nanoseconds in 64 bits.
    const SECONDS_MAX: f64 = (i64::MAX / 1_000_000_000) as f64;
    if secs.is_nan() || secs.abs() > SECONDS_MAX {
        return Err(error("duration out of range", span));
    }
    // Rounded to nanoseconds first: 1.003 s in binary is a little less than 1003 ms.
    let ms = (secs * 1e9).round() as i64 / 1_000_000;
    if role == Role::Length && ms == 0 {
        return Err(error("duration must be greater than 0", span));
    }
    Ok(ms)
}

fn seconds(expr: &DurationExpr, shape: QueryShape) -> Result<f64, QueryError> {
    Ok(match expr {
        DurationExpr::Literal(n) => n.value,
        DurationExpr::Step(_) => shape.step_secs,
        DurationExpr::Range(_) => shape.range_secs,
        DurationExpr::Paren(inner, _) => seconds(inner, shape)?,
        DurationExpr::Sign { negative, expr, .. } => {
            let v = seconds(expr, shape)?;
            if *negative { -v } else { v }
        }
        DurationExpr::MinMax { is_max, lhs, rhs, .. } => {
            let (a, b) = (seconds(lhs, shape)?, seconds(rhs, shape)?);
            if *is_max { a.max(b) } else { a.min(b) }
        }
        DurationExpr::Binary { op, lhs, rhs, span } => {
            let (a, b) = (seconds(lhs, shape)?, seconds(rhs, shape)?);
            match op {
                BinaryOp::Div if b == 0.0 => return Err(error("division by zero", *span)),
                BinaryOp::Mod if b == 0.0 => return Err(error("modulo by zero", *span)),
                op => crate::kernels::math::arithmetic(*op)
                    .ok_or_else(|| error("unexpected operator in duration expression", *span))?(
                    a, b
                ),
            }
        }
    })
}

fn span(expr: &DurationExpr) -> Span {
    match expr {
        DurationExpr::Literal(n) => n.span,
        DurationExpr::Step(s) | DurationExpr::Range(s) | DurationExpr::Paren(_, s) => *s,
        DurationExpr::Sign { span, .. } | DurationExpr::Binary { span, .. } | DurationExpr::MinMax { span, .. } => {
            *span
        }
    }
}

fn error(message: &str, span: Span) -> QueryError {
    QueryError::Execution { message: message.to_owned(), span: Some(span) }
}
