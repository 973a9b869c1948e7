//! Writing the fields of messages by hand, where a message per sample would be allocated otherwise.

/// Appends a number.
pub(super) fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Bytes of a number.
pub(super) fn varint_len(n: u64) -> usize {
    (64 - (n | 1).leading_zeros() as usize).div_ceil(7)
}

/// Appends a field of numbers below 16 that holds bytes.
pub(super) fn bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a field with a float, unless it is all zeros.
pub(super) fn double(out: &mut Vec<u8>, field: u8, v: f64) {
    if v.to_bits() != 0 {
        out.push(field << 3 | 1);
        out.extend_from_slice(&v.to_bits().to_le_bytes());
    }
}

/// Appends a field with a number, unless it is 0.
pub(super) fn int64(out: &mut Vec<u8>, field: u8, n: i64) {
    if n != 0 {
        out.push(field << 3);
        varint(out, n as u64);
    }
}

/// Appends field 1: a label, as version 1 of remote write has them.
pub(super) fn label(out: &mut Vec<u8>, name: &str, value: &str) {
    let field = |text: &str| 1 + varint_len(text.len() as u64) + text.len();
    out.push(0x0a);
    varint(out, (field(name) + field(value)) as u64);
    bytes(out, 1, name.as_bytes());
    bytes(out, 2, value.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_numbers_are_what_is_written() {
        for n in [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            varint(&mut out, n);
            assert_eq!(out.len(), varint_len(n), "{n}");
        }
    }
}
