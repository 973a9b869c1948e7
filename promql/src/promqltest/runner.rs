//! Runs the commands of a script one after the other.

use std::collections::BTreeMap;
use std::sync::Arc;

use promontory_model::{Cancel, FloatHistogram, Labels, METRIC_NAME};

use super::compare::{self, Difference};
use super::script::{At, Command, Eval, Expected, Load, parse};
use super::series::SeriesValue;
use super::storage::{MemoryStore, Sample, Value as Stored};
use super::{Evaluator, Failure, FileReport, rerun, reset_hints};
use crate::ast::Expr;
use crate::histogram::packed;
use crate::parser;
use crate::value::{QueryOutput, RangeSpec, Value, VectorSample};

/// Runs a script with an empty store.
#[must_use]
pub fn run_file(text: &str, name: &str, evaluator: &dyn Evaluator) -> FileReport {
    let mut report = FileReport { name: name.to_owned(), ..FileReport::default() };
    let mut store = MemoryStore::new();
    for line in parse(text) {
        let failure = |query: &str, d: Difference| Failure {
            line: line.number,
            query: query.to_owned(),
            expected: d.expected,
            got: d.got,
        };
        match &line.command {
            Command::Clear => store.clear(),
            Command::Load(load) => {
                if let Err(why) = append(&mut store, load) {
                    let d = Difference { expected: "series that can be loaded".to_owned(), got: why };
                    report.failures.push(failure("load", d));
                }
            }
            Command::Eval(eval) => match run_eval(&store, eval, evaluator) {
                Ok(()) => report.passed += 1,
                Err(d) => report.failures.push(failure(&eval.query, d)),
            },
            Command::Bad(text, why) => {
                let d = Difference { expected: "a command".to_owned(), got: why.clone() };
                report.failures.push(failure(text, d));
            }
        }
    }
    report
}

fn append(store: &mut MemoryStore, load: &Load) -> Result<(), String> {
    for series in &load.series {
        let mut previous = last_histogram(store, &series.labels);
        for (i, value) in series.values.iter().enumerate() {
            let t = load.step_ms * i64::try_from(i).map_err(|e| e.to_string())?;
            let value = match value {
                SeriesValue::Omitted => continue,
                SeriesValue::Float(v) => {
                    previous = None;
                    Stored::Float(*v)
                }
                SeriesValue::Histogram { value, .. } => {
                    let h = Arc::new(reset_hints::stored(value, previous.as_deref()));
                    previous = Some(h.clone());
                    Stored::Histogram(h)
                }
            };
            let start = series.start_offsets.get(i).copied().flatten().map_or(0, |offset| t + offset);
            store.append(&series.labels, Sample { t, start, value })?;
        }
    }
    if load.with_nhcb {
        append_custom_histograms(store, load)?;
    }
    Ok(())
}

fn last_histogram(store: &MemoryStore, labels: &Labels) -> Option<Arc<FloatHistogram>> {
    let series = store.series().iter().find(|s| s.labels == *labels)?;
    match &series.samples.last()?.value {
        Stored::Histogram(h) => Some(h.clone()),
        Stored::Float(_) => None,
    }
}

/// A classic histogram at one time, as far as its series were seen.
#[derive(Default)]
struct Classic {
    /// Upper bound and cumulated count.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
}

/// Appends native histograms with custom buckets made of the classic ones that were loaded.
fn append_custom_histograms(store: &mut MemoryStore, load: &Load) -> Result<(), String> {
    let mut classics: BTreeMap<Labels, BTreeMap<i64, Classic>> = BTreeMap::new();
    for series in &load.series {
        let name = series.labels.metric_name();
        let parts = ["_bucket", "_count", "_sum"];
        let Some((base, part)) = parts.iter().find_map(|p| name.strip_suffix(p).map(|base| (base, *p))) else {
            continue;
        };
        let bound = series.labels.get("le").and_then(parse_bound);
        if part == "_bucket" && bound.is_none() {
            continue;
        }
        let mut labels = series.labels.to_builder();
        labels.set(METRIC_NAME, base).remove("le");
        let by_time = classics.entry(labels.build()).or_default();
        for (i, value) in series.values.iter().enumerate() {
            let SeriesValue::Float(v) = value else {
                continue;
            };
            let t = load.step_ms * i64::try_from(i).map_err(|e| e.to_string())?;
            let classic = by_time.entry(t).or_default();
            match (part, bound) {
                ("_bucket", Some(bound)) => classic.buckets.push((bound, *v)),
                ("_count", _) => classic.count = Some(*v),
                _ => classic.sum = *v,
            }
        }
    }
    for (labels, by_time) in classics {
        let mut previous = None;
        for (t, classic) in by_time {
            let h = Arc::new(reset_hints::stored(&custom_buckets(classic), previous.as_deref()));
            previous = Some(h.clone());
            store.append(&labels, Sample { t, start: 0, value: Stored::Histogram(h) })?;
        }
    }
    Ok(())
}

/// The bound of an `le` label.
fn parse_bound(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|b| !b.is_nan())
}

fn custom_buckets(mut classic: Classic) -> FloatHistogram {
    classic.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    let last = classic.buckets.last().map_or(0.0, |b| b.1);
    let count = classic.count.unwrap_or(last);
    if classic.buckets.last().is_none_or(|b| b.0 != f64::INFINITY) {
        classic.buckets.push((f64::INFINITY, count));
    }
    let mut before = 0.0;
    let mut counts = Vec::new();
    for (index, (_, cumulated)) in (0..).zip(&classic.buckets) {
        counts.push((index, cumulated - before));
        before = *cumulated;
    }
    let (positive_spans, positive_buckets) = packed(counts.into_iter());
    FloatHistogram {
        schema: promontory_model::histogram::CUSTOM_BUCKETS_SCHEMA,
        count,
        sum: classic.sum,
        positive_spans,
        positive_buckets,
        custom_values: classic.buckets.iter().map(|b| b.0).filter(|b| b.is_finite()).collect(),
        ..FloatHistogram::default()
    }
}

fn run_eval(store: &MemoryStore, eval: &Eval, evaluator: &dyn Evaluator) -> Result<(), Difference> {
    let expr = match parser::parse(&eval.query) {
        Ok(expr) => expr,
        Err(e) => return failed(eval, &e.to_string()),
    };
    match eval.at {
        At::Instant(t) => {
            run_instant(store, eval, evaluator, &expr, &eval.query, t)?;
            let Some(fixed) = rerun::with_at(&expr, t) else {
                return Ok(());
            };
            let fixed_expr = parser::parse(&fixed).map_err(|e| wrong_text(&fixed, &e.to_string()))?;
            let times = if t == 0 { vec![-1000, 0, 1000] } else { vec![-10 * t, 0, t / 5, t, 10 * t] };
            for at in times {
                run_instant(store, eval, evaluator, &fixed_expr, &fixed, at)
                    .map_err(|d| during(d, &format!("as {fixed} at {at} ms")))?;
            }
            Ok(())
        }
        At::Range { start_ms, end_ms, step_ms } => {
            let range = RangeSpec { start_ms, end_ms, step_ms };
            match evaluator.range(store, &expr, range, &Cancel::new()) {
                Err(e) => failed(eval, &e.to_string()),
                Ok(output) if !eval.fail.is_empty() => Err(not_failed(eval, &output)),
                Ok(output) => {
                    compare::annotations(eval, &output, &eval.query)?;
                    compare::range(eval, &output.value)
                }
            }
        }
    }
}

fn wrong_text(text: &str, error: &str) -> Difference {
    Difference { expected: format!("{text} to parse"), got: error.to_owned() }
}

fn during(d: Difference, what: &str) -> Difference {
    Difference { expected: d.expected, got: format!("{} ({what})", d.got) }
}

fn not_failed(eval: &Eval, output: &QueryOutput) -> Difference {
    Difference { expected: format!("failure {:?}", eval.fail), got: compare::show_value(&output.value) }
}

/// The query failed: right only when that was expected, with this message.
fn failed(eval: &Eval, error: &str) -> Result<(), Difference> {
    match eval.fail.first() {
        Some(pattern) if pattern.fits(error) => Ok(()),
        Some(pattern) => Err(Difference { expected: format!("failure {pattern:?}"), got: error.to_owned() }),
        None => Err(Difference { expected: "success".to_owned(), got: error.to_owned() }),
    }
}

/// One instant query, and then the same as the middle of a range query.
fn run_instant(
    store: &MemoryStore,
    eval: &Eval,
    evaluator: &dyn Evaluator,
    expr: &Expr,
    text: &str,
    t: i64,
) -> Result<(), Difference> {
    let cancel = Cancel::new();
    let output = match evaluator.instant(store, expr, t, &cancel) {
        Err(e) => return failed(eval, &e.to_string()),
        Ok(output) if !eval.fail.is_empty() => return Err(not_failed(eval, &output)),
        Ok(output) => output,
    };
    compare::annotations(eval, &output, text)?;
    compare::instant(eval, &output.value)?;
    let comparable = matches!(eval.result, Expected::Series(_) | Expected::Scalar(_));
    if eval.ordered || !comparable || rerun::depends_on_range(expr) {
        return Ok(());
    }
    let minute = 60_000;
    let range = RangeSpec { start_ms: t - minute, end_ms: t + minute, step_ms: minute };
    let outcome = evaluator.range(store, expr, range, &cancel);
    let what = "as the middle of a range query";
    let output =
        outcome.map_err(|e| during(Difference { expected: "success".to_owned(), got: e.to_string() }, what))?;
    let Value::Matrix(series) = output.value else {
        return Err(Difference { expected: "a matrix".to_owned(), got: compare::show_value(&output.value) });
    };
    let mut middle = Vec::new();
    for s in series {
        let float = s.floats.iter().find(|(at, _)| *at == t).map(|(_, v)| crate::value::SampleValue::Float(*v));
        let histogram = s.histograms.iter().find(|(at, _)| *at == t);
        let value = float.or_else(|| histogram.map(|(_, h)| crate::value::SampleValue::Histogram(h.clone())));
        middle.extend(value.map(|value| VectorSample { labels: s.labels.clone(), t, value }));
    }
    let value = match (&eval.result, middle.as_slice()) {
        (Expected::Scalar(_), [VectorSample { value: crate::value::SampleValue::Float(v), .. }]) => {
            Value::Scalar(t, *v)
        }
        _ => Value::Vector(middle),
    };
    compare::instant(eval, &value).map_err(|d| during(d, what))
}
