//! The objects of one kind, kept up to date by one list and one watch for all jobs that want the same.
//!
//! A watch that ends is continued from the last version seen; one whose version is too old begins with a new list,
//! which replaces everything at once. While the API server does not answer, the objects stay as they were.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use promontory_config::http_client::HttpClientConfig;
use tokio::task::AbortHandle;

use super::cluster::Cluster;
use super::object::{Event, List, Object};
use crate::client::{Arriving, Call, Client, JobClient, Url};
use crate::discovery::api::{Api, job_client, parse};
use crate::discovery::error::SdError;
use crate::discovery::provider::Surroundings;

/// Objects of one page of a list.
const PAGE: &str = "500";
/// Pages of one list.
const PAGES_MAX: usize = 2_000;
/// Bytes of one event; an object has 1.5 MB at most.
const EVENT_BYTES_MAX: usize = 16 << 20;
/// How long the server is asked to keep a watch open, and how long nothing may arrive before it is taken for dead.
const WATCH_SECS: u64 = 300;
const SILENCE_MAX: Duration = Duration::from_secs(WATCH_SECS + 60);
/// Time for the head of an answer.
const HEAD_TIME_MAX: Duration = Duration::from_secs(30);
/// Pause after a failure: doubled each time, up to the last.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// What is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct What {
    pub(super) base: Url,
    pub(super) http: HttpClientConfig,
    /// Path of the collection.
    pub(super) path: String,
    pub(super) label_selector: String,
    pub(super) field_selector: String,
    /// Name of the kind in metrics.
    pub(super) role: &'static str,
}

impl What {
    pub(super) fn new(cluster: &Cluster, path: String, role: &'static str, selectors: (String, String)) -> Self {
        let (label_selector, field_selector) = selectors;
        Self { base: cluster.base.clone(), http: cluster.http.clone(), path, label_selector, field_selector, role }
    }

    fn call(&self, own: &[(&str, &str)]) -> Call {
        let mut params = own.to_vec();
        let selectors = [("labelSelector", &self.label_selector), ("fieldSelector", &self.field_selector)];
        params.extend(selectors.into_iter().filter(|(_, s)| !s.is_empty()).map(|(n, s)| (n, s.as_str())));
        Call::get(self.base.with(&self.path, &params))
    }
}

/// The watches of all jobs.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    /// Protects the list only; those that no job uses any more are gone.
    running: Mutex<Vec<Weak<Watch>>>,
}

impl Watches {
    /// The watch of `what`, started unless it runs.
    pub(super) fn get(&self, what: &What, surroundings: &Surroundings) -> Arc<Watch> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|known| known.strong_count() > 0);
        if let Some(known) = running.iter().filter_map(Weak::upgrade).find(|known| known.what == *what) {
            return known;
        }
        let (changed, _) = tokio::sync::watch::channel(0);
        let state = Arc::new(Store { state: Mutex::default(), changed });
        let task = tokio::spawn(follow(what.clone(), state.clone(), surroundings.clone())).abort_handle();
        let watch = Arc::new(Watch { what: what.clone(), store: state, task });
        running.push(Arc::downgrade(&watch));
        watch
    }
}

/// A running watch; it ends with its last user.
#[derive(Debug)]
pub(super) struct Watch {
    what: What,
    store: Arc<Store>,
    task: AbortHandle,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Objects by key.
pub(super) type Objects = BTreeMap<String, Arc<Object>>;

#[derive(Debug)]
struct Store {
    state: Mutex<State>,
    changed: tokio::sync::watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    objects: Objects,
    is_complete: bool,
    error: Option<String>,
}

impl Watch {
    /// Tells each change of what [`Watch::objects`] answers.
    pub(super) fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.store.changed.subscribe()
    }

    /// All objects, once they have been listed; else, or besides, why not.
    pub(super) fn objects(&self) -> (Option<Objects>, Option<String>) {
        let state = self.store.lock();
        (state.is_complete.then(|| state.objects.clone()), state.error.clone())
    }
}

impl Store {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.send_modify(|version| *version += 1);
    }
}

/// Lists and watches for ever.
async fn follow(what: What, store: Arc<Store>, surroundings: Surroundings) {
    let mut api = Api::new(&what.http, &surroundings);
    let watching = job_client(&what.http, &surroundings, false);
    let mut version: Option<String> = None;
    let mut pause = PAUSE_FIRST;
    let count = |event: &str, n: usize| {
        let labels = vec![("role", what.role.to_owned()), ("event", event.to_owned())];
        surroundings.metrics.count("prometheus_sd_kubernetes_events_total", labels, n as u64);
    };
    loop {
        let done = match &version {
            None => list(&what, &mut api).await.map(|(objects, at)| {
                count("add", objects.len());
                store.change(|state| *state = State { objects, is_complete: true, error: None });
                version = Some(at);
            }),
            Some(from) => {
                let mut at = from.clone();
                let end = watch(&what, &watching, &mut at, &store, &count).await;
                version = Some(at);
                end
            }
        };
        match done {
            Ok(()) => pause = PAUSE_FIRST,
            Err(Lost::Version) => version = None,
            Err(Lost::Failed(error)) => {
                surroundings.metrics.count("prometheus_sd_kubernetes_failures_total", Vec::new(), 1);
                store.change(|state| state.error = Some(error.to_string()));
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}

/// Why listing or watching ended.
enum Lost {
    /// The version is too old, or the next page of a list is gone.
    Version,
    Failed(SdError),
}

impl<E: Into<SdError>> From<E> for Lost {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

async fn list(what: &What, api: &mut Api) -> Result<(Objects, String), Lost> {
    let mut objects = Objects::new();
    let mut next = String::new();
    for _ in 0..PAGES_MAX {
        let mut params = vec![("limit", PAGE)];
        if !next.is_empty() {
            params.push(("continue", next.as_str()));
        }
        let call = what.call(&params);
        let answer = api.send_any(&call).await?;
        if answer.status.as_u16() == 410 {
            return Err(if next.is_empty() {
                crate::discovery::api::refused(call.url, &answer).into()
            } else {
                Lost::Version
            });
        }
        if !answer.status.is_success() {
            return Err(crate::discovery::api::refused(call.url, &answer).into());
        }
        let page: List = parse(&call.url, &answer.body)?;
        if page.metadata.resource_version.is_empty() {
            return Err(SdError::Absent { url: call.url, what: "resourceVersion" }.into());
        }
        objects.extend(page.items.into_iter().map(|object| (object.metadata.key(), Arc::new(object))));
        next = page.metadata.next;
        if next.is_empty() {
            return Ok((objects, page.metadata.resource_version));
        }
    }
    Err(SdError::Pages { url: what.call(&[]).url, max: PAGES_MAX }.into())
}

/// Follows changes after `version` until the server ends the watch.
async fn watch(
    what: &What,
    client: &JobClient,
    version: &mut String,
    store: &Store,
    count: &impl Fn(&str, usize),
) -> Result<(), Lost> {
    let seconds = WATCH_SECS.to_string();
    let call = what.call(&[
        ("watch", "true"),
        ("allowWatchBookmarks", "true"),
        ("resourceVersion", version),
        ("timeoutSeconds", &seconds),
    ]);
    let mut arriving = Client::open(client, &call, HEAD_TIME_MAX).await?;
    match arriving.status().as_u16() {
        200 => {}
        410 => return Err(Lost::Version),
        status => {
            return Err(SdError::Status { url: call.url, status: status.to_string(), body: String::new() }.into());
        }
    }
    if store.lock().error.is_some() {
        store.change(|state| state.error = None);
    }
    let mut buffer = Vec::new();
    while let Some(line) = next_line(&mut arriving, &mut buffer, &call.url).await? {
        let Event { kind, object } = parse(&call.url, &line)?;
        if !object.metadata.resource_version.is_empty() {
            object.metadata.resource_version.clone_into(version);
        }
        let key = object.metadata.key();
        match kind.as_str() {
            "ADDED" | "MODIFIED" => {
                count(if kind == "ADDED" { "add" } else { "update" }, 1);
                store.change(|state| drop(state.objects.insert(key, Arc::new(object))));
            }
            "DELETED" => {
                count("delete", 1);
                store.change(|state| drop(state.objects.remove(&key)));
            }
            "BOOKMARK" => {}
            "ERROR" if object.code == 410 => return Err(Lost::Version),
            "ERROR" => return Err(SdError::Garbled { url: call.url, what: object.message }.into()),
            other => {
                return Err(SdError::Garbled { url: call.url, what: format!("unknown event {other:?}") }.into());
            }
        }
    }
    Ok(())
}

/// The next line; `None` when the server has ended the watch.
async fn next_line(arriving: &mut Arriving, buffer: &mut Vec<u8>, url: &Url) -> Result<Option<Vec<u8>>, SdError> {
    let mut searched = 0;
    loop {
        if let Some(at) = memchr::memchr(b'\n', &buffer[searched..]) {
            let rest = buffer.split_off(searched + at + 1);
            return Ok(Some(std::mem::replace(buffer, rest)));
        }
        searched = buffer.len();
        if searched > EVENT_BYTES_MAX {
            let what = format!("an event of more than {EVENT_BYTES_MAX} bytes");
            return Err(SdError::Garbled { url: url.clone(), what });
        }
        let piece = tokio::time::timeout(SILENCE_MAX, arriving.piece()).await;
        match piece.map_err(|_| SdError::Slow { allowed: SILENCE_MAX })?? {
            Some(piece) => buffer.extend_from_slice(&piece),
            None => return Ok(None),
        }
    }
}
