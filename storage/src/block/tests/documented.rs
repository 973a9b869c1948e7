//! The worked example of `docs/format/block.md`, byte for byte.

use promontory_model::histogram::{Counts, Span};
use promontory_model::{FloatHistogram, HistogramSample, TimeRange};

use super::*;
use crate::documented::{bytes_of, fenced};

const PAGE: &str = include_str!("../../../docs/format/block.md");

/// The block that the page describes.
fn example() -> (Ulid, Group) {
    let series = |instance, values: [Option<f64>; 3]| {
        (Labels::from_pairs([("__name__", "up"), ("instance", instance)]), values.to_vec())
    };
    let columns = vec![series("a", [Some(1.0); 3]), series("b", [Some(0.0), None, Some(2.5)])];
    (Ulid::new(1_700_000_000_000, 1), Group { timestamps: vec![1000, 16_000, 31_000], columns })
}

#[test]
fn documented_block_is_what_is_written_and_read() {
    let (ulid, group) = example();
    let packed = bytes_of(fenced(PAGE, "packed"));
    let plain = index::packed::unpack(&packed[section::HEAD_BYTES..]).unwrap();
    let expected = bytes_of(fenced(PAGE, "index"));
    assert_eq!(plain, expected, "plain index: {plain:02x?}");
    let files = [
        ("meta", fenced(PAGE, "meta").as_bytes().to_vec()),
        ("index", packed),
        ("data", bytes_of(fenced(PAGE, "data"))),
    ];
    let written = vfs();
    write_block(&written, ulid, std::slice::from_ref(&group));
    for (name, expected) in &files {
        let found = crate::vfs::read(&*written, &path(ulid).join(name)).unwrap();
        assert_eq!(&found, expected, "{name}: {found:02x?}");
    }
    let typed_in = vfs();
    typed_in.create_dir_all(&path(ulid)).unwrap();
    for (name, bytes) in files {
        typed_in.create(&path(ulid).join(name)).unwrap().write_all(&bytes).unwrap();
    }
    let mut model = Model::new();
    group.add_to(&mut model);
    let block = BlockReader::open(&*typed_in, &path(ulid)).unwrap();
    assert_eq!(read_all(&*block, &[], TimeRange::ALL).unwrap(), model);
    verify(&*typed_in, &path(ulid)).unwrap();
}

#[test]
fn documented_relative_mini_block_is_what_is_written_and_read() {
    let buckets = [[10.0, 20.0, 31.0], [12.0, 23.0, 35.0]];
    let documented = bytes_of(fenced(PAGE, "relative"));
    let (mut written, mut starts) = (Vec::new(), Vec::new());
    let mut columns = mini::Columns::default();
    for values in &buckets {
        starts.push(written.len());
        columns.put(true, 3, None, values, (&[], &mut []), &mut written);
    }
    assert_eq!(written, documented, "{written:02x?}");
    let (before, bytes) = documented.split_at(starts[1]);
    let read = |bytes, before: &[f64]| {
        let mut out = Vec::new();
        let is_read = mini::MiniBlock::parse(bytes, 3).is_ok_and(|mini| mini.values(&[before], &mut out).is_ok());
        is_read.then_some(out)
    };
    assert_eq!(read(before, &[]), Some(buckets[0].to_vec()));
    assert_eq!(read(bytes, &buckets[0]), Some(buckets[1].to_vec()));
    assert_eq!(read(bytes, &[]), None, "the one before is needed");
}

#[test]
fn documented_mini_block_told_from_others_is_what_is_written_and_read() {
    let documented = bytes_of(fenced(PAGE, "told"));
    let Ok(mini) = mini::MiniBlock::parse(&documented, 4) else { panic!("the documented bytes are refused") };
    let (before, before_that) = ([10.0, 20.0, 40.0, 50.0], [5.0, 5.0, 6.0, 7.0]);
    let mut values = Vec::new();
    assert!(mini.values(&[&before, &before_that], &mut values).is_ok());
    assert_eq!(values, [16.0, 26.0, 47.0, 59.0]);
    assert!(mini.values(&[&before], &mut values).is_err() && mini.values(&[&before, &[1.0]], &mut values).is_err());
    let prediction = mini.prediction().unwrap();
    assert_eq!(prediction.references().map(|r| (r.back, r.factor)).collect::<Vec<_>>(), [(1, 1.0), (2, 1.0)]);
    let mut written = Vec::new();
    mini::put_predicted(&prediction, &[1.0, 1.0, 1.0, 2.0], &mut written);
    assert_eq!(written, documented, "{written:02x?}");
}

#[test]
fn documented_mini_block_with_histograms_is_what_is_written_and_read() {
    let of = |n: f64| {
        let value = FloatHistogram {
            schema: 0,
            count: 3.0 * n,
            sum: n / 2.0,
            positive_spans: vec![Span { offset: 0, length: 2 }],
            positive_buckets: vec![n, 2.0 * n],
            ..FloatHistogram::default()
        };
        HistogramSample::new(value, Counts::Integer).unwrap()
    };
    let expected = [of(1.0), of(2.0)];
    let documented = bytes_of(fenced(PAGE, "mini"));
    let mut written = Vec::new();
    mini::put_both(3, Some(&[1]), &[1.0], (&[1, 2], &mut expected.clone()), &mut written);
    assert_eq!(written, documented, "{written:02x?}");
    let Ok(mini) = mini::MiniBlock::parse(&documented, 3) else { panic!("the documented bytes are refused") };
    let (mut rows, mut samples) = (Vec::new(), Vec::new());
    assert!(mini.histograms(&mut rows, &mut samples).is_ok());
    assert_eq!((rows, mini.rows().collect::<Vec<_>>(), mini.count()), (vec![1, 2], vec![0], 3));
    assert!(samples.iter().zip(&expected).all(|(a, b)| a.same_bits(b)));
}
