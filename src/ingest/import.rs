//! `POST /api/v1/import/…`: samples of any age, which become blocks of their own.
//!
//! `openmetrics` takes whole expositions of OpenMetrics, `prometheus` lines of Prometheus text with times in ms. It is
//! made for taking history over, not for a stream: each request makes blocks.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use promontory_model::{Cancel, Labels, MetricMetadata};
use promontory_storage::BackfillError;
use serde_json::json;

use super::Ingest;
use super::body::Refused;
use super::exposition::{self, Encoding, Value};
use super::store::Protocol;

/// Samples of one request.
pub(crate) const SAMPLES_MAX: usize = 1_000_000;

/// `/import/openmetrics`
pub(super) async fn openmetrics(state: State<Arc<Ingest>>, uri: Uri, headers: HeaderMap, body: Body) -> Response {
    import(state, &uri, headers, body, Encoding::OpenMetrics).await
}

/// `/import/prometheus`
pub(super) async fn text(state: State<Arc<Ingest>>, uri: Uri, headers: HeaderMap, body: Body) -> Response {
    import(state, &uri, headers, body, Encoding::Text).await
}

async fn import(
    State(ingest): State<Arc<Ingest>>,
    uri: &Uri,
    headers: HeaderMap,
    body: Body,
    encoding: Encoding,
) -> Response {
    if !ingest.options.enable_import {
        let reason = "importing needs to be enabled with --web.enable-admin-api";
        return Refused::new(StatusCode::NOT_FOUND, reason).into_response();
    }
    let extra = extra_labels(uri.query().unwrap_or(""));
    let work = move |ingest: &Ingest, bytes: &[u8]| ingest.import(bytes, encoding, &extra?);
    match ingest.take_in(&headers, body, work).await {
        Ok(report) => ([(header::CONTENT_TYPE, "application/json")], report).into_response(),
        Err(refused) => refused.into_response(),
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
    fn import(&self, bytes: &[u8], encoding: Encoding, extra: &[(String, String)]) -> Result<String, Refused> {
        let families = exposition::read(bytes, encoding, SAMPLES_MAX).map_err(Refused::bad)?;
        let now_ms = self.store.now_ms();
        let later = |e: BackfillError| Refused::later(e);
        let mut backfill = self.store.db().backfill().map_err(later)?;
        let mut n_histograms = 0;
        let mut metadata: BTreeMap<String, Vec<MetricMetadata>> = BTreeMap::new();
        for (name, family) in families {
            for sample in family.samples {
                let Value::Float(v) = sample.value else {
                    n_histograms += 1;
                    continue;
                };
                let t = match (sample.timestamp_ms, encoding) {
                    (Some(t), _) => t,
                    (None, Encoding::OpenMetrics) => {
                        return Err(Refused::bad(format_args!(
                            "a sample of {name} has no time; write it in Unix seconds behind the value"
                        )));
                    }
                    (None, _) => now_ms,
                };
                let pairs = sample.labels.iter().chain(extra).map(|(n, v)| (n.as_str(), v.as_str()));
                let series = backfill.series(&Labels::from_pairs(pairs)).map_err(later)?;
                backfill.push(series, t, v).map_err(later)?;
            }
            if family.metadata != MetricMetadata::default() {
                metadata.insert(name, vec![family.metadata]);
            }
        }
        let done = backfill.finish(&mut |_| {}, &Cancel::new()).map_err(later)?;
        // What the server has been told of a family stays.
        let known = self.store.db().metadata();
        let new = metadata.into_iter().filter(|(name, _)| !known.contains_key(name));
        self.store.db().learn_metadata(new.filter_map(|(name, list)| Some((name, list.into_iter().next()?))));
        self.store.count(Protocol::Import, done.n_samples, done.n_conflicts);
        let report = json!({"status": "success", "data": {
            "samples": done.n_samples,
            "series": done.n_series,
            "blocks": done.blocks.len(),
            "duplicates": done.n_duplicates,
            "conflicts": done.n_conflicts,
            "histogramsLeftOut": n_histograms,
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
