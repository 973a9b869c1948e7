//! The text of `/metrics`: OpenMetrics for clients that ask for it, the older text format for all others.

use std::fmt::Write;

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

use super::figures::Figures;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

pub(super) fn render(registry: &Registry, figures: &[Figures], accept: &str) -> (&'static str, String) {
    let mut out = String::new();
    text::encode_registry(&mut out, registry).expect("writing to a string cannot fail");
    let openmetrics = accept.contains("application/openmetrics-text");
    if !openmetrics {
        out = to_text_format(&out);
    }
    figures.iter().for_each(|figures| figures.write(openmetrics, &mut out));
    if openmetrics {
        out.push_str("# EOF\n");
        (OPENMETRICS, out)
    } else {
        (TEXT, out)
    }
}

/// The older format names a counter's family as its sample, knows no units, and calls an unknown type untyped.
fn to_text_format(openmetrics: &str) -> String {
    let mut out = String::with_capacity(openmetrics.len() + openmetrics.len() / 16);
    let mut help = "";
    for line in openmetrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').map_or("", |(_, text)| text);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let suffix = if kind == "counter" { "_total" } else { "" };
            let kind = if kind == "unknown" { "untyped" } else { kind };
            let _ = writeln!(out, "# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}");
        } else if !line.starts_with('#') {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;

    use super::*;

    #[track_caller]
    fn check(accept: &str, content_type: &str, expected: &str) {
        let mut registry = Registry::default();
        registry.register("c", "Counts", Counter::<u64>::default());
        let figures = [Figures::counter("f", "Figures", 2.0)];
        assert_eq!(render(&registry, &figures, accept), (content_type, expected.to_owned()));
    }

    #[test]
    fn format_follows_the_accept_header() {
        check(
            "application/openmetrics-text;version=1.0.0;q=0.6,*/*;q=0.1",
            OPENMETRICS,
            "# HELP c Counts.\n# TYPE c counter\nc_total 0\n# HELP f Figures.\n# TYPE f counter\nf_total 2\n# EOF\n",
        );
        check(
            "",
            TEXT,
            "# HELP c_total Counts.\n# TYPE c_total counter\nc_total 0\n# HELP f_total Figures.\n# TYPE f_total \
             counter\nf_total 2\n",
        );
    }
}
