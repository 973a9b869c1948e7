//! The same query with its time fixed by `@`, to be evaluated at other times.

use crate::ast::{At, DurationExpr, Expr, Modifiers};
use crate::functions::FunctionId;
use crate::printer;

/// The text of `expr` with `@ t_ms` on all selectors and outermost subqueries that have no fixed time, or `None` when
/// its value depends on the time of evaluation all the same.
pub(super) fn with_at(expr: &Expr, t_ms: i64) -> Option<String> {
    let mut expr = expr.clone();
    fix(&mut expr, t_ms, false).then(|| printer::to_string(&expr))
}

/// Whether the value depends on the start, end or step of the query.
pub(super) fn depends_on_range(expr: &Expr) -> bool {
    let text = printer::to_string(expr);
    ["start()", "end()", "range()", "step()"].iter().any(|f| text.contains(f))
}

fn fix_modifiers(modifiers: &mut Modifiers, t_ms: i64) {
    // `start()` and `end()` are the time of evaluation in an instant query.
    if !matches!(modifiers.at, Some(At::Time(_))) {
        modifiers.at = Some(At::Time(t_ms));
    }
}

/// Answers whether the value is now the same at any time.
fn fix(expr: &mut Expr, t_ms: i64, inside_fixed: bool) -> bool {
    match expr {
        Expr::Number(_) | Expr::String(_) => true,
        Expr::Vector(v) => {
            if !inside_fixed {
                fix_modifiers(&mut v.modifiers, t_ms);
            }
            v.modifiers.offset.as_ref().is_none_or(is_constant)
        }
        Expr::Matrix(m) => {
            if !inside_fixed {
                fix_modifiers(&mut m.selector.modifiers, t_ms);
            }
            is_constant(&m.range) && m.selector.modifiers.offset.as_ref().is_none_or(is_constant)
        }
        Expr::Subquery(s) => {
            if !inside_fixed {
                fix_modifiers(&mut s.modifiers, t_ms);
            }
            fix(&mut s.expr, t_ms, true)
        }
        Expr::Call(c) => {
            let mut constant = !depends_on_time(c.function.id);
            for arg in &mut c.args {
                constant &= fix(arg, t_ms, inside_fixed);
            }
            constant
        }
        Expr::Aggregate(a) => {
            let param = a.param.as_mut().is_none_or(|p| fix(p, t_ms, inside_fixed));
            fix(&mut a.expr, t_ms, inside_fixed) && param
        }
        Expr::Binary(b) => {
            let left = fix(&mut b.lhs, t_ms, inside_fixed);
            fix(&mut b.rhs, t_ms, inside_fixed) && left
        }
        Expr::Unary(u) => fix(&mut u.expr, t_ms, inside_fixed),
        Expr::Paren(p) => fix(&mut p.expr, t_ms, inside_fixed),
    }
}

/// Steps and ranges are zero in all instant queries.
fn is_constant(_: &DurationExpr) -> bool {
    true
}

fn depends_on_time(function: FunctionId) -> bool {
    use FunctionId as F;
    matches!(
        function,
        F::DaysInMonth
            | F::DayOfMonth
            | F::DayOfWeek
            | F::DayOfYear
            | F::Hour
            | F::Minute
            | F::Month
            | F::Year
            | F::PredictLinear
            | F::Time
            | F::Timestamp
            | F::Start
            | F::End
            | F::Range
            | F::Step
    )
}
