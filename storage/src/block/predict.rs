//! Columns told from others of their page: twins of them, sums, rests of a whole, parts.
//!
//! Free and used memory move against each other, received packets with sent ones, time in the kernel is a part of that
//! outside it, and objects on the heap are those made less those freed. Of such a column only what the others do not say
//! is written. The others stand alone or are told from such that do, so that a reader of one column decodes six more at
//! most.

use std::collections::HashMap;

use rapidhash::fast::RandomState;

use super::mini;
use crate::codec;
use crate::wire::{Reader, WireError, put_varint};

/// Decimal exponent, in the low bits of the first byte.
const DECIMALS_MASK: u8 = 0x0f;
/// The first reference counts against the column, and so for the second.
const FIRST_MINUS: u8 = 0x10;
const SECOND: u8 = 0x20;
const SECOND_MINUS: u8 = 0x40;
/// The first is multiplied by a number.
const SCALED: u8 = 0x80;

/// Columns of fewer bytes are not looked at: the rest would take about as many.
const BYTES_MIN: usize = 48;
/// Columns of a page that others are told from, the last ones: each is compared with all of them.
const CANDIDATES_MAX: usize = 64;
/// Changes of a column that are looked at to find which others change with it.
const SAMPLES: usize = 96;
/// Part of the variance of the changes that must be left at most to try, half of it for about half a bit per value.
const REST_MAX: f64 = 0.5;
/// Of so many bytes, a prediction must leave fewer: reading the column takes reading the others.
fn is_worth(bytes: usize, without: usize) -> bool {
    bytes + without / 6 < without
}

/// A mini-block of the same page, and what it counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Reference {
    /// Mini-blocks with bytes from this one back to it, at least 1.
    pub(crate) back: usize,
    /// Its values count so often.
    pub(crate) factor: f32,
}

impl Reference {
    /// What a value of it says of one of which so much is an integer.
    fn says(&self, value: f64, scale: f64) -> f64 {
        codec::rounded(value * scale * f64::from(self.factor))
    }
}

/// How the values follow from others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Prediction {
    /// Values and predictions are integers when multiplied by this power of ten.
    decimals: u8,
    first: Reference,
    second: Option<Reference>,
}

impl Prediction {
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let flags = r.u8()?;
        let is_known = (flags & SECOND != 0 || flags & SECOND_MINUS == 0)
            && flags & (SCALED | FIRST_MINUS) != SCALED | FIRST_MINUS;
        if !is_known {
            return Err(r.error("flags of a prediction"));
        }
        let mut reference = |minus: u8, scaled: u8| {
            let back = r.varint_u32()? as usize;
            if back == 0 {
                return Err(r.error("reference"));
            }
            let factor = match (flags & scaled, flags & minus) {
                (0, 0) => 1.0,
                (0, _) => -1.0,
                _ => f32::from_bits(r.u32()?),
            };
            Ok(Reference { back, factor })
        };
        let first = reference(FIRST_MINUS, SCALED)?;
        let second = if flags & SECOND != 0 { Some(reference(SECOND_MINUS, 0)?) } else { None };
        Ok(Self { decimals: flags & DECIMALS_MASK, first, second })
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let is_scaled = self.first.factor.abs() != 1.0;
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        let first = if is_scaled { SCALED } else { flag(self.first.factor < 0.0, FIRST_MINUS) };
        let second = self.second.map_or(0, |second| SECOND | flag(second.factor < 0.0, SECOND_MINUS));
        out.push(self.decimals | first | second);
        put_varint(out, self.first.back as u64);
        if is_scaled {
            out.extend_from_slice(&self.first.factor.to_bits().to_le_bytes());
        }
        if let Some(second) = self.second {
            put_varint(out, second.back as u64);
        }
    }

    pub(crate) fn references(&self) -> impl Iterator<Item = Reference> + use<> {
        [Some(self.first), self.second].into_iter().flatten()
    }

    /// Turns what is left into values again; `references` are the values of these, as many.
    pub(super) fn restore(&self, references: &[&[f64]], values: &mut [f64]) {
        let scale = codec::power_of_ten(self.decimals);
        for (reference, column) in self.references().zip(references) {
            values.iter_mut().zip(*column).for_each(|(v, of)| *v += reference.says(*of, scale));
        }
        if self.decimals > 0 {
            values.iter_mut().for_each(|v| *v /= scale);
        }
    }
}

/// A column that others may be told from.
#[derive(Debug)]
struct Candidate {
    /// Number in the page, among those with bytes.
    number: usize,
    decimals: u8,
    values: Vec<f64>,
    /// They as integers.
    ints: Vec<f64>,
    changes: Changes,
    /// Of all changes; the hash of a sum is the sum of the hashes.
    hash: u64,
    /// Whether it is told from others.
    is_told: bool,
}

/// Some of the changes of a column, less their mean.
#[derive(Debug)]
struct Changes {
    some: [f64; SAMPLES],
    variance: f64,
}

impl Changes {
    fn of(ints: &[f64]) -> Self {
        let mut some = [0.0; SAMPLES];
        let step = (ints.len() - 1).div_ceil(SAMPLES).max(1);
        let n = (ints.len() - 1).div_ceil(step);
        let changes = ints.windows(2).step_by(step).map(|w| w[1] - w[0]);
        some.iter_mut().zip(changes).for_each(|(s, change)| *s = change);
        let mean = some.iter().sum::<f64>() / n.max(1) as f64;
        some[..n].iter_mut().for_each(|s| *s -= mean);
        Self { some, variance: some.iter().map(|s| s * s).sum() }
    }

    fn product(&self, other: &Self) -> f64 {
        self.some.iter().zip(&other.some).map(|(a, b)| a * b).sum()
    }

    /// What is left of the variance without the changes of the other column, which count once or less once.
    fn rest(&self, other: &Self) -> (f64, f64) {
        let both = self.product(other);
        ((self.variance + other.variance - 2.0 * both.abs()) / self.variance, both.signum())
    }

    /// As [`Changes::rest`], when they count as often as leaves the least.
    fn rest_scaled(&self, other: &Self) -> (f64, f64) {
        let both = self.product(other);
        (1.0 - both * both / (self.variance * other.variance), both / other.variance)
    }
}

/// Of whole numbers: the sum of all changes, each times a number of its place.
fn linear_hash(ints: &[f64]) -> u64 {
    let mut weight = 0x9e37_79b9_7f4a_7c15_u64;
    ints.windows(2).fold(0, |sum, w| {
        weight = weight.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1);
        ((w[1] - w[0]) as i64).cast_unsigned().wrapping_mul(weight).wrapping_add(sum)
    })
}

/// A candidate that a column is told from, and how often it counts.
type Found = (usize, f32);

/// A column told from others.
struct Told {
    rest: Vec<f64>,
    /// Its mini-block.
    bytes: Vec<u8>,
    /// Whether one of the others is told from others.
    from_told: bool,
}

/// The columns of a page that others may be told from.
#[derive(Debug, Default)]
pub(super) struct Page {
    candidates: Vec<Candidate>,
    /// Which candidate is overwritten next, once there are as many as there may be.
    oldest: usize,
    by_hash: HashMap<u64, usize, RandomState>,
}

impl Page {
    pub(super) fn begin(&mut self) {
        self.candidates.clear();
        self.oldest = 0;
        self.by_hash.clear();
    }

    /// Looks at the mini-block `number` of the page, the last in `out` from `start` on, of values in all rows that stands
    /// alone. Rewrites it when others say enough of it; otherwise others may be told from it.
    pub(super) fn push(&mut self, number: usize, values: &[f64], start: usize, out: &mut Vec<u8>) {
        if out.len() - start < BYTES_MIN {
            return;
        }
        let Some(decimals) = codec::decimals(values) else { return };
        let scale = codec::power_of_ten(decimals);
        let ints: Vec<f64> = values.iter().map(|v| codec::rounded(v * scale)).collect();
        let hash = linear_hash(&ints);
        let own = Candidate {
            number,
            decimals,
            changes: Changes::of(&ints),
            values: values.to_vec(),
            ints,
            hash,
            is_told: false,
        };
        let Some(told) = self.predicted(&own, out.len() - start) else {
            return self.keep(own);
        };
        out.truncate(start);
        out.extend_from_slice(&told.bytes);
        if !told.from_told {
            self.keep(Candidate { is_told: true, ..own });
        }
    }

    /// The column as it is told from others, if that is worth it.
    fn predicted(&self, own: &Candidate, bytes_alone: usize) -> Option<Told> {
        if let Some(found) = self.sum_of(own) {
            return self.try_out(own, &found).filter(|told| is_worth(told.bytes.len(), bytes_alone));
        }
        let plain = self.nearest(own.decimals, &own.changes).and_then(|first| {
            let one = self.try_out(own, &[first])?;
            let second = self.nearest(own.decimals, &Changes::of(&one.rest)).filter(|second| second.0 != first.0);
            let both = second.and_then(|second| self.try_out(own, &[first, second]));
            Some(both.filter(|both| is_worth(both.bytes.len(), one.bytes.len())).unwrap_or(one))
        });
        // What is left without a factor keeps a common divisor, which is often worth more than a better fit.
        let scaled = self.nearest_scaled(own).and_then(|first| self.try_out(own, &[first]));
        let best = plain.into_iter().chain(scaled).min_by_key(|told| told.bytes.len());
        best.filter(|told| is_worth(told.bytes.len(), bytes_alone))
    }

    /// One or two that change exactly as the column does.
    fn sum_of(&self, own: &Candidate) -> Option<Vec<Found>> {
        let find = |hash: u64| {
            let at = *self.by_hash.get(&hash)?;
            (self.candidates[at].decimals == own.decimals).then_some(at)
        };
        if let Some(twin) = find(own.hash) {
            return Some(vec![(twin, 1.0)]);
        }
        if let Some(rest) = find(own.hash.wrapping_neg()) {
            return Some(vec![(rest, -1.0)]);
        }
        let alike = self.candidates.iter().enumerate().filter(|(_, c)| c.decimals == own.decimals);
        let mut pairs = alike.filter_map(|(i, c)| {
            let of = |first: f32, hash: u64, second: f32| Some(vec![(i, first), (find(hash)?, second)]);
            of(1.0, own.hash.wrapping_sub(c.hash), 1.0)
                .or_else(|| of(1.0, c.hash.wrapping_sub(own.hash), -1.0))
                .or_else(|| of(-1.0, own.hash.wrapping_add(c.hash).wrapping_neg(), -1.0))
        });
        pairs.find(|found| found[0].0 != found[1].0)
    }

    /// The candidate that stands alone without whose changes the least is left.
    fn nearest(&self, decimals: u8, changes: &Changes) -> Option<Found> {
        let alone = self.candidates.iter().enumerate().filter(|(_, c)| !c.is_told);
        let alike = alone.filter(|(_, c)| c.decimals == decimals);
        let (i, factor) = least(alike.map(|(i, c)| (i, changes.rest(&c.changes))))?;
        Some((i, factor as f32))
    }

    /// As [`Page::nearest`], multiplied by a number.
    fn nearest_scaled(&self, own: &Candidate) -> Option<Found> {
        let alone = self.candidates.iter().enumerate().filter(|(_, c)| !c.is_told);
        let (i, factor) = least(alone.map(|(i, c)| (i, own.changes.rest_scaled(&c.changes))))?;
        // So far, the factor is that of the integers.
        let of_values = codec::power_of_ten(self.candidates[i].decimals) / codec::power_of_ten(own.decimals);
        Some((i, (factor * of_values) as f32))
    }

    /// The column as it is told from those found; `None` when the values would not come back bit
    /// for bit.
    fn try_out(&self, own: &Candidate, found: &[Found]) -> Option<Told> {
        let scale = codec::power_of_ten(own.decimals);
        let mut rest = own.ints.clone();
        let mut references = found.iter().map(|(i, factor)| {
            let reference = Reference { back: own.number - self.candidates[*i].number, factor: *factor };
            let of = &self.candidates[*i].values;
            rest.iter_mut().zip(of).for_each(|(r, of)| *r -= reference.says(*of, scale));
            reference
        });
        let prediction = Prediction { decimals: own.decimals, first: references.next()?, second: references.next() };
        drop(references);
        let mut again = rest.clone();
        let values: Vec<&[f64]> = found.iter().map(|(i, _)| self.candidates[*i].values.as_slice()).collect();
        prediction.restore(&values, &mut again);
        if again.iter().zip(&own.values).any(|(a, v)| a.to_bits() != v.to_bits()) {
            return None;
        }
        let mut bytes = Vec::new();
        mini::put_predicted(&prediction, &rest, &mut bytes);
        Some(Told { rest, bytes, from_told: found.iter().any(|(i, _)| self.candidates[*i].is_told) })
    }

    fn keep(&mut self, own: Candidate) {
        if self.candidates.len() < CANDIDATES_MAX {
            self.by_hash.insert(own.hash, self.candidates.len());
            self.candidates.push(own);
            return;
        }
        let at = self.oldest;
        self.oldest = (at + 1) % CANDIDATES_MAX;
        let gone = self.candidates[at].hash;
        if self.by_hash.get(&gone) == Some(&at) {
            self.by_hash.remove(&gone);
        }
        self.by_hash.insert(own.hash, at);
        self.candidates[at] = own;
    }
}

/// The candidate that leaves the least, if that is little enough, and its factor.
fn least(rests: impl Iterator<Item = (usize, (f64, f64))>) -> Option<(usize, f64)> {
    let small = rests.filter(|(_, (rest, _))| *rest < REST_MAX);
    small.min_by(|(_, (a, _)), (_, (b, _))| a.total_cmp(b)).map(|(i, (_, factor))| (i, factor))
}
