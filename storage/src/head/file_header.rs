//! What the numbered files of the head begin with, and how they are named: segments, series files, exemplars.

/// Bytes of the header.
pub(crate) const BYTES: usize = 12;
const VERSION: u16 = 1;

/// Magic number, version, checksum.
pub(crate) fn of(magic: [u8; 6]) -> [u8; BYTES] {
    let mut out = [0; BYTES];
    out[..6].copy_from_slice(&magic);
    out[6..8].copy_from_slice(&VERSION.to_le_bytes());
    let crc = crc32fast::hash(&out[..8]);
    out[8..].copy_from_slice(&crc.to_le_bytes());
    out
}

/// Name of file number `id` of a kind.
pub(crate) fn name(id: u64, extension: &str) -> String {
    format!("{id:08}.{extension}")
}

/// Number of the file with this name, if it is of the kind.
pub(crate) fn number(name: &str, extension: &str) -> Option<u64> {
    name.strip_suffix(extension)?.strip_suffix('.').filter(|n| n.len() >= 8)?.parse().ok()
}
