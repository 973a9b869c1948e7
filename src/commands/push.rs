//! `promontory push …`: samples from files or standard input to any server that takes remote write.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write};

use promontory_config::remote::WriteMessage;
use promontory_model::labels::is_legacy_label_name;
use promontory_model::{Labels, LabelsBuilder, MetricMetadata};
use promontory_storage::clock::{Clock as _, SystemClock};

use super::plural;
use super::query::{QueryError, Server};
use crate::cli::{PushArgs, PushMessage};
use crate::remote::write_call;
use crate::scrape::exposition::{Format, Item, Metadata, ParseError, Parser};

/// Samples of one request.
const REQUEST_SAMPLES: usize = 2_000;

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
    #[error("{what}: {source}")]
    Parse {
        /// File.
        what: String,
        /// What is wrong, and where.
        source: ParseError,
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
        let mut body = Vec::new();
        let result = match file {
            Some(file) => std::fs::read(file).map(|bytes| body = bytes),
            None => io::stdin().lock().read_to_end(&mut body).map(|_| ()),
        };
        result.map_err(|source| PushError::Read { what: what.clone(), source })?;
        let now_ms = SystemClock::new().now().ms();
        let page = read(&body, &labels, now_ms).map_err(|source| PushError::Parse { what: what.clone(), source })?;
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

/// Reads Prometheus text, whose last line need not end.
fn read(body: &[u8], labels: &[(String, String)], now_ms: i64) -> Result<Page, ParseError> {
    let ended = if body.ends_with(b"\n") { body.to_owned() } else { [body, b"\n"].concat() };
    let mut parser = Parser::new(&ended, Format::Text);
    let mut page = Page::default();
    loop {
        match parser.next_item()? {
            Item::End => break,
            Item::Metadata { family, text, .. } => {
                let about = page.families.entry(family).or_insert_with(|| vec![MetricMetadata::default()]);
                match text {
                    Metadata::Type(kind) => about[0].kind = kind,
                    Metadata::Help(help) => about[0].help = help,
                    Metadata::Unit(unit) => about[0].unit = unit,
                }
            }
            Item::Sample { tail, .. } => {
                let mut all = LabelsBuilder::new();
                labels.iter().for_each(|(name, value)| {
                    all.set(name, value);
                });
                parser.labels().iter().for_each(|(name, value)| {
                    all.set(name, value);
                });
                page.samples.push((all.build(), tail.timestamp_ms.unwrap_or(now_ms), tail.value));
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
