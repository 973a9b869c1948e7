//! Rule files: groups of recording and alerting rules, as Prometheus reads them.

use std::collections::BTreeSet;
use std::path::Path;

use promontory_model::labels::{is_legacy_label_name, is_legacy_metric_name};
use promontory_model::{Duration, METRIC_NAME};
use promontory_promql::ast::{Expr, ValueType};
use promontory_promql::parser;

use crate::decode::{Field, Fields};
use crate::error::ConfigErrors;
use crate::{read_document, read_file};

/// A group of rules that are evaluated together.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleGroup {
    /// Unique in its file.
    pub name: String,
    /// Time between two evaluations; `None` is that of the configuration.
    pub interval: Option<Duration>,
    /// How far behind the clock rules are evaluated.
    pub query_offset: Option<Duration>,
    /// Series or alerts that a rule may give; 0 is without limit.
    pub limit: u64,
    /// Added to what all rules give.
    pub labels: Vec<(String, String)>,
    /// In the order of evaluation.
    pub rules: Vec<Rule>,
}

/// A rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// What it makes.
    pub makes: Makes,
    /// The query, as written.
    pub text: String,
    /// The query.
    pub expr: Expr,
    /// Added to what it gives.
    pub labels: Vec<(String, String)>,
}

/// What a rule makes of its query.
#[derive(Debug, Clone, PartialEq)]
pub enum Makes {
    /// Series of this name.
    Series(String),
    /// Alerts.
    Alerts {
        /// Name.
        name: String,
        /// How long the query must give a series before its alert fires.
        hold: Duration,
        /// How long an alert fires on when the query no longer gives its series.
        keep_firing: Duration,
        /// Texts that are sent along, templates.
        annotations: Vec<(String, String)>,
    },
}

/// Reads the rule file at `path`.
///
/// # Errors
/// All that is wrong with it.
pub fn load(path: &Path) -> Result<Vec<RuleGroup>, ConfigErrors> {
    parse(&read_file(path)?, path)
}

/// Reads rule groups from `text`; `file` names it in errors.
///
/// # Errors
/// All that is wrong with it.
pub fn parse(text: &str, file: &Path) -> Result<Vec<RuleGroup>, ConfigErrors> {
    let mut groups = Vec::new();
    read_document(text, file, &|_| None, |decoder, node| {
        let Some(fields) = decoder.root(node).fields() else { return };
        for field in fields.list("groups") {
            groups.extend(read_group(&field));
        }
        fields.finish(&[]);
        let mut names = BTreeSet::new();
        for (group, field) in
            groups.iter().zip(decoder.root(node).fields().map(|f| f.list("groups")).unwrap_or_default())
        {
            let group: &RuleGroup = group;
            if !names.insert(group.name.as_str()) {
                field.rule(format!("group {:?} stands here twice", group.name));
            }
        }
    })?;
    Ok(groups)
}

fn read_group(field: &Field<'_>) -> Option<RuleGroup> {
    let fields = field.fields()?;
    let name = fields.text("name");
    if name.is_none() {
        fields.missing("name");
    }
    let duration = |name| fields.get(name).and_then(|f| f.duration());
    let group = RuleGroup {
        name: name.unwrap_or_default(),
        interval: duration("interval").filter(|d| d.ms() > 0),
        query_offset: duration("query_offset"),
        limit: fields.get("limit").and_then(|f| f.count()).unwrap_or(0),
        labels: read_labels(&fields),
        rules: fields.list("rules").iter().filter_map(read_rule).collect(),
    };
    fields.finish(&[]);
    Some(group)
}

fn read_rule(field: &Field<'_>) -> Option<Rule> {
    let fields = field.fields()?;
    let (record, alert) = (fields.text("record"), fields.text("alert"));
    let text = fields.text("expr");
    let duration = |name| fields.get(name).and_then(|f| f.duration()).unwrap_or(Duration::from_secs(0));
    let (hold, keep_firing) = (duration("for"), duration("keep_firing_for"));
    let annotations: Vec<(String, String)> = read_pairs(&fields, "annotations");
    for (name, _) in annotations.iter().filter(|(name, _)| !is_legacy_label_name(name)) {
        field.rule(format!("{name:?} is not a valid name of an annotation"));
    }
    let labels = read_labels(&fields);
    for name in ["for", "keep_firing_for", "annotations"] {
        if let Some(of_alert) = fields.get(name).filter(|_| record.is_some()) {
            of_alert.rule(format!("{name} belongs to alerting rules"));
        }
    }
    let makes = match (record, alert) {
        (Some(name), None) => {
            if !is_legacy_metric_name(&name) {
                field.rule(format!("{name:?} is not a valid name of a metric"));
            }
            Some(Makes::Series(name))
        }
        (None, Some(name)) => Some(Makes::Alerts { name, hold, keep_firing, annotations }),
        (Some(_), Some(_)) => {
            field.rule("only one of record and alert may be set");
            None
        }
        (None, None) => {
            field.rule("one of record and alert must be set");
            None
        }
    };
    let expr = match &text {
        None => {
            fields.missing("expr");
            None
        }
        Some(text) => match parser::parse(text) {
            Ok(expr) => Some(expr),
            Err(e) => {
                fields.get("expr").as_ref().unwrap_or(field).rule(format!("could not parse expression: {e}"));
                None
            }
        },
    };
    if expr.as_ref().is_some_and(|e| matches!(e.value_type(), ValueType::RangeVector | ValueType::String)) {
        field.rule("the expression gives neither a scalar nor an instant vector");
    }
    fields.finish(&[]);
    Some(Rule { makes: makes?, text: text?, expr: expr?, labels })
}

fn read_labels(fields: &Fields<'_>) -> Vec<(String, String)> {
    let labels = read_pairs(fields, "labels");
    for (name, _) in &labels {
        if !is_legacy_label_name(name) || name == METRIC_NAME {
            fields.map().rule(format!("{name:?} is not a valid name of a label here"));
        }
    }
    labels
}

fn read_pairs(fields: &Fields<'_>, name: &'static str) -> Vec<(String, String)> {
    let entries = fields.get(name).map(|f| f.entries()).unwrap_or_default();
    entries.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.text()?.to_owned()))).collect()
}

/// Rules of the same name and labels in these groups: name and labels of each.
#[must_use]
pub fn duplicates(groups: &[RuleGroup]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut out = BTreeSet::new();
    for group in groups {
        for rule in &group.rules {
            let name = match &rule.makes {
                Makes::Series(name) | Makes::Alerts { name, .. } => name,
            };
            let mut labels: Vec<_> = group.labels.iter().chain(&rule.labels).collect();
            labels.sort();
            let pairs: Vec<String> = labels.iter().map(|(n, v)| format!("{n}={v:?}")).collect();
            let text = format!("{name}{{{}}}", pairs.join(", "));
            if !seen.insert(text.clone()) {
                out.insert(text);
            }
        }
    }
    out.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str) -> Vec<String> {
        match parse(text, Path::new("r.yml")) {
            Ok(_) => Vec::new(),
            Err(errors) => errors.0.iter().map(|e| e.problem.to_string()).collect(),
        }
    }

    #[test]
    fn groups_are_read() {
        let text = "groups:\n- name: a\n  interval: 1m\n  labels: {team: x}\n  rules:\n  - record: job:up:sum\n    \
                    expr: sum by (job) (up)\n  - alert: Down\n    expr: up == 0\n    for: 5m\n    \
                    labels: {severity: page}\n    annotations: {summary: '{{ $labels.job }} is down'}\n";
        let groups = parse(text, Path::new("r.yml")).unwrap();
        assert_eq!((groups.len(), groups[0].rules.len(), groups[0].interval), (1, 2, Some(Duration::from_secs(60))));
        assert_eq!(groups[0].rules[0].makes, Makes::Series("job:up:sum".to_owned()));
        let Makes::Alerts { hold, annotations, .. } = &groups[0].rules[1].makes else { panic!("no alert") };
        assert_eq!((*hold, annotations.len()), (Duration::from_secs(300), 1));
        assert!(duplicates(&groups).is_empty());
        let twice = [groups.clone(), groups].concat();
        assert_eq!(duplicates(&twice), ["Down{severity=\"page\", team=\"x\"}", "job:up:sum{team=\"x\"}"]);
    }

    #[test]
    fn what_is_wrong_is_told() {
        let rule = |rule: &str| errors(&format!("groups:\n- name: a\n  rules:\n  - {{{rule}}}\n"));
        assert_eq!(rule("record: a, alert: b, expr: up"), ["only one of record and alert may be set"]);
        assert_eq!(rule("expr: up"), ["one of record and alert must be set"]);
        assert_eq!(rule("record: a-b, expr: up"), ["\"a-b\" is not a valid name of a metric"]);
        assert_eq!(rule("record: a, expr: up, for: 5m"), ["for belongs to alerting rules"]);
        assert!(rule("record: a, expr: 'sum(up'")[0].starts_with("could not parse expression: "));
        assert_eq!(rule("record: a").len(), 1);
        assert_eq!(
            rule("record: a, expr: up, labels: {__name__: b}"),
            ["\"__name__\" is not a valid name of a label here"]
        );
        assert_eq!(rule("record: a, expr: 'up[5m]'"), ["the expression gives neither a scalar nor an instant vector"]);
        assert_eq!(errors("groups:\n- name: a\n- name: a\n"), ["group \"a\" stands here twice"]);
        assert_eq!(errors("groups:\n- rules: []\n").len(), 1);
        assert_eq!(errors("grups: []\n").len(), 1);
    }
}
