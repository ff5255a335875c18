//! The always-on ECHO peer: documents, and the automerge-repo wire.
//!
//! # What it does
//! It is a peer for [automerge-repo](https://automerge.org/docs/repositories/) clients, of versions 1 and 2, that is always
//! there: it keeps every document that a client syncs, brings clients that are never online together up to date, and
//! passes ephemeral messages on between those that are.
//!
//! # What it promises
//! - *The acknowledgement rule*: what a client is told that we have is on disk, flushed. A failed write is never taken for a
//!   success: the client that wrote is told and closed, and sends its changes again when it comes back.
//! - *The poison rule*: nothing foreign reaches `automerge` before the reader and the gate have checked it. A change joins
//!   a snapshot only when that was loaded again and is the same; what cannot be joined is set aside, with all that builds
//!   on it, and the rest is served.
//! - *The bound rule*: every queue, frame, list and cache has a bound, and a slow or hostile peer slows only itself.
//! - *The space rule*: a connection sees the documents of one space, and what is elsewhere is answered like what is nowhere.
//!   What it may do is asked when it joins and again whenever the answer may be another: a token that is revoked or expires
//!   ends its connections at once.
//! - *The tombstone rule*: what is deleted stays deleted, whoever still has it: requests are answered as for a document that
//!   nobody has, and what is offered is not taken, without an error that would cost a client its whole connection. Other KUBEs
//!   that are trusted delete it too, and bring it back when it is brought back here.
//! - *The quota rule*: what is over the quota of a space, a token or an address is not taken; its sender is told which quota it
//!   is, and is asked for it again once there is room. Everything else goes on.
//! - Memory follows the documents that are active, not those that are stored; of an active document it is what came since
//!   the last snapshot, not its history.
//!
//! # How it works
//! ```text
//!   upgrade --> socket --decode--> wire --> reader --> actor of the document <--> replica (gate, tail, peers)
//!  (origin)   (1 a peer)                              |        |      ^
//!                 ^                                   |        v      | flushed
//!                 +------- outbox <-- sync, relay ----+      writer --+--> store (SQLite)
//!                                                    (one thread, one flush for all)
//! ```
//! Each document that is in use has one actor with a bounded mailbox, which alone touches it, and is a task only while there
//! is something to do. It takes the messages that wait together, stores what is new with one write, and only then answers.
//! What it says is written at once, as long as nothing else waits in the outbox and the socket takes it; the rest is left to the
//! task of the connection. A message that says only that a peer has what it was sent is noted without a turn.
//!
//! A stored document is a *sealed* snapshot and a *tail* of changes. Changes on top of the tail are judged, stored, and passed
//! on from the graph of the tail alone, and a peer that lacks some of the snapshot gets the stored bytes. `automerge` is
//! asked only to join the tail into a snapshot, for document chunks from clients, for changes that build on what is long
//! sealed, and for old clients that understand no document chunks.
//!
//! Another KUBE is a peer like any, at whichever end of the connection; but it is *offered* all that is stored, so that
//! both hold the same documents.
//!
//! # What a person can set
//! Who is let in, from which web pages, and limits: see [`Config`].
//!
//! # What it deliberately does not do
//! - It asks no client for a document that the client did not announce itself: whoever knows a document's id may have the
//!   document, so ids are not told around. They are told to the KUBEs that the config names, and to those with a token for it.
//! - It knows no token and no app: what a token allows it asks its [`Gatekeeper`], and which pages sync without one it is
//!   told. The EDGE wire is not in this version.
mod actor;
mod address;
mod admission;
mod chain;
mod compaction;
mod config;
mod content;
mod counted;
mod delivery;
mod documents;
mod ephemeral;
mod error;
mod follow;
pub mod gate;
mod gossip;
mod handle;
mod heavy;
mod history;
mod hub;
mod intake;
mod line;
mod metrics;
mod mirror;
mod origin;
mod outbox;
mod peer;
mod ports;
mod quota;
mod rate;
pub mod reader;
mod reading;
mod refused;
mod replica;
mod restore;
pub mod sealed;
mod sift;
mod socket;
pub mod store;
pub mod tail;
mod throttle;
mod upgrade;
mod upkeep;
mod verify;
pub mod wire;

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    sync::{Arc, PoisonError, RwLock},
};

use axum::{Router, routing::get};
use kube_contract::{Commit, Context, Module};
use prometheus::Registry;
use tokio::sync::{Semaphore, watch};

use crate::{
    hub::Hub,
    metrics::Metrics,
    quota::Tallies,
    store::{Disk, Purpose, Store, Workers, Writer},
    throttle::Throttle,
};

pub use address::{Address, NotAnAddress};
pub use config::{Access, Config, Mirror};
pub use error::Error;
pub use handle::{Handle, Imported, PAGE, Status, Unanswered};
pub use history::{Entry, History, NoPoint, Point};
pub use mirror::PeerStatus;
pub use origin::{NotAnOrigin, Origin};
pub use ports::{Denied, Gatekeeper, Grant, TokenHash};
pub use rate::Rate;
pub use verify::Findings;

/// The peer.
pub struct Echo {
    shared: Arc<Shared>,
    /// Held by the threads that use the store: those of a fallen run end before the next begins.
    lease: Arc<Semaphore>,
}

/// What the router and the runs share.
struct Shared {
    config: watch::Sender<Arc<Config>>,
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
    refusals: Arc<Throttle>,
    gatekeeper: Arc<dyn Gatekeeper>,
    /// The hub of the run that is on.
    hub: RwLock<Option<Arc<Hub>>>,
}

impl Shared {
    fn hub(&self) -> Option<Arc<Hub>> {
        self.hub.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_hub(&self, hub: Option<Arc<Hub>>) {
        *self.hub.write().unwrap_or_else(PoisonError::into_inner) = hub;
    }
}

impl Echo {
    /// Opens the database in `config.data`, and makes it if there is none.
    ///
    /// # Errors
    /// The folder or the database cannot be opened, its format is not known, or a limit is too small to work with.
    pub fn bind(config: &Config, gatekeeper: Arc<dyn Gatekeeper>, registry: &Registry) -> Result<Self, Error> {
        check(config)?;
        let folder = || fs::DirBuilder::new().recursive(true).mode(0o700).create(&config.data);
        folder().map_err(|source: io::Error| Error::Folder { path: config.data.clone(), source })?;
        let cache = usize::try_from(config.cache.as_u64()).unwrap_or(usize::MAX);
        let store = Disk::open(&config.data, cache)?;
        Self::with_store(config, Arc::new(store), gatekeeper, registry)
    }

    /// A peer over a store that is open already.
    ///
    /// # Errors
    /// A limit is too small to work with, or a metric's name is taken.
    pub fn with_store(
        config: &Config,
        store: Arc<dyn Store>,
        gatekeeper: Arc<dyn Gatekeeper>,
        registry: &Registry,
    ) -> Result<Self, Error> {
        check(config)?;
        let shared = Shared {
            config: watch::Sender::new(Arc::new(config.clone())),
            store,
            metrics: Arc::new(Metrics::register(registry)?),
            refusals: Arc::default(),
            gatekeeper,
            hub: RwLock::new(None),
        };
        Ok(Self { shared: Arc::new(shared), lease: Arc::new(Semaphore::new(1)) })
    }

    /// The way to ask for documents, and to have something done with them.
    pub fn handle(&self) -> Handle {
        Handle::new(Arc::clone(&self.shared))
    }

    /// The WebSocket endpoint, at `/`.
    ///
    /// It answers as long as the module runs, and with status 503 otherwise. Whoever mounts it may add
    /// [`ConnectInfo<SocketAddr>`](axum::extract::ConnectInfo) to the extensions of a request; without, connections are not
    /// counted by address.
    pub fn router(&self) -> Router {
        Router::new().route("/", get(upgrade::upgrade)).with_state(Arc::clone(&self.shared))
    }
}

impl Module for Echo {
    type Config = Config;
    type Error = Error;

    const NAME: &'static str = "echo";

    async fn run(&self, cx: Context) -> Result<(), Error> {
        let lease = Arc::new(Arc::clone(&self.lease).acquire_owned().await.expect("the lease is never closed"));
        let shared = &self.shared;
        let (health, mut healthy) = watch::channel(Ok(()));
        let (store, metrics) = (Arc::clone(&shared.store), Arc::clone(&shared.metrics));
        let start = |purpose| Workers::start(purpose, &store, &lease).map_err(Error::Thread);
        let (readers, tidiers) = (start(Purpose::Serve)?, start(Purpose::Tidy)?);
        let writer = Writer::start(store, metrics, health, lease).map_err(Error::Thread)?;
        let added = readers.run(|store| store.added()).await?;
        let (hub, compactions) = Hub::new(cx.clone(), shared, readers, tidiers, writer, Tallies::new(added));
        cx.spawn(compaction::run(Arc::clone(&hub), compactions));
        cx.spawn(mirror::run(Arc::clone(&hub)));
        cx.spawn(upkeep::run(Arc::clone(&hub)));
        cx.spawn(documents::unload(Arc::clone(&hub)));
        shared.set_hub(Some(Arc::clone(&hub)));
        // However this ends, nobody finds a hub whose tasks are gone.
        let open = Open { shared, hub };
        loop {
            let state: store::Health = healthy.borrow_and_update().clone();
            match state {
                Ok(()) => cx.ready(),
                Err(error) => cx.degraded(format!("new changes are refused: {error}")),
            }
            tokio::select! {
                () = cx.stopped() => break,
                Ok(()) = healthy.changed() => {}
            }
        }
        drop(open);
        // Free when the last task is done and the last commit is on disk.
        drop(self.lease.acquire().await);
        Ok(())
    }

    fn prepare(&self, new: &Config) -> Result<Commit<'_>, Error> {
        check(new)?;
        if new.cache != self.shared.config.borrow().cache {
            return Err(Error::Restart("cache"));
        }
        let new = Arc::new(new.clone());
        Ok(Commit::new(move || {
            self.shared.config.send_replace(new);
        }))
    }
}

struct Open<'a> {
    shared: &'a Shared,
    hub: Arc<Hub>,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.shared.set_hub(None);
        self.hub.documents.close();
    }
}

/// Refuses limits that nothing could work with.
fn check(config: &Config) -> Result<(), Error> {
    let too_small = |option, value: String, least| Err(Error::TooSmall { option, value, least });
    if config.max_message.as_u64() < 64 << 10 {
        return too_small("max_message", config.max_message.to_string(), "64KiB");
    }
    for (option, value) in [("keep_alive", config.keep_alive), ("write_timeout", config.write_timeout)] {
        if value.as_millis() < 10 {
            return too_small(option, format!("{value:?}"), "10ms");
        }
    }
    for (option, rate) in
        [("token_rate", config.token_rate), ("address_rate", config.address_rate), ("space_rate", config.space_rate)]
    {
        if rate.messages == 0 || rate.bytes.as_u64() < 1 << 10 {
            return too_small(
                option,
                format!("{} messages and {}", rate.messages, rate.bytes),
                "1 message and 1KiB a second",
            );
        }
    }
    for (option, value) in [
        ("connections", config.connections),
        ("connections_per_address", config.connections_per_address),
        ("documents_per_connection", config.documents_per_connection),
    ] {
        if value == 0 {
            return too_small(option, value.to_string(), "1");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
