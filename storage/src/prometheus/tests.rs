//! Blocks written and read in place, against lists of samples.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use promontory_model::histogram::{CounterResetHint, HistogramSample};
use promontory_model::{Cancel, Columns, Labels, MatchOp, Matcher, Select, SeriesBatch, TimeRange};
use proptest::prelude::*;

use super::block::PrometheusBlock;
use super::histogram::tests::histograms;
use super::writer::Writer;
use crate::documented::{bytes_of, fenced};
use crate::select::{self, NamedSource};
use crate::source::Source;
use crate::ulid::Ulid;
use crate::vfs::{SimVfs, Vfs};

mod database;
mod hostile;
mod version1;

/// A float by its bits, or a histogram.
#[derive(Clone)]
pub(super) enum Value {
    Float(u64),
    Histogram(HistogramSample),
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Float(bits) => write!(f, "{bits:x}"),
            Self::Histogram(h) => write!(f, "{:x} {h:?}", h.value().sum.to_bits()),
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Float(a), Self::Float(b)) => a == b,
            (Self::Histogram(a), Self::Histogram(b)) => a.same_bits(b),
            _ => false,
        }
    }
}

/// Series, sorted by labels, and their samples.
pub(super) type Series = Vec<(Labels, Vec<(i64, Value)>)>;

pub(super) fn columns_of(samples: &[(i64, Value)]) -> Columns {
    let mut columns = Columns::default();
    columns.reset(1, samples.iter().map(|s| s.0));
    for (row, (_, value)) in samples.iter().enumerate() {
        match value {
            Value::Float(bits) => columns.set_present(0, row, f64::from_bits(*bits)),
            Value::Histogram(h) => columns.push_histogram_sample(0, row, h.clone()),
        }
    }
    columns
}

pub(super) fn write(vfs: &dyn Vfs, dir: &Path, ulid: Ulid, series: &Series) -> PathBuf {
    vfs.create_dir_all(dir).unwrap();
    let mut writer = Writer::new(vfs, dir, ulid).unwrap();
    for (labels, samples) in series {
        let columns = columns_of(samples);
        writer.add(labels.clone(), columns.timestamps(), &columns.column(0)).unwrap();
    }
    let times = || series.iter().flat_map(|s| s.1.iter().map(|(t, _)| *t));
    let range = TimeRange::new(times().min().unwrap_or(0), times().max().unwrap_or(0));
    writer.finish(range, &Labels::empty()).unwrap();
    dir.join(ulid.to_string())
}

/// Everything in `batches`, by labels.
pub(super) fn read(batches: &[Arc<dyn SeriesBatch>], range: TimeRange) -> Series {
    let mut out = Series::new();
    let mut columns = Columns::default();
    for batch in batches {
        batch.read(0..batch.n_series(), range, &mut columns).unwrap();
        assert!(columns.timestamps().windows(2).all(|w| w[0] < w[1]));
        for i in 0..batch.n_series() {
            let column = columns.column(i);
            let mut samples: Vec<(i64, Value)> = (0..columns.n_rows())
                .filter(|row| column.is_present(*row))
                .map(|row| (columns.timestamps()[row], Value::Float(column.values[row].to_bits())))
                .collect();
            samples.extend(column.histogram_samples().map(|(row, h)| (columns.timestamps()[row], Value::Histogram(h))));
            samples.sort_by_key(|s| s.0);
            out.push((batch.labels(i), samples));
        }
    }
    out.sort_by(|a, b| a.0.cmp(&b.0));
    out.retain(|s| !s.1.is_empty());
    out
}

fn select(block: &Arc<PrometheusBlock>, matchers: &[Matcher], range: TimeRange) -> Series {
    let cancel = Cancel::new();
    let source = NamedSource { source: Arc::clone(block) as _, name: None };
    let found = select::select(&[source], &Select { range, matchers, cancel: &cancel }).unwrap();
    read(&found.batches, range)
}

/// Series of floats and histograms, some with times of their own.
pub(super) fn any_series() -> impl Strategy<Value = Series> {
    let labels = proptest::collection::btree_map("[ab_é]{1,2}", "[a-dé\"]{1,2}", 1..4);
    let floats = || {
        let v = prop_oneof![any::<u64>(), (0u64..9).prop_map(|v| (v as f64).to_bits())];
        let step = prop_oneof![8 => Just(15_000i64), 1 => 1i64..100_000];
        proptest::collection::vec((step, v), 0..300).prop_map(|steps| {
            let mut t = -1_000_000;
            let next = |(step, v)| {
                t += step;
                (t, Value::Float(v))
            };
            steps.into_iter().map(next).collect::<Vec<_>>()
        })
    };
    let histograms = |is_float| {
        let several = proptest::collection::vec((histograms(is_float), any::<bool>()), 1..4);
        (several, floats()).prop_map(|(several, floats)| {
            let mut out: Vec<(i64, Value)> = floats.into_iter().take(3).collect();
            for (run, is_gauge) in several {
                let base = out.last().map_or(0, |s| s.0 + 5_001);
                for (t, mut h) in run {
                    if is_gauge {
                        h.value_mut().counter_reset_hint = CounterResetHint::Gauge;
                    }
                    out.push((base + t, Value::Histogram(h)));
                }
            }
            out
        })
    };
    let samples = prop_oneof![4 => floats(), 1 => histograms(false), 1 => histograms(true)];
    proptest::collection::btree_map(labels.prop_map(Labels::from_pairs), samples, 0..20)
        .prop_map(|series| series.into_iter().filter(|s| !s.1.is_empty()).collect())
}

fn inside(series: &Series, range: TimeRange) -> Series {
    let kept = series.iter().map(|(labels, samples)| {
        let is_inside = |s: &&(i64, Value)| (range.mint.0..=range.maxt.0).contains(&s.0);
        (labels.clone(), samples.iter().filter(is_inside).cloned().collect())
    });
    kept.filter(|s: &(Labels, Vec<_>)| !s.1.is_empty()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(series in any_series(), from in -1_500_000i64..3_000_000, len in 0i64..3_000_000) {
        let vfs = SimVfs::new();
        let path = write(&vfs, Path::new("out"), Ulid::new(1, 2), &series);
        let block = PrometheusBlock::open(&vfs, &path).unwrap();
        prop_assert_eq!(&select(&block, &[], TimeRange::ALL), &series);
        let range = TimeRange::new(from, from + len);
        prop_assert_eq!(select(&block, &[], range), inside(&series, range));
    }

    #[test]
    fn matchers_and_label_calls_agree_with_lists(
        series in any_series(),
        tests in proptest::collection::vec(("[ab_é]{1,2}", "[a-dé]{0,2}|[a-d]\\.\\*|a\\|b|\\.\\*|\\.\\+", 0u8..4), 0..3),
        name in "[ab_]",
    ) {
        let vfs = SimVfs::new();
        let path = write(&vfs, Path::new("out"), Ulid::new(1, 2), &series);
        let block = PrometheusBlock::open(&vfs, &path).unwrap();
        let matchers: Vec<Matcher> = tests.iter().map(|(name, value, op)| match op {
            0 => Matcher::equal(name, value),
            1 => Matcher::new(name, MatchOp::NotEqual, value).unwrap(),
            2 => Matcher::new(name, MatchOp::Regex, value).unwrap(),
            _ => Matcher::new(name, MatchOp::NotRegex, value).unwrap(),
        }).collect();
        let passes = |l: &Labels| matchers.iter().all(|m| m.matches(l.get(m.name()).unwrap_or("")));
        let expected: Series = series.iter().filter(|s| passes(&s.0)).cloned().collect();
        prop_assert_eq!(select(&block, &matchers, TimeRange::ALL), expected.clone());

        let cancel = Cancel::new();
        let ask = Select { range: TimeRange::ALL, matchers: &matchers, cancel: &cancel };
        let mut names = Vec::new();
        block.label_names(&ask, &mut names).unwrap();
        names.sort();
        names.dedup();
        let of_all = |f: &dyn Fn(&Labels) -> Vec<String>| {
            let mut all: Vec<String> = expected.iter().flat_map(|s| f(&s.0)).collect();
            all.sort();
            all.dedup();
            all
        };
        prop_assert_eq!(names, of_all(&|l| l.iter().map(|(n, _)| n.to_owned()).collect()));
        let mut values = Vec::new();
        block.label_values(&name, &ask, usize::MAX, &mut values).unwrap();
        values.sort();
        values.dedup();
        prop_assert_eq!(values, of_all(&|l| l.get(&name).map(str::to_owned).into_iter().collect()));
    }
}

/// Hourly samples of two series from 0 on, and the tombstones `stones` (series, mint, maxt).
#[test]
fn deleted_samples_are_left_out() {
    let vfs = SimVfs::new();
    let floats = || (0..300i64).map(|i| (i * 1000, Value::Float(i.cast_unsigned()))).collect::<Vec<_>>();
    let series: Series = ["a", "b"].into_iter().map(|n| (Labels::from_pairs([("n", n)]), floats())).collect();
    let path = write(&vfs, Path::new("out"), Ulid::new(1, 2), &series);
    let block = PrometheusBlock::open(&vfs, &path).unwrap();
    let reference = block.reference(&[Matcher::equal("n", "b")]);
    let stones = [(10_000, 19_999), (295_000, i64::MAX), (i64::MIN, 0)];
    let mut file = super::tombstones::empty_file();
    file.truncate(5);
    for (mint, maxt) in stones {
        crate::wire::put_varint(&mut file, u64::from(reference));
        crate::wire::put_zigzag(&mut file, mint);
        crate::wire::put_zigzag(&mut file, maxt);
    }
    let crc = crc32c::crc32c(&file[5..]);
    file.extend_from_slice(&crc.to_be_bytes());
    crate::vfs::replace(&vfs, &path.join("tombstones"), &file).unwrap();
    let block = PrometheusBlock::open(&vfs, &path).unwrap();
    let mut expected = series.clone();
    expected[1].1.retain(|(t, _)| !stones.iter().any(|(mint, maxt)| (mint..=maxt).contains(&t)));
    assert_eq!(expected[1].1.len(), 284);
    assert_eq!(select(&block, &[], TimeRange::ALL), expected);
    // What is deleted in part of the series' columns stays readable in the others.
    assert_eq!(
        select(&block, &[Matcher::equal("n", "a")], TimeRange::new(0, 0)),
        vec![(series[0].0.clone(), vec![(0, Value::Float(0))])]
    );
}

#[test]
fn chunks_may_lie_in_several_segments() {
    let vfs = SimVfs::new();
    let value = |i: u64| Value::Float((i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let samples = |n: u64| (0..2_000u64).map(|i| (i.cast_signed() * 1000, value(n * i))).collect::<Vec<_>>();
    let series: Series = (0..5).map(|n| (Labels::from_pairs([("n", n.to_string())]), samples(n))).collect();
    vfs.create_dir_all(Path::new("out")).unwrap();
    let mut writer = Writer::new(&vfs, Path::new("out"), Ulid::new(1, 2)).unwrap();
    writer.set_segment_bytes(4096);
    for (labels, samples) in &series {
        let columns = columns_of(samples);
        writer.add(labels.clone(), columns.timestamps(), &columns.column(0)).unwrap();
    }
    writer.finish(TimeRange::new(0, 1_999_000), &Labels::empty()).unwrap();
    let path = Path::new("out").join(Ulid::new(1, 2).to_string());
    assert!(vfs.read_dir(&path.join("chunks")).unwrap().len() > 10);
    let block = PrometheusBlock::open(&vfs, &path).unwrap();
    assert_eq!(select(&block, &[], TimeRange::ALL), series);
}

/// The example of `docs/format/prometheus.md`.
#[test]
fn documented_block_is_what_is_written() {
    let page = include_str!("../../docs/format/prometheus.md");
    let vfs = SimVfs::new();
    let samples = vec![(0, Value::Float(1f64.to_bits())), (15_000, Value::Float(2f64.to_bits()))];
    let series = vec![(Labels::from_pairs([("a", "b")]), samples)];
    let path = write(&vfs, Path::new("out"), Ulid::new(1, 2), &series);
    for (name, file) in [("prometheus-index", "index"), ("prometheus-chunks", "chunks/000001")] {
        let written = crate::vfs::read(&vfs, &path.join(file)).unwrap();
        let documented = bytes_of(fenced(page, name));
        assert_eq!(written, documented, "{file}: {written:02x?}");
    }
}
