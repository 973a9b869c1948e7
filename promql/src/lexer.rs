//! Query text to tokens, each with its place.
//!
//! The whole text is read at once. Reading stops at the first character that no token can begin or continue; the
//! last token is then [`Kind::Error`] and [`Lexed::error`] says why. Otherwise the last token is [`Kind::Eof`].
//! Keywords are known without regard to case; inside braces every word is an identifier. What a token means is the
//! parser's business, as is the value of numbers, durations and strings.

use crate::ast::{AggregateOp, Span};

/// What kind of token it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the language's own")]
pub enum Kind {
    Eof,
    Error,
    Identifier,
    MetricIdentifier,
    String,
    Number,
    Duration,
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    Comma,
    Colon,
    At,
    Assign,
    EqlRegex,
    NeqRegex,
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Eql,
    Neq,
    Lte,
    Lss,
    Gte,
    Gtr,
    TrimUpper,
    TrimLower,
    And,
    Or,
    Unless,
    Atan2,
    Aggregator(AggregateOp),
    Offset,
    Smoothed,
    Anchored,
    By,
    Without,
    On,
    Ignoring,
    GroupLeft,
    GroupRight,
    Fill,
    FillLeft,
    FillRight,
    Bool,
    Start,
    End,
    Step,
    Range,
    MinOf,
    MaxOf,
}

/// A piece of the query text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// Kind.
    pub kind: Kind,
    /// Place.
    pub span: Span,
}

/// Why reading stopped early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LexError {
    /// Place.
    pub span: Span,
    /// What is wrong, worded as Prometheus words it.
    pub message: String,
}

/// All tokens of a text.
#[derive(Debug, Clone)]
pub struct Lexed {
    /// Never empty: the last is `Eof` or `Error`.
    pub tokens: Vec<Token>,
    /// Present exactly when the last token is `Error`.
    pub error: Option<LexError>,
}

/// Splits `text` into tokens; comments and white space are left out.
#[must_use]
pub fn lex(text: &str) -> Lexed {
    let mut lexer = Lexer {
        text,
        pos: 0,
        start: 0,
        tokens: Vec::with_capacity(text.len() / 4 + 2),
        paren_depth: 0,
        brace_open: false,
        bracket_open: false,
        got_colon: false,
        got_duration: false,
    };
    let error = match lexer.run() {
        Ok(()) => {
            lexer.start = text.len();
            lexer.pos = text.len();
            lexer.emit(Kind::Eof);
            None
        }
        Err(message) => {
            let span = span(lexer.start, text.len());
            lexer.tokens.push(Token { kind: Kind::Error, span });
            Some(LexError { span, message })
        }
    };
    Lexed { tokens: lexer.tokens, error }
}

/// Keyword or operator of this word, whatever its case.
fn keyword(word: &str) -> Option<Kind> {
    use AggregateOp as A;
    // No keyword is longer; this spares long names the copy.
    if word.len() > 12 {
        return None;
    }
    Some(match word.to_ascii_lowercase().as_str() {
        "and" => Kind::And,
        "or" => Kind::Or,
        "unless" => Kind::Unless,
        "atan2" => Kind::Atan2,
        "sum" => Kind::Aggregator(A::Sum),
        "avg" => Kind::Aggregator(A::Avg),
        "count" => Kind::Aggregator(A::Count),
        "min" => Kind::Aggregator(A::Min),
        "max" => Kind::Aggregator(A::Max),
        "group" => Kind::Aggregator(A::Group),
        "stddev" => Kind::Aggregator(A::Stddev),
        "stdvar" => Kind::Aggregator(A::Stdvar),
        "topk" => Kind::Aggregator(A::TopK),
        "bottomk" => Kind::Aggregator(A::BottomK),
        "count_values" => Kind::Aggregator(A::CountValues),
        "quantile" => Kind::Aggregator(A::Quantile),
        "limitk" => Kind::Aggregator(A::LimitK),
        "limit_ratio" => Kind::Aggregator(A::LimitRatio),
        "offset" => Kind::Offset,
        "smoothed" => Kind::Smoothed,
        "anchored" => Kind::Anchored,
        "by" => Kind::By,
        "without" => Kind::Without,
        "on" => Kind::On,
        "ignoring" => Kind::Ignoring,
        "group_left" => Kind::GroupLeft,
        "group_right" => Kind::GroupRight,
        "fill" => Kind::Fill,
        "fill_left" => Kind::FillLeft,
        "fill_right" => Kind::FillRight,
        "bool" => Kind::Bool,
        "start" => Kind::Start,
        "end" => Kind::End,
        "step" => Kind::Step,
        "range" => Kind::Range,
        "min_of" => Kind::MinOf,
        "max_of" => Kind::MaxOf,
        "inf" | "nan" => Kind::Number,
        _ => return None,
    })
}

pub(crate) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

fn is_alpha(c: char) -> bool {
    c == '_' || c.is_ascii_alphabetic()
}

fn is_alphanumeric(c: char) -> bool {
    c == '_' || c.is_ascii_alphanumeric()
}

fn span(start: usize, end: usize) -> Span {
    let bounded = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Span { start: bounded(start), end: bounded(end) }
}

struct Lexer<'a> {
    text: &'a str,
    pos: usize,
    /// Where the token under way began; errors point here.
    start: usize,
    tokens: Vec<Token>,
    paren_depth: u32,
    brace_open: bool,
    bracket_open: bool,
    got_colon: bool,
    got_duration: bool,
}

type LexResult = Result<(), String>;

impl Lexer<'_> {
    fn peek(&self) -> Option<char> {
        self.text[self.pos..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.pos += c.len_utf8();
        Some(c)
    }

    fn accept(&mut self, valid: impl Fn(char) -> bool) -> bool {
        let ok = self.peek().is_some_and(valid);
        if ok {
            self.next();
        }
        ok
    }

    fn accept_char(&mut self, c: char) -> bool {
        self.accept(|x| x == c)
    }

    fn accept_run(&mut self, valid: impl Fn(char) -> bool) {
        while self.accept(&valid) {}
    }

    fn word(&self) -> &str {
        &self.text[self.start..self.pos]
    }

    fn emit(&mut self, kind: Kind) {
        self.tokens.push(Token { kind, span: span(self.start, self.pos) });
        self.start = self.pos;
    }

    fn run(&mut self) -> LexResult {
        // Set after `[` and after each part of a duration expression but a number.
        let mut in_duration = false;
        loop {
            self.start = self.pos;
            if self.brace_open {
                if self.inside_braces()? {
                    continue;
                }
            } else if in_duration {
                in_duration = self.duration_part()?;
                continue;
            }
            if self.peek() == Some('#') && !in_duration {
                self.accept_run(|c| c != '\n' && c != '\r');
                continue;
            }
            let Some(c) = self.next() else {
                return self.end_of_text();
            };
            in_duration = self.statement(c)?;
        }
    }

    fn end_of_text(&self) -> LexResult {
        if self.brace_open {
            Err("unexpected end of input inside braces".to_owned())
        } else if self.paren_depth != 0 {
            Err("unclosed left parenthesis".to_owned())
        } else if self.bracket_open {
            Err("unclosed left bracket".to_owned())
        } else {
            Ok(())
        }
    }

    /// One token outside braces; answers whether a duration expression begins.
    fn statement(&mut self, c: char) -> Result<bool, String> {
        match c {
            c if is_space(c) => self.accept_run(is_space),
            ',' => self.emit(Kind::Comma),
            '*' => self.emit(Kind::Mul),
            '/' => self.emit(Kind::Div),
            '%' => self.emit(Kind::Mod),
            '+' => self.emit(Kind::Add),
            '-' => self.emit(Kind::Sub),
            '^' => self.emit(Kind::Pow),
            '@' => self.emit(Kind::At),
            '=' => match self.peek() {
                Some('=') => {
                    self.next();
                    self.emit(Kind::Eql);
                }
                Some('~') => return Err("unexpected character after '=': '~'".to_owned()),
                _ => self.emit(Kind::Assign),
            },
            '!' => match self.next() {
                Some('=') => self.emit(Kind::Neq),
                other => return Err(format!("unexpected character after '!': {}", quote_rune(other))),
            },
            '<' if self.accept_char('=') => self.emit(Kind::Lte),
            '<' if self.accept_char('/') => self.emit(Kind::TrimUpper),
            '<' => self.emit(Kind::Lss),
            '>' if self.accept_char('=') => self.emit(Kind::Gte),
            '>' if self.accept_char('/') => self.emit(Kind::TrimLower),
            '>' => self.emit(Kind::Gtr),
            '0'..='9' => {
                self.pos = self.start;
                self.number_or_duration()?;
            }
            '.' if self.peek().is_some_and(|c| c.is_ascii_digit()) => {
                self.pos = self.start;
                self.number_or_duration()?;
            }
            '"' | '\'' => self.string(c)?,
            '`' => self.raw_string()?,
            ':' if self.bracket_open => {
                if self.got_colon {
                    return Err("unexpected colon ':'".to_owned());
                }
                self.got_colon = true;
                self.emit(Kind::Colon);
            }
            c if is_alpha(c) && self.bracket_open => {
                if !self.duration_keyword() {
                    return Err(format!("unexpected character: {}, expected ':'", quote_rune(Some(c))));
                }
            }
            c if is_alpha(c) || c == ':' => self.keyword_or_identifier(),
            '(' => {
                self.emit(Kind::LeftParen);
                self.paren_depth += 1;
            }
            ')' => self.right_paren()?,
            '{' => {
                self.emit(Kind::LeftBrace);
                self.brace_open = true;
            }
            '[' => {
                if self.bracket_open {
                    return Err("unexpected left bracket '['".to_owned());
                }
                self.emit(Kind::LeftBracket);
                self.accept_run(is_space);
                self.bracket_open = true;
                self.got_colon = false;
                self.got_duration = false;
                return Ok(true);
            }
            ']' => {
                if !self.bracket_open {
                    return Err("unexpected right bracket ']'".to_owned());
                }
                self.emit(Kind::RightBracket);
                self.bracket_open = false;
            }
            c => return Err(format!("unexpected character: {}", quote_rune(Some(c)))),
        }
        Ok(false)
    }

    fn right_paren(&mut self) -> LexResult {
        self.emit(Kind::RightParen);
        if self.paren_depth == 0 {
            self.tokens.pop();
            return Err("unexpected right parenthesis ')'".to_owned());
        }
        self.paren_depth -= 1;
        Ok(())
    }

    /// One token of a duration expression; answers whether the expression goes on in this state.
    fn duration_part(&mut self) -> Result<bool, String> {
        let Some(c) = self.next() else {
            return Err("unexpected end of input in duration expression".to_owned());
        };
        match c {
            ']' => {
                self.emit(Kind::RightBracket);
                self.bracket_open = false;
                self.got_colon = false;
                return Ok(false);
            }
            ':' => {
                self.emit(Kind::Colon);
                if !self.got_duration {
                    self.tokens.pop();
                    return Err("unexpected colon before duration in duration expression".to_owned());
                }
                if self.got_colon {
                    self.tokens.pop();
                    return Err("unexpected repeated colon in duration expression".to_owned());
                }
                self.got_colon = true;
            }
            '(' => {
                self.emit(Kind::LeftParen);
                self.paren_depth += 1;
            }
            ')' => self.right_paren()?,
            c if is_space(c) => self.accept_run(is_space),
            '+' => self.emit(Kind::Add),
            '-' => self.emit(Kind::Sub),
            '*' => self.emit(Kind::Mul),
            '/' => self.emit(Kind::Div),
            '%' => self.emit(Kind::Mod),
            '^' => self.emit(Kind::Pow),
            ',' => self.emit(Kind::Comma),
            '.' | '0'..='9' if c != '.' || self.peek().is_some_and(|c| c.is_ascii_digit()) => {
                self.pos = self.start;
                self.got_duration = true;
                self.number_or_duration()?;
                return Ok(false);
            }
            c if is_alpha(c) && self.duration_keyword() => self.got_duration = true,
            c => return Err(format!("unexpected character in duration expression: {}", quote_rune(Some(c)))),
        }
        Ok(true)
    }

    /// Reads the rest of a word that may stand in a duration expression.
    fn duration_keyword(&mut self) -> bool {
        self.accept_run(is_alpha);
        match keyword(self.word()) {
            Some(kind @ (Kind::Step | Kind::Range | Kind::MinOf | Kind::MaxOf)) => {
                self.emit(kind);
                true
            }
            _ => false,
        }
    }

    /// One token inside braces; answers false at the end of the text.
    fn inside_braces(&mut self) -> Result<bool, String> {
        if self.peek() == Some('#') {
            self.accept_run(|c| c != '\n' && c != '\r');
            return Ok(true);
        }
        let Some(c) = self.next() else {
            return Ok(false);
        };
        match c {
            c if is_space(c) => self.accept_run(is_space),
            c if is_alpha(c) => {
                self.accept_run(is_alphanumeric);
                self.emit(Kind::Identifier);
            }
            ',' => self.emit(Kind::Comma),
            '"' | '\'' => self.string(c)?,
            '`' => self.raw_string()?,
            '=' if self.accept_char('~') => self.emit(Kind::EqlRegex),
            '=' => self.emit(Kind::Assign),
            '!' => match self.next() {
                Some('~') => self.emit(Kind::NeqRegex),
                Some('=') => self.emit(Kind::Neq),
                other => return Err(format!("unexpected character after '!' inside braces: {}", quote_rune(other))),
            },
            '{' => return Err("unexpected left brace '{'".to_owned()),
            '}' => {
                self.emit(Kind::RightBrace);
                self.brace_open = false;
            }
            c => return Err(format!("unexpected character inside braces: {}", quote_rune(Some(c)))),
        }
        Ok(true)
    }

    fn keyword_or_identifier(&mut self) {
        self.accept_run(|c| is_alphanumeric(c) || c == ':');
        let kind = match keyword(self.word()) {
            // These may be metric names; only what follows tells.
            Some(Kind::Fill | Kind::FillLeft | Kind::FillRight) if !self.left_paren_follows() => Kind::Identifier,
            Some(kind) => kind,
            None if self.word().contains(':') => Kind::MetricIdentifier,
            None => Kind::Identifier,
        };
        self.emit(kind);
    }

    fn left_paren_follows(&self) -> bool {
        self.text[self.pos..].trim_start_matches(is_space).starts_with('(')
    }

    /// A quoted string, of which the opening quote was read. Only checks escapes; see [`unquote`].
    fn string(&mut self, quote: char) -> LexResult {
        loop {
            match self.next() {
                Some('\\') => self.escape(quote)?,
                Some(char::REPLACEMENT_CHARACTER) => return Err("invalid UTF-8 rune".to_owned()),
                None | Some('\n') => return Err("unterminated quoted string".to_owned()),
                Some(c) if c == quote => {
                    self.emit(Kind::String);
                    return Ok(());
                }
                Some(_) => {}
            }
        }
    }

    fn raw_string(&mut self) -> LexResult {
        loop {
            match self.next() {
                Some(char::REPLACEMENT_CHARACTER) => return Err("invalid UTF-8 rune".to_owned()),
                None => return Err("unterminated raw string".to_owned()),
                Some('`') => {
                    self.emit(Kind::String);
                    return Ok(());
                }
                Some(_) => {}
            }
        }
    }

    fn escape(&mut self, quote: char) -> LexResult {
        let unterminated = || "escape sequence not terminated".to_owned();
        let (digits, base, max) = match self.next() {
            Some('a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\') => return Ok(()),
            Some(c) if c == quote => return Ok(()),
            Some('0'..='7') => {
                self.pos -= 1;
                (3, 8, 255)
            }
            Some('x') => (2, 16, 255),
            Some('u') => (4, 16, u32::from(char::MAX)),
            Some('U') => (8, 16, u32::from(char::MAX)),
            None => return Err(unterminated()),
            Some(c) => return Err(format!("unknown escape sequence {}", describe_rune(c))),
        };
        let mut value: u32 = 0;
        for _ in 0..digits {
            let c = self.next().ok_or_else(unterminated)?;
            let digit =
                c.to_digit(base).ok_or_else(|| format!("illegal character {} in escape sequence", describe_rune(c)))?;
            // Eight hexadecimal digits fill a u32 and no more.
            value = value.wrapping_mul(base).wrapping_add(digit);
        }
        if value > max || (0xd800..0xe000).contains(&value) {
            return Err("escape sequence is an invalid Unicode code point".to_owned());
        }
        Ok(())
    }

    fn number_or_duration(&mut self) -> LexResult {
        if self.number() {
            self.emit(Kind::Number);
        } else if self.rest_of_duration() {
            self.emit(Kind::Duration);
        } else {
            return Err(format!("bad number or duration syntax: {}", quote(self.word())));
        }
        Ok(())
    }

    /// Reads what looks like a number; where it turns out to be none, stops there, so that a duration may go on.
    fn number(&mut self) -> bool {
        let begin = self.pos;
        let mut hex = false;
        if self.accept_char('0') && self.accept(|c| c == 'x' || c == 'X') {
            self.accept_char('_');
            hex = true;
        }
        let is_digit = move |c: char| if hex { c.is_ascii_hexdigit() } else { c.is_ascii_digit() };
        let is_exponent = |c: char| c == 'e' || c == 'E';
        self.accept_char('.');
        self.accept(is_digit);
        let (mut dot, mut exponent) = (false, false);
        while self.peek().is_some_and(|c| is_digit(c) || c == '.' || c == '_' || is_exponent(c)) {
            if self.peek() == Some('.') && dot {
                self.next();
                return false;
            }
            if self.peek().is_some_and(is_exponent) && exponent {
                self.next();
                return false;
            }
            if self.accept_char('.') {
                dot = true;
                if self.accept(|c| c == '_' || c == '.') || hex {
                    return false;
                }
            } else if self.accept(is_exponent) {
                exponent = true;
                self.accept(|c| c == '+' || c == '-');
                if self.accept(|c| c == '.' || c == '_' || is_exponent(c)) || self.peek().is_none() {
                    return false;
                }
            } else if self.accept_char('_') {
                if self.accept(|c| c == '.' || c == '_' || is_exponent(c)) || self.peek().is_none() {
                    return false;
                }
            } else {
                self.accept_run(is_digit);
            }
        }
        self.pos != begin && !self.peek().is_some_and(is_alphanumeric)
    }

    fn rest_of_duration(&mut self) -> bool {
        if !self.accept(|c| "smhdwy".contains(c)) {
            return false;
        }
        self.accept_char('s');
        while self.accept(|c| c.is_ascii_digit()) {
            self.accept_run(|c| c.is_ascii_digit());
            // Years come first if at all.
            if !self.accept(|c| "smhdw".contains(c)) {
                return false;
            }
            self.accept_char('s');
        }
        !self.accept(is_alphanumeric)
    }
}

/// The text of a string token; bytes, because `\xff` may name one that is no UTF-8.
#[must_use]
pub fn unquote(literal: &str) -> Vec<u8> {
    let inner = literal.get(1..literal.len().saturating_sub(1)).unwrap_or("");
    if literal.starts_with('`') {
        return inner.as_bytes().to_vec();
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let escape = chars.next().unwrap_or('\\');
        let (digits, base) = match escape {
            'a' => (0, 7),
            'b' => (0, 8),
            'f' => (0, 12),
            'n' => (0, 10),
            'r' => (0, 13),
            't' => (0, 9),
            'v' => (0, 11),
            'x' => (2, 16),
            'u' => (4, 16),
            'U' => (8, 16),
            '0'..='7' => (2, 8),
            other => {
                out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
        };
        if digits == 0 {
            out.push(base);
            continue;
        }
        let mut value = if base == 8 { escape.to_digit(8).unwrap_or(0) } else { 0 };
        for _ in 0..digits {
            let digit = chars.next().and_then(|c| c.to_digit(u32::from(base))).unwrap_or(0);
            value = value.wrapping_mul(u32::from(base)).wrapping_add(digit);
        }
        if digits == 2 {
            out.push(value as u8);
        } else {
            let c = char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER);
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    out
}

/// Text as Go's `%q` shows it.
pub(crate) fn quote(text: &str) -> String {
    promontory_model::labels::Quoted(text).to_string()
}

/// Bytes as Go's `%q` shows them: what is no UTF-8 as `\xNN`.
pub(crate) fn quote_bytes(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        let quoted = quote(chunk.valid());
        out.push_str(&quoted[1..quoted.len() - 1]);
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out.push('"');
    out
}

/// A character as Go's `%q` shows it; the end of the text is the rune -1 there.
fn quote_rune(c: Option<char>) -> String {
    match c {
        None => "'\u{fffd}'".to_owned(),
        Some('\'') => "'\\''".to_owned(),
        Some('"') => "'\"'".to_owned(),
        Some(c) => {
            let quoted = quote(c.encode_utf8(&mut [0; 4]));
            format!("'{}'", &quoted[1..quoted.len() - 1])
        }
    }
}

/// A character as Go's `%#U` shows it.
fn describe_rune(c: char) -> String {
    if c.is_control() { format!("U+{:04X}", u32::from(c)) } else { format!("U+{:04X} '{c}'", u32::from(c)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let lexed = lex(text);
        let mut got: Vec<String> = lexed.tokens.iter().map(|t| format!("{:?}", t.kind)).collect();
        if let Some(e) = lexed.error {
            got.push(format!("{}: {}", e.span.start, e.message));
        }
        assert_eq!(got.join(" "), expected, "{text}");
    }

    #[test]
    fn keywords_depend_on_their_place() {
        check("SUM by(x)", "Aggregator(Sum) By LeftParen Identifier RightParen Eof");
        check("{sum=\"a\"}", "LeftBrace Identifier Assign String RightBrace Eof");
        check("fill + fill (1)", "Identifier Add Fill LeftParen Number RightParen Eof");
        check("a:b ## comment\n or c", "MetricIdentifier Or Identifier Eof");
        check("inf{}", "Number LeftBrace RightBrace Eof");
    }

    #[test]
    fn durations_and_numbers_are_told_apart() {
        check("1h30m 5 0x1f 1e3 .5", "Duration Number Number Number Number Eof");
        check("x[5m:step()]", "Identifier LeftBracket Duration Colon Step LeftParen RightParen RightBracket Eof");
        check("1__0", "Error 0: bad number or duration syntax: \"1__\"");
        check("x[", "Identifier LeftBracket Error 2: unexpected end of input in duration expression");
    }

    #[test]
    fn open_ends_are_errors() {
        check("(", "LeftParen Error 1: unclosed left parenthesis");
        check("a)", "Identifier Error 2: unexpected right parenthesis ')'");
        check("a{", "Identifier LeftBrace Error 2: unexpected end of input inside braces");
        check("\"a\nb\"", "Error 0: unterminated quoted string");
        check("'\\q'", "Error 0: unknown escape sequence U+0071 'q'");
    }

    #[test]
    fn strings_are_unquoted_as_go_does() {
        assert_eq!(unquote(r#""a\n\x41\u00e9\101\"'""#), "a\nA\u{e9}A\"'".as_bytes());
        assert_eq!(unquote("`a\\n`"), b"a\\n");
        assert_eq!(quote_bytes(&unquote(r#""a\xc5z""#)), r#""a\xc5z""#);
    }

    proptest! {
        #[test]
        fn any_text_is_covered_in_order(text in "\\PC{0,60}") {
            let lexed = lex(&text);
            prop_assert!(lexed.tokens.windows(2).all(|w| w[0].span.end <= w[1].span.start));
            prop_assert!(matches!(lexed.tokens.last().map(|t| t.kind), Some(Kind::Eof | Kind::Error)));
        }
    }
}
