//! Lengths of time: literals, `step()`, `range()`, and arithmetic on them.

use nom::Parser as _;
use nom::combinator::{map, opt};
use nom::sequence::delimited;

use super::expr::{number, sign, signed};
use super::input::{Fault, Parsed, Tokens, token, token_as};
use crate::ast::{BinaryOp, DurationExpr, NumberLiteral, Span};
use crate::lexer::{Kind, Token};

/// Longest duration in seconds: Prometheus counts nanoseconds in 63 bits.
const SECONDS_MAX: f64 = 9_223_372_036.854_776;
/// Binding strength of a sign's operand: only `^` binds stronger than the sign.
const SIGN_OPERAND: u8 = 3;

/// A number with an optional sign, as `@` and `fill` take it.
pub(super) fn signed_number<'a>(tokens: Tokens<'a>, context: &str, expected: &str) -> Parsed<'a, NumberLiteral> {
    let (rest, sign) = opt(sign).parse(tokens)?;
    match number(rest) {
        Ok((rest, n)) => Ok((rest, sign.map_or(n, |(t, negative)| signed(n, negative, t.span.start)))),
        Err(nom::Err::Error(_)) => Err(rest.unexpected(context, expected)),
        Err(e) => Err(e),
    }
}

/// What follows `offset`: one operand, perhaps signed; `offset 100 + 2` ends before the plus.
pub(super) fn offset(tokens: Tokens<'_>) -> Parsed<'_, DurationExpr> {
    tokens.descend()?;
    let (rest, sign) = opt(sign).parse(tokens)?;
    let (rest, operand) = match operand(rest) {
        Err(nom::Err::Error(_)) => {
            return Err(rest.stuck().unexpected("offset", "number, duration, step(), or range()"));
        }
        other => other?,
    };
    tokens.ascend();
    Ok((rest, apply_sign(sign.map(|(t, negative)| (t.span.start, negative)), operand)?))
}

/// A range or step inside brackets; a plain number must be above 0.
pub(super) fn positive(tokens: Tokens<'_>) -> Parsed<'_, DurationExpr> {
    let (rest, expr) = climb(tokens, 1)?;
    if let DurationExpr::Literal(n) = &expr
        && n.value <= 0.0
    {
        return Err(Fault::failure(n.span, "duration must be greater than 0"));
    }
    Ok((rest, expr))
}

fn operator(kind: Kind) -> Option<(BinaryOp, u8, bool)> {
    Some(match kind {
        Kind::Add => (BinaryOp::Add, 1, false),
        Kind::Sub => (BinaryOp::Sub, 1, false),
        Kind::Mul => (BinaryOp::Mul, 2, false),
        Kind::Div => (BinaryOp::Div, 2, false),
        Kind::Mod => (BinaryOp::Mod, 2, false),
        Kind::Pow => (BinaryOp::Pow, 3, true),
        _ => return None,
    })
}

fn climb(tokens: Tokens<'_>, strength: u8) -> Parsed<'_, DurationExpr> {
    tokens.descend()?;
    let (rest, sign) = opt(sign).parse(tokens)?;
    let (mut rest, mut lhs) = match sign {
        Some((sign, negative)) => {
            let (rest, operand) = climb(rest, SIGN_OPERAND)?;
            (rest, apply_sign(Some((sign.span.start, negative)), operand)?)
        }
        None => operand(rest)?,
    };
    let mut height = 0;
    while let Some((op, op_strength, to_the_right)) = operator(rest.kind()).filter(|(_, s, _)| *s >= strength) {
        height += 1;
        rest.check_height(height)?;
        experimental(rest, span(&lhs))?;
        let op_span = rest.first().span;
        let (after, rhs) = climb(rest.advance(), if to_the_right { op_strength } else { op_strength + 1 })?;
        if let (BinaryOp::Div | BinaryOp::Mod, DurationExpr::Literal(NumberLiteral { value: 0.0, .. })) = (op, &rhs) {
            let message = if op == BinaryOp::Div { "division by zero" } else { "modulo by zero" };
            return Err(Fault::failure(op_span, message));
        }
        let whole = Span { start: span(&lhs).start, end: span(&rhs).end };
        lhs = DurationExpr::Binary { op, lhs: Box::new(lhs), rhs: Box::new(rhs), span: whole };
        rest = after;
    }
    tokens.ascend();
    Ok((rest, lhs))
}

fn experimental(tokens: Tokens<'_>, place: Span) -> Result<(), nom::Err<Fault>> {
    if tokens.context.options.duration_expressions {
        return Ok(());
    }
    Err(Fault::failure(place, "experimental duration expression is not enabled"))
}

fn operand(tokens: Tokens<'_>) -> Parsed<'_, DurationExpr> {
    let start = tokens.first().span.start;
    match tokens.kind() {
        Kind::Number | Kind::Duration => {
            let (rest, n) = number(tokens)?;
            Ok((rest, literal(n)?))
        }
        Kind::LeftParen => {
            let mut inside = delimited(need(Kind::LeftParen), |t| climb(t, 1), need(Kind::RightParen));
            let (rest, expr) = inside.parse(tokens)?;
            experimental(tokens, span(&expr))?;
            Ok((rest, DurationExpr::Paren(Box::new(expr), rest.span_from(start))))
        }
        Kind::MinOf | Kind::MaxOf => {
            let is_max = tokens.kind() == Kind::MaxOf;
            let pair = (|t| climb(t, 1), need(Kind::Comma), |t| climb(t, 1));
            let inside = delimited(need(Kind::LeftParen), pair, need(Kind::RightParen));
            let (rest, (lhs, _, rhs)) = { inside }.parse(tokens.advance())?;
            experimental(tokens, rest.span_from(start))?;
            let (lhs, rhs) = (Box::new(lhs), Box::new(rhs));
            Ok((rest, DurationExpr::MinMax { is_max, lhs, rhs, span: rest.span_from(start) }))
        }
        _ => {
            let keyword = token_as(|kind| match kind {
                Kind::Step => Some(true),
                Kind::Range => Some(false),
                _ => None,
            });
            let call = (keyword, need(Kind::LeftParen), need(Kind::RightParen));
            let (rest, is_step) = match tokens.kind() {
                Kind::Step | Kind::Range => map(call, |((_, is_step), _, _)| is_step).parse(tokens)?,
                _ => return Err(tokens.mismatch()),
            };
            let place = rest.span_from(start);
            experimental(tokens, place)?;
            Ok((rest, if is_step { DurationExpr::Step(place) } else { DurationExpr::Range(place) }))
        }
    }
}

/// A token without which the duration expression goes wrong.
fn need<'a>(kind: Kind) -> impl Fn(Tokens<'a>) -> Parsed<'a, Token> + Copy {
    move |tokens: Tokens<'a>| token(kind)(tokens).map_err(|_| tokens.mismatch())
}

fn literal(n: NumberLiteral) -> Result<DurationExpr, nom::Err<Fault>> {
    if n.value.is_nan() || n.value.abs() > SECONDS_MAX {
        return Err(Fault::failure(n.span, "duration out of range"));
    }
    Ok(DurationExpr::Literal(n))
}

/// A sign is folded into a literal; a plus before anything else says nothing and is left out.
fn apply_sign(sign: Option<(u32, bool)>, expr: DurationExpr) -> Result<DurationExpr, nom::Err<Fault>> {
    Ok(match (sign, expr) {
        (None | Some((_, false)), expr @ (DurationExpr::Step(_) | DurationExpr::Range(_))) => expr,
        (None, expr) => expr,
        (Some((start, negative)), DurationExpr::Literal(n)) => literal(signed(n, negative, start))?,
        (Some((_, false)), expr) => expr,
        (Some((start, true)), expr) => {
            let end = span(&expr).end;
            DurationExpr::Sign { negative: true, expr: Box::new(expr), span: Span { start, end } }
        }
    })
}

/// Place of a duration expression.
fn span(expr: &DurationExpr) -> Span {
    expr.span()
}
