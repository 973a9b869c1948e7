//! `info`: adds the labels of info metrics to series that share their `instance` and `job`.

use std::collections::BTreeMap;

use promontory_model::{Labels, METRIC_NAME, MatchOp, Matcher};

use super::calls::bare;
use super::values::Element;
use super::{Query, fail};
use crate::ast::{Call, Expr};
use crate::error::QueryError;
use crate::value::SampleValue;

/// What tells which info series belongs to a series.
const IDENTIFYING: [&str; 2] = ["instance", "job"];
/// The info metric when none is named.
const TARGET_INFO: &str = "target_info";

impl Query<'_> {
    pub(super) fn info_call(&self, c: &Call, t: i64) -> Result<Vec<Element>, QueryError> {
        let base = self.vector(&c.args[0], t)?;
        let matchers: Vec<Matcher> = match c.args.get(1).map(bare) {
            Some(Expr::Vector(v)) => v.matchers.clone(),
            _ => Vec::new(),
        };
        let (mut names, data): (Vec<Matcher>, Vec<Matcher>) =
            matchers.into_iter().partition(|m| m.name() == METRIC_NAME);
        if names.is_empty() {
            names.push(Matcher::equal(METRIC_NAME, TARGET_INFO));
        } else if names.iter().all(|m| matches!(m.op(), MatchOp::NotEqual | MatchOp::NotRegex)) {
            // Only exclusions: anything that is named like an info metric, but those.
            let info = Matcher::new(METRIC_NAME, MatchOp::Regex, ".+_info").map_err(|e| fail(e.to_string()))?;
            names.push(info);
        }
        let is_info = |labels: &Labels| names.iter().all(|m| m.matches(labels.metric_name()));
        let relevant =
            base.iter().any(|e| !is_info(&e.labels) && IDENTIFYING.iter().any(|l| e.labels.get(l).is_some()));
        let sources = if relevant { self.info_sources(c, t, &names, &data)? } else { Vec::new() };
        let mut out = Vec::new();
        for element in base {
            if is_info(&element.labels) {
                out.push(element);
            } else {
                out.extend(enriched(element, &sources, &data)?);
            }
        }
        self.unique(out)
    }

    /// The info series at this time, at most one per name and identity: the one with the newest sample.
    fn info_sources(&self, c: &Call, t: i64, names: &[Matcher], data: &[Matcher]) -> Result<Vec<Labels>, QueryError> {
        let matchers: Vec<Matcher> = names.iter().chain(data).cloned().collect();
        let at = self.first_selected_time(&c.args[0], t)?.unwrap_or(t);
        let mut newest: BTreeMap<(String, Labels), (i64, Labels)> = BTreeMap::new();
        for series in self.load(&matchers)?.iter() {
            let last = series.samples.partition_point(|s| s.t <= at);
            let Some(sample) = last.checked_sub(1).map(|i| &series.samples[i]) else {
                continue;
            };
            if sample.t <= at - self.options.lookback_ms {
                continue;
            }
            match sample.value {
                SampleValue::Float(v) if promontory_model::is_stale(v) => continue,
                SampleValue::Float(_) => {}
                SampleValue::Histogram(_) => return Err(fail("info sample should be float")),
            }
            let key = (series.labels.metric_name().to_owned(), series.labels.only(&IDENTIFYING));
            match newest.get(&key) {
                Some((other, _)) if *other > sample.t => {}
                Some((other, labels)) if *other == sample.t => {
                    return Err(fail(format!(
                        "found duplicate series for info metric: existing {labels} @ {other}, new {} @ {}",
                        series.labels, sample.t
                    )));
                }
                _ => {
                    newest.insert(key, (sample.t, series.labels.clone()));
                }
            }
        }
        Ok(newest.into_values().map(|(_, labels)| labels).collect())
    }

    /// The time that the first selector inside looks at, through the subqueries around it: that of its info series.
    fn first_selected_time(&self, expr: &Expr, t: i64) -> Result<Option<i64>, QueryError> {
        let first = |exprs: &[&Expr]| {
            for e in exprs {
                if let Some(at) = self.first_selected_time(e, t)? {
                    return Ok(Some(at));
                }
            }
            Ok(None)
        };
        match expr {
            Expr::Number(_) | Expr::String(_) => Ok(None),
            Expr::Vector(v) => self.selected_time(&v.modifiers, t).map(Some),
            Expr::Matrix(m) => self.selected_time(&m.selector.modifiers, t).map(Some),
            Expr::Subquery(s) => self.first_selected_time(&s.expr, self.selected_time(&s.modifiers, t)?),
            Expr::Call(c) => first(&c.args.iter().collect::<Vec<_>>()),
            Expr::Aggregate(a) => first(&a.param.iter().chain([&a.expr]).collect::<Vec<_>>()),
            Expr::Binary(b) => first(&[&b.lhs, &b.rhs]),
            Expr::Unary(u) => self.first_selected_time(&u.expr, t),
            Expr::Paren(p) => self.first_selected_time(&p.expr, t),
        }
    }
}

/// The element with the labels of its info series; nothing when one is demanded and there is none.
fn enriched(mut element: Element, sources: &[Labels], data: &[Matcher]) -> Result<Option<Element>, QueryError> {
    let identity = element.labels.only(&IDENTIFYING);
    let mut added = Labels::empty().to_builder();
    let mut found = false;
    for source in sources.iter().filter(|s| s.only(&IDENTIFYING) == identity) {
        found = true;
        for (name, value) in source.iter().filter(|(n, _)| *n != METRIC_NAME) {
            if !data.is_empty() && !data.iter().any(|m| m.name() == name) {
                continue;
            }
            if added.get(name).is_some_and(|other| other != value) {
                return Err(fail(format!("conflicting label: {name}")));
            }
            if element.labels.get(name).is_none() {
                added.set(name, value);
            }
        }
    }
    if !found && !data.iter().all(Matcher::matches_empty) {
        return Ok(None);
    }
    let mut labels = element.labels.to_builder();
    for (name, value) in added.iter() {
        labels.set(name, value);
    }
    element.labels = labels.build();
    Ok(Some(element))
}
