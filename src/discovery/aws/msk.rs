//! Role `msk` of `aws_sd_configs`: brokers and controllers of Amazon's Kafka.

use promontory_config::TargetGroup;
use serde_json::Value;

use super::Msk;
use crate::client::{Call, Url};
use crate::discovery::api::{Pages, take_list};
use crate::discovery::error::SdError;
use crate::discovery::meta::{Meta, join, text_at, texts};
use crate::discovery::provider::Refresh;

impl Msk {
    async fn get(&mut self, url: Url) -> Result<Value, SdError> {
        let call = self.account.signed(Call::get(url), "kafka").await?;
        self.account.api.json(&call).await
    }

    /// The list `list` of the pages at `url`, asked for with `params`.
    async fn list(&mut self, url: &Url, params: &[(&str, &str)], list: &'static str) -> Result<Vec<Value>, SdError> {
        let (mut out, mut pages) = (Vec::new(), Pages::default());
        loop {
            let mut params = params.to_vec();
            params.push(("maxResults", "100"));
            params.extend(pages.next().map(|next| ("nextToken", next)));
            let asked = url.with("", &params);
            let mut page = self.get(asked.clone()).await?;
            out.extend(take_list(&mut page, list, &asked)?);
            if pages.are_all(url, text_at(&page, "/nextToken"))? {
                return Ok(out);
            }
        }
    }

    async fn clusters(&mut self, base: &Url) -> Result<Vec<Value>, SdError> {
        let all = base.with("/api/v2/clusters", &[]);
        if self.config.clusters.is_empty() {
            return self.list(&all, &[("clusterTypeFilter", "PROVISIONED")], "/clusterInfoList").await;
        }
        let mut out = Vec::new();
        for name in self.config.clusters.clone() {
            let url = all.with_part(&name);
            let mut answer = self.get(url.clone()).await?;
            match answer["clusterInfo"].take() {
                cluster @ Value::Object(_) => out.push(cluster),
                _ => return Err(SdError::Absent { url, what: "clusterInfo" }),
            }
        }
        Ok(out)
    }
}

impl Refresh for Msk {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, SdError> {
        let base = self.account.base("kafka").await?;
        let mut out = Vec::new();
        for cluster in self.clusters(&base).await? {
            let name = text_at(&cluster, "/clusterArn");
            let url = base.with("/v1/clusters", &[]).with_part(&name).with("/nodes", &[]);
            for node in self.list(&url, &[], "/nodeInfoList").await? {
                out.extend(targets(&cluster, &node, self.config.port));
            }
        }
        Ok(out)
    }
}

/// A target for each name under which `node` is reached.
fn targets(cluster: &Value, node: &Value, port: u16) -> Vec<TargetGroup> {
    let mut meta = Meta::new("__meta_msk_");
    meta.set_all(
        cluster,
        &[
            ("cluster_arn", "/clusterArn"),
            ("cluster_configuration_arn", "/provisioned/currentBrokerSoftwareInfo/configurationArn"),
            ("cluster_configuration_revision", "/provisioned/currentBrokerSoftwareInfo/configurationRevision"),
            ("cluster_jmx_exporter_enabled", "/provisioned/openMonitoring/prometheus/jmxExporter/enabledInBroker"),
            ("cluster_kafka_version", "/provisioned/currentBrokerSoftwareInfo/kafkaVersion"),
            ("cluster_name", "/clusterName"),
            ("cluster_state", "/state"),
            ("cluster_type", "/clusterType"),
            ("cluster_version", "/currentVersion"),
        ],
    );
    meta.set_map("cluster_tag", cluster, "/tags").set_all(
        node,
        &[
            ("node_added_time", "/addedToClusterTime"),
            ("node_arn", "/nodeARN"),
            ("node_instance_type", "/instanceType"),
        ],
    );
    let (endpoints, index) = if node["brokerNodeInfo"].is_object() {
        meta.set("node_type", "BROKER");
        meta.set_all(
            node,
            &[
                ("broker_client_subnet", "/brokerNodeInfo/clientSubnet"),
                ("broker_client_vpc_ip", "/brokerNodeInfo/clientVpcIpAddress"),
                ("node_attached_eni", "/brokerNodeInfo/attachedENIId"),
            ],
        );
        // A number with a point in it.
        let id = node.pointer("/brokerNodeInfo/brokerId").and_then(Value::as_f64);
        meta.set("broker_id", id.map(|id| id.to_string()).unwrap_or_default());
        let exporter = "/provisioned/openMonitoring/prometheus/nodeExporter/enabledInBroker";
        meta.set("broker_node_exporter_enabled", text_at(cluster, exporter));
        (texts(node, "/brokerNodeInfo/endpoints"), "broker_endpoint_index")
    } else {
        meta.set("node_type", "CONTROLLER");
        (texts(node, "/controllerNodeInfo/endpoints"), "controller_endpoint_index")
    };
    let target = |(i, endpoint): (usize, &String)| meta.clone().set(index, i.to_string()).target(join(endpoint, port));
    endpoints.iter().enumerate().map(target).collect()
}

#[cfg(test)]
mod tests {
    use crate::discovery::testing::{Lab, json, routes};

    const CONFIG: &str = "aws_sd_configs: [{role: msk, region: eu-west-1, access_key: a, secret_key: s, port: 11001, \
                          refresh_interval: 30s}]";
    const CLUSTER: &str = r#"{"clusterArn": "arn:k/1", "clusterName": "k", "state": "ACTIVE", "clusterType": "PROVISIONED",
        "currentVersion": "K1", "tags": {"Team Name": "ml"}, "provisioned": {"currentBrokerSoftwareInfo":
        {"configurationArn": "arn:c", "configurationRevision": 2, "kafkaVersion": "3.8.x"}, "openMonitoring":
        {"prometheus": {"jmxExporter": {"enabledInBroker": true}, "nodeExporter": {"enabledInBroker": false}}}}}"#;
    const NODES: &str = r#"{"nodeInfoList": [{"nodeARN": "arn:n", "addedToClusterTime": "2023", "instanceType": "kafka.m7g.large",
        "brokerNodeInfo": {"brokerId": 1.0, "clientSubnet": "s", "clientVpcIpAddress": "10.0.0.1", "attachedENIId": "eni-1",
        "endpoints": ["b-1.k"]}}, {"controllerNodeInfo": {"endpoints": ["c-1.k"]}}]}"#;
    const CONTROLLER: &str = "c-1.k:11001 ";

    fn nodes_of(cluster: &str) -> Vec<(String, String)> {
        let path = "/v1/clusters/arn%3Ak%2F1/nodes?maxResults=100";
        vec![
            ("GET /api/v2/clusters?clusterTypeFilter=PROVISIONED&maxResults=100 ".to_owned(), cluster.to_owned()),
            (format!("GET {path} "), NODES.to_owned()),
        ]
    }

    fn serve(cluster: &str) -> impl Fn(&str) -> Vec<crate::client::testing::Action> + Send + Sync + Clone + use<> {
        let table = nodes_of(cluster);
        move |head: &str| {
            assert!(head.contains("Credential=a/20231114/eu-west-1/kafka/"), "{head}");
            let table: Vec<(&str, &str)> = table.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
            routes(&table)(head)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn brokers_and_controllers_are_targets() {
        let mut lab = Lab::new(CONFIG);
        let all = format!(r#"{{"clusterInfoList": [{CLUSTER}]}}"#);
        lab.network.serve("kafka.eu-west-1.amazonaws.com:80", serve(&all));
        lab.secs(1).await;
        let got: Vec<String> = lab.shown().iter().map(|line| line.replace("__meta_msk_", "")).collect();
        let of_cluster = concat!(
            r#"cluster_arn="arn:k/1", cluster_configuration_arn="arn:c", cluster_configuration_revision="2", "#,
            r#"cluster_jmx_exporter_enabled="true", cluster_kafka_version="3.8.x", cluster_name="k", "#,
            r#"cluster_state="ACTIVE", cluster_tag_Team_Name="ml", cluster_type="PROVISIONED", cluster_version="K1""#
        );
        let broker = format!(
            r#"b-1.k:11001 {{broker_client_subnet="s", broker_client_vpc_ip="10.0.0.1", broker_endpoint_index="0", broker_id="1", broker_node_exporter_enabled="false", {of_cluster}, node_added_time="2023", node_arn="arn:n", node_attached_eni="eni-1", node_instance_type="kafka.m7g.large", node_type="BROKER"}}"#
        );
        let controller =
            format!(r#"{CONTROLLER}{{{of_cluster}, controller_endpoint_index="0", node_type="CONTROLLER"}}"#);
        assert_eq!(got, [broker, controller], "{:?}", lab.job.errors());
    }

    #[tokio::test(start_paused = true)]
    async fn only_clusters_that_are_named_are_asked_for() {
        let mut lab = Lab::new(&CONFIG.replace("role: msk", "role: msk, clusters: ['arn:k/1']"));
        lab.network.serve("kafka.eu-west-1.amazonaws.com:80", |head| {
            let one = format!(r#"{{"clusterInfo": {CLUSTER}}}"#);
            let path = "GET /api/v2/clusters/arn%3Ak%2F1 ";
            if head.starts_with(path) { json(&one) } else { serve("")(head) }
        });
        lab.secs(1).await;
        assert_eq!(lab.shown().len(), 2, "{:?}", lab.job.errors());
    }

    #[tokio::test(start_paused = true)]
    async fn bad_answers_keep_the_targets() {
        let lab = Lab::new(CONFIG);
        let good = |head: &str| {
            let all = format!(r#"{{"clusterInfoList": [{CLUSTER}]}}"#);
            let one = NODES.replace("b-1.k", "").replace(r#""endpoints": [""]"#, r#""endpoints": []"#);
            if head.contains("/nodes") { json(&one) } else { serve(&all)(head) }
        };
        let mut bad = Lab::bad_answers();
        bad.push((json("{}"), "the answer has no clusterInfoList"));
        lab.check_keeps("kafka.eu-west-1.amazonaws.com:80", good, bad, CONTROLLER, 30).await;
    }
}
