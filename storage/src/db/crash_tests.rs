//! A crash at every operation of a workload, with everything that may survive it.

use std::path::Path;
use std::sync::Arc;

use promontory_model::{Queryable as _, TimeRange, Timestamp};

use super::model_tests::{Samples, labels, samples, small};
use crate::clock::ManualClock;
use crate::vfs::SimVfs;
use crate::vfs::sim::Survival;
use crate::{Db, DbOptions, FsyncPolicy};

/// What the workload appended, and what of it was acknowledged.
#[derive(Default)]
struct Ledger {
    appended: Samples,
    acknowledged: Samples,
}

fn open(vfs: &SimVfs, options: DbOptions, now: i64) -> Option<(Db, Arc<ManualClock>)> {
    let clock = Arc::new(ManualClock::new(Timestamp(now)));
    Db::open(Arc::new(vfs.clone()), Arc::clone(&clock) as _, Path::new("data"), options).ok().map(|(db, _)| (db, clock))
}

/// Two targets, out-of-order samples, new series, ticks that seal, write manifests and cut blocks, a clean restart.
fn workload(vfs: &SimVfs, options: &DbOptions) -> Ledger {
    let mut ledger = Ledger::default();
    let mut now = 1_000_000;
    for round in 0..2 {
        let Some((db, clock)) = open(vfs, options.clone(), now) else { return ledger };
        let (mut w1, mut w2) = (db.writer(), db.writer());
        for i in 0..14_i64 {
            let n_series = 3 + (i / 4) as u8;
            let refs: Vec<_> = (0..n_series).filter_map(|s| Some((s, w1.resolve(&labels(s)).ok()?))).collect();
            let row: Vec<_> = refs.iter().map(|&(s, r)| (r, i as f64 * 1.5 + f64::from(s))).collect();
            if w1.append(Timestamp(now), &row).is_ok_and(|a| a.refused() == 0) {
                for (s, v) in refs.iter().zip(&row).map(|((s, _), (_, v))| (*s, *v)) {
                    ledger.appended.insert((s, now), v.to_bits());
                }
            }
            if let Ok(r) = w2.resolve(&labels(100))
                && w2.append_at(&[(r, Timestamp(now - 700), 7.0)]).is_ok_and(|a| a.refused() == 0)
            {
                ledger.appended.insert((100, now - 700), 7.0_f64.to_bits());
            }
            if i % 2 == 1 && db.commit().is_ok() {
                ledger.acknowledged = ledger.appended.clone();
            }
            if i % 3 == 2 {
                let _ = db.tick();
            }
            now += 1700;
            clock.advance(1700);
        }
        if round == 0 && db.close().is_ok() {
            ledger.acknowledged = ledger.appended.clone();
        }
    }
    ledger
}

fn check_survivor(vfs: &SimVfs, options: &DbOptions, ledger: &Ledger, what: &str) {
    let opened = Db::open(
        Arc::new(vfs.clone()),
        Arc::new(ManualClock::new(Timestamp(2_000_000))),
        Path::new("data"),
        options.clone(),
    );
    let (db, recovery) = opened.unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(recovery.wal_rows_lost, 0, "{what}: {recovery:?}");
    let found = samples(&*db.snapshot().unwrap(), TimeRange::ALL);
    for (key, bits) in &ledger.acknowledged {
        assert_eq!(found.get(key), Some(bits), "{what}: {key:?} was acknowledged; {recovery:?}");
    }
    for (key, bits) in &found {
        assert_eq!(ledger.appended.get(key), Some(bits), "{what}: {key:?} was never appended");
    }
    // The store goes on working.
    let mut w = db.writer();
    let r = w.resolve(&labels(200)).unwrap();
    assert_eq!(w.append(Timestamp(1_900_000), &[(r, 1.0)]).unwrap().accepted, 1);
    db.commit().unwrap();
    db.tick().unwrap_or_else(|e| panic!("{what}: {e}"));
    let after = samples(&*db.snapshot().unwrap(), TimeRange::ALL);
    assert!(found.iter().all(|(key, bits)| after.get(key) == Some(bits)), "{what}: a tick lost samples");
}

fn crash_everywhere(options: &DbOptions, survivals: &[Survival]) {
    let whole = SimVfs::new();
    let ledger = workload(&whole, options);
    assert!(ledger.acknowledged.len() > 100);
    let (db, _) = open(&whole, options.clone(), 2_000_000).unwrap();
    assert!(db.status().blocks_loaded >= 2, "the workload cuts blocks: {:?}", db.status());
    drop(db);
    let ops = whole.ops();
    for op in 0..ops {
        let vfs = SimVfs::new();
        vfs.crash_at(op);
        let ledger = workload(&vfs, options);
        for &survival in survivals {
            check_survivor(&vfs.crash(survival, op), options, &ledger, &format!("{survival:?} after operation {op}"));
        }
    }
}

#[test]
fn acknowledged_samples_survive_a_crash_of_the_machine_at_every_operation() {
    let all = [Survival::All, Survival::Synced, Survival::Prefix, Survival::TornSector];
    crash_everywhere(&small(), &all);
}

#[test]
fn acknowledged_samples_survive_the_death_of_the_process_at_every_operation() {
    crash_everywhere(&DbOptions { fsync: FsyncPolicy::Never, ..small() }, &[Survival::All]);
}
