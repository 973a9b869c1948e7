//! What may be written at a place of a query that is being typed.
//!
//! Works on tokens, so that a query needs no end and no sense to be completed: what stands before the place decides
//! what is wanted there, and the selectors around it say which series its labels belong to. Names and values that
//! only a store knows are the caller's to look up; [`Wanted`] says with which matchers.

use promontory_model::{METRIC_NAME, MatchOp, Matcher};

use crate::ast::{AggregateOp, Span};
use crate::functions::FUNCTIONS;
use crate::lexer::{Kind, Token, lex, unquote};
use crate::parser;

/// What belongs at a place, and the text that it would replace.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// The word under way, up to its end; empty where none was begun.
    pub replace: Span,
    /// What belongs there.
    pub wanted: Wanted,
}

/// What belongs at a place.
#[derive(Debug, Clone, PartialEq)]
pub enum Wanted {
    /// An expression: a metric name, a function, an aggregation.
    Expression,
    /// What continues an expression: an operator, or a modifier of a selector.
    Operator {
        /// The expression before is a selector, which takes a range, `offset` and `@`.
        after_selector: bool,
    },
    /// `by`, `without` or a parenthesis, after the name of an aggregation.
    Grouping,
    /// The name of a label in braces.
    LabelName {
        /// What the selector says already.
        matchers: Vec<Matcher>,
    },
    /// The operator of a matcher.
    MatchOperator,
    /// The value of a label.
    LabelValue {
        /// The label.
        label: String,
        /// Its operator.
        op: MatchOp,
        /// What else the selector says.
        matchers: Vec<Matcher>,
        /// The place is between quotes; else they are to be written too.
        quoted: bool,
    },
    /// The name of a label of some series of the query: in `by`, `on` and their like.
    SeriesLabel {
        /// The selectors of the query, one list each.
        selectors: Vec<Vec<Matcher>>,
    },
    /// A length of time: in brackets, after `offset`.
    Duration,
    /// A comma or a closing brace.
    EndOfMatcher,
    /// Nothing that could be guessed: a number, a text, a comment.
    Nothing,
}

/// A word of the language that may be written at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// What is written.
    pub text: &'static str,
    /// What kind of word it is.
    pub kind: WordKind,
    /// How it is used, such as a signature; may be empty.
    pub usage: String,
    /// What it gives; may be empty.
    pub doc: &'static str,
}

/// What kind of word it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WordKind {
    /// `rate`.
    Function,
    /// `sum`.
    Aggregation,
    /// `offset`, `by`, `and`.
    Keyword,
    /// `+`, `=~`.
    Symbol,
    /// `5m`.
    Duration,
}

const AGGREGATIONS: &[(AggregateOp, &str)] = &[
    (AggregateOp::Sum, "The sum of each group."),
    (AggregateOp::Avg, "The mean of each group."),
    (AggregateOp::Count, "How many series each group has."),
    (AggregateOp::Min, "The least value of each group."),
    (AggregateOp::Max, "The greatest value of each group."),
    (AggregateOp::Group, "1 for each group."),
    (AggregateOp::Stddev, "The standard deviation of each group."),
    (AggregateOp::Stdvar, "The variance of each group."),
    (AggregateOp::TopK, "The series with the greatest values of each group."),
    (AggregateOp::BottomK, "The series with the least values of each group."),
    (AggregateOp::CountValues, "How many series have each value, which becomes a label."),
    (AggregateOp::Quantile, "A quantile, 0 to 1, of each group."),
    (AggregateOp::LimitK, "Any so many series of each group."),
    (AggregateOp::LimitRatio, "A share of the series of each group, always the same ones."),
];

const OPERATORS: &[(&str, WordKind, &str)] = &[
    ("+", WordKind::Symbol, "Sum."),
    ("-", WordKind::Symbol, "Difference."),
    ("*", WordKind::Symbol, "Product."),
    ("/", WordKind::Symbol, "Quotient."),
    ("%", WordKind::Symbol, "Remainder."),
    ("^", WordKind::Symbol, "Power."),
    ("==", WordKind::Symbol, "Keeps equal values."),
    ("!=", WordKind::Symbol, "Keeps different values."),
    (">", WordKind::Symbol, "Keeps greater values."),
    ("<", WordKind::Symbol, "Keeps lesser values."),
    (">=", WordKind::Symbol, "Keeps values that are not lesser."),
    ("<=", WordKind::Symbol, "Keeps values that are not greater."),
    ("and", WordKind::Keyword, "Keeps series that the right side has too."),
    ("or", WordKind::Keyword, "Adds series that only the right side has."),
    ("unless", WordKind::Keyword, "Keeps series that the right side lacks."),
    ("atan2", WordKind::Keyword, "The angle of a point, in radians."),
];

const OF_SELECTORS: &[(&str, WordKind, &str)] = &[
    ("offset", WordKind::Keyword, "Looks so long before each step."),
    ("@", WordKind::Symbol, "Looks at a fixed time."),
    ("anchored", WordKind::Keyword, "The window takes real samples at both edges."),
    ("smoothed", WordKind::Keyword, "The window's edges are interpolated."),
];

const DURATIONS: &[&str] = &["1m", "5m", "10m", "15m", "30m", "1h", "6h", "12h", "1d", "1w"];

impl Wanted {
    /// The words of the language that may stand here; names and values of the store come on top.
    #[must_use]
    pub fn words(&self) -> Vec<Word> {
        let listed = |list: &[(&'static str, WordKind, &'static str)]| -> Vec<Word> {
            list.iter().map(|(text, kind, doc)| Word { text, kind: *kind, usage: String::new(), doc }).collect()
        };
        match self {
            Self::Expression => {
                let aggregations = AGGREGATIONS.iter().map(|(op, doc)| Word {
                    text: op.as_str(),
                    kind: WordKind::Aggregation,
                    usage: format!("{}({}instant vector)", op.as_str(), if op.has_param() { "scalar, " } else { "" }),
                    doc,
                });
                let functions = FUNCTIONS.iter().map(|f| Word {
                    text: f.name,
                    kind: WordKind::Function,
                    usage: f.signature(),
                    doc: f.doc,
                });
                aggregations.chain(functions).collect()
            }
            Self::Operator { after_selector: false } => listed(OPERATORS),
            Self::Operator { after_selector: true } => [listed(OF_SELECTORS), listed(OPERATORS)].concat(),
            Self::Grouping => listed(&[
                ("by", WordKind::Keyword, "Groups by these labels."),
                ("without", WordKind::Keyword, "Groups by all labels but these."),
            ]),
            Self::MatchOperator => listed(&[
                ("=", WordKind::Symbol, "Equal."),
                ("!=", WordKind::Symbol, "Not equal."),
                ("=~", WordKind::Symbol, "Matches a regular expression as a whole."),
                ("!~", WordKind::Symbol, "Does not match a regular expression."),
            ]),
            Self::EndOfMatcher => listed(&[(",", WordKind::Symbol, ""), ("}", WordKind::Symbol, "")]),
            Self::Duration => DURATIONS
                .iter()
                .map(|text| Word { text, kind: WordKind::Duration, usage: String::new(), doc: "" })
                .collect(),
            Self::LabelName { .. } | Self::LabelValue { .. } | Self::SeriesLabel { .. } | Self::Nothing => Vec::new(),
        }
    }
}

/// What belongs at byte `at` of `text`; a place inside a character counts as the place before it.
#[must_use]
pub fn complete(text: &str, at: usize) -> Completion {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let (before, after) = text.split_at(at);
    let mut tokens = lex(before).tokens;
    let last = tokens.pop().map_or(Span::default(), |t| t.span);
    let open = &before[last.start as usize..];
    // The last token says where reading ended: at the end of the text, or where something is wrong or unfinished.
    if let Some(quote) = open.chars().next().filter(|c| matches!(c, '"' | '\'' | '`')) {
        let end = after.find([quote, '\n']).filter(|i| after[*i..].starts_with(quote));
        let replace = place(last.start as usize + 1, at + end.unwrap_or(0));
        let scene = Scene { before, after: end.map_or("", |i| &after[i + 1..]) };
        return Completion { replace, wanted: scene.in_quotes(&tokens) };
    }
    let scene = Scene { before, after };
    if scene.in_comment(&tokens) {
        return Completion { replace: place(at, at), wanted: Wanted::Nothing };
    }
    let word_end = at + after.find(|c: char| !is_word(c)).unwrap_or(after.len());
    let word_start = tokens
        .last()
        .filter(|t| t.span.end as usize == at && before.ends_with(is_word) && t.kind != Kind::Colon)
        .map(|t| t.span.start);
    if let Some(start) = word_start {
        let number = tokens.pop().is_some_and(|t| matches!(t.kind, Kind::Number));
        let wanted = match scene.wanted(&tokens) {
            Wanted::Expression if number => Wanted::Nothing,
            wanted => wanted,
        };
        return Completion { replace: place(start as usize, word_end), wanted };
    }
    // What reads as no token yet, such as `5` and `q` in brackets, is replaced too.
    let begun = open.len() - open.trim_start_matches(|c: char| !is_word(c)).len();
    let start = if open.is_empty() { at } else { last.start as usize + begun };
    Completion { replace: place(start, if start == at { at } else { word_end }), wanted: scene.wanted(&tokens) }
}

fn place(start: usize, end: usize) -> Span {
    let bounded = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Span { start: bounded(start), end: bounded(end) }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

fn is_matching(kind: Kind) -> bool {
    matches!(kind, Kind::By | Kind::Without | Kind::On | Kind::Ignoring | Kind::GroupLeft | Kind::GroupRight)
}

/// Names and keywords that can be metric names.
fn is_name(kind: Kind) -> bool {
    matches!(kind, Kind::Identifier | Kind::MetricIdentifier)
}

/// Index of the innermost bracket of any sort that is still open.
fn innermost_open(tokens: &[Token]) -> Option<usize> {
    let mut open = Vec::new();
    for (i, t) in tokens.iter().enumerate() {
        match t.kind {
            Kind::LeftParen | Kind::LeftBrace | Kind::LeftBracket => open.push(i),
            Kind::RightParen | Kind::RightBrace | Kind::RightBracket => {
                open.pop();
            }
            _ => {}
        }
    }
    open.pop()
}

/// Index of the parenthesis that the last token closes.
fn opened_by_last(tokens: &[Token]) -> Option<usize> {
    let (_, head) = tokens.split_last()?;
    innermost_open(head)
}

/// The text around the place.
struct Scene<'a> {
    before: &'a str,
    after: &'a str,
}

impl Scene<'_> {
    /// Whether a comment begins between the last token and the place.
    fn in_comment(&self, tokens: &[Token]) -> bool {
        let start = tokens.last().map_or(0, |t| t.span.end as usize);
        self.before[start..].rsplit('\n').next().is_some_and(|line| line.contains('#'))
    }

    /// What is wanted in a text of which only the opening quote is written.
    fn in_quotes(&self, tokens: &[Token]) -> Wanted {
        match innermost_open(tokens).map(|i| (i, tokens[i].kind)) {
            Some((i, Kind::LeftBrace)) => match self.in_braces(tokens, i) {
                Wanted::LabelValue { label, op, matchers, .. } => {
                    Wanted::LabelValue { label, op, matchers, quoted: true }
                }
                // A metric or label name that needs quotes.
                wanted @ Wanted::LabelName { .. } => wanted,
                _ => Wanted::Nothing,
            },
            Some((i, Kind::LeftParen)) if i > 0 && is_matching(tokens[i - 1].kind) => {
                Wanted::SeriesLabel { selectors: self.selectors() }
            }
            _ => Wanted::Nothing,
        }
    }

    fn wanted(&self, tokens: &[Token]) -> Wanted {
        let Some(last) = tokens.last() else { return Wanted::Expression };
        match innermost_open(tokens).map(|i| (i, tokens[i].kind)) {
            Some((i, Kind::LeftBrace)) => return self.in_braces(tokens, i),
            Some((_, Kind::LeftBracket)) => return Wanted::Duration,
            Some((i, Kind::LeftParen)) if i > 0 && is_matching(tokens[i - 1].kind) => {
                return Wanted::SeriesLabel { selectors: self.selectors() };
            }
            _ => {}
        }
        match last.kind {
            Kind::RightParen => {
                let before = opened_by_last(tokens).and_then(|i| i.checked_sub(1)).map(|i| (i, tokens[i].kind));
                match before {
                    // `sum by (x)` still lacks what is summed, `sum(x) by (x)` does not.
                    Some((i, Kind::By | Kind::Without)) if i > 0 && tokens[i - 1].kind == Kind::RightParen => {
                        Wanted::Operator { after_selector: false }
                    }
                    Some((_, kind)) if is_matching(kind) => Wanted::Expression,
                    _ => Wanted::Operator { after_selector: false },
                }
            }
            Kind::Identifier | Kind::MetricIdentifier | Kind::RightBrace | Kind::RightBracket => {
                Wanted::Operator { after_selector: true }
            }
            Kind::Number | Kind::Duration | Kind::String => Wanted::Operator { after_selector: false },
            Kind::Aggregator(_) => Wanted::Grouping,
            Kind::Offset => Wanted::Duration,
            Kind::At => Wanted::Nothing,
            _ => Wanted::Expression,
        }
    }

    /// What is wanted inside the braces that token `open` opens.
    fn in_braces(&self, tokens: &[Token], open: usize) -> Wanted {
        let inside = &tokens[open + 1..];
        let name = tokens[..open].last().filter(|t| is_name(t.kind)).map(|t| self.text(t));
        let mut matchers: Vec<Matcher> = name.map(|n| Matcher::equal(METRIC_NAME, n)).into_iter().collect();
        let mut parts: Vec<&[Token]> = inside.split(|t| t.kind == Kind::Comma).collect();
        let current = parts.pop().unwrap_or_default();
        matchers.extend(parts.into_iter().filter_map(|part| self.matcher(part)));
        matchers.extend(self.matchers_after());
        match current {
            [] => Wanted::LabelName { matchers },
            [_] => Wanted::MatchOperator,
            [label, op] => {
                let label = self.label(label);
                let op = operator(op.kind).unwrap_or(MatchOp::Equal);
                Wanted::LabelValue { label, op, matchers, quoted: false }
            }
            _ => Wanted::EndOfMatcher,
        }
    }

    /// Whole matchers between the place and the closing brace.
    fn matchers_after(&self) -> Vec<Matcher> {
        let rest = self.after.trim_start_matches(is_word);
        let Some(rest) = rest.trim_start().strip_prefix(',') else { return Vec::new() };
        let text = format!("{{{rest}");
        let tokens = lex(&text).tokens;
        let end = tokens.iter().position(|t| t.kind == Kind::RightBrace).unwrap_or(tokens.len());
        let scene = Scene { before: &text, after: "" };
        tokens[1.min(end)..end].split(|t| t.kind == Kind::Comma).filter_map(|part| scene.matcher(part)).collect()
    }

    fn matcher(&self, part: &[Token]) -> Option<Matcher> {
        match part {
            [label, op, value] if value.kind == Kind::String => {
                let value = String::from_utf8(unquote(self.text(value))).ok()?;
                Matcher::new(&self.label(label), operator(op.kind)?, &value).ok()
            }
            [name] if name.kind == Kind::String => Some(Matcher::equal(METRIC_NAME, &self.label(name))),
            _ => None,
        }
    }

    fn label(&self, token: &Token) -> String {
        match token.kind {
            Kind::String => String::from_utf8_lossy(&unquote(self.text(token))).into_owned(),
            _ => self.text(token).to_owned(),
        }
    }

    fn text(&self, token: &Token) -> &str {
        &self.before[token.span.start as usize..token.span.end as usize]
    }

    /// The selectors before and after the place.
    fn selectors(&self) -> Vec<Vec<Matcher>> {
        let mut out = selectors_of(self.before);
        // The parenthesis that the place is in would end the reading.
        let rest = self.after.trim_start_matches(|c: char| c != ')').trim_start_matches(')');
        for selector in selectors_of(rest) {
            if !out.contains(&selector) {
                out.push(selector);
            }
        }
        out
    }
}

fn operator(kind: Kind) -> Option<MatchOp> {
    Some(match kind {
        Kind::Assign => MatchOp::Equal,
        Kind::Neq => MatchOp::NotEqual,
        Kind::EqlRegex => MatchOp::Regex,
        Kind::NeqRegex => MatchOp::NotRegex,
        _ => return None,
    })
}

/// The matchers of each selector that `text`, a piece of a query, holds whole.
fn selectors_of(text: &str) -> Vec<Vec<Matcher>> {
    let tokens = lex(text).tokens;
    let mut out: Vec<Vec<Matcher>> = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        let (start, next) = (tokens[i], tokens.get(i + 1).map_or(Kind::Eof, |t| t.kind));
        if next == Kind::LeftParen && is_matching(start.kind) {
            i += tokens[i..].iter().position(|t| t.kind == Kind::RightParen).unwrap_or(tokens.len());
            continue;
        }
        let braces = match start.kind {
            Kind::LeftBrace => Some(i),
            kind if is_name(kind) && next == Kind::LeftBrace => Some(i + 1),
            kind if is_name(kind) && next != Kind::LeftParen => None,
            _ => {
                i += 1;
                continue;
            }
        };
        let end = match braces {
            None => Some(i),
            Some(open) => tokens[open..].iter().position(|t| t.kind == Kind::RightBrace).map(|n| open + n),
        };
        let Some(end) = end else { break };
        let written = &text[start.span.start as usize..tokens[end].span.end as usize];
        if let Ok(selector) = parser::parse_selector(written)
            && !out.contains(&selector.matchers)
        {
            out.push(selector.matchers);
        }
        i = end + 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `marked` has `|` at the place; `want` is the replaced text and what is wanted.
    #[track_caller]
    fn check(marked: &str, want: &str) {
        let at = marked.find('|').expect("the text has a mark");
        let text = marked.replacen('|', "", 1);
        let got = complete(&text, at);
        let replaced = &text[got.replace.start as usize..got.replace.end as usize];
        let list = |matchers: &[Matcher]| matchers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let wanted = match &got.wanted {
            Wanted::LabelName { matchers } => format!("label name of {{{}}}", list(matchers)),
            Wanted::LabelValue { label, op, matchers, quoted } => {
                let quoted = if *quoted { "quoted " } else { "" };
                format!("{quoted}value of {label}{} of {{{}}}", op.as_str(), list(matchers))
            }
            Wanted::SeriesLabel { selectors } => {
                let selectors: Vec<_> = selectors.iter().map(|s| format!("{{{}}}", list(s))).collect();
                format!("label of {}", selectors.join(" "))
            }
            other => format!("{other:?}"),
        };
        assert_eq!(format!("[{replaced}] {wanted}"), want, "{marked}");
    }

    #[test]
    fn expressions_begin_everywhere_an_operand_may() {
        check("|", "[] Expression");
        check("ra|", "[ra] Expression");
        check("ra|te(x)", "[rate] Expression");
        check("sum(ra|", "[ra] Expression");
        check("a + |", "[] Expression");
        check("a + on (b) |", "[] Expression");
        check("sum by (a) |", "[] Expression");
        check("clamp(x, |", "[] Expression");
        check("1|", "[1] Nothing");
    }

    #[test]
    fn operators_and_modifiers_follow_operands() {
        check("up |", "[] Operator { after_selector: true }");
        check("up off|", "[off] Operator { after_selector: true }");
        check("up{a=\"b\"} |", "[] Operator { after_selector: true }");
        check("rate(x[5m]) |", "[] Operator { after_selector: false }");
        check("sum(x) by (a) |", "[] Operator { after_selector: false }");
        check("sum |", "[] Grouping");
        check("sum b|", "[b] Grouping");
    }

    #[test]
    fn labels_know_what_the_selector_says() {
        check("up{|", "[] label name of {__name__=\"up\"}");
        check("up{jo|, a=\"b\"}", "[jo] label name of {__name__=\"up\",a=\"b\"}");
        check("up{a=~\"b.*\", |}", "[] label name of {__name__=\"up\",a=~\"b.*\"}");
        check("{\"x y\", |}", "[] label name of {__name__=\"x y\"}");
        check("up{job |", "[] MatchOperator");
        check("up{job=\"a\" |", "[] EndOfMatcher");
    }

    #[test]
    fn values_are_completed_with_and_without_quotes() {
        check("up{job=|", "[] value of job= of {__name__=\"up\"}");
        check("up{job=\"a|", "[a] quoted value of job= of {__name__=\"up\"}");
        check("up{job=~\"a|b\", c=\"d\"}", "[ab] quoted value of job=~ of {__name__=\"up\",c=\"d\"}");
        check("up{c!=\"d\", job='|'}", "[] quoted value of job= of {__name__=\"up\",c!=\"d\"}");
    }

    #[test]
    fn groupings_know_the_selectors_around() {
        check("sum by (|) (rate(x{a=\"b\"}[5m]))", "[] label of {a=\"b\",__name__=\"x\"}");
        check("sum(x) by (a, b|", "[b] label of {__name__=\"x\"}");
        check("x / on (|) y", "[] label of {__name__=\"x\"} {__name__=\"y\"}");
    }

    #[test]
    fn durations_stand_in_brackets_and_after_offset() {
        check("x[|", "[] Duration");
        check("x[5|", "[5] Duration");
        check("x[5m:|]", "[] Duration");
        check("x offset |", "[] Duration");
    }

    #[test]
    fn texts_and_comments_are_left_alone() {
        check("label_replace(x, \"a|\"", "[a] Nothing");
        check("up # com|", "[] Nothing");
    }

    #[test]
    fn every_word_of_the_language_is_offered_somewhere() {
        let words = Wanted::Expression.words();
        assert!(FUNCTIONS.iter().all(|f| words.iter().any(|w| w.text == f.name && !w.doc.is_empty())));
        assert!(Wanted::Operator { after_selector: true }.words().iter().any(|w| w.text == "offset"));
    }

    proptest! {
        #[test]
        fn any_place_of_any_text_has_an_answer(text in "[a-z(){}\\[\\]\"'=~,#é 0-9]{0,40}", at in 0_usize..50) {
            let got = complete(&text, at);
            prop_assert!(text.get(got.replace.start as usize..got.replace.end as usize).is_some());
        }
    }
}
