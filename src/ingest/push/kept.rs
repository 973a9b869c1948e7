//! Pushed groups in the data folder, so that they are held over a restart: a file each, `pushed/<number>.group`.
//!
//! A file is the line [`HEADER`], the CRC-32C of what follows (4 bytes, little-endian) and a message of protocol
//! buffers. It is replaced as a whole and durable before the push is answered, and removed when its group goes. One that
//! cannot be read is named in the log and renamed to `<number>.damaged`; it keeps no server from starting.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use promontory_model::histogram::{CounterResetHint, Counts, HistogramSample, InvalidHistogram, Span};
use promontory_model::{FloatHistogram, Labels};
use promontory_storage::vfs::{self, Vfs, VfsError};
use prost::Message;

use super::{GROUPS_MAX, Group};
use crate::ingest::exposition::Value;

const FOLDER: &str = "pushed";
const GROUP: &str = ".group";
const DAMAGED: &str = ".damaged";
const TMP: &str = ".tmp";
const HEADER: &[u8] = b"promontory pushed group 1\n";
const CRC_BYTES: usize = 4;
/// Bytes of a file; what takes more in memory is refused when it is pushed.
const FILE_BYTES_MAX: u64 = 256 << 20;

#[derive(Clone, PartialEq, Message)]
struct KeptGroup {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Pair>,
    #[prost(sint64, tag = "2")]
    pushed_ms: i64,
    #[prost(sint64, tag = "3")]
    failed_ms: i64,
    #[prost(sint64, optional, tag = "4")]
    ttl_ms: Option<i64>,
    #[prost(message, repeated, tag = "5")]
    families: Vec<KeptFamily>,
}

#[derive(Clone, PartialEq, Message)]
struct Pair {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct KeptFamily {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    series: Vec<KeptSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct KeptSeries {
    /// Without those of the group.
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Pair>,
    /// Bits of the value.
    #[prost(fixed64, tag = "2")]
    value: u64,
    /// Instead of the value.
    #[prost(message, optional, tag = "3")]
    histogram: Option<KeptHistogram>,
}

#[derive(Clone, PartialEq, Message)]
struct KeptHistogram {
    #[prost(bool, tag = "1")]
    has_float_counts: bool,
    #[prost(bool, tag = "2")]
    is_gauge: bool,
    #[prost(sint32, tag = "3")]
    schema: i32,
    #[prost(double, tag = "4")]
    zero_threshold: f64,
    #[prost(double, tag = "5")]
    zero_count: f64,
    #[prost(double, tag = "6")]
    count: f64,
    #[prost(double, tag = "7")]
    sum: f64,
    #[prost(message, repeated, tag = "8")]
    positive_spans: Vec<KeptSpan>,
    #[prost(message, repeated, tag = "9")]
    negative_spans: Vec<KeptSpan>,
    #[prost(double, repeated, tag = "10")]
    positive_buckets: Vec<f64>,
    #[prost(double, repeated, tag = "11")]
    negative_buckets: Vec<f64>,
    #[prost(double, repeated, tag = "12")]
    custom_values: Vec<f64>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct KeptSpan {
    #[prost(sint32, tag = "1")]
    offset: i32,
    #[prost(uint32, tag = "2")]
    length: u32,
}

/// Why a file is no group.
#[derive(Debug, thiserror::Error)]
enum Damage {
    #[error(transparent)]
    Read(#[from] VfsError),
    #[error("{len} bytes, expected at most {FILE_BYTES_MAX}")]
    TooLong { len: u64 },
    #[error("no header and checksum")]
    NoHeader,
    #[error("crc mismatch, expected {expected:08x}, found {found:08x}")]
    Checksum { expected: u32, found: u32 },
    #[error(transparent)]
    Message(#[from] prost::DecodeError),
    #[error(transparent)]
    Histogram(#[from] InvalidHistogram),
}

/// A group that was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) number: u64,
    pub(super) key: Labels,
    pub(super) group: Group,
}

/// The folder of the groups.
#[derive(Debug)]
pub(super) struct Folder {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
}

impl Folder {
    pub(super) fn new(vfs: Arc<dyn Vfs>, data_dir: &Path) -> Self {
        Self { vfs, dir: data_dir.join(FOLDER) }
    }

    /// All groups that can be read, and a number above those of all files.
    pub(super) fn load(&self) -> (Vec<Found>, u64) {
        let (mut found, mut next) = (Vec::new(), 0);
        let entries = match self.vfs.read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) => {
                if !error.is_not_found() {
                    tracing::warn!(%error, "pushed groups of before are not held");
                }
                return (found, next);
            }
        };
        for entry in entries.iter().filter(|e| !e.is_dir) {
            let path = self.dir.join(&entry.name);
            if entry.name.ends_with(TMP) {
                // What was being written when the server died was not answered.
                let _ = self.vfs.remove_file(&path);
                continue;
            }
            let stem = entry.name.strip_suffix(GROUP).or_else(|| entry.name.strip_suffix(DAMAGED));
            let Some(number) = stem.and_then(|stem| stem.parse::<u64>().ok()) else { continue };
            next = next.max(number.saturating_add(1));
            if !entry.name.ends_with(GROUP) {
                continue;
            }
            if found.len() >= GROUPS_MAX {
                tracing::warn!(file = %path.display(), max = GROUPS_MAX, "group is not held (groups_max)");
                continue;
            }
            match self.read(&path, entry.len) {
                Ok((key, group)) => found.push(Found { number, key, group: Group { number, ..group } }),
                Err(damage) => self.set_aside(&path, &damage),
            }
        }
        (found, next)
    }

    fn read(&self, path: &Path, len: u64) -> Result<(Labels, Group), Damage> {
        if len > FILE_BYTES_MAX {
            return Err(Damage::TooLong { len });
        }
        decode(&vfs::read(&*self.vfs, path)?)
    }

    fn set_aside(&self, path: &Path, damage: &Damage) {
        let aside = path.with_extension(&DAMAGED[1..]);
        let renamed = self.vfs.rename(path, &aside);
        let (file, aside) = (path.display(), aside.display());
        tracing::warn!(%file, why = %damage, "pushed group cannot be read and is not held; renamed to {aside}");
        if let Err(error) = renamed {
            tracing::warn!(%error, "damaged group stays where it is");
        }
    }

    /// Makes `bytes` the group of this number.
    pub(super) fn store(&self, number: u64, bytes: &[u8]) -> Result<(), VfsError> {
        if self.vfs.read_dir(&self.dir).is_err() {
            self.vfs.create_dir_all(&self.dir)?;
            if let Some(parent) = self.dir.parent() {
                self.vfs.sync_dir(parent)?;
            }
        }
        vfs::replace(&*self.vfs, &self.path(number), bytes)
    }

    /// Forgets the group of this number; it need not be there.
    pub(super) fn remove(&self, number: u64) -> Result<(), VfsError> {
        match self.vfs.remove_file(&self.path(number)) {
            Ok(()) => self.vfs.sync_dir(&self.dir),
            Err(e) if e.is_not_found() => Ok(()),
            Err(e) => Err(e),
        }
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number}{GROUP}"))
    }
}

/// The bytes of a group's file.
pub(super) fn encode(key: &Labels, group: &Group) -> Vec<u8> {
    let pairs = |labels: &mut dyn Iterator<Item = (&str, &str)>| -> Vec<Pair> {
        labels.map(|(name, value)| Pair { name: name.to_owned(), value: value.to_owned() }).collect()
    };
    let series = |(labels, value): &(Labels, Value)| {
        let labels = pairs(&mut labels.iter().filter(|(name, _)| key.get(name).is_none()));
        match value {
            Value::Float(value) => KeptSeries { labels, value: value.to_bits(), histogram: None },
            Value::Histogram(h) => KeptSeries { labels, value: 0, histogram: Some(kept(h)) },
        }
    };
    let families = group
        .families
        .iter()
        .map(|(name, list)| KeptFamily { name: name.clone(), series: list.iter().map(series).collect() });
    let message = KeptGroup {
        labels: pairs(&mut key.iter()),
        pushed_ms: group.pushed_ms,
        failed_ms: group.failed_ms,
        ttl_ms: group.ttl_ms,
        families: families.collect(),
    };
    let message = message.encode_to_vec();
    [HEADER, &crc32c::crc32c(&message).to_le_bytes(), &message].concat()
}

fn decode(bytes: &[u8]) -> Result<(Labels, Group), Damage> {
    let rest = bytes.strip_prefix(HEADER).ok_or(Damage::NoHeader)?;
    let (crc, message) = rest.split_first_chunk::<CRC_BYTES>().ok_or(Damage::NoHeader)?;
    let (expected, found) = (u32::from_le_bytes(*crc), crc32c::crc32c(message));
    if expected != found {
        return Err(Damage::Checksum { expected, found });
    }
    let message = KeptGroup::decode(message)?;
    let key = Labels::from_pairs(message.labels.iter().map(|p| (&p.name, &p.value)));
    let mut group = Group {
        pushed_ms: message.pushed_ms,
        failed_ms: message.failed_ms,
        ttl_ms: message.ttl_ms,
        ..Group::default()
    };
    for family in message.families {
        let mut list = Vec::with_capacity(family.series.len());
        for series in family.series {
            let mut labels = key.to_builder();
            for pair in &series.labels {
                labels.set(&pair.name, &pair.value);
            }
            let value = match series.histogram {
                Some(histogram) => Value::Histogram(checked(histogram)?),
                None => Value::Float(f64::from_bits(series.value)),
            };
            list.push((labels.build(), value));
        }
        group.families.insert(family.name, list);
    }
    group.measure();
    Ok((key, group))
}

fn kept(sample: &HistogramSample) -> KeptHistogram {
    let h = sample.value();
    let spans = |spans: &[Span]| spans.iter().map(|s| KeptSpan { offset: s.offset, length: s.length }).collect();
    KeptHistogram {
        has_float_counts: sample.counts() == Counts::Float,
        is_gauge: h.counter_reset_hint == CounterResetHint::Gauge,
        schema: h.schema,
        zero_threshold: h.zero_threshold,
        zero_count: h.zero_count,
        count: h.count,
        sum: h.sum,
        positive_spans: spans(&h.positive_spans),
        negative_spans: spans(&h.negative_spans),
        positive_buckets: h.positive_buckets.clone(),
        negative_buckets: h.negative_buckets.clone(),
        custom_values: h.custom_values.clone(),
    }
}

fn checked(kept: KeptHistogram) -> Result<HistogramSample, InvalidHistogram> {
    let spans = |spans: Vec<KeptSpan>| spans.iter().map(|s| Span { offset: s.offset, length: s.length }).collect();
    let value = FloatHistogram {
        counter_reset_hint: if kept.is_gauge { CounterResetHint::Gauge } else { CounterResetHint::Unknown },
        schema: kept.schema,
        zero_threshold: kept.zero_threshold,
        zero_count: kept.zero_count,
        count: kept.count,
        sum: kept.sum,
        positive_spans: spans(kept.positive_spans),
        negative_spans: spans(kept.negative_spans),
        positive_buckets: kept.positive_buckets,
        negative_buckets: kept.negative_buckets,
        custom_values: kept.custom_values,
    };
    HistogramSample::new(value, if kept.has_float_counts { Counts::Float } else { Counts::Integer })
}

#[cfg(test)]
mod tests {
    use promontory_storage::vfs::SimVfs;

    use super::*;
    use crate::ingest::testing::labels;

    fn group() -> (Labels, Group) {
        let key = labels(&[("job", "j"), ("instance", "ä")]);
        let histogram = FloatHistogram {
            count: 3.0,
            sum: 4.5,
            schema: 1,
            positive_spans: vec![Span { offset: -1, length: 2 }],
            positive_buckets: vec![1.0, 2.0],
            ..FloatHistogram::default()
        };
        let histogram = HistogramSample::new(histogram, Counts::Integer).unwrap();
        let named = |name: &str| labels(&[("__name__", name), ("job", "j"), ("instance", "ä"), ("x", "1")]);
        let mut group = Group { pushed_ms: 7, failed_ms: -1, ttl_ms: Some(60_000), ..Group::default() };
        group
            .families
            .insert("a".to_owned(), vec![(named("a"), Value::Float(0.1)), (named("a_b"), Value::Float(-0.0))]);
        group.families.insert("h".to_owned(), vec![(named("h"), Value::Histogram(histogram))]);
        group.measure();
        (key, group)
    }

    #[test]
    fn what_is_stored_is_found_again() {
        let vfs = Arc::new(SimVfs::new());
        let folder = Folder::new(vfs.clone(), Path::new("d"));
        assert!(folder.load().0.is_empty(), "there is no folder yet");
        let (key, group) = group();
        folder.store(3, &encode(&key, &group)).unwrap();
        folder.store(9, &encode(&labels(&[("job", "k")]), &Group::default())).unwrap();
        let (found, next) = folder.load();
        assert_eq!((found.len(), next), (2, 10));
        let first = found.iter().find(|f| f.number == 3).unwrap();
        assert_eq!(first.key, key);
        assert_eq!(format!("{:?}", first.group), format!("{:?}", Group { number: 3, ..group }));
        folder.remove(3).unwrap();
        folder.remove(3).unwrap();
        assert_eq!(folder.load().0.len(), 1);
    }

    #[test]
    fn damaged_files_are_set_aside() {
        let (key, group) = group();
        let whole = encode(&key, &group);
        for at in 0..whole.len() {
            let vfs = Arc::new(SimVfs::new());
            let folder = Folder::new(vfs.clone(), Path::new("d"));
            folder.store(1, &encode(&key, &group)).unwrap();
            vfs.corrupt(&folder.path(1), |bytes| bytes[at] ^= 0x10);
            let (found, next) = folder.load();
            assert_eq!((found.len(), next), (0, 2), "byte {at}");
            let names: Vec<String> = vfs.read_dir(&folder.dir).unwrap().into_iter().map(|e| e.name).collect();
            assert_eq!(names, ["1.damaged"]);
            assert!(decode(&whole[..at]).is_err(), "cut at {at}");
        }
    }
}
