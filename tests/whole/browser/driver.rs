//! A browser driven from outside: Chromium through its own driver, spoken to as the W3C's WebDriver says.
//!
//! One request per command, JSON both ways; nothing of it is needed but the handful of commands below.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::server::{peer, wait_until_or};

/// How long a page may take to come to what a test waits for, on a loaded machine.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// How long one command may take.
const ANSWER_MAX: Duration = Duration::from_secs(90);

/// A Chromium with one window; ends when dropped.
pub(crate) struct Browser {
    driver: Child,
    addr: SocketAddr,
    session: String,
    /// Where the browser keeps its profile; the driver's own choice would be the machine's folder for such files.
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts a browser; `None`, said aloud, where Chromium or its driver is not installed.
    pub(crate) fn start() -> Option<Self> {
        if !peer("chromium") || !peer("chromedriver") {
            return None;
        }
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver starts");
        let mut lines = BufReader::new(driver.stdout.take().expect("stdout is piped")).lines();
        let port = lines.by_ref().map_while(Result::ok).find_map(|line| {
            line.split("successfully on port ").nth(1)?.trim_end_matches('.').trim().parse::<u16>().ok()
        });
        std::thread::spawn(move || lines.for_each(drop));
        let addr = SocketAddr::from(([127, 0, 0, 1], port.expect("chromedriver says its port")));
        let profile = tempfile::tempdir().expect("a temporary folder");
        let mut browser = Self { driver, addr, session: String::new(), _profile: profile };
        let arguments = [
            "--headless=new".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-quic".to_owned(),
            "--no-first-run".to_owned(),
            "--disable-background-networking".to_owned(),
            "--disable-component-update".to_owned(),
            "--disable-sync".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--hide-scrollbars".to_owned(),
            // What moves between two pages would swallow clicks.
            "--force-prefers-reduced-motion".to_owned(),
            "--window-size=1440,900".to_owned(),
            format!("--user-data-dir={}", browser._profile.path().display()),
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "timeouts": {"pageLoad": 60_000, "script": 60_000},
            "goog:chromeOptions": {"args": arguments, "binary": "/usr/bin/chromium"},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let made = browser.send("POST", "/session", &wanted);
        browser.session = made["sessionId"].as_str().expect("a session").to_owned();
        Some(browser)
    }

    fn send(&self, method: &str, path: &str, body: &Value) -> Value {
        let text = if method == "POST" { body.to_string() } else { String::new() };
        let (status, mut answer) = ask(self.addr, method, path, &text).expect("the driver answers");
        let value = answer["value"].take();
        assert_eq!(status, 200, "{method} {path} {text}: {value}");
        value
    }

    fn command(&self, path: &str, body: &Value) -> Value {
        self.send("POST", &format!("/session/{}{path}", self.session), body)
    }

    /// Goes to an address and waits until the page is loaded.
    pub(crate) fn goto(&self, url: &str) {
        self.command("/url", &json!({"url": url}));
    }

    /// The address of the page.
    pub(crate) fn url(&self) -> String {
        let url = self.send("GET", &format!("/session/{}/url", self.session), &Value::Null);
        url.as_str().expect("an address").to_owned()
    }

    /// What `script`, the body of a function, gives.
    pub(crate) fn js(&self, script: &str) -> Value {
        self.command("/execute/sync", &json!({"script": script, "args": []}))
    }

    /// The text of what `script` gives.
    pub(crate) fn text(&self, script: &str) -> String {
        match self.js(script) {
            Value::String(text) => text,
            other => other.to_string(),
        }
    }

    /// Waits until `script` gives something true.
    #[track_caller]
    pub(crate) fn until(&self, script: &str) {
        let holds = wait_until_or(WAIT_MAX, &mut || self.js(script) == json!(true));
        assert!(holds, "never true: {script}; at {}: {}", self.url(), self.text("return document.body.innerText"));
    }

    /// Waits until `script` is true of a page that the last action led to.
    #[track_caller]
    pub(crate) fn until_at(&self, part_of_url: &str, script: &str) {
        let holds = wait_until_or(WAIT_MAX, &mut || {
            self.url().contains(part_of_url) && self.js("return document.readyState") == json!("complete")
        });
        assert!(holds, "never came to {part_of_url}, but to {}", self.url());
        self.until(script);
    }

    /// Moves, presses and releases the mouse, as pointer actions of the protocol.
    fn pointer(&self, actions: &[Value]) {
        let source =
            json!({"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": actions});
        self.command("/actions", &json!({"actions": [source]}));
    }

    /// The point of an element at two shares of its size.
    fn point(&self, selector: &str, x: f64, y: f64) -> (i64, i64) {
        let script = format!(
            "const e = document.querySelector({selector}); if (!e) return null;
             e.scrollIntoView({{block: 'nearest'}}); const b = e.getBoundingClientRect();
             return [Math.round(b.left + b.width * {x}), Math.round(b.top + b.height * {y})];",
            selector = json!(selector)
        );
        let at = self.js(&script);
        match (at[0].as_i64(), at[1].as_i64()) {
            (Some(x), Some(y)) => (x, y),
            _ => panic!("no {selector} on {}", self.url()),
        }
    }

    /// Moves the mouse to a point of an element.
    pub(crate) fn hover(&self, selector: &str, x: f64, y: f64) {
        let (x, y) = self.point(selector, x, y);
        self.pointer(&[
            json!({"type": "pointerMove", "x": x - 3, "y": y, "duration": 0}),
            json!({"type": "pointerMove", "x": x, "y": y, "duration": 50}),
        ]);
    }

    /// Clicks the middle of an element.
    pub(crate) fn click(&self, selector: &str) {
        let (x, y) = self.point(selector, 0.5, 0.5);
        self.pointer(&[
            json!({"type": "pointerMove", "x": x, "y": y, "duration": 0}),
            json!({"type": "pointerDown", "button": 0}),
            json!({"type": "pointerUp", "button": 0}),
        ]);
    }

    /// Clicks twice, however slow the machine is.
    pub(crate) fn double_click(&self, selector: &str) {
        let event = "new MouseEvent('dblclick', {bubbles: true})";
        self.js(&format!("document.querySelector({}).dispatchEvent({event})", json!(selector)));
    }

    /// Drags from one share of an element's width to another.
    pub(crate) fn drag(&self, selector: &str, from: f64, to: f64) {
        let ((x1, y), (x2, _)) = (self.point(selector, from, 0.5), self.point(selector, to, 0.5));
        self.pointer(&[
            json!({"type": "pointerMove", "x": x1, "y": y, "duration": 0}),
            json!({"type": "pointerDown", "button": 0}),
            json!({"type": "pointerMove", "x": (x1 + x2) / 2, "y": y, "duration": 50}),
            json!({"type": "pointerMove", "x": x2, "y": y, "duration": 50}),
            json!({"type": "pointerUp", "button": 0}),
        ]);
    }

    /// Presses keys one after the other, wherever the focus is.
    pub(crate) fn keys(&self, text: &str) {
        let press = |c: char| {
            let c = c.to_string();
            [json!({"type": "keyDown", "value": c}), json!({"type": "keyUp", "value": c})]
        };
        let actions: Vec<Value> = text.chars().flat_map(press).collect();
        self.command("/actions", &json!({"actions": [{"type": "key", "id": "keys", "actions": actions}]}));
    }

    /// Sets the size of the window.
    pub(crate) fn resize(&self, width: u32, height: u32) {
        self.command("/window/rect", &json!({"width": width, "height": height}));
    }

    /// Everything that the console holds since it was last read: errors, warnings, breaches of the page's policy.
    pub(crate) fn console(&self) -> Vec<String> {
        let entries = self.command("/se/log", &json!({"type": "browser"}));
        let text = |e: &Value| format!("{} {}", e["level"].as_str().unwrap_or(""), e["message"].as_str().unwrap_or(""));
        entries.as_array().map(|all| all.iter().map(text).collect()).unwrap_or_default()
    }

    /// Fails when the console holds anything but answers that refuse a request.
    #[track_caller]
    pub(crate) fn expect_refusals_only(&self) {
        let mut found = self.console();
        found.retain(|line| !line.contains("the server responded with a status of 4"));
        assert_eq!(found, Vec::<String>::new(), "at {}", self.url());
    }

    /// Fails when the console holds anything.
    #[track_caller]
    pub(crate) fn expect_quiet(&self) {
        assert_eq!(self.console(), Vec::<String>::new(), "at {}", self.url());
    }
}

/// One request. The driver keeps its connections, so that the answer ends where its head says.
fn ask(addr: SocketAddr, method: &str, path: &str, body: &str) -> std::io::Result<(u16, Value)> {
    let mut stream = TcpStream::connect_timeout(&addr, ANSWER_MAX)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {addr}\r\nContent-Type: application/json; charset=utf-8\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes())?;
    let mut reader = BufReader::new(stream);
    let (mut status, mut length) = (0, 0);
    for i in 0.. {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if i == 0 {
            status = line.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut text = vec![0; length];
    reader.read_exact(&mut text)?;
    Ok((status, serde_json::from_slice(&text).unwrap_or(Value::Null)))
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() && !std::thread::panicking() {
            self.send("DELETE", &format!("/session/{}", self.session), &Value::Null);
        } else if !self.session.is_empty() {
            let _ = ask(self.addr, "DELETE", &format!("/session/{}", self.session), "");
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
