//! Selectors, and what may follow an operand: ranges, subqueries, `offset`, `@`, `anchored`, `smoothed`.

use nom::Parser as _;
use nom::branch::alt;
use nom::combinator::{opt, value};

use promontory_model::{METRIC_NAME, MatchOp, Matcher};

use super::duration;
use super::expr::string;
use super::input::{Fault, Parsed, Tokens, expect, token};
use crate::ast::{At, Expr, MatrixSelector, Modifiers, RangeExtension, Span, Subquery, VectorSelector};
use crate::lexer::Kind;

/// `up`, `up{job="x"}`, `{job="x"}`.
pub(super) fn vector(tokens: Tokens<'_>) -> Parsed<'_, VectorSelector> {
    let start = tokens.first().span.start;
    let (rest, name) = opt(metric_name).parse(tokens)?;
    let (rest, matchers) = match name {
        Some(_) => opt(label_matchers).parse(rest)?,
        None => {
            let (rest, matchers) = label_matchers(rest)?;
            (rest, Some(matchers))
        }
    };
    let mut matchers = matchers.unwrap_or_default();
    if let Some(name) = &name {
        matchers.push(Matcher::equal(METRIC_NAME, name));
    }
    let span = rest.span_from(start);
    Ok((rest, VectorSelector { name, matchers, modifiers: Modifiers::default(), extension: None, span }))
}

/// A metric name outside braces; most keywords may be one.
fn metric_name(tokens: Tokens<'_>) -> Parsed<'_, String> {
    let next = tokens.first();
    match next.kind {
        Kind::Identifier
        | Kind::MetricIdentifier
        | Kind::Aggregator(_)
        | Kind::By
        | Kind::Without
        | Kind::And
        | Kind::Or
        | Kind::Unless
        | Kind::Offset
        | Kind::Start
        | Kind::End
        | Kind::Step
        | Kind::Range
        | Kind::MinOf
        | Kind::MaxOf
        | Kind::Anchored
        | Kind::Smoothed => Ok((tokens.advance(), tokens.text(next).to_owned())),
        _ => Err(nom::Err::Error(Fault::Mismatch)),
    }
}

fn label_matchers(tokens: Tokens<'_>) -> Parsed<'_, Vec<Matcher>> {
    let (mut rest, _) = token(Kind::LeftBrace)(tokens)?;
    let mut matchers = Vec::new();
    loop {
        if rest.kind() == Kind::RightBrace {
            return Ok((rest.advance(), matchers));
        }
        let (after, matcher) = label_matcher(rest)?;
        matchers.push(matcher);
        match after.kind() {
            Kind::Comma => rest = after.advance(),
            Kind::RightBrace => rest = after,
            _ => return Err(after.unexpected("label matching", "\",\" or \"}\"")),
        }
    }
}

fn label_matcher(tokens: Tokens<'_>) -> Parsed<'_, Matcher> {
    const CONTEXT: &str = "label matching";
    let first = tokens.first();
    let (rest, name) = match first.kind {
        Kind::Identifier => (tokens.advance(), tokens.text(first).to_owned()),
        Kind::String => {
            let (rest, literal) = string(tokens)?;
            (rest, literal.value)
        }
        _ => return Err(tokens.unexpected(CONTEXT, "identifier or \"}\"")),
    };
    let mut operator = alt((
        value(MatchOp::Equal, token(Kind::Assign)),
        value(MatchOp::NotEqual, token(Kind::Neq)),
        value(MatchOp::Regex, token(Kind::EqlRegex)),
        value(MatchOp::NotRegex, token(Kind::NeqRegex)),
    ));
    let (rest, op) = match operator.parse(rest) {
        Ok(found) => found,
        // A lone string is the metric name.
        Err(_) if first.kind == Kind::String => return Ok((rest, Matcher::equal(METRIC_NAME, &name))),
        Err(_) => return Err(rest.unexpected(CONTEXT, "label matching operator")),
    };
    let Ok((rest, literal)) = string(rest) else {
        return Err(rest.unexpected(CONTEXT, "string"));
    };
    match Matcher::new(&name, op, &literal.value) {
        Ok(matcher) => Ok((rest, matcher)),
        Err(e) => Err(Fault::failure(Span { start: first.span.start, end: literal.span.end }, e.to_string())),
    }
}

/// `operand` with all that follows it.
pub(super) fn postfix(tokens: Tokens<'_>, operand: Expr) -> Parsed<'_, Expr> {
    let mut rest = tokens;
    let mut expr = operand;
    let mut height = 0;
    loop {
        (rest, expr) = match rest.kind() {
            Kind::LeftBracket => {
                height += 1;
                rest.check_height(height)?;
                range(rest, expr)?
            }
            Kind::Offset => {
                let (after, offset) = duration::offset(rest.advance())?;
                let end = after.last_end();
                let span = expr.span();
                let Some((modifiers, place)) = modifiers(&mut expr) else {
                    let message = "offset modifier must be preceded by an instant vector selector or range vector \
                                   selector or a subquery";
                    return Err(Fault::failure(span, message));
                };
                if modifiers.offset.is_some() {
                    return Err(Fault::failure(span, "offset may not be set multiple times"));
                }
                modifiers.offset = Some(offset);
                place.end = end;
                (after, expr)
            }
            Kind::At => {
                let span = expr.span();
                let (after, at) = at(rest.advance(), span)?;
                let end = after.last_end();
                let Some((modifiers, place)) = modifiers(&mut expr) else {
                    let message = "@ modifier must be preceded by an instant vector selector or range vector selector \
                                   or a subquery";
                    return Err(Fault::failure(span, message));
                };
                if modifiers.at.is_some() {
                    return Err(Fault::failure(span, "@ <timestamp> may not be set multiple times"));
                }
                modifiers.at = Some(at);
                place.end = end;
                (after, expr)
            }
            Kind::Anchored => (rest.advance(), extended(rest, expr, RangeExtension::Anchored, "anchored")?),
            Kind::Smoothed => (rest.advance(), extended(rest, expr, RangeExtension::Smoothed, "smoothed")?),
            _ => return Ok((rest, expr)),
        };
    }
}

/// The modifiers of what may have some, and its place.
fn modifiers(expr: &mut Expr) -> Option<(&mut Modifiers, &mut Span)> {
    match expr {
        Expr::Vector(v) => Some((&mut v.modifiers, &mut v.span)),
        Expr::Matrix(m) => Some((&mut m.selector.modifiers, &mut m.span)),
        Expr::Subquery(s) => Some((&mut s.modifiers, &mut s.span)),
        _ => None,
    }
}

/// What follows `@`: a number of seconds, `start()` or `end()`.
fn at(tokens: Tokens<'_>, place: Span) -> Parsed<'_, At> {
    let preprocessor = alt((value(At::Start, token(Kind::Start)), value(At::End, token(Kind::End))));
    let (rest, preprocessor) = opt(preprocessor).parse(tokens)?;
    if let Some(at) = preprocessor {
        for (i, kind) in [Kind::LeftParen, Kind::RightParen].into_iter().enumerate() {
            let rest = if i == 0 { rest } else { rest.advance() };
            if rest.kind() != kind {
                return Err(rest.unexpected("@", "timestamp"));
            }
        }
        return Ok((rest.advance().advance(), at));
    }
    let (rest, number) = duration::signed_number(tokens, "@", "timestamp")?;
    let seconds = number.value;
    if seconds.is_nan() || seconds >= i64::MAX as f64 || seconds <= i64::MIN as f64 {
        let shown = match seconds {
            s if s.is_nan() => "NaN".to_owned(),
            s if s.is_infinite() => if s > 0.0 { "+Inf" } else { "-Inf" }.to_owned(),
            s => format!("{s:.6}"),
        };
        return Err(Fault::failure(place, format!("timestamp out of bounds for @ modifier: {shown}")));
    }
    // The cast saturates where milliseconds leave the range of i64.
    Ok((rest, At::Time((seconds * 1000.0).round() as i64)))
}

fn extended(
    tokens: Tokens<'_>,
    mut expr: Expr,
    extension: RangeExtension,
    name: &str,
) -> Result<Expr, nom::Err<Fault>> {
    let span = expr.span();
    let fault = |message: String| Err(Fault::failure(span, message));
    if !tokens.context.options.extended_range_selectors {
        return fault(format!("{name} modifier is experimental and not enabled"));
    }
    let slot = match &mut expr {
        Expr::Vector(v) => &mut v.extension,
        Expr::Matrix(m) => &mut m.selector.extension,
        Expr::Subquery(_) => return fault(format!("{name} modifier is not supported for subqueries")),
        _ => return fault(format!("{name} modifier not implemented")),
    };
    if slot.is_some_and(|other| other != extension) {
        return fault("anchored and smoothed modifiers cannot be used together".to_owned());
    }
    *slot = Some(extension);
    Ok(expr)
}

/// `expr[range]` or `expr[range:step]`.
fn range(tokens: Tokens<'_>, expr: Expr) -> Parsed<'_, Expr> {
    let bracket = tokens.first();
    let start = expr.span().start;
    let inside = tokens.advance();
    let (rest, range) = match duration::positive(inside) {
        Err(nom::Err::Error(_)) => {
            let expected = "number, duration, step(), or range()";
            return Err(inside.stuck().unexpected("subquery or range selector", expected));
        }
        other => other?,
    };
    match rest.kind() {
        Kind::RightBracket => {
            let rest = rest.advance();
            let message = match &expr {
                Expr::Vector(v) if v.modifiers.offset.is_some() => "no offset modifiers allowed before range",
                Expr::Vector(v) if v.modifiers.at.is_some() => "no @ modifiers allowed before range",
                Expr::Vector(_) => "",
                _ => "ranges only allowed for vector selectors",
            };
            let Expr::Vector(selector) = expr else {
                return Err(Fault::failure(rest.span_from(bracket.span.start), message));
            };
            if !message.is_empty() {
                return Err(Fault::failure(rest.span_from(bracket.span.start), message));
            }
            let span = rest.span_from(start);
            Ok((rest, Expr::Matrix(MatrixSelector { selector, range, span })))
        }
        Kind::Colon => {
            let rest = rest.advance();
            let (rest, step) = if rest.kind() == Kind::RightBracket {
                (rest, None)
            } else {
                match duration::positive(rest) {
                    Err(nom::Err::Error(_)) => {
                        let expected = "number, duration, step(), range(), or \"]\"";
                        return Err(rest.stuck().unexpected("subquery selector", expected));
                    }
                    Err(e) => return Err(e),
                    Ok((rest, step)) => (rest, Some(step)),
                }
            };
            if rest.kind() != Kind::RightBracket {
                return Err(rest.unexpected("subquery selector", "\"]\""));
            }
            let (rest, _) = expect(Kind::RightBracket)(rest)?;
            let span = rest.span_from(start);
            let modifiers = Modifiers::default();
            Ok((rest, Expr::Subquery(Box::new(Subquery { expr, range, step, modifiers, span }))))
        }
        _ => Err(rest.unexpected("subquery or range", "\":\" or \"]\"")),
    }
}
