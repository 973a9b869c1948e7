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
use crate::wire::{WireError, put_bytes, put_varint, sealed, unsealed};

/// Name of the file in the data folder.
pub(crate) const NAME: &str = "metadata";
/// Magic number and version.
const BEGIN: [u8; 8] = *b"PMTMTA\x01\0";
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

/// What is known.
#[derive(Debug, Default)]
pub(crate) struct Metadata {
    /// Held while the file is written, so that of two calls the later one is what is stored; taken before `known`.
    writing: Mutex<()>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    families: Families,
    /// Bytes of their names and texts.
    bytes: usize,
    /// How often they changed, and the number of the change that the file holds.
    changes: u64,
    stored: u64,
}

impl Db {
    /// What is known of metric families, also of those that nothing delivers any more.
    #[must_use]
    pub fn metadata(&self) -> BTreeMap<String, Vec<MetricMetadata>> {
        lock(&self.0.metadata.known).families.clone()
    }

    /// Learns what sources say of their families now; durable when this returns. What was known of these families is
    /// replaced, others stay. At most 32 MiB are kept: then families go that nobody speaks of now, and if that is not
    /// enough, new ones are left out. Answers how many were left out.
    ///
    /// # Errors
    /// [`WriteError`] when it could not be stored; the next call tries again.
    pub fn set_metadata(&self, told: &BTreeMap<String, Vec<MetricMetadata>>) -> Result<usize, WriteError> {
        self.0.set_metadata(told, METADATA_BYTES_MAX)
    }

    /// Learns what one source says of some families; durable after the next [`Db::set_metadata`] or [`Db::close`]. What
    /// others say of them is replaced. Families for which the 32 MiB have no room are left out; answers how many.
    pub fn learn_metadata(&self, told: impl IntoIterator<Item = (String, MetricMetadata)>) -> usize {
        lock(&self.0.metadata.known).learn(told, METADATA_BYTES_MAX)
    }
}

impl Inner {
    fn set_metadata(&self, told: &Families, bytes_max: usize) -> Result<usize, WriteError> {
        let left_out = lock(&self.metadata.known).set(told, bytes_max);
        self.store_metadata()?;
        Ok(left_out)
    }

    /// Writes the file when it lacks something.
    pub(crate) fn store_metadata(&self) -> Result<(), WriteError> {
        let _writing = lock(&self.metadata.writing);
        let (bytes, changes) = {
            let known = lock(&self.metadata.known);
            if known.stored == known.changes {
                return Ok(());
            }
            (encode(&known.families), known.changes)
        };
        if let Some(reason) = self.head.health.reason() {
            return Err(WriteError::ReadOnly { reason });
        }
        vfs::replace(&*self.vfs, &self.dir.join(NAME), &bytes)?;
        lock(&self.metadata.known).stored = changes;
        Ok(())
    }
}

impl Known {
    fn set(&mut self, told: &Families, bytes_max: usize) -> usize {
        let is_known = |(name, entries): (&String, &Vec<_>)| self.families.get(name) == Some(entries);
        if told.iter().all(is_known) {
            return 0;
        }
        let mut next = self.families.clone();
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
        if next != self.families {
            self.bytes = text_bytes(&next);
            self.families = next;
            self.changes += 1;
        }
        left_out
    }

    fn learn(&mut self, told: impl IntoIterator<Item = (String, MetricMetadata)>, bytes_max: usize) -> usize {
        let mut left_out = 0;
        for (name, metadata) in told {
            let known = self.families.get(&name).map_or(&[][..], Vec::as_slice);
            if known.contains(&metadata) {
                continue;
            }
            let before = if known.is_empty() { 0 } else { family_bytes(&name, known) };
            let bytes = self.bytes - before + family_bytes(&name, std::slice::from_ref(&metadata));
            if bytes > bytes_max {
                left_out += 1;
                continue;
            }
            self.families.insert(name, vec![metadata]);
            self.bytes = bytes;
            self.changes += 1;
        }
        left_out
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
        let known = Known { bytes: text_bytes(&families), families, changes: 0, stored: 0 };
        Ok(Self { writing: Mutex::default(), known: Mutex::new(known) })
    }
}

pub(crate) fn encode(families: &Families) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    out.extend_from_slice(&BEGIN);
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
    sealed(out)
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Families, WireError> {
    let mut r = unsealed(bytes, &BEGIN)?;
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

    fn one(name: &str, kind: MetricType, help: &str) -> (String, MetricMetadata) {
        let (name, mut entries) = family(name, kind, help);
        (name, entries.remove(0))
    }

    #[test]
    fn what_was_learnt_is_known_at_once_and_kept_by_the_next_write() {
        let vfs = SimVfs::new();
        let db = open(&vfs, options());
        let told = [one("a", MetricType::Counter, "one"), one("b", MetricType::Gauge, "")];
        assert_eq!(db.learn_metadata(told.clone()), 0);
        let expected = Families::from([family("a", MetricType::Counter, "one"), family("b", MetricType::Gauge, "")]);
        assert_eq!(db.metadata(), expected);
        let survivor = |vfs: &SimVfs| open(&vfs.crash(Survival::Synced, 1), options()).metadata();
        assert!(survivor(&vfs).is_empty());
        db.set_metadata(&Families::new()).unwrap();
        assert_eq!(survivor(&vfs), expected);
        let ops = vfs.ops();
        assert_eq!(db.learn_metadata(told), 0);
        db.set_metadata(&Families::new()).unwrap();
        assert_eq!(vfs.ops(), ops, "nothing new, nothing written");
        db.learn_metadata([one("a", MetricType::Gauge, "two")]);
        db.close().unwrap();
        assert_eq!(survivor(&vfs)["a"], family("a", MetricType::Gauge, "two").1);
    }

    #[test]
    fn what_could_not_be_stored_is_stored_later() {
        let vfs = SimVfs::new();
        let db = open(&vfs, options());
        let told = Families::from([family("a", MetricType::Counter, "one")]);
        vfs.set_space(Some(0));
        assert!(db.set_metadata(&told).is_err());
        vfs.set_space(None);
        db.set_metadata(&told).unwrap();
        assert_eq!(open(&vfs.crash(Survival::Synced, 1), options()).metadata(), told);
    }

    #[test]
    fn what_is_learnt_has_an_end() {
        let mut known = Known::default();
        let first = one("a", MetricType::Counter, "12345");
        let bytes_max = family_bytes(&first.0, std::slice::from_ref(&first.1));
        let told = |help| [one("a", MetricType::Counter, help), one("b", MetricType::Counter, "")];
        assert_eq!(known.learn(told("12345"), bytes_max), 1);
        assert_eq!((known.families.len(), known.bytes), (1, bytes_max));
        assert_eq!(known.learn(told("123456"), bytes_max), 2);
        assert_eq!(known.families["a"], [first.1]);
        assert_eq!(known.learn(told(""), bytes_max + 20), 0);
        assert_eq!(known.bytes, text_bytes(&known.families));
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
