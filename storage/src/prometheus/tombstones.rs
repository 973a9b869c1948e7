//! The file `tombstones`: spans of time in which samples of a series count as deleted.

use std::collections::HashMap;
use std::path::Path;

use promontory_model::ReadError;

use super::file::{CRC_BYTES, File, be32};
use crate::vfs::{self, Vfs, VfsError};
use crate::wire::{Reader, put_varint, put_zigzag};

/// Name of the file.
pub(super) const TOMBSTONES_FILE: &str = "tombstones";
const MAGIC: u32 = 0x0130_ba30;
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 5;

/// Inclusive spans of time by series reference.
pub(super) type Tombstones = HashMap<u32, Vec<(i64, i64)>>;

/// The file of a block without deletions.
pub(super) fn empty_file() -> Vec<u8> {
    encode(&Tombstones::new())
}

/// Makes these the deletions of the block in the folder `block`, durably.
pub(super) fn store(vfs: &dyn Vfs, block: &Path, tombstones: &Tombstones) -> Result<(), VfsError> {
    vfs::replace(vfs, &block.join(TOMBSTONES_FILE), &encode(tombstones))
}

fn encode(tombstones: &Tombstones) -> Vec<u8> {
    let mut out = MAGIC.to_be_bytes().to_vec();
    out.push(VERSION);
    let mut series: Vec<_> = tombstones.iter().collect();
    series.sort_unstable();
    for (series, spans) in series {
        for (mint, maxt) in spans {
            put_varint(&mut out, u64::from(*series));
            put_zigzag(&mut out, *mint);
            put_zigzag(&mut out, *maxt);
        }
    }
    // The sum covers what follows the version.
    let crc = crc32c::crc32c(&out[HEADER_BYTES..]);
    out.extend_from_slice(&crc.to_be_bytes());
    out
}

/// Reads the file of the block in the folder `block`; a block may have none.
pub(super) fn read(vfs: &dyn Vfs, block: &Path) -> Result<Tombstones, ReadError> {
    let path = block.join(TOMBSTONES_FILE);
    let mut out = Tombstones::new();
    let file = match vfs.map_read(&path) {
        Err(e) if e.is_not_found() => return Ok(out),
        Err(e) => return Err(e.into()),
        Ok(_) => File::open(vfs, &path)?,
    };
    let mut r = Reader::new(file.bytes());
    let found = be32(&mut r).and_then(|magic| Ok((magic, r.u8()?))).map_err(|e| file.malformed(0, e))?;
    if found != (MAGIC, VERSION) {
        let text = |(magic, version): (u32, u8)| format!("{magic:08x} version {version}");
        return Err(file.corrupt(0, "header of tombstones", text((MAGIC, VERSION)), text(found)));
    }
    let len = r.remaining().checked_sub(CRC_BYTES);
    let len =
        len.ok_or_else(|| file.corrupt(HEADER_BYTES, "length of tombstones", "at least 9", file.bytes().len()))?;
    let mut r = Reader::new(file.checked(HEADER_BYTES, len)?);
    while !r.is_empty() {
        let entry = r.varint().and_then(|series| Ok((series, r.zigzag()?, r.zigzag()?)));
        let (series, mint, maxt) = entry.map_err(|e| file.malformed(HEADER_BYTES, e))?;
        // Larger references are of no series: an index has at most 64 GiB.
        if let Ok(series) = u32::try_from(series) {
            out.entry(series).or_default().push((mint, maxt));
        }
    }
    Ok(out)
}
