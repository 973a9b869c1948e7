//! The expression grammar: precedence climbing over operands and what may follow them.

use nom::Parser as _;
use nom::branch::alt;
use nom::combinator::{map, opt, success, value};
use nom::sequence::{delimited, preceded};

use super::duration;
use super::input::{Fault, Parsed, Tokens, expect, token, token_as};
use super::selector;
use crate::ast::{
    Aggregate, AggregateOp, Binary, BinaryOp, Call, Cardinality, Expr, Grouping, NumberLiteral, Paren, StringLiteral,
    Unary, VectorMatching,
};
use crate::functions;
use crate::lexer::{self, Kind, Token};

/// Binding strength of the signs: as `*`, so that `-2^2` is −4; an operand binds as `^` or stronger.
const SIGN_OPERAND: u8 = 6;

/// Any expression.
pub(super) fn expr(tokens: Tokens<'_>) -> Parsed<'_, Expr> {
    climb(tokens, 1)
}

/// Operator, binding strength and whether it groups to the right.
fn operator(kind: Kind) -> Option<(BinaryOp, u8, bool)> {
    Some(match kind {
        Kind::Or => (BinaryOp::Or, 1, false),
        Kind::And => (BinaryOp::And, 2, false),
        Kind::Unless => (BinaryOp::Unless, 2, false),
        Kind::Eql => (BinaryOp::Eq, 3, false),
        Kind::Neq => (BinaryOp::Ne, 3, false),
        Kind::Lte => (BinaryOp::Le, 3, false),
        Kind::Lss => (BinaryOp::Lt, 3, false),
        Kind::Gte => (BinaryOp::Ge, 3, false),
        Kind::Gtr => (BinaryOp::Gt, 3, false),
        Kind::TrimUpper => (BinaryOp::TrimUpper, 3, false),
        Kind::TrimLower => (BinaryOp::TrimLower, 3, false),
        Kind::Add => (BinaryOp::Add, 4, false),
        Kind::Sub => (BinaryOp::Sub, 4, false),
        Kind::Mul => (BinaryOp::Mul, 5, false),
        Kind::Div => (BinaryOp::Div, 5, false),
        Kind::Mod => (BinaryOp::Mod, 5, false),
        Kind::Atan2 => (BinaryOp::Atan2, 5, false),
        Kind::Pow => (BinaryOp::Pow, 6, true),
        _ => return None,
    })
}

/// An expression of operators that bind at least as strong as `strength`.
///
/// What an open parenthesis leaves on the stack is this function, [`operand`], [`primary`] and the one that reads the
/// parenthesis; these four keep small, and hand all else to others.
fn climb(tokens: Tokens<'_>, strength: u8) -> Parsed<'_, Expr> {
    tokens.descend()?;
    let (rest, lhs) = operand(tokens)?;
    let parsed = operators(rest, lhs, strength);
    tokens.ascend();
    parsed
}

/// The operators after `lhs` that bind at least as strong as `strength`, with their right sides.
fn operators(mut tokens: Tokens<'_>, mut lhs: Expr, strength: u8) -> Parsed<'_, Expr> {
    let mut height = 0;
    while operator(tokens.kind()).is_some_and(|(_, s, _)| s >= strength) {
        // Operators that group to the left stack up on the left side of the tree.
        height += 1;
        tokens.check_height(height)?;
        (tokens, lhs) = one_operator(tokens, lhs)?;
    }
    Ok((tokens, lhs))
}

fn one_operator(tokens: Tokens<'_>, lhs: Expr) -> Parsed<'_, Expr> {
    let Some((op, strength, to_the_right)) = operator(tokens.kind()) else {
        return Err(tokens.unexpected_here());
    };
    let op_span = tokens.first().span;
    let (rest, (return_bool, matching)) = binary_modifiers(tokens.advance())?;
    let (rest, rhs) = climb(rest, if to_the_right { strength } else { strength + 1 })?;
    let span = crate::ast::Span { start: lhs.span().start, end: rhs.span().end };
    let matching = Some(matching);
    Ok((rest, Expr::Binary(Box::new(Binary { op, lhs, rhs, return_bool, matching, span, op_span }))))
}

/// A signed or plain operand.
fn operand(tokens: Tokens<'_>) -> Parsed<'_, Expr> {
    if matches!(tokens.kind(), Kind::Add | Kind::Sub) {
        return signed_operand(tokens);
    }
    let (rest, operand) = primary(tokens)?;
    selector::postfix(rest, operand)
}

fn signed_operand(tokens: Tokens<'_>) -> Parsed<'_, Expr> {
    let (rest, (sign, negative)) = sign(tokens)?;
    let (rest, operand) = climb(rest, SIGN_OPERAND)?;
    let start = sign.span.start;
    let expr = match operand {
        Expr::Number(n) => Expr::Number(signed(n, negative, start)),
        expr => {
            let span = crate::ast::Span { start, end: expr.span().end };
            Expr::Unary(Box::new(Unary { negative, expr, span }))
        }
    };
    Ok((rest, expr))
}

/// The number with a sign written before it at `start`.
pub(super) fn signed(number: NumberLiteral, negative: bool, start: u32) -> NumberLiteral {
    let value = if negative { -number.value } else { number.value };
    NumberLiteral { value, span: crate::ast::Span { start, ..number.span }, ..number }
}

/// `+` or `-`: the token and whether it is a minus.
pub(super) fn sign(tokens: Tokens<'_>) -> Parsed<'_, (Token, bool)> {
    token_as(|kind| match kind {
        Kind::Add => Some(false),
        Kind::Sub => Some(true),
        _ => None,
    })(tokens)
}

fn primary(tokens: Tokens<'_>) -> Parsed<'_, Expr> {
    match (tokens.kind(), tokens.second_kind()) {
        (Kind::LeftParen, _) => paren(tokens),
        (Kind::Aggregator(op), _) if aggregates(tokens) => aggregate(tokens, op),
        (
            Kind::Identifier | Kind::Start | Kind::End | Kind::Step | Kind::Range | Kind::MinOf | Kind::MaxOf,
            Kind::LeftParen,
        ) => call(tokens),
        _ => leaf(tokens),
    }
}

/// A literal or a selector.
fn leaf(tokens: Tokens<'_>) -> Parsed<'_, Expr> {
    let mut leaf = alt((map(number, Expr::Number), map(string, Expr::String), map(selector::vector, Expr::Vector)));
    match leaf.parse(tokens) {
        Err(nom::Err::Error(Fault::Mismatch)) => Err(tokens.unexpected_here()),
        other => other,
    }
}

/// A number or a duration as a number of seconds.
pub(super) fn number(tokens: Tokens<'_>) -> Parsed<'_, NumberLiteral> {
    let (rest, token) = alt((token(Kind::Number), token(Kind::Duration))).parse(tokens)?;
    let text = tokens.text(token);
    let is_duration = token.kind == Kind::Duration;
    let value = if is_duration {
        promontory_model::Duration::parse(text).map(promontory_model::Duration::secs_f64).map_err(|e| e.to_string())
    } else {
        number_value(text)
    };
    match value {
        Ok(value) => Ok((rest, NumberLiteral { value, is_duration, span: token.span })),
        Err(message) => Err(Fault::failure(token.span, message)),
    }
}

/// The value of a number token: decimal, hexadecimal, octal, with `_` between digits, `inf`, `nan`.
pub(crate) fn number_value(text: &str) -> Result<f64, String> {
    let lower = text.to_ascii_lowercase();
    match lower.as_str() {
        "inf" => return Ok(f64::INFINITY),
        "nan" => return Ok(f64::NAN),
        _ => {}
    }
    let syntax = || format!("error parsing number: strconv.ParseFloat: parsing {}: invalid syntax", lexer::quote(text));
    let range =
        || format!("error parsing number: strconv.ParseFloat: parsing {}: value out of range", lexer::quote(text));
    let digits = lower.replace('_', "");
    if let Some(hex) = digits.strip_prefix("0x") {
        // Sixteen digits and more do not fit a signed integer; they go on as a float.
        return i64::from_str_radix(hex, 16)
            .map(|v| v as f64)
            .or_else(|_| u128::from_str_radix(hex, 16).map(|v| v as f64))
            .map_err(|_| syntax());
    }
    if digits.len() > 1
        && digits.starts_with('0')
        && let Ok(octal) = i64::from_str_radix(&digits, 8)
    {
        return Ok(octal as f64);
    }
    match digits.parse::<f64>() {
        Ok(v) if v.is_infinite() => Err(range()),
        Ok(v) => Ok(v),
        Err(_) => Err(syntax()),
    }
}

pub(super) fn string(tokens: Tokens<'_>) -> Parsed<'_, StringLiteral> {
    let (rest, token) = token(Kind::String)(tokens)?;
    let bytes = lexer::unquote(tokens.text(token));
    let literal = match String::from_utf8(bytes) {
        Ok(value) => StringLiteral { value, invalid_utf8: None, span: token.span },
        Err(e) => {
            let bytes = e.into_bytes();
            let value = String::from_utf8_lossy(&bytes).into_owned();
            StringLiteral { value, invalid_utf8: Some(bytes), span: token.span }
        }
    };
    Ok((rest, literal))
}

fn paren(tokens: Tokens<'_>) -> Parsed<'_, Expr> {
    let start = tokens.first().span.start;
    let (rest, expr) = expr(tokens.advance())?;
    let (rest, _) = expect(Kind::RightParen)(rest)?;
    Ok((rest, Expr::Paren(Box::new(Paren { expr, span: rest.span_from(start) }))))
}

fn call(tokens: Tokens<'_>) -> Parsed<'_, Expr> {
    let name = tokens.first();
    let (rest, args) = arguments(tokens.advance())?;
    let text = tokens.text(name);
    // Only the keywords among function names are known whatever their case.
    let lower;
    let key = if name.kind == Kind::Identifier {
        text
    } else {
        lower = text.to_ascii_lowercase();
        &lower
    };
    let Some(function) = functions::find(key) else {
        return Err(Fault::failure(name.span, format!("unknown function with name {}", lexer::quote(text))));
    };
    if function.experimental && !tokens.context.options.experimental_functions {
        return Err(Fault::failure(name.span, format!("function {} is not enabled", lexer::quote(text))));
    }
    Ok((rest, Expr::Call(Call { function, args, span: rest.span_from(name.span.start) })))
}

/// `(a, b)`.
fn arguments(tokens: Tokens<'_>) -> Parsed<'_, Vec<Expr>> {
    let (mut rest, _) = expect(Kind::LeftParen)(tokens)?;
    let mut args = Vec::new();
    if rest.kind() == Kind::RightParen {
        return Ok((rest.advance(), args));
    }
    loop {
        let (after, arg) = expr(rest)?;
        args.push(arg);
        match after.kind() {
            Kind::Comma if !after.advance().begins_expr() && after.second_kind() != Kind::Error => {
                let message = "trailing commas not allowed in function call args";
                return Err(Fault::failure(after.first().span, message));
            }
            Kind::Comma => rest = after.advance(),
            Kind::RightParen => return Ok((after.advance(), args)),
            _ => return Err(after.unexpected_here()),
        }
    }
}

/// Whether what follows an aggregation operator makes it one, and not a metric of that name.
fn aggregates(tokens: Tokens<'_>) -> bool {
    matches!(tokens.second_kind(), Kind::LeftParen | Kind::By | Kind::Without)
}

fn aggregate(tokens: Tokens<'_>, op: AggregateOp) -> Parsed<'_, Expr> {
    let name = tokens.first();
    let start = name.span.start;
    tokens.open_aggregation();
    let rest = tokens.advance();
    let (rest, before) = opt(aggregate_grouping).parse(rest)?;
    let (rest, args) = arguments(rest)?;
    let (rest, after) = if before.is_some() { (rest, None) } else { opt(aggregate_grouping).parse(rest)? };
    tokens.close_aggregation();
    let span = rest.span_from(start);
    let fault = |message: String| Err(Fault::failure(span, message));
    if args.is_empty() {
        return fault("no arguments for aggregate expression provided".to_owned());
    }
    let experimental = matches!(op, AggregateOp::LimitK | AggregateOp::LimitRatio);
    if experimental && !tokens.context.options.experimental_functions {
        let flag = "--enable-feature=promql-experimental-functions";
        return fault(format!("{}() is experimental and must be enabled with {flag}", op.as_str()));
    }
    let wanted = 1 + usize::from(op.has_param());
    if args.len() != wanted {
        return fault(format!(
            "wrong number of arguments for aggregate expression provided, expected {wanted}, got {}",
            args.len()
        ));
    }
    let mut args = args.into_iter();
    let param = if op.has_param() { args.next() } else { None };
    let Some(expr) = args.next() else {
        return fault("no arguments for aggregate expression provided".to_owned());
    };
    let grouping = before.or(after).unwrap_or_default();
    Ok((rest, Expr::Aggregate(Box::new(Aggregate { op, expr, param, grouping, span }))))
}

fn aggregate_grouping(tokens: Tokens<'_>) -> Parsed<'_, Grouping> {
    let without = alt((value(false, token(Kind::By)), value(true, token(Kind::Without))));
    map((without, grouping_labels), |(without, labels)| Grouping { without, labels }).parse(tokens)
}

/// `(a, "b c",)`.
fn grouping_labels(tokens: Tokens<'_>) -> Parsed<'_, Vec<String>> {
    if tokens.kind() != Kind::LeftParen {
        return Err(tokens.unexpected("grouping opts", "\"(\""));
    }
    let mut rest = tokens.advance();
    let mut labels = Vec::new();
    loop {
        if rest.kind() == Kind::RightParen {
            return Ok((rest.advance(), labels));
        }
        let (after, label) = grouping_label(rest)?;
        labels.push(label);
        match after.kind() {
            Kind::Comma => rest = after.advance(),
            Kind::RightParen => rest = after,
            _ => return Err(after.unexpected("grouping opts", "\",\" or \")\"")),
        }
    }
}

fn grouping_label(tokens: Tokens<'_>) -> Parsed<'_, String> {
    let next = tokens.first();
    match next.kind {
        Kind::String => {
            let (rest, literal) = string(tokens)?;
            let invalid = match &literal.invalid_utf8 {
                Some(bytes) => Some(lexer::quote_bytes(bytes)),
                None => literal.value.is_empty().then(|| "\"\"".to_owned()),
            };
            match invalid {
                Some(shown) => Err(Fault::failure(next.span, format!("invalid label name for grouping: {shown}"))),
                None => Ok((rest, literal.value)),
            }
        }
        Kind::Identifier
        | Kind::MetricIdentifier
        | Kind::Aggregator(_)
        | Kind::Bool
        | Kind::By
        | Kind::Without
        | Kind::On
        | Kind::Ignoring
        | Kind::GroupLeft
        | Kind::GroupRight
        | Kind::Fill
        | Kind::FillLeft
        | Kind::FillRight
        | Kind::And
        | Kind::Or
        | Kind::Unless
        | Kind::Atan2
        | Kind::Offset
        | Kind::Start
        | Kind::End
        | Kind::Step
        | Kind::Range
        | Kind::MinOf
        | Kind::MaxOf
        | Kind::Anchored
        | Kind::Smoothed => Ok((tokens.advance(), tokens.text(next).to_owned())),
        _ => Err(tokens.unexpected("grouping opts", "label")),
    }
}

/// What may stand between an operator and its right side: `bool`, then matching, then fills.
fn binary_modifiers(tokens: Tokens<'_>) -> Parsed<'_, (bool, VectorMatching)> {
    let (rest, return_bool) = map(opt(token(Kind::Bool)), |t| t.is_some()).parse(tokens)?;
    let mut matching = VectorMatching::default();
    let on = alt((value(true, token(Kind::On)), value(false, token(Kind::Ignoring))));
    let (rest, clause) = opt((on, grouping_labels)).parse(rest)?;
    let mut rest = rest;
    if let Some((on, labels)) = clause {
        matching.on = on;
        matching.labels = labels;
        let side = alt((
            value(Cardinality::ManyToOne, token(Kind::GroupLeft)),
            value(Cardinality::OneToMany, token(Kind::GroupRight)),
        ));
        let (after, group) = opt((side, maybe_grouping_labels)).parse(rest)?;
        rest = after;
        if let Some((cardinality, include)) = group {
            matching.cardinality = cardinality;
            matching.include = include;
        }
    }
    let (rest, ()) = fills(rest, &mut matching)?;
    Ok((rest, (return_bool, matching)))
}

fn maybe_grouping_labels(tokens: Tokens<'_>) -> Parsed<'_, Vec<String>> {
    let nothing = tokens.begins_expr() || matches!(tokens.kind(), Kind::Fill | Kind::FillLeft | Kind::FillRight);
    if tokens.kind() != Kind::LeftParen && nothing {
        return success(Vec::new()).parse(tokens);
    }
    grouping_labels(tokens)
}

/// `fill(v)`, or one or both of `fill_left(v)` and `fill_right(v)`.
fn fills<'a>(tokens: Tokens<'a>, matching: &mut VectorMatching) -> Parsed<'a, ()> {
    let mut rest = tokens;
    loop {
        let kind = rest.kind();
        let taken = match kind {
            Kind::Fill => matching.fill_left.is_some() || matching.fill_right.is_some(),
            Kind::FillLeft => matching.fill_left.is_some(),
            Kind::FillRight => matching.fill_right.is_some(),
            _ => return Ok((rest, ())),
        };
        if taken {
            return Err(rest.unexpected_here());
        }
        if !rest.context.options.fill_modifiers {
            let message = "binop fill modifiers are experimental and not enabled";
            return Err(Fault::failure(rest.first().span, message));
        }
        let (after, number) = preceded(
            expect(kind),
            delimited(
                expect(Kind::LeftParen),
                |t| duration::signed_number(t, "fill", "number"),
                expect(Kind::RightParen),
            ),
        )
        .parse(rest)?;
        rest = after;
        if kind != Kind::FillRight {
            matching.fill_left = Some(number.value);
        }
        if kind != Kind::FillLeft {
            matching.fill_right = Some(number.value);
        }
    }
}
