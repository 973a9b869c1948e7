//! The frame around every run of bytes in a block's files: magic, version, kind, length, CRC.
//!
//! Knows nothing of what is inside. The CRC covers the head as well, so that no field can be damaged unseen.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use promontory_model::ReadError;

use crate::canary::{Bug, is_planted};
use crate::wire::WireError;

/// First bytes of every section.
pub(super) const MAGIC: [u8; 4] = *b"PMBK";
/// Version of all sections of a block.
pub(super) const VERSION: u8 = 1;
/// Where the kind stands.
pub(super) const KIND_AT: usize = 5;
/// Bytes before the body.
pub(super) const HEAD_BYTES: usize = 16;

/// What a section holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// Columns of one span of a group.
    Page = 1,
    /// Table of contents of the index.
    Contents = 2,
    /// Values of one label name.
    Dictionary = 3,
    /// Series of each value of one label name.
    Postings = 4,
    /// Labels, group and column of each series.
    Series = 5,
    /// Where the samples of each group lie.
    Groups = 6,
    /// A whole index.
    Packed = 7,
}

/// Appends a section. `None` when the body does not fit its length field.
pub(super) fn put(kind: Kind, body: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let start = out.len();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[VERSION, kind as u8, 0, 0]);
    out.extend_from_slice(&u32::try_from(body.len()).ok()?.to_le_bytes());
    let crc = crc(&out[start..], body);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(body);
    Some(())
}

fn crc(head: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(body);
    hasher.finalize()
}

/// Gives every section its right CRC, as far as sections can be told apart.
#[cfg(any(test, feature = "testing"))]
pub(super) fn mend(file: &mut [u8]) {
    let mut rest = file;
    while rest.len() >= HEAD_BYTES {
        let len = u32::from_le_bytes([rest[8], rest[9], rest[10], rest[11]]) as usize;
        let end = HEAD_BYTES.saturating_add(len).min(rest.len());
        let (section, after) = rest.split_at_mut(end);
        let (head, body) = section.split_at_mut(HEAD_BYTES);
        let crc = crc(&head[..12], body);
        head[12..].copy_from_slice(&crc.to_le_bytes());
        rest = after;
    }
}

/// A file's bytes and its name for errors.
#[derive(Clone, Copy)]
pub(crate) struct File<'a> {
    pub(crate) path: &'a Path,
    pub(crate) bytes: &'a [u8],
}

impl<'a> File<'a> {
    /// An error at `offset` of this file.
    pub(crate) fn corrupt(
        self,
        offset: usize,
        what: &'static str,
        expected: impl ToString,
        found: impl ToString,
    ) -> ReadError {
        ReadError::corrupt(self.path, offset as u64, what, expected, found)
    }

    /// An error inside a run of bytes that starts at `base`.
    pub(crate) fn malformed(self, base: usize, e: impl Into<Malformed>) -> ReadError {
        let Malformed { what, at } = e.into();
        self.corrupt(base.saturating_add(at), what, "bytes as written", "other bytes")
    }

    /// The section at `offset` that takes `len` bytes in all, its head and CRC checked.
    pub(super) fn section(self, kind: Kind, offset: usize, len: usize) -> Result<&'a [u8], ReadError> {
        let bytes = self.slice(offset, len)?;
        let (head, body) = bytes.split_at(HEAD_BYTES);
        let head_found = &head[..12];
        let mut expected = [0; 12];
        expected[..4].copy_from_slice(&MAGIC);
        expected[4] = VERSION;
        expected[5] = kind as u8;
        // A longer body than a section can have shows as a difference here.
        expected[8..].copy_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
        if head_found[4] != VERSION && head_found[..4] == MAGIC {
            return Err(self.corrupt(offset, "version of a section", VERSION, head_found[4]));
        }
        if head_found != expected {
            return Err(self.corrupt(offset, "head of a section", Hex(&expected), Hex(head_found)));
        }
        let stored = u32::from_le_bytes([head[12], head[13], head[14], head[15]]);
        let computed = crc(head_found, body);
        if stored != computed && !is_planted(Bug::SectionCrcIgnored) {
            return Err(self.corrupt(offset, "crc mismatch", format!("{stored:08x}"), format!("{computed:08x}")));
        }
        Ok(body)
    }

    /// The body of a section that has been checked before.
    pub(super) fn checked_section(self, offset: usize, len: usize) -> Result<&'a [u8], ReadError> {
        Ok(&self.slice(offset, len)?[HEAD_BYTES..])
    }

    fn slice(self, offset: usize, len: usize) -> Result<&'a [u8], ReadError> {
        let end = offset.checked_add(len).filter(|end| *end <= self.bytes.len() && len >= HEAD_BYTES);
        let end = end.ok_or_else(|| {
            let found = format!("{len} bytes in a file of {}", self.bytes.len());
            self.corrupt(offset, "length of a section", format!("at least {HEAD_BYTES} bytes inside the file"), found)
        })?;
        Ok(&self.bytes[offset..end])
    }
}

/// What a decoder found wrong, and how far into its bytes.
pub(crate) struct Malformed {
    pub(super) what: &'static str,
    pub(super) at: usize,
}

impl From<WireError> for Malformed {
    fn from(e: WireError) -> Self {
        Self { what: e.what, at: e.offset }
    }
}

impl From<crate::codec::CodecError> for Malformed {
    fn from(e: crate::codec::CodecError) -> Self {
        Self { what: e.what, at: e.at }
    }
}

struct Hex<'a>(&'a [u8]);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// Where a section lies, and whether its CRC has been checked since the file was opened.
#[derive(Debug)]
pub(super) struct Place {
    kind: Kind,
    offset: usize,
    len: usize,
    checked: AtomicBool,
}

impl Place {
    pub(super) fn new(kind: Kind, offset: usize, len: usize) -> Self {
        Self { kind, offset, len, checked: AtomicBool::new(false) }
    }

    /// Bytes, head included.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Offset of the body in the file.
    pub(super) fn body_offset(&self) -> usize {
        self.offset + HEAD_BYTES
    }

    /// The body; the CRC is checked on the first touch.
    pub(super) fn body<'a>(&self, file: File<'a>) -> Result<&'a [u8], ReadError> {
        // Relaxed is enough: two threads may both check, neither skips.
        if self.checked.load(Ordering::Relaxed) {
            return file.checked_section(self.offset, self.len);
        }
        let body = file.section(self.kind, self.offset, self.len)?;
        self.checked.store(true, Ordering::Relaxed);
        Ok(body)
    }
}
