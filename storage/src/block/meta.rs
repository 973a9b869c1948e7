//! What a block says of itself: one small text file, read when the block is opened.
//!
//! One `key value` per line in a fixed order, the CRC of all lines before it last. It exists only in a whole block:
//! it is written after all other files are synced.

use std::fmt::Write as _;

use promontory_model::TimeRange;

use crate::ulid::Ulid;

/// First line; names the version.
const FIRST_LINE: &str = "promontory-block 1";
/// Longest file that is read.
pub(super) const META_BYTES_MAX: usize = 1 << 20;

/// Facts about a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockMeta {
    /// Name, also of the folder.
    pub ulid: Ulid,
    /// How often its samples have been merged: 1 when cut from the head.
    pub level: u8,
    /// Times of the samples inside; empty when there are none.
    pub range: TimeRange,
    /// Series, once per group that holds some of their samples.
    pub n_series: u64,
    /// Groups.
    pub n_groups: u64,
    /// Runs of up to 1,024 values of one series.
    pub n_mini_blocks: u64,
    /// Samples.
    pub n_samples: u64,
    /// Sections of the data file.
    pub n_pages: u64,
    /// Length of the index file.
    pub index_bytes: u64,
    /// Length of the data file.
    pub data_bytes: u64,
    /// Blocks whose samples are all inside, directly or through another; they are obsolete.
    pub sources: Vec<Ulid>,
}

/// A meta file that is not as written.
#[derive(Debug)]
pub(super) struct MetaError {
    pub(super) offset: usize,
    pub(super) what: &'static str,
    pub(super) expected: String,
    pub(super) found: String,
}

impl BlockMeta {
    /// Bytes of all files but this one.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.index_bytes.saturating_add(self.data_bytes)
    }

    pub(super) fn to_text(&self) -> String {
        let mut s = String::with_capacity(512);
        let numbers: [(&str, &dyn std::fmt::Display); 11] = [
            ("ulid", &self.ulid),
            ("level", &self.level),
            ("mint", &self.range.mint.0),
            ("maxt", &self.range.maxt.0),
            ("series", &self.n_series),
            ("groups", &self.n_groups),
            ("mini-blocks", &self.n_mini_blocks),
            ("samples", &self.n_samples),
            ("pages", &self.n_pages),
            ("index-bytes", &self.index_bytes),
            ("data-bytes", &self.data_bytes),
        ];
        let _ = writeln!(s, "{FIRST_LINE}");
        for (key, value) in numbers {
            let _ = writeln!(s, "{key} {value}");
        }
        for source in &self.sources {
            let _ = writeln!(s, "source {source}");
        }
        let _ = writeln!(s, "crc {:08x}", crc32fast::hash(s.as_bytes()));
        s
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, MetaError> {
        let error = |offset: usize, what: &'static str, expected: &str, found: &str| MetaError {
            offset,
            what,
            expected: expected.to_owned(),
            found: found.to_owned(),
        };
        let text = std::str::from_utf8(bytes)
            .map_err(|e| error(e.valid_up_to(), "encoding of the meta file", "UTF-8", "other bytes"))?;
        if !text.starts_with(FIRST_LINE) {
            let found: String = text.chars().take(FIRST_LINE.len()).collect();
            return Err(error(0, "first line of the meta file", FIRST_LINE, &found));
        }
        let body_len = text.trim_end_matches('\n').rfind('\n').map_or(0, |i| i + 1);
        let (body, last) = text.split_at(body_len);
        let expected = format!("crc {:08x}\n", crc32fast::hash(body.as_bytes()));
        if last != expected {
            return Err(error(body_len, "last line of the meta file", expected.trim_end(), last.trim_end()));
        }
        let mut lines = Lines { rest: body, offset: 0 };
        lines.next_line();
        let mut out = Self {
            ulid: lines.value("ulid")?,
            level: lines.value("level")?,
            range: TimeRange::new(lines.value("mint")?, lines.value("maxt")?),
            n_series: lines.value("series")?,
            n_groups: lines.value("groups")?,
            n_mini_blocks: lines.value("mini-blocks")?,
            n_samples: lines.value("samples")?,
            n_pages: lines.value("pages")?,
            index_bytes: lines.value("index-bytes")?,
            data_bytes: lines.value("data-bytes")?,
            sources: Vec::new(),
        };
        while !lines.rest.is_empty() {
            out.sources.push(lines.value("source")?);
        }
        Ok(out)
    }
}

struct Lines<'a> {
    rest: &'a str,
    offset: usize,
}

impl<'a> Lines<'a> {
    fn next_line(&mut self) -> (usize, &'a str) {
        let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        let at = self.offset;
        self.offset += line.len() + 1;
        self.rest = rest;
        (at, line)
    }

    fn value<T: std::str::FromStr>(&mut self, key: &str) -> Result<T, MetaError> {
        let (offset, line) = self.next_line();
        let value = line.strip_prefix(key).and_then(|r| r.strip_prefix(' ')).and_then(|v| v.parse().ok());
        value.ok_or_else(|| MetaError {
            offset,
            what: "line of the meta file",
            expected: format!("{key} and its value"),
            found: line.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> BlockMeta {
        BlockMeta {
            ulid: Ulid::new(1_700_000_000_000, 7),
            level: 2,
            range: TimeRange::new(-5, 7_200_000),
            n_series: 3,
            n_groups: 1,
            n_mini_blocks: 4,
            n_samples: 1440,
            n_pages: 2,
            index_bytes: 300,
            data_bytes: 4000,
            sources: vec![Ulid::new(1, 1), Ulid::new(2, 2)],
        }
    }

    #[test]
    fn meta_round_trips() {
        let meta = sample();
        assert_eq!(BlockMeta::parse(meta.to_text().as_bytes()).unwrap(), meta);
    }

    #[test]
    fn any_damage_is_seen() {
        let text = sample().to_text();
        for i in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[i] ^= 1;
            assert!(BlockMeta::parse(&bytes).is_err(), "byte {i}");
            assert!(BlockMeta::parse(&text.as_bytes()[..i]).is_err(), "cut at {i}");
        }
        let e = BlockMeta::parse(b"promontory-block 2\n").unwrap_err();
        assert_eq!(e.what, "first line of the meta file");
    }
}
