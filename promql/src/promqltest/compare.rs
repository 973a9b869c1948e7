//! Expected against actual values.

use promontory_model::{FloatHistogram, Labels, is_stale};

use super::script::{At, Eval, Expected};
use super::series::SeriesValue;
use crate::annotations::Severity;
use crate::histogram;
use crate::value::{MatrixSeries, QueryOutput, SampleValue, Value, VectorSample};

/// Largest relative difference of equal numbers.
const TOLERANCE: f64 = 1e-6;

/// What should have been, and what was.
pub(super) struct Difference {
    pub(super) expected: String,
    pub(super) got: String,
}

type Compared = Result<(), Difference>;

fn differ(expected: impl Into<String>, got: impl Into<String>) -> Compared {
    Err(Difference { expected: expected.into(), got: got.into() })
}

/// Whether the numbers are equal but for rounding.
pub(super) fn almost_equal(a: f64, b: f64) -> bool {
    if is_stale(a) || is_stale(b) {
        return is_stale(a) && is_stale(b);
    }
    if (a.is_nan() && b.is_nan()) || a == b {
        return true;
    }
    let sum = a.abs() + b.abs();
    let difference = (a - b).abs();
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < TOLERANCE * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < TOLERANCE
}

fn histograms_equal(expected: &FloatHistogram, got: &FloatHistogram, hint_written: bool) -> bool {
    let (e, g) = (histogram::compact(expected), histogram::compact(got));
    let buckets = |x: &[f64], y: &[f64]| x.len() == y.len() && x.iter().zip(y).all(|(x, y)| almost_equal(*x, *y));
    e.schema == g.schema
        && almost_equal(e.count, g.count)
        && almost_equal(e.sum, g.sum)
        && (histogram::is_custom(&e) || e.zero_threshold == g.zero_threshold)
        && almost_equal(e.zero_count, g.zero_count)
        && e.positive_spans == g.positive_spans
        && e.negative_spans == g.negative_spans
        && buckets(&e.positive_buckets, &g.positive_buckets)
        && buckets(&e.negative_buckets, &g.negative_buckets)
        && e.custom_values == g.custom_values
        && (!hint_written || e.counter_reset_hint == g.counter_reset_hint)
}

fn values_equal(expected: &SeriesValue, got: &SampleValue) -> bool {
    match (expected, got) {
        (SeriesValue::Float(e), SampleValue::Float(g)) => almost_equal(*e, *g),
        (SeriesValue::Histogram { value, hint_written }, SampleValue::Histogram(g)) => {
            histograms_equal(value, g, *hint_written)
        }
        _ => false,
    }
}

/// Checks warnings and infos.
pub(super) fn annotations(eval: &Eval, output: &QueryOutput, query: &str) -> Compared {
    let kinds = [
        (Severity::Warning, &eval.warn, eval.no_warn, "warnings"),
        (Severity::Info, &eval.info, eval.no_info, "infos"),
    ];
    for (severity, patterns, none, name) in kinds {
        let texts = output.annotations.texts(severity, query);
        if none && !texts.is_empty() {
            return differ(format!("no {name}"), format!("{texts:?}"));
        }
        if patterns.is_empty() {
            continue;
        }
        let missing = patterns.iter().find(|p| !texts.iter().any(|t| p.fits(t)));
        let surplus = texts.iter().find(|t| !patterns.iter().any(|p| p.fits(t)));
        if let Some(pattern) = missing {
            return differ(format!("{name} with {pattern:?}"), format!("{texts:?}"));
        }
        if let Some(text) = surplus {
            return differ(format!("{name} {patterns:?}"), text.clone());
        }
    }
    Ok(())
}

/// Checks the value of an instant query.
pub(super) fn instant(eval: &Eval, value: &Value) -> Compared {
    match (&eval.result, value) {
        (Expected::Scalar(e), Value::Scalar(_, g)) => {
            if almost_equal(*e, *g) {
                Ok(())
            } else {
                differ(e.to_string(), g.to_string())
            }
        }
        (Expected::String(e), Value::String(_, g)) => {
            if e == g {
                Ok(())
            } else {
                differ(format!("{e:?}"), format!("{g:?}"))
            }
        }
        (Expected::Series(expected), Value::Vector(got)) => vector(expected, got, eval.ordered),
        (Expected::RangeVector { start_ms, end_ms, step_ms, series }, Value::Matrix(got)) => {
            matrix(series, got, *start_ms, *end_ms, *step_ms)
        }
        (expected, got) => differ(show_expected(expected), show_value(got)),
    }
}

fn vector(expected: &[(Labels, Vec<SeriesValue>)], got: &[VectorSample], ordered: bool) -> Compared {
    let show = || (show_series(expected), show_vector(got));
    let fail = |what: String| {
        let (e, g) = show();
        differ(e, format!("{g} ({what})"))
    };
    for (i, sample) in got.iter().enumerate() {
        let Some(position) = expected.iter().position(|(labels, _)| *labels == sample.labels) else {
            return fail(format!("unexpected {}", sample.labels));
        };
        if ordered && position != i {
            return fail(format!("{} at position {i}, not {position}", sample.labels));
        }
        let values = &expected[position].1;
        if values.len() != 1 || !values_equal(&values[0], &sample.value) {
            return fail(format!("value of {}", sample.labels));
        }
    }
    if let Some((labels, _)) = expected.iter().find(|(labels, _)| !got.iter().any(|s| s.labels == *labels)) {
        return fail(format!("missing {labels}"));
    }
    if got.len() != expected.len() {
        return fail(format!("{} series", got.len()));
    }
    Ok(())
}

/// Checks the value of a range query.
pub(super) fn range(eval: &Eval, value: &Value) -> Compared {
    let (Expected::Series(expected), Value::Matrix(got), At::Range { start_ms, end_ms, step_ms }) =
        (&eval.result, value, eval.at)
    else {
        return differ(show_expected(&eval.result), show_value(value));
    };
    matrix(expected, got, start_ms, end_ms, step_ms)
}

fn matrix(
    expected: &[(Labels, Vec<SeriesValue>)],
    got: &[MatrixSeries],
    start_ms: i64,
    end_ms: i64,
    step_ms: i64,
) -> Compared {
    let fail = |what: String| differ(show_series(expected), format!("{} ({what})", show_matrix(got)));
    if !got.is_sorted_by(|a, b| a.labels < b.labels) {
        return fail("not sorted by labels".to_owned());
    }
    for series in got {
        let Some((_, values)) = expected.iter().find(|(labels, _)| *labels == series.labels) else {
            return fail(format!("unexpected {}", series.labels));
        };
        let mut points = 0;
        for (i, value) in values.iter().enumerate() {
            let t = start_ms + step_ms * i64::try_from(i).unwrap_or(i64::MAX);
            if t > end_ms {
                return fail(format!("more points are expected of {} than there are steps", series.labels));
            }
            if *value == SeriesValue::Omitted {
                continue;
            }
            points += 1;
            let float = series.floats.iter().find(|(at, _)| *at == t).map(|(_, v)| SampleValue::Float(*v));
            let at_t = || series.histograms.iter().find(|(at, _)| *at == t);
            let point = float.or_else(|| at_t().map(|(_, h)| SampleValue::Histogram(h.clone())));
            if !point.is_some_and(|p| values_equal(value, &p)) {
                return fail(format!("value of {} at {t} ms", series.labels));
            }
        }
        if points != series.floats.len() + series.histograms.len() {
            return fail(format!("number of points of {}", series.labels));
        }
    }
    let missing = expected.iter().find(|(labels, values)| {
        values.iter().any(|v| *v != SeriesValue::Omitted) && !got.iter().any(|s| s.labels == *labels)
    });
    match missing {
        Some((labels, _)) => fail(format!("missing {labels}")),
        None => Ok(()),
    }
}

fn show_expected(expected: &Expected) -> String {
    match expected {
        Expected::Scalar(v) => v.to_string(),
        Expected::String(s) => format!("{s:?}"),
        Expected::Series(series) | Expected::RangeVector { series, .. } => show_series(series),
    }
}

fn show_series(series: &[(Labels, Vec<SeriesValue>)]) -> String {
    let show = |v: &SeriesValue| match v {
        SeriesValue::Omitted => "_".to_owned(),
        SeriesValue::Float(v) => v.to_string(),
        SeriesValue::Histogram { value, .. } => show_histogram(value),
    };
    let lines = series
        .iter()
        .map(|(labels, values)| format!("{labels} {}", values.iter().map(show).collect::<Vec<_>>().join(" ")));
    lines.collect::<Vec<_>>().join("; ")
}

/// The value in the notation of scripts, nearly.
pub(super) fn show_value(value: &Value) -> String {
    match value {
        Value::Scalar(_, v) => v.to_string(),
        Value::String(_, s) => format!("{s:?}"),
        Value::Vector(v) => show_vector(v),
        Value::Matrix(m) => show_matrix(m),
    }
}

fn show_vector(samples: &[VectorSample]) -> String {
    let lines = samples.iter().map(|s| match &s.value {
        SampleValue::Float(v) => format!("{} {v}", s.labels),
        SampleValue::Histogram(h) => format!("{} {}", s.labels, show_histogram(h)),
    });
    lines.collect::<Vec<_>>().join("; ")
}

fn show_matrix(series: &[MatrixSeries]) -> String {
    let lines = series.iter().map(|s| {
        let mut points: Vec<(i64, String)> = s.floats.iter().map(|(t, v)| (*t, v.to_string())).collect();
        points.extend(s.histograms.iter().map(|(t, h)| (*t, show_histogram(h))));
        points.sort_by_key(|(t, _)| *t);
        let points: Vec<String> = points.into_iter().map(|(t, v)| format!("{v}@{t}")).collect();
        format!("{} {}", s.labels, points.join(" "))
    });
    lines.collect::<Vec<_>>().join("; ")
}

fn show_histogram(h: &FloatHistogram) -> String {
    let buckets = |spans, buckets| -> Vec<(i32, f64)> { histogram::indexed(spans, buckets).collect() };
    format!(
        "{{{{schema:{} count:{} sum:{} z_bucket:{} z_bucket_w:{} buckets:{:?} n_buckets:{:?} custom_values:{:?} {:?}}}}}",
        h.schema,
        h.count,
        h.sum,
        h.zero_count,
        h.zero_threshold,
        buckets(&h.positive_spans, &h.positive_buckets),
        buckets(&h.negative_spans, &h.negative_buckets),
        h.custom_values,
        h.counter_reset_hint
    )
}
