//! Targets, metadata and `/status/*`: what the server knows of itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use promontory_model::{Labels, MetricMetadata, Regex};
use promontory_promql::parser;
use serde_json::{Map, Value, json};

use super::Http;
use super::answer::{ApiError, ErrorType, json_response, success_value};
use super::backend::{ActiveTarget, BlockInfo, DroppedTarget};
use super::params::Params;

/// Entries per list of `/status/tsdb` when the request does not say.
const TSDB_LIMIT: usize = 10;
/// Most entries per list of `/status/tsdb`.
const TSDB_LIMIT_MAX: usize = 10_000;

fn labels(labels: &Labels) -> Value {
    Value::Object(labels.iter().map(|(n, v)| (n.to_owned(), Value::from(v))).collect::<Map<_, _>>())
}

/// RFC 3339; Go's zero time where there is none.
pub(crate) fn time(ms: Option<i64>) -> String {
    ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |t| t.to_string())
}

/// The answer that `make` gives, of a size that keeps a thread busy for a while.
async fn made(make: impl FnOnce() -> Result<Value, ApiError> + Send + 'static) -> Result<Response, ApiError> {
    let made = tokio::task::spawn_blocking(move || make().map(|value| success_value(&value))).await;
    made.unwrap_or_else(|e| Err(ApiError::new(ErrorType::Internal, format!("the answer could not be made: {e}"))))
}

/// `/api/v1/targets`.
pub(crate) async fn targets(State(http): State<Arc<Http>>, params: Params) -> Result<Response, ApiError> {
    made(move || Ok(shown_targets(&http, &params))).await
}

fn shown_targets(http: &Http, params: &Params) -> Value {
    let targets = http.backend.targets();
    let pool = params.get("scrapePool");
    let in_pool = |name: &str| pool.is_empty() || pool == name;
    let state = params.get("state").to_lowercase();
    let shows = |kind: &str| state.is_empty() || state == "any" || state == kind;
    let active: Vec<_> = match shows("active") {
        true => targets.active.iter().filter(|t| in_pool(&t.scrape_pool)).map(active_target).collect(),
        false => Vec::new(),
    };
    let mut dropped: Vec<Value> = Vec::new();
    let mut counts = Value::Null;
    if shows("dropped") {
        dropped = targets.dropped.iter().filter(|t| in_pool(&t.scrape_pool)).map(dropped_target).collect();
        counts = json!(targets.dropped_counts);
    }
    json!({"activeTargets": active, "droppedTargets": dropped, "droppedTargetCounts": counts})
}

fn active_target(t: &ActiveTarget) -> Value {
    json!({
        "discoveredLabels": labels(&t.discovered_labels),
        "labels": labels(&t.labels),
        "scrapePool": t.scrape_pool,
        "scrapeUrl": t.scrape_url,
        "globalUrl": t.global_url,
        "lastError": t.last_error,
        "lastScrape": time(t.last_scrape_ms),
        "lastScrapeDuration": t.last_scrape_seconds,
        "health": t.health.as_str(),
        "scrapeInterval": t.scrape_interval,
        "scrapeTimeout": t.scrape_timeout,
    })
}

fn dropped_target(t: &DroppedTarget) -> Value {
    json!({"discoveredLabels": labels(&t.discovered_labels), "scrapePool": t.scrape_pool})
}

/// `/api/v1/scrape_pools`.
pub(crate) async fn scrape_pools(State(http): State<Arc<Http>>) -> Response {
    success_value(&json!({"scrapePools": http.backend.scrape_pools()}))
}

fn no_such_pool(pool: &str) -> ApiError {
    ApiError::parameter("scrapePool", format_args!("there is no scrape pool {pool:?}"))
}

/// A parameter that must be there.
fn required<'a>(params: &'a Params, name: &str) -> Result<&'a str, ApiError> {
    match params.get(name) {
        "" => Err(ApiError::bad_data(format!("no {name} parameter provided"))),
        value => Ok(value),
    }
}

/// `/api/v1/scrape_pools/config`.
pub(crate) async fn scrape_pool_config(State(http): State<Arc<Http>>, params: Params) -> Result<Response, ApiError> {
    let pool = required(&params, "scrapePool")?;
    let yaml = http.backend.scrape_pool_yaml(pool).ok_or_else(|| no_such_pool(pool))?;
    Ok(success_value(&json!({ "yaml": yaml })))
}

/// `/api/v1/targets/relabel_steps`: what each rule of a job makes of `labels`, a JSON object of texts.
pub(crate) async fn relabel_steps(State(http): State<Arc<Http>>, params: Params) -> Result<Response, ApiError> {
    let pool = required(&params, "scrapePool")?;
    let text = required(&params, "labels")?;
    let pairs: BTreeMap<String, String> =
        serde_json::from_str(text).map_err(|e| ApiError::parameter("labels", format_args!("{e}")))?;
    let before = Labels::from_pairs(pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())));
    let steps = http.backend.relabel_steps(pool, &before).ok_or_else(|| no_such_pool(pool))?;
    let shown = steps.into_iter().map(|step| {
        let keep = step.output.is_some();
        json!({ "rule": step.rule, "output": labels(&step.output.unwrap_or_default()), "keep": keep })
    });
    Ok(success_value(&json!({ "steps": shown.collect::<Vec<_>>() })))
}

/// `/api/v1/metadata`.
pub(crate) async fn metadata(State(http): State<Arc<Http>>, params: Params) -> Result<Response, ApiError> {
    made(move || shown_metadata(&http, &params)).await
}

fn shown_metadata(http: &Http, params: &Params) -> Result<Value, ApiError> {
    let limit = |name| match params.get(name) {
        "" => Ok(usize::MAX),
        text => match text.parse::<i64>() {
            // Negative is no limit here, as in Prometheus.
            Ok(n) => Ok(usize::try_from(n).unwrap_or(usize::MAX)),
            Err(_) => Err(ApiError::bad_data("limit must be a number")),
        },
    };
    let (max, max_per_metric) = (limit("limit")?, limit("limit_per_metric")?);
    let max_per_metric = if max_per_metric == 0 { usize::MAX } else { max_per_metric };
    let metric = params.get("metric");
    let all = http.backend.metadata();
    let wanted = all.iter().filter(|(name, _)| metric.is_empty() || *name == metric);
    let found: Map<_, _> = wanted
        .take(max)
        .map(|(name, entries)| {
            let entries: Vec<_> = entries.iter().take(max_per_metric).map(metadata_entry).collect();
            (name.clone(), Value::from(entries))
        })
        .collect();
    Ok(Value::Object(found))
}

fn metadata_entry(m: &MetricMetadata) -> Value {
    json!({"type": m.kind.as_str(), "help": m.help, "unit": m.unit})
}

/// `/api/v1/targets/metadata`. As in Prometheus, `limit` is looked at before each target.
pub(crate) async fn targets_metadata(State(http): State<Arc<Http>>, params: Params) -> Result<Response, ApiError> {
    made(move || shown_targets_metadata(&http, &params)).await
}

fn shown_targets_metadata(http: &Http, params: &Params) -> Result<Value, ApiError> {
    let limit = match params.get("limit") {
        "" => usize::MAX,
        text => text.parse::<i64>().map_or_else(
            |_| Err(ApiError::bad_data("limit must be a number")),
            |n| Ok(usize::try_from(n).unwrap_or(usize::MAX)),
        )?,
    };
    let matchers = match params.get("match_target") {
        "" => Vec::new(),
        text => parser::parse_selector(text).map_err(|e| ApiError::bad_data(e.to_string()))?.matchers,
    };
    let metric = params.get("metric");
    let mut found = Vec::new();
    for target in http.backend.targets_metadata() {
        if found.len() >= limit {
            break;
        }
        if !matchers.iter().all(|m| m.matches_labels(&target.labels)) {
            continue;
        }
        let target_labels = labels(&target.labels);
        for (name, m) in target.families.iter().filter(|(name, _)| metric.is_empty() || name == metric) {
            let mut entry = json!({ "target": target_labels, "type": m.kind.as_str(), "help": m.help, "unit": m.unit });
            if metric.is_empty() {
                entry["metric"] = Value::from(name.as_str());
            }
            found.push(entry);
        }
    }
    Ok(Value::Array(found))
}

/// `/api/v1/rules`: there are none yet.
pub(crate) async fn rules(params: Params) -> Result<Response, ApiError> {
    match params.get("type").to_lowercase().as_str() {
        "" | "alert" | "record" => Ok(success_value(&json!({"groups": []}))),
        other => Err(ApiError::parameter("type", format_args!("not supported value {other:?}"))),
    }
}

/// `/api/v1/alerts`: there are none yet.
pub(crate) async fn alerts() -> Response {
    success_value(&json!({"alerts": []}))
}

/// `/api/v1/alertmanagers`: there are none yet.
pub(crate) async fn alertmanagers() -> Response {
    success_value(&json!({"activeAlertmanagers": [], "droppedAlertmanagers": []}))
}

/// `/api/v1/status/config`.
pub(crate) async fn config(State(http): State<Arc<Http>>) -> Response {
    success_value(&json!({"yaml": http.backend.config_yaml()}))
}

/// `/api/v1/status/flags`.
pub(crate) async fn flags(State(http): State<Arc<Http>>) -> Response {
    success_value(&json!(http.backend.flags()))
}

/// `/api/v1/status/buildinfo`.
pub(crate) async fn build_info(State(http): State<Arc<Http>>) -> Response {
    success_value(&build(&http))
}

/// `/version`: the same without an envelope.
pub(crate) async fn version(State(http): State<Arc<Http>>) -> Response {
    json_response(StatusCode::OK, build(&http).to_string())
}

/// `/api/v1/status/walreplay`: nothing is answered before the log has been replayed, so that all segments are.
pub(crate) async fn wal_replay(State(http): State<Arc<Http>>) -> Response {
    let last = http.backend.runtime_info().wal_segment;
    success_value(&json!({ "min": 0, "max": last, "current": last }))
}

fn build(http: &Http) -> Value {
    let info = http.backend.build_info();
    json!({
        "version": info.version,
        "revision": info.revision,
        "branch": info.branch,
        "buildUser": info.build_user,
        "buildDate": info.build_date,
        "goVersion": info.compiler,
    })
}

/// `/api/v1/status/runtimeinfo`.
pub(crate) async fn runtime_info(State(http): State<Arc<Http>>) -> Response {
    let info = http.backend.runtime_info();
    success_value(&json!({
        "startTime": time(Some(info.start_ms)),
        "CWD": info.cwd,
        "hostname": info.hostname,
        "serverTime": time(Some(http.clock.now().0)),
        "reloadConfigSuccess": info.reload_config_success,
        "lastConfigTime": time(Some(info.last_config_ms)),
        "corruptionCount": info.corruption_count,
        "goroutineCount": info.task_count,
        "GOMAXPROCS": info.parallelism,
        "GOMEMLIMIT": info.memory_limit_bytes,
        "GOGC": "",
        "GODEBUG": "",
        "storageRetention": info.storage_retention,
    }))
}

/// `/api/v1/status/tsdb`.
pub(crate) async fn tsdb(State(http): State<Arc<Http>>, params: Params) -> Result<Response, ApiError> {
    let limit = match params.get("limit") {
        "" => TSDB_LIMIT,
        text => match text.parse::<usize>() {
            Ok(n) if (1..=TSDB_LIMIT_MAX).contains(&n) => n,
            Ok(n) if n > TSDB_LIMIT_MAX => {
                return Err(ApiError::bad_data(format!("limit must not exceed {TSDB_LIMIT_MAX}")));
            }
            _ => return Err(ApiError::bad_data("limit must be a positive number")),
        },
    };
    let backend = http.backend.clone();
    let ran = http.run(http.options.query_timeout.ms(), move |_| Ok(backend.tsdb(limit))).await?;
    let status = ran.value;
    let list = |entries: &[(String, u64)]| -> Vec<Value> {
        entries.iter().take(limit).map(|(name, value)| json!({"name": name, "value": value})).collect()
    };
    Ok(success_value(&json!({
        "headStats": {
            "numSeries": status.num_series,
            "numLabelPairs": status.num_label_pairs,
            "chunkCount": status.chunk_count,
            "minTime": status.min_time_ms,
            "maxTime": status.max_time_ms,
        },
        "seriesCountByMetricName": list(&status.series_by_metric),
        "labelValueCountByLabelName": list(&status.values_by_label),
        "memoryInBytesByLabelName": list(&status.bytes_by_label),
        "seriesCountByLabelValuePair": list(&status.series_by_pair),
    })))
}

/// `/api/v1/status/tsdb/blocks`, each in the form of a block's `meta.json`.
pub(crate) async fn blocks(State(http): State<Arc<Http>>) -> Response {
    let block = |b: &BlockInfo| {
        json!({
            "ulid": b.ulid,
            "minTime": b.min_ms,
            // The first time behind it, as Prometheus has it.
            "maxTime": b.max_ms.saturating_add(1),
            "stats": {"numSamples": b.samples, "numSeries": b.series, "numChunks": b.chunks},
            "compaction": {"level": b.level, "sources": b.sources},
            "version": 1,
        })
    };
    let all: Vec<Value> = http.backend.blocks().iter().map(block).collect();
    success_value(&json!({ "blocks": all }))
}

/// `/api/v1/status/self_metrics`
pub(crate) async fn self_metrics(State(http): State<Arc<Http>>, params: Params) -> Result<Response, ApiError> {
    let name = "metric_name_pattern";
    let pattern = match params.get(name) {
        "" => None,
        text => Some(Regex::new(text).map_err(|e| ApiError::parameter(name, e))?),
    };
    let all = http.backend.self_metrics().into_iter();
    let wanted = all.filter(|(name, _)| pattern.as_ref().is_none_or(|p| p.is_match(name)));
    Ok(success_value(&wanted.map(|(_, family)| family).collect()))
}
