//! Role `ecs` of `aws_sd_configs`: tasks of Amazon's container service, in networks of their own or in those of the
//! machines that they run on.

use std::collections::{BTreeSet, HashMap};

use promontory_config::TargetGroup;
use roxmltree::Node;
use serde_json::{Value, json};

use super::{EC2, Ecs, Listing, child, child_items, child_text};
use crate::discovery::api::{Pages, take_list};
use crate::discovery::error::SdError;
use crate::discovery::meta::{Meta, items, join, text, text_at};
use crate::discovery::provider::Refresh;

/// What stands before the names of actions.
const INTERFACE: &str = "AmazonEC2ContainerServiceV20141113";
/// Services that are described at once.
const SERVICES_AT_ONCE: usize = 10;
/// Clusters, tasks or machines that are described at once.
const AT_ONCE: usize = 100;
/// Values of one condition on what is listed.
const FILTER_VALUES_MAX: usize = 200;

/// A machine on which tasks run.
#[derive(Debug, Clone, Default)]
struct Machine {
    id: String,
    kind: String,
    subnet: String,
    private_ip: String,
    public_ip: String,
    tags: Vec<(String, String)>,
}

/// The network card of a task that has one.
struct Card {
    id: String,
    ip: String,
    subnet: String,
}

/// What the tasks of one cluster run on and belong to.
struct Surrounding<'a> {
    region: &'a str,
    cluster: &'a Value,
    /// By name.
    services: HashMap<String, Value>,
    /// By the names under which the cluster knows them.
    machines: HashMap<String, Machine>,
    /// By network card.
    public_ips: HashMap<String, String>,
    port: u16,
}

impl Ecs {
    /// All names that `action` lists as `list`, page by page.
    async fn list(&mut self, action: &str, list: &'static str, of: &Value) -> Result<Vec<String>, SdError> {
        let (mut out, mut body) = (Vec::new(), of.clone());
        body["maxResults"] = AT_ONCE.into();
        let mut pages = Pages::default();
        loop {
            let (url, mut page) = self.account.json_action("ecs", &format!("{INTERFACE}.{action}"), &body).await?;
            out.extend(take_list(&mut page, list, &url)?.iter().map(text));
            if pages.are_all(&url, text_at(&page, "/nextToken"))? {
                return Ok(out);
            }
            body["nextToken"] = pages.next().into();
        }
    }

    /// What `action` says of those `names`, which it takes and answers as `list`.
    async fn describe(
        &mut self,
        action: &str,
        list: &'static str,
        names: &[String],
        of: &Value,
    ) -> Result<Vec<Value>, SdError> {
        let (mut out, mut body) = (Vec::new(), of.clone());
        let at_once = if list == "/services" { SERVICES_AT_ONCE } else { AT_ONCE };
        for some in names.chunks(at_once) {
            body[list.trim_start_matches('/')] = json!(some);
            let (url, mut page) = self.account.json_action("ecs", &format!("{INTERFACE}.{action}"), &body).await?;
            out.extend(take_list(&mut page, list, &url)?);
        }
        Ok(out)
    }

    async fn tasks(&mut self, cluster: &Value, out: &mut Vec<TargetGroup>) -> Result<(), SdError> {
        let of = json!({ "cluster": text_at(cluster, "/clusterArn") });
        let with_tags = json!({ "cluster": of["cluster"], "include": ["TAGS"] });
        let names = self.list("ListServices", "/serviceArns", &of).await?;
        let services = self.describe("DescribeServices", "/services", &names, &with_tags).await?;
        let names = self.list("ListTasks", "/taskArns", &of).await?;
        let tasks = self.describe("DescribeTasks", "/tasks", &names, &with_tags).await?;
        let machines = match self.machines(&tasks, &of).await {
            Ok(machines) => machines,
            // A task without a card of its own is reached by that of its machine; to others it only gives labels.
            Err(error) if tasks.iter().any(|task| card(task).is_none() && has_machine(task)) => return Err(error),
            Err(error) => {
                tracing::debug!(%error, "machines of ECS are not known");
                HashMap::new()
            }
        };
        let region = self.account.region().await?;
        let at = Surrounding {
            region: &region,
            cluster,
            services: services.into_iter().map(|service| (text_at(&service, "/serviceName"), service)).collect(),
            machines,
            public_ips: self.public_ips(&tasks).await,
            port: self.config.port,
        };
        out.extend(tasks.iter().filter_map(|task| target(task, &at)));
        Ok(())
    }

    /// The machines that `tasks` run on.
    async fn machines(&mut self, tasks: &[Value], of: &Value) -> Result<HashMap<String, Machine>, SdError> {
        let names: BTreeSet<String> = tasks.iter().map(|task| text_at(task, "/containerInstanceArn")).collect();
        let names: Vec<String> = names.into_iter().filter(|name| !name.is_empty()).collect();
        let known = self.describe("DescribeContainerInstances", "/containerInstances", &names, of).await?;
        let ids: Vec<String> = known.iter().map(|machine| text_at(machine, "/ec2InstanceId")).collect();
        let mut found = HashMap::new();
        let take = |reservation: Node<'_, '_>| {
            found.extend(child_items(reservation, "instancesSet").map(machine).map(|m| (m.id.clone(), m)));
        };
        self.each_ec2("DescribeInstances", "instance-id", &ids, "reservationSet", take).await?;
        let of_name = |machine: &Value| {
            let found = found.get(&text_at(machine, "/ec2InstanceId"))?;
            Some((text_at(machine, "/containerInstanceArn"), found.clone()))
        };
        Ok(known.iter().filter_map(of_name).collect())
    }

    /// Public addresses of the cards that `tasks` have of their own.
    async fn public_ips(&mut self, tasks: &[Value]) -> HashMap<String, String> {
        let ids: Vec<String> = tasks.iter().filter_map(card).map(|card| card.id).filter(|id| !id.is_empty()).collect();
        let mut found = HashMap::new();
        let take = |item: Node<'_, '_>| {
            if let Some(public) = child(item, "association") {
                found.insert(
                    child_text(item, "networkInterfaceId").to_owned(),
                    child_text(public, "publicIp").to_owned(),
                );
            }
        };
        let asked =
            self.each_ec2("DescribeNetworkInterfaces", "network-interface-id", &ids, "networkInterfaceSet", take);
        if let Err(error) = asked.await {
            // Only the label of the public address needs it, and not everybody may ask.
            tracing::debug!(%error, "public addresses of ECS are not known");
        }
        found
    }

    /// Hands what EC2 lists of those `ids` to `take`.
    async fn each_ec2(
        &mut self,
        action: &'static str,
        condition: &str,
        ids: &[String],
        list: &'static str,
        mut take: impl FnMut(Node<'_, '_>),
    ) -> Result<(), SdError> {
        for some in ids.chunks(FILTER_VALUES_MAX) {
            let base = self.account.usual_base("ec2").await?;
            let fields = EC2.filter(1, condition, some);
            self.account.each_item(&Listing::of_ec2(action, list), &base, &fields, &mut take).await?;
        }
        Ok(())
    }
}

impl Refresh for Ecs {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, SdError> {
        let names = match self.config.clusters.as_slice() {
            [] => self.list("ListClusters", "/clusterArns", &json!({})).await?,
            own => own.to_vec(),
        };
        let with_tags = json!({ "include": ["TAGS"] });
        let clusters = self.describe("DescribeClusters", "/clusters", &names, &with_tags).await?;
        let mut out = Vec::new();
        for cluster in &clusters {
            self.tasks(cluster, &mut out).await?;
        }
        Ok(out)
    }
}

fn machine(instance: Node<'_, '_>) -> Machine {
    let text = |name: &str| child_text(instance, name).to_owned();
    let tag = |tag: Node<'_, '_>| (child_text(tag, "key").to_owned(), child_text(tag, "value").to_owned());
    Machine {
        id: text("instanceId"),
        kind: text("instanceType"),
        subnet: text("subnetId"),
        private_ip: text("privateIpAddress"),
        public_ip: text("ipAddress"),
        tags: child_items(instance, "tagSet").map(tag).collect(),
    }
}

fn has_machine(task: &Value) -> bool {
    !text_at(task, "/containerInstanceArn").is_empty()
}

/// The network card of `task`, if it has one of its own.
fn card(task: &Value) -> Option<Card> {
    let own = items(task, "/attachments").iter().find(|a| text_at(a, "/type") == "ElasticNetworkInterface")?;
    let detail = |name: &str| {
        let found = items(own, "/details").iter().find(|d| text_at(d, "/name") == name);
        found.map(|d| text_at(d, "/value")).unwrap_or_default()
    };
    Some(Card { id: detail("networkInterfaceId"), ip: detail("privateIPv4Address"), subnet: detail("subnetId") })
}

/// One that has no address yet, or none any more, is none.
fn target(task: &Value, at: &Surrounding<'_>) -> Option<TargetGroup> {
    let machine = at.machines.get(&text_at(task, "/containerInstanceArn"));
    let (mode, ip, subnet, public_ip) = match (card(task), machine) {
        (Some(card), _) => ("awsvpc", card.ip, card.subnet, at.public_ips.get(&card.id).cloned().unwrap_or_default()),
        (None, Some(m)) => ("bridge", m.private_ip.clone(), m.subnet.clone(), m.public_ip.clone()),
        (None, None) => return None,
    };
    if ip.is_empty() {
        return None;
    }
    let mut meta = Meta::new("__meta_ecs_");
    meta.set("region", at.region).set("network_mode", mode).set("ip_address", &ip);
    meta.set("subnet_id", subnet).set("public_ip", public_ip);
    meta.set_all(at.cluster, &[("cluster", "/clusterName"), ("cluster_arn", "/clusterArn")]);
    meta.set_all(
        task,
        &[
            ("availability_zone", "/availabilityZone"),
            ("container_instance_arn", "/containerInstanceArn"),
            ("desired_status", "/desiredStatus"),
            ("health_status", "/healthStatus"),
            ("last_status", "/lastStatus"),
            ("launch_type", "/launchType"),
            ("platform_family", "/platformFamily"),
            ("platform_version", "/platformVersion"),
            ("task_arn", "/taskArn"),
            ("task_definition", "/taskDefinitionArn"),
            ("task_group", "/group"),
        ],
    );
    if let Some(m) = machine {
        meta.set("ec2_instance_id", &m.id).set("ec2_instance_type", &m.kind);
        meta.set("ec2_instance_private_ip", &m.private_ip).set("ec2_instance_public_ip", &m.public_ip);
        for (key, value) in &m.tags {
            meta.set_under("tag_ec2", key, value);
        }
    }
    let mut tags = |name: &str, of: &Value| {
        for tag in items(of, "/tags") {
            meta.set_under(name, &text_at(tag, "/key"), text_at(tag, "/value"));
        }
    };
    tags("tag_cluster", at.cluster);
    tags("tag_task", task);
    // Tasks that run by themselves have a group of another kind.
    let group = text_at(task, "/group");
    if let Some(service) = group.strip_prefix("service:").and_then(|name| at.services.get(name)) {
        tags("tag_service", service);
        meta.set_all(
            service,
            &[("service", "/serviceName"), ("service_arn", "/serviceArn"), ("service_status", "/status")],
        );
    }
    Some(meta.target(join(&ip, at.port)))
}

#[cfg(test)]
mod tests {
    use crate::client::testing::{Action, answer};
    use crate::discovery::testing::{Lab, json};

    const CONFIG: &str = "aws_sd_configs: [{role: ecs, region: eu-west-1, access_key: a, secret_key: s, port: 9100, refresh_interval: 30s}]";
    const TASKS: &str = r#"{"tasks": [
        {"taskArn": "t1", "taskDefinitionArn": "d:1", "group": "service:llm", "launchType": "FARGATE", "lastStatus": "RUNNING",
         "desiredStatus": "RUNNING", "healthStatus": "HEALTHY", "availabilityZone": "eu-west-1a", "platformFamily": "Linux",
         "platformVersion": "1.4.0", "tags": [{"key": "model", "value": "m"}],
         "attachments": [{"type": "Other"}, {"type": "ElasticNetworkInterface", "details": [
           {"name": "subnetId", "value": "s-1"}, {"name": "networkInterfaceId", "value": "eni-1"},
           {"name": "privateIPv4Address", "value": "10.0.0.1"}]}]},
        {"taskArn": "t2", "group": "family:batch", "launchType": "EC2", "containerInstanceArn": "c/1", "attachments": []},
        {"taskArn": "t3", "group": "family:new", "launchType": "FARGATE", "attachments": [{"type": "ElasticNetworkInterface"}]}
    ]}"#;

    fn xml(body: &str) -> Vec<Action> {
        vec![answer("200 OK", "Content-Type: text/xml\r\n", body.as_bytes())]
    }

    fn ecs(head: &str) -> Vec<Action> {
        assert!(head.contains("Credential=a/20231114/eu-west-1/ecs/"), "{head}");
        assert!(head.contains("SignedHeaders=content-type;host;x-amz-date;x-amz-target,"), "{head}");
        let is =
            |action: &str| head.contains(&format!("x-amz-target: AmazonEC2ContainerServiceV20141113.{action}\r\n"));
        let body = if is("ListClusters") && head.contains("nextToken") {
            r#"{"clusterArns": []}"#
        } else if is("ListClusters") {
            r#"{"clusterArns": ["c"], "nextToken": "more"}"#
        } else if is("DescribeClusters") {
            assert!(head.contains(r#""clusters":["c"]"#) && head.contains(r#""include":["TAGS"]"#), "{head}");
            r#"{"clusters": [{"clusterArn": "c", "clusterName": "gpu", "tags": [{"key": "Team Name", "value": "ml"}]}]}"#
        } else if is("ListServices") {
            r#"{"serviceArns": ["s"]}"#
        } else if is("DescribeServices") {
            r#"{"services": [{"serviceName": "llm", "serviceArn": "s", "status": "ACTIVE", "tags": [{"key": "k", "value": "v"}]}]}"#
        } else if is("ListTasks") {
            r#"{"taskArns": ["t1", "t2", "t3"]}"#
        } else if is("DescribeTasks") {
            TASKS
        } else {
            assert!(is("DescribeContainerInstances"), "{head}");
            r#"{"containerInstances": [{"containerInstanceArn": "c/1", "ec2InstanceId": "i-1"}]}"#
        };
        json(body)
    }

    fn ec2(head: &str) -> Vec<Action> {
        if head.contains("Action=DescribeNetworkInterfaces&") {
            assert!(head.contains("Filter.1.Name=network-interface-id&Filter.1.Value.1=eni-1"), "{head}");
            return xml(
                "<R><networkInterfaceSet><item><networkInterfaceId>eni-1</networkInterfaceId><association><publicIp>3.3.3.3\
                 </publicIp></association></item></networkInterfaceSet></R>",
            );
        }
        assert!(head.contains("Action=DescribeInstances&"), "{head}");
        assert!(head.contains("Filter.1.Name=instance-id&Filter.1.Value.1=i-1"), "{head}");
        xml(
            "<R><reservationSet><item><instancesSet><item><instanceId>i-1</instanceId><instanceType>g6.xlarge</instanceType>\
             <subnetId>s-2</subnetId><privateIpAddress>10.0.0.2</privateIpAddress><ipAddress>4.4.4.4</ipAddress><tagSet><item>\
             <key>Name</key><value>host</value></item></tagSet></item></instancesSet></item></reservationSet></R>",
        )
    }

    #[tokio::test(start_paused = true)]
    async fn tasks_are_targets_in_their_own_network_or_that_of_their_machine() {
        let mut lab = Lab::new(CONFIG);
        lab.network.serve("ecs.eu-west-1.amazonaws.com:80", ecs);
        lab.network.serve("ec2.eu-west-1.amazonaws.com:80", ec2);
        lab.secs(1).await;
        let got: Vec<String> = lab.shown().iter().map(|line| line.replace("__meta_ecs_", "")).collect();
        assert_eq!(
            got,
            [
                concat!(
                    r#"10.0.0.1:9100 {availability_zone="eu-west-1a", cluster="gpu", cluster_arn="c", desired_status="RUNNING", "#,
                    r#"health_status="HEALTHY", ip_address="10.0.0.1", last_status="RUNNING", launch_type="FARGATE", "#,
                    r#"network_mode="awsvpc", platform_family="Linux", platform_version="1.4.0", public_ip="3.3.3.3", "#,
                    r#"region="eu-west-1", service="llm", service_arn="s", service_status="ACTIVE", subnet_id="s-1", "#,
                    r#"tag_cluster_Team_Name="ml", tag_service_k="v", tag_task_model="m", task_arn="t1", "#,
                    r#"task_definition="d:1", task_group="service:llm"}"#
                ),
                concat!(
                    r#"10.0.0.2:9100 {cluster="gpu", cluster_arn="c", container_instance_arn="c/1", "#,
                    r#"ec2_instance_id="i-1", ec2_instance_private_ip="10.0.0.2", ec2_instance_public_ip="4.4.4.4", "#,
                    r#"ec2_instance_type="g6.xlarge", ip_address="10.0.0.2", launch_type="EC2", network_mode="bridge", "#,
                    r#"public_ip="4.4.4.4", region="eu-west-1", subnet_id="s-2", tag_cluster_Team_Name="ml", "#,
                    r#"tag_ec2_Name="host", task_arn="t2", task_group="family:batch"}"#
                ),
            ],
            "{:?}",
            lab.job.errors()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn without_leave_to_ask_for_machines_tasks_in_their_networks_stay_alone() {
        let mut lab = Lab::new(CONFIG);
        lab.network.serve("ecs.eu-west-1.amazonaws.com:80", ecs);
        lab.network.serve("ec2.eu-west-1.amazonaws.com:80", |_| vec![answer("403 Forbidden", "", b"")]);
        lab.secs(1).await;
        assert_eq!(lab.shown().len(), 0);
        assert!(lab.job.errors()[0].ends_with("HTTP status 403 Forbidden"), "{:?}", lab.job.errors());
        lab.network.serve("ecs.eu-west-1.amazonaws.com:80", |head: &str| {
            if head.contains("DescribeTasks") { json(&TASKS.replace("c/1", "")) } else { ecs(head) }
        });
        lab.secs(30).await;
        assert_eq!((lab.shown().len(), lab.job.errors()), (1, Vec::new()));
    }

    #[tokio::test(start_paused = true)]
    async fn bad_answers_keep_the_targets() {
        let lab = Lab::new(CONFIG);
        lab.network.serve("ec2.eu-west-1.amazonaws.com:80", ec2);
        let good = |head: &str| {
            if head.contains("DescribeTasks") { json(&TASKS.replace("c/1", "")) } else { ecs(head) }
        };
        let mut bad = Lab::bad_answers();
        bad.push((json("{}"), "the answer has no clusterArns"));
        lab.check_keeps("ecs.eu-west-1.amazonaws.com:80", good, bad, "10.0.0.1:9100 ", 30).await;
    }
}
