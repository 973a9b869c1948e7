//! Answers of the API as values, and as the lines that promtool writes.

use std::collections::BTreeMap;
use std::io::{self, Write};

use promontory_model::Labels;
use promontory_model::METRIC_NAME;
use serde_json::Value;

use super::QueryError;
use crate::lines::put_key;

pub(super) type LabelSet = BTreeMap<String, String>;

/// The value of a query.
#[derive(Debug)]
pub(super) enum Answered {
    Series(Vec<SeriesValues>),
    /// Type, value and time.
    Single(String, Point),
}

#[derive(Debug)]
pub(super) struct SeriesValues {
    pub(super) labels: LabelSet,
    pub(super) points: Vec<Point>,
}

#[derive(Debug, Clone)]
pub(super) struct Point {
    pub(super) t_ms: i64,
    /// The value as the server wrote it.
    pub(super) text: String,
    /// `None` for a histogram.
    pub(super) value: Option<f64>,
}

fn wrong(what: &str) -> QueryError {
    QueryError::Answer(what.to_owned())
}

/// Reads the data of a query.
pub(super) fn read(data: &Value) -> Result<Answered, QueryError> {
    let kind = data["resultType"].as_str().ok_or_else(|| wrong("no resultType"))?;
    let result = &data["result"];
    if matches!(kind, "scalar" | "string") {
        return Ok(Answered::Single(kind.to_owned(), point(result).ok_or_else(|| wrong("no value"))?));
    }
    let all = result.as_array().ok_or_else(|| wrong("no list of series"))?;
    let series = all.iter().map(|series| {
        let labels = label_set(&series["metric"]).ok_or_else(|| wrong("a series without labels"))?;
        let many = ["values", "histograms"].into_iter().flat_map(|name| series[name].as_array().into_iter().flatten());
        let one = ["value", "histogram"].into_iter().filter_map(|name| series.get(name));
        let points = many.chain(one).map(point).collect::<Option<Vec<_>>>();
        let mut points = points.ok_or_else(|| wrong("a sample that is none"))?;
        points.sort_by_key(|p| p.t_ms);
        Ok(SeriesValues { labels, points })
    });
    series.collect::<Result<Vec<_>, _>>().map(Answered::Series)
}

/// Reads a list of label sets.
pub(super) fn label_sets(data: &Value) -> Result<Vec<LabelSet>, QueryError> {
    let all = data.as_array().and_then(|all| all.iter().map(label_set).collect());
    all.ok_or_else(|| wrong("no list of label sets"))
}

fn label_set(value: &Value) -> Option<LabelSet> {
    value.as_object()?.iter().map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

fn point(value: &Value) -> Option<Point> {
    let (t, value) = (value.get(0)?.as_f64()?, value.get(1)?);
    let t_ms = (t * 1000.0).round() as i64;
    match value {
        Value::String(text) => {
            let value = match text.as_str() {
                "+Inf" => Some(f64::INFINITY),
                "-Inf" => Some(f64::NEG_INFINITY),
                text => text.parse().ok(),
            };
            Some(Point { t_ms, text: text.clone(), value })
        }
        histogram => Some(Point { t_ms, text: histogram_text(histogram), value: None }),
    }
}

/// `{count:3, sum:4.5, (1,2]:3}`
fn histogram_text(h: &Value) -> String {
    let text = |v: &Value| v.as_str().unwrap_or("?").to_owned();
    let mut out = format!("{{count:{}, sum:{}", text(&h["count"]), text(&h["sum"]));
    for bucket in h["buckets"].as_array().into_iter().flatten() {
        let (open, close) = match bucket[0].as_u64() {
            Some(0) => ('(', ']'),
            Some(1) => ('[', ')'),
            Some(2) => ('(', ')'),
            _ => ('[', ']'),
        };
        out.push_str(&format!(", {open}{},{}{close}:{}", text(&bucket[1]), text(&bucket[2]), text(&bucket[3])));
    }
    out + "}"
}

/// RFC 3339 in UTC.
pub(super) fn time_text(t_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(t_ms).map_or_else(|_| t_ms.to_string(), |t| t.to_string())
}

/// `name{label="value"}` with blanks behind commas, as Go prints it.
pub(super) fn metric_text(labels: &LabelSet) -> String {
    let mut out = String::new();
    let name = labels.get(METRIC_NAME).map_or("", String::as_str);
    put_key(&mut out, &Labels::from_pairs([(METRIC_NAME, name)]));
    let mut out = out.trim_end_matches("{}").to_owned();
    let rest: Vec<String> = labels
        .iter()
        .filter(|(name, _)| *name != METRIC_NAME)
        .map(|(name, value)| {
            let mut pair = String::new();
            put_key(&mut pair, &Labels::from_pairs([(name, value)]));
            pair.trim_start_matches('{').strip_suffix('}').unwrap_or_default().to_owned()
        })
        .collect();
    if !rest.is_empty() || out.is_empty() {
        out.push_str(&format!("{{{}}}", rest.join(", ")));
    }
    out
}

/// Seconds with as many digits as they need.
fn seconds(t_ms: i64) -> String {
    (t_ms as f64 / 1000.0).to_string()
}

pub(super) fn put_promql(answered: &Answered, out: &mut dyn Write) -> io::Result<()> {
    match answered {
        Answered::Single(kind, p) => writeln!(out, "{kind}: {} @[{}]", p.text, seconds(p.t_ms)),
        Answered::Series(all) => {
            for series in all {
                let metric = metric_text(&series.labels);
                match &series.points[..] {
                    [p] => writeln!(out, "{metric} => {} @[{}]", p.text, seconds(p.t_ms))?,
                    points => {
                        writeln!(out, "{metric} =>")?;
                        for p in points {
                            writeln!(out, "{} @[{}]", p.text, seconds(p.t_ms))?;
                        }
                    }
                }
            }
            Ok(())
        }
    }
}
