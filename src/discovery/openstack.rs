//! `openstack_sd_configs`: instances and hypervisors of Nova, load balancers of Octavia, with a token of Keystone's third
//! version.

use promontory_config::TargetGroup;
use promontory_config::discovery::{OpenStackRole, OpenStackSdConfig};
use promontory_config::http_client::Secret;
use serde_json::{Value, json};

use super::api::{Api, Pages, parse, take_list, url};
use super::error::SdError;
use super::meta::{Meta, items, join, text_at, texts};
use super::provider::{Refresh, Surroundings};
use crate::client::{Call, Url};

/// Items of one page.
const PAGE: &str = "1000";

/// What Keystone has said.
struct Session {
    token: String,
    said: Value,
    /// Where it was asked.
    asked: Url,
}

/// One `openstack_sd_configs` entry.
#[derive(Debug)]
pub(super) struct OpenStack {
    config: OpenStackSdConfig,
    api: Api,
}

impl OpenStack {
    pub(super) fn new(config: &OpenStackSdConfig, surroundings: &Surroundings) -> Self {
        Self { config: config.clone(), api: Api::new(&config.http, surroundings) }
    }

    /// Signs in: the token, and which services answer where.
    async fn sign_in(&mut self) -> Result<Session, SdError> {
        let c = &self.config;
        let mut auth = json!({ "identity": identity(c) });
        if let Some(scope) = scope(c) {
            auth["scope"] = scope;
        }
        let body = json!({ "auth": auth });
        let call =
            Call::post(url(&c.identity_endpoint)?.with("/auth/tokens", &[]), "application/json", body.to_string());
        let answer = self.api.send(&call).await?;
        let token = answer.headers.get("x-subject-token").and_then(|v| v.to_str().ok()).map(str::to_owned);
        let token = token.ok_or_else(|| SdError::Absent { url: call.url.clone(), what: "header X-Subject-Token" })?;
        let said: Value = parse(&call.url, &answer.body)?;
        Ok(Session { token, said, asked: call.url })
    }

    /// Where the service `kind` answers.
    fn endpoint(&self, session: &Session, kind: &str) -> Result<Url, SdError> {
        let c = &self.config;
        let catalog = items(&session.said, "/token/catalog");
        let services = catalog.iter().filter(|service| text_at(service, "/type") == kind);
        let is_ours = |endpoint: &&Value| {
            text_at(endpoint, "/interface") == c.availability
                && (c.region.is_empty()
                    || [text_at(endpoint, "/region"), text_at(endpoint, "/region_id")].contains(&c.region))
        };
        let endpoint = services.flat_map(|service| items(service, "/endpoints")).find(is_ours);
        let what = "endpoint of the region in its catalog";
        let endpoint = endpoint.ok_or_else(|| SdError::Absent { url: session.asked.clone(), what })?;
        url(&text_at(endpoint, "/url"))
    }

    /// All items of a list, which continues behind the last item seen.
    async fn list(
        &mut self,
        base: &Url,
        path: &str,
        token: &str,
        all: bool,
        list: &'static str,
    ) -> Result<Vec<Value>, SdError> {
        let (mut out, mut pages) = (Vec::new(), Pages::default());
        loop {
            let mut params = vec![("limit", PAGE)];
            if all {
                params.push(("all_tenants", "true"));
            }
            params.extend(pages.next().map(|marker| ("marker", marker)));
            let call = Call::get(base.with(path, &params)).header("x-auth-token", token)?;
            let mut page: Value = self.api.json(&call).await?;
            let mut found = take_list(&mut page, list, &call.url)?;
            let has_more = page
                .pointer(&format!("{list}_links"))
                .is_some_and(|links| items(links, "").iter().any(|l| text_at(l, "/rel") == "next"));
            let last = found.last().filter(|_| has_more).map(|last| text_at(last, "/id"));
            out.append(&mut found);
            if pages.are_all(&call.url, last.unwrap_or_default())? {
                return Ok(out);
            }
        }
    }

    async fn instances(&mut self) -> Result<Vec<TargetGroup>, SdError> {
        let session = self.sign_in().await?;
        let base = self.endpoint(&session, "compute")?;
        let all = self.config.all_tenants;
        let servers = self.list(&base, "/servers/detail", &session.token, all, "/servers").await?;
        let mut out = Vec::new();
        for server in &servers {
            let mut about = Meta::new("__meta_openstack_");
            about.set_all(
                server,
                &[
                    ("instance_id", "/id"),
                    ("instance_image", "/image/id"),
                    ("instance_name", "/name"),
                    ("instance_status", "/status"),
                    ("project_id", "/tenant_id"),
                    ("user_id", "/user_id"),
                ],
            );
            let flavors = ["/flavor/original_name", "/flavor/id"].map(|pointer| text_at(server, pointer));
            about.set("instance_flavor", flavors.iter().find(|f| !f.is_empty()).map_or("", String::as_str));
            about.set_map("tag", server, "/metadata");
            for (pool, addresses) in server.get("addresses").and_then(Value::as_object).into_iter().flatten() {
                let of_kind = |kind: &'static str| {
                    items(addresses, "").iter().filter(move |a| text_at(a, "/OS-EXT-IPS:type") == kind)
                };
                let mac = |a: &Value| text_at(a, "/OS-EXT-IPS-MAC:mac_addr");
                for own in of_kind("fixed") {
                    let mut meta = about.clone();
                    let address = text_at(own, "/addr");
                    meta.set("address_pool", pool).set("private_ip", &address);
                    if let Some(public) = of_kind("floating").find(|public| mac(public) == mac(own)) {
                        meta.set("public_ip", text_at(public, "/addr"));
                    }
                    out.push(meta.target(join(&address, self.config.port)));
                }
            }
        }
        Ok(out)
    }

    async fn hypervisors(&mut self) -> Result<Vec<TargetGroup>, SdError> {
        let session = self.sign_in().await?;
        let base = self.endpoint(&session, "compute")?;
        let all = self.list(&base, "/os-hypervisors/detail", &session.token, false, "/hypervisors").await?;
        let target = |hypervisor: &Value| {
            let mut meta = Meta::new("__meta_openstack_hypervisor_");
            meta.set_all(
                hypervisor,
                &[
                    ("host_ip", "/host_ip"),
                    ("hostname", "/hypervisor_hostname"),
                    ("id", "/id"),
                    ("state", "/state"),
                    ("status", "/status"),
                    ("type", "/hypervisor_type"),
                ],
            );
            meta.target(join(&text_at(hypervisor, "/host_ip"), self.config.port))
        };
        Ok(all.iter().map(target).collect())
    }

    /// Load balancers of Octavia with a listener that shows metrics.
    async fn load_balancers(&mut self) -> Result<Vec<TargetGroup>, SdError> {
        let session = self.sign_in().await?;
        let base = self.endpoint(&session, "load-balancer")?;
        let balancers = self.list(&base, "/v2.0/lbaas/loadbalancers", &session.token, false, "/loadbalancers").await?;
        let listeners = self.list(&base, "/v2.0/lbaas/listeners", &session.token, false, "/listeners").await?;
        let network = self.endpoint(&session, "network")?;
        let floating = self.list(&network, "/v2.0/floatingips", &session.token, false, "/floatingips").await?;
        let target = |balancer: &Value| {
            let port = metrics_port(&listeners, &text_at(balancer, "/id"))?;
            let mut meta = Meta::new("__meta_openstack_");
            meta.set_all(
                balancer,
                &[
                    ("loadbalancer_availability_zone", "/availability_zone"),
                    ("loadbalancer_id", "/id"),
                    ("loadbalancer_name", "/name"),
                    ("loadbalancer_operating_status", "/operating_status"),
                    ("loadbalancer_provider", "/provider"),
                    ("loadbalancer_provisioning_status", "/provisioning_status"),
                    ("loadbalancer_vip", "/vip_address"),
                    ("project_id", "/project_id"),
                ],
            );
            meta.set("loadbalancer_tags", texts(balancer, "/tags").join(","));
            let own = text_at(balancer, "/vip_port_id");
            if let Some(ip) = floating.iter().find(|ip| text_at(ip, "/port_id") == own && !own.is_empty()) {
                meta.set("loadbalancer_floating_ip", text_at(ip, "/floating_ip_address"));
            }
            Some(meta.target(join(&text_at(balancer, "/vip_address"), port)))
        };
        Ok(balancers.iter().filter_map(target).collect())
    }
}

/// The port at which a load balancer shows its metrics; none if it does not.
fn metrics_port(listeners: &[Value], balancer: &str) -> Option<String> {
    let is_its = |listener: &&Value| {
        text_at(listener, "/protocol") == "PROMETHEUS"
            && items(listener, "/loadbalancers").iter().any(|l| text_at(l, "/id") == balancer)
    };
    listeners.iter().find(is_its).map(|listener| text_at(listener, "/protocol_port"))
}

/// `{"id": …}` or `{"name": …}`; nothing where neither is given.
fn by_id_or_name(id: &str, name: &str) -> Option<Value> {
    match (id, name) {
        ("", "") => None,
        ("", name) => Some(json!({ "name": name })),
        (id, _) => Some(json!({ "id": id })),
    }
}

fn domain(c: &OpenStackSdConfig) -> Value {
    by_id_or_name(&c.domain_id, &c.domain_name).unwrap_or(Value::Null)
}

/// Who signs in.
fn identity(c: &OpenStackSdConfig) -> Value {
    let secret = |secret: &Option<Secret>| secret.as_ref().map(|s| s.reveal().to_owned()).unwrap_or_default();
    let user = match c.userid.as_str() {
        "" => json!({ "name": c.username, "domain": domain(c) }),
        id => json!({ "id": id }),
    };
    if let Some(Value::Object(mut credential)) =
        by_id_or_name(&c.application_credential_id, &c.application_credential_name)
    {
        credential.insert("secret".to_owned(), secret(&c.application_credential_secret).into());
        if c.application_credential_id.is_empty() {
            credential.insert("user".to_owned(), user);
        }
        return json!({ "methods": ["application_credential"], "application_credential": credential });
    }
    let Value::Object(mut user) = user else { return Value::Null };
    user.insert("password".to_owned(), secret(&c.password).into());
    json!({ "methods": ["password"], "password": { "user": user } })
}

/// For what; an application credential says so itself.
fn scope(c: &OpenStackSdConfig) -> Option<Value> {
    if !c.application_credential_id.is_empty() || !c.application_credential_name.is_empty() {
        return None;
    }
    Some(match (c.project_id.as_str(), c.project_name.as_str()) {
        ("", "") => json!({ "domain": domain(c) }),
        ("", name) => json!({ "project": { "name": name, "domain": domain(c) } }),
        (id, _) => json!({ "project": { "id": id } }),
    })
}

impl Refresh for OpenStack {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, SdError> {
        match self.config.role {
            OpenStackRole::Instance => self.instances().await,
            OpenStackRole::Hypervisor => self.hypervisors().await,
            OpenStackRole::LoadBalancer => self.load_balancers().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::client::testing::answer;
    use crate::discovery::testing::{Lab, routes};

    async fn targets(role: &str) -> Vec<String> {
        let mut lab = Lab::new(&format!(
            "openstack_sd_configs: [{{role: {role}, region: R, identity_endpoint: 'http://k:5000/v3', username: u, password: p, \
             domain_name: D, project_name: P}}]"
        ));
        lab.network.serve("k:5000", |head| {
            assert!(head.starts_with("POST /v3/auth/tokens "), "{head}");
            assert!(head.contains(r#""user":{"name":"u","domain":{"name":"D"},"password":"p"}"#), "{head}");
            let body = r#"{"token": {"catalog": [{"type": "compute", "endpoints": [
                {"interface": "admin", "region": "R", "url": "http://no/"}, {"interface": "public", "region": "R", "url": "http://n:8774/v2.1"}]},
                {"type": "load-balancer", "endpoints": [{"interface": "public", "region": "R", "url": "http://n:8774/lb"}]},
                {"type": "network", "endpoints": [{"interface": "public", "region": "R", "url": "http://n:8774/net"}]}]}}"#;
            vec![answer("201 Created", "X-Subject-Token: T\r\n", body.as_bytes())]
        });
        lab.network.serve("n:8774", |head| {
            assert!(head.contains("x-auth-token: T\r\n"), "{head}");
            routes(&[
                (
                    "GET /v2.1/servers/detail?limit=1000 ",
                    r#"{"servers": [{"id": "s", "name": "n", "status": "ACTIVE", "tenant_id": "t", "user_id": "u", "metadata": {"a-b": "c"},
                        "flavor": {"original_name": "gpu.1"}, "image": "", "addresses": {"net": [
                        {"addr": "10.0.0.1", "OS-EXT-IPS:type": "fixed", "OS-EXT-IPS-MAC:mac_addr": "m"},
                        {"addr": "1.2.3.4", "OS-EXT-IPS:type": "floating", "OS-EXT-IPS-MAC:mac_addr": "m"}]}}]}"#,
                ),
                (
                    "GET /v2.1/os-hypervisors/detail?limit=1000 ",
                    r#"{"hypervisors": [{"id": 1, "host_ip": "10.9.0.1", "hypervisor_hostname": "h", "state": "up", "status": "enabled", "hypervisor_type": "QEMU"}]}"#,
                ),
                (
                    "GET /lb/v2.0/lbaas/loadbalancers?limit=1000 ",
                    r#"{"loadbalancers": [{"id": "b", "name": "n", "vip_address": "10.8.0.1", "vip_port_id": "v", "tags": ["x", "y"],
                        "provider": "amphora", "operating_status": "ONLINE", "provisioning_status": "ACTIVE", "project_id": "t",
                        "availability_zone": "z"}, {"id": "no metrics", "vip_address": "10.8.0.2"}]}"#,
                ),
                (
                    "GET /lb/v2.0/lbaas/listeners?limit=1000 ",
                    r#"{"listeners": [{"protocol": "HTTP", "protocol_port": 80, "loadbalancers": [{"id": "b"}, {"id": "no metrics"}]},
                        {"protocol": "PROMETHEUS", "protocol_port": 8088, "loadbalancers": [{"id": "b"}]}]}"#,
                ),
                (
                    "GET /net/v2.0/floatingips?limit=1000 ",
                    r#"{"floatingips": [{"port_id": null, "floating_ip_address": "9.9.9.9"}, {"port_id": "v", "floating_ip_address": "1.2.3.9"}]}"#,
                ),
            ])(head)
        });
        lab.secs(1).await;
        assert_eq!(lab.job.errors(), Vec::<String>::new());
        lab.shown().iter().map(|line| line.replace("__meta_openstack_", "")).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn instances_and_hypervisors_are_targets() {
        assert_eq!(
            targets("instance").await,
            [concat!(
                r#"10.0.0.1:80 {address_pool="net", instance_flavor="gpu.1", instance_id="s", instance_name="n", "#,
                r#"instance_status="ACTIVE", private_ip="10.0.0.1", project_id="t", public_ip="1.2.3.4", tag_a_b="c", user_id="u"}"#
            )]
        );
        assert_eq!(
            targets("hypervisor").await,
            [concat!(
                r#"10.9.0.1:80 {hypervisor_host_ip="10.9.0.1", hypervisor_hostname="h", hypervisor_id="1", hypervisor_state="up", "#,
                r#"hypervisor_status="enabled", hypervisor_type="QEMU"}"#
            )]
        );
        assert_eq!(
            targets("loadbalancer").await,
            [concat!(
                r#"10.8.0.1:8088 {loadbalancer_availability_zone="z", loadbalancer_floating_ip="1.2.3.9", loadbalancer_id="b", "#,
                r#"loadbalancer_name="n", loadbalancer_operating_status="ONLINE", loadbalancer_provider="amphora", "#,
                r#"loadbalancer_provisioning_status="ACTIVE", loadbalancer_tags="x,y", loadbalancer_vip="10.8.0.1", project_id="t"}"#
            )]
        );
    }
}
