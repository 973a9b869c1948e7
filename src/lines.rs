//! Parts of a line of Prometheus text or OpenMetrics: series, value, time.

use promontory_model::labels::{is_legacy_label_name, is_legacy_metric_name};
use promontory_model::{Labels, METRIC_NAME};

/// Milliseconds as seconds, with as many digits as they need.
///
/// Readers, Prometheus among them, multiply the number by 1000 and cut the rest off, which makes 1084004578.077 lose a
/// millisecond. A tenth of a millisecond more keeps such times whole, whether a reader cuts or rounds.
pub(crate) struct Seconds(pub(crate) i64);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (sign, ms) = (if self.0 < 0 { "-" } else { "" }, self.0.unsigned_abs());
        let (whole, rest) = (ms / 1000, ms % 1000);
        if rest == 0 {
            return write!(f, "{sign}{whole}");
        }
        // The quotient of two numbers that are exact is the float nearest to the text.
        let read = ms as f64 / 1000.0 * 1000.0;
        write!(f, "{sign}{whole}.{rest:03}{}", if read as u64 == ms { "" } else { "1" })
    }
}

/// `name{label="value"}`; names that need quotes stand inside the braces.
pub(crate) fn put_key(out: &mut String, labels: &Labels) {
    let name = labels.metric_name();
    let is_plain = is_legacy_metric_name(name);
    let mut separator = "{";
    if is_plain {
        out.push_str(name);
    } else if !name.is_empty() {
        out.push('{');
        put_quoted(out, name);
        separator = ",";
    }
    for (name, value) in labels.iter().filter(|(name, _)| *name != METRIC_NAME) {
        out.push_str(separator);
        separator = ",";
        if is_legacy_label_name(name) {
            out.push_str(name);
        } else {
            put_quoted(out, name);
        }
        out.push('=');
        put_quoted(out, value);
    }
    match (separator, name.is_empty()) {
        ("{", true) => out.push_str("{}"),
        ("{", false) => {}
        _ => out.push('}'),
    }
}

fn put_quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// The shortest digits that read back as the same bits; every NaN is `NaN`.
pub(crate) fn put_value(out: &mut String, v: f64) {
    if v.is_nan() {
        out.push_str("NaN");
    } else if v.is_infinite() {
        out.push_str(if v > 0.0 { "+Inf" } else { "-Inf" });
    } else {
        let mut buffer = zmij::Buffer::new();
        let text = buffer.format_finite(v);
        out.push_str(text.strip_suffix(".0").unwrap_or(text));
    }
}
