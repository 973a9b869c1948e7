//! A crash at every operation of random lives, with everything that may survive it.
//!
//! `PROMONTORY_CRASH_POINTS` says how many crashes to go through at least, `PROMONTORY_CRASH_SEED` where to begin.
//! A crash point is a moment and what survives there; each is opened, compared with what was acknowledged, and worked
//! with; one in a few crashes a second time, in the middle of recovery or of what follows.

use std::path::Path;
use std::sync::Arc;

use promontory_model::{Queryable as _, TimeRange, Timestamp};

use super::model_tests::{labels, samples, small};
use super::workload::{DIR, Ledger, Reached, START_MS, Workload};
use crate::clock::ManualClock;
use crate::vfs::SimVfs;
use crate::vfs::sim::{Rng, Survival};
use crate::{Db, DbOptions, FsyncPolicy};

/// Time at which survivors are opened: after all samples.
pub(super) const LATER_MS: i64 = START_MS + 3_600_000;
/// A series that only survivors append to.
const NEW_SERIES: u8 = 250;

/// What was gone through.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) points: u64,
    second_points: u64,
    lives: u64,
    reached: Reached,
}

fn open(vfs: &SimVfs, options: &DbOptions, what: &str) -> Db {
    let clock = Arc::new(ManualClock::new(Timestamp(LATER_MS)));
    let opened = Db::open(Arc::new(vfs.clone()), clock, Path::new(DIR), options.clone());
    let (db, recovery) = opened.unwrap_or_else(|e| panic!("{what}: {e}"));
    let damage = (recovery.wal_corruptions, recovery.head_corruptions, recovery.wal_rows_lost);
    assert_eq!(damage, (0, 0, 0), "{what}: a crash is not damage: {recovery:?}");
    assert_eq!(recovery.bad_blocks, vec![], "{what}");
    db
}

/// Opens what a crash at operation `at` left, and checks it. The store must go on working, and does so before it
/// crashes again at one of the moments that are kept when `keep` is set.
fn check_survivor(vfs: &SimVfs, options: &DbOptions, ledger: &Ledger, at: u64, keep: bool, what: &str) {
    // Retention counts from the newest sample; the one that is appended here must not retire the others.
    let options = DbOptions { retention_ms: None, ..options.clone() };
    if keep {
        vfs.keep_moments();
    }
    let db = open(vfs, &options, what);
    let mut found = samples(&*db.snapshot().unwrap(), TimeRange::ALL);
    let new = found.remove(&(NEW_SERIES, LATER_MS));
    assert!(new.is_none_or(|bits| bits == 1.0_f64.to_bits()), "{what}");
    if let Some(mistake) = ledger.mistake(at, &found) {
        panic!("{what}: {mistake}");
    }
    let mut w = db.writer();
    let r = w.resolve(&labels(NEW_SERIES)).unwrap();
    assert_eq!(w.append(Timestamp(LATER_MS), &[(r, 1.0)]).unwrap().accepted, 1);
    db.commit().unwrap();
    db.tick().unwrap_or_else(|e| panic!("{what}: {e}"));
    let mut after = samples(&*db.snapshot().unwrap(), TimeRange::ALL);
    assert_eq!(after.remove(&(NEW_SERIES, LATER_MS)), Some(1.0_f64.to_bits()), "{what}");
    assert!(found == after, "{what}: a tick changed samples");
}

/// Crashes in each moment of the life of `seed`, every `stride`th one.
pub(super) fn crash_everywhere(
    options: &DbOptions,
    survivals: &[Survival],
    seed: u64,
    (steps, stride): (usize, usize),
    counts: &mut Counts,
) {
    let vfs = SimVfs::new();
    vfs.keep_moments();
    let mut workload = Workload::new(&vfs, options, seed);
    for _ in 0..steps {
        workload.step();
    }
    let moments = vfs.take_moments();
    let (ledger, reached) = workload.end();
    assert!(ledger.len() > steps / 2);
    counts.lives += 1;
    counts.reached.add(reached);
    let mut rng = Rng::new(seed);
    for (op, moment) in moments.iter().skip(rng.up_to(stride - 1)).step_by(stride) {
        for &survival in survivals {
            let what = format!("seed {seed}, {survival:?} at operation {op}");
            let survivor = moment.crash(survival, rng.next());
            let again = rng.up_to(3) == 0;
            check_survivor(&survivor, options, &ledger, *op, again, &what);
            counts.points += 1;
            let second = survivor.take_moments();
            if again && !second.is_empty() {
                let (second_op, second) = &second[rng.up_to(second.len() - 1)];
                let survival = survivals[rng.up_to(survivals.len() - 1)];
                let what = format!("{what}, then {survival:?} at operation {second_op} of the survivor");
                check_survivor(&second.crash(survival, rng.next()), options, &ledger, *op, false, &what);
                counts.points += 1;
                counts.second_points += 1;
            }
        }
    }
}

/// Options of the life of this seed.
pub(super) fn options_of(seed: u64) -> DbOptions {
    let mut rng = Rng::new(!seed);
    let block_ms = [4000, 10_000][rng.up_to(1)];
    DbOptions {
        block_ms,
        retention_ms: [None, Some(20 * block_ms), Some(5 * block_ms)][rng.up_to(2)],
        out_of_order_window_ms: [3000, 3000, 0][rng.up_to(2)],
        ..small()
    }
}

pub(super) fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |n| n.parse().expect("a number"))
}

#[test]
fn acknowledged_samples_survive_a_crash_of_the_machine_at_every_operation() {
    let wanted = number("PROMONTORY_CRASH_POINTS", 600);
    let first = number("PROMONTORY_CRASH_SEED", 1);
    let mut counts = Counts::default();
    // Few points are spread over several lives; many go through every operation.
    let stride = if wanted < 10_000 { 47 } else { 1 };
    for seed in first.. {
        crash_everywhere(&options_of(seed), &Survival::OF_MACHINE, seed, (150, stride), &mut counts);
        let is_complete = counts.second_points > 0 && counts.reached.is_complete();
        if counts.points >= wanted && is_complete {
            break;
        }
        assert!(counts.lives < 50, "the lives do not reach everything: {counts:?}");
    }
    eprintln!("{counts:?}");
}

#[test]
fn acknowledged_samples_survive_the_death_of_the_process_at_every_operation() {
    let mut counts = Counts::default();
    for seed in 1..3 {
        let options = DbOptions { fsync: FsyncPolicy::Never, ..options_of(seed) };
        crash_everywhere(&options, &[Survival::All], seed, (100, 3), &mut counts);
    }
    assert!(counts.points > 100, "{counts:?}");
}
