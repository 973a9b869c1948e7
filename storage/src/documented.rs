//! The worked examples of `docs/format`: how tests read them, and those of the WAL, the head and the manifest, byte for
//! byte. An example is a fenced block of lines with an offset, bytes and, behind a bar, what they mean.

use std::path::Path;
use std::sync::Arc;

use promontory_model::histogram::{Counts, Span};
use promontory_model::{FloatHistogram, HistogramSample, Labels, Timestamp};

use crate::exemplars::file::Filed;
use crate::exemplars::{self, Exemplar, Exemplars, Labelled};
use crate::head::chunk::{self, Column, Input, Kind};
use crate::head::index::{Index, Place};
use crate::head::open::OpenRows;
use crate::head::row::Row;
use crate::head::segment::{self, Segment};
use crate::head::series_file::{self, Mark};
use crate::manifest::{self, Manifest};
use crate::sample::{put_histogram, read_histogram};
use crate::vfs::{self, SimVfs, Vfs as _};
use crate::wal::page::{self, Damage, FileHeader};
use crate::wal::record::{self, Record};

const WAL: &str = include_str!("../docs/format/wal.md");
const HEAD: &str = include_str!("../docs/format/head-segment.md");
const MANIFEST: &str = include_str!("../docs/format/manifest.md");

/// The text of the block that opens with this word.
pub(crate) fn fenced(page: &'static str, fence: &str) -> &'static str {
    let (_, rest) = page.split_once(&format!("```{fence}\n")).unwrap();
    rest.split_once("```").unwrap().0
}

/// The bytes of an example.
pub(crate) fn bytes_of(dump: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for line in dump.lines() {
        let (bytes, _) = line.split_once('|').unwrap();
        let (offset, bytes) = bytes.split_once("  ").unwrap();
        assert_eq!(usize::from_str_radix(offset, 16).unwrap(), out.len(), "offset of {line}");
        out.extend(bytes.split_whitespace().map(|b| u8::from_str_radix(b, 16).unwrap()));
    }
    out
}

#[track_caller]
fn check_same(written: &[u8], documented: &[u8]) {
    assert_eq!(written, documented, "\n{written:02x?} is written, documented is\n{documented:02x?}");
}

fn up(instance: &str) -> Labels {
    Labels::from_pairs([("__name__", "up"), ("instance", instance)])
}

fn rows() -> [Row; 2] {
    let row =
        |no, t, values: [f64; 2], presence| Row { no, t, seq: 0, values: values.to_vec(), presence: vec![presence] };
    [row(0, 1000, [1.0, 0.5], 0b11), row(1, 16_000, [0.0, 0.1], 0b10)]
}

fn histogram() -> HistogramSample {
    let value = FloatHistogram {
        schema: 3,
        zero_threshold: 2f64.powi(-128),
        zero_count: 1.0,
        count: 9.0,
        sum: 2.5,
        positive_spans: vec![Span { offset: -2, length: 2 }, Span { offset: 4, length: 1 }],
        positive_buckets: vec![2.0, 5.0, 1.0],
        ..FloatHistogram::default()
    };
    HistogramSample::new(value, Counts::Integer).unwrap()
}

fn exemplar() -> Labelled {
    let labels = Labels::from_pairs([("trace_id", "7b")]);
    let exemplar = Exemplar { labels, value: 0.25, timestamp: Timestamp(15_500), has_timestamp: true };
    (up("a"), exemplar)
}

#[test]
fn documented_exemplars_are_what_is_written_and_read() {
    let documented = bytes_of(fenced(HEAD, "exemplars"));
    let vfs = SimVfs::new();
    let exemplars = Exemplars::new(1);
    exemplars.append(vec![exemplar()], |_, _| {});
    let (filed, _) = exemplars::file::write(&exemplars, &vfs, Path::new(""), Filed::default()).unwrap();
    let written = vfs::read(&vfs, Path::new("00000001.exemplars")).unwrap();
    check_same(&written, &documented);
    assert_eq!(filed, Filed { file: (1, documented.len() as u64), n: 1 });
    let read = Exemplars::new(1);
    assert_eq!(exemplars::file::load(&documented, &read), (1, vec![]));
    assert_eq!(read.to_file(u64::MAX).exemplars, [exemplar()]);
}

#[test]
fn documented_log_is_what_is_written_and_read() {
    let documented = bytes_of(fenced(WAL, "wal"));
    let [first, second] = rows();
    let mut pages: Vec<(u64, Vec<Vec<u8>>)> = Vec::new();
    let damage = page::read_segment(1, &documented, |offset, bytes| {
        if pages.last().is_none_or(|(at, _)| *at != offset) {
            pages.push((offset, Vec::new()));
        }
        pages.last_mut().unwrap().1.push(bytes.to_vec());
    });
    let header = FileHeader { segment: 1, previous_bytes: 0 };
    assert_eq!(damage, Damage { header: Some(header), ..Damage::default() });
    let (mut read, mut again) = (OpenRows::default(), OpenRows::default());
    let mut written = header.encode().to_vec();
    let mut n_read = 0;
    for (_, page) in &pages {
        let mut records = Vec::new();
        for bytes in page {
            let record = record::read(bytes).unwrap();
            page::put_record(&mut records, |out| match &record {
                Record::Series { group, column, labels } => {
                    assert_eq!((*group, labels), (0, &up(["a", "b"][*column as usize])));
                    record::put_series(out, *group, *column, labels);
                }
                Record::Row(encoded) => {
                    read.replay(encoded.no, encoded.t, encoded.is_keyframe, encoded.body).unwrap();
                    let expected = if encoded.no == 0 { &first } else { &second };
                    let values = |open: &OpenRows| -> Vec<_> { (0..2).map(|c| open.get(open.len() - 1, c)).collect() };
                    assert_eq!(encoded.t, expected.t);
                    let present = |c: usize| expected.is_present(c).then(|| expected.values[c]);
                    assert_eq!(values(&read), (0..2).map(present).collect::<Vec<_>>());
                    again.push(expected, |written| record::put_row(out, encoded.group, &written));
                }
                Record::Patch { group, patch } => {
                    read.replay_patch(patch).unwrap();
                    assert_eq!((*group, patch.row_no, patch.t, read.get(1, 0)), (0, 1, 16_000, Some(1.0)));
                    again.patch(1, &[(0, 1.0)], |patch| record::put_patch(out, *group, patch));
                }
                Record::Late { group, first_no, cells } => {
                    assert_eq!((*group, *first_no, cells), (0, 0, &vec![(8000, 1, 0.25)]));
                    record::put_late(out, *group, *first_no, cells);
                }
                Record::Exemplars { first_no, batch } => {
                    assert_eq!((*first_no, batch), (0, &vec![exemplar()]));
                    record::put_exemplars(out, *first_no, batch);
                }
                Record::Histograms { group, first_no, cells } => {
                    assert_eq!((*group, *first_no, cells.len()), (0, 0, 1));
                    let (t, column, bytes) = cells[0];
                    assert_eq!((t, column), (16_000, 2));
                    let sample = read_histogram(bytes).unwrap();
                    assert!(sample.same_bits(&histogram()));
                    let mut again = Vec::new();
                    put_histogram(&mut again, &sample);
                    record::put_histograms(out, *group, *first_no, [(t, column, &*again)].into_iter());
                }
            });
            n_read += 1;
        }
        page::put_pages(&mut written, &records, &mut snap::raw::Encoder::new());
    }
    check_same(&written, &documented);
    assert_eq!(n_read, 8);
}

#[test]
fn documented_head_segment_is_what_is_written_and_read() {
    let documented = bytes_of(fenced(HEAD, "segment"));
    let vfs = SimVfs::new();
    vfs.create_dir_all(Path::new("head")).unwrap();
    let segment = Arc::new(Segment::new(Arc::new(vfs.clone()), Path::new("head"), 1, documented.len() as u64));
    vfs::replace(&vfs, &segment.path, &documented).unwrap();
    let chunks = segment::scan(&segment, |at, what| panic!("{what} at {at}")).unwrap();
    assert_eq!(chunks.len(), 1);
    let header = &chunks[0].header;
    let bytes = chunks[0].bytes().unwrap();
    let body = chunks[0].body(&bytes).unwrap();
    let mut timestamps = Vec::new();
    body.timestamps(&mut timestamps).unwrap();
    assert_eq!(timestamps, [1000, 16_000, 31_000]);
    let column = |i| {
        let mut column = Column::default();
        body.column(i, &mut column).unwrap();
        column
    };
    assert_eq!((column(0).values, column(0).bitmap), (vec![1.0; 3], vec![]));
    assert_eq!((column(1).values, column(1).bitmap), (vec![0.0, 2.5], vec![0b101]));
    assert_eq!(column(2).values, []);
    let input = Input {
        group: header.group,
        kind: Kind::Rows,
        timestamps: &timestamps,
        n_columns: header.n_columns as usize,
        first_no: header.first_no,
        end_no: header.end_no,
    };
    let mut written = segment::file_header().to_vec();
    let again = chunk::write(&mut written, &input, |i, values, bitmap| {
        *values = column(i).values;
        *bitmap = column(i).bitmap;
    });
    check_same(&written, &documented);
    assert_eq!(&again, header);
}

#[test]
fn documented_series_file_is_what_is_written_and_read() {
    let documented = bytes_of(fenced(HEAD, "series"));
    let mut index = Index::default();
    let mut places = Vec::new();
    let loaded = series_file::load(&documented, &mut index, |series, place| places.push((series, place)));
    assert!(loaded.is_exact && loaded.damage.is_empty(), "{loaded:?}");
    assert_eq!(places, [(0, Place { group: 0, column: 0 }), (1, Place { group: 0, column: 1 })]);
    assert_eq!((index.labels(0), index.labels(1)), (up("a"), up("b")));
    let mut written = series_file::file_header().to_vec();
    series_file::put_batch(&mut written, &index, Mark::default(), &[]);
    check_same(&written, &documented);
}

#[test]
fn documented_manifest_is_what_is_written_and_read() {
    let documented = bytes_of(fenced(MANIFEST, "manifest"));
    let vfs = SimVfs::new();
    vfs::replace(&vfs, Path::new(manifest::NAME), &documented).unwrap();
    let manifest = Manifest::load(&vfs, Path::new("")).unwrap().unwrap();
    let len = |fence| bytes_of(fenced(HEAD, fence)).len() as u64;
    let expected = Manifest {
        floor: 0,
        next_group: 1,
        next_segment: 2,
        wal_from: 1,
        series: (1, len("series")),
        exemplars: (1, len("exemplars")),
        segments: vec![(1, len("segment"))],
        cut: Some(("01HF7YAT000000000000000001".to_owned(), 7_200_000)),
    };
    check_same(&expected.encode(), &documented);
    assert_eq!(manifest, expected);
}
