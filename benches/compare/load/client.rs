//! A small HTTP/1.1 client on one kept-alive connection to this machine, and the sender of remote write 1.0.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use crate::workload::{Sample, put_varint};

const TIMEOUT: Duration = Duration::from_secs(600);
/// Bytes of an answer; more is refused.
const ANSWER_BYTES_MAX: u64 = 1 << 30;
/// A refused request is tried again this often.
const TRIES_MAX: usize = 600;

/// An answer to a request.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// A connection that is opened when it is needed.
pub(crate) struct Client {
    port: u16,
    stream: Option<BufReader<TcpStream>>,
}

/// A port that nobody listens on at the moment.
pub(crate) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

impl Client {
    pub(crate) fn new(port: u16) -> Self {
        Self { port, stream: None }
    }

    pub(crate) fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.exchange(&format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"), &[])
    }

    pub(crate) fn post(&mut self, path: &str, headers: &str, body: &[u8]) -> io::Result<Answer> {
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n{headers}\r\n");
        self.exchange(&head, body)
    }

    /// Waits until `path` answers 200.
    pub(crate) fn wait_until_ready(&mut self, path: &str, longest: Duration) -> io::Result<()> {
        const PAUSE: Duration = Duration::from_millis(1);
        for _ in 0..longest.as_millis() {
            if self.get(path).is_ok_and(|a| a.status == 200) {
                return Ok(());
            }
            self.stream = None;
            std::thread::sleep(PAUSE);
        }
        Err(io::Error::other(format!("port {} does not answer {path}", self.port)))
    }

    fn exchange(&mut self, head: &str, body: &[u8]) -> io::Result<Answer> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(TIMEOUT))?;
                BufReader::with_capacity(1 << 16, stream)
            }
        };
        stream.get_mut().write_all(&[head.as_bytes(), body].concat())?;
        let (answer, keeps) = read_answer(&mut stream)?;
        if keeps {
            self.stream = Some(stream);
        }
        Ok(answer)
    }
}

fn read_line(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    line.truncate(line.trim_end().len());
    Ok(line)
}

fn read_answer(stream: &mut BufReader<TcpStream>) -> io::Result<(Answer, bool)> {
    let bad = |line: &str| io::Error::other(format!("no HTTP answer: {line:?}"));
    let line = read_line(stream)?;
    let status = line.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(|| bad(&line))?;
    let (mut length, mut chunked, mut keeps) = (0, false, true);
    loop {
        let line = read_line(stream)?.to_ascii_lowercase();
        let Some((name, value)) = line.split_once(':') else { break };
        match (name, value.trim()) {
            ("content-length", n) => length = n.parse::<u64>().map_err(|_| bad(&line))?,
            ("transfer-encoding", "chunked") => chunked = true,
            ("connection", "close") => keeps = false,
            _ => {}
        }
    }
    let mut body = Vec::new();
    let mut take = |stream: &mut BufReader<TcpStream>, n: u64| {
        if body.len() as u64 + n > ANSWER_BYTES_MAX {
            return Err(io::Error::other("answer of more than 1 GiB"));
        }
        let got = stream.take(n).read_to_end(&mut body)?;
        if got as u64 == n { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    };
    if chunked {
        loop {
            let line = read_line(stream)?;
            let n = u64::from_str_radix(&line, 16).map_err(|_| bad(&line))?;
            take(stream, n)?;
            read_line(stream)?;
            if n == 0 {
                break;
            }
        }
    } else {
        take(stream, length)?;
    }
    Ok((Answer { status, body }, keeps))
}

/// Sends samples as an agent does: requests of a fixed number of samples, one at a time.
pub(crate) struct Sender {
    client: Client,
    /// Samples of one request.
    batch: usize,
    waiting: Vec<Sample>,
    message: Vec<u8>,
    encoder: snap::raw::Encoder,
    pub(crate) n_sent: u64,
    pub(crate) n_requests: u64,
    pub(crate) bytes_sent: u64,
}

impl Sender {
    pub(crate) fn new(port: u16, batch: usize) -> Self {
        Self {
            client: Client::new(port),
            batch,
            waiting: Vec::new(),
            message: Vec::new(),
            encoder: snap::raw::Encoder::new(),
            n_sent: 0,
            n_requests: 0,
            bytes_sent: 0,
        }
    }

    /// Takes samples and sends whole requests of them.
    pub(crate) fn send(&mut self, labels: &[Vec<u8>], samples: &[Sample]) -> io::Result<()> {
        self.waiting.extend_from_slice(samples);
        let whole = self.waiting.len() / self.batch * self.batch;
        for at in (0..whole).step_by(self.batch) {
            self.request(labels, at..at + self.batch)?;
        }
        self.waiting.drain(..whole);
        Ok(())
    }

    /// Sends what is left.
    pub(crate) fn flush(&mut self, labels: &[Vec<u8>]) -> io::Result<()> {
        if !self.waiting.is_empty() {
            self.request(labels, 0..self.waiting.len())?;
        }
        self.waiting.clear();
        Ok(())
    }

    fn request(&mut self, labels: &[Vec<u8>], samples: std::ops::Range<usize>) -> io::Result<()> {
        const HEADERS: &str = "Content-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\n\
                               X-Prometheus-Remote-Write-Version: 0.1.0\r\n";
        self.message.clear();
        for &(series, t, value) in &self.waiting[samples.clone()] {
            put_series(&mut self.message, &labels[series as usize], t, value);
        }
        let body = self.encoder.compress_vec(&self.message).map_err(io::Error::other)?;
        for _ in 0..TRIES_MAX {
            let answer = self.client.post("/api/v1/write", HEADERS, &body)?;
            if answer.status / 100 == 2 {
                self.n_sent += samples.len() as u64;
                self.n_requests += 1;
                self.bytes_sent += body.len() as u64;
                return Ok(());
            }
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            if answer.status != 429 && answer.status != 503 {
                return Err(io::Error::other(format!("remote write: {} {text}", answer.status)));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Err(io::Error::other("remote write is refused for too long"))
    }
}

/// Field `timeseries` of a `WriteRequest`.
fn put_series(out: &mut Vec<u8>, labels: &[u8], t: i64, value: f64) {
    let mut sample = [0; 32];
    sample[0] = 0x09;
    sample[1..9].copy_from_slice(&value.to_bits().to_le_bytes());
    sample[9] = 0x10;
    let mut time = Vec::with_capacity(10);
    put_varint(&mut time, t as u64);
    sample[10..10 + time.len()].copy_from_slice(&time);
    let sample = &sample[..10 + time.len()];
    out.push(0x0a);
    put_varint(out, (labels.len() + 2 + sample.len()) as u64);
    out.extend_from_slice(labels);
    out.extend_from_slice(&[0x12, sample.len() as u8]);
    out.extend_from_slice(sample);
}
