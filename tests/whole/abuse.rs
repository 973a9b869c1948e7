//! Clients that mean harm, or do it: whatever they send is refused by the name of a limit, and others are served.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use crate::client;
use crate::server::{Server, flag};

/// Bytes that a hostile client sends unless somebody stops it.
const HUGE: usize = 1 << 30;
/// Memory that the server may take in all of this.
const PEAK_BYTES_MAX: u64 = 1 << 30;

fn server(dir: &Path, flags: &[&str]) -> Server {
    let config = dir.join("prometheus.yml");
    std::fs::write(&config, "").expect("a writable folder");
    let (config, data) = (flag("config.file", &config), flag("storage.tsdb.path", &dir.join("data")));
    let receivers = [
        "--web.enable-remote-write-receiver",
        "--web.enable-otlp-receiver",
        "--web.enable-influx-receiver",
        "--web.enable-push",
        "--web.enable-admin-api",
    ];
    let args = [config.as_str(), &data].into_iter().chain(receivers).chain(flags.iter().copied());
    Server::start(&args.collect::<Vec<_>>())
}

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&addr, Duration::from_secs(10)).expect("the server accepts");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout can be set");
    stream
}

fn is_served(addr: SocketAddr) -> bool {
    client::get(addr, "/api/v1/query?query=1%2B1").is_ok_and(|answer| answer.status == 200)
}

/// Sends a head and then `n` bytes of what `piece` repeats, until the server has enough; gives its answer.
fn send_much(addr: SocketAddr, head: &str, piece: &[u8], n: usize) -> String {
    let mut stream = connect(addr);
    stream.write_all(head.as_bytes()).expect("the head is taken");
    let mut writer = stream.try_clone().expect("sockets can be shared");
    let piece = piece.repeat((256 << 10) / piece.len() + 1);
    let sending = std::thread::spawn(move || {
        let mut left = n;
        while left > 0 && writer.write_all(&piece[..piece.len().min(left)]).is_ok() {
            left -= piece.len().min(left);
        }
    });
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    // A reset after the answer is how the server stops what is still sent.
    while let Ok(read) = stream.read(&mut part) {
        answer.extend_from_slice(&part[..read]);
        if read == 0 {
            break;
        }
    }
    drop(stream);
    sending.join().expect("the sender ends");
    String::from_utf8_lossy(&answer).into_owned()
}

#[track_caller]
fn check(server: &Server, what: &str, answer: &str, status: &str, limit: &str) {
    let has_status = status.split('|').any(|status| answer.starts_with(&format!("HTTP/1.1 {status}")));
    assert!(has_status && answer.contains(limit), "{what}: expected {status} and {limit:?}, got {answer:?}");
    assert!(is_served(server.addr), "{what}: others are served");
}

#[test]
fn bodies_of_a_gigabyte_bombs_and_long_queries_are_refused_by_the_name_of_the_limit() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let server = server(dir.path(), &[]);
    let addr = server.addr;
    let chunk = [b"10000\r\n", &[b'a'; 0x10000][..], b"\r\n"].concat();
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let otlp = "Content-Type: application/x-protobuf\r\n";
    for (path, headers, limit) in [
        ("/api/v1/query", form, "form_bytes_max"),
        ("/api/v1/series", form, "form_bytes_max"),
        ("/api/v1/write", otlp, "body_bytes_max"),
        ("/api/v1/read", otlp, "body_bytes_max"),
        ("/api/v1/otlp/v1/metrics", otlp, "body_bytes_max"),
        ("/write", "", "body_bytes_max"),
        ("/metrics/job/j", "", "body_bytes_max"),
        ("/api/v1/import/openmetrics", "", "line_bytes_max"),
    ] {
        let head = format!("POST {path} HTTP/1.1\r\nHost: h\r\n{headers}Content-Length: {HUGE}\r\n\r\n");
        let answer = send_much(addr, &head, b"a", HUGE);
        check(&server, path, &answer, "413|400", limit);
        // Of a length that nobody knows before.
        let head = format!("POST {path} HTTP/1.1\r\nHost: h\r\n{headers}Transfer-Encoding: chunked\r\n\r\n");
        let answer = send_much(addr, &head, &chunk, HUGE);
        check(&server, path, &answer, "413|400", limit);
    }

    let zeros = vec![0; 1 << 20];
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..512 {
        gzip.write_all(&zeros).expect("memory is written");
    }
    let gzip = gzip.finish().expect("memory is written");
    // A frame with a window of 8 MiB and a block of zeros, repeated to half a gigabyte.
    let mut zstd = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0x68];
    for i in 0..4096_u32 {
        zstd.extend_from_slice(&((128 << 10 << 3) | 2 | u32::from(i == 4095)).to_le_bytes()[..3]);
        zstd.push(0);
    }
    let snappy = [0xff, 0xff, 0xff, 0xff, 0x07, 0];
    for path in ["/api/v1/otlp/v1/metrics", "/write", "/metrics/job/j", "/api/v1/import/prometheus"] {
        for (encoding, body) in [("gzip", &gzip[..]), ("zstd", &zstd), ("snappy", &snappy)] {
            let headers = [("content-type", "application/x-protobuf"), ("content-encoding", encoding)];
            let answer = client::request(addr, "POST", path, &headers, body).expect("the server answers");
            let text = format!("HTTP/1.1 {} {}", answer.status, answer.text());
            let is_read_as_it_comes = path.ends_with("/prometheus") && encoding != "snappy";
            let limit = if is_read_as_it_comes { "line_bytes_max" } else { "body_bytes_max" };
            check(&server, &format!("{path} {encoding}"), &text, "413|400", limit);
        }
    }
    for path in ["/api/v1/write", "/api/v1/read"] {
        let headers = [("content-type", "application/x-protobuf"), ("content-encoding", "snappy")];
        let answer = client::request(addr, "POST", path, &headers, &snappy).expect("the server answers");
        let text = format!("HTTP/1.1 {} {}", answer.status, answer.text());
        check(&server, &format!("{path} snappy"), &text, "413|400", "body_bytes_max");
    }

    let long = 100 << 20;
    let head = format!("POST /api/v1/query HTTP/1.1\r\nHost: h\r\n{form}Content-Length: {}\r\n\r\nquery=", long + 6);
    check(&server, "query of 100 MB", &send_much(addr, &head, b"1+", long), "400|413", "form_bytes_max");
    // Of four bytes two are left once it is decoded.
    let head =
        format!("POST /api/v1/query HTTP/1.1\r\nHost: h\r\n{form}Content-Length: {}\r\n\r\nquery=", (4 << 20) + 6);
    check(&server, "query of 2 MB", &send_much(addr, &head, b"1%2B", 4 << 20), "400", "query_bytes_max");
    // So long an address is not read, and there is no path that could answer.
    check(&server, "address of 100 MB", &send_much(addr, "GET /api/v1/query?query=", b"1+", long), "431|414", "");
    let nested = "(".repeat(100_000);
    let answer = client::request(
        addr,
        "POST",
        "/api/v1/query",
        &[("content-type", "application/x-www-form-urlencoded")],
        format!("query={nested}").as_bytes(),
    );
    let answer = answer.expect("the server answers");
    check(&server, "nested query", &format!("HTTP/1.1 {} {}", answer.status, answer.text()), "400", "nest");
    let peak = server.peak_bytes();
    assert!(peak < PEAK_BYTES_MAX, "{peak} bytes");
    eprintln!("peak memory {} MiB", peak >> 20);
}

#[test]
fn clients_that_hold_connections_open_keep_nobody_out() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let server = server(dir.path(), &["--web.max-connections=64"]);
    let addr = server.addr;
    let half = |text: &str| {
        let mut stream = connect(addr);
        let _ = stream.write_all(text.as_bytes());
        stream
    };
    // Half a head each; the places of most go to others as soon as they have held them for a second.
    let mut heads: Vec<TcpStream> = (0..300).map(|_| half("GET /api/v1/query?query=1 HTTP/1.1\r\nHost:")).collect();
    server.wait_until("served beside half heads", || is_served(addr));
    let is_told = |stream: &mut TcpStream| {
        let mut told = String::new();
        stream.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout can be set");
        let _ = stream.read_to_string(&mut told);
        told.starts_with("HTTP/1.1 503 ") && told.contains("web.max-connections")
    };
    assert!(heads.iter_mut().any(is_told), "refused by the name of the limit");
    // Bodies that trickle in hold a place for ten seconds.
    let body = "POST /api/v1/query HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-www-form-urlencoded\r\n\
                Content-Length: 1000\r\n\r\nquery=";
    let bodies: Vec<TcpStream> = (0..300).map(|_| half(body)).collect();
    server.wait_until("served beside slow bodies", || is_served(addr));
    drop((heads, bodies));
    let metrics = client::get(addr, "/metrics").expect("the server answers").text();
    let value = |name: &str| -> f64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("{name} is told")).parse().expect("a number")
    };
    assert!(value("promontory_connections_refused_total") >= 1.0 && value("promontory_connections") <= 64.0);
    assert!(value("promontory_connections_evicted_total") >= 2.0);
}

/// Files that this process may open.
fn files_max() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap_or_default();
    line.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(1024)
}

#[test]
fn thousands_of_connections_are_refused_and_others_served() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let server = server(dir.path(), &[]);
    // Ten thousand where it is worth the time.
    let wanted = std::env::var("PROMONTORY_CONNECTIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(1_500);
    let n = files_max().saturating_sub(1_000).clamp(500, wanted);
    let mut open = Vec::with_capacity(n);
    let mut n_served = 0;
    for i in 0..n {
        open.push(connect(server.addr));
        if i % 500 == 499 {
            server.wait_until("served among thousands", || is_served(server.addr));
            n_served += 1;
        }
    }
    eprintln!("{n} connections, served {n_served} times in between, peak memory {} MiB", server.peak_bytes() >> 20);
    assert!(server.peak_bytes() < PEAK_BYTES_MAX);
    drop(open);
    server.wait_until("served afterwards", || is_served(server.addr));
}
