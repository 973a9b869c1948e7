//! Exemplars as bytes: the same in a record of the WAL and in the file of a checkpoint.
//!
//! Texts and series that occur in a batch several times are written once. Format: `docs/format/wal.md`.

use std::collections::HashMap;

use promontory_model::{Labels, Timestamp};

use super::{Exemplar, Labelled};
use crate::wire::{Reader, WireError, put_bytes, put_varint, put_zigzag};

/// Bytes of all label sets of a batch; a few bytes that name a long text many times must not ask for more.
const LABEL_BYTES_MAX: usize = 64 << 20;

/// Texts and series of a batch, each once.
#[derive(Default)]
struct Tables<'a> {
    texts: Vec<&'a str>,
    text_ids: HashMap<&'a str, u64>,
    series: Vec<&'a Labels>,
    series_ids: HashMap<&'a Labels, u64>,
}

impl<'a> Tables<'a> {
    fn text(&mut self, text: &'a str) -> u64 {
        *self.text_ids.entry(text).or_insert_with(|| {
            self.texts.push(text);
            self.texts.len() as u64 - 1
        })
    }

    fn put_pairs(&mut self, labels: &'a Labels, out: &mut Vec<u8>) {
        for (name, value) in labels {
            put_varint(out, self.text(name));
            put_varint(out, self.text(value));
        }
    }
}

/// Appends exemplars that are numbered from `first_no`.
pub(crate) fn put(out: &mut Vec<u8>, first_no: u64, batch: &[Labelled]) {
    let mut tables = Tables::default();
    let (mut series, mut exemplars) = (Vec::new(), Vec::new());
    let mut last = 0;
    for (labels, exemplar) in batch {
        let id = match tables.series_ids.get(labels) {
            Some(id) => *id,
            None => {
                put_varint(&mut series, labels.len() as u64);
                tables.put_pairs(labels, &mut series);
                tables.series.push(labels);
                tables.series_ids.insert(labels, tables.series.len() as u64 - 1);
                tables.series.len() as u64 - 1
            }
        };
        put_varint(&mut exemplars, id);
        put_zigzag(&mut exemplars, exemplar.timestamp.0.wrapping_sub(last));
        last = exemplar.timestamp.0;
        exemplars.extend_from_slice(&exemplar.value.to_bits().to_le_bytes());
        put_varint(&mut exemplars, (exemplar.labels.len() as u64) << 1 | u64::from(exemplar.has_timestamp));
        tables.put_pairs(&exemplar.labels, &mut exemplars);
    }
    put_varint(out, first_no);
    put_varint(out, tables.texts.len() as u64);
    tables.texts.iter().for_each(|text| put_bytes(out, text.as_bytes()));
    put_varint(out, tables.series.len() as u64);
    out.extend_from_slice(&series);
    put_varint(out, batch.len() as u64);
    out.extend_from_slice(&exemplars);
}

/// Number of the first exemplar, and all that take the rest of the bytes.
pub(crate) fn read(r: &mut Reader<'_>) -> Result<(u64, Vec<Labelled>), WireError> {
    let first_no = r.varint()?;
    let n_texts = r.count(r.remaining())?;
    let mut texts = Vec::with_capacity(n_texts);
    for _ in 0..n_texts {
        texts.push(r.str()?);
    }
    let mut left = LABEL_BYTES_MAX;
    let n_series = r.count(r.remaining())?;
    let mut series = Vec::with_capacity(n_series);
    for _ in 0..n_series {
        let n = r.varint()?;
        series.push(read_labels(r, n, &texts, &mut left)?);
    }
    let n = r.count(r.remaining() / 11)?;
    let mut batch = Vec::with_capacity(n);
    let mut t = 0_i64;
    for _ in 0..n {
        let id = r.varint()?;
        let labels = usize::try_from(id).ok().and_then(|id| series.get(id)).ok_or(r.error("series of an exemplar"))?;
        t = t.wrapping_add(r.zigzag()?);
        let value = f64::from_bits(r.u64()?);
        let word = r.varint()?;
        let own = read_labels(r, word >> 1, &texts, &mut left)?;
        let exemplar = Exemplar { labels: own, value, timestamp: Timestamp(t), has_timestamp: word & 1 == 1 };
        batch.push((labels.clone(), exemplar));
    }
    Ok((first_no, batch))
}

fn read_labels(r: &mut Reader<'_>, n: u64, texts: &[&str], left: &mut usize) -> Result<Labels, WireError> {
    let n = usize::try_from(n).ok().filter(|n| *n <= r.remaining() / 2).ok_or(r.error("number of labels"))?;
    let mut pairs = Vec::with_capacity(n);
    for _ in 0..n {
        let mut text = || {
            let id = r.varint()?;
            let text = usize::try_from(id).ok().and_then(|id| texts.get(id)).ok_or(r.error("text of a label"))?;
            *left = left.checked_sub(text.len() + 1).ok_or(r.error("size of all labels"))?;
            Ok::<&str, WireError>(text)
        };
        pairs.push((text()?, text()?));
    }
    // So they are written.
    let is_sorted = pairs.is_sorted_by(|a, b| a.0 < b.0) && pairs.iter().all(|(_, value)| !value.is_empty());
    Ok(if is_sorted { Labels::from_sorted(pairs) } else { Labels::from_pairs(pairs) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels() -> impl Strategy<Value = Labels> {
        proptest::collection::btree_map("[a-c]{1,2}", "[x-zé]{1,3}", 0..4).prop_map(Labels::from_pairs)
    }

    proptest! {
        #[test]
        fn exemplars_round_trip(
            first_no: u64,
            all in proptest::collection::vec((labels(), labels(), any::<u64>(), any::<i64>(), any::<bool>()), 0..20),
        ) {
            let batch: Vec<Labelled> = all
                .into_iter()
                .map(|(series, labels, bits, t, has_timestamp)| {
                    let value = if bits % 3 == 0 { 1.5 } else { f64::from_bits(bits) };
                    (series, Exemplar { labels, value, timestamp: Timestamp(t), has_timestamp })
                })
                .collect();
            let mut out = Vec::new();
            put(&mut out, first_no, &batch);
            let mut r = Reader::new(&out);
            let (no, got) = read(&mut r).unwrap();
            prop_assert!(r.is_empty() && no == first_no && got.len() == batch.len());
            for (a, b) in got.iter().zip(&batch) {
                prop_assert_eq!((&a.0, &a.1.labels, a.1.value.to_bits()), (&b.0, &b.1.labels, b.1.value.to_bits()));
                prop_assert_eq!((a.1.timestamp, a.1.has_timestamp), (b.1.timestamp, b.1.has_timestamp));
            }
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = read(&mut Reader::new(&bytes));
        }
    }
}
