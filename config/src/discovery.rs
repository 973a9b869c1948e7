//! Where targets come from: `static_configs`, `file_sd_configs` and the files of the latter, and all `<name>_sd_configs`
//! that ask somebody.

mod clouds;
mod kubernetes;
mod mechanisms;
pub(crate) mod settings;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use promontory_model::{Duration, Labels, LabelsBuilder};
use serde::Deserialize;

use crate::decode::{Decoder, Field, Fields, Harmless, NotBuilt};
use crate::error::{ConfigError, ConfigErrors, Position, Problem};
use crate::print::{self, Map};
use crate::scrape::NameValidation;

pub use clouds::*;
pub use kubernetes::*;
pub use mechanisms::*;
use settings::SettingMap;

/// Makes [`Discovery`] and the tables of its keys.
macro_rules! mechanisms {
    ($($variant:ident($config:ty) $key:literal $name:literal;)*) => {
        /// One source of targets of a job.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Discovery {
            /// `static_configs`: the groups as written.
            Static(Vec<TargetGroup>),
            /// One entry of `file_sd_configs`.
            File(FileSdConfig),
            $(#[doc = concat!("One entry of `", $key, "`.")] $variant(Box<$config>),)*
        }

        impl Discovery {
            /// Names of all mechanisms.
            pub const MECHANISMS: &[&str] = &["static", "file", $($name),*];

            /// The mechanism's name in metrics.
            #[must_use]
            pub fn mechanism(&self) -> &'static str {
                match self {
                    Self::Static(_) => "static",
                    Self::File(_) => "file",
                    $(Self::$variant(_) => $name,)*
                }
            }
        }

        fn read_asking(fields: &Fields<'_>, out: &mut Vec<Discovery>) {
            $(
                let read = |field: &Field<'_>| <$config>::read(field).map(Box::new).map(Discovery::$variant);
                out.extend(fields.list($key).iter().filter_map(read));
            )*
        }

        fn print_asking(all: &[Discovery], map: &mut Map) {
            $(
                let entries = all.iter().filter_map(|d| match d {
                    Discovery::$variant(config) => Some(config.print()),
                    _ => None,
                });
                map.list($key, entries);
            )*
        }
    };
}

mechanisms! {
    Azure(AzureSdConfig) "azure_sd_configs" "azure";
    Consul(ConsulSdConfig) "consul_sd_configs" "consul";
    DigitalOcean(DigitalOceanSdConfig) "digitalocean_sd_configs" "digitalocean";
    Dns(DnsSdConfig) "dns_sd_configs" "dns";
    Docker(DockerSdConfig) "docker_sd_configs" "docker";
    DockerSwarm(DockerSwarmSdConfig) "dockerswarm_sd_configs" "dockerswarm";
    Ec2(Ec2SdConfig) "ec2_sd_configs" "ec2";
    Ecs(EcsSdConfig) "ecs_sd_configs" "ecs";
    ElastiCache(ElastiCacheSdConfig) "elasticache_sd_configs" "elasticache";
    Eureka(EurekaSdConfig) "eureka_sd_configs" "eureka";
    Gce(GceSdConfig) "gce_sd_configs" "gce";
    Hetzner(HetznerSdConfig) "hetzner_sd_configs" "hetzner";
    Http(HttpSdConfig) "http_sd_configs" "http";
    Ionos(IonosSdConfig) "ionos_sd_configs" "ionos";
    Kubernetes(KubernetesSdConfig) "kubernetes_sd_configs" "kubernetes";
    Kuma(KumaSdConfig) "kuma_sd_configs" "kuma";
    Lightsail(LightsailSdConfig) "lightsail_sd_configs" "lightsail";
    Linode(LinodeSdConfig) "linode_sd_configs" "linode";
    Local(LocalSdConfig) "local_sd_configs" "local";
    Marathon(MarathonSdConfig) "marathon_sd_configs" "marathon";
    Msk(MskSdConfig) "msk_sd_configs" "msk";
    Nerve(ZooKeeperSdConfig) "nerve_sd_configs" "nerve";
    Nomad(NomadSdConfig) "nomad_sd_configs" "nomad";
    OpenStack(OpenStackSdConfig) "openstack_sd_configs" "openstack";
    Outscale(OutscaleSdConfig) "outscale_sd_configs" "outscale";
    OvhCloud(OvhCloudSdConfig) "ovhcloud_sd_configs" "ovhcloud";
    PuppetDb(PuppetDbSdConfig) "puppetdb_sd_configs" "puppetdb";
    Rds(RdsSdConfig) "rds_sd_configs" "rds";
    Scaleway(ScalewaySdConfig) "scaleway_sd_configs" "scaleway";
    Serverset(ZooKeeperSdConfig) "serverset_sd_configs" "serverset";
    Stackit(StackitSdConfig) "stackit_sd_configs" "stackit";
    Triton(TritonSdConfig) "triton_sd_configs" "triton";
    Uyuni(UyuniSdConfig) "uyuni_sd_configs" "uyuni";
    Vultr(VultrSdConfig) "vultr_sd_configs" "vultr";
}

/// Addresses that share labels.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TargetGroup {
    /// Values of `__address__`.
    pub targets: Vec<String>,
    /// Labels of all of them.
    pub labels: Labels,
}

/// Targets listed in files that may change at any time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSdConfig {
    /// Paths ending in `.json`, `.yml` or `.yaml`; the last component may hold `*`.
    pub files: Vec<PathBuf>,
    /// How often the files are read anew when no change is seen.
    pub refresh_interval: Duration,
}

/// Bytes of one file of targets.
pub const TARGET_FILE_BYTES_MAX: u64 = 64 << 20;

/// Default of `refresh_interval`.
const FILE_REFRESH: Duration = Duration::from_secs(300);

/// Endings of files with targets.
const FILE_ENDINGS: [&str; 6] = [".json", ".yml", ".yaml", ".JSON", ".YML", ".YAML"];

/// Discoveries of Prometheus that are not built yet.
pub(crate) const NOT_BUILT: &[NotBuilt] =
    &[NotBuilt::because("oci_sd_configs", Harmless::Empty, "its signed API is not spoken")];

/// Reads the discoveries among the fields of a job. Without relabelling a target that looks like a URL is an error,
/// because nothing can make an address of it.
pub(crate) fn read(fields: &Fields<'_>, names: NameValidation, is_relabelled: bool) -> Vec<Discovery> {
    let mut out = Vec::new();
    let groups: Vec<_> =
        fields.list("static_configs").iter().filter_map(|f| read_group(f, names, is_relabelled)).collect();
    if !groups.is_empty() {
        out.push(Discovery::Static(groups));
    }
    out.extend(fields.list("file_sd_configs").iter().filter_map(read_file_sd).map(Discovery::File));
    read_asking(fields, &mut out);
    out.extend(fields.list("aws_sd_configs").iter().filter_map(read_aws));
    out
}

/// One entry of `aws_sd_configs`: a service of Amazon, which may also be named by an entry of its own.
fn read_aws(field: &Field<'_>) -> Option<Discovery> {
    let fields = field.fields()?;
    settings::require_role(&fields);
    let role = fields.get("role")?;
    let found = match role.text()? {
        "ec2" => Discovery::Ec2(Box::new(Ec2SdConfig::read_from(&fields))),
        "ecs" => Discovery::Ecs(Box::new(EcsSdConfig::read_from(&fields))),
        "elasticache" => Discovery::ElastiCache(Box::new(ElastiCacheSdConfig::read_from(&fields))),
        "lightsail" => Discovery::Lightsail(Box::new(LightsailSdConfig::read_from(&fields))),
        "msk" => Discovery::Msk(Box::new(MskSdConfig::read_from(&fields))),
        "rds" => Discovery::Rds(Box::new(RdsSdConfig::read_from(&fields))),
        name => {
            role.not_one_of(name, &["ec2", "ecs", "elasticache", "lightsail", "msk", "rds"].map(|role| (role, ())));
            return None;
        }
    };
    fields.finish(&[]);
    Some(found)
}

/// Puts the discoveries among the fields of a job.
pub(crate) fn print(all: &[Discovery], map: &mut Map) {
    for discovery in all {
        if let Discovery::Static(groups) = discovery {
            map.list("static_configs", groups.iter().map(print::group));
        }
    }
    let file = |d: &Discovery| if let Discovery::File(file) = d { Some(print::file_sd(file)) } else { None };
    map.list("file_sd_configs", all.iter().filter_map(file));
    print_asking(all, map);
}

fn read_group(field: &Field<'_>, names: NameValidation, may_be_url: bool) -> Option<TargetGroup> {
    let fields = field.fields()?;
    let mut targets = Vec::new();
    for item in fields.list("targets") {
        let Some(target) = item.text() else { continue };
        if target.contains('/') && !may_be_url {
            item.rule(format!("{target:?} is not a valid hostname; path and scheme are fields of the job"));
        }
        targets.push(target.to_owned());
    }
    let mut labels = LabelsBuilder::new();
    for (name, value) in fields.get("labels").iter().flat_map(Field::entries) {
        if !names.is_label_name(name) {
            value.rule(format!("{name:?} is not a valid label name"));
        }
        if let Some(text) = value.text() {
            labels.set(name, text);
        }
    }
    fields.finish(&[]);
    Some(TargetGroup { targets, labels: labels.build() })
}

fn read_file_sd(field: &Field<'_>) -> Option<FileSdConfig> {
    let fields = field.fields()?;
    let items = fields.list("files");
    if items.is_empty() {
        fields.missing("files");
    }
    let mut files = Vec::new();
    for item in items {
        if item.text().is_some_and(|text| !is_target_file_pattern(text)) {
            item.rule(format!(
                "path name {:?} is not valid for file discovery: it must end in .json, .yml or .yaml, and only its \
                 last component may hold one '*'",
                item.text().unwrap_or_default()
            ));
        }
        files.extend(item.path_buf());
    }
    let refresh_interval = fields.get("refresh_interval").and_then(|f| f.duration());
    fields.finish(&[]);
    Some(FileSdConfig { files, refresh_interval: refresh_interval.unwrap_or(FILE_REFRESH) })
}

fn is_target_file_pattern(text: &str) -> bool {
    let Some(stem) = FILE_ENDINGS.iter().find_map(|ending| text.strip_suffix(ending)) else { return false };
    stem.split_once('*').is_none_or(|(_, after)| !after.contains('/'))
}

/// Reads the file at `path` with targets.
///
/// # Errors
/// All that is wrong with it.
pub fn load_targets(path: &Path) -> Result<Vec<TargetGroup>, ConfigErrors> {
    let text = crate::read_text(path, TARGET_FILE_BYTES_MAX).map_err(|problem| whole_file(path, None, problem))?;
    parse_targets(&text, path)
}

/// Reads the text of a file with targets, JSON when `file` ends so and YAML otherwise.
///
/// # Errors
/// All that is wrong with it.
pub fn parse_targets(text: &str, file: &Path) -> Result<Vec<TargetGroup>, ConfigErrors> {
    let bytes = text.len() as u64;
    if bytes > TARGET_FILE_BYTES_MAX {
        let problem = Problem::TooLarge { bytes, max: TARGET_FILE_BYTES_MAX };
        return Err(whole_file(file, None, problem));
    }
    let is_json = file.extension().is_some_and(|e| e.eq_ignore_ascii_case("json"));
    if is_json { parse_json(text, file) } else { parse_yaml(text, file) }
}

fn parse_yaml(text: &str, file: &Path) -> Result<Vec<TargetGroup>, ConfigErrors> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let mut groups = Vec::new();
    let no_env = |_: &str| None;
    crate::read_document(text, file, &no_env, |decoder: &Decoder<'_>, node| {
        let items = decoder.root(node).list();
        groups.extend(items.iter().filter_map(|f| read_group(f, NameValidation::Utf8, true)));
    })?;
    Ok(groups)
}

/// A group in JSON. Unlike YAML, JSON has no other spellings of a text, so the types are strict.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonGroup {
    #[serde(default)]
    targets: Option<Vec<String>>,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

/// Reads targets in JSON, as a server lists them.
///
/// # Errors
/// Where it is not understood.
pub fn parse_target_list(text: &str) -> Result<Vec<TargetGroup>, ConfigErrors> {
    if text.trim() == "null" {
        let problem = Problem::Syntax("a list of targets is expected, found null".to_owned());
        return Err(whole_file(Path::new("answer"), None, problem));
    }
    parse_json(text, Path::new("answer"))
}

fn parse_json(text: &str, file: &Path) -> Result<Vec<TargetGroup>, ConfigErrors> {
    let groups: Option<Vec<JsonGroup>> = serde_json::from_str(text).map_err(|e| {
        let position = Position { line: e.line(), column: e.column() };
        let message = e.to_string();
        let message = message.rsplit_once(" at line").map_or(message.as_str(), |(m, _)| m).to_owned();
        whole_file(file, Some(position), Problem::Syntax(message))
    })?;
    let groups = groups.unwrap_or_default().into_iter();
    Ok(groups
        .map(|g| TargetGroup {
            targets: g.targets.unwrap_or_default(),
            labels: Labels::from_pairs(g.labels.unwrap_or_default()),
        })
        .collect())
}

fn whole_file(file: &Path, position: Option<Position>, problem: Problem) -> ConfigErrors {
    ConfigErrors(vec![ConfigError { file: file.to_owned(), position, field: String::new(), problem }])
}

#[cfg(test)]
mod tests;
