//! Role `elasticache` of `aws_sd_configs`: nodes of Amazon's caches, and caches without servers of their own.

use promontory_config::TargetGroup;
use roxmltree::Node;

use super::fields::{elements, set_fields};
use super::{ElastiCache, FormService, Listing, child, child_text, pair};
use crate::client::Url;
use crate::discovery::error::SdError;
use crate::discovery::meta::{Meta, join};
use crate::discovery::provider::Refresh;

const CACHE: FormService =
    FormService { name: "elasticache", version: "2015-02-02", filter: "Filters.Filter", value: "Values.Value" };
const CLUSTERS: Listing =
    Listing { service: &CACHE, action: "DescribeCacheClusters", list: "CacheClusters", next: "Marker" };
const SERVERLESS: Listing =
    Listing { service: &CACHE, action: "DescribeServerlessCaches", list: "ServerlessCaches", next: "NextToken" };
const TAGS: Listing = Listing { service: &CACHE, action: "ListTagsForResource", list: "TagList", next: "Marker" };

/// Labels of a cluster, which begin with `cache_cluster_`.
const CLUSTER: &str = "ARN auth_token_last_modified=AuthTokenLastModifiedDate AtRestEncryptionEnabled AuthTokenEnabled \
    AutoMinorVersionUpgrade CacheClusterCreateTime CacheClusterId CacheClusterStatus CacheNodeType \
    cache_parameter_group=CacheParameterGroup/CacheParameterGroupName CacheSubnetGroupName ClientDownloadLandingPage \
    ConfigurationEndpoint/Address ConfigurationEndpoint/Port Engine EngineVersion IpDiscovery NetworkType \
    notification_topic_arn=NotificationConfiguration/TopicArn \
    notification_topic_status=NotificationConfiguration/TopicStatus NumCacheNodes \
    PendingModifiedValues/AuthTokenStatus PendingModifiedValues/CacheNodeType PendingModifiedValues/EngineVersion \
    PendingModifiedValues/NumCacheNodes PendingModifiedValues/TransitEncryptionEnabled \
    PendingModifiedValues/TransitEncryptionMode PreferredAvailabilityZone PreferredMaintenanceWindow \
    PreferredOutpostArn ReplicationGroupId ReplicationGroupLogDeliveryEnabled SnapshotRetentionLimit SnapshotWindow \
    TransitEncryptionEnabled TransitEncryptionMode";

/// Labels of each place that logs go to, which begin with `cache_cluster_log_delivery_configuration_` and end with its
/// number.
const LOGS: &str = "DestinationType LogFormat LogType Status Message \
    log_group=DestinationDetails/CloudWatchLogsDetails/LogGroup \
    delivery_stream=DestinationDetails/KinesisFirehoseDetails/DeliveryStream";

/// Labels of a node, which begin with `cache_cluster_node_`.
const NODE: &str = "create_time=CacheNodeCreateTime id=CacheNodeId status=CacheNodeStatus \
    availability_zone=CustomerAvailabilityZone CustomerOutpostArn SourceCacheNodeId ParameterGroupStatus \
    Endpoint/Address Endpoint/Port";

/// Labels of a cache without servers, which begin with `serverless_cache_`.
const CACHE_ALONE: &str = "name=ServerlessCacheName ARN CreateTime DailySnapshotTime Description Engine \
    FullEngineVersion KmsKeyId MajorEngineVersion SnapshotRetentionLimit Status UserGroupId Endpoint/Address \
    Endpoint/Port endpoint_reader_address=ReaderEndpoint/Address endpoint_reader_port=ReaderEndpoint/Port \
    cache_usage_limit_data_storage_maximum=CacheUsageLimits/DataStorage/Maximum \
    cache_usage_limit_data_storage_minimum=CacheUsageLimits/DataStorage/Minimum \
    cache_usage_limit_data_storage_unit=CacheUsageLimits/DataStorage/Unit \
    cache_usage_limit_ecpu_per_second_maximum=CacheUsageLimits/ECPUPerSecond/Maximum \
    cache_usage_limit_ecpu_per_second_minimum=CacheUsageLimits/ECPUPerSecond/Minimum";

/// A cache and the addresses of its nodes, each with labels of its own.
struct Cache {
    meta: Meta,
    arn: String,
    /// What the label of a tag begins with.
    tags: &'static str,
    nodes: Vec<(String, Meta)>,
}

fn new_meta() -> Meta {
    Meta::new("__meta_elasticache_")
}

/// The address at which `node` answers; one that is being made has none.
fn address(node: Node<'_, '_>) -> Option<String> {
    let endpoint = child(node, "Endpoint")?;
    let (host, port) = (child_text(endpoint, "Address"), child_text(endpoint, "Port"));
    (!host.is_empty() && !port.is_empty()).then(|| join(host, port))
}

impl Cache {
    fn of_cluster(cluster: Node<'_, '_>) -> Self {
        let mut meta = new_meta();
        meta.set("deployment_option", "node");
        set_fields(&mut meta, "cache_cluster_", "", cluster, CLUSTER);
        for (i, logs) in elements(cluster, "LogDeliveryConfigurations").enumerate() {
            set_fields(&mut meta, "cache_cluster_log_delivery_configuration_", &format!("_{i}"), logs, LOGS);
        }
        for (i, group) in elements(cluster, "SecurityGroups").enumerate() {
            let fields = "id=SecurityGroupId Status";
            set_fields(&mut meta, "cache_cluster_security_group_membership_", &format!("_{i}"), group, fields);
        }
        let ending = child(cluster, "PendingModifiedValues").map(|pending| elements(pending, "CacheNodeIdsToRemove"));
        let ending: Vec<&str> = ending.into_iter().flatten().filter_map(|id| id.text()).collect();
        meta.set("cache_cluster_pending_modified_values_cache_node_ids_to_remove", ending.join(","));
        let node = |node: Node<'_, '_>| {
            let mut meta = new_meta();
            set_fields(&mut meta, "cache_cluster_node_", "", node, NODE);
            Some((address(node)?, meta))
        };
        let nodes = elements(cluster, "CacheNodes").filter_map(node).collect();
        Self { meta, arn: child_text(cluster, "ARN").to_owned(), tags: "cache_cluster_tag", nodes }
    }

    fn of_serverless(cache: Node<'_, '_>) -> Self {
        let mut meta = new_meta();
        meta.set("deployment_option", "serverless");
        set_fields(&mut meta, "serverless_cache_", "", cache, CACHE_ALONE);
        for (list, label) in [("SecurityGroupIds", "security_group_id"), ("SubnetIds", "subnet_id")] {
            for (i, id) in elements(cache, list).enumerate() {
                meta.set(&format!("serverless_cache_{label}_{i}"), id.text().unwrap_or_default());
            }
        }
        let nodes = address(cache).map(|address| (address, new_meta())).into_iter().collect();
        Self { meta, arn: child_text(cache, "ARN").to_owned(), tags: "serverless_cache_tag", nodes }
    }

    fn targets(self) -> impl Iterator<Item = TargetGroup> {
        let Self { meta, nodes, .. } = self;
        nodes.into_iter().map(move |(address, own)| meta.clone().add(&own).target(address))
    }
}

/// Whether `cluster` is one of those `names`, by its own or that of the group whose copies it is one of.
fn is_named(names: &[String], cluster: Node<'_, '_>) -> bool {
    let arn = child_text(cluster, "ARN");
    let group = child_text(cluster, "ReplicationGroupId");
    let of_group = arn.split_once(":cluster:").map(|(account, _)| format!("{account}:replicationgroup:{group}"));
    names.is_empty() || names.iter().any(|name| name == arn || of_group.as_ref() == Some(name))
}

impl ElastiCache {
    async fn caches(&mut self, base: &Url) -> Result<Vec<Cache>, SdError> {
        let names = self.config.clusters.clone();
        let mut out = Vec::new();
        let take = |cache: Node<'_, '_>| out.extend(is_named(&names, cache).then(|| Cache::of_serverless(cache)));
        self.account.each_item(&SERVERLESS, base, &[pair("MaxResults", "50")], take).await?;
        let fields = [pair("MaxRecords", "100"), pair("ShowCacheNodeInfo", "true")];
        let take = |cluster: Node<'_, '_>| out.extend(is_named(&names, cluster).then(|| Cache::of_cluster(cluster)));
        self.account.each_item(&CLUSTERS, base, &fields, take).await?;
        Ok(out)
    }
}

impl Refresh for ElastiCache {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, SdError> {
        let base = self.account.base(CACHE.name).await?;
        let mut out = Vec::new();
        // Caches without a target need no tags.
        for mut cache in self.caches(&base).await?.into_iter().filter(|cache| !cache.nodes.is_empty()) {
            if !cache.arn.is_empty() {
                let fields = [pair("ResourceName", &cache.arn)];
                let take = |tag: Node<'_, '_>| {
                    cache.meta.set_under(cache.tags, child_text(tag, "Key"), child_text(tag, "Value"));
                };
                self.account.each_item(&TAGS, &base, &fields, take).await?;
            }
            out.extend(cache.targets());
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use crate::client::testing::{Action, answer};
    use crate::discovery::testing::Lab;

    const CONFIG: &str = "aws_sd_configs: [{role: elasticache, region: eu-west-1, access_key: a, secret_key: s, \
                          refresh_interval: 30s}]";
    const HOST: &str = "elasticache.eu-west-1.amazonaws.com:80";
    const CLUSTER: &str = "<CacheCluster><CacheClusterId>c-1</CacheClusterId><ReplicationGroupId>c</ReplicationGroupId>\
        <ARN>arn:aws:elasticache:eu:1:cluster:c-1</ARN><Engine>valkey</Engine><AuthTokenEnabled>false</AuthTokenEnabled>\
        <CacheParameterGroup><CacheParameterGroupName>p</CacheParameterGroupName></CacheParameterGroup>\
        <LogDeliveryConfigurations><LogDeliveryConfiguration><LogType>slow-log</LogType><DestinationDetails>\
        <CloudWatchLogsDetails><LogGroup>g</LogGroup></CloudWatchLogsDetails></DestinationDetails></LogDeliveryConfiguration>\
        </LogDeliveryConfigurations><SecurityGroups><member><SecurityGroupId>sg</SecurityGroupId><Status>active</Status>\
        </member></SecurityGroups><PendingModifiedValues><CacheNodeIdsToRemove><CacheNodeId>0002</CacheNodeId>\
        <CacheNodeId>0003</CacheNodeId></CacheNodeIdsToRemove></PendingModifiedValues>\
        <CacheNodes><CacheNode><CacheNodeId>0001</CacheNodeId><Endpoint><Address>c-1.cache</Address><Port>6379</Port></Endpoint>\
        <CustomerAvailabilityZone>eu-1a</CustomerAvailabilityZone></CacheNode><CacheNode><CacheNodeId>0002</CacheNodeId>\
        </CacheNode></CacheNodes></CacheCluster>";
    const SERVERLESS: &str = "<member><ServerlessCacheName>s</ServerlessCacheName>\
        <ARN>arn:aws:elasticache:eu:1:serverlesscache:s</ARN><Endpoint><Address>s.cache</Address><Port>6379</Port></Endpoint>\
        <ReaderEndpoint><Address>r.cache</Address><Port>6380</Port></ReaderEndpoint><SubnetIds><SubnetId>n-1</SubnetId>\
        </SubnetIds><CacheUsageLimits><DataStorage><Maximum>10</Maximum><Unit>GB</Unit></DataStorage><ECPUPerSecond><Minimum>5\
        </Minimum></ECPUPerSecond></CacheUsageLimits></member>";

    fn page(action: &str, body: &str) -> Vec<Action> {
        let body = format!(
            "<{action}Response xmlns=\"http://elasticache.amazonaws.com/doc/2015-02-02/\"><{action}Result>{body}\
             </{action}Result></{action}Response>"
        );
        vec![answer("200 OK", "Content-Type: text/xml\r\n", body.as_bytes())]
    }

    fn serve(head: &str) -> Vec<Action> {
        assert!(head.contains("Credential=a/20231114/eu-west-1/elasticache/aws4_request"), "{head}");
        if head.contains("Action=DescribeServerlessCaches&") {
            return match head.ends_with("&MaxResults=50&NextToken=n") {
                false => page("DescribeServerlessCaches", "<NextToken>n</NextToken><ServerlessCaches/>"),
                true => page("DescribeServerlessCaches", &format!("<ServerlessCaches>{SERVERLESS}</ServerlessCaches>")),
            };
        }
        if head.contains("Action=ListTagsForResource&") {
            let is_alone = head.ends_with("&ResourceName=arn%3Aaws%3Aelasticache%3Aeu%3A1%3Aserverlesscache%3As");
            let tag = if is_alone { "" } else { "<Tag><Key>Team Name</Key><Value>ml</Value></Tag>" };
            return page("ListTagsForResource", &format!("<TagList>{tag}</TagList>"));
        }
        assert!(
            head.ends_with("Action=DescribeCacheClusters&Version=2015-02-02&MaxRecords=100&ShowCacheNodeInfo=true"),
            "{head}"
        );
        page("DescribeCacheClusters", &format!("<CacheClusters>{CLUSTER}</CacheClusters>"))
    }

    #[tokio::test(start_paused = true)]
    async fn nodes_and_caches_without_servers_are_targets() {
        let mut lab = Lab::new(CONFIG);
        lab.network.serve(HOST, serve);
        lab.secs(1).await;
        let got: Vec<String> = lab.shown().iter().map(|line| line.replace("__meta_elasticache_", "")).collect();
        let expected = [
            concat!(
                r#"c-1.cache:6379 {cache_cluster_arn="arn:aws:elasticache:eu:1:cluster:c-1", "#,
                r#"cache_cluster_auth_token_enabled="false", cache_cluster_cache_cluster_id="c-1", "#,
                r#"cache_cluster_cache_parameter_group="p", cache_cluster_engine="valkey", "#,
                r#"cache_cluster_log_delivery_configuration_log_group_0="g", "#,
                r#"cache_cluster_log_delivery_configuration_log_type_0="slow-log", "#,
                r#"cache_cluster_node_availability_zone="eu-1a", cache_cluster_node_endpoint_address="c-1.cache", "#,
                r#"cache_cluster_node_endpoint_port="6379", cache_cluster_node_id="0001", "#,
                r#"cache_cluster_pending_modified_values_cache_node_ids_to_remove="0002,0003", "#,
                r#"cache_cluster_replication_group_id="c", cache_cluster_security_group_membership_id_0="sg", "#,
                r#"cache_cluster_security_group_membership_status_0="active", cache_cluster_tag_Team_Name="ml", "#,
                r#"deployment_option="node"}"#
            ),
            concat!(
                r#"s.cache:6379 {deployment_option="serverless", serverless_cache_arn="arn:aws:elasticache:eu:1:serverlesscache:s", "#,
                r#"serverless_cache_cache_usage_limit_data_storage_maximum="10", "#,
                r#"serverless_cache_cache_usage_limit_data_storage_unit="GB", "#,
                r#"serverless_cache_cache_usage_limit_ecpu_per_second_minimum="5", "#,
                r#"serverless_cache_endpoint_address="s.cache", serverless_cache_endpoint_port="6379", "#,
                r#"serverless_cache_endpoint_reader_address="r.cache", serverless_cache_endpoint_reader_port="6380", "#,
                r#"serverless_cache_name="s", serverless_cache_subnet_id_0="n-1"}"#
            ),
        ];
        assert_eq!(got, expected, "{:?}", lab.job.errors());
    }

    #[tokio::test(start_paused = true)]
    async fn only_caches_that_are_named_are_targets() {
        for (names, target) in [
            ("arn:aws:elasticache:eu:1:replicationgroup:c", "c-1.cache:6379 "),
            ("arn:aws:elasticache:eu:1:cluster:c-1", "c-1.cache:6379 "),
            ("arn:aws:elasticache:eu:1:serverlesscache:s", "s.cache:6379 "),
        ] {
            let config = CONFIG.replace("elasticache,", &format!("elasticache, clusters: ['{names}'],"));
            let mut lab = Lab::new(&config);
            lab.network.serve(HOST, serve);
            lab.secs(1).await;
            let got = lab.shown();
            assert!(got.len() == 1 && got[0].starts_with(target), "{names}: {got:?} {:?}", lab.job.errors());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn bad_answers_keep_the_targets() {
        let good = |head: &str| match head.contains("Action=DescribeCacheClusters&") {
            true => page("DescribeCacheClusters", "<CacheClusters/>"),
            false => serve(head),
        };
        let mut bad = Lab::bad_xml_answers();
        bad.push((page("DescribeServerlessCaches", ""), "the answer has no ServerlessCaches"));
        Lab::new(CONFIG).check_keeps(HOST, good, bad, "s.cache:6379 ", 30).await;
    }
}
