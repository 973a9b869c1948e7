//! TLS of connections to targets.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use promontory_config::http_client::{Source, TlsConfig, TlsVersion};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedProtocolVersion};

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not readable.
    #[error("read {what} {}: {source}", path.display())]
    Read {
        /// Field of the configuration.
        what: &'static str,
        /// File.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A text holds no certificate or key.
    #[error("{what}: no PEM certificate or key in it")]
    Pem {
        /// Field of the configuration.
        what: &'static str,
    },
    /// The library refuses them.
    #[error("tls: {0}")]
    Refused(#[from] rustls::Error),
    /// The host cannot be the name in a certificate.
    #[error("tls: {0:?} is not a valid server name; set server_name")]
    ServerName(String),
}

/// TLS of one job. Files are read at each new connection and turned into a new configuration when they have changed.
#[derive(Debug)]
pub(super) struct Tls {
    settings: TlsConfig,
    /// Whether HTTP/2 is offered.
    http2: bool,
    /// What was read last, and what was made of it. Held only while files are compared.
    current: Mutex<Option<(Files, Arc<ClientConfig>)>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Files {
    ca: Option<Vec<u8>>,
    cert: Option<Vec<u8>>,
    key: Option<Vec<u8>>,
}

impl Tls {
    pub(super) fn new(settings: TlsConfig, http2: bool) -> Self {
        Self { settings, http2, current: Mutex::new(None) }
    }

    /// The name to expect in the certificate of `host`.
    pub(super) fn server_name(&self, host: &str) -> Result<ServerName<'static>, TlsError> {
        let name = self.settings.server_name.as_deref().unwrap_or(host);
        ServerName::try_from(name.to_owned()).map_err(|_| TlsError::ServerName(name.to_owned()))
    }

    /// The configuration for a connection made now.
    pub(super) fn config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let files = self.read()?;
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, config)) = &*current
            && *known == files
        {
            return Ok(config.clone());
        }
        let config = Arc::new(self.build(&files)?);
        *current = Some((files, config.clone()));
        Ok(config)
    }

    fn read(&self) -> Result<Files, TlsError> {
        let s = &self.settings;
        Ok(Files {
            ca: s.ca.as_ref().map(|ca| text("ca_file", ca, String::as_str)).transpose()?,
            cert: s.cert.as_ref().map(|cert| text("cert_file", cert, String::as_str)).transpose()?,
            key: s.key.as_ref().map(|key| text("key_file", key, |secret| secret.reveal())).transpose()?,
        })
    }

    fn build(&self, files: &Files) -> Result<ClientConfig, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone()).with_protocol_versions(&self.versions())?;
        let builder = if self.settings.insecure_skip_verify {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        } else if let Some(ca) = &files.ca {
            let mut roots = RootCertStore::empty();
            for certificate in certificates("ca_file", ca)? {
                roots.add(certificate)?;
            }
            builder.with_root_certificates(roots)
        } else {
            builder.with_root_certificates(machine_roots())
        };
        let mut config = match (&files.cert, &files.key) {
            (Some(cert), Some(key)) => {
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::Pem { what: "key_file" })?;
                builder.with_client_auth_cert(certificates("cert_file", cert)?, key)?
            }
            _ => builder.with_no_client_auth(),
        };
        if self.http2 {
            config.alpn_protocols.push(b"h2".to_vec());
        }
        config.alpn_protocols.push(b"http/1.1".to_vec());
        Ok(config)
    }

    fn versions(&self) -> Vec<&'static SupportedProtocolVersion> {
        let lowest = self.settings.min_version.unwrap_or(TlsVersion::Tls12);
        let highest = self.settings.max_version.unwrap_or(TlsVersion::Tls13);
        [(TlsVersion::Tls12, &rustls::version::TLS12), (TlsVersion::Tls13, &rustls::version::TLS13)]
            .into_iter()
            .filter(|(version, _)| (lowest..=highest).contains(version))
            .map(|(_, version)| version)
            .collect()
    }
}

fn text<T>(what: &'static str, source: &Source<T>, inline: impl Fn(&T) -> &str) -> Result<Vec<u8>, TlsError> {
    match source {
        Source::Inline(text) => Ok(inline(text).as_bytes().to_vec()),
        Source::File(path) => read_file(what, path),
    }
}

fn read_file(what: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read { what, path: path.to_owned(), source })
}

fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    certificates.ok().filter(|c| !c.is_empty()).ok_or(TlsError::Pem { what })
}

/// The machine's certificate authorities, read once.
fn machine_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    ROOTS
        .get_or_init(|| {
            let mut roots = RootCertStore::empty();
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                tracing::warn!(%error, "certificate authorities of this machine could not all be read");
            }
            roots.add_parsable_certificates(found.certs);
            Arc::new(roots)
        })
        .clone()
}

/// `insecure_skip_verify`: takes any certificate, but still checks that the peer holds its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
