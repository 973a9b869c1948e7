//! A cache never changes an answer: random lives of a store, each query asked with and without it.

use std::collections::BTreeMap;

use promontory_model::{Labels, ReadError, Snapshot, TimeRange};
use proptest::prelude::*;

use super::*;
use crate::parser::parse;
use crate::promqltest::storage::{MemoryStore, Sample, Value as Stored};

const MINUTE: i64 = 60_000;
/// Samples arrive at most this late without being late.
const MARGIN: i64 = 2 * MINUTE;

/// Series by number with their samples, a clock, and an account of changes.
#[derive(Debug, Default)]
struct Store {
    series: Vec<BTreeMap<i64, f64>>,
    now: i64,
    changes: Vec<TimeRange>,
}

impl Store {
    fn put(&mut self, series: usize, t: i64, v: f64) {
        self.series.resize(self.series.len().max(series + 1), BTreeMap::new());
        self.series[series].insert(t, v);
        if t < self.settled_before() {
            self.changes.push(TimeRange::new(t, t));
        }
    }

    fn delete(&mut self, from: i64, to: i64) {
        self.series.iter_mut().for_each(|s| s.retain(|t, _| *t < from || *t > to));
        self.changes.push(TimeRange::new(from, to));
    }
}

impl Changes for Store {
    fn newest(&self) -> u64 {
        self.changes.len() as u64
    }

    fn settled_before(&self) -> i64 {
        self.now - MARGIN
    }

    fn since(&self, after: u64) -> Option<Vec<TimeRange>> {
        Some(self.changes[after as usize..].to_vec())
    }
}

impl Queryable for Store {
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, ReadError> {
        let mut store = MemoryStore::new();
        for (i, series) in self.series.iter().enumerate() {
            let job = if i % 2 == 0 { "even" } else { "odd" };
            let labels = Labels::from_pairs([("__name__", "x_total"), ("job", job), ("n", &i.to_string())]);
            for (t, v) in series {
                let sample = Sample { t: *t, start: 0, value: Stored::Float(*v) };
                store.append(&labels, sample).expect("samples are in order");
            }
        }
        store.snapshot()
    }

    fn changes(&self) -> Option<&dyn Changes> {
        Some(self)
    }
}

const QUERIES: [&str; 12] = [
    "x_total",
    "sum by (job) (rate(x_total[5m]))",
    "x_total offset 3m > 2",
    "x_total offset -3m",
    "max_over_time(x_total[3m]) + on (n) x_total",
    "max_over_time(sum(x_total)[4m:1m])",
    "sum_over_time(x_total[2m] offset 1m) or vector(time())",
    "topk(1, x_total)",
    "x_total @ end()",
    "rate(x_total[90s] smoothed) or x_total smoothed",
    "absent(x_total{n=\"0\"})",
    "limitk(1, x_total)",
];

#[derive(Debug, Clone)]
enum Step {
    /// Time goes on, and each series has a sample on the way.
    Advance { minutes: i64, mask: u8 },
    /// A sample so many minutes ago.
    Put { series: usize, minutes_ago: i64 },
    /// All samples of a span end.
    Delete { minutes_ago: i64, minutes: i64 },
    /// A query over the minutes before now, less an end.
    Ask { query: usize, minutes: i64, end: i64, step: i64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let ask = (0..QUERIES.len(), 1..40i64, prop_oneof![4 => Just(0), 1 => 0..5i64], 1..4i64);
    let step = prop_oneof![
        3 => (1..4i64, any::<u8>()).prop_map(|(minutes, mask)| Step::Advance { minutes, mask }),
        1 => (0..4usize, 0..40i64).prop_map(|(series, minutes_ago)| Step::Put { series, minutes_ago }),
        1 => (0..40i64, 0..10i64).prop_map(|(minutes_ago, minutes)| Step::Delete { minutes_ago, minutes }),
        6 => ask.prop_map(|(query, minutes, end, step)| Step::Ask { query, minutes, end, step }),
    ];
    // Few queries per life, so that they are asked again.
    (proptest::collection::vec(step, 1..60), 0..QUERIES.len(), 1..4usize).prop_map(|(mut steps, first, n)| {
        for step in &mut steps {
            if let Step::Ask { query, minutes, step, .. } = step {
                *query = (first + *query % n) % QUERIES.len();
                *step = 1 + *query as i64 % 3;
                *minutes = 10 + *minutes % 20;
            }
        }
        steps
    })
}

fn engine() -> Engine {
    Engine::new(EngineOptions {
        lookback_ms: 2 * MINUTE,
        max_samples: 1_000_000,
        memory_bytes_max: 1 << 30,
        subquery_step_ms: MINUTE,
        delayed_name_removal: false,
        threads: 1,
    })
}

/// The answer of the cache, compared with that of the engine alone.
fn ask(cache: &ResultCache, store: &Store, query: &str, range: RangeSpec) -> Value {
    let (expr, cancel) = (parse(query).expect("a query"), Cancel::default());
    let want = engine().range(store, &expr, range, &cancel).expect("a value");
    let got = cache.range(&engine(), store, query, &expr, range, &cancel).expect("a value");
    assert_eq!(got.value, want.value, "{query} {range:?}");
    got.value
}

fn live(steps: &[Step], bytes_max: usize) -> CacheStats {
    let cache = ResultCache::new(bytes_max);
    let mut store = Store { now: 1_000 * MINUTE, ..Store::default() };
    for step in steps {
        match *step {
            Step::Advance { minutes, mask } => {
                for minute in 0..minutes {
                    store.now += MINUTE;
                    for series in (0..4).filter(|i| mask >> ((i + minute) % 8) & 1 == 0) {
                        let t = store.now - 1_000 * series;
                        store.put(series as usize, t, (t / MINUTE % 50) as f64);
                    }
                }
            }
            Step::Put { series, minutes_ago } => {
                let t = store.now - minutes_ago * MINUTE - 7_000;
                store.put(series, t, 99.0);
            }
            Step::Delete { minutes_ago, minutes } => {
                let from = store.now - minutes_ago * MINUTE;
                store.delete(from - minutes * MINUTE, from);
            }
            Step::Ask { query, minutes, end, step } => {
                let step_ms = step * MINUTE;
                // Dashboards round their ends to steps; a rest of the range less than a step is legal too.
                let end_ms = (store.now - end * MINUTE).div_euclid(step_ms) * step_ms;
                let start_ms = (end_ms - minutes * MINUTE).div_euclid(step_ms) * step_ms;
                let range = RangeSpec { start_ms, end_ms: end_ms + end * 100, step_ms };
                ask(&cache, &store, QUERIES[query], range);
            }
        }
    }
    cache.stats()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(256)))]

    #[test]
    fn answers_are_those_without_a_cache(steps in steps()) {
        live(&steps, 1 << 20);
        live(&steps, 2_000);
    }
}

fn filled() -> Store {
    let mut store = Store { now: 1_000 * MINUTE, ..Store::default() };
    for _ in 0..60 {
        store.now += MINUTE;
        let (t, v) = (store.now, (store.now / MINUTE) as f64);
        store.put(0, t, v);
    }
    store
}

fn last_hour(store: &Store) -> RangeSpec {
    RangeSpec { start_ms: store.now - 30 * MINUTE, end_ms: store.now, step_ms: MINUTE }
}

#[test]
fn a_refresh_evaluates_only_what_is_new() {
    let cache = ResultCache::new(1 << 20);
    let mut store = filled();
    let (expr, cancel) = (parse("rate(x_total[5m])").expect("a query"), Cancel::default());
    let query = |store: &Store| {
        let output = cache.range(&engine(), store, "rate(x_total[5m])", &expr, last_hour(store), &cancel);
        output.expect("a value").stats.samples_read
    };
    let cold = query(&store);
    store.now += MINUTE;
    let now = store.now;
    store.put(0, now, 2_000.0);
    let refreshed = query(&store);
    assert!(refreshed * 3 < cold, "{refreshed} samples of {cold} read");
    assert_eq!((cache.stats().hits, cache.stats().misses, cache.stats().steps_reused), (1, 1, 27));
}

#[test]
fn late_samples_and_deletions_drop_the_steps_that_read_them() {
    let cache = ResultCache::new(1 << 20);
    let mut store = filled();
    ask(&cache, &store, "x_total", last_hour(&store));
    let t = store.now - 20 * MINUTE;
    store.put(0, t + 1, 7_000.0);
    ask(&cache, &store, "x_total", last_hour(&store));
    store.delete(t, t + 5 * MINUTE);
    ask(&cache, &store, "x_total", last_hour(&store));
    assert_eq!(cache.stats().hits, 2);
}

#[test]
fn what_is_not_kept_is_counted() {
    let cache = ResultCache::new(1 << 20);
    let store = filled();
    for query in ["x_total @ end()", "limitk(1, x_total)", "x_total + range()"] {
        ask(&cache, &store, query, last_hour(&store));
    }
    assert_eq!((cache.stats().passed, cache.stats().answers), (3, 0));
    let none = ResultCache::new(0);
    ask(&none, &store, "x_total", last_hour(&store));
    assert_eq!((none.stats().answers, none.stats().bytes), (0, 0));
}

#[test]
fn random_lives_hit_the_cache() {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut hits = 0;
    for _ in 0..64 {
        let steps = steps().new_tree(&mut runner).expect("a life").current();
        hits += live(&steps, 1 << 20).hits;
    }
    assert!(hits > 100, "{hits} hits prove little");
}
