//! How requests of remote write and remote read are authorised at Amazon, Microsoft and Google.

use std::path::PathBuf;

use crate::decode::Fields;
use crate::discovery::settings::{SettingMap, choice, require, settings};
use crate::http_client::{Auth, Secret};
use crate::print::Map;

/// Where the token of a workload lies unless the configuration says otherwise.
const WORKLOAD_TOKEN: &str = "/var/run/secrets/azure/tokens/azure-identity-token";

/// Who says who asks.
#[derive(Debug, Clone, PartialEq)]
pub enum CloudAuth {
    /// `sigv4`
    Amazon(Sigv4),
    /// `azuread`
    Azure(AzureAd),
    /// `google_iam`
    Google(GoogleIam),
}

settings! {
    /// `sigv4`: requests are signed with keys of Amazon.
    Sigv4 {
        /// Region; empty is that of the environment, then of this machine.
        region: String = String::new(),
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
        /// Whether the service that gives roles is asked where it keeps to FIPS.
        use_fips_sts_endpoint: bool = false,
    } check |c, fields| {
        if c.access_key.is_empty() == c.secret_key.is_some() {
            fields.map().rule(
                "must provide a AWS SigV4 Access key and Secret Key if credentials are specified in the SigV4 config"
            );
        }
        if !c.external_id.is_empty() && c.role_arn.is_empty() {
            fields.map().rule("external_id can only be used with role_arn");
        }
    }
}

choice! {
    /// Which Azure.
    MonitorCloud {
        /// The usual one.
        Public = "AzurePublic",
        /// That of China.
        China = "AzureChina",
        /// That of the government of the United States.
        Government = "AzureGovernment",
    }
}

settings! {
    /// `azuread`: requests carry a token of Microsoft.
    AzureAd {
        /// Which Azure.
        cloud: MonitorCloud = MonitorCloud::Public,
        /// The identity of this machine.
        managed_identity: Option<ManagedIdentity> = None,
        /// The identity of a workload of Kubernetes.
        workload_identity: Option<WorkloadIdentity> = None,
        /// A client with a secret.
        oauth: Option<AzureOAuth> = None,
        /// A client with a certificate.
        certificate: Option<AzureCertificate> = None,
        /// Whatever the environment says.
        sdk: Option<AzureSdk> = None,
        /// What the token is for; empty is writing metrics.
        scope: String = String::new(),
    } check |c, fields| {
        let given = [
            c.managed_identity.is_some(),
            c.workload_identity.is_some(),
            c.oauth.is_some(),
            c.certificate.is_some(),
            c.sdk.is_some(),
        ];
        match given.into_iter().filter(|is| *is).count() {
            0 => fields.map().rule(
                "must provide an Azure Managed Identity, Azure Workload Identity, Azure OAuth, Azure Certificate or \
                 Azure SDK in the Azure AD config"
            ),
            1 => {}
            _ => fields.map().rule(
                "cannot provide multiple authentication methods in the Azure AD config, choose one of managed_identity, \
                 workload_identity, oauth, certificate and sdk"
            ),
        }
    }
}

settings! {
    /// The identity of this machine.
    ManagedIdentity {
        /// Which of several; empty is that of the system.
        client_id: String = String::new(),
    }
}

settings! {
    /// The identity of a workload of Kubernetes.
    WorkloadIdentity {
        /// Client that asks.
        client_id: String = String::new(),
        /// Its tenant.
        tenant_id: String = String::new(),
        /// Its token, a file.
        token_file_path: Option<PathBuf> = None,
    } check |c, fields| {
        require(fields, &[("client_id", &c.client_id), ("tenant_id", &c.tenant_id)]);
    }
}

impl WorkloadIdentity {
    /// Where its token lies.
    #[must_use]
    pub fn token_file(&self) -> PathBuf {
        self.token_file_path.clone().unwrap_or_else(|| WORKLOAD_TOKEN.into())
    }
}

settings! {
    /// A client with a secret.
    AzureOAuth {
        /// Client that asks.
        client_id: String = String::new(),
        /// Its secret.
        client_secret: Option<Secret> = None,
        /// Its tenant.
        tenant_id: String = String::new(),
    } check |c, fields| {
        require(fields, &[("client_id", &c.client_id), ("tenant_id", &c.tenant_id)]);
        if c.client_secret.is_none() {
            fields.missing("client_secret");
        }
    }
}

settings! {
    /// A client that signs with the key of a certificate.
    AzureCertificate {
        /// Client that asks.
        client_id: String = String::new(),
        /// Its tenant.
        tenant_id: String = String::new(),
        /// File with the certificate in PEM, before those that it is signed with.
        certificate_path: Option<PathBuf> = None,
        /// File with the key in PEM; without it the key lies beside the certificate.
        certificate_key_path: Option<PathBuf> = None,
        /// What opens a file in PKCS#12, which is not read.
        certificate_password: Option<Secret> = None,
        /// Whether all certificates are shown, not only the name of the first.
        send_certificate_chain: bool = false,
    } check |c, fields| {
        require(fields, &[("client_id", &c.client_id), ("tenant_id", &c.tenant_id)]);
        if c.certificate_path.is_none() {
            fields.missing("certificate_path");
        }
        if c.certificate_password.is_some() {
            fields.map().rule(
                "certificate_password: files in PKCS#12 are not read; write one in PEM with openssl pkcs12 -nodes"
            );
        }
    }
}

settings! {
    /// Whatever the environment says.
    AzureSdk {
        /// Tenant; empty is that of the environment.
        tenant_id: String = String::new(),
    }
}

settings! {
    /// `google_iam`: requests carry a token of Google.
    GoogleIam {
        /// Credentials; those that Google's tools find without it.
        credentials_file: Option<PathBuf> = None,
    }
}

/// What the fields of a destination say of clouds, beside `other`.
pub(crate) fn read(fields: &Fields<'_>, other: &Auth) -> Option<CloudAuth> {
    let mut found = Vec::new();
    if let Some(field) = fields.get("sigv4") {
        found.extend(Sigv4::read(&field).map(CloudAuth::Amazon));
    }
    if let Some(field) = fields.get("azuread") {
        found.extend(AzureAd::read(&field).map(CloudAuth::Azure));
    }
    if let Some(field) = fields.get("google_iam") {
        found.extend(GoogleIam::read(&field).map(CloudAuth::Google));
    }
    if found.len() + usize::from(*other != Auth::None) > 1 {
        fields
            .map()
            .rule("at most one of basic_auth, authorization, oauth2, sigv4, azuread or google_iam must be configured");
    }
    found.into_iter().next()
}

pub(crate) fn print(auth: Option<&CloudAuth>, map: &mut Map) {
    match auth {
        None => {}
        Some(CloudAuth::Amazon(of)) => map.put("sigv4", of.print()),
        Some(CloudAuth::Azure(of)) => map.put("azuread", of.print()),
        Some(CloudAuth::Google(of)) => map.put("google_iam", of.print()),
    }
}
