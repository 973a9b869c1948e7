//! Operators that change each value by itself: they run in place, on a whole vector or on one chunk of it.

use std::sync::Arc;

use super::notes::{self, Notes};
use super::operands::{NOTHING, Operand, combine};
use super::vector::Vector;
use crate::ast::BinaryOp;
use crate::histogram;
use crate::kernels::{ABSENT, is_absent, math};
use crate::notes as texts;

/// A scalar at each step.
pub(crate) type Scalars = Arc<Vec<f64>>;

/// One change of each value.
#[derive(Debug, Clone)]
pub(crate) enum Stage {
    /// A function of the value; the name goes.
    Map(fn(f64) -> f64),
    /// `-v`, histograms included; the name goes.
    Negate,
    /// `clamp`, with both bounds.
    Clamp(Scalars, Scalars),
    /// `clamp_min`.
    ClampMin(Scalars),
    /// `clamp_max`.
    ClampMax(Scalars),
    /// `round` to the nearest multiple.
    Round(Scalars),
    /// An operator with a scalar.
    Scalar {
        /// Operator.
        op: BinaryOp,
        /// Other operand.
        scalar: Scalars,
        /// Whether it is the left one.
        scalar_left: bool,
        /// Comparisons answer 0 or 1 instead of filtering.
        return_bool: bool,
    },
}

impl Stage {
    /// Changes all values of `vector`. Functions of floats forget histograms; operators have their own rules.
    pub(crate) fn apply(&self, vector: &mut Vector, delayed_names: bool, notes: &mut Notes<'_>) {
        match self {
            Self::Map(f) => each(vector, |v, _| f(v)),
            Self::Negate => each(vector, |v, _| -v),
            Self::Clamp(lower, upper) => {
                each(vector, |v, step| match (lower[step], upper[step]) {
                    (lower, upper) if upper < lower => ABSENT,
                    (lower, upper) => math::clamp(v, lower, upper),
                });
            }
            Self::ClampMin(lower) => each(vector, |v, step| math::max(lower[step], v)),
            Self::ClampMax(upper) => each(vector, |v, step| math::min(upper[step], v)),
            Self::Round(to) => each(vector, |v, step| math::round(v, to[step])),
            Self::Scalar { op, scalar, scalar_left, return_bool } => {
                let floats = vector.values.iter().any(|v| !is_absent(*v));
                if floats && math::arithmetic(*op).is_none() && math::comparison(*op).is_none() {
                    notes.info_whole(&texts::incompatible_types("float", notes::operator(*op), "float"));
                }
                binary(vector, *op, scalar, *scalar_left, *return_bool);
            }
        }
        if vector.has_histograms() {
            self.apply_to_histograms(vector, notes);
        }
        if self.drops_name() {
            vector.series.iter_mut().for_each(|s| s.drop_name(delayed_names));
        }
    }

    fn apply_to_histograms(&self, vector: &mut Vector, notes: &mut Notes<'_>) {
        let mut rows = std::mem::take(&mut vector.histograms);
        for (i, row) in rows.iter_mut().enumerate() {
            for (step, h) in std::mem::take(row) {
                let (float, histogram) = match self {
                    Self::Negate => (ABSENT, Some(Arc::new(histogram::scaled(&h, -1.0)))),
                    Self::Scalar { op, scalar, scalar_left, return_bool } => {
                        let (h, s) = (Operand::Histogram(&h), Operand::Float(scalar[step as usize]));
                        let (left, right) = if *scalar_left { (s, h) } else { (h, s) };
                        combine(*op, left, right, *return_bool, notes).unwrap_or(NOTHING)
                    }
                    _ => (ABSENT, None),
                };
                if !is_absent(float) {
                    vector.row_mut(i)[step as usize] = float;
                }
                row.extend(histogram.map(|h| (step, h)));
            }
        }
        vector.histograms = rows;
    }

    /// Whether the result is no longer the metric.
    pub(crate) fn drops_name(&self) -> bool {
        match self {
            Self::Scalar { op, return_bool, .. } => math::arithmetic(*op).is_some() || *return_bool,
            _ => true,
        }
    }
}

fn each(vector: &mut Vector, f: impl Fn(f64, usize) -> f64) {
    let n = vector.n_steps.max(1);
    for row in vector.values.chunks_exact_mut(n) {
        for (step, v) in row.iter_mut().enumerate() {
            if !is_absent(*v) {
                *v = f(*v, step);
            }
        }
    }
}

/// The operator is looked up once; the loops over values know it.
fn binary(vector: &mut Vector, op: BinaryOp, scalar: &[f64], scalar_left: bool, return_bool: bool) {
    macro_rules! arithmetic {
        ($f:expr) => {
            if scalar_left {
                each(vector, |v, step| $f(scalar[step], v))
            } else {
                each(vector, |v, step| $f(v, scalar[step]))
            }
        };
    }
    match op {
        BinaryOp::Add => arithmetic!(|a, b| a + b),
        BinaryOp::Sub => arithmetic!(|a, b| a - b),
        BinaryOp::Mul => arithmetic!(|a, b| a * b),
        BinaryOp::Div => arithmetic!(|a, b| a / b),
        BinaryOp::Mod => arithmetic!(|a: f64, b: f64| a % b),
        BinaryOp::Pow => arithmetic!(f64::powf),
        BinaryOp::Atan2 => arithmetic!(f64::atan2),
        op => {
            let Some(holds) = math::comparison(op) else {
                vector.values.fill(ABSENT);
                return;
            };
            each(vector, |v, step| {
                let holds = if scalar_left { holds(scalar[step], v) } else { holds(v, scalar[step]) };
                match (return_bool, holds) {
                    (true, holds) => f64::from(u8::from(holds)),
                    (false, true) => v,
                    (false, false) => ABSENT,
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use promontory_model::Labels;

    use super::super::vector::Series;
    use super::*;
    use crate::annotations::Annotations;

    #[track_caller]
    fn check(stage: &Stage, input: [f64; 3], want: [f64; 3]) {
        let mut v = Vector::new(3);
        v.push(Series::new(Labels::empty())).copy_from_slice(&input);
        stage.apply(&mut v, false, &mut Notes::new(&[], &mut Annotations::default()));
        let bits = |v: &[f64]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(v.row(0)), bits(&want), "{:?} for {want:?}", v.row(0));
    }

    fn scalars(v: [f64; 3]) -> Scalars {
        Arc::new(v.to_vec())
    }

    #[test]
    fn absent_values_stay_absent() {
        check(&Stage::Map(f64::abs), [-1.0, ABSENT, 2.0], [1.0, ABSENT, 2.0]);
        check(&Stage::ClampMin(scalars([0.0; 3])), [-1.0, ABSENT, 2.0], [0.0, ABSENT, 2.0]);
    }

    #[test]
    fn comparisons_filter_or_answer() {
        let compare = |return_bool| Stage::Scalar {
            op: BinaryOp::Gt,
            scalar: scalars([1.0, 2.0, 3.0]),
            scalar_left: true,
            return_bool,
        };
        check(&compare(false), [0.0, 2.0, ABSENT], [0.0, ABSENT, ABSENT]);
        check(&compare(true), [0.0, 2.0, ABSENT], [1.0, 0.0, ABSENT]);
    }

    #[test]
    fn clamp_with_crossed_bounds_is_empty() {
        check(&Stage::Clamp(scalars([5.0; 3]), scalars([-5.0; 3])), [1.0; 3], [ABSENT; 3]);
    }
}
