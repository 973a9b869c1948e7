//! The database as its users see it.

use std::path::Path;
use std::sync::Arc;

use promontory_model::{
    Cancel, Columns, Labels, Matcher, Queryable as _, Select, Snapshot, TimeRange, Timestamp, stale_nan,
};

use crate::clock::ManualClock;
use crate::vfs::{SimVfs, Vfs as _};
use crate::{Appended, Db, DbOptions, GroupWriter, SeriesRef};

pub(crate) fn options() -> DbOptions {
    DbOptions { commit_interval_ms: None, ..DbOptions::server() }
}

pub(crate) fn open(vfs: &SimVfs, options: DbOptions) -> Db {
    let clock = Arc::new(ManualClock::new(Timestamp(0)));
    Db::open(Arc::new(vfs.clone()), clock, Path::new("data"), options).unwrap().0
}

pub(crate) fn series(writer: &mut GroupWriter, name: &str) -> SeriesRef {
    writer.resolve(&Labels::from_pairs([("__name__", name), ("job", "j")])).unwrap()
}

/// Every sample that a snapshot sees: `name t:value …`, sorted.
pub(crate) fn dump(snapshot: &dyn Snapshot, range: TimeRange, matchers: &[Matcher]) -> Vec<String> {
    let cancel = Cancel::new();
    let found = snapshot.select(&Select { range, matchers, cancel: &cancel }).unwrap();
    assert!(found.warnings.is_empty(), "{:?}", found.warnings);
    let mut columns = Columns::default();
    let mut out = Vec::new();
    for batch in found.batches {
        batch.read(0..batch.n_series(), range, &mut columns).unwrap();
        assert!(columns.n_rows() <= batch.rows_max(range));
        assert!(columns.timestamps().windows(2).all(|w| w[0] < w[1]));
        for i in 0..batch.n_series() {
            let column = columns.column(i);
            let mut line = batch.labels(i).metric_name().to_owned();
            for row in (0..columns.n_rows()).filter(|&row| column.is_present(row)) {
                let value = column.values[row];
                let value = if value.is_nan() { format!("{:x}", value.to_bits()) } else { value.to_string() };
                line += &format!(" {}:{value}", columns.timestamps()[row]);
            }
            out.push(line);
        }
    }
    out.sort();
    out
}

#[track_caller]
pub(crate) fn check(db: &Db, range: TimeRange, matchers: &[Matcher], expected: &[&str]) {
    assert_eq!(dump(&*db.snapshot().unwrap(), range, matchers), expected);
}

#[test]
fn what_is_appended_is_found() {
    let db = open(&SimVfs::new(), options());
    let mut w = db.writer();
    let (a, b) = (series(&mut w, "a"), series(&mut w, "b"));
    assert_eq!(w.append(Timestamp(1000), &[(a, 1.0), (b, 2.0)]).unwrap().accepted, 2);
    assert_eq!(w.append(Timestamp(2000), &[(a, stale_nan())]).unwrap().accepted, 1);
    check(&db, TimeRange::ALL, &[], &["a 1000:1 2000:7ff0000000000002", "b 1000:2"]);
    check(&db, TimeRange::new(1500, 3000), &[Matcher::equal("__name__", "a")], &["a 2000:7ff0000000000002"]);
    check(&db, TimeRange::new(3000, 4000), &[], &[]);
    assert_eq!(db.status().head_series, 2);
    assert_eq!(db.cardinality(1).series_by_pair[0].name, "job=j");
}

#[test]
fn rules_of_time_are_those_of_prometheus() {
    let db = open(&SimVfs::new(), options());
    let mut w = db.writer();
    let (a, b) = (series(&mut w, "a"), series(&mut w, "b"));
    let minute = 60_000;
    let mut append = |t: i64, s, v: f64| w.append(Timestamp(t), &[(s, v)]).unwrap();
    let accepted = Appended { accepted: 1, ..Appended::default() };
    assert_eq!(append(100 * minute, a, 1.0), accepted);
    assert_eq!(append(100 * minute, a, 1.0), accepted);
    assert_eq!(append(100 * minute, a, 2.0), Appended { duplicates: 1, ..Appended::default() });
    // The first sample of a series may lie behind those of others.
    assert_eq!(append(99 * minute, b, 9.0), accepted);
    // Out of order, but inside the window.
    assert_eq!(append(80 * minute, a, 3.0), accepted);
    assert_eq!(append(80 * minute, a, 3.0), accepted);
    assert_eq!(append(80 * minute, a, 4.0), Appended { duplicates: 1, ..Appended::default() });
    assert_eq!(append(69 * minute, a, 4.0), Appended { too_old: 1, ..Appended::default() });
    check(&db, TimeRange::ALL, &[], &["a 4800000:3 6000000:1", "b 5940000:9"]);

    let db = open(&SimVfs::new(), DbOptions { out_of_order_window_ms: 0, ..options() });
    let mut w = db.writer();
    let a = series(&mut w, "a");
    let mut append = |t: i64, v: f64| w.append(Timestamp(t), &[(a, v)]).unwrap();
    assert_eq!(append(100 * minute, 1.0), accepted);
    assert_eq!(append(99 * minute, 1.0), Appended { out_of_order: 1, ..Appended::default() });
    assert_eq!(append(39 * minute, 1.0), Appended { out_of_bounds: 1, ..Appended::default() });
}

#[test]
fn a_series_that_a_row_names_twice_is_judged_twice() {
    let db = open(&SimVfs::new(), DbOptions { out_of_order_window_ms: 0, ..options() });
    let mut w = db.writer();
    let a = series(&mut w, "a");
    let mut append = |t: i64, values: [f64; 3]| w.append(Timestamp(t), &values.map(|v| (a, v))).unwrap();
    assert_eq!(append(2000, [1.0, 1.0, 2.0]), Appended { accepted: 2, duplicates: 1, ..Appended::default() });
    assert_eq!(append(1000, [1.0, 1.0, 2.0]), Appended { out_of_order: 3, ..Appended::default() });
    assert_eq!(append(2000, [3.0, 3.0, 1.0]), Appended { accepted: 1, duplicates: 2, ..Appended::default() });
    assert_eq!(append(-10_000_000, [1.0, 1.0, 2.0]), Appended { out_of_bounds: 3, ..Appended::default() });
    check(&db, TimeRange::ALL, &[], &["a 2000:1"]);
}

/// Values that do not compress are sealed after few rows only where open rows take much memory.
#[test]
fn large_rows_are_sealed_early_when_much_is_open() {
    let chunks = |open_bytes: usize| {
        let db = open(&SimVfs::new(), options());
        db.0.head.counted_open_bytes(open_bytes);
        let mut w = db.writer();
        let series: Vec<SeriesRef> = (0..200).map(|i| series(&mut w, &format!("s{i}"))).collect();
        for row in 1..=12 {
            let samples: Vec<_> = series.iter().map(|&s| (s, f64::from(s.0 * 100 + row).sqrt())).collect();
            w.append(Timestamp(i64::from(row) * 1000), &samples).unwrap();
        }
        db.status().head_chunks
    };
    // One of each series.
    assert_eq!((chunks(0), chunks(64 << 20)), (0, 200));
}

#[test]
fn a_snapshot_does_not_change() {
    let db = open(&SimVfs::new(), options());
    let mut w = db.writer();
    let a = series(&mut w, "a");
    w.append(Timestamp(1000), &[(a, 1.0)]).unwrap();
    let before = db.snapshot().unwrap();
    let b = series(&mut w, "b");
    w.append(Timestamp(2000), &[(a, 2.0), (b, 2.0)]).unwrap();
    w.append(Timestamp(1500), &[(a, 1.5)]).unwrap();
    assert_eq!(dump(&*before, TimeRange::ALL, &[]), ["a 1000:1"]);
    check(&db, TimeRange::ALL, &[], &["a 1000:1 1500:1.5 2000:2", "b 2000:2"]);
}

#[test]
fn references_end_with_their_release() {
    let db = open(&SimVfs::new(), options());
    let mut w = db.writer();
    let (a, b) = (series(&mut w, "a"), series(&mut w, "b"));
    w.release(a);
    assert!(w.append(Timestamp(1), &[(b, 1.0), (a, 1.0)]).is_err());
    check(&db, TimeRange::ALL, &[], &[]);
    assert!(w.append(Timestamp(1), &[(SeriesRef(9), 1.0)]).is_err());
    let again = series(&mut w, "a");
    assert_eq!(w.append(Timestamp(1), &[(b, 1.0), (again, 2.0), (again, 2.0)]).unwrap().accepted, 3);
    check(&db, TimeRange::ALL, &[], &["a 1:2", "b 1:1"]);
    assert_eq!(db.status().head_series, 2);
}

#[test]
fn two_writers_share_a_series() {
    let db = open(&SimVfs::new(), options());
    let (mut w1, mut w2) = (db.writer(), db.writer());
    let (a1, a2) = (series(&mut w1, "a"), series(&mut w2, "a"));
    let b = series(&mut w2, "b");
    w1.append(Timestamp(1), &[(a1, 1.0)]).unwrap();
    w2.append(Timestamp(2), &[(a2, 2.0), (b, 2.0)]).unwrap();
    assert_eq!(w1.append(Timestamp(2), &[(a1, 3.0)]).unwrap().duplicates, 1);
    w1.append_at(&[(a1, Timestamp(4), 4.0), (a1, Timestamp(3), 3.0)]).unwrap();
    check(&db, TimeRange::ALL, &[], &["a 1:1 2:2 3:3 4:4", "b 2:2"]);
}

#[test]
fn a_full_disk_makes_the_store_read_only_until_space_returns() {
    let vfs = SimVfs::new();
    let db = open(&vfs, options());
    let mut w = db.writer();
    let a = series(&mut w, "a");
    w.append(Timestamp(1), &[(a, 1.0)]).unwrap();
    db.commit().unwrap();
    vfs.set_space(Some(0));
    w.append(Timestamp(2), &[(a, 2.0)]).unwrap();
    assert!(db.commit().is_err());
    assert!(w.append(Timestamp(3), &[(a, 3.0)]).is_err());
    assert!(db.tick().is_err() && db.status().read_only.unwrap().contains("free some space"));
    check(&db, TimeRange::ALL, &[], &["a 1:1 2:2"]);
    vfs.set_space(None);
    db.tick().unwrap();
    assert_eq!(db.status().read_only, None);
    w.append(Timestamp(3), &[(a, 3.0)]).unwrap();
    db.commit().unwrap();
    drop((w, db));
    check(&open(&vfs, options()), TimeRange::ALL, &[], &["a 1:1 2:2 3:3"]);
}

#[test]
fn a_failed_sync_makes_the_store_read_only_until_it_is_opened_again() {
    let vfs = SimVfs::new();
    let db = open(&vfs, DbOptions { fsync: crate::FsyncPolicy::Always, ..options() });
    let mut w = db.writer();
    let a = series(&mut w, "a");
    w.append(Timestamp(1), &[(a, 1.0)]).unwrap();
    vfs.fail_next(crate::vfs::sim::Op::Sync, std::io::ErrorKind::Other);
    assert!(db.commit().is_err());
    assert!(db.commit().is_err() && db.tick().is_err());
    drop((w, db));
    let db = open(&vfs, options());
    assert_eq!(db.status().read_only, None);
}

#[test]
fn a_second_opener_is_told_so() {
    let vfs = SimVfs::new();
    let _db = open(&vfs, options());
    let clock = Arc::new(ManualClock::new(Timestamp(0)));
    let e = Db::open(Arc::new(vfs.clone()), clock, Path::new("data"), options()).unwrap_err();
    assert!(matches!(e, crate::OpenError::Locked { .. }), "{e}");
}

#[test]
fn a_damaged_log_never_shows_a_value_that_was_not_written() {
    let whole = SimVfs::new();
    let db = open(&whole, options());
    let mut w = db.writer();
    let (a, b) = (series(&mut w, "a"), series(&mut w, "b"));
    for t in 1..6_u32 {
        w.append(Timestamp(t.into()), &[(a, f64::from(t)), (b, f64::from(t) * 0.5)]).unwrap();
        db.commit().unwrap();
    }
    let expected = dump(&*db.snapshot().unwrap(), TimeRange::ALL, &[]);
    let written: Vec<&str> = expected.iter().flat_map(|line| line.split(' ')).collect();
    drop((w, db));
    let path = Path::new("data/wal/00000001.wal");
    let len =
        whole.files(Path::new("data")).iter().find(|f| *f == path).map(|f| crate::vfs::read(&whole, f).unwrap().len());
    for at in 0..len.unwrap() {
        let vfs = whole.crash(crate::vfs::sim::Survival::All, 0);
        vfs.corrupt(path, |bytes| bytes[at] ^= 0x24);
        let db = open(&vfs, options());
        for line in dump(&*db.snapshot().unwrap(), TimeRange::ALL, &[]) {
            assert!(line.split(' ').all(|sample| written.contains(&sample)), "byte {at}: {line}");
        }
    }
}

#[test]
fn a_damaged_log_of_scrapes_in_parts_never_shows_a_value_that_was_not_written() {
    let whole = SimVfs::new();
    let db = open(&whole, options());
    let mut w = db.writer();
    let (a, b, c) = (series(&mut w, "a"), series(&mut w, "b"), series(&mut w, "c"));
    let mut append = |t: u32, series: &[crate::SeriesRef]| {
        let samples: Vec<_> = series.iter().map(|&s| (s, f64::from(t * t))).collect();
        w.append(Timestamp(t.into()), &samples).unwrap();
        db.commit().unwrap();
    };
    append(1, &[a, b, c]);
    append(2, &[a]);
    append(2, &[b]);
    append(3, &[b]);
    append(3, &[a]);
    // Of the row before the newest.
    append(2, &[c]);
    append(4, &[a, b, c]);
    append(5, &[a]);
    append(5, &[b]);
    append(5, &[c]);
    append(6, &[a, b, c]);
    let expected = dump(&*db.snapshot().unwrap(), TimeRange::ALL, &[]);
    drop((w, db));
    let path = Path::new("data/wal/00000001.wal");
    let len = crate::vfs::read(&whole, path).unwrap().len();
    for at in 0..len {
        let vfs = whole.crash(crate::vfs::sim::Survival::All, 0);
        vfs.corrupt(path, |bytes| bytes[at] ^= 0x24);
        for life in 0..2 {
            let db = open(&vfs, options());
            for line in dump(&*db.snapshot().unwrap(), TimeRange::ALL, &[]) {
                let whole = expected.iter().find(|whole| whole.split(' ').next() == line.split(' ').next()).unwrap();
                let written: Vec<&str> = whole.split(' ').collect();
                let is_written = |sample: &str| written.contains(&sample) || sample == "7:49" || sample == "8:64";
                assert!(line.split(' ').all(is_written), "byte {at}, life {life}: {line}");
            }
            // What is written after the loss is read, with the damage before it, by the next life.
            let mut w = db.writer();
            for name in ["a", "b", "c"] {
                let s = series(&mut w, name);
                let t = 7 + life;
                w.append(Timestamp(t), &[(s, (t * t) as f64)]).unwrap();
            }
            db.commit().unwrap();
        }
        let db = open(&vfs, options());
        let lines = dump(&*db.snapshot().unwrap(), TimeRange::ALL, &[]);
        let has_new = |line: &String| line.ends_with(" 7:49 8:64");
        assert!(lines.len() >= 3 && lines.iter().filter(|line| has_new(line)).count() >= 3, "byte {at}: {lines:?}");
    }
}

#[test]
fn a_nearly_full_disk_stops_samples_and_not_what_frees_space() {
    let vfs = SimVfs::new();
    vfs.set_space(Some(100_000));
    let db = open(&vfs, DbOptions { reserve_bytes: 2000, checkpoint_ms: i64::MAX, ..options() });
    let mut w = db.writer();
    let a = series(&mut w, "a");
    w.append(Timestamp(1), &[(a, 1.0)]).unwrap();
    db.commit().unwrap();
    db.tick().unwrap();
    let filler = vfs.create(Path::new("data/filler")).unwrap();
    let free = vfs.disk_space(Path::new("")).unwrap().free;
    filler.write_all(&vec![0; free as usize - 1900]).unwrap();
    w.append(Timestamp(2), &[(a, 2.0)]).unwrap();
    assert!(db.tick().is_err());
    let reason = db.read_only().unwrap();
    assert!(reason.contains("1900 bytes are free, 2000 are kept in reserve; free some space to resume"), "{reason}");
    assert!(w.append(Timestamp(3), &[(a, 3.0)]).is_err());
    db.commit().expect("what was appended before is safe");
    check(&db, TimeRange::ALL, &[], &["a 1:1 2:2"]);
    assert_eq!(db.status().checkpoints, 1, "a manifest could be written");
    filler.truncate(0).unwrap();
    db.tick().unwrap();
    assert_eq!(db.read_only(), None);
    w.append(Timestamp(3), &[(a, 3.0)]).unwrap();
}

#[test]
fn a_full_disk_keeps_the_store_from_writing_but_not_from_opening() {
    let vfs = SimVfs::new();
    let small = || DbOptions { rows_max: 2, ..options() };
    let db = open(&vfs, small());
    let mut w = db.writer();
    let a = series(&mut w, "a");
    for t in 1..8_u32 {
        w.append(Timestamp(t.into()), &[(a, f64::from(t))]).unwrap();
    }
    db.commit().unwrap();
    let expected = dump(&*db.snapshot().unwrap(), TimeRange::ALL, &[]);
    let died = vfs.crash(crate::vfs::sim::Survival::All, 0);
    died.set_space(Some(0));
    let db = open(&died, small());
    assert_eq!(dump(&*db.snapshot().unwrap(), TimeRange::ALL, &[]), expected);
    assert!(db.tick().is_err() && db.read_only().is_some());
    died.set_space(None);
    db.tick().unwrap();
    assert_eq!(db.read_only(), None);
    assert_eq!(dump(&*db.snapshot().unwrap(), TimeRange::ALL, &[]), expected);
}

#[test]
fn changes_of_the_settled_past_are_told() {
    let minute = 60_000;
    let clock = Arc::new(ManualClock::new(Timestamp(100 * minute)));
    let (db, _) = Db::open(Arc::new(SimVfs::new()), clock.clone(), Path::new("data"), options()).unwrap();
    let changes = db.changes().expect("a database keeps account");
    let mut w = db.writer();
    let a = series(&mut w, "a");
    let mut append = |t: i64| w.append(Timestamp(t), &[(a, 1.0)]).unwrap().accepted;
    let mut seen = changes.newest();
    let mut news = || {
        let since = changes.since(seen).expect("few changes");
        seen = changes.newest();
        since.iter().map(|r| (r.mint.0 / minute, r.maxt.0 / minute)).collect::<Vec<_>>()
    };
    assert_eq!(append(90 * minute), 1);
    assert_eq!(news(), [], "nothing was settled");
    assert_eq!(changes.settled_before(), 98 * minute);
    assert_eq!(append(99 * minute), 1);
    assert_eq!(news(), [], "in time");
    assert_eq!(append(97 * minute), 1);
    assert_eq!(news(), [(97, 97)], "late");
    let range = TimeRange::new(80 * minute, 95 * minute);
    db.delete_series(&[vec![Matcher::equal("job", "j")]], range).unwrap();
    assert_eq!(news(), [(80, 95)], "deleted");
    assert_eq!(append(500 * minute), 1);
    clock.advance(500 * minute);
    let cut = db.tick().unwrap().blocks_cut;
    assert!(cut > 0 && !news().is_empty(), "{cut} blocks cut");
}

#[test]
fn years_between_two_samples_are_not_cut_one_by_one() {
    let db = open(&SimVfs::new(), DbOptions { seal_age_ms: 0, retention_ms: None, ..options() });
    let mut w = db.writer();
    let a = series(&mut w, "a");
    let years = 56 * 365 * 86_400_000;
    w.append(Timestamp(1), &[(a, 1.0)]).unwrap();
    w.append(Timestamp(years), &[(a, 2.0)]).unwrap();
    // Both are sealed in one chunk first.
    assert!(db.tick().unwrap().blocks_cut < 10);
    check(&db, TimeRange::ALL, &[], &["a 1:1 1766016000000:2"]);
    assert_eq!(w.append(Timestamp(years - 60_000), &[(a, 1.5)]).unwrap().accepted, 1, "what is late has its place");
}
