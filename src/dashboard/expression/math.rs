//! Arithmetic over the queries of a panel: its text as a tree, and the tree over series.
//!
//! # Source
//! Grammar and joins are those of Grafana's expressions: series go together when the labels of one are among those of
//! the other, and single series always do. The name of the metric is no label here, so that different metrics meet.

use promontory_model::Labels;

use super::Line;

/// Expressions inside of expressions.
const DEPTH_MAX: usize = 100;

#[derive(Debug)]
pub(super) enum Node {
    Number(f64),
    /// What the query of this letter answered.
    Query(String),
    Call(Function, Box<Node>),
    Binary(Operator, Box<Node>, Box<Node>),
}

type Function = fn(f64) -> f64;
type Operator = fn(f64, f64) -> f64;
type Level = &'static [(&'static str, Operator)];

/// Infix operators; those of a later level bind more tightly.
const OPERATORS: [Level; 6] = [
    &[("||", |a, b| truth(is_true(a) || is_true(b)))],
    &[("&&", |a, b| truth(is_true(a) && is_true(b)))],
    &[
        ("==", |a, b| compared(a, b, a == b)),
        ("!=", |a, b| compared(a, b, a != b)),
        (">=", |a, b| compared(a, b, a >= b)),
        ("<=", |a, b| compared(a, b, a <= b)),
        (">", |a, b| compared(a, b, a > b)),
        ("<", |a, b| compared(a, b, a < b)),
    ],
    &[("+", |a, b| a + b), ("-", |a, b| a - b)],
    &[("*", |a, b| a * b), ("/", |a, b| a / b), ("%", |a, b| a % b)],
    &[("**", f64::powf)],
];

const FUNCTIONS: [(&str, Function); 9] = [
    ("abs", f64::abs),
    ("ceil", f64::ceil),
    ("floor", f64::floor),
    ("round", f64::round),
    ("log", f64::ln),
    ("is_inf", |v| truth(v.is_infinite())),
    ("is_nan", |v| truth(v.is_nan())),
    // What is missing has no point here.
    ("is_null", |_| 0.0),
    ("is_number", |v| truth(v.is_finite())),
];

const CONSTANTS: [(&str, f64); 4] =
    [("nan", f64::NAN), ("null", f64::NAN), ("inf", f64::INFINITY), ("infn", f64::NEG_INFINITY)];

fn truth(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

fn is_true(v: f64) -> bool {
    v != 0.0 && !v.is_nan()
}

fn compared(a: f64, b: f64, holds: bool) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { truth(holds) }
}

/// Reads a text.
///
/// # Errors
/// What is expected instead, and before what.
pub(super) fn parse(text: &str) -> Result<Node, String> {
    let mut parser = Parser { rest: text.trim(), depth: 0 };
    let node = parser.level(0)?;
    match parser.rest {
        "" => Ok(node),
        _ => Err(parser.expected("an operator")),
    }
}

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

impl Parser<'_> {
    fn expected(&self, what: &str) -> String {
        let found: String = self.rest.chars().take(20).collect();
        if found.is_empty() {
            format!("expected {what} at the end")
        } else {
            format!("expected {what} before {found:?}")
        }
    }

    fn take(&mut self, token: &str) -> bool {
        let taken = self.rest.strip_prefix(token).map(str::trim_start);
        self.rest = taken.unwrap_or(self.rest);
        taken.is_some()
    }

    fn operator(&mut self, level: usize) -> Option<Operator> {
        // A product is not the beginning of a power.
        let is_power = self.rest.starts_with("**");
        let found =
            OPERATORS[level].iter().find(|(token, _)| self.rest.starts_with(token) && (*token == "**") == is_power);
        let (token, operator) = found?;
        self.take(token).then_some(*operator)
    }

    fn level(&mut self, level: usize) -> Result<Node, String> {
        if level == OPERATORS.len() {
            return self.operand();
        }
        let mut left = self.level(level + 1)?;
        while let Some(operator) = self.operator(level) {
            left = Node::Binary(operator, Box::new(left), Box::new(self.level(level + 1)?));
        }
        Ok(left)
    }

    fn operand(&mut self) -> Result<Node, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("more than {DEPTH_MAX} expressions inside of each other"));
        }
        let node = self.operand_inside();
        self.depth -= 1;
        node
    }

    fn operand_inside(&mut self) -> Result<Node, String> {
        if self.take("-") {
            return Ok(Node::Call(|v| -v, Box::new(self.operand()?)));
        }
        if self.take("!") {
            return Ok(Node::Call(|v| truth(!is_true(v)), Box::new(self.operand()?)));
        }
        if self.take("(") {
            return self.closed();
        }
        if let Some(after) = self.rest.strip_prefix('$') {
            let (name, rest) = match after.strip_prefix('{') {
                Some(braced) => braced.split_once('}').ok_or_else(|| self.expected("a closing brace"))?,
                None => word(after),
            };
            let name = name.to_owned();
            self.rest = rest.trim_start();
            return Ok(Node::Query(name));
        }
        let (name, rest) = word(self.rest);
        if name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            let constant = CONSTANTS.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
            let function = FUNCTIONS.iter().find(|(n, _)| *n == name).map(|(_, f)| *f);
            if constant.is_none() && function.is_none() {
                return Err(self.expected("a query such as $A, a number or a function"));
            }
            self.rest = rest.trim_start();
            if !self.take("(") {
                return Err(self.expected("an opening parenthesis"));
            }
            return match (constant, function) {
                (Some(v), _) if self.take(")") => Ok(Node::Number(v)),
                (None, Some(f)) => Ok(Node::Call(f, Box::new(self.closed()?))),
                _ => Err(self.expected("a closing parenthesis")),
            };
        }
        self.number()
    }

    /// What is left of an expression in parentheses after the opening one.
    fn closed(&mut self) -> Result<Node, String> {
        let node = self.level(0)?;
        if self.take(")") { Ok(node) } else { Err(self.expected("a closing parenthesis")) }
    }

    fn number(&mut self) -> Result<Node, String> {
        let mut end = 0;
        for (i, c) in self.rest.char_indices() {
            let is_sign = matches!(c, '+' | '-') && self.rest[..i].ends_with(['e', 'E']);
            if !(c.is_ascii_digit() || is_sign || matches!(c, '.' | 'e' | 'E')) {
                break;
            }
            end = i + 1;
        }
        let value =
            self.rest[..end].parse().map_err(|_| self.expected("a query such as $A, a number or a function"))?;
        self.rest = self.rest[end..].trim_start();
        Ok(Node::Number(value))
    }
}

/// The name at the beginning of a text, and what follows it.
fn word(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len()))
}

/// The letters of the queries that a tree is over.
pub(super) fn queries<'a>(node: &'a Node, out: &mut Vec<&'a str>) {
    match node {
        Node::Number(_) => {}
        Node::Query(name) if out.contains(&name.as_str()) => {}
        Node::Query(name) => out.push(name),
        Node::Call(_, of) => queries(of, out),
        Node::Binary(_, a, b) => {
            queries(a, out);
            queries(b, out);
        }
    }
}

/// The series of a tree; `of` gives those of a query.
pub(super) fn evaluate(node: &Node, of: &dyn Fn(&str) -> Vec<Line>) -> Vec<Line> {
    match node {
        Node::Number(v) => vec![Line { labels: Labels::empty(), points: vec![(0, *v)], is_number: true }],
        Node::Query(name) => of(name),
        Node::Call(function, of_node) => {
            let mut lines = evaluate(of_node, of);
            lines.iter_mut().flat_map(|l| &mut l.points).for_each(|(_, v)| *v = function(*v));
            lines
        }
        Node::Binary(operator, a, b) => joined(&evaluate(a, of), &evaluate(b, of), *operator),
    }
}

/// Whether all labels of `part` are among those of `whole`.
fn is_among(part: &Labels, whole: &Labels) -> bool {
    part.len() <= whole.len() && part.iter().all(|(name, value)| whole.get(name) == Some(value))
}

fn joined(left: &[Line], right: &[Line], operator: Operator) -> Vec<Line> {
    let mut out = Vec::new();
    for a in left {
        for b in right {
            let labels = if is_among(&b.labels, &a.labels) {
                &a.labels
            } else if is_among(&a.labels, &b.labels) {
                &b.labels
            } else {
                continue;
            };
            out.push(combined(a, b, labels.clone(), operator));
        }
    }
    match (left, right) {
        ([a], [b]) if out.is_empty() => vec![combined(a, b, Labels::empty(), operator)],
        _ => out,
    }
}

fn combined(a: &Line, b: &Line, labels: Labels, operator: Operator) -> Line {
    let points = match (a.is_number, b.is_number) {
        // The time of one that has one.
        (true, true) => {
            let both = a.points.first().zip(b.points.first());
            both.map(|(x, y)| (x.0.max(y.0), operator(x.1, y.1))).into_iter().collect()
        }
        (true, false) => match a.points.first() {
            Some((_, v)) => b.points.iter().map(|(t, w)| (*t, operator(*v, *w))).collect(),
            None => Vec::new(),
        },
        (false, true) => match b.points.first() {
            Some((_, w)) => a.points.iter().map(|(t, v)| (*t, operator(*v, *w))).collect(),
            None => Vec::new(),
        },
        (false, false) => {
            let mut others = b.points.iter().peekable();
            let at = |(t, v): &(i64, f64)| {
                while others.next_if(|(other, _)| other < t).is_some() {}
                others.next_if(|(other, _)| other == t).map(|(_, w)| (*t, operator(*v, *w)))
            };
            a.points.iter().filter_map(at).collect()
        }
    };
    Line { labels, points, is_number: a.is_number && b.is_number }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(labels: &[(&str, &str)], points: &[(i64, f64)]) -> Line {
        Line { labels: Labels::from_pairs(labels.iter().copied()), points: points.to_vec(), is_number: false }
    }

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let of = |name: &str| match name {
            "A" => vec![
                line(&[("host", "a"), ("job", "x")], &[(0, 8.0), (1, 4.0)]),
                line(&[("host", "b"), ("job", "x")], &[(0, 6.0), (1, f64::NAN)]),
            ],
            "B" => vec![line(&[("host", "a")], &[(1, 2.0), (2, 7.0)]), line(&[("host", "b")], &[(0, 3.0)])],
            "all" => vec![line(&[], &[(0, 2.0), (1, 2.0)])],
            "other" => vec![line(&[("zone", "z")], &[(0, 1.0)])],
            _ => vec![Line { is_number: true, ..line(&[("zone", "z")], &[(5, 10.0)]) }],
        };
        let told = |l: &Line| {
            let points: Vec<String> = l.points.iter().map(|(t, v)| format!("{v}@{t}")).collect();
            format!("{} {}", l.labels, points.join(" "))
        };
        let lines = evaluate(&parse(text).unwrap(), &of);
        assert_eq!(lines.iter().map(told).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn series_meet_where_the_labels_of_one_are_among_those_of_the_other() {
        check("$A / $B", &[r#"{host="a", job="x"} 2@1"#, r#"{host="b", job="x"} 2@0"#]);
        check("$B * ${A}", &[r#"{host="a", job="x"} 8@1"#, r#"{host="b", job="x"} 18@0"#]);
        check("$A - $all", &[r#"{host="a", job="x"} 6@0 2@1"#, r#"{host="b", job="x"} 4@0 NaN@1"#]);
        check("$A + $other", &[]);
        // One and one meet in any case, and have no labels then.
        check("$other + $n", &[r#"{zone="z"} 11@0"#]);
        check("$all + $other", &[r#"{zone="z"} 3@0"#]);
    }

    #[test]
    fn operators_bind_as_in_grafana() {
        for (text, expected) in [
            ("1 + 2 * 3 ** 2", "19"),
            ("-2 ** 2", "4"),
            ("7 % 4 - 1 == 2 && !0", "1"),
            ("(1 + 2) * 3 >= 9 || nan()", "1"),
            ("1 / 0", "inf"),
            ("nan() > 1", "NaN"),
            ("abs(-1.5e+1) + ceil(0.2) + is_nan(nan())", "17"),
            ("is_number(inf()) + is_inf(infn())", "1"),
        ] {
            check(text, &[&format!("{{}} {expected}@0")]);
        }
    }

    #[test]
    fn what_is_no_arithmetic_is_told() {
        for (text, expected) in [
            ("$A +", "expected a query such as $A, a number or a function at the end"),
            ("$A $B", "expected an operator before \"$B\""),
            ("(1", "expected a closing parenthesis at the end"),
            ("${A", "expected a closing brace before \"${A\""),
            ("rate($A)", "expected a query such as $A, a number or a function before \"rate($A)\""),
            ("abs 1", "expected an opening parenthesis before \"1\""),
        ] {
            assert_eq!(parse(text).err().as_deref(), Some(expected), "{text}");
        }
        assert!(parse(&"(".repeat(10_000)).is_err());
    }
}
