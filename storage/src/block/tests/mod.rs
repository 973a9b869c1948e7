//! Blocks against a map of samples: what is written is found, by any matcher, in any range.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use promontory_model::{Cancel, Columns, Labels, MatchOp, Matcher, Select, TimeRange, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::label_table::LabelTable;
use crate::source::Source;
use crate::vfs::SimVfs;

mod crash;
mod damage;
mod documented;
pub(crate) mod related;

/// What a store should hold: label set, then time, then bits of the value.
pub(crate) type Model = BTreeMap<Labels, BTreeMap<i64, u64>>;

/// A group that owns its samples; `None` where a series has none.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) timestamps: Vec<i64>,
    pub(crate) columns: Vec<(Labels, Vec<Option<f64>>)>,
}

impl Group {
    pub(crate) fn write(&self, writer: &mut BlockWriter) -> Result<(), BlockError> {
        let dense: Vec<(Vec<f64>, Option<Vec<u64>>)> = self.columns.iter().map(|(_, v)| to_dense(v)).collect();
        let columns: Vec<ColumnInput<'_>> = std::iter::zip(&self.columns, &dense)
            .map(|((labels, _), (values, presence))| ColumnInput {
                labels: labels.clone(),
                values,
                presence: presence.as_deref(),
                histograms: &[],
            })
            .collect();
        writer.add_group(&GroupInput { timestamps: &self.timestamps, columns: &columns })
    }

    /// Adds the samples that `model` does not have yet.
    pub(crate) fn add_to(&self, model: &mut Model) {
        for (labels, values) in &self.columns {
            for (t, v) in std::iter::zip(&self.timestamps, values) {
                if let Some(v) = v {
                    model.entry(labels.clone()).or_default().entry(*t).or_insert(v.to_bits());
                }
            }
        }
    }
}

fn to_dense(rows: &[Option<f64>]) -> (Vec<f64>, Option<Vec<u64>>) {
    let values = rows.iter().map(|v| v.unwrap_or(99.0)).collect();
    let mut bits = vec![0u64; rows.len().div_ceil(64)];
    for (i, _) in rows.iter().enumerate().filter(|(_, v)| v.is_some()) {
        bits[i / 64] |= 1 << (i % 64);
    }
    (values, rows.contains(&None).then_some(bits))
}

pub(crate) fn dir() -> PathBuf {
    PathBuf::from("/data/blocks")
}

pub(crate) fn vfs() -> Arc<dyn Vfs> {
    let vfs: Arc<dyn Vfs> = Arc::new(SimVfs::new());
    vfs.create_dir_all(&dir()).unwrap();
    vfs
}

pub(crate) fn write_block(vfs: &Arc<dyn Vfs>, ulid: Ulid, groups: &[Group]) -> BlockMeta {
    let mut writer = BlockWriter::new(Arc::clone(vfs), &dir(), ulid, 1).unwrap();
    for g in groups {
        g.write(&mut writer).unwrap();
    }
    writer.finish().unwrap()
}

pub(crate) fn path(ulid: Ulid) -> PathBuf {
    dir().join(ulid.to_string())
}

/// All that a source has for these matchers in this range. The first sample of a time stays.
pub(crate) fn read_all(source: &dyn Source, matchers: &[Matcher], range: TimeRange) -> Result<Model, ReadError> {
    let cancel = Cancel::new();
    let mut out = Model::new();
    let mut columns = Columns::default();
    let mut table = LabelTable::default();
    for selected in source.select(&Select { range, matchers, cancel: &cancel }, &mut table)? {
        let wanted: Vec<u32> = selected.series.iter().map(|s| s.column).collect();
        selected.group.read(&wanted, range, &mut columns)?;
        assert!(columns.n_rows() <= selected.group.rows_max(range));
        for (i, series) in selected.series.iter().enumerate() {
            let column = columns.column(i);
            for (row, t) in columns.timestamps().iter().enumerate() {
                assert!(range.contains(Timestamp(*t)));
                if column.is_present(row) {
                    out.entry(table.labels(series.set)).or_default().entry(*t).or_insert(column.values[row].to_bits());
                }
            }
        }
    }
    Ok(out)
}

fn naive(model: &Model, matchers: &[Matcher], range: TimeRange) -> Model {
    let mut out = Model::new();
    for (labels, samples) in model.iter().filter(|(l, _)| matchers.iter().all(|m| m.matches_labels(l))) {
        let is_inside = |t: &i64| range.contains(Timestamp(*t));
        let inside: BTreeMap<i64, u64> = samples.iter().filter(|(t, _)| is_inside(t)).map(|(t, v)| (*t, *v)).collect();
        if !inside.is_empty() {
            out.insert(labels.clone(), inside);
        }
    }
    out
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        6 => (0i32..1000).prop_map(f64::from),
        2 => (0i32..1000).prop_map(|v| f64::from(v) / 8.0),
        1 => any::<u64>().prop_map(f64::from_bits),
    ]
}

fn labels() -> impl Strategy<Value = Labels> {
    let value = || proptest::option::of(prop_oneof![4 => "[ab]{1,2}", 1 => "\\PC{1,5}"]);
    let bound = proptest::sample::select(&[None, None, Some("0.5"), Some("5"), Some("10"), Some("+Inf")]);
    (0u8..4, value(), value(), value(), bound).prop_map(|(metric, a, b, c, bound)| {
        let metric = ["", "up_bucket", "http_requests_total", "up_count"][usize::from(metric)].to_owned();
        let pairs = [("__name__", Some(metric)), ("a", a), ("b", b), ("job", c), ("le", bound.map(str::to_owned))];
        Labels::from_pairs(pairs.into_iter().filter_map(|(n, v)| Some((n, v?))))
    })
}

/// A group with `series` label sets from a small space, some rows missing.
pub(crate) fn group(start: i64, rows_max: usize) -> impl Strategy<Value = Group> {
    let sets = proptest::collection::btree_set(labels(), 1..8);
    let steps = proptest::collection::vec(prop_oneof![9 => Just(15_000i64), 1 => 1i64..40_000], 1..rows_max);
    (sets, steps, 0u8..3).prop_flat_map(move |(sets, steps, gaps)| {
        let n = steps.len();
        let cell = proptest::option::weighted([0.9999, 0.9, 0.1][usize::from(gaps)], value());
        let columns = proptest::collection::vec(proptest::collection::vec(cell, n), sets.len());
        let timestamps: Vec<i64> = steps
            .iter()
            .scan(start, |t, s| {
                *t += s;
                Some(*t)
            })
            .collect();
        columns.prop_map(move |columns| Group {
            timestamps: timestamps.clone(),
            columns: sets.iter().cloned().zip(columns).collect(),
        })
    })
}

fn matcher() -> impl Strategy<Value = Matcher> {
    let ops = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex];
    let names = ["__name__", "a", "b", "job", "absent"];
    let values = [
        "",
        "a",
        "b",
        "ab",
        "up",
        "a|b",
        "a.*",
        ".+",
        ".*",
        "|a",
        "[ab]b?",
        "http_.*",
        "zz",
        "é",
        "(a|b).*",
        "a.+",
        ".*b",
        "(?i)A.*|UP",
        ".*t.*t.*",
        "a[a-z]*|é.*",
    ];
    (0..ops.len(), 0..names.len(), 0..values.len())
        .prop_map(move |(o, n, v)| Matcher::new(names[n], ops[o], values[v]).unwrap())
}

pub(crate) fn cases(n: u32) -> ProptestConfig {
    let scale = std::env::var("PROPTEST_CASES").ok().and_then(|s| s.parse().ok()).unwrap_or(n);
    ProptestConfig { cases: scale, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn what_is_written_is_found(
        groups in proptest::collection::vec(group(1_000_000, 70), 0..4),
        matchers in proptest::collection::vec(matcher(), 0..3),
        range in (900_000i64..2_100_000, 0i64..1_200_000),
    ) {
        let vfs = vfs();
        let ulid = Ulid::new(1, 1);
        let meta = write_block(&vfs, ulid, &groups);
        let mut model = Model::new();
        groups.iter().for_each(|g| g.add_to(&mut model));
        let block = BlockReader::open(&*vfs, &path(ulid)).unwrap();
        prop_assert_eq!(block.meta(), &meta);
        for range in [TimeRange::ALL, TimeRange::new(range.0, range.0 + range.1)] {
            let got = read_all(&*block, &matchers, range).unwrap();
            prop_assert_eq!(got, naive(&model, &matchers, range));
        }
        verify(&*vfs, &path(ulid)).unwrap();
    }

    #[test]
    fn names_and_values_are_those_of_the_matching_series(
        early in proptest::collection::vec(group(1_000_000, 5), 1..6),
        late in proptest::collection::vec(group(5_000_000, 5), 0..3),
        matchers in proptest::collection::vec(matcher(), 0..3),
        limit in 0usize..6,
        mint in prop_oneof![Just(i64::MIN), Just(4_000_000i64)],
    ) {
        let groups = [early, late].concat();
        let vfs = vfs();
        let ulid = Ulid::new(1, 1);
        write_block(&vfs, ulid, &groups);
        let mut model = Model::new();
        groups.iter().for_each(|g| g.add_to(&mut model));
        let block = BlockReader::open(&*vfs, &path(ulid)).unwrap();
        let cancel = Cancel::new();
        let range = TimeRange::new(mint, i64::MAX);
        let select = Select { range, matchers: &matchers, cancel: &cancel };
        let sorted = |mut v: Vec<String>| { v.sort(); v.dedup(); v };
        // A series belongs as long as its group has rows in the range.
        let mut table = LabelTable::default();
        let found = block.select(&select, &mut table).unwrap();
        let mut matching: Vec<Labels> = found.into_iter().flat_map(|g| g.series).map(|s| table.labels(s.set)).collect();
        matching.sort();
        matching.dedup();
        let with_samples: Vec<Labels> = naive(&model, &matchers, range).into_keys().collect();
        prop_assert!(with_samples.iter().all(|l| matching.contains(l)));
        prop_assert!(matching.iter().all(|l| matchers.iter().all(|m| m.matches_labels(l))));
        let mut series = Vec::new();
        block.series(&select, limit, &mut series).unwrap();
        prop_assert_eq!(series.len(), limit.min(matching.len()));
        prop_assert!(series.iter().all(|l| matching.contains(l)));
        let mut names = Vec::new();
        block.label_names(&select, &mut names).unwrap();
        let expected = matching.iter().flat_map(Labels::iter).map(|(n, _)| n.to_owned()).collect();
        prop_assert_eq!(sorted(names), sorted(expected));
        for name in ["__name__", "a", "job", "absent"] {
            let mut values = Vec::new();
            block.label_values(name, &select, usize::MAX, &mut values).unwrap();
            let expected = sorted(matching.iter().filter_map(|l| l.get(name)).map(str::to_owned).collect());
            prop_assert_eq!(&sorted(values), &expected, "{}", name);
            let mut first = Vec::new();
            block.label_values(name, &select, limit, &mut first).unwrap();
            prop_assert_eq!(&first, &expected[..limit.min(expected.len())]);
        }
    }
}

/// Many series of one metric in two groups, long enough for several spans and pages.
pub(crate) fn wide_group(start: i64, rows: usize, columns: usize, instance: &str) -> Group {
    let timestamps = (0..rows).map(|r| start + r as i64 * 1000).collect();
    let columns = (0..columns)
        .map(|c| {
            let set = Labels::from_pairs([
                ("__name__", format!("metric_{}_bucket", c % 7)),
                ("instance", instance.to_owned()),
                ("le", format!("{c:05}")),
            ]);
            let noise = |r: usize| ((r * 7919 + c * 104_729) as f64).sin() * 1e3;
            let values = (0..rows).map(|r| (c % 3 != 0 || r % 50 != 7).then(|| noise(r).round() / 4.0)).collect();
            (set, values)
        })
        .collect();
    Group { timestamps, columns }
}

#[test]
fn wide_and_long_groups_span_pages_and_spans() {
    let vfs = vfs();
    let ulid = Ulid::new(1, 1);
    let groups = [wide_group(1_000_000, 2100, 40, "a:1"), wide_group(1_000_500, 30, 40, "b:1")];
    let meta = write_block(&vfs, ulid, &groups);
    assert!(meta.n_pages > 6 && meta.n_series == 80 && meta.n_groups == 2, "{meta:?}");
    let mut model = Model::new();
    groups.iter().for_each(|g| g.add_to(&mut model));
    let block = BlockReader::open(&*vfs, &path(ulid)).unwrap();
    for matchers in [
        vec![],
        vec![Matcher::equal("__name__", "metric_3_bucket")],
        vec![
            Matcher::new("instance", MatchOp::Regex, "b:.*").unwrap(),
            Matcher::new("le", MatchOp::NotRegex, "0001.|00020").unwrap(),
        ],
    ] {
        for range in [TimeRange::ALL, TimeRange::new(1_900_000, 2_700_000), TimeRange::new(0, 1), TimeRange::new(5, 1)]
        {
            assert!(read_all(&*block, &matchers, range).unwrap() == naive(&model, &matchers, range));
        }
    }
    let report = verify(&*vfs, &path(ulid)).unwrap();
    assert!(report.timestamp_bytes < 60, "{report:?}");
}

#[test]
fn an_index_that_is_too_large_to_be_packed_is_found_through_too() {
    let text = |i: u64| -> String {
        let mixed = |k: u64| (i << 9 | k).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        (0..128).map(|k| format!("{:08x}", mixed(k))).collect()
    };
    let column = |i| (Labels::from_pairs([("__name__", "up".to_owned()), ("text", text(i))]), vec![Some(1.0)]);
    let vfs = vfs();
    for (n, is_packed) in [(20, true), (1100, false)] {
        let group = Group { timestamps: vec![1000], columns: (0..n).map(column).collect() };
        let ulid = Ulid::new(1, u128::from(n));
        write_block(&vfs, ulid, &[group]);
        let index = crate::vfs::read(&*vfs, &path(ulid).join(INDEX_FILE)).unwrap();
        assert_eq!(index[section::KIND_AT] == section::Kind::Packed as u8, is_packed);
        let block = BlockReader::open(&*vfs, &path(ulid)).unwrap();
        let found = read_all(&*block, &[Matcher::equal("text", &text(7))], TimeRange::ALL).unwrap();
        assert_eq!(found.len(), 1);
        verify(&*vfs, &path(ulid)).unwrap();
    }
}

#[test]
fn groups_that_are_not_groups_are_refused() {
    let vfs = vfs();
    let mut writer = BlockWriter::new(Arc::clone(&vfs), &dir(), Ulid::new(1, 1), 1).unwrap();
    let set = Labels::from_pairs([("__name__", "up")]);
    let column = |values| ColumnInput { labels: set.clone(), values, presence: None, histograms: &[] };
    let mut check = |timestamps: &[i64], columns: &[ColumnInput<'_>], expected: &str| {
        let e = writer.add_group(&GroupInput { timestamps, columns }).unwrap_err().to_string();
        assert!(e.ends_with(expected), "{e}");
    };
    check(&[2, 1], &[column(&[0.0, 0.0])], "timestamps do not ascend");
    check(&[1, 2], &[column(&[0.0])], "a column has another number of rows");
    writer.add_group(&GroupInput { timestamps: &[], columns: &[] }).unwrap();
    assert_eq!(writer.finish().unwrap().n_groups, 0);
    verify(&*vfs, &path(Ulid::new(1, 1))).unwrap();
}

#[test]
fn fuzz_targets_take_a_real_index_and_anything_else() {
    let vfs = vfs();
    let ulid = Ulid::new(1, 1);
    write_block(&vfs, ulid, &[wide_group(0, 3, 20, "a")]);
    let index = crate::vfs::read(&*vfs, &path(ulid).join(INDEX_FILE)).unwrap();
    fuzz_index(&index);
    for cut in 0..index.len() {
        fuzz_index(&index[..cut]);
        fuzz_mini_block(&index[cut..]);
    }
}

#[test]
fn blocks_live_on_a_real_file_system() {
    let folder = tempfile::tempdir().unwrap();
    let vfs: Arc<dyn Vfs> = Arc::new(crate::vfs::RealVfs);
    let ulid = Ulid::new(1, 1);
    let mut writer = BlockWriter::new(Arc::clone(&vfs), folder.path(), ulid, 1).unwrap();
    let group = wide_group(0, 200, 20, "a");
    group.write(&mut writer).unwrap();
    writer.finish().unwrap();
    let listed = list(&*vfs, folder.path()).unwrap();
    let block = BlockReader::open(&*vfs, &listed[0].path).unwrap();
    verify(&*vfs, &listed[0].path).unwrap();
    delete(&*vfs, folder.path(), ulid).unwrap();
    assert!(list(&*vfs, folder.path()).unwrap().is_empty());
    let mut model = Model::new();
    group.add_to(&mut model);
    assert!(read_all(&*block, &[], TimeRange::ALL).unwrap() == model, "an open block outlives its deletion");
}

#[test]
fn a_block_under_a_foreign_name_is_refused() {
    let vfs = vfs();
    write_block(&vfs, Ulid::new(1, 1), &[wide_group(0, 2, 3, "a")]);
    vfs.rename(&path(Ulid::new(1, 1)), &path(Ulid::new(2, 1))).unwrap();
    let e = BlockReader::open(&*vfs, &path(Ulid::new(2, 1))).unwrap_err().to_string();
    assert!(e.contains("name of the block, expected"), "{e}");
}

#[test]
fn columns_of_one_label_set_are_one_series() {
    let vfs = vfs();
    let ulid = Ulid::new(1, 1);
    let set = |name| Labels::from_pairs([("__name__", name)]);
    let group = Group {
        timestamps: vec![10, 20, 30, 40],
        columns: vec![
            (set("b"), vec![Some(1.0), Some(2.0), None, None]),
            (set("a"), vec![Some(7.0); 4]),
            (set("b"), vec![None, Some(99.0), None, Some(4.0)]),
            (set("c"), vec![None, None, None, Some(5.0)]),
        ],
    };
    let meta = write_block(&vfs, ulid, std::slice::from_ref(&group));
    assert_eq!((meta.n_series, meta.n_samples), (3, 8));
    let mut model = Model::new();
    group.add_to(&mut model);
    let block = BlockReader::open(&*vfs, &path(ulid)).unwrap();
    assert_eq!(read_all(&*block, &[], TimeRange::ALL).unwrap(), model);
    verify(&*vfs, &path(ulid)).unwrap();
}

#[test]
fn cancelled_selections_stop() {
    let vfs = vfs();
    let ulid = Ulid::new(1, 1);
    write_block(&vfs, ulid, &[wide_group(0, 2, 3, "a")]);
    let block = BlockReader::open(&*vfs, &path(ulid)).unwrap();
    let cancel = Cancel::new();
    cancel.cancel(promontory_model::Cancelled::Timeout);
    let matchers = [Matcher::equal("instance", "a")];
    let select = Select { range: TimeRange::ALL, matchers: &matchers, cancel: &cancel };
    let result = block.select(&select, &mut LabelTable::default());
    assert!(matches!(result.map(|g| g.len()), Err(ReadError::Cancelled(_))));
}

#[test]
fn blocks_are_listed_deleted_and_leftovers_removed() {
    let vfs = vfs();
    let (a, b) = (Ulid::new(1, 1), Ulid::new(2, 1));
    write_block(&vfs, a, &[wide_group(0, 2, 3, "a")]);
    write_block(&vfs, b, &[wide_group(0, 2, 3, "b")]);
    vfs.create_dir_all(&dir().join(format!("{}.tmp", Ulid::new(3, 1)))).unwrap();
    vfs.create_dir_all(&dir().join("stranger.tmp")).unwrap();
    let names = |vfs: &dyn Vfs| list(vfs, &dir()).unwrap().iter().map(|l| l.ulid).collect::<Vec<_>>();
    assert_eq!(names(&*vfs), [a, b]);
    assert_eq!(remove_leftovers(&*vfs, &dir()).unwrap(), 1);
    delete(&*vfs, &dir(), a).unwrap();
    delete(&*vfs, &dir(), a).unwrap();
    assert_eq!(names(&*vfs), [b]);
    assert_eq!(vfs.read_dir(&dir()).unwrap().len(), 2);
    assert!(vfs.read_dir(Path::new("/data/blocks/stranger.tmp")).unwrap().is_empty());
}
