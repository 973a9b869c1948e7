//! What metrics mean: type, unit and help by family, kept over a restart.
//!
//! One small file, replaced as a whole when something changed. It says nothing about samples, so that the database also
//! opens when it is damaged. Format: `docs/format/metadata.md`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use promontory_model::{MetricMetadata, MetricType};

use crate::db::{Db, Inner};
use crate::error::WriteError;
use crate::head::lock;
use crate::vfs::{self, Vfs, VfsError};
use crate::wire::{Reader, WireError, put_bytes, put_varint};

/// Name of the file in the data folder.
pub(crate) const NAME: &str = "metadata";
const MAGIC: [u8; 6] = *b"PMTMTA";
const VERSION: u16 = 1;
/// Bytes of names and texts that are kept; what nobody says any more goes first.
pub(crate) const METADATA_BYTES_MAX: usize = 32 << 20;
/// Numbers of the types in the file.
const TYPES: [MetricType; 8] = [
    MetricType::Unknown,
    MetricType::Counter,
    MetricType::Gauge,
    MetricType::Histogram,
    MetricType::GaugeHistogram,
    MetricType::Summary,
    MetricType::Info,
    MetricType::StateSet,
];

/// By name of the family; sources that say different things are all kept.
pub(crate) type Families = BTreeMap<String, Vec<MetricMetadata>>;

/// The families that are known.
#[derive(Debug, Default)]
pub(crate) struct Metadata {
    /// Held while the file is written, so that of two calls the later one is what is stored; taken before `families`.
    writing: Mutex<()>,
    families: Mutex<Families>,
}

impl Db {
    /// What is known of metric families, also of those that nothing delivers any more.
    #[must_use]
    pub fn metadata(&self) -> BTreeMap<String, Vec<MetricMetadata>> {
        lock(&self.0.metadata.families).clone()
    }

    /// Learns what sources say of their families now; durable when this returns. What was known of these families is
    /// replaced, others stay. At most 32 MiB are kept: then families go that nobody speaks of now, and if that is not
    /// enough, new ones are left out. Answers how many were left out.
    ///
    /// # Errors
    /// [`WriteError`] when it could not be stored; it is known until the database is closed then.
    pub fn set_metadata(&self, told: &BTreeMap<String, Vec<MetricMetadata>>) -> Result<usize, WriteError> {
        self.0.set_metadata(told, METADATA_BYTES_MAX)
    }
}

impl Inner {
    fn set_metadata(&self, told: &Families, bytes_max: usize) -> Result<usize, WriteError> {
        let _writing = lock(&self.metadata.writing);
        let known = lock(&self.metadata.families).clone();
        let is_known = |(name, entries): (&String, &Vec<_>)| known.get(name) == Some(entries);
        if told.iter().all(is_known) {
            return Ok(0);
        }
        let mut next = known.clone();
        next.extend(told.iter().map(|(name, entries)| (name.clone(), entries.clone())));
        let mut left_out = 0;
        if text_bytes(&next) > bytes_max {
            next.retain(|name, _| told.contains_key(name));
            let mut bytes = 0;
            next.retain(|name, entries| {
                bytes += family_bytes(name, entries);
                left_out += usize::from(bytes > bytes_max);
                bytes <= bytes_max
            });
        }
        if next == known {
            return Ok(left_out);
        }
        let bytes = encode(&next);
        *lock(&self.metadata.families) = next;
        if let Some(reason) = self.head.health.reason() {
            return Err(WriteError::ReadOnly { reason });
        }
        vfs::replace(&*self.vfs, &self.dir.join(NAME), &bytes)?;
        Ok(left_out)
    }
}

fn family_bytes(name: &str, entries: &[MetricMetadata]) -> usize {
    name.len() + entries.iter().map(|e| e.help.len() + e.unit.len() + 1).sum::<usize>()
}

fn text_bytes(families: &Families) -> usize {
    families.iter().map(|(name, entries)| family_bytes(name, entries)).sum()
}

impl Metadata {
    /// Reads the file of the data folder `dir`. A damaged one is told and counts as none.
    pub(crate) fn load(vfs: &dyn Vfs, dir: &Path, note: &mut dyn FnMut(String)) -> Result<Self, VfsError> {
        let path = dir.join(NAME);
        let bytes = match vfs::read(vfs, &path) {
            Ok(bytes) => bytes,
            Err(e) if e.is_not_found() => return Ok(Self::default()),
            Err(e) => return Err(e),
        };
        let families = decode(&bytes).unwrap_or_else(|e| {
            note(format!("{}: {e}; types and help texts are learnt anew", path.display()));
            Families::new()
        });
        Ok(Self { writing: Mutex::default(), families: Mutex::new(families) })
    }
}

pub(crate) fn encode(families: &Families) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    put_varint(&mut out, families.len() as u64);
    for (name, entries) in families {
        put_bytes(&mut out, name.as_bytes());
        put_varint(&mut out, entries.len() as u64);
        for entry in entries {
            let kind = TYPES.iter().position(|t| *t == entry.kind).unwrap_or(0);
            put_varint(&mut out, kind as u64);
            put_bytes(&mut out, entry.unit.as_bytes());
            put_bytes(&mut out, entry.help.as_bytes());
        }
    }
    let crc = crc32fast::hash(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Families, WireError> {
    let error = |what| WireError { what, offset: 0 };
    let (head, crc) = bytes.split_last_chunk::<4>().ok_or(error("length of the metadata"))?;
    if crc32fast::hash(head) != u32::from_le_bytes(*crc) {
        return Err(error("checksum of the metadata"));
    }
    let mut r = Reader::new(head);
    if r.slice(MAGIC.len())? != MAGIC {
        return Err(error("magic of the metadata"));
    }
    if r.slice(2)? != VERSION.to_le_bytes() {
        return Err(r.error("version of the metadata"));
    }
    let mut out = Families::new();
    for _ in 0..r.count(r.remaining())? {
        let name = r.str()?.to_owned();
        let mut entries = Vec::new();
        for _ in 0..r.count(r.remaining())? {
            let kind = usize::try_from(r.varint()?).ok().and_then(|n| TYPES.get(n));
            let kind = *kind.ok_or(r.error("type of a family"))?;
            entries.push(MetricMetadata { kind, unit: r.str()?.to_owned(), help: r.str()?.to_owned() });
        }
        out.insert(name, entries);
    }
    if r.is_empty() { Ok(out) } else { Err(r.error("bytes left over")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::tests::{open, options};
    use crate::documented::{bytes_of, fenced};
    use crate::vfs::SimVfs;
    use crate::vfs::sim::Survival;

    fn family(name: &str, kind: MetricType, help: &str) -> (String, Vec<MetricMetadata>) {
        (name.to_owned(), vec![MetricMetadata { kind, unit: "seconds".to_owned(), help: help.to_owned() }])
    }

    #[test]
    fn what_was_told_is_known_after_a_restart() {
        let vfs = SimVfs::new();
        let db = open(&vfs, options());
        assert!(db.metadata().is_empty());
        let first = Families::from([family("a", MetricType::Counter, "one"), family("b", MetricType::Info, "")]);
        assert_eq!(db.set_metadata(&first).unwrap(), 0);
        let ops = vfs.ops();
        assert_eq!(db.set_metadata(&first).unwrap(), 0);
        assert_eq!(vfs.ops(), ops, "nothing new, nothing written");
        db.set_metadata(&Families::from([family("a", MetricType::Gauge, "two")])).unwrap();
        let expected = Families::from([family("a", MetricType::Gauge, "two"), family("b", MetricType::Info, "")]);
        assert_eq!(db.metadata(), expected);
        drop(db);
        let after = vfs.crash(Survival::Synced, 1);
        assert_eq!(open(&after, options()).metadata(), expected);
    }

    #[test]
    fn documented_metadata_is_what_is_written_and_read() {
        let documented = bytes_of(fenced(include_str!("../docs/format/metadata.md"), "metadata"));
        let gauge = MetricMetadata { kind: MetricType::Gauge, unit: String::new(), help: "Target up".to_owned() };
        let families = Families::from([("up".to_owned(), vec![gauge]), family("x_seconds", MetricType::Histogram, "")]);
        assert_eq!(encode(&families), documented, "{:02x?}", encode(&families));
        assert_eq!(decode(&documented).unwrap(), families);
    }

    #[test]
    fn families_that_nobody_speaks_of_go_first() {
        let db = open(&SimVfs::new(), options());
        let told = Families::from([family("a", MetricType::Counter, "12345"), family("b", MetricType::Counter, "")]);
        let bytes = text_bytes(&told);
        assert_eq!(db.0.set_metadata(&told, bytes).unwrap(), 0);
        let newer = Families::from([family("b", MetricType::Counter, ""), family("c", MetricType::Counter, "12345")]);
        assert_eq!(db.0.set_metadata(&newer, bytes).unwrap(), 0);
        assert_eq!(db.metadata(), newer);
        let more = Families::from([family("d", MetricType::Counter, "12345")]).into_iter().chain(newer.clone());
        assert_eq!(db.0.set_metadata(&more.collect(), bytes).unwrap(), 1);
        assert_eq!(db.metadata(), newer);
    }

    #[test]
    fn every_damage_is_noticed_and_costs_the_texts_alone() {
        let bytes = encode(&Families::from([family("a", MetricType::StateSet, "x")]));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert!(decode(&damaged).is_err() && decode(&bytes[..at]).is_err(), "{at}");
            let end = damaged.len() - 4;
            let crc = crc32fast::hash(&damaged[..end]);
            damaged[end..].copy_from_slice(&crc.to_le_bytes());
            let _ = decode(&damaged);
        }
        let vfs = SimVfs::new();
        drop(open(&vfs, options()));
        vfs::replace(&vfs, &Path::new("data").join(NAME), &bytes[1..]).unwrap();
        assert!(open(&vfs, options()).metadata().is_empty());
    }
}
