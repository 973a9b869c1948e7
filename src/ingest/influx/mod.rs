//! `/write` and `/api/v2/write`: samples as InfluxDB's clients and Telegraf send them.
//!
//! A field becomes the series `measurement_field`, tags become its labels, and the database or bucket the label `db`
//! unless a tag has that name. Lines that are not understood are left out and named in the answer.

mod line;

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use promontory_model::{Labels, METRIC_NAME};
use serde::Deserialize;
use serde_json::json;

use super::Ingest;
use super::body::Refused;
use super::store::{Batch, Protocol};
use super::{BATCH_LABELS_BYTES_MAX, LABELS_BYTES_MAX};
use line::Line;

/// Samples of one request.
pub(crate) const SAMPLES_MAX: usize = 2_000_000;
/// Characters of a line that an answer shows.
const SHOWN_CHARS: usize = 200;

/// Version that clients are told, which decides what they ask for.
const VERSION: (&str, &str) = ("x-influxdb-version", "1.8.0");

/// What an address may say.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Params {
    db: Option<String>,
    bucket: Option<String>,
    precision: Option<String>,
}

impl Params {
    /// Value of the label `db`.
    fn database(&self) -> &str {
        let given = |name: &Option<String>| name.as_deref().is_some_and(|n| !n.is_empty());
        let name = if given(&self.db) { &self.db } else { &self.bucket };
        name.as_deref().unwrap_or("")
    }

    /// Ms of a unit of the request's timestamps.
    fn unit(&self) -> Result<Unit, String> {
        match self.precision.as_deref().unwrap_or("") {
            "" | "n" | "ns" => Ok(Unit::Part(1_000_000)),
            "u" | "us" | "µ" | "µs" => Ok(Unit::Part(1_000)),
            "ms" => Ok(Unit::Times(1)),
            "s" => Ok(Unit::Times(1_000)),
            "m" => Ok(Unit::Times(60_000)),
            "h" => Ok(Unit::Times(3_600_000)),
            other => Err(format!("invalid precision {other:?}, expected one of ns, us, ms, s, m, h")),
        }
    }
}

/// A unit of time in ms.
#[derive(Debug, Clone, Copy)]
enum Unit {
    /// Each is so many.
    Times(i64),
    /// So many are one.
    Part(i64),
}

impl Unit {
    fn ms(self, t: i64) -> i64 {
        match self {
            Self::Times(n) => t.saturating_mul(n),
            Self::Part(n) => t.div_euclid(n),
        }
    }
}

/// Whose form an answer has.
#[derive(Debug, Clone, Copy)]
enum Version {
    One,
    Two,
}

/// `/write`
pub(super) async fn write(
    state: State<Arc<Ingest>>,
    params: Query<Params>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    take_in(state, params, headers, body, Version::One).await
}

/// `/api/v2/write`
pub(super) async fn write_v2(
    state: State<Arc<Ingest>>,
    params: Query<Params>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    take_in(state, params, headers, body, Version::Two).await
}

async fn take_in(
    State(ingest): State<Arc<Ingest>>,
    Query(params): Query<Params>,
    headers: HeaderMap,
    body: Body,
    version: Version,
) -> Response {
    if !ingest.options.enable_influx {
        let reason = "influxdb receiver needs to be enabled with --web.enable-influx-receiver";
        return refusal(version, &Refused::new(StatusCode::NOT_FOUND, reason));
    }
    let work = move |ingest: &Ingest, bytes: &[u8]| store(ingest, &params, bytes);
    match ingest.take_in(&headers, body, work).await {
        Ok(()) => (StatusCode::NO_CONTENT, [VERSION]).into_response(),
        Err(refused) => refusal(version, &refused),
    }
}

fn refusal(version: Version, refused: &Refused) -> Response {
    let reason = &refused.reason;
    let body = match version {
        Version::One => json!({ "error": reason }),
        Version::Two => {
            let code = match refused.status {
                StatusCode::NOT_FOUND => "not found",
                StatusCode::PAYLOAD_TOO_LARGE => "request too large",
                status if status.is_client_error() => "invalid",
                _ => "unavailable",
            };
            json!({ "code": code, "message": reason })
        }
    };
    let mut response = refused.with_body("application/json", body.to_string());
    response.headers_mut().insert(VERSION.0, header::HeaderValue::from_static(VERSION.1));
    response
}

fn store(ingest: &Ingest, params: &Params, bytes: &[u8]) -> Result<(), Refused> {
    let unit = params.unit().map_err(Refused::bad)?;
    let text = std::str::from_utf8(bytes).map_err(Refused::bad)?;
    let now_ms = ingest.store.now_ms();
    let mut batch = Batch::default();
    let mut room = BATCH_LABELS_BYTES_MAX;
    let mut wrong: Option<String> = None;
    let mut n_wrong = 0_u64;
    for (number, text) in line::lines(text) {
        match line::parse(text) {
            Ok(Some(line)) => {
                let t = line.timestamp.map_or(now_ms, |t| unit.ms(t));
                if let Err(too_long) = push(&mut batch, &line, params.database(), t, &mut room) {
                    n_wrong += line.fields.len() as u64;
                    wrong.get_or_insert_with(|| format!("line {number}: {too_long}"));
                }
            }
            Ok(None) => {}
            Err(fault) => {
                n_wrong += 1;
                let shown: String = text.chars().take(SHOWN_CHARS).collect();
                wrong.get_or_insert_with(|| format!("unable to parse '{shown}' (line {number}): {fault}"));
            }
        }
        if batch.samples.len() > SAMPLES_MAX {
            let reason = format!("request of more than {SAMPLES_MAX} samples (samples_max)");
            return Err(Refused::new(StatusCode::PAYLOAD_TOO_LARGE, reason));
        }
    }
    let stored = ingest.store.append(Protocol::Influx, batch).map_err(Refused::later)?;
    ingest.store.count(Protocol::Influx, 0, n_wrong);
    let dropped = n_wrong + stored.refused();
    if dropped == 0 {
        return Ok(());
    }
    let reasons: Vec<String> = wrong.into_iter().chain(Some(stored.reasons()).filter(|r| !r.is_empty())).collect();
    Err(Refused::bad(format_args!("partial write: {} dropped={dropped}", reasons.join("; "))))
}

/// Labels that take too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {max} bytes of labels ({limit})")]
struct TooLong {
    max: usize,
    limit: &'static str,
}

/// Adds a sample for each field of a line; `room` is what labels of the request may still take.
fn push(batch: &mut Batch, line: &Line<'_>, database: &str, t: i64, room: &mut usize) -> Result<(), TooLong> {
    let mut pairs: Vec<(Cow<'_, str>, &str)> = Vec::with_capacity(line.tags.len() + 2);
    if !database.is_empty() {
        pairs.push((Cow::Borrowed("db"), database));
    }
    // Behind the database, which a tag of that name replaces.
    pairs.extend(line.tags.iter().map(|(k, v)| (plain(k, false), v.as_ref())));
    let measurement = plain(&line.measurement, true);
    let of_line = measurement.len() + pairs.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>();
    let longest = line.fields.iter().map(|(field, _)| field.len()).max().unwrap_or(0);
    if of_line + longest > LABELS_BYTES_MAX {
        return Err(TooLong { max: LABELS_BYTES_MAX, limit: "labels_bytes_max" });
    }
    let of_all = line.fields.iter().map(|(field, _)| of_line + field.len()).sum();
    let too_many = TooLong { max: BATCH_LABELS_BYTES_MAX, limit: "batch_labels_bytes_max" };
    *room = room.checked_sub(of_all).ok_or(too_many)?;
    for (field, value) in &line.fields {
        let name = format!("{measurement}_{}", plain(field, true).trim_start_matches('_'));
        let named = pairs.iter().map(|(k, v)| (k.as_ref(), *v)).chain([(METRIC_NAME, name.as_str())]);
        batch.samples.push((Labels::from_pairs(named), t, *value));
    }
    Ok(())
}

/// A name of letters, digits and underscores, in which others become underscores.
fn plain(name: &str, colons: bool) -> Cow<'_, str> {
    let is_plain = |c: char| c == '_' || c.is_ascii_alphanumeric() || colons && c == ':';
    let starts_with_digit = name.starts_with(|c: char| c.is_ascii_digit());
    if name.chars().all(is_plain) && !starts_with_digit {
        return Cow::Borrowed(name);
    }
    let start = if starts_with_digit { "_" } else { "" };
    let rest = name.chars().map(|c| if is_plain(c) { c } else { '_' });
    Cow::Owned(start.chars().chain(rest).collect())
}

/// Reads lines and forgets them.
pub(super) fn read_lines(text: &str) {
    for line in line::lines(text).filter_map(|(_, line)| line::parse(line).ok()?) {
        let mut room = BATCH_LABELS_BYTES_MAX;
        let _ = push(&mut Batch::default(), &line, "db", 0, &mut room);
    }
}

/// `/ping`: clients ask it to see whether somebody is there, and which version.
pub(super) async fn ping() -> Response {
    (StatusCode::NO_CONTENT, [VERSION]).into_response()
}

/// `/health`, as clients of version 2 ask.
pub(super) async fn health() -> Response {
    let body = json!({"name": "influxdb", "message": "ready for writes", "status": "pass", "version": VERSION.1});
    ([(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

/// `POST /query`: clients create their database before they write to it, and there is nothing to do.
pub(super) async fn query() -> Response {
    let body = json!({"results": [{"statement_id": 0}]});
    ([(header::CONTENT_TYPE, "application/json"), header_pair()], body.to_string()).into_response()
}

fn header_pair() -> (header::HeaderName, &'static str) {
    (header::HeaderName::from_static(VERSION.0), VERSION.1)
}

#[cfg(test)]
mod tests {
    use crate::ingest::testing::Fixture;

    const NOW_MS: i64 = 1_700_000_000_000;

    async fn send(f: &Fixture, path: &str, body: &str) -> (u16, String) {
        let (status, body) = Fixture::send(f.ingest.router(), "POST", path, &[], body.to_owned()).await;
        (status, String::from_utf8(body).unwrap())
    }

    #[tokio::test]
    async fn fields_become_series_and_tags_labels() {
        let f = Fixture::new(NOW_MS);
        let ok = (204, String::new());
        let lines = format!("cpu,host=a,http.code=200 usage-idle=1.5,text=\"x\" {NOW_MS}000000\n\n# c\nmem free=2i\n");
        assert_eq!(send(&f, "/write?db=telegraf", &lines).await, ok);
        let labels = r#"db="telegraf",host="a",http_code="200""#;
        assert_eq!(f.values("cpu_usage_idle"), [format!("{{__name__=\"cpu_usage_idle\",{labels}}} {NOW_MS}:1.5")]);
        assert_eq!(f.values("mem_free"), [format!("{{__name__=\"mem_free\",db=\"telegraf\"}} {NOW_MS}:2")]);
        for (unit, t) in [("s", NOW_MS / 1000), ("ms", NOW_MS), ("us", NOW_MS * 1000), ("ns", NOW_MS * 1_000_000)] {
            let path = format!("/api/v2/write?org=o&bucket=b&precision={unit}");
            assert_eq!(send(&f, &path, &format!("{unit},db=own v=1 {t}")).await, ok);
            assert_eq!(f.values(&format!("{unit}_v")), [format!("{{__name__=\"{unit}_v\",db=\"own\"}} {NOW_MS}:1")]);
        }
    }

    #[tokio::test]
    async fn wrong_lines_are_told_and_the_others_stored() {
        let f = Fixture::new(NOW_MS);
        let lines = format!("ok v=1,text=\"a\nb\"\nbad\nworse v=\nfar v=1 {}000000", NOW_MS + 3_600_000);
        let (status, answer) = send(&f, "/write", &lines).await;
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(
            (status, answer["error"].as_str().unwrap()),
            (400, {
                "partial write: unable to parse 'bad' (line 3): missing fields; \
             out of bounds: timestamp is too far in the future (1 samples) dropped=3"
            })
        );
        assert_eq!(f.values("ok_v").len(), 1);
        let (status, answer) = send(&f, "/api/v2/write?precision=x", "a v=1").await;
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        assert_eq!((status, answer["code"].as_str().unwrap()), (400, "invalid"));
    }

    #[tokio::test]
    async fn tags_that_are_written_once_do_not_stand_for_gigabytes() {
        let f = Fixture::new(NOW_MS);
        let fields: Vec<String> = (0..6_000).map(|i| format!("f{i}=1")).collect();
        let tag = "x".repeat(super::LABELS_BYTES_MAX - 100);
        let lines = format!("a,t={tag} {}\nb,t={tag}{tag} v=1\nok v=1", fields.join(","));
        let (status, answer) = send(&f, "/write", &lines).await;
        assert_eq!(status, 400);
        assert!(answer.contains("line 1: ") && answer.contains("batch_labels_bytes_max"), "{answer}");
        assert!(answer.contains("dropped=6001"), "{answer}");
        assert_eq!(f.values("ok_v").len(), 1);
        let (_, answer) = send(&f, "/write", &format!("b,t={tag}{tag} v=1")).await;
        assert!(answer.contains("(labels_bytes_max)"), "{answer}");
    }

    #[tokio::test]
    async fn clients_find_what_they_ask_before_they_write() {
        let f = Fixture::new(NOW_MS);
        let get = |path: &'static str| Fixture::send(f.ingest.router(), "GET", path, &[], "");
        assert_eq!(get("/ping").await.0, 204);
        assert_eq!(get("/health").await.0, 200);
        assert_eq!(send(&f, "/query?q=CREATE+DATABASE+x", "").await.0, 200);
    }
}
