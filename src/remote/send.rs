//! The sending end of remote write: a task per destination that reads the log and sends what it says.
//!
//! The log is the queue. A task reads as much as fills the requests that may be under way at once, sends them, waits until
//! each was taken or refused for good, remembers how far it came, and goes on; samples of one series go in one request or
//! in requests one after the other, so they arrive in order. A destination that is slow or gone costs no memory: its place
//! in the log stays where it is, and once the log is too long for it, its samples are read from the store by their times.
//! What was sent in the last round before a kill may be sent again; nothing is left out.

mod connect;
mod deliver;
mod message;
mod position;
mod queue;
mod stats;

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use promontory_config::RemoteWriteConfig;
use promontory_config::remote::WriteMessage;
use promontory_model::{Labels, MetricMetadata};
use promontory_storage::Db;
use promontory_storage::clock::Clock;
use promontory_storage::vfs::{Vfs, VfsError};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::client::{Call, Client, JobClient, Offer, TcpConnector, Url};
use crate::credentials::{Authorizer, Reach};
use crate::telemetry::Figures;
use deliver::{Destination, Stopped, duration, stopped};
use message::{Counts, Families, Item, Point};
use position::PositionFile;
use queue::{Gathered, Queue};
use stats::{Named, Stats};

/// A request of remote write that brings `samples`, times in ms, and says what `families` mean, which only version 2 can.
pub(crate) fn write_call(
    url: Url,
    message: WriteMessage,
    samples: &[(Labels, i64, f64)],
    families: &BTreeMap<String, Vec<MetricMetadata>>,
) -> Call {
    let item = |(labels, t, v): &(Labels, i64, f64)| Item { labels: labels.clone(), t: *t, point: Point::Float(*v) };
    let items: Vec<Item> = samples.iter().map(item).collect();
    deliver::call(url, message::request(message, &items, families).into(), message)
}

/// Folder of what is remembered, inside the data folder.
const DIR: &str = "remote_write";
/// Bytes of an answer to a request.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// Longest time between two looks at the log.
const POLL_MAX: Duration = Duration::from_millis(500);
/// Time after which reading is tried again when it failed.
const READ_AGAIN: Duration = Duration::from_secs(5);

/// What senders are made of.
pub struct SendParts {
    /// Whose samples are sent.
    pub db: Db,
    /// Tells the age of samples and how long something took.
    pub clock: Arc<dyn Clock>,
    /// Where is remembered how far each destination came.
    pub vfs: Arc<dyn Vfs>,
    /// The data folder.
    pub data_dir: PathBuf,
}

/// All destinations of the configuration.
pub struct Senders {
    parts: SendParts,
    dir: PathBuf,
    running: Mutex<BTreeMap<String, Running>>,
}

struct Running {
    config: Arc<RemoteWriteConfig>,
    external: Labels,
    stats: Arc<Stats>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Senders {
    /// No destination yet.
    #[must_use]
    pub fn new(parts: SendParts) -> Self {
        let dir = parts.data_dir.join(DIR);
        Self { parts, dir, running: Mutex::default() }
    }

    /// Takes over the destinations of a configuration; those that did not change go on undisturbed. Called inside the
    /// runtime; the first time before maintenance of the database begins, which would remove what they need of the log.
    pub fn apply(&self, configs: &[RemoteWriteConfig], external: &Labels) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = keyed(configs);
        if wanted.is_empty() && running.is_empty() && self.parts.vfs.read_dir(&self.dir).is_err() {
            return;
        }
        if let Err(error) = self.parts.vfs.create_dir_all(&self.dir) {
            tracing::error!(%error, "remote write cannot remember how far it came");
        }
        let gone: Vec<String> = running.keys().filter(|key| !wanted.contains_key(*key)).cloned().collect();
        for key in gone {
            if let Some(old) = running.remove(&key) {
                let _ = old.stop.send(true);
                self.parts.db.forget_feed(&key);
            }
        }
        for (key, config) in &wanted {
            let same = |r: &Running| *r.config == **config && r.external == *external && !r.task.is_finished();
            if running.get(key).is_some_and(same) {
                continue;
            }
            let before = running.remove(key);
            match self.start(key, (*config).clone(), external, before) {
                Ok(started) => drop(running.insert(key.clone(), started)),
                Err(error) => tracing::error!(destination = %key, %error, "remote write cannot begin"),
            }
        }
        self.remove_leftovers(wanted.keys());
    }

    fn start(
        &self,
        key: &str,
        config: RemoteWriteConfig,
        external: &Labels,
        before: Option<Running>,
    ) -> Result<Running, StartError> {
        let SendParts { db, clock, vfs, .. } = &self.parts;
        let config = Arc::new(config);
        let stats = before.as_ref().map_or_else(Arc::default, |before| before.stats.clone());
        let (stop, stopping) = watch::channel(false);
        let offer = Offer { accept: "*/*".to_owned(), gzip: false, body_bytes_max: Some(ANSWER_BYTES_MAX) };
        let destination = Destination {
            key: key.to_owned(),
            config: config.clone(),
            url: Url::parse(&config.url)?,
            job: JobClient::new(config.http.clone(), offer, connect::connector(config.round_robin_dns)),
            authorizer: config.cloud.as_ref().map(|cloud| {
                let connector = Arc::new(TcpConnector);
                Authorizer::new(cloud, &Reach { connector, clock: clock.clone(), scheme: "https" })
            }),
            clock: clock.clone(),
            stats: stats.clone(),
            stop: stopping,
        };
        let file = PositionFile::new(vfs.clone(), &self.dir, key);
        let (db, clock, stats_of_queue) = (db.clone(), clock.clone(), stats.clone());
        let (config_of_queue, external_of_queue, key) = (config.clone(), external.clone(), key.to_owned());
        let open = move || Queue::open(db, clock, config_of_queue, external_of_queue, key, file, stats_of_queue);
        let task = match before {
            None => {
                let queue = open()?;
                tokio::spawn(run(destination, queue))
            }
            Some(before) => {
                let _ = before.stop.send(true);
                tokio::spawn(async move {
                    let _ = before.task.await;
                    match tokio::task::spawn_blocking(open).await {
                        Ok(Ok(queue)) => run(destination, queue).await,
                        Ok(Err(error)) => {
                            tracing::error!(destination = %destination.key, %error, "remote write cannot go on");
                        }
                        Err(error) => tracing::error!(%error, "remote write cannot go on"),
                    }
                })
            }
        };
        Ok(Running { config, external: external.clone(), stats, stop, task })
    }

    /// Forgets how far destinations came that are not configured any more.
    fn remove_leftovers<'a>(&self, keys: impl Iterator<Item = &'a String>) {
        let kept: Vec<String> = keys.map(|key| position::file_name(key)).collect();
        for entry in self.parts.vfs.read_dir(&self.dir).unwrap_or_default() {
            if Path::new(&entry.name).extension().is_some_and(|e| e == "position")
                && !kept.contains(&entry.name)
                && let Err(error) = self.parts.vfs.remove_file(&self.dir.join(&entry.name))
            {
                tracing::warn!(%error, "what a former destination left is not removed");
            }
        }
    }

    /// Ends all tasks; what is not sent is sent after the next start.
    pub async fn stop(&self) {
        let all = std::mem::take(&mut *self.running.lock().unwrap_or_else(PoisonError::into_inner));
        for running in all.values() {
            let _ = running.stop.send(true);
        }
        for running in all.into_values() {
            let _ = running.task.await;
        }
    }

    /// Numbers of all destinations.
    #[must_use]
    pub fn figures(&self) -> Vec<Figures> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let named: Vec<Named<'_>> = running
            .iter()
            .map(|(key, r)| Named {
                name: key,
                url: &r.config.url,
                stats: &r.stats,
                capacity: r.config.queue.capacity,
                shards_min: r.config.queue.min_shards,
                shards_max: r.config.queue.max_shards,
                max_samples_per_send: r.config.queue.max_samples_per_send,
            })
            .collect();
        stats::figures(&named, self.parts.db.newest_time())
    }
}

/// Why a destination is not begun with.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Url(#[from] crate::client::UrlError),
    #[error(transparent)]
    Vfs(#[from] VfsError),
}

/// What decides by which shard a series goes. Series of one target go together: a receiver then gets its scrapes one
/// after the other, as they came, where series by series all but the first would bring samples that are older than
/// what it has of the target.
fn shard_hash(hasher: &RandomState, labels: &Labels) -> u64 {
    match target_of(labels) {
        (None, None) => hasher.hash_one(labels),
        target => hasher.hash_one(target),
    }
}

/// Job and instance.
fn target_of(labels: &Labels) -> (Option<&str>, Option<&str>) {
    (labels.get("job"), labels.get("instance"))
}

/// Each destination under its name, or its URL and which of several with that it is.
fn keyed(configs: &[RemoteWriteConfig]) -> BTreeMap<String, &RemoteWriteConfig> {
    let mut out = BTreeMap::new();
    for config in configs {
        let base = if config.name.is_empty() { &config.url } else { &config.name };
        let mut key = base.clone();
        for n in 2.. {
            if !out.contains_key(&key) {
                break;
            }
            key = format!("{base}#{n}");
        }
        out.insert(key, config);
    }
    out
}

/// Sends until the server stops.
async fn run(destination: Destination, queue: Queue) {
    let destination = Arc::new(destination);
    let mut task = Task {
        shards: destination.config.queue.min_shards as usize,
        clients: Vec::new(),
        families: Arc::default(),
        families_ns: None,
        first_pending_ns: None,
        hasher: RandomState::new(),
        destination,
    };
    let mut queue = Some(queue);
    let mut stop = task.destination.stop.clone();
    while let Some(mut owned) = queue.take() {
        if *stop.borrow() {
            return;
        }
        let target = task.target();
        let gathered = tokio::task::spawn_blocking(move || {
            let gathered = owned.gather(target);
            (owned, gathered)
        });
        let (mut owned, gathered) = match gathered.await {
            Ok(gathered) => gathered,
            Err(error) => {
                tracing::error!(destination = %task.destination.key, %error, "remote write ended");
                return;
            }
        };
        let wait = match gathered {
            Ok(Gathered::Full) => None,
            Ok(Gathered::All) => Some(task.poll()),
            Err(error) => {
                tracing::warn!(destination = %task.destination.key, %error, "reading for remote write failed");
                Some(READ_AGAIN)
            }
        };
        task.tell_families(&mut owned).await;
        if let Some(wait) = wait
            && !task.is_due(&owned)
        {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stopped(&mut stop) => return,
            }
            queue = Some(owned);
            continue;
        }
        if task.send(&mut owned.pending).await.is_err() {
            return;
        }
        task.first_pending_ns = None;
        let stored = tokio::task::spawn_blocking(move || {
            let stored = owned.sent();
            (owned, stored)
        });
        match stored.await {
            Ok((owned, stored)) => {
                if let Err(error) = stored {
                    tracing::warn!(%error, "how far remote write came is not remembered; samples may be sent twice");
                }
                queue = Some(owned);
            }
            Err(error) => tracing::error!(%error, "remote write ended"),
        }
    }
}

/// One destination at work.
struct Task {
    destination: Arc<Destination>,
    /// Requests that may be under way at once.
    shards: usize,
    clients: Vec<Client>,
    families: Arc<Families>,
    /// When they were last looked up, and sent by version 1.
    families_ns: Option<u64>,
    first_pending_ns: Option<u64>,
    hasher: RandomState,
}

impl Task {
    fn per_request(&self) -> usize {
        usize::try_from(self.destination.config.queue.max_samples_per_send).unwrap_or(usize::MAX)
    }

    /// Items of one round.
    fn target(&self) -> usize {
        self.per_request().saturating_mul(self.shards)
    }

    fn poll(&self) -> Duration {
        (duration(self.destination.config.queue.batch_send_deadline) / 4).min(POLL_MAX)
    }

    /// Whether what is pending is to be sent, or may wait for more.
    fn is_due(&mut self, queue: &Queue) -> bool {
        self.destination.stats.pending(Counts::of(&queue.pending));
        if queue.pending.is_empty() {
            self.first_pending_ns = None;
            return false;
        }
        let now = self.destination.clock.monotonic_ns();
        let first = *self.first_pending_ns.get_or_insert(now);
        let deadline = duration(self.destination.config.queue.batch_send_deadline);
        queue.pending.len() >= self.per_request() || now.saturating_sub(first) >= deadline.as_nanos() as u64
    }

    /// Sends a round: each series by one shard, the requests of a shard one after the other.
    async fn send(&mut self, pending: &mut Vec<Item>) -> Result<(), Stopped> {
        self.destination.stats.pending(Counts::of(pending));
        let is_full = pending.len() >= self.target();
        let mut shards: Vec<Vec<Item>> = (0..self.shards).map(|_| Vec::new()).collect();
        for item in pending.drain(..) {
            let shard = shard_hash(&self.hasher, &item.labels) as usize % shards.len();
            shards[shard].push(item);
        }
        let per_request = self.per_request();
        let mut under_way = JoinSet::new();
        for items in shards.into_iter().filter(|items| !items.is_empty()) {
            let (destination, families) = (self.destination.clone(), self.families.clone());
            let mut client = self.clients.pop().unwrap_or_default();
            under_way.spawn(async move {
                for request in items.chunks(per_request) {
                    destination.deliver(&mut client, request, &families).await?;
                }
                Ok(client)
            });
        }
        let mut result = Ok(());
        while let Some(ended) = under_way.join_next().await {
            match ended {
                Ok(Ok(client)) => self.clients.push(client),
                Ok(Err(Stopped)) => result = Err(Stopped),
                Err(error) => {
                    tracing::error!(destination = %self.destination.key, %error, "a request of remote write ended");
                    result = Err(Stopped);
                }
            }
        }
        self.destination.stats.pending(Counts::default());
        self.adapt(is_full);
        result
    }

    /// More requests at once while there is more than fits; fewer when one would do.
    fn adapt(&mut self, is_full: bool) {
        let queue = &self.destination.config.queue;
        let (min, max) = (queue.min_shards as usize, queue.max_shards as usize);
        let desired = if is_full { self.shards * 2 } else { self.shards / 2 };
        self.shards = desired.clamp(min, max);
        self.clients.truncate(self.shards);
        self.destination.stats.set_shards(self.shards, desired.max(1));
    }

    /// Looks up what is known of metric families, and sends it by version 1, when that is due.
    async fn tell_families(&mut self, queue: &mut Queue) {
        let config = self.destination.config.clone();
        let now = self.destination.clock.monotonic_ns();
        let every = duration(config.metadata.send_interval).as_nanos() as u64;
        if !config.metadata.send || self.families_ns.is_some_and(|before| now.saturating_sub(before) < every) {
            return;
        }
        self.families_ns = Some(now);
        self.families = Arc::new(queue.families());
        if config.message == WriteMessage::Second {
            return;
        }
        let per_request = usize::try_from(config.metadata.max_samples_per_send).unwrap_or(usize::MAX);
        let all: Vec<_> = self.families.iter().flat_map(|(name, all)| all.first().map(|of| (name, of))).collect();
        let mut client = self.clients.pop().unwrap_or_default();
        for part in all.chunks(per_request) {
            let body = message::metadata(part.iter().copied());
            // A destination that is gone must not hold up the samples, which wait for it anyway.
            if self.destination.deliver_metadata(&mut client, body, part.len()).await.is_err() {
                break;
            }
        }
        self.clients.push(client);
    }
}

#[cfg(test)]
mod tests;
