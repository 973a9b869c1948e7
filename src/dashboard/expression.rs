//! Queries that are computed of others in the same panel.
//!
//! # Source
//! Kinds and meanings are those of Grafana's expressions, which it evaluates behind its data sources.

mod math;

use std::collections::HashMap;

use promontory_model::Labels;
use promontory_promql::value::{MatrixSeries, SampleValue, Value, VectorSample};

use super::interpolate::{Context, Lookup, interpolate};
use super::model::{Expression, Panel, Target};
use super::query::SERIES_MAX;
use super::reduce::reduce;

/// Expressions over expressions.
const DEPTH_MAX: usize = 8;

/// A series, or a single number, with its labels.
#[derive(Debug, Clone, PartialEq)]
struct Line {
    labels: Labels,
    /// Time in ms and value, ascending; one of a number.
    points: Vec<(i64, f64)>,
    is_number: bool,
}

/// What a query of the panel answered.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) value: Value,
    /// The moments that were asked for.
    pub(super) times: Vec<i64>,
}

/// Computes a target of the panel. `ask` answers queries; `fill` puts the value of a variable into a text; numbers
/// that series are reduced to stand at `at_ms`.
///
/// # Errors
/// What of the expression is not evaluated, or why a query failed, in words.
pub(super) fn evaluate(
    target: &Target,
    panel: &Panel,
    at_ms: i64,
    fill: &Lookup<'_>,
    ask: &mut dyn FnMut(&Target) -> Result<Answer, String>,
) -> Result<Answer, String> {
    let mut evaluation = Evaluation { panel, at_ms, fill, ask, known: HashMap::new() };
    let Computed { lines, times } = evaluation.target(target, 0)?;
    Ok(Answer { value: value_of(lines), times })
}

/// What a target gives, and the moments that it was asked for.
#[derive(Debug, Clone)]
struct Computed {
    lines: Vec<Line>,
    times: Vec<i64>,
}

struct Evaluation<'a> {
    panel: &'a Panel,
    at_ms: i64,
    fill: &'a Lookup<'a>,
    ask: &'a mut dyn FnMut(&Target) -> Result<Answer, String>,
    /// What queries answered, by their letters.
    known: HashMap<String, Computed>,
}

impl Evaluation<'_> {
    fn target(&mut self, target: &Target, depth: usize) -> Result<Computed, String> {
        let id = &target.ref_id;
        let Some(computed) = &target.computed else { return self.query(target) };
        if depth > DEPTH_MAX {
            return Err(format!("expression {id} refers to itself"));
        }
        match computed {
            Expression::Math(text) => self.math(id, text, depth),
            Expression::Reduce { of, calc } => {
                let Computed { lines, times } = self.of(id, of, depth)?;
                let lines: Option<Vec<Line>> = lines.into_iter().map(|line| reduced(line, calc, self.at_ms)).collect();
                let lines = lines.ok_or_else(|| format!("expression {id}: {calc:?} is not computed"))?;
                Ok(Computed { lines, times })
            }
            Expression::Same(of) => self.of(id, of, depth),
            Expression::Above { of, bound } => Ok(self.of(id, of, depth)?.mapped(|v| f64::from(u8::from(v > *bound)))),
            Expression::Below { of, bound } => Ok(self.of(id, of, depth)?.mapped(|v| f64::from(u8::from(v < *bound)))),
            Expression::Unknown(kind) => Err(format!("expression {id}: {kind} is not evaluated here")),
        }
    }

    fn query(&mut self, target: &Target) -> Result<Computed, String> {
        if let Some(known) = self.known.get(&target.ref_id) {
            return Ok(known.clone());
        }
        let answer = (self.ask)(target)?;
        let computed = Computed { lines: lines_of(answer.value), times: answer.times };
        self.known.insert(target.ref_id.clone(), computed.clone());
        Ok(computed)
    }

    /// What the target called `name` gives to the expression `id`.
    fn of(&mut self, id: &str, name: &str, depth: usize) -> Result<Computed, String> {
        match self.panel.targets.iter().find(|t| t.ref_id == name) {
            Some(referred) => self.target(referred, depth + 1),
            None => Err(format!("expression {id} refers to {name:?}, which is no query of this panel")),
        }
    }

    fn math(&mut self, id: &str, text: &str, depth: usize) -> Result<Computed, String> {
        if text.is_empty() {
            return Err(format!("expression {id} is empty"));
        }
        let is_query = |name: &str| self.panel.targets.iter().any(|t| t.ref_id == name);
        let text = interpolate(text, Context::Text, &|name| if is_query(name) { None } else { (self.fill)(name) });
        let node = math::parse(&text).map_err(|e| format!("expression {id}: {e}"))?;
        let mut names = Vec::new();
        math::queries(&node, &mut names);
        let mut found = HashMap::new();
        for name in names {
            found.insert(name, self.of(id, name, depth)?);
        }
        let lines = math::evaluate(&node, &|name| found.get(name).map(|c| c.lines.clone()).unwrap_or_default());
        let mut times: Vec<i64> = found.into_values().flat_map(|c| c.times).collect();
        times.sort_unstable();
        times.dedup();
        Ok(Computed { lines, times })
    }
}

impl Computed {
    fn mapped(mut self, function: impl Fn(f64) -> f64) -> Self {
        self.lines.iter_mut().flat_map(|l| &mut l.points).for_each(|(_, v)| *v = function(*v));
        self
    }
}

fn lines_of(value: Value) -> Vec<Line> {
    match value {
        Value::Matrix(all) => {
            let line = |s: MatrixSeries| Line { labels: s.labels.without_name(), points: s.floats, is_number: false };
            all.into_iter().take(SERIES_MAX).map(line).collect()
        }
        Value::Vector(all) => {
            let line = |s: VectorSample| match s.value {
                SampleValue::Float(v) => {
                    Some(Line { labels: s.labels.without_name(), points: vec![(s.t, v)], is_number: true })
                }
                SampleValue::Histogram(_) => None,
            };
            all.into_iter().take(SERIES_MAX).filter_map(line).collect()
        }
        Value::Scalar(t, v) => vec![Line { labels: Labels::empty(), points: vec![(t, v)], is_number: true }],
        Value::String(..) => Vec::new(),
    }
}

fn value_of(mut lines: Vec<Line>) -> Value {
    lines.truncate(SERIES_MAX);
    if lines.iter().all(|l| l.is_number) {
        let sample = |l: Line| {
            let (t, v) = *l.points.first()?;
            Some(VectorSample { labels: l.labels, t, value: SampleValue::Float(v) })
        };
        return Value::Vector(lines.into_iter().filter_map(sample).collect());
    }
    let series = |l: Line| MatrixSeries { labels: l.labels, floats: l.points, histograms: Vec::new() };
    Value::Matrix(lines.into_iter().map(series).collect())
}

/// A series as one number; `None` where there is no such calculation. Numbers stay.
fn reduced(line: Line, calc: &str, at_ms: i64) -> Option<Line> {
    let calc = match calc {
        "avg" | "mean" => "mean",
        "last" => "last",
        known @ ("min" | "max" | "sum" | "count" | "median") => known,
        _ => return None,
    };
    if line.is_number {
        return Some(line);
    }
    let values: Vec<Option<f64>> = line.points.iter().map(|(_, v)| Some(*v)).collect();
    let points = reduce(calc, &values).map(|v| (at_ms, v)).into_iter().collect();
    Some(Line { labels: line.labels, points, is_number: true })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboard::interpolate::Binding;
    use crate::dashboard::load::load;

    #[track_caller]
    fn check(more: &str, expected: Result<&str, &str>) {
        let text = format!(
            r#"{{"panels": [{{"targets": [{{"refId": "A", "expr": "a"}}, {{"refId": "B", "expr": "b"}},
                {{"refId": "C", "datasource": {{"type": "__expr__", "uid": "__expr__"}}, {more}}}]}}]}}"#
        );
        let d = load(&text, "f").unwrap();
        let panel = d.panels().next().unwrap();
        let fill = |name: &str| (name == "factor").then(|| Binding::plain("8"));
        let mut n_asked = 0;
        let mut ask = |target: &Target| {
            n_asked += 1;
            let labels = match target.ref_id.as_str() {
                "A" => Labels::from_pairs([("__name__", "a"), ("host", "x"), ("job", "j")]),
                _ => Labels::from_pairs([("__name__", "b"), ("host", "x")]),
            };
            let floats = vec![(0, 1.0), (10, 5.0), (20, 3.0)];
            let value = Value::Matrix(vec![MatrixSeries { labels, floats, histograms: Vec::new() }]);
            Ok(Answer { value, times: vec![0, 10, 20] })
        };
        let got =
            evaluate(panel.targets.last().unwrap(), panel, 99, &fill, &mut ask).map(|answer| match answer.value {
                Value::Matrix(all) => all.iter().map(|s| format!("{} {:?}", s.labels, s.floats)).collect::<String>(),
                Value::Vector(all) => all.iter().map(|s| format!("{} {:?} at {}", s.labels, s.value, s.t)).collect(),
                other => format!("{other:?}"),
            });
        assert_eq!(got.as_deref().map_err(String::as_str), expected);
        assert!(n_asked <= 2, "{n_asked}");
    }

    #[test]
    fn arithmetic_is_over_what_queries_answered() {
        let both = r#"{host="x", job="j"} [(0, 16.0), (10, 80.0), (20, 48.0)]"#;
        check(r#""expression": "($A + $B) * $A / $B * ${factor}""#, Ok(both));
        check(r#""expression": """#, Err("expression C is empty"));
        check(r#""expression": "$C + 1""#, Err("expression C refers to itself"));
        check(
            r#""expression": "$A +""#,
            Err("expression C: expected a query such as $A, a number or a function at the end"),
        );
    }

    #[test]
    fn other_kinds_are_evaluated_or_named() {
        let reduce = |calc: &str| format!(r#""type": "reduce", "reducer": "{calc}", "expression": "B""#);
        check(&reduce("median"), Ok(r#"{host="x"} Float(3.0) at 99"#));
        check(&reduce("count"), Ok(r#"{host="x"} Float(3.0) at 99"#));
        check(&reduce("mean"), Ok(r#"{host="x"} Float(3.0) at 99"#));
        check(&reduce("magic"), Err("expression C: \"magic\" is not computed"));
        let same = r#"{host="x"} [(0, 1.0), (10, 5.0), (20, 3.0)]"#;
        check(r#""type": "resample", "expression": "$B""#, Ok(same));
        let above =
            r#""type": "threshold", "expression": "B", "conditions": [{"evaluator": {"type": "gt", "params": [2]}}]"#;
        check(above, Ok(r#"{host="x"} [(0, 0.0), (10, 1.0), (20, 1.0)]"#));
        check(r#""type": "sql", "expression": "SELECT 1""#, Err("expression C: sql is not evaluated here"));
        check(
            r#""type": "resample", "expression": "X""#,
            Err("expression C refers to \"X\", which is no query of this panel"),
        );
    }
}
