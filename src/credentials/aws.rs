//! Amazon: keys, and requests signed by version 4 of its rules.
//!
//! Keys come from the configuration, a profile, the environment, a web identity, or the container or machine itself; a
//! role changes them for those of the role.

use std::fmt;

use promontory_config::HttpClientConfig;
use promontory_config::credentials::Sigv4;
use promontory_config::discovery::AwsAccount;
use promontory_config::http_client::Secret;
use promontory_model::Timestamp;
use ring::{digest, hmac};
use roxmltree::Document;

use super::{Api, CredentialError, Kept, LIFETIME_MS, Reach, env, json, url};
use crate::client::{Call, FetchError};

/// Where a machine of Amazon asks about itself.
const MACHINE: &str = "http://169.254.169.254";
/// Where a container of Amazon asks about itself.
const AGENT: &str = "http://169.254.170.2";
const STS_VERSION: (&str, &str) = ("Version", "2011-06-15");
const SESSION: (&str, &str) = ("RoleSessionName", "promontory");

/// Keys with which requests are signed.
#[derive(Clone)]
pub(crate) struct Keys {
    access: String,
    secret: String,
    session: String,
}

impl Keys {
    /// Those of the configuration.
    pub(crate) fn new(access: &str, secret: &Secret) -> Self {
        Self { access: access.to_owned(), secret: secret.reveal().to_owned(), session: String::new() }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.access)
    }
}

/// Who asks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    /// Empty is that of the environment, then of this machine.
    region: String,
    access_key: String,
    secret_key: Option<Secret>,
    profile: String,
    role_arn: String,
    external_id: String,
    uses_fips: bool,
}

impl From<&AwsAccount> for Options {
    fn from(config: &AwsAccount) -> Self {
        Self {
            region: config.region.clone(),
            access_key: config.access_key.clone(),
            secret_key: config.secret_key.clone(),
            profile: config.profile.clone(),
            role_arn: config.role_arn.clone(),
            external_id: config.external_id.clone(),
            uses_fips: false,
        }
    }
}

impl From<&Sigv4> for Options {
    fn from(config: &Sigv4) -> Self {
        Self {
            region: config.region.clone(),
            access_key: config.access_key.clone(),
            secret_key: config.secret_key.clone(),
            profile: config.profile.clone(),
            role_arn: config.role_arn.clone(),
            external_id: config.external_id.clone(),
            uses_fips: config.use_fips_sts_endpoint,
        }
    }
}

/// The access of one entry of the configuration.
#[derive(Debug)]
pub(crate) struct Account {
    options: Options,
    api: Api,
    reach: Reach,
    kept: Option<Kept<Keys>>,
}

impl Account {
    /// Services are asked as `http` says.
    pub(crate) fn new(options: Options, http: &HttpClientConfig, reach: &Reach) -> Self {
        Self { options, api: Api::new(http, reach), reach: reach.clone(), kept: None }
    }

    pub(crate) async fn region(&mut self) -> Result<String, CredentialError> {
        if self.options.region.is_empty() {
            self.options.region = match env("AWS_REGION").or_else(|| env("AWS_DEFAULT_REGION")) {
                Some(region) => region,
                None => self.machine("/latest/meta-data/placement/region").await?,
            };
        }
        Ok(self.options.region.clone())
    }

    pub(crate) async fn keys(&mut self) -> Result<Keys, CredentialError> {
        let now_ms = self.reach.now_ms();
        if let Some(keys) = Kept::good(self.kept.as_ref(), now_ms) {
            return Ok(keys);
        }
        let (keys, lifetime_ms) = self.new_keys().await?;
        self.kept = Some(Kept::new(keys.clone(), now_ms, lifetime_ms));
        Ok(keys)
    }

    /// Keys, and how long they are good.
    async fn new_keys(&mut self) -> Result<(Keys, i64), CredentialError> {
        let own = self.own_keys().await?;
        if self.options.role_arn.is_empty() {
            return Ok(own);
        }
        let (role, external_id) = (self.options.role_arn.clone(), self.options.external_id.clone());
        let mut fields = vec![("Action", "AssumeRole"), ("RoleArn", role.as_str()), SESSION, STS_VERSION];
        if !external_id.is_empty() {
            fields.push(("ExternalId", &external_id));
        }
        self.token_service(&fields, Some(&own.0)).await
    }

    async fn own_keys(&mut self) -> Result<(Keys, i64), CredentialError> {
        if let Some(secret) = &self.options.secret_key {
            return Ok((Keys::new(&self.options.access_key, secret), LIFETIME_MS));
        }
        if let Some(keys) = self.profile_keys()? {
            return Ok((keys, LIFETIME_MS));
        }
        if let (Some(access), Some(secret)) = (env("AWS_ACCESS_KEY_ID"), env("AWS_SECRET_ACCESS_KEY")) {
            let keys = Keys { access, secret, session: env("AWS_SESSION_TOKEN").unwrap_or_default() };
            return Ok((keys, LIFETIME_MS));
        }
        if let (Some(file), Some(role)) = (env("AWS_WEB_IDENTITY_TOKEN_FILE"), env("AWS_ROLE_ARN")) {
            let failed = |e: std::io::Error| CredentialError::File { path: file.clone().into(), reason: e.to_string() };
            let token = std::fs::read_to_string(&file).map_err(failed)?;
            let action = ("Action", "AssumeRoleWithWebIdentity");
            let fields = [action, ("RoleArn", role.as_str()), SESSION, STS_VERSION, ("WebIdentityToken", token.trim())];
            return self.token_service(&fields, None).await;
        }
        let said = match container(env)? {
            Some(call) => self.api.json(&call).await?,
            None => {
                let path = "/latest/meta-data/iam/security-credentials/";
                let role = self.machine(path).await?;
                json(&url(MACHINE)?, self.machine(&format!("{path}{role}")).await?.as_bytes())?
            }
        };
        let text = |name: &str| said[name].as_str().unwrap_or_default().to_owned();
        let keys = Keys { access: text("AccessKeyId"), secret: text("SecretAccessKey"), session: text("Token") };
        Ok((keys, self.lifetime_ms(&text("Expiration"))))
    }

    /// How long something is good until the time that `until` writes.
    fn lifetime_ms(&self, until: &str) -> i64 {
        let until: Option<jiff::Timestamp> = until.parse().ok();
        let left = until.map(|until| until.as_millisecond().saturating_sub(self.reach.now_ms()));
        left.filter(|ms| *ms > 0).unwrap_or(LIFETIME_MS)
    }

    /// What the machine says of itself.
    async fn machine(&mut self, path: &str) -> Result<String, CredentialError> {
        let base = url(MACHINE)?;
        let mut call =
            Call::get(base.with("/latest/api/token", &[])).header("x-aws-ec2-metadata-token-ttl-seconds", "300")?;
        call.method = hyper::Method::PUT;
        let token = self.api.send(&call).await?.body;
        let token = String::from_utf8_lossy(&token).into_owned();
        let call = Call::get(base.with(path, &[])).header("x-aws-ec2-metadata-token", token.trim())?;
        Ok(String::from_utf8_lossy(&self.api.send(&call).await?.body).trim().to_owned())
    }

    /// The keys of the named profile in the file of credentials.
    fn profile_keys(&self) -> Result<Option<Keys>, CredentialError> {
        let profile = &self.options.profile;
        if profile.is_empty() {
            return Ok(None);
        }
        let home = env("HOME").unwrap_or_default();
        let path = env("AWS_SHARED_CREDENTIALS_FILE").unwrap_or_else(|| format!("{home}/.aws/credentials"));
        let failed = |reason: String| CredentialError::File { path: path.clone().into(), reason };
        let text = std::fs::read_to_string(&path).map_err(|e| failed(e.to_string()))?;
        let mut keys = Keys { access: String::new(), secret: String::new(), session: String::new() };
        let section = format!("[{profile}]");
        for line in
            text.lines().map(str::trim).skip_while(|line| *line != section).skip(1).take_while(|l| !l.starts_with('['))
        {
            let Some((name, value)) = line.split_once('=') else { continue };
            match name.trim() {
                "aws_access_key_id" => value.trim().clone_into(&mut keys.access),
                "aws_secret_access_key" => value.trim().clone_into(&mut keys.secret),
                "aws_session_token" => value.trim().clone_into(&mut keys.session),
                _ => {}
            }
        }
        if keys.access.is_empty() { Err(failed(format!("no keys of the profile {profile:?}"))) } else { Ok(Some(keys)) }
    }

    async fn token_service(
        &mut self,
        fields: &[(&str, &str)],
        keys: Option<&Keys>,
    ) -> Result<(Keys, i64), CredentialError> {
        let region = self.region().await?;
        let service = if self.options.uses_fips { "sts-fips" } else { "sts" };
        let base = url(&format!("{}://{service}.{region}.{}/", self.reach.scheme, domain(&region)))?;
        let mut call = Call::form(base, fields);
        if let Some(keys) = keys {
            call = sign(call, "sts", &region, keys, self.reach.clock.now())?;
        }
        let answer = self.api.send(&call).await?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let garbled = |what: String| CredentialError::Garbled { url: call.url.clone(), what };
        let document = Document::parse(&text).map_err(|e| garbled(e.to_string()))?;
        let value = |name: &str| {
            let found = document.descendants().find(|n| n.tag_name().name() == name);
            found.and_then(|n| n.text()).unwrap_or_default().to_owned()
        };
        let keys =
            Keys { access: value("AccessKeyId"), secret: value("SecretAccessKey"), session: value("SessionToken") };
        if keys.access.is_empty() {
            return Err(CredentialError::Absent { url: call.url, what: "AccessKeyId" });
        }
        Ok((keys, self.lifetime_ms(&value("Expiration"))))
    }
}

/// What is asked for the keys of a container, whose agent says so by the environment.
fn container(env: impl Fn(&str) -> Option<String>) -> Result<Option<Call>, CredentialError> {
    let own = env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").map(|path| format!("{AGENT}{path}"));
    let Some(text) = own.or_else(|| env("AWS_CONTAINER_CREDENTIALS_FULL_URI")) else { return Ok(None) };
    let mut call = Call::get(url(&text)?);
    let token = match env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
        Some(file) => {
            let failed = |e: std::io::Error| CredentialError::File { path: file.clone().into(), reason: e.to_string() };
            Some(std::fs::read_to_string(&file).map_err(failed)?)
        }
        None => env("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
    };
    if let Some(token) = token {
        call = call.header("authorization", token.trim())?;
    }
    Ok(Some(call))
}

/// How names of hosts in `region` end.
pub(crate) fn domain(region: &str) -> &'static str {
    if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn keyed(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

/// Signs `call`: its host, path, query and body, the time, what the body is, and headers of Amazon's own.
///
/// # Errors
/// [`FetchError::Header`] when a key is not what a header may hold.
pub(crate) fn sign(call: Call, service: &str, region: &str, keys: &Keys, now: Timestamp) -> Result<Call, FetchError> {
    let at = jiff::Timestamp::from_millisecond(now.ms()).unwrap_or_default();
    let time = at.strftime("%Y%m%dT%H%M%SZ").to_string();
    let date = &time[..8];
    let (path, query) = call.url.path().split_once('?').unwrap_or((call.url.path(), ""));
    let (path, query) = (escaped_again(path), sorted(query));
    let mut call = call.header("x-amz-date", &time)?;
    if !keys.session.is_empty() {
        call = call.header("x-amz-security-token", &keys.session)?;
    }
    let is_signed = |name: &str| name == "content-type" || name.starts_with("x-amz-");
    let own = call.headers.iter().filter(|(name, _)| is_signed(name.as_str()));
    let mut headers: Vec<(&str, String)> =
        own.map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes()).trim().to_owned())).collect();
    headers.push(("host", call.url.authority().to_owned()));
    headers.sort_unstable();
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let body = hex(digest::digest(&digest::SHA256, &call.body).as_ref());
    let canonical = format!("{}\n{path}\n{query}\n{lines}\n{names}\n{body}", call.method);
    let scope = format!("{date}/{region}/{service}/aws4_request");
    let hashed = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{hashed}");
    let mut key = keyed(format!("AWS4{}", keys.secret).as_bytes(), date);
    for part in [region, service, "aws4_request"] {
        key = keyed(key.as_ref(), part);
    }
    let signature = hex(keyed(key.as_ref(), &to_sign).as_ref());
    let authorization =
        format!("AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}", keys.access);
    call.header("authorization", &authorization)
}

/// The path of a URL escaped once more, as all services but the object store want it.
fn escaped_again(path: &str) -> String {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~/".contains(&b);
    path.bytes().map(|b| if is_plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// Parameters in ascending order, each with its sign of equality, and no blank written as a plus.
fn sorted(query: &str) -> String {
    let query = query.replace('+', "%20");
    let each = query.split('&').filter(|pair| !pair.is_empty());
    let mut pairs: Vec<(&str, &str)> = each.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect();
    pairs.sort_unstable();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Url;

    /// From the suite of examples that Amazon gives: requests to `example.amazonaws.com`.
    #[track_caller]
    fn check(path: &str, session: &str, names: &str, signature: &str) {
        let keys = Keys {
            access: "AKIDEXAMPLE".to_owned(),
            secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
            session: session.to_owned(),
        };
        let call = Call::get(Url::parse(&format!("http://example.amazonaws.com{path}")).unwrap());
        let signed = sign(call, "service", "us-east-1", &keys, Timestamp(1_440_938_160_000)).unwrap();
        let expected = format!(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders={names}, \
             Signature={signature}"
        );
        assert_eq!(signed.headers["authorization"], expected);
    }

    #[test]
    fn requests_are_signed_as_amazon_says() {
        let plain = "host;x-amz-date";
        check("/", "", plain, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
        let sorted = "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500";
        check("/?Param2=value2&Param1=value1", "", plain, sorted);
    }

    #[test]
    fn paths_and_queries_have_one_form() {
        assert_eq!(escaped_again("/a b/%41~"), "/a%20b/%2541~");
        assert_eq!(sorted("b=2+3&a&a=1"), "a=&a=1&b=2%203");
    }

    #[test]
    fn what_the_body_is_and_own_headers_are_signed() {
        let keys = Keys { access: "a".to_owned(), secret: "s".to_owned(), session: "t".to_owned() };
        let call = Call::post(Url::parse("http://h").unwrap(), "application/json", "{}");
        let call = call.header("x-amz-target", "T.A").unwrap().header("accept", "x").unwrap();
        let signed = sign(call, "ecs", "r", &keys, Timestamp(0)).unwrap();
        let text = signed.headers["authorization"].to_str().unwrap();
        let names = "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target, ";
        assert!(text.contains(names), "{text}");
    }

    #[test]
    fn a_container_asks_its_agent() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "F\n").unwrap();
        let file = file.display().to_string();
        let check = |vars: &[(&str, &str)], expected: Option<(&str, Option<&str>)>| {
            let find = |name: &str| vars.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
            let call = container(find).unwrap();
            let token = |call: &Call| call.headers.get("authorization").map(|v| v.to_str().unwrap().to_owned());
            let got = call.map(|call| (call.url.to_string(), token(&call)));
            assert_eq!(got, expected.map(|(url, token)| (url.to_owned(), token.map(str::to_owned))));
        };
        check(&[], None);
        let relative = ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/x?id=1");
        let full = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials");
        check(&[relative, full], Some(("http://169.254.170.2/v2/x?id=1", None)));
        check(&[full, ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "T")], Some((full.1, Some("T"))));
        check(&[full, ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &file)], Some((full.1, Some("F"))));
        assert!(container(|name| (name == full.0).then(|| "nowhere".to_owned())).is_err());
    }
}
