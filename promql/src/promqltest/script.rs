//! Script text to commands. A command that cannot be understood is one of the commands, so that the rest still runs.

use promontory_model::{Duration, Labels, Regex};

use super::series::{SeriesValue, parse_metric, parse_number, parse_offsets, parse_series};
use crate::lexer;

/// A command with its line, from 1.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) number: usize,
    pub(super) command: Command,
}

#[derive(Debug)]
pub(super) enum Command {
    Clear,
    Load(Load),
    Eval(Box<Eval>),
    /// What could not be understood: the text and why.
    Bad(String, String),
}

/// Series to append.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) step_ms: i64,
    /// Also converts classic histograms to native ones with custom buckets.
    pub(super) with_nhcb: bool,
    pub(super) series: Vec<LoadSeries>,
}

#[derive(Debug)]
pub(super) struct LoadSeries {
    pub(super) labels: Labels,
    pub(super) values: Vec<SeriesValue>,
    /// Per value, from its time to its start timestamp in ms.
    pub(super) start_offsets: Vec<Option<i64>>,
}

/// When to evaluate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum At {
    Instant(i64),
    Range { start_ms: i64, end_ms: i64, step_ms: i64 },
}

/// A query and all that is expected of it.
#[derive(Debug)]
pub(super) struct Eval {
    pub(super) query: String,
    pub(super) at: At,
    pub(super) ordered: bool,
    pub(super) fail: Vec<Pattern>,
    pub(super) warn: Vec<Pattern>,
    pub(super) info: Vec<Pattern>,
    pub(super) no_warn: bool,
    pub(super) no_info: bool,
    pub(super) result: Expected,
}

/// The expected value.
#[derive(Debug)]
pub(super) enum Expected {
    Scalar(f64),
    String(String),
    /// Series in order; instant values have one sample each.
    Series(Vec<(Labels, Vec<SeriesValue>)>),
    /// A range vector of an instant query; values are at these times.
    RangeVector {
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
        series: Vec<(Labels, Vec<SeriesValue>)>,
    },
}

/// A text that an error or annotation must contain, or an expression that it must match.
#[derive(Debug)]
pub(super) enum Pattern {
    Contains(String),
    Matches(Regex),
}

impl Pattern {
    pub(super) fn fits(&self, text: &str) -> bool {
        match self {
            Self::Contains(part) => part.is_empty() || text == part.as_str(),
            Self::Matches(regex) => regex.is_match(text),
        }
    }
}

/// Reads a script.
pub(super) fn parse(text: &str) -> Vec<Line> {
    let lines: Vec<&str> = text.lines().map(str::trim).map(|l| if l.starts_with('#') { "" } else { l }).collect();
    let mut commands = Vec::new();
    let mut i = 0;
    while i < lines.len() {
        let line = lines[i];
        if line.is_empty() {
            i += 1;
            continue;
        }
        let end = lines[i..].iter().position(|l| l.is_empty()).map_or(lines.len(), |n| i + n);
        let word = line.split_whitespace().next().unwrap_or("");
        let (command, used) = if word == "clear" {
            (Ok(Command::Clear), 1)
        } else if word.starts_with("load") {
            (load(line, &lines[i + 1..end]).map(Command::Load), end - i)
        } else if word.starts_with("eval") {
            let (eval, used) = eval(line, &lines[i + 1..end]);
            (eval.map(|e| Command::Eval(Box::new(e))), used + 1)
        } else {
            (Err(format!("invalid command {word:?}")), 1)
        };
        let command = command.unwrap_or_else(|why| Command::Bad(line.to_owned(), why));
        commands.push(Line { number: i + 1, command });
        i += used;
    }
    commands
}

fn load(head: &str, lines: &[&str]) -> Result<Load, String> {
    let (word, step) = head.split_once(char::is_whitespace).ok_or("load needs a step")?;
    let with_nhcb = match word {
        "load" => false,
        "load_with_nhcb" => true,
        other => return Err(format!("invalid command {other:?}")),
    };
    let step_ms = time(step.trim())?;
    let mut series = Vec::new();
    let mut starts: Option<(Labels, Vec<Option<i64>>)> = None;
    for line in lines {
        let (labels, rest) = parse_metric(line)?;
        if let Some(offsets) = rest.strip_prefix("@st") {
            starts = Some((labels, parse_offsets(offsets)?));
            continue;
        }
        let (labels, values) = parse_series(line)?;
        let start_offsets = match starts.take() {
            Some((of, offsets)) if of == labels && offsets.len() == values.len() => offsets,
            Some((of, _)) => return Err(format!("start timestamps of {of} do not fit the samples of {labels}")),
            None => Vec::new(),
        };
        // Of two lines for the same series the last one counts.
        series.retain(|s: &LoadSeries| s.labels != labels);
        series.push(LoadSeries { labels, values, start_offsets });
    }
    Ok(Load { step_ms, with_nhcb, series })
}

/// Milliseconds of a duration or a number of seconds, perhaps negative.
fn time(text: &str) -> Result<i64, String> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    if let Ok(d) = Duration::parse(digits) {
        return Ok(sign * d.ms());
    }
    let seconds: f64 = digits.parse().map_err(|_| format!("invalid time {text:?}"))?;
    Ok(sign * (seconds * 1000.0).round() as i64)
}

/// An eval and how many of the lines belong to it.
fn eval(head: &str, lines: &[&str]) -> (Result<Eval, String>, usize) {
    let mut eval = match eval_head(head) {
        Ok(eval) => eval,
        Err(why) => return (Err(why), lines.len()),
    };
    for (i, line) in lines.iter().enumerate() {
        match eval.add(line) {
            Ok(false) => {}
            Ok(true) => return (eval.checked(), i + 1),
            Err(why) => return (Err(format!("{why} in {line:?}")), lines.len()),
        }
    }
    (eval.checked(), lines.len())
}

fn eval_head(head: &str) -> Result<Eval, String> {
    let (word, rest) = head.split_once(char::is_whitespace).ok_or("eval needs a query")?;
    let mut eval = Eval {
        query: String::new(),
        at: At::Instant(0),
        ordered: false,
        fail: Vec::new(),
        warn: Vec::new(),
        info: Vec::new(),
        no_warn: false,
        no_info: false,
        result: Expected::Series(Vec::new()),
    };
    let anything = || Pattern::Contains(String::new());
    match word {
        "eval" => {}
        "eval_fail" => eval.fail.push(anything()),
        "eval_warn" => eval.warn.push(anything()),
        "eval_info" => eval.info.push(anything()),
        "eval_ordered" => eval.ordered = true,
        other => return Err(format!("invalid command {other:?}")),
    }
    let mut words = Words { rest };
    match words.next()? {
        "instant" => {
            let mut t = 0;
            if words.peek() == "at" {
                words.next()?;
                t = time(words.next()?)?;
            }
            eval.at = At::Instant(t);
        }
        "range" => {
            words.expect("from")?;
            let start_ms = time(words.next()?)?;
            words.expect("to")?;
            let end_ms = time(words.next()?)?;
            words.expect("step")?;
            let step_ms = time(words.next()?)?;
            if end_ms < start_ms || step_ms <= 0 {
                return Err("range must have an end after its start and a positive step".to_owned());
            }
            eval.at = At::Range { start_ms, end_ms, step_ms };
        }
        other => return Err(format!("expected instant or range, found {other:?}")),
    }
    words.rest.trim().clone_into(&mut eval.query);
    Ok(eval)
}

struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    fn peek(&self) -> &'a str {
        self.rest.split_whitespace().next().unwrap_or("")
    }

    fn next(&mut self) -> Result<&'a str, String> {
        let word = self.peek();
        if word.is_empty() {
            return Err("eval command ends early".to_owned());
        }
        self.rest = &self.rest.trim_start()[word.len()..];
        Ok(word)
    }

    fn expect(&mut self, expected: &str) -> Result<(), String> {
        let word = self.next()?;
        if word == expected { Ok(()) } else { Err(format!("expected {expected:?}, found {word:?}")) }
    }
}

impl Eval {
    /// Takes one line after the head; answers whether it was the last.
    fn add(&mut self, line: &str) -> Result<bool, String> {
        if let Some(message) = line.strip_prefix("expected_fail_message") {
            self.fail = vec![Pattern::Contains(message.trim().to_owned())];
            return Ok(true);
        }
        if let Some(regex) = line.strip_prefix("expected_fail_regexp") {
            self.fail = vec![search(regex.trim())?];
            return Ok(true);
        }
        if let Some(rest) = line.strip_prefix("expect ") {
            return self.expect(rest.trim()).map(|()| false);
        }
        if let Ok(number) = parse_number(line) {
            self.result = Expected::Scalar(number);
            return Ok(true);
        }
        let series = parse_series(line)?;
        match &mut self.result {
            Expected::Series(all) | Expected::RangeVector { series: all, .. } => all.push(series),
            Expected::Scalar(_) | Expected::String(_) => return Err("series after a scalar or string".to_owned()),
        }
        Ok(false)
    }

    fn expect(&mut self, what: &str) -> Result<(), String> {
        if let Some(text) = what.strip_prefix("string ") {
            let text = text.trim();
            if !(text.len() >= 2 && text.starts_with(['"', '\'', '`'])) {
                return Err("expected a quoted string".to_owned());
            }
            self.result = Expected::String(String::from_utf8_lossy(&lexer::unquote(text)).into_owned());
            return Ok(());
        }
        if let Some(times) = what.strip_prefix("range vector") {
            let mut words = Words { rest: times };
            words.expect("from")?;
            let start_ms = time(words.next()?)?;
            words.expect("to")?;
            let end_ms = time(words.next()?)?;
            words.expect("step")?;
            let step_ms = time(words.next()?)?;
            self.result = Expected::RangeVector { start_ms, end_ms, step_ms, series: Vec::new() };
            return Ok(());
        }
        let (kind, pattern) = match what.split_once(char::is_whitespace) {
            Some((kind, pattern)) => (kind, pattern.trim()),
            None => (what, ""),
        };
        let pattern = if let Some(message) = pattern.strip_prefix("msg:") {
            Pattern::Contains(message.trim().to_owned())
        } else if let Some(regex) = pattern.strip_prefix("regex:") {
            search(regex.trim())?
        } else if pattern.is_empty() {
            Pattern::Contains(String::new())
        } else {
            return Err("expected msg: or regex:".to_owned());
        };
        match kind {
            "fail" => self.fail.push(pattern),
            "warn" => self.warn.push(pattern),
            "info" => self.info.push(pattern),
            "no_warn" => self.no_warn = true,
            "no_info" => self.no_info = true,
            "ordered" => self.ordered = true,
            other => return Err(format!("unknown expectation {other:?}")),
        }
        Ok(())
    }

    fn checked(self) -> Result<Self, String> {
        if self.no_warn && !self.warn.is_empty() {
            return Err("expect warn and no_warn exclude each other".to_owned());
        }
        if self.no_info && !self.info.is_empty() {
            return Err("expect info and no_info exclude each other".to_owned());
        }
        if self.fail.len() > 1 {
            return Err("expect fail may be given once".to_owned());
        }
        Ok(self)
    }
}

/// The expression may match anywhere in the text.
fn search(regex: &str) -> Result<Pattern, String> {
    Regex::new(&format!(".*(?:{regex}).*")).map(Pattern::Matches).map_err(|e| e.to_string())
}
