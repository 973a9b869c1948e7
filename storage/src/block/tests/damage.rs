//! Damage anywhere gives an error or the right value: never a panic, never a wrong value.

use std::sync::Arc;

use promontory_model::{Cancel, Matcher, Select, TimeRange};

use super::*;
use crate::vfs::SimVfs;

fn small() -> (SimVfs, Ulid, Model) {
    let sim = SimVfs::new();
    let vfs: Arc<dyn Vfs> = Arc::new(sim.clone());
    vfs.create_dir_all(&dir()).unwrap();
    let ulid = Ulid::new(1, 1);
    let groups = [
        wide_group(0, 20, 7, "a"),
        wide_group(500, 9, 3, "b"),
        related::related_group(0, 70, 1, |i| [0, 2, 6].contains(&i)),
    ];
    write_block(&vfs, ulid, &groups);
    let mut model = Model::new();
    groups.iter().for_each(|g| g.add_to(&mut model));
    (sim, ulid, model)
}

/// Puts the plain index in the place of the packed one.
fn unpack_index(sim: &SimVfs, ulid: Ulid) {
    let (meta, index) = (path(ulid).join(META_FILE), path(ulid).join(INDEX_FILE));
    let packed = crate::vfs::read(sim, &index).unwrap();
    let plain = index::packed::unpack(&packed[section::HEAD_BYTES..]).unwrap();
    sim.corrupt(&meta, |bytes| {
        let text = BlockMeta { index_bytes: plain.len() as u64, ..BlockMeta::parse(bytes).ok().unwrap() }.to_text();
        *bytes = text.into_bytes();
    });
    sim.corrupt(&index, |bytes| *bytes = plain);
}

/// Opens and reads all; what comes back must be right.
#[track_caller]
fn check(sim: &SimVfs, ulid: Ulid, model: &Model, what: &str) -> bool {
    let Ok(block) = BlockReader::open(sim, &path(ulid)) else {
        return false;
    };
    let cancel = Cancel::new();
    let matchers = [Matcher::equal("__name__", "metric_1_bucket")];
    let select = Select { range: TimeRange::ALL, matchers: &matchers, cancel: &cancel };
    if let Ok(one) = read_all(&*block, &matchers, TimeRange::ALL) {
        assert!(one == naive(model, &matchers, TimeRange::ALL), "{what}: wrong value");
    }
    let mut names = Vec::new();
    if block.label_names(&select, &mut names).is_ok() {
        assert_eq!(names, ["__name__", "instance", "le"], "{what}");
    }
    match read_all(&*block, &[], TimeRange::ALL) {
        Ok(all) => {
            assert!(all == *model, "{what}: wrong value");
            true
        }
        Err(_) => false,
    }
}

#[test]
fn every_flipped_zeroed_or_missing_byte_is_seen() {
    let (sim, ulid, model) = small();
    for name in ["meta", "index", "data", "plain index"] {
        let file = path(ulid).join(name.trim_start_matches("plain "));
        if name == "plain index" {
            unpack_index(&sim, ulid);
        }
        assert!(check(&sim, ulid, &model, "as written"));
        let original = crate::vfs::read(&sim, &file).unwrap();
        let try_bytes = |bytes: Vec<u8>, what: &str| {
            let changed = bytes != original;
            sim.corrupt(&file, |b| *b = bytes);
            let what = format!("{name} {what}");
            let is_verified = verify(&sim, &path(ulid)).is_ok();
            let is_read = check(&sim, ulid, &model, &what);
            assert_eq!(is_verified, !changed, "{what}: the check sees all damage");
            assert!(is_read || changed, "{what}");
        };
        for at in 0..original.len() {
            let mut flipped = original.clone();
            flipped[at] ^= 1 << (at % 8);
            try_bytes(flipped, &format!("flipped at {at}"));
            if at % 7 == 0 {
                try_bytes(original[..at].to_vec(), &format!("cut at {at}"));
                let mut zeroed = original.clone();
                zeroed[at..(at + 16).min(original.len())].fill(0);
                try_bytes(zeroed, &format!("zeroed at {at}"));
            }
        }
        try_bytes([original.clone(), vec![0]].concat(), "one byte longer");
        sim.corrupt(&file, |b| b.clone_from(&original));
    }
}

/// Bytes with a right CRC are hostile too: every body byte is changed and its CRC mended.
#[test]
fn changed_bytes_with_a_right_crc_never_panic() {
    let (sim, ulid, _) = small();
    for name in ["index", "data", "plain index"] {
        let file = path(ulid).join(name.trim_start_matches("plain "));
        if name == "plain index" {
            unpack_index(&sim, ulid);
        }
        let original = crate::vfs::read(&sim, &file).unwrap();
        let changes: &[u8] = if name == "data" { &[1, 0x80, 0xff] } else { &[1, 0xff] };
        let mut section = 0;
        while section < original.len() {
            let len = u32::from_le_bytes(original[section + 8..section + 12].try_into().unwrap()) as usize;
            let body = section + section::HEAD_BYTES;
            for at in body..body + len {
                for change in changes {
                    let mut bytes = original.clone();
                    bytes[at] ^= *change;
                    section::mend(&mut bytes);
                    sim.corrupt(&file, |b| *b = bytes);
                    let _ = verify(&sim, &path(ulid));
                    if let Ok(block) = BlockReader::open(&sim, &path(ulid)) {
                        let _ = read_all(&*block, &[], TimeRange::ALL);
                        let regex = Matcher::new("le", MatchOp::Regex, "0.*1").unwrap();
                        let _ = read_all(&*block, &[regex], TimeRange::ALL);
                    }
                }
            }
            section = body + len;
        }
        sim.corrupt(&file, |b| b.clone_from(&original));
    }
}

#[test]
fn errors_name_file_offset_and_reason() {
    let (sim, ulid, _) = small();
    sim.corrupt(&path(ulid).join("data"), |b| b[20] ^= 1);
    let block = BlockReader::open(&sim, &path(ulid)).unwrap();
    let e = read_all(&*block, &[], TimeRange::ALL).unwrap_err().to_string();
    let start = format!("read /data/blocks/{ulid}/data at 0: crc mismatch, expected ");
    assert!(e.starts_with(&start), "{e}");
}
