//! The same questions before and after everything that moves samples: sealing, cutting, merging, cleaning, restarts,
//! export to Prometheus' blocks and import.
//!
//! `PROMONTORY_QUERY_LIVES` says how many random lives are asked, `PROMONTORY_QUERY_SEED` where to begin.

use std::path::Path;
use std::sync::Arc;

use promontory_model::{Cancel, Labels, MatchOp, Matcher, Queryable as _, TimeRange, Timestamp};

use super::crash_tests::{LATER_MS, number, options_of};
use super::model_tests::{Samples, labels, samples, samples_of};
use super::workload::{DIR, START_MS, Workload};
use crate::clock::ManualClock;
use crate::prometheus::{self, ExportOptions};
use crate::vfs::SimVfs;
use crate::vfs::sim::{Rng, Survival};
use crate::{Db, DbOptions};

const QUESTIONS: usize = 12;

/// Matchers and a range, and what is to be found.
struct Question {
    matchers: Vec<Matcher>,
    range: TimeRange,
    answer: Samples,
}

fn matcher(rng: &mut Rng) -> Matcher {
    let op = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex][rng.up_to(3)];
    let name = ["__name__", "s", "s", "absent"][rng.up_to(3)];
    let values = ["m0", "m1", "", "7", "101", "1.*", "m[01]", ".*", ".+", "5|7|1.1", "9?0", "m0|m2"];
    Matcher::new(name, op, values[rng.up_to(values.len() - 1)]).unwrap()
}

fn questions(all: &Samples, rng: &mut Rng) -> Vec<Question> {
    let mut out = Vec::new();
    for n in 0..QUESTIONS {
        let matchers: Vec<Matcher> = (0..rng.up_to(2)).map(|_| matcher(rng)).collect();
        let from = START_MS - 4_000_000 + rng.up_to(4_200_000) as i64;
        let near = START_MS + rng.up_to(120_000) as i64;
        let range = match n % 3 {
            0 => TimeRange::ALL,
            1 => TimeRange::new(from, from + rng.up_to(4_000_000) as i64),
            _ => TimeRange::new(near, near + rng.up_to(30_000) as i64),
        };
        let hit = |(series, t): &(u8, i64)| {
            range.contains(Timestamp(*t)) && matchers.iter().all(|m| m.matches_labels(&labels(*series)))
        };
        let answer = all.iter().filter(|(key, _)| hit(key)).map(|(k, v)| (*k, *v)).collect();
        out.push(Question { matchers, range, answer });
    }
    out
}

#[track_caller]
fn check(db: &Db, questions: &[Question], after: &str) {
    let snapshot = db.snapshot().unwrap();
    for Question { matchers, range, answer } in questions {
        let found = samples_of(&*snapshot, matchers, *range);
        assert!(found == *answer, "after {after}: {matchers:?} in {range:?}\n{found:?}\n{answer:?}");
    }
}

fn open(vfs: &SimVfs, dir: &str, options: &DbOptions) -> Db {
    let clock = Arc::new(ManualClock::new(Timestamp(LATER_MS)));
    Db::open(Arc::new(vfs.clone()), clock, Path::new(dir), options.clone()).unwrap().0
}

fn ask_everywhere(seed: u64) -> usize {
    let options = DbOptions { retention_ms: None, ..options_of(seed) };
    let vfs = SimVfs::new();
    let mut life = Workload::new(&vfs, &options, seed);
    for _ in 0..80 {
        life.step();
    }
    let all = samples(&*life.db().snapshot().unwrap(), TimeRange::ALL);
    let questions = questions(&all, &mut Rng::new(seed));
    check(life.db(), &questions, "nothing");
    life.db().commit().unwrap();
    // The process dies; its survivor replays.
    let vfs = vfs.crash(Survival::All, seed);
    drop(life);
    let db = open(&vfs, DIR, &options);
    check(&db, &questions, "a replay");
    drop(db);
    // Everything is old now: a tick seals and cuts.
    let db = open(&vfs, DIR, &DbOptions { seal_age_ms: 0, ..options.clone() });
    db.tick().unwrap();
    check(&db, &questions, "sealing and cutting");
    while db.compact().unwrap().is_some() {
        check(&db, &questions, "a merge");
    }
    db.clean_tombstones().unwrap();
    check(&db, &questions, "cleaning");
    db.close().unwrap();
    drop(db);
    let db = open(&vfs, DIR, &options);
    check(&db, &questions, "a clean restart");
    let (block_ms, none) = ([60_000, 7_200_000][seed as usize % 2], Labels::default());
    let export = ExportOptions { range: TimeRange::ALL, matchers: &[], block_ms, external_labels: &none };
    let disk: Arc<dyn crate::vfs::Vfs> = Arc::new(vfs.clone());
    prometheus::export(&disk, &db, Path::new("exported"), &export, &mut |_| {}, &Cancel::new()).unwrap();
    check(&db, &questions, "an export");
    let other = open(&vfs, "imported", &DbOptions { block_ms: 7_200_000, ..options });
    let imported = prometheus::import(&other, Path::new("exported"), &mut |_| {}, &Cancel::new()).unwrap();
    assert_eq!((imported.bad_blocks.len(), imported.n_conflicts), (0, 0), "{imported:?}");
    check(&other, &questions, "an import");
    while other.compact().unwrap().is_some() {}
    check(&other, &questions, "merges of what was imported");
    questions.iter().filter(|q| !q.answer.is_empty()).count()
}

#[test]
fn answers_do_not_change_when_samples_move() {
    let (first, lives) = (number("PROMONTORY_QUERY_SEED", 1), number("PROMONTORY_QUERY_LIVES", 6));
    let mut answered = 0;
    for seed in first..first + lives {
        answered += ask_everywhere(seed);
    }
    eprintln!("{lives} lives, {answered} of {} questions have samples", lives as usize * QUESTIONS);
    assert!(answered > lives as usize * QUESTIONS / 4);
}
