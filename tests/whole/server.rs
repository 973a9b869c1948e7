//! The binary as a child process: started as a user starts it, stopped by signal or killed.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::client;

/// How long a start may take on a loaded machine.
const START_MAX: Duration = Duration::from_secs(60);

/// A running server; killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) addr: SocketAddr,
}

impl Server {
    /// Starts `promontory ARGS` on a free port and waits until it is ready.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_below("", args)
    }

    /// Does so where everything is below `path`.
    pub(crate) fn start_below(path: &str, args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_promontory"))
            .args(args)
            .arg("--web.listen-address=127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let stderr = child.stderr.take().expect("stderr is piped");
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if let Some(address) = line.split("address=").nth(1) {
                    let address = address.split_whitespace().next().unwrap_or("").trim_matches('"');
                    let _ = tell.send(address.parse::<SocketAddr>());
                }
                eprintln!("  promontory: {line}");
            }
        });
        let addr = told.recv_timeout(START_MAX).expect("the server says where it listens").expect("an address");
        let server = Self { child, addr };
        server.wait_until("ready", || client::get(addr, &format!("{path}/-/ready")).is_ok_and(|r| r.status == 200));
        server
    }

    /// Most memory that it ever took.
    pub(crate) fn peak_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the process lives");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// Polls `condition` until it holds.
    pub(crate) fn wait_until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        wait_until(what, START_MAX, &mut condition);
    }

    /// Ends the process at once, as a crash would.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("the process can be killed");
        self.child.wait().expect("the process ends");
    }

    /// Asks the process to end, and gives its exit code.
    pub(crate) fn terminate(mut self) -> i32 {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
        self.child.wait().expect("the process ends").code().unwrap_or(-1)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Polls `condition` every 50 ms until it holds; fails after `limit`.
#[track_caller]
pub(crate) fn wait_until(what: &str, limit: Duration, condition: &mut dyn FnMut() -> bool) {
    assert!(wait_until_or(limit, condition), "waited {limit:?} for {what}");
}

/// The same, answering whether it came to hold.
#[expect(clippy::disallowed_methods, reason = "waiting for another process takes real time")]
pub(crate) fn wait_until_or(limit: Duration, condition: &mut dyn FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !condition() {
        if start.elapsed() >= limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    true
}

/// Whether a program of another project is installed; says loudly when a test is skipped for want of it.
pub(crate) fn peer(program: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()));
    if !found {
        assert!(std::env::var_os("PEERS_REQUIRED").is_none(), "{program} is not installed, and PEERS_REQUIRED is set");
        eprintln!("SKIPPED: {program} is not installed");
    }
    found
}

/// Text of a path for a flag.
pub(crate) fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}
