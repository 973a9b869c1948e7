//! `promontory push …`: samples from files or standard input to any server that takes remote write.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

use promontory_config::remote::WriteMessage;
use promontory_model::labels::is_legacy_label_name;
use promontory_model::{Labels, LabelsBuilder, MetricMetadata};
use promontory_storage::clock::{Clock as _, SystemClock};

use super::plural;
use super::query::{QueryError, Server};
use crate::cli::{PushArgs, PushMessage};
use crate::ingest::exposition::{self, Encoding, Value};
use crate::remote::write_call;

/// Samples of one request.
const REQUEST_SAMPLES: usize = 2_000;
/// Samples of one file; they take some hundred bytes each.
const FILE_SAMPLES_MAX: usize = 5_000_000;

/// Why samples were not sent.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// A file, or standard input, could not be read.
    #[error("read {what}: {source}")]
    Read {
        /// File.
        what: String,
        /// The system's error.
        source: io::Error,
    },
    /// It is no exposition.
    #[error("{what}: {problem}")]
    Parse {
        /// File.
        what: String,
        /// What is wrong, and where.
        problem: String,
    },
    /// A label of the command line is none.
    #[error("--label {0:?}: write NAME=VALUE, with a name of letters, digits and `_`")]
    Label(String),
    /// The server did not take them.
    #[error("{what}: sent {n_sent} of {n_all} samples: {source}")]
    Send {
        /// File.
        what: String,
        /// Samples that were taken.
        n_sent: usize,
        /// Samples of the file.
        n_all: usize,
        /// Why it did not.
        source: QueryError,
    },
    /// The address, or how to be let in, is wrong.
    #[error(transparent)]
    Server(#[from] QueryError),
    /// The report could not be written.
    #[error("write the report: {0}")]
    Report(io::Error),
}

/// What a file brings.
#[derive(Debug, Default, PartialEq)]
struct Page {
    /// Labels, time in ms, value.
    samples: Vec<(Labels, i64, f64)>,
    families: BTreeMap<String, Vec<MetricMetadata>>,
}

/// Sends what `args` name and writes a line for each file that was taken.
///
/// # Errors
/// [`PushError`]; files before the one it names were taken.
pub fn run(args: &PushArgs, out: &mut dyn Write) -> Result<(), PushError> {
    let labels = args.labels.iter().map(|text| label(text)).collect::<Result<Vec<_>, _>>()?;
    let server = Server::new(&args.server, &args.http)?;
    let message = match args.message {
        PushMessage::First => WriteMessage::First,
        PushMessage::Second => WriteMessage::Second,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(QueryError::Report)?;
    let sources: Vec<_> = args.files.iter().map(Some).chain(args.files.is_empty().then_some(None)).collect();
    for file in sources {
        let what = file.map_or_else(|| "standard input".to_owned(), |file| file.display().to_string());
        let body = super::read_exposition(file.map(PathBuf::as_path));
        let body = body.map_err(|source| PushError::Read { what: what.clone(), source })?;
        let now_ms = SystemClock::new().now().ms();
        let page = read(&body, &labels, now_ms).map_err(|problem| PushError::Parse { what: what.clone(), problem })?;
        let n_all = page.samples.len();
        for (i, part) in page.samples.chunks(REQUEST_SAMPLES).enumerate() {
            let call = write_call(server.url.with(&args.path, &[]), message, part, &page.families);
            runtime.block_on(server.write(&call)).map_err(|source| {
                let (what, n_sent) = (what.clone(), i * REQUEST_SAMPLES);
                PushError::Send { what, n_sent, n_all, source }
            })?;
        }
        writeln!(out, "{what}: sent {n_all} {}", plural(n_all, "sample")).map_err(PushError::Report)?;
    }
    Ok(())
}

fn label(text: &str) -> Result<(String, String), PushError> {
    let is_name = |name: &str| is_legacy_label_name(name);
    match text.split_once('=') {
        Some((name, value)) if is_name(name) => Ok((name.to_owned(), value.to_owned())),
        _ => Err(PushError::Label(text.to_owned())),
    }
}

/// Reads Prometheus text.
fn read(body: &[u8], labels: &[(String, String)], now_ms: i64) -> Result<Page, String> {
    let mut page = Page::default();
    for (name, family) in exposition::read(body, Encoding::Text, FILE_SAMPLES_MAX)? {
        if family.metadata != MetricMetadata::default() {
            page.families.insert(name, vec![family.metadata]);
        }
        for sample in family.samples {
            let mut all = LabelsBuilder::new();
            for (name, value) in labels.iter().chain(&sample.labels) {
                all.set(name, value);
            }
            // Text has no native histograms.
            if let Value::Float(value) = sample.value {
                page.samples.push((all.build(), sample.timestamp_ms.unwrap_or(now_ms), value));
            }
        }
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use promontory_model::MetricType;

    use super::*;

    #[test]
    fn samples_get_time_and_labels_where_they_have_none() {
        let labels = [("job".to_owned(), "nightly".to_owned()), ("host".to_owned(), "a".to_owned())];
        let page = read(b"# TYPE a gauge\na{job=\"own\"} 1 5\nb 2", &labels, 7).unwrap();
        let expected = [
            (Labels::from_pairs([("__name__", "a"), ("host", "a"), ("job", "own")]), 5, 1.0),
            (Labels::from_pairs([("__name__", "b"), ("host", "a"), ("job", "nightly")]), 7, 2.0),
        ];
        assert_eq!(page.samples, expected);
        assert_eq!(page.families["a"][0].kind, MetricType::Gauge);
        assert!(read(b"a b\n", &[], 0).is_err());
    }

    #[test]
    fn labels_are_a_name_and_a_value() {
        assert_eq!(label("a=b=c").unwrap(), ("a".to_owned(), "b=c".to_owned()));
        for wrong in ["a", "=b", "1a=b", "a.b=c"] {
            assert!(label(wrong).is_err(), "{wrong}");
        }
    }
}
