//! From YAML nodes to values: typed access to fields that notes every problem with its place and goes on.
//!
//! A getter that meets a wrong value notes it and answers `None`, so that the caller takes the default and the other
//! errors are found as well. Nobody may use what was decoded while [`Decoder::into_problems`] is not empty.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use promontory_model::{Duration, Regex};

use crate::error::{Problem, nearest};
use crate::yaml::{self, Kind, Node, NodeId, Resolved, Scalar};

/// Errors reported of one file.
const PROBLEMS_MAX: usize = 100;

/// A problem with the number of the node that has it.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) id: NodeId,
    pub(crate) field: String,
    pub(crate) problem: Problem,
}

/// Looks a variable of the environment up.
pub(crate) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Collects problems while one file is decoded.
pub(crate) struct Decoder<'a> {
    found: RefCell<Vec<Found>>,
    /// Words that are wrong only if they are quoted.
    if_quoted: RefCell<Vec<(String, Found)>>,
    warnings: RefCell<Vec<String>>,
    base_dir: &'a Path,
    env: Env<'a>,
}

impl<'a> Decoder<'a> {
    /// For a file in `base_dir`.
    pub(crate) fn new(base_dir: &'a Path, env: Env<'a>) -> Self {
        Self { found: RefCell::default(), if_quoted: RefCell::default(), warnings: RefCell::default(), base_dir, env }
    }

    /// The field that is the whole document.
    pub(crate) fn root<'n>(&'n self, node: &'n Node) -> Field<'n> {
        Field { decoder: self, node, path: String::new() }
    }

    /// What is wrong with a file of this `text`, and what is only strange.
    pub(crate) fn into_problems(self, text: &str) -> (Vec<Found>, Vec<String>) {
        let mut found = self.found.into_inner();
        let words = self.if_quoted.into_inner().into_iter();
        // To find a place takes as long as to read the text, so few are looked at.
        let possible = words.filter(|(word, _)| is_somewhere_quoted(text, word)).take(PROBLEMS_MAX);
        found.extend(possible.map(|(_, found)| found).filter(|found| yaml::is_quoted(text, found.id)));
        (found, self.warnings.into_inner())
    }

    /// How many problems were noted.
    pub(crate) fn n_problems(&self) -> usize {
        self.found.borrow().len()
    }

    /// Where relative paths start.
    pub(crate) fn base_dir(&self) -> &Path {
        self.base_dir
    }

    /// The environment.
    pub(crate) fn environment(&self) -> Env<'a> {
        self.env
    }

    /// Notes what is strange but no error.
    pub(crate) fn warn(&self, text: String) {
        self.warnings.borrow_mut().push(text);
    }

    pub(crate) fn note(&self, id: NodeId, field: String, problem: Problem) {
        let mut found = self.found.borrow_mut();
        if found.len() < PROBLEMS_MAX {
            found.push(Found { id, field, problem });
        }
    }
}

fn is_somewhere_quoted(text: &str, word: &str) -> bool {
    text.contains(&format!("\"{word}\"")) || text.contains(&format!("'{word}'"))
}

/// One value with its path.
#[derive(Clone)]
pub(crate) struct Field<'a> {
    decoder: &'a Decoder<'a>,
    node: &'a Node,
    path: String,
}

impl<'a> Field<'a> {
    /// Notes a problem with this value.
    pub(crate) fn problem(&self, problem: impl Into<Problem>) {
        self.decoder.note(self.node.id, self.path.clone(), problem.into());
    }

    /// Notes that a rule is broken.
    pub(crate) fn rule(&self, text: impl Into<String>) {
        self.problem(Problem::Rule(text.into()));
    }

    pub(crate) fn decoder(&self) -> &'a Decoder<'a> {
        self.decoder
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    fn wrong<T>(&self, expected: &'static str) -> Option<T> {
        self.problem(Problem::WrongType { expected, found: self.node.describe() });
        None
    }

    fn scalar(&self, expected: &'static str) -> Option<&'a Scalar> {
        match &self.node.kind {
            Kind::Scalar(s) => Some(s),
            _ => self.wrong(expected),
        }
    }

    /// Any scalar as written; nothing is the empty text.
    pub(crate) fn text(&self) -> Option<&'a str> {
        match &self.node.kind {
            Kind::Null => Some(""),
            _ => self.scalar("a text").map(|s| s.text.as_str()),
        }
    }

    /// `true`, `false`, and the other words of YAML 1.1 that Go's library takes where they are not quoted.
    pub(crate) fn bool(&self) -> Option<bool> {
        let expected = "true or false";
        let scalar = self.scalar(expected)?;
        let word = match (scalar.resolved, scalar.text.as_str()) {
            (Resolved::Bool(b), _) => return Some(b),
            (_, "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON") => true,
            (_, "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF") => false,
            _ => return self.wrong(expected),
        };
        let problem = Problem::WrongType { expected, found: self.node.describe() };
        let found = Found { id: self.node.id, field: self.path.clone(), problem };
        self.decoder.if_quoted.borrow_mut().push((scalar.text.clone(), found));
        Some(word)
    }

    /// A whole number of at least 0, with the notations that Go's library takes.
    pub(crate) fn u64(&self) -> Option<u64> {
        let scalar = self.scalar("a whole number")?;
        parse_u64(&scalar.text).or_else(|| self.wrong("a whole number of at least 0"))
    }

    /// A number of things that may be negative, which is none.
    pub(crate) fn count(&self) -> Option<u64> {
        let scalar = self.scalar("a whole number")?;
        let count = match scalar.text.strip_prefix('-') {
            Some(digits) => parse_u64(digits).map(|_| 0),
            None => parse_u64(&scalar.text),
        };
        count.or_else(|| self.wrong("a whole number"))
    }

    /// A number of at least 0.
    pub(crate) fn f64(&self) -> Option<f64> {
        let scalar = self.scalar("a number")?;
        let number = scalar.text.parse().ok().filter(|n: &f64| n.is_finite() && *n >= 0.0);
        number.or_else(|| self.wrong("a number of at least 0"))
    }

    /// A number from 0 to 100.
    pub(crate) fn percent(&self) -> Option<f64> {
        let scalar = self.scalar("a percentage")?;
        let percent = scalar.text.parse().ok().filter(|p| (0.0..=100.0).contains(p));
        percent.or_else(|| self.wrong("a number from 0 to 100"))
    }

    /// `1h30m`.
    pub(crate) fn duration(&self) -> Option<Duration> {
        let scalar = self.scalar("a duration like 1m30s")?;
        Duration::parse(&scalar.text).map_err(|e| self.problem(e)).ok()
    }

    /// `512MB`.
    pub(crate) fn bytes(&self) -> Option<u64> {
        let scalar = self.scalar("a size like 512MB")?;
        parse_bytes(&scalar.text).or_else(|| self.wrong("a size like 512MB"))
    }

    /// A regular expression; nothing is the empty one.
    pub(crate) fn regex(&self) -> Option<Regex> {
        Regex::new(self.text()?).map_err(|e| self.problem(e)).ok()
    }

    /// A path; relative ones start at the file's folder.
    pub(crate) fn path_buf(&self) -> Option<PathBuf> {
        self.text().map(|t| self.decoder.base_dir.join(t))
    }

    /// One of these names, exactly as written.
    pub(crate) fn one_of<T: Copy>(&self, names: &[(&'static str, T)]) -> Option<T> {
        let text = self.text()?;
        if let Some((_, value)) = names.iter().find(|(n, _)| *n == text) {
            return Some(*value);
        }
        self.not_one_of(text, names);
        None
    }

    pub(crate) fn not_one_of<T>(&self, value: &str, names: &[(&'static str, T)]) {
        // What may be left out may be empty too, but nobody means that.
        let names = || names.iter().map(|(name, _)| *name).filter(|name| !name.is_empty());
        let allowed = names().collect::<Vec<_>>().join(", ");
        let nearest = nearest(value, names());
        self.problem(Problem::NotOneOf { value: value.to_owned(), allowed, nearest });
    }

    /// Whether it is a list, be it empty.
    pub(crate) fn is_list(&self) -> bool {
        matches!(self.node.kind, Kind::Null | Kind::List(_))
    }

    /// The items of a list; nothing is an empty one.
    pub(crate) fn list(&self) -> Vec<Field<'a>> {
        match &self.node.kind {
            Kind::Null => Vec::new(),
            Kind::List(items) => items
                .iter()
                .enumerate()
                .map(|(i, node)| Field { decoder: self.decoder, node, path: format!("{}[{i}]", self.path) })
                .collect(),
            _ => self.wrong("a list").unwrap_or_default(),
        }
    }

    /// The texts of a list.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.list().iter().filter_map(|item| item.text().map(str::to_owned)).collect()
    }

    /// The pairs of a map whose keys are free; nothing is an empty one.
    pub(crate) fn entries(&self) -> Vec<(&'a str, Field<'a>)> {
        match &self.node.kind {
            Kind::Null => Vec::new(),
            Kind::Map(entries) => entries
                .iter()
                .map(|e| (e.key.as_str(), Field { decoder: self.decoder, node: &e.value, path: self.join(&e.key) }))
                .collect(),
            _ => self.wrong("a map").unwrap_or_default(),
        }
    }

    /// The fields of a map whose keys are known.
    pub(crate) fn fields(&self) -> Option<Fields<'a>> {
        match &self.node.kind {
            Kind::Map(_) => Some(Fields { of: self.clone(), known: RefCell::default() }),
            _ => self.wrong("a map of fields"),
        }
    }

    fn join(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

/// A field of Prometheus that this server does not build yet, with the values that ask for nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NotBuilt {
    pub(crate) name: &'static str,
    pub(crate) harmless: Harmless,
    /// What this server does not do.
    pub(crate) reason: &'static str,
}

/// Values under which a field changes nothing. Null and empty ones always do.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Harmless {
    /// Nothing else.
    Empty,
    /// `0`, `0s`.
    Zero,
    /// What this says.
    If(fn(&Node) -> bool),
}

impl NotBuilt {
    pub(crate) const fn new(name: &'static str, harmless: Harmless) -> Self {
        Self { name, harmless, reason: "" }
    }

    /// The same with the reason, as a clause.
    pub(crate) const fn because(name: &'static str, harmless: Harmless, reason: &'static str) -> Self {
        Self { name, harmless, reason }
    }

    fn is_harmless(&self, node: &Node) -> bool {
        if node.is_empty() {
            return true;
        }
        match (self.harmless, &node.kind) {
            (Harmless::Zero, Kind::Scalar(s)) => matches!(s.text.as_str(), "0" | "0s" | "0.0"),
            (Harmless::If(check), _) => check(node),
            _ => false,
        }
    }
}

/// The fields of one map. Every name asked for is known; [`Fields::finish`] reports all others.
pub(crate) struct Fields<'a> {
    of: Field<'a>,
    known: RefCell<Vec<&'static str>>,
}

impl<'a> Fields<'a> {
    /// The map itself.
    pub(crate) fn map(&self) -> &Field<'a> {
        &self.of
    }

    /// The field `name`, when it is there and not null.
    pub(crate) fn get(&self, name: &'static str) -> Option<Field<'a>> {
        self.get_or_null(name).filter(|f| f.node.kind != Kind::Null)
    }

    /// The field `name`, when it is there, even if null: for where null and absent differ.
    pub(crate) fn get_or_null(&self, name: &'static str) -> Option<Field<'a>> {
        self.known.borrow_mut().push(name);
        let node = self.of.node.get(name)?;
        Some(Field { decoder: self.of.decoder, node, path: self.of.join(name) })
    }

    /// The text `name`; `None` when absent or empty.
    pub(crate) fn text(&self, name: &'static str) -> Option<String> {
        self.get(name)?.text().filter(|t| !t.is_empty()).map(str::to_owned)
    }

    pub(crate) fn bool_or(&self, name: &'static str, default: bool) -> bool {
        self.get(name).and_then(|f| f.bool()).unwrap_or(default)
    }

    pub(crate) fn path_buf(&self, name: &'static str) -> Option<PathBuf> {
        self.get(name).filter(|f| !f.node.is_empty()).and_then(|f| f.path_buf())
    }

    /// The items of the list `name`; none when absent.
    pub(crate) fn list(&self, name: &'static str) -> Vec<Field<'a>> {
        self.get(name).map(|f| f.list()).unwrap_or_default()
    }

    /// Notes that `name` has no value.
    pub(crate) fn missing(&self, name: &'static str) {
        let at = self.get(name);
        at.as_ref().unwrap_or(&self.of).problem(Problem::Missing(name));
    }

    /// Reports the fields that nobody asked for: those of `not_built` as not supported, others as unknown.
    pub(crate) fn finish(self, not_built: &[&[NotBuilt]]) {
        let Kind::Map(entries) = &self.of.node.kind else { return };
        let known = self.known.into_inner();
        let not_built = || not_built.iter().flat_map(|list| list.iter());
        for entry in entries.iter().filter(|e| !known.contains(&e.key.as_str())) {
            let field = self.of.join(&entry.key);
            let problem = match not_built().find(|f| f.name == entry.key) {
                Some(f) if f.is_harmless(&entry.value) => continue,
                Some(f) => Problem::NotSupported { name: f.name, reason: f.reason },
                None => {
                    let names = known.iter().copied().chain(not_built().map(|f| f.name));
                    Problem::UnknownField { name: entry.key.clone(), nearest: nearest(&entry.key, names) }
                }
            };
            let field = if matches!(problem, Problem::UnknownField { .. }) { self.of.path.clone() } else { field };
            self.of.decoder.note(entry.key_id, field, problem);
        }
    }
}

fn parse_u64(text: &str) -> Option<u64> {
    let plain = text.replace('_', "");
    let digits = plain.strip_prefix('+').unwrap_or(&plain);
    let (radix, digits) = match digits.get(..2) {
        Some("0x") => (16, &digits[2..]),
        Some("0b") => (2, &digits[2..]),
        Some("0o") => (8, &digits[2..]),
        Some(_) if digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit()) => (8, digits),
        _ => (10, digits),
    };
    if let Ok(n) = u64::from_str_radix(digits, radix) {
        return (!digits.starts_with('+')).then_some(n);
    }
    // A float without fraction is taken for an integer.
    let float: f64 = plain.parse().ok()?;
    (float.fract() == 0.0 && (0.0..9e15).contains(&float)).then_some(float as u64)
}

/// Units of sizes, powers of 1024.
const BYTE_UNITS: [&str; 7] = ["B", "KB", "MB", "GB", "TB", "PB", "EB"];

/// Reads `1GB512MB`; a unit is required except after a lone `0`.
fn parse_bytes(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut total: f64 = 0.0;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| c.is_ascii_alphabetic())?;
        let (number, after) = rest.split_at(unit_at);
        let end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let number: f64 = if is_number { number.parse().ok()? } else { return None };
        let unit = unit.replacen("iB", "B", 1);
        let power = BYTE_UNITS.iter().position(|u| *u == unit)?;
        total += number * 1024_f64.powi(i32::try_from(power).ok()?);
        rest = after;
    }
    (!text.is_empty() && total < 9.2e18).then_some(total as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_take_the_notations_of_go() {
        for (text, expected) in [
            ("12", Some(12)),
            ("1_000", Some(1000)),
            ("0x1F", Some(31)),
            ("010", Some(8)),
            ("1e3", Some(1000)),
            ("+5", Some(5)),
            ("0", Some(0)),
            ("-1", None),
            ("1.5", None),
            ("x", None),
            ("", None),
            ("++5", None),
        ] {
            assert_eq!(parse_u64(text), expected, "{text}");
        }
    }

    #[test]
    fn sizes_need_a_unit() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1KB", Some(1024)),
            ("1.5MB", Some(1536 * 1024)),
            ("1GiB", Some(1 << 30)),
            ("1GB512MB", Some((1 << 30) + (512 << 20))),
            ("15", None),
            ("1XB", None),
            ("-1KB", None),
            ("", None),
            ("99999EB", None),
        ] {
            assert_eq!(parse_bytes(text), expected, "{text}");
        }
    }
}
