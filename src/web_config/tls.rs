//! TLS of the server: certificate, versions, ciphers, and what is asked of clients.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use promontory_config::http_client::{Source, TlsVersion};
use promontory_config::web::{CipherSuite, ClientAuth, Curve, ServerTls};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::verify_server_name;
use rustls::crypto::ring::{cipher_suite, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
    SupportedCipherSuite,
};

/// Why TLS cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum ServerTlsError {
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
    /// Clients could not be judged.
    #[error("client_ca: {0}")]
    ClientCa(#[from] VerifierBuilderError),
    /// A name that no certificate can have.
    #[error("client_allowed_sans: {0:?} is not the name or address of a host")]
    San(String),
    /// The library refuses it.
    #[error("tls: {0}")]
    Refused(#[from] rustls::Error),
}

/// What `tls` asks for, with the files as they are now.
pub(super) fn server_config(tls: &ServerTls) -> Result<Arc<ServerConfig>, ServerTlsError> {
    let provider = Arc::new(provider(tls));
    let versions = [(TlsVersion::Tls12, &rustls::version::TLS12), (TlsVersion::Tls13, &rustls::version::TLS13)];
    let wanted = versions.iter().filter(|(version, _)| (tls.min_version..=tls.max_version).contains(version));
    let versions: Vec<_> = wanted.map(|(_, version)| *version).collect();
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&versions)?;
    let cert = certificates("cert_file", &text("cert_file", &tls.cert, String::as_str)?)?;
    let key = text("key_file", &tls.key, |secret| secret.reveal())?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| ServerTlsError::Pem { what: "key_file" })?;
    let mut config = builder.with_client_cert_verifier(verifier(tls, provider)?).with_single_cert(cert, key)?;
    config.alpn_protocols.push(b"http/1.1".to_vec());
    Ok(Arc::new(config))
}

fn provider(tls: &ServerTls) -> CryptoProvider {
    let mut provider = rustls::crypto::ring::default_provider();
    if !tls.cipher_suites.is_empty() {
        let wanted: Vec<_> = tls.cipher_suites.iter().map(|suite| suite_of(*suite)).collect();
        // Those of version 1.3 are not chosen from.
        provider
            .cipher_suites
            .retain(|suite| matches!(suite, SupportedCipherSuite::Tls13(_)) || wanted.contains(suite));
    }
    if !tls.curves.is_empty() {
        provider.kx_groups = tls.curves.iter().map(|curve| group_of(*curve)).collect();
    }
    provider
}

fn suite_of(suite: CipherSuite) -> SupportedCipherSuite {
    match suite {
        CipherSuite::EcdheEcdsaAes128 => cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::EcdheEcdsaAes256 => cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::EcdheEcdsaChaCha20 => cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        CipherSuite::EcdheRsaAes128 => cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::EcdheRsaAes256 => cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::EcdheRsaChaCha20 => cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    }
}

fn group_of(curve: Curve) -> &'static dyn SupportedKxGroup {
    match curve {
        Curve::P256 => kx_group::SECP256R1,
        Curve::P384 => kx_group::SECP384R1,
        Curve::X25519 => kx_group::X25519,
    }
}

fn verifier(tls: &ServerTls, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, ServerTlsError> {
    let is_mandatory = matches!(tls.client_auth, ClientAuth::RequireAny | ClientAuth::RequireAndVerify);
    let inner = match tls.client_auth {
        ClientAuth::None => return Ok(WebPkiClientVerifier::no_client_auth()),
        ClientAuth::Request | ClientAuth::RequireAny => None,
        ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify => {
            let mut roots = RootCertStore::empty();
            if let Some(ca) = &tls.client_ca {
                for certificate in certificates("client_ca_file", &text("client_ca_file", ca, String::as_str)?)? {
                    roots.add(certificate)?;
                }
            }
            Some(WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?)
        }
    };
    let name = |text: &String| ServerName::try_from(text.clone()).map_err(|_| ServerTlsError::San(text.clone()));
    let names = tls.client_allowed_sans.iter().map(name).collect::<Result<_, _>>()?;
    Ok(Arc::new(Verifier { inner, is_mandatory, names, provider }))
}

fn text<T>(what: &'static str, source: &Source<T>, inline: impl Fn(&T) -> &str) -> Result<Vec<u8>, ServerTlsError> {
    match source {
        Source::Inline(text) => Ok(inline(text).as_bytes().to_vec()),
        Source::File(path) => {
            std::fs::read(path).map_err(|source| ServerTlsError::Read { what, path: path.clone(), source })
        }
    }
}

fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, ServerTlsError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    certificates.ok().filter(|c| !c.is_empty()).ok_or(ServerTlsError::Pem { what })
}

/// Judges certificates of clients; in any case they must hold the key.
#[derive(Debug)]
struct Verifier {
    /// Judges where they come from; none is from anywhere.
    inner: Option<Arc<dyn ClientCertVerifier>>,
    is_mandatory: bool,
    /// Of which a certificate must have one; none is any.
    names: Vec<ServerName<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.is_mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.as_ref().map_or(&[], |inner| inner.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        if let Some(inner) = &self.inner {
            inner.verify_client_cert(end_entity, intermediates, now)?;
        }
        if !self.names.is_empty() {
            let parsed = ParsedCertificate::try_from(end_entity)?;
            if !self.names.iter().any(|name| verify_server_name(&parsed, name).is_ok()) {
                return Err(CertificateError::ApplicationVerificationFailure.into());
            }
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
