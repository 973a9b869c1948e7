//! How many bytes does a native histogram take in the log, in head segments, in a block, and in Prometheus' chunks?
//!
//! 100 series of request durations, log-normal around 50 ms, with a histogram each 15 s for two hours, as a client
//! library with schema 3 counts them: a busy service (some 600 requests per interval), a quiet one (3), the busy one
//! with floating-point counts, and one with 12 custom bounds. Block and chunks are given without index. Run with
//! `cargo bench -p promontory-storage --bench histograms`.

#![allow(clippy::print_stdout, reason = "the table is the answer")]

use std::path::Path;
use std::sync::Arc;

use promontory_model::histogram::{CUSTOM_BUCKETS_SCHEMA, Counts, Span};
use promontory_model::{Cancel, Columns, FloatHistogram, HistogramSample, Labels, Queryable as _, Select, TimeRange};
use promontory_model::{SeriesBatch, Timestamp};
use promontory_storage::block::{BlockWriter, ColumnInput, GroupInput};
use promontory_storage::clock::ManualClock;
use promontory_storage::prometheus::{ExportOptions, export};
use promontory_storage::ulid::Ulid;
use promontory_storage::vfs::{RealVfs, Vfs};
use promontory_storage::{Db, DbOptions};

const SERIES: usize = 100;
const ROWS: usize = 480;
const START_MS: i64 = 1_699_999_200_000;
const STEP_MS: i64 = 15_000;
const BOUNDS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0];

struct Rng(u64);

impl Rng {
    /// Between 0 and 1.
    fn unit(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    fn seconds(&mut self) -> f64 {
        let normal = (0..12).map(|_| self.unit()).sum::<f64>() - 6.0;
        0.05 * (0.8 * normal).exp()
    }
}

/// A histogram that counts.
#[derive(Default)]
struct Counter {
    /// Of indexes from −128 on, or of custom bounds.
    buckets: Vec<f64>,
    sum: f64,
}

impl Counter {
    fn observe(&mut self, seconds: f64, is_custom: bool) {
        self.buckets.resize(256, 0.0);
        let exponential = || ((seconds.log2() * 8.0).ceil() + 128.0).clamp(0.0, 255.0) as usize;
        let i = if is_custom { BOUNDS.partition_point(|b| *b < seconds) } else { exponential() };
        self.buckets[i] += 1.0;
        self.sum += seconds;
    }

    fn sample(&self, is_custom: bool, counts: Counts) -> HistogramSample {
        // As client libraries: gaps of up to two empty buckets are written.
        let (mut spans, mut buckets) = (Vec::<Span>::new(), Vec::new());
        let mut end = if is_custom { 0 } else { 128 };
        for (i, count) in (0i32..).zip(&self.buckets).filter(|(_, count)| **count > 0.0) {
            match spans.last_mut() {
                Some(last) if i - end <= 2 => {
                    last.length += (i - end) as u32 + 1;
                    buckets.extend((end..i).map(|_| 0.0));
                }
                _ => spans.push(Span { offset: i - end, length: 1 }),
            }
            buckets.push(*count);
            end = i + 1;
        }
        let value = FloatHistogram {
            schema: if is_custom { CUSTOM_BUCKETS_SCHEMA } else { 3 },
            zero_threshold: if is_custom { 0.0 } else { 2f64.powi(-128) },
            count: self.buckets.iter().sum(),
            sum: self.sum,
            positive_spans: spans,
            positive_buckets: buckets,
            custom_values: if is_custom { BOUNDS.to_vec() } else { Vec::new() },
            ..FloatHistogram::default()
        };
        HistogramSample::new(value, counts).expect("a histogram as clients make it")
    }
}

fn main() {
    println!("| kind | buckets | log | segments | block | Prometheus |\n|---|---|---|---|---|---|");
    for (name, rate, is_custom, counts) in [
        ("busy", 600.0, false, Counts::Integer),
        ("quiet", 3.0, false, Counts::Integer),
        ("busy, floats", 600.0, false, Counts::Float),
        ("custom bounds", 600.0, true, Counts::Integer),
    ] {
        print_row(name, rate, is_custom, counts);
    }
}

fn print_row(name: &str, rate: f64, is_custom: bool, counts: Counts) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let clock = Arc::new(ManualClock::new(Timestamp(START_MS)));
    let options = DbOptions { commit_interval_ms: None, ..DbOptions::server() };
    let vfs: Arc<dyn Vfs> = Arc::new(RealVfs);
    let (db, _) = Db::open(vfs.clone(), clock, &folder.path().join("db"), options).expect("the folder opens");
    let mut writer = db.writer();
    let labels = |i: usize| Labels::from_pairs([("__name__", "h".to_owned()), ("i", i.to_string())]);
    let refs: Vec<_> = (0..SERIES).map(|i| writer.resolve(&labels(i)).expect("a new series")).collect();
    db.commit().expect("a disk with room");
    let before = db.status().wal_written_bytes;
    let mut rng = Rng(88_172_645_463_325_252);
    let mut counters: Vec<Counter> = (0..SERIES).map(|_| Counter::default()).collect();
    let mut n_buckets = 0;
    for row in 0..ROWS {
        let mut histograms = Vec::with_capacity(SERIES);
        for (series, counter) in refs.iter().zip(&mut counters) {
            let n = (rate * (0.7 + 0.6 * rng.unit())).round() as usize;
            (0..n).for_each(|_| counter.observe(rng.seconds(), is_custom));
            let sample = counter.sample(is_custom, counts);
            n_buckets += sample.value().positive_buckets.len();
            histograms.push((*series, sample));
        }
        let t = Timestamp(START_MS + row as i64 * STEP_MS);
        writer.append_with_histograms(t, &[], &histograms).expect("a store that takes samples");
        db.commit().expect("a disk with room");
    }
    let log = db.status().wal_written_bytes - before;
    db.close().expect("a disk with room");
    let segments = db.status().head_segment_bytes;
    let cancel = Cancel::new();
    let select = Select { range: TimeRange::ALL, matchers: &[], cancel: &cancel };
    let selection = db.snapshot().and_then(|s| s.select(&select)).expect("a readable head");
    let block = write_block(&vfs, folder.path(), &selection.batches);
    let options =
        ExportOptions { range: TimeRange::ALL, matchers: &[], block_ms: 7_200_000, external_labels: &Labels::empty() };
    let exported = folder.path().join("prometheus");
    export(&vfs, &db, &exported, &options, &mut |_| {}, &cancel).expect("a disk with room");
    let n = (SERIES * ROWS) as f64;
    let of = |bytes: u64| format!("{:.1}", bytes as f64 / n);
    let mean = format!("{:.0}", n_buckets as f64 / n);
    println!("| {name} | {mean} | {} | {} | {} | {} |", of(log), of(segments), of(block), of(chunk_bytes(&exported)));
}

/// Bytes of the samples of a block.
fn write_block(vfs: &Arc<dyn Vfs>, dir: &Path, batches: &[Arc<dyn SeriesBatch>]) -> u64 {
    let mut writer = BlockWriter::new(vfs.clone(), dir, Ulid::new(1, 1), 1).expect("a disk with room");
    let mut read = Columns::default();
    for batch in batches {
        batch.read(0..batch.n_series(), TimeRange::ALL, &mut read).expect("a readable head");
        let histograms: Vec<Vec<_>> =
            (0..batch.n_series()).map(|i| read.column(i).histogram_samples().collect()).collect();
        let columns: Vec<ColumnInput<'_>> = (0..batch.n_series())
            .map(|i| ColumnInput {
                labels: batch.labels(i),
                values: read.column(i).values,
                presence: read.column(i).presence,
                histograms: &histograms[i],
            })
            .collect();
        writer.add_group(&GroupInput { timestamps: read.timestamps(), columns: &columns }).expect("a good group");
    }
    writer.finish().expect("a disk with room").data_bytes
}

/// Bytes of the chunk files of all blocks in a folder.
fn chunk_bytes(dir: &Path) -> u64 {
    let files = |dir: &Path| std::fs::read_dir(dir).expect("a folder").map(|e| e.expect("an entry").path());
    let chunks = files(dir).flat_map(|block| files(&block.join("chunks")).collect::<Vec<_>>());
    chunks.map(|file| std::fs::metadata(file).expect("a file").len()).sum()
}
