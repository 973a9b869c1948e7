//! Chunks of native histograms: one bucket layout per chunk, counts as differences of differences (integers) or XORed
//! (floats).
//!
//! Counts and buckets of a chunk are all integers or all floats; [`FloatHistogram`] holds both without loss as long as
//! integers stay below 2^53. A staleness marker is a histogram without buckets whose sum is the marker.
//!
//! # Source
//! Prometheus, `tsdb/docs/format/chunks.md`, encodings 2 and 3.

use std::sync::Arc;

use promontory_model::histogram::{CUSTOM_BUCKETS_SCHEMA, CounterResetHint, Counts, HistogramSample, Span};
use promontory_model::{FloatHistogram, is_stale};

use super::bits::{BitReader, BitWriter};
use super::xor::XorState;
use crate::wire::WireError;

/// Buckets of one histogram; Prometheus' own limits lie far below.
const BUCKETS_MAX: usize = 1 << 16;
/// Bytes of a chunk that are decoded; Prometheus aims at one KiB.
pub(super) const CHUNK_BYTES_MAX: usize = 4 << 20;
/// Custom bounds of up to three decimals and this many thousandths are stored as numbers.
const SHORT_BOUND_MAX: f64 = 33_554_430.0;

/// The two top bits of a chunk's flags: how its first histogram relates to the one before the chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResetHeader {
    Unknown = 0b0000_0000,
    NotReset = 0b0100_0000,
    Reset = 0b1000_0000,
    Gauge = 0b1100_0000,
}

impl ResetHeader {
    fn of(flags: u8) -> Self {
        match flags >> 6 {
            0 => Self::Unknown,
            1 => Self::NotReset,
            2 => Self::Reset,
            _ => Self::Gauge,
        }
    }

    /// What is known about sample `i`. The first of a chunk stays unknown but for gauges, as the chunk before it may be
    /// gone or have been joined by another since.
    fn hint(self, i: usize) -> CounterResetHint {
        match self {
            Self::Gauge => CounterResetHint::Gauge,
            _ if i > 0 => CounterResetHint::NotReset,
            _ => CounterResetHint::Unknown,
        }
    }
}

/// What all histograms of a chunk share.
struct Layout {
    schema: i32,
    zero_threshold: f64,
    positive_spans: Vec<Span>,
    negative_spans: Vec<Span>,
    custom_values: Vec<f64>,
    n_positive: usize,
    n_buckets: usize,
}

impl Layout {
    fn read(r: &mut BitReader<'_>) -> Result<Self, WireError> {
        let zero_threshold = match r.byte()? {
            0 => 0.0,
            255 => r.float()?,
            exponent => 2f64.powi(i32::from(exponent) - 244),
        };
        let schema = r.varbit_int()?;
        let is_known = (-4..=8).contains(&schema) || schema == i64::from(CUSTOM_BUCKETS_SCHEMA);
        let schema = i32::try_from(schema).ok().filter(|_| is_known).ok_or(r.error("unknown schema of a histogram"))?;
        let (positive_spans, n_positive) = read_spans(r)?;
        let (negative_spans, n_negative) = read_spans(r)?;
        let mut custom_values = Vec::new();
        if schema == CUSTOM_BUCKETS_SCHEMA {
            let n = count(r)?;
            for _ in 0..n {
                custom_values.push(read_bound(r)?);
            }
        }
        if schema == CUSTOM_BUCKETS_SCHEMA {
            check_custom(r, &positive_spans, n_negative, &custom_values)?;
        }
        let n_buckets = n_positive + n_negative;
        Ok(Self { schema, zero_threshold, positive_spans, negative_spans, custom_values, n_positive, n_buckets })
    }

    fn write(h: &FloatHistogram, w: &mut BitWriter) {
        match short_threshold(h.zero_threshold) {
            Some(byte) => w.put(u64::from(byte), 8),
            None => {
                w.put(255, 8);
                w.put_float(h.zero_threshold);
            }
        }
        w.put_varbit_int(i64::from(h.schema));
        for spans in [&h.positive_spans, &h.negative_spans] {
            w.put_varbit_uint(spans.len() as u64);
            for span in spans {
                w.put_varbit_uint(u64::from(span.length));
                w.put_varbit_int(i64::from(span.offset));
            }
        }
        if h.schema == CUSTOM_BUCKETS_SCHEMA {
            w.put_varbit_uint(h.custom_values.len() as u64);
            h.custom_values.iter().for_each(|bound| put_bound(*bound, w));
        }
    }

    /// A histogram of this layout, or a staleness marker, which has none.
    fn histogram(
        &self,
        hint: CounterResetHint,
        count: f64,
        zero_count: f64,
        sum: f64,
        buckets: &[f64],
    ) -> FloatHistogram {
        if is_stale(sum) {
            return FloatHistogram { sum, counter_reset_hint: hint, ..FloatHistogram::default() };
        }
        FloatHistogram {
            counter_reset_hint: hint,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count,
            count,
            sum,
            positive_spans: self.positive_spans.clone(),
            negative_spans: self.negative_spans.clone(),
            positive_buckets: buckets[..self.n_positive].to_vec(),
            negative_buckets: buckets[self.n_positive..].to_vec(),
            custom_values: self.custom_values.clone(),
        }
    }
}

/// The one-byte form of a zero threshold: 0, or a power of two between 2^−243 and 2^10.
fn short_threshold(v: f64) -> Option<u8> {
    if v.to_bits() == 0 {
        return Some(0);
    }
    let exponent = i32::try_from(v.to_bits() >> 52).unwrap_or(0) - 1023;
    let is_short = (-243..=10).contains(&exponent) && v == 2f64.powi(exponent);
    is_short.then(|| u8::try_from(exponent + 244).ok()).flatten()
}

/// A count of things that take at least one bit each.
fn count(r: &mut BitReader<'_>) -> Result<usize, WireError> {
    let n = usize::try_from(r.varbit_uint()?).ok().filter(|&n| n <= BUCKETS_MAX && n <= r.remaining());
    n.ok_or(r.error("more parts of a histogram than there can be"))
}

fn read_spans(r: &mut BitReader<'_>) -> Result<(Vec<Span>, usize), WireError> {
    let n = count(r)?;
    let mut spans = Vec::with_capacity(n);
    let mut n_buckets = 0usize;
    let mut end = 0i32;
    for i in 0..n {
        let length = r.varbit_uint()?;
        let offset = r.varbit_int()?;
        let bad = r.error("spans of a histogram");
        let length = u32::try_from(length).ok().filter(|n| *n as usize <= BUCKETS_MAX).ok_or(bad)?;
        let offset = i32::try_from(offset).ok().filter(|o| i == 0 || *o >= 0).ok_or(bad)?;
        end = end.checked_add(offset).and_then(|e| e.checked_add_unsigned(length)).ok_or(bad)?;
        n_buckets += length as usize;
        if n_buckets > BUCKETS_MAX {
            return Err(bad);
        }
        spans.push(Span { offset, length });
    }
    Ok((spans, n_buckets))
}

/// Custom buckets lie between ascending bounds, or behind the last.
fn check_custom(r: &BitReader<'_>, spans: &[Span], n_negative: usize, bounds: &[f64]) -> Result<(), WireError> {
    let reach = spans.iter().fold(0i64, |end, s| end + i64::from(s.offset) + i64::from(s.length));
    let is_ascending = bounds.iter().all(|b| b.is_finite()) && bounds.windows(2).all(|w| w[0] < w[1]);
    let starts_inside = spans.first().is_none_or(|s| s.offset >= 0);
    let is_sound = is_ascending && starts_inside && n_negative == 0 && reach <= bounds.len() as i64 + 1;
    if is_sound { Ok(()) } else { Err(r.error("custom buckets do not fit their bounds")) }
}

fn read_bound(r: &mut BitReader<'_>) -> Result<f64, WireError> {
    match r.varbit_uint()? {
        0 => r.float(),
        thousandths => Ok((thousandths - 1) as f64 / 1000.0),
    }
}

fn put_bound(bound: f64, w: &mut BitWriter) {
    let thousandths = bound * 1000.0;
    let is_short = (0.0..=SHORT_BOUND_MAX).contains(&thousandths)
        && thousandths.fract() == 0.0
        // Reading divides; where that gives other bits, the bits themselves are stored.
        && (thousandths / 1000.0).to_bits() == bound.to_bits();
    if is_short {
        w.put_varbit_uint(thousandths as u64 + 1);
    } else {
        w.put(0, 1);
        w.put_float(bound);
    }
}

/// A number whose second difference is stored.
#[derive(Debug, Clone, Copy, Default)]
struct Twice {
    value: i64,
    delta: i64,
}

impl Twice {
    fn step(&mut self, i: usize, stored: i64) -> i64 {
        match i {
            0 => self.value = stored,
            1 => {
                self.delta = stored;
                self.value = self.value.wrapping_add(stored);
            }
            _ => {
                self.delta = self.delta.wrapping_add(stored);
                self.value = self.value.wrapping_add(self.delta);
            }
        }
        self.value
    }

    /// What is stored so that [`Twice::step`] gives `value`.
    fn stored(&mut self, i: usize, value: i64) -> i64 {
        let delta = value.wrapping_sub(self.value);
        let out = match i {
            0 => value,
            1 => delta,
            _ => delta.wrapping_sub(self.delta),
        };
        self.delta = if i == 0 { 0 } else { delta };
        self.value = value;
        out
    }
}

/// Appends the histograms of a chunk's data; `is_float` says that it has encoding 3.
pub(super) fn decode(data: &[u8], is_float: bool, out: &mut Vec<(i64, HistogramSample)>) -> Result<(), WireError> {
    let mut r = BitReader::new(data);
    if data.len() > CHUNK_BYTES_MAX {
        return Err(r.error("chunk of histograms is longer than 4 MiB"));
    }
    let n = r.bits(16)? as usize;
    if n == 0 {
        return Ok(());
    }
    let header = ResetHeader::of(r.byte()?);
    let layout = Layout::read(&mut r)?;
    // Each sample has four numbers of at least a bit.
    if r.remaining() < 4 * n {
        return Err(r.error("fewer bytes than histograms"));
    }
    if is_float {
        decode_floats(&mut r, n, header, &layout, out)
    } else {
        decode_integers(&mut r, n, header, &layout, out)
    }
}

fn decode_integers(
    r: &mut BitReader<'_>,
    n: usize,
    header: ResetHeader,
    layout: &Layout,
    out: &mut Vec<(i64, HistogramSample)>,
) -> Result<(), WireError> {
    let (mut time, mut count, mut zero) = (Twice::default(), Twice::default(), Twice::default());
    let mut sum: Option<XorState> = None;
    let mut buckets = Vec::new();
    let mut absolute = Vec::new();
    for i in 0..n {
        let t = time.step(i, r.varbit_int()?);
        let mut unsigned = |twice: &mut Twice| {
            let stored = if i == 0 { r.varbit_uint()?.cast_signed() } else { r.varbit_int()? };
            Ok::<f64, WireError>(twice.step(i, stored).cast_unsigned() as f64)
        };
        let (count, zero_count) = (unsigned(&mut count)?, unsigned(&mut zero)?);
        let sum = read_float(r, &mut sum)?;
        absolute.clear();
        if !is_stale(sum) {
            if r.remaining() < layout.n_buckets {
                return Err(r.error("fewer bytes than buckets"));
            }
            buckets.resize(layout.n_buckets, Twice::default());
            let mut total = 0i64;
            for (b, bucket) in buckets.iter_mut().enumerate() {
                // Each bucket is stored as the difference to the one before, on either side of zero.
                let base = if b == layout.n_positive { 0 } else { total };
                total = base.wrapping_add(bucket.step(i, r.varbit_int()?));
                absolute.push(total as f64);
            }
        }
        let h = layout.histogram(header.hint(i), count, zero_count, sum, &absolute);
        out.push((t, HistogramSample::from_stored(Arc::new(h), Counts::Integer)));
    }
    Ok(())
}

fn decode_floats(
    r: &mut BitReader<'_>,
    n: usize,
    header: ResetHeader,
    layout: &Layout,
    out: &mut Vec<(i64, HistogramSample)>,
) -> Result<(), WireError> {
    let mut time = Twice::default();
    let (mut count, mut zero, mut sum) = (None, None, None);
    let mut buckets = Vec::new();
    let mut absolute = Vec::new();
    for i in 0..n {
        let t = time.step(i, r.varbit_int()?);
        let (count, zero_count) = (read_float(r, &mut count)?, read_float(r, &mut zero)?);
        let sum = read_float(r, &mut sum)?;
        absolute.clear();
        if !is_stale(sum) {
            if r.remaining() < layout.n_buckets {
                return Err(r.error("fewer bytes than buckets"));
            }
            buckets.resize(layout.n_buckets, None);
            for bucket in &mut buckets {
                absolute.push(read_float(r, bucket)?);
            }
        }
        let h = layout.histogram(header.hint(i), count, zero_count, sum, &absolute);
        out.push((t, HistogramSample::from_stored(Arc::new(h), Counts::Float)));
    }
    Ok(())
}

/// The first value of a column whole, the next ones XORed.
fn read_float(r: &mut BitReader<'_>, state: &mut Option<XorState>) -> Result<f64, WireError> {
    match state {
        Some(xor) => xor.read(r),
        None => {
            let v = r.float()?;
            *state = Some(XorState::new(v));
            Ok(v)
        }
    }
}

fn put_float(v: f64, state: &mut Option<XorState>, w: &mut BitWriter) {
    match state {
        Some(xor) => xor.write(v, w),
        None => {
            w.put_float(v);
            *state = Some(XorState::new(v));
        }
    }
}

/// Whether `next` can stand behind `previous` in one chunk: the same layout, markers only behind the others.
pub(super) fn continues(previous: &FloatHistogram, next: &FloatHistogram) -> bool {
    let same = |a: &[f64], b: &[f64]| a.iter().map(|v| v.to_bits()).eq(b.iter().map(|v| v.to_bits()));
    is_stale(next.sum)
        || !is_stale(previous.sum)
            && previous.schema == next.schema
            && previous.zero_threshold.to_bits() == next.zero_threshold.to_bits()
            && previous.positive_spans == next.positive_spans
            && previous.negative_spans == next.negative_spans
            && same(&previous.custom_values, &next.custom_values)
}

/// Whether a chunk of integers holds the histogram without loss.
pub(super) fn is_integral(h: &HistogramSample) -> bool {
    // Buckets are signed there.
    let whole = |v: &f64| v.to_bits() == ((*v as u64) as f64).to_bits() && *v < (1u64 << 63) as f64;
    let v = h.value();
    let counts = [v.count, v.zero_count];
    let mut counts = counts.iter().chain(&v.positive_buckets).chain(&v.negative_buckets);
    h.is_stale() || h.counts() == Counts::Integer && counts.all(whole)
}

/// The data of a chunk with these histograms, all of the layout of the first, at least one and at most 65,535.
pub(super) fn encode(samples: &[(i64, HistogramSample)], is_float: bool, header: ResetHeader) -> Vec<u8> {
    debug_assert!(!samples.is_empty() && samples.len() <= super::xor::SAMPLES_MAX);
    let mut bytes = (samples.len() as u16).to_be_bytes().to_vec();
    bytes.push(header as u8);
    let mut w = BitWriter::after(bytes);
    let stale = FloatHistogram::default();
    let first = &samples[0].1;
    Layout::write(if first.is_stale() { &stale } else { first.value() }, &mut w);
    if is_float {
        encode_floats(samples, &mut w)
    } else {
        encode_integers(samples, &mut w)
    }
    w.finish()
}

fn encode_integers(samples: &[(i64, HistogramSample)], w: &mut BitWriter) {
    let (mut time, mut count, mut zero) = (Twice::default(), Twice::default(), Twice::default());
    let mut sum = None;
    let mut buckets = Vec::new();
    for (i, (t, h)) in samples.iter().enumerate() {
        let h = h.value();
        w.put_varbit_int(time.stored(i, *t));
        let is_marker = is_stale(h.sum);
        for (twice, v) in [(&mut count, h.count), (&mut zero, h.zero_count)] {
            let stored = twice.stored(i, if is_marker { 0 } else { (v as u64).cast_signed() });
            if i == 0 {
                w.put_varbit_uint(stored.cast_unsigned());
            } else {
                w.put_varbit_int(stored);
            }
        }
        put_float(h.sum, &mut sum, w);
        if is_marker {
            continue;
        }
        buckets.resize(h.positive_buckets.len() + h.negative_buckets.len(), Twice::default());
        let (positive, negative) = buckets.split_at_mut(h.positive_buckets.len());
        for (side, values) in [(positive, &h.positive_buckets), (negative, &h.negative_buckets)] {
            let mut before = 0i64;
            for (bucket, v) in side.iter_mut().zip(values) {
                let v = (*v as u64).cast_signed();
                w.put_varbit_int(bucket.stored(i, v.wrapping_sub(before)));
                before = v;
            }
        }
    }
}

fn encode_floats(samples: &[(i64, HistogramSample)], w: &mut BitWriter) {
    let mut time = Twice::default();
    let (mut count, mut zero, mut sum) = (None, None, None);
    let mut buckets = Vec::new();
    for (i, (t, h)) in samples.iter().enumerate() {
        let h = h.value();
        w.put_varbit_int(time.stored(i, *t));
        let is_marker = is_stale(h.sum);
        put_float(if is_marker { 0.0 } else { h.count }, &mut count, w);
        put_float(if is_marker { 0.0 } else { h.zero_count }, &mut zero, w);
        put_float(h.sum, &mut sum, w);
        if is_marker {
            continue;
        }
        buckets.resize(h.positive_buckets.len() + h.negative_buckets.len(), None);
        for (bucket, v) in buckets.iter_mut().zip(h.positive_buckets.iter().chain(&h.negative_buckets)) {
            put_float(*v, bucket, w);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use promontory_model::stale_nan;
    use proptest::prelude::*;

    /// Histograms of one layout, as a server would store them.
    pub(in crate::prometheus) fn histograms(is_float: bool) -> impl Strategy<Value = Vec<(i64, HistogramSample)>> {
        let spans = proptest::collection::vec((0i32..5, 1u32..4), 0..4);
        let schema = prop_oneof![-4i32..=8, Just(CUSTOM_BUCKETS_SCHEMA)];
        let threshold = prop_oneof![Just(0.0), Just(2f64.powi(-128)), Just(1e-128), Just(2f64.powi(10)), Just(-1.0)];
        let steps = proptest::collection::vec(prop_oneof![Just(0.005), Just(0.125), Just(2.5), 0.1..9e9f64], 30);
        let counts = proptest::collection::vec(
            (1i64..100_000, proptest::collection::vec(0u64..1 << 30, 30), any::<f64>(), any::<bool>()),
            1..30,
        );
        (spans.clone(), spans, schema, threshold, steps, counts).prop_map(
            move |(p, mut n, schema, mut zero_threshold, steps, counts)| {
                let is_custom = schema == CUSTOM_BUCKETS_SCHEMA;
                let reach: i64 = p.iter().map(|&(offset, length)| i64::from(offset) + i64::from(length)).sum();
                let mut bounds = Vec::new();
                if is_custom {
                    n.clear();
                    zero_threshold = 0.0;
                    let sums = steps.iter().scan(-2.5, |sum, step| {
                        *sum += step;
                        Some(*sum)
                    });
                    bounds.extend(sums.take(reach.max(1) as usize - 1));
                }
                let spans =
                    |s: &[(i32, u32)]| s.iter().map(|&(offset, length)| Span { offset, length }).collect::<Vec<_>>();
                let len = |s: &[(i32, u32)]| s.iter().map(|x| x.1 as usize).sum::<usize>();
                let mut t = -5_000;
                let mut out = Vec::new();
                let n_counts = counts.len();
                for (i, (step, c, sum, last_is_stale)) in counts.into_iter().enumerate() {
                    t += step;
                    let v = |x: u64| if is_float { x as f64 / 8.0 } else { x as f64 };
                    let h = FloatHistogram {
                        counter_reset_hint: if i == 0 { CounterResetHint::Unknown } else { CounterResetHint::NotReset },
                        schema,
                        zero_threshold,
                        zero_count: if is_custom { 0.0 } else { v(c[28]) },
                        count: v(c[29]),
                        sum,
                        positive_spans: spans(&p),
                        negative_spans: spans(&n),
                        positive_buckets: c[..len(&p)].iter().map(|x| v(*x)).collect(),
                        negative_buckets: c[12..12 + len(&n)].iter().map(|x| v(*x)).collect(),
                        custom_values: bounds.clone(),
                    };
                    let stale = FloatHistogram {
                        sum: stale_nan(),
                        counter_reset_hint: h.counter_reset_hint,
                        ..Default::default()
                    };
                    let h = if last_is_stale && i + 1 == n_counts { stale } else { h };
                    let counts = if is_float { Counts::Float } else { Counts::Integer };
                    out.push((t, HistogramSample::from_stored(Arc::new(h), counts)));
                }
                out
            },
        )
    }

    /// Bits rather than values, so that NaNs and zeros are told apart.
    pub(in crate::prometheus) fn text(samples: &[(i64, HistogramSample)]) -> Vec<String> {
        samples.iter().map(|(t, h)| format!("{t} {:x} {h:?}", h.value().sum.to_bits())).collect()
    }

    proptest! {
        #[test]
        fn integer_chunks_round_trip(samples in histograms(false)) {
            prop_assert!(samples.iter().all(|(_, h)| is_integral(h)));
            let mut got = Vec::new();
            decode(&encode(&samples, false, ResetHeader::Reset), false, &mut got).unwrap();
            prop_assert_eq!(text(&got), text(&samples));
        }

        #[test]
        fn float_chunks_round_trip(samples in histograms(true)) {
            let mut got = Vec::new();
            decode(&encode(&samples, true, ResetHeader::NotReset), true, &mut got).unwrap();
            prop_assert_eq!(text(&got), text(&samples));
        }

        #[test]
        fn hostile_chunks_never_panic(
            data in proptest::collection::vec(any::<u8>(), 0..200),
            samples in histograms(false),
            flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            is_float in any::<bool>(),
        ) {
            let mut out = Vec::new();
            let _ = decode(&data, is_float, &mut out);
            let mut damaged = encode(&samples, false, ResetHeader::Gauge);
            for (at, byte) in flips {
                let at = at.index(damaged.len());
                damaged[at] ^= byte;
            }
            let _ = decode(&damaged, is_float, &mut out);
        }
    }
}
