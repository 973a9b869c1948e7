//! A double of ZooKeeper that speaks its protocol, and what is found in it when it works, fails, stalls and lies.

use std::fmt;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::session::{Packet, buffer_of, i32_of, i64_of, text_of};
use super::*;
use crate::client::testing::FakeNetwork;
use crate::client::{Connecting, Connector, Stream};
use crate::discovery::testing::Lab;

/// What a server does with who comes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mood {
    Good,
    /// Nobody listens.
    Away,
    /// Accepts, and says nothing.
    Mute,
    /// Grants no session.
    Refuses,
    /// Answers reads with this error.
    Fails(i32),
    /// Answers reads with these bytes.
    Raw(&'static [u8]),
    /// Answers to numbers that nobody has asked with.
    Confused,
}

/// A session of somebody: where to send, and what is to be told.
struct Watcher {
    out: UnboundedSender<Vec<u8>>,
    data: BTreeSet<String>,
    children: BTreeSet<String>,
}

#[derive(Default)]
struct State {
    nodes: BTreeMap<String, Vec<u8>>,
    moods: BTreeMap<String, Mood>,
    watchers: Vec<Arc<Mutex<Watcher>>>,
    n_sessions: usize,
    n_pings: usize,
}

/// Servers with the same nodes.
#[derive(Clone, Default)]
struct Double(Arc<Mutex<State>>);

impl fmt::Debug for Double {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Double")
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

impl Double {
    fn set(&self, path: &str, data: &str) {
        let mut state = self.0.lock().unwrap();
        let is_new = state.nodes.insert(path.to_owned(), data.as_bytes().to_vec()).is_none();
        state.tell(path, if is_new { 1 } else { 3 });
        if is_new {
            state.tell_parent(path);
        }
    }

    fn remove(&self, path: &str) {
        let mut state = self.0.lock().unwrap();
        state.nodes.retain(|known, _| known != path && !known.starts_with(&format!("{path}/")));
        state.tell(path, 2);
        state.tell_parent(path);
    }

    fn mood(&self, server: &str, mood: Mood) {
        self.0.lock().unwrap().moods.insert(server.to_owned(), mood);
    }

    /// Breaks all connections.
    fn hang_up(&self) {
        self.0.lock().unwrap().watchers.clear();
    }
}

impl State {
    /// Tells those who watch `path`, once, that it was made (1), removed (2) or changed (3).
    fn tell(&self, path: &str, kind: i32) {
        for watcher in &self.watchers {
            let mut watcher = watcher.lock().unwrap();
            let is_told = watcher.data.remove(path) | (kind == 2 && watcher.children.remove(path));
            if is_told {
                let _ = watcher.out.send(news(path, kind));
            }
        }
    }

    fn tell_parent(&self, path: &str) {
        for watcher in &self.watchers {
            let mut watcher = watcher.lock().unwrap();
            if watcher.children.remove(parent(path)) {
                let _ = watcher.out.send(news(parent(path), 4));
            }
        }
    }

    /// What a request for `path` is answered with: an error and what follows it.
    fn answer(&self, watcher: &Mutex<Watcher>, kind: i32, path: &str) -> (i32, Vec<u8>) {
        let node = self.nodes.get(path);
        let mut watcher = watcher.lock().unwrap();
        let mut body = Packet::new();
        if kind == 8 && node.is_some() {
            watcher.children.insert(path.to_owned());
            let names = self.nodes.keys().filter(|known| parent(known) == path);
            let names: Vec<&str> = names.map(|known| &known[path.len() + 1..]).collect();
            body.i32(names.len() as i32);
            for name in names {
                body.buffer(name.as_bytes());
            }
        } else if kind == 3 || node.is_some() {
            watcher.data.insert(path.to_owned());
            if kind == 4 {
                body.buffer(node.unwrap());
            }
            // A stat, of which nothing is read.
            for _ in 0..17 {
                body.i32(0);
            }
        }
        (if node.is_some() { 0 } else { -101 }, body.end()[4..].to_vec())
    }
}

fn news(path: &str, kind: i32) -> Vec<u8> {
    let mut packet = Packet::new();
    packet.i32(-1).i64(-1).i32(0).i32(kind).i32(3).buffer(path.as_bytes());
    packet.end()
}

impl Connector for Double {
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> Connecting<'a> {
        let name = format!("{host}:{port}");
        Box::pin(async move {
            if self.0.lock().unwrap().moods.get(&name).is_none_or(|mood| *mood == Mood::Away) {
                return Err(std::io::ErrorKind::ConnectionRefused.into());
            }
            let (near, far) = tokio::io::duplex(1 << 20);
            tokio::spawn(serve(far, self.0.clone(), name));
            Ok(Box::new(near) as Box<dyn Stream>)
        })
    }
}

async fn packet(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Option<Bytes> {
    let length = stream.read_i32().await.ok()?;
    let mut packet = vec![0; length as usize];
    stream.read_exact(&mut packet).await.ok()?;
    Some(packet.into())
}

/// Answers on one connection until it breaks.
async fn serve(stream: tokio::io::DuplexStream, state: Arc<Mutex<State>>, name: String) {
    let (mut requests, mut answers) = tokio::io::split(stream);
    let mood = || state.lock().unwrap().moods[&name];
    let Some(mut hello) = packet(&mut requests).await else { return };
    assert_eq!((i32_of(&mut hello).unwrap(), i64_of(&mut hello).unwrap()), (0, 0));
    let timeout = i32_of(&mut hello).unwrap();
    assert_eq!(i64_of(&mut hello).unwrap(), 0);
    assert_eq!(buffer_of(&mut hello).unwrap(), [0; 16].as_slice());
    if mood() == Mood::Mute {
        std::future::pending::<()>().await;
    }
    let mut welcome = Packet::new();
    let granted = if mood() == Mood::Refuses { 0 } else { timeout };
    welcome.i32(0).i32(granted).i64(7).buffer(&[1; 16]);
    answers.write_all(&welcome.end()).await.unwrap();
    let (out, mut outbox) = unbounded_channel::<Vec<u8>>();
    let watcher = Watcher { out, data: BTreeSet::new(), children: BTreeSet::new() };
    let watcher = {
        let mut state = state.lock().unwrap();
        state.n_sessions += 1;
        state.watchers.push(Arc::new(Mutex::new(watcher)));
        // The connection lives as long as the list of the double has it.
        Arc::downgrade(&state.watchers[state.watchers.len() - 1])
    };
    loop {
        let request = tokio::select! {
            told = outbox.recv() => match told {
                Some(bytes) if answers.write_all(&bytes).await.is_ok() => continue,
                _ => return,
            },
            request = packet(&mut requests) => request,
        };
        let (Some(mut request), Some(watcher)) = (request, watcher.upgrade()) else { return };
        let (number, kind) = (i32_of(&mut request).unwrap(), i32_of(&mut request).unwrap());
        let mood = mood();
        if mood == Mood::Mute {
            std::future::pending::<()>().await;
        }
        if kind == 11 {
            state.lock().unwrap().n_pings += 1;
        }
        let (code, body) = match (kind, mood) {
            (11, _) => (0, Vec::new()),
            (_, Mood::Fails(code)) => (code, Vec::new()),
            _ => state.lock().unwrap().answer(&watcher, kind, &text_of(&mut request).unwrap()),
        };
        let mut answer = Packet::new();
        answer.i32(if mood == Mood::Confused { 99 } else { number }).i64(5).i32(code);
        let mut answer = answer.end();
        answer.extend(body);
        let length = (answer.len() - 4) as i32;
        answer[..4].copy_from_slice(&length.to_be_bytes());
        if let Mood::Raw(bytes) = mood {
            answer = bytes.to_vec();
        }
        if answers.write_all(&answer).await.is_err() {
            return;
        }
    }
}

const NERVE: &str = "nerve_sd_configs: [{servers: ['zk1', 'zk2:2182'], paths: [/nerve/llm/, /other]}]";

fn lab(fields: &str) -> (Lab, Double) {
    let double = Double::default();
    double.mood("zk1:2181", Mood::Good);
    let lab = Lab::over(fields, FakeNetwork::new(), Arc::new(double.clone()));
    double.set("/nerve/llm", "");
    double.set("/other", "made by hand");
    double.set("/other/deeper", "");
    double.set("/other/deeper/m", r#"{"host": "::1", "port": 9100}"#);
    (lab, double)
}

const A: &str = r#"{"host": "10.0.0.1", "port": 8000, "name": "gpu-1", "weight": 3}"#;
const SHOWN_A: &str = concat!(
    r#"10.0.0.1:8000 {__meta_nerve_endpoint_host="10.0.0.1", __meta_nerve_endpoint_name="gpu-1", "#,
    r#"__meta_nerve_endpoint_port="8000", __meta_nerve_path="/nerve/llm/a"}"#
);
const DEEP: &str = concat!(
    r#"[::1]:9100 {__meta_nerve_endpoint_host="::1", __meta_nerve_endpoint_port="9100", "#,
    r#"__meta_nerve_path="/other/deeper/m"}"#
);

#[tokio::test(start_paused = true)]
async fn members_come_change_and_go() {
    let (mut lab, double) = lab(NERVE);
    double.set("/nerve/llm/a", A);
    lab.check(1, &[SHOWN_A, DEEP]).await;
    double.set("/nerve/llm/b", &A.replace("0.1", "0.2"));
    double.set("/nerve/llm/a", &A.replace("8000", "8001"));
    double.remove("/other/deeper");
    lab.secs(2).await;
    let got: Vec<String> = lab.shown().iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!((got, lab.job.errors()), (vec!["10.0.0.1:8001".to_owned(), "10.0.0.2:8000".to_owned()], Vec::new()));
    double.remove("/nerve/llm/b");
    double.set("/nerve/llm/a", A);
    lab.check(2, &[SHOWN_A]).await;
    assert_eq!(double.0.lock().unwrap().n_sessions, 1);
}

#[tokio::test(start_paused = true)]
async fn members_of_serversets_have_their_other_endpoints_too() {
    let (mut lab, double) = lab("serverset_sd_configs: [{servers: [zk1], paths: [/s]}]");
    double.set("/s", "");
    double.set(
        "/s/member_1",
        r#"{"serviceEndpoint": {"host": "h", "port": 80}, "status": "ALIVE",
            "additionalEndpoints": {"ad-min": {"host": "h", "port": 81}}}"#,
    );
    let expected = concat!(
        r#"h:80 {__meta_serverset_endpoint_host="h", __meta_serverset_endpoint_host_ad_min="h", "#,
        r#"__meta_serverset_endpoint_port="80", __meta_serverset_endpoint_port_ad_min="81", "#,
        r#"__meta_serverset_path="/s/member_1", __meta_serverset_shard="0", __meta_serverset_status="ALIVE"}"#
    );
    lab.check(1, &[expected]).await;
}

#[tokio::test(start_paused = true)]
async fn paths_that_are_not_there_are_told_and_waited_for() {
    let (mut lab, double) = lab("nerve_sd_configs: [{servers: [zk1], paths: [/late, /other]}]");
    lab.check(1, &[DEEP]).await;
    assert_eq!(lab.job.errors(), ["ZooKeeper zk1: there is no node at /late"]);
    double.set("/late", "");
    double.set("/late/x", A);
    lab.secs(2).await;
    assert_eq!((lab.shown().len(), lab.job.errors()), (2, Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn a_member_that_is_not_understood_stays_what_it_was() {
    let (mut lab, double) = lab(NERVE);
    double.set("/nerve/llm/a", A);
    lab.check(1, &[SHOWN_A, DEEP]).await;
    for (data, said) in [("{", "EOF"), ("{}", "it has no host or no port"), ("\u{0}", "expected value")] {
        double.set("/nerve/llm/a", data);
        lab.check(2, &[SHOWN_A, DEEP]).await;
        let errors = lab.job.errors();
        assert!(
            errors[0].starts_with("ZooKeeper zk1: /nerve/llm/a is no member: ") && errors[0].contains(said),
            "{errors:?}"
        );
        // The next server tells no more than this one.
        double.hang_up();
        lab.check(60, &[SHOWN_A, DEEP]).await;
    }
    double.set("/nerve/llm/a", "");
    lab.check(2, &[DEEP]).await;
    assert_eq!(lab.job.errors(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_fails_leaves_the_targets_as_they_were() {
    let (mut lab, double) = lab(NERVE);
    double.set("/nerve/llm/a", A);
    lab.check(1, &[SHOWN_A, DEEP]).await;
    let moods = [
        (Mood::Away, "zk1: connect: connection refused"),
        (Mood::Mute, "zk1: no answer within "),
        (Mood::Refuses, "zk1: the server refused the session"),
        (Mood::Fails(-102), "zk1: /nerve/llm: error -102, not allowed to read"),
        (Mood::Confused, "zk1: an answer that is not understood: it is to another request"),
        (Mood::Raw(b"\0\0\0\x01\0"), "zk1: an answer that is not understood: it ends early"),
        (Mood::Raw(b"\x7f\xff\xff\xff"), "zk1: an answer of 2147483647 bytes, more than the limit of 16777216"),
        (Mood::Raw(b"\xff\xff\xff\xff"), "zk1: an answer that is not understood: a negative length"),
        (Mood::Raw(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "zk1: an answer of 1213486160 bytes"),
    ];
    for (mood, said) in moods {
        double.mood("zk1:2181", mood);
        double.hang_up();
        let mut heard = Vec::new();
        for _ in 0..90 {
            lab.secs(1).await;
            assert_eq!(lab.shown(), [SHOWN_A, DEEP], "{said}");
            heard.extend(lab.job.errors());
        }
        assert!(heard.iter().any(|error| error.contains(said)), "{said}: {heard:?}");
        assert!(heard.iter().any(|error| error.contains("zk2:2182: connect: connection refused")), "{said}: {heard:?}");
        double.mood("zk1:2181", Mood::Good);
        lab.check(90, &[SHOWN_A, DEEP]).await;
        assert_eq!(lab.job.errors(), Vec::<String>::new(), "{said}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_next_server_tells_what_changed_meanwhile() {
    let (mut lab, double) = lab(NERVE);
    double.set("/nerve/llm/a", A);
    lab.check(1, &[SHOWN_A, DEEP]).await;
    double.mood("zk1:2181", Mood::Away);
    double.mood("zk2:2182", Mood::Good);
    double.hang_up();
    double.remove("/other/deeper/m");
    lab.check(5, &[SHOWN_A]).await;
}

#[tokio::test(start_paused = true)]
async fn a_quiet_session_is_kept_up_and_a_dead_one_given_up() {
    let (mut lab, double) = lab(NERVE);
    lab.secs(3600).await;
    let counts = |double: &Double| {
        let state = double.0.lock().unwrap();
        (state.n_sessions, state.n_pings)
    };
    // Ten seconds, of which each third is asked in.
    let (n_sessions, n_pings) = counts(&double);
    assert!(n_sessions == 1 && (1070..=1090).contains(&n_pings), "{n_pings}");
    double.mood("zk1:2181", Mood::Mute);
    lab.secs(30).await;
    assert_eq!((lab.job.errors().len(), lab.shown()), (1, vec![DEEP.to_owned()]));
}

#[test]
fn servers_are_hosts_with_or_without_ports() {
    for (server, expected) in [("a", ("a", 2181)), ("a:1", ("a", 1)), ("[::1]:2", ("::1", 2)), ("[::1]", ("::1", 2181))]
    {
        assert_eq!(address(server), expected);
    }
}
