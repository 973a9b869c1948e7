//! The database against a `BTreeMap`: random appends, maintenance, restarts and crashes of the process, bit for bit.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use promontory_model::histogram::{CUSTOM_BUCKETS_SCHEMA, CounterResetHint, Counts, Span};
use promontory_model::{
    Cancel, Columns, FloatHistogram, HistogramSample, Labels, MatchOp, Matcher, Queryable as _, STALE_NAN_BITS, Select,
    Selection, Snapshot, TimeRange, Timestamp, stale_nan,
};
use proptest::prelude::*;

use crate::clock::ManualClock;
use crate::sample::put_histogram;
use crate::vfs::SimVfs;
use crate::vfs::sim::Survival;
use crate::{Appended, Db, DbOptions, FsyncPolicy, GroupWriter, Matched, SeriesRef};

/// Bits of floats; histograms by [`histogram_mark`].
pub(super) type Samples = BTreeMap<(u8, i64), u64>;

/// A histogram that `kind` tells from all others: integers and floats, counters and gauges, custom bounds, markers.
/// Those of neighbouring kinds continue each other.
pub(crate) fn histogram(kind: u8) -> HistogramSample {
    let n = f64::from(kind / 8);
    let counts = if kind % 8 == 1 { Counts::Float } else { Counts::Integer };
    let scale = if counts == Counts::Float { 0.5 } else { 1.0 };
    let exponential = FloatHistogram {
        schema: 2,
        zero_threshold: 0.25,
        zero_count: n,
        count: 4.0 * n * scale + n,
        sum: n / 3.0,
        positive_spans: vec![Span { offset: -1, length: 1 }, Span { offset: i32::from(kind % 8 == 2), length: 1 }],
        positive_buckets: vec![n * scale, 3.0 * n * scale],
        ..FloatHistogram::default()
    };
    let value = match kind % 8 {
        3 => FloatHistogram { counter_reset_hint: CounterResetHint::Gauge, ..exponential },
        4 => FloatHistogram { sum: stale_nan(), ..FloatHistogram::default() },
        5 => FloatHistogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            zero_threshold: 0.0,
            zero_count: 0.0,
            count: 4.0 * n,
            positive_spans: vec![Span { offset: 1, length: 2 }],
            custom_values: vec![0.5, 1.0, 2.0],
            ..exponential
        },
        _ => exponential,
    };
    HistogramSample::new(value, counts).unwrap()
}

/// A number that stands for a histogram.
pub(crate) fn histogram_mark(sample: &HistogramSample) -> u64 {
    let mut bytes = Vec::new();
    put_histogram(&mut bytes, sample);
    u64::from(crc32fast::hash(&bytes)) << 32 | bytes.len() as u64
}

pub(crate) fn small() -> DbOptions {
    DbOptions {
        block_ms: 10_000,
        retention_ms: None,
        retention_bytes: None,
        retention_percent: None,
        compaction_rate: None,
        out_of_order_window_ms: 3000,
        fsync: FsyncPolicy::Always,
        commit_interval_ms: None,
        rows_max: 4,
        // Groups are small, and both ways are wanted.
        patch_values_max: 16,
        seal_age_ms: 2000,
        checkpoint_ms: 1500,
        columns_max: 8,
        wal_segment_bytes: 2000,
        head_segment_bytes: 3000,
        labels_bytes_max: 1000,
        exemplars_max: 1000,
        reserve_bytes: 0,
    }
}

pub(super) fn labels(series: u8) -> Labels {
    Labels::from_pairs([("__name__", format!("m{}", series % 3)), ("s", series.to_string())])
}

/// Everything that a snapshot sees in a range.
pub(super) fn samples(snapshot: &dyn Snapshot, range: TimeRange) -> Samples {
    samples_of(snapshot, &[], range)
}

/// The floats of each series, sorted.
fn floats(selection: &Selection, range: TimeRange) -> Vec<Vec<(i64, u64)>> {
    let mut columns = Columns::default();
    let mut out = Vec::new();
    for batch in &selection.batches {
        batch.read(0..batch.n_series(), range, &mut columns).unwrap();
        for i in 0..batch.n_series() {
            let column = columns.column(i);
            let rows = (0..columns.n_rows()).filter(|row| column.is_present(*row));
            out.push(rows.map(|row| (columns.timestamps()[row], column.values[row].to_bits())).collect());
        }
    }
    out.sort_unstable();
    out
}

/// Everything of series that pass the matchers.
pub(super) fn samples_of(snapshot: &dyn Snapshot, matchers: &[Matcher], range: TimeRange) -> Samples {
    let cancel = Cancel::new();
    let found = snapshot.select(&Select { range, matchers, cancel: &cancel }).unwrap();
    assert_eq!(found.warnings, Vec::<String>::new());
    let unlabelled = snapshot.select_unlabelled(&Select { range, matchers, cancel: &cancel }).unwrap();
    assert_eq!(floats(&unlabelled, range), floats(&found, range), "without labels");
    let mut columns = Columns::default();
    let mut out = Samples::new();
    let mut seen = std::collections::BTreeSet::new();
    for batch in found.batches {
        batch.read(0..batch.n_series(), range, &mut columns).unwrap();
        assert!(columns.n_rows() <= batch.rows_max(range));
        assert!(columns.timestamps().windows(2).all(|w| w[0] < w[1]), "{:?}", columns.timestamps());
        for i in 0..batch.n_series() {
            let labels = batch.labels(i);
            assert!(seen.insert(labels.clone()), "{labels} is in two batches");
            let series: u8 = labels.get("s").unwrap().parse().unwrap();
            let column = columns.column(i);
            for row in (0..columns.n_rows()).filter(|&row| column.is_present(row)) {
                out.insert((series, columns.timestamps()[row]), column.values[row].to_bits());
            }
            let mut before: Option<(usize, HistogramSample)> = None;
            for (row, sample) in column.histogram_samples() {
                assert!(!column.is_present(row), "a float and a histogram at one time");
                // Nothing that is said about resets is wrong.
                if sample.value().counter_reset_hint == CounterResetHint::NotReset
                    && let Some((_, before)) = before
                {
                    let counts = |s: &HistogramSample| (s.value().count, s.value().positive_buckets.clone());
                    assert!(counts(&before) <= counts(&sample));
                    assert_eq!(before.value().positive_spans, sample.value().positive_spans);
                }
                let bits = histogram_mark(&sample);
                assert_eq!(out.insert((series, columns.timestamps()[row]), bits), None);
                before = Some((row, sample));
            }
        }
    }
    out
}

#[derive(Debug, Clone)]
enum Step {
    /// Writer, time relative to the present, series and values.
    Append(usize, i64, Vec<(u8, u64)>),
    AppendAt(usize, Vec<(u8, i64, u64)>),
    /// The same with kinds of histograms after the floats.
    AppendBoth(usize, i64, Vec<(u8, u64)>, Vec<(u8, u8)>),
    AppendBothAt(usize, Vec<(u8, i64, u64)>, Vec<(u8, i64, u8)>),
    Release(usize, u8),
    NewWriter(usize),
    Advance(i64),
    Tick,
    Commit,
    Check(i64, i64),
    /// Deletes the samples of a metric (3 is of all) from a time before the present up to what can still come.
    Delete(u8, i64),
    CleanTombstones,
    /// Ends the process after a commit; `true` closes the database first.
    Restart(bool),
}

fn value() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => (0i64..50).prop_map(|v| (v as f64).to_bits()),
        2 => (0i64..50).prop_map(|v| (v as f64 / 8.0).to_bits()),
        1 => any::<u64>(),
        1 => Just(STALE_NAN_BITS),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let cells = || proptest::collection::vec((0u8..20, value()), 1..12);
    let at = prop_oneof![3 => Just(0i64), 1 => -200i64..50, 1 => -6000i64..0];
    let timed = || {
        proptest::collection::btree_map((0u8..20, prop_oneof![-100i64..10, -5000i64..0]), value(), 1..12)
            .prop_map(|m| m.into_iter().map(|((s, t), v)| (s, t, v)).collect())
    };
    // Some series have both.
    let histograms = proptest::collection::vec((15u8..25, any::<u8>()), 1..6);
    let timed_histograms =
        proptest::collection::btree_map((15u8..25, prop_oneof![-100i64..10, -5000i64..0]), any::<u8>(), 1..6)
            .prop_map(|m| m.into_iter().map(|((s, t), k)| (s, t, k)).collect());
    prop_oneof![
        6 => (0usize..2, at.clone(), cells(), histograms)
            .prop_map(|(w, t, c, h)| Step::AppendBoth(w, t, c, h)),
        3 => (0usize..2, timed(), timed_histograms).prop_map(|(w, c, h)| Step::AppendBothAt(w, c, h)),
        12 => (0usize..2, at, cells()).prop_map(|(w, t, c)| Step::Append(w, t, c)),
        3 => (0usize..2, timed()).prop_map(|(w, c)| Step::AppendAt(w, c)),
        1 => (0usize..2, 0u8..20).prop_map(|(w, s)| Step::Release(w, s)),
        1 => (0usize..2).prop_map(Step::NewWriter),
        8 => prop_oneof![4 => 10i64..1000, 1 => 1000i64..6000].prop_map(Step::Advance),
        3 => Just(Step::Tick),
        1 => Just(Step::Commit),
        2 => (-20_000i64..0, -20_000i64..0).prop_map(|(a, b)| Step::Check(a.min(b), a.max(b))),
        1 => any::<bool>().prop_map(Step::Restart),
        2 => (0u8..4, -30_000i64..-5000).prop_map(|(m, a)| Step::Delete(m, a)),
        1 => Just(Step::CleanTombstones),
    ]
}

struct Run {
    vfs: SimVfs,
    clock: Arc<ManualClock>,
    options: DbOptions,
    db: Option<Db>,
    writers: Vec<(GroupWriter, BTreeMap<u8, SeriesRef>)>,
    model: Samples,
    now: i64,
}

impl Run {
    fn new(options: DbOptions) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp(1_000_000)));
        let mut run = Self {
            vfs: SimVfs::new(),
            clock,
            options,
            db: None,
            writers: Vec::new(),
            model: Samples::new(),
            now: 1_000_000,
        };
        run.open();
        run
    }

    fn open(&mut self) {
        let (db, recovery) =
            Db::open(Arc::new(self.vfs.clone()), Arc::clone(&self.clock) as _, Path::new("data"), self.options.clone())
                .unwrap();
        let damage = (recovery.wal_corruptions, recovery.wal_rows_lost, recovery.head_corruptions);
        assert_eq!(damage, (0, 0, 0), "{recovery:?}");
        assert_eq!(recovery.bad_blocks, vec![]);
        self.writers = (0..2).map(|_| (db.writer(), BTreeMap::new())).collect();
        self.db = Some(db);
    }

    fn db(&self) -> &Db {
        self.db.as_ref().unwrap()
    }

    /// What Prometheus' rules say about a row, of which the first `n_floats` are no histograms, applied to the model.
    fn expect_row(&mut self, max_t: Option<i64>, t: i64, n_floats: usize, cells: &[(u8, u64)]) -> Appended {
        let floor = self.db().0.head.append_floor();
        let behind = |ms: i64| max_t.map_or(i64::MIN, |m| m - ms).max(floor);
        let (in_order, late) = (behind(self.options.block_ms / 2), behind(self.options.out_of_order_window_ms));
        let window = self.options.out_of_order_window_ms > 0;
        let mut counts = Appended::default();
        for (i, &(series, bits)) in cells.iter().enumerate() {
            let accepted = counts.accepted;
            let last = self.model.range((series, i64::MIN)..=(series, i64::MAX)).next_back().map(|(k, v)| (k.1, *v));
            let at = self.model.get(&(series, t)).copied();
            let is_newest = t >= in_order && last.is_none_or(|(l, _)| t >= l);
            if is_newest || (window && t >= late) {
                match at {
                    None => {
                        self.model.insert((series, t), bits);
                        counts.accepted += 1;
                    }
                    Some(old) if old == bits => counts.accepted += 1,
                    Some(_) => counts.duplicates += 1,
                }
            } else if window {
                counts.too_old += 1;
            } else if t < in_order {
                counts.out_of_bounds += 1;
            } else {
                counts.out_of_order += 1;
            }
            counts.histograms += if i < n_floats { 0 } else { counts.accepted - accepted };
        }
        counts
    }

    fn resolve(&mut self, writer: usize, series: u8) -> SeriesRef {
        let (w, refs) = &mut self.writers[writer];
        *refs.entry(series).or_insert_with(|| w.resolve(&labels(series)).unwrap())
    }

    fn check(&self, range: TimeRange) {
        let got = samples(&*self.db().snapshot().unwrap(), range);
        let expected: Samples =
            self.model.iter().filter(|((_, t), _)| range.contains(Timestamp(*t))).map(|(k, v)| (*k, *v)).collect();
        assert_eq!(got, expected);
    }

    fn delete(&mut self, metric: u8, from: i64) {
        // Samples that arrive later at times before the last deleted one are not seen; none arrives that late.
        let Some(max_t) = self.db().0.head.max_t() else { return };
        let oldest = self.options.out_of_order_window_ms.max(self.options.block_ms / 2);
        let range = TimeRange::new(self.now + from, max_t - oldest - 1);
        let matchers = match metric {
            3 => vec![],
            m => vec![Matcher::new("__name__", MatchOp::Equal, &format!("m{m}")).unwrap()],
        };
        let hit = |k: &(u8, i64)| (metric == 3 || k.0 % 3 == metric) && range.contains(Timestamp(k.1));
        let gone: Vec<_> = self.model.keys().filter(|k| hit(k)).copied().collect();
        let series: std::collections::BTreeSet<u8> = gone.iter().map(|k| k.0).collect();
        let expected = Matched { series: series.len() as u64, samples: gone.len() as u64 };
        let selectors = [matchers.clone(), matchers];
        assert_eq!(self.db().count_series(&selectors, range, &Cancel::new()).unwrap(), expected);
        self.db().delete_series(&selectors, range).unwrap();
        self.model.retain(|k, _| !hit(k));
        assert_eq!(self.db().count_series(&selectors, range, &Cancel::new()).unwrap(), Matched::default());
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append(w, t, cells) => {
                let t = self.now + t;
                let refs: Vec<_> = cells.iter().map(|&(s, v)| (self.resolve(w, s), f64::from_bits(v))).collect();
                let expected = self.expect_row(self.db().0.head.max_t(), t, cells.len(), &cells);
                assert_eq!(self.writers[w].0.append(Timestamp(t), &refs).unwrap(), expected);
            }
            Step::AppendBoth(w, t, mut cells, histograms) => {
                let t = self.now + t;
                let refs: Vec<_> = cells.iter().map(|&(s, v)| (self.resolve(w, s), f64::from_bits(v))).collect();
                let of: Vec<_> = histograms.iter().map(|&(s, k)| (self.resolve(w, s), histogram(k))).collect();
                cells.extend(histograms.iter().map(|&(s, k)| (s, histogram_mark(&histogram(k)))));
                let expected = self.expect_row(self.db().0.head.max_t(), t, refs.len(), &cells);
                assert_eq!(self.writers[w].0.append_with_histograms(Timestamp(t), &refs, &of).unwrap(), expected);
            }
            Step::AppendAt(w, cells) => self.step(Step::AppendBothAt(w, cells, Vec::new())),
            Step::AppendBothAt(w, cells, histograms) => {
                let refs: Vec<_> = cells
                    .iter()
                    .map(|&(s, t, v)| (self.resolve(w, s), Timestamp(self.now + t), f64::from_bits(v)))
                    .collect();
                let of: Vec<_> = histograms
                    .iter()
                    .map(|&(s, t, k)| (self.resolve(w, s), Timestamp(self.now + t), histogram(k)))
                    .collect();
                let mut rows: BTreeMap<i64, (usize, Vec<(u8, u64)>)> = BTreeMap::new();
                for (s, t, v) in cells {
                    let row = rows.entry(self.now + t).or_default();
                    row.0 += 1;
                    row.1.push((s, v));
                }
                for (s, t, k) in histograms {
                    rows.entry(self.now + t).or_default().1.push((s, histogram_mark(&histogram(k))));
                }
                // Bounds follow the newest time, row by row.
                let mut max_t = self.db().0.head.max_t();
                let mut expected = Appended::default();
                for (t, (n_floats, row)) in rows {
                    let counts = self.expect_row(max_t, t, n_floats, &row);
                    if counts.accepted > 0 {
                        max_t = max_t.max(Some(t));
                    }
                    expected.add(counts);
                }
                let writer = &mut self.writers[w].0;
                assert_eq!(writer.append_at_with_histograms(&refs, &of).unwrap(), expected);
            }
            Step::Release(w, s) => {
                if let Some(r) = self.writers[w].1.remove(&s) {
                    self.writers[w].0.release(r);
                }
            }
            Step::NewWriter(w) => self.writers[w] = (self.db().writer(), BTreeMap::new()),
            Step::Advance(ms) => {
                self.now += ms;
                self.clock.advance(ms);
            }
            Step::Tick => {
                let done = self.db().tick().unwrap();
                assert_eq!(done.warnings, Vec::<String>::new());
                self.db().compact().unwrap();
            }
            Step::Delete(metric, from) => self.delete(metric, from),
            Step::CleanTombstones => {
                self.db().clean_tombstones().unwrap();
            }
            Step::Commit => self.db().commit().unwrap(),
            Step::Check(a, b) => self.check(TimeRange::new(self.now + a, self.now + b)),
            Step::Restart(clean) => {
                if clean {
                    self.db().close().unwrap();
                } else {
                    self.db().commit().unwrap();
                }
                self.writers.clear();
                let survivor = self.vfs.crash(if clean { Survival::Synced } else { Survival::All }, 0);
                self.db = None;
                self.vfs = survivor;
                self.open();
                self.check(TimeRange::ALL);
            }
        }
    }
}

fn run(options: DbOptions, steps: Vec<Step>) {
    let mut run = Run::new(options);
    for step in steps {
        run.step(step);
    }
    run.check(TimeRange::ALL);
    run.step(Step::Restart(false));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn behaves_like_a_map(steps in proptest::collection::vec(step(), 1..120)) {
        run(small(), steps);
    }

    #[test]
    fn behaves_like_a_map_without_a_window(steps in proptest::collection::vec(step(), 1..120)) {
        run(DbOptions { out_of_order_window_ms: 0, ..small() }, steps);
    }
}

/// More cases on request: `PROMONTORY_MODEL_CASES`.
fn cases() -> u32 {
    std::env::var("PROMONTORY_MODEL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(48)
}

#[test]
fn a_series_that_comes_back_after_truncation_is_found() {
    let a = |w, s: u8| Step::Append(w, 0, vec![(s, 0)]);
    let check = || Step::Check(-40_000, 0);
    run(
        small(),
        vec![
            a(0, 0),
            Step::Advance(3206),
            a(1, 14),
            Step::NewWriter(1),
            Step::Advance(11_795),
            a(1, 1),
            Step::Tick,
            check(),
            Step::Advance(1500),
            a(1, 14),
            check(),
            Step::Tick,
            check(),
        ],
    );
}

#[test]
fn a_sample_behind_the_newest_is_refused_without_a_window_even_when_it_is_stored() {
    let old = || Step::AppendAt(0, vec![(3, -38, 1)]);
    run(DbOptions { out_of_order_window_ms: 0, ..small() }, vec![old(), Step::Append(0, 0, vec![(3, 0)]), old()]);
}

#[test]
fn a_series_made_anew_in_a_lower_group_keeps_its_samples_over_a_restart() {
    let a = |w, s: u8| Step::Append(w, 0, vec![(s, 0)]);
    run(
        small(),
        vec![
            a(0, 4),
            a(1, 0),
            Step::Advance(4547),
            Step::NewWriter(0),
            a(0, 0),
            Step::Advance(7405),
            a(0, 5),
            a(0, 1),
            Step::Advance(1668),
            a(0, 1),
            Step::Advance(1387),
            Step::Restart(false),
            a(1, 4),
            Step::Tick,
            a(1, 0),
        ],
    );
}

#[test]
fn a_move_that_only_the_log_knows_outlives_the_log() {
    let a = |s: u8| Step::Append(0, 0, vec![(s, 0)]);
    let mut test = Run::new(small());
    for step in [a(0), a(1), Step::Advance(2000), Step::Tick] {
        test.step(step);
    }
    {
        let head = &test.db().0.head;
        let _gate = head.gate_alone();
        head.move_columns(&head.group(0).unwrap(), &[1]).unwrap();
    }
    for step in [Step::Restart(false), a(1), Step::Advance(2000), Step::Tick, Step::Restart(false), a(1)] {
        test.step(step);
    }
    test.check(TimeRange::ALL);
}
