//! The OpenAPI description of the API, made from the table of routes.

use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::answer::ApiError;
use super::params::Params;
use super::routes::{self, Answer, Endpoint, Methods};
use super::schema;

/// `/api/v1/openapi.yaml`
pub(crate) async fn yaml(params: Params) -> Result<Response, ApiError> {
    let mut text = String::new();
    put_yaml(&mut text, &description(version(&params)?), 0);
    Ok(([(header::CONTENT_TYPE, "application/yaml; charset=utf-8")], text).into_response())
}

/// `/api/v1/openapi.json`
pub(crate) async fn json(params: Params) -> Result<Response, ApiError> {
    let text = description(version(&params)?).to_string();
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

fn version(params: &Params) -> Result<&'static str, ApiError> {
    match params.get("openapi_version") {
        "" | "3.1" | "3.1.0" => Ok("3.1.0"),
        "3.2" | "3.2.0" => Ok("3.2.0"),
        other => Err(ApiError::parameter("openapi_version", format_args!("not supported value {other:?}"))),
    }
}

fn description(version: &str) -> Value {
    let mut paths = Map::new();
    for endpoint in routes::all() {
        let operations = endpoint.methods.names().iter().map(|m| ((*m).to_owned(), operation(&endpoint, m)));
        paths.insert(endpoint.path.to_owned(), Value::Object(operations.collect()));
    }
    json!({
        "openapi": version,
        "info": {
            "title": "Promontory",
            "summary": "The HTTP API of Prometheus 3.14 as Promontory serves it",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/api/v1"}],
        "paths": paths,
        "components": {"schemas": {"Error": schema::failure()}},
    })
}

fn operation(endpoint: &Endpoint, method: &str) -> Value {
    let words = endpoint.path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty());
    let id = format!("{method}_{}", words.collect::<Vec<_>>().join("_"));
    let mut out = json!({"operationId": id, "summary": endpoint.about, "tags": [endpoint.tag]});
    let has_form = method == "post" && endpoint.methods == Methods::GetPost;
    let mut parameters: Vec<Value> = Vec::new();
    if endpoint.path.contains("{name}") {
        let schema = json!({"type": "string"});
        parameters.push(json!({"name": "name", "in": "path", "required": true, "schema": schema}));
    }
    let mut form = Map::new();
    for param in endpoint.params {
        let schema = routes::param_schema(param.kind);
        if has_form {
            form.insert(param.name.to_owned(), schema);
        } else {
            parameters.push(json!({
                "name": param.name,
                "in": "query",
                "required": param.is_required,
                "description": param.about,
                "schema": schema,
            }));
        }
    }
    if !parameters.is_empty() {
        out["parameters"] = parameters.into();
    }
    if has_form {
        let required: Vec<&str> = endpoint.params.iter().filter(|p| p.is_required).map(|p| p.name).collect();
        let mut schema = json!({"type": "object", "properties": form});
        if !required.is_empty() {
            schema["required"] = required.into();
        }
        out["requestBody"] = json!({"content": {"application/x-www-form-urlencoded": {"schema": schema}}});
    }
    let error = json!({
        "description": "Failure",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    });
    let mut responses = Map::new();
    let nothing = || json!({"description": "Done"});
    let of_type = |media: &str, schema: Value| {
        let mut content = Map::new();
        content.insert(media.to_owned(), json!({"schema": schema}));
        json!({"description": "Success", "content": content})
    };
    let ok = |data: fn() -> Value| of_type("application/json", schema::envelope(data()));
    match endpoint.answer {
        Answer::Data(data) => {
            responses.insert("200".to_owned(), ok(data));
        }
        Answer::DataOrNothing(data) => {
            responses.insert("200".to_owned(), ok(data));
            responses.insert("204".to_owned(), nothing());
        }
        Answer::Nothing => {
            responses.insert("204".to_owned(), nothing());
        }
        Answer::Other(media) => {
            responses.insert("200".to_owned(), of_type(media, json!({})));
        }
    }
    responses.insert("default".to_owned(), error);
    out["responses"] = Value::Object(responses);
    out
}

/// Appends a value in block style.
fn put_yaml(out: &mut String, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, inner) in fields {
                out.push_str(&indent);
                out.push_str(&scalar(name));
                out.push(':');
                put_inner(out, inner, depth);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for inner in items {
                out.push_str(&indent);
                out.push('-');
                put_inner(out, inner, depth);
            }
        }
        other => {
            out.push_str(&other.to_string());
            out.push('\n');
        }
    }
}

fn put_inner(out: &mut String, inner: &Value, depth: usize) {
    let is_nested = inner.as_object().is_some_and(|o| !o.is_empty()) || inner.as_array().is_some_and(|a| !a.is_empty());
    if is_nested {
        out.push('\n');
        put_yaml(out, inner, depth + 1);
        return;
    }
    out.push(' ');
    match inner {
        Value::String(text) => out.push_str(&scalar(text)),
        other => out.push_str(&other.to_string()),
    }
    out.push('\n');
}

/// A text as it is where nothing else could be meant, else as in JSON, which is also YAML.
fn scalar(text: &str) -> String {
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_/ ".contains(c))
        && !text.ends_with(' ')
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&text.to_ascii_lowercase().as_str());
    if is_plain { text.to_owned() } else { Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_is_laid_out_in_blocks() {
        let mut out = String::new();
        let value = json!({"a": {"b": [1, {"c": "x: y"}], "d": [], "3": true}, "e": "true"});
        put_yaml(&mut out, &value, 0);
        assert_eq!(out, "a:\n  b:\n    - 1\n    -\n      c: \"x: y\"\n  d: []\n  \"3\": true\ne: \"true\"\n");
    }

    #[test]
    fn operations_have_unique_names() {
        let description = description("3.1.0");
        let mut ids = std::collections::BTreeSet::new();
        for path in description["paths"].as_object().unwrap().values() {
            for operation in path.as_object().unwrap().values() {
                assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{operation}");
            }
        }
        assert!(ids.len() > 40, "{ids:?}");
    }
}
