//! The manifest: which bytes of which files count. What it does not name is not there.
//!
//! Written beside, synced, renamed; so a crash leaves the old one or the new one. Format: `docs/format/manifest.md`.

use std::path::Path;

use crate::canary::{Bug, is_planted};
use crate::error::OpenError;
use crate::vfs::{self, Vfs, VfsError};
use crate::wire::{Reader, WireError, put_bytes, put_varint, put_zigzag, sealed};

/// Name of the file in the data folder.
pub(crate) const NAME: &str = "manifest";
const MAGIC: [u8; 6] = *b"PMTMAN";
const VERSION: u16 = 1;
/// Largest number or length that is believed; no disk holds more, and one more can always be counted.
const NUMBER_MAX: u64 = 1 << 56;

/// Which bytes count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// Samples before this time are in blocks, ms.
    pub(crate) floor: i64,
    /// Groups from this number on were never used.
    pub(crate) next_group: u32,
    /// Head segments from this number on were never used.
    pub(crate) next_segment: u64,
    /// First segment of the WAL that is needed.
    pub(crate) wal_from: u64,
    /// Number and bytes of the series file.
    pub(crate) series: (u64, u64),
    /// Number and bytes of the file of exemplars.
    pub(crate) exemplars: (u64, u64),
    /// Number and bytes of each head segment.
    pub(crate) segments: Vec<(u64, u64)>,
    /// A block that is being cut, and the floor that holds once it is published.
    pub(crate) cut: Option<(String, i64)>,
}

impl Default for Manifest {
    fn default() -> Self {
        Self {
            floor: i64::MIN,
            next_group: 0,
            next_segment: 1,
            wal_from: 0,
            series: (0, 0),
            exemplars: (0, 0),
            segments: Vec::new(),
            cut: None,
        }
    }
}

impl Manifest {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        put_zigzag(&mut out, self.floor);
        put_varint(&mut out, u64::from(self.next_group));
        put_varint(&mut out, self.next_segment);
        put_varint(&mut out, self.wal_from);
        put_varint(&mut out, self.series.0);
        put_varint(&mut out, self.series.1);
        put_varint(&mut out, self.exemplars.0);
        put_varint(&mut out, self.exemplars.1);
        put_varint(&mut out, self.segments.len() as u64);
        for &(id, len) in &self.segments {
            put_varint(&mut out, id);
            put_varint(&mut out, len);
        }
        match &self.cut {
            Some((ulid, floor)) => {
                put_bytes(&mut out, ulid.as_bytes());
                put_zigzag(&mut out, *floor);
            }
            None => put_bytes(&mut out, &[]),
        }
        sealed(out)
    }

    fn decode(body: &[u8]) -> Result<Self, WireError> {
        let mut r = Reader::new(body);
        let floor = r.zigzag()?;
        let next_group = r.varint_u32()?;
        let (next_segment, wal_from) = (r.varint()?, r.varint()?);
        let series = (r.varint()?, r.varint()?);
        let exemplars = (r.varint()?, r.varint()?);
        let n = r.count(r.remaining() / 2)?;
        let segments = (0..n).map(|_| Ok((r.varint()?, r.varint()?))).collect::<Result<Vec<_>, WireError>>()?;
        let ulid = r.str()?;
        let cut = if ulid.is_empty() { None } else { Some((ulid.to_owned(), r.zigzag()?)) };
        if !r.is_empty() {
            return Err(r.error("bytes left over"));
        }
        let files = segments.iter().chain([&series, &exemplars]);
        let numbers = files.flat_map(|&(id, len)| [id, len]).chain([next_segment, wal_from]);
        if numbers.max().is_some_and(|n| n > NUMBER_MAX) {
            return Err(r.error("number is larger than can be"));
        }
        Ok(Self { floor, next_group, next_segment, wal_from, series, exemplars, segments, cut })
    }

    /// Reads the manifest of a data folder; `None` when there is none yet.
    ///
    /// # Errors
    /// [`OpenError::Damaged`] and [`OpenError::TooNew`]: without it nothing says which bytes count.
    pub(crate) fn load(vfs: &dyn Vfs, dir: &Path) -> Result<Option<Self>, OpenError> {
        let path = dir.join(NAME);
        let bytes = match vfs::read(vfs, &path) {
            Ok(bytes) => bytes,
            Err(e) if e.is_not_found() => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let damaged = |what| OpenError::Damaged { path: path.clone(), what };
        let Some((head, crc)) = bytes.split_last_chunk::<4>().filter(|(head, _)| head.len() >= 8) else {
            return Err(damaged("file is too short"));
        };
        if head[..6] != MAGIC {
            return Err(damaged("not a manifest"));
        }
        let version = u16::from_le_bytes([head[6], head[7]]);
        if crc32fast::hash(head) != u32::from_le_bytes(*crc) && !is_planted(Bug::ManifestCrcIgnored) {
            return Err(damaged("checksum does not match"));
        }
        if version > VERSION {
            return Err(OpenError::TooNew { path, found: version.into(), known: VERSION.into() });
        }
        Self::decode(&head[8..]).map(Some).map_err(|e| damaged(e.what))
    }

    /// Makes this the manifest.
    pub(crate) fn store(&self, vfs: &dyn Vfs, dir: &Path) -> Result<(), VfsError> {
        vfs::replace(vfs, &dir.join(NAME), &self.encode())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::SimVfs;

    fn example() -> Manifest {
        Manifest {
            floor: 7_200_000,
            next_group: 3,
            next_segment: 5,
            wal_from: 12,
            series: (1, 4096),
            exemplars: (2, 512),
            segments: vec![(3, 65_536), (4, 300)],
            cut: Some(("01J8XW3V9S7R1D2F3G4H5J6K7M".into(), 14_400_000)),
        }
    }

    #[test]
    fn every_damage_is_noticed() {
        let vfs = SimVfs::new();
        let (dir, path) = (Path::new(""), Path::new(NAME));
        assert_eq!(Manifest::load(&vfs, dir).unwrap(), None);
        for m in [example(), Manifest::default()] {
            m.store(&vfs, dir).unwrap();
            assert_eq!(Manifest::load(&vfs, dir).unwrap(), Some(m.clone()));
            let bytes = m.encode();
            for at in 0..bytes.len() {
                vfs.corrupt(path, |b| {
                    b.clone_from(&bytes);
                    b[at] ^= 0x10;
                });
                assert!(Manifest::load(&vfs, dir).is_err(), "{at}");
                vfs.corrupt(path, |b| *b = bytes[..at].to_vec());
                assert!(Manifest::load(&vfs, dir).is_err(), "{at}");
            }
        }
    }

    #[test]
    fn a_later_version_is_named() {
        let vfs = SimVfs::new();
        let mut bytes = example().encode();
        bytes[6] = 9;
        let body = bytes.len() - 4;
        let crc = crc32fast::hash(&bytes[..body]);
        bytes[body..].copy_from_slice(&crc.to_le_bytes());
        vfs::replace(&vfs, Path::new(NAME), &bytes).unwrap();
        let e = Manifest::load(&vfs, Path::new("")).unwrap_err();
        assert_eq!(e.to_string(), "open manifest: version 9 is newer than 1, the newest this release reads");
    }
}
