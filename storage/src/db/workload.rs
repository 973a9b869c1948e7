//! A random life of a database on a simulated disk, and the book of what each sample may be after a crash at any moment.
//!
//! The same seed gives the same operations. Samples are appended by two writers, some late; writers and series come and
//! go; time passes in steps and leaps; ticks seal, checkpoint, cut, merge and retire; samples are deleted, and added at
//! old times; the database is closed or dropped and opened again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use promontory_model::{Cancel, HistogramSample, Matcher, STALE_NAN_BITS, TimeRange, Timestamp};

use super::model_tests::{Samples, histogram, histogram_mark, labels};
use crate::clock::ManualClock;
use crate::vfs::SimVfs;
use crate::vfs::sim::Rng;
use crate::{Db, DbOptions, DbStatus, GroupWriter, SeriesRef};

/// Where the database lies.
pub(super) const DIR: &str = "data";

type Key = (u8, i64);

/// What was asked of one sample.
#[derive(Debug)]
struct Event {
    /// Operations of the disk before; a crash at this number or later may find it done.
    began: u64,
    /// Operations before it was acknowledged; a crash at this number or later must find it done.
    acknowledged: Option<u64>,
    /// What is stored; `None` for a deletion.
    bits: Option<u64>,
}

/// What each sample may be.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    events: BTreeMap<Key, Vec<Event>>,
    waiting: Vec<Key>,
    retention_ms: Option<i64>,
    /// Operations before the newest time was appended, and this time.
    newest: Vec<(u64, i64)>,
}

impl Ledger {
    fn append(&mut self, op: u64, key: Key, bits: u64) {
        let events = self.events.entry(key).or_default();
        if events.last().is_none_or(|e| e.bits != Some(bits)) {
            events.push(Event { began: op, acknowledged: None, bits: Some(bits) });
            self.waiting.push(key);
        }
        if self.newest.last().is_none_or(|n| n.1 < key.1) {
            self.newest.push((op, key.1));
        }
    }

    fn acknowledge(&mut self, op: u64) {
        for key in self.waiting.drain(..) {
            for event in self.events.get_mut(&key).into_iter().flatten() {
                event.acknowledged.get_or_insert(op);
            }
        }
    }

    fn acknowledge_one(&mut self, op: u64, key: Key) {
        for event in self.events.get_mut(&key).into_iter().flatten() {
            event.acknowledged.get_or_insert(op);
        }
    }

    /// Samples whose key is `hit` are deleted by operations from `began` on, all before `acknowledged`.
    fn delete(&mut self, began: u64, acknowledged: u64, hit: impl Fn(&Key) -> bool) {
        for (_, events) in self.events.iter_mut().filter(|(key, _)| hit(key)) {
            for event in events.iter_mut() {
                event.acknowledged.get_or_insert(acknowledged);
            }
            events.push(Event { began, acknowledged: Some(acknowledged), bits: None });
        }
    }

    /// Samples that were ever appended.
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether `bits` were appended under this key at any time.
    pub(super) fn was_appended(&self, key: Key, bits: u64) -> bool {
        self.events.get(&key).is_some_and(|events| events.iter().any(|e| e.bits == Some(bits)))
    }

    /// What is wrong with what was found after a crash at operation `at`, if anything.
    pub(super) fn mistake(&self, at: u64, found: &Samples) -> Option<String> {
        let newest = self.newest.iter().take_while(|n| n.0 <= at).last().map_or(i64::MIN, |n| n.1);
        let retired = self.retention_ms.map_or(i64::MIN, |ms| newest.saturating_sub(ms));
        for (key, events) in &self.events {
            let mut may_be: Vec<Option<u64>> = vec![None];
            for event in events.iter().filter(|e| e.began <= at) {
                if event.acknowledged.is_some_and(|a| a <= at) && key.1 >= retired {
                    may_be.clear();
                }
                may_be.push(event.bits);
            }
            let is = found.get(key).copied();
            if !may_be.contains(&is) {
                return Some(format!("series {} at {} is {is:x?}, may be {may_be:x?}", key.0, key.1));
            }
        }
        found.keys().find(|key| !self.events.contains_key(key)).map(|key| format!("{key:?} was never appended"))
    }
}

/// What a workload reached, so that a test can tell that it tests something.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reached {
    pub(super) samples: u64,
    pub(super) late: u64,
    pub(super) checkpoints: u64,
    pub(super) blocks: u64,
    pub(super) merges: u64,
    pub(super) retired: u64,
    pub(super) series_files: u64,
    pub(super) restarts: u64,
    pub(super) deleted: u64,
    pub(super) cleaned: u64,
    pub(super) backfilled: u64,
}

impl Reached {
    pub(super) fn add(&mut self, other: Self) {
        self.samples += other.samples;
        self.late += other.late;
        self.checkpoints += other.checkpoints;
        self.blocks += other.blocks;
        self.merges += other.merges;
        self.retired += other.retired;
        self.series_files += other.series_files;
        self.restarts += other.restarts;
        self.deleted += other.deleted;
        self.cleaned += other.cleaned;
        self.backfilled += other.backfilled;
    }

    /// Whether everything was reached at least once.
    pub(super) fn is_complete(&self) -> bool {
        let Self { samples, late, checkpoints, blocks, merges, retired, .. } = *self;
        let Self { series_files, restarts, deleted, cleaned, backfilled, .. } = *self;
        let all = [samples, late, checkpoints, blocks, merges, retired, series_files, restarts, deleted, cleaned];
        all.iter().all(|&n| n > 0) && backfilled > 0
    }

    fn count(&mut self, status: &DbStatus) {
        self.samples += status.samples_appended;
        self.late += status.out_of_order_appended;
        self.checkpoints += status.checkpoints;
        self.retired += status.time_retentions + status.size_retentions;
    }
}

pub(super) struct Workload {
    pub(super) vfs: SimVfs,
    pub(super) options: DbOptions,
    pub(super) clock: Arc<ManualClock>,
    pub(super) ledger: Ledger,
    pub(super) reached: Reached,
    rng: Rng,
    now: i64,
    db: Option<Db>,
    writers: Vec<(GroupWriter, BTreeMap<u8, SeriesRef>)>,
}

/// Shortly before midnight, so that windows of a day end too.
pub(super) const START_MS: i64 = 20 * 86_400_000 - 12_000;

impl Workload {
    pub(super) fn new(vfs: &SimVfs, options: &DbOptions, seed: u64) -> Self {
        let ledger = Ledger { retention_ms: options.retention_ms, ..Ledger::default() };
        let clock = Arc::new(ManualClock::new(Timestamp(START_MS)));
        let mut workload = Self {
            vfs: vfs.clone(),
            options: options.clone(),
            clock,
            ledger,
            reached: Reached::default(),
            rng: Rng::new(seed),
            now: START_MS,
            db: None,
            writers: Vec::new(),
        };
        workload.open();
        workload
    }

    fn open(&mut self) {
        let vfs = Arc::new(self.vfs.clone());
        let (db, recovery) = Db::open(vfs, Arc::clone(&self.clock) as _, Path::new(DIR), self.options.clone()).unwrap();
        assert_eq!((recovery.wal_corruptions, recovery.head_corruptions), (0, 0), "{recovery:?}");
        self.writers = (0..2).map(|_| (db.writer(), BTreeMap::new())).collect();
        self.db = Some(db);
    }

    pub(super) fn db(&self) -> &Db {
        self.db.as_ref().unwrap()
    }

    fn up_to(&mut self, max: usize) -> usize {
        self.rng.up_to(max)
    }

    fn value(&mut self) -> f64 {
        match self.up_to(9) {
            0 => f64::from_bits(STALE_NAN_BITS),
            1 => f64::from_bits(self.rng.next()),
            2..5 => self.up_to(1000) as f64 / 8.0,
            _ => (self.now / 1000 + self.up_to(3) as i64) as f64,
        }
    }

    fn resolve(&mut self, writer: usize, series: u8) -> SeriesRef {
        let (w, refs) = &mut self.writers[writer];
        *refs.entry(series).or_insert_with(|| w.resolve(&labels(series)).unwrap())
    }

    /// One thing that happens.
    pub(super) fn step(&mut self) {
        match self.up_to(99) {
            0..41 => self.scrape(),
            41..44 => self.delete(),
            44..46 => self.reached.cleaned += self.db().clean_tombstones().unwrap() as u64,
            46..48 => self.backfill(),
            48..55 => self.append_late(),
            55..72 => {
                self.db().commit().unwrap();
                self.ledger.acknowledge(self.vfs.ops());
            }
            72..90 => self.tick(),
            90..93 => {
                let writer = self.up_to(1);
                self.writers[writer] = (self.db().writer(), BTreeMap::new());
            }
            93..96 => self.pass(5000),
            96..98 => self.restart(true),
            _ => self.restart(false),
        }
        let ms = 100 + self.up_to(1200) as i64;
        self.pass(ms);
    }

    fn pass(&mut self, ms: i64) {
        self.now += ms;
        self.clock.advance(ms);
    }

    /// Native histograms of the same time.
    fn histograms(&mut self, writer: usize) -> Vec<(u8, HistogramSample)> {
        let first = writer as u8 * 100 + 90;
        let n = self.up_to(2) as u8;
        (first..first + n).map(|s| (s, histogram(self.up_to(255) as u8))).collect()
    }

    /// A row of a target whose series slowly change.
    fn scrape(&mut self) {
        let writer = self.up_to(1);
        let first = writer as u8 * 100 + ((self.now - START_MS) / 20_000 * 2) as u8 % 80;
        let n = 2 + self.up_to(7) as u8;
        let row: Vec<(u8, f64)> = (first..first + n).map(|s| (s, self.value())).collect();
        let refs: Vec<_> = row.iter().map(|&(s, v)| (self.resolve(writer, s), v)).collect();
        let histograms = self.histograms(writer);
        let of: Vec<_> = histograms.iter().map(|(s, h)| (self.resolve(writer, *s), h.clone())).collect();
        let (op, t) = (self.vfs.ops(), self.now);
        let appended = self.writers[writer].0.append_with_histograms(Timestamp(t), &refs, &of).unwrap();
        assert_eq!(appended.refused(), 0);
        for (series, value) in row {
            self.ledger.append(op, (series, t), value.to_bits());
        }
        for (series, sample) in histograms {
            self.ledger.append(op, (series, t), histogram_mark(&sample));
        }
    }

    fn append_late(&mut self) {
        let writer = self.up_to(1);
        for _ in 0..=self.up_to(4) {
            let (series, t) = (writer as u8 * 100 + self.up_to(12) as u8, self.now - self.up_to(4000) as i64);
            let value = self.value();
            let r = self.resolve(writer, series);
            let op = self.vfs.ops();
            if self.writers[writer].0.append_at(&[(r, Timestamp(t), value)]).unwrap().accepted > 0 {
                self.ledger.append(op, (series, t), value.to_bits());
            }
            let sample = histogram(self.up_to(255) as u8);
            let series = writer as u8 * 100 + [series % 100, 90, 91][self.up_to(2)];
            let r = self.resolve(writer, series);
            let op = self.vfs.ops();
            let late = [(r, Timestamp(t), sample.clone())];
            if self.writers[writer].0.append_at_with_histograms(&[], &late).unwrap().accepted > 0 {
                self.ledger.append(op, (series, t), histogram_mark(&sample));
            }
        }
    }

    /// Deletes samples of a metric, or of all, at times at which none can arrive any more.
    fn delete(&mut self) {
        let Some(max_t) = self.db().0.head.max_t() else { return };
        let oldest = self.options.out_of_order_window_ms.max(self.options.block_ms / 2);
        let from = [self.now - 15_000 - self.up_to(20_000) as i64, i64::MIN][self.up_to(3) / 3];
        let range = TimeRange::new(from, max_t - oldest - 1 - self.up_to(5000) as i64);
        let metric = self.up_to(3) as u8;
        let selector: Vec<_> =
            (metric < 3).then(|| Matcher::equal("__name__", &format!("m{metric}"))).into_iter().collect();
        let began = self.vfs.ops();
        self.db().delete_series(&[selector], range).unwrap();
        let hit = |key: &Key| (metric == 3 || key.0 % 3 == metric) && range.contains(Timestamp(key.1));
        self.ledger.delete(began, self.vfs.ops(), hit);
        self.reached.deleted += 1;
    }

    /// Adds samples of an hour before the start.
    fn backfill(&mut self) {
        let mut backfill = self.db().backfill().unwrap();
        let mut added = Vec::new();
        for _ in 0..=self.up_to(5) {
            let (series, t) = (self.up_to(150) as u8, self.now - 3_600_000 - self.up_to(9000) as i64);
            let value = self.value();
            let number = backfill.series(&labels(series)).unwrap();
            backfill.push(number, t, value).unwrap();
            added.push(((series, t), value.to_bits()));
        }
        let began = self.vfs.ops();
        let done = backfill.finish(&mut |_| {}, &Cancel::new()).unwrap();
        added.sort_unstable_by_key(|(key, _)| *key);
        added.dedup_by_key(|(key, _)| *key);
        assert_eq!(done.n_samples, added.len() as u64);
        for (key, bits) in added {
            self.ledger.append(began, key, bits);
            self.ledger.acknowledge_one(self.vfs.ops(), key);
        }
        self.reached.backfilled += 1;
    }

    pub(super) fn tick(&mut self) {
        let done = self.db().tick().unwrap();
        assert_eq!(done.warnings, Vec::<String>::new());
        self.reached.blocks += done.blocks_cut;
        self.reached.merges += u64::from(self.db().compact().unwrap().is_some());
        self.reached.series_files += u64::from(done.series_removed > 0);
    }

    fn restart(&mut self, is_clean: bool) {
        self.reached.count(&self.db().status());
        self.reached.restarts += 1;
        if is_clean {
            self.db().close().unwrap();
        }
        self.writers.clear();
        // Without a close, what is buffered is written, and synced by the first commit of who opens it next.
        self.db = None;
        if is_clean {
            self.ledger.acknowledge(self.vfs.ops());
        }
        self.open();
        self.db().commit().unwrap();
        self.ledger.acknowledge(self.vfs.ops());
    }

    /// Ends the database as a crash does; gives what it reached.
    pub(super) fn end(mut self) -> (Ledger, Reached) {
        self.reached.count(&self.db().status());
        (self.ledger, self.reached)
    }
}
