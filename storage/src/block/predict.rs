//! Columns told from others of their page: twins of them, sums, rests of a whole.
//!
//! Free and used memory move against each other, received packets with sent ones, and objects on the heap are those made
//! less those freed. Of such a column only what the others do not say is written. The others stand alone, so that a
//! reader of one column decodes two more at most.

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
const KNOWN: u8 = DECIMALS_MASK | FIRST_MINUS | SECOND | SECOND_MINUS;

/// Columns of fewer bytes are not looked at: the rest would take about as many.
const BYTES_MIN: usize = 48;
/// Columns of a page that others are told from, the last ones: each is compared with all of them.
const CANDIDATES_MAX: usize = 64;
/// Changes of a column that are looked at to find which others change with it.
const SAMPLES: usize = 96;
/// Part of the variance of the changes that must be left at most to try, half of it for about half a bit per value.
const REST_MAX: f64 = 0.4;
/// Of so many bytes, a prediction must leave fewer: reading the column takes reading the others.
fn is_worth(bytes: usize, without: usize) -> bool {
    bytes + without / 5 < without
}

/// A mini-block of the same page, and what it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reference {
    /// Mini-blocks with bytes from this one back to it, at least 1.
    pub(crate) back: usize,
    pub(crate) is_minus: bool,
}

/// How the values follow from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Prediction {
    /// Values and predictions are integers when multiplied by this power of ten.
    decimals: u8,
    first: Reference,
    second: Option<Reference>,
}

impl Prediction {
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let flags = r.u8()?;
        if flags & !KNOWN != 0 || flags & SECOND == 0 && flags & SECOND_MINUS != 0 {
            return Err(r.error("flags of a prediction"));
        }
        let mut reference = |minus: u8| {
            let back = r.varint_u32()? as usize;
            if back == 0 { Err(r.error("reference")) } else { Ok(Reference { back, is_minus: flags & minus != 0 }) }
        };
        let first = reference(FIRST_MINUS)?;
        let second = if flags & SECOND != 0 { Some(reference(SECOND_MINUS)?) } else { None };
        Ok(Self { decimals: flags & DECIMALS_MASK, first, second })
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        let second = self.second.map_or(0, |second| SECOND | flag(second.is_minus, SECOND_MINUS));
        out.push(self.decimals | flag(self.first.is_minus, FIRST_MINUS) | second);
        self.references().for_each(|reference| put_varint(out, reference.back as u64));
    }

    pub(crate) fn references(&self) -> impl Iterator<Item = Reference> + use<> {
        [Some(self.first), self.second].into_iter().flatten()
    }

    /// Turns what is left into values again; `references` are the values of these, as many.
    pub(super) fn restore(&self, references: &[&[f64]], values: &mut [f64]) {
        let scale = codec::power_of_ten(self.decimals);
        for (reference, column) in self.references().zip(references) {
            let sign = if reference.is_minus { -1.0 } else { 1.0 };
            values.iter_mut().zip(*column).for_each(|(v, of)| *v += sign * codec::rounded(of * scale));
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
    /// Its values as integers.
    ints: Vec<f64>,
    changes: Changes,
    /// Of all changes; the hash of a sum is the sum of the hashes.
    hash: u64,
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

    /// What is left of the variance without the changes of the other column, and whether these count against it.
    fn rest(&self, other: &Self) -> (f64, bool) {
        let both: f64 = self.some.iter().zip(&other.some).map(|(a, b)| a * b).sum();
        ((self.variance + other.variance - 2.0 * both.abs()) / self.variance, both < 0.0)
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

/// Which candidates a column is told from, and whether each counts against it.
type Found = Vec<(usize, bool)>;

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
        let own = Candidate { number, decimals, changes: Changes::of(&ints), ints, hash };
        match self.predicted(&own, out.len() - start) {
            Some(bytes) => {
                out.truncate(start);
                out.extend_from_slice(&bytes);
            }
            None => self.keep(own),
        }
    }

    /// The mini-block as it is told from others, if that is worth it.
    fn predicted(&self, own: &Candidate, bytes_alone: usize) -> Option<Vec<u8>> {
        if let Some(found) = self.sum_of(own) {
            let (_, bytes) = self.try_out(own, &found)?;
            return Some(bytes).filter(|bytes| is_worth(bytes.len(), bytes_alone));
        }
        let first = self.nearest(own.decimals, &own.changes)?;
        let (rest, bytes) = self.try_out(own, &[first])?;
        let second = self.nearest(own.decimals, &Changes::of(&rest)).filter(|second| second.0 != first.0);
        let both = second.and_then(|second| self.try_out(own, &[first, second]));
        let best = match both {
            Some((_, both)) if is_worth(both.len(), bytes.len()) => both,
            _ => bytes,
        };
        Some(best).filter(|bytes| is_worth(bytes.len(), bytes_alone))
    }

    /// One or two that change exactly as the column does.
    fn sum_of(&self, own: &Candidate) -> Option<Found> {
        let find = |hash: u64| {
            let at = *self.by_hash.get(&hash)?;
            (self.candidates[at].decimals == own.decimals).then_some(at)
        };
        if let Some(twin) = find(own.hash) {
            return Some(vec![(twin, false)]);
        }
        if let Some(rest) = find(own.hash.wrapping_neg()) {
            return Some(vec![(rest, true)]);
        }
        let alike = self.candidates.iter().enumerate().filter(|(_, c)| c.decimals == own.decimals);
        let mut pairs = alike.filter_map(|(i, c)| {
            let of = |hash: u64, i_minus: bool, minus: bool| Some(vec![(i, i_minus), (find(hash)?, minus)]);
            of(own.hash.wrapping_sub(c.hash), false, false)
                .or_else(|| of(c.hash.wrapping_sub(own.hash), false, true))
                .or_else(|| of(own.hash.wrapping_add(c.hash).wrapping_neg(), true, true))
        });
        pairs.find(|found| found[0].0 != found[1].0)
    }

    /// The candidate without whose changes the least is left.
    fn nearest(&self, decimals: u8, changes: &Changes) -> Option<(usize, bool)> {
        let alike = self.candidates.iter().enumerate().filter(|(_, c)| c.decimals == decimals);
        let rests = alike.map(|(i, c)| (i, changes.rest(&c.changes)));
        let best = rests.min_by(|(_, (a, _)), (_, (b, _))| a.total_cmp(b));
        best.filter(|(_, (rest, _))| *rest < REST_MAX).map(|(i, (_, is_minus))| (i, is_minus))
    }

    /// What is left of a column without those found, and its mini-block. Sums of three integers below 2^51 are exact, so
    /// that the values come back bit for bit.
    fn try_out(&self, own: &Candidate, found: &[(usize, bool)]) -> Option<(Vec<f64>, Vec<u8>)> {
        let mut rest = own.ints.clone();
        for (i, is_minus) in found {
            let sign = if *is_minus { 1.0 } else { -1.0 };
            rest.iter_mut().zip(&self.candidates[*i].ints).for_each(|(r, of)| *r += sign * of);
        }
        let mut references = found.iter().map(|(i, is_minus)| {
            let back = own.number - self.candidates[*i].number;
            Reference { back, is_minus: *is_minus }
        });
        let prediction = Prediction { decimals: own.decimals, first: references.next()?, second: references.next() };
        let mut bytes = Vec::new();
        mini::put_predicted(&prediction, &rest, &mut bytes);
        Some((rest, bytes))
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
