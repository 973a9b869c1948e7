//! How fast is a block written, and two of them merged?
//!
//! 20 targets of 500 series (half constant, a quarter counters, a quarter gauges) for 2 h at 15 s: 4.8 M samples per
//! block, on the file system of the temporary folder. Run with `cargo bench -p promontory-storage --bench block`; bytes
//! per sample and per series are printed first. Throughput is samples per second of one core, syncs and the full check
//! of a merge included.

#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::print_stderr, reason = "sizes are part of the answer")]

use std::path::Path;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use promontory_model::{Cancel, Labels};
use promontory_storage::block::{BlockMeta, BlockReader, BlockWriter, ColumnInput, GroupInput, delete, verify};
use promontory_storage::compact::compact;
use promontory_storage::ulid::Ulid;
use promontory_storage::vfs::{RealVfs, Vfs};

const TARGETS: usize = 20;
const SERIES: usize = 500;
const ROWS: usize = 480;

fn value(series: usize, row: usize) -> f64 {
    let noise = ((row * 7919 + series * 104_729) % 97) as f64;
    match series % 4 {
        0 | 1 => (series * 3) as f64,
        2 => (row * series) as f64 + noise,
        _ => noise * 4096.0,
    }
}

/// Labels of a target's series, as exporters have them.
fn labels(target: usize, series: usize) -> Labels {
    Labels::from_pairs([
        ("__name__", format!("metric_{}_total", series / 4)),
        ("instance", format!("10.0.0.{target}:9100")),
        ("job", "node".to_owned()),
        ("mode", format!("mode-{}", series % 4)),
        ("namespace", format!("team-{}", target % 5)),
        ("pod", format!("exporter-{target:05}-x7f")),
    ])
}

fn write(vfs: &Arc<dyn Vfs>, dir: &Path, ulid: Ulid, start: i64, columns: &[Vec<f64>]) -> BlockMeta {
    let mut writer = BlockWriter::new(Arc::clone(vfs), dir, ulid, 1).expect("the folder can be written");
    for target in 0..TARGETS {
        let timestamps: Vec<i64> = (0..ROWS as i64).map(|r| start + r * 15_000 + target as i64).collect();
        let columns: Vec<ColumnInput<'_>> = columns
            .iter()
            .enumerate()
            .map(|(s, values)| ColumnInput { labels: labels(target, s), values, presence: None, histograms: &[] })
            .collect();
        writer.add_group(&GroupInput { timestamps: &timestamps, columns: &columns }).expect("a group of series");
    }
    writer.finish().expect("the block can be written")
}

fn blocks(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dir = folder.path();
    let vfs: Arc<dyn Vfs> = Arc::new(RealVfs);
    let columns: Vec<Vec<f64>> = (0..SERIES).map(|s| (0..ROWS).map(|r| value(s, r)).collect()).collect();
    let two_hours = ROWS as i64 * 15_000;
    let inputs: Vec<Arc<BlockReader>> = (0..2)
        .map(|i| {
            let ulid = Ulid::new(i, 0);
            let meta = write(&vfs, dir, ulid, i as i64 * two_hours, &columns);
            if i == 0 {
                let (samples, series) = (meta.n_samples as f64, meta.n_series as f64);
                let index = meta.index_bytes as f64;
                eprintln!(
                    "block: {:.3} bytes per sample, index {:.1} per series",
                    meta.bytes() as f64 / samples,
                    index / series
                );
            }
            BlockReader::open(&*vfs, &dir.join(ulid.to_string())).expect("written just now")
        })
        .collect();
    let n_samples = (TARGETS * SERIES * ROWS) as u64;
    let output = Ulid::new(9, 0);
    let mut group = c.benchmark_group("block");
    group.sample_size(10);
    group.throughput(Throughput::Elements(n_samples));
    let remove = || delete(&*vfs, dir, output).expect("own folder");
    group.bench_function("write", |b| {
        b.iter_batched(remove, |()| write(&vfs, dir, output, 0, &columns), BatchSize::PerIteration);
    });
    group.bench_function("verify", |b| {
        b.iter(|| verify(&*vfs, &dir.join(Ulid::new(0, 0).to_string())).expect("written just now"));
    });
    group.throughput(Throughput::Elements(2 * n_samples));
    group.bench_function("merge", |b| {
        b.iter_batched(
            remove,
            |()| compact(&vfs, dir, &inputs, output, &Cancel::new()).expect("whole inputs"),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, blocks);
criterion_main!(benches);
