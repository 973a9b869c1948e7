//! Entry point for fuzzing: any bytes are the files of a block whose checksums are all right.

use std::path::Path;
use std::sync::Arc;

use promontory_model::{Cancel, Columns, Labels, MatchOp, Matcher, Select, TimeRange};

use super::block::PrometheusBlock;
use super::chunks::CHUNKS_DIR;
use super::file::ignoring_sums;
use super::index::INDEX_FILE;
use super::meta::{META_FILE, Meta};
use super::tombstones::TOMBSTONES_FILE;
use crate::select::{self, NamedSource};
use crate::source::Source as _;
use crate::ulid::Ulid;
use crate::vfs::{self, SimVfs, Vfs as _};

/// Reads a block of the index, the chunks and the tombstones in `data`: the first two begin with their length in two
/// bytes, little-endian. Opens it as one that covers all times, and asks for everything.
pub(crate) fn fuzz_block(data: &[u8]) {
    ignoring_sums(|| use_all(data));
}

fn use_all(data: &[u8]) {
    let (index, rest) = part(data);
    let (chunks, tombstones) = part(rest);
    let vfs = SimVfs::new();
    let ulid = Ulid::new(1, 1);
    let path = Path::new("data").join(ulid.to_string());
    let meta = Meta {
        ulid,
        range: TimeRange::new(i64::MIN / 2, i64::MAX / 2),
        n_samples: 1,
        n_float_samples: 1,
        n_histogram_samples: 0,
        n_series: 1,
        n_chunks: 1,
        level: 1,
        sources: Vec::new(),
        replaces: Vec::new(),
    };
    let meta = meta.to_text(&Labels::empty());
    // A simulated disk without end refuses nothing.
    let _ = vfs.create_dir_all(&path.join(CHUNKS_DIR));
    for (name, bytes) in
        [(META_FILE, meta.as_bytes()), (INDEX_FILE, index), ("chunks/000001", chunks), (TOMBSTONES_FILE, tombstones)]
    {
        let _ = vfs::replace(&vfs, &path.join(name), bytes);
    }
    let Ok(block) = PrometheusBlock::open(&vfs, &path) else { return };
    let cancel = Cancel::new();
    let matchers = [Matcher::new("a", MatchOp::Regex, ".+").expect("a valid expression")];
    for matchers in [&matchers[..], &[]] {
        let ask = Select { range: TimeRange::ALL, matchers, cancel: &cancel };
        let mut out = Vec::new();
        let _ = block.label_names(&ask, &mut out);
        let _ = block.label_values("a", &ask, 10, &mut out);
        let source = NamedSource { source: Arc::clone(&block) as _, name: None };
        let Ok(found) = select::select(&[source], &ask) else { continue };
        let mut columns = Columns::default();
        for batch in &found.batches {
            if batch.read(0..batch.n_series(), TimeRange::ALL, &mut columns).is_ok() {
                assert!(columns.timestamps().windows(2).all(|w| w[0] < w[1]), "times ascend");
            }
        }
    }
}

/// The part whose length the first two bytes say, and what follows it.
fn part(data: &[u8]) -> (&[u8], &[u8]) {
    let Some((len, rest)) = data.split_first_chunk::<2>() else { return (&[], &[]) };
    rest.split_at(usize::from(u16::from_le_bytes(*len)).min(rest.len()))
}
