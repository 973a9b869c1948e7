//! Reading and writing little-endian bytes. What is read is hostile: nothing here panics or allocates by what
//! the bytes claim.

/// Bytes that do not hold what they should; the offset counts from the start of the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {offset}")]
pub(crate) struct WireError {
    /// What is wrong.
    pub(crate) what: &'static str,
    /// Where it starts.
    pub(crate) offset: usize,
}

/// Gives a file that is replaced as a whole its end: the checksum of all before.
pub(crate) fn sealed(mut file: Vec<u8>) -> Vec<u8> {
    let crc = crc32fast::hash(&file);
    file.extend_from_slice(&crc.to_le_bytes());
    file
}

/// What stands in such a file behind its magic number and version. Offsets count from the start of the file.
pub(crate) fn unsealed<'a>(file: &'a [u8], magic_and_version: &[u8; 8]) -> Result<Reader<'a>, WireError> {
    let mut r = Reader::new(file);
    let (body, crc) = file.split_last_chunk::<4>().ok_or(r.error("length of the file"))?;
    if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
        return Err(r.error("checksum of the file"));
    }
    r = Reader::new(body);
    if r.slice(magic_and_version.len())? != magic_and_version {
        return Err(Reader::new(file).error("magic number or version"));
    }
    Ok(r)
}

/// Takes values from the front of bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes taken so far.
    pub(crate) fn offset(&self) -> usize {
        self.at
    }

    /// Bytes left.
    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.remaining() == 0
    }

    /// The next byte, which is not taken.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// An error at the present offset.
    pub(crate) fn error(&self, what: &'static str) -> WireError {
        WireError { what, offset: self.at }
    }

    /// The next `n` bytes.
    pub(crate) fn slice(&mut self, n: usize) -> Result<&'a [u8], WireError> {
        let end = self.at.checked_add(n).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or(self.error("bytes end too early"))?;
        let out = &self.bytes[self.at..end];
        self.at = end;
        Ok(out)
    }

    /// A little-endian number of `n` bytes, at most 8.
    pub(crate) fn uint(&mut self, n: usize) -> Result<u64, WireError> {
        if n > 8 {
            return Err(self.error("number of more than 8 bytes"));
        }
        // Mostly there is more behind it, and 8 bytes are read in one go.
        if let Some(bytes) = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk()) {
            self.at += n;
            return Ok(u64::from_le_bytes(*bytes) & u64::MAX.checked_shr(64 - 8 * n as u32).unwrap_or(0));
        }
        let mut bytes = [0; 8];
        bytes[..n].copy_from_slice(self.slice(n)?);
        Ok(u64::from_le_bytes(bytes))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let mut out = [0; N];
        out.copy_from_slice(self.slice(N)?);
        Ok(out)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, WireError> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, WireError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, WireError> {
        self.array().map(i64::from_le_bytes)
    }

    /// A LEB128 number of at most ten bytes.
    pub(crate) fn varint(&mut self) -> Result<u64, WireError> {
        if let Some(&byte) = self.bytes.get(self.at).filter(|&&byte| byte < 0x80) {
            self.at += 1;
            return Ok(u64::from(byte));
        }
        let start = *self;
        let mut out = 0_u64;
        for shift in (0..70).step_by(7) {
            let byte = self.u8()?;
            let digit = u64::from(byte & 0x7f);
            if shift == 63 && digit > 1 {
                break;
            }
            out |= digit << shift;
            if byte & 0x80 == 0 {
                return Ok(out);
            }
        }
        Err(start.error("number does not fit 64 bits"))
    }

    /// A varint that must fit 32 bits.
    pub(crate) fn varint_u32(&mut self) -> Result<u32, WireError> {
        let start = *self;
        u32::try_from(self.varint()?).map_err(|_| start.error("number does not fit 32 bits"))
    }

    /// A varint that counts things of which each takes at least one of the `limit` that there can be.
    pub(crate) fn count(&mut self, limit: usize) -> Result<usize, WireError> {
        let start = *self;
        let n = usize::try_from(self.varint()?).ok().filter(|&n| n <= limit);
        n.ok_or(start.error("count is larger than can be"))
    }

    /// A zigzag varint.
    pub(crate) fn zigzag(&mut self) -> Result<i64, WireError> {
        self.varint().map(unzigzag)
    }

    /// A varint length and that many bytes.
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], WireError> {
        let n = self.count(self.remaining())?;
        self.slice(n)
    }

    /// A varint length and that many bytes of UTF-8.
    pub(crate) fn str(&mut self) -> Result<&'a str, WireError> {
        let start = *self;
        std::str::from_utf8(self.bytes()?).map_err(|_| start.error("text is not UTF-8"))
    }
}

/// Small magnitudes to small numbers: 0, -1, 1, -2 to 0, 1, 2, 3.
pub(crate) fn zigzag(v: i64) -> u64 {
    ((v << 1) ^ (v >> 63)).cast_unsigned()
}

/// The inverse of [`zigzag`].
pub(crate) fn unzigzag(v: u64) -> i64 {
    (v >> 1).cast_signed() ^ -((v & 1).cast_signed())
}

/// Writes a LEB128 number.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

/// Writes a zigzag varint.
pub(crate) fn put_zigzag(out: &mut Vec<u8>, v: i64) {
    put_varint(out, zigzag(v));
}

/// Writes a varint length and the bytes.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: &str) {
        let mut r = Reader::new(bytes);
        let got = match r.varint() {
            Ok(v) => format!("{v} after {}", r.offset()),
            Err(e) => e.to_string(),
        };
        assert_eq!(got, expected, "{bytes:x?}");
    }

    #[test]
    fn varints_are_bounded() {
        check(&[0], "0 after 1");
        check(&[0x80, 1], "128 after 2");
        check(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], "18446744073709551615 after 10");
        check(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2], "number does not fit 64 bits at byte 0");
        check(&[0xff; 12], "number does not fit 64 bits at byte 0");
        check(&[0x80], "bytes end too early at byte 1");
    }

    #[test]
    fn lengths_beyond_the_end_are_refused_without_allocating() {
        let mut bytes = Vec::new();
        put_varint(&mut bytes, u64::MAX);
        assert_eq!(Reader::new(&bytes).bytes().unwrap_err().what, "count is larger than can be");
        assert_eq!(Reader::new(&[1, 0xff]).str().unwrap_err().what, "text is not UTF-8");
        assert_eq!(Reader::new(&[]).u64().unwrap_err().what, "bytes end too early");
    }

    proptest! {
        #[test]
        fn numbers_round_trip(u in any::<u64>(), i in any::<i64>(), s in "\\PC{0,20}") {
            let mut out = Vec::new();
            put_varint(&mut out, u);
            put_zigzag(&mut out, i);
            put_bytes(&mut out, s.as_bytes());
            let mut r = Reader::new(&out);
            prop_assert_eq!(r.varint(), Ok(u));
            prop_assert_eq!(r.zigzag(), Ok(i));
            prop_assert_eq!(r.str(), Ok(s.as_str()));
            prop_assert!(r.is_empty());
        }
    }
}
