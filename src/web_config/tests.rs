//! Users, headers and TLS as clients meet them.

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use promontory_config::http_client::{HttpClientConfig, Source, TlsConfig, TlsVersion};
use tempfile::TempDir;

use super::*;
use crate::client::{Call, Client, FetchError, JobClient, Offer, TcpConnector, Url};
use crate::listener::{Connections, Listener};

/// Of the password `open sesame`.
const HASH: &str = "$2b$04$IEHx7iXa9VurNCKJc3YIyu1ryEbq9588KQof9PBjd.6ZJh/7IjC7q";
const CERTIFICATE: &str = include_str!("../client/testdata/server-cert.pem");
const KEY: &str = include_str!("../client/testdata/server-key.pem");

struct Lab {
    dir: TempDir,
    guard: Arc<WebGuard>,
}

impl Lab {
    fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("cert.pem"), CERTIFICATE).unwrap();
        std::fs::write(dir.path().join("key.pem"), KEY).unwrap();
        let path = dir.path().join("web.yml");
        std::fs::write(&path, text).unwrap();
        Self { guard: WebGuard::open(&path).unwrap(), dir }
    }

    fn rewrite(&self, text: &str) {
        std::fs::write(self.dir.path().join("web.yml"), text).unwrap();
    }

    fn router(&self) -> Router {
        let router = Router::new().route("/", get(|| async { "hello" }));
        router.layer(axum::middleware::from_fn_with_state(self.guard.clone(), guard))
    }

    /// Status and a header of the answer to a request with this `Authorization`.
    async fn ask(&self, authorization: Option<&str>, header: &str) -> (u16, Option<String>) {
        let mut request = Request::builder().uri("/");
        if let Some(text) = authorization {
            request = request.header(AUTHORIZATION, text);
        }
        let response =
            TowerToHyperService::new(self.router()).call(request.body(Body::empty()).unwrap()).await.unwrap();
        let header = response.headers().get(header).map(|v| v.to_str().unwrap().to_owned());
        (response.status().as_u16(), header)
    }

    /// Serves over a socket and fetches with `tls`.
    async fn fetch(&self, tls: TlsConfig) -> Result<String, FetchError> {
        let listener = Listener::bind_all(&["127.0.0.1:0".to_owned()]).await.unwrap().remove(0);
        let listener = listener.guarded(Some(self.guard.clone()));
        let clock = Arc::new(promontory_storage::clock::SystemClock::new());
        let connections = Connections::new(4, promontory_model::Duration::from_secs(60), clock);
        let url = Url::parse(&format!("https://127.0.0.1:{}/", listener.addr().unwrap().port())).unwrap();
        let serving = tokio::spawn(listener.serve(connections, self.router(), std::future::pending()));
        let http = HttpClientConfig { tls, ..HttpClientConfig::default() };
        let offer = Offer { accept: "*/*".to_owned(), gzip: false, body_bytes_max: None };
        let job = JobClient::new(http, offer, Arc::new(TcpConnector));
        let mut body = Vec::new();
        let time = std::time::Duration::from_secs(30);
        let fetched = Client::new().fetch(&job, &Call::get(url), time, &mut body).await;
        serving.abort();
        fetched.map(|_| String::from_utf8(body).unwrap())
    }
}

fn basic(pair: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
}

/// Expects the certificate of the server, and shows a certificate if `shows`.
fn trusting(shows: bool) -> TlsConfig {
    TlsConfig {
        ca: Some(Source::Inline(CERTIFICATE.to_owned())),
        cert: shows.then(|| Source::Inline(CERTIFICATE.to_owned())),
        key: shows.then(|| Source::Inline(promontory_config::http_client::Secret::new(KEY.to_owned()))),
        server_name: Some("target.test".to_owned()),
        ..TlsConfig::default()
    }
}

#[tokio::test]
async fn only_users_are_let_in() {
    let lab = Lab::new(&format!("basic_auth_users: {{alice: '{HASH}'}}"));
    assert_eq!(lab.ask(None, "www-authenticate").await, (401, Some("Basic".to_owned())));
    for wrong in ["alice:open", "bob:open sesame", ":", "alice"] {
        assert_eq!(lab.ask(Some(&basic(wrong)), "x").await.0, 401, "{wrong}");
    }
    assert_eq!(lab.ask(Some("Bearer open sesame"), "x").await.0, 401);
    for _ in 0..2 {
        assert_eq!(lab.ask(Some(&basic("alice:open sesame")), "x").await.0, 200);
    }
    assert_eq!(lab.guard.known.lock().unwrap().len(), 1);
    // The same name with another hash is another user.
    lab.rewrite("basic_auth_users: {alice: '$2b$04$gf4zVZytOn9TrtRYQAde3eBR/JE5lcr0CnU070AjCHOGV1a/GJouy', b: x}");
    assert_eq!(lab.ask(Some(&basic("alice:open sesame")), "x").await.0, 500);
    lab.rewrite("basic_auth_users: {alice: '$2b$04$gf4zVZytOn9TrtRYQAde3eBR/JE5lcr0CnU070AjCHOGV1a/GJouy'}");
    assert_eq!(lab.ask(Some(&basic("alice:open sesame")), "x").await.0, 401);
    assert_eq!(lab.ask(Some(&basic("alice:other")), "x").await.0, 200);
    lab.rewrite("");
    assert_eq!(lab.ask(None, "x").await.0, 200);
}

#[tokio::test]
async fn headers_are_in_every_answer() {
    let lab = Lab::new(&format!(
        "http_server_config: {{headers: {{X-Frame-Options: deny}}}}\nbasic_auth_users: {{alice: '{HASH}'}}"
    ));
    assert_eq!(lab.ask(None, "x-frame-options").await, (401, Some("deny".to_owned())));
    assert_eq!(lab.ask(Some(&basic("alice:open sesame")), "x-frame-options").await, (200, Some("deny".to_owned())));
}

#[tokio::test]
async fn connections_are_made_with_tls() {
    let lab = Lab::new("tls_server_config: {cert_file: cert.pem, key_file: key.pem}");
    assert_eq!(lab.fetch(trusting(false)).await.unwrap(), "hello");
    assert!(lab.guard.is_tls());
    std::fs::write(lab.dir.path().join("key.pem"), "no key").unwrap();
    assert!(lab.fetch(trusting(false)).await.is_err());
    std::fs::write(lab.dir.path().join("key.pem"), KEY).unwrap();
    assert_eq!(lab.fetch(trusting(false)).await.unwrap(), "hello");
    let text = "tls_server_config: {cert_file: cert.pem, key_file: key.pem, min_version: TLS13, curve_preferences: \
                [CurveP256]}";
    let old = TlsConfig { max_version: Some(TlsVersion::Tls12), ..trusting(false) };
    assert_eq!(lab.fetch(old.clone()).await.unwrap(), "hello");
    lab.rewrite(text);
    assert_eq!(lab.fetch(trusting(false)).await.unwrap(), "hello");
    assert!(lab.fetch(old).await.is_err());
}

#[tokio::test]
async fn clients_show_certificates() {
    let tls = |more: &str| format!("tls_server_config: {{cert_file: cert.pem, key_file: key.pem, {more}}}");
    let lab = Lab::new(&tls("client_auth_type: RequireAnyClientCert"));
    assert_eq!(lab.fetch(trusting(true)).await.unwrap(), "hello");
    assert!(lab.fetch(trusting(false)).await.is_err());
    lab.rewrite(&tls("client_auth_type: RequestClientCert"));
    assert_eq!(lab.fetch(trusting(false)).await.unwrap(), "hello");
    let verified = |san: &str| {
        tls(&format!(
            "client_auth_type: RequireAndVerifyClientCert, client_ca_file: cert.pem, client_allowed_sans: [{san}]"
        ))
    };
    lab.rewrite(&verified("target.test"));
    assert_eq!(lab.fetch(trusting(true)).await.unwrap(), "hello");
    assert!(lab.fetch(trusting(false)).await.is_err());
    lab.rewrite(&verified("else.test"));
    assert!(lab.fetch(trusting(true)).await.is_err());
    lab.rewrite(&tls("client_auth_type: VerifyClientCertIfGiven, client_ca_file: cert.pem"));
    assert_eq!(lab.fetch(trusting(false)).await.unwrap(), "hello");
}

#[test]
fn a_file_that_is_wrong_keeps_the_server_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("web.yml");
    let error = |text: &str| {
        std::fs::write(&path, text).unwrap();
        WebGuard::open(&path).unwrap_err().to_string()
    };
    assert!(error("users: {}").contains("web.yml:1:1: unknown field \"users\""));
    let wrong = error("tls_server_config: {cert: x, key: y}");
    assert!(wrong.ends_with("cert_file: no PEM certificate or key in it"), "{wrong}");
}
