//! The servers that are compared: how each is started, asked whether it is ready, and measured from outside.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use promontory_storage::clock::{Clock as _, SystemClock};

use crate::client::{Client, free_port};

/// Name of the configuration in the folder of a server.
const CONFIG: &str = "scrape.yml";

/// Ticks of processor time per second, which is 100 on every Linux of today.
const TICKS_PER_S: f64 = 100.0;

/// A server of the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum System {
    Promontory,
    VictoriaMetrics,
    Prometheus,
}

impl System {
    pub(crate) const ALL: [Self; 3] = [Self::Promontory, Self::VictoriaMetrics, Self::Prometheus];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Promontory => "Promontory",
            Self::VictoriaMetrics => "VictoriaMetrics",
            Self::Prometheus => "Prometheus",
        }
    }

    fn ready_path(self) -> &'static str {
        match self {
            Self::VictoriaMetrics => "/health",
            Self::Promontory | Self::Prometheus => "/-/ready",
        }
    }

    /// What a query needs so that it is not answered from the results of earlier ones.
    pub(crate) fn uncached(self) -> &'static str {
        if self == Self::Prometheus { "" } else { "&nocache=1" }
    }
}

/// A running server with a data folder of its own.
pub(crate) struct Server {
    pub(crate) system: System,
    binary: PathBuf,
    folder: PathBuf,
    pub(crate) port: u16,
    child: Child,
    clock: SystemClock,
}

/// Memory of a process in MiB.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    pub(crate) resident: f64,
    pub(crate) anonymous: f64,
    /// The most that was ever resident, or since [`Server::forget_peak`].
    pub(crate) peak: f64,
}

impl Server {
    /// Starts the server on the new `folder` and waits until it is ready. `config` is what it scrapes, in Prometheus'
    /// format; empty is nothing.
    pub(crate) fn start(system: System, binary: &Path, folder: &Path, config: &str) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        fs::write(folder.join(CONFIG), if config.is_empty() { "global: {}\n" } else { config })?;
        let port = free_port()?;
        let child = spawn(system, binary, folder, port)?;
        let mut server = Self {
            system,
            binary: binary.to_owned(),
            folder: folder.to_owned(),
            port,
            child,
            clock: SystemClock::new(),
        };
        server.wait_until_ready()?;
        Ok(server)
    }

    fn wait_until_ready(&mut self) -> io::Result<()> {
        Client::new(self.port).wait_until_ready(self.system.ready_path(), Duration::from_secs(120))
    }

    /// Ends the process without warning, starts it again and gives the seconds until it was ready.
    pub(crate) fn kill_and_restart(&mut self) -> io::Result<f64> {
        self.child.kill()?;
        self.child.wait()?;
        let start = self.clock.monotonic_ns();
        self.child = spawn(self.system, &self.binary, &self.folder, self.port)?;
        self.wait_until_ready()?;
        Ok((self.clock.monotonic_ns() - start) as f64 / 1e9)
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.port)
    }

    /// User and system time so far, s.
    pub(crate) fn cpu_s(&self) -> io::Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name in parentheses may hold spaces.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
        Ok((ticks(11) + ticks(12)) / TICKS_PER_S)
    }

    pub(crate) fn memory(&self) -> io::Result<Memory> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let mib = |key: &str| {
            let line = status.lines().find(|l| l.starts_with(key)).unwrap_or("");
            line.split_whitespace().nth(1).and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
        };
        Ok(Memory { resident: mib("VmRSS:"), anonymous: mib("RssAnon:"), peak: mib("VmHWM:") })
    }

    /// From now on the peak of the memory is counted anew.
    pub(crate) fn forget_peak(&self) -> io::Result<()> {
        fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5")
    }

    /// Bytes that the process had written to files.
    pub(crate) fn written_bytes(&self) -> io::Result<f64> {
        let text = fs::read_to_string(format!("/proc/{}/io", self.child.id()))?;
        let line = text.lines().find(|l| l.starts_with("write_bytes:")).unwrap_or("");
        Ok(line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0.0))
    }

    /// Waits until the server has nothing to do: less than 4 % of a processor for two seconds.
    pub(crate) fn settle(&self, longest_s: u32) -> io::Result<()> {
        let (mut last, mut quiet) = (self.cpu_s()?, 0);
        for _ in 0..longest_s {
            std::thread::sleep(Duration::from_secs(1));
            let now = self.cpu_s()?;
            quiet = if now - last < 0.04 { quiet + 1 } else { 0 };
            last = now;
            if quiet == 2 {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Bytes of the log that a crash would be replayed from; `None` where there is none.
    pub(crate) fn wal_bytes(&self) -> io::Result<Option<f64>> {
        match self.system {
            System::VictoriaMetrics => Ok(None),
            System::Prometheus => Ok(Some(bytes_below(&self.folder.join("data/wal"))? as f64)),
            // Segments go with each checkpoint, so the written ones are counted.
            System::Promontory => {
                let text = self.client().get("/metrics")?.body;
                let text = String::from_utf8_lossy(&text);
                let line = text.lines().find_map(|l| l.strip_prefix("promontory_tsdb_wal_written_bytes_total "));
                Ok(line.and_then(|n| n.parse().ok()))
            }
        }
    }

    /// Lets the server write what it would keep in memory for a while.
    pub(crate) fn flush(&self) -> io::Result<()> {
        if self.system == System::VictoriaMetrics {
            self.client().get("/internal/force_flush")?;
            // That makes samples visible; files come every five seconds.
            std::thread::sleep(Duration::from_secs(7));
        }
        Ok(())
    }

    /// Bytes per sample with the index, when everything is in its final form; the server shows `n_samples`.
    pub(crate) fn final_bytes_per_sample(&self, n_samples: u64) -> io::Result<f64> {
        let mut client = self.client();
        let data = self.folder.join("data");
        let bytes = match self.system {
            System::VictoriaMetrics => {
                self.flush()?;
                client.get("/internal/force_merge")?;
                std::thread::sleep(Duration::from_secs(1));
                self.settle(120)?;
                bytes_below(&data.join("data"))? + bytes_below(&data.join("indexdb"))?
            }
            System::Prometheus | System::Promontory => {
                let answer = client.post("/api/v1/admin/tsdb/snapshot", "", &[])?;
                let answer: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
                match answer["data"]["name"].as_str() {
                    Some(name) => bytes_below(&data.join("snapshots").join(name))?,
                    None => return Err(io::Error::other(format!("{}: no snapshot: {answer}", self.system.name()))),
                }
            }
        };
        Ok(bytes as f64 / n_samples.max(1) as f64)
    }

    /// Ends the process and removes its folder.
    pub(crate) fn stop(mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        fs::remove_dir_all(&self.folder)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(system: System, binary: &Path, folder: &Path, port: u16) -> io::Result<Child> {
    let mut command = Command::new(binary);
    let (data, config) = (folder.join("data"), folder.join(CONFIG));
    let flag = |name: &str, path: &Path| format!("{name}={}", path.display());
    match system {
        System::Promontory => command.arg(format!("--web.listen-address=127.0.0.1:{port}")).args([
            "--web.enable-remote-write-receiver",
            "--web.enable-admin-api",
            "--log.level=error",
            "--storage.tsdb.retention.time=400d",
        ]),
        System::Prometheus => command
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(["--web.enable-remote-write-receiver", "--web.enable-admin-api", "--log.level=error"])
            .arg("--storage.tsdb.retention.time=400d"),
        System::VictoriaMetrics => command
            .arg(format!("-httpListenAddr=127.0.0.1:{port}"))
            .args(["-loggerLevel=ERROR", "-http.connTimeout=2h", "-retentionPeriod=400d", "-search.latencyOffset=0s"])
            .args([
                "-search.maxUniqueTimeseries=2000000",
                "-search.maxSamplesPerQuery=2000000000",
                "-search.maxQueryDuration=10m",
            ]),
    };
    match system {
        System::VictoriaMetrics => {
            command.arg(flag("-storageDataPath", &data)).arg(flag("-promscrape.config", &config))
        }
        _ => command.arg(flag("--config.file", &config)).arg(flag("--storage.tsdb.path", &data)),
    };
    let log = fs::OpenOptions::new().create(true).append(true).open(folder.join("log"))?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()
}

/// Bytes of the files below `folder`, which may not exist or change meanwhile.
fn bytes_below(folder: &Path) -> io::Result<u64> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(0) };
    let mut sum = 0;
    for entry in entries {
        let entry = entry?;
        let Ok(meta) = entry.metadata() else { continue };
        sum += if meta.is_dir() { bytes_below(&entry.path())? } else { meta.len() };
    }
    Ok(sum)
}
