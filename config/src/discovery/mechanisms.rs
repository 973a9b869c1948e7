//! The mechanisms that ask a server for targets: what each is told.

use promontory_model::Duration;

use std::collections::BTreeMap;

use super::settings::{Setting, check_url, choice, require, require_role, settings};
use crate::decode::Fields;
use crate::http_client::{Auth, Secret};
use crate::print::Map;
use crate::scrape::Scheme;

settings! {
    /// Targets that a server lists as JSON.
    HttpSdConfig {
        /// What to fetch.
        url: String = String::new(),
    } every 60 over http check |c, fields| {
        require(fields, &[("url", &c.url)]);
        check_url(fields, "url", &c.url);
    }
}

choice! {
    /// Which records of a name are targets.
    DnsRecord {
        /// Hosts and ports of a service.
        Srv = "SRV",
        /// IPv4 addresses.
        A = "A",
        /// IPv6 addresses.
        Aaaa = "AAAA",
        /// Hosts that take mail.
        Mx = "MX",
        /// Hosts that know the zone.
        Ns = "NS",
    }
}

settings! {
    /// Targets that are records of names.
    DnsSdConfig {
        /// Names to look up.
        names: Vec<String> = Vec::new(),
        /// Records to look for.
        record as "type": DnsRecord = DnsRecord::Srv,
    } port 0 every 30 check |c, fields| {
        if c.names.is_empty() {
            fields.missing("names");
        }
        if c.port == 0 && c.record != DnsRecord::Srv {
            fields.map().rule(format!("a port is required in DNS-SD configs for {} records", c.record.as_str()));
        }
    }
}

settings! {
    /// Services of a Consul catalogue.
    ConsulSdConfig {
        /// Host and port.
        server: String = "localhost:8500".to_owned(),
        /// What stands before the paths of the API.
        path_prefix: String = String::new(),
        /// Sent as `X-Consul-Token`.
        token: Option<Secret> = None,
        /// Datacenter to ask for; empty is that of the server.
        datacenter: String = String::new(),
        /// Namespace to ask for.
        namespace: String = String::new(),
        /// Admin partition to ask for.
        partition: String = String::new(),
        /// `http` or `https`.
        scheme: Scheme = Scheme::Http,
        /// User name of basic authentication.
        username: String = String::new(),
        /// Password of basic authentication.
        password: Option<Secret> = None,
        /// Services wanted; empty is all.
        services: Vec<String> = Vec::new(),
        /// Tags that a service must have, all of them.
        tags: Vec<String> = Vec::new(),
        /// Metadata that a node must have.
        node_meta: BTreeMap<String, String> = BTreeMap::new(),
        /// Expression that services of the catalogue must fulfil.
        filter: String = String::new(),
        /// Expression that instances must fulfil.
        health_filter: String = String::new(),
        /// Put between and around the tags in their label.
        tag_separator: String = ",".to_owned(),
        /// Whether any server may answer, not only the leader.
        allow_stale: bool = true,
    } every 30 over http check |c, fields| {
        require(fields, &[("server", &c.server)]);
        if !c.username.is_empty() && c.http.auth != Auth::None {
            fields.map().rule("at most one of username and basic_auth, authorization or oauth2 must be configured");
        }
    }
}

impl std::fmt::Display for Scheme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Setting for Scheme {
    fn read(fields: &Fields<'_>, key: &'static str) -> Option<Self> {
        fields.get(key)?.one_of(&[("http", Self::Http), ("https", Self::Https)])
    }

    fn print(&self, key: &str, _default: &Self, map: &mut Map) {
        map.put(key, self.as_str());
    }
}

settings! {
    /// Services that Nomad knows by itself.
    NomadSdConfig {
        /// Whether any server may answer, not only the leader.
        allow_stale: bool = true,
        /// Namespace to ask for.
        namespace: String = "default".to_owned(),
        /// Region to ask for.
        region: String = "global".to_owned(),
        /// URL of the API.
        server: String = "http://localhost:4646".to_owned(),
        /// Put between and around the tags in their label.
        tag_separator: String = ",".to_owned(),
    } every 60 over http check |c, fields| {
        require(fields, &[("server", &c.server)]);
        check_url(fields, "server", &c.server);
    }
}

settings! {
    /// Instances that are registered with Eureka.
    EurekaSdConfig {
        /// URL of the server, as far as `/apps`.
        server: String = String::new(),
    } every 30 over http check |c, fields| {
        require(fields, &[("server", &c.server)]);
        check_url(fields, "server", &c.server);
    }
}

settings! {
    /// Exporters that run on this machine.
    LocalSdConfig {
        /// Where to look.
        host: String = "127.0.0.1".to_owned(),
        /// Jobs wanted of those known; empty is all.
        jobs: Vec<String> = Vec::new(),
        /// Exporters known besides.
        exporters: Vec<LocalExporter> = Vec::new(),
    } every 30 check |c, fields| {
        require(fields, &[("host", &c.host)]);
    }
}

settings! {
    /// Members of services in ZooKeeper, as Nerve or serversets keep them.
    ZooKeeperSdConfig {
        /// Servers, as hosts with or without ports.
        servers: Vec<String> = Vec::new(),
        /// Nodes below which members are.
        paths: Vec<String> = Vec::new(),
        /// Time after which a session without a word has ended.
        timeout: Duration = Duration::from_secs(10),
    } check |c, fields| {
        for (name, list) in [("servers", &c.servers), ("paths", &c.paths)] {
            if list.is_empty() {
                fields.missing(name);
            }
        }
        for item in fields.list("paths") {
            if item.text().is_some_and(|path| !path.starts_with('/')) {
                item.rule("a path must begin with /");
            }
        }
        if c.timeout.ms() <= 0
            && let Some(timeout) = fields.get("timeout")
        {
            timeout.rule("timeout must be above 0");
        }
    }
}

settings! {
    /// An exporter that may run on this machine.
    LocalExporter {
        /// Label `job` of its series.
        job: String = String::new(),
        /// Ports on which it may answer.
        ports: Vec<u16> = Vec::new(),
        /// Path of its page.
        path: String = "/metrics".to_owned(),
        /// How names of its metrics begin, and of no other's.
        prefix: String = String::new(),
    } check |c, fields| {
        require(fields, &[("job", &c.job), ("prefix", &c.prefix)]);
        if c.ports.is_empty() {
            fields.missing("ports");
        }
        if !c.path.starts_with('/')
            && let Some(path) = fields.get("path")
        {
            path.rule("path must begin with /");
        }
    }
}

settings! {
    /// Containers of a Docker daemon.
    DockerSdConfig {
        /// Address of the daemon: `unix://`, `tcp://`, `http://` or `https://`.
        host: String = String::new(),
        /// Host of containers that use the network of the machine.
        host_networking_host: String = "localhost".to_owned(),
        /// Whether only the first network of a container is taken, by name.
        match_first_network: bool = true,
        /// Which containers are wanted.
        filters: Vec<Filter> = Vec::new(),
    } port 80 every 60 over http check |c, fields| {
        require(fields, &[("host", &c.host)]);
        check_docker_host(fields, &c.host);
    }
}

settings! {
    /// A condition on what is listed.
    Filter {
        /// What is looked at.
        name: String = String::new(),
        /// What it may be.
        values: Vec<String> = Vec::new(),
    } check |c, fields| {
        require(fields, &[("name", &c.name)]);
    }
}

choice! {
    /// What of a swarm is a target.
    SwarmRole {
        /// Services.
        Services = "services",
        /// Tasks of services.
        Tasks = "tasks",
        /// Machines.
        Nodes = "nodes",
    }
}

settings! {
    /// Services, tasks or nodes of a Docker swarm.
    DockerSwarmSdConfig {
        /// Address of the daemon: `unix://`, `tcp://`, `http://` or `https://`.
        host: String = String::new(),
        /// What is a target.
        role: SwarmRole = SwarmRole::Services,
        /// Which objects are wanted.
        filters: Vec<Filter> = Vec::new(),
    } port 80 every 60 over http check |c, fields| {
        require(fields, &[("host", &c.host)]);
        check_docker_host(fields, &c.host);
        require_role(fields);
    }
}

fn check_docker_host(fields: &Fields<'_>, host: &str) {
    let is_known = ["unix://", "tcp://", "http://", "https://"].iter().any(|scheme| host.starts_with(scheme));
    if !is_known
        && !host.is_empty()
        && let Some(field) = fields.get("host")
    {
        field.rule(format!("{host:?} does not begin with unix://, tcp://, http:// or https://"));
    }
}
