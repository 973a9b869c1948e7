//! `ec2_sd_configs`: instances of Amazon EC2.

use std::collections::HashMap;

use promontory_config::TargetGroup;
use roxmltree::Node;

use super::{EC2, Ec2, Listing, child, child_items, child_text, pair};
use crate::discovery::error::SdError;
use crate::discovery::meta::{Meta, join, wrapped};
use crate::discovery::provider::Refresh;

impl Refresh for Ec2 {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, SdError> {
        let account = &mut self.account;
        let (region, base) = (account.region().await?, account.base("ec2").await?);
        let mut fields = vec![pair("MaxResults", "1000")];
        for (i, filter) in self.config.filters.iter().enumerate() {
            fields.extend(EC2.filter(i + 1, &filter.name, &filter.values));
        }
        let mut found = Vec::new();
        let take = |reservation: Node<'_, '_>| {
            let owner = child_text(reservation, "ownerId");
            found.extend(child_items(reservation, "instancesSet").filter_map(|i| Found::of(&region, owner, i)));
        };
        account.each_item(&Listing::of_ec2("DescribeInstances", "reservationSet"), &base, &fields, take).await?;
        let mut zones = HashMap::new();
        let take = |zone: Node<'_, '_>| {
            zones.insert(child_text(zone, "zoneName").to_owned(), child_text(zone, "zoneId").to_owned());
        };
        let listing = Listing::of_ec2("DescribeAvailabilityZones", "availabilityZoneInfo");
        if let Err(error) = account.each_item(&listing, &base, &[], take).await {
            // Only the label of the zone's id needs it, and not everybody may ask.
            tracing::debug!(%error, "zones of EC2 are not known");
        }
        let target = |mut found: Found| {
            if let Some(id) = zones.get(&found.zone) {
                found.meta.set("availability_zone_id", id);
            }
            found.meta.target(join(&found.address, self.config.port))
        };
        Ok(found.into_iter().map(target).collect())
    }
}

/// An instance that can be reached.
struct Found {
    meta: Meta,
    zone: String,
    address: String,
}

impl Found {
    /// The `instance` of `owner`; one that has ended has no address.
    fn of(region: &str, owner: &str, instance: Node<'_, '_>) -> Option<Self> {
        let text = |name: &str| child_text(instance, name);
        let nested = |outer: &str, name: &str| child(instance, outer).map_or("", |node| child_text(node, name));
        let mut meta = Meta::new("__meta_ec2_");
        meta.set("region", region).set("owner_id", owner);
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
        for (label, name) in plain {
            meta.set(label, text(name));
        }
        meta.set("instance_state", nested("instanceState", "name"));
        let zone = nested("placement", "availabilityZone");
        meta.set("availability_zone", zone);
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
        let private = Some(text("privateIpAddress")).filter(|ip| !ip.is_empty());
        let address = private.or(default_ipv6.map(String::as_str))?.to_owned();
        Some(Self { meta, zone: zone.to_owned(), address })
    }
}

#[cfg(test)]
mod tests {
    use crate::client::testing::{Action, answer};
    use crate::discovery::testing::Lab;

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
            assert!(head.contains("&MaxResults=1000&Filter.1.Name=tag%3Ax&Filter.1.Value.1=y"), "{head}");
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
        let mut bad = Lab::bad_xml_answers();
        bad.push((page("<html/>"), "the answer has no reservationSet"));
        lab.check_keeps("ec2.eu-west-1.amazonaws.com:80", |_: &str| page(INSTANCES), bad, "10.0.0.1:80 ", 30).await;
    }
}
