//! `POST /api/v1/write`: remote write 1.0 and 2.0.

use std::sync::{Arc, PoisonError};

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::receiver::{LABELS_BYTES_MAX, ReceiveError, Received};
use super::{
    BUFFER_BYTES_KEPT, Refused, Remote, WRITE_EXEMPLARS_MAX, WRITE_FAMILIES_MAX, WRITE_HISTOGRAM_BYTES_MAX,
    WRITE_LABELS_BYTES_MAX, WRITE_SAMPLES_MAX, WRITE_SERIES_MAX, WRITE_SYMBOLS_MAX, check_encoding, decompress,
    interned, wire,
};

use crate::bodies::BODY_BYTES_MAX;

const LIMITS: wire::Limits = wire::Limits {
    series: WRITE_SERIES_MAX,
    samples: WRITE_SAMPLES_MAX,
    histogram_bytes: WRITE_HISTOGRAM_BYTES_MAX,
    exemplars: WRITE_EXEMPLARS_MAX,
    families: WRITE_FAMILIES_MAX,
};

const INTERNED_LIMITS: interned::Limits = interned::Limits {
    wire: LIMITS,
    symbols: WRITE_SYMBOLS_MAX,
    series_bytes: LABELS_BYTES_MAX,
    labels_bytes: WRITE_LABELS_BYTES_MAX,
};

/// What was stored of a request of version 2, in every answer to one.
pub(super) const SAMPLES_WRITTEN: HeaderName = HeaderName::from_static("x-prometheus-remote-write-samples-written");
pub(super) const HISTOGRAMS_WRITTEN: HeaderName =
    HeaderName::from_static("x-prometheus-remote-write-histograms-written");
pub(super) const EXEMPLARS_WRITTEN: HeaderName = HeaderName::from_static("x-prometheus-remote-write-exemplars-written");

/// Versions of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    First,
    Second,
}

/// How many of each were stored.
#[derive(Debug, Clone, Copy, Default)]
struct Stored {
    samples: u64,
    histograms: u64,
    exemplars: u64,
}

/// Stores the samples of a request and answers 204 once they are safe.
pub(super) async fn write(
    State(remote): State<Arc<Remote>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refused> {
    if !remote.enable_write {
        let reason = "remote write receiver needs to be enabled with --web.enable-remote-write-receiver";
        return Err(Refused(StatusCode::NOT_FOUND, reason.to_owned()));
    }
    let version = version(&headers)?;
    check_encoding(&headers)?;
    let body = remote.bodies.read(&headers, body, BODY_BYTES_MAX).await?;
    // A place is held for what is decompressed, not by senders who are slow.
    let place = remote.write_places.clone().acquire_owned().await;
    let worker = remote.clone();
    // Not cancelled when the sender goes away: what was appended is committed in any case, and until then the place and
    // the room of the body are taken.
    let work = move || {
        let (_place, body) = (place, body);
        store(&worker, version, &body.bytes)
    };
    let result = tokio::task::spawn_blocking(work).await;
    let (stored, result) = result.unwrap_or_else(|e| {
        let reason = format!("store samples: {e}");
        (Stored::default(), Err(Refused(StatusCode::INTERNAL_SERVER_ERROR, reason)))
    });
    let mut response = result.map_or_else(Refused::into_response, StatusCode::into_response);
    if version == Version::Second {
        let counts = [
            (SAMPLES_WRITTEN, stored.samples),
            (HISTOGRAMS_WRITTEN, stored.histograms),
            (EXEMPLARS_WRITTEN, stored.exemplars),
        ];
        response.headers_mut().extend(counts.map(|(name, n)| (name, HeaderValue::from(n))));
    }
    Ok(response)
}

/// Which message it is; the first where nothing is said.
fn version(headers: &HeaderMap) -> Result<Version, Refused> {
    let text = headers.get(header::CONTENT_TYPE).map_or("", |v| v.to_str().unwrap_or("?"));
    let refuse = |reason: String| Err(Refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, reason));
    let mut parts = text.split(';').map(str::trim);
    let media = parts.next().unwrap_or("");
    if !(media.is_empty() || media.eq_ignore_ascii_case("application/x-protobuf")) {
        return refuse(format!("expected application/x-protobuf as the first (media) part, got {text:?} content-type"));
    }
    match parts.find_map(|p| p.strip_prefix("proto=")) {
        None | Some("prometheus.WriteRequest") => Ok(Version::First),
        Some("io.prometheus.write.v2.Request") => Ok(Version::Second),
        Some(proto) => refuse(format!(
            "{proto} protobuf message is not accepted by this server; only prometheus.WriteRequest and \
             io.prometheus.write.v2.Request are acceptable"
        )),
    }
}

fn store(remote: &Remote, version: Version, body: &[u8]) -> (Stored, Result<StatusCode, Refused>) {
    let lock = || remote.buffers.lock().unwrap_or_else(PoisonError::into_inner);
    let mut buffer = lock().pop().unwrap_or_default();
    let mut stored = Stored::default();
    let bytes = decompress(body, &mut buffer, BODY_BYTES_MAX);
    let result = bytes.and_then(|bytes| store_message(remote, version, bytes, &mut stored));
    if buffer.len() <= BUFFER_BYTES_KEPT {
        lock().push(buffer);
    }
    (stored, result)
}

fn store_message(remote: &Remote, version: Version, bytes: &[u8], stored: &mut Stored) -> Result<StatusCode, Refused> {
    let now_ms = remote.clock.now().0;
    // A panic while appending leaves writers that the head keeps consistent by itself, so going on is safe.
    let mut receiver = remote.receiver.lock().unwrap_or_else(PoisonError::into_inner);
    let appended = match version {
        Version::First => receiver.append(bytes, LIMITS, now_ms),
        Version::Second => receiver.append_interned(bytes, INTERNED_LIMITS, now_ms),
    };
    drop(receiver);
    let received = appended.map_err(|e| match e {
        ReceiveError::Scan(e) => Refused::bad(e),
        ReceiveError::Append(e) => Refused(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()),
    })?;
    // Senders repeat a request that failed with 5xx, and the store accepts equal samples again.
    remote.db.commit().map_err(|e| Refused(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))?;
    *stored = Stored {
        samples: received.appended.accepted - received.appended.histograms,
        histograms: received.appended.histograms,
        // What was there already was written, by this request or the one that it repeats.
        exemplars: received.exemplars.accepted + received.exemplars.repeated,
    };
    if received.bad_series > 0 {
        remote.meter.invalid(received.bad_series);
        tracing::warn!(series = received.bad_series, "left out series of a remote write with invalid labels");
    }
    if received.families_left_out > 0 {
        let families = received.families_left_out;
        tracing::warn!(families, "types and help texts of a remote write are not kept: there are too many");
    }
    match refusal(&received, version) {
        Some(reason) => Err(Refused::bad(reason)),
        None => Ok(StatusCode::NO_CONTENT),
    }
}

/// What to answer when samples were refused. The others are stored: senders do not repeat what they get 400 for.
fn refusal(received: &Received, version: Version) -> Option<String> {
    let a = received.appended;
    let reasons = [
        (a.out_of_order, "out of order sample"),
        (a.duplicates, "duplicate sample for timestamp"),
        (a.too_old, "too old sample"),
        (a.out_of_bounds, "out of bounds"),
        (received.future, "out of bounds: timestamp is too far in the future"),
        (received.no_room, "series limit of the head reached"),
        (received.invalid_histograms, received.invalid.as_deref().unwrap_or_default()),
    ];
    let n_samples = received.n_samples;
    let mut texts: Vec<_> =
        reasons.iter().filter(|(n, _)| *n > 0).map(|(n, reason)| format!("{reason} ({n} of {n_samples})")).collect();
    if version == Version::Second {
        texts.extend(received.faults.iter().cloned());
        let more = received.bad_series - received.faults.len() as u64;
        texts.extend((more > 0).then(|| format!("and {more} more series")));
    }
    (!texts.is_empty()).then(|| texts.join("; "))
}
