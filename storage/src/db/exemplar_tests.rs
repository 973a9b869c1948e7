//! Exemplars as users of a database see them: over restarts, checkpoints, damage, and crashes at every operation.

use std::path::Path;
use std::sync::Arc;

use promontory_model::{Labels, TimeRange, Timestamp};

use super::model_tests::{labels, small};
use crate::clock::ManualClock;
use crate::exemplars::{Exemplar, ExemplarsAppended};
use crate::vfs::SimVfs;
use crate::vfs::sim::{Rng, Survival};
use crate::{Db, DbOptions, Recovery};

const KEPT: usize = 50;

fn options() -> DbOptions {
    DbOptions { exemplars_max: KEPT, ..small() }
}

fn open(vfs: &SimVfs, now: i64) -> (Db, Recovery) {
    let clock = Arc::new(ManualClock::new(Timestamp(now)));
    Db::open(Arc::new(vfs.clone()), clock, Path::new("data"), options()).unwrap()
}

/// The exemplar with this number; its series follows from it.
fn exemplar(n: usize) -> (u8, Exemplar) {
    let labels = Labels::from_pairs([("trace_id", format!("{n:x}"))]);
    ((n % 5) as u8, Exemplar { labels, value: n as f64, timestamp: Timestamp(n as i64), has_timestamp: true })
}

/// Appends the exemplars with these numbers.
fn append(db: &Db, numbers: std::ops::Range<usize>) {
    let mut w = db.writer();
    let n = numbers.len() as u64;
    let batch = numbers.map(exemplar).map(|(series, e)| (w.resolve(&labels(series)).unwrap(), e)).collect();
    assert_eq!(w.append_exemplars(batch).unwrap(), ExemplarsAppended { accepted: n, ..ExemplarsAppended::default() });
}

/// Numbers of all that are kept, ascending.
fn kept(db: &Db) -> Vec<usize> {
    let mut out = Vec::new();
    for series in db.exemplars(&[vec![]], TimeRange::ALL) {
        for e in series.exemplars {
            let n = e.timestamp.0 as usize;
            let (of, expected) = exemplar(n);
            assert_eq!((&series.labels, &e), (&labels(of), &expected));
            out.push(n);
        }
    }
    out.sort_unstable();
    out
}

#[test]
fn exemplars_survive_restarts_with_and_without_a_checkpoint() {
    let vfs = SimVfs::new();
    let mut n = 0;
    for round in 0..40 {
        let (db, recovery) = open(&vfs, 1000 * round);
        assert_eq!((recovery.wal_corruptions, recovery.head_corruptions), (0, 0), "{recovery:?}");
        assert_eq!(kept(&db), (n - KEPT.min(n)..n).collect::<Vec<_>>(), "round {round}");
        append(&db, n..n + 70);
        n += 70;
        match round % 3 {
            0 => db.close().unwrap(),
            1 => db.commit().unwrap(),
            _ => {}
        }
    }
    let names: Vec<_> = vfs.files(Path::new("data/head")).into_iter().filter(|f| f.ends_with("exemplars")).collect();
    assert!(names.len() <= 1, "{names:?}");
}

#[test]
fn a_damaged_file_is_reported_and_replaced() {
    let vfs = SimVfs::new();
    let (db, _) = open(&vfs, 0);
    append(&db, 0..20);
    db.close().unwrap();
    drop(db);
    append_and_close(&vfs, 20..40);
    let file = Path::new("data/head/00000001.exemplars");
    vfs.corrupt(file, |bytes| {
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
    });
    let (db, recovery) = open(&vfs, 0);
    assert_eq!(recovery.head_corruptions, 1);
    assert_eq!(kept(&db), (0..20).collect::<Vec<_>>());
    append(&db, 40..45);
    db.close().unwrap();
    drop(db);
    let (db, recovery) = open(&vfs, 0);
    assert_eq!((recovery.head_corruptions, kept(&db)), (0, (0..20).chain(40..45).collect()));
}

#[test]
fn exemplars_that_were_switched_off_do_not_come_back() {
    let vfs = SimVfs::new();
    append_and_close(&vfs, 0..20);
    let (db, _) = open(&vfs, 0);
    db.set(DbOptions { exemplars_max: 0, ..options() }.settings());
    assert_eq!(kept(&db), []);
    db.close().unwrap();
    drop(db);
    let (db, recovery) = open(&vfs, 0);
    assert_eq!((recovery.head_corruptions, kept(&db)), (0, vec![]));
    append(&db, 20..25);
    drop(db);
    assert_eq!(kept(&open(&vfs, 0).0), (20..25).collect::<Vec<_>>());
}

fn append_and_close(vfs: &SimVfs, numbers: std::ops::Range<usize>) {
    let (db, _) = open(vfs, 0);
    append(&db, numbers);
    db.close().unwrap();
}

#[test]
fn a_crash_at_any_operation_keeps_what_was_acknowledged() {
    let vfs = SimVfs::new();
    vfs.keep_moments();
    // Operations before and numbers after: of appends, and of what was acknowledged.
    let (mut begun, mut acknowledged) = (vec![(0, 0)], vec![(0, 0)]);
    let mut rng = Rng::new(5);
    let (mut n, mut now) = (0, 0);
    let (mut db, _) = open(&vfs, now);
    for _ in 0..60 {
        let more = rng.up_to(80);
        begun.push((vfs.ops(), n + more));
        append(&db, n..n + more);
        n += more;
        now += 700;
        match rng.up_to(5) {
            0 => {
                db.close().unwrap();
                acknowledged.push((vfs.ops(), n));
                drop(db);
                db = open(&vfs, now).0;
            }
            1 | 2 => {
                db.tick().unwrap();
            }
            _ => {}
        }
        db.commit().unwrap();
        acknowledged.push((vfs.ops(), n));
    }
    let up_to = |of: &[(u64, usize)], op: u64| of.iter().rev().find(|(at, _)| *at <= op).map_or(0, |x| x.1);
    let moments = vfs.take_moments();
    assert!(moments.len() > 200);
    for (op, moment) in moments.iter().step_by(3) {
        for survival in Survival::OF_MACHINE {
            let survivor = moment.crash(survival, rng.next());
            let (db, _) = open(&survivor, now);
            let found = kept(&db);
            let end = found.last().map_or(0, |last| last + 1);
            let what = format!("{survival:?} at operation {op}");
            assert_eq!(found, (end - KEPT.min(end)..end).collect::<Vec<_>>(), "{what}");
            let range = up_to(&acknowledged, *op)..=up_to(&begun, *op);
            assert!(range.contains(&end), "{what}: {end} of {range:?}");
        }
    }
}
