//! Query text to a checked syntax tree.
//!
//! Built from nom combinators over the tokens of [`crate::lexer`]. The first thing wrong ends the work: every fault
//! carries its place and the text that Prometheus gives for it. Nesting is limited by [`DEPTH_MAX`], so that no
//! query text can exhaust the stack of the parser or of what walks the tree after it.

mod check;
mod duration;
mod expr;
mod input;
mod selector;

use nom::Parser as _;

use crate::annotations::line_column;
use crate::ast::{Expr, Span};
use crate::error::ParseError;
use crate::lexer::{self, Kind};
use input::{Context, Fault, Tokens};

/// How deep expressions may nest, and how many operators of one precedence may follow each other.
pub const DEPTH_MAX: u32 = 200;

/// The parts of the language that can be turned off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParserOptions {
    /// Functions and aggregations that are experimental in Prometheus 3.14.
    pub experimental_functions: bool,
    /// `anchored` and `smoothed`.
    pub extended_range_selectors: bool,
    /// `fill`, `fill_left`, `fill_right`.
    pub fill_modifiers: bool,
    /// Arithmetic on durations.
    pub duration_expressions: bool,
}

impl ParserOptions {
    /// Everything is on.
    pub const ALL: Self = Self {
        experimental_functions: true,
        extended_range_selectors: true,
        fill_modifiers: true,
        duration_expressions: true,
    };
}

/// Parses a query with all parts of the language.
///
/// # Errors
/// [`ParseError`] with the first thing that is wrong and its place.
pub fn parse(text: &str) -> Result<Expr, ParseError> {
    parse_with(text, ParserOptions::ALL)
}

/// Parses a query with the parts of the language that `options` allow.
///
/// # Errors
/// As [`parse`].
pub fn parse_with(text: &str, options: ParserOptions) -> Result<Expr, ParseError> {
    run(text, options, whole_expr)
}

/// Parses a lone selector (`up{job="x"}`), as series endpoints and federation take them.
///
/// # Errors
/// As [`parse`].
pub fn parse_selector(text: &str) -> Result<crate::ast::VectorSelector, ParseError> {
    run(text, ParserOptions::ALL, |tokens| {
        let (rest, selector) = whole_selector(tokens)?;
        check::selector(&selector).map_err(nom::Err::Failure)?;
        Ok((rest, selector))
    })
}

/// As [`parse_selector`], but takes one that any series may pass, as `{}` and `{x=""}`.
///
/// # Errors
/// As [`parse`].
pub fn parse_any_selector(text: &str) -> Result<crate::ast::VectorSelector, ParseError> {
    run(text, ParserOptions::ALL, whole_selector)
}

fn whole_selector(tokens: Tokens<'_>) -> input::Parsed<'_, crate::ast::VectorSelector> {
    let (rest, selector) = selector::vector(tokens)?;
    let (rest, _) = input::end(rest)?;
    Ok((rest, selector))
}

fn whole_expr(tokens: Tokens<'_>) -> input::Parsed<'_, Expr> {
    if tokens.kind() == Kind::Eof {
        return Err(Fault::failure(Span::default(), "no expression found in input"));
    }
    let (rest, mut expr) = expr::expr.parse(tokens)?;
    let (rest, _) = input::end(rest)?;
    check::expr(&mut expr).map_err(nom::Err::Failure)?;
    Ok((rest, expr))
}

fn run<T>(
    text: &str,
    options: ParserOptions,
    parser: impl Fn(Tokens<'_>) -> input::Parsed<'_, T>,
) -> Result<T, ParseError> {
    let lexed = lexer::lex(text);
    let context = Context::new(text, &lexed, options);
    let error = match parser(Tokens::all(&context)) {
        Ok((_, value)) => return Ok(value),
        Err(nom::Err::Error(fault) | nom::Err::Failure(fault)) => fault,
        Err(nom::Err::Incomplete(_)) => Fault::Mismatch,
    };
    let (span, message) = match error {
        Fault::Report(span, message) => (span, message),
        Fault::Mismatch => (Span::default(), "unexpected input".to_owned()),
    };
    let (line, column) = if text.is_empty() { (0, 0) } else { line_column(text, span.start as usize) };
    Err(ParseError { line, column, span, message })
}

#[cfg(test)]
mod tests;
