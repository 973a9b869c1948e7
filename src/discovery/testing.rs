//! What tests of mechanisms share: a job with one mechanism, and servers that fail in every way.

use std::sync::Arc;
use std::time::Duration;

use promontory_config::Discovery;
use promontory_model::Timestamp;
use promontory_storage::clock::{Clock, ManualClock};

use super::{JobDiscovery, Providers, Surroundings};
use crate::client::Connector;
use crate::client::testing::{Action, FakeNetwork, answer};

/// A job whose targets are found by one mechanism.
pub(crate) struct Lab {
    pub(crate) network: Arc<FakeNetwork>,
    pub(crate) providers: Providers,
    pub(crate) job: JobDiscovery,
    clock: Arc<ManualClock>,
}

/// The discovery of a job with these fields.
pub(crate) fn discovery(fields: &str) -> Vec<Discovery> {
    let fields = fields.replace('\n', "\n  ");
    let text = format!("scrape_configs:\n- job_name: j\n  {fields}\n");
    let mut config = promontory_config::parse(&text, std::path::Path::new("x.yml")).unwrap_or_else(|e| panic!("{e}"));
    config.scrape_configs.remove(0).discovery
}

/// Surroundings without a network.
pub(crate) fn surroundings() -> Surroundings {
    let clock = Arc::new(ManualClock::new(Timestamp(1_700_000_000_000)));
    Surroundings::new(FakeNetwork::new(), clock)
}

/// An answer in JSON.
pub(crate) fn json(body: &str) -> Vec<Action> {
    vec![answer("200 OK", "Content-Type: application/json\r\n", body.as_bytes())]
}

/// Answers by the beginning of the request, like `GET /v1/x?`; 404 for others.
pub(crate) fn routes(table: &[(&str, &str)]) -> impl Fn(&str) -> Vec<Action> + Send + Sync + use<> {
    let table: Vec<(String, String)> = table.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    move |head| match table.iter().find(|(start, _)| head.starts_with(start.as_str())) {
        Some((_, body)) => json(body),
        None => vec![answer("404 Not Found", "", head.lines().next().unwrap_or_default().as_bytes())],
    }
}

impl Lab {
    /// A job with these fields in a network of its own.
    pub(crate) fn new(fields: &str) -> Self {
        let network = FakeNetwork::new();
        Self::over(fields, network.clone(), network)
    }

    /// The same with other connections.
    pub(crate) fn over(fields: &str, network: Arc<FakeNetwork>, connector: Arc<dyn Connector>) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp(1_700_000_000_000)));
        let surroundings = Surroundings { cloud_scheme: "http", ..Surroundings::new(connector, clock.clone()) };
        let providers = Providers::new(surroundings);
        let job = JobDiscovery::new("j", &discovery(fields), &providers);
        Self { network, providers, job, clock }
    }

    /// Each target with its labels on a line, sorted.
    pub(crate) fn shown(&mut self) -> Vec<String> {
        self.job.poll(self.clock.now());
        let each = |g: &promontory_config::TargetGroup| {
            let labels = g.labels.to_string();
            g.targets.iter().map(|t| format!("{t} {labels}")).collect::<Vec<_>>()
        };
        let mut all: Vec<String> = self.job.groups().flat_map(each).collect();
        all.sort();
        all
    }

    /// Lets `seconds` pass.
    pub(crate) async fn secs(&self, seconds: u64) {
        tokio::time::sleep(Duration::from_millis(seconds * 1000 + 1)).await;
    }

    /// After `seconds` these are the targets.
    #[track_caller]
    pub(crate) fn check<'a>(&'a mut self, seconds: u64, expected: &'a [&'a str]) -> impl Future<Output = ()> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            self.secs(seconds).await;
            let got = self.shown();
            assert_eq!(got, expected, "at {caller}; errors: {:?}", self.job.errors());
        }
    }

    /// Ways in which any server fails, and a part of what is said then.
    pub(crate) fn bad_answers() -> Vec<(Vec<Action>, &'static str)> {
        vec![
            (
                vec![answer("500 Internal Server Error", "", b"no\nway")],
                "HTTP status 500 Internal Server Error: no way",
            ),
            (vec![answer("403 Forbidden", "", b"")], "HTTP status 403 Forbidden"),
            (vec![answer("200 OK", "Content-Type: application/json\r\n", b"[{\"a")], "EOF"),
            (vec![answer("200 OK", "Content-Type: application/json\r\n", b"\xff\xfe")], ""),
            (vec![Action::Close], "t \"http://"),
            (vec![Action::Hang], ""),
            (
                vec![Action::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n[".to_vec()), Action::Close],
                "read body",
            ),
            (
                vec![
                    Action::Send(
                        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 80000000\r\n\r\n"
                            .to_vec(),
                    ),
                    Action::Repeat(vec![b' '; 1 << 20], 80),
                ],
                "limit of 67108864 bytes",
            ),
        ]
    }

    /// Ways in which a server of XML fails.
    pub(crate) fn bad_xml_answers() -> Vec<(Vec<Action>, &'static str)> {
        let mut bad = Self::bad_answers();
        // These two are bad JSON.
        bad.drain(2..4);
        let xml = |body: &str| vec![answer("200 OK", "Content-Type: text/xml\r\n", body.as_bytes())];
        bad.extend([(xml("<R>"), ""), (xml("no xml"), "")]);
        bad
    }

    /// Each of `bad` leaves the target that `good` names, says what is wrong, and is forgotten after a good answer.
    pub(crate) async fn check_keeps(
        mut self,
        host: &str,
        good: impl Fn(&str) -> Vec<Action> + Send + Sync + Clone + 'static,
        bad: Vec<(Vec<Action>, &'static str)>,
        target: &str,
        interval: u64,
    ) {
        self.network.serve(host, good.clone());
        self.secs(1).await;
        for (answer, said) in bad {
            let slow = matches!(answer.last(), Some(Action::Hang));
            let answer = std::sync::Mutex::new(Some(answer));
            self.network.serve(host, move |_| answer.lock().unwrap().take().unwrap_or_else(|| vec![Action::Close]));
            self.secs(if slow { interval * 3 + 60 } else { interval }).await;
            let got = self.shown();
            assert!(got.len() == 1 && got[0].starts_with(target), "{said}: {got:?}");
            let errors = self.job.errors();
            assert!(errors.len() == 1 && (slow || errors[0].contains(said)), "{said}: {errors:?}");
            self.network.serve(host, good.clone());
            self.secs(interval).await;
            assert_eq!((self.job.errors(), self.shown().len()), (Vec::new(), 1), "{said}");
        }
        let failures = self.providers.families().remove(0);
        assert!(failures.samples[0].2 >= 8.0, "{failures:?}");
    }
}
