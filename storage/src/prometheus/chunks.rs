//! The files in `chunks/`: numbered segments of up to 512 MiB, each a row of chunks with a CRC of their own.
//!
//! A chunk's reference is the position of its segment, counted from 0, in the upper half and its offset in the lower.

use std::path::{Path, PathBuf};

use promontory_model::ReadError;
use promontory_model::histogram::HistogramSample;

use super::file::{CRC_BYTES, File, be16, be32};
use super::{PrometheusError, histogram, xor};
use crate::sample::{Origin, keep_hint_after};
use crate::ulid::Ulid;
use crate::vfs::{Vfs, VfsFile};
use crate::wire::{Reader, put_varint};

/// Folder of the segments.
pub(super) const CHUNKS_DIR: &str = "chunks";
const MAGIC: u32 = 0x85bd_40dd;
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 8;
/// Length at which Prometheus begins another segment.
const SEGMENT_BYTES_MAX: u64 = 512 << 20;
/// Bytes that are gathered before a write.
const WRITE_BYTES: usize = 1 << 20;

/// How the samples of a chunk are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Floats.
    Xor = 1,
    /// Histograms whose counts are integers.
    Histogram = 2,
    /// Histograms of floats.
    FloatHistogram = 3,
}

/// Samples of one series, in the order of their chunks.
#[derive(Debug, Default)]
pub(super) struct Samples {
    pub(super) times: Vec<i64>,
    /// As many as times; 0 where a histogram stands.
    pub(super) values: Vec<f64>,
    /// Positions in `times`, ascending.
    pub(super) histograms: Vec<(u32, HistogramSample)>,
    scratch: Vec<(i64, HistogramSample)>,
}

impl Samples {
    pub(super) fn clear(&mut self) {
        self.times.clear();
        self.values.clear();
        self.histograms.clear();
    }

    pub(super) fn is_ascending(&self) -> bool {
        self.times.windows(2).all(|w| w[0] < w[1])
    }

    /// Adds a histogram that was the `place`th, behind the one that was the `before`th.
    fn put_histogram(&mut self, to: usize, place: usize, before: &mut Option<Origin>, mut h: HistogramSample) {
        keep_hint_after(before.replace((0, place)), (0, place), &mut h);
        self.histograms.push((to as u32, h));
    }

    /// Keeps the samples at the times for which `keep` answers true.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(i64) -> bool) {
        let mut histograms = std::mem::take(&mut self.histograms).into_iter().enumerate().peekable();
        let mut before = None;
        let mut to = 0;
        for from in 0..self.times.len() {
            let histogram = histograms.next_if(|(_, (at, _))| *at as usize == from);
            if keep(self.times[from]) {
                self.times[to] = self.times[from];
                self.values[to] = self.values[from];
                if let Some((place, (_, h))) = histogram {
                    self.put_histogram(to, place, &mut before, h);
                }
                to += 1;
            }
        }
        self.times.truncate(to);
        self.values.truncate(to);
    }

    /// Sorts by time; of samples at one time the first stays.
    pub(super) fn sort(&mut self) {
        let mut order: Vec<u32> = (0..self.times.len() as u32).collect();
        order.sort_by_key(|i| self.times[*i as usize]);
        order.dedup_by_key(|i| self.times[*i as usize]);
        let histograms = std::mem::take(&mut self.histograms);
        let mut before = None;
        for (to, from) in order.iter().enumerate() {
            if let Ok(place) = histograms.binary_search_by_key(from, |(at, _)| *at) {
                self.put_histogram(to, place, &mut before, histograms[place].1.clone());
            }
        }
        self.times = order.iter().map(|i| self.times[*i as usize]).collect();
        self.values = order.iter().map(|i| self.values[*i as usize]).collect();
    }
}

/// The segments of a block.
#[derive(Debug)]
pub(super) struct Chunks {
    dir: PathBuf,
    segments: Vec<File>,
}

impl Chunks {
    /// Maps all segments and looks at their headers.
    pub(super) fn open(vfs: &dyn Vfs, block: &Path) -> Result<Self, ReadError> {
        let dir = block.join(CHUNKS_DIR);
        let mut segments = Vec::new();
        for entry in vfs.read_dir(&dir)? {
            // Their position in the sorted folder counts, not their number.
            if entry.is_dir || !entry.name.bytes().all(|b| b.is_ascii_digit()) {
                continue;
            }
            let file = File::open(vfs, &dir.join(&entry.name))?;
            let mut r = Reader::new(file.bytes());
            let found = be32(&mut r).and_then(|magic| Ok((magic, r.u8()?)));
            let found = found.map_err(|e| file.malformed(0, e))?;
            if found != (MAGIC, VERSION) {
                let text = |(magic, version): (u32, u8)| format!("{magic:08x} version {version}");
                return Err(file.corrupt(0, "header of chunks", text((MAGIC, VERSION)), text(found)));
            }
            segments.push(file);
        }
        Ok(Self { dir, segments })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|s| s.bytes().len() as u64).sum()
    }

    fn locate(&self, reference: u64) -> Option<(&File, usize)> {
        let segment = self.segments.get(usize::try_from(reference >> 32).ok()?)?;
        Some((segment, (reference & 0xffff_ffff) as usize))
    }

    fn missing(&self, reference: u64) -> ReadError {
        let expected = format!("below {}", self.segments.len());
        ReadError::corrupt(&self.dir, reference & 0xffff_ffff, "segment of a chunk", expected, reference >> 32)
    }

    /// Number of samples that the chunk claims; checks nothing.
    pub(super) fn n_samples(&self, reference: u64) -> usize {
        let count = || {
            let (file, offset) = self.locate(reference)?;
            let mut r = Reader::new(file.after(offset as u64));
            let len = r.varint().ok()?;
            r.u8().ok()?;
            // Each sample takes at least two bits.
            let most = len.saturating_mul(4).saturating_add(1);
            Some(u64::from(be16(&mut r).ok()?).min(most))
        };
        count().map_or(0, |n| n as usize)
    }

    /// Checks the CRC and appends the samples.
    pub(super) fn read(&self, reference: u64, out: &mut Samples) -> Result<(), ReadError> {
        let (file, offset) = self.locate(reference).ok_or_else(|| self.missing(reference))?;
        let mut r = Reader::new(file.after(offset as u64));
        let len = r.varint().map_err(|e| file.malformed(offset, e))?;
        let body_at = offset + r.offset();
        let len = usize::try_from(len).ok().and_then(|n| n.checked_add(1));
        let len = len.ok_or_else(|| file.corrupt(offset, "length of a chunk", "inside the file", "more"))?;
        let body = file.checked(body_at, len)?;
        let (encoding, data) = (body[0], &body[1..]);
        let malformed = |e| file.malformed(body_at + 1, e);
        match encoding {
            1 => return xor::decode(data, &mut out.times, &mut out.values).map_err(malformed),
            2 | 3 => histogram::decode(data, encoding == 3, &mut out.scratch).map_err(malformed)?,
            _ => {
                let name = match encoding {
                    0 => "0 (none)".to_owned(),
                    4 => "4 (xor2)".to_owned(),
                    5 => "5 (histogram with start times)".to_owned(),
                    6 => "6 (float histogram with start times)".to_owned(),
                    other => other.to_string(),
                };
                let expected = "1 (xor), 2 (histogram) or 3 (float histogram)";
                return Err(file.corrupt(body_at, "encoding of a chunk", expected, name));
            }
        }
        for (t, h) in out.scratch.drain(..) {
            out.histograms.push((out.times.len() as u32, h));
            out.times.push(t);
            out.values.push(0.0);
        }
        Ok(())
    }
}

/// Writes segments one after the other.
pub(super) struct ChunkWriter<'a> {
    vfs: &'a dyn Vfs,
    ulid: Ulid,
    dir: PathBuf,
    file: Option<Box<dyn VfsFile>>,
    n_segments: u32,
    /// Length of the open segment, with what is buffered.
    len: u64,
    buffer: Vec<u8>,
    segment_bytes_max: u64,
    pub(super) n_chunks: u64,
    pub(super) bytes: u64,
}

impl<'a> ChunkWriter<'a> {
    /// Segments in the folder `chunks` of `block`, which is created.
    pub(super) fn new(vfs: &'a dyn Vfs, block: &Path, ulid: Ulid) -> Result<Self, PrometheusError> {
        let dir = block.join(CHUNKS_DIR);
        vfs.create_dir_all(&dir)?;
        let mut out = Self {
            vfs,
            ulid,
            dir,
            file: None,
            n_segments: 0,
            len: 0,
            buffer: Vec::new(),
            segment_bytes_max: SEGMENT_BYTES_MAX,
            n_chunks: 0,
            bytes: 0,
        };
        out.begin()?;
        Ok(out)
    }

    #[cfg(test)]
    pub(super) fn set_segment_bytes(&mut self, bytes: u64) {
        self.segment_bytes_max = bytes;
    }

    fn begin(&mut self) -> Result<(), PrometheusError> {
        self.end()?;
        self.n_segments += 1;
        self.file = Some(self.vfs.create(&self.dir.join(format!("{:06}", self.n_segments)))?);
        self.buffer.extend_from_slice(&MAGIC.to_be_bytes());
        self.buffer.extend_from_slice(&[VERSION, 0, 0, 0]);
        self.len = HEADER_BYTES as u64;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), PrometheusError> {
        if let Some(file) = &self.file {
            file.write_all(&self.buffer)?;
            self.bytes += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), PrometheusError> {
        self.flush()?;
        if let Some(file) = self.file.take() {
            file.sync()?;
        }
        Ok(())
    }

    /// Appends a chunk and gives its reference.
    pub(super) fn push(&mut self, encoding: Encoding, data: &[u8]) -> Result<u64, PrometheusError> {
        if self.len + (data.len() + CRC_BYTES + 16) as u64 > self.segment_bytes_max {
            self.begin()?;
        }
        let too_large = |what| PrometheusError::TooLarge { ulid: self.ulid, what, limit: u64::from(u32::MAX) };
        let offset = u32::try_from(self.len).map_err(|_| too_large("a chunk"))?;
        let before = self.buffer.len();
        put_varint(&mut self.buffer, data.len() as u64);
        let body = self.buffer.len();
        self.buffer.push(encoding as u8);
        self.buffer.extend_from_slice(data);
        let crc = crc32c::crc32c(&self.buffer[body..]);
        self.buffer.extend_from_slice(&crc.to_be_bytes());
        self.len += (self.buffer.len() - before) as u64;
        self.n_chunks += 1;
        if self.buffer.len() >= WRITE_BYTES {
            self.flush()?;
        }
        Ok(u64::from(self.n_segments - 1) << 32 | u64::from(offset))
    }

    /// Syncs everything.
    pub(super) fn finish(&mut self) -> Result<(u64, u64), PrometheusError> {
        self.end()?;
        self.vfs.sync_dir(&self.dir)?;
        Ok((self.n_chunks, self.bytes))
    }
}
