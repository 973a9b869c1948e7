//! Columns of native histograms: a dictionary of layouts, then each bucket over time as a column of values.
//!
//! Whatever a histogram holds comes back bit for bit, integers and floats, staleness markers, and shapes that no
//! client sends. Buckets are columns because a bucket changes little from one scrape to the next, much less than it
//! differs from its neighbour.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::sync::Arc;

use promontory_model::histogram::{CounterResetHint, FloatHistogram, Span};

use super::coded::Behind;
use super::ints::{self, Form};
use super::map::{self, Map};
use super::{CodecError, decode, encode, finish};
use crate::wire::{Reader, put_bytes, put_varint, put_zigzag, unzigzag, zigzag};

/// Flag: each count is the sum of its buckets and is not written.
const COUNT_IS_TOTAL: u8 = 1;

/// Zero threshold, in the two low bits of a layout's flags.
const THRESHOLD_ZERO: u8 = 0;
const THRESHOLD_USUAL: u8 = 1;
const THRESHOLD_BITS: u8 = 2;
const THRESHOLD_MASK: u8 = 3;
/// The spans do not say how many buckets there are, or they overlap.
const POSITIVE_IRREGULAR: u8 = 1 << 2;
const NEGATIVE_IRREGULAR: u8 = 1 << 3;
const CUSTOM_BOUNDS: u8 = 1 << 4;
const LAYOUT_FLAGS: u8 = THRESHOLD_MASK | POSITIVE_IRREGULAR | NEGATIVE_IRREGULAR | CUSTOM_BOUNDS;
/// 2^-128, what client libraries use.
const USUAL_THRESHOLD: f64 = f64::from_bits((1023 - 128) << 52);

/// Decimals of a bound, or that its bits follow.
const BOUND_SHIFT: u32 = 4;
const BOUND_BITS: u64 = 15;

/// A row's number: the layout above these bits, the hint in them.
const ROW_BITS: u32 = 3;
const HINT_MASK: u64 = 3;

/// Appends `histograms`. Nothing is written for none.
///
/// The number of histograms is not written; keep it.
pub fn encode_histograms<H: Borrow<FloatHistogram>>(histograms: &[H], out: &mut Vec<u8>) {
    if histograms.is_empty() {
        return;
    }
    let mut layouts: Vec<Layout> = Vec::new();
    let mut numbers: HashMap<Vec<u8>, usize> = HashMap::new();
    let mut dictionary = Vec::new();
    let mut rows = Vec::with_capacity(histograms.len());
    let mut layout_of = Vec::with_capacity(histograms.len());
    let mut before: Option<&FloatHistogram> = None;
    for h in histograms.iter().map(Borrow::borrow) {
        let number = match (before, layout_of.last()) {
            (Some(b), Some(number)) if has_layout_of(b, h) => *number,
            _ => {
                let start = dictionary.len();
                let layout = Layout::of(h);
                layout.write(h, &mut dictionary);
                match numbers.get(&dictionary[start..]) {
                    Some(number) => {
                        dictionary.truncate(start);
                        *number
                    }
                    None => {
                        numbers.insert(dictionary[start..].to_vec(), layouts.len());
                        layouts.push(layout);
                        layouts.len() - 1
                    }
                }
            }
        };
        before = Some(h);
        layout_of.push(number);
        rows.push((number << ROW_BITS) as i64 | i64::from(hint_code(h.counter_reset_hint)));
    }
    let is_total = histograms.iter().all(|h| h.borrow().count.to_bits() == total(h.borrow()).to_bits());
    out.push(if is_total { COUNT_IS_TOTAL } else { 0 });
    put_varint(out, layouts.len() as u64);
    out.extend_from_slice(&dictionary);
    let plan = ints::Plan::new(&rows, false);
    out.push(plan.form.code());
    plan.write(Behind::More, out);

    let mut scratch = Vec::new();
    let mut values = Vec::with_capacity(histograms.len());
    let mut put = |values: &[f64]| put_column(values, &mut scratch, out);
    let of = |get: fn(&FloatHistogram) -> f64, values: &mut Vec<f64>| {
        values.clear();
        values.extend(histograms.iter().map(|h| get(h.borrow())));
    };
    if !is_total {
        of(|h| h.count, &mut values);
        put(&values);
    }
    of(|h| h.sum, &mut values);
    put(&values);
    of(|h| h.zero_count, &mut values);
    put(&values);

    let shape = Shape::new(&layouts, &layout_of);
    let mut cursors = shape.starts.clone();
    let mut buckets = vec![0.0; shape.n_values()];
    for (h, layout) in histograms.iter().map(Borrow::borrow).zip(&layout_of) {
        let [positive, negative] = &shape.columns[*layout];
        for (runs, of_side) in [(positive, &h.positive_buckets), (negative, &h.negative_buckets)] {
            for (column, value) in runs.iter().flat_map(|r| r.clone()).zip(of_side) {
                buckets[cursors[column]] = *value;
                cursors[column] += 1;
            }
        }
    }
    for column in 0..shape.n_columns() {
        put(&buckets[shape.values_of(column)]);
    }
}

/// Appends `n` histograms to `out`; `bytes` must hold exactly these.
///
/// # Errors
/// [`CodecError`] when the bytes are not what [`encode_histograms`] writes. `out` may then hold some histograms.
pub fn decode_histograms(bytes: &[u8], n: usize, out: &mut Vec<Arc<FloatHistogram>>) -> Result<(), CodecError> {
    let mut r = Reader::new(bytes);
    if n == 0 {
        return finish(&r);
    }
    let flags = r.u8()?;
    if flags & !COUNT_IS_TOTAL != 0 {
        return Err(r.error("flags of a column of histograms").into());
    }
    let n_layouts = r.count(n)?;
    let mut layouts = Vec::with_capacity(n_layouts);
    let mut empties = Vec::with_capacity(n_layouts);
    for _ in 0..n_layouts {
        let (layout, empty) = Layout::read(&mut r)?;
        layouts.push(layout);
        empties.push(empty);
    }
    let (layout_of, hints) = read_rows(&mut r, n, n_layouts)?;

    let mut numbers = Vec::new();
    if flags & COUNT_IS_TOTAL == 0 {
        read_column(&mut r, n, &mut numbers)?;
    }
    let sums_at = numbers.len();
    read_column(&mut r, n, &mut numbers)?;
    let zeros_at = numbers.len();
    read_column(&mut r, n, &mut numbers)?;

    // Each column takes a byte at least, which bounds what hostile spans can ask for.
    let merged = Merged::new(&layouts);
    if merged.n_columns > r.remaining() as u64 {
        return Err(r.error("number of buckets").into());
    }
    let shape = Shape::of(&merged, &layouts, &layout_of);
    let mut buckets = Vec::new();
    for column in 0..shape.n_columns() {
        read_column(&mut r, shape.values_of(column).len(), &mut buckets)?;
    }
    finish(&r)?;

    let mut cursors = shape.starts.clone();
    let mut take = |runs: &[std::ops::Range<usize>]| {
        let mut of_side = Vec::with_capacity(runs.iter().map(ExactSizeIterator::len).sum());
        for column in runs.iter().flat_map(|r| r.clone()) {
            of_side.push(buckets[cursors[column]]);
            cursors[column] += 1;
        }
        of_side
    };
    out.reserve(n);
    for row in 0..n {
        let [positive, negative] = &shape.columns[layout_of[row]];
        let mut h = FloatHistogram {
            counter_reset_hint: hints[row],
            zero_count: numbers[zeros_at + row],
            sum: numbers[sums_at + row],
            positive_buckets: take(positive),
            negative_buckets: take(negative),
            ..empties[layout_of[row]].clone()
        };
        h.count = if flags & COUNT_IS_TOTAL == 0 { numbers[row] } else { total(&h) };
        out.push(Arc::new(h));
    }
    Ok(())
}

/// All observations by the buckets, added in their order.
fn total(h: &FloatHistogram) -> f64 {
    let buckets = h.positive_buckets.iter().chain(&h.negative_buckets);
    buckets.fold(h.zero_count, |sum, count| sum + count)
}

fn hint_code(hint: CounterResetHint) -> u8 {
    match hint {
        CounterResetHint::Unknown => 0,
        CounterResetHint::Reset => 1,
        CounterResetHint::NotReset => 2,
        CounterResetHint::Gauge => 3,
    }
}

fn hint_of(code: u64) -> CounterResetHint {
    match code & HINT_MASK {
        0 => CounterResetHint::Unknown,
        1 => CounterResetHint::Reset,
        2 => CounterResetHint::NotReset,
        _ => CounterResetHint::Gauge,
    }
}

fn read_rows(
    r: &mut Reader<'_>,
    n: usize,
    n_layouts: usize,
) -> Result<(Vec<usize>, Vec<CounterResetHint>), CodecError> {
    let form = r.u8()?;
    let form = Form::from_code(form).ok_or_else(|| r.error("form of the layouts"))?;
    let (mut layout_of, mut hints) = (Vec::new(), Vec::new());
    let mut is_known = true;
    ints::each_ints(form, false, r, n, |rows| {
        for row in rows {
            let layout = usize::try_from(*row >> ROW_BITS).ok().filter(|l| *l < n_layouts);
            is_known &= layout.is_some() && (row & ((1 << ROW_BITS) - 1)) <= HINT_MASK as i64;
            layout_of.push(layout.unwrap_or(0));
            hints.push(hint_of(*row as u64));
        }
    })?;
    if is_known { Ok((layout_of, hints)) } else { Err(r.error("number of a layout").into()) }
}

/// Writes a column with its length; no bytes when all are zero.
fn put_column(values: &[f64], scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
    scratch.clear();
    if values.iter().any(|v| v.to_bits() != 0) {
        encode(values, scratch);
    }
    put_bytes(out, scratch);
}

fn read_column(r: &mut Reader<'_>, n: usize, out: &mut Vec<f64>) -> Result<(), CodecError> {
    let bytes = r.bytes()?;
    if bytes.is_empty() {
        out.resize(out.len() + n, 0.0);
        return Ok(());
    }
    let base = r.offset() - bytes.len();
    decode(bytes, n, out).map_err(|e| CodecError { what: e.what, at: e.at + base })
}

/// Whether two histograms differ in nothing but their numbers.
fn has_layout_of(a: &FloatHistogram, b: &FloatHistogram) -> bool {
    let same_bits =
        |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits());
    a.schema == b.schema
        && a.zero_threshold.to_bits() == b.zero_threshold.to_bits()
        && a.positive_spans == b.positive_spans
        && a.negative_spans == b.negative_spans
        && a.positive_buckets.len() == b.positive_buckets.len()
        && a.negative_buckets.len() == b.negative_buckets.len()
        && same_bits(&a.custom_values, &b.custom_values)
}

/// Buckets that one column per bucket can be shared between layouts: those of one resolution and side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Family {
    schema: i32,
    part: Part,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Positive,
    Negative,
    /// Counted from the first bucket, because the spans are irregular.
    PositivePlaces,
    NegativePlaces,
}

/// Consecutive buckets.
#[derive(Debug, Clone, Copy)]
struct Run {
    family: Family,
    /// Index of the first one.
    start: i64,
    len: u64,
}

/// Where the buckets of a histogram lie: runs in the order of its buckets, first positive, then negative.
#[derive(Debug)]
struct Layout {
    sides: [Vec<Run>; 2],
    is_regular: [bool; 2],
}

impl Layout {
    fn of(h: &FloatHistogram) -> Self {
        Self::from_spans(h, [h.positive_buckets.len() as u64, h.negative_buckets.len() as u64])
    }

    fn from_spans(h: &FloatHistogram, n_buckets: [u64; 2]) -> Self {
        let [positive, negative] = [(&h.positive_spans, 0), (&h.negative_spans, 1)].map(|(spans, side)| {
            let n = n_buckets[side];
            let of = |parts: [Part; 2]| Family { schema: h.schema, part: parts[side] };
            match runs(of([Part::Positive, Part::Negative]), spans, n) {
                Some(runs) => (runs, true),
                None => {
                    let family = of([Part::PositivePlaces, Part::NegativePlaces]);
                    (Vec::from_iter((n > 0).then_some(Run { family, start: 0, len: n })), false)
                }
            }
        });
        Self { sides: [positive.0, negative.0], is_regular: [positive.1, negative.1] }
    }

    /// Appends all of `h` but its numbers.
    fn write(&self, h: &FloatHistogram, out: &mut Vec<u8>) {
        let threshold = match h.zero_threshold {
            t if t.to_bits() == 0 => THRESHOLD_ZERO,
            t if t.to_bits() == USUAL_THRESHOLD.to_bits() => THRESHOLD_USUAL,
            _ => THRESHOLD_BITS,
        };
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        let [positive, negative] = self.is_regular;
        out.push(
            threshold
                | flag(!positive, POSITIVE_IRREGULAR)
                | flag(!negative, NEGATIVE_IRREGULAR)
                | flag(!h.custom_values.is_empty(), CUSTOM_BOUNDS),
        );
        put_zigzag(out, i64::from(h.schema));
        if threshold == THRESHOLD_BITS {
            out.extend_from_slice(&h.zero_threshold.to_bits().to_le_bytes());
        }
        for (spans, n_buckets, is_regular) in [
            (&h.positive_spans, h.positive_buckets.len(), positive),
            (&h.negative_spans, h.negative_buckets.len(), negative),
        ] {
            put_varint(out, spans.len() as u64);
            for span in spans {
                put_zigzag(out, i64::from(span.offset));
                put_varint(out, u64::from(span.length));
            }
            if !is_regular {
                put_varint(out, n_buckets as u64);
            }
        }
        if !h.custom_values.is_empty() {
            put_varint(out, h.custom_values.len() as u64);
            h.custom_values.iter().for_each(|bound| put_bound(*bound, out));
        }
    }

    /// A layout, and a histogram that has it but no numbers.
    fn read(r: &mut Reader<'_>) -> Result<(Self, FloatHistogram), CodecError> {
        let flags = r.u8()?;
        if flags & !LAYOUT_FLAGS != 0 {
            return Err(r.error("flags of a layout").into());
        }
        let schema = r.zigzag()?;
        let schema = i32::try_from(schema).map_err(|_| r.error("schema of a histogram"))?;
        let zero_threshold = match flags & THRESHOLD_MASK {
            THRESHOLD_ZERO => 0.0,
            THRESHOLD_USUAL => USUAL_THRESHOLD,
            THRESHOLD_BITS => f64::from_bits(r.u64()?),
            _ => return Err(r.error("zero threshold of a histogram").into()),
        };
        let (positive_spans, n_positive) = read_spans(r, flags & POSITIVE_IRREGULAR == 0)?;
        let (negative_spans, n_negative) = read_spans(r, flags & NEGATIVE_IRREGULAR == 0)?;
        let mut custom_values = Vec::new();
        if flags & CUSTOM_BOUNDS != 0 {
            for _ in 0..r.count(r.remaining())? {
                read_bound(r, &mut custom_values)?;
            }
        }
        let empty = FloatHistogram {
            schema,
            zero_threshold,
            positive_spans,
            negative_spans,
            custom_values,
            ..FloatHistogram::default()
        };
        let layout = Self::from_spans(&empty, [n_positive, n_negative]);
        let is_regular = [POSITIVE_IRREGULAR, NEGATIVE_IRREGULAR].map(|flag| flags & flag == 0);
        if layout.is_regular != is_regular {
            return Err(r.error("spans of a histogram").into());
        }
        Ok((layout, empty))
    }
}

/// A bound by itself, never less than a byte, so that a few bytes cannot claim many bounds: the low four bits of a
/// varint are its decimals, or say that eight bytes follow.
fn put_bound(bound: f64, out: &mut Vec<u8>) {
    match map::one_to_int(bound) {
        Some((map, m)) => put_varint(out, zigzag(m) << BOUND_SHIFT | u64::from(map.code().1.unwrap_or(0))),
        None => {
            put_varint(out, BOUND_BITS);
            out.extend_from_slice(&bound.to_bits().to_le_bytes());
        }
    }
}

fn read_bound(r: &mut Reader<'_>, out: &mut Vec<f64>) -> Result<(), CodecError> {
    let word = r.varint()?;
    match word & BOUND_BITS {
        BOUND_BITS if word == BOUND_BITS => out.push(f64::from_bits(r.u64()?)),
        BOUND_BITS => return Err(r.error("decimals of a bound").into()),
        0 => Map::Int.restore(&ints::Run::Same(unzigzag(word >> BOUND_SHIFT), 1), out),
        decimals => Map::Decimal(decimals as u8).restore(&ints::Run::Same(unzigzag(word >> BOUND_SHIFT), 1), out),
    }
    Ok(())
}

fn read_spans(r: &mut Reader<'_>, is_regular: bool) -> Result<(Vec<Span>, u64), CodecError> {
    let n = r.count(r.remaining() / 2)?;
    let mut spans = Vec::with_capacity(n);
    let mut n_buckets = 0u64;
    for _ in 0..n {
        let offset = r.zigzag()?;
        let offset = i32::try_from(offset).map_err(|_| r.error("offset of a span"))?;
        let length = r.varint_u32()?;
        n_buckets += u64::from(length);
        spans.push(Span { offset, length });
    }
    if !is_regular {
        n_buckets = r.varint()?;
    }
    Ok((spans, n_buckets))
}

/// The runs of `spans` when they ascend and hold exactly `n_buckets`.
fn runs(family: Family, spans: &[Span], n_buckets: u64) -> Option<Vec<Run>> {
    let mut out = Vec::with_capacity(spans.len());
    let (mut at, mut n) = (0i64, 0u64);
    for (i, span) in spans.iter().enumerate() {
        if i > 0 && span.offset < 0 {
            return None;
        }
        at += i64::from(span.offset);
        if span.length > 0 {
            out.push(Run { family, start: at, len: u64::from(span.length) });
        }
        at += i64::from(span.length);
        n += u64::from(span.length);
    }
    (n == n_buckets).then_some(out)
}

/// The buckets of all layouts, each once, in order.
struct Merged {
    /// Disjoint and ascending, each with the number of its first column.
    runs: Vec<(Run, u64)>,
    n_columns: u64,
}

impl Merged {
    fn new(layouts: &[Layout]) -> Self {
        let mut all: Vec<Run> = layouts.iter().flat_map(|l| l.sides.iter().flatten()).copied().collect();
        all.sort_unstable_by_key(|r| (r.family, r.start));
        let mut runs: Vec<(Run, u64)> = Vec::new();
        let mut n_columns = 0u64;
        for run in all {
            let end = run.start.saturating_add_unsigned(run.len);
            match runs.last_mut() {
                Some((last, _))
                    if last.family == run.family && run.start <= last.start.saturating_add_unsigned(last.len) =>
                {
                    let grown = (end - last.start).max(0).unsigned_abs().max(last.len);
                    n_columns = n_columns.saturating_add(grown - last.len);
                    last.len = grown;
                }
                _ => {
                    runs.push((run, n_columns));
                    n_columns = n_columns.saturating_add(run.len);
                }
            }
        }
        Self { runs, n_columns }
    }

    /// The columns of a run, which is part of one of these.
    fn columns(&self, run: &Run) -> std::ops::Range<usize> {
        let after = self.runs.partition_point(|(r, _)| (r.family, r.start) <= (run.family, run.start));
        let (merged, first) = self.runs[after - 1];
        let first = first + (run.start - merged.start).unsigned_abs();
        first as usize..(first + run.len) as usize
    }
}

/// Which columns each layout has, and where the values of each column lie when columns follow each other.
struct Shape {
    columns: Vec<[Vec<std::ops::Range<usize>>; 2]>,
    /// One more than columns.
    starts: Vec<usize>,
}

impl Shape {
    fn new(layouts: &[Layout], layout_of: &[usize]) -> Self {
        Self::of(&Merged::new(layouts), layouts, layout_of)
    }

    fn of(merged: &Merged, layouts: &[Layout], layout_of: &[usize]) -> Self {
        let columns: Vec<[Vec<_>; 2]> = layouts
            .iter()
            .map(|l| [0, 1].map(|side: usize| l.sides[side].iter().map(|r| merged.columns(r)).collect()))
            .collect();
        let mut n_rows = vec![0; layouts.len()];
        layout_of.iter().for_each(|l| n_rows[*l] += 1);
        let mut starts = vec![0; merged.n_columns as usize + 1];
        for (of_layout, n_rows) in columns.iter().zip(n_rows) {
            for column in of_layout.iter().flatten().flat_map(|r| r.clone()) {
                starts[column + 1] += n_rows;
            }
        }
        for i in 1..starts.len() {
            starts[i] += starts[i - 1];
        }
        Self { columns, starts }
    }

    fn n_columns(&self) -> usize {
        self.starts.len() - 1
    }

    fn n_values(&self) -> usize {
        self.starts[self.n_columns()]
    }

    fn values_of(&self, column: usize) -> std::ops::Range<usize> {
        self.starts[column]..self.starts[column + 1]
    }
}

#[cfg(test)]
mod tests;
