//! Entry points for fuzzing: each takes any bytes for a file of the data folder, mends their checksums, opens a database
//! with them, reads all of it and maintains it. Whatever the bytes are, it must come back.

use std::path::Path;
use std::sync::Arc;

use promontory_model::{Cancel, Columns, Labels, Queryable as _, Select, TimeRange, Timestamp};

use crate::clock::ManualClock;
use crate::head::chunk::{HEADER_BYTES, Header, MAGIC};
use crate::head::index::{Index, Place};
use crate::head::segment;
use crate::head::series_file::{self, Mark};
use crate::manifest::Manifest;
use crate::recovery::{BLOCKS_DIR, HEAD_DIR, WAL_DIR};
use crate::tombstone;
use crate::vfs::{self, SimVfs, Vfs as _};
use crate::wal::page::{self, FileHeader, read_segment};
use crate::wal::segment_name;
use crate::{Db, DbOptions, block};

const DIR: &str = "data";
/// Series that batches of [`series`] and chunks of [`head_segment`] can belong to.
const N_SERIES: u32 = 4;

/// A folder with these files, and a manifest unless it is among them.
fn folder(files: &[(String, Vec<u8>)], manifest: Option<&Manifest>) -> SimVfs {
    let vfs = SimVfs::new();
    for dir in [WAL_DIR, HEAD_DIR, BLOCKS_DIR] {
        // Only a full simulated disk refuses, and this one has no end.
        let _ = vfs.create_dir_all(&Path::new(DIR).join(dir));
    }
    let manifest = manifest.map(|m| (crate::manifest::NAME.to_owned(), m.encode()));
    for (name, bytes) in files.iter().chain(&manifest) {
        let _ = vfs::replace(&vfs, &Path::new(DIR).join(name), bytes);
    }
    vfs
}

/// Opens the folder, reads all of it, appends to it, maintains and closes it; once more after that. Samples may be lost,
/// but are not there twice.
fn use_folder(vfs: &SimVfs) {
    for _ in 0..2 {
        let clock = Arc::new(ManualClock::new(Timestamp(1_000_000)));
        let options = DbOptions { commit_interval_ms: None, reserve_bytes: 0, ..DbOptions::server() };
        let Ok((db, _)) = Db::open(Arc::new(vfs.clone()), clock, Path::new(DIR), options) else { return };
        read_all(&db);
        let mut writer = db.writer();
        if let Ok(series) = writer.resolve(&labels(0)) {
            let _ = writer.append(Timestamp(1_000_000), &[(series, 1.0)]);
        }
        let _ = db.tick();
        read_all(&db);
        let _ = db.close();
    }
}

fn read_all(db: &Db) {
    let cancel = Cancel::new();
    let select = Select { range: TimeRange::ALL, matchers: &[], cancel: &cancel };
    let Ok(snapshot) = db.snapshot() else { return };
    let _ = snapshot.label_names(&select);
    let Ok(found) = snapshot.select(&select) else { return };
    let mut columns = Columns::default();
    for batch in found.batches {
        if batch.read(0..batch.n_series(), TimeRange::ALL, &mut columns).is_ok() {
            assert!(columns.timestamps().windows(2).all(|w| w[0] < w[1]), "times ascend");
        }
    }
}

fn labels(i: u32) -> Labels {
    Labels::from_pairs([("__name__", "up".to_owned()), ("instance", i.to_string())])
}

/// The bytes are records of the log: the length of each in two bytes, then what it holds. All come back from the
/// segment they are written to; the bytes are also taken for a segment.
pub fn wal(data: &[u8]) {
    read_segment(1, data, |_, record| drop(crate::wal::record::read(record)));
    let mut records: Vec<&[u8]> = Vec::new();
    let mut rest = data;
    while let Some((len, after)) = rest.split_first_chunk::<2>() {
        let (record, after) = after.split_at(usize::from(u16::from_le_bytes(*len)).min(after.len()));
        records.extend((!record.is_empty()).then_some(record));
        rest = after;
    }
    let mut framed = Vec::new();
    records.iter().for_each(|record| page::put_record(&mut framed, |out| out.extend_from_slice(record)));
    let mut bytes = FileHeader { segment: 1, previous_bytes: 0 }.encode().to_vec();
    page::put_pages(&mut bytes, &framed, &mut snap::raw::Encoder::new());
    let mut read = Vec::new();
    let damage = read_segment(1, &bytes, |_, record| read.push(record.to_vec()));
    assert!(damage.places.is_empty() && damage.torn_at.is_none() && read == records, "{damage:?}");
    use_folder(&folder(&[(format!("{WAL_DIR}/{}", segment_name(1)), bytes)], None));
}

/// The bytes are a head segment; the series of its first columns are known.
pub fn head_segment(data: &[u8]) {
    let mut bytes = data.to_vec();
    if let Some(header) = bytes.first_chunk_mut::<{ segment::FILE_HEADER_BYTES }>() {
        *header = segment::file_header();
    }
    let mut at = segment::FILE_HEADER_BYTES;
    while let Some(header) = bytes.get_mut(at..at + HEADER_BYTES) {
        header[..4].copy_from_slice(&MAGIC.to_le_bytes());
        let len = u32::from_le_bytes([header[8], header[9], header[10], header[11]]) as usize;
        let end = (at + HEADER_BYTES).saturating_add(len).min(bytes.len());
        let crc = crc32fast::hash(&bytes[at + HEADER_BYTES..end]);
        bytes[at + 12..at + 16].copy_from_slice(&crc.to_le_bytes());
        let crc = crc32fast::hash(&bytes[at + 8..at + HEADER_BYTES]);
        bytes[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
        let _ = Header::read(&bytes[at..]);
        at = end;
    }
    let mut index = Index::default();
    for i in 0..N_SERIES {
        let _ = index.insert(&labels(i), Place { group: i / 3, column: i % 3 });
    }
    let mut series = series_file::file_header().to_vec();
    series_file::put_batch(&mut series, &index, Mark::default(), &[]);
    let manifest = Manifest {
        next_group: 2,
        next_segment: 2,
        series: (1, series.len() as u64),
        segments: vec![(1, bytes.len() as u64)],
        ..Manifest::default()
    };
    let name = |name: &str| format!("{HEAD_DIR}/{name}");
    let files = [(name(&segment::segment_name(1)), bytes), (name(&series_file::file_name(1)), series)];
    use_folder(&folder(&files, Some(&manifest)));
}

/// The bytes are a series file.
pub fn series(data: &[u8]) {
    let mut bytes = data.to_vec();
    if let Some(header) = bytes.first_chunk_mut::<{ series_file::FILE_HEADER_BYTES }>() {
        *header = series_file::file_header();
    }
    let mut at = series_file::FILE_HEADER_BYTES;
    while let Some(frame) = bytes.get(at..at + 8) {
        let len = u32::from_le_bytes([frame[0], frame[1], frame[2], frame[3]]) as usize;
        let end = (at + 8).saturating_add(len).min(bytes.len());
        let crc = crc32fast::hash(&bytes[at + 8..end]);
        bytes[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
        at = end;
    }
    let manifest = Manifest { series: (1, bytes.len() as u64), next_group: 1, ..Manifest::default() };
    use_folder(&folder(&[(format!("{HEAD_DIR}/{}", series_file::file_name(1)), bytes)], Some(&manifest)));
}

/// The bytes are a manifest; one that is read is written as it was read.
pub fn manifest(data: &[u8]) {
    let bytes = mended(data);
    let vfs = folder(&[(crate::manifest::NAME.to_owned(), bytes)], None);
    if let Ok(Some(manifest)) = Manifest::load(&vfs, Path::new(DIR)) {
        assert!(manifest.store(&vfs, Path::new(DIR)).is_ok());
        assert_eq!(Manifest::load(&vfs, Path::new(DIR)).ok().flatten(), Some(manifest));
    }
    use_folder(&vfs);
}

/// The bytes are a list of tombstones; one that is read is written as it was read.
pub fn tombstones(data: &[u8]) {
    let bytes = mended(data);
    let vfs = folder(&[(format!("{HEAD_DIR}/{}", tombstone::NAME), bytes)], None);
    let dir = Path::new(DIR).join(HEAD_DIR);
    if let Ok(read) = tombstone::Tombstones::load(&vfs, &dir) {
        assert!(read.store(&vfs, &dir).is_ok());
        assert_eq!(tombstone::Tombstones::load(&vfs, &dir).ok(), Some(read));
    }
    use_folder(&vfs);
}

/// The bytes are the index, the chunks and the tombstones of a block of Prometheus.
pub fn prometheus_block(data: &[u8]) {
    crate::prometheus::fuzz_block(data);
}

/// The bytes are the meta file of a block; one that is read is written as it was read.
pub fn block_meta(data: &[u8]) {
    block::fuzz_meta(data);
}

/// The checksum in the last four bytes is set right.
fn mended(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    if let Some((head, crc)) = bytes.split_last_chunk_mut::<4>() {
        *crc = crc32fast::hash(head).to_le_bytes();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documented::{bytes_of, fenced};
    use crate::vfs::sim::Rng;

    /// Mutations per target: `PROMONTORY_FUZZ`.
    fn n_mutations() -> u64 {
        std::env::var("PROMONTORY_FUZZ").map_or(40, |n| n.parse().expect("a number"))
    }

    /// Some mutations of `seed`, for where no fuzzer runs.
    fn check(target: fn(&[u8]), seed: &[u8]) {
        target(seed);
        let first = std::env::var("PROMONTORY_FUZZ_SEED").map_or(0, |n| n.parse().expect("a number"));
        for n in first..first + n_mutations() {
            let mut rng = Rng::new(n);
            let mut bytes = seed.to_vec();
            for _ in 0..=rng.up_to(4) {
                let at = rng.up_to(bytes.len().saturating_sub(1));
                match rng.up_to(5) {
                    0 if !bytes.is_empty() => bytes[at] ^= 1 << rng.up_to(7),
                    1 if !bytes.is_empty() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][rng.up_to(4)],
                    2 => bytes.truncate(at.max(bytes.len() / 2)),
                    3 => drop(bytes.splice(at..at, std::iter::repeat_n(0xff, rng.up_to(9)))),
                    4 => {
                        let from = rng.up_to(bytes.len());
                        let copied = bytes[from..bytes.len().min(from + rng.up_to(80))].to_vec();
                        drop(bytes.splice(at..at, copied));
                    }
                    _ => drop(bytes.drain(at..bytes.len().min(at + rng.up_to(3)))),
                }
            }
            let done = std::panic::catch_unwind(|| target(&bytes));
            done.unwrap_or_else(|_| panic!("mutation {n}: {bytes:02x?}"));
        }
    }

    const HEAD: &str = include_str!("../docs/format/head-segment.md");

    /// Records as [`wal`] takes them.
    fn records() -> Vec<u8> {
        let bytes = bytes_of(fenced(include_str!("../docs/format/wal.md"), "wal"));
        let mut out = Vec::new();
        read_segment(1, &bytes, |_, record| {
            out.extend_from_slice(&(record.len() as u16).to_le_bytes());
            out.extend_from_slice(record);
        });
        out
    }

    #[test]
    fn hostile_records_of_the_log_never_panic() {
        check(wal, &records());
    }

    #[test]
    fn hostile_head_segments_never_panic() {
        check(head_segment, &bytes_of(fenced(HEAD, "segment")));
    }

    #[test]
    fn hostile_series_files_never_panic() {
        check(series, &bytes_of(fenced(HEAD, "series")));
    }

    #[test]
    fn hostile_manifests_never_panic() {
        check(manifest, &bytes_of(fenced(include_str!("../docs/format/manifest.md"), "manifest")));
    }

    #[test]
    fn hostile_tombstones_never_panic() {
        let mut list = tombstone::Tombstones::default();
        list.add(0, TimeRange::new(1, 5), [1, 2, 3, 7].into_iter().collect());
        list.add(3, TimeRange::new(-9, 50), [0].into_iter().collect());
        check(tombstones, &list.encode());
    }

    /// The files of the documented block, as [`prometheus_block`] takes them.
    fn documented_block() -> Vec<u8> {
        let text = include_str!("../docs/format/prometheus.md");
        let mut out = Vec::new();
        for name in ["prometheus-index", "prometheus-chunks"] {
            let bytes = bytes_of(fenced(text, name));
            out.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
            out.extend_from_slice(&bytes);
        }
        // One sample is deleted.
        out.extend_from_slice(&[0x01, 0x30, 0xba, 0x30, 1, 2, 0, 0, 0, 0, 0, 0]);
        out
    }

    #[test]
    fn hostile_blocks_of_prometheus_never_panic() {
        check(prometheus_block, &documented_block());
    }

    #[test]
    fn hostile_metas_never_panic() {
        check(block_meta, fenced(include_str!("../docs/format/block.md"), "meta").as_bytes());
    }
}
