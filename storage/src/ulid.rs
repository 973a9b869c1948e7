//! Names of blocks: 48 bits of milliseconds, then 80 random bits, as 26 digits that sort by time.
//!
//! Time and randomness are passed in; nothing here asks for either.
//!
//! # Source
//! The ULID specification: Crockford's base 32, upper case only, the first digit at most 7.

use std::fmt;
use std::str::FromStr;

const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const LEN: usize = 26;

/// A sortable unique name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ulid(u128);

/// Text that is not a ULID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a ULID: 26 digits of upper-case base 32 expected")]
pub struct UlidError;

impl Ulid {
    /// The name of something made at `ms` since the epoch; of `random` the low 80 bits count.
    #[must_use]
    pub fn new(ms: u64, random: u128) -> Self {
        Self(u128::from(ms & 0xffff_ffff_ffff) << 80 | random & ((1 << 80) - 1))
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub fn ms(self) -> u64 {
        (self.0 >> 80) as u64
    }
}

impl fmt::Display for Ulid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        for i in (0..LEN).rev() {
            f.write_char(char::from(DIGITS[(self.0 >> (5 * i) & 31) as usize]))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Ulid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Ulid {
    type Err = UlidError;

    fn from_str(text: &str) -> Result<Self, UlidError> {
        if text.len() != LEN || text.as_bytes()[0] > b'7' {
            return Err(UlidError);
        }
        let mut out = 0u128;
        for b in text.bytes() {
            let digit = DIGITS.iter().position(|d| *d == b).ok_or(UlidError)?;
            out = out << 5 | digit as u128;
        }
        Ok(Self(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(ms: u64, random: u128, text: &str) {
        let ulid = Ulid::new(ms, random);
        assert_eq!(ulid.to_string(), text);
        assert_eq!(text.parse(), Ok(ulid));
        assert_eq!(ulid.ms(), ms);
    }

    #[test]
    fn ulids_are_text_that_sorts_by_time() {
        check(0, 0, "00000000000000000000000000");
        check(1_469_918_176_385, 0, "01ARYZ6S410000000000000000");
        check((1 << 48) - 1, (1 << 80) - 1, "7ZZZZZZZZZZZZZZZZZZZZZZZZZ");
        assert!(Ulid::new(1, u128::MAX).to_string() < Ulid::new(2, 0).to_string());
    }

    #[test]
    fn other_text_is_refused() {
        for text in
            ["", "01ARYZ6S41", "01aryz6s410000000000000000", "8ZZZZZZZZZZZZZZZZZZZZZZZZZ", "01ARYZ6S41U000000000000000"]
        {
            assert_eq!(text.parse::<Ulid>(), Err(UlidError), "{text}");
        }
    }
}
