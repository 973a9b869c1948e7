//! Answers of other servers to remote read, of both forms. All their bytes are hostile.

use promontory_model::{Labels, TimeRange};
use promontory_storage::prometheus::{ChunkError, ChunkSamples, decode_chunk};

use super::super::histogram::{self, ReadError as HistogramError};
use super::super::wire::{self, Scanner, Value, WireError};
use super::UPSTREAM_SAMPLES_MAX;
use super::joined::{Point, Series};

/// What may still be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) samples: usize,
    /// Of messages, and again of labels.
    pub(super) bytes: usize,
}

/// Why an answer is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum AnswerError {
    #[error("answer of type {0:?}, neither samples nor streamed chunks")]
    Type(String),
    #[error("{0}")]
    Snappy(#[from] snap::Error),
    #[error("answer of {found} bytes, more than {max} ({limit})")]
    Bytes { found: usize, max: usize, limit: &'static str },
    #[error("answer of more than {UPSTREAM_SAMPLES_MAX} samples (upstream_samples_max)")]
    Samples,
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("frame {0}: checksum mismatch")]
    Checksum(usize),
    #[error("frame {0}: ends too early")]
    Short(usize),
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    #[error(transparent)]
    Histogram(#[from] HistogramError),
    #[error("labels that are damaged, or no utf-8")]
    Labels,
}

/// The series of an answer to one query for `range`, by ascending labels; `frame_max` bytes may be in one frame.
pub(super) fn read(
    content_type: &str,
    body: &[u8],
    range: TimeRange,
    frame_max: usize,
    left: &mut Limits,
) -> Result<Vec<Series>, AnswerError> {
    let media = content_type.split(';').next().unwrap_or_default().trim();
    let mut series = match media {
        "application/x-protobuf" => sampled(body, range, left)?,
        "application/x-streamed-protobuf" => streamed(body, range, frame_max, left)?,
        _ => return Err(AnswerError::Type(content_type.to_owned())),
    };
    series.sort_by(|a, b| a.labels.cmp(&b.labels));
    // A long series comes in several frames.
    series.dedup_by(|next, first| {
        let is_same = next.labels == first.labels;
        if is_same {
            first.points.append(&mut next.points);
        }
        is_same
    });
    for one in &mut series {
        // Stable, so that of several at one time the first stays.
        one.points.sort_by_key(|(t, _)| *t);
        one.points.dedup_by_key(|(t, _)| *t);
    }
    series.retain(|one| !one.points.is_empty());
    Ok(series)
}

impl Limits {
    fn take_samples(&mut self, n: usize) -> Result<(), AnswerError> {
        self.samples = self.samples.checked_sub(n).ok_or(AnswerError::Samples)?;
        Ok(())
    }

    fn take_bytes(&mut self, n: usize) -> Result<(), AnswerError> {
        let (max, limit) = (super::UPSTREAM_BYTES_MAX, "upstream_bytes_max");
        self.bytes = self.bytes.checked_sub(n).ok_or(AnswerError::Bytes { found: n, max, limit })?;
        Ok(())
    }

    fn histogram(&mut self, h: &promontory_model::HistogramSample) -> Result<(), AnswerError> {
        let h = h.value();
        let n = h.positive_buckets.len() + h.negative_buckets.len() + h.custom_values.len();
        self.take_samples(1 + n / 2)
    }
}

/// The labels in a series message, of either form.
fn labels(message: &[u8]) -> Result<Labels, AnswerError> {
    let mut pairs = wire::labels(message).ok_or(AnswerError::Labels)?;
    pairs.sort_unstable();
    let is_good = pairs.windows(2).all(|w| w[0].0 != w[1].0) && pairs.iter().all(|(name, _)| !name.is_empty());
    if !is_good {
        return Err(AnswerError::Labels);
    }
    pairs.retain(|(_, value)| !value.is_empty());
    Ok(Labels::from_sorted(pairs))
}

fn sampled(body: &[u8], range: TimeRange, left: &mut Limits) -> Result<Vec<Series>, AnswerError> {
    // The length is looked at before anything is allocated.
    left.take_bytes(snap::raw::decompress_len(body)?)?;
    let bytes = snap::raw::Decoder::new().decompress_vec(body)?;
    let mut out = Vec::new();
    let mut results = Scanner::new(&bytes);
    while let Some(field) = results.next()? {
        let (1, Value::Bytes(result)) = field else { continue };
        let mut all = Scanner::new(result);
        while let Some(field) = all.next()? {
            let (1, Value::Bytes(series)) = field else { continue };
            let mut points = Vec::new();
            let mut fields = Scanner::new(series);
            while let Some(field) = fields.next()? {
                match field {
                    (2, Value::Bytes(sample)) => {
                        left.take_samples(1)?;
                        let (t, v) = wire::scan_sample(sample)?;
                        points.push((t, Point::Float(v)));
                    }
                    (4, Value::Bytes(h)) => {
                        let (t, h) = histogram::read(h)?;
                        left.histogram(&h)?;
                        points.push((t.0, Point::Histogram(h)));
                    }
                    _ => {}
                }
            }
            points.retain(|(t, _)| range.contains(promontory_model::Timestamp(*t)));
            out.push(Series { labels: labels(series)?, points });
        }
    }
    Ok(out)
}

fn streamed(body: &[u8], range: TimeRange, frame_max: usize, left: &mut Limits) -> Result<Vec<Series>, AnswerError> {
    let mut out = Vec::new();
    let mut rest = body;
    for number in 0.. {
        if rest.is_empty() {
            break;
        }
        let short = |_| AnswerError::Short(number);
        let len = prost::decode_length_delimiter(&mut rest).map_err(short)?;
        if len > frame_max {
            return Err(AnswerError::Bytes { found: len, max: frame_max, limit: "chunked_read_limit" });
        }
        let (crc, after) = rest.split_first_chunk::<4>().ok_or(AnswerError::Short(number))?;
        let (message, after) = after.split_at_checked(len).ok_or(AnswerError::Short(number))?;
        if crc32c::crc32c(message).to_be_bytes() != *crc {
            return Err(AnswerError::Checksum(number));
        }
        rest = after;
        let mut fields = Scanner::new(message);
        while let Some(field) = fields.next()? {
            let (1, Value::Bytes(series)) = field else { continue };
            out.push(chunked(series, range, left)?);
        }
    }
    Ok(out)
}

fn chunked(message: &[u8], range: TimeRange, left: &mut Limits) -> Result<Series, AnswerError> {
    let mut points = Vec::new();
    let mut samples = ChunkSamples::default();
    let mut fields = Scanner::new(message);
    while let Some(field) = fields.next()? {
        let (2, Value::Bytes(chunk)) = field else { continue };
        let (mut encoding, mut data) = (0, &[][..]);
        let mut parts = Scanner::new(chunk);
        while let Some(part) = parts.next()? {
            match part {
                (3, Value::Varint(n)) => encoding = i32::try_from(n).unwrap_or(0),
                (4, Value::Bytes(bytes)) => data = bytes,
                _ => {}
            }
        }
        decode_chunk(encoding, data, &mut samples)?;
        left.take_samples(samples.times.len())?;
        points.extend(samples.times.drain(..).zip(samples.values.drain(..)).map(|(t, v)| (t, Point::Float(v))));
        for (t, h) in samples.histograms.drain(..) {
            left.histogram(&h)?;
            points.push((t, Point::Histogram(h)));
        }
    }
    // Chunks are whole, whatever was asked for.
    points.retain(|(t, _)| range.contains(promontory_model::Timestamp(*t)));
    Ok(Series { labels: labels(message)?, points })
}
