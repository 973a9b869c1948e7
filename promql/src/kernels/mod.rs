//! Arithmetic of PromQL on slices: windows, range functions, quantiles, sums. Pure functions, no labels, no queries.
//!
//! A value that is not there is [`ABSENT`], the staleness marker: selection drops markers and arithmetic turns the
//! marker's signalling NaN into a quiet one, so no computed value can be mistaken for it. One column of floats thus
//! carries its own validity, and a kernel is a straight loop over it.

use promontory_model::STALE_NAN_BITS;

pub(crate) mod buckets;
pub(crate) mod extended;
pub(crate) mod lookback;
pub(crate) mod math;
pub(crate) mod over_time;
pub(crate) mod quantile;
pub(crate) mod rate;
pub(crate) mod regression;
pub(crate) mod starts;
pub(crate) mod sum;
pub(crate) mod window;

/// The mark of a step in which a series has no float sample.
pub(crate) const ABSENT: f64 = f64::from_bits(STALE_NAN_BITS);

/// Whether `v` is [`ABSENT`]; an ordinary NaN is a value.
#[inline]
pub(crate) fn is_absent(v: f64) -> bool {
    v.to_bits() == STALE_NAN_BITS
}

/// The samples of one series: strictly ascending times in ms and as many values, none of them a staleness marker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Samples<'a> {
    /// Times.
    pub(crate) t: &'a [i64],
    /// Values.
    pub(crate) v: &'a [f64],
}
