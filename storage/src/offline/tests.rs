//! Damage is found where it is, and a repair keeps everything else.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use promontory_model::{Cancel, Columns, Labels, Queryable as _, Select, TimeRange, Timestamp};

use super::*;
use crate::clock::ManualClock;

const HOUR: i64 = 3_600_000;
const NOW: i64 = 1000 * HOUR;

fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::new(Timestamp(NOW)))
}

fn labels(group: i64, series: i64) -> Labels {
    Labels::from_pairs([("__name__", format!("m{series}")), ("group", group.to_string())])
}

/// Two blocks; then an hour in the head, sealed for the most part, the rest in the log. As after kill -9.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let options = DbOptions { checkpoint_ms: 0, ..options() };
    let (db, _) = Db::open(Arc::new(RealVfs), clock(), dir.path(), options).unwrap();
    let mut backfill = db.backfill().unwrap();
    for series in 0..4 {
        let number = backfill.series(&labels(0, series)).unwrap();
        (0..200).for_each(|minute| backfill.push(number, NOW - 6 * HOUR + minute * 60_000, 1.5).unwrap());
    }
    backfill.finish(&mut |_| {}, &Cancel::new()).unwrap();
    for group in 0..3 {
        let mut writer = db.writer();
        let series: Vec<_> = (0..4).map(|s| writer.resolve(&labels(group, s)).unwrap()).collect();
        for minute in 0..60 {
            let row: Vec<_> = series.iter().map(|s| (*s, (minute * (group + 1)) as f64)).collect();
            writer.append(Timestamp(NOW - HOUR + minute * 60_000), &row).unwrap();
            // Sealed are 48 rows; the manifest names them all.
            if minute == 55 {
                db.tick().unwrap();
            }
        }
    }
    db.commit().unwrap();
    dir
}

type Samples = BTreeSet<(Labels, i64, u64)>;

fn all(dir: &Path) -> Samples {
    let db = ReadOnlyDb::open(clock(), dir).unwrap();
    let cancel = Cancel::new();
    let select = Select { range: TimeRange::ALL, matchers: &[], cancel: &cancel };
    let (mut out, mut columns) = (Samples::new(), Columns::default());
    for batch in db.db().snapshot().unwrap().select(&select).unwrap().batches {
        batch.read(0..batch.n_series(), TimeRange::ALL, &mut columns).unwrap();
        for i in 0..batch.n_series() {
            let column = columns.column(i);
            for (row, t) in columns.timestamps().iter().enumerate().filter(|(row, _)| column.is_present(*row)) {
                out.insert((batch.labels(i), *t, column.values[row].to_bits()));
            }
        }
    }
    out
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { out.extend(files(&path)) } else { out.push(path) }
    }
    out.sort();
    out
}

fn damages(dir: &Path) -> Vec<String> {
    let mut out = Vec::new();
    let mut tell = |finding| {
        if let Finding::Damage(what) = finding {
            out.push(what);
        }
    };
    let n = verify(clock(), dir, &mut tell, &mut |_| {}, &Cancel::new()).unwrap();
    assert_eq!(n, out.len() as u64);
    out
}

fn mend(dir: &Path, is_dry: bool) -> Repair {
    repair(&clock(), dir, is_dry, &mut |_| {}, &Cancel::new()).unwrap()
}

#[test]
fn a_whole_folder_is_read_as_it_is_and_not_changed() {
    let dir = folder();
    let before: Vec<_> = files(dir.path()).into_iter().map(|p| (p.clone(), fs::read(p).unwrap())).collect();
    assert_eq!(all(dir.path()).len(), 800 + 3 * 4 * 60);
    let mut found = Vec::new();
    verify(clock(), dir.path(), &mut |f| found.push(f), &mut |_| {}, &Cancel::new()).unwrap();
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(found.last(), Some(&Finding::Head { n_series: 12, n_samples: 720 }));
    assert_eq!(mend(dir.path(), true), Repair::default());
    let after: Vec<_> = files(dir.path()).into_iter().map(|p| (p.clone(), fs::read(p).unwrap())).collect();
    assert_eq!(after, before);
    assert_eq!(mend(dir.path(), false), Repair::default());
}

#[test]
fn a_folder_in_use_is_read_and_not_repaired() {
    let dir = folder();
    let expected = all(dir.path());
    let (_db, _) = Db::open(Arc::new(RealVfs), clock(), dir.path(), options()).unwrap();
    assert!(ReadOnlyDb::open(clock(), dir.path()).unwrap().is_in_use());
    assert_eq!(all(dir.path()), expected);
    let error = repair(&clock(), dir.path(), false, &mut |_| {}, &Cancel::new()).unwrap_err();
    assert!(matches!(error, RepairError::Open(OpenError::Locked { .. })), "{error}");
}

/// Flips bits in each file in turn, at several places: what is found names the file, a repair leaves nothing damaged
/// and invents nothing, and every original byte is still there.
#[test]
fn damage_of_any_file_is_named_and_repaired() {
    let whole = folder();
    let expected = all(whole.path());
    let names: Vec<PathBuf> = files(whole.path());
    for file in names.iter().filter(|f| fs::metadata(f).unwrap().len() > 0) {
        for part in [0.0, 0.4, 0.99] {
            let dir = tempfile::tempdir().unwrap();
            copy(whole.path(), dir.path());
            let path = dir.path().join(file.strip_prefix(whole.path()).unwrap());
            let mut bytes = fs::read(&path).unwrap();
            let at = (bytes.len() as f64 * part) as usize;
            bytes[at] ^= 0x24;
            fs::write(&path, &bytes).unwrap();
            let what = format!("{} at {at}", path.display());
            let found = damages(dir.path());
            let is_torn_tail = found.is_empty();
            assert!(!is_torn_tail || path.starts_with(dir.path().join(WAL_DIR)), "{what}: nothing found");
            let planned = mend(dir.path(), true);
            let done = mend(dir.path(), false);
            assert_eq!(
                planned.moved.iter().map(|m| &m.0).collect::<Vec<_>>(),
                done.moved.iter().map(|m| &m.0).collect::<Vec<_>>(),
                "{what}"
            );
            assert_eq!(done.moved.is_empty(), is_torn_tail, "{what}: {done:?}");
            assert_eq!(damages(dir.path()), [""; 0], "{what}");
            let left = all(dir.path());
            assert!(left.is_subset(&expected), "{what}: a sample was invented");
            if path.starts_with(dir.path().join(BLOCKS_DIR)) {
                assert_eq!(left.iter().filter(|s| s.1 >= NOW - HOUR).count(), 720, "{what}");
            } else {
                assert_eq!(left.iter().filter(|s| s.1 < NOW - HOUR).count(), 800, "{what}");
            }
            let aside = done
                .moved
                .iter()
                .any(|(_, to)| to.is_file() || files(to).iter().any(|f| fs::read(f).unwrap() == bytes));
            assert!(aside || is_torn_tail, "{what}: the damaged file is gone");
            assert_eq!(mend(dir.path(), false).moved, [], "{what}: repaired once");
        }
    }
}

#[test]
fn a_lost_manifest_costs_no_sample() {
    let dir = folder();
    let expected = all(dir.path());
    let path = dir.path().join(manifest::NAME);
    let mut bytes = fs::read(&path).unwrap();
    bytes[9] ^= 1;
    fs::write(&path, bytes).unwrap();
    let found = damages(dir.path());
    assert!(found.len() == 1 && found[0].contains("manifest"), "{found:?}");
    let done = mend(dir.path(), false);
    assert_eq!((done.moved.len(), done.lost.len()), (3, 0), "{done:?}");
    assert_eq!(done.rescued.map(|m| m.n_samples), Some(720));
    assert_eq!(all(dir.path()), expected);
    Db::open(Arc::new(RealVfs), clock(), dir.path(), options()).unwrap();
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}
