//! What a block says of itself: `meta.json`, version 1. Keys that are not known are ignored.

use std::fmt::Write as _;
use std::path::Path;

use promontory_model::{Labels, ReadError, TimeRange};

use super::json::{Json, put_string};
use crate::ulid::Ulid;
use crate::vfs::{self, Vfs};

/// Name of the file.
pub(super) const META_FILE: &str = "meta.json";
/// Longest file that is read.
const META_BYTES_MAX: u64 = 16 << 20;

/// The part of `meta.json` that matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) ulid: Ulid,
    /// Inclusive; the file's `maxTime` lies one behind.
    pub(super) range: TimeRange,
    pub(super) n_samples: u64,
    pub(super) n_float_samples: u64,
    pub(super) n_histogram_samples: u64,
    pub(super) n_series: u64,
    pub(super) n_chunks: u64,
    pub(super) level: u8,
    /// Blocks cut from a head whose samples are inside.
    pub(super) sources: Vec<Ulid>,
    /// Blocks that this one was merged from.
    pub(super) replaces: Vec<Ulid>,
}

impl Meta {
    /// Reads the meta file of the block in the folder `block`.
    pub(super) fn read(vfs: &dyn Vfs, block: &Path) -> Result<Self, ReadError> {
        let path = block.join(META_FILE);
        let len = vfs.open_read(&path)?.len()?;
        if len > META_BYTES_MAX {
            return Err(ReadError::corrupt(&path, 0, "length of the meta file", "at most 16 MiB", len));
        }
        let bytes = vfs::read(vfs, &path)?;
        let not =
            |offset: usize, what, expected| ReadError::corrupt(&path, offset as u64, what, expected, "other bytes");
        let text =
            std::str::from_utf8(&bytes).map_err(|e| not(e.valid_up_to(), "encoding of the meta file", "UTF-8"))?;
        let json = Json::parse(text).map_err(|e| not(e.offset, "meta file", "json"))?;
        let meta = Self::of(&json).map_err(|(what, expected)| {
            let found = json.get(what).map_or("nothing".to_owned(), |v| format!("{v:?}"));
            ReadError::corrupt(&path, 0, what, expected, found)
        })?;
        let name = block.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse::<Ulid>().ok());
        match name.filter(|name| *name != meta.ulid) {
            Some(name) => Err(ReadError::corrupt(&path, 0, "name of the block", name, meta.ulid)),
            None => Ok(meta),
        }
    }

    fn of(json: &Json) -> Result<Self, (&'static str, &'static str)> {
        let number = |name| json.get(name).and_then(Json::as_i64).ok_or((name, "a whole number"));
        if number("version")? != 1 {
            return Err(("version", "1"));
        }
        let ulid = json.get("ulid").and_then(Json::as_str).and_then(|t| t.parse().ok()).ok_or(("ulid", "a ulid"))?;
        let (mint, end) = (number("minTime")?, number("maxTime")?);
        let maxt = end.checked_sub(1).filter(|maxt| *maxt >= mint - 1).ok_or(("maxTime", "no less than minTime"))?;
        let stat = |name| {
            let stats = json.get("stats").and_then(|s| s.get(name)).and_then(Json::as_i64);
            stats.and_then(|n| u64::try_from(n).ok()).unwrap_or(0)
        };
        let compaction = json.get("compaction");
        let list = |name| compaction.and_then(|c| c.get(name)).map_or(&[][..], Json::items).iter();
        let others = |id: Ulid| (id != ulid).then_some(id);
        let parent = |p: &Json| p.get("ulid")?.as_str()?.parse().ok().and_then(others);
        let level = compaction.and_then(|c| c.get("level")).and_then(Json::as_i64);
        Ok(Self {
            ulid,
            range: TimeRange::new(mint, maxt),
            n_samples: stat("numSamples"),
            n_float_samples: stat("numFloatSamples"),
            n_histogram_samples: stat("numHistogramSamples"),
            n_series: stat("numSeries"),
            n_chunks: stat("numChunks"),
            level: level.and_then(|n| u8::try_from(n).ok()).unwrap_or(1),
            sources: list("sources").filter_map(|s| s.as_str()?.parse().ok().and_then(others)).collect(),
            replaces: list("parents").filter_map(parent).collect(),
        })
    }

    /// The file's text. With external labels it has the part that Thanos reads.
    pub(super) fn to_text(&self, external_labels: &Labels) -> String {
        let mut s = String::with_capacity(1024);
        let _ = write!(
            s,
            "{{\n\t\"ulid\": \"{}\",\n\t\"minTime\": {},\n\t\"maxTime\": {},\n\t\"stats\": {{\n",
            self.ulid,
            self.range.mint.0,
            self.range.maxt.0.saturating_add(1)
        );
        let stats = [
            ("numSamples", self.n_samples),
            ("numFloatSamples", self.n_float_samples),
            ("numHistogramSamples", self.n_histogram_samples),
            ("numSeries", self.n_series),
            ("numChunks", self.n_chunks),
        ];
        for (i, (name, value)) in stats.into_iter().enumerate() {
            let comma = if i + 1 < stats.len() { "," } else { "" };
            let _ = writeln!(s, "\t\t\"{name}\": {value}{comma}");
        }
        let _ = write!(s, "\t}},\n\t\"compaction\": {{\n\t\t\"level\": {},\n\t\t\"sources\": [\n", self.level);
        let mut sources = self.sources.clone();
        if sources.is_empty() {
            sources.push(self.ulid);
        }
        for (i, source) in sources.iter().enumerate() {
            let comma = if i + 1 < sources.len() { "," } else { "" };
            let _ = writeln!(s, "\t\t\t\"{source}\"{comma}");
        }
        s.push_str("\t\t]\n\t},\n\t\"version\": 1");
        if !external_labels.is_empty() {
            s.push_str(",\n\t\"thanos\": {\n\t\t\"version\": 1,\n\t\t\"labels\": {\n");
            let n = external_labels.len();
            for (i, (name, value)) in external_labels.iter().enumerate() {
                s.push_str("\t\t\t");
                put_string(name, &mut s);
                s.push_str(": ");
                put_string(value, &mut s);
                s.push_str(if i + 1 < n { ",\n" } else { "\n" });
            }
            s.push_str(
                "\t\t},\n\t\t\"downsample\": {\n\t\t\t\"resolution\": 0\n\t\t},\n\t\t\"source\": \"promontory\"\n\t}",
            );
        }
        s.push_str("\n}\n");
        s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> Meta {
        Meta {
            ulid: Ulid::new(7, 9),
            range: TimeRange::new(-5, 7_199_999),
            n_samples: 12,
            n_float_samples: 10,
            n_histogram_samples: 2,
            n_series: 3,
            n_chunks: 4,
            level: 2,
            sources: vec![Ulid::new(1, 2), Ulid::new(3, 4)],
            replaces: Vec::new(),
        }
    }

    #[test]
    fn texts_round_trip() {
        for labels in [Labels::empty(), Labels::from_pairs([("replica", "a\"b"), ("cluster", "é\n")])] {
            let text = meta().to_text(&labels);
            let json = Json::parse(&text).unwrap();
            assert_eq!(Meta::of(&json), Ok(meta()), "{text}");
            let stored = json.get("thanos").and_then(|t| t.get("labels"));
            assert_eq!(stored.and_then(|l| l.get("cluster")).and_then(Json::as_str), labels.get("cluster"));
        }
    }

    #[test]
    fn parents_are_replaced() {
        let parents =
            r#""version": 1, "compaction": {"parents": [{"ulid": "00000000000000000000000005", "minTime": 1}]}"#;
        let text = meta().to_text(&Labels::empty()).replace("\"version\": 1", parents);
        assert_eq!(Meta::of(&Json::parse(&text).unwrap()).unwrap().replaces, [Ulid::new(0, 5)]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let check = |from: &str, to: &str, expected| {
            let text = meta().to_text(&Labels::empty()).replace(from, to);
            assert_eq!(Meta::of(&Json::parse(&text).unwrap()).map_err(|(what, _)| what), expected, "{text}");
        };
        check("\"version\": 1", "\"version\": 2", Err("version"));
        check("\"minTime\": -5", "\"minTime\": \"x\"", Err("minTime"));
        check("\"maxTime\": 7200000", "\"maxTime\": -6", Err("maxTime"));
        check("\"ulid\"", "\"name\"", Err("ulid"));
        check("\"maxTime\": 7200000", "\"maxTime\": -9223372036854775808", Err("maxTime"));
    }
}
