//! A crash at every operation of a write, a merge or a deletion leaves the old state or the new one.

use std::sync::Arc;

use promontory_model::{Cancel, TimeRange};

use super::*;
use crate::compact::compact;
use crate::vfs::sim::{SimVfs, Survival};

const SURVIVALS: [Survival; 4] = [Survival::All, Survival::Synced, Survival::Prefix, Survival::TornSector];

/// Runs `work` with a crash at each of its operations; after each, what is found must be one of `states`: the blocks
/// that are listed and not obsolete, by name. Every listed block must be whole.
#[track_caller]
fn check(prepare: impl Fn(&Arc<dyn Vfs>), work: impl Fn(&Arc<dyn Vfs>) -> bool, states: &[&[Ulid]]) {
    for at in 0.. {
        let sim = SimVfs::new();
        let vfs: Arc<dyn Vfs> = Arc::new(sim.clone());
        vfs.create_dir_all(&dir()).unwrap();
        vfs.sync_dir(Path::new("/")).unwrap();
        vfs.sync_dir(Path::new("/data")).unwrap();
        prepare(&vfs);
        sim.crash_at(sim.ops() + at);
        let is_done = work(&vfs);
        for (survival, seed) in SURVIVALS.into_iter().flat_map(|s| [(s, 1), (s, 2)]) {
            let after = sim.crash(survival, seed);
            remove_leftovers(&after, &dir()).unwrap();
            let metas: Vec<BlockMeta> = list(&after, &dir())
                .unwrap()
                .into_iter()
                .map(|l| {
                    verify(&after, &l.path).unwrap_or_else(|e| panic!("crash at {at}, {survival:?}: {e}"));
                    l.meta.unwrap()
                })
                .collect();
            let gone = obsolete(&metas);
            let found: Vec<Ulid> = metas.iter().map(|m| m.ulid).filter(|u| !gone.contains(u)).collect();
            assert!(states.contains(&found.as_slice()), "crash at {at}, {survival:?}: {found:?}");
            if is_done {
                assert_eq!(found, *states.last().unwrap(), "acknowledged work is lost, {survival:?}");
            }
        }
        if !sim.has_crashed() {
            assert!(is_done);
            assert!(at > 3, "the work does something");
            return;
        }
    }
}

fn ulid(i: u64) -> Ulid {
    Ulid::new(i, 0)
}

fn groups(i: i64) -> Vec<Group> {
    vec![wide_group(i * 1_000_000, 130, 12, "a"), wide_group(i * 1_000_000 + 7, 20, 3, "b")]
}

fn try_write(vfs: &Arc<dyn Vfs>, i: u64) -> Result<BlockMeta, BlockError> {
    let mut writer = BlockWriter::new(Arc::clone(vfs), &dir(), ulid(i), 1)?;
    for g in groups(i as i64) {
        g.write(&mut writer)?;
    }
    writer.finish()
}

#[test]
fn a_crash_while_writing_leaves_no_block_or_a_whole_one() {
    check(|vfs| drop(try_write(vfs, 1).unwrap()), |vfs| try_write(vfs, 2).is_ok(), &[&[ulid(1)], &[ulid(1), ulid(2)]]);
}

#[test]
fn a_crash_while_merging_leaves_the_inputs_or_the_output() {
    let merge = |vfs: &Arc<dyn Vfs>| -> Result<(), BlockError> {
        let open = |i| BlockReader::open(&**vfs, &path(ulid(i)));
        let inputs = [open(1)?, open(2)?];
        let Ok(done) = compact(vfs, &dir(), &inputs, ulid(3), &Cancel::new()) else {
            return Err(BlockError::Input { ulid: ulid(3), group: 0, what: "merge failed" });
        };
        done.inputs.into_iter().try_for_each(|u| delete(&**vfs, &dir(), u))
    };
    check(
        |vfs| {
            try_write(vfs, 1).unwrap();
            try_write(vfs, 2).unwrap();
        },
        |vfs| merge(vfs).is_ok(),
        &[&[ulid(1), ulid(2)], &[ulid(3)]],
    );
}

#[test]
fn a_crash_while_deleting_leaves_the_block_or_nothing() {
    check(|vfs| drop(try_write(vfs, 1).unwrap()), |vfs| delete(&**vfs, &dir(), ulid(1)).is_ok(), &[&[ulid(1)], &[]]);
}

#[test]
fn a_full_disk_fails_the_write_and_leaves_nothing() {
    let sim = SimVfs::new();
    let vfs: Arc<dyn Vfs> = Arc::new(sim.clone());
    vfs.create_dir_all(&dir()).unwrap();
    sim.set_space(Some(1000));
    let e = try_write(&vfs, 1).unwrap_err();
    assert!(matches!(e, BlockError::Vfs(e) if e.is_no_space()));
    assert!(vfs.read_dir(&dir()).unwrap().is_empty());
    sim.set_space(None);
    try_write(&vfs, 1).unwrap();
    let block = BlockReader::open(&*vfs, &path(ulid(1))).unwrap();
    assert!(!read_all(&*block, &[], TimeRange::ALL).unwrap().is_empty());
}
