//! `ec2_sd_configs` and `lightsail_sd_configs`: instances of Amazon, asked with signed requests.

use promontory_config::TargetGroup;
use promontory_config::discovery::{AwsAccount, Ec2SdConfig, LightsailSdConfig};
use promontory_config::http_client::HttpClientConfig;
use roxmltree::{Document, Node};
use serde_json::{Value, json};

use super::api::{Api, url};
use super::error::SdError;
use super::meta::{Meta, items, join, text_at, texts, wrapped};
use super::provider::{Refresh, Surroundings};
use crate::client::{Call, Url};
use crate::credentials::aws::{self, Keys, sign};

/// Pages of one list.
const PAGES_MAX: usize = 1_000;
/// Content type of a form.
const FORM: &str = "application/x-www-form-urlencoded";

/// The access of one entry.
#[derive(Debug)]
struct Account {
    api: Api,
    endpoint: String,
    who: aws::Account,
    surroundings: Surroundings,
}

impl Account {
    fn new(config: &AwsAccount, http: &HttpClientConfig, surroundings: &Surroundings) -> Self {
        Self {
            api: Api::new(http, surroundings),
            endpoint: config.endpoint.clone(),
            who: aws::Account::new(config.into(), http, &surroundings.reach()),
            surroundings: surroundings.clone(),
        }
    }

    /// Where the instances are, and keys to ask about them.
    async fn access(&mut self) -> Result<(String, Keys), SdError> {
        Ok((self.who.region().await?, self.who.keys().await?))
    }

    /// The endpoint of a service in the region.
    fn endpoint(&self, service: &str, region: &str) -> Result<Url, SdError> {
        if self.endpoint.is_empty() {
            return url(&format!("{}://{service}.{region}.amazonaws.com/", self.surroundings.cloud_scheme));
        }
        let has_scheme = self.endpoint.contains("://");
        url(&if has_scheme { self.endpoint.clone() } else { format!("https://{}", self.endpoint) })
    }
}

fn xml<'a>(url: &Url, text: &'a str) -> Result<Document<'a>, SdError> {
    Document::parse(text).map_err(|e| SdError::Garbled { url: url.clone(), what: e.to_string() })
}

/// A form, in ascending order of names where that matters.
fn encode(form: &[(&str, &str)]) -> String {
    // A URL escapes parameters as a form does, but for the blank, which a form may write so too.
    let text = Url::parse("http://form/").map(|base| base.with("", form).to_string()).unwrap_or_default();
    text.split_once('?').map(|(_, query)| query.to_owned()).unwrap_or_default()
}

/// One `ec2_sd_configs` entry.
#[derive(Debug)]
pub(super) struct Ec2 {
    config: Ec2SdConfig,
    account: Account,
    /// The one that was asked last.
    region: String,
}

impl Ec2 {
    pub(super) fn new(config: &Ec2SdConfig, surroundings: &Surroundings) -> Self {
        let account = Account::new(&config.account, &config.http, surroundings);
        Self { config: config.clone(), account, region: String::new() }
    }

    /// The answer to an action, page by page, each handed to `take`.
    async fn ask(&mut self, form: &[(String, String)], mut take: impl FnMut(&Document<'_>)) -> Result<(), SdError> {
        let (region, keys) = self.account.access().await?;
        self.region.clone_from(&region);
        let endpoint = self.account.endpoint("ec2", &region)?;
        let mut next = String::new();
        for _ in 0..PAGES_MAX {
            let mut form: Vec<(&str, &str)> = form.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            form.push(("Version", "2016-11-15"));
            if !next.is_empty() {
                form.push(("NextToken", &next));
            }
            let call = Call::post(endpoint.clone(), FORM, encode(&form));
            let call = sign(call, "ec2", &region, &keys, self.account.surroundings.clock.now())?;
            let answer = self.account.api.send(&call).await?;
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            let document = xml(&call.url, &text)?;
            take(&document);
            next = child_text(document.root_element(), "nextToken").to_owned();
            if next.is_empty() {
                return Ok(());
            }
        }
        Err(SdError::Pages { url: endpoint, max: PAGES_MAX })
    }

    fn target(&self, owner: &str, instance: Node<'_, '_>, zones: &[(String, String)]) -> Option<TargetGroup> {
        let text = |name: &str| child_text(instance, name);
        let nested = |outer: &str, name: &str| child(instance, outer).map_or("", |node| child_text(node, name));
        let mut meta = Meta::new("__meta_ec2_");
        meta.set("region", &self.region).set("owner_id", owner);
        let plain = [
            ("ami", "imageId"),
            ("architecture", "architecture"),
            ("instance_id", "instanceId"),
            ("instance_lifecycle", "instanceLifecycle"),
            ("instance_type", "instanceType"),
            ("platform", "platform"),
            ("private_dns_name", "privateDnsName"),
            ("private_ip", "privateIpAddress"),
            ("public_dns_name", "dnsName"),
            ("public_ip", "ipAddress"),
            ("vpc_id", "vpcId"),
        ];
        plain.iter().for_each(|(label, name)| drop(meta.set(label, text(name)).build()));
        meta.set("instance_state", nested("instanceState", "name"));
        let zone = nested("placement", "availabilityZone");
        meta.set("availability_zone", zone);
        if let Some((_, id)) = zones.iter().find(|(name, _)| name == zone) {
            meta.set("availability_zone_id", id);
        }
        if !text("vpcId").is_empty() {
            meta.set("primary_subnet_id", text("subnetId"));
        }
        let (mut subnets, mut ipv6, mut primary) = (Vec::new(), Vec::new(), Vec::new());
        for card in child_items(instance, "networkInterfaceSet") {
            let subnet = child_text(card, "subnetId").to_owned();
            if !subnet.is_empty() && !subnets.contains(&subnet) {
                subnets.push(subnet);
            }
            for address in child_items(card, "ipv6AddressesSet") {
                let ip = child_text(address, "ipv6Address").to_owned();
                if child_text(address, "isPrimaryIpv6") == "true" {
                    primary.push(ip.clone());
                }
                ipv6.push(ip);
            }
        }
        meta.set("subnet_id", wrapped(&subnets, ","));
        meta.set("ipv6_addresses", wrapped(&ipv6, ",")).set("primary_ipv6_addresses", wrapped(&primary, ","));
        let default_ipv6 = primary.first().or(ipv6.first());
        meta.set("default_ipv6_address", default_ipv6.map_or("", String::as_str));
        for tag in child_items(instance, "tagSet") {
            meta.set_under("tag", child_text(tag, "key"), child_text(tag, "value"));
        }
        // An instance that has ended has no address.
        let address = Some(text("privateIpAddress")).filter(|ip| !ip.is_empty()).or(default_ipv6.map(String::as_str))?;
        Some(meta.target(join(address, self.config.port)))
    }
}

fn child<'a, 'input>(node: Node<'a, 'input>, name: &str) -> Option<Node<'a, 'input>> {
    node.children().find(|child| child.tag_name().name() == name)
}

fn child_text<'a>(node: Node<'a, '_>, name: &str) -> &'a str {
    child(node, name).and_then(|child| child.text()).unwrap_or_default().trim()
}

fn child_items<'a, 'input>(
    node: Node<'a, 'input>,
    name: &str,
) -> impl Iterator<Item = Node<'a, 'input>> + use<'a, 'input> {
    let children = child(node, name).map(|list| list.children());
    children.into_iter().flatten().filter(|item| item.tag_name().name() == "item")
}

impl Refresh for Ec2 {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, SdError> {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut form = vec![pair("Action", "DescribeInstances"), pair("MaxResults", "1000")];
        for (i, filter) in self.config.filters.iter().enumerate() {
            form.push((format!("Filter.{}.Name", i + 1), filter.name.clone()));
            for (j, value) in filter.values.iter().enumerate() {
                form.push((format!("Filter.{}.Value.{}", i + 1, j + 1), value.clone()));
            }
        }
        let mut pages = Vec::new();
        self.ask(&form, |page| pages.push(page.input_text().to_owned())).await?;
        let mut zones = Vec::new();
        let found = self
            .ask(&[pair("Action", "DescribeAvailabilityZones")], |page| {
                let all = child_items(page.root_element(), "availabilityZoneInfo");
                zones.extend(all.map(|z| pair(child_text(z, "zoneName"), child_text(z, "zoneId"))));
            })
            .await;
        if let Err(error) = found {
            // Only the label of the zone's id needs it, and not everybody may ask.
            tracing::debug!(%error, "zones of EC2 are not known");
        }
        let mut out = Vec::new();
        for text in &pages {
            let page = xml(&self.account.endpoint("ec2", &self.region)?, text)?;
            for reservation in child_items(page.root_element(), "reservationSet") {
                let owner = child_text(reservation, "ownerId");
                let instances = child_items(reservation, "instancesSet");
                out.extend(instances.filter_map(|instance| self.target(owner, instance, &zones)));
            }
        }
        Ok(out)
    }
}

/// One `lightsail_sd_configs` entry.
#[derive(Debug)]
pub(super) struct Lightsail {
    config: LightsailSdConfig,
    account: Account,
}

impl Lightsail {
    pub(super) fn new(config: &LightsailSdConfig, surroundings: &Surroundings) -> Self {
        let account = Account::new(&config.account, &config.http, surroundings);
        Self { config: config.clone(), account }
    }
}

impl Refresh for Lightsail {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, SdError> {
        let (region, keys) = self.account.access().await?;
        let endpoint = self.account.endpoint("lightsail", &region)?;
        let (mut out, mut next) = (Vec::new(), String::new());
        for _ in 0..PAGES_MAX {
            let body = if next.is_empty() { json!({}) } else { json!({ "pageToken": next }) };
            let call = Call::post(endpoint.clone(), "application/x-amz-json-1.1", body.to_string())
                .header("x-amz-target", "Lightsail_20161128.GetInstances")?;
            let call = sign(call, "lightsail", &region, &keys, self.account.surroundings.clock.now())?;
            let page: Value = self.account.api.json(&call).await?;
            let Some(found) = page.pointer("/instances").and_then(Value::as_array) else {
                return Err(SdError::Absent { url: endpoint, what: "instances" });
            };
            for instance in found.iter().filter(|i| !text_at(i, "/privateIpAddress").is_empty()) {
                let mut meta = Meta::new("__meta_lightsail_");
                meta.set("region", &region).set_all(
                    instance,
                    &[
                        ("availability_zone", "/location/availabilityZone"),
                        ("blueprint_id", "/blueprintId"),
                        ("bundle_id", "/bundleId"),
                        ("instance_name", "/name"),
                        ("instance_state", "/state/name"),
                        ("instance_support_code", "/supportCode"),
                        ("private_ip", "/privateIpAddress"),
                        ("public_ip", "/publicIpAddress"),
                    ],
                );
                meta.set("ipv6_addresses", wrapped(&texts(instance, "/ipv6Addresses"), ","));
                for tag in items(instance, "/tags") {
                    meta.set_under("tag", &text_at(tag, "/key"), text_at(tag, "/value"));
                }
                out.push(meta.target(join(&text_at(instance, "/privateIpAddress"), self.config.port)));
            }
            next = text_at(&page, "/nextPageToken");
            if next.is_empty() {
                return Ok(out);
            }
        }
        Err(SdError::Pages { url: endpoint, max: PAGES_MAX })
    }
}

#[cfg(test)]
mod tests {
    use crate::client::testing::{Action, answer};
    use crate::discovery::testing::{Lab, routes};

    fn page(body: &str) -> Vec<Action> {
        vec![answer("200 OK", "Content-Type: text/xml\r\n", body.as_bytes())]
    }

    const INSTANCES: &str = r#"<?xml version="1.0"?><DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
        <reservationSet><item><ownerId>42</ownerId><instancesSet>
          <item><instanceId>i-1</instanceId><imageId>ami-1</imageId><instanceState><name>running</name></instanceState>
            <privateDnsName>p</privateDnsName><dnsName/><instanceType>p5.48xlarge</instanceType><architecture>x86_64</architecture>
            <placement><availabilityZone>eu-west-1a</availabilityZone></placement><subnetId>s-1</subnetId><vpcId>v-1</vpcId>
            <privateIpAddress>10.0.0.1</privateIpAddress>
            <networkInterfaceSet><item><subnetId>s-1</subnetId><ipv6AddressesSet><item><ipv6Address>fd00::1</ipv6Address></item></ipv6AddressesSet></item></networkInterfaceSet>
            <tagSet><item><key>Team Name</key><value>ml</value></item></tagSet></item>
          <item><instanceId>i-2</instanceId><instanceState><name>terminated</name></instanceState></item>
        </instancesSet></item></reservationSet></DescribeInstancesResponse>"#;
    const CONFIG: &str = "ec2_sd_configs: [{region: eu-west-1, access_key: a, secret_key: s, refresh_interval: 30s, filters: \
        [{name: tag:x, values: [y]}]}]";

    #[tokio::test(start_paused = true)]
    async fn instances_are_targets() {
        let mut lab = Lab::new(CONFIG);
        lab.network.serve("ec2.eu-west-1.amazonaws.com:80", |head| {
            assert!(head.contains("authorization: AWS4-HMAC-SHA256 Credential=a/20231114/eu-west-1/ec2/"), "{head}");
            if head.contains("Action=DescribeAvailabilityZones") {
                return page(
                    "<R><availabilityZoneInfo><item><zoneName>eu-west-1a</zoneName><zoneId>euw1-az2</zoneId></item></availabilityZoneInfo></R>",
                );
            }
            assert!(head.contains("&Filter.1.Name=tag%3Ax&Filter.1.Value.1=y&Version=2016-11-15"), "{head}");
            page(INSTANCES)
        });
        lab.secs(1).await;
        let got: Vec<String> = lab.shown().iter().map(|line| line.replace("__meta_ec2_", "")).collect();
        assert_eq!(
            got,
            [concat!(
                r#"10.0.0.1:80 {ami="ami-1", architecture="x86_64", availability_zone="eu-west-1a", "#,
                r#"availability_zone_id="euw1-az2", default_ipv6_address="fd00::1", instance_id="i-1", instance_state="running", "#,
                r#"instance_type="p5.48xlarge", ipv6_addresses=",fd00::1,", owner_id="42", primary_subnet_id="s-1", "#,
                r#"private_dns_name="p", private_ip="10.0.0.1", region="eu-west-1", subnet_id=",s-1,", tag_Team_Name="ml", "#,
                r#"vpc_id="v-1"}"#
            )]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn bad_answers_keep_the_targets() {
        let lab = Lab::new(CONFIG);
        let mut bad = Lab::bad_answers();
        // These two are bad JSON; here they are bad XML.
        bad.drain(2..4);
        bad.push((page("<R>"), ""));
        bad.push((page("no xml"), ""));
        lab.check_keeps("ec2.eu-west-1.amazonaws.com:80", |_: &str| page(INSTANCES), bad, "10.0.0.1:80 ", 30).await;
    }

    #[tokio::test(start_paused = true)]
    async fn instances_of_lightsail_are_targets() {
        let mut lab = Lab::new("lightsail_sd_configs: [{region: eu-west-1, access_key: a, secret_key: s}]");
        let body = r#"{"instances": [{"name": "n", "privateIpAddress": "10.0.0.3", "tags": [{"key": "k", "value": "v"}],
            "location": {"availabilityZone": "eu-west-1a"}, "state": {"name": "running"}}, {"name": "no address"}]}"#;
        lab.network.serve("lightsail.eu-west-1.amazonaws.com:80", routes(&[("POST / ", body)]));
        let expected = concat!(
            r#"10.0.0.3:80 {__meta_lightsail_availability_zone="eu-west-1a", __meta_lightsail_instance_name="n", "#,
            r#"__meta_lightsail_instance_state="running", __meta_lightsail_private_ip="10.0.0.3", "#,
            r#"__meta_lightsail_region="eu-west-1", __meta_lightsail_tag_k="v"}"#
        );
        lab.check(1, &[expected]).await;
    }
}
