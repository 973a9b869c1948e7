//! An exposition that somebody sends, as families of labelled values: text, OpenMetrics or protocol buffers.

use std::borrow::Cow;
use std::collections::BTreeMap;

use axum::http::{HeaderMap, header};
use promontory_config::HistogramModes;
use promontory_model::histogram::HistogramSample;
use promontory_model::{METRIC_NAME, MetricMetadata};

use crate::scrape::exposition::{Assembled, Format, Item, Metadata, Parser};

/// What the names of a family's metrics end in.
const SUFFIXES: [&str; 7] = ["_total", "_bucket", "_sum", "_count", "_created", "_info", "_gsum"];

/// How an exposition is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Text,
    OpenMetrics,
    Protobuf,
}

impl Encoding {
    /// What the headers say; text where they say nothing that is known.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let text = headers.get(header::CONTENT_TYPE).map_or("", |v| v.to_str().unwrap_or(""));
        match text.split(';').next().unwrap_or("").trim().to_ascii_lowercase().as_str() {
            "application/openmetrics-text" => Self::OpenMetrics,
            "application/vnd.google.protobuf" => Self::Protobuf,
            _ => Self::Text,
        }
    }
}

/// What a metric is worth.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Float(f64),
    Histogram(HistogramSample),
}

/// A line of an exposition.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// The metric's name among them.
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) value: Value,
    pub(crate) timestamp_ms: Option<i64>,
}

/// Metrics that share type and help.
#[derive(Debug, Clone, Default)]
pub(crate) struct Family {
    pub(crate) metadata: MetricMetadata,
    pub(crate) samples: Vec<Sample>,
}

/// Reads all of `body`; at most `samples_max` samples.
///
/// # Errors
/// What is wrong with it, for the person who sent it.
pub(crate) fn read(body: &[u8], encoding: Encoding, samples_max: usize) -> Result<BTreeMap<String, Family>, String> {
    let mut assembled = Assembled::default();
    let (lines, format) = match encoding {
        Encoding::Text => (body, Format::Text),
        Encoding::OpenMetrics => (body, Format::OpenMetrics),
        Encoding::Protobuf => {
            let modes = HistogramModes { native: true, always_classic: true, to_custom: false };
            assembled.read_protobuf(body, modes).map_err(|e| e.to_string())?;
            (assembled.body(), Format::Assembled)
        }
    };
    // Whoever wrote the text need not have ended its last line.
    let ended: Cow<'_, [u8]> = match lines.last() {
        Some(last) if *last != b'\n' && format == Format::Text => Cow::Owned([lines, b"\n"].concat()),
        _ => Cow::Borrowed(lines),
    };
    let mut parser = Parser::new(&ended, format);
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    let mut n_samples = 0;
    loop {
        match parser.next_item().map_err(|e| e.to_string())? {
            Item::End => return Ok(families),
            Item::Metadata { family, text, .. } => {
                let metadata = &mut families.entry(family.clone()).or_default().metadata;
                match text {
                    Metadata::Type(kind) => metadata.kind = kind,
                    Metadata::Help(help) => metadata.help = help,
                    Metadata::Unit(unit) => metadata.unit = unit,
                }
                current = family;
            }
            Item::Sample { tail, .. } => {
                n_samples += 1;
                if n_samples > samples_max {
                    return Err(format!("more than {samples_max} samples (samples_max)"));
                }
                let labels: Vec<(String, String)> =
                    parser.labels().iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
                let name = labels.iter().find(|(n, _)| n == METRIC_NAME).map_or("", |(_, v)| v.as_str());
                let suffix = name.strip_prefix(current.as_str());
                let is_of_current = suffix.is_some_and(|s| s.is_empty() || SUFFIXES.contains(&s));
                let family = if is_of_current { current.clone() } else { name.to_owned() };
                let value = match tail.histogram {
                    Some(number) => match assembled.histogram(number) {
                        Some(histogram) => Value::Histogram(histogram.clone()),
                        None => continue,
                    },
                    None => Value::Float(tail.value),
                };
                let sample = Sample { labels, value, timestamp_ms: tail.timestamp_ms };
                families.entry(family).or_default().samples.push(sample);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(body: &str, encoding: Encoding) -> Result<Vec<(String, usize)>, String> {
        let families = read(body.as_bytes(), encoding, 10)?;
        Ok(families.into_iter().map(|(name, family)| (name, family.samples.len())).collect())
    }

    #[test]
    fn samples_belong_to_the_family_above_them() {
        let text = "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum 2\nh_count 1\nother 5\n# HELP c x\nc_total 1";
        let expected = [("c", 1), ("h", 3), ("other", 1)].map(|(n, c)| (n.to_owned(), c));
        assert_eq!(counts(text, Encoding::Text), Ok(expected.to_vec()));
        assert_eq!(counts("# TYPE c counter\nc_total 1\n# EOF\n", Encoding::OpenMetrics), Ok(expected[..1].to_vec()));
        assert!(counts("# TYPE c counter\nc_total 1\n", Encoding::OpenMetrics).is_err());
        assert!(counts("a b c", Encoding::Text).is_err());
        assert!(counts(&"a 1\n".repeat(11), Encoding::Text).unwrap_err().contains("samples_max"));
    }
}
