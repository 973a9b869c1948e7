//! The histograms of one series in one sealed part: which rows have one, what their counts were, the column itself.
//!
//! The same bytes stand in head segments and in blocks. Format: `docs/format/codec.md`.

use promontory_model::HistogramSample;
use promontory_model::histogram::Counts;

use crate::codec;
use crate::sample::derive_hints;
use crate::wire::{Reader, WireError, put_varint};

/// Rows with a histogram, in the two low bits of the flags.
const ALL_ROWS: u8 = 0;
const ROW_RANGE: u8 = 1;
const BITMAP: u8 = 2;
const PRESENCE_MASK: u8 = 3;
/// What the counts were, above them.
const COUNTS_SHIFT: u8 = 2;
const INTEGERS: u8 = 0;
const FLOATS: u8 = 1;
/// One bit per histogram says whether its counts were floats.
const MIXED: u8 = 2;
const FLAGS_END: u8 = 1 << 4;

/// Appends the histograms at `rows`, ascending, of `n_rows`. Their hints become those that a reader gets. Nothing is
/// appended for none.
pub(crate) fn put(n_rows: usize, rows: &[usize], samples: &mut [HistogramSample], out: &mut Vec<u8>) {
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return };
    derive_hints(samples);
    let presence = match rows.len() {
        n if n == n_rows => ALL_ROWS,
        n if last - first + 1 == n => ROW_RANGE,
        _ => BITMAP,
    };
    let is_float = |s: &HistogramSample| s.counts() == Counts::Float;
    let counts = match (samples.iter().any(is_float), samples.iter().all(is_float)) {
        (false, _) => INTEGERS,
        (_, true) => FLOATS,
        _ => MIXED,
    };
    out.push(presence | counts << COUNTS_SHIFT);
    match presence {
        ROW_RANGE => {
            put_varint(out, *first as u64);
            put_varint(out, rows.len() as u64);
        }
        BITMAP => put_bits(out, n_rows, rows.iter().copied()),
        _ => {}
    }
    if counts == MIXED {
        put_bits(out, samples.len(), (0..samples.len()).filter(|i| is_float(&samples[*i])));
    }
    codec::encode_histograms(samples, out);
}

fn put_bits(out: &mut Vec<u8>, n: usize, set: impl Iterator<Item = usize>) {
    let start = out.len();
    out.resize(start + n.div_ceil(8), 0);
    set.for_each(|i| out[start + i / 8] |= 1 << (i % 8));
}

/// What [`put`] wrote, but for the histograms themselves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column<'a> {
    presence: Presence<'a>,
    /// Number of histograms.
    count: usize,
    counts: u8,
    mixed: &'a [u8],
    /// Where the encoded histograms start.
    at: usize,
    bytes: &'a [u8],
}

#[derive(Debug, Clone, Copy)]
enum Presence<'a> {
    From(usize),
    Bitmap(&'a [u8]),
}

fn bit(bits: &[u8], i: usize) -> bool {
    bits.get(i / 8).is_some_and(|byte| byte >> (i % 8) & 1 == 1)
}

impl<'a> Column<'a> {
    /// Reads all but the histograms of a part of `n_rows` rows.
    pub(crate) fn parse(bytes: &'a [u8], n_rows: usize) -> Result<Self, WireError> {
        let mut r = Reader::new(bytes);
        let flags = r.u8()?;
        if flags >= FLAGS_END {
            return Err(r.error("flags of a column of histograms"));
        }
        let (presence, count) = match flags & PRESENCE_MASK {
            ALL_ROWS => (Presence::From(0), n_rows),
            ROW_RANGE => {
                let first = r.count(n_rows)?;
                (Presence::From(first), r.count(n_rows - first)?)
            }
            BITMAP => {
                let bits = r.slice(n_rows.div_ceil(8))?;
                let beyond =
                    bits.last().map_or(0, |last| if n_rows.is_multiple_of(8) { 0 } else { last >> (n_rows % 8) });
                if beyond != 0 {
                    return Err(r.error("presence beyond the last row"));
                }
                (Presence::Bitmap(bits), bits.iter().map(|b| b.count_ones() as usize).sum())
            }
            _ => return Err(r.error("kind of presence")),
        };
        if count == 0 {
            return Err(r.error("column without a histogram"));
        }
        let counts = flags >> COUNTS_SHIFT;
        let mixed = match counts {
            INTEGERS | FLOATS => &[][..],
            MIXED => r.slice(count.div_ceil(8))?,
            _ => return Err(r.error("kind of counts")),
        };
        let at = r.offset();
        Ok(Self { presence, count, counts, mixed, at, bytes: &bytes[at..] })
    }

    /// Number of histograms.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Rows that have a histogram, ascending.
    pub(crate) fn rows(&self) -> impl Iterator<Item = usize> + use<'a> {
        let (range, bits) = match self.presence {
            Presence::From(first) => (first..first + self.count, None),
            Presence::Bitmap(bits) => (0..bits.len() * 8, Some(bits)),
        };
        range.filter(move |row| bits.is_none_or(|bits| bit(bits, *row)))
    }

    /// Appends the histograms.
    pub(crate) fn samples(&self, out: &mut Vec<HistogramSample>) -> Result<(), WireError> {
        let counts_of = |i: usize| match self.counts {
            INTEGERS => Counts::Integer,
            FLOATS => Counts::Float,
            _ if bit(self.mixed, i) => Counts::Float,
            _ => Counts::Integer,
        };
        let mut values = Vec::with_capacity(self.count.min(self.bytes.len()));
        codec::decode_histograms(self.bytes, self.count, &mut values)
            .map_err(|e| WireError { what: e.what, offset: self.at + e.at })?;
        out.extend(values.into_iter().enumerate().map(|(i, h)| HistogramSample::from_stored(h, counts_of(i))));
        Ok(())
    }
}

/// Appends the rows and histograms that [`put`] wrote.
pub(crate) fn read(
    bytes: &[u8],
    n_rows: usize,
    rows: &mut Vec<usize>,
    samples: &mut Vec<HistogramSample>,
) -> Result<(), WireError> {
    let column = Column::parse(bytes, n_rows)?;
    rows.extend(column.rows());
    column.samples(samples)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::tests::{counter, histogram};
    use proptest::prelude::*;

    #[track_caller]
    fn check(rows: &[Option<HistogramSample>]) -> usize {
        let (at, mut samples): (Vec<usize>, Vec<HistogramSample>) =
            rows.iter().enumerate().filter_map(|(i, s)| Some((i, s.clone()?))).unzip();
        let mut out = Vec::new();
        put(rows.len(), &at, &mut samples, &mut out);
        if samples.is_empty() {
            assert!(out.is_empty());
            return 0;
        }
        let (mut got_rows, mut got) = (Vec::new(), Vec::new());
        read(&out, rows.len(), &mut got_rows, &mut got).unwrap();
        assert_eq!(got_rows, at);
        assert_eq!(got.len(), samples.len());
        for (a, b) in got.iter().zip(&samples) {
            assert!(a.same_bits(b), "{a:?} {b:?}");
            assert_eq!(a.value().counter_reset_hint, b.value().counter_reset_hint);
        }
        out.len()
    }

    proptest! {
        #[test]
        fn any_histograms_round_trip(rows in proptest::collection::vec(proptest::option::of(histogram()), 1..30)) {
            check(&rows);
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), n_rows in 1usize..300) {
            if let Ok(column) = Column::parse(&bytes, n_rows) {
                prop_assert!(column.rows().all(|row| row < n_rows));
                let _ = column.samples(&mut Vec::new());
            }
        }
    }

    #[test]
    fn presence_takes_what_it_needs() {
        let some = |rows: std::ops::Range<usize>| -> Vec<Option<HistogramSample>> {
            counter(40).into_iter().enumerate().map(|(i, s)| rows.contains(&i).then_some(s)).collect()
        };
        check(&some(0..40));
        check(&some(3..17));
        check(&some(0..0));
        let mut holes = some(0..40);
        holes[20] = None;
        check(&holes);
    }
}
