//! `POST /api/v1/otlp/v1/metrics`: OpenTelemetry's protocol over HTTP, as protocol buffers and as JSON.
//!
//! What of a request cannot be stored is left out and told as a partial success, as the specification has it; nobody
//! gains by sending it again. Only a store that takes nothing at all answers so that the sender comes back.

mod delta;
mod histogram;
mod json;
mod message;
mod names;
mod translate;
mod value;

use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use prost::Message as _;
use serde_json::json;

use super::Ingest;
use super::body::Refused;
use super::store::{Protocol, StoreError};
use delta::Totals;
use message::{ExportRequest, ExportResponse, PartialSuccess, Status};
use translate::{Rules, translate};

/// What becomes of points that are differences to the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeltaMode {
    /// They are refused.
    #[default]
    Refuse,
    /// They are added up to totals.
    AddUp,
    /// They are stored as they are.
    Keep,
}

/// What the receiver remembers from request to request.
#[derive(Debug, Default)]
pub(super) struct Receiver {
    /// Held while a request is translated.
    totals: Mutex<Totals>,
}

/// How a request is written, and so its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Protobuf,
    Json,
}

impl Encoding {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let text = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
        match text.split(';').next().unwrap_or("").trim().to_ascii_lowercase().as_str() {
            "application/x-protobuf" => Some(Self::Protobuf),
            "application/json" => Some(Self::Json),
            _ => None,
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        }
    }

    fn success(self, partial: Option<PartialSuccess>) -> Response {
        let body = match self {
            Self::Protobuf => ExportResponse { partial_success: partial }.encode_to_vec(),
            Self::Json => partial
                .map_or_else(
                    || json!({}),
                    |p| {
                        let rejected = p.rejected_data_points.to_string();
                        json!({"partialSuccess": {"rejectedDataPoints": rejected, "errorMessage": p.error_message}})
                    },
                )
                .to_string()
                .into_bytes(),
        };
        ([(header::CONTENT_TYPE, self.content_type())], body).into_response()
    }

    fn refusal(self, refused: Refused) -> Response {
        // Codes of gRPC: invalid argument, unavailable.
        let code = if refused.status.is_client_error() { 3 } else { 14 };
        let body = match self {
            Self::Protobuf => Status { code, message: refused.reason.clone() }.encode_to_vec(),
            Self::Json => json!({"code": code, "message": refused.reason}).to_string().into_bytes(),
        };
        refused.with_body(self.content_type(), body)
    }
}

/// Stores the points of a request and answers once they are safe.
pub(super) async fn receive(State(ingest): State<Arc<Ingest>>, headers: HeaderMap, body: Body) -> Response {
    if !ingest.options.enable_otlp {
        let reason = "otlp write receiver needs to be enabled with --web.enable-otlp-receiver";
        return Refused::new(StatusCode::NOT_FOUND, reason).into_response();
    }
    let Some(encoding) = Encoding::of(&headers) else {
        let reason = "unsupported content type, expected application/x-protobuf or application/json";
        return Refused::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, reason).into_response();
    };
    let work = move |ingest: &Ingest, bytes: &[u8]| store(ingest, encoding, bytes);
    match ingest.take_in(&headers, body, work).await {
        Ok(partial) => encoding.success(partial),
        Err(refused) => encoding.refusal(refused),
    }
}

fn store(ingest: &Ingest, encoding: Encoding, bytes: &[u8]) -> Result<Option<PartialSuccess>, Refused> {
    let request = match encoding {
        Encoding::Protobuf => ExportRequest::from_protobuf(bytes),
        Encoding::Json => ExportRequest::from_json(bytes),
    };
    let request = request.map_err(Refused::bad)?;
    let config = ingest.otlp_config.load();
    let translated = {
        // A panic in between would leave totals without this request, which is as if it had not come.
        let mut totals = ingest.otlp.totals.lock().unwrap_or_else(PoisonError::into_inner);
        let rules = Rules {
            config: &config,
            delta: ingest.options.delta,
            zero_starts: ingest.options.zero_starts,
            lookback_ms: ingest.options.lookback_ms,
            now_ms: ingest.store.now_ms(),
            totals: &mut totals,
        };
        translate(&request, rules)
    };
    drop(request);
    let stored = ingest.store.append(Protocol::Otlp, translated.batch).map_err(|e: StoreError| Refused::later(e))?;
    ingest.store.count(Protocol::Otlp, 0, translated.n_refused);
    let rejected = (translated.n_refused + stored.refused()).min(translated.n_points);
    if rejected == 0 {
        return Ok(None);
    }
    let reasons: Vec<String> = [translated.reason.unwrap_or_default(), stored.reasons()].into();
    let reasons: Vec<String> = reasons.into_iter().filter(|r| !r.is_empty()).collect();
    let error_message = reasons.join("; ");
    tracing::debug!(rejected, error_message, "points of an OTLP request are not stored");
    let rejected_data_points = i64::try_from(rejected).unwrap_or(i64::MAX);
    Ok(Some(PartialSuccess { rejected_data_points, error_message }))
}

/// Translates a request in either encoding, if it is one, by all rules for differences.
pub(super) fn translate_any(bytes: &[u8], config: &promontory_config::OtlpConfig) {
    for request in [ExportRequest::from_protobuf(bytes).ok(), ExportRequest::from_json(bytes).ok()].iter().flatten() {
        let mut totals = Totals::default();
        for delta in [DeltaMode::Refuse, DeltaMode::AddUp, DeltaMode::Keep] {
            let totals = &mut totals;
            translate(request, Rules { config, delta, zero_starts: true, lookback_ms: 300_000, now_ms: 0, totals });
        }
    }
}

#[cfg(test)]
mod tests;
