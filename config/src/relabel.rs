//! Relabelling: rules that rewrite, keep or drop label sets, of targets as of samples.
//!
//! A [`RelabelConfig`] that passed [`RelabelConfig::validate`] never fails when it is applied. Knows nothing of what
//! the labels mean; `__meta_*` and its like are the caller's.
//!
//! # Source
//! Prometheus `model/relabel`.

use std::fmt;
use std::path::Path;

use promontory_model::labels::Quoted;
use promontory_model::{Labels, LabelsBuilder, Regex};

use crate::decode::Field;
use crate::error::ConfigErrors;
use crate::md5::md5;
use crate::scrape::NameValidation;

/// What stands between the values of `source_labels` by default.
pub const SEPARATOR: &str = ";";
/// The default `regex`: everything, as group 1.
pub const REGEX: &str = "(.*)";
/// The default `replacement`: group 1.
pub const REPLACEMENT: &str = "$1";

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub struct RelabelConfig {
    /// Labels whose values are joined; missing ones count as empty.
    pub source_labels: Vec<String>,
    /// Between the joined values.
    pub separator: String,
    /// Matched against the joined value, or against names by the actions on names.
    pub regex: Regex,
    /// Divisor of `hashmod`.
    pub modulus: u64,
    /// Label that is written or compared.
    pub target_label: String,
    /// Template of the value that is written.
    pub replacement: String,
    /// What the rule does.
    pub action: Action,
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Action {
    /// Writes `target_label` where the source matches.
    #[default]
    Replace,
    /// Drops what does not match.
    Keep,
    /// Drops what matches.
    Drop,
    /// Drops what differs from `target_label`.
    KeepEqual,
    /// Drops what equals `target_label`.
    DropEqual,
    /// Writes the source's hash modulo `modulus`.
    HashMod,
    /// Copies labels whose names match to new names.
    LabelMap,
    /// Removes labels whose names match.
    LabelDrop,
    /// Removes labels whose names do not match.
    LabelKeep,
    /// Writes the source in lower case.
    Lowercase,
    /// Writes the source in upper case.
    Uppercase,
}

/// Every action with its name in configuration files.
pub const ACTIONS: [(&str, Action); 11] = [
    ("replace", Action::Replace),
    ("keep", Action::Keep),
    ("drop", Action::Drop),
    ("keepequal", Action::KeepEqual),
    ("dropequal", Action::DropEqual),
    ("hashmod", Action::HashMod),
    ("labelmap", Action::LabelMap),
    ("labeldrop", Action::LabelDrop),
    ("labelkeep", Action::LabelKeep),
    ("lowercase", Action::Lowercase),
    ("uppercase", Action::Uppercase),
];

impl Action {
    /// The name in configuration files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        ACTIONS.iter().find(|(_, a)| *a == self).map_or("", |(name, _)| name)
    }

    /// The action of this name, in any case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        ACTIONS.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, a)| *a)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a rule makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RelabelError {
    /// `hashmod` without a divisor.
    #[error("relabel configuration for hashmod requires non-zero modulus")]
    NoModulus,
    /// The action writes or compares a label and none is named.
    #[error("relabel configuration for {0} action requires 'target_label' value")]
    NoTarget(Action),
    /// A name that no label can have.
    #[error("{value:?} is invalid '{field}' for {action} action")]
    BadName {
        /// `target_label` or `replacement`.
        field: &'static str,
        /// What was given.
        value: String,
        /// The rule's action.
        action: Action,
    },
    /// The action writes no template.
    #[error("'replacement' can not be set for {0} action")]
    ReplacementSet(Action),
    /// `keepequal`, `dropequal`.
    #[error("{0} action requires only 'source_labels' and 'target_label', and no other fields")]
    OnlyLabels(Action),
    /// `labeldrop`, `labelkeep`.
    #[error("{0} action requires only 'regex', and no other fields")]
    OnlyRegex(Action),
}

impl RelabelConfig {
    /// A rule with every field at its default: group 1 of everything, written to no label yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            source_labels: Vec::new(),
            separator: SEPARATOR.to_owned(),
            regex: Regex::new(REGEX).expect("the default expression compiles"),
            modulus: 0,
            target_label: String::new(),
            replacement: REPLACEMENT.to_owned(),
            action: Action::Replace,
        }
    }

    /// Checks that the fields fit the action.
    ///
    /// # Errors
    /// The first reason why they do not.
    pub fn validate(&self, names: NameValidation) -> Result<(), RelabelError> {
        use Action as A;
        let action = self.action;
        if action == A::HashMod && self.modulus == 0 {
            return Err(RelabelError::NoModulus);
        }
        let writes_target = matches!(action, A::Replace | A::HashMod | A::Lowercase | A::Uppercase);
        let compares_target = matches!(action, A::KeepEqual | A::DropEqual);
        if (writes_target || compares_target) && self.target_label.is_empty() {
            return Err(RelabelError::NoTarget(action));
        }
        let bad = |field, value: &str| Err(RelabelError::BadName { field, value: value.to_owned(), action });
        let target_is_template = action == A::Replace && has_variable(&self.target_label);
        if writes_target || compares_target {
            let valid = if target_is_template {
                is_name_template(&self.target_label, names)
            } else {
                names.is_label_name(&self.target_label)
            };
            if !valid {
                return bad("target_label", &self.target_label);
            }
        }
        let case = matches!(action, A::Lowercase | A::Uppercase);
        if (case || compares_target) && self.replacement != REPLACEMENT {
            return Err(RelabelError::ReplacementSet(action));
        }
        if action == A::LabelMap && !is_name_template(&self.replacement, names) {
            return bad("replacement", &self.replacement);
        }
        let only_regex_is_set = self.source_labels.is_empty()
            && self.target_label.is_empty()
            && self.modulus == 0
            && self.separator == SEPARATOR
            && self.replacement == REPLACEMENT;
        if compares_target && (self.regex.pattern() != REGEX || self.modulus != 0 || self.separator != SEPARATOR) {
            return Err(RelabelError::OnlyLabels(action));
        }
        if matches!(action, A::LabelDrop | A::LabelKeep) && !only_regex_is_set {
            return Err(RelabelError::OnlyRegex(action));
        }
        Ok(())
    }

    /// Applies the rule. Answers whether the label set is kept; after `false` the labels mean nothing.
    fn apply(&self, labels: &mut LabelsBuilder, joined: &mut String) -> bool {
        match self.action {
            Action::LabelMap => self.map_names(labels),
            Action::LabelDrop => {
                labels.retain(|name| !self.regex.is_match(name));
            }
            Action::LabelKeep => {
                labels.retain(|name| self.regex.is_match(name));
            }
            _ => {
                self.join_sources(labels, joined);
                return self.apply_to_value(labels, joined);
            }
        }
        true
    }

    fn apply_to_value(&self, labels: &mut LabelsBuilder, value: &str) -> bool {
        let target = self.target_label.as_str();
        match self.action {
            Action::Keep => return self.regex.is_match(value),
            Action::Drop => return !self.regex.is_match(value),
            Action::KeepEqual => return labels.get(target).unwrap_or("") == value,
            Action::DropEqual => return labels.get(target).unwrap_or("") != value,
            Action::Replace => self.replace(labels, value),
            Action::HashMod => {
                labels.set(target, &hash_mod(value, self.modulus).to_string());
            }
            Action::Lowercase => {
                labels.set(target, &value.to_lowercase());
            }
            Action::Uppercase => {
                labels.set(target, &value.to_uppercase());
            }
            Action::LabelMap | Action::LabelDrop | Action::LabelKeep => {}
        }
        true
    }

    fn join_sources(&self, labels: &LabelsBuilder, joined: &mut String) {
        joined.clear();
        for (i, name) in self.source_labels.iter().enumerate() {
            if i > 0 {
                joined.push_str(&self.separator);
            }
            joined.push_str(labels.get(name).unwrap_or(""));
        }
    }

    fn replace(&self, labels: &mut LabelsBuilder, value: &str) {
        let mut target = String::new();
        if !self.regex.expand(value, &self.target_label, &mut target) || target.is_empty() {
            return;
        }
        let mut result = String::new();
        self.regex.expand(value, &self.replacement, &mut result);
        labels.set(&target, &result);
    }

    fn map_names(&self, labels: &mut LabelsBuilder) {
        let mut new = Vec::new();
        for (name, value) in labels.iter() {
            let mut to = String::new();
            if self.regex.expand(name, &self.replacement, &mut to) && !to.is_empty() {
                new.push((to, value.to_owned()));
            }
        }
        for (name, value) in new {
            labels.set(&name, &value);
        }
    }
}

/// One line of YAML that [`parse`] reads as an item of a list; what is at its default is left out, but for the action.
impl fmt::Display for RelabelConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        if !self.source_labels.is_empty() {
            f.write_str("source_labels: [")?;
            for (i, name) in self.source_labels.iter().enumerate() {
                f.write_str(if i > 0 { ", " } else { "" })?;
                write_scalar(f, name)?;
            }
            f.write_str("], ")?;
        }
        let texts = [
            ("separator", self.separator.as_str(), SEPARATOR),
            ("regex", self.regex.pattern(), REGEX),
            ("target_label", &self.target_label, ""),
            ("replacement", &self.replacement, REPLACEMENT),
        ];
        for (key, value, default) in texts {
            if value != default {
                write!(f, "{key}: ")?;
                write_scalar(f, value)?;
                f.write_str(", ")?;
            }
        }
        if self.modulus > 0 {
            write!(f, "modulus: {}, ", self.modulus)?;
        }
        write!(f, "action: {}}}", self.action)
    }
}

/// Words stand as they are, everything else in single quotes, or in double ones where lines break.
fn write_scalar(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let is_word = text.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic())
        && text.bytes().all(|b| b == b'_' || b == b'-' || b.is_ascii_alphanumeric())
        && !text.eq_ignore_ascii_case("null");
    match text {
        _ if is_word => f.write_str(text),
        _ if text.contains(char::is_control) => write!(f, "{}", Quoted(text)),
        _ => write!(f, "'{}'", text.replace('\'', "''")),
    }
}

impl Default for RelabelConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// Applies `configs` in order. `None` when a rule drops the label set.
#[must_use]
pub fn process(labels: &Labels, configs: &[RelabelConfig]) -> Option<Labels> {
    if configs.is_empty() {
        return Some(labels.clone());
    }
    let mut builder = labels.to_builder();
    process_builder(&mut builder, configs).then(|| builder.build())
}

/// Applies `configs` in order to `labels`. Answers whether the label set is kept; when not, `labels` is left in the
/// state in which the rule found it.
pub fn process_builder(labels: &mut LabelsBuilder, configs: &[RelabelConfig]) -> bool {
    let mut joined = String::new();
    configs.iter().all(|config| config.apply(labels, &mut joined))
}

/// What each rule makes of the labels that the one before it left: `None` for the rule that drops them, and for those
/// after it.
#[must_use]
pub fn steps(labels: &Labels, configs: &[RelabelConfig]) -> Vec<Option<Labels>> {
    let (mut builder, mut joined, mut is_kept) = (labels.to_builder(), String::new(), true);
    let step = |config: &RelabelConfig| {
        is_kept = is_kept && config.apply(&mut builder, &mut joined);
        is_kept.then(|| builder.build())
    };
    configs.iter().map(step).collect()
}

/// Reads a list of rules from YAML, as it stands behind `relabel_configs:` or with that key before it.
///
/// # Errors
/// All that is wrong with it.
pub fn parse(text: &str, names: NameValidation) -> Result<Vec<RelabelConfig>, ConfigErrors> {
    let mut rules = Vec::new();
    crate::read_document(text, Path::new("rules"), &|_| None, |decoder, node| {
        let root = decoder.root(node);
        if root.is_list() {
            rules = read(&root.list(), names);
            return;
        }
        let Some(fields) = root.fields() else { return };
        let lists = ["relabel_configs", "metric_relabel_configs"].map(|name| fields.list(name));
        rules = lists.iter().flat_map(|list| read(list, names)).collect();
        fields.finish(&[]);
    })?;
    Ok(rules)
}

/// Reads a list of rules; those with a problem are left out.
pub(crate) fn read(list: &[Field<'_>], names: NameValidation) -> Vec<RelabelConfig> {
    list.iter().filter_map(|field| read_rule(field, names)).collect()
}

fn read_rule(field: &Field<'_>, names: NameValidation) -> Option<RelabelConfig> {
    let fields = field.fields()?;
    let mut rule = RelabelConfig::new();
    for source in fields.list("source_labels") {
        let Some(name) = source.text() else { continue };
        if !names.is_label_name(name) {
            source.rule(format!("{name:?} is not a valid label name"));
        }
        rule.source_labels.push(name.to_owned());
    }
    // An explicit empty value differs from an absent one.
    let take = |name, into: &mut String| {
        if let Some(text) = fields.get_or_null(name).and_then(|f| f.text()) {
            text.clone_into(into);
        }
    };
    take("separator", &mut rule.separator);
    take("target_label", &mut rule.target_label);
    take("replacement", &mut rule.replacement);
    if let Some(regex) = fields.get_or_null("regex") {
        rule.regex = regex.regex()?;
    }
    if let Some(modulus) = fields.get("modulus") {
        rule.modulus = modulus.u64()?;
    }
    if let Some(action) = fields.get("action") {
        let name = action.text()?;
        let Some(found) = Action::from_name(name) else {
            action.not_one_of(name, &ACTIONS);
            return None;
        };
        rule.action = found;
    }
    fields.finish(&[]);
    rule.validate(names).map_err(|e| field.problem(e)).ok()?;
    Some(rule)
}

/// The last eight bytes of the MD5 digest, big-endian, modulo `modulus`; 0 where that is 0.
fn hash_mod(value: &str, modulus: u64) -> u64 {
    let digest = md5(value.as_bytes());
    let mut last = [0; 8];
    last.copy_from_slice(&digest[8..]);
    u64::from_be_bytes(last).checked_rem(modulus).unwrap_or(0)
}

fn has_variable(template: &str) -> bool {
    template.contains('$')
}

/// Whether `template` can become a label name: the text around `$1`, `${1}` and `${name}` must be one already.
fn is_name_template(template: &str, names: NameValidation) -> bool {
    if names == NameValidation::Utf8 {
        return !template.is_empty();
    }
    let mut rest = template;
    let mut first = true;
    while let Some(c) = rest.chars().next() {
        if c == '$' {
            let Some(after) = skip_variable(&rest[1..]) else { return false };
            rest = after;
        } else if c == '_' || c.is_ascii_alphabetic() || (!first && c.is_ascii_digit()) {
            rest = &rest[1..];
        } else {
            return false;
        }
        first = false;
    }
    !first
}

/// What follows the name of a variable, braces included; `None` when there is no such name.
fn skip_variable(text: &str) -> Option<&str> {
    let word = |t: &str| t.len() - t.trim_start_matches(|c: char| c == '_' || c.is_ascii_alphanumeric()).len();
    let (len, rest) = match text.strip_prefix('{') {
        Some(inner) => {
            let len = word(inner);
            (len, inner[len..].strip_prefix('}')?)
        }
        None => (word(text), &text[word(text)..]),
    };
    (len > 0).then_some(rest)
}

#[cfg(test)]
mod tests;
