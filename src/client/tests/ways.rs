//! Ways to a host: proxies, tokens, HTTP/2; and bodies in zstd.

use std::sync::atomic::{AtomicUsize, Ordering};

use promontory_config::http_client::oauth2::{Grant, JwtBearer, OAuth2, SignatureAlgorithm};
use promontory_config::http_client::proxy::{ProxyConfig, ProxyUrl, Via};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

fn through(url: &str) -> ProxyConfig {
    ProxyConfig { via: Via::Proxy { proxy: ProxyUrl::parse(url).unwrap(), except: None }, connect_headers: Vec::new() }
}

#[tokio::test(start_paused = true)]
async fn plain_requests_name_their_host_to_the_proxy() {
    let mut bench = Bench::new();
    bench.http.proxy = through("http://u:p@proxy:3128");
    bench.network.serve("proxy:3128", |head| {
        let lower = head.to_ascii_lowercase();
        let is_whole = head.starts_with("GET http://t:1/m?a=b HTTP/1.1\r\n") && lower.contains("\r\nhost: t:1\r\n");
        let knows = lower.contains("\r\nproxy-authorization: basic dtpw\r\n");
        vec![exposition(if is_whole && knows { "a 1\n" } else { "b 1\n" })]
    });
    for _ in 0..2 {
        assert_eq!(bench.fetch("http://t:1/m?a=b").await, Ok("a 1\n".to_owned()));
    }
    assert_eq!(bench.network.n_connects(), 1);
    bench.client = Client::new();
    bench.http.proxy.via = Via::Proxy { proxy: ProxyUrl::parse("proxy:3128").unwrap(), except: Some("t".to_owned()) };
    bench.network.serve("t:1", |head| vec![exposition(if head.starts_with("GET /m ") { "c 1\n" } else { "" })]);
    assert_eq!(bench.fetch("http://t:1/m").await, Ok("c 1\n".to_owned()));
}

/// A proxy that does with each connection what `greet` says, then joins it with `port` of this machine.
async fn tcp_proxy<F>(port: u16, greet: fn(tokio::net::TcpStream) -> F) -> u16
where
    F: Future<Output = tokio::net::TcpStream> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = greet(stream).await;
            let mut far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut stream, &mut far).await });
        }
    });
    own
}

async fn read_head(stream: &mut tokio::net::TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn open_tunnel(mut stream: tokio::net::TcpStream) -> tokio::net::TcpStream {
    let head = read_head(&mut stream).await;
    let is_good = head.starts_with("CONNECT target.test:443 HTTP/1.1\r\n") && head.contains("\r\nX-Own: s\r\n");
    let answer: &[u8] =
        if is_good { b"HTTP/1.1 200 Connection established\r\n\r\n" } else { b"HTTP/1.1 407 No\r\n\r\n" };
    stream.write_all(answer).await.unwrap();
    stream
}

async fn speak_socks(mut stream: tokio::net::TcpStream) -> tokio::net::TcpStream {
    let mut bytes = [0; 3];
    stream.read_exact(&mut bytes).await.unwrap();
    assert_eq!(bytes, [5, 1, 2]);
    stream.write_all(&[5, 2]).await.unwrap();
    let mut bytes = [0; 5];
    stream.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"\x01\x01u\x01p");
    stream.write_all(&[1, 0]).await.unwrap();
    let mut bytes = [0; 10];
    stream.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"\x05\x01\x00\x03\x03far\x23\x8c");
    stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
    stream
}

fn trusting() -> TlsConfig {
    TlsConfig {
        ca: Some(Source::Inline(CERTIFICATE.to_owned())),
        server_name: Some("target.test".to_owned()),
        ..TlsConfig::default()
    }
}

async fn fetch_over_tcp(http: HttpClientConfig, from: &str) -> Result<String, String> {
    let job = JobClient::new(http, offer(), Arc::new(TcpConnector));
    let mut body = Vec::new();
    let fetched = Client::new().fetch(&job, &call(from), TIMEOUT, &mut body).await;
    fetched.map(|_| String::from_utf8(body).unwrap()).map_err(|e| e.to_string())
}

#[tokio::test]
async fn tls_goes_through_a_tunnel() {
    let target = tcp_target(|_| vec![exposition("a 1\n")], true).await;
    let proxy = tcp_proxy(target, open_tunnel).await;
    let mut config = through(&format!("http://127.0.0.1:{proxy}"));
    config.connect_headers = vec![("X-Own".to_owned(), vec![Secret::new("s".to_owned())])];
    let http = HttpClientConfig { tls: trusting(), proxy: config, ..HttpClientConfig::default() };
    assert_eq!(fetch_over_tcp(http.clone(), "https://target.test/m").await, Ok("a 1\n".to_owned()));
    let refused = fetch_over_tcp(http, "https://else.test/m").await;
    assert_eq!(refused, Err("Get \"https://else.test/m\": proxy refuses the tunnel: 407 No".to_owned()));
}

#[tokio::test]
async fn socks_leads_to_any_host() {
    let target = tcp_target(|_| vec![exposition("a 1\n")], false).await;
    let proxy = tcp_proxy(target, speak_socks).await;
    let proxy = through(&format!("socks5://u:p@127.0.0.1:{proxy}"));
    let http = HttpClientConfig { proxy, ..HttpClientConfig::default() };
    assert_eq!(fetch_over_tcp(http, "http://far:9100/m").await, Ok("a 1\n".to_owned()));
}

#[tokio::test]
async fn http2_is_spoken_where_both_want_it() {
    use hyper::server::conn::http2;
    use hyper::service::service_fn;
    use hyper_util::rt::{TokioExecutor, TokioIo};

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let n_connections = Arc::new(AtomicUsize::new(0));
    let count = n_connections.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let mut config = (**tls_acceptor().config()).clone();
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
            tokio::spawn(async move {
                let stream = acceptor.accept(stream).await.unwrap();
                if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
                    let handler: crate::client::testing::Handler = Arc::new(|_: &str| vec![exposition("one 1\n")]);
                    return serve(stream, handler).await;
                }
                let service = service_fn(|request: Request<Incoming>| async move {
                    let text = format!("two{{path=\"{}\"}} 2\n", request.uri().path());
                    Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from(text))))
                });
                let serving = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
                let _ = serving.await;
            });
        }
    });
    let from = call(&format!("https://127.0.0.1:{port}/m"));
    let job = |enable_http2| {
        let http = HttpClientConfig { tls: trusting(), enable_http2, ..HttpClientConfig::default() };
        JobClient::new(http, offer(), Arc::new(TcpConnector))
    };
    let (mut client, mut body) = (Client::new(), Vec::new());
    for _ in 0..3 {
        client.fetch(&job(true), &from, TIMEOUT, &mut body).await.unwrap();
        assert_eq!(body, b"two{path=\"/m\"} 2\n");
    }
    assert_eq!(n_connections.load(Ordering::SeqCst), 1);
    Client::new().fetch(&job(false), &from, TIMEOUT, &mut body).await.unwrap();
    assert_eq!(body, b"one 1\n");
}

#[tokio::test(start_paused = true)]
async fn zstd_is_inflated_up_to_the_limit() {
    let zstd = |data: &[u8]| ruzstd::encoding::compress_to_vec(data, ruzstd::encoding::CompressionLevel::Fastest);
    let mut bench = Bench::new();
    let encoded = "Content-Type: text/plain\r\nContent-Encoding: zstd\r\n";
    let two_frames = [zstd(b"a 1\n"), zstd(b"b 2\n")].concat();
    bench.network.serve("t:1", move |_| vec![answer("200 OK", encoded, &two_frames)]);
    assert_eq!(bench.fetch("http://t:1/").await, Ok("a 1\nb 2\n".to_owned()));
    let bomb = zstd(&vec![b'a'; 16 << 20]);
    assert!(bomb.len() < 1 << 20);
    bench.network.serve("t:1", move |_| vec![answer("200 OK", encoded, &bomb)]);
    bench.offer.body_bytes_max = Some(1 << 20);
    assert_eq!(bench.fetch("http://t:1/").await, Err("body size limit exceeded".to_owned()));
    let whole = zstd(b"a 1\nb 2\nc 3\n");
    bench.network.serve("t:1", move |_| vec![answer("200 OK", encoded, &whole[..whole.len() - 3])]);
    assert!(bench.fetch("http://t:1/").await.unwrap_err().starts_with("zstd: "));
    bench.network.serve("t:1", move |_| vec![answer("200 OK", encoded, b"not zstd at all")]);
    assert!(bench.fetch("http://t:1/").await.unwrap_err().starts_with("zstd: "));
}

fn oauth2(grant: Grant) -> Auth {
    Auth::OAuth2(Box::new(OAuth2 {
        client_id: "me&co".to_owned(),
        grant,
        scopes: vec!["a".to_owned(), "b".to_owned()],
        token_url: "http://login:1/token".to_owned(),
        endpoint_params: vec![("x".to_owned(), "y z".to_owned())],
        tls: TlsConfig::default(),
        proxy: ProxyConfig::default(),
        headers: Vec::new(),
    }))
}

fn by_secret() -> Auth {
    oauth2(Grant::ClientCredentials { secret: Some(Source::Inline(Secret::new("s:t".to_owned()))) })
}

fn token(text: &str) -> Vec<Action> {
    vec![answer("200 OK", "Content-Type: application/json\r\n", text.as_bytes())]
}

/// A target that shows how it was authorised.
fn show_authorization(network: &FakeNetwork) {
    network.serve("t:1", |head| {
        let line = head.lines().find_map(|l| l.strip_prefix("authorization: ")).unwrap_or("none");
        vec![exposition(line)]
    });
}

#[tokio::test(start_paused = true)]
async fn tokens_are_got_once_and_again_when_they_run_out() {
    let network = FakeNetwork::new();
    show_authorization(&network);
    let n = AtomicUsize::new(0);
    network.serve("login:1", move |request| {
        let form = request.rsplit("\r\n\r\n").next().unwrap();
        assert_eq!(form, "grant_type=client_credentials&scope=a+b&x=y+z");
        // me%26co:s%3At
        assert!(request.contains("authorization: Basic bWUlMjZjbzpzJTNBdA==\r\n"), "{request}");
        let n = n.fetch_add(1, Ordering::SeqCst);
        token(&format!("{{\"access_token\":\"t{n}\",\"token_type\":\"bearer\",\"expires_in\":60}}"))
    });
    let http = HttpClientConfig { auth: by_secret(), ..HttpClientConfig::default() };
    let job = JobClient::new(http, offer(), network.clone());
    let fetch = || async {
        let mut body = Vec::new();
        Client::new().fetch(&job, &call("http://t:1/"), TIMEOUT, &mut body).await.unwrap();
        String::from_utf8(body).unwrap()
    };
    assert_eq!([fetch().await, fetch().await], ["Bearer t0", "Bearer t0"]);
    tokio::time::sleep(Duration::from_secs(51)).await;
    assert_eq!([fetch().await, fetch().await], ["Bearer t1", "Bearer t1"]);
}

#[tokio::test(start_paused = true)]
async fn secret_goes_into_the_form_where_the_header_is_refused() {
    let mut bench = Bench::new();
    bench.http.auth = by_secret();
    show_authorization(&bench.network);
    bench.network.serve("login:1", |request| {
        if request.ends_with("&client_id=me%26co&client_secret=s%3At") {
            return token("{\"access_token\":\"t\",\"token_type\":\"MAC\"}");
        }
        vec![answer("401 Unauthorized", "", b"{\"error\":\"invalid_client\"}")]
    });
    assert_eq!(bench.fetch("http://t:1/").await, Ok("MAC t".to_owned()));
    bench.network.serve("login:1", |_| vec![answer("401 Unauthorized", "", b"{\"error\":\"invalid_client\"}")]);
    assert_eq!(
        bench.fetch("http://t:1/").await,
        Err("Get \"http://t:1/\": oauth2: cannot fetch token: 401 Unauthorized {\"error\":\"invalid_client\"}"
            .to_owned())
    );
    bench.network.serve("login:1", |_| token("{}"));
    let error = bench.fetch("http://t:1/").await.unwrap_err();
    assert!(error.ends_with("oauth2: server response missing access_token"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn assertions_are_signed() {
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use ring::signature::{RSA_PKCS1_2048_8192_SHA384, RsaKeyPair, UnparsedPublicKey};
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use rustls::pki_types::pem::PemObject;

    const KEY: &str = include_str!("../testdata/rsa-key.pem");
    let mut bench = Bench::new();
    bench.http.auth = oauth2(Grant::JwtBearer(JwtBearer {
        key: Source::Inline(Secret::new(KEY.to_owned())),
        key_id: Some("k1".to_owned()),
        algorithm: SignatureAlgorithm::Rs384,
        iss: None,
        audience: Some("them".to_owned()),
        claims: vec![("tenant".to_owned(), "x".to_owned())],
    }));
    show_authorization(&bench.network);
    bench.network.serve("login:1", |request| {
        let form = request.rsplit("\r\n\r\n").next().unwrap();
        let rest = form.strip_prefix("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=");
        let (signed, signature) = rest.unwrap().split('&').next().unwrap().rsplit_once('.').unwrap();
        let key = PrivatePkcs8KeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
        let pair = RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).unwrap();
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA384, pair.public().as_ref());
        public.verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
        let parts: Vec<serde_json::Value> = signed
            .split('.')
            .map(|part| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap())
            .collect();
        assert_eq!((parts[0]["kid"].as_str(), parts[0]["alg"].as_str()), (Some("k1"), Some("RS384")));
        let told: Vec<_> = ["iss", "sub", "aud", "tenant", "scope"].map(|c| parts[1][c].as_str().unwrap()).to_vec();
        assert_eq!(told, ["me&co", "me&co", "them", "x", "a b"]);
        assert_eq!(parts[1]["exp"].as_i64().unwrap() - parts[1]["iat"].as_i64().unwrap(), 600);
        assert_eq!(parts[1]["jti"].as_str().unwrap().len(), 32);
        token("{\"access_token\":\"t\"}")
    });
    assert_eq!(bench.fetch("http://t:1/").await, Ok("Bearer t".to_owned()));
}
