//! Merged blocks against the union of their inputs.

use std::sync::Arc;

use promontory_model::{Cancel, Cancelled, Labels, MatchOp, Matcher, TimeRange, Timestamp};
use proptest::prelude::*;

use super::merge::compact_within;
use super::*;
use crate::block::tests::related::related_group;
use crate::block::tests::{Group, Model, cases, dir, group, path, read_all, vfs, wide_group, write_block};
use crate::block::{BlockReader, list, verify};
use crate::vfs::Vfs;

fn merge(vfs: &Arc<dyn Vfs>, inputs: &[Ulid], output: Ulid) -> Result<Compacted, CompactError> {
    let open = |u: &Ulid| BlockReader::open(&**vfs, &path(*u)).unwrap();
    let readers: Vec<_> = inputs.iter().map(open).collect();
    compact(vfs, &dir(), &readers, output, &Cancel::new())
}

fn meta(done: &Compacted) -> &BlockMeta {
    done.meta.as_ref().unwrap()
}

/// Writes each list of groups as a block, merges them, compares with the union.
#[track_caller]
fn check(blocks: &[Vec<Group>]) -> Compacted {
    let vfs = vfs();
    let mut model = Model::new();
    let inputs: Vec<Ulid> = (0..blocks.len()).map(|i| Ulid::new(i as u64, 0)).collect();
    let mut n_samples = 0;
    for (groups, ulid) in blocks.iter().zip(&inputs) {
        n_samples += write_block(&vfs, *ulid, groups).n_samples;
        groups.iter().for_each(|g| g.add_to(&mut model));
    }
    let output = Ulid::new(99, 0);
    let done = merge(&vfs, &inputs, output).unwrap();
    assert_eq!(done.inputs, inputs);
    let Some(meta) = done.meta.as_ref() else {
        assert!(model.is_empty());
        return done;
    };
    assert_eq!(meta.sources, inputs);
    assert_eq!(meta.n_samples + done.n_duplicates, n_samples);
    assert_eq!(meta.n_series, model.len() as u64, "every series is in one group");
    assert_eq!(done.n_copied + done.n_rewritten, meta.n_mini_blocks);
    let block = BlockReader::open(&*vfs, &path(output)).unwrap();
    assert!(read_all(&*block, &[], TimeRange::ALL).unwrap() == model);
    verify(&*vfs, &path(output)).unwrap();
    done
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn a_merge_is_the_union_of_its_inputs(
        blocks in proptest::collection::vec(
            (0i64..4).prop_flat_map(|slot| proptest::collection::vec(group(slot * 400_000, 40), 0..4)), 1..5)
    ) {
        check(&blocks);
    }

    #[test]
    fn a_merge_leaves_deleted_samples_behind(
        blocks in proptest::collection::vec(
            (0i64..3).prop_flat_map(|slot| proptest::collection::vec(group(slot * 200_000, 40), 0..4)), 1..4),
        deletions in proptest::collection::vec((0usize..3, 0u8..4, -10_000i64..900_000, 0i64..500_000), 1..5),
        sites_max in 1u64..20,
    ) {
        let vfs = vfs();
        let mut readers = Vec::new();
        let mut models = Vec::new();
        for (i, groups) in blocks.iter().enumerate() {
            let ulid = Ulid::new(i as u64, 0);
            write_block(&vfs, ulid, groups);
            readers.push(BlockReader::open(&*vfs, &path(ulid)).unwrap());
            let mut model = Model::new();
            groups.iter().for_each(|g| g.add_to(&mut model));
            models.push(model);
        }
        for (i, metric, from, len) in deletions {
            let i = i % blocks.len();
            let selector = match metric {
                0 => vec![],
                1 => vec![Matcher::new("__name__", MatchOp::Equal, "up").unwrap()],
                2 => vec![Matcher::new("a", MatchOp::Regex, "a.*").unwrap()],
                _ => vec![Matcher::new("b", MatchOp::NotEqual, "").unwrap()],
            };
            let range = TimeRange::new(from, from + len);
            let without = readers[i].delete_samples(&*vfs, std::slice::from_ref(&selector), range, &Cancel::new()).unwrap();
            readers[i] = without.unwrap_or_else(|| Arc::clone(&readers[i]));
            for (labels, samples) in &mut models[i] {
                if selector.iter().all(|m| m.matches_labels(labels)) {
                    samples.retain(|t, _| !range.contains(Timestamp(*t)));
                }
            }
            models[i].retain(|_, samples| !samples.is_empty());
            prop_assert!(read_all(&*readers[i], &[], TimeRange::ALL).unwrap() == models[i]);
            let again = BlockReader::open(&*vfs, &path(Ulid::new(i as u64, 0))).unwrap();
            prop_assert!(read_all(&*again, &[], TimeRange::ALL).unwrap() == models[i]);
        }
        let mut union = Model::new();
        for (labels, samples) in models.into_iter().flatten() {
            let of_series = union.entry(labels).or_default();
            samples.into_iter().for_each(|(t, v)| { of_series.entry(t).or_insert(v); });
        }
        let output = Ulid::new(99, 0);
        let job = Job { cancel: &Cancel::new(), progress: &|_| {}, before_publish: &mut |_| Ok(()) };
        let done = compact_within(&vfs, &dir(), &readers, output, job, sites_max).unwrap();
        match done.meta {
            None => prop_assert!(union.is_empty()),
            Some(_) => {
                let block = BlockReader::open(&*vfs, &path(output)).unwrap();
                prop_assert!(read_all(&*block, &[], TimeRange::ALL).unwrap() == union);
            }
        }
    }
}

#[test]
fn columns_told_from_others_are_copied_only_with_these() {
    let of = |start, seed, keeps: fn(usize) -> bool| related_group(start, 480, seed, keeps);
    let whole = check(&[vec![of(0, 1, |_| true)], vec![of(7_200_000, 2, |_| true)]]);
    assert_eq!((whole.n_copied, whole.n_rewritten), (18, 0));
    let fewer = check(&[vec![of(0, 1, |_| true)], vec![of(7_200_000, 2, |i| i != 0 && i != 5)]]);
    assert_eq!((fewer.n_copied, fewer.n_rewritten), (16, 0));
    check(&[vec![of(0, 1, |i| i % 2 == 0)], vec![of(7_200_000, 2, |i| i > 2)], vec![of(9_000_000, 3, |i| i < 8)]]);
    let parted = vec![of(7_200_000, 2, |i| i < 2), of(7_200_000, 2, |i| i >= 2)];
    check(&[vec![of(0, 1, |_| true)], parted]);
}

#[test]
fn groups_that_continue_are_copied() {
    let done = check(&[
        vec![wide_group(0, 480, 50, "a"), wide_group(5, 480, 20, "b")],
        vec![wide_group(480_000, 480, 50, "a"), wide_group(480_005, 480, 20, "b")],
        vec![wide_group(960_000, 480, 50, "a")],
    ]);
    assert_eq!((done.n_copied, done.n_rewritten), (50 * 3 + 20 * 2, 0));
    assert_eq!((meta(&done).n_groups, meta(&done).level), (2, 2));
}

#[test]
fn series_that_come_and_go_stay_in_one_group() {
    let done = check(&[vec![wide_group(0, 200, 50, "a")], vec![wide_group(480_000, 200, 20, "a")]]);
    assert_eq!((done.n_copied, done.n_rewritten, meta(&done).n_groups), (70, 0, 1));
}

#[test]
fn overlapping_rows_are_merged_and_the_older_sample_stays() {
    let set = Labels::from_pairs([("__name__", "up")]);
    let group = |times: &[i64], v: f64| Group {
        timestamps: times.to_vec(),
        columns: vec![(set.clone(), vec![Some(v); times.len()])],
    };
    let done = check(&[vec![group(&[10, 20, 30], 1.0)], vec![group(&[5, 20, 35], 2.0)]]);
    assert_eq!((done.n_duplicates, meta(&done).n_samples), (1, 5));
}

#[test]
fn short_spans_become_longer() {
    let blocks: Vec<Vec<Group>> = (0..10).map(|i| vec![wide_group(i * 100_000, 50, 5, "a")]).collect();
    let done = check(&blocks);
    assert!(meta(&done).n_mini_blocks <= 5 * 4, "{done:?}");
}

#[test]
fn series_that_move_between_groups_stay_whole() {
    let all = wide_group(0, 300, 40, "a");
    let mut left = wide_group(400_000, 300, 40, "a");
    let mut right = wide_group(400_500, 300, 40, "a");
    left.columns.truncate(15);
    right.columns.drain(..15);
    let done = check(&[vec![all], vec![left, right]]);
    // Some were told from others that are in the other group now.
    assert_eq!((meta(&done).n_groups, done.n_copied, done.n_rewritten), (2, 40, 40));
}

#[test]
fn cancelled_merges_leave_nothing() {
    let vfs = vfs();
    let ulid = Ulid::new(1, 0);
    write_block(&vfs, ulid, &[wide_group(0, 10, 2, "a")]);
    let cancel = Cancel::new();
    cancel.cancel(Cancelled::Shutdown);
    let reader = BlockReader::open(&*vfs, &path(ulid)).unwrap();
    assert!(compact(&vfs, &dir(), &[reader], Ulid::new(2, 0), &cancel).is_err());
    assert_eq!(vfs.read_dir(&dir()).unwrap().len(), 1);
}

#[test]
fn a_damaged_input_gives_an_error_and_no_output() {
    let vfs = crate::vfs::SimVfs::new();
    let shared: Arc<dyn Vfs> = Arc::new(vfs.clone());
    shared.create_dir_all(&dir()).unwrap();
    let ulid = Ulid::new(1, 0);
    write_block(&shared, ulid, &[wide_group(0, 500, 20, "a")]);
    vfs.corrupt(&path(ulid).join("data"), |bytes| bytes[3000] ^= 0x10);
    let e = merge(&shared, &[ulid], Ulid::new(2, 0)).unwrap_err().to_string();
    assert!(e.contains("crc mismatch"), "{e}");
    assert_eq!(list(&*shared, &dir()).unwrap().len(), 1);
}
