//! The file that checkpoints write exemplars to: a header, then records as in the WAL.
//!
//! It grows by what is new; the manifest says how many bytes count. When it holds much that is not kept any more, a new
//! file takes its place. Format: `docs/format/head-segment.md`.

use std::path::Path;

use super::{Exemplars, ToFile, parts};
use crate::head::file_header;
use crate::vfs::{Vfs, VfsError, VfsFile};
use crate::wal::page::{RECORD_HEADER_BYTES, put_record};
use crate::wal::record::{self, Record};
use crate::wire::Reader;

const FILE_HEADER_BYTES: usize = file_header::BYTES;
const FILE_MAGIC: [u8; 6] = *b"PMTEXM";

/// Header of the file.
pub(crate) fn file_header() -> [u8; FILE_HEADER_BYTES] {
    file_header::of(FILE_MAGIC)
}

/// Name of the file with this number.
pub(crate) fn file_name(id: u64) -> String {
    file_header::name(id, "exemplars")
}

/// Number of the file with this name.
pub(crate) fn file_of(name: &str) -> Option<u64> {
    file_header::number(name, "exemplars")
}

/// The file as the manifest names it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Filed {
    /// Number and bytes; 0 when there is none.
    pub(crate) file: (u64, u64),
    /// Exemplars inside; the greatest number when the file is damaged and must not grow.
    pub(crate) n: u64,
}

/// Writes and syncs what the file that `before` describes lacks. The caller publishes the result in a manifest and
/// then calls [`Exemplars::filed`] with the number that comes with it.
pub(crate) fn write(exemplars: &Exemplars, vfs: &dyn Vfs, dir: &Path, before: Filed) -> Result<(Filed, u64), VfsError> {
    let ToFile { is_rewrite, first_no, exemplars: all, end_no } = exemplars.to_file(before.n);
    let (mut id, mut len) = before.file;
    if all.is_empty() && !(is_rewrite && id != 0) {
        return Ok((before, end_no));
    }
    let mut bytes = Vec::new();
    let mut n = before.n;
    let is_new = is_rewrite || id == 0;
    if is_new {
        (id, len, n) = (id + 1, 0, 0);
        bytes.extend_from_slice(&file_header());
    }
    let mut no = first_no;
    for part in parts(&all) {
        put_record(&mut bytes, |out| record::put_exemplars(out, no, part));
        no += part.len() as u64;
    }
    let path = dir.join(file_name(id));
    let file: Box<dyn VfsFile> = if is_new { vfs.create(&path)? } else { vfs.open_append(&path)? };
    // What a checkpoint that failed later wrote may lie behind what the manifest names.
    if file.len()? > len {
        file.truncate(len)?;
    }
    file.write_all(&bytes)?;
    file.sync()?;
    if is_new {
        vfs.sync_dir(dir)?;
    }
    Ok((Filed { file: (id, len + bytes.len() as u64), n: n + all.len() as u64 }, end_no))
}

/// Puts back what a file holds. Gives the number of exemplars inside, and damaged places: offset and what.
pub(crate) fn load(bytes: &[u8], exemplars: &Exemplars) -> (u64, Vec<(u64, &'static str)>) {
    let mut damage = Vec::new();
    if bytes.get(..FILE_HEADER_BYTES).is_none_or(|h| h != file_header()) {
        damage.push((0, "header of the exemplars"));
    }
    let mut n = 0;
    let mut at = FILE_HEADER_BYTES.min(bytes.len());
    while at < bytes.len() {
        let mut r = Reader::new(&bytes[at..]);
        let frame = r.u32().and_then(|len| Ok((r.u32()?, r.slice(len as usize)?)));
        let Ok((crc, body)) = frame else {
            damage.push((at as u64, "frame of exemplars"));
            break;
        };
        match record::read(body) {
            Ok(Record::Exemplars { first_no, batch }) if crc32fast::hash(body) == crc => {
                n += batch.len() as u64;
                exemplars.restore(first_no, batch);
            }
            _ => damage.push((at as u64, "exemplars")),
        }
        at += RECORD_HEADER_BYTES + body.len();
    }
    exemplars.restored_file();
    (n, damage)
}
