//! What is filled in is found again, whatever its age and order; what is given up leaves nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use promontory_model::{Cancel, Cancelled, Columns, Labels, Queryable as _, Select, TimeRange, Timestamp};
use proptest::prelude::*;

use crate::clock::ManualClock;
use crate::vfs::{RealVfs, SimVfs, Vfs};
use crate::{Db, DbOptions};

const HOUR: i64 = 3_600_000;

type Samples = BTreeMap<(Labels, i64), u64>;

fn open(vfs: &Arc<dyn Vfs>) -> Db {
    let options = DbOptions { commit_interval_ms: None, ..DbOptions::server() };
    let clock = Arc::new(ManualClock::new(Timestamp(1_700_000_000_000)));
    Db::open(Arc::clone(vfs), clock, Path::new("data"), options).unwrap().0
}

fn all(db: &Db) -> Samples {
    let cancel = Cancel::new();
    let select = Select { range: TimeRange::ALL, matchers: &[], cancel: &cancel };
    let (mut out, mut columns) = (Samples::new(), Columns::default());
    for batch in db.snapshot().unwrap().select(&select).unwrap().batches {
        batch.read(0..batch.n_series(), TimeRange::ALL, &mut columns).unwrap();
        for i in 0..batch.n_series() {
            let column = columns.column(i);
            for (row, t) in columns.timestamps().iter().enumerate().filter(|(row, _)| column.is_present(*row)) {
                out.insert((batch.labels(i), *t), column.values[row].to_bits());
            }
        }
    }
    out
}

fn labels(job: u8, series: u8) -> Labels {
    Labels::from_pairs([("__name__", format!("m{series}")), ("job", format!("j{job}")), ("instance", "a".into())])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn filled_in_samples_are_found_in_any_order_and_after_a_restart(
        samples in prop::collection::vec((0..3u8, 0..6u8, -40..400i64, 0..90i64, any::<u8>()), 1..400),
    ) {
        let vfs: Arc<dyn Vfs> = Arc::new(SimVfs::new());
        let db = open(&vfs);
        let mut backfill = db.backfill().unwrap();
        let (mut expected, mut repeated) = (Samples::new(), 0);
        for (job, series, hour, minute, value) in samples {
            let (labels, t) = (labels(job, series), hour * HOUR + minute * 60_000);
            let number = backfill.series(&labels).unwrap();
            backfill.push(number, t, f64::from(value)).unwrap();
            let bits = f64::from(value).to_bits();
            if expected.contains_key(&(labels.clone(), t)) {
                repeated += 1;
            } else {
                expected.insert((labels, t), bits);
            }
            if value == 7 {
                backfill.put_aside().unwrap();
            }
        }
        let done = backfill.finish(&mut |_| {}, &Cancel::new()).unwrap();
        prop_assert_eq!(done.n_samples, expected.len() as u64);
        prop_assert_eq!(done.n_duplicates + done.n_conflicts, repeated);
        prop_assert_eq!(&all(&db), &expected);
        // What is there stays, whatever comes.
        let mut again = db.backfill().unwrap();
        for ((labels, t), bits) in &expected {
            let number = again.series(labels).unwrap();
            again.push(number, *t, f64::from_bits(*bits) + f64::from(*t % 2 == 0)).unwrap();
        }
        let done = again.finish(&mut |_| {}, &Cancel::new()).unwrap();
        prop_assert_eq!((done.n_samples, done.blocks.len()), (0, 0));
        prop_assert_eq!(&all(&db), &expected);
        db.close().unwrap();
        drop(db);
        let db = open(&vfs);
        prop_assert_eq!(&all(&db), &expected);
    }
}

#[test]
fn series_of_a_source_share_their_times_and_others_do_not() {
    let vfs: Arc<dyn Vfs> = Arc::new(SimVfs::new());
    let db = open(&vfs);
    let mut backfill = db.backfill().unwrap();
    for series in 0..20 {
        let together = backfill.series(&labels(0, series)).unwrap();
        let apart = backfill.series(&labels(1, series)).unwrap();
        for row in 0..10 {
            backfill.push(together, row * 15_000, 1.0).unwrap();
            backfill.push(apart, row * 15_000 + i64::from(series), 1.0).unwrap();
        }
    }
    let done = backfill.finish(&mut |_| {}, &Cancel::new()).unwrap();
    let [block] = done.blocks.as_slice() else { panic!("{done:?}") };
    assert_eq!((block.n_series, block.n_groups, block.n_samples), (40, 21, 400));
}

#[test]
fn blocks_are_longer_where_there_is_more_time() {
    for (days, expected) in [(1, 12), (20, 20), (140, 20)] {
        let vfs: Arc<dyn Vfs> = Arc::new(SimVfs::new());
        let db = open(&vfs);
        let mut backfill = db.backfill().unwrap();
        let series = backfill.series(&labels(0, 0)).unwrap();
        // The epoch lies inside a week.
        for hour in 0..24 * days {
            backfill.push(series, (3 * 24 + hour) * HOUR + 4 * 24 * HOUR, 1.0).unwrap();
        }
        let done = backfill.finish(&mut |_| {}, &Cancel::new()).unwrap();
        assert_eq!(done.blocks.len(), expected, "{days} days");
    }
}

#[test]
fn what_is_given_up_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let vfs: Arc<dyn Vfs> = Arc::new(RealVfs);
    let clock = Arc::new(ManualClock::new(Timestamp(0)));
    let options = DbOptions { commit_interval_ms: None, ..DbOptions::server() };
    let (db, _) = Db::open(Arc::clone(&vfs), clock, dir.path(), options).unwrap();
    let filled = || {
        let mut backfill = db.backfill().unwrap();
        let series = backfill.series(&labels(0, 0)).unwrap();
        (0..5000).for_each(|t| backfill.push(series, t * 60_000, 1.0).unwrap());
        backfill
    };
    let names = || vfs.read_dir(&dir.path().join("blocks")).unwrap();
    drop(filled());
    assert_eq!(names(), []);
    let cancel = Cancel::new();
    let stop_halfway = |done: f64| {
        if done > 0.5 {
            cancel.cancel(Cancelled::ByUser);
        }
    };
    let error = filled().finish(&mut { stop_halfway }, &cancel).unwrap_err();
    assert_eq!(error.to_string(), "canceled");
    assert_eq!(names(), []);
    assert!(all(&db).is_empty());
    filled().finish(&mut |_| {}, &Cancel::new()).unwrap();
    assert_eq!(all(&db).len(), 5000);
}
