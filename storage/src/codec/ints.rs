//! Columns of integers: constant, linear, mostly unchanged, or the cheapest of five transforms in packed blocks.
//!
//! All arithmetic wraps, so every i64 comes back whatever the transform; a transform only decides the size.

use super::CodecError;
use super::coded::{self, Behind, UNIT};
use super::pack::{self, BLOCK, Numbers};
use super::short;
use crate::wire::{Reader, put_varint, put_zigzag, unzigzag, zigzag};

/// Blocks that are measured to choose a transform; longer columns are sampled.
const SAMPLED_BLOCKS_MAX: usize = 4;
/// Fewer numbers are not smoothed.
const SMOOTHED_MIN: usize = 64;
/// Numbers that are looked at to judge a smoothing.
const SMOOTHED_JUDGED: usize = 480;
/// Runs of one number that are handed over together.
const RUN_SHORT: usize = 16;
/// Differences that are looked at to find the usual one.
const SAMPLED_DELTAS: usize = 97;

/// How the integers of a column are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// All equal: the first.
    Constant,
    /// Equal differences: the first and the difference.
    Linear,
    /// Least value, then distances to it.
    Offset,
    /// First value, then zigzag differences.
    Delta,
    /// First value and least difference, then distances of the differences to it.
    DeltaOffset,
    /// First value, or first value and difference, then zigzag distances from what those before let expect.
    Smoothed,
    /// First value and usual difference, then zigzag distances of the differences to it.
    DeltaCentre,
    /// First value, then where the value changes, and by how much.
    Sparse,
}

impl Form {
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Constant => 0,
            Self::Linear => 1,
            Self::Offset => 2,
            Self::Delta => 3,
            Self::DeltaOffset => 4,
            Self::Smoothed => 5,
            Self::DeltaCentre => 6,
            Self::Sparse => 7,
        }
    }

    pub(super) fn from_code(code: u8) -> Option<Self> {
        const FORMS: [Form; 8] = [
            Form::Constant,
            Form::Linear,
            Form::Offset,
            Form::Delta,
            Form::DeltaOffset,
            Form::Smoothed,
            Form::DeltaCentre,
            Form::Sparse,
        ];
        FORMS.get(usize::from(code)).copied()
    }
}

/// How numbers are expected to go on: at the first of them, plus a part of all distances so far.
///
/// With no part, they lie around a level; with all of it, each is expected where the one before was; between, a level
/// moves under noise, and most of a distance is noise. This is an exponentially weighted mean, written as a sum so that
/// it decodes like differences.
///
/// # Source
/// Muth, "Optimal Properties of Exponentially Weighted Forecasts", 1960.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Smoothing {
    /// The part, in quarters, 1–4.
    quarters: u8,
    /// Numbers are the differences, not the values.
    of_deltas: bool,
}

/// Each difference is expected to be the one before.
const DELTA_DELTA: Smoothing = Smoothing { quarters: 4, of_deltas: true };
/// Bits of the parameter of a smoothing.
const QUARTERS_MASK: u8 = 7;
const OF_DELTAS: u8 = 8;

impl Smoothing {
    fn code(self) -> u8 {
        self.quarters | if self.of_deltas { OF_DELTAS } else { 0 }
    }

    fn from_code(code: u8) -> Option<Self> {
        let quarters = code & QUARTERS_MASK;
        let is_known = code & !(QUARTERS_MASK | OF_DELTAS) == 0 && (1..=4).contains(&quarters);
        is_known.then_some(Self { quarters, of_deltas: code & OF_DELTAS != 0 })
    }

    /// What is added to the first number after distances with this sum.
    fn expected(self, sum: i64) -> i64 {
        sum.wrapping_mul(i64::from(self.quarters)) >> 2
    }

    /// Turns the distances of a block, of less than [`pack::NARROW_WIDTH_MAX`] bits each, into what they and those
    /// before them in the block add to what is expected of its first number; gives the sum of the first `len`.
    /// `rest` are quarters that are over from before.
    fn unfold(self, distances: &mut [i32; BLOCK], rest: i32, len: usize) -> i64 {
        let own = *distances;
        running_sum_narrow(distances);
        let sum = i64::from(distances[len - 1]);
        let mut add = |times: fn(i32) -> i32| {
            for (d, own) in distances.iter_mut().zip(own) {
                let before = d.wrapping_sub(own);
                *d = (times(before).wrapping_add(rest) >> 2).wrapping_add(own);
            }
        };
        match self.quarters {
            1 => add(|sum| sum),
            2 => add(|sum| sum.wrapping_mul(2)),
            3 => add(|sum| sum.wrapping_mul(3)),
            // All of the sum: what it is with the number itself.
            _ => {}
        }
        sum
    }

    /// Zigzag distances of all but the first number.
    fn distances(self, numbers: &[i64]) -> impl Iterator<Item = u64> {
        let first = numbers.first().copied().unwrap_or(0);
        numbers.iter().skip(1).scan(0, move |sum: &mut i64, x| {
            let distance = x.wrapping_sub(first).wrapping_sub(self.expected(*sum));
            *sum = sum.wrapping_add(distance);
            Some(zigzag(distance))
        })
    }
}

/// A column with its transform chosen.
pub(super) struct Plan {
    pub(super) form: Form,
    /// Of the form that has one.
    smoothing: Smoothing,
    /// Divides all differences; 1 when it is not worth its bytes.
    pub(super) factor: u64,
    /// Numbers to pack.
    packed: Vec<u64>,
    /// How, if not in blocks.
    codes: Option<coded::Plan>,
    /// Sparse: unchanged values before each change.
    gaps: Vec<u64>,
    /// Numbers before the packed ones.
    head: [i64; 2],
    n_head: usize,
}

impl Plan {
    /// The best form of `ints`, which are not empty. `divide` allows a common factor.
    pub(super) fn new(ints: &[i64], divide: bool) -> Self {
        let first = ints[0];
        let mut deltas: Vec<i64> = ints.windows(2).map(|w| w[1].wrapping_sub(w[0])).collect();
        let plain = |form, head: [i64; 2], n_head| Self {
            form,
            smoothing: DELTA_DELTA,
            factor: 1,
            packed: Vec::new(),
            codes: None,
            gaps: Vec::new(),
            head,
            n_head,
        };
        let Some(&first_delta) = deltas.first() else {
            return plain(Form::Constant, [first, 0], 1);
        };
        if deltas.iter().all(|d| *d == first_delta) {
            return match first_delta {
                0 => plain(Form::Constant, [first, 0], 1),
                d => plain(Form::Linear, [first, d], 2),
            };
        }
        let factor = if divide { common_factor(&deltas) } else { 1 };
        let mut quotients = Vec::new();
        let mut numbers = ints;
        if factor > 1 {
            // One division per number; the numbers follow from their differences.
            let divisor = factor as i64;
            quotients.reserve(ints.len());
            quotients.push(0);
            let mut at = 0i64;
            for d in &mut deltas {
                *d /= divisor;
                at = at.wrapping_add(*d);
                quotients.push(at);
            }
            numbers = &quotients;
        }
        let facts = Facts::of(numbers, &deltas);
        let (form, smoothing) = choose(numbers, &deltas, &facts);
        let usual_change = if form == Form::Sparse { usual_change(&deltas) } else { 0 };
        let mut gaps = Vec::new();
        let mut packed: Vec<u64> = match form {
            Form::Offset => offsets(numbers, facts.least).collect(),
            Form::DeltaOffset => offsets(&deltas, facts.least_delta).collect(),
            Form::Smoothed if smoothing.of_deltas => smoothing.distances(&deltas).collect(),
            Form::Smoothed => smoothing.distances(numbers).collect(),
            Form::DeltaCentre => centred(&deltas, facts.usual_delta).collect(),
            Form::Sparse => {
                let mut packed = Vec::with_capacity(facts.n_changes);
                split_sparse(&deltas, usual_change, &mut gaps, &mut packed);
                packed
            }
            Form::Delta | Form::Constant | Form::Linear => deltas.iter().map(|d| zigzag(*d)).collect(),
        };
        let least = if factor > 1 { first.wrapping_add(facts.least.wrapping_mul(factor as i64)) } else { facts.least };
        let (mut head, n_head) = match form {
            Form::Offset => ([least, 0], 1),
            Form::DeltaOffset => ([first, facts.least_delta], 2),
            Form::Smoothed if smoothing.of_deltas => ([first, deltas[0]], 2),
            Form::DeltaCentre => ([first, facts.usual_delta], 2),
            Form::Sparse => ([first, usual_change], 2),
            Form::Delta | Form::Constant | Form::Linear | Form::Smoothed => ([first, 0], 1),
        };
        let mut codes = None;
        if packed.len() <= UNIT && matches!(form, Form::Offset | Form::DeltaOffset) {
            let planned = pack::codes_around_middle(&packed);
            if let Some((_, Some(middle))) = planned {
                // Everything is counted from the middle instead of the least.
                packed.iter_mut().for_each(|x| *x = coded::signed(*x, middle));
                let by = if form == Form::Offset { middle.wrapping_mul(factor) } else { middle };
                let counted_from = &mut head[n_head - 1];
                *counted_from = counted_from.wrapping_add(by.cast_signed());
            }
            codes = planned.map(|(plan, _)| plan);
        } else if packed.len() <= UNIT && form != Form::Sparse {
            codes = pack::codes(&packed);
        }
        Self { form, smoothing, factor, packed, codes, gaps, head, n_head }
    }

    /// Appends the column.
    pub(super) fn write(&self, behind: Behind, out: &mut Vec<u8>) {
        if self.factor > 1 {
            put_varint(out, self.factor);
        }
        if self.form == Form::Smoothed {
            out.push(self.smoothing.code());
        }
        put_zigzag(out, self.head[0]);
        if self.n_head > 1 {
            put_zigzag(out, self.head[1]);
        }
        if self.form == Form::Sparse {
            put_varint(out, self.gaps.len() as u64);
            pack::put(&self.gaps, Behind::More, out);
        }
        match &self.codes {
            Some(codes) => codes.write(&self.packed, behind, out),
            None if self.packed.len() <= UNIT && self.form != Form::Sparse => pack::put_blocks(&self.packed, out),
            None => pack::put(&self.packed, behind, out),
        }
    }
}

/// What decides between the transforms.
struct Facts {
    least: i64,
    least_delta: i64,
    /// The middle one of some differences.
    usual_delta: i64,
    n_changes: usize,
}

impl Facts {
    fn of(numbers: &[i64], deltas: &[i64]) -> Self {
        let mut some = [0; SAMPLED_DELTAS];
        let step = deltas.len().div_ceil(SAMPLED_DELTAS);
        let n = deltas.len().div_ceil(step);
        some.iter_mut().zip(deltas.iter().step_by(step)).for_each(|(s, d)| *s = *d);
        let some = &mut some[..n];
        let usual_delta = *some.select_nth_unstable(n / 2).1;
        Self {
            least: numbers.iter().copied().min().unwrap_or(0),
            least_delta: deltas.iter().copied().min().unwrap_or(0),
            usual_delta,
            n_changes: deltas.iter().map(|d| usize::from(*d != 0)).sum(),
        }
    }
}

fn offsets(numbers: &[i64], least: i64) -> impl Iterator<Item = u64> {
    numbers.iter().map(move |m| m.wrapping_sub(least) as u64)
}

fn centred(deltas: &[i64], centre: i64) -> impl Iterator<Item = u64> {
    deltas.iter().map(move |d| zigzag(d.wrapping_sub(centre)))
}

/// The middle one of the differences that are not 0.
fn usual_change(deltas: &[i64]) -> i64 {
    middle_of(&mut deltas.iter().copied().filter(|d| *d != 0).take(SAMPLED_DELTAS).collect::<Vec<_>>())
}

fn split_sparse(deltas: &[i64], usual: i64, gaps: &mut Vec<u64>, packed: &mut Vec<u64>) {
    let mut gap = 0;
    for d in deltas {
        if *d == 0 {
            gap += 1;
        } else {
            gaps.push(gap);
            packed.push(zigzag(d.wrapping_sub(usual)));
            gap = 0;
        }
    }
}

/// The greatest common divisor of the differences.
fn common_factor(deltas: &[i64]) -> u64 {
    let mut g = 0u64;
    let mut multiple = Multiple::of(1);
    for d in deltas {
        let a = d.unsigned_abs();
        if a == 0 || (g != 0 && multiple.is(a)) {
            continue;
        }
        g = gcd(a, g);
        if g == 1 {
            return 1;
        }
        multiple = Multiple::of(g);
    }
    // The factor is used as a signed divisor.
    if g > i64::MAX as u64 { 1 } else { g.max(1) }
}

/// Tests for multiples without a division: by the inverse of the odd part modulo 2^64.
///
/// # Source
/// Granlund, Montgomery, "Division by Invariant Integers using Multiplication", PLDI 1994, §9.
#[derive(Clone, Copy)]
struct Multiple {
    zeros: u32,
    inverse: u64,
    greatest: u64,
}

impl Multiple {
    fn of(g: u64) -> Self {
        let zeros = g.trailing_zeros();
        let odd = g >> zeros;
        // Each step doubles the number of right bits, from three.
        let mut inverse = odd;
        for _ in 0..5 {
            inverse = inverse.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(inverse)));
        }
        Self { zeros, inverse, greatest: u64::MAX / odd }
    }

    fn is(self, a: u64) -> bool {
        a.trailing_zeros() >= self.zeros && (a >> self.zeros).wrapping_mul(self.inverse) <= self.greatest
    }
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Judges the transforms on up to four blocks spread over the column.
fn choose(numbers: &[i64], deltas: &[i64], facts: &Facts) -> (Form, Smoothing) {
    let form = choose_form(numbers, deltas, facts);
    if form == Form::Sparse || numbers.len() < SMOOTHED_MIN {
        return (form, DELTA_DELTA);
    }
    let smoothed = |of_deltas| {
        let numbers = if of_deltas { deltas } else { numbers };
        smoothing(&numbers[..numbers.len().min(SMOOTHED_JUDGED)], of_deltas)
    };
    let smoothing = match form {
        Form::Offset => smoothed(false),
        Form::DeltaOffset | Form::Smoothed => smoothed(true),
        _ => smoothed(false).or_else(|| smoothed(true)),
    };
    smoothing.map_or((form, DELTA_DELTA), |smoothing| (Form::Smoothed, smoothing))
}

/// The smoothing with which the distances of `numbers` are shorter than both without and with the whole of them.
fn smoothing(numbers: &[i64], of_deltas: bool) -> Option<Smoothing> {
    let weigh = |quarters: u8| length(Smoothing { quarters, of_deltas }.distances(numbers));
    let middle =
        middle_of(&mut numbers.iter().copied().step_by(numbers.len().div_ceil(SAMPLED_DELTAS)).collect::<Vec<_>>());
    let alone = length(centred(numbers, middle));
    let whole = weigh(4);
    let half = weigh(2);
    // The optimum lies towards the better end.
    let (other, at_other) = if alone <= whole { (1, weigh(1)) } else { (3, weigh(3)) };
    let (quarters, best) = if at_other < half { (other, at_other) } else { (2, half) };
    // It decodes slower: a small gain does not pay for it.
    let is_worth = best + numbers.len() as u64 / 20 < alone.min(whole);
    is_worth.then_some(Smoothing { quarters, of_deltas })
}

/// Lengths of all numbers together, bits.
fn length(numbers: impl Iterator<Item = u64>) -> u64 {
    numbers.map(|x| u64::from(pack::bit_len(x))).sum()
}

fn middle_of(some: &mut [i64]) -> i64 {
    let n = some.len();
    if n == 0 { 0 } else { *some.select_nth_unstable(n / 2).1 }
}

fn choose_form(numbers: &[i64], deltas: &[i64], facts: &Facts) -> Form {
    // Mostly unchanged: nothing else comes near.
    if facts.n_changes * 12 < deltas.len() {
        return Form::Sparse;
    }
    // Differences of one sign are cheaper as distances to the least one, others as zigzag.
    let by_delta = if facts.least_delta < 0 { Form::Delta } else { Form::DeltaOffset };
    // In the order of preference: fewer dependent additions win ties.
    let forms = [Form::Offset, by_delta, Form::DeltaCentre, Form::Smoothed];
    let n_blocks = deltas.len().div_ceil(BLOCK);
    let step = n_blocks.div_ceil(SAMPLED_BLOCKS_MAX).max(1);
    let sampled = || (0..n_blocks).step_by(step).map(|i| i * BLOCK..((i + 1) * BLOCK).min(deltas.len()));
    let mut block = [0; BLOCK];
    let mut cost = |form: Form, of_block: fn(&[u64]) -> u64| {
        let mut bits = 0;
        for range in sampled() {
            let (m, d) = (&numbers[range.clone()], &deltas[range]);
            bits += match form {
                Form::Offset => of_block(fill(&mut block, offsets(m, facts.least))),
                Form::DeltaOffset => of_block(fill(&mut block, offsets(d, facts.least_delta))),
                Form::DeltaCentre => of_block(fill(&mut block, centred(d, facts.usual_delta))),
                Form::Smoothed => of_block(fill(&mut block, DELTA_DELTA.distances(d))),
                _ => of_block(fill(&mut block, centred(d, 0))),
            };
        }
        bits
    };
    let is_candidate = |form: Form| form != Form::DeltaCentre || facts.usual_delta != 0;
    let estimates = forms.map(|form| if is_candidate(form) { cost(form, pack::estimate_bits) } else { u64::MAX });
    let least = estimates.into_iter().min().unwrap_or(0);
    // The estimate is quick but blind to what patches do; the exact cost decides between those that come near.
    let is_near = estimates.map(|e| e / 5 * 3 <= least);
    let mut best = (u64::MAX, Form::Offset);
    let is_contested = is_near.iter().filter(|is| **is).count() > 1;
    let is_sparse = facts.n_changes * 4 < deltas.len() * 3;
    for (form, _) in forms.into_iter().zip(is_near).filter(|(form, is)| *is && is_candidate(*form)) {
        let bits = if is_contested || is_sparse { cost(form, pack::cost_bits) } else { 0 };
        if bits < best.0 {
            best = (bits, form);
        }
    }
    if is_sparse {
        let (mut gaps, mut packed) = (Vec::new(), Vec::new());
        let usual = usual_change(deltas);
        sampled().for_each(|range| split_sparse(&deltas[range], usual, &mut gaps, &mut packed));
        let bits = |z: &[u64]| z.chunks(BLOCK).map(pack::cost_bits).sum::<u64>();
        // The count of the changes and the usual one take a byte or two each.
        if bits(&gaps) + bits(&packed) + 16 < best.0 {
            return Form::Sparse;
        }
    }
    best.1
}

fn fill(block: &mut [u64; BLOCK], values: impl Iterator<Item = u64>) -> &[u64] {
    let mut n = 0;
    for (b, v) in block.iter_mut().zip(values) {
        *b = v;
        n += 1;
    }
    &block[..n]
}

/// A run of integers as it comes out of a block.
pub(super) enum Run<'a> {
    /// As they are.
    Ints(&'a [i64]),
    /// `base + slope · (i + 1) + scale · steps[i]`, each of these and every partial sum below 2^52 in magnitude.
    Narrow {
        /// Before the first.
        base: f64,
        /// Per step.
        slope: f64,
        /// Of a step.
        scale: f64,
        /// Small numbers.
        steps: &'a [i32],
    },
    /// This many of one number.
    Same(i64, usize),
}

/// Sums of steps and numbers up to here are exact as floats.
const EXACT: i128 = 1 << 52;

/// Reads `n ≥ 1` integers and hands them out in runs. With `narrow`, runs may come as small steps, which are quicker to
/// turn into floats.
pub(super) fn each_run(
    form: Form,
    divided: bool,
    bytes: &mut Reader<'_>,
    n: usize,
    narrow: bool,
    mut emit: impl FnMut(Run<'_>),
) -> Result<(), CodecError> {
    let factor = if divided { bytes.varint()? as i64 } else { 1 };
    if form == Form::Smoothed {
        return smoothed(factor, bytes, n, narrow, &mut emit);
    }
    let first = bytes.zigzag()?;
    match form {
        Form::Constant => {
            emit(Run::Same(first, n));
            Ok(())
        }
        Form::Linear => {
            let step = bytes.zigzag()?;
            let mut ints = [0i64; BLOCK];
            let mut at = first;
            for_blocks(n, |len| {
                for (i, m) in ints.iter_mut().enumerate() {
                    *m = at.wrapping_add(step.wrapping_mul(i as i64));
                }
                at = at.wrapping_add(step.wrapping_mul(BLOCK as i64));
                emit(Run::Ints(&ints[..len]));
                Ok(())
            })
        }
        Form::Offset if narrow && short::offsets((first, factor), bytes, n, &mut emit)? => Ok(()),
        Form::Offset => Blocks::new(first, factor, 0, narrow).offsets(bytes, n, &mut emit),
        Form::Delta | Form::DeltaOffset | Form::DeltaCentre => {
            let centre = if form == Form::Delta { 0 } else { bytes.zigzag()? };
            let is_zigzag = form != Form::DeltaOffset;
            if narrow && short::deltas((first, factor, centre), is_zigzag, bytes, n - 1, &mut emit)? {
                return Ok(());
            }
            emit(Run::Same(first, 1));
            Blocks::new(first, factor, centre, narrow).deltas(bytes, n - 1, is_zigzag, &mut emit)
        }
        Form::Sparse | Form::Smoothed => sparse(first, factor, bytes, n, &mut emit),
    }
}

/// As [`each_run`], integers only.
pub(super) fn each_ints(
    form: Form,
    divided: bool,
    bytes: &mut Reader<'_>,
    n: usize,
    mut emit: impl FnMut(&[i64]),
) -> Result<(), CodecError> {
    each_run(form, divided, bytes, n, false, |run| match run {
        Run::Ints(ints) => emit(ints),
        Run::Same(m, n) => {
            let same = [m; BLOCK];
            let mut left = n;
            while left > 0 {
                let len = left.min(BLOCK);
                emit(&same[..len]);
                left -= len;
            }
        }
        Run::Narrow { .. } => debug_assert!(false, "not asked for"),
    })
}

/// Packed blocks on their way to integers.
struct Blocks {
    at: i64,
    factor: i64,
    centre: i64,
    narrow: bool,
    steps: [u32; BLOCK],
    wide: [u64; BLOCK],
}

impl Blocks {
    fn new(first: i64, factor: i64, centre: i64, narrow: bool) -> Self {
        Self { at: first, factor, centre, narrow, steps: [0; BLOCK], wide: [0; BLOCK] }
    }

    /// Whether a block of these steps, and what they add up to, is exact in floats.
    fn is_exact(&self) -> bool {
        let [at, factor, centre] = [self.at, self.factor, self.centre].map(|x| i128::from(x).abs());
        // Checked first, so that the products below fit.
        at < EXACT && factor < EXACT && centre < EXACT && {
            let blocks = BLOCK as i128;
            at + centre * factor * blocks + (factor << pack::NARROW_WIDTH_MAX) * blocks < EXACT
        }
    }

    fn offsets(&mut self, bytes: &mut Reader<'_>, n: usize, emit: &mut impl FnMut(Run<'_>)) -> Result<(), CodecError> {
        let mut ints = [0i64; BLOCK];
        let is_narrow = self.narrow && self.is_exact();
        let mut numbers = Numbers::new(bytes, n);
        for_blocks(n, |len| {
            if is_narrow && numbers.narrow(&mut self.steps)? {
                let steps = self.steps.map(u32::cast_signed);
                emit(Run::Narrow { base: self.at as f64, slope: 0.0, scale: self.factor as f64, steps: &steps[..len] });
                return Ok(());
            }
            numbers.wide(&mut self.wide)?;
            for (m, z) in ints.iter_mut().zip(&self.wide) {
                *m = (*z as i64).wrapping_mul(self.factor).wrapping_add(self.at);
            }
            emit(Run::Ints(&ints[..len]));
            Ok(())
        })
    }

    fn deltas(
        &mut self,
        bytes: &mut Reader<'_>,
        n: usize,
        is_zigzag: bool,
        emit: &mut impl FnMut(Run<'_>),
    ) -> Result<(), CodecError> {
        let mut ints = [0i64; BLOCK];
        let mut numbers = Numbers::new(bytes, n);
        for_blocks(n, |len| {
            if self.narrow && self.is_exact() && numbers.narrow(&mut self.steps)? {
                // A small centre is added here, where it costs less than along a slope.
                let is_small = self.centre.unsigned_abs() < 1 << pack::NARROW_WIDTH_MAX;
                let slope = if is_small { 0 } else { self.centre.wrapping_mul(self.factor) };
                let centre = if is_small { self.centre as i32 } else { 0 };
                let mut steps = [0i32; BLOCK];
                if is_zigzag {
                    for (s, z) in steps.iter_mut().zip(&self.steps) {
                        *s = ((z >> 1).cast_signed() ^ -((z & 1).cast_signed())).wrapping_add(centre);
                    }
                } else {
                    for (s, z) in steps.iter_mut().zip(&self.steps) {
                        *s = z.cast_signed().wrapping_add(centre);
                    }
                }
                running_sum_narrow(&mut steps);
                let (base, scale) = (self.at as f64, self.factor as f64);
                let sum = self.factor.wrapping_mul(i64::from(steps[len - 1]));
                self.at = self.at.wrapping_add(slope.wrapping_mul(len as i64)).wrapping_add(sum);
                emit(Run::Narrow { base, slope: slope as f64, scale, steps: &steps[..len] });
                return Ok(());
            }
            numbers.wide(&mut self.wide)?;
            for (m, z) in ints.iter_mut().zip(&self.wide) {
                let step = if is_zigzag { unzigzag(*z) } else { *z as i64 };
                *m = step.wrapping_add(self.centre).wrapping_mul(self.factor);
            }
            running_sum(&mut self.at, &mut ints[..len]);
            emit(Run::Ints(&ints[..len]));
            Ok(())
        })
    }
}

fn smoothed(
    factor: i64,
    bytes: &mut Reader<'_>,
    n: usize,
    narrow: bool,
    emit: &mut impl FnMut(Run<'_>),
) -> Result<(), CodecError> {
    let code = bytes.u8()?;
    let smoothing = Smoothing::from_code(code).ok_or_else(|| bytes.error("smoothing of a column"))?;
    let first = bytes.zigzag()?;
    let n_first = if smoothing.of_deltas { 2 } else { 1 };
    if n < n_first {
        return Err(bytes.error("length of a smoothed column").into());
    }
    emit(Run::Same(first, 1));
    let (mut at, mut level) = (first, 0);
    if smoothing.of_deltas {
        level = bytes.zigzag()?;
        at = at.wrapping_add(level.wrapping_mul(factor));
        emit(Run::Same(at, 1));
    }
    let mut z = [0u64; BLOCK];
    let mut steps = [0u32; BLOCK];
    let mut ints = [0i64; BLOCK];
    let mut sum = 0i64;
    let mut numbers = Numbers::new(bytes, n - n_first);
    for_blocks(n - n_first, |len| {
        if numbers.narrow(&mut steps)? {
            // What is expected of the first number of the block; the quarters that are over belong to the others, too.
            let quarters = sum.wrapping_mul(i64::from(smoothing.quarters));
            let expected = level.wrapping_add(quarters >> 2);
            let mut distances = steps.map(|z| (z >> 1).cast_signed() ^ -((z & 1).cast_signed()));
            sum = sum.wrapping_add(smoothing.unfold(&mut distances, (quarters & 3) as i32, len));
            let base = first.wrapping_add(expected.wrapping_mul(factor));
            if narrow && !smoothing.of_deltas && is_exact(base, factor) {
                let (base, scale) = (base as f64, factor as f64);
                emit(Run::Narrow { base, slope: 0.0, scale, steps: &distances[..len] });
                return Ok(());
            }
            for (m, distance) in ints.iter_mut().zip(&distances) {
                *m = expected.wrapping_add(i64::from(*distance));
            }
            if factor != 1 {
                ints.iter_mut().for_each(|m| *m = m.wrapping_mul(factor));
            }
        } else {
            numbers.wide(&mut z)?;
            for (m, z) in ints[..len].iter_mut().zip(&z) {
                let distance = unzigzag(*z);
                *m = smoothing.expected(sum).wrapping_add(level).wrapping_add(distance).wrapping_mul(factor);
                sum = sum.wrapping_add(distance);
            }
        }
        if smoothing.of_deltas {
            running_sum(&mut at, &mut ints[..len]);
        } else {
            ints[..len].iter_mut().for_each(|m| *m = m.wrapping_add(first));
        }
        emit(Run::Ints(&ints[..len]));
        Ok(())
    })
}

/// Whether a base with a block of steps below 2^31 is exact in floats, each and together.
fn is_exact(base: i64, factor: i64) -> bool {
    let [base, factor] = [base, factor].map(|x| i128::from(x).abs());
    factor < EXACT && base + (factor << 31) < EXACT
}

fn sparse(
    first: i64,
    factor: i64,
    bytes: &mut Reader<'_>,
    n: usize,
    emit: &mut impl FnMut(Run<'_>),
) -> Result<(), CodecError> {
    let usual = bytes.zigzag()?;
    let n_changes = bytes.count(n - 1)?;
    let mut z = [0u64; BLOCK];
    let mut gaps = Vec::with_capacity(n_changes);
    let mut numbers = Numbers::new(bytes, n_changes);
    for_blocks(n_changes, |len| {
        numbers.wide(&mut z)?;
        gaps.extend_from_slice(&z[..len]);
        Ok(())
    })?;
    let mut at = first;
    // Values not handed out yet; the first one has no gap before it.
    let mut left = n;
    let mut pending = 1usize;
    let mut gaps = gaps.into_iter();
    // Short runs are gathered: to hand over each of them takes longer than to write its numbers.
    let (mut few, mut n_few) = ([0i64; BLOCK], 0);
    let mut numbers = Numbers::new(bytes, n_changes);
    for_blocks(n_changes, |len| {
        numbers.wide(&mut z)?;
        for (z, gap) in z[..len].iter().zip(gaps.by_ref()) {
            let run = usize::try_from(gap).unwrap_or(usize::MAX).saturating_add(pending);
            // One value at least is left for this change.
            if run >= left {
                return Err(numbers.error("place of a change"));
            }
            if n_few + run > BLOCK || run > RUN_SHORT {
                emit(Run::Ints(&few[..n_few]));
                n_few = 0;
            }
            if run > RUN_SHORT {
                emit(Run::Same(at, run));
            } else {
                few[n_few..n_few + run].fill(at);
                n_few += run;
            }
            left -= run;
            pending = 1;
            at = at.wrapping_add(unzigzag(*z).wrapping_add(usual).wrapping_mul(factor));
        }
        Ok(())
    })?;
    emit(Run::Ints(&few[..n_few]));
    emit(Run::Same(at, left));
    Ok(())
}

fn for_blocks(n: usize, mut f: impl FnMut(usize) -> Result<(), CodecError>) -> Result<(), CodecError> {
    let mut left = n;
    while left > 0 {
        let len = left.min(BLOCK);
        f(len)?;
        left -= len;
    }
    Ok(())
}

/// Replaces each number by the sum up to it; `at` is the sum before and after. Four at a time, so that the chain of
/// dependent additions is a quarter as long.
fn running_sum(at: &mut i64, ints: &mut [i64]) {
    let mut chunks = ints.chunks_exact_mut(4);
    for c in &mut chunks {
        let ab = c[0].wrapping_add(c[1]);
        let cd = c[2].wrapping_add(c[3]);
        let third = ab.wrapping_add(c[2]);
        c[0] = at.wrapping_add(c[0]);
        c[1] = at.wrapping_add(ab);
        c[2] = at.wrapping_add(third);
        c[3] = at.wrapping_add(ab.wrapping_add(cd));
        *at = c[3];
    }
    for m in chunks.into_remainder() {
        *at = at.wrapping_add(*m);
        *m = *at;
    }
}

/// As [`running_sum`] from 0; what lies behind the used part of a block is garbage and may wrap.
fn running_sum_narrow(steps: &mut [i32; BLOCK]) {
    let mut at = 0i32;
    for c in steps.chunks_exact_mut(4) {
        let ab = c[0].wrapping_add(c[1]);
        let cd = c[2].wrapping_add(c[3]);
        let third = ab.wrapping_add(c[2]);
        c[0] = at.wrapping_add(c[0]);
        c[1] = at.wrapping_add(ab);
        c[2] = at.wrapping_add(third);
        c[3] = at.wrapping_add(ab.wrapping_add(cd));
        at = c[3];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(ints: &[i64], divide: bool, form: Option<Form>) {
        let plan = Plan::new(ints, divide);
        if let Some(form) = form {
            assert_eq!(plan.form, form);
        }
        let mut out = Vec::new();
        plan.write(Behind::Nothing, &mut out);
        let mut got = Vec::new();
        let mut reader = Reader::new(&out);
        let divided = plan.factor > 1;
        each_ints(plan.form, divided, &mut reader, ints.len(), |m| got.extend_from_slice(m)).unwrap();
        assert!(reader.is_empty());
        assert_eq!(got, ints);
    }

    #[test]
    fn each_shape_gets_its_transform() {
        check(&[7], true, Some(Form::Constant));
        check(&[7; 300], true, Some(Form::Constant));
        check(&[10, 7, 4, 1], true, Some(Form::Linear));
        let random = |i: u64| {
            let z = (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 58
        };
        let noise: Vec<i64> = (0..500).map(|i| 1_000_000 + random(i) as i64).collect();
        check(&noise, true, Some(Form::Offset));
        let sums = |s: &mut i64, d: &i64| {
            *s += d;
            Some(*s)
        };
        let counter: Vec<i64> = noise.iter().scan(0, sums).collect();
        check(&counter, true, Some(Form::DeltaOffset));
        let steps: Vec<i64> = noise.iter().map(|d| d - 1_000_032).collect();
        let walk: Vec<i64> = steps.iter().scan(0, sums).collect();
        check(&walk, true, Some(Form::Delta));
        let squares: Vec<i64> = (0..500).map(|i: i64| i * i).collect();
        check(&squares, true, Some(Form::Smoothed));
        let level = |i: u64| (noise[i as usize] - 1_000_032) * 40;
        let under_noise: Vec<i64> = walk.iter().enumerate().map(|(i, w)| w * 20 + level(i as u64 * 7 % 500)).collect();
        check(&under_noise, true, Some(Form::Smoothed));
        let mut at = 0;
        let rising: Vec<i64> = under_noise
            .iter()
            .map(|d| {
                at += d + 100_000;
                at
            })
            .collect();
        check(&rising, true, Some(Form::Smoothed));
        let rare: Vec<i64> = (0..500).map(|i| 7 * i64::from(i / 90 % 2)).collect();
        check(&rare, true, Some(Form::Sparse));
        let now_and_then: Vec<i64> = (0..500).map(|i| i64::from(i / 7 * i / 9)).collect();
        check(&now_and_then, true, None);
        let drift: Vec<i64> = steps.iter().map(|d| d + 15_000).scan(0, |s, d| sums(s, &d)).collect();
        check(&drift, true, None);
        let both_ways: Vec<i64> =
            (0..500).map(|i| if i % 50 == 49 { -1 } else { 15_000 + i % 3 }).scan(0, |s, d| sums(s, &d)).collect();
        check(&both_ways, true, Some(Form::DeltaCentre));
        let pages: Vec<i64> = noise.iter().map(|x| x * 4096).collect();
        assert_eq!(Plan::new(&pages, true).factor, 4096);
        check(&pages, true, None);
    }

    proptest! {
        #[test]
        fn any_integers_round_trip(ints in proptest::collection::vec(any::<i64>(), 1..300)) {
            check(&ints, false, None);
        }

        #[test]
        fn small_integers_round_trip_with_a_factor(
            ints in proptest::collection::vec(-1000i64..1000, 1..300), factor in 1i64..10_000, base in -(1i64 << 40)..1 << 40
        ) {
            let ints: Vec<i64> = ints.iter().map(|m| m * factor + base).collect();
            check(&ints, true, None);
        }
    }
}
