//! `POST /api/v1/write`: remote write 1.0.

use std::sync::{Arc, PoisonError};

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};

use super::receiver::{ReceiveError, Received};
use super::{
    BUFFER_BYTES_KEPT, Refused, Remote, WRITE_BODY_TIMEOUT, WRITE_EXEMPLARS_MAX, WRITE_FAMILIES_MAX,
    WRITE_HISTOGRAM_BYTES_MAX, WRITE_SAMPLES_MAX, WRITE_SERIES_MAX, check_encoding, decompress, read_body, wire,
};

const LIMITS: wire::Limits = wire::Limits {
    series: WRITE_SERIES_MAX,
    samples: WRITE_SAMPLES_MAX,
    histogram_bytes: WRITE_HISTOGRAM_BYTES_MAX,
    exemplars: WRITE_EXEMPLARS_MAX,
    families: WRITE_FAMILIES_MAX,
};

/// Stores the samples of a request and answers 204 once they are safe.
pub(super) async fn write(
    State(remote): State<Arc<Remote>>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Refused> {
    if !remote.enable_write {
        let reason = "remote write receiver needs to be enabled with --web.enable-remote-write-receiver";
        return Err(Refused(StatusCode::NOT_FOUND, reason.to_owned()));
    }
    check_type(&headers)?;
    check_encoding(&headers)?;
    let place = remote.write_places.acquire().await;
    // A place is held while the body comes in, which bounds memory; a slow sender must not keep it.
    let body = tokio::time::timeout(WRITE_BODY_TIMEOUT, read_body(body)).await.unwrap_or_else(|_| {
        let seconds = WRITE_BODY_TIMEOUT.as_secs();
        Err(Refused(StatusCode::REQUEST_TIMEOUT, format!("body took longer than {seconds} s (write_body_timeout)")))
    })?;
    let worker = remote.clone();
    // Not cancelled when the sender goes away: what was appended is committed in any case.
    let result = tokio::task::spawn_blocking(move || store(&worker, &body)).await;
    drop(place);
    result.unwrap_or_else(|e| Err(Refused(StatusCode::INTERNAL_SERVER_ERROR, format!("store samples: {e}"))))
}

/// The message of version 1, which is also assumed where nothing is said.
fn check_type(headers: &HeaderMap) -> Result<(), Refused> {
    let text = headers.get(header::CONTENT_TYPE).map_or("", |v| v.to_str().unwrap_or("?"));
    let refuse = |reason: String| Err(Refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, reason));
    let mut parts = text.split(';').map(str::trim);
    let media = parts.next().unwrap_or("");
    if !(media.is_empty() || media.eq_ignore_ascii_case("application/x-protobuf")) {
        return refuse(format!("expected application/x-protobuf as the first (media) part, got {text:?} content-type"));
    }
    match parts.find_map(|p| p.strip_prefix("proto=")) {
        None | Some("prometheus.WriteRequest") => Ok(()),
        Some(proto) => refuse(format!(
            "{proto} protobuf message is not accepted by this server; only prometheus.WriteRequest is acceptable"
        )),
    }
}

fn store(remote: &Remote, body: &[u8]) -> Result<StatusCode, Refused> {
    let lock = || remote.buffers.lock().unwrap_or_else(PoisonError::into_inner);
    let mut buffer = lock().pop().unwrap_or_default();
    let result = decompress(body, &mut buffer).and_then(|bytes| store_message(remote, bytes));
    if buffer.len() <= BUFFER_BYTES_KEPT {
        lock().push(buffer);
    }
    result
}

fn store_message(remote: &Remote, bytes: &[u8]) -> Result<StatusCode, Refused> {
    let now_ms = remote.clock.now().0;
    // A panic while appending leaves writers that the head keeps consistent by itself, so going on is safe.
    let appended = remote.receiver.lock().unwrap_or_else(PoisonError::into_inner).append(bytes, LIMITS, now_ms);
    let received = appended.map_err(|e| match e {
        ReceiveError::Scan(e) => Refused::bad(e),
        ReceiveError::Append(e) => Refused(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()),
    })?;
    // Senders repeat a request that failed with 5xx, and the store accepts equal samples again.
    remote.db.commit().map_err(|e| Refused(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))?;
    if received.bad_series > 0 {
        tracing::warn!(series = received.bad_series, "left out series of a remote write with invalid labels");
    }
    if received.families_left_out > 0 {
        let families = received.families_left_out;
        tracing::warn!(families, "types and help texts of a remote write are not kept: there are too many");
    }
    match refusal(&received) {
        Some(reason) => Err(Refused::bad(reason)),
        None => Ok(StatusCode::NO_CONTENT),
    }
}

/// What to answer when samples were refused. The others are stored: senders do not repeat what they get 400 for.
fn refusal(received: &Received) -> Option<String> {
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
    let texts: Vec<_> =
        reasons.iter().filter(|(n, _)| *n > 0).map(|(n, reason)| format!("{reason} ({n} of {n_samples})")).collect();
    (!texts.is_empty()).then(|| texts.join("; "))
}
