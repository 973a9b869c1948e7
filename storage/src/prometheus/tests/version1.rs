//! An index of version 1, as early releases of Prometheus 2 left it: strings and series by offset, label pairs in no
//! order.

use std::collections::BTreeMap;

use super::*;
use crate::prometheus::index::read::Index;
use crate::wire::{put_varint, put_zigzag};

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Length, body, sum; gives the offset.
fn put_section(out: &mut Vec<u8>, body: &[u8]) -> u64 {
    let at = out.len() as u64;
    out.extend_from_slice(&(body.len() as u32).to_be_bytes());
    out.extend_from_slice(body);
    out.extend_from_slice(&crc32c::crc32c(body).to_be_bytes());
    at
}

/// The index of the block in `path` as version 1.
fn as_version_1(vfs: &SimVfs, path: &Path) -> Vec<u8> {
    let index = Index::open(vfs, path).unwrap();
    let all: Vec<_> = index.matching(&[], &Cancel::new()).unwrap().into_iter().collect();
    let series: Vec<_> = all
        .into_iter()
        .map(|reference| {
            let mut chunks = Vec::new();
            (index.series(reference, TimeRange::ALL, &mut chunks).unwrap().unwrap(), chunks)
        })
        .collect();
    let mut out = vec![0xba, 0xaa, 0xd7, 0x00, 1];
    let mut strings: BTreeMap<&str, u64> = BTreeMap::new();
    series.iter().flat_map(|s| &s.0).for_each(|(n, v)| {
        strings.insert(n, 0);
        strings.insert(v, 0);
    });
    let mut body = (strings.len() as u32).to_be_bytes().to_vec();
    for (text, offset) in &mut strings {
        // Behind the header of the file and the length of the section.
        *offset = 9 + body.len() as u64;
        put_text(&mut body, text);
    }
    let symbols_at = put_section(&mut out, &body);
    let series_at = out.len() as u64;
    let mut pairs: BTreeMap<(&str, &str), Vec<u32>> = BTreeMap::new();
    for (labels, chunks) in &series {
        let reference = out.len() as u32;
        let mut body = Vec::new();
        put_varint(&mut body, labels.len() as u64);
        pairs.entry(("", "")).or_default().push(reference);
        for (name, value) in labels {
            put_varint(&mut body, strings[name]);
            put_varint(&mut body, strings[value]);
            pairs.entry((name, value)).or_default().push(reference);
        }
        put_varint(&mut body, chunks.len() as u64);
        for (i, chunk) in chunks.iter().enumerate() {
            match i.checked_sub(1).map(|i| chunks[i]) {
                None => {
                    put_zigzag(&mut body, chunk.mint);
                    put_varint(&mut body, chunk.maxt.abs_diff(chunk.mint));
                    put_varint(&mut body, chunk.reference);
                }
                Some(last) => {
                    put_varint(&mut body, chunk.mint.abs_diff(last.maxt));
                    put_varint(&mut body, chunk.maxt.abs_diff(chunk.mint));
                    put_zigzag(&mut body, chunk.reference.wrapping_sub(last.reference).cast_signed());
                }
            }
        }
        put_varint(&mut out, body.len() as u64);
        out.extend_from_slice(&body);
        out.extend_from_slice(&crc32c::crc32c(&body).to_be_bytes());
    }
    let mut table = (pairs.len() as u32).to_be_bytes().to_vec();
    let postings_at = out.len() as u64;
    for ((name, value), list) in pairs.iter().rev() {
        let mut body = (list.len() as u32).to_be_bytes().to_vec();
        list.iter().for_each(|s| body.extend_from_slice(&s.to_be_bytes()));
        let at = put_section(&mut out, &body);
        table.push(2);
        put_text(&mut table, name);
        put_text(&mut table, value);
        put_varint(&mut table, at);
    }
    let table_at = put_section(&mut out, &table);
    let toc: Vec<u8> =
        [symbols_at, series_at, 0, 0, postings_at, table_at].into_iter().flat_map(u64::to_be_bytes).collect();
    out.extend_from_slice(&toc);
    out.extend_from_slice(&crc32c::crc32c(&toc).to_be_bytes());
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn an_index_of_version_1_reads_as_one_of_version_2(series in any_series(), name in "[ab_é]{1,2}", value in "[a-dé]{1,2}") {
        let vfs = SimVfs::new();
        let path = write(&vfs, Path::new("out"), Ulid::new(1, 2), &series);
        let index = as_version_1(&vfs, &path);
        crate::vfs::replace(&vfs, &path.join("index"), &index).unwrap();
        let block = PrometheusBlock::open(&vfs, &path).unwrap();
        prop_assert_eq!(&select(&block, &[], TimeRange::ALL), &series);
        let matcher = Matcher::equal(&name, &value);
        let expected: Series = series.iter().filter(|s| s.0.get(&name) == Some(&value)).cloned().collect();
        prop_assert_eq!(select(&block, &[matcher], TimeRange::ALL), expected);
    }
}
