//! `${NAME}` and `${file:path}` in the texts of a configuration: values that stand outside of it.
//!
//! Only what looks exactly so is replaced, and one that has no value is an error, so that nothing is ever configured
//! with half a text; `$${NAME}` stands for `${NAME}` itself. Rules of relabelling are left alone, where `${1}` and
//! `${name}` mean groups of the expression, and so are external labels, which have Prometheus' own variables. Files
//! are read once, when the configuration is.

use std::path::Path;

use crate::decode::Env;
use crate::error::Problem;
use crate::yaml::{Kind, Node, NodeId, Resolved};

/// Bytes of a file that stands for a text.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// What names a file rather than a variable of the environment.
const FILE_PREFIX: &str = "file:";

/// Where values come from.
pub(crate) struct Values<'a> {
    /// Variables of the environment.
    pub(crate) env: Env<'a>,
    /// Where relative paths start.
    pub(crate) folder: &'a Path,
}

impl Values<'_> {
    /// What `name` stands for, or why it stands for nothing.
    pub(crate) fn get(&self, name: &str) -> Result<String, String> {
        match name.strip_prefix(FILE_PREFIX) {
            Some(path) => self.read(path),
            None => (self.env)(name).ok_or_else(|| {
                format!("environment variable {name:?} is not set; write $${{{name}}} for the text itself")
            }),
        }
    }

    fn read(&self, path: &str) -> Result<String, String> {
        let path = self.folder.join(path);
        let mut text = crate::read_text(&path, FILE_BYTES_MAX).map_err(|problem| match problem {
            Problem::Read(e) => format!("read {}: {e}", path.display()),
            other => format!("{}: {other}", path.display()),
        })?;
        text.truncate(text.trim_end_matches(['\r', '\n']).len());
        Ok(text)
    }
}

/// Whether `name` names a file or a variable of the environment.
pub(crate) fn is_file(name: &str) -> bool {
    name.len() > FILE_PREFIX.len() && name.starts_with(FILE_PREFIX)
}

fn is_variable(name: &str) -> bool {
    let mut chars = name.chars();
    let starts = chars.next().is_some_and(|c| c == '_' || c.is_ascii_alphabetic());
    is_file(name) || (starts && chars.all(|c| c == '_' || c.is_ascii_alphanumeric()))
}

/// Replaces variables in all texts below `node`; `note` is told which have no value.
pub(crate) fn expand(node: &mut Node, path: &str, values: &Values<'_>, note: &mut dyn FnMut(NodeId, String, String)) {
    match &mut node.kind {
        Kind::Null => {}
        Kind::Scalar(scalar) => match replaced(&scalar.text, values) {
            Ok(None) => {}
            Ok(Some(text)) => {
                scalar.resolved = match text.as_str() {
                    "true" => Resolved::Bool(true),
                    "false" => Resolved::Bool(false),
                    _ => scalar.resolved,
                };
                scalar.text = text;
            }
            Err(why) => note(node.id, path.to_owned(), why),
        },
        Kind::List(items) => {
            for (i, item) in items.iter_mut().enumerate() {
                expand(item, &format!("{path}[{i}]"), values, note);
            }
        }
        Kind::Map(entries) => {
            for entry in entries.iter_mut().filter(|e| !has_own_variables(&e.key)) {
                let path = if path.is_empty() { entry.key.clone() } else { format!("{path}.{}", entry.key) };
                expand(&mut entry.value, &path, values, note);
            }
        }
    }
}

fn has_own_variables(key: &str) -> bool {
    key.ends_with("relabel_configs") || key == "external_labels"
}

/// `text` with its variables replaced; `None` if it has none.
fn replaced(text: &str, values: &Values<'_>) -> Result<Option<String>, String> {
    if !text.contains("${") {
        return Ok(None);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, after) = (&rest[..at], &rest[at + 2..]);
        let name = after.split_once('}').map(|(name, _)| name).filter(|name| is_variable(name));
        let Some(name) = name else {
            out.push_str(&rest[..at + 2]);
            rest = after;
            continue;
        };
        match before.strip_suffix('$') {
            Some(before) => {
                out.push_str(before);
                out.push_str("${");
                rest = after;
            }
            None => {
                out.push_str(before);
                out.push_str(&values.get(name)?);
                rest = &after[name.len() + 1..];
            }
        }
    }
    Ok(Some(out + rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let env = |name: &str| (name == "HOST").then(|| "db-1".to_owned());
        let values = Values { env: &env, folder: Path::new("/nowhere") };
        let got = match replaced(text, &values) {
            Ok(got) => got.unwrap_or_else(|| text.to_owned()),
            Err(why) => why,
        };
        assert_eq!(got, expected);
    }

    #[test]
    fn only_what_looks_exactly_like_a_variable_is_replaced() {
        check("http://${HOST}:9090/${HOST}", "http://db-1:9090/db-1");
        check("pa$$word $HOST ${ HOST} ${1} ${a-b} ${", "pa$$word $HOST ${ HOST} ${1} ${a-b} ${");
        check("$${HOST} $$${HOST}", "${HOST} $${HOST}");
    }

    #[test]
    fn one_without_a_value_is_an_error() {
        check("${NONE}", "environment variable \"NONE\" is not set; write $${NONE} for the text itself");
        check("a${file:x}", "read /nowhere/x: No such file or directory (os error 2)");
        check("${file:}", "${file:}");
    }
}
