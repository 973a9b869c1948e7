//! Operators and functions on single floats, with the corner cases of Go's `math` package.

use crate::ast::BinaryOp;
use crate::functions::FunctionId;

/// The larger; NaN if either is.
pub(crate) fn max(a: f64, b: f64) -> f64 {
    if a.is_infinite() && a > 0.0 || b.is_infinite() && b > 0.0 {
        f64::INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if a == 0.0 && a == b {
        if a.is_sign_negative() { b } else { a }
    } else if a > b {
        a
    } else {
        b
    }
}

/// The smaller; NaN if either is.
pub(crate) fn min(a: f64, b: f64) -> f64 {
    -max(-a, -b)
}

/// `clamp(v, lower, upper)`.
pub(crate) fn clamp(v: f64, lower: f64, upper: f64) -> f64 {
    max(lower, min(upper, v))
}

/// `round(v, to_nearest)`: halves go up.
pub(crate) fn round(v: f64, to_nearest: f64) -> f64 {
    // Multiplying by the inverse loses fewer digits than dividing for the usual 0.1 and 0.01.
    let inverse = 1.0 / to_nearest;
    (v * inverse + 0.5).floor() / inverse
}

/// The function of one float, if `id` is one.
pub(crate) fn unary(id: FunctionId) -> Option<fn(f64) -> f64> {
    Some(match id {
        FunctionId::Abs => f64::abs,
        FunctionId::Ceil => f64::ceil,
        FunctionId::Floor => f64::floor,
        FunctionId::Exp => f64::exp,
        FunctionId::Sqrt => f64::sqrt,
        FunctionId::Ln => f64::ln,
        FunctionId::Log2 => f64::log2,
        FunctionId::Log10 => f64::log10,
        FunctionId::Sin => f64::sin,
        FunctionId::Cos => f64::cos,
        FunctionId::Tan => f64::tan,
        FunctionId::Asin => f64::asin,
        FunctionId::Acos => f64::acos,
        FunctionId::Atan => f64::atan,
        FunctionId::Sinh => f64::sinh,
        FunctionId::Cosh => f64::cosh,
        FunctionId::Tanh => f64::tanh,
        FunctionId::Asinh => asinh,
        FunctionId::Acosh => f64::acosh,
        FunctionId::Atanh => f64::atanh,
        FunctionId::Rad => |v| v * std::f64::consts::PI / 180.0,
        FunctionId::Deg => |v| v * 180.0 / std::f64::consts::PI,
        FunctionId::Sgn => sign,
        _ => return None,
    })
}

fn asinh(v: f64) -> f64 {
    if v.is_infinite() { v } else { v.asinh() }
}

fn sign(v: f64) -> f64 {
    if v < 0.0 {
        -1.0
    } else if v > 0.0 {
        1.0
    } else {
        v
    }
}

/// The value of an arithmetic operator; `None` for comparisons and what is no operator of floats.
#[inline]
pub(crate) fn arithmetic(op: BinaryOp) -> Option<fn(f64, f64) -> f64> {
    Some(match op {
        BinaryOp::Add => |a, b| a + b,
        BinaryOp::Sub => |a, b| a - b,
        BinaryOp::Mul => |a, b| a * b,
        BinaryOp::Div => |a, b| a / b,
        BinaryOp::Mod => |a, b| a % b,
        BinaryOp::Pow => f64::powf,
        BinaryOp::Atan2 => f64::atan2,
        _ => return None,
    })
}

/// The test of a comparison operator.
#[inline]
pub(crate) fn comparison(op: BinaryOp) -> Option<fn(f64, f64) -> bool> {
    Some(match op {
        BinaryOp::Eq => |a, b| a == b,
        BinaryOp::Ne => |a, b| a != b,
        BinaryOp::Lt => |a, b| a < b,
        BinaryOp::Le => |a, b| a <= b,
        BinaryOp::Gt => |a, b| a > b,
        BinaryOp::Ge => |a, b| a >= b,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_bounds_make_nan() {
        assert!(clamp(1.0, 0.0, f64::NAN).is_nan() && clamp(1.0, f64::NAN, 0.0).is_nan());
        assert_eq!(clamp(70.5, -20.0, 70.0), 70.0);
        assert!(min(f64::NAN, 3.0).is_nan() && max(3.0, f64::NAN).is_nan());
        assert_eq!((min(-2.0, -5.0), max(-2.0, -5.0)), (-5.0, -2.0));
    }

    #[test]
    fn halves_round_up() {
        assert_eq!((round(-2.5, 1.0), round(2.5, 1.0)), (-2.0, 3.0));
        assert_eq!(round(5.3499, 0.1), 5.3);
    }

    #[test]
    fn remainder_takes_the_sign_of_the_dividend() {
        let f = arithmetic(BinaryOp::Mod).unwrap();
        assert_eq!((f(5.0, -3.0), f(-5.0, 3.0)), (2.0, -2.0));
        assert!(f(1.0, 0.0).is_nan());
    }
}
