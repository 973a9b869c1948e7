//! Operators on two samples, of which either may be a native histogram.

use std::sync::Arc;

use promontory_model::FloatHistogram;
use promontory_model::histogram::CounterResetHint;

use super::notes::{self, Notes};
use crate::ast::BinaryOp;
use crate::histogram::{self, Accumulator, Incompatible, Merged, Side};
use crate::kernels::{ABSENT, math};
use crate::notes::{self as texts, HistogramOperation};

/// One sample.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Operand<'a> {
    /// A float.
    Float(f64),
    /// A histogram.
    Histogram(&'a Arc<FloatHistogram>),
}

impl Operand<'_> {
    fn name(self) -> &'static str {
        match self {
            Self::Float(_) => "float",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// What an operator makes of two samples: a float, a histogram, or neither.
pub(crate) type Outcome = (f64, Option<Arc<FloatHistogram>>);

/// Neither.
pub(crate) const NOTHING: Outcome = (ABSENT, None);

/// `left op right` for operators that are no set operators; `None` when they do not go together. A comparison keeps the left sample, or answers 0 or 1.
pub(crate) fn combine(
    op: BinaryOp,
    left: Operand<'_>,
    right: Operand<'_>,
    return_bool: bool,
    notes: &mut Notes<'_>,
) -> Option<Outcome> {
    Some(match (left, right) {
        (Operand::Float(a), Operand::Float(b)) => {
            if let Some(f) = math::arithmetic(op) {
                return Some((f(a, b), None));
            }
            match math::comparison(op).map(|holds| holds(a, b)) {
                Some(holds) if return_bool => (f64::from(u8::from(holds)), None),
                Some(true) => (a, None),
                Some(false) => NOTHING,
                None => return incompatible(op, left, right, notes),
            }
        }
        (Operand::Float(a), Operand::Histogram(b)) if op == BinaryOp::Mul => made(histogram::scaled(b, a)),
        (Operand::Histogram(a), Operand::Float(b)) => match op {
            BinaryOp::Mul => made(histogram::scaled(a, b)),
            BinaryOp::Div => made(histogram::divided(a, b)),
            BinaryOp::TrimUpper => (ABSENT, Some(Arc::new(histogram::trim(a, Side::Below, b)))),
            BinaryOp::TrimLower => (ABSENT, Some(Arc::new(histogram::trim(a, Side::Above, b)))),
            _ => return incompatible(op, left, right, notes),
        },
        (Operand::Histogram(a), Operand::Histogram(b)) => match op {
            BinaryOp::Eq | BinaryOp::Ne => {
                let holds = histogram::equals(a, b) == (op == BinaryOp::Eq);
                match (return_bool, holds) {
                    (true, holds) => (f64::from(u8::from(holds)), None),
                    (false, true) => (ABSENT, Some(a.clone())),
                    (false, false) => NOTHING,
                }
            }
            BinaryOp::Add | BinaryOp::Sub => return add(op, a, b, notes),
            _ => return incompatible(op, left, right, notes),
        },
        _ => return incompatible(op, left, right, notes),
    })
}

fn add(op: BinaryOp, a: &FloatHistogram, b: &FloatHistogram, notes: &mut Notes<'_>) -> Option<Outcome> {
    let mut sum = Accumulator::new(a);
    let (merged, what) = match op {
        BinaryOp::Add => (sum.add(b), HistogramOperation::Addition),
        _ => (sum.sub(b), HistogramOperation::Subtraction),
    };
    let Ok(Merged { reset_collision, bounds_reconciled }) = merged.map_err(|Incompatible| {
        notes.warn_whole(&texts::incompatible_bucket_layout(notes::operator(op)));
    }) else {
        return None;
    };
    if reset_collision {
        notes.warn_whole(&texts::reset_collision(what));
    }
    if bounds_reconciled {
        notes.info_whole(&texts::mismatched_custom_buckets(what));
    }
    let mut out = sum.finish();
    if op == BinaryOp::Sub {
        out.counter_reset_hint = CounterResetHint::Gauge;
    }
    Some((ABSENT, Some(Arc::new(out))))
}

fn made(h: FloatHistogram) -> Outcome {
    (ABSENT, Some(Arc::new(histogram::compact(&h))))
}

fn incompatible(op: BinaryOp, left: Operand<'_>, right: Operand<'_>, notes: &mut Notes<'_>) -> Option<Outcome> {
    notes.info_whole(&texts::incompatible_types(left.name(), notes::operator(op), right.name()));
    None
}
