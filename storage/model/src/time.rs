//! Points in time, spans of time and Prometheus' duration text.
//!
//! All times are whole milliseconds since the Unix epoch; ranges are inclusive on both ends. No clock here:
//! the present is asked of `promontory_storage::clock`.

use std::fmt;

/// Milliseconds since the Unix epoch; negative before 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The earliest time that can be named.
    pub const MIN: Self = Self(i64::MIN);
    /// The latest time that can be named.
    pub const MAX: Self = Self(i64::MAX);

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub fn ms(self) -> i64 {
        self.0
    }

    /// Seconds since the Unix epoch, as PromQL shows time.
    #[must_use]
    pub fn secs_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// The time `d` later; stays at the end of the range instead of wrapping.
    #[must_use]
    pub fn saturating_add(self, d: Duration) -> Self {
        Self(self.0.saturating_add(d.0))
    }

    /// The time `d` earlier; stays at the end of the range instead of wrapping.
    #[must_use]
    pub fn saturating_sub(self, d: Duration) -> Self {
        Self(self.0.saturating_sub(d.0))
    }
}

/// From `mint` to `maxt`, both inclusive. Empty when `mint > maxt`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimeRange {
    /// First instant inside.
    pub mint: Timestamp,
    /// Last instant inside.
    pub maxt: Timestamp,
}

impl TimeRange {
    /// All of time.
    pub const ALL: Self = Self { mint: Timestamp::MIN, maxt: Timestamp::MAX };

    /// The range from `mint` to `maxt` in milliseconds, both inclusive.
    #[must_use]
    pub fn new(mint: i64, maxt: i64) -> Self {
        Self { mint: Timestamp(mint), maxt: Timestamp(maxt) }
    }

    /// Whether `t` lies inside.
    #[must_use]
    pub fn contains(self, t: Timestamp) -> bool {
        self.mint <= t && t <= self.maxt
    }

    /// Whether both ranges share an instant.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.mint <= other.maxt && other.mint <= self.maxt
    }

    /// Whether no instant lies inside.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.mint > self.maxt
    }
}

/// A span of time in milliseconds; may be negative (a negative offset).
///
/// # Source
/// The text form is Prometheus' `model.Duration`: units `y w d h m s ms`, largest first, each once, whole numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Duration(pub i64);

/// Text that is not a Prometheus duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Nothing there.
    #[error("empty duration string")]
    Empty,
    /// The text does not follow the pattern.
    #[error("not a valid duration string: {0:?}")]
    Invalid(String),
    /// A unit that does not exist.
    #[error("unknown unit {unit:?} in duration {text:?}")]
    UnknownUnit {
        /// What stood where a unit belongs.
        unit: String,
        /// The whole text.
        text: String,
    },
    /// Longer than 2^63 ns, as in Prometheus.
    #[error("duration out of range")]
    OutOfRange,
}

/// Units, largest first: name and milliseconds.
const UNITS: [(&str, i64); 7] = [
    ("y", 365 * 24 * 3_600_000),
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];
/// Prometheus holds durations as i64 nanoseconds.
const DURATION_MS_MAX: i64 = i64::MAX / 1_000_000;

impl Duration {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// A span of whole seconds.
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs * 1000)
    }

    /// Milliseconds.
    #[must_use]
    pub fn ms(self) -> i64 {
        self.0
    }

    /// Seconds.
    #[must_use]
    pub fn secs_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// Reads `1h30m`, `15s`, `0`, `1y2w3d4h5m6s7ms`.
    ///
    /// # Errors
    /// [`DurationError`], worded as Prometheus words it.
    pub fn parse(text: &str) -> Result<Self, DurationError> {
        match text {
            "" => return Err(DurationError::Empty),
            "0" => return Ok(Self::ZERO),
            _ => {}
        }
        let invalid = || DurationError::Invalid(text.to_owned());
        let mut rest = text;
        let mut total: i64 = 0;
        let mut next_unit = 0;
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            if digits == 0 {
                return Err(invalid());
            }
            let (number, after) = rest.split_at(digits);
            let unit_len = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
            let (unit, after) = after.split_at(unit_len);
            if unit.is_empty() {
                return Err(invalid());
            }
            let Some(position) = UNITS.iter().position(|(name, _)| *name == unit) else {
                return Err(DurationError::UnknownUnit { unit: unit.to_owned(), text: text.to_owned() });
            };
            if position < next_unit {
                return Err(invalid());
            }
            next_unit = position + 1;
            let number: i64 = number.parse().map_err(|_| DurationError::OutOfRange)?;
            let part = number.checked_mul(UNITS[position].1).ok_or(DurationError::OutOfRange)?;
            total = total.checked_add(part).ok_or(DurationError::OutOfRange)?;
            if total > DURATION_MS_MAX {
                return Err(DurationError::OutOfRange);
            }
            rest = after;
        }
        Ok(Self(total))
    }
}

/// `1h30m`, as Prometheus prints it: years, weeks and days only when they divide the whole span.
impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        if self.0 < 0 {
            f.write_str("-")?;
        }
        let mut rest = self.0.unsigned_abs();
        for (i, (name, ms)) in UNITS.iter().enumerate() {
            let ms = ms.unsigned_abs();
            let only_exact = i < 3;
            if only_exact && !rest.is_multiple_of(ms) {
                continue;
            }
            if rest >= ms {
                write!(f, "{}{name}", rest / ms)?;
                rest %= ms;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let got = match Duration::parse(text) {
            Ok(d) => format!("{} {d}", d.ms()),
            Err(e) => e.to_string(),
        };
        assert_eq!(got, expected, "{text}");
    }

    #[test]
    fn durations_read_and_print_as_prometheus_does() {
        check("0", "0 0s");
        check("1h30m", "5400000 1h30m");
        check("90s", "90000 1m30s");
        check("1y2w", "32745600000 379d");
        check("2w", "1209600000 2w");
        check("1d12h", "129600000 36h");
        check("5ms", "5 5ms");
        check("", "empty duration string");
        check("1", "not a valid duration string: \"1\"");
        check("30m1h", "not a valid duration string: \"30m1h\"");
        check("1.5h", "unknown unit \".\" in duration \"1.5h\"");
        check("300y", "duration out of range");
        check("99999999999999999999s", "duration out of range");
    }

    #[test]
    fn range_bounds_are_inclusive() {
        let r = TimeRange::new(10, 20);
        assert!(r.contains(Timestamp(10)) && r.contains(Timestamp(20)) && !r.contains(Timestamp(21)));
        assert!(r.overlaps(TimeRange::new(20, 30)) && !r.overlaps(TimeRange::new(21, 30)));
    }
}
