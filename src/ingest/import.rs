//! `POST /api/v1/import/…`: samples of any age, which become blocks of their own.
//!
//! `openmetrics` takes whole expositions of OpenMetrics, `prometheus` lines of Prometheus text with times in ms. It is
//! made for taking history over, not for a stream: each request makes blocks. A body is read as it arrives, one at a
//! time, and may be of any length; nothing of it is stored before all of it was read.

use std::io::{self, Read};
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt as _;
use promontory_model::{Cancel, MetricMetadata};
use promontory_storage::BackfillError;
use serde_json::json;
use tokio::sync::mpsc;

use super::Ingest;
use super::body::{self, Refused};
use super::history::{self, Reading};
use super::inflate;
use super::store::Protocol;
use crate::bodies::{BODY_BYTES_MAX, BODY_TIMEOUT};
use crate::scrape::exposition::Format;

/// Imports at once; each holds up to 128 MiB of samples.
pub(crate) const IMPORTS_AT_ONCE_MAX: usize = 1;
/// Pieces of a body that wait to be read.
const PIECES_MAX: usize = 4;

/// `/import/openmetrics`
pub(super) async fn openmetrics(state: State<Arc<Ingest>>, uri: Uri, headers: HeaderMap, body: Body) -> Response {
    import(state, &uri, headers, body, Format::OpenMetrics).await
}

/// `/import/prometheus`
pub(super) async fn text(state: State<Arc<Ingest>>, uri: Uri, headers: HeaderMap, body: Body) -> Response {
    import(state, &uri, headers, body, Format::Text).await
}

async fn import(
    State(ingest): State<Arc<Ingest>>,
    uri: &Uri,
    headers: HeaderMap,
    body: Body,
    format: Format,
) -> Response {
    if !ingest.options.enable_import {
        let reason = "importing needs to be enabled with --web.enable-admin-api";
        return Refused::new(StatusCode::NOT_FOUND, reason).into_response();
    }
    match take_in(&ingest, uri, &headers, body, format).await {
        Ok(report) => ([(header::CONTENT_TYPE, "application/json")], report).into_response(),
        Err(refused) => refused.into_response(),
    }
}

async fn take_in(
    ingest: &Arc<Ingest>,
    uri: &Uri,
    headers: &HeaderMap,
    body: Body,
    format: Format,
) -> Result<String, Refused> {
    let extra = extra_labels(uri.query().unwrap_or(""))?;
    let place = ingest.imports.clone().try_acquire_owned();
    let place = place.map_err(|_| Refused::later("another import is under way (imports_at_once_max)"))?;
    let (pieces, waiting) = mpsc::channel(PIECES_MAX);
    let (worker, encoding) = (ingest.clone(), body::encoding(headers));
    let work = tokio::task::spawn_blocking(move || {
        let _place = place;
        worker.import(Arriving { waiting, piece: Bytes::new(), has_ended: false }, &encoding, format, &extra)
    });
    // Whoever reads may have seen enough; then it says what is wrong.
    send_on(body, &pieces).await?;
    drop(pieces);
    work.await.unwrap_or_else(|e| Err(Refused::later(format_args!("import: {e}"))))
}

/// Hands on a body piece by piece, then that it has ended.
async fn send_on(mut body: Body, pieces: &mpsc::Sender<Option<Bytes>>) -> Result<(), Refused> {
    loop {
        let frame = tokio::time::timeout(BODY_TIMEOUT, body.frame()).await.map_err(|_| {
            let seconds = BODY_TIMEOUT.as_secs();
            let reason = format!("nothing of the body arrived for {seconds} s (body_timeout)");
            Refused::later(reason)
        })?;
        let piece = match frame {
            None => None,
            Some(frame) => match frame.map_err(|e| Refused::bad(format_args!("read body: {e}")))?.into_data() {
                Ok(data) => Some(data),
                Err(_) => continue,
            },
        };
        let is_last = piece.is_none();
        if pieces.send(piece).await.is_err() || is_last {
            return Ok(());
        }
    }
}

/// A body that arrives while it is read.
struct Arriving {
    /// Pieces, then nothing.
    waiting: mpsc::Receiver<Option<Bytes>>,
    piece: Bytes,
    has_ended: bool,
}

impl Read for Arriving {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !self.has_ended {
            match self.waiting.blocking_recv() {
                Some(Some(piece)) => self.piece = piece,
                Some(None) => self.has_ended = true,
                // The sender is gone: this is not the end of what it had to say.
                None => return Err(io::ErrorKind::ConnectionAborted.into()),
            }
        }
        let n = self.piece.len().min(out.len());
        out[..n].copy_from_slice(&self.piece.split_to(n));
        Ok(n)
    }
}

/// `extra_label=name=value`, any number of them.
fn extra_labels(query: &str) -> Result<Vec<(String, String)>, Refused> {
    let pairs: Vec<(String, String)> = serde_urlencoded_pairs(query);
    let given = pairs.into_iter().filter(|(name, _)| name == "extra_label");
    given
        .map(|(_, label)| match label.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
            _ => Err(Refused::bad(format_args!("extra_label: expected name=value, got {label:?}"))),
        })
        .collect()
}

fn serde_urlencoded_pairs(query: &str) -> Vec<(String, String)> {
    let uri = format!("/?{query}").parse::<Uri>();
    let pairs = uri.ok().and_then(|uri| axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&uri).ok());
    pairs.map(|q| q.0).unwrap_or_default()
}

impl Ingest {
    fn import(
        &self,
        arriving: Arriving,
        encoding: &str,
        format: Format,
        extra: &[(String, String)],
    ) -> Result<String, Refused> {
        let source: Box<dyn Read> = match encoding {
            "snappy" => {
                let mut bytes = Vec::new();
                let read = arriving.take(BODY_BYTES_MAX as u64 + 1).read_to_end(&mut bytes);
                read.map_err(|e| Refused::bad(format_args!("read body: {e}")))?;
                Box::new(io::Cursor::new(body::snappy(&bytes)?))
            }
            _ => inflate::reader(arriving, encoding).ok_or_else(|| body::unsupported(encoding))?,
        };
        let now_ms = (format == Format::Text).then(|| self.store.now_ms());
        let later = |e: BackfillError| Refused::later(e);
        let backfill = self.store.db().backfill().map_err(later)?;
        let history = history::read(source, &Reading { format, limits: history::LIMITS, extra, now_ms }, backfill)?;
        let done = history.backfill.finish(&mut |_| {}, &Cancel::new()).map_err(later)?;
        // What the server has been told of a family stays.
        let known = self.store.db().metadata();
        let new = history.families.into_iter();
        let new = new.filter(|(name, of)| !known.contains_key(name) && *of != MetricMetadata::default());
        if self.store.db().learn_metadata(new) > 0 {
            tracing::warn!("types and help texts of an import are not kept: there are too many");
        }
        self.store.count(Protocol::Import, done.n_samples, done.n_conflicts);
        let report = json!({"status": "success", "data": {
            "samples": done.n_samples,
            "series": done.n_series,
            "blocks": done.blocks.len(),
            "duplicates": done.n_duplicates,
            "conflicts": done.n_conflicts,
        }});
        Ok(report.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::testing::Fixture;

    const NOW_MS: i64 = 1_700_000_000_000;

    async fn send(f: &Fixture, path: &str, body: &str) -> (u16, String) {
        let (status, body) = Fixture::send(f.ingest.api_router(), "POST", path, &[], body.to_owned()).await;
        (status, String::from_utf8(body).unwrap())
    }

    #[tokio::test]
    async fn samples_of_any_age_are_taken() {
        let f = Fixture::new(NOW_MS);
        let text = "# TYPE a gauge\na{x=\"1\"} 1 1000000000\na{x=\"1\"} 2 1600000000.5\n# EOF\n";
        let (status, answer) = send(&f, "/import/openmetrics?extra_label=job%3Dold", text).await;
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        assert_eq!((status, &answer["data"]["samples"], &answer["data"]["blocks"]), (200, &json!(2), &json!(2)));
        assert_eq!(f.values("a"), [r#"{__name__="a",job="old",x="1"} 1000000000000:1 1600000000500:2"#]);
        assert_eq!(send(&f, "/import/prometheus", "b 1 1000\nb 2\n").await.0, 200);
        assert_eq!(f.values("b"), [format!("{{__name__=\"b\"}} 1000:1 {NOW_MS}:2")]);
    }

    #[tokio::test]
    async fn nothing_of_a_wrong_import_is_stored() {
        let f = Fixture::new(NOW_MS);
        assert_eq!(send(&f, "/import/openmetrics", "a 1 1\na b\n# EOF\n").await.0, 400);
        assert_eq!(send(&f, "/import/openmetrics", "a 1\n# EOF\n").await.0, 400);
        assert_eq!(send(&f, "/import/openmetrics?extra_label=x", "a 1 1\n# EOF\n").await.0, 400);
        assert!(f.values("a").is_empty());
    }
}
