//! Native histograms in the real Prometheus and here: the same written samples, the same queries.
//!
//! Prometheus 2.42 was the first that took and queried them, behind a flag, and 3.x has changed much of what it makes of
//! them. Each such change is listed with the queries that show it; nothing else may differ. Where 3.x interpolates in
//! another way, the value of 2.42 is translated into that way and must then be equal.
//!
//! As with plain samples, none lies on the edge of a window.

use std::collections::BTreeMap;

use promontory_model::stale_nan;
use serde_json::Value;

use crate::both::{self, Both, Points, compare};
use crate::peers::{close, instant, label_text, now_ms, range};
use crate::write::{Histogram, Sample, Span, TimeSeries, label};

const MINUTE: i64 = 60_000;
/// Of samples; queries ask for the last hour of it.
const LENGTH: i64 = 100 * MINUTE;
/// Step of range queries in seconds; no whole part of a minute, so that steps fall everywhere.
const STEP_S: u32 = 77;
/// Differences that are shown.
const SHOWN_MAX: usize = 40;

/// What 3.x has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Changed {
    /// 2.42 takes a histogram for the number 0 wherever it does not know what to do with it.
    Zero,
    /// 3.x interpolates exponentially inside buckets; the translated answer of 2.42 must be equal.
    Interpolation,
    /// As above, where an answer cannot be translated.
    Fraction,
    /// 2.42 finds the lowest value of all in a bucket without observations, and so no value.
    Lowest,
    /// 3.x leaves NaN out of fractions, and has no quantile among observations of NaN.
    Nan,
    /// 3.x extrapolates histograms too to the time of no observation at most.
    ToZero,
    /// The function came after 2.42.
    Later,
}

/// A query and why its answer is another than that of 2.42, if it is.
struct Asked {
    query: String,
    changed: Option<Changed>,
}

/// Remote write's hint that a histogram is a gauge.
const GAUGE: i32 = 3;

/// Observations so far.
#[derive(Clone, Default)]
struct Observed {
    schema: i32,
    zero: u64,
    /// Counts by number of the bucket.
    positive: BTreeMap<i32, u64>,
    negative: BTreeMap<i32, u64>,
    /// Observations of NaN, which are in no bucket.
    nan: u64,
    sum: f64,
}

const ZERO_THRESHOLD: f64 = 1.0 / 1024.0;

impl Observed {
    fn add(&mut self, value: f64) {
        self.sum += value;
        let place = |v: f64| (v.log2() * 2f64.powi(self.schema)).ceil() as i32;
        match value {
            v if v.is_nan() => self.nan += 1,
            v if v.abs() <= ZERO_THRESHOLD => self.zero += 1,
            v if v > 0.0 => *self.positive.entry(place(v)).or_default() += 1,
            v => *self.negative.entry(place(-v)).or_default() += 1,
        }
    }

    fn message(&self, timestamp: i64, reset_hint: i32) -> Histogram {
        let (positive_spans, positive_deltas) = spans(&self.positive);
        let (negative_spans, negative_deltas) = spans(&self.negative);
        let buckets = self.positive.values().chain(self.negative.values()).sum::<u64>();
        Histogram {
            count: buckets + self.zero + self.nan,
            sum: self.sum,
            schema: self.schema,
            zero_threshold: ZERO_THRESHOLD,
            zero_count: self.zero,
            negative_spans,
            negative_deltas,
            positive_spans,
            positive_deltas,
            reset_hint,
            timestamp,
        }
    }
}

/// Runs of neighbouring buckets, and the counts as differences.
fn spans(buckets: &BTreeMap<i32, u64>) -> (Vec<Span>, Vec<i64>) {
    let (mut spans, mut deltas): (Vec<Span>, Vec<i64>) = Default::default();
    let (mut next, mut last) = (0, 0);
    for (place, count) in buckets {
        match spans.last_mut() {
            Some(span) if next == *place => span.length += 1,
            _ => spans.push(Span { offset: place - next, length: 1 }),
        }
        next = place + 1;
        deltas.push(*count as i64 - last);
        last = *count as i64;
    }
    (spans, deltas)
}

/// A number that looks random in 0..1, the same for the same places.
fn noise(a: i64, b: i64) -> f64 {
    (both::noise(a, b) >> 11) as f64 / (1u64 << 53) as f64
}

/// A series whose histogram at each row is what `f` makes of the one before; `None` is a gap.
fn series(
    labels: &[(&str, &str)],
    base: i64,
    every: i64,
    hint: i32,
    mut f: impl FnMut(i64, &mut Observed) -> bool,
) -> TimeSeries {
    let mut observed = Observed::default();
    let mut labels: Vec<_> = labels.iter().map(|(name, value)| label(name, value)).collect();
    labels.sort_by(|a, b| a.name.cmp(&b.name));
    let mut histograms = Vec::new();
    for row in 0..LENGTH / every {
        if f(row, &mut observed) {
            histograms.push(observed.message(base + row * every, hint));
        }
    }
    TimeSeries { labels, histograms, ..TimeSeries::default() }
}

/// What is written; `base` is the time of the first samples, a whole minute.
fn samples(base: i64) -> Vec<TimeSeries> {
    let mut out = Vec::new();
    for (i, instance) in ["a", "b", "c"].into_iter().enumerate() {
        let i = i as i64;
        let job = if i < 2 { "api" } else { "batch" };
        // A counter with a reset and gaps, of another resolution in each instance; much is observed from the start, so
        // that no extrapolation reaches zero.
        let labels = [("__name__", "latency"), ("job", job), ("instance", instance)];
        out.push(series(&labels, base + 137 + 29 * i, 15_000, 0, |row, h| {
            if row == 170 + 20 * i {
                *h = Observed::default();
            }
            h.schema = i as i32;
            let n = if h.sum == 0.0 { 3_000 } else { 8 };
            (0..n).for_each(|k| h.add(0.02 * 2f64.powf(9.0 * noise(row * 4_000 + k, i))));
            !(i == 1 && (100..130).contains(&row) || i == 2 && (210..260).contains(&row))
        }));
        // A gauge with values on both sides of zero.
        let labels = [("__name__", "balance"), ("job", job), ("instance", instance)];
        out.push(series(&labels, base + 337 + 29 * i, 30_000, GAUGE, |row, h| {
            *h = Observed { schema: 2, ..Observed::default() };
            (0..20 + row % 7).for_each(|k| h.add(30.0 * (noise(row * 50 + k, i) - 0.4)));
            h.add(0.0);
            true
        }));
    }
    // Buckets get wider in its life, as a client with a limit does it, which is a reset.
    out.push(series(&[("__name__", "coarser"), ("job", "api")], base + 511, 15_000, 0, |row, h| {
        let schema = 3 - (row / 120) as i32;
        if schema != h.schema {
            *h = Observed { schema, ..Observed::default() };
        }
        let n = if h.sum == 0.0 { 2_000 } else { 5 };
        (0..n).for_each(|k| h.add(1.0 + 60.0 * noise(row * 3_000 + k, 7)));
        true
    }));
    // NaN is observed now and then.
    out.push(series(&[("__name__", "partly_nan"), ("job", "api")], base + 533, 15_000, 0, |row, h| {
        (0..10).for_each(|k| h.add(4.0 * noise(row * 10 + k, 9)));
        if row % 40 == 39 {
            h.add(f64::NAN);
        }
        true
    }));
    // Ends with a staleness marker and comes back.
    let mut ends = series(&[("__name__", "ends"), ("job", "api")], base + 577, 15_000, 0, |row, h| {
        (0..10).for_each(|k| h.add(4.0 * noise(row * 10 + k, 11)));
        !(241..300).contains(&row)
    });
    for h in ends.histograms.iter_mut().filter(|h| h.timestamp == base + 577 + 240 * 15_000) {
        *h = Histogram { sum: stale_nan(), timestamp: h.timestamp, ..Histogram::default() };
    }
    out.push(ends);
    // Floats first, then histograms of the same name.
    let mut both = series(&[("__name__", "both"), ("job", "api")], base + 601, 15_000, 0, |row, h| {
        (0..10).for_each(|k| h.add(4.0 * noise(row * 10 + k, 13)));
        row >= 250
    });
    both.samples = (0..250).map(|row| Sample { value: row as f64, timestamp: base + 601 + row * 15_000 }).collect();
    out.push(both);
    let floats = |name: &str, shift: i64| TimeSeries {
        labels: vec![label("__name__", name), label("job", "api")],
        samples: (0..LENGTH / 15_000)
            .map(|row| Sample { value: 1.0 + 9.0 * noise(row, shift), timestamp: base + shift + row * 15_000 })
            .collect(),
        ..TimeSeries::default()
    };
    out.push(floats("plain", 707));
    out
}

/// Every function and operator of 2.42 on every kind of histogram, and some that came later.
fn queries() -> Vec<Asked> {
    let mut out: Vec<Asked> = Vec::new();
    let mut put = |query: String, changed: Option<Changed>| out.push(Asked { query, changed });
    for v in ["latency", "balance", "coarser", "partly_nan", "ends", "both"] {
        // Balances are no counters: of those only differences are asked for.
        let is_counter = v != "balance";
        for q in
            ["#", "# offset 3m", "# @ start()", "+#", "timestamp(#)", "absent(#)", "count by (job) (#)", "group(#)"]
        {
            put(q.replace('#', v), None);
        }
        for w in ["[1m]", "[5m]", "[7m] offset 2m", "[6m:40s]", "[11m] @ end()"] {
            let counters: &[&str] = if is_counter { &["rate", "increase"] } else { &[] };
            for f in ["delta", "count_over_time", "present_over_time", "absent_over_time"].iter().chain(counters) {
                put(format!("{f}({v}{w})"), None);
            }
        }
        let rate = format!("rate({v}[5m])");
        let histograms = if is_counter { vec![v.to_owned(), rate] } else { vec![v.to_owned()] };
        for h in &histograms {
            for q in ["histogram_count(#)", "histogram_sum(#)", "histogram_sum(#) / histogram_count(#)"] {
                put(q.replace('#', h), None);
            }
            // None is between two buckets, where 3.x, which comes from above, is at the end of the other one.
            for q in ["-0.5", "0", "0.1", "0.47", "0.9", "0.99", "1", "1.5"] {
                let changed = match (q, v) {
                    ("0", "balance" | "both") if h == v => Some(Changed::Lowest),
                    ("1", "partly_nan") => Some(Changed::Nan),
                    ("-0.5" | "0" | "1" | "1.5", _) => None,
                    _ => Some(Changed::Interpolation),
                };
                put(format!("histogram_quantile({q}, {h})"), changed);
            }
            for bounds in ["-Inf, +Inf", "0, +Inf", "-Inf, 0", "1, 4", "-8, 8", "4, 1", "NaN, 1"] {
                let none = matches!(bounds, "-Inf, 0" | "4, 1" | "NaN, 1");
                put(format!("histogram_fraction({bounds}, {h})"), (v == "partly_nan" && !none).then_some(Changed::Nan));
            }
            for by in ["", " by (job)", " without (instance)"] {
                put(format!("sum{by} ({h})"), None);
                put(format!("histogram_quantile(0.9, sum{by} ({h}))"), Some(Changed::Interpolation));
            }
        }
        put(format!("count_values(\"v\", histogram_count({v}))"), None);
        for op in ["+", "and", "or", "unless", "<"] {
            put(format!("{v} {op} ({v} offset 1m)"), None);
        }
        for q in ["# and on (job) plain", "plain unless on (job) #", "# or plain", "plain < on (job) #"] {
            put(q.replace('#', v), None);
        }
    }
    for q in [
        "sum({__name__=~\"latency|coarser\"})",
        "sum by (job) (increase(latency[5m]) or rate(coarser[5m]))",
        "histogram_count(sum by (job) (increase(latency[5m])))",
        "max_over_time(histogram_count(rate(latency[2m]))[10m:1m])",
        "rate(latency[5m] offset 10m) or latency",
        "latency[5m]",
        "both[2m]",
        "histogram_sum(latency offset 1m) / 3",
    ] {
        put(q.to_owned(), None);
    }
    for q in ["histogram_fraction(0.3, 3.3, #)", "histogram_fraction(-1.5, 0.3, rate(#[5m]))"] {
        put(q.replace('#', "latency"), Some(Changed::Fraction));
    }
    for q in ["rate(balance[5m])", "increase(balance[1m])", "sum(rate(balance[5m]))"] {
        put(q.to_owned(), Some(Changed::ToZero));
    }
    for q in ["histogram_avg(latency)", "histogram_stddev(rate(latency[5m]))", "histogram_stdvar(balance)"] {
        put(q.to_owned(), Some(Changed::Later));
    }
    for f in [
        "irate",
        "idelta",
        "changes",
        "resets",
        "last_over_time",
        "sum_over_time",
        "avg_over_time",
        "min_over_time",
        "max_over_time",
        "stddev_over_time",
        "stdvar_over_time",
        "deriv",
    ] {
        put(format!("{f}(latency[5m])"), Some(Changed::Zero));
    }
    for q in [
        "quantile_over_time(0.5, #[5m])",
        "abs(#)",
        "sgn(#)",
        "round(#)",
        "sort(#)",
        "clamp_max(#, 3)",
        "hour(#)",
        "-#",
        "label_replace(#, \"x\", \"$1\", \"job\", \"(.).*\")",
        "label_join(#, \"x\", \"-\", \"job\", \"instance\")",
        "scalar(#)",
        "avg(#)",
        "min(#)",
        "max(rate(#[5m]))",
        "stddev(#)",
        "stdvar(#)",
        "topk(1, #)",
        "quantile(0.5, #)",
        "# + 2",
        "# * 2",
        "2 * #",
        "# / 2",
        "# ^ 2",
        "# % 2",
        "# atan2 2",
        "# - (# offset 1m)",
        "# * (# offset 1m)",
        "# == (# offset 1m)",
        "# != (# offset 1m)",
        "# >= (# offset 1m)",
        "# < 2",
        "# > bool 2",
        "# * on (job) plain",
    ] {
        put(q.replace('#', "coarser"), Some(Changed::Zero));
    }
    out
}

/// A float, or count, sum and then of each bucket which ends it includes, its ends and its count.
type Numbers = Vec<f64>;

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| value.as_str().expect("a value").parse().expect("a number"))
}

fn histogram(value: &Value) -> Numbers {
    let buckets = value["buckets"].as_array().into_iter().flatten();
    let numbers = buckets.flat_map(|b| b.as_array().expect("a bucket").iter().map(number));
    [number(&value["count"]), number(&value["sum"])].into_iter().chain(numbers).collect()
}

/// An answer as series → time in ms → value; an error as its type.
fn points(answer: &Value) -> Points<Numbers> {
    let data = &answer["data"];
    let Some(result) = data["result"].as_array() else {
        return Err(answer["errorType"].as_str().unwrap_or("no answer").to_owned());
    };
    let mut out: BTreeMap<String, BTreeMap<i64, Numbers>> = BTreeMap::new();
    let time = |pair: &Value| (pair[0].as_f64().expect("a time") * 1000.0).round() as i64;
    if data["resultType"] == "scalar" {
        out.insert("scalar".to_owned(), BTreeMap::from([(time(&data["result"]), vec![number(&data["result"][1])])]));
        return Ok(out);
    }
    for series in result {
        let into = out.entry(label_text(&series["metric"])).or_default();
        for (one, many) in [("value", "values"), ("histogram", "histograms")] {
            let single = [series[one].clone()];
            let samples = series[many].as_array().map_or(&single[..], Vec::as_slice);
            for pair in samples.iter().filter(|p| !p.is_null()) {
                let numbers = if one == "value" { vec![number(&pair[1])] } else { histogram(&pair[1]) };
                into.insert(time(pair), numbers);
            }
        }
    }
    Ok(out)
}

/// The value at the same part of its bucket as `v`, if values grow exponentially and not linearly inside of it.
fn exponentially(v: f64, schema: i32) -> f64 {
    let per_power = 2f64.powi(schema);
    let upper = ((v.abs().log2() * per_power - 1e-9).ceil() / per_power).exp2();
    let lower = upper / (1.0 / per_power).exp2();
    v.signum() * lower * (upper / lower).powf((v.abs() - lower) / (upper - lower))
}

/// Whether `b` is `a`, or what the way in which 3.x interpolates makes of it at one of the resolutions that are written.
fn same(a: &[f64], b: &[f64], changed: Option<Changed>) -> bool {
    let equal = |a: f64, b: f64| {
        close(a, b)
            || changed == Some(Changed::Interpolation)
                && a.abs() > ZERO_THRESHOLD
                && (0..=3).any(|schema| (exponentially(a, schema) - b).abs() <= 1e-9 * b.abs())
    };
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(*a, *b))
}

#[test]
fn written_histograms_read_as_in_prometheus() {
    let config = "global: {evaluation_interval: 1m}\n";
    let Some(both) = Both::start(config, &["--enable-feature=native-histograms"]) else { return };
    let (theirs, ours) = (both.theirs, both.ours.addr);
    let base = now_ms() / MINUTE * MINUTE - LENGTH - 5 * MINUTE;
    let timeseries = samples(base);
    let n: usize = timeseries.iter().map(|s| s.samples.len() + s.histograms.len()).sum();
    both.write(timeseries);
    let start = base + LENGTH - 62 * MINUTE + 500;
    let end = start + 60 * MINUTE;
    let queries = queries();
    let (mut equal, mut differing, mut changes) = (0, Vec::new(), BTreeMap::new());
    for Asked { query, changed } in &queries {
        let alike = |theirs: &Value, ours: &Value| compare(points(theirs), points(ours), |a, b| same(a, b, *changed));
        let of_range = alike(&range(theirs, query, start, end, STEP_S), &range(ours, query, start, end, STEP_S));
        let of_instant = alike(&instant(theirs, query, end), &instant(ours, query, end));
        equal += of_range.0 + of_instant.0;
        let mut lines = of_range.1;
        lines.extend(of_instant.1);
        match changed {
            None | Some(Changed::Interpolation) => {
                differing.extend(lines.into_iter().take(2).map(|line| format!("{query}: {line}")));
            }
            Some(_) if lines.is_empty() => differing.push(format!("{query}: no longer differs")),
            Some(changed) => *changes.entry(*changed).or_insert(0) += lines.len(),
        }
    }
    eprintln!("{} queries on {n} samples: {equal} values equal, {} differ", queries.len(), differing.len());
    eprintln!("changed since 2.42: {changes:?}");
    assert!(differing.is_empty(), "{}", differing[..differing.len().min(SHOWN_MAX)].join("\n"));
}
