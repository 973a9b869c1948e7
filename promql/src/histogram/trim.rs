//! Cutting off the observations above or below a bound.

use promontory_model::FloatHistogram;

use super::stats::{one_sided, share_below};
use super::{Bucket, bounds, indexed, is_custom, packed};

/// Which observations stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Those at most the bound (`</`).
    Below,
    /// Those at least the bound (`>/`).
    Above,
}

/// The histogram of the observations on one side of `bound`.
///
/// A bucket that `bound` cuts keeps its share; the sum is estimated anew from the middles of what stays. A histogram
/// of which nothing is cut off comes back as it is. Observations in an endless bucket that `bound` lies in go.
#[must_use]
pub fn trim(h: &FloatHistogram, side: Side, bound: f64) -> FloatHistogram {
    let mut cut = Cut { side, bound, changed: false, sum: 0.0, count: 0.0 };
    let custom = is_custom(h);
    let positive: Vec<(i32, f64)> = indexed(&h.positive_spans, &h.positive_buckets)
        .map(|(index, count)| {
            let (lower, upper) = bounds(h, index);
            (index, cut.keep(Bucket { lower, upper, count }, custom))
        })
        .collect();
    let zero = one_sided(h, Bucket { lower: -h.zero_threshold, upper: h.zero_threshold, count: h.zero_count });
    let zero_count = if custom { 0.0 } else { cut.keep(zero, true) };
    let negative: Vec<(i32, f64)> = indexed(&h.negative_spans, &h.negative_buckets)
        .map(|(index, count)| {
            let (upper, lower) = bounds(h, index);
            (index, cut.keep(Bucket { lower: -lower, upper: -upper, count }, false))
        })
        .collect();
    if !cut.changed {
        return h.clone();
    }
    let (positive_spans, positive_buckets) = packed(positive.into_iter());
    let (negative_spans, negative_buckets) = packed(negative.into_iter());
    FloatHistogram {
        count: cut.count,
        sum: cut.sum,
        zero_count,
        positive_spans,
        positive_buckets,
        negative_spans,
        negative_buckets,
        ..h.clone()
    }
}

struct Cut {
    side: Side,
    bound: f64,
    changed: bool,
    sum: f64,
    count: f64,
}

impl Cut {
    /// How many of the bucket's observations stay; `linear` says how they are spread.
    fn keep(&mut self, mut b: Bucket, linear: bool) -> f64 {
        if b.count == 0.0 {
            return 0.0;
        }
        let kept = if b.lower.is_infinite() || b.upper.is_infinite() { self.keep_of_endless(&mut b) } else { None };
        let kept = kept.unwrap_or_else(|| match self.side {
            Side::Below if self.bound >= b.upper => b,
            Side::Above if self.bound <= b.lower => b,
            Side::Below if self.bound <= b.lower => Bucket { count: 0.0, ..b },
            Side::Above if self.bound >= b.upper => Bucket { count: 0.0, ..b },
            Side::Below => {
                let count = b.count * share_below(b, self.bound, linear);
                Bucket { upper: self.bound, count, ..b }
            }
            Side::Above => {
                let count = b.count * (1.0 - share_below(b, self.bound, linear));
                Bucket { lower: self.bound, count, ..b }
            }
        });
        if kept.lower != b.lower || kept.upper != b.upper {
            self.changed = true;
        }
        if kept.count != b.count {
            self.changed = true;
        }
        self.count += kept.count;
        if kept.count != 0.0 {
            self.sum += kept.count * middle(kept, linear);
        }
        kept.count
    }

    /// What stays of a bucket without end, where that needs no interpolation; else gives it an end.
    ///
    /// Nothing is known of where the observations lie. Those towards the open end stay as a whole when the bound lies
    /// inside, and count with the bound's value; those away from it go.
    fn keep_of_endless(&mut self, b: &mut Bucket) -> Option<Bucket> {
        let bound = self.bound;
        if !(b.lower < bound && bound < b.upper) {
            if b.lower == f64::NEG_INFINITY && b.upper > 0.0 && b.upper.is_finite() {
                b.lower = 0.0;
                // Below everything: the bound is that of the open end itself.
                return (self.side == Side::Above && bound == f64::NEG_INFINITY).then_some(*b);
            }
            return None;
        }
        let at_bound = Bucket { lower: bound, upper: bound, ..*b };
        let nothing = Bucket { count: 0.0, ..*b };
        match (b.lower.is_infinite(), b.upper.is_infinite(), self.side) {
            (true, true, _) => Some(nothing),
            // The lowest bucket begins at 0, as that of a classic histogram does.
            (true, false, side) if b.upper > 0.0 => {
                b.lower = 0.0;
                (bound < 0.0 || (side == Side::Below && bound == 0.0)).then_some(nothing)
            }
            (true, false, Side::Below) | (false, true, Side::Above) => Some(at_bound),
            _ => Some(nothing),
        }
    }
}

fn middle(b: Bucket, linear: bool) -> f64 {
    match (b.lower.is_infinite(), b.upper.is_infinite()) {
        (true, true) => 0.0,
        (true, false) => b.upper,
        (false, true) => b.lower,
        (false, false) if linear => f64::midpoint(b.lower, b.upper),
        (false, false) => (b.lower * b.upper).sqrt().copysign(b.upper),
    }
}
