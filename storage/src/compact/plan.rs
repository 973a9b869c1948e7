//! Chooses blocks to merge: overlapping ones first, then whole windows of a day and a week.

use crate::block::BlockMeta;
use crate::ulid::Ulid;

const DAY_MS: i64 = 24 * 3_600_000;
const WEEK_MS: i64 = 7 * DAY_MS;
/// A block holds at most this part of the retention, so that deleting it does not take too much at once.
const RETENTION_PART: i64 = 10;

/// What bounds the size of blocks.
#[derive(Debug, Clone, Copy)]
pub struct PlanOptions {
    /// Length of a block cut from the head, ms; at least 1.
    pub block_ms: i64,
    /// Age at which samples go, ms; `None` keeps all.
    pub retention_ms: Option<i64>,
}

/// Why blocks are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// They share times.
    Overlap,
    /// Many of its series have deleted samples.
    Deleted,
    /// They fill a window of this length, ms.
    Window(i64),
}

/// Blocks to merge into one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Inputs, oldest samples first.
    pub inputs: Vec<Ulid>,
    /// Why.
    pub why: Why,
}

/// The next merge that is worth it; `None` when there is nothing to do.
#[must_use]
pub fn plan(blocks: &[BlockMeta], options: &PlanOptions) -> Option<Plan> {
    let mut sorted: Vec<&BlockMeta> = blocks.iter().filter(|m| !m.range.is_empty()).collect();
    sorted.sort_by_key(|m| (m.range.mint, m.ulid));
    overlapping(&sorted).or_else(|| windows(options).into_iter().find_map(|w| full_window(&sorted, w)))
}

fn overlapping(sorted: &[&BlockMeta]) -> Option<Plan> {
    let mut run: Vec<&BlockMeta> = Vec::new();
    let mut maxt = None;
    for block in sorted {
        if maxt.is_some_and(|maxt| block.range.mint <= maxt) {
            run.push(block);
        } else {
            if run.len() > 1 {
                break;
            }
            run = vec![block];
        }
        maxt = maxt.max(Some(block.range.maxt));
    }
    (run.len() > 1).then(|| Plan { inputs: run.iter().map(|m| m.ulid).collect(), why: Why::Overlap })
}

/// Lengths of windows, shortest first.
fn windows(options: &PlanOptions) -> Vec<i64> {
    let block_ms = options.block_ms.max(1);
    let longest = options.retention_ms.map_or(i64::MAX, |r| r / RETENTION_PART / block_ms * block_ms);
    let mut out: Vec<i64> = [DAY_MS, WEEK_MS].into_iter().map(|w| w.min(longest)).collect();
    out.dedup();
    out.retain(|w| *w >= 2 * block_ms);
    out
}

/// The oldest window that holds several whole blocks and is past: a block starts after it.
fn full_window(sorted: &[&BlockMeta], window: i64) -> Option<Plan> {
    let start_of = |m: &BlockMeta| m.range.mint.0.div_euclid(window).checked_mul(window);
    let newest_start = sorted.last()?.range.mint.0;
    for run in sorted.chunk_by(|a, b| start_of(a) == start_of(b)) {
        let Some(end) = start_of(run[0]).and_then(|s| s.checked_add(window)) else {
            continue;
        };
        let inside: Vec<Ulid> = run.iter().filter(|m| m.range.maxt.0 < end).map(|m| m.ulid).collect();
        if inside.len() > 1 && newest_start >= end {
            return Some(Plan { inputs: inside, why: Why::Window(window) });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use promontory_model::TimeRange;

    const HOUR_MS: i64 = 3_600_000;

    /// Blocks from hour to hour, the end exclusive; named 0, 1, 2, … in this order.
    #[track_caller]
    fn check(hours: &[(i64, i64)], retention_hours: Option<i64>, expected: Option<(&[u64], Why)>) {
        let blocks: Vec<BlockMeta> = hours
            .iter()
            .enumerate()
            .map(|(i, (from, to))| BlockMeta {
                ulid: Ulid::new(i as u64, 0),
                level: 1,
                range: TimeRange::new(from * HOUR_MS, to * HOUR_MS - 1),
                n_series: 1,
                n_groups: 1,
                n_mini_blocks: 1,
                n_samples: 1,
                n_pages: 1,
                index_bytes: 1,
                data_bytes: 1,
                sources: Vec::new(),
            })
            .collect();
        let options = PlanOptions { block_ms: 2 * HOUR_MS, retention_ms: retention_hours.map(|h| h * HOUR_MS) };
        let expected = expected.map(|(ids, why)| Plan { inputs: ids.iter().map(|i| Ulid::new(*i, 0)).collect(), why });
        assert_eq!(plan(&blocks, &options), expected);
    }

    #[test]
    fn whole_past_windows_are_merged() {
        check(&[], None, None);
        check(&[(0, 2), (2, 4)], None, None);
        check(&[(0, 2), (2, 4), (22, 24), (24, 26)], None, Some((&[0, 1, 2], Why::Window(DAY_MS))));
        check(&[(0, 24), (24, 26), (26, 28), (48, 50)], None, Some((&[1, 2], Why::Window(DAY_MS))));
        check(&[(0, 24), (24, 48), (168, 170)], None, Some((&[0, 1], Why::Window(WEEK_MS))));
        check(&[(0, 24), (24, 48), (50, 52)], None, None);
        check(&[(0, 2)], None, None);
        check(&[(-24, -22), (-22, -20), (0, 2)], None, Some((&[0, 1], Why::Window(DAY_MS))));
    }

    #[test]
    fn a_tenth_of_the_retention_bounds_blocks() {
        check(&[(0, 24), (24, 48), (168, 170)], Some(15 * 24), None);
        check(&[(0, 2), (2, 4), (6, 8)], Some(60), Some((&[0, 1], Why::Window(6 * HOUR_MS))));
        check(&[(0, 2), (2, 4), (6, 8)], Some(30), None);
    }

    #[test]
    fn overlapping_blocks_come_first() {
        check(&[(0, 2), (2, 4), (24, 26), (25, 27)], None, Some((&[2, 3], Why::Overlap)));
        check(&[(0, 6), (1, 2), (5, 8), (8, 10)], None, Some((&[0, 1, 2], Why::Overlap)));
    }
}
