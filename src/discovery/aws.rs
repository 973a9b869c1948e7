//! Services of Amazon, asked with signed requests: `aws_sd_configs`, whose roles have a module each.

mod ec2;
mod ecs;
mod elasticache;
mod fields;
mod lightsail;
mod msk;
mod rds;

use promontory_config::discovery::{
    AwsAccount, Ec2SdConfig, EcsSdConfig, ElastiCacheSdConfig, LightsailSdConfig, MskSdConfig, RdsSdConfig,
};
use promontory_config::http_client::HttpClientConfig;
use roxmltree::{Document, Node};
use serde_json::Value;

use super::api::{Api, Pages, url};
use super::error::SdError;
use super::provider::Surroundings;
use crate::client::{Call, Url};
use crate::credentials::aws::{self, sign};

/// Instances of EC2: one `ec2_sd_configs` entry, or one with the role `ec2`, as below.
pub(super) type Ec2 = Service<Ec2SdConfig>;
/// Tasks of the container service.
pub(super) type Ecs = Service<EcsSdConfig>;
/// Nodes of caches, and caches without servers.
pub(super) type ElastiCache = Service<ElastiCacheSdConfig>;
/// Instances of Lightsail.
pub(super) type Lightsail = Service<LightsailSdConfig>;
/// Brokers and controllers of Kafka.
pub(super) type Msk = Service<MskSdConfig>;
/// Instances of clusters of databases.
pub(super) type Rds = Service<RdsSdConfig>;

/// One entry for a service.
#[derive(Debug)]
pub(super) struct Service<C> {
    config: C,
    account: Account,
}

impl<C: Clone> Service<C> {
    /// The service of `config`, which `account` asks as `http` says.
    pub(super) fn new(config: &C, account: &AwsAccount, http: &HttpClientConfig, surroundings: &Surroundings) -> Self {
        Self { config: config.clone(), account: Account::new(account, http, surroundings) }
    }
}

/// A service that takes forms and answers in XML.
struct FormService {
    name: &'static str,
    version: &'static str,
    /// What a condition on what is listed is called in a form.
    filter: &'static str,
    /// What a value of a condition is called below it.
    value: &'static str,
}

const EC2: FormService = FormService { name: "ec2", version: "2016-11-15", filter: "Filter", value: "Value" };

/// A list that a service answers page by page.
struct Listing {
    service: &'static FormService,
    action: &'static str,
    list: &'static str,
    /// What the next page is asked for with; an answer has it under the same name, or one that begins small.
    next: &'static str,
}

impl Listing {
    fn of_ec2(action: &'static str, list: &'static str) -> Self {
        Self { service: &EC2, action, list, next: "NextToken" }
    }
}

/// A field of a form.
type Pair = (String, String);

fn pair(name: impl Into<String>, value: impl Into<String>) -> Pair {
    (name.into(), value.into())
}

impl FormService {
    /// The `number`th condition on what is listed.
    fn filter(&self, number: usize, name: &str, values: &[String]) -> Vec<Pair> {
        let filter = format!("{}.{number}", self.filter);
        let mut fields = vec![pair(format!("{filter}.Name"), name)];
        let values = values.iter().enumerate();
        fields.extend(values.map(|(i, value)| pair(format!("{filter}.{}.{}", self.value, i + 1), value)));
        fields
    }
}

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

    async fn region(&mut self) -> Result<String, SdError> {
        Ok(self.who.region().await?)
    }

    /// Where `service` answers: where the configuration says, or where it usually does.
    async fn base(&mut self, service: &str) -> Result<Url, SdError> {
        if self.endpoint.is_empty() {
            return self.usual_base(service).await;
        }
        let has_scheme = self.endpoint.contains("://");
        url(&if has_scheme { self.endpoint.clone() } else { format!("https://{}", self.endpoint) })
    }

    async fn usual_base(&mut self, service: &str) -> Result<Url, SdError> {
        let region = self.region().await?;
        url(&format!("{}://{service}.{region}.{}/", self.surroundings.cloud_scheme, aws::domain(&region)))
    }

    async fn signed(&mut self, call: Call, service: &str) -> Result<Call, SdError> {
        let (region, keys) = (self.who.region().await?, self.who.keys().await?);
        Ok(sign(call, service, &region, &keys, self.surroundings.clock.now())?)
    }

    /// Hands each item of `listing`, which is asked for with `fields`, to `take`.
    async fn each_item(
        &mut self,
        listing: &Listing,
        base: &Url,
        fields: &[Pair],
        mut take: impl FnMut(Node<'_, '_>),
    ) -> Result<(), SdError> {
        let Listing { service, action, list, next } = *listing;
        let mut pages = Pages::default();
        loop {
            let mut form = vec![("Action", action), ("Version", service.version)];
            form.extend(fields.iter().map(|(name, value)| (name.as_str(), value.as_str())));
            form.extend(pages.next().map(|at| (next, at)));
            let call = self.signed(Call::form(base.clone(), &form), service.name).await?;
            let answer = self.api.send(&call).await?;
            let text = String::from_utf8_lossy(&answer.body);
            let garbled = |e: roxmltree::Error| SdError::Garbled { url: call.url.clone(), what: e.to_string() };
            let document = Document::parse(&text).map_err(garbled)?;
            let root = document.root_element();
            let root = child(root, &format!("{action}Result")).unwrap_or(root);
            let found = child(root, list).ok_or_else(|| SdError::Absent { url: call.url.clone(), what: list })?;
            found.children().filter(Node::is_element).for_each(&mut take);
            let is_next = |node: &Node<'_, '_>| node.tag_name().name().eq_ignore_ascii_case(next);
            let at = root.children().find(is_next).and_then(|node| node.text()).unwrap_or_default();
            if pages.are_all(base, at.trim())? {
                return Ok(());
            }
        }
    }

    /// What `service` answers to `action` of its interface in JSON.
    async fn json_action(&mut self, service: &str, action: &str, body: &Value) -> Result<(Url, Value), SdError> {
        let base = self.base(service).await?;
        let call = Call::post(base, "application/x-amz-json-1.1", body.to_string()).header("x-amz-target", action)?;
        let call = self.signed(call, service).await?;
        let answer = self.api.json(&call).await?;
        Ok((call.url, answer))
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
