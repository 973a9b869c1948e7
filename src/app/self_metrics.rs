//! The server's own metrics in the JSON of the protocol buffers `io.prometheus.client.MetricFamily`.

use std::collections::BTreeMap;

use promontory_model::{METRIC_NAME, MetricMetadata, MetricType};
use serde_json::{Map, Value, json};

use crate::scrape::exposition::{Format, Item, Metadata, Parser};

/// Labels of a metric, without those that only parts of it have.
type Key = Vec<(String, String)>;

/// Parts of a histogram or summary, or a single value.
#[derive(Debug, Default)]
struct Parts {
    value: f64,
    sum: f64,
    count: f64,
    /// Upper bounds or quantiles, with their values.
    steps: Vec<(f64, f64)>,
}

#[derive(Debug, Default)]
struct Family {
    metadata: MetricMetadata,
    metrics: BTreeMap<Key, Parts>,
}

/// The families of an exposition in Prometheus text, by name.
pub(super) fn families(text: &str) -> Vec<(String, Value)> {
    let mut parser = Parser::new(text.as_bytes(), Format::Text);
    let mut all: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    // The text is our own; were it not understood, what is before the place is still true.
    while let Ok(item) = parser.next_item() {
        match item {
            Item::End => break,
            Item::Metadata { family, text, .. } => {
                let metadata = &mut all.entry(family.clone()).or_default().metadata;
                match text {
                    Metadata::Type(kind) => metadata.kind = kind,
                    Metadata::Help(help) => metadata.help = help,
                    Metadata::Unit(unit) => metadata.unit = unit,
                }
                current = family;
            }
            Item::Sample { tail, .. } => {
                let pairs = parser.labels().iter().map(|(n, v)| (n.to_string(), v.to_string()));
                let (names, mut key): (Key, Key) = pairs.partition(|(n, _)| n == METRIC_NAME);
                let name = names.into_iter().next().map(|(_, v)| v).unwrap_or_default();
                let has_parts = |f: &Family| matches!(f.metadata.kind, MetricType::Histogram | MetricType::Summary);
                let suffix = match all.get(&current).filter(|f| has_parts(f)) {
                    Some(_) => name.strip_prefix(&current),
                    None => None,
                };
                let family = if suffix.is_some() { &current } else { &name };
                let step = match key.iter().position(|(n, _)| suffix.is_some() && (n == "le" || n == "quantile")) {
                    Some(at) => key.remove(at).1.parse().ok(),
                    None => None,
                };
                let parts = all.entry(family.clone()).or_default().metrics.entry(key).or_default();
                match (suffix, step) {
                    (Some(_), Some(step)) => parts.steps.push((step, tail.value)),
                    (Some("_sum"), None) => parts.sum = tail.value,
                    (Some("_count"), None) => parts.count = tail.value,
                    _ => parts.value = tail.value,
                }
            }
        }
    }
    all.into_iter().map(|(name, family)| (name.clone(), message(&name, family))).collect()
}

fn message(name: &str, family: Family) -> Value {
    let kind = match family.metadata.kind {
        MetricType::Counter => "COUNTER",
        MetricType::Gauge => "GAUGE",
        MetricType::Histogram => "HISTOGRAM",
        MetricType::Summary => "SUMMARY",
        _ => "UNTYPED",
    };
    let metrics: Vec<Value> = family.metrics.into_iter().map(|(key, parts)| metric(kind, &key, &parts)).collect();
    json!({"name": name, "help": family.metadata.help, "type": kind, "metric": metrics})
}

fn metric(kind: &str, key: &[(String, String)], parts: &Parts) -> Value {
    let mut out = Map::new();
    if !key.is_empty() {
        out.insert("label".to_owned(), key.iter().map(|(n, v)| json!({"name": n, "value": v})).collect());
    }
    // Whole numbers of 64 bits are texts in this JSON.
    let whole = |v: f64| format!("{v:.0}");
    let steps = |step: &str, value: &str, show: fn(f64) -> Value| -> Value {
        parts.steps.iter().map(|(s, v)| json!({value: show(*v), step: number(*s)})).collect()
    };
    let (field, value) = match kind {
        "HISTOGRAM" => {
            let buckets = steps("upperBound", "cumulativeCount", |v| format!("{v:.0}").into());
            ("histogram", json!({"sampleCount": whole(parts.count), "sampleSum": number(parts.sum), "bucket": buckets}))
        }
        "SUMMARY" => {
            let quantiles = steps("quantile", "value", number);
            (
                "summary",
                json!({"sampleCount": whole(parts.count), "sampleSum": number(parts.sum), "quantile": quantiles}),
            )
        }
        "COUNTER" => ("counter", json!({"value": number(parts.value)})),
        "GAUGE" => ("gauge", json!({"value": number(parts.value)})),
        _ => ("untyped", json!({"value": number(parts.value)})),
    };
    out.insert(field.to_owned(), value);
    Value::Object(out)
}

/// What JSON has no number for is a text.
fn number(v: f64) -> Value {
    match v {
        v if v.is_nan() => "NaN".into(),
        f64::INFINITY => "Infinity".into(),
        f64::NEG_INFINITY => "-Infinity".into(),
        v if v.fract() == 0.0 && v.abs() < 1e15 => (v as i64).into(),
        v => v.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_messages_in_json() {
        let text = "# HELP g a gauge\n# TYPE g gauge\ng{a=\"b\"} 1.5\n# TYPE c_total counter\nc_total 3\n\
                    # TYPE h histogram\nh_bucket{le=\"0.1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 0.5\nh_count 2\n\
                    # TYPE s summary\ns{quantile=\"0.5\"} NaN\ns_sum 1\ns_count 4\n";
        let found: Vec<Value> = families(text).into_iter().map(|(_, family)| family).collect();
        assert_eq!(
            Value::from(found),
            json!([
                {"name": "c_total", "help": "", "type": "COUNTER", "metric": [{"counter": {"value": 3}}]},
                {"name": "g", "help": "a gauge", "type": "GAUGE", "metric": [
                    {"label": [{"name": "a", "value": "b"}], "gauge": {"value": 1.5}}]},
                {"name": "h", "help": "", "type": "HISTOGRAM", "metric": [{"histogram": {
                    "sampleCount": "2", "sampleSum": 0.5, "bucket": [
                        {"cumulativeCount": "1", "upperBound": 0.1}, {"cumulativeCount": "2", "upperBound": "Infinity"}]}}]},
                {"name": "s", "help": "", "type": "SUMMARY", "metric": [{"summary": {
                    "sampleCount": "4", "sampleSum": 1, "quantile": [{"value": "NaN", "quantile": 0.5}]}}]},
            ])
        );
    }
}
