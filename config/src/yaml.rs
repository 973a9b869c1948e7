//! YAML text to a tree of nodes that keeps what Go's YAML library would see: the text of every scalar beside what it
//! resolves to, duplicate keys as errors, merge keys applied.
//!
//! The library gives positions only in its errors. So nodes are numbered in the order of the text, and the position of
//! a node is found by reading the text again with a visitor that fails at this number. Only errors need positions, and
//! they are few.

use std::fmt;

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::error::{Position, Problem};

/// Number of a node or key in the order of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeId(u32);

impl NodeId {
    /// The whole document.
    pub(crate) const ROOT: Self = Self(0);
}

/// A value with its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) kind: Kind,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    /// Nothing, `~` or `null`.
    Null,
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A text and what it stands for when it is not quoted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scalar {
    /// As written, quotes and escapes undone.
    pub(crate) text: String,
    pub(crate) resolved: Resolved,
}

/// What YAML takes a scalar for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Resolved {
    Bool(bool),
    Number,
    Text,
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_id: NodeId,
    pub(crate) value: Node,
}

impl Node {
    /// What stands here, for errors.
    pub(crate) fn describe(&self) -> String {
        match &self.kind {
            Kind::Null => "nothing".to_owned(),
            Kind::Scalar(s) => format!("{:?}", s.text),
            Kind::List(_) => "a list".to_owned(),
            Kind::Map(_) => "a map".to_owned(),
        }
    }

    /// Whether nothing is configured here: null, an empty text, list or map.
    pub(crate) fn is_empty(&self) -> bool {
        match &self.kind {
            Kind::Null => true,
            Kind::Scalar(s) => s.text.is_empty(),
            Kind::List(items) => items.is_empty(),
            Kind::Map(entries) => entries.is_empty(),
        }
    }

    /// The value under `key`, when this is a map that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find(|e| e.key == key).map(|e| &e.value),
            _ => None,
        }
    }
}

/// The document, and what is wrong with its keys.
pub(crate) struct Document {
    pub(crate) root: Node,
    pub(crate) problems: Vec<(NodeId, Problem)>,
}

/// Reads `text`; a text without content is an empty map.
pub(crate) fn parse(text: &str) -> Result<Document, (Option<Position>, Problem)> {
    let has_content = text.lines().any(|line| {
        let line = line.trim();
        !(line.is_empty() || line.starts_with('#') || line == "---")
    });
    if !has_content {
        let root = Node { id: NodeId::ROOT, kind: Kind::Map(Vec::new()) };
        return Ok(Document { root, problems: Vec::new() });
    }
    let mut root = Shape { next: &mut 0, stop: None }
        .deserialize(serde_yaml::Deserializer::from_str(text))
        .map_err(|e| syntax(&e))?;
    Texts(&mut root).deserialize(serde_yaml::Deserializer::from_str(text)).map_err(|e| syntax(&e))?;
    let mut problems = Vec::new();
    settle_keys(&mut root, &mut problems);
    Ok(Document { root, problems })
}

/// The place of `id` in `text`.
pub(crate) fn locate(text: &str, id: NodeId) -> Option<Position> {
    let stop = Shape { next: &mut 0, stop: Some(id.0) }.deserialize(serde_yaml::Deserializer::from_str(text));
    stop.err().and_then(|e| position(&e))
}

/// Whether the scalar `id` of `text` stands in quotes, which the library does not tell.
pub(crate) fn is_quoted(text: &str, id: NodeId) -> bool {
    let Some(Position { line, column }) = locate(text, id) else { return false };
    let line = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    matches!(line.chars().nth(column.saturating_sub(1)), Some('"' | '\''))
}

fn position(e: &serde_yaml::Error) -> Option<Position> {
    e.location().map(|l| Position { line: l.line(), column: l.column() })
}

fn syntax(e: &serde_yaml::Error) -> (Option<Position>, Problem) {
    let position = position(e);
    let mut message = e.to_string();
    if let Some(Position { line, column }) = position {
        message = message.replacen(&format!(" at line {line} column {column}"), "", 1);
    }
    (position, Problem::Syntax(message))
}

/// Builds the tree without the texts of scalars that resolve to something else; fails at the node `stop`.
struct Shape<'a> {
    next: &'a mut u32,
    stop: Option<u32>,
}

impl Shape<'_> {
    fn number<E: serde::de::Error>(&mut self) -> Result<NodeId, E> {
        let id = *self.next;
        *self.next += 1;
        if self.stop == Some(id) {
            return Err(E::custom("here"));
        }
        Ok(NodeId(id))
    }

    fn child(&mut self) -> Shape<'_> {
        Shape { next: self.next, stop: self.stop }
    }

    fn scalar<E: serde::de::Error>(mut self, text: &str, resolved: Resolved) -> Result<Node, E> {
        let id = self.number()?;
        Ok(Node { id, kind: Kind::Scalar(Scalar { text: text.to_owned(), resolved }) })
    }
}

impl<'de> DeserializeSeed<'de> for Shape<'_> {
    type Value = Node;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Shape<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: serde::de::Error>(mut self) -> Result<Node, E> {
        Ok(Node { id: self.number()?, kind: Kind::Null })
    }

    fn visit_bool<E: serde::de::Error>(self, v: bool) -> Result<Node, E> {
        self.scalar("", Resolved::Bool(v))
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<Node, E> {
        self.scalar("", Resolved::Number)
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<Node, E> {
        self.scalar("", Resolved::Number)
    }

    fn visit_u128<E: serde::de::Error>(self, _: u128) -> Result<Node, E> {
        self.scalar("", Resolved::Number)
    }

    fn visit_i128<E: serde::de::Error>(self, _: i128) -> Result<Node, E> {
        self.scalar("", Resolved::Number)
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Node, E> {
        self.scalar("", Resolved::Number)
    }

    fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<Node, E> {
        self.scalar(v, Resolved::Text)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Node, A::Error> {
        let id = self.number()?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self.child())? {
            items.push(item);
        }
        Ok(Node { id, kind: Kind::List(items) })
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Node, A::Error> {
        let id = self.number()?;
        let mut entries = Vec::new();
        while let Some((key, key_id)) = map.next_key_seed(Key(self.child()))? {
            let value = map.next_value_seed(self.child())?;
            entries.push(Entry { key, key_id, value });
        }
        Ok(Node { id, kind: Kind::Map(entries) })
    }

    fn visit_enum<A: serde::de::EnumAccess<'de>>(self, _: A) -> Result<Node, A::Error> {
        Err(A::Error::custom("local tags (!name) have no meaning here"))
    }
}

/// Reads a key as text, whatever it looks like.
struct Key<'a>(Shape<'a>);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = (String, NodeId);

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = (String, NodeId);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text as key")
    }

    fn visit_str<E: serde::de::Error>(mut self, v: &str) -> Result<Self::Value, E> {
        Ok((v.to_owned(), self.0.number()?))
    }
}

/// Fills the texts of scalars into a tree of known shape.
struct Texts<'a>(&'a mut Node);

impl<'de> DeserializeSeed<'de> for Texts<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.0.kind {
            Kind::Null => deserializer.deserialize_ignored_any(IgnoredAny).map(|_| ()),
            Kind::Scalar(_) => deserializer.deserialize_str(self),
            Kind::List(_) => deserializer.deserialize_seq(self),
            Kind::Map(_) => deserializer.deserialize_map(self),
        }
    }
}

impl<'de> Visitor<'de> for Texts<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the same value as before")
    }

    fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<(), E> {
        if let Kind::Scalar(scalar) = &mut self.0.kind {
            v.clone_into(&mut scalar.text);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        if let Kind::List(items) = &mut self.0.kind {
            for item in items {
                seq.next_element_seed(Texts(item))?;
            }
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if let Kind::Map(entries) = &mut self.0.kind {
            for entry in entries {
                map.next_key::<IgnoredAny>()?;
                map.next_value_seed(Texts(&mut entry.value))?;
            }
        }
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

/// Applies merge keys and reports keys that come twice. A key of the map itself wins over merged ones.
fn settle_keys(node: &mut Node, problems: &mut Vec<(NodeId, Problem)>) {
    match &mut node.kind {
        Kind::Null | Kind::Scalar(_) => {}
        Kind::List(items) => items.iter_mut().for_each(|item| settle_keys(item, problems)),
        Kind::Map(entries) => {
            entries.iter_mut().for_each(|e| settle_keys(&mut e.value, problems));
            let mut merged = Vec::new();
            let mut own: Vec<Entry> = Vec::with_capacity(entries.len());
            for entry in std::mem::take(entries) {
                if entry.key == "<<" {
                    merged.push(entry.value);
                } else if own.iter().any(|e| e.key == entry.key) {
                    problems.push((entry.key_id, Problem::DuplicateKey(entry.key)));
                } else {
                    own.push(entry);
                }
            }
            for value in merged {
                merge(&mut own, value, problems);
            }
            *entries = own;
        }
    }
}

fn merge(own: &mut Vec<Entry>, value: Node, problems: &mut Vec<(NodeId, Problem)>) {
    match value.kind {
        Kind::Map(entries) => {
            for entry in entries {
                if !own.iter().any(|e| e.key == entry.key) {
                    own.push(entry);
                }
            }
        }
        Kind::List(items) if items.iter().all(|i| matches!(i.kind, Kind::Map(_))) => {
            items.into_iter().for_each(|item| merge(own, item, problems));
        }
        _ => problems.push((value.id, Problem::BadMerge)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(node: &Node) -> String {
        match &node.kind {
            Kind::Null => "~".to_owned(),
            Kind::Scalar(Scalar { text, resolved: Resolved::Text }) => format!("{text:?}"),
            Kind::Scalar(Scalar { text, .. }) => text.clone(),
            Kind::List(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(" ")),
            Kind::Map(entries) => {
                let pairs: Vec<_> = entries.iter().map(|e| format!("{}:{}", e.key, show(&e.value))).collect();
                format!("{{{}}}", pairs.join(" "))
            }
        }
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let got = match parse(text) {
            Ok(Document { root, problems }) => {
                let mut out = show(&root);
                for (id, problem) in problems {
                    let at = locate(text, id).unwrap();
                    out.push_str(&format!(" | {}:{} {problem}", at.line, at.column));
                }
                out
            }
            Err((at, problem)) => {
                let at = at.map_or_else(|| "?".to_owned(), |p| format!("{}:{}", p.line, p.column));
                format!("{at} {problem}")
            }
        };
        assert_eq!(got, expected, "{text}");
    }

    #[test]
    fn scalars_keep_their_text() {
        check("{a: 0x1F, b: 1_000, c: 1e3, d: true, e: yes, f: '12', g: 007}", {
            r#"{a:0x1F b:"1_000" c:1e3 d:true e:"yes" f:"12" g:"007"}"#
        });
        check("a:\nb: ~\nc: ''\n", r#"{a:~ b:~ c:""}"#);
        check("1: x\ntrue: y", r#"{1:"x" true:"y"}"#);
    }

    #[test]
    fn text_without_content_is_an_empty_map() {
        check("", "{}");
        check("---\n# nothing\n", "{}");
    }

    #[test]
    fn aliases_and_merge_keys_are_applied() {
        check("a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}", "{a:{p:1 q:2} b:{q:3 p:1}}");
        check("a: &x [1]\nb: *x", "{a:[1] b:[1]}");
        check("b: {<<: [{p: 1}, {p: 2, q: 2}]}", "{b:{p:1 q:2}}");
        check("b: {<<: 3}", "{b:{}} | 1:9 map merge requires a map or a list of maps as the value");
    }

    #[test]
    fn duplicate_keys_are_reported_where_they_stand() {
        check("a: 1\nb:\n  c: 1\n  c: 2\n", "{a:1 b:{c:1}} | 4:3 key \"c\" is already set in this map");
    }

    #[test]
    fn broken_text_says_where() {
        check("a: [1, 2", "2:1 did not find expected ',' or ']', while parsing a flow sequence at line 1 column 4");
        check("a: !x 1", "1:4 a: local tags (!name) have no meaning here");
    }

    #[test]
    fn hostile_nesting_ends_in_an_error() {
        assert!(parse(&"[".repeat(5_000)).is_err());
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
        for i in 1..12 {
            let alias = format!("*a{}", i - 1);
            bomb.push_str(&format!("a{i}: &a{i} [{}]\n", vec![alias; 9].join(", ")));
        }
        assert!(parse(&bomb).is_err());
    }
}
