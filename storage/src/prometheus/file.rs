//! A file of a Prometheus block in memory: big-endian numbers, sections with a CRC-32C behind them, and errors that say
//! where.

use std::path::{Path, PathBuf};

use promontory_model::ReadError;

use crate::vfs::{Mapped, Vfs};
use crate::wire::{Reader, WireError};

/// Bytes of a checksum.
pub(super) const CRC_BYTES: usize = 4;

/// A mapped file and its name for errors.
#[derive(Debug, Clone)]
pub(super) struct File {
    path: PathBuf,
    bytes: Mapped,
}

impl File {
    pub(super) fn open(vfs: &dyn Vfs, path: &Path) -> Result<Self, ReadError> {
        Ok(Self { path: path.to_owned(), bytes: vfs.map_read(path)? })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn corrupt(
        &self,
        offset: usize,
        what: &'static str,
        expected: impl ToString,
        found: impl ToString,
    ) -> ReadError {
        ReadError::corrupt(&self.path, offset as u64, what, expected, found)
    }

    /// `e`, met while reading bytes that start at `base`.
    pub(super) fn malformed(&self, base: usize, e: WireError) -> ReadError {
        self.corrupt(base + e.offset, e.what, "bytes as written", "others")
    }

    /// The bytes from `offset` on; none when the file ends before.
    pub(super) fn after(&self, offset: u64) -> &[u8] {
        usize::try_from(offset).ok().and_then(|at| self.bytes.get(at..)).unwrap_or(&[])
    }

    /// The `len` bytes at `offset`, whose CRC lies behind them.
    pub(super) fn checked(&self, offset: usize, len: usize) -> Result<&[u8], ReadError> {
        let end = offset.checked_add(len).filter(|end| *end <= self.bytes.len().saturating_sub(CRC_BYTES));
        let end = end.ok_or_else(|| self.corrupt(offset, "length of a section", "inside the file", len))?;
        let body = &self.bytes[offset..end];
        let stored = be32(&mut Reader::new(&self.bytes[end..])).map_err(|e| self.malformed(end, e))?;
        let found = crc32c::crc32c(body);
        if stored != found && sums_count() {
            return Err(self.corrupt(offset, "crc", format!("{stored:08x}"), format!("{found:08x}")));
        }
        Ok(body)
    }

    /// The section at `offset`: a length of four bytes, that many bytes, their CRC.
    pub(super) fn section(&self, offset: u64) -> Result<(usize, &[u8]), ReadError> {
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        let len = be32(&mut Reader::new(self.after(offset))).map_err(|e| self.malformed(at, e))?;
        // The length was read there, so four more fit.
        let body = at + 4;
        Ok((body, self.checked(body, len as usize)?))
    }
}

pub(super) fn be16(r: &mut Reader<'_>) -> Result<u16, WireError> {
    let mut out = [0; 2];
    out.copy_from_slice(r.slice(2)?);
    Ok(u16::from_be_bytes(out))
}

pub(super) fn be32(r: &mut Reader<'_>) -> Result<u32, WireError> {
    let mut out = [0; 4];
    out.copy_from_slice(r.slice(4)?);
    Ok(u32::from_be_bytes(out))
}

pub(super) fn be64(r: &mut Reader<'_>) -> Result<u64, WireError> {
    let mut out = [0; 8];
    out.copy_from_slice(r.slice(8)?);
    Ok(u64::from_be_bytes(out))
}

#[cfg(not(any(test, feature = "testing")))]
const fn sums_count() -> bool {
    true
}

#[cfg(any(test, feature = "testing"))]
thread_local! {
    static IGNORE_SUMS: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

#[cfg(any(test, feature = "testing"))]
fn sums_count() -> bool {
    !IGNORE_SUMS.get()
}

/// Runs `f` on this thread as if every checksum were right.
#[cfg(any(test, feature = "testing"))]
pub(super) fn ignoring_sums<T>(f: impl FnOnce() -> T) -> T {
    IGNORE_SUMS.set(true);
    let out = f();
    IGNORE_SUMS.set(false);
    out
}
