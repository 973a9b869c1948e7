//! The engine against the reference evaluator, on generated data and generated queries.
//!
//! The data has what real data has: targets with their own timestamps, gaps, staleness markers, counter resets, NaN
//! and infinities; in a second test also native histograms of many resolutions, gauges, custom buckets, and floats
//! between them. Values are small multiples of 1/4, so that the order of additions changes no sum. Both evaluators
//! must give the same series, steps, values (to 1e-10) and annotations, or both must fail; and the engine must give
//! the same bits with one thread and with three. `PROPTEST_CASES` says how many queries are tried.

use std::ops::Range;
use std::sync::Arc;

use promontory_model::histogram::{CUSTOM_BUCKETS_SCHEMA, CounterResetHint, Span};
use promontory_model::{
    Cancel, Columns, FloatHistogram, Labels, Queryable, ReadError, Select, Selection, SeriesBatch, Snapshot, TimeRange,
    stale_nan,
};
use promontory_promql::annotations::Severity;
use promontory_promql::engine::{Engine, EngineOptions};
use promontory_promql::error::QueryError;
use promontory_promql::histogram::{all_buckets, scaled};
use promontory_promql::parser::parse;
use promontory_promql::reference::{Reference, ReferenceOptions};
use promontory_promql::value::{MatrixSeries, QueryOutput, RangeSpec, SampleValue, Value};
use proptest::prelude::*;

/// Series with shared timestamps; a row without a sample is `None`.
#[derive(Debug, Clone)]
struct Group {
    timestamps: Vec<i64>,
    series: Vec<(Labels, Vec<Option<Cell>>)>,
}

#[derive(Debug, Clone)]
enum Cell {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

#[derive(Debug, Clone)]
struct Store(Vec<Arc<Group>>);

impl Group {
    fn rows(&self, range: TimeRange) -> Range<usize> {
        let start = self.timestamps.partition_point(|t| *t < range.mint.ms());
        start..self.timestamps.partition_point(|t| *t <= range.maxt.ms()).max(start)
    }
}

/// The series of a group that pass the matchers.
struct Batch {
    group: Arc<Group>,
    members: Vec<usize>,
}

impl SeriesBatch for Batch {
    fn n_series(&self) -> usize {
        self.members.len()
    }

    fn rows_max(&self, range: TimeRange) -> usize {
        self.group.rows(range).len()
    }

    fn labels(&self, i: usize) -> Labels {
        self.group.series[self.members[i]].0.clone()
    }

    fn read(&self, series: Range<usize>, range: TimeRange, out: &mut Columns) -> Result<(), ReadError> {
        let rows = self.group.rows(range);
        out.reset(series.len(), self.group.timestamps[rows.clone()].iter().copied());
        for (column, i) in series.enumerate() {
            for (row, value) in self.group.series[self.members[i]].1[rows.clone()].iter().enumerate() {
                match value {
                    Some(Cell::Float(v)) => out.set_present(column, row, *v),
                    Some(Cell::Histogram(h)) => out.push_histogram(column, row, h.clone()),
                    None => out.set_absent(column, row),
                }
            }
        }
        Ok(())
    }
}

impl Queryable for Store {
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, ReadError> {
        Ok(Arc::new(self.clone()))
    }
}

impl Snapshot for Store {
    fn select(&self, select: &Select<'_>) -> Result<Selection, ReadError> {
        let mut batches: Vec<Arc<dyn SeriesBatch>> = Vec::new();
        for group in &self.0 {
            let passes = |i: &usize| select.matchers.iter().all(|m| m.matches_labels(&group.series[*i].0));
            let members: Vec<usize> = (0..group.series.len()).filter(passes).collect();
            if !members.is_empty() {
                batches.push(Arc::new(Batch { group: group.clone(), members }));
            }
        }
        Ok(Selection { batches, warnings: Vec::new() })
    }

    fn label_names(&self, _: &Select<'_>) -> Result<Vec<String>, ReadError> {
        Ok(Vec::new())
    }

    fn label_values(&self, _: &str, _: &Select<'_>, _: usize) -> Result<Vec<String>, ReadError> {
        Ok(Vec::new())
    }
}

/// What a client has observed since its last reset, or observes at the moment: whole numbers in a few buckets.
fn histogram() -> impl Strategy<Value = FloatHistogram> {
    let counts = proptest::collection::vec(0..5u8, 1..5);
    (counts.clone(), counts, -2..3i32, 0..4i32, 0..3u8, 0..12u8).prop_map(|(up, down, first, schema, zero, kind)| {
        let counts = |counts: &[u8]| counts.iter().map(|c| f64::from(*c)).collect::<Vec<_>>();
        let spans = |n: usize| vec![Span { offset: first, length: n as u32 }];
        let (positive, negative) = (counts(&up), counts(&down));
        let sum = f64::from(first) / 4.0;
        if kind == 0 {
            let bounds = &[-1.0, 0.5, 2.0, 5.0][..positive.len() - 1];
            return FloatHistogram {
                schema: CUSTOM_BUCKETS_SCHEMA,
                count: positive.iter().sum(),
                sum,
                positive_spans: vec![Span { offset: 0, length: positive.len() as u32 }],
                positive_buckets: positive,
                custom_values: bounds.to_vec(),
                ..FloatHistogram::default()
            };
        }
        // Negative buckets are the exception.
        let negative = if kind == 1 { negative } else { Vec::new() };
        FloatHistogram {
            schema,
            count: positive.iter().chain(&negative).sum::<f64>() + f64::from(zero),
            sum,
            zero_threshold: if zero > 0 { 0.125 } else { 0.0 },
            zero_count: f64::from(zero),
            positive_spans: spans(positive.len()),
            positive_buckets: positive,
            negative_spans: if negative.is_empty() { Vec::new() } else { spans(negative.len()) },
            negative_buckets: negative,
            ..FloatHistogram::default()
        }
    })
}

/// The histograms of a series, most of them a counter that grows by the same, some with floats between them.
fn histogram_column(rows: usize) -> impl Strategy<Value = Vec<Option<Cell>>> {
    let cell = |h: FloatHistogram| Some(Cell::Histogram(Arc::new(h)));
    let counter = (histogram(), proptest::collection::vec(0..10u8, rows)).prop_map(move |(by, steps)| {
        let mut n = 0.0;
        let grow = |step: &u8| {
            n = if *step == 0 { 1.0 } else { n + f64::from(step % 3) };
            (*step != 1).then(|| cell(scaled(&by, n))).flatten()
        };
        steps.iter().map(grow).collect()
    });
    let gauge = proptest::collection::vec(histogram(), rows).prop_map(move |all| {
        let gauge = |h| FloatHistogram { counter_reset_hint: CounterResetHint::Gauge, ..h };
        all.into_iter().map(|h| cell(gauge(h))).collect()
    });
    let either = prop_oneof![
        3 => histogram().prop_map(cell),
        1 => value().prop_map(|v| v.map(Cell::Float)),
    ];
    let mixed = proptest::collection::vec(either, rows);
    prop_oneof![3 => counter, 1 => gauge, 1 => mixed]
}

fn value() -> impl Strategy<Value = Option<f64>> {
    prop_oneof![
        20 => (0..40i32).prop_map(|v| Some(f64::from(v) / 4.0)),
        2 => (-20..0i32).prop_map(|v| Some(f64::from(v) / 4.0)),
        2 => Just(None),
        1 => prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(f64::NEG_INFINITY)].prop_map(Some),
        1 => Just(Some(stale_nan())),
    ]
}

fn column(rows: usize) -> impl Strategy<Value = Vec<Option<f64>>> {
    prop_oneof![
        // A counter in every row, with a few resets.
        2 => proptest::collection::vec((0..12i32, 0..12u8), rows).prop_map(|steps| {
            let mut total = 0.0;
            steps.iter().map(|(by, reset)| {
                total = if *reset == 0 { f64::from(*by) / 4.0 } else { total + f64::from(*by) / 4.0 };
                Some(total)
            }).collect()
        }),
        1 => (0..40i32).prop_map(move |v| vec![Some(f64::from(v) / 4.0); rows]),
        2 => proptest::collection::vec(value(), rows),
    ]
}

fn group(id: usize, with_histograms: bool) -> impl Strategy<Value = Group> {
    proptest::collection::vec(5_000i64..25_000, 1..40).prop_flat_map(move |gaps| {
        let mut t = 0;
        let timestamps: Vec<i64> = gaps
            .iter()
            .map(|gap| {
                t += gap;
                t
            })
            .collect();
        let floats = column(gaps.len()).prop_map(|rows| rows.into_iter().map(|v| v.map(Cell::Float)).collect());
        let histograms = histogram_column(gaps.len());
        let weight = if with_histograms { 3 } else { 0 };
        let columns = proptest::collection::vec(prop_oneof![1 => floats, weight => histograms], 1..7);
        columns.prop_map(move |columns| {
            let series = columns.into_iter().enumerate().map(|(i, values)| {
                let name = ["a_total", "b", "c_bucket"][i % 3];
                let mut pairs = vec![
                    ("__name__".to_owned(), name.to_owned()),
                    ("job".to_owned(), format!("j{}", id % 2)),
                    ("i".to_owned(), format!("{}", i / 3)),
                    ("g".to_owned(), format!("{id}")),
                ];
                if name == "c_bucket" {
                    pairs.push(("le".to_owned(), ["0.5", "+Inf"][i / 3 % 2].to_owned()));
                }
                (Labels::from_pairs(pairs), values)
            });
            Group { timestamps: timestamps.clone(), series: series.collect() }
        })
    })
}

fn store(h: bool) -> impl Strategy<Value = Store> {
    (group(0, h), group(1, h), group(2, h)).prop_map(|(a, b, c)| Store(vec![Arc::new(a), Arc::new(b), Arc::new(c)]))
}

fn one_of(texts: &'static [&'static str]) -> impl Strategy<Value = String> + Clone {
    proptest::sample::select(texts).prop_map(str::to_owned)
}

fn selector() -> impl Strategy<Value = String> + Clone {
    let series =
        one_of(&["a_total", "b", "c_bucket", "a_total{job=\"j0\"}", "b{i!=\"0\"}", "{__name__=~\"a_total|b\"}"]);
    let at = one_of(&["", "", "", "", " offset 30s", " offset -20s", " @ 200", " @ end()", " @ 150 offset 1m"]);
    (series, at).prop_map(|(s, at)| format!("{s}{at}"))
}

fn matrix() -> impl Strategy<Value = String> + Clone {
    let series = one_of(&["a_total", "b", "c_bucket", "b{job=\"j1\"}"]);
    let range = one_of(&["[30s]", "[1m]", "[2m7s]", "[5m]"]);
    let rest = one_of(&["", "", "", " offset 25s", " @ 180", " anchored", " smoothed"]);
    let stored = (series.clone(), range, rest).prop_map(|(s, r, rest)| format!("{s}{r}{rest}"));
    let window = one_of(&["[1m:15s]", "[3m:20s]", "[2m:]", "[100s:7s] offset 10s"]);
    let subquery = (series, window).prop_map(|(s, w)| format!("{s}{w}"));
    prop_oneof![3 => stored, 1 => subquery]
}

fn over_time() -> impl Strategy<Value = String> + Clone {
    let function = one_of(&[
        "rate",
        "rate",
        "increase",
        "delta",
        "irate",
        "idelta",
        "sum_over_time",
        "avg_over_time",
        "min_over_time",
        "max_over_time",
        "count_over_time",
        "last_over_time",
        "first_over_time",
        "stddev_over_time",
        "stdvar_over_time",
        "present_over_time",
        "absent_over_time",
        "changes",
        "resets",
        "deriv",
        "mad_over_time",
        "ts_of_min_over_time",
        "ts_of_max_over_time",
        "ts_of_last_over_time",
    ]);
    let plain = (function, matrix()).prop_map(|(f, m)| format!("{f}({m})"));
    let quantile = (one_of(&["0", "0.3", "0.99", "1", "1.5"]), matrix())
        .prop_map(|(q, m)| format!("quantile_over_time({q}, {m})"));
    let predict = matrix().prop_map(|m| format!("predict_linear({m}, 60)"));
    let smooth = matrix().prop_map(|m| format!("double_exponential_smoothing({m}, 0.3, 0.6)"));
    prop_oneof![8 => plain, 1 => quantile, 1 => predict, 1 => smooth]
}

fn vector() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![3 => selector(), 4 => over_time()];
    leaf.prop_recursive(3, 8, 2, |inner| {
        let grouping = one_of(&["", " by (job)", " by (g, i)", " without (i)", " by ()", " by (__name__)"]);
        let aggregate = one_of(&[
            "sum",
            "avg",
            "min",
            "max",
            "count",
            "group",
            "stddev",
            "stdvar",
            "quantile",
            "topk",
            "count_values",
        ]);
        let aggregate = (aggregate, grouping, inner.clone()).prop_map(|(op, by, v)| match op.as_str() {
            "quantile" => format!("quantile{by} (0.4, {v})"),
            "topk" => format!("count(topk{by} (2, {v}))"),
            "count_values" => format!("count_values{by} (\"v\", {v})"),
            _ => format!("{op}{by} ({v})"),
        });
        let function = one_of(&[
            "abs(#)",
            "ceil(#)",
            "-(#)",
            "sgn(#)",
            "clamp(#, 1, 5)",
            "clamp_min(#, 2)",
            "clamp_max(#, 3)",
            "round(#, 0.5)",
            "# + 1",
            "2 - #",
            "# > 2",
            "3 >= bool #",
            "# * time()",
            "timestamp(#)",
            "absent(#)",
            "vector(scalar(#))",
            "label_replace(#, \"x\", \"$1\", \"job\", \"j(.)\")",
            "label_join(#, \"x\", \"-\", \"job\", \"i\")",
            "histogram_quantile(0.7, #)",
            "sort(#)",
            "minute(#)",
            "last_over_time((#)[1m:20s])",
            "sum_over_time((#)[2m:30s])",
            "count(limitk(2, #))",
            "histogram_fraction(0, 0.2, #)",
            "histogram_count(#)",
            "histogram_sum(#)",
            "histogram_avg(#)",
            "histogram_stddev(#)",
            "# / 4",
        ]);
        let function = (function, inner.clone()).prop_map(|(f, v)| f.replace('#', &format!("({v})")));
        let operator = one_of(&["+", "-", "*", "/", "%", "==", ">", "!= bool", "and", "or", "unless", "atan2"]);
        let matching =
            one_of(&["", "", " on (job, i, g)", " ignoring (i)", " on (g) group_left", " on (job) group_right (g)"]);
        let join = (inner.clone(), operator, matching, inner).prop_map(|(a, op, matching, b)| {
            let set = matches!(op.as_str(), "and" | "or" | "unless");
            let matching = if set && matching.contains("group") { String::new() } else { matching };
            format!("({a}) {op}{matching} ({b})")
        });
        prop_oneof![3 => aggregate, 3 => function, 2 => join]
    })
}

fn engine(threads: usize, delayed_name_removal: bool) -> Engine {
    Engine::new(EngineOptions {
        lookback_ms: 60_000,
        max_samples: 1 << 30,
        memory_bytes_max: 1 << 30,
        subquery_step_ms: 60_000,
        delayed_name_removal,
        threads,
    })
}

fn reference(delayed_name_removal: bool) -> Reference {
    Reference::new(ReferenceOptions {
        lookback_ms: 60_000,
        subquery_step_ms: 60_000,
        delayed_name_removal,
        use_start_timestamps: true,
        type_and_unit_labels: false,
    })
}

/// A float, or what there is to a histogram.
fn numbers(h: &FloatHistogram) -> Vec<f64> {
    let buckets = all_buckets(h).into_iter().flat_map(|b| [b.lower, b.upper, b.count]);
    [f64::from(h.schema), h.zero_threshold, h.count, h.sum].into_iter().chain(buckets).collect()
}

/// The samples of a series: time and numbers.
type Samples = Vec<(i64, Vec<f64>)>;

/// Series with their samples, by labels.
fn flat(value: &Value) -> Vec<(String, Samples)> {
    let mut out: Vec<(String, Samples)> = match value {
        Value::Scalar(t, v) => vec![("scalar".to_owned(), vec![(*t, vec![*v])])],
        Value::String(t, s) => vec![(s.clone(), vec![(*t, Vec::new())])],
        Value::Vector(samples) => samples
            .iter()
            .map(|s| match &s.value {
                SampleValue::Float(v) => (s.labels.to_string(), vec![(s.t, vec![*v])]),
                SampleValue::Histogram(h) => (s.labels.to_string(), vec![(s.t, numbers(h))]),
            })
            .collect(),
        Value::Matrix(series) => {
            let samples = |s: &MatrixSeries| {
                let floats = s.floats.iter().map(|(t, v)| (*t, vec![*v]));
                floats.chain(s.histograms.iter().map(|(t, h)| (*t, numbers(h)))).collect()
            };
            series.iter().map(|s| (s.labels.to_string(), samples(s))).collect()
        }
    };
    out.sort_by(|a, b| a.0.cmp(&b.0));
    out
}

fn notes(output: &QueryOutput, text: &str) -> Vec<String> {
    let mut all = output.annotations.texts(Severity::Warning, text);
    all.extend(output.annotations.texts(Severity::Info, text));
    // Whether a histogram follows a reset is looked up beside floats in different ways.
    all.retain(|note| !note.contains("conflicting counter resets"));
    all.sort_unstable();
    all
}

fn close(a: f64, b: f64) -> bool {
    a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= 1e-10 * a.abs().max(b.abs()).max(1.0)
}

fn compare(
    text: &str,
    got: &Result<QueryOutput, QueryError>,
    want: &Result<QueryOutput, QueryError>,
) -> Result<(), TestCaseError> {
    match (got, want) {
        (Err(_), Err(_)) => Ok(()),
        (Ok(got), Ok(want)) => {
            let (g, w) = (flat(&got.value), flat(&want.value));
            let same_numbers = |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| close(*a, *b));
            let same_samples = |a: &[(i64, Vec<f64>)], b: &[(i64, Vec<f64>)]| {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && same_numbers(&a.1, &b.1))
            };
            let same = g.len() == w.len() && g.iter().zip(&w).all(|(a, b)| a.0 == b.0 && same_samples(&a.1, &b.1));
            prop_assert!(same, "{text}\n engine    {g:?}\n reference {w:?}");
            let (got, want) = (notes(got, text), notes(want, text));
            if text.contains(")[") {
                // A subquery also meets what lies between the windows of two steps, which the reference does not ask for.
                prop_assert!(want.iter().all(|note| got.contains(note)), "{text}\n {got:?}\n {want:?}");
            } else {
                prop_assert_eq!(got, want, "{}", text);
            }
            Ok(())
        }
        (got, want) => {
            let show = |r: &Result<QueryOutput, QueryError>| match r {
                Ok(o) => format!("{:?}", flat(&o.value)),
                Err(e) => e.to_string(),
            };
            Err(TestCaseError::fail(format!("{text}\n engine    {}\n reference {}", show(got), show(want))))
        }
    }
}

fn check(store: &Store, text: &str, start_ms: i64, step_ms: i64, n: i64, delayed: bool) -> Result<(), TestCaseError> {
    // Some combinations are no queries, a set operator with `group_left` for one.
    let Ok(expr) = parse(text) else { return Ok(()) };
    let cancel = Cancel::new();
    // The end is on a step or not.
    let end_ms = start_ms + step_ms * n + start_ms % 3 * 1_111;
    let range = RangeSpec { start_ms, end_ms, step_ms };
    let (one, three) = (engine(1, delayed), engine(3, delayed));
    let want = reference(delayed).range(store, &expr, range, &cancel);
    let got = one.range(store, &expr, range, &cancel);
    compare(text, &got, &want)?;
    let parallel = three.range(store, &expr, range, &cancel);
    if let (Ok(a), Ok(b)) = (&got, &parallel) {
        prop_assert_eq!(format!("{:?}", a.value), format!("{:?}", b.value), "threads change {}", text);
    }
    let want = reference(delayed).instant(store, &expr, start_ms, &cancel);
    let got = one.instant(store, &expr, start_ms, &cancel);
    compare(text, &got, &want)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn engine_agrees_with_the_reference(
        store in store(false), text in vector(), start in 0i64..400_000, step in 5_000i64..90_000, n in 0i64..20,
        delayed in proptest::bool::ANY,
    ) {
        // Where names go at once, series of several names may clash; the reference does not look for that everywhere.
        check(&store, &text, start, step, n, delayed || text.contains("__name__"))?;
    }

    #[test]
    fn engine_agrees_with_the_reference_on_histograms(
        store in store(true), text in vector(), start in 0i64..400_000, step in 5_000i64..90_000, n in 0i64..20,
        delayed in proptest::bool::ANY,
    ) {
        // A text of all digits would show in which order numbers were added.
        if !text.contains("count_values") {
            check(&store, &text, start, step, n, delayed || text.contains("__name__"))?;
        }
    }
}

/// What proptest has found once.
#[test]
fn engine_agrees_on_queries_that_once_differed() {
    let rows = |values: &[f64]| values.iter().map(|v| Some(Cell::Float(*v))).collect::<Vec<_>>();
    let labels = |i: &str| Labels::from_pairs([("__name__", "b"), ("i", i), ("g", "0")]);
    let bucket = |i: &str, le: &str| Labels::from_pairs([("__name__", "c_bucket"), ("i", i), ("le", le)]);
    let store = Store(vec![
        Arc::new(Group {
            timestamps: vec![10_000, 20_000, 30_000],
            series: vec![
                (labels("0"), rows(&[1.0, 2.0, 4.0])),
                (labels("1"), rows(&[0.5, f64::NAN, 0.0])),
                (labels("2"), rows(&[0.5, 1.0, stale_nan()])),
            ],
        }),
        Arc::new(Group {
            timestamps: vec![10_000, 20_000, 30_000, 40_000],
            series: vec![
                (bucket("0", "0.5"), rows(&[0.0, 3.0, 4.0, f64::NAN])),
                (bucket("1", "5"), rows(&[-1.0, f64::NAN, 4.0, 5.0])),
                (bucket("2", "+Inf"), rows(&[-1.0, 5.0, f64::NAN, 9.0])),
            ],
        }),
    ]);
    for text in [
        "sort((sum (b)))",
        "sum by (g) (b) > 1",
        "b * on (g) group_left count by (g) (b)",
        "rate(b[30s]) or b",
        "min by (__name__) (b offset -20s or double_exponential_smoothing(b[1m], 0.3, 0.6))",
        "quantile by (__name__, i) (0.5, b offset -20s or -b)",
        "count_values by (__name__) (\"v\", b offset -20s or -b)",
        "last_over_time((b offset -20s or -b)[1m:20s])",
        "sum_over_time((b offset -20s or -b)[1m:20s])",
        "sum by (__name__) (last_over_time((b offset -20s or -b)[30s:5s]))",
        "(b offset -20s or -b)[1m:20s]",
        "histogram_quantile(0.7, max without (i) (c_bucket))",
    ] {
        check(&store, text, 10_000, 5_000, 6, true).unwrap();
        check(&store, text, 10_000, 5_000, 0, true).unwrap();
    }
}
