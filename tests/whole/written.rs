//! The same samples in the real Prometheus and here, and every function and operator that both know.
//!
//! All samples are written by remote write and lie a fraction of a second off every step, so that none is on the edge
//! of a window: Prometheus 2.42 still takes in the older edge that 3.x leaves out. The edges are tested against the
//! reference evaluator and Prometheus' own scripts.

use std::collections::{BTreeMap, BTreeSet};

use promontory_model::stale_nan;
use serde_json::Value;

use crate::both::{Both, Points, compare, noise};
use crate::peers::{close, instant, label_text, now_ms, range};
use crate::write;

const MINUTE: i64 = 60_000;
/// Of samples; queries ask for the last hour of it.
const LENGTH: i64 = 100 * MINUTE;
/// Step of range queries in seconds; no whole part of a minute, so that steps fall everywhere.
const STEP_S: u32 = 77;
/// Differences that are shown.
const SHOWN_MAX: usize = 40;

/// Queries whose answers differ between 2.42 and 3.14, by a part of their text, and why. Of each some must differ: what
/// no longer does is to be removed.
const CHANGED: &[(&str, &str)] = &[
    (" atan2 ", "2.42 keeps the metric's name"),
    ("label_replace(up, \"1bad\"", "2.42 refuses label names that 3.x allows as UTF-8"),
    ("rate(rate(requests_total[2m])", "3.x extrapolates to zero by half an interval at most"),
    ("increase(rate(requests_total[2m])", "3.x extrapolates to zero by half an interval at most"),
    ("stddev_over_time(odd", "3.x keeps sums that overflow infinite, in 2.42 their compensation makes them NaN"),
    ("stdvar_over_time(odd", "3.x keeps sums that overflow infinite, in 2.42 their compensation makes them NaN"),
    ("stddev without (instance) (odd)", "a lone NaN or infinity deviates by 0 in 2.42, by NaN in 3.x"),
    ("stddev without () (odd)", "a lone NaN or infinity deviates by 0 in 2.42, by NaN in 3.x"),
    ("stdvar without (instance) (odd)", "a lone NaN or infinity deviates by 0 in 2.42, by NaN in 3.x"),
    ("stdvar without () (odd)", "a lone NaN or infinity deviates by 0 in 2.42, by NaN in 3.x"),
    ("ln(odd)", "the logarithm of subnormal numbers is wrong in the Go version of 2.42"),
    ("log10(odd)", "the logarithm of subnormal numbers is wrong in the Go version of 2.42"),
];

type Series = (Vec<(String, String)>, Vec<(i64, f64)>);

/// What is written; `base` is the time of the first samples, a whole minute.
fn samples(base: i64) -> Vec<Series> {
    let mut out: Vec<Series> = Vec::new();
    let mut add = |labels: &[(&str, &str)], every: i64, f: &dyn Fn(i64) -> Option<f64>| {
        let id = out.len() as i64;
        // Each series has its own place in the second, none of them near its ends.
        let shift = 137 + 29 * (id % 25);
        let rows = (0..LENGTH / every).filter_map(|row| Some((base + row * every + shift, f(row)?)));
        let mut labels: Vec<_> = labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        labels.sort();
        out.push((labels, rows.collect()));
    };
    for (i, instance) in ["a:80", "b:80", "c:80"].into_iter().enumerate() {
        let i = i as i64;
        let job = if i < 2 { "api" } else { "batch" };
        for (c, code) in ["200", "404", "500"].into_iter().enumerate() {
            let c = c as i64;
            let labels = [("__name__", "requests_total"), ("job", job), ("instance", instance), ("code", code)];
            // A counter with a reset, gaps, and one series that ends and comes back.
            add(&labels, 15_000, &|row| {
                let total: i64 = (row / (150 + 40 * i) * (150 + 40 * i)..row).map(|r| (noise(r, c) % 9) as i64).sum();
                match (c, row) {
                    (1, 100..130) => None,
                    (2, 200) => Some(stale_nan()),
                    (2, 201..240) => None,
                    _ => Some(total as f64 + 1000.0 * (c + 1) as f64 / 3.0),
                }
            });
        }
        let labels = |name| [("__name__", name), ("job", job), ("instance", instance)];
        add(&labels("temperature_celsius"), 10_000, &|row| {
            Some(60.0 + 20.0 * ((row + 7 * i) as f64 / 23.0).sin() + (noise(row, i) % 100) as f64 / 100.0)
        });
        add(&labels("queue_length"), 15_000, &|row| Some(((noise(row / 9, i) % 5) as f64 - 1.0).max(0.0)));
        add(&labels("up"), 30_000, &|row| Some(f64::from(u8::from(!(60..70).contains(&row) || i != 1))));
        add(&labels("started_seconds"), 60_000, &|_| Some((base / 1000 - 86_400 * 40 * i) as f64));
        for (b, le) in ["0.1", "0.5", "1", "5", "+Inf"].into_iter().enumerate() {
            let labels = [("__name__", "latency_bucket"), ("job", job), ("instance", instance), ("le", le)];
            add(&labels, 15_000, &|row| {
                Some((0..=row).map(|r| noise(r, i) % 7).sum::<u64>() as f64 * [0.2, 0.6, 0.8, 0.9, 1.0][b])
            });
        }
    }
    for (k, value) in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 1e300, 5e-324].into_iter().enumerate() {
        let labels = [("__name__", "odd"), ("kind", ["nan", "inf", "neg", "zero", "huge", "tiny"][k])];
        add(&labels, 20_000, &|row| Some(if row % 3 == 1 { (row % 11) as f64 } else { value }));
    }
    add(&[("__name__", "sparse"), ("where", "Zürich \"x\"\n\\")], 4 * MINUTE, &|row| Some(row as f64));
    add(&[("__name__", "service_info"), ("instance", "a:80"), ("version", "1.2.3-ä")], 15_000, &|_| Some(1.0));
    add(&[("__name__", "service_info"), ("instance", "b:80"), ("version", "1.3")], 15_000, &|_| Some(1.0));
    out
}

/// Every function and operator of both, on every kind of series.
fn queries() -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut put = |q: String| out.push(q);
    let vectors = ["temperature_celsius", "requests_total", "odd", "queue_length", "sparse", "up", "nothing"];
    let windows = [
        "requests_total[1m]",
        "requests_total[5m]",
        "temperature_celsius[2m]",
        "odd[3m]",
        "queue_length[7m] offset 2m",
        "sparse[10m]",
        "up[5m] offset -1m",
        "temperature_celsius[6m:40s]",
        "rate(requests_total[2m])[10m:1m]",
        "nothing[5m]",
    ];
    for f in [
        "rate",
        "increase",
        "delta",
        "irate",
        "idelta",
        "deriv",
        "changes",
        "resets",
        "avg_over_time",
        "min_over_time",
        "max_over_time",
        "sum_over_time",
        "count_over_time",
        "last_over_time",
        "stddev_over_time",
        "stdvar_over_time",
        "present_over_time",
        "absent_over_time",
    ] {
        windows.iter().for_each(|w| put(format!("{f}({w})")));
    }
    for w in windows {
        ["-1", "0", "0.25", "0.9", "1", "2"].iter().for_each(|q| put(format!("quantile_over_time({q}, {w})")));
        ["0", "600", "-60"].iter().for_each(|t| put(format!("predict_linear({w}, {t})")));
    }
    for f in [
        "abs",
        "ceil",
        "floor",
        "exp",
        "ln",
        "log2",
        "log10",
        "sqrt",
        "sgn",
        "sin",
        "cos",
        "tan",
        "asin",
        "acos",
        "atan",
        "sinh",
        "cosh",
        "tanh",
        "asinh",
        "acosh",
        "atanh",
        "deg",
        "rad",
        "absent",
        "sort",
        "sort_desc",
        "timestamp",
        "round",
        "-",
        "+",
        "scalar",
        "count",
        "group",
    ] {
        vectors.iter().for_each(|v| put(format!("{f}({v})")));
        put(format!("{f}(started_seconds)"));
    }
    // Numbers beyond any date have no date, and Go's is that of the overflow of its version.
    for f in ["minute", "hour", "day_of_month", "day_of_week", "day_of_year", "days_in_month", "month", "year"] {
        ["started_seconds", "requests_total", "-started_seconds * 3"].iter().for_each(|v| put(format!("{f}({v})")));
    }
    for v in vectors {
        put(format!("clamp({v}, 10, 62.5)"));
        put(format!("clamp_min({v}, 3)"));
        put(format!("clamp_max({v}, 61)"));
        put(format!("round({v}, 0.3)"));
        put(format!("{v} offset 3m"));
        put(format!("{v} offset -3m"));
        put(format!("{v} @ start()"));
        put(format!("{v} @ end()"));
        put(format!("label_replace({v}, \"host\", \"$1-x\", \"instance\", \"(.*):.*\")"));
        put(format!("label_join({v}, \"all\", \"/\", \"job\", \"instance\", \"none\")"));
        put(format!("sum_over_time({v}[5m:1m]) / count_over_time({v}[5m:1m])"));
    }
    let groupings = ["", " by (job)", " by (instance, none)", " without (instance)", " without ()", " by ()"];
    for op in ["sum", "avg", "min", "max", "count", "group", "stddev", "stdvar"] {
        for by in groupings {
            vectors[..4].iter().for_each(|v| put(format!("{op}{by} ({v})")));
            put(format!("{op}{by} (rate(requests_total[5m]))"));
        }
    }
    for by in groupings {
        for v in ["temperature_celsius", "rate(requests_total[5m])", "queue_length"] {
            ["0", "0.3", "1", "1.5"].iter().for_each(|q| put(format!("quantile{by} ({q}, {v})")));
        }
        put(format!("count_values{by} (\"n\", queue_length)"));
        put(format!("topk{by} (2, temperature_celsius)"));
        put(format!("bottomk{by} (1, temperature_celsius)"));
    }
    let pairs = [
        ("temperature_celsius", "", "queue_length"),
        ("requests_total", " ignoring (code) group_left ()", "up"),
        ("up", " ignoring (code) group_right ()", "requests_total"),
        ("requests_total", " on (instance) group_left (version)", "service_info"),
        ("temperature_celsius", " on (instance)", "service_info"),
        ("odd", "", "odd offset 1m"),
        ("sum by (job) (up)", " on (job)", "sum by (job) (queue_length)"),
        ("temperature_celsius", "", "61"),
        ("7", "", "queue_length"),
        ("odd", "", "3"),
        ("time() % 7", "", "3"),
        ("requests_total", " on (job)", "up"),
    ];
    for (a, matching, b) in pairs {
        for op in ["+", "-", "*", "/", "%", "^", "atan2", "==", "!=", "<", "<=", ">", ">="] {
            put(format!("{a} {op}{matching} {b}"));
        }
        ["== bool", "!= bool", "< bool", ">= bool"].iter().for_each(|op| put(format!("{a} {op}{matching} {b}")));
        let on = if matching.contains("group") { " on (instance)" } else { matching };
        ["and", "or", "unless"].iter().for_each(|op| put(format!("{a} {op}{on} {b}")));
    }
    for q in ["-1", "0", "0.5", "0.95", "1", "2"] {
        put(format!("histogram_quantile({q}, rate(latency_bucket[5m]))"));
        put(format!("histogram_quantile({q}, sum by (le, job) (rate(latency_bucket[5m])))"));
        put(format!("histogram_quantile({q}, latency_bucket)"));
        put(format!("histogram_quantile({q}, temperature_celsius)"));
        put(format!("histogram_quantile({q}, latency_bucket * 0)"));
        put(format!("histogram_quantile({q}, 0 - latency_bucket)"));
        put(format!(
            "histogram_quantile({q}, latency_bucket{{le!=\"+Inf\"}} * 1 or latency_bucket{{le=\"+Inf\"}} * NaN)"
        ));
        put(format!("histogram_quantile({q}, latency_bucket{{le!=\"1\"}} * 1 or latency_bucket{{le=\"1\"}} * NaN)"));
    }
    for q in [
        "1",
        "time()",
        "pi()",
        "vector(time())",
        "hour()",
        "-2 ^ 2",
        "2 ^ 3 ^ 2",
        "NaN == NaN",
        "scalar(sum(up)) + 1",
        "vector(scalar(temperature_celsius))",
        "absent(up{job=\"none\", instance=~\"x\"})",
        "absent(sum(nothing))",
        "absent_over_time(up{job=\"none\"}[5m])",
        "{__name__=~\"temp.*|queue_length\", instance!~\"c.*\"}",
        "{job=\"api\", code!=\"\"}",
        "requests_total{code=\"\"}",
        "requests_total{code=~\"4..|5..\", instance=~\".*80\"}",
        "up{none=\"\"}",
        "sum by (__name__) ({__name__=~\"up|odd\"})",
        "max_over_time((sum by (job) (rate(requests_total[2m])))[20m:2m])",
        "avg_over_time(rate(requests_total[3m])[15m:])",
        "sum(rate(requests_total{code=\"500\"}[5m])) / sum(rate(requests_total[5m]))",
        "1 - avg by (job) (up) > 0 or vector(0)",
        "(temperature_celsius > 60) * on (instance) group_left () (queue_length >= 1)",
        "sort_desc(topk(3, requests_total))",
        "count(count by (instance) (up))",
        "rate(requests_total[5m] offset 5m) / rate(requests_total[5m])",
        "sum without (code) (increase(requests_total[10m])) > bool 50",
        "temperature_celsius[5m:1m]",
        "requests_total[90s]",
        "sum(requests_total) by (none)",
        "rate(nothing[5m])",
        "up + on (job) up",
        "label_replace(up, \"__name__\", \"down\", \"job\", \"api\")",
        "label_replace(up, \"1bad\", \"x\", \"job\", \".*\")",
        "label_join(up, \"job\", \"-\", \"job\", \"instance\")",
        "count_values(\"value\", round(temperature_celsius, 20))",
        "day_of_week(vector(0)) + month(vector(86400 * 365.25)) + year()",
    ] {
        put(q.to_owned());
    }
    out
}

/// An answer as series → time in ms → value; an error as its type.
fn points(answer: &Value) -> Points<f64> {
    let data = &answer["data"];
    let Some(result) = data["result"].as_array() else {
        return Err(answer["errorType"].as_str().unwrap_or("no answer").to_owned());
    };
    let mut out: BTreeMap<String, BTreeMap<i64, f64>> = BTreeMap::new();
    let sample = |pair: &Value| {
        let t = (pair[0].as_f64().expect("a time") * 1000.0).round() as i64;
        (t, pair[1].as_str().expect("a value").parse().expect("a number"))
    };
    if data["resultType"] == "scalar" {
        out.insert("scalar".to_owned(), BTreeMap::from([sample(&data["result"])]));
        return Ok(out);
    }
    for series in result {
        let single = [series["value"].clone()];
        let samples = series["values"].as_array().map_or(&single[..], Vec::as_slice);
        let into = out.entry(label_text(&series["metric"])).or_default();
        into.extend(samples.iter().map(sample));
    }
    Ok(out)
}

#[test]
fn written_samples_read_as_in_prometheus() {
    let Some(both) = Both::start("global: {evaluation_interval: 1m}\n", &[]) else { return };
    let (theirs, ours) = (both.theirs, both.ours.addr);
    let base = now_ms() / MINUTE * MINUTE - LENGTH - 5 * MINUTE;
    let written = samples(base);
    let n: usize = written.iter().map(|(_, samples)| samples.len()).sum();
    let series = written.iter().map(|(labels, samples)| {
        let labels: Vec<_> = labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        write::series(&labels, samples)
    });
    both.write(series.collect());
    // In the middle of a second, so that no step of a subquery is on the edge of its window either.
    let start = base + LENGTH - 62 * MINUTE + 500;
    let end = start + 60 * MINUTE;
    let queries = queries();
    let (mut equal, mut differing, mut changed) = (0, Vec::new(), BTreeSet::new());
    for query in &queries {
        let known = CHANGED.iter().find(|(part, _)| query.contains(part));
        let alike = |theirs: &Value, ours: &Value| compare(points(theirs), points(ours), |a, b| close(*a, *b));
        let of_range = alike(&range(theirs, query, start, end, STEP_S), &range(ours, query, start, end, STEP_S));
        let of_instant = alike(&instant(theirs, query, end), &instant(ours, query, end));
        for (n, lines) in [of_range, of_instant] {
            equal += n;
            match known {
                Some((q, _)) if !lines.is_empty() => drop(changed.insert(*q)),
                _ => differing.extend(lines.into_iter().take(3).map(|line| format!("{query}: {line}"))),
            }
        }
    }
    eprintln!(
        "{} queries on {n} samples: {equal} values equal, {} differ, {} queries changed by version",
        queries.len(),
        differing.len(),
        changed.len()
    );
    assert!(differing.is_empty(), "{}", differing[..differing.len().min(SHOWN_MAX)].join("\n"));
    let stale: Vec<_> = CHANGED.iter().filter(|(q, _)| !changed.contains(q)).collect();
    assert!(stale.is_empty(), "these no longer differ: {stale:?}");
}
