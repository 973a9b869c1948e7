//! Limits, cancellation, cost, and what of a query is evaluated once.

use promontory_model::{
    Cancel, Cancelled, Columns, Labels, ReadError, Select, Selection, SeriesBatch, Snapshot, TimeRange,
};

use super::*;
use crate::parser::parse;
use crate::plan::{Node, build};
use crate::promqltest::storage::{MemoryStore, Sample, Value as Stored};
use crate::value::Value;

const OPTIONS: EngineOptions = EngineOptions {
    lookback_ms: 300_000,
    max_samples: 100_000,
    memory_bytes_max: 1 << 20,
    subquery_step_ms: 60_000,
    delayed_name_removal: false,
    threads: 2,
};

/// 50 counters with a sample every 15 s for an hour.
fn store() -> MemoryStore {
    let mut store = MemoryStore::new();
    for i in 0..50 {
        let labels = Labels::from_pairs([("__name__", "m_total"), ("i", &i.to_string())]);
        for row in 0..240i64 {
            let sample = Sample { t: row * 15_000, start: 0, value: Stored::Float(row as f64) };
            store.append(&labels, sample).unwrap();
        }
    }
    store
}

fn range(options: EngineOptions, text: &str, cancel: &Cancel) -> Result<QueryOutput, QueryError> {
    let spec = RangeSpec { start_ms: 0, end_ms: 3_600_000, step_ms: 15_000 };
    Engine::new(options).range(&store(), &parse(text).unwrap(), spec, cancel)
}

#[test]
fn samples_are_limited_by_name() {
    let options = EngineOptions { max_samples: 5_000, ..OPTIONS };
    let error = range(options, "m_total", &Cancel::new()).unwrap_err();
    assert!(matches!(error, QueryError::TooManySamples { allowed: 5_000 }), "{error}");
    // The sum holds 241 steps, whatever it adds up.
    range(options, "sum(m_total)", &Cancel::new()).unwrap();
}

#[test]
fn memory_is_limited_by_name() {
    let options = EngineOptions { memory_bytes_max: 50_000, ..OPTIONS };
    let error = range(options, "m_total", &Cancel::new()).unwrap_err().to_string();
    assert!(error.starts_with("query.max-memory exceeded: "), "{error}");
}

/// A thousand series that must not be read.
struct Unreadable;

impl Queryable for Unreadable {
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, ReadError> {
        Ok(Arc::new(Self))
    }
}

impl Snapshot for Unreadable {
    fn select(&self, _: &Select<'_>) -> Result<Selection, ReadError> {
        Ok(Selection { batches: vec![Arc::new(Self)], warnings: Vec::new() })
    }

    fn label_names(&self, _: &Select<'_>) -> Result<Vec<String>, ReadError> {
        Ok(Vec::new())
    }

    fn label_values(&self, _: &str, _: &Select<'_>, _: usize) -> Result<Vec<String>, ReadError> {
        Ok(Vec::new())
    }
}

impl SeriesBatch for Unreadable {
    fn n_series(&self) -> usize {
        1_000
    }

    fn rows_max(&self, _: TimeRange) -> usize {
        10
    }

    fn labels(&self, _: usize) -> Labels {
        Labels::empty()
    }

    fn read(&self, _: std::ops::Range<usize>, _: TimeRange, _: &mut Columns) -> Result<(), ReadError> {
        panic!("a query that cannot fit reads nothing")
    }
}

#[test]
fn what_cannot_fit_is_refused_before_it_is_read() {
    let (cancel, expr) = (Cancel::new(), parse("m_total").unwrap());
    let spec = RangeSpec { start_ms: 0, end_ms: 3_600_000, step_ms: 100 };
    let engine = Engine::new(EngineOptions { memory_bytes_max: 600_000, max_samples: 10_000_000, ..OPTIONS });
    let error = engine.range(&Unreadable, &expr, spec, &cancel).unwrap_err().to_string();
    assert!(error.starts_with("query.max-memory exceeded: "), "{error}");
    let pool = Arc::new(MemoryPool::new(200_000));
    let engine = Engine::with_pool(OPTIONS, pool.clone());
    let error =
        engine.range(&Unreadable, &expr, RangeSpec { step_ms: 1_000, ..spec }, &cancel).unwrap_err().to_string();
    assert!(error.starts_with("query.max-total-memory exceeded: "), "{error}");
    assert_eq!(pool.bytes(), 0);
}

#[test]
fn cancelled_queries_say_why() {
    for (reason, want) in [
        (Cancelled::Timeout, "query timed out in expression evaluation"),
        (Cancelled::ByUser, "query was canceled in expression evaluation"),
    ] {
        let cancel = Cancel::new();
        cancel.cancel(reason);
        assert_eq!(range(OPTIONS, "sum(m_total)", &cancel).unwrap_err().to_string(), want);
    }
}

#[test]
fn instant_queries_read_their_window_only() {
    let text = "rate(m_total[1m])";
    let engine = Engine::new(OPTIONS);
    let output = engine.instant(&store(), &parse(text).unwrap(), 1_800_000, &Cancel::new()).unwrap();
    let Value::Vector(samples) = &output.value else { panic!("{:?}", output.value) };
    assert_eq!(samples.len(), 50);
    assert_eq!((output.stats.samples_read, output.stats.series_selected), (200, 50));
    assert!(output.stats.samples_peak >= 50 && output.stats.bytes_peak > 0, "{:?}", output.stats);
}

#[test]
fn ranges_must_have_steps_and_a_vector() {
    let cancel = Cancel::new();
    let engine = Engine::new(OPTIONS);
    let check = |text: &str, end_ms: i64, step_ms: i64, want: &str| {
        let spec = RangeSpec { start_ms: 0, end_ms, step_ms };
        let error = engine.range(&store(), &parse(text).unwrap(), spec, &cancel).unwrap_err();
        assert_eq!(error.to_string(), want);
    };
    check("m_total", 10, 0, "zero or negative query resolution step widths are not accepted");
    check("m_total", -1, 1, "end timestamp must not be before start time");
    let type_error = "invalid expression type \"range vector\" for range query, must be Scalar or instant Vector";
    check("m_total[5m]", 10, 1, type_error);
    // More steps than there is memory for are refused before they are made.
    let spec = RangeSpec { start_ms: 0, end_ms: i64::MAX - 1, step_ms: 1 };
    let error = engine.range(&store(), &parse("m_total").unwrap(), spec, &cancel).unwrap_err();
    assert!(error.to_string().starts_with("query.max-memory exceeded: "), "{error}");
}

/// The kinds of nodes of a plan, with their readers.
#[track_caller]
fn check_plan(text: &str, want: &str) {
    let grid = Grid { start: 0, step: 1000, n: 10 };
    let plan =
        build(&parse(text).unwrap(), PlanOptions { grid, end: grid.end(), is_range: true, subquery_step_ms: 60_000 })
            .unwrap();
    let kind = |node: &Node| match node {
        Node::Number(bits) => f64::from_bits(*bits).to_string(),
        node => format!("{node:?}").split(|c: char| !c.is_alphanumeric()).next().unwrap_or("").to_owned(),
    };
    let shown: Vec<String> = plan
        .nodes
        .iter()
        .filter(|p| p.readers > 0)
        .map(|p| format!("{}x{}@{}", kind(&p.node), p.readers, p.grid.n))
        .collect();
    assert_eq!(shown.join(" "), want, "{text}");
}

#[test]
fn equal_subtrees_are_planned_once() {
    check_plan("rate(a[5m]) / rate(a[5m])", "Windowx2@10 Joinx1@10");
    check_plan("a + a offset 5m", "Instantx1@10 Instantx1@10 Joinx1@10");
    check_plan("sum(a) / count(a)", "Instantx2@10 Aggregatex1@10 Aggregatex1@10 Joinx1@10");
}

#[test]
fn constants_are_folded() {
    check_plan("1 + 2 * -3 ^ 2", "-17x1@10");
    check_plan("a * (step() + 1)", "Instantx1@10 2x1@10 VectorScalarx1@10");
}

#[test]
fn what_at_fixes_is_evaluated_once() {
    check_plan("sum(rate(a[5m] @ 100))", "Windowx1@1 Aggregatex1@1 Broadcastx1@10");
    check_plan("a + b @ end()", "Instantx1@10 Instantx1@1 Broadcastx1@10 Joinx1@10");
    check_plan("timestamp(a @ 5)", "SampleTimex1@10");
}

#[test]
fn subqueries_have_steps_of_their_own() {
    // From 0 to 9 s back 30 s: multiples of 10 s after -30 s.
    check_plan("max_over_time(a[30s:10s])", "Instantx1@3 Windowx1@10");
}

#[test]
fn long_and_deep_queries_do_not_exhaust_the_stack() {
    for text in [vec!["m_total"; 20_000].join(" + "), format!("{}m_total", "-".repeat(20_000)), "abs(".repeat(3_000)] {
        if let Ok(expr) = parse(&text) {
            let spec = RangeSpec { start_ms: 0, end_ms: 60_000, step_ms: 15_000 };
            let _ = Engine::new(OPTIONS).range(&store(), &expr, spec, &Cancel::new());
        }
    }
}

fn hour() -> Times {
    Times::Range(RangeSpec { start_ms: 0, end_ms: 3_600_000, step_ms: 60_000 })
}

fn lines(operators: &[Operator]) -> Vec<String> {
    let line = |o: &Operator| {
        let estimate = o.estimate.map(|e| format!(" ~{}/{}", e.series, e.samples)).unwrap_or_default();
        let cost = o.cost.map(|c| format!(" ={}/{} of {}", c.series, c.values, c.samples_read)).unwrap_or_default();
        format!("{} {} {:?}{estimate}{cost}", o.name, o.detail, o.inputs)
    };
    operators.iter().map(line).collect()
}

#[test]
fn a_plan_is_explained_without_reading() {
    let expr = parse("sum by (i) (rate(m_total[5m] offset 1m)) > 2 or m_total").unwrap();
    let got = Engine::new(OPTIONS).explain(&store(), &expr, hour(), &Cancel::new()).unwrap();
    let want = [
        "rate {__name__=\"m_total\"}[5m] offset 1m [] ~50/11850",
        "sum by (i) [0]",
        "number 2 []",
        "> number on the right [1, 2]",
        "select {__name__=\"m_total\"} [] ~50/12000",
        "or on all labels [3, 4]",
    ];
    assert_eq!(lines(&got), want);
    assert!(got.iter().all(|o| o.spans.len() == 1 && o.steps == 61));
}

#[test]
fn operators_are_measured() {
    let clock = std::cell::Cell::new(0);
    let now = || {
        clock.set(clock.get() + 10);
        clock.get()
    };
    let expr = parse("sum(rate(m_total[5m])) / count(m_total)").unwrap();
    let (output, got) = Engine::new(OPTIONS).analyze(&store(), &expr, hour(), &now, &Cancel::new()).unwrap();
    let want = [
        "rate {__name__=\"m_total\"}[5m] [] ~50/12000",
        "sum all in one [0] =1/60 of 12000",
        "select {__name__=\"m_total\"} [] ~50/12000",
        "count all in one [2] =1/61 of 12000",
        "/ on all labels [1, 3] =1/60 of 0",
    ];
    assert_eq!(lines(&got), want);
    // The selections run inside the aggregations above them.
    let times: Vec<_> = got.iter().filter_map(|o| o.cost).map(|c| (c.own_ns, c.total_ns)).collect();
    assert_eq!(times, [(10, 10), (10, 10), (30, 50)]);
    assert_eq!(output.stats.samples_read, 24_000);
}
