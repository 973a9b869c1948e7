//! Merging, deleting, retention and snapshots of a database in use.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use promontory_model::{Cancel, Matcher, Queryable as _, TimeRange, Timestamp};

use super::{Matched, SnapshotOf};
use crate::clock::{Clock, ManualClock};
use crate::db::tests::{check, dump, open, options, series};
use crate::vfs::{SimVfs, Vfs};
use crate::{Db, DbOptions, DbSettings, WriteError};

const HOUR_MS: i64 = 3_600_000;

/// A sample every ten minutes of `a` and `b`, whose values are the minutes, for some hours from the beginning.
fn append_hours(db: &Db, hours: i64) {
    let mut w = db.writer();
    let (a, b) = (series(&mut w, "a"), series(&mut w, "b"));
    for minute in (0..hours * 60).step_by(10) {
        w.append(Timestamp(minute * 60_000), &[(a, minute as f64), (b, minute as f64)]).unwrap();
    }
    db.commit().unwrap();
    assert_eq!(db.tick().unwrap().warnings, Vec::<String>::new());
}

fn named(name: &str) -> Vec<Vec<Matcher>> {
    vec![vec![Matcher::equal("__name__", name)]]
}

fn all_of(db: &Db) -> Vec<String> {
    dump(&*db.snapshot().unwrap(), TimeRange::ALL, &[])
}

fn reopen(vfs: &SimVfs, db: Db) -> Db {
    drop(db);
    open(vfs, options())
}

#[test]
fn deleted_samples_are_gone_in_head_and_blocks_after_restart_and_when_cleaned() {
    let vfs = SimVfs::new();
    let db = open(&vfs, options());
    append_hours(&db, 7);
    assert!(db.status().blocks_loaded >= 2);
    // From inside the first block to inside the head.
    let range = TimeRange::new(10 * 60_000, 6 * HOUR_MS + 40 * 60_000);
    let expected_b = dump(&*db.snapshot().unwrap(), TimeRange::ALL, &named("b")[0]);
    let matched = Matched { series: 1, samples: 40 };
    assert_eq!(db.count_series(&named("a"), range, &Cancel::new()).unwrap(), matched);
    let before = db.snapshot().unwrap();
    db.delete_series(&named("a"), range).unwrap();
    let expected = ["a 0:0 24600000:410".to_owned(), expected_b[0].clone()];
    assert_eq!(all_of(&db), expected);
    assert!(dump(&*before, TimeRange::ALL, &named("a")[0])[0].len() > 100, "a snapshot in use keeps them");
    check(&db, range, &named("a")[0], &[]);
    drop(before);
    let db = reopen(&vfs, db);
    assert_eq!(all_of(&db), expected);
    let bytes = db.status().blocks_bytes;
    assert!(db.clean_tombstones().unwrap() >= 2);
    assert_eq!(all_of(&db), expected);
    assert!(db.status().blocks_bytes < bytes);
    assert_eq!(db.clean_tombstones().unwrap(), 0);
    let db = reopen(&vfs, db);
    assert_eq!(all_of(&db), expected);
    // New samples of a deleted series are seen.
    let mut w = db.writer();
    let a = series(&mut w, "a");
    w.append(Timestamp(8 * HOUR_MS), &[(a, 1.0)]).unwrap();
    check(&db, TimeRange::new(7 * HOUR_MS, 8 * HOUR_MS), &named("a")[0], &["a 28800000:1"]);
}

#[test]
fn a_block_without_samples_goes() {
    let vfs = SimVfs::new();
    let db = open(&vfs, options());
    append_hours(&db, 7);
    let blocks = db.status().blocks_loaded;
    db.delete_series(&[vec![]], TimeRange::new(0, 2 * HOUR_MS - 1)).unwrap();
    assert_eq!(db.compact().unwrap().map(|c| (c.meta, c.n_deleted)), Some((None, 24)));
    assert_eq!(db.status().blocks_loaded, blocks - 1);
    let db = reopen(&vfs, db);
    assert_eq!(db.status().blocks_loaded, blocks - 1);
}

/// A clock whose waits, which merges do to keep their rate, also do something else.
#[derive(Debug)]
struct BusyClock {
    clock: ManualClock,
    db: OnceLock<Db>,
    waits: AtomicU64,
}

impl Clock for BusyClock {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn monotonic_ns(&self) -> u64 {
        self.clock.monotonic_ns()
    }

    fn wait(&self, time: Duration) {
        if self.waits.fetch_add(1, Ordering::Relaxed) == 0 {
            let db = self.db.get().unwrap();
            assert!(db.status().merging.is_running && db.status().merging.done_bytes > 0);
            db.delete_series(&named("a"), TimeRange::new(0, HOUR_MS)).unwrap();
            db.tick().unwrap();
        }
        self.clock.wait(time);
    }
}

#[test]
fn merges_keep_their_rate_and_what_is_deleted_meanwhile_stays_deleted() {
    let vfs = SimVfs::new();
    let clock =
        Arc::new(BusyClock { clock: ManualClock::new(Timestamp(0)), db: OnceLock::new(), waits: AtomicU64::new(0) });
    let slow = DbOptions { compaction_rate: Some(100), ..options() };
    let db = Db::open(Arc::new(vfs.clone()), Arc::clone(&clock) as _, Path::new("data"), slow).unwrap().0;
    append_hours(&db, 30);
    let _ = clock.db.set(db.clone());
    let (blocks, began_ns) = (db.status().blocks_loaded, clock.monotonic_ns());
    let data_bytes: u64 = db.0.blocks().iter().take(12).map(|b| b.meta().data_bytes).sum();
    let merged = db.compact().unwrap().unwrap();
    assert_eq!(merged.inputs.len(), 12, "a day");
    let status = db.status();
    assert_eq!(status.blocks_loaded, blocks - 11);
    assert_eq!((status.merging.merges, status.merging.is_running, status.merging.done_bytes), (1, false, 0));
    let took_s = (clock.monotonic_ns() - began_ns) / 1_000_000_000;
    assert!(took_s * 100 >= data_bytes, "{took_s} s for {data_bytes} bytes");
    check(
        &db,
        TimeRange::new(0, HOUR_MS),
        &[],
        &["b 0:0 600000:10 1200000:20 1800000:30 2400000:40 3000000:50 3600000:60"],
    );
    drop(db);
}

#[test]
fn a_block_that_cannot_be_cut_is_tried_again_ever_later() {
    let vfs = SimVfs::new();
    let clock = Arc::new(ManualClock::new(Timestamp(0)));
    let (db, _) = Db::open(Arc::new(vfs.clone()), Arc::clone(&clock) as _, Path::new("data"), options()).unwrap();
    let mut w = db.writer();
    let a = series(&mut w, "a");
    for row in 0..40 {
        w.append(Timestamp(row * 60_000), &[(a, 1.0)]).unwrap();
    }
    clock.advance(10 * 60_000);
    db.tick().unwrap();
    let damage = || {
        vfs.corrupt(Path::new("data/head/00000001.seg"), |bytes| {
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
        });
    };
    damage();
    w.append(Timestamp(5 * HOUR_MS), &[(a, 1.0)]).unwrap();
    let mut failures = Vec::new();
    for minutes in [0, 0, 1, 1, 1, 0] {
        clock.advance(minutes * 60_000);
        failures.push((db.tick().unwrap().warnings.len(), db.status().compactions_failed));
    }
    assert_eq!(failures, [(1, 1), (0, 1), (1, 2), (0, 2), (1, 3), (0, 3)]);
    drop((w, db));
    // The same bit again is none.
    damage();
    let db = open(&vfs, options());
    let done = db.tick().unwrap();
    assert_eq!((done.warnings, done.blocks_cut, db.status().compactions), (vec![], 1, 1));
}

#[test]
fn a_stopped_merge_leaves_its_inputs() {
    let vfs = SimVfs::new();
    let db = open(&vfs, options());
    append_hours(&db, 30);
    let (blocks, samples) = (db.status().blocks_loaded, all_of(&db));
    db.stop_compactions();
    assert!(db.compact().is_err() && db.is_stopping());
    assert_eq!((db.status().blocks_loaded, all_of(&db)), (blocks, samples.clone()));
    assert_eq!(db.status().merging.failures, 0);
    let db = reopen(&vfs, db);
    assert_eq!((db.status().blocks_loaded, all_of(&db)), (blocks, samples));
}

#[test]
fn settings_hold_from_the_next_tick_on() {
    let vfs = SimVfs::new();
    let db = open(&vfs, options());
    append_hours(&db, 30);
    let blocks = db.status().blocks_loaded;
    let keep = |settings: DbSettings| {
        db.set(settings);
        db.tick().unwrap();
        db.status().blocks_loaded
    };
    let settings = options().settings();
    assert_eq!(keep(settings), blocks);
    assert_eq!(keep(DbSettings { retention_ms: Some(12 * HOUR_MS), ..settings }), 6);
    // A percentage goes before a size.
    vfs.set_space(Some(1 << 30));
    assert_eq!(keep(DbSettings { retention_percent: Some(50.0), retention_bytes: Some(1), ..settings }), 6);
    assert_eq!(keep(DbSettings { retention_percent: Some(0.000_01), ..settings }), 1);

    let mut w = db.writer();
    let a = series(&mut w, "a");
    let late = Timestamp(30 * HOUR_MS - 25 * 60_000);
    assert_eq!(w.append_at(&[(a, late, 1.0)]).unwrap().accepted, 1);
    db.set(DbSettings { out_of_order_window_ms: 0, ..settings });
    assert_eq!(w.append_at(&[(a, Timestamp(late.0 + 1), 1.0)]).unwrap().out_of_order, 1);
}

/// What a snapshot shows when it is opened as a database.
fn opened(vfs: &SimVfs, path: &Path) -> Vec<String> {
    let clock = Arc::new(ManualClock::new(Timestamp(0)));
    let (db, recovery) = Db::open(Arc::new(vfs.clone()), clock, path, options()).unwrap();
    assert!(recovery.bad_blocks.is_empty() && recovery.notes.is_empty(), "{recovery:?}");
    all_of(&db)
}

#[test]
fn snapshots_hold_what_there_was_and_can_be_opened() {
    let vfs = SimVfs::new();
    let db = open(&vfs, options());
    append_hours(&db, 7);
    db.delete_series(&named("a"), TimeRange::new(0, 6 * HOUR_MS)).unwrap();
    let before = all_of(&db);
    let range_of_blocks = db.0.blocks().last().unwrap().meta().range.maxt;
    let whole = db.write_snapshot("whole", SnapshotOf::Everything).unwrap();
    let blocks = db.write_snapshot("blocks", SnapshotOf::Blocks).unwrap();
    // What comes later is not part of it, also when the blocks that it shares are merged and removed.
    let in_blocks = dump(&*db.snapshot().unwrap(), TimeRange { maxt: range_of_blocks, ..TimeRange::ALL }, &[]);
    db.delete_series(&[vec![]], TimeRange::ALL).unwrap();
    db.clean_tombstones().unwrap();
    append_hours(&db, 9);
    assert_eq!(opened(&vfs, &whole), before);
    assert_eq!(opened(&vfs, &blocks), in_blocks);
    assert_eq!(opened(&vfs, &whole), before, "and again");
    let refused = |name: &str| db.write_snapshot(name, SnapshotOf::Blocks).unwrap_err();
    for name in ["whole", "", "..", "a/b", "x.tmp"] {
        assert!(matches!(refused(name), WriteError::Block { .. }), "{name}");
    }
    // One that was not finished goes with the next.
    let unfinished = Path::new("data/snapshots/x.tmp");
    vfs.create_dir_all(unfinished).unwrap();
    db.write_snapshot("next", SnapshotOf::Blocks).unwrap();
    assert!(vfs.read_dir(unfinished).is_err());
}

#[test]
fn blocks_that_are_put_into_the_folder_are_found_once() {
    let vfs = SimVfs::new();
    let clock = Arc::new(ManualClock::new(Timestamp(0)));
    let open = |dir: &str| Db::open(Arc::new(vfs.clone()), Arc::clone(&clock) as _, Path::new(dir), options());
    let (from, db) = (open("from").unwrap().0, open("data").unwrap().0);
    append_hours(&from, 7);
    db.tick().unwrap();
    let block = Arc::clone(&from.0.blocks()[0]);
    let to = Path::new("data/blocks").join(block.meta().ulid.to_string());
    vfs.create_dir_all(&to).unwrap();
    let look = || {
        clock.advance(2 * 60_000);
        db.tick().unwrap().warnings.len()
    };
    // Half copied: told once, and looked at again.
    vfs.hard_link(&block.path().join("meta"), &to.join("meta")).unwrap();
    assert_eq!((look(), look(), db.status().blocks_loaded), (1, 0, 0));
    for file in ["index", "data"] {
        vfs.hard_link(&block.path().join(file), &to.join(file)).unwrap();
    }
    assert_eq!((look(), look(), db.status().blocks_loaded), (0, 0, 1));
    let before = TimeRange::new(0, 2 * HOUR_MS - 1);
    assert_eq!(all_of(&db), dump(&*from.snapshot().unwrap(), before, &[]));
    // What a deletion removed does not come back.
    db.delete_series(&[vec![]], TimeRange::ALL).unwrap();
    db.clean_tombstones().unwrap();
    assert_eq!((look(), db.status().blocks_loaded), (0, 0));
}
