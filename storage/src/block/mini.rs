//! A mini-block: the values of one series in one span of its group. Native histograms of the series stand behind its
//! floats.
//!
//! Most decode alone; the bucket of a classic histogram may be written relative to the mini-block before it, and others
//! be told from one or two of the same page (`predict.rs`), whose values are then needed. It holds no least, greatest or last value: a span decodes in half a microsecond, and they
//! take as much as the samples of a quiet series.

use promontory_model::HistogramSample;

use crate::codec::{self, relative};
use crate::histogram_column;
use crate::wire::{Reader, WireError, put_bytes, put_varint, unzigzag, zigzag};

use super::predict::{Page, Prediction};
use super::section::Malformed;

/// Presence, in the two low bits of the flags.
const ALL_ROWS: u8 = 0;
const ROW_RANGE: u8 = 1;
const BITMAP: u8 = 2;
/// All of the flags of a mini-block with histograms.
const HISTOGRAMS: u8 = 3;
const PRESENCE_MASK: u8 = 3;
/// All values have the bits of one number; no column follows.
const CONSTANT: u8 = 1 << 2;
/// The column holds differences to the values of the mini-block before.
const RELATIVE: u8 = 1 << 3;
/// The column holds what others of the page do not say; which they are stands before it.
const PREDICTED: u8 = 1 << 4;
const FLAGS: u8 = PRESENCE_MASK | CONSTANT | RELATIVE | PREDICTED;
/// Mini-blocks that follow each other relatively: what a reader of the last one has to decode.
pub(super) const CHAIN_MAX: usize = 64;
/// Decimal exponent that says that eight bytes follow instead.
const PLAIN: u8 = 15;
const DECIMALS_MAX: u8 = 14;
/// Bits of a number that are its exponent.
const NUMBER_MASK: u64 = 15;
/// A page is closed when its mini-blocks take this many bytes: what a reader of one column has to check and touch.
pub(super) const PAGE_BYTES: usize = 16 << 10;

/// Rows of a span in which the series has a float.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence<'a> {
    /// Every row.
    All,
    /// `count` rows from this one.
    From(usize),
    /// One bit per row, low bits first.
    Bitmap(&'a [u8]),
}

/// Where the values come from.
#[derive(Debug, Clone, Copy)]
enum Values<'a> {
    /// All are this one.
    Constant(f64),
    /// A column and its offset in the mini-block.
    Column(usize, &'a [u8]),
    /// As `Column`, of differences.
    Differences(usize, &'a [u8]),
    /// As `Column`, of what a prediction leaves.
    Rest(usize, &'a [u8], Prediction),
}

/// A parsed mini-block; the values are not decoded yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MiniBlock<'a> {
    n_floats: usize,
    pub(crate) presence: Presence<'a>,
    values: Values<'a>,
    histograms: Option<(usize, histogram_column::Column<'a>)>,
}

/// As [`put`], and then the histograms at `rows_of`, ascending, which are rows without a value.
pub(crate) fn put_both(
    rows: usize,
    present: Option<&[u64]>,
    values: &[f64],
    (rows_of, histograms): (&[usize], &mut [HistogramSample]),
    out: &mut Vec<u8>,
) {
    if histograms.is_empty() {
        return put(rows, present, values, out);
    }
    let mut floats = Vec::new();
    put(rows, present, values, &mut floats);
    out.push(HISTOGRAMS);
    put_bytes(out, &floats);
    histogram_column::put(rows, rows_of, histograms, out);
}

/// Appends the mini-block of `values`, those of the present rows; `present` has one bit per row, `None` for all.
/// Nothing is appended when there is no value.
pub(crate) fn put(rows: usize, present: Option<&[u64]>, values: &[f64], out: &mut Vec<u8>) {
    put_relative(rows, present, values, None, out);
}

/// As [`put`]; with `differences` to the values of the mini-block before, these are written.
fn put_relative(rows: usize, present: Option<&[u64]>, values: &[f64], differences: Option<&[f64]>, out: &mut Vec<u8>) {
    let Some(first) = values.first() else {
        return;
    };
    let present = present.filter(|_| values.len() < rows);
    let presence = present.map_or(ALL_ROWS, |bits| if is_range(rows, bits, values.len()) { ROW_RANGE } else { BITMAP });
    let is_constant = is_constant(values);
    let kind = match differences {
        _ if is_constant => CONSTANT,
        Some(_) => RELATIVE,
        None => 0,
    };
    out.push(presence | kind);
    match (presence, present) {
        (ROW_RANGE, Some(bits)) => {
            put_varint(out, first_row(rows, bits) as u64);
            put_varint(out, values.len() as u64);
        }
        (BITMAP, Some(bits)) => {
            let bytes = bits.iter().flat_map(|w| w.to_le_bytes()).take(rows.div_ceil(8));
            let start = out.len();
            out.extend(bytes);
            if !rows.is_multiple_of(8) {
                let last = out.len() - 1;
                debug_assert!(last >= start);
                out[last] &= (1 << (rows % 8)) - 1;
            }
        }
        _ => {}
    }
    if is_constant {
        put_number(*first, out);
    } else {
        codec::encode(differences.unwrap_or(values), out);
    }
}

fn is_constant(values: &[f64]) -> bool {
    values.iter().all(|v| v.to_bits() == values[0].to_bits())
}

/// Appends the mini-block of values in all rows of which a prediction leaves `rest`.
pub(super) fn put_predicted(prediction: &Prediction, rest: &[f64], out: &mut Vec<u8>) {
    out.push(ALL_ROWS | PREDICTED);
    prediction.put(out);
    codec::encode(rest, out);
}

/// Whether the mini-block needs the values of the one before.
pub(crate) fn is_relative(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|flags| flags & PRESENCE_MASK != HISTOGRAMS && flags & RELATIVE != 0)
}

/// Writes the mini-blocks of the columns of a span, in their order, and says where pages begin.
#[derive(Debug, Default)]
pub(crate) struct Columns {
    /// Mini-blocks of the page with bytes, and these.
    n_in_page: usize,
    page_bytes: usize,
    page: Page,
    /// Of the column before; no values when nothing may be relative to it.
    values: Vec<f64>,
    present: Vec<u64>,
    chain: usize,
    differences: Vec<f64>,
}

impl Columns {
    /// Starts a span.
    pub(crate) fn begin(&mut self) {
        self.values.clear();
        self.begin_page();
    }

    fn begin_page(&mut self) {
        (self.n_in_page, self.page_bytes) = (0, 0);
        self.page.begin();
    }

    /// As [`put_both`], and answers whether a page begins with it. The mini-block may become relative to the one before
    /// when that `is_similar`, or be told from others of the page.
    pub(crate) fn put(
        &mut self,
        is_similar: bool,
        rows: usize,
        present: Option<&[u64]>,
        values: &[f64],
        histograms: (&[usize], &mut [HistogramSample]),
        out: &mut Vec<u8>,
    ) -> bool {
        let start = out.len();
        let is_full = self.page_bytes >= PAGE_BYTES;
        if !histograms.0.is_empty() {
            self.values.clear();
            if is_full {
                self.begin_page();
            }
            put_both(rows, present, values, histograms, out);
            self.count(out.len() - start);
            return is_full;
        }
        let present = present.filter(|_| values.len() < rows);
        self.differences.clear();
        let is_relative = is_similar
            && self.chain < CHAIN_MAX
            && !values.is_empty()
            && self.values.len() == values.len()
            && self.present == present.unwrap_or(&[])
            && !is_constant(values)
            && relative::differences(values, &self.values, &mut self.differences);
        let begins_page = is_full && !is_relative;
        if begins_page {
            self.begin_page();
        }
        put_relative(rows, present, values, is_relative.then_some(&*self.differences), out);
        if !is_relative && present.is_none() && !values.is_empty() {
            self.page.push(self.n_in_page, values, start, out);
        }
        self.count(out.len() - start);
        self.chain = if is_relative { self.chain + 1 } else { 0 };
        self.values.clear();
        self.values.extend_from_slice(values);
        self.present.clear();
        self.present.extend_from_slice(present.unwrap_or(&[]));
        begins_page
    }

    fn count(&mut self, bytes: usize) {
        self.n_in_page += usize::from(bytes > 0);
        self.page_bytes += bytes;
    }
}

/// The number of a mini-block that is one short number in all rows; the table of its page holds it then.
pub(super) fn as_constant(bytes: &[u8]) -> Option<u64> {
    let (flags, number) = bytes.split_first()?;
    let mut r = Reader::new(number);
    let word = if *flags == ALL_ROWS | CONSTANT { r.varint().ok()? } else { return None };
    (r.is_empty() && word & NUMBER_MASK != u64::from(PLAIN)).then_some(word)
}

/// The mini-block of such a number.
pub(super) fn constant(number: u64) -> Vec<u8> {
    let mut out = vec![ALL_ROWS | CONSTANT];
    put_varint(&mut out, number);
    out
}

fn is_present(bits: &[u64], row: usize) -> bool {
    bits[row / 64] >> (row % 64) & 1 == 1
}

fn first_row(rows: usize, bits: &[u64]) -> usize {
    (0..rows).find(|r| is_present(bits, *r)).unwrap_or(0)
}

fn is_range(rows: usize, bits: &[u64], count: usize) -> bool {
    let first = first_row(rows, bits);
    first + count <= rows && (first..first + count).all(|r| is_present(bits, r))
}

/// A number of few digits takes few bytes.
fn put_number(v: f64, out: &mut Vec<u8>) {
    match (0..=DECIMALS_MAX).find_map(|e| scaled(v, e).map(|m| (e, m))) {
        Some((e, m)) => put_varint(out, zigzag(m) << 4 | u64::from(e)),
        None => {
            put_varint(out, u64::from(PLAIN));
            out.extend_from_slice(&v.to_bits().to_le_bytes());
        }
    }
}

fn read_number(r: &mut Reader<'_>) -> Result<f64, WireError> {
    match r.varint()? {
        word if word & NUMBER_MASK == u64::from(PLAIN) => Ok(f64::from_bits(r.u64()?)),
        word => Ok(short_number(word)),
    }
}

fn short_number(word: u64) -> f64 {
    unzigzag(word >> NUMBER_MASK.count_ones()) as f64 / power((word & NUMBER_MASK) as u8)
}

/// The integer that divided by 10^e is `v` bit for bit.
fn scaled(v: f64, e: u8) -> Option<i64> {
    const LIMIT: f64 = 2_251_799_813_685_248.0; // 2^51
    let m = (v * power(e)).round();
    (m.abs() < LIMIT && (m / power(e)).to_bits() == v.to_bits()).then_some(m as i64)
}

fn power(e: u8) -> f64 {
    const POWERS: [f64; 15] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14];
    POWERS[usize::from(e.min(DECIMALS_MAX))]
}

impl<'a> MiniBlock<'a> {
    /// Reads all but the values of a mini-block of a span of `rows` rows.
    pub(crate) fn parse(bytes: &'a [u8], rows: usize) -> Result<Self, Malformed> {
        if bytes.first() != Some(&HISTOGRAMS) {
            return Self::parse_floats(bytes, 0, rows);
        }
        let mut r = Reader::new(bytes);
        r.u8()?;
        let floats = r.bytes()?;
        let at = r.offset();
        let mut out = if floats.is_empty() {
            Self { n_floats: 0, presence: Presence::From(0), values: Values::Constant(0.0), histograms: None }
        } else {
            Self::parse_floats(&bytes[..at], at - floats.len(), rows)?
        };
        if out.needs_others() {
            return Err(WireError { what: "histograms behind differences", offset: at }.into());
        }
        let column = histogram_column::Column::parse(&bytes[at..], rows)
            .map_err(|e| WireError { what: e.what, offset: at + e.offset })?;
        if column.rows().any(|row| out.has_float(row)) {
            return Err(WireError { what: "row with a float and a histogram", offset: at }.into());
        }
        out.histograms = Some((at, column));
        Ok(out)
    }

    /// A mini-block of one number in all rows, see [`constant`].
    pub(super) fn of_constant(number: u64, rows: usize) -> Result<Self, Malformed> {
        if number & NUMBER_MASK == u64::from(PLAIN) {
            return Err(WireError { what: "number of a column", offset: 0 }.into());
        }
        let values = Values::Constant(short_number(number));
        Ok(Self { n_floats: rows, presence: Presence::All, values, histograms: None })
    }

    /// Floats that take the bytes from `start` on.
    fn parse_floats(bytes: &'a [u8], start: usize, rows: usize) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        r.slice(start)?;
        let flags = r.u8()?;
        if flags & !FLAGS != 0 || (flags & (CONSTANT | RELATIVE | PREDICTED)).count_ones() > 1 {
            return Err(r.error("flags of a mini-block").into());
        }
        let (presence, n_floats) = match flags & PRESENCE_MASK {
            ALL_ROWS => (Presence::All, rows),
            ROW_RANGE => {
                let first = r.count(rows)?;
                (Presence::From(first), r.count(rows - first)?)
            }
            BITMAP => {
                let bits = r.slice(rows.div_ceil(8))?;
                let beyond = if rows.is_multiple_of(8) { 0 } else { bits[bits.len() - 1] >> (rows % 8) };
                if beyond != 0 {
                    return Err(r.error("presence beyond the last row").into());
                }
                (Presence::Bitmap(bits), bits.iter().map(|b| b.count_ones() as usize).sum())
            }
            _ => return Err(r.error("kind of presence").into()),
        };
        if n_floats == 0 {
            return Err(r.error("mini-block without a value").into());
        }
        let values = if flags & CONSTANT != 0 {
            let value = read_number(&mut r)?;
            if !r.is_empty() {
                return Err(r.error("bytes left over").into());
            }
            Values::Constant(value)
        } else if flags & PREDICTED != 0 {
            let prediction = Prediction::read(&mut r)?;
            Values::Rest(r.offset(), &bytes[r.offset()..], prediction)
        } else {
            let at = r.offset();
            let column = &bytes[at..];
            if flags & RELATIVE != 0 { Values::Differences(at, column) } else { Values::Column(at, column) }
        };
        Ok(Self { n_floats, presence, values, histograms: None })
    }

    /// Number of samples, histograms included.
    pub(crate) fn count(&self) -> usize {
        self.n_floats + self.histograms.map_or(0, |(_, column)| column.count())
    }

    fn has_float(&self, row: usize) -> bool {
        match self.presence {
            Presence::All => true,
            Presence::From(first) => (first..first + self.n_floats).contains(&row),
            Presence::Bitmap(bits) => bits[row / 8] >> (row % 8) & 1 == 1,
        }
    }

    /// Appends the histograms and their rows, ascending.
    pub(crate) fn histograms(
        &self,
        rows: &mut Vec<usize>,
        samples: &mut Vec<HistogramSample>,
    ) -> Result<(), Malformed> {
        if let Some((at, column)) = &self.histograms {
            rows.extend(column.rows());
            column.samples(samples).map_err(|e| WireError { what: e.what, offset: at + e.offset })?;
        }
        Ok(())
    }

    /// Whether the values need those of the mini-block before.
    pub(crate) fn is_relative(&self) -> bool {
        matches!(self.values, Values::Differences(..))
    }

    /// How the values follow from others of the page, if they do.
    pub(crate) fn prediction(&self) -> Option<Prediction> {
        match self.values {
            Values::Rest(_, _, prediction) => Some(prediction),
            _ => None,
        }
    }

    /// Whether the values need those of others.
    pub(crate) fn needs_others(&self) -> bool {
        self.is_relative() || self.prediction().is_some()
    }

    /// Whether any histogram is there.
    pub(crate) fn has_histograms(&self) -> bool {
        self.histograms.is_some()
    }

    /// Appends the values of the rows with a float; `others` are those of the mini-block before when it is relative, and
    /// those of the references of a prediction.
    pub(crate) fn values(&self, others: &[&[f64]], out: &mut Vec<f64>) -> Result<(), Malformed> {
        let (at, bytes) = match self.values {
            Values::Constant(value) => {
                out.resize(out.len() + self.n_floats, value);
                return Ok(());
            }
            Values::Column(at, bytes) | Values::Differences(at, bytes) | Values::Rest(at, bytes, _) => (at, bytes),
        };
        let n_others = match self.values {
            Values::Differences(..) => 1,
            Values::Rest(_, _, prediction) => prediction.references().count(),
            _ => 0,
        };
        let others = others.get(..n_others).filter(|others| others.iter().all(|o| o.len() == self.n_floats));
        let others = others.ok_or(WireError { what: "values that differences are for", offset: at })?;
        let start = out.len();
        codec::decode(bytes, self.n_floats, out)
            .map_err(|e| Malformed::from(codec::CodecError { what: e.what, at: e.at + at }))?;
        match (self.values, others) {
            (Values::Differences(..), [before]) => relative::restore(before, &mut out[start..]),
            (Values::Rest(_, _, prediction), _) => prediction.restore(others, &mut out[start..]),
            _ => {}
        }
        Ok(())
    }

    /// Rows that have a float, ascending.
    pub(crate) fn rows(&self) -> impl Iterator<Item = usize> + use<'a> {
        let (range, bits) = match self.presence {
            Presence::All => (0..self.n_floats, None),
            Presence::From(first) => (first..first + self.n_floats, None),
            Presence::Bitmap(bits) => (0..bits.len() * 8, Some(bits)),
        };
        range.filter(move |row| bits.is_none_or(|bits| bits[row / 8] >> (row % 8) & 1 == 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Value;
    use proptest::prelude::*;

    #[track_caller]
    fn check(rows: &[Option<f64>]) -> usize {
        let mut bits = vec![0u64; rows.len().div_ceil(64)];
        let mut values = Vec::new();
        for (i, v) in rows.iter().enumerate() {
            if let Some(v) = v {
                bits[i / 64] |= 1 << (i % 64);
                values.push(*v);
            }
        }
        let mut out = Vec::new();
        put(rows.len(), Some(&bits), &values, &mut out);
        if values.is_empty() {
            assert!(out.is_empty());
            return 0;
        }
        let mini = MiniBlock::parse(&out, rows.len()).map_err(|e| WireError::from_malformed(&e)).unwrap();
        let mut got = Vec::new();
        mini.values(&[], &mut got).map_err(|e| WireError::from_malformed(&e)).unwrap();
        assert_eq!(got.len(), values.len());
        assert!(got.iter().zip(&values).all(|(a, b)| a.to_bits() == b.to_bits()));
        let expected: Vec<usize> = (0..rows.len()).filter(|i| rows[*i].is_some()).collect();
        assert_eq!(mini.rows().collect::<Vec<_>>(), expected);
        out.len()
    }

    impl WireError {
        fn from_malformed(e: &Malformed) -> Self {
            Self { what: e.what, offset: e.at }
        }
    }

    #[test]
    fn quiet_series_take_few_bytes() {
        assert_eq!(check(&[Some(0.0); 480]), 2);
        assert_eq!(check(&[Some(0.25); 480]), 3);
        assert!(check(&(0..480).map(|i| Some(f64::from(i) / 8.0)).collect::<Vec<_>>()) < 20);
        check(&[None, Some(1.0), Some(f64::NAN), None]);
        check(&[None, None]);
        check(&[Some(f64::NAN), Some(3.0), Some(-0.0), Some(0.0), Some(f64::INFINITY)]);
    }

    #[track_caller]
    fn check_both(rows: &[Option<Value>]) {
        let (mut bits, mut values) = (vec![0u64; rows.len().div_ceil(64)], Vec::new());
        let (mut rows_of, mut histograms) = (Vec::new(), Vec::new());
        for (i, v) in rows.iter().enumerate() {
            match v {
                Some(Value::Float(v)) => {
                    bits[i / 64] |= 1 << (i % 64);
                    values.push(*v);
                }
                Some(Value::Histogram(h)) => {
                    rows_of.push(i);
                    histograms.push(h.clone());
                }
                None => {}
            }
        }
        let mut out = Vec::new();
        put_both(rows.len(), Some(&bits), &values, (&rows_of, &mut histograms), &mut out);
        if values.is_empty() && histograms.is_empty() {
            assert!(out.is_empty());
            return;
        }
        let mini = MiniBlock::parse(&out, rows.len()).map_err(|e| WireError::from_malformed(&e)).unwrap();
        assert_eq!(mini.count(), values.len() + histograms.len());
        let mut got: Vec<Option<Value>> = vec![None; rows.len()];
        let (mut decoded, mut at, mut samples) = (Vec::new(), Vec::new(), Vec::new());
        mini.values(&[], &mut decoded).map_err(|e| WireError::from_malformed(&e)).unwrap();
        mini.histograms(&mut at, &mut samples).map_err(|e| WireError::from_malformed(&e)).unwrap();
        assert_eq!(decoded.len(), values.len());
        mini.rows().zip(decoded).for_each(|(row, v)| got[row] = Some(Value::Float(v)));
        at.into_iter().zip(samples).for_each(|(row, h)| got[row] = Some(Value::Histogram(h)));
        for (a, b) in got.iter().zip(rows) {
            assert!(match (a, b) {
                (Some(a), Some(b)) => a.same_bits(b),
                (a, b) => a.is_none() && b.is_none(),
            });
        }
    }

    /// Writes the columns of one span; gives the bytes of each.
    #[track_caller]
    fn check_columns(rows: usize, columns: &[Vec<Option<f64>>]) -> Vec<usize> {
        let mut writer = Columns::default();
        writer.begin();
        let mut before = Vec::new();
        let mut sizes = Vec::new();
        for column in columns {
            let mut bits = vec![0u64; rows.div_ceil(64)];
            (0..rows).filter(|i| column[*i].is_some()).for_each(|i| bits[i / 64] |= 1 << (i % 64));
            let values: Vec<f64> = column.iter().copied().flatten().collect();
            let mut out = Vec::new();
            writer.put(true, rows, Some(&bits), &values, (&[], &mut []), &mut out);
            sizes.push(out.len());
            let mut got = Vec::new();
            if !values.is_empty() {
                let mini = MiniBlock::parse(&out, rows).map_err(|e| WireError::from_malformed(&e)).unwrap();
                assert_eq!(mini.is_relative(), is_relative(&out));
                mini.values(&[&before], &mut got).map_err(|e| WireError::from_malformed(&e)).unwrap();
            }
            assert_eq!(
                got.iter().map(|v| v.to_bits()).collect::<Vec<_>>(),
                values.iter().map(|v| v.to_bits()).collect::<Vec<_>>()
            );
            before = got;
        }
        sizes
    }

    #[test]
    fn buckets_take_the_bytes_of_what_lies_between_them() {
        let counts = |i: u64, k: u64| ((i * 2_654_435_761) >> (7 + k)) % (3 * k + 1);
        let column = |k: u64, end: Option<f64>| {
            let mut sums = vec![0u64; 480];
            let mut total = 0;
            for (i, sum) in sums.iter_mut().enumerate() {
                total += (0..=k).map(|k| counts(i as u64, k)).sum::<u64>();
                *sum = total;
            }
            sums.into_iter().map(|s| Some(s as f64)).chain([end]).collect::<Vec<_>>()
        };
        let stale = f64::from_bits(promontory_model::STALE_NAN_BITS);
        for end in [Some(1e6), Some(stale), None, Some(0.0)] {
            let mut buckets: Vec<_> = (0..6).map(|k| column(k, end)).collect();
            buckets.push(buckets[5].clone());
            let sizes = check_columns(481, &buckets);
            assert!(sizes[6] < 32, "{sizes:?}");
            assert!(sizes[1] * 3 < sizes[5] * 4, "{sizes:?}");
        }
    }

    #[test]
    fn a_reader_of_one_bucket_decodes_few_others() {
        let bucket: Vec<_> = (0..50).map(|i| Some(f64::from(i * i))).collect();
        let mut writer = Columns::default();
        let longest = (0..3 * CHAIN_MAX).fold((0, 0), |(chain, longest), _| {
            let mut out = Vec::new();
            let values: Vec<f64> = bucket.iter().copied().flatten().collect();
            writer.put(true, 50, None, &values, (&[], &mut []), &mut out);
            let chain = if is_relative(&out) { chain + 1 } else { 0 };
            (chain, longest.max(chain))
        });
        assert_eq!(longest.1, CHAIN_MAX);
    }

    proptest! {
        #[test]
        fn columns_beside_each_other_round_trip(columns in proptest::collection::vec(proptest::collection::vec(
            proptest::option::weighted(0.9, prop_oneof![any::<u64>().prop_map(f64::from_bits), (-9i32..99).prop_map(f64::from)]), 3), 1..9)
        ) {
            check_columns(3, &columns);
        }

        #[test]
        fn floats_and_histograms_round_trip(rows in proptest::collection::vec(
            proptest::option::of(prop_oneof![
                (-99i32..99).prop_map(|v| Value::Float(f64::from(v))),
                crate::sample::tests::histogram().prop_map(Value::Histogram)
            ]), 1..20)
        ) {
            check_both(&rows);
        }

        #[test]
        fn any_rows_round_trip(rows in proptest::collection::vec(
            proptest::option::of(prop_oneof![any::<u64>().prop_map(f64::from_bits), (-99i32..99).prop_map(f64::from)]), 1..200)
        ) {
            check(&rows);
        }

        #[test]
        fn hostile_bytes_never_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..80),
            rows in 1usize..300,
            has_histograms: bool,
        ) {
            if has_histograms && !bytes.is_empty() {
                bytes[0] = HISTOGRAMS;
            }
            if let Ok(mini) = MiniBlock::parse(&bytes, rows) {
                let mut got = Vec::new();
                let _ = mini.values(&[], &mut got);
                prop_assert!(got.len() <= rows);
                prop_assert!(mini.rows().all(|r| r < rows));
                let (mut at, mut samples) = (Vec::new(), Vec::new());
                let _ = mini.histograms(&mut at, &mut samples);
                prop_assert!(at.iter().all(|r| *r < rows));
            }
        }
    }
}
