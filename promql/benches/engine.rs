//! How fast the engine turns stored columns into answers, without the cost of a store.
//!
//! The data is what scrape targets leave behind: batches of 256 counters that share their timestamps, 24 h at 15 s,
//! read by copying. Each group reports the time per (series, step); samples/s is the same time over all samples that
//! a query covers. Run with `cargo bench -p promontory-promql --bench engine`.

use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use promontory_model::{
    Cancel, Columns, Labels, Queryable, ReadError, Select, Selection, SeriesBatch, Snapshot, TimeRange,
};
use promontory_promql::engine::{Engine, EngineOptions};
use promontory_promql::parser::parse;
use promontory_promql::value::RangeSpec;

const COLUMNS: usize = 256;
const BATCHES: usize = 4;
const INTERVAL_MS: i64 = 15_000;
const ROWS: usize = 24 * 60 * 4;
const END_MS: i64 = ROWS as i64 * INTERVAL_MS;

/// One target: 256 counters, every fourth of which restarts once.
struct Batch {
    target: usize,
    timestamps: Vec<i64>,
    values: Vec<Vec<f64>>,
}

impl Batch {
    fn new(target: usize) -> Self {
        let counter = |column: usize| {
            let restart = if column.is_multiple_of(4) { 1000 + column } else { usize::MAX };
            (0..ROWS)
                .map(|row| if row < restart { row } else { row - restart })
                .map(|n| (1000 + n * (1 + column % 7) + n * n % 5) as f64)
                .collect()
        };
        Self {
            target,
            timestamps: (1..=ROWS as i64).map(|i| i * INTERVAL_MS - 100 * target as i64).collect(),
            values: (0..COLUMNS).map(counter).collect(),
        }
    }

    fn rows(&self, range: TimeRange) -> Range<usize> {
        let start = self.timestamps.partition_point(|t| *t < range.mint.ms());
        start..self.timestamps.partition_point(|t| *t <= range.maxt.ms()).max(start)
    }
}

impl SeriesBatch for Batch {
    fn n_series(&self) -> usize {
        COLUMNS
    }

    fn rows_max(&self, range: TimeRange) -> usize {
        self.rows(range).len()
    }

    fn labels(&self, i: usize) -> Labels {
        Labels::from_pairs([
            ("__name__", "m_total"),
            ("instance", &format!("10.0.0.{}:9100", self.target)),
            ("job", "node"),
            ("mode", &format!("mode-{}", i / 8)),
            ("x", &format!("{}", i % 8)),
        ])
    }

    fn read(&self, series: Range<usize>, range: TimeRange, out: &mut Columns) -> Result<(), ReadError> {
        let rows = self.rows(range);
        out.reset(series.len(), self.timestamps[rows.clone()].iter().copied());
        for (to, from) in series.enumerate() {
            out.values_mut(to).copy_from_slice(&self.values[from][rows.clone()]);
        }
        Ok(())
    }
}

/// All batches, whatever is asked for: the bench has one metric.
struct Store(Vec<Arc<Batch>>);

impl Queryable for Store {
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, ReadError> {
        Ok(Arc::new(Self(self.0.clone())))
    }
}

impl Snapshot for Store {
    fn select(&self, _: &Select<'_>) -> Result<Selection, ReadError> {
        let batch = |b: &Arc<Batch>| b.clone() as Arc<dyn SeriesBatch>;
        Ok(Selection { batches: self.0.iter().map(batch).collect(), warnings: Vec::new() })
    }

    fn label_names(&self, _: &Select<'_>) -> Result<Vec<String>, ReadError> {
        Ok(Vec::new())
    }

    fn label_values(&self, _: &str, _: &Select<'_>, _: usize) -> Result<Vec<String>, ReadError> {
        Ok(Vec::new())
    }
}

fn engine(threads: usize) -> Engine {
    Engine::new(EngineOptions {
        lookback_ms: 300_000,
        max_samples: 50_000_000,
        memory_bytes_max: 4 << 30,
        subquery_step_ms: 60_000,
        delayed_name_removal: false,
        threads,
    })
}

fn queries(c: &mut Criterion) {
    let store = Store((0..BATCHES).map(|i| Arc::new(Batch::new(i))).collect());
    let series = (BATCHES * COLUMNS) as u64;
    let cancel = Cancel::new();
    // The query, how far back from the end it goes, and its step.
    let day = END_MS;
    let cases = [
        ("sum by (x) (rate(m_total[5m]))", day, 60_000, &[1, 2][..]),
        ("sum by (x) (m_total)", day, 60_000, &[1]),
        ("max_over_time(m_total[1h])", day / 4, 60_000, &[1]),
        ("avg by (x) (avg_over_time(m_total[30m]))", day / 4, 60_000, &[1]),
        ("quantile_over_time(0.9, m_total[30m])", day / 24, 15_000, &[1]),
        ("m_total * on (instance, mode, x) m_total > 5", day / 24, 15_000, &[1]),
        ("rate(m_total[5m])", 0, 60_000, &[1]),
        ("count(m_total)", 0, 60_000, &[1]),
    ];
    for (text, back_ms, step_ms, threads) in cases {
        let expr = parse(text).expect("the query is written here");
        let range = RangeSpec { start_ms: END_MS - back_ms, end_ms: END_MS, step_ms };
        let steps = (back_ms / step_ms + 1) as u64;
        let mut group = c.benchmark_group(text);
        group.throughput(Throughput::Elements(series * steps)).sample_size(10).measurement_time(Duration::from_secs(3));
        for threads in threads {
            let engine = engine(*threads);
            group.bench_function(BenchmarkId::new("threads", threads), |b| {
                b.iter(|| black_box(engine.range(&store, &expr, range, &cancel).expect("the query has a value")));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, queries);
criterion_main!(benches);
