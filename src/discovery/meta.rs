//! Labels of found targets.

use promontory_config::TargetGroup;
use promontory_model::{Labels, LabelsBuilder};
use serde_json::Value;

/// Labels whose names begin alike.
#[derive(Debug, Clone)]
pub(super) struct Meta {
    prefix: &'static str,
    labels: LabelsBuilder,
}

impl Meta {
    /// No labels yet; names will begin with `prefix`, like `__meta_consul_`.
    pub(super) fn new(prefix: &'static str) -> Self {
        Self { prefix, labels: LabelsBuilder::new() }
    }

    /// Sets `<prefix><name>`; an empty value is none.
    pub(super) fn set(&mut self, name: &str, value: impl AsRef<str>) -> &mut Self {
        if !value.as_ref().is_empty() {
            self.labels.set(&format!("{}{name}", self.prefix), value.as_ref());
        }
        self
    }

    /// Sets `<prefix><name>` to `true` or `false`.
    pub(super) fn set_bool(&mut self, name: &str, value: bool) -> &mut Self {
        self.set(name, if value { "true" } else { "false" })
    }

    /// Sets a label with this whole name.
    pub(super) fn set_whole(&mut self, name: &str, value: &str) -> &mut Self {
        self.labels.set(name, value);
        self
    }

    /// Sets `<prefix><name>_<key>`, with what cannot be in a name made underscores.
    pub(super) fn set_under(&mut self, name: &str, key: &str, value: impl AsRef<str>) -> &mut Self {
        self.set(&format!("{name}_{}", clean(key)), value)
    }

    /// Sets each `<prefix><name>` to what is at the pointer of `item`.
    pub(super) fn set_all(&mut self, item: &Value, table: &[(&str, &str)]) -> &mut Self {
        for (name, pointer) in table {
            self.set(name, text_at(item, pointer));
        }
        self
    }

    /// Sets `<prefix><name>_<key>` for each text in the map at the pointer of `item`.
    pub(super) fn set_map(&mut self, name: &str, item: &Value, pointer: &str) -> &mut Self {
        for (key, value) in item.pointer(pointer).and_then(Value::as_object).into_iter().flatten() {
            self.set_under(name, key, text(value));
        }
        self
    }

    /// Adds all labels of `other`, which replace those of the same name.
    pub(super) fn add(&mut self, other: &Self) -> &mut Self {
        for (name, value) in other.labels.iter() {
            self.labels.set(name, value);
        }
        self
    }

    /// All labels.
    pub(super) fn build(&self) -> Labels {
        self.labels.build()
    }

    /// A group of one target.
    pub(super) fn target(&self, address: impl Into<String>) -> TargetGroup {
        TargetGroup { targets: vec![address.into()], labels: self.build() }
    }
}

/// `name` with everything but letters, digits and underscores made underscores.
pub(super) fn clean(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// The text, number or truth value at the pointer of `item`; else nothing.
pub(super) fn text_at(item: &Value, pointer: &str) -> String {
    item.pointer(pointer).map(text).unwrap_or_default()
}

/// A text, number or truth value as text; anything else is empty.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(_) | Value::Bool(_) => value.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => String::new(),
    }
}

/// The items of the list at the pointer of `item`; none where there is no list.
pub(super) fn items<'a>(item: &'a Value, pointer: &str) -> &'a [Value] {
    item.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The texts of the list at the pointer of `item`.
pub(super) fn texts(item: &Value, pointer: &str) -> Vec<String> {
    items(item, pointer).iter().map(text).collect()
}

/// `,a,b,`, so that each can be found between separators; nothing for nothing.
pub(super) fn wrapped(parts: &[String], separator: &str) -> String {
    if parts.is_empty() { String::new() } else { format!("{separator}{}{separator}", parts.join(separator)) }
}

/// `host:port`, with brackets where the host is an IPv6 address.
pub(super) fn join(host: &str, port: impl std::fmt::Display) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cleaned_and_empty_values_left_out() {
        let item = serde_json::json!({"a": 1, "b": {"c": true}, "m": {"x-y": "z", "e": "", "l": [1]}});
        let mut meta = Meta::new("__meta_t_");
        meta.set_all(&item, &[("a", "/a"), ("c", "/b/c"), ("none", "/d")]).set_map("m", &item, "/m").set("é", "v");
        assert_eq!(
            meta.build().to_string(),
            r#"{__meta_t_a="1", __meta_t_c="true", __meta_t_m_x_y="z", "__meta_t_é"="v"}"#
        );
        assert_eq!((clean("a.b/c-é"), join("::1", 5)), ("a_b_c__".to_owned(), "[::1]:5".to_owned()));
    }
}
