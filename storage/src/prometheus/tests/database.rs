//! Prometheus' blocks and the database: answered in place, and written from it.

use promontory_model::{Queryable as _, Timestamp};

use super::*;
use crate::clock::ManualClock;
use crate::prometheus::{ExportOptions, export};
use crate::{Db, DbOptions};

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
