//! Tests of the client.

use std::io::Write as _;
use std::sync::Mutex;
use std::time::Duration;

use promontory_config::http_client::{HttpHeader, Secret, TlsConfig};
use tokio::net::TcpListener;

use super::*;
use crate::client::testing::{Action, FakeNetwork, answer, exposition, serve};

mod ways;

const TIMEOUT: Duration = Duration::from_secs(10);

fn call(text: &str) -> Call {
    Call::get(Url::parse(text).unwrap())
}

fn offer() -> Offer {
    Offer { accept: "text/plain".to_owned(), gzip: true, body_bytes_max: None }
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

struct Bench {
    network: Arc<FakeNetwork>,
    http: HttpClientConfig,
    offer: Offer,
    client: Client,
    body: Vec<u8>,
}

impl Bench {
    fn new() -> Self {
        Self {
            network: FakeNetwork::new(),
            http: HttpClientConfig::default(),
            offer: offer(),
            client: Client::new(),
            body: Vec::new(),
        }
    }

    async fn fetch(&mut self, from: &str) -> Result<String, String> {
        let job = JobClient::new(self.http.clone(), self.offer.clone(), self.network.clone());
        let prepared = job.prepare(call(from)).await.map_err(|e| e.to_string())?;
        let result = self.client.fetch_prepared(&job, &prepared, TIMEOUT, &mut self.body).await;
        result.map(|page| String::from_utf8_lossy(&self.body[page.start..]).into_owned()).map_err(|e| e.to_string())
    }
}

#[tokio::test(start_paused = true)]
async fn connection_is_kept_between_scrapes() {
    let mut bench = Bench::new();
    bench.network.serve("t:1", |_| vec![exposition("a 1\n")]);
    for _ in 0..3 {
        assert_eq!(bench.fetch("http://t:1/metrics").await, Ok("a 1\n".to_owned()));
    }
    assert_eq!(bench.network.n_connects(), 1);
}

#[tokio::test(start_paused = true)]
async fn request_carries_what_is_configured() {
    let seen: Arc<Mutex<String>> = Arc::default();
    let mut bench = Bench::new();
    bench.http.auth = Auth::Basic {
        username: Some(Source::Inline("u".to_owned())),
        password: Some(Source::Inline(Secret::new("p".to_owned()))),
    };
    bench.http.headers = vec![HttpHeader {
        name: "X-Own".to_owned(),
        values: vec![config::HeaderValue::Plain("1".to_owned()), config::HeaderValue::Plain("2".to_owned())],
    }];
    let log = seen.clone();
    bench.network.serve("t:1", move |head| {
        head.clone_into(&mut log.lock().unwrap());
        vec![exposition("")]
    });
    bench.fetch("http://t:1/metrics").await.unwrap();
    let head = seen.lock().unwrap().to_ascii_lowercase();
    let mut lines: Vec<&str> = head.trim_end().split("\r\n").collect();
    assert_eq!(lines.remove(0), "get /metrics http/1.1");
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "accept-encoding: gzip, zstd;q=0.5",
            "accept: text/plain",
            "authorization: basic dtpw",
            "host: t:1",
            concat!("user-agent: promontory/", env!("CARGO_PKG_VERSION")),
            "x-own: 1",
            "x-own: 2",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn answers_of_this_machine_are_not_compressed() {
    let mut bench = Bench::new();
    for (host, expected) in [("localhost", "identity"), ("127.0.0.9", "identity"), ("[::1]", "identity"), ("t", "gzip")]
    {
        let authority = format!("{host}:1");
        bench.network.serve(&authority.replace(['[', ']'], ""), |head| {
            let line = head.lines().find_map(|line| line.strip_prefix("accept-encoding: ")).unwrap_or_default();
            vec![exposition(line)]
        });
        let got = bench.fetch(&format!("http://{authority}/")).await.unwrap();
        assert!(got.starts_with(expected), "{host}: {got}");
    }
}

#[tokio::test(start_paused = true)]
async fn credentials_are_read_anew_from_their_file() {
    let seen: Arc<Mutex<Vec<bool>>> = Arc::default();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let mut bench = Bench::new();
    bench.http.auth = Auth::Authorization { kind: "Bearer".to_owned(), credentials: Some(Source::File(file.clone())) };
    let log = seen.clone();
    bench.network.serve("t:1", move |head| {
        log.lock().unwrap().push(head.contains("authorization: Bearer new\r\n"));
        vec![exposition("")]
    });
    for token in ["old\n", "new\n"] {
        std::fs::write(&file, token).unwrap();
        bench.fetch("http://t:1/").await.unwrap();
    }
    assert_eq!(*seen.lock().unwrap(), [false, true]);
    std::fs::remove_file(&file).unwrap();
    assert!(bench.fetch("http://t:1/").await.unwrap_err().starts_with("read credentials_file "));
}

#[tokio::test(start_paused = true)]
async fn connection_that_died_idle_is_replaced_once() {
    let mut bench = Bench::new();
    bench.network.serve("t:1", |_| vec![exposition("a 1\n"), Action::Close]);
    assert_eq!(bench.fetch("http://t:1/").await, Ok("a 1\n".to_owned()));
    assert_eq!(bench.fetch("http://t:1/").await, Ok("a 1\n".to_owned()));
    bench.network.serve("t:1", |_| vec![Action::Close]);
    let error = bench.fetch("http://t:1/").await.unwrap_err();
    assert!(error.starts_with("Get \"http://t:1/\": "), "{error}");
    assert_eq!(bench.network.n_connects(), 3);
}

#[tokio::test(start_paused = true)]
async fn slow_target_times_out_before_and_inside_the_body() {
    let mut bench = Bench::new();
    bench.network.serve("t:1", |_| vec![Action::Hang]);
    let expected = Err("Get \"http://t:1/\": context deadline exceeded".to_owned());
    assert_eq!(bench.fetch("http://t:1/").await, expected);
    bench.network.serve("t:1", |_| {
        vec![Action::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\na 1\n".to_vec()), Action::Hang]
    });
    assert_eq!(bench.fetch("http://t:1/").await, expected);
}

#[tokio::test(start_paused = true)]
async fn body_is_cut_at_its_limit() {
    let mut bench = Bench::new();
    bench.offer.body_bytes_max = Some(5);
    bench.network.serve("t:1", |_| vec![exposition("a 11\n")]);
    assert_eq!(bench.fetch("http://t:1/").await, Err("body size limit exceeded".to_owned()));
    bench.offer.body_bytes_max = Some(6);
    assert_eq!(bench.fetch("http://t:1/").await, Ok("a 11\n".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn endless_body_is_cut_at_the_default_limit() {
    let mut bench = Bench::new();
    bench.network.serve("t:1", |_| {
        let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1073741824\r\n\r\n";
        vec![Action::Send(head.to_vec()), Action::Repeat(vec![b'a'; 1 << 20], 1 << 10)]
    });
    let error = bench.fetch("http://t:1/").await.unwrap_err();
    assert!(error.starts_with("body size limit exceeded (268435456 bytes"), "{error}");
    assert!(bench.body.len() < 256 << 20);
}

#[tokio::test(start_paused = true)]
async fn gzip_is_inflated_up_to_the_limit() {
    let mut bench = Bench::new();
    let encoded = "Content-Type: text/plain\r\nContent-Encoding: gzip\r\n";
    bench.network.serve("t:1", move |_| vec![answer("200 OK", encoded, &gzip(b"a 1\n"))]);
    assert_eq!(bench.fetch("http://t:1/").await, Ok("a 1\n".to_owned()));
    let bomb = gzip(&vec![b'a'; 16 << 20]);
    assert!(bomb.len() < 1 << 20);
    bench.network.serve("t:1", move |_| vec![answer("200 OK", encoded, &bomb)]);
    bench.offer.body_bytes_max = Some(1 << 20);
    assert_eq!(bench.fetch("http://t:1/").await, Err("body size limit exceeded".to_owned()));
    assert!(bench.body.capacity() <= 2 << 20);
    bench.network.serve("t:1", move |_| vec![answer("200 OK", encoded, &gzip(b"a 1\n")[..15])]);
    assert!(bench.fetch("http://t:1/").await.unwrap_err().starts_with("gzip: "));
    bench.network.serve("t:1", move |_| vec![answer("200 OK", encoded, b"not gzip at all")]);
    assert!(bench.fetch("http://t:1/").await.unwrap_err().starts_with("gzip: "));
}

#[tokio::test(start_paused = true)]
async fn redirects_are_followed_without_credentials_to_other_hosts() {
    let mut bench = Bench::new();
    bench.http.auth = Auth::Authorization {
        kind: "Bearer".to_owned(),
        credentials: Some(Source::Inline(Secret::new("secret".to_owned()))),
    };
    bench.network.serve("t:1", |_| vec![answer("302 Found", "Location: http://other:2/x\r\n", b"moved")]);
    bench.network.serve("other:2", |head| {
        vec![exposition(if head.starts_with("GET /x ") && !head.contains("uthorization") { "a 1\n" } else { "b 1\n" })]
    });
    assert_eq!(bench.fetch("http://t:1/").await, Ok("a 1\n".to_owned()));
    assert_eq!(bench.fetch("http://t:1/").await, Ok("a 1\n".to_owned()));
    assert_eq!(bench.network.n_connects(), 2);
    bench.http.follow_redirects = false;
    assert_eq!(bench.fetch("http://t:1/").await, Err("server returned HTTP status 302 Found".to_owned()));
    bench.http.follow_redirects = true;
    bench.network.serve("loop:1", |_| vec![answer("301 Moved Permanently", "Location: /\r\n", b"")]);
    assert_eq!(
        bench.fetch("http://loop:1/").await,
        Err("Get \"http://loop:1/\": stopped after 10 redirects".to_owned())
    );
}

#[tokio::test(start_paused = true)]
async fn failures_name_what_was_asked() {
    let mut bench = Bench::new();
    bench.network.serve("t:1", |_| vec![answer("500 Internal Server Error", "", b"oops")]);
    assert_eq!(
        bench.fetch("http://t:1/").await,
        Err("server returned HTTP status 500 Internal Server Error".to_owned())
    );
    bench.network.serve("t:1", |_| vec![answer("418 Short And Stout", "", b"")]);
    assert_eq!(bench.fetch("http://t:1/").await, Err("server returned HTTP status 418 Short And Stout".to_owned()));
    let error = bench.fetch("http://nobody:1/m").await.unwrap_err();
    assert!(error.starts_with("Get \"http://nobody:1/m\": dial tcp nobody:1: connection refused"), "{error}");
}

#[tokio::test]
async fn closed_port_refuses_in_prometheus_words() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let authority = listener.local_addr().unwrap().to_string();
    drop(listener);
    let job = JobClient::new(HttpClientConfig::default(), offer(), Arc::new(TcpConnector));
    let target = call(&format!("http://{authority}/m"));
    let error = Client::new().fetch(&job, &target, TIMEOUT, &mut Vec::new()).await.unwrap_err();
    let expected = format!("Get \"http://{authority}/m\": dial tcp {authority}: connect: connection refused");
    assert_eq!(error.to_string(), expected);
}

async fn tcp_target(handler: impl Fn(&str) -> Vec<Action> + Send + Sync + 'static, tls: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let handler: crate::client::testing::Handler = Arc::new(handler);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let handler = handler.clone();
            if !tls {
                tokio::spawn(serve(stream, handler));
                continue;
            }
            tokio::spawn(async move {
                if let Ok(stream) = tls_acceptor().accept(stream).await {
                    serve(stream, handler).await;
                }
            });
        }
    });
    port
}

const CERTIFICATE: &str = include_str!("testdata/server-cert.pem");

fn tls_acceptor() -> tokio_rustls::TlsAcceptor {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("testdata/server-key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap()).into()
}

#[tokio::test]
async fn targets_are_fetched_over_tcp_and_tls() {
    let (mut client, mut body) = (Client::new(), Vec::new());
    let port = tcp_target(|_| vec![exposition("a 1\n")], false).await;
    let job = JobClient::new(HttpClientConfig::default(), offer(), Arc::new(TcpConnector));
    let content_type = client.fetch(&job, &call(&format!("http://127.0.0.1:{port}/m")), TIMEOUT, &mut body).await;
    assert_eq!((content_type.unwrap().as_str(), body.as_slice()), ("text/plain; version=0.0.4", &b"a 1\n"[..]));

    let port = tcp_target(|_| vec![exposition("b 1\n")], true).await;
    let target = call(&format!("https://127.0.0.1:{port}/m"));
    let with = |tls: TlsConfig| {
        JobClient::new(HttpClientConfig { tls, ..HttpClientConfig::default() }, offer(), Arc::new(TcpConnector))
    };
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, CERTIFICATE).unwrap();
    let trusting = TlsConfig {
        ca: Some(Source::File(ca_file.clone())),
        server_name: Some("target.test".to_owned()),
        ..TlsConfig::default()
    };
    for tls in [trusting.clone(), TlsConfig { insecure_skip_verify: true, ..TlsConfig::default() }] {
        let job = with(tls);
        Client::new().fetch(&job, &target, TIMEOUT, &mut body).await.unwrap();
        assert_eq!(body, b"b 1\n");
    }
    let refused = [
        TlsConfig { server_name: Some("else.test".to_owned()), ..trusting.clone() },
        TlsConfig { server_name: Some("target.test".to_owned()), ..TlsConfig::default() },
    ];
    for tls in refused {
        let job = with(tls);
        let error = Client::new().fetch(&job, &target, TIMEOUT, &mut body).await.unwrap_err();
        assert!(matches!(error, FetchError::Handshake { .. }), "{error}");
    }
    std::fs::write(&ca_file, "no certificate").unwrap();
    let job = with(trusting);
    let error = Client::new().fetch(&job, &target, TIMEOUT, &mut body).await.unwrap_err().to_string();
    assert!(error.ends_with("ca_file: no PEM certificate or key in it"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn any_request_may_be_sent_and_any_status_is_an_answer() {
    let bench = Bench::new();
    let job = JobClient::new(bench.http.clone(), bench.offer.clone(), bench.network.clone());
    bench.network.serve("t:1", |head| {
        let echoed = format!("{head}|");
        vec![answer("409 Conflict", "X-Index: 7\r\n", echoed.as_bytes())]
    });
    let call =
        Call::post(Url::parse("http://t:1/v?q=1").unwrap(), "application/json", "").header("x-token", "s").unwrap();
    let answer = Client::new().send(&job, &call, TIMEOUT).await.unwrap();
    let body = String::from_utf8(answer.body).unwrap();
    assert!(body.starts_with("POST /v?q=1 HTTP/1.1\r\n") && body.contains("x-token: s\r\n"), "{body}");
    assert_eq!((answer.status.as_u16(), answer.reason.as_str()), (409, "409 Conflict"));
    assert_eq!(answer.headers["x-index"], "7");
    let error = Client::new().send(&job, &Call::post(Url::parse("http://u/").unwrap(), "a/b", "x"), TIMEOUT).await;
    assert!(error.unwrap_err().to_string().starts_with("Post \"http://u/\": dial tcp u: "));
}

#[tokio::test(start_paused = true)]
async fn a_body_is_seen_while_it_arrives() {
    let bench = Bench::new();
    let job = JobClient::new(bench.http.clone(), bench.offer.clone(), bench.network.clone());
    bench.network.serve("t:1", |_| {
        vec![Action::Send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n".to_vec()), Action::Hang]
    });
    let mut arriving = Client::open(&job, &call("http://t:1/"), TIMEOUT).await.unwrap();
    assert_eq!(arriving.status(), StatusCode::OK);
    assert_eq!(arriving.piece().await.unwrap().as_deref(), Some(&b"abc"[..]));
    assert!(tokio::time::timeout(TIMEOUT, arriving.piece()).await.is_err());
}
