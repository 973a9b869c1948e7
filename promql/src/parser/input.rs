//! What the combinators read: the tokens not yet consumed, and the faults that end reading.

use std::cell::Cell;

use nom::error::{ErrorKind, ParseError};
use nom::{IResult, Input, Needed};

use super::{DEPTH_MAX, ParserOptions};
use crate::ast::Span;
use crate::lexer::{Kind, Lexed, Token, quote};

/// What stays the same during one parse.
pub(super) struct Context<'a> {
    text: &'a str,
    lexed: &'a Lexed,
    pub(super) options: ParserOptions,
    depth: Cell<u32>,
    /// How many aggregations are open around the current token.
    aggregations: Cell<u32>,
    /// How many tokens were left where a duration expression could not go on.
    stuck: Cell<usize>,
}

impl<'a> Context<'a> {
    pub(super) fn new(text: &'a str, lexed: &'a Lexed, options: ParserOptions) -> Self {
        Self { text, lexed, options, depth: Cell::new(0), aggregations: Cell::new(0), stuck: Cell::new(0) }
    }
}

/// The tokens not yet consumed; the last is `Eof` or `Error` and stays.
#[derive(Clone, Copy)]
pub(super) struct Tokens<'a> {
    pub(super) context: &'a Context<'a>,
    rest: &'a [Token],
}

/// Why a parser gave up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// Another alternative may fit.
    Mismatch,
    /// The query is wrong: place and message.
    Report(Span, String),
}

impl Fault {
    pub(super) fn failure(span: Span, message: impl Into<String>) -> nom::Err<Self> {
        nom::Err::Failure(Self::Report(span, message.into()))
    }
}

pub(super) type Parsed<'a, T> = IResult<Tokens<'a>, T, Fault>;

impl ParseError<Tokens<'_>> for Fault {
    fn from_error_kind(_: Tokens<'_>, _: ErrorKind) -> Self {
        Self::Mismatch
    }

    fn append(_: Tokens<'_>, _: ErrorKind, other: Self) -> Self {
        other
    }
}

impl<'a> Tokens<'a> {
    pub(super) fn all(context: &'a Context<'a>) -> Self {
        Self { context, rest: &context.lexed.tokens }
    }

    /// The next token; at the end, the last one.
    pub(super) fn first(&self) -> Token {
        match self.rest.first() {
            Some(token) => *token,
            None => self.context.lexed.tokens[self.context.lexed.tokens.len() - 1],
        }
    }

    pub(super) fn kind(&self) -> Kind {
        self.first().kind
    }

    /// The kind of the token after the next.
    pub(super) fn second_kind(&self) -> Kind {
        self.rest.get(1).map_or(Kind::Eof, |t| t.kind)
    }

    /// All but the next token.
    pub(super) fn advance(self) -> Self {
        match self.rest {
            [_, rest @ ..] if !rest.is_empty() => Self { rest, ..self },
            _ => self,
        }
    }

    pub(super) fn text(&self, token: Token) -> &'a str {
        self.context.text.get(token.span.start as usize..token.span.end as usize).unwrap_or("")
    }

    /// Where the last consumed token ended.
    pub(super) fn last_end(&self) -> u32 {
        let consumed = self.context.lexed.tokens.len() - self.rest.len();
        consumed.checked_sub(1).map_or(0, |i| self.context.lexed.tokens[i].span.end)
    }

    /// From `start` to the end of the last consumed token.
    pub(super) fn span_from(&self, start: u32) -> Span {
        Span { start, end: self.last_end() }
    }

    /// The next token does not fit here: `unexpected … in context, expected …`.
    pub(super) fn unexpected(&self, context: &str, expected: &str) -> nom::Err<Fault> {
        let token = self.first();
        if let (Kind::Error, Some(error)) = (token.kind, &self.context.lexed.error) {
            return Fault::failure(error.span, error.message.clone());
        }
        let mut message = format!("unexpected {}", describe(token.kind, self.text(token)));
        if !context.is_empty() {
            message.push_str(" in ");
            message.push_str(context);
        }
        if !expected.is_empty() {
            message.push_str(", expected ");
            message.push_str(expected);
        }
        Fault::failure(token.span, message)
    }

    /// As [`Tokens::unexpected`] where no more is known than whether an aggregation is open.
    pub(super) fn unexpected_here(&self) -> nom::Err<Fault> {
        self.unexpected(if self.context.aggregations.get() > 0 { "aggregation" } else { "" }, "")
    }

    /// Another alternative may fit; where none does, [`Tokens::stuck`] says that the text went wrong here.
    pub(super) fn mismatch(&self) -> nom::Err<Fault> {
        self.context.stuck.set(self.rest.len());
        nom::Err::Error(Fault::Mismatch)
    }

    /// The tokens from the last [`Tokens::mismatch`] on.
    pub(super) fn stuck(&self) -> Self {
        let all = &self.context.lexed.tokens;
        Self { rest: &all[all.len().saturating_sub(self.context.stuck.get())..], ..*self }
    }

    /// Whether the next token can begin an expression.
    pub(super) fn begins_expr(&self) -> bool {
        matches!(
            self.kind(),
            Kind::Identifier
                | Kind::MetricIdentifier
                | Kind::String
                | Kind::Number
                | Kind::Duration
                | Kind::LeftParen
                | Kind::LeftBrace
                | Kind::Add
                | Kind::Sub
                | Kind::And
                | Kind::Or
                | Kind::Unless
                | Kind::Aggregator(_)
                | Kind::Offset
                | Kind::Smoothed
                | Kind::Anchored
                | Kind::By
                | Kind::Without
                | Kind::Start
                | Kind::End
                | Kind::Step
                | Kind::Range
                | Kind::MinOf
                | Kind::MaxOf
        )
    }

    /// Counts an open aggregation; answers the count before, for [`Tokens::close_aggregation`].
    pub(super) fn open_aggregation(&self) {
        self.context.aggregations.set(self.context.aggregations.get() + 1);
    }

    pub(super) fn close_aggregation(&self) {
        self.context.aggregations.set(self.context.aggregations.get() - 1);
    }

    /// One level deeper; a fault beyond [`DEPTH_MAX`].
    pub(super) fn descend(&self) -> Result<(), nom::Err<Fault>> {
        let depth = self.context.depth.get() + 1;
        self.context.depth.set(depth);
        self.check_depth(depth)
    }

    pub(super) fn ascend(&self) {
        self.context.depth.set(self.context.depth.get() - 1);
    }

    /// A fault when a tree of this height would stand at the current depth.
    pub(super) fn check_height(&self, height: u32) -> Result<(), nom::Err<Fault>> {
        self.check_depth(self.context.depth.get() + height)
    }

    fn check_depth(&self, depth: u32) -> Result<(), nom::Err<Fault>> {
        if depth > DEPTH_MAX {
            let message = format!("expression nests deeper than {DEPTH_MAX} levels (promql depth limit)");
            return Err(Fault::failure(self.first().span, message));
        }
        Ok(())
    }
}

/// A parser of one token of this kind.
pub(super) fn token<'a>(kind: Kind) -> impl Fn(Tokens<'a>) -> Parsed<'a, Token> + Copy {
    move |tokens: Tokens<'a>| {
        let next = tokens.first();
        if next.kind == kind { Ok((tokens.advance(), next)) } else { Err(nom::Err::Error(Fault::Mismatch)) }
    }
}

/// A parser of one token for which `convert` answers a value.
pub(super) fn token_as<'a, T>(convert: impl Fn(Kind) -> Option<T>) -> impl Fn(Tokens<'a>) -> Parsed<'a, (Token, T)> {
    move |tokens: Tokens<'a>| {
        let next = tokens.first();
        match convert(next.kind) {
            Some(value) => Ok((tokens.advance(), (next, value))),
            None => Err(nom::Err::Error(Fault::Mismatch)),
        }
    }
}

/// As [`token`], but anything else is a fault of the query.
pub(super) fn expect<'a>(kind: Kind) -> impl Fn(Tokens<'a>) -> Parsed<'a, Token> + Copy {
    move |tokens: Tokens<'a>| token(kind)(tokens).map_err(|_| tokens.unexpected_here())
}

/// The end of the text.
pub(super) fn end(tokens: Tokens<'_>) -> Parsed<'_, ()> {
    if tokens.kind() == Kind::Eof { Ok((tokens, ())) } else { Err(tokens.unexpected("", "")) }
}

/// A token as errors name it.
fn describe(kind: Kind, text: &str) -> String {
    match kind {
        Kind::Eof => "end of input".to_owned(),
        Kind::Error => "error".to_owned(),
        Kind::Identifier => format!("identifier {}", quote(text)),
        Kind::MetricIdentifier => format!("metric identifier {}", quote(text)),
        Kind::String => format!("string {}", shortened(text)),
        Kind::Number => format!("number {}", shortened(text)),
        Kind::Duration => format!("duration {}", shortened(text)),
        Kind::Offset
        | Kind::Smoothed
        | Kind::Anchored
        | Kind::By
        | Kind::Without
        | Kind::On
        | Kind::Ignoring
        | Kind::GroupLeft
        | Kind::GroupRight
        | Kind::Fill
        | Kind::FillLeft
        | Kind::FillRight
        | Kind::Bool => format!("<{text}>"),
        Kind::At
        | Kind::EqlRegex
        | Kind::NeqRegex
        | Kind::Add
        | Kind::Sub
        | Kind::Mul
        | Kind::Div
        | Kind::Mod
        | Kind::Pow
        | Kind::Eql
        | Kind::Neq
        | Kind::Lte
        | Kind::Lss
        | Kind::Gte
        | Kind::Gtr
        | Kind::TrimUpper
        | Kind::TrimLower
        | Kind::And
        | Kind::Or
        | Kind::Unless
        | Kind::Atan2 => format!("<op:{text}>"),
        Kind::Aggregator(_) => format!("<aggr:{text}>"),
        _ => shortened(text),
    }
}

fn shortened(text: &str) -> String {
    if text.len() > 10 { format!("{}...", quote(&text.chars().take(10).collect::<String>())) } else { quote(text) }
}

/// What nom asks of an input, so that its combinators work on tokens.
impl<'a> Input for Tokens<'a> {
    type Item = Token;
    type Iter = std::iter::Copied<std::slice::Iter<'a, Token>>;
    type IterIndices = std::iter::Enumerate<Self::Iter>;

    fn input_len(&self) -> usize {
        self.rest.len()
    }

    fn take(&self, index: usize) -> Self {
        Self { rest: &self.rest[..index], ..*self }
    }

    fn take_from(&self, index: usize) -> Self {
        Self { rest: &self.rest[index..], ..*self }
    }

    fn take_split(&self, index: usize) -> (Self, Self) {
        (self.take_from(index), self.take(index))
    }

    fn position<P: Fn(Token) -> bool>(&self, predicate: P) -> Option<usize> {
        self.rest.iter().position(|t| predicate(*t))
    }

    fn iter_elements(&self) -> Self::Iter {
        self.rest.iter().copied()
    }

    fn iter_indices(&self) -> Self::IterIndices {
        self.iter_elements().enumerate()
    }

    fn slice_index(&self, count: usize) -> Result<usize, Needed> {
        if self.rest.len() >= count { Ok(count) } else { Err(Needed::new(count - self.rest.len())) }
    }
}
