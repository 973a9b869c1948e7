//! Chunks of Prometheus outside of its blocks, as remote read streams them.

use promontory_model::ColumnRef;
use promontory_model::histogram::HistogramSample;

use super::runs::Runs;
use super::{histogram, xor};

/// How the samples of a chunk are stored; the numbers are those of blocks and of remote read.
pub use super::chunks::Encoding as ChunkEncoding;

/// Samples of one series, encoded.
#[derive(Debug, Clone, Copy)]
pub struct StreamedChunk<'a> {
    /// What is inside.
    pub encoding: ChunkEncoding,
    /// Time of the first sample.
    pub mint: i64,
    /// Time of the last.
    pub maxt: i64,
    /// As in a block, without length, encoding and checksum.
    pub data: &'a [u8],
}

/// Encodes the samples of columns; buffers are used again.
#[derive(Default)]
pub struct ChunkEncoder(Runs);

impl ChunkEncoder {
    /// Calls `each` with the chunks of a column, in order.
    ///
    /// # Errors
    /// The first of `each`, which is not called again.
    pub fn encode<E>(
        &mut self,
        times: &[i64],
        column: &ColumnRef<'_>,
        mut each: impl FnMut(StreamedChunk<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.0.cut(times, column, |c| {
            each(StreamedChunk { encoding: c.encoding, mint: c.mint, maxt: c.maxt, data: c.data })
        })
    }
}

/// Bytes that are no chunk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("chunk: {what} at byte {offset}")]
pub struct ChunkError {
    what: &'static str,
    offset: usize,
}

/// Samples of a chunk.
#[derive(Debug, Default)]
pub struct ChunkSamples {
    /// Times of the floats.
    pub times: Vec<i64>,
    /// As many as times.
    pub values: Vec<f64>,
    /// Times and histograms.
    pub histograms: Vec<(i64, HistogramSample)>,
}

/// Appends the samples of a chunk of this encoding, as streamed, to `out`.
///
/// # Errors
/// [`ChunkError`] when it is damaged or of another encoding.
pub fn decode_chunk(encoding: i32, data: &[u8], out: &mut ChunkSamples) -> Result<(), ChunkError> {
    let read = match encoding {
        1 => xor::decode(data, &mut out.times, &mut out.values),
        2 | 3 => histogram::decode(data, encoding == 3, &mut out.histograms),
        _ => return Err(ChunkError { what: "encoding that is not known", offset: 0 }),
    };
    read.map_err(|e| ChunkError { what: e.what, offset: e.offset })
}
