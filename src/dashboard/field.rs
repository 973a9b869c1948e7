//! How a field looks: defaults, overrides, thresholds, mappings; and a value as text with a colour.
//!
//! # Source
//! Grafana's field configuration and display processor.

use jiff::tz::TimeZone;
use serde_json::Value;

use super::color::{self, Theme};
use super::frame::Field;
use super::json::{at, flag, list, number, string, strings, text};
use super::load;
use super::model::{FieldConfig, Link, Override};
use super::pattern::Pattern;
use super::reduce::reduce;
use super::units::Unit;

/// Settings of one field.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) display_name: Option<String>,
    pub(crate) unit: Unit,
    pub(crate) unit_id: String,
    pub(crate) decimals: Option<i32>,
    pub(crate) min: Option<f64>,
    pub(crate) max: Option<f64>,
    pub(crate) field_min_max: bool,
    pub(crate) no_value: Option<String>,
    pub(crate) color_mode: String,
    pub(crate) fixed_color: String,
    /// `last`, `min` or `max`: the value that colours a whole series.
    pub(crate) series_by: String,
    pub(crate) thresholds: Thresholds,
    pub(crate) mappings: Vec<Mapping>,
    pub(crate) links: Vec<Link>,
    /// What is particular to the panel type.
    pub(crate) custom: Value,
}

/// Colours by value.
#[derive(Debug, Clone, Default)]
pub(crate) struct Thresholds {
    /// Whether steps are percentages of min to max.
    pub(crate) percentage: bool,
    /// Lower bound and colour, ascending; the first bound is −∞.
    pub(crate) steps: Vec<(f64, String)>,
}

impl Thresholds {
    fn of(config: &Value) -> Self {
        let mut steps: Vec<(f64, String)> = list(config, "thresholds.steps")
            .iter()
            .take(64)
            .map(|s| (number(s, "value").unwrap_or(f64::NEG_INFINITY), string(s, "color")))
            .collect();
        if steps.is_empty() {
            steps = vec![(f64::NEG_INFINITY, "green".to_owned()), (80.0, "red".to_owned())];
        }
        steps.sort_by(|a, b| a.0.total_cmp(&b.0));
        steps[0].0 = f64::NEG_INFINITY;
        Self { percentage: text(config, "thresholds.mode") == Some("percentage"), steps }
    }

    /// The bounds in values, for fields that run from `min` to `max`.
    pub(crate) fn absolute(&self, min: f64, max: f64) -> Vec<(f64, String)> {
        let bound = |v: f64| if self.percentage { min + (max - min) * v / 100.0 } else { v };
        self.steps.iter().map(|(v, c)| (if v.is_finite() { bound(*v) } else { *v }, c.clone())).collect()
    }

    /// The colour of `v`.
    pub(crate) fn color(&self, v: f64, min: f64, max: f64) -> &str {
        let v = if self.percentage && max > min { 100.0 * (v - min) / (max - min) } else { v };
        let step = self.steps.iter().rev().find(|(bound, _)| v >= *bound).or(self.steps.first());
        step.map_or("green", |(_, c)| c)
    }
}

/// A rule that replaces a value's text or colour.
#[derive(Debug, Clone)]
pub(crate) struct Mapping {
    matcher: MappingMatcher,
    text: Option<String>,
    color: Option<String>,
}

#[derive(Debug, Clone)]
enum MappingMatcher {
    Value(String),
    Range(f64, f64),
    Regex(Option<Box<Pattern>>),
    Null,
    Nan,
    NullOrNan,
    True,
    False,
    Empty,
}

fn mappings(config: &Value) -> Vec<Mapping> {
    const MAPPINGS_MAX: usize = 500;
    let mut out = Vec::new();
    for map in list(config, "mappings") {
        let result = |r: &Value| {
            (text(r, "text").filter(|t| !t.is_empty()).map(str::to_owned), text(r, "color").map(str::to_owned))
        };
        let mut push = |matcher, (text, color)| out.push(Mapping { matcher, text, color });
        match text(map, "type") {
            Some("value") => {
                let Some(options) = at(map, "options").and_then(Value::as_object) else { continue };
                for (key, value) in options {
                    push(MappingMatcher::Value(key.clone()), result(value));
                }
            }
            Some("range") => push(
                MappingMatcher::Range(
                    number(map, "options.from").unwrap_or(f64::NEG_INFINITY),
                    number(map, "options.to").unwrap_or(f64::INFINITY),
                ),
                result(at(map, "options.result").unwrap_or(&Value::Null)),
            ),
            Some("regex") => push(
                MappingMatcher::Regex(Pattern::new(&string(map, "options.pattern")).ok().map(Box::new)),
                result(at(map, "options.result").unwrap_or(&Value::Null)),
            ),
            Some("special") => {
                let matcher = match text(map, "options.match") {
                    Some("null") => MappingMatcher::Null,
                    Some("nan") => MappingMatcher::Nan,
                    Some("null+nan") => MappingMatcher::NullOrNan,
                    Some("true") => MappingMatcher::True,
                    Some("false") => MappingMatcher::False,
                    _ => MappingMatcher::Empty,
                };
                push(matcher, result(at(map, "options.result").unwrap_or(&Value::Null)));
            }
            // The form before version 8: type 1 is a value, type 2 a range.
            _ => {
                let shown = (text(map, "text").map(str::to_owned), None);
                let is_null = ["value", "from", "to"].iter().any(|k| text(map, k) == Some("null"));
                if is_null {
                    push(MappingMatcher::Null, shown);
                } else if number(map, "type") == Some(2.0) {
                    let bound = |key, open| number(map, key).unwrap_or(open);
                    push(MappingMatcher::Range(bound("from", f64::NEG_INFINITY), bound("to", f64::INFINITY)), shown);
                } else {
                    push(MappingMatcher::Value(string(map, "value")), shown);
                }
            }
        }
        if out.len() > MAPPINGS_MAX {
            break;
        }
    }
    out
}

impl Mapping {
    /// The text and colour for a number (`None` is null), when the rule applies.
    fn apply(&self, v: Option<f64>) -> Option<(Option<String>, Option<String>)> {
        let hit = match &self.matcher {
            MappingMatcher::Value(key) => {
                v.is_some_and(|v| super::units::js_number(v) == *key || key.parse::<f64>() == Ok(v))
            }
            MappingMatcher::Range(from, to) => v.is_some_and(|v| v >= *from && v <= *to),
            MappingMatcher::Regex(pattern) => match (pattern, v) {
                (Some(pattern), Some(v)) => return self.apply_regex(pattern, &super::units::js_number(v)),
                _ => false,
            },
            MappingMatcher::Null => v.is_none(),
            MappingMatcher::Nan => v.is_some_and(f64::is_nan),
            MappingMatcher::NullOrNan => v.is_none_or(f64::is_nan),
            MappingMatcher::True | MappingMatcher::False | MappingMatcher::Empty => false,
        };
        hit.then(|| (self.text.clone(), self.color.clone()))
    }

    fn apply_text(&self, s: &str) -> Option<(Option<String>, Option<String>)> {
        let hit = match &self.matcher {
            MappingMatcher::Value(key) => key == s,
            MappingMatcher::Regex(Some(pattern)) => return self.apply_regex(pattern, s),
            MappingMatcher::True => s == "true",
            MappingMatcher::False => s == "false",
            MappingMatcher::Empty => s.is_empty(),
            _ => false,
        };
        hit.then(|| (self.text.clone(), self.color.clone()))
    }

    fn apply_regex(&self, pattern: &Pattern, s: &str) -> Option<(Option<String>, Option<String>)> {
        let captures = pattern.captures(s)?;
        let text = self.text.as_ref().map(|template| {
            let mut out = String::new();
            captures.expand(template, &mut out);
            out
        });
        Some((text, self.color.clone()))
    }
}

/// A value as shown.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Shown {
    pub(crate) text: String,
    /// Ready for SVG.
    pub(crate) color: String,
}

/// What colours depend on besides the value.
#[derive(Debug, Clone)]
pub(crate) struct Look<'a> {
    pub(crate) theme: Theme,
    pub(crate) tz: &'a TimeZone,
}

impl Settings {
    /// The settings that a configuration object (after overrides) holds. `default_color` is the panel type's mode.
    pub(crate) fn of(config: &Value, default_color: &str) -> Self {
        let unit_id = string(config, "unit");
        Self {
            display_name: text(config, "displayName").filter(|n| !n.is_empty()).map(str::to_owned),
            unit: Unit::find(&unit_id),
            unit_id,
            decimals: number(config, "decimals").filter(|d| (0.0..=20.0).contains(d)).map(|d| d as i32),
            min: number(config, "min"),
            max: number(config, "max"),
            field_min_max: flag(config, "fieldMinMax").unwrap_or(false),
            no_value: text(config, "noValue").filter(|n| !n.is_empty()).map(str::to_owned),
            color_mode: text(config, "color.mode").unwrap_or(default_color).to_owned(),
            fixed_color: text(config, "color.fixedColor").unwrap_or("").to_owned(),
            series_by: text(config, "color.seriesBy").unwrap_or("last").to_owned(),
            thresholds: Thresholds::of(config),
            mappings: mappings(config),
            links: list(config, "links").iter().map(load::link).collect(),
            custom: at(config, "custom").cloned().unwrap_or(Value::Null),
        }
    }

    /// Text of a number without looking at mappings.
    pub(crate) fn number_text(&self, v: f64, look: &Look<'_>) -> String {
        self.unit.format(v, self.decimals, look.tz)
    }

    /// Text and colour of a number; `range` is min and max of the field, `index` its number in the panel.
    pub(crate) fn show(&self, v: Option<f64>, range: (f64, f64), index: usize, name: &str, look: &Look<'_>) -> Shown {
        // Null and NaN take the colour below all thresholds.
        let for_color = v.filter(|v| !v.is_nan()).unwrap_or(f64::NEG_INFINITY);
        let mut color = self.value_color(for_color, range, index, name, look.theme);
        let mut shown = match v {
            Some(v) => self.number_text(v, look),
            None => String::new(),
        };
        if let Some((mapped, mapped_color)) = self.mappings.iter().find_map(|m| m.apply(v)) {
            if let Some(text) = mapped {
                shown = text;
            }
            if let Some(c) = mapped_color {
                color = color::resolve(&c, look.theme);
            }
        }
        if shown.is_empty() {
            shown = self.no_value.clone().unwrap_or_default();
        }
        Shown { text: shown, color }
    }

    /// Text and colour of a text.
    pub(crate) fn show_text(&self, s: &str, look: &Look<'_>) -> Shown {
        let mut shown = Shown { text: s.to_owned(), color: color::resolve("text", look.theme) };
        if let Some((mapped, mapped_color)) = self.mappings.iter().find_map(|m| m.apply_text(s)) {
            shown.text = mapped.unwrap_or(shown.text);
            if let Some(c) = mapped_color {
                shown.color = color::resolve(&c, look.theme);
            }
        }
        shown
    }

    /// The colour of a value.
    pub(crate) fn value_color(&self, v: f64, (min, max): (f64, f64), index: usize, name: &str, theme: Theme) -> String {
        let share = if max > min { (v - min) / (max - min) } else { 0.0 };
        match self.color_mode.as_str() {
            "fixed" | "shades" | "palette-classic" | "palette-classic-by-name" => self.base_color(index, name, theme),
            mode => match color::continuous(mode, share, theme) {
                Some(color) => color,
                None => color::resolve(self.thresholds.color(v, min, max), theme),
            },
        }
    }

    /// The colour of a whole series.
    pub(crate) fn series_color(
        &self,
        values: &[Option<f64>],
        range: (f64, f64),
        index: usize,
        name: &str,
        theme: Theme,
    ) -> String {
        match self.color_mode.as_str() {
            "fixed" | "shades" | "palette-classic" | "palette-classic-by-name" => self.base_color(index, name, theme),
            _ => {
                let calc = match self.series_by.as_str() {
                    "min" => "min",
                    "max" => "max",
                    _ => "lastNotNull",
                };
                let v = reduce(calc, values).unwrap_or(f64::NEG_INFINITY);
                self.value_color(v, range, index, name, theme)
            }
        }
    }

    fn base_color(&self, index: usize, name: &str, theme: Theme) -> String {
        match self.color_mode.as_str() {
            "fixed" | "shades" => color::resolve(&self.fixed_color, theme),
            "palette-classic-by-name" => color::classic_by_name(name, theme),
            "palette-classic" => color::classic(index, theme),
            _ => color::resolve("text", theme),
        }
    }

    /// Text of a member of the custom part.
    pub(crate) fn custom_text<'a>(&'a self, path: &str, default: &'a str) -> &'a str {
        text(&self.custom, path).unwrap_or(default)
    }

    /// Number of the custom part.
    pub(crate) fn custom_number(&self, path: &str, default: f64) -> f64 {
        number(&self.custom, path).unwrap_or(default)
    }

    /// Flag of the custom part.
    pub(crate) fn custom_flag(&self, path: &str) -> bool {
        flag(&self.custom, path).unwrap_or(false)
    }
}

/// The field configuration of a panel, ready for many fields: names are filled in and patterns compiled once.
pub(crate) struct Rules<'a> {
    config: &'a FieldConfig,
    picks: Vec<Picks<'a>>,
}

/// What an override applies to.
enum Picks<'a> {
    Name(String),
    Pattern(Option<Box<Pattern>>),
    Names { names: Vec<String>, all_but: bool },
    RefId(&'a str),
    Type(&'a str),
    Value(&'a Value),
    Nothing,
}

impl FieldConfig {
    /// The configuration with variables put into the names of its overrides.
    pub(crate) fn rules(&self, interpolate: &dyn Fn(&str) -> String) -> Rules<'_> {
        Rules { config: self, picks: self.overrides.iter().map(|o| Picks::of(o, interpolate)).collect() }
    }
}

impl Rules<'_> {
    /// The configuration of one field: the defaults with every override whose matcher picks it.
    pub(crate) fn of(&self, field: &Field, ref_id: &str) -> Value {
        let mut config = self.config.defaults.clone();
        for (o, _) in self.config.overrides.iter().zip(&self.picks).filter(|(_, p)| p.takes(field, ref_id)) {
            for (path, value) in &o.properties {
                super::json::set(&mut config, path, value.clone());
            }
        }
        // What the data says of a field holds where nobody has written otherwise.
        if let Some(found) = field.config.as_ref().and_then(|c| c.as_object()) {
            for (path, value) in found {
                if at(&config, path).is_none() {
                    super::json::set(&mut config, path, value.clone());
                }
            }
        }
        config
    }
}

/// Whether a name of the dashboard is that of a field.
fn is_named(field: &Field, name: &str) -> bool {
    name == field.display
        || name == field.name
        || (name == "Value" && field.name.starts_with("Value #") && field.display == field.name)
}

impl<'a> Picks<'a> {
    fn of(o: &'a Override, interpolate: &dyn Fn(&str) -> String) -> Self {
        let word = o.options.as_str();
        match o.matcher.as_str() {
            "byName" => word.map_or(Self::Nothing, |name| Self::Name(interpolate(name))),
            "byRegexp" => Self::Pattern(word.and_then(|p| Pattern::new(&interpolate(p)).ok()).map(Box::new)),
            // Hidden series are saved as "all but these".
            "byNames" => Self::Names {
                names: strings(&o.options, "names"),
                all_but: text(&o.options, "mode") == Some("exclude"),
            },
            "byFrameRefID" => word.map_or(Self::Nothing, Self::RefId),
            "byType" => word.map_or(Self::Nothing, Self::Type),
            "byValue" => Self::Value(&o.options),
            _ => Self::Nothing,
        }
    }

    fn takes(&self, field: &Field, ref_id: &str) -> bool {
        match self {
            Self::Name(name) => is_named(field, name),
            Self::Pattern(pattern) => pattern.as_ref().is_some_and(|p| p.is_match(&field.display)),
            Self::Names { names, all_but } => {
                let hit = names.iter().any(|n| is_named(field, n));
                if *all_but { !hit && field.is_number() } else { hit }
            }
            Self::RefId(wanted) => *wanted == ref_id && !field.is_time(),
            Self::Type("number") => field.is_number(),
            Self::Type("time") => field.is_time(),
            Self::Type("string") => !field.is_number() && !field.is_time(),
            Self::Value(rule) => field.numbers().is_some_and(|values| is_value(rule, values)),
            Self::Type(_) | Self::Nothing => false,
        }
    }
}

/// Whether a calculation over the values is as a rule wants it.
fn is_value(rule: &Value, values: &[Option<f64>]) -> bool {
    let reducer = text(rule, "reducer").unwrap_or("allIsZero");
    let Some(v) = reduce(reducer, values) else { return false };
    if reducer.starts_with("all") && rule.get("op").is_none() {
        return v != 0.0;
    }
    let limit = number(rule, "value").unwrap_or(0.0);
    match text(rule, "op").unwrap_or("gte") {
        "gt" => v > limit,
        "lt" => v < limit,
        "lte" => v <= limit,
        "eq" => (v - limit).abs() < f64::EPSILON,
        "neq" => (v - limit).abs() >= f64::EPSILON,
        // Old graphs hide by `allIsZero >= 0`, meant as "is it so".
        _ if reducer.starts_with("all") => v != 0.0,
        _ => v >= limit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboard::oracle;

    fn look() -> Look<'static> {
        static UTC: TimeZone = TimeZone::UTC;
        Look { theme: Theme::Dark, tz: &UTC }
    }

    #[track_caller]
    fn check(config: &str, v: Option<f64>, expected: (&str, &str)) {
        let settings = Settings::of(&serde_json::from_str(config).unwrap(), "thresholds");
        let shown = settings.show(v, (0.0, 100.0), 0, "x", &look());
        assert_eq!((shown.text.as_str(), shown.color.as_str()), expected, "{config} {v:?}");
    }

    #[test]
    fn values_take_text_and_colour() {
        let steps = r#""thresholds": {"steps": [{"color": "green"}, {"color": "red", "value": 80}]}"#;
        check(&format!("{{{steps}}}"), Some(-5.0), ("-5", "#73BF69"));
        check(&format!("{{{steps}}}"), Some(80.0), ("80", "#F2495C"));
        check(r#"{"noValue": "none"}"#, None, ("none", "#73BF69"));
        check(
            r#"{"mappings": [{"type": "value", "options": {"1": {"text": "UP", "color": "blue"}}}]}"#,
            Some(1.0),
            ("UP", "#5794F2"),
        );
        check(
            r#"{"mappings": [{"type": "special", "options": {"match": "null", "result": {"text": "-"}}}]}"#,
            None,
            ("-", "#73BF69"),
        );
        check(
            r#"{"mappings": [{"type": "range", "options": {"from": 1, "to": 2, "result": {"text": "low"}}}]}"#,
            Some(2.0),
            ("low", "#73BF69"),
        );
        check(r#"{"mappings": [{"value": "0", "text": "off", "type": 1}]}"#, Some(0.0), ("off", "#73BF69"));
    }

    #[test]
    fn display_agrees_with_the_oracle() {
        let Some(vectors) = oracle::read("display.json") else { return };
        let root: Value = serde_json::from_str(&vectors).unwrap();
        let (mut n, mut wrong) = (0, Vec::new());
        for case in list(&root, "results") {
            let Some(config) = at(&root, &format!("configs.{}", string(case, "cfg"))) else { continue };
            let v = if text(case, "value") == Some("NaN") { Some(f64::NAN) } else { number(case, "value") };
            let settings = Settings::of(config, "thresholds");
            let range = (settings.min.unwrap_or(0.0), settings.max.unwrap_or(100.0));
            let got = settings.show(v, range, 0, "x", &look());
            let same_color = match (color::Rgb::parse(&got.color), color::Rgb::parse(&string(case, "color"))) {
                (Some(a), Some(b)) => (a.0 - b.0).abs() + (a.1 - b.1).abs() + (a.2 - b.2).abs() < 4.0,
                _ => got.color == string(case, "color"),
            };
            // Without a colour mode there is grey; here the panel type's mode applies.
            let same_color = same_color || at(config, "color.mode").is_none() || got.color == "currentColor";
            n += 1;
            if got.text != string(case, "text") || !same_color {
                wrong.push(format!("{case}: {got:?}"));
            }
        }
        eprintln!("display: {n} compared, {} differ", wrong.len());
        assert!(wrong.is_empty(), "{} of {n}: {wrong:#?}", wrong.len());
    }
}
