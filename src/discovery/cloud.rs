//! Machines that a provider lists as JSON over HTTP, page by page: one function per provider.

use std::time::Duration;

use promontory_config::discovery::{
    DigitalOceanRole, DigitalOceanSdConfig, HetznerRole, HetznerSdConfig, IonosSdConfig, KumaSdConfig, LinodeSdConfig,
    MarathonSdConfig, PuppetDbSdConfig, ScalewayRole, ScalewaySdConfig, TritonRole, TritonSdConfig, VultrSdConfig,
};
use promontory_config::http_client::HttpClientConfig;
use promontory_config::{Discovery, TargetGroup};
use serde_json::{Value, json};

use super::api::{Api, Pages, secret, take_list, url};
use super::error::SdError;
use super::meta::{Meta, items, join, text, text_at, texts, wrapped};
use super::provider::{Refresh, Surroundings};
use crate::client::{Call, Url};

/// One entry of a provider.
#[derive(Debug)]
pub(super) struct Cloud {
    config: Discovery,
    api: Api,
    /// `https`, but in tests.
    scheme: &'static str,
}

impl Cloud {
    /// The provider of `config`, which is asked as `http` says.
    pub(super) fn new(config: &Discovery, http: &HttpClientConfig, surroundings: &Surroundings) -> Self {
        let mut api = Api::new(http, surroundings);
        if let Discovery::Kuma(c) = config {
            api = api.within(Duration::from_millis(c.fetch_timeout.ms().unsigned_abs()));
        }
        Self { config: config.clone(), api, scheme: surroundings.cloud_scheme }
    }

    fn base(&self, host: &str) -> Result<Url, SdError> {
        url(&format!("{}://{host}", self.scheme))
    }
}

impl Refresh for Cloud {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, SdError> {
        match &self.config.clone() {
            Discovery::DigitalOcean(c) => match c.role {
                DigitalOceanRole::Droplets => droplets(c, self).await,
                DigitalOceanRole::Databases => databases(c, self).await,
            },
            Discovery::Hetzner(c) => match c.role {
                HetznerRole::Hcloud => hetzner_cloud(c, self).await,
                HetznerRole::Robot => hetzner_robot(c, self).await,
            },
            Discovery::Ionos(c) => ionos(c, self).await,
            Discovery::Kuma(c) => kuma(c, self).await,
            Discovery::Linode(c) => linode(c, self).await,
            Discovery::Marathon(c) => marathon(c, self).await,
            Discovery::PuppetDb(c) => puppetdb(c, self).await,
            Discovery::Scaleway(c) => match c.role {
                ScalewayRole::Instance => scaleway_instances(c, self).await,
                ScalewayRole::Baremetal => scaleway_baremetal(c, self).await,
            },
            Discovery::Triton(c) => triton(c, self).await,
            Discovery::Vultr(c) => vultr(c, self).await,
            _ => Ok(Vec::new()),
        }
    }
}

/// How the next page is asked for.
enum Next {
    /// By this parameter with what is at this pointer, until there is nothing.
    Cursor(&'static str, &'static str),
    /// By counting this parameter up, while the page says that there are more.
    Count(&'static str, fn(&Value, usize) -> bool),
}

/// All items of a list: those at `pointer` of each page.
async fn all_pages(
    api: &mut Api,
    base: &Url,
    path: &str,
    params: &[(&str, &str)],
    pointer: &'static str,
    next: Next,
) -> Result<Vec<Value>, SdError> {
    let (mut out, mut pages, mut number) = (Vec::new(), Pages::default(), 1);
    loop {
        let mut params = params.to_vec();
        match &next {
            Next::Cursor(name, _) => params.extend(pages.next().map(|at| (*name, at))),
            Next::Count(name, _) => params.push((name, pages.next().unwrap_or("1"))),
        }
        let url = base.with(path, &params);
        let mut answer: Value = api.get(url.clone()).await?;
        out.extend(take_list(&mut answer, pointer, &url)?);
        let at = match &next {
            Next::Cursor(_, pointer) => text_at(&answer, pointer),
            Next::Count(_, has_more) if has_more(&answer, number) => (number + 1).to_string(),
            Next::Count(..) => String::new(),
        };
        if pages.are_all(&url, at)? {
            return Ok(out);
        }
        number += 1;
    }
}

/// A list of DigitalOcean.
async fn digitalocean(cloud: &mut Cloud, path: &str, pointer: &'static str) -> Result<Vec<Value>, SdError> {
    let base = cloud.base("api.digitalocean.com")?;
    let next = Next::Count("page", |page, _| !text_at(page, "/links/pages/next").is_empty());
    all_pages(&mut cloud.api, &base, path, &[("per_page", "200")], pointer, next).await
}

async fn droplets(c: &DigitalOceanSdConfig, cloud: &mut Cloud) -> Result<Vec<TargetGroup>, SdError> {
    let all = digitalocean(cloud, "/v2/droplets", "/droplets").await?;
    let target = |droplet: &Value| {
        let mut meta = Meta::new("__meta_digitalocean_");
        meta.set_all(
            droplet,
            &[
                ("droplet_id", "/id"),
                ("droplet_name", "/name"),
                ("image", "/image/slug"),
                ("image_name", "/image/name"),
                ("region", "/region/slug"),
                ("size", "/size_slug"),
                ("status", "/status"),
                ("vpc", "/vpc_uuid"),
            ],
        );
        let address = |family: &str, kind: &str| {
            let found = items(droplet, family).iter().find(|a| text_at(a, "/type") == kind);
            found.map(|a| text_at(a, "/ip_address")).unwrap_or_default()
        };
        let public = address("/networks/v4", "public");
        meta.set("public_ipv4", &public).set("private_ipv4", address("/networks/v4", "private"));
        meta.set("public_ipv6", address("/networks/v6", "public"));
        meta.set("features", wrapped(&texts(droplet, "/features"), ","))
            .set("tags", wrapped(&texts(droplet, "/tags"), ","));
        (!items(droplet, "/networks/v4").is_empty()).then(|| meta.target(join(&public, c.port)))
    };
    Ok(all.iter().filter_map(target).collect())
}

async fn databases(c: &DigitalOceanSdConfig, cloud: &mut Cloud) -> Result<Vec<TargetGroup>, SdError> {
    let all = digitalocean(cloud, "/v2/databases", "/databases").await?;
    let target = |database: &Value| {
        let mut meta = Meta::new("__meta_digitalocean_db_");
        meta.set_all(
            database,
            &[
                ("engine", "/engine"),
                ("host", "/connection/host"),
                ("id", "/id"),
                ("name", "/name"),
                ("num_nodes", "/num_nodes"),
                ("private_host", "/private_connection/host"),
                ("region", "/region"),
                ("size", "/size"),
                ("status", "/status"),
                ("version", "/version"),
            ],
        );
        for tag in texts(database, "/tags") {
            meta.set_under("tag", &tag, "true");
        }
        let hosts = ["/private_connection/host", "/connection/host"].map(|pointer| text_at(database, pointer));
        let host = hosts.iter().find(|host| !host.is_empty())?;
        Some(meta.target(join(host, c.port)))
    };
    Ok(all.iter().filter_map(target).collect())
}

async fn vultr(c: &VultrSdConfig, cloud: &mut Cloud) -> Result<Vec<TargetGroup>, SdError> {
    let base = cloud.base("api.vultr.com")?;
    let next = Next::Cursor("cursor", "/meta/links/next");
    let all = all_pages(&mut cloud.api, &base, "/v2/instances", &[("per_page", "100")], "/instances", next).await?;
    let target = |instance: &Value| {
        let mut meta = Meta::new("__meta_vultr_instance_");
        meta.set_all(
            instance,
            &[
                ("allowed_bandwidth_gb", "/allowed_bandwidth"),
                ("disk_gb", "/disk"),
                ("hostname", "/hostname"),
                ("id", "/id"),
                ("internal_ip", "/internal_ip"),
                ("label", "/label"),
                ("main_ip", "/main_ip"),
                ("main_ipv6", "/v6_main_ip"),
                ("os", "/os"),
                ("os_id", "/os_id"),
                ("plan", "/plan"),
                ("ram_mb", "/ram"),
                ("region", "/region"),
                ("server_status", "/server_status"),
                ("vcpu_count", "/vcpu_count"),
            ],
        );
        meta.set("features", wrapped(&texts(instance, "/features"), ","))
            .set("tags", wrapped(&texts(instance, "/tags"), ","));
        meta.target(join(&text_at(instance, "/main_ip"), c.port))
    };
    Ok(all.iter().map(target).collect())
}

async fn hetzner_cloud(c: &HetznerSdConfig, cloud: &mut Cloud) -> Result<Vec<TargetGroup>, SdError> {
    let base = cloud.base("api.hetzner.cloud")?;
    let next = || Next::Cursor("page", "/meta/pagination/next_page");
    let mut params = vec![("per_page", "50")];
    if !c.label_selector.is_empty() {
        params.push(("label_selector", &c.label_selector));
    }
    let servers = all_pages(&mut cloud.api, &base, "/v1/servers", &params, "/servers", next()).await?;
    let networks = all_pages(&mut cloud.api, &base, "/v1/networks", &[("per_page", "50")], "/networks", next()).await?;
    let target = |server: &Value| {
        let mut meta = Meta::new("__meta_hetzner_");
        meta.set_whole("__meta_hetzner_role", "hcloud");
        meta.set_all(
            server,
            &[
                ("hcloud_cpu_cores", "/server_type/cores"),
                ("hcloud_cpu_type", "/server_type/cpu_type"),
                // The names that these had when datacenters were told, and those that they have now.
                ("hcloud_datacenter_location", "/location/name"),
                ("hcloud_datacenter_location_network_zone", "/location/network_zone"),
                ("hcloud_disk_size_gb", "/server_type/disk"),
                ("hcloud_image_description", "/image/description"),
                ("hcloud_image_name", "/image/name"),
                ("hcloud_image_os_flavor", "/image/os_flavor"),
                ("hcloud_image_os_version", "/image/os_version"),
                ("hcloud_location", "/location/name"),
                ("hcloud_location_network_zone", "/location/network_zone"),
                ("hcloud_server_type", "/server_type/name"),
                ("public_ipv4", "/public_net/ipv4/ip"),
                ("public_ipv6_network", "/public_net/ipv6/ip"),
                ("server_id", "/id"),
                ("server_name", "/name"),
                ("server_status", "/status"),
            ],
        );
        let memory = server.pointer("/server_type/memory").and_then(Value::as_f64).unwrap_or_default();
        meta.set("hcloud_memory_size_gb", memory.to_string());
        for own in items(server, "/private_net") {
            let id = text_at(own, "/network");
            if let Some(network) = networks.iter().find(|n| text_at(n, "/id") == id) {
                meta.set_under("hcloud_private_ipv4", &text_at(network, "/name"), text_at(own, "/ip"));
            }
        }
        for (key, value) in server.get("labels").and_then(Value::as_object).into_iter().flatten() {
            meta.set_under("hcloud_labelpresent", key, "true").set_under("hcloud_label", key, text(value));
        }
        meta.target(join(&text_at(server, "/public_net/ipv4/ip"), c.port))
    };
    Ok(servers.iter().map(target).collect())
}

async fn hetzner_robot(c: &HetznerSdConfig, cloud: &mut Cloud) -> Result<Vec<TargetGroup>, SdError> {
    let url = cloud.base("robot-ws.your-server.de")?.with("/server", &[]);
    let servers: Vec<Value> = cloud.api.get(url).await?;
    let target = |item: &Value| {
        let mut meta = Meta::new("__meta_hetzner_");
        meta.set_whole("__meta_hetzner_role", "robot");
        meta.set_all(
            item,
            &[
                ("public_ipv4", "/server/server_ip"),
                ("robot_cancelled", "/server/cancelled"),
                ("robot_product", "/server/product"),
                ("server_id", "/server/server_number"),
                ("server_name", "/server/server_name"),
                ("server_status", "/server/status"),
            ],
        );
        let datacenter = text_at(item, "/server/dc").to_lowercase();
        meta.set("datacenter", &datacenter).set("robot_datacenter", &datacenter);
        for subnet in items(item, "/server/subnet") {
            let ip = text_at(subnet, "/ip");
            if ip.contains(':') {
                meta.set("public_ipv6_network", format!("{ip}/{}", text_at(subnet, "/mask")));
                break;
            }
        }
        meta.target(join(&text_at(item, "/server/server_ip"), c.port))
    };
    Ok(servers.iter().map(target).collect())
}

async fn linode(c: &LinodeSdConfig, cloud: &mut Cloud) -> Result<Vec<TargetGroup>, SdError> {
    let base = cloud.base("api.linode.com")?;
    let next = || Next::Count("page", |page, n| page["pages"].as_u64().is_some_and(|pages| (n as u64) < pages));
    let size = [("page_size", "500")];
    let instances = all_pages(&mut cloud.api, &base, "/v4/linode/instances", &size, "/data", next()).await?;
    let ips = all_pages(&mut cloud.api, &base, "/v4/networking/ips", &size, "/data", next()).await?;
    let ranges = all_pages(&mut cloud.api, &base, "/v4/networking/ipv6/ranges", &size, "/data", next()).await?;
    let is_wanted = |instance: &&Value| c.region.is_empty() || text_at(instance, "/region") == c.region;
    let target = |instance: &Value| {
        let mut meta = Meta::new("__meta_linode_");
        meta.set_all(
            instance,
            &[
                ("gpus", "/specs/gpus"),
                ("group", "/group"),
                ("hypervisor", "/hypervisor"),
                ("image", "/image"),
                ("instance_id", "/id"),
                ("instance_label", "/label"),
                ("region", "/region"),
                ("specs_vcpus", "/specs/vcpus"),
                ("status", "/status"),
                ("type", "/type"),
            ],
        );
        for (name, pointer) in [("disk", "/specs/disk"), ("memory", "/specs/memory"), ("transfer", "/specs/transfer")] {
            let megabytes = instance.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
            meta.set(&format!("specs_{name}_bytes"), megabytes.saturating_mul(1 << 20).to_string());
        }
        let has_backups = instance.pointer("/backups/enabled").and_then(Value::as_bool).unwrap_or_default();
        meta.set("backups", if has_backups { "enabled" } else { "disabled" });
        let (mut public, mut extra) = (String::new(), Vec::new());
        let mut has_private = false;
        for own in texts(instance, "/ipv4") {
            let known = ips.iter().find(|ip| text_at(ip, "/address") == own);
            let rdns = known.map(|ip| text_at(ip, "/rdns")).unwrap_or_default();
            let is_public = known.is_some_and(|ip| ip["public"] == true);
            if is_public && public.is_empty() {
                public.clone_from(&own);
                meta.set("public_ipv4", &own).set("public_ipv4_rdns", rdns);
            } else if known.is_some() && !is_public && !has_private {
                has_private = true;
                meta.set("private_ipv4", &own).set("private_ipv4_rdns", rdns);
            } else {
                extra.push(own);
            }
        }
        let ipv6 = text_at(instance, "/ipv6");
        let slaac = ipv6.split('/').next().unwrap_or_default();
        meta.set("public_ipv6", slaac);
        let own_ranges = ranges.iter().filter(|range| text_at(range, "/route_target") == slaac && !slaac.is_empty());
        let own_ranges: Vec<String> =
            own_ranges.map(|r| format!("{}/{}", text_at(r, "/range"), text_at(r, "/prefix"))).collect();
        if let Some(ip) = ips.iter().find(|ip| text_at(ip, "/address") == slaac) {
            meta.set("public_ipv6_rdns", text_at(ip, "/rdns"));
        }
        meta.set("extra_ips", wrapped(&extra, &c.tag_separator))
            .set("ipv6_ranges", wrapped(&own_ranges, &c.tag_separator));
        meta.set("tags", wrapped(&texts(instance, "/tags"), &c.tag_separator));
        (!texts(instance, "/ipv4").is_empty()).then(|| meta.target(join(&public, c.port)))
    };
    Ok(instances.iter().filter(is_wanted).filter_map(target).collect())
}

/// The list of servers of a zone, asked with the secret key.
async fn scaleway(
    c: &ScalewaySdConfig,
    cloud: &mut Cloud,
    path: &str,
    own: &[(&str, &str)],
    pointer: &'static str,
) -> Result<Vec<Value>, SdError> {
    let secret = secret(c.secret_key.as_ref(), c.secret_key_file.as_deref())?.unwrap_or_default();
    let base = url(&c.api_url)?;
    let (mut out, mut pages) = (Vec::new(), Pages::default());
    for number in 2_u32.. {
        let mut params = vec![("page", pages.next().unwrap_or("1")), ("per_page", "100"), ("page_size", "100")];
        params.extend(own);
        let call = Call::get(base.with(path, &params)).header("x-auth-token", secret.trim())?;
        let mut answer: Value = cloud.api.json(&call).await?;
        let found = take_list(&mut answer, pointer, &call.url)?;
        let next = if found.len() < 100 { String::new() } else { number.to_string() };
        out.extend(found);
        if pages.are_all(&call.url, next)? {
            break;
        }
    }
    Ok(out)
}

async fn scaleway_instances(c: &ScalewaySdConfig, cloud: &mut Cloud) -> Result<Vec<TargetGroup>, SdError> {
    let tags = c.tags_filter.join(",");
    let filters = [("project", &c.project_id), ("name", &c.name_filter), ("tags", &tags)];
    let own: Vec<_> = filters.into_iter().filter(|(_, v)| !v.is_empty()).map(|(n, v)| (n, v.as_str())).collect();
    let path = format!("/instance/v1/zones/{}/servers", c.zone);
    let servers = scaleway(c, cloud, &path, &own, "/servers").await?;
    let target = |server: &Value| {
        let mut meta = Meta::new("__meta_scaleway_instance_");
        meta.set_all(
            server,
            &[
                ("boot_type", "/boot_type"),
                ("hostname", "/hostname"),
                ("id", "/id"),
                ("image_arch", "/image/arch"),
                ("image_id", "/image/id"),
                ("image_name", "/image/name"),
                ("location_cluster_id", "/location/cluster_id"),
                ("location_hypervisor_id", "/location/hypervisor_id"),
                ("location_node_id", "/location/node_id"),
                ("name", "/name"),
                ("organization_id", "/organization"),
                ("private_ipv4", "/private_ip"),
                ("project_id", "/project"),
                ("public_ipv6", "/ipv6/address"),
                ("security_group_id", "/security_group/id"),
                ("security_group_name", "/security_group/name"),
                ("status", "/state"),
                ("type", "/commercial_type"),
                ("zone", "/zone"),
            ],
        );
        let zone = text_at(server, "/zone");
        meta.set("region", zone.rsplit_once('-').map_or("", |(region, _)| region));
        meta.set("tags", wrapped(&texts(server, "/tags"), ","));
        let public = text_at(server, "/public_ip/address");
        meta.set("public_ipv4", if public.contains(':') { "" } else { &public });
        let of_family = |family: &str| -> Vec<String> {
            let own = items(server, "/public_ips").iter().filter(|ip| text_at(ip, "/family") == family);
            own.map(|ip| text_at(ip, "/address")).collect()
        };
        let (v4, v6) = (of_family("inet"), of_family("inet6"));
        meta.set("public_ipv4_addresses", wrapped(&v4, ",")).set("public_ipv6_addresses", wrapped(&v6, ","));
        let addresses = ["/private_ip", "/public_ip/address", "/ipv6/address"].map(|pointer| text_at(server, pointer));
        let mut addresses = addresses.iter().chain(v4.first()).chain(v6.first());
        let address = addresses.find(|address| !address.is_empty())?;
        Some(meta.target(join(address, c.port)))
    };
    Ok(servers.iter().filter_map(target).collect())
}

async fn scaleway_baremetal(c: &ScalewaySdConfig, cloud: &mut Cloud) -> Result<Vec<TargetGroup>, SdError> {
    let tags = c.tags_filter.join(",");
    let filters = [("project_id", &c.project_id), ("name", &c.name_filter), ("tags", &tags)];
    let own: Vec<_> = filters.into_iter().filter(|(_, v)| !v.is_empty()).map(|(n, v)| (n, v.as_str())).collect();
    let servers = scaleway(c, cloud, &format!("/baremetal/v1/zones/{}/servers", c.zone), &own, "/servers").await?;
    let systems = scaleway(c, cloud, &format!("/baremetal/v1/zones/{}/os", c.zone), &[], "/os").await?;
    let target = |server: &Value| {
        let mut meta = Meta::new("__meta_scaleway_baremetal_");
        meta.set_all(
            server,
            &[
                ("id", "/id"),
                ("name", "/name"),
                ("project_id", "/project_id"),
                ("status", "/status"),
                ("type", "/offer_name"),
                ("zone", "/zone"),
            ],
        );
        let system = text_at(server, "/install/os_id");
        if let Some(system) = systems.iter().find(|s| text_at(s, "/id") == system) {
            meta.set_all(system, &[("os_name", "/name"), ("os_version", "/version")]);
        }
        meta.set("tags", wrapped(&texts(server, "/tags"), ","));
        let address = |version: &str| {
            let found = items(server, "/ips").iter().find(|ip| text_at(ip, "/version").eq_ignore_ascii_case(version));
            found.map(|ip| text_at(ip, "/address")).unwrap_or_default()
        };
        let (v4, v6) = (address("IPv4"), address("IPv6"));
        meta.set("public_ipv4", &v4).set("public_ipv6", &v6);
        let address = [v4, v6].into_iter().find(|address| !address.is_empty())?;
        Some(meta.target(join(&address, c.port)))
    };
    Ok(servers.iter().filter_map(target).collect())
}

async fn ionos(c: &IonosSdConfig, cloud: &mut Cloud) -> Result<Vec<TargetGroup>, SdError> {
    let path = format!("/cloudapi/v6/datacenters/{}/servers", c.datacenter_id);
    let url = cloud.base("api.ionos.com")?.with(&path, &[("depth", "3")]);
    let mut answer: Value = cloud.api.get(url.clone()).await?;
    let servers = take_list(&mut answer, "/items", &url)?;
    let target = |server: &Value| {
        let mut meta = Meta::new("__meta_ionos_server_");
        meta.set_all(
            server,
            &[
                ("availability_zone", "/properties/availabilityZone"),
                ("boot_cdrom_id", "/properties/bootCdrom/id"),
                ("boot_volume_id", "/properties/bootVolume/id"),
                ("cpu_family", "/properties/cpuFamily"),
                ("id", "/id"),
                ("lifecycle", "/metadata/state"),
                ("name", "/properties/name"),
                ("state", "/properties/vmState"),
                ("type", "/properties/type"),
            ],
        );
        meta.set("servers_id", text_at(&answer, "/id"));
        let boot = text_at(server, "/properties/bootVolume/id");
        if let Some(volume) = items(server, "/entities/volumes/items").iter().find(|v| text_at(v, "/id") == boot) {
            meta.set("boot_image_id", text_at(volume, "/properties/image"));
        }
        let mut all = Vec::new();
        for card in items(server, "/entities/nics/items") {
            let own = texts(card, "/properties/ips");
            let name = match text_at(card, "/properties/name") {
                name if name.is_empty() => "unnamed".to_owned(),
                name => name,
            };
            meta.set_under("nic_ip", &name, wrapped(&own, ","));
            all.extend(own);
        }
        meta.set("ip", wrapped(&all, ","));
        // A server without a card cannot be reached.
        Some(meta.target(join(all.first()?, c.port)))
    };
    Ok(servers.iter().filter_map(target).collect())
}

async fn puppetdb(c: &PuppetDbSdConfig, cloud: &mut Cloud) -> Result<Vec<TargetGroup>, SdError> {
    let body = json!({ "query": c.query }).to_string();
    let call = Call::post(url(&c.url)?.with("/pdb/query/v4", &[]), "application/json", body);
    let resources: Vec<Value> = cloud.api.json(&call).await?;
    let target = |resource: &Value| {
        let mut meta = Meta::new("__meta_puppetdb_");
        meta.set("query", &c.query).set_all(
            resource,
            &[
                ("certname", "/certname"),
                ("environment", "/environment"),
                ("exported", "/exported"),
                ("file", "/file"),
                ("resource", "/resource"),
                ("title", "/title"),
                ("type", "/type"),
            ],
        );
        meta.set("tags", wrapped(&texts(resource, "/tags"), ","));
        if c.include_parameters {
            parameters(&mut meta, "parameter", &resource["parameters"]);
        }
        meta.target(join(&text_at(resource, "/certname"), c.port))
    };
    Ok(resources.iter().map(target).collect())
}

/// Parameters of a resource, those inside of others with both names.
fn parameters(meta: &mut Meta, name: &str, of: &Value) {
    for (key, value) in of.as_object().into_iter().flatten() {
        match value {
            Value::Object(_) => parameters(meta, &format!("{name}_{}", super::meta::clean(key)), value),
            Value::Array(_) => {
                meta.set_under(name, key, wrapped(&texts(value, ""), ","));
            }
            _ => {
                meta.set_under(name, key, text(value));
            }
        }
    }
}

async fn triton(c: &TritonSdConfig, cloud: &mut Cloud) -> Result<Vec<TargetGroup>, SdError> {
    let base = cloud.base(&format!("{}:{}", c.endpoint, c.port))?;
    let groups = c.groups.join(",");
    let params: &[(&str, &str)] = if groups.is_empty() { &[] } else { &[("groups", &groups)] };
    let (path, pointer) = match c.role {
        TritonRole::Container => (format!("/v{}/discover", c.version), "/containers"),
        TritonRole::Cn => (format!("/v{}/gz/discover", c.version), "/cns"),
    };
    let url = base.with(&path, params);
    let mut answer: Value = cloud.api.get(url.clone()).await?;
    let machines = take_list(&mut answer, pointer, &url)?;
    let target = |machine: &Value| {
        let mut meta = Meta::new("__meta_triton_");
        let id = match c.role {
            TritonRole::Container => {
                meta.set_all(
                    machine,
                    &[
                        ("machine_alias", "/vm_alias"),
                        ("machine_brand", "/vm_brand"),
                        ("machine_id", "/vm_uuid"),
                        ("machine_image", "/vm_image_uuid"),
                        ("server_id", "/server_uuid"),
                    ],
                );
                meta.set("groups", wrapped(&texts(machine, "/groups"), ","));
                text_at(machine, "/vm_uuid")
            }
            TritonRole::Cn => {
                meta.set_all(machine, &[("machine_alias", "/server_hostname"), ("machine_id", "/server_uuid")]);
                text_at(machine, "/server_uuid")
            }
        };
        meta.target(format!("{id}.{}:{}", c.dns_suffix, c.port))
    };
    Ok(machines.iter().map(target).collect())
}

async fn marathon(c: &MarathonSdConfig, cloud: &mut Cloud) -> Result<Vec<TargetGroup>, SdError> {
    // The servers know the same; the first one that answers will do.
    let mut failed = None;
    for server in &c.servers {
        let mut call = Call::get(url(server)?.with("/v2/apps/", &[("embed", "apps.tasks")]));
        if let Some(token) = secret(c.auth_token.as_ref(), c.auth_token_file.as_deref())? {
            call = call.header("authorization", &format!("token={}", token.trim()))?;
        }
        match cloud.api.json::<Value>(&call).await {
            Ok(mut answer) => {
                let apps = take_list(&mut answer, "/apps", &call.url)?;
                return Ok(apps.iter().flat_map(marathon_app).collect());
            }
            Err(error) => failed = Some(error),
        }
    }
    failed.map_or(Ok(Vec::new()), Err)
}

/// A target for each port of each task of an app.
fn marathon_app(app: &Value) -> Vec<TargetGroup> {
    let mut out = Vec::new();
    let definitions = items(app, "/portDefinitions");
    let mut mappings = items(app, "/container/portMappings");
    if mappings.is_empty() {
        mappings = items(app, "/container/docker/portMappings");
    }
    // With a network of its own, a container is reached at its own ports.
    let is_container = text_at(app, "/networks/0/mode") == "container";
    for task in items(app, "/tasks") {
        let host = match text_at(task, "/ipAddresses/0/ipAddress") {
            ip if is_container && !ip.is_empty() => ip,
            _ => text_at(task, "/host"),
        };
        let mut ports: Vec<String> = texts(task, "/ports");
        if is_container || ports.is_empty() {
            let own = mappings.iter().map(|m| text_at(m, "/containerPort")).filter(|p| p != "0" && !p.is_empty());
            let own: Vec<String> = own.collect();
            ports = if own.is_empty() { ports } else { own };
        }
        for (index, port) in ports.iter().enumerate() {
            let mut meta = Meta::new("__meta_marathon_");
            meta.set_all(app, &[("image", "/container/docker/image")]).set_all(task, &[("task", "/id")]);
            meta.set("app", text_at(app, "/id").replace('/', "-")).set("port_index", index.to_string());
            meta.set_map("app_label", app, "/labels");
            if let Some(definition) = definitions.get(index) {
                meta.set_map("port_definition_label", definition, "/labels");
            }
            if let Some(mapping) = mappings.get(index) {
                meta.set_map("port_mapping_label", mapping, "/labels");
            }
            out.push(meta.target(join(&host, port)));
        }
    }
    out
}

async fn kuma(c: &KumaSdConfig, cloud: &mut Cloud) -> Result<Vec<TargetGroup>, SdError> {
    let kind = "type.googleapis.com/kuma.observability.v1.MonitoringAssignment";
    let client = if c.client_id.is_empty() { "prometheus" } else { &c.client_id };
    let body = json!({ "version_info": "", "node": { "id": client }, "type_url": kind, "response_nonce": "" });
    let call = Call::post(
        url(&c.server)?.with("/v3/discovery:monitoringassignments", &[]),
        "application/json",
        body.to_string(),
    );
    let mut answer: Value = cloud.api.json(&call).await?;
    let mut out = Vec::new();
    for resource in &take_list(&mut answer, "/resources", &call.url)? {
        for target in items(resource, "/targets") {
            let mut meta = Meta::new("__meta_kuma_");
            meta.set_all(resource, &[("mesh", "/mesh"), ("service", "/service")]);
            meta.set_map("label", resource, "/labels").set_map("label", target, "/labels");
            meta.set_all(target, &[("dataplane", "/name")]);
            for (label, pointer) in
                [("instance", "/name"), ("__scheme__", "/scheme"), ("__metrics_path__", "/metrics_path")]
            {
                meta.set_whole(label, &text_at(target, pointer));
            }
            out.push(meta.target(text_at(target, "/address")));
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
