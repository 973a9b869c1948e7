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
        "nomad_sd_configs: / allow_stale: true / namespace: default / region: global / server: http://localhost:4646 / \
         tag_separator: ',' / refresh_interval: 1m"
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
    check("local_sd_configs: [{jobs: [vllm], exporters: [{job: a, ports: [1], prefix: a_}]}]", {
        "local_sd_configs: / host: 127.0.0.1 / jobs: / vllm / exporters: / job: a / ports: / 1 / path: /metrics / prefix: \
         a_ / refresh_interval: 30s"
    });
    check("docker_sd_configs: [{host: 'unix:///d', filters: [{name: n, values: [v]}]}]", {
        "docker_sd_configs: / host: unix:///d / host_networking_host: localhost / match_first_network: true / filters: / \
         name: n / values: / v / port: 80 / refresh_interval: 1m"
    });
    check("dockerswarm_sd_configs: [{host: 'tcp://d:1', role: tasks}]", {
        "dockerswarm_sd_configs: / host: tcp://d:1 / role: tasks / port: 80 / refresh_interval: 1m"
    });
    check("ec2_sd_configs: [{region: r, access_key: a, secret_key: s}]", {
        "ec2_sd_configs: / region: r / access_key: a / secret_key: <secret> / port: 80 / refresh_interval: 1m"
    });
    check("lightsail_sd_configs: [{}]", "lightsail_sd_configs: / port: 80 / refresh_interval: 1m");
    check("gce_sd_configs: [{project: p, zone: z}]", {
        "gce_sd_configs: / project: p / zone: z / tag_separator: ',' / port: 80 / refresh_interval: 1m"
    });
    check("azure_sd_configs: [{subscription_id: s, authentication_method: ManagedIdentity}]", {
        "azure_sd_configs: / environment: AzurePublicCloud / authentication_method: ManagedIdentity / subscription_id: s / \
         port: 80 / refresh_interval: 5m"
    });
    check("openstack_sd_configs: [{role: instance, region: r, identity_endpoint: 'http://k/v3'}]", {
        "openstack_sd_configs: / role: instance / region: r / identity_endpoint: http://k/v3 / all_tenants: false / \
         availability: public / port: 80 / refresh_interval: 1m"
    });
    check("vultr_sd_configs: [{}]", "vultr_sd_configs: / port: 80 / refresh_interval: 1m");
    check("digitalocean_sd_configs: [{}]", {
        "digitalocean_sd_configs: / role: droplets / port: 80 / refresh_interval: 1m"
    });
    check("aws_sd_configs: [{role: ecs, region: r}]", {
        "ecs_sd_configs: / region: r / port: 80 / refresh_interval: 1m"
    });
    check("aws_sd_configs: [{role: msk, clusters: [c]}]", {
        "msk_sd_configs: / clusters: / c / port: 80 / refresh_interval: 1m"
    });
    check("aws_sd_configs: [{role: rds, clusters: [c], filters: [{name: n, values: [v]}]}]", {
        "rds_sd_configs: / clusters: / c / filters: / name: n / values: / v / port: 80 / refresh_interval: 1m"
    });
    check("aws_sd_configs: [{role: elasticache, region: r}]", {
        "elasticache_sd_configs: / region: r / port: 80 / refresh_interval: 1m"
    });
    check("outscale_sd_configs: [{access_key: a, secret_key: s}]", {
        "outscale_sd_configs: / region: eu-west-2 / access_key: a / secret_key: <secret> / port: 80 / refresh_interval: 1m"
    });
    check("stackit_sd_configs: [{project: p}]", {
        "stackit_sd_configs: / project: p / region: eu01 / port: 80 / refresh_interval: 1m"
    });
    check("hetzner_sd_configs: [{role: robot}]", "hetzner_sd_configs: / role: robot / port: 80 / refresh_interval: 1m");
    check("ionos_sd_configs: [{datacenter_id: d}]", {
        "ionos_sd_configs: / datacenter_id: d / port: 80 / refresh_interval: 1m"
    });
    check("kuma_sd_configs: [{server: 'http://k'}]", {
        "kuma_sd_configs: / server: http://k / fetch_timeout: 2m / refresh_interval: 15s"
    });
    check("linode_sd_configs: [{}]", "linode_sd_configs: / tag_separator: ',' / port: 80 / refresh_interval: 1m");
    check("marathon_sd_configs: [{servers: ['http://m'], auth_token: x}]", {
        "marathon_sd_configs: / servers: / http://m / auth_token: <secret> / refresh_interval: 30s"
    });
    check("puppetdb_sd_configs: [{url: 'http://p', query: q}]", {
        "puppetdb_sd_configs: / url: http://p / query: q / include_parameters: false / port: 80 / refresh_interval: 1m"
    });
    check("scaleway_sd_configs: [{role: instance, access_key: a, secret_key: s, project_id: p}]", {
        "scaleway_sd_configs: / role: instance / access_key: a / secret_key: <secret> / project_id: p / api_url: \
         https://api.scaleway.com / zone: fr-par-1 / port: 80 / refresh_interval: 1m"
    });
    check("ovhcloud_sd_configs: [{application_key: a, application_secret: s, consumer_key: c, service: vps}]", {
        "ovhcloud_sd_configs: / application_key: a / application_secret: <secret> / consumer_key: <secret> / service: vps / \
         endpoint: ovh-eu / refresh_interval: 1m"
    });
    check("nerve_sd_configs: [{servers: [z], paths: [/a]}]", {
        "nerve_sd_configs: / servers: / z / paths: / /a / timeout: 10s"
    });
    check("serverset_sd_configs: [{servers: ['z:1'], paths: [/a], timeout: 5s}]", {
        "serverset_sd_configs: / servers: / z:1 / paths: / /a / timeout: 5s"
    });
    check("consul_sd_configs: [{tag_separator: ''}]", {
        "consul_sd_configs: / server: localhost:8500 / scheme: http / tag_separator: '' / allow_stale: true / \
         refresh_interval: 30s"
    });
    check("aws_sd_configs: [{role: lightsail, region: r, port: 9100}]", {
        "lightsail_sd_configs: / region: r / port: 9100 / refresh_interval: 1m"
    });
    check("triton_sd_configs: [{account: a, dns_suffix: d, endpoint: e}]", {
        "triton_sd_configs: / account: a / role: container / dns_suffix: d / endpoint: e / version: 1 / port: 9163 / \
         refresh_interval: 1m"
    });
}
