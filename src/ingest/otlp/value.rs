//! Values of attributes as texts of labels.
//!
//! # Source
//! OpenTelemetry's "Attribute value to string" for protocols without types: numbers as JSON writes them, bytes in
//! base 64, lists and maps as JSON.

use std::borrow::Cow;

use base64::Engine as _;
use serde_json::{Map, Value};

use super::message::{AnyValue, KeyValue};

/// The text of a value.
pub(super) fn text(value: &AnyValue) -> Cow<'_, str> {
    if let Some(text) = &value.string_value {
        return Cow::Borrowed(text);
    }
    if let Some(v) = value.double_value {
        return Cow::Owned(float(v));
    }
    match json(value) {
        Value::String(text) => Cow::Owned(text),
        Value::Null => Cow::Borrowed(""),
        other => Cow::Owned(other.to_string()),
    }
}

/// As deep as the message is, whose depth is limited.
fn json(value: &AnyValue) -> Value {
    if let Some(text) = &value.string_value {
        text.as_str().into()
    } else if let Some(v) = value.bool_value {
        v.into()
    } else if let Some(v) = value.int_value {
        v.into()
    } else if let Some(v) = value.double_value {
        serde_json::Number::from_f64(v).map_or_else(|| float(v).into(), Value::Number)
    } else if let Some(list) = &value.array_value {
        list.values.iter().map(json).collect()
    } else if let Some(list) = &value.kvlist_value {
        let mut pairs: Vec<&KeyValue> = list.values.iter().collect();
        pairs.sort_by(|a, b| a.key.cmp(&b.key));
        let pair = |p: &KeyValue| (p.key.clone(), p.value.as_ref().map_or(Value::Null, json));
        Value::Object(pairs.into_iter().map(pair).collect::<Map<_, _>>())
    } else if let Some(bytes) = &value.bytes_value {
        base64::engine::general_purpose::STANDARD.encode(bytes).into()
    } else {
        Value::Null
    }
}

/// Shortest digits; with an exponent below 1e-6 and from 1e21 on, as in JSON of Go.
fn float(v: f64) -> String {
    if v.is_nan() {
        "NaN".to_owned()
    } else if v.is_infinite() {
        if v > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() }
    } else if v == 0.0 || (1e-6..1e21).contains(&v.abs()) {
        v.to_string()
    } else {
        let text = format!("{v:e}");
        if v.abs() >= 1.0 { text.replace('e', "e+") } else { text }
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::{ArrayValue, KeyValueList};
    use super::*;

    #[track_caller]
    fn check(value: AnyValue, expected: &str) {
        assert_eq!(text(&value), expected);
    }

    #[test]
    fn values_have_texts() {
        let none = AnyValue::default;
        let text = |t: &str| AnyValue { string_value: Some(t.to_owned()), ..none() };
        let float = |v| AnyValue { double_value: Some(v), ..none() };
        check(none(), "");
        check(text("a\"b"), "a\"b");
        check(AnyValue { bool_value: Some(true), ..none() }, "true");
        check(AnyValue { int_value: Some(-7), ..none() }, "-7");
        check(float(1.5), "1.5");
        check(float(200.0), "200");
        check(float(1e21), "1e+21");
        check(float(1.5e-7), "1.5e-7");
        check(float(f64::NAN), "NaN");
        check(AnyValue { bytes_value: Some(vec![1, 2]), ..none() }, "AQI=");
        let list = ArrayValue { values: vec![text("a"), float(2.0), none()] };
        check(AnyValue { array_value: Some(list), ..none() }, r#"["a",2.0,null]"#);
        let pair = |key: &str, value| KeyValue { key: key.to_owned(), value: Some(value) };
        let map =
            KeyValueList { values: vec![pair("b", text("x")), pair("a", AnyValue { int_value: Some(1), ..none() })] };
        check(AnyValue { kvlist_value: Some(map), ..none() }, r#"{"a":1,"b":"x"}"#);
    }
}
