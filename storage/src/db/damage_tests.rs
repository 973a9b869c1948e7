//! Damage of every kind to every byte of every file: the answer is right, or what is missing was reported.
//!
//! `PROMONTORY_DAMAGE` says how many mutations to go through at least, `PROMONTORY_DAMAGE_SEED` where to begin. The
//! database that is damaged is what a random life leaves when its process dies, so that it has a log to replay.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use promontory_model::{Cancel, Columns, Matcher, Queryable as _, Select, Snapshot, TimeRange, Timestamp};

use super::crash_tests::{LATER_MS, number, options_of};
use super::model_tests::{Samples, histogram_mark, samples};
use super::workload::{DIR, Ledger, Workload};
use crate::clock::ManualClock;
use crate::head::chunk::{HEADER_BYTES, Header};
use crate::head::segment;
use crate::status::Recovery;
use crate::vfs::sim::{Rng, Survival};
use crate::vfs::{self, SimVfs};
use crate::{Db, DbOptions};

/// What is done to the bytes of a file.
#[derive(Debug, Clone, Copy)]
enum Damage {
    Flip {
        at: usize,
        bit: u8,
    },
    Set {
        at: usize,
        len: usize,
        byte: u8,
    },
    Garbage {
        at: usize,
        len: usize,
        seed: u64,
    },
    Truncate {
        at: usize,
    },
    Remove {
        at: usize,
        len: usize,
    },
    Insert {
        at: usize,
        len: usize,
        byte: u8,
    },
    /// Bytes from elsewhere in the same file.
    Copy {
        from: usize,
        at: usize,
        len: usize,
    },
}

impl Damage {
    const KINDS: usize = 8;

    /// The damage of this kind at or near `at`; each byte meets each kind.
    fn of(kind: usize, at: usize, file_len: usize, rng: &mut Rng) -> Self {
        let longest = [0, 3, 15, 600][rng.up_to(3)];
        let len = 1 + rng.up_to(longest);
        match kind {
            0 => Self::Flip { at, bit: rng.up_to(7) as u8 },
            1 => Self::Set { at, len, byte: 0 },
            2 => Self::Set { at, len, byte: 0xff },
            3 => Self::Garbage { at, len, seed: rng.next() },
            4 => Self::Truncate { at },
            5 => Self::Remove { at, len },
            6 => Self::Insert { at: if rng.up_to(9) == 0 { file_len } else { at }, len, byte: rng.next() as u8 },
            _ => Self::Copy { from: rng.up_to(file_len), at, len },
        }
    }

    fn apply(self, bytes: &mut Vec<u8>) {
        let n = bytes.len();
        let to = |at: usize, len: usize| (at + len).min(n);
        match self {
            Self::Flip { at, bit } => bytes[at] ^= 1 << bit,
            Self::Set { at, len, byte } => bytes[at..to(at, len)].fill(byte),
            Self::Garbage { at, len, seed } => {
                let mut rng = Rng::new(seed);
                bytes[at..to(at, len)].fill_with(|| rng.next() as u8);
            }
            Self::Truncate { at } => bytes.truncate(at),
            Self::Remove { at, len } => drop(bytes.drain(at..to(at, len))),
            Self::Insert { at, len, byte } => drop(bytes.splice(at..at, std::iter::repeat_n(byte, len))),
            Self::Copy { from, at, len } => {
                let len = len.min(n - from).min(n - at);
                bytes.copy_within(from..from + len, at);
            }
        }
    }
}

/// A database as its process left it.
struct Whole {
    vfs: SimVfs,
    options: DbOptions,
    ledger: Ledger,
    found: Samples,
    files: Vec<(PathBuf, Vec<u8>)>,
}

impl Whole {
    fn of(seed: u64, steps: usize) -> Self {
        let options = DbOptions { retention_ms: None, ..options_of(seed) };
        let vfs = SimVfs::new();
        let mut workload = Workload::new(&vfs, &options, seed);
        for _ in 0..steps {
            workload.step();
        }
        let is_ready = |status: crate::DbStatus| status.blocks_loaded > 1 && status.wal_bytes > 200;
        let has_tombstones = || vfs.files(Path::new(DIR)).iter().any(|f| kind(f) == "tombstones");
        while !is_ready(workload.db().status()) || !has_tombstones() {
            workload.step();
        }
        workload.db().commit().unwrap();
        let vfs = vfs.crash(Survival::All, 0);
        let (ledger, _) = workload.end();
        let files = vfs.files(Path::new(DIR)).into_iter();
        let files: Vec<_> = files.map(|path| (path.clone(), vfs::read(&vfs, &path).unwrap())).collect();
        let (db, recovery) = open(&vfs.crash(Survival::All, 0), &options).unwrap();
        assert!(!is_reported(&recovery), "{recovery:?}");
        let found = samples(&*db.snapshot().unwrap(), TimeRange::ALL);
        assert!(recovery.wal_rows > 0 && db.status().blocks_loaded > 0);
        Self { vfs, options, ledger, found, files }
    }
}

fn open(vfs: &SimVfs, options: &DbOptions) -> Result<(Db, Recovery), crate::OpenError> {
    let clock = Arc::new(ManualClock::new(Timestamp(LATER_MS)));
    Db::open(Arc::new(vfs.clone()), clock, Path::new(DIR), options.clone())
}

fn is_reported(r: &Recovery) -> bool {
    let counts = r.wal_torn_bytes + r.wal_corruptions + r.wal_rows_lost + r.head_torn_bytes + r.head_corruptions;
    counts > 0 || !r.bad_blocks.is_empty() || !r.notes.is_empty()
}

/// What can be read.
#[derive(Default)]
struct Readable {
    samples: Samples,
    /// Something could not be read.
    has_failed: bool,
    /// What is wrong with what could.
    mistake: Option<String>,
}

fn readable(db: &Db) -> Readable {
    let snapshot = db.snapshot().unwrap();
    let mut out = select(&*snapshot, &[]);
    // Matchers touch dictionaries and postings.
    for m in ["m0", "m1", "m2"] {
        let one = select(&*snapshot, &[Matcher::equal("__name__", m)]);
        let of_metric = out.samples.iter().filter(|((s, _), _)| format!("m{}", s % 3) == m);
        if let Some(mistake) = one.mistake {
            out.mistake = Some(mistake);
        } else if one.samples.iter().any(|((s, _), _)| format!("m{}", s % 3) != m) {
            out.mistake = Some(format!("{m} selects another metric"));
        } else if one.samples.len() < of_metric.count() && !one.has_failed {
            out.mistake = Some(format!("{m} does not select all of its samples"));
        }
        out.has_failed |= one.has_failed;
    }
    out
}

fn select(snapshot: &dyn Snapshot, matchers: &[Matcher]) -> Readable {
    let cancel = Cancel::new();
    let select = Select { range: TimeRange::ALL, matchers, cancel: &cancel };
    let mut out = Readable::default();
    let names = snapshot.label_names(&select).unwrap_or_default();
    if names.iter().any(|name| !["__name__", "s"].contains(&name.as_str())) {
        out.mistake = Some(format!("label names {names:?}"));
    }
    let Ok(found) = snapshot.select(&select) else { return Readable { has_failed: true, ..out } };
    out.has_failed = !found.warnings.is_empty();
    let mut columns = Columns::default();
    for batch in found.batches {
        if batch.read(0..batch.n_series(), TimeRange::ALL, &mut columns).is_err() {
            out.has_failed = true;
            continue;
        }
        for i in 0..batch.n_series() {
            let labels = batch.labels(i);
            let series = labels.get("s").and_then(|s| s.parse().ok()).unwrap_or(u8::MAX);
            if labels != super::model_tests::labels(series) {
                out.mistake = Some(format!("series {labels} never was"));
            }
            let column = columns.column(i);
            for row in (0..columns.n_rows()).filter(|&row| column.is_present(row)) {
                let key = (series, columns.timestamps()[row]);
                if out.samples.insert(key, column.values[row].to_bits()).is_some() {
                    out.mistake = Some(format!("{key:?} is there twice"));
                }
            }
            for (row, sample) in column.histogram_samples() {
                let key = (series, columns.timestamps()[row]);
                if out.samples.insert(key, histogram_mark(&sample)).is_some() {
                    out.mistake = Some(format!("{key:?} is there twice"));
                }
            }
        }
    }
    out
}

impl Whole {
    /// What is wrong with what is read from a damaged copy.
    fn mistake(&self, read: &Readable) -> Option<String> {
        let is_known = |key, bits| self.found.get(key) == Some(bits) || self.ledger.was_appended(*key, *bits);
        let wrong = read.samples.iter().find(|(key, bits)| !is_known(key, bits));
        read.mistake.clone().or(wrong.map(|(key, bits)| format!("{key:?} is {bits:x}, which it never was")))
    }
}

/// Kind of a file.
fn kind(path: &Path) -> String {
    let name = path.file_name().unwrap().to_str().unwrap();
    name.rsplit('.').next().unwrap().to_owned()
}

/// What mutations of the files of one kind led to.
#[derive(Debug, Default)]
struct Outcomes {
    mutations: u64,
    refused: u64,
    reported: u64,
    right: u64,
    /// The last pages of the log are gone as a whole.
    as_crash: u64,
}

/// Whether the damage leaves of the last segment of the log what a machine may leave when it loses unsynced pages.
fn is_what_a_crash_leaves(whole: &Whole, path: &Path, damage: Damage) -> bool {
    let last = whole.files.iter().rfind(|f| kind(&f.0) == "wal").unwrap();
    let mut bytes = last.1.clone();
    last.0 == path && {
        damage.apply(&mut bytes);
        last.1.starts_with(&bytes)
    }
}

/// Names the damage when something panics.
struct Name<'a>(&'a str);

impl Drop for Name<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.0);
        }
    }
}

/// Damages a copy of `whole`; an error says what is wrong then.
fn check(whole: &Whole, (path, damage): (&Path, Damage), goes_on: bool, outcomes: &mut Outcomes) -> Result<(), String> {
    let vfs = whole.vfs.crash(Survival::All, 0);
    vfs.corrupt(path, |bytes| damage.apply(bytes));
    outcomes.mutations += 1;
    let Ok((db, recovery)) = open(&vfs, &whole.options) else {
        outcomes.refused += 1;
        return Ok(());
    };
    let first = readable(&db);
    if let Some(mistake) = whole.mistake(&first) {
        return Err(format!("{mistake}; {recovery:?}"));
    }
    if first.has_failed || is_reported(&recovery) {
        outcomes.reported += 1;
    } else if is_what_a_crash_leaves(whole, path, damage) {
        outcomes.as_crash += 1;
    } else {
        outcomes.right += 1;
        let differs =
            |a: &Samples, b: &Samples| a.iter().find(|(key, bits)| b.get(key) != Some(bits)).map(|(key, _)| *key);
        if let Some(key) = differs(&whole.found, &first.samples) {
            return Err(format!("{key:?} is missing, and nothing says so"));
        }
        if let Some(key) = differs(&first.samples, &whole.found) {
            return Err(format!("{key:?} was deleted and came back"));
        }
    }
    if !goes_on {
        return Ok(());
    }
    // Maintenance and another start keep what could be read.
    let is_closed = db.tick().is_ok() && db.close().is_ok();
    drop(db);
    let (db, recovery) = match open(&vfs, &whole.options) {
        Ok(opened) => opened,
        Err(e) => return if is_closed { Err(format!("second start: {e}")) } else { Ok(()) },
    };
    let second = readable(&db);
    if let Some(mistake) = whole.mistake(&second) {
        return Err(format!("second start: {mistake}; {recovery:?}"));
    }
    let gone = first.samples.iter().find(|(key, bits)| second.samples.get(key) != Some(bits));
    match gone.filter(|_| is_closed && !second.has_failed) {
        Some(gone) => Err(format!("second start: {gone:?} is gone; {recovery:?}")),
        None => Ok(()),
    }
}

#[test]
fn damage_of_any_file_is_reported_or_does_no_harm() {
    let wanted = number("PROMONTORY_DAMAGE", 2000);
    let first = number("PROMONTORY_DAMAGE_SEED", 1);
    let mut outcomes: BTreeMap<String, Outcomes> = BTreeMap::new();
    let mut mistakes = Vec::new();
    for seed in first.. {
        let whole = Whole::of(seed, 60);
        let bytes: usize = whole.files.iter().map(|f| f.1.len()).sum();
        // Few mutations are spread over all files; many go through every byte.
        let stride = (bytes * Damage::KINDS / wanted as usize).max(1);
        let mut rng = Rng::new(seed);
        let mut skip = rng.up_to(stride - 1);
        for (path, bytes) in &whole.files {
            for at in 0..bytes.len() {
                for n in 0..Damage::KINDS {
                    if skip > 0 {
                        skip -= 1;
                        continue;
                    }
                    skip = stride - 1;
                    let damage = Damage::of(n, at, bytes.len(), &mut rng);
                    let what = format!("seed {seed}, {} of {} bytes, {damage:?}", path.display(), bytes.len());
                    let _name = Name(&what);
                    let goes_on = rng.up_to(7) == 0;
                    let outcomes = outcomes.entry(kind(path)).or_default();
                    if let Err(mistake) = check(&whole, (path, damage), goes_on, outcomes) {
                        mistakes.push(format!("{what}: {mistake}"));
                    }
                }
            }
        }
        if outcomes.values().map(|o| o.mutations).sum::<u64>() >= wanted {
            break;
        }
    }
    let total: u64 = outcomes.values().map(|o| o.mutations).sum();
    eprintln!("{total} mutations: {outcomes:#?}");
    assert!(mistakes.is_empty(), "{} mistakes:\n{}", mistakes.len(), mistakes[..mistakes.len().min(20)].join("\n"));
    assert!(outcomes.len() >= 8, "the database does not have every kind of file");
}

/// Offsets and lengths of the chunks of a head segment.
fn chunks(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut out = Vec::new();
    let mut at = segment::FILE_HEADER_BYTES;
    while let Some(header) = bytes.get(at..).and_then(Header::read) {
        out.push((at, HEADER_BYTES + header.body_len as usize));
        at += HEADER_BYTES + header.body_len as usize;
    }
    out
}

#[test]
fn a_chunk_in_the_place_of_another_counts_once() {
    let whole = Whole::of(1, 60);
    let mut outcomes = Outcomes::default();
    for (path, bytes) in whole.files.iter().filter(|f| kind(&f.0) == "seg") {
        let chunks = chunks(bytes);
        for &(from, len) in &chunks {
            for &(at, _) in &chunks {
                let damage = Damage::Copy { from, at, len };
                let checked = check(&whole, (path, damage), true, &mut outcomes);
                checked.unwrap_or_else(|e| panic!("{damage:?}: {e}"));
            }
        }
    }
    assert!(outcomes.mutations > 10, "{outcomes:?}");
}
