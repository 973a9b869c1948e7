//! OpenMetrics text to Prometheus' older text format, for readers that do not ask for OpenMetrics.

/// The same metrics in text format 0.0.4: families are named like their samples, and there is no unit and no end mark.
/// Expects a text without exemplars, which the older format cannot hold.
pub(crate) fn plain(open_metrics: &str) -> String {
    let mut out = String::with_capacity(open_metrics.len());
    let lines: Vec<&str> = open_metrics.lines().collect();
    for (i, line) in lines.iter().enumerate() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("EOF" | "UNIT"), ..) => {}
            (Some("#"), Some("HELP"), Some(name), help) => {
                let suffix = lines.get(i + 1..).and_then(|rest| suffix_of(name, rest)).unwrap_or("");
                out.push_str(&format!("# HELP {name}{suffix} {}\n", help.unwrap_or("")));
            }
            (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                let (suffix, kind) = plain_type(kind);
                out.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
            }
            _ => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
}

/// The suffix of the samples of `name`, whose type is on one of the next lines.
fn suffix_of(name: &str, next: &[&str]) -> Option<&'static str> {
    let prefix = format!("# TYPE {name} ");
    next.iter().take(2).find_map(|line| line.strip_prefix(&prefix)).map(|kind| plain_type(kind).0)
}

/// What a type of OpenMetrics is called in the older format, and what its samples' names end in.
fn plain_type(kind: &str) -> (&'static str, &str) {
    match kind {
        "counter" => ("_total", "counter"),
        "info" => ("_info", "gauge"),
        "stateset" => ("", "gauge"),
        "gaugehistogram" => ("", "histogram"),
        "unknown" => ("", "untyped"),
        other => ("", other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_named_like_their_samples() {
        let text = "# HELP a Things.\n# TYPE a counter\na_total{x=\"y # z\"} 1\n# HELP b Bytes.\n# TYPE b gauge\n# UNIT b \
                    bytes\nb 2\n# HELP i Build.\n# TYPE i info\ni_info{v=\"1\"} 1\n# TYPE u unknown\nu 3\n# EOF\n";
        let expected = "# HELP a_total Things.\n# TYPE a_total counter\na_total{x=\"y # z\"} 1\n# HELP b Bytes.\n# TYPE b \
                        gauge\nb 2\n# HELP i_info Build.\n# TYPE i_info gauge\ni_info{v=\"1\"} 1\n# TYPE u \
                        untyped\nu 3\n";
        assert_eq!(plain(text), expected);
    }
}
