//! Prometheus' blocks and the database: answered in place, and written from it.

use promontory_model::{Queryable as _, Timestamp};

use super::*;
use crate::clock::ManualClock;
use crate::prometheus::{ExportOptions, Imported, PrometheusError, export, import};
use crate::vfs::sim::Survival;
use crate::{Db, DbOptions, DbSettings};

const DIR: &str = "data";

fn open(vfs: &SimVfs, clock: &Arc<ManualClock>) -> Db {
    let options = DbOptions { commit_interval_ms: None, ..DbOptions::server() };
    Db::open(Arc::new(vfs.clone()), Arc::clone(clock) as _, Path::new(DIR), options).unwrap().0
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(Timestamp(0)))
}

fn all(db: &Db) -> Series {
    let cancel = Cancel::new();
    let snapshot = db.snapshot().unwrap();
    let found = snapshot.select(&Select { range: TimeRange::ALL, matchers: &[], cancel: &cancel }).unwrap();
    assert_eq!(found.warnings, Vec::<String>::new());
    read(&found.batches, TimeRange::ALL)
}

fn one(name: &str, times: std::ops::Range<i64>) -> Series {
    let samples = times.map(|i| (i * 15_000, Value::Float((i as f64).to_bits()))).collect();
    vec![(Labels::from_pairs([("__name__", name)]), samples)]
}

#[test]
fn blocks_in_the_data_folder_answer_from_the_start_and_when_they_come() {
    let (vfs, clock) = (SimVfs::new(), clock());
    let (a, b) = (one("a", 0..10), one("a", 10..20));
    write(&vfs, Path::new(DIR), Ulid::new(1, 1), &a);
    let db = open(&vfs, &clock);
    assert_eq!(all(&db), a);
    let path = write(&vfs, Path::new(DIR), Ulid::new(2, 1), &b);
    db.tick().unwrap();
    assert_eq!(all(&db), a);
    clock.advance(61_000);
    db.tick().unwrap();
    assert_eq!(all(&db), one("a", 0..20));
    assert_eq!(db.status().blocks_loaded, 2);
    vfs.remove_dir_all(&path).unwrap();
    clock.advance(61_000);
    db.tick().unwrap();
    assert_eq!(all(&db), a);
}

/// What is left of four blocks of Prometheus, the oldest two hours after the epoch, once retention has been applied.
#[track_caller]
fn check_retention(settings: impl Fn(u64) -> DbSettings, now_ms: i64, expected: &[u64]) {
    const HOUR_MS: i64 = 3_600_000;
    let vfs = SimVfs::new();
    let paths: Vec<_> = (1..=4)
        .map(|n| write(&vfs, Path::new(DIR), Ulid::new(n, 1), &one("a", n as i64 * 480..n as i64 * 480 + 480)))
        .collect();
    vfs.set_space(Some(1 << 20));
    let clock = Arc::new(ManualClock::new(Timestamp(now_ms)));
    let db = open(&vfs, &clock);
    let bytes = db.status().blocks_bytes / 4;
    assert_eq!(db.0.blocks()[3].meta().range.maxt.0, 10 * HOUR_MS - 15_000);
    db.set(settings(bytes));
    let done = db.tick().unwrap();
    assert_eq!((done.blocks_removed, done.warnings), (4 - expected.len() as u64, vec![]));
    let left: Vec<u64> = db.0.blocks().iter().map(|b| b.meta().ulid.ms()).collect();
    assert_eq!(left, expected);
    for (n, path) in (1..).zip(&paths) {
        assert_eq!(vfs.read_dir(path).is_ok(), expected.contains(&n), "{}", path.display());
    }
    // What is gone stays so, and what was not removed to its end goes at the next start.
    let unfinished = Path::new(DIR).join(format!("{}.tmp-for-deletion", Ulid::new(9, 9)));
    vfs.create_dir_all(&unfinished).unwrap();
    drop(db);
    let db = open(&vfs, &clock);
    assert_eq!(db.status().blocks_loaded, expected.len() as u64);
    assert!(vfs.read_dir(&unfinished).is_err());
}

#[test]
fn retention_removes_blocks_of_prometheus_too() {
    const HOUR_MS: i64 = 3_600_000;
    let none = DbSettings { retention_ms: None, ..DbOptions::server().settings() };
    let later = 24 * HOUR_MS;
    check_retention(|_| none, later, &[1, 2, 3, 4]);
    let age = DbSettings { retention_ms: Some(5 * HOUR_MS), ..none };
    check_retention(|_| age, later, &[2, 3, 4]);
    // Times ahead of the clock end nothing.
    check_retention(|_| age, 6 * HOUR_MS, &[1, 2, 3, 4]);
    check_retention(|bytes| DbSettings { retention_bytes: Some(bytes * 5 / 2), ..none }, later, &[3, 4]);
    let percent = |bytes: u64| (bytes * 5 / 2) as f64 / f64::from(1 << 20) * 100.0;
    check_retention(|bytes| DbSettings { retention_percent: Some(percent(bytes)), ..none }, later, &[3, 4]);
    check_retention(|_| DbSettings { retention_bytes: Some(1), ..none }, later, &[4]);
}

#[test]
fn damaged_blocks_are_told_once_and_left_alone() {
    let (vfs, clock) = (SimVfs::new(), clock());
    let db = open(&vfs, &clock);
    let path = write(&vfs, Path::new(DIR), Ulid::new(1, 1), &one("a", 0..10));
    crate::vfs::replace(&vfs, &path.join("index"), b"nonsense").unwrap();
    let tick = || {
        clock.advance(61_000);
        db.tick().unwrap().warnings
    };
    let warnings = tick();
    assert!(matches!(&warnings[..], [w] if w.contains("header of the index")), "{warnings:?}");
    assert_eq!(tick(), Vec::<String>::new());
    assert_eq!(vfs.read_dir(&path).unwrap().len(), 4);
    drop(db);
    let options = DbOptions { commit_interval_ms: None, ..DbOptions::server() };
    let (_, recovery) = Db::open(Arc::new(vfs.clone()), clock as _, Path::new(DIR), options).unwrap();
    assert_eq!(recovery.bad_blocks.len(), 1);
}

#[test]
fn blocks_that_another_one_replaces_do_not_answer() {
    let (vfs, clock) = (SimVfs::new(), clock());
    write(&vfs, Path::new(DIR), Ulid::new(1, 1), &one("a", 0..10));
    let path = write(&vfs, Path::new(DIR), Ulid::new(2, 1), &one("b", 0..10));
    let meta = path.join("meta.json");
    let text = String::from_utf8(crate::vfs::read(&vfs, &meta).unwrap()).unwrap();
    let parents = format!("\"parents\": [{{\"ulid\": \"{}\"}}], \"level\"", Ulid::new(1, 1));
    crate::vfs::replace(&vfs, &meta, text.replace("\"level\"", &parents).as_bytes()).unwrap();
    assert_eq!(all(&open(&vfs, &clock)), one("b", 0..10));
}

#[test]
fn exports_hold_what_queries_answer() {
    let (vfs, clock) = (SimVfs::new(), clock());
    let db = open(&vfs, &clock);
    let mut w = db.writer();
    let names = ["b", "a", "c"].map(|n| w.resolve(&Labels::from_pairs([("__name__", n), ("job", "j")])).unwrap());
    let minute = 60_000;
    for i in 0..600 {
        let samples: Vec<_> = names.iter().map(|s| (*s, if i % 7 == 0 { f64::NAN } else { i as f64 })).collect();
        w.append(Timestamp(i * minute), &samples[..if i % 5 == 0 { 2 } else { 3 }]).unwrap();
        clock.advance(60_000);
        db.tick().unwrap();
    }
    assert!(db.status().blocks_loaded > 1);
    let labels = Labels::from_pairs([("replica", "r1")]);
    let mut options =
        ExportOptions { range: TimeRange::ALL, matchers: &[], block_ms: 7_200_000, external_labels: &labels };
    let to: Arc<dyn Vfs> = Arc::new(SimVfs::new());
    let mut seen = Vec::new();
    let blocks = export(&to, &db, Path::new("out"), &options, &mut |p| seen.push(p), &Cancel::new()).unwrap();
    assert_eq!(blocks.len(), 5);
    assert!(blocks.iter().enumerate().all(|(i, b)| b.range.mint.0 == i as i64 * 7_200_000 && b.n_series == 3));
    assert!(seen.windows(2).all(|w| w[0].done <= w[1].done) && seen.last().unwrap().done == 1.0);
    assert_eq!(seen.last().unwrap().n_samples, 1680);
    let mut found: Series = Vec::new();
    for block in &blocks {
        let path = Path::new("out").join(block.ulid.to_string());
        let files: u64 = ["meta.json", "index", "tombstones", "chunks/000001"]
            .map(|f| crate::vfs::read(&*to, &path.join(f)).unwrap().len() as u64)
            .iter()
            .sum();
        assert_eq!(files, block.bytes);
        let block = PrometheusBlock::open(&*to, &path).unwrap();
        for (labels, samples) in select(&block, &[], TimeRange::ALL) {
            match found.iter_mut().find(|s| s.0 == labels) {
                Some(known) => known.1.extend(samples),
                None => found.push((labels, samples)),
            }
        }
    }
    assert_eq!(found, all(&db));
    options.range = TimeRange::new(minute, 2 * minute);
    let only = [Matcher::equal("__name__", "a")];
    options.matchers = &only;
    let blocks = export(&to, &db, Path::new("part"), &options, &mut |_| {}, &Cancel::new()).unwrap();
    assert_eq!((blocks.len(), blocks[0].n_samples, blocks[0].range), (1, 2, options.range));
    // Nothing is left of blocks without samples.
    assert_eq!(to.read_dir(Path::new("part")).unwrap().len(), 1);
}

fn take(db: &Db, from: &str) -> Imported {
    let mut seen = Vec::new();
    let out = import(db, Path::new(from), &mut |p| seen.push(p), &Cancel::new()).unwrap();
    assert!(seen.windows(2).all(|w| w[0].done <= w[1].done && w[0].n_blocks <= w[1].n_blocks));
    assert_eq!(seen.last().map(|p| p.done), Some(1.0));
    out
}

fn count(series: &Series) -> u64 {
    series.iter().map(|s| s.1.len() as u64).sum()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// Import, restart, export and reading in place change no bit.
    #[test]
    fn samples_go_there_and_back(series in any_series()) {
        let (vfs, clock) = (SimVfs::new(), clock());
        write(&vfs, Path::new("in"), Ulid::new(1, 2), &series);
        let db = open(&vfs, &clock);
        let imported = take(&db, "in");
        prop_assert_eq!((imported.n_samples, imported.n_blocks_read), (count(&series), 1));
        prop_assert_eq!(&all(&db), &series);
        let again = take(&db, "in");
        prop_assert_eq!((again.n_samples, again.n_duplicates, again.n_conflicts), (0, count(&series), 0));
        drop(db);
        let db = open(&vfs, &clock);
        prop_assert_eq!(&all(&db), &series);

        let to: Arc<dyn Vfs> = Arc::new(SimVfs::new());
        let labels = Labels::empty();
        let whole = ExportOptions {
            range: TimeRange::ALL, matchers: &[], block_ms: 1 << 40, external_labels: &labels,
        };
        let blocks = export(&to, &db, Path::new("out"), &whole, &mut |_| {}, &Cancel::new()).unwrap();
        let mut found = Series::new();
        for block in blocks {
            let block = PrometheusBlock::open(&*to, &Path::new("out").join(block.ulid.to_string())).unwrap();
            for (labels, samples) in select(&block, &[], TimeRange::ALL) {
                match found.iter_mut().find(|s| s.0 == labels) {
                    Some(known) => known.1.extend(samples),
                    None => found.push((labels, samples)),
                }
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        prop_assert_eq!(&found, &series);
    }

    /// Blocks that share times: what was there stays.
    #[test]
    fn what_the_database_has_stays(first in any_series(), second in any_series()) {
        let (vfs, clock) = (SimVfs::new(), clock());
        write(&vfs, Path::new("first"), Ulid::new(1, 2), &first);
        write(&vfs, Path::new("second"), Ulid::new(1, 3), &second);
        let db = open(&vfs, &clock);
        take(&db, "first");
        let imported = take(&db, "second");
        let mut expected = first;
        let (mut n_new, mut n_same) = (0, 0);
        for (labels, samples) in &second {
            let at = expected.iter().position(|s| s.0 == *labels).unwrap_or_else(|| {
                expected.push((labels.clone(), Vec::new()));
                expected.len() - 1
            });
            for (t, value) in samples {
                match expected[at].1.iter().find(|s| s.0 == *t) {
                    Some((_, known)) => n_same += u64::from(known == value),
                    None => {
                        expected[at].1.push((*t, value.clone()));
                        n_new += 1;
                    }
                }
            }
            expected[at].1.sort_by_key(|s| s.0);
        }
        expected.sort_by(|a, b| a.0.cmp(&b.0));
        prop_assert_eq!((imported.n_samples, imported.n_duplicates), (n_new, n_same));
        prop_assert_eq!(imported.n_conflicts, count(&second) - n_new - n_same);
        prop_assert_eq!(all(&db), expected);
    }
}

#[test]
fn long_blocks_are_cut_into_days() {
    let (vfs, clock) = (SimVfs::new(), clock());
    let day = 24 * 3_600_000;
    let samples = (-3..40i64).map(|i| (i * day / 4, Value::Float(i.cast_unsigned()))).collect();
    let series = vec![(Labels::from_pairs([("n", "a")]), samples)];
    write(&vfs, Path::new("in"), Ulid::new(1, 2), &series);
    let db = open(&vfs, &clock);
    let imported = take(&db, "in");
    assert_eq!((imported.n_blocks_written, imported.n_samples), (11, 43));
    assert_eq!(all(&db), series);
    assert!(db.ranges().iter().all(|r| r.mint.0.div_euclid(day) == r.maxt.0.div_euclid(day)));
}

#[test]
fn of_a_damaged_block_nothing_is_taken() {
    let (vfs, clock) = (SimVfs::new(), clock());
    let whole = one("a", 0..10);
    write(&vfs, Path::new("in"), Ulid::new(1, 1), &whole);
    // The second day of the block is damaged: the first one has been written by then.
    let long = one("b", 0..10_000);
    let damaged = write(&vfs, Path::new("in"), Ulid::new(1, 2), &long);
    let chunks = damaged.join("chunks/000001");
    let mut bytes = crate::vfs::read(&vfs, &chunks).unwrap();
    let last = bytes.len() - 10;
    bytes[last] ^= 1;
    crate::vfs::replace(&vfs, &chunks, &bytes).unwrap();
    let db = open(&vfs, &clock);
    let imported = take(&db, "in");
    assert!(matches!(&imported.bad_blocks[..], [(path, why)] if *path == damaged && why.contains("crc")));
    assert_eq!((imported.n_blocks_read, imported.n_blocks_written), (1, 1));
    assert_eq!(all(&db), whole);
    drop(db);
    assert_eq!(all(&open(&vfs, &clock)), whole);
}

#[test]
fn folders_without_blocks_are_refused() {
    let (vfs, clock) = (SimVfs::new(), clock());
    let db = open(&vfs, &clock);
    let e = import(&db, Path::new(DIR), &mut |_| {}, &Cancel::new()).unwrap_err();
    assert!(matches!(e, PrometheusError::NoBlocks { .. }), "{e}");
    assert!(import(&db, Path::new("nowhere"), &mut |_| {}, &Cancel::new()).is_err());
    let cancel = Cancel::new();
    cancel.cancel(promontory_model::Cancelled::Shutdown);
    write(&vfs, Path::new("in"), Ulid::new(1, 1), &one("a", 0..10));
    assert!(import(&db, Path::new("in"), &mut |_| {}, &cancel).is_err());
    assert_eq!(all(&db), Series::new());
}

const SURVIVALS: [Survival; 4] = [Survival::All, Survival::Synced, Survival::Prefix, Survival::TornSector];

#[test]
fn an_import_that_crashes_anywhere_is_done_again() {
    let (vfs, clock) = (SimVfs::new(), clock());
    // Three days, of which each becomes a block.
    let samples = (0..36i64).map(|i| (i * 7_200_000, Value::Float(i.cast_unsigned()))).collect();
    let series: Series = vec![(Labels::from_pairs([("n", "a")]), samples)];
    write(&vfs, Path::new("in"), Ulid::new(1, 1), &series);
    vfs.sync_dir(Path::new("")).unwrap();
    let db = open(&vfs, &clock);
    vfs.keep_moments();
    take(&db, "in");
    let moments = vfs.take_moments();
    assert!(moments.len() > 30, "{}", moments.len());
    for (op, moment) in moments {
        for survival in SURVIVALS {
            let after = moment.crash(survival, op);
            let db = open(&after, &clock);
            for (labels, samples) in all(&db) {
                assert_eq!(labels, series[0].0);
                assert!(samples.iter().all(|s| series[0].1.contains(s)), "{survival:?} at operation {op}");
            }
            take(&db, "in");
            assert_eq!(all(&db), series, "{survival:?} at operation {op}");
        }
    }
}

#[test]
fn an_export_that_crashes_anywhere_leaves_whole_blocks() {
    let (vfs, clock) = (SimVfs::new(), clock());
    let series = one("a", 0..1000);
    write(&vfs, Path::new(DIR), Ulid::new(1, 1), &series);
    let db = open(&vfs, &clock);
    let labels = Labels::empty();
    let options = ExportOptions { range: TimeRange::ALL, matchers: &[], block_ms: 7_200_000, external_labels: &labels };
    let to = SimVfs::new();
    to.keep_moments();
    let shared: Arc<dyn Vfs> = Arc::new(to.clone());
    let blocks = export(&shared, &db, Path::new("some/out"), &options, &mut |_| {}, &Cancel::new()).unwrap();
    assert_eq!(blocks.len(), 3);
    let read_all = |vfs: &SimVfs| {
        let mut found = Vec::new();
        for entry in vfs.read_dir(Path::new("some/out")).unwrap_or_default() {
            if entry.name.parse::<Ulid>().is_ok() {
                let block = PrometheusBlock::open(vfs, &Path::new("some/out").join(entry.name)).unwrap();
                found.extend(select(&block, &[], TimeRange::ALL).into_iter().flat_map(|s| s.1));
            }
        }
        found.sort_by_key(|s: &(i64, Value)| s.0);
        found
    };
    for (op, moment) in to.take_moments() {
        for survival in SURVIVALS {
            let found = read_all(&moment.crash(survival, op));
            assert!([0, 480, 960, 1000].contains(&found.len()), "{survival:?} at operation {op}: {}", found.len());
            assert_eq!(found[..], series[0].1[..found.len()]);
        }
    }
    assert_eq!(read_all(&to.crash(Survival::Synced, 0)), series[0].1);
}
