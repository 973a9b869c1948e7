//! Every provider against a server that lists as its documentation says.

use crate::client::testing::Action;
use crate::discovery::testing::{Lab, json, routes};

/// The targets of `fields` in a network where `host` answers by `table`, with `prefix` left out of names.
#[track_caller]
fn check<'a>(
    fields: &'a str,
    host: &'a str,
    table: &'a [(&'a str, &'a str)],
    prefix: &'a str,
    expected: &'a [&'a str],
) -> impl Future<Output = ()> + 'a {
    let caller = std::panic::Location::caller();
    async move {
        let mut lab = Lab::new(fields);
        lab.network.serve(host, routes(table));
        lab.secs(1).await;
        let got: Vec<String> = lab.shown().iter().map(|line| line.replace(prefix, "")).collect();
        assert_eq!(got, expected, "at {caller}; {:?}", lab.job.errors());
    }
}

const DROPLET: &str = r#"{"id": 7, "name": "gpu", "size_slug": "s", "status": "active", "vpc_uuid": "v", "features": ["backups"],
    "tags": ["a", "b"], "image": {"slug": "u", "name": "Ubuntu"}, "region": {"slug": "ams3"},
    "networks": {"v4": [{"type": "private", "ip_address": "10.0.0.2"}, {"type": "public", "ip_address": "1.2.3.4"}], "v6": []}}"#;

#[tokio::test(start_paused = true)]
async fn droplets_are_targets_page_by_page() {
    let first = format!(r#"{{"droplets": [{DROPLET}], "links": {{"pages": {{"next": "https://x?page=2"}}}}}}"#);
    let second =
        r#"{"droplets": [{"id": 8, "networks": {"v4": [{"type": "public", "ip_address": "1.2.3.5"}]}}], "links": {}}"#;
    check(
        "digitalocean_sd_configs: [{port: 9100}]",
        "api.digitalocean.com:80",
        &[("GET /v2/droplets?per_page=200&page=1 ", &first), ("GET /v2/droplets?per_page=200&page=2 ", second)],
        "__meta_digitalocean_",
        &[
            concat!(
                r#"1.2.3.4:9100 {droplet_id="7", droplet_name="gpu", features=",backups,", image="u", image_name="Ubuntu", "#,
                r#"private_ipv4="10.0.0.2", public_ipv4="1.2.3.4", region="ams3", size="s", status="active", tags=",a,b,", "#,
                r#"vpc="v"}"#
            ),
            r#"1.2.3.5:9100 {droplet_id="8", public_ipv4="1.2.3.5"}"#,
        ],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn databases_of_digitalocean_are_targets() {
    check(
        "digitalocean_sd_configs: [{role: databases, port: 9273}]",
        "api.digitalocean.com:80",
        &[(
            "GET /v2/databases?per_page=200&page=1 ",
            r#"{"databases": [{"id": "d", "name": "n", "engine": "pg", "version": "16", "status": "online", "region": "fra1",
                "size": "s", "num_nodes": 2, "tags": ["team:a"], "connection": {"host": "h"},
                "private_connection": {"host": "p"}}, {"id": "e", "connection": {"host": "o"}}, {"id": "new"}]}"#,
        )],
        "__meta_digitalocean_db_",
        &[
            r#"o:9273 {host="o", id="e"}"#,
            concat!(
                r#"p:9273 {engine="pg", host="h", id="d", name="n", num_nodes="2", private_host="p", region="fra1", "#,
                r#"size="s", status="online", tag_team_a="true", version="16"}"#
            ),
        ],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn bad_answers_keep_the_targets() {
    let good = move |_: &str| -> Vec<Action> { json(&format!(r#"{{"droplets": [{DROPLET}]}}"#)) };
    let mut bad = Lab::bad_answers();
    bad.push((json("{}"), "the answer has no droplets"));
    let lab = Lab::new("digitalocean_sd_configs: [{refresh_interval: 30s}]");
    lab.check_keeps("api.digitalocean.com:80", good, bad, "1.2.3.4:80 ", 30).await;
}

#[tokio::test(start_paused = true)]
async fn instances_of_vultr_are_targets() {
    check(
        "vultr_sd_configs: [{}]",
        "api.vultr.com:80",
        &[
            ("GET /v2/instances?per_page=100 ", r#"{"instances": [], "meta": {"links": {"next": "c2"}}}"#),
            (
                "GET /v2/instances?per_page=100&cursor=c2 ",
                r#"{"instances": [{"id": "i", "main_ip": "1.1.1.1", "ram": 2048, "tags": ["t"], "os_id": 5}], "meta": {"links": {"next": ""}}}"#,
            ),
        ],
        "__meta_vultr_instance_",
        &[r#"1.1.1.1:80 {id="i", main_ip="1.1.1.1", os_id="5", ram_mb="2048", tags=",t,"}"#],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn servers_of_hetzner_are_targets() {
    check(
        "hetzner_sd_configs: [{role: hcloud}]",
        "api.hetzner.cloud:80",
        &[
            (
                "GET /v1/servers?per_page=50 ",
                r#"{"servers": [{"id": 1, "name": "n", "status": "running", "labels": {"k": ""},
                    "public_net": {"ipv4": {"ip": "5.5.5.5"}, "ipv6": {"ip": "2001::/64"}},
                    "private_net": [{"network": 9, "ip": "10.0.0.9"}], "location": {"name": "fsn1", "network_zone": "eu-central"},
                    "server_type": {"cores": 2, "memory": 4.0}}], "meta": {"pagination": {"next_page": null}}}"#,
            ),
            ("GET /v1/networks?per_page=50 ", r#"{"networks": [{"id": 9, "name": "lan"}], "meta": {}}"#),
        ],
        "__meta_hetzner_",
        &[concat!(
            r#"5.5.5.5:80 {hcloud_cpu_cores="2", hcloud_datacenter_location="fsn1", "#,
            r#"hcloud_datacenter_location_network_zone="eu-central", hcloud_labelpresent_k="true", "#,
            r#"hcloud_location="fsn1", hcloud_location_network_zone="eu-central", hcloud_memory_size_gb="4", "#,
            r#"hcloud_private_ipv4_lan="10.0.0.9", public_ipv4="5.5.5.5", public_ipv6_network="2001::/64", role="hcloud", "#,
            r#"server_id="1", server_name="n", server_status="running"}"#
        )],
    )
    .await;
    check(
        "hetzner_sd_configs: [{role: robot, basic_auth: {username: u, password: p}}]",
        "robot-ws.your-server.de:80",
        &[(
            "GET /server ",
            r#"[{"server": {"server_ip": "6.6.6.6", "server_number": 321, "server_name": "s", "product": "GPU", "dc": "FSN1-DC1",
                "status": "ready", "cancelled": false, "subnet": [{"ip": "2a01::", "mask": "64"}]}}]"#,
        )],
        "__meta_hetzner_",
        &[concat!(
            r#"6.6.6.6:80 {datacenter="fsn1-dc1", public_ipv4="6.6.6.6", public_ipv6_network="2a01::/64", "#,
            r#"robot_cancelled="false", robot_datacenter="fsn1-dc1", robot_product="GPU", role="robot", server_id="321", server_name="s", "#,
            r#"server_status="ready"}"#
        )],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn instances_of_linode_are_targets() {
    check(
        "linode_sd_configs: [{}]",
        "api.linode.com:80",
        &[
            (
                "GET /v4/linode/instances?page_size=500&page=1 ",
                r#"{"data": [{"id": 1, "label": "l", "ipv4": ["9.9.9.9", "192.168.1.1"], "ipv6": "2600::1/128", "tags": ["x"],
                    "specs": {"disk": 1, "memory": 2, "transfer": 3, "vcpus": 4}, "backups": {"enabled": true}}], "pages": 1}"#,
            ),
            (
                "GET /v4/networking/ips?",
                r#"{"data": [{"address": "9.9.9.9", "public": true, "rdns": "r.test"}, {"address": "192.168.1.1", "public": false}], "pages": 1}"#,
            ),
            ("GET /v4/networking/ipv6/ranges?", r#"{"data": [{"range": "2600:1::", "prefix": 64, "route_target": "2600::1"}]}"#),
        ],
        "__meta_linode_",
        &[concat!(
            r#"9.9.9.9:80 {backups="enabled", instance_id="1", instance_label="l", ipv6_ranges=",2600:1::/64,", "#,
            r#"private_ipv4="192.168.1.1", public_ipv4="9.9.9.9", public_ipv4_rdns="r.test", public_ipv6="2600::1", "#,
            r#"specs_disk_bytes="1048576", specs_memory_bytes="2097152", specs_transfer_bytes="3145728", specs_vcpus="4", "#,
            r#"tags=",x,"}"#
        )],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn servers_of_scaleway_are_targets() {
    let config = |role: &str| {
        format!(
            "scaleway_sd_configs: [{{role: {role}, access_key: a, secret_key: s, project_id: p, api_url: 'http://sw:1'}}]"
        )
    };
    check(
        &config("instance"),
        "sw:1",
        &[(
            "GET /instance/v1/zones/fr-par-1/servers?page=1&per_page=100&page_size=100&project=p ",
            r#"{"servers": [{"id": "i", "name": "n", "zone": "fr-par-1", "private_ip": null, "public_ip": {"address": "7.7.7.7"}},
                {"id": "j", "public_ips": [{"address": "::7", "family": "inet6"}, {"address": "7.7.7.8", "family": "inet"}]}, {"id": "none"}]}"#,
        )],
        "__meta_scaleway_instance_",
        &[
            r#"7.7.7.7:80 {id="i", name="n", public_ipv4="7.7.7.7", region="fr-par", zone="fr-par-1"}"#,
            r#"7.7.7.8:80 {id="j", public_ipv4_addresses=",7.7.7.8,", public_ipv6_addresses=",::7,"}"#,
        ],
    )
    .await;
    check(
        &config("baremetal"),
        "sw:1",
        &[
            (
                "GET /baremetal/v1/zones/fr-par-1/servers?",
                r#"{"servers": [{"id": "b", "ips": [{"address": "8.8.4.4", "version": "IPv4"}], "install": {"os_id": "o"}}]}"#,
            ),
            ("GET /baremetal/v1/zones/fr-par-1/os?", r#"{"os": [{"id": "o", "name": "Debian", "version": "13"}]}"#),
        ],
        "__meta_scaleway_baremetal_",
        &[r#"8.8.4.4:80 {id="b", os_name="Debian", os_version="13", public_ipv4="8.8.4.4"}"#],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn servers_of_ionos_are_targets() {
    check(
        "ionos_sd_configs: [{datacenter_id: d}]",
        "api.ionos.com:80",
        &[(
            "GET /cloudapi/v6/datacenters/d/servers?depth=3 ",
            r#"{"id": "d/servers", "items": [{"id": "s", "metadata": {"state": "AVAILABLE"}, "properties": {"name": "n", "vmState": "RUNNING"},
                "entities": {"nics": {"items": [{"properties": {"name": "eth 0", "ips": ["10.0.0.1", "10.0.0.2"]}}]}}}]}"#,
        )],
        "__meta_ionos_server_",
        &[r#"10.0.0.1:80 {id="s", ip=",10.0.0.1,10.0.0.2,", lifecycle="AVAILABLE", name="n", nic_ip_eth_0=",10.0.0.1,10.0.0.2,", servers_id="d/servers", state="RUNNING"}"#],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn resources_of_puppetdb_are_targets() {
    let mut lab =
        Lab::new("puppetdb_sd_configs: [{url: 'http://p:8080', query: 'resources {}', include_parameters: true}]");
    lab.network.serve("p:8080", |head| {
        assert!(head.starts_with("POST /pdb/query/v4 ") && head.ends_with(r#"{"query":"resources {}"}"#), "{head}");
        json(
            r#"[{"certname": "h.test", "type": "Class", "exported": false, "tags": ["a"],
                 "parameters": {"port": 9100, "opts": {"x": true}, "list": ["u", "v"]}}]"#,
        )
    });
    let expected = concat!(
        r#"h.test:80 {__meta_puppetdb_certname="h.test", __meta_puppetdb_exported="false", "#,
        r#"__meta_puppetdb_parameter_list=",u,v,", __meta_puppetdb_parameter_opts_x="true", "#,
        r#"__meta_puppetdb_parameter_port="9100", __meta_puppetdb_query="resources {}", __meta_puppetdb_tags=",a,", "#,
        r#"__meta_puppetdb_type="Class"}"#
    );
    lab.check(1, &[expected]).await;
}

#[tokio::test(start_paused = true)]
async fn machines_of_triton_are_targets() {
    check(
        "triton_sd_configs: [{account: a, dns_suffix: c.test, endpoint: t.test, groups: [g]}]",
        "t.test:9163",
        &[(
            "GET /v1/discover?groups=g ",
            r#"{"containers": [{"groups": ["g"], "server_uuid": "s", "vm_alias": "al", "vm_brand": "lx", "vm_image_uuid": "im", "vm_uuid": "u"}]}"#,
        )],
        "__meta_triton_",
        &[r#"u.c.test:9163 {groups=",g,", machine_alias="al", machine_brand="lx", machine_id="u", machine_image="im", server_id="s"}"#],
    )
    .await;
    check(
        "triton_sd_configs: [{account: a, role: cn, dns_suffix: c.test, endpoint: t.test}]",
        "t.test:9163",
        &[("GET /v1/gz/discover ", r#"{"cns": [{"server_uuid": "s", "server_hostname": "h"}]}"#)],
        "__meta_triton_",
        &[r#"s.c.test:9163 {machine_alias="h", machine_id="s"}"#],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn tasks_of_marathon_are_targets() {
    check(
        "marathon_sd_configs: [{servers: ['http://gone:1', 'http://m:8080']}]",
        "m:8080",
        &[(
            "GET /v2/apps/?embed=apps.tasks ",
            r#"{"apps": [{"id": "/ml/llm", "labels": {"team": "x"}, "container": {"docker": {"image": "i"}},
                "portDefinitions": [{"labels": {"m": "1"}}, {}], "tasks": [{"id": "t", "host": "h", "ports": [31000, 31001]}]}]}"#,
        )],
        "__meta_marathon_",
        &[
            r#"h:31000 {app="-ml-llm", app_label_team="x", image="i", port_definition_label_m="1", port_index="0", task="t"}"#,
            r#"h:31001 {app="-ml-llm", app_label_team="x", image="i", port_index="1", task="t"}"#,
        ],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn proxies_of_kuma_are_targets() {
    let mut lab = Lab::new("kuma_sd_configs: [{server: 'http://k:5676', client_id: me}]");
    lab.network.serve("k:5676", |head| {
        assert!(head.starts_with("POST /v3/discovery:monitoringassignments ") && head.contains(r#""id":"me""#), "{head}");
        json(
            r#"{"version_info": "1", "resources": [{"mesh": "default", "service": "llm", "labels": {"env": "x"},
                "targets": [{"name": "llm-01", "scheme": "http", "address": "10.0.0.8:1234", "metrics_path": "/m", "labels": {"a.b": "c"}}]}]}"#,
        )
    });
    let expected = concat!(
        r#"10.0.0.8:1234 {__meta_kuma_dataplane="llm-01", __meta_kuma_label_a_b="c", __meta_kuma_label_env="x", "#,
        r#"__meta_kuma_mesh="default", __meta_kuma_service="llm", __metrics_path__="/m", __scheme__="http", instance="llm-01"}"#
    );
    lab.check(1, &[expected]).await;
}
