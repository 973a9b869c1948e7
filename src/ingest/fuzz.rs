//! What holds for any bytes that senders may send, for the fuzz targets.

use promontory_config::OtlpConfig;
use promontory_config::otlp::{Promotion, Translation};

use super::{influx, otlp};

/// A line is read or refused.
pub fn influx_line(text: &str) {
    influx::read_lines(text);
}

/// A request is refused, or becomes samples by all rules.
pub fn otlp(bytes: &[u8]) {
    let all = OtlpConfig {
        translation: Translation::Unchanged,
        promote: Promotion::AllBut(Vec::new()),
        convert_histograms_to_nhcb: true,
        promote_scope_metadata: true,
        ..OtlpConfig::default()
    };
    for config in [OtlpConfig::default(), all] {
        otlp::translate_any(bytes, &config);
    }
}
