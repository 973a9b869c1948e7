//! `dns_sd_configs`: records of names are targets.
//!
//! Name servers and search domains are those of `/etc/resolv.conf`, read at each look. A name that exists nowhere has
//! no targets; a server that fails keeps those it had.

use hickory_resolver::TokioResolver;
use hickory_resolver::config::ResolveHosts;
#[cfg(test)]
use hickory_resolver::config::ResolverConfig;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use promontory_config::TargetGroup;
use promontory_config::discovery::{DnsRecord, DnsSdConfig};

use super::error::SdError;
use super::meta::{Meta, join};
use super::provider::{Refresh, Surroundings};

/// Who is asked.
#[derive(Debug, Clone)]
pub(super) enum NameServers {
    /// Those of the machine.
    OfMachine,
    /// These.
    #[cfg(test)]
    Given(Box<ResolverConfig>),
}

/// One `dns_sd_configs` entry.
#[derive(Debug)]
pub(super) struct Dns {
    config: DnsSdConfig,
    servers: NameServers,
    surroundings: Surroundings,
}

impl Dns {
    pub(super) fn new(config: &DnsSdConfig, servers: NameServers, surroundings: &Surroundings) -> Self {
        Self { config: config.clone(), servers, surroundings: surroundings.clone() }
    }

    fn resolver(&self) -> Result<TokioResolver, SdError> {
        let provider = TokioRuntimeProvider::default();
        let failed = |source| SdError::Dns { name: "/etc/resolv.conf".to_owned(), source };
        let mut builder = match &self.servers {
            NameServers::OfMachine => TokioResolver::builder(provider).map_err(failed)?,
            #[cfg(test)]
            NameServers::Given(config) => TokioResolver::builder_with_config((**config).clone(), provider),
        };
        let options = builder.options_mut();
        options.cache_size = 0;
        options.edns0 = true;
        options.use_hosts_file = ResolveHosts::Never;
        builder.build().map_err(failed)
    }

    async fn look_up(&self, resolver: &TokioResolver, name: &str) -> Result<Vec<TargetGroup>, SdError> {
        let kind = match self.config.record {
            DnsRecord::Srv => RecordType::SRV,
            DnsRecord::A => RecordType::A,
            DnsRecord::Aaaa => RecordType::AAAA,
            DnsRecord::Mx => RecordType::MX,
            DnsRecord::Ns => RecordType::NS,
        };
        let found = match resolver.lookup(name, kind).await {
            Ok(found) => found,
            Err(e) if e.is_no_records_found() || e.is_nx_domain() => return Ok(Vec::new()),
            Err(source) => return Err(SdError::Dns { name: name.to_owned(), source }),
        };
        Ok(found.answers().iter().filter_map(|record| self.target(name, &record.data)).collect())
    }

    /// The target that a record is; records of other kinds, like aliases on the way, are none.
    fn target(&self, name: &str, data: &RData) -> Option<TargetGroup> {
        let mut meta = Meta::new("__meta_dns_");
        meta.set("name", name);
        let (host, port) = match (self.config.record, data) {
            (DnsRecord::Srv, RData::SRV(srv)) => {
                meta.set("srv_record_target", srv.target.to_utf8()).set("srv_record_port", srv.port.to_string());
                (host(&srv.target), srv.port)
            }
            (DnsRecord::A, RData::A(address)) => (address.to_string(), self.config.port),
            (DnsRecord::Aaaa, RData::AAAA(address)) => (address.to_string(), self.config.port),
            (DnsRecord::Mx, RData::MX(mx)) => {
                meta.set("mx_record_target", mx.exchange.to_utf8());
                (host(&mx.exchange), self.config.port)
            }
            (DnsRecord::Ns, RData::NS(server)) => {
                meta.set("ns_record_target", server.0.to_utf8());
                (host(&server.0), self.config.port)
            }
            _ => return None,
        };
        Some(meta.target(join(&host, port)))
    }
}

/// A name without the dot at its end.
fn host(name: &Name) -> String {
    let text = name.to_utf8();
    text.strip_suffix('.').map(str::to_owned).unwrap_or(text)
}

impl Refresh for Dns {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, SdError> {
        let resolver = self.resolver()?;
        let mut groups = Vec::new();
        for name in &self.config.names {
            self.surroundings.metrics.count("prometheus_sd_dns_lookups_total", Vec::new(), 1);
            let found = self.look_up(&resolver, name).await;
            if found.is_err() {
                self.surroundings.metrics.count("prometheus_sd_dns_lookup_failures_total", Vec::new(), 1);
            }
            groups.extend(found?);
        }
        Ok(groups)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use hickory_resolver::config::{ConnectionConfig, NameServerConfig};
    use promontory_config::Discovery;

    use super::*;
    use crate::discovery::testing::{discovery, surroundings};

    /// What the name server answers with: code, and records as type and data.
    type Zone = Arc<Mutex<(u8, Vec<(u16, Vec<u8>)>)>>;

    /// A name server on the loopback that gives the same answer to every question.
    async fn name_server(zone: Zone) -> NameServers {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 2048];
            while let Ok((n, from)) = socket.recv_from(&mut buffer).await {
                let mut end = 12;
                while buffer[end] != 0 {
                    end += 1 + usize::from(buffer[end]);
                }
                end += 5;
                let asked = u16::from_be_bytes([buffer[end - 4], buffer[end - 3]]);
                assert!(n >= end && asked > 0);
                let (code, records) = zone.lock().unwrap().clone();
                let mut reply = buffer[..2].to_vec();
                reply.extend([0x81, 0x80 | code, 0, 1, 0, u8::try_from(records.len()).unwrap(), 0, 0, 0, 0]);
                reply.extend(&buffer[12..end]);
                for (kind, data) in records {
                    reply.extend([0xc0, 12]);
                    reply.extend(kind.to_be_bytes());
                    reply.extend([0, 1, 0, 0, 0, 60]);
                    reply.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
                    reply.extend(data);
                }
                let _ = socket.send_to(&reply, from).await;
            }
        });
        let mut connection = ConnectionConfig::udp();
        connection.port = at.port();
        let server = NameServerConfig::new(at.ip(), true, vec![connection]);
        NameServers::Given(Box::new(ResolverConfig::from_parts(None, Vec::new(), vec![server])))
    }

    /// A name as in a record.
    fn wire(name: &str) -> Vec<u8> {
        let mut out = Vec::new();
        for part in name.split('.') {
            out.push(u8::try_from(part.len()).unwrap());
            out.extend(part.bytes());
        }
        out.push(0);
        out
    }

    fn with_prefix(prefix: &[u8], name: &str) -> Vec<u8> {
        [prefix, &wire(name)].concat()
    }

    async fn found(dns: &mut Dns) -> Result<Vec<String>, String> {
        let groups = dns.refresh().await.map_err(|e| e.to_string())?;
        Ok(groups.iter().map(|g| format!("{} {}", g.targets[0], g.labels)).collect())
    }

    async fn check(fields: &str, records: Vec<(u16, Vec<u8>)>, expected: &str) {
        let zone: Zone = Arc::new(Mutex::new((0, records)));
        let servers = name_server(zone.clone()).await;
        let Discovery::Dns(config) = discovery(&format!("dns_sd_configs: [{{{fields}}}]")).remove(0) else { panic!() };
        let surroundings = surroundings();
        let mut dns = Dns::new(&config, servers, &surroundings);
        assert_eq!(found(&mut dns).await.map(|found| found.join("\n")), Ok(expected.to_owned()), "{fields}");
        // No such name.
        *zone.lock().unwrap() = (3, Vec::new());
        assert_eq!(found(&mut dns).await, Ok(Vec::new()));
        // The server fails, then refuses.
        for code in [2, 5] {
            *zone.lock().unwrap() = (code, Vec::new());
            let error = found(&mut dns).await.unwrap_err();
            assert!(error.starts_with("look up w.test."), "{error}");
        }
    }

    #[tokio::test]
    async fn records_are_targets() {
        check(
            "names: [w.test.]",
            vec![(5, wire("alias.test")), (33, with_prefix(&[0, 1, 0, 1, 0x1f, 0x40], "g1.test"))],
            r#"g1.test:8000 {__meta_dns_name="w.test.", __meta_dns_srv_record_port="8000", __meta_dns_srv_record_target="g1.test."}"#,
        )
        .await;
        let a = vec![(1, vec![10, 0, 0, 1]), (1, vec![10, 0, 0, 2])];
        check("names: [w.test.], type: A, port: 9", a, {
            "10.0.0.1:9 {__meta_dns_name=\"w.test.\"}\n10.0.0.2:9 {__meta_dns_name=\"w.test.\"}"
        })
        .await;
        let mut loopback = vec![0; 15];
        loopback.push(1);
        check("names: [w.test.], type: AAAA, port: 9", vec![(28, loopback)], "[::1]:9 {__meta_dns_name=\"w.test.\"}")
            .await;
        check("names: [w.test.], type: MX, port: 25", vec![(15, with_prefix(&[0, 10], "m.test"))], {
            r#"m.test:25 {__meta_dns_mx_record_target="m.test.", __meta_dns_name="w.test."}"#
        })
        .await;
        check("names: [w.test.], type: NS, port: 53", vec![(2, wire("n.test"))], {
            r#"n.test:53 {__meta_dns_name="w.test.", __meta_dns_ns_record_target="n.test."}"#
        })
        .await;
    }
}
