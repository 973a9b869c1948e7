//! Every field of Prometheus' file in a table: what the effective configuration says without it, and with it, or why it
//! is refused.

use std::collections::BTreeSet;

use super::*;

/// Where a field stands: the text around it.
#[derive(Clone, Copy)]
struct Place(&'static str);

const TOP: Place = Place("<>");
const GLOBAL: Place = Place("global:\n  <>\nscrape_configs:\n- job_name: a");
const JOB: Place = Place("scrape_configs:\n- job_name: a\n  <>");
const BASIC: Place = Place("scrape_configs:\n- job_name: a\n  basic_auth:\n    password: x\n    <>");
const USER: Place = Place("scrape_configs:\n- job_name: a\n  basic_auth:\n    username: x\n    <>");
const AUTHORIZATION: Place = Place("scrape_configs:\n- job_name: a\n  authorization:\n    <>");
const TLS: Place = Place("scrape_configs:\n- job_name: a\n  tls_config:\n    server_name: s\n    <>");
const CERTIFICATE: Place = Place("scrape_configs:\n- job_name: a\n  tls_config:\n    cert_file: c\n    <>");
const KEY: Place = Place("scrape_configs:\n- job_name: a\n  tls_config:\n    key: k\n    <>");
const OAUTH2: Place = Place("scrape_configs:\n- job_name: a\n  oauth2:\n    client_id: i\n    token_url: u\n    <>");
const JWT: Place = Place(
    "scrape_configs:\n- job_name: a\n  oauth2:\n    client_id: i\n    token_url: u\n    client_certificate_key_file: k\n    \
     grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer'\n    <>",
);
const PROXY: Place = Place("scrape_configs:\n- job_name: a\n  proxy_url: http://p:1\n  <>");
const RELABEL: Place =
    Place("scrape_configs:\n- job_name: a\n  relabel_configs:\n  - source_labels: [s]\n    target_label: t\n    <>");
const STATIC: Place = Place("scrape_configs:\n- job_name: a\n  static_configs:\n  - targets: [t]\n    <>");
const FILE: Place = Place("scrape_configs:\n- job_name: a\n  file_sd_configs:\n  - files: [f.json]\n    <>");
const EXEMPLARS: Place = Place("storage:\n  exemplars:\n    <>");
const TSDB: Place = Place("storage:\n  tsdb:\n    <>");
const RETENTION: Place = Place("storage:\n  tsdb:\n    retention:\n      <>");

/// A field with a value; a line of the effective configuration without it, or nothing if nothing says it; a line of the
/// one with it. Lines of nested maps are joined by ` / `.
type Row = (&'static str, &'static str, &'static str);

/// Fields of one kind of map, wherever such a map stands.
struct Table {
    places: &'static [Place],
    rows: &'static [Row],
    /// Names of all fields that Prometheus has there.
    all: &'static str,
}

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

#[track_caller]
fn check(place: Place, field: &str, default: &str, effect: &str) {
    let without = effective(place, "");
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

const FOUR_PROTOCOLS: &str =
    "scrape_protocols: / OpenMetricsText1.0.0 / OpenMetricsText0.0.1 / PrometheusText1.0.0 / PrometheusText0.0.4";

/// What jobs have of their own or from `global`.
const INHERITED: Table = Table {
    places: &[GLOBAL, JOB],
    rows: &[
        ("scrape_interval: 7s", "scrape_interval: 1m", "scrape_interval: 7s"),
        ("scrape_interval: 7s", "scrape_timeout: 10s", "scrape_timeout: 7s"),
        ("scrape_timeout: 7s", "scrape_timeout: 10s", "scrape_timeout: 7s"),
        (
            "scrape_protocols: [PrometheusText1.0.0, OpenMetricsText0.0.1]",
            FOUR_PROTOCOLS,
            "scrape_protocols: / PrometheusText1.0.0 / OpenMetricsText0.0.1",
        ),
        (
            "scrape_native_histograms: true",
            FOUR_PROTOCOLS,
            "scrape_protocols: / PrometheusProto / OpenMetricsText1.0.0 / OpenMetricsText0.0.1",
        ),
        ("scrape_native_histograms: true", "scrape_native_histograms: false", "scrape_native_histograms: true"),
        (
            "convert_classic_histograms_to_nhcb: true",
            "convert_classic_histograms_to_nhcb: false",
            "convert_classic_histograms_to_nhcb: true",
        ),
        (
            "always_scrape_classic_histograms: true",
            "always_scrape_classic_histograms: false",
            "always_scrape_classic_histograms: true",
        ),
        ("extra_scrape_metrics: true", "extra_scrape_metrics: false", "extra_scrape_metrics: true"),
        ("scrape_failure_log_file: f", "", "scrape_failure_log_file: /etc/f"),
        ("body_size_limit: 7MB", "", "body_size_limit: 7MB"),
        ("sample_limit: 7", "", "sample_limit: 7"),
        ("target_limit: 7", "", "target_limit: 7"),
        ("label_limit: 7", "", "label_limit: 7"),
        ("label_name_length_limit: 7", "", "label_name_length_limit: 7"),
        ("label_value_length_limit: 7", "", "label_value_length_limit: 7"),
        ("keep_dropped_targets: 7", "", "keep_dropped_targets: 7"),
        (
            "metric_name_validation_scheme: legacy",
            "metric_name_validation_scheme: utf8",
            "metric_name_validation_scheme: legacy",
        ),
        (
            "metric_name_validation_scheme: legacy",
            "metric_name_escaping_scheme: allow-utf-8",
            "metric_name_escaping_scheme: underscores",
        ),
        (
            "metric_name_escaping_scheme: dots",
            "metric_name_escaping_scheme: allow-utf-8",
            "metric_name_escaping_scheme: dots",
        ),
    ],
    all: "scrape_interval scrape_timeout scrape_protocols scrape_native_histograms convert_classic_histograms_to_nhcb \
          always_scrape_classic_histograms extra_scrape_metrics scrape_failure_log_file body_size_limit sample_limit \
          target_limit label_limit label_name_length_limit label_value_length_limit keep_dropped_targets \
          metric_name_validation_scheme metric_name_escaping_scheme",
};

const OF_GLOBAL: Table = Table {
    places: &[GLOBAL],
    rows: &[
        ("evaluation_interval: 7s", "evaluation_interval: 1m", "evaluation_interval: 7s"),
        ("external_labels: {a: $REGION}", "", "external_labels: / a: eu-north-1"),
        ("rule_query_offset: 7s", "", "refused: rule_query_offset is not supported: this server evaluates no rules"),
        ("query_log_file: f", "", "query_log_file: /etc/f"),
    ],
    all: "evaluation_interval external_labels rule_query_offset query_log_file",
};

const OF_JOB: Table = Table {
    places: &[JOB],
    rows: &[
        ("metrics_path: /m", "metrics_path: /metrics", "metrics_path: /m"),
        ("scheme: https", "scheme: http", "scheme: https"),
        ("params: {m: [a, b]}", "", "params: / m: / a / b"),
        ("honor_labels: true", "", "honor_labels: true"),
        ("honor_timestamps: false", "honor_timestamps: true", "honor_timestamps: false"),
        ("track_timestamps_staleness: true", "track_timestamps_staleness: false", "track_timestamps_staleness: true"),
        ("enable_compression: false", "enable_compression: true", "enable_compression: false"),
        ("fallback_scrape_protocol: PrometheusText0.0.4", "", "fallback_scrape_protocol: PrometheusText0.0.4"),
        ("native_histogram_bucket_limit: 160", "", "native_histogram_bucket_limit: 160"),
        ("native_histogram_min_bucket_factor: 1.1", "", "native_histogram_min_bucket_factor: 1.1"),
        ("relabel_configs: [{target_label: t}]", "", "relabel_configs: / separator: ;"),
        ("relabel_configs: [null]", "", "refused: expected a map of fields, found nothing"),
        ("metric_relabel_configs: [{target_label: t}]", "", "metric_relabel_configs: / separator: ;"),
        ("static_configs: [{targets: ['t:1']}]", "", "static_configs: / targets: / t:1"),
        (
            "static_configs: [{targets: [http://t]}]",
            "",
            "refused: \"http://t\" is not a valid hostname; path and scheme are fields of the job",
        ),
    ],
    all: "metrics_path scheme params honor_labels honor_timestamps track_timestamps_staleness enable_compression \
          fallback_scrape_protocol native_histogram_bucket_limit native_histogram_min_bucket_factor relabel_configs \
          metric_relabel_configs static_configs",
};

const OF_GROUPS: Table = Table { places: &[STATIC], rows: &[("labels: {a: b}", "", "labels: / a: b")], all: "labels" };

const OF_FILES: Table = Table {
    places: &[FILE],
    rows: &[("refresh_interval: 7s", "refresh_interval: 5m", "refresh_interval: 7s")],
    all: "refresh_interval",
};

const OF_CLIENTS: Table = Table {
    places: &[JOB],
    rows: &[
        ("basic_auth: {username: u}", "", "basic_auth: / username: u"),
        ("basic_auth: {password_file: p}", "", "password_file: /etc/p"),
        ("authorization: {credentials: c}", "", "authorization: / type: Bearer / credentials: <secret>"),
        ("bearer_token: t", "", "authorization: / type: Bearer / credentials: <secret>"),
        ("bearer_token_file: t", "", "authorization: / type: Bearer / credentials_file: /etc/t"),
        ("oauth2: {client_id: i, token_url: u}", "", "oauth2: / client_id: i / token_url: u"),
        ("follow_redirects: false", "follow_redirects: true", "follow_redirects: false"),
        ("enable_http2: false", "enable_http2: true", "enable_http2: false"),
        ("tls_config: {server_name: x}", "", "tls_config: / server_name: x"),
        ("proxy_url: http://u:secret@p:1", "", "proxy_url: http://u:xxxxx@p:1"),
        ("proxy_from_environment: true", "", "proxy_from_environment: true"),
        ("no_proxy: a", "", "refused: if no_proxy is configured, proxy_url must also be configured"),
        (
            "http_headers: {X: {values: [v], secrets: [s], files: [f]}}",
            "",
            "http_headers: / X: / values: / v / secrets: / <secret> / files: / /etc/f",
        ),
    ],
    all: "basic_auth authorization bearer_token bearer_token_file oauth2 follow_redirects enable_http2 tls_config \
          proxy_url proxy_from_environment no_proxy http_headers",
};

const OF_BASIC_AUTH: Table = Table {
    places: &[BASIC],
    rows: &[("username: u", "", "username: u"), ("username_file: u", "", "username_file: /etc/u")],
    all: "username username_file",
};

const OF_PASSWORDS: Table = Table {
    places: &[USER],
    rows: &[("password: p", "", "password: <secret>"), ("password_file: p", "", "password_file: /etc/p")],
    all: "password password_file",
};

const OF_AUTHORIZATION: Table = Table {
    places: &[AUTHORIZATION],
    rows: &[
        ("type: Token", "", "type: Token"),
        ("type: Basic", "", "refused: authorization type cannot be set to \"basic\", use \"basic_auth\" instead"),
        ("credentials: c", "", "type: Bearer / credentials: <secret>"),
        ("credentials_file: c", "", "credentials_file: /etc/c"),
    ],
    all: "type credentials credentials_file",
};

const OF_TLS: Table = Table {
    places: &[TLS],
    rows: &[
        ("ca: x", "", "ca: x"),
        ("ca_file: x", "", "ca_file: /etc/x"),
        ("insecure_skip_verify: true", "", "insecure_skip_verify: true"),
        ("min_version: TLS13", "", "min_version: TLS13"),
        ("min_version: TLS10", "", "refused: TLS below 1.2 is not supported: its ciphers are broken"),
        ("max_version: TLS12", "", "max_version: TLS12"),
    ],
    all: "ca ca_file insecure_skip_verify min_version max_version",
};

const OF_CERTIFICATES: Table = Table {
    places: &[CERTIFICATE],
    rows: &[
        ("key: x", "", "cert_file: /etc/c / key: <secret>"),
        ("key_file: x", "", "cert_file: /etc/c / key_file: /etc/x"),
    ],
    all: "key key_file",
};

const OF_KEYS: Table = Table {
    places: &[KEY],
    rows: &[("cert: x", "", "cert: x / key: <secret>"), ("cert_file: x", "", "cert_file: /etc/x / key: <secret>")],
    all: "cert cert_file",
};

const OF_PROXIES: Table = Table {
    places: &[PROXY],
    rows: &[
        ("no_proxy: 'a,b'", "", "no_proxy: a,b"),
        ("proxy_connect_header: {X: [s]}", "", "proxy_connect_header: / X: / <secret>"),
    ],
    all: "no_proxy proxy_connect_header",
};

const OF_OAUTH2: Table = Table {
    places: &[OAUTH2],
    rows: &[
        ("client_secret: s", "", "client_secret: <secret>"),
        ("client_secret_file: s", "", "client_secret_file: /etc/s"),
        ("scopes: [a, b]", "", "scopes: / a / b"),
        ("endpoint_params: {a: b}", "", "endpoint_params: / a: b"),
        ("tls_config: {server_name: s}", "", "tls_config: / server_name: s"),
        ("proxy_url: http://p", "", "proxy_url: http://p"),
        ("http_headers: {X: {values: [v]}}", "", "http_headers: / X: / values: / v"),
        ("client_certificate_key: k", "", {
            "refused: client_certificate_key is of grant type urn:ietf:params:oauth:grant-type:jwt-bearer only"
        }),
    ],
    all: "client_secret client_secret_file scopes endpoint_params tls_config proxy_url http_headers \
          client_certificate_key",
};

const OF_ASSERTIONS: Table = Table {
    places: &[JWT],
    rows: &[
        ("client_certificate_key_id: k", "", "client_certificate_key_id: k"),
        ("signature_algorithm: RS512", "signature_algorithm: RS256", "signature_algorithm: RS512"),
        ("signature_algorithm: none", "signature_algorithm: RS256", {
            "refused: \"none\" is not one of RS256, RS384, RS512"
        }),
        ("iss: k", "", "iss: k"),
        ("audience: k", "", "audience: k"),
        ("claims: {a: b}", "", "claims: / a: b"),
    ],
    all: "client_certificate_key_id signature_algorithm iss audience claims",
};

const OF_RELABELLING: Table = Table {
    places: &[RELABEL],
    rows: &[
        ("separator: '-'", "separator: ;", "separator: '-'"),
        ("regex: a.b", "regex: (.*)", "regex: a.b"),
        ("replacement: x$1", "replacement: $1", "replacement: x$1"),
        ("action: keep", "action: replace", "action: keep"),
    ],
    all: "separator regex replacement action",
};

const OF_TSDB: Table = Table {
    places: &[TSDB],
    rows: &[
        ("out_of_order_time_window: 7m", "", "out_of_order_time_window: 7m"),
        ("retention: {time: 7d}", "", "retention: / time: 1w"),
        ("stale_series_compaction_threshold: 0.5", "", {
            "refused: stale_series_compaction_threshold is not supported yet"
        }),
        ("chunk_encoding: {floats: xor}", "", "refused: chunk_encoding is not supported yet"),
    ],
    all: "out_of_order_time_window retention stale_series_compaction_threshold chunk_encoding",
};

const OF_RETENTION: Table = Table {
    places: &[RETENTION],
    rows: &[("time: 7d", "", "time: 1w"), ("size: 7GB", "", "size: 7GB"), ("percentage: 7", "", "percentage: 7.0")],
    all: "time size percentage",
};

const OF_EXEMPLARS: Table =
    Table { places: &[EXEMPLARS], rows: &[("max_exemplars: 7", "", "max_exemplars: 7")], all: "max_exemplars" };

const TABLES: &[Table] = &[
    INHERITED,
    OF_GLOBAL,
    OF_JOB,
    OF_GROUPS,
    OF_FILES,
    OF_CLIENTS,
    OF_BASIC_AUTH,
    OF_PASSWORDS,
    OF_AUTHORIZATION,
    OF_TLS,
    OF_CERTIFICATES,
    OF_KEYS,
    OF_PROXIES,
    OF_OAUTH2,
    OF_ASSERTIONS,
    OF_RELABELLING,
    OF_TSDB,
    OF_RETENTION,
    OF_EXEMPLARS,
];

#[test]
fn fields_have_their_defaults_and_effects() {
    for table in TABLES {
        for place in table.places {
            for (field, default, effect) in table.rows {
                check(*place, field, default, effect);
            }
        }
    }
}

#[test]
fn every_field_is_in_its_table() {
    for table in TABLES {
        let named: BTreeSet<_> = table.rows.iter().filter_map(|(field, ..)| field.split(':').next()).collect();
        assert_eq!(named, table.all.split_whitespace().collect(), "{}", table.places[0].0);
    }
}

#[test]
fn fields_without_which_there_is_no_entry() {
    check(TOP, "scrape_configs: [{job_name: a}]", "", "job_name: a");
    check(TOP, "scrape_configs: [{}]", "", "refused: required field \"job_name\" is missing or empty");
    check(JOB, "file_sd_configs: [{files: [f.json]}]", "", "file_sd_configs: / files: / /etc/f.json");
    check(JOB, "oauth2: {client_id: i}", "", "refused: required field \"token_url\" is missing or empty");
    check(JOB, "relabel_configs: [{source_labels: [a, b], target_label: t}]", "", "source_labels: / a / b");
    check(JOB, "relabel_configs: [{target_label: t, modulus: 7, action: hashmod}]", "", "modulus: 7");
    assert_eq!(effective(TOP, "runtime: {gogc: 7}"), effective(TOP, ""), "Go's settings are without effect");
}

#[test]
fn sections_of_what_is_not_built_say_so() {
    let refused = |text: &str, why: &str| check(TOP, text, "", &format!("refused: {why}"));
    refused("rule_files: [r.yml]", "rule_files is not supported: this server evaluates no rules");
    refused("alerting: {alert_relabel_configs: [{target_label: t}]}", {
        "alerting is not supported: this server sends no alerts"
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
fn fields_of_remote_write() {
    const REMOTE: Place = Place("remote_write:\n- url: http://h/w\n  <>");
    check(REMOTE, "name: a", "", "name: a");
    check(REMOTE, "remote_timeout: 7s", "remote_timeout: 30s", "remote_timeout: 7s");
    check(REMOTE, "remote_timeout: 0s", "remote_timeout: 30s", "refused: remote_timeout must be positive");
    let second = "protobuf_message: io.prometheus.write.v2.Request";
    check(REMOTE, second, "protobuf_message: prometheus.WriteRequest", second);
    check(REMOTE, "send_exemplars: true", "", "send_exemplars: true");
    check(REMOTE, "send_native_histograms: true", "", "send_native_histograms: true");
    check(REMOTE, "round_robin_dns: true", "", "round_robin_dns: true");
    check(REMOTE, "enable_http2: true", "enable_http2: false", "enable_http2: true");
    check(REMOTE, "headers: {X-A: b}", "", "http_headers: / X-A: / values: / b");
    check(REMOTE, "headers: {Host: b}", "", "refused: setting header \"Host\" is not allowed");
    check(REMOTE, "google_iam: {credentials_file: /k.json}", "", "google_iam: / credentials_file: /k.json");
    let one =
        "refused: at most one of basic_auth, authorization, oauth2, sigv4, azuread or google_iam must be configured";
    check(REMOTE, "basic_auth: {username: a}\n  google_iam: {credentials_file: /k.json}", "", one);
    const SIGV4: Place = Place("remote_write:\n- url: http://h/w\n  sigv4:\n    <>");
    check(SIGV4, "region: x", "", "region: x");
    check(SIGV4, "access_key: a\n    secret_key: b", "", "access_key: a / secret_key: <secret>");
    let both =
        "refused: must provide a AWS SigV4 Access key and Secret Key if credentials are specified in the SigV4 config";
    check(SIGV4, "access_key: a", "", both);
    check(SIGV4, "profile: p", "", "profile: p");
    check(SIGV4, "role_arn: r", "", "role_arn: r");
    check(SIGV4, "role_arn: r\n    external_id: e", "", "external_id: e");
    check(SIGV4, "external_id: e", "", "refused: external_id can only be used with role_arn");
    check(SIGV4, "use_fips_sts_endpoint: true", "", "use_fips_sts_endpoint: true");
    const AZURE: Place = Place("remote_write:\n- url: http://h/w\n  azuread:\n    <>");
    check(AZURE, "managed_identity: {client_id: i}", "", "managed_identity: / client_id: i");
    let oauth = "oauth: {client_id: i, client_secret: s, tenant_id: t}";
    check(AZURE, oauth, "", "oauth: / client_id: i / client_secret: <secret> / tenant_id: t");
    let without = "refused: required field \"client_secret\" is missing or empty";
    check(AZURE, "oauth: {client_id: i, tenant_id: t}", "", without);
    const CERTIFICATE: Place = Place(
        "remote_write:\n- url: http://h/w\n  azuread:\n    certificate:\n      client_id: i\n      tenant_id: t\n      <>",
    );
    let without = "refused: required field \"certificate_path\" is missing or empty";
    let given = "certificate_path: /c.pem\n      certificate_key_path: /k.pem\n      send_certificate_chain: true";
    let printed = "certificate_path: /c.pem / certificate_key_path: /k.pem / send_certificate_chain: true";
    check(CERTIFICATE, given, without, printed);
    let pkcs =
        "refused: certificate_password: files in PKCS#12 are not read; write one in PEM with openssl pkcs12 -nodes";
    check(CERTIFICATE, "certificate_path: c.pfx\n      certificate_password: x", without, pkcs);
    const QUEUE: Place = Place("remote_write:\n- url: http://h/w\n  queue_config:\n    <>");
    check(QUEUE, "capacity: 7", "capacity: 10000", "capacity: 7");
    check(QUEUE, "max_shards: 7", "max_shards: 50", "max_shards: 7");
    check(QUEUE, "min_shards: 7", "min_shards: 1", "min_shards: 7");
    check(QUEUE, "min_shards: 77", "min_shards: 1", "refused: min_shards must not be above max_shards");
    check(QUEUE, "max_samples_per_send: 7", "max_samples_per_send: 2000", "max_samples_per_send: 7");
    let why = "refused: max_samples_per_send must be from 1 to 1000000";
    check(QUEUE, "max_samples_per_send: 0", "max_samples_per_send: 2000", why);
    check(QUEUE, "batch_send_deadline: 7s", "batch_send_deadline: 5s", "batch_send_deadline: 7s");
    check(QUEUE, "min_backoff: 7ms", "min_backoff: 30ms", "min_backoff: 7ms");
    check(QUEUE, "max_backoff: 7s", "max_backoff: 5s", "max_backoff: 7s");
    check(QUEUE, "max_backoff: 7ms", "max_backoff: 5s", "refused: min_backoff must not be above max_backoff");
    check(QUEUE, "retry_on_http_429: true", "", "retry_on_http_429: true");
    check(QUEUE, "sample_age_limit: 7h", "", "sample_age_limit: 7h");
    const METADATA: Place = Place("remote_write:\n- url: http://h/w\n  metadata_config:\n    <>");
    check(METADATA, "send: false", "send: true", "send: false");
    check(METADATA, "send_interval: 7m", "send_interval: 1m", "send_interval: 7m");
    check(METADATA, "max_samples_per_send: 7", "max_samples_per_send: 2000", "max_samples_per_send: 7");
    let refused = |text: &str, why: &str| check(TOP, text, "", &format!("refused: {why}"));
    refused("remote_write: [{name: x}]", "required field \"url\" is missing or empty");
    refused("remote_write: [{url: x}]", "\"x\" is not a URL that begins with http:// or https:// and names a host");
    refused("remote_write: [{url: http://a, name: x}, {url: http://b, name: x}]", {
        "found multiple remote write configs with job name \"x\""
    });
}

#[test]
fn fields_of_remote_read() {
    const REMOTE: Place = Place("remote_read:\n- url: http://h/r\n  <>");
    check(REMOTE, "name: a", "", "name: a");
    check(REMOTE, "remote_timeout: 7s", "remote_timeout: 1m", "remote_timeout: 7s");
    check(REMOTE, "chunked_read_limit: 7", "chunked_read_limit: 50000000", "chunked_read_limit: 7");
    check(REMOTE, "read_recent: true", "read_recent: false", "read_recent: true");
    check(REMOTE, "required_matchers: {a: b}", "", "required_matchers: / a: b");
    let external = "filter_external_labels: false";
    check(REMOTE, external, "filter_external_labels: true", external);
    check(REMOTE, "enable_http2: false", "enable_http2: true", "enable_http2: false");
    check(REMOTE, "headers: {X-A: b}", "", "http_headers: / X-A: / values: / b");
    let refused = |text: &str, why: &str| check(TOP, text, "", &format!("refused: {why}"));
    refused("remote_read: [{name: x}]", "required field \"url\" is missing or empty");
    refused("remote_read: [{url: http://a, name: x}, {url: http://b, name: x}]", {
        "found multiple remote read configs with job name \"x\""
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
