//! The group that a pushed exposition belongs to, as its address says: `/metrics/job/backup/instance/db1`.
//!
//! # Source
//! The Pushgateway's README: a name that ends in `@base64` has a value in base 64 for addresses, with or without
//! padding, and a single `=` for the empty text.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use promontory_model::Labels;
use promontory_model::labels::is_legacy_label_name;

/// What precedes the group.
const PREFIX: &str = "/metrics/";
const BASE64: &str = "@base64";

/// Labels of the group, among them `job`.
///
/// # Errors
/// What is wrong with the address.
pub(super) fn group(path: &str) -> Result<Labels, String> {
    let rest = path.strip_prefix(PREFIX).unwrap_or(path);
    let segments: Vec<&str> = rest.strip_suffix('/').unwrap_or(rest).split('/').collect();
    if !segments.len().is_multiple_of(2) {
        return Err(format!("odd number of components in label string {rest:?}"));
    }
    let mut pairs: Vec<(String, String)> = Vec::with_capacity(segments.len() / 2);
    for pair in segments.chunks_exact(2) {
        let (name, value) = (percent_decoded(pair[0])?, percent_decoded(pair[1])?);
        let (name, value) = match name.strip_suffix(BASE64) {
            Some(name) => (name.to_owned(), base64_decoded(&value)?),
            None => (name, value),
        };
        if !is_legacy_label_name(&name) || name.starts_with("__") {
            return Err(format!("improper label name {name:?}"));
        }
        if pairs.iter().any(|(n, _)| *n == name) {
            return Err(format!("label {name:?} is there twice"));
        }
        pairs.push((name, value));
    }
    if pairs.first().is_none_or(|(name, value)| name != "job" || value.is_empty()) {
        return Err("job name is required".to_owned());
    }
    Ok(Labels::from_pairs(pairs))
}

fn base64_decoded(text: &str) -> Result<String, String> {
    let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('='));
    let bytes = bytes.map_err(|e| format!("{text:?} is not base 64: {e}"))?;
    String::from_utf8(bytes).map_err(|_| format!("{text:?} is not UTF-8 in base 64"))
}

fn percent_decoded(text: &str) -> Result<String, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok()).filter(|_| *first == b'%');
        match hex.filter(|h| h.bytes().all(|b| b.is_ascii_hexdigit())).and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &after[2..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(out).map_err(|_| format!("{text:?} is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, expected: Result<&str, &str>) {
        let got = group(path).map(|labels| labels.to_string());
        assert_eq!(got.as_deref().map_err(String::as_str), expected, "{path}");
    }

    #[test]
    fn addresses_name_groups() {
        check("/metrics/job/some_job", Ok(r#"{job="some_job"}"#));
        check("/metrics/job/some_job/instance/a%20b/", Ok(r#"{instance="a b", job="some_job"}"#));
        check(
            "/metrics/job/directory_cleaner/path@base64/L3Zhci90bXA",
            Ok(r#"{job="directory_cleaner", path="/var/tmp"}"#),
        );
        check("/metrics/job@base64/YS9i", Ok(r#"{job="a/b"}"#));
        check("/metrics/job/t/name@base64/zqDPgc6_zrzOt864zrXPjc-C", Ok(r#"{job="t", name="Προμηθεύς"}"#));
        check("/metrics/job/t/first_label@base64/=/second_label/b", Ok(r#"{job="t", second_label="b"}"#));
        check("/metrics/job/t/a%2Fb/c", Err("improper label name \"a/b\""));
        check("/metrics/job/t/__a/c", Err("improper label name \"__a\""));
        check("/metrics/job/t/a/b/a/c", Err("label \"a\" is there twice"));
        check("/metrics/job/t/a", Err("odd number of components in label string \"job/t/a\""));
        check("/metrics/job//", Err("job name is required"));
        check("/metrics/a/b", Err("job name is required"));
        check("/metrics/job@base64/!", Err("\"!\" is not base 64: Invalid symbol 33, offset 0."));
    }
}
