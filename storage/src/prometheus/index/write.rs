//! Writes an index of version 2 for sorted series.
//!
//! Memory: what the caller holds of the series, and four bytes per series and label for the series of each pair.

use std::collections::BTreeMap;
use std::path::Path;

use promontory_model::Labels;
use rapidhash::fast::RandomState;

use super::{ChunkMeta, INDEX_FILE, MAGIC, SERIES_ALIGN};
use crate::prometheus::PrometheusError;
use crate::ulid::Ulid;
use crate::vfs::{Vfs, VfsFile};
use crate::wire::{put_varint, put_zigzag};

const VERSION: u8 = 2;
/// Bytes that are gathered before a write.
const WRITE_BYTES: usize = 1 << 20;

type HashMap<K, V> = std::collections::HashMap<K, V, RandomState>;

/// A series and its chunks, oldest first.
#[derive(Debug)]
pub(in crate::prometheus) struct SeriesEntry {
    pub(in crate::prometheus) labels: Labels,
    pub(in crate::prometheus) chunks: Vec<ChunkMeta>,
}

/// A growing file whose length is known.
struct Out {
    file: Box<dyn VfsFile>,
    ulid: Ulid,
    buffer: Vec<u8>,
    written: u64,
}

impl Out {
    fn at(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    fn flush_over(&mut self, limit: usize) -> Result<(), PrometheusError> {
        if self.buffer.len() > limit {
            self.file.write_all(&self.buffer)?;
            self.written += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }

    fn pad(&mut self, align: u64) {
        while !self.at().is_multiple_of(align) {
            self.buffer.push(0);
        }
    }

    /// A section whose body is in memory: length, body, CRC. Gives its offset.
    fn section(&mut self, what: &'static str, body: &[u8]) -> Result<u64, PrometheusError> {
        let at = self.at();
        let len = u32::try_from(body.len()).map_err(|_| PrometheusError::TooLarge {
            ulid: self.ulid,
            what,
            limit: u64::from(u32::MAX),
        })?;
        self.buffer.extend_from_slice(&len.to_be_bytes());
        self.buffer.extend_from_slice(body);
        self.buffer.extend_from_slice(&crc32c::crc32c(body).to_be_bytes());
        self.flush_over(WRITE_BYTES)?;
        Ok(at)
    }
}

/// Numbers of the strings of all label pairs.
struct Symbols<'a> {
    numbers: HashMap<&'a str, u32>,
    body: Vec<u8>,
}

impl<'a> Symbols<'a> {
    fn of(series: &'a [SeriesEntry]) -> Self {
        let mut sorted: Vec<&str> = Vec::new();
        let mut numbers: HashMap<&str, u32> = HashMap::default();
        // Prometheus always has the empty string.
        let texts = series.iter().flat_map(|s| s.labels.iter()).flat_map(|(n, v)| [n, v]);
        for text in std::iter::once("").chain(texts) {
            if numbers.insert(text, 0).is_none() {
                sorted.push(text);
            }
        }
        sorted.sort_unstable();
        let mut body = (sorted.len() as u32).to_be_bytes().to_vec();
        for (i, text) in sorted.into_iter().enumerate() {
            put_varint(&mut body, text.len() as u64);
            body.extend_from_slice(text.as_bytes());
            numbers.insert(text, i as u32);
        }
        Self { numbers, body }
    }

    fn number(&self, text: &str) -> u32 {
        self.numbers[text]
    }
}

/// Writes and syncs the index of the block in the folder `block`; gives its length. `series` are sorted by labels.
pub(in crate::prometheus) fn write(
    vfs: &dyn Vfs,
    block: &Path,
    ulid: Ulid,
    series: &[SeriesEntry],
) -> Result<u64, PrometheusError> {
    debug_assert!(series.windows(2).all(|w| w[0].labels < w[1].labels));
    let file = vfs.create(&block.join(INDEX_FILE))?;
    let mut out = Out { file, ulid, buffer: Vec::new(), written: 0 };
    out.buffer.extend_from_slice(&MAGIC.to_be_bytes());
    out.buffer.push(VERSION);
    let symbols = Symbols::of(series);
    let symbols_at = out.section("the table of strings", &symbols.body)?;
    let (series_at, pairs, all) = write_series(&mut out, series, &symbols)?;
    out.pad(4);
    let postings_at = out.at();
    let mut table = Vec::new();
    let mut n_lists = 0u32;
    let lists = std::iter::once((("", ""), &all)).chain(pairs.iter().map(|(pair, list)| (*pair, list)));
    let mut body = Vec::new();
    for ((name, value), list) in lists {
        body.clear();
        body.extend_from_slice(&(list.len() as u32).to_be_bytes());
        list.iter().for_each(|s| body.extend_from_slice(&s.to_be_bytes()));
        out.pad(4);
        let at = out.section("the series of a label pair", &body)?;
        table.push(2);
        for text in [name, value] {
            put_varint(&mut table, text.len() as u64);
            table.extend_from_slice(text.as_bytes());
        }
        put_varint(&mut table, at);
        n_lists += 1;
    }
    let mut body = n_lists.to_be_bytes().to_vec();
    body.append(&mut table);
    let table_at = out.section("the table of label pairs", &body)?;
    let mut toc = Vec::new();
    // Nobody reads the lists of values of each name any more; 0 says that there are none.
    for offset in [symbols_at, series_at, 0, 0, postings_at, table_at] {
        toc.extend_from_slice(&offset.to_be_bytes());
    }
    let crc = crc32c::crc32c(&toc);
    toc.extend_from_slice(&crc.to_be_bytes());
    out.buffer.append(&mut toc);
    out.flush_over(0)?;
    out.file.sync()?;
    Ok(out.written)
}

/// Series of each pair, and all of them.
type Postings<'a> = BTreeMap<(&'a str, &'a str), Vec<u32>>;

fn write_series<'a>(
    out: &mut Out,
    series: &'a [SeriesEntry],
    symbols: &Symbols<'_>,
) -> Result<(u64, Postings<'a>, Vec<u32>), PrometheusError> {
    let ulid = out.ulid;
    let mut pairs: HashMap<(&str, &str), Vec<u32>> = HashMap::default();
    let mut all = Vec::with_capacity(series.len());
    out.pad(SERIES_ALIGN);
    let series_at = out.at();
    let mut body = Vec::new();
    for s in series {
        body.clear();
        put_varint(&mut body, s.labels.len() as u64);
        for (name, value) in &s.labels {
            put_varint(&mut body, u64::from(symbols.number(name)));
            put_varint(&mut body, u64::from(symbols.number(value)));
        }
        put_varint(&mut body, s.chunks.len() as u64);
        let mut last: Option<ChunkMeta> = None;
        for chunk in &s.chunks {
            match last {
                None => put_zigzag(&mut body, chunk.mint),
                Some(l) => put_varint(&mut body, chunk.mint.wrapping_sub(l.maxt).cast_unsigned()),
            }
            put_varint(&mut body, chunk.maxt.wrapping_sub(chunk.mint).cast_unsigned());
            match last {
                None => put_varint(&mut body, chunk.reference),
                Some(l) => put_zigzag(&mut body, chunk.reference.wrapping_sub(l.reference).cast_signed()),
            }
            last = Some(*chunk);
        }
        out.pad(SERIES_ALIGN);
        let reference = u32::try_from(out.at() / SERIES_ALIGN).map_err(|_| PrometheusError::TooLarge {
            ulid,
            what: "the index",
            limit: SERIES_ALIGN << 32,
        })?;
        put_varint(&mut out.buffer, body.len() as u64);
        out.buffer.extend_from_slice(&body);
        out.buffer.extend_from_slice(&crc32c::crc32c(&body).to_be_bytes());
        out.flush_over(WRITE_BYTES)?;
        all.push(reference);
        for pair in &s.labels {
            pairs.entry(pair).or_default().push(reference);
        }
    }
    Ok((series_at, pairs.into_iter().collect(), all))
}
