//! The effective configuration as YAML: defaults filled in, secrets masked, fields in Prometheus' order.
//!
//! Fields that are off or empty are left out where Prometheus leaves them out.

use std::path::Path;

use promontory_model::Labels;
use serde_yaml::{Mapping, Value};

use crate::cardinality::CardinalityConfig;
use crate::discovery::{self, FileSdConfig, TargetGroup};
use crate::http_client::oauth2::{Grant, JWT_BEARER};
use crate::http_client::proxy::Via;
use crate::http_client::{
    Auth, HeaderValue, HttpClientConfig, HttpHeader, OAuth2, ProxyConfig, SECRET_MASK, Secret, Source, TlsConfig,
};
use crate::otlp::{OtlpConfig, Promotion};
use crate::relabel::RelabelConfig;
use crate::scrape::{EscapingScheme, HistogramModes, NameValidation, ScrapeConfig, ScrapeLimits, ScrapeProtocol};
use crate::storage::StorageConfig;
use crate::{Config, Global, remote};

pub(crate) fn to_yaml(config: &Config) -> String {
    let mut root = Map::default();
    root.put("global", global(&config.global));
    root.list("scrape_configs", config.scrape_configs.iter().map(job));
    root.map("storage", storage(&config.storage));
    root.map("otlp", otlp(&config.otlp));
    root.list("remote_write", config.remote_write.iter().map(|r| remote::print_write(r, relabel)));
    root.list("remote_read", config.remote_read.iter().map(remote::print_read));
    root.map("cardinality", cardinality(&config.cardinality));
    let mut dashboards = Map::default();
    dashboards.list("paths", config.dashboards.paths.iter().map(|p| path(p)));
    root.map("dashboards", dashboards);
    serde_yaml::to_string(&Value::from(root)).unwrap_or_default()
}

pub(crate) fn job_to_yaml(of: &ScrapeConfig) -> String {
    serde_yaml::to_string(&Value::from(job(of))).unwrap_or_default()
}

/// A map in the order in which it was filled.
#[derive(Default)]
pub(crate) struct Map(Mapping);

impl Map {
    pub(crate) fn put(&mut self, key: &str, value: impl Into<Value>) {
        self.0.insert(Value::from(key), value.into());
    }

    pub(crate) fn text(&mut self, key: &str, value: impl ToString) {
        self.put(key, value.to_string());
    }

    pub(crate) fn some(&mut self, key: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.put(key, value);
        }
    }

    /// A list, unless it is empty.
    pub(crate) fn list(&mut self, key: &str, values: impl IntoIterator<Item = impl Into<Value>>) {
        let values: Vec<Value> = values.into_iter().map(Into::into).collect();
        if !values.is_empty() {
            self.put(key, values);
        }
    }

    /// A map, unless it is empty.
    pub(crate) fn map(&mut self, key: &str, map: Self) {
        if !map.0.is_empty() {
            self.put(key, map);
        }
    }

    pub(crate) fn source<T>(&mut self, key: &str, source: Option<&Source<T>>, show: fn(&T) -> String) {
        match source {
            Some(Source::Inline(value)) => self.put(key, show(value)),
            Some(Source::File(file)) => self.put(&format!("{key}_file"), path(file)),
            None => {}
        }
    }
}

impl From<Map> for Value {
    fn from(map: Map) -> Self {
        Self::Mapping(map.0)
    }
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

fn mask(_: &Secret) -> String {
    SECRET_MASK.to_owned()
}

fn labels(labels: &Labels) -> Map {
    let mut map = Map::default();
    for (name, value) in labels {
        map.put(name, value);
    }
    map
}

fn protocols(list: &[ScrapeProtocol]) -> Vec<Value> {
    list.iter().map(|p| Value::from(p.as_str())).collect()
}

fn otlp(otlp: &OtlpConfig) -> Map {
    let default = OtlpConfig::default();
    let mut map = Map::default();
    match &otlp.promote {
        Promotion::These(names) => map.list("promote_resource_attributes", names.iter().map(String::as_str)),
        Promotion::AllBut(names) => {
            map.put("promote_all_resource_attributes", true);
            map.list("ignore_resource_attributes", names.iter().map(String::as_str));
        }
    }
    if otlp.translation != default.translation {
        map.put("translation_strategy", otlp.translation.as_str());
    }
    let mut flag = |key, value, default| {
        if value != default {
            map.put(key, value);
        }
    };
    flag("keep_identifying_resource_attributes", otlp.keep_identifying_attributes, false);
    flag("convert_histograms_to_nhcb", otlp.convert_histograms_to_nhcb, false);
    flag("promote_scope_metadata", otlp.promote_scope_metadata, false);
    flag("label_name_underscore_sanitization", otlp.sanitize_leading_underscore, default.sanitize_leading_underscore);
    flag("label_name_preserve_multiple_underscores", otlp.keep_multiple_underscores, default.keep_multiple_underscores);
    map
}

fn global(global: &Global) -> Map {
    let mut map = Map::default();
    map.text("scrape_interval", global.scrape_interval);
    map.text("scrape_timeout", global.scrape_timeout);
    let default = || ScrapeProtocol::defaults(global.histograms.native);
    map.put("scrape_protocols", protocols(&global.scrape_protocols.clone().unwrap_or_else(default)));
    map.text("evaluation_interval", global.evaluation_interval);
    map.map("external_labels", labels(&global.external_labels));
    limits(&mut map, &global.limits);
    if global.metric_name_validation != NameValidation::default() {
        map.put("metric_name_validation_scheme", global.metric_name_validation.as_str());
    }
    if global.metric_name_escaping != EscapingScheme::default() {
        map.put("metric_name_escaping_scheme", global.metric_name_escaping.as_str());
    }
    if global.histograms != HistogramModes::default() {
        histogram_modes(&mut map, global.histograms);
    }
    if global.extra_scrape_metrics {
        map.put("extra_scrape_metrics", true);
    }
    map.some("scrape_failure_log_file", global.scrape_failure_log_file.as_deref().map(path));
    map.some("query_log_file", global.query_log_file.as_deref().map(path));
    map
}

fn histogram_modes(map: &mut Map, modes: HistogramModes) {
    map.put("scrape_native_histograms", modes.native);
    map.put("always_scrape_classic_histograms", modes.always_classic);
    map.put("convert_classic_histograms_to_nhcb", modes.to_custom);
}

fn limits(map: &mut Map, limits: &ScrapeLimits) {
    map.some("body_size_limit", limits.body_bytes.map(print_bytes));
    map.some("sample_limit", limits.samples);
    map.some("target_limit", limits.targets);
    map.some("label_limit", limits.labels);
    map.some("label_name_length_limit", limits.label_name_bytes);
    map.some("label_value_length_limit", limits.label_value_bytes);
    map.some("keep_dropped_targets", limits.keep_dropped_targets);
}

/// A size as configurations write it, in the largest unit that divides it: `64MB` is 2^26 bytes.
#[must_use]
pub fn print_bytes(n: u64) -> String {
    let units = [("EB", 60), ("PB", 50), ("TB", 40), ("GB", 30), ("MB", 20), ("KB", 10)];
    units
        .iter()
        .find(|(_, shift)| n > 0 && n.is_multiple_of(1 << shift))
        .map_or_else(|| format!("{n}B"), |(unit, shift)| format!("{}{unit}", n >> shift))
}

fn job(job: &ScrapeConfig) -> Map {
    let mut map = Map::default();
    map.put("job_name", job.job_name.as_str());
    if job.honor_labels {
        map.put("honor_labels", true);
    }
    map.put("honor_timestamps", job.honor_timestamps);
    map.put("track_timestamps_staleness", job.track_timestamps_staleness);
    let mut params = Map::default();
    for (name, values) in &job.params {
        params.put(name, values.iter().map(|v| Value::from(v.as_str())).collect::<Vec<_>>());
    }
    map.map("params", params);
    map.text("scrape_interval", job.scrape_interval);
    map.text("scrape_timeout", job.scrape_timeout);
    map.put("scrape_protocols", protocols(&job.scrape_protocols));
    map.some("fallback_scrape_protocol", job.fallback_scrape_protocol.map(ScrapeProtocol::as_str));
    map.put("metrics_path", job.metrics_path.as_str());
    map.put("scheme", job.scheme.as_str());
    map.put("enable_compression", job.enable_compression);
    limits(&mut map, &job.limits);
    map.put("metric_name_validation_scheme", job.metric_name_validation.as_str());
    map.put("metric_name_escaping_scheme", job.metric_name_escaping.as_str());
    histogram_modes(&mut map, job.histograms);
    map.some("native_histogram_bucket_limit", job.native_histogram_bucket_limit);
    if job.native_histogram_min_bucket_factor > 0.0 {
        map.put("native_histogram_min_bucket_factor", job.native_histogram_min_bucket_factor);
    }
    map.put("extra_scrape_metrics", job.extra_scrape_metrics);
    map.some("scrape_failure_log_file", job.scrape_failure_log_file.as_deref().map(path));
    http_client(&mut map, &job.http);
    map.list("relabel_configs", job.relabel_configs.iter().map(relabel));
    map.list("metric_relabel_configs", job.metric_relabel_configs.iter().map(relabel));
    discovery::print(&job.discovery, &mut map);
    map
}

fn cardinality(config: &CardinalityConfig) -> Map {
    let mut map = Map::default();
    map.some("series", config.series);
    map.some("series_per_metric", config.series_per_metric);
    map.some("series_per_job", config.default.series_per_job);
    map.some("series_per_scrape", config.default.series_per_scrape);
    let mut jobs = Map::default();
    for (name, job) in &config.jobs {
        // Zero, which takes an inherited limit away, reads back as none.
        let mut own = Map::default();
        own.put("series_per_job", job.series_per_job.unwrap_or(0));
        own.put("series_per_scrape", job.series_per_scrape.unwrap_or(0));
        jobs.put(name, own);
    }
    map.map("jobs", jobs);
    map
}

pub(crate) fn http_client(map: &mut Map, http: &HttpClientConfig) {
    match &http.auth {
        Auth::None => {}
        Auth::Basic { username, password } => {
            let mut basic = Map::default();
            basic.source("username", username.as_ref(), String::clone);
            basic.source("password", password.as_ref(), mask);
            map.put("basic_auth", basic);
        }
        Auth::Authorization { kind, credentials } => {
            let mut authorization = Map::default();
            authorization.put("type", kind.as_str());
            authorization.source("credentials", credentials.as_ref(), mask);
            map.put("authorization", authorization);
        }
        Auth::OAuth2(of) => map.put("oauth2", oauth2(of)),
    }
    map.map("tls_config", tls(&http.tls));
    proxy(map, &http.proxy);
    map.put("follow_redirects", http.follow_redirects);
    map.put("enable_http2", http.enable_http2);
    http_headers(map, &http.headers);
}

fn http_headers(map: &mut Map, all: &[HttpHeader]) {
    let mut headers = Map::default();
    for h in all {
        headers.put(&h.name, header(h));
    }
    map.map("http_headers", headers);
}

fn proxy(map: &mut Map, proxy: &ProxyConfig) {
    match &proxy.via {
        Via::Nobody => {}
        Via::Environment => map.put("proxy_from_environment", true),
        Via::Proxy { proxy, except } => {
            map.text("proxy_url", proxy);
            map.some("no_proxy", except.as_deref());
        }
    }
    let mut headers = Map::default();
    for (name, values) in &proxy.connect_headers {
        headers.put(name, values.iter().map(|v| Value::from(mask(v))).collect::<Vec<_>>());
    }
    map.map("proxy_connect_header", headers);
}

fn oauth2(of: &OAuth2) -> Map {
    let mut map = Map::default();
    map.put("client_id", of.client_id.as_str());
    match &of.grant {
        Grant::ClientCredentials { secret } => map.source("client_secret", secret.as_ref(), mask),
        Grant::JwtBearer(bearer) => {
            map.put("grant_type", JWT_BEARER);
            map.source("client_certificate_key", Some(&bearer.key), mask);
            map.some("client_certificate_key_id", bearer.key_id.as_deref());
            map.put("signature_algorithm", bearer.algorithm.as_str());
            map.some("iss", bearer.iss.as_deref());
            map.some("audience", bearer.audience.as_deref());
            map.map("claims", pairs(&bearer.claims));
        }
    }
    map.list("scopes", of.scopes.iter().map(String::as_str));
    map.put("token_url", of.token_url.as_str());
    map.map("endpoint_params", pairs(&of.endpoint_params));
    map.map("tls_config", tls(&of.tls));
    proxy(&mut map, &of.proxy);
    http_headers(&mut map, &of.headers);
    map
}

fn pairs(pairs: &[(String, String)]) -> Map {
    let mut map = Map::default();
    for (name, value) in pairs {
        map.put(name, value.as_str());
    }
    map
}

fn header(header: &HttpHeader) -> Map {
    let mut map = Map::default();
    let pick = |choose: fn(&HeaderValue) -> Option<String>| header.values.iter().filter_map(choose).collect::<Vec<_>>();
    map.list("values", pick(|v| if let HeaderValue::Plain(text) = v { Some(text.clone()) } else { None }));
    map.list("secrets", pick(|v| if let HeaderValue::Secret(secret) = v { Some(mask(secret)) } else { None }));
    map.list("files", pick(|v| if let HeaderValue::File(file) = v { Some(path(file)) } else { None }));
    map
}

fn tls(tls: &TlsConfig) -> Map {
    let mut map = Map::default();
    map.source("ca", tls.ca.as_ref(), String::clone);
    map.source("cert", tls.cert.as_ref(), String::clone);
    map.source("key", tls.key.as_ref(), mask);
    map.some("server_name", tls.server_name.as_deref());
    map.some("min_version", tls.min_version.map(|v| v.as_str()));
    map.some("max_version", tls.max_version.map(|v| v.as_str()));
    if tls.insecure_skip_verify {
        map.put("insecure_skip_verify", true);
    }
    map
}

fn relabel(rule: &RelabelConfig) -> Map {
    let mut map = Map::default();
    map.list("source_labels", rule.source_labels.iter().map(String::as_str));
    map.put("separator", rule.separator.as_str());
    map.put("regex", rule.regex.pattern());
    if rule.modulus > 0 {
        map.put("modulus", rule.modulus);
    }
    if !rule.target_label.is_empty() {
        map.put("target_label", rule.target_label.as_str());
    }
    map.put("replacement", rule.replacement.as_str());
    map.put("action", rule.action.as_str());
    map
}

pub(crate) fn group(group: &TargetGroup) -> Map {
    let mut map = Map::default();
    map.put("targets", group.targets.iter().map(|t| Value::from(t.as_str())).collect::<Vec<_>>());
    map.map("labels", labels(&group.labels));
    map
}

pub(crate) fn file_sd(file: &FileSdConfig) -> Map {
    let mut map = Map::default();
    map.list("files", file.files.iter().map(|f| path(f)));
    map.text("refresh_interval", file.refresh_interval);
    map
}

fn storage(storage: &StorageConfig) -> Map {
    let mut tsdb = Map::default();
    tsdb.some("out_of_order_time_window", storage.out_of_order_window.map(|d| d.to_string()));
    let mut retention = Map::default();
    retention.some("time", storage.retention_time.map(|d| d.to_string()));
    retention.some("size", storage.retention_bytes.map(print_bytes));
    retention.some("percentage", storage.retention_percent);
    tsdb.map("retention", retention);
    let mut map = Map::default();
    map.map("tsdb", tsdb);
    let mut exemplars = Map::default();
    exemplars.some("max_exemplars", storage.exemplars_max);
    map.map("exemplars", exemplars);
    map
}
