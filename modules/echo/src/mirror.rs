//! Keeps connections to the other KUBEs that the config names.
//!
//! *The away rule*: another KUBE that cannot be reached is nothing wrong here. It is tried again, ever more rarely, and a line
//! in the log and the metrics say so.
mod dial;

use std::{
    collections::{BTreeMap, hash_map::RandomState},
    future::pending,
    hash::BuildHasher,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::{Duration, SystemTime},
};

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Mirror,
    hub::Hub,
    outbox::Close,
    socket::{self, Ended, Kube, Link, Side},
};

/// How long after a connection ends the next is tried; twice as long after each that fails.
const FIRST: Duration = Duration::from_millis(500);
/// The longest time between two.
const LONGEST: Duration = Duration::from_secs(30);
/// A connection that lasted so long did not fail.
const LASTING: Duration = Duration::from_secs(5);
/// Most characters of an error that are shown.
const LONGEST_ERROR: usize = 300;
/// How long it may take to connect.
const CONNECT: Duration = Duration::from_secs(20);

/// Connects to those whom the config names, until the module stops.
pub(crate) async fn run(hub: Arc<Hub>) {
    let mut config = hub.config.clone();
    let mut kept = BTreeMap::new();
    loop {
        let peers = config.borrow_and_update().peers.clone();
        kept.retain(|name, (mirror, _)| peers.get(name) == Some(mirror));
        for (name, mirror) in peers {
            kept.entry(name).or_insert_with_key(|name| {
                let (hub, name) = (Arc::clone(&hub), name.as_str().into());
                let kept = Kept { hub, name, mirror: mirror.clone(), end: <_>::default() };
                let end = kept.end.clone().drop_guard();
                kept.hub.cx.clone().spawn(kept.run());
                (mirror, end)
            });
        }
        tokio::select! {
            () = hub.cx.stopped() => return,
            changed = config.changed() => if changed.is_err() { return },
        }
    }
}

/// How another KUBE is that the config names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Its name in the config.
    pub name: String,
    /// Where it syncs.
    pub url: String,
    /// The space here.
    pub space: String,
    /// Since when it is connected, whoever began the connection; none while it is away.
    pub since: Option<SystemTime>,
    /// What went wrong last: why it is away, or what it refused since it is connected.
    pub error: Option<String>,
    /// Documents that it is not known to have, as far as they were looked up; 0 while it is away.
    pub behind: u64,
}

/// How each other KUBE that the config names is now, by name.
pub(crate) fn peers(hub: &Hub) -> Vec<PeerStatus> {
    let (seen, mirrors) = (lock(&hub.seen.0).clone(), hub.mirrors.borrow().clone());
    let status = |(name, mirror): (&String, &Mirror)| {
        let seen = seen.get(&**name).cloned().unwrap_or_default();
        let is_it = |kube: &&Kube| {
            let is_known = *kube.space == *mirror.space && Some(&kube.storage_id) == seen.storage_id.as_ref();
            kube.name.as_ref().map_or(is_known, |kube| **kube == **name)
        };
        let kube = mirrors.iter().filter_map(|link| link.kube.as_ref()).find(is_it);
        PeerStatus {
            name: name.clone(),
            url: mirror.url.to_string(),
            space: mirror.space.clone(),
            since: kube.map(|kube| kube.since),
            error: seen.error.filter(|(at, _)| kube.is_none_or(|kube| *at >= kube.since)).map(|(_, error)| error),
            behind: kube.map_or(0, |kube| kube.behind.load(Ordering::Relaxed)),
        }
    };
    hub.config().peers.iter().map(status).collect()
}

/// What was seen of the other KUBEs, by their names in the config.
#[derive(Default)]
pub(crate) struct Seen(Mutex<BTreeMap<Arc<str>, Last>>);

/// What was seen of one the last time.
#[derive(Clone, Default)]
struct Last {
    /// Which store it was.
    storage_id: Option<Arc<str>>,
    /// What went wrong, and when.
    error: Option<(SystemTime, String)>,
}

impl Seen {
    /// Something went wrong with it, in words that may be its own.
    pub(crate) fn say(&self, name: &Arc<str>, error: &str) {
        let error = error.chars().filter(|char| !char.is_control()).take(LONGEST_ERROR).collect();
        lock(&self.0).entry(Arc::clone(name)).or_default().error = Some((SystemTime::now(), error));
    }

    /// A connection to it ended.
    fn ended(&self, name: &Arc<str>, storage_id: &Arc<str>, why: &str) {
        self.say(name, why);
        lock(&self.0).entry(Arc::clone(name)).or_default().storage_id = Some(Arc::clone(storage_id));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One other KUBE.
struct Kept {
    hub: Arc<Hub>,
    name: Arc<str>,
    mirror: Mirror,
    /// Cancelled when the config names it no more.
    end: CancellationToken,
}

impl Kept {
    async fn run(self) {
        let mut wait = FIRST;
        // Which store it was, the last time.
        let mut storage_id: Option<Arc<str>> = None;
        let mut was_away = false;
        loop {
            let began = Instant::now();
            let ended = tokio::select! {
                ended = self.connect(storage_id.as_ref()) => ended,
                () = self.over() => return,
            };
            let name = &self.name;
            match &ended {
                Ok(Ended { kube: Some(kube), why }) => {
                    storage_id = Some(Arc::clone(&kube.storage_id));
                    let why = why.as_deref().unwrap_or("it is gone");
                    self.hub.seen.ended(name, &kube.storage_id, why);
                    tracing::info!(peer = &**name, "the connection to another KUBE has ended: {why}");
                    was_away = false;
                }
                Ok(Ended { kube: None, why }) => {
                    let why = why.as_deref().unwrap_or("it closed the connection");
                    self.away(&mut was_away, why);
                }
                Err(error) => self.away(&mut was_away, &error.to_string()),
            }
            if ended.is_ok_and(|ended| ended.kube.is_some()) && began.elapsed() >= LASTING {
                wait = FIRST;
            }
            tokio::select! {
                () = sleep(spread(wait)) => {}
                () = self.over() => return,
            }
            wait = (wait * 2).min(LONGEST);
        }
    }

    async fn over(&self) {
        tokio::select! {
            () = self.end.cancelled() => {}
            () = self.hub.cx.stopped() => {}
        }
    }

    /// Says so once each time that it goes.
    fn away(&self, was_away: &mut bool, why: &str) {
        self.hub.metrics.peer_connects.with_label_values(&["failed"]).inc();
        self.hub.seen.say(&self.name, why);
        let (name, url) = (&self.name, &self.mirror.url);
        if *was_away {
            tracing::debug!(peer = &**name, "another KUBE at {url} is still away: {why}");
        } else {
            tracing::warn!(peer = &**name, "another KUBE at {url} is away, and is tried again: {why}");
        }
        *was_away = true;
    }

    /// Connects, and serves the connection until it ends.
    async fn connect(&self, storage_id: Option<&Arc<str>>) -> Result<Ended, dial::Error> {
        if let Some(storage_id) = storage_id {
            self.mirrors(|mirrors| !self.is_spare(mirrors, storage_id)).await;
        }
        let config = self.hub.config();
        let socket = timeout(CONNECT, dial::dial(&self.mirror, &config)).await.map_err(|_| dial::Error::Slow)??;
        self.hub.metrics.peer_connects.with_label_values(&["connected"]).inc();
        tracing::info!(peer = &*self.name, "connected to another KUBE at {}", self.mirror.url);
        let outbox = socket::outbox(&config);
        let is_spare = |mirrors: &[Arc<Link>]| {
            let ours = mirrors.iter().find(|link| Arc::ptr_eq(&link.outbox, &outbox));
            let kube = ours.and_then(|link| link.kube.as_ref());
            kube.is_some_and(|kube| self.is_spare(mirrors, &kube.storage_id))
        };
        let ending = async {
            tokio::select! {
                () = self.over() => {}
                () = self.mirrors(is_spare) => {}
            }
            outbox.close(Close::Left);
            pending().await
        };
        let side = Side::Joining { name: Arc::clone(&self.name), space: self.mirror.space.as_str().into() };
        tokio::select! {
            ended = socket::serve(Arc::clone(&self.hub), socket, side, Arc::clone(&outbox)) => Ok(ended),
            ended = ending => Ok(ended),
        }
    }

    /// Waits until the KUBEs that are connected are such.
    async fn mirrors(&self, are_such: impl Fn(&[Arc<Link>]) -> bool) {
        // The hub has the sender: it cannot be gone.
        drop(self.hub.mirrors.subscribe().wait_for(|mirrors| are_such(mirrors)).await);
    }

    /// Whether a store needs no connection from here, because it began one itself. When both name each other, the one that
    /// the lesser id began stays.
    fn is_spare(&self, mirrors: &[Arc<Link>], storage_id: &str) -> bool {
        let is_theirs =
            |kube: &Kube| kube.name.is_none() && *kube.storage_id == *storage_id && *kube.space == *self.mirror.space;
        storage_id < self.hub.store.storage_id() && mirrors.iter().filter_map(|link| link.kube.as_ref()).any(is_theirs)
    }
}

/// Between half of a time and all of it, so that many do not come at once.
fn spread(wait: Duration) -> Duration {
    let random = RandomState::new().hash_one(()) % 1024;
    wait / 2 + wait.mul_f64(random as f64 / 2048.0)
}
