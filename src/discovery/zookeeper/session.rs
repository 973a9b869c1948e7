//! A session with a ZooKeeper server: reads nodes, and hears when they change.
//!
//! Requests are answered in order, so that many are under way at once; a watch tells of one change, and reading the node
//! sets it again. Knows nothing of what nodes hold. A session that is lost is not taken up again: whoever reads has
//! nothing on the server that ends with it.
//!
//! # Source
//! The records of ZooKeeper's `zookeeper.jute`: numbers with the highest byte first, texts and buffers after their
//! length, each packet after its own.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::client::{Connecting, Connector, Stream};

/// Bytes of one answer. Servers send no node above 1 MiB unless told, but lists of children.
pub(super) const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Bytes that are read at once.
const READ_BYTES: usize = 16 << 10;

const GET_DATA: i32 = 4;
const GET_CHILDREN: i32 = 8;
const EXISTS: i32 = 3;
const PING: i32 = 11;
/// Numbers of what answers no request: news of a watch, and answers to pings.
const NEWS: i32 = -1;
const PONG: i32 = -2;
const NO_NODE: i32 = -101;

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(in crate::discovery) enum SessionError {
    #[error("connect: {0}")]
    Connect(io::Error),
    #[error("the connection broke: {0}")]
    Broken(io::Error),
    #[error("the server closed the connection")]
    Closed,
    #[error("the server refused the session")]
    Refused,
    #[error("no answer within {} ms", allowed.as_millis())]
    Silent { allowed: Duration },
    #[error("an answer of {bytes} bytes, more than the limit of {ANSWER_BYTES_MAX}")]
    TooLong { bytes: usize },
    #[error("an answer that is not understood: {what}")]
    Garbled { what: &'static str },
    #[error("{path}: error {code}{}", meaning(*code))]
    Node { path: String, code: i32 },
}

fn meaning(code: i32) -> &'static str {
    match code {
        -4 => ", connection lost",
        -102 => ", not allowed to read",
        -112 => ", session expired",
        _ => "",
    }
}

/// What a node holds.
#[derive(Debug, PartialEq)]
pub(super) struct Node {
    pub(super) data: Bytes,
    /// Names, without the path.
    pub(super) children: Vec<String>,
}

/// A session, which ends when it is dropped.
pub(super) struct Session {
    stream: Box<dyn Stream>,
    read: BytesMut,
    /// Time after which either side gives the other up.
    timeout: Duration,
    next_number: i32,
    /// Nodes of which there is news.
    changed: BTreeSet<String>,
}

impl Session {
    /// A session with the server at `host` and `port`, which may grant another `timeout`.
    pub(super) async fn open(
        connector: &dyn Connector,
        (host, port): (&str, u16),
        timeout: Duration,
    ) -> Result<Self, SessionError> {
        let opening = async {
            let stream = connector.connect(host, port).await.map_err(SessionError::Connect)?;
            let (read, changed) = (BytesMut::new(), BTreeSet::new());
            let mut session = Self { stream, read, timeout, next_number: 1, changed };
            let mut hello = Packet::new();
            let wanted_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
            // Protocol 0, nothing seen, no session to take up again, and not from a server that has lost the others.
            hello.i32(0).i64(0).i32(wanted_ms).i64(0).buffer(&[0; 16]).bool(false);
            session.send(&hello.end()).await?;
            let mut answer = session.packet().await?;
            let (_version, granted_ms, _id) = (i32_of(&mut answer)?, i32_of(&mut answer)?, i64_of(&mut answer)?);
            let granted_ms = u64::try_from(granted_ms).ok().filter(|ms| *ms > 0).ok_or(SessionError::Refused)?;
            session.timeout = Duration::from_millis(granted_ms);
            Ok(session)
        };
        tokio::time::timeout(timeout, opening).await.unwrap_or(Err(SessionError::Silent { allowed: timeout }))
    }

    /// What is at each of `paths` and to be heard of when it changes; `None` where nothing is.
    pub(super) async fn nodes(&mut self, paths: &[String]) -> Result<Vec<Option<Node>>, SessionError> {
        let first = self.request(GET_DATA, GET_CHILDREN, paths).await?;
        let mut out = Vec::with_capacity(paths.len());
        for (number, path) in (first..).step_by(2).zip(paths) {
            let data = self.answer(number, path).await?.map(|mut answer| buffer_of(&mut answer)).transpose()?;
            let children = self.answer(number + 1, path).await?.map(texts_of).transpose()?;
            out.push(data.zip(children).map(|(data, children)| Node { data, children }));
        }
        Ok(out)
    }

    /// Lets it be heard of when `path`, where nothing was, is made.
    pub(super) async fn await_node(&mut self, path: &str) -> Result<(), SessionError> {
        let number = self.number(1);
        let mut packet = Packet::new();
        packet.i32(number).i32(EXISTS).buffer(path.as_bytes()).bool(true);
        self.send(&packet.end()).await?;
        if self.answer(number, path).await?.is_some() {
            self.changed.insert(path.to_owned());
        }
        Ok(())
    }

    /// Waits for news, and for `pace`, within which there may be more.
    pub(super) async fn changes(&mut self, pace: Duration) -> Result<BTreeSet<String>, SessionError> {
        let patience = self.timeout / 3;
        let mut is_asked = false;
        while self.changed.is_empty() {
            match tokio::time::timeout(patience, self.packet()).await {
                Ok(packet) => {
                    self.hear(&mut packet?)?;
                    is_asked = false;
                }
                Err(_) if is_asked => return Err(SessionError::Silent { allowed: patience }),
                Err(_) => {
                    let mut ping = Packet::new();
                    ping.i32(PONG).i32(PING);
                    self.send(&ping.end()).await?;
                    is_asked = true;
                }
            }
        }
        let more = async {
            loop {
                let mut packet = self.packet().await?;
                self.hear(&mut packet)?;
            }
        };
        match tokio::time::timeout(pace.min(patience), more).await {
            Ok(error) => error,
            Err(_) => Ok(std::mem::take(&mut self.changed)),
        }
    }

    /// Asks for both kinds of thing of each path, and says the number of the first request.
    async fn request(&mut self, one: i32, other: i32, paths: &[String]) -> Result<i32, SessionError> {
        let first = self.number(i32::try_from(2 * paths.len()).unwrap_or(i32::MAX));
        let mut packets = Vec::new();
        for (number, path) in (first..).step_by(2).zip(paths) {
            for (number, kind) in [(number, one), (number + 1, other)] {
                let mut packet = Packet::new();
                packet.i32(number).i32(kind).buffer(path.as_bytes()).bool(true);
                packets.extend(packet.end());
            }
        }
        self.send(&packets).await?;
        Ok(first)
    }

    /// The first of `n` numbers of requests; they begin anew long before they end.
    fn number(&mut self, n: i32) -> i32 {
        if self.next_number > i32::MAX / 2 {
            self.next_number = 1;
        }
        let first = self.next_number;
        self.next_number += n;
        first
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), SessionError> {
        let allowed = self.timeout;
        let sent = tokio::time::timeout(allowed, self.stream.write_all(bytes)).await;
        sent.map_err(|_| SessionError::Silent { allowed })?.map_err(SessionError::Broken)
    }

    /// What the request `number` for `path` is answered with; nothing if there is no such node.
    async fn answer(&mut self, number: i32, path: &str) -> Result<Option<Bytes>, SessionError> {
        let allowed = self.timeout;
        loop {
            let packet = tokio::time::timeout(allowed, self.packet()).await;
            let mut packet = packet.map_err(|_| SessionError::Silent { allowed })??;
            if let Some((answered, code)) = self.hear(&mut packet)? {
                return match code {
                    _ if answered != number => Err(SessionError::Garbled { what: "it is to another request" }),
                    0 => Ok(Some(packet)),
                    NO_NODE => Ok(None),
                    code => Err(SessionError::Node { path: path.to_owned(), code }),
                };
            }
        }
    }

    /// Takes what is news out of `packet`, or else the number of the request that it answers and the error.
    fn hear(&mut self, packet: &mut Bytes) -> Result<Option<(i32, i32)>, SessionError> {
        let (number, _change, code) = (i32_of(packet)?, i64_of(packet)?, i32_of(packet)?);
        match number {
            PONG => Ok(None),
            NEWS => {
                let (kind, _state) = (i32_of(packet)?, i32_of(packet)?);
                // Others tell of the session, whose end is seen by the end of the connection.
                if kind > 0 {
                    self.changed.insert(text_of(packet)?);
                }
                Ok(None)
            }
            number => Ok(Some((number, code))),
        }
    }

    /// The next packet, without its length.
    ///
    /// May be dropped while it waits; nothing is lost then.
    async fn packet(&mut self) -> Result<Bytes, SessionError> {
        loop {
            if let Some(length) = self.read.first_chunk::<4>() {
                let length = i32::from_be_bytes(*length);
                let length =
                    usize::try_from(length).map_err(|_| SessionError::Garbled { what: "a negative length" })?;
                if length > ANSWER_BYTES_MAX {
                    return Err(SessionError::TooLong { bytes: length });
                }
                if self.read.len() >= 4 + length {
                    self.read.advance(4);
                    return Ok(self.read.split_to(length).freeze());
                }
            }
            self.read.reserve(READ_BYTES);
            if self.stream.read_buf(&mut self.read).await.map_err(SessionError::Broken)? == 0 {
                return Err(SessionError::Closed);
            }
        }
    }
}

/// What is sent.
pub(super) struct Packet(Vec<u8>);

impl Packet {
    pub(super) fn new() -> Self {
        Self(vec![0; 4])
    }

    pub(super) fn i32(&mut self, number: i32) -> &mut Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    pub(super) fn i64(&mut self, number: i64) -> &mut Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    pub(super) fn bool(&mut self, value: bool) -> &mut Self {
        self.0.push(value.into());
        self
    }

    /// A buffer or a text, which are written alike.
    pub(super) fn buffer(&mut self, bytes: &[u8]) -> &mut Self {
        self.i32(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
        self.0.extend(bytes);
        self
    }

    /// All of it, after its length.
    pub(super) fn end(mut self) -> Vec<u8> {
        let length = i32::try_from(self.0.len() - 4).unwrap_or(i32::MAX);
        self.0[..4].copy_from_slice(&length.to_be_bytes());
        self.0
    }
}

const SHORT: SessionError = SessionError::Garbled { what: "it ends early" };

pub(super) fn i32_of(packet: &mut Bytes) -> Result<i32, SessionError> {
    packet.try_get_i32().map_err(|_| SHORT)
}

pub(super) fn i64_of(packet: &mut Bytes) -> Result<i64, SessionError> {
    packet.try_get_i64().map_err(|_| SHORT)
}

/// A buffer; one that is not there has the length -1.
pub(super) fn buffer_of(packet: &mut Bytes) -> Result<Bytes, SessionError> {
    match usize::try_from(i32_of(packet)?) {
        Ok(length) if length > packet.len() => Err(SHORT),
        Ok(length) => Ok(packet.split_to(length)),
        Err(_) => Ok(Bytes::new()),
    }
}

pub(super) fn text_of(packet: &mut Bytes) -> Result<String, SessionError> {
    String::from_utf8(buffer_of(packet)?.to_vec()).map_err(|_| SessionError::Garbled { what: "a text is not UTF-8" })
}

fn texts_of(mut packet: Bytes) -> Result<Vec<String>, SessionError> {
    // Each text takes bytes of the packet, so that a false number ends soon.
    let length = i32_of(&mut packet)?;
    (0..length).map(|_| text_of(&mut packet)).collect()
}

/// A server that sends this and hears nothing.
#[derive(Debug)]
struct Recorded(Bytes);

impl Connector for Recorded {
    fn connect<'a>(&'a self, _host: &'a str, _port: u16) -> Connecting<'a> {
        let stream = tokio::io::join(io::Cursor::new(self.0.clone()), tokio::io::sink());
        Box::pin(std::future::ready(Ok(Box::new(stream) as Box<dyn Stream>)))
    }
}

/// Whatever a server sends is understood or ends the session, and answers are as many as requests.
pub(super) fn take_any(bytes: &[u8]) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_time().build() else { return };
    let server = Recorded(Bytes::copy_from_slice(bytes));
    runtime.block_on(async {
        let Ok(mut session) = Session::open(&server, ("zk", 2181), Duration::from_secs(1)).await else { return };
        let paths = ["/a", "/b"].map(str::to_owned);
        while let Ok(found) = session.nodes(&paths).await {
            assert_eq!(found.len(), paths.len());
            if session.await_node("/c").await.is_err() {
                return;
            }
        }
    });
}
