//! Providers of machines and lists of services that are asked page by page: what each is told.

use std::path::PathBuf;

use promontory_model::Duration;

use super::mechanisms::Filter;
use super::settings::{check_url, choice, require, require_role, settings};
use crate::http_client::{Auth, Secret};

choice! {
    /// What of DigitalOcean is a target.
    DigitalOceanRole {
        /// Virtual machines.
        Droplets = "droplets",
        /// Clusters of databases.
        Databases = "databases",
    }
}

settings! {
    /// Droplets or databases of DigitalOcean.
    DigitalOceanSdConfig {
        /// What is a target.
        role: DigitalOceanRole = DigitalOceanRole::Droplets,
    } port 80 every 60 over http
}

choice! {
    /// Which interface of Hetzner is asked.
    HetznerRole {
        /// Servers of the cloud.
        Hcloud = "hcloud",
        /// Dedicated servers.
        Robot = "robot",
    }
}

settings! {
    /// Servers of Hetzner.
    HetznerSdConfig {
        /// Which interface is asked.
        role: HetznerRole = HetznerRole::Hcloud,
        /// Which servers of the cloud are wanted.
        label_selector: String = String::new(),
    } port 80 every 60 over http check |_c, fields| {
        require_role(fields);
    }
}

settings! {
    /// Servers of an IONOS datacenter.
    IonosSdConfig {
        /// The datacenter.
        datacenter_id: String = String::new(),
    } port 80 every 60 over http check |c, fields| {
        require(fields, &[("datacenter_id", &c.datacenter_id)]);
    }
}

settings! {
    /// Proxies of a Kuma mesh.
    KumaSdConfig {
        /// URL of the control plane.
        server: String = String::new(),
        /// Name of this server to the control plane.
        client_id: String = String::new(),
        /// Time that one answer may take.
        fetch_timeout: Duration = Duration::from_secs(120),
    } every 15 over http check |c, fields| {
        require(fields, &[("server", &c.server)]);
        check_url(fields, "server", &c.server);
    }
}

settings! {
    /// Instances of Linode.
    LinodeSdConfig {
        /// Region wanted; empty is all.
        region: String = String::new(),
        /// Put between and around texts of one label.
        tag_separator: String = ",".to_owned(),
    } port 80 every 60 over http
}

settings! {
    /// Tasks of Marathon.
    MarathonSdConfig {
        /// URLs of its servers.
        servers: Vec<String> = Vec::new(),
        /// Token sent to them.
        auth_token: Option<Secret> = None,
        /// File with that token.
        auth_token_file: Option<PathBuf> = None,
    } every 30 over http check |c, fields| {
        if c.servers.is_empty() {
            fields.missing("servers");
        }
        let n_ways = usize::from(c.auth_token.is_some())
            + usize::from(c.auth_token_file.is_some())
            + usize::from(c.http.auth != Auth::None);
        if n_ways > 1 {
            fields.map().rule("at most one of auth_token, auth_token_file, basic_auth, authorization and oauth2 must be configured");
        }
    }
}

settings! {
    /// Resources of PuppetDB.
    PuppetDbSdConfig {
        /// URL of the server.
        url: String = String::new(),
        /// Query, in the language of Puppet.
        query: String = String::new(),
        /// Whether parameters of resources are labels.
        include_parameters: bool = false,
    } port 80 every 60 over http check |c, fields| {
        require(fields, &[("url", &c.url), ("query", &c.query)]);
        check_url(fields, "url", &c.url);
    }
}

choice! {
    /// What of Scaleway is asked for.
    ScalewayRole {
        /// Virtual machines.
        Instance = "instance",
        /// Dedicated servers.
        Baremetal = "baremetal",
    }
}

settings! {
    /// Servers of Scaleway.
    ScalewaySdConfig {
        /// What is asked for.
        role: ScalewayRole = ScalewayRole::Instance,
        /// Access key.
        access_key: String = String::new(),
        /// Secret key.
        secret_key: Option<Secret> = None,
        /// File with the secret key.
        secret_key_file: Option<PathBuf> = None,
        /// Project whose servers are wanted.
        project_id: String = String::new(),
        /// URL of the API.
        api_url: String = "https://api.scaleway.com".to_owned(),
        /// Zone.
        zone: String = "fr-par-1".to_owned(),
        /// Part of the name of servers wanted.
        name_filter: String = String::new(),
        /// Tags that servers wanted have.
        tags_filter: Vec<String> = Vec::new(),
    } port 80 every 60 over http check |c, fields| {
        require_role(fields);
        require(fields, &[("access_key", &c.access_key), ("project_id", &c.project_id)]);
        if c.secret_key.is_some() == c.secret_key_file.is_some() {
            fields.map().rule("exactly one of secret_key and secret_key_file must be configured");
        }
        check_url(fields, "api_url", &c.api_url);
    }
}

choice! {
    /// What of Triton is a target.
    TritonRole {
        /// Containers and virtual machines.
        Container = "container",
        /// Compute nodes.
        Cn = "cn",
    }
}

settings! {
    /// Containers or compute nodes of Triton DataCenter.
    TritonSdConfig {
        /// Account whose machines are wanted.
        account: String = String::new(),
        /// What is a target.
        role: TritonRole = TritonRole::Container,
        /// Put behind the ids of machines.
        dns_suffix: String = String::new(),
        /// Host that is asked.
        endpoint: String = String::new(),
        /// Groups wanted; empty is all.
        groups: Vec<String> = Vec::new(),
        /// Version of the API.
        version: u16 = 1,
    } port 9163 every 60 over http check |c, fields| {
        require(fields, &[("account", &c.account), ("dns_suffix", &c.dns_suffix), ("endpoint", &c.endpoint)]);
    }
}

settings! {
    /// Monitored systems of Uyuni.
    UyuniSdConfig {
        /// URL of the server.
        server: String = String::new(),
        /// Name of the user.
        username: String = String::new(),
        /// Password of the user.
        password: Option<Secret> = None,
        /// What systems wanted are entitled to.
        entitlement: String = "monitoring_entitled".to_owned(),
        /// Put between the names of groups in their label.
        separator: String = ",".to_owned(),
    } every 60 over http check |c, fields| {
        require(fields, &[("server", &c.server), ("username", &c.username)]);
        if c.password.is_none() {
            fields.missing("password");
        }
        check_url(fields, "server", &c.server);
    }
}

settings! {
    /// Instances of Vultr.
    VultrSdConfig {
    } port 80 every 60 over http
}

settings! {
    /// Who asks a service of Amazon, and where.
    #[derive(Default)]
    AwsAccount {
        /// Region; empty is that of this machine.
        region: String = String::new(),
        /// Where the service answers, if not where it usually does.
        endpoint: String = String::new(),
        /// Access key; empty looks in the environment and asks the machine.
        access_key: String = String::new(),
        /// Secret key.
        secret_key: Option<Secret> = None,
        /// Profile in the file of credentials.
        profile: String = String::new(),
        /// Role to take.
        role_arn: String = String::new(),
        /// What the owner of the role wants to be told.
        external_id: String = String::new(),
    } check |c, fields| {
        if c.access_key.is_empty() == c.secret_key.is_some() {
            fields.map().rule("access_key and secret_key must be configured together");
        }
        if !c.external_id.is_empty() && c.role_arn.is_empty() {
            fields.map().rule("external_id can only be used with role_arn");
        }
        // Prometheus has it for the services that are asked most; it changes nothing but how long a look takes.
        if let Some(field) = fields.get("request_concurrency") {
            match field.u64() {
                Some(0) => field.rule("request_concurrency must be above 0"),
                Some(_) => {
                    let path = field.path();
                    field.decoder().warn(format!("{path}: has no effect, requests of one look go one after the other"));
                }
                None => {}
            }
        }
    }
}

settings! {
    /// Instances of Amazon EC2.
    Ec2SdConfig {
        /// Which instances are wanted.
        filters: Vec<Filter> = Vec::new(),
    } port 80 every 60 of amazon
}

settings! {
    /// Instances of Amazon Lightsail.
    LightsailSdConfig {
    } port 80 every 60 of amazon
}

settings! {
    /// Tasks of Amazon's container service.
    EcsSdConfig {
        /// Clusters whose tasks are wanted; empty is all of the region.
        clusters: Vec<String> = Vec::new(),
    } port 80 every 60 of amazon
}

settings! {
    /// Brokers and controllers of Amazon's Kafka.
    MskSdConfig {
        /// Clusters wanted; empty is all of the region that are provisioned.
        clusters: Vec<String> = Vec::new(),
    } port 80 every 60 of amazon
}

settings! {
    /// Instances of clusters of Amazon's databases.
    RdsSdConfig {
        /// Clusters wanted; empty is all of the region.
        clusters: Vec<String> = Vec::new(),
        /// Which instances are wanted.
        filters: Vec<Filter> = Vec::new(),
    } port 80 every 60 of amazon
}

settings! {
    /// Nodes of Amazon's caches, and caches without servers; their ports are those that they answer at.
    ElastiCacheSdConfig {
        /// Names of caches, clusters or groups of copies that are wanted; empty is all of the region.
        clusters: Vec<String> = Vec::new(),
    } port 80 every 60 of amazon
}

settings! {
    /// Machines of Outscale.
    OutscaleSdConfig {
        /// URL of the API, if not that of the region.
        endpoint: String = String::new(),
        /// Region.
        region: String = "eu-west-2".to_owned(),
        /// Access key.
        access_key: String = String::new(),
        /// Secret key.
        secret_key: Option<Secret> = None,
    } port 80 every 60 over http check |c, fields| {
        require(fields, &[("region", &c.region), ("access_key", &c.access_key)]);
        if c.secret_key.is_none() {
            fields.missing("secret_key");
        }
        check_url(fields, "endpoint", &c.endpoint);
    }
}

settings! {
    /// Servers of STACKIT.
    StackitSdConfig {
        /// Project whose servers are wanted.
        project: String = String::new(),
        /// Region.
        region: String = "eu01".to_owned(),
        /// URL of the API, if not that of the region.
        endpoint: String = String::new(),
        /// Key of a service's account, in JSON.
        service_account_key: Option<Secret> = None,
        /// File with that key.
        service_account_key_path: Option<PathBuf> = None,
        /// RSA key in PEM, if it is not in that of the account.
        private_key: Option<Secret> = None,
        /// File with the RSA key.
        private_key_path: Option<PathBuf> = None,
        /// File that says where the key of the account and the RSA key are, if nothing of that stands here.
        credentials_file_path: Option<PathBuf> = None,
    } port 80 every 60 over http check |c, fields| {
        require(fields, &[("project", &c.project)]);
        if c.region.is_empty() && c.endpoint.is_empty() {
            fields.missing("region");
        }
        check_url(fields, "endpoint", &c.endpoint);
        if c.service_account_key.is_some() && c.service_account_key_path.is_some() {
            fields.map().rule("at most one of service_account_key and service_account_key_path must be configured");
        }
        if c.private_key.is_some() && c.private_key_path.is_some() {
            fields.map().rule("at most one of private_key and private_key_path must be configured");
        }
        let has_key = c.service_account_key.is_some()
            || c.service_account_key_path.is_some()
            || c.credentials_file_path.is_some();
        if has_key && c.http.auth != Auth::None {
            fields.map().rule("at most one of service_account_key and basic_auth, authorization or oauth2 must be configured");
        }
    }
}

settings! {
    /// Instances of Google's compute engine.
    GceSdConfig {
        /// Project.
        project: String = String::new(),
        /// Zone.
        zone: String = String::new(),
        /// Which instances are wanted.
        filter: String = String::new(),
        /// Put between and around the tags in their label.
        tag_separator: String = ",".to_owned(),
    } port 80 every 60 check |c, fields| {
        require(fields, &[("project", &c.project), ("zone", &c.zone)]);
    }
}

choice! {
    /// Which Azure.
    AzureCloud {
        /// The usual one.
        Public = "AzurePublicCloud",
        /// That of China.
        China = "AzureChinaCloud",
        /// That of the government of the United States.
        Government = "AzureUSGovernmentCloud",
    }
}

choice! {
    /// How Azure is told who asks.
    AzureAuth {
        /// By an id and a secret.
        OAuth = "OAuth",
        /// By the machine.
        ManagedIdentity = "ManagedIdentity",
        /// By a workload of Kubernetes.
        WorkloadIdentity = "WorkloadIdentity",
        /// By whatever the environment says.
        Sdk = "SDK",
    }
}

settings! {
    /// Virtual machines of Azure.
    AzureSdConfig {
        /// Which Azure.
        environment: AzureCloud = AzureCloud::Public,
        /// How it is told who asks.
        authentication_method: AzureAuth = AzureAuth::OAuth,
        /// Subscription whose machines are wanted.
        subscription_id: String = String::new(),
        /// Tenant that asks.
        tenant_id: String = String::new(),
        /// Client that asks.
        client_id: String = String::new(),
        /// Its secret.
        client_secret: Option<Secret> = None,
        /// Group whose machines are wanted; empty is all.
        resource_group: String = String::new(),
    } port 80 every 300 over http check |c, fields| {
        require(fields, &[("subscription_id", &c.subscription_id)]);
        if c.authentication_method == AzureAuth::OAuth {
            require(fields, &[("tenant_id", &c.tenant_id), ("client_id", &c.client_id)]);
            if c.client_secret.is_none() {
                fields.missing("client_secret");
            }
        }
    }
}

choice! {
    /// What of OpenStack is a target.
    OpenStackRole {
        /// Machines of users.
        Instance = "instance",
        /// Machines below them.
        Hypervisor = "hypervisor",
        /// Load balancers that show metrics.
        LoadBalancer = "loadbalancer",
    }
}

settings! {
    /// Instances, hypervisors or load balancers of OpenStack.
    OpenStackSdConfig {
        /// What is a target.
        role: OpenStackRole = OpenStackRole::Instance,
        /// Region.
        region: String = String::new(),
        /// URL of Keystone, with its version.
        identity_endpoint: String = String::new(),
        /// Name of the user.
        username: String = String::new(),
        /// Id of the user.
        userid: String = String::new(),
        /// Password of the user.
        password: Option<Secret> = None,
        /// Name of the domain.
        domain_name: String = String::new(),
        /// Id of the domain.
        domain_id: String = String::new(),
        /// Name of the project.
        project_name: String = String::new(),
        /// Id of the project.
        project_id: String = String::new(),
        /// Name of an application credential.
        application_credential_name: String = String::new(),
        /// Id of an application credential.
        application_credential_id: String = String::new(),
        /// Its secret.
        application_credential_secret: Option<Secret> = None,
        /// Whether machines of all projects are wanted.
        all_tenants: bool = false,
        /// Which of the endpoints is asked: `public`, `admin` or `internal`.
        availability: String = "public".to_owned(),
    } port 80 every 60 over http check |c, fields| {
        require_role(fields);
        require(fields, &[("region", &c.region), ("identity_endpoint", &c.identity_endpoint)]);
        check_url(fields, "identity_endpoint", &c.identity_endpoint);
        if !["public", "admin", "internal"].contains(&c.availability.as_str())
            && let Some(field) = fields.get("availability")
        {
            field.rule(format!("{:?} is not one of public, admin, internal", c.availability));
        }
    }
}

choice! {
    /// What of OVHcloud is a target.
    OvhService {
        /// Virtual servers.
        Vps = "vps",
        /// Dedicated servers.
        DedicatedServer = "dedicated_server",
    }
}

settings! {
    /// Servers of OVHcloud.
    OvhCloudSdConfig {
        /// Key of the application that asks.
        application_key: String = String::new(),
        /// Its secret.
        application_secret: Option<Secret> = None,
        /// Key of the account that it asks for.
        consumer_key: Option<Secret> = None,
        /// What is a target.
        service: OvhService = OvhService::Vps,
        /// Region, or the URL of its interface.
        endpoint: String = "ovh-eu".to_owned(),
    } every 60 check |c, fields| {
        require(fields, &[("application_key", &c.application_key)]);
        for (name, secret) in [("application_secret", &c.application_secret), ("consumer_key", &c.consumer_key)] {
            if secret.is_none() {
                fields.missing(name);
            }
        }
        if fields.get("service").is_none() {
            fields.missing("service");
        }
        if c.endpoint.contains("://") {
            check_url(fields, "endpoint", &c.endpoint);
        }
    }
}
