//! The file `index`: strings, series with the places of their chunks, and the series of each label pair.

pub(super) mod read;
pub(super) mod write;

/// Name of the file.
pub(super) const INDEX_FILE: &str = "index";
const MAGIC: u32 = 0xbaaa_d700;
const HEADER_BYTES: usize = 5;
/// Six offsets and a CRC at the end of the file.
const TOC_BYTES: usize = 6 * 8 + 4;
/// Series begin at multiples of this, and are referred to by the quotient.
const SERIES_ALIGN: u64 = 16;

/// Where a chunk lies and which times it covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChunkMeta {
    pub(super) mint: i64,
    pub(super) maxt: i64,
    pub(super) reference: u64,
}
