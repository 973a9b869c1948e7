//! Frames: what a query answered, as named columns.
//!
//! # Source
//! Names of series and columns follow Grafana's Prometheus data source.

use std::sync::Arc;

use promontory_model::{Labels, METRIC_NAME};
use promontory_promql::value::{SampleValue, Value};

use super::model::Target;
use super::reduce::reduce;
use super::units::js_number;

/// Columns of equal length.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Frame {
    pub(crate) ref_id: String,
    pub(crate) fields: Vec<Field>,
}

/// A named column.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field {
    /// Name within the frame.
    pub(crate) name: String,
    /// What a person reads.
    pub(crate) display: String,
    pub(crate) labels: Labels,
    pub(crate) values: Values,
    /// Properties that a transformation found in the data, such as a maximum.
    pub(crate) config: Option<Box<serde_json::Value>>,
}

/// A series inside one cell of a table.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Trend {
    pub(crate) times: Arc<[i64]>,
    pub(crate) values: Vec<Option<f64>>,
}

/// An empty cell of a time column.
pub(crate) const NO_TIME: i64 = i64::MIN;

/// Values of one type.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Values {
    /// ms since the epoch, or [`NO_TIME`].
    Time(Arc<[i64]>),
    Number(Vec<Option<f64>>),
    Text(Vec<Option<String>>),
    Trend(Vec<Option<Trend>>),
}

impl Field {
    pub(crate) fn is_number(&self) -> bool {
        matches!(self.values, Values::Number(_))
    }

    pub(crate) fn is_time(&self) -> bool {
        matches!(self.values, Values::Time(_))
    }

    pub(crate) fn numbers(&self) -> Option<&[Option<f64>]> {
        match &self.values {
            Values::Number(v) => Some(v),
            _ => None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        match &self.values {
            Values::Time(v) => v.len(),
            Values::Number(v) => v.len(),
            Values::Text(v) => v.len(),
            Values::Trend(v) => v.len(),
        }
    }

    /// A cell as plain text; `None` when it is empty.
    pub(crate) fn cell(&self, row: usize) -> Option<String> {
        match &self.values {
            Values::Time(all) => all.get(row).filter(|t| **t != NO_TIME).map(i64::to_string),
            Values::Number(all) => all.get(row).copied().flatten().map(js_number),
            Values::Text(all) => all.get(row).cloned().flatten(),
            Values::Trend(all) => reduce("lastNotNull", &all.get(row)?.as_ref()?.values).map(js_number),
        }
    }

    /// What a person reads above the column.
    pub(crate) fn shown(&self) -> &str {
        if self.display.is_empty() { &self.name } else { &self.display }
    }

    /// The same column with other values.
    pub(crate) fn with(&self, values: Values) -> Self {
        Self {
            name: self.name.clone(),
            display: self.display.clone(),
            labels: self.labels.clone(),
            values,
            config: self.config.clone(),
        }
    }

    /// A column without labels.
    pub(crate) fn new(name: &str, values: Values) -> Self {
        Self { name: name.to_owned(), display: name.to_owned(), labels: Labels::empty(), values, config: None }
    }
}

impl Frame {
    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.fields.first().map_or(0, Field::len)
    }

    /// The times, when the frame has them.
    pub(crate) fn times(&self) -> Option<&Arc<[i64]>> {
        self.fields.iter().find_map(|f| match &f.values {
            Values::Time(t) => Some(t),
            _ => None,
        })
    }
}

/// The steps of a range query as a column.
pub(crate) fn grid(start_ms: i64, end_ms: i64, step_ms: i64) -> Arc<[i64]> {
    let n = (end_ms - start_ms) / step_ms.max(1) + 1;
    (0..n.max(0)).map(|i| start_ms + i * step_ms).collect()
}

/// The series of a value as (labels, numbers on `times`).
fn series_on(value: &Value, times: &[i64]) -> Vec<(Labels, Vec<Option<f64>>)> {
    match value {
        Value::Matrix(all) => all
            .iter()
            .map(|s| {
                // Both are in the order of time.
                let mut points = s.floats.iter().peekable();
                let at = |time: &i64| {
                    while points.next_if(|(t, _)| t < time).is_some() {}
                    points.next_if(|(t, _)| t == time).map(|(_, v)| *v)
                };
                (s.labels.clone(), times.iter().map(at).collect())
            })
            .collect(),
        Value::Vector(samples) => samples
            .iter()
            .filter_map(|s| match s.value {
                SampleValue::Float(v) => Some((s.labels.clone(), vec![Some(v); times.len()])),
                SampleValue::Histogram(_) => None,
            })
            .collect(),
        Value::Scalar(_, v) => vec![(Labels::empty(), vec![Some(*v); times.len()])],
        Value::String(..) => Vec::new(),
    }
}

/// One frame per series, for graphs.
pub(crate) fn time_series(target: &Target, value: &Value, times: &Arc<[i64]>) -> Vec<Frame> {
    series_on(value, times)
        .into_iter()
        .map(|(labels, values)| Frame {
            ref_id: target.ref_id.clone(),
            fields: vec![
                Field::new("Time", Values::Time(times.clone())),
                Field {
                    name: "Value".into(),
                    display: String::new(),
                    labels,
                    values: Values::Number(values),
                    config: None,
                },
            ],
        })
        .collect()
}

/// One frame with a column per label, for tables. `times` are the rows of each series.
pub(crate) fn table(target: &Target, value: &Value, times: &Arc<[i64]>, many_queries: bool) -> Frame {
    let series = series_on(value, times);
    let mut names: Vec<String> = Vec::new();
    for (labels, _) in &series {
        names.extend(labels.iter().map(|(n, _)| n.to_owned()));
    }
    names.sort();
    names.dedup();
    let mut rows: Vec<(i64, &Labels, Option<f64>)> = Vec::new();
    for (labels, values) in &series {
        let present = times.iter().zip(values).filter(|(_, v)| v.is_some());
        rows.extend(present.map(|(t, v)| (*t, labels, *v)));
    }
    let value_name = if many_queries { format!("Value #{}", target.ref_id) } else { "Value".to_owned() };
    let mut fields = vec![Field::new("Time", Values::Time(rows.iter().map(|r| r.0).collect()))];
    for name in &names {
        let column = rows.iter().map(|r| r.1.get(name).map(str::to_owned)).collect();
        fields.push(Field::new(name, Values::Text(column)));
    }
    fields.push(Field::new(&value_name, Values::Number(rows.iter().map(|r| r.2).collect())));
    Frame { ref_id: target.ref_id.clone(), fields }
}

/// Gives every unnamed value field its display name. `frames` are those of one panel; `expr` by refId.
pub(crate) fn name_series(frames: &mut [Frame], targets: &[Target], interpolate: &dyn Fn(&str) -> String) {
    let auto: Vec<&str> = targets.iter().filter(|t| t.legend == "__auto").map(|t| t.ref_id.as_str()).collect();
    let only_label = single_label(frames, &auto);
    let common: Vec<(String, Labels)> = auto
        .iter()
        .map(|r| ((*r).to_owned(), common_labels(frames.iter().filter(|f| f.ref_id == **r).flat_map(value_labels))))
        .collect();
    for frame in frames {
        let Some(target) = targets.iter().find(|t| t.ref_id == frame.ref_id) else { continue };
        for field in &mut frame.fields {
            if !field.display.is_empty() {
                continue;
            }
            let labels = &field.labels;
            field.display = match target.legend.as_str() {
                "" => full_name(labels, &target.expr),
                "__auto" => match &only_label {
                    Some(name) => labels.get(name).unwrap_or("").to_owned(),
                    None => {
                        let shared = common.iter().find(|(r, _)| *r == target.ref_id).map(|(_, l)| l);
                        auto_name(labels, shared, &target.expr)
                    }
                },
                format => legend(&interpolate(format), labels),
            };
            // A format whose labels are all absent names nothing.
            if field.display.trim().is_empty() && !labels.is_empty() {
                field.display = braces(labels);
            }
        }
    }
}

fn value_labels(frame: &Frame) -> impl Iterator<Item = &Labels> {
    frame.fields.iter().filter(|f| f.is_number()).map(|f| &f.labels)
}

/// The one label name of all series of the panel, when there is exactly one.
fn single_label(frames: &[Frame], auto: &[&str]) -> Option<String> {
    let mut names: Vec<&str> = frames
        .iter()
        .filter(|f| auto.contains(&f.ref_id.as_str()))
        .flat_map(value_labels)
        .flat_map(|l| l.iter().map(|(n, _)| n))
        .collect();
    names.sort_unstable();
    names.dedup();
    match names.as_slice() {
        [one] if *one != METRIC_NAME => Some((*one).to_owned()),
        _ => None,
    }
}

fn common_labels<'a>(mut all: impl Iterator<Item = &'a Labels>) -> Labels {
    let Some(first) = all.next() else { return Labels::empty() };
    let mut n = 1;
    let common = all.fold(first.clone(), |common, labels| {
        n += 1;
        common.filtered(|name| labels.get(name) == common.get(name))
    });
    if n > 1 { common } else { Labels::empty() }
}

fn auto_name(labels: &Labels, common: Option<&Labels>, expr: &str) -> String {
    if labels.is_empty() {
        return expr.to_owned();
    }
    let has_metric = !labels.metric_name().is_empty();
    let shown =
        labels.filtered(|name| name != METRIC_NAME && !(has_metric && common.is_some_and(|c| c.get(name).is_some())));
    if shown.is_empty() { full_name(labels, expr) } else { braces(&shown) }
}

fn braces(labels: &Labels) -> String {
    let pairs: Vec<String> = labels.iter().map(|(n, v)| format!("{n}=\"{v}\"")).collect();
    format!("{{{}}}", pairs.join(", "))
}

fn full_name(labels: &Labels, expr: &str) -> String {
    let rest = labels.without_name();
    match (labels.metric_name(), rest.is_empty()) {
        ("", true) => expr.to_owned(),
        (metric, true) => metric.to_owned(),
        (metric, false) => format!("{metric}{}", braces(&rest)),
    }
}

/// Replaces `{{ name }}` by the label's value.
pub(crate) fn legend(format: &str, labels: &Labels) -> String {
    let mut out = String::new();
    let mut rest = format;
    while let Some(start) = rest.find("{{") {
        let Some(end) = rest[start..].find("}}") else { break };
        out.push_str(&rest[..start]);
        out.push_str(labels.get(rest[start + 2..start + end].trim()).unwrap_or(""));
        rest = &rest[start + end + 2..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(format: &str, series: &[&[(&str, &str)]], expected: &[&str]) {
        let target = Target { ref_id: "A".into(), expr: "expr".into(), legend: format.into(), ..Target::default() };
        let times: Arc<[i64]> = Arc::from([0i64]);
        let all = series
            .iter()
            .map(|pairs| promontory_promql::value::MatrixSeries {
                labels: Labels::from_pairs(pairs.iter().copied()),
                floats: vec![(0, 1.0)],
                histograms: Vec::new(),
            })
            .collect();
        let mut frames = time_series(&target, &Value::Matrix(all), &times);
        name_series(&mut frames, &[target], &str::to_owned);
        let names: Vec<&str> = frames.iter().map(|f| f.fields[1].display.as_str()).collect();
        assert_eq!(names, expected);
    }

    #[test]
    fn series_are_named() {
        let up: &[(&str, &str)] = &[("__name__", "up"), ("job", "a"), ("instance", "x")];
        check("{{job}} {{ instance }} {{gone}} {{a, b}}", &[up], &["a x  "]);
        check("", &[up], &["up{instance=\"x\", job=\"a\"}"]);
        check("", &[&[("__name__", "up")], &[]], &["up", "expr"]);
        check("{{gone}}", &[&[("job", "a")]], &["{job=\"a\"}"]);
        check("__auto", &[&[]], &["expr"]);
        check("__auto", &[&[("job", "a")], &[("job", "b")]], &["a", "b"]);
        let other: &[(&str, &str)] = &[("__name__", "up"), ("job", "a"), ("instance", "y")];
        check("__auto", &[up, other], &["{instance=\"x\"}", "{instance=\"y\"}"]);
        check(
            "__auto",
            &[&[("a", "1"), ("b", "1")], &[("a", "1"), ("b", "2")]],
            &["{a=\"1\", b=\"1\"}", "{a=\"1\", b=\"2\"}"],
        );
    }
}
