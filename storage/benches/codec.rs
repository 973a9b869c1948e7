//! How many bytes does a sample take, and how fast is it encoded and decoded?
//!
//! Columns of 480 values (2 h at 15 s) of the kinds that exporters send, made from a fixed seed. Run with
//! `cargo bench -p promontory-storage --bench codec`; bytes per sample are printed first. Throughput is values per
//! second of one core.

#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::print_stderr, reason = "sizes are part of the answer")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use promontory_storage::codec;

/// Values per column.
const ROWS: usize = 480;
/// Columns per kind: enough to leave the nearest cache.
const COLUMNS: usize = 200;

/// Numbers from a fixed seed (SplitMix64).
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

type Kind = (&'static str, fn(&mut Rng) -> Vec<f64>);

const KINDS: [Kind; 7] = [
    ("constant", |r| vec![r.below(1 << 20) as f64; ROWS]),
    ("counter", |r| {
        let rate = 1 + r.below(1000);
        sums(r, |r| rate + r.below(rate / 8 + 2)).map(|v| v as f64).collect()
    }),
    ("counter-seconds", |r| sums(r, |r| r.below(1500)).map(|v| v as f64 / 100.0).collect()),
    ("bucket", |r| {
        let busy = 1 + r.below(4);
        sums(r, |r| if r.below(4) < busy { r.below(12) } else { 0 }).map(|v| v as f64).collect()
    }),
    ("gauge-bytes", |r| {
        let mut at = 1i64 << 20;
        (0..ROWS)
            .map(|_| {
                at += r.below(200) as i64 - 100;
                (at * 4096) as f64
            })
            .collect()
    }),
    ("gauge-ratio", |r| (0..ROWS).map(|_| r.below(10_000) as f64 / 10_000.0).collect()),
    ("gauge-float", |r| (0..ROWS).map(|_| r.next() as f64 / u64::MAX as f64).collect()),
];

fn sums(r: &mut Rng, mut step: impl FnMut(&mut Rng) -> u64) -> impl Iterator<Item = u64> {
    let mut at = r.below(1 << 30);
    (0..ROWS).map(move |_| {
        at += step(r);
        at
    })
}

fn columns(make: fn(&mut Rng) -> Vec<f64>) -> Vec<Vec<f64>> {
    let mut rng = Rng(7);
    (0..COLUMNS).map(|_| make(&mut rng)).collect()
}

fn values(c: &mut Criterion) {
    for (name, make) in KINDS {
        let columns = columns(make);
        let encoded: Vec<Vec<u8>> = columns
            .iter()
            .map(|values| {
                let mut out = Vec::new();
                codec::encode(values, &mut out);
                out
            })
            .collect();
        let bytes: usize = encoded.iter().map(Vec::len).sum();
        eprintln!("{name}: {:.3} bytes per sample", bytes as f64 / (ROWS * COLUMNS) as f64);
        let mut group = c.benchmark_group("values");
        group.throughput(Throughput::Elements((ROWS * COLUMNS) as u64));
        group.bench_function(BenchmarkId::new("encode", name), |b| {
            let mut out = Vec::new();
            b.iter(|| {
                for values in &columns {
                    out.clear();
                    codec::encode(black_box(values), &mut out);
                }
            });
        });
        group.bench_function(BenchmarkId::new("decode", name), |b| {
            let mut out = Vec::new();
            b.iter(|| {
                for bytes in &encoded {
                    out.clear();
                    codec::decode(black_box(bytes), ROWS, &mut out).expect("encoded just now");
                }
            });
        });
        group.finish();
    }
}

fn timestamps(c: &mut Criterion) {
    let mut rng = Rng(7);
    let kinds: [(&str, u64); 2] = [("steady", 1), ("jitter", 5)];
    for (name, jitter) in kinds {
        let times: Vec<i64> =
            (0..ROWS as i64).map(|i| 1_700_000_000_000 + i * 15_000 + rng.below(jitter) as i64).collect();
        let mut bytes = Vec::new();
        codec::encode_timestamps(&times, &mut bytes);
        eprintln!("timestamps {name}: {} bytes for {ROWS}", bytes.len());
        let mut group = c.benchmark_group("timestamps");
        group.throughput(Throughput::Elements(ROWS as u64));
        group.bench_function(BenchmarkId::new("decode", name), |b| {
            let mut out = Vec::new();
            b.iter(|| {
                out.clear();
                codec::decode_timestamps(black_box(&bytes), ROWS, &mut out).expect("encoded just now");
            });
        });
        group.finish();
    }
}

criterion_group!(benches, values, timestamps);
criterion_main!(benches);
