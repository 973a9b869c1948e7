//! Schemas of the data in answers, in the JSON Schema of OpenAPI 3.1.

use serde_json::{Map, Value, json};

/// An object with these fields, all of which are there.
fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let required: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    let required = json!(required);
    let properties: Map<String, Value> = fields.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect();
    json!({"type": "object", "required": required, "properties": properties})
}

/// The same with more fields, which may be absent.
fn with(mut object: Value, optional: &[(&str, Value)]) -> Value {
    for (name, schema) in optional {
        object["properties"][*name] = schema.clone();
    }
    object
}

fn list(items: Value) -> Value {
    json!({"type": "array", "items": items})
}

fn map(values: Value) -> Value {
    json!({"type": "object", "additionalProperties": values})
}

fn number() -> Value {
    json!({"type": "number"})
}

fn integer() -> Value {
    json!({"type": "integer"})
}

fn boolean() -> Value {
    json!({"type": "boolean"})
}

pub(crate) fn anything() -> Value {
    json!({})
}

pub(crate) fn text() -> Value {
    json!({"type": "string"})
}

pub(crate) fn texts() -> Value {
    list(text())
}

pub(crate) fn text_map() -> Value {
    map(text())
}

pub(crate) fn label_sets() -> Value {
    list(text_map())
}

pub(crate) fn query() -> Value {
    let kinds = ["matrix", "vector", "scalar", "string"];
    let result = object([("resultType", json!({"type": "string", "enum": kinds})), ("result", list(anything()))]);
    with(result, &[("stats", json!({"type": "object"}))])
}

pub(crate) fn exemplars() -> Value {
    let exemplar = object([("labels", text_map()), ("value", text()), ("timestamp", number())]);
    list(object([("seriesLabels", text_map()), ("exemplars", list(exemplar))]))
}

fn metadata_entry() -> Value {
    object([("type", text()), ("help", text()), ("unit", text())])
}

pub(crate) fn metadata() -> Value {
    map(list(metadata_entry()))
}

pub(crate) fn targets() -> Value {
    let active = object([
        ("discoveredLabels", text_map()),
        ("labels", text_map()),
        ("scrapePool", text()),
        ("scrapeUrl", text()),
        ("globalUrl", text()),
        ("lastError", text()),
        ("lastScrape", text()),
        ("lastScrapeDuration", number()),
        ("health", json!({"type": "string", "enum": ["up", "down", "unknown"]})),
        ("scrapeInterval", text()),
        ("scrapeTimeout", text()),
    ]);
    let dropped = object([("discoveredLabels", text_map()), ("scrapePool", text())]);
    object([
        ("activeTargets", list(active)),
        ("droppedTargets", list(dropped)),
        ("droppedTargetCounts", json!({"type": ["object", "null"], "additionalProperties": integer()})),
    ])
}

pub(crate) fn targets_metadata() -> Value {
    let entry = object([("target", text_map()), ("type", text()), ("help", text()), ("unit", text())]);
    list(with(entry, &[("metric", text())]))
}

pub(crate) fn relabel_steps() -> Value {
    let step = object([("rule", json!({"type": "object"})), ("output", text_map()), ("keep", boolean())]);
    object([("steps", list(step))])
}

pub(crate) fn scrape_pools() -> Value {
    object([("scrapePools", texts())])
}

pub(crate) fn yaml() -> Value {
    object([("yaml", text())])
}

pub(crate) fn rules() -> Value {
    object([("groups", list(json!({"type": "object"})))])
}

pub(crate) fn alerts() -> Value {
    object([("alerts", list(json!({"type": "object"})))])
}

pub(crate) fn alertmanagers() -> Value {
    let urls = || list(object([("url", text())]));
    object([("activeAlertmanagers", urls()), ("droppedAlertmanagers", urls())])
}

pub(crate) fn build_info() -> Value {
    object([
        ("version", text()),
        ("revision", text()),
        ("branch", text()),
        ("buildUser", text()),
        ("buildDate", text()),
        ("goVersion", text()),
    ])
}

pub(crate) fn runtime_info() -> Value {
    object([
        ("startTime", text()),
        ("CWD", text()),
        ("hostname", text()),
        ("serverTime", text()),
        ("reloadConfigSuccess", boolean()),
        ("lastConfigTime", text()),
        ("corruptionCount", integer()),
        ("goroutineCount", integer()),
        ("GOMAXPROCS", integer()),
        ("GOMEMLIMIT", integer()),
        ("GOGC", text()),
        ("GODEBUG", text()),
        ("storageRetention", text()),
    ])
}

pub(crate) fn tsdb() -> Value {
    let head = object([
        ("numSeries", integer()),
        ("numLabelPairs", integer()),
        ("chunkCount", integer()),
        ("minTime", integer()),
        ("maxTime", integer()),
    ]);
    let counts = || list(object([("name", text()), ("value", integer())]));
    object([
        ("headStats", head),
        ("seriesCountByMetricName", counts()),
        ("labelValueCountByLabelName", counts()),
        ("memoryInBytesByLabelName", counts()),
        ("seriesCountByLabelValuePair", counts()),
    ])
}

pub(crate) fn blocks() -> Value {
    let stats = object([("numSamples", integer()), ("numSeries", integer()), ("numChunks", integer())]);
    let compaction = object([("level", integer()), ("sources", texts())]);
    let block = object([
        ("ulid", text()),
        ("minTime", integer()),
        ("maxTime", integer()),
        ("stats", stats),
        ("compaction", compaction),
        ("version", integer()),
    ]);
    object([("blocks", list(block))])
}

pub(crate) fn wal_replay() -> Value {
    object([("min", integer()), ("max", integer()), ("current", integer())])
}

pub(crate) fn self_metrics() -> Value {
    let kinds = ["COUNTER", "GAUGE", "SUMMARY", "UNTYPED", "HISTOGRAM", "GAUGE_HISTOGRAM"];
    let kind = json!({"type": "string", "enum": kinds});
    let family = object([("name", text()), ("type", kind), ("metric", list(json!({"type": "object"})))]);
    list(with(family, &[("help", text())]))
}

pub(crate) fn features() -> Value {
    map(map(boolean()))
}

pub(crate) fn notifications() -> Value {
    list(object([("text", text()), ("date", text()), ("active", boolean())]))
}

pub(crate) fn snapshot() -> Value {
    object([("name", text())])
}

pub(crate) fn imported() -> Value {
    object([
        ("samples", integer()),
        ("series", integer()),
        ("blocks", integer()),
        ("duplicates", integer()),
        ("conflicts", integer()),
    ])
}

/// The envelope of an answer with data.
pub(crate) fn envelope(data: Value) -> Value {
    let ok = object([("status", json!({"type": "string", "enum": ["success"]})), ("data", data)]);
    with(ok, &[("warnings", texts()), ("infos", texts())])
}

/// The envelope of a failure.
pub(crate) fn failure() -> Value {
    let status = json!({"type": "string", "enum": ["error"]});
    object([("status", status), ("errorType", text()), ("error", text())])
}

/// What of `value` is not as `schema` says, with its place.
#[cfg(test)]
pub(crate) fn violations(schema: &Value, value: &Value, place: &str) -> Vec<String> {
    let mut out = Vec::new();
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let is_kind = |name: &Value| name == kind || name == "number" && kind == "integer";
    let allowed = match &schema["type"] {
        Value::Null => true,
        Value::Array(names) => names.iter().any(is_kind),
        name => is_kind(name),
    };
    if !allowed {
        out.push(format!("{place}: {kind}, not {}", schema["type"]));
    }
    if let Some(names) = schema["enum"].as_array().filter(|names| !names.contains(value)) {
        out.push(format!("{place}: {value}, not one of {names:?}"));
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.get(name).is_none() {
            out.push(format!("{place}: lacks {name}"));
        }
    }
    for (name, inner) in value.as_object().into_iter().flatten() {
        match (schema["properties"].get(name), schema.get("additionalProperties")) {
            (Some(schema), _) | (None, Some(schema)) => {
                out.extend(violations(schema, inner, &format!("{place}.{name}")))
            }
            (None, None) if schema.get("properties").is_some() => out.push(format!("{place}: has {name}")),
            (None, None) => {}
        }
    }
    for (i, inner) in value.as_array().into_iter().flatten().enumerate() {
        out.extend(violations(&schema["items"], inner, &format!("{place}[{i}]")));
    }
    out
}
