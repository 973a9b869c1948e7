//! Tolerant reading of JSON: a missing or oddly typed member is absent, never an error.

use serde_json::{Map, Value};

/// The member at a dotted path.
pub(crate) fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(value, |v, key| v.get(key)).filter(|v| !v.is_null())
}

/// Text at a path.
pub(crate) fn text<'a>(value: &'a Value, path: &str) -> Option<&'a str> {
    at(value, path)?.as_str()
}

/// Text at a path, owned; empty when absent.
pub(crate) fn string(value: &Value, path: &str) -> String {
    text(value, path).unwrap_or("").to_owned()
}

/// A finite number at a path; numbers in quotes count.
pub(crate) fn number(value: &Value, path: &str) -> Option<f64> {
    as_number(at(value, path)?)
}

/// A finite number; numbers in quotes count.
pub(crate) fn as_number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(n) => n.as_f64(),
        Value::String(s) => s.trim().parse().ok(),
        _ => None,
    }
    .filter(|v: &f64| v.is_finite())
}

/// A whole number at a path.
pub(crate) fn integer(value: &Value, path: &str) -> Option<i64> {
    number(value, path).filter(|v| v.abs() < 1e15).map(|v| v as i64)
}

/// A boolean at a path.
pub(crate) fn flag(value: &Value, path: &str) -> Option<bool> {
    at(value, path)?.as_bool()
}

/// The elements of an array at a path; none when it is not an array.
pub(crate) fn list<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    at(value, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Strings of an array at a path.
pub(crate) fn strings(value: &Value, path: &str) -> Vec<String> {
    list(value, path).iter().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

/// Text of a scalar, as written in a page.
pub(crate) fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(s) => Some(s.clone()),
        Value::Number(n) => Some(n.to_string()),
        Value::Bool(b) => Some(b.to_string()),
        _ => None,
    }
}

/// Sets the member at a dotted path, making objects on the way.
pub(crate) fn set(value: &mut Value, path: &str, new: Value) {
    let mut here = value;
    for key in path.split('.') {
        if !here.is_object() {
            *here = Value::Object(Map::new());
        }
        let Some(object) = here.as_object_mut() else { return };
        here = object.entry(key.to_owned()).or_insert(Value::Null);
    }
    *here = new;
}

/// Replaces every string below `value` by what `f` makes of it.
pub(crate) fn map_strings(value: &mut Value, f: &mut dyn FnMut(&str) -> Option<String>) {
    match value {
        Value::String(s) => {
            if let Some(new) = f(s) {
                *s = new;
            }
        }
        Value::Array(all) => all.iter_mut().for_each(|v| map_strings(v, f)),
        Value::Object(members) => members.values_mut().for_each(|v| map_strings(v, f)),
        _ => {}
    }
}
