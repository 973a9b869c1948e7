//! Aligned windows of time: blocks begin and end at multiples of their length.

use promontory_model::TimeRange;

/// Windows that some of `sources` reaches into, cut to `wanted`, ascending.
pub(super) fn windows(sources: &[TimeRange], wanted: TimeRange, block_ms: i64) -> Vec<TimeRange> {
    let cut = |a: TimeRange, b: TimeRange| TimeRange { mint: a.mint.max(b.mint), maxt: a.maxt.min(b.maxt) };
    let mut sources: Vec<TimeRange> = sources.iter().map(|s| cut(*s, wanted)).filter(|s| !s.is_empty()).collect();
    sources.sort_unstable_by_key(|s| s.mint);
    let mut out: Vec<TimeRange> = Vec::new();
    for source in sources {
        let mut at = source.mint.0.max(out.last().map_or(i64::MIN, |w| w.maxt.0.saturating_add(1)));
        while at <= source.maxt.0 {
            let behind = at.rem_euclid(block_ms);
            let whole = TimeRange::new(at.saturating_sub(behind), at.saturating_add(block_ms - 1 - behind));
            out.push(cut(whole, wanted));
            match whole.maxt.0.checked_add(1) {
                Some(next) => at = next,
                None => break,
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(sources: &[(i64, i64)], wanted: (i64, i64), expected: &[(i64, i64)]) {
        let sources: Vec<TimeRange> = sources.iter().map(|s| TimeRange::new(s.0, s.1)).collect();
        let got = windows(&sources, TimeRange::new(wanted.0, wanted.1), 10);
        let got: Vec<(i64, i64)> = got.iter().map(|w| (w.mint.0, w.maxt.0)).collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn windows_are_aligned_and_only_where_samples_may_be() {
        let all = (i64::MIN, i64::MAX);
        check(&[], all, &[]);
        check(&[(5, 25)], all, &[(0, 9), (10, 19), (20, 29)]);
        check(&[(50, 59), (-3, 2), (1, 12)], all, &[(-10, -1), (0, 9), (10, 19), (50, 59)]);
        check(&[(5, 25)], (7, 21), &[(7, 9), (10, 19), (20, 21)]);
        check(&[(5, 25)], (26, 40), &[]);
        check(
            &[(i64::MIN, i64::MIN + 3), (i64::MAX, i64::MAX)],
            all,
            &[(i64::MIN, i64::MIN + 7), (i64::MAX - 7, i64::MAX)],
        );
    }
}
