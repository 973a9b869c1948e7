//! `otlp`: how metrics of OpenTelemetry become series.

use crate::Config;
use crate::decode::{Field, Fields};
use crate::scrape::NameValidation;

/// The section `otlp`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtlpConfig {
    /// How names are written.
    pub translation: Translation,
    /// Which attributes of a resource become labels of all its series.
    pub promote: Promotion,
    /// Whether `target_info` also has the attributes that `job` and `instance` are made of.
    pub keep_identifying_attributes: bool,
    /// Whether histograms with explicit bounds become native ones with custom buckets.
    pub convert_histograms_to_nhcb: bool,
    /// Whether name, version, address of the schema and attributes of a scope become labels.
    pub promote_scope_metadata: bool,
    /// Whether a label that begins with a single `_` gets `key` in front of it.
    pub sanitize_leading_underscore: bool,
    /// Whether several characters that no label has in a row stay as many underscores.
    pub keep_multiple_underscores: bool,
}

impl Default for OtlpConfig {
    fn default() -> Self {
        Self {
            translation: Translation::default(),
            promote: Promotion::These(Vec::new()),
            keep_identifying_attributes: false,
            convert_histograms_to_nhcb: false,
            promote_scope_metadata: false,
            sanitize_leading_underscore: true,
            keep_multiple_underscores: true,
        }
    }
}

/// How the names of metrics and attributes become names of series and labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Translation {
    /// `http.server.duration` in `ms` is `http_server_duration_milliseconds`.
    #[default]
    UnderscoresWithSuffixes,
    /// It is `http_server_duration`.
    UnderscoresWithoutSuffixes,
    /// It is `http.server.duration_milliseconds`.
    Utf8WithSuffixes,
    /// It is `http.server.duration`.
    Unchanged,
}

impl Translation {
    const NAMES: [(&'static str, Self); 4] = [
        ("UnderscoreEscapingWithSuffixes", Self::UnderscoresWithSuffixes),
        ("UnderscoreEscapingWithoutSuffixes", Self::UnderscoresWithoutSuffixes),
        ("NoUTF8EscapingWithSuffixes", Self::Utf8WithSuffixes),
        ("NoTranslation", Self::Unchanged),
    ];

    /// The name in the configuration file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::NAMES.iter().find(|(_, t)| *t == self).map_or("", |(name, _)| name)
    }

    /// Whether names keep characters besides ASCII letters, digits and underscores.
    #[must_use]
    pub fn keeps_utf8(self) -> bool {
        matches!(self, Self::Utf8WithSuffixes | Self::Unchanged)
    }

    /// Whether names of metrics end in their unit and type.
    #[must_use]
    pub fn has_suffixes(self) -> bool {
        matches!(self, Self::UnderscoresWithSuffixes | Self::Utf8WithSuffixes)
    }
}

/// Attributes of a resource that become labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Promotion {
    /// Those of these names.
    These(Vec<String>),
    /// All but those of these names.
    AllBut(Vec<String>),
}

impl Promotion {
    /// Whether the attribute `name` becomes a label.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::These(names) => names.iter().any(|n| n == name),
            Self::AllBut(names) => !names.iter().any(|n| n == name),
        }
    }
}

pub(crate) fn read(field: &Field<'_>, config: &mut Config) {
    let Some(fields) = field.fields() else { return };
    let default = OtlpConfig::default();
    let strategy = fields.get("translation_strategy");
    let translation = strategy.as_ref().and_then(|f| f.one_of(&Translation::NAMES)).unwrap_or_default();
    if translation.keeps_utf8()
        && config.global.metric_name_validation == NameValidation::Legacy
        && let Some(field) = &strategy
    {
        let name = translation.as_str();
        field.rule(format!("{name} needs metric_name_validation_scheme utf8, which global sets to legacy"));
    }
    config.otlp = OtlpConfig {
        translation,
        promote: read_promotion(&fields),
        keep_identifying_attributes: fields.bool_or("keep_identifying_resource_attributes", false),
        convert_histograms_to_nhcb: fields.bool_or("convert_histograms_to_nhcb", false),
        promote_scope_metadata: fields.bool_or("promote_scope_metadata", false),
        sanitize_leading_underscore: fields
            .bool_or("label_name_underscore_sanitization", default.sanitize_leading_underscore),
        keep_multiple_underscores: fields
            .bool_or("label_name_preserve_multiple_underscores", default.keep_multiple_underscores),
    };
    fields.finish(&[]);
}

fn read_promotion(fields: &Fields<'_>) -> Promotion {
    let all = fields.bool_or("promote_all_resource_attributes", false);
    let promoted = read_names(fields, "promote_resource_attributes");
    let ignored = read_names(fields, "ignore_resource_attributes");
    let at = |name| fields.get(name);
    if all && let Some(field) = at("promote_resource_attributes").filter(|_| !promoted.is_empty()) {
        field.rule("promote_all_resource_attributes and promote_resource_attributes cannot be set together");
    }
    if !all && let Some(field) = at("ignore_resource_attributes").filter(|_| !ignored.is_empty()) {
        field.rule("ignore_resource_attributes has an effect with promote_all_resource_attributes alone");
    }
    if all { Promotion::AllBut(ignored) } else { Promotion::These(promoted) }
}

/// Names of attributes, none of them empty or twice.
fn read_names(fields: &Fields<'_>, key: &'static str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for item in fields.list(key) {
        let Some(name) = item.text().map(str::trim) else { continue };
        if name.is_empty() {
            item.rule("the name of an attribute is empty");
        } else if names.iter().any(|n| n == name) {
            item.rule(format!("attribute {name:?} stands here twice"));
        }
        names.push(name.to_owned());
    }
    names
}
