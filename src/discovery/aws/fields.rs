//! Labels that are named like the fields of an answer in XML: `MultiAZ` is `multi_az`.

use roxmltree::Node;

use super::{child, child_text};
use crate::discovery::meta::Meta;

/// Sets `<prefix><label><suffix>` for each of `fields` that `node` has.
///
/// Fields stand with blanks between them, as `Field`, `Outer/Field` or `label=Field`.
pub(super) fn set_fields(meta: &mut Meta, prefix: &str, suffix: &str, node: Node<'_, '_>, fields: &str) {
    for field in fields.split_ascii_whitespace() {
        let (label, path) = match field.split_once('=') {
            Some((label, path)) => (label.to_owned(), path),
            None => (snake(field), field),
        };
        let value = path.split('/').try_fold(node, child).and_then(|found| found.text()).unwrap_or_default().trim();
        meta.set(&format!("{prefix}{label}{suffix}"), whole_seconds(value));
    }
}

/// Sets `<prefix>_<key>` for each pair below `list` of `node`.
pub(super) fn set_tags(meta: &mut Meta, prefix: &str, node: Node<'_, '_>, list: &str) {
    for tag in elements(node, list) {
        meta.set_under(prefix, child_text(tag, "Key"), child_text(tag, "Value"));
    }
}

/// What is in the `list` of `node`, whatever the list calls its items.
pub(super) fn elements<'a, 'input>(
    node: Node<'a, 'input>,
    list: &str,
) -> impl Iterator<Item = Node<'a, 'input>> + use<'a, 'input> {
    child(node, list).into_iter().flat_map(|list| list.children()).filter(Node::is_element)
}

/// `OuterFieldName` and `Outer/FieldName` as `outer_field_name`; letters of one abbreviation stay together.
fn snake(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut out = String::with_capacity(name.len() + 8);
    for (i, letter) in letters.iter().enumerate() {
        let before = i.checked_sub(1).map(|i| letters[i]);
        let begins_word = letter.is_ascii_uppercase()
            && before.is_some_and(|before| {
                let ends_abbreviation = letters.get(i + 1).is_some_and(char::is_ascii_lowercase);
                before != '/' && (!before.is_ascii_uppercase() || ends_abbreviation)
            });
        if begins_word || *letter == '/' {
            out.push('_');
        }
        if *letter != '/' {
            out.push(letter.to_ascii_lowercase());
        }
    }
    out
}

/// A time without the parts of its second; anything else as it is.
fn whole_seconds(text: &str) -> String {
    match text.split_once('.') {
        Some((seconds, _)) if text.ends_with('Z') && text.parse::<jiff::Timestamp>().is_ok() => format!("{seconds}Z"),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_named_like_fields() {
        let names = [
            ("MultiAZ", "multi_az"),
            ("ARN", "arn"),
            ("DBSystemId", "db_system_id"),
            ("IOOptimizedNextAllowedModificationTime", "io_optimized_next_allowed_modification_time"),
            ("PerformanceInsightsKMSKeyId", "performance_insights_kms_key_id"),
            ("ServerlessV2PlatformVersion", "serverless_v2_platform_version"),
            ("ReadReplicaSourceDBClusterIdentifier", "read_replica_source_db_cluster_identifier"),
            ("ListenerEndpoint/HostedZoneId", "listener_endpoint_hosted_zone_id"),
        ];
        for (name, label) in names {
            assert_eq!(snake(name), label);
        }
    }

    #[test]
    fn times_have_whole_seconds_and_other_texts_stay() {
        let texts = [("2025-01-02T03:04:05.678Z", "2025-01-02T03:04:05Z"), ("T.Z", "T.Z"), ("8.0.35", "8.0.35")];
        for (text, shown) in texts {
            assert_eq!(whole_seconds(text), shown);
        }
    }
}
