//! Which family a metric belongs to, and the lines that say so in OpenMetrics.
//!
//! Readers take a type for that of all lines below, so every family gets one, if only `unknown`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use promontory_model::labels::is_legacy_metric_name;
use promontory_model::{Labels, MetricMetadata, MetricType};

use crate::scrape::exposition::format_openmetrics_float;

/// Ends of the names of metrics, and the types of families that have such.
const SUFFIXES: [(&str, &[MetricType]); 8] = [
    ("_total", &[MetricType::Counter]),
    ("_bucket", &[MetricType::Histogram, MetricType::GaugeHistogram]),
    ("_count", &[MetricType::Histogram, MetricType::Summary]),
    ("_sum", &[MetricType::Histogram, MetricType::Summary]),
    ("_created", &[MetricType::Counter, MetricType::Histogram, MetricType::Summary]),
    ("_gcount", &[MetricType::GaugeHistogram]),
    ("_gsum", &[MetricType::GaugeHistogram]),
    ("_info", &[MetricType::Info]),
];

/// What is known of families.
#[derive(Debug)]
pub(super) struct Families(BTreeMap<String, Vec<MetricMetadata>>);

impl Families {
    pub(super) fn new(known: BTreeMap<String, Vec<MetricMetadata>>) -> Self {
        Self(known)
    }

    /// The family of a metric as OpenMetrics names it, and what is known of it. Where sources say different things, the
    /// first is taken.
    pub(super) fn of(&self, metric: &str) -> (String, MetricMetadata) {
        let find = |family: &str| self.0.get(family).and_then(|list| list.first()).cloned();
        for (suffix, kinds) in SUFFIXES {
            let Some(family) = metric.strip_suffix(suffix).filter(|f| !f.is_empty()) else { continue };
            // Prometheus' text gives the type of a counter under the metric's whole name.
            let known = find(family).or_else(|| find(metric)).filter(|m| kinds.contains(&m.kind));
            if let Some(known) = known {
                return (family.to_owned(), known);
            }
        }
        let mut known = find(metric).unwrap_or_default();
        // These have no metric of the family's own name in OpenMetrics.
        if matches!(known.kind, MetricType::Counter | MetricType::Info | MetricType::Histogram) {
            known.kind = MetricType::Unknown;
        }
        (metric.to_owned(), known)
    }
}

/// `# HELP`, `# TYPE` and `# UNIT` of a family.
pub(super) fn lines(family: &str, known: &MetricMetadata) -> String {
    let mut out = String::new();
    let name = if is_legacy_metric_name(family) { family.to_owned() } else { quoted(family) };
    if !known.help.is_empty() {
        let _ = writeln!(out, "# HELP {name} {}", escaped(&known.help));
    }
    let _ = writeln!(out, "# TYPE {name} {}", known.kind);
    let is_suffix = family.strip_suffix(known.unit.as_str()).is_some_and(|f| f.ends_with('_'));
    if !known.unit.is_empty() && is_suffix {
        let _ = writeln!(out, "# UNIT {name} {}", known.unit);
    }
    out
}

/// Whether a reader that knows the type would keep the bounds of these series as they are.
pub(super) fn bounds_are_canonical<'a>(mut series: impl Iterator<Item = &'a Labels>) -> bool {
    let is_canonical = |text: &str| text.parse().is_ok_and(|v: f64| format_openmetrics_float(v) == text);
    series.all(|labels| ["le", "quantile"].iter().filter_map(|name| labels.get(name)).all(is_canonical))
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text))
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn families() -> Families {
        let of = |kind, help: &str| vec![MetricMetadata { kind, unit: "seconds".to_owned(), help: help.to_owned() }];
        Families::new(BTreeMap::from([
            ("requests".to_owned(), of(MetricType::Counter, "")),
            ("old_total".to_owned(), of(MetricType::Counter, "")),
            ("bare".to_owned(), of(MetricType::Counter, "")),
            ("took_seconds".to_owned(), of(MetricType::Histogram, "a \"b\"\\\nc")),
            ("a.b".to_owned(), of(MetricType::Gauge, "")),
        ]))
    }

    #[track_caller]
    fn check(metric: &str, expected: &str) {
        let (family, known) = families().of(metric);
        assert_eq!(lines(&family, &known), expected, "{metric}");
    }

    #[test]
    fn a_metric_belongs_to_the_family_of_its_name_and_type() {
        check("requests_total", "# TYPE requests counter\n");
        check("old_total", "# TYPE old counter\n");
        check("bare", "# TYPE bare unknown\n");
        let took =
            "# HELP took_seconds a \\\"b\\\"\\\\\\nc\n# TYPE took_seconds histogram\n# UNIT took_seconds seconds\n";
        check("took_seconds_bucket", took);
        check("took_seconds_sum", took);
        check("took_seconds_total", "# TYPE took_seconds_total unknown\n");
        check("a.b", "# TYPE \"a.b\" gauge\n");
        check("nobody_count", "# TYPE nobody_count unknown\n");
    }

    #[test]
    fn bounds_that_a_reader_would_rewrite_are_noticed() {
        let le = |text: &str| Labels::from_pairs([("le", text)]);
        assert!(bounds_are_canonical([le("1.0"), le("+Inf"), le("0.5")].iter()));
        assert!(!bounds_are_canonical([le("1.0"), le("1")].iter()));
    }
}
