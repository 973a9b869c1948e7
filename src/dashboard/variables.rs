//! The variables of a page: their options, asked of the data source, and what is chosen.
//!
//! Variables are resolved in the order of their references, each once per request.
//!
//! # Source
//! Query forms, the regular expression, sorting and the choice on load are Grafana's.

use promontory_model::{Cancel, TimeRange};
use promontory_promql::value::{SampleValue, Value};

use super::adhoc::{self, Filter};
use super::interpolate::{Binding, Context, interpolate, names};
use super::model::{VariableDef, VariableKind};
use super::pattern::Pattern;
use super::source::{DataSource, SourceError};
use super::timerange::{Window, interval_text, parse_interval, round_interval};

/// The value that stands for all options.
pub(crate) const ALL: &str = "$__all";
/// Options that one variable keeps.
const OPTIONS_MAX: usize = 5_000;
/// Series that a query variable reads.
const SERIES_MAX: usize = 20_000;

/// One choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) text: String,
    pub(crate) value: String,
}

/// A variable with its options and what is chosen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Variable {
    pub(crate) def: VariableDef,
    pub(crate) options: Vec<Choice>,
    /// Values; [`ALL`] alone for all.
    pub(crate) selected: Vec<String>,
    /// Why the options could not be found.
    pub(crate) error: Option<String>,
}

impl Variable {
    /// Whether all options are chosen by one word.
    pub(crate) fn is_all(&self) -> bool {
        self.selected.first().is_some_and(|s| s == ALL)
    }

    /// The values that stand for the variable, one by one.
    pub(crate) fn values(&self) -> Vec<String> {
        if self.is_all() { self.options.iter().map(|o| o.value.clone()).collect() } else { self.selected.clone() }
    }

    /// What a person reads.
    pub(crate) fn text(&self) -> String {
        if self.is_all() {
            return "All".to_owned();
        }
        let text = |v: &String| self.options.iter().find(|o| o.value == *v).map_or(v.clone(), |o| o.text.clone());
        self.selected.iter().map(text).collect::<Vec<_>>().join(" + ")
    }

    fn binding(&self) -> Binding {
        Binding {
            values: self.values(),
            text: self.text(),
            multi: self.def.multi || self.def.include_all,
            raw_all: (self.is_all() && !self.def.all_value.is_empty()).then(|| self.def.all_value.clone()),
        }
    }
}

/// All variables of a page.
#[derive(Debug, Clone, Default)]
pub(crate) struct Variables {
    pub(crate) all: Vec<Variable>,
}

impl Variables {
    /// What `name` stands for.
    pub(crate) fn binding(&self, name: &str) -> Option<Binding> {
        self.all.iter().find(|v| v.def.name == name).map(Variable::binding)
    }

    /// The conditions of all ad hoc variables.
    pub(crate) fn filters(&self) -> Vec<Filter> {
        let adhoc = self.all.iter().filter(|v| v.def.kind == VariableKind::Adhoc);
        adhoc.filter_map(|v| adhoc::read(&v.selected).ok()).flatten().collect()
    }

    /// The variable of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&Variable> {
        self.all.iter().find(|v| v.def.name == name)
    }

    /// Parameters of an address that give the same choice.
    pub(crate) fn params(&self) -> Vec<(String, String)> {
        self.all
            .iter()
            .flat_map(|v| v.selected.iter().map(move |s| (format!("var-{}", v.def.name), s.clone())))
            .collect()
    }
}

/// Resolves `defs` in the order of their references. `chosen` answers what the address says of a variable.
pub(crate) fn resolve(
    defs: &[VariableDef],
    chosen: &dyn Fn(&str) -> Option<Vec<String>>,
    window: &Window,
    source: &dyn DataSource,
    cancel: &Cancel,
) -> Variables {
    let mut done = Variables::default();
    for index in order(defs) {
        let def = &defs[index];
        let lookup = |name: &str| done.binding(name).or_else(|| window_binding(name, window));
        let (options, error) = match options(def, window, source, cancel, &lookup) {
            Ok(options) => (options, None),
            Err(e) => (Vec::new(), Some(e)),
        };
        let selected = select(def, &options, chosen(&def.name));
        let error = match def.kind {
            VariableKind::Adhoc => adhoc::read(&selected).err(),
            _ => error,
        };
        done.all.push(Variable { def: def.clone(), options, selected, error });
    }
    // Pickers stand in the order of the file.
    let position = |name: &str| defs.iter().position(|d| d.name == name);
    done.all.sort_by_key(|v| position(&v.def.name));
    done
}

/// Built-in names that depend on the window only.
pub(crate) fn window_binding(name: &str, window: &Window) -> Option<Binding> {
    let length = window.length_ms();
    Some(Binding::plain(match name {
        "__from" => window.from_ms.to_string(),
        "__to" => window.to_ms.to_string(),
        "__range" => format!("{}s", (length + 500) / 1000),
        "__range_s" => ((length + 500) / 1000).to_string(),
        "__range_ms" => length.to_string(),
        // A rate inside a variable's query has no panel width; this is what a panel of usual width would take.
        "__rate_interval" => interval_text((4 * 15_000).max(round_interval(length / 1000) + 15_000)),
        "__interval" => interval_text(round_interval(length / 1000).max(15_000)),
        "__interval_ms" => round_interval(length / 1000).max(15_000).to_string(),
        _ => return None,
    }))
}

/// Indexes such that a variable comes after those it refers to; members of a cycle keep their place.
fn order(defs: &[VariableDef]) -> Vec<usize> {
    let needs: Vec<Vec<usize>> = defs
        .iter()
        .map(|d| {
            let texts = [d.query.as_str(), d.regex.as_str()];
            let referred = texts.iter().flat_map(|t| names(t));
            referred.filter_map(|n| defs.iter().position(|other| other.name == n && other.name != d.name)).collect()
        })
        .collect();
    let mut out: Vec<usize> = Vec::with_capacity(defs.len());
    while out.len() < defs.len() {
        let ready = (0..defs.len()).find(|i| !out.contains(i) && needs[*i].iter().all(|n| out.contains(n)));
        match ready.or_else(|| (0..defs.len()).find(|i| !out.contains(i))) {
            Some(i) => out.push(i),
            None => break,
        }
    }
    out
}

type Found = Result<Vec<Choice>, String>;

fn options(
    def: &VariableDef,
    window: &Window,
    source: &dyn DataSource,
    cancel: &Cancel,
    lookup: &dyn Fn(&str) -> Option<Binding>,
) -> Found {
    let plain = |values: Vec<String>| values.into_iter().map(|v| Choice { text: v.clone(), value: v }).collect();
    match def.kind {
        VariableKind::Custom => Ok(custom(&interpolate(&def.query, Context::Text, lookup))),
        VariableKind::Adhoc => Ok(Vec::new()),
        VariableKind::Constant | VariableKind::Textbox => Ok(plain(vec![def.query.clone()])),
        VariableKind::Datasource => Ok(plain(vec!["Promontory".to_owned()])),
        VariableKind::Other => Ok(Vec::new()),
        VariableKind::Interval => {
            let mut all: Vec<Choice> = Vec::new();
            if let Some(count) = def.auto_count {
                let least = parse_interval(&def.auto_min).unwrap_or(10_000);
                let auto = interval_text(round_interval(window.length_ms() / count).max(least));
                all.push(Choice { text: "auto".to_owned(), value: auto });
            }
            all.extend(custom(&def.query));
            Ok(all)
        }
        VariableKind::Query => {
            let query = interpolate(def.query.trim(), Context::PromQl, lookup);
            let regex = interpolate(&def.regex, Context::Text, lookup);
            let found = ask(&query, window, source, cancel).map_err(|e| e.to_string())?;
            let mut all = filter(found, &regex)?;
            sort(&mut all, def.sort);
            all.truncate(OPTIONS_MAX);
            Ok(all)
        }
    }
}

/// Runs a variable's query.
fn ask(query: &str, window: &Window, source: &dyn DataSource, cancel: &Cancel) -> Result<Vec<String>, SourceError> {
    let range = TimeRange::new(window.from_ms, window.to_ms);
    if query.is_empty() {
        return Ok(Vec::new());
    }
    if let Some(arguments) = call(query, "label_values") {
        // The label is what follows the last comma outside of braces and quotes.
        let (selector, label) = match last_comma(arguments) {
            Some(comma) => (Some(arguments[..comma].trim()), arguments[comma + 1..].trim()),
            None => (None, arguments.trim()),
        };
        let selector = selector.filter(|s| !s.is_empty() && *s != "{}");
        return source.label_values(label.trim_matches('"'), selector, range, cancel);
    }
    if let Some(arguments) = call(query, "label_names") {
        let selector = Some(arguments.trim()).filter(|s| !s.is_empty());
        return source.label_names(selector, range, cancel);
    }
    if let Some(arguments) = call(query, "metrics") {
        let names = source.label_values("__name__", None, range, cancel)?;
        let pattern = regex::Regex::new(arguments.trim().trim_matches('"'));
        return Ok(names.into_iter().filter(|n| pattern.as_ref().is_ok_and(|p| p.is_match(n))).collect());
    }
    if let Some(arguments) = call(query, "query_result") {
        let output = source.instant(arguments, window.to_ms, cancel)?;
        return Ok(result_lines(&output.value));
    }
    let series = source.series(query, range, cancel)?;
    Ok(series.iter().take(SERIES_MAX).map(series_text).collect())
}

/// The inside of `name(…)`.
fn call<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.trim().strip_prefix(name)?.trim_start().strip_prefix('(')?.trim_end().strip_suffix(')')
}

fn last_comma(text: &str) -> Option<usize> {
    let (mut depth, mut quote, mut escaped, mut found) = (0i32, None, false, None);
    for (i, c) in text.char_indices() {
        match (quote, c) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(q), c) if q == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'' | '`') => quote = Some(c),
            (None, '{' | '(' | '[') => depth += 1,
            (None, '}' | ')' | ']') => depth -= 1,
            (None, ',') if depth == 0 => found = Some(i),
            _ => {}
        }
    }
    found
}

/// `up{job="a"}`; the form on which a variable's regular expression works.
fn series_text(labels: &promontory_model::Labels) -> String {
    let rest: Vec<String> = labels
        .iter()
        .filter(|(n, _)| *n != promontory_model::METRIC_NAME)
        .map(|(n, v)| format!("{n}=\"{}\"", v.replace('\\', "\\\\").replace('"', "\\\"")))
        .collect();
    format!("{}{{{}}}", labels.metric_name(), rest.join(","))
}

fn result_lines(value: &Value) -> Vec<String> {
    let number = super::units::js_number;
    match value {
        Value::Scalar(t, v) => vec![format!("{} {t}", number(*v))],
        Value::String(_, text) => vec![text.clone()],
        Value::Vector(samples) => samples
            .iter()
            .take(SERIES_MAX)
            .filter_map(|s| match &s.value {
                SampleValue::Float(v) => Some(format!("{} {} {}", series_text(&s.labels), number(*v), s.t)),
                SampleValue::Histogram(_) => None,
            })
            .collect(),
        Value::Matrix(_) => Vec::new(),
    }
}

/// Keeps what the regular expression matches, cut down to its group; unique, in first-seen order.
fn filter(found: Vec<String>, pattern: &str) -> Found {
    let mut seen = std::collections::HashSet::new();
    let keep = |choice: Choice, seen: &mut std::collections::HashSet<String>| {
        (!choice.value.is_empty() && seen.insert(choice.value.clone())).then_some(choice)
    };
    if pattern.is_empty() {
        return Ok(found.into_iter().filter_map(|v| keep(Choice { text: v.clone(), value: v }, &mut seen)).collect());
    }
    let regex = Pattern::new(pattern).map_err(|e| format!("regex {pattern}: {e}"))?;
    let choice = |line: &str| {
        let captures = regex.captures(line)?;
        let group = |name: &str| captures.name(name).map(|m| m.as_str().to_owned());
        let (text, value) = (group("text"), group("value"));
        if text.is_some() || value.is_some() {
            let value = value.or_else(|| text.clone())?;
            return Some(Choice { text: text.unwrap_or_else(|| value.clone()), value });
        }
        let value = match captures.get(1) {
            Some(first) => first.as_str().to_owned(),
            None if regex.captures_len() > 1 => return None,
            None => line.to_owned(),
        };
        Some(Choice { text: value.clone(), value })
    };
    Ok(found.iter().filter_map(|line| choice(line)).filter_map(|c| keep(c, &mut seen)).collect())
}

fn sort(all: &mut [Choice], how: i64) {
    match how {
        1 | 2 => all.sort_by(|a, b| a.text.cmp(&b.text)),
        3 | 4 => all.sort_by(|a, b| first_number(&a.text).total_cmp(&first_number(&b.text))),
        5 | 6 => all.sort_by_key(|c| c.text.to_lowercase()),
        7 | 8 => all.sort_by(|a, b| natural(&a.text, &b.text)),
        _ => return,
    }
    if how % 2 == 0 {
        all.reverse();
    }
}

fn first_number(text: &str) -> f64 {
    let digits = |c: char| c.is_ascii_digit();
    let Some(start) = text.find(digits) else { return -1.0 };
    let end = text[start..].find(|c: char| !digits(c) && c != '.').map_or(text.len(), |e| start + e);
    text[start..end].trim_end_matches('.').parse().unwrap_or(-1.0)
}

/// Compares runs of digits by number.
pub(crate) fn natural(a: &str, b: &str) -> std::cmp::Ordering {
    let parts = |s: &str| {
        let mut out: Vec<(u128, String)> = Vec::new();
        let mut rest = s;
        while let Some(first) = rest.chars().next() {
            let is_digit = first.is_ascii_digit();
            let end = rest.find(|c: char| c.is_ascii_digit() != is_digit).unwrap_or(rest.len());
            let number = if is_digit { rest[..end].parse().unwrap_or(u128::MAX) } else { u128::MAX };
            out.push((number, rest[..end].to_owned()));
            rest = &rest[end..];
        }
        out
    };
    parts(a).cmp(&parts(b))
}

/// `a,b\,c,label : value`.
fn custom(query: &str) -> Vec<Choice> {
    let mut parts = vec![String::new()];
    let mut chars = query.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, parts.last_mut()) {
            ('\\', Some(part)) if chars.peek() == Some(&',') => {
                part.push(',');
                chars.next();
            }
            (',', _) => parts.push(String::new()),
            (c, Some(part)) => part.push(c),
            (_, None) => {}
        }
    }
    let choice = |part: &String| {
        let part = part.trim();
        let (text, value) = part.split_once(" : ").unwrap_or((part, part));
        (!part.is_empty()).then(|| Choice { text: text.trim().to_owned(), value: value.trim().to_owned() })
    };
    parts.iter().take(OPTIONS_MAX).filter_map(choice).collect()
}

/// What is chosen: the address, else the file, else all, else the first.
fn select(def: &VariableDef, options: &[Choice], from_url: Option<Vec<String>>) -> Vec<String> {
    let all = || vec![ALL.to_owned()];
    let first = || {
        if def.include_all { all() } else { options.first().map(|o| o.value.clone()).into_iter().collect() }
    };
    match def.kind {
        VariableKind::Textbox => {
            return from_url
                .filter(|v| !v.is_empty())
                .or_else(|| (!def.current.is_empty()).then(|| def.current.clone()))
                .unwrap_or_else(|| vec![def.query.clone()]);
        }
        VariableKind::Constant => return vec![def.query.clone()],
        VariableKind::Adhoc => return from_url.unwrap_or_else(|| def.current.clone()),
        VariableKind::Datasource | VariableKind::Other => return first(),
        _ => {}
    }
    let is_known = |v: &String| options.iter().any(|o| o.value == *v);
    let is_all = |v: &String| v == ALL || (v == "All" && !is_known(v));
    let fit = |values: Vec<String>| -> Option<Vec<String>> {
        if def.include_all && values.iter().any(is_all) {
            return Some(all());
        }
        // `$__auto` and texts of options are accepted for their values.
        let values = values.into_iter().filter_map(|v| {
            if is_known(&v) {
                return Some(v);
            }
            let auto = v.starts_with("$__auto");
            options.iter().find(|o| if auto { o.text == "auto" } else { o.text == v }).map(|o| o.value.clone())
        });
        let mut values: Vec<String> = values.collect();
        if !def.multi {
            values.truncate(1);
        }
        (!values.is_empty()).then_some(values)
    };
    from_url.and_then(fit).or_else(|| fit(def.current.clone())).unwrap_or_else(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboard::testing::{Synthetic, window};

    fn def(kind: VariableKind, query: &str) -> VariableDef {
        VariableDef { name: "v".into(), label: "v".into(), kind, query: query.into(), ..VariableDef::default() }
    }

    #[track_caller]
    fn check(def: VariableDef, url: &[&str], expected: &str) {
        let url: Vec<String> = url.iter().map(|s| (*s).to_owned()).collect();
        let chosen = |_: &str| (!url.is_empty()).then(|| url.clone());
        let vars = resolve(&[def], &chosen, &window(), &Synthetic, &Cancel::new());
        let v = &vars.all[0];
        let options: Vec<String> = v
            .options
            .iter()
            .map(|o| if o.text == o.value { o.text.clone() } else { format!("{}={}", o.text, o.value) })
            .collect();
        let error = v.error.as_ref().map(|e| format!(" !{e}")).unwrap_or_default();
        assert_eq!(format!("{} > {}{error}", options.join(" "), v.selected.join(" ")), expected);
    }

    #[test]
    fn queries_give_options() {
        check(def(VariableKind::Query, "label_values(up, job)"), &[], "api node > api");
        check(def(VariableKind::Query, "label_values(job)"), &["node"], "api node > node");
        check(def(VariableKind::Query, "label_values(up{job=~\"a,b|api\"}, instance)"), &[], "api-1 api-2 > api-1");
        check(def(VariableKind::Query, "metrics(^up)"), &[], "up > up");
        check(def(VariableKind::Query, "label_names()"), &[], "__name__ instance job > __name__");
        let with = |regex: &str| VariableDef { regex: regex.into(), ..def(VariableKind::Query, "query_result(up)") };
        check(with("/instance=\"([^\"]+)\"/"), &[], "api-1 api-2 node-1 > api-1");
        check(with("/job=\"(?<text>n[^\"]+)\".* (?<value>\\d+) /"), &[], "node=1 > 1");
        check(with("/(/"), &[], " >  !regex /(/: error: unclosed group");
    }

    #[test]
    fn choices_follow_address_file_all_first() {
        let custom = |multi, include_all, current: &[&str]| VariableDef {
            multi,
            include_all,
            current: current.iter().map(|s| (*s).to_owned()).collect(),
            ..def(VariableKind::Custom, "a,b\\,c, d : e")
        };
        check(custom(false, false, &[]), &[], "a b,c d=e > a");
        check(custom(false, false, &["e"]), &[], "a b,c d=e > e");
        check(custom(false, false, &["gone"]), &[], "a b,c d=e > a");
        check(custom(false, true, &[]), &[], "a b,c d=e > $__all");
        check(custom(true, true, &["a", "gone"]), &[], "a b,c d=e > a");
        check(custom(true, true, &[]), &["e", "a"], "a b,c d=e > e a");
        check(custom(false, false, &[]), &["e", "a"], "a b,c d=e > e");
        check(custom(true, true, &["a"]), &["All"], "a b,c d=e > $__all");
        check(custom(false, false, &[]), &["d"], "a b,c d=e > e");
    }

    #[test]
    fn intervals_and_texts() {
        let auto = VariableDef { auto_count: Some(30), auto_min: "10s".into(), ..def(VariableKind::Interval, "1m,5m") };
        check(auto.clone(), &[], "auto=2m 1m 5m > 2m");
        check(auto, &["5m"], "auto=2m 1m 5m > 5m");
        check(def(VariableKind::Textbox, "x"), &["y"], "x > y");
        check(def(VariableKind::Constant, "x"), &["y"], "x > x");
    }

    #[test]
    fn chains_resolve_in_order_of_reference() {
        let first =
            VariableDef { name: "i".into(), ..def(VariableKind::Query, "label_values(up{job=\"$j\"}, instance)") };
        let second = VariableDef { name: "j".into(), ..def(VariableKind::Query, "label_values(up, job)") };
        let chosen = |name: &str| (name == "j").then(|| vec!["node".to_owned()]);
        let vars = resolve(&[first, second], &chosen, &window(), &Synthetic, &Cancel::new());
        assert_eq!((vars.all[0].selected[0].as_str(), vars.all[1].selected[0].as_str()), ("node-1", "node"));
    }

    #[test]
    fn sorts() {
        let mut all: Vec<Choice> =
            ["n10", "N2", "n1"].iter().map(|s| Choice { text: (*s).into(), value: (*s).into() }).collect();
        for (how, expected) in
            [(1, "N2 n1 n10"), (2, "n10 n1 N2"), (3, "n1 N2 n10"), (7, "N2 n1 n10"), (6, "N2 n10 n1")]
        {
            sort(&mut all, how);
            assert_eq!(all.iter().map(|c| c.text.as_str()).collect::<Vec<_>>().join(" "), expected, "{how}");
        }
    }
}
