//! Entries of all mechanisms: what is read, what is shown of it, and that what is shown reads back.

use std::path::Path;

use super::*;

fn read(fields: &str) -> Vec<Discovery> {
    let text = format!("scrape_configs:\n- job_name: j\n  {}\n", fields.replace('\n', "\n  "));
    let mut config = crate::parse(&text, Path::new("/etc/x.yml")).unwrap_or_else(|e| panic!("{e}"));
    config.scrape_configs.remove(0).discovery
}

/// `shown` is the entry as the effective configuration has it, without the fields of its client that are defaults.
#[track_caller]
fn check(fields: &str, shown: &str) {
    let found = read(fields);
    let mut map = Map::default();
    print(&found, &mut map);
    let text = serde_yaml::to_string(&serde_yaml::Value::from(map)).unwrap();
    if !text.contains("<secret>") {
        assert_eq!(read(&text), found, "{text}");
    }
    let is_own = |line: &&str| !matches!(line.trim(), "follow_redirects: true" | "enable_http2: true");
    let lines: Vec<&str> = text.lines().filter(is_own).map(|l| l.trim_start_matches([' ', '-'])).collect();
    assert_eq!(lines.join(" / "), shown);
}

#[test]
fn entries_are_shown_with_their_defaults() {
    check("http_sd_configs: [{url: 'http://h/t', authorization: {credentials: x}}]", {
        "http_sd_configs: / url: http://h/t / refresh_interval: 1m / authorization: / type: Bearer / credentials: \
         <secret>"
    });
    check("dns_sd_configs: [{names: [a.b], type: MX, port: 25}]", {
        "dns_sd_configs: / names: / a.b / type: MX / port: 25 / refresh_interval: 30s"
    });
    check("consul_sd_configs: [{services: [s], token: x, node_meta: {rack: '7'}}]", {
        "consul_sd_configs: / server: localhost:8500 / token: <secret> / scheme: http / services: / s / node_meta: / \
         rack: '7' / tag_separator: ',' / allow_stale: true / refresh_interval: 30s"
    });
    check("nomad_sd_configs: [{}]", {
        "nomad_sd_configs: / allow_stale: true / namespace: default / refresh_interval: 1m / region: global / server: \
         http://localhost:4646 / tag_separator: ','"
    });
    check("eureka_sd_configs: [{server: 'http://e/eureka'}]", {
        "eureka_sd_configs: / server: http://e/eureka / refresh_interval: 30s"
    });
    check(
        "kubernetes_sd_configs: [{role: pod, api_server: 'https://k', namespaces: {names: [ml]}, selectors: [{role: pod, \
         label: a=b}], attach_metadata: {namespace: true}}]",
        "kubernetes_sd_configs: / api_server: https://k / role: pod / namespaces: / own_namespace: false / names: / ml / \
         selectors: / role: pod / label: a=b / attach_metadata: / node: false / namespace: true / deployment: false / \
         job: false / cronjob: false",
    );
}
