//! The worked example of `docs/format/block.md`, byte for byte.

use promontory_model::TimeRange;

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
    let files = [
        ("meta", fenced(PAGE, "meta").as_bytes().to_vec()),
        ("index", bytes_of(fenced(PAGE, "index"))),
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
