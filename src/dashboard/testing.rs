//! A data source with made-up but lifelike answers, for tests and previews.

use promontory_model::{Cancel, Labels, Matcher, TimeRange};
use promontory_promql::ast::{Expr, VectorSelector};
use promontory_promql::engine::Operator;
use promontory_promql::lint::{Suggestion, lint};
use promontory_promql::parser;
use promontory_promql::value::{MatrixSeries, QueryOutput, QueryStats, RangeSpec, SampleValue, Value, VectorSample};

use super::source::{DataSource, SourceError};

/// Three `up` series, and waves for every other expression.
#[derive(Debug, Default)]
pub(crate) struct Synthetic;

const UP: [(&str, &str); 3] = [("api", "api-1"), ("api", "api-2"), ("node", "node-1")];

fn up() -> Vec<Labels> {
    UP.iter()
        .map(|(job, instance)| Labels::from_pairs([("__name__", "up"), ("job", job), ("instance", instance)]))
        .collect()
}

fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

/// A smooth line with some noise; the same for the same seed and time.
fn wave(seed: u64, t_ms: i64) -> f64 {
    let t = t_ms as f64 / 60_000.0;
    let unit = |shift: u32| ((seed >> shift) & 0xff) as f64 / 255.0;
    let base = 1.0 + unit(0) * 3.0;
    let noise = (hash(&format!("{seed}{}", t_ms / 15_000)) & 0xff) as f64 / 255.0 - 0.5;
    base * (1.0 + 0.4 * (t / (8.0 + 20.0 * unit(8)) + unit(16) * 6.0).sin() + 0.15 * noise)
}

fn grouping(expr: &Expr) -> Option<Vec<String>> {
    match expr {
        Expr::Aggregate(a) => Some(a.grouping.labels.clone()),
        Expr::Call(c) => c.args.iter().find_map(grouping),
        Expr::Binary(b) => grouping(&b.lhs).or_else(|| grouping(&b.rhs)),
        Expr::Paren(p) => grouping(&p.expr),
        Expr::Unary(u) => grouping(&u.expr),
        _ => None,
    }
}

/// The values that a label is said to have.
fn values_of(label: &str) -> &'static [&'static str] {
    match label {
        "model_version" => &["v1", "v2", "v3"],
        "instance" => &["10.0.0.1:8000", "10.0.0.2:8000"],
        "namespace" => &["inference", "monitoring"],
        "gpu" | "GPU_I_ID" | "gpu_id" => &["0", "1", "2", "3"],
        "mode" => &["idle", "user", "system", "iowait"],
        "device" => &["eth0", "eth1"],
        _ => &["alpha", "beta"],
    }
}

/// The value of `label` in the series whose first label has the value `first`.
fn own_value<'a>(label: &str, first: &'a str) -> &'a str {
    let place = ["alpha", "inference", "10.0.0.1:8000", "0", "idle", "eth0"].contains(&first);
    match label {
        "instance" | "namespace" | "device" => values_of(label)[usize::from(!place)],
        _ => first,
    }
}

fn series_of(query: &str) -> Result<Vec<Labels>, SourceError> {
    let expr = parser::parse(query)?;
    if query.contains("nothing") {
        return Ok(Vec::new());
    }
    if let Expr::Vector(s) = &expr
        && s.name.as_deref() == Some("up")
    {
        return Ok(matching(s));
    }
    let labels = match grouping(&expr) {
        Some(labels) => labels,
        None => vec!["instance".to_owned()],
    };
    let values: Vec<&str> = labels.iter().find(|l| *l != "le").map_or(vec![""], |l| values_of(l.as_str()).to_vec());
    let other: Vec<String> = labels.iter().filter(|l| *l != "le").cloned().collect();
    let buckets: &[&str] = if labels.iter().any(|l| l == "le") && !query.contains("quantile") {
        &["0.1", "0.2", "0.5", "0.7", "0.8", "0.9", "0.95", "1", "+Inf"]
    } else {
        &[""]
    };
    let mut out = Vec::new();
    for v in values {
        for le in buckets {
            let pairs = other.iter().map(|l| (l.as_str(), own_value(l, v))).chain(std::iter::once(("le", *le)));
            out.push(Labels::from_pairs(pairs));
        }
    }
    Ok(out)
}

fn value_of(query: &str, labels: &Labels, t_ms: i64) -> f64 {
    if query == "up" || query.starts_with("up{") {
        return 1.0;
    }
    let rank = labels.get("le").map_or(1.0, |le| if le == "+Inf" { 2.0 } else { le.parse::<f64>().unwrap_or(1.0) });
    let scale = if query.contains("bytes") {
        3e8
    } else if query.contains("seconds") || query.contains("latency") {
        0.12
    } else if query.contains("score") || query.contains("ratio") || query.contains("_perc") {
        0.08
    } else {
        1.0
    };
    wave(hash(&format!("{query}{}", labels.without(&["le"]))), t_ms) * scale * rank
}

fn matching(selector: &VectorSelector) -> Vec<Labels> {
    let pass = |m: &Matcher, l: &Labels| m.matches_labels(l);
    up().into_iter().filter(|l| selector.matchers.iter().all(|m| pass(m, l))).collect()
}

fn select(selector: Option<&str>) -> Result<Vec<Labels>, SourceError> {
    match selector {
        None => Ok(up()),
        Some(text) => Ok(matching(&parser::parse_selector(text)?)),
    }
}

fn output(value: Value) -> QueryOutput {
    QueryOutput { value, annotations: Default::default(), stats: QueryStats::default() }
}

impl DataSource for Synthetic {
    fn instant(&self, query: &str, t_ms: i64, _cancel: &Cancel) -> Result<QueryOutput, SourceError> {
        let sample = |labels: Labels| VectorSample {
            value: SampleValue::Float(value_of(query, &labels, t_ms)),
            t: t_ms,
            labels,
        };
        Ok(output(Value::Vector(series_of(query)?.into_iter().map(sample).collect())))
    }

    fn range(&self, query: &str, steps: RangeSpec, _cancel: &Cancel) -> Result<QueryOutput, SourceError> {
        let one = |labels: Labels| {
            let times = (steps.start_ms..=steps.end_ms).step_by(steps.step_ms as usize);
            let floats = times.map(|t| (t, value_of(query, &labels, t))).collect();
            MatrixSeries { labels, floats, histograms: Vec::new() }
        };
        Ok(output(Value::Matrix(series_of(query)?.into_iter().map(one).collect())))
    }

    fn analyze(
        &self,
        query: &str,
        steps: RangeSpec,
        cancel: &Cancel,
    ) -> Result<(QueryOutput, Vec<Operator>), SourceError> {
        Ok((self.range(query, steps, cancel)?, Vec::new()))
    }

    fn suggestions(&self, query: &str, _: TimeRange, _: &Cancel) -> Vec<Suggestion> {
        parser::parse(query).map(|expr| lint(&expr, &())).unwrap_or_default()
    }

    fn label_values(
        &self,
        name: &str,
        selector: Option<&str>,
        _range: TimeRange,
        _cancel: &Cancel,
    ) -> Result<Vec<String>, SourceError> {
        match name {
            "model_name" => return Ok(vec!["ranker".into(), "summariser".into()]),
            "model_version" => return Ok(vec!["v1".into(), "v2".into(), "v3".into()]),
            _ => {}
        }
        let mut values: Vec<String> = select(selector)?.iter().filter_map(|l| l.get(name).map(str::to_owned)).collect();
        values.sort();
        values.dedup();
        if values.is_empty() && selector.is_some_and(|s| !s.starts_with("up")) {
            return Ok(values_of(name).iter().map(|v| (*v).to_owned()).collect());
        }
        Ok(values)
    }

    fn label_names(
        &self,
        selector: Option<&str>,
        _range: TimeRange,
        _cancel: &Cancel,
    ) -> Result<Vec<String>, SourceError> {
        let mut names: Vec<String> =
            select(selector)?.iter().flat_map(|l| l.iter().map(|(n, _)| n.to_owned()).collect::<Vec<_>>()).collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn series(&self, selector: &str, _range: TimeRange, _cancel: &Cancel) -> Result<Vec<Labels>, SourceError> {
        select(Some(selector))
    }
}

/// The last hour before a fixed time.
#[cfg(test)]
pub(crate) fn window() -> super::timerange::Window {
    super::timerange::Window::new("now-1h", "now", 1_700_000_000_000, &jiff::tz::TimeZone::UTC)
}
