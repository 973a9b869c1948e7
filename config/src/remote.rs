//! `remote_write` and `remote_read`: servers that samples are copied to and read from besides.

use promontory_model::Duration;

use crate::Config;
use crate::credentials::{self, CloudAuth};
use crate::decode::{Field, Fields};
use crate::discovery::settings::check_url;
use crate::http_client::{self, Auth, HeaderValue, HttpClientConfig, HttpHeader, Secret, Source};
use crate::print::Map;
use crate::relabel::{self, RelabelConfig};

/// A destination of samples.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoteWriteConfig {
    /// Where requests go.
    pub url: String,
    /// Told apart from others by this name; empty when the configuration gives none.
    pub name: String,
    /// Time that one request may take.
    pub remote_timeout: Duration,
    /// Applied to series with the external labels, before they are sent.
    pub write_relabel_configs: Vec<RelabelConfig>,
    /// Which message is sent.
    pub message: WriteMessage,
    /// Whether exemplars are sent.
    pub send_exemplars: bool,
    /// Whether native histograms are sent by version 1; version 2 always does.
    pub send_native_histograms: bool,
    /// Whether each connection takes the next address of the host's name.
    pub round_robin_dns: bool,
    /// How requests are made up and repeated.
    pub queue: QueueConfig,
    /// When types and help texts are sent by version 1.
    pub metadata: MetadataConfig,
    /// How connections are made and authorised; also `headers`.
    pub http: HttpClientConfig,
    /// Who authorises requests instead.
    pub cloud: Option<CloudAuth>,
}

/// Messages of remote write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WriteMessage {
    /// Version 1.
    #[default]
    First,
    /// Version 2.
    Second,
}

const MESSAGES: [(&str, WriteMessage); 2] =
    [("prometheus.WriteRequest", WriteMessage::First), ("io.prometheus.write.v2.Request", WriteMessage::Second)];

impl WriteMessage {
    /// The name in configuration files and in the header `Content-Type`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        MESSAGES.iter().find(|(_, message)| *message == self).map_or("", |(name, _)| name)
    }
}

/// `queue_config`
#[derive(Debug, Clone, PartialEq)]
pub struct QueueConfig {
    /// Samples that may wait for each request under way.
    pub capacity: u64,
    /// Requests under way at most.
    pub max_shards: u64,
    /// Requests under way at least, where there are samples for them.
    pub min_shards: u64,
    /// Samples of one request.
    pub max_samples_per_send: u64,
    /// Longest time that a sample waits for others.
    pub batch_send_deadline: Duration,
    /// Time before a request is repeated, doubled each time.
    pub min_backoff: Duration,
    /// Longest of these times.
    pub max_backoff: Duration,
    /// Whether a request that is answered with 429 is repeated.
    pub retry_on_http_429: bool,
    /// Samples older than this are not sent; zero is no limit.
    pub sample_age_limit: Duration,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            capacity: 10_000,
            max_shards: 50,
            min_shards: 1,
            max_samples_per_send: 2000,
            batch_send_deadline: Duration::from_secs(5),
            min_backoff: Duration(30),
            max_backoff: Duration::from_secs(5),
            retry_on_http_429: false,
            sample_age_limit: Duration(0),
        }
    }
}

/// `metadata_config`
#[derive(Debug, Clone, PartialEq)]
pub struct MetadataConfig {
    /// Whether they are sent.
    pub send: bool,
    /// How often.
    pub send_interval: Duration,
    /// Families of one request.
    pub max_samples_per_send: u64,
}

impl Default for MetadataConfig {
    fn default() -> Self {
        Self { send: true, send_interval: Duration::from_secs(60), max_samples_per_send: 2000 }
    }
}

/// A server that is read from besides.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoteReadConfig {
    /// Where requests go.
    pub url: String,
    /// Told apart from others by this name; empty when the configuration gives none.
    pub name: String,
    /// Time that one request may take.
    pub remote_timeout: Duration,
    /// Largest frame of a streamed answer, bytes.
    pub chunked_read_limit: u64,
    /// Whether it is asked for times of which this server has all samples.
    pub read_recent: bool,
    /// Only selectors with all of these equalities are asked, by ascending name.
    pub required_matchers: Vec<(String, String)>,
    /// Whether external labels are added to selectors and taken from answers.
    pub filter_external_labels: bool,
    /// How connections are made and authorised; also `headers`.
    pub http: HttpClientConfig,
    /// Who authorises requests instead.
    pub cloud: Option<CloudAuth>,
}

pub(crate) fn read_write(field: &Field<'_>, config: &mut Config) {
    for item in field.list() {
        let Some(remote) = read_destination(&item, config) else { continue };
        if is_named(&remote.name, config.remote_write.iter().map(|other| &other.name)) {
            item.rule(format!("found multiple remote write configs with job name {:?}", remote.name));
        }
        config.remote_write.push(remote);
    }
}

pub(crate) fn read_read(field: &Field<'_>, config: &mut Config) {
    for item in field.list() {
        let Some(remote) = read_source(&item) else { continue };
        if is_named(&remote.name, config.remote_read.iter().map(|other| &other.name)) {
            item.rule(format!("found multiple remote read configs with job name {:?}", remote.name));
        }
        config.remote_read.push(remote);
    }
}

fn is_named<'a>(name: &String, mut others: impl Iterator<Item = &'a String>) -> bool {
    !name.is_empty() && others.any(|other| other == name)
}

fn read_destination(item: &Field<'_>, config: &Config) -> Option<RemoteWriteConfig> {
    let fields = item.fields()?;
    let names = config.global.metric_name_validation;
    let (url, http) = read_http(&fields, false);
    let out = RemoteWriteConfig {
        url,
        name: fields.text("name").unwrap_or_default(),
        remote_timeout: positive(&fields, "remote_timeout", Duration::from_secs(30)),
        write_relabel_configs: relabel::read(&fields.list("write_relabel_configs"), names),
        message: fields.get("protobuf_message").and_then(|f| f.one_of(&MESSAGES)).unwrap_or_default(),
        send_exemplars: fields.bool_or("send_exemplars", false),
        send_native_histograms: fields.bool_or("send_native_histograms", false),
        round_robin_dns: fields.bool_or("round_robin_dns", false),
        queue: fields.get("queue_config").and_then(|f| read_queue(&f)).unwrap_or_default(),
        metadata: fields.get("metadata_config").and_then(|f| read_metadata(&f)).unwrap_or_default(),
        cloud: credentials::read(&fields, &http.auth),
        http,
    };
    fields.get("failed_request_logging").and_then(|f| f.bool());
    fields.finish(&[]);
    Some(out)
}

fn read_source(item: &Field<'_>) -> Option<RemoteReadConfig> {
    let fields = item.fields()?;
    let mut required_matchers: Vec<(String, String)> = Vec::new();
    for (name, value) in fields.get("required_matchers").iter().flat_map(Field::entries) {
        required_matchers.extend(value.text().map(|text| (name.to_owned(), text.to_owned())));
    }
    required_matchers.sort();
    let (url, http) = read_http(&fields, true);
    let out = RemoteReadConfig {
        url,
        name: fields.text("name").unwrap_or_default(),
        remote_timeout: positive(&fields, "remote_timeout", Duration::from_secs(60)),
        chunked_read_limit: fields
            .get("chunked_read_limit")
            .and_then(|f| f.u64())
            .filter(|n| *n > 0)
            .unwrap_or(50_000_000),
        read_recent: fields.bool_or("read_recent", false),
        required_matchers,
        filter_external_labels: fields.bool_or("filter_external_labels", true),
        cloud: credentials::read(&fields, &http.auth),
        http,
    };
    fields.finish(&[]);
    Some(out)
}

/// `url` without user and password, and the client's fields with these and `headers`, which are sent as plain text.
fn read_http(fields: &Fields<'_>, http2: bool) -> (String, HttpClientConfig) {
    let mut http = http_client::read(fields);
    http.enable_http2 = fields.bool_or("enable_http2", http2);
    let mut url = fields.text("url").unwrap_or_default();
    if url.is_empty() {
        fields.missing("url");
    } else {
        check_url(fields, "url", &url);
    }
    if let Some((without, username, password)) = split_user(&url) {
        if http.auth == Auth::None {
            let password = Some(Source::Inline(Secret::new(password)));
            http.auth = Auth::Basic { username: Some(Source::Inline(username)), password };
        }
        url = without;
    }
    for (name, value) in fields.get("headers").iter().flat_map(Field::entries) {
        http_client::check_header(name, &value);
        if http.headers.iter().any(|header| header.name.eq_ignore_ascii_case(name)) {
            value.rule(format!("header {name:?} is in http_headers too"));
        }
        let values = http_client::header_text(&value).into_iter().map(HeaderValue::Plain).collect();
        http.headers.push(HttpHeader { name: name.to_owned(), values });
    }
    http.headers.sort_by(|a, b| a.name.cmp(&b.name));
    (url, http)
}

/// The URL without user and password, and these, if it has them. So the password is shown nowhere.
fn split_user(url: &str) -> Option<(String, String, String)> {
    let (scheme, rest) = url.split_once("://")?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (user, host) = rest[..end].rsplit_once('@')?;
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    Some((format!("{scheme}://{host}{}", &rest[end..]), name.to_owned(), password.to_owned()))
}

fn positive(fields: &Fields<'_>, name: &'static str, default: Duration) -> Duration {
    let Some(field) = fields.get(name) else { return default };
    let Some(given) = field.duration() else { return default };
    if given.ms() == 0 {
        field.rule(format!("{name} must be positive"));
    }
    given
}

fn count(fields: &Fields<'_>, name: &'static str, default: u64) -> u64 {
    /// More would only be slower to hold.
    const MAX: u64 = 1_000_000;
    let Some(field) = fields.get(name) else { return default };
    let Some(given) = field.u64() else { return default };
    if !(1..=MAX).contains(&given) {
        field.rule(format!("{name} must be from 1 to {MAX}"));
    }
    given
}

fn read_queue(field: &Field<'_>) -> Option<QueueConfig> {
    let fields = field.fields()?;
    let default = QueueConfig::default();
    let queue = QueueConfig {
        capacity: count(&fields, "capacity", default.capacity),
        max_shards: count(&fields, "max_shards", default.max_shards),
        min_shards: count(&fields, "min_shards", default.min_shards),
        max_samples_per_send: count(&fields, "max_samples_per_send", default.max_samples_per_send),
        batch_send_deadline: positive(&fields, "batch_send_deadline", default.batch_send_deadline),
        min_backoff: positive(&fields, "min_backoff", default.min_backoff),
        max_backoff: positive(&fields, "max_backoff", default.max_backoff),
        retry_on_http_429: fields.bool_or("retry_on_http_429", default.retry_on_http_429),
        sample_age_limit: fields.get("sample_age_limit").and_then(|f| f.duration()).unwrap_or_default(),
    };
    if queue.min_shards > queue.max_shards {
        field.rule("min_shards must not be above max_shards");
    }
    if queue.min_backoff > queue.max_backoff {
        field.rule("min_backoff must not be above max_backoff");
    }
    fields.finish(&[]);
    Some(queue)
}

fn read_metadata(field: &Field<'_>) -> Option<MetadataConfig> {
    let fields = field.fields()?;
    let default = MetadataConfig::default();
    let metadata = MetadataConfig {
        send: fields.bool_or("send", default.send),
        send_interval: positive(&fields, "send_interval", default.send_interval),
        max_samples_per_send: count(&fields, "max_samples_per_send", default.max_samples_per_send),
    };
    fields.finish(&[]);
    Some(metadata)
}

pub(crate) fn print_write(remote: &RemoteWriteConfig, relabel: fn(&RelabelConfig) -> Map) -> Map {
    let mut map = Map::default();
    map.put("url", remote.url.as_str());
    map.text("remote_timeout", remote.remote_timeout);
    map.list("write_relabel_configs", remote.write_relabel_configs.iter().map(relabel));
    map.some("name", Some(remote.name.as_str()).filter(|name| !name.is_empty()));
    map.put("protobuf_message", remote.message.as_str());
    if remote.send_exemplars {
        map.put("send_exemplars", true);
    }
    if remote.send_native_histograms {
        map.put("send_native_histograms", true);
    }
    if remote.round_robin_dns {
        map.put("round_robin_dns", true);
    }
    crate::print::http_client(&mut map, &remote.http);
    credentials::print(remote.cloud.as_ref(), &mut map);
    let q = &remote.queue;
    let mut queue = Map::default();
    queue.put("capacity", q.capacity);
    queue.put("max_shards", q.max_shards);
    queue.put("min_shards", q.min_shards);
    queue.put("max_samples_per_send", q.max_samples_per_send);
    queue.text("batch_send_deadline", q.batch_send_deadline);
    queue.text("min_backoff", q.min_backoff);
    queue.text("max_backoff", q.max_backoff);
    if q.retry_on_http_429 {
        queue.put("retry_on_http_429", true);
    }
    if q.sample_age_limit.ms() > 0 {
        queue.text("sample_age_limit", q.sample_age_limit);
    }
    map.map("queue_config", queue);
    let mut metadata = Map::default();
    metadata.put("send", remote.metadata.send);
    metadata.text("send_interval", remote.metadata.send_interval);
    metadata.put("max_samples_per_send", remote.metadata.max_samples_per_send);
    map.map("metadata_config", metadata);
    map
}

pub(crate) fn print_read(remote: &RemoteReadConfig) -> Map {
    let mut map = Map::default();
    map.put("url", remote.url.as_str());
    map.text("remote_timeout", remote.remote_timeout);
    map.put("chunked_read_limit", remote.chunked_read_limit);
    map.put("read_recent", remote.read_recent);
    map.some("name", Some(remote.name.as_str()).filter(|name| !name.is_empty()));
    let mut required = Map::default();
    for (name, value) in &remote.required_matchers {
        required.put(name, value.as_str());
    }
    map.map("required_matchers", required);
    map.put("filter_external_labels", remote.filter_external_labels);
    crate::print::http_client(&mut map, &remote.http);
    credentials::print(remote.cloud.as_ref(), &mut map);
    map
}
