//! Which blocks go: those past the age limit, and the oldest while all together are too large.
//!
//! Only decides; the caller closes and deletes. Knows no clock: age is measured from the newest sample, so that a clock
//! that jumps deletes nothing.

use promontory_model::Timestamp;

use crate::block::BlockMeta;
use crate::ulid::Ulid;

/// How much history is kept. `None` is without limit.
#[derive(Debug, Clone, Copy)]
pub struct RetentionLimits {
    /// Age of the youngest sample of a block at which it goes, ms.
    pub age_ms: Option<i64>,
    /// Bytes of all blocks and what the caller adds to them.
    pub bytes: Option<u64>,
}

/// Why a block goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// All its samples are too old.
    #[error("newest sample at {maxt} ms is older than {oldest_ms} ms")]
    Age {
        /// Newest sample of the block.
        maxt: i64,
        /// Oldest time that is kept.
        oldest_ms: i64,
    },
    /// The block and all younger ones are too large together.
    #[error("{total} bytes with all younger blocks exceed {allowed} bytes")]
    Size {
        /// Bytes of the block and all younger data.
        total: u64,
        /// Limit.
        allowed: u64,
    },
}

/// A block that goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removal {
    /// Name.
    pub ulid: Ulid,
    /// Bytes that come free.
    pub bytes: u64,
    /// Why.
    pub reason: Reason,
}

/// The blocks to delete, oldest first. `newest` is the newest sample of the whole database, `other_bytes` what head and
/// log take; they count against the size but do not go.
///
/// The youngest block never goes for its size: a limit that is too small keeps little rather than nothing.
#[must_use]
pub fn plan(blocks: &[BlockMeta], limits: &RetentionLimits, newest: Timestamp, other_bytes: u64) -> Vec<Removal> {
    let mut by_age: Vec<&BlockMeta> = blocks.iter().collect();
    by_age.sort_by_key(|m| std::cmp::Reverse((m.range.maxt, m.ulid)));
    let oldest_ms = limits.age_ms.map(|age| newest.0.saturating_sub(age));
    let mut total = other_bytes;
    let mut out = Vec::new();
    for (i, block) in by_age.into_iter().enumerate() {
        let bytes = block.bytes();
        total = total.saturating_add(bytes);
        let maxt = block.range.maxt.0;
        let too_old = oldest_ms.filter(|oldest| maxt < *oldest);
        let too_large = limits.bytes.filter(|allowed| i > 0 && total > *allowed);
        let reason = match (too_old, too_large) {
            (Some(oldest_ms), _) => Reason::Age { maxt, oldest_ms },
            (None, Some(allowed)) => Reason::Size { total, allowed },
            (None, None) => continue,
        };
        out.push(Removal { ulid: block.ulid, bytes, reason });
    }
    out.reverse();
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use promontory_model::TimeRange;

    fn blocks() -> Vec<BlockMeta> {
        (0..4)
            .map(|i: i64| BlockMeta {
                ulid: Ulid::new(i.unsigned_abs(), 0),
                level: 1,
                range: TimeRange::new(i * 100, i * 100 + 99),
                n_series: 1,
                n_groups: 1,
                n_mini_blocks: 1,
                n_samples: 1,
                n_pages: 1,
                index_bytes: 40,
                data_bytes: 60,
                sources: Vec::new(),
            })
            .collect()
    }

    #[track_caller]
    fn check(age_ms: Option<i64>, bytes: Option<u64>, newest: i64, other_bytes: u64, expected: &[&str]) {
        let limits = RetentionLimits { age_ms, bytes };
        let got: Vec<String> = plan(&blocks(), &limits, Timestamp(newest), other_bytes)
            .iter()
            .map(|r| format!("{}: {}", r.ulid.ms(), r.reason))
            .collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn old_blocks_go_first_and_the_youngest_stays() {
        check(None, None, i64::MAX, 1 << 40, &[]);
        check(Some(200), None, 399, 0, &["0: newest sample at 99 ms is older than 199 ms"]);
        check(Some(300), None, 399, 0, &[]);
        check(Some(i64::MAX), None, i64::MIN, 0, &[]);
        check(None, Some(300), 399, 0, &["0: 400 bytes with all younger blocks exceed 300 bytes"]);
        check(
            None,
            Some(250),
            399,
            60,
            &[
                "0: 460 bytes with all younger blocks exceed 250 bytes",
                "1: 360 bytes with all younger blocks exceed 250 bytes",
                "2: 260 bytes with all younger blocks exceed 250 bytes",
            ],
        );
        check(
            Some(200),
            Some(50),
            399,
            0,
            &[
                "0: newest sample at 99 ms is older than 199 ms",
                "1: 300 bytes with all younger blocks exceed 50 bytes",
                "2: 200 bytes with all younger blocks exceed 50 bytes",
            ],
        );
    }
}
