//! How many bytes does a sample take, and how fast is it encoded and decoded?
//!
//! First a table of columns of 480 values (2 h at 15 s) of the kinds that exporters send, made from a fixed seed, next
//! to XOR as in Prometheus' chunks. Buckets are measured once more as blocks write them, relative to the bucket below.
//! Speeds are millions of values per second of processor time of this thread, the mean of many passes.
//! With `RECORDED=<file>` (see `recorded.rs`) then the same over recorded groups, and the block that they make, index
//! included; with `-- blocks` that alone. Run with `cargo bench -p promontory-storage --bench codec`.

#![allow(clippy::print_stdout, reason = "the table is the answer")]
#![allow(unreachable_pub, reason = "modules of one program")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use promontory_model::Cancel;
use promontory_storage::block::{BlockWriter, ColumnInput, GroupInput, verify};
use promontory_storage::clock::SystemClock;
use promontory_storage::codec::{self, relative};
use promontory_storage::ulid::Ulid;
use promontory_storage::vfs::{RealVfs, Vfs};
use promontory_storage::{Db, DbOptions};

mod kinds;
mod recorded;
mod xor;

/// Processor time that is spent on one figure at least: the system counts in steps of a few ms.
const MEASURED_NS: u64 = 250_000_000;

fn main() {
    let only_blocks = std::env::args().any(|arg| arg == "blocks");
    if !only_blocks {
        print_kinds();
    }
    if let Ok(path) = std::env::var("RECORDED") {
        let text = std::fs::read_to_string(&path).expect("RECORDED names a file");
        let groups = recorded::read(&text);
        if !only_blocks {
            print_recorded(&groups);
        }
        print_block(&groups);
    }
}

fn print_kinds() {
    println!("{:<24}{:>8}{:>8}{:>8} |{:>8}{:>8}{:>8}", "kind", "B/value", "enc M/s", "dec M/s", "XOR B", "enc", "dec");
    for (name, make) in kinds::KINDS {
        let data = make(&mut kinds::Rng(7));
        print_row(name, &data);
        if name.starts_with("buckets") {
            print_measured(&format!("{name}, relative"), &buckets(&data), &xor(&data), &data);
        }
    }
    print_timestamps();
}

struct Measured {
    bytes: usize,
    encode: f64,
    decode: f64,
}

/// Processor time of a pass, ns.
fn mean_ns(mut pass: impl FnMut()) -> f64 {
    let (start, mut n) = (processor_ns(), 0.0);
    loop {
        pass();
        n += 1.0;
        let spent = processor_ns() - start;
        if spent >= MEASURED_NS {
            return spent as f64 / n;
        }
    }
}

/// Processor time that this thread has taken.
fn processor_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux says how long a thread has run");
    text.split(' ').next().and_then(|ns| ns.parse().ok()).expect("it starts with nanoseconds")
}

/// Buckets relative to the one below, which is decoded already, as when a histogram is read.
fn buckets(columns: &[Vec<f64>]) -> Measured {
    let n: usize = columns.iter().map(Vec::len).sum();
    let is_first = |i: usize| i.is_multiple_of(kinds::BUCKETS);
    let put = |i: usize, differences: &mut Vec<f64>, out: &mut Vec<u8>| {
        differences.clear();
        let is_relative = !is_first(i) && relative::differences(&columns[i], &columns[i - 1], differences);
        codec::encode(if is_relative { differences } else { &columns[i] }, out);
        is_relative
    };
    let (mut out, mut differences) = (Vec::new(), Vec::new());
    let encode = mean_ns(|| {
        for i in 0..columns.len() {
            out.clear();
            put(i, &mut differences, &mut out);
        }
    });
    let encoded: Vec<(Vec<u8>, bool)> = (0..columns.len())
        .map(|i| {
            let mut out = Vec::new();
            let is_relative = put(i, &mut differences, &mut out);
            (out, is_relative)
        })
        .collect();
    let (mut values, mut before) = (Vec::new(), Vec::new());
    let mut get = |i: usize| {
        std::mem::swap(&mut values, &mut before);
        values.clear();
        let (bytes, is_relative) = &encoded[i];
        codec::decode(black_box(bytes), columns[i].len(), &mut values).expect("encoded just now");
        if *is_relative {
            relative::restore(&before, &mut values);
        }
        values.last().copied() == columns[i].last().copied()
    };
    let decode = mean_ns(|| assert!((0..columns.len()).all(&mut get), "values come back"));
    let bytes = encoded.iter().map(|(bytes, _)| bytes.len()).sum();
    Measured { bytes, encode: n as f64 / encode * 1e3, decode: n as f64 / decode * 1e3 }
}

fn columns(columns: &[Vec<f64>]) -> Measured {
    let n: usize = columns.iter().map(Vec::len).sum();
    let mut out = Vec::new();
    let encode = mean_ns(|| {
        for values in columns {
            out.clear();
            codec::encode(black_box(values), &mut out);
        }
    });
    let encoded: Vec<Vec<u8>> = columns
        .iter()
        .map(|values| {
            let mut out = Vec::new();
            codec::encode(values, &mut out);
            out
        })
        .collect();
    let mut values = Vec::new();
    let decode = mean_ns(|| {
        for (bytes, column) in encoded.iter().zip(columns) {
            values.clear();
            codec::decode(black_box(bytes), column.len(), &mut values).expect("encoded just now");
        }
    });
    for (bytes, column) in encoded.iter().zip(columns) {
        values.clear();
        codec::decode(bytes, column.len(), &mut values).expect("encoded just now");
        assert!(values.iter().zip(column).all(|(a, b)| a.to_bits() == b.to_bits()), "bits come back");
    }
    let bytes = encoded.iter().map(Vec::len).sum();
    Measured { bytes, encode: n as f64 / encode * 1e3, decode: n as f64 / decode * 1e3 }
}

fn xor(columns: &[Vec<f64>]) -> Measured {
    let n: usize = columns.iter().map(Vec::len).sum();
    let encode = mean_ns(|| columns.iter().for_each(|v| drop(black_box(xor::encode(black_box(v))))));
    let encoded: Vec<Vec<u8>> = columns.iter().map(|v| xor::encode(v)).collect();
    let mut values = Vec::new();
    let decode = mean_ns(|| {
        for (bytes, column) in encoded.iter().zip(columns) {
            values.clear();
            xor::decode(black_box(bytes), column.len(), &mut values);
        }
    });
    for (bytes, column) in encoded.iter().zip(columns) {
        values.clear();
        xor::decode(bytes, column.len(), &mut values);
        assert!(values.iter().zip(column).all(|(a, b)| a.to_bits() == b.to_bits()), "bits come back");
    }
    let bytes = encoded.iter().map(|e| e.len() - xor::PADDING).sum();
    Measured { bytes, encode: n as f64 / encode * 1e3, decode: n as f64 / decode * 1e3 }
}

fn print_row(name: &str, data: &[Vec<f64>]) {
    print_measured(name, &columns(data), &xor(data), data);
}

fn print_measured(name: &str, ours: &Measured, xor: &Measured, data: &[Vec<f64>]) {
    let n = data.iter().map(Vec::len).sum::<usize>() as f64;
    println!(
        "{name:<24}{:>8.3}{:>8.0}{:>8.0} |{:>8.3}{:>8.0}{:>8.0}",
        ours.bytes as f64 / n,
        ours.encode,
        ours.decode,
        xor.bytes as f64 / n,
        xor.encode,
        xor.decode
    );
}

fn print_timestamps() {
    for (name, jitter) in [("steady", 1), ("jitter of 4 ms", 5)] {
        let time = |i: i64| 1_700_000_000_000 + i * 15_000 + i * 7919 % jitter;
        let times: Vec<i64> = (0..kinds::ROWS as i64).map(time).collect();
        let mut bytes = Vec::new();
        codec::encode_timestamps(&times, &mut bytes);
        println!("timestamps, {name}: {} bytes for {}, shared by all series of a target", bytes.len(), times.len());
    }
}

/// The columns of recorded groups by what they look like.
fn print_recorded(groups: &[recorded::Group]) {
    let mut by_kind: BTreeMap<&str, Vec<Vec<f64>>> = BTreeMap::new();
    for column in groups.iter().flat_map(|g| &g.columns) {
        let values = column.present();
        if !values.is_empty() {
            by_kind.entry(kind_of(column.labels.metric_name(), &values)).or_default().push(values);
        }
    }
    for (kind, columns) in &by_kind {
        let samples: usize = columns.iter().map(Vec::len).sum();
        print_row(&format!("{kind} ({samples})"), columns);
    }
    print_row("recorded", &by_kind.into_values().flatten().collect::<Vec<_>>());
}

fn kind_of(metric: &str, values: &[f64]) -> &'static str {
    let regular: Vec<f64> = values.iter().copied().filter(|v| !v.is_nan()).collect();
    let is_integer = regular.iter().all(|v| v.fract() == 0.0);
    match () {
        () if regular.windows(2).all(|w| w[0].to_bits() == w[1].to_bits()) => "r constant",
        () if metric.ends_with("_bucket") => "r bucket",
        () if regular.is_sorted() && is_integer => "r counter",
        () if regular.is_sorted() => "r counter, float",
        () if is_integer => "r gauge",
        () => "r gauge, float",
    }
}

fn print_block(groups: &[recorded::Group]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let vfs: Arc<dyn Vfs> = Arc::new(RealVfs);
    let ulid = Ulid::new(1, 0);
    let blocks = folder.path().join("blocks");
    vfs.create_dir_all(&blocks).expect("the folder can be written");
    let mut writer = BlockWriter::new(Arc::clone(&vfs), &blocks, ulid, 1).expect("the folder can be written");
    for group in groups {
        let columns: Vec<ColumnInput<'_>> = group
            .columns
            .iter()
            .map(|c| ColumnInput {
                labels: c.labels.clone(),
                values: &c.values,
                presence: Some(&c.presence),
                histograms: &[],
            })
            .collect();
        writer.add_group(&GroupInput { timestamps: &group.timestamps, columns: &columns }).expect("a group of series");
    }
    let meta = writer.finish().expect("the block can be written");
    verify(&*vfs, &blocks.join(ulid.to_string())).expect("written just now");
    let clock = Arc::new(SystemClock::new());
    let (db, _) = Db::open(vfs, clock, folder.path(), DbOptions::server()).expect("written just now");
    let found = db.analyze(Some(ulid), 0, &mut |_, _| {}, &Cancel::new()).expect("written just now");
    let part = found.parts.first().expect("the block");
    let per_sample = |bytes: u64| bytes as f64 / meta.n_samples as f64;
    let framing = meta.data_bytes - part.value_bytes - part.timestamp_bytes;
    println!(
        "block of {} series, {} samples: {:.4} B/sample = values {:.4} + timestamps {:.4} + pages {:.4} + index {:.4}",
        meta.n_series,
        meta.n_samples,
        per_sample(meta.bytes()),
        per_sample(part.value_bytes),
        per_sample(part.timestamp_bytes),
        per_sample(framing),
        per_sample(meta.index_bytes),
    );
    let index = part.index_bytes.map(per_sample);
    println!("index: dictionaries, postings, series, groups: {index:.4?}");
    let mut metrics = found.metrics;
    metrics.sort_by_key(|m| std::cmp::Reverse(m.bytes));
    for m in metrics.into_iter().take(12) {
        println!("{:>9} bytes, {:.3} B/sample: {}", m.bytes, m.bytes as f64 / m.n_samples as f64, m.metric);
    }
}
