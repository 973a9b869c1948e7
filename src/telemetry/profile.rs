//! Profiles in pprof's form, for `go tool pprof` and `promtool debug`: processor time and number of threads by their
//! name, and memory by what holds it. There are no stacks; a name stands where others have a function.
//!
//! # Source
//! The message is `perftools.profiles.Profile` of github.com/google/pprof, compressed with gzip.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;

use prost::Message;

/// What a profile counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    /// `inuse_space`
    pub(crate) name: &'static str,
    /// `bytes`
    pub(crate) unit: &'static str,
}

#[derive(Clone, PartialEq, Message)]
struct Profile {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
    #[prost(int64, tag = "9")]
    time_nanos: i64,
    #[prost(int64, tag = "10")]
    duration_nanos: i64,
    #[prost(message, optional, tag = "11")]
    period_type: Option<ValueType>,
    #[prost(int64, tag = "12")]
    period: i64,
}

/// Places in the table of strings.
#[derive(Clone, Copy, PartialEq, Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    kind: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, repeated, tag = "4")]
    line: Vec<Line>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function_id: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
    #[prost(int64, tag = "3")]
    system_name: i64,
}

/// The profile with these values by name, taken at `time_ms` over `duration_ms`, compressed.
pub(crate) fn encode(kind: Kind, values: &[(String, u64)], time_ms: i64, duration_ms: i64) -> Vec<u8> {
    // The first string is empty by definition.
    let mut strings = vec![String::new(), kind.name.to_owned(), kind.unit.to_owned()];
    let value_type = ValueType { kind: 1, unit: 2 };
    let mut profile = Profile {
        sample_type: vec![value_type],
        time_nanos: time_ms.saturating_mul(1_000_000),
        duration_nanos: duration_ms.saturating_mul(1_000_000),
        period_type: Some(value_type),
        period: 1,
        ..Profile::default()
    };
    for (id, (name, value)) in (1..).zip(values) {
        let name_at = strings.len() as i64;
        strings.push(name.clone());
        profile.function.push(Function { id, name: name_at, system_name: name_at });
        profile.location.push(Location { id, line: vec![Line { function_id: id }] });
        let value = i64::try_from(*value).unwrap_or(i64::MAX);
        profile.sample.push(Sample { location_id: vec![id], value: vec![value] });
    }
    profile.string_table = strings;
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    // Writing to a vector does not fail.
    let _ = out.write_all(&profile.encode_to_vec());
    out.finish().unwrap_or_default()
}

/// The threads of this process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Threads {
    /// By id: name and time on a processor, ns.
    by_id: BTreeMap<u64, (String, u64)>,
}

impl Threads {
    /// As Linux tells them; none elsewhere.
    pub(crate) fn read() -> Self {
        let mut by_id = BTreeMap::new();
        for entry in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let read = |file: &str| fs::read_to_string(entry.path().join(file)).unwrap_or_default();
            let ns = read("schedstat").split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(0);
            by_id.insert(id, (read("comm").trim().to_owned(), ns));
        }
        Self { by_id }
    }

    /// How many threads have each name.
    pub(crate) fn counts(&self) -> Vec<(String, u64)> {
        let mut counts = BTreeMap::new();
        for (name, _) in self.by_id.values() {
            *counts.entry(name.clone()).or_insert(0) += 1;
        }
        counts.into_iter().collect()
    }

    /// Time that threads of each name took since `before`, ns. What ended since then is not known.
    pub(crate) fn since(&self, before: &Self) -> Vec<(String, u64)> {
        let mut taken = BTreeMap::new();
        for (id, (name, ns)) in &self.by_id {
            let until = before.by_id.get(id).filter(|(old, _)| old == name).map_or(0, |(_, ns)| *ns);
            *taken.entry(name.clone()).or_insert(0) += ns.saturating_sub(until);
        }
        taken.into_iter().filter(|(_, ns)| *ns > 0).collect()
    }
}

/// Bytes of RAM: allocated, and mapped from files.
pub(crate) fn resident() -> (u64, u64) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bytes = |field| super::process::kib(&status, field).unwrap_or(0.0) as u64;
    (bytes("RssAnon:"), bytes("RssFile:"))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn names_stand_where_others_have_functions() {
        let values = [("a".to_owned(), 7), ("b".to_owned(), u64::MAX)];
        let bytes = encode(Kind { name: "cpu", unit: "nanoseconds" }, &values, 5, 3);
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(bytes.as_slice()).read_to_end(&mut plain).unwrap();
        let profile = Profile::decode(plain.as_slice()).unwrap();
        assert_eq!(profile.string_table, ["", "cpu", "nanoseconds", "a", "b"]);
        assert_eq!((profile.time_nanos, profile.duration_nanos), (5_000_000, 3_000_000));
        let name = |sample: &Sample| {
            let function = profile.location.iter().find(|l| l.id == sample.location_id[0]).unwrap().line[0].function_id;
            let at = profile.function.iter().find(|f| f.id == function).unwrap().name;
            (profile.string_table[at as usize].as_str(), sample.value[0])
        };
        assert_eq!(profile.sample.iter().map(name).collect::<Vec<_>>(), [("a", 7), ("b", i64::MAX)]);
    }

    #[test]
    fn time_is_that_since_the_first_look() {
        let threads = |all: &[(u64, &str, u64)]| Threads {
            by_id: all.iter().map(|(id, name, ns)| (*id, ((*name).to_owned(), *ns))).collect(),
        };
        let before = threads(&[(1, "a", 10), (2, "a", 5), (3, "b", 9)]);
        let after = threads(&[(1, "a", 30), (2, "a", 5), (3, "c", 4), (4, "a", 1)]);
        assert_eq!(after.since(&before), [("a".to_owned(), 21), ("c".to_owned(), 4)]);
        assert_eq!(after.counts(), [("a".to_owned(), 3), ("c".to_owned(), 1)]);
        assert_eq!(after.since(&after), []);
    }
}
