//! Feeds over random lives of a database: each accepted sample comes once and in the order of its series' arrival.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use promontory_model::{Labels, Timestamp};

use super::*;
use crate::clock::ManualClock;
use crate::db::model_tests::{histogram, histogram_mark, small};
use crate::vfs::sim::Rng;
use crate::vfs::{SimVfs, Vfs as _};
use crate::{DbOptions, GroupWriter, SeriesRef};

/// Series by name → time and bits in the order of arrival; histograms by their mark.
type Arrived = BTreeMap<String, Vec<(i64, u64)>>;

const N_SERIES: usize = 70;
const NOW_MS: i64 = 1_000_000;

struct World {
    vfs: SimVfs,
    clock: Arc<ManualClock>,
    options: DbOptions,
    db: Db,
    writers: Vec<(GroupWriter, Vec<SeriesRef>)>,
    feed: Feed,
    now: i64,
    appended: Arrived,
    known: HashSet<(String, i64)>,
    given: Arrived,
    saved: (FeedPosition, Arrived),
    n_restarts: u32,
}

fn name(writer: usize, series: usize) -> String {
    format!("w{writer}_{series}")
}

fn open(vfs: &SimVfs, clock: &Arc<ManualClock>, options: &DbOptions) -> (Db, Vec<(GroupWriter, Vec<SeriesRef>)>) {
    let (db, recovery) =
        Db::open(Arc::new(vfs.clone()), Arc::clone(clock) as _, Path::new("data"), options.clone()).unwrap();
    assert_eq!((recovery.wal_corruptions, recovery.wal_rows_lost), (0, 0), "{recovery:?}");
    let writers = (0..2).map(|w| {
        let mut writer = db.writer();
        let of = |s| Labels::from_pairs([("__name__", name(w, s).as_str())]);
        let refs = (0..N_SERIES).map(|s| writer.resolve(&of(s)).unwrap()).collect();
        (writer, refs)
    });
    let writers = writers.collect();
    (db, writers)
}

impl World {
    fn new() -> Self {
        let (vfs, clock) = (SimVfs::new(), Arc::new(ManualClock::new(Timestamp(NOW_MS))));
        let options = DbOptions { columns_max: 128, wal_segment_bytes: 20_000, ..small() };
        let (db, writers) = open(&vfs, &clock, &options);
        let feed = db.feed("x", None).unwrap();
        let saved = (feed.position(), Arrived::new());
        let (appended, known, given) = Default::default();
        Self { vfs, clock, options, db, writers, feed, now: NOW_MS, appended, known, given, saved, n_restarts: 0 }
    }

    fn row(&mut self, w: usize, series: std::ops::Range<usize>, t: i64, rng: &mut Rng) {
        let value = |rng: &mut Rng| if rng.up_to(3) == 0 { f64::from_bits(rng.next()) } else { rng.up_to(999) as f64 };
        let is_new = |this: &Self, s: &usize| !this.known.contains(&(name(w, *s), t));
        let mut samples = Vec::new();
        for s in series.filter(|s| is_new(self, s)) {
            if rng.up_to(9) > 0 {
                samples.push((s, value(rng)));
            }
        }
        let (writer, refs) = &mut self.writers[w];
        for chunk in if t == self.now { vec![&samples[..]] } else { samples.chunks(1).collect() } {
            let row: Vec<_> = chunk.iter().map(|&(s, v)| (refs[s], v)).collect();
            let counts = writer.append(Timestamp(t), &row).unwrap();
            if counts.accepted as usize != row.len() {
                assert!(t != self.now, "{counts:?}");
                continue;
            }
            for &(s, v) in chunk {
                self.known.insert((name(w, s), t));
                self.appended.entry(name(w, s)).or_default().push((t, v.to_bits()));
            }
        }
    }

    fn histograms(&mut self, w: usize, rng: &mut Rng) {
        let (writer, refs) = &mut self.writers[w];
        let (s, t) = (rng.up_to(N_SERIES - 1), self.now);
        if !self.known.insert((name(w, s), t)) {
            return;
        }
        let sample = histogram(rng.up_to(80) as u8);
        let counts = writer.append_with_histograms(Timestamp(t), &[], &[(refs[s], sample.clone())]).unwrap();
        assert_eq!((counts.accepted, counts.histograms), (1, 1));
        self.appended.entry(name(w, s)).or_default().push((t, histogram_mark(&sample)));
    }

    fn read(&mut self, n_max: usize) -> Fed {
        let mut batch = FedBatch::default();
        let fed = self.feed.read(n_max, &mut batch).unwrap();
        assert_eq!(batch.n_lost, 0);
        for sample in batch.samples {
            let labels = self.feed.labels(sample.series).expect("writers hold all series");
            let bits = match sample.value {
                FedValue::Float(v) => v.to_bits(),
                FedValue::Histogram(h) => histogram_mark(&h),
            };
            self.given.entry(labels.metric_name().to_owned()).or_default().push((sample.t, bits));
        }
        fed
    }

    /// Goes on where it was last saved, after a crash of the process or a good end.
    fn restart(&mut self, is_clean: bool) {
        self.n_restarts += 1;
        self.db.commit().unwrap();
        if is_clean {
            self.writers.clear();
            self.db.close().unwrap();
        }
        let vfs = SimVfs::new();
        let (db, writers) = open(&vfs, &self.clock, &self.options);
        let feed = db.feed("y", None).unwrap();
        // The folder is locked until the last handle is gone.
        drop((std::mem::replace(&mut self.db, db), std::mem::replace(&mut self.feed, feed)));
        drop(std::mem::replace(&mut self.writers, writers));
        (self.db, self.writers) = open(&self.vfs, &self.clock, &self.options);
        self.feed = self.db.feed("x", Some(self.saved.0)).unwrap();
        self.given = self.saved.1.clone();
    }

    fn step(&mut self, rng: &mut Rng) {
        let w = rng.up_to(1);
        match rng.up_to(11) {
            0..=2 => {
                self.now += 1 + rng.up_to(400) as i64;
                self.clock.set(Timestamp(self.now));
                let split = rng.up_to(N_SERIES);
                self.row(w, 0..split, self.now, rng);
                if rng.up_to(1) == 0 {
                    self.row(w, split..N_SERIES, self.now, rng);
                }
            }
            3 => self.row(w, rng.up_to(N_SERIES - 1)..N_SERIES, self.now - rng.up_to(2500) as i64, rng),
            4 | 5 => self.histograms(w, rng),
            6 | 7 => {
                self.db.tick().unwrap();
            }
            8..=10 => {
                if rng.up_to(1) == 0 {
                    self.db.commit().unwrap();
                }
                self.read(1 + rng.up_to(300));
                if rng.up_to(1) == 0 {
                    self.saved = (self.feed.position(), self.given.clone());
                    self.feed.done(self.saved.0);
                }
            }
            _ if rng.up_to(4) == 0 => self.restart(rng.up_to(1) == 0),
            _ => {}
        }
    }
}

#[test]
fn each_sample_comes_once_and_in_order() {
    let mut n_restarts = 0;
    for seed in 0..6 {
        let (mut world, mut rng) = (World::new(), Rng::new(seed));
        for _ in 0..400 {
            world.step(&mut rng);
        }
        world.db.commit().unwrap();
        while world.read(1000) == Fed::More {}
        let expected: usize = world.appended.values().map(Vec::len).sum();
        assert!(expected > 1000);
        for (name, samples) in &world.appended {
            assert_eq!(world.given.get(name), Some(samples), "series {name} of seed {seed}");
        }
        n_restarts += world.n_restarts;
    }
    assert!(n_restarts > 10);
}

#[test]
fn the_log_is_held_for_a_feed_and_a_gap_is_told() {
    let mut world = World::new();
    let mut rng = Rng::new(1);
    let n_segments = |world: &World| world.vfs.files(Path::new("data/wal")).len();
    for _ in 0..50 {
        world.now += 2000;
        world.clock.advance(2000);
        world.row(0, 0..N_SERIES, world.now, &mut rng);
        world.db.tick().unwrap();
    }
    assert!(n_segments(&world) > 20);
    let position = world.feed.position();
    while world.read(1000) == Fed::More {}
    world.feed.done(world.feed.position());
    world.now += 2000;
    world.clock.advance(2000);
    world.row(0, 0..N_SERIES, world.now, &mut rng);
    world.db.tick().unwrap();
    assert!(n_segments(&world) < 10, "{}", n_segments(&world));
    let mut late = world.db.feed("late", Some(position)).unwrap();
    assert_eq!(late.read(1, &mut FedBatch::default()).unwrap(), Fed::Gap);
    let mut odd = world.db.feed("odd", Some(FeedPosition { segment: u64::MAX, offset: 7, ..position })).unwrap();
    assert_eq!(odd.read(1, &mut FedBatch::default()).unwrap(), Fed::Gap);
    world.db.forget_feed("late");
    world.db.forget_feed("odd");
    // Somebody takes a file away while it is needed.
    world.db.commit().unwrap();
    let mut feed = world.db.feed("x", None).unwrap();
    world.row(1, 0..N_SERIES, world.now, &mut rng);
    world.db.tick().unwrap();
    for file in world.vfs.files(Path::new("data/wal")) {
        world.vfs.remove_file(&file).unwrap();
    }
    world.row(1, 0..1, world.now + 1, &mut rng);
    world.db.tick().unwrap();
    assert_eq!(feed.read(1000, &mut FedBatch::default()).unwrap(), Fed::Gap);
}
