//! Which protocol is asked for and which one was sent.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::HeaderValue;
use promontory_config::scrape::{EscapingScheme, ScrapeConfig, ScrapeProtocol};

use crate::client::{Call, Connector, JobClient, Offer, Url};

/// Media type of protocol buffers with its parameters.
const PROTOBUF: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";

/// What a target has sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    Text,
    OpenMetrics,
    Protobuf,
}

/// Weight, in tenths, of the protocol wanted most.
const WEIGHT_MAX: usize = 6;

/// How the targets of `config` are asked. Where start times are wanted the protocol that tells them best comes first,
/// unless the job names others.
pub(super) fn job_client(config: &ScrapeConfig, wants_starts: bool, connector: Arc<dyn Connector>) -> JobClient {
    let own = config.scrape_protocols.as_slice();
    let protocols = if wants_starts && own == ScrapeProtocol::DEFAULT { &ScrapeProtocol::DEFAULT_NATIVE } else { own };
    let offer = Offer {
        accept: accept(protocols, config.metric_name_escaping),
        gzip: config.enable_compression,
        body_bytes_max: config.limits.body_bytes,
    };
    JobClient::new(config.http.clone(), offer, connector)
}

/// The request that scrapes `url`.
pub(super) fn call(url: &Url, timeout: Duration) -> Call {
    let mut call = Call::get(url.clone());
    if let Ok(seconds) = HeaderValue::from_str(&timeout.as_secs_f64().to_string()) {
        call.headers.insert("x-prometheus-scrape-timeout-seconds", seconds);
    }
    call
}

/// The header `Accept`.
fn accept(protocols: &[ScrapeProtocol], escaping: EscapingScheme) -> String {
    let mut out = String::new();
    let mut weight = WEIGHT_MAX;
    for protocol in protocols {
        let (media_type, escapes) = match protocol {
            ScrapeProtocol::PrometheusProto => (PROTOBUF, false),
            ScrapeProtocol::OpenMetricsText1_0_0 => ("application/openmetrics-text;version=1.0.0", true),
            ScrapeProtocol::OpenMetricsText0_0_1 => ("application/openmetrics-text;version=0.0.1", false),
            ScrapeProtocol::PrometheusText1_0_0 => ("text/plain;version=1.0.0", true),
            ScrapeProtocol::PrometheusText0_0_4 => ("text/plain;version=0.0.4", false),
        };
        out.push_str(media_type);
        if escapes {
            let _ = write!(out, ";escaping={}", escaping.as_str());
        }
        let _ = write!(out, ";q=0.{weight},");
        weight = weight.saturating_sub(1);
    }
    let _ = write!(out, "*/*;q=0.{weight}");
    out
}

/// A `Content-Type` that says nothing usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NegotiateError {
    #[error(
        "non-compliant scrape target sending blank Content-Type and no fallback_scrape_protocol specified for target"
    )]
    Blank,
    #[error("cannot parse Content-Type {0:?} and no fallback_scrape_protocol for target")]
    Malformed(String),
    #[error("received unsupported Content-Type {0:?} and no fallback_scrape_protocol specified for target")]
    Unsupported(String),
}

/// The protocol of a body with this `Content-Type`.
pub(crate) fn format_of(content_type: &str, fallback: Option<ScrapeProtocol>) -> Result<Sent, NegotiateError> {
    let fallback = fallback.map(|protocol| match protocol {
        ScrapeProtocol::PrometheusProto => Sent::Protobuf,
        ScrapeProtocol::OpenMetricsText1_0_0 | ScrapeProtocol::OpenMetricsText0_0_1 => Sent::OpenMetrics,
        ScrapeProtocol::PrometheusText1_0_0 | ScrapeProtocol::PrometheusText0_0_4 => Sent::Text,
    });
    if content_type.is_empty() {
        return fallback.ok_or(NegotiateError::Blank);
    }
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match media_type.as_str() {
        "application/openmetrics-text" => Ok(Sent::OpenMetrics),
        "text/plain" => Ok(Sent::Text),
        "application/vnd.google.protobuf" => Ok(Sent::Protobuf),
        other => fallback.ok_or_else(|| {
            let token = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
            if other.split_once('/').map_or_else(|| token(other), |(kind, sub)| token(kind) && token(sub)) {
                NegotiateError::Unsupported(content_type.to_owned())
            } else {
                NegotiateError::Malformed(content_type.to_owned())
            }
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_protocols_are_asked_for_as_prometheus_asks() {
        assert_eq!(
            accept(&ScrapeProtocol::DEFAULT, EscapingScheme::AllowUtf8),
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
        );
        assert_eq!(
            accept(&[ScrapeProtocol::PrometheusText1_0_0], EscapingScheme::Underscores),
            "text/plain;version=1.0.0;escaping=underscores;q=0.6,*/*;q=0.5"
        );
        let native = accept(&ScrapeProtocol::DEFAULT_NATIVE, EscapingScheme::AllowUtf8);
        assert!(
            native.starts_with(&format!("{PROTOBUF};q=0.6,application/openmetrics-text;version=1.0.0;")),
            "{native}"
        );
        assert!(native.ends_with("text/plain;version=0.0.4;q=0.2,*/*;q=0.1"), "{native}");
    }

    #[track_caller]
    fn check(content_type: &str, expected: &str) {
        let got = format_of(content_type, None).map_or_else(|e| e.to_string(), |f| format!("{f:?}"));
        assert_eq!(got, expected);
    }

    #[test]
    fn media_type_decides() {
        check("text/plain; version=0.0.4; charset=utf-8", "Text");
        check("text/plain", "Text");
        check("application/openmetrics-text; version=1.0.0", "OpenMetrics");
        check(&PROTOBUF.replace(';', "; "), "Protobuf");
        check(
            "",
            "non-compliant scrape target sending blank Content-Type and no fallback_scrape_protocol specified for target",
        );
        check(
            "application/json",
            "received unsupported Content-Type \"application/json\" and no fallback_scrape_protocol specified for target",
        );
        check("a b", "cannot parse Content-Type \"a b\" and no fallback_scrape_protocol for target");
        assert_eq!(format_of("a b", Some(ScrapeProtocol::PrometheusText0_0_4)), Ok(Sent::Text));
        assert_eq!(format_of("", Some(ScrapeProtocol::OpenMetricsText1_0_0)), Ok(Sent::OpenMetrics));
    }
}
