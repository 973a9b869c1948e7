//! Every field of Prometheus' file: what the effective configuration says without it, and with it, or why it is
//! refused.

use super::*;

/// Where a field stands: the text around it.
#[derive(Clone, Copy)]
struct Place(&'static str);

const TOP: Place = Place("<>");
const GLOBAL: Place = Place("global:\n  <>\nscrape_configs:\n- job_name: a");
const JOB: Place = Place("scrape_configs:\n- job_name: a\n  <>");
const BASIC: Place = Place("scrape_configs:\n- job_name: a\n  basic_auth:\n    password: x\n    <>");
const AUTHORIZATION: Place = Place("scrape_configs:\n- job_name: a\n  authorization:\n    <>");
const TLS: Place = Place("scrape_configs:\n- job_name: a\n  tls_config:\n    server_name: s\n    <>");
const CERTIFICATE: Place = Place("scrape_configs:\n- job_name: a\n  tls_config:\n    cert_file: c\n    <>");
const OAUTH2: Place = Place("scrape_configs:\n- job_name: a\n  oauth2: {client_id: i, token_url: u<>}");
const JWT: Place = Place(
    "scrape_configs:\n- job_name: a\n  oauth2: {client_id: i, token_url: u, client_certificate_key_file: k, grant_type: \
     'urn:ietf:params:oauth:grant-type:jwt-bearer'<>}",
);
const PROXY: Place = Place("scrape_configs:\n- job_name: a\n  proxy_url: http://p:1\n  <>");
const RELABEL: Place = Place("scrape_configs:\n- job_name: a\n  relabel_configs:\n  - source_labels: [s]\n    <>");
const STATIC: Place = Place("scrape_configs:\n- job_name: a\n  static_configs:\n  - targets: [t]\n    <>");
const TSDB: Place = Place("storage:\n  tsdb:\n    <>");
const RETENTION: Place = Place("storage:\n  tsdb:\n    retention:\n      <>");

fn effective(place: Place, field: &str) -> String {
    let text = place.0.replace("<>", field);
    match parse_with_env(&text, Path::new("/etc/x.yml"), &env) {
        Ok(config) => config.to_yaml(),
        Err(errors) => {
            let all: Vec<_> = errors.0.iter().map(|e| format!("refused: {}", e.problem)).collect();
            all.join("\n")
        }
    }
}

/// `default` is a line of the effective configuration without the field, or nothing if nothing says it; `effect` a
/// line of the one with it. Lines of nested maps are joined by ` / `.
#[track_caller]
fn check(place: Place, field: &str, default: &str, effect: &str) {
    let without = effective(place, if place.0.contains("relabel_configs") { "target_label: t" } else { "" });
    let with = effective(place, field);
    let has = |text: &str, part: &str| {
        let lines: Vec<&str> = text.lines().map(|l| l.trim_start_matches([' ', '-'])).collect();
        let part: Vec<&str> = part.split(" / ").collect();
        lines.windows(part.len()).any(|w| w == part)
    };
    let name = field.split(':').next().unwrap();
    if default.is_empty() {
        assert!(!without.lines().any(|l| l.trim().starts_with(&format!("{name}:"))), "{name} is said:\n{without}");
    } else {
        assert!(has(&without, default), "{default:?} is not in\n{without}");
    }
    assert!(!has(&without, effect), "{effect:?} is said without {name}:\n{without}");
    assert!(has(&with, effect), "{effect:?} is not in\n{with}");
}

#[test]
fn fields_of_global() {
    check(GLOBAL, "scrape_interval: 7s", "scrape_interval: 1m", "scrape_interval: 7s");
    check(GLOBAL, "scrape_timeout: 7s", "scrape_timeout: 10s", "scrape_timeout: 7s");
    check(GLOBAL, "evaluation_interval: 7s", "evaluation_interval: 1m", "evaluation_interval: 7s");
    check(
        GLOBAL,
        "scrape_protocols: [PrometheusText0.0.4]",
        "scrape_protocols: / OpenMetricsText1.0.0 / OpenMetricsText0.0.1 / PrometheusText1.0.0 / PrometheusText0.0.4",
        "scrape_protocols: / PrometheusText0.0.4",
    );
    check(GLOBAL, "external_labels: {a: $REGION}", "", "external_labels: / a: eu-north-1");
    check(GLOBAL, "body_size_limit: 7MB", "", "body_size_limit: 7MB");
    check(GLOBAL, "sample_limit: 7", "", "sample_limit: 7");
    check(GLOBAL, "target_limit: 7", "", "target_limit: 7");
    check(GLOBAL, "label_limit: 7", "", "label_limit: 7");
    check(GLOBAL, "label_name_length_limit: 7", "", "label_name_length_limit: 7");
    check(GLOBAL, "label_value_length_limit: 7", "", "label_value_length_limit: 7");
    check(GLOBAL, "keep_dropped_targets: 7", "", "keep_dropped_targets: 7");
    let scheme = "metric_name_validation_scheme";
    check(GLOBAL, &format!("{scheme}: legacy"), &format!("{scheme}: utf8"), &format!("{scheme}: legacy"));
    let escaping = "metric_name_escaping_scheme";
    check(
        GLOBAL,
        &format!("{scheme}: legacy"),
        &format!("{escaping}: allow-utf-8"),
        &format!("{escaping}: underscores"),
    );
    check(GLOBAL, &format!("{escaping}: dots"), &format!("{escaping}: allow-utf-8"), &format!("{escaping}: dots"));
    check(GLOBAL, "extra_scrape_metrics: true", "extra_scrape_metrics: false", "extra_scrape_metrics: true");
    check(
        GLOBAL,
        "rule_query_offset: 7s",
        "",
        "refused: rule_query_offset is not supported: this server evaluates no rules",
    );
    check(
        GLOBAL,
        "query_log_file: f",
        "",
        "refused: query_log_file is not supported: queries are not logged to a file",
    );
    assert_eq!(effective(TOP, "runtime: {gogc: 7}"), effective(TOP, ""), "Go's settings are without effect");
}

#[test]
fn fields_of_a_job() {
    check(TOP, "scrape_configs: [{job_name: a}]", "", "job_name: a");
    check(TOP, "scrape_configs: [{}]", "", "refused: required field \"job_name\" is missing or empty");
    check(JOB, "scrape_interval: 7s", "scrape_interval: 1m", "scrape_interval: 7s");
    check(JOB, "scrape_timeout: 7s", "scrape_timeout: 10s", "scrape_timeout: 7s");
    check(JOB, "scrape_interval: 7s", "scrape_timeout: 10s", "scrape_timeout: 7s");
    check(JOB, "metrics_path: /m", "metrics_path: /metrics", "metrics_path: /m");
    check(JOB, "scheme: https", "scheme: http", "scheme: https");
    check(JOB, "params: {m: [a, b]}", "", "params: / m: / a / b");
    check(JOB, "honor_labels: true", "", "honor_labels: true");
    check(JOB, "honor_timestamps: false", "honor_timestamps: true", "honor_timestamps: false");
    let track = "track_timestamps_staleness";
    check(JOB, &format!("{track}: true"), &format!("{track}: false"), &format!("{track}: true"));
    check(JOB, "enable_compression: false", "enable_compression: true", "enable_compression: false");
    check(
        JOB,
        "scrape_protocols: [PrometheusText1.0.0, OpenMetricsText0.0.1]",
        "scrape_protocols: / OpenMetricsText1.0.0 / OpenMetricsText0.0.1 / PrometheusText1.0.0 / PrometheusText0.0.4",
        "scrape_protocols: / PrometheusText1.0.0 / OpenMetricsText0.0.1",
    );
    check(JOB, "fallback_scrape_protocol: PrometheusText0.0.4", "", "fallback_scrape_protocol: PrometheusText0.0.4");
    check(JOB, "body_size_limit: 7MB", "", "body_size_limit: 7MB");
    check(JOB, "sample_limit: 7", "", "sample_limit: 7");
    check(JOB, "target_limit: 7", "", "target_limit: 7");
    check(JOB, "label_limit: 7", "", "label_limit: 7");
    check(JOB, "label_name_length_limit: 7", "", "label_name_length_limit: 7");
    check(JOB, "label_value_length_limit: 7", "", "label_value_length_limit: 7");
    check(JOB, "keep_dropped_targets: 7", "", "keep_dropped_targets: 7");
    let scheme = "metric_name_validation_scheme";
    check(JOB, &format!("{scheme}: legacy"), &format!("{scheme}: utf8"), &format!("{scheme}: legacy"));
    let escaping = "metric_name_escaping_scheme";
    check(JOB, &format!("{escaping}: values"), &format!("{escaping}: allow-utf-8"), &format!("{escaping}: values"));
    check(JOB, "extra_scrape_metrics: true", "extra_scrape_metrics: false", "extra_scrape_metrics: true");
    for name in ["scrape_native_histograms", "convert_classic_histograms_to_nhcb", "always_scrape_classic_histograms"] {
        check(JOB, &format!("{name}: true"), &format!("{name}: false"), &format!("{name}: true"));
    }
    check(
        JOB,
        "scrape_native_histograms: true",
        "scrape_protocols: / OpenMetricsText1.0.0",
        "scrape_protocols: / PrometheusProto / OpenMetricsText1.0.0",
    );
    check(
        JOB,
        "scrape_protocols: [PrometheusProto]",
        "scrape_protocols: / OpenMetricsText1.0.0",
        "scrape_protocols: / PrometheusProto / metrics_path: /metrics",
    );
    check(JOB, "native_histogram_bucket_limit: 160", "", "native_histogram_bucket_limit: 160");
    check(JOB, "native_histogram_min_bucket_factor: 1.1", "", "native_histogram_min_bucket_factor: 1.1");
    check(JOB, "scrape_failure_log_file: f", "", {
        "refused: scrape_failure_log_file is not supported: failed scrapes are not logged to a file"
    });
    check(JOB, "metric_relabel_configs: [{target_label: t}]", "", "metric_relabel_configs: / separator: ;");
    check(JOB, "relabel_configs: [null]", "", "refused: expected a map of fields, found nothing");
    check(STATIC, "labels: {a: b}", "", "labels: / a: b");
    check(JOB, "static_configs: [{targets: [http://t]}]", "", {
        "refused: \"http://t\" is not a valid hostname; path and scheme are fields of the job"
    });
}

#[test]
fn fields_of_http_clients() {
    check(BASIC, "username: u", "", "username: u");
    check(BASIC, "username_file: u", "", "username_file: /etc/u");
    check(JOB, "basic_auth: {password: p}", "", "password: <secret>");
    check(JOB, "basic_auth: {password_file: p}", "", "password_file: /etc/p");
    check(AUTHORIZATION, "credentials: c", "", "type: Bearer / credentials: <secret>");
    check(AUTHORIZATION, "credentials_file: c", "", "credentials_file: /etc/c");
    check(AUTHORIZATION, "type: Token", "", "type: Token");
    let basic = "refused: authorization type cannot be set to \"basic\", use \"basic_auth\" instead";
    check(AUTHORIZATION, "type: Basic", "", basic);
    check(JOB, "bearer_token: t", "", "authorization: / type: Bearer / credentials: <secret>");
    check(JOB, "bearer_token_file: t", "", "authorization: / type: Bearer / credentials_file: /etc/t");
    check(JOB, "follow_redirects: false", "follow_redirects: true", "follow_redirects: false");
    check(JOB, "enable_http2: false", "enable_http2: true", "enable_http2: false");
    check(TLS, "ca: x", "", "ca: x");
    check(TLS, "ca_file: x", "", "ca_file: /etc/x");
    check(CERTIFICATE, "key: x", "", "cert_file: /etc/c / key: <secret>");
    check(CERTIFICATE, "key_file: x", "", "cert_file: /etc/c / key_file: /etc/x");
    check(JOB, "tls_config: {cert: x, key: y}", "", "cert: x / key: <secret>");
    check(JOB, "tls_config: {server_name: x}", "", "server_name: x");
    check(TLS, "insecure_skip_verify: true", "", "insecure_skip_verify: true");
    check(TLS, "min_version: TLS13", "", "min_version: TLS13");
    check(TLS, "max_version: TLS12", "", "max_version: TLS12");
    check(TLS, "min_version: TLS10", "", "refused: TLS below 1.2 is not supported: its ciphers are broken");
    check(JOB, "http_headers: {X: {values: [v], secrets: [s], files: [f]}}", "", {
        "http_headers: / X: / values: / v / secrets: / <secret> / files: / /etc/f"
    });
}

#[test]
fn fields_of_proxies() {
    check(JOB, "proxy_url: http://u:secret@p:1", "", "proxy_url: http://u:xxxxx@p:1");
    check(PROXY, "no_proxy: 'a,b'", "", "no_proxy: a,b");
    check(JOB, "proxy_from_environment: true", "", "proxy_from_environment: true");
    check(PROXY, "proxy_connect_header: {X: [s]}", "", "proxy_connect_header: / X: / <secret>");
    check(JOB, "no_proxy: a", "", "refused: if no_proxy is configured, proxy_url must also be configured");
}

#[test]
fn fields_of_oauth2() {
    let check = |place: Place, field: &str, effect: &str| {
        let printed = effective(place, &format!(", {field}"));
        let name = field.split(':').next().unwrap();
        assert!(!effective(place, "").contains(&format!("{name}:")), "{name}");
        let flat: Vec<_> = printed.lines().map(|l| l.trim_start_matches([' ', '-'])).collect();
        assert!(flat.join(" / ").contains(effect), "{effect:?} is not in\n{printed}");
    };
    assert!(effective(OAUTH2, "").contains("  oauth2:\n    client_id: i\n    token_url: u\n"));
    check(OAUTH2, "client_secret: s", "client_secret: <secret>");
    check(OAUTH2, "client_secret_file: s", "client_secret_file: /etc/s");
    check(OAUTH2, "scopes: [a, b]", "scopes: / a / b");
    check(OAUTH2, "endpoint_params: {a: b}", "endpoint_params: / a: b");
    check(OAUTH2, "tls_config: {server_name: s}", "tls_config: / server_name: s");
    check(OAUTH2, "proxy_url: http://p", "proxy_url: http://p");
    check(OAUTH2, "http_headers: {X: {values: [v]}}", "http_headers: / X: / values: / v");
    check(JWT, "client_certificate_key_id: k", "client_certificate_key_id: k");
    check(JWT, "iss: k", "iss: k");
    check(JWT, "audience: k", "audience: k");
    check(JWT, "claims: {a: b}", "claims: / a: b");
    let signed = effective(JWT, "");
    assert!(signed.contains("client_certificate_key_file: /etc/k") && signed.contains("signature_algorithm: RS256"));
    assert!(effective(JWT, ", signature_algorithm: RS512").contains("signature_algorithm: RS512"));
    assert!(effective(JWT, ", signature_algorithm: none").starts_with("refused: \"none\" is not one of RS256"));
    assert!(effective(OAUTH2, ", client_certificate_key: k").contains("refused: client_certificate_key is of grant"));
}

#[test]
fn fields_of_relabelling() {
    check(RELABEL, "target_label: u", "target_label: t", "target_label: u");
    let with = |field: &str| format!("target_label: t\n    {field}");
    let check = |field: &str, default: &str, effect: &str| {
        let printed = effective(RELABEL, &with(field));
        assert!(effective(RELABEL, "target_label: t").contains(default), "{default}");
        assert!(printed.contains(effect), "{effect:?} is not in\n{printed}");
    };
    check("separator: '-'", "separator: ;", "separator: '-'");
    check("regex: a.b", "regex: (.*)", "regex: a.b");
    check("replacement: x$1", "replacement: $1", "replacement: x$1");
    check("action: lowercase", "action: replace", "action: lowercase");
    check("{modulus: 7, action: hashmod}".trim_matches(['{', '}']).replace(", ", "\n    ").as_str(), "", "modulus: 7");
}

#[test]
fn fields_of_storage() {
    check(TSDB, "out_of_order_time_window: 7m", "", "out_of_order_time_window: 7m");
    check(RETENTION, "time: 7d", "", "time: 1w");
    check(RETENTION, "size: 7GB", "", "size: 7GB");
    check(RETENTION, "percentage: 7", "", "percentage: 7.0");
}

#[test]
fn sections_of_what_is_not_built_say_so() {
    let refused = |text: &str, why: &str| check(TOP, text, "", &format!("refused: {why}"));
    refused("rule_files: [r.yml]", "rule_files is not supported: this server evaluates no rules");
    refused("alerting: {alert_relabel_configs: [{target_label: t}]}", {
        "alerting is not supported: this server sends no alerts"
    });
    refused("remote_write: [{url: x}]", "remote_write is not supported: samples are not sent on");
    refused("remote_read: [{url: x}]", {
        "remote_read is not supported: samples are read from this server's own storage alone"
    });
    refused("tracing: {endpoint: x}", "tracing is not supported: this server sends no traces");
}

#[test]
fn fields_of_otlp() {
    const OTLP: Place = Place("otlp:\n  <>");
    check(OTLP, "translation_strategy: NoTranslation", "", "translation_strategy: NoTranslation");
    check(OTLP, "translation_strategy: No", "", {
        "refused: \"No\" is not one of UnderscoreEscapingWithSuffixes, UnderscoreEscapingWithoutSuffixes, \
         NoUTF8EscapingWithSuffixes, NoTranslation"
    });
    check(OTLP, "promote_resource_attributes: [a.b]", "", "promote_resource_attributes: / a.b");
    check(OTLP, "promote_resource_attributes: [a, a]", "", "refused: attribute \"a\" stands here twice");
    check(OTLP, "promote_resource_attributes: ['']", "", "refused: the name of an attribute is empty");
    check(OTLP, "promote_all_resource_attributes: true", "", "promote_all_resource_attributes: true");
    check(OTLP, "promote_resource_attributes: [a]\n  promote_all_resource_attributes: true", "", {
        "refused: promote_all_resource_attributes and promote_resource_attributes cannot be set together"
    });
    let ignored = "ignore_resource_attributes: [a]\n  promote_all_resource_attributes: true";
    check(OTLP, ignored, "", "ignore_resource_attributes: / a");
    check(OTLP, "ignore_resource_attributes: [a]", "", {
        "refused: ignore_resource_attributes has an effect with promote_all_resource_attributes alone"
    });
    let keep = "keep_identifying_resource_attributes: true";
    check(OTLP, keep, "", keep);
    check(OTLP, "convert_histograms_to_nhcb: true", "", "convert_histograms_to_nhcb: true");
    check(OTLP, "promote_scope_metadata: true", "", "promote_scope_metadata: true");
    let sanitize = "label_name_underscore_sanitization: false";
    check(OTLP, sanitize, "", sanitize);
    let preserve = "label_name_preserve_multiple_underscores: false";
    check(OTLP, preserve, "", preserve);
    const LEGACY: Place = Place("global: {metric_name_validation_scheme: legacy}\notlp:\n  <>");
    check(LEGACY, "translation_strategy: NoUTF8EscapingWithSuffixes", "", {
        "refused: NoUTF8EscapingWithSuffixes needs metric_name_validation_scheme utf8, which global sets to legacy"
    });
}

#[test]
fn fields_of_cardinality() {
    const CARDINALITY: Place = Place("cardinality:\n  <>");
    check(CARDINALITY, "series: 7", "", "series: 7");
    check(CARDINALITY, "series_per_metric: 7", "", "series_per_metric: 7");
    check(CARDINALITY, "series_per_job: 7", "", "series_per_job: 7");
    check(CARDINALITY, "series_per_scrape: 7", "", "series_per_scrape: 7");
    check(CARDINALITY, "jobs: {a: {series_per_job: 7}}", "", "jobs: / a: / series_per_job: 7 / series_per_scrape: 0");
    check(CARDINALITY, "jobs: {a: {series: 7}}", "", "refused: unknown field \"series\"");
}
