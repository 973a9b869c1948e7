//! Role `rds` of `aws_sd_configs`: instances of the clusters of Amazon's databases.

use std::collections::HashMap;

use promontory_config::TargetGroup;
use roxmltree::Node;

use super::fields::{elements, set_fields, set_tags};
use super::{FormService, Listing, Rds, child, child_text, pair};
use crate::discovery::error::SdError;
use crate::discovery::meta::{Meta, join};
use crate::discovery::provider::Refresh;

const RDS: FormService =
    FormService { name: "rds", version: "2014-10-31", filter: "Filters.Filter", value: "Values.Value" };
const CLUSTERS: Listing = Listing { service: &RDS, action: "DescribeDBClusters", list: "DBClusters", next: "Marker" };
const INSTANCES: Listing =
    Listing { service: &RDS, action: "DescribeDBInstances", list: "DBInstances", next: "Marker" };
/// Items of one page.
const PAGE: &str = "100";

/// Labels of a cluster, which begin with `cluster_`.
const CLUSTER: &str = "arn=DBClusterArn identifier=DBClusterIdentifier instance_class=DBClusterInstanceClass \
    parameter_group=DBClusterParameterGroup subnet_group=DBSubnetGroup resource_id=DbClusterResourceId \
    ActivityStreamKinesisStreamName ActivityStreamKmsKeyId ActivityStreamMode ActivityStreamStatus AllocatedStorage \
    AutoMinorVersionUpgrade AutomaticRestartTime AwsBackupRecoveryPointArn BacktrackConsumedChangeRecords \
    BacktrackWindow BackupRetentionPeriod Capacity CharacterSetName CloneGroupId ClusterCreateTime \
    ClusterScalabilityType CopyTagsToSnapshot CrossAccountClone DBSystemId DatabaseInsightsMode DatabaseName \
    DeletionProtection EarliestBacktrackTime EarliestRestorableTime Endpoint Engine EngineLifecycleSupport EngineMode \
    EngineVersion GlobalClusterIdentifier GlobalWriteForwardingRequested GlobalWriteForwardingStatus HostedZoneId \
    HttpEndpointEnabled IAMDatabaseAuthenticationEnabled IOOptimizedNextAllowedModificationTime Iops KmsKeyId \
    LatestRestorableTime LocalWriteForwardingStatus MasterUsername MonitoringInterval MonitoringRoleArn MultiAZ \
    NetworkType PercentProgress PerformanceInsightsEnabled PerformanceInsightsKMSKeyId \
    PerformanceInsightsRetentionPeriod Port PreferredBackupWindow PreferredMaintenanceWindow PubliclyAccessible \
    ReaderEndpoint ReplicationSourceIdentifier ServerlessV2PlatformVersion Status StorageEncrypted \
    StorageEncryptionType StorageThroughput StorageType UpgradeRolloutOrder";

/// Labels of an instance, which begin with `instance_`.
const INSTANCE: &str = "arn=DBInstanceArn identifier=DBInstanceIdentifier class=DBInstanceClass \
    status=DBInstanceStatus port=DbInstancePort resource_id=DbiResourceId \
    subnet_group=DBSubnetGroup/DBSubnetGroupName ActivityStreamEngineNativeAuditFieldsIncluded \
    ActivityStreamKinesisStreamName ActivityStreamKmsKeyId ActivityStreamMode ActivityStreamPolicyStatus \
    ActivityStreamStatus AllocatedStorage AutoMinorVersionUpgrade AutomaticRestartTime AutomationMode AvailabilityZone \
    AwsBackupRecoveryPointArn BackupRetentionPeriod BackupTarget CACertificateIdentifier CharacterSetName \
    CopyTagsToSnapshot CustomIamInstanceProfile CustomerOwnedIpEnabled DBClusterIdentifier DBName DBSystemId \
    DatabaseInsightsMode DedicatedLogVolume DeletionProtection Endpoint/Address Endpoint/HostedZoneId Endpoint/Port \
    Engine EngineLifecycleSupport EngineVersion EnhancedMonitoringResourceArn IAMDatabaseAuthenticationEnabled \
    InstanceCreateTime Iops IsStorageConfigUpgradeAvailable KmsKeyId LatestRestorableTime LicenseModel \
    ListenerEndpoint/Address ListenerEndpoint/HostedZoneId ListenerEndpoint/Port MasterUsername MaxAllocatedStorage \
    MonitoringInterval MonitoringRoleArn MultiAZ MultiTenant NcharCharacterSetName NetworkType PercentProgress \
    PerformanceInsightsEnabled PerformanceInsightsKMSKeyId PerformanceInsightsRetentionPeriod PreferredBackupWindow \
    PreferredMaintenanceWindow PromotionTier PubliclyAccessible ReadReplicaSourceDBClusterIdentifier \
    ReadReplicaSourceDBInstanceIdentifier ReplicaMode ResumeFullAutomationModeTime SecondaryAvailabilityZone \
    StorageEncrypted StorageEncryptionType StorageThroughput StorageType StorageVolumeStatus TdeCredentialArn Timezone \
    UpgradeRolloutOrder";

/// What all instances of a cluster have.
struct Cluster {
    meta: Meta,
    /// Whether an instance, by its name, takes writes.
    writers: HashMap<String, String>,
}

impl Cluster {
    fn of(cluster: Node<'_, '_>) -> Self {
        let mut meta = Meta::new("__meta_rds_");
        set_fields(&mut meta, "cluster_", "", cluster, CLUSTER);
        set_tags(&mut meta, "cluster_tag", cluster, "TagList");
        let writer = |member: Node<'_, '_>| {
            let text = |name: &str| child_text(member, name).to_owned();
            (text("DBInstanceIdentifier"), text("IsClusterWriter"))
        };
        Self { meta, writers: elements(cluster, "DBClusterMembers").map(writer).collect() }
    }

    /// One that is not reachable yet is no target.
    fn target(&self, instance: Node<'_, '_>, port: u16) -> Option<TargetGroup> {
        let address = child_text(child(instance, "Endpoint")?, "Address");
        if address.is_empty() {
            return None;
        }
        let mut meta = self.meta.clone();
        set_fields(&mut meta, "instance_", "", instance, INSTANCE);
        set_tags(&mut meta, "instance_tag", instance, "TagList");
        if let Some(is_writer) = self.writers.get(child_text(instance, "DBInstanceIdentifier")) {
            meta.set("instance_is_cluster_writer", is_writer);
        }
        Some(meta.target(join(address, port)))
    }
}

impl Rds {
    /// Adds the instances of the cluster `name`, or of all clusters.
    async fn instances(&mut self, name: Option<&str>, out: &mut Vec<TargetGroup>) -> Result<(), SdError> {
        let base = self.account.base(RDS.name).await?;
        let mut fields = vec![pair("MaxRecords", PAGE)];
        fields.extend(name.map(|name| pair("DBClusterIdentifier", name)));
        let mut clusters = HashMap::new();
        let take = |cluster: Node<'_, '_>| {
            clusters.insert(child_text(cluster, "DBClusterIdentifier").to_owned(), Cluster::of(cluster));
        };
        self.account.each_item(&CLUSTERS, &base, &fields, take).await?;

        let mut fields = vec![pair("MaxRecords", PAGE)];
        let own = name.map(|name| ("db-cluster-id", vec![name.to_owned()]));
        let filters = self.config.filters.iter().map(|filter| (filter.name.as_str(), filter.values.clone()));
        for (i, (name, values)) in own.into_iter().chain(filters).enumerate() {
            fields.extend(RDS.filter(i + 1, name, &values));
        }
        let port = self.config.port;
        let take = |instance: Node<'_, '_>| {
            let cluster = clusters.get(child_text(instance, "DBClusterIdentifier"));
            out.extend(cluster.and_then(|cluster| cluster.target(instance, port)));
        };
        self.account.each_item(&INSTANCES, &base, &fields, take).await
    }
}

impl Refresh for Rds {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, SdError> {
        let mut out = Vec::new();
        let names = self.config.clusters.clone();
        if names.is_empty() {
            self.instances(None, &mut out).await?;
        }
        for name in &names {
            self.instances(Some(name), &mut out).await?;
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use crate::client::testing::{Action, answer};
    use crate::discovery::testing::Lab;

    const CONFIG: &str = "aws_sd_configs: [{role: rds, region: eu-west-1, access_key: a, secret_key: s, port: 9104, \
                          refresh_interval: 30s, filters: [{name: engine, values: [aurora-mysql]}]}]";
    const HOST: &str = "rds.eu-west-1.amazonaws.com:80";
    const CLUSTERS: &str = "<DBClusters><DBCluster><DBClusterIdentifier>llm</DBClusterIdentifier>\
        <DBClusterArn>arn:aws:rds:llm</DBClusterArn><MultiAZ>true</MultiAZ><DBSubnetGroup>s</DBSubnetGroup>\
        <ClusterCreateTime>2025-01-02T03:04:05.678Z</ClusterCreateTime><TagList><Tag><Key>Team Name</Key><Value>ml</Value>\
        </Tag></TagList><DBClusterMembers><DBClusterMember><DBInstanceIdentifier>llm-1</DBInstanceIdentifier>\
        <IsClusterWriter>true</IsClusterWriter></DBClusterMember></DBClusterMembers></DBCluster></DBClusters>";
    const INSTANCES: &str = "<DBInstances><DBInstance><DBInstanceIdentifier>llm-1</DBInstanceIdentifier>\
        <DBClusterIdentifier>llm</DBClusterIdentifier><DBInstanceClass>db.r7g.large</DBInstanceClass>\
        <Endpoint><Address>llm-1.rds</Address><Port>3306</Port></Endpoint><DBSubnetGroup><DBSubnetGroupName>s</DBSubnetGroupName>\
        </DBSubnetGroup><TagList><Tag><Key>k</Key><Value>v</Value></Tag></TagList></DBInstance>\
        <DBInstance><DBInstanceIdentifier>new</DBInstanceIdentifier><DBClusterIdentifier>llm</DBClusterIdentifier></DBInstance>\
        <DBInstance><DBInstanceIdentifier>alone</DBInstanceIdentifier><Endpoint><Address>alone.rds</Address></Endpoint></DBInstance>\
        </DBInstances>";

    fn page(action: &str, body: &str) -> Vec<Action> {
        let body = format!(
            "<{action}Response xmlns=\"http://rds.amazonaws.com/doc/2014-10-31/\"><{action}Result>{body}</{action}Result>\
             <ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></{action}Response>"
        );
        vec![answer("200 OK", "Content-Type: text/xml\r\n", body.as_bytes())]
    }

    fn serve(head: &str) -> Vec<Action> {
        assert!(head.contains("Credential=a/20231114/eu-west-1/rds/aws4_request"), "{head}");
        assert!(head.contains("&Version=2014-10-31&MaxRecords=100"), "{head}");
        if head.contains("Action=DescribeDBClusters&") {
            return match head.ends_with("&Marker=more") {
                false => page("DescribeDBClusters", "<Marker>more</Marker><DBClusters/>"),
                true => page("DescribeDBClusters", CLUSTERS),
            };
        }
        assert!(head.contains("Action=DescribeDBInstances&"), "{head}");
        let filter = "Filters.Filter.1.Name=engine&Filters.Filter.1.Values.Value.1=aurora-mysql";
        assert!(head.ends_with(filter), "{head}");
        page("DescribeDBInstances", INSTANCES)
    }

    #[tokio::test(start_paused = true)]
    async fn instances_of_clusters_are_targets() {
        let mut lab = Lab::new(CONFIG);
        lab.network.serve(HOST, serve);
        lab.secs(1).await;
        let got: Vec<String> = lab.shown().iter().map(|line| line.replace("__meta_rds_", "")).collect();
        let expected = concat!(
            r#"llm-1.rds:9104 {cluster_arn="arn:aws:rds:llm", cluster_cluster_create_time="2025-01-02T03:04:05Z", "#,
            r#"cluster_identifier="llm", cluster_multi_az="true", cluster_subnet_group="s", cluster_tag_Team_Name="ml", "#,
            r#"instance_class="db.r7g.large", instance_db_cluster_identifier="llm", instance_endpoint_address="llm-1.rds", "#,
            r#"instance_endpoint_port="3306", instance_identifier="llm-1", instance_is_cluster_writer="true", "#,
            r#"instance_subnet_group="s", instance_tag_k="v"}"#
        );
        assert_eq!(got, [expected], "{:?}", lab.job.errors());
    }

    #[tokio::test(start_paused = true)]
    async fn only_clusters_that_are_named_are_asked_for() {
        let config = CONFIG.replace("role: rds", "role: rds, clusters: ['arn:aws:rds:llm']");
        let mut lab = Lab::new(&config);
        lab.network.serve(HOST, |head| {
            if head.contains("Action=DescribeDBClusters&") {
                assert!(head.ends_with("&DBClusterIdentifier=arn%3Aaws%3Ards%3Allm"), "{head}");
                return page("DescribeDBClusters", CLUSTERS);
            }
            let filter = "Filters.Filter.1.Name=db-cluster-id&Filters.Filter.1.Values.Value.1=arn%3Aaws%3Ards%3Allm&";
            assert!(head.contains(filter) && head.contains("&Filters.Filter.2.Name=engine&"), "{head}");
            page("DescribeDBInstances", INSTANCES)
        });
        lab.secs(1).await;
        assert_eq!(lab.shown().len(), 1, "{:?}", lab.job.errors());
    }

    #[tokio::test(start_paused = true)]
    async fn bad_answers_keep_the_targets() {
        let mut bad = Lab::bad_xml_answers();
        bad.push((page("DescribeDBClusters", ""), "the answer has no DBClusters"));
        Lab::new(CONFIG).check_keeps(HOST, serve, bad, "llm-1.rds:9104 ", 30).await;
    }
}
