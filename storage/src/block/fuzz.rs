//! Entry points for fuzzing: each takes any bytes and must come back.

use std::path::Path;

use promontory_model::{Cancel, MatchOp, Matcher};

use super::index::read::Index;
use super::meta::BlockMeta;
use super::mini::MiniBlock;
use super::section;
use crate::vfs::Mapped;

/// Opens the bytes as an index, its CRCs mended, and searches it.
pub fn fuzz_index(data: &[u8]) {
    let mut bytes = data.to_vec();
    section::mend(&mut bytes);
    let Ok(index) = Index::open(Path::new("index"), Mapped::owned(bytes)) else {
        return;
    };
    let cancel = Cancel::new();
    let matchers = [
        Matcher::equal("__name__", "up"),
        Matcher::equal("job", ""),
        Matcher::new("instance", MatchOp::NotRegex, "a.*").expect("a valid expression"),
    ];
    for m in matchers {
        let Ok(found) = index.matching(&[m], &cancel) else {
            continue;
        };
        let _ = index.for_series(&found, &cancel, |_, entry| {
            let _ = index.group(entry.group, u64::MAX);
        });
    }
}

/// Decodes the bytes after the first two as a mini-block; these say how many rows there are.
pub fn fuzz_mini_block(data: &[u8]) {
    let Some((rows, bytes)) = data.split_first_chunk::<2>() else {
        return;
    };
    let rows = usize::from(u16::from_le_bytes(*rows)) % super::SPAN_ROWS_MAX + 1;
    if let Ok(mini) = MiniBlock::parse(bytes, rows) {
        let mut values = Vec::new();
        let others = [1.0; super::SPAN_ROWS_MAX];
        let _ = mini.values(&[&others[..rows]; 2], &mut values);
        assert!(values.len() <= rows && mini.rows().all(|r| r < rows));
        let (mut at, mut histograms) = (Vec::new(), Vec::new());
        let _ = mini.histograms(&mut at, &mut histograms);
        assert!(histograms.len() <= rows && at.iter().all(|r| *r < rows));
    }
}

/// Reads the bytes as a meta file, its CRC mended; what is read is written as it was read.
pub(crate) fn fuzz_meta(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let body = text.trim_end_matches('\n').rfind('\n').map_or("", |i| &text[..=i]);
    let bytes = format!("{body}crc {:08x}\n", crc32fast::hash(body.as_bytes()));
    if let Ok(meta) = BlockMeta::parse(bytes.as_bytes()) {
        assert_eq!(BlockMeta::parse(meta.to_text().as_bytes()).ok(), Some(meta));
    }
    let _ = BlockMeta::parse(data);
}
