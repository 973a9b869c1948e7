//! The text of `/metrics`: OpenMetrics as the registry writes it, or the older text format for clients that do not ask
//! for OpenMetrics.

use std::fmt::Write;

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The content type and the text for a client that sent `accept`.
pub(crate) fn render(registry: &Registry, accept: &str) -> (&'static str, String) {
    let mut openmetrics = String::new();
    text::encode(&mut openmetrics, registry).expect("writing to a string cannot fail");
    if accept.contains("application/openmetrics-text") {
        (OPENMETRICS, openmetrics)
    } else {
        (TEXT, without_openmetrics(&openmetrics))
    }
}

/// In the older format a counter's family has the name of its sample, and there are no units, infos and end mark.
fn without_openmetrics(openmetrics: &str) -> String {
    let mut out = String::with_capacity(openmetrics.len() + openmetrics.len() / 16);
    let mut help = None;
    for line in openmetrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                other => ("", other),
            };
            if let Some((_, text)) = help.take() {
                let _ = writeln!(out, "# HELP {name}{suffix} {text}");
            }
            let _ = writeln!(out, "# TYPE {name}{suffix} {kind}");
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
    use prometheus_client::metrics::gauge::Gauge;

    use super::*;

    fn registry() -> Registry {
        let (mut registry, counter, gauge) = (Registry::default(), Counter::<u64>::default(), Gauge::<i64>::default());
        registry.register("vllm:prompt_tokens", "Prompt tokens processed", counter.clone());
        registry.register("vllm:num_requests_running", "Requests in the batch", gauge);
        counter.inc_by(3);
        registry
    }

    #[track_caller]
    fn check(accept: &str, content_type: &str, expected: &str) {
        assert_eq!(render(&registry(), accept), (content_type, expected.to_owned()));
    }

    #[test]
    fn openmetrics_is_given_to_those_who_ask() {
        check(
            "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
            OPENMETRICS,
            "# HELP vllm:prompt_tokens Prompt tokens processed.\n# TYPE vllm:prompt_tokens counter\n\
             vllm:prompt_tokens_total 3\n# HELP vllm:num_requests_running Requests in the batch.\n\
             # TYPE vllm:num_requests_running gauge\nvllm:num_requests_running 0\n# EOF\n",
        );
    }

    #[test]
    fn others_get_families_named_as_their_samples() {
        check(
            "*/*",
            TEXT,
            "# HELP vllm:prompt_tokens_total Prompt tokens processed.\n# TYPE vllm:prompt_tokens_total counter\n\
             vllm:prompt_tokens_total 3\n# HELP vllm:num_requests_running Requests in the batch.\n\
             # TYPE vllm:num_requests_running gauge\nvllm:num_requests_running 0\n",
        );
    }
}
