//! Windows in rows: which samples each step sees. Computed once per column of timestamps, used by all its series.

/// A window in time: left-open, right-closed, in ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Not inside.
    pub(crate) start: i64,
    /// Inside.
    pub(crate) end: i64,
}

/// A half-open range of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Rows {
    /// First row inside.
    pub(crate) lo: u32,
    /// One past the last row inside.
    pub(crate) hi: u32,
}

impl Rows {
    /// As a range of indexes.
    #[inline]
    pub(crate) fn range(self) -> std::ops::Range<usize> {
        self.lo as usize..self.hi as usize
    }

    /// Number of rows.
    #[inline]
    pub(crate) fn len(self) -> usize {
        (self.hi - self.lo) as usize
    }
}

/// For each window the rows whose times lie inside. Neither start nor end may descend from one window to the next.
pub(crate) fn rows(times: &[i64], windows: &[Bounds], out: &mut Vec<Rows>) {
    debug_assert!(windows.is_sorted_by(|a, b| a.start <= b.start && a.end <= b.end), "windows must ascend");
    out.clear();
    out.reserve(windows.len());
    let (mut lo, mut hi) = (0, 0);
    for w in windows {
        lo = gallop(times, lo, w.start);
        hi = gallop(times, hi.max(lo), w.end);
        out.push(Rows { lo: lo as u32, hi: hi as u32 });
    }
}

/// The first row at or after `from` whose time is greater than `t`, found in steps that double.
fn gallop(times: &[i64], from: usize, t: i64) -> usize {
    let (mut lo, mut step) = (from, 1);
    while lo + step <= times.len() && times[lo + step - 1] <= t {
        lo += step;
        step *= 2;
    }
    let hi = (lo + step).min(times.len());
    lo + times[lo..hi].partition_point(|x| *x <= t)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn windows_are_left_open() {
        let mut out = Vec::new();
        rows(&[0, 10, 20, 30], &[Bounds { start: 0, end: 20 }, Bounds { start: 25, end: 29 }], &mut out);
        assert_eq!(out, [Rows { lo: 1, hi: 3 }, Rows { lo: 3, hi: 3 }]);
    }

    proptest! {
        #[test]
        fn rows_are_those_inside(
            mut times in proptest::collection::btree_set(-50i64..200, 0..60),
            start in -60i64..100, range in 1i64..80, step in 1i64..40,
        ) {
            let times: Vec<i64> = std::mem::take(&mut times).into_iter().collect();
            let windows: Vec<_> =
                (0..9).map(|i| Bounds { start: start + i * step - range, end: start + i * step }).collect();
            let mut out = Vec::new();
            rows(&times, &windows, &mut out);
            for (w, r) in windows.iter().zip(&out) {
                let want: Vec<_> = times.iter().copied().filter(|t| w.start < *t && *t <= w.end).collect();
                prop_assert_eq!(&times[r.range()], &want[..]);
            }
        }
    }
}
