//! Durations as written to milliseconds.

use super::{Query, fail};
use crate::ast::{BinaryOp, DurationExpr};
use crate::error::QueryError;

impl Query<'_> {
    /// Milliseconds of a range or step, which must be above 0.
    pub(super) fn positive_ms(&self, expr: &DurationExpr) -> Result<i64, QueryError> {
        let ms = self.duration_ms(expr)?;
        if ms <= 0 {
            return Err(fail("duration must be greater than 0"));
        }
        Ok(ms)
    }

    /// Milliseconds of an offset.
    pub(super) fn duration_ms(&self, expr: &DurationExpr) -> Result<i64, QueryError> {
        let seconds = self.duration_seconds(expr)?;
        if seconds.is_nan() || seconds.abs() > i64::MAX as f64 / 1e9 {
            return Err(fail("duration is out of range"));
        }
        if let DurationExpr::Literal(_) = expr {
            // A literal is rounded to nanoseconds first.
            return Ok(((seconds * 1e9).round() / 1e6) as i64);
        }
        Ok((seconds * 1000.0) as i64)
    }

    fn duration_seconds(&self, expr: &DurationExpr) -> Result<f64, QueryError> {
        Ok(match expr {
            DurationExpr::Literal(n) => n.value,
            DurationExpr::Step(_) => self.range.step_ms as f64 / 1000.0,
            DurationExpr::Range(_) => (self.range.end_ms - self.range.start_ms) as f64 / 1000.0,
            DurationExpr::Paren(inside, _) => self.duration_seconds(inside)?,
            DurationExpr::Sign { negative, expr, .. } => {
                let v = self.duration_seconds(expr)?;
                if *negative { -v } else { v }
            }
            DurationExpr::MinMax { is_max, lhs, rhs, .. } => {
                let (l, r) = (self.duration_seconds(lhs)?, self.duration_seconds(rhs)?);
                if *is_max { l.max(r) } else { l.min(r) }
            }
            DurationExpr::Binary { op, lhs, rhs, .. } => {
                let (l, r) = (self.duration_seconds(lhs)?, self.duration_seconds(rhs)?);
                match op {
                    BinaryOp::Add => l + r,
                    BinaryOp::Sub => l - r,
                    BinaryOp::Mul => l * r,
                    BinaryOp::Div if r == 0.0 => return Err(fail("division by zero")),
                    BinaryOp::Div => l / r,
                    BinaryOp::Mod if r == 0.0 => return Err(fail("modulo by zero")),
                    BinaryOp::Mod => l % r,
                    BinaryOp::Pow => l.powf(r),
                    other => return Err(fail(format!("unexpected operator {} on durations", other.as_str()))),
                }
            }
        })
    }
}
