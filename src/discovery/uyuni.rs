//! `uyuni_sd_configs`: systems that Uyuni monitors, asked by XML-RPC; each exporter on them is a target.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use promontory_config::TargetGroup;
use promontory_config::discovery::UyuniSdConfig;
use roxmltree::{Document, Node};
use serde_json::{Map, Value, json};

use super::api::{Api, url};
use super::error::SdError;
use super::meta::{Meta, items, join, text_at};
use super::provider::{Refresh, Surroundings};
use crate::client::{Call, Url};

/// Where the server answers.
const PATH: &str = "/rpc/api";
/// Time for which a session is asked, in seconds. It is used for half of that.
const SESSION_S: u64 = 600;
/// Arrays and structures inside each other.
const DEPTH_MAX: usize = 16;

/// One `uyuni_sd_configs` entry.
#[derive(Debug)]
pub(super) struct Uyuni {
    config: UyuniSdConfig,
    api: Api,
    surroundings: Surroundings,
    /// Name of the session and when it was opened.
    session: Option<(String, u64)>,
}

impl Uyuni {
    pub(super) fn new(config: &UyuniSdConfig, surroundings: &Surroundings) -> Self {
        let api = Api::new(&config.http, surroundings);
        Self { config: config.clone(), api, surroundings: surroundings.clone(), session: None }
    }

    async fn call(&mut self, method: &str, params: &[Value]) -> Result<Value, SdError> {
        let url = url(&self.config.server)?.with(PATH, &[]);
        let call = Call::post(url.clone(), "text/xml", request(method, params));
        let answer = self.api.send(&call).await?;
        response(&url, &String::from_utf8_lossy(&answer.body))
    }

    async fn session(&mut self) -> Result<String, SdError> {
        let now_ns = self.surroundings.clock.monotonic_ns();
        if let Some((name, since_ns)) = &self.session
            && now_ns.saturating_sub(*since_ns) < SESSION_S / 2 * 1_000_000_000
        {
            return Ok(name.clone());
        }
        let password = self.config.password.as_ref().map_or("", |secret| secret.reveal());
        let login = [json!(self.config.username), json!(password), json!(SESSION_S)];
        let name = self.call("auth.login", &login).await?;
        let name = name.as_str().ok_or_else(|| self.absent("session"))?.to_owned();
        self.session = Some((name.clone(), now_ns));
        Ok(name)
    }

    /// What `method` answers of the session and `about`, which is a list.
    async fn list(&mut self, session: &str, method: &str, about: &Value) -> Result<Vec<Value>, SdError> {
        match self.call(method, &[json!(session), about.clone()]).await? {
            Value::Array(items) => Ok(items),
            _ => Err(self.absent("list")),
        }
    }

    fn absent(&self, what: &'static str) -> SdError {
        match url(&self.config.server) {
            Ok(url) => SdError::Absent { url: url.with(PATH, &[]), what },
            Err(error) => error,
        }
    }

    async fn look(&mut self) -> Result<Vec<TargetGroup>, SdError> {
        let session = self.session().await?;
        let entitlement = json!(self.config.entitlement);
        let systems = self.list(&session, "system.listSystemGroupsForSystemsWithEntitlement", &entitlement).await?;
        let by_id = |all: Vec<Value>, pointer: &str| -> BTreeMap<String, Value> {
            all.into_iter().map(|item| (text_at(&item, pointer), item)).collect()
        };
        let ids: Vec<Value> = systems.iter().map(|system| system["id"].clone()).collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let systems = by_id(systems, "/id");
        let ids = Value::Array(ids);
        let networks = self.list(&session, "system.getNetworkForSystems", &ids).await?;
        let networks = by_id(networks, "/system_id");
        let endpoints = self.list(&session, "system.monitoring.listEndpoints", &ids).await?;
        let target = |endpoint: &Value| {
            let id = text_at(endpoint, "/system_id");
            self.target(endpoint, systems.get(&id)?, networks.get(&id)?)
        };
        Ok(endpoints.iter().filter_map(target).collect())
    }

    fn target(&self, endpoint: &Value, system: &Value, network: &Value) -> Option<TargetGroup> {
        let mut meta = Meta::new("__meta_uyuni_");
        meta.set_all(
            endpoint,
            &[
                ("endpoint_name", "/endpoint_name"),
                ("exporter", "/exporter_name"),
                ("metrics_path", "/path"),
                ("proxy_module", "/module"),
                ("system_id", "/system_id"),
            ],
        );
        meta.set_all(network, &[("minion_hostname", "/hostname"), ("primary_fqdn", "/primary_fqdn")]);
        let groups: Vec<String> = items(system, "/system_groups").iter().map(|group| text_at(group, "/name")).collect();
        meta.set("groups", groups.join(&self.config.separator));
        meta.set("scheme", if endpoint["tls_enabled"] == true { "https" } else { "http" });
        let (full, own) = (text_at(network, "/primary_fqdn"), text_at(network, "/hostname"));
        let host = if full.is_empty() { own } else { full };
        (!host.is_empty()).then(|| meta.target(join(&host, text_at(endpoint, "/port"))))
    }
}

impl Refresh for Uyuni {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, SdError> {
        let found = self.look().await;
        if found.is_err() {
            // The session may be over.
            self.session = None;
        }
        found
    }
}

/// The call of `method`.
fn request(method: &str, params: &[Value]) -> String {
    let mut out = format!("<?xml version=\"1.0\"?><methodCall><methodName>{method}</methodName><params>");
    for param in params {
        out.push_str("<param>");
        put(param, &mut out);
        out.push_str("</param>");
    }
    out.push_str("</params></methodCall>");
    out
}

/// Writes texts, whole numbers and lists of them, which is all that is asked with.
fn put(value: &Value, out: &mut String) {
    out.push_str("<value>");
    match value {
        Value::Array(items) => {
            out.push_str("<array><data>");
            items.iter().for_each(|item| put(item, out));
            out.push_str("</data></array>");
        }
        Value::Number(number) => {
            let _ = write!(out, "<int>{number}</int>");
        }
        other => {
            let text = other.as_str().unwrap_or_default();
            let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            let _ = write!(out, "<string>{text}</string>");
        }
    }
    out.push_str("</value>");
}

/// The value that is answered.
fn response(url: &Url, text: &str) -> Result<Value, SdError> {
    let garbled = |what: String| SdError::Garbled { url: url.clone(), what };
    let document = Document::parse(text).map_err(|e| garbled(e.to_string()))?;
    let root = document.root_element();
    let found = child(root, "fault").or_else(|| child(child(root, "params")?, "param"));
    let value = found.and_then(|found| child(found, "value")).ok_or_else(|| garbled("no value".to_owned()))?;
    let value = read(value, 0).ok_or_else(|| garbled("a value that is none".to_owned()))?;
    if child(root, "fault").is_some() {
        return Err(garbled(format!("{} (fault {})", text_at(&value, "/faultString"), text_at(&value, "/faultCode"))));
    }
    Ok(value)
}

fn child<'a, 'input>(node: Node<'a, 'input>, name: &str) -> Option<Node<'a, 'input>> {
    node.children().find(|child| child.has_tag_name(name))
}

/// What an element `value` says.
fn read(value: Node<'_, '_>, depth: usize) -> Option<Value> {
    if depth > DEPTH_MAX {
        return None;
    }
    let Some(typed) = value.first_element_child() else { return Some(json!(value.text().unwrap_or_default())) };
    let text = typed.text().unwrap_or_default();
    match typed.tag_name().name() {
        "int" | "i4" | "i8" => text.trim().parse::<i64>().ok().map(Value::from),
        "boolean" => Some(json!(text.trim() == "1")),
        "double" => text.trim().parse::<f64>().ok().map(Value::from),
        "array" => {
            let values = child(typed, "data")?.children().filter(|child| child.has_tag_name("value"));
            values.map(|value| read(value, depth + 1)).collect::<Option<_>>().map(Value::Array)
        }
        "struct" => {
            let mut map = Map::new();
            for member in typed.children().filter(|child| child.has_tag_name("member")) {
                let name = child(member, "name")?.text().unwrap_or_default();
                map.insert(name.to_owned(), read(child(member, "value")?, depth + 1)?);
            }
            Some(Value::Object(map))
        }
        _ => Some(json!(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::testing::{Action, answer};
    use crate::discovery::testing::Lab;

    const CONFIG: &str = "uyuni_sd_configs: [{server: 'http://u', username: 'n<', password: p, refresh_interval: 30s}]";

    fn page(value: &str) -> Vec<Action> {
        let body =
            format!("<?xml version=\"1.0\"?><methodResponse><params><param>{value}</param></params></methodResponse>");
        vec![answer("200 OK", "Content-Type: text/xml\r\n", body.as_bytes())]
    }

    fn serve(head: &str) -> Vec<Action> {
        let list = |items: &str| page(&format!("<value><array><data>{items}</data></array></value>"));
        if head.contains("auth.login") {
            assert!(head.contains("<string>n&lt;</string>") && head.contains("<int>600</int>"), "{head}");
            return page("<value>token</value>");
        }
        assert!(head.contains("<string>token</string>"), "{head}");
        if head.contains("listSystemGroupsForSystemsWithEntitlement") {
            assert!(head.contains("<string>monitoring_entitled</string>"), "{head}");
            return list(
                "<value><struct><member><name>id</name><value><int>7</int></value></member><member>\
                 <name>system_groups</name><value><array><data><value><struct><member><name>name</name><value>\
                 <string>gpu</string></value></member></struct></value><value><struct><member><name>name</name>\
                 <value>ml</value></member></struct></value></data></array></value></member></struct></value>",
            );
        }
        assert!(head.contains("<array><data><value><int>7</int></value></data></array>"), "{head}");
        if head.contains("getNetworkForSystems") {
            return list(
                "<value><struct><member><name>system_id</name><value><int>7</int></value></member><member>\
                 <name>hostname</name><value><string>h</string></value></member><member><name>primary_fqdn</name>\
                 <value><string>h.example</string></value></member></struct></value>",
            );
        }
        list(
            "<value><struct><member><name>system_id</name><value><int>7</int></value></member><member>\
             <name>endpoint_name</name><value><string>node</string></value></member><member><name>exporter_name</name>\
             <value><string>node_exporter</string></value></member><member><name>port</name><value><int>9100</int>\
             </value></member><member><name>path</name><value><string>/metrics</string></value></member><member>\
             <name>tls_enabled</name><value><boolean>1</boolean></value></member></struct></value>",
        )
    }

    #[tokio::test(start_paused = true)]
    async fn endpoints_of_systems_are_targets() {
        let mut lab = Lab::new(CONFIG);
        lab.network.serve("u:80", serve);
        let expected = concat!(
            r#"h.example:9100 {__meta_uyuni_endpoint_name="node", __meta_uyuni_exporter="node_exporter", "#,
            r#"__meta_uyuni_groups="gpu,ml", __meta_uyuni_metrics_path="/metrics", __meta_uyuni_minion_hostname="h", "#,
            r#"__meta_uyuni_primary_fqdn="h.example", __meta_uyuni_scheme="https", __meta_uyuni_system_id="7"}"#
        );
        lab.check(1, &[expected]).await;
    }

    #[test]
    fn faults_and_nonsense_are_told() {
        let url = Url::parse("http://u/rpc/api").unwrap();
        let check = |text: &str| response(&url, text).unwrap_err().to_string();
        let fault = "<methodResponse><fault><value><struct><member><name>faultCode</name><value><int>2950</int></value>\
                     </member><member><name>faultString</name><value><string>no such user</string></value></member>\
                     </struct></value></fault></methodResponse>";
        assert_eq!(check(fault), "http://u/rpc/api: no such user (fault 2950)");
        assert_eq!(check("<methodResponse/>"), "http://u/rpc/api: no value");
        let number = "<m><params><param><value><int>x</int></value></param></params></m>";
        assert_eq!(check(number), "http://u/rpc/api: a value that is none");
        let deep = "<value><array><data>".repeat(40) + &"</data></array></value>".repeat(40);
        assert!(check(&format!("<m><params><param>{deep}</param></params></m>")).ends_with("a value that is none"));
    }

    #[tokio::test(start_paused = true)]
    async fn bad_answers_keep_the_targets() {
        let lab = Lab::new(CONFIG);
        let mut bad = Lab::bad_answers();
        // These two are bad JSON; here they are bad XML.
        bad.drain(2..4);
        bad.push((page("<value>"), ""));
        bad.push((page("<value>no list</value>"), "no list"));
        lab.check_keeps("u:80", serve, bad, "h.example:9100 ", 30).await;
    }
}
